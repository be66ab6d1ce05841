"""The way to a notebook: a confined worker over a socket, or one in this process (the reference, the bank).

Both encode and decode, so they cannot drift.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
import warnings
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import torch

from autograder import shell, wire
from autograder.errors import WorkerLost
from autograder.values import Special
from autograder.worker import Session

# Code that ignores its time limit is killed this much later.
GRACE_SECONDS = 2.0

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


def framed(message: Message) -> bytes:
    """A message as the bytes that travel."""
    start, buffers = wire.pack(message)
    return start + b"".join(buffers)


def unframed(frame: bytes, resolve: Callable[[Special], Any] | None) -> Message:
    """The message again; `resolve` as in `wire.unpack`."""
    size = wire.LENGTHS.size
    body = size + wire.LENGTHS.unpack(frame[:size])[0]
    return wire.unpack(frame[size:body], bytearray(frame[body:]), resolve)


def _through_wire(message: Message, resolve: Callable[[Special], Any] | None) -> Message:
    return unframed(framed(message), resolve)


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
