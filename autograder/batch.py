"""`autograder grade`: from arguments to what is printed."""

from __future__ import annotations

import datetime
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from autograder import fanout
from autograder.assignment import find_solutions, read_assignment
from autograder.collect import Job, find_jobs
from autograder.errors import AutograderError
from autograder.grader import Options, start_zygote
from autograder.render import gradescope, junit, markdown, text
from autograder.render.clean import inert, one_line
from autograder.report import Report

RENDERED = {"junit": junit.render, "gradescope": gradescope.render, "markdown": markdown.render}
REPORTS = Path("build") / "reports"


def grade(options: Namespace) -> int:
    """Grade what the paths hold, and print the reports in the order of the paths.

    Raises:
        AutograderError: a path holds no notebook, the course cannot be read, or the isolation asked for is not
            to be had.
    """
    solutions = find_solutions(Path.cwd())
    jobs = [job for path in options.paths for job in find_jobs(path, solutions, assignment=options.assignment)]
    settings = fanout.Settings(
        solutions.resolve(),
        Options(options.isolation, options.device, options.seed, options.call_seconds),
        (solutions.parent / REPORTS).resolve(),
    )
    done = {}
    for one in progress(_graded(jobs, settings, options), len(jobs)):
        done[one.job] = one
        if one.fault:
            print(inert(one_line(f"{one.job.student or one.job.path}: {one.fault}", 2_000)), file=sys.stderr)
    reports = [done[job].report for job in jobs]
    write(rendered(reports, options.format), options.output)
    return int(any(report.status == "ungraded" for report in reports))


def _graded(jobs: list[Job], settings: fanout.Settings, options: Namespace) -> Iterator[fanout.Done]:
    start_executor: partial[Executor] | None = None
    if options.cluster:
        start_executor = partial(fanout.cluster, options.cluster)
    elif options.jobs > 1 and len(jobs) > 1:
        start_executor = partial(fanout.local, min(options.jobs, len(jobs)))
    # A course that cannot be read, or a sandbox that is not to be had, is refused before the first job.
    for name in {job.assignment for job in jobs if not job.problem}:
        read_assignment(settings.solutions / name)
    if start_executor is None:
        fanout.grader(settings).zygote  # noqa: B018 - starts it
        return (fanout.grade_one(settings, job) for job in jobs)
    if not options.cluster:
        start_zygote(settings.options.isolation).close()
    return fanout.grade_files(jobs, start_executor, settings)


def progress(done: Iterable[fanout.Done], total: int) -> Iterator[fanout.Done]:
    """The same, with a progress bar on stderr where several are graded and the bar can be drawn."""
    if total < 2:  # noqa: PLR2004 - one needs no bar
        yield from done
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield from done
        return
    yield from tqdm(done, total=total, unit="notebook", file=sys.stderr, dynamic_ncols=True)


def say(line: str) -> None:
    """Print a line, above the progress bar where there is one."""
    try:
        from tqdm import tqdm
    except ImportError:
        print(line, flush=True)
        return
    tqdm.write(line)
    sys.stdout.flush()


def rendered(reports: list[Report], form: str) -> str:
    """The reports in one of the formats of the command line."""
    if form == "json":
        return "\n".join(report.to_json() for report in reports) + "\n"
    if form == "text":
        return text.render(reports, colour=sys.stdout.isatty())
    return RENDERED[form](reports)


def write(output: str, path: Path | None) -> None:
    """To a file, or to the terminal."""
    output = output if output.endswith("\n") else output + "\n"
    if path is None:
        sys.stdout.write(inert(output))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(output, encoding="utf-8")


def today() -> str:
    """The date for a page's head."""
    return datetime.datetime.now(tz=datetime.UTC).date().isoformat()


__all__ = ["AutograderError", "grade", "progress", "rendered", "today", "write"]
