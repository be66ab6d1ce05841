"""Which names a piece of a notebook defines, and which of the notebook's names it uses: read from the source.

A class hands in the same cells many times over: what was read of a text is remembered. Nobody changes the trees.
"""

from __future__ import annotations

import ast
import symtable
import warnings
from collections.abc import Mapping
from functools import lru_cache

from autograder.shell import without_magics


@lru_cache(maxsize=512)
def statements(source: str) -> tuple[ast.stmt, ...]:
    """A cell's top-level statements; none where it does not parse."""
    with warnings.catch_warnings(action="ignore"):  # Python's remarks on a student's text are for nobody here
        try:
            return tuple(ast.parse(without_magics(source)).body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return ()


@lru_cache(maxsize=4096)
def used(statement: ast.stmt) -> frozenset[str]:
    """The notebook's names that a statement refers to: not the local ones of its functions."""
    try:
        scopes = [symtable.symtable(ast.unparse(statement), "<cell>", "exec")]
    except (SyntaxError, ValueError, RecursionError):
        return frozenset()
    names = set[str]()
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        names |= {
            symbol.get_name()
            for symbol in scope.get_symbols()
            if symbol.is_referenced() and (scope.get_type() == "module" or symbol.is_global())
        }
    return frozenset(names)


@lru_cache(maxsize=4096)
def defined(statement: ast.stmt) -> frozenset[str]:
    """The names that a statement gives a meaning in the notebook."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return frozenset({statement.name})
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return frozenset((alias.asname or alias.name).partition(".")[0] for alias in statement.names)
    names = (node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return frozenset(node.id for node in names)


@lru_cache(maxsize=512)
def parameters(source: str) -> Mapping[str, tuple[str, ...]]:
    """The functions and classes that a cell defines, and `Class.method`, each with the names of what it takes.

    An object that is called itself is a method named like its class.
    """
    found: dict[str, tuple[str, ...]] = {}
    for one in statements(source):
        if isinstance(one, ast.FunctionDef):
            found[one.name] = _taken(one)
        elif isinstance(one, ast.ClassDef):
            methods = {item.name: _taken(item)[1:] for item in one.body if isinstance(item, ast.FunctionDef)}
            found[one.name] = methods.get("__init__", ())
            found[f"{one.name}.{one.name}"] = methods.get("forward", methods.get("__call__", ()))
            found |= {f"{one.name}.{name}": taken for name, taken in methods.items()}
    return found


def _taken(function: ast.FunctionDef) -> tuple[str, ...]:
    return tuple(one.arg for one in [*function.args.posonlyargs, *function.args.args])


def builds_on(cells: Mapping[str, str]) -> dict[str, set[str]]:
    """For each of these cells (name -> source) the others that it uses, directly or through one another."""
    gives = {name: {word for one in statements(source) for word in defined(one)} for name, source in cells.items()}
    takes = {name: {word for one in statements(source) for word in used(one)} for name, source in cells.items()}
    below = {name: {other for other in cells if other != name and takes[name] & gives[other]} for name in cells}
    for _ in cells:  # as many rounds as a chain can be long
        below = {name: others.union(*(below[other] for other in others)) - {name} for name, others in below.items()}
    return below
