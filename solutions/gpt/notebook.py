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
# # 4 · GPT: the whole forward pass
#
# In this notebook you build GPT-2, from the first LayerNorm to a model that writes. Not a toy version of it: the class
# you write has the layout, the parameter names and the starting values of the model that OpenAI published in 2019,
# and it loads real weights.
#
# | | | |
# |---|---|---|
# | 1 | tokenizer | text becomes numbers |
# | 2 | attention | a token looks at the tokens before it |
# | 3 | embeddings | a number becomes a vector that knows its place |
# | **4** | **gpt** | **attention and embeddings become a language model** |
# | 5 | training | the model learns Shakespeare |
#
# **What you need.** `torch`, and an idea of what attention does. Your own solutions of the earlier assignments are
# *not* needed: what this notebook uses from them is given below. No GPU, no network.
#
# **The tasks.** There are seven. Each builds on the ones before it, so take them in order.
#
# | task | what it is | points | about |
# |---|---|---|---|
# | `layer_norm` | keeps the numbers in a sensible range | 10 | 15 min |
# | `feed_forward` | what each token does on its own | 10 | 15 min |
# | `block` | attention and feed-forward around one stream | 10 | 15 min |
# | `gpt` | the model | 25 | 45 min |
# | `count_parameters` | 124 million, on a napkin | 5 | 15 min |
# | `generate` | writing, one token at a time | 20 | 45 min |
# | `load_gpt2` | somebody else's weights in your model | 10 | 30 min |
# | written question | | 10 | 20 min |
#
# **How it is graded.** Under each task stands a cell of *visible checks*: run it as often as you like, it tells you what
# is probably wrong. When you hand in, *hidden tests* look more closely: other sizes, other number types, gradients,
# unusual arguments. Together the tasks are worth 90 points, given automatically; a check that passes earns its share even
# if another one fails, and a right task on top of an earlier one that went wrong keeps its points. The written question
# is worth 10 and is read by a person. Using what a task calls *not allowed* costs the points of that task.
#
# **What holds everywhere.** Inputs stay as they were. Results have the number type and the device of the inputs, and what
# you make yourself, you make on their device. (The tests also use `meta`, where a tensor has a shape but no numbers.) Nothing
# is random but dropout in training, the starting values and the dice of `generate`. A bad argument that a task names raises
# a `ValueError` that shows the value.
#
# **How long it takes.** About three and a half hours; each task is graded by itself, so you may stop after any.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import json
import math
import re
import textwrap
from copy import deepcopy
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

# %% [markdown]
# ## What is given
#
# **Letters.** `B` batch, `T` positions, `C` the width of the model (`d_model`), `H` heads, `D = C/H` the width of one head,
# `V` the size of the vocabulary. `...` means any leading dimensions, also none.
#
# **`GPTConfig`** holds the sizes of a model. It is *frozen*: once made, it cannot be changed by accident. `bias` switches the
# biases of the linear layers and of the LayerNorms together; GPT-2 has them, many later models do not.

# %% nbgrader={"grade": false, "grade_id": "given_config", "locked": true, "schema_version": 3, "solution": false, "task": false}
@dataclass(frozen=True)
class GPTConfig:
    """The sizes of a GPT."""

    vocab_size: int         # V: how many different tokens there are
    block_size: int         # the longest text, in tokens, that the model can look at
    n_layer: int            # how many blocks
    n_head: int             # H: heads in each attention
    d_model: int            # C: width of the vector that each token carries
    dropout: float = 0.0    # share of numbers set to zero while training
    bias: bool = True       # do linear layers and LayerNorms have a bias?


# %% [markdown]
# **`CausalSelfAttention`** is what assignment 2 builds by hand, here on PyTorch's ready-made
# `F.scaled_dot_product_attention`. A token attends to itself and to the tokens before it, never to a later one.
# Its two linear layers are called `c_attn` (queries, keys and values at once) and `c_proj` (back to the model).

# %% nbgrader={"grade": false, "grade_id": "given_attention", "locked": true, "schema_version": 3, "solution": false, "task": false}
class CausalSelfAttention(nn.Module):
    """Multi-head self-attention in which no token sees a later one: (B, T, C) -> (B, T, C)."""

    def __init__(self, d_model, n_heads, dropout=0.0, bias=True):
        super().__init__()
        if d_model % n_heads != 0:
            raise ValueError(f"d_model {d_model} cannot be divided into {n_heads} heads")
        self.n_heads = n_heads
        self.dropout = dropout
        self.c_attn = nn.Linear(d_model, 3 * d_model, bias=bias)    # queries, keys, values, in this order
        self.c_proj = nn.Linear(d_model, d_model, bias=bias)
        self.resid_dropout = nn.Dropout(dropout)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=-1)                                       # 3 x (B, T, C)
        q, k, v = (part.view(B, T, self.n_heads, -1).transpose(1, 2) for part in (q, k, v))    # (B, H, T, D)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C)                                          # heads side by side again
        return self.resid_dropout(self.c_proj(y))


# %% [markdown]
# ## The map: one stream, many small additions
#
# Before the first task, a look at where all this is going. Each token starts as a vector of `C` numbers: its embedding plus
# the embedding of its position. That vector then travels to the end of the model along a straight line, the **residual stream**.
# Nothing on the way replaces it. Each *sub-layer* (attention, or the feed-forward layer `mlp`) reads a normalised copy and *adds* what it found out.

# %% tags=["demo"]
def draw_residual_stream():
    """Two blocks of a GPT, as boxes beside the residual stream."""
    figure, axes = plt.subplots(figsize=(12, 4.2))
    axes.set_xlim(0, 24)
    axes.set_ylim(-1.4, 5.2)
    axes.axis("off")

    def box(x, y, text, colour, width=1.7):
        axes.text(x, y, text, ha="center", va="center", fontsize=10, zorder=3,
                  bbox=dict(boxstyle="round,pad=0.45", facecolor=colour, edgecolor="#444444"))

    def arrow(start, end, **style):
        axes.annotate("", end, start, zorder=1, arrowprops=dict(arrowstyle="-|>", color="#444444", lw=1.6, **style))

    axes.plot((1.2, 19.0), (0, 0), color="#3b6fb6", lw=6, zorder=0)
    arrow((19.0, 0), (19.9, 0))
    box(1.2, 0, "wte + wpe", "#dce9f7")
    for block, left in enumerate((3.6, 11.6)):
        axes.add_patch(plt.Rectangle((left - 0.5, -0.75), 7.3, 5.3, fill=False, edgecolor="#999999", ls="--"))
        axes.text(left + 3.15, 4.75, f"block {block}:  h.{block}", ha="center", color="#666666")
        for name, norm, shift in (("attn", "ln_1", 0.0), ("mlp", "ln_2", 3.6)):
            x = left + shift + 0.5
            arrow((x, 0.1), (x, 1.3))
            box(x, 1.6, norm, "#f3f3f3")
            arrow((x, 2.0), (x, 2.9))
            box(x, 3.3, name, "#fbe3c5" if name == "attn" else "#d9efd5")
            arrow((x + 0.7, 3.3), (x + 2.0, 0.35), connectionstyle="angle,angleA=0,angleB=90,rad=6")
            axes.text(x + 2.0, 0, "+", ha="center", va="center", fontsize=15, zorder=3,
                      bbox=dict(boxstyle="circle,pad=0.15", facecolor="white", edgecolor="#3b6fb6"))
    box(20.6, 0, "ln_f", "#f3f3f3")
    arrow((21.2, 0), (22.0, 0))
    box(22.9, 0, "lm_head", "#dce9f7")
    axes.text(10.5, -1.15, "the residual stream: (B, T, C) all the way", ha="center", color="#3b6fb6", fontsize=11)
    axes.text(22.9, -1.15, "logits (B, T, V)", ha="center", color="#666666")
    plt.show()


draw_residual_stream()

# %% [markdown]
# Read it from left to right, and you have read `GPT.forward`:
#
# * **wte + wpe** (task 4): token and position become one vector;
# * **ln_1, ln_2, ln_f** (task 1): LayerNorm, the normalised copy;
# * **attn** (given): the only place where tokens exchange anything;
# * **mlp** (task 2): each token on its own, the same function for all;
# * **block** (task 3): the two sub-layers and their two additions;
# * **lm_head** (task 4): from the last state of a token to a score for each possible next token, the *logits*.

# %% [markdown]
# ## Task 1 · `layer_norm`
#
# *Difficulty 1/5 · about 15 minutes · 10 points*
#
# Every sub-layer adds to the stream, so its numbers grow as it passes the blocks, and they grow differently for each token.
# LayerNorm gives each sub-layer an input of the same size: it looks at the `C` numbers of *one* token, moves their mean to 0
# and scales their variance to 1. Then a learned `weight` and `bias`, one of each for every channel, may stretch and move them again.
#
# $$y = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} \cdot \text{weight} + \text{bias}
# \qquad \mu = \frac1C\sum_c x_c \qquad \sigma^2 = \frac1C\sum_c (x_c - \mu)^2$$
#
# **By hand.** One token with four channels, `x = [1, 2, 3, 6]`:
#
# | step | result |
# |---|---|
# | mean | (1 + 2 + 3 + 6) / 4 = **3** |
# | minus the mean | [-2, -1, 0, 3] |
# | variance | (4 + 1 + 0 + 9) / **4** = **3.5** |
# | divided by √3.5 ≈ 1.871 | [-1.069, -0.535, 0, 1.604] |
#
# Two small things matter more than they look:
#
# * The variance divides by `C`, not by `C - 1`. (`torch.var` divides by `C - 1` unless you tell it otherwise.)
# * `ε` stands *inside* the square root. It keeps a token whose channels are all equal from being divided by zero.
#
# **Your class.** `LayerNorm(d, eps=1e-5, bias=True)` has two parameters of shape `(d,)`: `weight`, which starts at ones, and `bias`,
# which starts at zeros, or is `None` with `bias=False`. It works on the last dimension of `(..., d)`.
#
# **Not allowed in this task:** PyTorch's own normalisations, as functions or as modules (`F.layer_norm`, `nn.LayerNorm`,
# `F.rms_norm`, and the batch, instance and group norms). You are writing that function.
#
# <details><summary>Hint 1: the idea</summary>
#
# Every token is normalised by itself: with x of shape `(B, T, C)` there are `B·T` means and `B·T` variances, not one.
#
# </details>
# <details><summary>Hint 2: the shapes</summary>
#
# `x.mean(dim=-1)` has shape `(B, T)`, and `(B, T, C) - (B, T)` does not line up. With `keepdim=True` it is `(B, T, 1)`, and it does.
#
# </details>
# <details><summary>Hint 3: the last resort</summary>
#
# A parameter is made by `nn.Parameter(torch.ones(d))`. In `forward`: the mean; `x` minus the mean; the mean of its square; divide;
# multiply by the weight; add the bias if there is one.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "layer_norm", "locked": false, "schema_version": 3, "solution": true, "task": false}
class LayerNorm(nn.Module):
    """Normalise each token's vector to mean 0 and variance 1, then scale and shift it by what is learned.

    Args:
        d: width of the last dimension.
        eps: small number added to the variance, inside the square root.
        bias: whether there is a `bias`; without, the attribute is None.

    Parameters: `weight` (d,), ones at first; `bias` (d,), zeros at first, or None.
    Source: Ba, Kiros and Hinton 2016, "Layer Normalization".
    """

    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__()
        ### BEGIN SOLUTION
        self.eps = eps
        # Ones and zeros: a fresh LayerNorm only normalises.
        self.weight = nn.Parameter(torch.ones(d))                   # (C,)
        self.bias = nn.Parameter(torch.zeros(d)) if bias else None  # (C,)
        ### END SOLUTION

    def forward(self, x):
        """(..., d) -> (..., d)."""
        ### BEGIN SOLUTION
        # Half-precision numbers are too coarse for a variance: measure in float32 or wider, as PyTorch does.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))    # (..., C)
        # One mean and one variance for each token; keepdim lets them line up with x again.
        mean = wide.mean(dim=-1, keepdim=True)                      # (..., 1)
        centred = wide - mean                                       # (..., C)
        variance = centred.square().mean(dim=-1, keepdim=True)      # (..., 1), divided by C, not C - 1
        # eps stands under the root, so that a constant row is divided by sqrt(eps) and not by zero.
        y = centred / torch.sqrt(variance + self.eps) * self.weight    # (..., C)
        if self.bias is not None:
            y = y + self.bias
        return y.to(x.dtype)
        ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_layer_norm", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
norm = LayerNorm(4)
assert norm.weight.shape == (4,) and norm.bias.shape == (4,), "weight and bias have one number for each channel: (d,)."
assert isinstance(norm.weight, nn.Parameter), "weight is an nn.Parameter, or no optimizer will ever find it."
assert torch.equal(norm.weight, torch.ones(4)) and torch.equal(norm.bias, torch.zeros(4)), \
    "weight starts at ones, bias at zeros."

x = torch.tensor([[1.0, 2.0, 3.0, 6.0]])
y = norm(x)
assert y.shape == x.shape, f"The shape stays as it was; yours became {tuple(y.shape)}."
assert abs(y[0, 0] + 0.926) > 0.01, "You divide the variance by C - 1; LayerNorm divides by C."
assert torch.allclose(y, torch.tensor([[-1.0690, -0.5345, 0.0, 1.6036]]), atol=1e-3), \
    f"[1, 2, 3, 6] becomes [-1.069, -0.535, 0, 1.604]; yours is {y.tolist()[0]}."

far = torch.stack([x[0], 100 * x[0]])    # the second token is a hundred times the first
assert torch.allclose(norm(far)[0], norm(far)[1], atol=1e-3), \
    "A token and a hundred times that token come out alike. Do you normalise over the last dimension?"

constant = LayerNorm(3, eps=0.25)(torch.tensor([[4.0, 4.0, 7.0]]))
assert torch.allclose(constant, torch.tensor([[-0.6667, -0.6667, 1.3333]]), atol=1e-3), \
    "With variance 2 and eps 0.25 the divisor is sqrt(2.25) = 1.5: eps is added before the root."

with torch.no_grad():
    norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    norm.bias.fill_(10.0)
assert torch.allclose(norm(x)[0], torch.tensor([8.9310, 8.9310, 10.0, 16.4143]), atol=1e-3), \
    "After normalising comes times weight, plus bias."
assert LayerNorm(4, bias=False).bias is None, "With bias=False the attribute bias is None."
print("layer_norm: the visible checks pass.")

# %% [markdown]
# What it does to a stream: three tokens whose numbers differ by a factor of a hundred, before and after.

# %% tags=["demo"]
def draw_layer_norm():
    """Three tokens of 24 channels before and after LayerNorm."""
    generator = torch.Generator().manual_seed(1)
    size, place = torch.tensor([[0.2], [2.0], [20.0]]), torch.tensor([[0.0], [3.0], [-15.0]])
    stream = torch.randn(3, 24, generator=generator) * size + place
    with torch.no_grad():
        normed = LayerNorm(24)(stream)
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3), sharex=True)
    for token, colour in enumerate(("#3b6fb6", "#e08a2e", "#4f9d4f")):
        left.plot(stream[token], "o-", ms=3, color=colour, label=f"token {token}")
        right.plot(normed[token], "o-", ms=3, color=colour)
    left.set(title="in the stream", xlabel="channel")
    right.set(title="after LayerNorm", xlabel="channel")
    left.legend()
    plt.show()


draw_layer_norm()

# %% [markdown]
# ## Task 2 · `feed_forward`
#
# *Difficulty 2/5 · about 15 minutes · 10 points*
#
# Attention moves information between tokens. What a token then *makes* of it happens here: two linear layers with a bend
# between them, the same for every token, no token looking at another. The first layer widens the vector to four times its width,
# the second brings it back. About two thirds of the weights of each block sit in these two matrices.
#
# $$\text{FeedForward}(x) = \text{dropout}\big(\,\text{c\_proj}(\,\text{gelu}(\,\text{c\_fc}(x)))\big)
# \qquad C \to 4C \to 4C \to C$$
#
# The bend is the GELU: a smooth relative of ReLU, which is `max(x, 0)`. It multiplies `x` by the probability that a standard normal number is below `x`.
# GPT-2 does not compute that probability but a close formula with `tanh`, and it was trained with the formula, so we use it too:
#
# $$\text{gelu}(x) = \tfrac12\, x \left(1 + \tanh\!\left(\sqrt{2/\pi}\,\big(x + 0.044715\, x^3\big)\right)\right)$$
#
# **By hand.** `gelu(0) = 0`. For `x = 1`: `x + 0.044715 x³ = 1.044715`, times `√(2/π) ≈ 0.797885` gives `0.833562`, `tanh` of that is
# `0.682384`, so `gelu(1) = ½ · 1 · 1.682384 =` **0.841192**. (The exact GELU has 0.841345: the difference is in the fourth decimal,
# and the checks see it.)
#
# **Your code.** A function `gelu(x)` and a class `FeedForward(d_model, dropout=0.0, bias=True)` with the linear layers `c_fc` and
# `c_proj`. Dropout comes last, on what leaves the layer, and only in training: `nn.Dropout` knows by itself which mode it is in.
#
# **Not allowed in this task:** PyTorch's own GELU (`F.gelu`, `nn.GELU`).
#
# <details><summary>Hint 1: the idea</summary>
#
# `gelu` is the formula above, written down once, for every number of the tensor at the same time.
#
# </details>
# <details><summary>Hint 2: the shapes</summary>
#
# `nn.Linear(a, b)` works on the last dimension and leaves all others alone: `(B, T, C) -> (B, T, 4C)` needs no reshaping.
#
# </details>
# <details><summary>Hint 3: the last resort</summary>
#
# `math.sqrt(2 / math.pi)` and `torch.tanh`. In the class: three modules made in `__init__`, and one line in `forward` that calls
# them from the inside out.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "feed_forward", "locked": false, "schema_version": 3, "solution": true, "task": false}
def gelu(x):
    """GPT-2's GELU, the form with tanh: any shape -> the same shape.

    Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".
    """
    ### BEGIN SOLUTION
    # The argument of tanh: almost a straight line through 0, with a little of the cube.
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    # tanh goes from -1 to 1, so this factor goes from 0 (x is dropped) to 1 (x passes).
    return 0.5 * x * (1 + torch.tanh(inner))
    ### END SOLUTION


class FeedForward(nn.Module):
    """Widen each token's vector to 4C, bend it with gelu, bring it back to C.

    Args:
        d_model: the width C.
        dropout: share of the output set to zero in training.
        bias: whether the two linear layers have a bias.

    Modules: `c_fc` (C -> 4C), `c_proj` (4C -> C).
    Source: Radford et al. 2019 (GPT-2), after Vaswani et al. 2017.
    """

    def __init__(self, d_model, dropout=0.0, bias=True):
        super().__init__()
        ### BEGIN SOLUTION
        self.c_fc = nn.Linear(d_model, 4 * d_model, bias=bias)
        self.c_proj = nn.Linear(4 * d_model, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)
        ### END SOLUTION

    def forward(self, x):
        """(..., C) -> (..., C)."""
        ### BEGIN SOLUTION
        hidden = gelu(self.c_fc(x))                 # (..., 4C)
        # Dropout last: it hits what is about to be added to the stream.
        return self.dropout(self.c_proj(hidden))    # (..., C)
        ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_feed_forward", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
y = gelu(torch.tensor([0.0, 1.0, -1.0, 2.0], dtype=torch.float64))
assert abs(y[1] - 0.841345) > 1e-5, "This is the exact GELU; GPT-2 uses the form with tanh."
assert torch.allclose(y, torch.tensor([0.0, 0.841192, -0.158808, 1.954598], dtype=torch.float64), atol=1e-6), \
    f"gelu of 0, 1, -1, 2 is 0, 0.841192, -0.158808, 1.954598; yours: {[round(v, 6) for v in y.tolist()]}."

mlp = FeedForward(6)
assert mlp.c_fc.weight.shape == (24, 6), "c_fc goes from C to 4C, so its weight is (4C, C)."
assert mlp.c_proj.weight.shape == (6, 24), "c_proj goes from 4C back to C, so its weight is (C, 4C)."
assert FeedForward(6, bias=False).c_fc.bias is None, "bias=False is for both linear layers."
x = torch.linspace(-1, 1, 2 * 5 * 6).view(2, 5, 6)
assert mlp(x).shape == (2, 5, 6), "The shape stays (B, T, C)."
with torch.no_grad():    # a layer simple enough to know: c_fc copies x four times, c_proj adds the four up
    mlp.c_fc.weight.copy_(torch.eye(6).repeat(4, 1))
    mlp.c_proj.weight.copy_(torch.eye(6).repeat(1, 4))
    mlp.c_fc.bias.zero_()
    mlp.c_proj.bias.zero_()
assert torch.allclose(mlp(x), 4 * gelu(x), atol=1e-6), "The order is c_fc, gelu, c_proj."
mlp = FeedForward(6, dropout=0.5)
assert torch.equal(mlp.eval()(x), mlp(x)), "In eval mode nothing is random."
assert not torch.equal(mlp.train()(x), mlp(x)), "In training mode dropout sets other numbers to zero each time."
print("feed_forward: the visible checks pass.")

# %% tags=["demo"]
def draw_gelu():
    """GELU beside ReLU, and how far GPT-2's formula is from the exact one."""
    x = torch.linspace(-4, 4, 401)
    exact = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.2))
    left.plot(x, x.clamp(min=0), "--", color="#999999", label="ReLU")
    left.plot(x, gelu(x), color="#3b6fb6", lw=2, label="gelu (tanh form)")
    left.set(title="a smooth bend", xlabel="x", ylim=(-0.5, 3))
    left.legend()
    right.plot(x, gelu(x) - exact, color="#c0504d")
    right.axhline(0, color="#999999", lw=0.8)
    right.set(title="tanh form minus exact GELU: never more than 0.0005", xlabel="x")
    right.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    plt.show()


draw_gelu()

# %% [markdown]
# ## Task 3 · `block`
#
# *Difficulty 2/5 · about 15 minutes · 10 points*
#
# One block is the picture above made code: read a normalised copy of the stream, let attention work on it, add the result; then the same
# with the feed-forward layer. Because the norm stands *before* each sub-layer and never on the stream itself, this is called **pre-norm**.
# The stream is then a straight road from the last layer back to the first, and gradients travel it undamped: that is why
# dozens of blocks can be trained at all.
#
# $$x \leftarrow x + \text{attn}(\text{ln\_1}(x)) \qquad\qquad x \leftarrow x + \text{mlp}(\text{ln\_2}(x))$$
#
# Two things to notice. The second line reads the stream *after* attention has been added. And the two norms are two modules, each with
# its own weights.
#
# **By hand.** Suppose a token carries `x = 5` (one channel, to keep it short), attention answers `+2` to the normalised copy, and the
# feed-forward layer then answers `-1`. After the block the token carries `5 + 2 - 1 = 6`. Suppose both answer `0`: the token
# still carries `5`. A block that has nothing to say leaves the stream exactly as it was.
#
# **Your class.** `Block(config)` has the modules `ln_1`, `attn`, `ln_2`, `mlp`. Hand on from the configuration what they need: width, heads,
# dropout, bias.
#
# <details><summary>Hint 1: the idea</summary>
#
# Look at the picture of the residual stream: two arrows leave it, two come back, and where they come back there is a plus.
#
# </details>
# <details><summary>Hint 2: the shapes</summary>
#
# Everything is `(B, T, C)`, from beginning to end.
#
# </details>
# <details><summary>Hint 3: the last resort</summary>
#
# `CausalSelfAttention(config.d_model, config.n_head, config.dropout, config.bias)`. `LayerNorm` takes `bias=config.bias` by name, because
# its second argument is `eps`. In `forward`, write `x = x + ...`, not `x += ...`: the second one would change the caller's tensor.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "block", "locked": false, "schema_version": 3, "solution": true, "task": false}
class Block(nn.Module):
    """One block of the transformer: attention, then feed-forward, each added to the residual stream.

    Args:
        config: a GPTConfig.

    Modules: `ln_1`, `attn`, `ln_2`, `mlp`.
    Source: Radford et al. 2019 (GPT-2).
    """

    def __init__(self, config):
        super().__init__()
        ### BEGIN SOLUTION
        # Two norms with weights of their own: each sub-layer wants its input in another scale.
        self.ln_1 = LayerNorm(config.d_model, bias=config.bias)
        self.attn = CausalSelfAttention(config.d_model, config.n_head, config.dropout, config.bias)
        self.ln_2 = LayerNorm(config.d_model, bias=config.bias)
        self.mlp = FeedForward(config.d_model, config.dropout, config.bias)
        ### END SOLUTION

    def forward(self, x):
        """(B, T, C) -> (B, T, C)."""
        ### BEGIN SOLUTION
        # The tokens exchange what they know. x itself is not normalised, only what attention reads.
        x = x + self.attn(self.ln_1(x))    # (B, T, C)
        # Each token thinks about what it just learned.
        x = x + self.mlp(self.ln_2(x))     # (B, T, C)
        return x
        ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_block", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
config = GPTConfig(vocab_size=7, block_size=5, n_layer=1, n_head=2, d_model=6)
block = Block(config)
names = [name for name, _ in block.named_children()]
assert sorted(names) == ["attn", "ln_1", "ln_2", "mlp"], f"A block has ln_1, attn, ln_2, mlp; yours has {names}."
assert block.ln_1 is not block.ln_2, "The two sub-layers have a norm each."
x = torch.linspace(-1, 2, 2 * 5 * 6).view(2, 5, 6).sin() * 3
assert block(x).shape == x.shape, "The shape stays (B, T, C)."

before = x.clone()
block(x)
assert torch.equal(x, before), "The block changed its input. Write x = x + ..., not x += ..."

quiet = deepcopy(block)    # both sub-layers silenced
with torch.no_grad():
    for layer in (quiet.attn.c_proj, quiet.mlp.c_proj):
        layer.weight.zero_()
        layer.bias.zero_()
assert torch.allclose(quiet(x), x), \
    "With both sub-layers silent, the block must return x itself. Is something added or normalised on the stream?"

only_attention = deepcopy(block)
with torch.no_grad():
    only_attention.mlp.c_proj.weight.zero_()
    only_attention.mlp.c_proj.bias.zero_()
assert torch.allclose(only_attention(x) - x, block.attn(block.ln_1(x)), atol=1e-5), \
    "With a silent mlp, what is added is attn(ln_1(x))."
assert Block(GPTConfig(7, 5, 1, 2, 6, bias=False)).ln_2.bias is None, "bias=False is for the norms, too."
print("block: the visible checks pass.")

# %% [markdown]
# ## Task 4 · `gpt`
#
# *Difficulty 3/5 · about 45 minutes · 25 points*
#
# Now everything is put together. From ids to logits it is five lines: look up token and position, drop some numbers (in training), pass the
# blocks, normalise once more, score each token of the vocabulary.
#
# ```text
# ids (B, T)
#   wte[ids] + wpe[0 … T-1]     (B, T, C)    what the token is + where it stands
#   drop                        (B, T, C)    dropout, in training only
#   h[0], h[1], …               (B, T, C)    n_layer blocks
#   ln_f                        (B, T, C)    one last LayerNorm
#   lm_head                     (B, T, V)    the logits: a score for each possible next token, at every position
# ```
#
# **Tied weights.** `wte` has a vector for each token: `(V, C)`. `lm_head` also needs a vector for each token, to compare the final state with: also
# `(V, C)`. GPT-2 uses the *same* matrix for both, and so its smallest size saves nearly 39 million numbers. "The same" means one `nn.Parameter` that two modules
# hold. A copy would start out equal and drift apart with the first step of training.
#
# **Starting values.** Good ones matter: a fresh model should be unsure, giving every token about the same probability.
#
# | what | starts as |
# |---|---|
# | weights of linear layers and embeddings | normal, mean 0, standard deviation **0.02** |
# | each `c_proj.weight` (attention's and the mlp's: the *residual projections*, whose results are added to the stream) | normal, standard deviation **0.02 / √(2 · n_layer)** |
# | biases | 0 |
# | LayerNorm | weight 1, bias 0 |
#
# The second line: `2 · n_layer` times something is added to the stream. A sum of `n` independent numbers has `√n` times their
# standard deviation, so each addition is made smaller by just that factor, and a deep stream starts out about as wide as a shallow one.
#
# **The loss.** With `targets` (the ids that really came next, `(B, T)`), `forward` also returns the mean cross entropy: how surprised the model was,
# on average. A target of `-100` means "do not count this position", and `F.cross_entropy` knows that number by itself. The targets come *already
# shifted by one*; shift nothing in here.
#
# **By hand.** A model that knows nothing gives each of `V` tokens the probability `1/V`, and its loss is `-ln(1/V) = ln V`. The course's text has 64 different
# characters: `ln 64 ≈ 4.16`.
# A fresh GPT must start there. Far above: the starting values are too large. Far below: it has seen the answers.
#
# **Your class.** `GPT(config)` with `config` kept under that name, `transformer` (an `nn.ModuleDict` with `wte`, `wpe`, `drop`, `h`, `ln_f`) and
# `lm_head` (no bias). `forward(ids, targets=None)` returns `(logits, loss)`, the loss being `None` without targets. More than
# `block_size` positions: `ValueError` with the length in its message.
#
# <details><summary>Hint 1: the idea</summary>
#
# Draw the five lines above on paper, with the shape after each. Then write `forward` first and `__init__` after it: you will know what it has to make.
#
# </details>
# <details><summary>Hint 2: the shapes</summary>
#
# `wpe` of `T` positions is `(T, C)`; added to `(B, T, C)` it serves every text of the batch. `F.cross_entropy` wants `(N, V)` and `(N,)`: merge B and T
# with `flatten(0, 1)`, in both.
#
# </details>
# <details><summary>Hint 3: names and starting values</summary>
#
# `nn.ModuleDict` takes a `dict` and its modules are then attributes: `self.transformer.wte`. Blocks go into an `nn.ModuleList`; a plain list would hide them from
# `parameters()`. For the starting values walk over `self.named_parameters()` and look at the ends of the names.
#
# </details>
# <details><summary>Hint 4: the last resort</summary>
#
# Tying is one assignment: `self.lm_head.weight = self.transformer.wte.weight`. Positions: `torch.arange(T, device=ids.device)`, on the device of the ids,
# so that it also runs on a GPU. `nn.init.normal_(parameter, mean=0.0, std=…)` fills a parameter.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "gpt", "locked": false, "schema_version": 3, "solution": true, "task": false}
class GPT(nn.Module):
    """GPT-2: from token ids to a score for each possible next token.

    Args:
        config: a GPTConfig, kept as `config`.

    Modules: `transformer` (ModuleDict: `wte`, `wpe`, `drop`, `h`, `ln_f`) and `lm_head`, tied to `wte`.
    Source: Radford et al. 2019 (GPT-2); tied weights: Press and Wolf 2017.
    """

    def __init__(self, config):
        super().__init__()
        ### BEGIN SOLUTION
        self.config = config
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(config.vocab_size, config.d_model),     # what the token is
            "wpe": nn.Embedding(config.block_size, config.d_model),     # where it stands
            "drop": nn.Dropout(config.dropout),
            # A ModuleList, and a new Block each time: a plain list would hide the blocks from parameters().
            "h": nn.ModuleList([Block(config) for _ in range(config.n_layer)]),
            "ln_f": LayerNorm(config.d_model, bias=config.bias),
        })
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        # Tied: one Parameter with two names, not two that are equal.
        self.lm_head.weight = self.transformer.wte.weight               # (V, C)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                # 2 * n_layer of these add to the stream; together they shall widen it no more than one would.
                nn.init.normal_(parameter, mean=0.0, std=0.02 / math.sqrt(2 * config.n_layer))
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, mean=0.0, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            # What is left are the weights of the norms, and those are 1 already.
        ### END SOLUTION

    def forward(self, ids, targets=None):
        """Score every next token and, with targets, say how wrong the scores were.

        Args:
            ids: (B, T) token ids, T at most block_size.
            targets: (B, T) the ids that came next; -100 where a position does not count.

        Returns:
            (logits, loss): (B, T, V) and the mean cross entropy (), or None without targets.

        Raises:
            ValueError: T is larger than block_size.
        """
        ### BEGIN SOLUTION
        T = ids.shape[1]
        if T > self.config.block_size:
            raise ValueError(f"{T} tokens do not fit into a context of {self.config.block_size}")
        # Made on the device of the ids, so that this runs on a GPU without a change.
        positions = torch.arange(T, device=ids.device)                              # (T,)
        x = self.transformer.wte(ids) + self.transformer.wpe(positions)             # (B, T, C) + (T, C)
        x = self.transformer.drop(x)
        for block in self.transformer.h:
            x = block(x)                                                            # (B, T, C)
        logits = self.lm_head(self.transformer.ln_f(x))                             # (B, T, V)
        if targets is None:
            return logits, None
        # One row for each position of each text: (B*T, V) against (B*T,).
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
        return logits, loss
        ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_gpt", "locked": true, "points": 25, "schema_version": 3, "solution": false, "task": false}
torch.manual_seed(4)
config = GPTConfig(vocab_size=64, block_size=16, n_layer=3, n_head=4, d_model=32)
model = GPT(config)
assert model.config is config, "Keep the configuration as self.config."
names = [name for name, _ in model.transformer.named_children()]
assert sorted(names) == ["drop", "h", "ln_f", "wpe", "wte"], \
    f"transformer has wte, wpe, drop, h, ln_f; yours has {names}."
assert len(model.transformer.h) == 3, "transformer.h is a ModuleList with n_layer blocks."

ids = torch.arange(2 * 16).view(2, 16)
logits, loss = model(ids)
assert logits.shape == (2, 16, 64), f"The logits are (B, T, V) = (2, 16, 64); yours are {tuple(logits.shape)}."
assert loss is None, "Without targets the loss is None."

assert model.lm_head.weight is model.transformer.wte.weight, \
    "lm_head.weight and wte.weight must be one and the same Parameter, not two equal ones."
assert abs(model.transformer.h[0].attn.c_attn.weight.std() - 0.02) < 0.002, \
    "Weights start with standard deviation 0.02."
assert abs(model.transformer.h[1].mlp.c_proj.weight.std() - 0.02 / math.sqrt(6)) < 0.001, \
    "Each c_proj.weight starts with 0.02 / sqrt(2 * n_layer), here 0.00816. Do you look for the right name?"
assert model.transformer.h[2].mlp.c_fc.bias.abs().max() == 0, "Biases start at 0."
assert torch.equal(model.transformer.ln_f.weight, torch.ones(32)), "The weights of the norms start at 1."

targets = (ids + 1).clone()
_, loss = model(ids, targets)
assert loss.shape == (), "The loss is one number: the mean over all positions."
assert abs(loss.item() - math.log(64)) < 0.15, \
    f"A fresh model should be at ln 64 = 4.16; yours is at {loss.item():.2f}. Starting values? Really logits?"
targets[:, 8:] = -100
assert torch.allclose(model(ids, targets)[1], model(ids[:, :8], ids[:, :8] + 1)[1], atol=1e-5), \
    "Targets of -100 do not count, neither in the sum nor in the number it is divided by."

shifted = model(ids.flip(1))[0].flip(1)
assert not torch.allclose(shifted[0, 3], logits[0, 3], atol=1e-4), "The same token at another place: is wpe added?"
other = ids.clone()
other[:, 10:] = 5
assert torch.allclose(model(other)[0][:, :10], logits[:, :10], atol=1e-5), "The past changed when the future did."
try:
    model(torch.zeros(1, 17, dtype=torch.long))
except ValueError as error:
    assert "17" in str(error), "Let the message show the length that was too much."
else:
    raise AssertionError("17 tokens in a context of 16 must raise a ValueError.")
print("gpt: the visible checks pass.")

# %% [markdown]
# **Who sees whom.** Change one token, and see which logits move. The one at that place and the ones after it; never one before.

# %% tags=["demo"]
torch.set_num_threads(1)    # the models of this notebook are so small that they are quickest on one


def draw_influence():
    """Change each token in turn and measure how far each position's logits move."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=64, block_size=12, n_layer=2, n_head=2, d_model=32)).eval()
    ids = torch.randint(64, (1, 12))
    moved = torch.zeros(12, 12)
    with torch.no_grad():
        plain = model(ids)[0][0]
        for changed in range(12):
            other = ids.clone()
            other[0, changed] = (other[0, changed] + 1) % 64
            moved[:, changed] = (model(other)[0][0] - plain).norm(dim=-1)
    figure, axes = plt.subplots(figsize=(5, 4.2))
    image = axes.imshow(moved.clamp(min=1e-4).log10(), cmap="Blues")
    axes.set(xlabel="token that is changed", ylabel="position whose logits we watch")
    axes.set_title("nothing above the diagonal")
    figure.colorbar(image, label="how far they move (log10)")
    plt.show()


draw_influence()

# %% [markdown]
# **Why the starting values matter.** The width of the stream on its way through 24 fresh blocks: with `0.02 / √(2 · n_layer)` for the
# residual projections, and with plain `0.02`. To see the additions by themselves, both start from the same text.

# %% tags=["demo"]
def stream_widths(model, ids):
    """Standard deviation of the residual stream before the first block and after each."""
    x = model.transformer.wte(ids) + model.transformer.wpe(torch.arange(ids.shape[1]))
    widths = [x.std().item()]
    for block in model.transformer.h:
        x = block(x)
        widths.append(x.std().item())
    return widths


def draw_depth():
    """The stream's width through 24 blocks, with and without smaller residual projections."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=64, block_size=64, n_layer=24, n_head=4, d_model=128))
    ids = torch.randint(64, (2, 64))
    with torch.no_grad():
        scaled = stream_widths(model, ids)
        for name, parameter in model.named_parameters():
            if name.endswith("c_proj.weight"):
                parameter.mul_(math.sqrt(2 * 24))    # back to 0.02
        plain = stream_widths(model, ids)
    figure, axes = plt.subplots(figsize=(8, 3.2))
    axes.plot(plain, "o-", ms=3, color="#c0504d", label="0.02 everywhere")
    axes.plot(scaled, "o-", ms=3, color="#3b6fb6", label="0.02 / sqrt(2 n_layer)")
    axes.set(xlabel="blocks passed", ylabel="width of the stream", ylim=(0, None))
    axes.legend()
    plt.show()


draw_depth()

# %% [markdown]
# ## Task 5 · `count_parameters`
#
# *Difficulty 2/5 · about 15 minutes · 5 points*
#
# How large is a GPT? People who work with them answer that on a napkin, and knowing where the parameters sit tells you where memory and
# time go. Write the sum as a formula: no model is built, so GPT-3's 175 billion take no longer than your own small one.
#
# **By hand: GPT-2 small**, `V = 50257`, `block_size = 1024`, 12 layers, `C = 768`, with biases:
#
# | part | parameters | number |
# |---|---|---|
# | `wte` (and `lm_head`, tied: counted once) | `V · C` | 38,597,376 |
# | `wpe` | `block_size · C` | 786,432 |
# | in each block: `attn.c_attn` | `C · 3C + 3C` | 1,771,776 |
# | `attn.c_proj` | ? | |
# | `mlp.c_fc` | ? | |
# | `mlp.c_proj` | ? | |
# | `ln_1`, `ln_2` | ? | |
# | `ln_f` | `C + C` | 1,536 |
# | **together** | | **124,439,808** |
#
# Most of a block is `3C² + C² + 4C² + 4C² = 12C²`, and so the napkin says: a GPT has about `12 · n_layer · C²` parameters, plus its
# embeddings. Here you count exactly. Without `bias`, the linear layers and the norms have none.
#
# <details><summary>Hint 1: the idea</summary>
#
# Fill in the table. Then multiply the rows of the block by `n_layer`.
#
# </details>
# <details><summary>Hint 2: the biases</summary>
#
# `int(config.bias)` is 1 or 0, so "bias or not" is a factor. A linear layer from `a` to `b` has `a · b + bias · b` parameters.
#
# </details>
# <details><summary>Hint 3: the last resort</summary>
#
# In one block the four linear layers have `3C + C + 4C + C = 9C` biases, the two norms `2C` weights and `2C` biases. The number of heads plays no part: they
# share out the same matrices.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "count_parameters", "locked": false, "schema_version": 3, "solution": true, "task": false}
def count_parameters(config):
    """Count the parameters of GPT(config) by formula: a GPTConfig -> int.

    The tied head is counted once. No model is built.
    """
    ### BEGIN SOLUTION
    C, bias = config.d_model, int(config.bias)
    norm = C + bias * C
    # c_attn: C -> 3C, c_proj: C -> C, c_fc: C -> 4C, c_proj: 4C -> C
    attention = C * 3 * C + C * C + bias * (3 * C + C)
    mlp = C * 4 * C + 4 * C * C + bias * (4 * C + C)
    block = 2 * norm + attention + mlp
    # lm_head is not in the sum: it is wte once more.
    embeddings = config.vocab_size * C + config.block_size * C
    return embeddings + config.n_layer * block + norm
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_count_parameters", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
gpt2 = GPTConfig(vocab_size=50257, block_size=1024, n_layer=12, n_head=12, d_model=768)
counted = count_parameters(gpt2)
assert isinstance(counted, int), "The number of parameters is an int."
assert counted != 163_037_184, "You counted the tied head twice."
assert counted == 124_439_808, f"GPT-2 small has 124,439,808 parameters; you count {counted:,}."
small = GPTConfig(vocab_size=11, block_size=5, n_layer=2, n_head=1, d_model=3, bias=False)
assert count_parameters(small) == 33 + 15 + 2 * (2 * 3 + 12 * 9) + 3, \
    "Without bias: 12 C*C and two norms of C in each block."
print("count_parameters: the visible checks pass.")

# %% [markdown]
# **The napkin.** The published sizes, and where the parameters sit.

# %% tags=["demo"]
FAMILY = {
    "GPT-2 small": GPTConfig(50257, 1024, 12, 12, 768),
    "GPT-2 medium": GPTConfig(50257, 1024, 24, 16, 1024),
    "GPT-2 large": GPTConfig(50257, 1024, 36, 20, 1280),
    "GPT-2 XL": GPTConfig(50257, 1024, 48, 25, 1600),
    "GPT-3": GPTConfig(50257, 2048, 96, 96, 12288),
}


def show_napkin():
    """Exact counts beside the napkin's 12 n_layer C^2, and the shares as bars."""
    print(f"{'':14}{'layers':>7}{'width':>7}{'exact':>18}{'12·L·C²':>18}{'embeddings':>12}{'fp16':>10}")
    shares = {"embeddings": [], "attention": [], "feed-forward": []}
    for name, config in FAMILY.items():
        L, C = config.n_layer, config.d_model
        exact = count_parameters(config)
        embeddings = (config.vocab_size + config.block_size) * C
        print(f"{name:14}{L:7}{C:7}{exact:18,}{12 * L * C * C:18,}{embeddings / exact:12.1%}{2 * exact / 1e9:7.1f} GB")
        for part, size in zip(shares, (embeddings, 4 * L * C * C, 8 * L * C * C), strict=True):
            shares[part].append(100 * size / exact)
    figure, axes = plt.subplots(figsize=(9, 2.8))
    left = [0.0] * len(FAMILY)
    for (part, values), colour in zip(shares.items(), ("#9dbde3", "#f0b678", "#a5d29c"), strict=True):
        axes.barh(list(FAMILY), values, left=left, color=colour, label=part)
        left = [a + b for a, b in zip(left, values, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="share of all parameters, %", xlim=(0, 100))
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.25), frameon=False)
    plt.show()


show_napkin()

# %% [markdown]
# The last column is what the weights alone take on disk and in memory with two bytes for each. GPT-3 (Brown et al. 2020) is more than one
# GPU can hold; and in a small model nearly a third of all parameters are the dictionary, not the thinking.

# %% [markdown]
# ## Task 6 · `generate`
#
# *Difficulty 4/5 · about 45 minutes · 20 points*
#
# A GPT answers one question only: which token comes next? To write, we ask it, choose one, append it, and ask again. Everything lies in *how* we
# choose, because the model does not give a token but a score for each. For one step, `generate` does this, in this order:
#
# | | step | what it does |
# |---|---|---|
# | 1 | crop | the model can look at `block_size` tokens at most: hand it the *last* ones |
# | 2 | the last position | of the logits `(B, T, V)` only those of the last position count: `(B, V)` |
# | 3 | `temperature` | divide the logits. Below 1: bolder, the likely become likelier. Above 1: wilder. Exactly 0: take the most likely token, no dice |
# | 4 | `top_k` | keep the k largest logits; all others get probability 0 |
# | 5 | `top_p` | sort by probability, keep the *smallest* set whose sum reaches `p`; the token that reaches it stays in |
# | 6 | choose | `torch.multinomial(probabilities, 1, generator=generator)`, appended to `ids` |
#
# **By hand.** Four tokens with probabilities `0.5, 0.3, 0.15, 0.05`:
#
# | | a | b | c | d |
# |---|---|---|---|---|
# | as they are | 0.5 | 0.3 | 0.15 | 0.05 |
# | temperature 0.5 (squared, then made to sum to 1) | 0.685 | 0.247 | 0.062 | 0.007 |
# | `top_k=2` | 0.625 | 0.375 | 0 | 0 |
# | `top_p=0.7`: 0.5 is not enough, 0.8 is | 0.625 | 0.375 | 0 | 0 |
# | `top_p=0.4`: 0.5 is enough | 1 | 0 | 0 | 0 |
# | `top_k=2`, then `top_p=0.6`: 0.625 is enough | 1 | 0 | 0 | 0 |
#
# **Manners.** The model runs in eval mode (no dropout) and without gradients; afterwards it is in the mode it was in before, *also when something
# went wrong on the way*: use `try … finally`. Your `ids` are not changed; a longer tensor is returned. Arguments that make no sense
# (`temperature < 0`, `top_k < 1`, `top_p` outside `(0, 1]`) raise `ValueError` with the value in the message, whatever the other arguments are, also where they would play no
# part. A `top_k` larger than the vocabulary keeps everything.
#
# The checks do not use your GPT but a stand-in whose answers are known. `TableModel` looks up the logits for the next token in a table, in the row
# of the last token. It keeps a diary of how it was called, and in training mode it answers upside down, which nobody can overlook.

# %% nbgrader={"grade": false, "grade_id": "given_table_model", "locked": true, "schema_version": 3, "solution": false, "task": false}
class TableModel(nn.Module):
    """A model with known answers: the logits after a token stand in that token's row of a table.

    Args:
        table: (V, V); row i holds the logits for what follows token i.
        block_size: longest input; a longer one raises ValueError.
        memory: how much the logits of each position count at the next one. With 0 only the last token matters.
    """

    def __init__(self, table, block_size, memory=0.0):
        super().__init__()
        self.table = nn.Parameter(table.clone())
        self.memory = memory
        self.config = GPTConfig(vocab_size=len(table), block_size=block_size, n_layer=0, n_head=1, d_model=1)
        self.diary = []    # one line for each call: (tokens seen, training mode?, gradients on?)

    def forward(self, ids, targets=None):
        self.diary.append((ids.shape[1], self.training, torch.is_grad_enabled()))
        if ids.shape[1] > self.config.block_size:
            raise ValueError(f"{ids.shape[1]} tokens do not fit into a context of {self.config.block_size}")
        logits = [self.table[ids[:, 0]]]                                   # (B, V)
        for t in range(1, ids.shape[1]):
            logits.append(self.table[ids[:, t]] + self.memory * logits[-1])
        logits = torch.stack(logits, dim=1)                                # (B, T, V)
        return (-logits if self.training else logits), None


# %% [markdown]
# <details><summary>Hint 1: the idea</summary>
#
# Write greedy first: a loop, the crop, the last position, `argmax`, `torch.cat`. Get that right, then add the dice, then the filters, one by one.
#
# </details>
# <details><summary>Hint 2: the shapes</summary>
#
# The next ids are `(B, 1)`, so that they can be appended to `(B, T)` along dimension 1. `multinomial(…, 1)` gives that shape by itself; `argmax`
# does with `keepdim=True`.
#
# </details>
# <details><summary>Hint 3: top-k</summary>
#
# `logits.topk(k).values[:, -1:]` is the smallest logit that may stay, `(B, 1)`. Everything below it becomes `-inf`; softmax turns that into 0.
#
# </details>
# <details><summary>Hint 4: top-p</summary>
#
# Sort the probabilities, largest first, and take the running sum. A token goes if the sum of those *before* it has already reached `p`: the running sum
# minus the token's own probability. The first has 0 before it, so it always stays. Then put the probabilities back in their old places: `sort` gives you the order,
# and `scatter` undoes it.
#
# </details>
# <details><summary>Hint 5: the last resort</summary>
#
# Check the arguments before anything else. Remember `model.training`, call `model.eval()`, then `try:` the whole loop `with torch.no_grad():`, and `finally:` put the mode back.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "generate", "locked": false, "schema_version": 3, "solution": true, "task": false}
def generate(model, ids, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None):
    """Continue each text by max_new_tokens tokens, chosen one at a time.

    Args:
        model: called with (B, <= block_size) ids, returns (logits, loss); has `config.block_size`.
        ids: (B, T) the texts so far; T may be larger than block_size.
        max_new_tokens: how many to append.
        temperature: divides the logits; 0 takes the most likely token (greedy).
        top_k: keep the k largest logits; None or more than V keeps all.
        top_p: keep the smallest set of most likely tokens whose probability reaches p; None keeps all.
        generator: where the random numbers come from; None is torch's global one.

    Returns:
        (B, T + max_new_tokens).

    Raises:
        ValueError: temperature < 0, top_k < 1, or top_p outside (0, 1], whatever the others are.

    Source: Radford et al. 2019 (top-k), Holtzman et al. 2020 (top-p).
    """
    ### BEGIN SOLUTION
    if temperature < 0:
        raise ValueError(f"temperature must be 0 or more, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")

    # Every module has a mode of its own; all of them are put back, whatever happens in between.
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            for _ in range(max_new_tokens):
                window = ids[:, -model.config.block_size:]                          # (B, <= block_size)
                logits = model(window)[0][:, -1]                                    # (B, V)
                if temperature == 0:
                    next_ids = logits.argmax(dim=-1, keepdim=True)                  # (B, 1)
                else:
                    # At least float32: half precision is too coarse to add up a vocabulary.
                    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
                    if top_k is not None:
                        # The k-th largest logit of each row is the least that may stay.
                        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]    # (B, 1)
                        logits = logits.masked_fill(logits < least, float("-inf"))
                    probabilities = logits.softmax(dim=-1)                          # (B, V)
                    if top_p is not None:
                        ordered, order = probabilities.sort(dim=-1, descending=True)
                        # What the more likely ones have together: once that reaches p, no more are needed.
                        before = ordered.cumsum(dim=-1) - ordered                   # (B, V), first column 0
                        ordered = ordered.masked_fill(before >= top_p, 0.0)
                        # Back into the vocabulary's own order, and back to a sum of 1.
                        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered)
                        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
                    next_ids = torch.multinomial(probabilities, 1, generator=generator)     # (B, 1)
                ids = torch.cat([ids, next_ids], dim=1)                             # (B, T + 1)
    finally:
        for module, mode in modes:
            module.training = mode
    return ids
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_generate", "locked": true, "points": 20, "schema_version": 3, "solution": false, "task": false}
# After token 0 comes 1, after 1 comes 2, after 2 comes 3, after 3 comes 0: most likely, but not surely.
circle = TableModel(torch.log(torch.tensor([
    [0.05, 0.50, 0.30, 0.15],
    [0.15, 0.05, 0.50, 0.30],
    [0.30, 0.15, 0.05, 0.50],
    [0.50, 0.30, 0.15, 0.05],
])), block_size=3)
start = torch.tensor([[0], [2]])


def followers(**options):
    """Which tokens can follow token 0? Draws 400 times."""
    dice = torch.Generator().manual_seed(0)
    drawn = generate(circle, torch.zeros(400, 1, dtype=torch.long), 1, generator=dice, **options)
    return sorted(set(drawn[:, 1].tolist()))


greedy = generate(circle, start, 5, temperature=0)
assert greedy.shape == (2, 6), \
    f"(2, 1) and 5 new tokens make (2, 6); yours is {tuple(greedy.shape)}. Is the prompt in it?"
assert greedy.tolist() == [[0, 1, 2, 3, 0, 1], [2, 3, 0, 1, 2, 3]], \
    f"Greedy follows the circle; yours went {greedy.tolist()}. Last position? Eval mode?"
assert max(line[0] for line in circle.diary) == 3, \
    "Show the model all of the text that fits, not only the newest token."
assert generate(circle, torch.tensor([[0, 0, 0, 0, 3]]), 1, temperature=0)[0, -1] == 0, \
    "Of a prompt that is too long, the last tokens count."
assert start.tolist() == [[0], [2]], "The caller's ids must not change."
assert followers() == [0, 1, 2, 3], "With temperature 1 and no filter, every token can follow."
assert followers(top_k=1) == [1], f"top_k=1 leaves only the most likely token, 1; yours leaves {followers(top_k=1)}."
assert followers(top_k=2) == [1, 2], f"top_k=2 leaves two tokens, 1 and 2; yours leaves {followers(top_k=2)}."
assert followers(top_k=9) == [0, 1, 2, 3], "With top_k=9 and four tokens, all can follow."
assert followers(top_p=0.4) == [1], f"0.5 reaches 0.4, so one token stays; yours keeps {followers(top_p=0.4)}."
assert followers(top_p=0.7) == [1, 2], f"0.5 + 0.3 reaches 0.7, so two stay; yours keeps {followers(top_p=0.7)}."
assert followers(top_k=2, top_p=0.6) == [1], \
    "top_k first: of the two that stay, the first has 0.625, and that reaches 0.6."
one, two = (generate(circle, start, 8, generator=torch.Generator().manual_seed(5)) for _ in range(2))
assert torch.equal(one, two), "The same generator, the same text. Do you hand it to torch.multinomial?"
assert not any(line[1] for line in circle.diary), "The model ran in training mode."
assert not any(line[2] for line in circle.diary), "Gradients were on: nobody will ever need them here."
assert circle.training, "The model came in training mode; it must leave in training mode."
for bad in ({"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"temperature": 0.0, "top_k": -3}):
    try:
        generate(circle, start, 1, **bad)
    except ValueError as error:
        assert str(list(bad.values())[-1]) in str(error), f"{bad}: let the message show the value."
    else:
        raise AssertionError(f"{bad} must raise a ValueError.")
print("generate: the visible checks pass.")

# %% [markdown]
# **What the filters do.** The same eight scores under six settings. The bars are drawn from 4,000 tokens chosen by your own `generate`.

# %% tags=["demo"]
def draw_sampling():
    """Shares of 4,000 sampled tokens under several settings."""
    scores = torch.tensor([2.0, 1.6, 1.0, 0.6, 0.0, -0.4, -1.0, -1.6])
    model = TableModel(scores.repeat(8, 1), block_size=1)
    settings = [{}, {"temperature": 0.5}, {"temperature": 2.0}, {"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.8}]
    figure, all_axes = plt.subplots(1, 6, figsize=(13, 2.6), sharey=True)
    for axes, setting in zip(all_axes, settings, strict=True):
        dice = torch.Generator().manual_seed(0)
        chosen = generate(model, torch.zeros(4000, 1, dtype=torch.long), 1, generator=dice, **setting)[:, 1]
        axes.bar(range(8), chosen.bincount(minlength=8) / 4000, color="#3b6fb6")
        axes.plot(range(8), scores.softmax(0), ".", color="#c0504d", ms=4)
        axes.set(title=", ".join(f"{key}={value}" for key, value in setting.items()) or "as they are", xlabel="token")
    all_axes[0].set_ylabel("share")
    plt.show()


draw_sampling()

# %% [markdown]
# The red dots are the probabilities the model gave. Temperature moves all bars and removes none; `top_k` always keeps the same number; `top_p` keeps few where the
# model is sure and many where it is not.

# %% [markdown]
# ## Task 7 · `load_gpt2`
#
# *Difficulty 3/5 · about 30 minutes · 10 points*
#
# Your class has GPT-2's layout and names, so it can carry GPT-2's weights. The way they are usually stored, by Hugging Face's `transformers` library, differs from yours
# in four small ways:
#
# | in the file | in your model |
# |---|---|
# | keys may begin with `transformer.` or not: `transformer.h.0.ln_1.weight` or `h.0.ln_1.weight` | they begin with `transformer.` |
# | the weights of `c_attn`, `c_fc` and both `c_proj` are stored as `(in, out)`: GPT-2's own linear layer, called `Conv1D` | `nn.Linear` stores `(out, in)`: transpose them |
# | `h.0.attn.bias` and `h.0.attn.masked_bias` are old causal masks, not weights | skip them (but not `attn.c_attn.bias`!) |
# | `lm_head.weight` may be there, equal to `wte.weight`, or be left out | tied, so there is nothing to load |
#
# **All or nothing.** Half-loaded weights are the worst of all: the model runs, and writes nonsense. So first look at everything, then copy. A key that is missing, one that nobody knows, one
# with the wrong shape, or an `lm_head.weight` that is not equal to `wte.weight`: `ValueError` with that key in its message, and the model as it was.
#
# **By hand.** A model with `C = 6` wants `attn.c_attn.weight` as `(18, 6)`; the file has `(6, 18)`. `attn.c_proj.weight` is `(6, 6)` in both, and *still* has to
# be transposed: the shape will not tell you.
#
# <details><summary>Hint 1: the idea</summary>
#
# Two passes. The first turns the file's keys and tensors into your own names and shapes, and complains; it changes nothing. The second copies.
#
# </details>
# <details><summary>Hint 2: the names</summary>
#
# `model.state_dict()` is a dictionary from your names to your tensors (the real ones, not copies). `key.removeprefix("transformer.")` takes the prefix off where there is one.
#
# </details>
# <details><summary>Hint 3: the shapes</summary>
#
# `wte` and `wpe` are two-dimensional as well and are *not* transposed: go by the name of the layer, not by the number of dimensions.
#
# </details>
# <details><summary>Hint 4: the last resort</summary>
#
# `own[name].copy_(tensor)` under `torch.no_grad()` writes into the model. It also turns fp16 numbers from a file into the model's own type, and leaves the tie as it is.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "load_gpt2", "locked": false, "schema_version": 3, "solution": true, "task": false}
def load_gpt2(model, weights):
    """Copy a Hugging Face GPT-2 state_dict into a GPT, all of it or nothing.

    Args:
        model: a GPT.
        weights: dict from names to tensors; names with or without `transformer.`, Conv1D weights as (in, out).

    Raises:
        ValueError: a key is missing, unknown or ill-shaped, or `lm_head.weight` differs from `wte.weight`. The message
            names the key, and the model is unchanged.
    """
    ### BEGIN SOLUTION
    own = model.state_dict()    # our names -> the model's own tensors, not copies
    ready = {}                  # our names -> the tensors to be copied, in our layout
    for key, tensor in weights.items():
        name = key.removeprefix("transformer.")
        # Old files store the causal masks. Not to be confused with attn.c_attn.bias.
        if re.fullmatch(r"h\.\d+\.attn\.(masked_)?bias", name):
            continue
        if name != "lm_head.weight":
            name = "transformer." + name
        if name not in own or name in ready:
            raise ValueError(f"unknown key, or one given twice: {key}")
        # Conv1D keeps (in, out), nn.Linear (out, in). Decided by name: a square matrix would not tell.
        if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) and tensor.dim() == 2:
            tensor = tensor.T
        if tensor.shape != own[name].shape:
            raise ValueError(f"{key}: shape {tuple(weights[key].shape)} does not fit {tuple(own[name].shape)}")
        ready[name] = tensor

    # The head is wte; a file may repeat it, but not contradict it.
    head = ready.pop("lm_head.weight", None)
    for name in own:
        if name not in ready and name != "lm_head.weight":
            raise ValueError(f"missing key: {name}")
    if head is not None and not torch.equal(head, ready["transformer.wte.weight"].to(head.dtype)):
        raise ValueError("lm_head.weight differs from wte.weight, but this model ties them")

    # Only now, when nothing can go wrong any more, is anything written.
    with torch.no_grad():
        for name, tensor in ready.items():
            own[name].copy_(tensor)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_load_gpt2", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
def as_hugging_face(model, prefix="transformer."):
    """The state_dict of `model`, the way transformers would store it."""
    stored = {}
    for name, tensor in model.state_dict().items():
        turned = name.endswith(("c_attn.weight", "c_fc.weight", "c_proj.weight"))
        if name != "lm_head.weight":
            stored[prefix + name.removeprefix("transformer.")] = tensor.T.clone() if turned else tensor.clone()
    return stored


torch.manual_seed(0)
config = GPTConfig(vocab_size=11, block_size=5, n_layer=2, n_head=2, d_model=6)
source, ids = GPT(config).eval(), torch.tensor([[3, 1, 4, 1, 5]])
with torch.no_grad():
    for parameter in source.parameters():
        parameter.normal_(0, 0.3)
for prefix in ("transformer.", ""):
    weights = as_hugging_face(source, prefix)
    weights[prefix + "h.0.attn.bias"] = torch.ones(1, 1, 5, 5)
    weights[prefix + "h.1.attn.masked_bias"] = torch.tensor(-1e4)
    target = GPT(config).eval()
    load_gpt2(target, weights)
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), f"{name} did not arrive as it was (prefix: {prefix!r})."
    assert torch.equal(target(ids)[0], source(ids)[0]), "Same weights, same logits."
    assert target.lm_head.weight is target.transformer.wte.weight, "Loading must not untie the head."
load_gpt2(GPT(config), weights | {"lm_head.weight": weights["wte.weight"].clone()})


def refused(weights, key):
    """Is a ValueError raised that names the key, and is the model as it was?"""
    target = GPT(config)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    try:
        load_gpt2(target, weights)
    except ValueError as error:
        assert key in str(error), f"The message should name {key}; it says: {error}"
    else:
        return False
    for name, now in target.state_dict().items():
        assert torch.equal(before[name], now), f"The file was refused, but {name} had already changed."
    return True


good = as_hugging_face(source, "")
assert refused({key: good[key] for key in good if key != "ln_f.weight"}, "ln_f.weight"), "A missing key is an error."
assert refused(good | {"h.2.ln_1.weight": torch.ones(6)}, "h.2.ln_1.weight"), "An unknown key is an error."
assert refused(good | {"ln_f.bias": torch.ones(7)}, "ln_f.bias"), "A wrong shape is an error."
assert refused(good | {"lm_head.weight": torch.zeros(11, 6)}, "lm_head.weight"), \
    "A head that differs from wte is an error."
print("load_gpt2: the visible checks pass.")

# %% [markdown]
# ## It writes
#
# The file `data/shakespeare.safetensors` holds a small GPT, trained on Shakespeare's plays by the very loop that you will write in assignment 5. It has
# GPT-2's layout and names, its numbers are half precision, and its vocabulary is characters. Your `GPT` gives it a body, your
# `load_gpt2` puts the weights in, your `generate` lets it speak.

# %% tags=["demo"]
from safetensors import safe_open
from safetensors.torch import load_file

from autograder.data import checkpoint_path

with safe_open(checkpoint_path(), framework="pt") as file:
    metadata = file.metadata()
shakespeare_config = GPTConfig(**json.loads(metadata["config"]))
characters = json.loads(metadata["characters"])    # the character with id i stands at place i
shakespeare_model = GPT(shakespeare_config).eval()
load_gpt2(shakespeare_model, load_file(checkpoint_path()))
print(shakespeare_config)
print(f"{count_parameters(shakespeare_config):,} parameters, {len(characters)} characters: {characters!r}")


def encode(text):
    """Text to ids, as a batch of one: (1, T)."""
    return torch.tensor([[characters.index(character) for character in text]])


def decode(ids):
    """Ids to text."""
    return "".join(characters[i] for i in ids)


# %% [markdown]
# **What it expects.** For each prompt, the five likeliest next characters.

# %% tags=["demo"]
def draw_expectations(prompts=("ROMEO", "The k", "To be, or not to b", "First Citizen:\nWe are ")):
    """The model's five best guesses after each prompt."""
    figure, all_axes = plt.subplots(1, len(prompts), figsize=(13, 2.6), sharey=True)
    for axes, prompt in zip(all_axes, prompts, strict=True):
        with torch.no_grad():
            probabilities = shakespeare_model(encode(prompt))[0][0, -1].softmax(0)
        best = probabilities.topk(5)
        axes.bar([repr(characters[i]) for i in best.indices], best.values, color="#3b6fb6")
        axes.set(title=repr(prompt), ylim=(0, 1))
        axes.tick_params("x", labelsize=12, labelfontfamily="monospace")
    all_axes[0].set_ylabel("probability")
    plt.show()


draw_expectations()

# %% [markdown]
# **Side by side.** One prompt, one seed, six ways to choose.

# %% tags=["demo"]
def write_side_by_side(prompt="ROMEO:\n", length=300, width=38):
    """Continue one prompt under several settings; print the texts in columns."""
    settings = [{"temperature": 0.0}, {"temperature": 0.5}, {"temperature": 1.0},
                {"temperature": 1.5}, {"top_k": 5}, {"top_p": 0.8}]
    columns = []
    for setting in tqdm(settings, desc="writing", leave=False):
        dice = torch.Generator().manual_seed(7)
        text = decode(generate(shakespeare_model, encode(prompt), length, generator=dice, **setting)[0].tolist())
        lines = [piece for line in text.split("\n") for piece in textwrap.wrap(line, width) or [""]]
        columns.append([", ".join(f"{key}={value}" for key, value in setting.items()), "-" * width, *lines])
    for row in range(0, len(columns), 3):
        three = columns[row:row + 3]
        for line in range(min(18, max(len(column) for column in three))):
            print("  ".join((column[line] if line < len(column) else "").ljust(width) for column in three).rstrip())
        print()


write_side_by_side()

# %% [markdown]
# Greedy soon goes round in circles: the likeliest next character leads back to where it was. Temperature 1.5 has new words on every line, most of which do not exist. Between them lie
# `top_k` and `top_p`: varied where the model is unsure, strict where it is not. Change the prompt, the seed, the numbers.
#
# The text is far from Shakespeare, and the reason is not your code: this model has read one megabyte of text and has fewer parameters than GPT-2 has in one layer. The forward pass you wrote is the one that
# GPT-2 runs. How a model comes by its weights is assignment 5.

# %% [markdown]
# ## Written question
#
# *About 20 minutes · 10 points, read by a person. Three to six sentences for each part; a sketch of a calculation is welcome.*
#
# **(a)** In `GPT.__init__` the residual projections start with standard deviation `0.02 / √(2 · n_layer)`. Where does the `2 · n_layer` come from, and where the square root? What would happen to the
# residual stream of a fresh 48-layer model without it, compared to one of 12 layers?
#
# **(b)** A friend says: "`top_k=10` and `top_p=0.9` are the same thing, both keep the likely tokens." Describe a next-token distribution for which `top_k=10` keeps far too much, and one for which it
# keeps far too little, and say what `top_p=0.9` does in each.

# %% [markdown] nbgrader={"grade": true, "grade_id": "written_gpt", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
# **(a)** Each block adds to the stream twice, once after attention and once after the feed-forward layer, so `n_layer` blocks make `2 · n_layer` additions; each of them ends in a `c_proj`. At the start the added
# vectors are about independent, so their variances add up: `n` additions of variance `s²` give `n · s²`, a standard deviation of `√n · s`. Dividing each by `√(2 · n_layer)` makes the sum as wide as a single addition,
# however deep the model. Without it, the part of the stream that the blocks wrote would be `√96 ≈ 9.8` times as wide as one addition in a 48-layer model and `√24 ≈ 4.9` times in a 12-layer one: twice as wide for four times the
# depth. The embeddings would drown in it, and the last blocks, whose additions are small in comparison, would hardly matter at first.
#
# **(b)** After `ROMEO` nearly all probability is on the colon. `top_k=10` keeps nine other characters, all wrong, and picks one of them now and then; over a long text these slips add up. `top_p=0.9` keeps the colon alone. At the
# beginning of a sentence hundreds of words are about equally good. `top_k=10` throws away almost all of them, and the text becomes monotonous; `top_p=0.9` keeps as many as it takes to reach nine tenths, so the set grows with the
# model's doubt. (Any two distributions will do, one peaked and one flat, with what each filter keeps.)
#
# *Marking guide:* (a) 2 points for the number of additions, 2 for the root, 2 for the comparison (twice as wide); (b) 2 points for each distribution.
