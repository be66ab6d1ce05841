"""Finds the course's data folder, and makes tiktoken work with no network.

The one module of the autograder that a notebook may import: standard library only, and tiktoken
itself is imported where it is used. Nothing here ever writes into data/.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import tiktoken

_TEXT = "shakespeare9.txt"
_RANKS = "gpt2.tiktoken.gz"
_CHECKPOINT = "shakespeare.safetensors"

# What tiktoken downloads for "gpt2": it names a file in its cache by the sha1 of its address.
_ADDRESS = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
_SHA256 = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}


def data_folder() -> Path:
    """Find the folder `data`: where COURSE_DATA says, beside the current folder or above it, else beside this package.

    The grader tells its sandbox with COURSE_DATA, where the current folder is another.
    """
    for folder in _data_folders():
        if (folder / _RANKS).is_file():
            return folder
    message = f"no folder data/ with {_RANKS} in {Path.cwd()} or above it: start from inside the course's folder"
    raise FileNotFoundError(message)


def _data_folders() -> Iterator[Path]:
    if os.environ.get("COURSE_DATA"):
        yield Path(os.environ["COURSE_DATA"])
    here = Path.cwd()
    for parent in (here, *here.parents, Path(__file__).resolve().parent.parent):
        yield parent / "data"


@functools.cache
def digest() -> str:
    """A hash of all files in the folder `data`."""
    files = sorted(path for path in data_folder().iterdir() if path.is_file())
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()


def shakespeare() -> str:
    """Read the course's text: nine plays, 1.2 MB of plain ASCII."""
    return (data_folder() / _TEXT).read_text(encoding="utf-8")


def checkpoint_path() -> Path:
    """Find the small trained GPT."""
    path = data_folder() / _CHECKPOINT
    if not path.is_file():
        message = f"{path} is not there: get the course's data/ folder again; data/README.md says how each file is made"
        raise FileNotFoundError(message)
    return path


def gpt2_ranks() -> dict[bytes, int]:
    """Read GPT-2's 50,256 ordinary tokens, each with its id (which is also its rank in training)."""
    return dict(_ranks((data_folder() / _RANKS).read_bytes()))


# What is read once is remembered, by its content: one grading asks for it several times, and reading takes a while.
@functools.lru_cache(maxsize=1)
def _ranks(packed: bytes) -> tuple[tuple[bytes, int], ...]:
    lines = (line.split() for line in gzip.decompress(packed).splitlines())
    return tuple((base64.b64decode(token), int(rank)) for token, rank in lines)


def gpt2_merges() -> list[tuple[bytes, bytes]]:
    """Read GPT-2's 50,000 merges, in the order of training."""
    return list(_merges(_cached(use_tiktoken_offline(), "vocab.bpe").read_bytes()))


@functools.lru_cache(maxsize=1)
def _merges(written: bytes) -> tuple[tuple[bytes, bytes], ...]:
    byte = {letter: bytes([value]) for value, letter in _letters().items()}
    halves = (line.split(" ") for line in written.decode("utf-8").splitlines()[1:])  # the first line is the version
    return tuple((b"".join(map(byte.__getitem__, a)), b"".join(map(byte.__getitem__, b))) for a, b in halves)


def gpt2_encoding() -> tiktoken.Encoding:
    """Load `tiktoken.get_encoding("gpt2")` with no network."""
    use_tiktoken_offline()
    import tiktoken  # noqa: PLC0415  (this module must also load where tiktoken is not installed)

    return tiktoken.get_encoding("gpt2")


def use_tiktoken_offline() -> Path:
    """Make `tiktoken.get_encoding("gpt2")` work with no network, in this process and its children.

    The folder with the files that tiktoken would download is returned, and named in TIKTOKEN_CACHE_DIR. One that
    holds them already is used as it is; else they are written: where TIKTOKEN_CACHE_DIR says, in the course's own
    build/, or in the system's temporary folder, the first of these that can be written.
    """
    folders = list(_cache_folders())
    folder = next((folder for folder in folders if _is_complete(folder)), None) or _fill_first(folders)
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    return folder


def _cache_folders() -> Iterator[Path]:
    if os.environ.get("TIKTOKEN_CACHE_DIR"):
        yield Path(os.environ["TIKTOKEN_CACHE_DIR"])
    yield data_folder().parent / "build" / "tiktoken"
    yield Path(tempfile.gettempdir()) / "gpt-course-tiktoken"


def _cached(folder: Path, name: str) -> Path:
    return folder / hashlib.sha1((_ADDRESS + name).encode(), usedforsecurity=False).hexdigest()


def _is_complete(folder: Path) -> bool:
    """Whether both files are there and right: tiktoken deletes a wrong one and asks the network."""
    try:
        return all(
            hashlib.sha256(_cached(folder, name).read_bytes()).hexdigest() == digest for name, digest in _SHA256.items()
        )
    except OSError:
        return False


def _fill_first(folders: list[Path]) -> Path:
    files = _tiktoken_files()
    problems = []
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                _write(_cached(folder, name), content)
        except OSError as error:
            problems.append(f"{folder}: {error}")
        else:
            return folder
    message = "nowhere to keep GPT-2's vocabulary for tiktoken: " + "; ".join(problems)
    raise OSError(message)


def _write(path: Path, content: bytes) -> None:
    """Write all or nothing: another process may be reading the same folder."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _tiktoken_files() -> dict[str, bytes]:
    """Rebuild the two files of GPT-2's release, byte for byte, from the ranks."""
    ranks = gpt2_ranks()
    letters = _letters()
    written = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = (_halves(token, ranks) for token, rank in ranks.items() if rank >= len(letters))
    lines = ["#version: 0.2", *(f"{written[a]} {written[b]}" for a, b in merges)]
    encoder = {written[token]: rank for token, rank in ranks.items()} | {"<|endoftext|>": len(ranks)}
    files = {"vocab.bpe": ("\n".join(lines) + "\n").encode(), "encoder.json": json.dumps(encoder).encode()}
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != _SHA256[name]:
            message = f"{data_folder() / _RANKS} is damaged: {name} made from it has the wrong checksum"
            raise OSError(message)
    return files


def _letters() -> dict[int, str]:
    """Name one printable character for each byte, as GPT-2's files write them: itself, else one from U+0100 on."""
    printable = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def _halves(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Find the two tokens that one was merged from: its own text, merged by the earlier ranks until two are left."""
    parts = [token[i : i + 1] for i in range(len(token))]
    for _ in range(len(token) - 2):
        pairs = [parts[i] + parts[i + 1] for i in range(len(parts) - 1)]
        first = min(range(len(pairs)), key=lambda i: ranks.get(pairs[i], len(ranks)))
        parts[first : first + 2] = [pairs[first]]
    return parts[0], parts[1]
