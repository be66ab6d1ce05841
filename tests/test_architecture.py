"""The shape of the engine, held as data: imports point one way, and each outside library has its few places.

A module that is new has to be put into a band here; one that needs a module of a later band is in the wrong place.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "autograder"
MAX_LINES = 300

# Imports point up: a module imports from its own band and from those above it.
BANDS = {
    "leaves": "errors report values decode wire data kept strategies compare notebook assignment shell names hidden_names shortcuts nodes safe_html",
    "boundary": "cache guard worker notebook_link replies student confinement link trial plan enclosure folders zygote walls kernel landlock seccomp selftest tree parent",
    "judges": "written example drawn suite diagnosis reference follow coherence",
    "grade": "grade grader strength killmatrix mutate mutants stability classroom pretrain",
    "render": (
        "render.clean render.words render.style render.text render.junit render.gradescope render.markdown "
        "render.spreadsheet render.classpage render.strengthpage"
    ),
    "edges": "figures plainfile archives layouts collect fanout source transplant intake feedback elsewhere gradebook release unfinished attacks stage",
    "cli": "batch doctor redteam demo proving cli __main__",
}

# The leaves among the leaves: what of ours they may import.
LEAVES = {
    "errors": "",
    "report": "",
    "values": "",
    "decode": "values",
    "wire": "values decode",
    "data": "",
    "kept": "",
    "strategies": "",
    "compare": "errors values",
    "notebook": "errors",
}

# All that is loaded with a module, itself left out. What is loaded inside a worker holds no test, no reference, no score.
LOADS = {
    "worker": "wire values decode shell guard",
    "zygote": "plan folders errors walls kernel landlock seccomp tree",
    "selftest": "",
    "data": "",
}

# Outside libraries that only these may import.
ONLY = {
    "nbgrader": "gradebook intake transplant release",
    "nbconvert": "intake safe_html",
    "nbformat": "nodes transplant gradebook source release",
    "jupytext": "source",
    "distributed": "fanout",
    "tiktoken": "data",
}

# All that grading needs: it also runs where neither nbgrader nor Jupyter is installed.
GRADING = {"torch", "numpy", "hypothesis", "pytest"}
# Imported inside a function, where it is asked for or happens to be there.
ON_DEMAND = {"distributed", "tqdm", "tiktoken"}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its name, less the empty `__init__` files."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if path.name != "__init__.py":
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(name: str) -> list[str]:
    """The full names of what a module imports, anywhere in it."""
    found = []
    for statement in ast.walk(modules()[name]):
        if isinstance(statement, ast.Import):
            found += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{name}: imports are written in full, without dots"
            found += [f"{statement.module}.{alias.name}" for alias in statement.names]
    return found


@cache
def ours(name: str) -> frozenset[str]:
    """Which of our modules it imports."""
    found = set()
    for full in imports(name):
        if full.split(".")[0] == "autograder":
            parts = full.split(".")[1:]
            known = [".".join(parts[:size]) for size in range(len(parts), 0, -1) if ".".join(parts[:size]) in modules()]
            assert known, f"{name} imports {full}, which is no module"
            found.add(known[0])
    return frozenset(found)


def outside(name: str) -> set[str]:
    """Which libraries it imports that are neither ours nor Python's."""
    return {full.split(".")[0] for full in imports(name)} - {"autograder"} - set(sys.stdlib_module_names)


def loads(name: str) -> set[str]:
    """All of our modules that come with it."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for other in ours(waiting.pop()) - found:
            found.add(other)
            waiting.append(other)
    return found


def bands() -> dict[str, int]:
    """The number of each module's band."""
    return {name: number for number, names in enumerate(BANDS.values()) for name in names.split()}


def test_every_module_has_its_place() -> None:
    """A new module is put into a band; one that is gone is taken out."""
    assert set(bands()) == set(modules())


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_one_way(name: str) -> None:
    """From a module to its own band, or to one above it."""
    place = bands()
    assert not {other for other in ours(name) if place[other] > place[name]}


def test_no_circle() -> None:
    """Also within a band."""
    TopologicalSorter({name: ours(name) for name in modules()}).prepare()


@pytest.mark.parametrize("name", LEAVES)
def test_leaves_import_next_to_nothing(name: str) -> None:
    """What everybody builds on builds on nobody."""
    assert ours(name) <= set(LEAVES[name].split())


@pytest.mark.parametrize("name", LOADS)
def test_what_comes_with_a_module_inside_the_sandbox(name: str) -> None:
    """Where a student's code runs there is nothing of ours that it could learn from."""
    assert loads(name) == set(LOADS[name].split())


@pytest.mark.parametrize("library", ONLY)
def test_each_library_has_its_places(library: str) -> None:
    """So that changing one of them, or doing without, is a matter of a few files."""
    assert {name for name in modules() if library in outside(name)} <= set(ONLY[library].split())


def test_grading_needs_little() -> None:
    """Nothing that comes with `autograder grade` needs nbgrader or Jupyter."""
    needed = set().union(*(outside(name) for name in {"batch", *loads("batch")}))
    assert needed <= GRADING | ON_DEMAND


@pytest.mark.parametrize("library", sorted(ON_DEMAND))
def test_libraries_on_demand_are_imported_where_they_are_used(library: str) -> None:
    """Never at the head of a module that grading loads."""
    for name in {"batch", *loads("batch")}:
        head = [item for item in modules()[name].body if isinstance(item, ast.Import | ast.ImportFrom)]
        named = {(item.module or "") if isinstance(item, ast.ImportFrom) else item.names[0].name for item in head}
        assert library not in {full.split(".")[0] for full in named}


@pytest.mark.parametrize("name", sorted(modules()))
def test_the_engine_knows_no_solution_and_no_test(name: str) -> None:
    """It is handed a folder."""
    assert not {full.split(".")[0] for full in imports(name)} & {"solutions", "tests"}


def test_packages_are_only_folders() -> None:
    """The worker imports `autograder/__init__.py`, so it stays empty."""
    assert [path for path in PACKAGE.rglob("__init__.py") if path.read_bytes()] == []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_short(path: Path) -> None:
    """A file over 300 lines is two files."""
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_LINES
