"""2,000 notebooks that something happened to, always the same ones: bytes, JSON, cells, text, size, encoding.

    python tests/damaged.py                grade all of them, confined, beside an honest one; about half an hour
    python tests/damaged.py --count 200    the first so many

Each must end in a report, and the honest ones between them must get what they always get.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from autograder.assignment import Assignment, read_assignment
from autograder.notebook import to_ipynb

TOY = Path(__file__).parent / "toy_course" / "solutions" / "toy"
COUNT = 2_000
ODD = ("\ud800", "\x00", "\u202e", "\x1b[31m", "\ufeff", "é" * 3, "👩‍👩‍👧", "\r", "\u2028", "\x85", "::set-output::", "<script>")
WRONG: tuple[Any, ...] = (None, True, -1, 1e308, "", "x", [], {}, [[]], {"a": {}}, [None], 10**4000, ["a", 1, None], {"": ""})


def notebook(assignment: Assignment) -> dict[str, Any]:
    """The right answer, as Jupyter saves it."""
    made: dict[str, Any] = json.loads(to_ipynb(assignment.filled()))
    return made


def dumped(value: Any) -> bytes:
    """JSON, also of what no UTF-8 can hold."""
    return json.dumps(value).encode()


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in the JSON: the container and the key."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            waiting.append(one[key])
    return found


def flipped(chance: random.Random, book: dict[str, Any]) -> bytes:
    """Some bytes are others."""
    data = bytearray(dumped(book))
    for _ in range(chance.choice((1, 2, 8, 64))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def cut(chance: random.Random, book: dict[str, Any]) -> bytes:
    """The end is missing, or the beginning, or a piece stands twice."""
    data = dumped(book)
    a, b = sorted((chance.randrange(len(data)), chance.randrange(len(data))))
    return chance.choice((data[:a], data[a:], data[:a] + data[b:], data[:b] + data[a:], data + data, data[a:b]))


def replaced(chance: random.Random, book: dict[str, Any]) -> bytes:
    """Values anywhere are of another type, or gone."""
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        container, key = chance.choice(places(book) or [(book, "cells")])
        if chance.random() < 0.3 and isinstance(container, dict):
            container.pop(key, None)
        elif chance.random() < 0.2 and isinstance(container, dict):
            container[chance.choice(ODD)] = container.pop(key, None)
        else:
            container[key] = copy.deepcopy(chance.choice(WRONG))
    return dumped(book)


def repeated_keys(chance: random.Random, book: dict[str, Any]) -> bytes:
    """Keys stand twice, with other values."""
    text = dumped(book).decode()
    key = chance.choice(("cells", "metadata", "source", "cell_type", "nbgrader", "grade_id", "points", "nbformat"))
    twice = f'"{key}": {json.dumps(chance.choice(WRONG[:-3]))}, "{key}":'
    return text.replace(f'"{key}":', twice, chance.choice((1, -1))).encode()


def shuffled(chance: random.Random, book: dict[str, Any]) -> bytes:
    """Cells are in another order, doubled, deleted, or of another kind."""
    cells = [cell for cell in book["cells"] for _ in range(chance.choice((0, 1, 1, 1, 2)))]
    chance.shuffle(cells)
    for cell in cells:
        if chance.random() < 0.2:
            cell["cell_type"] = chance.choice(("markdown", "raw", "code", "heading", "", None))
        if chance.random() < 0.2:
            cell["metadata"] = {"nbgrader": {"grade_id": chance.choice(("softmax", "imports", "test_softmax", "x")), "solution": True}}
    chance.shuffle(cells)
    return dumped(book | {"cells": cells})


def deep(chance: random.Random, book: dict[str, Any]) -> bytes:
    """Something in it is nested without end."""
    depth = chance.choice((50, 900, 1_100, 20_000, 200_000))
    a, b = chance.choice((("[", "]"), ('{"a":', "}"), ('{"cells":', "}"), ('{"cells":[', "]}")))
    nest = a * depth + chance.choice(("", "1")) + b * depth
    text = dumped(book).decode()
    where = chance.choice(('"metadata":', '"source":', '"cells":', '"nbformat":'))
    return chance.choice((nest, text.replace(where, f'{where} {nest}, "was":', 1))).encode()


def huge(chance: random.Random, book: dict[str, Any]) -> bytes:
    """One thing in it is far too large, or there are far too many."""
    cell = chance.choice([cell for cell in book["cells"] if cell["cell_type"] == "code"])
    size = chance.choice((100_000, 400_000, 3_000_000))
    kind = chance.randrange(8)
    if kind == 0:
        cell["source"] = "x = 1\n" * (size // 6)
    elif kind == 1:
        cell["source"] = "x = '" + "y" * size + "'"
    elif kind == 2:
        cell["source"] = "x = [" + "[]," * (size // 10) + "]"
    elif kind == 3:
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["line\n"] * (size // 20)}]
    elif kind == 4:
        book["cells"] += [{"cell_type": "code", "source": f"a{n} = {n}", "metadata": {}} for n in range(size // 100)]
    elif kind == 5:
        cell["source"] = "(" * (size // 100) + " " * size + ")" * (size // 100)
    elif kind == 6:
        cell["metadata"]["tags"] = ["t" * 9] * (size // 20)
    else:
        cell["source"] = ["-" * (size // 50)] * 50
    return dumped(book)


def encoded(chance: random.Random, book: dict[str, Any]) -> bytes:
    """In another encoding, or with bytes of one."""
    book["cells"][0]["source"] = "# Grüße, 世界 🙂"
    text = json.dumps(book, ensure_ascii=False)
    kind = chance.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp1252", "utf-7", "gb18030", "cp037"))
    data = text.encode(kind, "replace")
    return chance.choice((data, data, b"\xff\xfe" + data, data.replace(b"e", b"\xe9"), data + b"\x1a"))


def odd_text(chance: random.Random, book: dict[str, Any]) -> bytes:
    """Characters that are none, in cells and labels: NUL, lone surrogates, controls."""
    for cell in book["cells"]:
        if chance.random() < 0.4:
            source = cell["source"] if isinstance(cell["source"], str) else ""
            at = chance.randrange(len(source) + 1)
            cell["source"] = source[:at] + chance.choice(ODD) + source[at:]
        if chance.random() < 0.2 and "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"]["grade_id"] += chance.choice(ODD)
    return dumped(book).replace(b"\\u0000", chance.choice((b"\x00", b"\\u0000")))


def numbers(chance: random.Random, book: dict[str, Any]) -> bytes:
    """Numbers that are none, or without end."""
    number = chance.choice(("NaN", "Infinity", "-Infinity", "1e999", "9" * 4_000, "9" * 5_000, "-0", "1E400", "0.1e-999", "01", "+1", "0x1"))
    text = dumped(book).decode()
    where = chance.choice(('"nbformat": 4', '"nbformat_minor": 5', '"schema_version": 3', '"points": 10.0', '"execution_count": null'))
    key = where.partition(":")[0]
    return text.replace(where, f"{key}: {number}").encode()


def no_notebook(chance: random.Random, book: dict[str, Any]) -> bytes:
    """Another file altogether."""
    return chance.choice((
        b"", b" \n", b"\x00" * 1_000, b"%PDF-1.7", b"PK\x03\x04" + bytes(100), b"null", b"[]", b"{}", b'"text"', b"17", b"true",
        chance.randbytes(chance.randrange(1, 5_000)), b"{" * 9, b'{"cells": [[]]}', b'{"cells": [null, 1, "x"]}', b'{"worksheets": [[], {}]}',
        b'{"cells": {"0": {}}}', b"import torch", b"<html>", b"\xef\xbb\xbf", b"\xef\xbb\xbf" + dumped(book), b'{"cells": []}' * 2,
        json.dumps({"nbformat": 3, "worksheets": [{"cells": book["cells"]}, {"cells": 3}, None]}).encode(),
    ))  # fmt: skip


WAYS: tuple[Callable[[random.Random, dict[str, Any]], bytes], ...] = (
    flipped, flipped, cut, replaced, replaced, repeated_keys, shuffled, shuffled, deep, huge, encoded, odd_text, numbers, no_notebook,
)  # fmt: skip


def notebooks(assignment: Assignment, count: int = COUNT) -> Iterator[tuple[str, bytes]]:
    """The way and the file, `count` times."""
    for number in range(count):
        chance = random.Random(number)
        way = WAYS[number % len(WAYS)]
        yield way.__name__, way(chance, notebook(assignment))


def main() -> int:
    """Grade all of them, and say what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=COUNT)
    count = parser.parse_args().count
    from autograder.grader import Grader

    assignment = read_assignment(TOY)
    honest = to_ipynb(assignment.filled())
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    slowest = 0.0
    with Grader(TOY.parent) as grader:
        level = grader.zygote.level
        wanted = grader.grade(honest, assignment="toy", student="ada")
        for number, (way, data) in enumerate(notebooks(assignment, count)):
            began = time.monotonic()
            try:
                report = grader.grade(data, assignment="toy", student=f"s{number}")
                text = report.to_json() + report.notes[0] if report.status == "ungraded" else report.to_json()
                text.encode("utf-8")
            except BaseException as error:  # noqa: BLE001 - that is what is counted
                faults.append(f"{number} {way}: {type(error).__name__}: {error}"[:300])
                if isinstance(error, KeyboardInterrupt):
                    break
                continue
            took = time.monotonic() - began
            slowest = max(slowest, took)
            if took > 120:
                faults.append(f"{number} {way}: took {took:.0f} s")
            outcomes[report.status if report.status == "ungraded" else f"graded {report.score:g}"] += 1
            if number % 50 == 49:
                again = grader.grade(honest, assignment="toy", student="ada")
                if again.score != wanted.score or again.tasks != wanted.tasks:
                    faults.append(f"after {number}: the honest notebook got {again.score:g} instead of {wanted.score:g}")
                print(number + 1, dict(outcomes), f"slowest {slowest:.1f} s", flush=True)
    print(f"{sum(outcomes.values())} of {count} ended in a report (isolation {level}); {dict(outcomes)}; slowest {slowest:.1f} s")
    print("\n".join(faults) or "No fault.")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
