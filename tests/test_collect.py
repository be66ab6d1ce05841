"""Finding what is to be graded: whose it is, which assignment, and that nobody goes missing."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest

from autograder import collect
from autograder.collect import Job, find_jobs
from autograder.errors import NotebookUnreadable
from autograder.notebook import Cell, to_ipynb

TASKS = {"attention": ("softmax", "heads"), "tokenizer": ("merge", "pair_counts")}


def notebook(assignment: str) -> bytes:
    """A notebook with the labels of that assignment."""
    return to_ipynb([Cell("code", "1", grade_id=name, solution=True) for name in TASKS[assignment]])


@pytest.fixture
def solutions(tmp_path: Path) -> Path:
    """A course of two assignments."""
    for name, tasks in TASKS.items():
        cells = [f'# %% nbgrader={{"grade": false, "grade_id": "{task}", "locked": false, "solution": true}}\npass\n' for task in ("imports", *tasks)]
        folder = tmp_path / "course" / "solutions" / name
        folder.mkdir(parents=True)
        (folder / "notebook.py").write_text("\n".join(cells))
    return tmp_path / "course" / "solutions"


def put(root: Path, files: dict[str, bytes]) -> Path:
    """A folder of these files."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def packed(path: Path, files: dict[str, bytes]) -> Path:
    """A zip of these files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def owners(jobs: list[Job]) -> list[tuple[str, str]]:
    """Student and assignment of each."""
    return [(job.student, job.assignment) for job in jobs]


@pytest.mark.parametrize("name", ["attention.ipynb", "ada_attention.ipynb", "attention (1).ipynb", "homework.ipynb"])
def test_one_notebook(tmp_path: Path, solutions: Path, name: str) -> None:
    """Its name tells, or its cells do."""
    path = put(tmp_path, {name: notebook("attention")}) / name
    (job,) = find_jobs(path, solutions)
    assert (job.student, job.assignment) == ("", "attention")
    assert job.read() == notebook("attention")


def test_one_notebook_that_tells_nothing(tmp_path: Path, solutions: Path) -> None:
    """The message says which option helps; with the option it is taken."""
    path = put(tmp_path, {"work.ipynb": b"{}"}) / "work.ipynb"
    with pytest.raises(NotebookUnreadable, match="--assignment NAME, one of attention, tokenizer"):
        find_jobs(path, solutions)
    assert owners(find_jobs(path, solutions, assignment="tokenizer")) == [("", "tokenizer")]
    with pytest.raises(NotebookUnreadable, match="There is no assignment 'atention'"):
        find_jobs(path, solutions, assignment="atention")


CLASS = {
    "ada/attention/attention.ipynb": notebook("attention"),
    "ada/tokenizer/tokenizer.ipynb": notebook("tokenizer"),
    "bob/attention/renamed.ipynb": notebook("attention"),
    "bob/attention/timestamp.txt": b"",
    "cy/attention/Untitled.ipynb": b"{}",
    "cy/attention/mine.ipynb": notebook("attention"),
    "cy/attention/.ipynb_checkpoints/attention-checkpoint.ipynb": b"",
    "dan/hw2/attention.ipynb": notebook("attention"),
    "eve/hw1/x.ipynb": notebook("tokenizer"),
}
OWNERS = [("ada", "attention"), ("ada", "tokenizer"), ("bob", "attention"), ("cy", "attention"), ("dan", "attention"), ("eve", "tokenizer")]


@pytest.mark.parametrize("kind", ["folder", "", "submitted/"])
def test_a_class(tmp_path: Path, solutions: Path, kind: str) -> None:
    """A folder, a zip of what is in it, and a zip of the folder itself give the same jobs."""
    if kind == "folder":
        path = put(tmp_path / "submitted", CLASS)
    else:
        named = {f"{kind}{name}": data for name, data in CLASS.items() if "hw" not in name or not kind}
        path = packed(tmp_path / "class.zip", named)
    jobs = find_jobs(path, solutions)
    assert owners(jobs) == (OWNERS[:4] if kind == "submitted/" else OWNERS)
    by_owner = dict(zip(owners(jobs), jobs, strict=True))
    assert by_owner["cy", "attention"].read() == notebook("attention")
    assert not any(job.problem for job in jobs)
    assert all(job.assignment == "tokenizer" for job in find_jobs(path, solutions, assignment="tokenizer"))


def test_one_students_folder(tmp_path: Path, solutions: Path) -> None:
    """A student's folder, or one assignment's of theirs, may be named as well; a link to it too."""
    root = put(tmp_path / "submitted", CLASS)
    assert owners(find_jobs(root / "ada", solutions)) == OWNERS[:2]
    assert owners(find_jobs(root / "ada" / "attention", solutions)) == OWNERS[:1]
    (tmp_path / "link").symlink_to(root)
    assert owners(find_jobs(tmp_path / "link", solutions)) == OWNERS


def test_a_flat_folder(tmp_path: Path, solutions: Path) -> None:
    """Files as a learning platform gives them out: each file is a student."""
    root = put(tmp_path / "download", {"ada.ipynb": notebook("attention"), "bob_attention.ipynb": b"broken"})
    assert owners(find_jobs(root, solutions)) == [("ada", "attention"), ("bob_attention", "attention")]


def test_a_class_in_a_folder_with_an_assignments_name(tmp_path: Path, solutions: Path) -> None:
    """The name of the folder above makes no student of anybody."""
    root = put(tmp_path / "attention", {name: data for name, data in CLASS.items() if "attention" in name})
    assert [student for student, _ in owners(find_jobs(root, solutions))] == ["ada", "bob", "cy", "dan"]


def test_zip_of_one_notebook(tmp_path: Path, solutions: Path) -> None:
    """With or without a folder around it."""
    for name in ("attention.ipynb", "attention/attention.ipynb"):
        (job,) = find_jobs(packed(tmp_path / "one.zip", {name: notebook("attention"), "__MACOSX/._x.ipynb": b""}), solutions)
        assert (job.student, job.assignment, job.read()) == ("", "attention", notebook("attention"))


def test_nobody_goes_missing(tmp_path: Path, solutions: Path) -> None:
    """An empty folder, another file, a link and a pipe become jobs that say what is wrong."""
    root = put(tmp_path / "submitted", {"bob/attention/report.pdf": b"%PDF", "secret.txt": notebook("attention")})
    (root / "ada" / "attention").mkdir(parents=True)
    (root / "cy" / "attention").mkdir(parents=True)
    (root / "cy" / "attention" / "attention.ipynb").symlink_to(root / "secret.txt")
    (root / "dan").mkdir()
    (root / "dan" / "attention").symlink_to(root / "bob" / "attention")
    (root / "eve" / "attention").mkdir(parents=True)
    os.mkfifo(root / "eve" / "attention" / "attention.ipynb")
    said = {}
    for job in find_jobs(root, solutions):
        with pytest.raises(NotebookUnreadable) as error:
            job.read()
        said[job.student] = str(error.value)
    assert said["ada"] == "No notebook was handed in: the folder is empty."
    assert said["bob"] == "No notebook was handed in, only report.pdf."
    assert "links are not followed" in said["cy"]
    assert "links are not followed" in said["dan"]
    assert said["eve"] == "attention.ipynb is no ordinary file."


def test_a_link_that_was_named(tmp_path: Path, solutions: Path) -> None:
    """A notebook that is a link is refused by name; in a student's repository it may lead to the reference."""
    put(tmp_path, {"reference.ipynb": notebook("attention")})
    (tmp_path / "attention.ipynb").symlink_to(tmp_path / "reference.ipynb")
    with pytest.raises(NotebookUnreadable, match="is a link"):
        find_jobs(tmp_path / "attention.ipynb", solutions)


def test_a_link_put_there_later(tmp_path: Path) -> None:
    """Opening follows no link either."""
    put(tmp_path, {"secret": b"x"})
    (tmp_path / "attention.ipynb").symlink_to(tmp_path / "secret")
    with pytest.raises(NotebookUnreadable, match="cannot be read"):
        Job(tmp_path / "attention.ipynb", "ada", "attention").read()


def test_hostile_archive(tmp_path: Path, solutions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, bombs and names that climb are read as nothing but names and bytes; nothing is written."""
    monkeypatch.setattr(collect, "MAX_BYTES", 100_000)
    path = tmp_path / "class.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        link = zipfile.ZipInfo("ada/attention/attention.ipynb")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bob/attention/attention.ipynb", b"0" * 1_000_000)
        archive.writestr("../../cy/attention/attention.ipynb", notebook("attention"))
        archive.writestr("dan/attention/attention.ipynb", notebook("attention"), compress_type=zipfile.ZIP_LZMA)
        archive.writestr("fay/attention/attention.ipynb", notebook("attention"))
    before = sorted(tmp_path.rglob("*"))
    jobs = {job.student: job for job in find_jobs(path, solutions)}
    assert set(jobs) == {"ada", "bob", "dan", "fay"}
    assert "link" in jobs["ada"].problem
    assert "the most that is read" in jobs["bob"].problem
    assert "unusual way" in jobs["dan"].problem
    assert jobs["fay"].read() == notebook("attention")
    assert sorted(tmp_path.rglob("*")) == before


def test_archive_that_lies_about_a_size(tmp_path: Path, solutions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read is bounded by what comes out, not by what was declared."""
    path = packed(tmp_path / "class.zip", {"ada/attention/attention.ipynb": b"0" * 1_000_000})
    (job,) = find_jobs(path, solutions)
    monkeypatch.setattr(collect, "MAX_BYTES", 1_000)
    assert len(job.read()) == 1_001


def test_torn_archive(tmp_path: Path, solutions: Path) -> None:
    """Half an archive is an error of its own; a broken member is that student's problem only."""
    path = packed(tmp_path / "class.zip", {"ada/attention/attention.ipynb": os.urandom(2_000)})
    whole = path.read_bytes()
    (job,) = find_jobs(path, solutions)
    path.write_bytes(whole[:200] + b"?" * 100 + whole[300:])
    with pytest.raises(NotebookUnreadable, match=r"in class.zip cannot be read"):
        job.read()
    path.write_bytes(whole[:500])
    with pytest.raises(NotebookUnreadable, match="cannot be read as a zip"):
        find_jobs(path, solutions)


def test_nothing_to_grade(tmp_path: Path, solutions: Path) -> None:
    """The message says what there should be, and that archives inside are not opened."""
    with pytest.raises(NotebookUnreadable, match="does not exist"):
        find_jobs(tmp_path / "nowhere", solutions)
    with pytest.raises(NotebookUnreadable, match=r"a folder student/assignment/\*\.ipynb or a zip of either\.$"):
        find_jobs(put(tmp_path / "empty", {"x.txt": b""}), solutions)
    with pytest.raises(NotebookUnreadable, match="Archives inside it are not opened"):
        find_jobs(packed(tmp_path / "outer.zip", {"inner.zip": b"PK"}), solutions)


def test_too_many_files(tmp_path: Path, solutions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is no class is noticed early."""
    monkeypatch.setattr(collect, "MAX_FILES", 3)
    with pytest.raises(NotebookUnreadable, match="more than 3 files"):
        find_jobs(put(tmp_path / "submitted", CLASS), solutions)


def test_a_stray_notebook_is_reported(tmp_path: Path, solutions: Path) -> None:
    """A notebook of which nothing can be told is said to be one."""
    root = put(tmp_path / "submitted", CLASS | {"zoe/odd.ipynb": b"{}"})
    job = find_jobs(root, solutions)[-1]
    assert (job.student, job.assignment) == ("zoe", "unknown")
    assert "known are attention, tokenizer" in job.problem
