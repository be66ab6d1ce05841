"""The values in a message, and what stands for them in JSON and buffers; decode.py leads back. Imports nothing of ours.

Values: None, bool, int, float, str, bytes, list, tuple, dict, dense tensors, torch dtypes and devices, paths, and
the stand-ins below. Anything else travels as `Opaque`, its type's name only. A plain JSON value stands for itself;
everything else is {"$": kind, ...}, and a tensor's bytes go to a buffer beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

MAX_TENSORS = 4096
MAX_DIMENSIONS = 16
MAX_DEPTH = 24
MAX_INT = 2**200
MAX_TEXT = 4 * 2**20

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
        torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
    )
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
# Types whose values hold no others and never change.
SIMPLE = frozenset({int, float, bool, str, bytes, type(None)})


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


def bounded(integers: list[int]) -> bool:
    """Whether all of them may travel."""
    return not integers or (max(integers) < MAX_INT and min(integers) > -MAX_INT)


def _encode(value: Any, buffers: list[memoryview], depth: int) -> Any:  # noqa: C901, PLR0912 - one branch a type
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return value if len(value) <= MAX_TEXT else {"$": "opaque", "type": f"str of {len(value):,} characters"}
    if kind is int:
        return value if abs(value) < MAX_INT else {"$": "opaque", "type": "int (too large)"}
    if kind is float:
        return value if math.isfinite(value) else {"$": "float", "is": repr(value)}
    if depth >= MAX_DEPTH:
        return {"$": "opaque", "type": f"{kind.__name__} (nested too deeply)"}
    if kind is list:
        if set(map(type, value)) <= {int} and bounded(value):
            return value
        if set(map(type, value)) == {tuple} and set(map(len, value)) == {2} and _short_bytes(chain(*value)):
            return {"$": "merges", "latin1": [half.decode("latin-1") for half in chain(*value)]}
        return [_encode(item, buffers, depth + 1) for item in value]
    if kind is tuple:
        return {"$": "tuple", "items": [_encode(item, buffers, depth + 1) for item in value]}
    if isinstance(value, torch.Tensor):
        return _encode_tensor(value, buffers)
    if isinstance(value, dict):
        if "$" not in value and all(type(key) is str for key in value):
            return {key: _encode(item, buffers, depth + 1) for key, item in value.items()}
        if set(map(type, value)) == {int} and bounded(list(value)) and _short_bytes(value.values()):
            texts = [token.decode("latin-1") for token in value.values()]
            return {"$": "vocabulary", "ids": list(value), "latin1": texts}
        pairs = [[_encode(k, buffers, depth + 1), _encode(v, buffers, depth + 1)] for k, v in value.items()]
        return {"$": "dict", "items": pairs}
    if kind is bytes and len(value) <= MAX_TEXT:
        return {"$": "bytes", "latin1": value.decode("latin-1")}
    return _encode_special(value, buffers, depth)


def _short_bytes(values: Iterable[object]) -> bool:
    """Whether these are bytes that may travel: the tokens of a vocabulary or of merges come by the thousand."""
    return all(type(value) is bytes and len(value) <= MAX_TEXT for value in values)


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
