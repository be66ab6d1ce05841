"""The bank of `gpt`: the reference with one mistake, many times over, and other right ways to write each task.

Rows 77-91 and 105 of the catalogue of student bugs are here, but for these:
81 (no float32 inside the norm) is no mistake in this course, where rounding never is: an honest variant has it.
90 (tied weights copied, or not tied at all) is one entry, `untied`: the starting values are drawn afterwards, so both
answer alike.
91 (the starting rule looks for a name that does not exist) answers as `residual_not_scaled` does; its advice says so.
"""

import math

import torch

from autograder.diagnosis import Raised, battery, change, honest, misconception

F64 = torch.float64
CONFIG = {"vocab_size": 13, "block_size": 7, "n_layer": 2, "n_head": 3, "d_model": 12}
BARE = {"vocab_size": 9, "block_size": 6, "n_layer": 1, "n_head": 5, "d_model": 10, "bias": False}


def numbers(seed, *shape, scale=1.0):
    """Normal numbers in float64, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64) * scale


def block_shapes(C, bias=True):
    """The parameters of one block."""
    sizes = {
        "ln_1.weight": (C,), "ln_1.bias": (C,), "attn.c_attn.weight": (3 * C, C), "attn.c_attn.bias": (3 * C,),
        "attn.c_proj.weight": (C, C), "attn.c_proj.bias": (C,), "ln_2.weight": (C,), "ln_2.bias": (C,),
        "mlp.c_fc.weight": (4 * C, C), "mlp.c_fc.bias": (4 * C,),
        "mlp.c_proj.weight": (C, 4 * C), "mlp.c_proj.bias": (C,),
    }  # fmt: skip
    return {name: size for name, size in sizes.items() if bias or not name.endswith("bias")}


def gpt_shapes(config):
    """The parameters of a GPT, without the tied head."""
    C, bias = config["d_model"], config.get("bias", True)
    sizes = {"transformer.wte.weight": (config["vocab_size"], C), "transformer.wpe.weight": (config["block_size"], C)}
    for layer in range(config["n_layer"]):
        sizes |= {f"transformer.h.{layer}.{name}": size for name, size in block_shapes(C, bias).items()}
    return sizes | (
        {"transformer.ln_f.weight": (C,), "transformer.ln_f.bias": (C,)} if bias else {"transformer.ln_f.weight": (C,)}
    )


def lively(sizes, seed):
    """Weights of order one; norms around one."""
    return {
        name: numbers(seed + 7 * number, *size, scale=0.4) + ("ln_" in name and name.endswith("weight"))
        for number, (name, size) in enumerate(sizes.items())
    }


def layout(module):
    """The names and shapes in a state_dict."""
    state = module.state_dict()
    return sorted((name, tuple(tensor.shape)) for name, tensor in state.items()) if isinstance(state, dict) else state


def filled(ask, name, config, weights):
    """A module made of a configuration with these weights, and what loading them said."""
    module = ask.new(name, ask.new("GPTConfig", **config), seed=0)
    module.to(F64)
    loaded = module.load_state_dict(weights)
    module.eval()
    return module, loaded.kind if isinstance(loaded, Raised) else "loaded"


# ---------------------------------------------------------------------------------------------- layer_norm


@battery("layer_norm")
def layer_norm_questions(ask):
    """Lively weights, a large eps, no bias, gradients, and the input afterwards."""
    x, weight, bias = numbers(1, 2, 4, 6, scale=2.0) + 1, numbers(2, 6), numbers(3, 6)
    norm = ask.new("LayerNorm", 6, seed=0)
    start = norm.state_dict()
    norm.to(F64)
    loaded = norm.load_state_dict({"weight": weight, "bias": bias})
    seen = norm.observe(x, gradient=numbers(4, 2, 4, 6))
    wide = ask.new("LayerNorm", 6, 0.5)
    wide.to(F64)
    bare = ask.new("LayerNorm", 6, bias=False)
    return [
        start,
        loaded.kind if isinstance(loaded, Raised) else "loaded",
        norm(x),
        seen.value,
        seen.gradients,
        seen.parameter_gradients,
        norm.observe(x, inputs=True).inputs_after,
        wide(x / 4),
        norm(x[0, 0]),
        norm(numbers(5, 6, 6)),
        bare.get("bias"),
        layout(bare),
        bare(x.float()),
    ]


@misconception(task="layer_norm", advice="Take the mean of the squares, or `x.var(-1, keepdim=True, correction=0)`.")
def unbiased_variance(source):
    """The variance is divided by C - 1 and not by C."""
    return change(source, "centred.square().mean(dim=-1, keepdim=True)", "wide.var(dim=-1, keepdim=True)")


@misconception(task="layer_norm", advice="Add eps to the variance before the square root: sqrt(variance + eps).")
def eps_outside_root(source):
    """The eps is added to the standard deviation, outside the square root."""
    return change(source, "torch.sqrt(variance + self.eps)", "(torch.sqrt(variance) + self.eps)")


@misconception(task="layer_norm", advice="Keep eps in `__init__` as `self.eps` and use that.")
def eps_fixed(source):
    """The eps that was asked for is ignored; it is always 1e-5."""
    return change(source, "variance + self.eps", "variance + 1e-5")


@misconception(task="layer_norm", advice="Add eps to the variance: a token whose numbers are all equal has variance 0.")
def eps_missing(source):
    """There is no eps."""
    return change(source, "variance + self.eps", "variance")


@misconception(task="layer_norm", advice="Use dim=-1: each token is normalised over its own C numbers.")
def over_time(source):
    """The mean and the variance are taken over the positions, so tokens mix, the future among them."""
    return change(source, "dim=-1", "dim=-2", count=2)


@misconception(task="layer_norm", advice="Use dim=-1, keepdim=True: one mean and one variance for each token.")
def over_everything(source):
    """One mean and one variance are taken over the whole tensor."""
    return change(
        change(source, "wide.mean(dim=-1, keepdim=True)", "wide.mean()"), ".mean(dim=-1, keepdim=True)", ".mean()"
    )


@misconception(
    task="layer_norm",
    advice="Keep the axis, `keepdim=True`, in the mean and in the variance, so that they line up with x.",
)
def keepdim_forgotten(source):
    """The mean and the variance lose their axis, so that they meet the wrong numbers, or none."""
    return change(source, ", keepdim=True", "", count=2)


@misconception(task="layer_norm", advice="Multiply the normalised numbers by `self.weight`.")
def no_gain(source):
    """The weight is there but not used."""
    return change(source, " * self.weight ", " ")


@misconception(task="layer_norm", advice="Add `self.bias` where there is one.")
def no_shift(source):
    """The bias is there but not added."""
    return change(source, "y = y + self.bias", "pass")


@misconception(task="layer_norm", advice="Make both parameters `nn.Parameter`, and multiply and add them in `forward`.")
def no_gain_no_shift(source):
    """It only normalises; there is no use of weight and bias."""
    return change(change(source, " * self.weight ", " "), "y = y + self.bias", "pass")


@misconception(task="layer_norm", advice="Subtract the mean from x before you divide.")
def not_centred(source):
    """The mean is not subtracted from the numbers."""
    return change(source, "y = centred /", "y = wide /")


@misconception(task="layer_norm", advice="Subtract the mean first. What you wrote is RMSNorm, which later models use.")
def rms_norm(source):
    """The numbers are divided by their root mean square, and no mean is subtracted: that is RMSNorm."""
    return change(source, "centred = wide - mean", "centred = wide")


@misconception(task="layer_norm", advice="Divide by the square root of the variance plus eps.")
def divided_by_variance(source):
    """The numbers are divided by the variance and not by its square root."""
    return change(source, "torch.sqrt(variance + self.eps)", "(variance + self.eps)")


@misconception(
    task="layer_norm",
    advice="Leave out `.detach()`, `.data` and `torch.no_grad()`: the mean and the variance depend on x too.",
)
def statistics_detached(source):
    """No gradient flows through the mean and the variance."""
    return change(
        change(source, "centred = wide - mean", "centred = wide - mean.detach()"),
        "variance + self.eps",
        "variance.detach() + self.eps",
    )


@misconception(
    task="layer_norm", advice="Write `x - mean` into a new name; `-=` and `sub_` change the caller's tensor."
)
def norm_changes_input(source):
    """The mean is subtracted in place, so the caller's tensor changes."""
    return change(source, "centred = wide - mean", "centred = wide.sub_(mean)")


@misconception(task="layer_norm", advice="Make the bias `nn.Parameter(torch.zeros(d)) if bias else None`.")
def bias_always(source):
    """There is a bias even with `bias=False`."""
    return change(source, "nn.Parameter(torch.zeros(d)) if bias else None", "nn.Parameter(torch.zeros(d))")


@misconception(
    task="layer_norm", advice="Wrap both in `nn.Parameter(...)`: a plain tensor is neither trained nor saved."
)
def no_parameters(source):
    """The weight and the bias are plain tensors and not parameters."""
    return change(
        change(source, "nn.Parameter(torch.ones(d))", "torch.ones(d)"), "nn.Parameter(torch.zeros(d))", "torch.zeros(d)"
    )


@misconception(task="layer_norm", advice="Start the weight with `torch.ones(d)`.")
def random_gain(source):
    """The weight does not start at ones."""
    return change(source, "torch.ones(d)", "torch.zeros(d)")


@honest(task="layer_norm")
def with_correction_zero(source):
    """The variance from `torch.var` with correction=0, and rsqrt."""
    source = change(
        source, "centred.square().mean(dim=-1, keepdim=True)", "wide.var(dim=-1, keepdim=True, correction=0)"
    )
    return change(source, "centred / torch.sqrt(variance + self.eps)", "centred * (variance + self.eps).rsqrt()")


@honest(task="layer_norm")
def half_precision_as_it_comes(source):
    """No float32 inside: whatever the number type of x, the sum is done in it."""
    return change(source, "x.to(torch.promote_types(x.dtype, torch.float32))", "x")


@honest(task="layer_norm")
def mean_of_squares(source):
    """The variance as the mean square minus the square of the mean, the parameters registered by name."""
    del source
    return """
class LayerNorm(nn.Module):
    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))
        self.register_parameter("bias", nn.Parameter(torch.zeros(d)) if bias else None)

    def forward(self, x):
        mean = x.mean(-1).unsqueeze(-1)
        variance = (x * x).mean(-1).unsqueeze(-1) - mean ** 2
        normed = (x - mean) / (variance + self.eps) ** 0.5
        return normed * self.weight if self.bias is None else torch.addcmul(self.bias, normed, self.weight)
"""


@honest(task="layer_norm")
def var_mean_and_addcmul(source):
    """Mean and variance in one call, weight and bias in another; parameters registered by name."""
    del source
    return """
class LayerNorm(nn.Module):
    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__()
        self.d, self.eps = d, eps
        self.register_parameter("weight", nn.Parameter(torch.empty(d).fill_(1.0)))
        self.register_parameter("bias", nn.Parameter(torch.empty(d).fill_(0.0)) if bias else None)
    def forward(self, x):
        var, mu = torch.var_mean(x, dim=-1, keepdim=True, unbiased=False)
        out = (x - mu) * (var + self.eps) ** -0.5
        if self.bias is None:
            return torch.mul(out, self.weight)
        return torch.addcmul(self.bias, out, self.weight)
"""


@honest(task="layer_norm")
def centring_matrix(source):
    """Centred by a matrix, everything else by einsum."""
    del source
    return """
class LayerNorm(nn.Module):
    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = None
        if bias:
            self.bias = nn.Parameter(torch.zeros(d))
        self.eps = eps
    def forward(self, x):
        d = x.shape[-1]
        centre = torch.eye(d, dtype=x.dtype, device=x.device) - torch.full((d, d), 1 / d, dtype=x.dtype, device=x.device)
        c = torch.einsum('...i,ij->...j', x, centre)
        s = torch.einsum('...i,...i->...', c, c).div(d).add(self.eps).rsqrt()
        y = torch.einsum('...i,...,i->...i', c, s, self.weight)
        return y if self.bias is None else y + self.bias
"""


@honest(task="layer_norm")
def backward_by_hand(source):
    """An autograd.Function with its own backward pass."""
    del source
    return """
class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, eps):
        mean = x.mean(-1, keepdim=True)
        rstd = torch.rsqrt(((x - mean) ** 2).mean(-1, keepdim=True) + eps)
        xhat = (x - mean) * rstd
        ctx.save_for_backward(xhat, rstd)
        return xhat
    @staticmethod
    def backward(ctx, g):
        xhat, rstd = ctx.saved_tensors
        return rstd * (g - g.mean(-1, keepdim=True) - xhat * (g * xhat).mean(-1, keepdim=True)), None

class LayerNorm(nn.Module):
    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d)) if bias else None
    def forward(self, x):
        y = _Norm.apply(x, self.eps) * self.weight
        return y + self.bias if self.bias is not None else y
"""


@honest(task="layer_norm")
def vmap_over_tokens(source):
    """One token's norm, mapped over all of them."""
    del source
    return """
class LayerNorm(nn.Module):
    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d)) if bias else None
    def forward(self, x):
        def one(row):
            c = row - row.sum() / row.numel()
            return c / ((c @ c) / row.numel() + self.eps).sqrt() * self.weight
        y = torch.vmap(one)(x.reshape(-1, x.shape[-1])).reshape(x.shape)
        return y if self.bias is None else y + self.bias
"""


# -------------------------------------------------------------------------------------------- feed_forward


@battery("feed_forward")
def feed_forward_questions(ask):
    """gelu along a line, the layer with lively weights, dropout in both modes."""
    line, x = torch.linspace(-5, 5, 41, dtype=F64), numbers(5, 3, 4, 6)
    mlp = ask.new("FeedForward", 6, 0.25, seed=0)
    mlp.to(F64)
    names = layout(mlp)
    loaded = mlp.load_state_dict(
        lively({name[4:]: size for name, size in block_shapes(6).items() if name[:3] == "mlp"}, 6)
    )
    first = [
        ask.observe("gelu", line, gradient="sum").gradients,
        ask.gelu(line),
        names,
        layout(ask.new("FeedForward", 4, 0.0, False)),
        loaded.kind if isinstance(loaded, Raised) else "loaded",
    ]
    if isinstance(loaded, Raised):
        return first
    mlp.eval()
    quiet = mlp.observe(x, seed=1, randomness=True, inputs=True)
    mlp.train()
    noisy = mlp.observe(x, seed=1, randomness=True)
    return [*first, quiet.value, quiet.random_used, quiet.inputs_after, noisy.value, noisy.random_used]


@misconception(task="feed_forward", advice="Use 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).")
def exact_gelu(source):
    """This is the exact GELU, with the error function; GPT-2 uses the form with tanh."""
    return change(source, "torch.tanh(inner)", "torch.erf(x / math.sqrt(2))")


@misconception(task="feed_forward", advice="Write the formula with tanh instead of cutting at zero.")
def relu(source):
    """This is ReLU and not GELU."""
    return change(source, "return 0.5 * x * (1 + torch.tanh(inner))", "return torch.relu(x)")


@misconception(task="feed_forward", advice="Write the formula with tanh instead of a straight line that bends at zero.")
def leaky_relu(source):
    """This is the leaky ReLU and not GELU."""
    return change(source, "return 0.5 * x * (1 + torch.tanh(inner))", "return F.leaky_relu(x)")


@misconception(task="feed_forward", advice="Use the form with tanh; x · sigmoid(1.702 x) is a coarser approximation.")
def quick_gelu(source):
    """This is the approximation x · sigmoid(1.702 x)."""
    return change(source, "return 0.5 * x * (1 + torch.tanh(inner))", "return x * torch.sigmoid(1.702 * x)")


@misconception(task="feed_forward", advice="Use the form with tanh; x · sigmoid(x) is SiLU, another bend.")
def silu(source):
    """This is SiLU, x · sigmoid(x), and not GELU."""
    return change(source, "return 0.5 * x * (1 + torch.tanh(inner))", "return x * torch.sigmoid(x)")


@misconception(task="feed_forward", advice="The second term in the bracket is 0.044715 times the cube of x.")
def no_cube(source):
    """The small term in gelu is not the cube of x."""
    return change(source, "0.044715 * x * x * x", "0.044715 * x * x")


@misconception(task="feed_forward", advice="The factor is sqrt(2 / pi), about 0.798.")
def wrong_root(source):
    """The factor in gelu is not the square root of 2 / pi."""
    return change(source, "math.sqrt(2 / math.pi)", "(math.sqrt(2) / math.pi)")


@misconception(task="feed_forward", advice="Begin with 0.5 · x: for large x gelu(x) is x, and not 2x.")
def no_half(source):
    """The factor one half in gelu is missing."""
    return change(source, "return 0.5 * x *", "return x *")


@misconception(task="feed_forward", advice="The inner width is 4 · d_model.")
def twice_as_wide(source):
    """The inner layer is twice as wide as the model and not four times."""
    return change(source, "4 * d_model", "2 * d_model", count=2)


@misconception(task="feed_forward", advice="The inner width is 4 · d_model.")
def eight_times_as_wide(source):
    """The inner layer is eight times as wide as the model and not four times."""
    return change(source, "4 * d_model", "8 * d_model", count=2)


@misconception(task="feed_forward", advice="The inner width is 4 · d_model.")
def not_wider(source):
    """The inner layer is not wider than the model."""
    return change(source, "4 * d_model", "d_model", count=2)


@misconception(task="feed_forward", advice="Put gelu between the two layers: without it they are one linear layer.")
def no_bend(source):
    """There is no gelu between the two layers."""
    return change(source, "gelu(self.c_fc(x))", "self.c_fc(x)")


@misconception(task="feed_forward", advice="The order is c_fc, gelu, c_proj, dropout; nothing bends the output.")
def bent_twice(source):
    """The output of `c_proj` goes through gelu again."""
    return change(source, "self.c_proj(hidden)", "gelu(self.c_proj(hidden))")


@misconception(task="feed_forward", advice="Apply gelu to what c_fc gives.")
def bend_first(source):
    """The gelu is applied to the input and not between the two layers."""
    return change(source, "gelu(self.c_fc(x))", "self.c_fc(gelu(x))")


@misconception(task="feed_forward", advice="Put dropout last, around c_proj's result.")
def dropout_inside(source):
    """The dropout stands between the two layers and not after them."""
    return change(source, "self.dropout(self.c_proj(hidden))", "self.c_proj(self.dropout(hidden))")


@misconception(task="feed_forward", advice="Use nn.Dropout, or hand `training=self.training` to F.dropout.")
def dropout_always_on(source):
    """The dropout acts in eval mode as well."""
    return change(source, "self.dropout(self.c_proj(hidden))", "F.dropout(self.c_proj(hidden), self.dropout.p)")


@misconception(task="feed_forward", advice="Apply nn.Dropout(dropout) to the result.")
def no_dropout(source):
    """There is no dropout."""
    return change(source, "self.dropout(self.c_proj(hidden))", "self.c_proj(hidden)")


@misconception(task="feed_forward", advice="`dropout` is the share that is set to zero, as nn.Dropout has it.")
def dropout_as_share_kept(source):
    """The dropout is taken for the share of the numbers that is kept."""
    return change(source, "nn.Dropout(dropout)", "nn.Dropout(1 - dropout)")


@misconception(task="feed_forward", advice="Use nn.Dropout, which decides about each number by itself.")
def dropout_of_tokens(source):
    """Whole tokens are dropped and not single numbers: that is nn.Dropout1d."""
    return change(source, "nn.Dropout(dropout)", "nn.Dropout1d(dropout)")


@misconception(task="feed_forward", advice="Hand `bias=bias` to both linear layers.")
def mlp_bias_always(source):
    """The linear layers have a bias even with `bias=False`."""
    return change(source, ", bias=bias)", ")", count=2)


@misconception(task="feed_forward", advice="Return only what is to be added; the block adds it to the stream.")
def adds_its_input(source):
    """The layer adds its input to its result; that is the block's part."""
    return change(source, "self.dropout(self.c_proj(hidden))", "x + self.dropout(self.c_proj(hidden))")


@honest(task="feed_forward")
def with_pow(source):
    """The cube by pow, the bracket multiplied out."""
    source = change(source, "x + 0.044715 * x * x * x", "x + 0.044715 * torch.pow(x, 3)")
    return change(source, "return 0.5 * x * (1 + torch.tanh(inner))", "return x / 2 + x / 2 * inner.tanh()")


@honest(task="feed_forward")
def with_sigmoid(source):
    """The same curve by a sigmoid, as (1 + tanh(z)) / 2 is sigmoid(2 z); F.dropout with the mode handed on."""
    source = change(source, "return 0.5 * x * (1 + torch.tanh(inner))", "return x * torch.sigmoid(2 * inner)")
    source = change(source, "self.dropout = nn.Dropout(dropout)", "self.p = dropout")
    return change(
        source, "self.dropout(self.c_proj(hidden))", "F.dropout(self.c_proj(hidden), self.p, training=self.training)"
    )


@honest(task="feed_forward")
def own_linear_layers(source):
    """Linear layers with a forward pass of one's own. (Still nn.Linear: by that some find what a GPT has to initialize.)"""
    del source
    return """
def gelu(x):
    return x * (torch.tanh(x * 0.7978845608028654 * (1 + 0.044715 * x ** 2)) + 1) / 2

class Affine(nn.Linear):
    def forward(self, x):
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias

class FeedForward(nn.Module):
    def __init__(self, d_model, dropout=0.0, bias=True):
        super().__init__()
        self.c_fc, self.c_proj, self.p = Affine(d_model, 4 * d_model, bias), Affine(4 * d_model, d_model, bias), dropout
    def forward(self, x):
        return F.dropout(self.c_proj(gelu(self.c_fc(x))), p=self.p, training=self.training)
"""


@honest(task="feed_forward")
def a_sequential(source):
    """The layer is an nn.Sequential with named parts; gelu has its own backward pass."""
    del source
    return """
from collections import OrderedDict

class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        t = torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3)))
        return 0.5 * x * (1 + t)
    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        k = math.sqrt(2 / math.pi)
        t = torch.tanh(k * (x + 0.044715 * x.pow(3)))
        return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x))

def gelu(x):
    return _Gelu.apply(x)

class Gelu(nn.Module):
    def forward(self, x):
        return gelu(x)

class FeedForward(nn.Sequential):
    def __init__(self, d_model, dropout=0.0, bias=True):
        super().__init__(OrderedDict(
            c_fc=nn.Linear(d_model, 4 * d_model, bias), act=Gelu(), c_proj=nn.Linear(4 * d_model, d_model, bias), drop=nn.Dropout(dropout)))
"""


# --------------------------------------------------------------------------------------------------- block


@battery("block")
def block_questions(ask):
    """Lively weights with and without biases, gradients, silent sub-layers, dropout."""
    weights, x = lively(block_shapes(12), 8), numbers(9, 2, 5, 12)
    block, loaded = filled(ask, "Block", CONFIG, weights)
    first = [layout(ask.new("Block", ask.new("GPTConfig", **config))) for config in (CONFIG, BARE)] + [loaded]
    if loaded != "loaded":
        return first
    seen = block.observe(x, gradient=numbers(10, 2, 5, 12))
    silent = {name: weight * ("c_proj" not in name) for name, weight in weights.items()}
    noisy = filled(ask, "Block", CONFIG | {"dropout": 0.25}, weights)[0]
    noisy.train()
    return [
        *first,
        block(x),
        seen.value,
        seen.gradients,
        seen.parameter_gradients,
        block.observe(x, inputs=True).inputs_after,
        filled(ask, "Block", CONFIG, silent)[0](x),
        filled(ask, "Block", BARE, lively(block_shapes(10, bias=False), 11))[0](x[..., :10]),
        noisy.get("attn.dropout"),
        noisy.observe(x, seed=1).value,
    ]


ATTEND, THINK = "x = x + self.attn(self.ln_1(x))", "x = x + self.mlp(self.ln_2(x))"


@misconception(
    task="block", advice="Normalise what the sub-layer reads: x + attn(ln_1(x)). Post-norm is the design of 2017."
)
def post_norm(source):
    """The norm comes after the addition (post-norm) and not before the sub-layer."""
    return change(change(source, ATTEND, "x = self.ln_1(x + self.attn(x))"), THINK, "x = self.ln_2(x + self.mlp(x))")


@misconception(task="block", advice="Add to x itself and not to ln_1(x): the stream passes the block unnormalised.")
def normed_residual(source):
    """The stream itself is normalised: what is added to is ln(x) and not x."""
    source = change(source, ATTEND, "x = self.ln_1(x); x = x + self.attn(x)")
    return change(source, THINK, "x = self.ln_2(x); x = x + self.mlp(x)")


@misconception(task="block", advice="Make two LayerNorms: ln_1 and ln_2 have weights of their own.")
def shared_norm(source):
    """Both sub-layers share one norm."""
    return change(source, "self.ln_2 = LayerNorm(config.d_model, bias=config.bias)", "self.ln_2 = self.ln_1")


@misconception(task="block", advice="The feed-forward layer reads ln_2(x).")
def first_norm_twice(source):
    """The feed-forward layer reads through `ln_1`; `ln_2` is never used."""
    return change(source, "self.ln_2(x)", "self.ln_1(x)")


@misconception(
    task="block", advice="Do it in two steps: the second line reads the x to which attention has been added."
)
def parallel(source):
    """Both sub-layers read the same x: the feed-forward layer does not see what attention added."""
    return change(change(source, ATTEND, "y = self.attn(self.ln_1(x))"), THINK, "x = x + y + self.mlp(self.ln_2(x))")


@misconception(task="block", advice="Write x = x + attn(ln_1(x)).")
def no_attention_residual(source):
    """The result of attention replaces the stream and is not added to it."""
    return change(source, ATTEND, "x = self.attn(self.ln_1(x))")


@misconception(task="block", advice="Write x = x + mlp(ln_2(x)).")
def no_mlp_residual(source):
    """The result of the feed-forward layer replaces the stream and is not added to it."""
    return change(source, THINK, "x = self.mlp(self.ln_2(x))")


@misconception(task="block", advice="Write x = x + attn(ln_1(x)), then x = x + mlp(ln_2(x)).")
def no_residuals(source):
    """There are no residual connections."""
    return change(change(source, ATTEND, "x = self.attn(self.ln_1(x))"), THINK, "x = self.mlp(self.ln_2(x))")


@misconception(task="block", advice="Let each sub-layer read a normalised copy: attn(ln_1(x)), mlp(ln_2(x)).")
def no_norms(source):
    """The norms are there but not used."""
    return change(change(source, "self.ln_1(x)", "x"), "self.ln_2(x)", "x")


@misconception(task="block", advice="Put the norm inside: attn(ln_1(x)) and not ln_1(attn(x)).")
def norm_of_result(source):
    """The norm is applied to what the sub-layer returns and not to what it reads."""
    return change(
        change(source, "self.attn(self.ln_1(x))", "self.ln_1(self.attn(x))"),
        "self.mlp(self.ln_2(x))",
        "self.ln_2(self.mlp(x))",
    )


@misconception(task="block", advice="Attention first, then the feed-forward layer.")
def wrong_order(source):
    """The feed-forward layer comes before attention."""
    return change(change(change(source, ATTEND, "FIRST"), THINK, ATTEND), "FIRST", THINK)


@misconception(task="block", advice="Write x = x + ..., which makes a new tensor; x += ... changes the caller's.")
def block_changes_input(source):
    """The addition is done in place, so the caller's tensor changes."""
    return change(source, ATTEND, "x += self.attn(self.ln_1(x))")


@misconception(task="block", advice="Hand config.dropout to both the attention and the feed-forward layer.")
def dropout_not_handed_on(source):
    """The dropout of the configuration is not handed on."""
    return change(
        change(source, "config.n_head, config.dropout, config.bias", "config.n_head, bias=config.bias"),
        "FeedForward(config.d_model, config.dropout, config.bias)",
        "FeedForward(config.d_model, bias=config.bias)",
    )


@misconception(task="block", advice="Hand config.dropout to FeedForward as well.")
def mlp_dropout_not_handed_on(source):
    """The dropout of the configuration does not reach the feed-forward layer."""
    return change(
        source,
        "FeedForward(config.d_model, config.dropout, config.bias)",
        "FeedForward(config.d_model, bias=config.bias)",
    )


@misconception(task="block", advice="Hand config.bias to the norms, the attention and the feed-forward layer.")
def bias_not_handed_on(source):
    """The `bias` of the configuration is not handed on."""
    source = change(source, "LayerNorm(config.d_model, bias=config.bias)", "LayerNorm(config.d_model)", count=2)
    return change(source, "config.dropout, config.bias)", "config.dropout)", count=2)


@misconception(task="block", advice="Name it: LayerNorm(config.d_model, bias=config.bias).")
def bias_given_as_eps(source):
    """`LayerNorm(config.d_model, config.bias)` hands the bias over as eps, its second argument."""
    return change(
        source, "LayerNorm(config.d_model, bias=config.bias)", "LayerNorm(config.d_model, config.bias)", count=2
    )


@misconception(task="block", advice="Hand config.n_head to CausalSelfAttention.")
def one_head(source):
    """The number of heads in the configuration is ignored."""
    return change(source, "config.n_head", "1")


@misconception(task="block", advice="Leave out `.detach()`, `.data` and `torch.no_grad()`.")
def attention_detached(source):
    """No gradient flows through attention."""
    return change(source, "self.attn(self.ln_1(x))", "self.attn(self.ln_1(x)).detach()")


def other_attention(source, forward):
    """The block with an attention of its own making, under the right names."""
    return change(source, "class Block(nn.Module):", f'''class OwnAttention(CausalSelfAttention):
    def forward(self, x):
        B, T, C = x.shape
        H, D = self.n_heads, C // self.n_heads
        q, k, v = self.c_attn(x).split(C, dim=-1)
{forward}
        return self.resid_dropout(self.c_proj(y))


class Block(nn.Module):''').replace("self.attn = CausalSelfAttention(", "self.attn = OwnAttention(")


HEADS = "        q, k, v = (part.view(B, T, H, D).transpose(1, 2) for part in (q, k, v))\n"
MERGED = ".transpose(1, 2).reshape(B, T, C)"


@misconception(task="block", advice="Use the CausalSelfAttention that is given: it lets no token see a later one.")
def attention_without_mask(source):
    """The block has an attention of its own without a causal mask: each token sees the answer. The loss will be far too good."""
    return other_attention(source, f"{HEADS}        y = F.scaled_dot_product_attention(q, k, v){MERGED}")


@misconception(task="block", advice="Use the CausalSelfAttention that is given, or a mask with tril(diagonal=0).")
def mask_off_by_one(source):
    """The block has an attention of its own, whose mask lets each token see the next one: just the answer."""
    mask = "torch.ones(T, T, dtype=torch.bool, device=x.device).tril(1)"
    return other_attention(source, f"{HEADS}        y = F.scaled_dot_product_attention(q, k, v, {mask}){MERGED}")


@misconception(task="block", advice="Use the CausalSelfAttention that is given, or view(B, T, H, D).transpose(1, 2).")
def heads_by_view(source):
    """The block has an attention of its own, whose heads come from `view(B, H, T, D)`: that mixes positions, and the future leaks."""
    heads = "        q, k, v = (part.reshape(B, H, T, D) for part in (q, k, v))\n"
    return other_attention(
        source, f"{heads}        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).reshape(B, T, C)"
    )


@misconception(task="block", advice="Leave x as (B, T, C): attention looks along the second dimension.")
def attention_over_texts(source):
    """Attention gets (T, B, C), so it looks from text to text and not from token to token."""
    return change(source, "self.attn(self.ln_1(x))", "self.attn(self.ln_1(x).transpose(0, 1)).transpose(0, 1)")


@honest(task="block")
def with_names(source):
    """Each step has a name, and the additions are calls."""
    source = change(source, ATTEND, "attended = torch.add(x, self.attn(self.ln_1(x)))")
    return change(source, THINK, "x = torch.add(self.mlp(self.ln_2(attended)), attended)")


@honest(task="block")
def made_in_another_order(source):
    """The modules are made in another order, the arguments by name, and the stream is a copy added to in place."""
    del source
    return """
class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.mlp = FeedForward(d_model=config.d_model, dropout=config.dropout, bias=config.bias)
        self.attn = CausalSelfAttention(config.d_model, n_heads=config.n_head, bias=config.bias, dropout=config.dropout)
        self.ln_2, self.ln_1 = (LayerNorm(config.d_model, 1e-5, config.bias) for _ in range(2))

    def forward(self, x):
        stream = x.clone()
        stream = stream + self.attn(self.ln_1(stream))
        return stream + self.mlp(self.ln_2(stream))
"""


@honest(task="block")
def loop_over_sublayers(source):
    """A loop over pairs of norm and sub-layer."""
    del source
    return """
class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        for i in (1, 2):
            setattr(self, f"ln_{i}", LayerNorm(config.d_model, 1e-5, config.bias))
        self.add_module("attn", CausalSelfAttention(d_model=config.d_model, n_heads=config.n_head, dropout=config.dropout, bias=config.bias))
        self.add_module("mlp", FeedForward(config.d_model, dropout=config.dropout, bias=config.bias))
    def forward(self, x):
        for norm, sub in ((self.ln_1, self.attn), (self.ln_2, self.mlp)):
            x = sub(norm(x)) + x
        return x
"""


@honest(task="block")
def torchs_layer_norm(source):
    """torch's own LayerNorm, which is not forbidden here."""
    del source
    return """
class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1, self.ln_2 = (nn.LayerNorm(config.d_model, bias=config.bias) for _ in "12")
        self.attn = CausalSelfAttention(config.d_model, config.n_head, config.dropout, config.bias)
        self.mlp = FeedForward(config.d_model, config.dropout, config.bias)
    def forward(self, x):
        h = self.attn(self.ln_1(x)).add(x)
        return h.add(self.mlp(self.ln_2(h)))
"""


# ----------------------------------------------------------------------------------------------------- gpt

LARGE = {"vocab_size": 211, "block_size": 90, "n_layer": 3, "n_head": 2, "d_model": 48}


def width_of_start(weight):
    """Which of the known starting values this looks like."""
    if not isinstance(weight, torch.Tensor):
        return weight
    deviation = weight.double().std().item()
    known = {"0": 0.0, "0.02": 0.02, "0.02/sqrt(L)": 0.02 / math.sqrt(3), "0.02/sqrt(2L)": 0.02 / math.sqrt(6)}
    near = [name for name, value in known.items() if abs(deviation - value) <= 0.08 * value]
    tails = bool(weight.abs().max() > 2.2 * deviation)
    return (near[0] if near else "another", tails)


def starting_values(ask):
    """How a large new model starts."""
    start = ask.new("GPT", ask.new("GPTConfig", **LARGE), seed=0).state_dict()
    if not isinstance(start, dict):
        return [start]
    names = (
        "transformer.wte.weight",
        "transformer.wpe.weight",
        "transformer.h.1.attn.c_attn.weight",
        "transformer.h.1.attn.c_proj.weight",
        "transformer.h.2.mlp.c_proj.weight",
        "transformer.h.0.mlp.c_fc.bias",
        "transformer.h.0.ln_1.weight",
    )
    other = ask.new("GPT", ask.new("GPTConfig", **LARGE), seed=1).state_dict()
    drawn = [start.get(name) for name in names[:3]]
    far = [bool(weight.abs().max() > 0.07) for weight in drawn if isinstance(weight, torch.Tensor)]
    return [width_of_start(start.get(name)) for name in names] + [any(far), same_start(start, other, names[0])]


def same_start(one, other, name):
    """Do two models that were made after one another start with the same numbers?"""
    both = [state.get(name) if isinstance(state, dict) else None for state in (one, other)]
    return all(isinstance(weight, torch.Tensor) for weight in both) and torch.equal(*both)


def looks_back(model, ids):
    """Does the first token make a difference to what is said of the last?"""
    model.eval()
    said = [model(torch.cat((torch.full_like(ids[:, :1], first), ids[:, 1:]), dim=1)) for first in (0, 1)]
    logits = [one[0] if isinstance(one, tuple | list) else one for one in said]
    both = all(isinstance(one, torch.Tensor) and one.dim() == 3 for one in logits)
    return bool((logits[0][:, -1] != logits[1][:, -1]).any()) if both else logits


def shared_memory(ask):
    """Does the head follow the embedding in a model as it is made?"""
    model = ask.new("GPT", ask.new("GPTConfig", **CONFIG), seed=0)
    model.load_state_dict({"transformer.wte.weight": torch.ones(13, 12)}, strict=False)
    return isinstance(model.get("lm_head.weight"), torch.Tensor) and bool((model.get("lm_head.weight") == 1).all())


@battery("gpt")
def gpt_questions(ask):
    """Names, starting values, logits, loss, gradients, the tie, dropout, other devices."""
    weights = lively(gpt_shapes(CONFIG), 12)
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    ids = torch.randint(13, (3, 5), generator=torch.Generator().manual_seed(13))
    targets = torch.randint(13, (3, 5), generator=torch.Generator().manual_seed(14))
    model, loaded = filled(ask, "GPT", CONFIG, weights)
    first = [layout(model), loaded, starting_values(ask), looks_back(model, ids)]
    if loaded != "loaded":
        return first
    some = targets.clone()
    some[1, 2:] = -100
    seen = model.observe(ids, targets, gradient="sum")
    full, long = (torch.arange(n).repeat(2, 1) % 13 for n in (7, 9))
    noisy = filled(ask, "GPT", CONFIG | {"dropout": 0.25}, weights)[0]
    noisy.train()
    elsewhere = ask.new("GPT", ask.new("GPTConfig", **CONFIG))
    elsewhere.to("meta")
    nowhere = torch.zeros(2, 5, dtype=torch.long, device="meta")
    return [
        *first,
        model(ids),
        model(ids, targets),
        model(ids, some),
        model.observe(ids, some, inputs=True).inputs_after,
        seen.value,
        seen.parameter_gradients,
        model.observe(ids, gradient="sum").parameter_gradients,
        model(full),
        model(long),
        model(ids, targets.T.contiguous().T),
        noisy.observe(ids, seed=1).value,
        elsewhere.observe(nowhere, strict_device=True).value,
        ask.set(model.keep("lm_head.weight"), "requires_grad", False),
        model.get("transformer.wte.weight.requires_grad"),
        shared_memory(ask),
    ]


LOSS = "F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)"
HEAD = "self.lm_head(self.transformer.ln_f(x))"
TIE = "self.lm_head.weight = self.transformer.wte.weight"


@misconception(task="gpt", advice="Pass the stream through transformer.ln_f before lm_head.")
def no_final_norm(source):
    """The last norm, `ln_f`, is not used."""
    return change(source, HEAD, "self.lm_head(x)")


@misconception(task="gpt", advice="Add self.transformer.wpe(positions) to the embedding of the tokens.")
def no_positions(source):
    """The positions are not added: the model cannot tell where a token stands."""
    return change(source, " + self.transformer.wpe(positions)", "")


@misconception(task="gpt", advice="Positions run from 0 to T - 1: torch.arange(T, device=ids.device).")
def positions_from_one(source):
    """The positions start at 1 and not at 0."""
    return change(source, "torch.arange(T, device=ids.device)", "torch.arange(1, T + 1, device=ids.device)")


@misconception(task="gpt", advice="Positions run from 0 to T - 1: torch.arange(T, device=ids.device).")
def always_the_whole_context(source):
    """The positions always run to block_size, so that only a text that fills the context works."""
    return change(source, "torch.arange(T, device=ids.device)", "torch.arange(self.config.block_size, device=ids.device)")


@misconception(task="gpt", advice="Make a new Block for each layer: [Block(config) for _ in range(config.n_layer)].")
def one_block_many_times(source):
    """All layers are one and the same block."""
    return change(source, "[Block(config) for _ in range(config.n_layer)]", "[Block(config)] * config.n_layer")


@misconception(task="gpt", advice="Put the blocks into an nn.ModuleList named `h` inside `transformer`.")
def blocks_in_a_list(source):
    """The blocks are in a plain list, where `parameters()` and `.to()` do not find them."""
    source = change(source, '"h": nn.ModuleList([Block(config) for _ in range(config.n_layer)]),', "")
    source = change(source, "for block in self.transformer.h", "for block in self.blocks")
    return change(
        source,
        "self.config = config\n",
        "self.config = config\n        self.blocks = [Block(config) for _ in range(config.n_layer)]\n",
    )


@misconception(task="gpt", advice="Return what lm_head gives; the loss and sampling do the softmax themselves.")
def probabilities(source):
    """The model returns probabilities and not logits."""
    return change(source, HEAD, f"{HEAD}.softmax(-1)")


@misconception(task="gpt", advice="Return what lm_head gives; the loss and sampling do the softmax themselves.")
def log_probabilities(source):
    """The model returns log-probabilities and not logits."""
    return change(source, HEAD, f"{HEAD}.log_softmax(-1)")


@misconception(task="gpt", advice="Hand the logits to F.cross_entropy as they are: it does the softmax itself.")
def softmax_before_loss(source):
    """The cross entropy is given probabilities, so the softmax is applied twice."""
    return change(source, "F.cross_entropy(logits.flatten(0, 1)", "F.cross_entropy(logits.softmax(-1).flatten(0, 1)")


@misconception(
    task="gpt",
    advice="Assign the Parameter itself: self.lm_head.weight = self.transformer.wte.weight. A copy drifts apart.",
)
def untied(source):
    """The head has a weight of its own: a copy, or not tied at all."""
    return change(source, TIE, "pass")


@misconception(task="gpt", advice="Assign the Parameter itself, without `.data`.")
def tied_by_data(source):
    """The head and the embedding share memory but are two Parameters."""
    return change(source, TIE, "self.lm_head.weight.data = self.transformer.wte.weight.data")


@misconception(
    task="gpt",
    advice="Give names ending in `c_proj.weight` the deviation 0.02 / sqrt(2 n_layer), and check that such names exist.",
)
def residual_not_scaled(source):
    """The residual projections start with 0.02 like all others."""
    return change(source, "std=0.02 / math.sqrt(2 * config.n_layer)", "std=0.02")


@misconception(task="gpt", advice="Each block adds twice: divide by sqrt(2 n_layer).")
def residual_scaled_once_a_layer(source):
    """The residual projections are divided by sqrt(n_layer) and not by sqrt(2 n_layer)."""
    return change(source, "math.sqrt(2 * config.n_layer)", "math.sqrt(config.n_layer)")


@misconception(
    task="gpt",
    advice="Give both c_proj the smaller deviation, attention's and the mlp's: both add to the stream.",
)
def only_attention_scaled(source):
    """Only attention's projection starts smaller; the feed-forward layer's does not."""
    return change(source, 'name.endswith("c_proj.weight")', 'name.endswith("attn.c_proj.weight")')


@misconception(
    task="gpt", advice="Draw every weight with nn.init.normal_(..., std=0.02); PyTorch's embeddings start with 1."
)
def default_start(source):
    """The weights start as PyTorch makes them."""
    return change(source, "in self.named_parameters():", "in []:")


@misconception(task="gpt", advice="Use nn.init.normal_ and not a uniform distribution.")
def uniform_start(source):
    """The weights start uniformly distributed and not normally."""
    return change(
        source,
        "nn.init.normal_(parameter, mean=0.0, std=0.02)",
        "nn.init.uniform_(parameter, -0.02 * 3**0.5, 0.02 * 3**0.5)",
    )


@misconception(task="gpt", advice="Use nn.init.normal_: nothing is cut off.")
def start_cut_off(source):
    """The weights start normally distributed but cut off at three standard deviations."""
    return change(
        source,
        "nn.init.normal_(parameter, mean=0.0, std=0.02)",
        "nn.init.trunc_normal_(parameter, std=0.02, a=-0.06, b=0.06)",
    )


@misconception(task="gpt", advice="Take out torch.manual_seed: whoever builds a model sets the seed before.")
def seeded_start(source):
    """A seed is set inside, so all models start with the same weights, and the rest of the program draws the same too."""
    return change(source, "        self.config = config\n", "        self.config = config\n        torch.manual_seed(1337)\n")


@misconception(task="gpt", advice="Set the biases of the linear layers to zero with nn.init.zeros_.")
def biases_not_zero(source):
    """The biases do not start at zero."""
    return change(source, "nn.init.zeros_(parameter)", "pass")


@misconception(task="gpt", advice="Shift nothing in here: the targets come already shifted by one.")
def targets_shifted_again(source):
    """The targets are shifted once more, so the model learns to predict the token after the next."""
    return change(
        source, LOSS, "F.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten(), ignore_index=-100)"
    )


@misconception(
    task="gpt",
    advice="Compare the logits with `targets`, what came next, and not with `ids`, what was there to be copied.",
)
def judged_on_its_input(source):
    """The loss compares with the input and not with the targets: it becomes far too good."""
    return change(source, "targets.flatten(), ignore_index", "ids.flatten(), ignore_index")


@misconception(task="gpt", advice="Leave reduction at its default, the mean.")
def summed_loss(source):
    """The loss is the sum over the positions and not the mean."""
    return change(source, "ignore_index=-100", 'ignore_index=-100, reduction="sum"')


@misconception(task="gpt", advice="Divide by the number of targets that count: F.cross_entropy's mean does.")
def ignored_targets_in_the_mean(source):
    """Ignored targets add nothing to the sum but are counted in the mean."""
    return change(source, "ignore_index=-100)", 'ignore_index=-100, reduction="sum") / targets.numel()')


@misconception(task="gpt", advice="Leave ignore_index at -100.")
def ignores_minus_one(source):
    """Targets of -1 are ignored, and not those of -100."""
    return change(source, "ignore_index=-100", "ignore_index=-1")


@misconception(task="gpt", advice="Merge B and T in the same order in both: flatten(0, 1), no transpose.")
def texts_mixed_in_loss(source):
    """Logits and targets are flattened in different orders, so they do not belong together."""
    return change(source, "logits.flatten(0, 1)", "logits.transpose(0, 1).flatten(0, 1)")


@misconception(task="gpt", advice="Use all positions: (B*T, V) against (B*T,).")
def loss_of_last_position(source):
    """Only the last position counts in the loss."""
    return change(source, LOSS, "F.cross_entropy(logits[:, -1], targets[:, -1], ignore_index=-100)")


@misconception(task="gpt", advice="Return the tensor itself; `.item()` and `.detach()` cut it off from the model.")
def loss_cut_off(source):
    """The loss is cut off from the model: nothing can be learned from it."""
    return change(source, "return logits, loss", "return logits, loss.detach()")


@misconception(task="gpt", advice="Return (logits, loss), in this order.")
def loss_first(source):
    """The loss comes first and the logits second."""
    return change(change(source, "return logits, loss", "return loss, logits"), "return logits, None", "return None, logits")


@misconception(task="gpt", advice="Return logits for every position, with targets and without.")
def only_last_logits(source):
    """Without targets, only the logits of the last position are returned."""
    return change(source, "return logits, None", "return logits[:, [-1]], None")


@misconception(task="gpt", advice="Apply self.transformer.drop to the sum of the two embeddings.")
def no_embedding_dropout(source):
    """There is no dropout on the embeddings."""
    return change(source, "x = self.transformer.drop(x)", "pass")


@misconception(task="gpt", advice="Add position and token first, and apply transformer.drop once, to the sum.")
def dropout_on_tokens_only(source):
    """The dropout acts on the embedding of the tokens alone; the positions are added after it."""
    source = change(source, "self.transformer.wte(ids) +", "self.transformer.drop(self.transformer.wte(ids)) +")
    return change(source, "x = self.transformer.drop(x)", "pass")


@misconception(task="gpt", advice="Add position and token first, and apply transformer.drop once, to the sum.")
def dropout_on_each_embedding(source):
    """The dropout acts on both embeddings apart and not on their sum."""
    source = change(
        source,
        "self.transformer.wte(ids) + self.transformer.wpe(positions)",
        "self.transformer.drop(self.transformer.wte(ids)) + self.transformer.drop(self.transformer.wpe(positions))",
    )
    return change(source, "        x = self.transformer.drop(x)\n", "")


@misconception(task="gpt", advice="Apply transformer.drop to the embeddings only: the blocks have their own dropout.")
def dropout_after_each_block(source):
    """The stream itself goes through dropout after every block, so little of it reaches the end."""
    return change(source, "x = block(x)", "x = self.transformer.drop(block(x))")


@misconception(task="gpt", advice="Apply transformer.drop to the embeddings only.")
def dropout_before_head(source):
    """The dropout acts once more, between the last norm and the head."""
    return change(source, "self.lm_head(self.transformer.ln_f(x))", "self.lm_head(self.transformer.drop(self.transformer.ln_f(x)))")


@misconception(task="gpt", advice="Apply transformer.drop to the embeddings only.")
def dropout_of_logits(source):
    """The dropout acts on the logits as well, and a dropped logit of 0 is no small one."""
    return change(source, HEAD, f"self.transformer.drop({HEAD})")


@misconception(task="gpt", advice="Leave out `.detach()` and `torch.no_grad()`: whoever calls decides about gradients.")
def logits_cut_off(source):
    """Without targets the logits are cut off from the model."""
    return change(source, "return logits, None", "return logits.detach(), None")


@misconception(task="gpt", advice="Write `targets.masked_fill(...)`, without the underscore, or use ignore_index.")
def targets_changed(source):
    """The caller's targets are changed in place."""
    return change(source, "loss = F.cross_entropy", "targets.masked_fill_(targets == -100, -1); loss = F.cross_entropy").replace(
        "ignore_index=-100", "ignore_index=-1"
    )


@misconception(task="gpt", advice="Leave the stream as (B, T, C): attention looks along the second dimension.")
def texts_and_positions_swapped(source):
    """The blocks get (T, B, C): attention looks from text to text and not from token to token."""
    source = change(source, "x = self.transformer.drop(x)", "x = self.transformer.drop(x).transpose(0, 1)")
    return change(source, "self.transformer.ln_f(x)", "self.transformer.ln_f(x.transpose(0, 1))")


@misconception(task="gpt", advice="Use transpose(1, 2), or flatten(0, 1): a reshape does not move the dimensions.")
def classes_second_by_reshape(source):
    """The logits are reshaped to (B, V, T) and not transposed, so scores and positions are mixed up in the loss."""
    return change(source, LOSS, "F.cross_entropy(logits.reshape(len(ids), -1, T), targets)")


@misconception(task="gpt", advice="Leave ignore_index at -100: the token 0 is a token like any other.")
def ignores_zero(source):
    """Targets of 0 are ignored, as if that were padding."""
    return change(source, "ignore_index=-100", "ignore_index=0")


@misconception(
    task="gpt", advice="Raise ValueError; cropping is the business of `generate`, which knows what to leave out."
)
def cropped_silently(source):
    """A text that is too long is cropped instead of refused."""
    return change(
        source,
        'raise ValueError(f"{T} tokens do not fit into a context of {self.config.block_size}")',
        "ids = ids[:, -self.config.block_size:]; T = ids.shape[1]",
    )


@misconception(
    task="gpt", advice="Check T against config.block_size first, and raise ValueError with T in the message."
)
def length_unchecked(source):
    """The length is not checked; the look-up of a position fails instead."""
    return change(source, "if T > self.config.block_size:", "if False:")


@misconception(
    task="gpt", advice="Raise ValueError: `assert` says something about your own code and can be switched off."
)
def length_asserted(source):
    """The length is checked by `assert`."""
    source = change(source, "if T > self.config.block_size:", "assert T <= self.config.block_size, T")
    return change(
        source,
        '            raise ValueError(f"{T} tokens do not fit into a context of {self.config.block_size}")\n',
        "",
    )


@misconception(task="gpt", advice="Write torch.arange(T, device=ids.device).")
def positions_on_cpu(source):
    """The positions are made on the CPU, wherever the ids are."""
    return change(source, "torch.arange(T, device=ids.device)", "torch.arange(T)")


@misconception(task="gpt", advice="Use flatten() or reshape(-1): view(-1) needs the numbers in order in memory.")
def view_of_targets(source):
    """`view` fails for targets that do not lie in order in memory."""
    return change(source, "targets.flatten()", "targets.view(-1)")


@misconception(
    task="gpt", advice="Leave the embeddings as they are; the factor sqrt(C) belongs to the Transformer of 2017."
)
def scaled_embeddings(source):
    """The token embeddings are multiplied by sqrt(C)."""
    return change(source, "self.transformer.wte(ids) +", "self.transformer.wte(ids) * self.config.d_model**0.5 +")


@misconception(task="gpt", advice="Make the head with bias=False.")
def head_with_bias(source):
    """The head has a bias."""
    return change(source, "config.vocab_size, bias=False)", "config.vocab_size)")


@honest(task="gpt")
def head_first(source):
    """The head is made first, the embedding is tied to it, and the starting values come by `apply`."""
    del source
    return """
class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.transformer = nn.ModuleDict(dict(
            h=nn.ModuleList(Block(config) for _ in range(config.n_layer)),
            wpe=nn.Embedding(config.block_size, config.d_model),
            wte=nn.Embedding(config.vocab_size, config.d_model),
            ln_f=LayerNorm(config.d_model, bias=config.bias),
            drop=nn.Dropout(config.dropout),
        ))
        self.config = config
        self.apply(self._start)
        self.transformer.wte.weight = self.lm_head.weight
        for block in self.transformer["h"]:
            for layer in (block.attn.c_proj, block.mlp.c_proj):
                torch.nn.init.normal_(layer.weight, std=0.02 * (2 * config.n_layer) ** -0.5)

    def _start(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.data.normal_(0.0, 0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.data.zero_()

    def forward(self, ids, targets=None):
        B, T = ids.size()
        if not T <= self.config.block_size:
            raise ValueError("block_size exceeded: %d > %d" % (T, self.config.block_size))
        where = torch.arange(0, T, dtype=torch.long, device=ids.device).unsqueeze(0)
        x = self.transformer.drop(self.transformer.wpe(where) + self.transformer.wte(ids))
        for block in self.transformer.h:
            x = block(x)
        x = self.transformer.ln_f(x)
        logits = F.linear(x, self.lm_head.weight)
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))
        return logits, loss
"""


@honest(task="gpt")
def loss_by_hand(source):
    """The loss from log-probabilities, picked out and averaged over the targets that count."""
    return change(
        source,
        f"loss = {LOSS}",
        """count = targets != -100
        picked = logits.log_softmax(-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        loss = -(picked * count).sum() / count.sum()""",
    )


@honest(task="gpt")
def classes_second(source):
    """The vocabulary as the second dimension, as F.cross_entropy also takes it; wpe sliced, not looked up."""
    source = change(source, LOSS, "F.cross_entropy(logits.transpose(1, 2), targets)")
    return change(source, "self.transformer.wpe(positions)", "self.transformer.wpe.weight[:T]")


@honest(task="gpt")
def initialised_by_apply(source):
    """The starting values by `apply`, those of the projections afterwards; views instead of flatten."""
    del source
    return """
class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        assert config.vocab_size is not None
        self.config = config
        self.transformer = nn.ModuleDict(dict(
            wte = nn.Embedding(config.vocab_size, config.d_model),
            wpe = nn.Embedding(config.block_size, config.d_model),
            drop = nn.Dropout(config.dropout),
            h = nn.ModuleList([Block(config) for _ in range(config.n_layer)]),
            ln_f = LayerNorm(config.d_model, bias=config.bias),
        ))
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight
        self.apply(self._init_weights)
        for pn, p in self.named_parameters():
            if pn.endswith('c_proj.weight'):
                torch.nn.init.normal_(p, mean=0.0, std=0.02/math.sqrt(2 * config.n_layer))

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)

    def forward(self, idx, targets=None):
        device = idx.device
        b, t = idx.size()
        if t > self.config.block_size:
            raise ValueError(f"Cannot forward sequence of length {t}, block size is only {self.config.block_size}")
        pos = torch.arange(0, t, dtype=torch.long, device=device)
        tok_emb = self.transformer.wte(idx)
        pos_emb = self.transformer.wpe(pos)
        x = self.transformer.drop(tok_emb + pos_emb)
        for block in self.transformer.h:
            x = block(x)
        x = self.transformer.ln_f(x)
        if targets is not None:
            logits = self.lm_head(x)
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1), ignore_index=-100)
        else:
            logits = self.lm_head(x)
            loss = None
        return logits, loss
"""


@honest(task="gpt")
def functional(source):
    """F.embedding, an nn.Sequential of blocks, einsum for the head, nll_loss; the weight of the head is registered."""
    del source
    return """
class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        std = 0.02
        self.transformer = nn.ModuleDict()
        self.transformer["wte"] = nn.Embedding(config.vocab_size, config.d_model, _weight=torch.randn(config.vocab_size, config.d_model) * std)
        self.transformer["wpe"] = nn.Embedding(config.block_size, config.d_model, _weight=torch.randn(config.block_size, config.d_model) * std)
        self.transformer["drop"] = nn.Dropout(config.dropout)
        self.transformer["h"] = nn.Sequential(*map(Block, [config] * config.n_layer))
        self.transformer["ln_f"] = nn.LayerNorm(config.d_model, bias=config.bias)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        del self.lm_head.weight
        self.lm_head.register_parameter("weight", self.transformer["wte"].weight)
        with torch.no_grad():
            for block in self.transformer["h"]:
                for layer in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
                    layer.weight.normal_(0, std)
                    if layer.bias is not None:
                        layer.bias.zero_()
                block.attn.c_proj.weight.mul_((2 * config.n_layer) ** -0.5)
                block.mlp.c_proj.weight.mul_((2 * config.n_layer) ** -0.5)

    def forward(self, ids, targets=None):
        B, T = ids.shape
        if not T <= self.config.block_size:
            raise ValueError(T)
        t = self.transformer
        x = F.embedding(ids, t.wte.weight) + t.wpe.weight[None, :T]
        hidden = t.ln_f(t.h(F.dropout(x, self.config.dropout, self.training)))
        logits = torch.einsum("btc,vc->btv", hidden, self.lm_head.weight)
        if targets is None:
            return logits, None
        logp = F.log_softmax(logits, -1)
        return logits, F.nll_loss(logp.view(B * T, -1), targets.reshape(B * T))
"""


# ---------------------------------------------------------------------------------------- count_parameters


@battery("count_parameters")
def count_questions(ask):
    """Four models, with and without biases."""
    sizes = [(13, 7, 2, 3, 12, 0.0, True), (13, 7, 2, 3, 12, 0.0, False), (5, 3, 1, 1, 4), (50257, 1024, 12, 12, 768)]
    return [ask.count_parameters(ask.new("GPTConfig", *size)) for size in sizes]


@misconception(task="count_parameters", advice="lm_head and wte are one matrix: count it once.")
def head_counted_twice(source):
    """The tied head is counted twice."""
    return change(source, "embeddings = config.vocab_size * C", "embeddings = 2 * config.vocab_size * C")


@misconception(task="count_parameters", advice="Add block_size · C for wpe.")
def positions_not_counted(source):
    """The position embedding is not counted."""
    return change(source, " + config.block_size * C", "")


@misconception(
    task="count_parameters", advice="With bias=False there are no biases: multiply them by int(config.bias)."
)
def biases_always_counted(source):
    """The biases are counted even where there are none."""
    return change(source, "int(config.bias)", "1")


@misconception(task="count_parameters", advice="With bias=True each linear layer and each norm has a bias: add them.")
def biases_never_counted(source):
    """The biases are not counted."""
    return change(source, "int(config.bias)", "0")


@misconception(task="count_parameters", advice="Add one more norm, ln_f, after the blocks.")
def final_norm_not_counted(source):
    """The last norm, `ln_f`, is not counted."""
    return change(source, "+ config.n_layer * block + norm", "+ config.n_layer * block")


@misconception(task="count_parameters", advice="A block has two norms, ln_1 and ln_2.")
def one_norm_counted(source):
    """Only one norm in each block is counted."""
    return change(source, "2 * norm", "norm")


@misconception(
    task="count_parameters", advice="Attention has c_attn (C to 3C) and c_proj (C to C), each with its biases."
)
def projection_not_counted(source):
    """Attention's output projection is not counted."""
    return change(source, "C * 3 * C + C * C + bias * (3 * C + C)", "C * 3 * C + bias * 3 * C")


@misconception(task="count_parameters", advice="The napkin leaves out norms and biases: count them too.")
def napkin(source):
    """Only the matrices are counted: 12 n_layer C² and the embeddings."""
    return change(
        source, "return embeddings + config.n_layer * block + norm", "return embeddings + config.n_layer * 12 * C * C"
    )


@misconception(
    task="count_parameters",
    advice="Without biases the norms have none either: a norm has C + int(config.bias) · C parameters.",
)
def norm_biases_always_counted(source):
    """The biases of the norms are counted even where there are none."""
    return change(source, "norm = C + bias * C", "norm = 2 * C")


@honest(task="count_parameters")
def multiplied_out(source):
    """One formula."""
    del source
    return """
def count_parameters(config):
    C, L = config.d_model, config.n_layer
    weights = C * (config.vocab_size + config.block_size) + L * (12 * C ** 2 + 2 * C) + C
    return weights + (L * (9 * C + 2 * C) + C if config.bias else 0)
"""


@honest(task="count_parameters")
def layer_by_layer(source):
    """Added up layer by layer."""
    del source
    return """
def count_parameters(config):
    total = 0
    C = config.d_model
    def linear(a, b): return a * b + (b if config.bias else 0)
    def norm(): return C * (2 if config.bias else 1)
    total += (config.vocab_size + config.block_size) * C
    for _ in range(config.n_layer):
        total += linear(C, 3 * C) + linear(C, C) + linear(C, 4 * C) + linear(4 * C, C) + 2 * norm()
    return total + norm()
"""


@honest(task="count_parameters")
def one_block_on_meta(source):
    """One block built on the meta device, times n_layer."""
    del source
    return """
def count_parameters(config):
    from dataclasses import replace
    with torch.device("meta"):
        one = sum(p.numel() for p in Block(config).parameters())
        last = sum(p.numel() for p in LayerNorm(config.d_model, bias=config.bias).parameters())
    return (config.vocab_size + config.block_size) * config.d_model + config.n_layer * one + last
"""


# ------------------------------------------------------------------------------------------------ generate

TABLE = torch.tensor(
    [
        [0.03, 0.45, 0.28, 0.16, 0.08],
        [0.08, 0.03, 0.45, 0.28, 0.16],
        [0.16, 0.08, 0.03, 0.45, 0.28],
        [0.28, 0.16, 0.08, 0.03, 0.45],
        [0.45, 0.28, 0.16, 0.08, 0.03],
    ],
    dtype=F64,
).log()
SETTINGS = (
    {},
    {"temperature": 0.5},
    {"temperature": 2.0},
    {"temperature": 0.0},
    {"top_k": 1},
    {"top_k": 2},
    {"top_k": 3},
    {"top_k": 9},
    {"top_p": 1.0},
    {"top_p": 0.6},
    {"top_p": 0.3},
    {"top_p": 0.85},
    {"top_k": 2, "top_p": 0.6},
    {"temperature": 3.0, "top_p": 0.6},
)


def text_table(ask, logits=TABLE, *, training=False, memory=0.6):
    """A model whose answers stand in a table."""
    model = ask.new("TableModel", logits, 3, memory)
    (model.train if training else model.eval)()
    return model


def written(ask, logits, prompt, length, **options):
    """A text from one generator; the global random state is the same each time, too, for those who use that."""
    return ask.observe(
        "generate", text_table(ask, logits), prompt, length, generator=ask.target.generator(1), seed=2, **options
    ).value


@battery("generate")
def generate_questions(ask):
    """Texts under many settings from one generator, prompts of several lengths, modes, arguments out of range."""
    rows, long = torch.arange(5).repeat(12)[:, None], torch.arange(14).view(2, 7) % 5
    uneven = TABLE * torch.tensor([[0.3], [1.0], [3.0], [1.0], [0.5]], dtype=F64) + torch.arange(5)[:, None] * 3
    found = [written(ask, TABLE, rows, 2, **setting) for setting in SETTINGS]
    found += [
        written(ask, TABLE * 1e-4, rows, 2, temperature=1e-4),
        written(ask, uneven, rows, 1, top_k=2),
        written(ask, torch.zeros(4, 4, dtype=F64), rows.clamp(max=3), 1, top_p=0.5),
    ]
    for training in (True, False):
        model = text_table(ask, training=training)
        found += [ask.generate(model, long, 3, temperature=0), model.get("diary"), model.get("training")]
        found += [ask.generate(model, torch.tensor([[9]]), 1, temperature=0), model.get("training")]
        model(rows)
        found.append(model.get("diary"))
    seen = ask.observe(
        "generate", text_table(ask), rows, 2, generator=ask.target.generator(4), randomness=True, inputs=True, seed=3
    )
    found += [seen.random_used, seen.inputs_after, ask.observe("generate", text_table(ask), rows, 2, seed=5).value]
    bad = (
        {"temperature": -0.5},
        {"top_k": 0},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"temperature": 0, "top_k": -1},
        {"temperature": 0, "top_p": 2.0},
    )
    return found + [written(ask, TABLE, rows, 1, **options) for options in bad]


DRAW = "next_ids = torch.multinomial(probabilities, 1, generator=generator)     # (B, 1)"


@misconception(task="generate", advice="Divide the logits by the temperature, before the softmax.")
def temperature_after_softmax(source):
    """The temperature divides the probabilities and not the logits, where it changes nothing."""
    source = change(source, "torch.float32)) / temperature", "torch.float32))")
    return change(
        source, "probabilities = logits.softmax(dim=-1)", "probabilities = logits.softmax(dim=-1) / temperature"
    )


@misconception(task="generate", advice="Divide by the temperature: below 1 makes the model bolder.")
def temperature_multiplied(source):
    """The logits are multiplied by the temperature."""
    return change(source, "torch.float32)) / temperature", "torch.float32)) * temperature")


@misconception(
    task="generate", advice="Divide by the temperature first: it changes how many tokens it takes to reach p."
)
def temperature_last(source):
    """The temperature comes after the filters and not before them."""
    source = change(source, "torch.float32)) / temperature", "torch.float32))")
    return change(source, DRAW, "probabilities = probabilities ** (1 / temperature)\n                    " + DRAW)


@misconception(task="generate", advice="The threshold is the k-th largest logit; keep what is equal or larger.")
def top_k_one_too_many(source):
    """`top_k` keeps one token too many."""
    return change(source, "logits.topk(min(top_k, logits", "logits.topk(min(top_k + 1, logits")


@misconception(task="generate", advice="Mask what is smaller than the k-th largest logit, and not what is equal to it.")
def top_k_one_too_few(source):
    """`top_k` throws away the k-th token as well."""
    return change(source, "logits < least", "logits <= least")


@misconception(task="generate", advice="Take the threshold of each row: values[:, -1:].")
def top_k_of_first_text(source):
    """All texts of the batch share the threshold of the first."""
    return change(source, ".values[:, -1:]", ".values[:1, -1:]")


@misconception(task="generate", advice="Use min(top_k, V): there are no more logits than the vocabulary has.")
def top_k_beyond_vocabulary(source):
    """A `top_k` above the size of the vocabulary fails."""
    return change(source, "min(top_k, logits.shape[-1])", "top_k")


@misconception(task="generate", advice="Write -inf for what goes: a logit of 0 is a good score, not none.")
def masked_with_zero(source):
    """Logits that are filtered out are set to 0, which is not a probability of 0."""
    return change(source, 'float("-inf")', "0.0")


@misconception(
    task="generate",
    advice="Keep the token that reaches p: throw one away only if those before it had reached p already.",
)
def top_p_drops_the_last(source):
    """The token that reaches p is thrown away, and sometimes nothing is left."""
    return change(source, "ordered.cumsum(dim=-1) - ordered ", "ordered.cumsum(dim=-1) ")


@misconception(
    task="generate",
    advice="Keep the token that reaches p: throw one away only if those before it had reached p already.",
)
def top_p_drops_the_last_but_keeps_one(source):
    """The token that reaches p is thrown away, unless it is the only one."""
    return change(
        source,
        "ordered = ordered.masked_fill(before >= top_p, 0.0)",
        "gone = ordered.cumsum(dim=-1) >= top_p; gone[:, 0] = False; ordered = ordered.masked_fill(gone, 0.0)",
    )


@misconception(
    task="generate", advice="Compare p with the sum of the more likely tokens, without shifting it once more."
)
def top_p_one_too_many(source):
    """`top_p` keeps one token more than it takes to reach p."""
    return change(
        source, "masked_fill(before >= top_p, 0.0)", "masked_fill(F.pad(before[:, :-1], (1, 0)) >= top_p, 0.0)"
    )


@misconception(
    task="generate",
    advice="Reaching p exactly is enough: throw away where the sum before is >= p, and not only where it is > p.",
)
def top_p_boundary(source):
    """A set that reaches p exactly gets one token more."""
    return change(source, "before >= top_p", "before > top_p")


@misconception(task="generate", advice="Sort the probabilities, largest first, before you add them up.")
def top_p_unsorted(source):
    """The probabilities are added up in the vocabulary's order and not from the most likely on."""
    return change(
        source,
        "ordered, order = probabilities.sort(dim=-1, descending=True)",
        "ordered, order = probabilities, torch.arange(logits.shape[-1]).expand_as(probabilities)",
    )


@misconception(task="generate", advice="Sort with descending=True.")
def top_p_ascending(source):
    """The least likely tokens are kept and not the most likely."""
    return change(source, "descending=True", "descending=False")


@misconception(
    task="generate", advice="Put the probabilities back into the vocabulary's order before you draw, with scatter."
)
def top_p_not_put_back(source):
    """The place in the sorted list is taken for the token's id."""
    return change(
        source, "probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered)", "probabilities = ordered"
    )


@misconception(
    task="generate", advice="Draw over the vocabulary in its own order, so that one seed always means one text."
)
def drawn_in_sorted_order(source):
    """The token is drawn from the sorted list: rightly distributed, but another text for the same generator."""
    return change(
        source,
        DRAW,
        """ordered, order = probabilities.sort(dim=-1, descending=True)
                    next_ids = order.gather(-1, torch.multinomial(ordered, 1, generator=generator))""",
    )


@misconception(task="generate", advice="Keep the most likely tokens until their SUM reaches p.")
def top_p_as_threshold(source):
    """`top_p` is compared with each token's probability and not with their sum."""
    return change(source, "before >= top_p", "ordered < 1 - top_p")


@misconception(task="generate", advice="top_k first; top_p then works on the probabilities of those that are left.")
def top_p_before_top_k(source):
    """`top_p` comes before `top_k`."""
    start, middle = (
        source.index("                    if top_k is not None:\n"),
        source.index("                    if top_p is not None:\n"),
    )
    end = source.index("                    next_ids = torch.multinomial")
    first, second = source[start:middle], source[middle:end]
    softmax = "                    probabilities = logits.softmax(dim=-1)                          # (B, V)\n"
    swapped = (
        softmax + second + "                    logits = probabilities.log()\n" + change(first, softmax, "") + softmax
    )
    return source[:start] + swapped + source[end:]


@misconception(task="generate", advice="Hand the model ids[:, -block_size:], the last block_size tokens.")
def not_cropped(source):
    """A text longer than the context is not cropped."""
    return change(source, "ids[:, -model.config.block_size:] ", "ids ")


@misconception(task="generate", advice="Keep the last block_size tokens: ids[:, -block_size:].")
def cropped_to_the_beginning(source):
    """The first tokens are kept and not the last, so what was just written is never read."""
    return change(source, "ids[:, -model.config.block_size:]", "ids[:, :model.config.block_size]")


@misconception(task="generate", advice="Keep block_size tokens, and not one fewer; with block_size 1, `ids[:, -0:]` is even the whole text.")
def cropped_too_much(source):
    """The model sees one token fewer than it could."""
    return change(source, "ids[:, -model.config.block_size:]", "ids[:, -(model.config.block_size - 1):]")


@misconception(task="generate", advice="Hand the model all of the text that fits.")
def only_the_last_token(source):
    """The model sees only the last token."""
    return change(source, "ids[:, -model.config.block_size:]", "ids[:, -1:]")


@misconception(task="generate", advice="Draw with torch.multinomial; argmax is for temperature 0.")
def always_greedy(source):
    """The most likely token is always taken; nothing is ever drawn."""
    return change(source, "if temperature == 0:", "if True:")


@misconception(task="generate", advice="Take the logits of the last position: logits[:, -1].")
def first_position(source):
    """The logits of the first position are used and not those of the last."""
    return change(source, "model(window)[0][:, -1]", "model(window)[0][:, 0]")


@misconception(task="generate", advice="Call model.eval() before the loop.")
def in_training_mode(source):
    """The model is not put into eval mode."""
    return change(source, "    model.eval()\n", "")


@misconception(task="generate", advice="Remember model.training before eval(), and put it back in `finally`.")
def left_in_eval_mode(source):
    """The model is left in eval mode."""
    return change(source, "module.training = mode", "pass")


@misconception(task="generate", advice="Put back the mode the model came in; it need not have been training.")
def left_in_training_mode(source):
    """The model is left in training mode, however it came."""
    return change(source, "module.training = mode", "module.training = True")


@misconception(task="generate", advice="Put the mode back in `finally:`, which also runs when something goes wrong.")
def mode_lost_on_exception(source):
    """After an exception the model is left in eval mode."""
    return change(change(source, "    try:\n", "    if True:\n"), "    finally:\n", "    if True:\n")


@misconception(task="generate", advice="Treat temperature 0 by itself: take the argmax.")
def divided_by_zero(source):
    """With temperature 0 the logits are divided by zero."""
    return change(source, "if temperature == 0:", "if False:")


@misconception(task="generate", advice="Refuse only temperature < 0; temperature 0 is greedy.")
def zero_refused(source):
    """Temperature 0 is refused."""
    return change(source, "if temperature < 0:", "if temperature <= 0:")


@misconception(task="generate", advice="Check all arguments first, whatever the temperature is.")
def greedy_checks_nothing(source):
    """With temperature 0, `top_k` and `top_p` are not checked."""
    source = change(
        source, "if top_k is not None and top_k < 1:", "if temperature != 0 and top_k is not None and top_k < 1:"
    )
    return change(
        source,
        "if top_p is not None and not 0 < top_p <= 1:",
        "if temperature != 0 and top_p is not None and not 0 < top_p <= 1:",
    )


@misconception(task="generate", advice="Raise ValueError for temperature < 0, top_k < 1 and top_p outside (0, 1].")
def nothing_checked(source):
    """The arguments are not checked."""
    source = change(source, "if temperature < 0:", "if False:")
    source = change(source, "if top_k is not None and top_k < 1:", "if False:")
    return change(source, "if top_p is not None and not 0 < top_p <= 1:", "if False:")


@misconception(task="generate", advice="Ask `top_k is not None`: a plain `if top_k` takes 0 for None.")
def zero_taken_for_none(source):
    """`top_k=0` and `top_p=0` are taken for None and not refused."""
    source = change(source, "if top_k is not None", "if top_k", count=2)
    return change(source, "if top_p is not None", "if top_p", count=2)


@misconception(
    task="generate", advice="Raise ValueError: `assert` says something about your own code and can be switched off."
)
def arguments_asserted(source):
    """The arguments are checked by `assert`."""
    return change(source, "raise ValueError(", "raise AssertionError(", count=3)


@misconception(task="generate", advice="Run the loop `with torch.no_grad():`.")
def gradients_on(source):
    """Gradients are recorded while the model writes."""
    return change(source, "torch.no_grad()", "torch.enable_grad()")


@misconception(task="generate", advice="Write `with torch.no_grad():`, which puts things back by itself.")
def gradients_left_off(source):
    """Gradients are switched off for good: afterwards nothing in the program can be trained."""
    return change(source, "with torch.no_grad():", "torch.set_grad_enabled(False)\n        if True:")


@misconception(task="generate", advice="Take the argmax only where temperature == 0.")
def near_zero_taken_for_zero(source):
    """A temperature near 0 is treated as 0."""
    return change(source, "if temperature == 0:", "if temperature < 1e-3:")


@misconception(task="generate", advice="Crop what you hand to the model, under another name, and append to the whole text.")
def beginning_lost(source):
    """The text itself is cropped to the context, so its beginning is lost."""
    return change(source, "window = ids[:, -model.config.block_size:]", "window = ids = ids[:, -model.config.block_size:]")


@misconception(task="generate", advice="Return the prompt and the new tokens together.")
def prompt_left_out(source):
    """Only the new tokens are returned."""
    return change(source, "    return ids\n", "    return ids[:, -max_new_tokens:]\n")


@misconception(task="generate", advice="Hand it on: torch.multinomial(probabilities, 1, generator=generator).")
def generator_ignored(source):
    """The generator is not handed to torch.multinomial."""
    return change(source, "1, generator=generator)", "1)")


@misconception(task="generate", advice="Leave seeds to the caller: take out torch.manual_seed.")
def own_seed(source):
    """A seed is set inside, so every call without a generator writes the same."""
    return change(source, "    model.eval()\n", "    model.eval()\n    torch.manual_seed(1337)\n")


@misconception(task="generate", advice="Draw for each row by itself: torch.multinomial does so for a (B, V) tensor.")
def one_draw_for_all(source):
    """All texts of the batch get the token that was drawn for the first."""
    return change(
        source, DRAW, "next_ids = torch.multinomial(probabilities[:1], 1, generator=generator).expand(len(ids), 1)"
    )


@misconception(task="generate", advice="Append max_new_tokens tokens.")
def one_token_short(source):
    """One token too few is written."""
    return change(source, "range(max_new_tokens)", "range(max_new_tokens - 1)")


@honest(task="generate")
def filters_on_logits(source):
    """Both filters write -inf into the logits; top_p by a shifted mask on the sorted probabilities."""
    del source
    return """
@torch.inference_mode()
def generate(model, ids, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None):
    if not temperature >= 0:
        raise ValueError(f"temperature={temperature}")
    if top_k is not None and top_k <= 0:
        raise ValueError(f"top_k={top_k}")
    if top_p is not None and (top_p <= 0 or top_p > 1):
        raise ValueError(f"top_p={top_p}")
    was = model.training
    model.eval()
    try:
        for _ in range(max_new_tokens):
            block = model.config.block_size
            logits, _ = model(ids if ids.size(1) <= block else ids[:, -block:])
            logits = logits[:, -1, :]
            if temperature == 0:
                following = torch.argmax(logits, dim=-1, keepdim=True)
            else:
                logits = logits / temperature
                if top_k is not None and top_k < logits.size(-1):
                    ranked, _ = torch.sort(logits, descending=True)
                    logits = torch.where(logits < ranked[:, top_k - 1 : top_k], -torch.inf, logits)
                if top_p is not None:
                    ranked, places = torch.sort(logits, descending=True, dim=-1)
                    reached = F.softmax(ranked, dim=-1).cumsum(-1) >= top_p
                    gone = torch.zeros_like(reached)
                    gone[:, 1:] = reached[:, :-1]
                    logits = logits.masked_fill(torch.zeros_like(gone).scatter(1, places, gone), -torch.inf)
                following = torch.multinomial(F.softmax(logits, dim=-1), num_samples=1, generator=generator)
            ids = torch.cat((ids, following), dim=1)
        return ids
    finally:
        model.train(was)
"""


@honest(task="generate")
def filled_in_beforehand(source):
    """The text is laid out at full length first; top_k by index, top_p from the least likely end."""
    del source
    return """
def generate(model, ids, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None):
    for name, value, fine in (
        ("temperature", temperature, temperature >= 0),
        ("top_k", top_k, top_k is None or top_k >= 1),
        ("top_p", top_p, top_p is None or 0 < top_p <= 1),
    ):
        if not fine:
            raise ValueError(f"{name} cannot be {value}")
    B, T = ids.shape
    text = torch.zeros(B, T + max_new_tokens, dtype=ids.dtype, device=ids.device)
    text[:, :T] = ids
    training = model.training
    try:
        model.train(False)
        for end in range(T, T + max_new_tokens):
            with torch.no_grad():
                logits = model(text[:, max(0, end - model.config.block_size):end])[0][:, -1]
            if temperature == 0:
                text[:, end] = logits.argmax(-1)
                continue
            chances = (logits / temperature).softmax(-1)
            if top_k is not None:
                best = chances.topk(min(top_k, chances.shape[1]), dim=-1)
                chances = torch.zeros_like(chances).scatter_(1, best.indices, best.values)
                chances = chances / chances.sum(-1, keepdim=True)
            if top_p is not None:
                rising, order = chances.sort(-1)
                rising = torch.where(rising.cumsum(-1) <= 1 - top_p, 0.0, rising)
                chances = torch.zeros_like(chances).scatter_(1, order, rising)
            text[:, end] = torch.multinomial(chances, 1, generator=generator)[:, 0]
    finally:
        model.train(training)
    return text
"""


@honest(task="generate")
def kthvalue_and_a_loop(source):
    """A context manager for the mode, kthvalue for top_k, a plain loop for top_p."""
    del source
    return """
from contextlib import contextmanager

@contextmanager
def evaluating(model):
    before = {m: m.training for m in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for m, mode in before.items():
            m.training = mode

def _nucleus(p, top_p):
    out = torch.zeros_like(p)
    for b in range(p.shape[0]):
        total = 0.0
        for i in torch.argsort(p[b], descending=True, stable=True).tolist():
            out[b, i] = p[b, i]
            total += p[b, i].item()
            if total >= top_p:
                break
    return out

@torch.no_grad()
def generate(model, ids, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None):
    if temperature < 0: raise ValueError(f"temperature {temperature} < 0")
    if not (top_k is None or top_k >= 1): raise ValueError(f"bad top_k: {top_k}")
    if not (top_p is None or 0 < top_p <= 1): raise ValueError(f"bad top_p: {top_p}")
    with evaluating(model):
        while max_new_tokens > 0:
            max_new_tokens -= 1
            z = model(ids[:, -model.config.block_size:])[0][:, -1, :]
            V = z.shape[-1]
            if temperature == 0:
                nxt = z.max(dim=-1).indices.unsqueeze(1)
            else:
                z = z.double() / temperature
                if top_k is not None and top_k < V:
                    kth = z.kthvalue(V - top_k + 1, dim=-1, keepdim=True).values
                    z = torch.where(z >= kth, z, torch.tensor(-torch.inf, dtype=z.dtype))
                p = torch.softmax(z, -1)
                if top_p is not None:
                    p = _nucleus(p, top_p)
                nxt = torch.multinomial(p, 1, generator=generator)
            ids = torch.hstack((ids, nxt))
    return ids
"""


@honest(task="generate")
def recursive(source):
    """Calls itself for the rest; probabilities that do not sum to one; the number of tokens kept counted."""
    del source
    return """
def generate(model, ids, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None):
    if temperature < 0:
        raise ValueError(temperature)
    if top_k is not None and top_k < 1:
        raise ValueError(top_k)
    if top_p is not None and not (top_p > 0 and top_p <= 1):
        raise ValueError(top_p)
    if max_new_tokens == 0:
        return ids.clone()
    training = model.training
    try:
        model.eval()
        with torch.inference_mode():
            out, _ = model(ids[..., -model.config.block_size:])
            scores = out[:, -1].clone()
            if not temperature:
                new = scores.topk(1).indices
            else:
                scores /= temperature
                if top_k is not None:
                    values, where = scores.topk(min(scores.size(-1), top_k))
                    scores = torch.full_like(scores, -math.inf).scatter(1, where, values)
                probs = F.softmax(scores, dim=-1)
                if top_p is not None:
                    rank = probs.argsort(dim=-1, descending=True)
                    run = probs.gather(-1, rank).cumsum(-1)
                    size = (run < top_p).sum(-1, keepdim=True) + 1
                    keep = torch.arange(probs.size(-1))[None] < size
                    mask = torch.zeros_like(keep).scatter(1, rank, keep)
                    probs = probs * mask
                new = probs.multinomial(1, generator=generator)
    finally:
        model.train(training)
    return generate(model, torch.cat([ids, new], 1), max_new_tokens - 1, temperature, top_k, top_p, generator)
"""


# ----------------------------------------------------------------------------------------------- load_gpt2

SMALL = {"vocab_size": 11, "block_size": 5, "n_layer": 2, "n_head": 3, "d_model": 6}
DEEP = {"vocab_size": 3, "block_size": 2, "n_layer": 12, "n_head": 1, "d_model": 2}
SQUARE = {"vocab_size": 6, "block_size": 6, "n_layer": 1, "n_head": 2, "d_model": 6}
TURNED = ("c_attn.weight", "c_fc.weight", "c_proj.weight")


def file_of(config, prefix="transformer.", seed=15):
    """Weights as a file holds them, and what must come of them."""
    wanted = {name: weight.half().float() for name, weight in lively(gpt_shapes(config), seed).items()}
    stored = {
        prefix + name.removeprefix("transformer."): (weight.T if name.endswith(TURNED) else weight).contiguous()
        for name, weight in wanted.items()
    }
    return stored, wanted


def shares_memory(ask, stored):
    """Is what is done to the model afterwards done to the file's tensors too?"""
    model, file = ask.new("GPT", ask.new("GPTConfig", **SMALL), seed=0), ask.keep("deepcopy", stored)
    ask.load_gpt2(model, file)
    parameter = model.keep("transformer.wpe.weight")
    ask.set(parameter, "requires_grad", False)
    parameter.zero_()
    return file.keep("__getitem__", "transformer.wpe.weight").detach()


def outcome_of(ask, config, stored, wanted):
    """What loading said, and which parameters arrived, stayed as they were, or became something else."""
    model = ask.new("GPT", ask.new("GPTConfig", **config), seed=0)
    before = model.state_dict()
    seen = ask.observe("load_gpt2", model, stored, inputs=True)
    after = model.state_dict()
    if not isinstance(after, dict) or not isinstance(before, dict):
        return [seen, after]
    states = []
    for name, weight in wanted.items():
        now = after.get(name)
        arrived = isinstance(now, torch.Tensor) and now.shape == weight.shape and torch.allclose(now.float(), weight)
        stayed = isinstance(now, torch.Tensor) and torch.equal(now, before[name])
        states.append(
            (name, "arrived" if arrived else "stayed" if stayed else "else", str(getattr(now, "dtype", None)))
        )
    ask.set(model.keep("lm_head.weight"), "requires_grad", False)
    said = seen.kind if isinstance(seen, Raised) else sorted(seen.inputs_after[0])
    return [said, states, model.get("transformer.wte.weight.requires_grad")]


@battery("load_gpt2")
def load_questions(ask):
    """Good files of several kinds, and broken ones."""
    stored, wanted = file_of(SMALL)
    plain, _ = file_of(SMALL, prefix="")
    masks = {"h.0.attn.bias": torch.ones(1, 1, 5, 5), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    head = {"lm_head.weight": stored["transformer.wte.weight"]}
    bare, bare_wanted = file_of(BARE)
    square, square_wanted = file_of(SQUARE)
    deep, deep_wanted = file_of(DEEP)
    deep |= {f"transformer.h.{layer}.attn.bias": torch.ones(1, 1, 2, 2) for layer in range(12)}
    files = [
        stored,
        plain,
        plain | masks,
        stored | {f"transformer.{key}": mask for key, mask in masks.items()},
        stored | head,
        {key: weight.half() for key, weight in stored.items()},
        {key: weight for key, weight in stored.items() if "h.1.ln_2.bias" not in key},
        stored | {"transformer.h.2.ln_1.weight": torch.ones(6)},
        stored | {"transformer.ln_f.bias": torch.ones(1)},
        stored | {"transformer.h.1.mlp.c_proj.weight": torch.ones(6, 24)},
        stored | {"lm_head.weight": head["lm_head.weight"] + 1},
        stored | {"lm_head.weight": head["lm_head.weight"][:4]},
    ]
    return [outcome_of(ask, SMALL, file, wanted) for file in files] + [
        outcome_of(ask, BARE, bare, bare_wanted),
        outcome_of(ask, SQUARE, square, square_wanted),
        outcome_of(ask, DEEP, deep, deep_wanted),
        shares_memory(ask, stored),
    ]


TURN = 'if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) and tensor.dim() == 2:'
UNKNOWN = "if name not in own or name in ready:"
MISSING = 'if name not in ready and name != "lm_head.weight":'


@misconception(
    task="load_gpt2", advice="Transpose the weights of c_attn, c_fc and both c_proj: the file has them as (in, out)."
)
def not_transposed(source):
    """The weights of the linear layers are not transposed."""
    return change(source, TURN, "if False:")


@misconception(
    task="load_gpt2",
    advice="Decide by name and not by shape: attn.c_proj.weight is square and must be transposed as well.",
)
def transposed_by_shape(source):
    """Weights are transposed only where the shapes do not fit; the square ones stay wrong."""
    return change(source, TURN, "if name in own and tensor.shape != own[name].shape and tensor.dim() == 2:")


@misconception(
    task="load_gpt2", advice="Transpose only the linear layers: wte and wpe are embeddings and stay as they are."
)
def everything_transposed(source):
    """Embeddings are transposed as well."""
    return change(source, TURN, "if tensor.dim() == 2:")


@misconception(task="load_gpt2", advice="There are four: c_attn, c_fc, and a c_proj in the attention and in the mlp.")
def projections_not_transposed(source):
    """`c_proj.weight` is forgotten among those to be transposed."""
    return change(
        source, '"c_attn.weight", "c_proj.weight", "c_fc.weight"', '"c_attn.weight", "c_fc.weight", "mlp.c_proj.weight"'
    )


@misconception(
    task="load_gpt2",
    advice="Take names with and without `transformer.`: removeprefix does nothing where there is none.",
)
def prefix_demanded(source):
    """Names without `transformer.` are refused."""
    return change(source, 'name = "transformer." + name', "name = key")


@misconception(task="load_gpt2", advice="Take names with and without `transformer.`: use key.removeprefix first.")
def prefix_refused(source):
    """Names that begin with `transformer.` are refused."""
    return change(source, 'key.removeprefix("transformer.")', "key")


@misconception(task="load_gpt2", advice="Look at every key first, and copy only when nothing can go wrong any more.")
def half_loaded(source):
    """Tensors are copied one by one, so a fault halfway leaves the model half loaded."""
    return change(
        source, "        ready[name] = tensor\n", "        ready[name] = tensor\n        own[name].copy_(tensor)\n"
    )


@misconception(
    task="load_gpt2",
    advice="Compare your own names with those that came, and raise ValueError for the first that is missing.",
)
def missing_ignored(source):
    """A missing key is ignored, so a part of the model stays random."""
    return change(source, MISSING, "if False:")


@misconception(task="load_gpt2", advice="Raise ValueError for a key that the model does not have.")
def unknown_ignored(source):
    """An unknown key is ignored."""
    return change(
        source,
        UNKNOWN + '\n            raise ValueError(f"unknown key, or one given twice: {key}")',
        UNKNOWN + "\n            continue",
    )


@misconception(
    task="load_gpt2",
    advice="Skip the keys that end in `.attn.bias` and `.attn.masked_bias`: they are masks, not weights.",
)
def masks_not_skipped(source):
    """`attn.bias` and `attn.masked_bias` are taken for unknown keys."""
    return change(source, r'if re.fullmatch(r"h\.\d+\.attn\.(masked_)?bias", name):', "if False:")


@misconception(
    task="load_gpt2", advice="Compare with `.attn.bias`, dot included: `c_attn.bias` also ends in `attn.bias`."
)
def attention_bias_skipped(source):
    """`attn.c_attn.bias` is skipped with the masks."""
    return change(
        source,
        r're.fullmatch(r"h\.\d+\.attn\.(masked_)?bias", name)',
        'name.endswith(("attn.bias", "attn.masked_bias"))',
    )


@misconception(
    task="load_gpt2", advice="Look whether the key is there before you use it, and raise ValueError with its name."
)
def key_error(source):
    """An unknown key raises KeyError and not ValueError."""
    return change(source, UNKNOWN, "if name in ready:")


@misconception(
    task="load_gpt2", advice="Copy into the tensors that are there, with copy_: a new Parameter unties the head."
)
def unties_the_head(source):
    """Loading puts new Parameters into the model, and the head is no longer tied."""
    return change(
        source,
        "own[name].copy_(tensor)",
        'owner, _, last = name.rpartition(".")\n'
        "            setattr(model.get_submodule(owner), last, nn.Parameter(tensor.clone()))",
    )


@misconception(task="load_gpt2", advice="`lm_head.weight` may be missing: it is wte's.")
def head_demanded(source):
    """A file without `lm_head.weight` is refused."""
    return change(source, MISSING, "if name not in ready and (name != 'lm_head.weight' or head is None):")


@misconception(
    task="load_gpt2", advice="`lm_head.weight` may be there, and is not called `transformer.lm_head.weight`."
)
def head_refused(source):
    """A file with `lm_head.weight` is refused."""
    return change(source, 'if name != "lm_head.weight":\n            name', "if True:\n            name")


@misconception(task="load_gpt2", advice="Compare lm_head.weight with wte.weight, and raise ValueError if they differ.")
def head_not_compared(source):
    """A head that differs from `wte` is accepted, and silently lost."""
    return change(source, "if head is not None and not torch.equal", "if False and not torch.equal")


@misconception(task="load_gpt2", advice="Compare the shapes yourself and raise ValueError: copy_ stretches a small tensor to fit, silently.")
def shapes_not_compared(source):
    """Shapes are not compared: a tensor that does not fit raises RuntimeError, and one of a single number fills the
    whole parameter.
    """
    return change(source, "if tensor.shape != own[name].shape:", "if False:")


@misconception(task="load_gpt2", advice="Layers go beyond 9: write `h\\.\\d+\\.`, with the plus.")
def masks_of_ten_layers_only(source):
    """The masks of layers 10 and up are taken for unknown keys: `\\d` is one digit."""
    return change(source, r"h\.\d+\.attn", r"h\.\d\.attn")


@misconception(task="load_gpt2", advice="Copy the numbers with copy_, instead of putting the file's tensor in place.")
def memory_shared(source):
    """The model takes over the file's own tensors, so training it changes the caller's dictionary."""
    return change(
        source, "own[name].copy_(tensor)", "model.get_parameter(name).data = tensor.to(own[name].dtype)"
    )


@misconception(
    task="load_gpt2",
    advice="Compare the shape of lm_head.weight first, and raise ValueError: comparing unequal shapes raises RuntimeError.",
)
def head_shape_not_compared(source):
    """A head of another shape raises RuntimeError and not ValueError."""
    source = change(source, "if tensor.shape != own[name].shape:", 'if name != "lm_head.weight" and tensor.shape != own[name].shape:')
    return change(
        source,
        'not torch.equal(head, ready["transformer.wte.weight"].to(head.dtype))',
        'not (head == ready["transformer.wte.weight"].to(head.dtype)).all()',
    )


@misconception(
    task="load_gpt2",
    advice="Compare names and shapes yourself before you copy: load_state_dict copies what fits, and complains afterwards.",
)
def load_state_dict_complains_too_late(source):
    """load_state_dict is left to find what is wrong, and by then it has copied the rest."""
    source = change(source, "if tensor.shape != own[name].shape:", "if False:")
    source = change(source, MISSING, "if False:")
    return change(
        source,
        "    with torch.no_grad():\n        for name, tensor in ready.items():\n            own[name].copy_(tensor)\n",
        "    try:\n        model.load_state_dict({**ready, 'lm_head.weight': ready.get('transformer.wte.weight')})\n"
        "    except (RuntimeError, AttributeError) as error:\n        raise ValueError(str(error))\n",
    )


@misconception(
    task="load_gpt2",
    advice="Leave the dictionary that was handed to you as it is: `continue` instead of `del` or `pop`.",
)
def file_changed(source):
    """Keys are removed from the caller's dictionary."""
    return change(
        source,
        "    own = model.state_dict() ",
        '    extra = (".attn.bias", ".attn.masked_bias", "lm_head.weight")\n'
        "    for key in [key for key in weights if key.endswith(extra)]:\n"
        "        del weights[key]\n    own = model.state_dict() ",
    )


@honest(task="load_gpt2")
def by_load_state_dict(source):
    """A dictionary in our own names and layout, compared as sets, then handed to load_state_dict."""
    del source
    return """
def load_gpt2(model, weights):
    turned = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    mine = {name: tensor.shape for name, tensor in model.state_dict().items()}
    theirs = {}
    for key, tensor in weights.items():
        if key.endswith(".attn.bias") or key.endswith(".attn.masked_bias"):
            continue
        name = key if key.startswith(("transformer.", "lm_head.")) else f"transformer.{key}"
        theirs[name] = tensor.t() if name.endswith(turned) and tensor.ndim == 2 else tensor
    theirs.setdefault("lm_head.weight", theirs.get("transformer.wte.weight"))
    for name in sorted(mine.keys() ^ theirs.keys()):
        raise ValueError(f"{name}: {'missing' if name in mine else 'unknown'}")
    for name, tensor in theirs.items():
        if tensor is None or tensor.shape != mine[name]:
            raise ValueError(f"{name}: missing or of the wrong shape")
    if not torch.equal(theirs["lm_head.weight"], theirs["transformer.wte.weight"]):
        raise ValueError("lm_head.weight is not wte.weight")
    model.load_state_dict(theirs)
"""


@honest(task="load_gpt2")
def from_the_models_side(source):
    """Goes through the model's own parameters and looks for each in the file."""
    del source
    return """
def load_gpt2(model, weights):
    file = {re.sub(r"^transformer\\.", "", key): value for key, value in weights.items()}
    pairs = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name == "lm_head.weight":
            continue
        key = name[len("transformer."):]
        if key not in file:
            raise ValueError("missing: " + key)
        value = file.pop(key)
        if key.split(".")[-2] in ("c_attn", "c_fc", "c_proj") and key.endswith("weight"):
            value = value.transpose(0, 1) if value.dim() == 2 else value
        if tuple(value.shape) != tuple(parameter.shape):
            raise ValueError("shape of " + key)
        pairs.append((parameter, value))
    head = file.pop("lm_head.weight", None)
    wte = weights.get("wte.weight", weights.get("transformer.wte.weight"))
    if head is not None and (head.shape != wte.shape or not (head == wte).all()):
        raise ValueError("lm_head.weight")
    for key in file:
        if not re.search(r"attn\\.(masked_)?bias$", key):
            raise ValueError("unknown: " + key)
    for parameter, value in pairs:
        parameter.data.copy_(value)
"""


@honest(task="load_gpt2")
def rolled_back(source):
    """Copies at once, and puts everything back if something is wrong."""
    del source
    return """
def load_gpt2(model, weights):
    backup = {k: v.clone() for k, v in model.state_dict().items()}
    linear = {n for n, _ in model.named_modules() if n.rpartition(".")[2] in ("c_attn", "c_proj", "c_fc")}
    todo = dict(weights)
    try:
        for name, own in model.state_dict().items():
            short = name.removeprefix("transformer.")
            if name == "lm_head.weight":
                continue
            value = todo.pop("transformer." + short, None)
            if value is None:
                value = todo.pop(short, None)
            if value is None:
                raise ValueError(f"{short} is missing")
            if name.rpartition(".")[0] in linear and name.endswith("weight") and value.ndim == 2:
                value = value.T
            if value.shape != own.shape:
                raise ValueError(f"{short} has a wrong shape")
            own.copy_(value)
        head = todo.pop("lm_head.weight", None)
        wte = weights.get("transformer.wte.weight", weights.get("wte.weight"))
        if head is not None and not torch.equal(head, wte):
            raise ValueError("lm_head.weight is another")
        rest = [k for k in todo if not k.endswith((".attn.bias", ".attn.masked_bias"))]
        if rest:
            raise ValueError(f"unknown: {rest}")
    except BaseException:
        model.load_state_dict(backup)
        raise
"""


@honest(task="load_gpt2")
def tried_on_a_copy(source):
    """Lets load_state_dict complain about a copy of the model first."""
    del source
    return """
import copy
def load_gpt2(model, weights):
    flip = ["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"]
    sd = {}
    for k, v in weights.items():
        if re.search(r"\\.attn\\.(bias|masked_bias)$", k):
            continue
        if k != "lm_head.weight" and not k.startswith("transformer."):
            k = "transformer." + k
        sd[k] = v.mT if any(k.endswith(f) for f in flip) and v.dim() > 1 else v
    if "transformer.wte.weight" in sd:
        sd.setdefault("lm_head.weight", sd["transformer.wte.weight"])
        if not torch.equal(sd["lm_head.weight"], sd["transformer.wte.weight"]):
            raise ValueError("lm_head.weight != wte.weight")
    trial = copy.deepcopy(model)
    try:
        trial.load_state_dict(sd, strict=True)
    except RuntimeError as e:
        raise ValueError(str(e)) from e
    model.load_state_dict(sd)
"""
