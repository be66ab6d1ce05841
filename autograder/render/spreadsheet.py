"""Reports as CSV, for a spreadsheet: one row a submission. Where there is no grade the cell is empty, not zero."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from autograder.render import words
from autograder.render.clean import one_line
from autograder.report import Report

# A spreadsheet computes a cell that begins with one of these; full-width forms count as well.
_FORMULA = tuple("=+-@|%\uff1d\uff0b\uff0d\uff20")


def render(reports: Sequence[Report]) -> str:
    """A head, then a row for each report."""
    tasks = list(dict.fromkeys((report.assignment, task.task) for report in reports for task in report.tasks))
    several = len({report.assignment for report in reports}) > 1
    columns = [f"{assignment}: {task}" if several else task for assignment, task in tasks]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = ["student", "assignment", "status", "score", "max_score", *columns, "mistakes", "notes", "isolation"]
    writer.writerow([inert(name) for name in head])
    for report in reports:
        writer.writerow(_row(report, tasks))
    return file.getvalue()


def _row(report: Report, tasks: Sequence[tuple[str, str]]) -> list[str]:
    graded = [task for task in report.tasks if task.status != "ungraded"]
    scores = {(report.assignment, task.task): words.points(task.score) for task in graded}
    mistakes = [f"{task.task}: {mistake}" for task in report.tasks for mistake, _ in words.mistakes(task)]
    return [
        inert(report.student),
        inert(report.assignment),
        report.status,
        words.points(report.score) if report.status == "graded" else "",
        words.points(report.max_score),
        *(scores.get(task, "") for task in tasks),
        inert(" / ".join(mistakes)),
        inert(" / ".join(words.notes(report))),
        inert(words.isolation(report)),
    ]


def inert(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = one_line(text, 4_000)
    return f"'{text}" if text.startswith(_FORMULA) else text
