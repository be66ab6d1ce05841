"""Submission -> Report. Everything a grade is made of is decided here, on the trusted side, from values.

Pure but for the link it is handed: the same submission, suite, seed and machine give the same report, apart from
`seconds`. Where something of ours breaks, the task and the report become `ungraded`; no number is made up.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from autograder import diagnosis, follow, suite
from autograder.assignment import AS_GIVEN, Assignment, Submission, Task
from autograder.cache import certificate
from autograder.errors import GraderError, WorkerLost
from autograder.names import parameters
from autograder.notebook_link import Link
from autograder.report import CheckResult, Report, TaskResult, TaskStatus
from autograder.shortcuts import Shortcut, banned_in, find_shortcuts, not_allowed
from autograder.student import CALL_SECONDS, Student

# In times of what one call may take: one cell, and all of them together.
CELL, NOTEBOOK = 2, 6
# A notebook that costs so many workers by its cells alone is not given another.
MAX_LOST = 3


@dataclass
class Notebook:
    """Runs a submission's cells in a worker, again after each loss, and remembers what happened to each."""

    submission: Submission
    call_seconds: float = CALL_SECONDS
    errors: dict[str, str] = field(default_factory=dict)
    deadly: dict[int, str] = field(default_factory=dict)
    not_allowed: dict[str, list[str]] = field(default_factory=dict)

    def prepare(self, link: Link) -> None:
        """Run the cells in a fresh worker. A cell that fails does not stop the rest; one that kills is left out."""
        while len(self.deadly) < MAX_LOST:
            link.reset()
            if self.not_allowed:
                link.ask({"id": 0, "verb": "watch", "not_allowed": self.not_allowed}, self.call_seconds)
            if self._run(link):
                return
        link.reset()

    def _run(self, link: Link) -> bool:
        most = NOTEBOOK * self.call_seconds
        left = most
        for number, (name, source) in enumerate(self.submission.cells):
            if number in self.deadly or left <= 0:
                continue
            limit = min(CELL * self.call_seconds, left)
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
            said = f"its cells together took more than {most:g} s; the rest did not run"
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


@dataclass(frozen=True)
class _Bench:
    """What judging one submission needs, however often it is judged."""

    assignment: Assignment
    link: Link
    doctor: diagnosis.Doctor
    reference: Student
    seed: int
    call_seconds: float
    shrink: bool
    stop_at: str | None

    def judge(self, book: Notebook, only: frozenset[str] | None) -> tuple[Student, list[suite.Verdict]]:
        """Run the hidden tests against a notebook in a fresh worker."""
        client = Student(self.link, book.prepare, seconds=self.call_seconds)
        tests = self.assignment.folder / "test_hidden.py"
        return client, suite.run(
            tests, client, self.reference, seed=self.seed, only=only, shrink=self.shrink, stop_at=self.stop_at,
            own={task.name: parameters(self.assignment.solution(task.name)) for task in self.assignment.tasks},
        )

    def diagnosed(self, result: TaskResult, client: Student) -> TaskResult:
        """The same result, with the known mistakes that answer as this notebook does."""
        try:
            return replace(result, diagnosis=self.doctor.diagnose(result.task, client))
        except (WorkerLost, GraderError):
            return result


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
    stop_at: str | None = None,
) -> Report:
    """Grade one submission over `link`, or `only` some of its tasks. Never raises for anything that the student did.

    Without `shrink` the examples shown are the first found, not the smallest: quicker, where nobody reads them. For
    `stop_at` see `suite.run`: what a task earns is not known then, only whether it loses anything.

    Raises:
        CourseBroken: the assignment does not hold together.
    """
    began = time.monotonic()
    banned = not_allowed(assignment.folder / "test_hidden.py")
    names = [task.name for task in assignment.tasks]
    shortcuts = find_shortcuts(submission.cells, banned, names)
    book = Notebook(submission, call_seconds, not_allowed=banned_in(banned, names))
    bench = _Bench(assignment, link, doctor, reference, seed, call_seconds, shrink, stop_at)
    try:
        client, verdicts = bench.judge(book, only)
        shortcuts = _seen(client) | shortcuts
        results = [
            _task(task, verdicts, book, shortcuts.get(task.name))
            for task in assignment.tasks
            if only is None or task.name in only
        ]
        tasks, followed = _followed(results, verdicts, book, bench, client)
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
        notes=tuple(dict.fromkeys(notes + followed)),
        certificate=certificate(submission.digest, assignment, seed=seed, device=device, isolation=isolation),
        seconds=round(time.monotonic() - began, 3),
    )


def _seen(client: Student) -> dict[str, Shortcut]:
    """The shortcuts that showed when the code ran."""
    return {task: Shortcut(*seen) for task, seen in client.shortcuts().items()}


def _followed(
    results: list[TaskResult], verdicts: list[suite.Verdict], book: Notebook, bench: _Bench, client: Student
) -> tuple[list[TaskResult], list[str]]:
    """The results after follow-through, and what there is to say of it: see follow.py.

    Of the second judgement only two things are taken over: that a task passes in full, and the names of known
    mistakes. Its messages and examples stay here, since student code had the working parts beside it.
    """
    failed = {result.task for result in results if result.status in ("partial", "fail")}
    wrong = failed - book.submission.unfilled
    asked = {name: {word for one in verdicts if one.check.task == name for word in one.asked} for name in wrong}
    planned = follow.plan(bench.assignment, book.submission, asked) if wrong else None
    parts = {name: planned.replaceable(name, failed) for name in wrong} if planned else {}
    # The first worker is still there: first those that need no other.
    after = {
        result.task: bench.diagnosed(result, client)
        for result in results
        if result.task in wrong and not parts[result.task]
    }
    notes: list[str] = []
    for result in results:
        if planned is None or not parts.get(result.task):
            continue
        mended = planned.mended(parts[result.task], book.deadly)
        again = Notebook(mended, bench.call_seconds, not_allowed=book.not_allowed)
        client, verdicts = bench.judge(again, frozenset({result.task}))
        second = _task(Task(result.task, result.points), verdicts, again, _seen(client).get(result.task))
        with_parts = f"with a working {' and '.join(f'`{name}`' for name in sorted(parts[result.task]))}"
        if second.status == "withheld":  # code that now comes as far as the shortcut
            after[result.task] = second
        elif second.status == "pass":
            after[result.task] = replace(second, follow_through=True)
            notes.append(f"`{result.task}` was graded {with_parts} in place of yours, and is right.")
        else:
            after[result.task] = bench.diagnosed(result, client)
            notes.append(f"`{result.task}` was tried {with_parts} too: there is something to mend in it as well.")
    return [after.get(result.task, result) for result in results], notes


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


def _task(task: Task, verdicts: Sequence[suite.Verdict], book: Notebook, shortcut: Shortcut | None) -> TaskResult:
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
    score = 0.0 if status == "ungraded" else _points(task.points if status == "pass" else earned)
    return TaskResult(task.name, _points(task.points), score, status, checks=checks)


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


def _points(points: float) -> float:
    return round(float(points), 4)
