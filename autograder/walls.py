"""What a worker does to itself before it meets a student's code: each wall in its order, none to be taken down again.

Each wall that the machine does not offer is left out and reported so; the grader compares the report with what its
self-test saw, and judges. Order matters: mounts need the new namespaces, Landlock and seccomp forbid making more.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

from autograder import kernel, landlock, seccomp
from autograder.plan import Limits, Plan

Layers = dict[str, object]
_NAMESPACES = kernel.NEW_MOUNT | kernel.NEW_IPC | kernel.NEW_NET
_STACK_BYTES = 16 * 2**20
_MORE_TASKS = 256  # what the same user may start elsewhere while a batch runs


@dataclass(frozen=True)
class Start:
    """What the zygote found out before the fork, so that no worker spends time on it."""

    own_processes: bool  # workers are born in a process namespace of their own
    user: int | None  # whom they are to become
    tasks: int  # threads that the present user runs besides
    held: int  # bytes of address space in use: libraries, mostly, and on CUDA builds many gigabytes of them

    @classmethod
    def here(cls, *, own_processes: bool, user: int | None) -> Start:
        """Measured in the zygote, once everything is imported."""
        held = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        return cls(own_processes, user, _tasks_of(os.getuid()), held)


def confine(plan: Plan, start: Start) -> Layers:
    """Put up every wall of the plan that this machine offers; gives which ones stand.

    Raises:
        OSError: a limit that no machine may lack could not be set.
    """
    namespaces = _namespaces(own_user=start.user is None) if plan.switches.namespaces else []
    scratch = _scratch(plan, start.user) if "mount" in namespaces else "shared"
    shared = not ("user" in namespaces or start.user is not None)
    threads = plan.limits.threads + (start.tasks + _MORE_TASKS if shared else 0)
    _limit(plan.limits, start.held + plan.limits.memory_bytes, threads)
    if start.own_processes:
        namespaces.append("pid")
    changed = _become(start.user)
    os.chdir(plan.scratch)
    kernel.drop_capabilities()
    kernel.no_new_privileges()
    kernel.set_dumpable(dumpable=False)
    kernel.die_with_parent()  # becoming another user has undone the first one
    return {
        "namespaces": sorted(namespaces),
        "scratch": scratch,
        "own_user": changed,
        "landlock": _landlock(plan),
        "seccomp": _seccomp(plan),
    }


def _namespaces(*, own_user: bool) -> list[str]:
    """Own mounts, message queues and network; with an own user namespace too unless another user will be taken on."""
    uid, gid = os.getuid(), os.getgid()
    try:
        kernel.unshare(_NAMESPACES | (kernel.NEW_USER if own_user else 0))
        if own_user:
            kernel.keep_identity(uid, gid)
    except OSError:
        return []
    return ["ipc", "mount", "net"] + (["user"] if own_user else [])


def _scratch(plan: Plan, user: int | None) -> str:
    """A scratch that is nobody else's, and nothing to see in /proc."""
    owner = "" if user is None else f",uid={user},gid={user}"
    options = f"size={plan.limits.scratch_bytes},nr_inodes={plan.limits.scratch_inodes},mode=0700{owner}"
    harmless = kernel.NO_SETUID | kernel.NO_DEVICES | kernel.NO_EXEC
    try:
        kernel.private_mounts()
        kernel.mount_memory(plan.scratch, harmless, options)
        kernel.mount_memory("/proc", harmless | kernel.READ_ONLY, "size=4096,nr_inodes=2")
    except OSError:
        return "shared"
    return "own"


def _become(user: int | None) -> bool:
    """Turn into a user whom no file and no other process belongs to."""
    if user is None:
        return False
    try:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except OSError:  # a container may know only some users
        return False
    return True


def _limit(limits: Limits, address_space: int, threads: int) -> None:
    """Set the kernel's limits, each so that it cannot be raised again."""
    values = {
        resource.RLIMIT_AS: address_space,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_STACK: _STACK_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NPROC: threads,
    }
    for what, value in values.items():
        _, hard = resource.getrlimit(what)
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (least, least))


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


def _landlock(plan: Plan) -> int:
    if not plan.switches.landlock:
        return 0
    try:
        return landlock.restrict(plan.readable, plan.scratch)
    except OSError:
        return 0


def _seccomp(plan: Plan) -> bool:
    if not plan.switches.seccomp:
        return False
    try:
        seccomp.install(host_files=not plan.enclosed)
    except OSError:
        return False
    return True
