"""Cells run as in JupyterLab: what does no harm there does none here."""

from __future__ import annotations

import inspect
import sys
import time
import types
from pathlib import Path

import pytest

from autograder import shell
from autograder.notebook_link import InProcess


def ran(*sources: str) -> dict[str, object]:
    one = shell.Shell("notebook")
    with shell.nothing_is_drawn():
        for number, source in enumerate(sources, start=1):
            one.run(f"cell {number}", source)
    return one.namespace


@pytest.mark.parametrize(
    "source",
    [
        "%matplotlib inline\nx = 1",
        "%load_ext autoreload\n%autoreload 2\nx = 1",
        "!pip install something\nx = 1",
        "files = !ls\nx = 1",
        "%%time\nx = 1",
        "%%capture out\nx = 1",
        "%timeit 1 + 1\nx = 1",
        "x = 1\nx?",
        "print?\nx = 1",
        "for i in range(2):\n    %time i\nx = 1",
        "display(3)\nx = 1",
        "get_ipython().run_line_magic('matplotlib', 'inline')\nx = 1",
        "from IPython.display import HTML, display, clear_output\ndisplay(HTML('<b>'))\nclear_output(wait=True)\nx = 1",
        "import asyncio\nawait asyncio.sleep(0)\nx = 1",
        "from tqdm.auto import tqdm\nfor i in tqdm(range(3), leave=False):\n    x = 1",
        "import ipywidgets as w\n@w.interact(a=(0, 3))\ndef show(a): pass\nx = 1",
    ],
)
def test_what_jupyter_understands_does_no_harm(source: str) -> None:
    """Magics, shell lines, display, await, widgets, progress bars."""
    assert ran(source)["x"] == 1


@pytest.mark.parametrize("source", ["%%bash\necho x = 1", "%%html\n<b>", "%%writefile a.py\nx = 1", "%%javascript\nalert(1)"])
def test_cells_in_another_language_are_left_out(source: str) -> None:
    """They define nothing."""
    assert "x" not in ran(source)


@pytest.mark.parametrize(
    "source",
    ['s = """\n%d items\n!important\n"""', "x = (7\n % 4)", "y = [1\n, 2]  # why?", "def f(a, b):\n    return (a\n    % b)"],
)
def test_python_that_looks_like_a_magic_stays_as_it_is(source: str) -> None:
    """Only what does not parse is touched."""
    assert shell.without_magics(source) == source


PLOTS = """
import matplotlib.pyplot as plt
import matplotlib as mpl
from matplotlib.colors import ListedColormap
from mpl_toolkits.axes_grid1 import make_axes_locatable
plt.rcParams["figure.figsize"] = (4, 3)
fig, ax = plt.subplots()
ax.plot([1, 2], label="a"); ax.set(xlabel="t"); ax.legend()
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
left.imshow([[1]])
fig, axes = plt.subplots(2, 3, sharey=True)
for axis in axes.flat: axis.bar([1], [2])
axes[1, 2].set_title("x")
with plt.style.context("ggplot"):
    plt.figure(); plt.colorbar(); plt.tight_layout(); plt.savefig("x.png"); plt.show()
x = 1
"""


def test_plots_cost_nothing_and_need_no_matplotlib() -> None:
    """The usual ways to draw run through, and matplotlib itself is not loaded."""
    before = set(sys.modules)
    assert ran(PLOTS)["x"] == 1
    assert not {name for name in set(sys.modules) - before if name.startswith("matplotlib")}


def test_the_source_of_a_cell_can_be_inspected() -> None:
    """`inspect.getsource` and tracebacks show the student's lines."""
    namespace = ran("def f():\n    return 41 + 1")
    assert "41 + 1" in inspect.getsource(namespace["f"])  # type: ignore[arg-type]


def test_an_error_says_where_in_the_students_own_words() -> None:
    """Line, cell and text, and none of our frames."""
    one = shell.Shell("notebook")
    one.run("softmax", "def softmax(x):\n    return x / 0")
    with pytest.raises(ZeroDivisionError) as raised:
        one.run("cell 2", "softmax(1)")
    assert shell.where(raised.value) == "line 1 of `cell 2`: softmax(1)\nline 2 of `softmax`: return x / 0"
    one.run("deep", "def deep(n):\n    return deep(n - 1) if n else  1 /  n   # never reached\n")
    with pytest.raises(ZeroDivisionError) as again:
        one.run("cell 2", "deep(5)  # this calls it")
    assert shell.where(again.value) == "line 1 of `cell 2`: deep(5)\nline 2 of `deep`: return deep(n - 1) if n else 1 / n"
    with pytest.raises(SyntaxError) as broken:
        one.run("softmax", "def softmax(x:\n    return x")
    assert shell.where(broken.value).startswith("line 1 of `softmax`: def softmax(x:")


def test_notebooks_with_cells_of_one_name_keep_their_lines_apart() -> None:
    """The line of an error is the one that ran, whichever notebook was made ready last."""
    mine, other = InProcess(), InProcess()
    for link, source in ((mine, "def f():\n    return 1 / 0"), (other, "def f():\n    return 0")):
        link.ask({"id": 0, "verb": "cells", "cells": [["f", source, 5.0]]}, 5.0)
    asked = {"id": 1, "verb": "call", "target": "f", "path": [], "args": [], "kwargs": {}, "keep": False}
    assert mine.ask(asked, 5.0)["error"]["where"] == "line 2 of `f`: return 1 / 0"


def test_code_that_runs_too_long_is_interrupted_at_its_line() -> None:
    """Though it swallows every ordinary exception."""
    one = shell.Shell("notebook")
    began = time.monotonic()
    with pytest.raises(shell.TimeIsUp) as late, shell.time_limit(0.2):
        one.run("loop", "while True:\n    try:\n        pass\n    except Exception:\n        pass")
    assert time.monotonic() - began < 5
    assert "`loop`" in shell.where(late.value)


def test_a_dataclass_and_a_pickle_work_in_main() -> None:
    """As the module `__main__`, classes of the notebook are found where they say they are."""
    before = sys.modules["__main__"]
    try:
        one = shell.Shell("__main__")
        one.run("a", "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass C:\n    x: int = 1")
        one.run("b", "import pickle\ny = pickle.loads(pickle.dumps(C(3))).x")
        assert one.namespace["y"] == 3
    finally:
        sys.modules["__main__"] = before


def test_a_busy_machine_gets_more_patience() -> None:
    """Code that has not had its time of a core goes on; code that had it is stopped all the same."""
    with shell.time_limit(0.05, patience=1e6):
        time.sleep(0.3)
    with pytest.raises(shell.TimeIsUp), shell.time_limit(0.05, patience=1e6):
        shell.Shell("notebook").run("loop", "while True:\n    pass")
    with pytest.raises(shell.TimeIsUp), shell.time_limit(0.05, patience=2.0):
        time.sleep(60)


def test_an_import_is_let_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a module would stay behind; the code after it has its time, and no more than that."""
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.5)\ndone = True")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_to_import", raising=False)
    one = shell.Shell("notebook")
    with shell.time_limit(0.2):
        one.run("import", "from slow_to_import import done")
    assert one.namespace["done"]
    monkeypatch.delitem(sys.modules, "slow_to_import")
    with pytest.raises(shell.TimeIsUp) as late, shell.time_limit(0.2):
        one.run("loop", "import slow_to_import\nwhile True:\n    pass")
    assert "slow_to_import" in sys.modules
    assert "`loop`: while True:" in shell.where(late.value) or "`loop`: pass" in shell.where(late.value)
    monkeypatch.delitem(sys.modules, "slow_to_import")


def test_importing_for_ever_is_no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What imports again and again has a minute more, and not for ever."""
    monkeypatch.setattr(shell, "IMPORT_SECONDS", 0.5)
    began = time.monotonic()
    endless = "while True:\n    try:\n        import nowhere_at_all\n    except ImportError:\n        pass"
    with pytest.raises(shell.TimeIsUp), shell.time_limit(0.2):
        shell.Shell("notebook").run("loop", endless)
    assert 0.2 <= time.monotonic() - began < 5


def test_an_interruption_between_two_lines_has_a_place_too() -> None:
    """A jump back to the head of a loop belongs to no line; the function is named by its first one."""
    source = "def search(items):\n    for item in items:\n        if item:\n            if item > 1:\n                found = item\n"
    search = ran(source + "    raise ValueError")["search"]
    assert isinstance(search, types.FunctionType)
    between = [start for start, _, line in search.__code__.co_lines() if line is None]
    assert between, "this Python gives every instruction a line"
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - only its frame is wanted
        search([])
    frame = caught.value.__traceback__.tb_next.tb_frame  # type: ignore[union-attr]
    error = shell.TimeIsUp("still running").with_traceback(types.TracebackType(None, frame, between[0], -1))
    assert shell.where(error) == "line 1 of `cell 1`: def search(items):"
