"""Follow-through: one mistake costs once.

A task that fails while something it builds on has failed is graded again, with working parts in place of the failed
ones. What a task builds on is read from the student's own notebook, and from what the task's hidden tests ask for. The
working parts are the assignment's `stand_ins.py`: made of PyTorch's own operations, since they enter the sandbox.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from autograder.assignment import Assignment, Submission
from autograder.errors import CourseBroken
from autograder.guard import WORKING
from autograder.names import defined, statements, used

STAND_INS = "stand_ins.py"


def stand_ins(assignment: Assignment) -> dict[str, str]:
    """For each task that has one, the source that may stand in for it: task -> source.

    The file is plain Python; a function or class in it belongs to the task whose solution defines that name.

    Raises:
        CourseBroken: the file does not parse, or holds something that is of no task.
    """
    path = assignment.folder / STAND_INS
    if not path.is_file():
        return {}
    return _stand_ins(path, path.read_text(encoding="utf-8"), tuple(_owners(assignment).items()))


@lru_cache(maxsize=32)
def _stand_ins(path: Path, text: str, owners: tuple[tuple[str, str], ...]) -> dict[str, str]:
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        message = f"{path}, line {error.lineno}: {error.msg}."
        raise CourseBroken(message) from error
    owner = dict(owners)
    sources: dict[str, list[str]] = {}
    for statement in body:
        if isinstance(statement, ast.Expr | ast.Import | ast.ImportFrom):
            continue  # the docstring, and imports that keep an editor content: the notebook imports for itself
        name = getattr(statement, "name", "")
        if name not in owner:
            message = f"{path}, line {statement.lineno}: {name or 'this'} is defined by no task's solution."
            raise CourseBroken(message)
        sources.setdefault(owner[name], []).append(ast.get_source_segment(text, statement) or "")
    return {task: "\n\n\n".join(parts) for task, parts in sources.items()}


def _owners(assignment: Assignment) -> dict[str, str]:
    """The task that defines a name: name -> task."""
    return {
        name: task.name
        for task in assignment.tasks
        for statement in statements(assignment.solution(task.name))
        for name in defined(statement)
    }


@dataclass(frozen=True)
class Plan:
    """What each task of one submission builds on, and what can take the place of a part that failed."""

    submission: Submission
    beneath: Mapping[str, frozenset[str]]
    sources: Mapping[str, str]
    given: frozenset[str]

    def replaceable(self, task: str, failed: Collection[str]) -> frozenset[str]:
        """The failed tasks that this one builds on, as far as there is something to put in their place."""
        return frozenset(self.beneath.get(task, ())) & frozenset(failed) & frozenset(self.sources)

    def mended(self, parts: Collection[str], deadly: Collection[int] = ()) -> Submission:
        """The submission with working parts: each right behind the student's own cell, whose other names stay.

        deadly: cells, by their number, that end the worker; they are left out.
        """
        cells = list(self.submission.cells)
        last = {name: number for number, (name, _) in enumerate(cells) if name in parts}
        run: list[tuple[str, str]] = []
        for number, cell in enumerate(cells):
            run += [] if number in deadly else [cell]
            if last.get(cell[0]) == number:
                run.append((WORKING + cell[0], self.sources[cell[0]]))
        missing = [(WORKING + name, self.sources[name]) for name in sorted(set(parts) - set(last))]
        # Where there is no cell to stand behind: behind the course's own, which run first and import what is needed.
        start = max((number + 1 for number, (name, _) in enumerate(run) if name in self.given), default=0)
        return replace(self.submission, cells=tuple(run[:start] + missing + run[start:]))


def plan(assignment: Assignment, submission: Submission, asked: Mapping[str, Collection[str]]) -> Plan:
    """Read what builds on what.

    asked: the names that each task's hidden tests asked the notebook for; those of other tasks are built on too.
    """
    owner = _owners(assignment)
    tasks = {task.name for task in assignment.tasks}
    takes: dict[str, set[str]] = {name: set(words) for name, words in asked.items()}
    givers: dict[str, set[str]] = {name: {task} for name, task in owner.items()}
    for name, source in submission.cells:
        for statement in statements(source):
            takes.setdefault(name, set()).update(used(statement))
            for word in defined(statement):
                givers.setdefault(word, set()).add(name)
    beneath = {task: _reached(task, takes, givers) & tasks for task in tasks}
    given = frozenset(str(cell.grade_id) for cell in assignment.given)
    return Plan(submission, beneath, stand_ins(assignment), given)


def _reached(start: str, takes: Mapping[str, set[str]], givers: Mapping[str, set[str]]) -> frozenset[str]:
    seen, waiting = {start}, [start]
    while waiting:
        for word in takes.get(waiting.pop(), ()):
            new = givers.get(word, set()) - seen
            seen |= new
            waiting += new
    return frozenset(seen - {start})
