"""The words that all renderers share, and what of a report they show to a student."""

from __future__ import annotations

import re

from autograder.render.clean import clean, one_line
from autograder.report import CheckResult, Report, TaskResult, TaskStatus

STATUS: dict[TaskStatus, str] = {
    "pass": "right",
    "partial": "partly right",
    "fail": "not right yet",
    "withheld": "withheld",
    "ungraded": "not graded",
}
NO_GRADE = "No score was made up and nothing is lost; your instructor will look at it."
OUR_FAULT = "This could not be judged. That is not your fault and costs you nothing."
FOLLOWED = "An earlier task is wrong. This one was graded with that one put right, so the mistake counts once."
# Said of what was compared, no more: the code may have come to it in another way.
CLAIM = "Your result equals that of a known mistake:"
NOT_STARTED = "Nothing to grade here yet: the cell is still the stub, or does not define what it should."

_STUB = re.compile(
    r"(?P<name>\w+)\S* raised NameError: name '(?P=name)' is not defined|.*\braised NotImplementedError\b"
)


def points(value: float) -> str:
    """A number of points as people write it: 10, 7.5, 3.33."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def score(report: Report) -> str:
    """The score of a report; in words where there is none."""
    return "not graded" if report.status == "ungraded" else f"{points(report.score)} of {points(report.max_score)}"


def task_score(result: TaskResult) -> str:
    """The score of a task; in words where there is none."""
    return "not graded" if result.status == "ungraded" else f"{points(result.score)} of {points(result.points)}"


def name(report: Report) -> str:
    """Whose work it is."""
    return one_line(report.student, 80) or "your notebook"


def failed(result: TaskResult) -> tuple[CheckResult, ...]:
    """The checks that do not hold."""
    return tuple(check for check in result.checks if check.status == "fail")


def not_started(result: TaskResult) -> bool:
    """Whether the task is still the stub, as far as its checks tell."""
    wrong = failed(result)
    return result.status == "fail" and bool(wrong) and all(_STUB.match(check.message) for check in wrong)


def mistakes(result: TaskResult) -> list[tuple[str, str]]:
    """The known mistakes that the code shows, each with what to do about it."""
    pairs = [(one_line(item.misconception), one_line(item.advice, 600)) for item in result.diagnosis]
    return [pair for pair in pairs if pair[0]]


def claims(result: TaskResult) -> list[tuple[str, str]]:
    """The same, said to the student."""
    return [(f"{CLAIM} {mistake}", advice) for mistake, advice in mistakes(result)]


def first_mistake(report: Report) -> str:
    """The first known mistake of the first task that shows one, or nothing."""
    found = [f"{one_line(task.task, 60)}: {mistake}" for task in report.tasks for mistake, _ in mistakes(task)]
    return found[0] if found else ""


def message(check: CheckResult) -> str:
    """What a check says to the student. Why one of ours broke is for the instructor: it may quote a hidden test."""
    return OUR_FAULT if check.status == "ungraded" else clean(check.message).strip()


def example(check: CheckResult) -> str:
    """The smallest example that shows it."""
    return "" if check.status == "ungraded" else clean(check.example).strip("\n")


def held(result: TaskResult) -> str:
    """What is right already, where not all is; or nothing."""
    names = [one_line(check.name) for check in result.checks if check.status == "pass"]
    return f"Right already: {' '.join(names)}" if names and result.status == "partial" else ""


def left_over(result: TaskResult, shown: int) -> str:
    """One sentence on the checks that are not shown, or nothing."""
    more = len(failed(result)) - shown
    waiting = sum(check.status == "skip" for check in result.checks)
    broken = sum(check.status == "ungraded" for check in result.checks)
    parts = [
        f"{more} more do{'es' if more == 1 else ''} not hold" if more else "",
        f"{waiting} {_was(waiting)} not looked at" if waiting else "",
        f"{broken} could not be judged, which is not your fault" if broken else "",
    ]
    parts = [part for part in parts if part]
    return f"Of the other checks, {'; '.join(parts)}." if parts else ""


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def notes(report: Report) -> list[str]:
    """What has to be said about the file."""
    return [one_line(note, 600) for note in report.notes]


def isolation(report: Report) -> str:
    """How far the student's code was confined, as the certificate says."""
    return report.certificate.isolation if report.certificate else "unknown"


def circumstances(report: Report) -> str:
    """What the report is a function of, on one line."""
    facts = report.certificate
    if facts is None:
        return ""
    versions = [f"{name} {version}" for name, version in facts.versions.items()]
    return one_line(", ".join([f"seed {facts.seed}", facts.device, f"isolation {facts.isolation}", *versions]))
