"""Frames between the grader and a worker: a length, a JSON header, raw tensor bytes. No pickle, ever.

    frame  = u32 header length | u32 body length | header | body
    header = JSON of one message; tensors are replaced by their dtype, shape and place in the body
    body   = the tensors' bytes, one after the other, dense

Both sides use this file; what a message may hold is in values.py and decode.py, and nothing else of ours is imported.
What the grader reads is hostile: every size is checked before memory is taken, every type against a list, and the
reader never builds anything but plain values.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from autograder.decode import decode
from autograder.values import FrameError, Special, encode

__all__ = ["LENGTHS", "FrameError", "pack", "receive", "send", "unpack"]

MAX_HEADER = 16 * 2**20
MAX_BODY = 256 * 2**20
# Brackets and commas in a header, those inside texts among them. GPT-2's merges are a tenth of a million commas.
MAX_CONTAINERS = 2**20
MAX_ITEMS = 2**21
CHUNK = 2**20
LENGTHS = struct.Struct("!II")


def _no_constant(name: str) -> None:
    """Python's reader knows NaN and Infinity, which are no JSON; ours travel as {"$": "float"}."""
    raise ValueError(name)


_TO_JSON, _FROM_JSON = json.JSONEncoder(separators=(",", ":")), json.JSONDecoder(parse_constant=_no_constant)


def pack(message: dict[str, Any]) -> tuple[bytes, list[memoryview]]:
    """One message as header bytes and the buffers that follow it."""
    buffers: list[memoryview] = []
    tree = encode(message, buffers)
    header = _TO_JSON.encode(tree).encode("ascii")
    return LENGTHS.pack(len(header), sum(len(part) for part in buffers)) + header, buffers


def unpack(header: bytes, body: bytearray, resolve: Callable[[Special], Any] | None = None) -> dict[str, Any]:
    """The message in a frame. `resolve` turns stand-ins into objects (in the worker); without it they stay as they are.

    Raises:
        FrameError: anything in it breaks the rules of this file, or of values.py.
    """
    if header.count(b"[") + header.count(b"{") > MAX_CONTAINERS or header.count(b",") > MAX_ITEMS:
        message = "a message of too many values"  # counted before any is built
        raise FrameError(message)
    try:
        tree = _FROM_JSON.decode(header.decode("ascii"))
    except (ValueError, RecursionError) as error:
        message = f"the header is no JSON ({type(error).__name__})"
        raise FrameError(message) from error
    message_read = decode(tree, body, resolve)
    if type(message_read) is not dict:
        message = "the message is no dictionary"
        raise FrameError(message)
    return message_read


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Write one frame.

    Raises:
        FrameError: the message is larger than a frame may be.
        OSError: the other side is gone.
    """
    start, buffers = pack(message)
    header_size, body_size = LENGTHS.unpack(start[: LENGTHS.size])
    if header_size > MAX_HEADER or body_size > MAX_BODY:
        text = f"a message of {header_size + body_size} bytes is too large to send"
        raise FrameError(text)
    if body_size < CHUNK:  # at once: each write wakes the other side
        start, buffers = start + b"".join(buffers), []
    connection.sendall(start)
    for part in buffers:
        connection.sendall(part)


def receive(
    connection: socket.socket, *, deadline: float | None = None, resolve: Callable[[Special], Any] | None = None
) -> dict[str, Any] | None:
    """Read one frame, or None where the other side has closed. `deadline`: on `time.monotonic()`'s clock.

    Raises:
        FrameError: a frame that breaks the rules, or that ends early.
        TimeoutError: the deadline has passed; a slow drip of bytes does not extend it.
    """
    start = _read(connection, LENGTHS.size, deadline, may_end=True)
    if start is None:
        return None
    header_size, body_size = LENGTHS.unpack(start)
    if header_size > MAX_HEADER or body_size > MAX_BODY:
        message = f"a frame of {header_size + body_size} bytes is larger than allowed"
        raise FrameError(message)
    both = _read(connection, header_size + body_size, deadline)
    assert both is not None
    header = bytes(both[:header_size])
    del both[:header_size]  # without a copy of what may be large
    return unpack(header, both, resolve)


def _read(
    connection: socket.socket, size: int, deadline: float | None, *, may_end: bool = False
) -> bytearray | None:
    data = bytearray()
    while len(data) < size:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
        part = connection.recv(min(size - len(data), CHUNK))  # memory for what has come, not for what was announced
        if not part:
            if may_end and not data:
                return None
            message = "the frame ends early"
            raise FrameError(message)
        data += part
    return data
