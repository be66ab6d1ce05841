"""One more process of ours, for what the gradebook's own must not do: import torch, run hidden tests, keep a sandbox.

nbgrader may be running in a Jupyter server, beside threads and kernels (formgrader's button). So grading happens in one
long-lived process that starts with the first submission and ends with ours. It is trusted: the student's code runs in
the sandbox which that process keeps.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.util import Finalize
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from autograder import parent
from autograder.assignment import FILES, Assignment
from autograder.errors import AutograderError, GraderError
from autograder.report import Report

if TYPE_CHECKING:
    from autograder.grader import Grader

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Elsewhere:
    """The other process, started when first asked for and again after it died."""

    pool: ProcessPoolExecutor | None = None
    lock: Lock = field(default_factory=Lock)

    def run(self, seconds: float, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` gives there.

        Raises:
            GraderError: the process died, or took longer than `seconds`.
        """
        with self.lock:
            if self.pool is None:
                self.pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_begin)
            pool = self.pool
            try:
                with _without_main():
                    future: Future[T] = pool.submit(function, *args, **kwargs)
                return future.result(timeout=seconds)
            except BrokenProcessPool as error:
                self._end()
                message = "The process that grades ended in the middle of its work."
                raise GraderError(message) from error
            except TimeoutError as error:
                self._end()
                message = f"Grading took more than {seconds:g} s, and was stopped."
                raise GraderError(message) from error
            except BaseException as error:
                if not isinstance(error, Exception):  # interrupted: nobody waits for the answer any more
                    self._end()
                raise

    def close(self) -> None:
        """End the process, and the sandbox in it."""
        with self.lock:
            if self.pool is not None:
                self.pool.shutdown()
                self.pool = None

    def _end(self) -> None:
        pool, self.pool = self.pool, None
        if pool is not None:
            for process in list((pool._processes or {}).values()):  # noqa: SLF001 - public only from Python 3.14 on
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Within, a process that is started does not import our main program, nbgrader with all it needs: for a second."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@dataclass(frozen=True)
class Work:
    """One submission to grade: the file as it was handed in, and the course."""

    solutions: Path
    reports: Path
    assignment: str
    student: str
    notebook: bytes
    isolation: str = "partial"
    seed: int = 0
    call_seconds: float = 10.0


# From here on: inside the other process.


@dataclass
class _Bench:
    """The grader at work there. A course that was edited meanwhile gets a new one."""

    made_of: tuple[object, ...] = ()
    grader: Grader | None = None
    known: dict[str, str] = field(default_factory=dict)

    def take(self, work: Work) -> Grader:
        from autograder.grader import Grader, Options  # noqa: PLC0415 - imports torch: here and not in our caller

        options = Options(work.isolation, seed=work.seed, call_seconds=work.call_seconds)
        made_of = (work.solutions, work.reports, options)
        digest = _digest(work.solutions / work.assignment)
        if self.grader is None or self.made_of != made_of or self.known.get(work.assignment, digest) != digest:
            self.close()
            self.grader = Grader(work.solutions, options, reports=work.reports)
            self.made_of = made_of
        self.known[work.assignment] = digest
        return self.grader

    def close(self) -> None:
        if self.grader is not None:
            self.grader.close()
        self.grader = None
        self.known.clear()


def _digest(folder: Path) -> str:
    state = hashlib.sha256()
    for name in FILES:
        path = folder / name
        state.update(path.read_bytes() if path.is_file() else b"")
    return state.hexdigest()


def _begin() -> None:
    """Before torch is imported: one thread, as a fork after two can hang. At the end: no sandbox is left."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    parent.end_with_process()
    sys.dont_write_bytecode = True  # what is compiled beside a hidden test may be older than it
    Finalize(None, bench.close, exitpriority=10)


def grade(work: Work) -> Report:
    """Grade one submission.

    Raises:
        AutograderError: no fault of the student's; the message says what is wrong.
    """
    try:
        return bench.take(work).grade(work.notebook, assignment=work.assignment, student=work.student)
    except AutograderError:
        raise
    except Exception as error:  # it must reach the other side whatever it is, and not every exception travels
        message = f"{type(error).__name__}: {error}"
        raise GraderError(message) from error


def examine(folder: Path) -> Assignment:
    """As `autograder.coherence.examine`, which imports the hidden tests."""
    from autograder.coherence import examine as examine_here  # noqa: PLC0415 - imports torch: here only

    return examine_here(folder)


# One for the whole process: a second grading process would only wait for the first one's processor.
elsewhere = Elsewhere()
bench = _Bench()
