# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3 · Embeddings: what a token is and where it stands
#
# A tokenizer gives a number for every token. But a number is only a name: token 17 is not "more" than token 16. And
# attention, as you will see in a moment, cannot tell *dog bites man* from *man bites dog*. Here you mend both. You
# will build
#
# 1. `embed`: a table with one row of numbers per token, and the way to look rows up,
# 2. `cosine_similarity_matrix`: which rows of a table point the same way,
# 3. `sinusoidal_positions`: positions as clocks of many speeds (the Transformer of 2017),
# 4. `GPTEmbedding`: learned positions (GPT-2),
# 5. `rotary_angles` and `apply_rotary`: positions as rotations (RoPE, in most models of today).
#
# **Where we are.** tokenizer → attention → **embeddings** → gpt → training. You need nothing from the earlier
# notebooks but the idea of attention: scores are dot products of queries and keys.
#
# **How it is graded.** Each task has a cell for your code and a cell of visible checks right after it. Run them as
# often as you like. When you hand in, hidden tests look at the same promises with other inputs: 90 points. One
# written question at the end is read by a person: 10 points. Using what a task calls *not allowed* costs the points
# of that task.
#
# **Five rules for every task.** Your function leaves its inputs as they were. A bad argument raises a `ValueError`
# whose message shows the bad value. The result has the dtype and the device of the inputs where the task says nothing
# else: the tests use float64 and bfloat16, tensors that lie in memory in another order, and the device `meta`, where
# a tensor has a shape but no numbers (so look at values only where a bad id has to be refused). Gradients arrive, and
# are never NaN, also where a row is zero. Nothing is random but dropout in training and the first weights.
#
# **Time.** About two and a half hours. No GPU, no network.
#
# Letters: `B` batch, `T` positions, `C` model width (`d_model`), `D` head width, `V` vocabulary. `...` stands for any
# number of leading dimensions, also none.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math
import re
from collections import Counter
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

# %% [markdown]
# ## 1. A table of vectors
#
# An *embedding table* has one row per token and `C` columns. To feed a text to a network, we copy out the row of each
# token. At first the rows are random; training moves them until tokens that are used alike have rows that lie near
# each other. That is all a model ever knows about what a token *is*.
#
# A tiny table, `V = 3` tokens and `C = 2` columns:
#
# | id | token | row |
# |---|---|---|
# | 0 | cat | `[1, 0]` |
# | 1 | sat | `[0, 2]` |
# | 2 | mat | `[3, 1]` |
#
# The text *mat cat mat* has the ids `[2, 0, 2]`, so `embed` gives `[[3, 1], [1, 0], [3, 1]]`.
#
# **The formula.** Write id 2 as a row of zeros with a single one, `[0, 0, 1]` ("one-hot"). Then
#
# $$ \text{embed}(\text{ids}) = \text{onehot}(\text{ids}) \; \text{table} $$
#
# because a row of zeros and a single one picks one row of the table. Nobody multiplies it out: GPT-2 has 50,257
# tokens, and for every number of the result that would be 50,257 products, all but one of them with zero. But it
# tells you what the *gradient* is: a row of the table gets the sum of the gradients of all the places where its token
# stood. *cat* stood once, *mat* twice, *sat* not at all.
#
# **A trap.** In Python, `table[-1]` is the last row. An id of `-1` is a mistake somewhere in the tokenizer, and
# silence would hide it.
#
# ### Task `embed`
# Difficulty 1/5 · about 10 minutes · 10 points
#
# *Not allowed:* `torch.nn.functional.embedding` and `nn.Embedding`, under any of their names. They are what you
# build.
#
# <details><summary>Hint 1: the idea</summary>
#
# PyTorch lets you index a tensor with a tensor of integers. What does `table[torch.tensor([2, 0])]` give?
#
# </details>
# <details><summary>Hint 2: the shape</summary>
#
# Indexing the first dimension of a `(V, C)` table by ids of shape `(B, T)` gives `(B, T, C)`: each id is replaced by
# its row. No loop is needed, whatever the number of leading dimensions.
#
# </details>
# <details><summary>Hint 3: the last resort</summary>
#
# Two steps. First find the bad ids: `outside = (ids < 0) | (ids >= V)`; if there are any, raise a `ValueError` that
# shows one of them, for example `ids[outside][0]`. Then index.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "embed", "locked": false, "schema_version": 3, "solution": true, "task": false}
def embed(ids, table):
    """Look up the row of the table that belongs to each id.

    Args:
        ids: integers of shape (..., T), each from 0 to V-1.
        table: shape (V, C), one row per token.

    Returns:
        Shape (..., T, C), with the dtype and the device of the table. Gradients reach the table.

    Raises:
        ValueError: an id is below 0 or above V-1; the message shows it.

    Source: Bengio et al. 2003, "A Neural Probabilistic Language Model".
    """
    ### BEGIN SOLUTION
    V = table.shape[0]
    ids = ids.long()                                          # (..., T), so that no small integer type gets in the way
    # A negative index would silently count from the end of the table, so look before indexing.
    outside = (ids < 0) | (ids >= V)                          # (..., T)
    if outside.any():
        raise ValueError(f"id {ids[outside][0].item()} is outside 0 … {V - 1}: the table has {V} rows")
    # Each id is replaced by a copy of its row; where an id repeats, its row's gradients add up.
    return table[ids]                                         # (..., T, C)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_embed", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_table = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
_rows = embed(torch.tensor([2, 0, 2]), _table)
assert isinstance(_rows, torch.Tensor), "embed must return a tensor"
assert _rows.shape == (3, 2), f"three ids and rows of width 2 give the shape (3, 2), not {tuple(_rows.shape)}"
assert _rows.tolist() == [[3, 1], [1, 0], [3, 1]], "mat cat mat must give the rows 2, 0 and 2 of the table"
assert embed(torch.tensor([[0, 1], [1, 2]]), _table).shape == (2, 2, 2), "ids of shape (B, T) must give (B, T, C)"
for _bad in (3, -1):
    try:
        embed(torch.tensor([0, _bad]), _table)
    except ValueError as _error:
        assert str(_bad) in str(_error), f"the message must show the bad id {_bad}; it says: {_error}"
    except IndexError:
        raise AssertionError(f"for the id {_bad} torch raised IndexError: look at the ids first, and raise a ValueError") from None
    else:
        raise AssertionError(f"the id {_bad} is not in a table of 3 rows: raise a ValueError")
print("embed: the visible checks pass.")

# %% [markdown]
# See the gradient arrive. The loss below is the sum of everything looked up, so each looked-up row gets a gradient of
# one per place.

# %% tags=["demo"]
_table = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]], requires_grad=True)
embed(torch.tensor([2, 0, 2]), _table).sum().backward()
for _word, _gradient in zip(["cat", "sat", "mat"], _table.grad.tolist()):
    print(f"{_word}: gradient {_gradient}")

# %% [markdown]
# ## 2. Which rows are alike?
#
# How alike are two rows `a` and `b`? Look at the angle between them and forget how long they are:
#
# $$ \cos(a, b) = \frac{a \cdot b}{|a|\,|b|} $$
#
# It is 1 when both point the same way, 0 when they stand at a right angle, and −1 when they point opposite ways.
# Length is left out because it often says only how *frequent* a token is.
#
# Four rows, with lengths 5, 10, 5 and 0:
#
# | row | length | divided by its length |
# |---|---|---|
# | `[3, 4]` | 5 | `[0.6, 0.8]` |
# | `[6, 8]` | 10 | `[0.6, 0.8]` |
# | `[-4, 3]` | 5 | `[-0.8, 0.6]` |
# | `[0, 0]` | 0 | cannot be done |
#
# Rows 0 and 1: `0.6·0.6 + 0.8·0.8 = 1`. Rows 0 and 2: `0.6·(−0.8) + 0.8·0.6 = 0`. The last row points nowhere. Our
# rule: a zero row is similar to nothing, not even to itself, so its row and its column of the result are 0 (and never
# NaN, which is what `0/0` gives).
#
# ### Task `cosine_similarity_matrix`
# Difficulty 2/5 · about 15 minutes · 10 points
#
# `F.normalize` is allowed. *Not allowed:* `F.cosine_similarity` and `nn.CosineSimilarity`, under any of their names.
#
# <details><summary>Hint 1: the idea</summary>
#
# Make every row one long first. After that a plain dot product is already the cosine.
#
# </details>
# <details><summary>Hint 2: the shape</summary>
#
# All pairs of dot products at once are one matrix product: `(V, C)` times `(C, V)` gives `(V, V)`. The lengths need
# the shape `(V, 1)` to divide row by row; `keepdim=True` keeps that 1.
#
# </details>
# <details><summary>Hint 3: the last resort</summary>
#
# Divide by the lengths after replacing a length of 0 by 1: a zero row divided by 1 stays zero, and so do its dot
# products. `F.normalize(table, dim=-1)` does much the same in one call.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "cosine_similarity_matrix", "locked": false, "schema_version": 3, "solution": true, "task": false}
def cosine_similarity_matrix(table):
    """Give the cosine of the angle between every two rows of a table.

    Args:
        table: shape (V, C), one row per token.

    Returns:
        Shape (V, V); place (i, j) compares row i with row j. A zero row is similar to nothing: 0, also with itself.

    Source: Salton et al. 1975, "A Vector Space Model for Automatic Indexing".
    """
    ### BEGIN SOLUTION
    lengths = torch.linalg.vector_norm(table, dim=-1, keepdim=True)      # (V, 1)
    # A zero row has no direction. Divided by 1 it stays zero, and so do all its dot products.
    unit = table / lengths.masked_fill(lengths == 0, 1.0)                # (V, C), rows of length 1 or 0
    # Between rows of length 1 the dot product is the cosine.
    return unit @ unit.T                                                 # (V, V)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_cosine_similarity_matrix", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_table = torch.tensor([[3.0, 4.0], [6.0, 8.0], [-4.0, 3.0], [0.0, 0.0]])
_alike = cosine_similarity_matrix(_table)
assert isinstance(_alike, torch.Tensor), "cosine_similarity_matrix must return a tensor"
assert _alike.shape == (4, 4), f"a table of 4 rows gives the shape (4, 4), not {tuple(_alike.shape)}"
assert not _alike.isnan().any(), "there is a NaN: what do you do with a row of length 0?"
assert abs(_alike[0, 1].item() - 1) < 1e-5, "[3, 4] and [6, 8] point the same way: 1. Did you divide by both lengths?"
assert abs(_alike[0, 2].item()) < 1e-5, "[3, 4] and [-4, 3] stand at a right angle: 0"
assert _alike[3].abs().max() < 1e-5, "a zero row is similar to nothing, not even to itself: 0"
print("cosine_similarity_matrix: the visible checks pass.")

# %% [markdown]
# ### A table that has learned something
#
# Let us train a table and look. The 400 commonest words of Shakespeare get a row of 16 numbers each. From its row
# alone each word must predict which words stand before it and after it. Nobody tells the table what a word means.
# Words that keep the same company can use the same row, so training pulls them together. It takes a few seconds.

# %% tags=["demo"]
from autograder.data import shakespeare

words = re.findall(r"[a-z']+", shakespeare().lower())
common = [word for word, _ in Counter(words).most_common(400)]
number = {word: i for i, word in enumerate(common)}
ids = torch.tensor([number.get(word, 400) for word in words])          # 400 stands for "any other word"
# after[i, j] counts how often word j follows word i.
after = torch.bincount(ids[:-1] * 401 + ids[1:], minlength=401 * 401).view(401, 401).float()
neighbours = torch.cat((after[:400], after.T[:400]), dim=1)            # (400, 802): after it, before it

torch.set_num_threads(1)                                               # so small a table is quickest on one core
_seeded = torch.Generator().manual_seed(0)
words_table = (0.1 * torch.randn(400, 16, generator=_seeded)).requires_grad_()
_readout = (0.1 * torch.randn(16, 802, generator=_seeded)).requires_grad_()
_bias = torch.zeros(802, requires_grad=True)
_optimizer = torch.optim.Adam([words_table, _readout, _bias], lr=0.05)
for _step in range(301):
    _scores = words_table @ _readout + _bias                           # (400, 802)
    _loss = 0.0
    for _half in (slice(0, 401), slice(401, 802)):                     # the word after, then the word before
        _counts, _log_p = neighbours[:, _half], _scores[:, _half].log_softmax(-1)
        _loss = _loss - (_counts * _log_p).sum() / _counts.sum()
    _optimizer.zero_grad()
    _loss.backward()
    _optimizer.step()
    if _step % 100 == 0:
        print(f"step {_step:3}: loss {_loss.item():.3f}")
words_table = words_table.detach()

# %% tags=["demo"]
_alike = cosine_similarity_matrix(words_table)                         # (400, 400)
for _word in ["my", "he", "good", "king", "death", "come", "two"]:
    _nearest = _alike[number[_word]].argsort(descending=True)[1:6].tolist()
    print(f"{_word:>6}: " + ", ".join(f"{common[j]} {_alike[number[_word], j]:.2f}" for j in _nearest))

_shown = "my thy his your our good sweet noble gentle fair king queen duke prince".split()
_shown += "heart eye hand head come go speak stay".split()
_places = torch.tensor([number[word] for word in _shown])
plt.figure(figsize=(7.4, 6.2))
plt.imshow(_alike[_places][:, _places], cmap="RdBu_r", vmin=-1, vmax=1)
plt.xticks(range(len(_shown)), _shown, rotation=90)
plt.yticks(range(len(_shown)), _shown)
plt.colorbar(label="cosine similarity")
plt.title("Words that keep the same company")
plt.tight_layout()
plt.show()

# %% [markdown]
# The blocks along the diagonal are *kinds of words*: possessives, adjectives, titles, parts of the body, verbs. The
# table found them from their neighbours alone. Notice what it did **not** find: opposites. *come* and *go*, *life*
# and *death* lie close together, because they stand in the same places.
#
# **And in a real GPT.** The folder `data/` holds a small GPT that has read the plays letter by letter (in the next
# notebook it writes). Its table has one row of 128 numbers for each of the 64 characters. Nobody told it what a
# vowel, a capital or a full stop is.

# %% tags=["demo"]
import json

from safetensors import safe_open

from autograder.data import checkpoint_path

with safe_open(checkpoint_path(), framework="pt") as _file:
    _characters = json.loads(_file.metadata()["characters"])               # the character with id i stands at place i
    _letters_table = _file.get_tensor("transformer.wte.weight").float()    # (64, 128)
_alike = cosine_similarity_matrix(_letters_table)                          # (64, 64)
for _character in "a;qM":
    _row = _alike[_characters.index(_character)]
    _nearest = _row.argsort(descending=True)[1:6].tolist()
    print(f"{_character!r}: " + ", ".join(f"{_characters[j]!r} {_row[j]:.2f}" for j in _nearest))

_shown = ".;,:?!aeioubcdfgmnprstABCDEFGIMNOPRSTU"
_places = torch.tensor([_characters.index(character) for character in _shown])
plt.figure(figsize=(7.4, 6.2))
plt.imshow(_alike[_places][:, _places], cmap="RdBu_r", vmin=-1, vmax=1)
plt.xticks(range(len(_shown)), _shown)
plt.yticks(range(len(_shown)), _shown)
plt.colorbar(label="cosine similarity")
plt.title("What a GPT has learned about characters")
plt.tight_layout()
plt.show()

# %% [markdown]
# The marks that end a phrase are the clearest block (`;` and `,`: 0.72). Vowels lie with vowels, capitals with
# capitals, and the short second diagonals are letters beside their own capitals.
#
# ## 3. Attention does not see order
#
# Now give each word of *dog bites man* its row and let attention mix them. Then do the same with *man bites dog*.
# Here is attention in three lines, with random weights for queries, keys and values.

# %%
_seeded = torch.Generator().manual_seed(3)
_three_words = {word: torch.randn(8, generator=_seeded) for word in ("dog", "bites", "man")}
_w_q, _w_k, _w_v = (torch.randn(8, 8, generator=_seeded) / math.sqrt(8) for _ in range(3))


def tiny_attention(x):
    q, k, v = x @ _w_q, x @ _w_k, x @ _w_v                             # (T, 8) each
    weights = (q @ k.T / math.sqrt(8)).softmax(dim=-1)                 # (T, T)
    return weights @ v                                                 # (T, 8)


def show_attention(sentence, positions=None):
    x = torch.stack([_three_words[word] for word in sentence.split()])   # (T, 8)
    if positions is not None:
        x = x + positions[: len(x)]
    print(sentence)
    for word, y in zip(sentence.split(), tiny_attention(x)):
        print(f"   {word:>5} -> " + " ".join(f"{value:5.2f}" for value in y[:5]) + "  …")


show_attention("dog bites man")
show_attention("man bites dog")

# %% [markdown]
# Find *dog* in both. The same numbers, to the last digit shown: who bites whom makes no difference. Shuffle the words
# and the outputs are shuffled in the same way, nothing more. The reason is in the formula: each output is a **sum**
# over all words, and a sum does not care about the order of its terms. (A GPT's causal mask lets a word sum only over
# itself and those before it. That tells a little about place, but the order of those before is lost in the same way:
# after one layer, the last word cannot tell *dog bites man* from *bites dog man*.)
#
# So position must be put in by hand. The simplest way: *add* to each word a vector that depends only on where it
# stands. Here with three random vectors, one for each place.

# %%
_places = torch.randn(3, 8, generator=torch.Generator().manual_seed(4))
show_attention("dog bites man", _places)
show_attention("man bites dog", _places)

# %% [markdown]
# Now *dog* at the front and *dog* at the back differ. The rest of this notebook is about which vectors to add, or
# what to do instead of adding.
#
# ## 4. Clocks of many speeds
#
# We want a vector for every position that never grows large, never repeats, and makes "three further on" look the
# same everywhere. A clock does that. One hand that turns fast tells neighbours apart but comes round again soon; a
# slow hand tells *early* from *late* but hardly moves from one word to the next. So use many hands, each slower than
# the one before. A hand at angle θ points to `(sin θ, cos θ)`: two numbers between −1 and 1.
#
# Pair `i` of the row for position `t`, for `i = 0 … C/2 − 1`:
#
# $$ P[t, 2i] = \sin\!\left(\frac{t}{\text{base}^{2i/C}}\right) \qquad P[t, 2i+1] = \cos\!\left(\frac{t}{\text{base}^{2i/C}}\right) $$
#
# Worked with `C = 4` and `base = 100`: the first hand has speed `1/100^0 = 1`, the second `1/100^(2/4) = 0.1`.
#
# | t | angles | sin | cos | sin | cos |
# |---|---|---|---|---|---|
# | 0 | 0, 0 | 0 | 1 | 0 | 1 |
# | 1 | 1, 0.1 | 0.8415 | 0.5403 | 0.0998 | 0.9950 |
# | 2 | 2, 0.2 | 0.9093 | −0.4161 | 0.1987 | 0.9801 |
#
# Sine and cosine of the same hand stand *next to each other*. Angles are in radians, as `torch.sin` wants them.
#
# ### Task `sinusoidal_positions`
# Difficulty 3/5 · about 30 minutes · 20 points
#
# The result is float32, on the given device. An odd `d_model` leaves a sine without its cosine: raise a `ValueError`
# that shows it.
#
# <details><summary>Hint 1: the idea</summary>
#
# First make the table of all angles: one row for each position, one column for each *hand*. There are `C/2` hands,
# not `C`.
#
# </details>
# <details><summary>Hint 2: the shape</summary>
#
# Positions as a column `(T, 1)` divided by a row of `C/2` numbers give `(T, C/2)`. To weave two such tables together,
# either fill the columns `[:, 0::2]` and `[:, 1::2]` of an empty `(T, C)`, or stack them on a new last dimension and
# flatten.
#
# </details>
# <details><summary>Hint 3: the last resort</summary>
#
# `i = torch.arange(d_model // 2, device=device)` counts the hands; the divisors are `base ** (2 * i / d_model)`, with
# `/` and not `//`. Pass `device` to everything you create. Computing in float64 and rounding at the end keeps large
# positions exact; float32 all along is fine too.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "sinusoidal_positions", "locked": false, "schema_version": 3, "solution": true, "task": false}
def sinusoidal_positions(T, d_model, base=10_000.0, device=None):
    """Give every position 0 … T-1 a row of sines and cosines of ever slower speeds.

    Args:
        T: number of positions.
        d_model: width C of a row, even.
        base: the divisors of the angles run from 1 towards this number.
        device: where the result lives; None means PyTorch's default.

    Returns:
        float32 of shape (T, C), with P[t, 2i] = sin(t / base^(2i/C)) and P[t, 2i+1] = cos(t / base^(2i/C)).

    Raises:
        ValueError: d_model is odd; the message shows it.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.5.
    """
    ### BEGIN SOLUTION
    if d_model % 2:
        raise ValueError(f"d_model must be even, for a sine and a cosine per pair (got {d_model})")
    # float64 until the end: around 100,000 an angle in float32 may be off by 0.004 already.
    t = torch.arange(T, dtype=torch.float64, device=device)                # (T,)
    i = torch.arange(d_model // 2, dtype=torch.float64, device=device)     # (C/2,), one number per hand
    angles = t[:, None] / base ** (2 * i / d_model)                        # (T, C/2)
    # Side by side on a new last dimension, then flattened: sin, cos, sin, cos, …
    pairs = torch.stack((angles.sin(), angles.cos()), dim=-1)              # (T, C/2, 2)
    return pairs.flatten(1).to(torch.float32)                              # (T, C)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_sinusoidal_positions", "locked": true, "points": 20, "schema_version": 3, "solution": false, "task": false}
_clock = sinusoidal_positions(3, 4, base=100.0)
assert isinstance(_clock, torch.Tensor), "sinusoidal_positions must return a tensor"
assert _clock.shape == (3, 4), f"T=3 and d_model=4 give the shape (3, 4), not {tuple(_clock.shape)}"
assert _clock.dtype == torch.float32, f"the result must be float32, not {_clock.dtype}"
assert torch.allclose(_clock[0], torch.tensor([0.0, 1.0, 0.0, 1.0])), "position 0 is 0 1 0 1: sin 0, cos 0, twice"
for _t, _row in ((1, [0.8415, 0.5403, 0.0998, 0.9950]), (2, [0.9093, -0.4161, 0.1987, 0.9801])):
    _row = torch.tensor(_row)
    assert torch.allclose(_clock[_t, :2], _row[:2], atol=1e-3), f"the first pair of position {_t} is sin {_t}, cos {_t}"
    assert torch.allclose(_clock[_t, 2:], _row[2:], atol=1e-3), "the second hand has speed 0.1: look at the exponent"
assert sinusoidal_positions(2, 6, device="meta").device.type == "meta", "the result must live on the device asked for"
try:
    sinusoidal_positions(3, 5)
except ValueError as _error:
    assert "5" in str(_error), f"the message must show the odd d_model, 5; it says: {_error}"
else:
    raise AssertionError("d_model=5 is odd: raise a ValueError")
print("sinusoidal_positions: the visible checks pass.")

# %% [markdown]
# Look at it. Left: the whole matrix, one row per position. The columns on the left flicker, those on the right hardly
# change over 100 positions. Right: three of its columns as curves.

# %% tags=["demo"]
_clock = sinusoidal_positions(100, 64)
_figure, (_left, _right) = plt.subplots(1, 2, figsize=(11, 4.2))
_image = _left.imshow(_clock, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
_left.set(xlabel="column", ylabel="position t", title="sinusoidal_positions(100, 64)")
_figure.colorbar(_image, ax=_left)
for _column in (0, 12, 28):
    _round = 2 * math.pi * 10_000 ** (_column / 64)
    _right.plot(_clock[:, _column], label=f"column {_column}: once round in {_round:,.0f} positions")
_right.set(xlabel="position t", title="Three hands", ylim=(-1.15, 1.7))
_right.legend(loc="upper right")
_figure.tight_layout()
plt.show()

# %% [markdown]
# Now the dot product of the rows of two positions `t` and `s`. Since `sin a sin b + cos a cos b = cos(a − b)`, pair
# `i` contributes `cos((t − s) · speed_i)`: **only the distance is left**. The picture shows it: start at position 20,
# 50 or 80, the three curves lie on each other.

# %% tags=["demo"]
_dots = _clock @ _clock.T                                                  # (100, 100)
_figure, (_left, _right) = plt.subplots(1, 2, figsize=(11, 4.2))
_image = _left.imshow(_dots, cmap="viridis")
_left.set(xlabel="position s", ylabel="position t", title="dot product of rows t and s")
_figure.colorbar(_image, ax=_left)
for _start, _style in ((20, "-"), (50, "--"), (80, ":")):
    _right.plot([s - _start for s in range(100)], _dots[_start], _style, linewidth=2.2, label=f"t = {_start}")
_right.set(xlabel="distance s − t", ylabel="dot product", title="The same curve from everywhere")
_right.legend()
_figure.tight_layout()
plt.show()

# %% [markdown]
# The peak is 32 = `C/2` at distance 0, because every pair has length 1. Near positions look alike, far ones less so.
#
# ## 5. Learned positions
#
# GPT-2 does without clocks. It has a second table, one row per *position*, and lets training find the rows:
#
# $$ x[b, t] = \text{wte}[\text{ids}[b, t]] + \text{wpe}[\text{offset} + t] $$
#
# `wte` is the table of **t**oken **e**mbeddings, `wpe` that of **p**osition **e**mbeddings. The position rows are the
# same for every text of the batch. The price: the table ends. It has `block_size` rows, and for the position after
# the last one there is simply no row. That must be an error and not a wrong answer.
#
# Why `offset`? When a model writes a text one token at a time, the newest token comes alone (`T = 1`), but it does
# not stand at position 0.
#
# With the tables below, ids `[1, 1]` and `offset=1`: the first token gets `wte[1] + wpe[1] = [10, 20] + [3, 3] = [13,
# 23]`, the second `wte[1] + wpe[2] = [10, 20] + [5, 5] = [15, 25]`. The same token twice, and two different vectors.
#
# | | row 0 | row 1 | row 2 |
# |---|---|---|---|
# | `wte` | `[0, 0]` | `[10, 20]` | |
# | `wpe` | `[1, 1]` | `[3, 3]` | `[5, 5]` |
#
# ### Task `gpt_embedding`
# Difficulty 2/5 · about 25 minutes · 20 points
#
# The names `wte` and `wpe` are GPT-2's own; the hidden tests load weights by these names. Nothing else may appear in
# the `state_dict`: what can be recomputed, such as the list of positions, is not a weight. Dropout (each number
# becomes 0 with probability `dropout`, the others are divided by `1 - dropout`) comes last, on the sum, and only in
# training: `nn.Dropout` does just that. `nn.Embedding` is of course allowed here.
#
# <details><summary>Hint 1: the idea</summary>
#
# Two `nn.Embedding` and one `nn.Dropout`. The forward pass looks up twice and adds.
#
# </details>
# <details><summary>Hint 2: the shape</summary>
#
# `wte(ids)` is `(B, T, C)`. The positions are one row of `T` integers, so `wpe(positions)` is `(T, C)`, and adding
# broadcasts it over the batch.
#
# </details>
# <details><summary>Hint 3: the last resort</summary>
#
# `torch.arange(offset, offset + T, device=ids.device)`. The last position used is `offset + T - 1`; it must be below
# `block_size`. Check `offset < 0` and `offset + T > block_size` before looking anything up.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "gpt_embedding", "locked": false, "schema_version": 3, "solution": true, "task": false}
class GPTEmbedding(nn.Module):
    """Token embedding plus learned position embedding, as in GPT-2.

    Args:
        vocab_size: number V of tokens.
        block_size: number of positions there is a row for.
        d_model: width C of a row.
        dropout: share of the sum that is dropped, in training only.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2).
    """

    def __init__(self, vocab_size, block_size, d_model, dropout=0.0):
        super().__init__()
        ### BEGIN SOLUTION
        self.wte = nn.Embedding(vocab_size, d_model)          # what the token is
        self.wpe = nn.Embedding(block_size, d_model)          # where it stands
        self.drop = nn.Dropout(dropout)                       # does nothing after .eval()
        ### END SOLUTION

    def forward(self, ids, offset=0):
        """Embed ids that stand at the positions offset … offset+T-1.

        Args:
            ids: integers of shape (B, T).
            offset: position of the first id.

        Returns:
            Shape (B, T, C).

        Raises:
            ValueError: offset is negative, or a position is block_size or more; the message shows the offending value.
        """
        ### BEGIN SOLUTION
        T, block_size = ids.shape[-1], self.wpe.num_embeddings
        # Say what is wrong before any look-up: a table has no row below 0 and none after its last.
        if offset < 0:
            raise ValueError(f"offset must not be negative (got {offset})")
        if offset + T > block_size:
            raise ValueError(f"offset {offset} and {T} ids reach {offset + T} positions; block_size is {block_size}")
        # The same positions for every text of the batch, on the device of the ids.
        positions = torch.arange(offset, offset + T, device=ids.device)      # (T,)
        x = self.wte(ids) + self.wpe(positions)                              # (B, T, C) + (T, C)
        return self.drop(x)                                                  # (B, T, C)
        ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_gpt_embedding", "locked": true, "points": 20, "schema_version": 3, "solution": false, "task": false}
_layer = GPTEmbedding(vocab_size=2, block_size=3, d_model=2, dropout=0.5)
assert sorted(_layer.state_dict()) == ["wpe.weight", "wte.weight"], (
    f"the state_dict must hold wte.weight and wpe.weight and nothing else, not {sorted(_layer.state_dict())}")
assert _layer.wte.weight.shape == (2, 2) and _layer.wpe.weight.shape == (3, 2), "wte has V rows, wpe block_size rows"
_layer.load_state_dict({"wte.weight": torch.tensor([[0.0, 0.0], [10.0, 20.0]]),
                        "wpe.weight": torch.tensor([[1.0, 1.0], [3.0, 3.0], [5.0, 5.0]])})
_layer.eval()
assert _layer(torch.tensor([[0, 1], [1, 0]])).tolist() == [[[1, 1], [13, 23]], [[11, 21], [3, 3]]], (
    "without offset the first id of every text stands at position 0; each gets its token row plus its position row")
assert _layer(torch.tensor([[1, 1]]), offset=1).tolist() == [[[13, 23], [15, 25]]], (
    "offset=1 puts the first id at position 1")
for _ids, _offset, _why in (([[0, 1]], 2, "positions 2 and 3 with 3 rows"), ([[0]], -1, "a negative offset")):
    try:
        _layer(torch.tensor(_ids), offset=_offset)
    except ValueError as _error:
        assert re.search(r"\d", str(_error)), f"the message must show the offending value; it says: {_error}"
    except IndexError:
        raise AssertionError(f"{_why}: torch raised IndexError; check before you look up, and raise a ValueError") from None
    else:
        raise AssertionError(f"{_why}: raise a ValueError")
print("gpt_embedding: the visible checks pass.")

# %% [markdown]
# How much of a model is this? GPT-2 (small) has `V = 50,257`, `block_size = 1,024` and `C = 768`, and about 124
# million weights in all. And does `offset` do its work? One token at a time must give the same as all at once.

# %% tags=["demo"]
print(f"wte {50_257 * 768:>10,} weights\nwpe {1_024 * 768:>10,} weights")
torch.manual_seed(1)
_layer = GPTEmbedding(vocab_size=10, block_size=6, d_model=4).eval()
_ids = torch.tensor([[7, 7, 2, 7]])
_together = _layer(_ids)
_one_by_one = torch.cat([_layer(_ids[:, t : t + 1], offset=t) for t in range(4)], dim=1)
print("one token at a time gives the same:", torch.equal(_together, _one_by_one))
print("token 7 at positions 0, 1 and 3, first number:", [round(_together[0, t, 0].item(), 2) for t in (0, 1, 3)])

# %% [markdown]
# ## 6. Turning instead of adding
#
# Adding puts word and place into the same numbers, and the model must learn to keep them apart. RoPE (*rotary
# position embedding*) leaves the words alone. It comes in later, inside attention: just before queries and keys meet
# in a dot product, each is **turned** by an angle that grows with its position. Values are not turned.
#
# Take a query and a key with just two numbers each: two arrows in the plane. Their dot product depends on their
# lengths and on the angle *between* them, on nothing else. Say the query points to 20° and the key to 50°, and each
# position turns by 30°:
#
# | query at | key at | query points to | key points to | between |
# |---|---|---|---|---|
# | 0 | 2 | 20° | 50° + 60° = 110° | 90° |
# | 3 | 5 | 20° + 90° = 110° | 50° + 150° = 200° | 90° |
# | 7 | 9 | 20° + 210° = 230° | 50° + 270° = 320° | 90° |
#
# Query at `m`, key at `n`: the angle between them is `30° + (n − m) · 30°`. Where they stand no longer matters,
# **only the distance remains**. And turning changes no length, so nothing gets louder or quieter.
#
# A head has `D` numbers, that is `D/2` arrows, each with its own speed, as the clocks had:
#
# $$ \theta[t, i] = \frac{t}{\text{base}^{2i/D}} $$
#
# and the pair `(x[2i], x[2i+1])` is turned anticlockwise by its angle:
#
# $$ y[2i] = x[2i]\cos\theta - x[2i{+}1]\sin\theta \qquad y[2i{+}1] = x[2i]\sin\theta + x[2i{+}1]\cos\theta $$
#
# Worked: `[3, 4]` turned by a quarter (θ = π/2, cos 0, sin 1) is `[3·0 − 4·1, 3·1 + 4·0] = [−4, 3]`.
#
# ### Task `rotary`
# Difficulty 4/5 · about 45 minutes · 30 points
#
# Two functions. `rotary_angles` takes the positions themselves, not just how many there are: a model that writes
# keeps the keys of the past and turns only the newest, so positions may start somewhere else than 0, and they may stand
# in any order. It always gives float32, also for integer positions: an angle in bfloat16 would be useless (above 256 it
# cannot even hold every whole number). For the same reason `apply_rotary` computes in float32 or wider, and only the
# finished result goes back to the dtype of `x`.
#
# <details><summary>Hint 1: the idea</summary>
#
# `rotary_angles` is the table of angles you already made for the clocks, with given positions in place of `0 … T-1`.
# `apply_rotary` splits `x` into the even and the odd places, computes two lines of formula, and weaves the results
# together again.
#
# </details>
# <details><summary>Hint 2: the shape</summary>
#
# `x[..., 0::2]` and `x[..., 1::2]` have the shape `(..., T, D/2)`, and `angles.cos()` has `(T, D/2)`: it broadcasts
# over everything in front. Weave with `torch.stack((a, b), dim=-1)`, shape `(..., T, D/2, 2)`, then `flatten(-2)`.
#
# </details>
# <details><summary>Hint 3: the last resort</summary>
#
# Compute both new halves from the *old* even and odd numbers: if you overwrite the even ones first, the odd ones come
# out wrong (and the caller's `x` is changed). For the dtypes: `torch.promote_types(x.dtype, torch.float32)` is
# float32 for bfloat16 and float64 for float64; finish with `.to(x.dtype)`.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "rotary", "locked": false, "schema_version": 3, "solution": true, "task": false}
def rotary_angles(positions, head_dim, base=10_000.0):
    """Give the angle, in radians, by which each pair is turned at each position.

    Args:
        positions: shape (T,), any positions in any order.
        head_dim: head width D, even.
        base: the divisors of the angles run from 1 towards this number.

    Returns:
        float32 of shape (T, D/2), on the device of the positions: angle[t, i] = positions[t] / base^(2i/D).

    Raises:
        ValueError: head_dim is odd; the message shows it.

    Source: Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
    """
    ### BEGIN SOLUTION
    if head_dim % 2:
        raise ValueError(f"head_dim must be even, since pairs are turned (got {head_dim})")
    # The speeds of the clocks again; float64 inside, one rounding at the end.
    i = torch.arange(head_dim // 2, dtype=torch.float64, device=positions.device)      # (D/2,)
    angles = positions.to(torch.float64)[:, None] / base ** (2 * i / head_dim)         # (T, D/2)
    return angles.to(torch.float32)
    ### END SOLUTION


def apply_rotary(x, angles):
    """Turn each pair (x[2i], x[2i+1]) anticlockwise by its angle.

    Args:
        x: queries or keys, shape (..., T, D).
        angles: shape (T, D/2), as rotary_angles gives them.

    Returns:
        Shape (..., T, D), in the dtype of x; computed in float32 or wider.

    Source: Su et al. 2021, section 3.4.2.
    """
    ### BEGIN SOLUTION
    wide = torch.promote_types(x.dtype, torch.float32)                  # float32, or float64 if x has it
    cos, sin = angles.to(wide).cos(), angles.to(wide).sin()             # (T, D/2) each
    even, odd = x[..., 0::2].to(wide), x[..., 1::2].to(wide)            # (..., T, D/2) each
    # Both new numbers come from the old pair; nothing is written into x.
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)     # (..., T, D/2, 2)
    return turned.flatten(-2).to(x.dtype)                               # (..., T, D)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_rotary", "locked": true, "points": 30, "schema_version": 3, "solution": false, "task": false}
_angles = rotary_angles(torch.tensor([0, 1, 3]), 4, base=100.0)
assert isinstance(_angles, torch.Tensor), "rotary_angles must return a tensor"
assert _angles.shape == (3, 2), f"three positions and head_dim=4 give the shape (3, 2), not {tuple(_angles.shape)}"
assert _angles.dtype == torch.float32, f"the angles must be float32, not {_angles.dtype}"
assert torch.allclose(_angles, torch.tensor([[0.0, 0.0], [1.0, 0.1], [3.0, 0.3]]), atol=1e-4), (
    "with base 100 the speeds are 1 and 0.1, and the third position is 3")
try:
    rotary_angles(torch.tensor([0]), 7)
except ValueError as _error:
    assert "7" in str(_error), f"the message must show the odd head_dim, 7; it says: {_error}"
else:
    raise AssertionError("head_dim=7 is odd: raise a ValueError")

_x = torch.tensor([[3.0, 4.0, 1.0, 2.0]])
_turned = apply_rotary(_x, torch.tensor([[math.pi / 2, math.pi]]))
assert _turned.shape == (1, 4), f"apply_rotary keeps the shape: (1, 4), not {tuple(_turned.shape)}"
assert torch.allclose(_turned[0, :2], torch.tensor([-4.0, 3.0]), atol=1e-4), (
    "[3, 4] turned by a quarter is [-4, 3]: neighbours form a pair, and the turn is anticlockwise")
assert torch.allclose(_turned[0, 2:], torch.tensor([-1.0, -2.0]), atol=1e-4), "[1, 2] turned by a half is [-1, -2]"
assert _x.tolist() == [[3, 4, 1, 2]], "apply_rotary must leave x as it was"
assert apply_rotary(_x.bfloat16(), torch.zeros(1, 2)).dtype == torch.bfloat16, "the result has the dtype of x"
print("rotary: the visible checks pass.")

# %% [markdown]
# **Pairs turning.** One query with `D = 6`, the same at each of the positions 0 … 7: three arrows, three speeds.

# %% tags=["demo"]
_query = torch.tensor([1.0, 0.4]).repeat(3).expand(8, 6)                       # (8, 6)
_arrows = apply_rotary(_query, rotary_angles(torch.arange(8), 6, base=20.0))   # (8, 6)
_figure, _panels = plt.subplots(1, 3, figsize=(11, 4))
for _i, _panel in enumerate(_panels):
    for _t in range(8):
        _tip = _arrows[_t, 2 * _i : 2 * _i + 2].tolist()
        _arrow = {"arrowstyle": "-|>", "color": plt.cm.viridis(_t / 8), "lw": 2}
        _panel.annotate("", xy=_tip, xytext=(0, 0), arrowprops=_arrow)
        _panel.text(1.16 * _tip[0], 1.16 * _tip[1], str(_t), ha="center", va="center")
    _speed = 20 ** (-2 * _i / 6)
    _panel.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal", title=f"pair {_i}: {_speed:.3f} radians a position")
    _panel.axhline(0, color="lightgrey", zorder=0)
    _panel.axvline(0, color="lightgrey", zorder=0)
_figure.tight_layout()
plt.show()

# %% [markdown]
# **Only the distance remains.** The same word stands at 24 positions, and we draw all scores `q · k`. On the left its
# position is *added* (sinusoids) before the projections to queries and keys; on the right query and key are *turned*.
# On the right every diagonal has one colour: move both words along together and the score stays.

# %% tags=["demo"]
_seeded = torch.Generator().manual_seed(5)
_word = torch.randn(16, generator=_seeded)
_w_q, _w_k = (torch.randn(16, 16, generator=_seeded) / 4 for _ in range(2))
_added = _word + sinusoidal_positions(24, 16, base=100.0)                       # (24, 16)
_scores_added = (_added @ _w_q) @ (_added @ _w_k).T                             # (24, 24)
_angles = rotary_angles(torch.arange(24), 16, base=100.0)                       # (24, 8)
_q, _k = (apply_rotary((_word @ w).expand(24, 16), _angles) for w in (_w_q, _w_k))
_scores_turned = _q @ _k.T                                                      # (24, 24)

_figure, _panels = plt.subplots(1, 2, figsize=(10.5, 4.4))
_titles = ("positions added", "queries and keys turned (RoPE)")
for _panel, _scores, _title in zip(_panels, (_scores_added, _scores_turned), _titles):
    _image = _panel.imshow(_scores, cmap="viridis")
    _panel.set(xlabel="key position", ylabel="query position", title=_title)
    _figure.colorbar(_image, ax=_panel)
_figure.tight_layout()
plt.show()

_shift = rotary_angles(torch.arange(24) + 1000, 16, base=100.0)
_q, _k = (apply_rotary((_word @ w).expand(24, 16), _shift) for w in (_w_q, _w_k))
_later = _q @ _k.T                                                              # (24, 24)
print(f"moved by 1,000 positions, the scores change by at most {(_later - _scores_turned).abs().max():.6f}")

# %% [markdown]
# What is left of the change is rounding: at position 1,000 a float32 angle is only known to about 0.00003 radians.
#
# ## 7. A question to answer in words
#
# A model was trained on texts of at most 256 tokens. A friend wants to give it 1,000.
#
# 1. What happens at position 700 with learned positions, with sinusoids, and with RoPE? For each: can the vector or
#    angle be computed at all, and has the model ever seen it?
# 2. Explain in your own words, without a formula if you can, why a score under RoPE depends on the distance of the
#    two tokens only, and why *values* need not be turned.
#
# Six to ten sentences are enough. You may run experiments with your functions.

# %% [markdown] nbgrader={"grade": true, "grade_id": "written_embeddings", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
# **Learned positions.** The table has 256 rows, so for position 700 there is no row: it is an error. One could make
# the table longer, but the new rows would be untrained noise.
#
# **Sinusoids.** The row for position 700 can be computed, and its numbers are between −1 and 1 like all the others.
# But the model has never seen this combination of hands (the slow hands have never been turned so far), so nothing
# promises that it reads it well; in practice quality drops beyond the trained length.
#
# **RoPE.** The angles can be computed too. Scores of tokens that are less than 256 apart are of a kind the model
# knows, wherever they stand, because only the distance enters. Distances above 255 are new to it, so it helps to slow
# the turning down or to train a little on long texts; without that quality drops here as well.
#
# **Why only the distance.** Each pair of a query or a key is an arrow. Its position turns the arrow. A dot product
# looks at the lengths of two arrows and the angle between them. Turning keeps the lengths. If both words move on by
# the same number of places, both arrows turn by the same angle, and the angle between them stays. So the score can
# only depend on how much further one was turned than the other: on the distance.
#
# **Why not the values.** Position has to decide *who is attended to*, and that is the score, made from queries and
# keys. The values are what is then passed on. They are added up, not compared with each other, so no second turning
# would cancel the first, and the result would depend on the absolute position.
#
# *Marking guide:* 2 points for each of the three schemes (computable? seen in training?), 3 for the angle argument, 1
# for the values.

# %% [markdown]
# ## What you have now
#
# A token is a row of a table; rows that are used alike lie alike. Attention by itself sees a bag of words, so a
# position is added (sinusoids, learned rows) or turned in (RoPE). The next notebook, `gpt`, starts from the same two
# tables, puts blocks of attention on top of it, and ends with a model that writes.
