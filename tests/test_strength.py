"""The tests are tested: every wrong answer of the bank loses and is named, every right one loses nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from autograder import strength
from autograder.assignment import read_assignment

ROOT = Path(__file__).resolve().parents[1]
# At least so many misconceptions and honest variants, by assignment.
LEAST = {"attention": (25, 10), "embeddings": (25, 10), "gpt": (30, 10), "tokenizer": (30, 10), "training": (30, 10)}
FOLDERS = sorted(path.parent for path in (ROOT / "solutions").glob("*/notebook.py"))


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    """All cores; fresh processes, as a fork after torch has run can hang."""
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=get_context("spawn")) as executor:
        yield executor


def test_every_assignment_is_looked_at() -> None:
    """A new one needs its least numbers here."""
    assert {folder.name for folder in FOLDERS} == set(LEAST)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_truth_table(folder: Path, pool: Executor) -> None:
    """Reference full; stubs and trivial answers nothing; misconceptions lose and are named; honest variants keep all."""
    rows = list(strength.table(folder, executor=pool))
    kinds = Counter(row.kind for row in rows)
    wrong, right = LEAST[folder.name]
    assert kinds["misconception"] >= wrong
    assert kinds["honest"] >= right
    assert kinds["reference"] == kinds["stub"] == 1
    faults = [f"{row.kind} {row.name} [{row.task}]: {fault[:500]}" for row in rows for fault in row.faults]
    assert not faults, "\n".join(faults)
    reference = rows[0].report
    assert (reference.score, reference.max_score) == (90.0, 90.0)
    assert all(task.status == "pass" for task in reference.tasks)


TOY = read_assignment(ROOT / "tests" / "toy_course" / "solutions" / "toy")


def test_a_survivor_is_a_fault() -> None:
    """The table can fail: a wrong answer that keeps its points, a right one that loses some, a name that is not given."""
    table = strength.Table(TOY)
    right = TOY.solution("softmax")
    survivor = strength.Row("misconception", "no_exp", "softmax", table.graded({"softmax": right}))
    assert survivor.faults == ["softmax: loses nothing"]
    wrong = table.graded({"softmax": "def softmax(x, dim=-1):\n    return x"})
    assert strength.Row("honest", "clean", "softmax", wrong).faults
    assert strength.Row("reference", "the reference", "", wrong).faults
    unnamed = table.graded({"softmax": "def softmax(x, dim=-1):\n    return x * 3"})
    assert strength.Row("misconception", "no_exp", "softmax", unnamed).faults == ["softmax: diagnosed as nothing"]
    lucky = table.graded({"softmax": right})
    assert strength.Row("trivial", "returns its input", "softmax", lucky).faults


def test_the_verdict_counts() -> None:
    """In one line."""
    rows = list(strength.table(TOY.folder))
    assert strength.verdict("toy", rows) == (
        "toy: 3 of 3 wrong answers lose their points, 2 of 2 right answers lose none, 3 of 3 mistakes are named."
    )
