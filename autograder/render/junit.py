"""Reports as JUnit XML: one test suite a submission, one test case a check.

What a check needs and does not have is `skipped`; what we could not judge is an `error`, never a `failure`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from autograder.render import words
from autograder.render.clean import one_line
from autograder.report import CheckResult, Report, TaskResult


def render(reports: Sequence[Report]) -> str:
    """One XML document."""
    root = ElementTree.Element("testsuites", name="autograder")
    for report in reports:
        root.append(_suite(report))
    ElementTree.indent(root)
    xml = ElementTree.tostring(root, encoding="unicode").replace("##[", "##&#91;")  # a CI run's log takes these two
    xml = re.sub(r"^(\s*):(?=:)", r"\1&#58;", xml, flags=re.MULTILINE)  # for commands
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml}\n'


def _suite(report: Report) -> ElementTree.Element:
    cases = [_case(report, task, check) for task in report.tasks for check in task.checks or (_missing(task),)]
    if not cases:
        cases = [_case(report, None, CheckResult("The submission can be graded.", "ungraded", 0.0))]
    counts = {kind: str(sum(case.find(kind) is not None for case in cases)) for kind in ("failure", "error", "skipped")}
    suite = ElementTree.Element(
        "testsuite", name=one_line(f"{report.assignment} {report.student}".strip()), tests=str(len(cases)),
        failures=counts["failure"], errors=counts["error"], skipped=counts["skipped"], time=f"{report.seconds:.3f}",
    )  # fmt: skip
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in _properties(report).items():
        ElementTree.SubElement(properties, "property", name=key, value=value)
    suite.extend(cases)
    if report.notes:
        ElementTree.SubElement(suite, "system-out").text = "\n".join(words.notes(report))
    return suite


def _properties(report: Report) -> dict[str, str]:
    """Facts on the submission; without a grade there is no score among them."""
    facts = {"student": one_line(report.student), "assignment": one_line(report.assignment), "status": report.status}
    if report.status == "graded":
        facts |= {"score": words.points(report.score), "max_score": words.points(report.max_score)}
    return facts | {"circumstances": words.circumstances(report)}


def _missing(task: TaskResult) -> CheckResult:
    return CheckResult("The task can be graded.", "ungraded" if task.status == "ungraded" else "skip", task.points)


def _case(report: Report, task: TaskResult | None, check: CheckResult) -> ElementTree.Element:
    where = one_line(f"{report.assignment}.{task.task}" if task else report.assignment)
    case = ElementTree.Element("testcase", classname=where, name=one_line(check.name))
    kind = {"fail": "failure", "skip": "skipped", "ungraded": "error"}.get(check.status)
    if kind is None:
        return case
    message = words.message(check)
    outcome = ElementTree.SubElement(case, kind, message=one_line(message))
    if check.status == "fail":
        advice = [f"{claim} {what}" for claim, what in words.claims(task)] if task else []
        outcome.text = "\n\n".join(part for part in [*advice, message, words.example(check)] if part)
    return case
