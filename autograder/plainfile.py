"""Reads one file that somebody else put there: an ordinary one, through no link, no more of it than is allowed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from autograder.errors import NotebookUnreadable

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def read_plain(path: Path, limit: int, *, below: int = 1) -> bytes:
    """The file's bytes, up to one more than `limit`; a pipe or a device is never waited for.

    below: so many parts at the end of `path` are not ours, and none of them may be a link; what is above is trusted.

    Raises:
        NotebookUnreadable: there is no such file, or it is no ordinary one; the message is for the student.
    """
    *folders, name = path.parts[-below:]
    opened = [os.open(path.parents[below - 1], os.O_RDONLY | os.O_DIRECTORY)]
    try:
        for folder in folders:
            opened.append(os.open(folder, _FLAGS | os.O_DIRECTORY, dir_fd=opened[-1]))
        opened.append(os.open(name, _FLAGS | os.O_NONBLOCK, dir_fd=opened[-1]))
        if stat.S_ISREG(os.fstat(opened[-1]).st_mode):
            with os.fdopen(opened.pop(), "rb") as file:
                return file.read(limit + 1)
    except OSError as error:
        linked = error.errno in (errno.ELOOP, errno.ENOTDIR)
        why = "it is a link. Hand in the notebook itself, not a link to it" if linked else error.strerror
        message = f"{name} cannot be read: {why}."
        raise NotebookUnreadable(message) from error
    finally:
        for handle in reversed(opened):
            os.close(handle)
    message = f"{name} is no ordinary file. Hand in the notebook itself."
    raise NotebookUnreadable(message)
