"""Tests the tests with slips of the hand: every mutant of a reference solution must lose, or be known as no mistake.

Those that are right all the same stand in `equivalent.toml` beside the bank, each with the reason why. A mutant that
loses may be named by the bank; whether that claim holds is measured on all calls that the hidden tests make.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from autograder import suite
from autograder.assignment import read_assignment, submission
from autograder.compare import same
from autograder.errors import CourseBroken, GraderError, WorkerLost
from autograder.example import lasting
from autograder.grade import Notebook
from autograder.mutate import Mutant, mutants
from autograder.notebook_link import InProcess, Message
from autograder.strength import Table, one_thread, table_of
from autograder.student import Student

# Loops that a mutant makes endless are many, and each costs this much once.
CALL_SECONDS = 4.0
EQUIVALENT = "equivalent.toml"
Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Trial:
    """One mutant put to its task's hidden tests."""

    mutant: Mutant
    killed_by: str = ""  # the first check that fails; nothing for a survivor
    broken: str = ""  # a check that broke, which is our fault
    named: tuple[str, ...] = ()  # the misconceptions that it answers like, by the battery
    overclaimed: tuple[str, ...] = ()  # those of them that answer a call of the hidden tests otherwise


class _Recorded(InProcess):
    """Remembers every answer, less the names of temporary folders: each run has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Any] = []

    def ask(self, request: Message, seconds: float) -> Message:
        """As always."""
        reply = super().ask(request, seconds)
        if request["verb"] in ("call", "each", "get", "next"):
            for one in reply["value"] if request["verb"] == "each" and "value" in reply else [reply]:
                answer = one["error"]["kinds"][0] if "error" in one else one["value"]
                self.answers.append(lasting(str(answer)) if isinstance(answer, str | Path) else answer)
        return reply


@lru_cache(maxsize=8)
def all_mutants(folder: Path) -> list[Mutant]:
    """Every mutant of an assignment's reference."""
    assignment = read_assignment(folder)
    return [mutant for task in assignment.tasks for mutant in mutants(task.name, assignment.solution(task.name))]


def equivalents(folder: Path) -> dict[Key, str]:
    """The mutants known to be right all the same, each with the reason why.

    Raises:
        CourseBroken: the file cannot be read, an entry lacks something, or fits no mutant of the reference any more.
    """
    path = folder / EQUIVALENT
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", []) if path.exists() else []
        found = {(item["task"], item["was"], item["now"], int(item.get("place", 1))): item["why"] for item in entries}
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        message = f"{path}: each [[mutant]] has task, was, now and why: {type(error).__name__}: {error}"
        raise CourseBroken(message) from error
    there = {mutant.key for mutant in all_mutants(folder)}
    faults = [f"{path}: no mutant {key} any more; take it out." for key in found if key not in there]
    faults += [f"{path}: {key} has no reason." for key, why in found.items() if not str(why).strip()]
    faults += [f"{path}: {len(entries) - len(found)} entries stand twice."] if len(entries) != len(found) else []
    if faults:
        raise CourseBroken("\n".join(faults))
    return found


def trials(
    folder: Path, chosen: Sequence[Mutant], *, executor: Executor | None = None, seed: int = 0
) -> Iterable[Trial]:
    """Each of these mutants, tried."""
    one = partial(_tried, folder, seed)
    return executor.map(one, chosen, chunksize=4) if executor is not None else map(one, chosen)


def faults(trial: Trial, equivalent: dict[Key, str]) -> list[str]:
    """What should not be; empty where the tests did their work."""
    mutant = trial.mutant
    change = f"{mutant.task}: `{mutant.was}` -> `{mutant.now}`"
    if trial.broken:
        return [f"{change}: {trial.broken}"]
    if trial.killed_by and mutant.key in equivalent:
        return [f"{change}: is called equivalent, but fails: {trial.killed_by}"]
    if not trial.killed_by and mutant.key not in equivalent:
        return [f"{change}: survives. Add a check, or say why it is right:\n\n{entry(mutant)}"]
    return [f"{change}: is named {name}, but answers a hidden test otherwise" for name in trial.overclaimed]


def entry(mutant: Mutant) -> str:
    """How it would stand in `equivalent.toml`, less the reason."""
    lines = [f"task = {_toml(mutant.task)}", f"was = {_toml(mutant.was)}", f"now = {_toml(mutant.now)}"]
    lines += [f"place = {mutant.place}"] if mutant.place > 1 else []
    return "\n".join(["[[mutant]]", *lines, 'why = ""', ""])


def verdict(name: str, tried: Sequence[Trial], equivalent: dict[Key, str]) -> str:
    """The lines that say what came of it."""
    killed = [trial for trial in tried if trial.killed_by]
    alike = sum(trial.mutant.key in equivalent for trial in tried if not trial.killed_by)
    named = [trial for trial in killed if trial.named]
    true = sum(not trial.overclaimed for trial in named)
    return (
        f"{name}: of {len(tried)} mutants {len(killed)} lose points, {alike} are right all the same, "
        f"{len(tried) - len(killed) - alike} survive; {len(named)} that lose are named, "
        f"{true} of them rightly on every call of the hidden tests."
    )


def killers(tried: Sequence[Trial]) -> Counter[str]:
    """How many mutants each check is the first to kill."""
    return Counter(trial.killed_by for trial in tried if trial.killed_by)


def _toml(text: str) -> str:
    if "'" not in text:
        return f"'{text}'"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _tried(folder: Path, seed: int, mutant: Mutant) -> Trial:
    one_thread()
    table = table_of(folder, seed)
    client = _client(table, mutant.task, mutant.source, InProcess())
    for verdict in _judged(table, client, mutant.task, stop_at=""):
        if verdict.status == "ungraded":
            return Trial(mutant, broken=f"{verdict.name} {verdict.message}")
        if verdict.status == "fail":
            named = _names(table, mutant.task, client)
            over = tuple(name for name in named[:1] if not _alike(table, mutant, name))
            return Trial(mutant, verdict.name, named=named, overclaimed=over)
    return Trial(mutant)


def _client(table: Table, task: str, source: str, link: InProcess) -> Student:
    work = submission(table.assignment, table.assignment.filled({task: source}))
    return Student(link, Notebook(work).prepare, seconds=CALL_SECONDS)


def _judged(table: Table, client: Student, task: str, *, stop_at: str | None = None) -> list[suite.Verdict]:
    tests = table.assignment.folder / "test_hidden.py"
    only = frozenset({task})
    return suite.run(tests, client, table.reference, seed=table.seed, only=only, shrink=False, stop_at=stop_at)


def _names(table: Table, task: str, client: Student) -> tuple[str, ...]:
    try:
        return tuple(item.id for item in table.doctor.diagnose(task, client))
    except (WorkerLost, GraderError):
        return ()


def _alike(table: Table, mutant: Mutant, name: str) -> bool:
    """Does it answer every call of its task's hidden tests as the misconception does?"""
    mine = _answers(table, mutant.task, mutant.source)
    return same(mine, _answers_of_the_bank(table.assignment.folder, table.seed, mutant.task, name))


def _answers(table: Table, task: str, source: str) -> list[Any]:
    link = _Recorded()
    torch.manual_seed(0)  # fresh layers are random
    _judged(table, _client(table, task, source, link), task)
    return link.answers


@lru_cache(maxsize=64)
def _answers_of_the_bank(folder: Path, seed: int, task: str, name: str) -> list[Any]:
    table = table_of(folder, seed)
    item = next(item for item in table.doctor.bank.misconceptions if item.id == name)
    return _answers(table, task, item.apply(table.assignment.solution(task)))
