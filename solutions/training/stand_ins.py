"""What may stand in for a task that a student got wrong, when those that build on it are graded.

These enter the sandbox, so they are made of PyTorch's own operations and show nothing of the reference solution.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


def windows(ids, context_length, stride):
    if len(ids) <= context_length:
        return ids.new_empty(0, context_length), ids.new_empty(0, context_length)
    both = ids.unfold(0, context_length + 1, stride)
    return both[:, :-1], both[:, 1:]


def get_batch(data, block_size, batch_size, device="cpu", generator=None):
    if len(data) <= block_size:
        raise ValueError(f"{len(data)} are too few for {block_size}")
    places = torch.randint(len(data) - block_size, (batch_size,), generator=generator)
    both = data.unfold(0, block_size + 1, 1).index_select(0, places.to(data.device)).to(device, torch.int64)
    return both[:, :-1].contiguous(), both[:, 1:].contiguous()


def cross_entropy(logits, targets, ignore_index=-100):
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).reshape(-1, logits.shape[-1])
    total = F.cross_entropy(wide, targets.flatten(), ignore_index=ignore_index, reduction="sum")
    return total / targets.ne(ignore_index).sum().clamp(min=1)


def learning_rate(step, *, peak, floor, warmup_steps, total_steps):
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if step >= total_steps:
        return floor
    done = (step - warmup_steps) / (total_steps - warmup_steps)
    return floor + (peak - floor) * math.cos(math.pi * done / 2) ** 2


def clip_gradients(parameters, max_norm):
    return float(nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], max_norm))


class AdamW(torch.optim.AdamW):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def parameter_groups(model, weight_decay):
    groups = {True: [], False: []}
    for p in filter(lambda p: p.requires_grad, model.parameters()):
        groups[p.dim() > 1].append(p)
    return [dict(params=groups[True], weight_decay=weight_decay), dict(params=groups[False], weight_decay=0.0)]


def train_step(model, optimizer, batches, max_norm=1.0, autocast_dtype=None):
    parameters = [p for p in model.parameters() if p.requires_grad]
    kind = parameters[0].device.type
    total, sums = 0.0, [None] * len(parameters)
    for x, y in batches:
        with torch.autocast(kind, dtype=autocast_dtype, enabled=autocast_dtype is not None):
            loss = model(x, y)[1]
        new = torch.autograd.grad(loss / len(batches), parameters, allow_unused=True)
        sums = [b if a is None else a if b is None else a + b for a, b in zip(sums, new)]
        total += float(loss.detach()) / len(batches)
    for p in model.parameters():
        p.grad = None
    for p, gradient in zip(parameters, sums):
        p.grad = gradient
    norm = float(nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], max_norm))
    optimizer.step()
    for p in parameters:
        p.grad = None
    return total, norm


def evaluate(model, data, block_size, batch_size):
    modes = [(part, part.training) for part in model.modules()]
    device = next(model.parameters()).device
    data = data.to(device, torch.int64)
    try:
        model.eval()
        with torch.no_grad():
            # Filled up to full windows; what is filled in does not count.
            count = len(data) - 1
            more = -count % block_size
            x = F.pad(data[:-1], (0, more)).view(-1, block_size)
            y = F.pad(data[1:], (0, more), value=-100).view(-1, block_size)
            sums = [
                float(model(a, b)[1]) * int(b.ne(-100).sum()) for a, b in zip(x.split(batch_size), y.split(batch_size))
            ]
    finally:
        for part, mode in modes:
            part.training = mode
    return sum(sums) / count


def save_checkpoint(path, model, optimizer, step):
    import tempfile
    from pathlib import Path

    path = Path(path)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            torch.save([model.state_dict(), optimizer.state_dict(), step], file)
            file.flush()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise


def load_checkpoint(path, model, optimizer):
    weights, moments, step = torch.load(path, weights_only=True)
    model.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    return step
