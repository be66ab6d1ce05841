# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 · Attention: from dot products to many heads
#
# *The cat drank milk because it was thirsty.* Who was thirsty? To understand *it*, you look back at *cat*.
# **Attention** is the part of a GPT that looks back: each word asks a question, the words answer, and the answers are
# mixed into one. Everything else in a GPT treats each word on its own. This is the only place where words meet.
#
# You will build it in eight steps, from two words and a pocket calculator to the layer that GPT-2 uses:
#
# | | task | what it adds | points | minutes |
# |---|---|---|---|---|
# | 1 | `simple_self_attention` | every word looks at every word | 5 | 10 |
# | 2 | `softmax` | scores become shares, safely | 10 | 20 |
# | 3 | `attention_weights` | questions, keys, a scale and a mask | 15 | 25 |
# | 4 | `scaled_dot_product_attention` | the values are mixed | 10 | 10 |
# | 5 | `causal_mask` | nobody sees the future | 10 | 15 |
# | 6 | `padding_mask` | nobody looks at filler | 5 | 10 |
# | 7 | `heads` | several conversations at once | 15 | 25 |
# | 8 | `causal_self_attention` | all of it, in one layer | 20 | 40 |
# | | a written question | | 10 | 15 |
#
# **Where this stands.** Five notebooks build a GPT: tokenizer → **attention** → embeddings → gpt → training. None
# needs your answers to an earlier one, so you may start here.
#
# **What you need.** Python, and a little PyTorch: what a tensor's shape is, what `@` and broadcasting do, and an idea of
# what a gradient is. No GPU and no network. We say *word*, because it is easier to read; a GPT works on *tokens*, which
# are words, pieces of words or single characters. For attention it makes no difference.
#
# **How it is graded.** Below each task a cell with *visible checks* tells you at once whether you are on the way.
# Hidden tests later try the same things on other shapes, other numbers and harder cases: 90 points automatic, and 10
# for the written question. A task counts by its parts, so half an answer is worth handing in; and a right answer on top
# of an earlier one that went wrong keeps its points. Using what a task calls *not allowed* costs the points of that
# task. In all, about three hours.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math
import re
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

torch.set_printoptions(precision=4, sci_mode=False)

# %% [markdown]
# ## Before you start
#
# **The letters.** The same ones stand for the same sizes everywhere in the course:
#
# | letter | meaning | letter | meaning |
# |---|---|---|---|
# | `B` | sequences in a batch | `C` | numbers that describe one word (*channels*, the model's width) |
# | `T` | words that ask (*queries*) | `D` | numbers in one question or key (the width of a *head*) |
# | `S` | words that are asked (*keys*) | `E` | numbers in one value |
# | `H` | heads | `...` | any dimensions in front, also none |
#
# **A mask** is a tensor of booleans, and `True` always means *may look*.
#
# **Five rules for everything you write here.**
#
# 1. Leave your inputs as they were. No `x += …`, no `masked_fill_`. Nothing is random but dropout in training and the
#    first weights of a layer.
# 2. Give back the data type and device you were given: `float64` stays `float64`, `bfloat16` stays `bfloat16`, a GPU
#    tensor stays on the GPU. The tests also use the device `meta`, where a tensor has a shape but no numbers: never
#    ask what the numbers are (no `.item()`, no `if x.any()`). Tensors may lie in memory in any order.
# 3. Take sizes from `x.shape`. Never write a size down as a number.
# 4. `...` means any number of dimensions in front: count axes from the back (`-1`, `-2`).
# 5. Gradients must flow through to every input, and stay finite (never NaN).
#
# The next cell holds two small helpers for the pictures. You need not read it.

# %% nbgrader={"grade": false, "grade_id": "drawing", "locked": true, "schema_version": 3, "solution": false, "task": false}
@contextmanager
def once_solved(task):
    """Run a demonstration; while its task is still a stub, say so in one line."""
    try:
        yield
    except NotImplementedError:
        plt.close("all")
        print(f"(This demonstration comes alive once `{task}` is solved.)")


def heatmap(weights, rows, columns=None, title="", axis=None):
    """Draw who looks at whom: one row a query, one column a key; dark is much, white is nothing."""
    weights = torch.as_tensor(weights).detach().float().cpu()
    columns = rows if columns is None else columns
    alone = axis is None
    if alone:
        _, axis = plt.subplots(figsize=(1.2 + 0.62 * len(columns), 1.2 + 0.5 * len(rows)), layout="constrained")
    axis.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
    axis.set_yticks(range(len(rows)), rows)
    axis.set_xlabel("is looked at (key)")
    axis.set_ylabel("looks (query)")
    axis.set_title(title)
    for row in range(len(rows)):
        for column in range(len(columns)):
            share = weights[row, column].item()
            if 0.005 <= share and len(columns) <= 12:
                axis.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=8,
                          color="white" if share > 0.6 else "black")
    if alone:
        plt.show()


# %% [markdown]
# ---
# ## 1 · `simple_self_attention`: every word looks at every word
#
# **Difficulty 1/5 · about 10 minutes · 5 points**
#
# A word on its own is a list of numbers that knows nothing of its neighbours. We want each word to take in something
# of the others: most from those that matter to it, little from the rest. The simplest measure of *matters* is the
# **dot product**: it is large when two lists of numbers point the same way. This first version has nothing to learn;
# it is the skeleton on which the other seven tasks put flesh.
#
# **A worked example.** Two words, two numbers each. The first number says *warm*, the second *is a drink*:
#
# | word | warm | drink |
# |---|---|---|
# | hot | 1 | 0 |
# | tea | 1 | 1 |
#
# 1. *Scores*: each word's dot product with each word. *tea · tea* = 1·1 + 1·1 = 2, the other three are 1.
# 2. *Weights*: in each row, `exp` of every score, divided by the row's sum (that is the **softmax**), so that a row
#    shares out exactly 1. For *tea*: exp(1) = 2.72 and exp(2) = 7.39, so 2.72 / 10.11 = 0.27 and 7.39 / 10.11 = 0.73.
# 3. *Mix*: each word becomes the weighted sum of all words.
#
# | looks | scores (hot, tea) | weights (hot, tea) | new word = weights × words |
# |---|---|---|---|
# | hot | 1, 1 | 0.50, 0.50 | 0.50·(1, 0) + 0.50·(1, 1) = **(1, 0.50)** |
# | tea | 1, 2 | 0.27, 0.73 | 0.27·(1, 0) + 0.73·(1, 1) = **(1, 0.73)** |
#
# *hot* had nothing of a drink in it; next to *tea* it has half. In symbols, for all words at once:
#
# $$w = \mathrm{softmax}(x\,x^\top)\ \text{by rows}, \qquad y_i = \sum_j w_{ij}\,x_j .$$
#
# Here you may use `torch.softmax`; you will build your own next.
#
# <details><summary>Hint 1: the idea</summary>
#
# Three lines, one for each step above: scores, weights, mix. The first and the last are matrix products (`@`).
#
# </details>
#
# <details><summary>Hint 2: the shapes</summary>
#
# `x` is `(..., T, C)`. The scores are `(..., T, T)`, so one factor must be `(..., C, T)`: swap the **last two** axes
# of `x`. (`x.T` turns *all* axes around, which is something else as soon as there is a batch.)
#
# </details>
#
# <details><summary>Hint 3: last resort</summary>
#
# `x.transpose(-2, -1)` swaps the last two axes. Row `i` of the scores belongs to the word that looks, so the softmax
# runs along each row, over the last axis: `dim=-1`.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "simple_self_attention", "locked": false, "schema_version": 3, "solution": true, "task": false}
def simple_self_attention(x):
    """Mix every word with every word, weighted by the softmax of their dot products.

    There is no scale and nothing to learn.

    Args:
        x: the words, `(..., T, C)`.

    Returns:
        The mixed words, `(..., T, C)`.

    Source: the plainest case of Vaswani et al. 2017, with the words themselves as queries, keys and values.
    """
    ### BEGIN SOLUTION
    # Every word's dot product with every word. Only the last two axes are swapped: a batch may stand in front.
    scores = x @ x.transpose(-2, -1)  # (..., T, T)

    # Row i says how word i shares out its attention: each row sums to one.
    weights = torch.softmax(scores, dim=-1)  # (..., T, T)

    # The weighted sum of the words.
    return weights @ x  # (..., T, C)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_simple_self_attention", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
hot_tea = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
mixed = simple_self_attention(hot_tea)
assert isinstance(mixed, torch.Tensor), f"Give back one tensor (got {type(mixed).__name__})."
assert mixed.shape == (2, 2), f"The result has the shape of the words, (2, 2) (got {tuple(mixed.shape)})."
assert torch.allclose(mixed[0], torch.tensor([1.0, 0.5]), atol=1e-3), (
    f"'hot' scores 1 with both words, so it becomes (1, 0.5) (got {mixed[0].tolist()}). "
    "Does the softmax run along the rows? Are the weights multiplied with the words?")
assert abs(mixed[1, 1] - 0.7311) < 1e-3, (
    f"'tea' becomes (1, 0.73) (got {mixed[1].tolist()}). "
    "If you have 0.67, you divide the scores by sqrt(2): there is no scale here.")

pair = torch.stack([hot_tea, hot_tea.flip(0)])  # a batch of two "sentences", (B, T, C)
both = simple_self_attention(pair)
assert both.shape == (2, 2, 2), "A batch must work too: count the axes from the back."
assert torch.allclose(both[1], mixed.flip(0)), (
    "Each sentence of a batch is treated by itself, and words in another order "
    "give the same results in that order.")
print("simple_self_attention: the visible checks pass.")

# %% [markdown]
# **Look.** Here is our sentence. Each word has five numbers, set by hand, that say what the word *is*. With no
# questions to ask, a word can only look for its own likes: *it* never finds the *cat*. That is what task 3 will mend.

# %% tags=["demo"]
words = ["the", "cat", "drank", "milk", "because", "it", "was", "thirsty"]
# The five numbers: a small word? a being? a doing? a drink? a state?
what_it_is = torch.tensor([[2.0, 0.0, 0.0, 0.0, 0.0],  # the
                           [0.0, 2.0, 0.0, 0.0, 0.0],  # cat
                           [0.0, 0.0, 2.0, 0.5, 0.0],  # drank
                           [0.0, 0.0, 0.0, 2.0, 0.0],  # milk
                           [2.0, 0.0, 0.0, 0.0, 0.0],  # because
                           [1.5, 0.0, 0.0, 0.0, 0.0],  # it
                           [0.5, 0.0, 1.5, 0.0, 0.0],  # was
                           [0.0, 0.0, 0.0, 0.5, 2.0]])  # thirsty
with once_solved("simple_self_attention"):
    mixed = simple_self_attention(what_it_is)
    print("it, before:", what_it_is[5].numpy().round(1))
    print("it, after: ", mixed[5].numpy().round(1), "- hardly anything of a being in it")
    heatmap(torch.softmax(what_it_is @ what_it_is.T, dim=-1), words, title="Without questions, like looks at like")

# %% [markdown]
# ---
# ## 2 · `softmax`: scores become shares, safely
#
# **Difficulty 2/5 · about 20 minutes · 10 points**
#
# Attention scores can be any numbers. The softmax turns them into shares: none negative, together 1, the largest
# score gets the largest share. A textbook's softmax breaks on a computer: `exp(1000)` is `inf`, and `inf / inf` is
# NaN ("not a number"), which then spreads through the whole model. And we shall need one more thing: a score of
# `-inf` to mean *not at all*.
#
# $$\mathrm{softmax}(x)_i = \frac{e^{x_i}}{\sum_j e^{x_j}} = \frac{e^{x_i - m}}{\sum_j e^{x_j - m}} \qquad \text{for any } m$$
#
# Subtracting the same $m$ from every score changes nothing, because above and below the line it cancels. With $m =
# \max_j x_j$ the largest exponent is 0, so nothing can overflow.
#
# **A worked example.** Let the scores be 0 and ln 3. Then `exp` gives 1 and 3, their sum is 4, the shares are **¼ and
# ¾**.
#
# | scores | minus the maximum | exp | shares |
# |---|---|---|---|
# | 0, ln 3 | -ln 3, 0 | ⅓, 1 | ¼, ¾ |
# | 1000, 1000 + ln 3 | -ln 3, 0 | ⅓, 1 | ¼, ¾ (the textbook's way: NaN) |
# | 0, ln 3, -inf | -ln 3, 0, -inf | ⅓, 1, 0 | ¼, ¾, 0 |
# | -inf, -inf | ? | ? | 0, 0 (our rule: who may look at nothing takes in nothing) |
#
# The last row is the hard one: its maximum is `-inf`, and `-inf - (-inf)` is NaN. Mend it *before* the NaN is born.
# One that is painted over afterwards looks fine, but it comes back in the gradients.
#
# *Not allowed in this task:* torch's and `F`'s `softmax`, `log_softmax`, `softmin` and `logsumexp`, under any of
# their names (functions, tensor methods, modules).
#
# <details><summary>Hint 1: the idea</summary>
#
# Four steps: the maximum along `dim`; subtract it; `exp`; divide by the sum along `dim`. A slice of nothing but
# `-inf` needs care in two of them: what do you subtract, and what do you divide by?
#
# </details>
#
# <details><summary>Hint 2: the shapes</summary>
#
# The maximum and the sum must keep the axis they run along, with size 1, so that they line up with `x` again:
# `keepdim=True`.
#
# </details>
#
# <details><summary>Hint 3: last resort</summary>
#
# `x.amax(dim=dim, keepdim=True)`. Where that maximum is `-inf`, subtract 0 instead: every `exp(-inf - 0)` is then a
# clean 0. Where the sum is 0, divide by 1 instead. `tensor.masked_fill(condition, value)` makes a changed copy.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "softmax", "locked": false, "schema_version": 3, "solution": true, "task": false}
def softmax(x, dim=-1):
    """Turn scores into shares that sum to one along `dim`.

    Stable for any finite input. An entry of `-inf` gets exactly 0; a slice of nothing but `-inf` gives zeros.

    Args:
        x: scores of any shape.
        dim: the axis along which the shares sum to one.

    Returns:
        The shares, in the shape of `x`.
    """
    ### BEGIN SOLUTION
    # Subtracting the maximum changes no share, and keeps exp from overflowing.
    biggest = x.amax(dim=dim, keepdim=True)

    # Where all is -inf, subtract 0 instead: -inf - (-inf) would be NaN, in the gradients too.
    biggest = biggest.masked_fill(biggest == -math.inf, 0.0)
    powers = torch.exp(x - biggest)  # each between 0 and 1; exp(-inf) is exactly 0

    # Such a slice sums to 0; dividing it by 1 leaves its zeros as they are.
    total = powers.sum(dim=dim, keepdim=True)
    return powers / total.masked_fill(total == 0, 1.0)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_softmax", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
quarter = torch.tensor([0.25, 0.75])
scores = torch.tensor([0.0, math.log(3)])
shares = softmax(scores)
assert isinstance(shares, torch.Tensor) and shares.shape == (2,), "Two scores give a tensor of two shares."
assert torch.allclose(shares, quarter), f"softmax(0, ln 3) is (0.25, 0.75) (got {shares.tolist()})."
assert torch.equal(scores, torch.tensor([0.0, math.log(3)])), (
    "The scores themselves were changed on the way: write x - m, not x -= m.")

shares = softmax(scores + 1000)
assert not shares.isnan().any(), (
    "softmax(1000, 1000 + ln 3) is NaN: exp overflows. Subtract the maximum first.")
assert torch.allclose(shares, quarter, atol=1e-3), (
    f"Adding 1000 to every score changes no share (got {shares.tolist()}).")

table = torch.tensor([[0.0, 5.0], [math.log(3), 5.0]])
assert torch.allclose(softmax(table, dim=0), torch.tensor([[0.25, 0.5], [0.75, 0.5]])), (
    "With dim=0 each column sums to one. Do the maximum and the sum both use `dim`, and keep the axis?")

shares = softmax(torch.tensor([0.0, math.log(3), -math.inf]))
assert torch.allclose(shares, torch.tensor([0.25, 0.75, 0.0])), (
    f"A score of -inf gets the share 0, the others are as before (got {shares.tolist()}).")

nothing = torch.full((3,), -math.inf, requires_grad=True)
shares = softmax(nothing)
assert not shares.isnan().any(), "A slice of nothing but -inf gives NaN: what do you subtract there?"
assert torch.equal(shares, torch.zeros(3)), (
    f"A slice of nothing but -inf gives zeros (got {shares.tolist()}).")
(gradient,) = torch.autograd.grad(shares.sum(), nothing)
assert not gradient.isnan().any(), (
    "The zeros are right, but their gradient is NaN: keep the NaN from arising, do not replace it afterwards.")
print("softmax: the visible checks pass.")

# %% [markdown]
# **Look.** The same four scores, multiplied by a factor. Small scores share out evenly; large ones give nearly all to
# the winner. Where one score takes everything, the others get no gradient, and nothing can be learned. Keep this
# picture in mind for the next task.

# %% tags=["demo"]
with once_solved("softmax"):
    four = torch.tensor([1.0, 2.0, 3.0, 2.5])
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.4), sharey=True, layout="constrained")
    for factor, axis in zip([0, 0.5, 2, 20], axes, strict=True):
        axis.bar(range(4), softmax(factor * four), color="steelblue")
        axis.set_title(f"softmax({factor} · scores)")
        axis.set_xticks(range(4), [f"{score:.1f}" for score in four.tolist()])
        axis.set_xlabel("score")
    axes[0].set_ylabel("share")
    axes[0].set_ylim(0, 1)
    plt.show()

# %% [markdown]
# ---
# ## 3 · `attention_weights`: questions, keys, a scale and a mask
#
# **Difficulty 3/5 · about 25 minutes · 15 points**
#
# In task 1 a word could only look for its likes. Now each word gets two lists of numbers: a **query**, what it looks
# for, and a **key**, what it offers to be found by. *it* may ask "where is a living being?", and *cat* may answer.
# Who looks and who is looked at need not even be the same words: `T` queries meet `S` keys. Two things come with it:
#
# * **The scale.** A dot product of `D` random numbers grows like $\sqrt{D}$, and large scores make the softmax give
#   all to one. Dividing by $\sqrt{D}$ keeps it soft.
# * **The mask.** `mask[t, s]` says whether query `t` may look at key `s`. Where it may not, the score becomes `-inf`
#   *before* the softmax, so its share is exactly 0 and the other shares still sum to 1. A query that may look at
#   nothing gets a row of zeros.
#
# $$\mathrm{weights} = \mathrm{softmax}\!\left(\mathrm{mask}\!\left(\frac{q\,k^\top}{\sqrt{D}}\right)\right)$$
#
# **A worked example.** D = 4, so the scale is 2. One query (2, 0, 0, 0), three keys:
#
# | | key (1, 0, 0, 0) | key (0, 1, 0, 0) | key (2, 0, 0, 0) |
# |---|---|---|---|
# | dot product | 2 | 0 | 4 |
# | divided by 2 | 1 | 0 | 2 |
# | weights | 0.24 | 0.09 | 0.67 |
# | third key masked: scores | 1 | 0 | -inf |
# | weights | 0.73 | 0.27 | 0 |
#
# The mask need not have the full shape `(..., T, S)`; it only has to *broadcast* against it: `(S,)` hides the same
# keys from every query, `(T, 1)` hides everything from some queries, `(B, 1, S)` differs by sentence.
#
# <details><summary>Hint 1: the idea</summary>
#
# Task 1 with `q` and `k` in the place of the two `x`, a division, and one line for the mask between scores and
# softmax. Your own `softmax` already knows what `-inf` means, and what to do with a row that is all `-inf`.
#
# </details>
#
# <details><summary>Hint 2: the shapes</summary>
#
# `(..., T, D) @ (..., D, S) -> (..., T, S)`. `D` is the last size of `q`, whatever the other sizes are. Every query's
# shares sum to one over the keys: the last axis.
#
# </details>
#
# <details><summary>Hint 3: last resort</summary>
#
# `scores.masked_fill(~mask, -math.inf)`: `~` turns the mask around, because `masked_fill` fills where its condition
# is `True`, and ours says where looking is *allowed*. No underscore at the end: `masked_fill_` would change things in
# place.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "attention_weights", "locked": false, "schema_version": 3, "solution": true, "task": false}
def attention_weights(q, k, mask=None):
    """How much each query looks at each key.

    Args:
        q: the queries, `(..., T, D)`.
        k: the keys, `(..., S, D)`.
        mask: booleans that broadcast against `(..., T, S)`, `True` = may look; `None` = all may.

    Returns:
        The weights, `(..., T, S)`. Each row sums to one; a query that may look at nothing has a row of zeros.

    Source: Vaswani et al. 2017, section 3.2.1.
    """
    ### BEGIN SOLUTION
    # Each query's dot product with each key, scaled so that its size does not grow with D.
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (..., T, S)

    # What may not be looked at scores -inf, before the softmax: its share is then exactly 0.
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)

    # Shares over the keys. Our softmax gives zeros where a whole row is -inf.
    return softmax(scores, dim=-1)  # (..., T, S)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_attention_weights", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
query = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
keys = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]])
weights = attention_weights(query, keys)
assert weights.shape == (1, 3), (
    f"One query and three keys give weights of shape (1, 3) (got {tuple(weights.shape)}).")
assert abs(weights.sum() - 1) < 1e-4, (
    f"The row sums to {weights.sum():.4f} instead of 1. The softmax comes last, over the keys (the last axis).")
assert torch.allclose(weights, torch.tensor([[0.2447, 0.0900, 0.6652]]), atol=1e-3), (
    "The weights of the worked example are 0.24, 0.09, 0.67 "
    f"(got {[round(w, 2) for w in weights[0].tolist()]}). "
    "0.12, 0.02, 0.87: no scale. 0.31, 0.19, 0.51: divided by D. Almost 0, 0, 1: multiplied.")

weights = attention_weights(query, keys, torch.tensor([[True, True, False]]))
assert weights[0, 2] == 0, (
    f"The masked key still has the weight {weights[0, 2]:.4f}. True means: may look. "
    "Is the mask turned around, or too weak?")
assert torch.allclose(weights, torch.tensor([[0.7311, 0.2689, 0.0]]), atol=1e-3), (
    "With the third key masked the weights are 0.73, 0.27, 0 "
    f"(got {[round(w, 2) for w in weights[0].tolist()]}). "
    "If they do not sum to 1, you mask after the softmax: mask the scores before it.")

weights = attention_weights(query, keys, torch.tensor([False, False, False]))
assert not weights.isnan().any(), "A query that may look at nothing gives NaN; it should give zeros."
assert torch.equal(weights, torch.zeros(1, 3)), (
    "A query that may look at nothing gets a row of zeros "
    f"(got {[round(w, 2) for w in weights[0].tolist()]}). "
    "Equal shares come from a large negative number in place of -inf.")
print("attention_weights: the visible checks pass.")

# %% [markdown]
# **Look: questions help.** The keys stay what they were. The queries, again set by hand, now say what each word
# *looks for*. *it* asks for a being and finds the *cat*; *drank* asks who (a being) and what (a drink). Later the
# model will find such questions by itself, from data.

# %% tags=["demo"]
# The five numbers: wants a small word? a being? a doing? a drink? a state?
what_it_seeks = torch.tensor([[0.0, 3.0, 0.0, 3.0, 0.0],  # the: which thing follows?
                              [0.0, 0.0, 5.0, 0.0, 0.0],  # cat: what does it do?
                              [0.0, 4.0, 0.0, 4.0, 0.0],  # drank: who, and what?
                              [0.0, 0.0, 6.0, 0.0, 0.0],  # milk: what happens to it?
                              [0.0, 0.0, 4.0, 0.0, 4.0],  # because: what, and why?
                              [0.0, 6.0, 0.0, 0.0, 0.0],  # it: which being?
                              [2.0, 3.0, 0.0, 0.0, 3.0],  # was: who was what?
                              [0.0, 5.0, 0.0, 3.0, 0.0]])  # thirsty: who, for what?
with once_solved("attention_weights"):
    heatmap(attention_weights(what_it_seeks, what_it_is), words, title="With questions, 'it' finds the cat")

# %% [markdown]
# **Look: why the scale.** Random queries meet 16 random keys. If attention were even, each key would get 1/16.
# Without the scale the winner takes nearly everything as soon as `D` is of the size that real models use (64 in
# GPT-2); with it, the width does not matter.

# %% tags=["demo"]
with once_solved("attention_weights"):
    widths, scaled, unscaled = [1, 4, 16, 64, 256], [], []
    random = torch.Generator().manual_seed(0)
    for width in widths:
        many_q = torch.randn(500, width, generator=random)
        many_k = torch.randn(16, width, generator=random)
        scaled.append(attention_weights(many_q, many_k).amax(-1).mean().item())
        # Queries that are sqrt(D) times as long undo the scale.
        unscaled.append(attention_weights(many_q * math.sqrt(width), many_k).amax(-1).mean().item())
    plt.figure(figsize=(5.5, 3), layout="constrained")
    plt.semilogx(widths, unscaled, "o-", color="firebrick", label="not scaled")
    plt.semilogx(widths, scaled, "o-", color="steelblue", label="divided by sqrt(D)")
    plt.axhline(1 / 16, color="grey", linestyle=":", label="even: 1/16")
    plt.xticks(widths, widths)
    plt.minorticks_off()
    plt.ylim(0, 1)
    plt.xlabel("width D of queries and keys")
    plt.ylabel("largest weight (mean)")
    plt.legend()
    plt.show()

# %% [markdown]
# ---
# ## 4 · `scaled_dot_product_attention`: the values are mixed
#
# **Difficulty 1/5 · about 10 minutes · 10 points**
#
# The weights say *whom* to look at. **Values** say what there is to see: each word gets a third list of numbers,
# which it hands over when it is looked at. So a word is found by its key, but hands over its value, as you find a
# book by its title and then read the pages. The result for a query is the weighted sum of the values. A query that
# may look at nothing takes in nothing: zeros.
#
# $$\mathrm{attention}(q, k, v) = \mathrm{softmax}\!\left(\frac{q\,k^\top}{\sqrt{D}}\right) v$$
#
# **A worked example**, with the weights of task 3:
#
# | | key 0 | key 1 | key 2 |
# |---|---|---|---|
# | weight | 0.24 | 0.09 | 0.67 |
# | value | (10, 0) | (0, 10) | (10, 10) |
#
# 0.24·(10, 0) + 0.09·(0, 10) + 0.67·(10, 10) = **(9.1, 7.6)**. If the third key is masked: 0.73·(10, 0) + 0.27·(0,
# 10) = **(7.3, 2.7)**.
#
# *Not allowed in this whole assignment:* PyTorch's ready-made attention, that is `F.scaled_dot_product_attention`,
# `nn.MultiheadAttention`, the `nn.Transformer…` family and `F.multi_head_attention_forward`, under any of their
# names.
#
# <details><summary>Hint 1: the idea</summary>
#
# You have the weights already. The third step of task 1 is all that is missing.
#
# </details>
#
# <details><summary>Hint 2: the shapes</summary>
#
# `(..., T, S)` and `(..., S, E)` give `(..., T, E)`. The values may be wider or narrower than the keys.
#
# </details>
#
# <details><summary>Hint 3: last resort</summary>
#
# Call `attention_weights` with all three of its arguments, the mask too, and multiply (`@`) the result with `v`. One
# line.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "scaled_dot_product_attention", "locked": false, "schema_version": 3, "solution": true, "task": false}
def scaled_dot_product_attention(q, k, v, mask=None):
    """Mix the values, each query by its own weights.

    Args:
        q: the queries, `(..., T, D)`.
        k: the keys, `(..., S, D)`.
        v: the values, `(..., S, E)`.
        mask: booleans that broadcast against `(..., T, S)`, `True` = may look; `None` = all may.

    Returns:
        The mixed values, `(..., T, E)`; zeros for a query that may look at nothing.

    Source: Vaswani et al. 2017, equation 1.
    """
    ### BEGIN SOLUTION
    # Whom to look at ...
    weights = attention_weights(q, k, mask)  # (..., T, S)

    # ... and what there is to see.
    return weights @ v  # (..., T, E)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_scaled_dot_product_attention", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
query = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
keys = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]])
values = torch.tensor([[10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
seen = scaled_dot_product_attention(query, keys, values)
assert isinstance(seen, torch.Tensor), (
    f"Give back the mixed values alone, one tensor (got {type(seen).__name__}).")
assert seen.shape == (1, 2), (
    f"One query and values of two numbers give (1, 2) (got {tuple(seen.shape)}). "
    "(1, 3) are the weights: the values are still to be mixed.")
assert torch.allclose(seen, torch.tensor([[9.0997, 7.5527]]), atol=1e-2), (
    f"The worked example gives (9.1, 7.6) (got {[round(s, 2) for s in seen[0].tolist()]}).")

seen = scaled_dot_product_attention(query, keys, values, torch.tensor([[True, True, False]]))
assert torch.allclose(seen, torch.tensor([[7.3106, 2.6894]]), atol=1e-2), (
    f"With the third key masked: (7.3, 2.7) (got {[round(s, 2) for s in seen[0].tolist()]}). "
    "Is the mask handed on, and not turned around?")
seen = scaled_dot_product_attention(query, keys, values, torch.tensor([[False, False, False]]))
assert torch.equal(seen, torch.zeros(1, 2)), (
    f"A query that may look at nothing takes in nothing: zeros (got {seen.tolist()}).")
print("scaled_dot_product_attention: the visible checks pass.")

# %% [markdown]
# **Look: a soft dictionary.** Three keys on a line, three values. A query that stands on a key gets about that key's
# value; one between two keys gets a blend. An ordinary dictionary has steps where this has a slope, and a slope is
# what gradients need. The longer the queries, the steeper it is.

# %% tags=["demo"]
with once_solved("scaled_dot_product_attention"):
    places = torch.tensor([-1.0, 0.0, 1.0])
    heights = torch.tensor([[2.0], [5.0], [3.0]])
    line = torch.linspace(-1.6, 1.6, 200)
    plt.figure(figsize=(5.5, 3), layout="constrained")
    for sharpness, colour in [(2, "lightsteelblue"), (6, "cornflowerblue"), (40, "navy")]:
        # q·k = x·p - p²/2 is largest where the place p is nearest to x.
        soft_q = torch.stack([line, torch.ones(200)], dim=-1) * sharpness * math.sqrt(2)
        soft_k = torch.stack([places, -places**2 / 2], dim=-1)
        found = scaled_dot_product_attention(soft_q, soft_k, heights)
        plt.plot(line, found, color=colour, label=f"queries times {sharpness}")
    plt.plot(places, heights, "o", color="firebrick", label="what is stored")
    plt.xlabel("query")
    plt.ylabel("what comes back")
    plt.legend(fontsize=8)
    plt.show()

# %% [markdown]
# ---
# ## 5 · `causal_mask`: nobody sees the future
#
# **Difficulty 2/5 · about 15 minutes · 10 points**
#
# A GPT learns to guess the next word. If a word could look at the words after it, the answer would lie open on the
# table: the *loss* (how wrong its guesses are) would drop beautifully and the model would have learned nothing. So
# query `t` may look at itself and at what came before. Later, when the model writes text word by word, the past is kept
# and only the newest words ask: then there are more keys than queries (`S > T`), and **the last query stands at the last
# key**.
#
# $$\mathrm{mask}[t, s] = \text{True} \quad\text{where}\quad s \le t + S - T$$
#
# **A worked example** (1 = may look):
#
# | T = 3, S = 3 | key 0 | key 1 | key 2 | | T = 2, S = 5 | key 0 | key 1 | key 2 | key 3 | key 4 |
# |---|---|---|---|---|---|---|---|---|---|---|
# | **query 0** | 1 | · | · | | **query 0** | 1 | 1 | 1 | 1 | · |
# | **query 1** | 1 | 1 | · | | **query 1** | 1 | 1 | 1 | 1 | 1 |
# | **query 2** | 1 | 1 | 1 | | | | | | | |
#
# On the right the first S - T = 3 keys are the past: both queries see them all. With fewer keys than queries (`S <
# T`) the same formula leaves the first queries with nothing to look at.
#
# <details><summary>Hint 1: the idea</summary>
#
# Either cut a triangle out of a table full of `True`, or compare a column of query numbers with a row of key numbers.
#
# </details>
#
# <details><summary>Hint 2: the shapes</summary>
#
# The result is `(T, S)`, one row a query, of dtype `torch.bool`. Whatever you create, create it on `device`.
#
# </details>
#
# <details><summary>Hint 3: last resort</summary>
#
# `tensor.tril(diagonal=d)` keeps entry `[t, s]` where `s <= t + d`, and empties the rest. Compare that with the
# formula, and read off `d`.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "causal_mask", "locked": false, "schema_version": 3, "solution": true, "task": false}
def causal_mask(T, S=None, device=None):
    """Which keys each query may look at if nobody sees the future.

    Args:
        T: how many queries.
        S: how many keys; `None` means as many as queries. With `S > T` the first `S - T` keys are the past.
        device: where the mask is made; `None` means PyTorch's default.

    Returns:
        Booleans `(T, S)`: query `t` may look at the keys `0` to `t + S - T`.
    """
    ### BEGIN SOLUTION
    # Without S, the queries and the keys are the same words.
    if S is None:
        S = T

    # Row t keeps the columns up to t + (S - T): the last query stands at the last key.
    everyone = torch.ones(T, S, dtype=torch.bool, device=device)
    return everyone.tril(diagonal=S - T)  # (T, S)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_causal_mask", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
mask = causal_mask(3)
assert mask.shape == (3, 3), f"causal_mask(3) has the shape (3, 3) (got {tuple(mask.shape)})."
assert mask.dtype == torch.bool, f"The mask holds booleans, torch.bool (got {mask.dtype})."
assert not mask[0, 1], (
    "Query 0 may look at key 1, which is its future. Is the triangle on the wrong side, or one step too wide?")
assert mask[0, 0] and mask[2, 2], (
    "Every query may look at itself: the diagonal is True. Is the triangle one step too narrow?")
assert mask.tolist() == [[True, False, False], [True, True, False], [True, True, True]], (
    f"causal_mask(3) is not the left one of the worked example (got {mask.int().tolist()}).")

mask = causal_mask(2, 5)
assert mask.shape == (2, 5), (
    f"causal_mask(2, 5) has a row for each query, a column for each key: (2, 5) (got {tuple(mask.shape)}).")
assert mask.tolist() == [[True, True, True, True, False], [True, True, True, True, True]], (
    "causal_mask(2, 5): the first three keys are the past, and the last query stands at the last key "
    f"(got {mask.int().tolist()}).")
assert causal_mask(3, device="meta").device.type == "meta", (
    "The mask must be made on the device that is asked for.")
print("causal_mask: the visible checks pass.")

# %% [markdown]
# **Look.** Left: our sentence with everybody looking everywhere. Right: the same queries and keys, but causal.
# *drank* can no longer see the *milk* that comes after it, so the *cat* gets nearly all its attention; *it* still
# finds the cat. And *the* can only look at itself, so its row is 1.

# %% tags=["demo"]
with once_solved("causal_mask"):
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
    heatmap(attention_weights(what_it_seeks, what_it_is), words, title="everybody looks everywhere", axis=axes[0])
    heatmap(attention_weights(what_it_seeks, what_it_is, causal_mask(len(words))), words, title="causal", axis=axes[1])
    plt.show()

# %% [markdown]
# ---
# ## 6 · `padding_mask`: nobody looks at filler
#
# **Difficulty 1/5 · about 10 minutes · 5 points**
#
# Sentences differ in length, but a batch is one rectangle of numbers, so short sentences are filled up at the end.
# The filler ("padding") means nothing and nobody must look at it. This mask says for each sentence which of its `T`
# positions are real. Its shape has two axes of size 1, so that it broadcasts against the scores of many heads, `(B,
# H, T, T)`: the same for every head and for every query.
#
# $$\mathrm{mask}[b, 0, 0, s] = \text{True} \quad\text{where}\quad s < \mathrm{lengths}[b]$$
#
# **A worked example**: two sentences of 3 and 1 words, in a rectangle with T = 4 (1 = real):
#
# | | position 0 | position 1 | position 2 | position 3 |
# |---|---|---|---|---|
# | *the cat drank*, length 3 | 1 | 1 | 1 | · |
# | *milk*, length 1 | 1 | · | · | · |
#
# <details><summary>Hint 1: the idea</summary>
#
# Compare the positions 0, 1, …, T - 1 with each length.
#
# </details>
#
# <details><summary>Hint 2: the shapes</summary>
#
# Positions `(T,)` against lengths `(B, 1)` give `(B, T)`. Two more axes of size 1 go between them.
#
# </details>
#
# <details><summary>Hint 3: last resort</summary>
#
# `torch.arange(T, device=lengths.device)` gives the positions, beside the lengths. `lengths[:, None, None, None]` has
# the shape `(B, 1, 1, 1)`.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "padding_mask", "locked": false, "schema_version": 3, "solution": true, "task": false}
def padding_mask(lengths, T):
    """Which positions of each sentence are real, and not filler at its end.

    Args:
        lengths: how many words each sentence has, integers `(B,)`.
        T: the width of the rectangle that the sentences are filled up to.

    Returns:
        Booleans `(B, 1, 1, T)`, `True` for real positions, on the device of `lengths`.
    """
    ### BEGIN SOLUTION
    # Compare every position with every length.
    positions = torch.arange(T, device=lengths.device)  # (T,)
    real = positions < lengths[:, None]  # (B, T)

    # One axis for the heads and one for the queries: it is the keys that are hidden.
    return real[:, None, None, :]  # (B, 1, 1, T)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_padding_mask", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
real = padding_mask(torch.tensor([3, 1]), 4)
assert real.shape == (2, 1, 1, 4), (
    f"Two sentences, filled up to 4: the shape is (2, 1, 1, 4) (got {tuple(real.shape)}).")
assert real.dtype == torch.bool, f"The mask holds booleans, torch.bool (got {real.dtype})."
assert real[0, 0, 0, 0], "Position 0 of the first sentence is real: True. Is the mask turned around?"
assert real[0, 0, 0].tolist() == [True, True, True, False], (
    f"A sentence of 3 words has the real positions 0, 1, 2, and not 3 (got {real[0, 0, 0].int().tolist()}).")
assert real[1, 0, 0].tolist() == [True, False, False, False], (
    f"Each sentence has its own length (got {real[1, 0, 0].int().tolist()}).")
print("padding_mask: the visible checks pass.")

# %% [markdown]
# **Look.** Both masks together are one `&`. Three sentences of 6, 4 and 2 words, filled up to 6: blue may be looked
# at. The filler's own rows still look at the real words. That does no harm: nobody reads what the filler takes in.

# %% tags=["demo"]
with once_solved("padding_mask"):
    both = causal_mask(6) & padding_mask(torch.tensor([6, 4, 2]), 6)  # (T, S) & (B, 1, 1, S) -> (B, 1, T, S)
    print("shape of both masks together:", tuple(both.shape))
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    for sentence, length, axis in zip(both[:, 0], [6, 4, 2], axes, strict=True):
        axis.pcolormesh(sentence.float(), cmap="Blues", vmin=0, vmax=1.6, edgecolors="lightgrey")
        axis.set_xticks([place + 0.5 for place in range(6)], range(6))
        axis.set_yticks([place + 0.5 for place in range(6)], range(6))
        axis.invert_yaxis()
        axis.set_title(f"{length} words")
        axis.set_xlabel("key")
        axis.set_ylabel("query")
    plt.show()

# %% [markdown]
# ---
# ## 7 · `heads`: several conversations at once
#
# **Difficulty 3/5 · about 25 minutes · 15 points**
#
# One attention map can say one thing for each word, but *drank* wants to know two: who drank, and what? So the `C`
# numbers of a word are cut into `H` parts of `D = C / H` numbers, the **heads**. Each head attends by itself, at no
# extra cost, and at the end the parts are laid side by side again. `split_heads` cuts, `merge_heads` joins. This is
# where most home-made transformers go wrong, because the wrong way has the right shape.
#
# $$\mathrm{split}(x)[b, h, t, d] = x[b, t, hD + d] \qquad\qquad (B, T, C) \leftrightarrow (B, H, T, D)$$
#
# **A worked example.** One sentence of two words, six numbers each, cut into two heads:
#
# | `x[0]` | head 0 | head 1 |
# |---|---|---|
# | word 0 | 0 1 2 | 3 4 5 |
# | word 1 | 10 11 12 | 13 14 15 |
#
# | | word 0 | word 1 |
# |---|---|---|
# | `split_heads(x, 2)[0, 0]` (head 0) | 0 1 2 | 10 11 12 |
# | `split_heads(x, 2)[0, 1]` (head 1) | 3 4 5 | 13 14 15 |
#
# The tempting short cut, one `view` to the final shape, gives head 0 the rows `0 1 2` and `3 4 5`: **both from word
# 0**. In a longer sentence a head's "later words" would then really be other parts of earlier words, and the causal
# mask would guard the wrong things.
#
# `split_heads` raises `ValueError` if `C` cannot be cut into `n_heads` equal parts; its message shows the numbers.
# Inputs may be non-contiguous (for example the result of a `transpose`).
#
# <details><summary>Hint 1: the idea</summary>
#
# Cutting and moving are two steps. First cut the last axis into two axes, heads and numbers. Then move the heads'
# axis forward. Merging does both backwards, in the other order.
#
# </details>
#
# <details><summary>Hint 2: the shapes</summary>
#
# `(B, T, C) -> (B, T, H, D) -> (B, H, T, D)`, and back: `(B, H, T, D) -> (B, T, H, D) -> (B, T, C)`.
#
# </details>
#
# <details><summary>Hint 3: last resort</summary>
#
# Cut with `x.reshape(B, T, n_heads, C // n_heads)`, move with `.transpose(1, 2)`. `reshape` copies where it must;
# `view` refuses on a tensor that has been transposed. Check `C % n_heads` first.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "heads", "locked": false, "schema_version": 3, "solution": true, "task": false}
def split_heads(x, n_heads):
    """Cut each word's numbers into heads.

    Args:
        x: the words, `(B, T, C)`.
        n_heads: how many heads, `H`.

    Returns:
        The heads, `(B, H, T, C / H)`: head `h` holds the numbers `hD` to `(h + 1)D - 1` of every word.

    Raises:
        ValueError: `C` is not divisible by `n_heads`; the message shows both.

    Source: Vaswani et al. 2017, section 3.2.2.
    """
    ### BEGIN SOLUTION
    # The parts must be equal.
    B, T, C = x.shape
    if C % n_heads != 0:
        raise ValueError(f"{C} channels cannot be cut into {n_heads} equal heads")

    # First cut the last axis, then move the heads in front of the words.
    x = x.reshape(B, T, n_heads, C // n_heads)  # (B, T, H, D)
    return x.transpose(1, 2)  # (B, H, T, D)
    ### END SOLUTION


def merge_heads(x):
    """Lay the heads of each word side by side again: the inverse of `split_heads`.

    Args:
        x: the heads, `(B, H, T, D)`.

    Returns:
        The words, `(B, T, H * D)`.
    """
    ### BEGIN SOLUTION
    # The same two steps backwards: the words in front again, then join the last two axes.
    B, H, T, D = x.shape
    return x.transpose(1, 2).reshape(B, T, H * D)  # (B, T, C)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_heads", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
two_words = torch.tensor([[[0, 1, 2, 3, 4, 5], [10, 11, 12, 13, 14, 15]]])  # (B, T, C) = (1, 2, 6)
split = split_heads(two_words, 2)
assert split.shape == (1, 2, 2, 3), f"(1, 2, 6) in two heads is (1, 2, 2, 3) (got {tuple(split.shape)})."
assert split[0, 0].tolist() != [[0, 1, 2], [3, 4, 5]], (
    "Head 0 holds both halves of word 0 and nothing of word 1: "
    "the axes were renamed, not moved. Cut first, then move.")
assert split[0, 0].tolist() != [[0, 2, 4], [10, 12, 14]], (
    "Head 0 got every second number: a head's numbers stand next to each other.")
assert split[0, 0].tolist() == [[0, 1, 2], [10, 11, 12]], (
    f"Head 0 holds the first three numbers of both words (got {split[0, 0].tolist()}).")
assert split[0, 1].tolist() == [[3, 4, 5], [13, 14, 15]], (
    f"Head 1 holds the last three numbers of both words (got {split[0, 1].tolist()}).")
three_heads = split_heads(two_words, 3)
assert three_heads.shape == (1, 3, 2, 2), (
    f"Three heads of two numbers: (1, 3, 2, 2) (got {tuple(three_heads.shape)}).")

worked = torch.tensor([[[[0, 1, 2], [10, 11, 12]], [[3, 4, 5], [13, 14, 15]]]])  # (B, H, T, D)
merged = merge_heads(worked)
assert merged.shape == (1, 2, 6), f"merge_heads gives (1, 2, 6) here (got {tuple(merged.shape)})."
assert torch.equal(merged, two_words), (
    f"merge_heads lays the heads of one word side by side (got {merged.tolist()}). "
    "Did you move the heads back before you joined them?")

try:
    split_heads(two_words, 4)
except ValueError as error:
    assert re.search("4|6", str(error)), f"The message should show the numbers: 6 and 4 (got: {error})."
else:
    raise AssertionError("Six numbers cannot be cut into four equal heads: raise ValueError.")
print("heads: the visible checks pass.")

# %% [markdown]
# **Look.** Four words with six numbers each, one colour a word, cut into two heads. On the right is what one `view`
# makes of it: the shape is the same, but each head holds only half of the words, and its "word 1" is really a piece
# of word 0.

# %% tags=["demo"]
with once_solved("heads"):
    owner = torch.arange(4)[None, :, None].expand(1, 4, 6).contiguous()  # every number says whose it is
    right, wrong = split_heads(owner, 2)[0], owner.view(1, 2, 4, 3)[0]
    panels = [(owner[0], "the words"), (right[0], "head 0"), (right[1], "head 1"),
              (wrong[0], "one view: head 0"), (wrong[1], "one view: head 1")]
    figure, axes = plt.subplots(1, 5, figsize=(11, 2.6), width_ratios=[6, 3, 3, 3, 3], layout="constrained")
    for (numbers, title), axis in zip(panels, axes, strict=True):
        axis.imshow(numbers, cmap="Set2", vmin=0, vmax=7)
        axis.set_title(title, color="firebrick" if "view" in title else "black", fontsize=10)
        axis.set_yticks(range(4), [f"word {t}" for t in range(4)])
        axis.set_xticks([])
        for t in range(4):
            for d in range(numbers.shape[1]):
                axis.text(d, t, int(numbers[t, d]), ha="center", va="center", fontsize=8)
    plt.show()

# %% [markdown]
# ---
# ## 8 · `causal_self_attention`: all of it, in one layer
#
# **Difficulty 4/5 · about 40 minutes · 20 points**
#
# This is the attention layer of GPT-2. So far queries, keys and values fell from the sky; now the layer makes them
# itself, from the words, by one linear map with weights that are learned. Then everything you have built runs in
# order, and a second linear map mixes what the heads found.
#
# | step | shape | with |
# |---|---|---|
# | words | `(B, T, C)` | |
# | queries, keys and values, side by side | `(B, T, 3C)` | `c_attn`, an `nn.Linear(C, 3C)`: the first `C` numbers are q, then k, then v |
# | cut into heads, each of the three | `(B, H, T, D)` | task 7 |
# | weights | `(B, H, T, T)` | task 3, causal **always**, and the caller's `mask` **as well** where given |
# | dropout on the weights | `(B, H, T, T)` | in training only |
# | mixed values | `(B, H, T, D)` | |
# | heads merged | `(B, T, C)` | task 7 |
# | mixed over the heads | `(B, T, C)` | `c_proj`, an `nn.Linear(C, C)` |
# | dropout on the output | `(B, T, C)` | in training only |
#
# **Dropout** sets each number to 0 with probability `p`, and multiplies those that stay by 1 / (1 - p), so that on
# average nothing changes. It keeps the model from leaning on any single number. With p = 0.5 the weights 0.2, 0.3,
# 0.5 may become 0.4, 0, 1.0. Outside training it does nothing.
#
# **Two numbers to check by hand.** Word 0 may look at nobody but itself, so its weight is 1 and its result is its own
# value, put through `c_proj`. And GPT-2's own layer has C = 768 and H = 12: D = 64, and 768·2304 + 2304 + 768·768 +
# 768 = 2,362,368 parameters.
#
# The names `c_attn` and `c_proj` are GPT-2's, so that its trained weights will fit. Nothing else belongs in the
# layer's `state_dict`: the causal mask can be made anew at any time, for any length. With `bias=False` neither map
# has a bias. `d_model` not divisible by `n_heads`: `ValueError` that shows the numbers.
#
# The attention that is *not allowed* (task 4) is not allowed here either.
#
# <details><summary>Hint 1: the idea</summary>
#
# Write the table's rows as lines of code, one after the other. For the dropout on the weights you need the weights
# themselves, so call `attention_weights`, not `scaled_dot_product_attention`. The two masks together are one mask: a
# key is visible if both say so.
#
# </details>
#
# <details><summary>Hint 2: the shapes</summary>
#
# `self.c_attn(x)` is `(B, T, 3C)`; three equal pieces of its last axis are q, k and v, in this order. The causal mask
# is `(T, T)`; the caller's may be `(T, T)`, `(B, 1, 1, T)`, `(B, H, T, T)`, … and `&` broadcasts.
#
# </details>
#
# <details><summary>Hint 3: last resort</summary>
#
# `q, k, v = self.c_attn(x).chunk(3, dim=-1)`, then `split_heads` on each. `nn.Dropout(dropout)` knows by itself
# whether the layer is in training, if it is made in `__init__` and kept as `self.…`; one can serve both places.
# `causal_mask(T, device=x.device)` makes the mask where the words are. Do not write `mask &= …`: that changes the
# caller's mask.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "causal_self_attention", "locked": false, "schema_version": 3, "solution": true, "task": false}
class CausalSelfAttention(nn.Module):
    """GPT-2's attention layer: many heads, causal, with learned queries, keys and values.

    Source: Radford et al. 2019; Vaswani et al. 2017, section 3.2.
    """

    def __init__(self, d_model, n_heads, dropout=0.0, bias=True):
        """Make the two linear maps, `c_attn` (C -> 3C) and `c_proj` (C -> C).

        Args:
            d_model: the width `C` of a word.
            n_heads: how many heads, `H`.
            dropout: the probability with which attention weights and outputs are set to 0 in training.
            bias: whether the linear maps have a bias.

        Raises:
            ValueError: `d_model` is not divisible by `n_heads`; the message shows both.
        """
        super().__init__()
        ### BEGIN SOLUTION
        if d_model % n_heads != 0:
            raise ValueError(f"a width of {d_model} cannot be cut into {n_heads} equal heads")
        self.n_heads = n_heads

        # One map makes queries, keys and values; the other mixes what the heads found.
        self.c_attn = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.c_proj = nn.Linear(d_model, d_model, bias=bias)

        # Dropout has no weights, so one module serves both places; eval() switches it off.
        self.dropout = nn.Dropout(dropout)
        ### END SOLUTION

    def forward(self, x, mask=None):
        """Let every word look at itself and the words before it.

        Args:
            x: the words, `(B, T, C)`.
            mask: booleans that broadcast against `(B, H, T, T)`, `True` = may look; `None` = hide nothing more.
                The layer is causal always: the mask can only hide more.

        Returns:
            The mixed words, `(B, T, C)`.
        """
        ### BEGIN SOLUTION
        # Queries, keys and values, side by side in the last axis, each cut into heads.
        q, k, v = self.c_attn(x).chunk(3, dim=-1)  # three of (B, T, C)
        q, k, v = (split_heads(part, self.n_heads) for part in (q, k, v))  # three of (B, H, T, D)

        # A key is visible if it is not in the future and the caller does not hide it.
        visible = causal_mask(x.shape[1], device=x.device)  # (T, T)
        if mask is not None:
            visible = visible & mask  # broadcasts against (B, H, T, T)

        # Each head mixes its own values.
        weights = attention_weights(q, k, visible)  # (B, H, T, T)
        mixed = self.dropout(weights) @ v  # (B, H, T, D)

        # The heads side by side again, and mixed with each other.
        return self.dropout(self.c_proj(merge_heads(mixed)))  # (B, T, C)
        ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_causal_self_attention", "locked": true, "points": 20, "schema_version": 3, "solution": false, "task": false}
layer = CausalSelfAttention(4, 2, dropout=0.5).eval()
names = sorted(layer.state_dict())
assert names == ["c_attn.bias", "c_attn.weight", "c_proj.bias", "c_proj.weight"], (
    f"The state_dict holds the weights and biases of c_attn and c_proj and nothing else (got {names}).")
assert layer.c_attn.weight.shape == (12, 4), (
    f"c_attn maps C to 3C: its weight is (12, 4) (got {tuple(layer.c_attn.weight.shape)}).")
names = sorted(CausalSelfAttention(4, 2, bias=False).state_dict())
assert names == ["c_attn.weight", "c_proj.weight"], f"With bias=False neither map has a bias (got {names})."

# Weights set by hand: queries and keys are 0, so all visible words count alike;
# values are the words themselves; c_proj only adds 100.
with torch.no_grad():
    for parameter in layer.parameters():
        parameter.zero_()
    layer.c_attn.weight[8:] = torch.eye(4)
    layer.c_proj.weight.copy_(torch.eye(4))
    layer.c_proj.bias.fill_(100.0)
    three_words = torch.tensor([[[0.0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]])

    result = layer(three_words)
    assert result.shape == (1, 3, 4), f"The output has the shape of the words (got {tuple(result.shape)})."
    assert not torch.allclose(result, three_words.mean(1, keepdim=True) + 100), (
        "Every word takes in all three: the layer is not causal.")
    assert torch.allclose(result[0, 0], torch.tensor([100.0, 101, 102, 103])), (
        "Word 0 sees only itself: its value, (0, 1, 2, 3), plus c_proj's bias of 100 "
        f"(got {result[0, 0].tolist()}). "
        "Is v the last third of c_attn's output? Is c_proj used? Is dropout off in eval mode?")
    assert torch.allclose(result[0, 1], torch.tensor([102.0, 103, 104, 105])), (
        f"Word 1 mixes words 0 and 1 half and half, plus 100 (got {result[0, 1].tolist()}).")

    hidden = layer(three_words, torch.tensor([False, True, True]))
    assert not hidden.isnan().any(), (
        "With word 0 hidden, query 0 may look at nothing: that gives zeros before c_proj, not NaN.")
    assert torch.allclose(hidden[0, 1], torch.tensor([104.0, 105, 106, 107])), (
        f"With word 0 hidden, word 1 sees only itself (got {hidden[0, 1].tolist()}): "
        "a mask can only hide more, and the layer stays causal.")

    assert torch.equal(layer(three_words), result), "In eval mode dropout is off: the same answer twice."
    assert not torch.equal(layer.train()(three_words), result), "In training, dropout must change the output."

# The past must not move when the future changes.
layer = CausalSelfAttention(6, 3).eval()
some_words = torch.randn(1, 5, 6)
before = layer(some_words)
some_words[0, 3] += 10.0  # another word at position 3
after = layer(some_words)
assert torch.allclose(before[0, :3], after[0, :3], atol=1e-5), (
    "Changing word 3 changed an earlier output: someone sees the future. "
    "Is it the mask, or are the heads cut wrongly?")
assert not torch.allclose(before[0, 4], after[0, 4]), "Changing word 3 did not change output 4: nobody looks back."

try:
    CausalSelfAttention(6, 4)
except ValueError as error:
    assert re.search("4|6", str(error)), f"The message should show the numbers: 6 and 4 (got: {error})."
else:
    raise AssertionError("A width of 6 cannot be cut into 4 heads: raise ValueError, already in __init__.")
print("causal_self_attention: the visible checks pass.")

# %% [markdown]
# ## Let it learn
#
# So far we set the questions by hand. Now your layer finds its own. Each riddle is a row of ten random letters, and
# at each place the model has to answer two questions: *which letter stood one place back? which stood three places
# back?* The model is as small as can be. Letters and positions become numbers (the next notebook is about that), your
# layer mixes them, and two linear maps guess the two letters.
#
# Guessing blindly among 12 letters costs ln 12 = 2.48. We train twice: once with one head, once with two, and with
# the same number of weights.

# %% tags=["demo"]
LETTERS = "ABCDEFGHIJKL"


class LookBack(nn.Module):
    """Letters and positions, one attention layer, two guesses."""

    def __init__(self, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.letters = nn.Embedding(len(LETTERS), 32)
        self.positions = nn.Embedding(10, 32)
        self.attention = CausalSelfAttention(32, n_heads)
        self.one_back = nn.Linear(32, len(LETTERS))
        self.three_back = nn.Linear(32, len(LETTERS))

    def words(self, ids):
        return self.letters(ids) + self.positions.weight  # (B, T, C)

    def forward(self, ids):
        mixed = self.attention(self.words(ids))
        return self.one_back(mixed), self.three_back(mixed)  # two of (B, T, letters)


with once_solved("causal_self_attention"):
    models, curves = {}, {}
    for n_heads in [1, 2]:
        torch.manual_seed(0)
        model = models[n_heads] = LookBack(n_heads)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        losses = curves[n_heads] = []
        for _ in tqdm(range(400), desc="one head" if n_heads == 1 else "two heads"):
            ids = torch.randint(len(LETTERS), (64, 10))
            one, three = model(ids)
            loss = (F.cross_entropy(one[:, 3:].flatten(0, 1), ids[:, 2:-1].flatten())
                    + F.cross_entropy(three[:, 3:].flatten(0, 1), ids[:, :-3].flatten())) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    plt.figure(figsize=(6, 3), layout="constrained")
    plt.plot(curves[1], color="firebrick", label="one head")
    plt.plot(curves[2], color="steelblue", label="two heads")
    plt.axhline(math.log(12), color="grey", linestyle=":", label="guessing blindly: ln 12")
    plt.axhline(math.log(2), color="grey", linestyle="--", label="one of two: ln 2")
    plt.xlabel("step")
    plt.ylabel("loss")
    plt.legend()
    plt.show()

# %% [markdown]
# **Look inside.** Below are the attention maps of the trained layers for one riddle. With two heads, each takes one
# question: one looks one place back, the other three. Nobody told them to, and in our run they had it after 30 steps.
#
# A single head must look at both places at once, and gets a blend. For a while it knows *which two* letters stood
# there but not which was which, so it tosses a coin, and that costs ln 2 = 0.69. Then it finds a trick: it looks
# harder at one place than at the other (about 0.7 and 0.3), and tells the two letters apart by their strength. But it
# is slow, and never quite sure. (The first three rows have nothing to answer.)

# %% tags=["demo"]
with once_solved("causal_self_attention"):
    if not models:
        raise NotImplementedError
    ids = torch.tensor([[3, 0, 10, 7, 1, 8, 4, 11, 2, 6]])
    row = [LETTERS[i] for i in ids[0].tolist()]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
    panels = iter(axes)
    for n_heads, model in models.items():
        q, k, _ = model.attention.c_attn(model.words(ids)).chunk(3, dim=-1)
        maps = attention_weights(split_heads(q, n_heads), split_heads(k, n_heads), causal_mask(10))[0]  # (H, T, T)
        for head in range(n_heads):
            axis = next(panels)
            title = "one head" if n_heads == 1 else f"two heads: head {head}"
            heatmap(maps[head], row, title=title, axis=axis)
            axis.set_xticks(range(10), row, rotation=0, ha="center")
    plt.show()
    guesses = [guess[0].argmax(-1).tolist() for guess in models[2](ids)]
    print("letters:                     ", " ".join(row))
    print("two heads guess, one back:   ", " ".join(["·"] * 3 + [LETTERS[i] for i in guesses[0][3:]]))
    print("two heads guess, three back: ", " ".join(["·"] * 3 + [LETTERS[i] for i in guesses[1][3:]]))

# %% [markdown]
# ---
# ## A written question
#
# **About 15 minutes · 10 points, read by a person**
#
# A friend writes the mask like this, and is proud of the result:
#
# ```python
# weights = softmax(q @ k.transpose(-2, -1) / math.sqrt(D))
# weights = weights * causal_mask(T)
# ```
#
# "No weight on the future is left. And my validation loss is lower than yours!"
#
# In about 150 words:
#
# 1. (3 points) Take the scores 0, 0, 0 of query 0 and three keys. Which weights does your friend get, and which do you
#    get? What do the rows sum to?
# 2. (4 points) The future has the weight 0. Can it still change your friend's output? How? Give an example with
#    numbers.
# 3. (3 points) Why may the loss be lower, and why is the model of no use for writing text all the same? Name a test of
#    a few lines that shows the mistake without training anything.

# %% [markdown] nbgrader={"grade": true, "grade_id": "written_attention", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
# 1. The friend's softmax shares 1 among all three keys, 1/3 each, and then two shares are struck out: (1/3, 0, 0),
#    which sums to 1/3. Ours scores the future `-inf` before the softmax: (1, 0, 0), which sums to 1. *(1 point each
#    for the friend's weights, ours, and the sums.)*
# 2. Yes. The future's scores still stand in the denominator of the softmax, so they decide how large the visible
#    weights are. If the score of key 2 is ln 7 instead of 0, the denominator is 1 + 1 + 7 = 9 and the friend's weight
#    on key 0 falls from 1/3 to 1/9, and the output with it. *(2 points for the denominator, 2 for an example.)*
# 3. In training the future is there, and the sizes of the rows tell something about it, so the model learns to read
#    that signal, and the validation loss is measured with the same leak. When it writes, there is no future yet: the
#    signal is missing, and the model has relied on it. The test: run the layer, change the last word, run it again; no
#    earlier output may move. *(1 point for the leak, 1 for its absence when writing, 1 for the test.)*

# %% [markdown]
# ## What you have now
#
# A layer in which words meet: it keeps the future out, ignores filler, runs several conversations at once, and learns
# whom to ask. A GPT is a stack of these, with a small network for each word between them. Next: **embeddings**, how a
# token becomes numbers in the first place, and how it knows where it stands.
