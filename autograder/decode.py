"""From JSON and buffers back to values; values.py leads there. What is read may be written by a student's native code.

Every branch checks what it is given, nothing but plain values is built, and nothing calls itself: values are met from
the outside in, and put together from the inside out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch

from autograder.values import (
    DTYPES,
    MAX_DEPTH,
    MAX_DIMENSIONS,
    MAX_INT,
    MAX_TENSORS,
    MAX_TEXT,
    FrameError,
    Generator,
    Handle,
    Lazy,
    Opaque,
    Special,
    bounded,
)

# The kinds that hold no others.
LEAVES = frozenset({
    "bytes", "device", "dtype", "float", "generator", "handle", "merges", "opaque", "path", "tensor", "vocabulary"
})  # fmt: skip

_Build = Callable[[list[Any]], Any]


def decode(tree: Any, body: bytearray, resolve: Callable[[Special], Any] | None = None) -> Any:
    """The value that JSON and the tensors' bytes stand for. `resolve` turns stand-ins into objects.

    Raises:
        FrameError: anything in it breaks the rules of this file.
    """
    reader = _Reader(body, resolve)
    try:
        value = reader.decode(tree)
    except (LookupError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        message = f"a value is ill-formed ({type(error).__name__})"
        raise FrameError(message) from error
    reader.finish()
    return value


class _Reader:
    def __init__(self, body: bytearray, resolve: Callable[[Special], Any] | None) -> None:
        self.body, self.resolve, self.at, self.tensors = body, resolve, 0, 0

    def finish(self) -> None:
        if self.at != len(self.body):
            message = f"{len(self.body) - self.at} bytes belong to no tensor"
            raise FrameError(message)

    def decode(self, tree: Any) -> Any:
        """The value of a whole tree.

        A leaf is read when it is met, as the tensors' bytes lie in that order. A container is noted with the number
        of its parts; walking the notes backwards, each finds its parts on top of `ready`, the first one uppermost.
        """
        notes: list[tuple[_Build | None, Any]] = []
        waiting: list[tuple[Any, int]] = [(tree, 0)]
        while waiting:
            node, depth = waiting.pop()
            kind = type(node)
            if kind is not list and kind is not dict:
                notes.append((None, _plain(node)))
                continue
            if depth > MAX_DEPTH:
                message = "values are nested too deeply"
                raise FrameError(message)
            if kind is list and set(map(type, node)) <= {int}:  # ids, by far the longest lists
                notes.append((None, node if bounded(node) else _too_large()))
                continue
            if kind is dict and node.get("$") in LEAVES:
                notes.append((None, getattr(self, f"_{node['$']}")(node)))
                continue
            build, parts = self._opened(node)
            notes.append((build, len(parts)))
            depth += 1
            waiting += [(part, depth) for part in reversed(parts)]
        ready: list[Any] = []
        for build, what in reversed(notes):
            if build is None:
                ready.append(what)
                continue
            parts = ready[len(ready) - what :][::-1]
            del ready[len(ready) - what :]
            ready.append(build(parts))
        return ready[0]

    def _opened(self, node: list[Any] | dict[str, Any]) -> tuple[_Build, list[Any]]:
        """How to put a container together, and its parts."""
        if isinstance(node, list):
            return list, node
        kind = node.get("$")
        if kind is None:
            keys = [_plain(key) for key in node]
            return (lambda parts: dict(zip(keys, parts, strict=True))), list(node.values())
        if kind == "tuple":
            return tuple, _listed(node["items"])
        if kind == "dict":
            pairs = [_listed(pair) for pair in _listed(node["items"])]
            return _paired, [part for key, value in pairs for part in (key, value)]
        if kind == "lazy":
            identity = _natural(node["id"])
            return (lambda parts: self._resolved(Lazy(identity, tuple(parts)))), _listed(node["items"])
        message = "a value of unknown kind"
        raise FrameError(message)

    def _bytes(self, node: dict[str, Any]) -> bytes:
        return _text(node["latin1"]).encode("latin-1")

    def _vocabulary(self, node: dict[str, Any]) -> dict[int, bytes]:
        ids = _listed(node["ids"])
        if set(map(type, ids)) != {int} or not bounded(ids):
            message = "an id is no number, or too large"
            raise FrameError(message)
        return dict(zip(ids, _tokens(node["latin1"]), strict=True))

    def _merges(self, node: dict[str, Any]) -> list[tuple[bytes, bytes]]:
        tokens = _tokens(node["latin1"])
        return list(zip(tokens[::2], tokens[1::2], strict=True))

    def _float(self, node: dict[str, Any]) -> float:
        return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[node["is"]]

    def _opaque(self, node: dict[str, Any]) -> Opaque:
        return Opaque(_text(node["type"])[:200])

    def _dtype(self, node: dict[str, Any]) -> Any:
        name = _text(node["name"])
        return DTYPES.get(name, Opaque(f"dtype {name[:40]}"))

    def _device(self, node: dict[str, Any]) -> torch.device:
        return torch.device(_text(node["name"])[:40])

    def _path(self, node: dict[str, Any]) -> Path:
        return Path(_text(node["name"]))

    def _handle(self, node: dict[str, Any]) -> Any:
        return self._resolved(Handle(_natural(node["id"]), _text(node["type"])[:200]))

    def _generator(self, node: dict[str, Any]) -> Any:
        return self._resolved(Generator(_natural(node["seed"]), _text(node["device"])[:40]))

    def _resolved(self, special: Special) -> Any:
        return self.resolve(special) if self.resolve else special

    def _tensor(self, node: dict[str, Any]) -> torch.Tensor:
        dtype, shape = DTYPES[node["dtype"]], [_natural(size) for size in _listed(node["shape"])]
        if len(shape) > MAX_DIMENSIONS:
            message = f"a tensor of {len(shape)} dimensions"
            raise FrameError(message)
        count = math.prod(shape)
        self.tensors += 1
        if self.tensors > MAX_TENSORS:
            message = "too many tensors"
            raise FrameError(message)
        if node.get("device") == "meta":
            if count > 2**62:
                message = "a meta tensor is too large"
                raise FrameError(message)
            return torch.empty(shape, dtype=dtype, device="meta")
        size = count * dtype.itemsize
        if self.at + size > len(self.body):
            message = f"a tensor of {size} bytes is not in the frame"
            raise FrameError(message)
        tensor = _from_bytes(self.body[self.at : self.at + size], dtype, shape)
        self.at += size
        return _laid_out(tensor, node["order"]) if "order" in node and self.resolve else tensor


def _plain(value: Any) -> Any:
    """None, a bool, a number or a text, within its bounds."""
    if type(value) is int and abs(value) >= MAX_INT:
        _too_large()
    return _text(value) if isinstance(value, str) else value


def _too_large() -> NoReturn:
    message = "an integer is too large"
    raise FrameError(message)


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > MAX_TEXT:
        message = "no text, or one that is too long"
        raise FrameError(message)
    return value


def _tokens(value: Any) -> list[bytes]:
    return [_text(token).encode("latin-1") for token in _listed(value)]


def _listed(value: Any) -> list[Any]:
    if type(value) is not list:
        message = "no list where there must be one"
        raise FrameError(message)
    return value


def _paired(parts: list[Any]) -> dict[Any, Any]:
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _from_bytes(data: bytearray, dtype: torch.dtype, shape: list[int]) -> torch.Tensor:
    if not data:
        return torch.empty(shape, dtype=dtype)
    if dtype is torch.bool:  # a byte that is neither 0 nor 1 in a bool tensor is undefined behaviour
        return torch.frombuffer(data, dtype=torch.uint8).ne(0).reshape(shape)
    return torch.frombuffer(data, dtype=dtype).reshape(shape)


def _laid_out(tensor: torch.Tensor, order: list[int]) -> torch.Tensor:
    """The same values, laid out in memory with the dimensions in this order: not contiguous, as the grader had it."""
    if sorted(order) == list(range(tensor.dim())) and order != sorted(order):
        return tensor.permute(order).contiguous().permute([order.index(d) for d in range(tensor.dim())])
    # The order was the usual one, so the gaps came from a slice: leave a gap after every element.
    wide = torch.stack([tensor, torch.full_like(tensor, 1)], dim=-1)
    return wide[..., 0]


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        message = "not a natural number"
        raise ValueError(message)
    return value
