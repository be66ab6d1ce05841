"""Finding what is to be graded: whose it is, which assignment, and that nobody goes missing."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from autograder import archives
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
    assert said["eve"] == "This is no ordinary file. Hand in the notebook itself."


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
    monkeypatch.setattr(archives, "MAX_BYTES", 100_000)
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
    monkeypatch.setattr(archives, "MAX_BYTES", 1_000)
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
    with pytest.raises(NotebookUnreadable, match=r"a folder student/assignment/\*\.ipynb, .* or a zip or tar of these\.$"):
        find_jobs(put(tmp_path / "empty", {"x.txt": b""}), solutions)
    with pytest.raises(NotebookUnreadable, match="Archives inside it are not opened"):
        find_jobs(packed(tmp_path / "outer.zip", {"inner.zip": b"PK"}), solutions)


def test_too_many_files(tmp_path: Path, solutions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is no class is noticed early."""
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    with pytest.raises(NotebookUnreadable, match="more than 3 files"):
        find_jobs(put(tmp_path / "submitted", CLASS), solutions)


def test_a_stray_notebook_is_reported(tmp_path: Path, solutions: Path) -> None:
    """A notebook of which nothing can be told is said to be one."""
    root = put(tmp_path / "submitted", CLASS | {"zoe/odd.ipynb": b"{}"})
    job = find_jobs(root, solutions)[-1]
    assert (job.student, job.assignment) == ("zoe", "unknown")
    assert "known are attention, tokenizer" in job.problem


# As platforms give them out. The names are those of real downloads; which of the files counts is worked out by hand.

BROKEN = b"\x89PNG"
LAYOUTS: dict[str, tuple[dict[str, bytes], dict[str, str]]] = {
    "canvas": (
        {
            "doejane_956227_46792176_attention.ipynb": notebook("attention"),
            "doejane_956227_46792177_picture.png": BROKEN,
            "oneilzoe_LATE_956228_46792200_attention-1.ipynb": notebook("attention"),
            "smithbob_1001_300_Homework (final).ipynb": notebook("attention"),
            "smithbob_1002_301_attention.ipynb": notebook("attention"),
            "wuli_1003_302_work.zip": b"PK",
            "yangyi_1004_303_Untitled.ipynb": BROKEN,
        },
        {
            "doejane": "doejane_956227_46792176_attention.ipynb", "oneilzoe": "oneilzoe_LATE_956228_46792200_attention-1.ipynb",
            "smithbob_1001": "smithbob_1001_300_Homework (final).ipynb", "smithbob_1002": "smithbob_1002_301_attention.ipynb",
            "wuli": "No notebook was handed in, only work.zip. Archives inside", "yangyi": "yangyi_1004_303_Untitled.ipynb",
        },
    ),
    "moodle": (
        {
            "Jane Doe_657768_assignsubmission_file_/attention.ipynb": notebook("attention"),
            "Jane Doe_657768_assignsubmission_onlinetext_/onlinetext.html": b"<p>",
            "Zoë O'Neil_657769_assignsubmission_file_/deep/er/my work.ipynb": notebook("attention"),
            "Li_Wu_657770_assignsubmission_file_/report.pdf": BROKEN,
        },
        {
            "Jane Doe": "Jane Doe_657768_assignsubmission_file_/attention.ipynb",
            "Zoë O'Neil": "Zoë O'Neil_657769_assignsubmission_file_/deep/er/my work.ipynb",
            "Li_Wu": "No notebook was handed in, only report.pdf",
        },
    ),
    "moodle, no folders": (
        {
            "Jane Doe_657768_assignsubmission_file_attention.ipynb": notebook("attention"),
            "Mallory_657769_assignsubmission_file_Jane Doe_657768_assignsubmission_file_x.ipynb": notebook("attention"),
        },
        {
            "Jane Doe": "Jane Doe_657768_assignsubmission_file_attention.ipynb",
            "Mallory": "Mallory_657769_assignsubmission_file_Jane Doe_657768_assignsubmission_file_x.ipynb",
        },
    ),
    "blackboard": (
        {
            "Homework 1_jdoe_attempt_2026-01-30-15-00-00.txt": b"Name: Jane Doe (jdoe)",
            "Homework 1_jdoe_attempt_2026-01-30-15-00-00_attention.ipynb": notebook("attention"),
            "Homework 1_jdoe_attempt_2026-02-01-09-10-11_attention.ipynb": notebook("attention"),
            "Home_work_bob7_attempt_2026-01-30-15-00-00.txt": b"nothing",
        },
        {
            "jdoe": "Homework 1_jdoe_attempt_2026-02-01-09-10-11_attention.ipynb",
            "bob7": "No notebook was handed in",
        },
    ),
    "nbgrader inbound": (
        {
            "ada+attention+2026-01-30 15:00:00.123456 UTC+h4sh/attention.ipynb": notebook("attention"),
            "ada+attention+2026-01-30 15:00:00.123456 UTC+h4sh/timestamp.txt": b"1970-01-01 00:00:00 UTC",
            "ada+attention+2026-01-31 15:00:00.123456 UTC+h5sh/attention.ipynb": notebook("attention"),
            "b+c@x.org+attention+2026-01-30 15:00:00 UTC/attention.ipynb": notebook("attention"),
        },
        {
            "ada": "ada+attention+2026-01-31 15:00:00.123456 UTC+h5sh/attention.ipynb",
            "b+c@x.org": "b+c@x.org+attention+2026-01-30 15:00:00 UTC/attention.ipynb",
        },
    ),
    "nbgrader submitted": (
        {
            "ada/attention/attention.ipynb": notebook("attention"),
            "bob/attention/my_1_2_attention.ipynb": notebook("attention"),
            "mallory/bob/attention/attention.ipynb": notebook("attention"),
            "mallory/attention/ada+attention+2099-01-01 00:00:00 UTC+x/attention.ipynb": notebook("attention"),
        },
        {
            "ada": "ada/attention/attention.ipynb", "bob": "bob/attention/my_1_2_attention.ipynb",
            "mallory": "mallory/attention/ada+attention+2099-01-01 00:00:00 UTC+x/attention.ipynb",
        },
    ),
}  # fmt: skip


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    """A tar of these files, packed as its name says."""
    with tarfile.open(path, f"w:{path.suffix[1:]}" if path.suffix != ".tar" else "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def laid_out(kind: str, tmp_path: Path, files: dict[str, bytes]) -> Path:
    """The files as a folder, as an archive, or as an archive of the folder."""
    inside = {f"all of it/{name}": content for name, content in files.items()}
    makers: dict[str, Callable[[], Path]] = {
        "folder": lambda: put(tmp_path / "download", files),
        "zip": lambda: packed(tmp_path / "download.zip", files),
        "zip of a folder": lambda: packed(tmp_path / "download.zip", inside),
        "tar": lambda: tarred(tmp_path / "download.tar", files),
        "tar.gz of a folder": lambda: tarred(tmp_path / "download.tar.gz", inside),
        "tar.xz": lambda: tarred(tmp_path / "download.tar.xz", files),
    }
    return makers[kind]()


@pytest.mark.parametrize("kind", ["folder", "zip", "zip of a folder", "tar", "tar.gz of a folder", "tar.xz"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_platforms_download(tmp_path: Path, solutions: Path, layout: str, kind: str) -> None:
    """Each student once, with the newest of their notebooks, whatever it is called; or with what was wrong."""
    files, wanted = LAYOUTS[layout]
    jobs = find_jobs(laid_out(kind, tmp_path, files), solutions)
    assert {job.student for job in jobs} == set(wanted)
    assert len(jobs) == len(wanted)
    for job in jobs:
        assert job.assignment == "attention"
        if wanted[job.student] in files:
            assert str(job.path / job.member).endswith(wanted[job.student])
            assert job.read() == files[wanted[job.student]]
        else:
            assert job.problem.startswith(wanted[job.student])


def test_the_student_is_told_which_notebook_counts(tmp_path: Path, solutions: Path) -> None:
    """Of several, and that the platform says it was late."""
    books = {
        "doejane_1_40_attention.ipynb": notebook("attention"), "doejane_1_39_attention-2.ipynb": notebook("attention"),
        "doejane_1_41_other.ipynb": notebook("tokenizer"), "wuli_LATE_2_42_attention.ipynb": notebook("attention"),
    }  # fmt: skip
    jobs = {(job.student, job.assignment): job for job in find_jobs(put(tmp_path / "d", books), solutions)}
    assert set(jobs) == {("doejane", "attention"), ("doejane", "tokenizer"), ("wuli", "attention")}
    assert jobs["doejane", "attention"].notes == ("Of 2 notebooks, `attention-2.ipynb` was graded.",)
    assert jobs["wuli", "attention"].notes == ("It was handed in late, says the platform's file name.",)


@pytest.mark.parametrize("given", ["", "attention"])
def test_zip_collects_folders(tmp_path: Path, solutions: Path, given: str) -> None:
    """What it has unpacked, or else the archives it would unpack; each archive is a download of its own."""
    root = tmp_path / "downloaded" / "attention"
    packed_ = packed(tmp_path / "x.zip", {"doejane_1_2_attention.ipynb": notebook("attention"), "wuli_2_3_a.ipynb": BROKEN})
    put(root, {"archive/one.zip": packed_.read_bytes(), "archive/ada_4_5_attention.ipynb": notebook("attention")})
    assert [job.student for job in find_jobs(root / given.replace("attention", "archive"), solutions)] == ["ada", "doejane", "wuli"]
    put(root, {f"extracted/one/{name}": data for name, data in LAYOUTS["canvas"][0].items()})
    put(root, {f"extracted/two/{name}": data for name, data in LAYOUTS["blackboard"][0].items()})
    jobs = find_jobs(root, solutions)
    assert {job.student for job in jobs} == {*LAYOUTS["canvas"][1], *LAYOUTS["blackboard"][1]}
    assert {job.assignment for job in jobs} == {"attention"}


def test_hostile_tar(tmp_path: Path, solutions: Path) -> None:
    """Links of both kinds, devices, pipes and names that climb; the neighbours are graded."""
    path = tmp_path / "class.tar.gz"
    kinds = {"ada": tarfile.SYMTYPE, "bob": tarfile.LNKTYPE, "cy": tarfile.CHRTYPE, "dan": tarfile.FIFOTYPE}
    with tarfile.open(path, "w:gz") as archive:
        for student, kind in kinds.items():
            entry = tarfile.TarInfo(f"{student}/attention/attention.ipynb")
            entry.type, entry.linkname, entry.devmajor, entry.devminor = kind, "/etc/passwd", 1, 5
            archive.addfile(entry)
        for name in ("../../eve/attention/attention.ipynb", "/abs/attention/attention.ipynb", "fay/attention/attention.ipynb"):
            entry = tarfile.TarInfo(name)
            entry.size = len(notebook("attention"))
            archive.addfile(entry, io.BytesIO(notebook("attention")))
    jobs = {job.student: job for job in find_jobs(path, solutions)}
    assert set(jobs) == {*kinds, "fay"}
    assert all("Hand in the" in jobs[student].problem for student in kinds)
    assert jobs["fay"].read() == notebook("attention")


def test_a_bomb_costs_its_student_the_grade_and_nobody_else(tmp_path: Path, solutions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip in a zip is not opened; a tar that never ends is given up."""
    bomb = packed(tmp_path / "bomb.zip", {"x": b"0" * 10_000_000}).read_bytes()
    files = {"doejane_1_2_attention.ipynb": notebook("attention"), "mallory_2_3_attention.ipynb.zip": bomb, "mallory_2_4_x.tar.gz": bomb}
    jobs = {job.student: job for job in find_jobs(packed(tmp_path / "class.zip", files), solutions)}
    assert "are not opened" in jobs["mallory"].problem
    assert jobs["doejane"].read() == notebook("attention")
    monkeypatch.setattr(archives, "MAX_UNPACKED", 1_000_000)
    path = tarred(tmp_path / "class.tar.gz", {"ada/attention/attention.ipynb": b"0" * 5_000_000, "bob/attention/attention.ipynb": b"{}"})
    with pytest.raises(NotebookUnreadable, match="unpacks to more than"):
        find_jobs(path, solutions)


def test_a_folder_that_becomes_a_link(tmp_path: Path, solutions: Path) -> None:
    """Between finding and reading: no part of the path below what was named may be one."""
    root = put(tmp_path / "submitted", {"ada/attention/attention.ipynb": notebook("attention"), "bob/attention/attention.ipynb": b"bob's"})
    job = find_jobs(root, solutions)[0]
    shutil.rmtree(root / "ada" / "attention")
    (root / "ada" / "attention").symlink_to(root / "bob" / "attention")
    with pytest.raises(NotebookUnreadable, match="not a link to it"):
        job.read()


def test_folders_without_end(tmp_path: Path, solutions: Path) -> None:
    """Deeper than any class, deeper than Python may call itself: the student's loss only."""
    root = put(tmp_path / "submitted", {"ada/attention/attention.ipynb": notebook("attention")})
    deep = os.open(root, os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("d", dir_fd=deep)
        inner = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    assert owners(find_jobs(root, solutions)) == [("ada", "attention")]
    while True:  # pytest cannot take it away again: too deep for it
        top = root / "d"
        inner_ones = list(top.iterdir()) if top.exists() else []
        if not inner_ones:
            break
        inner_ones[0].rename(root / "e")
        top.rmdir()
        (root / "e").rename(top)


def test_names_that_no_page_can_hold(tmp_path: Path, solutions: Path) -> None:
    """Bytes that are no UTF-8, escapes and marks that turn text around: shown without, and still two students."""
    root = tmp_path / "submitted"
    for name in (b"zo\xeb", b"zo\xec", "\x1b[31mred\u202e".encode(), b"::set-output name=x::y"):
        folder = os.path.join(os.fsencode(root), name, b"attention")
        os.makedirs(folder)
        with open(os.path.join(folder, b"attention.ipynb"), "wb") as file:
            file.write(notebook("attention"))
    students = [job.student for job in find_jobs(root, solutions)]
    assert sorted(students) == ["::set-output name=x::y", "red", "zo\ufffd", "zo\ufffd (2)"]
    assert all(job.read() for job in find_jobs(root, solutions))


def test_names_as_windows_packs_them(tmp_path: Path, solutions: Path) -> None:
    """With backslashes."""
    path = packed(tmp_path / "class.zip", {"ada\\attention\\attention.ipynb": notebook("attention")})
    (job,) = find_jobs(path, solutions)
    assert (job.student, job.read()) == ("ada", notebook("attention"))


def test_archives_that_are_damaged(tmp_path: Path, solutions: Path) -> None:
    """Every tenth byte of a zip and a tar turned around: jobs whose reading gives bytes or a word, or one error."""
    files = {f"{name}/attention/attention.ipynb": notebook("attention") for name in ("ada", "bob")}
    for path in (packed(tmp_path / "c.zip", files), tarred(tmp_path / "c.tar", files), tarred(tmp_path / "c.tar.gz", files)):
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 120)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
            with contextlib.suppress(NotebookUnreadable):
                for job in find_jobs(path, solutions, assignment="attention"):
                    with contextlib.suppress(NotebookUnreadable):
                        job.read()
