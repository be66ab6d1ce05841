"""The failing example: remembered while Hypothesis looks for a smaller one, then written for the student."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import torch

from autograder.compare import short
from autograder.errors import Exhausted, StudentError, SubmissionError, WorkerLost
from autograder.student import Call, Kept, Student
from autograder.values import Generator, Handle

# After its first failure a check may run so many times more to find a smaller example. A count, not a time, so that
# the same notebook gives the same report on a slow machine.
SHRINK_RUNS = 150
# A tensor of more is shown by its shape.
MOST_NUMBERS = 12
MOST_LETTERS, A_LINE = 200, 75
# A class whose name is no longer gives its objects that name, a longer one its last word: CharTokenizer, tokenizer.
SHORT_NAME = 6
# A temporary folder, or a file's name, as `tempfile` makes them: another at each run.
FRESH_FOLDER, FRESH_NAME = re.compile(r"(?:/[\w.+-]+)*/tmp[a-z0-9_]{8}/"), re.compile(r"\btmp[a-z0-9_]{8}\b")
# Methods that a check calls around the call that it is about.
HOUSEKEEPING = ("state_dict", "load_state_dict", "parameters", "double", "to", "eval", "train", "zero_grad", "detach")


@dataclass
class Recorder:
    """What the last failing example raised, and the calls it made: known even where Hypothesis ends otherwise."""

    student: Student
    most: int = SHRINK_RUNS
    seed: int = 0
    runs: int = 0
    failure: BaseException | None = None
    calls: list[Call] = field(default_factory=list)
    runs_since: int = 0

    def run(self, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Try one example. After the first failure, and `most` more, examples are let pass."""
        if self.failure is not None:
            self.runs_since += 1
            if self.runs_since > self.most:
                return
        self.runs += 1
        self.student.begin(self.seed + self.runs)
        try:
            inner(*args, **kwargs)
        except (SubmissionError, WorkerLost) as error:
            self.failure, self.calls = error, list(self.student.calls)
            raise
        except hypothesis.errors.HypothesisException:
            raise
        except Exception as error:
            self.failure, self.calls = error, []
            raise


def explained(failure: SubmissionError | WorkerLost) -> str:
    """A failure in the student's words: for an exception of theirs, with the lines of their own code."""
    return _lasting(_explained(failure))


def _lasting(text: str) -> str:
    """Without names that are others at the next run."""
    return FRESH_NAME.sub("tmp...", FRESH_FOLDER.sub("", text))


def _explained(failure: SubmissionError | WorkerLost) -> str:
    if isinstance(failure, Exhausted):
        return f"Your code {failure.reason}. {failure.advice}\n{failure.where}".rstrip()
    if isinstance(failure, WorkerLost):
        return f"Your code {failure.reason}."
    if isinstance(failure, StudentError) and failure.where:
        return f"{failure}\n{failure.where}"
    return str(failure)


def shown(calls: list[Call]) -> str:
    """The last call of a failing example as lines that a student can paste, with shapes and what their code gave.

    What it needs is made first. A tensor too long to read is given by its shape, with any numbers in it.
    """
    if not calls:
        return ""
    last = next((place for place in reversed(range(len(calls))) if not _housekeeping(calls[place])), len(calls) - 1)
    call, made = calls[last], _Made(calls[: last + 1])  # what came after it has not happened yet
    owner = made.name(call.target) if call.target else ""
    named = {f"x{number}": value for number, value in enumerate(call.args, start=1)} | call.kwargs
    tensors = {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
    words = {name: name if name in tensors else made.word(value) for name, value in named.items()}
    lines = [*made.lines, *(f"{name} = {_pasted(value)}" for name, value in tensors.items())]
    arguments = [f"{name}={word}" if name in call.kwargs else word for name, word in words.items()]
    itself = call.target is not None and call.name == call.target.type
    called = owner if itself else f"{owner}.{call.name}" if owner else call.name
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in tensors.items())
    lines.append(f"{called}({', '.join(arguments)})" + (f"  # {shapes}" if shapes else ""))
    if call.result is not None and not isinstance(call.result, Handle):
        lines.append(f"# yours: {_told(call.result)}")
    return _lasting("\n".join(lines[:12]))


def _housekeeping(call: Call) -> bool:
    """Whether a check makes this call around the one that it is about: always a method."""
    return call.target is not None and call.name in HOUSEKEEPING


class _Made:
    """The objects that a call needs, and the lines that make them."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.origins = {call.result.id: call for call in reversed(calls) if isinstance(call.result, Handle)}
        self.names: dict[int, str] = {}
        self.lines: list[str] = []

    def name(self, handle: Handle) -> str:
        """What the object is called from here on; a line that makes it is added."""
        call = self.origins.get(handle.id)
        if handle.id in self.names or call is None:
            return self.names.get(handle.id, f"<your {handle.type}>")
        arguments = [*map(self.word, call.args), *(f"{key}={self.word(value)}" for key, value in call.kwargs.items())]
        made = f"{call.name}({', '.join(arguments)})"
        if call.target is not None:
            return f"{self.name(call.target)}.{made}"
        parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", handle.type)
        name = (parts[-1] if parts and len(handle.type) > SHORT_NAME else handle.type).lower()
        name += str(len(self.names) + 1) if name in self.names.values() else ""
        self.lines.append(f"{name} = {made}{self._brought_to(handle)}")
        self.names[handle.id] = name
        return name

    def _brought_to(self, handle: Handle) -> str:
        """The calls that gave the object its number type, device and mode, each the last of its kind."""
        mine = [one for one in self.calls if one.target == handle]
        last: dict[str, str] = {}
        for one in mine:
            kind = {"eval": "mode", "train": "mode", "double": "type", "to": "type"}.get(one.name)
            if kind is not None:
                last.pop(kind, None)
                last[kind] = f".{one.name}({', '.join(map(self.word, one.args))})"
        loaded = any(one.name == "load_state_dict" for one in mine)
        return "".join(last.values()) + ("  # with weights of the test's" if loaded else "")

    def word(self, value: Any) -> str:
        """An argument that has no line of its own."""
        return _cut(self._word(value), 120)

    def _word(self, value: Any) -> str:
        if isinstance(value, Kept):
            return self.name(value.handle)
        if isinstance(value, Generator):
            return f"torch.Generator().manual_seed({value.seed})"
        if isinstance(value, torch.Tensor):
            return _pasted(value)
        if isinstance(value, list | tuple) and _holds(value, (Kept, Generator, torch.Tensor)):
            inside = ", ".join(map(self._word, value))
            return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
        if isinstance(value, dict) and _holds(value, (Kept, Generator, torch.Tensor)):
            return "{" + ", ".join(f"{key!r}: {self._word(item)}" for key, item in value.items()) + "}"
        return repr(value)


def _holds(value: Any, kinds: tuple[type, ...]) -> bool:
    """Whether a container holds one of these, however deep."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(isinstance(item, kinds) or _holds(item, kinds) for item in items)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _pasted(value: torch.Tensor) -> str:
    """Python for a tensor."""
    kind = "" if value.dtype in (torch.float32, torch.int64, torch.bool) else f", dtype={value.dtype}"
    shape = tuple(value.shape)
    if value.device.type == "meta":
        return f"torch.empty({shape}{kind}, device='meta')"
    if value.numel() <= MOST_NUMBERS:
        return f"torch.tensor({_numbers(value)}{kind})"
    if value.dtype is torch.bool:
        return f"torch.rand({shape}) < 0.5"
    if value.is_floating_point() or value.is_complex():
        odd = [(name, int(found.sum())) for name, found in (("-inf", value == -math.inf), ("inf", value == math.inf))]
        held = " and ".join(f"{name} in {count} places" for name, count in odd if count)
        return f"torch.randn({shape}{kind})" + (f"  # with {held}" if held else "")
    return f"torch.randint({int(value.min())}, {int(value.max()) + 1}, {shape}{kind})"


def _told(value: Any) -> str:
    """A result in words and numbers."""
    if isinstance(value, dict) and _holds(value, (torch.Tensor,)):
        return f"a dictionary with the keys {_cut(', '.join(map(str, value)), 120)}"
    if isinstance(value, list | tuple) and _holds(value, (torch.Tensor,)):
        return _cut("; ".join(map(_told, value)), MOST_LETTERS)
    if isinstance(value, tuple) and len(repr(value)) > MOST_LETTERS:
        return f"({', '.join(short(item, A_LINE // len(value)) for item in value)})"
    if not isinstance(value, torch.Tensor):
        return short(value, MOST_LETTERS)
    shape = f"shape {tuple(value.shape)}"
    if value.device.type == "meta" or value.numel() > MOST_NUMBERS:
        return f"{shape}, {value.dtype}"
    return f"{shape}, {_numbers(value)}" if value.dim() else _numbers(value)


def _numbers(value: torch.Tensor) -> str:
    return re.sub(r"\b(inf|nan)\b", r"math.\1", repr(_rounded(value.tolist())))


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
