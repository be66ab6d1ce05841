"""What the rows of a truth table say of the tests: which check catches which mistake, and which checks catch nothing.

Pure: rows in, figures out. `render/strengthpage.py` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autograder.report import CheckStatus
from autograder.strength import Row


@dataclass(frozen=True)
class Grid:
    """One task: its checks against its misconceptions."""

    task: str
    checks: tuple[str, ...]
    seconds: tuple[float, ...]
    wrong: dict[str, tuple[CheckStatus, ...]]  # misconception -> the status of each check

    def kills(self, place: int) -> list[str]:
        """The misconceptions that fail the check at this place."""
        return [name for name, found in self.wrong.items() if found[place] == "fail"]

    @property
    def idle(self) -> list[str]:
        """Checks that no misconception of the bank fails."""
        return [check for place, check in enumerate(self.checks) if not self.kills(place)]

    @property
    def hanging_by_one(self) -> dict[str, str]:
        """Misconceptions that only one check catches, with that check."""
        alone = {name: found.index("fail") for name, found in self.wrong.items() if found.count("fail") == 1}
        return {name: self.checks[place] for name, place in alone.items()}


@dataclass(frozen=True)
class Strength:
    """One assignment."""

    assignment: str
    grids: tuple[Grid, ...]
    wrong: tuple[int, int]  # lose points, of all
    named: int  # are named first, of all wrong
    right: tuple[int, int]  # lose none, of all, the reference among them
    together: tuple[int, int]  # pairs and triples whose tasks all lose and name their own mistake, of all
    faults: tuple[str, ...]

    @property
    def line(self) -> str:
        """The one line that says what the tests are worth."""
        return (
            f"{self.assignment}: {_of(self.wrong)} wrong answers lose their points, "
            f"{_of(self.right)} right answers lose none; {self.named} of {self.wrong[1]} mistakes are named first, "
            f"as are {_of(self.together)} pairs and triples."
        )


def strength(name: str, rows: Sequence[Row], seconds: Mapping[str, float]) -> Strength:
    """The figures of an assignment from its rows, graded in full, and the seconds that each check takes."""
    wrong = [row for row in rows if row.kind == "misconception"]
    right = [row for row in rows if row.kind in ("honest", "reference")]
    together = [row for row in rows if row.kind == "together"]
    lose = sum(row.report.task(row.task).score < row.report.task(row.task).points for row in wrong)
    faults = [f"{row.kind} {row.name} [{row.task}]: {fault[:600]}" for row in rows for fault in row.faults]
    return Strength(
        name,
        tuple(_grid(task, wrong, seconds) for task in dict.fromkeys(row.task for row in wrong)),
        wrong=(lose, len(wrong)),
        named=sum(not row.faults for row in wrong),
        right=(sum(not row.faults for row in right), len(right)),
        together=(sum(not row.faults for row in together), len(together)),
        faults=tuple(faults),
    )


def _grid(task: str, wrong: Sequence[Row], seconds: Mapping[str, float]) -> Grid:
    mine = [row for row in wrong if row.task == task]
    found = {row.name: {check.name: check.status for check in row.report.task(task).checks} for row in mine}
    # "The cell runs." stands before the others where it does not, and is no check of the suite.
    checks = tuple(dict.fromkeys(name for statuses in found.values() for name in statuses if name in seconds))
    return Grid(
        task,
        checks,
        tuple(seconds[name] for name in checks),
        {name: tuple(statuses.get(check, "fail") for check in checks) for name, statuses in found.items()},
    )


def _of(pair: tuple[int, int]) -> str:
    return f"{pair[0]} of {pair[1]}"
