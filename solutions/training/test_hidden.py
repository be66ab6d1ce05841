"""Hidden tests of `training`. They judge trajectories, never thresholds: a loss too good is as wrong as a bad one."""

from __future__ import annotations

import io
import math

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from hypothesis import given
from hypothesis import strategies as st

from autograder.compare import assert_close, assert_equal, assert_refuses, fail, require, short
from autograder.errors import StudentError
from autograder.strategies import SEEDS, leading, strided, values
from autograder.suite import task

NOT_ALLOWED = {
    "cross_entropy": (
        "cross_entropy", "cross_entropy_loss*", "nll_loss*", "CrossEntropyLoss", "NLLLoss*",
        "linear_cross_entropy*", "LinearCrossEntropyLoss",
    ),
    "clip_gradients": ("clip_grad_norm_", "clip_grad_norm", "clip_grads_with_norm_", "clip_grad_norm*"),
    "adamw": (
        "Adam", "AdamW", "adam", "adamw", "Adamax", "NAdam", "RAdam", "SparseAdam", "Adagrad", "Adadelta", "Adafactor",
        "ASGD",
        "LBFGS", "Muon", "RMSprop", "Rprop", "SGD", "sgd", "_fused_adam*", "_single_tensor_*", "_multi_tensor_*",
    ),
}  # fmt: skip

# A tiny GPT: one layer, width 8. Dimensions differ pairwise.
VOCABULARY, CONTEXT = 7, 5
SHAPES = {
    "transformer.wte.weight": (7, 8), "transformer.wpe.weight": (5, 8),
    "transformer.h.0.ln_1.weight": (8,), "transformer.h.0.ln_1.bias": (8,),
    "transformer.h.0.attn.c_attn.weight": (24, 8), "transformer.h.0.attn.c_attn.bias": (24,),
    "transformer.h.0.attn.c_proj.weight": (8, 8), "transformer.h.0.attn.c_proj.bias": (8,),
    "transformer.h.0.ln_2.weight": (8,), "transformer.h.0.ln_2.bias": (8,),
    "transformer.h.0.mlp.c_fc.weight": (32, 8), "transformer.h.0.mlp.c_fc.bias": (32,),
    "transformer.h.0.mlp.c_proj.weight": (8, 32), "transformer.h.0.mlp.c_proj.bias": (8,),
    "transformer.ln_f.weight": (8,), "transformer.ln_f.bias": (8,),
}  # fmt: skip
MATRICES = {name for name, shape in SHAPES.items() if len(shape) > 1}
VECTORS = set(SHAPES) - MATRICES
SOME = ("transformer.wpe.weight", "transformer.ln_f.weight", "transformer.ln_f.bias")
COUNTED = ("first", "second", "third", "fourth", "fifth")


def weights(seed=0):
    """Lively weights for the tiny GPT."""
    generator = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(shape, dtype=torch.float64, generator=generator) * 0.4 for name, shape in SHAPES.items()}
    return {**made, "lm_head.weight": made["transformer.wte.weight"]}


def gpt(client, seed=0, *, dropout=0.0, wide=True):
    """The tiny GPT in the notebook's process, with our weights, in float64 (or float32)."""
    config = client.keep("GPTConfig", VOCABULARY, CONTEXT, 1, 2, 8, dropout)
    model = client.new("GPT", config)
    if wide:
        model.double()
    model.load_state_dict(weights(seed))
    return model


def after(model):
    """The model's weights as they are now."""
    state = model.state_dict()
    return {name: state[name] for name in SHAPES}


def same_weights(mine, right, when, *, compare=assert_close, **tolerances):
    """The model's weights, each by its name."""
    for name in SHAPES:
        compare(mine[name], right[name], what=f"`{name}` {when}", **tolerances)


def integers(seed, *shape, high=VOCABULARY):
    """Random token ids."""
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def pair(seed, rows=2, length=4):
    """A batch of inputs and targets."""
    return integers(seed, rows, length), integers(seed + 500, rows, length)


def same_pair(mine, right, whose="the"):
    """Inputs and targets, each by its name."""
    if type(mine) is not tuple or len(mine) != len(right):
        assert_equal(mine, right)
    for name, one, other in zip(("inputs", "targets"), mine, right, strict=True):
        assert_equal(one, other, what=f"{whose} {name}")


def plain_descent(client, model, **settings):
    """torch's own SGD over the whole model: it hides nothing of a gradient's size."""
    return client.new("SGD", model.keep("parameters"), **{"lr": 0.3, **settings})


# windows ------------------------------------------------------------------------------------------------------------

full = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 9))


@task("windows", weight=3, examples=20)
@given(full, SEEDS, st.sampled_from([torch.int64, torch.int32]), st.booleans())
def test_windows_values(student, reference, sizes, seed, dtype, gaps):
    """Every full window is there, in order, and each target is its input one token later."""
    context, stride, more = sizes
    ids = integers(seed, context + more, high=90).to(dtype)
    ids = strided(ids) if gaps else ids
    same_pair(student.windows(ids, context, stride), reference.windows(ids, context, stride))


@task("windows", weight=1, needs="test_windows_values", examples=8)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 4), SEEDS)
def test_windows_none(student, reference, context, stride, length, seed):
    """A text too short for one full window gives N = 0 windows."""
    ids = integers(seed, min(length, context))
    same_pair(student.windows(ids, context, stride), reference.windows(ids, context, stride))


@task("windows", weight=1, needs="test_windows_values")
def test_windows_behaviour(student, reference):
    """The ids stay as they are, and on the meta device the windows are there too."""
    ids = integers(0, 9)
    outcome = student.observe("windows", ids, 3, 2, inputs=True, randomness=True)
    assert_equal(outcome.inputs_after[0], ids, what="ids after the call")
    require(not outcome.random_used, "Windows are not drawn: the global random state must stay as it is.")
    ids = torch.empty(9, dtype=torch.int64, device="meta")
    expected = reference.windows(ids, 3, 2)
    same_pair(student.observe("windows", ids, 3, 2, strict_device=True).value, expected)


# get_batch ----------------------------------------------------------------------------------------------------------


@task("get_batch", weight=3, examples=15)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 30), SEEDS)
def test_batch_values(student, reference, block, rows, more, seed):
    """The starts are those of the one torch.randint, and y is x one token later."""
    data = torch.arange(100, 100 + block + more)
    same_pair(
        student.get_batch(data, block, rows, generator=student.generator(seed)),
        reference.get_batch(data, block, rows, generator=reference.generator(seed)),
    )


@task("get_batch", weight=2)
def test_batch_ends(student, reference):
    """The first and the last possible start occur, also where there is only one."""
    for more in (1, 2, 3):
        data = torch.arange(4 + more)
        asked = {"generator": student.generator(7)}
        mine = student.get_batch(data, 4, 30, **asked)
        same_pair(mine, reference.get_batch(data, 4, 30, generator=reference.generator(7)))


@task("get_batch", weight=2, needs="test_batch_values")
def test_batch_types(student, reference):
    """Ids of every integer type come back as int64."""
    for dtype in (torch.int32, torch.uint8, torch.int16):
        data = integers(1, 20, high=100).to(dtype)
        mine = student.get_batch(data, 3, 4, generator=student.generator(2))
        same_pair(mine, reference.get_batch(data, 3, 4, generator=reference.generator(2)))


@task("get_batch", weight=2, needs="test_batch_values", examples=8)
@given(st.integers(2, 6), st.integers(0, 3))
def test_batch_refuses(student, reference, block, less):
    """Data too short for a window and its last target is a ValueError that shows a size."""
    length = max(block - less, 1)
    data = torch.arange(length)
    assert_refuses(student.get_batch, data, block, 2, shows=str(length) if length == block else None)


@task("get_batch", weight=1, needs="test_batch_values")
def test_batch_device(student, reference):
    """The batch is on the device asked for."""
    data = torch.arange(20)
    mine = student.get_batch(data, 3, 4, device="meta", generator=student.generator(2))
    same_pair(mine, reference.get_batch(data, 3, 4, device="meta", generator=reference.generator(2)))


@task("get_batch", weight=2, needs="test_batch_values")
def test_batch_chance(student, reference):
    """Chance comes from the generator alone; without one, from torch's own, so that a seed repeats it."""
    data = integers(3, 40, high=100)
    outcome = student.observe("get_batch", data, 5, 3, "cpu", student.generator(4), randomness=True, inputs=True)
    require(not outcome.random_used, "With a generator given, the global random state must stay as it is.")
    assert_equal(outcome.inputs_after[0], data, what="data after the call")
    told = []
    for client in (student, reference):
        # The second batch is drawn where the first one left off.
        told.append([client.observe("get_batch", data, 5, 3, seed=6).value, client.get_batch(data, 5, 3)])
    for whose, mine, right in zip(("the first batch's", "the second batch's"), *told, strict=True):
        same_pair(mine, right, whose)


# cross_entropy ------------------------------------------------------------------------------------------------------


def scored(seed, front, width, *, scale=3.0, dtype=torch.float64):
    """Logits and targets; at least one target of each kind where there are several."""
    return values(seed, *front, width, scale=scale, dtype=dtype), integers(seed + 1, *front, high=width)


def torchs_loss(logits, targets, ignore_index=-100):
    """torch's own cross entropy."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=ignore_index)


@task("cross_entropy", weight=3, examples=20)
@given(leading(), st.integers(2, 6), SEEDS)
def test_loss_values(student, reference, front, width, seed):
    """The loss is the mean of -log p(target), for any leading dimensions."""
    logits, targets = scored(seed, front, width)
    mine = student.cross_entropy(logits, targets)
    assert_close(mine, reference.cross_entropy(logits, targets), what="the loss")
    assert_close(mine, torchs_loss(logits, targets), what="the loss")


@task("cross_entropy", weight=2, examples=15)
@given(st.sampled_from([(3,), (2, 3), (4, 1)]), st.sampled_from([-100, -1, 2, 99]), SEEDS)
def test_loss_ignores(student, reference, front, ignored, seed):
    """An ignored target counts neither in the sum nor in the number."""
    logits, targets = scored(seed, front, 5)
    hidden = integers(seed + 2, *front, high=2).bool()
    hidden.view(-1)[0], hidden.view(-1)[1] = True, False
    targets = targets.masked_fill(targets == ignored, 3).masked_fill(hidden, ignored)
    mine = student.cross_entropy(logits, targets, ignore_index=ignored)
    assert_close(mine, reference.cross_entropy(logits, targets, ignore_index=ignored), what="the loss")
    if ignored == -100:  # noqa: PLR2004 - the default
        assert_close(student.cross_entropy(logits, targets), torchs_loss(logits, targets), what="the loss")


@task("cross_entropy", weight=2, needs="test_loss_values", examples=10)
@given(st.sampled_from([(3,), (2, 3), (4, 1)]), SEEDS)
def test_loss_gradients(student, reference, front, seed):
    """The gradient reaches the logits: softmax minus one at the target, over the number that counts."""
    logits, targets = scored(seed, front, 5)
    targets.view(-1)[0] = -100
    theirs = logits.clone().requires_grad_()
    torchs_loss(theirs, targets).backward()
    outcome = student.observe("cross_entropy", logits, targets, gradient="sum")
    require(outcome.gradients[0] is not None, "No gradient reaches the logits.")
    assert_close(outcome.gradients[0], theirs.grad, what="the gradient of the logits")


@task("cross_entropy", weight=1, needs="test_loss_values")
def test_loss_all_ignored(student, reference):
    """If every target is ignored the loss is 0, and so is the gradient."""
    for width in (4, 1):
        logits, targets = scored(5, (2, 3), width)[0], torch.full((2, 3), -100)
        outcome = student.observe("cross_entropy", logits, targets, gradient="sum")
        assert_close(outcome.value, torch.zeros((), dtype=torch.float64), what="the loss")
        gradient = outcome.gradients[0]
        nowhere = gradient is None or not bool(gradient.ne(0).any())
        require(nowhere, "With nothing to learn from, the gradient must be 0 everywhere.")


@task("cross_entropy", weight=1, needs="test_loss_values")
def test_loss_stable(student, reference):
    """Large logits overflow nowhere, neither in the loss nor in its gradient."""
    for size in (1e3, 1e4):
        # The last row is small all along: a maximum taken over all rows does not help it.
        logits = torch.tensor([[size, -size, 0.0], [-size, -size, size], [size, size, -size], [-size, -size, -size]])
        targets = torch.tensor([1, 2, 0, 1])
        expected = reference.observe("cross_entropy", logits, targets, gradient="sum")
        outcome = student.observe("cross_entropy", logits, targets, gradient="sum")
        assert_close(outcome.value, expected.value, what="the loss")
        # At this size float32 rounds a logit to a thousandth.
        assert_close(outcome.gradients[0], expected.gradients[0], atol=2e-3, what="the gradient of the logits")


@task("cross_entropy", weight=1, needs="test_loss_values")
def test_loss_precision(student, reference):
    """Half precision is computed in float32 and gives float32; float32 and float64 stay what they are."""
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        logits, targets = scored(8, (20, 3), 50, scale=4.0, dtype=dtype)
        assert_close(
            student.cross_entropy(logits, targets), torchs_loss(logits.float(), targets), rtol=2e-5, what="the loss"
        )


@task("cross_entropy", weight=1, needs="test_loss_values")
def test_loss_behaviour(student, reference):
    """Logits and targets stay as they are, in any layout in memory."""
    logits, targets = scored(9, (2, 3), 4)
    targets[0, 1] = -100
    logits = strided(logits)
    outcome = student.observe("cross_entropy", logits, targets, inputs=True, randomness=True)
    assert_close(outcome.value, reference.cross_entropy(logits, targets), what="the loss")
    assert_equal(outcome.inputs_after[0], logits, what="the logits after the call")
    assert_equal(outcome.inputs_after[1], targets, what="the targets after the call")
    require(not outcome.random_used, "A loss is not drawn: the global random state must stay as it is.")


# learning_rate ------------------------------------------------------------------------------------------------------

schedules = st.tuples(
    st.integers(1, 5), st.integers(2, 9), st.sampled_from([(1.0, 0.1), (0.6, 0.03), (0.02, 0.01), (3e-4, 3e-5)])
)


def same_rates(student, reference, steps, warmup, total, peak, floor):
    """The learning rates of these steps are the reference's."""
    settings = {"peak": peak, "floor": floor, "warmup_steps": warmup, "total_steps": total}
    for step in steps:
        right = reference.learning_rate(step, **settings)
        assert_close(student.learning_rate(step, **settings), right, what=f"the rate of step {step}")


@task("learning_rate", weight=1, examples=6)
@given(schedules)
def test_rate_warmup(student, reference, schedule):
    """The way up goes in equal parts, from peak / warmup_steps at step 0 to the peak."""
    warmup, down, (peak, floor) = schedule
    same_rates(student, reference, range(warmup), warmup, warmup + down, peak, floor)


@task("learning_rate", weight=2, examples=6)
@given(schedules)
def test_rate_cosine(student, reference, schedule):
    """The way down is half a cosine from the peak, at step warmup_steps, to the floor."""
    warmup, down, (peak, floor) = schedule
    same_rates(student, reference, range(warmup, warmup + down), warmup, warmup + down, peak, floor)


@task("learning_rate", weight=1, needs="test_rate_cosine", examples=4)
@given(schedules)
def test_rate_floor(student, reference, schedule):
    """From total_steps on the rate is the floor, for ever."""
    warmup, down, (peak, floor) = schedule
    total = warmup + down
    steps = (total, total + 1, total + 3, 2 * total, 50 * total)
    same_rates(student, reference, steps, warmup, total, peak, floor)


@task("learning_rate", weight=1, needs="test_rate_cosine", examples=3)
@given(schedules)
def test_rate_no_warmup(student, reference, schedule):
    """Without a warm-up, step 0 has the peak and the cosine begins at once."""
    _, down, (peak, floor) = schedule
    same_rates(student, reference, range(down + 2), 0, down, peak, floor)


# clip_gradients -----------------------------------------------------------------------------------------------------

CLIPPED = ((1, 2), (2,))


def with_gradients(client, seed, scale=2.0):
    """Two parameters with gradients."""
    parameters = [client.keep("torch.nn.Parameter", values(seed + 50 + n, *s)) for n, s in enumerate(CLIPPED)]
    for number, (parameter, shape) in enumerate(zip(parameters, CLIPPED, strict=True)):
        client.set(parameter, "grad", values(seed + number, *shape, scale=scale) + scale / 40)
    return parameters


def clipped(client, seed, share, scale=2.0):
    """Clip to about `share` of the length; gives the norm returned and the gradients after."""
    squares = [(values(seed + n, *s, scale=scale) + scale / 40).square().sum().item() for n, s in enumerate(CLIPPED)]
    parameters = with_gradients(client, seed, scale)
    norm = client.clip_gradients(parameters, float(f"{share * math.sqrt(sum(squares)):.3g}"))
    return norm, [parameter.get("grad") for parameter in parameters]


def same_gradients(mine, right, **tolerances):
    """The gradients after clipping, one by one."""
    for number, (one, other) in enumerate(zip(mine, right, strict=True)):
        assert_close(one, other, what=f"the {COUNTED[number]} gradient after clipping", **tolerances)


def with_or_without(mine, right, norm):
    """The right gradients; without torch's 1e-6 in the denominator, where `mine` come nearer to those."""
    bare = [gradient * (1 + 1e-6 / norm) for gradient in right]
    alike = all(isinstance(one, torch.Tensor) and one.shape == other.shape for one, other in zip(mine, right))

    def off(others):
        return sum(float((one - other).abs().sum()) for one, other in zip(mine, others))

    return bare if alike and off(bare) < off(right) else right


@task("clip_gradients", weight=3, examples=6)
@given(SEEDS, st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([2.0, 0.1]))
def test_clip_long(student, reference, seed, share, scale):
    """A gradient that is too long is shortened to max_norm by one factor for all; returned is its length before."""
    norm, gradients = clipped(student, seed, share, scale)
    expected_norm, expected = clipped(reference, seed, share, scale)
    require(type(norm) is float, f"The norm must be a Python float; yours is a {type(norm).__name__}.")
    assert_close(norm, expected_norm, rtol=1e-6, what="the norm")
    same_gradients(gradients, with_or_without(gradients, expected, expected_norm), rtol=3e-6, atol=1e-9)


@task("clip_gradients", weight=2, needs="test_clip_long", examples=5)
@given(SEEDS, st.sampled_from([1.1, 3.0, 100.0]))
def test_clip_short(student, reference, seed, share):
    """A gradient that is short enough stays as it is; its length is returned all the same."""
    norm, gradients = clipped(student, seed, share)
    expected_norm, expected = clipped(reference, seed, share)
    assert_close(norm, expected_norm, rtol=1e-6, what="the norm")
    same_gradients(gradients, expected)


@task("clip_gradients", weight=2, needs="test_clip_long")
def test_clip_missing(student, reference):
    """Parameters without gradients are passed over; with none at all the norm is 0.0."""
    told = []
    for client in (student, reference):
        bare, parameter = client.keep("torch.nn.Parameter", values(7, 2)), with_gradients(client, 3)[0]
        # A generator of all parameters: it can be walked through once.
        model = client.keep("torch.nn.ParameterList", [bare, parameter])
        told.append((client.clip_gradients(model.keep("parameters"), 0.5), parameter.get("grad")))
    (norm, gradient), (expected_norm, expected) = told
    assert_close(norm, expected_norm, rtol=1e-6, what="the norm")
    assert_close(gradient, expected, rtol=1e-5, atol=1e-7, what="the gradient after clipping")
    bare = student.keep("torch.nn.Parameter", values(7, 2))
    assert_equal(student.clip_gradients([bare], 1.0), 0.0, what="the norm without gradients")
    require(bare.get("grad") is None, "A parameter without a gradient must not get one.")
    assert_equal(student.clip_gradients([], 1.0), 0.0, what="the norm of nothing")


@task("clip_gradients", weight=1, needs="test_clip_long")
def test_clip_in_place(student, reference):
    """The gradients are changed in place: the tensors in .grad stay the same tensors."""
    parameters, others = with_gradients(student, 4), with_gradients(reference, 4)
    tensors = [parameter.keep("grad") for parameter in parameters]
    student.clip_gradients(parameters, 1.5)
    reference.clip_gradients(others, 1.5)
    for tensor, other in zip(tensors, others, strict=True):
        right = other.get("grad")
        assert_close(tensor.detach(), right, rtol=1e-5, atol=1e-7, what="the tensor in .grad before the call")


# adamw --------------------------------------------------------------------------------------------------------------

STARTS = [values(23, 3), values(21, 2, 2), values(22, 2)]
VECTOR, MATRIX, OTHER = range(3)


def pushed(step, number):
    """The gradient of a parameter in this step: the vector's begins with a 0 and ends with next to nothing."""
    gradient = values(31 + 3 * step + number, *STARTS[number].shape) / 2
    if number == VECTOR:
        gradient[0], gradient[-1] = gradient[0] * (step > 0), gradient[-1] / 1000
    return gradient


def drive(client, numbers, groups=None, steps=5, *, missing=(), rates=None, reload=None, **settings):
    """Drive these of our parameters through some steps; gives their values after each, before it takes the next.

    groups: None for a plain list, else one dict of settings a parameter. missing: the (step, place) pairs without
    a gradient.
    rates: a learning rate for each step. reload: before this step, a new optimizer takes over from the state_dict.
    """
    parameters = [client.keep("torch.nn.Parameter", STARTS[number]) for number in numbers]

    def make(**chosen):
        if groups is None:
            return client.new("AdamW", parameters, **chosen)
        return client.new("AdamW", [{"params": [p], **g} for p, g in zip(parameters, groups, strict=True)], **chosen)

    optimizer = make(**settings)
    for step in range(steps):
        if step == reload:
            state = optimizer.keep("state_dict")
            optimizer = make(lr=7.0)
            optimizer.load_state_dict(state)
        for place, (number, parameter) in enumerate(zip(numbers, parameters, strict=True)):
            if (step, place) not in missing:
                client.set(parameter, "grad", pushed(step, number))
            elif step:
                client.set(parameter, "grad", None)
        if rates:
            for place in range(1 if groups is None else len(groups)):
                optimizer.keep("param_groups.__getitem__", place).update({"lr": rates[step]})
        optimizer.step()
        yield [parameter.detach() for parameter in parameters]


def same_drive(student, reference, *arguments, **settings):
    """The student's parameters after each step are the reference's."""
    both = zip(drive(student, *arguments, **settings), drive(reference, *arguments, **settings), strict=True)
    for step, (mine, right) in enumerate(both):
        same_parameters(mine, right, step)


def same_alone(student, reference, **settings):
    """The same for two parameters, each with an optimizer of its own: one is soon read."""
    for number in (VECTOR, MATRIX):
        same_drive(student, reference, [number], **settings)


def same_parameters(mine, right, step):
    """After this step each parameter is where it should be."""
    for place, (one, other) in enumerate(zip(mine, right, strict=True)):
        whose = f"the {COUNTED[place]} parameter" if len(mine) > 1 else "the parameter"
        assert_close(one, other, what=f"{whose} after step {step + 1}")


@task("adamw", weight=3)
def test_adamw_moments(student, reference):
    """Without decay a step is lr times the corrected mean over the root of the corrected mean square."""
    same_alone(student, reference, lr=0.1, weight_decay=0.0)


@task("adamw", weight=1, needs="test_adamw_moments")
def test_adamw_torch(student, reference):
    """With its default settings it goes where torch's own AdamW goes."""
    for number in (VECTOR, MATRIX):
        parameter = torch.nn.Parameter(STARTS[number].clone())
        optimizer = torch.optim.AdamW([parameter], foreach=False)
        for step, mine in enumerate(drive(student, [number], steps=4)):
            parameter.grad = pushed(step, number)
            optimizer.step()
            same_parameters(mine, [parameter.detach()], step)


@task("adamw", weight=2)
def test_adamw_decay(student, reference):
    """The decay multiplies the parameter by 1 - lr * weight_decay, before the step, and enters no running mean."""
    same_alone(student, reference, lr=0.1, weight_decay=0.5)


@task("adamw", weight=1)
def test_adamw_eps(student, reference):
    """eps is added to the root, not under it."""
    same_alone(student, reference, lr=0.1, weight_decay=0.0, eps=0.4)


@task("adamw", weight=1)
def test_adamw_betas(student, reference):
    """Both betas are used, each for its own mean and its own correction."""
    same_alone(student, reference, lr=0.1, weight_decay=0.0, betas=(0.6, 0.8))


@task("adamw", weight=2, needs="test_adamw_moments")
def test_adamw_late(student, reference):
    """A parameter whose first gradient comes late counts its own steps; without a gradient it stays where it is."""
    missing = {(0, 1), (1, 0), (3, 1)}
    same_drive(student, reference, [VECTOR, OTHER], lr=0.1, weight_decay=0.3, missing=missing)
    missing = {(0, 1), (1, 1), (3, 0), (2, 2)}
    same_drive(student, reference, [VECTOR, MATRIX, OTHER], lr=0.1, weight_decay=0.3, missing=missing)
    # So too where it is alone in its group, be that the first one or the last.
    missing = {(0, 0), (2, 1)}
    same_drive(student, reference, [VECTOR, OTHER], [{}, {}], 4, lr=0.1, weight_decay=0.3, missing=missing)


@task("adamw", weight=2, needs="test_adamw_moments")
def test_adamw_groups(student, reference):
    """Each group has its own learning rate, betas, eps and decay."""
    for groups in (
        [{"lr": 0.2}, {"weight_decay": 0.7}],
        [{"betas": (0.5, 0.9)}, {"eps": 0.1}],
        [{"lr": 0.2, "weight_decay": 0.0}, {"betas": (0.5, 0.9), "eps": 0.1}, {"weight_decay": 0.7, "lr": 0.03}],
    ):
        numbers = [OTHER, VECTOR, MATRIX][: len(groups)]
        same_drive(student, reference, numbers, groups, lr=0.1, weight_decay=0.2)


@task("adamw", weight=1, needs="test_adamw_moments")
def test_adamw_schedule(student, reference):
    """A learning rate changed in the groups counts from the next step on, for the decay too."""
    same_alone(student, reference, lr=9.0, weight_decay=0.5, rates=[0.1, 0.2, 0.05, 0.0, 0.3])


@task("adamw", weight=2, needs="test_adamw_moments")
def test_adamw_state(student, reference):
    """Its state_dict holds all there is to remember: a new optimizer that loads it goes on as if nothing had been."""
    same_drive(student, reference, [OTHER], lr=0.1, weight_decay=0.3, reload=1)
    same_drive(student, reference, [VECTOR, MATRIX, OTHER], lr=0.1, weight_decay=0.3, reload=2, missing={(0, 1)})


@task("adamw", weight=1, needs="test_adamw_moments")
def test_adamw_gradients_kept(student, reference):
    """A step changes parameters, not their gradients; it returns what a closure returned."""
    parameter = student.keep("torch.nn.Parameter", STARTS[MATRIX])
    gradient = pushed(0, MATRIX)
    student.set(parameter, "grad", gradient)
    optimizer = student.new("AdamW", [parameter], lr=0.1, weight_decay=0.5)
    require(optimizer.step() is None, "Without a closure, step() must return None.")
    assert_close(parameter.get("grad"), gradient, what="the gradient after the step")
    require(parameter.get("requires_grad") is True, "The parameter must still require a gradient.")
    closure = student.keep("itertools.count", 0.5).keep("__next__")
    assert_equal(optimizer.step(closure), 0.5, what="what `step(closure)` returns")
    assert_equal(closure(), 1.5, what="what the closure returns when it is called again")


# parameter_groups ---------------------------------------------------------------------------------------------------


def grouped(client, frozen=()):
    """The groups of the tiny GPT as lists of names, and the decay of each."""
    model = gpt(client)
    for name in frozen:
        model.keep(name).requires_grad_(False)  # noqa: FBT003 - torch's own signature
    groups = client.parameter_groups(model, 0.3)
    named = weights()
    if not isinstance(groups, list | tuple) or not all(
        isinstance(g, dict) and {"params", "weight_decay"} <= set(g) for g in groups
    ):
        fail('The groups must be a list of dicts, each with "params" and "weight_decay".')
    found = []
    for group in groups:
        names = []
        if not isinstance(group["params"], list | tuple):
            fail('"params" must be a list of parameters.')
        for parameter in group["params"]:
            if not isinstance(parameter, torch.Tensor):
                fail('"params" must be a list of parameters.')
            fits = (
                n for n in SHAPES if parameter.shape == named[n].shape and torch.equal(parameter.double(), named[n])
            )
            names.append(next(fits, "an unknown tensor"))
        if names:
            found.append((names, group["weight_decay"]))
    return found


@task("parameter_groups", weight=2)
def test_groups_by_dimension(student, reference):
    """Parameters of two or more dimensions come first and decay; the rest come second and do not."""
    groups = grouped(student)
    require(len(groups) == 2, f"There must be two groups; yours are {len(groups)}.")  # noqa: PLR2004
    (first, decay), (second, none) = groups
    for name in sorted((set(first) ^ MATRICES) | (set(second) ^ VECTORS)):
        require(name in SHAPES, "The groups must hold the model's parameters, and nothing else.")
        size, place = ("2 dimensions", "first") if name in MATRICES else ("1 dimension", "second")
        fail(f"{name} has {size} and belongs into the {place} group, and only there.")
    assert_close(decay, 0.3, what="the decay of the first group")
    require(none == 0, f"The second group must have weight_decay 0; yours has {short(none)}.")


@task("parameter_groups", weight=1, needs="test_groups_by_dimension")
def test_groups_once(student, reference):
    """The tied embedding and head stand once."""
    for names, _ in grouped(student):
        for name in names:
            require(names.count(name) == 1, f"{name} stands {names.count(name)} times in one group.")


@task("parameter_groups", weight=2, needs="test_groups_by_dimension")
def test_groups_frozen(student, reference):
    """Frozen parameters are left out; a group that is empty may be there or not."""
    frozen = {"transformer.wpe.weight", "transformer.h.0.ln_1.bias"}
    mine = [(set(names), decay) for names, decay in grouped(student, frozen)]
    held = sorted(frozen & {name for names, _ in mine for name in names})
    require(not held, f"Frozen parameters must stand in no group; yours hold {', '.join(held)}.")
    left = [names for names, _ in mine] == [MATRICES - frozen, VECTORS - frozen]
    require(left, "With some parameters frozen, the others must stand where they would stand without them.")
    mine = [(set(names), decay) for names, decay in grouped(student, VECTORS)]
    require(mine == [(MATRICES, 0.3)], "With all vectors frozen, the matrices must be left, with decay.")
    mine = [(set(names), decay) for names, decay in grouped(student, MATRICES)]
    left = [names for names, _ in mine] == [VECTORS] and mine[0][1] == 0
    require(left, "With all matrices frozen, the vectors must be left, without decay.")


@task("parameter_groups", weight=1, needs="test_groups_by_dimension")
def test_groups_are_the_parameters(student, reference):
    """The groups hold the model's own parameters: an optimizer over them moves the model."""
    model = gpt(student)
    optimizer = student.new("SGD", student.keep("parameter_groups", model, 0.0), lr=1.0)
    for name in SOME:
        student.set(model.keep(name), "grad", torch.ones(SHAPES[name], dtype=torch.float64))
    optimizer.step()
    for name in SOME:
        assert_close(model.get(name), weights()[name] - 1, what=f"{name} after a step of SGD over the groups")


# train_step ---------------------------------------------------------------------------------------------------------


def ready(client, seed=0, *, stale=False):
    """A model and plain descent over it; stale: with gradients left from before."""
    model = gpt(client, seed)
    optimizer = plain_descent(client, model)
    if stale:
        for name in SOME:
            client.set(model.keep(name), "grad", torch.full(SHAPES[name], 0.7, dtype=torch.float64))
    return model, optimizer


def same_told(mine, right, when, names=("loss", "norm")):
    """Loss and norm, or one of them, as numbers or as tensors of one."""
    two = isinstance(mine, tuple | list) and len(mine) == len(("loss", "norm"))
    require(two, "train_step must return the loss and the norm.")
    for name, value, expected in zip(("loss", "norm"), mine, right, strict=True):
        if name not in names:
            continue
        value = value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value  # noqa: PLW2901
        assert_close(value, expected, rtol=1e-6, what=f"the {name} {when}")


def same_steps(student, reference, steps, *, seed=0, stale=False, **settings):
    """Losses and norms are the reference's after each step, and so are the weights after the last."""
    (mine, descent), (other, theirs) = (ready(client, seed, stale=stale) for client in (student, reference))
    for number, batches in enumerate(steps):
        told = student.train_step(mine, descent, batches, **settings)
        same_told(told, reference.train_step(other, theirs, batches, **settings), f"of the {COUNTED[number]} step")
    same_weights(after(mine), after(other), "after the steps", rtol=1e-5, atol=1e-7)


@task("train_step", weight=2, examples=2)
@given(SEEDS)
def test_step_loss(student, reference, seed):
    """The loss returned is the one before the step; of several micro-batches it is the mean of theirs."""
    for count, when in ((1, "of one batch"), (3, "of three micro-batches")):
        batches = [pair(seed + n) for n in range(count)]
        told = [client.train_step(*ready(client), batches) for client in (student, reference)]
        same_told(*told, when, names=("loss",))


@task("train_step", weight=2, examples=3)
@given(SEEDS)
def test_step_alone(student, reference, seed):
    """Steps of one batch each, too short to clip: losses, norms and weights are right all along the way."""
    same_steps(student, reference, [[pair(seed)], [pair(seed + 1)], [pair(seed + 2)]], max_norm=1e9)


@task("train_step", weight=2)
def test_step_clipped(student, reference):
    """The gradient is clipped to max_norm before the step, and the norm returned is the one before clipping."""
    same_steps(student, reference, [[pair(5)], [pair(6)]], max_norm=0.3)
    same_steps(student, reference, [[pair(8)], [pair(9)]], seed=2)


@task("train_step", weight=2, examples=3)
@given(SEEDS, st.integers(2, 4))
def test_step_accumulates(student, reference, seed, count):
    """Several micro-batches do what one step on all of them joined does: the loss, the norm, the weights."""
    batches = [pair(seed + n) for n in range(count)]
    joined = (torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))
    same_steps(student, reference, [batches, batches[:2]], max_norm=1e9)
    (mine, descent), (other, theirs) = ready(student), ready(reference)
    told = student.train_step(mine, descent, batches, max_norm=0.4)
    same_told(told, reference.train_step(other, theirs, [joined], max_norm=0.4), "of all batches joined")
    same_weights(after(mine), after(other), "after the step", rtol=1e-5, atol=1e-7)


@task("train_step", weight=2, needs="test_step_alone")
def test_step_forgets(student, reference):
    """Gradients left from before do not count, and none are left behind."""
    same_steps(student, reference, [[pair(7)]], max_norm=1e9, stale=True)
    model = gpt(student)
    student.train_step(model, plain_descent(student, model), [pair(1), pair(2)])
    for name in SHAPES:
        gradient = model.get(f"{name}.grad")
        require(gradient is None or not bool(gradient.any()), f"After the step {name} still has a gradient.")


@task("train_step", weight=1, needs="test_step_alone")
def test_step_floats(student, reference):
    """Loss and norm are Python floats."""
    model = gpt(student)
    for name, value in zip(
        ("loss", "norm"), student.train_step(model, plain_descent(student, model), [pair(3)]), strict=True
    ):
        require(type(value) is float, f"The {name} must be a Python float; yours is a {type(value).__name__}.")


@task("train_step", weight=2, needs="test_step_alone")
def test_step_mode(student, reference):
    """The mode is left alone: dropout acts if the model was in training mode, and only then."""
    for training in (False, True):
        told = []
        for client in (student, reference):
            model = gpt(client, dropout=0.4)
            model.train(training)
            watch = client.new("Watch", model)
            outcome = client.observe("train_step", model, plain_descent(client, model), [pair(1)], randomness=True)
            told.append((outcome, [each["training"] for each in watch.get("passes")], model.get("training")))
        (mine, during, mode), (right, _, _) = told
        require(mode is training, f"The model was in {'training' if training else 'eval'} mode, and is not any more.")
        require(all(each is training for each in during), "The forward pass must run in the mode that the model is in.")
        if not training:
            for name, one, other in zip(("loss", "norm"), mine.value, right.value, strict=True):
                assert_close(one, other, rtol=1e-6, what=f"the {name} in eval mode")
            require(not mine.random_used, "In eval mode nothing may be random.")


@task("train_step", weight=2, needs="test_step_alone")
def test_step_autocast(student, reference):
    """With autocast_dtype the forward pass computes in it; weights and gradients stay as they are."""
    for coarse in (torch.bfloat16, torch.float16):
        told = []
        for client in (student, reference):
            model = gpt(client, wide=False)
            watch = client.new("Watch", model)
            value = client.train_step(model, plain_descent(client, model), [pair(1), pair(2)], 1e9, coarse)
            told.append((value, [each["dtype"] for each in watch.get("passes")], after(model)))
        (mine, dtypes, state), (right, _, expected) = told
        require(
            all(dtype is coarse for dtype in dtypes),
            f"The logits must be {str(coarse).removeprefix('torch.')} under autocast; yours: {dtypes}.",
        )
        for name, one, other in zip(("loss", "norm"), mine, right, strict=True):
            assert_close(one, other, rtol=1e-3, what=f"the {name} under autocast")
        same_weights(state, expected, "after a step under autocast", rtol=5e-3, atol=5e-4)
    model = gpt(student, wide=False)
    watch = student.new("Watch", model)
    student.train_step(model, plain_descent(student, model), [pair(1)])
    require(watch.get("passes")[0]["dtype"] is torch.float32, "Autocast is still on after the step.")


# evaluate -----------------------------------------------------------------------------------------------------------


def torchs_judgement(reference, data):
    """The mean loss per token, window by window, with torch's own loss."""
    model, losses = gpt(reference), []
    for start in range(0, len(data) - 1, CONTEXT):
        x = data[start : min(start + CONTEXT, len(data) - 1)]
        losses.append(F.cross_entropy(model(x[None])[0][0], data[start + 1 : start + 1 + len(x)], reduction="none"))
    return torch.cat(losses).mean().item()


@task("evaluate", weight=2, examples=4)
@given(st.integers(1, 4), st.sampled_from([1, 2, 4, 9]), SEEDS)
def test_judge_full(student, reference, count, rows, seed):
    """Where full windows fill the text, the value is the mean loss per token over all of them."""
    data = integers(seed, count * CONTEXT + 1)
    mine = student.evaluate(gpt(student), data, CONTEXT, rows)
    assert_close(mine, torchs_judgement(reference, data), what="the loss")


@task("evaluate", weight=2, examples=6)
@given(st.integers(0, 4), st.integers(2, CONTEXT), st.sampled_from([1, 2, 3, 9]), SEEDS)
def test_judge_rest(student, reference, count, rest, rows, seed):
    """The last window may be shorter; each target counts once and weighs the same."""
    data = integers(seed, count * CONTEXT + rest)
    mine = student.evaluate(gpt(student), data, CONTEXT, rows)
    assert_close(mine, reference.evaluate(gpt(reference), data, CONTEXT, rows), what="the loss")
    assert_close(mine, torchs_judgement(reference, data), what="the loss")


@task("evaluate", weight=1)
def test_judge_quiet(student, reference):
    """It judges in eval mode: no dropout, nothing random, twice the same."""
    data = integers(3, 3 * CONTEXT + 3)
    model = gpt(student, dropout=0.5)
    watch = student.new("Watch", model)
    outcomes = [student.observe("evaluate", model, data, CONTEXT, 2, randomness=True) for _ in range(2)]
    right = reference.evaluate(gpt(reference), data, CONTEXT, 2)
    for outcome in outcomes:
        assert_close(outcome.value, right, what="the loss")
        require(not outcome.random_used, "The global random state must stay as it is: is the model in eval mode?")
    require(not any(each["training"] for each in watch.get("passes")), "The model must be judged in eval mode.")


@task("evaluate", weight=1, needs="test_judge_quiet")
def test_judge_restores(student, reference):
    """Afterwards the mode is what it was: training stays training, eval stays eval."""
    for training in (True, False):
        model = gpt(student, dropout=0.5)
        model.train(training)
        student.evaluate(model, integers(4, 13), CONTEXT, 2)
        inside = [
            model.get("training"),
            model.get("transformer.drop.training"),
            model.get("transformer.h.0.mlp.training"),
        ]
        require(
            inside == [training] * 3,
            f"The model was in {'training' if training else 'eval'} mode, and is not any more.",
        )


@task("evaluate", weight=1, needs="test_judge_quiet")
def test_judge_no_gradients(student, reference):
    """No gradients are prepared and none are left; weights and data stay as they are."""
    model, data = gpt(student), integers(5, 13)
    watch = student.new("Watch", model)
    outcome = student.observe("evaluate", model, data, CONTEXT, 2, inputs=True)
    require(
        not any(each["gradients"] for each in watch.get("passes")), "A judge needs no gradients: use torch.no_grad()."
    )
    require(all(model.get(f"{name}.grad") is None for name in SOME), "No gradients may be left behind.")
    assert_equal(outcome.inputs_after[0], data, what="data after the call")
    same_weights(after(model), weights(), "after the call", compare=assert_equal)
    require(model.get(f"{SOME[0]}.requires_grad") is True, "The parameters must still require gradients afterwards.")
    model(*pair(1))
    require(
        watch.get("passes")[-1]["gradients"],
        "Gradients are still switched off after the call: nothing can be trained any more. Use `with torch.no_grad():`.",
    )


@task("evaluate", weight=1, needs="test_judge_full")
def test_judge_batches(student, reference):
    """Windows go through the model batch_size at a time, none longer than block_size, as int64."""
    model = gpt(student)
    watch = student.new("Watch", model)
    student.evaluate(model, integers(6, 7 * 4 + 3), 4, 3)
    shapes = [each["shape"] for each in watch.get("passes")]
    if any(rows > 3 or length > 4 for rows, length in shapes):  # noqa: PLR2004 - the call's own numbers
        fail(f"Asked for batches of 3 windows of 4 tokens, the model was given {shapes}.")
    for dtype in (torch.uint8, torch.int32):
        data = integers(7, 2 * CONTEXT + 3).to(dtype)
        mine = student.evaluate(model, data, CONTEXT, 2)
        assert_close(mine, torchs_judgement(reference, data.long()), what="the loss")


# checkpoint ---------------------------------------------------------------------------------------------------------


def begun(client, seed=0, lr=0.2):
    """A model and an optimizer that remembers: SGD with momentum."""
    model = gpt(client, seed)
    return model, plain_descent(client, model, lr=lr, momentum=0.8)


def move(model, optimizer, seed):
    """A training step that depends on no other task."""
    model.keep("forward", *pair(seed)).keep("__getitem__", 1).backward()
    optimizer.step()
    optimizer.zero_grad()


def folder(client):
    """A fresh folder in the notebook's own process: its path, and the object that owns it."""
    owner = client.new("TemporaryDirectory")
    return owner.get("name"), owner


def listing(client, place):
    """The names of all files in a folder."""
    names, files = [], client.keep("Path", place).keep("iterdir")
    while True:
        try:
            names.append(str(client.next(files)).rpartition("/")[2])
        except StudentError as error:
            if error.kind == "StopIteration":
                return sorted(names)
            raise


def resumed(student, path):
    """Two steps, saved, two more; and a second pair that loads and goes on. Gives both ends and the step."""
    model, optimizer = begun(student)
    for step in range(2):
        move(model, optimizer, step)
    student.save_checkpoint(path, model, optimizer, 41)
    other, another = begun(student, seed=3, lr=0.9)
    step = student.load_checkpoint(path, other, another)
    loaded = after(other)
    saved = after(model)
    for number in range(2, 4):
        move(model, optimizer, number)
        move(other, another, number)
    return saved, loaded, after(model), after(other), step


@task("checkpoint", weight=3)
def test_checkpoint_resumes(student, reference):
    """Saved, loaded into a new model and a new optimizer, and trained on: the same weights, bit for bit."""
    place, _owner = folder(student)
    saved, loaded, through, again, _ = resumed(student, f"{place}/run.pt")
    same_weights(loaded, saved, "after loading", compare=assert_equal)
    same_weights(again, through, "after two more steps", compare=assert_equal)


@task("checkpoint", weight=1)
def test_checkpoint_step(student, reference):
    """Loading returns the step that was saved."""
    place, _owner = folder(student)
    model, optimizer = begun(student)
    for step in (41, 0):
        student.save_checkpoint(f"{place}/run.pt", model, optimizer, step)
        assert_equal(student.load_checkpoint(f"{place}/run.pt", model, optimizer), step, what="the step")


@task("checkpoint", weight=1, needs="test_checkpoint_resumes")
def test_checkpoint_one_file(student, reference):
    """Under the name asked for stands the checkpoint, and no other file is left, also when one is overwritten."""
    place, _owner = folder(student)
    model, optimizer = begun(student)
    for name, expected in (("run.pt", ["run.pt"]), ("run.pt", ["run.pt"]), ("last", ["last", "run.pt"])):
        student.save_checkpoint(f"{place}/{name}", model, optimizer, 1)
        left = listing(student, place)
        require(left == expected, f"After saving {name!r} the folder holds {left}.")


@task("checkpoint", weight=1, needs="test_checkpoint_resumes")
def test_checkpoint_path(student, reference):
    """The path may be a pathlib.Path as well as a string."""
    place, _owner = folder(student)
    path = student.keep("Path", f"{place}/run.pt")
    saved, loaded, _, _, step = resumed(student, path)
    same_weights(loaded, saved, "after loading", compare=assert_equal)
    assert_equal(step, 41, what="the step")


@task("checkpoint", weight=2, needs="test_checkpoint_resumes")
def test_checkpoint_atomic(student, reference):
    """A save that fails half way leaves the old checkpoint whole."""
    place, _owner = folder(student)
    model, optimizer = begun(student)
    student.save_checkpoint(f"{place}/run.pt", model, optimizer, 5)
    saved = after(model)
    move(model, optimizer, 1)
    try:
        student.save_checkpoint(f"{place}/run.pt", model, optimizer, model.keep("parameters"))  # cannot be written
    except StudentError:
        other, another = begun(student, seed=3)
        try:
            step = student.load_checkpoint(f"{place}/run.pt", other, another)
        except StudentError as error:
            fail(f"After a save that failed, the old checkpoint cannot be read any more ({error.kind}).")
        assert_equal(step, 5, what="the step after a save that failed")
        same_weights(after(other), saved, "after a save that failed", compare=assert_equal)


@task("checkpoint", weight=1, needs="test_checkpoint_resumes")
def test_checkpoint_renamed(student, reference):
    """Whoever is reading the old checkpoint while a new one is saved reads the old one to its end."""
    place, _owner = folder(student)
    model, optimizer = begun(student)
    path = student.keep("Path", f"{place}/run.pt")
    student.save_checkpoint(f"{place}/run.pt", model, optimizer, 1)
    before = path.read_bytes()
    reader = path.keep("open", "rb")
    move(model, optimizer, 1)
    student.save_checkpoint(f"{place}/run.pt", model, optimizer, 2)
    require(
        reader.read() == before,
        "The new checkpoint was written into the old file. Write beside it, then rename with os.replace.",
    )


class _Trap:
    """Pickled, this opens a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@task("checkpoint", weight=2, needs="test_checkpoint_resumes")
def test_checkpoint_data_only(student, reference):
    """Loading reads data only: a file that would run code is refused before it does."""
    place, _owner = folder(student)
    file = io.BytesIO()
    torch.save({"model": _Trap(f"{place}/sprung"), "step": 3}, file)
    student.keep("Path", f"{place}/trap.pt").write_bytes(file.getvalue())
    model, optimizer = begun(student)
    try:
        student.load_checkpoint(f"{place}/trap.pt", model, optimizer)
    except StudentError:
        left = listing(student, place)
        require(left == ["trap.pt"], "The file's code was run. Load with weights_only=True.")
    else:
        fail("A file that holds code was loaded. Load with weights_only=True.")


# train --------------------------------------------------------------------------------------------------------------

SETTINGS = {
    "total_steps": 5, "batch_size": 2, "block_size": 4, "peak": 0.05, "floor": 0.005, "warmup_steps": 2,
    "weight_decay": 0.0,
    "max_norm": 1e9, "accumulation": 1, "eval_interval": 2, "seed": 11, "autocast_dtype": None,
}  # fmt: skip
KEYS = ("step", "train_loss", "lr", "val_loss")
# What torch says of a generator on the device `meta`.
NO_GENERATOR_THERE = ("enerator", "not an accelerator")


def configured(client, **settings):
    """A TrainConfig; its fields in their order, as `seed` by name would be an option of the call."""
    return client.new("TrainConfig", *{**SETTINGS, **settings}.values())


def trained(client, *, mode=None, dropout=0.0, wide=True, **settings):
    """A short run; gives the history and the model."""
    model = gpt(client, dropout=dropout, wide=wide)
    if mode is not None:
        model.train(mode)
    history = client.train(model, integers(1, 60), integers(2, 15), configured(client, **settings))
    if not isinstance(history, list) or not all(isinstance(each, dict) for each in history):
        fail("The history must be a list of dicts.")
    return history, model


def column(history, key):
    """One column of the history."""
    if any(key not in each for each in history):
        fail(f"Every entry of the history must have the key {key!r}.")
    return [each[key] for each in history]


def same_column(history, expected, key, **tolerances):
    """One column of the history, entry by entry."""
    mine, right = column(history, key), column(expected, key)
    require(len(mine) == len(right), f"The history must have {len(right)} entries; yours has {len(mine)}.")
    for place, (one, other) in enumerate(zip(mine, right, strict=True)):
        assert_close(one, other, what=f"`{key}` in entry {place} of the history", **tolerances)


@task("train", weight=2)
def test_train_table(student, reference):
    """The history has one entry after every eval_interval steps and one after the last, with the step just taken."""
    for total, interval in ((5, 2), (4, 2), (2, 9), (5, 3)):
        history, _ = trained(student, total_steps=total, eval_interval=interval)
        expected, _ = trained(reference, total_steps=total, eval_interval=interval)
        assert_equal(column(history, "step"), column(expected, "step"), what="the steps in the history")
        for each in history:
            require(set(KEYS) <= set(each), f"An entry must have the keys {KEYS}; yours has {tuple(each)}.")


@task("train", weight=1)
def test_train_rate(student, reference):
    """Each entry names the learning rate of the step just taken."""
    history, expected = trained(student, eval_interval=1)[0], trained(reference, eval_interval=1)[0]
    same_column(history, expected, "lr")


@task("train", weight=2)
def test_train_losses(student, reference):
    """The training losses are those of the batches drawn with the seed, step by step."""
    history, expected = trained(student, eval_interval=1)[0], trained(reference, eval_interval=1)[0]
    same_column(history, expected, "train_loss", rtol=1e-5)


@task("train", weight=2)
def test_train_weights(student, reference):
    """The weights at the end, and the validation losses after each step, are those of a run done right."""
    (history, model), (expected, other) = trained(student), trained(reference)
    same_column(history, expected, "val_loss", rtol=1e-5)
    same_weights(after(model), after(other), "at the end", rtol=1e-4, atol=1e-6)


@task("train", weight=3)
def test_train_everything(student, reference):
    """With accumulation, clipping and decay together, losses and weights are still those of a run done right."""
    settings = {"accumulation": 3, "max_norm": 0.3, "weight_decay": 0.6, "seed": 5, "warmup_steps": 0}
    (history, model), (expected, other) = trained(student, **settings), trained(reference, **settings)
    for key in ("train_loss", "val_loss"):
        same_column(history, expected, key, rtol=1e-5)
    same_weights(after(model), after(other), "at the end", rtol=1e-4, atol=1e-6)


@task("train", weight=2, needs="test_train_losses")
def test_train_mode(student, reference):
    """It trains in training mode, whatever mode the model came in, and leaves it so."""
    for mode in (False, True):
        model = gpt(student, dropout=0.3)
        model.train(mode)
        watch = student.new("Watch", model)
        student.train(model, integers(1, 60), integers(2, 15), configured(student))
        learning = [each["training"] for each in watch.get("passes") if each["gradients"]]
        require(all(learning), "The model must be in training mode in every training step, also after an evaluation.")
        require(model.get("training") is True, "At the end the model must be in training mode; yours is in eval mode.")


@task("train", weight=1, needs="test_train_losses")
def test_train_chance(student, reference):
    """The seed decides the batches, and the global random state is neither read nor changed."""
    model = gpt(student)
    config = configured(student, seed=23, total_steps=3)
    outcome = student.observe("train", model, integers(1, 60), integers(2, 15), config, randomness=True)
    require(not outcome.random_used, "The global random state must stay as it is: use a generator of the run's own.")
    expected, other = trained(reference, seed=23, total_steps=3)
    same_column(outcome.value, expected, "train_loss", rtol=1e-5)
    same_weights(after(model), after(other), "at the end", rtol=1e-4, atol=1e-6)


@task("train", weight=1, needs="test_train_losses")
def test_train_autocast(student, reference):
    """autocast_dtype reaches the training steps."""
    model = gpt(student, wide=False)
    watch = student.new("Watch", model)
    config = configured(student, total_steps=2, autocast_dtype=torch.bfloat16)
    student.train(model, integers(1, 60), integers(2, 15), config)
    dtypes = [each["dtype"] for each in watch.get("passes") if each["gradients"]]
    require(
        all(dtype is torch.bfloat16 for dtype in dtypes),
        "With autocast_dtype set, every training step must run under autocast.",
    )
    require(
        model.get("transformer.wpe.weight.dtype") is torch.float32,
        "Under autocast the weights themselves must stay float32.",
    )


@task("train", weight=1, needs="test_train_losses")
def test_train_device(student, reference):
    """The batches are made on the model's device, with a generator of the CPU."""
    model = gpt(student, wide=False)
    model.to("meta")
    ids = integers(1, 60)
    try:
        student.observe("train", model, ids, ids, configured(student), strict_device=True)
    except StudentError as error:
        # The device `meta` has no values, so no run gets far there; the question is on what it ends.
        require("two devices" not in error.text, "The batches must be on the model's device; yours are elsewhere.")
        require(
            not any(sign in error.text for sign in NO_GENERATOR_THERE),
            "The generator must be one of the CPU, wherever the model is; get_batch moves the batch afterwards.",
        )
