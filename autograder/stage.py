"""What the red team aims at: a course of its own with canaries in everything secret, honest neighbours, and listeners.

A canary is a word that stands in one secret place only. Where it comes out again, that place was read. Here, too, what
was there before is compared with what is there afterwards: files, shared memory, processes, sockets that were reached.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import shutil
import socket
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder import data
from autograder.assignment import Assignment, read_assignment
from autograder.attacks import Attack, attacked
from autograder.diagnosis import read_bank
from autograder.notebook import Cell, to_ipynb

CANARY = re.compile(r"CANARY-[a-z]+-[0-9a-f]{12}")
KINDS = ("tests", "reference", "bank", "gradebook", "submission", "home", "environment")
ENVIRONMENT = ("GRADER_TOKEN", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "NBGRADER_TOKEN")
_ATTACKS_PER_NEIGHBOUR = 12
_MARK = "hostile"
_SHARED = ("/dev/shm", "/tmp", "/var/tmp")  # noqa: S108 - looked into, not written to
_NAMES = ("shm", "sem", "msg")

Snapshot = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Stage:
    """One course in a folder that goes when the run is over."""

    root: Path
    original: Assignment
    canaries: Mapping[str, str]
    listeners: Sequence[socket.socket]
    targets: dict[str, Any] = field(default_factory=dict)

    @property
    def course(self) -> Path:
        """Where the grader is started."""
        return self.root / "course"

    @property
    def submitted(self) -> Path:
        """Where students hand in: student/assignment/."""
        return self.course / "submitted"

    @property
    def reports(self) -> Path:
        """Where the grader keeps its reports."""
        return self.course / "build" / "reports"

    def environment(self) -> dict[str, str]:
        """The grader's: with secrets in it, and a home and temporary folder of its own."""
        mine = {"HOME": str(self.root / "home"), "TMPDIR": str(self.root / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
        return {**os.environ, **mine, **dict.fromkeys(ENVIRONMENT, self.canaries["environment"])}

    def neighbours(self, attacks: int) -> dict[str, bytes]:
        """Honest work to stand among the attacks: right, with a known mistake, unfinished. No two files are alike."""
        assignment, task = self.original, attacked(self.original)
        bank = read_bank(assignment.folder / "misconceptions.py")
        mistakes = [item for item in bank.misconceptions if item.task == task][:1]
        works = [assignment.filled(), list(assignment.released)]
        works += [assignment.filled({task: item.apply(assignment.solution(task))}) for item in mistakes]
        count = max(3, attacks // _ATTACKS_PER_NEIGHBOUR)
        step = max(1, attacks // count)
        return {
            f"{number * step:03d}-neighbour": to_ipynb([
                *works[number % len(works)],
                Cell("code", f"# {number}: {self.canaries['submission']}"),
            ])
            for number in range(count)
        }

    def hand_in_honest(self, neighbours: Mapping[str, bytes]) -> None:
        """The neighbours alone."""
        for student, notebook in neighbours.items():
            folder = self.submitted / student / self.original.name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{self.original.name}.ipynb").write_bytes(notebook)

    def hand_in(self, attacks: Sequence[Attack], prelude: str, grader: int) -> dict[str, Attack]:
        """All the attacks, aimed at this grader; gives whose is which."""
        targets = {**self.targets, "grader": grader, "watcher": os.getpid()}
        mine = {f"{number:03d}-{attack.name}": attack for number, attack in enumerate(attacks)}
        for student, attack in mine.items():
            attack.write(self.submitted / student / self.original.name, self.original, prelude, targets)
        return mine

    def snapshot(self) -> Snapshot:
        """Every file below the stage, the engine and the data; elsewhere what is named as the attacks name it."""
        found: Snapshot = {}
        for root in (self.root, Path(__file__).parent, data.data_folder()):
            for folder, _, files in os.walk(root):
                for path in (folder, *(os.path.join(folder, name) for name in files)):  # noqa: PTH118 - thousands
                    with contextlib.suppress(FileNotFoundError):
                        known = os.lstat(path)
                        found[path] = (known.st_mode, known.st_uid) + (
                            () if path == folder else (known.st_size, known.st_mtime_ns)
                        )
        for shared in _SHARED:
            with contextlib.suppress(OSError):
                found.update({f"{shared}/{name}": () for name in os.listdir(shared) if _MARK in name})  # noqa: PTH208
        for kind in _NAMES:
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/sysvipc/{kind}").read_text("ascii").splitlines()[1:]
                found.update({f"System V {kind} {' '.join(line.split()[:3])}": () for line in lines})
        return found

    def left(self, before: Snapshot) -> list[str]:
        """What is there, gone or different, that should not be: all but the reports the grader keeps."""
        after = self.snapshot()
        ours = re.compile(rf"{re.escape(str(self.reports))}(/{self.original.name}-[0-9a-f]{{32}}\.json)?")
        changed = [path for path in before.keys() | after.keys() if before.get(path, None) != after.get(path, None)]
        found = [f"{path} is {_how(path, before, after)}" for path in sorted(changed) if not ours.fullmatch(path)]
        reached, _, _ = select.select(self.listeners, [], [], 0)
        return found + [f"somebody reached {listener.getsockname()!r}" for listener in reached]


def _how(path: str, before: Snapshot, after: Snapshot) -> str:
    return "new" if path not in before else "gone" if path not in after else "changed"


@contextlib.contextmanager
def staged(root: Path, assignment: Assignment) -> Iterator[Stage]:
    """Set it up in an empty folder."""
    root.chmod(0o755)  # the walls are tried, not whose file it is: a course's files are often for all to read
    canaries = {kind: f"CANARY-{kind}-{secrets.token_hex(6)}" for kind in KINDS}
    for name in ("course/submitted", "course/build/reports", "home/.ssh", "home/.cache/torch", "tmp"):
        (root / name).mkdir(parents=True)
    folder = root / "course" / "solutions" / assignment.name
    shutil.copytree(assignment.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    _spike(folder, canaries)
    keys = [root / "home" / name for name in (".ssh/id_ed25519", ".netrc", ".cache/torch/token")]
    for key in keys:
        key.write_text(canaries["home"], "ascii")
    gradebook = root / "course" / "gradebook.db"
    if not gradebook.exists():
        with contextlib.closing(sqlite3.connect(gradebook)) as book:
            book.execute("create table canary (word text)")
            book.execute("insert into canary values (?)", [canaries["gradebook"]])
            book.commit()
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        abstract, named = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
        word = f"redteam-{secrets.token_hex(6)}"  # two stages on one machine do not share it
        abstract.bind(f"\0{word}")
        named.bind(str(root / "course" / "socket"))
        for listener in (abstract, named):
            listener.listen()
        stage = Stage(root, assignment, canaries, [tcp, udp, abstract, named])
        real = sorted(assignment.folder.parent.glob("*/test_hidden.py"))
        stage.targets.update({
            "tests": [str(folder / "test_hidden.py"), str(folder / "misconceptions.py"), *map(str, real)],
            "reference": [str(folder / "notebook.py"), str(assignment.folder / "notebook.py")],
            "gradebook": str(gradebook), "home": str(root / "home"), "home files": [*map(str, keys)],
            "submissions": [str(stage.submitted / f"000-neighbour/{assignment.name}/{assignment.name}.ipynb")],
            "folders": [str(path) for path in (stage.course, stage.submitted, folder, assignment.folder, root)],
            "reports": str(stage.reports), "data": str(data.data_folder()), "environment": list(ENVIRONMENT),
            "tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1], "abstract": word,
            "socket": str(root / "course" / "socket"),
            "threads": 512 if os.getuid() == 0 else 64,  # root is not counted, only memory stops its threads
        })  # fmt: skip
        yield stage


def _spike(folder: Path, canaries: Mapping[str, str]) -> None:
    """Put canaries into the copies of tests, reference and bank, without changing what they do."""
    for name, kind in (("test_hidden.py", "tests"), ("misconceptions.py", "bank")):
        path = folder / name
        path.write_text(f"{path.read_text('utf-8')}\n\nWORD = {canaries[kind]!r}\n", "utf-8")
    path = folder / "notebook.py"
    mark = re.compile(r"^( *)(### BEGIN SOLUTION.*)$", re.MULTILINE)
    path.write_text(mark.sub(rf"\1\2\n\1# {canaries['reference']}", path.read_text("utf-8")), "utf-8")
    read_assignment(folder)
