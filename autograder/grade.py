"""Submission -> Report. Everything a grade is made of is decided here, on the trusted side, from values.

Pure but for the link it is handed: the same submission, suite, seed and machine give the same report, apart from
`seconds`. Where something of ours breaks, the task and the report become `ungraded`; no number is made up.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import hypothesis
import torch

from autograder import diagnosis, suite
from autograder.assignment import AS_GIVEN, Assignment, Submission, Task
from autograder.errors import GraderError, WorkerLost
from autograder.notebook_link import Link
from autograder.report import Certificate, CheckResult, Diagnosis, Report, TaskResult, TaskStatus
from autograder.shortcuts import Shortcut, banned_in, find_shortcuts
from autograder.student import CALL_SECONDS, Student

CELL_SECONDS = 20.0
NOTEBOOK_SECONDS = 60.0
# A notebook that costs so many workers by its cells alone is not given another.
MAX_LOST = 3


Diagnose = Callable[[str], tuple[Diagnosis, ...]]


@dataclass
class Notebook:
    """Runs a submission's cells in a worker, again after each loss, and remembers what happened to each."""

    submission: Submission
    errors: dict[str, str] = field(default_factory=dict)
    deadly: dict[int, str] = field(default_factory=dict)
    not_allowed: dict[str, list[str]] = field(default_factory=dict)

    def prepare(self, link: Link) -> None:
        """Run the cells in a fresh worker. A cell that fails does not stop the rest; one that kills is left out."""
        while len(self.deadly) < MAX_LOST:
            link.reset()
            if self.not_allowed:
                link.ask({"id": 0, "verb": "watch", "not_allowed": self.not_allowed}, CELL_SECONDS)
            if self._run(link):
                return
        link.reset()

    def _run(self, link: Link) -> bool:
        left = NOTEBOOK_SECONDS
        for number, (name, source) in enumerate(self.submission.cells):
            if number in self.deadly or left <= 0:
                continue
            limit = min(CELL_SECONDS, left)
            began = time.monotonic()
            try:
                reply = link.ask({"id": 0, "verb": "cells", "cells": [[name, source, limit]]}, limit)
            except WorkerLost as lost:
                self.deadly[number] = lost.reason
                self.errors[name] = f"it {lost.reason}"
                return False
            left -= time.monotonic() - began
            self._note(number, name, reply)
        if left <= 0:
            said = f"its cells together took more than {NOTEBOOK_SECONDS:g} s; the rest did not run"
            self.errors["the notebook"] = said
        return True

    def _note(self, number: int, name: str, reply: object) -> None:
        self.errors.pop(name, None)
        try:
            error = reply["value"][0]  # type: ignore[index]
            if error is None:
                return
            kind, text, where = str(error["kinds"][0])[:80], str(error["text"])[:300], str(error["where"])[:300]
        except (KeyError, IndexError, TypeError):
            self.errors[name] = "its outcome could not be read"
            return
        if kind == "TimeIsUp":
            self.deadly[number] = text  # not again: it would cost its time at each new start
            kind, text = "stopped", f"{text}: does a loop of yours still come to an end?"
        if name.endswith(AS_GIVEN) and kind != "stopped":
            return
        self.errors[name] = f"{kind}: {text}".rstrip(": ") + (f" ({where})" if where else "")


def grade(
    submission: Submission,
    assignment: Assignment,
    link: Link,
    *,
    doctor: diagnosis.Doctor,
    reference: Student,
    student: str = "",
    seed: int = 0,
    device: str = "cpu",
    isolation: str = "none",
    call_seconds: float = CALL_SECONDS,
    only: frozenset[str] | None = None,
    shrink: bool = True,
) -> Report:
    """Grade one submission over `link`, or `only` some of its tasks. Never raises for anything that the student did.

    Without `shrink` the examples shown are the first found, not the smallest: quicker, where nobody reads them.

    Raises:
        CourseBroken: the assignment does not hold together.
    """
    began = time.monotonic()
    tests = assignment.folder / "test_hidden.py"
    not_allowed = suite.not_allowed(tests)
    names = [task.name for task in assignment.tasks]
    shortcuts = find_shortcuts(submission.cells, not_allowed, names)
    book = Notebook(submission, not_allowed=banned_in(not_allowed, names))
    client = Student(link, book.prepare, seconds=call_seconds)

    def diagnose(name: str) -> tuple[Diagnosis, ...]:
        return doctor.diagnose(name, client)

    try:
        verdicts = suite.run(tests, client, reference, seed=seed, only=only, shrink=shrink)
        shortcuts = {task: Shortcut(*seen) for task, seen in client.shortcuts().items()} | shortcuts
        tasks = [
            _task(task, verdicts, submission, book, shortcuts.get(task.name), diagnose)
            for task in assignment.tasks
            if only is None or task.name in only
        ]
    finally:
        link.close()
    notes = [*submission.notes]
    for name, error in book.errors.items():
        ran = f"The cell `{name}` did not run to its end: {error}"
        notes.append(ran if name != "the notebook" else f"Stopped: {error}.")
    ungraded = any(task.status == "ungraded" for task in tasks)
    return Report(
        student=student,
        assignment=assignment.name,
        status="ungraded" if ungraded else "graded",
        score=_points(sum(task.score for task in tasks)),
        max_score=_points(sum(task.points for task in tasks)),
        tasks=tuple(tasks),
        notes=tuple(dict.fromkeys(notes)),
        certificate=certificate(submission.digest, assignment, seed=seed, device=device, isolation=isolation),
        seconds=round(time.monotonic() - began, 3),
    )


def ungraded(
    assignment: Assignment, student: str, reason: str, *, seed: int = 0, device: str = "cpu", digest: str = ""
) -> Report:
    """A report that says why there is no grade."""
    return Report(
        student=student,
        assignment=assignment.name,
        status="ungraded",
        score=0.0,
        max_score=_points(sum(task.points for task in assignment.tasks)),
        tasks=tuple(TaskResult(task.name, _points(task.points), 0.0, "ungraded") for task in assignment.tasks),
        notes=(reason,),
        certificate=certificate(digest, assignment, seed=seed, device=device, isolation="none"),
    )


def certificate(digest: str, assignment: Assignment, *, seed: int, device: str, isolation: str) -> Certificate:
    """What the report is a function of."""
    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "hypothesis": hypothesis.__version__,
    }
    return Certificate(digest, assignment.digest, seed, device, isolation, versions)


def _task(
    task: Task,
    verdicts: Sequence[suite.Verdict],
    submission: Submission,
    book: Notebook,
    shortcut: Shortcut | None,
    diagnose: Diagnose,
) -> TaskResult:
    mine = [verdict for verdict in verdicts if verdict.check.task == task.name]
    if not mine:
        name = "There are hidden tests for this task."
        broken = CheckResult(name, "ungraded", _points(task.points), "None was found.")
        return TaskResult(task.name, _points(task.points), 0.0, "ungraded", checks=(broken,))
    checks = _shared_out(task, mine)
    earned = sum(check.points for check in checks if check.status == "pass")
    status = _status(checks, mine)
    if shortcut is not None and status != "ungraded":
        name = "The task is solved without the shortcut that is not allowed."
        withheld = CheckResult(name, "fail", 0.0, shortcut.message)
        return TaskResult(task.name, _points(task.points), 0.0, "withheld", checks=(withheld, *checks))
    if task.name in book.errors and status != "pass":
        stopped = CheckResult("The cell runs.", "fail", 0.0, f"It stopped with {book.errors[task.name]}")
        checks = (stopped, *checks)
    named: tuple[Diagnosis, ...] = ()
    if status in ("partial", "fail") and task.name not in submission.unfilled:
        named = _named(task.name, diagnose)
    score = 0.0 if status == "ungraded" else _points(task.points if status == "pass" else earned)
    return TaskResult(task.name, _points(task.points), score, status, checks=checks, diagnosis=named)


def _shared_out(task: Task, verdicts: Sequence[suite.Verdict]) -> tuple[CheckResult, ...]:
    """The task's points shared by weight; a check that this machine cannot make leaves its share to the others."""
    weights = [0.0 if verdict.free else verdict.check.weight for verdict in verdicts]
    total = sum(weights) or 1.0
    shares = [_points(task.points * weight / total) for weight in weights]
    return tuple(
        CheckResult(verdict.name, verdict.status, share, verdict.message, verdict.example)
        for verdict, share in zip(verdicts, shares, strict=True)
    )


def _status(checks: Sequence[CheckResult], verdicts: Sequence[suite.Verdict]) -> TaskStatus:
    if any(check.status == "ungraded" for check in checks) or all(verdict.free for verdict in verdicts):
        return "ungraded"
    held = [check.status == "pass" or verdict.free for check, verdict in zip(checks, verdicts, strict=True)]
    passed = any(check.status == "pass" for check in checks)
    return "pass" if all(held) and passed else "partial" if passed else "fail"


def _named(task: str, diagnose: Diagnose) -> tuple[Diagnosis, ...]:
    try:
        return diagnose(task)
    except (WorkerLost, GraderError):
        return ()


def _points(points: float) -> float:
    return round(float(points), 4)
