"""The measured figures that README and demo show, from one small file: `docs/strength.json`.

`autograder strength --record` and its like write what they found, with the date; nobody types a figure.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from autograder.assignment import Assignment

FILE = Path("docs") / "strength.json"
BEGIN, END = "<!-- strength -->", "<!-- /strength -->"


@dataclass(frozen=True)
class Figures:
    """What was measured of one assignment; None where it was not."""

    date: str = ""  # of the last of its measurements
    wrong: int = 0
    lose: int = 0
    named: int = 0
    right: int = 0
    keep: int = 0
    of: str = ""  # `digest` of the assignment of which these were counted
    mutants: int | None = None
    killed: int | None = None
    equivalent: int | None = None
    seeds: int | None = None
    answers: int | None = None  # right answers graded over all seeds
    victims: int | None = None  # those of them that lost a point


def digest(assignment: Assignment) -> str:
    """Of what the truth table hangs on: the hidden tests, the bank, and the reference with the cells around it."""
    texts = [(assignment.folder / name).read_text("utf-8") for name in ("test_hidden.py", "misconceptions.py")]
    cells = [f"{name}\n{source}" for name, source in assignment.reference_cells()]
    return hashlib.sha256("\0".join(texts + cells).encode()).hexdigest()[:16]


def read(root: Path) -> dict[str, Figures]:
    """The figures by assignment; none where nothing was recorded.

    Raises:
        ValueError: the file is not what `record` writes.
    """
    path = root / FILE
    if not path.exists():
        return {}
    known = {item.name for item in fields(Figures)}
    raw: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    unknown = sorted({key for entry in raw.values() for key in entry} - known)
    if unknown:
        message = f"{path}: unknown figures {unknown}"
        raise ValueError(message)
    return {name: Figures(**entry) for name, entry in raw.items()}


def record(root: Path, name: str, **found: Any) -> None:
    """Write what was found of one assignment, and the README's table anew."""
    figures = read(root)
    figures[name] = replace(figures.get(name, Figures()), **found)
    entries = {key: asdict(figures[key]) for key in sorted(figures)}
    (root / FILE).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    page = root / "README.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    if BEGIN in text and END in text:
        head, _, rest = text.partition(BEGIN)
        _, _, tail = rest.partition(END)
        page.write_text(f"{head}{table(figures)}{tail}", encoding="utf-8")


def table(figures: dict[str, Figures]) -> str:
    """The README's table, with the marks around it."""
    head = ("assignment", "wrong answers that lose", "and are named first", "right answers that lose none",
            "mutants that lose", "right answers under many seeds", "on")  # fmt: skip
    rows = [
        (name, f"{one.lose} of {one.wrong}", f"{one.named} of {one.wrong}", f"{one.keep} of {one.right}",
         _mutants(one), _seeds(one), one.date)
        for name, one in figures.items()
    ]  # fmt: skip
    lines = [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]
    return "\n".join([BEGIN, *lines, END])


def _mutants(one: Figures) -> str:
    if one.mutants is None:
        return "not measured"
    alike = f"; {one.equivalent} are no mistakes" if one.equivalent else ""
    return f"{one.killed} of {one.mutants}{alike}"


def _seeds(one: Figures) -> str:
    if one.seeds is None or one.answers is None or one.victims is None:
        return "not measured"
    return f"{one.answers - one.victims} of {one.answers} lose none, {one.seeds} seeds"


def sentence(figures: dict[str, Figures]) -> str:
    """What the demo says at its end."""
    if not figures:
        return "How strong the hidden tests are has not been measured here: run `autograder strength`."
    total = {name: sum(getattr(one, name) for one in figures.values()) for name in ("wrong", "lose", "right", "keep")}
    dates = sorted({one.date for one in figures.values() if one.date})
    return (
        f"The hidden tests were tested on {' and '.join(dates)}: {total['lose']} of {total['wrong']} wrong answers "
        f"lose their points, {total['keep']} of {total['right']} right answers lose none."
    )
