"""Tests the tests: the reference gets full marks, a trivial answer none, each misconception loses and is named.

The rows are graded in this process, over the same encoding as a confined worker's.
"""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import combinations
from pathlib import Path

import torch

from autograder import diagnosis, suite
from autograder.assignment import Assignment, read_assignment, submission
from autograder.grade import grade
from autograder.names import builds_on
from autograder.notebook import cleared
from autograder.notebook_link import InProcess
from autograder.reference import reference
from autograder.report import Report


@dataclass(frozen=True)
class Question:
    """One answer to put to the tests."""

    kind: str  # reference, stub, trivial, misconception, honest, together
    name: str
    task: str  # "" for all; of several together joined by PLUS, as their names are


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
        parts = zip(self.task.split(PLUS), self.name.split(PLUS), strict=True)
        return [fault for task, name in parts for fault in self._unnamed(task, name)]

    def _unnamed(self, task: str, name: str) -> list[str]:
        result = self.report.task(task)
        if result.score >= result.points:
            return [f"{task}: loses nothing"]
        named = [item.id for item in result.diagnosis]
        return [] if named[:1] == [name] else [f"{task}: diagnosed as {named or 'nothing'}"]


PLUS = " + "
# So many pairs and triples of mistakes in different tasks are put together.
PAIRS, TRIPLES = 24, 8
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
        self.reference = reference(assignment)
        self.tasks = [task.name for task in assignment.tasks]

    def under(self, seed: int) -> Table:
        """The same, for the examples of another seed."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def graded(
        self,
        replaced: dict[str, str],
        only: frozenset[str] | None = None,
        *,
        stop_at: str | None = None,
        shrink: bool = False,
    ) -> Report:
        """The reference with some tasks' solutions replaced, graded, or `only` some tasks of it; see `grade`."""
        work = submission(self.assignment, self.assignment.filled(replaced))
        return grade(
            work, self.assignment, InProcess(), doctor=self.doctor, reference=self.reference, seed=self.seed,
            call_seconds=CALL_SECONDS, only=only, shrink=shrink, stop_at=stop_at,
        )  # fmt: skip

    def questions(self) -> list[Question]:
        """Every row, before it is graded."""
        bank = self.doctor.bank
        return [
            Question("reference", "the reference", ""),
            Question("stub", "the released stubs", ""),
            *(Question("trivial", name, task) for task in self.tasks for name in TRIVIAL),
            *(Question("misconception", item.id, item.task) for item in bank.misconceptions),
            *(Question("honest", item.id, item.task) for item in bank.honest),
            *self.together(2, PAIRS),
            *self.together(3, TRIPLES),
        ]

    def together(self, size: int, count: int) -> list[Question]:
        """`count` samples of `size` mistakes in different tasks, the same for the same seed."""
        chance = random.Random(f"{self.seed}/{size}")  # noqa: S311 - no secret
        found = []
        sets = list(combinations(self.tasks, size))
        for _ in range(count if sets else 0):
            tasks = chance.choice(sets)
            wrong = [[item.id for item in self.doctor.bank.misconceptions if item.task == task] for task in tasks]
            if all(wrong):
                found.append(Question("together", PLUS.join(map(chance.choice, wrong)), PLUS.join(tasks)))
        return list(dict.fromkeys(found))

    def mixtures(self) -> list[Question]:
        """All honest variants in as few notebooks as hold them: each task in another right way, and none twice."""
        honest = [(task, [item.id for item in self.doctor.bank.honest if item.task == task]) for task in self.tasks]
        found = []
        for turn in range(max((len(names) for _, names in honest), default=0)):
            # The seed shifts them against each other, so that they meet in other company each time.
            mixed = {
                task: names[(turn + self.seed * place) % len(names)]
                for place, (task, names) in enumerate(honest)
                if turn < len(names)
            }
            found.append(Question("honest", PLUS.join(mixed.values()), PLUS.join(mixed)))
        return found

    def row(self, question: Question, *, quick: str | None = None) -> Row:
        """Grade one row: a wrong answer in its own task, another right one also in those that build on it.

        quick: a misconception is judged up to its first failing check, whose example is the smallest; a check of this
        name is tried first.
        """
        tasks = question.task.split(PLUS)
        only = frozenset(tasks) if question.task else None
        if question.kind == "honest" and len(tasks) == 1:
            cells = {task: self.assignment.solution(task) for task in self.tasks}
            above = {name for name, below in builds_on(cells).items() if question.task in below}
            only = frozenset({question.task, *above})
        shrink = quick is not None and question.kind == "misconception"
        stop_at = quick if shrink else "" if question.kind == "together" else None
        report = self.graded(self._sources(question), only, stop_at=stop_at, shrink=shrink)
        return Row(question.kind, question.name, question.task, report)

    def _sources(self, question: Question) -> dict[str, str]:
        bank, task = self.doctor.bank, question.task
        if question.kind == "reference":
            return {}
        if question.kind == "stub":
            return {str(cell.grade_id): cleared(cell).source for cell in self.assignment.cells if cell.is_task}
        if question.kind == "trivial":
            return {task: self.trivial(task, TRIVIAL[question.name])}
        items: list[diagnosis.Misconception | diagnosis.Honest] = [*bank.misconceptions, *bank.honest]
        changes = {(item.task, item.id): item.apply for item in items}
        parts = zip(task.split(PLUS), question.name.split(PLUS), strict=True)
        return {name: changes[name, kind](self.assignment.solution(name)) for name, kind in parts}

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


@lru_cache(maxsize=8)
def table_of(folder: Path, seed: int) -> Table:
    """The truth table of an assignment, read once in each process."""
    return Table(read_assignment(folder), seed=seed)


def one_thread() -> None:
    """In a process of a pool: its neighbours take the other cores."""
    torch.set_num_threads(1)


def chosen(folder: Path, only: Sequence[str] = (), *, seed: int = 0) -> list[Question]:
    """An assignment's questions; `only` those of these tasks or names."""
    return [item for item in table_of(folder, seed).questions() if not only or item.task in only or item.name in only]


def rows(
    folder: Path, questions: Sequence[Question], *, executor: Executor | None = None, seed: int = 0
) -> Iterable[Row]:
    """Each of these questions put to the tests."""
    one = partial(_graded, folder, seed)
    return executor.map(one, questions, chunksize=4) if executor is not None else map(one, questions)


def _graded(folder: Path, seed: int, question: Question) -> Row:
    one_thread()
    return table_of(folder, seed).row(question)


def seconds(folder: Path, *, seed: int = 0) -> dict[str, float]:
    """How long each check takes on the reference: by its name, in seconds."""
    one_thread()
    table = table_of(folder, seed)
    client = diagnosis.notebook(table.assignment.reference_cells())
    verdicts = suite.run(folder / "test_hidden.py", client, table.reference, seed=seed)
    return {verdict.name: verdict.seconds for verdict in verdicts}
