# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · Tokenizer: text to ids and back
#
# A GPT does not read letters. It reads whole numbers, one after another, and predicts the next number. The part that turns
# text into numbers, and numbers back into text, is the **tokenizer**. It is decided before the model sees its first
# sentence, and it explains a surprising share of what a language model finds easy or hard.
#
# **What you will build.** Five small steps, each an answer to what the one before could not do:
#
# 1. one number for each *character*: simple, but each says little, and a text becomes a very long list;
# 2. one number for each *word*: short, but most words of the world are missing;
# 3. *bytes* and *pairs* of them: nothing can be missing any more;
# 4. *byte-pair encoding* (BPE), trained by you on 1.2 MB of Shakespeare;
# 5. *GPT-2's own tokenizer*: your code, OpenAI's published merges, and the same numbers as the official library.
#
# **Where it stands.** This is the first of five notebooks: **tokenizer** → attention → embeddings → gpt → training. At the
# end of the fifth you have a GPT that writes Shakespeare. None of the later notebooks needs your solutions from this one.
#
# **What you need.** Python's `str`, `bytes`, `list` and `dict`. No mathematics and no PyTorch yet.
#
# **How it is graded.** Each task is one cell for you to fill in, followed by a cell with a few *visible checks* that you can
# run as often as you like. After you hand in, *hidden tests* try your code on many more inputs: 90 points. A written question at the end
# is read by a person: 10 points. Keep the names and parameters as they stand; inside, write it your way. Using what
# a task calls *not allowed* costs the points of that task. In every task, a function leaves its arguments as they were, and a bad
# argument raises `ValueError` with a message that shows the bad value.
#
# **How long it takes.** Three to five hours, most of it in the last two tasks. It is fine to stop after any task: each is
# graded by itself, and where a later task uses an earlier one that went wrong, you do not lose the points twice.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import matplotlib.pyplot as plt
import regex
import tiktoken
import torch
import torch.nn as nn
import torch.nn.functional as F
from tqdm.auto import tqdm

from autograder.data import gpt2_merges, gpt2_ranks, shakespeare, use_tiktoken_offline

_ = use_tiktoken_offline()  # from here on, tiktoken.get_encoding("gpt2") needs no network

# %% [markdown]
# The text we work with: nine of Shakespeare's plays, one after another.

# %%
text = shakespeare()
print(f"{len(text):,} characters, {len(set(text))} of them different\n")
print(text[:300])

# %% [markdown]
# ## Task 1: characters
#
# *Difficulty 1/5 · about 10 minutes · 10 points*
#
# The simplest tokenizer gives each character a number. We collect the distinct characters of a text, **sort** them, and number them from 0.
# Sorting matters: a Python `set` has no fixed order, and for strings the order changes from one run of Python to
# the next. A model trained with yesterday's numbers would read nonsense today.
#
# For the text `"hello"` the distinct characters in order are `e h l o`, so
#
# | character | `e` | `h` | `l` | `o` |
# |---|---|---|---|---|
# | id | 0 | 1 | 2 | 3 |
#
# and `"hole"` becomes `[1, 3, 2, 0]`. The letter `x` has no number: that is an error, and the message says so.
#
# <details><summary>Hint 1: the idea</summary>
#
# You need two look-up tables, one for each direction. A `dict` goes from character to id; for the other direction a list or a
# second `dict` will do.
#
# </details>
# <details><summary>Hint 2: the shape of it</summary>
#
# `encode` visits the characters of the text one by one, `decode` the ids. `"".join(...)` glues a list of strings together.
# Python is helpful in the wrong way with negative numbers: `letters[-1]` is the last letter, not an error.
#
# </details>
# <details><summary>Hint 3: last resort</summary>
#
# `sorted(set(text))` is the whole vocabulary. Before looking an id up in a list, check `0 <= i < len(letters)`; before looking a
# character up in a dict, check `character in table`. Otherwise `raise ValueError(f"... {character!r} ...")`.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "char_tokenizer", "locked": false, "schema_version": 3, "solution": true, "task": false}
class CharTokenizer:
    """One id for each distinct character of a text.

    Args:
        text: the text whose characters make the vocabulary. Ids number its sorted distinct characters from 0.

    Attributes:
        vocab_size: the number of distinct characters.
    """

    def __init__(self, text: str) -> None:
        ### BEGIN SOLUTION
        # sorted() makes the numbering the same in every run; a bare set has no order to rely on.
        self.characters = sorted(set(text))
        self.ids = {character: i for i, character in enumerate(self.characters)}
        self.vocab_size = len(self.characters)
        ### END SOLUTION

    def encode(self, text: str) -> list[int]:
        """Turn text into ids, one for each character.

        Raises:
            ValueError: a character is not in the vocabulary; the message shows it.
        """
        ### BEGIN SOLUTION
        for character in text:
            if character not in self.ids:
                raise ValueError(f"the character {character!r} is not in the vocabulary")
        return [self.ids[character] for character in text]
        ### END SOLUTION

    def decode(self, ids: list[int]) -> str:
        """Turn ids back into text.

        Raises:
            ValueError: an id is not in the vocabulary (a negative one never is); the message shows it.
        """
        ### BEGIN SOLUTION
        for i in ids:
            # Without the first half of this check, Python would read -1 as "the last character".
            if not 0 <= i < self.vocab_size:
                raise ValueError(f"the id {i} is not in the vocabulary of {self.vocab_size}")
        return "".join(self.characters[i] for i in ids)
        ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test_char_tokenizer", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_chars = CharTokenizer("hello")
assert _chars.vocab_size == 4, "vocab_size counts the distinct characters: e, h, l, o"
assert _chars.encode("hole") == [1, 3, 2, 0], "ids number the *sorted* distinct characters: e=0, h=1, l=2, o=3"
assert _chars.decode([1, 3, 2, 0]) == "hole", "decode undoes encode"
assert _chars.encode("") == [] and _chars.decode([]) == "", "no characters, no ids"
for _call in (lambda: _chars.encode("x"), lambda: _chars.decode([4]), lambda: _chars.decode([-1])):
    try:
        _call()
    except ValueError:
        continue
    except LookupError as _error:
        raise AssertionError(f"an unknown character or id raises ValueError; yours raised {type(_error).__name__}") from None
    raise AssertionError("an unknown character or id (also a negative one) raises ValueError")
print("char_tokenizer: the visible checks pass.")

# %% [markdown]
# Tried on the plays. Every character becomes one id, so the list of ids is as long as the text.

# %% tags=["demo"]
_chars = CharTokenizer(text)
print("vocabulary:", _chars.decode(list(range(_chars.vocab_size))).replace("\n", "⏎"))
print("To be, or not to be ->", _chars.encode("To be, or not to be"))

# %% [markdown]
# ## Task 2: words
#
# *Difficulty 2/5 · about 20 minutes · 10 points*
#
# Characters make long lists, and a single letter says little. So why not one id for each word? We cut the text at white space and
# punctuation, and number the distinct pieces. Two *special tokens* are added at the end of the vocabulary: `<|endoftext|>`, which
# separates documents, and `<|unk|>`, "unknown", which stands for every piece that is not in the vocabulary.
#
# The text is cut with
#
# ```python
# re.split(r'([,.:;?_!"()\']|--|\s)', text)
# ```
#
# The round brackets around the pattern make `re.split` keep the separators: a comma is a piece too. Each piece is then stripped of white
# space, and empty ones are dropped:
#
# `"Speak, speak."` → `Speak` `,` `speak` `.`
#
# The vocabulary is: the sorted distinct pieces, then `<|endoftext|>`, then `<|unk|>`. For that text:
#
# | piece | `,` | `.` | `Speak` | `speak` | <code>&lt;&#124;endoftext&#124;&gt;</code> | <code>&lt;&#124;unk&#124;&gt;</code> |
# |---|---|---|---|---|---|---|
# | id | 0 | 1 | 2 | 3 | 4 | 5 |
#
# If one of the two specials stands in the text (between spaces, as a piece of its own), it has its own id at the end and is not
# listed among the sorted pieces a second time. `decode` joins the pieces with one space, and then removes white space
# before these marks: `, . : ; ? ! " ( ) '`.
#
# <details><summary>Hint 1: the idea</summary>
#
# The constructor and `encode` cut text in exactly the same way. Write that once, as a method of the class.
#
# </details>
# <details><summary>Hint 2: the shape of it</summary>
#
# `table.get(piece, table["<|unk|>"])` looks a piece up and falls back to "unknown". For `decode`, `re.sub(pattern, r"\1", text)`
# replaces a match by its first bracketed group.
#
# </details>
# <details><summary>Hint 3: last resort</summary>
#
# `pieces = [p.strip() for p in re.split(...)]`, keep those with `if p`. The vocabulary is
# `sorted(set(pieces) - {two specials}) + [two specials]`. The clean-up in `decode` is `re.sub(r'\s+([...the marks...])', r"\1", joined)`.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "word_tokenizer", "locked": false, "schema_version": 3, "solution": true, "task": false}
class WordTokenizer:
    """One id for each distinct word or punctuation mark of a text, and two special tokens.

    Args:
        text: the text whose pieces make the vocabulary. Ids number its sorted distinct pieces from 0;
            then come `<|endoftext|>` and `<|unk|>`.

    Attributes:
        vocab_size: the number of ids, the two special tokens included.
    """

    def __init__(self, text: str) -> None:
        ### BEGIN SOLUTION
        specials = ["<|endoftext|>", "<|unk|>"]
        # The specials get their place at the end, so they are left out of the sorted pieces.
        self.pieces = sorted(set(self._split(text)) - set(specials)) + specials
        self.ids = {piece: i for i, piece in enumerate(self.pieces)}
        self.vocab_size = len(self.pieces)

    def _split(self, text: str) -> list[str]:
        """Cut text into words and punctuation marks; white space only separates."""
        pieces = re.split(r'([,.:;?_!"()\']|--|\s)', text)
        return [piece.strip() for piece in pieces if piece.strip()]
        ### END SOLUTION

    def encode(self, text: str) -> list[int]:
        """Turn text into ids; a piece that is not in the vocabulary becomes the id of `<|unk|>`."""
        ### BEGIN SOLUTION
        unknown = self.ids["<|unk|>"]
        return [self.ids.get(piece, unknown) for piece in self._split(text)]
        ### END SOLUTION

    def decode(self, ids: list[int]) -> str:
        """Join the pieces with one space, then remove white space before `, . : ; ? ! " ( ) '`."""
        ### BEGIN SOLUTION
        joined = " ".join(self.pieces[i] for i in ids)
        # \1 puts the mark back, without the white space in front of it.
        return re.sub(r'\s+([,.:;?!"()\'])', r"\1", joined)
        ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test_word_tokenizer", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_words = WordTokenizer("Speak, speak.")
assert _words.vocab_size == 6, "four distinct pieces and two special tokens"
assert _words.encode("Speak, speak.") == [2, 0, 3, 1], "sorted pieces: ',' is 0, '.' 1, 'Speak' 2, 'speak' 3"
assert _words.encode("speak  softly") == [3, 5], "an unknown piece becomes the id of <|unk|>, the last one"
assert _words.encode("Speak <|endoftext|> speak") == [2, 4, 3], "<|endoftext|> is a piece; its id follows the words'"
assert _words.decode([2, 0, 3, 1]) == "Speak, speak.", "one space between pieces, none before punctuation"
assert WordTokenizer("a <|endoftext|> b").vocab_size == 4, "a special that is in the text is not listed twice"
print("word_tokenizer: the visible checks pass.")

# %% [markdown]
# Look at what the trip there and back does to the opening of *Coriolanus*, and to a sentence Shakespeare did not write.

# %% tags=["demo"]
_words = WordTokenizer(text)
print(f"vocabulary: {_words.vocab_size:,} pieces\n")
for _sample in (text[:75], "Romeo sent an e-mail."):
    print(repr(_sample))
    print(repr(_words.decode(_words.encode(_sample))), "\n")

# %% [markdown]
# Two things went wrong. The line breaks are gone for good, so this tokenizer cannot give back what it was given. And a new word is simply
# lost: `e-mail` has become `<|unk|>`, and no model can know what stood there. A larger vocabulary only shifts the problem. The
# way out is to start from something that *every* text is made of.
#
# ## Bytes
#
# A computer keeps text as **bytes**: whole numbers from 0 to 255. The usual rule, UTF-8, writes the 128 oldest characters
# (English letters, digits, common punctuation) as one byte each and all others as two, three or four:

# %%
for _character in "Aé你🙂":
    print(_character, "->", list(_character.encode("utf-8")))

# %% [markdown]
# With 256 ids, one for each byte, nothing is ever unknown: not a new word, not Chinese, not an emoji. But the lists are longer than
# ever. **Byte-pair encoding** shortens them: find the two neighbours that stand side by side most often, give that pair an
# id of its own, and repeat. It was invented in 1994 to compress files (Philip Gage, *A New Algorithm for Data
# Compression*), and brought to the translation of languages by Sennrich, Haddow and Birch in 2016.
#
# We need two tools for it: one that counts pairs, one that replaces them.

# %% [markdown]
# ## Task 3: counting pairs
#
# *Difficulty 1/5 · about 5 minutes · 5 points*
#
# Count how often each pair of neighbours occurs. Pairs overlap: each id, except the first and the last, belongs to two pairs.
#
# In `[1, 2, 3, 1, 2]` the neighbours are `(1, 2) (2, 3) (3, 1) (1, 2)`, so the answer is `{(1, 2): 2, (2, 3): 1, (3, 1): 1}`.
# And `[7, 7, 7]` holds the pair `(7, 7)` twice. A pair that never occurs is not in the answer at all.
#
# <details><summary>Hint 1: the idea</summary>
#
# Put the list beside itself, shifted by one place.
#
# </details>
# <details><summary>Hint 2: last resort</summary>
#
# `zip(ids, ids[1:])` gives all the pairs, one after another. Count them in a dict with `counts.get(pair, 0) + 1`.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "pair_counts", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pair_counts(ids: list[int]) -> dict[tuple[int, int], int]:
    """Count how often each adjacent pair occurs; overlapping pairs all count.

    Args:
        ids: a list of ids, of any length. It is not changed.

    Returns:
        A dict from pair to count, with the pairs that occur and no others.
    """
    ### BEGIN SOLUTION
    counts: dict[tuple[int, int], int] = {}
    # zip stops at the shorter list, so the last id starts no pair.
    for pair in zip(ids, ids[1:]):
        counts[pair] = counts.get(pair, 0) + 1
    return counts
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test_pair_counts", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert pair_counts([1, 2, 3, 1, 2]) == {(1, 2): 2, (2, 3): 1, (3, 1): 1}, "every pair counts, the last one too"
assert pair_counts([7, 7, 7]) == {(7, 7): 2}, "overlapping pairs count: (7, 7) stands at places 0-1 and 1-2"
assert pair_counts([5]) == {}, "a single id has no neighbour"
print("pair_counts: the visible checks pass.")

# %% [markdown]
# ## Task 4: merging a pair
#
# *Difficulty 2/5 · about 15 minutes · 10 points*
#
# Now replace a pair by its new id, everywhere in a list. Scan from left to right; where the pair stands, write the new id and step over both;
# everywhere else copy one id and step over it. The scan never looks back, so matches do not overlap:
#
# `merge([1, 2, 3, 1, 2], (1, 2), 9)` → `[9, 3, 9]`
#
# `merge([7, 7, 7], (7, 7), 9)` → `[9, 7]` (the first two are taken; the third stands alone)
#
# The list that was given stays as it was.
#
# <details><summary>Hint 1: the idea</summary>
#
# A `for` loop cannot step by two at will. Use `while` and move the index yourself.
#
# </details>
# <details><summary>Hint 2: the shape of it</summary>
#
# Two cases in the loop: the pair starts here (append `new_id`, go two places on), or it does not (append `ids[i]`, go one on). Take
# care at the last id, which has no right neighbour, but must still be copied.
#
# </details>
# <details><summary>Hint 3: last resort</summary>
#
# The test is `i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair`. If your cell never finishes, the index stands still in one of the two cases.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "merge", "locked": false, "schema_version": 3, "solution": true, "task": false}
def merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """Replace each occurrence of a pair by a new id, scanning left to right without overlap.

    Args:
        ids: a list of ids. It is not changed.
        pair: the two neighbouring ids to look for, in this order.
        new_id: what stands in their place.

    Returns:
        A new list.
    """
    ### BEGIN SOLUTION
    merged = []
    i = 0
    while i < len(ids):
        # The last id has no right neighbour: i + 1 must still be a place in the list.
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2  # both are used up, so the next match cannot overlap this one
        else:
            merged.append(ids[i])
            i += 1
    return merged
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test_merge", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_ids = [1, 2, 3, 1, 2]
assert merge(_ids, (1, 2), 9) == [9, 3, 9], "both occurrences are replaced, also the one at the very end"
assert _ids == [1, 2, 3, 1, 2], "the list that was given must not change: build a new one"
assert merge([7, 7, 7], (7, 7), 9) == [9, 7], "left to right, no overlap: the first two are taken, the third stays"
assert merge([1, 3, 2], (1, 2), 9) == [1, 3, 2], "1 and 2 are not neighbours here"
assert merge([], (1, 2), 9) == [], "an empty list stays empty"
print("merge: the visible checks pass.")

# %% [markdown]
# ### Watch it happen
#
# The next cell is a small painter, for looking only: it shows tokens as coloured blocks, a space as `·` and a line break as `⏎`.

# %%
import html


def paint(tokens: list[bytes], title: str) -> None:
    """Show tokens side by side, each on its own background; bytes that are no whole character as numbers."""
    from IPython.display import HTML, display

    colours = ["#cfe8ff", "#ffe3b3", "#d5f2cf", "#f6d1e6", "#e2d9f7"]
    blocks = []
    for i, token in enumerate(tokens):
        try:
            label = token.decode("utf-8").replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")
        except UnicodeDecodeError:
            label = " ".join(f"{byte:02x}" for byte in token)
        style = f"background:{colours[i % 5]};color:#111;padding:1px 2px;margin:1px;border-radius:3px"
        blocks.append(f"<span style='{style};display:inline-block'>{html.escape(label)}</span>")
    heading = f"<b style='white-space:pre-wrap'>{html.escape(title)}</b> ({len(tokens)} tokens)<br>"
    body = f"{heading}{''.join(blocks)}"
    display(HTML(f"<div style='font-family:monospace;line-height:1.7;margin-bottom:8px'>{body}</div>"))

# %% [markdown]
# Now your two functions at work: count, take the most frequent pair, merge, repeat. Read the table from top to bottom and see syllables
# and words grow out of letters.

# %% tags=["demo"]
twister = (
    "she sells sea shells by the sea shore; the shells she sells are sea shells, she is sure. "
    "so if she sells sea shells by the sea shore, then the shells she sells are sea shore shells"
)
twist_tokens = {i: bytes([i]) for i in range(256)}
twist_ids = list(twister.encode("utf-8"))
twist_lengths = [len(twist_ids)]
paint([twist_tokens[i] for i in twist_ids], "bytes")
for step in range(1, 25):
    twist_counts = pair_counts(twist_ids)
    left, right = max(twist_counts, key=lambda p: (twist_counts[p], twist_tokens[p[0]], twist_tokens[p[1]]))
    twist_tokens[255 + step] = twist_tokens[left] + twist_tokens[right]
    twist_ids = merge(twist_ids, (left, right), 255 + step)
    twist_lengths.append(len(twist_ids))
    print(
        f"merge {step:2}: {twist_tokens[left].decode()!r:>16} + {twist_tokens[right].decode()!r:<19}",
        f"{twist_counts[left, right]:3} times, {len(twist_ids):3} tokens left",
    )
    if step in (4, 12, 24):
        paint([twist_tokens[i] for i in twist_ids], f"after {step} merges")

# %% tags=["demo"]
plt.figure(figsize=(6, 3))
plt.plot(twist_lengths, marker="o", markersize=3)
plt.xlabel("merges")
plt.ylabel("tokens in the text")
plt.title("Every merge shortens the text, each a little less than the last")
plt.ylim(0)
plt.tight_layout()
plt.show()

# %% [markdown]
# One thing is not nice: tokens such as `·by·the·sea·shore` reach across words. On a large text the vocabulary would fill up with
# `dog.`, `dog,`, `dog!` and `·of·the`. GPT-2 therefore first cuts the text into **pre-tokens**, and never merges across a cut.
#
# ## GPT-2's cutting pattern
#
# The pattern below is tried at each place from left to right, first alternative first:
#
# | part | takes | example |
# |---|---|---|
# | <code>'(?:[sdmt]&#124;ll&#124;ve&#124;re)</code> | the ends of English contractions, small letters only | `'s` `'ll` |
# | ` ?\p{L}+` | letters of any script, with one space before them if there is one | `·the` `Ωmega` |
# | ` ?\p{N}+` | digits and other number signs | `·1616` `½` |
# | ` ?[^\s\p{L}\p{N}]+` | a run of anything else that is not white space | `·--` `🙂` |
# | `\s+(?!\S)` | white space, but not its last character if something follows | two of three spaces |
# | `\s+` | what white space is left | `⏎` |
#
# The last but one line is the subtle one. In `a   b` there are three spaces; it takes two of them and leaves the third, so that `·b` can start
# with its space as usual. Python's own `re` does not know `\p{L}`, "a letter of any script"; the package `regex` does.

# %% nbgrader={"grade": false, "grade_id": "gpt2_pattern", "locked": true, "schema_version": 3, "solution": false, "task": false}
GPT2_PATTERN = regex.compile(r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")

# %%
for _sample in ("He's 45,  isn't   he?\n\nYes!", "don't DON'T ½ 2² naïve 你好 🙂🙂"):
    print(GPT2_PATTERN.findall(_sample))

# %% [markdown]
# ## Task 5: training BPE
#
# *Difficulty 4/5 · about 90 minutes · 25 points*
#
# Here is the whole algorithm.
#
# 1. Cut the text at the special tokens. They are never merged and never counted. Where two specials could start at the same place, the longest wins.
# 2. Cut each part between them into pre-tokens with `GPT2_PATTERN`, and each pre-token into bytes. Ids 0 to 255 are the single bytes.
# 3. Count pairs inside the pre-tokens, as `pair_counts` does.
# 4. The most frequent pair becomes the next id: 256, 257, … If several pairs are equally frequent, the *greatest* one wins, compared as `(bytes, bytes)`,
#    the bytes of the two halves. Merge it everywhere and go back to 3.
# 5. Stop when `vocab_size` leaves room for nothing but the special tokens, or when no pair is left. The special tokens get the ids after the last
#    merge, in the order given.
#
# **By hand.** `"the cat sat"` has the pre-tokens `the` `·cat` `·sat`.
#
# | merge | why | now |
# |---|---|---|
# | `a` + `t` → 256 | twice; every other pair once | `t h e`, `· c at`, `· s at` |
# | `t` + `h` → 257 | all once; `t` is greater than `s`, `h`, `c` and the space | `th e`, `· c at`, `· s at` |
# | `th` + `e` → 258 | all once; `th` is greater than `s` | `the`, `· c at`, `· s at` |
# | `s` + `at` → 259 | all once; `s` is greater than `c` and the space | `the`, `· c at`, `· sat` |
#
# **And fast.** 1,000 ids are 256 bytes and 744 merges. Counting all pairs of the text again after each of them means 744 passes over our plays, which takes minutes. Two observations bring it down to
# seconds. First, the same pre-token occurs many times: 317,494 pre-tokens in our text, 15,715 different ones. Keep each once, with how often it occurs. Second, a
# merge changes only the pre-tokens that contain the pair. Keep the counts from step to step, and for each pair remember where it occurs; after a merge,
# take the old pairs of those few pre-tokens off the counts and add the new ones. This is graded too: the work for one more merge must not grow with the
# whole text.
#
# <details><summary>Hint 1: the idea</summary>
#
# First write it the slow way, with `pair_counts` and `merge`, and get the visible checks to pass. Then keep the slow one under another name while you make it fast, and
# compare the two on a few pages.
#
# </details>
# <details><summary>Hint 2: the shape of it</summary>
#
# Four tables: `words` (a list of lists of ids, one for each different pre-token), `times` (how often each occurs), `counts` (pair → number in the whole text) and
# `where` (pair → set of indices into `words`). A merge visits `where[pair]`. For each such word: subtract its pairs from `counts`, times
# `times[w]`; merge; add its new pairs.
#
# </details>
# <details><summary>Hint 3: choosing the pair</summary>
#
# `max(counts, key=lambda p: (counts[p], vocab[p[0]], vocab[p[1]]))` compares the count first, then the bytes. Bytes compare like words in a dictionary, so the tie is
# settled as asked. Mind pairs whose count has sunk to 0: they are not there any more.
#
# </details>
# <details><summary>Hint 4: last resort</summary>
#
# To cut at the specials: `re.split("|".join(re.escape(s) for s in sorted(special_tokens, key=len, reverse=True)), text)`, and not at all if there are none
# (an empty pattern matches everywhere). `collections.Counter(GPT2_PATTERN.findall(part))` counts the different pre-tokens. `collections.defaultdict(set)` is good for `where`.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "train_bpe", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train_bpe(
    text: str, vocab_size: int, special_tokens: Iterable[str] = ()
) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]:
    """Learn byte-pair encoding from a text.

    Args:
        text: the text to learn from.
        vocab_size: the number of ids wanted: 256 bytes, the merges, the special tokens.
        special_tokens: pieces of text that are never merged nor counted; they get the last ids, in this order.

    Returns:
        `(vocab, merges)`: `vocab` from id to bytes; `merges`, the pairs of bytes in the order they were merged.
        There are fewer than `vocab_size` ids if no pair is left to merge.

    Raises:
        ValueError: `vocab_size` has no room for the 256 bytes and the special tokens; the message shows it.

    Source: Sennrich, Haddow and Birch (2016), "Neural Machine Translation of Rare Words with Subword Units";
    the bytes and the pattern are GPT-2's (Radford et al., 2019).
    """
    ### BEGIN SOLUTION
    import heapq
    from collections import Counter, defaultdict

    special_tokens = list(special_tokens)
    smallest = 256 + len(special_tokens)
    if vocab_size < smallest:
        raise ValueError(f"vocab_size must be at least {smallest} to hold bytes and specials, got {vocab_size}")

    # 1. Cut at the special tokens. In a regular expression the first alternative that fits wins: longest first.
    parts = [text]
    if special_tokens:
        longest_first = sorted(special_tokens, key=len, reverse=True)
        parts = re.split("|".join(re.escape(special) for special in longest_first), text)

    # 2. Cut each part into pre-tokens. Equal ones are kept once, with the number of times they occur.
    pretokens: Counter[str] = Counter()
    for part in parts:
        pretokens.update(GPT2_PATTERN.findall(part))
    words = [list(pretoken.encode("utf-8")) for pretoken in pretokens]
    times = list(pretokens.values())

    # 3. Count every pair once, and remember in which words it occurs.
    counts: dict[tuple[int, int], int] = defaultdict(int)
    where: dict[tuple[int, int], set[int]] = defaultdict(set)
    for w, ids in enumerate(words):
        for pair, n in pair_counts(ids).items():
            counts[pair] += n * times[w]
            where[pair].add(w)

    # 4. The best pair is needed again and again, so the pairs wait in a heap, which always has its smallest item
    #    in front. We want the greatest count, and among equals the greatest bytes: so both are turned round,
    #    the count to its negative, each byte b to 255 - b. The 256 at the end lets "ab" come before "a".
    vocab = {i: bytes([i]) for i in range(256)}
    turned = [(255 - i, 256) for i in range(256)]
    heap = [(-n, turned[a], turned[b], (a, b)) for (a, b), n in counts.items()]
    heapq.heapify(heap)

    merges: list[tuple[bytes, bytes]] = []
    while heap and len(vocab) + len(special_tokens) < vocab_size:
        minus_n, _, _, pair = heapq.heappop(heap)
        # Counts change while a pair waits. An item that no longer tells the truth is passed over:
        # a new one was pushed when the count changed.
        if counts[pair] != -minus_n:
            continue

        a, b = pair
        new_id = len(vocab)
        merges.append((vocab[a], vocab[b]))
        vocab[new_id] = vocab[a] + vocab[b]
        turned.append((*turned[a][:-1], *turned[b]))

        # 5. Only the words that hold the pair change: their old pairs are taken off, their new ones added.
        # Most pairs of a word are in both; their changes cancel out, and they need not enter the heap again.
        changes: dict[tuple[int, int], int] = defaultdict(int)
        for w in where.pop(pair):
            before, after = words[w], merge(words[w], pair, new_id)
            words[w] = after
            for old in zip(before, before[1:]):
                changes[old] -= times[w]
            for new in zip(after, after[1:]):
                changes[new] += times[w]
                where[new].add(w)
        for (a, b), change in changes.items():
            counts[a, b] += change
            if change != 0 and counts[a, b] > 0:
                heapq.heappush(heap, (-counts[a, b], turned[a], turned[b], (a, b)))

    # 6. The special tokens come last.
    for special in special_tokens:
        vocab[len(vocab)] = special.encode("utf-8")
    return vocab, merges
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test_train_bpe", "locked": true, "points": 25, "schema_version": 3, "solution": false, "task": false}
_vocab, _merges = train_bpe("the cat sat", 260)
assert _merges[:1] == [(b"a", b"t")], "the pair that occurs most often comes first: a and t"
_by_hand = [(b"a", b"t"), (b"t", b"h"), (b"th", b"e"), (b"s", b"at")]
assert _merges == _by_hand, "among equally frequent pairs the greatest (bytes, bytes) wins; see the table above"
assert _vocab[0] == b"\x00" and _vocab[255] == b"\xff", "ids 0 to 255 are the single bytes"
assert _vocab[256] == b"at" and _vocab[258] == b"the", "each merge makes the next id, in the order of training"
_vocab, _merges = train_bpe("aaaa", 257)
assert _merges == [(b"a", b"a")] and len(_vocab) == 257, "vocab_size counts the 256 bytes as well"
_vocab, _merges = train_bpe("hi<|end|>hi", 300, ["<|end|>"])
assert _merges == [(b"h", b"i")], "special tokens are cut out first, and training ends when no pair is left"
assert _vocab[257] == b"<|end|>" and len(_vocab) == 258, "special tokens get the ids after the last merge"
try:
    train_bpe("a", 256, ["<|end|>"])
except ValueError:
    pass
else:
    raise AssertionError("256 ids have no room for 256 bytes and a special token: ValueError")
print("train_bpe: the visible checks pass.")

# %% [markdown]
# ### Train on Shakespeare
#
# 1,000 ids: 256 bytes and 744 merges. On one core of a small server, the reference solution took 0.7 seconds; a trainer that keeps each
# pre-token once, too, but counts all their pairs anew after each merge, took 10.

# %% tags=["demo"]
import time

_start = time.perf_counter()
play_vocab, play_merges = train_bpe(text, 1000)
print(f"{len(play_merges)} merges in {time.perf_counter() - _start:.1f} seconds")
paint([a + b for a, b in play_merges[:40]], "the first merges")
paint([a + b for a, b in play_merges[-40:]], "the last merges")
paint(sorted(play_vocab.values(), key=len)[-25:], "the longest")

# %% [markdown]
# ## Task 6: the tokenizer
#
# *Difficulty 4/5 · about 90 minutes · 30 points · not allowed in this task: `tiktoken`, `tokenizers`, `transformers`, `sentencepiece`*
#
# Training gave you a vocabulary and an ordered list of merges. Now use them on any text:
#
# 1. Cut at the special tokens, longest first, and keep them: each is one id.
# 2. Cut the rest into pre-tokens, and each pre-token into bytes. Look the id of each byte up in `vocab`: in yours byte 97 has id 97, in GPT-2's it has id 64.
# 3. Inside a pre-token, look at all neighbouring pairs and merge the one whose merge was **learned earliest**. Repeat until no pair is in the list of merges.
#
# Step 3 is where most implementations go wrong. It is not the leftmost pair, not the longest token that fits, and not one pass over the text: the order of
# training decides. With the merges `1: b+c`, `2: a+b`, `3: bc+d`, the pre-token `abcd` becomes
#
# `a b c d` → `a bc d` → `a bcd`. Taking the leftmost pair first would give `ab c d`.
#
# `decode` goes back: look up each id's bytes, join **all** of them, then decode once. A model may produce any ids, so the bytes may not be valid UTF-8; each invalid part then becomes
# `U+FFFD`, the replacement character � (`errors="replace"`). A character may be spread over several ids, so decoding id by id would break it.
#
# Long texts must not be a trouble. Merge one pre-token at a time, so that no step has to look at the whole text again, and look up the few
# pairs that stand in it, instead of walking through 50,000 merges in search of them. This is graded too.
#
# `encode_iterable` is for texts that do not fit into memory: it takes pieces of text (the lines of an open file, for instance) and gives ids one by one, *lazily*: it must not
# ask for the second piece before the ids of the first have been used. Each piece is encoded by itself.
#
# Special tokens that are not in `vocab` get new ids, from the largest id plus one on, in the order given.
#
# Half a character pair from UTF-16 (a "lone surrogate", such as `"\ud800"`) is no valid text. `str.encode("utf-8")` raises `UnicodeEncodeError` for it, which is a
# kind of `ValueError`: let it.
#
# <details><summary>Hint 1: the idea</summary>
#
# Turn `vocab` round once, in the constructor: from bytes to id. Turn the list of merges into a dict as well: from pair to its place in the list.
#
# </details>
# <details><summary>Hint 2: the shape of it</summary>
#
# A method for one pre-token: as long as there are two parts or more, find the pair with the smallest place; stop if no pair has one; else merge it. The place of a
# pair that is not in the list is `math.inf`. `encode` calls it for each pre-token. The same pre-tokens come again and again: keep their
# ids in a dict, and encoding becomes many times faster.
#
# </details>
# <details><summary>Hint 3: the specials</summary>
#
# `re.split` with a pattern in round brackets keeps what it cut at: `re.split("(<x>|<y>)", "a<x>b")` is `["a", "<x>", "b"]`. With no special tokens, do not split at all.
#
# </details>
# <details><summary>Hint 4: last resort</summary>
#
# A method with `yield` in it gives its values one by one, and `yield from` hands on those of a list: a loop over the chunks is all that `encode_iterable` needs. `decode` is
# `b"".join(...).decode("utf-8", errors="replace")`, with a check for unknown ids before.
#
# </details>

# %% nbgrader={"grade": false, "grade_id": "bpe_tokenizer", "locked": false, "schema_version": 3, "solution": true, "task": false}
class BPETokenizer:
    """A byte-level BPE tokenizer: text to ids and back.

    Args:
        vocab: from id to bytes.
        merges: pairs of bytes in the order of training; the earlier one always goes first.
        special_tokens: pieces of text that are one id each. Those missing from `vocab` get ids from
            `max(vocab) + 1` on, in the order given.

    Source: Radford et al. (2019), "Language Models are Unsupervised Multitask Learners", section 2.2.
    """

    def __init__(
        self, vocab: dict[int, bytes], merges: list[tuple[bytes, bytes]], special_tokens: Iterable[str] = ()
    ) -> None:
        ### BEGIN SOLUTION
        # A copy, because special tokens may be added and the caller's dict is not ours to change.
        self.vocab = dict(vocab)
        self.ids = {token: i for i, token in vocab.items()}
        special_tokens = list(special_tokens)  # it is needed twice, and an iterator would be empty by then
        for special in special_tokens:
            token = special.encode("utf-8")
            if token not in self.ids:
                self.ids[token] = max(self.vocab) + 1
                self.vocab[self.ids[token]] = token

        # The place in the list of merges says which pair goes first, whatever its id.
        self.places = {pair: place for place, pair in enumerate(merges)}
        self.special_tokens = set(special_tokens)
        # Round brackets make re.split keep the special tokens; longest first, because the first that fits wins.
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        self.special_pattern = "(" + "|".join(re.escape(special) for special in longest_first) + ")"
        # Words come again and again: their ids are worked out once.
        self.known: dict[str, list[int]] = {}

    def _merge_all(self, pretoken: bytes) -> list[int]:
        """The ids of one pre-token: merge the pair that was learned earliest, until no pair is left to merge."""
        parts = [pretoken[i : i + 1] for i in range(len(pretoken))]  # single bytes
        while len(parts) > 1:
            pair = min(zip(parts, parts[1:]), key=lambda pair: self.places.get(pair, math.inf))
            if pair not in self.places:
                break  # not even the best pair is a merge
            parts = merge(parts, pair, pair[0] + pair[1])  # merge does not mind bytes in place of ids
        return [self.ids[part] for part in parts]
        ### END SOLUTION

    def encode(self, text: str) -> list[int]:
        """Turn text into ids.

        Raises:
            ValueError: the text holds a lone surrogate (UnicodeEncodeError is a ValueError).
        """
        ### BEGIN SOLUTION
        ids: list[int] = []
        # With no special tokens the pattern would match everywhere, so there is nothing to split at.
        parts = re.split(self.special_pattern, text) if self.special_tokens else [text]
        for part in parts:
            if part in self.special_tokens:
                ids.append(self.ids[part.encode("utf-8")])
                continue
            for pretoken in GPT2_PATTERN.findall(part):
                if pretoken not in self.known:
                    self.known[pretoken] = self._merge_all(pretoken.encode("utf-8"))
                ids.extend(self.known[pretoken])
        return ids
        ### END SOLUTION

    def encode_iterable(self, chunks: Iterable[str]) -> Iterator[int]:
        """Give the ids of many pieces of text one by one, with one piece in memory at a time.

        Each chunk is encoded by itself: pre-tokens are cut where the chunks are.
        """
        ### BEGIN SOLUTION
        # yield makes this a generator: it runs only as far as the next id that is asked for.
        for chunk in chunks:
            yield from self.encode(chunk)
        ### END SOLUTION

    def decode(self, ids: list[int]) -> str:
        """Turn ids back into text; bytes that are not valid UTF-8 become U+FFFD.

        Raises:
            ValueError: an id is not in the vocabulary; the message shows it.
        """
        ### BEGIN SOLUTION
        for i in ids:
            if i not in self.vocab:
                raise ValueError(f"the id {i} is not in the vocabulary")
        # Join first, decode once: a character may be spread over several tokens.
        return b"".join(self.vocab[i] for i in ids).decode("utf-8", errors="replace")
        ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test_bpe_tokenizer", "locked": true, "points": 30, "schema_version": 3, "solution": false, "task": false}
_merges = [(b"b", b"c"), (b"a", b"b"), (b"bc", b"d")]
_vocab = {i: bytes([i]) for i in range(256)} | {256: b"bc", 257: b"ab", 258: b"bcd"}
_bpe = BPETokenizer(_vocab, _merges, ["<|end|>"])
assert _bpe.encode("abcd") == [97, 258], "b+c was learned first, so it is merged first: a bc d, then a bcd"
assert _bpe.encode("abab") == [257, 257], "a merge applies wherever its pair stands"
assert _bpe.encode("ab<|end|>bc") == [257, 259, 256], "a special token is one id: here the first free one, 259"
assert _bpe.encode("") == [], "no text, no ids"
assert _bpe.decode([257, 259, 258]) == "ab<|end|>bcd", "decode joins the bytes of the ids"
assert _bpe.decode([240, 159, 153, 130]) == "🙂", "join all bytes before decoding: these are one character"
assert _bpe.decode([97, 240]) == "a\ufffd", "bytes that are not valid UTF-8 become U+FFFD"
_stream = _bpe.encode_iterable(["ab", "c"])
assert next(_stream) == 257 and list(_stream) == [99], "encode_iterable is an iterator; each chunk by itself"
for _call in (lambda: _bpe.decode([12345]), lambda: _bpe.encode("\ud800")):
    try:
        _call()
    except ValueError:
        continue
    except LookupError as _error:
        raise AssertionError(f"an unknown id raises ValueError; yours raised {type(_error).__name__}") from None
    raise AssertionError("an unknown id, or a lone surrogate in the text, raises ValueError")
print("bpe_tokenizer: the visible checks pass.")

# %% [markdown]
# ## Three tokenizers, one passage
#
# A longer list of ids costs more: a GPT can look back over a fixed number of ids, and the work grows with it. A larger vocabulary costs too: every id needs a
# row of numbers in the model. Here are your tokenizers on the same passage, twenty speeches from the middle of the text.

# %% tags=["demo"]
passage = "\n\n".join(text[600_000:].split("\n\n")[1:21])
official_gpt2 = tiktoken.get_encoding("gpt2")
official_length = len(official_gpt2.encode(passage))

play_chars, play_words = CharTokenizer(text), WordTokenizer(text)
play_bpe = BPETokenizer(play_vocab, play_merges)
chart_rows = [
    ("characters", len(play_chars.encode(passage)), play_chars.vocab_size),
    ("words (line breaks lost)", len(play_words.encode(passage)), play_words.vocab_size),
    ("BPE, 1,000 ids", len(play_bpe.encode(passage)), len(play_vocab)),
    ("GPT-2", official_length, official_gpt2.n_vocab),
]
chart, chart_axes = plt.subplots(1, 2, figsize=(10, 3), sharey=True)
for chart_column, chart_title in ((1, "ids for the passage"), (2, "size of the vocabulary (logarithmic)")):
    chart_axis = chart_axes[chart_column - 1]
    chart_numbers = [chart_row[chart_column] for chart_row in chart_rows]
    chart_bars = chart_axis.barh([chart_row[0] for chart_row in chart_rows], chart_numbers)
    for chart_bar, chart_colour in zip(chart_bars, ("#4c78a8", "#f58518", "#54a24b", "#b279a2")):
        chart_bar.set_color(chart_colour)
    chart_axis.bar_label(chart_bars, [f"{chart_number:,}" for chart_number in chart_numbers], padding=3)
    chart_axis.set_title(chart_title, fontsize=10)
    chart_axis.margins(x=0.2)
chart_axes[1].set_xscale("log")
chart_axes[1].set_xlim(10, 500_000)
chart_axes[0].invert_yaxis()
plt.tight_layout()
plt.show()

# %% [markdown]
# How large should a vocabulary be? The merges stand in order, so the first *n* of them are the tokenizer that a shorter training would have given. Train once, and look at every size.

# %% tags=["demo"]
big_vocab, big_merges = train_bpe(text, 6000)
sizes = [256, 300, 400, 600, 1000, 1500, 2500, 4000, 6000]
bytes_per_token = []
for size in tqdm(sizes, desc="sizes"):
    smaller = BPETokenizer({i: big_vocab[i] for i in range(size)}, big_merges[: size - 256])
    bytes_per_token.append(len(passage) / len(smaller.encode(passage)))
plt.figure(figsize=(6, 3.2))
plt.plot(sizes, bytes_per_token, marker="o", label="BPE trained on the plays")
plt.axhline(len(passage) / official_length, color="#b279a2", ls="--", label="GPT-2 (50,257 ids, from the web)")
plt.xscale("log")
plt.xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
plt.minorticks_off()
plt.xlabel("size of the vocabulary")
plt.ylabel("bytes in one token")
plt.title("Ten times the vocabulary, one to two bytes more in a token")
plt.legend()
plt.tight_layout()
plt.show()

# %% [markdown]
# ## GPT-2's own tokenizer
#
# OpenAI published the merges that GPT-2 was trained with: 50,000 of them, learned from eight million web pages. They are in this course's `data/` folder. Your class
# takes them as they are. GPT-2's ids are not the byte values, and its one special token, `<|endoftext|>`, has the last id, 50,256.

# %% nbgrader={"grade": false, "grade_id": "gpt2_vocabulary", "locked": true, "schema_version": 3, "solution": false, "task": false}
def gpt2_vocabulary() -> dict[int, bytes]:
    """GPT-2's ordinary tokens, from id to bytes. (The merges that belong to them: `gpt2_merges()`.)"""
    return {i: token for token, i in gpt2_ranks().items()}

# %% tags=["demo"]
gpt2 = BPETokenizer(gpt2_vocabulary(), gpt2_merges(), ["<|endoftext|>"])
gpt2_tokens = gpt2_vocabulary()


def show_gpt2(sample: str) -> None:
    """Paint how your tokenizer with GPT-2's merges cuts a text."""
    paint([gpt2_tokens.get(i, b"<|endoftext|>") for i in gpt2.encode(sample)], sample.replace("\n", "⏎"))


print(gpt2.encode("To be, or not to be"), "<- GPT-2's ids")

# %% [markdown]
# **Numbers.** Common ones are one token; others break wherever web pages happened to repeat digits. 1234 + 5678 is a sum of pieces that do not line up. Numbers that look
# alike to you look different to the model.

# %% tags=["demo"]
for _sample in ("1 12 123 1234 12345 123456", "1234 + 5678 = 6912", "3.14159 1616 1999 2024 ½ ٣٤"):
    show_gpt2(_sample)

# %% [markdown]
# **Emoji and other scripts.** What the training text had little of falls into bytes, shown here as two-digit (hexadecimal) numbers. One family emoji, which is three persons
# joined by invisible "zero-width joiners", costs more tokens than a short sentence of English.

# %% tags=["demo"]
for _sample in ("🙂 👋🏽 👩‍👩‍👧", "naïve café Ωmega", "你好，世界", "Hello, world"):
    show_gpt2(_sample)

# %% [markdown]
# **White space.** A word owns the one space before it, so ` the` and `the` are different tokens. The spaces of indented programs come one by one, which is one reason why GPT-2
# is clumsy at Python; later tokenizers have tokens for runs of spaces.

# %% tags=["demo"]
for _sample in ("the the  the   the", "def f(x):\n        return x", "Hello hello HELLO", "<|endoftext|> is one"):
    show_gpt2(_sample)

# %% [markdown]
# ## The last check: you and tiktoken
#
# `tiktoken` is OpenAI's own library. On a page of Shakespeare, your ids and its ids should be the same, one by one.

# %% tags=["demo"]
page = text[100_000:103_000]
page_ids = gpt2.encode(page)
official_ids = official_gpt2.encode(page)
print("your ids:   ", page_ids[:12], "...")
print("tiktoken's: ", official_ids[:12], "...")
print(f"{len(page_ids)} ids; all equal: {page_ids == official_ids}")
print(f"decoded, they are the page again: {gpt2.decode(page_ids) == page}")

_start = time.perf_counter()
gpt2.encode(text)
_yours = time.perf_counter() - _start
_start = time.perf_counter()
official_gpt2.encode(text)
_official = time.perf_counter() - _start
print(f"all nine plays: {_yours:.2f} s for you, {_official:.2f} s for tiktoken, which is written in Rust")

# %% [markdown]
# ## Written question (10 points)
#
# Choose a word of eight letters or more that GPT-2 cuts into at least two tokens, and the same word with a space before it, in capitals, or with a spelling slip. Show
# how each is cut (use `show_gpt2`). Then answer in about ten sentences:
#
# 1. Why is it hard for GPT-2 to say how many times the letter *r* stands in a word, though it has read millions of words?
# 2. Why does the trainer not merge across pre-tokens? Give one thing that is gained and one that is lost.
# 3. A text in Thai costs several times as many GPT-2 tokens as the same text in English. Where in *training* was that decided, and who pays for it?

# %% [markdown] nbgrader={"grade": true, "grade_id": "written_tokenizer", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
# `strawberry` is cut into `st` `raw` `berry`, but ` strawberry` with a space before it is one token, and `STRAWBERRY` is cut into
# `ST` `RAW` `BER` `RY`. To the model these are lists of different ids with nothing in common.
#
# *Marking guide:* 2 points for the word and its cuts, 3 for question 1, 3 for question 2 (gain, loss, and why), 2 for question 3.
#
# 1. The model is given ids, not letters. The id of ` strawberry` does not contain three r's; it is a row number in a table. How a token is spelled can only be
#    learned indirectly, from texts that spell words out, and separately for each of 50,000 tokens. So a question about letters asks for something that the input does not show.
# 2. Gained: `dog.`, `dog,` and `dog!` share the token `dog`, so the vocabulary is not filled with copies of a word that differ in punctuation, and the model learns each
#    word once. Pre-tokens are also short and repeat, which makes training and encoding fast. Lost: frequent phrases such as `of the` or `New York` can never become one
#    token, so texts are longer than they could be; and for scripts that put no spaces between words the cuts fall in arbitrary places.
# 3. In the choice of the training text. Merges go to the most frequent pairs; the web pages were almost all English, so English words were merged whole, and Thai, three
#    bytes a character in UTF-8, hardly got any merges beyond them. The readers and writers of Thai pay: more tokens for the same content means higher cost and slower answers, and
#    less text that fits into the fixed number of tokens that the model can look back over.

# %% [markdown]
# ## What you have now
#
# A tokenizer that loses nothing: any text becomes a list of whole numbers, and the list becomes the text again. From here on
# a text is a list of ids, and a GPT guesses the next one. To guess well it must look back at what stands before. Next:
# **attention**, the part that looks back.
