"""The frames: what goes in comes out, and what breaks the rules is refused before anything is built."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder import decode, values, wire
from autograder.errors import WorkerLost
from autograder.notebook_link import Confined


def through(message: dict[str, object], resolve: object = None) -> dict[str, object]:
    start, buffers = wire.pack(message)
    return wire.unpack(start[wire.LENGTHS.size :], bytearray(b"".join(buffers)), resolve)  # type: ignore[arg-type]


TOKENS = st.binary(max_size=4)
PLAIN = st.recursive(
    st.dictionaries(st.integers() | st.booleans(), TOKENS)
    | st.lists(st.tuples(TOKENS, TOKENS) | st.tuples(TOKENS))
    | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_come_back_as_they_were(value: object) -> None:
    """Types are kept: a tuple is no list, True is no 1, bytes are no text."""
    back = through({"value": value})["value"]
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("dtype", list(values.DTYPES.values()), ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_tensors_come_back_bit_for_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Every dtype of the list, also empty and without dimensions."""
    tensor = torch.randint(0, 2, shape).to(dtype)
    back = through({"value": tensor})["value"]
    assert isinstance(back, torch.Tensor)
    assert back.dtype == dtype
    assert torch.equal(back, tensor)


def test_one_element_with_a_stride_travels() -> None:
    """PyTorch calls it contiguous, though its stride is 2."""
    tensor = torch.tensor([[5, 6]])[..., 1]
    assert torch.equal(through({"value": tensor})["value"], tensor)  # type: ignore[arg-type]


def test_special_numbers_come_back() -> None:
    """Infinities and NaN are no JSON, and travel all the same."""
    back = through({"value": [math.inf, -math.inf, math.nan]})["value"]
    assert isinstance(back, list)
    assert back[:2] == [math.inf, -math.inf]
    assert math.isnan(back[2])


@pytest.mark.parametrize(
    "tensor", [torch.arange(12.0).reshape(3, 4).T, torch.arange(24.0).reshape(2, 3, 4)[..., 1], torch.ones(3).expand(2, 3)]
)
def test_the_worker_gets_a_tensor_that_is_not_contiguous(tensor: torch.Tensor) -> None:
    """What was strided on the grader's side is strided on the other."""
    back = through({"value": tensor}, lambda special: special)["value"]
    assert isinstance(back, torch.Tensor)
    assert torch.equal(back, tensor)
    assert not back.is_contiguous()


def test_meta_tensors_travel_without_bytes() -> None:
    """Only their shape and dtype do."""
    back = through({"value": torch.empty(2, 3, dtype=torch.bfloat16, device="meta")})["value"]
    assert isinstance(back, torch.Tensor)
    assert (back.device.type, back.shape, back.dtype) == ("meta", (2, 3), torch.bfloat16)


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, print, torch.ones(2).to_sparse(), 2**300, 1j]
)
def test_what_is_no_plain_value_travels_as_its_name(value: object) -> None:
    """Nothing is pickled."""
    assert isinstance(through({"value": value})["value"], values.Opaque)


def test_a_subclass_of_tensor_comes_back_plain() -> None:
    """A student's own tensor class stays on their side."""

    class Sly(torch.Tensor):
        pass

    back = through({"value": torch.ones(3).as_subclass(Sly)})["value"]
    assert type(back) is torch.Tensor


def test_nesting_without_end_is_cut_off() -> None:
    """A list that holds itself does not hang the writer."""
    endless: list[object] = []
    endless.append(endless)
    assert "nested too deeply" in json.dumps(str(through({"value": endless})))


def header(tree: object) -> bytes:
    return json.dumps({"$": "dict", "items": [["value", tree]]}).encode()


HOSTILE = {
    "no JSON": b"\xff{",
    "JSON nested too deeply": b"[" * 100_000,
    "values nested too deeply": header(json.loads("[" * 60 + "]" * 60)),
    "no dictionary": b"[1, 2]",
    "unknown kind": header({"$": "pickle", "data": "x"}),
    "private method as kind": header({"$": "resolved", "id": 1}),
    "reader's own attribute": header({"$": "_init__"}),
    "kind that is no text": header({"$": ["tensor"]}),
    "tensor that is not there": header({"$": "tensor", "dtype": "float32", "shape": [4]}),
    "tensor of negative size": header({"$": "tensor", "dtype": "float32", "shape": [-4]}),
    "tensor with a shape of true": header({"$": "tensor", "dtype": "float32", "shape": [True]}),
    "tensor whose size overflows": header({"$": "tensor", "dtype": "float32", "shape": [2**40, 2**40, 0]}),
    "tensor of unknown dtype": header({"$": "tensor", "dtype": "quint8", "shape": [0]}),
    "tensor of 40 dimensions": header({"$": "tensor", "dtype": "uint8", "shape": [1] * 40}),
    "huge meta tensor": header({"$": "tensor", "dtype": "uint8", "shape": [2**40, 2**40], "device": "meta"}),
    "float that is none": header({"$": "float", "is": "1e999"}),
    "dictionary with unhashable key": header({"$": "dict", "items": [[[], 1]]}),
    "vocabulary with an id too large": header({"$": "vocabulary", "ids": [2**300], "latin1": ["a"]}),
    "vocabulary with a flag for an id": header({"$": "vocabulary", "ids": [True], "latin1": ["a"]}),
    "vocabulary of nothing": header({"$": "vocabulary", "ids": [], "latin1": []}),
    "vocabulary with a token missing": header({"$": "vocabulary", "ids": [1, 2], "latin1": ["a"]}),
    "vocabulary with a token that is no bytes": header({"$": "vocabulary", "ids": [1], "latin1": ["\u0100"]}),
    "vocabulary with a number for a token": header({"$": "vocabulary", "ids": [1], "latin1": [1]}),
    "merges with a half missing": header({"$": "merges", "latin1": ["a", "b", "c"]}),
    "merges with a list for a half": header({"$": "merges", "latin1": ["a", ["b"]]}),
    "merges that are a text": header({"$": "merges", "latin1": "ab"}),
    "handle that is no number": header({"$": "handle", "id": "1", "type": "x"}),
    "integer beyond all bounds": header(10**4000),
    "device that is none": header({"$": "device", "name": "warp:9"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused(name: str) -> None:
    """With a FrameError, and nothing else."""
    with pytest.raises(wire.FrameError):
        wire.unpack(HOSTILE[name], bytearray())


def test_bytes_that_belong_to_no_tensor_are_refused() -> None:
    """The body is used up exactly."""
    with pytest.raises(wire.FrameError, match="belong to no tensor"):
        wire.unpack(header(1), bytearray(8))


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_noise_is_refused_or_plain(head: bytes, body: bytes) -> None:
    """Whatever the bytes: a message or a FrameError."""
    with contextlib.suppress(wire.FrameError):
        assert isinstance(wire.unpack(head, bytearray(body)), dict)


def test_a_bool_tensor_holds_only_bools() -> None:
    """A byte of 7 in a bool tensor would be undefined behaviour."""
    tree = header({"$": "tensor", "dtype": "bool", "shape": [2]})
    back = wire.unpack(tree, bytearray([7, 0]))["value"]
    assert back.view(torch.uint8).tolist() == [1, 0]


def test_a_drip_of_bytes_does_not_extend_the_deadline() -> None:
    """One byte now and then keeps nobody waiting."""
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def drip() -> None:
        theirs.sendall(wire.LENGTHS.pack(1000, 0))
        while not stop.wait(0.05):
            theirs.sendall(b" ")

    thread = threading.Thread(target=drip)
    thread.start()
    began = time.monotonic()
    try:
        with pytest.raises(TimeoutError):
            wire.receive(ours, deadline=began + 0.3)
        assert time.monotonic() - began < 5
    finally:
        stop.set()
        thread.join()
        ours.close()
        theirs.close()


def test_a_frame_larger_than_allowed_is_refused_before_memory_is_taken() -> None:
    """By its lengths alone."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(wire.LENGTHS.pack(2**32 - 1, 2**32 - 1))
        with pytest.raises(wire.FrameError, match="larger than allowed"):
            wire.receive(ours)


def test_an_end_between_frames_is_none_and_within_one_an_error() -> None:
    """Hanging up is no error; hanging up in the middle is."""
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        assert wire.receive(ours) is None
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(wire.LENGTHS.pack(10, 0) + b"abc")
        theirs.close()
        with pytest.raises(wire.FrameError, match="ends early"):
            wire.receive(ours)


def test_stand_ins_travel() -> None:
    """Handles, generators, lazy items, dtypes, devices and paths."""
    sent = [
        values.Handle(3, "GPT"), values.Generator(7), values.Lazy(1, ("a", "b")), torch.bfloat16, torch.device("cpu"), Path("a/b"),
    ]  # fmt: skip
    assert through({"value": sent})["value"] == sent


def test_values_are_counted_before_they_are_built() -> None:
    """A short header cannot ask for gigabytes of lists."""
    for text in ("[" + "[]," * (2**20) + "[]]", "[" + "1," * (2**21 + 1) + "1]"):
        with pytest.raises(wire.FrameError, match="too many values"):
            wire.unpack(f'{{"value": {text}}}'.encode(), bytearray())


def test_texts_are_bounded_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too long travels as its name; what comes too long is refused."""
    monkeypatch.setattr(values, "MAX_TEXT", 10)
    assert isinstance(through({"value": "x" * 11})["value"], values.Opaque)
    assert isinstance(through({"value": b"x" * 11})["value"], values.Opaque)
    monkeypatch.setattr(decode, "MAX_TEXT", 10)
    assert through({"value": {1: b"x" * 11}})["value"] == {1: values.Opaque("bytes")}
    long = "x" * 11
    merges, vocabulary = {"$": "merges", "latin1": ["", long]}, {"$": "vocabulary", "ids": [1], "latin1": [long]}
    for tree in (long, {"$": "bytes", "latin1": long}, {long: 1}, {"$": "opaque", "type": long}, merges, vocabulary):
        with pytest.raises(wire.FrameError, match="too long"):
            wire.unpack(header(tree), bytearray())


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}'])
def test_what_is_no_json_is_refused(text: str) -> None:
    """Python's reader would take it."""
    with pytest.raises(wire.FrameError, match="no JSON"):
        wire.unpack(f'{{"value": {text}}}'.encode(), bytearray())


def test_nothing_calls_itself() -> None:
    """As deep as values may be nested, within a few frames of the stack."""
    inner: object = 1
    for _ in range(values.MAX_DEPTH):
        inner = {"$": "tuple", "items": [inner]}
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 25)
    try:
        back = decode.decode(inner, bytearray())
    finally:
        sys.setrecursionlimit(limit)
    assert type(back) is tuple
    with pytest.raises(wire.FrameError, match="nested too deeply"):
        decode.decode([[inner]], bytearray())


def test_an_answer_before_the_question_loses_the_worker() -> None:
    """One question, one answer: what was sent ahead is not taken for it, even with the right number."""
    ours, theirs = socket.socketpair()

    class Worker:
        socket = ours

        def kill(self) -> str:
            return "gone"

    with ours, theirs:
        link = Confined(Worker)
        link.worker = Worker()
        wire.send(theirs, {"id": 7, "value": "ready made"})
        with pytest.raises(WorkerLost, match="before it was asked"):
            link.ask({"id": 7, "verb": "get"}, 1.0)


@pytest.mark.parametrize("identity", [True, 1.0, "1", None, 2])
def test_an_answer_bears_the_number_of_its_question(identity: object) -> None:
    """The very number: `True` is no 1."""
    ours, theirs = socket.socketpair()

    class Worker:
        socket = ours

        def kill(self) -> str:
            return "gone"

    def reply() -> None:
        assert wire.receive(theirs) is not None
        wire.send(theirs, {"id": identity, "value": 0})

    with ours, theirs:
        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(WorkerLost, match="not asked"):
            Confined(Worker).ask({"id": 1, "verb": "get"}, 5.0)
        thread.join()


SOME = st.sampled_from(["tensor", "tuple", "dict", "lazy", "handle", "generator", "bytes", "float", "device", "dtype", "path", "opaque", "vocabulary", "merges", "", "pickle"])
TREE = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, 1, -1, 2**31, 2**63, 2**201]) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4)
    | st.builds(
        lambda kind, rest: {"$": kind, **rest}, SOME,
        st.dictionaries(st.sampled_from(["items", "latin1", "is", "type", "name", "id", "seed", "device", "dtype", "shape", "order", "ids"]), inner, max_size=4),
    ),
    max_leaves=25,
)  # fmt: skip


@given(TREE, st.binary(max_size=64), st.booleans())
@settings(max_examples=500)
def test_anything_in_any_place_is_refused_or_plain(tree: object, body: bytes, in_worker: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """Of the form of a frame, with whatever in its fields: plain values, or a FrameError and nothing else."""
    with contextlib.suppress(wire.FrameError):
        message = wire.unpack(header(tree), bytearray(body), (lambda special: special) if in_worker else None)
        waiting = [message]
        while waiting:
            one = waiting.pop()
            assert isinstance(
                one,
                (type(None), bool, int, float, str, bytes, list, tuple, dict, torch.Tensor, torch.dtype, torch.device, Path,
                 values.Handle, values.Generator, values.Lazy, values.Opaque),
            )  # fmt: skip
            waiting += [*one, *one.values()] if isinstance(one, dict) else list(one) if isinstance(one, (list, tuple)) else []
