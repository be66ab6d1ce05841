"""Which known mistake answers like this student?

The bank (`misconceptions.py` of an assignment) holds the reference with one mistake, many times over, and for each
task a battery: fixed questions whose answers tell the mistakes apart. A mistake is named only where its answers equal
the student's on every question of the battery, and differ from the reference's. Otherwise nothing is claimed.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from autograder import kept
from autograder.assignment import Assignment
from autograder.compare import same
from autograder.data import digest as data_digest
from autograder.errors import CourseBroken, Exhausted, GraderError, StudentError, WorkerLost
from autograder.notebook_link import InProcess, Link
from autograder.replies import Outcome
from autograder.report import Diagnosis
from autograder.student import Kept, Student
from autograder.values import Opaque

Change = Callable[[str], str]
# Questions are small: the reference needs hundredths of a second. A student's code runs on a busier machine, and a
# known mistake that never ends costs its limit once in each process that asks the bank.
STUDENT_SECONDS, BANK_SECONDS = 3.0, 1.0


@dataclass(frozen=True)
class Raised:
    """The answer of a call that raised. Every further use of it is the same answer."""

    kind: str

    def __call__(self, *_args: object, **_kwargs: object) -> Raised:
        """The same answer."""
        return self

    def __getattr__(self, name: str) -> Raised:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: object) -> Raised:
        return self


# What may stand in answers beside plain values and tensors.
IN_ANSWERS = (Raised, Opaque)


class Asking:
    """A student whose calls never raise: an exception is an answer like any other.

    Once a call has run out of time or memory no further one is made: all answers from there on are that one.
    """

    def __init__(self, target: Any, late: list[Raised] | None = None) -> None:
        """`target`: a Student, or something it handed out; `late`: shared by all of one battery."""
        self.target = target
        self.late = [] if late is None else late

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.target, name)
        return Asking(attribute, self.late) if callable(attribute) else attribute

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The answer, or `Raised`."""
        if self.late:
            return self.late[0]
        try:
            value = self.target(*[_bare(item) for item in args], **{name: _bare(item) for name, item in kwargs.items()})
        except StudentError as error:
            return Raised(error.kind)
        except Exhausted as error:
            self.late.append(Raised(error.kind))
            return self.late[0]
        return Asking(value, self.late) if isinstance(value, Kept) else value


def _bare(value: Any) -> Any:
    if isinstance(value, Raised):
        raise StudentError(value.kind, "")
    if isinstance(value, list | tuple):
        return type(value)(_bare(item) for item in value)
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items()}
    return value.target if isinstance(value, Asking) else value


@dataclass(frozen=True)
class Misconception:
    """The reference with one mistake."""

    id: str
    task: str
    text: str
    advice: str
    apply: Change


@dataclass(frozen=True)
class Honest:
    """Another right way to write a task."""

    id: str
    task: str
    text: str
    apply: Change


@dataclass(frozen=True)
class Battery:
    """The questions for one task."""

    task: str
    ask: Callable[[Any], list[Any]]


@dataclass(frozen=True)
class Bank:
    """All of an assignment's misconceptions, honest variants and batteries."""

    misconceptions: tuple[Misconception, ...]
    honest: tuple[Honest, ...]
    batteries: dict[str, Battery]


def misconception(*, task: str, advice: str) -> Callable[[Change], Misconception]:
    """Put the decorated change into the bank; its docstring says the mistake to the student in one sentence."""
    return lambda change_: Misconception(change_.__name__, task, _sentence(change_), advice, change_)


def honest(*, task: str) -> Callable[[Change], Honest]:
    """Put the decorated variant into the bank: it is right, and must lose nothing."""
    return lambda change_: Honest(change_.__name__, task, _sentence(change_), change_)


def battery(task: str) -> Callable[[Callable[[Any], list[Any]]], Battery]:
    """The decorated function asks the questions for `task` and returns the list of answers."""
    return lambda ask: Battery(task, ask)


def change(source: str, old: str, new: str, *, count: int = 1) -> str:
    """`source` with `old` replaced by `new`.

    Raises:
        ValueError: `old` does not stand in it exactly `count` times, so the change no longer applies.
    """
    found = source.count(old)
    if found != count:
        message = f"expected {old!r} {count} time(s) in the reference solution, found it {found} times"
        raise ValueError(message)
    return source.replace(old, new)


def _sentence(function: Callable[..., Any]) -> str:
    return " ".join((inspect.getdoc(function) or "").split())


def read_bank(path: Path) -> Bank:
    """The bank in a `misconceptions.py`, in the order of the file.

    Raises:
        CourseBroken: the file is missing, cannot be run, or names something twice.
    """
    if not path.is_file():
        message = f"{path} is missing."
        raise CourseBroken(message)
    spec = importlib.util.spec_from_file_location(f"misconceptions_of_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        message = f"{path} cannot be run: {type(error).__name__}: {error}"
        raise CourseBroken(message) from error
    found = list(vars(module).values())
    return Bank(
        tuple(item for item in found if isinstance(item, Misconception)),
        tuple(item for item in found if isinstance(item, Honest)),
        {item.task: item for item in found if isinstance(item, Battery)},
    )


def notebook(
    cells: Iterable[tuple[str, str]], link: Link | None = None, client: type[Student] = Student
) -> Student:
    """These cells in this process: for code we trust."""
    cells = list(cells)

    def prepare(link: Any) -> None:
        link.reset()
        link.ask({"id": 0, "verb": "cells", "cells": [[name, source, 60.0] for name, source in cells]}, 60.0)

    return client(link or InProcess(), prepare)


def with_solution(assignment: Assignment, replaced: dict[str, str]) -> list[tuple[str, str]]:
    """The reference's cells with the solutions of some tasks replaced."""
    return [(name, replaced.get(name, source)) for name, source in assignment.reference_cells()]


def answers(student: Student, questions: Battery, *, seconds: float = BANK_SECONDS) -> list[Any]:
    """The student's answers to a battery, as plain values; each has so many seconds."""
    before, student.seconds = student.seconds, seconds
    student.begin()
    try:
        return [_plain(item) for item in questions.ask(Asking(student))]
    finally:
        student.seconds = before


def _plain(value: Any) -> Any:
    if isinstance(value, Asking):
        return value.target.handle.type if isinstance(value.target, Kept) else str(value.target)
    if isinstance(value, Outcome):
        return _plain(list(vars(value).values()))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


class Doctor:
    """Names mistakes in one assignment. The bank's own answers are computed when first needed, and kept.

    For an assignment with a large bank that takes half a minute of one core, so they are kept on disk, too.
    """

    def __init__(self, assignment: Assignment) -> None:
        """Read the bank."""
        self.assignment = assignment
        self.bank = read_bank(assignment.folder / "misconceptions.py")
        self._known = lru_cache(maxsize=None)(self._answers_of_the_bank)

    def learn(self) -> None:
        """Have the answers of every known mistake ready, in memory and on disk."""
        for task in self.bank.batteries:
            self._known(task)

    def _answers_of_the_bank(self, task: str) -> list[tuple[Misconception, list[Any]]]:
        path = self._path(task)
        found: dict[str, list[Any]] | None = kept.read_values(path, also=IN_ANSWERS)
        if found is None:
            found = self._computed(task)
            kept.write_values(path, found)
        return [(item, found[item.id]) for item in self.bank.misconceptions if item.task == task and item.id in found]

    def _path(self, task: str) -> Path:
        """Beside the folder of solutions: out of every student's sight."""
        folder = self.assignment.folder
        name = kept.name_of(self.assignment.digest, data_digest(), task)
        return folder.resolve().parent.parent / "build" / "bank" / f"{folder.name}-{name}.pt"

    def _computed(self, task: str) -> dict[str, list[Any]]:
        """The answers of each known mistake that answers otherwise than the reference."""
        importlib.import_module("torch._dynamo")  # which the first optimizer does: not in the time of a question
        questions = self.bank.batteries[task]
        right = answers(notebook(self.assignment.reference_cells()), questions)
        found = {}
        for item in self.bank.misconceptions:
            if item.task == task:
                source = item.apply(self.assignment.solution(task))
                wrong = answers(notebook(with_solution(self.assignment, {task: source})), questions)
                if not same(wrong, right):
                    found[item.id] = wrong
        return found

    def diagnose(self, task: str, student: Student) -> tuple[Diagnosis, ...]:
        """The known mistakes that answer every question of the task's battery as the student does.

        Raises:
            WorkerLost: the student's code ended the worker.
        """
        if task not in self.bank.batteries:
            return ()
        known = self._known(task)
        student.forget()
        try:
            given = answers(student, self.bank.batteries[task], seconds=STUDENT_SECONDS)
        except (WorkerLost, GraderError):
            raise
        except Exception:  # noqa: BLE001 - a question choked on an answer that none of the known mistakes gives
            return ()
        return tuple(
            Diagnosis(item.id, item.text, item.advice) for item, wrong in known if same(given, wrong)
        )
