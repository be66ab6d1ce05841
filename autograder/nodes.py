"""nbformat's makers of cells and notebooks, with types: the ways in which this kit writes a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import nbformat
from nbformat import NotebookNode

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
FORMAT_MINOR = 5  # of nbformat 4: the first with cell ids


def cell(kind: str, text: str, metadata: Mapping[str, object] | None = None) -> NotebookNode:
    """A code cell without outputs, or a Markdown cell."""
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    made: NotebookNode = make(text, metadata=node(metadata or {}))  # type: ignore[no-untyped-call]
    return made


def output(data: Mapping[str, str]) -> NotebookNode:
    """What a cell shows: the same in several formats."""
    made: NotebookNode = nbformat.v4.new_output("display_data", node(data))  # type: ignore[no-untyped-call]
    return made


def notebook(cells: Sequence[NotebookNode]) -> NotebookNode:
    """A notebook of these cells, for our kernel, with no other metadata."""
    made: NotebookNode = nbformat.v4.new_notebook(cells=list(cells))  # type: ignore[no-untyped-call]
    made.metadata = node({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    made.nbformat, made.nbformat_minor = 4, FORMAT_MINOR
    return made


def node(value: Mapping[str, object]) -> NotebookNode:
    """A dictionary as nbformat keeps it."""
    made: NotebookNode = nbformat.from_dict(dict(value))  # type: ignore[no-untyped-call]
    return made


def loads(data: bytes) -> NotebookNode:
    """A notebook from a file of ours."""
    made: NotebookNode = nbformat.reads(data.decode(), as_version=4)  # type: ignore[no-untyped-call]
    return made


def dumps(made: NotebookNode) -> bytes:
    """The notebook as a file."""
    text: str = nbformat.writes(made, version=4)  # type: ignore[no-untyped-call]
    return (text + "\n").encode()
