"""`kill -9` of the grader at random moments of a class run: nothing lives on, nothing is torn, the next run completes it.

    python tests/redteam/kill_grader.py 50

Every other time it is `nbgrader autograde` that is killed. After each kill no process of it is there a second later, and
every report that is there is whole; then the same command, run again, must give the class the same reports, and the
gradebook each score once, as if nothing had happened. The class has a gradebook already: to make one, nbgrader starts
a program of its own (alembic), which a kill leaves to finish by itself.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from autograder import kernel, redteam
from autograder.assignment import read_assignment
from autograder.diagnosis import read_bank
from autograder.notebook import Cell, to_ipynb
from autograder.report import from_json

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STUDENTS = 8
GRADE = [sys.executable, "-P", "-m", "autograder", "grade", "submitted", "--format", "json", "--output", "out.json"]
COMMANDS = {
    "autograder grade": GRADE,
    "autograder grade --jobs 2": [*GRADE, "--jobs", "2"],
    "nbgrader autograde": [sys.executable, "-m", "nbgrader", "autograde", "tiny"],
    "nbgrader db student list": [sys.executable, "-m", "nbgrader", "db", "student", "list"],
}
SCORES = """
    select student.id, base_cell.name, grade.auto_score, grade.needs_manual_grade from grade
    join submitted_notebook on grade.notebook_id = submitted_notebook.id
    join submitted_assignment on submitted_notebook.assignment_id = submitted_assignment.id
    join student on submitted_assignment.student_id = student.id
    join base_cell on grade.cell_id = base_cell.id order by 1, 2
"""


@dataclass
class Course:
    """A course folder with a class that has handed in."""

    root: Path

    def start(self, command: str) -> subprocess.Popen[bytes]:
        mine = {"TMPDIR": str(self.root / "tmp"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with (self.root / "said").open("wb") as said:
            return subprocess.Popen(
                COMMANDS[command], cwd=self.root, env=os.environ | mine, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )

    def clear(self) -> None:
        """As if nobody had graded."""
        for name in ("build", "autograded", "feedback"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for name in ("gradebook.db", "out.json", "gradebook.db-journal"):
            (self.root / name).unlink(missing_ok=True)
        if (self.root / "empty.db").exists():
            shutil.copyfile(self.root / "empty.db", self.root / "gradebook.db")

    def reports(self) -> dict[str, str]:
        """The cached reports by file name, without the time each took. One that is torn raises."""
        found = {}
        for path in sorted((self.root / "build" / "reports").glob("*.json")):
            found[path.name] = replace(from_json(path.read_text("utf-8")), seconds=0.0).to_json()
        return found

    def scores(self) -> list[tuple[object, ...]]:
        """What the gradebook holds."""
        with sqlite3.connect(self.root / "gradebook.db") as book:
            return book.execute(SCORES).fetchall()


def set_up(root: Path) -> Course:
    """The tiny course, with right, wrong and unfinished work."""
    shutil.copytree(HERE / "course" / "solutions", root / "solutions")
    config = (ROOT / "nbgrader_config.py").read_text("utf-8")
    (root / "nbgrader_config.py").write_text(config + '\nc.Grading.isolation = "none"\n', "utf-8")
    (root / "tmp").mkdir()
    assignment = read_assignment(root / "solutions" / "tiny")
    (mistake, *_) = read_bank(assignment.folder / "misconceptions.py").misconceptions
    works = [
        assignment.filled(),
        list(assignment.released),
        assignment.filled({mistake.task: mistake.apply(assignment.solution(mistake.task))}),
    ]
    for number in range(STUDENTS):
        folder = root / "submitted" / f"s{number}" / "tiny"
        folder.mkdir(parents=True)
        cells = [*works[number % len(works)], Cell("code", f"# {number}")]  # no two alike, so each is graded
        (folder / "tiny.ipynb").write_bytes(to_ipynb(cells))
    return Course(root)


def outlived(known: set[int]) -> dict[int, str]:
    """Which processes are still there after a second."""
    until = time.monotonic() + 1
    while (left := {pid: name for pid, name in redteam._processes().items() if pid not in known}) and time.monotonic() < until:
        time.sleep(0.01)
    return left


def _wait(course: Course, grader: subprocess.Popen[bytes], *, reports: int, seconds: float) -> None:
    """Until so many are written, and so many seconds more: most of the time of a small class is spent on starting."""
    folder = course.root / "build" / "reports"
    while grader.poll() is None and len(list(folder.glob("*.json"))) < reports:
        time.sleep(0.005)
    time.sleep(seconds if reports else 10 * seconds)


def finished(course: Course, command: str) -> None:
    """Run it to its end."""
    status = course.start(command).wait(600)
    assert status == 0, (course.root / "said").read_text("utf-8")[-3000:]


def run(times: int, seed: int = 0) -> dict[str, int]:
    """Kill so often; gives how many of the class were graded at each kill, by command: that the moments differ."""
    kernel.adopt_orphans()
    chance = random.Random(seed)
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        course = set_up(Path(folder))
        finished(course, "nbgrader db student list")
        (course.root / "gradebook.db").rename(course.root / "empty.db")
        order = [list(COMMANDS)[(0, 2, 1, 2)[number % 4]] for number in range(times)]
        wanted = {}
        for command in sorted(set(order)):  # nbgrader's comes last, and its scores stay
            course.clear()
            finished(course, command)
            wanted[command] = course.reports()
            assert len(wanted[command]) == STUDENTS
        scores = course.scores()
        assert len({row[:2] for row in scores}) == len(scores) == (2 * STUDENTS if "nbgrader autograde" in wanted else 0)
        for number, command in enumerate(order):
            course.clear()
            known = set(redteam._processes())
            grader = course.start(command)
            _wait(course, grader, reports=chance.randrange(STUDENTS), seconds=chance.uniform(0, 0.4))
            early = grader.poll() is None
            grader.send_signal(signal.SIGKILL)
            grader.wait()
            left = outlived(known)
            assert not left, f"{command}: a second after kill -9 there are still {left}"
            there = course.reports()
            assert there.items() <= wanted[command].items(), f"{command}: a report differs"
            finished(course, command)
            assert course.reports() == wanted[command], f"{command}: the second run gives other reports"
            parts = [path.name for path in (course.root / "build" / "reports").iterdir() if path.suffix != ".json"]
            assert not parts, f"{command}: {parts} is left of a report that was not finished"
            if command.startswith("nbgrader"):
                assert course.scores() == scores, f"{command}: the gradebook differs"
            told[f"{number} {command}"] = len(there) if early else -1
            print(f"{number + 1:3} {command:26} {'killed' if early else 'was done'} with {len(there)} of {STUDENTS} reports written", flush=True)
    return told


if __name__ == "__main__":
    run(int(sys.argv[1]) if len(sys.argv) > 1 else 50, seed=int(sys.argv[2]) if len(sys.argv) > 2 else 0)
