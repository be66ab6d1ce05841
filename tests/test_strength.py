"""The tests are tested: wrong answers of the bank lose and are named, right ones lose nothing.

All of them are put to the tests by `autograder strength --record`, and test_figures.py makes sure that this was done
with the files as they are. Here it is every fifth wrong answer, with the words that its student reads; all of them with
`STRENGTH=all`, or where those words are written anew.
"""

from __future__ import annotations

import math
import os
import re
import sys
from functools import cache
from pathlib import Path

import pytest

from autograder import killmatrix, stability, strength
from autograder.assignment import read_assignment
from autograder.render import strengthpage, text
from autograder.strength import Question, Row, Table

# Wrong answers leave files open and warn; that is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parents[1]
SNAPSHOTS = ROOT / "tests" / "snapshots"
EACH = 1 if os.environ.get("STRENGTH") == "all" else 5
# At least so many misconceptions and honest variants, by assignment.
LEAST = {"attention": (25, 10), "embeddings": (25, 10), "gpt": (30, 10), "tokenizer": (30, 10), "training": (30, 10)}
FOLDERS = {path.parent.name: path.parent for path in sorted((ROOT / "solutions").glob("*/notebook.py"))}
TASKS = [(name, task.name) for name, folder in FOLDERS.items() for task in read_assignment(folder).tasks]


@cache
def questions(name: str) -> list[Question]:
    return strength.chosen(FOLDERS[name])


def faults(rows: list[Row]) -> str:
    return "\n".join(f"{row.kind} {row.name} [{row.task}]: {fault[:500]}" for row in rows for fault in row.faults)


def rows_of(name: str, chosen: list[Question]) -> list[Row]:
    return list(strength.rows(FOLDERS[name], chosen))


def test_every_assignment_is_looked_at() -> None:
    """A new one needs its least numbers here."""
    assert set(FOLDERS) == set(LEAST)


@pytest.mark.parametrize("name", FOLDERS)
def test_the_bank_is_large_enough(name: str) -> None:
    """And each task has mistakes that are known."""
    kinds = [item.kind for item in questions(name)]
    wrong, right = LEAST[name]
    assert kinds.count("misconception") >= wrong
    assert kinds.count("honest") >= right
    assert {item.task for item in questions(name) if item.kind == "misconception"} == {t for a, t in TASKS if a == name}


@pytest.mark.parametrize("name", FOLDERS)
def test_right_answers_lose_nothing(name: str) -> None:
    """The reference has full marks, and so has every honest variant, in notebooks that mix them."""
    table = strength.table_of(FOLDERS[name], 0)
    mixed = table.mixtures()
    of_all = {(item.task, item.id) for item in table.doctor.bank.honest}
    parts = {part for one in mixed for part in zip(one.task.split(" + "), one.name.split(" + "), strict=True)}
    assert parts == of_all
    rows = rows_of(name, [item for item in questions(name) if item.kind == "reference"] + mixed)
    assert not faults(rows), faults(rows)
    assert (rows[0].report.score, rows[0].report.max_score) == (90.0, 90.0)
    assert all(task.status == "pass" and not task.diagnosis for row in rows for task in row.report.tasks)


@pytest.mark.parametrize("name", FOLDERS)
def test_stubs_get_nothing(name: str) -> None:
    """As they are released."""
    rows = rows_of(name, [item for item in questions(name) if item.kind == "stub"])
    assert len(rows) == 1
    assert not faults(rows), faults(rows)


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_trivial_answers_get_nothing(name: str, task: str) -> None:
    """Whatever a task is about: an echo, zeros, ones, None."""
    rows = rows_of(name, [item for item in questions(name) if item.kind == "trivial" and item.task == task][:: min(EACH, 2)])
    assert len(rows) >= len(strength.TRIVIAL) / 2
    assert not faults(rows), faults(rows)


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_wrong_answers_lose_and_are_named(name: str, task: str, request: pytest.FixtureRequest) -> None:
    """Each with the words, and the smallest example, that tests/snapshots/ holds for somebody to read."""
    file, rewrite = SNAPSHOTS / name / f"{task}.txt", request.config.getoption("--rewrite-snapshots")
    kept = {} if rewrite or not file.exists() else snapshots(file)
    table = strength.table_of(FOLDERS[name], 0)
    every = [item for item in questions(name) if item.kind == "misconception" and item.task == task]
    mine = every if rewrite else every[::EACH]
    # The check that failed when the snapshot was made comes first: that it fails is enough, whatever others do.
    rows = [table.row(item, quick=failing(kept.get(item.name, ""))) for item in mine]
    assert not faults(rows), faults(rows)
    told = {row.name: feedback(row) for row in rows}
    for lines in told.values():
        assert len(lines.splitlines()) < 15
    if sys.flags.hash_randomization:
        pytest.skip("which example is shown can hang on the order of sets: run it with xdist, or with PYTHONHASHSEED=0")
    if rewrite:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(f"[{key}]\n{lines}\n" for key, lines in told.items()), encoding="utf-8")
        kept = snapshots(file)
    assert list(kept) == [item.name for item in every], "run with --rewrite-snapshots, and read what changes"
    for key, lines in told.items():
        assert alike(lines, kept[key]), f"{key}: run with --rewrite-snapshots, and read what changes:\n{lines}"


def snapshots(file: Path) -> dict[str, str]:
    """Misconception -> what the student reads."""
    text = file.read_text(encoding="utf-8")
    return dict(re.findall(r"^\[(\w+)\]\n(.*?)\n(?=\n\[|\Z)", text, re.DOTALL | re.MULTILINE))


def failing(kept: str) -> str:
    """The check that a snapshot shows; nothing where there is none."""
    shown = re.search(r"^x (.*(?:\n  \S.*)*)", kept, re.MULTILINE)
    return " ".join(shown[1].split()) if shown else ""


def feedback(row: Row) -> str:
    """What the student reads first, up to the first check that fails. What the rest is worth is another matter."""
    _, *lines = text.task(row.report.task(row.task)).split("\n")
    until = next((place for place, line in enumerate(lines) if "Right already: " in line), len(lines))
    return "\n".join(line.removeprefix("    ") for line in lines[:until])


LATE = "Your code was still running"


def alike(one: str, other: str) -> bool:
    """Word for word the same, and numbers up to what another processor may round otherwise."""
    # How much longer something takes, and on which example that shows first, is another matter at each run; so is
    # where a loop is interrupted.
    one, other = (re.split(r"\d+ times as long", text)[0] for text in (one, other))
    one, other = (re.sub(r"^ +line \d+ of `.*\n", "", text, flags=re.MULTILINE) if LATE in text else text for text in (one, other))
    number = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e-?\d+)?")
    if number.sub("0.0", one) != number.sub("0.0", other):
        return False
    pairs = zip(number.findall(one), number.findall(other), strict=True)
    return all(math.isclose(float(a), float(b), rel_tol=2e-3, abs_tol=1e-6) for a, b in pairs)


@pytest.mark.parametrize("name", FOLDERS if EACH == 1 else ["attention", "embeddings"])
def test_each_task_names_its_own_mistake(name: str) -> None:
    """Where several tasks are wrong at a time. All the sampled pairs and triples are graded by `autograder strength`."""
    rows = rows_of(name, [item for item in questions(name) if item.kind == "together"][::8])
    assert len(rows) >= 4
    assert not faults(rows), faults(rows)


TOY = read_assignment(ROOT / "tests" / "toy_course" / "solutions" / "toy")


@pytest.mark.parametrize("mixed", ["x / x.std()", "x - x.mean((0, 1))", "(x - x.amax()).exp()", "x * x.norm()"])
def test_a_word_that_looks_into_other_samples_sees_the_future(mixed: str) -> None:
    """All samples of a call at once would hide it: what is made of the whole batch is the same for all of them."""
    table = strength.table_of(FOLDERS["attention"], 0)
    source = table.assignment.solution("causal_self_attention").replace("self.c_attn(x)", f"self.c_attn({mixed})")
    report = table.graded({"causal_self_attention": source}, only=frozenset({"causal_self_attention"}))
    (check,) = [one for one in report.task("causal_self_attention").checks if "never sees" in one.name]
    assert check.status == "fail"
    assert "sees the future" in check.message


def test_a_survivor_is_a_fault() -> None:
    """The table can fail: a wrong answer that keeps its points, a right one that loses some, a name that is not given."""
    table = Table(TOY)
    right = TOY.solution("softmax")
    survivor = Row("misconception", "no_exp", "softmax", table.graded({"softmax": right}))
    assert survivor.faults == ["softmax: loses nothing"]
    wrong = table.graded({"softmax": "def softmax(x, dim=-1):\n    return x"})
    assert Row("honest", "clean", "softmax", wrong).faults
    assert Row("reference", "the reference", "", wrong).faults
    unnamed = table.graded({"softmax": "def softmax(x, dim=-1):\n    return x * 3"})
    assert Row("misconception", "no_exp", "softmax", unnamed).faults == ["softmax: diagnosed as nothing"]
    lucky = table.graded({"softmax": right})
    assert Row("trivial", "returns its input", "softmax", lucky).faults


def test_snapshots_can_fail() -> None:
    """On another word and on another number, not on another last digit."""
    assert alike("yours is 0.12345 at 3", "yours is 0.12346 at 3")
    assert not alike("yours is 0.12345 at 3", "yours is 0.12345 at 4")
    assert not alike("yours is 0.12345", "yours is 0.22345")
    assert not alike("yours is 0.5", "yours was 0.5")
    assert alike(f"{LATE}\n  line 3 of `f`: i = 0\n", f"{LATE}\n  line 4 of `f`: i += 1\n")
    assert not alike(f"{LATE}\n  line 3 of `f`: i = 0\n| f(3)", f"{LATE}\n  line 3 of `f`: i = 0\n| f(4)")
    assert not alike("  line 3 of `f`: i = 0\n", "  line 4 of `f`: i += 1\n")


def test_the_figures_of_an_assignment() -> None:
    """Counts, checks that catch nothing, mistakes that hang by one check; the page shows them all."""
    rows = list(strength.rows(TOY.folder, strength.chosen(TOY.folder)))
    one = killmatrix.strength("toy", rows, strength.seconds(TOY.folder))
    assert one.line.startswith("toy: 3 of 3 wrong answers lose their points, 2 of 2 right answers lose none; 3 of 3 ")
    assert not one.faults
    assert [grid.task for grid in one.grids] == list(dict.fromkeys(row.task for row in rows if row.kind == "misconception"))
    for grid in one.grids:
        assert all(len(found) == len(grid.checks) == len(grid.seconds) for found in grid.wrong.values())
        caught = {name for place in range(len(grid.checks)) for name in grid.kills(place)}
        assert caught == set(grid.wrong)
        assert set(grid.idle) == {check for place, check in enumerate(grid.checks) if not grid.kills(place)}
    page = strengthpage.page([one], date="today")
    for grid in one.grids:
        assert all(name in page and name in strengthpage.text(one) for name in grid.wrong)


def test_a_grid_by_hand() -> None:
    """Two checks, three mistakes."""
    wrong = {"a": ("fail", "skip"), "b": ("fail", "fail"), "c": ("fail", "pass")}
    grid = killmatrix.Grid("task", ("values", "shape"), (0.1, 0.2), wrong)
    assert (grid.kills(0), grid.kills(1)) == (["a", "b", "c"], ["b"])
    assert grid.hanging_by_one == {"a": "values", "c": "values"}
    assert grid.idle == []
    assert killmatrix.Grid("task", ("values", "idle"), (0.1, 0.2), {"a": ("fail", "pass")}).idle == ["idle"]


def test_right_answers_under_several_seeds() -> None:
    """Stable: nothing lost; and a victim would be seen."""
    found = list(stability.outcomes(TOY.folder, range(3)))
    assert {one.seed for one in found} == {0, 1, 2}
    assert not any(one.faults for one in found)
    assert sum(one.answers for one in found) >= 3 * 2
