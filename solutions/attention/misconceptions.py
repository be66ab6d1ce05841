"""Known mistakes of `attention`, and honest other ways to write it.

Each misconception is the reference with one mistake; a few are whole other cells. The batteries ask fixed questions
whose answers tell all of a task's mistakes apart: sizes differ pairwise, and side effects are reported as values.

Rows 46 to 76 of the catalogue are all here but for these:
* 55, masked scores of -10: they lose points, but how much leaks differs from number to number; named are -20 and -10,000.
* 56, the slip -1e-9 for -1e9 answers as `fill_zero` does; its advice says so.
* 57, -1e9 overflows in float16, which no task asks for. What it does to a row of nothing is `fill_minus_billion`.
* 62, results in another order: each function returns one tensor. A pair is a mistake in either order.
"""

from __future__ import annotations

import math

import torch

from autograder.diagnosis import battery, change, honest, misconception
from autograder.errors import StudentError

INF = math.inf


def numbers(seed, *shape, scale=1.0):
    """Fixed float64 numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def body(source, text):
    """The reference's cell with the body of its last function (from BEGIN to END SOLUTION) replaced by `text`."""
    start = source.rindex("### BEGIN SOLUTION")
    end = source.rindex("### END SOLUTION")
    indent = " " * (start - source.rindex("\n", 0, start) - 1)
    lines = text.strip("\n").split("\n")
    return (
        source[: start - len(indent)]
        + "\n".join(indent + line if line else "" for line in lines)
        + "\n"
        + indent
        + source[end:]
    )


# --- simple_self_attention -------------------------------------------------------------------------------------------


@battery("simple_self_attention")
def simple_questions(ask):
    """One sentence, a batch, a batch of batches, gradients."""
    one, batch = numbers(1, 4, 3), numbers(2, 2, 5, 3)
    square = numbers(3, 3, 3)
    return [
        ask.simple_self_attention(one),
        ask.simple_self_attention(square),
        ask.simple_self_attention(batch),
        ask.simple_self_attention(numbers(4, 2, 3, 5, 4)),
        ask.observe("simple_self_attention", one, gradient=numbers(5, 4, 3)).gradients,
        ask.observe("simple_self_attention", one, inputs=True).inputs_after,
        ask.simple_self_attention(one.bfloat16()),
    ]


@misconception(
    task="simple_self_attention",
    advice="Leave the scale out: here the scores are the bare dot products. It comes in task 3.",
)
def simple_scaled(source):
    """The scores are divided by sqrt(C), but this first version has no scale."""
    return change(source, "x @ x.transpose(-2, -1)", "x @ x.transpose(-2, -1) / math.sqrt(x.shape[-1])")


@misconception(
    task="simple_self_attention",
    advice="Take the softmax over the last axis, `dim=-1`: each row, one word that looks, must sum to one.",
)
def simple_softmax_over_columns(source):
    """The softmax runs down the columns instead of along the rows (or the weights are transposed)."""
    return change(source, "torch.softmax(scores, dim=-1)", "torch.softmax(scores, dim=-2)")


@misconception(
    task="simple_self_attention",
    advice="Count the axes from the back, `dim=-1`: in a batch axis 1 is the words that look.",
)
def simple_dim_one(source):
    """The softmax runs over `dim=1`, which is the right axis only without a batch."""
    return change(source, "torch.softmax(scores, dim=-1)", "torch.softmax(scores, dim=1)")


@misconception(
    task="simple_self_attention",
    advice="Count the axes from the back, `dim=-2` and `dim=-1`; axis 0 is the batch as soon as there is one.",
)
def simple_dim_zero(source):
    """The softmax runs over `dim=0`, the first axis."""
    return change(source, "torch.softmax(scores, dim=-1)", "torch.softmax(scores, dim=0)")


@misconception(
    task="simple_self_attention",
    advice="Put the scores through a softmax, row by row, before you mix the words with them.",
)
def simple_no_softmax(source):
    """The words are mixed with the raw scores; the softmax is missing."""
    return change(source, "torch.softmax(scores, dim=-1)", "scores")


@misconception(
    task="simple_self_attention",
    advice="Softmax takes `exp` of the scores before it divides by the sum of the row.",
)
def simple_divided_by_sum(source):
    """The scores are divided by their sum, without `exp`."""
    return change(source, "torch.softmax(scores, dim=-1)", "scores / scores.sum(dim=-1, keepdim=True)")


@misconception(task="simple_self_attention", advice="Multiply the weights with the words: `weights @ x`.")
def simple_weights_returned(source):
    """The weights are returned; the words are not mixed with them."""
    return change(source, "return weights @ x  ", "return weights  ")


@misconception(
    task="simple_self_attention",
    advice="Swap only the last two axes: `x.transpose(-2, -1)`. `x.T` and `.t()` turn around all axes.",
)
def simple_only_two_axes(source):
    """It works for one sentence only: a batch fails."""
    return change(source, "x.transpose(-2, -1)", "x.t()")


@misconception(task="simple_self_attention", advice="Leave the diagonal in: a word looks at itself too.")
def simple_not_at_itself(source):
    """A word does not look at itself."""
    own = "torch.eye(x.shape[-2], dtype=torch.bool, device=x.device)"
    return change(source, "    weights =", f"    scores = scores.masked_fill({own}, -math.inf)\n    weights =")


@misconception(
    task="simple_self_attention",
    advice="Let gradients flow through the weights: no `.detach()`, `.data` or `torch.no_grad()`.",
)
def simple_detached(source):
    """The weights are cut off from the gradients."""
    return change(source, "weights @ x  ", "weights.detach() @ x  ")


@honest(task="simple_self_attention")
def simple_einsum(source):
    """By einsum."""
    return body(
        source,
        """
weights = F.softmax(torch.einsum("...ic,...jc->...ij", x, x), dim=-1)
return torch.einsum("...ij,...jc->...ic", weights, x)
""",
    )


@honest(task="simple_self_attention")
def simple_loop(source):
    """Word by word."""
    return body(
        source,
        """
outputs = []
for i in range(x.shape[-2]):
    word = x[..., i, :]
    scores = (x * word.unsqueeze(-2)).sum(-1)
    weights = scores.softmax(-1)
    outputs.append((weights.unsqueeze(-1) * x).sum(-2))
return torch.stack(outputs, dim=-2)
""",
    )


@honest(task="simple_self_attention")
def simple_by_mt(source):
    """With `mT` and `matmul`."""
    return change(source, "x @ x.transpose(-2, -1)", "torch.matmul(x, x.mT)")


# --- softmax ---------------------------------------------------------------------------------------------------------


@battery("softmax")
def softmax_questions(ask):
    """Every dim, large scores, -inf, gradients, side effects."""
    x = numbers(1, 3, 5)
    square = numbers(2, 4, 4)
    large = numbers(3, 3, 4) + torch.tensor([[3000.0], [0.0], [-3000.0]], dtype=torch.float64)
    holes = x.clone()
    holes[0, 2] = holes[2, 0] = -INF
    nothing = holes.clone()
    nothing[1] = -INF
    return [
        ask.softmax(x),
        ask.softmax(x, dim=0),
        ask.softmax(x, dim=1),
        ask.softmax(x, 0),
        ask.softmax(square),
        ask.softmax(square, dim=0),
        ask.softmax(numbers(4, 2, 3, 4), dim=1),
        ask.softmax(numbers(4, 2, 3, 4), dim=-2),
        ask.softmax(numbers(5, 6)),
        ask.softmax(large),
        ask.softmax(large.float()),
        ask.softmax(numbers(6, 3, 4) + 1000),
        ask.softmax(numbers(6, 3, 4) - 1000),
        ask.softmax(holes),
        ask.softmax(nothing),
        ask.softmax(torch.full((2, 3), -INF)),
        ask.observe("softmax", x, gradient=numbers(7, 3, 5)).gradients,
        ask.observe("softmax", nothing, gradient=numbers(7, 3, 5)).gradients,
        ask.observe("softmax", x, inputs=True).inputs_after,
        ask.observe("softmax", x, randomness=True).random_used,
        ask.softmax(x.bfloat16()),
        ask.softmax(x.float()),
        ask.observe("softmax", x.to("meta"), strict_device=True).value,
    ]


SAFE = "x - biggest)"


@misconception(
    task="softmax",
    advice="Subtract the maximum along `dim` before `exp`; it changes no share and keeps exp from overflowing.",
)
def softmax_unstable(source):
    """The maximum is not subtracted, so large scores overflow."""
    return change(source, SAFE, "x)")


@misconception(task="softmax", advice="Use `dim` in both places, the maximum and the sum, instead of -1.")
def softmax_dim_ignored(source):
    """The argument `dim` is ignored: the shares always sum to one over the last axis."""
    return change(source, "dim=dim", "dim=-1", count=2)


@misconception(task="softmax", advice="Sum along `dim`, as the maximum does.")
def softmax_sum_over_last(source):
    """The sum ignores `dim` and always runs over the last axis."""
    return change(source, "powers.sum(dim=dim", "powers.sum(dim=-1")


@misconception(
    task="softmax",
    advice="Subtract each slice's own maximum, `x.amax(dim=dim, keepdim=True)`: with one for all, slices far "
    "below it vanish.",
)
def softmax_global_maximum(source):
    """The maximum of the whole tensor is subtracted from every slice."""
    return change(source, "x.amax(dim=dim, keepdim=True)", "x.max()")


@misconception(task="softmax", advice="Sum along `dim` only, with `keepdim=True`.")
def softmax_global_sum(source):
    """The powers are divided by the sum over the whole tensor."""
    return change(source, "powers.sum(dim=dim, keepdim=True)", "powers.sum()")


@misconception(
    task="softmax",
    advice="Keep the axis, `keepdim=True`, in the maximum and in the sum, so that they line up with x.",
)
def softmax_keepdim_forgotten(source):
    """The maximum and the sum lose their axis, so that they meet the wrong entries, or none."""
    return change(source, ", keepdim=True", "", count=2)


@misconception(task="softmax", advice="Where a slice's maximum is -inf subtract 0, and where its sum is 0 divide by 1.")
def softmax_nan_row(source):
    """A slice that is all -inf gives NaN: -inf minus -inf, or 0 divided by 0."""
    return change(
        change(source, "    biggest = biggest.masked_fill(biggest == -math.inf, 0.0)\n", ""),
        ".masked_fill(total == 0, 1.0)",
        "",
    )


@misconception(
    task="softmax",
    advice="Do not let the NaN arise: subtract 0 where the maximum is -inf. `nan_to_num` hides it, but its "
    "gradient stays NaN.",
)
def softmax_nan_to_num(source):
    """The NaN of a slice that is all -inf is replaced afterwards, and comes back in the gradients."""
    source = change(source, "    biggest = biggest.masked_fill(biggest == -math.inf, 0.0)\n", "")
    return change(
        source, "return powers / total.masked_fill(total == 0, 1.0)", "return torch.nan_to_num(powers / total)"
    )


@misconception(
    task="softmax",
    advice="Leave -inf as it is, so that its share is exactly 0; a slice of nothing else gives zeros.",
)
def softmax_uniform_row(source):
    """-inf is replaced by a large negative number, so that a slice of nothing but -inf shares out evenly."""
    return change(source, "    biggest = x.amax", "    x = x.clamp(min=torch.finfo(x.dtype).min)\n    biggest = x.amax")


@misconception(task="softmax", advice="Divide by the sum as it is. Care is needed only where the sum is exactly 0.")
def softmax_big_epsilon(source):
    """A sizable number is added to the sum, so that the shares sum to less than one."""
    return change(source, "total.masked_fill(total == 0, 1.0)", "(total + 1e-3)")


@misconception(task="softmax", advice="Return the shares, not their logarithms: they are not negative and sum to one.")
def softmax_logarithm(source):
    """The logarithms of the shares are returned."""
    return change(source, "return powers / total.masked_fill(total == 0, 1.0)", "return x - biggest - torch.log(total)")


@misconception(task="softmax", advice="Divide by the sum along `dim`.")
def softmax_not_divided(source):
    """The powers are not divided by their sum: the largest share of each slice is 1."""
    return change(source, " / total.masked_fill(total == 0, 1.0)", "")


@misconception(
    task="softmax",
    advice="Give back the data type that came: no `.float()` on the way, or back to `x.dtype` at the end.",
)
def softmax_always_float32(source):
    """The result is always float32."""
    return change(source, "    biggest = x.amax", "    x = x.float()\n    biggest = x.amax")


@misconception(
    task="softmax",
    advice="Write `x - biggest`, which makes a new tensor, instead of `x -= biggest` or `x.sub_`.",
)
def softmax_input_changed(source):
    """The scores that were given are changed in place."""
    return change(source, "powers = torch.exp(x - biggest)", "x -= biggest\n    powers = torch.exp(x)")


@misconception(
    task="softmax",
    advice="Let gradients flow: no `.detach()`, `.data` or `torch.no_grad()` on the scores, the sum or the shares.",
)
def softmax_sum_detached(source):
    """The sum is cut off from the gradients."""
    return change(source, "total = powers.sum(", "total = powers.detach().sum(")


@misconception(task="softmax", advice="Use `torch.exp`, the powers of e.")
def softmax_base_two(source):
    """Powers of 2 are taken instead of powers of e."""
    return change(source, "torch.exp(", "torch.exp2(")


@misconception(task="softmax", advice="Take the exponent of x itself: exp(x - m), not exp(m - x).")
def softmax_sign(source):
    """The sign of the exponent is turned around, so that small scores get large shares."""
    return change(change(source, SAFE, "x.amin(dim=dim, keepdim=True) - x)"), "biggest == -math.inf", "biggest.isinf()")


@honest(task="softmax")
def softmax_max_values(source):
    """With `max(...).values`, detached, and torch.where."""
    return body(
        source,
        """
m = x.max(dim=dim, keepdim=True).values.detach()
m = torch.where(torch.isinf(m), torch.zeros_like(m), m)
e = (x - m).exp()
s = e.sum(dim, keepdim=True)
return e / torch.where(s == 0, torch.ones_like(s), s)
""",
    )


@honest(task="softmax")
def softmax_clamped_sum(source):
    """The sum is clamped from below (not at the smallest number there is: gradients divided by that overflow)."""
    return body(
        source,
        """
biggest = torch.amax(x, dim, keepdim=True).clamp(min=torch.finfo(x.dtype).min)
powers = torch.exp(x - biggest)
return powers / powers.sum(dim, keepdim=True).clamp(min=1e-30)
""",
    )


@honest(task="softmax")
def softmax_tiny_epsilon(source):
    """A tiny number in the denominator."""
    return body(
        source,
        """
biggest = x.amax(dim, keepdim=True)
biggest = torch.nan_to_num(biggest, neginf=0.0)
powers = torch.exp(x - biggest)
return powers / (powers.sum(dim, keepdim=True) + 1e-9)
""",
    )


@honest(task="softmax")
def softmax_in_float32(source):
    """Computed in float32 at least, returned as it came."""
    return body(
        source,
        """
kind = x.dtype
x = x.to(torch.promote_types(kind, torch.float32))
empty = (x == float("-inf")).all(dim, keepdim=True)
x = x.masked_fill(empty, 0.0)
powers = torch.exp(x - x.amax(dim, keepdim=True))
return (powers / powers.sum(dim, keepdim=True)).masked_fill(empty, 0.0).to(kind)
""",
    )


@honest(task="softmax")
def softmax_moved_axis(source):
    """The axis is moved to the end and back."""
    return body(
        source,
        """
moved = x.movedim(dim, -1)
top = moved.detach().amax(-1)[..., None]
top = top.masked_fill(top == float("-inf"), 0)
e = torch.e ** (moved - top)
total = e.sum(-1)[..., None]
return (e * torch.where(total > 0, 1 / total.masked_fill(total == 0, 1), 0)).movedim(-1, dim)
""",
    )


# --- attention_weights -----------------------------------------------------------------------------------------------

Q, K = numbers(1, 4, 6, scale=1.5), numbers(2, 5, 6, scale=1.5)
MASK = torch.tensor([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 0]], dtype=torch.bool)
EMPTY = MASK & torch.tensor([[True], [True], [False], [True]])
BATCH_Q, BATCH_K = numbers(3, 2, 3, 4, 6), numbers(4, 2, 3, 5, 6)


@battery("attention_weights")
def weights_questions(ask):
    """With and without masks, far scores, empty rows, gradients, side effects."""
    far_q, far_k = torch.full((2, 4), 100.0, dtype=torch.float64), torch.full((3, 4), -400.0, dtype=torch.float64)
    far_k[1] = 400.0
    far_mask = torch.tensor([[True, False, True]])
    per_sample = torch.stack([MASK, ~MASK | EMPTY])[:, None]
    close_k = torch.full((3, 4), -0.5, dtype=torch.float64)
    close_k[1] = 0.5
    cotangent = numbers(5, 4, 5)
    return [
        ask.attention_weights(Q, K),
        ask.attention_weights(numbers(6, 3, 3), numbers(7, 3, 3)),
        ask.attention_weights(numbers(6, 3, 64), numbers(7, 4, 64)),
        ask.attention_weights(Q, K, MASK),
        ask.attention_weights(Q, K, mask=EMPTY),
        ask.attention_weights(Q, K, MASK[0]),
        ask.attention_weights(Q, K, MASK[:, :1]),
        ask.attention_weights(far_q, far_k, far_mask),
        ask.attention_weights(far_q / 20, far_k / 20, far_mask),
        ask.attention_weights(far_q / 200, close_k, far_mask),
        ask.attention_weights(BATCH_Q, BATCH_K),
        ask.attention_weights(BATCH_Q, BATCH_K, per_sample),
        ask.attention_weights(BATCH_Q[0], BATCH_K[0], MASK),
        ask.observe("attention_weights", Q, K, gradient=cotangent).gradients,
        ask.observe("attention_weights", Q, K, EMPTY, gradient=cotangent).gradients,
        ask.observe("attention_weights", Q, K, EMPTY, inputs=True).inputs_after,
        ask.attention_weights(Q.float(), K.float(), EMPTY),
        ask.observe("attention_weights", Q.to("meta"), K.to("meta"), EMPTY.to("meta"), strict_device=True).value,
    ]


SCALE = " / math.sqrt(q.shape[-1])"
FILL = "scores.masked_fill(~mask, -math.inf)"
LAST = "return softmax(scores, dim=-1)  "
GIVEN = "    if mask is not None:\n"


@misconception(task="attention_weights", advice="Divide the scores by sqrt(D) before the softmax; D is `q.shape[-1]`.")
def unscaled(source):
    """The scores are not scaled."""
    return change(source, SCALE, "")


@misconception(
    task="attention_weights",
    advice="Divide by sqrt(D) instead of multiplying: large scores should become smaller.",
)
def multiplied_by_root(source):
    """The scores are multiplied by sqrt(D)."""
    return change(source, SCALE, " * math.sqrt(q.shape[-1])")


@misconception(task="attention_weights", advice="Take the square root: divide by sqrt(D), not by D.")
def divided_by_width(source):
    """The scores are divided by D instead of sqrt(D)."""
    return change(source, SCALE, " / q.shape[-1]")


@misconception(
    task="attention_weights",
    advice="Take the width from the last axis, `q.shape[-1]`: with a batch in front, axis 1 is something else.",
)
def width_from_axis_one(source):
    """The width for the scale is read from axis 1, which is right only without a batch."""
    return change(source, SCALE, " / math.sqrt(q.shape[1])")


@misconception(
    task="attention_weights",
    advice="Use the width of a key, `q.shape[-1]`; the number of keys has nothing to do with the scale.",
)
def root_of_keys(source):
    """The scores are divided by the square root of the number of keys."""
    return change(source, SCALE, " / math.sqrt(k.shape[-2])")


@misconception(
    task="attention_weights",
    advice="Use the width of a query, `q.shape[-1]`; the number of queries has nothing to do with the scale.",
)
def root_of_queries(source):
    """The scores are divided by the square root of the number of queries."""
    return change(source, SCALE, " / math.sqrt(q.shape[-2])")


@misconception(task="attention_weights", advice="Take the width from the input: `math.sqrt(q.shape[-1])`.")
def fixed_scale(source):
    """The scores are always divided by 8, the scale of GPT-2's heads of 64."""
    return change(source, SCALE, " / 8")


@misconception(
    task="attention_weights",
    advice="Take the width from the input: `math.sqrt(q.shape[-1])`; 2 is right only for D = 4.",
)
def scale_of_example(source):
    """The scores are always divided by 2, as in the worked example."""
    return change(source, SCALE, " / 2")


@misconception(
    task="attention_weights",
    advice="Scale the scores before the softmax; afterwards the rows no longer sum to one.",
)
def scaled_after_softmax(source):
    """The scale comes after the softmax."""
    return change(change(source, SCALE, ""), LAST, "return softmax(scores, dim=-1) / math.sqrt(q.shape[-1])  ")


@misconception(
    task="attention_weights",
    advice="Take the softmax over the keys, the last axis: each query's row must sum to one.",
)
def softmax_over_queries(source):
    """The softmax runs over the queries instead of the keys."""
    return change(source, LAST, "return softmax(scores, dim=-2)  ")


@misconception(
    task="attention_weights",
    advice="Mask the scores with -inf before the softmax; afterwards the visible weights no longer sum to one.",
)
def mask_after_softmax(source):
    """The mask comes after the softmax."""
    source = change(
        source,
        GIVEN + "        scores = " + FILL,
        "    weights = softmax(scores, dim=-1)\n" + GIVEN + "        weights = weights * mask",
    )
    return change(source, LAST, "return weights  ")


@misconception(
    task="attention_weights",
    advice="Fill with -inf: against scores that are as low themselves, -10,000 hides nothing.",
)
def fill_minus_ten_thousand(source):
    """Masked scores are set to -10,000, which leaks and makes a fully masked row even."""
    return change(source, "-math.inf", "-1e4")


@misconception(task="attention_weights", advice="Fill with -inf: with -20 a masked key keeps a small weight.")
def fill_minus_twenty(source):
    """Masked scores are set to -20, so that masked keys keep some weight."""
    return change(source, "-math.inf", "-20.0")


@misconception(
    task="attention_weights",
    advice="Fill with -inf and let your softmax make a row of nothing but -inf zero.",
)
def fill_minus_billion(source):
    """Masked scores are set to a huge negative number, so that a fully masked row is shared out evenly."""
    return change(source, "-math.inf", "-1e9")


@misconception(
    task="attention_weights",
    advice="A score of 0 still gets exp(0) = 1, and -1e-9 is nearly 0. Fill with -inf, before the softmax.",
)
def fill_zero(source):
    """Masked scores are set to 0 or nearly 0, and still get a share."""
    return change(source, FILL, "scores * mask")


@misconception(
    task="attention_weights",
    advice="Use `masked_fill`: 0 times -inf is NaN, so multiplying a mask by -inf ruins what may be seen.",
)
def mask_times_infinity(source):
    """The mask is multiplied by -inf and added, and 0 times -inf makes every visible score NaN."""
    return change(source, FILL, "scores + ~mask * -math.inf")


@misconception(
    task="attention_weights",
    advice="A masked key needs -inf; adding the mask only adds 1 to the visible scores.",
)
def mask_added(source):
    """The mask is added to the scores as numbers 0 and 1."""
    return change(source, FILL, "scores + mask")


@misconception(
    task="attention_weights",
    advice="True means may look, and `masked_fill` fills where its condition is True: use `~mask`.",
)
def mask_inverted(source):
    """The mask is turned around: True hides."""
    return change(source, "~mask", "mask")


@misconception(task="attention_weights", advice="Apply the mask to the scores, before the softmax.")
def mask_ignored(source):
    """The mask is ignored."""
    return change(source, FILL, "scores")


@misconception(
    task="attention_weights",
    advice="Use your own softmax, which gives zeros for a row that is all -inf, or put zeros there yourself.",
)
def nan_without_keys(source):
    """A query that may attend to nothing gets NaN."""
    return change(source, LAST, "return torch.softmax(scores, dim=-1)  ")


@misconception(
    task="attention_weights",
    advice="Do not let the NaN arise in the softmax; replaced afterwards it comes back in the gradients.",
)
def nan_in_gradients(source):
    """The NaN of a fully masked row is replaced afterwards, and comes back in the gradients."""
    source = change(source, FILL, "scores + torch.zeros_like(scores).masked_fill(~mask, -math.inf)")
    return change(source, LAST, "return torch.nan_to_num(torch.softmax(scores, dim=-1))  ")


@misconception(
    task="attention_weights",
    advice="Let gradients flow through the scores: no `.detach()`, `.data` or `torch.no_grad()`.",
)
def weights_detached(source):
    """The weights are cut off from the gradients, so that queries and keys learn nothing."""
    return change(source, LAST, "return softmax(scores.detach(), dim=-1)  ")


@misconception(
    task="attention_weights",
    advice="Let gradients flow to the keys as well as to the queries: no `.detach()` or `.data` on `k`.",
)
def keys_detached(source):
    """The keys are cut off from the gradients."""
    return change(source, "k.transpose(-2, -1)", "k.detach().transpose(-2, -1)")


@misconception(
    task="attention_weights",
    advice="Scale a copy: `q / math.sqrt(D)` or the scores, not `q /= …` or `q.div_`.",
)
def queries_changed(source):
    """The queries that were given are scaled in place."""
    return change(
        source,
        "    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])",
        "    root = math.sqrt(q.shape[-1])\n    scores = q @ k.transpose(-2, -1) / root\n    q.data.div_(root)",
    )


@misconception(
    task="attention_weights",
    advice="Work on a copy of the mask: `~mask` or `mask.logical_not()`, not `logical_not_()`.",
)
def mask_changed(source):
    """The mask that was given is turned around in place."""
    return change(source, "~mask", "mask.logical_not_()")


@misconception(
    task="attention_weights",
    advice="Count the axes from the back: `k.transpose(-2, -1)` and `@` work with any number of leading dimensions.",
)
def only_three_axes(source):
    """It works for inputs of exactly three axes only."""
    return change(source, "q @ k.transpose(-2, -1)", "torch.bmm(q, k.transpose(1, 2))")


@misconception(
    task="attention_weights",
    advice="Swap the last two axes of `k`, `transpose(-2, -1)`: axes 0 and 1 are others as soon as there is a batch.",
)
def only_two_axes(source):
    """It works without leading dimensions only."""
    return change(source, "k.transpose(-2, -1)", "k.t()")


@misconception(task="attention_weights", advice="Apply the softmax once, at the end.")
def softmax_twice(source):
    """The softmax is applied twice."""
    return change(source, LAST, "return softmax(softmax(scores, dim=-1), dim=-1)  ")


@misconception(
    task="attention_weights",
    advice="Each query's own row goes through the softmax: `softmax(scores, dim=-1)`.",
)
def softmax_missing(source):
    """The scaled scores are returned; the softmax is missing."""
    return change(source, LAST, "return scores  ")


@misconception(
    task="attention_weights",
    advice="Keep float64 (and bfloat16) as it is; if you compute in float32, give back `q.dtype` at the end.",
)
def weights_float32(source):
    """The weights are always float32."""
    return change(source, LAST, "return softmax(scores.float(), dim=-1)  ")


@honest(task="attention_weights")
def with_einsum(source):
    """Scores by einsum, queries scaled before."""
    return body(
        source,
        """
scores = torch.einsum("...td,...sd->...ts", q * q.size(-1) ** -0.5, k)
if mask is not None:
    scores = torch.where(mask, scores, float("-inf"))
return softmax(scores)
""",
    )


@honest(task="attention_weights")
def additive_mask(source):
    """An additive mask of 0 and -inf."""
    return body(
        source,
        """
scores = torch.matmul(q, k.mT) / q.shape[-1] ** 0.5
if mask is not None:
    bias = torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device)
    scores = scores + bias.masked_fill(mask.logical_not(), float("-inf"))
return softmax(scores, dim=-1)
""",
    )


@honest(task="attention_weights")
def torch_softmax_and_zeroed_rows(source):
    """torch's softmax, and rows without keys set to zero by where."""
    return body(
        source,
        """
scores = (q @ k.transpose(-1, -2)) / torch.sqrt(torch.tensor(q.shape[-1], dtype=q.dtype))
if mask is None:
    return scores.softmax(-1)
anything = mask.any(dim=-1, keepdim=True)
scores = scores.masked_fill(~mask & anything, float("-inf"))
return scores.softmax(-1) * anything
""",
    )


@honest(task="attention_weights")
def nan_to_num_behind_masked_fill(source):
    """torch's softmax and nan_to_num: masked_fill keeps the NaN out of the gradients."""
    return body(
        source,
        """
scores = q @ k.transpose(-2, -1) / math.sqrt(k.shape[-1])
if mask is not None:
    scores = scores.masked_fill(mask == False, float("-inf"))
return F.softmax(scores, dim=-1).nan_to_num(0.0)
""",
    )


@honest(task="attention_weights")
def least_number_and_zeros(source):
    """The least number of the type, and exact zeros by a second mask."""
    return body(
        source,
        """
scores = q @ k.transpose(-2, -1) * (1.0 / math.sqrt(q.shape[-1]))
if mask is None:
    return softmax(scores)
hidden = torch.logical_not(mask)
weights = torch.softmax(scores.masked_fill(hidden, torch.finfo(scores.dtype).min), dim=-1)
return weights.masked_fill(hidden, 0.0)
""",
    )


@honest(task="attention_weights")
def softmax_in_single_precision(source):
    """The softmax in float32, as some libraries do it."""
    return body(
        source,
        """
scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.shape[-1])
if mask is not None:
    scores = scores.masked_fill(~mask, float("-inf"))
return softmax(scores.float(), dim=-1).type_as(q)
""",
    )


# --- scaled_dot_product_attention ------------------------------------------------------------------------------------

V = numbers(8, 5, 3)


@battery("scaled_dot_product_attention")
def attention_questions(ask):
    """Different sizes, square ones, masks, gradients, side effects."""
    square = [numbers(n, 3, 3) for n in (10, 11, 12)]
    batch = [BATCH_Q, BATCH_K, numbers(13, 2, 3, 5, 7)]
    cotangent = numbers(14, 4, 3)
    return [
        ask.scaled_dot_product_attention(Q, K, V),
        ask.scaled_dot_product_attention(*square),
        ask.scaled_dot_product_attention(Q, K, V, MASK),
        ask.scaled_dot_product_attention(Q, K, V, mask=EMPTY),
        ask.scaled_dot_product_attention(Q, K, V, MASK[1]),
        ask.scaled_dot_product_attention(*batch),
        ask.scaled_dot_product_attention(*batch, MASK),
        ask.observe("scaled_dot_product_attention", Q, K, V, gradient=cotangent).gradients,
        ask.observe("scaled_dot_product_attention", Q, K, V, EMPTY, gradient=cotangent).gradients,
        ask.observe("scaled_dot_product_attention", Q, K, V, EMPTY, inputs=True).inputs_after,
        ask.scaled_dot_product_attention(Q.float(), K.float(), V.float()),
    ]


CALL = "attention_weights(q, k, mask)"
MIX = "return weights @ v  "


@misconception(task="scaled_dot_product_attention", advice="Multiply the weights with the values: `weights @ v`.")
def weights_returned(source):
    """The weights are returned; the values are not mixed."""
    return change(source, MIX, "return weights  ")


@misconception(task="scaled_dot_product_attention", advice="Mix the values with the weights: `weights @ v`.")
def values_returned(source):
    """The values are returned as they came."""
    return change(source, MIX, "return v  ")


@misconception(task="scaled_dot_product_attention", advice="Return one tensor, the mixed values.")
def output_and_weights(source):
    """A pair, the result and the weights, is returned."""
    return change(source, "return weights @ v", "return weights @ v, weights")


@misconception(task="scaled_dot_product_attention", advice="Return one tensor, the mixed values.")
def weights_and_output(source):
    """A pair, the weights and the result, is returned."""
    return change(source, "return weights @ v", "return weights, weights @ v")


@misconception(task="scaled_dot_product_attention", advice="Hand the mask on: `attention_weights(q, k, mask)`.")
def mask_not_handed_on(source):
    """The mask is not handed on to the weights."""
    return change(source, CALL, "attention_weights(q, k)")


@misconception(
    task="scaled_dot_product_attention",
    advice="Hand the mask on as it is: True means may look here as well as there.",
)
def mask_handed_on_inverted(source):
    """The mask is turned around when it is handed on."""
    return change(source, CALL, "attention_weights(q, k, None if mask is None else ~mask)")


@misconception(
    task="scaled_dot_product_attention",
    advice="Hand the mask to `attention_weights`, so that it works before the softmax.",
)
def mask_on_the_weights(source):
    """The mask is multiplied to the finished weights, after the softmax."""
    return change(
        change(source, CALL, "attention_weights(q, k)"),
        "return weights @ v",
        "weights = weights if mask is None else weights * mask\n    return weights @ v",
    )


@misconception(
    task="scaled_dot_product_attention",
    advice="Keep the order `weights @ v`; row t of the weights belongs to query t.",
)
def weights_transposed(source):
    """The weights are transposed before they meet the values."""
    return change(source, MIX, "return weights.transpose(-2, -1) @ v  ")


@misconception(
    task="scaled_dot_product_attention",
    advice="Queries look for keys: `attention_weights(q, k, mask)` in this order.",
)
def queries_and_keys_swapped(source):
    """Queries and keys are swapped."""
    return change(source, CALL, "attention_weights(k, q, mask)")


@misconception(
    task="scaled_dot_product_attention",
    advice="Mix the values `v`, not the keys: a word is found by its key and hands over its value.",
)
def keys_mixed(source):
    """The keys are mixed instead of the values."""
    return change(source, MIX, "return weights @ k  ")


@misconception(
    task="scaled_dot_product_attention",
    advice="`attention_weights` has scaled the scores already; do not divide again.",
)
def scaled_twice(source):
    """The scale is applied twice."""
    return change(source, CALL, "attention_weights(q / math.sqrt(q.shape[-1]), k, mask)")


@misconception(
    task="scaled_dot_product_attention",
    advice="`attention_weights` gives shares already; no second softmax.",
)
def softmax_once_more(source):
    """A second softmax is taken over weights that are shares already."""
    return change(source, MIX, "return torch.softmax(weights, dim=-1) @ v  ")


@misconception(
    task="scaled_dot_product_attention",
    advice="Let gradients flow through the weights: no `.detach()`, `.data` or `torch.no_grad()`.",
)
def attention_detached(source):
    """The weights are cut off from the gradients: only the values learn."""
    return change(source, "weights @ v", "weights.detach() @ v")


@misconception(
    task="scaled_dot_product_attention",
    advice="Leave the values as they are; hidden ones get the weight 0 anyway.",
)
def values_changed(source):
    """The values that were given are changed in place."""
    return change(source, "    return weights @ v", "    result = weights @ v\n    v.data.mul_(0.5)\n    return result")


@misconception(
    task="scaled_dot_product_attention",
    advice="The weights of a query sum to 1 already: `weights @ v` is the mean. Do not divide by the number of keys.",
)
def divided_by_keys(source):
    """The mixed values are averaged once more, divided by the number of keys."""
    return change(source, "weights @ v", "weights @ v / v.shape[-2]")


@honest(task="scaled_dot_product_attention")
def attention_einsum(source):
    """By einsum."""
    return body(source, 'return torch.einsum("...ts,...se->...te", attention_weights(q, k, mask=mask), v)')


@honest(task="scaled_dot_product_attention")
def attention_self_contained(source):
    """All in one, without the earlier tasks."""
    return body(
        source,
        """
scale_factor = 1 / math.sqrt(q.size(-1))
attn_bias = torch.zeros(q.size(-2), k.size(-2), dtype=q.dtype, device=q.device)
scores = q @ k.transpose(-2, -1) * scale_factor + attn_bias
if mask is not None:
    mask = mask.expand(scores.shape)
    empty = ~mask.any(-1, keepdim=True)
    scores = scores.masked_fill(~mask & ~empty, float("-inf"))
weights = torch.softmax(scores, dim=-1)
if mask is not None:
    weights = weights.masked_fill(empty, 0.0)
return weights @ v
""",
    )


@honest(task="scaled_dot_product_attention")
def attention_broadcast_sum(source):
    """By broadcasting and a sum."""
    return body(
        source,
        """
weights = attention_weights(q, k, mask)
return (weights.unsqueeze(-1) * v.unsqueeze(-3)).sum(-2)
""",
    )


# --- causal_mask -----------------------------------------------------------------------------------------------------


@battery("causal_mask")
def causal_questions(ask):
    """Square, wide, tall, one query, devices."""
    return [
        ask.causal_mask(4),
        ask.causal_mask(3, 5),
        ask.causal_mask(5, 3),
        ask.causal_mask(1, 4),
        ask.causal_mask(1),
        ask.causal_mask(4, 4),
        ask.causal_mask(T=2, S=6),
        ask.causal_mask(3, device="meta"),
        ask.causal_mask(2, 3, device="meta"),
        ask.causal_mask(70),
    ]


TRIL = "everyone.tril(diagonal=S - T)"


@misconception(
    task="causal_mask",
    advice="True means may look: the lower triangle is True. Turn the mask around with `~`.",
)
def causal_inverted(source):
    """The mask is turned around: True stands where looking is forbidden."""
    return change(source, TRIL, "~everyone.tril(diagonal=S - T)")


@misconception(
    task="causal_mask",
    advice="Use the lower triangle, `tril`: query t sees the keys before it, not those after it.",
)
def causal_upper(source):
    """The upper triangle is taken: each query sees itself and the future."""
    return change(source, TRIL, "everyone.triu(diagonal=S - T)")


@misconception(task="causal_mask", advice="Let the diagonal be True, `s <= t + S - T`: a query sees itself.")
def causal_not_itself(source):
    """A query does not see itself: the triangle is one step too narrow."""
    return change(source, "diagonal=S - T", "diagonal=S - T - 1")


@misconception(
    task="causal_mask",
    advice="End at the diagonal, `s <= t + S - T`: one step further is the word to be guessed.",
)
def causal_sees_next(source):
    """A query sees the next word: the triangle is one step too wide."""
    return change(source, "diagonal=S - T", "diagonal=S - T + 1")


@misconception(
    task="causal_mask",
    advice="Shift the diagonal by S - T: the last query stands at the last key, and the first S - T keys are the past.",
)
def causal_past_forgotten(source):
    """With S > T the past is forgotten: the first query is put at the first key."""
    return change(source, "tril(diagonal=S - T)", "tril()")


@misconception(task="causal_mask", advice="Shift the diagonal by S - T, not T - S: more keys mean more to see.")
def causal_shifted_backwards(source):
    """The diagonal is shifted the wrong way."""
    return change(source, "diagonal=S - T", "diagonal=T - S")


@misconception(task="causal_mask", advice="Make the mask `(T, S)`: one column for each key.")
def causal_always_square(source):
    """S is ignored: the mask is always square."""
    return change(source, "    if S is None:\n        S = T", "    S = T")


@misconception(task="causal_mask", advice="Let S default to T: `if S is None: S = T`.")
def causal_no_default(source):
    """S has no default: without it the function fails."""
    return change(source, "    if S is None:\n        S = T\n", "")


@misconception(task="causal_mask", advice="Make one row for each query and one column for each key: `(T, S)`.")
def causal_shape_swapped(source):
    """Rows and columns are swapped: a row for each key, so that the mask is (S, T)."""
    return change(source, TRIL, "everyone.tril(diagonal=S - T).transpose(0, 1)")


@misconception(
    task="causal_mask",
    advice="Use the same formula for S < T, `s <= t + S - T`: the first queries then see nothing.",
)
def causal_clamped(source):
    """With fewer keys than queries the shift is cut off at 0."""
    return change(source, "diagonal=S - T", "diagonal=max(S - T, 0)")


@misconception(task="causal_mask", advice="Give booleans: `dtype=torch.bool`.")
def causal_numbers(source):
    """The mask holds the numbers 0 and 1 instead of booleans."""
    return change(source, "torch.ones(T, S, dtype=torch.bool, device=device)", "torch.ones(T, S, device=device)")


@misconception(
    task="causal_mask",
    advice="Give booleans, True = may look; turning them into -inf is the business of `attention_weights`.",
)
def causal_additive(source):
    """The mask holds 0 and -inf, to be added, instead of booleans."""
    return change(source, TRIL, "torch.zeros(T, S, device=device).masked_fill(~" + TRIL + ", -math.inf)")


@misconception(
    task="causal_mask",
    advice="Hand `device` on to whatever creates the tensor: `torch.ones(..., device=device)`.",
)
def causal_device_ignored(source):
    """The argument `device` is ignored."""
    return change(source, ", device=device)", ")")


@misconception(task="causal_mask", advice="Return `(T, S)` without further axes; they broadcast by themselves.")
def causal_more_axes(source):
    """The mask has two axes too many, (1, 1, T, S)."""
    return change(source, TRIL, "everyone.tril(diagonal=S - T)[None, None]")


@misconception(
    task="causal_mask",
    advice="Build the mask for the T and S that are asked for; do not cut it out of one of a fixed size.",
)
def causal_fixed_size(source):
    """The mask is cut from one of a fixed size, so that longer texts get too small a mask."""
    source = change(source, "torch.ones(T, S, dtype", "torch.ones(64, 64, dtype")
    return change(source, TRIL, "everyone.tril(diagonal=S - T)[:T, :S]")


@misconception(task="causal_mask", advice="Use a triangle: all keys up to and including the query's own place.")
def causal_only_itself(source):
    """Each query sees itself only."""
    return change(source, TRIL, "everyone.tril(diagonal=S - T).triu(diagonal=S - T)")


@honest(task="causal_mask")
def causal_compared(source):
    """By comparing numbers of queries and keys."""
    return body(
        source,
        """
S = T if S is None else S
queries = torch.arange(T, device=device)[:, None]
keys = torch.arange(S, device=device)[None, :]
return keys <= queries + (S - T)
""",
    )


@honest(task="causal_mask")
def causal_by_triu(source):
    """By the upper triangle, turned around."""
    return body(
        source,
        """
if S is None:
    S = T
return torch.triu(torch.ones((T, S), device=device), diagonal=S - T + 1) == 0
""",
    )


@honest(task="causal_mask")
def causal_from_rows(source):
    """From the last rows of a bigger triangle."""
    return body(
        source,
        """
if S is None:
    S = T
if S >= T:
    return torch.tril(torch.ones(S, S, dtype=torch.bool, device=device))[S - T:]
rows = torch.zeros(T - S, S, dtype=torch.bool, device=device)
return torch.cat([rows, torch.tril(torch.ones(S, S, dtype=torch.bool, device=device))])
""",
    )


@honest(task="causal_mask")
def causal_list(source):
    """From a list of lists."""
    return body(
        source,
        """
S = S or T
return torch.tensor([[s <= t + S - T for s in range(S)] for t in range(T)], device=device)
""",
    )


# --- padding_mask ----------------------------------------------------------------------------------------------------


@battery("padding_mask")
def padding_questions(ask):
    """Short, empty and full sentences, devices, side effects."""
    lengths = torch.tensor([3, 1, 4])
    return [
        ask.padding_mask(lengths, 6),
        ask.padding_mask(torch.tensor([0, 5]), 5),
        ask.padding_mask(torch.tensor([2]), 3),
        ask.padding_mask(torch.tensor([1, 2, 3]), 3),
        ask.padding_mask(lengths.int(), 6),
        ask.observe("padding_mask", lengths.to("meta"), 6, strict_device=True).value,
        ask.observe("padding_mask", lengths, 6, inputs=True).inputs_after,
    ]


COMPARE = "positions < lengths[:, None]"


@misconception(task="padding_mask", advice="True means may look: real positions are True, filler is False.")
def padding_inverted(source):
    """The mask is turned around: True stands for the filler."""
    return change(source, COMPARE, "positions >= lengths[:, None]")


@misconception(
    task="padding_mask",
    advice="Positions count from 0: a sentence of 3 words has the positions 0, 1, 2, so compare with `<`.",
)
def padding_one_more(source):
    """One position of filler counts as real."""
    return change(source, COMPARE, "positions <= lengths[:, None]")


@misconception(
    task="padding_mask",
    advice="Count the positions from 0, `torch.arange(T)`: as it is, the last real word is hidden.",
)
def padding_one_less(source):
    """The last word of each sentence counts as filler."""
    return change(source, COMPARE, "positions + 1 < lengths[:, None]")


@misconception(
    task="padding_mask",
    advice="Add the two axes of size 1: `(B, 1, 1, T)`. Without them it does not line up with `(B, H, T, T)`.",
)
def padding_two_axes(source):
    """The mask has the shape (B, T); the axes for heads and queries are missing."""
    return change(source, "real[:, None, None, :]", "real")


@misconception(task="padding_mask", advice="Add two axes of size 1, for the heads and for the queries: `(B, 1, 1, T)`.")
def padding_three_axes(source):
    """The mask has the shape (B, 1, T); one axis is missing."""
    return change(source, "real[:, None, None, :]", "real[:, None, :]")


@misconception(
    task="padding_mask",
    advice="Put the positions last, `(B, 1, 1, T)`: the last axis is the keys, and it is keys that are hidden.",
)
def padding_queries_hidden(source):
    """The positions stand on the axis of the queries, (B, 1, T, 1), so that queries are hidden instead of keys."""
    return change(source, "real[:, None, None, :]", "real[:, None, :, None]")


@misconception(task="padding_mask", advice="Make the positions up to T, the width that is asked for.")
def padding_width_ignored(source):
    """T is ignored: the mask is as wide as the longest sentence."""
    return change(source, "torch.arange(T,", "torch.arange(lengths.max(),")


@misconception(task="padding_mask", advice="The filler stands at the end: position s is real where `s < length`.")
def padding_at_the_front(source):
    """The filler is taken to stand at the front."""
    return change(source, COMPARE, "positions >= T - lengths[:, None]")


@misconception(task="padding_mask", advice="Give booleans; no `.int()` or `.float()`.")
def padding_numbers(source):
    """The mask holds numbers instead of booleans."""
    return change(source, "return real[:, None, None, :]", "return real[:, None, None, :].float()")


@misconception(
    task="padding_mask",
    advice="Make the positions where the lengths are: `torch.arange(T, device=lengths.device)`.",
)
def padding_device_ignored(source):
    """The mask is always made on the CPU."""
    return change(source, "torch.arange(T, device=lengths.device)", "torch.arange(T)")


@misconception(task="padding_mask", advice="Compare with each sentence's own length, `lengths[:, None]`.")
def padding_longest_for_all(source):
    """Every sentence gets the length of the longest."""
    return change(source, COMPARE, "(positions < lengths.max()).expand(len(lengths), T)")


@honest(task="padding_mask")
def padding_reshaped(source):
    """By view and unsqueeze."""
    return body(
        source,
        """
steps = torch.arange(T).to(lengths.device)
return (steps.view(1, T) < lengths.unsqueeze(1)).unsqueeze(1).unsqueeze(2)
""",
    )


@honest(task="padding_mask")
def padding_four_axes_at_once(source):
    """Compared in four axes at once, on int64."""
    return body(
        source,
        """
return lengths.long().reshape(-1, 1, 1, 1) > torch.arange(T, device=lengths.device)[None, None, None]
""",
    )


@honest(task="padding_mask")
def padding_by_sums(source):
    """By running sums of ones."""
    return body(
        source,
        """
B = lengths.shape[0]
places = torch.ones(B, T, dtype=torch.int64, device=lengths.device).cumsum(1)
return torch.le(places, lengths.view(B, 1)).view(B, 1, 1, T)
""",
    )


# --- heads -----------------------------------------------------------------------------------------------------------


@battery("heads")
def heads_questions(ask):
    """Splitting, merging, refusals, layouts, gradients."""
    words, heads = torch.arange(2 * 3 * 20).reshape(2, 3, 20), torch.arange(2 * 4 * 3 * 5).reshape(2, 4, 3, 5)
    strided = numbers(1, 2, 12, 3).transpose(1, 2)
    return [
        ask.split_heads(words, 4),
        ask.split_heads(words, 5),
        ask.split_heads(words, 1),
        ask.split_heads(words, 20),
        ask.merge_heads(heads),
        ask.merge_heads(heads[:, :1]),
        ask.merge_heads(heads.double()),
        ask.split_heads(words, 3),
        ask.split_heads(words[..., :3], 4),
        ask.split_heads(strided, 4),
        ask.merge_heads(numbers(2, 2, 5, 3, 4).transpose(1, 2)),
        ask.observe("split_heads", words.double(), 4, gradient="sum").gradients,
        ask.observe("merge_heads", heads.double(), gradient="sum").gradients,
        refusal(ask, words),
    ]


def refusal(ask, words):
    """Whether the refusal shows a number: its text is no answer, so it is asked of the exception behind `ask`."""
    if ask.late:  # it has run out of time or memory, and would again
        return None
    try:
        ask.target.split_heads(words, 3)
    except StudentError as error:
        return "20" in error.text or "3" in error.text
    return None


CUT = "x.reshape(B, T, n_heads, C // n_heads)"
JOIN = "x.transpose(1, 2).reshape(B, T, H * D)"
REFUSE = """    if C % n_heads != 0:
        raise ValueError(f"{C} channels cannot be cut into {n_heads} equal heads")
"""


@misconception(
    task="heads",
    advice="First cut the last axis, `(B, T, H, D)`, then move the heads forward with `transpose(1, 2)`.",
)
def heads_one_view(source):
    """The words are split by one view, without a transpose: heads get the wrong words."""
    return change(
        change(source, CUT, "x.reshape(B, n_heads, T, C // n_heads)"), "return x.transpose(1, 2)  ", "return x  "
    )


@misconception(
    task="heads",
    advice="Move the words in front again, `transpose(1, 2)`, before you join the last two axes.",
)
def merge_without_transpose(source):
    """The heads are merged without moving them back."""
    return change(source, JOIN, "x.reshape(B, T, H * D)")


@misconception(
    task="heads",
    advice="Cut first, then `transpose(1, 2)`; and to merge, `transpose(1, 2)` first, then join. Renaming axes "
    "moves nothing.",
)
def heads_both_by_view(source):
    """Splitting and merging are both one view: each undoes the other, but heads get the wrong words."""
    return change(heads_one_view.apply(source), JOIN, "x.reshape(B, T, H * D)")


@misconception(
    task="heads",
    advice="Cut the last axis into `(n_heads, C // n_heads)`, heads first: a head's channels stand next to each other.",
)
def heads_interleaved(source):
    """The heads are interleaved: head h gets every H-th channel."""
    source = change(source, CUT, "x.reshape(B, T, C // n_heads, n_heads)")
    source = change(source, "return x.transpose(1, 2)  ", "return x.permute(0, 3, 1, 2)  ")
    return change(source, JOIN, "x.permute(0, 2, 3, 1).reshape(B, T, H * D)")


@misconception(
    task="heads",
    advice="Join as `(H, D)`, heads first, the way they were cut: `x.transpose(1, 2).reshape(B, T, H * D)`.",
)
def merge_interleaved(source):
    """The heads are merged channel by channel, interleaved."""
    return change(source, JOIN, "x.permute(0, 2, 3, 1).reshape(B, T, H * D)")


@misconception(task="heads", advice="Lay the heads side by side; no mean, no sum: all C numbers must survive.")
def heads_averaged(source):
    """The heads are averaged instead of laid side by side."""
    return change(source, JOIN, "x.mean(dim=1)")


@misconception(task="heads", advice="Give each head channels of its own: head h has those from hD to (h+1)D - 1.")
def heads_alike(source):
    """All heads get the same channels, those of the first head."""
    return change(source, "return x.transpose(1, 2)  ", "return x.transpose(1, 2)[:, :1].expand(-1, n_heads, -1, -1)  ")


@misconception(task="heads", advice="Move the heads in front of the words: `transpose(1, 2)` after the cut.")
def heads_not_moved(source):
    """The heads stay behind the words: the result is (B, T, H, D)."""
    return change(source, "return x.transpose(1, 2)  ", "return x  ")


@misconception(task="heads", advice="Put the heads on an axis of their own, `(B, H, T, D)`.")
def heads_in_the_batch(source):
    """The heads are folded into the batch: the result is (B * H, T, D)."""
    return change(source, "return x.transpose(1, 2)  ", "return x.transpose(1, 2).flatten(0, 1)  ")


@misconception(
    task="heads",
    advice="Take `n_heads` as the number of heads and divide C by it; it is not the width of a head.",
)
def heads_width_for_number(source):
    """`n_heads` is taken for the width of a head."""
    return change(source, CUT, "x.reshape(B, T, C // n_heads, n_heads)")


@misconception(
    task="heads",
    advice="Check `C % n_heads` first and raise a ValueError whose message shows both numbers.",
)
def heads_not_refused(source):
    """Channels that cannot be cut into equal heads are not refused by a ValueError."""
    return change(source, REFUSE, "")


@misconception(
    task="heads",
    advice="Raise ValueError instead of using `assert`: assertions are for tests, and can be switched off.",
)
def heads_assert(source):
    """Channels that cannot be cut are refused by `assert`."""
    return change(source, REFUSE, "    assert C % n_heads == 0, (C, n_heads)\n")


@misconception(task="heads", advice='Show the numbers in the message, for example f"{C} channels, {n_heads} heads".')
def heads_silent_message(source):
    """The error message does not show the numbers."""
    return change(
        source,
        'f"{C} channels cannot be cut into {n_heads} equal heads"',
        '"the channels cannot be cut into equal heads"',
    )


@misconception(task="heads", advice="Refuse sizes that do not divide; do not leave channels out.")
def heads_rest_dropped(source):
    """Channels that are left over are silently dropped."""
    return change(source, REFUSE, "    C = C // n_heads * n_heads\n    x = x[..., :C]\n")


@misconception(
    task="heads",
    advice="Use `reshape` (or `.contiguous().view`): after `transpose` the numbers are not in the order that "
    "`view` needs.",
)
def merge_by_view(source):
    """Merging uses `view` right after `transpose`, which fails."""
    return change(source, JOIN, "x.transpose(1, 2).view(B, T, H * D)")


@misconception(
    task="heads",
    advice="Move the heads with `transpose(1, 2)`; `transpose(2, 3)` swaps words' places with channels.",
)
def heads_last_axes_swapped(source):
    """The last two axes are swapped on top: the result is (B, H, D, T)."""
    return change(source, "return x.transpose(1, 2)  ", "return x.permute(0, 2, 3, 1)  ")


@honest(task="heads")
def heads_unflatten(source):
    """By unflatten and flatten."""
    return """def split_heads(x, n_heads):
    if x.shape[-1] % n_heads:
        raise ValueError(f"d_model={x.shape[-1]} is not divisible")
    return x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)


def merge_heads(x):
    return x.transpose(1, 2).flatten(-2)
"""


@honest(task="heads")
def heads_stacked(source):
    """By chunks, stacked and joined."""
    return """def split_heads(x, n_heads):
    width, rest = divmod(x.size(2), n_heads)
    if rest != 0:
        raise ValueError("n_heads = %d does not divide" % n_heads)
    return torch.stack(x.split(width, dim=-1), dim=1)


def merge_heads(x):
    return torch.cat(x.unbind(1), dim=-1)
"""


@honest(task="heads")
def heads_split_by_view(source):
    """Splitting by view: cutting one axis into two never needs a copy."""
    return change(source, CUT, "x.view(B, T, n_heads, C // n_heads)")


@honest(task="heads")
def heads_view_contiguous(source):
    """By contiguous, view and permute."""
    return """def split_heads(x, n_heads):
    batch, length, channels = x.size()
    if channels % n_heads != 0:
        raise ValueError(f"{channels} % {n_heads} != 0")
    return x.contiguous().view(batch, length, n_heads, channels // n_heads).permute(0, 2, 1, 3).contiguous()


def merge_heads(x):
    batch, heads, length, width = x.size()
    return x.permute(0, 2, 1, 3).contiguous().view(batch, length, heads * width)
"""


# --- causal_self_attention -------------------------------------------------------------------------------------------


def layer_of(ask, width, heads, *, bias=True, dropout=0.0):
    """A layer with fixed lively weights, in float64 and eval mode. What the layer holds besides is left as it is."""
    layer = ask.new("CausalSelfAttention", width, heads, bias=bias, dropout=dropout, seed=0)
    weights = {
        "c_attn.weight": numbers(1, 3 * width, width, scale=0.6),
        "c_attn.bias": numbers(2, 3 * width, scale=0.6),
        "c_proj.weight": numbers(3, width, width, scale=0.6),
        "c_proj.bias": numbers(4, width, scale=0.6),
    }
    layer.double()
    layer.load_state_dict({name: weights[name] for name in weights if bias or "weight" in name}, strict=False)
    layer.eval()
    return layer


@battery("causal_self_attention")
def layer_questions(ask):
    """Values, masks, gradients, side effects, names, training."""
    layer = layer_of(ask, 12, 3)
    x = numbers(5, 2, 5, 12)
    other = torch.tensor(
        [[1, 0, 1, 1, 1], [1, 1, 1, 0, 1], [0, 1, 1, 1, 0], [1, 1, 0, 1, 1], [1, 1, 1, 1, 1]], dtype=torch.bool
    )
    front = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    front[0, ..., :2] = False
    everything = torch.ones(2, 3, 5, 5, dtype=torch.bool)
    full = everything.clone()
    full[0, 1, 3, :2] = full[1, 2, 4, 1:4] = full[1, 0, 2, 2] = False
    quiet = layer_of(ask, 12, 3, dropout=0.5)
    plain = layer_of(ask, 10, 5, bias=False)
    seen = layer.observe(x, gradient=numbers(6, 2, 5, 12))
    hidden = layer.observe(x, front, gradient=numbers(6, 2, 5, 12))
    return [
        sorted_names(layer.state_dict()),
        sorted_names(plain.state_dict()),
        layer(x),
        layer(x, other),
        layer(x, front),
        layer(x, everything),
        layer(x, full),
        layer(x[:, :1]),
        layer(numbers(7, 1, 40, 12)),
        plain(numbers(8, 3, 4, 10)),
        seen.gradients,
        seen.parameter_gradients,
        hidden.gradients,
        quiet(x),
        quiet.observe(x, randomness=True).random_used,
        layer.observe(x, other, inputs=True).inputs_after,
        ask.new("CausalSelfAttention", 10, 3),
        ask.new("CausalSelfAttention", 12, 5),
        layer_refusal(ask),
        *training(ask),
        training_without(layer, x),
        on_meta(ask, x),
    ]


def sorted_names(state):
    """The keys of a state_dict."""
    return sorted(state) if isinstance(state, dict) else state


def layer_refusal(ask):
    """Whether the refusal shows a number."""
    if ask.late:  # it has run out of time or memory, and would again
        return None
    try:
        ask.target.new("CausalSelfAttention", 20, 3)
    except StudentError as error:
        return "20" in error.text or "3" in error.text
    return None


def training_without(layer, x):
    """Whether training without dropout gives what eval mode gives."""
    layer.eval()
    quiet = layer(x)
    layer.train()
    loud = layer(x)
    layer.eval()
    both = isinstance(quiet, torch.Tensor) and isinstance(loud, torch.Tensor) and quiet.shape == loud.shape
    return torch.allclose(quiet, loud, equal_nan=True) if both else loud


def training(ask):
    """What training does to single words, and to pairs: about how much it drops, and by what it multiplies the rest."""
    layer = ask.new("CausalSelfAttention", 24, 3, dropout=0.25, seed=0)
    layer.double()
    layer.load_state_dict(
        {
            "c_attn.weight": numbers(1, 72, 24),
            "c_attn.bias": torch.zeros(72, dtype=torch.float64),
            "c_proj.weight": torch.eye(24, dtype=torch.float64),
            "c_proj.bias": torch.zeros(24, dtype=torch.float64),
        },
        strict=False,
    )
    answers = []
    for length in (1, 2):
        x = numbers(9, 200, length, 24)
        layer.eval()
        quiet = layer(x)
        layer.train()
        loud = layer.observe(x, seed=1).value
        if not isinstance(quiet, torch.Tensor) or not isinstance(loud, torch.Tensor):
            return ["no output"]
        factors = (loud / quiet)[:, -1].reshape(200, 3, 8)
        heads = (factors == 0).all(-1)
        rest = factors[~heads]
        usual = rest[rest != 0].median().item() if (rest != 0).any() else 0.0
        shares = (heads, rest == 0, (rest - usual).abs() < 1e-9)
        # In quarters: coarse enough to hold whatever order random numbers are drawn in.
        answers += [*(round(4 * share.double().mean().item()) for share in shares[: 3 if length == 1 else 2])]
        answers.append(round(usual, 3) if length == 1 else bool(shares[2].double().mean() > 0.5))
    return answers


def on_meta(ask, x):
    """The layer on the device `meta`."""
    layer = layer_of(ask, 12, 3)
    layer.to("meta")
    return layer.observe(
        x.to("meta"), torch.ones(2, 1, 5, 5, dtype=torch.bool, device="meta"), strict_device=True
    ).value


CAUSAL = "causal_mask(x.shape[1], device=x.device)"
BOTH = "visible = visible & mask"
WEIGHTS = "weights = attention_weights(q, k, visible)"
SCORES = "(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]))"
MIXED = "self.dropout(weights) @ v"
OUT = "return self.dropout(self.c_proj(merge_heads(mixed)))"
CHUNK = "q, k, v = self.c_attn(x).chunk(3, dim=-1)"
SPLIT = "(split_heads(part, self.n_heads) for part in (q, k, v))"
REFUSE_LAYER = """        if d_model % n_heads != 0:
            raise ValueError(f"a width of {d_model} cannot be cut into {n_heads} equal heads")
"""


@misconception(
    task="causal_self_attention",
    advice="Combine both masks, `causal_mask(...) & mask`: the layer is causal always.",
)
def mask_replaces_causal(source):
    """A mask that is given replaces the causal mask, so that words see the future."""
    return change(source, BOTH, "visible = mask")


@misconception(task="causal_self_attention", advice="Make a causal mask in `forward` and hand it to the weights.")
def never_causal(source):
    """The layer is not causal: every word sees all words."""
    return change(source, CAUSAL, "torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)")


@misconception(task="causal_self_attention", advice="Let a key be visible only if both masks say so: `&`, not `|`.")
def masks_joined_by_or(source):
    """A key is visible if either mask says so, instead of both."""
    return change(source, BOTH, "visible = visible | mask")


@misconception(task="causal_self_attention", advice="Use the caller's mask too: `causal_mask(...) & mask`.")
def layer_mask_ignored(source):
    """The mask that is given is ignored."""
    return change(source, BOTH, "visible = visible")


@misconception(task="causal_self_attention", advice="Take the caller's mask as it is: True means may look.")
def layer_mask_inverted(source):
    """The mask that is given is turned around."""
    return change(source, BOTH, "visible = visible & ~mask")


@misconception(
    task="causal_self_attention",
    advice="Write `visible & mask`, which makes a new mask, instead of `mask &= …`.",
)
def layer_mask_changed(source):
    """The caller's mask is changed in place."""
    return change(source, BOTH, "mask &= visible\n            visible = mask")


@misconception(task="causal_self_attention", advice="Take the three thirds of c_attn's output in the order q, k, v.")
def order_kqv(source):
    """c_attn's output is taken in the order k, q, v."""
    return change(source, CHUNK, "k, q, v = self.c_attn(x).chunk(3, dim=-1)")


@misconception(
    task="causal_self_attention",
    advice="Take the three thirds of c_attn's output in the order q, k, v: the values are the last third.",
)
def order_vkq(source):
    """c_attn's output is taken in the order v, k, q."""
    return change(source, CHUNK, "v, k, q = self.c_attn(x).chunk(3, dim=-1)")


@misconception(
    task="causal_self_attention",
    advice="Take the three thirds of c_attn's output in the order q, k, v: the keys are the second third.",
)
def order_qvk(source):
    """c_attn's output is taken in the order q, v, k."""
    return change(source, CHUNK, "q, v, k = self.c_attn(x).chunk(3, dim=-1)")


@misconception(
    task="causal_self_attention",
    advice="Cut c_attn's output into q, k, v first, then each into heads; GPT-2 does not mix q, k, v head by head.",
)
def qkv_within_each_head(source):
    """c_attn's output is cut into heads first, and each head into q, k, v."""
    source = change(source, CHUNK, "q, k, v = split_heads(self.c_attn(x), self.n_heads).chunk(3, dim=-1)")
    return change(source, SPLIT, "(q, k, v)")


@misconception(
    task="causal_self_attention",
    advice="Use all three thirds: queries, keys and values have weights of their own.",
)
def one_projection_for_all(source):
    """Queries, keys and values are all the first third of c_attn's output."""
    return change(source, CHUNK, "q = k = v = self.c_attn(x).chunk(3, dim=-1)[0]")


@misconception(task="causal_self_attention", advice="Send the merged heads through `self.c_proj`.")
def no_output_projection(source):
    """The output projection c_proj is not used."""
    return change(source, OUT, "return self.dropout(merge_heads(mixed))")


@misconception(
    task="causal_self_attention",
    advice="Scale by the width of one head, D = C / H, as `attention_weights` does by itself.",
)
def scaled_by_model_width(source):
    """The scores are scaled by sqrt(d_model) instead of the square root of a head's width."""
    return change(source, WEIGHTS, "weights = attention_weights(q / math.sqrt(self.n_heads), k, visible)")


@misconception(task="causal_self_attention", advice="Leave the scale to `attention_weights`, which has it already.")
def layer_scaled_twice(source):
    """The scores are scaled twice."""
    return change(source, WEIGHTS, "weights = attention_weights(q / math.sqrt(q.shape[-1]), k, visible)")


@misconception(
    task="causal_self_attention",
    advice="Use `attention_weights`, or divide the scores by the square root of a head's width.",
)
def layer_unscaled(source):
    """The scores are not scaled."""
    return change(source, WEIGHTS, "weights = attention_weights(q * math.sqrt(q.shape[-1]), k, visible)")


@misconception(
    task="causal_self_attention",
    advice="Scale by the width of one head, D = C / H, as `attention_weights` does; how many heads there are has no part in it.",
)
def layer_scaled_by_heads(source):
    """The scores are scaled by the square root of the number of heads instead of that of a head's width."""
    return change(source, WEIGHTS, "weights = attention_weights(q * math.sqrt(q.shape[-1] / self.n_heads), k, visible)")


@misconception(
    task="causal_self_attention",
    advice="Cut q, k and v into heads before the weights are made, and merge the heads afterwards.",
)
def single_head(source):
    """There is only one head: the words are never cut."""
    return change(source, SPLIT, "(split_heads(part, 1) for part in (q, k, v))")


@misconception(
    task="causal_self_attention", advice="Use the number of heads that is given: keep it as `self.n_heads`."
)
def layer_two_heads(source):
    """There are always two heads, however many are asked for."""
    return change(source, SPLIT, "(part.reshape(*x.shape[:2], 2, -1).transpose(1, 2) for part in (q, k, v))")


@misconception(
    task="causal_self_attention",
    advice="Give each head channels of its own: with the same queries, keys and values all heads do the same.",
)
def layer_heads_alike(source):
    """All heads work with the queries, keys and values of the first."""
    return change(
        source,
        SPLIT,
        "(split_heads(part, self.n_heads)[:, :1].expand(-1, self.n_heads, -1, -1) for part in (q, k, v))",
    )


@misconception(
    task="causal_self_attention",
    advice="Cut first, then transpose (task 7); one view to (B, H, T, D) gives each head the wrong words.",
)
def layer_heads_by_view(source):
    """The heads are cut by one view, without a transpose."""
    return change(source, SPLIT, "(part.reshape(part.shape[0], self.n_heads, part.shape[1], -1) for part in (q, k, v))")


@misconception(
    task="causal_self_attention",
    advice="Merge with `merge_heads`, which moves the words in front again before it joins.",
)
def layer_merge_without_transpose(source):
    """The heads are merged without moving them back."""
    return change(source, "merge_heads(mixed)", "mixed.reshape(x.shape)")


@misconception(
    task="causal_self_attention",
    advice="Keep each sample's mask with its own heads: let the mask broadcast instead of repeating it by hand.",
)
def mask_repeated_in_wrong_order(source):
    """With heads folded into the batch the masks are repeated in the wrong order, so that samples get each other's."""
    return change(
        source,
        BOTH,
        "mask = mask.expand(*x.shape[:1], self.n_heads, x.shape[1], x.shape[1])\n"
        "            visible = visible & mask.transpose(0, 1).reshape(mask.shape)",
    )


@misconception(
    task="causal_self_attention",
    advice="Make dropout depend on the mode: `nn.Dropout`, or `F.dropout(..., training=self.training)`.",
)
def dropout_always(source):
    """Dropout is active in eval mode too."""
    return change(
        change(source, MIXED, "F.dropout(weights, self.dropout.p) @ v"),
        OUT,
        "return F.dropout(self.c_proj(merge_heads(mixed)), self.dropout.p)",
    )


@misconception(
    task="causal_self_attention",
    advice="Use dropout on the weights too, after the softmax and before the values are mixed.",
)
def no_dropout_on_weights(source):
    """There is no dropout on the attention weights."""
    return change(source, MIXED, "weights @ v")


@misconception(task="causal_self_attention", advice="Use dropout on the output too, after c_proj.")
def no_dropout_on_output(source):
    """There is no dropout on the output."""
    return change(source, OUT, "return self.c_proj(merge_heads(mixed))")


@misconception(
    task="causal_self_attention",
    advice="Use dropout in two places in training: on the attention weights, and on the output after c_proj.",
)
def no_dropout_at_all(source):
    """There is no dropout at all."""
    return change(change(source, MIXED, "weights @ v"), OUT, "return self.c_proj(merge_heads(mixed))")


@misconception(
    task="causal_self_attention",
    advice="Put dropout on the weights, after the softmax. A dropped score is 0, not -inf, and still gets a share.",
)
def dropout_on_queries(source):
    """Dropout is put before the softmax instead of on the weights."""
    return change(
        change(source, WEIGHTS, "weights = attention_weights(self.dropout(q), k, visible)"), MIXED, "weights @ v"
    )


@misconception(
    task="causal_self_attention",
    advice="Put dropout on the weights themselves, before `@ v`, so that whole words are left out, not single numbers.",
)
def dropout_on_mixed_values(source):
    """Dropout is put on the mixed values instead of the attention weights."""
    return change(source, MIXED, "self.dropout(weights @ v)")


@misconception(
    task="causal_self_attention",
    advice="`dropout` is the probability of being dropped, as in `nn.Dropout(dropout)`.",
)
def dropout_keeps(source):
    """The rate is taken for the probability of being kept."""
    return change(source, "nn.Dropout(dropout)", "nn.Dropout(1 - dropout if dropout else 0.0)")


@misconception(task="causal_self_attention", advice="Use the rate that is given: `nn.Dropout(dropout)`.")
def dropout_fixed(source):
    """The rate of dropout is fixed, whatever is asked for."""
    return change(source, "nn.Dropout(dropout)", "nn.Dropout(0.5 if dropout else 0.0)")


@misconception(task="causal_self_attention", advice="Hand `bias` on to both linear maps: `nn.Linear(..., bias=bias)`.")
def bias_always(source):
    """The argument `bias` is ignored: there are always biases."""
    return change(source, ", bias=bias)", ")", count=2)


@misconception(task="causal_self_attention", advice="Hand `bias` on to c_proj as well.")
def bias_of_projection_always(source):
    """c_proj has a bias whatever is asked for."""
    return change(source, "nn.Linear(d_model, d_model, bias=bias)", "nn.Linear(d_model, d_model)")


@misconception(
    task="causal_self_attention",
    advice="Make the mask in `forward`, or register it with `persistent=False`: it is no weight.",
)
def mask_in_state_dict(source):
    """The causal mask is a buffer that stands in the `state_dict`."""
    return change(
        source,
        "        self.n_heads = n_heads\n",
        '        self.n_heads = n_heads\n        self.register_buffer("mask", causal_mask(64))\n',
    )


@misconception(
    task="causal_self_attention",
    advice="Make the mask for the length of the input, `x.shape[1]`, in `forward`.",
)
def mask_of_fixed_length(source):
    """The causal mask has a fixed length, so that longer texts fail."""
    return change(source, CAUSAL, "causal_mask(32, device=x.device)[: x.shape[1], : x.shape[1]]")


@misconception(
    task="causal_self_attention",
    advice="Make the mask where the words are: `causal_mask(T, device=x.device)`.",
)
def mask_on_cpu(source):
    """The causal mask is always made on the CPU."""
    return change(source, CAUSAL, "causal_mask(x.shape[1])")


@misconception(
    task="causal_self_attention",
    advice="Check `d_model % n_heads` in `__init__` and raise a ValueError whose message shows both.",
)
def layer_not_refused(source):
    """A width that cannot be cut into equal heads is not refused by `__init__`."""
    return change(source, REFUSE_LAYER, "")


@misconception(task="causal_self_attention", advice="Raise ValueError instead of using `assert`.")
def layer_assert(source):
    """A width that cannot be cut into equal heads is refused by `assert`."""
    return change(source, REFUSE_LAYER, "        assert d_model % n_heads == 0, (d_model, n_heads)\n")


@misconception(task="causal_self_attention", advice="Show the numbers in the message.")
def layer_silent_message(source):
    """The error message does not show the numbers."""
    return change(
        source,
        'f"a width of {d_model} cannot be cut into {n_heads} equal heads"',
        '"the width cannot be cut into equal heads"',
    )


@misconception(
    task="causal_self_attention",
    advice="Let gradients flow through the weights: no `.detach()`, `.data` or `torch.no_grad()`.",
)
def layer_weights_detached(source):
    """The attention weights are cut off from the gradients: queries and keys learn nothing."""
    return change(source, MIXED, "self.dropout(weights.detach()) @ v")


@misconception(
    task="causal_self_attention",
    advice="Use `attention_weights`, which gives zeros where a query may attend to nothing; torch's softmax gives NaN.",
)
def layer_nan(source):
    """A word that may attend to nothing gets NaN."""
    return change(source, WEIGHTS, f"weights = torch.softmax({SCORES}.masked_fill(~visible, -math.inf), dim=-1)")


@misconception(
    task="causal_self_attention",
    advice="Use `attention_weights` or -inf: with a large negative number a word that may attend to nothing "
    "attends to all.",
)
def layer_even_without_keys(source):
    """A word that may attend to nothing attends to all words evenly."""
    return change(source, WEIGHTS, f"weights = torch.softmax({SCORES}.masked_fill(~visible, -1e9), dim=-1)")


@misconception(
    task="causal_self_attention",
    advice="Mask the scores before the softmax; afterwards the future still counts in the sum, and the weights "
    "are too small.",
)
def layer_mask_after_softmax(source):
    """The masks come after the softmax."""
    return change(source, WEIGHTS, "weights = attention_weights(q, k) * visible")


@misconception(
    task="causal_self_attention",
    advice="Return what c_proj gives; the layer that uses this one adds the words themselves (the residual).",
)
def layer_adds_input(source):
    """The words are added to the output."""
    return change(source, OUT, "return x + self.dropout(self.c_proj(merge_heads(mixed)))")


@misconception(
    task="causal_self_attention",
    advice="Take the softmax over the keys, the last axis, as `attention_weights` does.",
)
def layer_softmax_over_queries(source):
    """The softmax runs over the queries instead of the keys."""
    return change(source, WEIGHTS, f"weights = softmax({SCORES}.masked_fill(~visible, -math.inf), dim=-2)")


@misconception(task="causal_self_attention", advice="Let a word see itself: `causal_mask` has the diagonal.")
def layer_not_itself(source):
    """A word does not see itself."""
    return change(source, CAUSAL, CAUSAL + ".tril(diagonal=-1)")


@misconception(task="causal_self_attention", advice="Stop at the word itself: the next word is the one to be guessed.")
def layer_sees_next(source):
    """A word sees the next word."""
    return change(source, CAUSAL, "causal_mask(x.shape[1], x.shape[1] + 1, device=x.device)[:, :-1]")


@honest(task="causal_self_attention")
def layer_functional_dropout(source):
    """With F.dropout, and a split instead of chunks."""
    source = change(source, "self.dropout = nn.Dropout(dropout)", "self.rate = dropout\n        self.width = d_model")
    source = change(source, CHUNK, "q, k, v = self.c_attn(x).split(self.width, dim=2)")
    source = change(source, MIXED, "F.dropout(weights, self.rate, self.training) @ v")
    return change(source, OUT, "return F.dropout(self.c_proj(merge_heads(mixed)), p=self.rate, training=self.training)")


@honest(task="causal_self_attention")
def layer_self_contained(source):
    """All in one, without the earlier tasks, with two dropout modules and a fused cut."""
    return """class CausalSelfAttention(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0, bias=True):
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model {d_model} % n_heads {n_heads}")
        self.c_attn = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.c_proj = nn.Linear(d_model, d_model, bias=bias)
        self.attn_dropout = nn.Dropout(dropout)
        self.resid_dropout = nn.Dropout(dropout)
        self.n_heads = n_heads

    def forward(self, x, mask=None):
        B, T, C = x.size()
        qkv = self.c_attn(x).view(B, T, 3, self.n_heads, C // self.n_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        att = torch.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(q.size(-1))
        keep = torch.tril(torch.ones(T, T, device=x.device)).bool()
        keep = keep if mask is None else torch.logical_and(keep, mask)
        att = torch.where(keep, att, torch.full((), float("-inf"), dtype=att.dtype, device=att.device))
        seen = keep.any(-1, keepdim=True)
        att = F.softmax(torch.where(seen, att, 0.0), dim=-1) * seen
        y = self.attn_dropout(att) @ v
        return self.resid_dropout(self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C)))
"""


@honest(task="causal_self_attention")
def layer_buffer_not_persistent(source):
    """The mask as a buffer that is not saved and grows when needed, heads one by one."""
    return """class CausalSelfAttention(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0, bias=True):
        super().__init__()
        if d_model % n_heads != 0:
            raise ValueError(f"{d_model=} is not divisible by {n_heads=}")
        self.n_heads, self.head_dim = n_heads, d_model // n_heads
        self.c_proj = nn.Linear(d_model, d_model, bias)
        self.c_attn = nn.Linear(d_model, d_model * 3, bias)
        self.drop = nn.Dropout(p=dropout)
        self.register_buffer("triangle", torch.ones(8, 8, dtype=torch.bool).tril(), persistent=False)

    def forward(self, x, mask=None):
        B, T, C = x.shape
        if T > self.triangle.shape[0]:
            self.triangle = torch.ones(T, T, dtype=torch.bool, device=x.device).tril()
        visible = self.triangle[:T, :T]
        if mask is not None:
            visible = visible & mask
        visible = visible.expand(B, self.n_heads, T, T)
        q, k, v = torch.chunk(self.c_attn(x), 3, -1)
        outputs = []
        for h in range(self.n_heads):
            part = slice(h * self.head_dim, (h + 1) * self.head_dim)
            weights = attention_weights(q[..., part], k[..., part], visible[:, h])
            outputs.append(self.drop(weights) @ v[..., part])
        return self.drop(self.c_proj(torch.cat(outputs, dim=-1)))
"""


@honest(task="causal_self_attention")
def layer_heads_in_the_batch(source):
    """Heads folded into the batch, with masks repeated in the right order."""
    return """class CausalSelfAttention(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0, bias=True):
        super().__init__()
        if d_model % n_heads != 0:
            raise ValueError(f"n_heads must divide d_model={d_model}, got {n_heads}")
        self.n_heads = n_heads
        self.p = dropout
        self.c_attn = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.c_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, x, mask=None):
        B, T, C = x.shape
        H, D = self.n_heads, C // self.n_heads

        def fold(part):
            return part.reshape(B, T, H, D).transpose(1, 2).reshape(B * H, T, D)

        q, k, v = map(fold, self.c_attn(x).tensor_split(3, dim=-1))
        visible = causal_mask(T, device=x.device).expand(B, H, T, T)
        if mask is not None:
            visible = visible.logical_and(mask)
        weights = attention_weights(q, k, visible.reshape(B * H, T, T))
        weights = nn.functional.dropout(weights, self.p, self.training)
        y = torch.bmm(weights, v).reshape(B, H, T, D).transpose(1, 2).reshape(B, T, C)
        return nn.functional.dropout(self.c_proj(y), self.p, self.training)
"""
