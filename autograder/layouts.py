r"""Whose a file is, by the names that a platform gives.

    Canvas       doejane_956227_46792176_attention.ipynb          name, user's number, upload's number, file's name
                 doejane_LATE_956227_46792176_attention-1.ipynb   late; -1: the second upload of that name
    Moodle       Jane Doe_657768_assignsubmission_file_/x.ipynb   name, number in this assignment; in folders,
                 Jane Doe_657768_assignsubmission_file_x.ipynb    or, where the teacher chose so, without
    Blackboard   Homework 1_jdoe_attempt_2026-01-30-15-00-00_x.ipynb          assignment, account, time, file's name
                 Homework 1_jdoe_attempt_2026-01-30-15-00-00.txt              what Blackboard says of it
    nbgrader     jdoe+attention+2026-01-30 15:00:00 UTC+h4sh/attention.ipynb  exchange, inbound/
                 jdoe/attention/attention.ipynb                               submitted/
    zip_collect  downloaded/attention/archive/*, …/extracted/*                holds any of these

A student chooses a file's own name, and what lies inside their folder; so the outermost name that tells is believed,
read from its left end. Times serve to find the newest attempt of one student, and for nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autograder.archives import Found

_CANVAS = re.compile(
    r"(?P<name>[^_/]+)_(?P<late>LATE_|late_)?(?P<number>\d+)_(?:question_\d+_)?(?P<attempt>\d+)_(?P<file>.+)"
)
_CANVAS_AGAIN = re.compile(r"-(\d{1,3})(?=\.[^.]+\Z)")
_MOODLE = re.compile(r"(?P<name>[^/]+?)_(?P<number>\d+)_assignsubmission_(?P<kind>[a-z]+)_?(?P<file>.*)")
_BLACKBOARD = re.compile(
    r"(?P<title>.+?)_(?P<name>[^_/]+)_attempt_(?P<attempt>\d{4}(?:-\d\d){5})(?:_(?P<file>.+)|\.txt)"
)
_INBOUND = re.compile(
    r"(?P<name>.+)\+(?P<assignment>[^+]+)"
    r"\+(?P<attempt>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? [A-Za-z/_+\-0-9]+?)(?:\+[^+]+)?"
)


@dataclass(frozen=True)
class Named:
    """A file, and what the platform's names say of it.

    name, number: the student; the number tells two of the same name apart. assignment: "" where nothing tells.
    file: its name as the student gave it. attempt: greater is newer; comparable within one layout.
    """

    found: Found
    name: str
    number: str = ""
    assignment: str = ""
    file: str = ""
    attempt: tuple[str | int, ...] = ()
    late: bool = False


def named(found: Sequence[Found], known: Sequence[str]) -> list[Named | None]:
    """For each file what its names say, or None where they are no platform's. `known`: the course's assignments.

    Folders above the students', as an archive of a folder has them, are looked through.
    """
    cut = _above(found, known)
    return [_named(file, file.parts[cut:], known) for file in found]


def _above(found: Sequence[Found], known: Sequence[str]) -> int:
    """How many folders, from the top, stand for nobody: what is deeper down is a student's, and changes nothing."""
    places = [place for file in found for place in [_place(file.parts, known)] if place is not None]
    if places and min(places) > 0:
        return min(places) - 1
    tops = {file.parts[0] for file in found}
    inside = [file.parts[1:] for file in found if len(file.parts) > 1]
    if len(tops) == 1 and not _platform(found[0], found[0].parts):
        owners = {(one.name, one.number) for parts in inside for one in [_platform(found[0], parts)] if one}
        return int(len(owners) > 1)
    return 0


def _place(parts: Sequence[str], known: Sequence[str]) -> int | None:
    return next((number for number, part in enumerate(parts[:-1]) if part in known), None)


def _named(file: Found, parts: Sequence[str], known: Sequence[str]) -> Named | None:
    one = _platform(file, parts)
    place = _place(parts, known)
    if one is None and place:  # student/assignment/…: whatever lies between is the student's own
        return Named(file, parts[0], assignment=parts[place], file=parts[-1])
    return replace(one, assignment=parts[place]) if one and place and not one.assignment else one


def _platform(file: Found, parts: Sequence[str]) -> Named | None:
    """By the outermost part alone: what is below it is the student's."""
    if not parts:
        return None
    first, last = parts[0], parts[-1] if len(parts) > 1 else None
    if last is not None and (match := _INBOUND.fullmatch(first)):
        return Named(file, match["name"], assignment=match["assignment"], file=last, attempt=(match["attempt"],))
    if match := _MOODLE.fullmatch(first):
        return Named(file, match["name"], match["number"], file=last or match["file"])
    if match := _BLACKBOARD.fullmatch(first):
        return Named(file, match["name"], file=last or match["file"] or "", attempt=(match["attempt"],))
    if match := _CANVAS.fullmatch(first):
        again = _CANVAS_AGAIN.search(match["file"])
        attempt = (int(again[1]) if again else 0, int(match["attempt"][:18]))
        return Named(
            file, match["name"], match["number"], file=last or match["file"], attempt=attempt,
            late=match["late"] is not None,
        )  # fmt: skip
    return None
