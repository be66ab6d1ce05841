"""`autograder redteam`: hostile submissions among honest ones, graded as any class is, and what came of it.

The grader is the command `autograder grade` in a process of its own; this one only watches. Nothing may be gained,
read, reached or left, nobody may be kept from a report, and no neighbour's report may differ from the one it gets
without the attacks.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from autograder import attacks as table
from autograder import folders, kernel
from autograder.assignment import Assignment, read_assignment
from autograder.attacks import Attack
from autograder.diagnosis import Doctor
from autograder.errors import GraderError
from autograder.render import gradescope, junit, markdown, text
from autograder.report import Report, from_json
from autograder.stage import CANARY, Stage, staged

THROUGH = "GOT" + "-THROUGH"  # the mark of prelude.py
SECONDS = 1.0  # for a call: many attacks wait until they are stopped
_STUB = "import sys; sys.stdin.readline(); from autograder.cli import main; sys.exit(main(sys.argv[1:]))"
_WAIT_SECONDS = 3600
_SECONDS_TO_GO = 1.0
FAULTS = ("gained", "leaked", "reached", "held up")


@dataclass(frozen=True)
class Outcome:
    """One attack, and what it achieved: pairs of a word of FAULTS and the particulars. `known`: stated exceptions."""

    attack: Attack
    faults: tuple[tuple[str, str], ...] = ()
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A whole run."""

    level: str
    user: str
    seconds: float
    outcomes: tuple[Outcome, ...]
    neighbours: int
    changed: tuple[str, ...] = ()  # whose report differs
    left: tuple[str, ...] = ()
    output: tuple[str, ...] = ()  # what came out beside the reports
    limits: Mapping[str, str] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """Everything that should not be, a line each; empty where all held."""
        each = [f"{one.attack.name}: {kind}: {what}" for one in self.outcomes for kind, what in one.faults]
        return [
            *each,
            *(f"changed: {what}" for what in self.changed),
            *(f"left over: {what}" for what in self.left),
            *(f"output: {what}" for what in self.output),
        ]


@dataclass(frozen=True)
class _Graded:
    reports: dict[str, Report]
    said: str
    processes: tuple[str, ...]


def run(
    solutions: Path, name: str | None, *, isolation: str = "partial", only: Sequence[str] = (), progress: bool = False
) -> Result:
    """Grade the red team's class. `name`: an assignment of the course, or None for a tiny one made for this.

    Raises:
        GraderError: the table is not there, or the grader gave no reports.
    """
    if sys.platform != "linux":
        message = f"The red team attacks the confinement, and that is for Linux only (this is {sys.platform})."
        raise GraderError(message)
    place = table.find_table(solutions)
    assignment = read_assignment(solutions / name if name else place / "course" / "solutions" / "tiny")
    attacks = [one for one in table.read_table(place) if not only or one.name in only]
    prelude = (place / "prelude.py").read_text("utf-8")
    began = time.monotonic()
    kernel.adopt_orphans()
    with folders.temporary() as root, staged(root, assignment) as stage:
        # Before anybody looks: what the grader keeps of its bank may not change either.
        Doctor(read_assignment(stage.course / "solutions" / assignment.name)).learn()
        neighbours = stage.neighbours(len(attacks))
        stage.hand_in_honest(neighbours)
        alone = _grade(stage, isolation, lambda _grader: None)
        for path in stage.reports.iterdir():
            path.unlink()
        mine: dict[str, Attack] = {}
        before: dict[str, tuple[int, ...]] = {}

        def attack(grader: int) -> None:
            mine.update(stage.hand_in(attacks, prelude, grader))
            before.update(stage.snapshot())

        together = _grade(stage, isolation, attack, progress=progress)
        time.sleep(_SECONDS_TO_GO)  # for whatever was meant to act later
        left = [*together.processes, *stage.left(before)]
        level = _level(alone.reports)
        outcomes = [
            _judged(one, together.reports.get(student), _honest_points(assignment), level)
            for student, one in mine.items()
        ]
        changed = [
            student
            for student in neighbours
            if _comparable(alone.reports.get(student)) != _comparable(together.reports.get(student))
        ]
    seconds = time.monotonic() - began
    said = _in_the_output(together)
    return Result(
        level, getpass.getuser(), seconds, tuple(outcomes), len(neighbours), tuple(changed), tuple(left), tuple(said)
    )


def _grade(stage: Stage, isolation: str, hand_in: Callable[[int], None], *, progress: bool = False) -> _Graded:
    """One run of `autograder grade` over all that was handed in. `hand_in` is told the process beforehand."""
    words = [
        sys.executable, "-P", "-c", _STUB, "grade", "submitted", "--assignment", stage.original.name,
        "--format", "json", "--call-seconds", str(SECONDS), "--isolation", isolation,
    ]  # fmt: skip
    errors = stage.root.with_suffix(".log")
    known = _processes()
    try:
        with (
            errors.open("w+b") as said,
            subprocess.Popen(  # noqa: S603 - our own command
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None if progress else said,
                cwd=stage.course, env=stage.environment(),
            ) as grader,
        ):  # fmt: skip
            hand_in(grader.pid)
            out, _ = grader.communicate(b"go\n", timeout=_WAIT_SECONDS)
            said.seek(0)
            heard = said.read().decode("utf-8", "replace")
    finally:
        errors.unlink(missing_ok=True)
    if grader.returncode not in (0, 1):
        message = f"The grader ended with status {grader.returncode}: {heard.strip()[-2000:]}"
        raise GraderError(message)
    reports = [from_json(line) for line in out.decode("utf-8").splitlines()]
    found = {report.student: report for report in reports}
    return _Graded(found, f"{out.decode('utf-8')}\n{heard}", tuple(_outlived(known)))


def _honest_points(assignment: Assignment) -> float:
    """What a hostile notebook may get: the points of the tasks that are not attacked."""
    return sum(task.points for task in assignment.tasks if task.name != table.attacked(assignment))


def _judged(attack: Attack, report: Report | None, honest: float, level: str) -> Outcome:
    """What one attack achieved."""
    if report is None:
        return Outcome(attack, (("held up", "there is no report"),))
    faults: list[tuple[str, str]] = []
    known: list[str] = []
    told = report.to_json()
    wanted, most = ("ungraded", 0.0) if attack.unreadable else ("graded", honest)
    if report.status != wanted:
        faults.append(("held up", f"the report is {report.status}: {'; '.join(report.notes)[:300]}"))
    if report.score > most:
        faults.append(("gained", f"{report.score:g} points, where the honest part has {most:g}"))
    faults += [("leaked", word) for word in sorted(set(CANARY.findall(told)))]
    if THROUGH in told:
        at = told.index(THROUGH)
        what = re.split(r'["\\;]', told[at + len(THROUGH) : at + 200])[0].strip()
        if attack.partial and level != "full":
            known.append(what)
        else:
            faults.append(("reached", what))
    return Outcome(attack, tuple(faults), tuple(known))


def _in_the_output(graded: _Graded) -> list[str]:
    """Canaries and control sequences in what a person or a CI service would see."""
    reports = list(graded.reports.values())
    shown = {
        "stdout and stderr": graded.said,
        "text": text.render(reports, colour=False),
        "markdown": markdown.render(reports),
        "junit": junit.render(reports),
        "gradescope": "\n".join(gradescope.render([report]) for report in reports),
    }
    found = [f"{word} in {where}" for where, words in shown.items() for word in sorted(set(CANARY.findall(words)))]
    acting = [where for where in ("text", "markdown", "junit") if re.search(r"[\x00-\x08\x0e-\x1f]", shown[where])]
    found += [f"control characters in {where}" for where in acting]
    found += [f"a workflow command in {where}" for where in ("text", "markdown") if "\n::" in f"\n{shown[where]}"]
    return found


def _level(reports: Mapping[str, Report]) -> str:
    levels = {report.certificate.isolation for report in reports.values() if report.certificate}
    return "/".join(sorted(levels))


def _comparable(report: Report | None) -> str:
    """All of a report but the time it took."""
    return "" if report is None else replace(report, seconds=0.0).to_json()


def _processes() -> dict[int, str]:
    """All processes below this one: orphans come here. The dead ones that it inherits are buried."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    parents: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            name, _, rest = (folder / "stat").read_text("utf-8", "replace").rpartition(")")
            state, parent, *_ = rest.split()
            if state not in "ZX":
                parents[int(folder.name)] = (int(parent), name.partition("(")[2])
    found: dict[int, str] = {}
    waiting = [os.getpid()]
    while waiting:
        one = waiting.pop()
        children = {pid: name for pid, (parent, name) in parents.items() if parent == one}
        found |= children
        waiting += children
    return found


def _outlived(known: Mapping[int, str]) -> list[str]:
    """Processes of the grader's that are there a second after its end."""
    until = time.monotonic() + _SECONDS_TO_GO
    while (left := {pid: name for pid, name in _processes().items() if pid not in known}) and time.monotonic() < until:
        time.sleep(0.02)
    return [f"process {pid} ({name})" for pid, name in left.items()]


def rendered(result: Result) -> str:
    """The table for a terminal."""
    themes = list(dict.fromkeys(one.attack.theme for one in result.outcomes))
    head = f"{'':<12}{'submissions':>12}" + "".join(f"{fault:>10}" for fault in FAULTS)
    lines = [head]
    for theme in [*themes, "all"]:
        mine = [one for one in result.outcomes if theme in (one.attack.theme, "all")]
        count = Counter(kind for one in mine for kind in {kind for kind, _ in one.faults})
        lines.append(f"{theme:<12}{len(mine):>12}" + "".join(f"{count[fault]:>10}" for fault in FAULTS))
    known = [f"{one.attack.name}: {what}" for one in result.outcomes for what in one.known]
    among = f"{len(result.outcomes)} hostile submissions among {result.neighbours} honest ones"
    return "\n".join([
        f"Isolation `{result.level}`, as {result.user}: {among}, in {result.seconds:.0f} s.",
        "",
        *lines,
        "",
        f"neighbours' reports changed: {len(result.changed)} of {result.neighbours}",
        f"left over: {len(result.left)}",
        *([f"stated exceptions of this level: {len(known)}", *(f"  {line}" for line in known)] if known else []),
        *(["", "What should not be:", *(f"  {line}" for line in result.faults)] if result.faults else []),
    ])  # fmt: skip


def to_json(result: Result) -> str:
    """The essentials for a program."""
    return json.dumps({
        "level": result.level, "user": result.user, "submissions": len(result.outcomes), "faults": result.faults,
        "known": [one.attack.name for one in result.outcomes if one.known], "seconds": round(result.seconds, 1),
    })  # fmt: skip
