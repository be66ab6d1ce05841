"""The few Linux calls that Python 3.11 has no function for, by ctypes; each raises OSError when the kernel refuses."""

from __future__ import annotations

import ctypes
import os
import sys

NEW_MOUNT, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SETUID, NO_DEVICES, NO_EXEC = 1, 2, 4, 8
_MOUNT_PRIVATE = 0x4000 | 1 << 18  # MS_REC | MS_PRIVATE
_SET_PDEATHSIG, _SET_DUMPABLE, _SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = 1, 4, 36, 38
_SIGKILL = 9
_CAPABILITY_VERSION_3 = 0x20080522

# Looked up and described here, once: a worker that did it would pay for it in pages copied from the zygote. `syscall`
# and `prctl` are variadic, so integers must be passed to them as wide as a register.
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
if sys.platform == "linux":  # nothing of this is used elsewhere, but the module can be imported
    _libc.unshare.argtypes = (ctypes.c_int,)
    _libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
    _libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    _libc.capset.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
_NONE = ctypes.c_ulong(0)
_THIS_PROCESS = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(what: str, number: int, *arguments: object) -> int:
    """Make a system call by its number.

    Raises:
        OSError: the kernel refused; the message opens with `what`.
    """
    wide = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *wide), what)


def _prctl(what: str, option: int, value: int) -> None:
    _checked(_libc.prctl(option, ctypes.c_ulong(value), _NONE, _NONE, _NONE), what)


def prctl_filter(option: int, mode: int, record: bytes) -> None:
    """Hand the kernel a filter; `record` is its struct sock_fprog.

    Raises:
        OSError: the kernel refused.
    """
    _checked(_libc.prctl(option, ctypes.c_ulong(mode), record, _NONE, _NONE), "PR_SET_SECCOMP")


def die_with_parent() -> None:
    """Be killed when the parent ends. A change of user forgets this, so it is asked for again after one."""
    _prctl("PR_SET_PDEATHSIG", _SET_PDEATHSIG, _SIGKILL)


def set_dumpable(*, dumpable: bool) -> None:
    """Whether /proc/self belongs to this process (needed to write a user map) and others may trace it."""
    _prctl("PR_SET_DUMPABLE", _SET_DUMPABLE, int(dumpable))


def adopt_orphans() -> None:
    """Become the parent of whatever loses its own below this process, so that nothing can slip away unseen."""
    _prctl("PR_SET_CHILD_SUBREAPER", _SET_CHILD_SUBREAPER, 1)


def no_new_privileges() -> None:
    """Never gain anything by running a program; Landlock and seccomp ask for it.

    Raises:
        OSError: the kernel refused.
    """
    _prctl("PR_SET_NO_NEW_PRIVS", _SET_NO_NEW_PRIVS, 1)


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones.

    Raises:
        OSError: not permitted here (containers, AppArmor), or more than one thread.
    """
    _checked(_libc.unshare(flags), "unshare")


def children_in(namespace: int) -> None:
    """Let later children be born in the pid namespace of this open file.

    Raises:
        OSError: the kernel refused.
    """
    _checked(_libc.setns(namespace, NEW_PID), "setns")


def keep_identity(uid: int, gid: int) -> None:
    """In a user namespace just made: be the same user and group as before, and nobody else.

    Raises:
        OSError: the kernel refused the map.
    """
    _put("/proc/self/setgroups", b"deny")  # without this no group map is allowed
    _put("/proc/self/uid_map", b"%d %d 1" % (uid, uid))
    _put("/proc/self/gid_map", b"%d %d 1" % (gid, gid))


def _put(path: str, content: bytes) -> None:
    # Without Python's own files, whose layers would touch some seventy pages more in every worker.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def private_mounts() -> None:
    """Keep what is mounted from now on from showing anywhere else.

    Raises:
        OSError: the kernel refused.
    """
    _checked(_libc.mount(b"none", b"/", None, _MOUNT_PRIVATE, None), "mount --make-rprivate /")


def mount_memory(target: str, flags: int, options: str) -> None:
    """Mount an empty file system that lives in memory on a folder.

    Raises:
        OSError: the kernel refused.
    """
    result = _libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", flags, options.encode("ascii"))
    _checked(result, f"mount tmpfs on {target}")


def drop_capabilities() -> None:
    """Hold no capability: a process that made a user namespace holds all of them inside it.

    Raises:
        OSError: the kernel refused.
    """
    _checked(_libc.capset(_THIS_PROCESS, _NO_CAPABILITIES), "capset")
