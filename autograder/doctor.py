"""`autograder doctor`: what this machine offers for confining student code, in words, and what would mend it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from autograder import enclosure
from autograder.errors import SandboxUnavailable
from autograder.grader import start_zygote
from autograder.plan import Limits

MEANING = {
    "full": "Nothing that is known gets out: every wall stands, each submission in a room of its own.",
    "partial": "Files, network and other processes are out of reach. Exceptions: autograder/confinement.py.",
    "none": "Student code can read your files and reach your network. The grader refuses, unless you insist.",
}
_GIB, _MIB = 2**30, 2**20


def report() -> tuple[str, int]:
    """What to print, and the exit status: 0 where student code can be confined."""
    try:
        with start_zygote("none") as zygote:
            level, layers = zygote.level, dict(zygote.layers)
    except SandboxUnavailable as error:
        return f"Isolation of student code here: none\n\n{error}", 1
    return describe(level, layers), int(level == "none")


def describe(level: str, layers: Mapping[str, Any]) -> str:
    """The level, each wall with yes or no, and what to do for more."""
    lines = [f"Isolation of student code here: {level}", MEANING[level], ""]
    for name, stands, why in walls(layers):
        lines.append(f"  {'yes' if stands else 'NO ':<5}{name:<34}{why}".rstrip())
    selftest = layers["selftest"]
    tried = selftest["blocked"] + len(selftest["possible"])
    lines += ["", f"A worker has tried {tried} forbidden things; {selftest['blocked']} were refused."]
    lines += [f"  NOT refused: {what}" for what in selftest["possible"]]
    if level != "full":
        lines += ["", "To reach `full`:", *(f"  {line}" for line in enclosure.remedies())]
    return "\n".join(lines)


def walls(layers: Mapping[str, Any]) -> list[tuple[str, bool, str]]:
    """Each wall: its name, whether it stands, and particulars or the reason why not."""
    refused, own = layers["refused"], set(layers["namespaces"])
    passed = "; ".join(layers["passed_over"])
    why = f"refused: {refused['namespaces']}" if "namespaces" in refused else ""
    box = f"{layers['box']}, version {layers['bwrap']}" if layers["bwrap"] else passed or "there is none"
    limits = Limits()
    scratch = f"{limits.scratch_bytes // _MIB} MiB, {limits.scratch_inodes:,} files"
    return [
        ("outer box (bwrap)", bool(layers["bwrap"]), box),
        ("own mounts", "mount" in own, why),
        ("own processes", "pid" in own, f"refused: {refused['pid']}" if "pid" in refused else ""),
        ("own network, with nothing in it", "net" in own, why),
        ("own messages between processes", "ipc" in own, why),
        ("own user", "user" in own or bool(layers["own_user"]), why),
        (
            "own scratch in memory", layers["scratch"] == "own",
            scratch if layers["scratch"] == "own" else f"refused: {refused.get('scratch', 'it needs own mounts')}",
        ),
        (
            "Landlock (files, TCP, signals)", bool(layers["landlock"]),
            f"version {layers['landlock']}" if layers["landlock"] else f"refused: {refused.get('landlock', '')}",
        ),
        (
            "seccomp (system calls)", bool(layers["seccomp"]),
            "" if layers["seccomp"] else f"refused: {refused.get('seccomp', '')}",
        ),
        (
            "limits", True,
            f"{limits.threads} threads, {limits.memory_bytes // _GIB} GiB, {limits.cpu_seconds} s of one core",
        ),
    ]  # fmt: skip


def main() -> int:
    """Print it."""
    text, status = report()
    sys.stdout.write(text + "\n")
    return status
