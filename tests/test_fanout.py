"""Many notebooks at a time: no job ends the others, a pool that breaks is replaced, and no process is left behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autograder import fanout
from autograder.assignment import read_assignment
from autograder.collect import Job
from autograder.errors import CourseBroken
from autograder.fanout import Done, Settings, grade_files, local
from autograder.grade import ungraded
from autograder.grader import Options
from autograder.notebook import to_ipynb
from autograder.report import Report

ROOT = Path(__file__).resolve().parents[1]
TOY = ROOT / "tests" / "toy_course" / "solutions"
SETTINGS = Settings(TOY, Options(isolation="none"))


class Fake:
    """A grader that gives full marks, and raises for those whose name says so."""

    def __init__(self) -> None:
        self.graded: list[str] = []

    def grade(self, notebook: bytes, *, assignment: str, student: str) -> Report:
        """As the real one."""
        self.graded.append(student)
        if student == "defect":
            raise ZeroDivisionError(notebook)
        if student == "course":
            message = "assert expected == 42"
            raise CourseBroken(message)
        return Report(student, assignment, "graded", 10, 10)


@pytest.fixture
def grader(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """No real grading."""
    fake = Fake()
    monkeypatch.setattr(fanout, "grader", lambda _settings: fake)
    return fake


def jobs(folder: Path, *students: str, content: bytes = b"{}") -> list[Job]:
    """A job for each student."""
    for student in students:
        (folder / f"{student}.ipynb").write_bytes(content)
    return [Job(folder / f"{student}.ipynb", student, "toy") for student in students]


def one_thread() -> Executor:
    """The smallest executor."""
    return ThreadPoolExecutor(1)


def test_every_job_gives_its_report(tmp_path: Path, grader: Fake) -> None:
    """Each comes with the job it belongs to, also more jobs than are handed over at once."""
    names = [f"s{number}" for number in range(20)]
    done = list(grade_files(jobs(tmp_path, *names), one_thread, SETTINGS, ahead=3))
    assert sorted(item.job.student for item in done) == sorted(names) == sorted(grader.graded)
    assert all(item.report.student == item.job.student and item.report.status == "graded" for item in done)


def test_jobs_are_taken_as_they_are_needed(tmp_path: Path, grader: Fake) -> None:
    """A class of thousands is not read at once."""
    taken = []

    def lazily() -> Iterator[Job]:
        for job in jobs(tmp_path, *(f"s{number}" for number in range(20))):
            taken.append(job)
            yield job

    results = grade_files(lazily(), one_thread, SETTINGS, ahead=2)
    next(results)
    assert len(taken) == 2
    results.close()  # type: ignore[attr-defined]
    assert len(grader.graded) <= 2


def test_what_goes_wrong_in_one_job_stays_there(tmp_path: Path, grader: Fake) -> None:
    """A file that is gone, a defect of ours and a broken course are `ungraded`, with a reason; the rest is graded."""
    found = [*jobs(tmp_path, "ada", "defect", "course", "bob"), Job(tmp_path / "gone.ipynb", "cy", "toy"),
             Job(tmp_path / "x", "dan", "toy", problem="No notebook was handed in."), Job(tmp_path / "ada.ipynb", "eve", "nonsense")]  # fmt: skip
    done = {item.job.student: item for item in grade_files(found, one_thread, SETTINGS)}
    assert {name for name, item in done.items() if item.report.status == "graded"} == {"ada", "bob", "eve"}
    assert done["cy"].report.notes == ("gone.ipynb cannot be read: No such file or directory.",)
    assert done["dan"].report.notes == ("No notebook was handed in.",)
    assert done["defect"].fault.startswith("ZeroDivisionError")
    assert done["course"].fault == "assert expected == 42"
    for name in ("defect", "course"):
        (note,) = done[name].report.notes
        assert "not your fault" in note
        assert "42" not in note  # what a broken hidden test says is not the student's to read
        assert done[name].report.max_score == 10


def test_a_report_also_where_the_assignment_is_not_there(tmp_path: Path) -> None:
    """Even then each job has a report."""
    (job,) = jobs(tmp_path, "ada")
    (done,) = grade_files([Job(job.path, "ada", "nonsense")], one_thread, SETTINGS)
    assert (done.report.status, done.report.max_score) == ("ungraded", 0)
    assert "nonsense" in done.fault


class Fragile(Executor):
    """A pool of processes as far as breaking goes: a lethal job breaks it, with all that it holds."""

    started = 0

    def __init__(self, holds: int) -> None:
        """`holds`: so many jobs lie in it before the first is begun."""
        type(self).started += 1
        self.holds, self.queue, self.broken = holds, list[tuple[Future[Any], Callable[[], Any]]](), False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Take a job; begin once there are enough, or it is the only one."""
        if self.broken:
            raise BrokenExecutor
        future: Future[Any] = Future()
        self.queue.append((future, partial(fn, *args, **kwargs)))
        if len(self.queue) >= self.holds:
            self.work()
        return future

    def work(self) -> None:
        """Do what is there."""
        while self.queue:
            future, call = self.queue.pop(0)
            if self.broken or call.args[1].student.startswith("lethal"):
                self.broken = True
                future.set_exception(BrokenExecutor("a process died"))
            else:
                future.set_result(call())


def test_a_pool_that_breaks_is_replaced(tmp_path: Path, grader: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs it held run again, each alone: those that kill are found out, however many, and the others are graded."""
    monkeypatch.setattr(Fragile, "started", 0)
    names = ["a", "lethal1", "b", "c", "lethal2", "d", "e", "f", "g"]

    def start() -> Executor:
        return Fragile(4 if Fragile.started == 0 else 1)

    done = {item.job.student: item for item in grade_files(jobs(tmp_path, *names), start, SETTINGS, ahead=4)}
    assert set(done) == set(names)
    assert {name for name, item in done.items() if item.report.status == "ungraded"} == {"lethal1", "lethal2"}
    assert "not your fault" in done["lethal1"].report.notes[0]
    assert "a process died" in done["lethal1"].fault
    assert sorted(grader.graded) == sorted(set(names) - {"lethal1", "lethal2"})


def test_an_executor_that_always_breaks_still_comes_to_an_end(tmp_path: Path) -> None:
    """No job is tried for ever."""

    class Dead(Executor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(BrokenExecutor())
            return future

    done = list(grade_files(jobs(tmp_path, "a", "b", "c"), Dead, SETTINGS))
    assert [item.report.status for item in done] == ["ungraded"] * 3


def test_exit_is_an_error_like_any_other(tmp_path: Path) -> None:
    """A process that was told to end answers with SystemExit; that must not end the grader."""

    class Leaving(Executor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(SystemExit(143))
            return future

    (done,) = grade_files(jobs(tmp_path, "a"), Leaving, SETTINGS)
    assert done.report.status == "ungraded"


def test_processes_that_die_are_replaced(tmp_path: Path) -> None:
    """Real processes and real grading: one is killed on the way, and all are graded the same as in one go."""
    content = to_ipynb(read_assignment(TOY / "toy").filled())
    others = {child.pid for child in multiprocessing.active_children()}  # that earlier tests go on using
    graded = grade_files(jobs(tmp_path, "a", "b", "c", content=content), partial(local, 1), SETTINGS)
    first = next(graded)
    mine = {child.pid for child in multiprocessing.active_children()} - others
    assert mine
    for pid in mine:
        os.kill(pid or 0, signal.SIGKILL)
    done = [first, *graded]
    results = sorted((item.job.student, item.report.status, item.report.score) for item in done)
    assert results == [(name, "graded", 10.0) for name in "abc"], [item.fault for item in done]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_processes_end_with_their_parent() -> None:
    """Also when the parent is killed outright."""
    script = (
        "import os, time\nfrom autograder.fanout import local\n"
        "if __name__ == '__main__':\n    pool = local(1)\n    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    pool.submit(time.sleep, 60)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert _lives(child)
        parent.kill()
    deadline = time.monotonic() + 10
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(child)


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_cluster(tmp_path: Path, grader: Fake) -> None:
    """Any executor will do: Dask's, found by its address."""
    distributed = pytest.importorskip("distributed")
    with contextlib.closing(distributed.LocalCluster(1, processes=False, threads_per_worker=2, dashboard_address=None)) as machines:
        done = list(grade_files(jobs(tmp_path, "a", "b", "defect"), partial(fanout.cluster, machines.scheduler_address), SETTINGS))
    assert sorted((item.job.student, item.report.status) for item in done) == [("a", "graded"), ("b", "graded"), ("defect", "ungraded")]
    assert grader.graded


def test_settings_and_jobs_travel() -> None:
    """Whatever goes to another process and back survives pickling."""
    import pickle

    job = Job(Path("x"), "ada", "toy", member="a/b.ipynb")
    report = ungraded(read_assignment(TOY / "toy"), "ada", "why")
    for item in (SETTINGS, job, Done(job, report, "fault")):
        assert pickle.loads(pickle.dumps(item)) == item


def _layers() -> tuple[str, object]:
    """In a process of the pool: what a sandbox started there amounts to."""
    from autograder.grader import start_zygote

    with start_zygote("none") as zygote:
        return zygote.level, zygote.layers["selftest"]


def test_the_isolation_is_the_same_in_a_process_of_the_pool() -> None:
    """What torch adds to the environment of this process is not taken for a leak in its children."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", "set by torch")
    with fanout.local(1) as pool:
        assert pool.submit(_layers).result() == _layers()
