"""What is not allowed is found under its names, and honest work is left alone."""

from __future__ import annotations

import pytest

from autograder.shortcuts import find_shortcuts

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
