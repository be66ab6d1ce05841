"""seccomp: a filter in the kernel that refuses the system calls a notebook has no business with.

It is a list of what is denied, so it is never the only wall; with it a worker stays one process, starts no program,
opens no socket and signals nobody but itself. Denied calls fail with EPERM, which Python reports as PermissionError.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import struct
from collections.abc import Iterable

from autograder import kernel

_SET_SECCOMP, _FILTER_MODE = 22, 2
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in what the filter sees

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_X32 = 0x40000000
# Calls that came after this list was written are unknown to it; libraries cope with "no such call".
FIRST_UNKNOWN = 451

# Each name with its number on x86_64 and aarch64; None where that architecture has no such call.
DENIED: dict[str, tuple[int | None, int | None]] = {
    # other machines, other processes by socket (a socket pair stays: asyncio needs it)
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242),
    # programs and processes
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    # signals to others
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438),
    # looking into others
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "perf_event_open": (298, 241),
    "migrate_pages": (256, 238), "move_pages": (279, 239),
    # mounts, roots, namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "mknod": (133, None), "mknodat": (259, 33),
    # large and often broken parts of the kernel
    "bpf": (321, 280), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "modify_ldt": (154, None), "personality": (135, 92), "seccomp": (317, 277), "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42), "uselib": (134, None), "sysfs": (139, None), "ustat": (136, None), "vhangup": (153, 58),
    # memory that outlives a process or is not counted as its own
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197), "semget": (64, 190),
    "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    "mq_timedsend": (242, 182), "mq_timedreceive": (243, 183), "mq_notify": (244, 184), "mq_getsetattr": (245, 185),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    # who one is
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143), "setresuid": (117, 147),
    "setresgid": (119, 149), "setgroups": (116, 159), "setfsuid": (122, 151), "setfsgid": (123, 152),
    "capset": (126, 91), "ioprio_set": (251, 30), "setpriority": (141, 140),
    # the machine
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "sethostname": (170, 161), "setdomainname": (171, 162),
    "syslog": (103, 116), "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "iopl": (172, None), "ioperm": (173, None),
    # watching files
    "inotify_init": (253, None), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
}  # fmt: skip

# Landlock does not guard these; where the host's files are in sight they are denied as well.
DENIED_BESIDE_HOST_FILES: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None), "utimensat": (280, 88),
    "futimesat": (261, None), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "truncate": (76, 45),
}  # fmt: skip

# Calls looked at more closely: which argument, and the values that are refused.
_REFUSED_VALUES: dict[str, tuple[tuple[int, int], int, tuple[int, ...]]] = {
    "fcntl": ((72, 25), 1, (8, 10, 15, 1024, 1026)),  # signals to an owner of one's choice, leases, directory notices
    "ioctl": ((16, 29), 1, (0x8901, 0x8902, 0x5412, 0x541C)),  # the same by ioctl; typing into the terminal
    "prctl": ((157, 167), 0, (1, 4, 22, 35, 0x59616D61)),  # death signal, dumpable, seccomp, memory map, tracer
}
_ONLY_ZERO: dict[str, tuple[int, int, int]] = {  # "this process" is 0; any other process is refused
    "prlimit64": (302, 261, 0), "sched_setaffinity": (203, 122, 0), "sched_setscheduler": (144, 119, 0),
    "sched_setparam": (142, 118, 0), "sched_setattr": (314, 274, 0),
    "get_robust_list": (274, 100, 0),
}  # fmt: skip
_CLONE, _CLONE3, _KILL_CALL, _TGKILL, _SOCKETPAIR = (56, 220), (435, 435), (62, 129), (234, 131), (53, 199)
_CLONE_THREAD, _CLONE_NEW_ANYTHING = 0x00010000, 0x7E020080
_UNIX, _STREAM, _SEQPACKET = 1, 1, 5

_STEP = struct.Struct("HBBI")
_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


@functools.cache
def supported() -> bool:
    """Whether the filter knows this machine's system call numbers."""
    return platform.machine() in _ARCHITECTURES


def install(*, host_files: bool) -> None:
    """Refuse from here on, in this process and for good.

    Raises:
        OSError: the kernel has no seccomp, or the architecture is not in the table.
    """
    if not supported():
        raise OSError(errno.ENOSYS, f"no system call table for {platform.machine()}")
    record = compiled(os.getpid(), host_files=host_files)
    kernel.no_new_privileges()
    kernel.prctl_filter(_SET_SECCOMP, _FILTER_MODE, bytes(record))


class _Record(ctypes.Structure):
    """The kernel's struct sock_fprog."""

    _fields_ = (("steps", ctypes.c_ushort), ("program", ctypes.c_char_p))


@functools.cache
def compiled(own_pid: int, *, host_files: bool) -> _Record:
    """The filter as the kernel reads it; kept, so that a zygote can build its workers' before they are born."""
    steps = program(platform.machine(), own_pid, host_files=host_files)
    return _Record(len(steps), b"".join(_STEP.pack(*step) for step in steps))


def program(machine: str, own_pid: int, *, host_files: bool) -> list[_Instruction]:
    """The filter for one process, as instructions of the kernel's small machine."""
    architecture, column = _ARCHITECTURES[machine]
    deny, allow, no_such_call = _ERRNO | errno.EPERM, _ALLOW, _ERRNO | errno.ENOSYS
    steps: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if column == 0:
        steps += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    steps += [(_AT_LEAST, 0, 1, FIRST_UNKNOWN), (_RETURN, 0, 0, no_such_call)]
    tables: Iterable[dict[str, tuple[int | None, int | None]]] = (
        (DENIED, DENIED_BESIDE_HOST_FILES) if host_files else (DENIED,)
    )
    for table in tables:
        for numbers in table.values():
            if (number := numbers[column]) is not None:
                steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, deny)]
    steps += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, no_such_call)]  # its flags lie in memory, out of sight
    for numbers_of, argument, values in _REFUSED_VALUES.values():
        refusals = [(_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
        steps += _looked_at(numbers_of[column], argument, [*refusals, (_RETURN, 0, 0, allow), (_RETURN, 0, 0, deny)])
    zero = [(_EQUAL, 0, 1, 0), (_RETURN, 0, 0, allow), (_RETURN, 0, 0, deny)]
    for only_zero in _ONLY_ZERO.values():
        steps += _looked_at(only_zero[column], only_zero[2], zero)
    myself = [(_EQUAL, 0, 1, own_pid), (_RETURN, 0, 0, allow), (_RETURN, 0, 0, deny)]
    steps += _looked_at(_KILL_CALL[column], 0, myself) + _looked_at(_TGKILL[column], 0, myself)
    thread = [
        (_ANY_BIT, 2, 0, _CLONE_NEW_ANYTHING),
        (_ANY_BIT, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, allow),
        (_RETURN, 0, 0, deny),
    ]
    steps += _looked_at(_CLONE[column], 0, thread)
    # A datagram pair could still send to any address, so only the two connected kinds are left.
    steps += _looked_at(_SOCKETPAIR[column], 0, [
        (_EQUAL, 0, 5, _UNIX), (_LOAD, 0, 0, _ARGUMENTS + 8), (_AND, 0, 0, 0xF),
        (_EQUAL, 1, 0, _STREAM), (_EQUAL, 0, 1, _SEQPACKET), (_RETURN, 0, 0, allow), (_RETURN, 0, 0, deny),
    ])  # fmt: skip
    return [*steps, (_RETURN, 0, 0, allow)]


def _looked_at(number: int, argument: int, body: list[_Instruction]) -> list[_Instruction]:
    """`body` decides about this one call, with the low half of its argument loaded."""
    return [(_EQUAL, 0, len(body) + 1, number), (_LOAD, 0, 0, _ARGUMENTS + 8 * argument), *body]
