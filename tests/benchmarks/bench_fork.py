"""A confined worker beside a bare fork of the same zygote: from the request to the first tensor result, and gone again.

Run it on an idle machine: `python tests/benchmarks/bench_fork.py`. The goal is a ratio of at most 1.5.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from autograder.confinement import Zygote
from autograder.enclosure import environment
from autograder.zygote import preload

ROUNDS = 60


def serve(connection: socket.socket) -> None:
    """One tensor result, then wait for the end; a worker that adds up a matrix product."""
    total = (torch.ones(8, 8) @ torch.ones(8, 8)).sum()
    connection.sendall(str(int(total.item())).encode())
    connection.recv(1)


def confined(zygote: Zygote) -> float:
    """Milliseconds for one confined worker."""
    start = time.perf_counter()
    worker = zygote.fork()
    answer = worker.socket.recv(64)
    worker.kill()
    assert answer == b"512", answer
    return 1000 * (time.perf_counter() - start)


def bare() -> float:
    """Milliseconds for one plain fork of this process, which has the same things in memory as a zygote."""
    start = time.perf_counter()
    ours, its = socket.socketpair()
    child = os.fork()
    if child == 0:
        serve(its)
        os._exit(0)
    answer = ours.recv(64)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    ours.close()
    its.close()
    assert answer == b"512", answer
    return 1000 * (time.perf_counter() - start)


def only_bare() -> None:
    """In a process of its own: answer each line with the time of a bare fork."""
    importlib.import_module("autograder.worker")
    preload(("torch",))
    gc.collect()
    gc.freeze()
    for _ in sys.stdin:
        print(bare(), flush=True)


def main() -> None:
    """Take turns, so that a busy moment of the machine meets both."""
    here = Path(__file__).resolve()
    variables = {"PYTHONPATH": os.pathsep.join([str(here.parents[2]), str(here.parent)])}
    times: dict[str, list[float]] = {"bare fork": [], "confined": []}
    with (
        Zygote(minimum="full", readable=[here], environment=variables, serve="bench_fork:serve") as zygote,
        subprocess.Popen(
            [sys.executable, here, "--bare"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=environment("/tmp", variables),  # nothing is written there
        ) as plain,
    ):  # fmt: skip
        assert plain.stdin is not None
        assert plain.stdout is not None
        for _ in range(ROUNDS):
            times["confined"].append(confined(zygote))
            plain.stdin.write("once\n")
            times["bare fork"].append(float(plain.stdout.readline()))
        plain.stdin.close()
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:10} median {medians[name]:6.1f} ms   fastest {min(values):6.1f} ms   of {ROUNDS}")
    print(f"ratio      {medians['confined'] / medians['bare fork']:6.2f}      (goal: at most 1.5)")


if __name__ == "__main__":
    if sys.argv[1:] == ["--bare"]:
        only_bare()
    else:
        main()
