"""Starts the zygote and its confined workers, and sees to it that they end.

Covered, at the level `full`; tests/test_confinement.py has a hostile snippet for each line:

* reading: tests, reference, other submissions, gradebook, home, /etc, other processes' memory and environment
* secrets: the worker's environment, open files and memory hold none of the grader's
* network: TCP, UDP, netlink, vsock, loopback; sockets with names, abstract ones, signals by file descriptor
* other processes: seeing, signalling, tracing, slowing down or outliving any
* writing: nothing outside the scratch, which is bounded in bytes and files and gone with the worker
* using up: processes, threads (64; for root as many as fit into the memory), memory, descriptors, file sizes,
  processor time, output
* privileges: programs, capabilities, mounts, namespaces, other users, raised limits
* staying: killed within a bound whatever it ignores; the whole tree dies with the grader, in whatever way that dies

Not covered:

* what a worker answers: it is a claim, so nothing in it is trusted and the score is computed outside
* holes in the Linux kernel: for a service open to the public, put the whole run into a virtual machine
* a GPU: its driver and memory are outside these walls
* guessing by time or cache what else the machine does
* at `partial`: names, sizes and dates of files may be seen without bwrap, though no contents; the scratch is bounded
  in bytes a file only, or in bytes but not in files
* at `none`: everything but the limits
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from autograder import enclosure, folders, trial
from autograder.errors import SandboxUnavailable
from autograder.link import Broken, Link, Worker
from autograder.plan import LEVELS, Limits, Plan, Switches

__all__ = ["LEVELS", "Limits", "SandboxUnavailable", "Worker", "Zygote"]

_ATTEMPTS = 2


class Zygote:
    """A warm process that gives confined workers, one at a time; a context manager.

    `level` is what its self-test showed, `layers` what stands behind that.
    """

    def __init__(  # a course settles the first five, a test the rest
        self,
        *,
        minimum: str = "partial",
        readable: Sequence[Path] = (),
        limits: Limits | None = None,
        preload: Sequence[str] = ("torch",),
        environment: Mapping[str, str] | None = None,
        serve: str = "autograder.worker:serve",
        switches: Switches | None = None,
    ) -> None:
        """Start it in the best box this machine offers, and let a first worker try what is forbidden.

        Raises:
            SandboxUnavailable: the level is below `minimum`, or nothing would start at all; the message says why, and
                what would mend it. Or `readable` shows what no student may see.
        """
        if minimum not in LEVELS:
            message = f"The least isolation accepted must be one of {', '.join(LEVELS)} (got {minimum!r})."
            raise ValueError(message)
        if sys.platform != "linux":
            message = f"Student code can be confined on Linux only (this is {sys.platform}); {enclosure.remedy()}."
            raise SandboxUnavailable(message)
        self.level, self.layers = "none", MappingProxyType[str, object]({})
        self._minimum, self._extra = minimum, dict(environment or {})
        self._limits, self._switches = limits or Limits(), switches or Switches()
        self._preload, self._serve = tuple(preload), serve
        paths = folders.each_once([*folders.to_import_from(), *folders.to_read(readable)])
        self._readable = tuple(str(path) for path in paths)
        self._link: Link | None = None
        self._worker: Worker | None = None
        self._files = contextlib.ExitStack()
        try:
            self._open()
        except BaseException:  # Ctrl-C while torch is being imported, say
            self.close()
            raise

    def fork(self) -> Worker:
        """A fresh worker behind all the walls the level promises; the one before it, if any, is ended.

        Raises:
            SandboxUnavailable: none would start, not even from a fresh zygote.
        """
        reason = ""
        for _ in range(_ATTEMPTS):
            try:
                if self._link is None:
                    self._open()
                return self._forked(self._serve)
            except Broken as error:
                reason = str(error)
                self.close()
        message = f"No confined worker would start: {reason}"
        raise SandboxUnavailable(message)

    def close(self) -> None:
        """End the zygote and its worker, and remove what they left."""
        worker, self._worker = self._worker, None
        link, self._link = self._link, None
        try:
            if worker is not None:
                worker.kill()
        finally:
            if link is not None:
                link.close()
            self._files.close()

    def __enter__(self) -> Self:
        """The zygote itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _open(self) -> None:
        """Start a zygote in the first box that works, and find its level."""
        before, self._reasons = self.level, list[str]()
        for box in enclosure.boxes(self._switches.outer):
            try:
                self._start(box)
            except Broken as error:
                self._reasons.append(f"{box.name}: {error}")
                self.close()
            else:
                break
        least = max(before, self._minimum, key=LEVELS.index)
        if self._link is not None and LEVELS.index(self.level) >= LEVELS.index(least):
            return
        headline, reasons = "No process for student code would start", self._reasons
        if self._link is not None:
            headline = f"The isolation asked for is `{least}`; this machine gives `{self.level}`"
            reasons = [*self._reasons, f"{dict(self.layers)}"]
            self.close()
        message = f"{headline}. Tried: {'; '.join(reasons) or 'nothing'}. To mend it: {enclosure.remedy()}"
        raise SandboxUnavailable(message)

    def _start(self, box: enclosure.Box) -> None:
        """Start a zygote in this box and run the self-test in its first worker.

        Raises:
            Broken: it would not start.
        """
        scratch = enclosure.SCRATCH
        if box.program is None:
            outside = self._files.enter_context(folders.temporary()) / "scratch"
            outside.parent.chmod(0o711)  # the worker may be another user
            outside.mkdir(mode=0o700)
            scratch = str(outside)
        plan = Plan(
            scratch, self._readable, box.program is not None, self._preload, self._serve, self._limits, self._switches
        )
        environment = enclosure.environment(scratch, self._extra)
        self._link = Link(box, plan, environment)
        self._worker = self._link.fork(trial.ENTRY)
        walls = self._worker.layers
        tried, found = trial.possible(self._worker, environment)
        self.level = trial.level_of(walls, found, enclosed=plan.enclosed)
        self.layers = MappingProxyType[str, object]({
            "box": box.name, "bwrap": box.version, **walls,
            "selftest": {"blocked": tried - len(found), "possible": found},
            "passed_over": tuple(self._reasons), "remedy": "" if self.level == "full" else enclosure.remedy(),
        })  # fmt: skip
        self._walls = walls

    def _forked(self, entry: str) -> Worker:
        """One attempt at a worker.

        Raises:
            Broken: it did not start, or with other walls than the self-test's worker had.
        """
        if self._link is None:
            message = "the zygote is closed"
            raise Broken(message)
        if self._worker is not None:
            self._worker.kill()
        self._worker = worker = self._link.fork(entry)
        if worker.layers != self._walls:
            message = f"its walls were {dict(worker.layers)}, those of the self-test {dict(self._walls)}"
            raise Broken(message)
        return worker
