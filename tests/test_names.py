"""What a cell defines and uses, and which tasks build on which."""

from __future__ import annotations

import ast

from autograder.names import builds_on, defined, statements, used


def names(function: object, source: str) -> set[str]:
    return set().union(*(function(one) for one in ast.parse(source).body))  # type: ignore[operator]


def test_definitions_of_every_kind() -> None:
    """Functions, classes, imports, assignments, loops; not what is local to a function."""
    source = "import a.b, c as d\nfrom e import f as g\nh = i, (j, *k) = 1, (2, 3)\nfor m in n: o = 1\ndef p(q): r = 1\nclass S: t = 1"
    assert names(defined, source) == {"a", "d", "g", "h", "i", "j", "k", "m", "o", "p", "S"}


def test_uses_are_the_notebooks_names_only() -> None:
    """Local variables, parameters and attributes are not among them."""
    source = "def f(x, y=default):\n    local = helper(x)\n    return [item.size for item in local if g(item)]"
    assert names(used, source) == {"default", "helper", "g"}
    assert "Base" in names(used, "class A(Base):\n    def m(self):\n        return other(self)")
    assert "other" in names(used, "class A(Base):\n    def m(self):\n        return other(self)")


def test_what_does_not_parse_says_nothing() -> None:
    """It is not run either."""
    assert statements("def f(:") == ()


def test_tasks_build_on_one_another_through_others() -> None:
    """A chain counts from end to end; a name of its own does not."""
    cells = {"a": "def a(): return a", "b": "def b(): return a()", "c": "class C:\n    def m(self): return b()", "d": "d = 1"}
    assert builds_on(cells) == {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": set()}
