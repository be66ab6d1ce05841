"""What the tests are worth, for whoever changes them: which check catches which mistake, as text and as a page.

Both say first what asks for work: faults, checks that catch nothing, mistakes that hang by one check.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from autograder.killmatrix import Grid, Strength
from autograder.render.style import STYLE
from autograder.report import CheckStatus

MARKS: dict[CheckStatus, str] = {"pass": ".", "fail": "x", "skip": "-", "ungraded": "?"}
LEGEND = "x: the check fails, as it should; .: it passes; -: not looked at, as a check that it needs fails"
_COLOURS: dict[CheckStatus, str] = {"pass": "", "fail": "pass", "skip": "ungraded", "ungraded": "fail"}
_EXTRA = """
.kills td { text-align: center; padding: .1rem .3rem; min-width: 1.6rem; }
.kills th { font-weight: 500; padding: .1rem .5rem; white-space: nowrap; }
.kills thead th { max-width: 20rem; white-space: normal; }
"""


def text(strength: Strength) -> str:
    """For a terminal, or a file beside others of its kind."""
    lines = [strength.line, "", *strength.faults, *([""] if strength.faults else [])]
    for title, items in _remarks(strength):
        lines += [title, *(f"  {item}" for item in items), ""]
    lines += [LEGEND, ""]
    for grid in strength.grids:
        lines += [*_grid_text(grid), ""]
    return "\n".join(lines)


def _remarks(strength: Strength) -> list[tuple[str, list[str]]]:
    idle = [f"{grid.task}: {check}" for grid in strength.grids for check in grid.idle]
    alone = [f"{grid.task}: {name}: {by}" for grid in strength.grids for name, by in grid.hanging_by_one.items()]
    return [
        (f"{len(idle)} checks that no mistake of the bank fails", idle),
        (f"{len(alone)} mistakes that only one check catches", alone),
    ]


def _grid_text(grid: Grid) -> list[str]:
    lines = [grid.task]
    for number, (check, seconds) in enumerate(zip(grid.checks, grid.seconds, strict=True), start=1):
        lines.append(f"  {number:2} {seconds:6.2f} s  catches {len(grid.kills(number - 1)):2}  {check}")
    wide = max(map(len, grid.wrong))
    lines.append(f"  {'':{wide}}  " + " ".join(f"{number:2}" for number in range(1, len(grid.checks) + 1)))
    for name, found in grid.wrong.items():
        lines.append(f"  {name:{wide}}  " + " ".join(f"{MARKS[status]:>2}" for status in found))
    return lines


def page(strengths: Sequence[Strength], *, date: str) -> str:
    """All assignments on one HTML page that loads nothing and runs nothing."""
    body = "".join(_section(one) for one in strengths)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>What the tests are worth</title>\n<style>\n{STYLE}{_EXTRA}</style>\n</head>\n<body>\n"
        f'<h1>What the tests are worth</h1>\n<p class="under">Tried {_text(date)}. {_text(LEGEND)}.</p>\n{body}'
        "</body>\n</html>\n"
    )


def _section(strength: Strength) -> str:
    parts = [f"<h2>{_text(strength.assignment)}</h2>\n<p>{_text(strength.line)}</p>\n"]
    parts += [f'<p class="warning">{_text(fault)}</p>\n' for fault in strength.faults]
    parts += [_list(title, items) for title, items in _remarks(strength)]
    return "".join(parts + [_grid_html(grid) for grid in strength.grids])


def _list(title: str, items: Sequence[str]) -> str:
    listed = "".join(f"<li>{_text(item)}</li>" for item in items)
    return f"<details><summary>{_text(title)}</summary><ul>{listed}</ul></details>\n"


def _grid_html(grid: Grid) -> str:
    checks = "".join(
        f"<tr><th>{number}</th><td>{seconds:.2f} s</td><td>{len(grid.kills(number - 1))}</td>"
        f"<td>{_text(check)}</td></tr>"
        for number, (check, seconds) in enumerate(zip(grid.checks, grid.seconds, strict=True), start=1)
    )
    head = "".join(f'<th title="{_text(check)}">{number}</th>' for number, check in enumerate(grid.checks, start=1))
    rows = "".join(
        f"<tr><th>{_text(name)}</th>"
        + "".join(
            f'<td class="{_COLOURS[status]}" title="{_text(check)}">{MARKS[status]}</td>'
            for check, status in zip(grid.checks, found, strict=True)
        )
        + "</tr>"
        for name, found in grid.wrong.items()
    )
    return (
        f'<h3>{_text(grid.task)}</h3>\n<table class="wide"><thead><tr><th>Check</th><th>Takes</th><th>Catches</th><th>'
        f"What must hold</th></tr></thead><tbody>{checks}</tbody></table>\n"
        f'<div class="scroll"><table class="kills"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>\n"
    )


def _text(text: str) -> str:
    return html.escape(text, quote=True)
