"""What `autograder doctor` says, for a person to read: on good machines, in containers, on Ubuntu, elsewhere."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from autograder import doctor, enclosure
from autograder.confinement import SandboxUnavailable, Zygote

GOOD: dict[str, Any] = {
    "box": "system", "bwrap": "0.8.0", "namespaces": ["ipc", "mount", "net", "pid", "user"], "scratch": "own",
    "own_user": False, "landlock": 7, "seccomp": True, "refused": {}, "selftest": {"blocked": 13, "possible": []},
    "passed_over": (), "remedy": "",
}  # fmt: skip
CONTAINER = GOOD | {
    "box": "bare", "bwrap": None, "namespaces": [], "scratch": "shared",
    "refused": {"namespaces": "Operation not permitted", "pid": "Operation not permitted"},
    "passed_over": ("system: bwrap: setting up uid map: Permission denied",),
}  # fmt: skip


def test_every_wall_has_its_line() -> None:
    """Yes or no, and at `full` nothing is left to do."""
    text = doctor.describe("full", GOOD)
    assert text.startswith("Isolation of student code here: full")
    assert text.count("  yes  ") == 10
    assert "  NO  " not in text
    assert "To reach" not in text
    assert "{" not in text


def test_a_missing_wall_says_why_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of the kernel and of bwrap, and Ubuntu's setting with the way to keep it."""
    monkeypatch.setattr(enclosure, "_setting", lambda name: "1" if "apparmor" in name else "")
    text = doctor.describe("partial", CONTAINER)
    assert "NO   outer box (bwrap)                 system: bwrap: setting up uid map: Permission denied" in text
    assert "NO   own processes                     refused: Operation not permitted" in text
    assert "yes  Landlock (files, TCP, signals)    version 7" in text
    assert "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\n" in text
    assert "echo kernel.apparmor_restrict_unprivileged_userns=0 | sudo tee /etc/sysctl.d/" in text
    assert "GitHub" in text


def test_what_got_through_is_named() -> None:
    """At `none` above all."""
    worse = GOOD | {"landlock": 0, "selftest": {"blocked": 12, "possible": ["read files"]}}
    text = doctor.describe("none", worse)
    assert "12 were refused" in text
    assert "NOT refused: read files" in text


@pytest.mark.parametrize(("system", "word"), [("darwin", "Linux container or virtual machine"), ("win32", "WSL2")])
def test_elsewhere_it_says_where_to_go(monkeypatch: pytest.MonkeyPatch, system: str, word: str) -> None:
    """No traceback, and the way that is nearest."""
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(SandboxUnavailable, match=f"Linux only .this is {system}.*{word}"):
        Zygote()
    text, status = doctor.report()
    assert status == 1
    assert word in text


@pytest.mark.skipif(sys.platform != "linux", reason="confinement is for Linux")
def test_the_command() -> None:
    """It tries what is here, whatever that is."""
    done = subprocess.run([sys.executable, "-m", "autograder", "doctor"], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.startswith("Isolation of student code here: ")
    assert done.returncode == int("here: none" in done.stdout)
    assert done.stderr == ""
