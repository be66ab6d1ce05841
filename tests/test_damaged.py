"""2,000 damaged notebooks: each ends in a report or a word to its student, and nobody else notices. See damaged.py."""

from __future__ import annotations

import hashlib
import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from autograder.assignment import Assignment, read_assignment, submission
from autograder.errors import NotebookUnreadable
from autograder.grader import Grader
from autograder.notebook import read_ipynb, to_ipynb
from autograder.shortcuts import find_shortcuts

_SPEC = importlib.util.spec_from_file_location("damaged", Path(__file__).parent / "damaged.py")
assert _SPEC is not None
assert _SPEC.loader is not None
damaged = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(damaged)


@pytest.fixture(scope="module")
def toy() -> Assignment:
    """The small assignment of the tests."""
    return read_assignment(damaged.TOY)


def test_each_is_read_or_refused_in_one_sentence(toy: Assignment) -> None:
    """All of them: cells, the submission that is graded, and the reading of shortcuts."""
    outcomes: Counter[str] = Counter()
    for number, (way, data) in enumerate(damaged.notebooks(toy)):
        try:
            work = submission(toy, read_ipynb(data))
            find_shortcuts(work.cells, {"softmax": ("softmax",)}, ["softmax"])
            assert work.digest.startswith("sha256:"), number
        except NotebookUnreadable as error:
            said = str(error)
            assert said.endswith((".", "?")), (number, way, said)
            assert "\n" not in said, (number, way, said)
            assert len(said) < 300, (number, way, said)
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
    assert outcomes.total() == damaged.COUNT
    assert min(outcomes["read"], outcomes["refused"]) > 400  # neither is the way out for all


def test_they_are_the_same_on_every_machine(toy: Assignment) -> None:
    """What was found once can be found again."""
    first, again = ([hashlib.sha256(data).digest() for _, data in damaged.notebooks(toy, 60)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 50


def test_a_class_with_some_of_them_is_graded(toy: Assignment) -> None:
    """Confined, two of each way; the honest ones before, between and after get the same."""
    honest = to_ipynb(toy.filled())
    with Grader(toy.folder.parent) as grader:
        wanted = grader.grade(honest, assignment="toy", student="ada").tasks
        for number, (way, data) in enumerate(damaged.notebooks(toy, 2 * len(damaged.WAYS))):
            report = grader.grade(data, assignment="toy", student=f"s{number}")
            assert report.status == "graded" or report.notes, way
            report.to_json().encode("utf-8")
            if number % 7 == 0:
                assert grader.grade(honest, assignment="toy", student="ada").tasks == wanted, f"after {way}"
