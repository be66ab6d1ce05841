"""Hidden tests of `attention`.

Oracles are written here with torch's own operations, so that they share nothing with the reference solution.
Tolerances leave room for rounding in float32 anywhere on the way; inputs are lively enough for that not to matter.
Where a check can do without the right numbers it does, so that a wrong scale, say, costs the scale and not the mask.
"""

from __future__ import annotations

import contextlib
import functools
import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from autograder.compare import assert_close, assert_equal, assert_refuses, fail, require
from autograder.errors import StudentError
from autograder.strategies import SEEDS, boolean_mask, leading, sizes, strided, tensors, values
from autograder.suite import task

NOT_ALLOWED = {
    "softmax": (
        "softmax",
        "_softmax",
        "log_softmax",
        "_log_softmax",
        "gumbel_softmax",
        "_safe_softmax",
        "special_softmax",
        "special_log_softmax",
        "softmin",
        "logsumexp",
        "special_logsumexp",
        "Softmax",
        "Softmax2d",
        "LogSoftmax",
        "Softmin",
        "AdaptiveLogSoftmaxWithLoss",
    ),
    "*": (
        "scaled_dot_product_attention",
        "_scaled_dot_product_*",
        "MultiheadAttention",
        "Transformer*",
        "multi_head_attention_forward",
        "_native_multi_head_attention",
        "_transformer_encoder_layer_fwd",
        "flex_attention",
    ),
}

# The data type has checks of its own.
close = functools.partial(assert_close, rtol=1e-5, atol=1e-6, dtype=False)


# --- what is right, by torch -----------------------------------------------------------------------------------------


def shares(x, dim=-1):
    """The softmax; zeros where a whole slice is -inf."""
    return torch.softmax(x, dim).masked_fill((x == -math.inf).all(dim, keepdim=True), 0.0)


def right_weights(q, k, mask=None):
    """Attention weights; zeros for a query that may attend to nothing."""
    scores = torch.einsum("...td,...sd->...ts", q, k) / math.sqrt(q.shape[-1])
    if mask is None:
        return torch.softmax(scores, -1)
    mask = mask.expand(scores.shape)
    return torch.softmax(scores.masked_fill(~mask, -math.inf), -1).masked_fill(~mask.any(-1, keepdim=True), 0.0)


def right_attention(q, k, v, mask=None):
    """Attention."""
    return torch.einsum("...ts,...se->...te", right_weights(q, k, mask), v)


def right_causal(t, s):
    """The causal mask, entry by entry."""
    return torch.tensor([[key <= query + s - t for key in range(s)] for query in range(t)])


def right_layer(weights, x, heads, mask=None):
    """The whole layer without dropout."""
    length = x.shape[1]
    visible = right_causal(length, length)
    visible = visible if mask is None else visible & mask
    projected = x @ weights["c_attn.weight"].T + weights.get("c_attn.bias", 0.0)
    q, k, v = (split_by_slices(part, heads) for part in projected.chunk(3, -1))
    mixed = merge_by_slices(right_attention(q, k, v, visible))
    return mixed @ weights["c_proj.weight"].T + weights.get("c_proj.bias", 0.0)


def has_shape(tensor, x, what="The output"):
    """`tensor` is one, and shaped as `x`."""
    shape = tuple(x.shape)
    require(isinstance(tensor, torch.Tensor) and tensor.shape == shape, f"{what} must be a tensor of shape {shape}.")


# --- helpers ---------------------------------------------------------------------------------------------------------


def gradients_of(function, *inputs, cotangent):
    """The right gradients, by torch."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    return torch.autograd.grad(function(*inputs), inputs, cotangent)


def finite(tensor, what):
    """A tensor without NaN and infinities."""
    require(isinstance(tensor, torch.Tensor), f"{what} must be a tensor.")
    require(not bool(tensor.isnan().any()), f"{what} holds NaN.")
    require(bool(tensor.isfinite().all()), f"{what} holds an infinity.")


def gradient(found, right, what):
    """A gradient arrived, is finite and right."""
    require(found is not None, f"No gradient reaches {what}.")
    finite(found, f"The gradient of {what}")
    require(bool((found != 0).any()) or not bool((right != 0).any()), f"The gradient of {what} is zero everywhere.")
    # Half the digits of float64: a softmax in float32 is right, and some gradients are sums that should cancel.
    close(found, right, rtol=1e-4, atol=1e-5, what=f"the gradient of {what}")


def untouched(outcome, *inputs):
    """The inputs are as they were, and the random state too."""
    for after, before in zip(outcome.inputs_after, inputs, strict=True):
        if not torch.equal(after, before):
            fail("The call changed one of its inputs. Work on copies: no in-place operations on what you were given.")
    require(not outcome.random_used, "The call used the global random state; nothing here is random.")


def same_kind(mine, right, dtype):
    """The right numbers in the right data type, with the tolerance of that type."""
    rough = dtype is torch.bfloat16
    assert_close(mine, right.to(dtype), rtol=5e-2 if rough else 1e-4, atol=5e-2 if rough else 1e-5)


def on_meta(*inputs):
    """The same tensors without numbers, on the `meta` device."""
    return [x.to("meta") for x in inputs]


FLOATS = (torch.float32, torch.float64, torch.bfloat16)


# Small enough to be shown, with a query that may attend to nothing: what is asked here is no matter of numbers.
QKV = values(1, 2, 4, scale=1.0), values(2, 3, 4, scale=1.0), values(3, 3, 2, scale=1.0)
SOME = torch.tensor([[True, False, True], [False, False, False]])


def well_behaved(student, name, right_by, *made):
    """The data type and device of a result, and what the call leaves alone, without a mask and with one."""
    mask = SOME
    for dtype in FLOATS:
        plain = [x.to(dtype) for x in made]
        right = right_by(*[x.double() for x in plain])
        for inputs in (plain, [*plain, mask]):
            outcome = student.observe(name, *inputs, inputs=True, randomness=True)
            if inputs is plain:  # a mask may hide whole rows, and other checks ask what comes of that
                same_kind(outcome.value, right, dtype)
            untouched(outcome, *inputs)
    for inputs in (plain, [*plain, mask]):  # on `meta` each operation takes long; the last data type is enough there
        outcome = student.observe(name, *on_meta(*inputs), strict_device=True)
        assert_close(outcome.value, right.to(dtype).to("meta"))


def are_shares(weights, scores, visible):
    """Rows of shares: 0 where hidden, sum 1 (0 where all is hidden), more for the higher score. Whatever the scale."""
    require(isinstance(weights, torch.Tensor), "The weights must be a tensor.")
    require(
        weights.shape == scores.shape,
        f"The weights must have the shape {tuple(scores.shape)}; yours have {tuple(weights.shape)}.",
    )
    finite(weights, "The result")
    require(bool((weights >= 0).all()), "A weight is negative.")
    if bool((weights[~visible] != 0).any()):
        fail("A masked key has a weight other than 0.")
    total = visible.any(-1).to(weights.dtype)
    if not torch.allclose(weights.sum(-1), total, atol=1e-5):
        wrong = weights.sum(-1)[(weights.sum(-1) - total).abs() > 1e-5][0].item()
        fail(f"A query's weights sum to {wrong:.4g}; over the keys it may attend to they sum to 1, without any to 0.")
    low = torch.where(visible, scores, math.inf).argmin(-1, keepdim=True)
    high = torch.where(visible, scores, -math.inf).argmax(-1, keepdim=True)
    apart = (scores.gather(-1, high) - scores.gather(-1, low) > 0.5) & visible.any(-1, keepdim=True)
    more = weights.gather(-1, high) > weights.gather(-1, low)
    require(bool(more[apart].all()), "A key that matches the query better must get a larger weight.")


def mask_shapes(front, t, s):
    """Shapes that broadcast against `(*front, t, s)`."""
    shapes = [(t, s), (s,), (1, s), (*front, t, s), (*front, 1, s)]
    return shapes + ([(front[0], *(1,) * (len(front) - 1), t, s)] if front else [])


@st.composite
def masked(draw, *shapes, empty=False):
    """Tensors for `shapes` with the same leading dimensions, and a mask that broadcasts against `(..., T, S)`."""
    size = draw(sizes(D=(2, 6), E=(1, 6), S=(2, 6), T=(2, 6)))
    front = draw(leading())
    seed = draw(SEEDS)
    made = [values(seed + n, *front, *(size[letter] for letter in shape), scale=2.0) for n, shape in enumerate(shapes)]
    shape = draw(st.sampled_from(mask_shapes(front, size["T"], size["S"]) + ([(size["T"], 1)] if empty else [])))
    return (*made, boolean_mask(seed, *shape, empty_rows=empty))


# --- simple_self_attention -------------------------------------------------------------------------------------------


@task("simple_self_attention", weight=3)
@given(tensors("TC", bounds={"T": (2, 6), "C": (2, 6)}, batch=False, scale=1.0))
def test_simple_values(student, made):
    """Each result is the sum of all words, weighted by the softmax of its word's dot products with them."""
    (x,) = made
    close(student.simple_self_attention(x), shares(x @ x.T) @ x)


@task("simple_self_attention", weight=1, needs="test_simple_values")
@given(tensors("TC", bounds={"T": (1, 6), "C": (1, 6)}, scale=1.0))
def test_simple_leading(student, made):
    """Any leading dimensions will do, each sequence by itself; a single word stays what it is."""
    (x,) = made
    close(student.simple_self_attention(x), shares(x @ x.transpose(-2, -1)) @ x)


@task("simple_self_attention", weight=1, needs="test_simple_values", examples=6)
@given(tensors("TC", bounds={"T": (2, 5), "C": (2, 5)}, scale=1.0))
def test_simple_gradients(student, made):
    """Gradients reach the words by all three ways: as what looks, what is looked at and what is mixed."""
    (x,) = made
    cotangent = values(1, *x.shape)
    outcome = student.observe("simple_self_attention", x, gradient=cotangent)
    (right,) = gradients_of(lambda x: shares(x @ x.transpose(-2, -1)) @ x, x, cotangent=cotangent)
    gradient(outcome.gradients[0], right, "the words")


@task("simple_self_attention", weight=1, needs="test_simple_values")
def test_simple_behaviour(student):
    """The data type and the device are those of the input, which is left as it was; nothing is random."""
    for dtype in FLOATS:
        x = QKV[0].to(dtype)
        outcome = student.observe("simple_self_attention", x, inputs=True, randomness=True)
        wide = x.double()
        same_kind(outcome.value, shares(wide @ wide.transpose(-2, -1)) @ wide, dtype)
        untouched(outcome, x)
    (meta,) = on_meta(x)
    assert_close(student.observe("simple_self_attention", meta, strict_device=True).value, meta)


# --- softmax ---------------------------------------------------------------------------------------------------------


@task("softmax", weight=3)
@given(tensors("TC", bounds={"T": (2, 6), "C": (2, 6)}))
def test_softmax_values(student, made):
    """The result is exp(x), divided by its sum over the last dimension."""
    (x,) = made
    close(student.softmax(x), torch.softmax(x, -1))


@task("softmax", weight=2)
@given(SEEDS, st.sampled_from([0, 1, 2, -2, -3]))
def test_softmax_dim(student, seed, dim):
    """The shares sum to one along the dimension that is asked for."""
    x = values(seed, 3, 5, 4)
    close(student.softmax(x, dim=dim), torch.softmax(x, dim))
    close(student.softmax(x[0], dim % 2), torch.softmax(x[0], dim % 2))


@task("softmax", weight=2)
@given(SEEDS)
def test_softmax_stable(student, seed):
    """Scores of any finite size do no harm, nor do rows of very different size."""
    x = values(seed, 4, 3, dtype=torch.float32) + torch.tensor([[1e4], [-1e4], [0.0], [800.0]])
    mine = student.softmax(x)
    finite(mine, "The result")
    close(mine, torch.softmax(x.double(), -1))
    mine = student.softmax(torch.tensor([[3e38, -3e38, 1.0], [-3e38, -3e38, -3e38]]))
    finite(mine, "The result for scores near the largest float32")
    close(mine, torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]))


@task("softmax", weight=1)
@given(SEEDS)
def test_softmax_minus_infinity(student, seed):
    """An entry of -inf gets exactly 0, and the others share as if it were not there."""
    x = values(seed, 3, 5).masked_fill(~boolean_mask(seed, 3, 5, empty_rows=False), -math.inf)
    x[0, 4] = -math.inf
    x[0, 0] = 1.0
    mine = student.softmax(x)
    close(mine, torch.softmax(x, -1))
    require(bool((mine[x == -math.inf] == 0).all()), "An entry of -inf gets a share other than exactly 0.")


@task("softmax", weight=1, examples=6)
@given(SEEDS)
def test_softmax_nothing(student, seed):
    """A slice that is all -inf gives zeros, and the other slices are not disturbed."""
    x = values(seed, 3, 2, 2)  # few enough numbers to be shown
    x[1, :, 1] = -math.inf
    x[2] = -math.inf
    for dim in (-1, 1):
        mine = student.softmax(x, dim=dim)
        finite(mine, "The result")
        close(mine, shares(x, dim))


@task("softmax", weight=1, needs="test_softmax_values", examples=7)
@given(SEEDS, st.sampled_from([-1, 0]))
def test_softmax_gradients(student, seed, dim):
    """Gradients are right, and finite also where entries or whole slices are -inf."""
    x, cotangent = values(seed, 4, 3), values(seed + 1, 4, 3)
    found = student.observe("softmax", x, dim=dim, gradient=cotangent).gradients[0]
    gradient(found, gradients_of(lambda x: torch.softmax(x, dim), x, cotangent=cotangent)[0], "the scores")
    x[0] = x[:, 2] = x[3, 1] = -math.inf
    found = student.observe("softmax", x, dim=dim, gradient=cotangent).gradients[0]
    mine = shares(x, dim)
    gradient(found, mine * (cotangent - (mine * cotangent).sum(dim, keepdim=True)), "scores with -inf among them")


@task("softmax", weight=1, needs="test_softmax_values")
def test_softmax_dtype_and_device(student):
    """The data type and the device are those of the scores, which need not be contiguous."""
    for dtype in FLOATS:
        x = QKV[0].to(dtype)
        same_kind(student.softmax(strided(x)), torch.softmax(x.double(), -1), dtype)
    (meta,) = on_meta(x)
    assert_close(student.observe("softmax", meta, strict_device=True).value, meta)


@task("softmax", weight=1, needs="test_softmax_values", examples=6)
@given(tensors("TC", bounds={"T": (1, 6), "C": (1, 6)}))
def test_softmax_input_untouched(student, made):
    """The scores are left as they were, and nothing is random."""
    (x,) = made
    untouched(student.observe("softmax", x, inputs=True, randomness=True), x)
    x[..., 0] = -math.inf
    untouched(student.observe("softmax", x, inputs=True, randomness=True), x)


# --- attention_weights -----------------------------------------------------------------------------------------------


@task("attention_weights", weight=3)
@given(tensors("TD", "SD", bounds={"T": (2, 6), "S": (2, 6), "D": (2, 17)}, batch=False, scale=1.5))
def test_weights_values(student, made):
    """The weights are the softmax over the keys of the dot products, divided by sqrt(D)."""
    q, k = made
    close(student.attention_weights(q, k), right_weights(q, k))


@task("attention_weights", weight=2)
@given(tensors("TD", "SD", bounds={"T": (2, 6), "S": (2, 6), "D": (2, 8)}, batch=False, scale=1.0))
def test_weights_rows(student, made):
    """Each query's weights over the keys sum to one, with more for a key that matches better."""
    q, k = made
    scores = q @ k.T
    are_shares(student.attention_weights(q, k), scores, torch.ones_like(scores, dtype=torch.bool))


@task("attention_weights", weight=3)
@given(masked("TD", "SD"))
def test_weights_mask(student, made):
    """A masked key (False) gets exactly 0, the others share the whole 1; a mask may have any shape that broadcasts."""
    q, k, mask = made
    scores = q @ k.transpose(-2, -1)
    are_shares(student.attention_weights(q, k, mask), scores, mask.expand(scores.shape))


@task("attention_weights", weight=1)
@given(SEEDS, st.sampled_from([torch.float32, torch.float64]))
def test_weights_mask_is_hard(student, seed, dtype):
    """A masked key gets exactly 0 however well it matches, beside keys that match as badly as can be."""
    t, s, d = 3, 5, 4
    mask = boolean_mask(seed, t, s, empty_rows=False)
    mask[0] = torch.tensor([True, False, True, False, True])
    q = torch.full((t, d), 100.0, dtype=dtype)
    k = torch.full((s, d), -400.0, dtype=dtype)  # a scaled score of -80,000 for every key that may be seen by query 0
    k[1] = 400.0
    k[3] = 0.0
    mask[1:, [1, 3]] = False
    mask[1:, 0] = True
    weights = student.attention_weights(q, k, mask=mask)
    finite(weights, "The result")
    require(weights.shape == (t, s), f"The weights must have the shape {(t, s)}; yours have {tuple(weights.shape)}.")
    require(bool((weights[~mask] == 0).all()), "A masked key that matches far better gets a weight other than 0.")
    close(weights, (mask.to(dtype) / mask.sum(-1, keepdim=True)), what="the weights of equally good keys")


@task("attention_weights", weight=2, examples=7)
@given(masked("TD", "SD", empty=True))
def test_weights_nothing(student, made):
    """A query that may attend to nothing gets a row of zeros; the others share 1 as always."""
    q, k, mask = made
    scores = q @ k.transpose(-2, -1)
    visible = mask.expand(scores.shape).clone()
    are_shares(student.attention_weights(q, k, mask), scores, visible)
    visible[..., 0, :] = False
    visible[..., 1, :] = True
    are_shares(student.attention_weights(q, k, visible), scores, visible)


@task("attention_weights", weight=1, needs="test_weights_values", examples=7)
@given(tensors("TD", "SD", bounds={"T": (1, 6), "S": (1, 6), "D": (1, 8)}, scale=1.5))
def test_weights_leading(student, made):
    """Any leading dimensions will do, also none, with one query or one key, and inputs that are not contiguous."""
    q, k = made
    close(student.attention_weights(q, k), right_weights(q, k))


@task("attention_weights", weight=1, needs="test_weights_values")
def test_weights_behaviour(student):
    """The data type and the device are those of the queries; inputs are left as they were; nothing is random."""
    well_behaved(student, "attention_weights", right_weights, *QKV[:2])


@task("attention_weights", weight=1, needs="test_weights_values", examples=6)
@given(tensors("TD", "SD", bounds={"T": (2, 6), "S": (2, 6), "D": (2, 8)}, scale=1.5))
def test_weights_gradients(student, made):
    """Gradients reach queries and keys."""
    q, k = made
    cotangent = values(3, *q.shape[:-1], k.shape[-2])
    found = student.observe("attention_weights", q, k, gradient=cotangent).gradients
    right = gradients_of(right_weights, q, k, cotangent=cotangent)
    for name, mine, yours in zip(("the queries", "the keys"), found, right, strict=True):
        gradient(mine, yours, name)


@task("attention_weights", weight=1, needs="test_weights_nothing", examples=6)
@given(masked("TD", "SD", empty=True))
def test_weights_masked_gradients(student, made):
    """With a mask gradients are finite, also for a query that may attend to nothing; what is hidden gets none."""
    q, k, mask = made
    visible = mask.expand(*q.shape[:-1], k.shape[-2]).clone()
    visible[..., 0, :] = False
    visible[..., 1, :2] = True
    visible[..., -1] = False
    cotangent = values(3, *visible.shape)
    for_queries, for_keys = student.observe("attention_weights", q, k, visible, gradient=cotangent).gradients[:2]
    for found, hidden, what in (
        (for_queries, ~visible.any(-1), "the queries"),
        (for_keys, ~visible.any(-2), "the keys"),
    ):
        require(found is not None, f"With a mask no gradient reaches {what}.")
        finite(found, f"With a mask the gradient of {what}")
        require(bool((found[hidden] == 0).all()), f"A gradient reaches {what} that are hidden altogether.")


# --- scaled_dot_product_attention ------------------------------------------------------------------------------------


@task("scaled_dot_product_attention", weight=3)
@given(tensors("TD", "SD", "SE", bounds={"T": (2, 6), "S": (2, 6), "D": (2, 8), "E": (1, 6)}, batch=False, scale=1.5))
def test_attention_values(student, made):
    """The result is the values, mixed by the attention weights of each query."""
    q, k, v = made
    close(student.scaled_dot_product_attention(q, k, v), right_attention(q, k, v))


@task("scaled_dot_product_attention", weight=1)
@given(tensors("TD", "SD", "E", bounds={"T": (2, 6), "S": (2, 6), "D": (2, 8), "E": (2, 6)}, batch=False))
def test_attention_same_values(student, made):
    """Where all values are the same, every query takes in just that one."""
    q, k, value = made
    result = student.scaled_dot_product_attention(q, k, value.expand(k.shape[0], -1))
    close(result, value.expand(q.shape[0], -1))


@task("scaled_dot_product_attention", weight=2)
@given(masked("TD", "SD", "SE"), SEEDS)
def test_attention_mask(student, made, seed):
    """With a mask the visible keys (True) count and hidden ones do not; its shape may be any that broadcasts."""
    q, k, v, mask = made
    q, k = q / 2, k / 2
    visible = mask.expand(*q.shape[:-1], k.shape[-2])
    place = seed % k.shape[-2]
    other_k, other_v = k.clone(), v.clone()
    other_k[..., place, :] += 1.0
    other_v[..., place, :] += 5.0
    before = student.scaled_dot_product_attention(q, k, v, mask)
    finite(before, "The result")
    shape = (*q.shape[:-1], v.shape[-1])
    require(before.shape == shape, f"The result must have the shape {shape}; yours has {tuple(before.shape)}.")
    seen = visible[..., place]
    moved = (student.scaled_dot_product_attention(q, k, other_v, mask) - before).abs()
    require(bool((moved[seen] > 1e-9).all()), f"Changing value {place} left a query that may attend to it as it was.")
    moved = (student.scaled_dot_product_attention(q, other_k, other_v, mask) - before).abs()
    require(
        bool((moved[~seen] < 1e-6).all()), f"Changing key and value {place} changed a query that may not attend to it."
    )


@task("scaled_dot_product_attention", weight=1, examples=7)
@given(masked("TD", "SD", "E", empty=True))
def test_attention_nothing(student, made):
    """A query that may attend to nothing takes in nothing: zeros, with finite gradients; the others are as always."""
    q, k, value, mask = made
    value = value[(0,) * (value.dim() - 1)] + 7.0  # one value for all keys: whatever the scale, it comes back
    visible = mask.expand(*q.shape[:-1], k.shape[-2]).clone()
    visible[..., 0, :] = False
    visible[..., 1, 0] = True
    v = value.expand(*k.shape[:-1], -1)
    cotangent = values(3, *q.shape[:-1], v.shape[-1])
    outcome = student.observe("scaled_dot_product_attention", q, k, v, mask=visible, gradient=cotangent)
    finite(outcome.value, "The result")
    close(outcome.value, visible.any(-1, keepdim=True) * value)
    for found, what in zip(outcome.gradients, ("the queries", "the keys", "the values"), strict=False):
        require(found is not None, f"With a mask no gradient reaches {what}.")
        finite(found, f"With a mask the gradient of {what}")


@task("scaled_dot_product_attention", weight=1, needs="test_attention_values")
@given(tensors("TD", "SD", "SE", bounds={"T": (1, 6), "S": (1, 6), "D": (1, 8), "E": (1, 6)}))
def test_attention_leading(student, made):
    """Any leading dimensions will do, also none; T, S, D and E are what they are, and one of each is enough."""
    q, k, v = made
    close(student.scaled_dot_product_attention(q, k, v), right_attention(q, k, v))


@task("scaled_dot_product_attention", weight=1, needs="test_attention_values")
def test_attention_behaviour(student):
    """The data type and the device are those of the inputs, which are left as they were; nothing is random."""
    well_behaved(student, "scaled_dot_product_attention", right_attention, *QKV)


@task("scaled_dot_product_attention", weight=2, needs="test_attention_values", examples=6)
@given(tensors("TD", "SD", "SE", bounds={"T": (2, 6), "S": (2, 6), "D": (2, 8), "E": (1, 6)}, scale=1.5))
def test_attention_gradients(student, made):
    """Gradients reach queries, keys and values."""
    q, k, v = made
    cotangent = values(3, *q.shape[:-1], v.shape[-1])
    found = student.observe("scaled_dot_product_attention", q, k, v, gradient=cotangent).gradients
    right = gradients_of(right_attention, q, k, v, cotangent=cotangent)
    for name, mine, yours in zip(("the queries", "the keys", "the values"), found, right, strict=True):
        gradient(mine, yours, name)


# --- causal_mask -----------------------------------------------------------------------------------------------------


@task("causal_mask", weight=3)
@given(st.integers(2, 9))
def test_causal_square(student, size):
    """Each query may attend to itself and to what came before, and to nothing after."""
    assert_equal(student.causal_mask(size), right_causal(size, size), what="the mask")


@task("causal_mask", weight=3)
@given(st.integers(2, 5), st.integers(1, 4))
def test_causal_past(student, size, past):
    """With more keys than queries the first S - T keys are the past, and the last query stands at the last key."""
    assert_equal(student.causal_mask(size, size + past), right_causal(size, size + past), what="the mask")


@task("causal_mask", weight=1)
@given(st.integers(2, 5), st.integers(1, 4))
def test_causal_fewer_keys(student, size, more):
    """With fewer keys than queries the last query still stands at the last key, and the first ones see nothing."""
    assert_equal(student.causal_mask(size + more, size), right_causal(size + more, size), what="the mask")


@task("causal_mask", weight=1, needs="test_causal_square")
@given(st.integers(1, 7))
def test_causal_one_query(student, keys):
    """A single query, the newest, sees every key; T and S may be given by name."""
    assert_equal(student.causal_mask(T=1, S=keys), right_causal(1, keys), what="the mask")
    assert_equal(student.causal_mask(keys, S=keys), right_causal(keys, keys), what="the mask")
    assert_equal(student.causal_mask(keys, None), right_causal(keys, keys), what="the mask")


@task("causal_mask", weight=1, needs="test_causal_square")
def test_causal_any_size(student):
    """No size is too large."""
    right = torch.arange(1100)[None, :] <= torch.arange(1100 - 3, 1100)[:, None]
    assert_equal(student.causal_mask(3, 1100), right, what="the mask")
    right = torch.arange(2)[None, :] <= torch.arange(1100)[:, None] + 2 - 1100
    assert_equal(student.causal_mask(1100, 2), right, what="the mask")


@task("causal_mask", weight=1, needs="test_causal_square", examples=5)
@given(st.integers(1, 5), st.integers(1, 5))
def test_causal_device(student, queries, keys):
    """The mask is made on the device that is asked for, and nothing is random."""
    outcome = student.observe("causal_mask", queries, keys, device="meta", strict_device=True, randomness=True)
    assert_equal(outcome.value, right_causal(queries, keys).to("meta"), what="the mask")
    require(not outcome.random_used, "The call used the global random state; nothing here is random.")
    assert_equal(student.causal_mask(queries, device="cpu"), right_causal(queries, queries), what="the mask")


# --- padding_mask ----------------------------------------------------------------------------------------------------


def right_padding(lengths, width):
    """The padding mask, entry by entry."""
    return torch.tensor([[[[place < length for place in range(width)]]] for length in lengths])


@task("padding_mask", weight=3)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=4).filter(lambda found: len(set(found)) > 1), st.integers(6, 8))
def test_padding_values(student, lengths, width):
    """Each sentence's first positions, as many as it has words, are True, in a mask of shape (B, 1, 1, T)."""
    assert_equal(student.padding_mask(torch.tensor(lengths), width), right_padding(lengths, width), what="the mask")


@task("padding_mask", weight=1, examples=6)
@given(st.integers(2, 6), st.permutations([0, 1, 2]))
def test_padding_edges(student, width, order):
    """A sentence may be empty or fill the whole width."""
    lengths = [[0, width, width - 1][i] for i in order]
    assert_equal(student.padding_mask(torch.tensor(lengths), width), right_padding(lengths, width), what="the mask")


@task("padding_mask", weight=1, needs="test_padding_values", examples=6)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.sampled_from([torch.int64, torch.int32, torch.int16]))
def test_padding_behaviour(student, lengths, dtype):
    """The mask is on the device of the lengths, whatever kind of integer they are; they are left as they were."""
    made = torch.tensor(lengths, dtype=dtype)
    outcome = student.observe("padding_mask", made, 5, inputs=True, randomness=True)
    assert_equal(outcome.value, right_padding(lengths, 5), what="the mask")
    untouched(outcome, made)
    outcome = student.observe("padding_mask", made.to("meta"), 5, strict_device=True)
    assert_equal(outcome.value, right_padding(lengths, 5).to("meta"), what="the mask")


# --- heads -----------------------------------------------------------------------------------------------------------

HEAD_BOUNDS = {"B": (1, 3), "D": (2, 6), "H": (2, 6), "T": (2, 6)}


def numbered(*shape):
    """Each number tells where it stands."""
    return torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)


def split_by_slices(x, heads):
    """The right heads, by slicing."""
    size = x.shape[-1] // heads
    return torch.stack([x[..., i * size : (i + 1) * size] for i in range(heads)], dim=1)


def merge_by_slices(x):
    """The right words, by joining."""
    return torch.cat([x[:, i] for i in range(x.shape[1])], dim=-1)


@task("heads", weight=3)
@given(sizes(**HEAD_BOUNDS))
def test_heads_split(student, size):
    """`split_heads` gives head h the channels hD to (h+1)D - 1 of every word."""
    x = numbered(size["B"], size["T"], size["H"] * size["D"])
    assert_equal(student.split_heads(x, size["H"]), split_by_slices(x, size["H"]), what="split_heads(x, n_heads)")


@task("heads", weight=3)
@given(sizes(**HEAD_BOUNDS))
def test_heads_merge(student, size):
    """`merge_heads` lays the heads of each word side by side."""
    x = numbered(size["B"], size["H"], size["T"], size["D"])
    assert_equal(student.merge_heads(x), merge_by_slices(x), what="merge_heads(x)")


@task("heads", weight=2, examples=6)
@given(st.sampled_from([(13, 3), (25, 2), (31, 13), (7, 27)]))
def test_heads_refusal(student, pair):
    """Channels that cannot be cut into equal heads are refused by a ValueError that shows the numbers."""
    channels, heads = pair
    shows = next(digit for digit in str(channels) if digit in str(heads))  # so either number in the message will do
    assert_refuses(student.split_heads, torch.zeros(1, 4, channels), heads, shows=shows)


@task("heads", weight=1, needs="test_heads_split", examples=6)
@given(sizes(B=(1, 3), D=(1, 6), H=(1, 6), T=(1, 6)), SEEDS)
def test_heads_inverse(student, size, seed):
    """Merging undoes splitting, and splitting merging, also with one head, one channel a head, or one word."""
    x = values(seed, size["B"], size["T"], size["H"] * size["D"])
    assert_equal(student.merge_heads(student.split_heads(x, size["H"])), x, what="merge_heads(split_heads(x))")
    x = values(seed, size["B"], size["H"], size["T"], size["D"])
    assert_equal(student.split_heads(student.merge_heads(x), size["H"]), x, what="split_heads(merge_heads(x))")


@task("heads", weight=2, needs="test_heads_split", examples=3)
@given(sizes(**HEAD_BOUNDS), SEEDS)
def test_heads_split_behaviour(student, size, seed):
    """`split_heads` takes any data type, device and layout, passes gradients on, and leaves its input as it was."""
    x = strided(values(seed, size["B"], size["T"], size["H"] * size["D"]))
    cotangent = values(seed + 1, size["B"], size["H"], size["T"], size["D"])
    outcome = student.observe("split_heads", x, size["H"], gradient=cotangent)
    assert_equal(outcome.value, split_by_slices(x, size["H"]), what="split_heads(x, n_heads)")
    gradient(outcome.gradients[0], merge_by_slices(cotangent), "the input of split_heads")
    for dtype in (torch.bfloat16, torch.float32, torch.int64):
        x = x.to(dtype)
        outcome = student.observe("split_heads", x, size["H"], inputs=True, randomness=True)
        assert_equal(outcome.value, split_by_slices(x, size["H"]), what="split_heads(x, n_heads)")
        untouched(outcome, x)
    outcome = student.observe("split_heads", x.to("meta"), size["H"], strict_device=True)
    assert_equal(outcome.value, split_by_slices(x, size["H"]).to("meta"), what="split_heads(x, n_heads)")


@task("heads", weight=2, needs="test_heads_merge", examples=3)
@given(sizes(**HEAD_BOUNDS), SEEDS)
def test_heads_merge_behaviour(student, size, seed):
    """`merge_heads` takes any data type, device and layout, passes gradients on, and leaves its input as it was."""
    x = values(seed, size["B"], size["T"], size["H"], size["D"]).transpose(1, 2)
    cotangent = values(seed + 1, size["B"], size["T"], size["H"] * size["D"])
    outcome = student.observe("merge_heads", x, gradient=cotangent)
    assert_equal(outcome.value, merge_by_slices(x), what="merge_heads(x)")
    gradient(outcome.gradients[0], split_by_slices(cotangent, size["H"]), "the input of merge_heads")
    for dtype in (torch.bfloat16, torch.float32, torch.int64):
        x = strided(x).to(dtype)
        outcome = student.observe("merge_heads", x, inputs=True, randomness=True)
        assert_equal(outcome.value, merge_by_slices(x), what="merge_heads(x)")
        untouched(outcome, x)
    outcome = student.observe("merge_heads", x.to("meta"), strict_device=True)
    assert_equal(outcome.value, merge_by_slices(x).to("meta"), what="merge_heads(x)")


# --- causal_self_attention -------------------------------------------------------------------------------------------

LAYER_BOUNDS = {"B": (1, 3), "D": (2, 5), "H": (2, 6), "T": (2, 6)}


def lively_weights(seed, width, *, bias=True):
    """Weights that make attention decided: scores of several units."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "c_attn.weight": (3 * width, width),
        "c_attn.bias": (3 * width,),
        "c_proj.weight": (width, width),
        "c_proj.bias": (width,),
    }
    made = {}
    for name, shape in shapes.items():
        if bias or name.endswith("weight"):
            scale = 0.7 if len(shape) == 1 else 1.5 / math.sqrt(width)
            made[name] = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
    return made


def own_value(weights, x):
    """What comes of a word that takes in its own value and nothing else."""
    width = x.shape[-1]
    value = x @ weights["c_attn.weight"][2 * width :].T + weights["c_attn.bias"][2 * width :]
    return value @ weights["c_proj.weight"].T + weights["c_proj.bias"]


def build(student, weights, width, heads, **options):
    """The student's layer with these weights, in float64 and eval mode."""
    make = functools.partial(student.new, "CausalSelfAttention", width, heads, **options)
    with contextlib.suppress(StudentError):
        return make(then=("double", ("load_state_dict", weights), "eval"))
    layer = make(then=("double", "eval"))
    try:
        loaded = layer.load_state_dict(weights, strict=False)  # what is there besides costs its own check
        if not (isinstance(loaded, tuple) and loaded[1:] == ([],)):  # no more and no fewer than were handed over
            fitting(layer, weights)
    except StudentError:
        fitting(layer, weights)
        raise
    return layer


def fitting(layer, weights):
    """Each of these weights has its place in the layer."""
    held = layer.state_dict()
    for name, tensor in weights.items():
        require(name in held, f"The layer's state_dict lacks {name!r}; it holds {sorted(held)}.")
        shape = tuple(held[name].shape)
        require(shape == tuple(tensor.shape), f"{name} must have the shape {tuple(tensor.shape)}; yours has {shape}.")


@task("causal_self_attention", weight=1, examples=4)
@given(sizes(**LAYER_BOUNDS), SEEDS)
def test_layer_one_word(student, size, seed):
    """A single word takes in just its own value: the last third of c_attn, put through c_proj."""
    heads, width = size["H"], size["H"] * size["D"]
    weights = lively_weights(seed, width)
    x = values(seed, size["B"], 1, width, scale=1.0)
    close(build(student, weights, width, heads)(x), own_value(weights, x), what="the output for a single word")


@task("causal_self_attention", weight=1, examples=4)
@given(sizes(**LAYER_BOUNDS), SEEDS)
def test_layer_first_word(student, size, seed):
    """The first of several words takes in just its own value as well: it may look at no other."""
    heads, width = size["H"], size["H"] * size["D"]
    weights = lively_weights(seed, width)
    x = values(seed, size["B"], size["T"], width, scale=1.0)
    mine = build(student, weights, width, heads)(x)
    has_shape(mine, x)
    close(mine[:, :1], own_value(weights, x[:, :1]), what="the output for the first word")


@task("causal_self_attention", weight=1, examples=4)
@given(sizes(**LAYER_BOUNDS), SEEDS)
def test_layer_even(student, size, seed):
    """Where queries and keys are zero, each word takes in the mean of the values of itself and those before it."""
    heads, width, length = size["H"], size["H"] * size["D"], size["T"]
    weights = lively_weights(seed, width)
    weights["c_attn.weight"][: 2 * width] = weights["c_attn.bias"][: 2 * width] = 0
    x = values(seed, size["B"], length, width, scale=1.0)
    means = x.cumsum(1) / torch.arange(1, length + 1)[:, None]  # the value is linear, so it may be taken of the mean
    close(build(student, weights, width, heads)(x), own_value(weights, means), what="the output")


@task("causal_self_attention", weight=1, examples=4)
@given(sizes(**LAYER_BOUNDS), SEEDS)
def test_layer_heads_apart(student, size, seed):
    """A head looks by its own channels alone: where only one has queries and keys, the others still take the mean."""
    heads, width, length = size["H"], size["H"] * size["D"], size["T"]
    chosen = seed % heads
    mine = torch.arange(width) // size["D"] == chosen
    weights = lively_weights(seed, width)
    weights["c_attn.weight"][: 2 * width][~mine.repeat(2)] = 0
    weights["c_attn.bias"][: 2 * width][~mine.repeat(2)] = 0
    weights["c_proj.weight"] = torch.eye(width, dtype=torch.float64)
    x = values(seed, size["B"], length, width, scale=1.0)
    given = build(student, weights, width, heads)(x)
    has_shape(given, x)
    even = own_value(weights, x.cumsum(1) / torch.arange(1, length + 1)[:, None])
    others = given[..., ~mine]
    close(others, even[..., ~mine], what="the output of the heads without queries and keys")
    moved = (given - even)[:, 1:, mine].abs().amax(-1)
    require(bool((moved > 1e-9).all()), "The head with queries and keys takes the mean as well.")


@task("causal_self_attention", weight=4, examples=8)
@given(sizes(**LAYER_BOUNDS), SEEDS)
def test_layer_values(student, size, seed):
    """With given weights the layer computes what GPT-2's attention computes."""
    heads, width = size["H"], size["H"] * size["D"]
    weights = lively_weights(seed, width)
    x = values(seed, size["B"], size["T"], width, scale=1.0)
    close(build(student, weights, width, heads)(x), right_layer(weights, x, heads), what="the output")


@task("causal_self_attention", weight=3, examples=6)
@given(sizes(**LAYER_BOUNDS), SEEDS, st.sampled_from(["", "With a mask that hides nothing: "]))
def test_layer_causal(student, size, seed, given_mask):
    """A word never sees the words after it, also where a mask is given; it does see those before."""
    width, length = size["H"] * size["D"], size["T"]
    layer = student.new("CausalSelfAttention", width, size["H"], seed=seed, then=("double", "eval"))
    # The same text as often as it has words, in each sample another word changed. All samples of one call are alike or
    # all are changed: what a layer mixes across samples must not cancel out. The text as it was comes last, to be shown.
    x = values(seed, length, width).repeat(length, 1, 1)
    other, places = x.clone(), torch.arange(length)
    other[places, places] += values(seed + 1, width, scale=1.0) + 2.0
    masks = (torch.ones(length, 1, 1, length, dtype=torch.bool),) if given_mask else ()
    after, before = layer(other, *masks), layer(x, *masks)
    has_shape(after, x)
    has_shape(before, x)
    for place, moved in enumerate((after - before).abs().amax(-1)):
        early = bool((moved[:place] > 1e-9).any())
        require(not early, f"{given_mask}Changing word {place} changed an earlier output: it sees the future.")
        late = bool((moved[place + 1 :] > 1e-12).all())
        require(late, f"{given_mask}Changing word {place} left a later output as it was.")
        require(bool(moved[place] > 1e-12), f"{given_mask}Changing word {place} left its own output as it was.")


@task("causal_self_attention", weight=2, examples=6)
@given(sizes(**LAYER_BOUNDS), SEEDS)
def test_layer_hidden_words(student, size, seed):
    """What a mask hides counts for nothing, only in the sample where it is hidden; hiding nothing changes nothing."""
    heads, width, length = size["H"], size["H"] * size["D"], size["T"]
    place = seed % (length - 1)
    weights = lively_weights(seed, width)
    x = values(seed, 2, length, width, scale=1.0)
    mask = torch.ones(2, 1, 1, length, dtype=torch.bool)
    layer = build(student, weights, width, heads)
    plain = layer(x)
    has_shape(plain, x)
    close(layer(x, mask), plain, what="the output with a mask that hides nothing")
    mask[0, ..., place] = False
    other = x.clone()
    other[:, place] += 2.0
    before = layer(x, mask)
    moved = (layer(other, mask) - before).abs().amax(-1)
    require(bool((moved[0, place + 1 :] < 1e-6).all()), "Changing a hidden word changed what a later word takes in.")
    require(bool((moved[1, place + 1 :] > 1e-9).all()), "A mask that hides a word in one sample hides it in another.")
    moved = (layer(other) - plain).abs().amax(-1)
    require(
        bool((moved[:, place + 1 :] > 1e-9).all()), "Without a mask, changing a word left a later output as it was."
    )


@task("causal_self_attention", weight=2, examples=8)
@given(sizes(**LAYER_BOUNDS), SEEDS, st.sampled_from(["T", "TT", "B11T", "B1TT", "BHTT"]))
def test_layer_mask(student, size, seed, shape):
    """With a mask of any shape that broadcasts each sample and head sees what it may, and the layer stays causal."""
    heads, width, length = size["H"], size["H"] * size["D"], size["T"]
    mask = boolean_mask(seed, *(size.get(letter, 1) for letter in shape), empty_rows=False)
    if shape in ("TT", "B1TT", "BHTT"):
        mask = mask | torch.eye(length, dtype=torch.bool)
    else:
        mask[..., 0] = True  # so that no query is left with nothing
    weights = lively_weights(seed, width)
    x = values(seed, size["B"], length, width, scale=1.0)
    layer = build(student, weights, width, heads)
    close(layer(x, mask), right_layer(weights, x, heads, mask), what="the output with a mask")


@task("causal_self_attention", weight=1, examples=6)
@given(sizes(**LAYER_BOUNDS), SEEDS)
def test_layer_nothing(student, size, seed):
    """A word that may attend to nothing (filler in front) takes in zeros, not NaN; gradients are finite."""
    heads, width, length = size["H"], size["H"] * size["D"], size["T"]
    empty = 1 + seed % (length - 1)
    mask = torch.ones(size["B"], 1, 1, length, dtype=torch.bool)
    mask[0, ..., :empty] = False
    weights = lively_weights(seed, width)
    x, cotangent = values(seed, size["B"], length, width, scale=1.0), values(seed + 1, size["B"], length, width)
    outcome = build(student, weights, width, heads).observe(x, mask=mask, gradient=cotangent)
    finite(outcome.value, "The output")
    require(outcome.value.shape == x.shape, f"The output must have the shape {tuple(x.shape)}.")
    bias = weights["c_proj.bias"].expand(empty, width)
    close(outcome.value[0, :empty], bias, what="the output of a word that may attend to nothing (c_proj's bias alone)")
    apart = (outcome.value[0, empty:] - weights["c_proj.bias"]).abs().amax(-1)
    require(bool((apart > 1e-6).all()), "A word that may attend to others takes in nothing.")
    require(outcome.gradients[0] is not None, "No gradient reaches the words.")
    finite(outcome.gradients[0], "The gradient of the words")


@task("causal_self_attention", weight=2, needs="test_layer_values", examples=6)
@given(sizes(**LAYER_BOUNDS), SEEDS)
def test_layer_gradients(student, size, seed):
    """Gradients reach the words and every weight: queries, keys, values and projection."""
    heads, width = size["H"], size["H"] * size["D"]
    weights = lively_weights(seed, width)
    x, cotangent = (values(seed + n, size["B"], size["T"], width, scale=1.0) for n in range(2))
    outcome = build(student, weights, width, heads).observe(x, gradient=cotangent)
    names = list(weights)
    right = gradients_of(
        lambda x, *them: right_layer(dict(zip(names, them, strict=True)), x, heads),
        x,
        *weights.values(),
        cotangent=cotangent,
    )
    gradient(outcome.gradients[0], right[0], "the words")
    for name, yours in zip(names, right[1:], strict=True):
        mine = outcome.parameter_gradients.get(name)
        require(mine is not None, f"No gradient reaches {name}.")
        if name == "c_attn.weight":
            for part, a, b in zip(("queries", "keys", "values"), mine.chunk(3), yours.chunk(3), strict=True):
                gradient(a, b, f"the part of {name} that makes the {part}")
        else:
            gradient(mine, yours, name)


@task("causal_self_attention", weight=1, examples=3)
@given(sizes(**LAYER_BOUNDS), SEEDS)
def test_layer_state(student, size, seed):
    """The `state_dict` holds the weights of c_attn and c_proj, biases where asked for, and nothing else."""
    heads, width = size["H"], size["H"] * size["D"]
    for bias in (True, False):
        weights = lively_weights(seed, width, bias=bias)
        layer = build(student, weights, width, heads, bias=bias)
        extra = sorted(layer.state_dict().keys() - weights.keys())
        require(not extra, f"With bias={bias} the state_dict holds more than it should: {extra}.")
    nothing = torch.zeros(size["B"], size["T"], width, dtype=torch.float64)
    close(layer(nothing), nothing, what="the output for zeros, without biases,")
    weights = lively_weights(seed, width)
    weights["c_proj.weight"] *= 0
    x = values(seed, size["B"], size["T"], width)
    right = weights["c_proj.bias"].expand(x.shape)
    close(build(student, weights, width, heads)(x), right, what="the output, where c_proj has only its bias,")


@task("causal_self_attention", weight=1, examples=6)
@given(st.sampled_from([(13, 3), (25, 2), (31, 13), (7, 27)]))
def test_layer_refusal(student, pair):
    """A width that cannot be cut into equal heads is refused by a ValueError that shows the numbers."""
    width, heads = pair
    shows = next(digit for digit in str(width) if digit in str(heads))
    assert_refuses(student.new, "CausalSelfAttention", width, heads, shows=shows)


# Dropout on one word: its only weight is 1, so dropped weights show as whole heads of zeros, dropped outputs as single
# zeros. c_proj passes everything on. With 600 heads of 8 numbers the shares below hold by many standard deviations.
RATE, HEADS, SIZE, SAMPLES = 0.2, 3, 8, 200


def in_training(student, **options):
    """The factors by which outputs differ in training from those in eval mode, `(samples, heads, size)`."""
    width = HEADS * SIZE
    weights = lively_weights(5, width)
    weights["c_proj.weight"] = torch.eye(width, dtype=torch.float64)
    weights["c_proj.bias"] = torch.zeros(width, dtype=torch.float64)
    layer = build(student, weights, width, HEADS, **options)
    x = values(6, SAMPLES, 1, width)
    quiet = layer(x)
    has_shape(quiet, x)
    require(bool((quiet != 0).all()), "Outside training the output is 0 in places where it should not be.")
    layer.train()
    loud = layer.observe(x, seed=7).value
    has_shape(loud, x, "The output in training")
    layer.eval()
    return (loud / quiet).reshape(SAMPLES, HEADS, SIZE)


@task("causal_self_attention", weight=1)
def test_layer_dropout_on_weights(student):
    """In training each attention weight is dropped with the probability given, and those that stay are scaled up."""
    factors = in_training(student, dropout=RATE)
    dropped = (factors == 0).all(-1)
    share = dropped.double().mean().item()
    require(share > 0, "In training no attention weight is dropped: dropout goes after the softmax, before the mix.")
    require(0.1 < share < 0.3, f"dropout={RATE} drops about {RATE:.0%} of the attention weights; of yours {share:.0%}.")
    stayed = factors[~dropped]
    largest, smallest = stayed.max().item(), stayed[stayed != 0].min().item()
    require(largest - smallest < 1e-4, "In training, weights that stay must all be scaled up alike.")
    once = 1 / (1 - RATE)
    near = min(abs(largest - once), abs(largest - once**2))
    require(near < 1e-4, "Weights that are not dropped must be multiplied by 1 / (1 - dropout).")


@task("causal_self_attention", weight=1)
def test_layer_dropout_on_output(student):
    """In training each number of the output is dropped with the probability given, and the others are scaled up."""
    factors = in_training(student, dropout=RATE)
    stayed = factors[~(factors == 0).all(-1)]
    require(stayed.numel() > 0, "In training everything is dropped.")
    share = (stayed == 0).double().mean().item()
    require(share > 0, "In training no number of the output is dropped (dropout goes after c_proj as well).")
    require(0.1 < share < 0.3, f"With dropout={RATE} about {RATE:.0%} of the output is dropped; of yours {share:.0%}.")
    once = 1 / (1 - RATE)
    kept = stayed[stayed != 0]
    right = torch.minimum((kept - once).abs(), (kept - once**2).abs())
    require(bool((right < 1e-4).all()), "Outputs that are not dropped must be multiplied by 1 / (1 - dropout).")


@task("causal_self_attention", weight=2, needs="test_layer_values", examples=4)
@given(sizes(**LAYER_BOUNDS), SEEDS)
def test_layer_quiet(student, size, seed):
    """Outside training dropout does nothing and nothing is random; words and mask are left as they were."""
    heads, width, length = size["H"], size["H"] * size["D"], size["T"]
    weights = lively_weights(seed, width)
    x = values(seed, size["B"], length, width, scale=1.0)
    mask = boolean_mask(seed, size["B"], 1, length, length) | torch.eye(length, dtype=torch.bool)
    layer = build(student, weights, width, heads, dropout=0.5)
    for inputs in ((x,), (x, mask)):
        outcome = layer.observe(*inputs, inputs=True, randomness=True, seed=seed)
        if len(inputs) == 1:
            close(outcome.value, right_layer(weights, x, heads), what="the output in eval mode")
        untouched(outcome, *inputs)
    layer = build(student, weights, width, heads)
    layer.train()
    close(layer(x), right_layer(weights, x, heads), what="the output in training with dropout=0")


@task("causal_self_attention", weight=1, needs="test_layer_values")
def test_layer_dtype_and_device(student):
    """It runs in the data type and on the device of its weights, and for words that are not contiguous in memory."""
    heads, width = 2, 4
    weights = lively_weights(1, width)
    layer = build(student, weights, width, heads)
    for length in (1, 3):
        x = strided(values(length, 2, length, width, scale=1.0))
        right = right_layer(weights, x, heads)
        close(layer(x), right, what="the output")
    for dtype, rough in ((torch.float32, 1e-3), (torch.bfloat16, 0.2)):
        layer.to(dtype)
        assert_close(layer(x.to(dtype)), right.to(dtype), rtol=0.1, atol=rough)
    layer.to("meta")
    mask = torch.ones(2, 1, 3, 3, dtype=torch.bool)
    for inputs in (on_meta(x.to(dtype)), on_meta(x.to(dtype), mask)):
        assert_close(
            layer.observe(*inputs, strict_device=True).value, inputs[0], what="the output on the device `meta`"
        )


@task("causal_self_attention", weight=1, needs="test_layer_values")
def test_layer_any_length(student):
    """One word is enough, and no text is too long."""
    weights = {name: weight.float() for name, weight in lively_weights(8, 2).items()}
    layer = build(student, weights, 2, 1)
    layer.to(torch.float32)  # a table of 1030 x 1030 numbers takes 8 MB in float64
    for length in (1, 1030):
        x = values(length, 1, length, 2, scale=1.0, dtype=torch.float32)
        mine = layer(x)
        has_shape(mine, x)
        projected = x @ weights["c_attn.weight"].T + weights["c_attn.bias"]
        q, k, v = (split_by_slices(part, 1) for part in projected.chunk(3, -1))
        last = merge_by_slices(right_attention(q[:, :, -1:], k, v)) @ weights["c_proj.weight"].T
        last += weights["c_proj.bias"]
        assert_close(mine[:, -1:], last, rtol=1e-4, atol=1e-5, dtype=False, what=f"the last output of {length}")
