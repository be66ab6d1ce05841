"""The trusted client: everything a hidden test can ask of a notebook, and the one place where its answers arrive.

    student.softmax(x, dim=0)                      call a function, get plain values back
    student.observe("softmax", x, gradient="sum")  the same, with gradients and side effects
    layer = student.new("CausalSelfAttention", 12, 3); layer(x)

The reference stands behind the same interface, so a test asks both the same; notebook_link.py leads to either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any, Literal, TypeVar

import torch

from autograder.errors import StudentError, WorkerLost
from autograder.notebook_link import Link
from autograder.replies import NO_ANSWER, Outcome, as_error, as_outcome
from autograder.values import SIMPLE, Generator, Handle, Lazy

Form = TypeVar("Form")

CALL_SECONDS = 10.0
# What `observe` takes beside the callee's own arguments.
OPTIONS = ("gradient", "randomness", "inputs", "strict_device", "seed")
# So many calls of `each` are one request, and share the time of one call.
TOGETHER = 20


@dataclass(frozen=True)
class Call:
    """One call as it was made, or an attribute set or read, for showing the student."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any = None
    target: Handle | None = None  # the object that has this method, or that is called itself
    gradients: list[Any] | None = None  # those of its tensors, where they were asked for
    kind: Literal["call", "set", "read"] = "call"  # an attribute has the value as its argument, or as the result


class Student:
    """Asks one notebook. Attributes that it does not have itself are the notebook's functions."""

    def __init__(
        self, link: Link, prepare: Callable[[Link], None] = lambda _link: None, *, seconds: float = CALL_SECONDS
    ) -> None:
        """`prepare` runs the notebook's cells in a fresh worker, again after each loss. A call has `seconds`."""
        self._link, self._prepare, self.seconds = link, prepare, seconds
        self._ready, self._holds = False, False  # its cells have run; it holds something that can be forgotten
        self._count, self._lazies = 0, 0
        self._fresh: int | None = None  # the seed that the next request brings
        self.calls: list[Call] = []
        self.asked: set[str] = set()  # the names of the notebook that were asked for

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return Callee(self, name, ())

    def observe(self, name: str, *args: Any, **kwargs: Any) -> Outcome:
        """Call a function of the notebook and see what it does beside its value; see `_observe` for the options."""
        return self._observe(name, (), args, kwargs)

    def new(self, name: str, *args: Any, **kwargs: Any) -> Kept:
        """Build an object of the notebook's class `name` and keep it in the worker; `then` as in `keep`."""
        return self.keep(name, *args, **kwargs)

    def keep(self, name: str, *args: Any, then: Sequence[str | tuple[Any, ...]] = (), **kwargs: Any) -> Kept:
        """Call a function and keep its result in the worker; `name` may be dotted: "torch.nn.Parameter".

        then: methods to call of the result in the same request, such as "eval", or ("load_state_dict", weights).
        """
        first, *path = name.split(".")
        return Kept(self, self._observe(first, path, args, kwargs, keep=True, then=then).value)

    def generator(self, seed: int, device: str = "cpu") -> Generator:
        """As an argument: a fresh `torch.Generator` with this seed."""
        return Generator(seed, device)

    def lazy(self, items: Sequence[object]) -> Lazy:
        """As an argument: an iterator that counts what is pulled from it."""
        self._lazies, self._holds = self._lazies + 1, True
        return Lazy(self._lazies, tuple(items))

    def pulled(self, lazy: Lazy) -> int:
        """How many items have been pulled from a `lazy` so far."""
        return self._typed(int, self._ask("pulled", object=lazy.id))

    def next(self, kept: Kept) -> Any:
        """The next item of an iterator kept in the worker.

        Raises:
            StudentError: it raised; of kind StopIteration at its end.
        """
        return self._ask("next", object=kept.handle.id)

    def set(self, kept: Kept, name: str, value: Any) -> None:
        """Set an attribute of an object kept in the worker."""
        self.calls.append(Call(name, (value,), {}, None, kept.handle, kind="set"))
        self._ask("set", target=kept.handle, path=[], name=name, value=_unwrapped(value))

    def files(self) -> list[str]:
        """The files in the worker's scratch folder, as relative paths."""
        return self._typed(list, self._ask("files"))

    def shortcuts(self) -> dict[str, tuple[str, str]]:
        """For each task the operation that is not allowed and the line that called it, as far as the worker tells."""
        try:
            seen = self._ask("seen") if self._ready else {}
            return {str(task): (str(name)[:80], str(line)[:160]) for task, (name, line) in seen.items()}
        except (WorkerLost, StudentError, AttributeError, TypeError, ValueError):
            return {}

    def forget(self) -> None:
        """Let go of all objects kept, and of the record of calls."""
        self.calls, self._lazies = [], 0
        if self._ready and self._holds:
            self._ask("forget")
        self._holds = False

    @property
    def cpu_seconds(self) -> float:
        """The processor time that the notebook has used: what other programs do on the machine does not count."""
        return self._link.cpu_seconds()

    def begin(self, seed: int = 0) -> None:
        """A new example starts: its calls are recorded from here, and the first of them seeds the random numbers.

        So what a check finds does not hang on what was asked before it.
        """
        self.calls, self._fresh = [], seed

    def _observe(
        self, target: Any, path: Sequence[str], args: Sequence[Any], kwargs: dict[str, Any], *,
        keep: bool = False, then: Sequence[str | tuple[Any, ...]] = (),
    ) -> Outcome:  # fmt: skip
        """One call. The options are among `kwargs`, and taken out of them.

        gradient: the cotangent (a tensor shaped as the value, or "sum" for ones): gradients of tensors and parameters.
        randomness: report whether the global random state changed.
        inputs: return the arguments as they are after the call.
        strict_device: refuse operations on tensors of two devices.
        seed: seed the global random state before.
        """
        options = {name: kwargs.pop(name) for name in OPTIONS if name in kwargs}
        methods = [(method,) if isinstance(method, str) else method for method in then]
        options |= {"then": _unwrapped(methods)} if methods else {}
        owner, shown = self._asked_for(target, path)
        self.calls.append(Call(shown, tuple(args), dict(kwargs), None, owner))
        reply = self._ask(
            "call", target=target, path=list(path), args=[_unwrapped(item) for item in args],
            kwargs={name: _unwrapped(item) for name, item in kwargs.items()}, keep=keep, **options,
        )  # fmt: skip
        outcome = self._typed(Outcome, as_outcome(reply))
        if keep:
            self._typed(Handle, outcome.value)
        gradients = outcome.gradients if options.get("gradient") is not None else None
        self.calls[-1] = replace(self.calls[-1], result=outcome.value, gradients=gradients)
        self.calls += [Call(name, tuple(rest), {}, None, outcome.value) for name, *rest in methods]
        return outcome

    def _asked_for(self, target: Any, path: Sequence[str]) -> tuple[Handle | None, str]:
        """The object whose method is called, if it is one, and what the call is called."""
        if isinstance(target, str) and not path:  # else it is a library's
            self.asked.add(target)
        owner = target if isinstance(target, Handle) else None
        return owner, ".".join(path if owner and path else [target.type] if owner else [target, *path])

    def _each(self, target: Any, path: Sequence[str], arguments: Sequence[Any]) -> Iterator[Any]:
        """One call for each argument, asked several at once and told one after the other."""
        owner, shown = self._asked_for(target, path)
        for start in range(0, len(arguments), TOGETHER):
            some = arguments[start : start + TOGETHER]
            self.calls.append(Call(shown, (some[0],), {}, None, owner))  # all there is to show where nothing comes back
            reply = self._ask("each", target=target, path=list(path), arguments=_unwrapped(some))
            self.calls.pop()
            for argument, one in zip(some, chain(self._typed(list, reply), repeat(None)), strict=False):
                self.calls.append(Call(shown, (argument,), {}, None, owner))
                told = self._typed(dict, one)
                if "error" in told:
                    raise as_error(told["error"], shown)
                self.calls[-1] = replace(self.calls[-1], result=told.get("value"))
                yield told.get("value")

    def _typed(self, form: type[Form], reply: Any) -> Form:
        """The reply, if it is what the worker sends: a student's native code may answer anything."""
        if isinstance(reply, form):
            return reply
        self._link.reset()
        self._ready = False
        raise WorkerLost(NO_ANSWER)

    def _ask(self, verb: str, **fields: Any) -> Any:
        if not self._ready:
            self._ready = True
            self._prepare(self._link)
        self._count += 1
        self._holds = self._holds or fields.get("keep", False)
        request = {"id": self._count, "verb": verb, "limit": self.seconds, **fields}
        if self._fresh is not None:
            request["fresh"], self._fresh = self._fresh, None
        try:
            reply = self._link.ask(request, self.seconds)
        except WorkerLost:
            self._ready = False
            raise
        if "error" in reply:
            last = next((call.name for call in reversed(self.calls) if call.kind == "call"), "")
            raise as_error(reply["error"], last)
        return reply.get("value")


def _unwrapped(value: Any) -> Any:
    if isinstance(value, Kept):
        return value.handle
    if isinstance(value, list | tuple):
        return value if SIMPLE.issuperset(map(type, value)) else type(value)(map(_unwrapped, value))
    if isinstance(value, dict):
        return {key: _unwrapped(item) for key, item in value.items()}
    return value.detach() if isinstance(value, torch.Tensor) else value


class Callee:
    """A function or a method of the notebook, callable from here."""

    def __init__(self, student: Student, target: Any, path: tuple[str, ...]) -> None:
        """`target`: a name in the notebook or a handle; `path`: attributes from there."""
        self._student, self._target, self._path = student, target, path

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Its value, as `observe` gives it."""
        return self.observe(*args, **kwargs).value

    def observe(self, *args: Any, **kwargs: Any) -> Outcome:
        """Call it, and see what it does beside its value; options as in `Student._observe`."""
        return self._student._observe(self._target, self._path, args, kwargs)  # noqa: SLF001 - one class, in two

    def each(self, arguments: Sequence[Any]) -> Iterator[Any]:
        """Its value for each argument, where there are hundreds: as single calls they take several times as long.

        A value that a later call changes comes as it is then.
        """
        return self._student._each(self._target, self._path, arguments)  # noqa: SLF001


class Kept:
    """An object that lives in the worker."""

    def __init__(self, student: Student, handle: Handle) -> None:
        """`handle` names it there."""
        self._student, self.handle = student, handle

    def __repr__(self) -> str:
        """As a student may read it in a message."""
        return f"<your {self.handle.type}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Its value, as `observe` gives it."""
        return self.observe(*args, **kwargs).value

    def __getattr__(self, name: str) -> Callee:
        if name.startswith("_"):
            raise AttributeError(name)
        return Callee(self._student, self.handle, (name,))

    def observe(self, *args: Any, **kwargs: Any) -> Outcome:
        """Call it, and see what it does beside its value; options as in `Student._observe`."""
        return self._student._observe(self.handle, (), args, kwargs)  # noqa: SLF001

    def get(self, path: str) -> Any:
        """The value of an attribute; `path` may be dotted."""
        value = self._student._ask("get", target=self.handle, path=path.split("."), keep=False)  # noqa: SLF001
        self._student.calls.append(Call(path, (), {}, value, self.handle, kind="read"))
        return value

    def keep(self, path: str, *args: Any, **kwargs: Any) -> Kept:
        """Call a method and keep its result; without arguments an attribute that is not callable is kept itself."""
        student = self._student
        if not args and not kwargs:
            reply = student._ask("get", target=self.handle, path=path.split("."), keep=True)  # noqa: SLF001
            attribute = student._typed(Handle, reply)  # noqa: SLF001
            if attribute.type not in ("method", "builtin_function_or_method", "function"):
                return Kept(student, attribute)
        return Kept(student, student._observe(self.handle, path.split("."), args, kwargs, keep=True).value)  # noqa: SLF001
