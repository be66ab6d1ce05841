"""Reading notebooks: every damage that really happens still gives the student's cells, or a kind word."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograder.assignment import Assignment, read_assignment, submission
from autograder.errors import CourseBroken, NotebookUnreadable
from autograder.notebook import Cell, cleared, read_ipynb, read_percent, to_ipynb

ROOT = Path(__file__).resolve().parents[1]
SOLUTIONS = sorted((ROOT / "solutions").glob("*/notebook.py"))


@pytest.fixture(scope="module")
def toy() -> Assignment:
    """The small assignment of the tests."""
    return read_assignment(ROOT / "tests" / "toy_course" / "solutions" / "toy")


def test_cells_survive_writing_and_reading(toy: Assignment) -> None:
    """`to_ipynb` and `read_ipynb` are each other's inverse."""
    assert tuple(read_ipynb(to_ipynb(toy.cells))) == toy.cells


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.parent.name)
def test_our_reader_and_jupytext_read_the_same_cells(path: Path) -> None:
    """The oracle is jupytext, which releases are made with."""
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    theirs = jupytext.read(path)
    ours = read_percent(path.read_text(encoding="utf-8"))
    assert [(cell.kind, cell.source) for cell in ours] == [(cell.cell_type, cell.source) for cell in theirs.cells]
    assert [cell.grade_id for cell in ours] == [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in theirs.cells]
    assert [list(cell.tags) for cell in ours] == [cell.metadata.get("tags", []) for cell in theirs.cells]


def test_a_heading_that_cannot_be_read_names_file_and_line() -> None:
    """The author of an assignment is told where."""
    with pytest.raises(CourseBroken, match=r"notebook.py, line 1: .*'title'"):
        read_percent("# %% title\nx = 1")
    with pytest.raises(CourseBroken, match="nbgrader= is not followed by JSON"):
        read_percent("# %% nbgrader={grade: 1}\n")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"\x89PNG\r\n", "no notebook"),
        (b"[" * 100_000, "no notebook"),
        (b"[1, 2]", "no cells"),
        (b'{"cells": 3}', "no cells"),
        (b'{"worksheets": [3]}', None),
        ('{"cells": []}'.encode("utf-16"), "no notebook"),
        (json.dumps({"cells": [{}] * 5000}).encode(), "5000 cells"),
    ],
)
def test_what_is_no_notebook_is_said_kindly(data: bytes, word: str | None) -> None:
    """Each with its own sentence, and no traceback."""
    if word is None:
        assert read_ipynb(data) == []
        return
    with pytest.raises(NotebookUnreadable, match=word):
        read_ipynb(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["cells", "cell_type", "source", "metadata", "nbgrader", "grade_id", "tags", "points", "grade"]), inner
    ),
    max_leaves=15,
)


@given(st.lists(JSON, max_size=4))
def test_any_json_in_the_cells_is_read(cells: list[object]) -> None:
    """Wrong types anywhere are passed over."""
    for cell in read_ipynb(json.dumps({"cells": cells}).encode()):
        assert isinstance(cell, Cell)


def test_an_old_notebook_format_is_read(toy: Assignment) -> None:
    """Format 3 kept cells in worksheets and called a code cell's text `input`."""
    cells = [
        {"cell_type": "code", "input": ["x = 1\n", "y = 2"], "metadata": {"nbgrader": {"grade_id": "softmax", "solution": True}}}
    ]
    (cell,) = read_ipynb(json.dumps({"worksheets": [{"cells": cells}], "nbformat": 3}).encode())
    assert (cell.source, cell.grade_id) == ("x = 1\ny = 2", "softmax")
    assert ("softmax", "x = 1\ny = 2") in submission(toy, [cell]).cells


def test_a_solution_region_becomes_the_stub() -> None:
    """As nbgrader does it, at the indentation of the region."""
    source = "def f():\n    a = 1\n    ### BEGIN SOLUTION\n    b = 2\n    ### END SOLUTION\n    return a"
    wanted = "def f():\n    a = 1\n    # YOUR CODE HERE\n    raise NotImplementedError()\n    return a"
    assert cleared(Cell("code", source, "f", solution=True)).source == wanted
    assert cleared(Cell("code", source, None)).source == source


def names(work: object) -> list[str]:
    return [name for name, _ in work.cells]  # type: ignore[attr-defined]


def test_the_filled_notebook_runs_given_and_solution_cells_but_no_test(toy: Assignment) -> None:
    """Nothing to say about it."""
    work = submission(toy, toy.filled())
    assert names(work) == ["imports", "softmax"]
    assert work.notes == ()
    assert not work.unfilled


def test_an_untouched_stub_counts_as_unfilled(toy: Assignment) -> None:
    """It runs as the stub that it is."""
    work = submission(toy, toy.released)
    assert names(work) == ["imports", "softmax"]
    assert "NotImplementedError" in work.cells[-1][1]
    assert work.unfilled == {"softmax"}


def softmax_cell(toy: Assignment) -> Cell:
    return next(cell for cell in toy.cells if cell.is_task)


def test_of_two_copies_both_run_and_the_last_counts(toy: Assignment) -> None:
    """And the student is told."""
    cell = softmax_cell(toy)
    work = submission(toy, [*toy.cells, replace(cell, source="softmax = 2")])
    assert [source for name, source in work.cells if name == "softmax"] == [cell.source, "softmax = 2"]
    assert work.notes == ("The cell `softmax` stands twice; the last one that runs is graded.",)


def test_a_copy_of_the_stub_does_not_undo_the_work(toy: Assignment) -> None:
    """Whichever stands last."""
    work = submission(toy, [*toy.cells, cleared(softmax_cell(toy))])
    assert [source for name, source in work.cells if name == "softmax"] == [softmax_cell(toy).source]


def test_work_in_a_cell_that_lost_its_label_still_runs(toy: Assignment) -> None:
    """As an own cell of the student's, in its place."""
    cells = [replace(cell, grade_id=None) if cell.is_task else cell for cell in toy.cells]
    work = submission(toy, cells)
    assert softmax_cell(toy).source in [source for _, source in work.cells]
    assert work.notes == ("The cell `softmax` is missing, or has lost its label.",)


def test_a_solution_turned_to_text_is_run_as_code(toy: Assignment) -> None:
    """Jupyter turns a cell to Markdown with one key."""
    cells = [replace(cell, kind="markdown") if cell.is_task else cell for cell in toy.cells]
    assert "softmax" in names(submission(toy, cells))


def test_labels_edited_by_the_student_change_nothing(toy: Assignment) -> None:
    """Points, locks and tags are the course's."""
    cells = [replace(cell, points=99.0, locked=not cell.locked, tags=("long", "skip-execution")) for cell in toy.cells]
    assert names(submission(toy, cells)) == ["imports", "softmax"]


def test_given_cells_run_first_wherever_the_student_moved_them(toy: Assignment) -> None:
    """And are put back where deleted."""
    assert names(submission(toy, list(reversed(toy.cells)))) == ["imports", "softmax"]
    without = submission(toy, [cell for cell in toy.cells if not cell.is_given])
    assert names(without) == ["imports", "softmax"]
    assert without.notes == ("The given cell `imports` is missing; it was put back.",)


def test_what_a_student_adds_to_a_given_cell_runs_before_the_original(toy: Assignment) -> None:
    """An import added there is honest work; what the course gives still holds."""
    cells = [replace(cell, source=cell.source + "\nimport numpy as np") if cell.is_given else cell for cell in toy.cells]
    work = submission(toy, cells)
    assert "import numpy as np" in work.cells[0][1]
    assert work.cells[1][0] == "imports"
    assert len(work.notes) == 1


def test_own_cells_run_but_not_those_tagged_long(toy: Assignment) -> None:
    """In the student's order."""
    cells = [Cell("code", "helper = 1"), *toy.cells, Cell("code", "train()", tags=("long",)), Cell("markdown", "hello")]
    assert names(submission(toy, cells)) == ["imports", "cell 1", "softmax"]


def test_the_digest_depends_on_the_students_text_only(toy: Assignment) -> None:
    """Outputs, cell ids and labels do not make another submission."""
    again = [replace(cell, tags=("x",), points=3.0) for cell in toy.cells]
    assert submission(toy, again).digest == submission(toy, toy.cells).digest
    other = [replace(cell, source=cell.source + "\n# one more") if cell.is_task else cell for cell in toy.cells]
    assert submission(toy, other).digest != submission(toy, toy.cells).digest


def test_work_beside_an_untouched_stub_counts(toy: Assignment) -> None:
    """Written into a cell of one's own: the stub runs before it."""
    own = Cell("code", softmax_cell(toy).source)
    assert names(submission(toy, [*toy.released, own])) == ["imports", "softmax", "cell 5"]
