"""The commands that test the tests: strength, mutants, stability. From arguments to what is printed and recorded."""

from __future__ import annotations

import os
import resource
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from autograder import figures, mutants, stability, strength
from autograder.assignment import assignments, find_solutions
from autograder.batch import today
from autograder.errors import CourseBroken
from autograder.killmatrix import Strength
from autograder.killmatrix import strength as strength_of
from autograder.render import strengthpage

# A wrong answer may ask for memory without end; it gets an error before the machine is out of it.
MEMORY_BYTES = 16 << 30


def run_strength(options: Namespace) -> int:
    """Every row of the truth tables, the kill matrix in build/strength/. 1 where a row is not as it should be."""
    solutions, names = _chosen(options)
    done: list[Strength] = []
    with _pool(options.jobs) as pool:
        for name in names:
            began = time.monotonic()
            folder = solutions / name
            questions = strength.chosen(folder, options.only, seed=options.seed)
            rows = list(strength.rows(folder, questions, executor=pool, seed=options.seed))
            one = strength_of(name, rows, strength.seconds(folder, seed=options.seed))
            done.append(one)
            _written(solutions.parent, f"{name}.txt", strengthpage.text(one))
            print(strengthpage.text(one) if options.only else "\n".join([one.line, *one.faults]))
            print(f"  ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
            if options.record:
                of = figures.digest(strength.table_of(folder, options.seed).assignment)
                figures.record(
                    solutions.parent, name, date=today(), wrong=one.wrong[1], lose=one.wrong[0], named=one.named,
                    right=one.right[1], keep=one.right[0], of=of,
                )  # fmt: skip
    page = _written(solutions.parent, "index.html", strengthpage.page(done, date=today()))
    print(f"Which check catches which mistake: {page.relative_to(solutions.parent)}, and as text beside it.")
    return int(any(one.faults for one in done))


def run_mutants(options: Namespace) -> int:
    """Every mutant of the references. 1 where one survives that is not known to be right, or is named falsely."""
    solutions, names = _chosen(options)
    faults = 0
    with _pool(options.jobs) as pool:
        for name in names:
            folder = solutions / name
            equivalent = mutants.equivalents(folder)
            every = [one for one in mutants.all_mutants(folder) if not options.only or one.task in options.only]
            tried = []
            for trial in mutants.trials(folder, every, executor=pool, seed=options.seed):
                tried.append(trial)
                for fault in mutants.faults(trial, equivalent):
                    faults += 1
                    print(fault, flush=True)
            print(mutants.verdict(name, tried, equivalent), flush=True)
            if options.record:
                found = {"mutants": len(tried), "killed": sum(bool(trial.killed_by) for trial in tried)}
                listed = sum(not trial.killed_by and trial.mutant.key in equivalent for trial in tried)
                figures.record(solutions.parent, name, date=today(), **found, equivalent=listed)
    return int(faults > 0)


def run_stability(options: Namespace) -> int:
    """Every right answer under many seeds. 1 where one of them loses a point."""
    solutions, names = _chosen(options)
    victims = 0
    with _pool(options.jobs) as pool:
        for name in names:
            folder = solutions / name
            outcomes = []
            for outcome in stability.outcomes(folder, range(options.seed, options.seed + options.seeds), executor=pool):
                outcomes.append(outcome)
                for fault in outcome.faults:
                    print(f"{name}, seed {outcome.seed}: {fault[:600]}", flush=True)
            answers, hurt = sum(one.answers for one in outcomes), sum(bool(one.faults) for one in outcomes)
            victims += hurt
            print(f"{name}: {answers} right answers under {options.seeds} seeds, {hurt} notebooks lose a point.")
            if options.record:
                found = {"seeds": options.seeds, "answers": answers, "victims": hurt}
                figures.record(solutions.parent, name, date=today(), **found)
    return int(victims > 0)


def _chosen(options: Namespace) -> tuple[Path, list[str]]:
    """The folder of solutions, and the assignments asked for.

    Raises:
        CourseBroken: there is none of that name, or a part of one shall be recorded as the whole.
    """
    solutions = find_solutions(Path.cwd())
    there = assignments(solutions)
    if options.assignment is not None and options.assignment not in there:
        message = f"There is no assignment {options.assignment!r} in {solutions}; there are {', '.join(there)}."
        raise CourseBroken(message)
    if options.record and getattr(options, "only", None):
        message = "--record is for a whole assignment; leave the names out."
        raise CourseBroken(message)
    return solutions, there if options.assignment is None else [options.assignment]


def _written(root: Path, name: str, text: str) -> Path:
    path = root / "build" / "strength" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@contextmanager
def _pool(jobs: int) -> Iterator[Executor]:
    """Fresh processes, as a fork after torch has run can hang. Sets have one order in them, so each run is the same."""
    os.environ.setdefault("PYTHONHASHSEED", "0")
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=bounded) as pool:
        yield pool


def bounded() -> None:
    """No process of the pool takes all memory."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if most == resource.RLIM_INFINITY else min(most, MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def cores() -> int:
    """How many processes may run at a time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


__all__: Sequence[str] = ("cores", "run_mutants", "run_stability", "run_strength")
