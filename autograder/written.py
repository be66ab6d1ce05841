"""Values in an example, as a student can paste or read them: short, and cut where Python can still be read."""

from __future__ import annotations

import math
import re
from typing import Any

import torch

from autograder.compare import short

# So many letters of a line of an example are shown.
WIDTH = 88
# A line that sets an attribute, and one that makes an object.
_SETS, _MAKES = re.compile(r"\w+\.[\w.]+ = "), re.compile(r"\w+ = ")
# A tensor of more numbers is shown by its shape.
MOST_NUMBERS, MOST_WHOLE_NUMBERS = 12, 40
MOST_LETTERS, A_LINE = 200, 75
# Larger numbers than these are often what it is about: an overflow.
LARGE = 10
# The entries that every vocabulary of bytes begins with.
BYTES = [(number, bytes([number])) for number in range(256)]


def pasted(value: torch.Tensor) -> str:
    """Python for a tensor. One too long to read is given by its shape, with any numbers in it."""
    kind = "" if value.dtype in (torch.float32, torch.int64, torch.bool) else f", dtype={value.dtype}"
    always = "" if value.dtype is torch.float32 else f", dtype={value.dtype}"
    shape, numbers = tuple(value.shape), value.numel()
    if value.device.type == "meta" or not numbers:
        return f"torch.empty({shape}{always}{', device=' + repr('meta') if value.device.type == 'meta' else ''})"
    broken = value.is_floating_point() or value.is_complex()
    if numbers <= (MOST_NUMBERS if broken or value.dtype is torch.bool else MOST_WHOLE_NUMBERS):
        return f"torch.tensor({written(value)}{kind})"
    first = value.flatten()[0]
    if bool((value == first).all()):
        return f"torch.full({shape}, {written(first)}{kind})"
    if value.dtype is torch.bool:
        return f"torch.rand({shape}) < 0.5"
    if torch.equal(value.flatten(), torch.arange(numbers).to(value.dtype)):
        return f"torch.arange({numbers}{', dtype=' + str(value.dtype) if broken else kind}).reshape({shape})"
    if not broken:
        return f"torch.randint({int(value.min())}, {int(value.max()) + 1}, {shape}{kind})"
    finite = value[value.isfinite()].double() if value.is_floating_point() else value[:0]
    if finite.numel() and finite.abs().max() > LARGE:
        low, high = _rounded(finite.min().item(), 2), _rounded(finite.max().item(), 2)
        return f"torch.empty({shape}{kind}).uniform_({low:g}, {high:g})"
    return f"torch.randn({shape}{kind})"


def remark(value: torch.Tensor) -> str:
    """What Python for a tensor does not say, as a comment."""
    parts = []
    if value.numel() > MOST_NUMBERS and value.is_floating_point() and value.device.type != "meta":
        odd = [(name, int(found.sum())) for name, found in (("-inf", value == -math.inf), ("inf", value == math.inf))]
        held = " and ".join(f"{name} in {count} places" for name, count in odd if count)
        parts = [f"with {held}"] if held else []
    parts += [] if value.is_contiguous() else ["not contiguous"]
    return f"  # {', '.join(parts)}" if parts else ""


def container(value: Any, word: Any, room: int) -> tuple[str, str]:
    """A long list, dict or text in so many letters, cut between its items, and what is left out, as a comment.

    word: how an item is written.
    """
    if isinstance(value, str):
        return repr(f"{value[: room - 30]}..."), f"  # {len(value)} characters"
    if isinstance(value, dict):
        parts, left, right = [f"{word(key)}: {word(item)}" for key, item in value.items()], "{", "}"
        whole = ", ".join(["{**{i: bytes([i]) for i in range(256)}", *parts[256:]]) + right
        if list(value.items())[:256] == BYTES and len(whole) <= room:
            return whole, ""
        name = "tensors" if all(isinstance(item, torch.Tensor) for item in value.values()) else "entries"
    else:
        left, right = "()" if isinstance(value, tuple) else "[]"
        parts, name = [word(item) for item in value], "items"
    whole, left_out = left + ", ".join(parts) + right, f"  # {len(value)} {name}"
    if len(whole) <= room:
        return whole, ""
    for kept in (2, 1):
        ends = left + ", ".join([*parts[:kept], "...", *parts[max(kept, len(parts) - kept) :]]) + right
        if len(ends + left_out) <= room:
            return ends, left_out
    return f"{left}...{right}", left_out


def told(value: Any) -> str:
    """A result in words and numbers."""
    if isinstance(value, dict) and holds(value, (torch.Tensor,)):
        parts = [f"{key!r}: {_counted(item)}" for key, item in value.items()]
        if sum(map(len, parts)) <= A_LINE:
            return f"{{{', '.join(parts)}}}"
        return f"a dictionary with the keys {cut(', '.join(map(str, value)), 120)}"
    if isinstance(value, list | tuple) and holds(value, (torch.Tensor,)):
        return cut("; ".join(map(told, value)), MOST_LETTERS)
    if isinstance(value, tuple) and len(repr(value)) > MOST_LETTERS:  # a long dict among others would take all the room
        long = [isinstance(item, dict) and len(repr(item)) > A_LINE for item in value]
        most = MOST_LETTERS // max(long.count(False), 1)
        pairs = zip(value, long, strict=True)
        parts = [f"<dict of {len(item)}>" if too_long else short(item, most) for item, too_long in pairs]
        return f"({', '.join(parts)})"
    if not isinstance(value, torch.Tensor):
        return short(value, MOST_LETTERS)
    shape = f"shape {tuple(value.shape)}"
    if value.device.type == "meta" or value.numel() > MOST_NUMBERS:
        return f"{shape}, {value.dtype}"
    return f"{shape}, {written(value)}" if value.dim() else written(value)


def _counted(value: Any) -> str:
    """An entry of a dictionary; of tensors their number."""
    if isinstance(value, list | tuple) and holds(value, (torch.Tensor,)):
        return f"[{len(value)} tensors]"
    return f"<tensor of shape {tuple(value.shape)}>" if isinstance(value, torch.Tensor) else short(value, 40)


def holds(value: Any, kinds: tuple[type, ...]) -> bool:
    """Whether a container holds one of these, however deep."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(isinstance(item, kinds) or holds(item, kinds) for item in items)


def written(value: torch.Tensor) -> str:
    """A tensor's numbers as Python."""
    return re.sub(r"\b(inf|nan)\b", r"math.\1", repr(_rounded(value.tolist())))


def cut(text: str, limit: int) -> str:
    """Of a text so many letters, the last of them dots where something is left out."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _rounded(value: Any, digits: int = 4) -> Any:
    if isinstance(value, list):
        return [_rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def joined(lines: list[str], makers: int) -> list[str]:
    """The lines, of which the first so many make objects; one that only another of these needs is put into that."""
    for place in range(makers):
        name, _, made = lines[place].partition(" = ")
        used = re.compile(rf"(?<![\w.'\"]){re.escape(name)}\b(?!=)")
        uses = [other for other in range(place + 1, len(lines)) for _ in used.findall(lines[other])]
        if len(uses) != 1 or uses[0] >= makers or not re.match(r"[A-Z]\w+\(", made) or "  # " in made:
            continue
        longer = re.sub(used.pattern + r"(?![.(])", made.replace("\\", r"\\"), lines[uses[0]])
        if longer != lines[uses[0]] and len(longer) <= WIDTH:
            lines[place], lines[uses[0]] = "", longer
    return [line for line in lines if line]


def side_by_side(lines: list[str]) -> list[str]:
    """Attributes are set on the line of what comes next, where there is room: a step takes a line and not two."""
    told: list[str] = []
    for line in lines:
        room = WIDTH - len(told[-1]) - 2 if told else 0
        if told and _SETS.match(told[-1].rpartition("; ")[2]) and not _MAKES.match(line) and len(line) <= room:
            told[-1] += f"; {line}"
        else:
            told.append(line)
    return told
