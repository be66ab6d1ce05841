"""Reports that were made before: each lies under a name made of all that it is a function of.

What is there is not graded again, so a class run that was cut off goes on where it stopped. Reports that stayed
`ungraded` are not kept: the next run tries again. Nothing here imports torch: nbgrader books what is known without it.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path

from autograder import kept
from autograder.assignment import Assignment
from autograder.plan import LEVELS
from autograder.report import Certificate, Report, from_json


@dataclass(frozen=True)
class Cache:
    """The reports made under these circumstances; without a folder there are none, and none is kept."""

    folder: Path | None
    isolation: str  # the least accepted
    seed: int
    device: str
    call_seconds: float

    def find(self, digest: str, assignment: Assignment) -> Report | None:
        """The report on the submission with this digest; not one whose code was confined less than is accepted."""
        if self.folder is None:
            return None
        try:
            report = from_json(self._path(self.folder, digest, assignment).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None  # not there, torn, or of another version: graded anew, and written over
        level = report.certificate.isolation if report.certificate else "none"
        return report if LEVELS.index(level) >= LEVELS.index(self.isolation) else None

    def keep(self, report: Report, assignment: Assignment) -> None:
        """Keep a report, without the student's name."""
        if self.folder is None or report.status == "ungraded" or report.certificate is None:
            return
        path = self._path(self.folder, report.certificate.submission, assignment)
        kept.write_atomically(path, replace(report, student="").to_json(indent=1).encode())

    def _path(self, folder: Path, digest: str, assignment: Assignment) -> Path:
        facts = certificate(digest, assignment, seed=self.seed, device=self.device, isolation="")
        return folder / f"{assignment.name}-{kept.name_of(facts, self.call_seconds)}.json"


def certificate(digest: str, assignment: Assignment, *, seed: int, device: str, isolation: str) -> Certificate:
    """What a report is a function of."""
    versions = {
        "python": platform.python_version(),
        "torch": kept.version("torch"),
        "hypothesis": kept.version("hypothesis"),
    }
    return Certificate(digest, assignment.digest, seed, device, isolation, versions)
