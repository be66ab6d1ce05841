"""What is computed once and kept in build/: reports, and the bank's answers.

Each lies in a file named after a hash of all that it is a function of, so nothing in there can be out of date: it is
found, or computed anew. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import io
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any


@cache
def engine_digest() -> str:
    """A hash of the kit's own source: what another version has computed is not taken for this one's."""
    state = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        state.update(path.read_bytes())
    return state.hexdigest()


@cache
def version(package: str) -> str:
    """The version of a package: the one that is loaded, else the one that is installed, which says so unloaded."""
    if package in sys.modules:
        return str(sys.modules[package].__version__)
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(importlib.import_module(package).__version__)


def name_of(*facts: object) -> str:
    """A file's name for what these facts, the kit and the versions of Python and torch lead to."""
    versions = (platform.python_version(), platform.machine(), version("torch"))
    return hashlib.sha256(repr((facts, versions, engine_digest())).encode()).hexdigest()[:32]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_values(path: Path, value: Any) -> None:
    """Keep plain values and tensors. Where the folder cannot be written, nothing is kept."""
    import torch  # noqa: PLC0415 - takes seconds, and whoever keeps reports alone needs none of it

    content = io.BytesIO()
    torch.save(value, content)
    try:
        write_atomically(path, content.getvalue())
    except OSError:
        return


def read_values(path: Path, also: Sequence[type]) -> Any:
    """What `write_values` kept, or None. Nothing but plain values, tensors and the classes in `also` is built."""
    if not path.is_file():
        return None
    import torch  # noqa: PLC0415 - as above

    try:
        with torch.serialization.safe_globals([*also]):
            return torch.load(path, weights_only=True)
    except Exception:  # noqa: BLE001 - torn, or of a kind that is not read back: computed anew, and written over
        return None
