"""What is not allowed is found under its names, and honest work is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from autograder.assignment import read_assignment, submission
from autograder.diagnosis import read_bank
from autograder.shortcuts import find_shortcuts, not_allowed

SOLUTIONS = sorted(path.parent for path in (Path(__file__).resolve().parents[1] / "solutions").glob("*/notebook.py"))

NOT_ALLOWED = {"softmax": ("softmax", "Softmax", "logsumexp"), "*": ("MultiheadAttention", "Transformer*")}
TASKS = ["softmax", "attention"]

USED = {
    "function": "def softmax(x):\n    return torch.softmax(x, -1)",
    "functional": "def softmax(x):\n    return F.softmax(x, -1)",
    "tensor method": "def softmax(x):\n    return x.softmax(-1)",
    "module": "def softmax(x):\n    return nn.Softmax(-1)(x)",
    "torch.ops": "def softmax(x):\n    return torch.ops.aten.softmax(x, -1)",
    "import": "from torch.nn.functional import softmax as s\ndef softmax(x):\n    return s(x, -1)",
    "getattr": "def softmax(x):\n    return getattr(F, 'softmax')(x, -1)",
    "alias in the cell": "s = torch.softmax\ndef softmax(x):\n    return s(x, -1)",
    "relative": "def softmax(x):\n    return (x - x.logsumexp(-1, True)).exp()",
}

# How the line looks that reaches `softmax` in a roundabout way, inside the task's function.
ROUTES = {
    "getattr of a method": "return getattr(x, 'softmax')(-1)",
    "an alias of getattr": "g = getattr\n    return g(F, 'softmax')(x, -1)",
    "builtins' getattr": "import builtins as b\n    return b.getattr(F, 'softmax')(x, -1)",
    "getattr from a table": "return globals()['getattr'](F, 'softmax')(x, -1)",
    "__getattribute__": "return torch.nn.functional.__getattribute__('softmax')(x, -1)",
    "object's __getattribute__": "return object.__getattribute__(F, 'softmax')(x, -1)",
    "__dict__": "return F.__dict__['softmax'](x, -1)",
    "__dict__.get": "return F.__dict__.get('softmax')(x, -1)",
    "vars": "return vars(F)['softmax'](x, -1)",
    "vars get": "return vars(torch).get('softmax')(x, -1)",
    "modules": "import sys\n    return sys.modules['torch.special'].softmax(x, -1)",
    "import_module": "import importlib\n    return importlib.import_module('torch.nn.functional').softmax(x, -1)",
    "import_module of the class's module": "from importlib import import_module as im\n    return im('torch.nn.modules.activation').Softmax(-1)(x)",
    "__import__": "return __import__('torch').softmax(x, -1)",
    "reload": "import importlib\n    return importlib.reload(F).softmax(x, -1)",
    "import of a module": "import torch.nn.functional as G\n    return G.softmax(x, -1)",
    "import from a module": "from torch import softmax as own_name\n    return own_name(x, -1)",
    "attrgetter": "import operator\n    return operator.attrgetter('nn.functional.softmax')(torch)(x, -1)",
    "attrgetter by another name": "from operator import attrgetter as a\n    return a('softmax')(F)(x, -1)",
    "methodcaller": "from operator import methodcaller\n    return methodcaller('softmax', -1)(x)",
    "partial": "import functools\n    return functools.partial(F.softmax, dim=-1)(x)",
    "partial of getattr": "from functools import partial\n    return partial(getattr, F)('softmax')(x, -1)",
    "map": "return next(map(torch.softmax, [x], [-1]))",
    "eval": "return eval('torch.softmax(x, -1)')",
    "eval by another name": "run = eval\n    return run('F.softmax')(x, -1)",
    "exec": "space = {'torch': torch}\n    exec('s = torch.softmax', space)\n    return space['s'](x, -1)",
    "compile": "return eval(compile('torch.softmax', '', 'eval'))(x, -1)",
    "eval of eval": "return eval('eval(\"torch.softmax\")')(x, -1)",
    "added text": "return getattr(F, 'soft' + 'max')(x, -1)",
    "added names": "a = 'soft'\n    b = a + 'max'\n    return getattr(F, b)(x, -1)",
    "an f-string": "a = 'max'\n    return getattr(F, f'soft{a}')(x, -1)",
    "join": "return getattr(F, ''.join(['soft', 'max']))(x, -1)",
    "join with a letter": "return getattr(F, 'a'.join(('softm', 'x')))(x, -1)",
    "format": "return getattr(F, '{}{}'.format('soft', 'max'))(x, -1)",
    "percent": "return getattr(F, 'soft%s' % 'max')(x, -1)",
    "percent of two": "return getattr(F, '%s%s' % ('soft', 'max'))(x, -1)",
    "backwards": "return getattr(F, 'xamtfos'[::-1])(x, -1)",
    "replace": "return getattr(F, 'hardmax'.replace('hard', 'soft'))(x, -1)",
    "lower": "return getattr(F, 'SOFTMAX'.lower())(x, -1)",
    "title": "return getattr(nn, 'softmax'.title())(-1)(x)",
    "chr": "return getattr(F, chr(115) + 'oftmax')(x, -1)",
    "bytes": "return getattr(F, b'softmax'.decode())(x, -1)",
    "either": "return getattr(F, 'softmax' if x.dim() else 'relu')(x, -1)",
    "eval of pieces": "return eval('torch.soft' + 'max')(x, -1)",
    "torch.ops, private": "return torch.ops.aten.logsumexp.default(x, [-1])",
    "torch._C": "return torch._C._VariableFunctions.softmax(x, -1)",
    "the method of the class": "return torch.Tensor.softmax(x, -1)",
    "a default": "return (lambda f=F.softmax: f(x, -1))()",
    "a decorator": "@F.softmax\n    def inner(): pass\n    return inner",
    "a walrus": "return (s := F.softmax)(x, -1)",
    "unpacked": "a, b = F.relu, F.softmax\n    return b(x, -1)",
    "self is a tensor": "return helped(x)\ndef helped(self):\n    return self.softmax(-1)",
    "a magic above": "return F.softmax(x, -1)",
}


@pytest.mark.parametrize("name", ROUTES)
def test_a_roundabout_way_is_found(name: str) -> None:
    """Whatever stands in the place of the name; the student reads the line."""
    source = ("%%time\n" if name == "a magic above" else "") + f"def softmax(x, dim=-1):\n    {ROUTES[name]}"
    found = find_shortcuts([("softmax", source)], NOT_ALLOWED, TASKS)
    assert set(found) == {"softmax"}
    assert found["softmax"].line in source.rsplit("\n", maxsplit=1)[-1] or found["softmax"].line in ROUTES[name]
    assert found["softmax"].line


ELSEWHERE = {
    "an alias": "s = torch.softmax",
    "a star": "from torch.nn.functional import *",
    "exec": "exec('s = torch.softmax')",
    "exec of pieces": "exec('s = torch.soft' + 'max')",
    "a table": "globals()['s'] = F.softmax",
    "a class": "class s:\n    def __new__(cls, x, d):\n        return F.softmax(x, d)",
    "through two": "t = F.softmax\ns = t",
    "an import": "from torch import softmax as s",
    "unpacked": "r, s = F.relu, F.softmax",
    "a condition": "if True:\n    s = F.softmax",
}


@pytest.mark.parametrize("cell", ["cell 3", "attention"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_name_that_another_cell_gives_is_followed(name: str, cell: str) -> None:
    """Also into another task's cell, where the same operation may be allowed."""
    used = "t = softmin" if name == "a star" else "def softmax(x, dim=-1):\n    return s(x, dim)"
    banned = {"softmax": (*NOT_ALLOWED["softmax"], "softmin")}
    assert set(find_shortcuts([(cell, ELSEWHERE[name]), ("softmax", used)], banned, TASKS)) == {"softmax"}


@pytest.mark.parametrize("put", ["torch.zz = F.softmax", "setattr(torch, 'zz', F.softmax)", "setattr(torch, 'z' + 'z', F.softmax)"])
def test_an_attribute_that_another_cell_puts_somewhere_is_followed(put: str) -> None:
    """A shortcut hung onto torch under another name."""
    cells = [("cell 3", put), ("softmax", "def softmax(x, dim=-1):\n    return torch.zz(x, dim)")]
    assert set(find_shortcuts(cells, NOT_ALLOWED, TASKS)) == {"softmax"}


@pytest.mark.parametrize("name", USED)
def test_a_shortcut_is_found(name: str) -> None:
    """Under any of its names; the line is shown."""
    found = find_shortcuts([("softmax", USED[name])], NOT_ALLOWED, TASKS)
    assert set(found) == {"softmax"}
    assert found["softmax"].line in USED[name]
    assert found["softmax"].line in found["softmax"].message


def test_a_shortcut_in_a_helper_of_another_cell_is_found() -> None:
    """The task's names lead there."""
    cells = [("cell 3", "def helper(x):\n    return inner(x)"), ("cell 4", "inner = F.softmax"), ("softmax", "def softmax(x):\n    return helper(x)")]
    assert find_shortcuts(cells, NOT_ALLOWED, TASKS)["softmax"].line == "inner = F.softmax"


def test_a_ban_for_all_tasks_binds_all_of_them() -> None:
    """Patterns may end in a star."""
    cells = [("attention", "class A(nn.TransformerEncoderLayer):\n    pass")]
    assert set(find_shortcuts(cells, NOT_ALLOWED, TASKS)) == {"attention"}


HONEST = {
    "own function": [("softmax", "def softmax(x, dim=-1):\n    e = x.exp()\n    return e / e.sum(dim, keepdim=True)")],
    "another task may": [("softmax", "def softmax(x):\n    return x.exp()"), ("attention", "def attention(q):\n    return F.softmax(q, -1)")],
    "a check in an own cell": [("softmax", "def softmax(x):\n    return x.exp()"), ("cell 9", "print(torch.softmax(x, -1) - softmax(x))")],
    "a comment and a string": [("softmax", "def softmax(x):\n    '''Like torch.softmax.'''\n    return x.exp()  # not F.softmax")],
    "an own attribute": [("attention", "class A(nn.Module):\n    def __init__(self):\n        self.MultiheadAttention = 3")],
    "an own attribute that is used": [
        ("softmax", "class A:\n    def __init__(self):\n        self.softmax = 3\n    def logsumexp(self):\n        return self.softmax\ndef softmax(x):\n    return A().__init__"),
    ],
    "printing its name": [("softmax", "def softmax(x):\n    print('softmax', x)\n    return x.exp()")],
    "an error with its name": [("softmax", "def softmax(x):\n    if x is None:\n        raise ValueError('softmax')\n    return x.exp()")],
    "a key of an own table": [("softmax", "def softmax(x, how={'softmax': 1}):\n    return x.exp() * how['softmax'] * how.get('softmax')")],
    "getattr of something else": [("softmax", "def softmax(x):\n    return getattr(x, 'exp')() / getattr(x, 'e' + 'xp')().sum()")],
    "eval of something else": [("softmax", "def softmax(x):\n    return eval('x.exp()')")],
    "a variable of the same name": [("softmax", "def softmax(x):\n    softmax = x.exp()\n    return softmax / softmax.sum()")],
    "its own call": [("softmax", "def softmax(x):\n    return x.exp()\nassert softmax(torch.zeros(2)).sum() == 2")],
    "a scratch name as in another cell": [
        ("cell 1", "x = torch.softmax(torch.zeros(3), -1)"), ("softmax", "def softmax(x):\n    return x.exp()\nx = torch.zeros(2)\nprint(softmax(x))"),
    ],
    "an attribute that another task's class puts onto its parts": [
        ("attention", "class A(nn.Module):\n    def __init__(self):\n        self.out.weight = self.table.weight\n        self.last = nn.Softmax(-1)"),
        ("softmax", "def softmax(x):\n    return x.weight.exp()"),
    ],
    "another attribute's name": [("cell 1", "model.loss = F.softmax"), ("softmax", "def softmax(x):\n    return x.exp()")],
    "a star that is not used": [("cell 1", "from math import *"), ("softmax", "def softmax(x):\n    return x.exp()\nsoftmax(1)")],
    "a huge text": [("softmax", "def softmax(x):\n    a = 'x' * 9\n    return getattr(x, " + " + ".join(["a"] * 60) + ")")],
    "a local name like an own cell's": [
        ("cell 2", "rows = torch.softmax(x, -1)"),
        ("softmax", "def softmax(x):\n    rows = x.exp()\n    return rows / rows.sum(-1, keepdim=True)"),
    ],
    "what does not parse": [("softmax", "def softmax(x:\n    return F.softmax(x)")],
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_work_is_left_alone(name: str) -> None:
    """No false alarm."""
    assert find_shortcuts(HONEST[name], NOT_ALLOWED, TASKS) == {}


@pytest.mark.parametrize("folder", SOLUTIONS, ids=lambda folder: folder.name)
def test_no_false_alarm_on_the_course_itself(folder: Path) -> None:
    """The released stub, the reference, and every honest variant of the bank."""
    assignment = read_assignment(folder)
    banned = not_allowed(folder / "test_hidden.py")
    tasks = [task.name for task in assignment.tasks]
    assert find_shortcuts(submission(assignment, assignment.released).cells, banned, tasks) == {}
    assert find_shortcuts(submission(assignment, assignment.filled()).cells, banned, tasks) == {}
    variants = read_bank(folder / "misconceptions.py").honest
    assert variants
    for variant in variants:
        work = submission(assignment, assignment.filled({variant.task: variant.apply(assignment.solution(variant.task))}))
        assert find_shortcuts(work.cells, banned, tasks) == {}, variant


# While it runs: what no reading tells.


def watched(cells: list[tuple[str, str]], call: str, *, banned: dict[str, list[str]]) -> dict[str, tuple[str, str]]:
    """What the worker's guard saw of one call with a tensor."""
    import torch

    from autograder.notebook_link import InProcess
    from autograder.student import Student

    def prepare(link):
        link.reset()
        link.ask({"id": 0, "verb": "watch", "not_allowed": banned}, 9.0)
        given = ("imports", "import torch\nfrom torch import nn\nimport torch.nn.functional as F")
        link.ask({"id": 0, "verb": "cells", "cells": [[name, source, 9.0] for name, source in (given, *cells)]}, 9.0)

    student = Student(InProcess(), prepare)
    getattr(student, call)(torch.ones(2, 3))
    return student.shortcuts()


COMPUTED = {
    "a name from the outside": "return getattr(F, names[0][::-1])(x, -1)",
    "a method by a computed name": "return getattr(x, max(n for n in dir(x) if n.startswith('softm') and len(n) == 7))(-1)",
    "through partial": "from functools import partial\n    return partial(vars(torch)[names[0][::-1]], x)(-1)",
    "through map": "return next(map(getattr(F, names[0][::-1]), [x], [-1]))",
}


@pytest.mark.parametrize("way", COMPUTED)
def test_a_computed_name_is_seen_when_it_runs(way: str) -> None:
    """Not by reading; and the line is the student's."""
    cells = [("cell 2", "names = ['xamtfos']"), ("softmax", f"def softmax(x):\n    {COMPUTED[way]}")]
    assert find_shortcuts(cells, NOT_ALLOWED, TASKS) == {}
    name, line = watched(cells, "softmax", banned={"softmax": ["softmax"]})["softmax"]
    assert name == "softmax"
    assert line in COMPUTED[way]


def test_a_helper_counts_for_the_task_that_called_it() -> None:
    """And not for another that may."""
    cells = [("cell 2", "def helper(x):\n    return F.softmax(x, -1)"), ("softmax", "def softmax(x):\n    return helper(x)"), ("attention", "def attention(x):\n    return helper(x)")]
    assert set(watched(cells, "softmax", banned={"softmax": ["softmax"], "attention": ["relu"]})) == {"softmax"}
    assert watched(cells, "attention", banned={"softmax": ["softmax"], "attention": ["relu"]}) == {}


ALLOWED = {
    "an own function of that name": "def logsumexp(x):\n    return x.exp().sum(-1).log()\ndef softmax(x):\n    return (x.T - logsumexp(x)).T.exp()",
    "an operation that uses it inside": "def softmax(x):\n    return F.scaled_dot_product_attention(x[None], x[None], x[None])",
    "a module that uses it inside": "def softmax(x):\n    return nn.MultiheadAttention(3, 1, batch_first=True)(x[None], x[None], x[None])[0]",
    "a distribution that uses it inside": "def softmax(x):\n    return torch.distributions.Categorical(logits=x).probs",
}


@pytest.mark.parametrize("way", ALLOWED)
def test_what_torch_calls_by_itself_is_not_held_against_a_student(way: str) -> None:
    """Only a line of their own counts."""
    assert watched([("softmax", ALLOWED[way])], "softmax", banned={"softmax": ["softmax", "logsumexp"]}) == {}


def test_a_worker_that_answers_nonsense_loses_nothing_for_others() -> None:
    """What was seen is a claim: whatever its form, no error."""
    from autograder.student import Student

    class Sly:
        def ask(self, request, seconds):
            return {"id": request["id"], "value": answers.pop()}

    for answer in (None, 3, [1], {"softmax": 3}, {"softmax": ["a"]}, {"softmax": ["a", "b", "c"]}):
        answers = [answer, None]
        student = Student(Sly())
        student.forget()
        student._ask("files")
        answers.append(answer)
        assert student.shortcuts() == {}


def test_an_objects_own_attribute_leads_nowhere() -> None:
    """Every module has a `weight`; that another task's class sets one says nothing of this task."""
    cells = [
        ("layer_norm", "class LayerNorm(nn.Module):\n    def forward(self, x):\n        return x * self.weight"),
        ("block", "class Block(nn.Module):\n    def __init__(self):\n        self.norm = nn.LayerNorm(3)"),
        ("gpt", "class GPT(nn.Module):\n    def __init__(self):\n        self.h = Block()\n        self.lm_head.weight = self.wte.weight"),
    ]
    assert find_shortcuts(cells, {"layer_norm": ("LayerNorm",)}, ["layer_norm", "block", "gpt"]) == {}
