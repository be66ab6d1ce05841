"""Which folders a worker may read, what must never be among them, and how a scratch is emptied.

What Python imports from is named by prefix, never by `sys.path`: that may hold the course's own folder.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from autograder.errors import SandboxUnavailable

# Held by no folder that a student's code may read. One's own notebook may lie in `submitted/`; the whole of it may not.
SECRET_NAMES = frozenset({"solutions", "submitted", "autograded", "feedback", "gradebook.db"})
_TEMPORARY = "autograder-grader-"
_SECONDS_TO_LOCK = 60  # a new folder is not locked at once
_MOST_ENTRIES = 20_000
_SYSTEM_PREFIXES = (Path("/"), Path("/usr"), Path("/usr/local"))
_LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/lib", "/lib32", "/lib64")
# The loader finds some libraries only with its cache; some are links through the other folder.
_LOADER = ("/etc/ld.so.cache", "/etc/alternatives")


def to_import_from() -> list[Path]:
    """What a worker needs to see for Python, torch and this package to work."""
    here = Path(__file__).parent
    found = [Path(name) for name in (*_LIBRARIES, *_LOADER)]
    for prefix in {Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix), Path(sys.base_exec_prefix)}:
        if prefix not in _SYSTEM_PREFIXES:  # the whole of /usr would show whatever else was put there
            _refuse_secrets(prefix, prefix.iterdir())
            found.append(prefix)
    program = Path(sys.executable)
    found += [program.parent, program.resolve().parent, here]
    return each_once(found)


def to_read(readable: Sequence[Path]) -> list[Path]:
    """The caller's folders, made absolute.

    Raises:
        SandboxUnavailable: one of them holds, is or lies in what no student may read; or is not there.
    """
    found = [Path(os.path.abspath(path)) for path in readable]  # noqa: PTH100 - links must stay as they are named
    for path in found:
        if not path.exists():
            message = f"{path} is to be readable for student code, but it is not there."
            raise SandboxUnavailable(message)
        if "solutions" in (*path.parts, *path.resolve().parts):
            message = f"{path} is to be readable for student code, but it lies in a solutions folder."
            raise SandboxUnavailable(message)
        for folder in {Path.home(), Path(__file__).resolve().parent.parent, Path("/")}:
            if folder.is_relative_to(path.resolve()):
                message = f"{path} is to be readable for student code, but it holds all of {folder}."
                raise SandboxUnavailable(message)
        if path.is_dir():
            _refuse_secrets(path, _everything_below(path))
    return each_once(found)


@contextlib.contextmanager
def temporary() -> Iterator[Path]:
    """A folder of this process's own, which goes with it; what a grader that was killed has left goes first.

    It is held by a lock, which ends with whoever holds it: a folder that can be locked is nobody's any more.
    """
    import fcntl  # noqa: PLC0415 - not there on Windows, where this module is still imported

    for old in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):  # another's, locked, or just removed by another grader
            known = old.lstat()
            if known.st_uid == os.getuid() and time.time() - known.st_mtime > _SECONDS_TO_LOCK:
                lock = _opened(old)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    wipe(old)
                    old.rmdir()
                finally:
                    os.close(lock)
    folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY))
    lock = _opened(folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
        wipe(folder)
        folder.rmdir()
    finally:
        os.close(lock)


def wipe(folder: Path) -> None:
    """Empty a folder, however deep and however unwilling what lies in it; links are never followed.

    It goes down and up by open folders, one at a time: no path grows long, and depth costs no descriptors.
    """
    folder.chmod(0o700)
    here = _opened(folder)
    names: list[str] = []
    left = [_without_files(here)]
    while names or left[-1]:
        if left[-1]:
            names.append(left[-1].pop())
            os.chmod(names[-1], 0o700, dir_fd=here)
            here = _instead(here, names[-1])
            left.append(_without_files(here))
        else:
            here = _instead(here, "..")
            left.pop()
            os.rmdir(names.pop(), dir_fd=here)
    os.close(here)


def _without_files(folder: int) -> list[str]:
    """Remove all but the folders in an open folder; gives their names."""
    with os.scandir(folder) as entries:
        kinds = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    for name, is_folder in kinds.items():
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in kinds.items() if is_folder]


def _instead(folder: int, name: str) -> int:
    """Open a neighbour of an open folder, and close the first."""
    try:
        return _opened(name, folder)
    finally:
        os.close(folder)


def _opened(name: str | Path, folder: int | None = None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)


def each_once(paths: Iterable[Path]) -> list[Path]:
    """Every path that exists, by the name given and by its real one, parents before children; none a parent shows."""
    named = {name for path in paths if path.exists() for name in (path, path.resolve())}
    chosen: list[Path] = []
    for path in sorted(named, key=lambda path: (len(path.parts), path)):
        holders = (folder for folder in chosen if path.is_relative_to(folder))
        if not any(path.resolve().is_relative_to(folder.resolve()) for folder in holders):
            chosen.append(path)
    return chosen


def _everything_below(folder: Path) -> Iterator[Path]:
    """All entries below a folder, links not followed."""
    for number, (parent, folders, files) in enumerate(os.walk(folder)):
        if number > _MOST_ENTRIES:
            message = f"{folder} is to be readable for student code, but has more than {_MOST_ENTRIES} folders in it."
            raise SandboxUnavailable(message)
        yield from (Path(parent, name) for name in (*folders, *files))


def _refuse_secrets(folder: Path, entries: Iterable[Path]) -> None:
    for entry in entries:
        if entry.name in SECRET_NAMES:
            message = f"{folder} is to be readable for student code, but it holds {entry}."
            raise SandboxUnavailable(message)
