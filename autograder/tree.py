"""A worker looked at from outside: what it and all that it has started hold and are.

The limits that a worker sets itself, and the filter, stop it before this does. This is for where they do not reach: on
a GPU, whose driver takes more addresses than can be limited, and should one of them have a hole.
"""

from __future__ import annotations

import resource
from pathlib import Path

from autograder.plan import Limits

# The filter allows one; without it a few may come and go, but no bomb.
_MOST_PROCESSES = 8


class Tree:
    """One worker and its descendants, found by the file that stands for it: numbers differ between namespaces."""

    def __init__(self, watch: int, limits: Limits) -> None:
        """`watch`: a pidfd of the worker. What it shares with this process from its birth is not counted."""
        self.limits, self.shared = limits, _resident(Path("/proc/self"))
        lines = Path(f"/proc/self/fdinfo/{watch}").read_text("ascii").splitlines()
        self.root = next((int(line.split()[1]) for line in lines if line.startswith("Pid:")), -1)

    def excess(self) -> str:
        """How it ended, if it has to end now for what it uses; empty while it may go on."""
        processes = self._processes()
        if len(processes) > _MOST_PROCESSES:
            return "too many processes"
        held = sum(max(0, _resident(Path(f"/proc/{pid}")) - self.shared) for pid in processes)
        return "out of memory" if held > self.limits.memory_bytes else ""

    def _processes(self) -> list[int]:
        found = [self.root] if self.root > 0 else []
        for pid in found:  # grows while it is read
            for threads in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    found += map(int, threads.read_text("ascii").split())
                except OSError:  # it ended meanwhile
                    continue
        return found


def _resident(folder: Path) -> int:
    try:
        return int((folder / "statm").read_text("ascii").split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0
