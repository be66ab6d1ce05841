"""A report's words for a notebook's cells: what the student reads in feedback, and the instructor in formgrader.

Pure functions. Messages and examples hold what the student's code raised and returned, so everything is escaped. What a
hidden test that broke said of itself is not shown: it may quote the test.
"""

from __future__ import annotations

import html
from collections.abc import Iterator

from autograder.render.clean import clean, one_line
from autograder.render.words import CLAIM, FOLLOWED
from autograder.report import CheckResult, Report, TaskResult

NOT_YOURS = "It could not be graded yet. That is not your fault and costs no points: your instructor will look at it."
UNREADABLE = "It could not be graded: the file cannot be read as a notebook. The note at the top says what to do."
EMPTY = (
    "Nothing is filled in here yet. Put your own code in the place of `raise NotImplementedError()`; the hints above "
    "the cell are there to be opened."
)
STATUS = {
    "pass": "everything holds",
    "partial": "partly there",
    "fail": "not there yet",
    "withheld": "withheld: a shortcut that is not allowed here",
    "ungraded": "not graded yet",
}
CHECK = {"pass": "holds", "fail": "does not hold", "skip": "not looked at", "ungraded": "could not be checked"}


def task_html(result: TaskResult, *, untouched: bool = False, why: str = NOT_YOURS) -> str:
    """The result of one task, as HTML. `untouched`: the stub was handed in; `why`: what to say where it is ungraded."""
    lines = [f"<p><b>{_text(_heading(result))}</b></p>"]
    lines += [f"<p>{_text(sentence)}</p>" for sentence in _remarks(result, why, untouched=untouched)]
    checks = _shown(result, untouched=untouched)
    if checks:
        lines.append(f"<ul>{''.join(_check_html(check) for check in checks)}</ul>")
    return f"<div>{''.join(lines)}</div>"


def task_text(result: TaskResult, *, untouched: bool = False, why: str = NOT_YOURS) -> str:
    """The result of one task, as plain text."""
    lines = [_heading(result), *_remarks(result, why, untouched=untouched)]
    for check in _shown(result, untouched=untouched):
        lines.append(f"- {CHECK[check.status]}: {one_line(check.name)}{_worth(check)}")
        lines += [f"    {line}" for line in _details(check)]
    return "\n".join(lines)


def hints(result: TaskResult, *, untouched: bool = False) -> str | None:
    """The comment beside the solution: which known mistake this looks like, and what to change. Our own words only."""
    if untouched:
        return EMPTY
    if not result.diagnosis:
        return None
    lines = [f"{item.misconception} {item.advice}" for item in result.diagnosis]
    if len(lines) == 1:
        return f"{CLAIM} {lines[0]}"
    listed = "\n".join(f"- {line}" for line in lines)
    return f"Your result equals that of each of these known mistakes:\n\n{listed}"


def notes_html(report: Report) -> str | None:
    """What has to be said about the notebook as a whole; None where there is nothing."""
    notes = [one_line(note, 600) for note in report.notes]
    if report.status == "ungraded" and not notes:
        notes = [NOT_YOURS]
    if not notes:
        return None
    items = "".join(f"<li>{_text(note)}</li>" for note in notes)
    # On one line: a blank one would end the block, and what follows would be read as Markdown.
    return f"<div><p><b>What was noticed while grading this notebook</b></p><ul>{items}</ul></div>"


def _heading(result: TaskResult) -> str:
    if result.status == "ungraded":
        return f"{result.task}: {STATUS['ungraded']} ({result.points:g} points)"
    return f"{result.task}: {result.score:g} of {result.points:g} points, {STATUS[result.status]}"


def _remarks(result: TaskResult, why: str, *, untouched: bool) -> Iterator[str]:
    if result.status == "ungraded":
        yield why
    elif untouched:
        yield EMPTY
    if result.follow_through:
        yield FOLLOWED


def _shown(result: TaskResult, *, untouched: bool) -> tuple[CheckResult, ...]:
    return () if untouched and result.status != "ungraded" else result.checks


def _worth(check: CheckResult) -> str:
    return f" ({check.points:g} points)" if check.status in ("fail", "skip") and check.points else ""


def _details(check: CheckResult) -> list[str]:
    if check.status not in ("fail", "skip"):
        return []
    lines = clean(check.message).split("\n") if check.message else []
    if check.status == "fail" and check.example:
        lines += ["For example:", *(f"    {line}" for line in clean(check.example).split("\n"))]
    return lines


def _check_html(check: CheckResult) -> str:
    parts = [f"<b>{CHECK[check.status]}</b>: {_text(one_line(check.name))}{_text(_worth(check))}"]
    if check.status in ("fail", "skip") and check.message:
        said = _text(clean(check.message))
        block = "pre" if "\n" in said else "div"  # which wraps a long line
        parts.append(f"<{block}>{said}</{block}>")
    if check.status == "fail" and check.example:
        parts.append(f"<div>For example:</div><pre>{_text(clean(check.example))}</pre>")
    return f"<li>{''.join(parts)}</li>"


def _text(text: str) -> str:
    return html.escape(text, quote=True)
