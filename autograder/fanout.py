"""Many notebooks at a time, over any `concurrent.futures.Executor`: a pool of processes here, or a Dask cluster.

Each process keeps one grader. No job can end the others: what goes wrong in one becomes its `ungraded` report. A pool
that breaks because one of its processes died is replaced; the jobs it held run again one at a time, so that the one
that kills is found out and the others are graded.

Not covered: the parent's own death on systems other than Linux leaves its processes to finish the job they are at.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autograder.assignment import read_assignment
from autograder.collect import Job
from autograder.errors import AutograderError, NotebookUnreadable
from autograder.grade import ungraded
from autograder.grader import Grader, Options
from autograder.parent import end_with_thread
from autograder.report import Report

_ONE_AT_A_TIME = threading.Lock()  # within a process: a grader has one worker, and Dask starts several threads


@dataclass(frozen=True)
class Settings:
    """What is the same for every job: the course, how it is graded, and where reports are kept."""

    solutions: Path
    options: Options = field(default_factory=Options)
    reports: Path | None = None


@dataclass(frozen=True)
class Done:
    """A job and its report. `fault`: what went wrong on our side, for the instructor's eyes only."""

    job: Job
    report: Report
    fault: str = ""


def grade_files(
    jobs: Iterable[Job], start: Callable[[], Executor], settings: Settings, *, ahead: int = 32
) -> Iterator[Done]:
    """Grade the jobs and give the reports as they come, each with its job.

    start: makes an executor; called again where one breaks. `functools.partial(local, 4)`, for example.
    ahead: so many jobs are handed over before the first is done; at least the number of processes.
    """
    fan = _Fan(start, settings)
    with contextlib.closing(fan):
        yield from fan.run(iter(jobs), ahead)


class _Fan:
    """One run: the executor of the moment, what it is working on, and the jobs under suspicion."""

    def __init__(self, start: Callable[[], Executor], settings: Settings) -> None:
        """Start the first executor."""
        self.start, self.settings = start, settings
        self.executor = start()
        self.running: dict[Future[Done], Job] = {}
        self.suspects: deque[Job] = deque()
        self.alone = False

    def close(self) -> None:
        """Give up what has not begun, and wait for the rest."""
        for future in self.running:
            future.cancel()
        self.executor.shutdown(wait=True)

    def run(self, jobs: Iterator[Job], ahead: int) -> Iterator[Done]:
        """Hand jobs over and collect what comes back, until neither is left."""
        while True:
            self._fill(jobs, ahead)
            if not self.running:
                return
            finished, _ = wait(self.running, return_when=FIRST_COMPLETED)
            broken = False
            for future in finished:
                job = self.running.pop(future)
                error = CancelledError() if future.cancelled() else future.exception()
                broken = broken or isinstance(error, BrokenExecutor)
                if error is None:
                    yield future.result()
                elif isinstance(error, BrokenExecutor) and not self.alone:
                    self.suspects.append(job)
                else:
                    yield _failed(self.settings, job, _apology(error), f"{type(error).__name__}: {error}")
            if broken:
                self._replace()

    def _fill(self, jobs: Iterator[Job], ahead: int) -> None:
        if self.suspects:
            if not self.running:
                self.alone = True
                self._submit(self.suspects.popleft())
            return
        if self.alone and self.running:
            return
        self.alone = False
        while len(self.running) < ahead and not self.suspects:
            job = next(jobs, None)
            if job is None:
                return
            self._submit(job)

    def _submit(self, job: Job) -> None:
        try:
            self.running[self.executor.submit(grade_one, self.settings, job)] = job
        except BrokenExecutor:  # it broke a moment ago; that this job met it says nothing against the job
            self._replace()
            self.running[self.executor.submit(grade_one, self.settings, job)] = job

    def _replace(self) -> None:
        """Another executor; all that the broken one held is under suspicion."""
        self.suspects.extend(self.running.values())
        self.running.clear()
        self.executor.shutdown(wait=True)
        self.executor = self.start()


def grade_one(settings: Settings, job: Job) -> Done:
    """Grade one job in this process. Whatever happens, a report comes out."""
    try:
        notebook = job.read()
        with _ONE_AT_A_TIME:
            report = grader(settings).grade(notebook, assignment=job.assignment, student=job.student)
        return Done(job, replace(report, notes=(*job.notes, *report.notes)))
    except NotebookUnreadable as error:
        return _failed(settings, job, str(error))
    except AutograderError as error:
        return _failed(settings, job, _apology(error), str(error))
    except Exception as error:  # noqa: BLE001 - a defect of the grader: never a zero, and never the end of the others
        return _failed(settings, job, _apology(error), f"{type(error).__name__}: {error}")


@functools.cache
def grader(settings: Settings) -> Grader:
    """This process's grader; it ends with the process."""
    one = Grader(settings.solutions, settings.options, reports=settings.reports)
    atexit.register(one.close)
    return one


def _apology(error: BaseException) -> str:
    """For the student: no more than the kind of error, since its text may quote a hidden test."""
    return f"The grader stopped with {type(error).__name__}. That is not your fault and costs you nothing."


def _failed(settings: Settings, job: Job, reason: str, fault: str = "") -> Done:
    options = settings.options
    try:
        assignment = read_assignment(settings.solutions / job.assignment)
    except (AutograderError, OSError, ValueError):
        return Done(job, Report(job.student, job.assignment, "ungraded", 0.0, 0.0, notes=(reason, *job.notes)), fault)
    report = ungraded(assignment, job.student, reason, seed=options.seed, device=options.device)
    return Done(job, replace(report, notes=(*report.notes, *job.notes)), fault)


def local(processes: int) -> Executor:
    """So many fresh processes on this machine. They end with this one, in whatever way it ends.

    Call it from a thread that lives as long as they shall: on Linux a child is told of the end of its parent's thread.
    """
    spawn = multiprocessing.get_context("spawn")  # a fork after torch has started threads can hang
    return ProcessPoolExecutor(processes, mp_context=spawn, initializer=end_with_thread, initargs=(os.getpid(),))


def cluster(address: str) -> Executor:
    """A Dask cluster's executor. Its machines need this package and the course's folder at the same path.

    Raises:
        AutograderError: Dask is not installed, or nobody answers at that address.
    """
    try:
        from distributed import Client  # noqa: PLC0415 - only where a cluster was asked for
    except ImportError as error:
        message = "A cluster needs Dask: python -m pip install 'autograder[cluster]'"
        raise AutograderError(message) from error
    try:
        client: Any = Client(address, timeout=20)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        message = f"No Dask cluster answers at {address}: {error}"
        raise AutograderError(message) from error
    return _Cluster(client.get_executor(), client.close)


class _Cluster(Executor):
    """Dask's executor, which by itself leaves the connection open."""

    def __init__(self, executor: Executor, close: Callable[[], object]) -> None:
        """`close`: closes the connection."""
        self.executor, self.close = executor, close

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As the executor."""
        return self.executor.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as Executor
        """End the executor, then the connection."""
        del cancel_futures  # Dask's takes none; what has not begun is cancelled by then
        self.executor.shutdown(wait=wait)
        self.close()
