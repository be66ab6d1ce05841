"""Slips of the hand: every small change to a reference solution, made from its syntax tree.

Only what stands between BEGIN and END SOLUTION is changed. A mutant is known by its task and by the lines that differ,
without comments, so that it keeps its name while other lines come and go.
"""

from __future__ import annotations

import ast
import copy
import io
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Change = tuple[ast.AST, ast.AST | None]

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv, ast.MatMult: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,), ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
}  # fmt: skip
ORDERED = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.MatMult, ast.Pow)
NAMES = {
    "amax": "amin", "amin": "amax", "max": "min", "min": "max", "sum": "mean", "mean": "sum", "sin": "cos",
    "cos": "sin", "exp": "exp2", "log": "log2", "zeros": "ones", "ones": "zeros", "zeros_": "ones_", "ones_": "zeros_",
    "tril": "triu", "triu": "tril", "any": "all", "all": "any", "argmax": "argmin", "train": "eval", "eval": "train",
    "sqrt": "square", "unsqueeze": "squeeze", "ceil": "floor", "append": "extend", "ValueError": "RuntimeError",
}  # fmt: skip
UNORDERED = ("max", "min", "torch.promote_types")  # their arguments may stand in any order, as transpose's axes may
MODULES = ("torch", "math", "F", "nn", "self", "np", "re", "regex", "heapq", "itertools", "functools", "os", "Path")


@dataclass(frozen=True)
class Mutant:
    """The cell of a task with one small change."""

    task: str
    was: str
    now: str
    place: int  # the same change may fit in several places; 1 for the first
    source: str

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is known by."""
        return (self.task, self.was, self.now, self.place)


def mutants(task: str, source: str) -> list[Mutant]:
    """Every mutant of a task's cell, in the order of its lines."""
    lines = source.split("\n")
    tree = ast.parse(source)
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    found: list[Mutant] = []
    seen, places = {ast.dump(tree)}, Counter[tuple[str, str]]()
    for old, new in _changes(tree, _inside(lines)):
        meaning = _meaning(tree, parents[old], old, new)
        text = _replaced(source, meaning, old, new) if meaning not in seen else None
        if text is None:
            continue
        seen.add(meaning)
        was, now = _difference(lines, text.split("\n"))
        places[was, now] += 1
        found.append(Mutant(task, was, now, places[was, now], text))
    return found


def _inside(lines: list[str]) -> set[int]:
    """The numbers of the lines between BEGIN and END SOLUTION, from 1."""
    found, within = set(), False
    for number, line in enumerate(lines, start=1):
        if "BEGIN SOLUTION" in line or "END SOLUTION" in line:
            within = "BEGIN SOLUTION" in line
        elif within:
            found.add(number)
    return found


def _changes(tree: ast.Module, inside: set[int]) -> Iterator[Change]:
    """Nodes with what shall stand in their place; None where nothing shall."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.JoinedStr | ast.arguments):
            continue  # a message is left out as a whole; a signature is given to the student
        if getattr(node, "lineno", 0) in inside and not _is_text(node):
            for make in MAKERS:
                yield from ((node, new) for new in make(node))
            yield from ((test, ast.UnaryOp(ast.Not(), test)) for test in _tests(node))
        yield from ((item, None) for item in getattr(node, "decorator_list", ()) if item.lineno in inside)
        if not _is_number(node):
            waiting += reversed([child for child in ast.iter_child_nodes(node) if not _is_annotation(node, child)])


def _tests(node: ast.AST) -> list[ast.expr]:
    """The conditions that it decides by."""
    own = [node.test] if isinstance(node, ast.If | ast.While) else []
    own += [test for one in getattr(node, "generators", ()) for test in one.ifs]
    return [test for test in own if not isinstance(test, ast.Compare)]  # comparisons are turned around by themselves


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_annotation(node: ast.AST, child: ast.AST) -> bool:
    return child in (getattr(node, "annotation", None), getattr(node, "returns", None)) or _is_text(child)


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _swapped(items: list[ast.expr]) -> Iterator[list[ast.expr]]:
    for place in range(len(items) - 1):
        yield [*items[:place], items[place + 1], items[place], *items[place + 2 :]]


def _statement(node: ast.AST) -> Iterator[ast.AST]:
    if not isinstance(node, ast.stmt) or isinstance(node, ast.Pass):
        return
    yield ast.Return(ast.Constant(None)) if isinstance(node, ast.Return) else ast.Pass()
    if isinstance(node, ast.Break | ast.Continue):
        yield ast.Continue() if isinstance(node, ast.Break) else ast.Break()


def _operation(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
        yield _with(node, op=OPERATORS[type(node.op)]())
    if isinstance(node, ast.BinOp) and isinstance(node.op, ORDERED):
        yield _with(node, left=node.right, right=node.left)
    if isinstance(node, ast.UnaryOp) and not _is_number(node):
        yield node.operand
    if isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        yield from node.values
    if isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                yield _with(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])


def _is_number(node: ast.AST) -> bool:
    value = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node
    return isinstance(value, ast.Constant) and type(value.value) in (int, float)


def _constant(node: ast.AST) -> Iterator[ast.AST]:
    if _is_number(node):
        value = ast.literal_eval(ast.unparse(node))
        others = (value + 1, value - 1) if isinstance(value, int) else (value * 2 if value else 1.0,)
        yield from (ast.Constant(one) if one >= 0 else ast.UnaryOp(ast.USub(), ast.Constant(-one)) for one in others)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        other = "x" if isinstance(node.value, str) else b"x"
        yield ast.Constant(type(node.value)() if node.value else other)


def _name(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield _with(node, attr=NAMES[node.attr])
    if isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        yield _with(node, id=NAMES[node.id])


def _call(node: ast.AST) -> Iterator[ast.AST]:
    if not isinstance(node, ast.Call):
        return
    name = ast.unparse(node.func)
    if name not in UNORDERED and not name.endswith(".transpose"):
        yield from (_with(node, args=args) for args in _swapped(node.args))
    if node.args:
        yield _with(node, args=node.args[:-1])
    for place in range(len(node.keywords)):
        yield _with(node, keywords=[*node.keywords[:place], *node.keywords[place + 1 :]])
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    if owner is not None and not (isinstance(owner, ast.Name) and owner.id in MODULES):
        yield owner
    elif node.args and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp | ast.JoinedStr):
        yield node.args[0]


def _series(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Tuple | ast.List):
        yield from (_with(node, elts=items) for items in _swapped(node.elts))
    if isinstance(node, ast.Slice):
        yield from (_with(node, **{end: None}) for end in ("lower", "upper", "step") if getattr(node, end) is not None)


MAKERS: tuple[Callable[[ast.AST], Iterator[ast.AST]], ...] = (
    _statement, _operation, _constant, _name, _call, _series,
)  # fmt: skip


def _replaced(source: str, meaning: str, old: ast.AST, new: ast.AST | None) -> str | None:
    """The source with one node replaced, all else as it was; None where what comes out is no Python."""
    assert isinstance(old, ast.expr | ast.stmt | ast.Slice)
    raw, starts = source.encode(), [0]
    for line in raw.split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    assert old.end_lineno is not None
    assert old.end_col_offset is not None
    begin, end = starts[old.lineno - 1] + old.col_offset, starts[old.end_lineno - 1] + old.end_col_offset
    text = "" if new is None else ast.unparse(new)
    begin -= new is None  # a decorator goes with its @
    for form in (text, f"({text})", text[1:-1]):
        changed = (raw[:begin] + form.encode() + raw[end:]).decode()
        try:
            if ast.dump(ast.parse(changed)) == meaning:
                return changed
        except SyntaxError:
            continue
    return None


def _meaning(tree: ast.Module, parent: ast.AST, old: ast.AST, new: ast.AST | None) -> str:
    """The tree that should come out, as one text."""
    for name, value in ast.iter_fields(parent):
        if value is old:
            setattr(parent, name, new)
        elif isinstance(value, list) and old in value:
            setattr(parent, name, [new if item is old else item for item in value if item is not old or new])
        else:
            continue
        try:
            return ast.dump(tree)
        finally:
            setattr(parent, name, value)
    message = f"{old} is no part of {parent}"
    raise ValueError(message)


def _difference(before: list[str], after: list[str]) -> tuple[str, str]:
    """The lines that differ, without comments and indentation."""
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    was, now = before[start : len(before) - end], after[start : len(after) - end]
    return _bare(was), _bare(now)


def _bare(lines: list[str]) -> str:
    return " ".join(part for part in (_without_comment(line).strip() for line in lines) if part)


def _without_comment(line: str) -> str:
    try:
        for token in tokenize.generate_tokens(io.StringIO(line.strip()).readline):
            if token.type == tokenize.COMMENT:
                return line.strip()[: token.start[1]]
    except (tokenize.TokenError, IndentationError):
        pass
    return line
