"""The files of a folder, a zip or a tar, by name only, and the bytes of one of them. Nothing is ever unpacked.

All of it is hostile: links and devices are named and not read, names that climb are left out, and what comes out of an
archive is counted as it comes, whatever sizes the archive claims.
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autograder.errors import NotebookUnreadable
from autograder.notebook import MAX_BYTES

MAX_FILES = 50_000
MAX_DEPTH = 24  # of folders: a class has three
MAX_UNPACKED = 4 * 2**30  # of a whole tar, which can only be read from its beginning
ENDINGS = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar")
_LINK = "This is a link, and links are not followed. Hand in the file itself."
_SPECIAL = "This is no ordinary file. Hand in the notebook itself."
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError, LookupError, ValueError,
    RuntimeError, OverflowError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A file's name, part by part, and what is wrong with it. For a folder without a notebook the last part is "".

    member: the name as the archive has it.
    """

    parts: tuple[str, ...]
    problem: str = ""
    member: str = ""

    @property
    def is_notebook(self) -> bool:
        """By its name; a notebook under another name is not looked for."""
        return self.parts[-1].lower().endswith(".ipynb")

    @property
    def is_archive(self) -> bool:
        """An archive inside what was named: it is not opened."""
        return self.parts[-1].lower().endswith(ENDINGS)


def is_archive(path: Path) -> bool:
    """A zip or a tar, packed or not."""
    try:
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except _BROKEN:
        return False


def files(path: Path) -> list[Found]:
    """The files of a folder or an archive, without hidden ones; of two with the same name the last.

    Raises:
        NotebookUnreadable: there are too many, or the archive cannot be read.
    """
    found: dict[tuple[str, ...], Found] = {}
    try:
        for file in _listed(path):
            if len(found) == MAX_FILES:
                message = f"{path} holds more than {MAX_FILES:,} files."
                raise NotebookUnreadable(message)
            if len(file.parts) <= MAX_DEPTH and not any(_hidden(part) for part in file.parts):
                found[file.parts] = file
    except _BROKEN as error:
        message = f"{path} cannot be read as a zip or a tar: {error}."
        raise NotebookUnreadable(message) from error
    return list(found.values())


def _hidden(part: str) -> bool:
    return part.startswith((".", "__MACOSX")) or "\0" in part


def _listed(path: Path) -> Iterator[Found]:
    if path.is_dir():
        return _walk(path)
    return _zipped(path) if zipfile.is_zipfile(path) else _tarred(path)


def _walk(root: Path) -> Iterator[Found]:
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        here = waiting.pop()
        names, folders = [], []
        with os.scandir(root.joinpath(*here)) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if _hidden(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append((*here, entry.name))
                    continue
                names.append(entry.name)
                problem = _LINK if entry.is_symlink() else "" if entry.is_file(follow_symlinks=False) else _SPECIAL
                yield Found((*here, entry.name), problem)
                if problem == _LINK and entry.is_dir():
                    yield Found((*here, entry.name, ""), problem)
        if here and not any(name.lower().endswith(".ipynb") for name in names):
            yield Found((*here, ""), nothing_but(names))
        if len(here) < MAX_DEPTH:
            waiting += reversed(folders)


def nothing_but(names: Iterable[str]) -> str:
    """What to say where no notebook was handed in."""
    some = sorted(names)[:5]
    if not some:
        return "No notebook was handed in: the folder is empty."
    packed = " Archives inside what was handed in are not opened: hand in the notebook itself."
    said = f"No notebook was handed in, only {', '.join(some)}."
    return said + (packed if any(name.lower().endswith(ENDINGS) for name in some) else "")


def _zipped(path: Path) -> Iterator[Found]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                yield Found(_parts(entry.filename), _wrong_with(entry), entry.filename)


def _wrong_with(entry: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return _LINK
    if kind not in (0, stat.S_IFREG):
        return _SPECIAL
    if entry.flag_bits & 1:
        return "The archive asks for a password. Hand it in without one."
    if entry.compress_type not in _PACKED:
        return "The archive is packed in an unusual way. Make it with the ordinary settings."
    return _too_large(entry.file_size)


def _too_large(size: int) -> str:
    if size <= MAX_BYTES:
        return ""
    return f"The file has {size / 2**20:.0f} MiB; the most that is read is {MAX_BYTES // 2**20}. Clear the outputs."


def _tarred(path: Path) -> Iterator[Found]:
    with tarfile.open(path) as archive:
        for entry in archive:
            if archive.offset > MAX_UNPACKED:
                message = f"it unpacks to more than {MAX_UNPACKED >> 30} GiB"
                raise ValueError(message)
            if not entry.isdir():
                problem = _LINK if entry.issym() or entry.islnk() else "" if entry.isreg() else _SPECIAL
                yield Found(_parts(entry.name), problem or _too_large(entry.size), entry.name)


def _parts(name: str) -> tuple[str, ...]:
    """A member's name as parts. One that climbs or begins at the root keeps a part `..`, and so is left out."""
    name = name.replace("\\", "/")  # as some Windows programs write it
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    return ("..", *parts) if name.startswith("/") or not parts else parts


def read_member(path: Path, member: str) -> bytes:
    """The bytes of one file of an archive, up to one more than a notebook may have, whatever size is claimed.

    Raises:
        NotebookUnreadable: it cannot be read.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, archive.open(member) as file:
                return file.read(MAX_BYTES + 1)
        with tarfile.open(path) as tar:
            entry = tar.getmember(member)
            inside = tar.extractfile(entry) if entry.isreg() else None
            if inside is None:
                raise NotebookUnreadable(_SPECIAL)
            with inside:
                return inside.read(MAX_BYTES + 1)
    except _BROKEN as error:
        message = f"{PurePosixPath(member).name} in {path.name} cannot be read: {error}."
        raise NotebookUnreadable(message) from error
