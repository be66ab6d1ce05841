"""The failing example: remembered while Hypothesis looks for a smaller one, then written for the student."""

from __future__ import annotations

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
    """The calls of a failing example as lines that a student can paste, with what their code gave."""
    if not calls:
        return ""
    call = calls[-1]
    lines: list[str] = []
    arguments = [_argument(lines, f"x{number}", value) for number, value in enumerate(call.args, start=1)]
    arguments += [f"{name}={_argument(lines, name, value)}" for name, value in call.kwargs.items()]
    lines.append(f"{call.name}({', '.join(arguments)})")
    if call.result is not None:
        lines.append(f"# yours: {_shown_value(call.result)}")
    return "\n".join(lines[:12])


def _argument(lines: list[str], name: str, value: Any) -> str:
    if isinstance(value, torch.Tensor):
        lines.append(f"{name} = {_shown_value(value)}")
        return name
    handle = getattr(value, "handle", None)
    return f"<your {handle.type}>" if handle is not None else short(value)


def _shown_value(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return short(value, 200)
    shape = f"# shape {tuple(value.shape)}"
    if value.device.type == "meta" or value.numel() > 24:  # noqa: PLR2004 - more than a line holds
        return f"torch.empty({list(value.shape)}, dtype={value.dtype}, device={value.device.type!r})  {shape}"
    kind = "" if value.dtype in (torch.float32, torch.int64, torch.bool) else f", dtype={value.dtype}"
    return f"torch.tensor({_rounded(value.tolist())}{kind})  {shape}"


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
