"""The red team's table, tests/redteam/ of the repository, made into notebooks that a hostile student would hand in.

`cells/*.py` holds hostile cells in the percent format; a heading is `# %% name | rows | hope | partial`: the rows of
the table of attacks, what the student hopes for, and whether a fallback level lets it happen. `files.py` holds
functions that tamper with the file itself. In each notebook one task is attacked and the others are answered rightly,
so what the honest part earns is known beforehand.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.assignment import Assignment
from autograder.errors import CourseBroken
from autograder.names import defined, statements
from autograder.notebook import Cell, to_ipynb

FOLDER = Path("tests") / "redteam"
Targets = Mapping[str, Any]
# Writes a hand-in: the folder, the notebook as JSON, what to aim at.
Tamper = Callable[[Path, dict[str, Any], Targets], None]
_HEADING = re.compile(r"^# %% (?P<name>\w+) \| (?P<rows>[\d, ]+) \| (?P<hope>[^|]+?)(?P<partial> \| partial)?$")


@dataclass(frozen=True)
class Attack:
    """One hostile submission: its file in the table, the rows it covers, what it hopes for, and how it is made."""

    theme: str
    name: str
    rows: tuple[int, ...]
    hope: str
    source: str = ""
    tamper: Tamper | None = None
    partial: bool = False  # a fallback level is known not to stop it
    unreadable: bool = False  # there is nothing to grade in it

    def write(self, folder: Path, assignment: Assignment, prelude: str, targets: Targets) -> None:
        """Hand it in: a folder with the notebook, and whatever the attack puts beside it."""
        folder.mkdir(parents=True)
        data = _notebook(assignment, f"TARGETS = {json.dumps(dict(targets))}\n{prelude}", self.source)
        if self.tamper is not None:
            self.tamper(folder, json.loads(data), targets)
        else:
            (folder / f"{assignment.name}.ipynb").write_bytes(data)


def find_table(solutions: Path) -> Path:
    """The folder with the red team's table: beside `solutions/`, else beside this package.

    Raises:
        CourseBroken: it is not there; it comes with the repository, not with the installed package.
    """
    places = [root / FOLDER for root in (solutions.resolve().parent, Path(__file__).resolve().parents[1])]
    for place in places:
        if (place / "cells").is_dir():
            return place
    message = f"The red team's table is not there: {places[0]}. Run the command from a checkout of the repository."
    raise CourseBroken(message)


def read_table(folder: Path) -> list[Attack]:
    """Every attack, in the order of the files' names.

    Raises:
        CourseBroken: a heading cannot be read, or a name stands twice.
    """
    found: list[Attack] = []
    for path in sorted((folder / "cells").glob("*.py")):
        found += _cells(path)
    found += _tampering(folder / "files.py")
    names = [attack.name for attack in found]
    if twice := {name for name in names if names.count(name) > 1}:
        message = f"{folder}: {', '.join(sorted(twice))} stands twice."
        raise CourseBroken(message)
    return found


def attacked(assignment: Assignment) -> str:
    """The task that is attacked: the last, as nothing builds on it."""
    return assignment.tasks[-1].name


def _cells(path: Path) -> list[Attack]:
    _, *parts = re.split(r"^(?=# %% )", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = []
    for part in parts:
        heading, _, body = part.partition("\n")
        match = _HEADING.match(heading)
        if match is None:
            message = f"{path}: a heading must read `# %% name | rows | hope`, got {heading[:80]!r}."
            raise CourseBroken(message)
        rows = tuple(int(row) for row in match["rows"].split(","))
        one = Attack(path.stem, match["name"], rows, match["hope"], body.strip("\n"), partial=bool(match["partial"]))
        found.append(one)
    return found


def _tampering(path: Path) -> list[Attack]:
    """Every function of the file with an attribute `rows`; its docstring is the hope."""
    spec = importlib.util.spec_from_file_location("redteam_files", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [
        Attack(
            path.stem, name, item.rows, str(item.__doc__).strip(), tamper=item, unreadable=item.unreadable
        )
        for name, item in vars(module).items()
        if hasattr(item, "rows")
    ]  # fmt: skip


def _notebook(assignment: Assignment, prelude: str, source: str) -> bytes:
    """The solved notebook, with the hostile cells before the attacked one, whose names all lead to `answer`."""
    task = attacked(assignment)
    names = sorted({
        name
        for statement in statements(assignment.solution(task))
        if isinstance(statement, ast.FunctionDef | ast.ClassDef)
        for name in defined(statement)
    })
    answering = "\n\n".join(f"def {name}(*args, **kwargs):\n    return answer(*args, **kwargs)" for name in names)
    cells: list[Cell] = []
    for cell in assignment.filled({task: answering}):
        if cell.grade_id == task:
            cells += [Cell("code", prelude), Cell("code", source)]
        cells.append(cell)
    return to_ipynb(cells)
