"""One mistake costs once: what a task builds on, and what is graded again with working parts."""

from __future__ import annotations

import ast
import difflib
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from autograder import diagnosis, follow, suite
from autograder.assignment import Assignment, assignments, read_assignment, submission
from autograder.coherence import examine
from autograder.errors import CourseBroken
from autograder.grade import Notebook, grade
from autograder.names import builds_on
from autograder.notebook import Cell, cleared
from autograder.notebook_link import InProcess
from autograder.report import Report
from autograder.student import Student

SOLUTIONS = Path(__file__).resolve().parents[1] / "solutions"
ASSIGNMENTS = assignments(SOLUTIONS)


@cache
def course(name: str) -> tuple[Assignment, diagnosis.Doctor, Student]:
    """An assignment with what grading it needs."""
    assignment = read_assignment(SOLUTIONS / name)
    return assignment, diagnosis.Doctor(assignment), diagnosis.notebook(assignment.reference_cells())


def graded(name: str, replaced: dict[str, str], only: set[str], *, extra: str = "") -> Report:
    """The reference with some solutions replaced, graded; `extra`: a cell of the student's own, right behind the imports."""
    assignment, doctor, reference = course(name)
    cells = assignment.filled(replaced)
    if extra:
        cells = [cells[0], Cell("code", extra), *cells[1:]]
    work = submission(assignment, cells)
    return grade(work, assignment, InProcess(), doctor=doctor, reference=reference, only=frozenset(only), shrink=False)


def mistake(name: str, identity: str) -> str:
    """The solution cell with a mistake from the bank."""
    assignment, doctor, _ = course(name)
    (item,) = [item for item in doctor.bank.misconceptions if item.id == identity]
    return item.apply(assignment.solution(item.task))


CASES = [(name, task) for name in ASSIGNMENTS for task in follow.stand_ins(read_assignment(SOLUTIONS / name))]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_stand_in_holds_all_that_is_asked_of_its_task(name: str, task: str) -> None:
    """All its own hidden tests, shortcuts aside; a part that did not work would cost students points."""
    assignment, _, reference = course(name)
    work = submission(assignment, assignment.filled())
    planned = follow.plan(assignment, work, {})
    book = Notebook(planned.mended({task}))
    client = Student(InProcess(), book.prepare)
    verdicts = suite.run(assignment.folder / "test_hidden.py", client, reference, only=frozenset({task}), shrink=False)
    assert not book.errors
    assert verdicts
    assert {one.status for one in verdicts} == {"pass"}, [f"{one.name} {one.message}" for one in verdicts if one.status != "pass"]


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_whatever_the_reference_builds_on_has_a_stand_in(name: str) -> None:
    """Otherwise a mistake there would cost twice. None is a copy of the reference."""
    assignment, *_ = course(name)
    solutions = {task.name: assignment.solution(task.name) for task in assignment.tasks}
    needed = set().union(*builds_on(solutions).values())
    parts = follow.stand_ins(assignment)
    assert needed <= set(parts)
    for task, source in parts.items():
        alike = difflib.SequenceMatcher(None, _code(source), _code(solutions[task]), autojunk=False).ratio()
        assert alike < 0.75, task


def _code(source: str) -> list[str]:
    """A cell's lines without comments, docstrings and names of things that the contract fixes."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return [line.strip() for line in ast.unparse(tree).split("\n") if not line.strip().startswith(("def ", "class "))]


def test_a_right_task_on_a_wrong_one_keeps_its_points() -> None:
    """And the student is told; the wrong one still loses and is named."""
    report = graded("attention", {"softmax": mistake("attention", "softmax_keepdim_forgotten")},
                    {"softmax", "attention_weights", "scaled_dot_product_attention", "causal_self_attention"})  # fmt: skip
    assert report.task("softmax").score < 10
    assert report.task("softmax").diagnosis[0].id == "softmax_keepdim_forgotten"
    for task in ("attention_weights", "scaled_dot_product_attention", "causal_self_attention"):
        result = report.task(task)
        assert (result.status, result.score, result.follow_through) == ("pass", result.points, True), task
    assert "`causal_self_attention` was graded with a working" in " ".join(report.notes)


def test_a_wrong_task_on_a_wrong_one_gains_nothing() -> None:
    """It has what it had without follow-through, and is named although what it builds on is wrong as well."""
    both = {"softmax": mistake("attention", "softmax_keepdim_forgotten"), "causal_self_attention": mistake("attention", "no_output_projection")}
    report = graded("attention", both, {"softmax", "causal_self_attention"})
    result = report.task("causal_self_attention")
    alone = graded("attention", both, {"causal_self_attention"}).task("causal_self_attention")  # softmax is not looked at
    assert not result.follow_through
    assert result.score == alone.score < result.points
    assert [item.id for item in result.diagnosis] == ["no_output_projection"]
    assert "something to mend in it as well" in " ".join(report.notes)


def test_right_work_on_unfinished_work_keeps_its_points() -> None:
    """Who cannot do one task may still do the next."""
    assignment, *_ = course("training")
    stub = next(cleared(cell).source for cell in assignment.cells if cell.grade_id == "clip_gradients")
    report = graded("training", {"clip_gradients": stub}, {"clip_gradients", "train_step"})
    assert report.task("clip_gradients").score == 0
    assert (report.task("train_step").score, report.task("train_step").follow_through) == (15, True)


def test_a_task_that_stands_alone_is_not_graded_again() -> None:
    """Nothing it builds on has failed."""
    report = graded("attention", {"causal_mask": mistake("attention", "causal_shifted_backwards")}, {"causal_mask", "softmax"})
    assert not any(task.follow_through for task in report.tasks)
    assert not report.notes


def test_what_a_task_builds_on_is_read_from_the_students_notebook() -> None:
    """Directly, through a helper cell, and through what its hidden tests ask for; not from the reference's own habits."""
    assignment, *_ = course("attention")
    alone = "def attention_weights(q, k, mask=None):\n    def softmax(x, dim):\n        return x\n    return softmax(q, -1)"
    through = "def scaled_dot_product_attention(q, k, v, mask=None):\n    return helper(q, k, mask) @ v"
    cells = assignment.filled({"attention_weights": alone, "scaled_dot_product_attention": through})
    helper = Cell("code", "def helper(q, k, mask):\n    return softmax(q @ k.mT, -1)")
    beneath = follow.plan(assignment, submission(assignment, [*cells, helper]), {"padding_mask": {"merge_heads"}}).beneath
    assert "softmax" not in beneath["attention_weights"]
    assert beneath["scaled_dot_product_attention"] == {"softmax"}
    assert beneath["padding_mask"] == {"heads"}


def test_what_the_hidden_tests_build_is_built_on() -> None:
    """`load_gpt2` is judged on the student's own GPT, so a GPT that is wrong counts once."""
    wrong = "class GPT(nn.Module):\n    def __init__(self, config):\n        super().__init__()\n"
    report = graded("gpt", {"gpt": wrong}, {"gpt", "load_gpt2"})
    assert report.task("gpt").score == 0
    assert (report.task("load_gpt2").score, report.task("load_gpt2").follow_through) == (10, True)


def test_a_shortcut_is_withheld_whatever_it_builds_on() -> None:
    """Follow-through gives no points back for what is not allowed."""
    short = "def scaled_dot_product_attention(q, k, v, mask=None):\n    softmax(q, -1)\n    return F.scaled_dot_product_attention(q, k, v, mask)"
    wrong = {"softmax": mistake("attention", "softmax_keepdim_forgotten"), "scaled_dot_product_attention": short}
    report = graded("attention", wrong, {"softmax", "scaled_dot_product_attention"})
    assert (report.task("scaled_dot_product_attention").status, report.task("scaled_dot_product_attention").score) == ("withheld", 0)


def test_a_shortcut_that_only_working_parts_let_run_is_seen() -> None:
    """Hidden from whoever reads the source, and behind an earlier task that raises; the working parts may call what they like."""
    hidden = "[getattr(F, name) for name in dir(F) if name.startswith('scaled_dot')][0](q, k, v, mask)"
    short = f"def scaled_dot_product_attention(q, k, v, mask=None):\n    softmax(q, -1)\n    return {hidden}"
    wrong = {"softmax": "def softmax(x, dim=-1):\n    raise NotImplementedError", "scaled_dot_product_attention": short}
    report = graded("attention", wrong, {"softmax", "scaled_dot_product_attention", "causal_self_attention"})
    result = report.task("scaled_dot_product_attention")
    assert (result.status, result.score, result.follow_through) == ("withheld", 0, False)
    assert report.task("causal_self_attention").follow_through


def test_code_that_runs_beside_working_parts_says_nothing_of_them() -> None:
    """Of the second judgement no message, example or value of the student's is taken over."""
    spy = (
        "def attention_weights(q, k, mask=None):\n"
        "    import inspect, dis\n"
        "    code = softmax.__code__\n"
        "    raise ValueError('SPY ' + ' '.join(map(str, (code.co_names, code.co_consts, code.co_code.hex()))))"
    )  # fmt: skip
    report = graded("attention", {"softmax": "def softmax(x, dim=-1):\n    return x", "attention_weights": spy}, {"softmax", "attention_weights"})
    text = report.to_json()
    assert "SPY" in text  # what it says of its own softmax, in the first judgement, is its own business
    assert "masked_fill" not in text
    assert "isneginf" not in text


def test_working_parts_stand_behind_the_students_own(tmp_path: Path) -> None:
    """So helpers that the failed cell defines stay; a cell that ends the worker does not run again."""
    assignment, *_ = course("attention")
    work = submission(assignment, assignment.filled())
    numbers = {name: number for number, (name, _) in enumerate(work.cells)}
    planned = follow.plan(assignment, work, {})
    names = [name for name, _ in planned.mended({"softmax"}).cells]
    assert names[numbers["softmax"] : numbers["softmax"] + 2] == ["softmax", "a working softmax"]
    names = [name for name, _ in planned.mended({"softmax"}, deadly={numbers["softmax"]}).cells]
    assert "softmax" not in names
    assert "a working softmax" in names
    without = [cell for cell in assignment.filled() if cell.grade_id != "softmax"]
    names = [name for name, _ in follow.plan(assignment, submission(assignment, without), {}).mended({"softmax"}).cells]
    assert names.index("a working softmax") == 1 + names.index(str(assignment.given[-1].grade_id))


def test_a_stand_in_for_nothing_is_refused(tmp_path: Path) -> None:
    """A slip in a name would otherwise cost students points in silence."""
    assignment, *_ = course("attention")
    (tmp_path / follow.STAND_INS).write_text("def sotfmax(x):\n    return x\n")
    with pytest.raises(CourseBroken, match="line 1: sotfmax is defined by no task"):
        follow.stand_ins(replace(assignment, folder=tmp_path))
    (tmp_path / follow.STAND_INS).write_text("def (\n")
    with pytest.raises(CourseBroken, match="line 1"):
        follow.stand_ins(replace(assignment, folder=tmp_path))


def test_a_release_asks_for_stand_ins(tmp_path: Path) -> None:
    """Where a solution builds on a task without one, the release says which."""
    folder = tmp_path / "attention"
    shutil.copytree(SOLUTIONS / "attention", folder)
    examine(folder)
    text = (folder / follow.STAND_INS).read_text()
    (folder / follow.STAND_INS).write_text(text[: text.index("def causal_mask")])
    with pytest.raises(CourseBroken, match="'causal_self_attention' builds on 'causal_mask', which has no stand-in"):
        examine(folder)
