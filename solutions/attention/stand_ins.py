"""What may stand in for a task that a student got wrong, when those that build on it are graded.

These enter the sandbox, so they are made of PyTorch's own operations and show nothing of the reference solution.
"""

import torch
from torch.nn import functional as F


def simple_self_attention(x):
    return F.scaled_dot_product_attention(x, x, x, scale=1.0)


def softmax(x, dim=-1):
    # Where a whole slice is -inf, torch's gives NaN, in the gradients too: let it see zeros there.
    nothing = x.isneginf().all(dim=dim, keepdim=True)
    return torch.softmax(x.masked_fill(nothing, 0.0), dim=dim).masked_fill(nothing, 0.0)


def attention_weights(q, k, mask=None):
    # Attention over unit vectors as values gives the weights themselves.
    unit = torch.eye(k.shape[-2], dtype=k.dtype, device=k.device).expand(*k.shape[:-2], -1, -1)
    if mask is None:
        return F.scaled_dot_product_attention(q, k, unit)
    mask = mask.expand(torch.broadcast_shapes(mask.shape, (q.shape[-2], k.shape[-2])))
    nothing = ~mask.any(dim=-1, keepdim=True)
    return F.scaled_dot_product_attention(q, k, unit, attn_mask=mask | nothing).masked_fill(nothing, 0.0)


def scaled_dot_product_attention(q, k, v, mask=None):
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v)
    mask = mask.expand(torch.broadcast_shapes(mask.shape, (q.shape[-2], k.shape[-2])))
    nothing = ~mask.any(dim=-1, keepdim=True)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask | nothing).masked_fill(nothing, 0.0)


def causal_mask(T, S=None, device=None):
    S = T if S is None else S
    return torch.full((T, S), True, device=device).tril(S - T)


def padding_mask(lengths, T):
    return (torch.arange(T, device=lengths.device) < lengths[:, None]).unflatten(0, (-1, 1, 1))


def split_heads(x, n_heads):
    if x.shape[-1] % n_heads:
        raise ValueError(f"{x.shape[-1]} does not divide by {n_heads}")
    return x.unflatten(-1, (n_heads, -1)).movedim(-2, -3)


def merge_heads(x):
    return x.movedim(-3, -2).flatten(-2)
