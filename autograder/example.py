"""The failing example: remembered while Hypothesis looks for a smaller one, then written for the student."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import torch

from autograder.compare import short
from autograder.errors import Exhausted, StudentError, SubmissionError, WorkerLost
from autograder.student import Call, Student

# After its first failure a check may run so many times more to find a smaller example. A count, not a time, so that
# the same notebook gives the same report on a slow machine.
SHRINK_RUNS = 150
# A tensor of more is shown by its shape.
MOST_NUMBERS = 24


@dataclass
class Recorder:
    """What the last failing example raised, and the calls it made: known even where Hypothesis ends otherwise."""

    student: Student
    most: int = SHRINK_RUNS
    failure: BaseException | None = None
    calls: list[Call] = field(default_factory=list)
    runs_since: int = 0

    def run(self, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Try one example. After the first failure, and `most` more, examples are let pass."""
        if self.failure is not None:
            self.runs_since += 1
            if self.runs_since > self.most:
                return
        self.student.begin()
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
    if isinstance(failure, Exhausted):
        return f"Your code {failure.reason}. {failure.advice}\n{failure.where}".rstrip()
    if isinstance(failure, WorkerLost):
        return f"Your code {failure.reason}."
    if isinstance(failure, StudentError) and failure.where:
        return f"{failure}\n{failure.where}"
    return str(failure)


def shown(calls: list[Call]) -> str:
    """The last call of a failing example as lines that a student can paste, with shapes and what their code gave.

    A tensor too long to read is given by its shape, with any numbers in it.
    """
    if not calls:
        return ""
    call = calls[-1]
    named = {f"x{number}": value for number, value in enumerate(call.args, start=1)} | call.kwargs
    tensors = {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
    lines = [f"{name} = {_pasted(value)}" for name, value in tensors.items()]
    words = {name: name if name in tensors else _plain(value) for name, value in named.items()}
    arguments = [f"{name}={word}" if name in call.kwargs else word for name, word in words.items()]
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in tensors.items())
    lines.append(f"{call.name}({', '.join(arguments)})" + (f"  # {shapes}" if shapes else ""))
    if call.result is not None:
        lines.append(f"# yours: {_told(call.result)}")
    return "\n".join(lines[:12])


def _plain(value: Any) -> str:
    handle = getattr(value, "handle", None)
    return f"<your {handle.type}>" if handle is not None else short(value)


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
        return f"torch.randn({shape}{kind})"
    return f"torch.randint({int(value.min())}, {int(value.max()) + 1}, {shape}{kind})"


def _told(value: Any) -> str:
    """A result in words and numbers."""
    if not isinstance(value, torch.Tensor):
        return short(value, 200)
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
