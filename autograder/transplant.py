"""A student's work in the notebook that was released: of the file they handed in only text survives.

The cells, their labels, points and order are the course's. From the student come the sources of solution cells, the
written answers and cells of their own; no metadata, outputs, tags, attachments or cell ids. So no damage or forgery in
the file can reach nbgrader, and what is shown is what is graded: the choices are those of
`autograder.assignment.submission`.
"""

from __future__ import annotations

from collections.abc import Sequence

from nbformat import NotebookNode
from nbgrader.utils import compute_checksum  # type: ignore[import-untyped]

from autograder import nodes
from autograder.assignment import Assignment
from autograder.notebook import MAX_BYTES, Cell
from autograder.render.clean import clean

# What is shown is cut, so that a page of it can still be made; what is graded is not.
SHOWN_CODE, SHOWN_TEXT = 60_000, 12_000
SHOWN_IN_ALL, COSTS_OF_A_CELL = 400_000, 1_000
CUT = "\n\n# … the rest is not shown here; what was handed in is graded whole."


def transplant(assignment: Assignment, cells: Sequence[Cell]) -> NotebookNode:
    """The released notebook with a student's sources in it; the student's own cells behind the cell they followed."""
    chosen = _chosen(assignment, cells)
    own = _own(assignment, cells, frozenset(chosen.values()))
    made = list(own.get(-1, []))
    for place, ours in enumerate(assignment.released):
        text = cells[chosen[str(ours.grade_id)]].source if ours.grade_id in chosen else None
        made += [_released(ours, text), *own.get(place, [])]
    for number, cell in enumerate(made):
        cell["id"] = f"c{number}"
    return nodes.notebook(made)


def is_untouched(cell: NotebookNode) -> bool:
    """Nothing was written into this solution cell."""
    return bool(compute_checksum(cell) == cell.metadata.nbgrader.get("checksum"))


def _chosen(assignment: Assignment, cells: Sequence[Cell]) -> dict[str, int]:
    """Label -> which of the student's cells counts: the last that is neither empty nor the stub."""
    open_cells = {cell.grade_id: cell for cell in assignment.released if cell.grade_id and cell.solution}
    return {
        str(cell.grade_id): number
        for number, cell in enumerate(cells)
        if cell.grade_id in open_cells and cell.source.strip() not in ("", open_cells[cell.grade_id].source.strip())
    }


def _own(assignment: Assignment, cells: Sequence[Cell], chosen: frozenset[int]) -> dict[int, list[NotebookNode]]:
    """The cells that the released notebook does not hold, or not with this text, by the place of the one they follow.

    An edited test cell is not among them: it is not run, and ours stands there.
    """
    labelled = {cell.grade_id: place for place, cell in enumerate(assignment.released) if cell.grade_id}
    bare = {cell.source.strip(): place for place, cell in enumerate(assignment.released)}
    own: dict[int, list[NotebookNode]] = {}
    place, left = -1, SHOWN_IN_ALL
    for number, cell in enumerate(cells):
        text = cell.source.strip()
        known = labelled.get(cell.grade_id or "", bare.get(text))
        place = place if known is None else known
        ours = assignment.released[place] if known is not None else None
        if number in chosen or not text or (ours is not None and (ours.is_test or ours.source.strip() == text)):
            continue
        shown = _bare(cell)
        left -= len(shown.source) + COSTS_OF_A_CELL
        if left > 0:
            own.setdefault(place, []).append(shown)
    return own


def _released(ours: Cell, text: str | None) -> NotebookNode:
    metadata: dict[str, object] = {"tags": list(ours.tags)} if ours.tags else {}
    if ours.grade_id is not None:
        metadata["nbgrader"] = {
            "grade": ours.grade, "grade_id": ours.grade_id, "locked": ours.locked, "schema_version": 3,
            "solution": ours.solution, "task": False, "cell_type": ours.kind,
            **({"points": ours.points} if ours.grade else {}),
        }  # fmt: skip
    cell = nodes.cell(ours.kind, ours.source, metadata)
    if ours.grade_id is not None:
        cell.metadata.nbgrader["checksum"] = compute_checksum(cell)  # of the untouched cell, as in the release
    if text is not None:
        cell.source = _shown(text, SHOWN_CODE if ours.kind == "code" else SHOWN_TEXT)
    return cell


def _bare(cell: Cell) -> NotebookNode:
    if cell.kind == "code":
        return nodes.cell("code", _shown(cell.source, SHOWN_CODE), {})
    text = _shown(cell.source, SHOWN_TEXT)
    if cell.kind == "raw":  # nbconvert would put its text into a page as it is
        text = "\n".join(f"    {line}" for line in text.split("\n"))
    return nodes.cell("markdown", text, {})


def _shown(text: str, limit: int) -> str:
    text = clean(text, MAX_BYTES)
    return text if len(text) <= limit else text[:limit] + CUT
