"""Hostile hand-ins whose file or folder is tampered with: what the notebook says of itself, and what lies beside it.

Each function gets the folder to fill, the notebook as JSON with an attacked task that knows no answer, and the targets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Notebook = dict[str, Any]
Targets = Mapping[str, Any]


def attack(*rows: int, unreadable: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Put a function into the table. `unreadable`: there is nothing to grade, and the report has to say so."""

    def mark(function: Callable[..., None]) -> Callable[..., None]:
        vars(function).update(rows=rows, unreadable=unreadable)
        return function

    return mark


def save(folder: Path, notebook: Notebook) -> None:
    (folder / f"{name(folder)}.ipynb").write_text(json.dumps(notebook))


def name(folder: Path) -> str:
    return folder.name


def graded(notebook: Notebook) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["metadata"].get("nbgrader", {}).get("grade")]


@attack(9)
def forged_outputs(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """A test cell's output is its score."""
    for cell in graded(notebook):
        data = {"text/plain": "1000000", "text/html": "<script>window.struck=1</script>"}
        cell["outputs"] = [{"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": data}]
    save(folder, notebook)


@attack(11)
def forged_points(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """Points stand in the notebook, and can be edited there."""
    for cell in graded(notebook):
        cell["metadata"]["nbgrader"] |= {"points": 10**6, "locked": False, "solution": True}
    save(folder, notebook)


@attack(11)
def skipping_tags(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """Cells tagged `skip-execution`, or `raises-exception`, are not run, or may fail."""
    for cell in notebook["cells"]:
        cell["metadata"]["tags"] = ["skip-execution", "raises-exception", "nbgrader-skip"]
    save(folder, notebook)


@attack(11)
def another_kernel(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """The kernel's name decides what runs the notebook."""
    notebook["metadata"]["kernelspec"] = {"name": "bash", "display_name": "x", "language": "bash", "argv": ["/bin/sh"]}
    save(folder, notebook)


@attack(11)
def kinder_tests(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """The test cells are the student's to edit."""
    for cell in graded(notebook):
        cell["source"] = "assert True"
    save(folder, notebook)


@attack(11)
def doubled_tests(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """Two test cells of one name: one of them passes."""
    notebook["cells"] += [{**cell, "id": f"again{number}", "source": "1"} for number, cell in enumerate(graded(notebook))]
    save(folder, notebook)


@attack(11)
def more_tasks(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """Tasks of one's own bring points of one's own."""
    cell = graded(notebook)[0]
    more = {**cell["metadata"]["nbgrader"], "grade_id": "test_bonus", "points": 1000}
    notebook["cells"].append({**cell, "id": "bonus", "metadata": {"nbgrader": more}, "source": "assert True"})
    save(folder, notebook)


@attack(11)
def points_of_another_kind(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """NaN, infinity, lists and texts where a number of points should be."""
    for cell, points in zip(graded(notebook), (float("nan"), float("inf"), [10], "10"), strict=False):
        cell["metadata"]["nbgrader"]["points"] = points
    save(folder, notebook)


@attack(29, 30)
def files_beside(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """conftest.py, sitecustomize.py, torch.py and settings beside the notebook are loaded by the grader."""
    save(folder, notebook)
    touch = f"open({targets['reports'] + '/hostile-loaded'!r}, 'w').close()\n"
    for file in ("conftest.py", "sitecustomize.py", "usercustomize.py", "torch.py", "json.py", "nbgrader_config.py"):
        (folder / file).write_text(touch)
    (folder / "jupyter_config.py").write_text(touch)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p hostile\n")
    (folder / "hostile.pth").write_text(f"import os; {touch}")


@attack(5, 24, unreadable=True)
def link_to_the_tests(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """The notebook is a link to the hidden tests, so that the report quotes them."""
    (folder / f"{name(folder)}.ipynb").symlink_to(targets["tests"][0])


@attack(24, 33, unreadable=True)
def link_to_a_neighbour(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """The notebook is a link to a good student's."""
    (folder / f"{name(folder)}.ipynb").symlink_to(targets["submissions"][0])


@attack(24, 33)
def links_beside(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """Links to the gradebook, the tests and the home folder beside the notebook are copied to where others may look."""
    save(folder, notebook)
    (folder / "gradebook.txt").symlink_to(targets["gradebook"])
    (folder / "tests.txt").symlink_to(targets["tests"][0])
    (folder / "key.txt").symlink_to(targets["home files"][0])


@attack(24, 43, unreadable=True)
def a_pipe(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """Who opens a pipe waits for ever."""
    os.mkfifo(folder / f"{name(folder)}.ipynb")


@attack(24, 43, unreadable=True)
def a_folder(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """A folder in the place of the notebook."""
    (folder / f"{name(folder)}.ipynb").mkdir()


@attack(43, unreadable=True)
def nested_json(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """JSON nested so deeply that reading it fails."""
    (folder / f"{name(folder)}.ipynb").write_text("[" * 200_000)


@attack(41)
def dated_back(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """A time stamp of the student's own says that the work came in time."""
    save(folder, notebook)
    (folder / "timestamp.txt").write_text("1999-01-01 00:00:00 UTC")
    os.utime(folder / f"{name(folder)}.ipynb", (0, 0))


@attack(39)
def acting_metadata(folder: Path, notebook: Notebook, targets: Targets) -> None:
    """Markup and escapes in metadata, cell ids, attachments and widgets."""
    struck = "<script>window.struck=1</script>\x1b[2J"
    notebook["metadata"] |= {"title": struck, "widgets": {struck: {}}, "authors": [{"name": struck}]}
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"{struck}{number}"
        cell["attachments"] = {"x.svg": {"image/svg+xml": struck}}
    save(folder, notebook)
