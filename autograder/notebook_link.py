"""The way to a notebook: a confined worker over a socket, or one in this process (the reference, the bank).

Both encode and decode, so they cannot drift.
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import torch

from autograder import shell, wire
from autograder.errors import WorkerLost
from autograder.values import Special
from autograder.worker import Session

# Code that ignores its time limit is killed this much later.
GRACE_SECONDS = 2.0
# Of the answers not used for the longest time some are let go where all together are larger.
MOST_BYTES = 64 * 2**20

Message = dict[str, Any]


class Link(Protocol):
    """The one way to a notebook."""

    def ask(self, request: Message, seconds: float) -> Message:
        """Send a request, wait for its reply.

        Raises:
            WorkerLost: no reply that can be used came within `seconds` and a little grace.
        """

    def reset(self) -> None:
        """Begin again with an empty notebook."""

    def cpu_seconds(self) -> float:
        """The processor time that its process has used so far."""

    def close(self) -> None:
        """Let go of it."""


class InProcess:
    """A notebook in this process: for code we trust, and for `--isolation none`'s tests."""

    def __init__(self) -> None:
        """An empty notebook."""
        self.session, self.gradients = Session("notebook"), True

    def ask(self, request: Message, seconds: float) -> Message:
        """Encode, answer, decode: as over the socket."""
        del seconds
        asked = _through_wire(request, self.session.resolve)
        if request["verb"] == "cells":
            with shell.nothing_is_drawn():
                return _through_wire(self._answered(asked), None)
        return _through_wire(self._answered(asked), None)

    def _answered(self, asked: Message) -> Message:
        """As in a process of its own: it warns nobody here, and what it does to torch's gradient mode stays its own."""
        with warnings.catch_warnings(), torch.set_grad_enabled(self.gradients):
            warnings.simplefilter("ignore")
            self.session.shell.take_turn()
            reply = self.session.answer(asked)
            self.gradients = torch.is_grad_enabled()
        return reply

    def reset(self) -> None:
        """Begin again."""
        self.session, self.gradients = Session("notebook"), True

    def cpu_seconds(self) -> float:
        """This thread's own."""
        return time.thread_time()

    def close(self) -> None:
        """Nothing to let go of."""


def _framed(message: Message) -> bytes:
    start, buffers = wire.pack(message)
    return start + b"".join(buffers)


def _unframed(frame: bytes, resolve: Callable[[Special], Any] | None) -> Message:
    size = wire.LENGTHS.size
    body = size + wire.LENGTHS.unpack(frame[:size])[0]
    return wire.unpack(frame[size:body], bytearray(frame[body:]), resolve)


def _through_wire(message: Message, resolve: Callable[[Special], Any] | None) -> Message:
    return _unframed(_framed(message), resolve)


def _speaks(connection: socket.socket) -> bool:
    """Whether something lies there to be read; an end does not count, it is met when the reply is."""
    if not select.select([connection], [], [], 0)[0]:
        return False
    with contextlib.suppress(OSError):
        return bool(connection.recv(1, socket.MSG_PEEK))
    return False


class Connected(Protocol):
    """What a link needs of a confined worker; confinement.Worker is one."""

    socket: Any

    def kill(self) -> str:
        """Kill it, and say how it ended."""

    def cpu_seconds(self) -> float:
        """The processor time it has used so far."""


class Confined:
    """A notebook in a confined worker; a fresh one is forked when the last is lost."""

    def __init__(self, fork: Callable[[], Connected]) -> None:
        """`fork` gives a new worker."""
        self.fork = fork
        self.worker: Connected | None = None

    def ask(self, request: Message, seconds: float) -> Message:
        """Send the request over the socket; a reply that is early, late, malformed or another's loses the worker."""
        if self.worker is None:
            self.worker = self.fork()
        if _speaks(self.worker.socket):
            self._lose("sent an answer before it was asked")
        try:
            self.worker.socket.settimeout(seconds + GRACE_SECONDS)
            wire.send(self.worker.socket, request)
            reply = wire.receive(self.worker.socket, deadline=time.monotonic() + seconds + GRACE_SECONDS)
        except TimeoutError:
            self._lose(f"was still running after {seconds:g} s and was stopped")
        except wire.FrameError as error:
            self._lose(f"sent something that is no answer: {error}")
        except OSError:
            reply = None
        if reply is None:
            self._lose("")
        if type(reply.get("id")) is not int or reply["id"] != request["id"]:
            self._lose("sent an answer to a question that was not asked")
        return reply

    def _lose(self, reason: str) -> NoReturn:
        ended = self.worker.kill() if self.worker else "gone"
        self.worker = None
        raise WorkerLost(reason or f"ended the whole Python process ({ended})")

    def reset(self) -> None:
        """Kill the worker; the next request gets a fresh one."""
        if self.worker is not None:
            self.worker.kill()
            self.worker = None

    def cpu_seconds(self) -> float:
        """The worker's, as the kernel counts it: the worker itself is not asked."""
        return self.worker.cpu_seconds() if self.worker is not None else 0.0

    close = reset


@dataclass(frozen=True)
class _Answer:
    frame: bytes
    cpu_seconds: float


class Remembering:
    """A link to the reference that remembers its answers: each notebook of a class has it asked the same questions.

    What the reference answers hangs on what it was asked since it last forgot its objects, which is where a check
    begins. So an answer is known by all the questions that led to it, byte for byte. Where one is new, the reference is
    asked the earlier ones of this check first: the objects that they made must be there.
    """

    def __init__(self, link: Link, most_bytes: int = MOST_BYTES) -> None:
        """`link`: where the answers come from; `most_bytes`: how much is remembered."""
        self.link, self.most_bytes = link, most_bytes
        self._known: OrderedDict[bytes, _Answer] = OrderedDict()
        self._bytes, self._saved = 0, 0.0
        self._begin()

    def _begin(self) -> None:
        self._led_here = b""
        self._behind: list[tuple[Message, float]] = []  # asked since the last `forget`, but not of the reference

    def ask(self, request: Message, seconds: float) -> Message:
        """The answer from memory, or the reference's."""
        if request["verb"] in ("cells", "forget"):
            if request["verb"] == "cells":
                self._known.clear()
                self._bytes = 0
            self._begin()
            return self.link.ask(request, seconds)
        question = _framed({**request, "id": 0})
        self._led_here = hashlib.sha256(self._led_here + question).digest()
        answer = self._known.get(self._led_here)
        if answer is None:
            return self._asked(request, seconds)
        self._known.move_to_end(self._led_here)
        self._behind.append((request, seconds))
        self._saved += answer.cpu_seconds
        return {**_unframed(answer.frame, None), "id": request["id"]}

    def _asked(self, request: Message, seconds: float) -> Message:
        for earlier, limit in self._behind:
            self.link.ask(earlier, limit)
        self._behind.clear()
        began = self.link.cpu_seconds()
        reply = self.link.ask(request, seconds)
        if "error" not in reply:  # it may have been short of time
            self._keep(_Answer(_framed(reply), self.link.cpu_seconds() - began))
        return reply

    def _keep(self, answer: _Answer) -> None:
        self._known[self._led_here] = answer
        self._bytes += len(answer.frame)
        while self._bytes > self.most_bytes:
            _, oldest = self._known.popitem(last=False)
            self._bytes -= len(oldest.frame)

    def reset(self) -> None:
        """Begin again."""
        self._begin()
        self.link.reset()

    def cpu_seconds(self) -> float:
        """What the reference has used, and what it used for the answers that came from memory when they were new."""
        return self.link.cpu_seconds() + self._saved

    def close(self) -> None:
        """Let go of the reference."""
        self.link.close()
