"""What a worker does to itself before it meets a student's code: each wall in its order, none to be taken down again.

Each wall that the machine does not offer is left out and reported so; the grader compares the report with what its
self-test saw, and judges. Order matters: mounts need the new namespaces, Landlock and seccomp forbid making more.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from autograder import kernel, landlock, seccomp
from autograder.plan import Limits, Plan

T = TypeVar("T")
Layers = dict[str, object]
_NAMESPACES = kernel.NEW_MOUNT | kernel.NEW_IPC | kernel.NEW_NET
_STACK_BYTES = 16 * 2**20
_MORE_TASKS = 256  # what the same user may start elsewhere while a batch runs


@dataclass(frozen=True)
class Start:
    """What the zygote found out before the fork, so that no worker spends time on it."""

    own_processes: bool  # workers are born in a process namespace of their own
    no_own_processes: str  # why not, if not
    user: int | None  # whom they are to become
    tasks: int  # threads that the present user runs besides
    limits: tuple[tuple[int, int], ...]  # the kernel's, all but the one on threads

    @classmethod
    def here(cls, plan: Plan, *, no_own_processes: str, user: int | None) -> Start:
        """Measured in the zygote, once everything is imported."""
        # Address space in use: libraries, mostly, and on CUDA builds many gigabytes of them.
        held = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        addresses = held + plan.limits.memory_bytes if plan.switches.addresses else resource.RLIM_INFINITY
        limits = tuple((what, _at_most(what, value)) for what, value in _limits(plan.limits, addresses).items())
        return cls(not no_own_processes, no_own_processes, user, _tasks_of(os.getuid()), limits)


@dataclass
class _Attempts:
    """Walls that are tried one after the other, and why those that do not stand were refused."""

    refused: dict[str, str] = field(default_factory=dict)

    def __call__(self, name: str, attempt: Callable[[], T], otherwise: T, *, wanted: bool = True) -> T:
        """What the attempt gives, or `otherwise`."""
        if not wanted:
            self.refused[name] = "left out"
            return otherwise
        try:
            return attempt()
        except OSError as error:
            self.refused[name] = error.strerror or str(error)
            return otherwise


def confine(plan: Plan, start: Start, rules: Sequence[int]) -> Layers:
    """Put up every wall of the plan that this machine offers; gives which ones stand, and why others do not.

    `rules` is what `drawn_up` gave.

    Raises:
        OSError: a limit that no machine may lack could not be set.
    """
    tried, switches = _Attempts(), plan.switches
    own_user = start.user is None
    namespaces = tried("namespaces", lambda: _namespaces(own_user=own_user), list[str](), wanted=switches.namespaces)
    scratch = "shared"
    if "mount" in namespaces:
        scratch = tried("scratch", lambda: _scratch(plan, start.user), scratch)
    shared = not ("user" in namespaces or start.user is not None)
    threads = plan.limits.threads + (start.tasks + _MORE_TASKS if shared else 0)
    for what, value in (*start.limits, (resource.RLIMIT_NPROC, _at_most(resource.RLIMIT_NPROC, threads))):
        resource.setrlimit(what, (value, value))  # the hard one too, so that it cannot be raised again
    if start.own_processes:
        namespaces.append("pid")
    else:
        tried.refused["pid"] = start.no_own_processes
    changed = tried("own_user", lambda: _become(start.user), otherwise=False)  # a container may know only some users
    os.chdir(plan.scratch)
    kernel.drop_capabilities()
    kernel.no_new_privileges()
    kernel.set_dumpable(dumpable=False)
    kernel.die_with_parent()  # becoming another user has undone the first one
    return {
        "namespaces": sorted(namespaces),
        "scratch": scratch,
        "own_user": changed,
        "landlock": tried("landlock", lambda: _landlock(plan, rules), 0, wanted=switches.landlock),
        "seccomp": tried("seccomp", lambda: _seccomp(plan), otherwise=False, wanted=switches.seccomp),
        "refused": tried.refused,
    }


def _namespaces(*, own_user: bool) -> list[str]:
    """Own mounts, message queues and network; with an own user namespace too unless another user will be taken on."""
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(_NAMESPACES | (kernel.NEW_USER if own_user else 0))
    if own_user:
        kernel.keep_identity(uid, gid)
    return ["ipc", "mount", "net"] + (["user"] if own_user else [])


def _scratch(plan: Plan, user: int | None) -> str:
    """A scratch that is nobody else's, and nothing to see in /proc."""
    owner = "" if user is None else f",uid={user},gid={user}"
    options = f"size={plan.limits.scratch_bytes},nr_inodes={plan.limits.scratch_inodes},mode=0700{owner}"
    harmless = kernel.NO_SETUID | kernel.NO_DEVICES | kernel.NO_EXEC
    kernel.private_mounts()
    kernel.mount_memory(plan.scratch, harmless, options)
    kernel.mount_memory("/proc", harmless | kernel.READ_ONLY, "size=4096,nr_inodes=2")
    return "own"


def _become(user: int | None) -> bool:
    """Turn into a user whom no file and no other process belongs to."""
    if user is None:
        return False
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    return True


def _limits(limits: Limits, address_space: int) -> dict[int, int]:
    """The kernel's limits and what each is to be."""
    return {
        resource.RLIMIT_AS: address_space,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_STACK: _STACK_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }


def _at_most(what: int, value: int) -> int:
    """The limit, or what it is now where that is less."""
    _, hard = resource.getrlimit(what)
    return min((limit for limit in (value, hard) if limit != resource.RLIM_INFINITY), default=hard)


def _tasks_of(user: int) -> int:
    """How many threads this user runs now, as far as can be seen: the kernel's limit counts all of them together."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*/task"):
        try:
            if folder.stat().st_uid == user:
                count += len(list(folder.iterdir()))
        except OSError:  # it ended meanwhile
            continue
    return count


def drawn_up(plan: Plan) -> list[int]:
    """Landlock's rules for one worker, open, before it is born; none where it has to find out itself why not."""
    try:
        return [landlock.rules(plan.readable)] if plan.switches.landlock else []
    except OSError:
        return []


def _landlock(plan: Plan, rules: Sequence[int]) -> int:
    return landlock.restrict(rules[0] if rules else landlock.rules(plan.readable), plan.scratch)


def _seccomp(plan: Plan) -> bool:
    seccomp.install(host_files=not plan.enclosed)
    return True
