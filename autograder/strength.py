"""Tests the tests: the reference gets full marks, a trivial answer none, each misconception loses and is named.

The rows are graded in this process, over the same encoding as a confined worker's.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch

from autograder import diagnosis
from autograder.assignment import Assignment, read_assignment, submission
from autograder.grade import grade
from autograder.names import builds_on
from autograder.notebook import cleared
from autograder.notebook_link import InProcess
from autograder.report import Report


@dataclass(frozen=True)
class Question:
    """One answer to put to the tests."""

    kind: str  # reference, stub, trivial, misconception, honest
    name: str
    task: str  # "" for all


@dataclass(frozen=True)
class Row:
    """One answer put to the tests, and what came of it."""

    kind: str
    name: str
    task: str
    report: Report

    @property
    def faults(self) -> list[str]:
        """What should not be; empty where the tests did their work."""
        report = self.report
        broken = [
            f"{check.name} {check.message}"
            for task in report.tasks
            for check in task.checks
            if check.status == "ungraded"
        ]
        if broken:
            return broken
        if self.kind in ("reference", "honest"):
            return [
                f"{task.task}: {check.name} {check.message} | {check.example}"
                for task in report.tasks
                for check in task.checks
                if check.status != "pass" and task.status != "pass"
            ]
        if self.kind in ("stub", "trivial"):
            return [
                f"{task.task}: gets {task.score} for a trivial answer, from "
                + "; ".join(check.name for check in task.checks if check.status == "pass")
                for task in report.tasks
                if task.score > 0 and (task.task == self.task or not self.task)
            ]
        result = report.task(self.task)
        if result.score >= result.points:
            return [f"{self.task}: loses nothing"]
        named = [item.id for item in result.diagnosis]
        return [] if named[:1] == [self.name] else [f"{self.task}: diagnosed as {named or 'nothing'}"]


# Less than when grading: some misconceptions never end.
CALL_SECONDS = 4.0

TRIVIAL = {
    "returns its input": "return args[0] if args else None",
    "returns zeros": "return torch.zeros_like(args[0]) if args and isinstance(args[0], torch.Tensor) else 0",
    "returns ones": "return torch.ones_like(args[0]) if args and isinstance(args[0], torch.Tensor) else 1",
    "returns None": "return None",
    "returns an empty list": "return []",
}


class Table:
    """The truth table of one assignment."""

    def __init__(self, assignment: Assignment, *, seed: int = 0) -> None:
        """Read the bank."""
        self.assignment, self.seed = assignment, seed
        self.doctor = diagnosis.Doctor(assignment)
        self.reference = diagnosis.notebook(assignment.reference_cells())

    def graded(self, replaced: dict[str, str], only: frozenset[str] | None = None) -> Report:
        """The reference with some tasks' solutions replaced, graded, or `only` some tasks of it."""
        work = submission(self.assignment, self.assignment.filled(replaced))
        return grade(
            work, self.assignment, InProcess(), doctor=self.doctor, reference=self.reference, seed=self.seed,
            call_seconds=CALL_SECONDS, only=only, shrink=False,
        )  # fmt: skip

    def questions(self) -> list[Question]:
        """Every row, before it is graded."""
        tasks = [task.name for task in self.assignment.tasks]
        bank = self.doctor.bank
        return [
            Question("reference", "the reference", ""),
            Question("stub", "the released stubs", ""),
            *(Question("trivial", name, task) for task in tasks for name in TRIVIAL),
            *(Question("misconception", item.id, item.task) for item in bank.misconceptions),
            *(Question("honest", item.id, item.task) for item in bank.honest),
        ]

    def row(self, question: Question) -> Row:
        """Grade one row: a wrong answer in its own task, another right one also in those that build on it."""
        only: frozenset[str] | None = None
        if question.kind in ("trivial", "misconception"):
            only = frozenset({question.task})
        elif question.kind == "honest":
            cells = {task.name: self.assignment.solution(task.name) for task in self.assignment.tasks}
            above = {name for name, below in builds_on(cells).items() if question.task in below}
            only = frozenset({question.task, *above})
        return Row(question.kind, question.name, question.task, self.graded(self._sources(question), only))

    def _sources(self, question: Question) -> dict[str, str]:
        bank, task = self.doctor.bank, question.task
        if question.kind == "reference":
            return {}
        if question.kind == "stub":
            return {str(cell.grade_id): cleared(cell).source for cell in self.assignment.cells if cell.is_task}
        if question.kind == "trivial":
            return {task: self.trivial(task, TRIVIAL[question.name])}
        items = bank.misconceptions if question.kind == "misconception" else bank.honest
        item = next(item for item in items if item.id == question.name)
        return {task: item.apply(self.assignment.solution(task))}

    def trivial(self, task: str, body: str) -> str:
        """A cell in which everything that the task defines answers with `body`."""
        lines = []
        for statement in ast.parse(self.assignment.solution(task)).body:
            if isinstance(statement, ast.FunctionDef):
                lines.append(f"def {statement.name}(*args, **kwargs):\n    {body}\n")
            elif isinstance(statement, ast.ClassDef):
                functions = [item.name for item in statement.body if isinstance(item, ast.FunctionDef)]
                methods = [name for name in functions if name != "__init__"]
                is_module = any("Module" in ast.unparse(base) for base in statement.bases)
                parent = "nn.Module" if is_module else ", ".join(ast.unparse(base) for base in statement.bases)
                start = "super().__init__()" if is_module else "pass"
                head = f"class {statement.name}({parent}):\n    def __init__(self, *args, **kwargs):\n"
                lines.append(f"{head}        {start}\n")
                lines += [f"    def {name}(self, *args, **kwargs):\n        {body}\n" for name in methods]
        return "import torch\nfrom torch import nn\n" + "\n".join(lines)


@lru_cache(maxsize=4)
def _table(folder: Path, seed: int) -> Table:
    return Table(read_assignment(folder), seed=seed)


def _graded(folder: Path, seed: int, question: Question) -> Row:
    """One row, in a process of a pool; the table is made once in each."""
    torch.set_num_threads(1)
    return _table(folder, seed).row(question)


def table(
    folder: Path, *, only: Sequence[str] = (), executor: Executor | None = None, seed: int = 0
) -> Iterable[Row]:
    """The rows of an assignment's truth table; `only` those of these tasks or names."""
    questions = _table(folder, seed).questions()
    chosen = [item for item in questions if not only or item.task in only or item.name in only]
    grade_one = partial(_graded, folder, seed)
    return executor.map(grade_one, chosen) if executor is not None else map(grade_one, chosen)


def verdict(name: str, rows: Sequence[Row]) -> str:
    """The one line that says what the tests are worth."""
    wrong = [row for row in rows if row.kind == "misconception"]
    right = [row for row in rows if row.kind in ("honest", "reference")]
    lose = sum(row.report.task(row.task).score < row.report.task(row.task).points for row in wrong)
    keep = sum(not row.faults for row in right)
    named = sum(not row.faults for row in wrong)
    return (
        f"{name}: {lose} of {len(wrong)} wrong answers lose their points, "
        f"{keep} of {len(right)} right answers lose none, {named} of {len(wrong)} mistakes are named."
    )
