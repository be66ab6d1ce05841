"""What a killed `nbgrader autograde` has left: a folder that nbgrader takes for finished, and would skip."""

from __future__ import annotations

import json
from pathlib import Path

from autograder.folders import wipe


def remove(folder: Path, name: str) -> bool:
    """Remove a student's folder in autograded/ if grading did not come to its end there; gives whether it did so.

    name: the notebook's. Every notebook that was graded, or could not be, says so in the output of its test cells.
    """
    if not folder.is_dir() or folder.is_symlink() or _is_finished(folder / f"{name}.ipynb"):
        return False
    wipe(folder)
    folder.rmdir()
    return True


def _is_finished(notebook: Path) -> bool:
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        tests = [cell for cell in cells if cell["metadata"].get("nbgrader", {}).get("grade")]
        return any(cell.get("outputs") for cell in tests)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or torn
        return False
