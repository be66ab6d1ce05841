"""Reports as Markdown, for the summary page of a CI run. All that is not ours is escaped or fenced as code."""

from __future__ import annotations

import re
from collections.abc import Sequence

from autograder.render import words
from autograder.render.clean import inert, one_line
from autograder.report import CheckResult, Report, TaskResult

# GitHub shows no summary above 1 MiB; the table of all is kept, the details are what is cut.
MAX_BYTES = 900_000
_ACTIVE = re.compile(r"""[\\`*{}\[\]<>#&|~$!@:"']|(?<!\w)_|_(?!\w)|(?<=www)\.|^[-+]|^\d+[.)](?=\s)""", re.IGNORECASE)


def render(reports: Sequence[Report]) -> str:
    """A table of all where there are several, then each report."""
    parts = [_table(reports)] if len(reports) > 1 else []
    used = sum(len(part.encode()) for part in parts)
    for number, report in enumerate(reports):
        part = _one(report)
        used += len(part.encode())
        if used > MAX_BYTES:
            parts.append(f"The details of {len(reports) - number} more reports do not fit on this page.")
            break
        parts.append(part)
    return "\n\n".join(parts) + "\n"


def _table(reports: Sequence[Report]) -> str:
    lines = ["| Student | Assignment | Score | First known mistake |", "|---|---|---|---|"]
    for report in reports:
        mistake = prose(words.first_mistake(report))
        cells = (escaped(words.name(report)), escaped(report.assignment), words.score(report), mistake)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _one(report: Report) -> str:
    parts = [f"### {escaped(report.assignment)}, {escaped(words.name(report))}: {words.score(report)}"]
    if report.status == "ungraded":
        parts.append(f"Not graded yet. {words.NO_GRADE}")
    if report.notes:
        parts.append("\n".join(f"- {prose(note)}" for note in words.notes(report)))
    if report.tasks:
        lines = ["| Task | Score | | |", "|---|---|---|---|", *(_row(task) for task in report.tasks)]
        parts.append("\n".join(lines))
    parts += [_details(task) for task in report.tasks if _speaks(task)]
    facts = words.circumstances(report)
    return "\n\n".join(parts + ([f"Graded with {escaped(facts)}."] if facts else []))


def _row(task: TaskResult) -> str:
    said = [f"{mistake} {advice}" for mistake, advice in words.mistakes(task)[:1]]
    if words.not_started(task):
        said = [words.NOT_STARTED]
    cells = (escaped(task.task), words.task_score(task), words.STATUS[task.status], prose(" ".join(said)))
    return "| " + " | ".join(cells) + " |"


def _speaks(task: TaskResult) -> bool:
    return task.status in ("partial", "fail", "withheld") and not words.not_started(task)


def _details(task: TaskResult) -> str:
    """What does not hold, folded away under the task's name."""
    parts = [f"<details><summary>{escaped(task.task)}: {words.STATUS[task.status]}</summary>"]
    parts += [words.FOLLOWED] if task.follow_through else []
    parts += [f"**{prose(claim)}** {prose(advice)}" for claim, advice in words.claims(task)]
    wrong = words.failed(task)
    parts += [_check(check) for check in wrong]
    rest = words.left_over(task, len(wrong))
    return "\n\n".join([*parts, *([rest] if rest else []), "</details>"])


def _check(check: CheckResult) -> str:
    parts = [f"- {prose(check.name)}"]
    said = "\n\n".join(part for part in (words.message(check), words.example(check)) if part)
    if said:
        parts.append(fenced(said))
    return "\n\n".join(parts)


def escaped(text: str) -> str:
    """The text on one line, with nothing in it that Markdown, or the HTML inside Markdown, would act on.

    Entities rather than backslashes: they hold inside tables and inside HTML, and a bare address is no link any more.
    """
    return _ACTIVE.sub(lambda found: f"{found[0][:-1]}&#{ord(found[0][-1])};", one_line(text, 600))


def prose(text: str) -> str:
    """A sentence of the course, in which what stands between backticks is code. As safe as `escaped`."""
    parts = re.split(r"`([^`]+)`", one_line(text, 600))
    safe = [escaped(part) for part in parts]
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(safe))


def fenced(text: str) -> str:
    """The text as a block of code, whatever backticks it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{inert(text)}\n{fence}"
