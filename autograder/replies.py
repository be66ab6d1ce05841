"""What a worker's replies mean. A student's native code may answer anything: nothing in them is taken for granted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from autograder.errors import Exhausted, StudentError, WorkerLost

ENDLESS = "Does every loop in it come to an end, and is no work done over and over again?"
NO_ANSWER = "sent something that is no answer"


@dataclass(frozen=True)
class Outcome:
    """A call's value and what else it did. Lists follow the order of the tensors among the arguments."""

    value: Any
    gradients: list[Any] = field(default_factory=list)
    parameter_gradients: dict[str, Any] = field(default_factory=dict)
    inputs_after: list[Any] = field(default_factory=list)
    random_used: bool = False
    requires_grad: bool = False


def as_outcome(reply: Any) -> Outcome | None:
    """The reply to a call, if it has the form of one."""
    if not isinstance(reply, dict):
        return None
    parts = {name: reply[name] for name in Outcome.__dataclass_fields__ if name in reply}
    outcome = Outcome(**{"value": None, **parts})
    forms = (
        (outcome.gradients, list), (outcome.parameter_gradients, dict), (outcome.inputs_after, list),
        (outcome.random_used, bool), (outcome.requires_grad, bool),
    )  # fmt: skip
    return outcome if all(isinstance(part, form) for part, form in forms) else None


def as_error(error: Any, call: str) -> BaseException:
    """What the student's code raised in a call, as it is raised here."""
    if not isinstance(error, dict):
        return WorkerLost(NO_ANSWER)
    try:
        kinds = tuple(str(kind)[:80] for kind in error["kinds"])
        text, where = str(error["text"])[:1000], str(error["where"])[:1000]
    except (KeyError, TypeError):
        return WorkerLost(NO_ANSWER)
    kind = kinds[0] if kinds else "an exception"
    if kind == "TimeIsUp":
        return Exhausted(f"was {text}", kind=kind, where=where, advice=ENDLESS)
    if kind == "MemoryError" or "can't allocate memory" in text:
        reason = "asked for more memory than there is"
        return Exhausted(reason, kind="MemoryError", where=where, advice="Does a list or tensor grow without end?")
    return StudentError(kind, text, kinds=kinds, where=where, call=call)
