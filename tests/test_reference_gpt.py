"""The reference solution of `gpt` against torch.nn, F and transformers' GPT-2, and every line of the contract."""

from __future__ import annotations

import copy
import functools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  everybody's name for it
from torch import nn

from autograder import shell
from autograder.assignment import read_assignment
from autograder.data import data_folder

FOLDER = Path(__file__).resolve().parents[1] / "solutions" / "gpt"
TURNED = ("c_attn.weight", "c_fc.weight", "c_proj.weight")


@pytest.fixture(scope="module")
def assignment():
    """The assignment as its folder holds it."""
    return read_assignment(FOLDER)


@pytest.fixture(scope="module")
def ours(assignment):
    """The names that the notebook defines."""
    notebook = shell.Shell("reference_gpt")
    with shell.nothing_is_drawn():
        for name, source in assignment.reference_cells():
            notebook.run(name, source)
    return SimpleNamespace(**notebook.namespace)


@pytest.fixture(scope="module")
def transformers():
    """The library of that name."""
    return pytest.importorskip("transformers", reason="transformers is not installed: GPT2LMHeadModel cannot be asked")


def random(seed, *shape, dtype=torch.float64):
    """Normal numbers, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_ids(seed, high, *shape):
    """Ids from 0 up to high."""
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def lively(model, seed=0, scale=0.2):
    """The model with weights of order one, in float64 and in eval mode."""
    model.double().eval()
    with torch.no_grad():
        for number, (name, parameter) in enumerate(model.named_parameters()):
            drawn = random(seed + number, *parameter.shape) * scale
            parameter.copy_(1 + drawn if "ln_" in name and name.endswith("weight") else drawn)
    return model


def close(one, other, atol=1e-10):
    """Equal up to rounding in float64, in shape and dtype as well."""
    torch.testing.assert_close(one, other, rtol=1e-8, atol=atol)


# The contract's form


def test_tasks_and_points(assignment):
    """Names, order and points are the contract's."""
    assert [(task.name, task.points) for task in assignment.tasks] == [
        ("layer_norm", 10),
        ("feed_forward", 10),
        ("block", 10),
        ("gpt", 25),
        ("count_parameters", 5),
        ("generate", 20),
        ("load_gpt2", 10),
    ]


def test_visible_checks_pass(assignment):
    """The notebook's own test cells accept the reference."""
    notebook = shell.Shell("reference_gpt_checks")
    with shell.nothing_is_drawn():
        for cell in assignment.cells:
            if cell.is_given or cell.is_task or (cell.is_test and cell.kind == "code"):
                notebook.run(str(cell.grade_id), cell.source)


def test_stub_says_not_implemented(assignment):
    """In the released cells every function and method of a task raises NotImplementedError."""
    for cell in assignment.released:
        if cell.is_task:
            assert "raise NotImplementedError()" in cell.source
            assert "SOLUTION" not in cell.source


# layer_norm and feed_forward


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 5, 7), (2, 1, 3, 7)])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_layer_norm_is_torchs(ours, shape, eps):
    """Values and all three gradients equal F.layer_norm's, for strided inputs too."""
    norm = ours.LayerNorm(7, eps).double()
    with torch.no_grad():
        norm.weight.copy_(random(1, 7))
        norm.bias.copy_(random(2, 7))
    x = random(3, *shape).transpose(0, -1).contiguous().transpose(0, -1).requires_grad_()
    right = nn.LayerNorm(7, eps).double()
    right.load_state_dict(norm.state_dict())
    close(norm(x), right(x))
    cotangent = random(4, *shape)
    mine = torch.autograd.grad(norm(x), (x, norm.weight, norm.bias), cotangent)
    for one, other in zip(mine, torch.autograd.grad(right(x), (x, right.weight, right.bias), cotangent), strict=True):
        close(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_layer_norm_keeps_the_dtype(ours, dtype):
    """In lower precision it is PyTorch's result, also far from zero, where half precision alone would fail."""
    x = (random(5, 3, 4, 64) + 30).to(dtype)
    torch.testing.assert_close(ours.LayerNorm(64).to(dtype)(x), F.layer_norm(x, (64,)))


def test_layer_norm_without_bias(ours):
    """`bias` is None and nothing but the weight is stored."""
    norm = ours.LayerNorm(5, bias=False)
    assert norm.bias is None
    assert list(norm.state_dict()) == ["weight"]


def test_layer_norm_of_a_constant(ours):
    """Equal numbers give zeros and finite gradients."""
    x = torch.full((2, 4), 3.0, requires_grad=True)
    y = ours.LayerNorm(4)(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 4))
    assert x.grad.isfinite().all()


def test_gelu_is_torchs_tanh_form(ours):
    """Values and slopes equal F.gelu(approximate="tanh")'s."""
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64, requires_grad=True)
    right = F.gelu(x, approximate="tanh")
    close(ours.gelu(x), right)
    close(torch.autograd.grad(ours.gelu(x).sum(), x)[0], torch.autograd.grad(right.sum(), x)[0])
    assert ours.gelu(x.to(torch.bfloat16)).dtype == torch.bfloat16


# block and gpt


@pytest.mark.parametrize("bias", [True, False])
def test_block_is_torchs_encoder_layer(ours, bias):
    """With the same weights it is nn.TransformerEncoderLayer, norm first, with a causal mask; widths of 64 and more."""
    block = lively(ours.Block(ours.GPTConfig(5, 11, 1, 4, 64, bias=bias)))
    layer = nn.TransformerEncoderLayer(
        64, 4, 256, 0.0, functools.partial(F.gelu, approximate="tanh"), batch_first=True, norm_first=True, bias=bias
    ).double()
    names = {
        "self_attn.in_proj_": "attn.c_attn.",
        "self_attn.out_proj.": "attn.c_proj.",
        "linear1.": "mlp.c_fc.",
        "linear2.": "mlp.c_proj.",
        "norm1.": "ln_1.",
        "norm2.": "ln_2.",
    }
    kinds = ("weight", "bias") if bias else ("weight",)
    layer.load_state_dict(
        {f"{theirs}{kind}": block.get_parameter(f"{mine}{kind}") for theirs, mine in names.items() for kind in kinds}
    )
    x = random(6, 3, 11, 64)
    hidden = torch.ones(11, 11, dtype=torch.bool).triu(1)
    close(block(x), layer(x, src_mask=hidden))
    mine = torch.autograd.grad(
        block(x).square().sum(), [block.get_parameter(f"{name}weight") for name in names.values()]
    )
    right = torch.autograd.grad(
        layer(x, src_mask=hidden).square().sum(), [layer.get_parameter(f"{name}weight") for name in names]
    )
    for one, other in zip(mine, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def hugging_face(transformers, seed=0, width=64, heads=4):
    """A GPT2LMHeadModel from a configuration, with lively weights, in float64."""
    config = transformers.GPT2Config(
        vocab_size=51,
        n_positions=13,
        n_embd=width,
        n_layer=3,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    return lively(transformers.GPT2LMHeadModel(config), seed, 0.12)


@pytest.mark.parametrize(("width", "heads"), [(64, 4), (96, 3)])
def test_gpt_is_transformers_gpt2(ours, transformers, width, heads):
    """Loaded from its state_dict: the same logits, loss and gradients as GPT2LMHeadModel."""
    theirs = hugging_face(transformers, width=width, heads=heads)
    mine = ours.GPT(ours.GPTConfig(51, 13, 3, heads, width)).double()
    ours.load_gpt2(mine, theirs.state_dict())
    ids = random_ids(7, 51, 2, 13)
    # transformers shifts the labels itself; ours come shifted.
    labels = ids.clone()
    labels[0, 4:7] = -100
    targets = torch.cat([labels[:, 1:], torch.full((2, 1), -100)], dim=1)
    logits, loss = mine(ids, targets)
    right = theirs(ids, labels=labels)
    close(logits, right.logits)
    # Its own loss is in float32, whatever the model; the gradients are compared in float64.
    torch.testing.assert_close(loss.float(), right.loss)
    right_loss = F.cross_entropy(right.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    close(loss, right_loss)
    loss.backward()
    right_loss.backward()
    for name, parameter in theirs.named_parameters():
        expected = parameter.grad.T if name.endswith(TURNED) else parameter.grad
        parts = 3 if "c_attn" in name else 1
        for one, other in zip(mine.get_parameter(name).grad.chunk(parts), expected.chunk(parts), strict=True):
            close(one, other)


def test_load_takes_the_bare_model(ours, transformers):
    """The state_dict of transformers' GPT2Model has no prefix and no head; ours writes one that it can load."""
    theirs = hugging_face(transformers, seed=3)
    mine = ours.GPT(ours.GPTConfig(51, 13, 3, 4, 64)).double()
    ours.load_gpt2(mine, theirs.transformer.state_dict())
    ids = random_ids(8, 51, 2, 9)
    close(mine(ids)[0], theirs(ids).logits)


def test_generate_greedy_is_transformers(ours, transformers):
    """Greedy writing gives the text of transformers' own `generate`."""
    theirs = hugging_face(transformers, seed=5)
    mine = ours.GPT(ours.GPTConfig(51, 13, 3, 4, 64)).double()
    ours.load_gpt2(mine, theirs.state_dict())
    ids = random_ids(9, 51, 1, 4)
    written = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8, pad_token_id=0
    )
    assert torch.equal(ours.generate(mine, ids, 8, temperature=0), written)


@pytest.mark.parametrize(
    "options", [{"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.7}, {"temperature": 1.4, "top_k": 20, "top_p": 0.9}]
)
def test_generate_filters_are_transformers(ours, transformers, options):
    """One step draws what transformers' warpers leave, in their order, for the same generator."""
    logits = random(10, 31, 31, dtype=torch.float32) * 2
    processors = transformers.LogitsProcessorList()
    if "temperature" in options:
        processors.append(transformers.TemperatureLogitsWarper(options["temperature"]))
    if "top_k" in options:
        processors.append(transformers.TopKLogitsWarper(options["top_k"]))
    if "top_p" in options:
        processors.append(transformers.TopPLogitsWarper(options["top_p"]))
    prompt = torch.arange(31).repeat(20)[:, None]
    left = processors(prompt, logits[prompt[:, 0]]).softmax(-1)
    expected = torch.multinomial(left, 1, generator=torch.Generator().manual_seed(1))
    mine = ours.generate(ours.TableModel(logits, 4), prompt, 1, generator=torch.Generator().manual_seed(1), **options)
    assert torch.equal(mine[:, 1:], expected)


def test_initial_values(ours):
    """Standard deviations, zeros and ones are the contract's; the loss starts at ln V."""
    torch.manual_seed(0)
    model = ours.GPT(ours.GPTConfig(300, 128, 5, 4, 128))
    for name, parameter in model.named_parameters():
        if "ln_" in name or name.endswith("bias"):
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight"))))
            continue
        expected = 0.02 / math.sqrt(10) if name.endswith("c_proj.weight") else 0.02
        assert parameter.std().item() == pytest.approx(expected, rel=6 / math.sqrt(2 * parameter.numel()))
    ids = random_ids(11, 300, 4, 128)
    loss = model(ids, random_ids(12, 300, 4, 128))[1]
    assert loss.item() == pytest.approx(math.log(300), rel=0.02)


def test_tie_is_kept(ours):
    """One Parameter: when made, after .to(), after a copy, after loading with load_state_dict and load_gpt2."""
    model = ours.GPT(ours.GPTConfig(11, 7, 2, 2, 8))

    def tied(model):
        return model.lm_head.weight is model.transformer.wte.weight

    assert tied(model)
    assert tied(model.to(torch.float64))
    assert tied(model.to(torch.bfloat16))
    other = copy.deepcopy(model)
    assert tied(other)
    assert other.lm_head.weight is not model.lm_head.weight
    other.load_state_dict(model.state_dict())
    assert tied(other)
    ours.load_gpt2(other, stored(model))
    assert tied(other)
    assert sum(parameter.numel() for parameter in model.parameters()) == ours.count_parameters(model.config)


@pytest.mark.parametrize("bias", [True, False])
def test_parameters_are_gpt2s_and_counted(ours, bias):
    """The formula gives what is there, with and without biases; no buffer is stored."""
    config = ours.GPTConfig(17, 9, 3, 2, 10, bias=bias)
    model = ours.GPT(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == ours.count_parameters(config)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()} | {"lm_head.weight"}


def test_published_sizes(ours):
    """GPT-2's four sizes, and GPT-3's 175 billion, with no model built."""
    for (layers, heads, width), size in {
        (12, 12, 768): 124_439_808,
        (24, 16, 1024): 354_823_168,
        (36, 20, 1280): 774_030_080,
        (48, 25, 1600): 1_557_611_200,
    }.items():
        assert ours.count_parameters(ours.GPTConfig(50257, 1024, layers, heads, width)) == size
    assert ours.count_parameters(ours.GPTConfig(50257, 2048, 96, 96, 12288)) == 174_604_259_328


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtypes(ours, dtype):
    """Logits have the model's dtype; in bfloat16 they are near those of float64."""
    model = lively(ours.GPT(ours.GPTConfig(11, 7, 2, 3, 12)), scale=0.1)
    ids = random_ids(13, 11, 2, 7)
    right = model(ids, ids)
    logits, loss = copy.deepcopy(model).to(dtype)(ids, ids)
    assert logits.dtype == dtype
    torch.testing.assert_close(logits.double(), right[0], rtol=0.05, atol=0.05)
    torch.testing.assert_close(loss.double(), right[1], rtol=0.05, atol=0.05)


def test_meta(ours):
    """A model can be built and run on the meta device."""
    with torch.device("meta"):
        model = ours.GPT(ours.GPTConfig(50257, 1024, 12, 12, 768))
        ids = torch.zeros(2, 9, dtype=torch.long)
    logits, loss = model(ids, ids)
    assert logits.shape == (2, 9, 50257)
    assert logits.device.type == loss.device.type == "meta"


def test_context_and_ignored_targets(ours):
    """A text that is too long is refused by its length; -100 does not count; strided ids and targets work."""
    model = lively(ours.GPT(ours.GPTConfig(11, 7, 2, 2, 8)))
    with pytest.raises(ValueError, match="8"):
        model(torch.zeros(1, 8, dtype=torch.long))
    ids, targets = random_ids(14, 11, 5, 3).T, random_ids(15, 11, 5, 3).T
    targets = torch.where(torch.arange(5) < 2, targets, -100).T.contiguous().T
    logits, loss = model(ids, targets)
    close(loss, F.cross_entropy(logits[:, :2].flatten(0, 1), targets[:, :2].flatten()))
    assert model(ids)[1] is None


def test_cuda(ours):
    """On a GPU the whole way runs, and agrees with the CPU."""
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    model = lively(ours.GPT(ours.GPTConfig(11, 7, 2, 2, 8)))
    ids = random_ids(16, 11, 2, 7)
    right = model(ids, ids)
    model.to("cuda")
    assert model.lm_head.weight is model.transformer.wte.weight
    for one, other in zip(model(ids.cuda(), ids.cuda()), right, strict=True):
        close(one.cpu(), other)
    dice = torch.Generator("cuda").manual_seed(0)
    assert ours.generate(model, ids.cuda(), 4, top_k=5, top_p=0.9, generator=dice).shape == (2, 11)


# generate


TABLE = torch.tensor(
    [[0.5, 0.3, 0.15, 0.05], [0.05, 0.15, 0.3, 0.5], [0.15, 0.5, 0.05, 0.3], [0.25, 0.25, 0.25, 0.25]]
).log()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.5, 0.3, 0.15, 0.05]),
        ({"temperature": 0.5}, [0.6849, 0.2466, 0.0616, 0.0068]),
        ({"top_k": 2}, [0.625, 0.375, 0, 0]),
        ({"top_k": 9}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_p": 0.7}, [0.625, 0.375, 0, 0]),
        ({"top_p": 0.4}, [1, 0, 0, 0]),
        ({"top_p": 1.0}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_k": 2, "top_p": 0.6}, [1, 0, 0, 0]),
        ({"temperature": 0}, [1, 0, 0, 0]),
    ],
)
def test_generate_frequencies(ours, options, expected):
    """The shares of 20,000 tokens are those worked out by hand."""
    prompt = torch.zeros(20_000, 1, dtype=torch.long)
    written = ours.generate(ours.TableModel(TABLE, 2), prompt, 1, generator=torch.Generator().manual_seed(0), **options)
    shares = written[:, 1].bincount(minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor(expected, dtype=torch.float32), rtol=0, atol=0.02)
    assert torch.equal(shares == 0, torch.tensor(expected) == 0)


def test_generate_top_p_reached_exactly(ours):
    """Of four equally likely tokens two reach one half, and no third is kept."""
    written = ours.generate(ours.TableModel(TABLE, 2), torch.full((4000, 1), 3), 1, top_p=0.5)
    assert len(written[:, 1].unique()) == 2


def test_generate_puts_modes_back(ours):
    """Every module has the mode in which it came, also after an exception."""
    model = ours.GPT(ours.GPTConfig(11, 7, 2, 2, 8, dropout=0.5)).train()
    model.transformer.drop.eval()
    modes = [module.training for module in model.modules()]
    ours.generate(model, torch.zeros(1, 9, dtype=torch.long), 2)
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(IndexError):
        ours.generate(model, torch.full((1, 1), 11), 2)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -0.1},
        {"top_k": 0},
        {"top_k": -2},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_p": -1.0},
        {"temperature": 0, "top_k": 0},
        {"temperature": 0, "top_p": 2.0},
    ],
)
def test_generate_refuses(ours, bad):
    """The value is shown, whatever the others are, and even where nothing is to be written."""
    for n in (0, 3):
        with pytest.raises(ValueError, match=str(list(bad.values())[-1])):
            ours.generate(ours.TableModel(TABLE, 2), torch.zeros(1, 1, dtype=torch.long), n, **bad)


def test_generate_leaves_alone(ours):
    """The ids, the global random state and the gradient mode are as they were; bfloat16 works."""
    ids, state = torch.zeros(2, 3, dtype=torch.long), torch.get_rng_state()
    model = ours.TableModel(TABLE.to(torch.bfloat16), 2)
    written = ours.generate(model, ids, 5, top_p=0.9, generator=torch.Generator().manual_seed(0))
    assert written.shape == (2, 8)
    assert not ids.any()
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(gradients for _, _, gradients in model.diary)
    assert torch.is_grad_enabled()


# load_gpt2


def stored(model, prefix="transformer."):
    """The model's weights as Hugging Face files hold them."""
    return {
        prefix + name.removeprefix("transformer."): (tensor.T if name.endswith(TURNED) else tensor).detach().clone()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }


@pytest.mark.parametrize("prefix", ["transformer.", ""])
@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_load_round_trip(ours, prefix, head, bias):
    """Everything arrives, masks are skipped, the file is unchanged, the model keeps its dtype."""
    source = lively(ours.GPT(ours.GPTConfig(11, 7, 2, 2, 8, bias=bias)))
    weights = stored(source, prefix)
    weights |= {f"{prefix}h.0.attn.bias": torch.ones(1, 1, 7, 7), f"{prefix}h.1.attn.masked_bias": torch.tensor(-1e4)}
    if head:
        weights["lm_head.weight"] = weights[f"{prefix}wte.weight"]
    before = {key: tensor.clone() for key, tensor in weights.items()}
    target = ours.GPT(source.config)
    ours.load_gpt2(target, weights)
    assert list(weights) == list(before)
    assert all(torch.equal(weights[key], before[key]) for key in before)
    for name, tensor in target.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, source.state_dict()[name].float())


def without(key):
    """A change that takes a key out."""
    return lambda weights: weights.pop(key)


def with_key(key, tensor):
    """A change that puts a key in."""
    return lambda weights: weights.update({key: tensor})


@pytest.mark.parametrize(
    ("spoil", "key"),
    [
        (without("ln_f.weight"), "ln_f.weight"),
        (without("wte.weight"), "wte.weight"),
        (without("h.1.attn.c_attn.bias"), "h.1.attn.c_attn.bias"),
        (with_key("h.2.ln_1.weight", torch.ones(8)), "h.2.ln_1.weight"),
        (with_key("nothing", torch.ones(8)), "nothing"),
        (with_key("transformer.wte.weight", torch.ones(11, 8)), "wte.weight"),
        (with_key("h.0.mlp.c_fc.weight", torch.ones(32, 8)), "h.0.mlp.c_fc.weight"),
        (with_key("h.0.mlp.c_fc.weight", torch.ones(8)), "h.0.mlp.c_fc.weight"),
        (with_key("ln_f.bias", torch.ones(1)), "ln_f.bias"),
        (with_key("wpe.weight", torch.ones(9, 8)), "wpe.weight"),
        (with_key("lm_head.weight", torch.ones(11, 8)), "lm_head.weight"),
        (with_key("lm_head.weight", torch.ones(8)), "lm_head.weight"),
    ],
)
def test_load_all_or_nothing(ours, spoil, key):
    """Every fault raises ValueError with the key's name, and the model is as it was."""
    source = lively(ours.GPT(ours.GPTConfig(11, 7, 2, 2, 8)))
    weights = stored(source, "")
    spoil(weights)
    target = ours.GPT(source.config)
    before = copy.deepcopy(target.state_dict())
    with pytest.raises(ValueError, match=key.replace(".", r"\.")):
        ours.load_gpt2(target, weights)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


@pytest.fixture(scope="module")
def checkpoint():
    """The trained checkpoint of data/: (weights, configuration)."""
    path = data_folder() / "shakespeare.safetensors"
    if not path.is_file():
        pytest.skip("data/shakespeare.safetensors is not there")
    safetensors = pytest.importorskip(
        "safetensors", reason="safetensors is not installed: the checkpoint cannot be read"
    )
    with safetensors.safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["config"])  # noqa: SIM118


def test_checkpoint_loads(ours, checkpoint):
    """Every weight finds its place."""
    weights, config = checkpoint
    model = ours.GPT(ours.GPTConfig(**config))
    ours.load_gpt2(model, weights)
    for name, tensor in stored(model).items():
        assert torch.equal(tensor.half(), weights[name])


def test_checkpoint_is_transformers_gpt2(ours, transformers, checkpoint):
    """It loads into GPT2LMHeadModel as it stands, and both give the same logits."""
    weights, config = checkpoint
    mine = ours.GPT(ours.GPTConfig(**config)).double().eval()
    ours.load_gpt2(mine, weights)
    settings = transformers.GPT2Config(
        vocab_size=config["vocab_size"],
        n_positions=config["block_size"],
        n_embd=config["d_model"],
        n_layer=config["n_layer"],
        n_head=config["n_head"],
        bos_token_id=0,
        eos_token_id=0,
    )
    theirs = transformers.GPT2LMHeadModel(settings).double().eval()
    missing, unknown = theirs.load_state_dict({key: tensor.double() for key, tensor in weights.items()}, strict=False)
    assert set(missing) <= {"lm_head.weight"}
    assert not unknown
    ids = random_ids(17, config["vocab_size"], 2, config["block_size"])
    close(mine(ids)[0], theirs(ids).logits)
