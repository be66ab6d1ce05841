"""The grader's end of a zygote and of a worker: starting, asking for a fork, learning how it ended, killing.

Every wait has a bound, and a worker is addressed by a file descriptor of its process (a pidfd), never by a number that
another process may have taken over meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from autograder import enclosure
from autograder.errors import SandboxUnavailable
from autograder.plan import Plan

_MESSAGE_BYTES = 65536
_START_SECONDS = 180  # importing torch from a cold disk
_FORK_SECONDS = 30
_KILL_SECONDS = 10
_MOSTLY = 0.6  # of the memory allowed, once held by a worker that died of a signal
_MEMORY_SIGNALS = frozenset({"SIGABRT", "SIGSEGV", "SIGBUS", "SIGKILL"})
_TIME_SIGNALS = frozenset({"SIGKILL", "SIGXCPU"})
_NAMES = {item.value: item.name for item in signal.Signals}  # the real-time ones have none


class Broken(Exception):  # a state of the zygote; never leaves confinement.py
    """The zygote did not do what it was asked; the message says how far it came."""


class Worker:
    """One confined process, from its fork to its end."""

    def __init__(self, link: Link, connection: socket.socket, watch: int, layers: Mapping[str, object]) -> None:
        """`connection` is the grader's end of the worker's socket, `watch` a file that signals its end."""
        self.socket, self.layers = connection, layers
        self._link, self._watch, self._how, self._killed = link, watch, "", False

    def ended(self) -> str | None:
        """How it ended; None while it runs."""
        return self._how or self._learn(0)

    def cpu_seconds(self) -> float:
        """The processor time it has used so far; 0.0 where it has ended."""
        if self._how:
            return 0.0
        lines = Path(f"/proc/self/fdinfo/{self._watch}").read_text("ascii").splitlines()
        pid = int(dict(line.split(":", 1) for line in lines)["Pid"])  # -1 once it is gone, and that means this process
        with contextlib.suppress(OSError):
            # The kernel's number for the clock of another process: clock_getcpuclockid(3), which Python does not have.
            return time.clock_gettime((~pid << 3) | 2) if pid > 0 else 0.0
        return 0.0

    def kill(self) -> str:
        """End it, wait until nothing of it is left, and say how it ended: "killed" if it was this that did it.

        Raises:
            SandboxUnavailable: it could not be ended; its zygote was ended instead.
        """
        if not (how := self.ended()):
            self._killed = True
            # Before its socket is closed: it would see that, and end by itself.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._watch, signal.SIGKILL)
        self.socket.close()
        if how:
            return how
        if how := self._learn(_KILL_SECONDS):
            return how
        self._link.close()
        self._check_gone()
        self._finish("killed")
        message = f"A worker did not end within {_KILL_SECONDS} s of SIGKILL; its zygote was ended, and it with that."
        raise SandboxUnavailable(message)

    def _check_gone(self) -> None:
        if not select.select([self._watch], [], [], _KILL_SECONDS)[0]:
            message = "A worker is still there, though its zygote was ended. Look for it with ps."
            raise SandboxUnavailable(message)

    def _learn(self, seconds: float) -> str | None:
        try:
            report = self._link.receive(seconds)
        except TimeoutError:
            return None
        except Broken:
            self._check_gone()
            return self._finish("killed")  # with its zygote
        status, signalled = report["ended"], os.WIFSIGNALED(report["ended"])
        if not signalled:
            return self._finish(f"exit {os.WEXITSTATUS(status)}")
        number = os.WTERMSIG(status)
        name = _NAMES.get(number, "a real-time signal")
        if report["excess"] and name == "SIGKILL":
            return self._finish(report["excess"])
        if self._killed and name == "SIGKILL":
            return self._finish("killed")
        limits = self._link.plan.limits
        if name in _MEMORY_SIGNALS and report["added"] > _MOSTLY * limits.memory_bytes:
            return self._finish("out of memory")
        if name in _TIME_SIGNALS and report["cpu"] >= limits.cpu_seconds - 1:
            return self._finish("out of processor time")
        return self._finish(f"signal {number} ({name})")

    def _finish(self, how: str) -> str:
        self._how = how
        os.close(self._watch)
        return how


class Link:
    """A running zygote and the socket to it."""

    def __init__(self, box: enclosure.Box, plan: Plan, environment: Mapping[str, str]) -> None:
        """Start it and wait until it is ready.

        Raises:
            Broken: it did not come that far.
        """
        self.box, self.plan = box, plan
        self.said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the zygote runs
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        inner = [sys.executable, "-s", "-P", "-m", "autograder.zygote", str(theirs.fileno())]
        words = enclosure.command(box, plan.readable, plan.limits.scratch_bytes, inner)
        try:
            with theirs:
                self.process = _start(words, environment, theirs.fileno(), self.said)
        except OSError as error:
            self.control.close()
            self.said.close()
            raise Broken(str(error)) from error
        try:
            self.control.send(json.dumps(plan.to_json()).encode())
            self.python = self.receive(_START_SECONDS)["ready"]
        except (TimeoutError, OSError, Broken) as error:
            reason = self.last_words() or str(error)
            self.close()
            raise Broken(reason) from error

    def fork(self, entry: str) -> Worker:
        """A confined worker that runs `entry`.

        Raises:
            Broken: it did not come so far as to listen.
        """
        ours, its = socket.socketpair()
        report, reporter = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        watch = -1
        try:
            with its, reporter:
                request = json.dumps({"serve": entry}).encode()
                socket.send_fds(self.control, [request], [its.fileno(), reporter.fileno()])
            # The worker's own word first, though it is sent last: this process wakes only once.
            with report:
                report.settimeout(_FORK_SECONDS)
                born = json.loads(report.recv(_MESSAGE_BYTES) or b'{"error": "it ended before its walls were up"}')
            watch = self._receive_watch()
            if "layers" not in born:
                raise Broken(born["error"])  # noqa: TRY301 - both ways of failing end the same
        except (OSError, Broken) as error:
            ours.close()
            report.close()
            if watch >= 0:
                os.close(watch)
            raise Broken(str(error)) from error
        return Worker(self, ours, watch, born["layers"])

    def _receive_watch(self) -> int:
        self.control.settimeout(_FORK_SECONDS)
        raw, handed, _, _ = socket.recv_fds(self.control, _MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        if not raw or len(handed) != 1:
            raise Broken(self.last_words() or "the zygote ended")
        return handed[0]

    def receive(self, seconds: float) -> dict[str, Any]:
        """The zygote's next message.

        Raises:
            TimeoutError: none came in time.
            Broken: the zygote is gone.
        """
        self.control.settimeout(seconds)
        try:
            raw = self.control.recv(_MESSAGE_BYTES)
        except BlockingIOError as error:  # what a time limit of 0 raises
            raise TimeoutError from error
        except TimeoutError:
            raise
        except OSError as error:
            raise Broken(str(error)) from error
        if not raw:
            raise Broken(self.last_words() or "the zygote ended without a word")
        message: dict[str, Any] = json.loads(raw)
        return message

    def last_words(self) -> str:
        """The last line that bwrap or the zygote wrote to standard error before it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        self.said.seek(0)
        lines = self.said.read(_MESSAGE_BYTES).decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self) -> None:
        """End it and everything it started, and wait for that within a bound.

        Raises:
            SandboxUnavailable: it is still there.
        """
        self.process.kill()
        until = time.monotonic() + _KILL_SECONDS
        with contextlib.suppress(Broken, TimeoutError):
            while (left := until - time.monotonic()) > 0:
                self.receive(left)  # until the end of the stream: the last process that held it is gone
        self.control.close()
        self.said.close()
        try:
            self.process.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired as error:
            message = f"The sandbox's process {self.process.pid} did not end within {_KILL_SECONDS} s of SIGKILL."
            raise SandboxUnavailable(message) from error


def _start(
    words: Sequence[str], environment: Mapping[str, str], descriptor: int, said: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Run a command that is to die with this process."""
    started: list[subprocess.Popen[bytes] | OSError] = []
    ready = threading.Event()

    def start() -> None:
        try:
            started.append(
                subprocess.Popen(  # noqa: S603 - our own command line, and no shell
                    words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, env=dict(environment),
                    pass_fds=[descriptor], start_new_session=True, cwd="/",
                )
            )  # fmt: skip
        except OSError as error:
            started.append(error)
        ready.set()

    def start_and_stay() -> None:
        start()
        if not isinstance(started[0], OSError):
            with contextlib.suppress(ChildProcessError):  # it has ended, and was asked how before this thread woke
                os.waitid(os.P_PID, started[0].pid, os.WEXITED | os.WNOWAIT)

    # "With its parent" means with the thread that started it, so a thread of a pool, which may end, must not be it.
    if threading.current_thread() is threading.main_thread():
        start()
    else:
        threading.Thread(target=start_and_stay, name="zygote", daemon=True).start()
        ready.wait()
    if isinstance(started[0], OSError):
        raise started[0]
    return started[0]
