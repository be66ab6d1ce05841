"""The bank of `training`: what people write where the reference is right, and other right ways to write it.

Rows 92 to 104 of the catalogue are all here but for what cannot be seen from outside, or is right here:
* 97, gradients synchronised between processes: the course trains in one process.
* 100, decay on embeddings: they have two dimensions, so they decay, and `embeddings_spared` is the mistake.
* 102, a bare `torch.no_grad()` has no effect, so it answers as `gradients_prepared` does. Dropout of a
  functional attention in eval mode is the model's fault, and the model is given.
* 103, the prefix `_orig_mod.` comes from `torch.compile`, which the course does not use; the given GPT has
  no buffers to lose.
* 104, TF32 needs a GPU to be seen; tensors made on the CPU are `stays_on_the_cpu` and `batches_on_the_cpu`. Autocast
  for "cuda" on a model of the CPU answers as `autocast_ignored` does; the softmax under autocast is the given model's.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from autograder.diagnosis import battery, change, honest, misconception
from autograder.errors import Exhausted, StudentError

# The batteries ask with the same tiny GPT, batches and drives as the hidden tests beside this file.
_spec = importlib.util.spec_from_file_location("hidden_training", Path(__file__).with_name("test_hidden.py"))
hidden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hidden)
gpt, integers, pair, plain_descent, after = hidden.gpt, hidden.integers, hidden.pair, hidden.plain_descent, hidden.after


# windows ------------------------------------------------------------------------------------------------------------


@battery("windows")
def windows_questions(ask):
    """Overlap, gaps, a text that is just long enough, and one that is not."""
    ids = torch.arange(20, 31)
    return [
        ask.windows(ids, 3, 2),
        ask.windows(ids, 2, 4),
        ask.windows(ids, 3, 3),
        ask.windows(ids[:4], 3, 1),
        ask.windows(ids.to(torch.int32), 4, 2),
        ask.windows(ids[:3], 3, 1),
        ask.observe("windows", torch.empty(9, dtype=torch.int64, device="meta"), 3, 2, strict_device=True).value,
    ]


@misconception(
    task="windows",
    advice="The target at a position is the id one further: use `positions + 1` for the targets.",
)
def window_not_shifted(source):
    """The targets are the inputs themselves: the model is asked for the token that it is given."""
    return change(source, "ids[positions + 1]", "ids[positions]")


@misconception(task="windows", advice="Shift once. If the targets are shifted here, nothing else may shift them again.")
def window_shifted_twice(source):
    """The targets are two tokens later instead of one."""
    source = change(source, "ids[positions + 1]", "ids[positions + 2]")
    return change(source, "max(len(ids) - context_length, 0)", "max(len(ids) - context_length - 1, 0)")


@misconception(
    task="windows",
    advice="The last start is `len(ids) - context_length - 1`; as `arange` leaves its end out, the end is one more.",
)
def last_window_missing(source):
    """The last full window is left out."""
    return change(source, "max(len(ids) - context_length, 0)", "max(len(ids) - context_length - 1, 0)")


@misconception(
    task="windows",
    advice="The distance between two starts is `stride`, whatever the length of a window is.",
)
def stride_is_the_length(source):
    """The stride is ignored: the windows stand side by side."""
    return change(source, ", stride, device", ", context_length, device")


@misconception(task="windows", advice="The distance between two starts is `stride`, and not 1.")
def stride_is_one(source):
    """The stride is ignored: a window starts at every token."""
    return change(source, ", stride, device", ", 1, device")


@misconception(task="windows", advice="Ids are integers and stay so: keep the dtype of `ids`.")
def window_floats(source):
    """The windows come back as floating-point numbers."""
    return change(
        source, "return ids[positions], ids[positions + 1]", "return ids[positions].float(), ids[positions + 1].float()"
    )


@misconception(
    task="windows",
    advice="`torch.stack` of an empty list raises. Return two tensors of shape (0, context_length) then.",
)
def no_window_crashes(source):
    """A text that is too short for a window raises an error instead of giving N = 0."""
    return LOOP_WINDOWS


LOOP_WINDOWS = """
def windows(ids, context_length, stride):
    inputs, targets = [], []
    for start in range(0, len(ids) - context_length, stride):
        inputs.append(ids[start:start + context_length])
        targets.append(ids[start + 1:start + context_length + 1])
    return torch.stack(inputs), torch.stack(targets)
"""


@honest(task="windows")
def windows_by_a_loop(source):
    """A loop over the starts, with the empty case apart."""
    return change(
        LOOP_WINDOWS,
        "    return torch.stack",
        "    if not inputs:\n"
        "        return ids.new_empty(0, context_length), ids.new_empty(0, context_length)\n"
        "    return torch.stack",
    )


@honest(task="windows")
def windows_by_unfold(source):
    """`unfold` makes windows one longer; the columns are cut off at either end."""
    return """
def windows(ids, context_length, stride):
    if len(ids) <= context_length:
        return ids[:0].reshape(0, 1).expand(0, context_length), ids[:0].reshape(0, 1).expand(0, context_length)
    both = ids.unfold(0, context_length + 1, stride)
    return both[:, :-1], both[:, 1:].clone()
"""


@honest(task="windows")
def as_strided(source):
    """A strided view of windows one longer, cut at either end."""
    del source
    return """
def windows(ids, context_length, stride):
    n = max(0, (ids.numel() - context_length - 1) // stride + 1)
    ids = ids.contiguous()
    if n <= 0:
        empty = torch.zeros((0, context_length), dtype=ids.dtype, device=ids.device)
        return empty, empty.clone()
    both = torch.as_strided(ids, (n, context_length + 1), (stride, 1))
    return both[:, :-1], both[:, 1:]
"""


@honest(task="windows")
def unfolded_twice(source):
    """Inputs and targets unfolded apart."""
    del source
    return """
def windows(ids, context_length, stride):
    if ids.size(0) < context_length + 1:
        return (torch.empty((0, context_length), dtype=ids.dtype, device=ids.device),) * 2
    x = ids[:-1].unfold(0, context_length, stride)
    y = ids[1:].unfold(0, context_length, stride)
    return x, y
"""


# get_batch ----------------------------------------------------------------------------------------------------------


@battery("get_batch")
def batch_questions(ask):
    """Batches from fixed generators, at the edges, of small types, to another device, and without a generator."""
    data = torch.arange(50, 62)

    def drawn(*arguments, seed, **settings):
        # The global state is seeded as well: whoever ignores the generator draws from there.
        return ask.observe("get_batch", *arguments, generator=ask.generator(seed), seed=1, **settings).value

    return [
        drawn(data, 4, 6, seed=2),
        drawn(data, 3, 2, "cpu", seed=3),
        drawn(data[:5], 4, 3, seed=4),
        drawn(data[:6], 4, 9, seed=4),
        drawn(data.to(torch.uint8), 4, 2, seed=5),
        drawn(data[:4], 4, 2, seed=5),
        drawn(data[:2], 4, 2, seed=5),
        drawn(data, 4, 2, device="meta", seed=6),
        ask.observe("get_batch", data, 4, 3, generator=ask.generator(6), randomness=True, seed=1).random_used,
        ask.observe("get_batch", data, 4, 3, seed=9).value,
        ask.get_batch(data, 4, 3),  # where the one before left off
    ]


@misconception(
    task="get_batch",
    advice="y is x one token later: take `block_size + 1` tokens, and cut off the last for x and the first for y.",
)
def batch_not_shifted(source):
    """y is x itself. The loss will fall to nearly 0 and the model will have learnt to repeat."""
    return change(source, "rows[:, 1:]", "rows[:, :-1]")


@misconception(
    task="get_batch",
    advice="Shift once: y is x one token later, and nothing shifts it again afterwards.",
)
def batch_shifted_twice(source):
    """y is two tokens later than x."""
    source = change(source, "torch.arange(block_size + 1)", "torch.arange(block_size + 2).clamp(max=len(data) - 1)")
    return change(source, "return rows[:, :-1], rows[:, 1:]", "return rows[:, :-2], rows[:, 2:]")


@misconception(
    task="get_batch",
    advice="`torch.randint(n, ...)` draws from 0 to n - 1, so n = `len(data) - block_size` reaches the last start.",
)
def last_start_missing(source):
    """The last possible start is never drawn."""
    return change(source, "torch.randint(len(data) - block_size,", "torch.randint(max(len(data) - block_size - 1, 1),")


@misconception(
    task="get_batch",
    advice="The greatest start is `len(data) - block_size - 1`: draw below `len(data) - block_size`.",
)
def a_start_too_far(source):
    """Now and then a window starts so late that its last target lies beyond the text."""
    return change(source, "torch.randint(len(data) - block_size,", "torch.randint(len(data) - block_size + 1,")


@misconception(task="get_batch", advice="Draw `batch_size` starts, one for each row.")
def one_start_for_all(source):
    """All rows of the batch start at the same place."""
    return change(source, "(batch_size,), generator=generator)", "(1,), generator=generator).repeat(batch_size)")


@misconception(task="get_batch", advice="Ids are indices into an embedding: int64, never floating point.")
def batch_floats(source):
    """The batch holds floating-point numbers."""
    return change(source, "dtype=torch.int64", "dtype=torch.float32")


@misconception(task="get_batch", advice="Convert to `torch.int64`, whatever integer type the data is kept in.")
def batch_keeps_type(source):
    """The batch keeps the small integer type of the data."""
    return change(source, "device=device, dtype=torch.int64", "device=device")


@misconception(task="get_batch", advice="Pass `generator=generator` on to `torch.randint`.")
def generator_ignored(source):
    """The generator is not used, so no run can be repeated."""
    return change(source, ", generator=generator)", ")")


@misconception(task="get_batch", advice="Move x and y to `device` before you return them.")
def stays_on_the_cpu(source):
    """The batch stays on the CPU whatever device is asked for."""
    return change(source, ".to(device=device, dtype=torch.int64)", ".to(dtype=torch.int64)")


@misconception(
    task="get_batch",
    advice="Before drawing, compare `len(data)` with `block_size` and raise ValueError with both in the message.",
)
def short_data_not_refused(source):
    """Data that is too short is not refused with a ValueError."""
    return change(source, "if len(data) <= block_size:", "if False:")


@misconception(task="get_batch", advice="`len(data) == block_size` is too short as well: the last target is missing.")
def short_data_off_by_one(source):
    """Data of exactly block_size tokens is not refused, though its last target is missing."""
    return change(source, "if len(data) <= block_size:", "if len(data) < block_size:")


@misconception(
    task="get_batch",
    advice="The last target is the next token of the text. `torch.roll` brings the window's first token there.",
)
def target_rolled(source):
    """The last target of each row is the row's own first token."""
    return change(source, "return rows[:, :-1], rows[:, 1:]", "return rows[:, :-1], rows[:, :-1].roll(-1, dims=1)")


@misconception(
    task="get_batch",
    advice="Batches start at random places: draw the starts instead of walking through the text.",
)
def from_the_start(source):
    """The windows are taken one after the other from the start of the text, and not drawn."""
    return change(
        source,
        "torch.randint(len(data) - block_size, (batch_size,), generator=generator)",
        "torch.arange(batch_size) % (len(data) - block_size)",
    )


@misconception(task="get_batch", advice="Draw each start by itself, with torch.randint: a window may come twice.")
def drawn_without_repetition(source):
    """The starts are the first of a permutation, so no window can come twice in a batch."""
    return change(
        source,
        "torch.randint(len(data) - block_size, (batch_size,), generator=generator)",
        "torch.randperm(len(data) - block_size, generator=generator)[:batch_size]",
    )


@misconception(task="get_batch", advice="Leave out the seed: with generator=None torch.randint draws from torch's own state.")
def seed_of_its_own(source):
    """Without a generator a fixed seed is used, so every batch is the same."""
    return change(
        source,
        "    # The greatest start",
        "    generator = generator or torch.Generator().manual_seed(1337)\n    # The greatest start",
    )


@honest(task="get_batch")
def batch_by_stack(source):
    """Slices in a list, stacked, as in nanoGPT."""
    return """
def get_batch(data, block_size, batch_size, device="cpu", generator=None):
    if len(data) - block_size < 1:
        raise ValueError(f"{len(data)} tokens, but block_size is {block_size}")
    ix = torch.randint(len(data) - block_size, (batch_size,), generator=generator)
    x = torch.stack([data[i:i + block_size].long() for i in ix])
    y = torch.stack([data[i + 1:i + 1 + block_size].long() for i in ix])
    return x.to(device), y.to(device)
"""


@honest(task="get_batch")
def batch_by_take(source):
    """x and y gathered apart, with tolist()."""
    return """
def get_batch(data, block_size, batch_size, device="cpu", generator=None):
    room = data.numel() - block_size
    if room <= 0:
        raise ValueError("data has only %d tokens" % data.numel())
    starts = torch.randint(high=room, size=(batch_size,), generator=generator).tolist()
    where = torch.tensor([list(range(s, s + block_size)) for s in starts])
    return torch.take(data, where).to(torch.long).to(device), torch.take(data, where + 1).to(torch.long).to(device)
"""


@honest(task="get_batch")
def by_numpy(source):
    """Positions by numpy, once for x and once for y."""
    del source
    return """
import numpy as np
def get_batch(data, block_size, batch_size, device="cpu", generator=None):
    n = data.shape[0]
    if not n > block_size:
        raise ValueError("%d tokens, block size %d" % (n, block_size))
    starts = torch.randint(low=0, high=n - block_size, size=(batch_size,), generator=generator).numpy()
    idx = np.add.outer(starts, np.arange(block_size))
    arr = data.cpu().numpy()
    return tuple(torch.from_numpy(arr[idx + k].astype(np.int64)).to(device) for k in (0, 1))
"""


# cross_entropy ------------------------------------------------------------------------------------------------------


@battery("cross_entropy")
def loss_questions(ask):
    """Lively logits in several shapes, ignored targets in unequal numbers, large logits, half precision, gradients."""
    logits, targets = hidden.scored(3, (2, 3), 5)
    some = targets.clone()
    some[0, 0] = some[0, 2] = -100
    large = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 0.0, 150.0]])
    half, halves = hidden.scored(8, (20, 3), 50, scale=4.0, dtype=torch.bfloat16)
    seen = ask.observe("cross_entropy", logits, some, gradient="sum", inputs=True)
    return [
        ask.cross_entropy(logits, targets),
        ask.cross_entropy(logits[0], targets[0]),
        ask.cross_entropy(logits[0, 0], targets[0, 0]),
        ask.cross_entropy(logits, some),
        ask.cross_entropy(logits, targets, ignore_index=int(targets[0, 1])),
        seen.gradients,
        seen.inputs_after,
        ask.cross_entropy(large, torch.tensor([1, 2])),
        ask.cross_entropy(half, halves),
        ask.cross_entropy(logits, torch.full((2, 3), -100)),
        ask.cross_entropy(large.float(), torch.tensor([0, 0])),
        ask.cross_entropy(torch.tensor([[200.0, 199.0], [-200.0, -200.0]]), torch.tensor([0, 1])),
    ]


@misconception(
    task="cross_entropy",
    advice="The loss takes raw logits: the softmax is inside it already. Take no second one.",
)
def softmax_twice(source):
    """A softmax is taken before the loss, which takes one itself."""
    return change(
        source,
        "    counts = targets != ignore_index",
        "    logits = torch.softmax(logits, dim=-1)\n    counts = targets != ignore_index",
    )


@misconception(task="cross_entropy", advice="Divide the sum by the number of targets that count.")
def loss_sum(source):
    """The losses are added up and not averaged."""
    return change(source, " / counts.sum().clamp(min=1)", "")


@misconception(
    task="cross_entropy",
    advice="Divide by the number of targets that count, `(targets != ignore_index).sum()`, not by `targets.numel()`.",
)
def ignored_in_the_number(source):
    """Ignored targets are left out of the sum, but the sum is divided by their number as well."""
    return change(source, "/ counts.sum().clamp(min=1)", "/ targets.numel()")


@misconception(task="cross_entropy", advice="Set the losses of ignored targets to 0 before the sum.")
def ignored_as_first(source):
    """An ignored target counts as if it were token 0."""
    return change(source, "losses.masked_fill(~counts, 0).sum() / counts.sum().clamp(min=1)", "losses.mean()")


@misconception(task="cross_entropy", advice="Compare with the parameter `ignore_index`, not with -100.")
def ignore_index_fixed(source):
    """Only -100 is ignored, whatever `ignore_index` says."""
    return change(source, "counts = targets != ignore_index", "counts = targets != -100")


@misconception(
    task="cross_entropy",
    advice="Use `torch.logsumexp`, or subtract the largest logit first: exp(200) is infinite in float32.",
)
def loss_overflows(source):
    """Large logits overflow, because they are exponentiated as they are."""
    return change(source, "torch.logsumexp(logits, dim=-1)", "logits.exp().sum(dim=-1).log()")


@misconception(
    task="cross_entropy",
    advice="Take the logarithm of the softmax directly (logsumexp). A small number inside the log limits the loss.",
)
def log_of_clamped(source):
    """The logarithm is taken of the probability plus a small number, so a bad miss costs too little."""
    return change(
        source,
        "losses = torch.logsumexp(logits, dim=-1) - target_logits",
        "losses = -(torch.exp(target_logits - torch.logsumexp(logits, dim=-1)) + 1e-9).log()",
    )


@misconception(task="cross_entropy", advice="Convert half-precision logits to float32 first, and return float32.")
def loss_in_half(source):
    """Half-precision logits are computed in half precision."""
    return change(source, "logits = logits.to(torch.promote_types(logits.dtype, torch.float32))", "logits = logits * 1")


@misconception(task="cross_entropy", advice="With no target that counts, divide by 1 instead of 0.")
def nothing_is_nan(source):
    """If every target is ignored the loss is NaN instead of 0."""
    return change(source, ".clamp(min=1)", "")


@misconception(
    task="cross_entropy",
    advice="Average over all targets at once. A mean of the rows' means weighs rows with few targets too much.",
)
def mean_of_means(source):
    """The mean is taken row by row and then over the rows, which is another number where targets are ignored."""
    return change(
        source,
        "return losses.masked_fill(~counts, 0).sum() / counts.sum().clamp(min=1)",
        "means = losses.masked_fill(~counts, 0).sum(-1) / counts.sum(-1).clamp(min=1)\n    return means.mean()",
    )


@misconception(task="cross_entropy", advice="The loss is minus the logarithm: logsumexp minus the target's logit.")
def sign_lost(source):
    """The sign is missing, so the loss is negative and training makes it worse."""
    return change(
        source, "torch.logsumexp(logits, dim=-1) - target_logits", "target_logits - torch.logsumexp(logits, dim=-1)"
    )


@misconception(task="cross_entropy", advice="Use the natural logarithm.")
def base_two(source):
    """The logarithm is taken to the base 2."""
    return change(
        source,
        "torch.logsumexp(logits, dim=-1) - target_logits",
        "(torch.logsumexp(logits, dim=-1) - target_logits) / math.log(2)",
    )


@misconception(
    task="cross_entropy",
    advice="Keep to tensor operations from logits to loss: `.item()`, `.detach()` and `torch.tensor(...)` cut "
    "the gradient.",
)
def gradient_cut(source):
    """The loss is cut off from the logits: no gradient reaches them."""
    return change(source, "logits = logits.to(", "logits = logits.detach().to(")


@misconception(
    task="cross_entropy",
    advice="Flatten with `logits.reshape(-1, V)` alone: V is last already, and a transposition first mixes the logits of "
    "different positions.",
)
def flattened_wrongly(source):
    """Logits are transposed before they are flattened, so that positions and tokens are mixed up."""
    return change(
        source,
        "    counts = targets != ignore_index",
        "    if logits.dim() > 2:\n"
        "        logits = logits.transpose(-1, -2).reshape(logits.shape)\n"
        "    counts = targets != ignore_index",
    )


@misconception(task="cross_entropy", advice="Work on a copy: `targets.masked_fill(...)`, without an underscore.")
def targets_overwritten(source):
    """The ignored targets are overwritten in the caller's own tensor."""
    return change(source, "targets.long().masked_fill(~counts, 0)", "targets.masked_fill_(~counts, 0)")


@misconception(
    task="cross_entropy",
    advice="Take the logit of the target, by `gather`; the model's own first choice does not matter.",
)
def likeliest_instead(source):
    """The loss is that of the model's own first choice and not that of the target."""
    return change(source, "logits.gather(-1, index.unsqueeze(-1)).squeeze(-1)", "logits.max(dim=-1).values")


@misconception(task="cross_entropy", advice="Use torch.logsumexp over the last dimension, or subtract each row's own maximum.")
def one_maximum_for_all(source):
    """The maximum that keeps exp from overflowing is taken over the whole tensor, so rows of small logits vanish."""
    return change(source, "torch.logsumexp(logits, dim=-1)", "((logits - logits.max()).exp().sum(-1).log() + logits.max())")


@misconception(task="cross_entropy", advice="The classes are the last dimension: dim=-1. (F.cross_entropy has them second.)")
def classes_second(source):
    """The classes are looked for in the second dimension and not in the last."""
    return change(source, "torch.logsumexp(logits, dim=-1)", "torch.logsumexp(logits, dim=1)")


@misconception(task="cross_entropy", advice="Shift nothing in here: the targets come already shifted by one.")
def shifted_in_the_loss(source):
    """The loss shifts the targets by one itself, as Hugging Face's models do."""
    return change(
        source,
        "    logits = logits.to(",
        "    if targets.dim() > 1:\n        logits, targets = logits[..., :-1, :], targets[..., 1:]\n    logits = logits.to(",
    )


@misconception(task="cross_entropy", advice="Divide by the number of targets that count, and not by that of all logits.")
def divided_by_classes_too(source):
    """The sum is divided by the number of all logits, so the loss is V times too small."""
    return change(source, "/ counts.sum().clamp(min=1)", "/ (counts.sum().clamp(min=1) * logits.shape[-1])")


@honest(task="cross_entropy")
def loss_by_log_softmax(source):
    """log_softmax, then the rows that count, picked by a boolean mask."""
    return """
def cross_entropy(logits, targets, ignore_index=-100):
    logits = logits.reshape(-1, logits.shape[-1])
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    targets = targets.reshape(-1)
    keep = targets != ignore_index
    if not keep.any():
        return logits.sum() * 0.0
    logp = F.log_softmax(logits[keep], dim=-1)
    return -logp[torch.arange(len(logp)), targets[keep]].mean()
"""


@honest(task="cross_entropy")
def loss_by_one_hot(source):
    """The maximum subtracted by hand, and a one-hot product."""
    return """
def cross_entropy(logits, targets, ignore_index=-100):
    z = logits if logits.dtype == torch.float64 else logits.float()
    z = z - z.amax(dim=-1, keepdim=True).detach()
    logp = z - z.exp().sum(-1, keepdim=True).log()
    keep = (targets != ignore_index)
    hot = F.one_hot(torch.where(keep, targets, 0), logits.shape[-1]).to(logp.dtype)
    total = -(hot * logp * keep.unsqueeze(-1)).sum()
    return total / max(int(keep.sum()), 1)
"""


@honest(task="cross_entropy")
def row_by_row(source):
    """Row after row in plain Python."""
    del source
    return """
def cross_entropy(logits, targets, ignore_index=-100):
    rows = logits.reshape(-1, logits.size(-1))
    if rows.dtype in (torch.float16, torch.bfloat16):
        rows = rows.float()
    flat = targets.reshape(-1)
    total, n = rows.new_zeros(()), 0
    for row, t in zip(rows, flat.tolist()):
        if t == ignore_index:
            continue
        total = total - torch.log_softmax(row, 0)[t]
        n += 1
    return total / n if n else rows.sum() * 0
"""


@honest(task="cross_entropy")
def categorical(source):
    """The log-probability of a torch.distributions.Categorical."""
    del source
    return """
def cross_entropy(logits, targets, ignore_index=-100):
    if not logits.dtype.is_floating_point or logits.dtype.itemsize < 4:
        logits = logits.to(torch.float32)
    keep = targets.ne(ignore_index)
    z, t = logits[keep], targets[keep]
    if t.numel() == 0:
        return (logits * 0).sum()
    z = z - z.amax(-1, keepdim=True).detach()
    return -torch.distributions.Categorical(logits=z, validate_args=False).log_prob(t).mean()
"""


# learning_rate ------------------------------------------------------------------------------------------------------


@battery("learning_rate")
def rate_questions(ask):
    """Whole tables, with and without a warm-up, and far beyond the end."""
    return [
        [ask.learning_rate(s, peak=0.8, floor=0.1, warmup_steps=3, total_steps=9) for s in [*range(12), 15, 40]],
        [ask.learning_rate(s, peak=0.5, floor=0.2, warmup_steps=0, total_steps=4) for s in range(6)],
    ]


@misconception(task="learning_rate", advice="Step 0 is the first step: `peak * (step + 1) / warmup_steps`.")
def first_step_wasted(source):
    """The rate of step 0 is 0, so the first step does nothing."""
    return change(source, "peak * (step + 1) / warmup_steps", "peak * step / warmup_steps")


@misconception(
    task="learning_rate",
    advice="Divide by `warmup_steps`, so that the last step of the warm-up has the peak.",
)
def warmup_one_too_long(source):
    """The way up is divided into one part too many, so the peak is not reached by it."""
    return change(source, "peak * (step + 1) / warmup_steps", "peak * (step + 1) / (warmup_steps + 1)")


@misconception(task="learning_rate", advice="The way up ends before step `warmup_steps`: `step < warmup_steps`.")
def warmup_overshoots(source):
    """Step warmup_steps still belongs to the way up, and its rate is above the peak."""
    return change(source, "if step < warmup_steps:", "if step <= warmup_steps and warmup_steps:")


@misconception(
    task="learning_rate",
    advice="Measure the way down from the end of the warm-up: `(step - warmup_steps) / (total_steps - warmup_steps)`.",
)
def cosine_from_zero(source):
    """The cosine is measured from step 0, so the rate jumps down after the warm-up."""
    return change(source, "(step - warmup_steps) / (total_steps - warmup_steps)", "step / total_steps")


@misconception(task="learning_rate", advice="The way down has `total_steps - warmup_steps` steps.")
def cosine_too_long(source):
    """The way down is measured with total_steps, so the floor is not reached in time."""
    return change(source, "(step - warmup_steps) / (total_steps - warmup_steps)", "(step - warmup_steps) / total_steps")


@misconception(
    task="learning_rate",
    advice="From `total_steps` on return `floor`: a cosine goes up again after its half.",
)
def cosine_never_ends(source):
    """After total_steps the cosine goes on, and the rate rises again."""
    return change(source, "if step >= total_steps:", "if False:")


@misconception(
    task="learning_rate",
    advice="The cosine runs between `floor` and `peak`: add `floor`, and scale by `peak - floor`.",
)
def floor_forgotten(source):
    """The cosine goes down to 0 instead of to the floor."""
    return change(source, "floor + (peak - floor) * (1 +", "peak * (1 +")


@misconception(
    task="learning_rate",
    advice="Scale the cosine by `peak - floor`; with `peak` alone it starts above the peak.",
)
def floor_on_top(source):
    """The floor is added on top of the whole peak."""
    return change(source, "floor + (peak - floor) * (1 +", "floor + peak * (1 +")


@misconception(
    task="learning_rate",
    advice="Use half a cosine, `(1 + cos(pi * progress)) / 2`, instead of a straight line.",
)
def straight_down(source):
    """The way down is a straight line."""
    return change(source, "(1 + math.cos(math.pi * progress)) / 2", "(1 - progress)")


@misconception(task="learning_rate", advice="At the start of the way down the cosine is 1: `1 + cos(pi * progress)`.")
def backwards(source):
    """The cosine is the wrong way round: the rate falls to the floor at once and then rises."""
    return change(source, "(1 + math.cos(math.pi * progress)) / 2", "(1 - math.cos(math.pi * progress)) / 2")


@misconception(task="learning_rate", advice="Half a cosine goes from 0 to pi, not to pi / 2.")
def quarter_cosine(source):
    """Only a quarter of a cosine is used."""
    return change(source, "(1 + math.cos(math.pi * progress)) / 2", "math.cos(math.pi * progress / 2)")


@misconception(task="learning_rate", advice="After the end the rate is `floor`, not 0.")
def zero_at_the_end(source):
    """From total_steps on the rate is 0."""
    return change(source, "        return floor\n", "        return 0.0\n")


@misconception(
    task="learning_rate",
    advice="Look at the warm-up only `if step < warmup_steps`: then nothing is divided by 0.",
)
def no_warmup_crashes(source):
    """Without a warm-up it divides by zero."""
    return change(
        source,
        "    if step < warmup_steps:\n        return peak * (step + 1) / warmup_steps",
        "    up = (step + 1) / warmup_steps\n    if up <= 1:\n        return peak * up",
    )


@misconception(task="learning_rate", advice="The way up begins at peak / warmup_steps, however large the floor is.")
def warmup_from_the_floor(source):
    """The way up begins at the floor and not at peak / warmup_steps."""
    return change(source, "return peak * (step + 1) / warmup_steps", "return floor + (peak - floor) * (step + 1) / warmup_steps")


@honest(task="learning_rate")
def rate_in_one_expression(source):
    """Everything by min and max."""
    return """
def learning_rate(step, *, peak, floor, warmup_steps, total_steps):
    if step < warmup_steps:
        return peak / warmup_steps * (1 + step)
    done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    share = 0.5 * (1.0 + math.cos(math.pi * done))
    return peak * share + floor * (1 - share)
"""


@honest(task="learning_rate")
def cosine_squared(source):
    """The half angle's cosine squared, everything by min and max."""
    del source
    return """
def learning_rate(step, *, peak, floor, warmup_steps, total_steps):
    if warmup_steps and step < warmup_steps:
        return peak * min(1.0, (step + 1) / warmup_steps)
    done = min(max(step - warmup_steps, 0), total_steps - warmup_steps) / max(total_steps - warmup_steps, 1)
    return floor + (peak - floor) * math.cos(math.pi / 2 * done) ** 2
"""


# clip_gradients -----------------------------------------------------------------------------------------------------


@battery("clip_gradients")
def clip_questions(ask):
    """Too long, short enough, without gradients, from a generator, and whether the tensors stay the same."""
    questions = []
    for share, scale in ((0.4, 2.0), (2.0, 2.0), (0.4, 0.1)):
        norm, gradients = hidden.clipped(ask, 2, share, scale)
        questions += [norm, gradients]
    bare, *parameters = ask.keep("torch.nn.Parameter", hidden.values(7, 2)), *hidden.with_gradients(ask, 3)
    tensors = [parameter.keep("grad") for parameter in parameters]
    model = ask.keep("torch.nn.ParameterList", [bare, *parameters])
    questions.append(ask.clip_gradients(model.keep("parameters"), 0.5))
    questions += [[parameter.get("grad") for parameter in parameters], [tensor.detach() for tensor in tensors]]
    questions.append(ask.clip_gradients([bare], 1.0))
    return questions


@misconception(task="clip_gradients", advice="Compute one length over all gradients and scale all by one factor.")
def one_by_one(source):
    """Each parameter's gradient is clipped by itself, which turns the gradient."""
    return change(
        source,
        "    if norm > max_norm:\n        torch._foreach_mul_(gradients, max_norm / (norm + 1e-6))",
        "    for gradient, length in zip(gradients, lengths):\n"
        "        if length > max_norm:\n"
        "            gradient.mul_(max_norm / (length + 1e-6))",
    )


@misconception(task="clip_gradients", advice="Scale only `if norm > max_norm`: a short gradient stays as it is.")
def always_rescaled(source):
    """The gradient is always brought to max_norm, also when it is shorter."""
    return change(source, "if norm > max_norm:", "if True:")


@misconception(
    task="clip_gradients",
    advice="Change the gradient itself: `gradient.mul_(factor)`. `gradient = gradient * factor` makes a new "
    "tensor and drops it.",
)
def nothing_scaled(source):
    """The scaled gradients are computed and thrown away."""
    return change(source, "torch._foreach_mul_(gradients, ", "gradients = torch._foreach_mul(gradients, ")


@misconception(
    task="clip_gradients",
    advice="Use `mul_` on the tensor in `.grad` instead of putting a new tensor there.",
)
def new_tensors(source):
    """New tensors are put into .grad instead of changing those that are there."""
    source = change(
        source, "    gradients = [parameter.grad", "    parameters = list(parameters)\n    gradients = [parameter.grad"
    )
    return change(
        source,
        "        torch._foreach_mul_(gradients, max_norm / (norm + 1e-6))",
        "        for parameter in parameters:\n            if parameter.grad is not None:\n"
        "                parameter.grad = parameter.grad * (max_norm / (norm + 1e-6))",
    )


@misconception(
    task="clip_gradients",
    advice="Scale the whole gradient by one factor. Cutting off single entries turns it.",
)
def clipped_by_value(source):
    """Single entries are cut off at max_norm."""
    return change(
        source,
        "torch._foreach_mul_(gradients, max_norm / (norm + 1e-6))",
        "for gradient in gradients:\n            gradient.clamp_(-max_norm, max_norm)",
    )


@misconception(
    task="clip_gradients",
    advice="Return the length before clipping; after it, the number says nothing new.",
)
def norm_after(source):
    """Returned is the length after clipping."""
    return change(source, "    return norm\n", "    return min(norm, float(max_norm))\n")


@misconception(
    task="clip_gradients",
    advice="Lengths add up as the sides of a right angle do: the root of the sum of squares.",
)
def lengths_added(source):
    """The lengths of the parameters' gradients are simply added."""
    return change(source, "torch.linalg.vector_norm(torch.stack(lengths)).item()", "torch.stack(lengths).sum().item()")


@misconception(task="clip_gradients", advice="Take the root of the sum of squares.")
def root_forgotten(source):
    """The sum of squares is used without its root."""
    return change(
        source, "torch.linalg.vector_norm(torch.stack(lengths)).item()", "torch.stack(lengths).square().sum().item()"
    )


@misconception(
    task="clip_gradients",
    advice="The L2 norm: square, add, take the root. The largest entry alone is another norm.",
)
def largest_entry(source):
    """The largest entry is taken for the length."""
    return change(
        source, "torch.linalg.vector_norm(torch.stack(lengths)).item()", "max(g.abs().max() for g in gradients).item()"
    )


@misconception(task="clip_gradients", advice="Take the sum of squares over all entries, not their mean.")
def mean_of_squares(source):
    """The root of the mean square is taken for the length."""
    return change(
        source,
        "torch.linalg.vector_norm(torch.stack(lengths)).item()",
        "(sum(g.square().sum() for g in gradients) / sum(g.numel() for g in gradients)).sqrt().item()",
    )


@misconception(task="clip_gradients", advice="Pass over parameters whose `.grad` is None.")
def missing_gradient_crashes(source):
    """A parameter without a gradient raises an error."""
    return change(source, " if parameter.grad is not None]", "]")


@misconception(task="clip_gradients", advice="Without any gradient return 0.0 before you stack an empty list.")
def no_gradients_crash(source):
    """If no parameter has a gradient it raises an error instead of returning 0.0."""
    return change(source, "    if not gradients:\n        return 0.0\n", "")


@misconception(
    task="clip_gradients",
    advice="Keep the gradients in a list first: `model.parameters()` is a generator and can be walked through once.",
)
def generator_used_up(source):
    """The parameters are walked through twice, but a generator is empty the second time: nothing is clipped."""
    return change(
        source,
        "        torch._foreach_mul_(gradients, max_norm / (norm + 1e-6))",
        "        for parameter in parameters:\n            if parameter.grad is not None:\n"
        "                parameter.grad.mul_(max_norm / (norm + 1e-6))",
    )


@misconception(task="clip_gradients", advice="Make a float of it with `.item()`.")
def norm_is_a_tensor(source):
    """The norm comes back as a tensor instead of a Python float."""
    return change(
        source,
        "torch.linalg.vector_norm(torch.stack(lengths)).item()",
        "torch.linalg.vector_norm(torch.stack(lengths))",
    )


@misconception(task="clip_gradients", advice="Compare the length with max_norm, whatever max_norm is.")
def only_above_one(source):
    """A gradient shorter than 1 is never clipped, however small max_norm is."""
    return change(source, "if norm > max_norm:", "if norm > max(max_norm, 1.0):")


@misconception(task="clip_gradients", advice="The length is the root of the sum of squares, and not the sum of absolute values.")
def sum_of_absolutes(source):
    """The sum of absolute values is taken for the length (the L1 norm)."""
    return change(
        change(source, "torch._foreach_norm(gradients, dtype", "torch._foreach_norm(gradients, 1, dtype"),
        "torch.linalg.vector_norm(torch.stack(lengths))",
        "torch.stack(lengths).sum()",
    )


@honest(task="clip_gradients")
def clip_by_squares(source):
    """A sum of squares as Python floats, and no small number in the denominator."""
    return """
def clip_gradients(parameters, max_norm):
    parameters = [p for p in parameters if p.grad is not None]
    total = sum((p.grad.detach().double() ** 2).sum().item() for p in parameters) ** 0.5
    scale = max_norm / total if total > max_norm else 1.0
    for p in parameters:
        p.grad.detach().mul_(scale)
    return float(total)
"""


@honest(task="clip_gradients")
def clip_with_clamp(source):
    """One long vector, and a coefficient clamped to 1, as torch has it."""
    return """
def clip_gradients(parameters, max_norm):
    grads = [p.grad for p in parameters if p.grad is not None]
    if len(grads) == 0:
        return 0.0
    total = torch.cat([g.flatten() for g in grads]).norm(2)
    coefficient = torch.clamp(max_norm / (total + 1e-6), max=1.0)
    with torch.no_grad():
        for g in grads:
            g.copy_(g * coefficient)
    return total.item()
"""


@honest(task="clip_gradients")
def foreach_norms(source):
    """torch._foreach_norm and _foreach_mul_, the lengths in float64."""
    del source
    return """
def clip_gradients(parameters, max_norm):
    grads = [p.grad for p in parameters if p.grad is not None]
    if len(grads) == 0:
        return 0.0
    total = torch.stack([n.double() for n in torch._foreach_norm(grads)]).pow(2).sum().sqrt().item()
    if total > max_norm:
        torch._foreach_mul_(grads, max_norm / total)
    return total
"""


@honest(task="clip_gradients")
def total_norm_of_torch(source):
    """torch's get_total_norm, and a factor that is never above one."""
    del source
    return """
def clip_gradients(parameters, max_norm):
    ps = [p for p in list(parameters) if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in ps])
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0) if ps else None
    for p in ps:
        p.grad.data *= scale
    return float(norm)
"""


# adamw --------------------------------------------------------------------------------------------------------------


@battery("adamw")
def adamw_questions(ask):
    """Drives that move one thing at a time: moments, decay, eps, betas, late gradients, groups, rates, saved state."""
    def drive(*arguments, **settings):
        return list(hidden.drive(ask, *arguments, **settings))

    every = [hidden.VECTOR, hidden.MATRIX, hidden.OTHER]
    groups = [{"lr": 0.2, "weight_decay": 0.0}, {"betas": (0.5, 0.9), "eps": 0.1}, {"weight_decay": 0.7}]
    try:
        in_groups = list(hidden.drive(ask.target, every, groups, 2, lr=0.1, weight_decay=0.2))
    except StudentError as error:
        in_groups = error.kind
    return [
        drive(every, None, 3, lr=0.1, weight_decay=0.0),
        drive(every, None, 2),
        drive(every, None, 3, lr=0.1, weight_decay=0.5),
        drive(every, None, 2, lr=0.1, weight_decay=0.0, eps=0.4),
        drive(every, None, 3, lr=0.1, weight_decay=0.3, betas=(0.6, 0.8)),
        drive(every, None, 4, lr=0.1, weight_decay=0.3, missing={(0, 1), (2, 2)}),
        in_groups,
        drive(every, None, 3, lr=9.0, weight_decay=0.5, rates=[0.1, 0.3, 0.05]),
        drive(every, None, 4, lr=0.1, weight_decay=0.3, reload=2),
    ]


DECAY = 'torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])'


@misconception(task="adamw", advice="Leave the gradient alone and multiply the parameter by 1 - lr * weight_decay.")
def decay_in_the_gradient(source):
    """The decay is added to the gradient (L2), so that it passes through the running means: Adam, not AdamW."""
    source = change(
        source,
        "[parameter.grad for parameter in parameters]",
        '[parameter.grad + group["weight_decay"] * parameter for parameter in parameters]',
    )
    return change(source, DECAY, "pass")


@misconception(task="adamw", advice="Multiply the parameter by 1 - lr * weight_decay before the step.")
def no_decay(source):
    """The weight decay is not applied."""
    return change(source, DECAY, "pass")


@misconception(task="adamw", advice="The decay is scaled by the learning rate: 1 - lr * weight_decay.")
def decay_without_lr(source):
    """The decay is not multiplied by the learning rate."""
    return change(source, '1 - lr * group["weight_decay"]', '1 - group["weight_decay"]')


@misconception(task="adamw", advice="Decay first, then step. The other way round, the step decays too.")
def decay_last(source):
    """The decay comes after the step instead of before it."""
    source = change(source, DECAY, "pass")
    return change(
        source,
        "[-lr / correction for correction in corrections1])",
        "[-lr / correction for correction in corrections1])\n            " + DECAY,
    )


@misconception(
    task="adamw",
    advice="Divide by 1 - beta1^t and 1 - beta2^t: both means start at 0 and are too small at first.",
)
def no_correction(source):
    """The running means are not corrected for their start at 0."""
    source = change(source, "1 - beta1 ** count", "1.0")
    return change(source, "1 - beta2 ** count", "1.0")


@misconception(task="adamw", advice="Correct the mean square as well: divide it by 1 - beta2^t.")
def square_not_corrected(source):
    """Only the mean of the gradient is corrected, not the mean of its square."""
    return change(source, "1 - beta2 ** count", "1.0")


@misconception(task="adamw", advice="Correct the mean of the gradient as well: divide it by 1 - beta1^t.")
def mean_not_corrected(source):
    """Only the mean square is corrected, not the mean of the gradient."""
    return change(source, "1 - beta1 ** count", "1.0")


@misconception(task="adamw", advice="Count the step before the correction, so that the first has t = 1.")
def counted_too_late(source):
    """The first step has t = 0, and the correction divides by zero."""
    source = change(source, '                state["step"] += 1\n', "")
    return change(
        source,
        "[-lr / correction for correction in corrections1])",
        "[-lr / correction if correction else -math.inf for correction in corrections1])\n"
        '            for state in states:\n                state["step"] += 1',
    )


ROOTS = "denominators = torch._foreach_sqrt(squares)\n            "
CORRECTED = (
    "torch._foreach_div_(denominators, [math.sqrt(correction) for correction in corrections2])\n            "
)
PLUS_EPS = 'torch._foreach_add_(denominators, group["eps"])'


@misconception(task="adamw", advice="Add eps to the root: sqrt(v) + eps.")
def eps_under_the_root(source):
    """eps is added under the square root."""
    return change(
        source,
        ROOTS + CORRECTED + PLUS_EPS,
        "denominators = torch._foreach_div(squares, corrections2)\n            " + PLUS_EPS + "\n            "
        "torch._foreach_sqrt_(denominators)",
    )


@misconception(task="adamw", advice="Correct the mean square first, take its root, and only then add eps.")
def eps_before_correction(source):
    """eps is added before the correction, which then makes it larger."""
    return change(
        source,
        CORRECTED + PLUS_EPS,
        PLUS_EPS + "\n            " + CORRECTED.rstrip(),
    )


@misconception(task="adamw", advice="Use eps: without it a weight whose gradient was always 0 becomes NaN.")
def no_eps(source):
    """eps is not used."""
    return change(source, PLUS_EPS, "pass")


@misconception(task="adamw", advice="Keep the count in `self.state[parameter]`, one for each parameter.")
def one_count_for_all(source):
    """All parameters share one step count, which is wrong for one whose first gradient comes late."""
    source = change(
        source,
        "        for group in self.param_groups:\n",
        "        self.t = getattr(self, 't', 0) + 1\n        for group in self.param_groups:\n",
        count=1,
    )
    source = change(source, '                state["step"] += 1\n', '                state["step"] = self.t\n')
    return source


@misconception(task="adamw", advice="Put the count into `self.state[parameter]`, so that it is saved with the rest.")
def count_not_saved(source):
    """The step counts are kept outside the state and are lost when it is saved and loaded."""
    source = change(
        source,
        "        for group in self.param_groups:\n",
        "        taken = self.__dict__.setdefault('taken', {})\n        for group in self.param_groups:\n",
    )
    return change(
        source,
        '                state["step"] += 1\n',
        "                taken[parameter] = taken.get(parameter, 0) + 1\n"
        "                state['step'] = taken[parameter]\n",
    )


@misconception(
    task="adamw",
    advice="Keep the running means in `self.state[parameter]`: only that is in the state_dict.",
)
def means_not_saved(source):
    """The running means are kept outside the state and are lost when it is saved and loaded."""
    return change(
        source,
        "[self.state[parameter] for",
        "[self.__dict__.setdefault('means', {}).setdefault(parameter, {}) for",
    )


@misconception(task="adamw", advice="`if parameter.grad is None: continue`. It is not a gradient of zero.")
def missing_is_zero(source):
    """A parameter without a gradient is treated as if its gradient were 0: it decays and drifts on."""
    source = change(source, ' for parameter in group["params"] if parameter.grad is not None]', ' for parameter in group["params"]]')
    return change(
        source,
        "[parameter.grad for",
        "[torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for",
    )


@misconception(task="adamw", advice="beta1 belongs to the gradient, beta2 to its square.")
def betas_swapped(source):
    """The two betas are swapped."""
    return change(
        source, 'lr, (beta1, beta2) = group["lr"], group["betas"]', 'lr, (beta2, beta1) = group["lr"], group["betas"]'
    )


@misconception(task="adamw", advice="Square the gradient for the second mean, not the first mean.")
def square_of_the_mean(source):
    """The second mean is that of the squared running mean instead of the squared gradient."""
    return change(source, "(squares, gradients, gradients, ", "(squares, means, means, ")


@misconception(task="adamw", advice="Divide by the root of the mean square, not by the mean square.")
def no_root(source):
    """The step is divided by the mean square without its root."""
    return change(source, ROOTS + CORRECTED, "denominators = torch._foreach_div(squares, corrections2)\n            ")


@misconception(task="adamw", advice="Go down: subtract the step.")
def uphill(source):
    """The step goes up instead of down."""
    return change(source, "[-lr / correction", "[lr / correction")


@misconception(
    task="adamw",
    advice='Read `group["lr"]` at every step: a schedule changes it there, and groups may differ.',
)
def lr_of_the_start(source):
    """The learning rate given at the start is used for ever, whatever stands in the groups."""
    return change(source, 'lr, (beta1, beta2) = group["lr"],', 'lr, (beta1, beta2) = self.defaults["lr"],')


@misconception(task="adamw", advice='Read `group["weight_decay"]`: the second group of a GPT has none.')
def one_decay_for_all(source):
    """The decay given at the start is used for every group."""
    return change(source, 'group["weight_decay"]', 'self.defaults["weight_decay"]')


@misconception(task="adamw", advice="`param_groups` may hold several groups: loop over all of them.")
def first_group_only(source):
    """Only the first group is moved."""
    return change(source, "for group in self.param_groups:", "for group in self.param_groups[:1]:")


@misconception(task="adamw", advice="Mix in the new gradient with the weight 1 - beta1.")
def mean_without_share(source):
    """The gradient is added to its running mean in full, without the factor 1 - beta1."""
    return change(
        source,
        "torch._foreach_lerp_(means, gradients, 1 - beta1)",
        "torch._foreach_mul_(means, beta1)\n            torch._foreach_add_(means, gradients)",
    )


@misconception(task="adamw", advice="The defaults are lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01.")
def other_defaults(source):
    """The default beta2 is 0.95."""
    return change(source, "betas=(0.9, 0.999)", "betas=(0.9, 0.95)")


@misconception(task="adamw", advice="Divide the root by sqrt(1 - beta2 ** t): v is corrected before the root is taken.")
def correction_outside_the_root(source):
    """The root of the mean square is divided by the correction, and not by the correction's root."""
    return change(source, "math.sqrt(correction)", "correction")


@misconception(task="adamw", advice="Correct each mean by its own beta: m by beta1, v by beta2.")
def corrections_swapped(source):
    """The corrections of the two means are swapped."""
    source = change(source, "corrections1 = [1 - beta1", "corrections1 = [1 - beta2")
    return change(source, "corrections2 = [1 - beta2", "corrections2 = [1 - beta1")


@misconception(task="adamw", advice="Use the running mean square as it is: keeping its maximum is AMSGrad.")
def amsgrad(source):
    """The largest mean square so far is used: that is AMSGrad."""
    return change(
        source,
        ROOTS,
        "for state in states:\n"
        "                square = state['exp_avg_sq']\n"
        "                state['max'] = torch.maximum(state.get('max', square), square)\n"
        "            denominators = torch._foreach_sqrt([state['max'] for state in states])\n            ",
    )


@misconception(task="adamw", advice="Decay whatever the group says: parameter_groups has decided already.")
def only_matrices_decay(source):
    """The optimizer spares parameters of one dimension by itself, whatever their group says."""
    return change(
        source,
        DECAY,
        'torch._foreach_mul_(parameters, [1 - lr * group["weight_decay"] * (p.dim() > 1) for p in parameters])',
    )


@honest(task="adamw")
def adamw_by_the_formula(source):
    """The formula as printed, out of place, with a tensor for the count."""
    return """
class AdamW(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        if lr < 0:
            raise ValueError(f"lr must not be negative: {lr}")
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    def step(self, closure=None):
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                s = self.state[p]
                if len(s) == 0:
                    s["t"], s["m"], s["v"] = torch.tensor(0.0), torch.zeros_like(p.data), torch.zeros_like(p.data)
                s["t"] += 1
                t, g = s["t"].item(), p.grad.data
                s["m"] = b1 * s["m"] + (1 - b1) * g
                s["v"] = b2 * s["v"] + (1 - b2) * g ** 2
                m_hat = s["m"] / (1 - b1 ** t)
                v_hat = s["v"] / (1 - b2 ** t)
                p.data = p.data * (1 - group["lr"] * group["weight_decay"])
                p.data = p.data - group["lr"] * m_hat / (v_hat ** 0.5 + group["eps"])
        return loss
"""


@honest(task="adamw")
def adamw_with_step_size(source):
    """The correction folded into the step size, and eps scaled along; `.get` for the state."""
    return """
class AdamW(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def step(self, closure=None):
        loss = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                beta1, beta2 = group["betas"]
                for p in group["params"]:
                    if p.grad is not None:
                        state = self.state[p]
                        t = state.get("t", 0) + 1
                        m = state.get("m", torch.zeros_like(p))
                        v = state.get("v", torch.zeros_like(p))
                        m = beta1 * m + (1 - beta1) * p.grad
                        v = beta2 * v + (1 - beta2) * torch.square(p.grad)
                        root = math.sqrt(1 - beta2 ** t)
                        p -= group["lr"] * group["weight_decay"] * p
                        p -= group["lr"] * root / (1 - beta1 ** t) * m / (torch.sqrt(v) + group["eps"] * root)
                        state["t"], state["m"], state["v"] = t, m, v
        return loss
"""


@honest(task="adamw")
def foreach_operations(source):
    """torch's _foreach operations over all parameters of a group; other names in the state, the count a tensor."""
    del source
    return """
class AdamW(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, dict(lr=lr, b1=betas[0], b2=betas[1], betas=betas, eps=eps, weight_decay=weight_decay))
    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure is not None else None
        for g in self.param_groups:
            ps = [p for p in g["params"] if p.grad is not None]
            if not ps:
                continue
            grads = [p.grad for p in ps]
            b1, b2 = g["betas"]
            for p in ps:
                st = self.state[p]
                if len(st) == 0:
                    st["m"], st["v"], st["t"] = torch.zeros_like(p), torch.zeros_like(p), torch.zeros(())
                st["t"] += 1
            m, v, t = ([self.state[p][k] for p in ps] for k in "mvt")
            torch._foreach_mul_(ps, 1 - g["lr"] * g["weight_decay"])
            torch._foreach_lerp_(m, grads, 1 - b1)
            torch._foreach_mul_(v, b2)
            torch._foreach_addcmul_(v, grads, grads, 1 - b2)
            den = torch._foreach_sqrt(v)
            torch._foreach_div_(den, [math.sqrt(1 - b2 ** x.item()) for x in t])
            torch._foreach_add_(den, g["eps"])
            torch._foreach_addcdiv_(ps, m, den, [-g["lr"] / (1 - b1 ** x.item()) for x in t])
        return loss
"""


@honest(task="adamw")
def hats_as_printed(source):
    """The hats as printed, other names in the state, the decay subtracted."""
    del source
    return """
class AdamW(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def step(self, closure=None):
        loss = closure() if closure else None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._one(p, **{k: group[k] for k in ("lr", "betas", "eps", "weight_decay")})
        return loss

    def _one(self, p, lr, betas, eps, weight_decay):
        s = self.state[p]
        s.setdefault("n", 0)
        s["n"] += 1
        g = p.grad.detach()
        b1, b2 = betas
        s["avg"] = b1 * s.get("avg", 0.0) + (1 - b1) * g
        s["sq"] = b2 * s.get("sq", 0.0) + (1 - b2) * g * g
        m_hat = s["avg"] / (1 - b1 ** s["n"])
        v_hat = s["sq"] / (1 - b2 ** s["n"])
        p.data = p.data - lr * weight_decay * p.data - lr * m_hat / (v_hat ** 0.5 + eps)
"""


@honest(task="adamw")
def powers_kept(source):
    """The powers of the betas are remembered instead of a step count."""
    del source
    return """
class AdamW(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))
    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in filter(lambda p: p.grad is not None, group["params"]):
                st = self.state[p]
                if "moments" not in st:
                    st["moments"] = [torch.zeros_like(p), torch.zeros_like(p)]
                    st["powers"] = [1.0, 1.0]
                (m, v), (b1, b2) = st["moments"], group["betas"]
                st["powers"] = [st["powers"][0] * b1, st["powers"][1] * b2]
                m += (1 - b1) * (p.grad - m)
                v += (1 - b2) * (p.grad.square() - v)
                p -= group["lr"] * group["weight_decay"] * p
                p -= group["lr"] * (m / (1 - st["powers"][0])) / ((v / (1 - st["powers"][1])).sqrt() + group["eps"])
        return loss
"""


# parameter_groups ---------------------------------------------------------------------------------------------------


@battery("parameter_groups")
def group_questions(ask):
    """The groups as tensors, of a whole model and of one partly frozen, and whether they are the model's own."""
    model, other, third = gpt(ask), gpt(ask), gpt(ask)
    other.keep("transformer.wpe.weight").requires_grad_(False)
    groups = ask.keep("parameter_groups", third, 0.0)
    optimizer = ask.new("SGD", groups, lr=1.0)
    ask.set(third.keep("transformer.ln_f.bias"), "grad", torch.ones(8, dtype=torch.float64))
    optimizer.step()
    return [ask.parameter_groups(model, 0.3), ask.parameter_groups(other, 0.2), third.get("transformer.ln_f.bias")]


@misconception(
    task="parameter_groups",
    advice="Parameters of fewer than two dimensions (biases, norms) belong in a group with weight_decay 0.",
)
def everything_decays(source):
    """Everything decays, biases and norms too."""
    return change(source, '"weight_decay": 0.0', '"weight_decay": weight_decay')


@misconception(task="parameter_groups", advice="The first group has the decay that is passed in.")
def nothing_decays(source):
    """Nothing decays."""
    return change(source, '"weight_decay": weight_decay', '"weight_decay": 0.0')


@misconception(
    task="parameter_groups",
    advice="Go by dimensions, not by names: the weight of a LayerNorm is no bias, and must not decay either.",
)
def only_biases_spared(source):
    """Only biases are spared; the weights of the norms decay."""
    return change(
        change(
            source,
            "[p for p in trained if p.dim() >= 2]",
            '[p for n, p in model.named_parameters() if p.requires_grad and not n.endswith("bias")]',
        ),
        "[p for p in trained if p.dim() < 2]",
        '[p for n, p in model.named_parameters() if p.requires_grad and n.endswith("bias")]',
    )


@misconception(task="parameter_groups", advice="Embeddings have two dimensions and decay as well.")
def embeddings_spared(source):
    """The embeddings do not decay."""
    return change(
        change(
            source,
            "[p for p in trained if p.dim() >= 2]",
            '[p for n, p in model.named_parameters() if p.requires_grad and p.dim() >= 2 and ".w" not in n[:13]]',
        ),
        "[p for p in trained if p.dim() < 2]",
        '[p for n, p in model.named_parameters() if p.requires_grad and (p.dim() < 2 or ".w" in n[:13])]',
    )


@misconception(
    task="parameter_groups",
    advice="`model.parameters()` gives a tied parameter once; `remove_duplicate=False` or a state_dict gives it twice.",
)
def tied_twice(source):
    """The tied embedding stands in its group twice."""
    return change(
        source,
        "for parameter in model.parameters()",
        "for _, parameter in model.named_parameters(remove_duplicate=False)",
    )


@misconception(task="parameter_groups", advice="The head is the embedding: leaving it out leaves out both.")
def tied_left_out(source):
    """The tied embedding is left out altogether."""
    return change(
        source, "if parameter.requires_grad]", "if parameter.requires_grad and parameter is not model.lm_head.weight]"
    )


@misconception(task="parameter_groups", advice="Take only parameters with `requires_grad`.")
def frozen_included(source):
    """Frozen parameters are included, and an optimizer would have them decay."""
    return change(source, " if parameter.requires_grad]", "]")


@misconception(task="parameter_groups", advice="First the group that decays, then the other.")
def groups_reversed(source):
    """The group without decay comes first."""
    return change(source, "    return [\n", "    return [][::-1] or [\n").replace(
        "    ]\n    ### END", "    ][::-1]\n    ### END"
    )


@misconception(
    task="parameter_groups",
    advice="Put the parameters themselves into the groups. An optimizer over copies moves nothing.",
)
def copies(source):
    """The groups hold copies, so an optimizer over them never moves the model."""
    return change(source, "trained = [parameter for", "trained = [nn.Parameter(parameter.detach().clone()) for")


@misconception(
    task="parameter_groups",
    advice="Those with two or more dimensions decay, and those with fewer do not: it is the other way round.",
)
def decay_the_vectors(source):
    """Vectors decay and matrices do not."""
    return change(
        change(source, "p.dim() >= 2", "p.dim() < 2 and True"), "trained if p.dim() < 2]", "trained if p.dim() >= 2]"
    )


@misconception(task="parameter_groups", advice="Go by p.dim() over all parameters: an embedding is a matrix as well.")
def only_linear_decays(source):
    """Only the weights of nn.Linear decay, so the position embedding does not."""
    source = change(source, "    return [", "    linear = {m.weight for m in model.modules() if isinstance(m, nn.Linear)}\n    return [")
    return change(change(source, "if p.dim() >= 2", "if p in linear"), "if p.dim() < 2", "if p not in linear")


@honest(task="parameter_groups")
def groups_by_a_loop(source):
    """A loop over the names with a set of those seen; empty groups left out."""
    return """
def parameter_groups(model, weight_decay):
    seen, decay, rest = set(), [], []
    for module in model.modules():
        for p in module.parameters(recurse=False):
            if p.requires_grad and id(p) not in seen:
                seen.add(id(p))
                (decay if p.ndim > 1 else rest).append(p)
    groups = [{"params": decay, "weight_decay": weight_decay, "name": "decay"}, {"params": rest, "weight_decay": 0}]
    return [group for group in groups if group["params"]]
"""


@honest(task="parameter_groups")
def sorted_by_truth(source):
    """Two lists under True and False; tied names skipped by id; another key in the groups."""
    del source
    return """
def parameter_groups(model, weight_decay):
    seen = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        if p.requires_grad and id(p) not in seen:
            seen[id(p)] = p
    groups = {True: [], False: []}
    for p in seen.values():
        groups[p.ndim > 1].append(p)
    return [{"params": groups[True], "weight_decay": weight_decay, "name": "decay"},
            {"params": groups[False], "weight_decay": 0, "name": "rest"}]
"""


# train_step ---------------------------------------------------------------------------------------------------------


def stepped(ask, steps, *, stale=False, **settings):
    """Plain descent over lists of batches: loss and norm of each step, and the weights after the last."""
    model, optimizer = hidden.ready(ask, stale=stale)
    return [ask.train_step(model, optimizer, batches, **settings) for batches in steps], after(model)


@battery("train_step")
def step_questions(ask):
    """One batch, several, clipped, with old gradients, what is left behind, the mode, and autocast."""
    three = [pair(1), pair(2), pair(3)]
    left = gpt(ask)
    ask.train_step(left, plain_descent(ask, left), [pair(4)])
    quiet = gpt(ask, dropout=0.4)
    quiet.eval()
    quiet_value = ask.observe("train_step", quiet, plain_descent(ask, quiet), [pair(5)], seed=1).value
    loud = gpt(ask, dropout=0.4)
    watch = ask.new("Watch", loud)
    ask.train_step(loud, plain_descent(ask, loud), [pair(5)])
    half = gpt(ask, wide=False)
    noted = ask.new("Watch", half)
    ask.train_step(half, plain_descent(ask, half), [pair(6)], autocast_dtype=torch.bfloat16)
    return [
        stepped(ask, [[pair(7)], [pair(8)]], max_norm=1e9),
        stepped(ask, [three, three[:2]], max_norm=1e9),
        stepped(ask, [three, [pair(9)]], max_norm=0.3),
        stepped(ask, [[pair(10)]], max_norm=1e9, stale=True),
        stepped(ask, [[pair(11)]], max_norm=2.5),
        [left.get(f"{name}.grad") is None for name in hidden.SOME],
        quiet_value,
        quiet.get("training"),
        loud.get("training"),
        [_field(each, "training") for each in _all(watch.get("passes"))],
        [_field(each, "dtype") for each in _all(noted.get("passes"))],
        half.get("transformer.ln_f.bias.dtype"),
    ]


def _all(passes):
    return passes if isinstance(passes, list) else [passes]


def _field(each, name):
    return str(each[name]) if isinstance(each, dict) else each


@misconception(
    task="train_step",
    advice="Call `zero_grad` before the first backward: whatever stands in .grad counts otherwise.",
)
def old_gradients_count(source):
    """Gradients left from before are counted in."""
    return change(source, "    model.zero_grad()\n    device", "    device")


@misconception(task="train_step", advice="Call `zero_grad` once before the backward passes, and once after the step.")
def never_zeroed(source):
    """The gradients are never cleared, so every step goes along the sum of all gradients so far."""
    return change(source, "    model.zero_grad()\n", "", count=2)


@misconception(task="train_step", advice="Call `zero_grad` after the step as well: no gradient may be left behind.")
def gradients_left(source):
    """After the step the gradients are still there."""
    return change(source, "    optimizer.step()\n    model.zero_grad()\n", "    optimizer.step()\n")


@misconception(
    task="train_step",
    advice="Divide each loss by the number of micro-batches before `backward()`, which adds up.",
)
def not_divided(source):
    """The micro-batches' gradients are added and not averaged: n of them make a step n times too long."""
    return change(source, "(loss / len(batches)).backward()", "loss.backward()")


@misconception(
    task="train_step",
    advice="Clear the gradients before the loop, not inside: the micro-batches must add up.",
)
def last_batch_only(source):
    """The gradients are cleared for each micro-batch, so only the last one counts."""
    return change(
        source,
        "        (loss / len(batches)).backward()",
        "        model.zero_grad()\n        (loss / len(batches)).backward()",
    )


@misconception(task="train_step", advice="Take one optimizer step after all backward passes.")
def a_step_each(source):
    """The optimizer takes a step after each micro-batch."""
    return change(
        source,
        "        losses.append(loss.detach())\n",
        "        losses.append(loss.detach())\n"
        "        norm = clip_gradients(model.parameters(), max_norm)\n"
        "        optimizer.step()\n",
    ).replace(
        "    norm = clip_gradients(model.parameters(), max_norm)\n    optimizer.step()\n    model.zero_grad()",
        "    model.zero_grad()",
    )


@misconception(task="train_step", advice="Clip between the backward passes and `optimizer.step()`.")
def clipped_too_late(source):
    """The gradient is not clipped before the step: not at all, or after it, when it does nothing any more."""
    return change(
        source,
        "    norm = clip_gradients(model.parameters(), max_norm)\n    optimizer.step()\n",
        "    optimizer.step()\n    norm = clip_gradients(model.parameters(), max_norm)\n",
    )


@misconception(task="train_step", advice="Clip after the last backward pass: before the first there is no gradient.")
def clipped_too_early(source):
    """The gradient is clipped before it is computed."""
    source = change(
        source, "    losses = []\n", "    losses = []\n    norm = clip_gradients(model.parameters(), max_norm)\n"
    )
    return change(
        source, "    norm = clip_gradients(model.parameters(), max_norm)\n    optimizer.step()", "    optimizer.step()"
    )


@misconception(task="train_step", advice="Pass `max_norm` on.")
def clipped_to_one(source):
    """The gradient is always clipped to 1, whatever max_norm says."""
    return change(source, "clip_gradients(model.parameters(), max_norm)", "clip_gradients(model.parameters(), 1.0)")


@misconception(task="train_step", advice="Clip once, when the gradients of all micro-batches have been added up.")
def clipped_each(source):
    """The gradient is clipped after each micro-batch instead of once when it is whole."""
    return change(
        source,
        "        losses.append(loss.detach())\n",
        "        losses.append(loss.detach())\n        norm = clip_gradients(model.parameters(), max_norm)\n",
    ).replace("    norm = clip_gradients(model.parameters(), max_norm)\n    optimizer.step()", "    optimizer.step()")


@misconception(task="train_step", advice="Return what `clip_gradients` returned: the length before.")
def norm_after_clipping(source):
    """The norm returned is the one after clipping."""
    return change(
        source,
        "    optimizer.step()\n",
        "    norm = clip_gradients(model.parameters(), math.inf)\n    optimizer.step()\n",
    )


@misconception(task="train_step", advice="Collect the losses of all micro-batches and return their mean.")
def loss_of_the_last(source):
    """The loss returned is that of the last micro-batch alone."""
    return change(source, "torch.stack(losses).mean().item()", "losses[-1].item()")


@misconception(task="train_step", advice="Return the mean of the losses, not their sum.")
def losses_summed(source):
    """The losses of the micro-batches are summed."""
    return change(source, "torch.stack(losses).mean().item()", "torch.stack(losses).sum().item()")


@misconception(
    task="train_step",
    advice="Divide once: losses that were divided by n for `backward()` are added up, not averaged again.",
)
def loss_divided_twice(source):
    """The loss returned is divided by the number of micro-batches twice."""
    return change(source, "torch.stack(losses).mean().item()", "torch.stack(losses).mean().item() / len(batches)")


@misconception(task="train_step", advice="Use `.item()` for the loss.")
def loss_is_a_tensor(source):
    """The loss comes back as a tensor."""
    return change(source, "torch.stack(losses).mean().item()", "torch.stack(losses).mean()")


@misconception(task="train_step", advice="Leave the mode to whoever calls: no `model.train()` in here.")
def mode_set(source):
    """The model is put into training mode, though the mode should be left alone."""
    return change(source, "    model.zero_grad()\n    device", "    model.train()\n    model.zero_grad()\n    device")


@misconception(task="train_step", advice="Leave the mode to whoever calls: no `model.eval()` in here.")
def dropout_off(source):
    """The model is put into eval mode, so it trains without dropout."""
    return change(source, "    model.zero_grad()\n    device", "    model.eval()\n    model.zero_grad()\n    device")


@misconception(
    task="train_step",
    advice="Run the forward pass under `torch.autocast(device.type, dtype=autocast_dtype)`.",
)
def autocast_ignored(source):
    """autocast_dtype has no effect: it is not used, or autocast is asked for on another device than the model's."""
    return change(source, "if autocast_dtype is None:", "if True:")


@misconception(
    task="train_step",
    advice="Autocast converts inside the operations only. Do not convert the model: small steps are lost in bfloat16.",
)
def model_converted(source):
    """The model itself is converted to autocast_dtype, so its weights lose most of their digits."""
    return change(
        source,
        "            with torch.autocast(device.type, dtype=autocast_dtype):\n                _, loss = model(x, y)",
        "            _, loss = model.to(autocast_dtype)(x, y)",
    )


@misconception(task="train_step", advice="Clear the gradients after the step, not between backward and step.")
def cleared_before_step(source):
    """The gradients are cleared before the step, so the model never learns."""
    return change(source, "    optimizer.step()\n", "    model.zero_grad()\n    optimizer.step()\n")


@misconception(task="train_step", advice="`y` is the target already one token later: hand it to the model as it is.")
def step_shifts_again(source):
    """The targets are shifted a second time inside the step."""
    return change(source, "_, loss = model(x, y)", "_, loss = model(x, y.roll(-1, dims=1))", count=2)


@misconception(
    task="train_step",
    advice="Call the model with the targets: `model(x, y)`. With `model(x, x)` it only learns to repeat.",
)
def inputs_as_targets(source):
    """The inputs are given as the targets: the loss becomes far too good."""
    return change(source, "_, loss = model(x, y)", "_, loss = model(x, x)", count=2)


@misconception(task="train_step", advice="Keep the losses of the passes that you learn from; run nothing after the step.")
def loss_after_the_step(source):
    """The loss returned is measured once more after the step, on weights that have just learnt these batches."""
    return change(
        source,
        "    return torch.stack",
        "    with torch.no_grad():\n        losses = [model(x, y)[1] for x, y in batches]\n    return torch.stack",
    )


@misconception(task="train_step", advice="Divide by the number of micro-batches: the model's loss is a mean over its rows already.")
def divided_by_rows(source):
    """The loss is divided by the number of texts in a micro-batch and not by that of the micro-batches."""
    return change(source, "(loss / len(batches)).backward()", "(loss / len(x)).backward()")


@honest(task="train_step")
def step_with_enabled(source):
    """One autocast for both cases, floats added up, and the optimizer's own zero_grad."""
    return """
def train_step(model, optimizer, batches, max_norm=1.0, autocast_dtype=None):
    optimizer.zero_grad(set_to_none=True)
    kind = next(model.parameters()).device.type
    total = 0.0
    for x, y in batches:
        half = autocast_dtype is not None
        with torch.autocast(device_type=kind, dtype=autocast_dtype or torch.bfloat16, enabled=half):
            loss = model(x, targets=y)[1] / len(batches)
        loss.backward()
        total += loss.item()
    norm = clip_gradients(list(model.parameters()), max_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total, norm
"""


@honest(task="train_step")
def step_scales_gradients(source):
    """The gradients are divided once at the end instead of the losses before."""
    return """
def train_step(model, optimizer, batches, max_norm=1.0, autocast_dtype=None):
    for p in model.parameters():
        p.grad = None
    losses = []
    for inputs, targets in batches:
        context = contextlib.nullcontext()
        if autocast_dtype is not None:
            context = torch.autocast(inputs.device.type, autocast_dtype)
        with context:
            _, loss = model(inputs, targets)
        loss.backward()
        losses.append(float(loss))
    for p in model.parameters():
        if p.grad is not None:
            p.grad /= len(losses)
    norm = clip_gradients(model.parameters(), max_norm)
    optimizer.step()
    for p in model.parameters():
        p.grad = None
    return sum(losses) / len(losses), norm
"""


@honest(task="train_step")
def autograd_grad(source):
    """torch.autograd.grad, summed by hand, then put into .grad."""
    del source
    return """
def train_step(model, optimizer, batches, max_norm=1.0, autocast_dtype=None):
    ps = [p for p in model.parameters() if p.requires_grad]
    kind = ps[0].device.type
    total, loss_sum = [torch.zeros_like(p) for p in ps], 0.0
    for x, y in batches:
        with torch.autocast(device_type=kind, dtype=autocast_dtype or torch.bfloat16, enabled=autocast_dtype is not None):
            loss = model(x, y)[1]
        for t, g in zip(total, torch.autograd.grad(loss, ps, allow_unused=True)):
            if g is not None:
                t += g
        loss_sum += loss.item()
    for p, t in zip(ps, total):
        p.grad = t / len(batches)
    norm = clip_gradients(ps, max_norm)
    optimizer.step()
    for p in ps:
        p.grad = None
    return loss_sum / len(batches), norm
"""


@honest(task="train_step")
def functional_call(source):
    """torch.func: the loss as a function of the parameters."""
    del source
    return """
def train_step(model, optimizer, batches, max_norm=1.0, autocast_dtype=None):
    params = {n: p for n, p in model.named_parameters()}
    dev = next(iter(params.values())).device.type
    def loss_of(p, x, y):
        with torch.autocast(dev, dtype=autocast_dtype, enabled=autocast_dtype is not None):
            return torch.func.functional_call(model, p, (x, y))[1]
    for p in model.parameters():
        p.grad = None
    losses = []
    for x, y in batches:
        grads, loss = torch.func.grad_and_value(loss_of)(params, x, y)
        losses.append(loss.item())
        for n, g in grads.items():
            g = g.detach() / len(batches)
            params[n].grad = g if params[n].grad is None else params[n].grad + g
    norm = clip_gradients(model.parameters(), max_norm)
    optimizer.step()
    for p in model.parameters():
        p.grad = None
    return math.fsum(losses) / len(losses), norm
"""


# evaluate -----------------------------------------------------------------------------------------------------------


@battery("evaluate")
def judge_questions(ask):
    """Texts that fill the windows and that do not, batches that come out even and not, the mode, the passes."""
    data = integers(40, 18)
    plain = [
        ask.observe("evaluate", gpt(ask), data[:n], hidden.CONTEXT, rows, seed=1).value
        for n, rows in ((16, 2), (16, 9), (18, 1), (18, 3), (4, 2))
    ]
    modes = []
    for training in (True, False):
        model = gpt(ask, dropout=0.5)
        model.train(training)
        watch = ask.new("Watch", model)
        seen = ask.observe("evaluate", model, data, 4, 2, randomness=True)
        passes = _all(watch.get("passes"))
        modes += [
            model.get("training"),
            seen.random_used,
            [_field(each, "training") for each in passes],
            [_field(each, "gradients") for each in passes],
            sorted(_field(each, "shape") for each in passes),
        ]
        model(*pair(1))
        modes.append(_field(_all(watch.get("passes"))[-1], "gradients"))
    return [*plain, *modes]


@misconception(
    task="evaluate",
    advice="Call `model.eval()` first: dropout makes a judgement worse, and different each time.",
)
def judged_with_dropout(source):
    """The model is judged in training mode, with dropout."""
    return change(source, "    model.eval()\n", "")


@misconception(
    task="evaluate",
    advice="Write `with torch.no_grad():` around the loop, or `@torch.no_grad()` above the function. A bare "
    "call has no effect.",
)
def gradients_prepared(source):
    """Gradients are prepared for nothing: there is no torch.no_grad(), or it has no effect."""
    return change(source, "with torch.no_grad():", "with contextlib.nullcontext():")


@misconception(task="evaluate", advice="Put the mode back: remember `model.training` before `eval()`.")
def left_in_eval(source):
    """The model is left in eval mode, so training goes on without dropout."""
    return change(source, "            module.training = mode", "            pass")


@misconception(task="evaluate", advice="Put back the mode that was there, which may have been eval mode.")
def always_back_to_train(source):
    """Afterwards the model is in training mode, even if it came in eval mode."""
    return change(source, "            module.training = mode", "            module.training = True")


@misconception(task="evaluate", advice="Weigh each batch by its number of targets; the last one is smaller.")
def mean_of_batch_means(source):
    """The mean of the batches' means is returned, so a small last batch weighs too much."""
    source = change(source, "total += model(x, y)[1].item() * y.numel()", "total += model(x, y)[1].item()")
    return change(source, "count += y.numel()", "count += 1")


@misconception(task="evaluate", advice="Weigh by targets, not by rows: the last window is shorter.")
def weighed_by_rows(source):
    """Each window weighs the same, also the shorter last one."""
    return change(source, "y.numel()", "len(y)", count=2)


@misconception(task="evaluate", advice="What is left after the full windows is a shorter window of its own.")
def rest_left_out(source):
    """The last, shorter window is left out."""
    return change(source, "if len(rest) > 1:", "if len(rest) > 1 and not batches:")


@misconception(
    task="evaluate",
    advice="Windows do not overlap: the stride is `block_size`, else targets count more than once.",
)
def overlapping(source):
    """The windows overlap, so most targets count several times."""
    return change(
        source, "windows(data, block_size, block_size)", "windows(data, block_size, max(block_size // 2, 1))"
    ).replace("rest = data[len(inputs) * block_size:]", "rest = data[(len(data) - 1) // block_size * block_size:]")


@misconception(task="evaluate", advice="The next window starts with the last target of the one before, not after it.")
def targets_between_lost(source):
    """The text is cut before it is shifted, so the target at each cut is never asked."""
    source = change(source, "windows(data, block_size, block_size)", "windows(data, block_size, block_size + 1)")
    return change(source, "rest = data[len(inputs) * block_size:]", "rest = data[len(inputs) * (block_size + 1):]")


@misconception(task="evaluate", advice="Judge with the targets one token later: `data[start + 1 : …]`.")
def judged_on_its_inputs(source):
    """The targets are not shifted: the loss is far too good, or means nothing."""
    return change(source, "model(x, y)[1]", "model(x, x)[1]")


@misconception(task="evaluate", advice="Return the loss itself; its exponential is the perplexity.")
def perplexity(source):
    """The perplexity is returned instead of the loss."""
    return change(source, "return total / count", "return math.exp(total / count)")


@misconception(task="evaluate", advice="Add up over all batches: only the first was judged.")
def first_batch_only(source):
    """Only the first batch is judged."""
    return change(source, "for x, y in batches:", "for x, y in batches[:1]:")


@misconception(task="evaluate", advice="Judge all of the text in order. Random windows give another number each time.")
def random_windows(source):
    """Windows are drawn at random, so that two judgements differ."""
    return change(
        source,
        "    inputs, targets = windows(data, block_size, block_size)",
        "    inputs, targets = windows(data, block_size, block_size)\n"
        "    order = torch.randint(max(len(inputs), 1), (len(inputs),))\n"
        "    inputs, targets = inputs[order], targets[order]",
    )


@misconception(task="evaluate", advice="Divide by the number of targets.")
def judged_sum(source):
    """The losses are summed and not averaged."""
    return change(source, "return total / count", "return total")


@misconception(
    task="evaluate",
    advice="Give the model `batch_size` windows at a time: all at once may not fit into memory.",
)
def all_at_once(source):
    """All windows go through the model at once, whatever batch_size says."""
    return change(source, "    # Full windows", "    batch_size = len(data)\n    # Full windows")


@misconception(task="evaluate", advice="Write `with torch.no_grad():`, which puts things back by itself.")
def gradients_left_off(source):
    """Gradients are switched off for good: after the first evaluation nothing learns any more."""
    return change(source, "with torch.no_grad():", "torch.set_grad_enabled(False)\n        if True:")


@misconception(
    task="evaluate",
    advice="Let the last window be shorter: the tokens that are left after the full windows, and no others.",
)
def last_window_filled_up(source):
    """The last window is filled up with tokens that were judged before: they count twice, and the rest has it too easy."""
    return change(
        source,
        "    if len(rest) > 1:\n",
        "    if 1 < len(rest) and len(data) > block_size:\n        rest = data[-block_size - 1:]\n    if len(rest) > 1:\n",
    )


@misconception(task="evaluate", advice="Judge the last batch as well, though it has fewer windows than batch_size.")
def last_batch_left_out(source):
    """A last batch of fewer windows is left out, as DataLoader's drop_last does."""
    return change(source, "range(0, len(inputs), batch_size)", "range(0, len(inputs) - batch_size + 1, batch_size)")


@misconception(task="evaluate", advice="Return the loss as it is, with the natural logarithm.")
def bits_returned(source):
    """The loss is returned in bits a token."""
    return change(source, "return total / count", "return total / count / math.log(2)")


@honest(task="evaluate")
def judge_by_a_loop(source):
    """One window at a time, and the mode restored by train()."""
    return """
def evaluate(model, data, block_size, batch_size):
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    device = next(model.parameters()).device
    with torch.no_grad():
        for start in range(0, len(data) - 1, block_size):
            end = min(start + block_size, len(data) - 1)
            x = data[start:end].unsqueeze(0).to(device, torch.int64)
            y = data[start + 1:end + 1].unsqueeze(0).to(device, torch.int64)
            _, loss = model(x, y)
            total += loss.item() * (end - start)
            count += end - start
    model.train(was_training)
    return total / count
"""


@honest(task="evaluate")
def judge_by_view(source):
    """A view of all full windows, sums in a tensor, inference mode."""
    return """
def evaluate(model, data, block_size, batch_size):
    mode = model.training
    model.eval()
    data = data.to(next(model.parameters()).device).long()
    n = (len(data) - 1) // block_size
    x = data[:n * block_size].view(n, block_size)
    y = data[1:n * block_size + 1].view(n, block_size)
    total = torch.zeros((), dtype=torch.float64)
    with torch.inference_mode():
        for i in range(0, n, batch_size):
            total += model(x[i:i + batch_size], y[i:i + batch_size])[1].double() * x[i:i + batch_size].numel()
        tail = data[n * block_size:]
        if len(tail) >= 2:
            total += model(tail[:-1][None], tail[1:][None])[1].double() * (len(tail) - 1)
    model.train(mode)
    return float(total / (len(data) - 1))
"""


@honest(task="evaluate")
def padded_and_ignored(source):
    """The last window padded, its padding ignored by the loss; inference mode."""
    del source
    return """
def evaluate(model, data, block_size, batch_size):
    was = {m: m.training for m in model.modules()}
    model.eval()
    dev = next(model.parameters()).device
    data = data.long()
    n = len(data) - 1
    rows = -(-n // block_size)
    x = F.pad(data[:-1], (0, rows * block_size - n)).view(rows, block_size)
    y = F.pad(data[1:], (0, rows * block_size - n), value=-100).view(rows, block_size)
    sums = []
    with torch.inference_mode():
        for xb, yb in zip(x.split(batch_size), y.split(batch_size)):
            loss = model(xb.to(dev), yb.to(dev))[1]
            sums.append(loss.item() * int((yb != -100).sum()))
    for m, t in was.items():
        m.train(t) if not list(m.children()) else setattr(m, "training", t)
    return math.fsum(sums) / n
"""


@honest(task="evaluate")
def from_logits(source):
    """Log-probabilities of all tokens, picked at the end."""
    del source
    return """
def evaluate(model, data, block_size, batch_size):
    mode, device = model.training, next(model.parameters()).device
    model.train(False)
    try:
        with torch.no_grad():
            targets = data[1:].to(device).long()
            chunks = list(torch.split(data[:-1].to(device).long(), block_size))
            full = [c for c in chunks if len(c) == block_size]
            groups = [torch.stack(full[i:i + batch_size]) for i in range(0, len(full), batch_size)]
            groups += [c[None] for c in chunks if len(c) != block_size]
            logp = torch.cat([model(g)[0].log_softmax(-1).flatten(0, 1) for g in groups])
            return -logp[torch.arange(len(targets)), targets].mean().item()
    finally:
        model.train(mode)
"""


# checkpoint ---------------------------------------------------------------------------------------------------------


@battery("checkpoint")
def checkpoint_questions(ask):
    """Saved and resumed, by string and by Path; the files left; a save that fails; a file that holds code."""
    owner = ask.new("TemporaryDirectory")
    place = owner.get("name")
    first = hidden.resumed(ask, f"{place}/run.pt")
    names = _names(ask, place)
    by_path = hidden.resumed(ask, ask.keep("Path", f"{place}/other.pt"))[1:5:3]
    model, optimizer = hidden.begun(ask)
    failed = ask.save_checkpoint(f"{place}/run.pt", model, optimizer, model.keep("parameters"))
    other, another = hidden.begun(ask, seed=3)
    old = ask.load_checkpoint(f"{place}/run.pt", other, another)
    file = hidden.io.BytesIO()
    torch.save({"model": hidden._Trap(f"{place}/sprung"), "step": 3}, file)  # noqa: SLF001 - the file beside this one
    ask.keep("Path", f"{place}/trap.pt").write_bytes(file.getvalue())
    ask.load_checkpoint(f"{place}/trap.pt", model, optimizer)
    sprung = ask.keep("Path", f"{place}/sprung").exists()
    answers = [first, names, by_path, failed is None, old, sprung, _read_while_written(ask, place), _names(ask, place, 6)]
    owner.cleanup()
    return answers


def _read_while_written(ask, place):
    """Does somebody who has the old file open still read the old file?"""
    model, optimizer = hidden.begun(ask)
    path = ask.keep("Path", f"{place}/read.pt")
    ask.save_checkpoint(f"{place}/read.pt", model, optimizer, 1)
    written = path.read_bytes()
    reader = path.keep("open", "rb")
    hidden.move(model, optimizer, 1)
    ask.save_checkpoint(f"{place}/read.pt", model, optimizer, 2)
    read = reader.read()
    reader.close()
    return isinstance(written, bytes) and read == written


def _names(ask, place, most=4):
    files = ask.keep("Path", place).keep("iterdir")
    return sorted(str(ask.next(files)).rpartition("/")[2] for _ in range(most))


@misconception(task="checkpoint", advice="Save `optimizer.state_dict()` as well, and load it into the optimizer.")
def optimizer_forgotten(source):
    """The optimizer's state is not saved, or not loaded, so the first steps after a restart go wrong."""
    source = change(source, '"optimizer": optimizer.state_dict(), ', "")
    return change(source, '    optimizer.load_state_dict(saved["optimizer"])\n', "")


@misconception(
    task="checkpoint",
    advice="Load the whole state_dict of the optimizer: its groups hold the learning rate.",
)
def groups_not_loaded(source):
    """The optimizer's memory is loaded, but not the settings of its groups."""
    return change(
        source,
        'optimizer.load_state_dict(saved["optimizer"])',
        'optimizer.load_state_dict({**saved["optimizer"], "param_groups": optimizer.state_dict()["param_groups"]})',
    )


@misconception(task="checkpoint", advice="Call `model.load_state_dict` on the model that was passed in.")
def model_not_loaded(source):
    """The model's weights are not loaded."""
    return change(source, '    model.load_state_dict(saved["model"])\n', "")


@misconception(task="checkpoint", advice="Save the step and return it.")
def step_forgotten(source):
    """The step is not saved: training begins to count from 0 again."""
    return change(source, 'return saved["step"]', "return 0")


@misconception(task="checkpoint", advice="Return the step as it was saved; whoever calls adds one if they need to.")
def step_plus_one(source):
    """The step comes back one too large."""
    return change(source, 'return saved["step"]', 'return saved["step"] + 1')


@misconception(task="checkpoint", advice="Return the step.")
def step_not_returned(source):
    """load_checkpoint returns nothing."""
    return change(source, '    return saved["step"]\n', "")


@misconception(task="checkpoint", advice="Write to another name in the same folder first, then `os.replace` it.")
def written_in_place(source):
    """The file is written directly under its name: a crash half way destroys the old checkpoint."""
    return change(source, 'temporary = path.with_name(f".{path.name}.{os.getpid()}")', "temporary = path").replace(
        "        temporary.unlink(missing_ok=True)\n", "        pass\n"
    )


@misconception(task="checkpoint", advice="Rename with `os.replace`; a copy leaves the temporary file behind.")
def temporary_left(source):
    """The temporary file is left beside the checkpoint."""
    return (
        change(source, "        os.replace(temporary, path)\n", "        path.write_bytes(temporary.read_bytes())\n")
        .replace("        temporary.unlink(missing_ok=True)\n", "        pass\n")
        .replace('f".{path.name}.{os.getpid()}"', '"checkpoint.tmp"')
    )


@misconception(
    task="checkpoint",
    advice="Delete the old file only by replacing it: between deleting and renaming there is none.",
)
def old_one_deleted_first(source):
    """The old checkpoint is deleted before the new one is written."""
    return change(source, "    path = Path(path)\n", "    path = Path(path)\n    path.unlink(missing_ok=True)\n")


@misconception(
    task="checkpoint",
    advice="Load with `weights_only=True`, always: a checkpoint must not be able to run code.",
)
def code_is_run(source):
    """Loading can run any code that the file holds."""
    return change(source, "weights_only=True", "weights_only=False")


@misconception(task="checkpoint", advice="Begin with `path = Path(path)`: it may be a string.")
def strings_not_taken(source):
    """A path given as a string raises an error."""
    return change(source, "    path = Path(path)\n", "")


@misconception(
    task="checkpoint",
    advice="Begin with `path = Path(path)` or `os.fspath(path)`: it may be a Path, to which nothing can be "
    "added with +.",
)
def paths_not_taken(source):
    """A path given as a Path raises an error."""
    return change(
        source,
        "    path = Path(path)\n    # Write",
        '    temporary = path + ".tmp"\n    path = Path(path)\n    # Write',
    )


@misconception(task="checkpoint", advice="Write under exactly the name asked for.")
def suffix_added(source):
    """An ending is added to the name that was asked for."""
    source = change(source, "    path = Path(path)\n", '    path = Path(f"{path}.ckpt")\n')
    return change(source, "torch.load(path,", 'torch.load(f"{path}.ckpt",')


@misconception(
    task="checkpoint",
    advice="Save the weights as they are: half precision loses digits, and the run is not the same any more.",
)
def saved_in_half(source):
    """The weights are saved in half precision, so they come back changed."""
    return change(
        source,
        '"model": model.state_dict()',
        '"model": {name: tensor.half() for name, tensor in model.state_dict().items()}',
    )


@misconception(
    task="checkpoint",
    advice="Save `model.state_dict()` as it is: a list made of it holds the names and no weights.",
)
def only_names_saved(source):
    """Only the names of the weights are saved, and not the weights themselves."""
    source = change(source, '"model": model.state_dict()', '"model": list(model.state_dict())')
    return change(source, 'model.load_state_dict(saved["model"])', 'model.load_state_dict(dict(saved["model"]))')


@misconception(task="checkpoint", advice="Rename with os.replace: a copy can be cut short by a crash just as the first write can.")
def copied_over(source):
    """The finished file is copied over the old checkpoint and not renamed, so a crash can still leave half of it."""
    return change(source, "os.replace(temporary, path)", "path.write_bytes(temporary.read_bytes())")


@misconception(task="checkpoint", advice="Leave out what is not asked for: after the rename one file is there.")
def backup_kept(source):
    """The old checkpoint is kept beside the new one under another name."""
    return change(
        source,
        "        os.replace(temporary, path)",
        "        if path.exists():\n            os.replace(path, path.with_name(path.name + '.bak'))\n        os.replace(temporary, path)",
    )


@honest(task="checkpoint")
def checkpoint_with_mkstemp(source):
    """A random name from tempfile, and os.path instead of pathlib."""
    return """
import tempfile


def save_checkpoint(path, model, optimizer, step):
    path = os.fspath(path)
    handle, name = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), suffix=".part")
    os.close(handle)
    try:
        torch.save({"step": step, "weights": model.state_dict(), "moments": optimizer.state_dict()}, name)
    except BaseException:
        os.remove(name)
        raise
    os.replace(name, path)


def load_checkpoint(path, model, optimizer):
    state = torch.load(str(path), weights_only=True)
    model.load_state_dict(state["weights"])
    optimizer.load_state_dict(state["moments"])
    return state["step"]
"""


@honest(task="checkpoint")
def checkpoint_from_memory(source):
    """Serialised in memory first, then one write and one rename; a save that fails touches no file."""
    return """
import io


def save_checkpoint(path, model, optimizer, step):
    buffer = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), step], buffer)
    part = Path(str(path) + ".tmp")
    part.write_bytes(buffer.getvalue())
    part.rename(path)


def load_checkpoint(path, model, optimizer):
    with open(path, "rb") as file:
        weights, state, step = torch.load(file, weights_only=True)
    model.load_state_dict(weights)
    optimizer.load_state_dict(state)
    return step
"""


@honest(task="checkpoint")
def mkstemp(source):
    """A name from mkstemp in the same folder; other keys in the file."""
    del source
    return """
import tempfile
def save_checkpoint(path, model, optimizer, step):
    path = os.fspath(path)
    fd, name = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), suffix=".part")
    try:
        with os.fdopen(fd, "wb") as f:
            torch.save(dict(m=model.state_dict(), o=optimizer.state_dict(), s=step), f)
        os.rename(name, path)
    except BaseException:
        os.unlink(name)
        raise
def load_checkpoint(path, model, optimizer):
    d = torch.load(path, weights_only=True)
    optimizer.load_state_dict(d["o"]); model.load_state_dict(d["m"])
    return d["s"]
"""


@honest(task="checkpoint")
def temporary_folder(source):
    """Written in a temporary folder beside it, then moved out."""
    del source
    return """
def save_checkpoint(path, model, optimizer, step):
    path = Path(path)
    with TemporaryDirectory(dir=path.parent, prefix=".") as d:
        part = Path(d) / "part"
        torch.save((model.state_dict(), optimizer.state_dict(), step), part)
        part.replace(path)
def load_checkpoint(path, model, optimizer):
    with open(path, "rb") as f:
        m, o, step = torch.load(f, weights_only=True, map_location=next(model.parameters()).device)
    model.load_state_dict(m)
    optimizer.load_state_dict(o)
    return step
"""


# train --------------------------------------------------------------------------------------------------------------


@battery("train")
def train_questions(ask):
    """Whole histories and final weights, plain and with everything at once, the modes, the chance and the types."""
    answers = []
    everything = {
        "accumulation": 2,
        "max_norm": 0.3,
        "weight_decay": 0.6,
        "warmup_steps": 1,
        "total_steps": 4,
        "eval_interval": 1,
    }
    for settings in (
        {"eval_interval": 2, "total_steps": 5},
        everything,
        {"total_steps": 3, "eval_interval": 5, "seed": 3},
    ):
        model = gpt(ask)
        config = hidden.configured(ask, **settings)
        answers += [ask.train(model, integers(1, 60), integers(2, 15), config), after(model), model.get("training")]
    model = gpt(ask, dropout=0.3, wide=False)
    model.eval()
    watch = ask.new("Watch", model)
    config = hidden.configured(ask, total_steps=4, accumulation=2, autocast_dtype=torch.bfloat16)
    ask.train(model, integers(1, 60), integers(2, 15), config)
    passes = [each for each in _all(watch.get("passes")) if not isinstance(each, dict) or each["gradients"]]
    quiet = ask.observe(
        "train", gpt(ask), integers(1, 60), integers(2, 15), config, randomness=True, seed=0
    ).random_used
    return [
        *answers,
        [(_field(each, "training"), _field(each, "dtype")) for each in passes],
        model.get("training"),
        model.get("transformer.wpe.weight.dtype"),
        quiet,
        _elsewhere(ask.target),
    ]


def _elsewhere(student):
    """On a model of another device: is anything on the wrong one?"""
    model = gpt(student, wide=False)
    model.to("meta")
    ids = integers(1, 60)
    try:
        student.observe("train", model, ids, ids, hidden.configured(student), strict_device=True)
    except (StudentError, Exhausted) as error:
        return [sign in str(error) for sign in ("two devices", *hidden.NO_GENERATOR_THERE)]
    return []


@misconception(task="train", advice="Before each step put `learning_rate(step, …)` into every group.")
def schedule_not_used(source):
    """The learning rate is reported but never set: the optimizer keeps the peak."""
    return change(source, '            group["lr"] = lr\n', "            pass\n")


@misconception(task="train", advice="Set the rate before the step that it belongs to.")
def schedule_lags(source):
    """The learning rate is set after the step, so each step uses that of the step before."""
    source = change(source, '        for group in optimizer.param_groups:\n            group["lr"] = lr\n', "")
    return change(
        source,
        "        # Look up now",
        '        for group in optimizer.param_groups:\n            group["lr"] = lr\n        # Look up now',
    )


@misconception(task="train", advice="Set the rate in every group: `for group in optimizer.param_groups`.")
def first_group_scheduled(source):
    """Only the first group follows the schedule."""
    return change(source, "for group in optimizer.param_groups:", "for group in optimizer.param_groups[:1]:")


@misconception(task="train", advice="The schedule counts steps from 0: hand it `step`.")
def schedule_from_one(source):
    """The schedule is asked for step + 1."""
    return change(source, "learning_rate(step, peak", "learning_rate(step + 1, peak")


@misconception(task="train", advice="Hand `parameter_groups(model, config.weight_decay)` to AdamW.")
def everything_decays_in_train(source):
    """All parameters are in one group with the decay, biases and norms too."""
    return change(
        source,
        "AdamW(parameter_groups(model, config.weight_decay), lr=config.peak)",
        "AdamW(model.parameters(), lr=config.peak, weight_decay=config.weight_decay)",
    )


@misconception(task="train", advice="Pass `config.weight_decay` to `parameter_groups`.")
def decay_not_passed(source):
    """The weight decay of the configuration is not used."""
    return change(source, "parameter_groups(model, config.weight_decay)", "parameter_groups(model, 0.01)")


@misconception(task="train", advice="Use AdamW with its default betas.")
def betas_of_nanogpt(source):
    """Other betas than the default ones are used."""
    return change(source, "lr=config.peak)\n", "lr=config.peak, betas=(0.9, 0.95))\n")


@misconception(task="train", advice="Make the optimizer once, before the loop: a new one has forgotten its means.")
def optimizer_in_the_loop(source):
    """A new optimizer is made for every step and remembers nothing."""
    return change(
        source,
        "        # The schedule decides",
        "        optimizer = AdamW(parameter_groups(model, config.weight_decay), lr=config.peak)\n"
        "        # The schedule decides",
    )


@misconception(task="train", advice="Draw `config.accumulation` batches for each step.")
def accumulation_ignored(source):
    """Each step uses one batch, whatever the accumulation is."""
    return change(source, "for _ in range(config.accumulation)]", "for _ in range(1)]")


@misconception(task="train", advice="Call `get_batch` once for each micro-batch: `[batch] * n` is one batch n times.")
def same_batch_again(source):
    """One batch is drawn for a step and used for all of its micro-batches."""
    return change(source, "for _ in range(config.accumulation)]", "for _ in range(1)] * config.accumulation")


@misconception(task="train", advice="Seed the generator once, before the loop.")
def seeded_every_step(source):
    """The generator is seeded again in every step, so all steps see the same batch."""
    return change(
        source,
        "        # The schedule decides",
        "        generator.manual_seed(config.seed)\n        # The schedule decides",
    )


@misconception(task="train", advice="Seed the generator with `config.seed`.")
def seed_ignored(source):
    """The seed of the configuration is not used."""
    return change(source, "manual_seed(config.seed)", "manual_seed(0)")


@misconception(task="train", advice="Use a `torch.Generator` of the run's own instead of seeding everybody's.")
def global_seed(source):
    """The global random state is seeded and used, which changes it for everything else in the program."""
    return change(
        source, "generator = torch.Generator().manual_seed(config.seed)", "generator = torch.manual_seed(config.seed)"
    )


@misconception(task="train", advice="Evaluate on `val_ids`: on its own text a model is always better.")
def judged_on_training_text(source):
    """The validation loss is taken on the training text."""
    return change(source, "evaluate(model, val_ids,", "evaluate(model, train_ids,")


@misconception(task="train", advice="Draw batches from `train_ids` only. What is learnt from cannot judge any more.")
def trained_on_validation_text(source):
    """The model is trained on the validation text."""
    return change(source, "get_batch(train_ids,", "get_batch(val_ids,")


@misconception(task="train", advice="Evaluate after the step: `val_loss` belongs to the weights that the step made.")
def judged_before_the_step(source):
    """The validation loss is taken before the step instead of after it."""
    source = change(
        source,
        "        train_loss, _ = train_step",
        "        val_loss = evaluate(model, val_ids, config.block_size, config.batch_size)\n"
        "        train_loss, _ = train_step",
    )
    return change(
        source,
        "            val_loss = evaluate(model, val_ids, config.block_size, config.batch_size)\n            history",
        "            history",
    )


@misconception(
    task="train",
    advice="Evaluate after every `eval_interval` steps: when `(step + 1) % eval_interval == 0`.",
)
def judged_at_multiples(source):
    """It evaluates after steps 0, n, 2n …, so after one step too many each time."""
    return change(source, "(step + 1) % config.eval_interval == 0", "step % config.eval_interval == 0")


@misconception(task="train", advice="Evaluate after the last step too.")
def last_not_judged(source):
    """After the last step there is no evaluation, if it is no multiple of eval_interval."""
    return change(source, " or step + 1 == config.total_steps:", ":")


@misconception(task="train", advice="Use one condition with `or`, so that the last step is evaluated once.")
def last_judged_twice(source):
    """The last step stands in the history twice, if it is a multiple of eval_interval."""
    return change(
        source,
        "    return history\n",
        "    if config.total_steps % config.eval_interval == 0:\n"
        "        history.append(dict(history[-1]))\n"
        "    return history\n",
    )


@misconception(task="train", advice="`step` is the index of the step just taken, from 0.")
def steps_from_one(source):
    """The steps in the history are counted from 1."""
    return change(source, '{"step": step,', '{"step": step + 1,')


@misconception(task="train", advice="`lr` is that of the step just taken, not of the next.")
def rate_of_the_next(source):
    """The history names the learning rate of the next step."""
    return change(
        source,
        '"lr": lr,',
        '"lr": learning_rate(step + 1, peak=config.peak, floor=config.floor, '
        "warmup_steps=config.warmup_steps, total_steps=config.total_steps),",
    )


@misconception(task="train", advice="`train_loss` is the loss of the step just taken; do not average it.")
def loss_averaged(source):
    """The training loss is averaged over all steps so far."""
    source = change(source, "    history = []\n", "    history, seen = [], []\n")
    source = change(source, "        # Look up now", "        seen.append(train_loss)\n        # Look up now")
    return change(source, '"train_loss": train_loss,', '"train_loss": sum(seen) / len(seen),')


@misconception(task="train", advice="Pass `config.max_norm` to train_step.")
def max_norm_not_passed(source):
    """max_norm of the configuration is not used."""
    return change(
        source, "batches, config.max_norm, config.autocast_dtype)", "batches, autocast_dtype=config.autocast_dtype)"
    )


@misconception(task="train", advice="Pass `config.autocast_dtype` to train_step.")
def autocast_not_passed(source):
    """autocast_dtype of the configuration is not used."""
    return change(source, "batches, config.max_norm, config.autocast_dtype)", "batches, config.max_norm)")


@misconception(task="train", advice="Call `model.train()` before the loop.")
def mode_not_set(source):
    """A model that comes in eval mode is trained in eval mode, without dropout."""
    return change(source, "    model.train()\n", "")


@misconception(task="train", advice="Leave the model in training mode: no `model.eval()` at the end.")
def left_in_eval_mode(source):
    """At the end the model is in eval mode."""
    return change(source, "    return history\n", "    model.eval()\n    return history\n")


@misconception(task="train", advice="Train for `total_steps` steps, from 0 to total_steps - 1.")
def one_step_short(source):
    """The last step is missing."""
    return change(
        source, "for step in range(config.total_steps):", "for step in range(config.total_steps - 1):"
    ).replace("step + 1 == config.total_steps:", "step + 2 == config.total_steps:")


@misconception(task="train", advice="Ask for the batches on the model's device: next(model.parameters()).device.")
def batches_on_the_cpu(source):
    """The batches are made on the CPU, wherever the model is."""
    return change(source, ", device, generator)", ', "cpu", generator)')


@misconception(task="train", advice="Make the generator with torch.Generator(): get_batch draws on the CPU and moves the batch afterwards.")
def generator_on_the_device(source):
    """The generator is made on the model's device, so a GPU draws other batches, or none."""
    return change(source, "torch.Generator()", "torch.Generator(device)")


@misconception(task="train", advice="Hand autocast_dtype on to train_step and leave the weights float32.")
def weights_in_half(source):
    """The model itself is turned into autocast_dtype, so its weights lose most of their digits."""
    return change(
        source,
        "    model.train()\n",
        "    model.train()\n    if config.autocast_dtype is not None:\n        model.to(config.autocast_dtype)\n",
    )


@misconception(task="train", advice="Leave the rate alone: train_step has averaged over the micro-batches already.")
def rate_times_accumulation(source):
    """The learning rate is multiplied by the accumulation."""
    return change(source, 'group["lr"] = lr\n', 'group["lr"] = lr * config.accumulation\n')


@misconception(task="train", advice="Hand on config.total_steps as it is: learning_rate takes the warm-up off by itself.")
def warmup_taken_off_twice(source):
    """The schedule is told that there are total_steps - warmup_steps steps, so it reaches the floor too early."""
    return change(source, "total_steps=config.total_steps)", "total_steps=config.total_steps - config.warmup_steps)")


@misconception(task="train", advice="Take all total_steps steps; whether to stop is for whoever reads the history.")
def stops_when_worse(source):
    """The run stops at the first evaluation that is no better than the one before."""
    return change(
        source,
        "            history.append(",
        "            if history and val_loss > history[-1]['val_loss']:\n                break\n            history.append(",
    )


@honest(task="train")
def train_by_parts(source):
    """Keyword arguments, a helper inside, and the evaluation steps worked out beforehand."""
    return """
def train(model, train_ids, val_ids, config):
    opt = AdamW(parameter_groups(model, config.weight_decay))
    rng = torch.Generator(device="cpu")
    rng.manual_seed(config.seed)
    where = next(iter(model.parameters())).device
    last, every = config.total_steps, config.eval_interval
    stops = {s - 1 for s in range(every, last + 1, every)} | {last - 1}
    log = []

    def rate(step):
        return learning_rate(step, peak=config.peak, floor=config.floor,
                             warmup_steps=config.warmup_steps, total_steps=config.total_steps)

    step = 0
    while step < config.total_steps:
        model.train()
        for g in opt.param_groups:
            g.update(lr=rate(step))
        micro = []
        while len(micro) < config.accumulation:
            micro.append(get_batch(train_ids, config.block_size, config.batch_size, device=where, generator=rng))
        loss, norm = train_step(model, opt, micro, max_norm=config.max_norm, autocast_dtype=config.autocast_dtype)
        if step in stops:
            log.append(dict(step=step, train_loss=loss, lr=opt.param_groups[0]["lr"],
                            val_loss=evaluate(model, val_ids, config.block_size, config.batch_size)))
        step += 1
    model.train()
    return log
"""


@honest(task="train")
def batches_fetched_ahead(source):
    """The next step's batches are drawn before this step; torch's AdamW; rates worked out beforehand."""
    del source
    return """
def train(model, train_ids, val_ids, config):
    dev = next(model.parameters()).device
    g = torch.Generator()
    g.manual_seed(config.seed)
    def stream():
        while True:
            yield get_batch(train_ids, config.block_size, config.batch_size, device=dev, generator=g)
    source = stream()
    opt = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=0.0, foreach=False)
    schedule = [learning_rate(s, peak=config.peak, floor=config.floor, warmup_steps=config.warmup_steps, total_steps=config.total_steps) for s in range(config.total_steps)]
    log, upcoming = [], list(itertools.islice(source, config.accumulation))
    for i, lr in enumerate(schedule):
        model.train()
        for group in opt.param_groups:
            group.update(lr=lr)
        now, upcoming = upcoming, list(itertools.islice(source, config.accumulation))
        loss, _ = train_step(model, opt, now, max_norm=config.max_norm, autocast_dtype=config.autocast_dtype)
        if i == config.total_steps - 1 or i % config.eval_interval == config.eval_interval - 1:
            log += [dict(step=i, train_loss=loss, lr=lr, val_loss=evaluate(model, val_ids, config.block_size, config.batch_size))]
    model.train()
    return log
"""
