"""What people believe about embeddings and positions that is not so: the reference with one mistake, many times over.

Of the well-known mistakes with embeddings and positions, two are not here because no task of this assignment can show
them: turning the *values* too belongs to attention (`apply_rotary` gets one tensor and cannot know what it is), and an
exponent with the model's width in place of the head's cannot be written where only `head_dim` is given. Two others are
right here: the factor sqrt(C) is left out, as in GPT-2 (`rows_scaled` has it), and tables or lists of positions are not
saved (`positions_saved` does). That positions taken over the batch stay unseen where B equals T is why the tests never
let them be equal.
"""

import torch

from autograder.diagnosis import Raised, battery, change, honest, misconception
from autograder.strategies import strided, values

# --- embed ---------------------------------------------------------------------------------------------------------

IDS = torch.tensor([[2, 0, 3, 3], [1, 3, 0, 4]])
TABLE = values(1, 5, 3)


@battery("embed")
def embed_questions(ask):
    """Values in several shapes, gradients, ids outside the table, dtype and inputs."""
    return [
        ask.embed(IDS[0], TABLE),
        ask.embed(IDS, TABLE),
        ask.embed(IDS[None, :, None], TABLE),
        ask.observe("embed", IDS, TABLE, gradient="sum").gradients,
        *(ask.embed(torch.tensor([0, bad]), TABLE) for bad in (5, 37, -1, -2, -6)),
        ask.embed(IDS, TABLE.to(torch.bfloat16)),
        ask.observe("embed", IDS, TABLE, inputs=True).inputs_after,
    ]


CHECK = "outside = (ids < 0) | (ids >= V)                          # (..., T)"


@misconception(task="embed", advice="Check `ids < 0` too: Python would take `table[-1]` as the last row.")
def negative_wraps(source):
    """Negative ids count from the end of the table."""
    return change(source, "(ids < 0) | (ids >= V)", "ids >= V")


@misconception(task="embed", advice="The ids run from 0 to V-1, so V itself is already too large: compare with `>=`.")
def bound_one_too_high(source):
    """The id V, one after the last row, is not refused by your check."""
    return change(source, "ids >= V", "ids > V")


@misconception(task="embed", advice="Look at the ids before you index, and raise a ValueError that shows the bad one.")
def ids_not_checked(source):
    """The ids are not checked: some mistakes raise an IndexError of torch, others pass in silence."""
    return change(source, CHECK, "outside = torch.zeros_like(ids, dtype=torch.bool)")


@misconception(
    task="embed",
    advice="Do not clamp: a bad id is a mistake that must be told, not hidden behind a wrong row.",
)
def ids_clamped(source):
    """Ids outside the table are moved to its edge."""
    return change(source, CHECK, "ids = ids.clamp(0, V - 1); outside = torch.zeros_like(ids, dtype=torch.bool)")


@misconception(task="embed", advice="Use `raise ValueError(...)`; assertions are switched off by `python -O`.")
def ids_asserted(source):
    """Bad ids are refused by an assertion instead of a ValueError."""
    source = change(source, "if outside.any():", 'assert not outside.any(), f"bad ids {ids}"\n    if False:')
    return source


@misconception(task="embed", advice="Index the table itself, not `table.data` or `table.detach()`.")
def table_detached(source):
    """The table is cut off from the graph, so no gradient reaches it."""
    return change(source, "return table[ids]", "return table.detach()[ids]")


@misconception(task="embed", advice="Do not flatten the ids: indexing keeps their shape, `(B, T)` gives `(B, T, C)`.")
def ids_flattened(source):
    """The leading dimensions of the ids are lost."""
    return change(source, "return table[ids]", "return table[ids.flatten()]")


@misconception(task="embed", advice="Index the first dimension: one *row* for each id.")
def columns_for_rows(source):
    """Columns of the table are looked up instead of rows."""
    return change(source, "return table[ids]", "return table.T[ids.clamp(max=table.shape[1] - 1)]")


@misconception(task="embed", advice="Ids start at 0: id 0 is the first row.")
def ids_from_one(source):
    """The ids are taken to start at 1, so each gets the row before its own."""
    return change(source, "return table[ids]", "return table[ids - 1]")


@misconception(
    task="embed",
    advice="Give the rows back in the dtype of the table; with one-hot use `.to(table.dtype)`.",
)
def always_float32(source):
    """The result is float32 whatever the table is."""
    return change(source, "return table[ids]", "return table.float()[ids]")


@misconception(
    task="embed",
    advice="Leave the rows as they are: the factor sqrt(C) belongs to the Transformer of 2017, and not into the look-up.",
)
def rows_scaled(source):
    """The rows are multiplied by sqrt(C)."""
    return change(source, "return table[ids]", "return table[ids] * table.shape[1] ** 0.5")


@misconception(
    task="embed",
    advice="Do not write into `ids`: make a new tensor instead of using a method that ends in `_`.",
)
def ids_written(source):
    """The caller's ids are changed by the call."""
    return change(source, "return table[ids]", "rows = table[ids.clone()]\n    ids.zero_()\n    return rows")


@honest(task="embed")
def embed_one_hot(source):
    """One-hot times table."""
    return change(source, "return table[ids]", "return F.one_hot(ids, V).to(table.dtype) @ table")


@honest(task="embed")
def embed_index_select(source):
    """index_select on the flat ids, shaped again."""
    new = "return table.index_select(0, ids.reshape(-1)).reshape(*ids.shape, -1)"
    return change(source, "return table[ids]", new)


@honest(task="embed")
def embed_loop(source):
    """A loop over the ids, bounds by min and max."""
    return '''def embed(ids, table):
    if ids.min() < 0 or ids.max() >= len(table):
        raise ValueError(f"ids must lie in [0, {len(table)}); they run from {ids.min()} to {ids.max()}")
    return torch.stack([table[i] for i in ids.flatten().tolist()]).view(*ids.shape, table.shape[1])
'''


@honest(task="embed")
def embed_gather(source):
    """Gather along the rows."""
    new = "return table.gather(0, ids.reshape(-1, 1).expand(-1, table.shape[1])).reshape(*ids.shape, table.shape[1])"
    return change(source, "return table[ids]", new)


# --- cosine_similarity_matrix --------------------------------------------------------------------------------------

ROWS = values(7, 4, 3) + torch.tensor([0.05, 0.0, 0.0], dtype=torch.float64)
BALANCED = torch.tensor([[1.0, -1.0, 0.0], [0.5, 2.0, 1.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
WITH_ZERO = ROWS.index_fill(0, torch.tensor([2]), 0.0)


@battery("cosine_similarity_matrix")
def cosine_questions(ask):
    """Values with and without a zero row, long and short rows, gradients, dtype and the table after the call."""
    return [
        ask.cosine_similarity_matrix(ROWS),
        ask.cosine_similarity_matrix(WITH_ZERO),
        ask.cosine_similarity_matrix(ROWS * 1000),
        ask.cosine_similarity_matrix(ROWS / 20),
        ask.cosine_similarity_matrix(BALANCED),
        ask.observe("cosine_similarity_matrix", ROWS, gradient=values(9, 4, 4).fill_diagonal_(0)).gradients,
        ask.observe("cosine_similarity_matrix", WITH_ZERO, gradient="sum").gradients,
        ask.cosine_similarity_matrix(ROWS.to(torch.bfloat16)),
        ask.observe("cosine_similarity_matrix", ROWS, inputs=True).inputs_after,
    ]


UNIT = "unit = table / lengths.masked_fill(lengths == 0, 1.0)"


@misconception(task="cosine_similarity_matrix", advice="Divide each row by its length before you multiply.")
def plain_dot_products(source):
    """The rows are not divided by their lengths: these are dot products."""
    return change(source, UNIT, "unit = table")


@misconception(task="cosine_similarity_matrix", advice="Both factors need rows of length 1: use `unit @ unit.T`.")
def one_side_only(source):
    """Only one of the two rows is divided by its length."""
    return change(source, "unit @ unit.T", "unit @ table.T")


@misconception(
    task="cosine_similarity_matrix",
    advice="A token is a row: take lengths over the last dimension, `dim=-1`.",
)
def columns_normalised(source):
    """The columns are made one long instead of the rows."""
    return change(source, "dim=-1, keepdim=True", "dim=0, keepdim=True")


@misconception(
    task="cosine_similarity_matrix",
    advice="Keep the axis, `keepdim=True`: each row is divided by its own length.",
)
def axis_of_lengths_lost(source):
    """The lengths lose their axis, so that they meet the columns, or nothing."""
    return change(source, "dim=-1, keepdim=True", "dim=-1")


@misconception(task="cosine_similarity_matrix", advice="Replace a length of 0 before you divide; 0/0 is NaN.")
def zero_row_nan(source):
    """A zero row gives NaN."""
    return change(source, UNIT, "unit = table / lengths")


@misconception(
    task="cosine_similarity_matrix",
    advice="Replace the length of 0 *before* dividing. A NaN put right afterwards still ruins the gradient.",
)
def nan_mended_late(source):
    """The NaN of a zero row is replaced after the division, and comes back in the gradient."""
    return change(source, UNIT, "unit = torch.nan_to_num(table / lengths)")


@misconception(task="cosine_similarity_matrix", advice="Do not fill the diagonal: a zero row is similar to nothing.")
def zero_row_like_itself(source):
    """A zero row counts as similar to itself."""
    new = "return (unit @ unit.T).masked_fill(torch.eye(len(table), dtype=torch.bool, device=table.device), 1.0)"
    return change(source, "return unit @ unit.T", new)


@misconception(task="cosine_similarity_matrix", advice="The length is the square root of the sum of squares.")
def squared_lengths(source):
    """The rows are divided by their squared lengths."""
    return change(source, UNIT, "lengths = lengths.square()\n    " + UNIT)


@misconception(
    task="cosine_similarity_matrix",
    advice="Use the Euclidean length (the 2-norm), not the sum of the sizes.",
)
def taxicab_lengths(source):
    """The rows are divided by the sum of their absolute values."""
    return change(source, "torch.linalg.vector_norm(table, dim=-1", "torch.linalg.vector_norm(table, ord=1, dim=-1")


@misconception(task="cosine_similarity_matrix", advice="Return the cosine itself: 1 for the same direction, not 0.")
def distance_instead(source):
    """The result is the distance, one minus the cosine."""
    return change(source, "return unit @ unit.T", "return 1 - unit @ unit.T")


@misconception(
    task="cosine_similarity_matrix",
    advice="Do not subtract the mean: that gives correlations, not cosines.",
)
def rows_centred(source):
    """The mean of each row is subtracted first."""
    return change(source, "lengths = torch", "table = table - table.mean(dim=-1, keepdim=True)\n    lengths = torch")


@misconception(task="cosine_similarity_matrix", advice="The cosine has a sign: opposite directions are -1. Leave it.")
def sign_lost(source):
    """Opposite directions count as alike."""
    return change(source, "return unit @ unit.T", "return (unit @ unit.T).abs()")


@misconception(task="cosine_similarity_matrix", advice="Do not detach the lengths: they depend on the table as well.")
def lengths_detached(source):
    """The gradient does not flow through the lengths."""
    return change(source, "lengths.masked_fill", "lengths.detach().masked_fill")


@misconception(task="cosine_similarity_matrix", advice="Use 1e-8 or less to keep away from 0/0, or test for zero rows.")
def large_epsilon(source):
    """The number that keeps away from 0/0 is so large that it changes the result."""
    return change(source, UNIT, "unit = table / (lengths + 1e-3)")


@misconception(
    task="cosine_similarity_matrix",
    advice="`clamp(min=...)` changes every row that is shorter: use 1e-8 or less, or replace only a length of 0.",
)
def short_rows_clamped(source):
    """Short rows are divided by more than their length, so they are alike to nothing much."""
    return change(source, "lengths.masked_fill(lengths == 0, 1.0)", "lengths.clamp(min=0.1)")


@misconception(
    task="cosine_similarity_matrix",
    advice="Find a zero row by its length, or by `(table == 0).all(-1)`: `[1, -1]` adds up to 0 and is not zero.",
)
def zero_by_sum(source):
    """A row whose numbers add up to zero is taken for a zero row."""
    new = "zero = table.sum(dim=-1, keepdim=True) == 0\n    "
    return change(source, UNIT, new + "unit = torch.where(zero, 0.0, table / lengths.masked_fill(lengths == 0, 1.0))")


@misconception(
    task="cosine_similarity_matrix",
    advice="A zero row has *only* zeros: `all(-1)`, not `any(-1)`.",
)
def zero_by_any(source):
    """A row with a zero in it is taken for a zero row."""
    new = "zero = (table == 0).any(dim=-1, keepdim=True)\n    "
    return change(source, UNIT, new + "unit = torch.where(zero, 0.0, table / lengths.masked_fill(lengths == 0, 1.0))")


@misconception(task="cosine_similarity_matrix", advice="Write `table / lengths` and not `table /= lengths`.")
def table_written(source):
    """The caller's table is normalised in place."""
    new = "with torch.no_grad():\n        table.div_(lengths.masked_fill(lengths == 0, 1.0))\n    unit = table"
    return change(source, UNIT, new)


@misconception(task="cosine_similarity_matrix", advice="Keep the dtype of the table; do not call `.float()`.")
def cosine_always_float32(source):
    """The result is float32 whatever the table is."""
    return change(source, "return unit @ unit.T", "return (unit @ unit.T).float()")


@honest(task="cosine_similarity_matrix")
def cosine_epsilon_in_product(source):
    """A tiny number beside the product of two lengths, row by row."""
    return '''def cosine_similarity_matrix(table):
    squares = table.pow(2).sum(dim=1, keepdim=True)
    lengths = torch.where(squares == 0, torch.ones_like(squares), squares).sqrt()
    return torch.stack([(table * row).sum(-1) / (lengths[:, 0] * length + 1e-9) for row, length in zip(table, lengths)])
'''


@honest(task="cosine_similarity_matrix")
def cosine_normalize(source):
    """With F.normalize."""
    return change(source, UNIT, "unit = F.normalize(table, dim=-1)")


@honest(task="cosine_similarity_matrix")
def cosine_outer(source):
    """Dot products divided by the product of the lengths, where it is not zero."""
    return '''def cosine_similarity_matrix(table):
    lengths = table.norm(dim=1)
    product = torch.outer(lengths, lengths)
    safe = torch.where(product == 0, torch.ones_like(product), product)
    return torch.where(product == 0, torch.zeros_like(product), (table @ table.T) / safe)
'''


@honest(task="cosine_similarity_matrix")
def cosine_epsilon(source):
    """A tiny number in the denominator."""
    return change(source, UNIT, "unit = table / (lengths + 1e-8)")


@honest(task="cosine_similarity_matrix")
def cosine_clamped(source):
    """Einsum, rounded back into -1 … 1."""
    new = 'return torch.einsum("ic,jc->ij", unit, unit).clamp(-1, 1)'
    return change(source, "return unit @ unit.T", new)


# --- sinusoidal_positions ------------------------------------------------------------------------------------------


@battery("sinusoidal_positions")
def sinusoidal_questions(ask):
    """Two sizes, two bases, odd widths, another device, and what kind of tensor comes back."""
    return [
        ask.sinusoidal_positions(5, 8),
        ask.sinusoidal_positions(7, 2),
        ask.sinusoidal_positions(4, 6, base=50.0),
        ask.sinusoidal_positions(1200, 4),
        ask.sinusoidal_positions(3, 5),
        ask.sinusoidal_positions(3, 1),
        ask.sinusoidal_positions(5, 4, device="meta"),
        ask.observe("sinusoidal_positions", 5, 4, randomness=True),
    ]


EXPONENT = "base ** (2 * i / d_model)"
WEAVE = """    pairs = torch.stack((angles.sin(), angles.cos()), dim=-1)              # (T, C/2, 2)
    return pairs.flatten(1).to(torch.float32)                              # (T, C)
"""
ODD = 'raise ValueError(f"d_model must be even, for a sine and a cosine per pair (got {d_model})")'


@misconception(task="sinusoidal_positions", advice="The exponent must contain `i`, the number of the pair.")
def one_speed(source):
    """All pairs turn at the same speed."""
    return change(source, EXPONENT, "base ** (2 * (i * 0 + 1) / d_model)")


@misconception(task="sinusoidal_positions", advice="Use `/` in the exponent; `//` rounds it down to 0 for every pair.")
def integer_division(source):
    """The exponent is an integer division, so every pair has the speed 1."""
    return change(source, EXPONENT, "base ** (2 * i // d_model)")


@misconception(
    task="sinusoidal_positions",
    advice="Put sine and cosine of a pair next to each other, columns 2i and 2i+1.",
)
def halves(source):
    """All sines come first, then all cosines."""
    return change(source, WEAVE, "    return torch.cat((angles.sin(), angles.cos()), dim=-1).to(torch.float32)\n")


@misconception(task="sinusoidal_positions", advice="Even columns hold the sine, odd ones the cosine.")
def cosine_first(source):
    """Sine and cosine have changed places."""
    return change(source, "(angles.sin(), angles.cos())", "(angles.cos(), angles.sin())")


@misconception(task="sinusoidal_positions", advice="Positions start at 0: use `torch.arange(T)`.")
def positions_from_one(source):
    """The first position is 1."""
    return change(source, "angles = t[:, None]", "angles = (t + 1)[:, None]")


@misconception(task="sinusoidal_positions", advice="Row t belongs to position t: do not flip.")
def positions_reversed(source):
    """The positions count backwards."""
    return change(source, "angles = t[:, None]", "angles = t.flip(0)[:, None]")


@misconception(task="sinusoidal_positions", advice="Use the argument `base` and not the number 10000.")
def base_ignored(source):
    """The base is always 10,000."""
    return change(source, EXPONENT, "10_000.0 ** (2 * i / d_model)")


@misconception(task="sinusoidal_positions", advice="Pass `device=device` to every tensor that you create.")
def device_ignored(source):
    """The device is ignored."""
    return change(source, ", device=device)", ")", count=2)


@misconception(task="sinusoidal_positions", advice="With i the number of the pair, the exponent is 2i/C.")
def exponent_halved(source):
    """The exponent is i/C instead of 2i/C."""
    return change(source, EXPONENT, "base ** (i / d_model)")


@misconception(task="sinusoidal_positions", advice="`arange(0, C, 2)` is already 2i: do not double it again.")
def exponent_doubled(source):
    """The exponent is 4i/C instead of 2i/C."""
    return change(source, EXPONENT, "base ** (4 * i / d_model)")


@misconception(
    task="sinusoidal_positions",
    advice="Sine and cosine of one pair share one angle: count pairs, not columns.",
)
def speed_per_column(source):
    """Every column has a speed of its own, so sine and cosine of a pair do not belong together."""
    source = change(source, "angles.cos())", "(t[:, None] / base ** ((2 * i + 1) / d_model)).cos())")
    return source


@misconception(task="sinusoidal_positions", advice="Divide by C, not by C - 2: the last pair does not reach `base`.")
def last_pair_reaches_base(source):
    """The speeds are spread so that the last pair has exactly 1/base."""
    return change(source, EXPONENT, "base ** (2 * i / max(d_model - 2, 1))")


@misconception(task="sinusoidal_positions", advice="Divide the position by base^(2i/C): later pairs turn more slowly.")
def faster_and_faster(source):
    """The position is multiplied by base^(2i/C) instead of divided."""
    return change(source, "t[:, None] / base", "t[:, None] * base")


@misconception(task="sinusoidal_positions", advice="`torch.sin` takes radians: no conversion is needed.")
def degrees(source):
    """The angles are taken as degrees."""
    return change(source, "angles = t[:, None]", "angles = math.pi / 180 * t[:, None]")


@misconception(task="sinusoidal_positions", advice="Finish with `.to(torch.float32)`.")
def float64_returned(source):
    """The result is float64."""
    return change(source, ".flatten(1).to(torch.float32)", ".flatten(1)")


@misconception(task="sinusoidal_positions", advice="Return (T, C): adding it to (B, T, C) broadcasts by itself.")
def batch_dimension_added(source):
    """The result has a batch dimension in front."""
    return change(source, ".flatten(1).to(torch.float32)", ".flatten(1).to(torch.float32)[None]")


@misconception(task="sinusoidal_positions", advice="Return a plain tensor: these numbers are computed, not trained.")
def positions_trained(source):
    """The table is a parameter that training would change."""
    new = "return nn.Parameter(pairs.flatten(1).to(torch.float32))"
    return change(source, "return pairs.flatten(1).to(torch.float32)", new)


@misconception(
    task="sinusoidal_positions",
    advice="Raise a ValueError for an odd d_model instead of cutting a column off.",
)
def odd_width_cut(source):
    """For an odd d_model the last cosine is cut off in silence."""
    source = change(source, ODD, "pass")
    source = change(source, "d_model // 2", "(d_model + 1) // 2")
    return change(source, "pairs.flatten(1).to(torch.float32)", "pairs.flatten(1)[:, :d_model].to(torch.float32)")


@misconception(task="sinusoidal_positions", advice="Check `d_model % 2` first and raise a ValueError that shows it.")
def odd_width_crashes(source):
    """An odd d_model is not refused: torch fails somewhere inside, or (d_model = 1) gives a table all the same."""
    return '''def sinusoidal_positions(T, d_model, base=10_000.0, device=None):
    t = torch.arange(T, dtype=torch.float64, device=device)[:, None]
    speeds = base ** (-torch.arange(0, d_model, 2, dtype=torch.float64, device=device) / d_model)
    table = torch.zeros(T, d_model, device=device)
    table[:, 0::2] = torch.sin(t * speeds)
    table[:, 1::2] = torch.cos(t * speeds)
    return table
'''


@misconception(task="sinusoidal_positions", advice="Make the table as long as T says; there is no longest text.")
def longest_text_fixed(source):
    """Positions from 1,024 on begin again at 0."""
    return change(source, "angles = t[:, None]", "angles = (t % 1024)[:, None]")


@misconception(
    task="sinusoidal_positions",
    advice="Leave `torch.manual_seed` out: nothing here is random, and the caller's random numbers would begin again.",
)
def seeds_anew(source):
    """The global random state is seeded anew by each call."""
    return change(source, "    if d_model % 2:", "    torch.manual_seed(0)\n    if d_model % 2:")


@misconception(
    task="sinusoidal_positions",
    advice="The angle is t / base^(2i/C) as it stands: `sin` takes radians, and no 2π belongs into it.",
)
def whole_turns(source):
    """The angles are multiplied by 2π."""
    return change(source, "angles = t[:, None]", "angles = 2 * math.pi * t[:, None]")


@misconception(task="sinusoidal_positions", advice="Use the position t itself: how long the text is makes no difference.")
def share_of_text(source):
    """The position is divided by the length of the text."""
    return change(source, "angles = t[:, None]", "angles = (t / T)[:, None]")


@honest(task="sinusoidal_positions")
def sinusoidal_phase(source):
    """The cosine as a sine a quarter turn ahead, in float32."""
    source = change(source, "angles.cos())", "(angles + math.pi / 2).sin())")
    return change(source, "dtype=torch.float64", "dtype=torch.float32", count=2)


@honest(task="sinusoidal_positions")
def sinusoidal_logarithm(source):
    """Speeds by exp and log, all in float32, columns filled one kind after the other."""
    return '''def sinusoidal_positions(T, d_model, base=10_000.0, device=None):
    if d_model % 2 != 0:
        raise ValueError(f"d_model={d_model} is odd")
    position = torch.arange(T, device=device).float().unsqueeze(1)
    speed = torch.exp(torch.arange(0, d_model, 2, device=device).float() * (-math.log(base) / d_model))
    table = torch.zeros(T, d_model, device=device)
    table[:, 0::2] = torch.sin(position * speed)
    table[:, 1::2] = torch.cos(position * speed)
    return table
'''


@honest(task="sinusoidal_positions")
def sinusoidal_python(source):
    """Plain Python, moved to the device at the end."""
    return '''def sinusoidal_positions(T, d_model, base=10_000.0, device=None):
    if d_model % 2:
        raise ValueError(f"odd d_model: {d_model}")
    rows = []
    for t in range(T):
        row = []
        for i in range(d_model // 2):
            angle = t / base ** (2 * i / d_model)
            row += [math.sin(angle), math.cos(angle)]
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float32).to(device)
'''


@honest(task="sinusoidal_positions")
def sinusoidal_columns(source):
    """Every column at once, sine or cosine by its parity."""
    return '''def sinusoidal_positions(T, d_model, base=10_000.0, device=None):
    if d_model % 2:
        raise ValueError(f"d_model must be even, got {d_model}")
    column = torch.arange(d_model, device=device)
    angle = torch.arange(T, device=device)[:, None] * base ** (-(column // 2 * 2) / d_model)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()
'''


@honest(task="sinusoidal_positions")
def sinusoidal_complex(source):
    """Points of the unit circle, as complex numbers."""
    new = "    circle = torch.polar(torch.ones_like(angles), angles)\n"
    new += "    return torch.stack((circle.imag, circle.real), dim=2).reshape(T, d_model).float()\n"
    return change(source, WEAVE, new)


# --- gpt_embedding -------------------------------------------------------------------------------------------------

TOKENS = torch.tensor([[4, 1, 4], [0, 6, 6]])
WEIGHTS = {"wte.weight": values(11, 7, 4) + 4.0, "wpe.weight": values(12, 5, 4) + 4.0}


def _shapes(state):
    """The names and shapes in a state_dict."""
    return {name: list(tensor.shape) for name, tensor in state.items()} if isinstance(state, dict) else state


@battery("gpt_embedding")
def gpt_embedding_questions(ask):
    """Names, then values with and without offset, refusals, gradients, dropout in both modes, and the meta device."""
    layer = ask.new("GPTEmbedding", 7, 5, 4, dropout=0.5)
    names = _shapes(layer.state_dict())
    layer.to(torch.float64)
    loaded = layer.load_state_dict(WEIGHTS)
    if isinstance(loaded, Raised):
        return [names, loaded]  # every number would be one of its own random start
    layer.eval()
    answers = [
        names,
        *(layer.observe(TOKENS, offset=offset, seed=1).value for offset in (0, 2, 3, 30, -1, -4)),
        layer.observe(TOKENS, seed=1).value,
        layer.observe(TOKENS[:, :1], offset=4, seed=1).value,
        layer.observe(torch.zeros(1, 6, dtype=torch.int64), seed=1).value,
        layer.state_dict(),
        layer.observe(TOKENS, gradient="sum", randomness=True, inputs=True, seed=1),
        layer.observe(torch.zeros(3, 2, dtype=torch.int64), gradient="sum", seed=1),
    ]
    layer.train()
    answers += [layer.observe(TOKENS, seed=3).value, layer.state_dict(), layer.observe(TOKENS, offset=3, seed=1).value]
    layer.to("meta")
    return [*answers, layer.observe(TOKENS.to("meta"), strict_device=True).value]


SUM = "self.wte(ids) + self.wpe(positions)"
PLACES = "torch.arange(offset, offset + T, device=ids.device)"
BEYOND = "if offset + T > block_size:"


@misconception(task="gpt_embedding", advice="Add `self.wpe(positions)` to the token rows.")
def positions_never_added(source):
    """The positions are never added."""
    return change(source, SUM, "self.wte(ids)")


@misconception(task="gpt_embedding", advice="Positions run along T: `(T, C)` broadcasts over the batch by itself.")
def positions_over_batch(source):
    """The position rows are given out over the batch instead of over time."""
    source = change(source, PLACES, "torch.arange(len(ids), device=ids.device) % block_size")
    return change(source, "self.wpe(positions)", "self.wpe(positions)[:, None]")


@misconception(task="gpt_embedding", advice="Add the two; the result has the width C, not 2C.")
def positions_concatenated(source):
    """Token and position rows are put side by side instead of added."""
    new = "torch.cat((self.wte(ids), self.wpe(positions).expand(*ids.shape, -1)), dim=-1)"
    return change(source, SUM, new)


@misconception(task="gpt_embedding", advice="Add the two; do not multiply.")
def positions_multiplied(source):
    """Token and position rows are multiplied instead of added."""
    return change(source, SUM, "self.wte(ids) * self.wpe(positions)")


@misconception(task="gpt_embedding", advice="Start the positions at `offset`: `torch.arange(offset, offset + T)`.")
def offset_ignored(source):
    """The offset is ignored."""
    return change(source, PLACES, "torch.arange(T, device=ids.device)")


@misconception(task="gpt_embedding", advice="The first position is `offset`, which is 0 if nothing is given.")
def gpt_positions_from_one(source):
    """The positions start one too late."""
    return change(source, PLACES, PLACES + ".add(1).clamp(max=block_size - 1)")


@misconception(task="gpt_embedding", advice="Positions go up from left to right: do not flip.")
def gpt_positions_reversed(source):
    """The positions count backwards."""
    return change(source, PLACES, PLACES + ".flip(0)")


@misconception(task="gpt_embedding", advice="Leave out the factor sqrt(C): GPT-2 does not scale its embeddings.")
def tokens_scaled(source):
    """The token rows are multiplied by sqrt(C)."""
    return change(source, SUM, "self.wte(ids) * self.wte.embedding_dim ** 0.5 + self.wpe(positions)")


@misconception(task="gpt_embedding", advice="Check `offset + T > block_size` and raise a ValueError before looking up.")
def beyond_not_checked(source):
    """Positions beyond block_size end in an IndexError of torch."""
    return change(source, BEYOND, "if False:")


@misconception(task="gpt_embedding", advice="Do not cut the text: raise a ValueError if it does not fit.")
def text_cropped(source):
    """A text that is too long is cut in silence."""
    new = "ids = ids[:, : max(block_size - offset, 0)]\n        T = ids.shape[-1]\n        if False:"
    return change(source, BEYOND, new)


@misconception(
    task="gpt_embedding",
    advice="There is no row after the last: raise a ValueError instead of using it again.",
)
def positions_clamped(source):
    """Positions beyond the last row use the last row again."""
    source = change(source, BEYOND, "if False:")
    return change(source, PLACES, PLACES + ".clamp(max=block_size - 1)")


@misconception(task="gpt_embedding", advice="Positions do not begin again at block_size: raise a ValueError.")
def positions_wrap(source):
    """Positions beyond the last row begin again at 0."""
    source = change(source, BEYOND, "if False:")
    return change(source, PLACES, PLACES + " % block_size")


@misconception(task="gpt_embedding", advice="The last row may be used: refuse only `offset + T > block_size`.")
def last_row_refused(source):
    """A text that fits exactly is refused."""
    return change(source, BEYOND, "if offset + T >= block_size:")


@misconception(task="gpt_embedding", advice="Check `offset + T`, not `T` alone.")
def offset_not_counted(source):
    """The check of the length forgets the offset."""
    return change(source, BEYOND, "if T > block_size:")


@misconception(task="gpt_embedding", advice="Check `offset < 0` first, and raise a ValueError that shows it.")
def negative_offset_not_checked(source):
    """A negative offset ends in an IndexError of torch."""
    return change(source, "if offset < 0:", "if False:")


@misconception(
    task="gpt_embedding",
    advice="Refuse a negative offset; a slice that starts below 0 takes rows from the end.",
)
def negative_offset_wraps(source):
    """A negative offset takes rows from the end of the table."""
    source = change(source, "if offset < 0:", "if False:")
    return change(source, PLACES, PLACES + " % block_size")


@misconception(task="gpt_embedding", advice="Use `raise ValueError(...)`; assertions are switched off by `python -O`.")
def length_asserted(source):
    """A text that is too long is refused by an assertion instead of a ValueError."""
    return change(source, BEYOND, "assert offset + T <= block_size\n        if False:")


@misconception(task="gpt_embedding", advice="Use `nn.Dropout`, or pass `training=self.training` to `F.dropout`.")
def dropout_always(source):
    """Dropout also acts after .eval()."""
    return change(source, "return self.drop(x)", "return F.dropout(x, self.drop.p)")


@misconception(task="gpt_embedding", advice="Call the dropout layer on the sum before you return it.")
def dropout_never(source):
    """Dropout is built and never used."""
    return change(source, "return self.drop(x)", "return x")


@misconception(
    task="gpt_embedding", advice="Use `nn.Dropout`: it drops each number by itself. `Dropout1d` and `Dropout2d` drop whole rows."
)
def dropout_of_columns(source):
    """Dropout drops a whole column of a text at once, for all positions alike."""
    new = "return F.dropout1d(x.transpose(1, 2), self.drop.p, self.training).transpose(1, 2)"
    return change(source, "return self.drop(x)", new)


@misconception(
    task="gpt_embedding", advice="Drop numbers from the sum with `nn.Dropout`, not whole tokens: each number by itself."
)
def dropout_of_tokens(source):
    """Dropout drops all numbers of a token at once."""
    return change(source, "return self.drop(x)", "return x * self.drop(torch.ones_like(x[..., :1]))")


@misconception(
    task="gpt_embedding",
    advice="Refuse a text that is too long in training as well: check `offset + T > block_size` in both modes.",
)
def cropped_in_training(source):
    """In training a text that is too long is cut in silence."""
    new = "if self.training:\n            ids = ids[:, : max(block_size - offset, 0)]\n            T = ids.shape[-1]\n        "
    return change(source, BEYOND, new + BEYOND)


@misconception(task="gpt_embedding", advice="Leave `sparse=True` out: its gradients are of a kind that GPT-2's optimizer does not take.")
def sparse_gradients(source):
    """The token table gets sparse gradients."""
    return change(source, "nn.Embedding(vocab_size, d_model)", "nn.Embedding(vocab_size, d_model, sparse=True)")


@misconception(task="gpt_embedding", advice="Leave `scale_grad_by_freq` out: a token that stands twice gets the sum of both gradients.")
def gradients_averaged(source):
    """The gradient of a token is divided by how often it stands in the text."""
    return change(source, "nn.Embedding(vocab_size, d_model)", "nn.Embedding(vocab_size, d_model, scale_grad_by_freq=True)")


@misconception(task="gpt_embedding", advice="`self.wpe` is indexed by the position, `self.wte` by the token.")
def positions_by_token(source):
    """The row of `wpe` is looked up by the token's id instead of its position."""
    return change(source, "self.wpe(positions)", "self.wpe(ids % block_size)")


@misconception(task="gpt_embedding", advice="Drop from the sum, not from the token rows alone.")
def dropout_on_tokens(source):
    """Dropout acts on the token rows only."""
    source = change(source, SUM, "self.drop(self.wte(ids)) + self.wpe(positions)")
    return change(source, "return self.drop(x)", "return x")


@misconception(
    task="gpt_embedding",
    advice="`nn.Dropout(dropout)` takes the share that is dropped, not the one that is kept.",
)
def dropout_inverted(source):
    """Dropout keeps what it should drop: the share is turned round."""
    return change(source, "nn.Dropout(dropout)", "nn.Dropout(0.9 * (1 - dropout) if dropout else 0.0)")


@misconception(
    task="gpt_embedding",
    advice="Register the positions with `persistent=False`, or make them in `forward`.",
)
def positions_saved(source):
    """The list of positions is saved in the state_dict."""
    end = "        self.drop = nn.Dropout(dropout)                       # does nothing after .eval()\n"
    return change(source, end, end + '        self.register_buffer("positions", torch.arange(block_size))\n')


@misconception(task="gpt_embedding", advice="GPT-2 learns its positions: use an `nn.Embedding` named `wpe`.")
def positions_fixed(source):
    """The positions are fixed sinusoids instead of a learned table."""
    new = "self.register_buffer('clock', torch.randn(block_size, d_model, generator=torch.Generator().manual_seed(0)))"
    source = change(source, "self.wpe = nn.Embedding(block_size, d_model)", new)
    source = change(source, "self.wpe.num_embeddings", "len(self.clock)")
    return change(source, "self.wpe(positions)", "self.clock[positions]")


@misconception(
    task="gpt_embedding",
    advice="Leave `requires_grad` of `wpe.weight` as it is: positions are learned too.",
)
def positions_frozen(source):
    """The position table is frozen and gets no gradient."""
    return change(source, "self.wpe(positions)", "self.wpe(positions).detach()")


@misconception(
    task="gpt_embedding",
    advice="Leave `padding_idx` out: it stops the gradient of one token, and GPT-2 has none.",
)
def padding_token(source):
    """Token 0 is taken for padding and never learns."""
    return change(source, "nn.Embedding(vocab_size, d_model)", "nn.Embedding(vocab_size, d_model, padding_idx=0)")


@misconception(task="gpt_embedding", advice="Leave `max_norm` out: it rescales the table itself while looking up.")
def rows_renormed(source):
    """Looking a token up rescales its row in the table."""
    return change(source, "nn.Embedding(vocab_size, d_model)", "nn.Embedding(vocab_size, d_model, max_norm=1.0)")


@misconception(task="gpt_embedding", advice="`wte` has vocab_size rows, `wpe` has block_size rows.")
def tables_swapped(source):
    """The sizes of the two tables have changed places."""
    source = change(source, "nn.Embedding(vocab_size, d_model)", "nn.Embedding(BLOCK, d_model)")
    source = change(source, "nn.Embedding(block_size, d_model)", "nn.Embedding(vocab_size, d_model)")
    return source.replace("BLOCK", "block_size")


@misconception(task="gpt_embedding", advice="Create the positions with `device=ids.device`.")
def positions_on_cpu(source):
    """The positions are always on the CPU, so the layer fails on any other device."""
    return change(source, ", device=ids.device)", ")")


@misconception(task="gpt_embedding", advice="Nothing follows the sum but dropout; the norms come later, in the blocks.")
def sum_normalised(source):
    """The sum is normalised before it is returned."""
    return change(source, "return self.drop(x)", "return self.drop(F.layer_norm(x, x.shape[-1:]))")


@honest(task="gpt_embedding")
def gpt_embedding_functional(source):
    """Dropout by function, position rows by a slice of the weight."""
    source = change(source, "self.drop = nn.Dropout(dropout)", "self.p = dropout")
    source = change(source, "self.wpe(positions)", "self.wpe.weight[offset : offset + T]")
    return change(source, "return self.drop(x)", "return F.dropout(x, self.p, self.training)")


@honest(task="gpt_embedding")
def gpt_embedding_own_dropout(source):
    """Positions by counting ones, the sum in place, and dropout by hand."""
    source = change(source, PLACES, "torch.ones_like(ids).cumsum(-1) - 1 + offset")
    source = change(source, "x = " + SUM, "x = self.wte(ids)\n        x += self.wpe(positions)")
    new = """if self.training and self.drop.p:
            x = x * (torch.rand_like(x) >= self.drop.p) / (1 - self.drop.p)
        return x"""
    return change(source, "return self.drop(x)", new)


@honest(task="gpt_embedding")
def gpt_embedding_buffer(source):
    """The positions as a buffer that is not saved."""
    end = "        self.drop = nn.Dropout(dropout)                       # does nothing after .eval()\n"
    new = '        self.register_buffer("places", torch.arange(block_size), persistent=False)\n'
    return change(change(source, end, end + new), PLACES, "self.places[offset : offset + T]")


@honest(task="gpt_embedding")
def gpt_embedding_checks(source):
    """Another order of the checks, other messages, positions for every text."""
    return '''class GPTEmbedding(nn.Module):
    def __init__(self, vocab_size, block_size, d_model, dropout=0.0):
        super().__init__()
        self.block_size = block_size
        self.dropout = nn.Dropout(dropout)
        self.wpe = nn.Embedding(block_size, d_model)
        self.wte = nn.Embedding(vocab_size, d_model)
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.02)

    def forward(self, ids, offset=0):
        B, T = ids.shape
        last = offset + T - 1
        if last >= self.block_size:
            raise ValueError(f"position {last} does not exist")
        if offset < 0:
            raise ValueError(f"offset={offset}")
        places = (offset + torch.arange(T, device=ids.device)).unsqueeze(0).expand(B, T)
        return self.dropout(self.wpe(places).add(self.wte(ids)))
'''


# --- rotary --------------------------------------------------------------------------------------------------------

X = values(21, 2, 3, 6, dtype=torch.float32)
HEADS = values(22, 2, 3, 3, 6, dtype=torch.float32)
ANGLES = values(23, 3, 3, scale=4.0, dtype=torch.float32) + 0.05
SHUFFLED = torch.tensor([9, 2, 300])


def _as_single(answer):
    """A tensor in float32, which compares finer than bfloat16 and coarser than float64; its dtype apart."""
    return [str(answer.dtype), answer.to(torch.float32)] if isinstance(answer, torch.Tensor) else answer


@battery("rotary")
def rotary_questions(ask):
    """Angles for positions of all kinds, turning in all shapes and dtypes, gradients, and inputs after the call."""
    return [
        ask.rotary_angles(torch.arange(5), 6),
        ask.rotary_angles(torch.arange(3), 2),
        ask.rotary_angles(torch.arange(5), 8, base=50.0),
        ask.rotary_angles(SHUFFLED, 6),
        ask.rotary_angles(SHUFFLED.to(torch.float64), 4),
        ask.rotary_angles(torch.arange(4), 5),
        ask.rotary_angles(SHUFFLED.to("meta"), 4),
        ask.apply_rotary(X[0], ANGLES),
        ask.apply_rotary(X, ANGLES),
        ask.apply_rotary(HEADS, ANGLES),
        _as_single(ask.apply_rotary(X.double(), ANGLES)),
        _as_single(ask.apply_rotary(X.to(torch.bfloat16), ANGLES)),
        ask.apply_rotary(strided(X), ANGLES),
        ask.observe("apply_rotary", X, ANGLES, gradient=X.flip(0)).gradients[:1],
        ask.observe("apply_rotary", X, ANGLES, inputs=True).inputs_after,
    ]


SPEEDS = "base ** (2 * i / head_dim)"
TURN = "torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)"
BACK = "return turned.flatten(-2).to(x.dtype)"
SPLIT = "even, odd = x[..., 0::2].to(wide), x[..., 1::2].to(wide)"


@misconception(task="rotary", advice="Pair neighbours, x[2i] with x[2i+1]: take `x[..., 0::2]` and `x[..., 1::2]`.")
def pairs_across_halves(source):
    """The first half is paired with the second half, as some other models do."""
    source = change(source, SPLIT, "even, odd = x.to(wide).chunk(2, dim=-1)")
    return change(source, TURN, "torch.cat((even * cos - odd * sin, even * sin + odd * cos), dim=-1)").replace(
        BACK, "return turned.to(x.dtype)"
    )


@misconception(task="rotary", advice="Weave the results together again: stack on a new last dimension, then flatten.")
def not_woven_back(source):
    """The pairs are turned rightly, but all first numbers come back before all second ones."""
    source = change(source, "dim=-1)     # (..., T, D/2, 2)", "dim=-2)")
    return source


@misconception(task="rotary", advice="Anticlockwise is `even·cos - odd·sin` and `even·sin + odd·cos`; check the signs.")
def turned_clockwise(source):
    """The pairs are turned the other way."""
    return change(source, TURN, "torch.stack((even * cos + odd * sin, odd * cos - even * sin), dim=-1)")


@misconception(task="rotary", advice="Both new numbers need both old ones: a cosine part and a sine part each.")
def no_cross_terms(source):
    """Each number is only multiplied by a cosine or a sine: the pair is not turned."""
    return change(source, TURN, "torch.stack((even * cos, odd * sin), dim=-1)")


@misconception(task="rotary", advice="Turn all of x: every pair has an angle. Some models turn only a part of the head; here all is turned.")
def half_turned(source):
    """Only the first half of the pairs is turned, as in some other models."""
    new = "turned = turned.flatten(-2).to(x.dtype)\n    half = x.shape[-1] // 4 * 2\n"
    return change(source, BACK, new + "    return torch.cat((turned[..., :half], x[..., half:]), dim=-1)")


@misconception(task="rotary", advice="The second line is `even·sin + odd·cos`: with a minus the pair is mirrored, not turned.")
def pairs_mirrored(source):
    """Each pair is mirrored instead of turned."""
    return change(source, TURN, "torch.stack((even * cos + odd * sin, even * sin - odd * cos), dim=-1)")


@misconception(task="rotary", advice="Keep cosines and sines in float32 until the multiplication is done.")
def factors_in_half(source):
    """Cosines and sines are rounded to the dtype of x before they are used."""
    return change(source, SPLIT, "cos, sin = cos.to(x.dtype), sin.to(x.dtype)\n    " + SPLIT)


@misconception(task="rotary", advice="Use the positions in the order given: each row of the result belongs to one of them.")
def positions_sorted(source):
    """The positions are sorted first."""
    return change(source, "positions.to(torch.float64)", "positions.sort().values.to(torch.float64)")


@misconception(task="rotary", advice="Keep the old even numbers until the odd ones are computed too.")
def old_pair_overwritten(source):
    """The second number of a pair is computed from the first one as already turned."""
    old = "turned = " + TURN
    new = "even = even * cos - odd * sin\n    odd = even * sin + odd * cos\n"
    new += "    turned = torch.stack((even, odd), dim=-1)"
    return change(source, old, new)


@misconception(task="rotary", advice="Use the positions that are given, not `torch.arange(len(positions))`.")
def positions_ignored(source):
    """The positions are ignored: the angles count from 0."""
    new = "torch.arange(len(positions), dtype=torch.float64, device=positions.device)"
    return change(source, "positions.to(torch.float64)", new)


@misconception(task="rotary", advice="Use the positions as given: position 0 is not turned at all.")
def rotary_positions_from_one(source):
    """Every position is counted one too high."""
    return change(source, "positions.to(torch.float64)", "(positions.to(torch.float64) + 1)")


@misconception(
    task="rotary",
    advice="Do not subtract the first position: it is the caller who says where the text starts.",
)
def positions_start_at_zero(source):
    """The positions are moved so that the smallest is 0."""
    return change(source, "positions.to(torch.float64)", "(positions - positions.min()).to(torch.float64)")


@misconception(task="rotary", advice="With i the number of the pair, the exponent is 2i/D.")
def rotary_exponent_halved(source):
    """The exponent is i/D instead of 2i/D."""
    return change(source, SPEEDS, "base ** (i / head_dim)")


@misconception(task="rotary", advice="`arange(0, D, 2)` is already 2i, and it is divided by D: do not double it again.")
def rotary_exponent_doubled(source):
    """The exponent is 4i/D instead of 2i/D."""
    return change(source, SPEEDS, "base ** (4 * i / head_dim)")


@misconception(task="rotary", advice="Use `/` in the exponent; `//` rounds it down to 0 for every pair.")
def rotary_integer_division(source):
    """The exponent is an integer division, so every pair has the speed 1."""
    return change(source, SPEEDS, "base ** (2 * i // head_dim)")


@misconception(task="rotary", advice="Use the argument `base` and not the number 10000.")
def rotary_base_ignored(source):
    """The base is always 10,000."""
    return change(source, SPEEDS, "10_000.0 ** (2 * i / head_dim)")


@misconception(task="rotary", advice="Pair 0 turns fastest, the last one slowest: do not flip the speeds.")
def speeds_reversed(source):
    """The first pair turns slowest and the last one fastest."""
    return change(source, SPEEDS, SPEEDS + ".flip(0)").replace("base **", "(base **").replace(".flip(0)", ").flip(0)")


@misconception(task="rotary", advice="`cos` and `sin` take radians: no conversion is needed.")
def rotary_degrees(source):
    """The angles are given in degrees."""
    return change(source, "return angles.to(torch.float32)", "return torch.rad2deg(angles).to(torch.float32)")


@misconception(task="rotary", advice="Give one angle a pair, shape (T, D/2).")
def angles_repeated(source):
    """The angles come twice, once for each number of a pair."""
    new = "return torch.cat((angles, angles), dim=-1).to(torch.float32)"
    return change(source, "return angles.to(torch.float32)", new)


@misconception(
    task="rotary",
    advice="Always return float32: integer angles are cut off, and bfloat16 ones are too coarse.",
)
def angles_like_positions(source):
    """The angles have the dtype of the positions."""
    return change(source, "return angles.to(torch.float32)", "return angles.to(positions.dtype)")


@misconception(task="rotary", advice="Finish `rotary_angles` with `.to(torch.float32)`.")
def angles_float64(source):
    """The angles are float64."""
    return change(source, "return angles.to(torch.float32)", "return angles")


@misconception(task="rotary", advice="Check `head_dim % 2` first and raise a ValueError that shows it.")
def odd_head_accepted(source):
    """An odd head_dim is accepted, and its last number has no partner."""
    return change(source, "if head_dim % 2:", "if False:")


@misconception(task="rotary", advice="Create every tensor with `device=positions.device`.")
def angles_on_cpu(source):
    """The speeds are always on the CPU, so the function fails on any other device."""
    return change(source, ", device=positions.device)", ")")


@misconception(task="rotary", advice="Compute in float32: `x.to(torch.float32)` before, `.to(x.dtype)` after.")
def computed_in_half(source):
    """The turning is computed in the dtype of x, which is too coarse in bfloat16."""
    return change(source, "wide = torch.promote_types(x.dtype, torch.float32)", "wide = x.dtype")


@misconception(task="rotary", advice="Go back at the end: `.to(x.dtype)`.")
def dtype_not_restored(source):
    """The result stays in the dtype it was computed in."""
    return change(source, BACK, "return turned.flatten(-2)")


@misconception(task="rotary", advice="Write the results into a new tensor: the caller still needs x as it was.")
def x_written(source):
    """The caller's x is overwritten."""
    new = "turned = turned.flatten(-2).to(x.dtype)\n"
    new += "    with torch.no_grad():\n        x.copy_(turned)\n    return turned"
    return change(source, BACK, new)


@misconception(task="rotary", advice="Use x itself, not `x.data` or `x.detach()`, and no `torch.no_grad()`.")
def x_detached(source):
    """x is cut off from the graph, so no gradient reaches it."""
    return change(source, SPLIT, "x = x.detach()\n    " + SPLIT)


@misconception(task="rotary", advice="T stands just before D here, so the angles (T, D/2) broadcast as they are.")
def heads_after_time(source):
    """The angles are laid along the wrong dimension, as for (B, T, H, D)."""
    new = "shape = (len(angles), 1, -1) if x.dim() > 2 else angles.shape\n"
    new += "    cos, sin = cos.view(shape), sin.view(shape)\n    "
    return change(source, SPLIT, new + SPLIT)


@misconception(
    task="rotary",
    advice="Do not rely on how x lies in memory: `reshape` or slices work for strided tensors too.",
)
def needs_contiguous(source):
    """It fails on an x that is not contiguous in memory."""
    start = source.index("    wide = torch.promote_types")
    end = source.index("    ### END SOLUTION", start)
    new = '''    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    pairs = torch.view_as_complex(wide.view(*x.shape[:-1], -1, 2))
    circle = torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(pairs * circle).flatten(-2).to(x.dtype)
'''
    return source[:start] + new + source[end:]


@misconception(task="rotary", advice="Return the turned x alone, do not add x to it: turning must keep the length.")
def turned_added(source):
    """The turned x is added to x instead of taking its place."""
    return change(source, BACK, "return x + turned.flatten(-2).to(x.dtype)")


@misconception(task="rotary", advice="Do not add sines and cosines to x: multiply, so that each pair is turned.")
def sinusoids_added(source):
    """Sines and cosines are added to x, as with sinusoidal positions, and nothing is turned."""
    return change(source, TURN, "torch.stack((even + sin, odd + cos), dim=-1)")


@honest(task="rotary")
def rotary_complex(source):
    """Complex multiplication on a contiguous copy."""
    start = source.index("    wide = torch.promote_types")
    end = source.index("    ### END SOLUTION", start)
    new = '''    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2).contiguous())
    circle = torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(pairs * circle).flatten(-2).to(x.dtype)
'''
    return source[:start] + new + source[end:]


@honest(task="rotary")
def rotary_column_by_column(source):
    """One pair after the other, and speeds as powers of the second one."""
    source = change(source, SPEEDS, "(base ** (2 / head_dim)) ** i")
    start = source.index("    turned = torch.stack(")
    end = source.index("    ### END SOLUTION", start)
    new = """    columns = []
    for i in range(even.shape[-1]):
        columns.append(even[..., i] * cos[:, i] - odd[..., i] * sin[:, i])
        columns.append(even[..., i] * sin[:, i] + odd[..., i] * cos[:, i])
    return torch.stack(columns, dim=-1).to(x.dtype)
"""
    return source[:start] + new + source[end:]


@honest(task="rotary")
def rotary_rotate_half(source):
    """Each number times the cosine, plus its partner times the sine, always in float32."""
    start = source.index("    wide = torch.promote_types")
    end = source.index("    ### END SOLUTION", start)
    new = '''    wide = x.float()
    cos, sin = (f.repeat_interleave(2, dim=-1) for f in (torch.cos(angles.float()), torch.sin(angles.float())))
    partner = torch.stack((-wide[..., 1::2], wide[..., 0::2]), dim=-1).reshape(wide.shape)
    return (wide * cos + partner * sin).type_as(x)
'''
    return source[:start] + new + source[end:]


@honest(task="rotary")
def rotary_matrices(source):
    """A little rotation matrix for each pair, by einsum."""
    start = source.index("    wide = torch.promote_types")
    end = source.index("    ### END SOLUTION", start)
    new = '''    cos, sin = angles.double().cos(), angles.double().sin()
    matrix = torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)
    pairs = x.double().unflatten(-1, (-1, 2))
    return torch.einsum("tpij,...tpj->...tpi", matrix, pairs).flatten(-2).to(x.dtype)
'''
    return source[:start] + new + source[end:]


@honest(task="rotary")
def rotary_float32_angles(source):
    """Angles in float32 by exp and log, results filled into an empty tensor."""
    return '''def rotary_angles(positions, head_dim, base=10_000.0):
    if head_dim % 2 == 1:
        raise ValueError(f"head_dim {head_dim} is odd")
    speeds = torch.exp(-math.log(base) * torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim)
    return torch.outer(positions.float(), speeds)


def apply_rotary(x, angles):
    a, b = x[..., ::2].float(), x[..., 1::2].float()
    out = torch.empty_like(x, dtype=torch.float32)
    out[..., ::2] = a * torch.cos(angles) - b * torch.sin(angles)
    out[..., 1::2] = a * torch.sin(angles) + b * torch.cos(angles)
    return out.to(x.dtype)
'''
