"""Coverage-guided fuzzing of what is read from a student's file. A longer run by hand; its findings become tests.

    pip install '.[fuzz]'
    python tests/fuzz/fuzz_notebook.py -max_total_time=600 build/fuzz/notebook

Whatever the bytes: cells and a submission that can be written down, or a NotebookUnreadable with a word to the student.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["autograder.notebook", "autograder.assignment", "autograder.shortcuts", "autograder.names", "json"]):
    from autograder.assignment import read_assignment, submission
    from autograder.errors import NotebookUnreadable
    from autograder.notebook import cleared, read_ipynb, to_ipynb
    from autograder.shortcuts import find_shortcuts

TOY = read_assignment(Path(__file__).resolve().parents[1] / "toy_course" / "solutions" / "toy")
BANNED = {"softmax": ("softmax", "Softmax*", "logsumexp")}


def read(data: bytes) -> None:
    """One input."""
    try:
        cells = read_ipynb(data)
    except NotebookUnreadable:
        return
    work = submission(TOY, cells)
    assert work.digest.startswith("sha256:")
    for found in find_shortcuts(work.cells, BANNED, ["softmax"]).values():
        assert found.message


if __name__ == "__main__":
    folders = [Path(name) for name in sys.argv[1:] if not name.startswith("-")]
    for folder in folders[:1]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "filled").write_bytes(to_ipynb(TOY.cells))
        (folder / "released").write_bytes(to_ipynb(cleared(cell) for cell in TOY.cells))
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
