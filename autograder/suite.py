"""The pytest side: hidden tests say which task they judge, and a run of them gives a verdict for each.

    @task("attention_weights", weight=2)
    @given(tensors("TD", "SD"))
    def test_scale(student, reference, qk):
        '''Scores are scaled by 1/sqrt(D).'''

The docstring is what the student reads. `student` and `reference` are fixtures. Everything a test raises becomes a
verdict here: the student's fault where it is a SubmissionError or a lost worker, ours (ungraded) where it is anything
else.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from unittest.mock import patch

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers

from autograder.drawn import examples, under_hypothesis
from autograder.errors import CourseBroken, SubmissionError, WorkerLost
from autograder.example import SHRINK_RUNS, Recorder, explained, shown
from autograder.report import CheckStatus
from autograder.student import Student

Test = TypeVar("Test", bound=Callable[..., None])
Own = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Check:
    """What `@task` says of a hidden test."""

    task: str
    weight: float = 1.0
    needs: str | None = None


def task(
    name: str, *, weight: float = 1.0, needs: str | None = None, examples: int = 8
) -> Callable[[Test], Test]:
    """Mark a hidden test as a check of the task `name`.

    weight: its share of the task's points against the other checks of the task.
    needs: the name of an earlier test in the same file; where that one fails, this one is skipped and earns nothing.
        Every check that a trivial answer passes needs the task's value check.
    examples: how many examples Hypothesis tries.
    """

    def mark(test: Test) -> Test:
        if hasattr(test, "hypothesis"):
            test = hypothesis.settings(
                max_examples=examples, database=None, deadline=None, report_multiple_bugs=False, print_blob=False,
                suppress_health_check=list(hypothesis.HealthCheck),
                phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate, hypothesis.Phase.shrink),
            )(test)  # fmt: skip
        marked: Test = pytest.mark.task(Check(name, weight, needs))(test)
        return marked

    return mark


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check."""

    test: str
    check: Check
    name: str
    status: CheckStatus
    message: str = ""
    example: str = ""
    free: bool = False  # skipped for want of something the machine lacks: costs nothing
    asked: frozenset[str] = frozenset()  # the names of the notebook that it asked for
    seconds: float = 0.0


class _Module(pytest.Module):
    """A test file, executed once for each of its versions."""

    def _getobj(self) -> ModuleType:
        return _imported(self.path, self.path.read_bytes())


@functools.lru_cache(maxsize=32)
def _imported(path: Path, content: bytes) -> ModuleType:
    module = ModuleType(f"hidden_tests_of_{path.parent.name}")
    module.__file__ = str(path)
    exec(compile(content, str(path), "exec"), module.__dict__)  # noqa: S102 - the course's own file
    return module


class Judge:
    """A pytest plugin: hands out the fixtures, runs each hidden test, keeps the verdicts."""

    def __init__(
        self,
        student: Student,
        reference: Student,
        *,
        seed: int = 0,
        only: frozenset[str] | None = None,
        shrink: bool = True,
        stop_at: str | None = None,
        own: Mapping[str, Own] | None = None,
    ) -> None:
        """`only`: judge these tasks, or all; `shrink`: look for the smallest failing example; the rest: see `run`."""
        self._student, self._reference, self.seed, self.only, self.shrink = student, reference, seed, only, shrink
        self.stop_at, self.own = stop_at, own or {}
        self.verdicts: list[Verdict] = []
        self.broken: list[str] = []
        self.lost: dict[str, str] = {}

    @pytest.fixture
    def student(self) -> Student:
        """The notebook that is graded."""
        return self._student

    @pytest.fixture
    def reference(self) -> Student:
        """The reference solution, behind the same interface."""
        return self._reference

    def pytest_configure(self, config: pytest.Config) -> None:
        """Make the mark known."""
        config.addinivalue_line("markers", "task(check): the task that this hidden test judges")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember a test file that cannot be read."""
        if report.failed:
            self.broken.append(str(report.longrepr))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests of the tasks asked for."""
        without = [item.name for item in items if item.get_closest_marker("task") is None]
        if without:
            self.broken.append(f"{without[0]} has no @task(...), the task that it judges")
            items.clear()
        if self.stop_at:
            items.sort(key=lambda item: _name(item) != self.stop_at)

    def pytest_pycollect_makeitem(self, obj: object) -> list[pytest.Item] | None:
        """Leave out the tests of other tasks before pytest makes them ready."""
        marks = [mark for mark in getattr(obj, "pytestmark", ()) if mark.name == "task"]
        return [] if self.only is not None and marks and marks[0].args[0].task not in self.only else None

    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> pytest.Module:
        """Take the test file from memory where it has not changed."""
        return _Module.from_parent(parent, path=module_path)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool:
        """Run a hidden test and turn whatever happens into a verdict."""
        task = _check(pyfuncitem).task
        failed = {one.check.task for one in self.verdicts if one.status in ("fail", "ungraded")}
        if self.stop_at is None or task not in failed:
            self._student.asked = set()
            began = time.monotonic()
            verdict = self._judge(pyfuncitem)
            seconds, asked = time.monotonic() - began, frozenset(self._student.asked)
            self.verdicts.append(replace(verdict, asked=asked, seconds=seconds))
        return True

    def _judge(self, item: pytest.Function) -> Verdict:
        check = _check(item)
        blank = functools.partial(Verdict, item.name, check, _name(item))
        needed = next((one for one in self.verdicts if one.test == check.needs), None)
        if check.needs is not None and self.only is None and needed is None:
            return blank("ungraded", f"The check needs {check.needs!r}, which is no earlier test of this file.")
        if needed is not None and needed.status != "pass":
            return blank("skip", f"Not looked at until this holds: {needed.name}")
        if check.task in self.lost:
            return blank("fail", f"Not looked at: in an earlier check `{check.task}` {self.lost[check.task]}.")
        digest = hashlib.sha256(f"{self.seed}/{item.name}".encode()).digest()
        recorder = Recorder(self._student, SHRINK_RUNS if self.shrink else 0, int.from_bytes(digest[:4], "big"))
        try:
            self._forget()
            self._call(item, recorder)
        except pytest.skip.Exception as skipped:
            return blank("skip", str(skipped), free=True)
        except WorkerLost as lost:
            self.lost[check.task] = lost.reason
            calls = recorder.calls or self._student.calls
            return blank("fail", explained(lost), shown(calls, self.own.get(check.task)))
        except (SubmissionError, hypothesis.errors.HypothesisException, BaseExceptionGroup) as error:
            failure = recorder.failure or error
            if isinstance(failure, SubmissionError):
                message = explained(failure)
                return blank("fail", message, shown(recorder.calls, self.own.get(check.task), message))
            return blank("ungraded", f"The check itself is broken: {type(failure).__name__}: {failure}")
        except Exception as error:  # noqa: BLE001 - whatever a hidden test raises on its own is our fault, never a zero
            return blank("ungraded", f"The check itself is broken: {type(error).__name__}: {error}")
        return blank("pass")

    def _call(self, item: pytest.Function, recorder: Recorder) -> None:
        test = item.obj
        arguments = {name: value for name, value in item.funcargs.items() if name in inspect.signature(test).parameters}
        if not hasattr(test, "hypothesis"):
            recorder.run(test, **arguments)
            return
        inner = test.hypothesis.inner_test

        def recorded(**drawn: Any) -> None:
            recorder.run(inner, **drawn)

        try:
            for example in examples(test, recorder.seed):
                recorded(**arguments, **example)
        except Exception as error:
            drew = isinstance(error, hypothesis.errors.HypothesisException)  # so it cannot do without Hypothesis
            if not drew and not recorder.most:
                raise
            self._forget()
            with recorder.again():
                under_hypothesis(test, recorder.seed, recorded, arguments)

    def _forget(self) -> None:
        self._student.forget()
        self._reference.forget()


def _name(item: pytest.Item) -> str:
    """What the check is called on the screen: its docstring, on one line."""
    return " ".join((inspect.getdoc(getattr(item, "obj", None)) or item.name).split())


def _check(item: pytest.Item) -> Check:
    mark = item.get_closest_marker("task")
    assert mark is not None  # looked at when collected
    check: Check = mark.args[0]
    return check


def run(
    tests: Path,
    student: Student,
    reference: Student,
    *,
    seed: int = 0,
    only: frozenset[str] | None = None,
    shrink: bool = True,
    stop_at: str | None = None,
    own: Mapping[str, Own] | None = None,
) -> list[Verdict]:
    """Judge a notebook with the hidden tests in the file `tests`: one verdict a test, in the order of the file.

    `stop_at`: a task's checks after its first that fails are left out. The check of this name comes before the others.
    `own`: what each task defines, with the parameters: an example shows a call of these.

    Raises:
        CourseBroken: the file cannot be imported, or holds a test without a task.
    """
    _leave_out_constants_of_this_machine()
    tests = tests.resolve()
    judge = Judge(student, reference, seed=seed, only=only, shrink=shrink, stop_at=stop_at, own=own)
    options = [
        str(tests), "-c", os.devnull, f"--rootdir={tests.parent}", "--import-mode=importlib", "--assert=plain",
        "--noconftest", "-s", "-p", "no:cacheprovider", "-p", "no:faulthandler", "-p", "no:terminal",
        "-p", "no:logging", "-p", "no:doctest", "-p", "no:junitxml", "-p", "no:unraisableexception",
        "-p", "no:threadexception", "-p", "no:warnings", "-p", "no:pastebin", "-p", "no:nose", "-p", "no:unittest",
    ]  # fmt: skip
    alone = patch.dict(os.environ, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    with alone, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):  # noqa: PTH123
        pytest.main(options, plugins=[judge])
    if judge.broken or (not judge.verdicts and only is None):
        why = judge.broken[0] if judge.broken else "it holds no hidden test."
        missing = re.search(r"No module named '([\w.]+)'", why)
        what_to_do = f". Install {missing[1]} where the grading runs." if missing else ""
        message = f"{tests} gives no verdict: {why}{what_to_do}"
        raise CourseBroken(message)
    return judge.verdicts


def _leave_out_constants_of_this_machine() -> None:
    """Keep Hypothesis from drawing numbers found in whatever modules this process happens to have loaded.

    Otherwise the same notebook would be shown another example from `nbgrader autograde` than from the command line.
    """
    if hasattr(providers, "_get_local_constants"):
        none = type(providers._local_constants)()  # noqa: SLF001
        providers._get_local_constants = lambda: none  # noqa: SLF001
