"""Comparing an answer with the right one, and saying what is wrong without saying what is right.

Hidden tests raise only through these helpers. A message shows the student's own value and what must hold, never the
expected values. Tolerances are by dtype; inputs are made lively by the tests, so that they mean something.
"""

from __future__ import annotations

import math
import re
from typing import Any, NoReturn, Protocol

import torch

from autograder.errors import CheckFailed, StudentError
from autograder.values import Opaque

# (relative, absolute): float64 leaves room for another order of summation only.
TOLERANCES = {
    torch.float64: (1e-7, 1e-9),
    torch.float32: (1e-4, 1e-5),
    torch.float16: (1e-2, 1e-2),
    torch.bfloat16: (3e-2, 3e-2),
}


class Callee(Protocol):
    """Anything a check calls: a student's function, a class, a method."""

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        """Call it."""


def fail(message: str) -> NoReturn:
    """The check fails with this message.

    Raises:
        CheckFailed: always.
    """
    raise CheckFailed(message)


def require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like assert
    """The check fails with this message unless `condition` holds.

    Raises:
        CheckFailed: it does not.
    """
    if not condition:
        fail(message)


def assert_close(
    actual: object,
    expected: object,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    dtype: bool = True,
    what: str = "the result",
) -> None:
    """`actual` has the type, shape, dtype and values of `expected`, up to rounding; containers item by item.

    NaN never equals anything. The tolerance is that of the coarser of the two dtypes.

    Raises:
        CheckFailed: it does not, with the first place that differs and the student's value there.
    """
    if isinstance(expected, torch.Tensor):
        _tensor_close(actual, expected, rtol, atol, dtype, what)
    elif isinstance(expected, float):
        _number_close(actual, expected, rtol, atol, what)
    elif isinstance(expected, list | tuple):
        _same_container(actual, expected, what)
        assert isinstance(actual, list | tuple)
        for index, (mine, right) in enumerate(zip(actual, expected, strict=True)):
            assert_close(mine, right, rtol=rtol, atol=atol, dtype=dtype, what=_place(what, expected, index))
    elif isinstance(expected, dict):
        _same_keys(actual, expected, what)
        assert isinstance(actual, dict)
        for key, right in expected.items():
            assert_close(actual[key], right, rtol=rtol, atol=atol, dtype=dtype, what=_part(what, key))
    else:
        assert_equal(actual, expected, what=what)


def assert_equal(actual: object, expected: object, *, what: str = "the result") -> None:
    """`actual` is exactly `expected`: the same type, and the same value, item by item.

    Raises:
        CheckFailed: it is not.
    """
    if isinstance(expected, torch.Tensor):
        mine = _tensor_like(actual, expected, what, dtype=True)
        if mine.device.type != "meta" and not torch.equal(mine, expected):
            place = (mine != expected).nonzero()
            index = tuple(place[0].tolist()) if len(place) else ()
            fail(f"{_sentence(what)} {_be(what)} wrong at {list(index)}: yours has {_item(mine, index)} there.")
    elif isinstance(expected, list | tuple):
        _same_container(actual, expected, what)
        assert isinstance(actual, list | tuple)
        for index_, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_equal(one, other, what=_place(what, expected, index_))
    elif isinstance(expected, dict):
        _same_keys(actual, expected, what)
        assert isinstance(actual, dict)
        for key, other in expected.items():
            assert_equal(actual[key], other, what=_part(what, key))
    elif type(actual) is not type(expected):
        fail(f"{_sentence(what)} must be {kind_name(expected)}; yours is {_named(actual)}.")
    elif actual != expected:
        fail(f"{_sentence(what)} {_be(what)} wrong: yours is {short(actual)}.")


def assert_refuses(
    call: Callee, *args: object, shows: str | None = None, error: str = "ValueError", **kwargs: object
) -> None:
    """`call(*args, **kwargs)` raises `error`, and its message contains `shows`, the offending value.

    Raises:
        CheckFailed: it returns, raises something else, or says nothing of the value.
    """
    try:
        value = call(*args, **kwargs)
    except StudentError as raised:
        if error not in raised.kinds:
            said = f": {raised.text[:200]}" if raised.text else "."
            fail(f"A bad argument must raise {error}; yours raised {raised.kind}{said}")
        if shows is not None and shows not in raised.text:
            fail(f"The message of the {error} must show the offending value; yours says: {raised.text[:200]!r}")
    else:
        fail(f"A bad argument must raise {error}; yours returned {short(value)}.")


def _tensor_close(
    actual: object, expected: torch.Tensor, rtol: float | None, atol: float | None, dtype: bool, what: str  # noqa: FBT001
) -> None:
    mine = _tensor_like(actual, expected, what, dtype=dtype)
    if mine.device.type == "meta" or mine.numel() == 0:
        return
    relative, absolute = tolerance(mine.dtype, expected.dtype)
    relative = relative if rtol is None else rtol
    absolute = absolute if atol is None else atol
    wide = torch.complex128 if mine.is_complex() or expected.is_complex() else torch.float64
    near = torch.isclose(mine.to(wide), expected.to(wide), rtol=relative, atol=absolute)
    if bool(near.all()):
        return
    index = tuple((~near).nonzero()[0].tolist())
    value = _item(mine, index)
    if mine.numel() == 1:
        fail(f"{_sentence(what)} {_be(what)} wrong: yours is {value}.")
    if isinstance(value, float) and math.isnan(value):
        fail(f"{_sentence(what)} {_be(what, 'holds', 'hold')} NaN at {list(index)}.")
    wrong = f"{int((~near).sum())} of {mine.numel()} values differ"
    fail(f"{_sentence(what)} {_be(what)} wrong at {list(index)}, where yours has {value} ({wrong}).")


def _number_close(actual: object, expected: float, rtol: float | None, atol: float | None, what: str) -> None:
    if type(actual) not in (float, int):
        fail(f"{_sentence(what)} must be a Python float; yours is {_named(actual)}.")
    assert isinstance(actual, float | int)
    relative, absolute = rtol if rtol is not None else 1e-5, atol if atol is not None else 1e-7
    same_infinity = math.isinf(expected) and actual == expected
    if not same_infinity and not math.isclose(actual, expected, rel_tol=relative, abs_tol=absolute):
        fail(f"{_sentence(what)} {_be(what)} wrong: yours is {actual}.")


def _tensor_like(actual: object, expected: torch.Tensor, what: str, *, dtype: bool) -> torch.Tensor:
    if not isinstance(actual, torch.Tensor):
        kind = "a dense tensor" if isinstance(actual, Opaque) and "sparse" in actual.type else "a tensor"
        fail(f"{_sentence(what)} must be {kind}; yours is {_named(actual)}.")
    if actual.shape != expected.shape:
        fail(f"{_sentence(what)} must have the shape {tuple(expected.shape)}; yours has {tuple(actual.shape)}.")
    if dtype and actual.dtype != expected.dtype:
        fail(f"{_sentence(what)} must be {expected.dtype}; yours is {actual.dtype}.")
    if actual.device.type != expected.device.type:
        fail(f"{_sentence(what)} must be on the device {expected.device.type!r}; yours is on {actual.device.type!r}.")
    return actual


def _same_container(actual: object, expected: list[Any] | tuple[Any, ...], what: str) -> None:
    if type(actual) is not type(expected):
        fail(f"{_sentence(what)} must be {kind_name(expected)}; yours is {_named(actual)}.")
    assert isinstance(actual, list | tuple)
    if len(actual) != len(expected):
        fail(f"{_sentence(what)} must have the length {len(expected)}; yours has {len(actual)}: {short(actual)}.")


def _same_keys(actual: object, expected: dict[Any, Any], what: str) -> None:
    if not isinstance(actual, dict):
        fail(f"{_sentence(what)} must be a dictionary; yours is {_named(actual)}.")
    missing = [key for key in expected if key not in actual]
    extra = [key for key in actual if key not in expected]
    if missing:
        fail(f"{_sentence(what)} {_be(what, 'lacks', 'lack')} the key {short(missing[0])}.")
    if extra:
        fail(f"{_sentence(what)} {_be(what, 'has', 'have')} a key too many: {short(extra[0])}.")


def tolerance(*dtypes: torch.dtype) -> tuple[float, float]:
    """The relative and absolute tolerance of the coarsest of these dtypes; 0 for integers."""
    known = [TOLERANCES[dtype] for dtype in dtypes if dtype in TOLERANCES]
    known += [TOLERANCES[torch.float32] for dtype in dtypes if dtype is torch.complex64]
    known += [TOLERANCES[torch.float64] for dtype in dtypes if dtype is torch.complex128]
    return max(known, default=(0.0, 0.0))


def same(one: object, other: object) -> bool:
    """Are two answers equal for the purpose of naming a mistake? NaN equals NaN here: both went wrong alike."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.shape != other.shape or one.dtype != other.dtype or one.device.type != other.device.type:
            return False
        if one.device.type == "meta" or one.numel() == 0:
            return True
        if not one.is_floating_point():
            return torch.equal(one, other)
        relative, absolute = tolerance(one.dtype)
        return torch.allclose(one.double(), other.double(), rtol=relative, atol=absolute, equal_nan=True)
    if isinstance(one, list | tuple) and type(one) is type(other):
        assert isinstance(other, list | tuple)
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and one == other


def kind_name(value: object) -> str:
    """What a value is, in words: "a tuple", "None", "a numpy.ndarray"."""
    if value is None:
        return "None"
    if isinstance(value, Opaque):
        name = value.type
    else:
        name = "tensor" if isinstance(value, torch.Tensor) else type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def short(value: object, limit: int = 120) -> str:
    """A value in one short line; tensors of more than a few elements by their shape."""
    if isinstance(value, Opaque):
        return f"<{value.type}>"
    if isinstance(value, torch.Tensor):
        if _is_long(value, 12):
            return _shape(value)
        text = f"tensor {value.tolist()!r}"
    elif isinstance(value, list | tuple) and any(isinstance(item, torch.Tensor) for item in value):
        text = ", ".join(_shape(item) if _is_long(item) else short(item, limit) for item in value[:limit])
        text = f"({text})" if isinstance(value, tuple) else f"[{text}]"
    else:
        text = repr(value[:limit] if isinstance(value, list | tuple) else value)  # no more of it would be seen
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _is_long(value: object, most: int = 1) -> bool:
    """Whether it is a tensor of so many numbers, or of none that can be read."""
    return isinstance(value, torch.Tensor) and (value.device.type == "meta" or value.numel() > most)


def _shape(tensor: torch.Tensor) -> str:
    return f"a tensor of shape {tuple(tensor.shape)}"


def _named(value: object) -> str:
    """What a value is, and the value where that says more: "a float: 0.5", "None"."""
    return kind_name(value) + ("" if value is None or isinstance(value, Opaque) else f": {short(value)}")


def _be(what: str, one: str = "is", many: str = "are") -> str:
    """The verb after `what`: "the loss is", "the logits when targets are given are"."""
    head = re.split(r" (?:of|after|for|in|at|with|without|when|where)\b|,", what)[0]
    alone = head.endswith(("ss", "bias", "`")) or head.startswith("what ")
    return many if (head.endswith("s") or " and " in head) and not alone else one


def _part(what: str, key: object) -> str:
    """A part of a container: "the list for 'abc' at [0]", and within that "... at [0][1]"."""
    return f"{what}[{key!r}]" if re.search(r" at (\[.*\])+$", what) else f"{what} at [{key!r}]"


def _place(what: str, whole: list[Any] | tuple[Any, ...], index: int) -> str:
    """An item of a list. Where it is a list around one other, nobody has to be told which."""
    alone = len(whole) == 1 and isinstance(whole[0], list | tuple | dict | torch.Tensor)
    return what if alone else _part(what, index)


def _sentence(what: str) -> str:
    """`what` at the head of a sentence; a name from the notebook keeps its letters."""
    word = what.partition(" ")[0]
    return what[:1].upper() + what[1:] if word.isalpha() and len(word) > 1 else what


def _item(tensor: torch.Tensor, index: tuple[int, ...]) -> object:
    value = tensor[index].item()
    return float(f"{value:.6g}") if isinstance(value, float) else value
