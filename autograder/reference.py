"""The reference of an assignment, behind the same interface as a student's notebook, and asked only once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from autograder.assignment import Assignment
from autograder.diagnosis import notebook
from autograder.errors import GraderError, StudentError, WorkerLost
from autograder.notebook_link import InProcess, Link, Message, framed, unframed
from autograder.student import Student
from autograder.values import Special

# Of the answers not used for the longest time some are let go where all together are larger.
MOST_BYTES = 64 * 2**20
_BESIDE = 400  # what an answer takes besides its frame: its name, its record, its place in the dictionary


def reference(assignment: Assignment) -> Student:
    """An assignment's reference in this process. It remembers its answers."""
    return notebook(assignment.reference_cells(), Remembering(InProcess()), Reference)


class Reference(Student):
    """The reference: where it fails, that is our fault and never a student's.

    Raises:
        GraderError: it raised, or took too long.
    """

    def forget(self) -> None:
        """As a notebook's, but always: here a check begins, and what it asks is remembered from here."""
        self._holds = True
        super().forget()

    def _ask(self, verb: str, **fields: Any) -> Any:
        try:
            return super()._ask(verb, **fields)
        except (StudentError, WorkerLost) as error:
            if isinstance(error, StudentError) and error.kind == "StopIteration":  # an iterator's end is an answer
                raise
            message = f"the reference failed: {error}"
            raise GraderError(message) from error


@dataclass(frozen=True)
class _Answer:
    frame: bytes
    cpu_seconds: float


class Remembering:
    """A link to the reference that remembers its answers: each notebook of a class has it asked the same questions.

    What the reference answers must hang on nothing but what it was asked since it last forgot its objects, which is
    where a check begins. So an answer is known by all the questions that led to it, byte for byte. Where one is new,
    the reference is asked the earlier ones of this check first: the objects that they made must be there.
    """

    def __init__(self, link: Link, most_bytes: int = MOST_BYTES) -> None:
        """`link`: where the answers come from; `most_bytes`: how much is remembered."""
        self.link, self.most_bytes = link, most_bytes
        self._known: OrderedDict[bytes, _Answer] = OrderedDict()
        self._bytes, self._saved = 0, 0.0
        self._begin()

    def _begin(self) -> None:
        self._led_here = b""
        self._behind: list[tuple[bytes, float]] = []  # asked since the last `forget`, but not of the reference

    def ask(self, request: Message, seconds: float) -> Message:
        """The answer from memory, or the reference's."""
        if request["verb"] in ("cells", "forget"):
            if request["verb"] == "cells":
                self._known.clear()
                self._bytes = 0
            self._begin()
            return self.link.ask(request, seconds)
        question = framed({**request, "id": 0})
        self._led_here = hashlib.sha256(self._led_here + question).digest()
        answer = self._known.get(self._led_here)
        if answer is None:
            return self._asked(request, seconds)
        self._known.move_to_end(self._led_here)
        self._behind.append((question, seconds))  # as it was: who asks may change a tensor of theirs afterwards
        self._saved += answer.cpu_seconds
        return {**unframed(answer.frame, None), "id": request["id"]}

    def _asked(self, request: Message, seconds: float) -> Message:
        for earlier, limit in self._behind:
            if "error" in self.link.ask(unframed(earlier, _as_it_stands), limit):
                message = "The reference failed at what it could do before: is this machine very busy?"
                raise GraderError(message)
        self._behind.clear()
        began = self.link.cpu_seconds()
        reply = self.link.ask(request, seconds)
        if "error" not in reply:  # it may have been short of time
            self._keep(_Answer(framed(reply), self.link.cpu_seconds() - began))
        return reply

    def _keep(self, answer: _Answer) -> None:
        self._known[self._led_here] = answer
        self._bytes += len(answer.frame) + _BESIDE
        while self._bytes > self.most_bytes:
            _, oldest = self._known.popitem(last=False)
            self._bytes -= len(oldest.frame) + _BESIDE

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


def _as_it_stands(special: Special) -> Special:
    """A stand-in stays one; with nothing to resolve them, a tensor's layout in memory would be lost, too."""
    return special
