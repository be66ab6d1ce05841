"""What is kept in build/ is never out of date, never trusted further than its kind, and never needed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from autograder import diagnosis, kept
from autograder.assignment import Assignment, read_assignment
from autograder.compare import same

HERE = Path(__file__).resolve().parent
WRONG = "def softmax(x, dim=-1):\n    return x.exp() / x.exp().sum(dim, keepdim=True)"


@pytest.fixture
def toy(tmp_path: Path) -> Assignment:
    """The small assignment, in a course of its own."""
    return read_assignment(shutil.copytree(HERE / "toy_course" / "solutions" / "toy", tmp_path / "solutions" / "toy"))


def known(assignment: Assignment) -> list[str]:
    return [item.id for item, _ in diagnosis.Doctor(assignment)._known("softmax")]


def never(self: diagnosis.Doctor, task: str) -> dict[str, list[object]]:
    pytest.fail(f"computed {task} again")


def test_the_answers_of_the_bank_are_computed_once(
    toy: Assignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second doctor, as in another process, reads what the first one kept."""
    first = known(toy)
    assert len(first) > 1
    assert len([*(tmp_path / "build" / "bank").iterdir()]) == 1
    monkeypatch.setattr(diagnosis.Doctor, "_computed", never)
    assert known(toy) == first


def test_another_bank_has_other_answers(toy: Assignment) -> None:
    """A mistake that is new is known at once."""
    first = known(toy)
    bank = toy.folder / "misconceptions.py"
    more = f'@misconception(task="softmax", advice="Look again.")\ndef brand_new(source):\n    """It is new."""\n    return {WRONG.replace("exp()", "exp2()")!r}\n'
    bank.write_text(f"{bank.read_text()}\n\n{more}")
    assert known(read_assignment(toy.folder)) == [*first, "brand_new"]


@pytest.mark.parametrize(
    ("file", "was", "now"),
    [
        ("notebook.py", "### END SOLUTION", "# other\n    ### END SOLUTION"),
        ("test_hidden.py", "", "OTHER = 1  # a battery may take its questions from here\n"),
    ],
)
def test_another_course_has_other_answers(
    toy: Assignment, monkeypatch: pytest.MonkeyPatch, file: str, was: str, now: str
) -> None:
    """A changed reference is asked anew, and so is it where the hidden tests have changed."""
    known(toy)
    changed = toy.folder / file
    text = changed.read_text()
    changed.write_text(text.replace(was, now, 1) if was else text + now)
    monkeypatch.setattr(diagnosis.Doctor, "_computed", never)
    with pytest.raises(pytest.fail.Exception):
        known(read_assignment(toy.folder))


def test_a_torn_file_is_written_anew(toy: Assignment, tmp_path: Path) -> None:
    """As a full disk leaves it."""
    first = known(toy)
    [file] = (tmp_path / "build" / "bank").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert known(toy) == first
    assert kept.read_values(file, also=(diagnosis.Raised,)) is not None


class Hostile:
    """Reading it back with plain pickle would make a file."""

    def __init__(self, file: Path) -> None:
        """`file`: what shall never be there."""
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)


def test_reading_runs_nothing(tmp_path: Path) -> None:
    """Whoever can write into build/ cannot make the grader run code."""
    kept.write_values(tmp_path / "one.pt", [Hostile(tmp_path / "ran")])
    assert kept.read_values(tmp_path / "one.pt", also=()) is None
    assert not (tmp_path / "ran").exists()


def test_no_folder_is_needed(toy: Assignment, tmp_path: Path) -> None:
    """A course on a disk that cannot be written is graded all the same."""
    (tmp_path / "build").write_text("a file where the folder should be")
    assert known(toy)


@pytest.mark.parametrize("name", ["attention", "embeddings", "tokenizer", "gpt", "training"])
def test_all_kinds_of_answers_can_be_read_back(name: str, tmp_path: Path) -> None:
    """Those of the reference: tensors of every type, text, bytes, errors."""
    assignment = read_assignment(HERE.parent / "solutions" / name)
    doctor, reference = diagnosis.Doctor(assignment), diagnosis.notebook(assignment.reference_cells())
    for task, battery in doctor.bank.batteries.items():
        right = diagnosis.answers(reference, battery)
        path = tmp_path / "answers.pt"
        kept.write_values(path, right)
        back = kept.read_values(path, also=diagnosis.IN_ANSWERS)
        assert same(back, right), task
