"""Reports for a terminal: plain lines that read well without colour, under 15 a task, the likely mistake first."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Sequence

from autograder.render import words
from autograder.render.clean import inert, one_line
from autograder.report import CheckResult, Report, TaskResult, TaskStatus

WIDTH = 100
TASK_LINES = 14
_MESSAGE_LINES = 4
_LEAST_EXAMPLE = 2
_COLOURS: dict[TaskStatus, str] = {"pass": "32", "partial": "33", "fail": "31", "withheld": "31", "ungraded": "35"}


def render(reports: Sequence[Report], *, colour: bool = False) -> str:
    """Each report in full, and a table of all where there are several."""
    pages = [one(report, colour=colour) for report in reports]
    return "\n\n".join(pages + ([table(reports)] if len(reports) > 1 else [])) + "\n"


def one(report: Report, *, colour: bool = False) -> str:
    """One report."""
    unit = "" if report.status == "ungraded" else " points"
    lines = [f"{one_line(report.assignment, 60)}, {words.name(report)}: {words.score(report)}{unit}"]
    if report.status == "ungraded":
        lines += _wrapped(words.NO_GRADE, "  ")
    notes = [line for note in words.notes(report) for line in _wrapped(note, "  - ", "    ")]
    lines += ["", *notes] if notes else []
    lines.append("")
    told = [result for result in report.tasks if result.checks or result.status != "ungraded"]
    wide = max((_width(one_line(result.task, 40)) for result in told), default=0)
    for result in told:
        lines += _task(result, wide, colour=colour)
    facts = words.circumstances(report)
    lines += ["", f"Graded with {facts}."] if facts and report.status == "graded" else []
    return inert("\n".join(lines).rstrip())


def task(result: TaskResult) -> str:
    """One task by itself, as nbgrader's feedback shows it."""
    return inert("\n".join(_task(result, 0, colour=False)))


def table(reports: Sequence[Report]) -> str:
    """One line a submission: student, score, first known mistake, how many notes."""
    head = ("Student", "Assignment", "Score", "First known mistake", "Notes")
    rows = [head]
    for report in reports:
        mistake, notes = _short(words.first_mistake(report), 60), _short("; ".join(words.notes(report)), 60)
        rows.append((words.name(report), one_line(report.assignment, 20), words.score(report), mistake, notes))
    wide = [max(_width(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(_padded(text, size) for text, size in zip(row, wide, strict=True)).rstrip() for row in rows]
    return inert("\n".join([lines[0], "-" * min(sum(wide) + 8, 160), *lines[1:]]))


def _task(result: TaskResult, wide: int, *, colour: bool) -> list[str]:
    status = words.STATUS[result.status]
    status = f"\x1b[{_COLOURS[result.status]}m{status}\x1b[0m" if colour else status
    told = "" if result.status == "ungraded" else f"{words.task_score(result)}, "
    heading = f"  {_padded(one_line(result.task, 40), wide)}  {told}{status}"
    return [heading, *_explained(result)][:TASK_LINES]


def _explained(result: TaskResult) -> list[str]:
    if result.status == "pass":
        return []
    if words.not_started(result):
        return _wrapped(words.NOT_STARTED, "      ")
    lines = _wrapped(words.FOLLOWED, "      ") if result.follow_through else []
    for claim, advice in words.claims(result)[:1]:
        lines += _wrapped(claim, "      ")[:3] + _wrapped(advice, "      Try: ", "           ")[:3]
    shown: list[str] = []
    rest = words.left_over(result, 1)
    room = TASK_LINES - 1 - len(_wrapped(rest, "      ")[:2])  # the heading, and the sentence on the rest
    for check in words.failed(result):
        block = _check(check, room - len(lines) if not shown else TASK_LINES)
        if shown and (check.message in shown or len(lines) + len(block) > room):
            continue
        lines += block
        shown.append(check.message)
    rest = words.left_over(result, len(shown)) if result.checks else words.OUR_FAULT
    lines += _wrapped(rest, "      ")[:2] if rest else []
    held, left = words.held(result), TASK_LINES - 1 - len(lines)
    return lines + (_wrapped(_short(held, left * (WIDTH - 12)), "      ")[:left] if held and left > 0 else [])


def _check(check: CheckResult, room: int) -> list[str]:
    lines = _wrapped(one_line(check.name), "    x ", "      ")[:2]
    message = [line for part in words.message(check).split("\n") for line in _wrapped(part, "        ")]
    lines += message[:_MESSAGE_LINES]
    example = [line for line in words.example(check).split("\n") if line.strip()]
    return lines + [f"        | {line}" for line in _fitting(example, room - len(lines))]


def _fitting(example: list[str], most: int) -> list[str]:
    """An example in so many lines: the call is worth most, then what came of it, then the last things it needs."""
    blocks = [_folded(line) for line in example]
    if sum(map(len, blocks)) > most:
        cut = [[_short(f"{block[0]} ...", WIDTH - 10)] if len(block) > 1 else block for block in blocks]
        blocks = [short if block[0].startswith("# ") else block for block, short in zip(blocks, cut, strict=True)]
    whole = len(blocks)
    while len(blocks) > 1 and sum(map(len, blocks)) + (len(blocks) < whole) > most and not blocks[1][0].startswith("#"):
        blocks.pop(0)
    lines = [line for block in blocks for line in block]
    lines = ["...", *lines] if len(blocks) < whole else lines
    return lines[:most] if most >= _LEAST_EXAMPLE else []


def _folded(line: str) -> list[str]:
    """A line of an example over several, between the numbers of a tensor, so that it can still be pasted."""
    line, room = line.expandtabs(4), WIDTH - 10
    code, _, remark = line.rpartition("  # ")
    if code and len(line) > room and not {"'", '"'} & set(remark):  # within a comment no line can be broken
        return [*_folded(code), _short(f"# {remark}", room)]
    parts = [line] if "'" in line or '"' in line else re.split(r"(?<=[\])0-9a-z]), (?=[\[(\-0-9a-z])", line)
    lines = [""]
    for number, part in enumerate(parts):
        piece = part + (", " if number < len(parts) - 1 else "")
        if number and len(lines[-1]) + len(piece) > room:
            lines.append("#   " if line.startswith("#") else "    ")
        lines[-1] += piece
    return [_short(one.rstrip(), room) for one in lines]


def _wrapped(text: str, first: str, then: str | None = None) -> list[str]:
    """Lines of at most `WIDTH`, indented as asked. A student's own indentation is kept."""
    stripped = text.lstrip(" ")
    kept = " " * min(len(text) - len(stripped), 20)
    return textwrap.wrap(
        stripped, WIDTH, initial_indent=first + kept, subsequent_indent=(first if then is None else then) + kept,
        break_on_hyphens=False,
    )  # fmt: skip


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3].rstrip() + "..."


def _width(text: str) -> int:
    """The columns that a text takes: Chinese, Japanese and Korean letters take two each."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def _padded(text: str, wide: int) -> str:
    return text + " " * (wide - _width(text))
