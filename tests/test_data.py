"""data/: the files are those that its README lists, and tiktoken works from them without a network."""

import hashlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from autograder import data

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A course folder of its own, with only the ranks in data/, and nothing in any cache."""
    (tmp_path / "course" / "data").mkdir(parents=True)
    (tmp_path / "course" / "data" / "gpt2.tiktoken.gz").write_bytes((ROOT / "data" / "gpt2.tiktoken.gz").read_bytes())
    (tmp_path / "temporary").mkdir()
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.setattr(data.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "course")
    return tmp_path / "course"


def test_readme_lists_every_file_with_its_size_and_checksum():
    """data/README.md and data/ agree, file by file."""
    rows = re.findall(
        r"^\| `([^`]+)` \|.*\| ([\d,]+) \| `([0-9a-f]{64})` \|$",
        (ROOT / "data" / "README.md").read_text(),
        re.MULTILINE,
    )
    listed = {name: (int(size.replace(",", "")), digest) for name, size, digest in rows}
    there = {path.name: path.read_bytes() for path in (ROOT / "data").iterdir() if path.name != "README.md"}
    assert listed == {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in there.items()}


def test_shakespeare_is_plain_ascii_without_carriage_returns():
    """The text is what the README says: 64 different characters."""
    text = data.shakespeare()
    assert len(text) == 1_188_785
    assert text.isascii()
    assert "\r" not in text
    assert len(set(text)) == 64


def test_ranks_are_gpt2s():
    """Every id from 0 to 50,255 once, all 256 bytes among the first, and the well-known first merge."""
    ranks = data.gpt2_ranks()
    assert sorted(ranks.values()) == list(range(50_256))
    assert {token for token, rank in ranks.items() if rank < 256} == {bytes([byte]) for byte in range(256)}
    assert ranks[b" t"] == 256


def test_merges_make_the_ranks():
    """The n-th merge joins two earlier tokens to the token of rank 256 + n."""
    ranks = data.gpt2_ranks()
    for place, (left, right) in enumerate(data.gpt2_merges()):
        assert ranks[left + right] == 256 + place
        assert max(ranks[left], ranks[right]) < 256 + place


def test_data_is_found_from_a_students_folder(elsewhere, monkeypatch):
    """The nearest data/ above the notebook's folder is the one."""
    folder = elsewhere / "assignments" / "tokenizer"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert data.data_folder() == elsewhere / "data"


def test_data_is_found_beside_the_package(tmp_path, monkeypatch):
    """With no data/ above the current folder, it is the one of the installed package."""
    monkeypatch.chdir(tmp_path)
    assert data.data_folder() == ROOT / "data"


def test_data_is_found_where_the_grader_says(elsewhere, monkeypatch, tmp_path):
    """Before it is looked for; a folder that holds no data is passed over."""
    monkeypatch.setenv("COURSE_DATA", str(ROOT / "data"))
    assert data.data_folder() == ROOT / "data"
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "nowhere"))
    assert data.data_folder() == elsewhere / "data"


def test_missing_data_says_what_to_do(tmp_path, monkeypatch):
    """The message names the folder where the search began."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "__file__", str(tmp_path / "lib" / "autograder" / "data.py"))
    with pytest.raises(FileNotFoundError, match="start from inside the course's folder"):
        data.data_folder()


def test_missing_checkpoint_says_what_to_do(elsewhere):
    """The message names the file and where to read on."""
    assert elsewhere.is_dir()
    with pytest.raises(FileNotFoundError, match=r"shakespeare\.safetensors.*README\.md"):
        data.checkpoint_path()


def test_checkpoint_is_found(elsewhere):
    """A checkpoint that is there is found."""
    (elsewhere / "data" / "shakespeare.safetensors").write_bytes(b"weights")
    assert data.checkpoint_path().read_bytes() == b"weights"


def test_tiktoken_files_are_rebuilt_into_the_courses_build(elsewhere):
    """Both files appear in build/tiktoken, with the checksums that tiktoken asks for, and nothing beside them."""
    folder = data.use_tiktoken_offline()
    assert folder == elsewhere / "build" / "tiktoken"
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(folder)
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert digests == set(data._SHA256.values())
    assert len(list(folder.iterdir())) == 2
    assert [path.name for path in (elsewhere / "data").iterdir()] == ["gpt2.tiktoken.gz"]


def test_a_good_cache_is_used_as_it_is(elsewhere, monkeypatch):
    """A prepared folder is only read, so it may be read-only, and the ranks are not needed."""
    prepared = data.use_tiktoken_offline()
    before = {path: path.stat().st_mtime_ns for path in prepared.iterdir()}
    monkeypatch.setattr(data, "_tiktoken_files", None)
    monkeypatch.chdir(elsewhere.parent)
    assert data.use_tiktoken_offline() == prepared
    assert {path: path.stat().st_mtime_ns for path in prepared.iterdir()} == before


def test_a_wrong_file_is_replaced(elsewhere):
    """A damaged cache is mended: left alone, tiktoken would delete the file and ask the network."""
    folder = data.use_tiktoken_offline()
    victim = next(folder.iterdir())
    victim.write_bytes(victim.read_bytes()[:-1])
    assert data.use_tiktoken_offline() == folder == elsewhere / "build" / "tiktoken"
    assert data._is_complete(folder)


def test_what_cannot_be_written_is_passed_over(elsewhere, monkeypatch):
    """Neither the folder asked for nor build/ can be written: the temporary folder is used."""
    (elsewhere / "build").write_text("a file in the way")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(elsewhere / "build" / "inside a file"))
    assert data.use_tiktoken_offline() == elsewhere.parent / "temporary" / "gpt-course-tiktoken"


def test_nowhere_to_write_is_an_error_that_says_where_it_tried(elsewhere, monkeypatch):
    """The message lists every folder with its reason."""
    (elsewhere / "build").write_text("a file in the way")
    monkeypatch.setattr(data.tempfile, "gettempdir", lambda: str(elsewhere / "build"))
    with pytest.raises(OSError, match=r"nowhere to keep.*build/tiktoken.*gpt-course-tiktoken"):
        data.use_tiktoken_offline()


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    """A disk that is full in the middle leaves neither half a file nor a temporary one."""

    def full(self, target):
        raise OSError(28, f"no space left for {target} beside {self}")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        data._write(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_damaged_ranks_are_noticed(elsewhere, monkeypatch):
    """Files with the wrong checksum are never written."""
    ranks = data.gpt2_ranks()
    swapped = {**ranks, b" t": ranks[b" a"], b" a": ranks[b" t"]}
    monkeypatch.setattr(data, "gpt2_ranks", lambda: dict(sorted(swapped.items(), key=lambda item: item[1])))
    with pytest.raises(OSError, match="is damaged"):
        data.use_tiktoken_offline()
    assert not (elsewhere / "build").exists()


def test_gpt2_encoding_needs_no_network(elsewhere, monkeypatch):
    """The real encoding is loaded, and no socket is opened."""
    pytest.importorskip("tiktoken")
    tiktoken = sys.modules["tiktoken"]
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})

    def no_network(*args, **kwargs):
        raise AssertionError(args, kwargs)

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    encoding = data.gpt2_encoding()
    assert elsewhere.is_dir()
    assert encoding.n_vocab == 50_257
    assert encoding.encode("To be, or not to be") == [2514, 307, 11, 393, 407, 284, 307]


def test_data_loads_alone_and_without_tiktoken():
    """A notebook that imports it gets the standard library and nothing else of ours."""
    code = (
        "import sys; sys.modules['tiktoken'] = None; import autograder.data;"
        "print([name for name in sys.modules if name.startswith(('autograder.', 'torch', 'numpy', 'pytest'))])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "['autograder.data']"
