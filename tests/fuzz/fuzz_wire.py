"""Coverage-guided fuzzing of what the grader reads from a worker. A longer run by hand; its findings become tests.

    pip install '.[fuzz]'
    python tests/fuzz/fuzz_wire.py -max_total_time=600 build/fuzz/wire

Whatever header and body are: a dictionary of plain values, or a FrameError, in little time and memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["autograder.wire", "autograder.decode", "autograder.values", "json"]):
    from autograder import values, wire

import torch

PLAIN = (
    type(None), bool, int, float, str, bytes, torch.dtype, torch.device, Path, values.Handle, values.Opaque, values.Generator,
)  # fmt: skip
SEEDS: list[dict[str, object]] = [
    {"id": 1, "value": [1, 2, -3, 2.5, None, True, "text é", b"\x00\xff", float("inf")]},
    {"id": 2, "value": (torch.arange(6.0).reshape(2, 3), torch.ones(2, dtype=torch.bool), torch.zeros(0, 3))},
    {"id": 3, "error": {"kinds": ["ValueError", "Exception"], "text": "no", "where": "line 1"}},
    {"id": 4, "value": {(1, 2): [b"ab", {"nested": ({},)}], 3: values.Handle(1, "GPT"), "$": torch.bfloat16}},
    {"id": 5, "value": [torch.empty(2, 3, device="meta"), torch.device("cpu"), Path("a/b"), values.Lazy(1, ("a", 2))]},
    {"id": 6, "value": [{5: b"a", 6: b"\xff b"}, [(b"a", b"b"), (b"ab", b"")]]},
    {"id": 7, "value": torch.randn(3, 4, dtype=torch.float64).T, "gradients": [values.Generator(7), object()]},
]


def is_plain(value: object) -> bool:
    """Only what values.py lists, and tensors that are tensors."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if type(one) in (list, tuple):
            waiting += one  # type: ignore[misc]
        elif type(one) is dict:
            waiting += [*one.keys(), *one.values()]
        elif type(one) is values.Lazy:
            waiting += one.items
        elif not (type(one) is torch.Tensor or isinstance(one, PLAIN)):
            return False
    return True


WORDS = ("tensor", "tuple", "dict", "bytes", "float", "opaque", "dtype", "device", "path", "handle", "generator", "lazy", "vocabulary", "merges",
         "float32", "bool",
         "bfloat16", "complex128", "meta", "cpu", "cuda:3", "inf", "nan", "", "$", "\ud800")  # fmt: skip
FIELDS = ("$", "items", "latin1", "is", "type", "name", "id", "seed", "device", "dtype", "shape", "order", "ids")
NUMBERS = (0, 1, 2, 3, 7, -1, 2**31, 2**62, 2**63, 2**64, 2**199, 10**61, 16, 17)


def tree(given: atheris.FuzzedDataProvider, depth: int) -> object:
    """JSON of the form that a frame has, with anything in any place."""
    kind = given.ConsumeIntInRange(0, 9)
    if kind == 0 or depth > 40:
        return given.PickValueInList(list(WORDS))
    if kind == 1:
        return given.PickValueInList(list(NUMBERS))
    if kind == 2:
        return given.PickValueInList([None, True, False, 0.5, -0.0, 1e308])
    if kind == 3:
        return [tree(given, depth + 1) for _ in range(given.ConsumeIntInRange(0, 5))]
    if kind == 4:
        return [given.PickValueInList(list(NUMBERS)) for _ in range(given.ConsumeIntInRange(0, 9))]
    if kind == 5:
        wraps = given.ConsumeIntInRange(0, 30)
        one = tree(given, depth + wraps + 1)
        for _ in range(wraps):
            one = [one] if given.ConsumeBool() else {"$": "tuple", "items": [one]}
        return one
    made: dict[str, object] = {"$": given.PickValueInList(list(WORDS[:14]))} if kind > 6 else {}
    for _ in range(given.ConsumeIntInRange(0, 5)):
        made[given.PickValueInList(list(FIELDS[1:]))] = tree(given, depth + 1)
    return made


def read(data: bytes) -> None:
    """One input: raw where the first byte is even, else as choices that make a tree and a body."""
    if len(data) < 2:
        return
    if data[0] % 2:
        given = atheris.FuzzedDataProvider(data[1:])
        body = given.ConsumeBytes(given.ConsumeIntInRange(0, 64))
        check(json.dumps({"$": "dict", "items": [["id", 1], ["value", tree(given, 0)]]}).encode(), body)
        return
    cut = 2 + (len(data) - 2) * data[1] // 255
    check(data[2:cut], data[cut:])


def check(header: bytes, body: bytes) -> None:
    """Both sides read it: the grader, and the worker with its stand-ins."""
    for resolve in (None, lambda special: special):
        try:
            message = wire.unpack(header, bytearray(body), resolve)
        except wire.FrameError:
            continue
        assert type(message) is dict
        assert is_plain(message), message


def seeds(folder: Path) -> None:
    """Honest frames to begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, message in enumerate(SEEDS):
        start, buffers = wire.pack(message)
        header, body = start[wire.LENGTHS.size :], b"".join(buffers)
        share = -(-255 * len(header) // max(len(header) + len(body), 1))
        (folder / f"seed-{number}").write_bytes(bytes([0, min(share, 255)]) + header + body)


if __name__ == "__main__":
    folders = [Path(name) for name in sys.argv[1:] if not name.startswith("-")]
    if folders:
        seeds(folders[0])
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
