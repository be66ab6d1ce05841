"""What is to be graded: a notebook, a folder of a class's, or an archive of either, as a list of jobs.

Names say whose a file is (layouts.py), and no more is taken from them: no link is followed, no archive is unpacked
(archives.py), and no time that stands in a submission counts. What cannot be graded becomes a job with a problem, so
that nobody goes missing; and it is that student's alone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from autograder import archives, layouts
from autograder.archives import Found, nothing_but
from autograder.assignment import assignments, read_assignment
from autograder.errors import NotebookUnreadable
from autograder.notebook import MAX_BYTES, read_ipynb
from autograder.plainfile import read_plain
from autograder.render.clean import one_line

EXPECTED = "a notebook, a folder student/assignment/*.ipynb, a learning platform's download, or a zip or tar of these"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Job:
    """One notebook to grade: where it lies, whose it is, which assignment.

    member: its name in the archive `path`. below: so many parts at the end of `path` are the class's, not ours.
    problem: why there is nothing to grade. notes: what the student should know of how it was chosen.
    """

    path: Path
    student: str
    assignment: str
    member: str = ""
    problem: str = ""
    notes: tuple[str, ...] = ()
    below: int = 1

    def read(self) -> bytes:
        """The notebook's bytes.

        Raises:
            NotebookUnreadable: it cannot be read, or there is none to read.
        """
        if self.problem:
            raise NotebookUnreadable(self.problem)
        if self.member:
            return archives.read_member(self.path, self.member)
        return read_plain(self.path, MAX_BYTES, below=self.below)


def find_jobs(path: Path, solutions: Path, *, assignment: str | None = None) -> list[Job]:
    """The notebooks at `path`, one for each student and assignment, sorted.

    assignment: only this one, and what has no other assignment's name is taken for it. Left out, the folder's name
        tells, or the file's, or the labels of the notebook's cells.

    Raises:
        NotebookUnreadable: there is nothing to grade there; the message says what there should be.
    """
    known = tuple(assignments(solutions))
    if assignment is not None and assignment not in known:
        message = f"There is no assignment {assignment!r}; there are {', '.join(known) or 'none'}."
        raise NotebookUnreadable(message)
    if path.is_symlink() and path.is_file():  # in a student's repository it may lead to somebody else's work
        message = f"{path} is a link, and links are not followed. Name the file itself."
        raise NotebookUnreadable(message)
    if not path.is_dir() and not path.is_file():
        message = f"{path} does not exist, or is no ordinary file."
        raise NotebookUnreadable(message)
    path = path.resolve()
    if not path.is_dir() and path.suffix.lower() != ".zip" and not archives.is_archive(path):
        return [_Finder(path, solutions, known, assignment).single()]
    jobs: list[Job] = []
    packed = False
    for root, files in _roots(path):
        # zip_collect keeps what it was given in downloaded/<assignment>/archive and extracted.
        name = assignment or next((part for part in root.parts[-3:-1] if part in known and root != path), None)
        jobs += _Finder(root, solutions, known, name).jobs(files)
        packed = packed or any(file.is_archive for file in files)
    if not jobs:
        wanted = f" of {assignment}" if assignment else ""
        hint = " Archives inside it are not opened." if packed else ""
        message = f"{path}: no notebook{wanted} was found. It should be {EXPECTED}.{hint}"
        raise NotebookUnreadable(message)
    return _told_apart(sorted(jobs, key=lambda job: (job.student, job.assignment)))


def _roots(path: Path) -> Iterable[tuple[Path, list[Found]]]:
    """What is looked through for itself: the path; of zip_collect's two folders each archive, opened or not."""
    inner = path if path.name in ("extracted", "archive") else path / "extracted"
    inner = inner if inner.is_dir() else path / "archive"
    if not path.is_dir() or not inner.is_dir() or inner.is_symlink():
        yield path, archives.files(path)
        return
    loose = [file for file in archives.files(inner) if len(file.parts) == 1]
    if inner.name == "archive":
        for file in loose:
            if file.is_archive and not file.problem:
                yield inner / file.parts[0], archives.files(inner / file.parts[0])
        loose = [file for file in loose if not file.is_archive]
    for folder in sorted(inner.iterdir()):
        if folder.is_dir() and not folder.is_symlink():
            yield folder, archives.files(folder)
    yield inner, loose


@dataclass(frozen=True)
class _Finder:
    """Turns names into jobs."""

    path: Path
    solutions: Path
    known: tuple[str, ...]
    only: str | None

    def single(self) -> Job:
        """The job for one notebook that was named."""
        name = self.only or self._recognised(Job(self.path, "", ""), self.path.name)
        if name is None:
            message = (
                f"{self.path}: which assignment is this? Neither its name nor its cells tell; "
                f"say --assignment NAME, one of {', '.join(self.known)}."
            )
            raise NotebookUnreadable(message)
        return Job(self.path, "", name)

    def jobs(self, found: Sequence[Found]) -> list[Job]:
        """One job for each student and assignment."""
        alone = sum(file.is_notebook for file in found) == 1
        owned: dict[tuple[str, str], list[layouts.Named]] = {}
        for file, said in zip(found, layouts.named(found, self.known), strict=True):
            one = said or self._otherwise(file, alone=alone)
            if one is not None:
                owned.setdefault((one.name, one.number), []).append(one)
        shared = Counter(name for name, _ in owned)
        jobs = [
            job
            for (name, number), files in owned.items()
            for job in self._of_student(f"{name}_{number}" if shared[name] > 1 else name, files)
            if self.only in (None, job.assignment)
        ]
        names = {job.assignment for job in jobs if job.assignment in self.known}
        if len(names) == 1 and all(file.number or file.attempt for files in owned.values() for file in files):
            # A platform's download is of one assignment: what cannot be told of a broken file is told by the others.
            jobs = [job if job.assignment in names else self._after_all(job, *names) for job in jobs]
        return jobs

    def _otherwise(self, file: Found, *, alone: bool) -> layouts.Named | None:
        """Whose file this is where no platform's name tells; None where it is nothing to grade."""
        *folders, name = file.parts
        # The folder that was named counts too: one student's folder will do, or one assignment's of one student.
        above = self.path.parts[-2:] if self.path.is_dir() else ("", "")
        if folders and folders[0] in self.known:
            return layouts.Named(file, above[-1], assignment=folders[0], file=name)
        if not folders and above[-1] in self.known and (name == f"{above[-1]}.ipynb" or alone):
            return layouts.Named(file, above[0], assignment=above[-1], file=name)
        if not file.is_notebook and (folders or not file.is_archive):
            return None
        stem = PurePosixPath(name).stem
        student = folders[0] if folders else above[-1] if alone or stem in self.known else stem
        return layouts.Named(file, student, file=name)

    def _of_student(self, student: str, files: Sequence[layouts.Named]) -> Iterable[Job]:
        """One student's jobs: what no name says, the notebooks' cells do."""
        sorted_out: dict[str, list[layouts.Named]] = {}
        for one in files:
            if one.found.is_notebook or one.assignment:
                sorted_out.setdefault(self._assignment(one), []).append(one)
        if not sorted_out:  # nothing but other files; where no assignment is meant, they are not a student's
            if not self.only and not files[0].number and not files[0].attempt:
                return
            names = [one.file for one in files if one.file and not one.file.endswith(".txt")]
            yield self._at(files[0].found, student, self.only or UNKNOWN, nothing_but(names))
        for name, some in sorted_out.items():
            yield self._job(student, name, some)

    def _assignment(self, one: layouts.Named) -> str:
        if one.assignment in self.known or (one.assignment and not one.found.is_notebook):
            return one.assignment
        named = self.only or self._recognised(self._at(one.found, ""), one.file)
        folders = one.found.parts[1:-1]
        return named or one.assignment or (folders[0] if folders else UNKNOWN)

    def _job(self, student: str, name: str, files: Sequence[layouts.Named]) -> Job:
        """The job for one of several files: the newest attempt, the one with the assignment's name, the most alike."""
        books = [one for one in files if one.found.is_notebook]
        if not books:
            problem = next((one.found.problem for one in files if one.found.problem), "")
            names = [one.file for one in files if one.file]
            return self._at(files[0].found, student, name, problem or nothing_but(names))
        if name not in self.known:
            return self._at(books[0].found, student, name, books[0].found.problem or self._untold)
        chosen = max(books, key=lambda one: self._likely(one, student, name)) if len(books) > 1 else books[0]
        notes = [f"Of {len(books)} notebooks, `{one_line(chosen.file, 80)}` was graded."] if len(books) > 1 else []
        notes += ["It was handed in late, says the platform's file name."] if chosen.late else []
        return replace(self._at(chosen.found, student, name), notes=tuple(notes))

    def _after_all(self, job: Job, name: str) -> Job:
        return replace(job, assignment=name, problem="" if job.problem == self._untold else job.problem)

    @property
    def _untold(self) -> str:
        return f"Which assignment this is cannot be told; known are {', '.join(self.known)}."

    def _likely(self, one: layouts.Named, student: str, name: str) -> tuple[object, ...]:
        """Greater for the file to grade. Cells come before attempts: a notebook of something else is no attempt."""
        labels = self._labels(self._at(one.found, student))[name]
        exact = one.file == f"{name}.ipynb"
        depth = -len(one.found.parts)
        names = tuple(-ord(letter) for part in one.found.parts for letter in part)
        if one.attempt:
            return labels > 0, one.attempt, exact, labels, depth, names
        return exact, labels, depth, names

    def _at(self, file: Found, student: str, name: str = "", problem: str = "") -> Job:
        problem = problem or file.problem
        if self.path.is_dir():
            path = self.path.joinpath(*file.parts)
            return Job(path, student, name, problem=problem, below=len(file.parts))
        return Job(self.path, student, name, member=file.member, problem=problem)

    def _recognised(self, job: Job, file: str) -> str | None:
        """The assignment: by the file's name, else by the labels of the cells, else by a part of the name."""
        stem = PurePosixPath(file).stem
        if stem in self.known:
            return stem
        likely = self._labels(job).most_common(2)
        if likely and (len(likely) == 1 or likely[0][1] > likely[1][1]):
            return likely[0][0]
        inside = [name for name in self.known if name in stem]
        return inside[0] if len(inside) == 1 else None

    def _labels(self, job: Job) -> Counter[str]:
        """For each assignment, how many labels that are only its own the notebook's cells carry."""
        try:
            labels = {cell.grade_id for cell in read_ipynb(job.read()) if cell.grade_id}
        except NotebookUnreadable:
            return Counter()
        return Counter(self._whose[label] for label in labels if label in self._whose)

    @cached_property
    def _whose(self) -> dict[str, str]:
        found = [
            (cell.grade_id, name)
            for name in self.known
            for cell in read_assignment(self.solutions / name).cells
            if cell.grade_id
        ]
        times = Counter(label for label, _ in found)
        return {label: name for label, name in found if times[label] == 1}


def _told_apart(jobs: Iterable[Job]) -> list[Job]:
    """Names as they can be shown, and no two alike: a file system allows what no page and no JSON can hold."""
    taken: Counter[tuple[str, str]] = Counter()
    made = []
    for job in jobs:
        shown = one_line(os.fsencode(job.student).decode("utf-8", "replace"), 120)
        taken[shown, job.assignment] += 1
        again = taken[shown, job.assignment]
        made.append(replace(job, student=f"{shown} ({again})" if again > 1 else shown))
    return made
