"""Notebooks as lists of cells: reads `.ipynb` whatever was done to it, and our own `notebook.py` (percent format).

Needs neither nbformat nor jupytext, so that grading also runs where they are not installed; `release.py` uses
jupytext, and a test holds that both read the same cells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autograder.errors import CourseBroken, NotebookUnreadable

MAX_BYTES = 64 * 2**20
MAX_CELLS = 2_000
MAX_SOURCE = 2 * 2**20
# Of all code cells together: it is read statement by statement, which takes long, and a hundred times the memory.
MAX_CODE, MAX_LINES = 2**19, 20_000
# Brackets and commas in the file, those inside texts among them.
MAX_CONTAINERS, MAX_ITEMS = 2 * 2**20, 8 * 2**20
STUB = ("# YOUR CODE HERE", "raise NotImplementedError()")


@dataclass(frozen=True)
class Cell:
    """One cell: its text, and what nbgrader's metadata says of it."""

    kind: str
    source: str
    grade_id: str | None = None
    grade: bool = False
    solution: bool = False
    locked: bool = False
    points: float = 0.0
    tags: tuple[str, ...] = ()

    @property
    def is_task(self) -> bool:
        """A solution cell for code."""
        return self.grade_id is not None and self.solution and not self.grade and self.kind == "code"

    @property
    def is_test(self) -> bool:
        """A test cell: it carries points and is not the student's."""
        return self.grade_id is not None and self.grade and not self.solution

    @property
    def is_given(self) -> bool:
        """A cell that the course gives and keeps as it is: imports, helpers."""
        kept = self.locked and not self.grade and not self.solution
        return self.grade_id is not None and kept and self.kind == "code"


def read_ipynb(data: bytes) -> list[Cell]:
    """The cells of a notebook file, of any version of the format and of nbgrader's metadata.

    Raises:
        NotebookUnreadable: this is no notebook; the message says in which way, for the student.
    """
    if len(data) > MAX_BYTES:
        size, most = len(data) / 2**20, MAX_BYTES // 2**20
        message = f"The file has {size:.0f} MiB; the most that is read is {most}. Clear the outputs."
        raise NotebookUnreadable(message)
    if data.count(b"[") + data.count(b"{") > MAX_CONTAINERS or data.count(b",") > MAX_ITEMS:
        message = "The file holds more values than a notebook has. Clear the outputs and hand it in again."
        raise NotebookUnreadable(message)
    if not data.strip():
        message = "The file is empty. Save the notebook again and hand it in once more."
        raise NotebookUnreadable(message)
    try:
        raw = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        message = "The file is no notebook: it does not hold JSON. Was another file renamed to .ipynb, or cut off?"
        raise NotebookUnreadable(message) from error
    cells = _raw_cells(raw)
    if len(cells) > MAX_CELLS:
        message = f"The notebook has {len(cells)} cells; the most that is read is {MAX_CELLS}."
        raise NotebookUnreadable(message)
    made = [_cell(item) for item in cells if isinstance(item, dict)]
    code = sum(len(cell.source) for cell in made if cell.kind == "code")
    lines = sum(cell.source.count("\n") for cell in made if cell.kind == "code")
    if code > MAX_CODE or lines > MAX_LINES:
        message = (
            f"The cells hold {code / 2**10:.0f} KiB of code in {lines:,} lines; the most that is read is "
            f"{MAX_CODE // 2**10} KiB in {MAX_LINES:,}. Keep large data in a file."
        )
        raise NotebookUnreadable(message)
    return made


def _raw_cells(raw: Any) -> list[Any]:
    if isinstance(raw, dict):
        if isinstance(raw.get("cells"), list):
            return list(raw["cells"])
        worksheets = raw.get("worksheets")  # nbformat 3
        if isinstance(worksheets, list):
            return [cell for sheet in worksheets if isinstance(sheet, dict) for cell in _list(sheet.get("cells"))]
    message = "The file is no notebook: it has no cells. Was another file renamed to .ipynb?"
    raise NotebookUnreadable(message)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _cell(raw: dict[str, Any]) -> Cell:
    source = raw.get("source", raw.get("input", ""))  # nbformat 3 calls a code cell's text `input`
    text = "".join(part for part in source if isinstance(part, str)) if isinstance(source, list) else source
    metadata = raw.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    kind = raw.get("cell_type")
    return _with_metadata(
        kind if kind in ("code", "markdown") else "raw",
        text[:MAX_SOURCE].replace("\r\n", "\n") if isinstance(text, str) else "",
        metadata,
    )


def _with_metadata(kind: str, source: str, metadata: dict[str, Any]) -> Cell:
    nbgrader = metadata.get("nbgrader")
    nbgrader = nbgrader if isinstance(nbgrader, dict) else {}
    grade_id, points, tags = nbgrader.get("grade_id"), nbgrader.get("points", 0), metadata.get("tags")
    return Cell(
        kind=kind,
        source=source,
        grade_id=grade_id if isinstance(grade_id, str) and grade_id else None,
        grade=nbgrader.get("grade") is True,
        solution=nbgrader.get("solution") is True,
        locked=nbgrader.get("locked") is True,
        points=_number(points),
        tags=tuple(tag for tag in _list(tags) if isinstance(tag, str)),
    )


def _number(points: Any) -> float:
    try:
        return float(points) if isinstance(points, int | float) and not isinstance(points, bool) else 0.0
    except OverflowError:
        return 0.0


# The percent format, as far as our own notebooks use it.

_MARK = re.compile(r"^# %%(?P<markdown> \[markdown\])?(?P<rest>.*)$")
_KEY = re.compile(r"\s*(?P<key>[A-Za-z_]\w*)=")


def read_percent(text: str, file: str = "notebook.py") -> list[Cell]:
    """The cells of a notebook written as a Python file.

    Raises:
        CourseBroken: a cell's heading cannot be read.
    """
    cells: list[Cell] = []
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines) if _MARK.match(line)]
    for number, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        match = _MARK.match(lines[number])
        assert match
        metadata = _heading(match["rest"], f"{file}, line {number + 1}")
        body = lines[number + 1 : end]
        if match["markdown"]:
            body = [line.removeprefix("#").removeprefix(" ") for line in body]
        cells.append(_with_metadata("markdown" if match["markdown"] else "code", "\n".join(body).strip("\n"), metadata))
    return cells


def _heading(rest: str, place: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    decoder = json.JSONDecoder()
    while rest.strip():
        key = _KEY.match(rest)
        if not key:
            message = f"{place}: expected key=JSON after the cell mark, got {rest.strip()[:60]!r}."
            raise CourseBroken(message)
        try:
            metadata[key["key"]], end = decoder.raw_decode(rest, key.end())
        except ValueError as error:
            message = f"{place}: {key['key']}= is not followed by JSON."
            raise CourseBroken(message) from error
        rest = rest[end:]
    return metadata


def read_percent_file(path: Path) -> list[Cell]:
    """As `read_percent`, from a file."""
    return read_percent(path.read_text(encoding="utf-8"), str(path))


def cleared(cell: Cell) -> Cell:
    """The cell as a student gets it: each solution region replaced by nbgrader's stub."""
    if not cell.solution:
        return cell
    if cell.kind == "markdown":
        return replace(cell, source="YOUR ANSWER HERE")
    kept: list[str] = []
    inside = False
    for line in cell.source.split("\n"):
        if "BEGIN SOLUTION" in line:
            inside = True
            indent = line[: len(line) - len(line.lstrip())]
            kept += [indent + stub for stub in STUB]
        elif "END SOLUTION" in line:
            inside = False
        elif not inside:
            kept.append(line)
    return replace(cell, source="\n".join(kept))


def to_ipynb(cells: Iterable[Cell]) -> bytes:
    """A notebook file of these cells, as Jupyter would save it. For making submissions of them."""
    raw = []
    for number, cell in enumerate(cells):
        metadata: dict[str, Any] = {"tags": list(cell.tags)} if cell.tags else {}
        if cell.grade_id is not None:
            metadata["nbgrader"] = {
                "grade": cell.grade, "grade_id": cell.grade_id, "locked": cell.locked, "schema_version": 3,
                "solution": cell.solution, "task": False, **({"points": cell.points} if cell.grade else {}),
            }  # fmt: skip
        one: dict[str, Any] = {"cell_type": cell.kind, "id": f"c{number}", "metadata": metadata, "source": cell.source}
        raw.append(one | ({"execution_count": None, "outputs": []} if cell.kind == "code" else {}))
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook = {"cells": raw, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False).encode()
