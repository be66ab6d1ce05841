"""Hidden tests of `embeddings`: exact values from plain formulas first, then what else the contract promises.

Expected values come from Python's own `math` or from loops, not from the reference, wherever that is short. Where
float32 is allowed for an angle, positions and tolerances leave room for it: near position 1,000 an honest float32 angle
is off by a few ten-thousandths of a radian at most.
"""

import math
import re

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from hypothesis import given
from hypothesis import strategies as st

from autograder.compare import assert_close, assert_equal, assert_refuses, fail, require
from autograder.errors import StudentError
from autograder.strategies import SEEDS, sizes, strided, values
from autograder.suite import task

NOT_ALLOWED = {
    "embed": ("embedding", "Embedding"),
    "cosine_similarity_matrix": ("cosine_similarity", "CosineSimilarity"),
}

# One float32 rounding of an angle, and what it does to a value of size 3.
SINGLE = {"rtol": 1e-4, "atol": 2e-5}


def random_ids(seed, vocabulary, *shape):
    """Ids below `vocabulary`; the same for the same seed."""
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def random_angles(seed, *shape):
    """Angles from -4 to 4 radians, all over the circle and in no order."""
    return values(seed, *shape, scale=4.0, dtype=torch.float32)


# --- embed ---------------------------------------------------------------------------------------------------------


def looked_up(ids, table):
    """The rows, one at a time."""
    rows = [table[number] for number in ids.flatten().tolist()]
    return torch.stack(rows).reshape(*ids.shape, table.shape[1])


@task("embed", weight=3)
@given(sizes(V=(2, 7), C=(2, 5), T=(3, 6)), SEEDS)
def test_embed_rows(student, reference, size, seed):
    """Each id is replaced by its row of the table."""
    ids, table = random_ids(seed, size["V"], size["T"]), values(seed, size["V"], size["C"])
    expected = looked_up(ids, table)
    assert_close(reference.embed(ids, table), expected)
    one_hot = F.one_hot(ids, size["V"]).to(table.dtype) @ table
    assert_close(expected, one_hot)
    assert_close(student.embed(ids, table), expected)


@task("embed", weight=2)
@given(sizes(V=(2, 7), C=(2, 5), T=(1, 4)), st.sampled_from([(2,), (3, 2), (2, 1, 3)]), SEEDS)
def test_embed_leading_dimensions(student, reference, size, front, seed):
    """Ids may have any number of leading dimensions, which the result keeps."""
    ids, table = random_ids(seed, size["V"], *front, size["T"]), values(seed, size["V"], size["C"])
    assert_close(student.embed(ids, table), reference.embed(ids, table))


@task("embed", weight=2, needs="test_embed_rows")
@given(sizes(V=(3, 6), C=(2, 4), T=(4, 7)), SEEDS)
def test_embed_gradient(student, reference, size, seed):
    """The gradient reaches the table: each row gets the sum over the places where its token stood."""
    ids, table = random_ids(seed, size["V"], 2, size["T"]), values(seed, size["V"], size["C"])
    cotangent = values(seed + 1, 2, size["T"], size["C"])
    expected = torch.zeros_like(table)
    for number, row in zip(ids.flatten().tolist(), cotangent.flatten(0, 1), strict=True):
        expected[number] += row
    gradient = student.observe("embed", ids, table, gradient=cotangent).gradients[1]
    require(gradient is not None, "No gradient reaches the table: something on the way cuts it off.")
    assert_close(gradient, expected, what="the gradient of the table")


@task("embed", weight=1, needs="test_embed_rows", examples=8)
@given(st.integers(2, 6), st.sampled_from([0, 1, 37]), st.integers(0, 5))
def test_embed_refuses_too_large(student, reference, rows, excess, place):
    """An id that is too large for the table raises a ValueError that shows it."""
    ids = torch.zeros(2, 3, dtype=torch.int64)
    ids[place // 3, place % 3] = rows + excess
    assert_refuses(student.embed, ids, values(rows, rows, 4), shows=str(rows + excess))


@task("embed", weight=1, needs="test_embed_rows", examples=8)
@given(st.integers(4, 6), st.sampled_from([-2, -3, -41]), st.integers(0, 5))
def test_embed_refuses_negative(student, reference, rows, bad, place):
    """A negative id raises a ValueError that shows it; it does not count from the end."""
    ids = torch.ones(2, 3, dtype=torch.int64)
    ids[place // 3, place % 3] = bad
    assert_refuses(student.embed, ids, values(rows, rows, 4), shows=str(bad))
    assert_refuses(student.embed, torch.tensor([0, -1]), values(rows, rows, 4))


@task("embed", weight=1, needs="test_embed_rows", examples=8)
@given(st.sampled_from([torch.float32, torch.bfloat16]), SEEDS)
def test_embed_any_table(student, reference, dtype, seed):
    """The result has the table's dtype, the table may be non-contiguous, and neither input is changed."""
    ids, table = strided(random_ids(seed, 5, 3, 4)), strided(values(seed, 5, 2, dtype=dtype))
    outcome = student.observe("embed", ids, table, inputs=True, randomness=True)
    assert_close(outcome.value, looked_up(ids, table))
    assert_equal(outcome.inputs_after[0], ids, what="ids after the call")
    assert_equal(outcome.inputs_after[1], table, what="the table after the call")
    require(not outcome.random_used, "Looking up rows must not use random numbers.")


# --- cosine_similarity_matrix --------------------------------------------------------------------------------------


def lively_table(seed, rows, width):
    """A table without a zero row."""
    table = values(seed, rows, width)
    table[table.abs().amax(-1) < 0.3, 0] = 0.7  # noqa: PLR2004 - nor an almost zero one
    return table


def cosines(table):
    """The cosines, pair by pair, in Python floats."""
    rows = table.tolist()

    def cosine(a, b):
        product = math.hypot(*a) * math.hypot(*b)
        return math.fsum(x * y for x, y in zip(a, b, strict=True)) / product if product else 0.0

    return torch.tensor([[cosine(a, b) for b in rows] for a in rows], dtype=torch.float64)


# A small constant in the denominator is a usual way to keep away from 0/0, so exactness stops at a millionth.
NEARLY = {"rtol": 1e-6, "atol": 1e-6}


@task("cosine_similarity_matrix", weight=3)
@given(sizes(V=(2, 6), C=(2, 5)), SEEDS)
def test_cosine_values(student, reference, size, seed):
    """Each place holds the dot product of two rows divided by the lengths of both."""
    table = lively_table(seed, size["V"], size["C"])
    expected = cosines(table)
    assert_close(reference.cosine_similarity_matrix(table), expected)
    assert_close(student.cosine_similarity_matrix(table), expected, **NEARLY)


@task("cosine_similarity_matrix", weight=2)
@given(sizes(V=(3, 6), C=(2, 5)), SEEDS, st.integers(0, 2))
def test_cosine_zero_rows(student, reference, size, seed, zero):
    """A zero row is similar to nothing, not even to itself, and the other rows are not disturbed."""
    table = lively_table(seed, size["V"], size["C"])
    table[zero] = 0
    assert_close(student.cosine_similarity_matrix(table), cosines(table), **NEARLY)


@task("cosine_similarity_matrix", weight=1, needs="test_cosine_values")
@given(sizes(V=(2, 5), C=(2, 5)), SEEDS)
def test_cosine_ignores_length(student, reference, size, seed):
    """Making a row longer or shorter does not change what it is similar to."""
    table = lively_table(seed, size["V"], size["C"])
    longer = table * 10.0 ** random_ids(seed, 4, size["V"], 1)
    assert_close(student.cosine_similarity_matrix(longer), cosines(table), rtol=1e-5, atol=1e-5)
    # Lengths from 0.015 on: there 1e-8 in the denominator, be it in the product of two lengths, is still no mistake.
    assert_close(student.cosine_similarity_matrix(table / 20), cosines(table), rtol=1e-4, atol=1e-4)


@task("cosine_similarity_matrix", weight=1, needs="test_cosine_values")
def test_cosine_by_hand(student):
    """A row whose numbers add up to zero, or with zeros in it, is no zero row."""
    table = torch.tensor([[0.6, 0.8], [0.0, 2.0], [-4.0, 3.0], [1.0, -1.0], [0.0, 0.0]], dtype=torch.float64)
    half = math.sqrt(0.5)
    expected = [
        [1.0, 0.8, 0.0, -0.2 * half, 0.0],
        [0.8, 1.0, 0.6, -half, 0.0],
        [0.0, 0.6, 1.0, -1.4 * half, 0.0],
        [-0.2 * half, -half, -1.4 * half, 1.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0],
    ]
    assert_close(student.cosine_similarity_matrix(table), torch.tensor(expected, dtype=torch.float64), **NEARLY)


@task("cosine_similarity_matrix", weight=1, needs="test_cosine_values", examples=8)
@given(sizes(V=(2, 5), C=(2, 5)), st.sampled_from([torch.float32, torch.bfloat16]), SEEDS)
def test_cosine_any_table(student, reference, size, dtype, seed):
    """Float32, bfloat16, non-contiguous tables and the meta device work, and the table is left as it was."""
    table = strided(lively_table(seed, size["V"], size["C"]).to(dtype))
    outcome = student.observe("cosine_similarity_matrix", table, inputs=True, randomness=True)
    assert_close(outcome.value, cosines(table).to(dtype))
    assert_equal(outcome.inputs_after[0], table, what="the table after the call")
    require(not outcome.random_used, "Comparing rows must not use random numbers.")
    on_meta = student.observe("cosine_similarity_matrix", table.to("meta"), strict_device=True).value
    assert_close(on_meta, torch.empty(size["V"], size["V"], dtype=dtype, device="meta"))


@task("cosine_similarity_matrix", weight=2, needs="test_cosine_values")
@given(sizes(V=(2, 5), C=(2, 5)), SEEDS)
def test_cosine_gradient(student, reference, size, seed):
    """The gradient flows through the dot products and through the lengths."""
    table = lively_table(seed, size["V"], size["C"])
    # On the diagonal the cosine is 1 whatever the row: nothing to learn there, and a clamp at 1 does no harm.
    cotangent = values(seed + 1, size["V"], size["V"]).fill_diagonal_(0)
    leaf = table.clone().requires_grad_()
    oracle = F.cosine_similarity(leaf[:, None], leaf[None], dim=-1)
    (expected,) = torch.autograd.grad(oracle, leaf, cotangent)
    gradient = student.observe("cosine_similarity_matrix", table, gradient=cotangent).gradients[0]
    require(gradient is not None, "No gradient reaches the table: something on the way cuts it off.")
    assert_close(gradient, expected, rtol=1e-5, atol=1e-5, what="the gradient of the table")


@task("cosine_similarity_matrix", weight=1, needs="test_cosine_zero_rows", examples=8)
@given(sizes(V=(3, 5), C=(2, 5)), SEEDS)
def test_cosine_gradient_at_zero(student, reference, size, seed):
    """The gradient stays finite where a row is zero."""
    table = lively_table(seed, size["V"], size["C"])
    table[1] = 0
    gradient = student.observe("cosine_similarity_matrix", table, gradient="sum").gradients[0]
    require(isinstance(gradient, torch.Tensor), "No gradient reaches the table: something on the way cuts it off.")
    bad = int((~torch.isfinite(gradient)).sum())
    require(bad == 0, f"With a zero row in the table, {bad} numbers of its gradient are NaN or infinite.")


# --- sinusoidal_positions ------------------------------------------------------------------------------------------


def clocks(positions, width, base=10_000.0):
    """The formula of the paper, number by number."""
    rows = [
        [wave(t / base ** (2 * i / width)) for i in range(width // 2) for wave in (math.sin, math.cos)]
        for t in positions
    ]
    return torch.tensor(rows, dtype=torch.float64).to(torch.float32)


EVEN = st.sampled_from([2, 4, 6, 8, 10])


@task("sinusoidal_positions", weight=4)
@given(st.sampled_from([3, 5, 7, 12]), EVEN)
def test_sinusoidal_values(student, reference, length, width):
    """Every number is the sine or cosine that the formula says."""
    expected = clocks(range(length), width)
    assert_close(reference.sinusoidal_positions(length, width), expected, rtol=0, atol=1e-7)
    assert_close(student.sinusoidal_positions(length, width), expected, **SINGLE)


@task("sinusoidal_positions", weight=1, examples=8)
@given(st.sampled_from([1, 3, 5]), st.sampled_from([4, 6, 8]))
def test_sinusoidal_position_zero(student, reference, length, width):
    """Position 0 comes first, and its row is 0 1 0 1 …"""
    result = student.sinusoidal_positions(length, width)
    require(isinstance(result, torch.Tensor), "The result must be a tensor.")
    require(tuple(result.shape) == (length, width), f"The shape must be (T, C); yours is {tuple(result.shape)}.")
    assert_close(result[0], torch.tensor([0.0, 1.0] * (width // 2)), dtype=False, what="row 0", **SINGLE)


@task("sinusoidal_positions", weight=2, examples=8)
@given(st.sampled_from([17, 21]), st.sampled_from([4, 6, 8, 10]))
def test_sinusoidal_pairs_are_clocks(student, reference, length, width):
    """Neighbouring columns are the sine and cosine of one hand, and no two columns are alike."""
    result = student.sinusoidal_positions(length, width)
    require(isinstance(result, torch.Tensor), "The result must be a tensor.")
    require(tuple(result.shape) == (length, width), f"The shape must be (T, C); yours is {tuple(result.shape)}.")
    sines, cosines_ = result[:, 0::2].double(), result[:, 1::2].double()
    assert_close(sines.square() + cosines_.square(), torch.ones(length, width // 2).double(), rtol=0, atol=1e-4,
                 what="sin² + cos² of a pair of neighbours")  # fmt: skip
    for one in range(width):
        for other in range(one):
            if torch.allclose(result[:, one], result[:, other], rtol=0, atol=1e-5):
                fail(f"Columns {other} and {one} are alike: each pair needs a speed of its own.")


@task("sinusoidal_positions", weight=2, needs="test_sinusoidal_values")
@given(st.sampled_from([3, 5]), EVEN, st.sampled_from([2.0, 50.0, 500_000.0, 100]))
def test_sinusoidal_base(student, reference, length, width, base):
    """The base is the one that is given."""
    assert_close(student.sinusoidal_positions(length, width, base=base), clocks(range(length), width, base), **SINGLE)


@task("sinusoidal_positions", weight=1, needs="test_sinusoidal_values", examples=4)
@given(st.sampled_from([1100, 1500]), st.sampled_from([4, 6]))
def test_sinusoidal_far_positions(student, reference, length, width):
    """Positions beyond a thousand are as good as the first."""
    result = student.sinusoidal_positions(length, width)
    require(isinstance(result, torch.Tensor), "The result must be a tensor.")
    require(tuple(result.shape) == (length, width), f"The shape must be (T, C); yours is {tuple(result.shape)}.")
    rows = list(range(0, length, 97))
    for t, row in zip(rows, clocks(rows, width), strict=True):
        assert_close(result[t], row, rtol=0, atol=2e-3, what=f"the row of position {t}")


@task("sinusoidal_positions", weight=2, needs="test_sinusoidal_values", examples=8)
@given(st.sampled_from([3, 1, 7, 13, 769]))
def test_sinusoidal_odd_width(student, reference, width):
    """An odd d_model raises a ValueError that shows it."""
    assert_refuses(student.sinusoidal_positions, 24, width, shows=str(width))


@task("sinusoidal_positions", weight=2, needs="test_sinusoidal_values", examples=4)
@given(st.sampled_from([3, 5]), st.sampled_from([4, 6]))
def test_sinusoidal_device(student, reference, length, width):
    """The result lives on the device that is asked for, and is a plain table: no randomness, no gradient."""
    outcome = student.observe("sinusoidal_positions", length, width, device="meta", randomness=True)
    assert_close(outcome.value, torch.empty(length, width, device="meta"))
    require(not outcome.random_used, "The call changed the global random state: a table of sines needs no random numbers, and no seed.")
    require(not outcome.requires_grad, "A table of sines is computed, not trained: it must not require a gradient.")
    outcome = student.observe("sinusoidal_positions", length, width, device="cpu")
    assert_close(outcome.value, clocks(range(length), width), **SINGLE)
    require(not outcome.requires_grad, "A table of sines is computed, not trained: it must not require a gradient.")


# --- gpt_embedding -------------------------------------------------------------------------------------------------


def gpt_weights(seed, size):
    """Lively weights for both tables, in float64."""
    return {
        "wte.weight": values(seed, size["V"], size["C"]),
        "wpe.weight": values(seed + 1, size["N"], size["C"]),
    }


def gpt_layer(side, size, weights, **options):
    """A `GPTEmbedding` of `side` with these weights, in evaluation mode and in the weights' dtype.

    What else stands in its state_dict stays as it is: that costs points once, in the check of the names.
    """
    layer = side.new("GPTEmbedding", size["V"], size["N"], size["C"], **options)
    layer.to(weights["wte.weight"].dtype)
    state = layer.state_dict()
    for name, right in weights.items():
        mine = state.get(name) if isinstance(state, dict) else None
        require(isinstance(mine, torch.Tensor), f"The state_dict must hold the table `{name}`; yours does not.")
        require(
            mine.shape == right.shape, f"`{name}` must have the shape {tuple(right.shape)}; yours has {tuple(mine.shape)}."
        )
    layer.load_state_dict(state | weights)
    layer.eval()
    return layer


# N is block_size. B, T, C, N and V differ from one another, and T never reaches N.
GPT_SIZES = sizes(N=(6, 9), V=(5, 12), C=(2, 4), T=(1, 5), B=(1, 5))


@task("gpt_embedding", weight=2)
@given(GPT_SIZES, SEEDS)
def test_gpt_embedding_tokens(student, reference, size, seed):
    """With position rows of zeros the result is the token's row of `wte`, as it is."""
    weights = gpt_weights(seed, size) | {"wpe.weight": torch.zeros(size["N"], size["C"], dtype=torch.float64)}
    ids = random_ids(seed, size["V"], size["B"], size["T"])
    assert_close(gpt_layer(student, size, weights)(ids), looked_up(ids, weights["wte.weight"]))


@task("gpt_embedding", weight=3)
@given(GPT_SIZES, SEEDS)
def test_gpt_embedding_positions(student, reference, size, seed):
    """The row of its position is added to each token, the same rows for every text of the batch."""
    weights = gpt_weights(seed, size)
    ids = random_ids(seed, size["V"], size["B"], size["T"])
    expected = looked_up(ids, weights["wte.weight"]) + weights["wpe.weight"][: size["T"]]
    assert_close(gpt_layer(reference, size, weights)(ids), expected)
    assert_close(gpt_layer(student, size, weights)(ids), expected)


@task("gpt_embedding", weight=3)
@given(GPT_SIZES, SEEDS, st.integers(0, 8))
def test_gpt_embedding_offset(student, reference, size, seed, offset):
    """With an offset the first id stands at that position, up to the very last row of `wpe`."""
    last = size["N"] - size["T"]
    weights = gpt_weights(seed, size)
    ids = random_ids(seed, size["V"], size["B"], size["T"])
    layer = gpt_layer(student, size, weights)
    for start in (1 + offset % last, last):
        expected = looked_up(ids, weights["wte.weight"]) + weights["wpe.weight"][start : start + size["T"]]
        assert_close(layer(ids, offset=start), expected)


@task("gpt_embedding", weight=2, needs="test_gpt_embedding_positions", examples=6)
@given(GPT_SIZES, SEEDS)
def test_gpt_embedding_state(student, reference, size, seed):
    """The state_dict holds `wte.weight` and `wpe.weight` and nothing that can be recomputed."""
    layer = student.new("GPTEmbedding", size["V"], size["N"], size["C"], dropout=0.1)
    layer(random_ids(seed, size["V"], size["B"], size["T"]))
    state = layer.state_dict()
    require(isinstance(state, dict), "state_dict() must give a dictionary.")
    names = sorted(str(name) for name in state)
    require(names == ["wpe.weight", "wte.weight"], f"The names must be wte.weight and wpe.weight; yours are {names}.")
    assert_close(state["wte.weight"].to("meta"), torch.empty(size["V"], size["C"], device="meta"), what="wte.weight")
    assert_close(state["wpe.weight"].to("meta"), torch.empty(size["N"], size["C"], device="meta"), what="wpe.weight")


@task("gpt_embedding", weight=2, needs="test_gpt_embedding_positions", examples=10)
@given(GPT_SIZES, SEEDS)
def test_gpt_embedding_gradients(student, reference, size, seed):
    """Gradients reach every row that was used, in both tables."""
    weights = gpt_weights(seed, size)
    ids = random_ids(seed, size["V"], size["B"], size["T"])
    cotangent = values(seed + 2, size["B"], size["T"], size["C"])
    tokens, places = torch.zeros_like(weights["wte.weight"]), torch.zeros_like(weights["wpe.weight"])
    for b, text in enumerate(ids.tolist()):
        for t, number in enumerate(text):
            tokens[number] += cotangent[b, t]
            places[t] += cotangent[b, t]
    outcome = gpt_layer(student, size, weights).observe(ids, gradient=cotangent)
    for name, expected in (("wte.weight", tokens), ("wpe.weight", places)):
        gradient = outcome.parameter_gradients.get(name)
        require(gradient is not None, f"No gradient reaches {name}: something on the way cuts it off.")
        assert_close(gradient, expected, what=f"the gradient of {name}")


def refuses_positions(layer, ids, offset, offending):
    """A ValueError whose message shows one of the numbers that may be called the offending value."""
    assert_refuses(layer, ids, offset=offset)
    try:
        layer(ids, offset=offset)
    except StudentError as raised:
        shown = re.findall(r"\d+", raised.text)
        require(
            any(str(number) in shown for number in offending),
            f"The message of the ValueError must show the offending value; yours says: {raised.text[:200]!r}",
        )


@task("gpt_embedding", weight=2, needs="test_gpt_embedding_positions", examples=8)
@given(st.integers(6, 9), st.integers(2, 4), SEEDS)
def test_gpt_embedding_refuses_beyond(student, reference, block, width, seed):
    """A position of `block_size` or more raises a ValueError, whether by a long text or by the offset."""
    size = {"V": 5, "N": block, "C": width}
    layer = gpt_layer(student, size, gpt_weights(seed, size))
    # One too many, first by the length, then by the offset.
    assert_refuses(layer, random_ids(seed, 5, 2, block + 1))
    assert_refuses(layer, random_ids(seed, 5, 2, 3), offset=block - 2)
    layer.train()
    assert_refuses(layer, random_ids(seed, 5, 2, block + 1))
    # Far too many. Length, offset, last position and the number of positions may each be called the offending value.
    refuses_positions(layer, random_ids(seed, 5, 2, block + 14), 0, (block + 14, block + 13))
    refuses_positions(layer, random_ids(seed, 5, 2, 3), 40, (40, 42, 43))


@task("gpt_embedding", weight=1, needs="test_gpt_embedding_positions", examples=8)
@given(st.integers(6, 9), st.sampled_from([-2, -3, -25]), SEEDS)
def test_gpt_embedding_refuses_negative(student, reference, block, offset, seed):
    """A negative offset raises a ValueError that shows it."""
    size = {"V": 5, "N": block, "C": 3}
    layer = gpt_layer(student, size, gpt_weights(seed, size))
    assert_refuses(layer, random_ids(seed, 5, 2, 4), offset=offset, shows=str(offset))
    assert_refuses(layer, random_ids(seed, 5, 2, 4), offset=-1)


@task("gpt_embedding", weight=2, needs="test_gpt_embedding_positions", examples=6)
@given(SEEDS, st.sampled_from([0.25, 0.5]))
def test_gpt_embedding_dropout(student, reference, seed, rate):
    """Dropout falls on the sum, in training only: each number by itself is dropped, or made larger by 1/(1 - dropout)."""
    size = {"V": 7, "N": 9, "C": 6}
    weights = {"wte.weight": values(seed, 7, 6) + 4.0, "wpe.weight": values(seed + 1, 9, 6) + 4.0}  # no sum is zero
    ids = random_ids(seed, 7, 5, 8)
    expected = looked_up(ids, weights["wte.weight"]) + weights["wpe.weight"][:8]
    layer = gpt_layer(student, size, weights, dropout=rate)
    quiet = layer.observe(ids, randomness=True, seed=seed)
    assert_close(quiet.value, expected, what="the result after .eval()")
    require(not quiet.random_used, "After .eval() nothing random may happen.")
    layer.train()
    trained = layer.observe(ids, seed=seed).value
    right = expected
    if isinstance(trained, torch.Tensor) and trained.shape == expected.shape:
        right = torch.where(trained == 0, 0.0, expected / (1 - rate))
    assert_close(trained, right, what="the result in training")
    dropped = int((trained == 0).sum())
    require(0 < dropped < trained.numel(), f"In training with dropout={rate}, {dropped} of {trained.numel()} are zero.")
    for dimension, what in enumerate(("texts of the batch", "positions", "columns")):
        first = (trained == 0).narrow(dimension, 0, 1)
        alike = bool(((trained == 0) == first).all())
        require(not alike, f"Dropout drops the same in all {what}: each number must be dropped, or not, by itself.")
    without = gpt_layer(student, size, weights)
    without.train()
    assert_close(without(ids), expected, what="the result in training without dropout")


@task("gpt_embedding", weight=1, needs="test_gpt_embedding_positions", examples=6)
@given(GPT_SIZES, SEEDS)
def test_gpt_embedding_devices(student, reference, size, seed):
    """It works in bfloat16, with non-contiguous ids and on the meta device, and leaves the ids as they were."""
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in gpt_weights(seed, size).items()}
    ids = strided(random_ids(seed, size["V"], size["B"], size["T"]))
    layer = gpt_layer(student, size, weights)
    outcome = layer.observe(ids, offset=1, inputs=True, randomness=True)
    rows = weights["wpe.weight"][1 : 1 + size["T"]]
    assert_close(outcome.value, looked_up(ids, weights["wte.weight"]) + rows)
    assert_equal(outcome.inputs_after[0], ids, what="ids after the call")
    require(not outcome.random_used, "Looking up rows must not use random numbers.")
    layer.to("meta")
    on_meta = layer.observe(ids.to("meta"), offset=1, strict_device=True).value
    shape = (size["B"], size["T"], size["C"])
    assert_close(on_meta, torch.empty(shape, dtype=torch.bfloat16, device="meta"), what="the result on meta")


# --- rotary --------------------------------------------------------------------------------------------------------


def angle_table(positions, width, base=10_000.0):
    """The angles, number by number."""
    rows = [[t / base ** (2 * i / width) for i in range(width // 2)] for t in positions]
    return torch.tensor(rows, dtype=torch.float64).to(torch.float32)


def turned(x, angles):
    """Each pair turned by its angle: complex numbers in float64, multiplied by points of the unit circle."""
    wide = x.to(torch.float64)
    pairs = torch.complex(wide[..., 0::2].contiguous(), wide[..., 1::2].contiguous())
    circle = torch.polar(torch.ones(angles.shape, dtype=torch.float64), angles.to(torch.float64))
    return torch.view_as_real(pairs * circle).flatten(-2)


@task("rotary", weight=3)
@given(st.integers(3, 6), EVEN, st.sampled_from([10_000.0, 50.0, 500_000]))
def test_rotary_angles(student, reference, length, width, base):
    """The angle is the position divided by base^(2i/D), one for each pair."""
    positions = torch.arange(length)
    expected = angle_table(range(length), width, base)
    assert_close(reference.rotary_angles(positions, width, base), expected, rtol=1e-6, atol=0)
    assert_close(student.rotary_angles(positions, width, base=base), expected, **SINGLE)
    assert_close(student.rotary_angles(positions, width), angle_table(range(length), width), **SINGLE)


@task("rotary", weight=2)
@given(st.lists(st.integers(0, 100_000), min_size=2, max_size=6), EVEN)
def test_rotary_any_positions(student, reference, positions, width):
    """The positions are those given: shuffled, repeated, starting anywhere."""
    positions = [*positions, 7, 3]
    assert_close(student.rotary_angles(torch.tensor(positions), width), angle_table(positions, width), **SINGLE)


@task("rotary", weight=1, needs="test_rotary_angles", examples=8)
@given(st.sampled_from([torch.int64, torch.int32, torch.float32, torch.float64]), EVEN)
def test_rotary_angles_float32(student, reference, dtype, width):
    """The angles are float32 whatever the positions are, also on the meta device, and positions stay as they were."""
    positions = torch.tensor([5, 2, 300]).to(dtype)
    outcome = student.observe("rotary_angles", positions, width, inputs=True, randomness=True)
    assert_close(outcome.value, angle_table([5, 2, 300], width), **SINGLE)
    assert_equal(outcome.inputs_after[0], positions, what="positions after the call")
    require(not outcome.random_used, "Computing angles must not use random numbers.")
    on_meta = student.observe("rotary_angles", positions.to("meta"), width, strict_device=True).value
    assert_close(on_meta, torch.empty(3, width // 2, device="meta"), what="the angles on meta")


@task("rotary", weight=1, needs="test_rotary_angles", examples=6)
@given(st.sampled_from([1, 3, 7, 65]))
def test_rotary_odd_width(student, reference, width):
    """An odd head_dim raises a ValueError that shows it."""
    assert_refuses(student.rotary_angles, torch.arange(2), width, shows=str(width))


@task("rotary", weight=4)
@given(sizes(T=(2, 5), P=(2, 4)), st.sampled_from([torch.float32, torch.float64]), SEEDS)
def test_rotary_turns_pairs(student, reference, size, dtype, seed):
    """Each pair of neighbours is turned anticlockwise by its angle."""
    x = values(seed, size["T"], 2 * size["P"], dtype=dtype)
    angles = random_angles(seed, size["T"], size["P"])
    expected = turned(x, angles).to(dtype)
    assert_close(reference.apply_rotary(x, angles), expected, **SINGLE)
    assert_close(student.apply_rotary(x, angles), expected, **SINGLE)


@task("rotary", weight=2)
@given(sizes(T=(2, 6), P=(1, 4)), st.sampled_from([(3,), (2, 3), (5, 2), (2, 1, 3)]), SEEDS)
def test_rotary_leading_dimensions(student, reference, size, front, seed):
    """Any number of leading dimensions works: batch and heads are turned alike, by the positions' angles."""
    x = values(seed, *front, size["T"], 2 * size["P"], dtype=torch.float32)
    angles = random_angles(seed, size["T"], size["P"])
    assert_close(student.apply_rotary(x, angles), turned(x, angles).to(torch.float32), **SINGLE)


@task("rotary", weight=2, needs="test_rotary_turns_pairs")
@given(st.permutations(range(6)), st.integers(1, 90), st.sampled_from([4, 6, 8]), SEEDS)
def test_rotary_relative(student, reference, order, shift, width, seed):
    """A score depends on the distance of the two positions only, and turning changes no length."""
    q, k = values(seed, width).expand(6, width), values(seed + 1, width).expand(6, width)
    positions = torch.tensor(order)
    here = student.rotary_angles(positions, width)
    there = student.rotary_angles(positions + shift, width)
    near_q, near_k = student.apply_rotary(q, here), student.apply_rotary(k, here)
    far_q, far_k = student.apply_rotary(q, there), student.apply_rotary(k, there)
    assert_close(near_q.norm(dim=-1), q.norm(dim=-1), rtol=1e-4, atol=1e-4, what="the length after turning")
    assert_close(far_q @ far_k.T, near_q @ near_k.T, rtol=0, atol=5e-3, what="a score after moving both along")
    # Sorted by position, the scores are constant along each diagonal, and they must be those of the reference.
    right_q, right_k = (turned(x, angle_table(order, width)) for x in (q, k))
    assert_close(near_q @ near_k.T, right_q @ right_k.T, rtol=0, atol=5e-3, what="a score")


@task("rotary", weight=2, needs="test_rotary_turns_pairs", examples=8)
@given(st.sampled_from([4, 6]), SEEDS)
def test_rotary_bfloat16(student, reference, width, seed):
    """For bfloat16 it computes in float32 or wider, and only the finished result is rounded."""
    x = values(seed, 3, 9, width).mul(1.37).to(torch.bfloat16)
    angles = random_angles(seed, 9, width // 2) + 0.123
    result = student.apply_rotary(x, angles)
    # One rounding to bfloat16 is off by at most 1 part in 256; a computation in bfloat16 loses more where terms cancel.
    assert_close(result, turned(x, angles), dtype=False, rtol=1.02 / 256, atol=1e-5)
    require(result.dtype is torch.bfloat16, f"The result must have the dtype of x, bfloat16; yours is {result.dtype}.")


@task("rotary", weight=2, needs="test_rotary_turns_pairs", examples=8)
@given(sizes(T=(2, 5), P=(2, 4)), SEEDS)
def test_rotary_leaves_inputs(student, reference, size, seed):
    """Non-contiguous inputs and the meta device work, and x and the angles are left as they were."""
    x = strided(values(seed, 2, 3, size["T"], 2 * size["P"], dtype=torch.float32))
    angles = strided(random_angles(seed, size["T"], size["P"]))
    outcome = student.observe("apply_rotary", x, angles, inputs=True, randomness=True)
    assert_close(outcome.value, turned(x, angles).to(torch.float32), **SINGLE)
    assert_equal(outcome.inputs_after[0], x, what="x after the call")
    assert_equal(outcome.inputs_after[1], angles, what="the angles after the call")
    require(not outcome.random_used, "Turning must not use random numbers.")
    on_meta = student.observe("apply_rotary", x.to("meta"), angles.to("meta"), strict_device=True).value
    assert_close(on_meta, torch.empty(x.shape, device="meta"), what="the result on meta")


@task("rotary", weight=1, needs="test_rotary_turns_pairs", examples=8)
@given(sizes(T=(2, 5), P=(1, 4)), SEEDS)
def test_rotary_gradient(student, reference, size, seed):
    """The gradient is turned back by the same angle."""
    x, cotangent = (values(seed + n, 2, size["T"], 2 * size["P"]) for n in (0, 1))
    angles = random_angles(seed, size["T"], size["P"])
    gradient = student.observe("apply_rotary", x, angles, gradient=cotangent).gradients[0]
    require(gradient is not None, "No gradient reaches x: something on the way cuts it off.")
    assert_close(gradient, turned(cotangent, -angles), **SINGLE, what="the gradient of x")
