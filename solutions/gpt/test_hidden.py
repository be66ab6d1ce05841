"""Hidden tests of `gpt`: from LayerNorm to a model that writes.

Most compare with the reference under the same weights, loaded strictly by name. The weights are *lively*, of order one
and not of order 0.02, so that a small mistake moves the result by much more than rounding does. Most is in float64.
"""

import contextlib
import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from autograder.compare import assert_close, assert_equal, assert_refuses, fail, require
from autograder.errors import CheckFailed, StudentError
from autograder.strategies import SEEDS, strided, tensors, values
from autograder.suite import task

F64, BF16 = torch.float64, torch.bfloat16

NOT_ALLOWED = {
    "layer_norm": (
        "layer_norm", "native_layer_norm", "LayerNorm", "rms_norm", "RMSNorm", "batch_norm", "native_batch_norm",
        "BatchNorm*",
        "SyncBatchNorm", "LazyBatchNorm*", "instance_norm", "InstanceNorm*", "LazyInstanceNorm*", "group_norm",
        "native_group_norm", "GroupNorm",
    ),
    "feed_forward": ("gelu", "gelu_", "GELU"),
}  # fmt: skip

# All sizes differ: vocabulary, context, layers, heads, width (and the width of one head, 4).
CONFIG = {"vocab_size": 13, "block_size": 7, "n_layer": 2, "n_head": 3, "d_model": 12}
# Another model altogether, without biases.
BARE = {"vocab_size": 9, "block_size": 6, "n_layer": 1, "n_head": 5, "d_model": 10, "bias": False}
PARTS = ("queries", "keys", "values")


def block_shapes(width, bias=True):
    """The parameters of one block, with their shapes."""
    C = width
    sizes = {
        "ln_1.weight": (C,), "ln_1.bias": (C,),
        "attn.c_attn.weight": (3 * C, C), "attn.c_attn.bias": (3 * C,),
        "attn.c_proj.weight": (C, C), "attn.c_proj.bias": (C,),
        "ln_2.weight": (C,), "ln_2.bias": (C,),
        "mlp.c_fc.weight": (4 * C, C), "mlp.c_fc.bias": (4 * C,),
        "mlp.c_proj.weight": (C, 4 * C), "mlp.c_proj.bias": (C,),
    }  # fmt: skip
    return {name: size for name, size in sizes.items() if bias or not name.endswith("bias")}


def gpt_shapes(config):
    """The parameters of a GPT, with their shapes."""
    C, bias = config["d_model"], config.get("bias", True)
    sizes = {"transformer.wte.weight": (config["vocab_size"], C), "transformer.wpe.weight": (config["block_size"], C)}
    for layer in range(config["n_layer"]):
        sizes |= {f"transformer.h.{layer}.{name}": size for name, size in block_shapes(C, bias).items()}
    sizes |= (
        {"transformer.ln_f.weight": (C,), "transformer.ln_f.bias": (C,)} if bias else {"transformer.ln_f.weight": (C,)}
    )
    return sizes | {"lm_head.weight": (config["vocab_size"], C)}


def lively(sizes, seed, scale=0.5):
    """Weights of order one for each name; norms around 1, and a head equal to the embedding."""
    weights = {
        name: values(seed + 7 * number, *size, scale=scale) + ("ln_" in name and name.endswith("weight"))
        for number, (name, size) in enumerate(sizes.items())
    }
    if "lm_head.weight" in weights:
        weights["lm_head.weight"] = weights["transformer.wte.weight"]
    return weights


def silenced(weights, *parts):
    """The weights with these sub-layers' last linear layer at zero."""
    return {
        name: torch.zeros_like(w) if any(f"{part}.c_proj" in name for part in parts) else w
        for name, w in weights.items()
    }


def load(module, weights):
    """Load the weights strictly by name; where that fails, say which name or shape is wrong."""
    try:
        module.load_state_dict(weights)
    except StudentError:
        names_are(module, {name: tuple(weight.shape) for name, weight in weights.items()})
        raise


def built(side, name, config, weights, dtype=F64):
    """A module of the notebook that is made of a configuration, in eval mode, with these weights."""
    module = side.new(name, side.new("GPTConfig", **config))
    module.to(dtype)
    load(module, weights)
    module.eval()
    return module


def token_ids(seed, config, batch, length):
    """Ids (batch, length) of the vocabulary."""
    return torch.randint(config["vocab_size"], (batch, length), generator=torch.Generator().manual_seed(seed))


def has_shape(tensor, size, dtype=F64, what="the result"):
    """A tensor of this shape and number type, whatever its values (but no NaN)."""
    assert_close(tensor, torch.zeros(size, dtype=dtype), rtol=0.0, atol=math.inf, what=what)


def quarter_is_zero(zero, what):
    """About a quarter of these are True: six standard errors on either side."""
    share, slack = zero.double().mean().item(), 6 * math.sqrt(0.25 * 0.75 / zero.numel())
    require(0.25 - slack < share < 0.25 + slack, f"{what}; yours: {share:.0%}.")


def names_are(module, sizes):
    """The parameters and buffers that are stored have these names and shapes."""
    stored = module.state_dict()
    for name, size in sizes.items():
        require(name in stored, f"The state_dict lacks `{name}`.")
        require(
            tuple(stored[name].shape) == size,
            f"`{name}` must have the shape {size}; yours has {tuple(stored[name].shape)}.",
        )
    extra = sorted(set(stored) - set(sizes))
    require(not extra, f"The state_dict holds something that does not belong there: `{extra[0] if extra else ''}`.")


def start_of(model):
    """The state_dict of a model as it is made; its names are those of GPT-2."""
    start = model.state_dict()
    for name in gpt_shapes(LARGE):
        require(name in start, f"The state_dict lacks `{name}`.")
    return start


def gradients_agree(mine, right, of=""):
    """Every parameter gets the right gradient; queries, keys and values apart."""
    for name, expected in right.items():
        got = mine.get(name, mine.get("lm_head.weight") if name == "transformer.wte.weight" else None)
        if got is None:
            fail(f"No gradient reaches `{name}`.")
        if "c_attn" in name and got.shape == expected.shape:
            for part, one, other in zip(PARTS, got.chunk(3), expected.chunk(3), strict=True):
                assert_close(one, other, what=f"the gradient of `{name}`, {part}{of}")
        else:
            assert_close(got, expected, what=f"the gradient of `{name}`{of}")


# ---------------------------------------------------------------------------------------------- layer_norm

# Two channels and more: with one, everything is zero.
WIDE = {"C": (3, 6)}


def norm_of(side, weight, bias, eps=1e-5, dtype=F64):
    """A LayerNorm with this weight and bias."""
    norm = side.new("LayerNorm", weight.shape[0], eps)
    norm.to(dtype)
    load(norm, {"weight": weight, "bias": bias})
    return norm


def fresh_norm(student, width, eps=1e-5):
    """A LayerNorm as it is made, in float64."""
    norm = student.new("LayerNorm", width, eps)
    norm.to(F64)
    return norm


@task("layer_norm", weight=2, examples=8)
@given(tensors("TC", bounds=WIDE), SEEDS)
def test_layer_norm_centres(student, x, seed):
    """Each token's numbers come out with mean 0, and in the same proportions to each other as before."""
    x = x[0] + values(seed, *x[0].shape) / 7
    centred = x - x.mean(-1, keepdim=True)
    y = fresh_norm(student, x.shape[-1])(x)
    assert_close(
        y.mean(-1) if isinstance(y, torch.Tensor) else y, torch.zeros(x.shape[:-1], dtype=F64), what="the mean"
    )
    likeness = F.cosine_similarity(y, centred, dim=-1) if y.shape == x.shape else y
    assert_close(likeness, torch.ones(x.shape[:-1], dtype=F64), what="the direction of a token's vector")


@task("layer_norm", weight=2, examples=8)
@given(tensors("TC", bounds=WIDE))
def test_layer_norm_fresh(student, reference, x):
    """A new LayerNorm brings each token to variance 1, the variance being divided by C."""
    (x,) = x
    y = fresh_norm(student, x.shape[-1])(x)
    assert_close(y, F.layer_norm(x, x.shape[-1:]))
    assert_close(y, fresh_norm(reference, x.shape[-1])(x))


@task("layer_norm", weight=3, examples=10)
@given(tensors("TC", "C", "C", bounds=WIDE, batch=False), st.sampled_from([(), (2,), (2, 4)]))
def test_layer_norm_values(student, reference, tensors, leading):
    """After normalising, each channel is multiplied by its weight, and its bias is added."""
    x, weight, bias = tensors
    x = x.expand(*leading, *x.shape) + values(3, *leading, 1, 1)
    y = norm_of(student, weight, bias)(x)
    assert_close(y, F.layer_norm(x, x.shape[-1:], weight, bias))
    assert_close(y, norm_of(reference, weight, bias)(x))


@task("layer_norm", weight=1, examples=8)
@given(tensors("TC", bounds=WIDE), st.sampled_from([0.1, 1.0]))
def test_layer_norm_eps(student, x, eps):
    """The number eps is added to the variance, under the root, and is the one that was asked for."""
    x = x[0] / 10
    assert_close(fresh_norm(student, x.shape[-1], eps)(x), F.layer_norm(x, x.shape[-1:], eps=eps))


@task("layer_norm", weight=1)
def test_layer_norm_parameters(student):
    """It has a weight of ones and a bias of zeros, both parameters, and nothing else is stored."""
    norm = student.new("LayerNorm", 5)
    names_are(norm, {"weight": (5,), "bias": (5,)})
    assert_close(norm.get("weight"), torch.ones(5), what="the weight at the start")
    assert_close(norm.get("bias"), torch.zeros(5), what="the bias at the start")
    for name in ("weight", "bias"):
        require(norm.get(f"{name}.requires_grad") is True, f"`{name}` must be a parameter that can be trained.")


@task("layer_norm", weight=1)
def test_layer_norm_without_bias(student):
    """With `bias=False` the attribute `bias` is None, and only the weight is stored and used."""
    norm = student.new("LayerNorm", 5, bias=False)
    require(norm.get("bias") is None, "With bias=False the attribute `bias` must be None.")
    names_are(norm, {"weight": (5,)})
    norm.to(F64)
    weight, x = values(1, 5), values(2, 3, 5)
    load(norm, {"weight": weight})
    assert_close(
        norm(x),
        norm_of(student, weight, torch.zeros(5, dtype=F64))(x),
        what="the result without a bias, compared with a bias of 0,",
    )


@task("layer_norm", weight=2, examples=6)
@given(tensors("TC", "TC", "C", "C", bounds=WIDE | {"T": (2, 4)}, batch=False))
def test_layer_norm_gradients(student, reference, tensors):
    """Gradients reach the input, the weight and the bias, and are right."""
    x, cotangent, weight, bias = tensors
    mine = norm_of(student, weight, bias).observe(x, gradient=cotangent)
    right = norm_of(reference, weight, bias).observe(x, gradient=cotangent)
    assert_close(mine.value, right.value)
    assert_close(mine.gradients[0], right.gradients[0], what="the gradient of the input")
    gradients_agree(mine.parameter_gradients, right.parameter_gradients)


@task("layer_norm", weight=1, needs="test_layer_norm_centres")
def test_layer_norm_constant_token(student):
    """A token whose numbers are all equal becomes zero, with finite gradients."""
    x = torch.full((2, 6), 4.0, dtype=F64)
    outcome = fresh_norm(student, 6).observe(x, gradient="sum")
    assert_close(outcome.value, torch.zeros_like(x))
    require(bool(outcome.gradients[0].isfinite().all()), "The gradient at a constant token is not finite.")


@task("layer_norm", weight=1, needs="test_layer_norm_fresh")
def test_layer_norm_manners(student):
    """It keeps the input's number type and device, changes nothing of its input, and nothing in it is random."""
    x, weight, bias = values(4, 2, 3, 5), values(5, 5), values(6, 5)
    outcome = norm_of(student, weight, bias).observe(x, inputs=True, randomness=True)
    assert_equal(outcome.inputs_after[0], x, what="the input after the call")
    require(not outcome.random_used, "The call changed the global random state; nothing here is random.")
    single = norm_of(student, weight, bias, dtype=torch.float32)(x.float())
    assert_close(single, F.layer_norm(x, (5,), weight, bias).float())
    half = norm_of(student, weight, bias, dtype=BF16)(x.to(BF16))
    assert_close(half, F.layer_norm(x, (5,), weight, bias).to(BF16), rtol=0.06, atol=0.06)
    norm = student.new("LayerNorm", 5)
    norm.to("meta")
    there = norm.observe(x.to("meta", torch.float32), strict_device=True).value
    assert_close(there, torch.empty(2, 3, 5, device="meta"))


# -------------------------------------------------------------------------------------------- feed_forward


def feed_forward(side, weights, dropout=0.0, dtype=F64, bias=True):
    """A FeedForward of width 6 with these weights, in eval mode."""
    mlp = side.new("FeedForward", 6, dropout, bias)
    mlp.to(dtype)
    load(mlp, weights)
    mlp.eval()
    return mlp


def mlp_shapes(width=6, bias=True):
    """The parameters of a FeedForward."""
    return {
        name.removeprefix("mlp."): size for name, size in block_shapes(width, bias).items() if name.startswith("mlp.")
    }


@task("feed_forward", weight=3, examples=10)
@given(tensors("TC", scale=5.0))
def test_gelu_values(student, reference, x):
    """`gelu` is GPT-2's form with tanh, at every number."""
    (x,) = x
    y = student.gelu(x)
    assert_close(y, F.gelu(x, approximate="tanh"))
    assert_close(y, reference.gelu(x))


@task("feed_forward", weight=1, examples=6)
@given(tensors("TC", "TC", scale=4.0))
def test_gelu_gradient(student, pair):
    """`gelu` has the right slope at every number."""
    x, cotangent = pair
    leaf = x.clone().requires_grad_()
    F.gelu(leaf, approximate="tanh").backward(cotangent)
    got = student.observe("gelu", x, gradient=cotangent).gradients[0]
    require(got is not None, "No gradient passes through `gelu`.")
    assert_close(got, leaf.grad, what="the gradient")


@task("feed_forward", weight=1)
def test_feed_forward_parameters(student):
    """The layers are `c_fc`, to four times the width, and `c_proj`, back again; `bias` goes for both."""
    names_are(student.new("FeedForward", 6), mlp_shapes())
    names_are(student.new("FeedForward", 5, 0.0, False), mlp_shapes(5, bias=False))


@task("feed_forward", weight=2)
def test_feed_forward_wiring(student):
    """Where gelu lets everything through (far above zero), the layer is `c_proj` after `c_fc`, and no more."""
    weights = lively(mlp_shapes(), 11)
    weights["c_fc.bias"] = weights["c_fc.bias"] + 40
    x = values(12, 3, 2, 6)
    expected = F.linear(
        F.linear(x, weights["c_fc.weight"], weights["c_fc.bias"]), weights["c_proj.weight"], weights["c_proj.bias"]
    )
    assert_close(feed_forward(student, weights)(x), expected)


@task("feed_forward", weight=3, examples=6)
@given(tensors("TC", bounds={"C": (6, 6)}), SEEDS)
def test_feed_forward_values(student, reference, x, seed):
    """The result is `c_proj` of gelu of `c_fc` of the input."""
    (x,) = x
    weights = lively(mlp_shapes(), seed)
    y = feed_forward(student, weights)(x)
    expected = feed_forward(reference, weights)(x)
    try:
        assert_close(y, expected)
    except CheckFailed:
        # A wrong gelu has cost its own points already; here it is enough to have used it rightly.
        hidden = student.gelu(F.linear(x, weights["c_fc.weight"], weights["c_fc.bias"]))
        has_shape(hidden, (*x.shape[:-1], 24), what="the result of `gelu`")
        y = feed_forward(student, weights)(x)  # once more: an example shows what was called last
        assert_close(y, F.linear(hidden, weights["c_proj.weight"], weights["c_proj.bias"]))


@task("feed_forward", weight=2, examples=4)
@given(tensors("TC", "TC", bounds={"C": (6, 6)}, batch=False), SEEDS)
def test_feed_forward_gradients(student, reference, pair, seed):
    """Gradients reach the input and every parameter, and are right."""
    x, cotangent = pair
    weights = lively(mlp_shapes(), seed)
    mine = feed_forward(student, weights).observe(x, gradient=cotangent)
    right = feed_forward(reference, weights).observe(x, gradient=cotangent)
    assert_close(mine.gradients[0], right.gradients[0], what="the gradient of the input")
    gradients_agree(mine.parameter_gradients, right.parameter_gradients)


@task("feed_forward", weight=1, needs="test_feed_forward_wiring")
def test_feed_forward_dropout(student):
    """Dropout sets numbers of the output to zero, in training only, and scales up the rest."""
    weights = lively(mlp_shapes(), 13)
    x = values(14, 8, 10, 6)
    mlp = feed_forward(student, weights, dropout=0.25)
    quiet = mlp.observe(x, randomness=True)
    require(not quiet.random_used, "Something is random in eval mode.")
    assert_close(mlp(x), quiet.value, what="a second result in eval mode")
    mlp.train()
    y = mlp.observe(x, seed=3).value
    scaled = quiet.value / 0.75
    assert_close(torch.where(y == 0, scaled, y), scaled, what="what dropout lets through in training")
    quarter_is_zero(y == 0, "With dropout 0.25 about a quarter of the output must be zero in training")
    for whole, name in ((-1, "tokens"), ((0, 1), "channels")):
        gone = (y == 0).double().mean(whole)
        require(
            bool(((gone > 0) & (gone < 1)).any()),
            f"Dropout must decide about each number by itself; yours drops whole {name}.",
        )


@task("feed_forward", weight=1, needs="test_feed_forward_wiring")
def test_feed_forward_manners(student, reference):
    """Number type and device stay, the input is not changed, and nothing is random."""
    weights, x = lively(mlp_shapes(), 15), values(16, 2, 3, 6)
    outcome = feed_forward(student, weights).observe(x, inputs=True, randomness=True)
    assert_equal(outcome.inputs_after[0], x, what="the input after the call")
    require(not outcome.random_used, "The call changed the global random state; nothing here is random.")
    before = student.observe("gelu", x, inputs=True, randomness=True)
    assert_equal(before.inputs_after[0], x, what="the input of `gelu` after the call")
    require(student.gelu(x.to(BF16)).dtype == BF16, "`gelu` of bfloat16 numbers must be bfloat16.")
    half = feed_forward(student, weights, dtype=BF16)(x.to(BF16))
    right = feed_forward(reference, weights, dtype=BF16)(x.to(BF16))
    assert_close(half, right, rtol=0.1, atol=0.1)
    mlp = student.new("FeedForward", 6)
    mlp.to("meta")
    there = mlp.observe(torch.empty(2, 6, device="meta"), strict_device=True).value
    assert_close(there, torch.empty(2, 6, device="meta"))


# --------------------------------------------------------------------------------------------------- block


def stream(seed, config, batch=2, length=5):
    """Something to send through a block: (batch, length, C)."""
    return values(seed, batch, length, config["d_model"])


@task("block", weight=1)
def test_block_parameters(student):
    """A block holds `ln_1`, `attn`, `ln_2`, `mlp`, each with weights of its own, and no mask is stored."""
    names_are(student.new("Block", student.new("GPTConfig", **CONFIG)), block_shapes(12))


@task("block", weight=1)
def test_block_without_bias(student):
    """With `bias=False` neither norms nor linear layers have a bias."""
    names_are(student.new("Block", student.new("GPTConfig", **BARE)), block_shapes(10, bias=False))


@task("block", weight=2, examples=3)
@given(SEEDS)
def test_block_attention(student, reference, seed):
    """With a silent `mlp`, the block gives `x + attn(ln_1(x))`."""
    weights, x = silenced(lively(block_shapes(12), seed), "mlp"), stream(seed, CONFIG)
    assert_close(built(student, "Block", CONFIG, weights)(x), built(reference, "Block", CONFIG, weights)(x))


@task("block", weight=2, examples=3)
@given(SEEDS)
def test_block_feed_forward(student, reference, seed):
    """With a silent `attn`, the block gives `x + mlp(ln_2(x))`."""
    weights, x = silenced(lively(block_shapes(12), seed), "attn"), stream(seed, CONFIG)
    assert_close(built(student, "Block", CONFIG, weights)(x), built(reference, "Block", CONFIG, weights)(x))


@task("block", weight=3, examples=6)
@given(SEEDS, st.sampled_from([CONFIG, BARE]), st.sampled_from([(1, 1), (3, 5), (2, 6)]))
def test_block_values(student, reference, seed, config, size):
    """The block adds `attn(ln_1(x))`, then `mlp(ln_2(x))`, to the stream."""
    weights = lively(block_shapes(config["d_model"], config.get("bias", True)), seed)
    x = stream(seed, config, *size)
    assert_close(built(student, "Block", config, weights)(x), built(reference, "Block", config, weights)(x))


@task("block", weight=2, examples=3)
@given(SEEDS)
def test_block_gradients(student, reference, seed):
    """Gradients reach the input and every parameter (queries, keys and values alike), and are right."""
    weights, x = lively(block_shapes(12), seed), stream(seed, CONFIG)
    cotangent = stream(seed + 1, CONFIG)
    mine = built(student, "Block", CONFIG, weights).observe(x, gradient=cotangent)
    right = built(reference, "Block", CONFIG, weights).observe(x, gradient=cotangent)
    assert_close(mine.gradients[0], right.gradients[0], what="the gradient of the input")
    gradients_agree(mine.parameter_gradients, right.parameter_gradients)


@task("block", weight=1, needs="test_block_attention")
def test_block_silent(student):
    """With both sub-layers silent, the stream leaves the block exactly as it came."""
    x = stream(21, CONFIG)
    block = built(student, "Block", CONFIG, silenced(lively(block_shapes(12), 22), "attn", "mlp"))
    assert_close(block(x), x)


@task("block", weight=1, needs="test_block_attention")
def test_block_independence(student):
    """No token hears of a later one, and no text of another in the batch."""
    block, x = built(student, "Block", CONFIG, lively(block_shapes(12), 23)), stream(24, CONFIG, 3, 5)
    y = block(x)
    other = torch.cat([x[:, :3], 2 - x[:, 3:]], dim=1)
    assert_close(block(other)[:, :3], y[:, :3], what="the past, after the future changed,")
    assert_close(block(x[1:2]), y[1:2], what="a text by itself, compared with the same in a batch,")


@task("block", weight=1, needs="test_block_feed_forward")
def test_block_dropout(student):
    """The dropout of the configuration acts in both sub-layers, in training only."""
    config = CONFIG | {"dropout": 0.25}
    weights, x = lively(block_shapes(12), 25), stream(26, CONFIG, 4, 7)
    block = built(student, "Block", config, silenced(weights, "attn"))
    added = block(x) - x
    outcome = block.observe(x, randomness=True)
    require(not outcome.random_used, "Something is random in eval mode.")
    assert_close(block.get("attn.dropout"), 0.25, what="the dropout handed to `attn`")
    block.train()
    got = block.observe(x, seed=1).value - x
    nothing = got.abs() < 1e-9
    quarter_is_zero(nothing, "With dropout 0.25, `mlp` must add nothing at about a quarter of the places in training")
    assert_close(torch.where(nothing, added / 0.75, got), added / 0.75, what="what `mlp` adds in training")


@task("block", weight=1, needs="test_block_attention")
def test_block_manners(student):
    """The input is not changed, number type and device stay, nothing is random."""
    weights, x = lively(block_shapes(12), 27), stream(28, CONFIG)
    outcome = built(student, "Block", CONFIG, weights).observe(x, inputs=True, randomness=True)
    assert_equal(outcome.inputs_after[0], x, what="the input after the call")
    require(not outcome.random_used, "The call changed the global random state; nothing here is random.")
    half = built(student, "Block", CONFIG, weights, BF16)(x.to(BF16))
    assert_close(half, outcome.value.to(BF16), rtol=0.1, atol=0.25)
    block = student.new("Block", student.new("GPTConfig", **CONFIG))
    block.to("meta")
    there = block.observe(x.to("meta", torch.float32), strict_device=True).value
    assert_close(there, torch.empty(2, 5, 12, device="meta"))


# ----------------------------------------------------------------------------------------------------- gpt


def logits_of(model, ids):
    """The logits of a model, after a look at what came with them."""
    answer = model(ids)
    require(isinstance(answer, tuple) and len(answer) == 2, "The model must return two things: (logits, loss).")
    return answer[0]


@task("gpt", weight=2)
def test_gpt_parameters(student):
    """Parameters have GPT-2's names and shapes, no mask is stored, and the configuration is kept."""
    for config in (CONFIG, BARE):
        model = student.new("GPT", student.new("GPTConfig", **config))
        names_are(model, gpt_shapes(config))
        for name, value in config.items():
            assert_equal(model.get(f"config.{name}"), value, what=f"`config.{name}`")


@task("gpt", weight=2, examples=4)
@given(SEEDS, st.sampled_from([1, 4, 7]))
def test_gpt_silent_blocks(student, reference, seed, length):
    """With silent blocks, the logits are the head's view of the normalised sum of token and position."""
    weights = silenced(lively(gpt_shapes(CONFIG), seed), "attn", "mlp")
    ids = token_ids(seed, CONFIG, 2, length)
    assert_close(
        logits_of(built(student, "GPT", CONFIG, weights), ids),
        built(reference, "GPT", CONFIG, weights)(ids)[0],
        what="the logits",
    )


@task("gpt", weight=4, examples=8)
@given(SEEDS, st.sampled_from([CONFIG, BARE]), st.sampled_from([(1, 1), (3, 4), (2, 6)]))
def test_gpt_logits(student, reference, seed, config, size):
    """The logits are right, at every position."""
    weights, ids = lively(gpt_shapes(config), seed), token_ids(seed, config, *size)
    model = built(student, "GPT", config, weights)
    assert_close(logits_of(model, ids), built(reference, "GPT", config, weights)(ids)[0], what="the logits")


@task("gpt", weight=1)
def test_gpt_loss_of_ignorance(student):
    """A model whose weights are all zero thinks every token equally likely: its loss is ln V."""
    model = built(student, "GPT", CONFIG, {name: torch.zeros(size) for name, size in gpt_shapes(CONFIG).items()})
    answer = model(token_ids(1, CONFIG, 3, 5), token_ids(2, CONFIG, 3, 5))
    require(isinstance(answer, tuple) and len(answer) == 2, "The model must return two things: (logits, loss).")
    assert_close(answer[1], torch.tensor(math.log(13), dtype=F64), what="the loss")


@task("gpt", weight=3, examples=8)
@given(SEEDS, st.sampled_from([(1, 3), (3, 5), (2, 7)]), st.integers(0, 3))
def test_gpt_loss(student, reference, seed, size, ignored):
    """The loss is the mean cross entropy over the targets that count, at the position where they stand."""
    weights, ids, targets = (
        lively(gpt_shapes(CONFIG), seed),
        token_ids(seed, CONFIG, *size),
        token_ids(seed + 1, CONFIG, *size),
    )
    if ignored and targets.numel() > ignored:
        targets.view(-1)[
            torch.randperm(targets.numel(), generator=torch.Generator().manual_seed(seed))[:ignored]
        ] = -100
    answer = built(student, "GPT", CONFIG, weights)(ids, targets)
    require(isinstance(answer, tuple) and len(answer) == 2, "The model must return two things: (logits, loss).")
    logits, loss = answer
    right = built(reference, "GPT", CONFIG, weights)(ids, targets)
    try:
        assert_close(loss, right[1], what="the loss")
    except CheckFailed:
        # Wrong logits have cost their own points already; here it is enough to have judged them rightly.
        has_shape(logits, right[0].shape, what="the logits")
        assert_close(loss, F.cross_entropy(logits.flatten(0, 1), targets.flatten()), what="the loss")


@task("gpt", weight=3, examples=3)
@given(SEEDS, st.sampled_from([CONFIG, BARE]))
def test_gpt_gradients(student, reference, seed, config):
    """Gradients reach every parameter (queries, keys and values alike; `wte` from both its uses), and are right."""
    weights = lively(gpt_shapes(config), seed)
    ids, targets = token_ids(seed, config, 3, 5), token_ids(seed + 1, config, 3, 5)
    model = built(student, "GPT", config, weights)
    loss = model.keep("forward", ids, targets).keep("__getitem__", 1)
    learns = loss.handle.type == "Tensor" and loss.get("requires_grad") is True
    require(learns, "No gradient passes through the loss: `.detach()` or `.item()` cuts it off.")
    mine = model.observe(ids, targets, gradient="sum")
    right = built(reference, "GPT", config, weights).observe(ids, targets, gradient="sum")
    gradients_agree(mine.parameter_gradients, right.parameter_gradients, " (of logits and loss together)")


def is_tied(student, model, when):
    """What is done to the Parameter of the head is done to that of the embedding: they are one."""
    for trained in (False, True):
        student.set(model.keep("lm_head.weight"), "requires_grad", trained)
        require(
            model.get("transformer.wte.weight.requires_grad") is trained,
            f"{when}, `lm_head.weight` and `transformer.wte.weight` must be one and the same Parameter; yours are two.",
        )


@task("gpt", weight=2)
def test_gpt_tied(student):
    """The head's weight and the embedding's are one Parameter: not two that are equal."""
    is_tied(student, student.new("GPT", student.new("GPTConfig", **CONFIG)), "In a new model")


@task("gpt", weight=1)
def test_gpt_stays_tied(student):
    """The tie survives another number type, a copy, and loading."""
    model = student.new("GPT", student.new("GPTConfig", **CONFIG))
    model.to(F64)
    is_tied(student, model, "After .to(float64)")
    weights = lively(gpt_shapes(CONFIG), 31)
    load(model, weights)
    is_tied(student, model, "After load_state_dict")
    assert_close(model.get("lm_head.weight"), weights["transformer.wte.weight"], what="`lm_head.weight` after loading")
    is_tied(student, student.keep("deepcopy", model), "After deepcopy")


# Enough numbers for narrow bounds: six standard errors on either side, so that a right model never fails.
LARGE = {"vocab_size": 211, "block_size": 90, "n_layer": 3, "n_head": 2, "d_model": 48}


def has_deviation(weight, expected, what):
    """Mean 0 and this standard deviation, as far as the number of samples can tell."""
    n, weight = weight.numel(), weight.double()
    deviation, mean = weight.std().item(), weight.mean().item()
    slack = 6 / math.sqrt(2 * n)
    require(
        1 - slack < deviation / expected < 1 + slack,
        f"{what} starts with the wrong standard deviation: {deviation:.4f} measured over {n} numbers.",
    )
    require(abs(mean) < 6 * expected / math.sqrt(n), f"{what} does not start with mean 0: {mean:.5f}.")
    require(
        weight.abs().max().item() > 2.2 * expected,
        f"{what} does not start normally distributed: the tails are missing.",
    )


@task("gpt", weight=2)
def test_gpt_initial_weights(student):
    """Embeddings and linear layers start normal with standard deviation 0.02."""
    config = student.new("GPTConfig", **LARGE)
    start = start_of(student.new("GPT", config))
    names = [
        name for name in gpt_shapes(LARGE) if name.endswith(("wte.weight", "wpe.weight", "c_attn.weight", "c_fc.weight"))
    ]
    for name in names:
        has_deviation(start[name], 0.02, f"`{name}`")
    # Of 62,832 normal numbers 29 lie beyond 3.5 deviations; that none does has a chance of 2e-13.
    farthest = max(start[name].abs().max().item() for name in names)
    require(farthest > 3.5 * 0.02, f"The weights start cut off at {farthest:.4f}; a normal distribution has no end.")
    other = start_of(student.new("GPT", config))
    require(
        not torch.equal(start[names[0]], other[names[0]]),
        "Two new models start with the same weights: the seed belongs to whoever builds them, not into the model.",
    )


@task("gpt", weight=2)
def test_gpt_initial_projections(student):
    """Every `c_proj.weight` starts smaller by the square root of 2 n_layer."""
    start = start_of(student.new("GPT", student.new("GPTConfig", **LARGE)))
    for name in gpt_shapes(LARGE):
        if name.endswith("c_proj.weight"):
            has_deviation(start[name], 0.02 / math.sqrt(6), f"`{name}`")


@task("gpt", weight=1)
def test_gpt_initial_biases_and_loss(student):
    """Biases start at 0 and norms at 1, and a new model is about as sure as a guess: its loss is near ln V."""
    model = student.new("GPT", student.new("GPTConfig", **LARGE))
    start = start_of(model)
    for name, size in gpt_shapes(LARGE).items():
        if name.endswith("bias"):
            assert_equal(start[name], torch.zeros(size), what=f"`{name}` at the start")
        elif "ln_" in name:
            assert_equal(start[name], torch.ones(size), what=f"`{name}` at the start")
    model.eval()
    loss = model(token_ids(1, LARGE, 4, 60), token_ids(2, LARGE, 4, 60))[1]
    require(
        isinstance(loss, torch.Tensor) and loss.numel() == 1, "With targets, the second thing returned must be the loss."
    )
    require(
        abs(loss.item() / math.log(211) - 1) < 0.02,
        f"A new model over 211 tokens must have a loss near ln 211 = 5.35; yours has {loss.item():.3f}.",
    )


@task("gpt", weight=1, needs="test_gpt_silent_blocks")
def test_gpt_context(student):
    """A text as long as the context is welcome; a longer one raises ValueError with its length."""
    model = built(student, "GPT", CONFIG, lively(gpt_shapes(CONFIG), 32))
    require(
        tuple(logits_of(model, token_ids(3, CONFIG, 1, 7)).shape) == (1, 7, 13),
        "A text that fills the context must work.",
    )
    assert_refuses(model, token_ids(3, CONFIG, 1, 8), shows="8")
    assert_refuses(model, token_ids(3, CONFIG, 2, 11), token_ids(4, CONFIG, 2, 11), shows="11")


@task("gpt", weight=1, needs="test_gpt_silent_blocks")
def test_gpt_without_targets(student):
    """Without targets the loss is None, and the logits are those for every position, as with targets."""
    model, ids = built(student, "GPT", CONFIG, lively(gpt_shapes(CONFIG), 33)), token_ids(5, CONFIG, 2, 5)
    logits, loss = model(ids)
    require(loss is None, "Without targets the loss must be None.")
    gradient = model.observe(ids, gradient="sum").parameter_gradients.get("transformer.wpe.weight")
    require(gradient is not None, "Gradients must pass through the logits without targets, too.")
    assert_close(model(ids, token_ids(6, CONFIG, 2, 5))[0], logits, what="the logits when targets are given")


@task("gpt", weight=1, needs="test_gpt_silent_blocks")
def test_gpt_independence(student):
    """The past does not change with the future, a prefix gives what the whole text gives, and texts do not mix."""
    model, ids = built(student, "GPT", CONFIG, lively(gpt_shapes(CONFIG), 34)), token_ids(7, CONFIG, 3, 6)
    logits = logits_of(model, ids)
    other = torch.cat([ids[:, :4], (ids[:, 4:] + 1) % 13], dim=1)
    assert_close(logits_of(model, other)[:, :4], logits[:, :4], what="the past, after the future changed,")
    for length in (1, 3):
        assert_close(
            logits_of(model, ids[:, :length]), logits[:, :length], what="a prefix, compared with the whole text,"
        )
    assert_close(logits_of(model, ids[1:2]), logits[1:2], what="a text by itself, compared with the same in a batch,")


# Room for many positions, each with a token of its own and as many tokens again that never stand in the text.
ROOMY = {"vocab_size": 80, "block_size": 40, "n_layer": 2, "n_head": 3, "d_model": 12, "dropout": 0.25}


@task("gpt", weight=1, needs="test_gpt_silent_blocks")
def test_gpt_dropout(student):
    """Dropout acts on the sum of token and position, and in every block, and nowhere else; in training only."""
    weights, ids = lively(gpt_shapes(ROOMY), 35), torch.arange(40)[None]
    model = built(student, "GPT", ROOMY, silenced(weights, "attn", "mlp"))
    quiet = model.observe(ids, randomness=True)
    require(not quiet.random_used, "Something is random in eval mode.")
    for layer in range(2):
        assert_close(model.get(f"transformer.h.{layer}.attn.dropout"), 0.25, what="the dropout handed to a block")
    # The way back shows what was dropped: where nothing comes through, no gradient does. Only the logits of tokens
    # that are not in the text are asked for, so that `wte` gets none as the head.
    cotangent = torch.cat([torch.zeros(1, 40, 40, dtype=F64), values(36, 1, 40, 40)], dim=-1)
    model.train()
    gradients = model.observe(ids, gradient=cotangent, seed=1).parameter_gradients
    token = gradients.get("transformer.wte.weight", gradients.get("lm_head.weight"))
    place = gradients.get("transformer.wpe.weight")
    require(token is not None and place is not None, "No gradient reaches the embeddings in training.")
    require(
        torch.allclose(token[:40], place),
        "Dropout must act once, on the sum of token and position: what is dropped of the one is dropped of the other.",
    )
    quarter_is_zero(place == 0, "With dropout 0.25 about a quarter of that sum must be zero in training")
    # With a last norm that gives the same whatever comes, the logits are the same whatever was dropped before it.
    model = built(student, "GPT", ROOMY, weights | {"transformer.ln_f.weight": torch.zeros(12)})
    still = logits_of(model, ids)
    model.train()
    assert_close(logits_of(model, ids), still, what="the logits in training, with `ln_f` the same for all inputs,")
    calm = built(student, "GPT", ROOMY | {"dropout": 0.0}, weights)
    still = logits_of(calm, ids)
    calm.train()
    assert_close(logits_of(calm, ids), still, what="the logits in training, without dropout,")


@task("gpt", weight=1, needs="test_gpt_silent_blocks")
def test_gpt_devices(student):
    """It runs on another device: nothing in `forward` is made on the CPU by accident."""
    model = student.new("GPT", student.new("GPTConfig", **CONFIG))
    model.to("meta")
    ids = torch.zeros(2, 5, dtype=torch.long, device="meta")
    logits, loss = model.observe(ids, ids, strict_device=True).value
    assert_close(logits, torch.empty(2, 5, 13, device="meta"), what="the logits")
    assert_close(loss, torch.empty((), device="meta"), what="the loss")


@task("gpt", weight=1, needs="test_gpt_silent_blocks")
def test_gpt_manners(student, reference):
    """Number types are kept, ids and targets are not changed, and may lie in memory in any order."""
    weights, ids, targets = lively(gpt_shapes(CONFIG), 36), token_ids(9, CONFIG, 3, 5), token_ids(10, CONFIG, 3, 5)
    targets[1, 2:] = -100
    model = built(student, "GPT", CONFIG, weights)
    plain = model.observe(ids, targets, inputs=True, randomness=True)
    for place, (name, before) in enumerate((("ids", ids), ("targets", targets))):
        assert_equal(plain.inputs_after[place : place + 1], [before], what=f"the {name} after the call")
    require(not plain.random_used, "The call changed the global random state; nothing here is random.")
    assert_close(
        model(strided(ids), strided(targets)),
        plain.value,
        what="the answer for ids and targets that are not contiguous",
    )
    calm = {name: weight * (1 if "ln_" in name else 0.4) for name, weight in weights.items()}
    half = logits_of(built(student, "GPT", CONFIG, calm, BF16), ids)
    assert_close(
        half,
        logits_of(built(reference, "GPT", CONFIG, calm, BF16), ids),
        rtol=0.1,
        atol=0.15,
        what="the logits in bfloat16",
    )


# ---------------------------------------------------------------------------------------- count_parameters


def counted(student, *sizes, **more):
    """The student's number for a configuration."""
    return student.count_parameters(student.new("GPTConfig", *sizes, **more))


def added_up(config):
    """The number from the shapes, the tied head once."""
    return sum(math.prod(size) for name, size in gpt_shapes(config).items() if name != "lm_head.weight")


@task("count_parameters", weight=2, examples=8)
@given(st.integers(1, 99), st.integers(1, 50), st.integers(1, 5), st.integers(1, 4), st.integers(1, 9))
def test_count_without_bias(student, vocabulary, context, layers, heads, width):
    """Without biases: embeddings, four matrices a layer, and the weights of the norms, the tied head counted once."""
    config = dict(
        vocab_size=vocabulary, block_size=context, n_layer=layers, n_head=heads, d_model=heads * width, bias=False
    )
    assert_equal(counted(student, **config), added_up(config), what="the number of parameters")


@task("count_parameters", weight=2, examples=8)
@given(st.integers(1, 99), st.integers(1, 50), st.integers(1, 5), st.integers(1, 4), st.integers(1, 9))
def test_count_with_bias(student, reference, vocabulary, context, layers, heads, width):
    """With biases: those of the linear layers and of the norms are counted as well."""
    config = dict(vocab_size=vocabulary, block_size=context, n_layer=layers, n_head=heads, d_model=heads * width)
    number = counted(student, **config)
    assert_equal(number, added_up(config), what="the number of parameters")
    assert_equal(number, counted(reference, **config), what="the number of parameters")


@task("count_parameters", weight=1)
def test_count_published(student):
    """The published sizes of GPT-2 come out, and those of GPT-3 and larger at once, as no model is built."""
    sizes = {
        (12, 12, 768): 124_439_808, (24, 16, 1024): 354_823_168,
        (36, 20, 1280): 774_030_080, (48, 25, 1600): 1_557_611_200,
    }  # fmt: skip
    for size, published in sizes.items():
        assert_equal(counted(student, 50257, 1024, *size), published, what="the number of parameters of a GPT-2")
    giant = dict(vocab_size=50257, block_size=2048, n_layer=96, n_head=96, d_model=12288)
    assert_equal(counted(student, **giant), 174_604_259_328, what="the number of parameters of GPT-3")
    tower = giant | {"n_layer": 30_000}
    expected = 174_604_259_328 + (30_000 - 96) * sum(math.prod(size) for size in block_shapes(12288).values())
    assert_equal(counted(student, **tower), expected, what="the number of parameters of a tower of 30,000 blocks")


# ------------------------------------------------------------------------------------------------ generate

# What follows each of five tokens, as probabilities; every row has another favourite.
CIRCLE = torch.tensor([
    [0.03, 0.45, 0.28, 0.16, 0.08],
    [0.08, 0.03, 0.45, 0.28, 0.16],
    [0.16, 0.08, 0.03, 0.45, 0.28],
    [0.28, 0.16, 0.08, 0.03, 0.45],
    [0.45, 0.28, 0.16, 0.08, 0.03],
], dtype=F64).log()  # fmt: skip


def table(side, logits=CIRCLE, block_size=9, memory=0.0, *, training=False):
    """A model whose answers stand in a table."""
    model = side.new("TableModel", logits, block_size, memory)
    (model.train if training else model.eval)()
    return model


def random_table(seed, size=5):
    """A table of lively logits without equals in a row."""
    return values(seed, size, size) + torch.linspace(0, 0.05, size, dtype=F64)


def followers(student, token=0, logits=CIRCLE, draws=400, **options):
    """Which tokens can follow `token`? Drawn often enough to meet each of them."""
    start = torch.full((draws, 1), token)
    ids = student.generate(table(student, logits), start, 1, generator=student.generator(5), **options)
    has_shape(ids, (draws, 2), torch.long, what="the text")
    return sorted(set(ids[:, 1].tolist()))


def stay(student, expected, why, **more):
    """Exactly these tokens can follow."""
    got = followers(student, **more)
    require(got == expected, f"{why}; yours kept {len(got)} token{'s' * (len(got) != 1)}: {got}.")


@task("generate", weight=2, examples=4)
@given(SEEDS, st.integers(1, 4))
def test_generate_greedy(student, reference, seed, n):
    """With temperature 0 the most likely token is appended, each time, after the prompt."""
    prompt = torch.randint(5, (3, 2), generator=torch.Generator().manual_seed(seed))
    mine = student.generate(table(student), prompt, n, temperature=0)
    assert_equal(mine, reference.generate(table(reference), prompt, n, temperature=0), what="the greedy text")


@task("generate", weight=2, examples=6)
@given(SEEDS, st.integers(1, 4), st.integers(1, 9))
def test_generate_context(student, reference, seed, block_size, length):
    """The model sees the last `block_size` tokens, all of them and never more, also of a long prompt."""
    logits, prompt = random_table(seed), torch.randint(5, (2, length), generator=torch.Generator().manual_seed(seed))
    model = table(student, logits, block_size, memory=0.7)
    mine = student.generate(model, prompt, 4, temperature=0)
    right = reference.generate(table(reference, logits, block_size, memory=0.7), prompt, 4, temperature=0)
    assert_equal(mine, right, what="the greedy text")
    seen = [line[0] for line in model.get("diary")]
    assert_equal(seen[:1], [min(length, block_size)], what="the number of tokens the model was shown at first")


@task("generate", weight=2, examples=4)
@given(SEEDS, st.sampled_from([1e-4, 0.5, 1.0, 2.0]))
def test_generate_samples(student, reference, seed, temperature):
    """Tokens are drawn by one `torch.multinomial` a step from softmax(logits / temperature), with your generator."""
    # A temperature near 0 is not 0: between logits that are as near to each other, it still leaves a choice.
    logits, prompt = random_table(seed) * min(temperature, 1.0), torch.randint(5, (12, 1), generator=torch.Generator().manual_seed(seed))
    mine = student.generate(table(student, logits), prompt, 4, temperature, generator=student.generator(seed))
    right = reference.generate(table(reference, logits), prompt, 4, temperature, generator=reference.generator(seed))
    assert_equal(mine, right, what="the text for this generator")


@task("generate", weight=1, needs="test_generate_greedy")
def test_generate_global_dice(student, reference):
    """Without a generator the global random state is used; with one, or greedily, it is left alone."""
    prompt = torch.arange(5).repeat(6)[:, None]
    mine = student.observe("generate", table(student), prompt, 3, seed=11).value
    assert_equal(
        mine,
        reference.observe("generate", table(reference), prompt, 3, seed=11).value,
        what="the text for this global seed",
    )
    for options in ({"generator": student.generator(3)}, {"temperature": 0.0}):
        outcome = student.observe("generate", table(student), prompt, 3, randomness=True, **options)
        require(
            not outcome.random_used,
            "The global random state changed, though a generator was given or nothing was to be drawn.",
        )


@task("generate", weight=2)
def test_generate_top_k(student):
    """`top_k` keeps exactly the k most likely tokens, and all of them where k is larger than the vocabulary."""
    stay(student, [1], "top_k=1 must leave the favourite alone", top_k=1)
    stay(student, [1, 2], "top_k=2 must leave two tokens", top_k=2)
    stay(student, [0, 1, 2, 4], "top_k=4 must leave all but the least likely", token=3, top_k=4, temperature=2.0)
    stay(student, [0, 1, 2, 3, 4], "top_k=5 of five tokens must leave all", top_k=5, temperature=2.0)
    stay(student, [0, 1, 2, 3, 4], "top_k=40 of five tokens must leave all", top_k=40, temperature=2.0)


@task("generate", weight=1)
def test_generate_top_k_by_row(student, reference):
    """Each text of the batch has a threshold of its own."""
    logits = CIRCLE * torch.tensor([[0.2], [1.0], [3.0], [1.0], [0.5]]) + torch.tensor(
        [[0.0], [5.0], [-5.0], [2.0], [9.0]]
    )
    prompt = torch.arange(5).repeat(9)[:, None]
    for options in ({"top_k": 2}, {"top_p": 0.6}):
        mine = student.generate(table(student, logits), prompt, 2, generator=student.generator(2), **options)
        right = reference.generate(table(reference, logits), prompt, 2, generator=reference.generator(2), **options)
        assert_equal(mine, right, what="the text for this generator")


@task("generate", weight=2)
def test_generate_top_p(student):
    """`top_p` keeps the smallest set of most likely tokens that reaches p: the one that reaches it stays in."""
    stay(student, [1, 2], "0.45 does not reach 0.6, and 0.45 + 0.28 does: two must stay", top_p=0.6)
    stay(student, [1, 2, 3], "It takes three tokens to reach 0.85", top_p=0.85)
    stay(student, [0, 1, 4], "They must be three wherever in the vocabulary they stand", token=3, top_p=0.85)
    stay(student, [0, 1, 2, 3, 4], "top_p=1 must leave all", top_p=1.0, temperature=2.0)


@task("generate", weight=1)
def test_generate_top_p_never_empty(student):
    """`top_p` never leaves less than one token, however small it is."""
    for p in (0.3, 1e-6):
        stay(student, [1], "The favourite alone reaches p, or must be kept anyway", top_p=p)


@task("generate", weight=1, needs="test_generate_top_p_never_empty")
def test_generate_top_p_boundary(student):
    """A set that reaches p exactly is enough."""
    got = followers(student, logits=torch.zeros(4, 4, dtype=F64), top_p=0.5)
    require(len(got) == 2, f"Of four equally likely tokens, two reach 0.5; yours kept {len(got)}.")


@task("generate", weight=2)
def test_generate_order(student):
    """First temperature, then `top_k`, then `top_p`, each on what the one before left."""
    stay(student, [1], "Of the two that top_k leaves, the first has 0.62 and reaches 0.6", top_k=2, top_p=0.6)
    stay(student, [1, 2, 3], "At temperature 3 it takes three tokens to reach 0.6", temperature=3.0, top_p=0.6)
    stay(student, [1], "At temperature 0.4 one token reaches 0.6", temperature=0.4, top_p=0.6)
    stay(student, [1, 2], "top_p=0.9 must keep both of the two that top_k leaves", top_k=2, top_p=0.9)


@task("generate", weight=2, examples=6)
@given(
    SEEDS, st.sampled_from([0.6, 1.0, 1.7]), st.sampled_from([None, 2, 3, 4]), st.sampled_from([None, 0.35, 0.7, 0.93])
)
def test_generate_everything(student, reference, seed, temperature, top_k, top_p):
    """All options together give the reference's text, for the same generator, in every row."""
    logits, prompt = random_table(seed), torch.randint(5, (9, 5), generator=torch.Generator().manual_seed(seed))
    texts = [
        side.generate(
            table(side, logits, block_size=3, memory=0.4), prompt, 4, temperature=temperature, top_k=top_k, top_p=top_p,
            generator=side.generator(seed),
        )
        for side in (student, reference)
    ]  # fmt: skip
    assert_equal(texts[0], texts[1], what="the text for this generator")


@task("generate", weight=1, needs="test_generate_greedy")
def test_generate_mode(student):
    """The model runs in eval mode, and is afterwards in the mode in which it came."""
    prompt = torch.tensor([[0], [3]])
    for training in (True, False):
        model = table(student, training=training)
        student.generate(model, prompt, 3, temperature=0)
        require(not any(line[1] for line in model.get("diary")), "The model ran in training mode.")
        require(model.get("training") is training, f"A model that came with training={training} must leave with it.")


@task("generate", weight=1, needs="test_generate_greedy")
def test_generate_mode_after_exception(student):
    """The mode is put back also where the model raises."""
    for training in (True, False):
        model = table(student, training=training)
        assert_refuses(student.generate, model, torch.tensor([[7]]), 3, temperature=0, error="IndexError")
        require(model.get("training") is training, "After an exception the model was left in another mode.")


@task("generate", weight=1, needs="test_generate_greedy")
def test_generate_manners(student):
    """No gradients are recorded while it writes, they are again afterwards, and your ids are not changed."""
    model, prompt = table(student), torch.tensor([[0, 4], [3, 1]])
    outcome = student.observe(
        "generate", model, prompt, 3, temperature=1.0, generator=student.generator(1), inputs=True
    )
    require(not any(line[2] for line in model.get("diary")), "The model ran with gradients switched on.")
    model(prompt)
    require(
        model.get("diary")[-1][2],
        "Gradients are still switched off after the call: nothing can be trained any more. Use `with torch.no_grad():`.",
    )
    assert_equal(outcome.inputs_after[0], prompt, what="the ids after the call")
    assert_equal(outcome.value[:, :2], prompt, what="the beginning of the text")


@task("generate", weight=2, needs="test_generate_greedy")
def test_generate_refuses(student):
    """Arguments that make no sense raise ValueError with their value, whatever the others are."""
    prompt = torch.tensor([[0], [3]])
    bad = [
        ({"temperature": -0.5}, "-0.5"), ({"top_k": 0}, "0"), ({"top_k": -3}, "-3"), ({"top_p": 0.0}, "0"),
        ({"top_p": 1.25}, "1.25"), ({"top_p": -0.25}, "-0.25"), ({"temperature": 0, "top_k": -7}, "-7"),
        ({"temperature": 0, "top_p": 1.75}, "1.75"), ({"temperature": -0.25, "top_k": 2, "top_p": 0.5}, "-0.25"),
        ({"top_k": 2, "top_p": 2.5}, "2.5"), ({"top_k": -2, "top_p": 0.5}, "-2"),
    ]  # fmt: skip
    model = table(student, training=True)
    for options, shows in bad:
        assert_refuses(student.generate, model, prompt, 2, shows=shows, **options)
        require(model.get("training") is True, "After a refused argument the model was left in another mode.")


# ----------------------------------------------------------------------------------------------- load_gpt2

SMALL = {"vocab_size": 11, "block_size": 5, "n_layer": 2, "n_head": 3, "d_model": 6}
TURNED = ("c_attn.weight", "c_fc.weight", "c_proj.weight")


DEEP = {"vocab_size": 3, "block_size": 2, "n_layer": 12, "n_head": 1, "d_model": 2}


def hugging_face(seed, config=SMALL, prefix="transformer.", dtype=torch.float32):
    """Weights as a file holds them, and the state_dict that must come of them."""
    wanted = {name: weight.to(dtype).float() for name, weight in lively(gpt_shapes(config), seed).items()}
    stored = {
        prefix + name.removeprefix("transformer."): (weight.T if name.endswith(TURNED) else weight)
        .to(dtype)
        .contiguous()
        for name, weight in wanted.items()
        if name != "lm_head.weight"
    }
    return stored, wanted


def fresh(student, config=SMALL):
    """A new model."""
    return student.new("GPT", student.new("GPTConfig", **config))


def arrived(model, wanted, *, turned=False):
    """The model holds these weights: those that are transposed on the way, or all others."""
    state = model.state_dict()
    for name, weight in wanted.items():
        if name.endswith(TURNED) is turned:
            require(name in state, f"The state_dict lost `{name}`.")
            assert_close(state[name], weight, what=f"`{name}` after loading")


@task("load_gpt2", weight=1)
def test_load_plain(student):
    """Embeddings, norms and biases arrive as they stand in the file."""
    stored, wanted = hugging_face(41)
    model = fresh(student)
    student.load_gpt2(model, stored)
    arrived(model, wanted)


@task("load_gpt2", weight=2)
def test_load_transposed(student):
    """The weights of linear layers arrive transposed, the square ones too."""
    stored, wanted = hugging_face(42)
    model = fresh(student)
    student.load_gpt2(model, stored)
    arrived(model, wanted, turned=True)


@task("load_gpt2", weight=1)
def test_load_without_prefix(student):
    """Names without `transformer.` are as good as those with it."""
    stored, wanted = hugging_face(43, prefix="")
    model = fresh(student)
    student.load_gpt2(model, stored)
    arrived(model, wanted)


@task("load_gpt2", weight=1)
def test_load_masks(student):
    """`attn.bias` and `attn.masked_bias` are skipped; `attn.c_attn.bias` is not."""
    for prefix, config in (("transformer.", SMALL), ("", SMALL), ("", DEEP)):
        stored, wanted = hugging_face(44, config, prefix)
        for layer in range(config["n_layer"]):
            stored[f"{prefix}h.{layer}.attn.bias"] = torch.ones(1, 1, 5, 5)
            stored[f"{prefix}h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        model = fresh(student, config)
        student.load_gpt2(model, stored)
        arrived(model, wanted)


@task("load_gpt2", weight=1)
def test_load_head(student):
    """`lm_head.weight` may be in the file, and the tie is one Parameter as before."""
    stored, wanted = hugging_face(45)
    model = fresh(student)
    student.load_gpt2(model, stored | {"lm_head.weight": stored["transformer.wte.weight"].clone()})
    arrived(model, wanted)
    is_tied(student, model, "After loading")


@task("load_gpt2", weight=1, needs="test_load_plain")
def test_load_manners(student):
    """The model keeps its number type, the file's tensors stay as they are, and a model without biases works, too."""
    stored, wanted = hugging_face(46, dtype=torch.float16)
    model = fresh(student)
    outcome = student.observe("load_gpt2", model, stored, inputs=True)
    assert_equal(outcome.inputs_after[0], stored, what="the weights after the call")
    # What a file holds beside the weights stays in it. If that stops the loading, it has cost its own points already.
    more = stored | {"transformer.h.0.attn.bias": torch.ones(1, 1, 5, 5)}
    more["lm_head.weight"] = stored["transformer.wte.weight"].clone()
    with contextlib.suppress(StudentError):
        after = student.observe("load_gpt2", fresh(student), more, inputs=True).inputs_after
        assert_equal(after[:1], [more], what="the weights after the call")
    arrived(model, wanted)
    require(model.get("transformer.ln_f.weight.requires_grad") is True, "The parameters can no longer be trained.")
    stored, _ = hugging_face(49)
    file, model = student.keep("deepcopy", stored), fresh(student)
    student.load_gpt2(model, file)
    for name in ("transformer.wpe.weight", "transformer.h.0.mlp.c_fc.weight"):
        parameter = model.keep(name)
        student.set(parameter, "requires_grad", False)
        parameter.zero_()
        assert_equal(
            file.keep("__getitem__", name).detach(),
            stored[name],
            what=f"`{name}` in the caller's dictionary, after the model's own was trained further,",
        )
    stored, wanted = hugging_face(47, BARE, prefix="")
    model = fresh(student, BARE)
    student.load_gpt2(model, stored)
    arrived(model, wanted)


def broken_files():
    """Files with one fault each: (what is wrong, the weights, the key to be named)."""
    stored, _ = hugging_face(48)
    lacking = {name: weight for name, weight in stored.items() if "h.1.mlp.c_fc.bias" not in name}
    yield "no `h.1.mlp.c_fc.bias`", lacking, "h.1.mlp.c_fc.bias"
    yield "no `wte.weight`", {name: weight for name, weight in stored.items() if "wte" not in name}, "wte.weight"
    yield "a key of a layer too many (h.2.ln_1.weight)", stored | {"transformer.h.2.ln_1.weight": torch.ones(6)}, "h.2.ln_1.weight"
    yield "a key that nobody knows (h.0.attn.rotary)", stored | {"h.0.attn.rotary": torch.ones(6)}, "h.0.attn.rotary"
    yield (
        "a weight that is transposed already (h.1.mlp.c_proj.weight)",
        stored | {"transformer.h.1.mlp.c_proj.weight": torch.ones(6, 24)},
        "h.1.mlp.c_proj.weight",
    )
    yield "too many positions (wpe.weight)", stored | {"transformer.wpe.weight": torch.ones(8, 6)}, "wpe.weight"
    yield "a bias of one number (ln_f.bias)", stored | {"transformer.ln_f.bias": torch.ones(1)}, "ln_f.bias"
    head = stored["transformer.wte.weight"].clone()
    head[-1, -1] += 1
    yield "a head unlike `wte`", stored | {"lm_head.weight": head}, "lm_head.weight"
    yield "a head for a smaller vocabulary", stored | {"lm_head.weight": head[:4]}, "lm_head.weight"


@task("load_gpt2", weight=2, needs="test_load_plain")
def test_load_refuses(student):
    """A missing, unknown or ill-shaped key, or a head unlike `wte`, raises ValueError with the key's name."""
    for fault, stored, key in broken_files():
        model = fresh(student)
        try:
            student.load_gpt2(model, stored)
        except StudentError as error:
            require(
                "ValueError" in error.kinds,
                f"A file with {fault} must raise ValueError; yours raised {error.kind}: {error.text[:200]}",
            )
            require(
                key in error.text,
                f"The message must name the key that is wrong; for a file with {fault} yours says: {error.text[:200]}",
            )
        else:
            fail(f"A file with {fault} must be refused with a ValueError; yours was taken.")


@task("load_gpt2", weight=2, needs="test_load_plain")
def test_load_all_or_nothing(student):
    """A file with a fault leaves the model exactly as it was."""
    for fault, stored, _ in broken_files():
        model = fresh(student)
        before = model.state_dict()
        with contextlib.suppress(StudentError):
            student.load_gpt2(model, stored)
        for name, weight in model.state_dict().items():
            require(
                torch.equal(weight, before[name]),
                f"A file with {fault} changed `{name}`: nothing may be copied before all is checked.",
            )


@task("load_gpt2", weight=1)
def test_load_masks_first(student):
    """The masks may stand anywhere in the file, also before the weights."""
    stored, wanted = hugging_face(48)
    masks = {f"transformer.h.{layer}.attn.bias": torch.ones(1, 1, 5, 5) for layer in range(2)}
    model = fresh(student)
    student.load_gpt2(model, masks | stored)
    arrived(model, wanted)
