"""Between a student's file and nbgrader: what is let in, and what the gradebook knows before.

`Grading` is where all of nbgrader's side finds the course's folders and its few settings.

Of a student's folder nbgrader itself reads nothing but `timestamp.txt`, and that only where it is a short, ordinary
file: what else lies there it would copy, through links and from devices without end.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbconvert.exporters import NotebookExporter
from nbgrader.api import Gradebook  # type: ignore[import-untyped]
from nbgrader.converters.base import NbGraderException  # type: ignore[import-untyped]
from nbgrader.coursedir import CourseDirectory  # type: ignore[import-untyped]
from nbgrader.preprocessors import SaveCells  # type: ignore[import-untyped]
from traitlets import Enum, Float, Integer, Unicode
from traitlets.config import LoggingConfigurable

from autograder import nodes, unfinished
from autograder.archives import nothing_but
from autograder.assignment import Assignment, find_solutions, read_assignment
from autograder.collect import find_jobs
from autograder.errors import NotebookUnreadable
from autograder.notebook import MAX_BYTES
from autograder.plainfile import read_plain
from autograder.transplant import transplant

Resources = dict[str, Any]
LEVELS = ("none", "partial", "full")
# A student's name becomes part of pages, addresses and lines of a CSV: letters and digits of any script, and these.
# A spreadsheet takes what begins with a sign for a formula, so a name begins with a letter or a digit.
IN_NAMES = frozenset(" _-.@+'()")
STAMP_BYTES = 200


class Grading(LoggingConfigurable):
    """What all of the following share; set `c.Grading...` to set it for all."""

    solutions = Unicode("", help="The folder solutions/; if empty, the nearest upwards.").tag(config=True)
    reports = Unicode("", help="Where reports are kept; build/reports beside solutions/ if empty.").tag(config=True)
    isolation = Enum(LEVELS, "partial", help="The least isolation of student code that is accepted.").tag(config=True)
    seed = Integer(0, help="What the hidden tests' inputs are drawn from.").tag(config=True)
    call_seconds = Float(10.0, help="The longest that one call of a student's code may take.").tag(config=True)
    seconds = Float(1800.0, help="After so long, grading one notebook is given up: ungraded.").tag(config=True)

    def course(self) -> CourseDirectory:
        """nbgrader's idea of the course's folders."""
        owner: Any = self.parent
        while not hasattr(owner, "coursedir"):
            owner = owner.parent
        return owner.coursedir

    def solutions_folder(self) -> Path:
        """Where the assignments are defined.

        Raises:
            CourseBroken: there is no such folder.
        """
        return Path(self.solutions).resolve() if self.solutions else find_solutions(Path(self.course().root))

    def assignment(self, name: str) -> Assignment:
        """An assignment of the course.

        Raises:
            CourseBroken: there is none of that name.
        """
        return read_assignment(self.solutions_folder() / name)

    def submitted(self, resources: Resources) -> bytes:
        """What the student handed in: the notebook, also under another name if its cells are this assignment's.

        Raises:
            NotebookUnreadable: there is none, or it cannot be read; the message is for the student.
        """
        facts = resources["nbgrader"]
        course = self.course()
        folder = Path(course.format_path(course.submitted_directory, facts["student"], facts["assignment"]))
        path = folder / f"{facts['notebook']}.ipynb"
        if os.path.lexists(path):
            return read_plain(path, MAX_BYTES, below=3)  # student/assignment/notebook.ipynb: none may be a link
        try:
            jobs = find_jobs(folder, self.solutions_folder(), assignment=facts["assignment"])
        except NotebookUnreadable as error:
            names = [file.name for file in folder.iterdir() if not file.name.startswith(".")]
            raise NotebookUnreadable(nothing_but(names)) from error
        return jobs[0].read()


class Intake(Grading, NotebookExporter):
    """Stands in for nbconvert's exporter, so that a student's file is read by nobody but our own reader.

    Before the first submission it makes sure that the gradebook knows the assignment as it now is.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As nbconvert's."""
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        converter: Any = self.parent
        if hasattr(converter, "assignments"):
            _let_in(converter)
            _copy_nothing(converter)
            register(self)
            self._begin_again(converter)

    def from_filename(self, filename: str, resources: Any = None, **kw: Any) -> tuple[Any, Resources]:
        """The notebook we wrote ourselves; for any other file an empty one, which `Transplant` fills."""
        facts, course = resources["nbgrader"], self.course()
        ours = course.format_path(course.autograded_directory, facts["student"], facts["assignment"])
        if os.path.normpath(Path(filename).parent) == os.path.normpath(ours):
            return super().from_filename(filename, resources, **kw)
        empty: tuple[Any, Resources] = self.from_notebook_node(nodes.notebook([]), resources, **kw)  # type: ignore[no-untyped-call]
        return empty


    def _begin_again(self, converter: Any) -> None:
        """Let nbgrader grade what a run that was killed had only begun."""
        course = self.course()
        pattern = converter._format_source("(?P<assignment_id>.*)", "(?P<student_id>.*)", escape=True)  # noqa: SLF001
        for folder in converter.assignments:
            match = re.match(pattern, folder)
            if match is None:
                continue
            name = match["assignment_id"]
            place = Path(course.format_path(course.autograded_directory, match["student_id"], name))
            if unfinished.remove(place, name):
                self.log.warning("%s was left unfinished; it is graded again.", place)


def _let_in(converter: Any) -> None:
    """Every folder of a student's, once and under the notebook's proper name; those that cannot be, with a reason."""
    course = converter.coursedir
    pattern = converter._format_source("(?P<assignment_id>.*)", "(?P<student_id>.*)", escape=True)  # noqa: SLF001
    every = glob.glob(converter._format_source(course.assignment_id, course.student_id))  # noqa: PTH207, SLF001 - as there
    for folder in sorted({*converter.assignments, *every}):
        match = re.match(pattern, folder)
        why = _wrong_with(Path(folder), match["student_id"] if match else "")
        if why:
            converter.log.error("%r is left out: %s", folder, why)
            converter.assignments.pop(folder, None)
        elif course.notebook_id == "*":
            # Also where there is no such file: nbgrader would pass over that student, and export a zero.
            converter.assignments[folder] = [str(Path(folder) / f"{course.assignment_id}.ipynb")]


def _wrong_with(folder: Path, name: str) -> str:
    if not name[:1].isalnum() or not all(letter.isalnum() or letter in IN_NAMES for letter in name):
        return "rename it, its name becomes part of web pages and the CSV."
    if folder.is_symlink() or folder.parent.is_symlink() or not folder.is_dir():
        return "it is no folder but a link or a file. Put the student's own files there."
    stamp = folder / "timestamp.txt"
    if os.path.lexists(stamp):
        facts = stamp.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > STAMP_BYTES:
            return "its timestamp.txt is no short, ordinary file. Take it away, and grade this student again."
    return ""


def _copy_nothing(converter: Any) -> None:
    """nbgrader copies what lies beside a notebook; here nobody reads it, and copying it is what would do harm."""
    copying: Callable[[str, str], None] = converter.init_assignment

    def init_assignment(assignment_id: str, student_id: str) -> None:
        course = converter.coursedir
        kept = course.ignore
        course.ignore = [*kept, "*"]
        try:
            copying(assignment_id, student_id)
        finally:
            course.ignore = kept

    converter.init_assignment = init_assignment


def register(grading: Grading) -> None:
    """Tell the gradebook of the assignment's cells and points, as `nbgrader generate_assignment` does.

    Raises:
        NbGraderException: the gradebook holds submissions of the same assignment with other cells.
    """
    course = grading.course()
    name = course.assignment_id
    if not (grading.solutions_folder() / name / "notebook.py").is_file():
        return  # nbgrader says in its own words that it knows no such assignment
    notebook = transplant(grading.assignment(name), ())
    with Gradebook(course.db_url, course.course_id) as gradebook:
        gradebook.update_or_create_assignment(name)
    try:
        SaveCells(parent=grading).preprocess(
            notebook, {"nbgrader": {"assignment": name, "notebook": name, "db_url": course.db_url}}
        )
    except RuntimeError as error:
        message = (
            f"The gradebook holds submissions of {name} with other cells than solutions/{name}/ has now. "
            f"Put gradebook.db aside, or `nbgrader db assignment remove {name} --force`, and grade the class again."
        )
        grading.log.error(message)  # noqa: TRY400 - the message says it all
        raise NbGraderException(message) from error
