"""`autograder demo`: a made-up class, graded by nbgrader as a real one would be, all in build/demo/."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self

from autograder import batch, fanout, figures
from autograder.assignment import assignments, find_solutions, read_assignment
from autograder.classroom import NAMES, Classroom, HandIn
from autograder.collect import find_jobs
from autograder.confinement import LEVELS
from autograder.diagnosis import read_bank
from autograder.errors import GraderError
from autograder.grader import Options
from autograder.render import classpage, words
from autograder.report import Report

# Every damage is done to one assignment; of the others a few students hand in the usual.
WITH_EVERYTHING = "attention"


def run(here: Path) -> int:
    """Make the class, grade it, and say what came of it.

    Raises:
        GraderError: a step of nbgrader failed.
    """
    solutions = find_solutions(here)
    root = solutions.parent
    course = root / "build" / "demo"
    shutil.rmtree(course, ignore_errors=True)
    names = assignments(solutions)
    told = {name: _hand_in(course, solutions, name) for name in names}
    print(f"{sum(map(len, told.values()))} notebooks handed in, in {course.relative_to(root)}/submitted/.", flush=True)

    began = time.monotonic()
    with _Booking(root, course) as booking:
        reports = _grade(course / "submitted", solutions, root / "build" / "reports", booking.book)
        seconds = time.monotonic() - began
    _nbgrader(root, course, "export", f"--to={course / 'grades.csv'}")
    _compare(course / "grades.csv", reports)
    _pages(course, reports)
    _tell(reports, told, seconds, root, course)
    return 0


def _hand_in(course: Path, solutions: Path, name: str) -> dict[str, HandIn]:
    assignment = read_assignment(solutions / name)
    room = Classroom(assignment, read_bank(assignment.folder / "misconceptions.py"))
    work = list(room.everything() if name == WITH_EVERYTHING else room.ordinary(2, 1))
    handed = dict(zip(NAMES, work, strict=False))
    for student, one in handed.items():
        folder = course / "submitted" / student / name
        folder.mkdir(parents=True)
        (folder / f"{name}.ipynb").write_bytes(one.data)
    return handed


def _grade(submitted: Path, solutions: Path, cache: Path, complete: Callable[[str, str], None]) -> list[Report]:
    """Grade beforehand, over all cores: `nbgrader autograde` then only books what lies in the cache.

    complete: called with the name of each assignment once all of it is graded, and the isolation it was graded in.
    """
    jobs = sorted(find_jobs(submitted, solutions), key=lambda job: job.assignment)
    left = Counter(job.assignment for job in jobs)
    processes = min(len(jobs), _cores())
    settings = fanout.Settings(solutions.resolve(), Options(isolation="none"), cache.resolve())
    reports = []
    for done in batch.progress(fanout.grade_files(jobs, partial(fanout.local, processes), settings), len(jobs)):
        name = done.job.assignment
        if done.fault:
            print(f"{done.job.student}: {done.fault}", file=sys.stderr)
        reports.append(done.report)
        left[name] -= 1
        if not left[name]:
            complete(name, _isolation([one for one in reports if one.assignment == name]))
    return sorted(reports, key=lambda report: (report.assignment, NAMES.index(report.student)))


def _isolation(reports: list[Report]) -> str:
    """Whatever this machine offers; it is said, not hidden."""
    levels = [one.certificate.isolation for one in reports if one.certificate and one.status == "graded"]
    return min(levels, key=LEVELS.index, default="none")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Booking:
    """nbgrader's own commands, beside the grading of what is left. As a context manager it waits for them."""

    def __init__(self, root: Path, course: Path) -> None:
        self._command = partial(_nbgrader, root, course)
        # One command at a time writes to the gradebook. Feedback only reads it.
        self._writer, self._readers = ThreadPoolExecutor(1), ThreadPoolExecutor(_cores())
        self._begun: list[Future[Future[None]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if kind is not None:  # what has not begun is given up
            for pool in (self._writer, self._readers):
                pool.shutdown(cancel_futures=True)
            return
        with self._readers, self._writer:
            feedback = [one.result() for one in self._begun]
        for one in feedback:
            one.result()

    def book(self, name: str, isolation: str) -> None:
        """Have an assignment's grades booked, then its feedback written. No less than this isolation is accepted."""
        self._begun.append(self._writer.submit(self._book, name, min(isolation, "partial", key=LEVELS.index)))

    def _book(self, name: str, least: str) -> Future[None]:
        self._command("autograde", name, f"--Grading.isolation={least}")
        return self._readers.submit(self._command, "generate_feedback", name)


def _nbgrader(root: Path, course: Path, command: str, *arguments: str) -> None:
    """One command of nbgrader's own, from the project's root. What it logs is kept, and shown only where it fails."""
    line = [sys.executable, "-m", "nbgrader", command, *arguments, f"--CourseDirectory.root={course}"]
    batch.say(f"nbgrader {command} {' '.join(arguments)}")
    kept = course / f"nbgrader-{'-'.join([command, *(word for word in arguments if word[0] != '-')])}.log"
    with kept.open("wb") as log:
        ended = subprocess.run(line, cwd=root, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False)  # noqa: S603
    if ended.returncode:
        tail = "\n".join(kept.read_text(errors="replace").splitlines()[-15:])
        message = f"nbgrader {command} ended with {ended.returncode}; the last lines of {kept}:\n{tail}"
        raise GraderError(message)


def _compare(exported: Path, reports: list[Report]) -> None:
    """The gradebook says what the reports say.

    Raises:
        GraderError: it does not.
    """
    with exported.open(newline="", encoding="utf-8") as file:
        booked = {(row["student_id"], row["assignment"]): float(row["raw_score"]) for row in csv.DictReader(file)}
    for report in reports:
        score = booked[report.student, report.assignment]
        if report.status == "graded" and abs(score - report.score) > 0.01:  # noqa: PLR2004 - a rounded hundredth
            message = f"{report.student}, {report.assignment}: {report.score} in the report, {score} in the gradebook."
            raise GraderError(message)


def _pages(course: Path, reports: list[Report]) -> None:
    for name in sorted({report.assignment for report in reports}):
        mine = [report for report in reports if report.assignment == name]
        (course / f"class-{name}.html").write_text(classpage.render(mine, date=batch.today()), encoding="utf-8")


def _first_failure(report: Report) -> list[str]:
    failed = [words.message(check) for task in report.tasks for check in task.checks if check.status == "fail"]
    return failed[:1]


def _tell(reports: list[Report], told: dict[str, dict[str, HandIn]], seconds: float, root: Path, course: Path) -> None:
    for name, handed in told.items():
        mine = [report for report in reports if report.assignment == name]
        print(f"\n{name}")
        print(f"{'student':8} {'score':>11}  {'handed in':38} first diagnosis, notes")
        for report in mine:
            said = [part for part in (words.first_mistake(report), *report.notes) if part] or _first_failure(report)
            line = " ".join(" | ".join(said).split())
            print(f"{report.student:8} {words.score(report):>11}  {handed[report.student].what[:38]:38} {line[:90]}")
    graded = [report for report in reports if report.seconds]
    each = sum(report.seconds for report in graded) / max(len(graded), 1)
    place = course.relative_to(root)
    first = next(iter(told))
    print(
        f"\n{len(reports)} submissions in {seconds:.0f} s, {each:.2f} s each.\n"
        f"Isolation of student code: {_isolation(reports)} (`autograder doctor` tells more).\n"
        f"Open next:\n"
        f"  {place}/class-{first}.html            the class at a glance\n"
        f"  {place}/feedback/ben/{first}/{first}.html   what a student gets\n"
        f"  {place}/grades.csv                    the grades, from nbgrader's gradebook {place}/gradebook.db\n"
        f"{figures.sentence(figures.read(root))}"
    )
