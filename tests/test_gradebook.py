"""A class through real nbgrader: what was handed in becomes a grade, or `needs manual grading`, and never more than that.

One class, graded once and then looked at from many sides: the gradebook, the autograded notebooks, feedback, the CSV.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from autograder.assignment import Assignment, read_assignment
from autograder.notebook import Cell, read_ipynb, to_ipynb

pytest.importorskip("nbgrader", reason="nbgrader is not installed")

from nbgrader.api import Gradebook

from autograder import nodes
from autograder.transplant import transplant

ROOT = Path(__file__).resolve().parents[1]
FILES = Path(__file__).parent / "small_course"
SECRETS = ("the-hidden-mark-7731", "assert_equal", "reference.double", "result_of_doubling", "The caller must decide")
RIGHT = "def double(x):\n    return 2 * x"
SQUARED = "def double(x):\n    return x * x"
MEAN = "def mean(values):\n    if not values:\n        raise ValueError(f'no mean of {values}')\n    return sum(values) / len(values)"
HOSTILE = """
# Title <script>window.struck = 1</script>

<img src=x onerror="window.struck = 1"> <svg onload="window.struck = 1"><script>window.struck = 1</script></svg>
<iframe src="javascript:window.struck = 1"></iframe> <style>body {display: none}</style> <math href="javascript:alert(1)">x</math>
<a href="javascript:window.struck = 1">one</a> [two](javascript:alert(1)) [three](data:text/html,<script>1</script>)
<a href="&#1;javascript:alert(1)">four</a> <form action="https://example.org"><input class="score" id="test_double"></form>
<div id="test_double" class="score comment" style="position: fixed" onclick="window.struck = 1">five</div>
<noscript><p title="</noscript><img src=x onerror=window.struck=1>"></noscript> <base href="https://example.org/">
<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=window.struck=1&gt;"></table></mtext></math>

![picture](attachment:evil.svg) ![far](https://example.org/track.png) $\\href{javascript:window.struck=1}{click}$

```mermaid
graph TD; A["<img src=x onerror=window.struck=1>"]
```

```<script>window.struck=1</script>
x
```
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course with one small assignment, as after cloning: nothing is generated, there is no gradebook."""
    root = tmp_path_factory.mktemp("gradebook") / "course"
    folder = root / "solutions" / "small"
    folder.mkdir(parents=True)
    for file in FILES.glob("*.txt"):
        shutil.copy(file, folder / file.stem)
    config = (ROOT / "nbgrader_config.py").read_text(encoding="utf-8")
    (root / "nbgrader_config.py").write_text(config + '\nc.Grading.isolation = "none"\n', encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def small(course: Path) -> Assignment:
    """The assignment of that course."""
    return read_assignment(course / "solutions" / "small")


def nbgrader(course: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of nbgrader's own commands in a course."""
    command = [sys.executable, "-m", "nbgrader", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True, check=False, timeout=600)


@dataclass(frozen=True)
class Case:
    """One student: the file, and what must be in the gradebook for it."""

    data: bytes
    double: float | None
    mean: float | None


def filled(small: Assignment, double: str = RIGHT, mean: str = MEAN) -> list[Cell]:
    """The released notebook with two solutions in it."""
    sources = {"double": double, "mean": mean}
    return [replace(cell, source=sources.get(str(cell.grade_id), cell.source)) for cell in small.released]


def raw(cells: list[Cell], change: Callable[[dict[str, Any]], None]) -> bytes:
    """A notebook file that was tampered with."""
    notebook = json.loads(to_ipynb(cells))
    change(notebook)
    return json.dumps(notebook).encode()


def forged(notebook: dict[str, Any]) -> None:
    """Outputs, points, tags, kernel and metadata that would each have given full marks or broken the run."""
    notebook["metadata"] = {"kernelspec": {"name": "evil", "display_name": "<script>1</script>", "language": "evil"}}
    for cell in notebook["cells"]:
        cell["metadata"] |= {"tags": ["skip-execution"], "deletable": True, "<script>": 1}
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"] |= {"points": 1e9, "locked": False, "checksum": "0" * 32}
        if cell["cell_type"] == "code":
            cell["outputs"] = [
                {"output_type": "execute_result", "data": {"text/plain": "1000000"}, "metadata": {}, "execution_count": 1},
                {"output_type": "display_data", "data": {"text/html": "<script>window.struck=1</script>"}, "metadata": {}},
            ]


def old_schema(notebook: dict[str, Any]) -> None:
    """As written by an nbgrader of years ago, which makes nbgrader stop the whole class."""
    for cell in notebook["cells"]:
        if "nbgrader" in cell["metadata"]:
            labels = cell["metadata"]["nbgrader"]
            labels.pop("task")
            labels["schema_version"] = 0


def third_format(notebook: dict[str, Any]) -> None:
    """nbformat 3, with its worksheets."""
    cells = notebook.pop("cells")
    for cell in cells:
        cell["input"] = cell.pop("source")
    notebook |= {"worksheets": [{"cells": cells}], "nbformat": 3, "nbformat_minor": 0}


def with_text(notebook: dict[str, Any]) -> None:
    """Hostile text wherever there is text, an attachment, and characters that are none."""
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "written_small":
            cell["source"] = HOSTILE
    extra: list[dict[str, Any]] = [
        {"cell_type": kind, "metadata": {"raw_mimetype": "text/html"}, "source": HOSTILE, "id": f"<{kind}>"}
        for kind in ("markdown", "raw", "unheard-of")
    ]
    extra[0]["attachments"] = {"evil.svg": {"image/svg+xml": "PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+"}}
    code = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": "<script>", "id": "x"}
    extra.append(code | {"source": "note = '''</pre><script>window.struck = 1</script>\ud800\x00\x1b[31m'''"})
    extra.append(code | {"source": "raise ValueError('<script>window.struck = 1</script>')"})
    notebook["cells"][3:3] = extra


def hostile_double() -> str:
    """An answer and an error whose text would act in a page."""
    return "def double(x):\n    return '<script>window.struck = 1</script><img src=x onerror=alert(1)>' if x else 1 / 0"


@pytest.fixture(scope="module")
def cases(small: Assignment) -> dict[str, Case]:
    """The class."""
    full = filled(small)
    tests = [cell for cell in full if cell.is_test]
    stub = next(cell for cell in small.released if cell.grade_id == "double")
    answered = [replace(cell, source="It has no members.") if cell.grade_id == "written_small" else cell for cell in full]
    both = to_ipynb(full)
    return {
        "ada": Case(to_ipynb(answered), 40, 50),
        "stub": Case(to_ipynb(small.released), 0, 0),
        "squared": Case(to_ipynb(filled(small, double=SQUARED)), 0, 50),
        "partial": Case(to_ipynb(filled(small, mean="def mean(values):\n    return sum(values) / max(len(values), 1)")), 40, 40),
        "syntax": Case(to_ipynb(filled(small, double="def double(x:\n    return")), 0, 50),
        "crash": Case(to_ipynb(filled(small, double="def double(x):\n    import os\n    os._exit(0)")), 0, 50),
        "empty": Case(b"", None, None),
        "binary": Case(b"\x89PNG\r\n\x1a\n\x00\xff", None, None),
        "list": Case(b"[1, 2, 3]", None, None),
        "deep": Case(b"[" * 100_000, None, None),
        "forged": Case(raw(filled(small, double=SQUARED), forged), 0, 50),
        "forged-right": Case(raw(full, forged), 40, 50),
        "old": Case(raw(full, old_schema), 40, 50),
        "older": Case(raw(full, third_format), 40, 50),
        "twice": Case(to_ipynb([*full, stub, *tests]), 40, 50),
        "no-tests": Case(to_ipynb([cell for cell in full if not cell.is_test]), 40, 50),
        "tests-edited": Case(to_ipynb([replace(cell, source="1/0") if cell.is_test else cell for cell in full]), 40, 50),
        "no-label": Case(to_ipynb([replace(cell, grade_id=None) if cell.grade_id == "mean" else cell for cell in full]), 40, 50),
        "as-text": Case(to_ipynb([replace(cell, kind="markdown") if cell.grade_id == "mean" else cell for cell in full]), 40, 50),
        "backwards": Case(to_ipynb(full[::-1]), 40, 50),
        "hostile": Case(raw(filled(small, double=hostile_double()), with_text), 0, 50),
        "O'Neil Zoë (2)": Case(both, 40, 50),
        "<img src=x onerror=1>": Case(both, None, None),
    }


@pytest.fixture(scope="module")
def graded(course: Path, cases: dict[str, Case]) -> Iterator[Path]:
    """The class after `nbgrader autograde`, `generate_feedback` and `export`."""
    for student, case in cases.items():
        folder = course / "submitted" / student / "small"
        folder.mkdir(parents=True)
        (folder / "small.ipynb").write_bytes(case.data)
    linked = course / "submitted" / "link" / "small"
    linked.mkdir(parents=True)
    (linked / "small.ipynb").symlink_to(course / "submitted" / "ada" / "small" / "small.ipynb")
    (linked / "notes.txt").symlink_to(course / "solutions" / "small" / "test_hidden.py")
    submitted = course / "submitted"
    put = {"renamed/small": "my work (1).ipynb", "beside/small": "small.ipynb", "stamped/small": "small.ipynb", "=SUM(1)/small": "small.ipynb"}
    for folder, name in put.items():
        (submitted / folder).mkdir(parents=True)
        (submitted / folder / name).write_bytes(cases["ada"].data)
    # What nbgrader would copy, or read, without end.
    os.mkfifo(submitted / "beside" / "small" / "pipe")
    (submitted / "beside" / "small" / "zero").symlink_to("/dev/zero")
    os.mkfifo(submitted / "stamped" / "small" / "timestamp.txt")
    (submitted / "only-a-report" / "small").mkdir(parents=True)
    (submitted / "only-a-report" / "small" / "report.pdf").write_bytes(b"%PDF")
    (submitted / "borrowed").mkdir()
    (submitted / "borrowed" / "small").symlink_to(submitted / "ada" / "small")
    done = nbgrader(course, "autograde", "small")
    assert done.returncode == 0, done.stderr
    (course / "log.txt").write_text(done.stderr, encoding="utf-8")
    done = nbgrader(course, "generate_feedback", "small")
    assert done.returncode == 0, done.stderr
    done = nbgrader(course, "export")
    assert done.returncode == 0, done.stderr
    return course  # type: ignore[return-value]


@pytest.fixture
def gradebook(graded: Path) -> Iterator[Gradebook]:
    """The gradebook of the class."""
    with Gradebook(f"sqlite:///{graded}/gradebook.db") as book:
        yield book


def page(graded: Path, student: str) -> str:
    """A student's feedback page."""
    return (graded / "feedback" / student / "small" / "small.html").read_text(encoding="utf-8")


def shown(graded: Path, student: str) -> dict[str, Any]:
    """A student's autograded notebook."""
    path = graded / "autograded" / student / "small" / "small.ipynb"
    made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return made


def test_every_student_has_the_right_row(gradebook: Gradebook, cases: dict[str, Case]) -> None:
    """Honest work in a damaged file keeps its points, wrong work gains none, and what cannot be read is no zero."""
    wrong = {}
    for student, case in cases.items():
        if student.startswith("<"):
            continue
        for task, expected in (("test_double", case.double), ("test_mean", case.mean)):
            grade = gradebook.find_grade(task, "small", "small", student)
            if (grade.auto_score, grade.needs_manual_grade) != (expected, expected is None):
                wrong[student, task] = (grade.auto_score, grade.needs_manual_grade, expected)
    assert wrong == {}


def test_the_written_question_is_for_a_person(gradebook: Gradebook) -> None:
    """An answer waits for one; none is none; where nothing could be read, nothing is claimed."""
    assert gradebook.find_grade("written_small", "small", "small", "ada").needs_manual_grade is True
    assert gradebook.find_grade("written_small", "small", "small", "ada").auto_score is None
    assert gradebook.find_grade("written_small", "small", "small", "stub").auto_score == 0
    assert gradebook.find_grade("written_small", "small", "small", "empty").auto_score is None
    assert gradebook.find_comment("written_small", "small", "small", "stub").comment == "No response."
    assert gradebook.find_comment("written_small", "small", "small", "empty").comment is None


def test_hints_stand_beside_the_solution(gradebook: Gradebook) -> None:
    """The misconception and the advice; a kind word where nothing is filled in; nothing where all is well."""
    hint = gradebook.find_comment("double", "small", "small", "squared").comment
    assert hint.endswith("The number is squared. Add x to itself instead of multiplying it by itself.")
    assert "Nothing is filled in here yet" in gradebook.find_comment("double", "small", "small", "stub").comment
    assert gradebook.find_comment("double", "small", "small", "ada").comment is None


def test_a_link_is_no_submission_and_takes_nothing_along(graded: Path, gradebook: Gradebook) -> None:
    """nbgrader follows links when it copies; the hidden tests must not reach feedback that way."""
    assert gradebook.find_grade("test_double", "small", "small", "link").auto_score is None
    assert not list(graded.glob("autograded/link/**/notes.txt"))
    assert not list(graded.glob("feedback/link/**/notes.txt"))


def test_a_notebook_under_another_name_is_graded(gradebook: Gradebook) -> None:
    """Its cells tell; nbgrader by itself would have passed over it, and exported a zero."""
    assert gradebook.find_grade("test_double", "small", "small", "renamed").auto_score == 40


def test_a_folder_without_a_notebook_is_no_zero(graded: Path, gradebook: Gradebook) -> None:
    """It waits for a person, and the student reads why."""
    grade = gradebook.find_grade("test_double", "small", "small", "only-a-report")
    assert (grade.auto_score, grade.needs_manual_grade) == (None, True)
    assert "only report.pdf" in page(graded, "only-a-report")


def test_what_lies_beside_a_notebook_is_not_touched(graded: Path, gradebook: Gradebook) -> None:
    """A pipe, and a link to a device that never ends: the notebook is graded all the same."""
    assert gradebook.find_grade("test_double", "small", "small", "beside").auto_score == 40
    assert [path.name for path in (graded / "autograded" / "beside" / "small").iterdir()] == ["small.ipynb"]


@pytest.mark.parametrize(("student", "why"), [("stamped", "no short, ordinary file"), ("borrowed", "no folder but a link"), ("=SUM(1)", "rename it")])
def test_what_nbgrader_must_not_see_is_left_out_and_said(graded: Path, gradebook: Gradebook, student: str, why: str) -> None:
    """One line for that student; the others are graded."""
    assert student not in {one.id for one in gradebook.students}
    log = (graded / "log.txt").read_text(encoding="utf-8")
    assert any(f"submitted/{student}/small" in line and why in line for line in log.split("\n"))


def test_a_name_that_is_markup_is_left_out_and_said(graded: Path, gradebook: Gradebook) -> None:
    """It would be part of formgrader's pages."""
    assert all("<" not in student.id for student in gradebook.students)
    assert "is left out: rename it" in (graded / "log.txt").read_text(encoding="utf-8")


def test_feedback_names_what_fails(graded: Path) -> None:
    """Check, points and example on the page and in the notebook, the hint beside the solution."""
    text = page(graded, "squared")
    assert "double: 0 of 40 points, not there yet" in text
    assert "The result is twice the argument." in text
    assert "double(1)" in text
    assert "The number is squared." in text
    [output] = next(cell for cell in shown(graded, "squared")["cells"] if "print" in "".join(cell["source"]))["outputs"]
    assert "does not hold: The result is twice the argument." in "".join(output["data"]["text/plain"])
    assert "Nothing is filled in here yet" in page(graded, "stub")


def test_what_is_not_graded_is_no_zero_in_feedback(graded: Path) -> None:
    """Not for the task and not in the sum; the page says what to do."""
    text = page(graded, "empty")
    assert "Score: not graded yet / 40.0" in text
    assert "(Score: not graded yet / 100.0)" in text
    assert "The file is empty. Save the notebook again" in text
    assert "not your fault" not in text


def test_no_secret_leaves(graded: Path) -> None:
    """No source of a hidden test, no reference, in nothing that a student gets."""
    files = [*graded.glob("feedback/**/*"), *graded.glob("autograded/**/*"), graded / "grades.csv"]
    texts = {path: path.read_text(encoding="utf-8") for path in files if path.is_file()}
    assert len(texts) > 40
    assert [(path, secret) for path, text in texts.items() for secret in SECRETS if secret in text] == []


def test_notebooks_that_are_shown_hold_only_ours(graded: Path, cases: dict[str, Case]) -> None:
    """No outputs, tags, attachments, kernels or labels of a student's; every label once, with the course's points."""
    for student in cases:
        if student.startswith("<"):
            continue
        notebook = shown(graded, student)
        assert notebook["metadata"]["kernelspec"] == nodes.KERNEL
        labels = [cell["metadata"]["nbgrader"] for cell in notebook["cells"] if "nbgrader" in cell["metadata"]]
        assert [label["grade_id"] for label in labels] == ["imports", "double", "test_double", "mean", "test_mean", "written_small"]
        assert [label["points"] for label in labels if "points" in label] == [40, 50, 10]
        for cell in notebook["cells"]:
            assert "attachments" not in cell
            assert set(cell["metadata"]) <= {"nbgrader", "tags"}
            assert cell["metadata"].get("tags", ["demo"]) == ["demo"]
            assert cell["cell_type"] in ("code", "markdown")


class _Danger(HTMLParser):
    """Collects what could act in the cells of a page: everything after the page's own header."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "style", "svg", "math", "form", "input", "base", "object", "embed", "link", "meta"):
            self.found.append(tag)
        for name, value in attrs:
            address = name in ("href", "src", "action", "xlink:href") and not (value or "").startswith(
                ("http://", "https://", "#", "mailto:", "data:image/png;base64,")
            )
            if name.startswith("on") or address or (tag != "input" and (name, value) == ("id", "test_double")):
                self.found.append(f"{tag} {name}={value}")
            if tag == "img" and name == "src" and not (value or "").startswith("data:"):
                self.found.append(f"{tag} {name}={value}")


@pytest.mark.parametrize("text", [part for part in HOSTILE.split("\n\n") if part] + HOSTILE.split("\n")[3:10])
def test_markdown_is_cleaned_piece_by_piece(text: str) -> None:
    """One trap must not hide another, as an unfinished tag swallows what follows it."""
    from autograder.safe_html import clean_html, markdown2html

    for made in (markdown2html(text), clean_html(text)):
        danger = _Danger()
        danger.feed(made)
        assert danger.found == [], made


def test_what_markdown_is_for_survives() -> None:
    """Drawers, tables, formulas, coloured code, web links and pictures in the text."""
    from autograder.safe_html import markdown2html

    made = markdown2html(
        "<details><summary>Hint</summary>\n\n*so*\n\n</details>\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n$a < b$ [x](https://example.org)\n\n"
        "```python\nx = 1\n```\n\n![dot](data:image/png;base64,iVBORw0KGgo=) ![pinned](attachment:pin.png)\n\n<img src='data:image/gif;base64,AAAA' title='alt=>'>"
    )
    for part in (
        "<details><summary>Hint</summary>", "<em>so</em>", 'style="text-align:right"', "$a &lt; b$", 'href="https://example.org"',
        'class="highlight"', 'src="data:image/png;base64,iVBORw0KGgo="', "[a picture: pinned]",
        'alt="dot"', 'alt="A picture without a description"', '<table class="table table-condensed" style="width: auto">',
    ):  # fmt: skip
        assert part in made, made


def test_no_student_text_acts_in_feedback(graded: Path) -> None:
    """Markdown, written answer, raw cell, code, error texts, examples and notes."""
    text = page(graded, "hostile")
    danger = _Danger()
    danger.feed(text[text.index("</head>") :])
    assert danger.found == []
    assert "window.struck = 1" in text  # it is shown, as text
    assert ",Safe" in text[: text.index("</head>")]  # MathJax opens no javascript: address


def test_no_student_text_acts_in_formgrader(graded: Path) -> None:
    """The same notebook through the exporter and the template that formgrader uses, with this configuration."""
    from nbconvert.exporters import HTMLExporter
    from nbgrader.server_extensions.formgrader import handlers
    from traitlets.config import PyFileConfigLoader

    config = PyFileConfigLoader("nbgrader_config.py", path=str(graded)).load_config()
    config.HTMLExporter.template_name = "formgrade"
    config.HTMLExporter.extra_template_basedirs = [handlers.template_path]
    resources = {"index": 0, "total": 1, "base_url": "", "student": "hostile", "submission_id": "1", "notebook_path": "x"}
    path = graded / "autograded" / "hostile" / "small" / "small.ipynb"
    text, _ = HTMLExporter(config=config).from_filename(str(path), resources=resources)
    body = text[text.index('id="notebook-container"') :]
    danger = _Danger()
    danger.feed(body)
    expected = ["input", "input"]  # formgrader's own fields for score and extra credit
    assert danger.found == expected * 3
    assert "not there yet" in body


def test_the_csv_has_the_sums(graded: Path) -> None:
    """`nbgrader export`, unchanged."""
    with (graded / "grades.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert float(rows["ada"]["raw_score"]) == 90
    assert float(rows["ada"]["max_score"]) == 100
    assert float(rows["forged"]["raw_score"]) == 50


def test_a_regrade_keeps_manual_scores_and_no_stale_ones(graded: Path, cases: dict[str, Case]) -> None:
    """What a person gave stays, and waits for review; a score of before does not outlive a file that cannot be graded."""
    with Gradebook(f"sqlite:///{graded}/gradebook.db") as book:
        grade = book.find_grade("test_double", "small", "small", "squared")
        grade.manual_score = 13
        book.db.commit()
    broken = graded / "submitted" / "forged-right" / "small" / "small.ipynb"
    broken.write_bytes(b"")
    done = nbgrader(graded, "autograde", "small", "--force", "--student=[sf]*r[eg]*")
    assert done.returncode == 0, done.stderr
    with Gradebook(f"sqlite:///{graded}/gradebook.db") as book:
        grade = book.find_grade("test_double", "small", "small", "squared")
        assert (grade.manual_score, grade.score, grade.auto_score, grade.needs_manual_grade) == (13, 13, 0, True)
        grade = book.find_grade("test_double", "small", "small", "forged-right")
        assert (grade.auto_score, grade.needs_manual_grade) == (None, True)
    broken.write_bytes(cases["forged-right"].data)


ALONE = """
import sys
from autograder import elsewhere
from nbgrader.apps.nbgraderapp import main
del elsewhere.Elsewhere.run
sys.argv[1:] = ["autograde", "small", "--force", "--student=partial"]
main()
sys.exit(7 if "torch" in sys.modules else 0)
"""


def test_what_is_known_is_booked_without_another_process(graded: Path) -> None:
    """Nor does nbgrader's own load torch for it."""
    with Gradebook(f"sqlite:///{graded}/gradebook.db") as book:
        book.find_grade("test_mean", "small", "small", "partial").auto_score = 1
        book.db.commit()
    command = [sys.executable, "-c", ALONE]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=graded, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    with Gradebook(f"sqlite:///{graded}/gradebook.db") as book:
        assert book.find_grade("test_mean", "small", "small", "partial").auto_score == 40


def test_other_cells_in_the_gradebook_are_said(graded: Path) -> None:
    """An assignment that got another task after a class was graded is not mixed with that class."""
    path = graded / "solutions" / "small" / "notebook.py"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace('"grade_id": "mean"', '"grade_id": "median"').replace("test_mean", "test_median"), encoding="utf-8")
    done = nbgrader(graded, "autograde", "small", "--force", "--student=ada")
    path.write_text(before, encoding="utf-8")
    assert done.returncode == 1
    assert "Put gradebook.db aside" in done.stderr
    with Gradebook(f"sqlite:///{graded}/gradebook.db") as book:
        assert book.find_grade("test_double", "small", "small", "ada").auto_score == 40


def test_an_unknown_assignment_is_nbgraders_to_refuse(graded: Path) -> None:
    """In its own words."""
    folder = graded / "submitted" / "ada" / "other"
    folder.mkdir()
    shutil.copy(graded / "submitted" / "ada" / "small" / "small.ipynb", folder / "other.ipynb")
    done = nbgrader(graded, "autograde", "other")
    assert done.returncode == 1
    assert "No assignment with ID 'other'" in done.stderr


def test_the_untouched_notebook_is_the_release(course: Path, small: Assignment) -> None:
    """What the gradebook and the pages are made of equals what nbgrader releases."""
    from autograder import release

    theirs = nodes.loads(release.released(course, "small")).cells
    ours = transplant(small, ()).cells
    assert [(cell.cell_type, cell.source) for cell in ours] == [(cell.cell_type, cell.source) for cell in theirs]
    assert [cell.metadata.get("nbgrader") for cell in ours] == [cell.metadata.get("nbgrader") for cell in theirs]


def test_own_cells_stay_where_they_were(small: Assignment) -> None:
    """Behind the cell they followed; unchanged cells of the course are not repeated."""
    cells = filled(small)
    cells.insert(5, Cell("code", "x = 1", tags=("skip-execution",)))
    cells.insert(0, Cell("markdown", "My notes"))
    made = [cell.source for cell in transplant(small, read_ipynb(to_ipynb(cells))).cells]
    assert made[0] == "My notes"
    assert made[made.index("x = 1") - 1].startswith("assert double(3)") or made.index("x = 1") == 6
    assert len(made) == len(cells)


def test_long_texts_are_cut_for_showing(small: Assignment) -> None:
    """A page can still be made of the longest notebook that is read."""
    cells = [*filled(small), *(Cell("code", "x = 1\n" * 50_000) for _ in range(100))]
    assert sum(len(cell.source) for cell in transplant(small, cells).cells) < 1_000_000


# In a real browser: nothing that a student wrote runs.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, the system's or playwright's own."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    with api.sync_playwright() as playwright:
        if program is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("there is no Chromium here: apt install chromium, or playwright install chromium")
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield made
        made.close()


def opened(browser: Any, address: str) -> dict[str, Any]:
    """What a page does in its first seconds: whether a student's script ran, what it asked for, and what it shows."""
    page = browser.new_page()
    dialogs: list[str] = []
    asked: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(("file:", "data:", "http://127.0.0.1")) else route.abort())
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_timeout(1_500)
    seen = {
        "struck": page.evaluate("window.struck"),
        "dialogs": dialogs,
        "far": [url for url in asked if "example.org" in url],
        "active": page.evaluate("document.querySelectorAll('a[href^=\"javascript:\"], iframe, svg, base, [onerror], [onload], [onclick]:not([onclick^=toggle_name]), form[action*=example]').length"),
        "text": page.inner_text("body"),
    }
    page.close()
    return seen


QUIET = {"struck": None, "dialogs": [], "far": [], "active": 0}


def quiet(seen: dict[str, Any]) -> dict[str, Any]:
    """The part of it that must be as in QUIET."""
    return {key: seen[key] for key in QUIET}


def test_the_browser_would_have_run_it(browser: Any, tmp_path: Path) -> None:
    """The same text, put into a page as it is, strikes: so the tests below can fail."""
    (tmp_path / "raw.html").write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{HOSTILE}</body>", encoding="utf-8")
    seen = opened(browser, (tmp_path / "raw.html").as_uri())
    assert seen["struck"] == 1
    assert seen["active"] > 0


def test_no_script_runs_on_a_feedback_page(browser: Any, graded: Path) -> None:
    """nbgrader's page for the student, with the hostile notebook in it."""
    seen = opened(browser, (graded / "feedback" / "hostile" / "small" / "small.html").as_uri())
    assert quiet(seen) == QUIET
    assert "window.struck = 1" in seen["text"]  # it is there, to be read


def test_no_script_runs_on_the_class_page(browser: Any, tmp_path: Path) -> None:
    """Ours for the instructor: names, messages, notes, all of them hostile."""
    from autograder.render import classpage
    from autograder.report import CheckResult, Diagnosis, Report, TaskResult

    checks = tuple(CheckResult(HOSTILE, status, 1, HOSTILE, HOSTILE) for status in ("fail", "ungraded"))
    tasks = tuple(TaskResult(HOSTILE, 5, 1, status, checks=checks, diagnosis=(Diagnosis("x", HOSTILE, HOSTILE),)) for status in ("partial", "ungraded"))
    reports = [Report(HOSTILE, HOSTILE, status, 1, 5, tasks, (HOSTILE,)) for status in ("graded", "ungraded")]
    (tmp_path / "class.html").write_text(classpage.render(reports, date=HOSTILE), encoding="utf-8")
    seen = opened(browser, (tmp_path / "class.html").as_uri())
    assert quiet(seen) == QUIET
    assert "window.struck = 1" in seen["text"]


@pytest.fixture(scope="module")
def server(graded: Path) -> Iterator[str]:
    """A Jupyter server with formgrader, in the course's folder; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyter", "server", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=letmein", f"--ServerApp.root_dir={graded}",
        "--ServerApp.jpserver_extensions={'nbgrader.server_extensions.formgrader': True}",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(graded / "jupyter"), "HOME": str(graded), "OMP_NUM_THREADS": "1"}
    with (graded / "server.log").open("w") as log, subprocess.Popen(command, cwd=graded, env=environment, stdout=log, stderr=log) as process:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, (graded / "server.log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def test_no_script_runs_in_formgrader(browser: Any, server: str, graded: Path, gradebook: Gradebook) -> None:
    """The page on which an instructor grades by hand, from the real server; and those that lead to it."""
    submission = gradebook.find_submission_notebook("small", "small", "hostile").id
    pages = [f"submissions/{submission}/", "gradebook/small/small", "manage_students", "manage_students/hostile/small", "manage_submissions/small"]
    for page in pages:
        seen = opened(browser, f"{server}/formgrader/{page}?token=letmein")
        assert {key: seen[key] for key in ("struck", "dialogs", "far")} == {"struck": None, "dialogs": [], "far": []}, page
        if page.startswith("submissions/"):
            assert "window.struck = 1" in seen["text"], (graded / "server.log").read_text()[-3_000:]
            assert seen["active"] == 0
