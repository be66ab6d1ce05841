"""The README against the repository: its tree is complete, and what it names is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))


def in_git() -> set[str]:
    """What is in the repository, or will be with the next commit."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git repository, or git is not installed")
    return {name for name in listed.split("\0") if name and (ROOT / name).exists()}


def tree() -> dict[str, str]:
    """The README's tree: path -> phrase."""
    (drawn,) = re.findall(r"^```text\n(README\.md .*?)^```", README, re.DOTALL | re.MULTILINE)
    found: dict[str, str] = {}
    above: list[str] = []
    for line in drawn.splitlines():
        indent, name, phrase = re.fullmatch(r"( *)(\S+) {2,}(\S.*)", line).groups()
        above[len(indent) // 2 :] = [name.rstrip("/")]
        found["/".join(above)] = phrase
    return found


def test_tree_is_complete() -> None:
    """Each file of the top level and of the engine has its line, and each line its file."""
    files = in_git()
    there = {name.split("/")[0] for name in files} | {name for name in files if re.match(r"autograder/.*\.py$", name)}
    there |= {str(Path(name).parent) for name in there if "/" in name}
    assert set(tree()) == there


@pytest.mark.parametrize("path", sorted(tree()))
def test_a_phrase_is_a_phrase(path: str) -> None:
    """Short; a file whose phrase needs more is two files."""
    assert len(tree()[path]) <= 100


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=lambda page: page.name)
def test_files_named_are_there(page: Path) -> None:
    """Every path in backticks that starts with a folder of ours, or ends like a file, exists."""
    tops = {name.split("/")[0] for name in in_git()}
    for named in re.findall(r"`([\w.<>/-]+)`", page.read_text(encoding="utf-8")):
        if "<" in named or (named.split("/")[0] not in tops and not named.startswith("docs/")):
            continue
        assert (ROOT / named).exists(), f"{page.name} names {named}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=lambda page: page.name)
def test_commands_named_are_there(page: Path) -> None:
    """Every `make` target is in the Makefile, every `autograder` command in the command line."""
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)\b", text, re.MULTILINE)) <= targets
    commands = set(re.findall(r'add_parser\("(\w+)"', (ROOT / "autograder" / "cli.py").read_text(encoding="utf-8")))
    assert set(re.findall(r"(?:^|`|-m )autograder ([a-z]+)\b", text, re.MULTILINE)) <= commands


def test_options_named_are_there() -> None:
    """Every long option beside `autograder` in README and docs is one of its options."""
    known = set(re.findall(r'"(--[a-z-]+)"', (ROOT / "autograder" / "cli.py").read_text(encoding="utf-8")))
    for page in [ROOT / "README.md", *DOCS]:
        for command in re.findall(r"(?:^|`)autograder [^`\n]*", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert set(re.findall(r"--[a-z-]+", command)) <= known, command


def test_ci_runs_the_command_of_the_readme() -> None:
    """One way to test, for people and machines."""
    assert "\nmake test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "\nmake test " in README


def test_it_stays_short() -> None:
    """A page that is read."""
    assert README.count("\n") < 200
