"""What students get: solutions/ -> build/source/ -> assignments/.

    solutions/<a>/notebook.py ──jupytext──► build/source/<a>/<a>.ipynb ──nbgrader──► assignments/<a>/<a>.ipynb

What comes last is committed: the same solutions must give the same bytes everywhere.

`release` leaves the gradebook alone: it is for authors. `nbgrader generate_assignment` gives the same file, and tells
the gradebook; so does `nbgrader autograde`, before it grades.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

from nbformat import NotebookNode
from nbgrader.converters import GenerateAssignment  # type: ignore[import-untyped]
from nbgrader.converters.base import NbGraderException  # type: ignore[import-untyped]
from nbgrader.coursedir import CourseDirectory  # type: ignore[import-untyped]
from nbgrader.preprocessors import NbGraderPreprocessor, SaveCells  # type: ignore[import-untyped]

from autograder import elsewhere as there
from autograder import nodes
from autograder.assignment import Assignment, assignments
from autograder.errors import CourseBroken
from autograder.source import refresh, source, write

# A line of the reference that is shorter gives nothing away: `return x` stands everywhere.
TELLING = 12
EXAMINE_SECONDS = 300.0


def release(root: Path, name: str) -> Path:
    """Write the notebook that students get, `assignments/<name>/<name>.ipynb`, and give its path.

    Raises:
        CourseBroken: the assignment does not hold together; every fault is named.
    """
    data = released(root, name)
    refresh(root, name)
    path = _released_path(root, name)
    write(path, data)
    return path


def check(root: Path, names: Iterable[str]) -> list[str]:
    """What is out of date in `assignments/`, one message each. Changes nothing there.

    Raises:
        CourseBroken: an assignment does not hold together.
    """
    drift = []
    for name in names:
        path = _released_path(root, name)
        if not path.is_file():
            drift.append(f"{path} is missing; solutions/{name}/ is there.")
        elif path.read_bytes() != released(root, name):
            drift.append(f"{path} is not what solutions/{name}/notebook.py gives.")
    known = set(assignments(root / "solutions"))
    there_now = sorted((root / "assignments").glob("*/*.ipynb"))
    strange = [path for path in there_now if path.parent.name not in known or path.stem != path.parent.name]
    return drift + [f"{path} comes from no assignment in solutions/." for path in strange]


def released(root: Path, name: str) -> bytes:
    """The bytes of the notebook that students get.

    Raises:
        CourseBroken: the assignment does not hold together; every fault is named.
    """
    assignment = _examine(root / "solutions" / name)
    with tempfile.TemporaryDirectory(prefix="autograder-release-") as folder:
        place = Path(folder).resolve()
        write(place / "source" / name / f"{name}.ipynb", nodes.dumps(source(assignment)))
        _generate(place, name)
        data = (place / "release" / name / f"{name}.ipynb").read_bytes()
    _compare(assignment, nodes.loads(data))
    return data


def _examine(folder: Path) -> Assignment:
    """In another process, as it imports the hidden tests, and torch with them."""
    return there.elsewhere.run(EXAMINE_SECONDS, there.examine, folder)


def _released_path(root: Path, name: str) -> Path:
    return root / "assignments" / name / f"{name}.ipynb"


def _generate(place: Path, name: str) -> None:
    """Run nbgrader's own conversion, without a gradebook."""
    heard = io.StringIO()
    log = logging.Logger("autograder.release", logging.ERROR)  # noqa: LOG001 - heard by nobody else
    log.addHandler(logging.StreamHandler(heard))
    course = CourseDirectory(root=str(place), assignment_id=name, log=log)
    convert = GenerateAssignment(coursedir=course, no_database=True, log=log)
    convert.preprocessors = [step for step in convert.preprocessors if step is not SaveCells]
    try:
        convert.start()
    except NbGraderException as error:
        message = f"nbgrader cannot make a release of {name}:\n{heard.getvalue().strip()}"
        raise CourseBroken(message) from error


def _compare(assignment: Assignment, made: NotebookNode) -> None:
    """What nbgrader made must be what grading takes for the released notebook, and hold no solution."""
    file = assignment.folder / "notebook.py"
    theirs = [(cell.cell_type, cell.source) for cell in made.cells]
    for number, ours in enumerate(assignment.released):
        if number >= len(theirs) or theirs[number] != (ours.kind, ours.source):
            message = (
                f"{file}: cell {number + 1} ({ours.grade_id or ours.source[:40]!r}) is released with another text than "
                "grading expects. Write the solution regions as in the other cells, and no magics."
            )
            raise CourseBroken(message)
    faults = _leaks(assignment, "\n".join(cell.source for cell in made.cells))
    if faults:
        raise CourseBroken("\n".join(faults))


def _leaks(assignment: Assignment, released: str) -> list[str]:
    """The telling lines of the reference that stand in a released text, though not outside the solutions."""
    secret: dict[str, str] = {}
    outside: list[str] = []
    for cell in assignment.cells:
        inside = cell.solution and cell.grade
        for line in cell.source.split("\n"):
            if "BEGIN SOLUTION" in line or "END SOLUTION" in line:
                inside = "BEGIN SOLUTION" in line
            elif inside and len("".join(line.split())) >= TELLING:
                secret[line.strip()] = str(cell.grade_id)
            elif not inside:
                outside.append(line)
    elsewhere = "\n".join(outside)
    return [
        f"{assignment.folder / 'notebook.py'}: a line of the reference of {name!r} stands in the release: {line!r}"
        for line, name in secret.items()
        if line not in elsewhere and line in released
    ]


class CheckRelease(NbGraderPreprocessor):  # type: ignore[misc]
    """For `nbgrader generate_assignment`: the same checks as `release`, after the solutions are cleared."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, object]) -> tuple[NotebookNode, dict[str, object]]:
        """Raise CourseBroken where the assignment does not hold together; change nothing."""
        facts = resources["nbgrader"]
        assert isinstance(facts, dict)
        folder = Path(self.parent.parent.coursedir.root) / "solutions" / facts["assignment"]
        if folder.is_dir():
            _compare(_examine(folder), nb)
        return nb, resources
