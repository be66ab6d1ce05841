"""Releases: the same bytes each time, by either command, with nothing of the solution; and clear words where it fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.errors import CourseBroken

pytest.importorskip("nbgrader", reason="nbgrader is not installed")

from autograder import release
from autograder.source import refresh, refresh_sources

ROOT = Path(__file__).resolve().parents[1]
FILES = Path(__file__).parent / "small_course"


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course with one small assignment."""
    folder = tmp_path / "course" / "solutions" / "small"
    folder.mkdir(parents=True)
    for file in FILES.glob("*.txt"):
        (folder / file.stem).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path / "course"


def edit(course: Path, file: str, old: str, new: str) -> None:
    """Change one thing in the assignment."""
    path = course / "solutions" / "small" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def nbgrader(course: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of nbgrader's own commands in a course."""
    (course / "nbgrader_config.py").write_text((ROOT / "nbgrader_config.py").read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "nbgrader", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_twice_gives_the_same_bytes_and_check_sees_drift(course: Path) -> None:
    """The release is a function of solutions/."""
    path = release.release(course, "small")
    first = path.read_bytes()
    assert release.check(course, ["small"]) == []
    assert release.release(course, "small").read_bytes() == first
    edit(course, "notebook.py", "# # A small assignment", "# # A small, changed assignment")
    [message] = release.check(course, ["small"])
    assert "small.ipynb" in message
    assert path.read_bytes() == first
    path.unlink()
    assert "is missing" in release.check(course, ["small"])[0]


def test_check_sees_what_comes_from_nowhere(course: Path) -> None:
    """A folder whose assignment was renamed is no release any more."""
    release.release(course, "small")
    (course / "assignments" / "small").rename(course / "assignments" / "old")
    assert len(release.check(course, [])) == 1


def test_the_released_notebook(course: Path) -> None:
    """Stubs, no answers, clean metadata, ids that say what the cell is."""
    text = release.release(course, "small").read_text(encoding="utf-8")
    notebook = json.loads(text)
    cells = {cell["id"]: cell for cell in notebook["cells"]}
    assert "".join(cells["double"]["source"]).endswith("    # YOUR CODE HERE\n    raise NotImplementedError()")
    assert "".join(cells["written_small"]["source"]) == "YOUR ANSWER HERE"
    assert cells["test_double"]["metadata"]["nbgrader"]["points"] == 40
    assert cells["test_double"]["metadata"]["editable"] is False
    assert "result_of_doubling" not in text
    assert "The caller must decide" not in text
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert {"cell_type", "id", "metadata", "source"} <= set(notebook["cells"][0])
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in cells)
    assert len(cells) == len(notebook["cells"])


def test_nbgraders_own_command_gives_the_same_file(course: Path) -> None:
    """In a fresh clone, and where the release is there already; then the gradebook knows the assignment."""
    expected = release.released(course, "small")
    path = course / "assignments" / "small" / "small.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text("an older release")
    done = nbgrader(course, "generate_assignment", "small")
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == expected
    assert (course / "gradebook.db").is_file()


def test_nbgraders_own_command_refuses_a_broken_assignment(course: Path) -> None:
    """The checks of `release` hold there, too."""
    edit(course, "test_hidden.py", '@task("mean", weight=4)', '@task("median", weight=4)')
    done = nbgrader(course, "generate_assignment", "small")
    assert done.returncode != 0
    assert "which is no task of the notebook" in done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("notebook.py", '"points": 40', '"points": 30', "sum to 80; they must sum to 90"),
        ("notebook.py", '"points": 10', '"points": 5', "a markdown cell 'written_small', 10 points"),
        ("notebook.py", '"grade_id": "test_double"', '"grade_id": "check_double"', "must be its test cell 'test_double'"),
        ("notebook.py", '"grade_id": "test_mean"', '"grade_id": "test_double"', "'test_double' stands 2 times"),
        ("notebook.py", "    ### END SOLUTION\n\n# %% nb", "\n# %% nb", "END SOLUTION is missing"),
        ("notebook.py", "# %% [markdown]\n# ## The mean", "# %%\n### BEGIN SOLUTION\n### END SOLUTION", "is no solution cell"),
        ("notebook.py", "print([double", "# %time\nprint([double", "jupytext reads cell"),
        ("test_hidden.py", '@task("mean", weight=4)', '@task("median", weight=4)', "judges 'median'"),
        ("test_hidden.py", 'needs="test_mean_values"', 'needs="test_double_values"', "no earlier test of 'mean'"),
        ("test_hidden.py", '@task("double", weight=3)', "", "needs @task"),
        ("test_hidden.py", "def test_mean_empty", "def test_mean_values", "is defined 2 times"),
        ("test_hidden.py", 'NOT_ALLOWED = {"mean"', 'NOT_ALLOWED = {"mode"', "NOT_ALLOWED names 'mode'"),
        ("test_hidden.py", "from hypothesis import given", "import nowhere_to_be_found", "cannot be run"),
        ("misconceptions.py", '@battery("mean")', '@battery("median")', "the task 'mean' has no battery"),
        ("misconceptions.py", '@misconception(task="mean"', '@misconception(task="median"', "only_summed is of the task 'median'"),
    ],
)
def test_what_does_not_fit_is_named(course: Path, file: str, old: str, new: str, message: str) -> None:
    """The file, the cell or test, and what to change."""
    edit(course, file, old, new)
    with pytest.raises(CourseBroken, match=re.escape(message)) as caught:
        release.release(course, "small")
    assert str(course / "solutions" / "small" / file) in str(caught.value)
    assert not (course / "assignments").exists()


def test_sources_are_refreshed_when_solutions_change(course: Path) -> None:
    """And only then; an assignment that cannot be read yet does not stand in the way of the others."""
    path = refresh(course, "small")
    made = path.stat().st_ino
    refresh_sources(course)
    assert path.stat().st_ino == made
    edit(course, "notebook.py", "# # A small assignment", "# # Another title")
    refresh_sources(course)
    assert "Another title" in path.read_text(encoding="utf-8")
    edit(course, "notebook.py", '"grade": true, "grade_id": "test_mean"', 'grade: true, "grade_id": "test_mean"')
    refresh_sources(course)
    assert not path.exists()
