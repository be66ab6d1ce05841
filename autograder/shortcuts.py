"""Finds the use of operations that defeat a task, by reading the student's source.

What is read: the task's cell, and whatever else in the notebook its names lead to: helpers, aliases, imports,
attributes that were put onto something, text that is run. An operation counts under any of its names: function, tensor
method, module, `torch.ops`, and text in the place of a name, also where it is put together from pieces
(hidden_names.py). A student's own function, method or attribute of the same name does not count, nor does a comment.

What no reading finds is a name that is computed when the code runs, and an operation inside another, under a name that
is not on the list. The first is watched for when the code runs (guard.py); the second is a rule of the course.
"""

from __future__ import annotations

import ast
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path

from autograder.errors import CourseBroken
from autograder.hidden_names import RUNS, Names
from autograder.names import defined, statements, used
from autograder.shell import without_magics

EVERY_TASK = "*"
MOST_TEXTS = 50


@dataclass(frozen=True)
class Shortcut:
    """A use of what is not allowed."""

    name: str
    line: str

    @property
    def message(self) -> str:
        """For the student."""
        return f"`{self.name}` is not allowed here, as it is the task itself; it stands in your line: {self.line}"


def not_allowed(tests: Path) -> dict[str, tuple[str, ...]]:
    """The shortcuts that defeat a task, as the test file's `NOT_ALLOWED` lists them: task (or "*" for all) -> names.

    Read as text, so that it is known before the file is imported.

    Raises:
        CourseBroken: it is there, but no plain dictionary.
    """
    return _not_allowed(tests, tests.read_text(encoding="utf-8"))


@lru_cache(maxsize=32)
def _not_allowed(tests: Path, source: str) -> dict[str, tuple[str, ...]]:
    for statement in ast.parse(source).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "NOT_ALLOWED" for target in targets):
            assert isinstance(statement, ast.Assign)
            try:
                return {str(name): tuple(names) for name, names in ast.literal_eval(statement.value).items()}
            except (ValueError, AttributeError, TypeError) as error:
                message = f"{tests}: NOT_ALLOWED must be a plain dictionary of task: names."
                raise CourseBroken(message) from error
    return {}


def banned_in(not_allowed: Mapping[str, Sequence[str]], tasks: Sequence[str]) -> dict[str, list[str]]:
    """For each task that may not use everything, what it may not use."""
    banned = {task: [*not_allowed.get(task, ()), *not_allowed.get(EVERY_TASK, ())] for task in tasks}
    return {task: names for task, names in banned.items() if names}


def find_shortcuts(
    cells: Sequence[tuple[str, str]], not_allowed: Mapping[str, Sequence[str]], tasks: Sequence[str]
) -> dict[str, Shortcut]:
    """For each task that uses something not allowed, the first use found. Patterns may end in `*`."""
    parsed = [one for name, source in cells for one in _parsed(name, source)]
    found: dict[str, Shortcut] = {}
    for task, banned in banned_in(not_allowed, tasks).items():
        reached = _reached(task, parsed)
        names = Names([one.statement for one in reached])
        own = _own_attributes([one.statement for one in reached])
        for one in reached:
            use = _use(one.nodes, banned, names, own)
            if use is not None:
                number = one.line or use[1]
                lines = one.source.split("\n")
                line = lines[number - 1].strip()[:160] if 0 < number <= len(lines) else ""
                found[task] = Shortcut(use[0], line)
                break
    return found


@dataclass(frozen=True)
class _Piece:
    """A statement at the top of a cell. `line`: where it is text that is run, the line that runs it."""

    cell: str
    statement: ast.stmt
    source: str
    line: int = 0

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All of it."""
        return list(ast.walk(self.statement))

    @cached_property
    def used(self) -> frozenset[str]:
        """The names that it refers to, and after a dot the attributes: not those of `self`, its own affair."""
        attributes = {f".{node.attr}" for node in self.nodes if isinstance(node, ast.Attribute) and not _of_self(node)}
        return used(self.statement) | attributes

    @cached_property
    def defined(self) -> frozenset[str]:
        """The names that it gives a meaning, and the attributes that it puts onto something."""
        if isinstance(self.statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return defined(self.statement)  # what it puts onto its own objects is no name for others
        put = {
            f".{node.attr}"
            for node in self.nodes
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and not _of_self(node)
        }
        texts = Names([self.statement])
        for node in self.nodes:
            if isinstance(node, ast.Call) and len(node.args) > 1 and "setattr" in texts.callees(node.func):
                put |= {f".{text}" for text in texts.texts(node.args[1])}
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                put |= texts.texts(node.slice) if isinstance(node.value, ast.Call) else set()
        return defined(self.statement) | put


@lru_cache(maxsize=512)
def _parsed(cell: str, source: str) -> tuple[_Piece, ...]:
    """A cell's statements; text that one of them runs, as the statements that it is."""
    return tuple(_pieces(cell, source))


def _pieces(cell: str, source: str) -> Iterator[_Piece]:
    source = without_magics(source)  # so that lines are counted as the parser does
    waiting = deque((statement, 0) for statement in statements(source))
    texts = Names([statement for statement, _ in waiting])
    run, runs = 0, any(word in source for word in RUNS)
    while waiting:
        statement, line = waiting.popleft()
        yield _Piece(cell, statement, source, line)
        for node in ast.walk(statement) if runs else ():
            for text in texts.sources(node):
                run += 1
                if run <= MOST_TEXTS:
                    waiting += [(inner, line or getattr(node, "lineno", 0)) for inner in statements(text)]


def _reached(task: str, parsed: Sequence[_Piece]) -> list[_Piece]:
    """The statements of the task's cell, and those elsewhere that define a name which these use.

    What the task's cell itself defines, without condition, is not looked for elsewhere: another cell's `x` is not it.
    """
    chosen = [one for one in parsed if one.cell == task]
    others = [one for one in parsed if one.cell != task]
    plain = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.Import, ast.ImportFrom)
    here = Counter(name for one in chosen if isinstance(one.statement, plain) for name in one.defined)
    givers: dict[str, list[_Piece]] = {}
    for other in others:
        for name in other.defined:
            givers.setdefault(name, []).append(other)
    waiting, wanted, taken = list(chosen), set[str](), set[int]()
    while waiting:
        one = waiting.pop()
        inside = one.cell == task
        own = one.defined if inside and isinstance(one.statement, plain) else ()
        new = {name for name in one.used - wanted if not (inside and here[name] - (name in own) > 0)}
        wanted |= new
        for other in [other for name in sorted(new) for other in givers.get(name, ())]:
            if id(other) not in taken:
                taken.add(id(other))
                chosen.append(other)
                waiting.append(other)
    stars = [one for one in others if isinstance(one.statement, ast.ImportFrom) and one.statement.names[0].name == "*"]
    return [*chosen, *(one for one in stars if id(one) not in taken)]


def _own_attributes(statements_: Iterable[ast.stmt]) -> set[str]:
    """What a student's classes define themselves: methods, class attributes, and what is set on `self`."""
    own = set[str]()
    for node in (node for statement in statements_ for node in ast.walk(statement)):
        if isinstance(node, ast.ClassDef):
            own |= {name for inner in node.body for name in defined(inner)}
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            own.add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_self(node.func.value):
            own |= {one.value for one in node.args[:1] if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return own


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _of_self(node: ast.expr) -> bool:
    """`self.weight`, and `self.head.weight` as well."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return _is_self(node)


def _use(
    nodes: Iterable[ast.AST], banned: Iterable[str], names: Names, own: set[str]
) -> tuple[str, int] | None:
    for node in nodes:
        for name in [*_names(node, own, names), *names.looked_up(node)]:
            if any(fnmatchcase(name, pattern) for pattern in banned):
                return name, getattr(node, "lineno", 0)
    return None


def _names(node: ast.AST, own: set[str], names: Names) -> list[str]:
    """The names under which this piece of source may reach an operation."""
    if isinstance(node, ast.Attribute):
        theirs = _is_self(node.value) and node.attr in own
        return [] if theirs or isinstance(node.ctx, ast.Store) else [node.attr]
    if isinstance(node, ast.ImportFrom):
        return [*(node.module or "").split("."), *(alias.name for alias in node.names)]
    if isinstance(node, ast.Import):
        return [part for alias in node.names for part in alias.name.split(".")]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and names.starred and node.id not in names.made:
        return [node.id]  # from torch.nn.functional import *
    return []
