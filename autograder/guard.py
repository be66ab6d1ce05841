"""Inside the worker: watches a student's calls for operations that are not allowed, whatever name they were found by.

Reading the source comes first (shortcuts.py); this sees what only running shows, such as a name that was computed. It
is a claim like all that a worker says: native code, or code that looks for this object, gets past it. It can take away
points and never give any. Only what a cell's own line calls counts, not what PyTorch calls inside another operation.
"""

from __future__ import annotations

import linecache
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from types import FrameType
from typing import Any

from torch.overrides import TorchFunctionMode

# A function of torch's that is written in Python stands between its caller and us.
_BETWEEN = ("/torch/nn/functional.py", "/torch/functional.py", "/torch/overrides.py", "/torch/_tensor.py")
_CELL = "<cell "
# Calls of one function that are watched. Watching costs a sixth of a call's time, and the first ones tell.
_WATCHED = 20


class Guard(TorchFunctionMode):
    """Within, calls of torch's operations are noted where they stand in the cell of a task that may not use them."""

    def __init__(self, not_allowed: Mapping[str, Sequence[str]]) -> None:
        """`not_allowed`: for each task the names, or patterns of names."""
        super().__init__()
        self.not_allowed = not_allowed
        self.tasks: dict[str, tuple[str, ...]] = {}
        self.seen: dict[str, list[str]] = {}
        self.calls: Counter[str] = Counter()

    def watches(self, target: str) -> bool:
        """Whether one more call of this function is to be watched."""
        self.calls[target] += 1
        return self.calls[target] <= _WATCHED

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation as it would have been."""
        del types
        name = getattr(func, "__name__", "")
        if name not in self.tasks:
            self.tasks[name] = tuple(
                task for task, banned in self.not_allowed.items() if any(fnmatchcase(name, one) for one in banned)
            )
        if self.tasks[name]:
            self._note(name, sys._getframe(1))  # noqa: SLF001 - who calls is all that is asked; nothing is changed
        return func(*args, **(kwargs or {}))

    def _note(self, name: str, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code.co_filename.endswith(_BETWEEN):
            frame = frame.f_back
        if frame is None or not frame.f_code.co_filename.startswith(_CELL):
            return
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()[:160]
        while frame is not None:  # a helper's line counts for the task that called it
            task = frame.f_code.co_filename.removeprefix(_CELL).removesuffix(">")
            if task in self.not_allowed:
                if task in self.tasks[name]:
                    self.seen.setdefault(task, [name, line])
                return
            frame = frame.f_back
