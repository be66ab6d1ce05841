"""Landlock: from here on this process reads only what is named, writes only its scratch, and talks to nobody.

Kernels learn new rights with each Landlock version; what a kernel does not know is left out and the caller is told
the version. The filter in `seccomp.py` closes the same doors where the version is too old to.
"""

from __future__ import annotations

import ctypes
import functools
import os
import stat
from collections.abc import Sequence

from autograder import kernel

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_ASK_VERSION, _PATH_BENEATH = 1, 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_FILE, _MAKE_LINK = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_ALL_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_ALL_TCP, _ALL_SCOPES = 0b11, 0b11  # bind and connect; abstract sockets and signals
_TCP_SINCE, _SCOPES_SINCE = 4, 6

_READ = _READ_FILE | _READ_DIR
# No making of devices, sockets or pipes with names, and no running of programs.
_SCRATCH = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_FILE | _MAKE_LINK | _REFER | _TRUNCATE
_DEVICE = _READ_FILE | _WRITE_FILE
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE | 1 | 1 << 15
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


class _Rules(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # Python 3.14 asks for it beside _pack_
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


@functools.cache
def version() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    try:
        return kernel.syscall("landlock", _CREATE, None, 0, _ASK_VERSION)
    except OSError:
        return 0


def rules(readable: Sequence[str]) -> int:
    """Allow reading below `readable` and four harmless devices: an open set of rules that binds nobody yet.

    It is a worker's own, since its scratch comes in later; but all this a zygote can do before the worker is born.

    Raises:
        OSError: the kernel has no Landlock, or refused.
    """
    known, handled = version(), _handled()
    record = _Rules(handled, _ALL_TCP if known >= _TCP_SINCE else 0, _ALL_SCOPES if known >= _SCOPES_SINCE else 0)
    # An old kernel refuses a record longer than the one it knows unless the rest is zero, which it is.
    ruleset = kernel.syscall("landlock_create_ruleset", _CREATE, ctypes.byref(record), ctypes.sizeof(record), 0)
    try:
        for path in readable:
            _allow(ruleset, path, _READ & handled)
        for path in DEVICES:
            _allow(ruleset, path, _DEVICE & handled)
    except OSError:
        os.close(ruleset)
        raise
    return ruleset


def restrict(ruleset: int, scratch: str) -> int:
    """Allow working below `scratch`, what `rules` has allowed, and no more, for good; gives the version.

    Raises:
        OSError: the kernel refused.
    """
    try:
        _allow(ruleset, scratch, _SCRATCH & _handled())
        kernel.no_new_privileges()
        kernel.syscall("landlock_restrict_self", _RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)
    return version()


@functools.cache
def _handled() -> int:
    """All the rights to files that this kernel knows of."""
    known = version()
    return _ALL_FILE_RIGHTS[max((step for step in _ALL_FILE_RIGHTS if step <= known), default=1)]


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Add one rule; a path that is not there needs none."""
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(parent).st_mode):
            rights &= _OF_FILES
        rule = _Beneath(rights, parent)
        kernel.syscall("landlock_add_rule", _ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(parent)
