"""The values in a message: to what JSON and buffers can say, and back. Nothing of ours is imported here.

Values: None, bool, int, float, str, bytes, list, tuple, dict, dense tensors, torch dtypes and devices, paths, and
the stand-ins below. Anything else travels as `Opaque`, its type's name only. A plain JSON value stands for itself;
everything else is {"$": kind, ...}, and a tensor's bytes go to a buffer beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

MAX_TENSORS = 4096
MAX_DIMENSIONS = 16
MAX_DEPTH = 24
MAX_INT = 2**200

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
        torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
    )
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class FrameError(Exception):
    """A frame that breaks the rules, or a value in it that does."""


@dataclass(frozen=True)
class Handle:
    """Stands for an object that lives in the worker."""

    id: int
    type: str = ""


@dataclass(frozen=True)
class Opaque:
    """A value that does not travel: only its type's name does."""

    type: str


@dataclass(frozen=True)
class Generator:
    """Asks the worker for a fresh `torch.Generator` with this seed."""

    seed: int
    device: str = "cpu"


@dataclass(frozen=True)
class Lazy:
    """Asks the worker for an iterator over these items that counts what is pulled from it, known by `id`."""

    id: int
    items: tuple[object, ...]


Special = Handle | Generator | Lazy


def encode(value: Any, buffers: list[memoryview]) -> Any:
    """What stands for a value in JSON; the bytes of the tensors in it are appended to `buffers`."""
    return _encode(value, buffers, 0)


def decode(tree: Any, body: bytearray, resolve: Callable[[Special], Any] | None = None) -> Any:
    """The value that JSON and the tensors' bytes stand for. `resolve` turns stand-ins into objects.

    Raises:
        FrameError: anything in it breaks the rules of this file.
    """
    reader = _Reader(body, resolve)
    value = reader.decode(tree, 0)
    reader.finish()
    return value


def _encode(value: Any, buffers: list[memoryview], depth: int) -> Any:  # noqa: C901 - one branch a type
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if abs(value) < MAX_INT else {"$": "opaque", "type": "int (too large)"}
    if kind is float:
        return value if math.isfinite(value) else {"$": "float", "is": repr(value)}
    if depth >= MAX_DEPTH:
        return {"$": "opaque", "type": f"{kind.__name__} (nested too deeply)"}
    if kind is list:
        if all(type(item) is int for item in value) and (not value or max(map(abs, value)) < MAX_INT):
            return value
        return [_encode(item, buffers, depth + 1) for item in value]
    if kind is tuple:
        return {"$": "tuple", "items": [_encode(item, buffers, depth + 1) for item in value]}
    if isinstance(value, torch.Tensor):
        return _encode_tensor(value, buffers)
    if isinstance(value, dict):
        if "$" not in value and all(type(key) is str for key in value):
            return {key: _encode(item, buffers, depth + 1) for key, item in value.items()}
        pairs = [[_encode(k, buffers, depth + 1), _encode(v, buffers, depth + 1)] for k, v in value.items()]
        return {"$": "dict", "items": pairs}
    if kind is bytes:
        return {"$": "bytes", "latin1": value.decode("latin-1")}
    return _encode_special(value, buffers, depth)


def _encode_special(value: Any, buffers: list[memoryview], depth: int) -> dict[str, Any]:
    if isinstance(value, Handle):
        return {"$": "handle", "id": value.id, "type": value.type}
    if isinstance(value, Opaque):
        return {"$": "opaque", "type": value.type}
    if isinstance(value, Generator):
        return {"$": "generator", "seed": value.seed, "device": value.device}
    if isinstance(value, Lazy):
        return {"$": "lazy", "id": value.id, "items": [_encode(item, buffers, depth + 1) for item in value.items]}
    if isinstance(value, torch.dtype):
        return {"$": "dtype", "name": NAMES.get(value, str(value))}
    if isinstance(value, torch.device):
        return {"$": "device", "name": str(value)}
    if isinstance(value, Path):
        return {"$": "path", "name": str(value)}
    if isinstance(value, list | tuple):  # torch.Size, named tuples and the like: their values are what counts
        return {"$": "tuple", "items": [_encode(item, buffers, depth + 1) for item in value]}
    return {"$": "opaque", "type": type(value).__qualname__[:200]}


def _encode_tensor(tensor: torch.Tensor, buffers: list[memoryview]) -> dict[str, Any]:
    name = NAMES.get(tensor.dtype)
    if name is None or tensor.layout is not torch.strided or len(buffers) >= MAX_TENSORS:
        return {"$": "opaque", "type": f"tensor of {tensor.dtype}, {tensor.layout}"}
    tensor = tensor.detach()
    head: dict[str, Any] = {"$": "tensor", "dtype": name, "shape": list(tensor.shape)}
    if tensor.device.type == "meta":
        return {**head, "device": "meta"}
    if tensor.device.type != "cpu":
        head["device"] = tensor.device.type
        tensor = tensor.cpu()
    if not tensor.is_contiguous():
        head["order"] = _memory_order(tensor)
    tensor = tensor.resolve_conj().resolve_neg()
    if tensor.dtype is torch.bfloat16:  # which numpy does not know
        tensor = tensor.view(torch.int16)
    buffers.append(memoryview(tensor.numpy().tobytes()))
    return head


def _memory_order(tensor: torch.Tensor) -> list[int]:
    """The dimensions from the widest stride to the narrowest: how to lay the values out again, not contiguous."""
    strides = tensor.stride()
    return sorted(range(tensor.dim()), key=lambda d: (-strides[d], d))


KINDS = frozenset({
    "bytes", "device", "dict", "dtype", "float", "generator", "handle", "lazy", "opaque", "path", "tensor", "tuple",
})  # fmt: skip

# Reading. Every branch checks what it is given: the writer may be a student's native code.


class _Reader:
    def __init__(self, body: bytearray, resolve: Callable[[Special], Any] | None) -> None:
        self.body, self.resolve, self.at, self.tensors = body, resolve, 0, 0

    def finish(self) -> None:
        if self.at != len(self.body):
            message = f"{len(self.body) - self.at} bytes belong to no tensor"
            raise FrameError(message)

    def decode(self, tree: Any, depth: int) -> Any:
        if tree is None or isinstance(tree, bool | str | float):
            return tree
        if isinstance(tree, int):
            if abs(tree) >= MAX_INT:
                message = "an integer is too large"
                raise FrameError(message)
            return tree
        if depth > MAX_DEPTH:
            message = "values are nested too deeply"
            raise FrameError(message)
        if isinstance(tree, list):
            return [self.decode(item, depth + 1) for item in tree]
        return self._tagged(tree, depth)

    def _tagged(self, tree: dict[str, Any], depth: int) -> Any:
        if "$" not in tree:
            return {key: self.decode(item, depth + 1) for key, item in tree.items()}
        try:
            if tree["$"] not in KINDS:
                message = "a value of unknown kind"
                raise FrameError(message)
            return getattr(self, f"_{tree['$']}")(tree, depth)
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError, RecursionError) as error:
            message = f"a value is ill-formed ({type(error).__name__})"
            raise FrameError(message) from error

    def _tuple(self, tree: dict[str, Any], depth: int) -> tuple[Any, ...]:
        return tuple(self.decode(item, depth + 1) for item in tree["items"])

    def _dict(self, tree: dict[str, Any], depth: int) -> dict[Any, Any]:
        return {self.decode(key, depth + 1): self.decode(value, depth + 1) for key, value in tree["items"]}

    def _bytes(self, tree: dict[str, Any], depth: int) -> bytes:
        del depth
        value: str = tree["latin1"]
        return value.encode("latin-1")

    def _float(self, tree: dict[str, Any], depth: int) -> float:
        del depth
        return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[tree["is"]]

    def _opaque(self, tree: dict[str, Any], depth: int) -> Opaque:
        del depth
        return Opaque(str(tree["type"])[:200])

    def _dtype(self, tree: dict[str, Any], depth: int) -> Any:
        del depth
        return DTYPES.get(tree["name"], Opaque(f"dtype {str(tree['name'])[:40]}"))

    def _device(self, tree: dict[str, Any], depth: int) -> torch.device:
        del depth
        return torch.device(str(tree["name"]))

    def _path(self, tree: dict[str, Any], depth: int) -> Path:
        del depth
        return Path(str(tree["name"]))

    def _handle(self, tree: dict[str, Any], depth: int) -> Any:
        del depth
        return self._resolved(Handle(_natural(tree["id"]), str(tree["type"])[:200]))

    def _generator(self, tree: dict[str, Any], depth: int) -> Any:
        del depth
        return self._resolved(Generator(_natural(tree["seed"]), str(tree["device"])))

    def _lazy(self, tree: dict[str, Any], depth: int) -> Any:
        items = tuple(self.decode(item, depth + 1) for item in tree["items"])
        return self._resolved(Lazy(_natural(tree["id"]), items))

    def _resolved(self, special: Special) -> Any:
        return self.resolve(special) if self.resolve else special

    def _tensor(self, tree: dict[str, Any], depth: int) -> torch.Tensor:
        del depth
        dtype, shape = DTYPES[tree["dtype"]], [_natural(size) for size in tree["shape"]]
        if len(shape) > MAX_DIMENSIONS:
            message = f"a tensor of {len(shape)} dimensions"
            raise FrameError(message)
        count = math.prod(shape)
        if tree.get("device") == "meta":
            if count > 2**62:
                message = "a meta tensor is too large"
                raise FrameError(message)
            return torch.empty(shape, dtype=dtype, device="meta")
        self.tensors += 1
        size = count * dtype.itemsize
        if self.tensors > MAX_TENSORS or self.at + size > len(self.body):
            message = f"a tensor of {size} bytes is not in the frame"
            raise FrameError(message)
        tensor = _from_bytes(self.body[self.at : self.at + size], dtype, shape)
        self.at += size
        return _laid_out(tensor, tree["order"]) if "order" in tree and self.resolve else tensor


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
