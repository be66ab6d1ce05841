"""Runs notebook cells as JupyterLab would, without a kernel: magics and `display` do no harm, plots cost nothing.

Works where IPython and matplotlib are not installed. Beside wire.py and what that needs the only part of ours that a
worker loads.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import linecache
import re
import signal
import sys
import threading
import time
import tokenize
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# Drawing and showing are for people: these packages, and what lies in them, are replaced by things that do nothing.
SHOWN_ONLY = ("matplotlib", "mpl_toolkits", "seaborn", "IPython", "ipywidgets", "plotly")
# Progress bars are replaced only where the machine lacks them.
MAY_BE_MISSING = ("tqdm",)
# Cell magics whose body is Python; a cell under any other `%%` is not run.
PYTHON_CELL_MAGICS = ("time", "timeit", "capture", "prun", "debug")
IMPORT_SECONDS = 60.0  # so much longer may go on what imports, again and again
# Possessive (`+` after a repetition): a line of spaces must not be tried in every way that it can be divided.
LINE_MAGIC = re.compile(r"^(\s*+)(?:[%!?].*|(?:[\w.,\s]++=\s*+)?[%!]\w.*|[\w.]++\?{1,2}\s*+)$")


class TimeIsUp(BaseException):
    """The student's code ran past its time. A BaseException, so that `except Exception` does not swallow it."""


class Inert:
    """Answers every use with itself: a figure nobody looks at."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """The same again."""
        return self

    def __getitem__(self, key: Any) -> Any:
        return self

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def __iter__(self) -> Iterator[Any]:
        return iter([self, self])  # `line, = plot()` does not work, `fig, ax = figure()` does

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def __float__(self) -> float:
        return 0.0

    def __int__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return True

    def _self(self, *others: Any) -> Any:
        del others
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _self


INERT = Inert()


def _subplots(nrows: int = 1, ncols: int = 1, *, squeeze: bool = True, **kwargs: Any) -> tuple[Any, Any]:
    del kwargs
    if squeeze and nrows == ncols == 1:
        return INERT, INERT
    import numpy as np  # noqa: PLC0415 - only where a student draws several axes

    axes = np.empty((nrows, ncols), dtype=object)
    axes[...] = INERT
    return INERT, axes.squeeze() if squeeze else axes


class _InertModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        if name == "subplots":
            return _subplots
        if name in ("tqdm", "trange"):
            return _no_bar if name == "tqdm" else lambda *args, **_: range(*args)
        return INERT


class _NoBar:
    """Stands in for `tqdm` where it is not installed: iterates, and shows nothing."""

    def __init__(self, items: Any = None, **kwargs: Any) -> None:
        self.items = range(kwargs.get("total") or 0) if items is None else items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_kwargs: None


def _no_bar(items: Any = None, *args: Any, **kwargs: Any) -> Any:
    del args
    return _NoBar(items, **kwargs)


class _InertFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if name.partition(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def loaded(self) -> list[str]:
        """The names of those that are loaded, and of what belongs to them."""
        near = [name for name in sys.modules if name.startswith(self.names)]
        return [name for name in near if name.partition(".")[0] in self.names]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _InertModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None: ...


@contextlib.contextmanager
def nothing_is_drawn() -> Iterator[None]:
    """Within, `import matplotlib` and its like give modules that do nothing; afterwards all is as it was."""
    finder = _InertFinder([*SHOWN_ONLY, *_missing()])
    hidden = {name: sys.modules.pop(name) for name in finder.loaded()}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.loaded():
            del sys.modules[name]
        sys.modules.update(hidden)


@functools.cache
def _missing() -> list[str]:
    return [name for name in MAY_BE_MISSING if importlib.util.find_spec(name) is None]


@contextlib.contextmanager
def time_limit(seconds: float, *, patience: float = 1.0) -> Iterator[None]:
    """Within, the running code is interrupted after so many seconds of wall-clock time.

    patience: up to so many times longer, as long as this process has had less than `seconds` of a core: on a machine
    that is busy with other things. An import is let end, for up to a minute, and time counts from there: cut short,
    torch's own would leave it broken for as long as the process lives.

    Kinder than killing the worker: the student learns the line, and the rest goes on. Code that ignores it is
    killed from outside. Without effect off the main thread, where signals cannot be handled.

    Raises:
        TimeIsUp: from the line that was running.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    began, had = time.monotonic(), time.process_time()
    last = began + seconds * patience + IMPORT_SECONDS

    def stop(_number: int, frame: types.FrameType | None) -> None:
        nonlocal began, had
        if time.monotonic() < last and _imports(frame):
            began, had = time.monotonic(), time.process_time()
            return
        if time.process_time() - had < seconds and time.monotonic() - began < seconds * patience:
            return
        message = f"still running after {seconds:g} s"
        raise TimeIsUp(message)

    before = signal.signal(signal.SIGALRM, stop)
    # Again and again: raised within a garbage collector's callback it would be printed and lost.
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _imports(frame: types.FrameType | None) -> bool:
    """Whether an import has begun there and not ended."""
    return any(one.f_code.co_filename == "<frozen importlib._bootstrap>" for one, _ in traceback.walk_stack(frame))


@functools.lru_cache(maxsize=256)
def _compiled(source: str, filename: str) -> types.CodeType:
    """Remembered: where many notebooks are run in one process, most of their cells are the same."""
    code: types.CodeType = compile(source, filename, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code


class Shell:
    """One notebook's namespace, and the running of its cells."""

    def __init__(self, module_name: str = "__main__", on_display: Callable[..., None] | None = None) -> None:
        """A fresh namespace. As `__main__` it takes that place in `sys.modules`, so classes in it can be pickled."""
        module = types.ModuleType(module_name)
        self.namespace = module.__dict__
        self.namespace.update(__builtins__=__builtins__, display=on_display or INERT, get_ipython=lambda: INERT)
        self.texts: dict[str, tuple[int, None, list[str], str]] = {}  # as `linecache` holds them
        if module_name == "__main__":
            sys.modules["__main__"] = module

    def run(self, name: str, source: str) -> None:
        """Run one cell. Its text stands under `<cell name>` for tracebacks and `inspect.getsource`.

        Raises:
            BaseException: whatever the student's code raises, `SystemExit` and `TimeIsUp` among it.
        """
        source = without_magics(source)
        filename = f"<cell {name}>"
        self.texts[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        self.take_turn()
        code = _compiled(source, filename)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(code, self.namespace))  # noqa: S307 - running the notebook is what this is for
        else:
            exec(code, self.namespace)  # noqa: S102 - running the notebook is what this is for

    def take_turn(self) -> None:
        """Put its lines where tracebacks look: other notebooks in this process have cells of these names, too."""
        linecache.cache.update(self.texts)


def without_magics(source: str) -> str:
    """The cell as plain Python: magics, shell lines and `name?` are left out. Cells that are Python already stay.

    Only what fails to parse is touched: a line that starts with `%` may also continue an expression.
    """
    if source.lstrip().startswith("%%"):
        head, _, body = source.lstrip().partition("\n")
        return body if head[2:].split(" ")[0].strip() in PYTHON_CELL_MAGICS else ""
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        lines = [LINE_MAGIC.sub(r"\1pass", line) for line in source.split("\n")]
        return "\n".join(lines)
    return source


def where(error: BaseException) -> str:
    """The student's own lines that led to the error, innermost last: "line 4 of `softmax`: return x / 0"."""
    lines: list[str] = []
    if isinstance(error, SyntaxError) and error.filename and error.filename.startswith("<cell "):
        return f"line {error.lineno} of `{error.filename[6:-1]}`: {(error.text or '').strip()[:120]}"
    trace = error.__traceback__
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if filename.startswith("<cell "):
            # An interruption between two lines, as in the jump back to the head of a loop, has none.
            line = trace.tb_lineno or trace.tb_frame.f_code.co_firstlineno
            told = f"line {line} of `{filename[6:-1]}`: {_bare(linecache.getline(filename, line))}"
            lines += [told] if lines[-1:] != [told] else []  # a comprehension and a recursion come again and again
        trace = trace.tb_next
    return "\n".join(lines[-3:])


def _bare(line: str) -> str:
    """A line of code without the comment at its end and the spaces that align it."""
    code = line.strip()
    with contextlib.suppress(tokenize.TokenError, SyntaxError):  # a line is not always a whole statement
        for token in tokenize.generate_tokens(iter([code]).__next__):
            if token.type == tokenize.COMMENT and token.start[1]:
                code = code[: token.start[1]].rstrip()
    return (code if {"'", '"'} & set(code) else " ".join(code.split()))[:120]
