"""The grader's side of the self-test: sets up what is forbidden, lets a worker try it, and names the level.

The level is what is seen here, not what was configured.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autograder import folders
from autograder.link import Broken, Worker

ENTRY = "autograder.selftest:serve"
NAMESPACES = ("ipc", "mount", "net", "pid", "user")
# bwrap sets the one and torch the other, inside as well: they tell nothing of the grader's environment.
SET_INSIDE = frozenset({"PWD", "TORCHINDUCTOR_CACHE_DIR"})
_SECONDS = 30
_MESSAGE_BYTES = 65536


def possible(worker: Worker, environment: Mapping[str, str]) -> tuple[int, list[str]]:
    """How much a worker that runs `ENTRY` in this environment has tried, and what it could do though none should.

    Raises:
        Broken: it gave no answer.
    """
    private = sorted(_started_with() - set(environment) - SET_INSIDE)
    with _targets() as targets:
        try:
            worker.socket.settimeout(_SECONDS)
            worker.socket.sendall(json.dumps({**targets, "environment": private}).encode())
            answer = worker.socket.recv(_MESSAGE_BYTES)
        except OSError as error:
            message = f"the self-test gave no answer: {error}"
            raise Broken(message) from error
    if not answer:
        message = f"the self-test ended before it had answered ({worker.kill()})"
        raise Broken(message)
    told = json.loads(answer)
    return told["tried"], told["possible"]


def level_of(walls: Mapping[str, Any], got_through: Sequence[str], *, enclosed: bool) -> str:
    """The level that these walls and this self-test amount to."""
    if got_through or not walls["seccomp"]:
        return "none"
    own = tuple(walls["namespaces"]) == NAMESPACES and walls["scratch"] == "own"
    if enclosed and own:
        return "full"
    return "partial" if enclosed or walls["landlock"] else "none"


def _started_with() -> set[str]:
    """The names in the environment this process was started with: imports, torch's among them, add some to both."""
    try:
        block = Path("/proc/self/environ").read_bytes()
    except OSError:
        return set(os.environ)
    return {entry.partition(b"=")[0].decode("utf-8", "replace") for entry in block.split(b"\0") if entry}


@contextlib.contextmanager
def _targets() -> Iterator[dict[str, Any]]:
    """A secret file, and listeners that a worker must not reach."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(folders.temporary())
        secret = folder / "secret"
        secret.write_text("not for workers", "ascii")
        folder.chmod(0o777)  # the walls are tried, not whose file it is: a course's files are often for all to read
        secret.chmod(0o666)
        near = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        name = f"autograder-selftest-{os.getpid()}-{near.fileno()}"
        abstract.bind("\0" + name)
        abstract.listen()
        yield {
            "secret": str(secret),
            "folder": str(folder),
            "port": near.getsockname()[1],
            "abstract": name,
            "grader": os.getpid(),
        }
