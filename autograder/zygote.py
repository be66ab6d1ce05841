"""The process that has imported torch once and forks a worker for each submission; started by `confinement.py`.

It never sees a submission, a test or a score: a request is the word "fork" with two sockets, one that the worker will
answer the grader on and one on which it reports its walls. It runs on one thread and never touches CUDA, because
neither survives a fork; and it ends, with whatever it started, when the grader's end of its own socket is closed.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from autograder import kernel, seccomp, walls
from autograder.folders import wipe
from autograder.plan import Plan
from autograder.tree import Tree

Serve = Callable[[socket.socket], None]
MESSAGE_BYTES = 65536
_STARTED_WRONG, _RAISED = 70, 1
# Imported beside torch where they are installed: what notebooks import, so that no worker pays for it.
_COMPANIONS = ("numpy", "dataclasses", "re", "math", "json", "regex", "tiktoken", "tqdm.auto")
_FIRST_OWN_USER = 200_000
_LOOK_MS = 100  # how often a worker's memory is looked at from outside


class Zygote:
    """The loop: one request, one worker, one report of its end."""

    def __init__(
        self, control: socket.socket, plan: Plan, namespace: int | None, user: int | None, refused: str = ""
    ) -> None:
        """`namespace` is the own pid namespace, open, if workers are to get one each; `user` whom they become.

        refused: why there is no such namespace.
        """
        self.control, self.plan, self.namespace, self.user = control, plan, namespace, user
        self.refused = refused
        self.entries: dict[str, Serve] = {}
        self.ending = select.poll()  # says in a worker that this process has ended
        self.ending.register(os.pidfd_open(os.getpid()), select.POLLIN)
        self.scratch = Path(plan.scratch)
        if user is not None:
            os.chown(self.scratch, user, user)

    def prepare(self) -> None:
        """Import everything workers need; refuse to go on with a second thread, which no fork would survive."""
        for name in (self.plan.serve, "autograder.selftest:serve"):
            module, _, function = name.partition(":")
            self.entries[name] = getattr(importlib.import_module(module), function)
        preload(self.plan.preload)
        threads = len(list(Path("/proc/self/task").iterdir()))
        if threads > 1:
            message = f"{threads} threads after the imports, where there must be one"
            raise RuntimeError(message)
        if self.namespace is not None and seccomp.supported():
            seccomp.compiled(1, host_files=not self.plan.enclosed)  # every worker will be its namespace's process 1
        gc.collect()
        gc.freeze()  # what is there now stays shared between the workers

    def run(self) -> None:
        """Answer until the grader hangs up."""
        start = walls.Start.here(self.plan, no_own_processes=self.refused, user=self.user)
        self.control.send(json.dumps({"ready": sys.version.split()[0]}).encode())
        while True:
            rules = walls.drawn_up(self.plan)  # here, where nobody waits for them
            raw, handed, _, _ = socket.recv_fds(self.control, MESSAGE_BYTES, 2, socket.MSG_CMSG_CLOEXEC)
            if not raw:
                return
            pid, watch = self._fork(start, json.loads(raw)["serve"], handed, rules)
            for descriptor in (*handed, *rules):
                os.close(descriptor)
            socket.send_fds(self.control, [json.dumps({"forked": pid}).encode()], [watch])
            self._until_gone(pid, watch)

    def _fork(self, start: walls.Start, entry: str, sockets: Sequence[int], rules: Sequence[int]) -> tuple[int, int]:
        """Start a worker; gives its pid and a file that tells of its end."""
        answers, report = sockets
        if self.namespace is not None:
            kernel.unshare(kernel.NEW_PID)
        pid = os.fork()
        if pid == 0:
            self._worker(entry, answers, report, rules, start)
        if self.namespace is not None:
            kernel.children_in(self.namespace)
        return pid, os.pidfd_open(pid)

    def _worker(self, entry: str, answers: int, report: int, rules: Sequence[int], start: walls.Start) -> None:
        """In the child: walls first, then the entry; never comes back."""
        try:
            kernel.die_with_parent()
            if self.ending.poll(0):
                os._exit(_STARTED_WRONG)  # the parent was gone before it could be watched
            self.control.detach()
            os.setsid()
            answers, report, *rules = _only(answers, report, *rules)
            layers = walls.confine(self.plan, start, rules)
            os.write(report, json.dumps({"layers": layers}).encode())
        except BaseException as error:  # noqa: BLE001 - whatever it was, it must not run on as a second zygote
            with contextlib.suppress(OSError):
                os.write(report, json.dumps({"error": f"{type(error).__name__}: {error}"[:2000]}).encode())
            os._exit(_STARTED_WRONG)
        os.close(report)
        random.seed(0)  # Python seeds it anew after a fork
        status = 0
        try:
            self.entries[entry](socket.socket(fileno=answers))
        except BaseException:  # noqa: BLE001 - the same
            status = _RAISED
        os._exit(status)

    def _until_gone(self, pid: int, watch: int) -> None:
        """Wait for the worker's end and report it, or end it when the grader is gone."""
        waiting = select.poll()
        waiting.register(watch, select.POLLIN)
        waiting.register(self.control, select.POLLIN)
        tree: Tree | None = None  # most workers end before they are looked at
        gone = excess = ""
        while not gone:
            ready = dict(waiting.poll(_LOOK_MS))
            gone = "gone" if watch in ready else ""
            if self.control.fileno() in ready and not gone:
                # Nothing is asked for while a worker lives: this is the grader's hanging up.
                signal.pidfd_send_signal(watch, signal.SIGKILL)
                waiting.unregister(self.control)
            if not (ready or excess):
                tree = tree or Tree(watch, self.plan.limits)
                if excess := tree.excess():
                    signal.pidfd_send_signal(watch, signal.SIGKILL)
        os.close(watch)
        _, status, usage = os.wait4(pid, 0)
        # What was there at its birth is shared with this process, and no worker's doing.
        added = usage.ru_maxrss - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        used = {"ended": status, "cpu": usage.ru_utime + usage.ru_stime, "added": added * 1024, "excess": excess}
        with contextlib.suppress(BrokenPipeError):
            self.control.send(json.dumps(used).encode())
        wipe(self.scratch)  # nothing to do where the worker had mounted its own over it


def _only(*kept: int) -> Sequence[int]:
    """Keep these descriptors, as 3, 4 and so on, and no others; standard input, output and error lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    wanted = (nowhere, nowhere, nowhere, *kept)
    high = max(*wanted, len(wanted)) + 1
    # Through high numbers first, so that none is overwritten before it is copied.
    for number, descriptor in enumerate(wanted):
        os.dup2(descriptor, high + number)
    for number in range(len(wanted)):
        os.dup2(high + number, number)
    os.closerange(len(wanted), os.sysconf("SC_OPEN_MAX"))
    return range(3, len(wanted))


def preload(names: tuple[str, ...]) -> None:
    """Import what workers will need, on one thread, and take the slow first steps for them.

    A name is a module's, or "module:function": one that remembers what it gives, so that no worker pays for it.
    """
    for name in names:
        module, _, function = name.partition(":")
        imported = importlib.import_module(module)
        if function:
            getattr(imported, function)()
    if "torch" not in names:
        return
    for name in _COMPANIONS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import torch  # noqa: PLC0415 - only where it was asked for

    torch.set_num_threads(1)  # a parallel region here would make a child's hang
    # The first optimizer and the first sum on `meta` import 800 modules, the first convolution asks /proc about the
    # processor. No backward pass: on a CUDA build the first one starts a thread for each GPU.
    weight = torch.nn.Parameter(torch.ones(1, 1, 3, 3))
    torch.optim.Adam([weight])
    torch.empty(2, device="meta").add(1)
    with torch.no_grad():
        torch.nn.functional.conv2d(torch.ones(1, 1, 5, 5), weight)
    torch.manual_seed(0)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(0)


def _own_process_namespace() -> tuple[int | None, str]:
    """Move into a pid namespace of one's own, as its first process, so that workers can get theirs.

    Gives the namespace, or None and why it was refused.
    """
    try:
        try:
            kernel.unshare(kernel.NEW_PID)
        except OSError:
            uid, gid = os.getuid(), os.getgid()
            kernel.unshare(kernel.NEW_USER | kernel.NEW_PID)
            kernel.keep_identity(uid, gid)
    except OSError as error:
        return None, error.strerror or str(error)
    kernel.die_with_parent()  # gaining a user namespace has undone the first one
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    kernel.die_with_parent()
    return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC), ""


def _own_user(plan: Plan) -> int | None:
    """A user nobody else is, for root outside bwrap, if that user can still come to what workers need."""
    if os.getuid() != 0 or plan.enclosed or not plan.switches.own_user:
        return None
    folders = {folder for path in (plan.scratch, *plan.readable) for folder in Path(path).resolve().parents}
    if all(folder.stat().st_mode & 0o001 for folder in folders):
        return _FIRST_OWN_USER + os.getpid()
    return None


def main(descriptor: int) -> None:
    """Take the plan from the control socket, get ready, and serve."""
    kernel.die_with_parent()
    control = socket.socket(fileno=descriptor)
    raw = control.recv(MESSAGE_BYTES)
    if not raw:
        return
    plan = Plan.from_json(json.loads(raw))
    user = _own_user(plan)
    namespace, refused = _own_process_namespace() if plan.switches.namespaces else (None, "left out")
    zygote = Zygote(control, plan, namespace, user, refused)
    zygote.prepare()
    zygote.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
