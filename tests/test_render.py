"""Reports on paper: every format shows what it should, and nothing that a student wrote acts where it is shown."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from autograder.render import classpage, gradescope, junit, markdown, spreadsheet, text, words
from autograder.render.clean import clean, one_line
from autograder.report import Certificate, CheckResult, Diagnosis, Report, TaskResult, from_json

FACTS = Certificate("sha256:aa", "sha256:bb", 0, "cpu", "full", {"torch": "2.13.0"})
RIGHT = TaskResult("softmax", 10, 10, "pass", checks=(CheckResult("Shares sum to one.", "pass", 10),))
PARTLY = TaskResult(
    "attention_weights", 15, 7.5, "partial",
    checks=(
        CheckResult("Scores are scaled.", "fail", 7.5, "The result is wrong at [0, 0].", "x1 = torch.ones(1)\nattention_weights(x1)"),
        CheckResult("Rows sum to one.", "pass", 7.5),
        CheckResult("Inputs are left alone.", "skip", 0, "Not looked at until this holds: Scores are scaled."),
    ),
    diagnosis=(Diagnosis("unscaled", "The scores are not scaled.", "Divide by `sqrt(D)` before the softmax."),),
)  # fmt: skip
STUB = TaskResult(
    "heads", 15, 0, "fail", checks=(CheckResult("Heads are split.", "fail", 15, "split_heads raised NotImplementedError"),)
)
WITHHELD = TaskResult("causal_mask", 10, 0, "withheld", checks=(CheckResult("No shortcut.", "fail", 0, "`tril` is not allowed."),))
BROKEN = TaskResult("merge", 5, 0, "ungraded", checks=(CheckResult("Heads merge.", "ungraded", 5, "AssertionError: expected 42"),))
GRADED = Report("ada", "attention", "graded", 17.5, 50, (RIGHT, PARTLY, STUB, WITHHELD), ("A note.",), FACTS)
UNGRADED = Report("bob", "attention", "ungraded", 10, 15, (RIGHT, BROKEN), (), FACTS)
UNREADABLE = Report(
    "eve", "attention", "ungraded", 0, 50, tuple(TaskResult(task.task, task.points, 0, "ungraded") for task in GRADED.tasks),
    ("The file is empty.",), FACTS,
)  # fmt: skip
CLASS = (GRADED, UNGRADED, UNREADABLE)

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; DROP TABLE students; --",
    '=HYPERLINK("x")',
    "\x1b[2J\x1b]0;title\x07\x9b31mred",
    "\u202etxt.exe",
    "a\x00b\ud800c\uffff",
    "![x](y) [a](javascript:alert(1)) <b>b</b> https://example.org www.example.org",
    "```\n# heading\n| a | b |\n```",
    "]]><x/>&amp;&#60;",
    "::set-output name=score::90\n##[error]no",
    "  ::stop-commands::x\r::add-mask::y\u2028::warning::z ###[debug]",
    "</details></table>\n\n<h1>x",
    "x" * 5_000,
)
TEXT = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=60), st.text(alphabet="`|*_[]()<>&#:\"'=+-@\n\r\t\x1b\\ ab", max_size=60))


def hostile(words_: str) -> Report:
    """A report whose every text is that."""
    checks = tuple(CheckResult(words_, status, 1, words_, words_) for status in ("fail", "skip", "ungraded", "pass"))
    task = TaskResult(words_, 5, 1, "partial", checks=checks, diagnosis=(Diagnosis("x", words_, words_),))
    return Report(words_, words_, "graded", 1, 5, (task,), (words_,), replace(FACTS, versions={"x": words_}))


# clean


@given(TEXT)
def test_clean_leaves_nothing_that_acts(raw: str) -> None:
    """No control character but tab and newline, nothing that turns text around, all of it UTF-8; twice is once."""
    cleaned = clean(raw)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]", cleaned)
    cleaned.encode("utf-8")
    assert clean(cleaned) == cleaned
    assert "\n" not in one_line(raw)


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "Zs")), max_size=50))
def test_clean_leaves_ordinary_text(raw: str) -> None:
    """Letters, digits and punctuation of any language stay as they are."""
    assert clean(raw) == raw


def test_clean_takes_whole_escapes() -> None:
    """A colour goes with its numbers; an unfinished escape takes no more than its line."""
    assert clean("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07") == "red link"
    assert clean("\x1b]0;never ends\nnext line") == "\nnext line"
    assert clean("a\r\nb\rc") == "a\nb\nc"
    assert clean("x" * 50, 10) == "x" * 9 + "…"


# text


def test_text_says_the_mistake_first() -> None:
    """Score, then the mistake with its advice, then the check with its example."""
    shown = text.one(GRADED)
    assert shown.startswith("attention, ada: 17.5 of 50 points\n")
    places = [shown.index(part) for part in ("7.5 of 15, partly right", "The scores are not scaled.", "Try: Divide by", "x Scores are scaled.",
                                             "wrong at [0, 0]", "| attention_weights(x1)", "1 was not looked at")]  # fmt: skip
    assert places == sorted(places)
    assert "A note." in shown
    assert words.NOT_STARTED in shown
    assert "NotImplementedError" not in shown


@given(TEXT)
def test_text_stays_short(raw: str) -> None:
    """Under 15 lines a task, none wider than the terminal, whatever the messages hold."""
    lines = text.task(hostile(raw).tasks[0]).split("\n")
    assert len(lines) < 15
    assert max(map(len, lines)) <= text.WIDTH + 10


def test_a_long_line_of_an_example_can_still_be_pasted() -> None:
    """It is broken between arguments, and its remark stands on a line of its own."""
    call = "f(" + ", ".join(f"x{number}" for number in range(1, 25)) + ")"
    example = f"{call}  # x1 (2, 3), x2 (4,)\n# yours: [{', '.join(map(str, range(60)))}]"
    shown = text.task(replace(STUB, checks=(CheckResult("It works.", "fail", 15, "Wrong.", example),)))
    lines = [line.partition("| ")[2] for line in shown.split("\n") if "| " in line]
    assert lines[2] == "# x1 (2, 3), x2 (4,)"
    assert [line[:2] for line in lines] == ["f(", "  ", "# ", "# ", "# ", "# "]
    assert max(map(len, lines)) <= text.WIDTH - 10
    ast.parse("\n".join(lines))


def test_an_example_that_is_too_long_keeps_its_call() -> None:
    """What came of it is cut to a line first, then what comes first is left out."""
    example = [*(f"x{number} = torch.ones({number})" for number in range(12)), "f(x1)", f"# yours: [{', '.join(map(str, range(200)))}]"]
    shown = text.task(replace(STUB, checks=(CheckResult("It works.", "fail", 15, "Wrong.", "\n".join(example)),)))
    lines = [line.partition("| ")[2] for line in shown.split("\n") if "| " in line]
    assert lines[0] == "..."
    assert lines[-3:-1] == ["x11 = torch.ones(11)", "f(x1)"]
    assert lines[-1].startswith("# yours: [0, 1")
    assert lines[-1].endswith("...")
    assert len(shown.split("\n")) == text.TASK_LINES


@given(TEXT)
def test_text_gives_no_commands(raw: str) -> None:
    """Neither a terminal nor a CI runner finds anything to obey."""
    shown = text.render([hostile(raw), GRADED])
    assert "\x1b" not in shown
    assert "##[" not in shown
    assert not re.search(r"^\s*::", shown, re.MULTILINE)


@given(TEXT)
def test_no_format_gives_commands_to_a_log(raw: str) -> None:
    """What is printed in a CI run: no workflow command at the start of a line or within one, no escape, all of it UTF-8."""
    report = hostile(raw)
    printed = {
        "json": report.to_json(), "text": text.render([report]), "junit": junit.render([report]),
        "markdown": markdown.render([report]), "gradescope": gradescope.render([report]),
    }  # fmt: skip
    for form, shown in printed.items():
        assert not re.search(r"^\s*::", shown, re.MULTILINE), form
        assert "##[" not in shown, form
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown.replace("\x7f", "")), form
        shown.encode("utf-8")
    assert from_json(report.to_json()) == report


def test_text_colours_only_when_asked() -> None:
    """Colour adds to the words and replaces none."""
    assert clean(text.one(GRADED, colour=True)) == text.one(GRADED)
    assert "\x1b[32m" in text.one(GRADED, colour=True)


def test_text_of_several_ends_with_a_table() -> None:
    """One line a submission, in columns, also with wide letters."""
    table = text.table([*CLASS, replace(GRADED, student="王小明")])
    rows = table.split("\n")[2:]
    assert [row.split()[0] for row in rows] == ["ada", "bob", "eve", "王小明"]
    assert rows[0].index("attention") == rows[3].index("attention") + 3
    assert "not graded" in rows[1]
    assert text.render(CLASS).endswith(text.table(CLASS) + "\n")


# ungraded is never a zero


@pytest.mark.parametrize("report", [UNGRADED, UNREADABLE])
def test_ungraded_is_no_number_anywhere(report: Report) -> None:
    """Where there is no grade, no format shows one."""
    assert "not graded" in text.one(report)
    assert not re.search(r"\b0 of\b", text.one(report) + markdown.render([report]))
    row = next(iter(csv.DictReader(io.StringIO(spreadsheet.render([report])))))
    assert (row["status"], row["score"]) == ("ungraded", "")
    results = json.loads(gradescope.render([report]))
    assert "score" not in results
    assert not any("score" in test for test in results["tests"])
    suite = ElementTree.fromstring(junit.render([report]))[0]
    assert int(suite.get("errors", "0")) > 0
    assert suite.get("failures") == "0"
    assert "not graded" in classpage.render([report], date="today")


def test_what_broke_on_our_side_is_shown_to_the_instructor_only() -> None:
    """A broken hidden test may quote what it expects."""
    for shown in (text.one(UNGRADED), markdown.render([UNGRADED]), junit.render([UNGRADED]), gradescope.render([UNGRADED])):
        assert "expected 42" not in shown
    assert "expected 42" in classpage.render([UNGRADED], date="today")


# JUnit


def test_junit_has_a_case_for_each_check() -> None:
    """Pass, fail and skip are told apart, and the counts are right."""
    root = ElementTree.fromstring(junit.render([GRADED, UNREADABLE]))
    first, second = root.findall("testsuite")
    assert [first.get(key) for key in ("name", "tests", "failures", "errors", "skipped")] == ["attention ada", "6", "3", "0", "1"]
    assert [second.get(key) for key in ("tests", "errors")] == ["4", "4"]
    failure = first.find("testcase[@name='Scores are scaled.']/failure")
    assert failure is not None
    assert "Divide by `sqrt(D)`" in (failure.text or "")
    assert {item.get("name"): item.get("value") for item in first.iter("property")}["score"] == "17.5"


@given(TEXT)
def test_junit_is_xml_and_keeps_the_words(raw: str) -> None:
    """What is read back is what was cleaned; no text becomes an element."""
    root = ElementTree.fromstring(junit.render([hostile(raw)]).encode("utf-8"))
    assert [case.get("name") for case in root.iter("testcase")] == [one_line(raw)] * 4
    assert {element.tag for element in root.iter()} <= {
        "testsuites", "testsuite", "testcase", "failure", "skipped", "error", "properties", "property", "system-out",
    }  # fmt: skip


# Gradescope


def test_gradescope_has_a_test_for_each_task() -> None:
    """Scores add up to the report's."""
    results = json.loads(gradescope.render([GRADED]))
    assert results["score"] == sum(test["score"] for test in results["tests"]) == 17.5
    assert [test["status"] for test in results["tests"]] == ["passed", "failed", "failed", "failed"]
    assert {test["output_format"] for test in results["tests"]} == {"text"}


def test_gradescope_takes_one_at_a_time() -> None:
    """The file has no place for a class."""
    with pytest.raises(ValueError, match="one submission at a time"):
        gradescope.render(CLASS)


@given(TEXT)
def test_gradescope_is_json(raw: str) -> None:
    """It can be written as UTF-8 and read back."""
    json.loads(gradescope.render([hostile(raw)]).encode("utf-8"))


# CSV


@given(TEXT)
def test_csv_holds_no_formula(raw: str) -> None:
    """One row a submission whatever the names hold, and no cell that a spreadsheet computes."""
    rows = list(csv.reader(io.StringIO(spreadsheet.render([hostile(raw), GRADED]))))
    assert len(rows) == 3
    assert {len(row) for row in rows} == {len(rows[0])}
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert rows[1][0] in (one_line(raw, 4_000), "'" + one_line(raw, 4_000))


def test_csv_of_two_assignments_keeps_their_tasks_apart() -> None:
    """Tasks of the same name in two assignments are two columns."""
    rows = list(csv.DictReader(io.StringIO(spreadsheet.render([GRADED, replace(GRADED, assignment="gpt")]))))
    assert (rows[0]["attention: softmax"], rows[0]["gpt: softmax"]) == ("10", "")


# Markdown and HTML


class _Elements(HTMLParser):
    """The elements and addresses of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


@given(TEXT)
def test_markdown_shows_text_as_text(raw: str) -> None:
    """Rendered as on GitHub, hostile text gives no link, picture, heading or element."""
    page = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown.render([hostile(raw), hostile(raw)]))
    elements = _Elements(page)
    assert set(elements.tags) <= {
        "h3", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "p", "details", "summary", "strong", "code", "pre",
    }  # fmt: skip
    assert elements.attributes <= {"class"}
    assert elements.tags.count("h3") == elements.tags.count("details") == 2
    assert elements.tags.count("table") == 3


def test_markdown_fits_on_the_page() -> None:
    """Above GitHub's limit the details are cut, and the page says so."""
    page = markdown.render([hostile("é" * 4_000)] * 400)
    assert len(page.encode()) < 2**20
    assert "do not fit" in page


@given(TEXT)
def test_class_page_shows_text_as_text(raw: str) -> None:
    """Nothing hostile becomes an element or an attribute, and nothing is loaded."""
    plain = _Elements(classpage.render([hostile("a"), UNGRADED], date="today"))
    page = classpage.render([hostile(raw), UNGRADED], date=raw)
    elements = _Elements(page)
    assert set(elements.tags) <= {*plain.tags, "code"}
    assert elements.attributes <= plain.attributes
    assert not {"src", "href", "onerror", "srcset"} & elements.attributes
    page.encode("utf-8")


def test_class_page_has_what_an_instructor_needs() -> None:
    """Who was not graded and why, mistakes by frequency, every student and task, the level, the date."""
    other = replace(PARTLY, diagnosis=(Diagnosis("y", "Rare mistake.", "Do y."),))
    page = classpage.render([*CLASS, replace(GRADED, student="cy"), replace(GRADED, student="dan", tasks=(other,))], date="1 May 2026")
    assert "1 May 2026" in page
    assert "The file is empty." in page
    assert page.index("The scores are not scaled.") < page.index("Rare mistake.")
    assert "<code>sqrt(D)</code>" in page
    assert "ada; cy" in page
    for name in ("ada", "bob", "eve", "cy", "dan", "softmax", "withheld", "isolation", ">full<"):
        assert name in page
    assert "http" not in page.replace("http-equiv", "")
    assert "ran with no isolation" not in page
    unconfined = replace(GRADED, certificate=replace(FACTS, isolation="none"))
    assert "ran with no isolation" in classpage.render([unconfined], date="today")


def test_empty_class_page() -> None:
    """No report is no error."""
    assert "no report yet" in classpage.render([], date="today")
    assert text.render([]) == "\n"


# all formats, from what was written


def test_formats_are_functions_of_the_json() -> None:
    """A report that was written and read back looks the same."""
    again = [from_json(report.to_json()) for report in CLASS]
    assert text.render(again) == text.render(CLASS)
    assert junit.render(again) == junit.render(CLASS)
    assert markdown.render(again) == markdown.render(CLASS)
    assert spreadsheet.render(again) == spreadsheet.render(CLASS)
    assert classpage.render(again, date="x") == classpage.render(CLASS, date="x")


@pytest.mark.parametrize(("value", "shown"), [(10.0, "10"), (7.5, "7.5"), (3.3333, "3.33"), (0.0, "0"), (100.0, "100")])
def test_points_as_people_write_them(value: float, shown: str) -> None:
    """No trailing zeros, no exponents."""
    assert words.points(value) == shown
