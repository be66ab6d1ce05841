"""Files in, reports out: the edge around `grade`, with its sandbox and its cache of reports.

A report lies in the cache under a name made of all that it is a function of. What is there is not graded again, so a
class run that was cut off goes on where it stopped. Reports that stayed `ungraded` are not kept: the next run tries
again.
"""

from __future__ import annotations

import gc
import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Self

import torch

from autograder import data, kept
from autograder.assignment import Assignment, read_assignment, submission
from autograder.confinement import LEVELS, Zygote
from autograder.diagnosis import Doctor
from autograder.errors import NotebookUnreadable, SandboxUnavailable
from autograder.grade import certificate, grade, ungraded
from autograder.notebook import read_ipynb
from autograder.notebook_link import Confined
from autograder.reference import reference
from autograder.report import Report, from_json
from autograder.student import CALL_SECONDS, Student


@dataclass(frozen=True)
class Options:
    """The few things that a user may hold an opinion on."""

    isolation: str = "partial"  # the least level accepted
    device: str = "cpu"
    seed: int = 0
    call_seconds: float = CALL_SECONDS


@dataclass(frozen=True)
class _Course:
    """An assignment with what grading it needs, made once."""

    assignment: Assignment
    doctor: Doctor
    reference: Student


class Grader:
    """Grades notebooks one after the other, in one sandbox. Use as a context manager, or `close` it."""

    def __init__(self, solutions: Path, options: Options | None = None, *, reports: Path | None = None) -> None:
        """`reports`: the folder of the cache; None for no cache. Nothing is started before it is needed."""
        torch.set_num_threads(1)
        self.solutions, self.options, self.reports = solutions, options or Options(), reports
        self._zygote: Zygote | None = None
        self._course = cache(self._read_course)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the sandbox and everything in it."""
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None

    @property
    def zygote(self) -> Zygote:
        """The sandbox, started when first asked for.

        Raises:
            SandboxUnavailable: this machine does not offer the isolation asked for.
        """
        if self._zygote is None:
            self._zygote = start_zygote(self.options.isolation)
            gc.collect()
            gc.freeze()  # what torch has loaded stays: looking through it again at each collection costs a tenth
        return self._zygote

    def grade(self, notebook_bytes: bytes, *, assignment: str, student: str = "") -> Report:
        """Grade one notebook. Whatever is in it, a report comes out.

        Raises:
            SandboxUnavailable: this machine does not offer the isolation asked for.
            CourseBroken: the assignment does not hold together.
        """
        course = self._course(assignment)
        digest = f"sha256:{hashlib.sha256(notebook_bytes).hexdigest()}"
        try:
            work = submission(course.assignment, read_ipynb(notebook_bytes))
        except NotebookUnreadable as error:
            return self._ungraded(course, student, str(error), digest)
        known = self._cached(work.digest, course.assignment)
        if known is not None:
            return known.for_student(student)
        zygote = self.zygote
        try:
            report = grade(
                work, course.assignment, Confined(zygote.fork), doctor=course.doctor, reference=course.reference,
                student=student, seed=self.options.seed, device=self.options.device, isolation=zygote.level,
                call_seconds=self.options.call_seconds,
            )  # fmt: skip
        except SandboxUnavailable as error:
            self.close()  # a new one for the next; this student is told that it was not their fault
            reason = f"The sandbox broke while this was graded; that is not your fault. ({error})"
            return self._ungraded(course, student, reason, work.digest)
        self._keep(report)
        return report

    def _ungraded(self, course: _Course, student: str, reason: str, digest: str) -> Report:
        seed, device = self.options.seed, self.options.device
        return ungraded(course.assignment, student, reason, seed=seed, device=device, digest=digest)

    def _read_course(self, name: str) -> _Course:
        assignment = read_assignment(self.solutions / name)
        return _Course(assignment, Doctor(assignment), reference(assignment))

    def _path(self, digest: str, assignment: Assignment) -> Path | None:
        if self.reports is None:
            return None
        facts = certificate(digest, assignment, seed=self.options.seed, device=self.options.device, isolation="")
        return self.reports / f"{assignment.name}-{kept.name_of(facts, self.options.call_seconds)}.json"

    def _cached(self, digest: str, assignment: Assignment) -> Report | None:
        path = self._path(digest, assignment)
        if path is None or not path.is_file():
            return None
        try:
            report = from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None  # torn or of another version: graded anew, and written over
        level = report.certificate.isolation if report.certificate else "none"
        return report if LEVELS.index(level) >= LEVELS.index(self.options.isolation) else None

    def _keep(self, report: Report) -> None:
        digest = report.certificate.submission if report.certificate else ""
        path = self._path(digest, self._course(report.assignment).assignment)
        if path is None or report.status == "ungraded":
            return
        kept.write_atomically(path, replace(report, student="").to_json(indent=1).encode())


def start_zygote(isolation: str) -> Zygote:
    """A sandbox that sees `data/` and what a notebook imports, and nothing else of the course.

    Raises:
        SandboxUnavailable: this machine does not offer the isolation asked for.
    """
    vocabulary = data.use_tiktoken_offline()
    environment = {"TIKTOKEN_CACHE_DIR": str(vocabulary)}
    preload = ("torch", "autograder.data:gpt2_ranks", "autograder.data:gpt2_merges")
    readable = [data.data_folder(), vocabulary]
    return Zygote(minimum=isolation, readable=readable, preload=preload, environment=environment)
