"""The reference tokenizers against tiktoken, a slow trainer of another build, and examples worked by hand."""

import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from autograder.assignment import read_assignment
from autograder.confinement import Zygote
from autograder.data import data_folder, gpt2_encoding, gpt2_merges, gpt2_ranks, shakespeare, use_tiktoken_offline
from autograder.diagnosis import read_bank, with_solution
from autograder.errors import SandboxUnavailable
from autograder.grader import Grader, Options
from autograder.notebook import to_ipynb
from autograder.notebook_link import Confined
from autograder.shell import Shell
from autograder.student import Student

SOLUTIONS = Path(__file__).resolve().parent.parent / "solutions"


@pytest.fixture(scope="module")
def book():
    """The names that the filled notebook defines: given cells and solutions."""
    shell = Shell("reference_tokenizer")
    for name, source in read_assignment(SOLUTIONS / "tokenizer").reference_cells():
        shell.run(name, source)
    return shell.namespace


@pytest.fixture(scope="module")
def gpt2(book):
    """The reference with GPT-2's vocabulary."""
    return book["BPETokenizer"](book["gpt2_vocabulary"](), gpt2_merges(), ["<|endoftext|>"])


def slow_train(text, merges, pattern):
    """BPE as a string of symbols per word, all pairs counted anew each time; shares nothing with the reference."""
    words = ["\x00".join(f"{byte:02x}" for byte in word.encode()) for word in pattern.findall(text)]
    found = []
    for _ in range(merges):
        counts = {}
        for word in words:
            parts = word.split("\x00")
            for i in range(1, len(parts)):
                pair = (bytes.fromhex(parts[i - 1]), bytes.fromhex(parts[i]))
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        most = max(counts.values())
        left, right = max(pair for pair, count in counts.items() if count == most)
        found.append((left, right))
        for number, word in enumerate(words):
            done = []
            for part in word.split("\x00"):
                if done and done[-1] == left.hex() and part == right.hex():
                    done[-1] = (left + right).hex() + "!"  # just made: joins nothing in this pass
                else:
                    done.append(part)
            words[number] = "\x00".join(part.rstrip("!") for part in done)
    return found


def test_points_sum_to_ninety():
    """The tasks carry the points of the course contract."""
    tasks = {task.name: task.points for task in read_assignment(SOLUTIONS / "tokenizer").tasks}
    assert tasks == {
        "char_tokenizer": 10, "word_tokenizer": 10, "pair_counts": 5, "merge": 10, "train_bpe": 25, "bpe_tokenizer": 30,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "merges"),
    [
        ("the cat sat", [(b"a", b"t"), (b"t", b"h"), (b"th", b"e"), (b"s", b"at")]),
        ("sto cat", [(b"t", b"o"), (b"s", b"to"), (b"c", b"a")]),
        ("ab b", [(b"a", b"b")]),
        ("low lows lown", [(b"o", b"w"), (b"l", b"ow"), (b" ", b"low"), (b" low", b"s"), (b" low", b"n")]),
        ("aaaa xy xy", [(b"a", b"a"), (b"x", b"y"), (b" ", b"xy")]),
    ],
)
def test_training_by_hand(book, text, merges):
    """Ties and runs, worked with pencil and paper."""
    vocab, found = book["train_bpe"](text, 256 + len(merges))
    assert found == merges
    assert [vocab[256 + place] for place in range(len(merges))] == [a + b for a, b in merges]


@pytest.mark.parametrize("seed", range(40))
def test_training_equals_the_slow_trainer(book, seed):
    """On random texts of few letters, where ties are everywhere, every merge is the same."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("ab"[: 1 + seed % 2] + "é", k=draw.randint(1, 9))) for _ in range(6)]
    text = " ".join(draw.choices(words, k=25)) + "  \n" + " ".join(words)
    assert book["train_bpe"](text, 256 + 40)[1] == slow_train(text, 40, book["GPT2_PATTERN"])


def test_training_on_a_scene_equals_the_slow_trainer(book):
    """So it is on Shakespeare."""
    text = shakespeare()[500_000:506_000]
    assert book["train_bpe"](text, 256 + 60)[1] == slow_train(text, 60, book["GPT2_PATTERN"])


def test_trained_tokens_are_all_different(book):
    """No two merges make the same bytes, so bytes name a token and ids are not needed to tell them apart."""
    vocab, merges = book["train_bpe"](shakespeare(), 2000)
    assert len(merges) == 2000 - 256
    assert len(set(vocab.values())) == 2000


def test_a_longer_training_begins_like_a_shorter_one(book):
    """The merges of a smaller vocabulary are the first of a larger one's."""
    text = shakespeare()[:60_000]
    assert book["train_bpe"](text, 700)[1][:100] == book["train_bpe"](text, 356)[1]


@pytest.mark.parametrize("size", [255, 0, -1, 257])
def test_too_small_a_vocabulary_is_refused(book, size):
    """The message shows the size."""
    with pytest.raises(ValueError, match=str(size)):
        book["train_bpe"]("abab", size, ["<a>", "<b>"])


def test_special_tokens_cut_the_training_text(book):
    """They are in no merge, the longest is taken, and their ids come last as given."""
    vocab, merges = book["train_bpe"]("ab<e><e>>ab<e>>ab", 270, ["<e>>", "<e>"])
    assert merges == [(b"a", b"b")]
    assert list(vocab.items())[256:] == [(256, b"ab"), (257, b"<e>>"), (258, b"<e>")]


def test_encoding_equals_tiktoken_on_all_of_the_text(gpt2):
    """Nine plays, id for id, there and back."""
    text = shakespeare()
    ids = gpt2.encode(text)
    assert ids == gpt2_encoding().encode(text)
    assert gpt2.decode(ids) == text


def test_every_character_is_cut_as_tiktoken_cuts_it(gpt2):
    """Each character that Unicode 13 knew, in every neighbourhood that the pattern tells apart."""
    official = gpt2_encoding()
    characters = [chr(code) for code in range(0x11_0000) if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")]
    draw = random.Random(13)
    for start in range(0, len(characters), 4000):
        text = "".join(
            f"a{c}1{c}!{c} {c}\n{c}{c}'s"
            for c in draw.sample(characters[start : start + 4000], min(600, len(characters) - start))
        )
        assert gpt2.encode(text) == official.encode(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "   ",
        "\n\n \n",
        "a  b   c",
        "don't DON'T we'll they've I'm",
        "1234567 3.14 ½ ² ٣٤",
        "👩‍👩‍👧 👋🏽 🇩🇪 ❤️",
        "e\u0301\u0323 \u0301x",
        "\x00\x1b[0m\x7f\x85\u2028",
    ],
)
def test_encoding_equals_tiktoken(gpt2, text):
    """The corners one by one, so that a failure names itself."""
    assert gpt2.encode(text) == gpt2_encoding().encode(text)
    assert gpt2.decode(gpt2.encode(text)) == text


def test_every_single_id_decodes_as_in_tiktoken(gpt2):
    """All 50,257 of them, the special one too."""
    official = gpt2_encoding()
    assert [gpt2.decode([i]) for i in range(50_257)] == [official.decode([i]) for i in range(50_257)]


def test_special_tokens_equal_tiktokens(gpt2):
    """At the ends, side by side, broken."""
    text = "<|endoftext|><|endoftext|>a<|endoftext|> b <|endoftext<|endoftext|>"
    assert gpt2.encode(text) == gpt2_encoding().encode(text, allowed_special="all")


def test_merges_decide_and_not_ids(book):
    """GPT-2's vocabulary with all ids shuffled cuts the text in the same places."""
    ranks = gpt2_ranks()
    numbers = list(range(len(ranks)))
    random.Random(1).shuffle(numbers)
    vocab = {numbers[rank]: token for token, rank in ranks.items()}
    text = shakespeare()[:5000]
    shuffled = book["BPETokenizer"](vocab, gpt2_merges()).encode(text)
    assert shuffled == [numbers[i] for i in gpt2_encoding().encode(text)]


def test_streaming_is_lazy(book):
    """The second chunk is asked for after the ids of the first, even of an endless stream."""
    pulled = []

    def endless():
        while True:
            pulled.append("ab")
            yield "ab"

    stream = book["BPETokenizer"]({i: bytes([i]) for i in range(256)}, []).encode_iterable(endless())
    assert [next(stream) for _ in range(5)] == [97, 98, 97, 98, 97]
    assert len(pulled) == 3


@pytest.mark.parametrize("text", ["\ud800", "x\udc00", "<z>\udfff<z>"])
def test_half_a_surrogate_pair_is_refused(book, text):
    """UnicodeEncodeError, which is a ValueError."""
    with pytest.raises(UnicodeEncodeError):
        book["BPETokenizer"]({i: bytes([i]) for i in range(256)}, [], ["<z>"]).encode(text)


def test_released_cells_hold_no_solution():
    """What stands between the solution marks is gone from the stub, and the stub still defines the names."""
    for cell in read_assignment(SOLUTIONS / "tokenizer").released:
        if cell.is_task:
            assert "SOLUTION" not in cell.source
            assert "raise NotImplementedError()" in cell.source
            compile(cell.source, str(cell.grade_id), "exec")


# A set of text has another order in each process: Python draws a new hash seed, unless PYTHONHASHSEED names one.
UNORDERED = {"char_tokenizer": "unordered_set", "word_tokenizer": "word_unordered_set"}


def without_order():
    """The solutions that number the items of a set, by task."""
    assignment = read_assignment(SOLUTIONS / "tokenizer")
    bank = {item.id: item for item in read_bank(assignment.folder / "misconceptions.py").misconceptions}
    return {task: bank[name].apply(assignment.solution(task)) for task, name in UNORDERED.items()}


def ids_in_a_worker(fork, replaced):
    """Ids of all three tokenizers, and what was learned for one of them, from a worker that `fork` gives."""

    def prepare(link):
        link.reset()
        cells = with_solution(read_assignment(SOLUTIONS / "tokenizer"), replaced)
        reply = link.ask({"id": 0, "verb": "cells", "cells": [[*cell, 20.0] for cell in cells]}, 60.0)
        assert not any(reply["value"]), reply["value"]

    link = Confined(fork)
    student = Student(link, prepare)
    try:
        text = shakespeare()[:3000]
        specials = ["<z>", "<long>", "<a>", "<|endoftext|>"]
        learned = student.train_bpe(text, 300, specials)
        tokenizer = student.new("BPETokenizer", *learned, specials)
        by_character, by_word = (student.new(name, text).encode(text) for name in ("CharTokenizer", "WordTokenizer"))
        return [learned, tokenizer.encode("<long><a>To be<z>"), by_character, by_word]
    finally:
        link.close()


def test_ids_are_the_same_in_two_workers_with_different_hash_seeds():
    """And those of a set are not, so the seeds do make a difference."""
    right, wrong, vocabulary = [], [], use_tiktoken_offline()
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "TIKTOKEN_CACHE_DIR": str(vocabulary)}
        try:
            zygote = Zygote(minimum="none", readable=[data_folder(), vocabulary], environment=environment)
        except SandboxUnavailable as error:
            pytest.skip(str(error))
        with zygote:
            right.append(ids_in_a_worker(zygote.fork, {}))
            wrong.append(ids_in_a_worker(zygote.fork, without_order()))
    assert right[0] == right[1]
    assert wrong[0][2] != wrong[1][2]
    assert wrong[0][3] != wrong[1][3]


@pytest.mark.parametrize("seed", ["31337"])
def test_a_set_s_order_loses_and_is_named_whatever_the_hash_seed(seed):
    """Here: the seed of the grader, in whose process the bank's answers are made."""
    done = subprocess.run(
        [sys.executable, "-m", "autograder", "strength", "tokenizer", *UNORDERED.values(), "--jobs", "1"],
        cwd=SOLUTIONS.parent, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 wrong answers lose their points" in done.stdout
    assert "2 of 2 mistakes are named" in done.stdout


def test_a_set_s_order_is_named_in_a_worker_too():
    """Where the seed is not the grader's."""
    filled = read_assignment(SOLUTIONS / "tokenizer").filled(without_order())
    with Grader(SOLUTIONS, Options(isolation="none")) as grader:
        report = grader.grade(to_ipynb(filled), assignment="tokenizer")
    assert {task: report.task(task).diagnosis[0].id for task in UNORDERED} == UNORDERED
    assert all(report.task(task).score < report.task(task).points for task in UNORDERED)
    assert report.score == 90 - sum(report.task(task).points - report.task(task).score for task in UNORDERED)
