"""The reference solution of `embeddings` against plain formulas and torch, and against every line of the contract."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  everybody's name for it

from autograder import shell
from autograder.assignment import read_assignment

FOLDER = Path(__file__).resolve().parents[1] / "solutions" / "embeddings"


@pytest.fixture(scope="module")
def assignment():
    """The assignment as its folder holds it."""
    return read_assignment(FOLDER)


@pytest.fixture(scope="module")
def ours(assignment):
    """The names that the notebook defines."""
    notebook = shell.Shell("reference_embeddings")
    with shell.nothing_is_drawn():
        for name, source in assignment.reference_cells():
            notebook.run(name, source)
    return SimpleNamespace(**notebook.namespace)


def random(seed, *shape, dtype=torch.float64):
    """Normal numbers, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_ids(seed, high, *shape):
    """Ids below `high`."""
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def exactly(actual, expected):
    """The same shape, dtype, device and values, up to the last bits."""
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_tasks_and_points_are_the_course_s(assignment):
    """Tasks, order and points are those of the course's contract, and one question is graded by hand."""
    assert [(task.name, task.points) for task in assignment.tasks] == [
        ("embed", 10),
        ("cosine_similarity_matrix", 10),
        ("sinusoidal_positions", 20),
        ("gpt_embedding", 20),
        ("rotary", 30),
    ]
    written = [cell for cell in assignment.cells if cell.grade_id == "written_embeddings"]
    assert [(cell.kind, cell.points, cell.grade, cell.solution) for cell in written] == [("markdown", 10, True, True)]


def test_the_visible_checks_pass(assignment, capsys):
    """Each test cell passes with the reference, and needs no demonstration."""
    notebook = shell.Shell("visible_checks")
    with shell.nothing_is_drawn():
        for cell in assignment.cells:
            if cell.kind == "code" and (cell.is_given or cell.is_task or cell.is_test):
                notebook.run(str(cell.grade_id), cell.source)
    said = capsys.readouterr().out
    assert [line.split(":")[0] for line in said.splitlines()] == [task.name for task in assignment.tasks]


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3), (3, 1, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_embed_is_one_hot_times_table(ours, shape, dtype):
    """It equals torch's own embedding and the product with one-hot rows, with the table's dtype."""
    ids, table = random_ids(1, 7, *shape), random(2, 7, 3, dtype=dtype)
    assert torch.equal(ours.embed(ids, table), F.embedding(ids, table))
    assert torch.equal(ours.embed(ids, table), F.one_hot(ids, 7).to(dtype) @ table)


def test_embed_gradient(ours):
    """The table's gradient is that of torch's embedding."""
    ids, cotangent = random_ids(1, 7, 4, 5), random(3, 4, 5, 3)
    tables = [random(2, 7, 3).requires_grad_() for _ in range(2)]
    ours.embed(ids, tables[0]).backward(cotangent)
    F.embedding(ids, tables[1]).backward(cotangent)
    exactly(tables[0].grad, tables[1].grad)


@pytest.mark.parametrize("bad", [-1, -7, -8, 7, 1000])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_embed_refuses(ours, bad, dtype):
    """An id outside the table raises a ValueError that shows it."""
    with pytest.raises(ValueError, match=f"id {bad} "):
        ours.embed(torch.tensor([[0, 1], [bad, 2]], dtype=dtype), random(1, 7, 3))


def test_embed_takes_small_integers(ours):
    """Unsigned bytes are ids and no mask, and a table longer than a byte counts is no problem."""
    ids, table = torch.tensor([0, 1, 255], dtype=torch.uint8), random(1, 300, 2)
    assert torch.equal(ours.embed(ids, table), table[[0, 1, 255]])


def test_cosine_is_torch_s(ours):
    """Values and gradients are those of torch's cosine similarity, pair by pair."""
    tables = [random(4, 6, 5).requires_grad_() for _ in range(2)]
    mine = ours.cosine_similarity_matrix(tables[0])
    right = F.cosine_similarity(tables[1][:, None], tables[1][None], dim=-1)
    exactly(mine, right)
    exactly(mine.diagonal(), torch.ones(6, dtype=torch.float64))
    for result in (mine, right):
        result.backward(random(5, 6, 6))
    exactly(tables[0].grad, tables[1].grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_cosine_zero_rows(ours, dtype):
    """A zero row gives zeros and a finite gradient, and nothing else changes."""
    table = random(6, 4, 3, dtype=dtype)
    table[2] = 0
    table.requires_grad_()
    result = ours.cosine_similarity_matrix(table)
    kept = [0, 1, 3]
    assert result.dtype == dtype
    assert not result[2].any()
    assert not result[:, 2].any()
    torch.testing.assert_close(result[kept][:, kept], ours.cosine_similarity_matrix(table[kept]))
    result.sum().backward()
    assert table.grad.isfinite().all()


def test_cosine_of_tiny_and_huge_rows(ours):
    """Only the direction counts, over two hundred orders of magnitude."""
    table = random(7, 5, 3)
    scale = torch.tensor([1e-100, 1e-8, 1.0, 1e8, 1e100], dtype=torch.float64)[:, None]
    exactly(ours.cosine_similarity_matrix(table * scale), ours.cosine_similarity_matrix(table))


@pytest.mark.parametrize("base", [10_000.0, 100, 2.5])
@pytest.mark.parametrize(("length", "width"), [(1, 2), (5, 6), (40, 10), (3, 512)])
def test_sinusoids_are_the_formula(ours, length, width, base):
    """Every number is the formula's, rounded once to float32."""
    rows = [
        [wave(t / base ** (2 * i / width)) for i in range(width // 2) for wave in (math.sin, math.cos)]
        for t in range(length)
    ]
    result = ours.sinusoidal_positions(length, width, base=base)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.tensor(rows, dtype=torch.float64).float(), rtol=0, atol=6e-8)


def test_sinusoids_far_away(ours):
    """Position 1,000,000 is as exact as position 1."""
    row = ours.sinusoidal_positions(1_000_001, 4)[-1]
    angles = [1_000_000, 1_000_000 / 100]
    expected = [wave(angle) for angle in angles for wave in (math.sin, math.cos)]
    torch.testing.assert_close(row, torch.tensor(expected), rtol=0, atol=1e-7)


def test_sinusoid_columns_and_distances(ours):
    """No two columns are alike, position 0 is 0 1 0 1, and dot products depend on the distance only."""
    table = ours.sinusoidal_positions(64, 16).double()
    assert table[0].tolist() == [0, 1] * 8
    apart = (table.T[:, None] - table.T[None]).abs().amax(-1) + torch.eye(16, dtype=torch.float64)
    assert apart.min() > 1e-3
    dots = table @ table.T
    for distance in (0, 1, 7, 30):
        torch.testing.assert_close(dots.diagonal(distance), dots[0, distance].expand(64 - distance), rtol=0, atol=1e-5)


@pytest.mark.parametrize("width", [1, 3, 257])
def test_odd_widths_are_refused(ours, width):
    """An odd width raises a ValueError that shows it."""
    with pytest.raises(ValueError, match=str(width)):
        ours.sinusoidal_positions(4, width)
    with pytest.raises(ValueError, match=str(width)):
        ours.rotary_angles(torch.arange(4), width)


@pytest.fixture
def layer(ours):
    """A small layer in float64 with dropout, in training mode."""
    torch.manual_seed(0)
    return ours.GPTEmbedding(9, 7, 4, dropout=0.5).double()


@pytest.mark.parametrize("offset", [0, 1, 4])
def test_gpt_embedding_is_the_sum_of_two_tables(layer, offset):
    """Token row plus position row, from the offset on to the last row."""
    ids = random_ids(8, 9, 5, 3)
    expected = F.embedding(ids, layer.wte.weight) + layer.wpe.weight[offset : offset + 3]
    exactly(layer.eval()(ids, offset=offset), expected)


def test_gpt_embedding_state(layer):
    """Two weights and nothing else."""
    assert {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()} == {
        "wte.weight": (9, 4), "wpe.weight": (7, 4),
    }  # fmt: skip
    assert sorted(dict(layer.named_parameters())) == ["wpe.weight", "wte.weight"]


@pytest.mark.parametrize(
    ("length", "offset", "shows"), [(8, 0, "8"), (3, 5, "8"), (1, 7, "8"), (2, -1, "-1"), (1, -7, "-7")]
)
def test_gpt_embedding_refuses(layer, length, offset, shows):
    """Positions outside the table raise a ValueError that shows what is wrong."""
    with pytest.raises(ValueError, match=shows):
        layer(torch.zeros(2, length, dtype=torch.int64), offset=offset)


def test_gpt_embedding_dropout(layer):
    """In training half is dropped and the rest doubled; afterwards nothing is, and no random number is used."""
    ids = random_ids(9, 9, 40, 7)
    full = layer.eval()(ids)
    before = torch.get_rng_state()
    exactly(layer(ids), full)
    assert torch.equal(torch.get_rng_state(), before)
    trained = layer.train()(ids)
    exactly(trained, torch.where(trained == 0, 0.0, 2 * full))
    assert 0.4 < (trained == 0).double().mean() < 0.6


@pytest.mark.parametrize("base", [10_000.0, 500])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32, torch.float64, torch.bfloat16])
def test_rotary_angles_are_the_formula(ours, dtype, base):
    """Angles are t / base^(2i/D) for the positions given, in float32 whatever those are."""
    positions = [7, 0, 128, 7, 2]
    expected = [[t / base ** (2 * i / 6) for i in range(3)] for t in positions]
    result = ours.rotary_angles(torch.tensor(positions).to(dtype), 6, base=base)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.tensor(expected), rtol=1e-7, atol=0)


@pytest.mark.parametrize("front", [(), (2,), (2, 3), (1, 2, 2)])
def test_rotary_is_complex_multiplication(ours, front):
    """In float64 a pair is a complex number, multiplied by a point of the unit circle."""
    x, angles = random(10, *front, 5, 6), random(11, 5, 3)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    expected = torch.view_as_real(pairs * torch.exp(1j * angles)).flatten(-2)
    exactly(ours.apply_rotary(x, angles), expected)
    exactly(ours.apply_rotary(x, angles).norm(dim=-1), x.norm(dim=-1))


def test_rotary_scores_depend_on_the_distance(ours):
    """Moving query and key along together changes no score, in any order of positions."""
    q, k = random(12, 8), random(13, 8)
    positions = torch.tensor([5, 0, 3, 11])

    def scores(moved):
        angles = ours.rotary_angles(positions + moved, 8)
        return ours.apply_rotary(q.expand(4, 8), angles) @ ours.apply_rotary(k.expand(4, 8), angles).T

    torch.testing.assert_close(scores(0), scores(100), rtol=0, atol=2e-4)
    assert (scores(0)[0] - scores(0)[1]).abs().max() > 0.1  # and they do depend on the distance


def test_rotary_gradient(ours):
    """The gradient is right to second order, for x and for the angles."""
    x, angles = random(14, 2, 3, 4).requires_grad_(), random(15, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(ours.apply_rotary, (x, angles))
    assert torch.autograd.gradgradcheck(ours.apply_rotary, (x, angles))


def test_rotary_in_bfloat16_rounds_once(ours):
    """bfloat16 goes through float32: the result is the exact one, rounded."""
    x, angles = random(16, 50, 8, dtype=torch.bfloat16), random(17, 50, 4, dtype=torch.float32) * 3
    exact = ours.apply_rotary(x.double(), angles)
    result = ours.apply_rotary(x, angles)
    assert result.dtype == torch.bfloat16
    assert ((result.double() - exact).abs() <= exact.abs() / 256 + 1e-6).all()


def test_everything_is_pure(ours):
    """Inputs stay as they are, non-contiguous ones give the same, and the global random state is left alone."""
    table, x, angles = random(18, 6, 4), random(19, 2, 3, 4), random(20, 3, 2)
    ids, positions = random_ids(21, 6, 2, 3), torch.arange(3)
    given = [table, x, angles, ids, positions]
    copies, before = [tensor.clone() for tensor in given], torch.get_rng_state()

    def gapped(tensor):
        return torch.stack((tensor, tensor), dim=-1)[..., 0]

    for one, other in (
        (ours.embed(ids, table), ours.embed(gapped(ids), gapped(table))),
        (ours.cosine_similarity_matrix(table), ours.cosine_similarity_matrix(gapped(table))),
        (ours.rotary_angles(positions, 4), ours.rotary_angles(gapped(positions), 4)),
        (ours.apply_rotary(x, angles), ours.apply_rotary(gapped(x), gapped(angles))),
    ):
        exactly(one, other)
    ours.sinusoidal_positions(3, 4)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(given, copies, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_meta_device(ours, layer, dtype):
    """What does not look at values gives shapes, dtypes and device on `meta`."""
    x = torch.empty(2, 3, 4, device="meta", dtype=dtype)
    angles = ours.rotary_angles(torch.arange(3, device="meta"), 4)
    results = [
        (ours.cosine_similarity_matrix(x[0]), (3, 3), dtype),
        (ours.sinusoidal_positions(3, 4, device="meta"), (3, 4), torch.float32),
        (ours.sinusoidal_positions(3, 4, device=torch.device("meta")), (3, 4), torch.float32),
        (layer.to("meta", dtype)(torch.zeros(2, 3, device="meta", dtype=torch.int64), offset=1), (2, 3, 4), dtype),
        (angles, (3, 2), torch.float32),
        (ours.apply_rotary(x, angles), (2, 3, 4), dtype),
    ]
    for result, shape, expected in results:
        assert (result.device.type, tuple(result.shape), result.dtype) == ("meta", shape, expected)
