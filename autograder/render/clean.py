"""Text from a student's process, made safe to show: no terminal escapes, no control characters, a bounded length.

What is left may still mean something to a format (HTML, Markdown, a spreadsheet); each renderer escapes for its own.
"""

from __future__ import annotations

import re

LIMIT = 4_000

# An unfinished escape takes no more than its own line with it.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # titles, links, device strings
    r"|\x1b[ -/]*[0-~]"
)
_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
# Control characters but tab and newline, and the marks that turn the direction of writing around.
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_COMMAND = re.compile(r"^([^\S\n]*+):(?=:)|(?<=##)(?=\[)", re.MULTILINE)
# What neither UTF-8 nor XML can hold.
_IMPOSSIBLE = re.compile("[\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def clean(text: str, limit: int = LIMIT) -> str:
    """The text without what could act instead of being read, cut to `limit` characters."""
    text = _BREAKS.sub("\n", _ESCAPES.sub("", text))
    text = _IMPOSSIBLE.sub("\ufffd", _UNSEEN.sub("", text))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def inert(text: str) -> str:
    """The text without what the log of a CI run takes for a command: lines that begin with `::`, and `##[` anywhere."""
    return _COMMAND.sub(lambda found: f"{found[1]}: " if found[0] else " ", text)


def one_line(text: str, limit: int = 300) -> str:
    """The same on a single line."""
    return clean(" ".join(clean(text, LIMIT).split()), limit)
