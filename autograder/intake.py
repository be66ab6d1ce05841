"""Between a student's file and nbgrader: what is let in, and what the gradebook knows before.

`Grading` is where all of nbgrader's side finds the course's folders and its few settings.
"""

from __future__ import annotations

import os
import re
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
from autograder.assignment import Assignment, find_solutions, read_assignment
from autograder.transplant import transplant

Resources = dict[str, Any]
LEVELS = ("none", "partial", "full")
# A student's name becomes part of pages, addresses and lines of a CSV: letters and digits of any script, and these.
IN_NAMES = frozenset(" _-.@+'()")


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

    def submitted(self, resources: Resources) -> Path:
        """The file that the student handed in."""
        facts = resources["nbgrader"]
        course = self.course()
        folder = course.format_path(course.submitted_directory, facts["student"], facts["assignment"])
        return Path(folder) / f"{facts['notebook']}.ipynb"


class Intake(Grading, NotebookExporter):
    """Stands in for nbconvert's exporter, so that a student's file is read by nobody but our own reader.

    Before the first submission it makes sure that the gradebook knows the assignment as it now is.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As nbconvert's."""
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        converter: Any = self.parent
        if hasattr(converter, "assignments"):
            _leave_out_odd_names(converter)
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


def _leave_out_odd_names(converter: Any) -> None:
    pattern = converter._format_source("(?P<assignment_id>.*)", "(?P<student_id>.*)", escape=True)  # noqa: SLF001
    for folder in list(converter.assignments):
        match = re.match(pattern, folder)
        name = match["student_id"] if match else ""
        if not all(letter.isalnum() or letter in IN_NAMES for letter in name):
            converter.log.error("%r is left out: rename it, its name becomes part of web pages and the CSV.", folder)
            del converter.assignments[folder]


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
