"""Every line of the promise in confinement.py, attacked; the levels; and that nothing is left of anything."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import json
import os
import platform
import random
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autograder import enclosure, folders, kernel, seccomp
from autograder.confinement import Limits, SandboxUnavailable, Worker, Zygote
from autograder.plan import Switches

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confinement is for Linux")

HERE = Path(__file__).resolve().parent
PACKAGE = Path(enclosure.__file__).parent
CANARY = "canary-5f1d9a"
SECONDS = 20

ATTACKS = [
    "read_files", "read_processes", "secrets", "network", "signals", "outlive", "write_files", "fill_with_bytes",
    "large_file", "fill_with_files", "threads", "memory", "descriptors", "output", "programs", "privileges",
]  # fmt: skip

# How machines differ: which layers they give, the level that makes, and what gets through there.
MACHINES: dict[str, tuple[Switches, str, set[str]]] = {
    "bwrap": (Switches(outer=("system",)), "full", set()),
    "wheel": (Switches(outer=("wheel",)), "full", set()),
    "no landlock": (Switches(landlock=False), "full", set()),
    "no namespaces in bwrap": (Switches(namespaces=False), "partial", {"fill_with_files", "threads"}),
    "no bwrap": (Switches(outer=("bare",)), "partial", set()),
    "landlock and seccomp": (
        Switches(outer=("bare",), namespaces=False), "partial", {"fill_with_bytes", "fill_with_files", "threads"},
    ),
}  # fmt: skip


@dataclass
class Stage:
    """What attacks aim at, and where they came through."""

    targets: dict[str, Any]
    readable: Path
    datagrams: list[socket.socket]


def hidden(places: list[Path]) -> dict[str, list[str]]:
    """For each folder the names in it that no worker should see: those that lead to nothing it may read."""
    shown = {
        part for path in (*folders.to_import_from(), places[0], Path("/proc"), Path("/dev")) for part in path.parts
    }
    shown |= {"data", "tests", "hostile.py"}
    return {str(place): [path.name for path in place.iterdir() if path.name not in shown] for place in places}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A secret file beside a readable folder, and listeners of every kind."""
    folder = tmp_path_factory.mktemp("stage")
    readable = folder / "data"
    readable.mkdir()
    (readable / "data.txt").write_text("to be read")
    secret = folder / "secret"
    secret.write_text(CANARY)
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADER_TOKEN", CANARY)
        near = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        by_file, abstract = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
        datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        path = os.path.relpath(folder / "listener")  # the name of a socket must be short
        by_file.bind(path)
        abstract.bind(f"\0abstract-{os.getpid()}")
        datagrams.bind(f"\0datagrams-{os.getpid()}")
        by_file.listen()
        abstract.listen()
        targets = {
            "secret": str(secret), "readable": str(readable), "grader": os.getpid(), "canary reversed": CANARY[::-1],
            "files": [str(HERE / "test_confinement.py"), str(HERE.parent / "pyproject.toml")],
            "folders": [str(HERE), str(HERE.parent), str(Path.home()), str(folder), str(PACKAGE), str(PACKAGE.parent)],
            "hidden": hidden([folder, HERE, PACKAGE.parent, Path.home(), *map(Path, ("/", "/etc", "/tmp", "/home"))]),
            "tcp": near.getsockname()[1], "udp": udp.getsockname()[1], "abstract": f"abstract-{os.getpid()}",
            "abstract_datagrams": f"datagrams-{os.getpid()}", "socket": str(folder / "listener"),
            "threads": 512 if os.getuid() == 0 else 64,  # root is not counted, only memory stops its threads
        }  # fmt: skip
        yield Stage(targets, readable, [udp, datagrams])
        assert secret.read_text() == CANARY
        assert sorted(path.name for path in folder.iterdir()) == ["data", "listener", "secret"]


def zygote(readable: tuple[Path, ...] = (), **changes: Any) -> Zygote:
    """A zygote without torch, whose workers run tests/hostile.py."""
    script = HERE / "hostile.py"
    path = os.pathsep.join([str(PACKAGE.parent), str(HERE)])
    options: dict[str, Any] = {
        "preload": (), "serve": "hostile:serve", "environment": {"PYTHONPATH": path}, "minimum": "none",
        "readable": [*readable, script], **changes,
    }  # fmt: skip
    return Zygote(**options)


@functools.cache
def level_here(switches: Switches) -> tuple[str, object]:
    """What this machine gives with these layers, and why not more."""
    with zygote(switches=switches) as opened:
        return opened.level, opened.layers["passed_over"]


def needed(machine: str) -> None:
    """Skip where this machine cannot stand in for that one; never in CI, whose machines can."""
    switches, level, _ = MACHINES[machine]
    if not enclosure.boxes(switches.outer):
        pytest.skip(f"there is no bwrap of the kind {switches.outer}")
    if "CI" not in os.environ and level_here(switches)[0] != level:
        pytest.skip(f"this machine does not give `{level}` with {switches}: {level_here(switches)}")


@pytest.fixture(scope="module", params=list(MACHINES))
def machine(request: pytest.FixtureRequest, stage: Stage) -> Iterator[tuple[str, Zygote]]:
    """A zygote on each kind of machine."""
    needed(request.param)
    with zygote((stage.readable,), switches=MACHINES[request.param][0]) as opened:
        yield request.param, opened


@pytest.fixture(scope="module")
def best(stage: Stage) -> Iterator[Zygote]:
    """A zygote with everything this machine offers."""
    with zygote((stage.readable,)) as opened:
        yield opened


def asked(worker: Worker, run: str, stage: Stage, **more: Any) -> list[str]:
    """Let the worker run one function of tests/hostile.py; what it got away with."""
    worker.socket.settimeout(SECONDS)
    worker.socket.sendall(json.dumps({"run": run, "targets": {**stage.targets, **more}}).encode())
    answer: list[str] = json.loads(worker.socket.makefile("rb").readline() or "null")
    return answer


def end(worker: Worker) -> str:
    """How it ended by itself."""
    until = time.monotonic() + SECONDS
    while (how := worker.ended()) is None and time.monotonic() < until:
        time.sleep(0.02)
    assert how is not None
    return how


# --- levels


def test_level(machine: tuple[str, Zygote]) -> None:
    """The level is what the layers and the self-test amount to."""
    name, opened = machine
    assert opened.level == MACHINES[name][1], dict(opened.layers)
    assert opened.layers["selftest"] == {"blocked": 13, "possible": []}


@pytest.mark.parametrize(
    ("switches", "possible"),
    [
        (Switches(outer=("bare",), landlock=False, namespaces=False), "read files"),
        (Switches(seccomp=False), "fork"),
        (Switches(outer=("bare",), landlock=False, namespaces=False, seccomp=False), "reach the network"),
        (Switches(outer=("bare",), landlock=False), "read files"),
    ],
)
def test_a_missing_wall_is_noticed(switches: Switches, possible: str) -> None:
    """The self-test names what got through, and the level is `none`."""
    with zygote(switches=switches) as opened:
        assert opened.level == "none"
        selftest: Any = opened.layers["selftest"]
        assert possible in selftest["possible"]


def test_refusal_says_why_and_what_to_do() -> None:
    """Below the least level the grader does not start."""
    needed("no bwrap")
    with pytest.raises(SandboxUnavailable, match=r"`full`.*gives `partial`.*To mend it: "):
        zygote(switches=Switches(outer=("bare",)), minimum="full")


def test_a_box_that_does_not_start_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bwrap fails, the next way is tried."""
    monkeypatch.setattr(
        enclosure, "boxes", lambda _: [enclosure.Box("broken", "/bin/false", "0"), enclosure.Box("bare")]
    )
    with zygote() as opened:
        assert opened.layers["box"] == "bare"


def test_reason_holds_bwraps_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing starts, the message has the line that bwrap wrote."""
    monkeypatch.setattr(enclosure, "command", lambda *_: ["/bin/sh", "-c", "echo bwrap: no such luck >&2; exit 1"])
    with pytest.raises(SandboxUnavailable, match="bwrap: no such luck"):
        zygote()


# --- attacks


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack(machine: tuple[str, Zygote], attack: str, stage: Stage) -> None:
    """Nothing gets through, but for what a fallback is known to let through."""
    name, opened = machine
    if attack in MACHINES[name][2]:
        pytest.skip("known and stated: this fallback does not stop it")
    worker = opened.fork()
    assert asked(worker, attack, stage) == []
    assert worker.kill() in {"killed", "exit 0"}
    assert not select.select(stage.datagrams, [], [], 0)[0]


def test_nothing_is_left_for_the_next(machine: tuple[str, Zygote], stage: Stage) -> None:
    """The scratch starts empty, whatever the worker before did to it."""
    _, opened = machine
    for _ in range(3):
        worker = opened.fork()
        assert asked(worker, "leave_behind", stage) == []
        worker.kill()


def test_honest_work(machine: tuple[str, Zygote], stage: Stage) -> None:
    """What notebooks do works at every level, and chance is the same for everybody."""
    _, opened = machine
    answers = [asked(opened.fork(), "honest", stage) for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0][0].startswith("0.")


@pytest.mark.parametrize("attack", ["ignore_everything", "stop_oneself", "busy_threads"])
def test_kill_is_bounded(machine: tuple[str, Zygote], attack: str, stage: Stage) -> None:
    """Whatever a worker ignores, it goes when told to."""
    _, opened = machine
    worker = opened.fork()
    asked(worker, attack, stage)
    start = time.monotonic()
    assert worker.kill() == "killed"
    assert time.monotonic() - start < 2
    assert worker.kill() == "killed"  # as often as one likes


@pytest.mark.parametrize("status", [0, 3])
def test_how_it_ended_exit(best: Zygote, stage: Stage, status: int) -> None:
    """An exit is told with its status."""
    worker = best.fork()
    assert worker.ended() is None
    asked(worker, "leave", stage, status=status)
    assert end(worker) == f"exit {status}"
    assert worker.kill() == f"exit {status}"


def test_how_it_ended_signal(machine: tuple[str, Zygote], stage: Stage) -> None:
    """A crash is told with its signal, and the next worker starts."""
    _, opened = machine
    for attack, how in (("crash", "signal 11 (SIGSEGV)"), ("foreign_call", "signal 31 (SIGSYS)")):
        worker = opened.fork()
        asked(worker, attack, stage)
        assert end(worker) == how
    worker = opened.fork()
    asked(worker, "realtime_signal", stage)
    assert end(worker) in {"signal 40 (a real-time signal)", "exit 0"}


def test_processor_time(stage: Stage) -> None:
    """A worker that burns processor time is stopped by the kernel even if nobody watches."""
    with zygote(limits=Limits(cpu_seconds=1)) as opened:
        worker = opened.fork()
        asked(worker, "burn", stage)
        assert end(worker) == "out of processor time"


def test_out_of_memory_is_told(stage: Stage) -> None:
    """A crash with most of the memory taken is named for what it was."""
    with zygote(limits=Limits(memory_bytes=96 * 2**20)) as opened:
        worker = opened.fork()
        asked(worker, "die_of_memory", stage, bytes=80 * 2**20)
        assert end(worker) == "out of memory"


@pytest.mark.parametrize(
    ("switches", "attack", "how"),
    [
        (Switches(addresses=False), "hold_memory", "out of memory"),
        (Switches(outer=("bare",), addresses=False), "hold_memory", "out of memory"),
        (Switches(seccomp=False), "hold_processes", "too many processes"),
    ],
)
def test_watched_from_outside(stage: Stage, switches: Switches, attack: str, how: str) -> None:
    """Where the limit on addresses, or the filter, does not reach, the zygote sees it and ends the worker."""
    with zygote(limits=Limits(memory_bytes=96 * 2**20), switches=switches) as opened:
        worker = opened.fork()
        asked(worker, attack, stage)
        assert end(worker) == how
        worker = opened.fork()
        assert asked(worker, "ignore_everything", stage) == []
        time.sleep(0.3)  # looked at, and let be
        assert worker.ended() is None


def test_descriptors_sent_along_do_not_pile_up(best: Zygote, stage: Stage) -> None:
    """What a worker sends beside its bytes is dropped by the kernel."""
    worker = best.fork()
    before = len(os.listdir("/proc/self/fd"))
    assert asked(worker, "flood_of_descriptors", stage) == []
    assert len(os.listdir("/proc/self/fd")) == before
    worker.kill()


# --- ends


def descendants(pid: int) -> set[int]:
    """All processes below one, of every user."""
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and not (folder / "stat").read_text().rpartition(")")[2].split()[0].startswith("Z"):
                child = int(folder.name)
                found |= {child} | descendants(child)
    return found


def gone(pids: set[int], seconds: float) -> bool:
    """Whether all of them have ended within the time; a zombie has."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        left = set()
        for pid in pids:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    left.add(pid)
        if not left:
            return True
        time.sleep(0.02)
    return False


def test_close_leaves_nothing(
    machine: tuple[str, Zygote], stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process, no file, no descriptor."""
    name, _ = machine
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gc.collect()  # what earlier tests have left closes now, and not while this one counts
    processes, opened_files = descendants(os.getpid()), len(os.listdir("/proc/self/fd"))
    with zygote(switches=MACHINES[name][0]) as opened:
        asked(opened.fork(), "ignore_everything", stage)
        mine = descendants(os.getpid()) - processes
        assert mine
    assert gone(mine, 1)
    assert len(os.listdir("/proc/self/fd")) == opened_files
    assert list(tmp_path.iterdir()) == []


GRADER = "import sys; sys.path[:0] = sys.argv[1:3]; import test_confinement; test_confinement.as_grader(sys.argv[3])"


def as_grader(machine_name: str) -> None:
    """In a process of its own: start a busy worker, say so, and wait to be killed."""
    with zygote(switches=MACHINES[machine_name][0]) as opened:
        worker = opened.fork()
        worker.socket.sendall(json.dumps({"run": "ignore_everything", "targets": {}}).encode())
        worker.socket.recv(100)
        print("busy", flush=True)
        time.sleep(60)


@pytest.mark.parametrize("name", list(MACHINES))
def test_everything_dies_with_the_grader(name: str, tmp_path: Path) -> None:
    """`kill -9` of the grader takes the whole tree along, with a worker that ignores everything."""
    needed(name)
    words = [sys.executable, "-c", GRADER, str(PACKAGE.parent), str(HERE), name]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as grader:
        assert grader.stdout is not None
        assert grader.stdout.readline() == "busy\n"
        tree = descendants(grader.pid)
        assert tree
        grader.kill()
    assert gone(tree, 1)


def test_everything_dies_with_the_grader_at_any_moment() -> None:
    """While it starts, too."""
    chance = random.Random(6)
    words = [sys.executable, "-c", GRADER, str(PACKAGE.parent), str(HERE), "bwrap"]
    for _ in range(6):
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as grader:
            time.sleep(chance.uniform(0.2, 0.9))
            tree = descendants(grader.pid)
            grader.kill()
        assert gone(tree, 1)


def test_files_of_a_killed_grader_go_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the fallbacks use a folder on the disk; what is left of it after `kill -9` does not stay."""
    words = [sys.executable, "-c", GRADER, str(PACKAGE.parent), str(HERE), "no bwrap"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as grader:
        assert grader.stdout is not None
        assert grader.stdout.readline() == "busy\n"
        (left,) = tmp_path.iterdir()
        os.utime(left, (0, 0))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with folders.temporary():
            assert left.exists()  # its grader lives
        grader.kill()
    with folders.temporary() as mine:
        assert list(tmp_path.iterdir()) == [mine]
    assert list(tmp_path.iterdir()) == []


def test_a_lost_zygote_is_replaced(best: Zygote, stage: Stage) -> None:
    """Our fault is put right once, unseen."""
    worker = best.fork()
    assert best._link is not None  # there is no public way to break it
    best._link.process.kill()
    assert end(worker) == "killed"
    assert asked(best.fork(), "secrets", stage) == []


def test_a_worker_with_fewer_walls_is_no_worker(best: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a wall is missing that the self-test's worker had, no submission meets it."""
    monkeypatch.setattr(best, "_walls", {"seccomp": True, "more": True})
    monkeypatch.setattr(best, "_start", lambda _: None)
    with pytest.raises(SandboxUnavailable):
        best.fork()


def test_started_in_a_thread_that_ends(stage: Stage) -> None:
    """A zygote lives on when the thread that opened it does not."""
    opened: list[Zygote] = []
    thread = threading.Thread(target=lambda: opened.append(zygote()))
    thread.start()
    thread.join()
    with opened[0]:
        time.sleep(0.1)
        assert asked(opened[0].fork(), "secrets", stage) == []


def test_one_worker_at_a_time(best: Zygote) -> None:
    """A second fork ends the first worker."""
    first = best.fork()
    best.fork()
    assert first.ended() == "killed"


def test_a_second_thread_is_refused(tmp_path: Path) -> None:
    """No worker is forked from a process with threads: it might hang, or be born with a lock held."""
    (tmp_path / "restless.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    path = os.pathsep.join([str(PACKAGE.parent), str(HERE), str(tmp_path)])
    with pytest.raises(SandboxUnavailable, match="2 threads after the imports"):
        zygote((tmp_path,), preload=("restless",), environment={"PYTHONPATH": path})


def test_torch_in_a_worker(stage: Stage) -> None:
    """Training works behind all the walls, gives what it gives outside, on one thread, within the memory."""
    pytest.importorskip("torch")
    with zygote(preload=("torch",)) as opened:
        inside = [asked(opened.fork(), "train", stage, seed=seed) for seed in (1, 1, 2)]
    assert inside[0] == inside[1] != inside[2]
    assert inside[0][1:] == ["1"]


def test_what_a_worker_will_read_is_read_before(stage: Stage) -> None:
    """A function to preload is called once, and all workers find what it read."""
    path = os.pathsep.join([str(PACKAGE.parent), str(HERE)])
    with zygote(preload=("hostile:read_before",), environment={"PYTHONPATH": path}) as opened:
        assert [asked(opened.fork(), "what_was_read", stage) for _ in range(2)] == [["read"], ["read"]]


IN_CONTAINER = "import sys; sys.path[:0] = sys.argv[1:3]; import test_confinement; test_confinement.in_container()"


def as_in_a_container() -> None:
    """From here on as in a container with the usual filter: no namespaces, no mounts."""
    refused = ("unshare", "setns", "mount", "umount2", "pivot_root")
    machine = platform.machine()
    column = seccomp._ARCHITECTURES[machine][1]
    code = [(0x20, 0, 0, 0)]
    for name in refused:
        code += [(0x15, 0, 1, seccomp.DENIED[name][column] or -1), (0x06, 0, 0, 0x00050001)]
    code += [(0x15, 0, 1, 435), (0x06, 0, 0, 0x00050026)]  # clone3: no such call
    code += [(0x15, 0, 3, (56, 220)[column]), (0x20, 0, 0, 16), (0x45, 0, 1, 0x7E020000), (0x06, 0, 0, 0x00050001)]
    raw = ctypes.create_string_buffer(
        b"".join(struct.pack("HBBI", *step) for step in [*code, (0x06, 0, 0, 0x7FFF0000)])
    )
    kernel.no_new_privileges()
    kernel.prctl_filter(22, 2, struct.pack("HL", len(code) + 1, ctypes.addressof(raw)))


def in_container() -> None:
    """Prints the level that a container gives, and what was passed over."""
    as_in_a_container()
    with zygote() as opened:
        print(json.dumps({"level": opened.level, **opened.layers}))


def test_in_a_container() -> None:
    """Where namespaces are forbidden the level is `partial`, and the reason is kept."""
    words = [sys.executable, "-c", IN_CONTAINER, str(PACKAGE.parent), str(HERE)]
    found = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True, timeout=60).stdout)
    assert (found["level"], found["box"], found["namespaces"]) == ("partial", "bare", [])
    assert "bwrap: " in found["passed_over"][0]
    assert found["remedy"]
