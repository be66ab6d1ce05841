"""Does an assignment's folder hold together? Its files must speak of the same tasks.

Asked before a release. Every fault names the file, the cell or test, and what to change.
"""

from __future__ import annotations

import ast
import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from autograder import follow, suite
from autograder.assignment import Assignment, read_assignment
from autograder.diagnosis import read_bank
from autograder.errors import CourseBroken
from autograder.names import builds_on
from autograder.notebook import Cell
from autograder.shortcuts import not_allowed

AUTOMATIC, WRITTEN = 90, 10


def examine(folder: Path) -> Assignment:
    """Read an assignment and make sure that it holds together.

    Raises:
        CourseBroken: with every fault, one a line.
    """
    assignment = read_assignment(folder)
    faults = [*_notebook(assignment), *_tests(assignment), *_bank(assignment), *_stand_ins(assignment)]
    if faults:
        raise CourseBroken("\n".join(faults))
    return assignment


def _notebook(assignment: Assignment) -> Iterator[str]:
    file = assignment.folder / "notebook.py"
    labels = Counter(cell.grade_id for cell in assignment.cells if cell.grade_id)
    for label, count in labels.items():
        if count > 1:
            yield f"{file}: the grade_id {label!r} stands {count} times; give each cell its own."
    for cell in assignment.cells:
        yield from (f"{file}: {fault}" for fault in _regions(cell))
    yield from (f"{file}: {fault}" for fault in _pairs(assignment))
    yield from (f"{file}: {fault}" for fault in _points(assignment))


def _regions(cell: Cell) -> Iterator[str]:
    place = f"cell {cell.grade_id!r}" if cell.grade_id else f"the cell that begins {cell.source[:40]!r}"
    depth = regions = 0
    for line in cell.source.split("\n"):
        begins, ends = "BEGIN SOLUTION" in line, "END SOLUTION" in line
        if begins + ends and depth == ends:
            depth = 1 - depth
            regions += begins
        elif begins or ends:
            yield f"{place}: {line.strip()!r} has no partner; write BEGIN SOLUTION and END SOLUTION in turn."
            return
    if depth:
        yield f"{place}: END SOLUTION is missing."
    if regions and not cell.is_task:
        yield f"{place} has a solution region, but is no solution cell; set its nbgrader metadata."
    if cell.is_task and not regions:
        yield f"{place} is a solution cell without a region; put the body between BEGIN SOLUTION and END SOLUTION."


def _pairs(assignment: Assignment) -> Iterator[str]:
    tested = set()
    for cell, after in zip(assignment.cells, [*assignment.cells[1:], Cell("raw", "")], strict=True):
        if not cell.is_task:
            continue
        if not after.is_test or after.grade_id != f"test_{cell.grade_id}":
            yield f"task {cell.grade_id!r}: the cell right after it must be its test cell 'test_{cell.grade_id}'."
        else:
            tested.add(after.grade_id)
    for cell in assignment.cells:
        if cell.is_test and cell.grade_id not in tested:
            yield f"test cell {cell.grade_id!r} does not follow the solution cell of a task of that name."
        if cell.is_test and not cell.points > 0:
            yield f"test cell {cell.grade_id!r} carries {cell.points:g} points; give it some."
        if cell.is_test and not cell.locked:
            yield f'test cell {cell.grade_id!r}: set "locked": true, so that students do not edit it by accident.'


def _points(assignment: Assignment) -> Iterator[str]:
    total = sum(cell.points for cell in assignment.cells if cell.is_test)
    if total != AUTOMATIC:
        yield f"the points of the test cells sum to {total:g}; they must sum to {AUTOMATIC}."
    written = [cell for cell in assignment.cells if cell.grade and cell.solution]
    name = f"written_{assignment.name}"
    if [cell.grade_id for cell in written] != [name] or written[0].points != WRITTEN or written[0].kind != "markdown":
        yield f"there must be one written question: a markdown cell {name!r}, {WRITTEN} points, grade and solution set."


def _tests(assignment: Assignment) -> Iterator[str]:
    file = assignment.folder / "test_hidden.py"
    if not file.is_file():
        yield f"{file} is missing: every task needs a hidden test."
        return
    yield from _defined_twice(file)
    checks = _checks(file)
    tasks = {task.name for task in assignment.tasks}
    for task in tasks - {check.task for check in checks.values() if check is not None}:
        yield f"{file}: no hidden test judges the task {task!r}; add one with @task({task!r})."
    earlier: dict[str, str] = {}
    for name, check in checks.items():
        if check is None:
            yield f"{file}: {name} needs @task(...), the task that it judges."
            continue
        if check.task not in tasks:
            yield f"{file}: {name} judges {check.task!r}, which is no task of the notebook."
        if check.needs is not None and earlier.get(check.needs) != check.task:
            yield f"{file}: {name} needs {check.needs!r}, which is no earlier test of {check.task!r}."
        earlier[name] = check.task
    for task in not_allowed(file):
        if task not in tasks and task != "*":
            yield f"{file}: NOT_ALLOWED names {task!r}, which is no task of the notebook."


def _checks(file: Path) -> dict[str, suite.Check | None]:
    checks: dict[str, suite.Check | None] = {}
    for name, value in vars(_imported(file)).items():
        if name.startswith("test") and callable(value):
            marks = [mark for mark in getattr(value, "pytestmark", []) if mark.name == "task"]
            checks[name] = marks[0].args[0] if marks else None
    return checks


def _imported(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"hidden_tests_of_{file.parent.name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        message = f"{file} cannot be run: {type(error).__name__}: {error}"
        raise CourseBroken(message) from error
    return module


def _defined_twice(file: Path) -> Iterator[str]:
    body = ast.parse(file.read_text(encoding="utf-8")).body
    names = Counter(item.name for item in body if isinstance(item, ast.FunctionDef))
    for name, count in names.items():
        if count > 1:
            yield f"{file}: {name} is defined {count} times, and only the last counts; rename the others."


def _bank(assignment: Assignment) -> Iterator[str]:
    file = assignment.folder / "misconceptions.py"
    if not file.is_file():
        yield f"{file} is missing: every task needs a battery, and misconceptions."
        return
    yield from _defined_twice(file)
    bank = read_bank(file)
    tasks = {task.name for task in assignment.tasks}
    for task in sorted(tasks - set(bank.batteries)):
        yield f"{file}: the task {task!r} has no battery; add one with @battery({task!r})."
    named = [(item.id, item.task) for item in bank.misconceptions] + [(item.id, item.task) for item in bank.honest]
    for name, task in named:
        if task not in tasks:
            yield f"{file}: {name} is of the task {task!r}, which is no task of the notebook."
    for task in sorted(set(bank.batteries) - tasks):
        yield f"{file}: there is a battery for {task!r}, which is no task of the notebook."


def _stand_ins(assignment: Assignment) -> Iterator[str]:
    file = assignment.folder / follow.STAND_INS
    solutions = {task.name: assignment.solution(task.name) for task in assignment.tasks}
    there = set(follow.stand_ins(assignment))
    for task, below in builds_on(solutions).items():
        for name in sorted(below - there):
            yield f"{file}: the solution of {task!r} builds on {name!r}, which has no stand-in: mistakes cost twice."
