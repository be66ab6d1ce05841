"""Makes up a class: notebooks as they are really handed in, made from the reference and the bank of an assignment.

Knows no particular course: mistakes come from the bank, damage is done to whatever cells there are.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from autograder.assignment import Assignment
from autograder.diagnosis import Bank, Misconception
from autograder.notebook import Cell, cleared, to_ipynb

Item = TypeVar("Item")

# fmt: off
NAMES = (
    "ada", "ben", "cleo", "dan", "eva", "finn", "gia", "hugo", "ines", "jon", "kai", "lena", "milo", "nora", "otto",
    "pia", "quinn", "rosa", "sam", "tess", "uma", "vito", "wanda", "xenia", "yuri", "zoe", "aron", "bella", "carl",
    "dora", "emil", "fritz", "greta", "hans", "ida", "jule", "karl", "lotte", "max", "nina", "oskar", "paula",
)
# fmt: on


@dataclass(frozen=True)
class HandIn:
    """One student's file, and what is wrong with it."""

    what: str
    data: bytes


class Classroom:
    """Makes the files for one assignment."""

    def __init__(self, assignment: Assignment, bank: Bank) -> None:
        """From its reference and its bank."""
        self.assignment, self.bank = assignment, bank
        self.tasks = [task.name for task in assignment.tasks]
        # Nothing builds on the last task: damage there shows in one place.
        self.last = self.tasks[-1]

    def everything(self) -> Iterator[HandIn]:
        """Good work, mistakes, and every damage that really happens."""
        yield from self.ordinary(7, 3)
        yield from self.damaged()

    def ordinary(self, mistakes: int, variants: int) -> Iterator[HandIn]:
        """The usual: right work in several styles, one mistake or several, work that is not finished."""
        yield self._notebook("all right", {})
        for item in _spread(self.bank.honest, variants):
            yield self._notebook(f"right in another way: {item.id}", {item.task: item.apply(self._solution(item.task))})
        by_task: dict[str, list[Misconception]] = {}
        for wrong in self.bank.misconceptions:
            by_task.setdefault(wrong.task, []).append(wrong)
        groups = enumerate(by_task.values())
        chosen = [_spread(tuple(group), 3)[number % min(3, len(group))] for number, group in groups]
        for one in _spread(tuple(chosen), mistakes):
            yield self._notebook(f"one mistake: {one.id}", self._changed(one))
        yield self._notebook(f"two mistakes: {chosen[0].id}, {chosen[-1].id}", self._changed(chosen[0], chosen[-1]))
        half = self.tasks[len(self.tasks) // 2 :]
        yield self._notebook("half of it unfinished", {name: self._stub(name) for name in half})
        yield HandIn("handed in as it was given", to_ipynb(self.assignment.released))

    def damaged(self) -> Iterator[HandIn]:
        """What goes wrong with files and with code that does not behave."""
        last, first = self.last, self.tasks[0]
        solution = self._solution(last)
        yield self._notebook("syntax error", {last: solution.replace("):", ")", 1)})
        yield self._cells("raises when imported", [Cell("code", "import a_package_that_nobody_has"), *self._filled()])
        yield self._notebook("endless loop", {last: _starting_with(solution, "while True: pass")})
        crash, hunger = "import ctypes; ctypes.string_at(0)", "x = [bytearray(2**28) for _ in range(64)]"
        yield self._notebook("crashes the interpreter", {last: _starting_with(solution, crash)})
        yield self._notebook("runs out of memory", {last: _starting_with(solution, hunger)})
        yield self._notebook("leaves with sys.exit", {last: _starting_with(solution, "import sys; sys.exit(0)")})
        yield self._cells("leaves with os._exit in a cell", [*self._filled(), Cell("code", "import os; os._exit(0)")])
        yield self._cells("a cell twice", [*self._filled(), *self._pick(last, lambda cell: cell)])
        yield self._cells("a cell twice, the copy unfilled", [*self._filled(), *self._pick(last, cleared)])
        yield self._cells("a solution cell deleted", [cell for cell in self._filled() if cell.grade_id != last])
        own = [cell for cell in self._filled() if not (cell.is_given or cell.is_test)]
        yield self._cells("given and test cells deleted", own)
        yield self._cells("a cell renamed", self._edited(last, lambda cell: replace(cell, grade_id="my_answer")))
        yield self._cells("labels lost", [replace(cell, grade_id=None) for cell in self._filled()])
        tagged = [replace(cell, tags=("skip-execution", "long")) for cell in self._filled()]
        yield self._cells("tags that skip everything", tagged)
        yield self._cells("a solution turned to text", self._edited(last, lambda cell: replace(cell, kind="markdown")))
        wrong = self._edited(first, lambda cell: replace(cell, source=self._trivial(first)))
        yield self._cells("points edited, answer wrong", [replace(cell, points=cell.points * 100) for cell in wrong])
        yield HandIn("an old notebook schema", _old_schema(to_ipynb(self._filled())))
        yield HandIn("an empty file", b"")
        yield HandIn("not a notebook", b"%PDF-1.7 an essay about attention")
        yield HandIn("forged outputs", _forged(to_ipynb(wrong)))
        patched = "import torch\ntorch.allclose = torch.equal = torch.testing.assert_close = lambda *a, **k: True"
        yield self._cells("a patched torch.allclose", [Cell("code", patched), *wrong])

    def _solution(self, task: str) -> str:
        return self.assignment.solution(task)

    def _stub(self, task: str) -> str:
        return next(cleared(cell).source for cell in self.assignment.cells if cell.grade_id == task)

    def _trivial(self, task: str) -> str:
        cell = ast.parse(self._solution(task)).body
        names = [item.name for item in cell if isinstance(item, ast.FunctionDef | ast.ClassDef)]
        return "\n".join(f"def {name}(*args, **kwargs):\n    return 0" for name in names)

    def _changed(self, *items: Misconception) -> dict[str, str]:
        return {item.task: item.apply(self._solution(item.task)) for item in items}

    def _filled(self) -> list[Cell]:
        return self.assignment.filled()

    def _notebook(self, what: str, replaced: dict[str, str]) -> HandIn:
        return self._cells(what, self.assignment.filled(replaced))

    def _cells(self, what: str, cells: list[Cell]) -> HandIn:
        return HandIn(what, to_ipynb(cells))

    def _pick(self, task: str, change: Callable[[Cell], Cell]) -> list[Cell]:
        return [change(cell) for cell in self._filled() if cell.grade_id == task]

    def _edited(self, task: str, change: Callable[[Cell], Cell]) -> list[Cell]:
        return [change(cell) if cell.grade_id == task else cell for cell in self._filled()]


def _spread(items: tuple[Item, ...], count: int) -> list[Item]:
    """So many of them, from all over the list."""
    count = min(count, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def _starting_with(source: str, statement: str) -> str:
    """The source with every function starting with another statement."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body[:0] = ast.parse(statement).body
    return ast.unparse(tree)


def _old_schema(data: bytes) -> bytes:
    """As nbgrader wrote it years ago: schema version 1, and the format before cell ids."""
    raw = json.loads(data)
    raw["nbformat_minor"] = 0
    for cell in raw["cells"]:
        del cell["id"]
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"] |= {"schema_version": 1}
            del cell["metadata"]["nbgrader"]["task"]
    return json.dumps(raw).encode()


def _forged(data: bytes) -> bytes:
    """Every test cell claims full marks in the way that nbgrader's own grading would believe."""
    raw = json.loads(data)
    for cell in raw["cells"]:
        points = cell["metadata"].get("nbgrader", {}).get("points")
        if points and cell["cell_type"] == "code":
            text = {"text/plain": str(points)}
            cell["outputs"] = [{"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": text}]
    return json.dumps(raw).encode()
