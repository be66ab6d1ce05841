"""A report as Gradescope's results.json: one test a task, because a task's points are more than its checks' sum.

Gradescope takes a result that has no score at all for an autograder that did not finish, and asks the student to
write to the staff. That is what an ungraded report becomes: with a score anywhere in it, it would count as a zero.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from autograder.render import text, words
from autograder.render.clean import one_line
from autograder.report import Report, TaskResult


def render(reports: Sequence[Report]) -> str:
    """The file for one submission.

    Raises:
        ValueError: there is not exactly one report.
    """
    if len(reports) != 1:
        message = f"Gradescope reads the result of one submission at a time (got {len(reports)})."
        raise ValueError(message)
    report = reports[0]
    graded = report.status == "graded"
    results: dict[str, object] = {
        "visibility": "visible",
        "execution_time": report.seconds,
        "output": _overall(report),
        "output_format": "text",
        "tests": [_test(task, graded=graded) for task in report.tasks],
        "extra_data": {"status": report.status, "circumstances": words.circumstances(report)},
    }
    if graded:
        results["score"] = report.score
    return json.dumps(results, indent=1, allow_nan=False).replace("##[", "#\\u0023[") + "\n"


def _overall(report: Report) -> str:
    lines = words.notes(report)
    if report.status == "ungraded":
        lines = [f"Not graded yet. {words.NO_GRADE}", *lines]
    return "\n".join(lines)


def _test(task: TaskResult, *, graded: bool) -> dict[str, object]:
    test: dict[str, object] = {
        "name": one_line(task.task),
        "output": text.task(task),
        "output_format": "text",
        "visibility": "visible",
    }
    if graded:
        test |= {"score": task.score, "max_score": task.points}
    if task.status != "ungraded":
        test["status"] = "passed" if task.status == "pass" else "failed"
    return test
