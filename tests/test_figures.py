"""The figures of the README come from one file, and that file is of the bank as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autograder import figures
from autograder.assignment import read_assignment
from autograder.diagnosis import read_bank
from autograder.figures import Figures

ROOT = Path(__file__).resolve().parents[1]


def test_the_readme_shows_the_file() -> None:
    """Word for word: nobody types a figure."""
    assert figures.table(figures.read(ROOT)) in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in (ROOT / "solutions").glob("*/notebook.py")))
def test_the_whole_table_was_run_on_these_files(name: str) -> None:
    """With no survivor, no victim, and nothing unnamed. If not: `autograder strength NAME --record`."""
    assignment, found = read_assignment(ROOT / "solutions" / name), figures.read(ROOT)[name]
    bank = read_bank(assignment.folder / "misconceptions.py")
    assert found.of == figures.digest(assignment), f"measured of other files: run `autograder strength {name} --record`"
    assert found.lose == found.named == found.wrong == len(bank.misconceptions)
    assert found.keep == found.right == len(bank.honest) + 1
    assert found.date


def test_recording(tmp_path: Path) -> None:
    """What was found of one assignment is added to the rest, and the README follows."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"before\n{figures.BEGIN}\nold\n{figures.END}\nafter\n", encoding="utf-8")
    figures.record(tmp_path, "b", date="2030-01-02", wrong=3, lose=2, named=1, right=5, keep=4)
    figures.record(tmp_path, "a", mutants=10, killed=8, equivalent=2)
    figures.record(tmp_path, "b", seeds=200, answers=1000, victims=0)
    found = figures.read(tmp_path)
    assert list(found) == ["a", "b"]
    assert found["b"] == Figures("2030-01-02", 3, 2, 1, 5, 4, seeds=200, answers=1000, victims=0)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert page.startswith("before\n")
    assert page.endswith("\nafter\n")
    assert "| b | 2 of 3 | 1 of 3 | 4 of 5 | not measured | 1000 of 1000 lose none, 200 seeds | 2030-01-02 |" in page
    assert "8 of 10; 2 are no mistakes" in page
    assert "2 of 3 wrong answers lose" in figures.sentence({"b": found["b"]})


def test_what_is_no_record(tmp_path: Path) -> None:
    """Nothing recorded is nothing said; a figure that nobody knows is an error."""
    assert figures.read(tmp_path) == {}
    assert "has not been measured" in figures.sentence({})
    (tmp_path / "docs").mkdir()
    (tmp_path / figures.FILE).write_text(json.dumps({"a": {"kill_rate": 1}}), encoding="utf-8")
    with pytest.raises(ValueError, match="kill_rate"):
        figures.read(tmp_path)
