"""What grading a submission says: frozen records, to and from JSON.

The keys are a contract (outside tools read them); more may be added, none renamed. A number is only ever a judgement:
what could not be judged is `ungraded`, with the reason in `notes`, and never a zero.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

SCHEMA = 1

CheckStatus = Literal["pass", "fail", "skip", "ungraded"]
TaskStatus = Literal["pass", "partial", "fail", "withheld", "ungraded"]
ReportStatus = Literal["graded", "ungraded"]


@dataclass(frozen=True)
class CheckResult:
    """One hidden check: its screen name, and what the student reads where it failed."""

    name: str
    status: CheckStatus
    points: float
    message: str = ""
    example: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """A known mistake that answers exactly as the student's code does."""

    id: str
    misconception: str
    advice: str


@dataclass(frozen=True)
class TaskResult:
    """One task: its points, the checks that make them up, and what is known about the mistake."""

    task: str
    points: float
    score: float
    status: TaskStatus
    follow_through: bool = False
    checks: tuple[CheckResult, ...] = ()
    diagnosis: tuple[Diagnosis, ...] = ()


@dataclass(frozen=True)
class Certificate:
    """What a report is a function of: grade the same again and the same comes out."""

    submission: str
    suite: str
    seed: int
    device: str
    isolation: str
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The outcome of grading one submission. `seconds` is the only part that differs between two runs."""

    student: str
    assignment: str
    status: ReportStatus
    score: float
    max_score: float
    tasks: tuple[TaskResult, ...] = ()
    notes: tuple[str, ...] = ()
    certificate: Certificate | None = None
    seconds: float = 0.0
    schema: int = SCHEMA

    def task(self, name: str) -> TaskResult:
        """The result of the task called `name`.

        Raises:
            KeyError: there is none of that name.
        """
        for result in self.tasks:
            if result.task == name:
                return result
        raise KeyError(name)

    def for_student(self, student: str) -> Report:
        """The same report under another student's name (two students may hand in the same file)."""
        return replace(self, student=student)

    def to_json(self, *, indent: int | None = None) -> str:
        """One JSON object; keys in the order of the contract.

        In ASCII, so that it can be written whatever a student's code said, and nothing in it acts on a terminal; and
        without `##[`, which the log of a CI run takes for a command.
        """
        record = asdict(self)
        ordered = {"schema": record.pop("schema"), **record}
        return json.dumps(ordered, indent=indent, allow_nan=False).replace("##[", "#\\u0023[")


def from_json(text: str) -> Report:
    """Read back what `to_json` wrote. Unknown keys are left out, so that a newer writer does not break a reader.

    Raises:
        ValueError: the text is no report.
    """
    try:
        raw = json.loads(text)
        tasks = tuple(
            TaskResult(**{
                **_known(TaskResult, task),
                "checks": tuple(CheckResult(**_known(CheckResult, check)) for check in task["checks"]),
                "diagnosis": tuple(Diagnosis(**_known(Diagnosis, item)) for item in task["diagnosis"]),
            })
            for task in raw["tasks"]
        )
        certificate = raw.get("certificate")
        return Report(**{
            **_known(Report, raw),
            "tasks": tasks,
            "notes": tuple(raw["notes"]),
            "certificate": Certificate(**_known(Certificate, certificate)) if certificate else None,
        })
    except (KeyError, TypeError, AttributeError) as error:
        message = f"This is no report: {type(error).__name__} at {error}."
        raise ValueError(message) from error


def _known(
    record: type[CheckResult | Diagnosis | TaskResult | Certificate | Report], raw: dict[str, Any]
) -> dict[str, Any]:
    names = {item.name for item in fields(record)}
    return {key: value for key, value in raw.items() if key in names}
