"""Slips of the hand: what the mutator makes of code, and that each mutant of a reference loses or is known to be right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autograder import mutants
from autograder.errors import CourseBroken
from autograder.mutants import Trial
from autograder.mutate import Mutant
from autograder.mutate import mutants as mutants_of

# Mutants leave files open and warn; nobody will mend them.
pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {path.parent.name: path.parent for path in sorted((ROOT / "solutions").glob("*/notebook.py"))}
TOY = ROOT / "tests" / "toy_course" / "solutions" / "toy"
# Every so many-th mutant is tried here, and all of them by `autograder mutants`.
SAMPLE = 180


def changed(body: str) -> set[tuple[str, str]]:
    lines = ["def f(x, y=2):", '    """Text."""', "    ### BEGIN SOLUTION", *(f"    {line}" for line in body.split("\n"))]
    source = "\n".join([*lines, "    ### END SOLUTION"])
    return {(one.was, one.now) for one in mutants_of("f", source)}


def one_line(body: str) -> set[str]:
    found = changed(body)
    assert {was for was, _ in found} == {body}
    return {now for _, now in found}


def test_operators_and_operands() -> None:
    assert one_line("return x - y") == {"return x + y", "return y - x", "return None"}
    assert one_line("return x @ -y") == {"return x * -y", "return -y @ x", "return x @ y", "return None"}


def test_constants_and_dims() -> None:
    assert one_line("return x[0]") == {"return x[1]", "return x[-1]", "return None"}
    assert one_line("return x[-1]") == {"return x[0]", "return x[-2]", "return None"}
    assert one_line("return 0.5") == {"return 1.0", "return None"}
    assert one_line("return True") == {"return False", "return None"}
    assert one_line("return 'a'") == {"return ''", "return None"}


def test_comparisons_and_conditions() -> None:
    assert one_line("return x < y") == {"return x <= y", "return x >= y", "return None"}
    assert one_line("return x and y") == {"return x or y", "return x", "return y", "return None"}
    assert one_line("return [i for i in x if i]") == {"return [i for i in x if not i]", "return None"}
    assert ("if x:", "if not x:") in changed("if x:\n    return y")


def test_calls_and_arguments() -> None:
    assert one_line("return x.sum(dim=y)") == {"return x.mean(dim=y)", "return x.sum()", "return x", "return None"}
    assert one_line("return pow(x, y)") == {"return pow(y, x)", "return pow(x)", "return x", "return None"}
    assert one_line("a, b = x") == {"(b, a) = x", "pass"}


def test_arguments_that_have_no_order() -> None:
    """They are not swapped: nothing would change."""
    assert "return max(y, x)" not in one_line("return max(x, y)")
    assert "return torch.promote_types(y, x)" not in one_line("return torch.promote_types(x, y)")
    assert "return x.transpose(y, 1)" not in one_line("return x.transpose(1, y)")
    assert "return x.max(True, y)" in one_line("return x.max(y, True)")


def test_statements_are_deleted_whole() -> None:
    assert ("y = 1 y = y + 1", "pass") not in changed("y = 1\ny = y + 1")
    assert {("y = 1", "pass"), ("y = y + 1", "pass")} <= changed("y = 1\ny = y + 1")
    assert ("if x: return y", "pass") in changed("if x:\n    return y")


def test_what_is_given_is_left_alone() -> None:
    """The signature, docstrings, messages and whatever stands outside the solution; comments are no part of a name."""
    assert changed('"""Text."""') == set()
    assert one_line('raise ValueError(f"{x} is {y}")') == {
        'raise RuntimeError(f"{x} is {y}")', "raise ValueError()", "pass",
    }  # fmt: skip
    assert ("return x", "return None") in changed("return x  # (T, C)")


def test_equal_changes_are_told_apart_by_their_place() -> None:
    source = "### BEGIN SOLUTION\na = x + 1\nb = 1\na = x + 1\n### END SOLUTION"
    found = [(one.now, one.place) for one in mutants_of("f", source) if one.was == "a = x + 1" and one.now == "pass"]
    assert found == [("pass", 1), ("pass", 2)]


@pytest.mark.parametrize("name", FOLDERS)
def test_the_list_of_what_is_no_mistake_is_kept(name: str) -> None:
    """Each entry fits a mutant of the reference as it is now, and says why; no two mutants have one name."""
    mutants.equivalents(FOLDERS[name])
    keys = [mutant.key for mutant in mutants.all_mutants(FOLDERS[name])]
    assert len(keys) == len(set(keys)) > 100


@pytest.mark.parametrize("name", FOLDERS)
def test_a_sample_of_mutants(name: str) -> None:
    """Each loses, or stands in the list."""
    folder = FOLDERS[name]
    equivalent = mutants.equivalents(folder)
    sample = mutants.all_mutants(folder)[7::SAMPLE]
    found = [fault for trial in mutants.trials(folder, sample) for fault in mutants.faults(trial, equivalent)]
    assert not found, "\n\n".join(found)


def test_a_list_that_fits_no_more(tmp_path: Path) -> None:
    """An entry of a line that is gone, one without a reason and one that stands twice are errors, not silence."""
    for file in TOY.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    mutant = mutants.all_mutants(tmp_path)[0]
    good = mutants.entry(mutant).replace('why = ""', 'why = "Since."')

    def said(text: str) -> str:
        (tmp_path / mutants.EQUIVALENT).write_text(text, encoding="utf-8")
        try:
            mutants.equivalents(tmp_path)
        except CourseBroken as error:
            return str(error)
        return ""

    assert said(good) == ""
    assert "has no reason" in said(mutants.entry(mutant))
    assert "no mutant" in said(good.replace("was = '", "was = 'old "))
    assert "stand twice" in said(good + "\n" + good)
    assert "KeyError" in said("[[mutant]]\ntask = 'x'\n")


def test_what_is_a_fault() -> None:
    """A survivor that is not listed, one listed that loses, a check that broke, a name that does not hold."""
    mutant = Mutant("t", "a", "b", 1, "b")
    listed = {mutant.key: "Since."}
    lost = Trial(mutant, "A check.")
    assert mutants.faults(lost, {}) == []
    assert mutants.faults(Trial(mutant), listed) == []
    assert "survives" in mutants.faults(Trial(mutant), {})[0]
    assert "is called equivalent" in mutants.faults(lost, listed)[0]
    assert "broke" in mutants.faults(Trial(mutant, broken="broke"), listed)[0]
    assert "otherwise" in mutants.faults(replace(lost, named=("m",), overclaimed=("m",)), {})[0]
    line = mutants.verdict("toy", [lost, Trial(mutant), replace(lost, named=("m",))], listed)
    assert line.startswith("toy: of 3 mutants 2 lose points, 1 are right all the same, 0 survive; 1 that lose are named, 1 ")
