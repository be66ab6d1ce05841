"""An assignment as its folder in `solutions/` holds it, and a student's notebook laid over it.

`read_assignment` gives the tasks, their points and the reference; `submission` takes a student's cells, whatever was
done to the file, and gives the cells to run and what to tell the student.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from autograder.errors import CourseBroken
from autograder.notebook import Cell, cleared, read_percent_file

FILES = ("notebook.py", "test_hidden.py", "misconceptions.py", "stand_ins.py")
# A released cell tagged so shows something that takes long; grading leaves it out as long as it is unchanged.
SHOW_ONLY = "demo"
LONG = "long"
# Ends the name of a released cell that is unchanged: that it fails on top of unfinished work is no news.
AS_GIVEN = " (as given)"


@dataclass(frozen=True)
class Task:
    """One task: a solution cell and the test cell after it."""

    name: str
    points: float


@dataclass(frozen=True)
class Assignment:
    """What `solutions/<name>/` holds."""

    name: str
    folder: Path
    cells: tuple[Cell, ...]

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks in the notebook's order, with the points of their test cells."""
        points = {cell.grade_id: cell.points for cell in self.cells if cell.is_test}
        return tuple(
            Task(cell.grade_id, points.get(f"test_{cell.grade_id}", 0.0))
            for cell in self.cells
            if cell.is_task and cell.grade_id
        )

    @cached_property
    def released(self) -> tuple[Cell, ...]:
        """The cells as students get them."""
        return tuple(cleared(cell) for cell in self.cells)

    @cached_property
    def given(self) -> tuple[Cell, ...]:
        """The cells that the course gives."""
        return tuple(cell for cell in self.cells if cell.is_given)

    @cached_property
    def digest(self) -> str:
        """A hash of everything that decides a grade here: notebook, hidden tests, misconceptions."""
        state = hashlib.sha256()
        for name in FILES:
            path = self.folder / name
            state.update(path.read_bytes() if path.exists() else b"")
        return f"sha256:{state.hexdigest()}"

    def solution(self, task: str) -> str:
        """The reference solution's source.

        Raises:
            KeyError: there is no such task.
        """
        for cell in self.cells:
            if cell.is_task and cell.grade_id == task:
                return cell.source
        raise KeyError(task)

    def reference_cells(self) -> list[tuple[str, str]]:
        """Given cells and reference solutions, in order, as (name, source)."""
        return [(str(cell.grade_id), cell.source) for cell in self.cells if cell.is_given or cell.is_task]

    def filled(self, replaced: dict[str, str] | None = None) -> list[Cell]:
        """The released notebook with the reference filled in, or `replaced[task]` where that is given."""
        replaced = replaced or {}
        return [
            Cell(**{**cell.__dict__, "source": replaced.get(str(cell.grade_id), cell.source)}) if cell.is_task else cell
            for cell in self.cells
        ]


def read_assignment(folder: Path) -> Assignment:
    """Read `solutions/<name>/`.

    Raises:
        CourseBroken: the folder has no notebook, or one that cannot be read.
    """
    path = folder / "notebook.py"
    if not path.is_file():
        message = f"{path} is missing: an assignment is a folder with {', '.join(FILES)}."
        raise CourseBroken(message)
    return Assignment(folder.name, folder, tuple(read_percent_file(path)))


def find_solutions(start: Path) -> Path:
    """The nearest `solutions/` folder from `start` upwards, else the one beside this package.

    Raises:
        CourseBroken: there is none.
    """
    for folder in [start.resolve(), *start.resolve().parents, Path(__file__).resolve().parents[1]]:
        if (folder / "solutions").is_dir():
            return folder / "solutions"
    message = f"No folder `solutions/` in {start} or above it. Run the command from the course's folder."
    raise CourseBroken(message)


def assignments(solutions: Path) -> list[str]:
    """The names of all assignments, sorted."""
    return sorted(path.parent.name for path in solutions.glob("*/notebook.py"))


@dataclass(frozen=True)
class Submission:
    """A student's work, ready to run: cells as (name, source), and what has to be said about the file."""

    assignment: str
    cells: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    unfilled: frozenset[str] = frozenset()

    @cached_property
    def digest(self) -> str:
        """A hash of all that is the student's."""
        text = json.dumps([self.assignment, self.cells, self.notes], ensure_ascii=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def submission(assignment: Assignment, cells: Sequence[Cell]) -> Submission:
    """Lay a student's cells over the released notebook.

    Given cells run first, in their own order, also where the student deleted or moved them. Solution cells and the
    student's own cells run in the student's order, whatever their labels say by now. Test cells do not run.
    """
    released = {cell.grade_id: cell for cell in assignment.released if cell.grade_id}
    shown = {cell.source.strip(): cell for cell in assignment.released if not cell.grade_id and cell.kind == "code"}
    notes: list[str] = []
    run: list[tuple[str, str]] = []
    changed: list[tuple[str, str]] = []
    filled: dict[str, int] = {}
    for number, cell in enumerate(cells, start=1):
        ours = released.get(cell.grade_id or "")
        if ours is not None and ours.is_task:
            name = str(cell.grade_id)
            if cell.source.strip() == ours.source.strip() or not cell.source.strip():
                continue  # the stub, untouched; a copy of it must not undo the work in another cell
            if cell.kind != "code":
                notes.append(f"The cell `{name}` is no code cell any more; its text is graded as code.")
            filled[name] = filled.get(name, 0) + 1
            run.append((name, cell.source))
        elif cell.kind != "code" or (ours is not None and (ours.grade or ours.source.strip() == cell.source.strip())):
            continue
        elif ours is not None:
            notes.append(f"The given cell `{cell.grade_id}` was changed; the original runs after your version.")
            changed.append((f"cell {number}", cell.source))
        elif _is_run(cell, shown):
            run.append((f"cell {number}{AS_GIVEN if cell.source.strip() in shown else ''}", cell.source))
    notes += _doubled_and_missing(assignment, cells)
    given = [(str(cell.grade_id), cell.source) for cell in assignment.given]
    unfilled = frozenset(task.name for task in assignment.tasks if task.name not in filled)
    # Untouched stubs say themselves that they are stubs. They run first: work in a cell without a label replaces them.
    stubs = [(name, released[name].source) for name in sorted(unfilled & {str(cell.grade_id) for cell in cells})]
    return Submission(assignment.name, tuple(changed + given + stubs + run), tuple(notes), unfilled)


def _doubled_and_missing(assignment: Assignment, cells: Sequence[Cell]) -> list[str]:
    notes: list[str] = []
    counts = Counter(cell.grade_id for cell in cells)
    for name in (task.name for task in assignment.tasks):
        if counts[name] > 1:
            notes.append(f"The cell `{name}` stands {_times(counts[name])}; the last one that runs is graded.")
        elif counts[name] == 0:
            notes.append(f"The cell `{name}` is missing, or has lost its label.")
    missing = [cell.grade_id for cell in assignment.given if not counts[cell.grade_id]]
    return notes + [f"The given cell `{name}` is missing; it was put back." for name in missing]


def _is_run(cell: Cell, shown: dict[str, Cell]) -> bool:
    """A student's own cell runs, unless tagged `long`; a released one that only shows something long does not."""
    ours = shown.get(cell.source.strip())
    tags = ours.tags if ours is not None else tuple(tag for tag in cell.tags if tag == LONG)
    return bool(cell.source.strip()) and LONG not in tags and SHOW_ONLY not in tags


def _times(count: int) -> str:
    return {2: "twice", 3: "three times"}.get(count, f"{count} times")
