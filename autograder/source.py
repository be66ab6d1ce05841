"""The middle step of a release: solutions/<a>/notebook.py -> build/source/<a>/<a>.ipynb, by jupytext.

This is nbgrader's source folder. It is never edited and never committed: `refresh_sources` writes what is out of date,
and nbgrader_config.py calls it, so that nbgrader's own commands work in a fresh clone. The same notebook must give the
same bytes everywhere: cell ids are made of what is in the cells, not drawn at random.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from nbformat import NotebookNode

from autograder import nodes
from autograder.assignment import Assignment, assignments, read_assignment
from autograder.errors import CourseBroken


def source(assignment: Assignment) -> NotebookNode:
    """The assignment as nbgrader's source notebook: everything in it, and nothing that differs from run to run.

    Raises:
        CourseBroken: jupytext reads other cells than we do.
    """
    import jupytext  # type: ignore[import-untyped]  # noqa: PLC0415 - slow, and needed only where something changed

    file = assignment.folder / "notebook.py"
    notebook = jupytext.reads(file.read_text(encoding="utf-8"), fmt="py:percent")
    _same_cells(assignment, notebook)
    made, taken = [], set[str]()
    for one in notebook.cells:
        kept = {key: one.metadata[key] for key in ("nbgrader", "tags") if one.metadata.get(key)}
        cell = nodes.cell(one.cell_type, one.source, kept)
        cell["id"] = _cell_id(cell, taken)
        made.append(cell)
    return nodes.notebook(made)


def _same_cells(assignment: Assignment, notebook: NotebookNode) -> None:
    file = assignment.folder / "notebook.py"
    theirs = [_facts(cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]
    ours = [
        (cell.kind, cell.source, cell.grade_id, cell.grade, cell.solution, cell.locked, cell.points, cell.tags)
        for cell in assignment.cells
    ]
    for number, (mine, yours) in enumerate(zip(ours, theirs, strict=False), start=1):
        if mine != yours:
            what = next(f"{left!r} against {right!r}" for left, right in zip(mine, yours, strict=True) if left != right)
            message = f"{file}: jupytext reads cell {number} otherwise than grading: {what[:400]}. Write it plainly."
            raise CourseBroken(message)
    if len(ours) != len(theirs):
        message = f"{file}: jupytext reads {len(theirs)} cells, grading {len(ours)}. Does text stand before the first?"
        raise CourseBroken(message)


def _facts(kind: str, text: str, metadata: NotebookNode) -> tuple[object, ...]:
    labels = metadata.get("nbgrader", {})
    return (
        kind, text, labels.get("grade_id"), labels.get("grade", False), labels.get("solution", False),
        labels.get("locked", False), float(labels.get("points", 0)), tuple(metadata.get("tags", ())),
    )  # fmt: skip


def _cell_id(cell: NotebookNode, taken: set[str]) -> str:
    """A label of its own where the cell has one, else made of its text: the same on every machine."""
    label = cell.metadata.get("nbgrader", {}).get("grade_id")
    digest = hashlib.sha256(cell.source.encode()).hexdigest()
    stem = re.sub(r"[^A-Za-z0-9_-]", "-", label)[:48] if label else f"cell-{digest[:8]}"
    number, chosen = 1, stem
    while chosen in taken:
        number += 1
        chosen = f"{stem}-{number}"
    taken.add(chosen)
    return chosen


def refresh_sources(root: Path) -> None:
    """Bring build/source/ up to date. Quick where it is; quiet about an assignment that is being written.

    Called from nbgrader_config.py, and so by every command of nbgrader.
    """
    for name in assignments(root / "solutions"):
        try:
            refresh(root, name)
        except CourseBroken:  # the author hears of it from `release`; the other assignments must go on
            _source_path(root, name).unlink(missing_ok=True)


def refresh(root: Path, name: str) -> Path:
    """Write build/source/<name>/<name>.ipynb unless it was made of the notebook as it is, and give its path.

    Raises:
        CourseBroken: the notebook cannot be read.
    """
    path = _source_path(root, name)
    written = (root / "solutions" / name / "notebook.py").stat().st_mtime_ns
    if not path.is_file() or path.stat().st_mtime_ns != written:
        write(path, nodes.dumps(source(read_assignment(root / "solutions" / name))))
        os.utime(path, ns=(written, written))
    return path


def _source_path(root: Path, name: str) -> Path:
    return root / "build" / "source" / name / f"{name}.ipynb"


def write(path: Path, data: bytes) -> None:
    """Whole or not at all: a reader never meets half a notebook."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    Path(part).chmod(0o644)
    Path(part).replace(path)
