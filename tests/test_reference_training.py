"""The reference solution of `training` against torch's own optimizer, loss and clipping, and tables made by hand."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  everybody's name for it
from torch import nn

from autograder.pretrain import RECIPES, reference


@pytest.fixture(scope="module")
def ours():
    """The names that the notebook defines."""
    return SimpleNamespace(**reference().namespace)


@pytest.fixture
def model(ours):
    """A tiny GPT in float64, with lively weights."""
    torch.manual_seed(0)
    model = ours.GPT(ours.GPTConfig(vocab_size=11, block_size=6, n_layer=1, n_head=2, d_model=8)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def batch(seed, rows=3, length=5, vocabulary=11):
    """A random batch of ids and targets."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randint(vocabulary, (2, rows, length), generator=generator)
    return x, y


@pytest.mark.parametrize("length", range(12))
@pytest.mark.parametrize(("context", "stride"), [(1, 1), (3, 1), (4, 4), (3, 5), (4, 2)])
def test_windows_are_those_of_a_loop(ours, length, context, stride):
    """Every start from which a window and its last target fit, and no other."""
    ids = torch.arange(length, dtype=torch.int32) * 10
    starts = [start for start in range(0, length, stride) if start + context + 1 <= length]
    inputs, targets = ours.windows(ids, context, stride)
    assert inputs.shape == targets.shape == (len(starts), context)
    assert inputs.dtype == targets.dtype == torch.int32
    assert inputs.tolist() == [ids[s : s + context].tolist() for s in starts]
    assert targets.tolist() == [ids[s + 1 : s + context + 1].tolist() for s in starts]


def test_windows_work_on_meta_and_strided_ids(ours):
    """Nothing looks at values, and nothing needs contiguous memory."""
    assert ours.windows(torch.arange(9, device="meta"), 3, 2)[1].device.type == "meta"
    assert ours.windows(torch.arange(18)[::2], 3, 3)[0].tolist() == [[0, 2, 4], [6, 8, 10]]


def test_batches_come_from_one_draw(ours):
    """The starts are those of the one randint call of the contract, for every integer type."""
    data = torch.arange(100, 130)
    starts = torch.randint(30 - 7, (5,), generator=torch.Generator().manual_seed(3))
    for dtype in (torch.int64, torch.int32, torch.uint8):
        x, y = ours.get_batch(data.to(dtype), 7, 5, generator=torch.Generator().manual_seed(3))
        assert x.dtype == y.dtype == torch.int64
        assert x.tolist() == [list(range(100 + s, 107 + s)) for s in starts.tolist()]
        assert (y == x + 1).all()


def test_batches_reach_both_ends_and_refuse_short_data(ours):
    """Eight tokens hold one window of seven; seven hold none."""
    x, y = ours.get_batch(torch.arange(8), 7, 2)
    assert x.tolist() == [list(range(7))] * 2
    assert y[0, -1] == 7
    with pytest.raises(ValueError, match="7"):
        ours.get_batch(torch.arange(7), 7, 2)
    assert ours.get_batch(torch.arange(8), 7, 2, device="meta")[0].device.type == "meta"


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4)])
def test_cross_entropy_is_torchs(ours, shape):
    """Value and gradient, with and without ignored targets, for any leading dimensions."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(*shape, 7, dtype=torch.float64, generator=generator) * 20
    targets = torch.randint(7, shape, generator=generator)
    for ignored in (-100, 2):
        theirs = logits.clone().requires_grad_()
        mine = logits.clone().requires_grad_()
        expected = F.cross_entropy(theirs.reshape(-1, 7), targets.reshape(-1), ignore_index=ignored)
        loss = ours.cross_entropy(mine, targets, ignore_index=ignored)
        if not (targets != ignored).any():
            continue
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
        loss.backward()
        expected.backward()
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-12, atol=1e-12)


def test_cross_entropy_at_the_edges(ours):
    """Large logits, half precision, nothing that counts, and the meta device."""
    assert ours.cross_entropy(torch.tensor([[1e4, -1e4]]), torch.tensor([0])) == 0
    assert ours.cross_entropy(torch.tensor([[1e4, -1e4]]), torch.tensor([1])) == 2e4
    for dtype in (torch.bfloat16, torch.float16):
        assert ours.cross_entropy(torch.zeros(2, 3, dtype=dtype), torch.tensor([0, 1])).dtype == torch.float32
    logits = torch.randn(2, 3, requires_grad=True)
    loss = ours.cross_entropy(logits, torch.full((2,), -100))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()
    assert (
        ours.cross_entropy(torch.zeros(2, 3, device="meta"), torch.zeros(2, dtype=torch.long, device="meta")).dim() == 0
    )


def test_learning_rate_is_the_table(ours):
    """Three steps up to 0.8, then a cosine whose values at multiples of 30 degrees are known, then the floor."""
    root = math.sqrt(3)
    expected = [
        0.8 / 3,
        1.6 / 3,
        0.8,
        0.8,
        0.45 + 0.35 * root / 2,
        0.45 + 0.35 / 2,
        0.45,
        0.45 - 0.35 / 2,
        0.45 - 0.35 * root / 2,
        0.1,
        0.1,
        0.1,
    ]
    table = [ours.learning_rate(s, peak=0.8, floor=0.1, warmup_steps=3, total_steps=9) for s in range(12)]
    assert table == pytest.approx(expected, rel=1e-14)
    assert ours.learning_rate(0, peak=0.8, floor=0.1, warmup_steps=0, total_steps=6) == 0.8


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 1e6])
def test_clipping_is_torchs(ours, model, max_norm):
    """The norm and every gradient, in place."""
    twin = copy.deepcopy(model)
    for each in (model, twin):
        each(*batch(0))[1].backward()
    places = [parameter.grad.data_ptr() for parameter in model.parameters()]
    expected = nn.utils.clip_grad_norm_(twin.parameters(), max_norm)
    assert ours.clip_gradients(model.parameters(), max_norm) == pytest.approx(expected.item(), rel=1e-12)
    assert places == [parameter.grad.data_ptr() for parameter in model.parameters()]
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-12, atol=0)


def test_clipping_without_gradients(ours, model):
    """None at all gives 0.0, and one alone is enough."""
    assert ours.clip_gradients(model.parameters(), 1.0) == 0.0
    model.lm_head.weight.grad = torch.full_like(model.lm_head.weight, 0.01)
    before = model.lm_head.weight.grad.clone()
    assert ours.clip_gradients(model.parameters(), 1.0) == pytest.approx(math.sqrt(88) * 0.01)
    assert torch.equal(model.lm_head.weight.grad, before)


SETTINGS = [
    {},
    {"lr": 0.1, "betas": (0.5, 0.7), "eps": 0.3, "weight_decay": 0.4},
    {"lr": 0.02, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_adamw_is_torchs_bit_for_bit(ours, settings):
    """Two groups, one gradient that is late, a learning rate that moves, and the state saved and loaded half way."""

    def start():
        generator = torch.Generator().manual_seed(5)
        a, b, c = (nn.Parameter(torch.randn(n, 2, dtype=torch.float64, generator=generator)) for n in (2, 3, 4))
        return (a, b, c), [{"params": [a, b], **settings}, {"params": [c], "weight_decay": 0.0}]

    def drive(make, steps=9, stop=5):
        parameters, groups = start()
        optimizer = make(groups)
        generator = torch.Generator().manual_seed(6)
        for step in range(steps):
            if step == stop:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = make([{"params": list(group["params"])} for group in groups])
                optimizer.load_state_dict(state)
            for number, parameter in enumerate(parameters):
                gradient = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
                parameter.grad = None if number == 1 and step < 2 else gradient
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * (step + 1)
            optimizer.step()
        return parameters

    for mine, theirs in zip(drive(ours.AdamW), drive(lambda g: torch.optim.AdamW(g, foreach=False)), strict=True):
        assert torch.equal(mine, theirs)


def test_adamw_runs_a_closure(ours):
    """The closure may take gradients, and its loss comes back."""
    weight = nn.Parameter(torch.ones(2))
    optimizer = ours.AdamW([weight])

    def closure():
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 2
    assert (weight < 1).all()


def test_parameter_groups_cover_each_parameter_once(ours, model):
    """Matrices first, vectors second, the tied matrix once, the frozen one nowhere."""
    model.transformer.wpe.weight.requires_grad_(requires_grad=False)
    decay, rest = ours.parameter_groups(model, 0.3)
    assert (decay["weight_decay"], rest["weight_decay"]) == (0.3, 0.0)
    assert all(parameter.dim() >= 2 for parameter in decay["params"])
    assert all(parameter.dim() < 2 for parameter in rest["params"])
    expected = [id(p) for p in model.parameters() if p.requires_grad]
    assert sorted(id(p) for group in (decay, rest) for p in group["params"]) == sorted(expected)


def test_a_train_step_is_torchs(ours, model):
    """Accumulated, clipped and stepped as torch's own parts do on the joined batch; old gradients do not count."""
    twin = copy.deepcopy(model)
    mine = ours.AdamW(ours.parameter_groups(model, 0.1), lr=0.01)
    theirs = torch.optim.AdamW(ours.parameter_groups(twin, 0.1), lr=0.01)
    for step in range(4):
        batches = [batch(10 * step + k) for k in range(3)]
        model.lm_head.weight.grad = torch.ones_like(model.lm_head.weight)
        loss, norm = ours.train_step(model, mine, batches, max_norm=0.8)
        theirs.zero_grad()
        expected = twin(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))[1]
        expected.backward()
        length = nn.utils.clip_grad_norm_(twin.parameters(), 0.8)
        theirs.step()
        assert (type(loss), type(norm)) == (float, float)
        assert loss == pytest.approx(expected.item(), rel=1e-12)
        assert norm == pytest.approx(length.item(), rel=1e-10)
        assert all(parameter.grad is None for parameter in model.parameters())
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("training", [True, False])
def test_a_train_step_leaves_the_mode(ours, model, training):
    """Whoever calls decides about dropout."""
    model.train(training)
    ours.train_step(model, ours.AdamW(model.parameters()), [batch(0)])
    assert all(module.training is training for module in model.modules())


def test_autocast_reaches_the_forward_pass_only(ours, model):
    """Linear layers compute in bfloat16; the weights and their gradients stay float32."""
    model.float()
    seen = []
    model.transformer.h[0].mlp.c_fc.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    plain, _ = ours.train_step(copy.deepcopy(model), torch.optim.SGD(model.parameters()), [batch(0)])
    half, _ = ours.train_step(model, ours.AdamW(model.parameters()), [batch(0)], autocast_dtype=torch.bfloat16)
    assert seen == [torch.float32, torch.bfloat16]
    assert half == pytest.approx(plain, rel=2e-2)
    assert half != plain
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("length", [2, 5, 6, 7, 8, 12, 13, 14, 27, 31])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_evaluation_weighs_each_target_once(ours, model, length, batch_size):
    """The mean over all targets, taken window by window with torch's loss."""
    data = torch.randint(11, (length,), generator=torch.Generator().manual_seed(length))
    losses = []
    for start in range(0, length - 1, 6):
        x, y = data[start : start + 6][: length - 1 - start], data[start + 1 : start + 7]
        losses.append(F.cross_entropy(model(x[None])[0][0], y, reduction="none"))
    assert ours.evaluate(model, data, 6, batch_size) == pytest.approx(torch.cat(losses).mean().item(), rel=1e-12)


def test_evaluation_restores_every_mode(ours, model):
    """Also when a part was frozen in eval mode, and when the model raises."""
    model.transformer.drop.eval()
    before = [module.training for module in model.modules()]
    ours.evaluate(model, torch.arange(9) % 11, 6, 2)
    assert [module.training for module in model.modules()] == before
    with pytest.raises(IndexError):
        ours.evaluate(model, torch.arange(9) + 100, 6, 2)
    assert [module.training for module in model.modules()] == before


@pytest.mark.parametrize("kind", [str, Path])
def test_a_resumed_run_is_the_run(ours, model, tmp_path, kind):
    """Three steps, a checkpoint and three more are six steps, bit for bit; one file is left."""
    path = kind(tmp_path / "run.pt")
    optimizer = ours.AdamW(ours.parameter_groups(model, 0.1), lr=0.01)
    for step in range(3):
        ours.train_step(model, optimizer, [batch(step)])
    ours.save_checkpoint(path, model, optimizer, 3)
    ours.save_checkpoint(path, model, optimizer, 3)
    for step in range(3, 6):
        ours.train_step(model, optimizer, [batch(step)])
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]

    other = ours.GPT(model.config).double()
    another = ours.AdamW(ours.parameter_groups(other, 0.5), lr=0.5)
    assert ours.load_checkpoint(path, other, another) == 3
    for step in range(3, 6):
        ours.train_step(other, another, [batch(step)])
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert other.lm_head.weight is other.transformer.wte.weight


def test_a_failed_save_keeps_the_old_file(ours, model, tmp_path):
    """What cannot be written leaves no trace."""
    path = tmp_path / "run.pt"
    optimizer = ours.AdamW(model.parameters())
    ours.save_checkpoint(path, model, optimizer, 7)
    with pytest.raises(TypeError):
        ours.save_checkpoint(path, model, optimizer, (n for n in ()))
    assert ours.load_checkpoint(path, model, optimizer) == 7
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


def test_a_checkpoint_runs_no_code(ours, model, tmp_path):
    """weights_only refuses a file that calls a function."""

    class Trap:
        def __reduce__(self):
            return print, ("sprung",)

    torch.save({"model": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        ours.load_checkpoint(tmp_path / "trap.pt", model, ours.AdamW(model.parameters()))


def test_the_loop_is_its_parts(ours, model):
    """`train` against the same loop written with torch's optimizer, clipping and loss."""
    generator = torch.Generator().manual_seed(8)
    train_ids, val_ids = torch.randint(11, (60,), generator=generator), torch.randint(11, (23,), generator=generator)
    config = ours.TrainConfig(
        total_steps=7,
        batch_size=2,
        block_size=4,
        peak=0.02,
        floor=0.002,
        warmup_steps=2,
        weight_decay=0.2,
        max_norm=0.7,
        accumulation=3,
        eval_interval=3,
        seed=9,
    )
    twin = copy.deepcopy(model)
    model.eval()
    history = ours.train(model, train_ids, val_ids, config)
    assert model.training

    draw = torch.Generator().manual_seed(9)
    optimizer = torch.optim.AdamW(ours.parameter_groups(twin, 0.2))
    rates = [0.01, 0.02] + [0.002 + 0.009 * (1 + math.cos(math.pi * k / 5)) for k in range(5)]
    expected = []
    for step, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.cat([torch.randint(56, (2,), generator=draw) for _ in range(3)])
        x = torch.stack([train_ids[s : s + 4] for s in starts])
        y = torch.stack([train_ids[s + 1 : s + 5] for s in starts])
        loss = twin(x, y)[1]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.7)
        optimizer.step()
        if step in {2, 5, 6}:
            expected.append((step, loss.item(), rate, ours.evaluate(twin, val_ids, 4, 2)))
    keys = ("step", "train_loss", "lr", "val_loss")
    assert [set(entry) for entry in history] == [set(keys)] * 3
    assert [entry["step"] for entry in history] == [2, 5, 6]
    for entry, row in zip(history, expected, strict=True):
        assert [entry[key] for key in keys] == pytest.approx(list(row), rel=1e-9)


def test_the_checkpoint_writes_shakespeare(ours):
    """The file in data/ is small, half precision, and the model in it has the loss that it says it has."""
    safetensors = pytest.importorskip("safetensors", reason="reading the checkpoint needs safetensors")
    from autograder.data import shakespeare
    from autograder.pretrain import CHECKPOINT, TRANSPOSED

    assert CHECKPOINT.stat().st_size < 4_000_000
    with safetensors.safe_open(CHECKPOINT, framework="pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert all(name.startswith("transformer.") for name in weights)
    model = ours.GPT(ours.GPTConfig(**json.loads(metadata["config"])))
    state = {name: (tensor.T if name.endswith(TRANSPOSED) else tensor).float() for name, tensor in weights.items()}
    model.load_state_dict({**state, "lm_head.weight": state["transformer.wte.weight"]})

    text, index = shakespeare(), {c: i for i, c in enumerate(json.loads(metadata["characters"]))}
    assert list(index) == sorted(set(text))
    held_back = torch.tensor([index[c] for c in text[int(0.9 * len(text)) :]])
    losses = [
        ours.evaluate(model, held_back[start : start + 1500], 128, 16) for start in range(0, len(held_back), 9000)
    ]
    # A part of the text, spread over all of it, and weights in half precision.
    assert float(metadata["validation_loss"]) == pytest.approx(sum(losses) / len(losses), abs=0.05)


def test_the_curves_kept_lie_in_their_band():
    """Three seeds of nanoGPT's small setting: neither worse nor better than they should be."""
    kept = json.loads((Path(__file__).parent / "benchmarks" / "curves.json").read_text(encoding="utf-8"))
    low, high = kept["band"]
    assert (kept["model"], kept["training"]) == (RECIPES["band"].model, RECIPES["band"].training)
    for run in kept["runs"]:
        losses = [entry["val_loss"] for entry in run["history"]]
        assert low <= losses[-1] <= high
        assert losses == sorted(losses, reverse=True)
        assert losses[0] < math.log(64)
    assert len({run["seed"] for run in kept["runs"]}) == 3


def test_one_command_makes_the_checkpoint(ours, tmp_path, monkeypatch):
    """`python -m autograder.pretrain` trains, and writes GPT-2's names and layout, the recipe and the loss reached."""
    safetensors = pytest.importorskip("safetensors", reason="writing a checkpoint needs safetensors")
    from autograder import pretrain
    from autograder.data import shakespeare

    small = {"block_size": 16, "n_layer": 1, "n_head": 2, "d_model": 8, "dropout": 0.0}
    short = pretrain.RECIPES["checkpoint"].training | {"total_steps": 3, "eval_interval": 2, "block_size": 16, "batch_size": 200}
    monkeypatch.setitem(pretrain.RECIPES, "checkpoint", pretrain.Recipe(small, short))
    file, curve = tmp_path / "small.safetensors", tmp_path / "curve.json"
    assert pretrain.main(["--device", "cpu", "--seed", "3", "--output", str(file), "--curve", str(curve)]) == 0

    with safetensors.safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  not a dict
    gpt = SimpleNamespace(**reference("gpt").namespace)
    model = gpt.GPT(gpt.GPTConfig(**json.loads(metadata["config"])))
    gpt.load_gpt2(model, weights)
    text = shakespeare()
    held_back = torch.tensor([json.loads(metadata["characters"]).index(c) for c in text[int(0.9 * len(text)) :]])
    assert ours.evaluate(model, held_back, 16, 200) == pytest.approx(float(metadata["validation_loss"]), abs=0.01)
    assert [entry["step"] for entry in json.loads(curve.read_text())["history"]] == [1, 2]
    assert json.loads(metadata["recipe"])["seed"] == 3


def test_cuda(ours, model):
    """On a GPU the loop runs as it does here, and agrees with the CPU; under autocast it runs, too."""
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    ids = torch.arange(200) % 11
    config = ours.TrainConfig(total_steps=4, batch_size=3, block_size=5, warmup_steps=1, accumulation=2, eval_interval=2)
    twin = copy.deepcopy(model).to("cuda")
    here, there = ours.train(model, ids, ids[:40], config), ours.train(twin, ids, ids[:40].cuda(), config)
    for one, other in zip(here, there, strict=True):
        assert list(one.values()) == pytest.approx(list(other.values()), rel=1e-6)
    half = ours.TrainConfig(total_steps=2, batch_size=3, block_size=5, autocast_dtype=torch.bfloat16)
    ours.train(twin.float(), ids.cuda(), ids[:40].cuda(), half)
    assert twin.lm_head.weight.dtype == torch.float32
