"""Does a right answer keep its points whatever the seed? The reference and every honest variant, many times over."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autograder.strength import PLUS, Question, one_thread, table_of


@dataclass(frozen=True)
class Outcome:
    """One notebook of right answers under one seed."""

    seed: int
    answers: int  # how many right answers it holds: one a task
    faults: tuple[str, ...]


def outcomes(folder: Path, seeds: Iterable[int], *, executor: Executor | None = None) -> Iterable[Outcome]:
    """For each seed the reference, and the honest variants in as few notebooks as hold them all."""
    one = partial(_graded, folder)
    every = [(seed, question) for seed in seeds for question in _notebooks(folder, seed)]
    return executor.map(one, every, chunksize=4) if executor is not None else map(one, every)


def _notebooks(folder: Path, seed: int) -> list[Question]:
    return [Question("reference", "the reference", ""), *table_of(folder, seed).mixtures()]


def _graded(folder: Path, one: tuple[int, Question]) -> Outcome:
    one_thread()
    seed, question = one
    row = table_of(folder, seed).row(question)
    names = question.name if question.kind == "honest" else question.kind
    faults = tuple(f"{names}: {fault}" for fault in row.faults)
    return Outcome(seed, len(question.task.split(PLUS)) if question.task else len(row.report.tasks), faults)
