"""As a user would: the command line on released and filled notebooks, and a class with every damage that really happens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autograder.assignment import assignments, read_assignment
from autograder.classroom import Classroom, HandIn
from autograder.diagnosis import read_bank
from autograder.grader import Grader, Options
from autograder.notebook import to_ipynb
from autograder.report import Report

ROOT = Path(__file__).resolve().parents[1]
SOLUTIONS = ROOT / "solutions"


def autograder(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command line, at whatever isolation this machine offers."""
    return subprocess.run(
        [sys.executable, "-m", "autograder", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nbgrader's layout: one student hands in every notebook as released, another every one filled."""
    folder = tmp_path_factory.mktemp("submitted")
    for name in assignments(SOLUTIONS):
        released = (ROOT / "assignments" / name / f"{name}.ipynb").read_bytes()
        filled = to_ipynb(read_assignment(SOLUTIONS / name).filled())
        for student, data in (("empty", released), ("full", filled)):
            place = folder / student / name
            place.mkdir(parents=True)
            (place / f"{name}.ipynb").write_bytes(data)
    return folder


def test_released_notebooks_get_nothing_and_filled_ones_everything(handed_in: Path) -> None:
    """All assignments in one command; one JSON line a notebook; exit status 0."""
    done = autograder("grade", str(handed_in), "--format", "json", "--isolation", "none", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(reports) == 2 * len(assignments(SOLUTIONS))
    for report in reports:
        assert report["status"] == "graded"
        assert report["max_score"] == 90.0
        wanted = 90.0 if report["student"] == "full" else 0.0
        assert report["score"] == wanted, (report["assignment"], report["student"], report["notes"])
        if wanted:
            assert {task["status"] for task in report["tasks"]} == {"pass"}
            assert report["notes"] == []


def test_a_package_installed_elsewhere_finds_the_course(handed_in: Path, tmp_path: Path) -> None:
    """As after `pip install .`: data/ stands in the course's folder, and not beside the package."""
    shutil.copytree(ROOT / "autograder", tmp_path / "site" / "autograder", ignore=shutil.ignore_patterns("__pycache__"))
    notebook = handed_in / "full" / "tokenizer" / "tokenizer.ipynb"
    command = [sys.executable, "-P", "-m", "autograder", "grade", str(notebook), "--format", "json", "--isolation", "none"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["score"] == 90.0


@pytest.mark.parametrize("arguments", [["grade"], ["grade", "nowhere.ipynb"], ["grade", ".", "--jobs", "0"], ["nothing"]])
def test_bad_arguments_end_with_status_2_and_one_line(arguments: list[str], tmp_path: Path) -> None:
    """And no traceback."""
    done = autograder(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    """Without a cache, so that grading twice is grading twice."""
    with Grader(SOLUTIONS, Options(isolation="none")) as one:
        yield one


ATTENTION = read_assignment(SOLUTIONS / "attention")
DAMAGED = list(Classroom(ATTENTION, read_bank(ATTENTION.folder / "misconceptions.py")).damaged())
LAST = ATTENTION.tasks[-1].points
FIRST = ATTENTION.tasks[0].points
UNREADABLE = None
# What each hand-in gets: honest work keeps its points whatever happened to the file, wrong work gains nothing.
SCORES = {
    "syntax error": 90 - LAST,
    "raises when imported": 90,
    "endless loop": 90 - LAST,
    "crashes the interpreter": 90 - LAST,
    "runs out of memory": 90 - LAST,
    "leaves with sys.exit": 90 - LAST,
    "leaves with os._exit in a cell": 90,
    "a cell twice": 90,
    "a cell twice, the copy unfilled": 90,
    "a solution cell deleted": 90 - LAST,
    "given and test cells deleted": 90,
    "a cell renamed": 90,
    "labels lost": 90,
    "tags that skip everything": 90,
    "a solution turned to text": 90,
    "points edited, answer wrong": 90 - FIRST,
    "an old notebook schema": 90,
    "an empty file": UNREADABLE,
    "not a notebook": UNREADABLE,
    "forged outputs": 90 - FIRST,
    "a patched torch.allclose": 90 - FIRST,
}


def test_every_damage_has_its_score_here() -> None:
    """And the class of the demo is large enough."""
    assert {one.what for one in DAMAGED} == set(SCORES)
    assert len(list(Classroom(ATTENTION, read_bank(ATTENTION.folder / "misconceptions.py")).everything())) >= 30


@pytest.mark.parametrize("one", DAMAGED, ids=lambda one: one.what.replace(" ", "-"))
def test_damage_ends_in_a_fair_report(grader: Grader, one: HandIn) -> None:
    """Graded, or ungraded with a reason."""
    report = grader.grade(one.data, assignment="attention", student="ada")
    wanted = SCORES[one.what]
    if wanted is UNREADABLE:
        assert report.status == "ungraded"
        assert report.notes
    else:
        assert (report.status, report.score) == ("graded", wanted)


def secrets() -> list[str]:
    """Lines of the hidden tests and of the reference that no student has seen."""
    lines = (ATTENTION.folder / "test_hidden.py").read_text().splitlines()
    hidden = [line.strip() for line in lines if "assert_close(" in line or line.strip().startswith(("@given", "@task"))]
    return [line for line in hidden if len(line) > 25]


def test_the_same_notebook_gives_the_same_report_and_no_secret(grader: Grader) -> None:
    """Byte for byte, apart from the time; in the sandbox."""
    wrong = {task.name: f"def {task.name}(*args, **kwargs):\n    return args[0]" for task in ATTENTION.tasks}
    notebook = to_ipynb(ATTENTION.filled(wrong))

    def text(report: Report) -> str:
        return replace(report, seconds=0.0).to_json()

    one, two = (text(grader.grade(notebook, assignment="attention")) for _ in range(2))
    assert one == two
    assert secrets()
    assert not [line for line in secrets() if line in one]
    assert "test_hidden.py" not in one
    assert "Traceback" not in one
