"""The class on one page, for the instructor: who needs a look, which mistakes are frequent, students by tasks.

One HTML file that loads nothing and runs nothing; all that is not ours is escaped.
"""

from __future__ import annotations

import html
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from autograder.render import words
from autograder.render.clean import one_line
from autograder.render.style import STYLE
from autograder.report import Report, TaskResult

_LEGEND = (
    ("pass", "right"), ("partial", "partly right"), ("fail", "not right yet"), ("withheld", "withheld: a shortcut"),
    ("ungraded", "not graded"),
)  # fmt: skip


def render(reports: Sequence[Report], *, date: str) -> str:
    """The page. `date`: when this was graded, as it shall be read."""
    names = sorted({report.assignment for report in reports})
    sections = "".join(_assignment([report for report in reports if report.assignment == name]) for name in names)
    empty = "<p>There is no report yet.</p>"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Class results: {_text(', '.join(names))}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>Class results</h1>\n<p class="under">Graded {_text(date)}</p>\n{sections or empty}</body>\n</html>\n'
    )


def _assignment(reports: Sequence[Report]) -> str:
    reports = sorted(reports, key=lambda report: (words.name(report).casefold(), report.student))
    levels = sorted({words.isolation(report) for report in reports if report.status == "graded"})
    parts = (
        _figures(reports, ", ".join(levels) or "unknown"), _look(reports), _mistakes(reports), _matrix(reports),
        _notes(reports), _circumstances(reports),
    )  # fmt: skip
    return f"<section>\n<h2>{_text(reports[0].assignment)}</h2>\n{''.join(parts)}</section>\n"


def _figures(reports: Sequence[Report], levels: str) -> str:
    graded = [report for report in reports if report.status == "graded"]
    middle = words.points(statistics.median(report.score for report in graded)) if graded else "none"
    full = sum(report.score >= report.max_score for report in graded)
    figures = (
        (str(len(reports)), "submissions"),
        (str(len(reports) - len(graded)), "not graded"),
        (middle, f"median of {words.points(reports[0].max_score)}"),
        (str(full), "with every task right"),
        (levels, "isolation"),
    )
    boxes = "".join(f"<div><b>{_text(figure)}</b><span>{_text(label)}</span></div>" for figure, label in figures)
    warning = (
        '<p class="warning">Some of this ran with no isolation: student code could have read and changed what your own'
        " account can. Scores are still computed in another process.</p>\n"
        if "none" in levels
        else ""
    )
    return f'<div class="figures">{boxes}</div>\n{warning}'


def _look(reports: Sequence[Report]) -> str:
    """Those without a grade, with the reason: the first thing to see to."""
    rows = [(words.name(report), _reasons(report)) for report in reports if report.status == "ungraded"]
    if not rows:
        return ""
    return "<h3>Not graded: these need you</h3>\n" + _table(("Student", "Reason"), rows, css="wide")


def _reasons(report: Report) -> str:
    broken = [
        f"{task.task}: {check.name} {check.message}"
        for task in report.tasks
        for check in task.checks
        if check.status == "ungraded"
    ]
    return " ".join([*report.notes, *broken]) or "No reason was given."


def _mistakes(reports: Sequence[Report]) -> str:
    """Which known mistakes are how frequent. Each student counts once for a mistake."""
    who: dict[tuple[str, str, str], list[str]] = {}
    for report in reports:
        for task in report.tasks:
            for item in task.diagnosis[:1]:
                who.setdefault((task.task, item.misconception, item.advice), []).append(words.name(report))
    if not who:
        return ""
    most = max(len(students) for students in who.values())
    rows = []
    for (where, mistake, advice), students in sorted(who.items(), key=lambda item: (-len(item[1]), item[0])):
        share = 100 * len(students) // most
        rows.append(
            f'<tr><td class="count"><i style="width:{share}%"></i><b>{len(students)}</b></td>'
            f"<td>{_prose(mistake)}<small>{_prose(advice)}</small></td><td>{_text(where)}</td>"
            f"<td><small>{_text('; '.join(students), 2_000)}</small></td></tr>"
        )
    head = "<tr><th>Students</th><th>Mistake, and what to tell them</th><th>Task</th><th>Who</th></tr>"
    return (
        '<h3>Most frequent mistakes</h3>\n<table class="wide mistakes">'
        f"<thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>\n"
    )


def _matrix(reports: Sequence[Report]) -> str:
    tasks = list(dict.fromkeys(task.task for report in reports for task in report.tasks))
    points = {task.task: task.points for report in reports for task in report.tasks}
    head = "".join(f'<th class="turned"><span>{_text(name)}</span></th>' for name in tasks)
    rows = []
    for report in reports:
        found = {task.task: task for task in report.tasks}
        cells = "".join(_cell(found.get(name)) for name in tasks)
        total = words.points(report.score) if report.status == "graded" else "not graded"
        rows.append(f'<tr><th>{_text(words.name(report))}</th><td class="total">{total}</td>{cells}</tr>')
    worth = "".join(f"<td>{words.points(points[name])}</td>" for name in tasks)
    right = "".join(f"<td>{_right(reports, name)}</td>" for name in tasks)
    foot = (
        f'<tr><th>points</th><td class="total">{words.points(reports[0].max_score)}</td>{worth}</tr>'
        f'<tr><th>have it right</th><td class="total"></td>{right}</tr>'
    )
    legend = "".join(f'<span class="key {status}">{label}</span>' for status, label in _LEGEND)
    return (
        f'<h3>Students and tasks</h3>\n<p class="legend">{legend}</p>\n<div class="scroll"><table class="matrix">'
        f"<thead><tr><th>Student</th><th>Score</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody><tfoot>{foot}</tfoot>"
        "</table></div>\n"
    )


def _cell(task: TaskResult | None) -> str:
    if task is None:
        return "<td></td>"
    told = [words.STATUS[task.status], *(f"{mistake} {advice}" for mistake, advice in words.mistakes(task)[:1])]
    told += ["Graded with an earlier task put right."] if task.follow_through else []
    shown = "not graded" if task.status == "ungraded" else words.points(task.score)
    mark = "*" if task.follow_through else ""
    return f'<td class="{task.status}" title="{_text(". ".join(told), 900)}">{shown}{mark}</td>'


def _right(reports: Sequence[Report], name: str) -> str:
    found = Counter(task.status for report in reports for task in report.tasks if task.task == name)
    del found["ungraded"]
    return f"{round(100 * found['pass'] / found.total())} %" if found else "none"


def _notes(reports: Sequence[Report]) -> str:
    graded = [report for report in reports if report.status == "graded"]
    rows = [(words.name(report), " ".join(report.notes)) for report in graded if report.notes]
    return "<h3>Notes on notebooks</h3>\n" + _table(("Student", "Note"), rows, css="wide") if rows else ""


def _circumstances(reports: Sequence[Report]) -> str:
    facts = sorted({words.circumstances(report) for report in reports if report.status == "graded"} - {""})
    suites = sorted({report.certificate.suite for report in reports if report.certificate})
    lines = [*(f"Graded with {fact}." for fact in facts), *(f"Hidden tests: {suite}." for suite in suites)]
    return "".join(f'<p class="under">{_text(line)}</p>\n' for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, css: str) -> str:
    heading = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell, 1_500)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="{css}"><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>\n'


def _prose(text: str) -> str:
    """Our own sentences: what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))


def _text(text: str, limit: int = 400) -> str:
    return html.escape(one_line(text, limit))
