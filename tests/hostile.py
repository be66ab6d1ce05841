"""What hostile submissions do, a function each, run inside a worker by tests/test_confinement.py.

Each gives the names of what it got away with, so an empty list is what must come back. Bounded on purpose: should a
wall fail, nothing is harmed. Signals are ones that do nothing, floods are small, networks end at loopback.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import json
import mmap
import os
import resource
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Targets = dict[str, Any]
Attempts = Iterable[tuple[str, Callable[[], object]]]
HARMLESS = signal.SIGWINCH  # ignored by who did not ask for it
MEGABYTE = 2**20
libc = ctypes.CDLL(None, use_errno=True)


def got(attempts: Attempts) -> list[str]:
    """The names of those attempts that were not refused."""
    through = []
    for name, attempt in attempts:
        try:
            attempt()
        except (OSError, ValueError, RuntimeError, MemoryError, subprocess.SubprocessError):
            continue
        through.append(name)
    return through


def call(number: int, *arguments: object) -> int:
    """A raw system call; refused means -1 and raises."""
    wide = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def read_files(targets: Targets) -> list[str]:
    """Tests, reference, gradebook, home and /etc, straight and on detours."""
    secret = targets["secret"]
    with contextlib.suppress(OSError):
        os.symlink(secret, "link")
    up = os.path.relpath(secret, targets["readable"])
    paths = [
        secret, "link", f"{targets['readable']}/{up}", f"/proc/self/root{secret}",
        f"/proc/{targets['grader']}/root{secret}", "/etc/passwd", "/etc/hostname", *targets["files"],
    ]  # fmt: skip

    def look(folder: str, hidden: list[str]) -> None:
        if not set(hidden) & set(os.listdir(folder)):
            raise FileNotFoundError(folder)

    return got([
        *((path, lambda path=path: Path(path).read_bytes()) for path in paths),
        *((folder, lambda items=(folder, hidden): look(*items)) for folder, hidden in targets["hidden"].items()),
        ("hard link", lambda: os.link(secret, "hard")),
        ("by handle", lambda: call(304, -100, ctypes.create_string_buffer(160), 0)),
    ])  # fmt: skip


def read_processes(targets: Targets) -> list[str]:
    """Memory, environment, maps, command line and descriptors of others."""
    pids = [targets["grader"], os.getppid(), 1]
    names = ("environ", "mem", "maps", "cmdline", "status", "fd")

    def look(path: Path) -> None:
        if path.name == "fd":
            os.listdir(path)
        else:
            with path.open("rb") as file:
                file.read(1)

    others = [pid for pid in pids if pid not in (0, os.getpid())]
    files = [Path(f"/proc/{pid}/{name}") for pid in others for name in names]
    return got([
        *((str(path), lambda path=path: look(path)) for path in files),
        ("list", lambda: os.listdir("/proc/1/task") if os.getpid() != 1 else os.listdir("/proc/2")),
        *((f"process_vm_readv {pid}", lambda pid=pid: call(310, pid, None, 0, None, 0, 0)) for pid in others),
        *((f"ptrace {pid}", lambda pid=pid: call(101, 0x4206, pid, 0, 0)) for pid in others),
    ])  # fmt: skip


def secrets(targets: Targets) -> list[str]:
    """The canary of the grader's environment and memory; open files that are nobody's business."""
    canary = targets["canary reversed"][::-1]  # so that asking does not put it into memory
    through = [name for name, value in os.environ.items() if canary in value]
    held = (part for item in gc.get_objects() if isinstance(item, dict) for part in [*item.values()])
    through += ["memory" for part in held if isinstance(part, str) and part == canary and part is not canary]
    for descriptor in range(3, 1024):
        with contextlib.suppress(OSError):
            mode = os.fstat(descriptor).st_mode
            if descriptor != 3 or not stat.S_ISSOCK(mode):
                through.append(f"descriptor {descriptor}")
    null = os.stat("/dev/null").st_rdev
    return through + [f"descriptor {number}" for number in range(3) if os.fstat(number).st_rdev != null]


def network(targets: Targets) -> list[str]:
    """Sockets of all kinds, and those the grader listens on."""
    kinds = {"inet": 2, "inet6": 10, "unix": 1, "netlink": 16, "vsock": 40, "packet": 17, "alg": 38, "xdp": 44}

    def by_datagram_pair() -> None:
        ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.sendto(b"hello", "\0" + targets["abstract_datagrams"])

    def by_stream_pair() -> None:
        ours, _ = socket.socketpair()
        ours.connect("\0" + targets["abstract"])

    def udp() -> None:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("127.0.0.1", targets["udp"]))

    return got([
        *((name, lambda kind=kind: socket.socket(kind)) for name, kind in kinds.items()),
        ("tcp", lambda: socket.create_connection(("127.0.0.1", targets["tcp"]), 1)),
        ("udp", udp),
        ("listen", lambda: socket.create_server(("127.0.0.1", 0))),
        ("abstract", lambda: socket.socket(socket.AF_UNIX).connect("\0" + targets["abstract"])),
        ("socket file", lambda: socket.socket(socket.AF_UNIX).connect(targets["socket"])),
        ("own socket file", lambda: socket.socket(socket.AF_UNIX).bind("own")),
        ("datagrams", by_datagram_pair),
        ("connect", by_stream_pair),
        ("name", lambda: socket.getaddrinfo("example.org", 80)),
    ])  # fmt: skip


def signals(targets: Targets) -> list[str]:
    """Signals to the grader, the zygote, everybody; by call, by queue, by file owner. And slowing others down."""
    pids = [pid for pid in (targets["grader"], os.getppid(), 1, 2, -1, 0) if pid != os.getpid()]
    reader, _ = os.pipe()
    grader = targets["grader"]
    return got([
        *((f"kill {pid}", lambda pid=pid: os.kill(pid, HARMLESS)) for pid in pids),
        *((f"pidfd_open {pid}", lambda pid=pid: os.pidfd_open(pid)) for pid in pids if pid > 0),
        ("tkill", lambda: call(200, grader, int(HARMLESS))),
        ("tgkill", lambda: call(234, grader, grader, int(HARMLESS))),
        ("sigqueue", lambda: call(129, grader, int(HARMLESS), ctypes.create_string_buffer(128))),
        ("F_SETOWN", lambda: fcntl.fcntl(reader, fcntl.F_SETOWN, grader)),
        ("F_SETSIG", lambda: fcntl.fcntl(reader, 10, int(HARMLESS))),
        ("FIOSETOWN", lambda: fcntl.ioctl(reader, 0x8901, ctypes.c_int(grader))),
        ("prlimit", lambda: resource.prlimit(grader, resource.RLIMIT_NOFILE)),
        ("affinity", lambda: call(203, grader, 8, ctypes.byref(ctypes.c_ulong(1)))),
        ("priority", lambda: os.setpriority(os.PRIO_PROCESS, grader, 19)),
        ("priority of a user", lambda: os.setpriority(os.PRIO_USER, 0, 19)),
        ("scheduler", lambda: os.sched_setscheduler(grader, os.SCHED_IDLE, os.sched_param(0))),
        ("ioprio", lambda: call(251, 1, grader, 0)),
    ])  # fmt: skip


def outlive(targets: Targets) -> list[str]:
    """Processes that would stay behind: forks by every call there is, and forgetting the parent's death."""
    del targets

    def fork(make: Callable[[], int]) -> None:
        if make() == 0:
            time.sleep(0.2)
            os._exit(0)

    return got([
        ("fork", lambda: fork(os.fork)),
        ("forkpty", lambda: fork(lambda: os.forkpty()[0])),
        ("vfork", lambda: call(58)),
        ("clone", lambda: fork(lambda: call(56, int(signal.SIGCHLD), 0, 0, 0, 0))),
        ("clone3", lambda: fork(lambda: call(435, (ctypes.c_uint64 * 8)(0, 0, 0, 0, int(signal.SIGCHLD)), 64))),
        ("forget the parent's death", lambda: call(157, 1, 0, 0, 0, 0)),
        ("be traced", lambda: call(157, 4, 1, 0, 0, 0)),
    ])  # fmt: skip


def write_files(targets: Targets) -> list[str]:
    """Anything outside the scratch; devices, pipes and sockets inside it; the host's dates and modes."""
    secret = targets["secret"]
    folders = [
        "/", "/tmp", "/var/tmp", "/usr/lib", "/etc", "/dev", "/dev/shm", "/run", str(Path(secret).parent),
        targets["readable"], *targets["folders"], "/proc/self", "/sys",
    ]  # fmt: skip
    return got([
        *((f"write {folder}", lambda folder=folder: Path(folder, "hostile").write_text("x")) for folder in folders),
        *((f"mkdir {folder}", lambda folder=folder: Path(folder, "hostile-folder").mkdir()) for folder in folders),
        ("append", lambda: Path(secret).open("a")),
        ("truncate", lambda: os.truncate(secret, 0)),
        ("chmod", lambda: os.chmod(secret, 0)),
        ("chown", lambda: os.chown(secret, os.getuid(), os.getgid())),
        ("utime", lambda: os.utime(secret)),
        ("setxattr", lambda: os.setxattr(secret, "user.x", b"x")),
        ("rename", lambda: os.rename(secret, "mine")),
        ("unlink", lambda: os.unlink(secret)),
        ("mknod", lambda: os.mknod("null", stat.S_IFCHR | 0o600, os.makedev(1, 3))),
        ("mkfifo", lambda: os.mkfifo("pipe")),
        ("oom_score_adj", lambda: Path("/proc/self/oom_score_adj").write_text("-1000")),
    ])  # fmt: skip


def fill_with_bytes(targets: Targets) -> list[str]:
    """More bytes in the scratch than it may hold."""
    del targets
    written = 0
    try:
        for number in range(40):
            written += Path(f"fill{number}").write_bytes(bytes(4 * MEGABYTE))
    except OSError:
        pass
    return [f"{written} bytes"] if written > 64 * MEGABYTE else []


def large_file(targets: Targets) -> list[str]:
    """One file above the limit, sparse, so that it costs nothing."""
    del targets
    with open("large", "wb") as file:
        return got([("seek", lambda: file.truncate(65 * MEGABYTE))])


def fill_with_files(targets: Targets) -> list[str]:
    """More files in the scratch than it may hold."""
    del targets
    made = 0
    try:
        for number in range(11_000):
            os.close(os.open(f"file{number}", os.O_CREAT | os.O_WRONLY))
            made += 1
    except OSError:
        pass
    return [f"{made} files"] if made > 10_000 else []


def leave_behind(targets: Targets) -> list[str]:
    """Leave a deep tree with no permissions for the next; and see what the last one left."""
    found = os.listdir(".")
    depth = targets.get("depth", 60)
    for _ in range(depth):
        os.mkdir("deep")
        os.chdir("deep")
    Path("treasure").write_text("for the next submission")
    with contextlib.suppress(OSError):
        os.chmod(".", 0)
    return found


def threads(targets: Targets) -> list[str]:
    """More threads than allowed; at the fallback levels the bound is the user's, and memory's."""
    gate, started = threading.Event(), 0
    try:
        for _ in range(400):
            threading.Thread(target=gate.wait, daemon=True).start()
            started += 1
    except (RuntimeError, MemoryError):
        pass
    gate.set()
    return [f"{started} threads"] if started > targets["threads"] else []


def memory(targets: Targets) -> list[str]:
    """More address space than allowed, untouched; and memory that would not be counted as this process's."""
    del targets
    return got([
        ("5 GB", lambda: mmap.mmap(-1, 5 * 2**30)),
        ("bytes", lambda: bytearray(5 * 2**30)),
        ("memfd", lambda: os.memfd_create("hidden")),
        ("shmget", lambda: call(29, 0, 4096, 0o600)),
        ("msgget", lambda: call(68, 0, 0o600)),
        ("mq_open", lambda: call(240, b"hostile", 0o102, 0o600, None)),
        ("keyring", lambda: call(248, b"user", b"hostile", b"x", 1, -3)),
        ("mlock", lambda: call(149, ctypes.addressof(ctypes.create_string_buffer(4096)), 4096)),
    ])  # fmt: skip


def descriptors(targets: Targets) -> list[str]:
    """More open files than allowed."""
    del targets
    opened = 0
    with contextlib.suppress(OSError):
        for _ in range(400):
            os.dup(0)
            opened += 1
    return [f"{opened} descriptors"] if opened > 128 else []


def output(targets: Targets) -> list[str]:
    """A flood on standard output and error, which must cost nobody anything."""
    del targets
    for _ in range(64):
        os.write(1, bytes(MEGABYTE))
        os.write(2, bytes(MEGABYTE))
    return []


def programs(targets: Targets) -> list[str]:
    """Run anything: a shell, Python, a setuid program, something written to the scratch."""
    del targets
    Path("script").write_text("#!/bin/sh\n")
    with contextlib.suppress(OSError):
        os.chmod("script", 0o700)
    every = (["/bin/sh", "-c", "true"], ["/usr/bin/true"], ["/usr/bin/su", "--version"], ["./script"])
    return got([
        *((words[0], lambda words=words: subprocess.run(words, check=True)) for words in every),
        ("spawn", lambda: os.posix_spawn("/usr/bin/true", ["true"], {})),
        ("system", lambda: subprocess.check_call("true", shell=True)),
        ("exec", lambda: os.execv("/usr/bin/true", ["true"])),
    ])  # fmt: skip


def privileges(targets: Targets) -> list[str]:
    """Capabilities, users, namespaces, mounts, limits, and corners of the kernel with a bad name."""
    del targets
    held = (ctypes.c_uint32 * 6)()
    libc.capget((ctypes.c_uint32 * 2)(0x20080522, 0), held)
    all_of_them = (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
    infinite = (resource.RLIM_INFINITY,) * 2
    return (["capabilities"] if any(held) else []) + got([
        ("capset", lambda: call(126, (ctypes.c_uint32 * 2)(0x20080522, 0), all_of_them)),
        ("setuid", lambda: os.setuid(0)),
        ("setgroups", lambda: os.setgroups([0])),
        *((f"unshare {flag:#x}", lambda flag=flag: call(272, flag)) for flag in (0x10000000, 0x20000, 0x20000000)),
        ("setns", lambda: call(308, 0, 0)),
        ("mount", lambda: call(165, b"tmpfs", os.getcwd().encode(), b"tmpfs", 0, None)),
        ("umount", lambda: call(166, os.getcwd().encode(), 2)),
        ("new mount", lambda: call(430, b"tmpfs", 0)),
        ("chroot", lambda: os.chroot(".")),
        ("pivot_root", lambda: call(155, b".", b".")),
        ("bpf", lambda: call(321, 0, ctypes.create_string_buffer(128), 128)),
        ("perf", lambda: call(298, ctypes.create_string_buffer(128), 0, -1, -1, 0)),
        ("userfaultfd", lambda: call(323, 1)),
        ("io_uring", lambda: call(425, 1, ctypes.create_string_buffer(160))),
        ("keyctl", lambda: call(250, 0, -3, 1)),
        ("dmesg", lambda: call(103, 3, ctypes.create_string_buffer(64), 64)),
        ("hostname", lambda: socket.sethostname("hostile")),
        ("personality", lambda: call(135, 0x0040000)),
        ("seccomp", lambda: call(317, 0, 0, None)),
        ("statmount", lambda: call(457, 0, 0, 0, 0)),
        ("core", lambda: resource.setrlimit(resource.RLIMIT_CORE, infinite)),
        ("memory limit", lambda: resource.setrlimit(resource.RLIMIT_AS, infinite)),
        ("time limit", lambda: resource.setrlimit(resource.RLIMIT_CPU, infinite)),
        ("file limit", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))),
        ("niceness", lambda: os.nice(-1)),
    ])  # fmt: skip


def ignore_everything(targets: Targets) -> list[str]:
    """Refuse to go: every signal ignored, a busy loop that answers first."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    targets["answer"]([])
    while True:
        pass


def stop_oneself(targets: Targets) -> list[str]:
    """A stopped process still has to go."""
    targets["answer"]([])
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)
    return []


def busy_threads(targets: Targets) -> list[str]:
    """Threads that go on while the first one sleeps."""

    def loop() -> None:
        while True:
            pass

    for _ in range(8):
        threading.Thread(target=loop, daemon=True).start()
    targets["answer"]([])
    time.sleep(60)
    return []


def burn(targets: Targets) -> list[str]:
    """Use up the processor time, with the warning signal ignored."""
    del targets
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while True:
        pass


def leave(targets: Targets) -> list[str]:
    """End the process at once."""
    os._exit(targets["status"])


def crash(targets: Targets) -> list[str]:
    """Read from address 0."""
    del targets
    ctypes.string_at(0)
    return []


def realtime_signal(targets: Targets) -> list[str]:
    """Die of a signal that has no name; the first process of a namespace cannot, so it leaves instead."""
    del targets
    os.kill(os.getpid(), 40)
    os._exit(0)


def foreign_call(targets: Targets) -> list[str]:
    """A system call of the x32 table, which a filter by number alone would miss."""
    del targets
    call(0x40000000 + 41, 2, 1, 0)
    return ["x32"]


def flood_of_descriptors(targets: Targets) -> list[str]:
    """Send descriptors along to the grader, which must not pile up there."""
    link = targets["link"]
    with contextlib.suppress(OSError):  # the kernel allows only so many under way
        for _ in range(20):
            socket.send_fds(link, [b" "], [0] * 64)
    return []


def honest(targets: Targets) -> list[str]:
    """What notebooks do: read data, write and read back files, folders, threads, event loops, time, randomness."""
    import asyncio  # a notebook imports as it goes
    import random
    import shutil
    import tempfile

    assert (Path(targets["readable"]) / "data.txt").read_text() == "to be read"
    Path("folder").mkdir()
    Path("folder/file").write_text("x")
    shutil.copyfile("folder/file", "folder/copy")
    os.rename("folder/copy", "moved")
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
    shutil.rmtree("folder")
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    asyncio.run(asyncio.sleep(0))
    assert os.listdir(".") == ["moved"]
    assert os.getcwd() == os.environ["HOME"] == os.environ["TMPDIR"]
    return [str(random.random())]  # asked for: the same in every worker


def die_of_memory(targets: Targets) -> list[str]:
    """Take most of what is allowed, then crash as native code does when it gets no more."""
    kept = bytearray(targets["bytes"])
    for start in range(0, len(kept), 4096):
        kept[start] = 1
    ctypes.string_at(0)
    return []


def hold_memory(targets: Targets) -> list[str]:
    """Touch more memory than is allowed, and keep it."""
    kept = bytearray(160 * MEGABYTE)
    for start in range(0, len(kept), 4096):
        kept[start] = 1
    targets["answer"]([])
    time.sleep(60)
    return [str(len(kept))]


def hold_processes(targets: Targets) -> list[str]:
    """Start a dozen processes, which wait."""
    if all(os.fork() for _ in range(12)):
        targets["answer"]([])
    time.sleep(60)
    return []


def train(targets: Targets) -> list[str]:
    """A small training run, one number out; and a tensor larger than all that is allowed."""
    import torch  # only where the zygote has it

    torch.manual_seed(targets["seed"])
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2)
    x = torch.randn(2, 5, 16)
    for _ in range(5):
        optimizer.zero_grad()
        loss = layer(x).square().mean()
        loss.backward()
        optimizer.step()
    torch.save(layer.state_dict(), "layer.pt")
    layer.load_state_dict(torch.load("layer.pt"))
    refused = got([("tensor", lambda: torch.empty(5 * 2**30, dtype=torch.uint8))])
    return [f"{loss.item():.9f}", str(torch.get_num_threads()), *refused]


READ_BEFORE: list[str] = []


def read_before() -> None:
    """To preload."""
    READ_BEFORE.append("read")


def what_was_read(targets: Targets) -> list[str]:
    """By this process, or by the one that it was forked from."""
    del targets
    return READ_BEFORE


def serve(connection: socket.socket) -> None:
    """Run the function asked for, by name, and answer with what it got away with."""
    asked = json.loads(connection.recv(65536))

    def answer(through: list[str]) -> None:
        connection.sendall(json.dumps(through).encode() + b"\n")

    every: dict[str, Callable[[Targets], list[str]]] = {
        name: item for name, item in globals().items() if callable(item)
    }
    try:
        result = every[asked["run"]]({**asked["targets"], "answer": answer, "link": connection})
    except Exception as error:  # noqa: BLE001 - told to the test, which will not have expected it
        result = [f"{type(error).__name__}: {error}"]
    answer(result)
