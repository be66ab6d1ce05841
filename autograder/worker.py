"""Inside the sandbox: runs a student's cells and answers requests with values.

It holds no test, no reference, no expected value and no score: all it can do is answer. It trusts the grader and
nobody trusts it. `Session` is the whole of it; `serve` puts a socket in front. The grader's own process uses a
`Session` too, for the reference and for the bank of misconceptions.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from autograder import shell, wire
from autograder.guard import Guard
from autograder.values import Generator, Handle, Special

Message = dict[str, Any]


class _Counted:
    """An iterator that counts what is pulled from it."""

    def __init__(self, items: tuple[object, ...]) -> None:
        self.items, self.pulled = iter(items), 0

    def __iter__(self) -> Iterator[object]:
        return self

    def __next__(self) -> object:
        item = next(self.items)
        self.pulled += 1
        return item


_UNLIKELY_SEED = 7_294_513_606
# What a GPU takes from the CPU as well: copies, and the indices of `x[index]`.
_ACROSS = ("aten.copy_", "aten._to_copy", "aten.index.Tensor", "aten.index_put", "aten._index_put_impl_")


class _OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own class has no types
    """Refuses an operation on tensors of two devices, as a GPU would; numbers (0-d tensors) may come from the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        tensors = [item for item in tree_flatten((args, kwargs or {}))[0] if isinstance(item, torch.Tensor)]
        # The first tensor: under `torch.vmap` a plain number is copied, too.
        if str(func).startswith(_ACROSS) and tensors and tensors[0].device.type != "cpu":
            return func(*args, **(kwargs or {}))
        devices = {tensor.device.type for tensor in tensors if tensor.dim() > 0}
        if len(devices) > 1:
            message = f"tensors on two devices meet in {func}: {', '.join(sorted(devices))}"
            raise RuntimeError(message)
        return func(*args, **(kwargs or {}))


class Session:
    """A student's namespace, the objects kept in it for the grader, and the answers to its requests."""

    def __init__(self, module_name: str = "__main__") -> None:
        """An empty notebook. In a process of its own it is `__main__`, and its time is the clock's."""
        # Elsewhere a busy machine must not make the reference, or a known mistake, look like one that never ends.
        self.patience = 1.0 if module_name == "__main__" else 5.0
        self.shell = shell.Shell(module_name)
        self.objects: dict[int, Any] = {}
        self.lazies: dict[int, _Counted] = {}
        self.verbs: dict[str, Callable[[Message], Any]] = {
            "cells": self._cells, "call": self._call, "each": self._each, "get": self._get, "set": self._set,
            "next": self._next, "pulled": self._pulled, "files": self._files, "forget": self._forget,
            "watch": self._watch, "seen": self._seen,
        }  # fmt: skip
        self.guard: Guard | None = None

    def resolve(self, special: Special) -> Any:
        """The object that a stand-in in a request means."""
        if isinstance(special, Handle):
            return self.objects[special.id]
        if isinstance(special, Generator):
            return torch.Generator(device=special.device).manual_seed(special.seed)
        return self.lazies.setdefault(special.id, _Counted(special.items))

    def answer(self, request: Message) -> Message:
        """Do what is asked; what the student's code raises is an answer too."""
        limit = request.get("limit")
        if "fresh" in request:
            _seed(request["fresh"])
        try:
            with shell.time_limit(limit, patience=self.patience) if limit else contextlib.nullcontext():
                return {"id": request["id"], "value": self.verbs[request["verb"]](request)}
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are the student's doing too
            return {"id": request["id"], "error": described(error)}

    def _cells(self, request: Message) -> list[Any]:
        """Run cells in order; one that fails does not stop the rest. Gives an error, or None, for each."""
        outcomes: list[Any] = []
        for name, source, limit in request["cells"]:
            try:
                with shell.time_limit(limit):
                    self.shell.run(name, source)
                outcomes.append(None)
            except BaseException as error:  # noqa: BLE001 - see above
                outcomes.append(described(error))
        return outcomes

    def _target(self, request: Message) -> Any:
        target = request["target"]
        if isinstance(target, str):
            if target not in self.shell.namespace:
                message = f"name {target!r} is not defined"
                raise NameError(message)
            target = self.shell.namespace[target]
        for part in request["path"]:
            target = getattr(target, part)
        return target

    def _call(self, request: Message) -> Message:
        target, args, kwargs = self._target(request), request["args"], request["kwargs"]
        tensors: list[torch.Tensor] = []
        gradient = request.get("gradient")
        if gradient is not None:
            tensors = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, torch.Tensor)]
            for tensor in tensors:
                tensor.requires_grad_(tensor.is_floating_point())
        if request.get("seed") is not None:
            _seed(request["seed"])
        if request.get("randomness") and request.get("seed") is None:
            # A state that nobody else makes: seeding anew with what was there before would change nothing to be seen.
            _seed(_UNLIKELY_SEED)
        before = _random_state() if request.get("randomness") else None
        mode = _OneDevice() if request.get("strict_device") else contextlib.nullcontext()  # type: ignore[no-untyped-call]  # as above
        with mode, self._watched(request, target):
            value = target(*args, **kwargs)
        for method, *arguments in request.get("then", ()):
            getattr(value, method)(*arguments)
        outcome: Message = {}
        if before is not None:
            outcome["random_used"] = before != _random_state()
        if gradient is not None:
            outcome |= self._gradients(value, gradient, tensors, _modules(target, args, kwargs))
        if request.get("inputs"):
            given = (*args, *kwargs.values())
            outcome["inputs_after"] = [item for item in given if isinstance(item, torch.Tensor | list | dict)]
        outcome["requires_grad"] = isinstance(value, torch.Tensor) and value.requires_grad
        outcome["value"] = self._kept(value) if request["keep"] else value
        return outcome

    def _watched(self, request: Message, target: Any) -> contextlib.AbstractContextManager[object]:
        called = request["target"] if isinstance(request["target"], str) else type(target).__qualname__
        return self.guard if self.guard and self.guard.watches(called) else contextlib.nullcontext()

    def _each(self, request: Message) -> list[Message]:
        """One call for each argument, until one of them raises."""
        function, replies = self._target(request), list[Message]()
        for argument in request["arguments"]:
            try:
                with self._watched(request, function):
                    replies.append({"value": function(argument)})
            except BaseException as error:  # noqa: BLE001 - as in `answer`
                return [*replies, {"error": described(error)}]
        return replies

    def _gradients(self, value: Any, cotangent: Any, tensors: list[torch.Tensor], modules: list[Any]) -> Message:
        outputs = [item for item in tree_flatten(value)[0] if isinstance(item, torch.Tensor) and item.requires_grad]
        named = {
            f"{prefix}{name}": parameter
            for prefix, module in modules
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        wanted = [tensor for tensor in tensors if tensor.requires_grad] + list(named.values())
        found: list[Any] = [None] * len(wanted)
        if outputs and wanted:
            if isinstance(cotangent, torch.Tensor):
                weights = [cotangent.to(outputs[0].dtype)] + [torch.zeros_like(item) for item in outputs[1:]]
            else:
                weights = [torch.ones_like(item) for item in outputs]
            found = list(torch.autograd.grad(outputs, wanted, weights, allow_unused=True))
        of_inputs = iter(found)
        return {
            "gradients": [next(of_inputs) if tensor.requires_grad else None for tensor in tensors],
            "parameter_gradients": dict(zip(named, of_inputs, strict=True)),
        }

    def _get(self, request: Message) -> Any:
        value = self._target(request)
        return self._kept(value) if request["keep"] else value

    def _set(self, request: Message) -> None:
        setattr(self._target(request), request["name"], request["value"])

    def _next(self, request: Message) -> Any:
        return next(self.objects[request["object"]])

    def _pulled(self, request: Message) -> int:
        lazy = self.lazies.get(request["object"])
        return lazy.pulled if lazy else 0

    def _files(self, request: Message) -> list[str]:
        del request
        return sorted(os.path.join(folder, name) for folder, _, names in os.walk(".") for name in names)  # noqa: PTH118

    def _watch(self, request: Message) -> None:
        self.guard = Guard(request["not_allowed"])

    def _seen(self, request: Message) -> dict[str, list[str]]:
        del request
        return self.guard.seen if self.guard else {}

    def _forget(self, request: Message) -> None:
        del request
        self.objects.clear()
        self.lazies.clear()

    def _kept(self, value: Any) -> Handle:
        identity = len(self.objects) + 1
        self.objects[identity] = value
        return Handle(identity, type(value).__qualname__)


def described(error: BaseException) -> Message:
    """An exception as plain values: what it is, what it says, and the student's own lines that led there."""
    kinds = [kind.__name__ for kind in type(error).__mro__[:-1]]
    try:
        text = str(error)[:1000]
    except Exception:  # noqa: BLE001 - a student's own exception class may fail at anything
        text = ""
    return {"kinds": kinds[:12], "text": text, "where": shell.where(error)}


def _modules(target: Any, args: Any, kwargs: Any) -> list[tuple[str, torch.nn.Module]]:
    owner = getattr(target, "__self__", target)
    if isinstance(owner, torch.nn.Module):
        return [("", owner)]
    return [("", item) for item in (*args, *kwargs.values()) if isinstance(item, torch.nn.Module)]


def _seed(seed: int) -> None:
    # Not torch.manual_seed: where CUDA is not in use yet, that writes down its caller's whole stack, three times.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch has no types for it
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


def _random_state() -> tuple[bytes, object]:
    return torch.get_rng_state().numpy().tobytes(), random.getstate()


def serve(connection: socket.socket) -> None:
    """Answer requests until the grader hangs up."""
    session = Session("__main__")
    with shell.nothing_is_drawn():
        while (request := wire.receive(connection, resolve=session.resolve)) is not None:
            reply = session.answer(request)
            try:
                wire.send(connection, reply)
            except wire.FrameError as error:
                wire.send(connection, {"id": request["id"], "error": described(error)})
