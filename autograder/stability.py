"""Does a right answer keep its points whatever the seed? The reference and every honest variant, many times over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autograder.strength import PLUS, Question, Table, one_thread, table_of


@dataclass(frozen=True)
class Outcome:
    """One notebook of right answers under one seed."""

    seed: int
    answers: int  # how many right answers it holds: one a task
    faults: tuple[str, ...]


def outcomes(folder: Path, seeds: Iterable[int], *, executor: Executor | None = None) -> Iterator[Outcome]:
    """For each seed the reference, and the honest variants in as few notebooks as hold them all."""
    one = partial(_under, folder)
    for found in executor.map(one, seeds) if executor is not None else map(one, seeds):
        yield from found


def _under(folder: Path, seed: int) -> list[Outcome]:
    """All of one seed in one process: its examples are drawn once."""
    one_thread()
    table = table_of(folder, 0).under(seed)
    return [_graded(table, one) for one in (Question("reference", "the reference", ""), *table.mixtures())]


def _graded(table: Table, question: Question) -> Outcome:
    row = table.row(question)
    names = question.name if question.kind == "honest" else question.kind
    faults = tuple(f"{names}: {fault}" for fault in row.faults)
    return Outcome(table.seed, len(question.task.split(PLUS)) if question.task else len(row.report.tasks), faults)
