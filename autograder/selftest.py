"""What a worker can really do: the first worker of each batch tries what is forbidden, and the answers set the level.

It runs where a submission would run, behind the same walls, and means no harm: what it would signal gets signal 0,
what it starts ends at once. The grader tells it what to aim at: files and listeners made for this.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

MESSAGE_BYTES = 65536
_SECONDS = 2
_NEW_USER = 0x10000000

Targets = dict[str, Any]


def _read_files(targets: Targets) -> bool:
    return Path(targets["secret"]).read_text("ascii") != ""


def _write_files(targets: Targets) -> bool:
    (Path(targets["folder"]) / "written").write_text("by the self-test", "ascii")
    return True


def _change_files(targets: Targets) -> bool:
    os.utime(targets["secret"])
    return True


def _network(targets: Targets) -> bool:
    socket.create_connection(("127.0.0.1", targets["port"]), _SECONDS).close()
    return True


def _sockets(targets: Targets) -> bool:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(_SECONDS)
        link.connect("\0" + targets["abstract"])
    return True


def _signals(targets: Targets) -> bool:
    """Any process but one's own; pid 1 is the worker itself where it has its own namespace."""
    others = {targets["grader"], os.getppid(), 1} - {0, os.getpid()}
    return any(_done(lambda pid=pid: os.kill(pid, 0)) for pid in others)  # type: ignore[misc]


def _processes(targets: Targets) -> bool:
    del targets
    return any(path.name.isdigit() and int(path.name) != os.getpid() for path in Path("/proc").iterdir())


def _fork(targets: Targets) -> bool:
    del targets
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True


def _programs(targets: Targets) -> bool:
    """Refused is PermissionError; that the file is not there is found out only by a call that was let through."""
    del targets
    try:
        os.execv("/nowhere", ["nowhere"])  # noqa: S606 - that this is refused is what is tried
    except FileNotFoundError:
        return True


def _namespaces(targets: Targets) -> bool:
    del targets
    done: int = ctypes.CDLL(None).unshare(_NEW_USER)
    return done == 0


def _capabilities(targets: Targets) -> bool:
    del targets
    record = (ctypes.c_uint32 * 6)()
    failed: int = ctypes.CDLL(None).capget((ctypes.c_uint32 * 2)(0x20080522, 0), record)
    return failed != 0 or any(record)


def _environment(targets: Targets) -> bool:
    return any(name in os.environ for name in targets["environment"])


def _limits(targets: Targets) -> bool:
    del targets
    unlimited = any(
        resource.getrlimit(what)[1] == resource.RLIM_INFINITY for what in (resource.RLIMIT_AS, resource.RLIMIT_CPU)
    )
    return unlimited or _done(lambda: resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY,) * 2))


PROBES: dict[str, Callable[[Targets], bool]] = {
    "read files": _read_files,
    "write files": _write_files,
    "change files": _change_files,
    "reach the network": _network,
    "reach other programs' sockets": _sockets,
    "signal processes": _signals,
    "see processes": _processes,
    "fork": _fork,
    "run programs": _programs,
    "hold capabilities": _capabilities,
    "make namespaces": _namespaces,  # after the one before: a new user namespace comes with capabilities
    "see the grader's environment": _environment,
    "pass the limits": _limits,
}


def _done(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, ValueError):
        return False
    return True


def serve(connection: socket.socket) -> None:
    """Try everything once; answer with how much that was, and the names of what was possible."""
    targets: Targets = json.loads(connection.recv(MESSAGE_BYTES))
    possible: list[str] = []
    for name, probe in PROBES.items():
        try:
            if probe(targets):
                possible.append(name)
        except (OSError, ValueError):
            continue
    connection.sendall(json.dumps({"tried": len(PROBES), "possible": possible}).encode())
