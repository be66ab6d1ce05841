"""The filter, decided on paper: what it answers, on machines that are not at hand too."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from autograder import seccomp


def decision(code: list[tuple[int, int, int, int]], architecture: int, number: int, *arguments: int) -> int:
    """What the kernel's small machine answers: the few instructions the filter is made of."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    value = at = 0
    while True:
        what, if_true, if_false, constant = code[at]
        at += 1
        if what == 0x20:
            value = struct.unpack_from("<I", data, constant)[0]
        elif what == 0x54:
            value &= constant
        elif what == 0x06:
            return constant
        else:
            holds = {0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant)}[what]
            at += if_true if holds else if_false


ALLOW, DENY, NO_SUCH_CALL, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000


@pytest.mark.parametrize("machine_name", ["x86_64", "aarch64"])
def test_filter(machine_name: str) -> None:
    """What is refused, what is looked at more closely, and what is let through."""
    architecture, column = seccomp._ARCHITECTURES[machine_name]
    code = seccomp.program(machine_name, 7, host_files=False)

    def decide(numbers: tuple[int, int], *arguments: int) -> int:
        return decision(code, architecture, numbers[column], *arguments)

    for numbers in seccomp.DENIED.values():
        if (number := numbers[column]) is not None:
            assert decision(code, architecture, number) == DENY
    read, clone, kill, prctl, pair, fcntl = (0, 63), (56, 220), (62, 129), (157, 167), (53, 199), (72, 25)
    assert decide(read) == ALLOW
    assert [decide(clone, flags) for flags in (0x3D0F00, 17, 0x3D0F00 | 0x10000000)] == [ALLOW, DENY, DENY]
    assert [decide(kill, pid) for pid in (7, 8, 0, 0xFFFFFFFF)] == [ALLOW, DENY, DENY, DENY]
    assert [decide(prctl, option) for option in (1, 4, 15, 22)] == [DENY, DENY, ALLOW, DENY]
    assert [decide(pair, *kind) for kind in ((1, 1), (1, 0x80001), (1, 5), (1, 2), (30, 1))] == [ALLOW] * 3 + [DENY] * 2
    assert [decide(fcntl, 0, what) for what in (8, 10, 15, 1026, 2)] == [DENY] * 4 + [ALLOW]
    assert [decide((302, 261), pid) for pid in (0, 8)] == [ALLOW, DENY]
    assert decision(code, architecture, 435) == decision(code, architecture, 9999) == NO_SUCH_CALL
    assert decision(code, architecture ^ 1, 0) == KILL
    chmod = seccomp.DENIED_BESIDE_HOST_FILES["fchmodat"][column]
    assert chmod is not None
    assert decision(code, architecture, chmod) == ALLOW
    assert decision(seccomp.program(machine_name, 7, host_files=True), architecture, chmod) == DENY


@pytest.mark.parametrize(
    ("header", "column"),
    [("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0), ("/usr/include/asm-generic/unistd.h", 1)],
)
def test_call_numbers(header: str, column: int) -> None:
    """The numbers of the tables are those of the kernel's own headers."""
    if not Path(header).exists():
        pytest.skip(f"{header} is not installed")
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    for name, numbers in {**seccomp.DENIED, **seccomp.DENIED_BESIDE_HOST_FILES}.items():
        if numbers[column] is not None:
            assert str(numbers[column]) == found[name], name
        else:
            assert name not in found
