"""Texts that stand for names: what `getattr`, `eval`, `import_module` and their like are given, in pieces or whole.

Only what the source itself says is computed: constants, and a few operations on them. Nothing is run.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

# They take a name as text: the callee's own name, whatever it is reached through.
LOOKUPS = frozenset({
    "getattr", "getattr_static", "__getattribute__", "__getattr__", "attrgetter", "methodcaller", "import_module",
    "__import__", "itemgetter", "find_spec", "resolve_name", "get_submodule", "run_module", "reload",
})  # fmt: skip
# They take source.
RUNS = frozenset({"eval", "exec", "compile", "run_cell", "run_code"})
# What holds names as keys.
_TABLES = frozenset({"__dict__", "vars", "globals", "locals", "modules", "_modules"})
_FROM_TABLE = frozenset({"get", "pop", "setdefault", "__getitem__"})
_WORDS = re.compile(r"[^\W\d]\w*")
_LONG = 10_000
_DEEP = 40
# Looking so often into what a name may stand for, for one piece of source and in all, must do.
_STEPS, _ALL_STEPS = 2_000, 100_000


class Names:
    """What the names of a piece of a notebook stand for, as far as single assignments and imports tell."""

    def __init__(self, statements: list[ast.stmt]) -> None:
        """`statements`: all that belongs together."""
        self.steps, self.all_steps = _STEPS, _ALL_STEPS
        self.values: dict[str, list[ast.expr]] = {}
        self.imports: dict[str, str] = {}
        self.starred = False  # whether `from x import *` may have brought any name
        self.made = set[str]()  # what the student's own functions and classes are called
        for statement in statements:
            for node in ast.walk(statement):
                if isinstance(node, ast.Assign):
                    for target in node.targets:
                        self._assigned(target, node.value)
                elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
                    self._assigned(node.target, node.value)
                elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                    self.made.add(node.name)
                elif isinstance(node, ast.ImportFrom | ast.Import):
                    self.starred = self.starred or node.names[0].name == "*"
                    self.imports |= {one.asname: one.name.rpartition(".")[2] for one in node.names if one.asname}

    def _assigned(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.values.setdefault(target.id, []).append(value)
        elif isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
            for one, other in zip(target.elts, value.elts, strict=False):
                self._assigned(one, other)

    def _tired(self, depth: int) -> bool:
        self.steps, self.all_steps = self.steps - 1, self.all_steps - 1
        return depth > _DEEP or self.steps < 0 or self.all_steps < 0

    def callees(self, node: ast.expr, depth: int = 0) -> set[str]:
        """The own names of what an expression may stand for: `g` after `g = builtins.getattr` is `getattr`."""
        if self._tired(depth):
            return set()
        if isinstance(node, ast.Attribute):
            return {node.attr}
        if isinstance(node, ast.Name):
            through = [self.callees(value, depth + 1) for value in self.values.get(node.id, [])]
            return {self.imports.get(node.id, node.id)}.union(*through)
        if isinstance(node, ast.Call) and "partial" in self.callees(node.func, depth + 1) and node.args:
            return self.callees(node.args[0], depth + 1)
        if isinstance(node, ast.Subscript):  # globals()["getattr"]
            return self.texts(node.slice, depth + 1)
        if isinstance(node, ast.Call) and self.callees(node.func, depth + 1) & LOOKUPS:
            return {text for argument in node.args for text in self.texts(argument, depth + 1)}
        return set()

    def texts(self, node: ast.expr, depth: int = 0) -> set[str]:
        """The texts that an expression may be; none where the source does not tell."""
        if self._tired(depth):
            return set()
        if isinstance(node, ast.Constant):
            value = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            return {value} if isinstance(value, str) else set()
        if isinstance(node, ast.Name):
            return {text for value in self.values.get(node.id, []) for text in self.texts(value, depth + 1)}
        if isinstance(node, ast.BinOp):
            return self._operated(node, depth + 1)
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
            return self._joined(parts, "", depth)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            return self._sliced(node.value, node.slice, depth + 1)
        if isinstance(node, ast.IfExp):
            return self.texts(node.body, depth + 1) | self.texts(node.orelse, depth + 1)
        return self._called(node, depth + 1) if isinstance(node, ast.Call) else set()

    def _operated(self, node: ast.BinOp, depth: int) -> set[str]:
        if isinstance(node.op, ast.Add):
            return self._joined([node.left, node.right], "", depth)
        if isinstance(node.op, ast.Mod):
            parts = node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
            return self._filled(node.left, parts, re.compile("%[sr]"), depth)
        return set()

    def _joined(self, parts: list[ast.expr], between: str, depth: int) -> set[str]:
        made = {""}
        for number, part in enumerate(parts):
            some = self.texts(part, depth + 1)
            made = {head + (between if number else "") + tail for head in made for tail in some}
            if len(made) > 100 or any(len(text) > _LONG for text in made):  # noqa: PLR2004 - a bound, any will do
                return set()
        return made

    def _filled(self, form: ast.expr, parts: list[ast.expr], gap: re.Pattern[str], depth: int) -> set[str]:
        made = set()
        for text in self.texts(form, depth):
            pieces = gap.split(text)
            if len(pieces) == len(parts) + 1:
                rest: list[ast.expr] = [ast.Constant(pieces[0])]
                for part, piece in zip(parts, pieces[1:], strict=True):
                    rest += [part, ast.Constant(piece)]
                made |= self._joined(rest, "", depth)
        return made

    def _sliced(self, value: ast.expr, cut: ast.Slice, depth: int) -> set[str]:
        try:
            ends = [None if part is None else ast.literal_eval(part) for part in (cut.lower, cut.upper, cut.step)]
            return {text[slice(*ends)] for text in self.texts(value, depth)}
        except (ValueError, TypeError, SyntaxError, RecursionError):
            return set()

    def _called(self, node: ast.Call, depth: int) -> set[str]:
        if isinstance(node.func, ast.Name) and node.func.id in ("str", "chr", "intern") and len(node.args) == 1:
            argument = node.args[0]
            if node.func.id == "chr" and isinstance(argument, ast.Constant) and type(argument.value) is int:
                return {chr(argument.value)} if 0 <= argument.value <= sys.maxunicode else set()
            return self.texts(argument, depth)
        if not isinstance(node.func, ast.Attribute):
            return set()
        name, of = node.func.attr, node.func.value
        if name == "join" and len(node.args) == 1 and isinstance(node.args[0], ast.List | ast.Tuple):
            between = self.texts(of, depth)
            return {text for one in between for text in self._joined(node.args[0].elts, one, depth)}
        if name == "format" and not node.keywords:
            return self._filled(of, node.args, re.compile(r"\{\d?\}"), depth)
        if name in ("decode", "encode"):
            return self.texts(of, depth)
        if name in ("lower", "upper", "title", "capitalize", "strip", "swapcase", "lstrip", "rstrip") and not node.args:
            return {getattr(text, name)() for text in self.texts(of, depth)}
        if name == "replace" and len(node.args) == 2:  # noqa: PLR2004 - what for what
            old, new = (self.texts(argument, depth) for argument in node.args)
            return {text.replace(a, b)[:_LONG] for text in self.texts(of, depth) for a in old for b in new}
        return set()

    def looked_up(self, node: ast.AST) -> Iterator[str]:
        """The names that this piece of source looks up by text: attributes, modules, entries of a table of names."""
        self.steps = _STEPS
        if isinstance(node, ast.Subscript) and self.callees(_called(node.value)) & _TABLES:
            yield from _words(self.texts(node.slice))
        if not isinstance(node, ast.Call):
            return
        callees = self.callees(node.func)
        of_table = isinstance(node.func, ast.Attribute) and self.callees(_called(node.func.value)) & _TABLES
        if callees & LOOKUPS or (of_table and callees & _FROM_TABLE):
            own = node.args and isinstance(node.args[0], ast.Name) and node.args[0].id in ("self", "cls")
            if not own:
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                yield from _words({text for argument in given for text in self.texts(argument)})

    def sources(self, node: ast.AST) -> Iterator[str]:
        """The texts that this piece of source runs."""
        self.steps = _STEPS
        if isinstance(node, ast.Call) and self.callees(node.func) & RUNS:
            for argument in node.args[:1]:
                yield from self.texts(argument)


def _called(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def _words(texts: set[str]) -> Iterator[str]:
    for text in sorted(texts):
        yield from _WORDS.findall(text[:_LONG])
