"""What is to be graded: a notebook, a folder student/assignment/*.ipynb, or a zip of either, as a list of jobs.

Names say whose a file is, and no more is taken from them: no link is followed, and an archive is read in memory, member
by member, and never unpacked. What cannot be graded becomes a job with a problem, so that nobody goes missing.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from autograder.assignment import assignments, read_assignment
from autograder.errors import NotebookUnreadable
from autograder.notebook import MAX_BYTES, read_ipynb

MAX_FILES = 50_000
_LINK = "This is a link, and links are not followed. Hand in the file itself."
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class Job:
    """One notebook to grade: where it lies, whose it is, which assignment. `member`: its name in the zip `path`."""

    path: Path
    student: str
    assignment: str
    member: str = ""
    problem: str = ""

    def read(self) -> bytes:
        """The notebook's bytes.

        Raises:
            NotebookUnreadable: it cannot be read, or there is none to read.
        """
        if self.problem:
            raise NotebookUnreadable(self.problem)
        return _read_member(self.path, self.member) if self.member else _read_file(self.path)


@dataclass(frozen=True)
class _Found:
    """A file's name, part by part, and what is wrong with it. For a folder without a notebook the last part is ""."""

    parts: tuple[str, ...]
    problem: str = ""

    @property
    def is_notebook(self) -> bool:
        return self.parts[-1].endswith(".ipynb")


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
    finder = _Finder(path.resolve(), solutions, known, assignment)
    if path.is_symlink() and path.is_file():  # in a student's repository it may lead to somebody else's work
        message = f"{path} is a link, and links are not followed. Name the file itself."
        raise NotebookUnreadable(message)
    if path.is_dir():
        return finder.jobs(_capped(_walk(finder.path), path))
    if not path.is_file():
        message = f"{path} does not exist, or is no ordinary file."
        raise NotebookUnreadable(message)
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return finder.jobs(_capped(_members(finder.path), path))
    return [finder.single()]


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

    def jobs(self, found: Sequence[_Found]) -> list[Job]:
        """One job for each student and assignment."""
        owned: dict[tuple[str, str], list[_Found]] = {}
        alone = sum(file.is_notebook for file in found) == 1
        for file in found:
            owner = self._owner(file, alone=alone)
            if owner is not None and self.only in (None, owner[1]):
                owned.setdefault(owner, []).append(file)
        if not owned:
            wanted = f" of {self.only}" if self.only else ""
            packed = any(file.parts[-1].lower().endswith(_ARCHIVES) for file in found)
            hint = " Archives inside it are not opened." if packed else ""
            message = (
                f"{self.path}: no notebook{wanted} was found. It should be a notebook, a folder "
                f"student/assignment/*.ipynb or a zip of either.{hint}"
            )
            raise NotebookUnreadable(message)
        return [self._job(*owner, owned[owner]) for owner in sorted(owned)]

    def _owner(self, file: _Found, *, alone: bool) -> tuple[str, str] | None:
        """Whose file this is and of which assignment; None where it is nothing to grade."""
        *folders, name = file.parts
        if not file.is_notebook and (name or folders[-1] not in self.known):
            return None
        # The folder that was named counts too: one student's folder will do, or one assignment's of one student.
        above = self.path.parts[-2:] if self.path.is_dir() else ("", "")
        places = [*above, *folders]
        first = len(above) if folders else len(above) - 1
        at = next((place for place in range(first, len(places)) if places[place] in self.known), None)
        if at is not None:
            return places[at - 1], places[at]
        stem = PurePosixPath(name).stem
        student = folders[0] if folders else above[-1] if alone or stem in self.known else stem
        named = self.only or self._recognised(self._at(file, student), name)
        return student, named or (folders[1] if len(folders) > 1 else "unknown")

    def _job(self, student: str, name: str, files: Sequence[_Found]) -> Job:
        """The job for one of several files: the one with the assignment's name, else the one most like it."""
        books = [file for file in files if file.is_notebook]
        if not books:
            return self._at(files[0], student, name)
        if name not in self.known and not books[0].problem:
            problem = f"Which assignment this is cannot be told; known are {', '.join(self.known)}."
            return self._at(_Found(books[0].parts, problem), student, name)
        chosen = [file for file in books if file.parts[-1] == f"{name}.ipynb"] or books
        if len(chosen) > 1:
            chosen.sort(key=lambda file: (-self._labels(self._at(file, student))[name], len(file.parts), file.parts))
        return self._at(chosen[0], student, name)

    def _at(self, file: _Found, student: str, name: str = "") -> Job:
        if self.path.is_dir():
            return Job(self.path.joinpath(*file.parts), student, name, problem=file.problem)
        return Job(self.path, student, name, member="/".join(file.parts), problem=file.problem)

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


def _capped(found: Iterable[_Found], path: Path) -> list[_Found]:
    files: list[_Found] = []
    for file in found:
        if len(files) == MAX_FILES:
            message = f"{path} holds more than {MAX_FILES:,} files."
            raise NotebookUnreadable(message)
        files.append(file)
    return files


def _walk(root: Path) -> Iterator[_Found]:
    """The files of a folder, without hidden ones."""
    for folder, folders, all_files in os.walk(root, followlinks=False):
        here = Path(folder).relative_to(root).parts
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = sorted(name for name in all_files if not name.startswith("."))
        for name in folders:
            if Path(folder, name).is_symlink():
                yield _Found((*here, name, ""), _LINK)
        for name in files:
            yield _Found((*here, name), _LINK if Path(folder, name).is_symlink() else "")
        if here and not any(name.endswith(".ipynb") for name in files):
            instead = f", only {', '.join(files[:5])}" if files else ": the folder is empty"
            yield _Found((*here, ""), f"No notebook was handed in{instead}.")


def _members(path: Path) -> Iterator[_Found]:
    """The files of an archive, without hidden ones."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        message = f"{path} cannot be read as a zip: {error}."
        raise NotebookUnreadable(message) from error
    for entry in entries:
        parts = tuple(entry.filename.split("/"))
        if parts[-1] and not any(part.startswith((".", "__MACOSX")) for part in parts):
            yield _Found(parts, _wrong_with(entry))


def _wrong_with(entry: zipfile.ZipInfo) -> str:
    if stat.S_ISLNK(entry.external_attr >> 16):
        return _LINK
    if entry.flag_bits & 1:
        return "The archive asks for a password. Hand it in without one."
    if entry.compress_type not in _PACKED:
        return "The archive is packed in an unusual way. Make it with the ordinary settings."
    if entry.file_size > MAX_BYTES:
        size, most = entry.file_size / 2**20, MAX_BYTES // 2**20
        return f"The file has {size:.0f} MiB; the most that is read is {most}. Clear the outputs."
    return ""


def _read_file(path: Path) -> bytes:
    """An ordinary file's bytes, up to one more than a notebook may have."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"{path.name} cannot be read: {error.strerror}."
        raise NotebookUnreadable(message) from error
    message = f"{path.name} is no ordinary file."
    raise NotebookUnreadable(message)


def _read_member(path: Path, member: str) -> bytes:
    """A zipped file's bytes, up to one more than a notebook may have, whatever size the archive claims."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            return file.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, KeyError, ValueError, RuntimeError, EOFError) as error:
        message = f"{PurePosixPath(member).name} in {path.name} cannot be read: {error}."
        raise NotebookUnreadable(message) from error
