"""The red team's table, what it does to a grader whose walls stand, and that it would notice if they did not."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from autograder import attacks, folders, redteam, stage
from autograder.assignment import read_assignment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confinement is for Linux")

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TABLE = attacks.read_table(HERE)
NAMES = [one.name for one in TABLE]
# These hold a call until it is stopped: seconds each. `REDTEAM=all` runs them at every level and as every user.
WAITING = {
    "deep_recursion", "disarms_the_timer", "endless_call", "endless_cell", "endless_native", "endless_sleep",
    "error_with_a_metaclass", "frame_slow", "frame_unread", "giant_answer", "ignores_signals", "memory_in_an_answer",
    "patched_wire", "stops_itself", "swallows_the_time_limit",
}  # fmt: skip
ALL = os.environ.get("REDTEAM") == "all"
SHORT = [] if ALL else [name for name in NAMES if name not in WAITING]
# Through nbgrader, which takes its time over each: half of what is tampered with or acts on a page, and some others.
SOME = [one.name for one in TABLE if one.theme in ("files", "breaking")][::2] + SHORT[::24]
# Rows of the table of attacks that no notebook can try here.
ELSEWHERE = {35: "a workflow lies in the instructor's repository, not in what is handed in"}

# How a machine differs from this one, as a line that runs before.
AS_IT_IS = ""
CONTAINER = "sys.path.insert(0, {tests!r}); import test_confinement; test_confinement.as_in_a_container()"
NO_WALLS = (
    "from autograder import plan; plan.Switches.__init__.__defaults__ = (('bare',), False, False, False, False, True);"
    " redteam._STUB = 'from autograder import plan; plan.Switches.__init__.__defaults__ ='"
    ' " ((\'bare\',), False, False, False, False, True); " + redteam._STUB'
)
RUN = """
import sys; from pathlib import Path; from autograder import redteam
{before}
print(redteam.to_json(redteam.run(Path({solutions!r}), None, isolation={isolation!r}, only={only!r})))
"""


def red_team(before: str, *, only: list[str], isolation: str = "partial", user: int | None = None) -> dict[str, Any]:
    """One run in a process of its own, which becomes the parent of every orphan."""
    before = before.format(tests=str(ROOT / "tests"))
    code = RUN.format(before=before, solutions=str(ROOT / "solutions"), isolation=isolation, only=only)
    who: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    place = {} if user is None else {"HOME": "/nonexistent", "USER": "student", "LOGNAME": "student"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **place}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment, cwd="/", check=False, timeout=900, **who)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


# --- the table


def test_the_table_covers_every_row() -> None:
    """Eighty submissions or more; each row of the table of attacks has one, or a reason why not."""
    assert len(TABLE) >= 80
    covered = {row for one in TABLE for row in one.rows}
    assert covered | set(ELSEWHERE) == set(range(1, 45))
    assert not covered & set(ELSEWHERE)


def test_every_hope_is_a_sentence() -> None:
    """One line that says what the attack is after."""
    for one in TABLE:
        assert one.hope.endswith("."), one.name
        assert len(one.hope) < 120, one.name


def test_without_the_table_the_command_says_where_it_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package does not hold it."""
    monkeypatch.setattr(attacks, "__file__", str(tmp_path / "package" / "autograder" / "attacks.py"))
    with pytest.raises(attacks.CourseBroken, match=r"tests/redteam.*checkout"):
        attacks.find_table(tmp_path / "solutions")


def test_the_canaries_do_not_change_the_course(tmp_path: Path) -> None:
    """The reference and its tests mean the same with them."""
    tiny = read_assignment(HERE / "course" / "solutions" / "tiny")
    with stage.staged(tmp_path, tiny) as one:
        copy = read_assignment(one.course / "solutions" / "tiny")
        assert [task.name for task in copy.tasks] == [task.name for task in tiny.tasks]
        for name, kind in (("notebook.py", "reference"), ("test_hidden.py", "tests"), ("misconceptions.py", "bank")):
            text = (copy.folder / name).read_text()
            assert one.canaries[kind] in text
            compile(text, name, "exec")


# --- the attacks


def test_nothing_comes_of_it_here() -> None:
    """At the best level that this machine gives, as whoever runs this: every third attack; all with `REDTEAM=all`."""
    known = stages()
    result = red_team(AS_IT_IS, only=SHORT[::3])
    assert result["faults"] == []
    assert result["submissions"] == (len(SHORT[::3]) or len(TABLE))
    assert stages() <= known, "the stage is still there"


def stages() -> set[Path]:
    """The folders of this command that lie there."""
    return set(Path(tempfile.gettempdir()).glob(f"{folders._TEMPORARY}*"))


@cache
def readable_by_others() -> str:
    """Why another user could not run this checkout; empty if one can."""
    places = {ROOT, Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable)}
    closed = sorted(str(one) for place in places for one in (place, *place.parents) if not one.stat().st_mode & 0o005)
    return f"other users cannot come to {closed[0]}" if closed else ""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("before", [AS_IT_IS, CONTAINER], ids=["as-it-is", "container"])
def test_nothing_comes_of_it_as_an_ordinary_user(before: str) -> None:
    """As a user who owns nothing here; and where namespaces are forbidden, with the exceptions stated for that."""
    if before == AS_IT_IS and not ALL:
        pytest.skip("slow: REDTEAM=all runs it")
    if reason := readable_by_others():
        pytest.skip(reason)
    result = red_team(before, only=SHORT[::3], user=65534)
    assert result["faults"] == []
    assert result["level"] == ("full" if before == AS_IT_IS else "partial")


def test_nothing_comes_of_it_in_a_container() -> None:
    """Where namespaces are forbidden: nothing but the stated exceptions."""
    if os.getuid() == 0 and not ALL:
        pytest.skip("as an ordinary user only: REDTEAM=all runs it as root too")
    result = red_team(CONTAINER, only=SHORT[::3])
    assert result["faults"] == []
    assert result["level"] == "partial"


def test_it_would_be_noticed_if_something_came_of_it() -> None:
    """Without walls the same attacks read every canary, reach every listener and leave things behind."""
    only = ["hidden_tests", "reference", "gradebook", "other_submissions", "home", "tcp_loopback", "abstract_sockets",
            "runs_programs", "fork_bomb", "other_processes", "writes_results", "tampers_with_neighbours"]  # fmt: skip
    result = red_team(NO_WALLS, only=only, isolation="none")
    assert result["level"] == "none"
    faults = "\n".join(result["faults"])
    for kind in ("tests", "reference", "bank", "gradebook", "submission", "home"):
        assert f"leaked: CANARY-{kind}-" in faults
    # Not the fork bomb: that is ended by the watch from outside, which needs no wall.
    for line in ("runs_programs: reached", "other_processes: reached", "hostile.json is new",
                 "left over: somebody reached", "000-neighbour"):  # fmt: skip
        assert line in faults


# --- through nbgrader


@pytest.fixture(scope="module")
def class_of_nbgrader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same submissions, a part of them unless all are asked for, as a class in nbgrader's folders."""
    pytest.importorskip("nbgrader", reason="nbgrader is not installed")
    root = tmp_path_factory.mktemp("redteam")
    tiny = read_assignment(HERE / "course" / "solutions" / "tiny")
    with stage.staged(root, tiny) as one:
        config = (ROOT / "nbgrader_config.py").read_text("utf-8")
        (one.course / "nbgrader_config.py").write_text(f"{config}\nc.Grading.call_seconds = 1.0\n", "utf-8")
        (one.course / "gradebook.db").unlink()  # nbgrader makes its own, and the canary is a name in it
        chosen = [attack for attack in TABLE if attack.name in SOME or not SHORT]
        one.hand_in_honest(one.neighbours(len(chosen)))
        mine = one.hand_in(chosen, (HERE / "prelude.py").read_text("utf-8"), os.getpid())
        environment = {**one.environment(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        said = ""
        add = ("db", "student", "add", "nobody", f"--first-name={one.canaries['gradebook']}")
        for command in (add, ("autograde", "tiny"), ("generate_feedback", "tiny")):
            words = [sys.executable, "-m", "nbgrader", *command]
            done = subprocess.run(words, cwd=one.course, env=environment, capture_output=True, text=True, check=False, timeout=1200)
            said += f"{command[0]}: {done.returncode}\n{done.stdout}{done.stderr}" if command != add else ""
            assert command != add or done.returncode == 0, done.stderr
        (root / "said.txt").write_text(said, "utf-8")
        (root / "mine.json").write_text(json.dumps({student: attack.name for student, attack in mine.items()}))
    return root


def scores(root: Path) -> dict[str, float]:
    """What the gradebook has for each student; -1 where a person has to look."""
    question = """select student.id, sum(coalesce(grade.auto_score, -1000)) from grade
        join submitted_notebook on grade.notebook_id = submitted_notebook.id
        join submitted_assignment on submitted_notebook.assignment_id = submitted_assignment.id
        join student on submitted_assignment.student_id = student.id group by student.id"""
    with sqlite3.connect(root / "course" / "gradebook.db") as book:
        return {student: score if score >= 0 else -1 for student, score in book.execute(question)}


def test_nbgrader_books_no_point_too_many(class_of_nbgrader: Path) -> None:
    """Each hostile notebook has what its honest part earns at most; who handed in nothing to grade has no number."""
    booked = scores(class_of_nbgrader)
    mine = json.loads((class_of_nbgrader / "mine.json").read_text())
    unreadable = {one.name for one in TABLE if one.unreadable}
    for student, name in mine.items():
        if name in unreadable:
            assert booked.get(student, -1) == -1, name
        else:
            assert 0 <= booked[student] <= 5, name


def test_nbgrader_gives_the_neighbours_what_is_theirs(class_of_nbgrader: Path) -> None:
    """Right work all points, unfinished work none, a mistake what it leaves."""
    booked = scores(class_of_nbgrader)
    found = [booked[name] for name in sorted(booked) if name.endswith("-neighbour")]
    assert len(found) >= 3
    assert all(score == (15, 0, 13)[number % 3] for number, score in enumerate(found)), found


def test_nothing_comes_out_of_nbgrader(class_of_nbgrader: Path) -> None:
    """No canary and no mark in autograded notebooks, feedback or what the commands print."""
    places = [class_of_nbgrader / "said.txt"]
    for name in ("autograded", "feedback", "build"):
        places += [path for path in (class_of_nbgrader / "course" / name).rglob("*") if path.is_file() or path.is_symlink()]
    assert len(places) > 60
    for path in places:
        assert not path.is_symlink(), path
        text = path.read_bytes().decode("latin-1")
        allowed = {"submission"} if "neighbour" in str(path) else set()
        assert {word.split("-")[1] for word in stage.CANARY.findall(text)} <= allowed, path
        assert redteam.THROUGH not in text, path


def test_nbgrader_loads_nothing_that_was_handed_in(class_of_nbgrader: Path) -> None:
    """No file beside a notebook was run, nothing was written where it should not be."""
    left = [path.name for path in class_of_nbgrader.rglob("*hostile*") if path.name != "hostile.pth"]
    assert left == []
    assert "Traceback" not in (class_of_nbgrader / "said.txt").read_text()


def test_a_killed_grader() -> None:
    """`kill -9` at random moments; `python tests/redteam/kill_grader.py 50` does it more often."""
    words = [sys.executable, str(HERE / "kill_grader.py"), "3" if ALL else "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("reports written") == (3 if ALL else 1)
