"""Finds the use of operations that defeat a task, by reading the student's source.

What is read: the task's cell, and whatever else in the notebook its names lead to (helpers, aliases, imports), but not
the cells of other tasks. An operation counts under any of its names: function, tensor method, module, `torch.ops`,
`getattr` with a string. A student's own function of the same name does not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from autograder.names import defined, statements, used

EVERY_TASK = "*"


@dataclass(frozen=True)
class Shortcut:
    """A use of what is not allowed."""

    name: str
    line: str

    @property
    def message(self) -> str:
        """For the student."""
        return f"`{self.name}` is not allowed here, as it is the task itself; it stands in your line: {self.line}"


def find_shortcuts(
    cells: Sequence[tuple[str, str]], not_allowed: Mapping[str, Sequence[str]], tasks: Sequence[str]
) -> dict[str, Shortcut]:
    """For each task that uses something not allowed, the first use found. Patterns may end in `*`."""
    parsed = [(name, statement, source) for name, source in cells for statement in statements(source)]
    found: dict[str, Shortcut] = {}
    for task in tasks:
        banned = [*not_allowed.get(task, ()), *not_allowed.get(EVERY_TASK, ())]
        if not banned:
            continue
        for statement, source in _reached(task, parsed, set(tasks)):
            use = _use(statement, banned)
            if use is not None:
                line = source.split("\n")[use[1] - 1].strip()[:160] if use[1] else ""
                found[task] = Shortcut(use[0], line)
                break
    return found


def _reached(
    task: str, parsed: Sequence[tuple[str, ast.stmt, str]], tasks: set[str]
) -> list[tuple[ast.stmt, str]]:
    """The statements of the task's cell, and those elsewhere that define a name which these use."""
    chosen = [(statement, source) for name, statement, source in parsed if name == task]
    others = [(statement, source) for name, statement, source in parsed if name not in tasks]
    waiting, wanted = list(chosen), set[str]()
    while waiting:
        statement, _ = waiting.pop()
        new = used(statement) - wanted
        wanted |= new
        for other in others:
            if other not in chosen and new & defined(other[0]):
                chosen.append(other)
                waiting.append(other)
    return chosen


def _use(statement: ast.stmt, banned: Iterable[str]) -> tuple[str, int] | None:
    for node in ast.walk(statement):
        for name in _names(node):
            if any(fnmatchcase(name, pattern) for pattern in banned):
                return name, getattr(node, "lineno", 0)
    return None


def _names(node: ast.AST) -> list[str]:
    """The names under which this piece of source may reach an operation."""
    if isinstance(node, ast.Attribute):
        own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        return [] if own or isinstance(node.ctx, ast.Store) else [node.attr]
    if isinstance(node, ast.ImportFrom):
        return [*(node.module or "").split("."), *(alias.name for alias in node.names)]
    if isinstance(node, ast.Import):
        return [part for alias in node.names for part in alias.name.split(".")]
    by_text = ("getattr", "__import__", "import_module")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in by_text:
        return [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return []
