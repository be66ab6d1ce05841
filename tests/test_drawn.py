"""Examples are drawn once, and answers of the reference remembered: with neither does a verdict change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given

from autograder import suite
from autograder.diagnosis import notebook
from autograder.drawn import examples, under_hypothesis
from autograder.errors import GraderError
from autograder.notebook_link import InProcess, Message
from autograder.reference import Reference, Remembering
from autograder.strategies import SEEDS, strided, tensors
from autograder.student import Student

CELLS = """
import time
import torch
calls = []

def double(x):
    calls.append(x)
    return 2 * x

def how_many():
    return len(calls)

def refuses(x):
    raise ValueError("no")

def taken(items):
    return next(items)

def grouped(items):
    return list(items)

def size(items):
    return len(items)

def works(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
"""


def own(name: str = "cells") -> Student:
    """A notebook whose functions are the ones above."""
    return notebook([(name, CELLS)])


def verdict(tmp_path: Any, source: str, cells: str, *, shrink: bool = True) -> suite.Verdict:
    """What a hidden test says of a notebook."""
    tests = tmp_path / "test_hidden.py"
    head = "from hypothesis import given, assume\nfrom hypothesis import strategies as st\n"
    tests.write_text(f"{head}from autograder.suite import task\nfrom autograder.compare import *\n{source}")
    (found,) = suite.run(tests, notebook([("f", cells)]), own(), shrink=shrink)
    return found


# --- examples --------------------------------------------------------------------------------------------------------


@suite.task("double", examples=9)
@given(tensors("TD", "SD", dtypes=(torch.float32, torch.float64)), SEEDS)
@example(made=(torch.ones(2, 2),), seed=3)
def drawn_from(student: Student, made: tuple[torch.Tensor, ...], seed: int) -> None:
    """A check that is never run."""
    raise AssertionError


def written(made: tuple[torch.Tensor, ...], seed: int) -> str:
    """An example with everything that a notebook could tell apart."""
    return repr([(x.dtype, x.shape, x.stride(), x.tolist()) for x in made]) + f" {seed}"


def test_the_examples_are_those_that_hypothesis_tries() -> None:
    """In its order, the explicit ones first; another seed gives others."""
    tried: list[str] = []

    def inner(student: Student, made: tuple[torch.Tensor, ...], seed: int) -> None:
        assert student == "the student"
        tried.append(written(made, seed))

    under_hypothesis(drawn_from, 5, inner, {"student": "the student"})
    found = [written(**one) for one in examples(drawn_from, 5)]
    assert found == tried
    assert len(set(found)) == 10
    assert found[0] == written((torch.ones(2, 2),), 3)
    assert [written(**one) for one in examples(drawn_from, 6)] != found


def test_what_a_check_does_to_its_example_is_not_seen_by_the_next_notebook() -> None:
    """Each is handed its own."""
    before = [written(**one) for one in examples(drawn_from, 5)]
    for one in examples(drawn_from, 5):
        for tensor in one["made"]:
            tensor.zero_()
    assert [written(**one) for one in examples(drawn_from, 5)] == before


WITHIN_BOUNDS = """
@task("f", examples=30)
@given(st.integers(0, 1000))
def test_f(student, n):
    "f(n) is n."
    assert_equal(student.f(n), n)
"""


def test_the_smallest_failing_example_is_looked_for(tmp_path: Any) -> None:
    """And where nobody reads it, the first is enough."""
    wrong = "def f(n): return n if n < 7 else 0"
    smallest, first = (verdict(tmp_path, WITHIN_BOUNDS, wrong, shrink=shrink) for shrink in (True, False))
    assert smallest.status == first.status == "fail"
    assert "f(7)" in smallest.example
    assert "f(7)" not in first.example


def test_a_failure_that_does_not_return_is_a_failure(tmp_path: Any) -> None:
    """A notebook that answers wrongly once is wrong, though Hypothesis then finds nothing."""
    once = "seen = []\ndef f(n):\n    seen.append(n)\n    return -1 if len(seen) == 3 else n"
    found = verdict(tmp_path, WITHIN_BOUNDS, once)
    assert found.status == "fail"
    assert "# yours: -1" in found.example


OF_TWO = """
@task("f", examples=30)
@given(st.integers(0, 1000))
def test_f(student, n):
    "f(n) is a pair of n."
    left, right = student.f(n)
    assert_equal(left, n)
"""


@pytest.mark.parametrize("shrink", [True, False])
def test_a_failure_stays_one_though_the_check_then_breaks(tmp_path: Any, *, shrink: bool) -> None:
    """A notebook that answers wrongly, and with nonsense while a smaller example is looked for, is wrong."""
    later = "seen = []\ndef f(n):\n    seen.append(n)\n    return [-1 if len(seen) == 3 else n] * 2 if len(seen) < 5 else None"
    found = verdict(tmp_path, OF_TWO, later, shrink=shrink)
    assert found.status == "fail"
    assert "# yours: [-1, -1]" in found.example


DRAWS_WHILE_IT_RUNS = """
@task("f", examples=30)
@given(st.data())
def test_f(student, data):
    "f(n) is n."
    n = data.draw(st.integers(0, 1000))
    assert_equal(student.f(n), n)
"""
ASSUMES = WITHIN_BOUNDS.replace("    assert_equal", "    assume(n % 2)\n    assert_equal")


@pytest.mark.parametrize("source", [DRAWS_WHILE_IT_RUNS, ASSUMES], ids=["draws", "assumes"])
def test_a_check_that_needs_hypothesis_while_it_runs_has_it(tmp_path: Any, source: str) -> None:
    """Nothing is drawn beforehand that would not be drawn then."""
    assert verdict(tmp_path, source, "def f(n): return n").status == "pass"
    found = verdict(tmp_path, source, "def f(n): return n if n < 7 else 0")
    assert (found.status, "f(7)" in found.example) == ("fail", True)


def test_a_check_that_is_broken_costs_nothing(tmp_path: Any) -> None:
    """As before: its own exception is our fault."""
    assert verdict(tmp_path, WITHIN_BOUNDS.replace("assert_equal(", "asert_equal("), "def f(n): return n").status == (
        "ungraded"
    )


# --- the reference's answers -----------------------------------------------------------------------------------------


class Counted(InProcess):
    """Counts what it is asked."""

    asked = 0

    def ask(self, request: Message, seconds: float) -> Message:
        """One more."""
        self.asked += 1
        return super().ask(request, seconds)


def remembering(most_bytes: int = 2**20) -> tuple[Student, Counted, Remembering]:
    """A notebook that remembers its answers, what it remembers for, and its memory."""
    link = Counted()
    memory = Remembering(link, most_bytes)
    return notebook([("cells", CELLS)], memory, Reference), link, memory


def check(student: Student, *values: float) -> list[Any]:
    """What one check asks: answers that hang on objects and on what was called before."""
    student.forget()
    kept = student.keep("double", torch.tensor(values))
    return [kept.sum(), student.double(kept), student.taken(student.lazy(values)), student.how_many()]


def same(mine: list[Any], theirs: list[Any]) -> bool:
    """The same values, whatever their type."""
    return repr(mine) == repr(theirs)


def test_the_second_notebook_costs_the_reference_nothing() -> None:
    """Its answers are those of the first time."""
    student, link, _memory = remembering()
    first = check(student, 1.0, 2.0)
    asked = link.asked
    assert same(check(student, 1.0, 2.0), first)
    assert link.asked == asked + 1  # to forget
    assert first[0].item() == 6.0
    assert first[2] == 1.0


def test_a_remembered_answer_may_be_changed() -> None:
    """Each time it is another tensor."""
    student, _link, _memory = remembering()
    student.double(torch.ones(2)).zero_()
    for _ in range(2):
        student.forget()
        answer = student.double(torch.ones(2))
        assert answer.tolist() == [2.0, 2.0]
        answer.zero_()


@pytest.mark.parametrize("ask", [lambda s: check(s, 1.0, 3.0), lambda s: [s.double(torch.ones(1))]])
def test_a_new_question_finds_the_objects_of_those_before_it(ask: Callable[[Student], list[Any]]) -> None:
    """Where what led to it came from memory, too."""
    student, _link, _memory = remembering()
    check(student, 1.0, 2.0)
    student.forget()
    kept = student.keep("double", torch.tensor([1.0, 2.0]))  # known
    assert student.double(kept).tolist() == [4.0, 8.0]  # new here: `sum` was asked first
    plain = own()
    check(plain, 1.0, 2.0)
    assert same(ask(student)[:3], ask(plain)[:3])


def test_a_question_is_asked_as_it_was() -> None:
    """Though who asked has changed a tensor or a list of theirs since."""
    student, _link, _memory = remembering()
    for again in (False, True):
        student.forget()
        given, items = strided(torch.ones(2, 3)), [torch.ones(1)]
        kept, listed = student.keep("double", given), student.keep("grouped", items)
        given.zero_()
        items.append(torch.zeros(1))
        wanted = "stride" if again else "tolist"  # the second is new, so that what came from memory is asked now
        found = student._observe(kept.handle, (wanted,), (), {}).value
        assert found == ((1, 2) if again else [[2.0] * 3] * 2)
        assert student.size(listed) == 1
    assert kept.sum().item() == 12.0


class Busy(Counted):
    """A machine that becomes too busy to answer."""

    late = False

    def ask(self, request: Message, seconds: float) -> Message:
        """In time, or too late."""
        if self.late and request["verb"] == "call":
            return {"id": request["id"], "error": {"kinds": ["TimeIsUp"], "text": "still running", "where": ""}}
        return super().ask(request, seconds)


def test_where_the_reference_fails_the_fault_is_ours(tmp_path: Any) -> None:
    """In what is new and in what is asked once more: the check is broken, and costs nothing."""
    link = Busy()
    student = notebook([("cells", CELLS)], Remembering(link), Reference)
    with pytest.raises(GraderError, match=r"the reference failed: .*ValueError: no"):
        student.refuses(1)
    student.forget()
    student.double(torch.ones(1))
    link.late = True
    student.forget()
    student.double(torch.ones(1))
    with pytest.raises(GraderError, match="very busy"):
        student.double(torch.ones(2))
    student.forget()
    with pytest.raises(GraderError, match="the reference failed"):
        student.double(torch.ones(3))
    tests = "@task('f')\ndef test_f(student, reference):\n    'f refuses.'\n    reference.refuses(student.f(1))"
    (tmp_path / "test_hidden.py").write_text(f"from autograder.suite import task\n{tests}")
    mine = notebook([("f", "def f(n): return n")])
    (found,) = suite.run(tmp_path / "test_hidden.py", mine, notebook([("cells", CELLS)], client=Reference))
    assert found.status == "ungraded"


def test_what_it_raises_is_asked_again() -> None:
    """It may have been short of time."""
    student, link, _memory = remembering()
    asked = []
    for _ in range(2):
        student.forget()
        before = link.asked
        with pytest.raises(GraderError, match="ValueError: no"):
            student.refuses(1)
        asked.append(link.asked - before)
    assert asked == [2, 1]  # the first time after the cells


def test_the_memory_is_bounded() -> None:
    """What was not used for the longest time goes first; nothing becomes wrong."""
    student, link, memory = remembering(most_bytes=8000)
    for number in [*range(20), 0]:
        student.forget()
        assert student.double(torch.full((100,), float(number)))[0].item() == 2.0 * number
    assert 4000 < memory._bytes <= 8000
    assert link.asked == 1 + 20 + 1 + 20  # the cells; to forget, the first time not, as nothing was there; each answer


def test_cells_that_are_run_again_are_another_notebook() -> None:
    """Nothing of the one before is answered."""
    student, link, memory = remembering()
    student.double(torch.ones(1))
    memory.ask({"id": 0, "verb": "cells", "cells": [["other", "def double(x): return 3 * x", 5.0]]}, 5.0)
    student.forget()
    assert student.double(torch.ones(1)).item() == 3.0
    assert link.asked == 5


def test_processor_time_counts_though_the_answer_was_known() -> None:
    """A check that compares times with the reference's finds what it took."""
    student, _link, _memory = remembering()
    times = []
    for _ in range(2):
        student.forget()
        began = student.cpu_seconds
        student.works(0.1)
        times.append(student.cpu_seconds - began)
    assert min(times) >= 0.1
