"""What the two sides of the confinement agree on before a worker starts: limits, and which walls to try.

Plain records that travel as JSON from the grader to the zygote; nothing here knows a submission or a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

LEVELS = ("none", "partial", "full")  # ordered


@dataclass(frozen=True)
class Limits:
    """What one worker may use up. What it prints leads nowhere, so there is nothing of that to bound."""

    memory_bytes: int = 4 * 2**30
    scratch_bytes: int = 64 * 2**20
    scratch_inodes: int = 10_000
    cpu_seconds: int = 300
    open_files: int = 128
    file_bytes: int = 64 * 2**20
    threads: int = 64


@dataclass(frozen=True)
class Switches:
    """Which layers are tried; only tests leave any out, to stand in for machines that lack them.

    `outer` names the boxes to try in turn: the system's bwrap, the one of the wheel, and none.
    """

    outer: tuple[str, ...] = ("system", "wheel", "bare")
    namespaces: bool = True
    landlock: bool = True
    seccomp: bool = True
    own_user: bool = True
    addresses: bool = True  # the limit on address space


@dataclass(frozen=True)
class Plan:
    """Everything the zygote is told, once, when it starts."""

    scratch: str
    readable: tuple[str, ...]
    enclosed: bool  # inside bwrap, so only `readable` is there at all
    preload: tuple[str, ...]
    serve: str
    limits: Limits = field(default_factory=Limits)
    switches: Switches = field(default_factory=Switches)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Plan:
        """The plan again, with lists turned back into tuples."""
        switches = dict(values["switches"], outer=tuple(values["switches"]["outer"]))
        return cls(
            scratch=values["scratch"],
            readable=tuple(values["readable"]),
            enclosed=values["enclosed"],
            preload=tuple(values["preload"]),
            serve=values["serve"],
            limits=Limits(**values["limits"]),
            switches=Switches(**switches),
        )
