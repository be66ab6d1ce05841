"""What people get wrong about tokenizers, and other right ways to write one.

Rows of the catalogue that are no misconception here:
* words joined with spaces, line breaks lost: the word tokenizer is defined so; keeping them is the mistake (`white_space_kept`);
* a vocabulary from the wrong half of the data: the caller hands the text over (`grows` is what is left of it);
* pre-tokens cut where the chunks of a stream end: that is the rule here, and joining them over the cut is the mistake
  (`chunks_joined`, `last_pretoken_held_back`).
"""

import random
from collections import Counter

from autograder.diagnosis import battery, change, honest, misconception

# Characters


GREETING = "Hello, World! 10 é\n"


def in_no_order(ids, items):
    """Whether ids 0, 1, 2 … of the sorted distinct items follow neither the alphabet nor the text nor how often they occur.

    The order of a set is another one in each process, so it is told apart by what it is not.
    """
    if not isinstance(ids, list) or sorted(map(str, ids)) != sorted(map(str, range(len(set(items))))):
        return False
    numbered = [item for _, item in sorted(zip(ids, sorted(set(items))))]
    alphabetical, first, last = sorted(set(items)), list(dict.fromkeys(items)), list(dict.fromkeys(reversed(items)))
    known = [alphabetical, sorted(alphabetical, key=str.lower), sorted(alphabetical, key=len)]
    for order in (alphabetical, first, last):
        often = Counter(items)
        known += [order, sorted(order, key=lambda item: often[item]), sorted(order, key=lambda item: -often[item])]
    return numbered not in [*known, *(order[::-1] for order in known)]


@battery("char_tokenizer")
def char_questions(ask):
    """Ids of a text with order and case, unknown characters and ids, two tokenizers side by side."""
    tokenizer = ask.new("CharTokenizer", GREETING)
    other = ask.new("CharTokenizer", "xyz")
    ids = tokenizer.encode("".join(sorted(set(GREETING))))
    if in_no_order(ids, list(GREETING)):
        return ["in no order", tokenizer.get("vocab_size"), tokenizer.decode(ids), tokenizer.encode("?"), tokenizer.decode([0, -1])]
    return [
        tokenizer.get("vocab_size"), tokenizer.encode("He, World é0"), tokenizer.decode([0, 3, 9, 2, 5, 10]),
        tokenizer.encode("Hello?"), tokenizer.encode("?"), tokenizer.decode([14]), tokenizer.decode([15]), tokenizer.decode([99, 1]),
        tokenizer.decode([0, -1]), tokenizer.decode([]), other.encode("zx"), other.decode([0]), ask.new("CharTokenizer", "aab").encode("ba"),
        ask.new("CharTokenizer", "aBbA").encode("ABab"), tokenizer.decode.observe([3, 0, 9], inputs=True).inputs_after,
    ]  # fmt: skip


@misconception(
    task="char_tokenizer", advice="A set has no order that lasts: number the characters of `sorted(set(text))`."
)
def unordered_set(source):
    """The characters are numbered in the order of a set, which changes from run to run."""
    return change(source, "sorted(set(text))", "list(set(text))")


@misconception(
    task="char_tokenizer", advice="Number the characters in sorted order; how often one occurs has no part in it."
)
def most_frequent_first(source):
    """The characters are numbered by how often they occur, the most frequent first."""
    source = change(source, "sorted(set(text))", "[c for c, _ in Counter(text).most_common()]")
    return "from collections import Counter\n\n" + source


@misconception(
    task="char_tokenizer", advice="sorted() without a key: capital letters come before all small ones, as in Unicode."
)
def sorted_without_case(source):
    """The characters are sorted as if capital and small letters were the same."""
    return change(source, "sorted(set(text))", "sorted(sorted(set(text)), key=str.lower)")


@misconception(task="char_tokenizer", advice="Loop over the ids; pop() takes them out of a list that is the caller's.")
def ids_used_up(source):
    """decode empties the list of ids that it was given."""
    return change(
        source,
        'return "".join(self.characters[i] for i in ids)',
        'return "".join(self.characters[ids.pop(0)] for _ in range(len(ids)))',
    )


@misconception(
    task="char_tokenizer", advice="There is no id for what is not in the vocabulary: raise ValueError with the character."
)
def unknown_as_id(source):
    """An unknown character gets an id, -1, instead of an error."""
    source = change(source, 'raise ValueError(f"the character', 'continue\n                (f"the character')
    return change(source, "self.ids[character] for character in text]", "self.ids.get(character, -1) for character in text]")


@misconception(task="char_tokenizer", advice="Sort the distinct characters before you number them.")
def first_appearance(source):
    """The characters are numbered as they first appear in the text, not in sorted order."""
    return change(source, "sorted(set(text))", "list(dict.fromkeys(text))")


@misconception(
    task="char_tokenizer", advice="Number the vocabulary itself: the first of the sorted characters is 0, the next 1."
)
def code_points(source):
    """The ids are the characters' Unicode numbers, not their places in the vocabulary."""
    source = change(
        source,
        "character: i for i, character in enumerate(self.characters)",
        "character: ord(character) for character in self.characters",
    )
    source = change(source, "if not 0 <= i < self.vocab_size:", "if i < 0 or chr(i) not in self.ids:")
    return change(source, "self.characters[i] for i in ids", "chr(i) for i in ids")


@misconception(task="char_tokenizer", advice="Ids begin at 0: the vocabulary of n characters has the ids 0 to n - 1.")
def ids_from_one(source):
    """The ids begin at 1."""
    source = change(source, "enumerate(self.characters)", "enumerate(self.characters, start=1)")
    source = change(source, "if not 0 <= i < self.vocab_size:", "if not 1 <= i <= self.vocab_size:")
    return change(source, "self.characters[i] for", "self.characters[i - 1] for")


@misconception(task="char_tokenizer", advice="vocab_size is the number of distinct characters, not of all of them.")
def size_of_text(source):
    """vocab_size is the length of the text."""
    return change(source, "self.vocab_size = len(self.characters)", "self.vocab_size = len(text)")


@misconception(
    task="char_tokenizer", advice="Capital and small letters are different characters; leave the text as it is."
)
def char_lower_case(source):
    """The text is turned into small letters first."""
    source = change(source, "sorted(set(text))", "sorted(set(text.lower()))")
    return change(
        source,
        "        for character in text:\n            if",
        "        text = text.lower()\n        for character in text:\n            if",
    )


@misconception(
    task="char_tokenizer", advice="Raise ValueError for a character that is not in the vocabulary; do not drop it."
)
def unknown_dropped(source):
    """Unknown characters are dropped without a word."""
    source = change(source, 'raise ValueError(f"the character', 'continue\n                (f"the character')
    return change(source, "for character in text]", "for character in text if character in self.ids]")


@misconception(
    task="char_tokenizer",
    advice="Look the character up first, and raise ValueError with the character in the message if it is not there.",
)
def unknown_key_error(source):
    """An unknown character or id raises KeyError or IndexError instead of ValueError."""
    source = change(source, 'raise ValueError(f"the character', 'raise KeyError(f"the character')
    return change(source, 'raise ValueError(f"the id', 'raise IndexError(f"the id')


@misconception(
    task="char_tokenizer", advice="Python's list[-1] is the last item. Check 0 <= id as well as id < vocab_size."
)
def negative_id_wraps(source):
    """A negative id counts from the end of the vocabulary."""
    return change(source, "if not 0 <= i < self.vocab_size:", "if not -self.vocab_size <= i < self.vocab_size:")


@misconception(task="char_tokenizer", advice="Keep the vocabulary on the object (`self.ids = ...`), not on the class.")
def shared_vocabulary(source):
    """All tokenizers share one vocabulary, that of the last one made."""
    return change(source, "self.", "CharTokenizer.", count=source.count("self."))


@misconception(task="char_tokenizer", advice="Ids end at vocab_size - 1: compare with `<`, not with `<=`.")
def id_off_by_one(source):
    """The id just behind the vocabulary is not refused with ValueError."""
    return change(source, "if not 0 <= i < self.vocab_size:", "if not 0 <= i <= self.vocab_size:")


@honest(task="char_tokenizer")
def char_two_dicts(source):
    """Two dicts, and exceptions turned into the right one."""
    return """
class CharTokenizer:
    def __init__(self, text):
        chars = sorted(set(text))
        self.stoi = dict(zip(chars, range(len(chars))))
        self.itos = dict(enumerate(chars))

    @property
    def vocab_size(self):
        return len(self.stoi)

    def encode(self, text):
        try:
            return [self.stoi[c] for c in text]
        except KeyError as error:
            raise ValueError(f"unknown character {error}") from error

    def decode(self, ids):
        out = ""
        for i in ids:
            if i not in self.itos:
                raise ValueError(f"unknown id: {i}")
            out += self.itos[i]
        return out
"""


@honest(task="char_tokenizer")
def char_by_searching(source):
    """One string that is searched, and no table at all."""
    return """
class CharTokenizer:
    def __init__(self, text):
        self._alphabet = "".join(sorted(dict.fromkeys(text)))
        self.vocab_size = len(self._alphabet)

    def encode(self, text):
        ids = []
        for ch in text:
            place = self._alphabet.find(ch)
            if place < 0:
                raise ValueError("not in the vocabulary: " + ch)
            ids += [place]
        return ids

    def _one(self, i):
        if i < 0 or i >= self.vocab_size:
            raise ValueError("bad id %d" % i)
        return self._alphabet[i]

    def decode(self, ids):
        return "".join(map(self._one, ids))
"""


# Words


SPEECH = 'To be, or not to be--that is: "the" question; (isn\'t it?) _well_ done!\n\n  Yes. zoo'
SPOKEN = (
    "To be , or not to be -- that is : \" the \" question ; ( isn ' t it ? ) _ well _ done ! Yes . zoo".split()
)  # its pieces, in order


@battery("word_tokenizer")
def word_questions(ask):
    """Punctuation of every kind, white space, unknown words, both specials."""
    tokenizer = ask.new("WordTokenizer", SPEECH)
    marked = ask.new("WordTokenizer", "b <|unk|> a <|endoftext|> zoo <|endoftext|>,")
    ids = tokenizer.encode(" ".join(sorted(set(SPOKEN))))
    if in_no_order(ids, SPOKEN):
        unknown = tokenizer.encode("to Zounds egad <|unk|>")[1:]
        return ["in no order", tokenizer.get("vocab_size"), tokenizer.decode(ids), unknown]
    return [
        tokenizer.get("vocab_size"), tokenizer.encode(SPEECH), tokenizer.encode("be Zounds! not egad"), tokenizer.get("vocab_size"),
        tokenizer.decode(list(range(12))), tokenizer.decode(list(range(12, 28))), tokenizer.encode("to <|endoftext|> be <|unk|> it"),
        tokenizer.decode(tokenizer.encode(SPEECH)), marked.get("vocab_size"), marked.encode("a <|endoftext|> zoo <|unk|> b , c"),
        marked.decode([1, 0, 2, 4, 3, 5]), marked.encode("a<|endoftext|>b"), tokenizer.decode(tokenizer.encode("to ( be - \" it")),
        tokenizer.decode.observe([3, 0, 9], inputs=True).inputs_after,
    ]  # fmt: skip


@misconception(
    task="word_tokenizer", advice="A set has no order that lasts: number `sorted(set(pieces))`, without the specials."
)
def word_unordered_set(source):
    """The pieces are numbered in the order of a set, which changes from run to run."""
    return change(source, "sorted(set(self._split(text)) - set(specials))", "list(set(self._split(text)) - set(specials))")


@misconception(task="word_tokenizer", advice="Number the pieces in sorted order; how often one occurs has no part in it.")
def word_most_frequent_first(source):
    """The pieces are numbered by how often they occur, the most frequent first."""
    source = change(
        source,
        "sorted(set(self._split(text)) - set(specials))",
        "[p for p, _ in Counter(self._split(text)).most_common() if p not in specials]",
    )
    return "from collections import Counter\n\n" + source


@misconception(task="word_tokenizer", advice="The fallback is the id of <|unk|>, the last one, and not 0.")
def unknown_word_zero(source):
    """An unknown piece becomes the id 0, which is that of another piece."""
    return change(source, "self.ids.get(piece, unknown)", "self.ids.get(piece, 0)")


@misconception(
    task="word_tokenizer",
    advice="A special token is a piece only where it stands between spaces: cut with the pattern as it is given.",
)
def special_inside_a_word(source):
    """A special token is cut out of the text even where no space stands around it."""
    return change(source, "re.split(r'(", r"re.split(r'(<\|endoftext\|>|<\|unk\|>|")


@misconception(
    task="word_tokenizer", advice="decode removes white space *before* the marks listed; behind a mark it stays."
)
def space_behind_brackets(source):
    """decode also removes the white space behind an opening bracket or a quotation mark."""
    return change(source, "        return re.sub(", "        joined = re.sub(r'([(\"])\\s+', r\"\\1\", joined)\n        return re.sub(")


@misconception(task="word_tokenizer", advice="The special tokens have a text like all others: decode gives it back.")
def word_specials_skipped(source):
    """decode leaves the special tokens out."""
    return change(source, "self.pieces[i] for i in ids)", "self.pieces[i] for i in ids if i < self.vocab_size - 2)")


@misconception(task="word_tokenizer", advice="Loop over the ids; pop() takes them out of a list that is the caller's.")
def word_ids_used_up(source):
    """decode empties the list of ids that it was given."""
    return change(source, "self.pieces[i] for i in ids)", "self.pieces[ids.pop(0)] for _ in range(len(ids)))")


@misconception(
    task="word_tokenizer", advice="Look a piece up with the id of <|unk|> as the fallback: no piece may vanish."
)
def unknown_word_dropped(source):
    """Unknown pieces are dropped instead of becoming the unknown token."""
    return change(
        source,
        "[self.ids.get(piece, unknown) for piece in self._split(text)]",
        "[self.ids[piece] for piece in self._split(text) if piece in self.ids]",
    )


@misconception(task="word_tokenizer", advice="An unknown piece is no error: it becomes the id of <|unk|>.")
def unknown_word_error(source):
    """An unknown piece raises an error."""
    return change(source, "self.ids.get(piece, unknown)", "self.ids[piece]")


@misconception(task="word_tokenizer", advice="The vocabulary is fixed by the constructor; encode only looks things up.")
def grows(source):
    """Encoding adds unknown pieces to the vocabulary."""
    return change(
        source,
        "        return [self.ids.get(piece, unknown) for piece in self._split(text)]",
        "        for piece in self._split(text):\n"
        "            if piece not in self.ids:\n"
        "                self.ids[piece] = len(self.pieces)\n"
        "                self.pieces.append(piece)\n"
        "        self.vocab_size = len(self.pieces)\n"
        "        return [self.ids[piece] for piece in self._split(text)]",
    )


@misconception(task="word_tokenizer", advice="First the sorted pieces, then <|endoftext|>, then <|unk|>.")
def specials_first(source):
    """The special tokens come before the words in the vocabulary."""
    return change(
        source,
        "sorted(set(self._split(text)) - set(specials)) + specials",
        "specials + sorted(set(self._split(text)) - set(specials))",
    )


@misconception(task="word_tokenizer", advice="<|endoftext|> comes first of the two, <|unk|> is the very last.")
def specials_swapped(source):
    """<|unk|> comes before <|endoftext|>."""
    return change(source, '["<|endoftext|>", "<|unk|>"]', '["<|unk|>", "<|endoftext|>"]')


@misconception(task="word_tokenizer", advice="The two special tokens have ids too: vocab_size counts them.")
def specials_not_counted(source):
    """vocab_size leaves the special tokens out."""
    return change(source, "self.vocab_size = len(self.pieces)", "self.vocab_size = len(self.pieces) - len(specials)")


@misconception(
    task="word_tokenizer",
    advice="Take the special tokens out of the set of pieces before you sort it; they are added at the end.",
)
def specials_twice(source):
    """A special token that stands in the text is in the vocabulary twice."""
    return change(source, "sorted(set(self._split(text)) - set(specials))", "sorted(set(self._split(text)))")


@misconception(
    task="word_tokenizer",
    advice="Sort all pieces, the special tokens not among them, and append the two: sorting after appending puts them among the words.",
)
def specials_sorted_in(source):
    """The special tokens are sorted in among the words."""
    return change(
        source,
        "sorted(set(self._split(text)) - set(specials)) + specials",
        "sorted(set(self._split(text)) | set(specials))",
    )


@misconception(
    task="word_tokenizer",
    advice="Punctuation marks are pieces too: split with the pattern given, whose brackets keep the marks.",
)
def split_at_spaces(source):
    """Text is cut at white space only, so marks stay on the words."""
    return change(source, r"""re.split(r'([,.:;?_!"()\']|--|\s)', text)""", "text.split()")


@misconception(
    task="word_tokenizer",
    advice="Put round brackets around the whole pattern: only then re.split keeps what it cut at.",
)
def marks_lost(source):
    """Punctuation marks are thrown away."""
    return change(source, r"""r'([,.:;?_!"()\']|--|\s)'""", r"""r'[,.:;?_!"()\']|--|\s'""")


@misconception(
    task="word_tokenizer",
    advice="The two hyphens `--` are a piece of their own: the pattern has an alternative for them.",
)
def no_double_hyphen(source):
    """A double hyphen does not separate words."""
    return change(source, r"|--|\s", r"|\s")


@misconception(
    task="word_tokenizer", advice="Strip each piece and drop those that are empty then: white space is no token here."
)
def white_space_kept(source):
    """White space is kept as tokens."""
    return change(
        source, "[piece.strip() for piece in pieces if piece.strip()]", "[piece for piece in pieces if piece]"
    )


@misconception(task="word_tokenizer", advice="Drop pieces that are empty after stripping: `if piece.strip()`.")
def empty_pieces(source):
    """Empty pieces stay in the list."""
    return change(source, "[piece.strip() for piece in pieces if piece.strip()]", "[piece.strip() for piece in pieces]")


@misconception(task="word_tokenizer", advice="Sort the distinct pieces before you number them.")
def word_first_appearance(source):
    """The pieces are numbered as they first appear, not in sorted order."""
    return change(
        source,
        "sorted(set(self._split(text)) - set(specials))",
        "[p for p in dict.fromkeys(self._split(text)) if p not in specials]",
    )


@misconception(task="word_tokenizer", advice="`To` and `to` are two pieces: leave the text as it is.")
def word_lower_case(source):
    """The text is turned into small letters first."""
    return change(source, "text)\n        return [piece.strip()", "text.lower())\n        return [piece.strip()")


@misconception(task="word_tokenizer", advice="After joining, remove the white space before the marks with re.sub.")
def space_before_marks(source):
    """decode leaves a space before punctuation."""
    return change(source, r"""return re.sub(r'\s+([,.:;?!"()\'])', r"\1", joined)""", "return joined")


@misconception(task="word_tokenizer", advice="Remove white space before all of the marks listed: , . : ; ? ! \" ( ) '")
def space_before_some(source):
    """decode removes the space before commas and full stops, but not before all the marks listed."""
    return change(source, r"""r'\s+([,.:;?!"()\'])'""", "r'\\s+([,.?!])'")


@misconception(
    task="word_tokenizer",
    advice="The list of decode has no underscore: only , . : ; ? ! \" ( ) ' lose the white space before them.",
)
def space_before_underscore(source):
    """decode also removes the space before an underscore, which is not among the marks listed."""
    return change(source, r"""([,.:;?!"()\'])', r""", r"""([,.:;?_!"()\'])', r""")


@misconception(task="word_tokenizer", advice='Join the pieces with one space: " ".join(...).')
def joined_without_spaces(source):
    """decode joins the pieces without spaces."""
    return change(source, '" ".join(', '"".join(')


@honest(task="word_tokenizer")
def word_with_loops(source):
    """Plain loops and two dicts."""
    return r'''
MARKS = ',.:;?!"()' + "'"

def cut(text):
    found = []
    for piece in re.split(r"""([,.:;?_!"()']|--|\s)""", text):
        piece = piece.strip()
        if piece != "":
            found.append(piece)
    return found

class WordTokenizer:
    def __init__(self, text):
        words = sorted({w for w in cut(text) if w not in ("<|endoftext|>", "<|unk|>")})
        words.extend(["<|endoftext|>", "<|unk|>"])
        self.str_to_int = {w: i for i, w in enumerate(words)}
        self.int_to_str = {i: w for w, i in self.str_to_int.items()}
        self.vocab_size = len(words)

    def encode(self, text):
        return [self.str_to_int[w if w in self.str_to_int else "<|unk|>"] for w in cut(text)]

    def decode(self, ids):
        out = ""
        for i in ids:
            word = self.int_to_str[i]
            out += word if out == "" or word[0] in MARKS else " " + word
        return out
'''


@honest(task="word_tokenizer")
def word_with_replace(source):
    """A compiled pattern, dicts, exceptions, and one plain replacement for each mark."""
    return r'''
class WordTokenizer:
    CUT = re.compile(r"""([,.:;?_!"()']|--|\s)""")

    def __init__(self, text):
        vocab = dict.fromkeys(self._pieces(text))
        for special in ("<|endoftext|>", "<|unk|>"):
            vocab.pop(special, None)
        self.itos = dict(enumerate([*sorted(vocab), "<|endoftext|>", "<|unk|>"]))
        self.stoi = {v: k for k, v in self.itos.items()}

    @property
    def vocab_size(self):
        return len(self.itos)

    @classmethod
    def _pieces(cls, text):
        return filter(None, (p.strip() for p in cls.CUT.split(text)))

    def encode(self, text):
        ids = []
        for p in self._pieces(text):
            try:
                ids.append(self.stoi[p])
            except KeyError:
                ids.append(max(self.itos))
        return ids

    def decode(self, ids):
        text = " ".join([self.itos[int(i)] for i in ids])
        for mark in ",.:;?!()'" + '"':
            text = text.replace(" " + mark, mark)
        return text
'''


# Pairs

# Small ids and large ones, some of which are written with the digits of others.
LONG = [(1, 2, 11, 12, 21, 112, 300, 1000)[(3 * n + n // 7) % 8] for n in range(3000)]


@battery("pair_counts")
def pair_questions(ask):
    """Runs, repeats, short lists, order."""
    lists = [[1, 2, 3, 1, 2], [7, 7, 7, 7], [], [5], [1, 2], [2, 1, 2, 1], [0, 0, 1, 0, 0, 0, 2, 1]]
    return [ask.pair_counts(ids) for ids in [*lists, LONG]] + [ask.observe("pair_counts", [3, 1, 2], inputs=True).inputs_after]


@misconception(
    task="pair_counts",
    advice="Each id is the left half of one pair and the right half of another: move on by one, not by two.",
)
def every_second_pair(source):
    """Pairs are taken two ids at a time, so half of them are never seen."""
    return change(source, "zip(ids, ids[1:])", "zip(ids[::2], ids[1::2])")


@misconception(
    task="pair_counts",
    advice="Here overlapping pairs all count: [7, 7, 7] holds (7, 7) twice. Only merging goes without overlap.",
)
def overlaps_once(source):
    """In a run of one id, overlapping pairs are counted once."""
    return change(
        source,
        "    for pair in zip(ids, ids[1:]):\n",
        "    last = -2\n    for i, pair in enumerate(zip(ids, ids[1:])):\n        if pair[0] == pair[1] and last == i - 1 and ids[i - 1] == ids[i]:\n            last = -2\n            continue\n        last = i\n",
    )


@misconception(task="pair_counts", advice="(1, 2) and (2, 1) are two pairs: do not sort the ids in a pair.")
def pairs_without_order(source):
    """A pair and its reverse are counted together."""
    return change(source, "counts[pair] = ", "pair = tuple(sorted(pair))\n        counts[pair] = ")


@misconception(task="pair_counts", advice="A list of n ids has n - 1 pairs; the loop stops one too early.")
def last_pair_missed(source):
    """The last pair is not counted."""
    return change(source, "zip(ids, ids[1:])", "zip(ids[:-1], ids[1:-1])")


@misconception(task="pair_counts", advice="The last id has no right neighbour; ids[i - 1] with i = 0 is the last id.")
def wraps_around(source):
    """The last id and the first are counted as a pair."""
    return change(source, "zip(ids, ids[1:])", "zip(ids, ids[1:] + ids[:1])")


@misconception(task="pair_counts", advice="Add 1 to what has been counted already: counts.get(pair, 0) + 1.")
def present_or_not(source):
    """Each pair is counted once, however often it occurs."""
    return change(source, "counts.get(pair, 0) + 1", "1")


@misconception(task="pair_counts", advice="Do not use pop() on the list you were given: it belongs to the caller.")
def pairs_input_used_up(source):
    """The list given is changed while counting."""
    return change(source, "    return counts\n", "    ids.clear()\n    return counts\n")


@misconception(
    task="pair_counts", advice="Use a loop: Python allows about a thousand calls inside each other, and a text is longer."
)
def pairs_recursive(source):
    """The function calls itself for the rest of the list, and fails where that is long."""
    return """
def pair_counts(ids):
    if len(ids) < 2:
        return {}
    counts = pair_counts(ids[1:])
    pair = (ids[0], ids[1])
    counts[pair] = counts.get(pair, 0) + 1
    return counts
"""


@misconception(task="pair_counts", advice="Ids are no bytes: after a few merges they are larger than 255.")
def ids_as_bytes(source):
    """The ids are taken for bytes, so that those above 255 fail."""
    return change(source, "    # zip stops", "    ids = bytes(ids)\n    # zip stops")


@honest(task="pair_counts")
def pairs_counted_each(source):
    """A list of pairs, and a look through it for each different one."""
    return """
def pair_counts(ids):
    pairs = [(ids[i - 1], ids[i]) for i in range(1, len(ids))]
    return {p: pairs.count(p) for p in set(pairs)}
"""


@honest(task="pair_counts")
def with_counter(source):
    """A Counter."""
    return "from collections import Counter\n\ndef pair_counts(ids):\n    return Counter(zip(ids[:-1], ids[1:]))\n"


@honest(task="pair_counts")
def with_indices(source):
    """Indices and a defaultdict."""
    return """
def pair_counts(ids):
    from collections import defaultdict
    stats = defaultdict(int)
    for i in range(len(ids) - 1):
        stats[ids[i], ids[i + 1]] += 1
    return stats
"""


# Merging


@battery("merge")
def merge_questions(ask):
    """Pairs at the ends, runs, new ids that look like old ones, the reverse pair."""
    cases = [
        ([1, 2, 3, 1, 2], (1, 2), 9), ([7, 7, 7], (7, 7), 9), ([7, 7, 7, 7, 7], (7, 7), 9), ([], (1, 2), 9), ([1], (1, 2), 9), ([3, 2], (1, 2), 9),
        ([11, 2, 1, 2, 21, 12], (1, 2), 9), ([300, 1000, 300, 1000], (300, 1000), 5000), (LONG, (1, 2), 5000),
        ([2, 1, 2, 1], (1, 2), 9), ([1, 2, 2, 2], (1, 2), 1), ([1, 1, 2, 3], (1, 2), 9), ([2, 1, 2, 1, 2], (1, 2), 2), ([1, 2, 1], (1, 2), 9),
    ]  # fmt: skip
    return [ask.merge(*case) for case in cases] + [ask.observe("merge", [3, 1, 2], (1, 2), 9, inputs=True).inputs_after]


@misconception(task="merge", advice="When the loop stops before the last id, that id still has to be copied.")
def last_id_lost(source):
    """The last id is lost if it is not part of a pair."""
    return change(source, "while i < len(ids):", "while i < len(ids) - 1:")


@misconception(task="merge", advice="The pair may stand at the very end: the last place to look at is len(ids) - 2.")
def pair_at_end_missed(source):
    """A pair at the very end is not merged."""
    return change(source, "if i + 1 < len(ids) and", "if i + 2 < len(ids) and")


@misconception(task="merge", advice="Scan from the left: in [7, 7, 7] the first two are taken and the third stays.")
def from_the_right(source):
    """The scan goes from right to left."""
    source = change(source, "    merged = []\n", "    merged = []\n    ids, pair = ids[::-1], (pair[1], pair[0])\n")
    return change(source, "    return merged\n", "    return merged[::-1]\n")


@misconception(task="merge", advice="After a match both ids are used up: go on two places.")
def steps_by_one(source):
    """After a match the scan moves on by one place only, so the second id of the pair is kept or used twice."""
    return change(source, "i += 2", "i += 1")


@misconception(task="merge", advice="Do not stop after the first match: replace the pair everywhere.")
def first_only(source):
    """Only the first occurrence is replaced."""
    return change(source, "            i += 2", "            return merged + ids[i + 2 :]\n            i += 2")


@misconception(task="merge", advice="The order of the two ids matters: (2, 1) is not (1, 2).")
def either_order(source):
    """The reverse pair is replaced as well."""
    return change(source, "(ids[i], ids[i + 1]) == pair", "(ids[i], ids[i + 1]) in (pair, (pair[1], pair[0]))")


@misconception(task="merge", advice="Build a new list; do not assign into, or delete from, the one that was given.")
def merges_in_place(source):
    """The list that was given is changed."""
    return change(source, "    return merged\n", "    ids[:] = merged\n    return merged\n")


@misconception(
    task="merge", advice="One pass from left to right is all: a new id takes part in the next merge, not in this one."
)
def looks_again(source):
    """A new id is looked at again in the same pass, as the left half of another pair."""
    return """
def merge(ids, pair, new_id):
    ids = list(ids)
    i = 0
    while i + 1 < len(ids):
        if (ids[i], ids[i + 1]) == pair:
            ids[i : i + 2] = [new_id]
            if new_id != pair[0]:
                i += 1
        else:
            i += 1
    return ids
"""


@misconception(
    task="merge", advice="Every turn of the loop must move the index on: also where the pair's first id stands alone."
)
def never_ends(source):
    """The loop stands still where the first id of the pair is followed by another, and never ends."""
    return change(source, "        else:\n", "        elif ids[i] != pair[0]:\n")


@misconception(task="merge", advice="Put new_id where the pair stood, not both.")
def keeps_the_pair(source):
    """The new id is put in, but the pair is not taken out."""
    return change(source, "merged.append(new_id)", "merged += [*pair, new_id]")


@misconception(
    task="merge", advice="Compare the ids, not the text they are written as: in `11 2` stands the text `1 2`, but no 1."
)
def merges_text(source):
    """The list is turned into text, where the digits of one id look like another."""
    return """
def merge(ids, pair, new_id):
    text = " ".join(map(str, ids)).replace(f"{pair[0]} {pair[1]}", str(new_id))
    return [int(part) for part in text.split()]
"""


@misconception(
    task="merge",
    advice="Compare with `==`: `is` asks whether it is the same object, and two equal ids above 256 need not be.",
)
def merge_by_identity(source):
    """Ids are compared with `is`, which fails for large ones."""
    return change(source, "(ids[i], ids[i + 1]) == pair", "ids[i] is pair[0] and ids[i + 1] is pair[1]")


@misconception(
    task="merge", advice="Use a loop: Python allows about a thousand calls inside each other, and a text is longer."
)
def merge_recursive(source):
    """The function calls itself for the rest of the list, and fails where that is long."""
    return """
def merge(ids, pair, new_id):
    if len(ids) < 2:
        return list(ids)
    if (ids[0], ids[1]) == pair:
        return [new_id] + merge(ids[2:], pair, new_id)
    return [ids[0]] + merge(ids[1:], pair, new_id)
"""


@honest(task="merge")
def merge_with_stack(source):
    """What is done so far is a stack, and a flag says whether its top was made in this pass."""
    return """
def merge(ids, pair, new_id):
    left, right = pair
    out, fresh = [], False
    for x in ids:
        if out and not fresh and out[-1] == left and x == right:
            out[-1], fresh = new_id, True
        else:
            out, fresh = out + [x], False
    return out
"""


@honest(task="merge")
def merge_with_iterator(source):
    """A copy that shrinks."""
    return """
def merge(ids, pair, new_id):
    out = list(ids)
    i = 0
    while i < len(out) - 1:
        if out[i] == pair[0] and out[i + 1] == pair[1]:
            out[i : i + 2] = [new_id]
        i += 1
    return out
"""


@honest(task="merge")
def merge_with_flag(source):
    """A for loop that remembers to skip."""
    return """
def merge(ids, pair, new_id):
    out, skip = [], False
    for left, right in zip(ids, list(ids[1:]) + [None]):
        if skip:
            skip = False
        elif (left, right) == tuple(pair):
            out.append(new_id)
            skip = True
        else:
            out.append(left)
    return out
"""


# Training

# An incremental trainer in another style: the dictionary of counts is searched for the best pair.
SCAN = """
from collections import Counter, defaultdict

def train_bpe(text, vocab_size, special_tokens=()):
    special_tokens = list(special_tokens)
    if vocab_size < 256 + len(special_tokens):
        raise ValueError(f"vocab_size {vocab_size} is too small")
    pattern = "|".join(re.escape(s) for s in sorted(special_tokens, key=len, reverse=True))
    parts = re.split(pattern, text) if special_tokens else [text]
    pretokens = Counter(word for part in parts for word in GPT2_PATTERN.findall(part))
    words = [list(word.encode()) for word in pretokens]
    times = list(pretokens.values())
    counts, where = Counter(), defaultdict(set)
    for w, ids in enumerate(words):
        for pair in zip(ids, ids[1:]):
            counts[pair] += times[w]
            where[pair].add(w)
    vocab = {i: bytes([i]) for i in range(256)}
    merges = []
    while counts and len(vocab) + len(special_tokens) < vocab_size:
        best = max(counts, key=lambda pair: (counts[pair], vocab[pair[0]], vocab[pair[1]]))
        new_id = len(vocab)
        merges.append((vocab[best[0]], vocab[best[1]]))
        vocab[new_id] = vocab[best[0]] + vocab[best[1]]
        for w in sorted(where.pop(best)):
            before = words[w]
            words[w] = after = merge(before, best, new_id)
            for pair in zip(before, before[1:]):
                counts[pair] -= times[w]
                if counts[pair] == 0:
                    del counts[pair]
            for pair in zip(after, after[1:]):
                counts[pair] += times[w]
                where[pair].add(w)
    for special in special_tokens:
        vocab[len(vocab)] = special.encode()
    return vocab, merges
"""

BEST = "max(counts, key=lambda pair: (counts[pair], vocab[pair[0]], vocab[pair[1]]))"


def keeps_to_words(trained):
    """Whether this is a vocabulary and merges, none of which crosses a space."""
    if not isinstance(trained, tuple) or len(trained) != 2 or not isinstance(trained[1], list):
        return False
    pairs = [pair for pair in trained[1] if isinstance(pair, tuple) and len(pair) == 2]
    halves = [half for pair in pairs for half in pair if isinstance(half, bytes)]
    return len(halves) == 2 * len(trained[1]) and not any(b" " in (left + right)[1:] for left, right in pairs)


def counts_again(ask):
    """Whether one more merge costs as much as many words that it does not touch."""
    draw = random.Random(4)
    frequent = ["".join(draw.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=11)) for _ in range(13)]
    rare = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=40)) for _ in range(150)]
    text = " ".join(frequent * 20 + rare)
    if not keeps_to_words(ask.train_bpe(text, 316)):
        return None  # it fails, or merges across words: then its speed says nothing
    return _many_times(ask, lambda: [ask.train_bpe(text, 257) for _ in range(4)], lambda: ask.train_bpe(text, 316))


def _many_times(ask, quick, slow):
    """Whether `slow` keeps a processor more than three times as long; asked again where it comes near."""
    shortest = {quick: float("inf"), slow: float("inf")}
    for number in range(6):
        for work in shortest:
            start = ask.cpu_seconds
            work()
            shortest[work] = min(shortest[work], ask.cpu_seconds - start)
        if number > 0 and shortest[slow] < 2 * shortest[quick]:
            break
    return shortest[slow] > 3 * shortest[quick]


@battery("train_bpe")
def train_questions(ask):
    """Ties, runs, bytes, cuts, specials, sizes, and how the work grows."""
    cases = [
        ("ab ac ab ac", 258), ("sto cat", 259), ("ab b", 257), ("zy1zy2zyx3xy4xy", 260), ("ab1ab2abc3ad", 259), ("low lower lowest newest newest widest", 270),
        ("aaaa xy xy", 259), ("é你🙂 é你🙂 né", 266), ("a  b\n\n c  b don't DON'T x12y12 12 __z", 280), ("b'b'b 'c'c", 262),
        ("the cat. the cat. the dog", 270), ("", 300), ("abc", 300), ("a b", 257), ("ba ba ba", 256), ("ababa abab baba bab aba", 262),
    ]  # fmt: skip
    cases += [("a\r\nb\r\n\r\n", 262), ("x\n\n\ny\n\n", 262), ("e\u0301 e\u0301 \u00e9", 262), ("x½ x² 7½ x٣ ʰ½", 276)]
    answers = [ask.train_bpe(text, size) for text, size in cases]
    specials = ["<|e", "<|e|>", "<a>"]
    text = "hi<|e|>hi<|e|><|e the e e e<a><a><|e|><|e|><|e|>|>|> <|<|"
    answers += [
        ask.train_bpe(text, 275, specials),
        ask.train_bpe("x y<|e|><|e<a>x y x", 262, specials),
        ask.train_bpe("x x<a>x", 260, ["<b>", "<a>"]),
        ask.train_bpe("abc", 300, ["<b>"]),
    ]
    answers += [ask.train_bpe("ab", 256, ["<b>"]), ask.train_bpe("ab", 255), ask.train_bpe("ab", 258, ["<b>", "<a>"])]
    answers += [ask.observe("train_bpe", "ab", 260, ["<b>", "<ccc>"], inputs=True).inputs_after, counts_again(ask)]
    return answers


@misconception(
    task="train_bpe",
    advice="Among equally frequent pairs take the greatest: compare (count, bytes of the left half, bytes of the right half).",
)
def tie_first(source):
    """Among equally frequent pairs, the one met first is merged."""
    return change(SCAN, BEST, "max(counts, key=counts.get)")


@misconception(
    task="train_bpe",
    advice="Among equally frequent pairs take the greatest: compare (count, bytes of the left half, bytes of the right half).",
)
def tie_last(source):
    """Among equally frequent pairs, the one met last is merged."""
    return change(SCAN, BEST, "max(reversed(list(counts)), key=counts.get)")


@misconception(task="train_bpe", advice="A tie goes to the greatest pair of bytes, not to the smallest.")
def tie_smallest(source):
    """Among equally frequent pairs, the smallest is merged."""
    return change(SCAN, BEST, "min(counts, key=lambda pair: (-counts[pair], vocab[pair[0]], vocab[pair[1]]))")


@misconception(
    task="train_bpe",
    advice="Compare the bytes of the two halves, vocab[pair[0]] and vocab[pair[1]], not their ids: a later id may have smaller bytes.",
)
def tie_by_id(source):
    """Ties are decided by the ids, not by the bytes."""
    return change(SCAN, BEST, "max(counts, key=lambda pair: (counts[pair], pair))")


@misconception(
    task="train_bpe", advice="Compare a pair as (left, right): joined together, the place of the cut is forgotten."
)
def tie_joined(source):
    """Ties are decided by the joined bytes, not by the pair."""
    return change(SCAN, BEST, "max(counts, key=lambda pair: (counts[pair], vocab[pair[0]] + vocab[pair[1]]))")


@misconception(
    task="train_bpe",
    advice="Compare bytes. The letters that stand for them in GPT-2's files (Ġ for the space) have another order.",
)
def tie_by_letters(source):
    """Ties are decided by the letters that GPT-2's files write for bytes."""
    letters = (
        "shown = [b for b in range(256) if chr(b).isprintable() and b != 32]\n"
        "hidden = [b for b in range(256) if b not in shown]\n"
        "LETTER = {b: b for b in shown} | {b: 256 + n for n, b in enumerate(hidden)}\n"
    )
    key = "max(counts, key=lambda pair: (counts[pair], [LETTER[b] for b in vocab[pair[0]]], [LETTER[b] for b in vocab[pair[1]]]))"
    return letters + change(SCAN, BEST, key)


@misconception(task="train_bpe", advice="Count as pair_counts does: aaaa holds the pair (a, a) three times.")
def overlaps_counted_once(source):
    """In a run such as aaaa, overlapping pairs are counted once."""
    slow = "def singly(ids):\n    found, i = [], 0\n    while i + 1 < len(ids):\n        found.append((ids[i], ids[i + 1]))\n        i += 2 if ids[i : i + 3] == [ids[i]] * 3 else 1\n    return found\n"
    source = change(SCAN, "zip(ids, ids[1:])", "singly(ids)")
    source = change(source, "zip(before, before[1:])", "singly(before)")
    return slow + change(source, "zip(after, after[1:])", "singly(after)")


@misconception(
    task="train_bpe",
    advice="A merge changes the pairs beside it: take the old neighbours' pairs off the counts before you add the new ones.",
)
def neighbours_not_removed(source):
    """After a merge, the pairs that it broke up keep their counts."""
    return change(
        SCAN,
        "            for pair in zip(before, before[1:]):\n                counts[pair] -= times[w]\n                if counts[pair] == 0:\n                    del counts[pair]\n            for pair in zip(after, after[1:]):\n                counts[pair] += times[w]\n",
        "            for pair in zip(after, after[1:]):\n                if new_id in pair:\n                    counts[pair] += times[w]\n",
    ).replace("        new_id = len(vocab)\n", "        new_id = len(vocab)\n        del counts[best]\n")


@misconception(
    task="train_bpe",
    advice="A merge makes new pairs with its neighbours; they have to be counted before the next pair is chosen.",
)
def new_pairs_not_counted(source):
    """After a merge, the pairs that it made are never counted."""
    return change(
        SCAN,
        "                counts[pair] += times[w]\n                where[pair].add(w)\n",
        "                if new_id not in pair:\n                    counts[pair] += times[w]\n                where[pair].add(w)\n",
    )


@misconception(
    task="train_bpe", advice="Multiply by how often the pre-token occurs in the text when you count its pairs."
)
def each_word_once(source):
    """A pre-token counts once, however often it occurs."""
    return change(source, "times = list(pretokens.values())", "times = [1] * len(pretokens)")


@misconception(
    task="train_bpe", advice="Cut each part into pre-tokens with GPT2_PATTERN and count pairs inside them only."
)
def across_pretokens(source):
    """Merges cross from one pre-token to the next: the text is not cut by the pattern."""
    return change(source, "pretokens.update(GPT2_PATTERN.findall(part))", "pretokens.update([part] if part else [])")


@misconception(
    task="train_bpe",
    advice="Use GPT2_PATTERN: a word takes the one space before it along, and white space is not thrown away.",
)
def cut_at_spaces(source):
    """The text is cut at white space only, and the white space is lost."""
    return change(source, "GPT2_PATTERN.findall(part)", "part.split()")


@misconception(
    task="train_bpe", advice=r"The part \s+(?!\S) leaves the last space to the next word; use GPT2_PATTERN as it is."
)
def train_without_lookahead(source):
    r"""The pattern lacks \s+(?!\S), so a run of spaces takes the space of the next word along."""
    return change(
        source,
        "GPT2_PATTERN.findall(part)",
        r"""regex.findall(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+", part)""",
    )


@misconception(
    task="train_bpe", advice=r"\w holds digits and the underscore as well as letters: use GPT2_PATTERN as it is."
)
def train_word_pattern(source):
    r"""Letters and digits are taken together with \w."""
    return change(source, "GPT2_PATTERN.findall(part)", r"""re.findall(r" ?\w+| ?[^\s\w]+|\s+(?!\S)|\s+", part)""")


@misconception(
    task="train_bpe", advice=r"Python's re has no \p{L}: its \w takes ½ and ² for letters. Use GPT2_PATTERN as it is."
)
def train_re_pattern(source):
    r"""The pattern is written for Python's `re`, which takes other characters for letters and digits."""
    return change(
        source,
        "GPT2_PATTERN.findall(part)",
        r"""re.findall(r"'(?:[sdmt]|ll|ve|re)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+", part)""",
    )


@misconception(
    task="train_bpe", advice=r"Train on the text as it is: `\r\n` is two bytes like any other. Do not replace anything."
)
def line_ends_changed(source):
    r"""The line end `\r\n` is turned into `\n` before training."""
    return change(source, "GPT2_PATTERN.findall(part)", r'GPT2_PATTERN.findall(part.replace("\r\n", "\n"))')


@misconception(
    task="train_bpe", advice="Do not cut the text into lines: line ends are characters of the text, and count."
)
def line_by_line(source):
    """The text is cut into lines first, and the line ends are lost."""
    return change(
        source,
        "pretokens.update(GPT2_PATTERN.findall(part))",
        "pretokens.update(word for line in part.splitlines() for word in GPT2_PATTERN.findall(line))",
    )


@misconception(task="train_bpe", advice="Train on the text as it is: normalised, its bytes are others.")
def train_normalised(source):
    """Unicode text is normalised before training."""
    source = change(source, "GPT2_PATTERN.findall(part)", 'GPT2_PATTERN.findall(unicodedata.normalize("NFC", part))')
    return "import unicodedata\n\n" + source


@misconception(task="train_bpe", advice="Compare the bytes themselves: decoded, those that are no whole character all look alike.")
def tie_decoded(source):
    """Ties are decided by the text of the tokens, not by their bytes."""
    text = 'vocab[pair[{0}]].decode("utf-8", "replace")'
    return change(SCAN, BEST, f"max(counts, key=lambda pair: (counts[pair], {text.format(0)}, {text.format(1)}))")


@misconception(
    task="train_bpe",
    advice='Start from the bytes of the text, word.encode("utf-8"): a character may be several of them.',
)
def characters_not_bytes(source):
    """Training starts from characters instead of bytes."""
    source = change(
        SCAN,
        "words = [list(word.encode()) for word in pretokens]",
        "words = [[c.encode() for c in word] for word in pretokens]",
    )
    source = change(source, "vocab[pair[0]], vocab[pair[1]]", "pair[0], pair[1]")
    source = change(source, "merges.append((vocab[best[0]], vocab[best[1]]))", "merges.append(best)")
    source = change(source, "vocab[new_id] = vocab[best[0]] + vocab[best[1]]", "vocab[new_id] = best[0] + best[1]")
    return change(source, "merge(before, best, new_id)", "merge(before, best, best[0] + best[1])")


@misconception(
    task="train_bpe",
    advice="Cut the text at the special tokens before you count anything, and do not count the special tokens themselves.",
)
def specials_counted(source):
    """Special tokens take part in the counting, like any text."""
    return change(source, "    if special_tokens:\n", "    if False:\n")


@misconception(
    task="train_bpe",
    advice="Do not put the special tokens back into the text: with round brackets re.split keeps them.",
)
def specials_kept_apart(source):
    """Special tokens are cut out, but then counted as pieces of their own."""
    return change(
        source,
        're.split("|".join(re.escape(special) for special in longest_first), text)',
        're.split("(" + "|".join(re.escape(special) for special in longest_first) + ")", text)',
    )


@misconception(
    task="train_bpe", advice="The specials cut the text: what stands left and right of one must not become neighbours."
)
def specials_deleted(source):
    """Special tokens are deleted, so that the text left and right of them grows together."""
    return change(
        source,
        'parts = re.split("|".join(re.escape(special) for special in longest_first), text)',
        'parts = [re.sub("|".join(re.escape(special) for special in longest_first), "", text)]',
    )


@misconception(
    task="train_bpe",
    advice="In a regular expression the first alternative that fits wins: sort the special tokens by length, longest first.",
)
def train_specials_as_given(source):
    """Special tokens are tried in the order given, not longest first."""
    return change(source, "sorted(special_tokens, key=len, reverse=True)", "list(special_tokens)")


@misconception(
    task="train_bpe", advice="A bar or a dot in a special token means something to `re`: put re.escape around each."
)
def train_not_escaped(source):
    """Special tokens are read as regular expressions."""
    return change(source, '"|".join(re.escape(special) for special in longest_first)', '"|".join(longest_first)')


@misconception(task="train_bpe", advice="The special tokens get the ids after the last merge.")
def train_specials_first(source):
    """The special tokens get the ids before the merges."""
    source = change(
        source,
        '    # 6. The special tokens come last.\n    for special in special_tokens:\n        vocab[len(vocab)] = special.encode("utf-8")\n',
        "",
    )
    source = change(
        source,
        "    turned = [(255 - i, 256) for i in range(256)]\n",
        "    turned = [(255 - i, 256) for i in range(256)]\n    for special in special_tokens:\n        vocab[len(vocab)] = special.encode()\n        turned.append(())\n",
    )
    return change(source, "len(vocab) + len(special_tokens) < vocab_size", "len(vocab) < vocab_size")


@misconception(task="train_bpe", advice="Give the special tokens their ids in the order given.")
def train_specials_sorted(source):
    """The special tokens get their ids in sorted order, not as given."""
    return change(source, "for special in special_tokens:\n", "for special in sorted(special_tokens):\n")


@misconception(task="train_bpe", advice="Do not sort the list you were given; sorted() makes a new one.")
def train_specials_sorted_in_place(source):
    """The list of special tokens that was given is sorted."""
    source = change(source, "    special_tokens = list(special_tokens)\n", "")
    return change(
        source,
        "longest_first = sorted(special_tokens, key=len, reverse=True)",
        "original, longest_first = list(special_tokens), special_tokens\n        special_tokens.sort(key=len, reverse=True) if isinstance(special_tokens, list) else None",
    ).replace(
        "for special in special_tokens:\n        vocab",
        "for special in (original if special_tokens else ()):\n        vocab",
    )


@misconception(task="train_bpe", advice="The special tokens belong to the vocabulary: add them after the merges.")
def train_specials_missing(source):
    """The special tokens are not in the vocabulary."""
    return change(source, '        vocab[len(vocab)] = special.encode("utf-8")\n', "        pass\n")


@misconception(
    task="train_bpe",
    advice="vocab_size counts the 256 bytes and the special tokens too: there are vocab_size - 256 - len(special_tokens) merges.",
)
def room_for_specials_forgotten(source):
    """The special tokens are not counted in vocab_size, so there are too many merges."""
    return change(source, "len(vocab) + len(special_tokens) < vocab_size", "len(vocab) < vocab_size")


@misconception(
    task="train_bpe",
    advice="vocab_size counts the 256 bytes too: there are vocab_size - 256 - len(special_tokens) merges.",
)
def size_is_merges(source):
    """vocab_size is taken for the number of merges."""
    return change(source, "len(vocab) + len(special_tokens) < vocab_size", "len(merges) < vocab_size")


@misconception(
    task="train_bpe", advice="Training goes on until the vocabulary has vocab_size entries: check the end of your loop."
)
def one_merge_short(source):
    """Training stops one merge too early."""
    return change(
        source, "len(vocab) + len(special_tokens) < vocab_size", "len(vocab) + len(special_tokens) < vocab_size - 1"
    )


@misconception(task="train_bpe", advice="Stop when no pair is left: max() of nothing is an error.")
def crashes_at_the_end(source):
    """Training crashes when no pair is left to merge."""
    return change(source, "while heap and len(vocab)", "while len(vocab)")


@misconception(
    task="train_bpe",
    advice="A pair whose count has sunk to 0 is not there any more: take it out of the counts, and stop when none is left.",
)
def pairs_of_no_count(source):
    """Training goes on with pairs that no longer stand anywhere, until the vocabulary is full."""
    source = change(SCAN, "                if counts[pair] == 0:\n                    del counts[pair]\n", "")
    return change(source, "where.pop(best)", "where.pop(best, ())")


@misconception(task="train_bpe", advice="A pair that stands once is merged like any other, as long as there is room.")
def stops_at_singles(source):
    """Training stops when no pair occurs more than once."""
    return change(
        source,
        "        if counts[pair] != -minus_n:\n            continue\n",
        "        if counts[pair] != -minus_n:\n            continue\n        if counts[pair] < 2:\n            break\n",
    )


@misconception(task="train_bpe", advice="Leave the loop when no pair is left, however much room there is.")
def never_stops(source):
    """Where no pair is left to merge, training waits for one and never ends."""
    source = change(source, "while heap and len(vocab)", "while len(vocab)")
    return change(source, "        minus_n, _, _, pair", "        if not heap:\n            continue\n        minus_n, _, _, pair")


@misconception(
    task="train_bpe", advice="Check at the start: vocab_size below 256 + len(special_tokens) raises ValueError."
)
def small_size_accepted(source):
    """A vocab_size that is too small is accepted."""
    return change(source, "if vocab_size < smallest:", "if False:")


@misconception(
    task="train_bpe", advice="The special tokens need room too: the smallest size is 256 + len(special_tokens)."
)
def small_size_without_specials(source):
    """The check of vocab_size forgets the special tokens."""
    return change(source, "if vocab_size < smallest:", "if vocab_size < 256:")


@misconception(
    task="train_bpe", advice="A list of merges holds pairs of bytes, (vocab[a], vocab[b]), not pairs of ids."
)
def merges_as_ids(source):
    """merges holds ids instead of bytes."""
    return change(source, "merges.append((vocab[a], vocab[b]))", "merges.append((a, b))")


@misconception(
    task="train_bpe", advice="Keep the counts between merges, and update only the words that hold the merged pair."
)
def recounts(source):
    """All pairs of the text are counted again after each merge."""
    return """
from collections import Counter

def train_bpe(text, vocab_size, special_tokens=()):
    special_tokens = list(special_tokens)
    if vocab_size < 256 + len(special_tokens):
        raise ValueError(f"vocab_size {vocab_size} is too small")
    pattern = "|".join(re.escape(s) for s in sorted(special_tokens, key=len, reverse=True))
    parts = re.split(pattern, text) if special_tokens else [text]
    pretokens = Counter(word for part in parts for word in GPT2_PATTERN.findall(part))
    words = [(list(word.encode()), n) for word, n in pretokens.items()]
    vocab = {i: bytes([i]) for i in range(256)}
    merges = []
    while len(vocab) + len(special_tokens) < vocab_size:
        counts = {}
        for ids, n in words:
            for pair in zip(ids, ids[1:]):
                counts[pair] = counts.get(pair, 0) + n
        if not counts:
            break
        a, b = best = max(counts, key=lambda p: (counts[p], vocab[p[0]], vocab[p[1]]))
        new_id = len(vocab)
        merges.append((vocab[a], vocab[b]))
        vocab[new_id] = vocab[a] + vocab[b]
        words = [(merge(ids, best, new_id) if a in ids else ids, n) for ids, n in words]
    for special in special_tokens:
        vocab[len(vocab)] = special.encode()
    return vocab, merges
"""


@honest(task="train_bpe")
def by_scanning(source):
    """The best pair is found by max() over a dict of counts that is kept up to date."""
    return SCAN


@honest(task="train_bpe")
def visits_all_words(source):
    """Counts are kept up to date, but every merge looks through all the words for its pair."""
    source = change(
        SCAN,
        "        for w in sorted(where.pop(best)):\n            before = words[w]\n",
        "        for w, before in enumerate(words):\n            if best[0] not in before or best[1] not in before:\n                continue\n",
    )
    return change(source, "                where[pair].add(w)\n", "                pass\n")


@honest(task="train_bpe")
def bytes_all_the_way(source):
    """Words are tuples of bytes, and ids are only given at the end."""
    return """
from collections import Counter, defaultdict

def train_bpe(text, vocab_size, special_tokens=()):
    num_merges = vocab_size - 256 - len(special_tokens)
    if num_merges < 0:
        raise ValueError(f"vocab_size={vocab_size} must be at least {256 + len(special_tokens)}")
    if special_tokens:
        splitter = regex.compile("|".join(map(regex.escape, sorted(special_tokens, key=lambda s: -len(s)))))
        docs = splitter.split(text)
    else:
        docs = [text]
    freqs = Counter()
    for doc in docs:
        for m in GPT2_PATTERN.finditer(doc):
            freqs[tuple(bytes([b]) for b in m.group().encode("utf-8"))] += 1
    seqs = [[word, f] for word, f in freqs.items()]
    pairs, index = defaultdict(int), defaultdict(set)
    for i, (word, f) in enumerate(seqs):
        for p in zip(word, word[1:]):
            pairs[p] += f
            index[p].add(i)
    merges = []
    for _ in range(num_merges):
        pairs = {p: f for p, f in pairs.items() if f > 0} if len(merges) % 50 == 0 else pairs
        if not pairs:
            break
        best = max(pairs.items(), key=lambda item: (item[1], item[0]))
        if best[1] <= 0:
            break
        pair = best[0]
        merges.append(pair)
        for i in list(index[pair]):
            word, f = seqs[i]
            for p in zip(word, word[1:]):
                pairs[p] = pairs.get(p, 0) - f
            out, j = [], 0
            while j < len(word):
                if word[j : j + 2] == pair:
                    out.append(pair[0] + pair[1])
                    j += 2
                else:
                    out.append(word[j])
                    j += 1
            seqs[i][0] = word = tuple(out)
            for p in zip(word, word[1:]):
                pairs[p] = pairs.get(p, 0) + f
                index[p].add(i)
    tokens = [bytes([b]) for b in range(256)] + [a + b for a, b in merges] + [s.encode("utf-8") for s in special_tokens]
    return {i: t for i, t in enumerate(tokens)}, merges
"""


@honest(task="train_bpe")
def words_by_name(source):
    """Words are looked up by their text, every one in each merge, and counts are thinned out by Counter's plus."""
    return """
from collections import Counter

def train_bpe(text, vocab_size, special_tokens=()):
    room = vocab_size - 256 - len(special_tokens)
    if room < 0:
        raise ValueError("vocab_size = %d is not enough" % vocab_size)
    freq = Counter()
    rest = [text]
    for token in sorted(special_tokens, key=lambda t: (-len(t), t)):
        rest = [piece for part in rest for piece in part.split(token)]
    for chunk in rest:
        freq.update(m[0] for m in GPT2_PATTERN.finditer(chunk))
    words = {w: [bytes([b]) for b in w.encode()] for w in freq}
    whole = {w: w.encode() for w in freq}
    counts = Counter()
    for w, parts in words.items():
        for p in zip(parts, parts[1:]):
            counts[p] += freq[w]
    merges = []
    while len(merges) < room and (counts := +counts):
        top = max(counts.values())
        a, b = pair = max(p for p, n in counts.items() if n == top)
        merges.append(pair)
        for w, parts in words.items():
            if a + b not in whole[w] or a not in parts or b not in parts:
                continue
            new = []
            for x in parts:
                if new and x == b and new[-1] == a:
                    new[-1] = [a + b]
                else:
                    new.append(x)
            words[w] = new = [x[0] if isinstance(x, list) else x for x in new]
            for p in zip(parts, parts[1:]):
                counts[p] -= freq[w]
            for p in zip(new, new[1:]):
                counts[p] += freq[w]
    vocab = [bytes([i]) for i in range(256)] + [a + b for a, b in merges] + [t.encode() for t in special_tokens]
    return dict(enumerate(vocab)), merges
"""


# Encoding and decoding


@battery("bpe_tokenizer")
def bpe_questions(ask):
    """Order of merges, ids that tell nothing, text of every kind, specials, streams, broken bytes, bad ids."""
    pairs = [
        ("b", "c"),
        ("a", "b"),
        ("bc", "d"),
        ("a", "a"),
        ("aa", "aa"),
        ("n", "a"),
        ("na", "n"),
        (" ", "a"),
        (".", "a"),
        (" a", "b"),
    ]
    merges = [(a.encode(), b.encode()) for a, b in pairs] + [
        (b"\xc3", b"\xa9"),
        (b"\xf0", b"\x9f"),
        (b" ", b" "),
        (b"1", b"a"),
        (b"'", b"s"),
        (b"'", b"S"),
        (b"c", b"a"),
        (b"x", b"\xc2"),
        (b"\xcc", b"\x81"),
    ]
    tokens = [bytes([i]) for i in range(256)] + [a + b for a, b in merges]
    draw = random.Random(5)
    numbers = list(range(10, 10 + len(tokens)))
    draw.shuffle(numbers)
    odd, plain = dict(zip(numbers, tokens)), dict(enumerate(tokens))
    large = {**plain, 70_000: b"<z>", 70_001: b"zz"}
    texts = [
        # One that hangs where the pair stands at the end answers these four; others that hang do not.
        "bca",
        "b",
        " ",
        "",
        "abcd",
        "aabc",
        "aaaaa aaaa",
        "banana nanab",
        "a.a ab 1a a1a",
        "é🙂 e\u0301 \ufb01 Å ½",
        "a   ab  a\n\n\n b",
        "it's IT'S",
        "_a_b x1a",
        "x½ 1½",
        "\r\n\r\n a",
        "a\ud800b",
    ]
    answers = []
    for vocab in (odd, plain):
        tokenizer = ask.new("BPETokenizer", vocab, merges)
        answers += [tokenizer.encode(text) for text in texts]
    specials = ["<z>", "<|e|><|e|>", "<|e|>", "<y", "<y>"]
    special = ask.new("BPETokenizer", large, merges, specials)
    answers += [special.encode(text) for text in ("<Z> <|E|> <Y>", "ab  <z>  ab", "ab<z>ab <|e|>", "<|e|><|e|><|e|>", "<z", "<y> <z>", "|e|")]
    ids = special.encode("<y>é<|e|>")
    answers += [
        special.decode(ids),
        special.decode([195]),
        special.decode([97, 169, 98]),
        special.decode([239, 187, 191, 97]),
        special.decode.observe([97, 98], inputs=True).inputs_after,
        special.decode([240, 159, 153, 130]),
        special.decode([195, 169, 70_000, 70_003]),
    ]
    answers += [
        special.decode([5000, 97]),
        special.decode([-1]),
        special.decode([]),
        ask.new("BPETokenizer", {**odd, 99_000: b"?"}, merges, ["<z>"]).encode("<z>a"),
    ]
    pieces = ask.lazy(["ab", "", "c<", "z>\u00e9", "ab"])
    stream = special.keep("encode_iterable", pieces)
    answers += [
        ask.next(stream),
        ask.pulled(pieces),
        *[ask.next(stream) for _ in range(3)],
        ask.pulled(pieces),
        *[ask.next(stream) for _ in range(5)],
    ]
    answers += [ask.observe("BPETokenizer", dict(plain), list(merges), list(specials), inputs=True).inputs_after]
    answers.append(isinstance(special.encode_iterable(["ab", "c"]), list))
    answers.append(ask.new("BPETokenizer", large, merges).encode("ab<z>zz"))
    answers.append(ask.new("BPETokenizer", {**plain, 400: b"abc"}, [(b"a", b"b"), (b"b", b"c"), (b"a", b"bc")]).encode("abc"))
    return [*answers, work_grows(ask)]


# Merges for words of five letters, and three thousand more that no such word needs.
NEEDED = [(bytes([one]), bytes([other])) for one in b"abcde" for other in b"abcde"]
OTHERS = [(bytes([one]), bytes([other])) for one in (*range(32, 64), *range(128, 192)) for other in range(65, 97)]


def work_grows(ask):
    """With what an encoder's work grows, if with more than it should."""
    few, many = (
        ask.new("BPETokenizer", dict(enumerate([bytes([i]) for i in range(256)] + [a + b for a, b in merges])), merges)
        for merges in (NEEDED, OTHERS + NEEDED)
    )
    if few.encode("ab") != [257] or many.encode("ab") != [256 + len(OTHERS) + 1]:
        return None  # it fails, or does not merge: then its speed says nothing
    draw = random.Random(6)

    def words(count):
        return " ".join("".join(draw.choices("abcde", k=6)) for _ in range(count))

    if _many_times(ask, lambda: [few.encode(words(4)) for _ in range(30)], lambda: few.encode(words(200))):
        return "the square of the text"
    return "the merges" if _many_times(ask, lambda: few.encode(words(60)), lambda: many.encode(words(60))) else None


@misconception(
    task="bpe_tokenizer",
    advice="Look the id of each byte up in vocab: in GPT-2's vocabulary the byte 97 has the id 64.",
)
def bytes_are_ids(source):
    """The value of a byte is taken for its id."""
    return change(
        source,
        "return [self.ids[part] for part in parts]",
        "return [part[0] if len(part) == 1 else self.ids[part] for part in parts]",
    )


@misconception(
    task="bpe_tokenizer",
    advice="The place in the list of merges decides which pair goes first; ids may have any order.",
)
def order_of_ids(source):
    """The pair whose merged token has the smallest id goes first, not the one learned first."""
    return change(
        source,
        "key=lambda pair: self.places.get(pair, math.inf))",
        "key=lambda pair: self.ids[pair[0] + pair[1]] if pair in self.places else math.inf)",
    )


@misconception(
    task="bpe_tokenizer",
    advice="Look at all pairs and merge the one that was learned earliest; the leftmost may come much later in the list.",
)
def leftmost_first(source):
    """The leftmost pair that can be merged is merged first."""
    return change(
        source, "key=lambda pair: self.places.get(pair, math.inf))", "key=lambda pair: 0 if pair in self.places else 1)"
    )


@misconception(task="bpe_tokenizer", advice="The smallest place in the list of merges goes first: min, not max.")
def latest_first(source):
    """The pair that was learned last is merged first."""
    return change(
        source,
        "key=lambda pair: self.places.get(pair, math.inf))",
        "key=lambda pair: -self.places.get(pair, -math.inf))",
    )


@misconception(
    task="bpe_tokenizer",
    advice="BPE does not look for the longest token that fits. Start from single bytes and merge in the order of training.",
)
def longest_match(source):
    """The longest token that fits is taken from the left."""
    start = source.index("        parts = [pretoken[i : i + 1]")
    end = source.index("        return [self.ids[part] for part in parts]")
    greedy = (
        "        parts = []\n"
        "        while pretoken:\n"
        "            size = next(n for n in range(len(pretoken), 0, -1) if pretoken[:n] in self.ids)\n"
        "            parts.append(pretoken[:size])\n"
        "            pretoken = pretoken[size:]\n"
    )
    return source[:start] + greedy + source[end:]


@misconception(
    task="bpe_tokenizer", advice="Replace every occurrence of the pair, and go on until no pair of the list is left."
)
def each_merge_once(source):
    """Each merge is applied to its first occurrence only, once."""
    start = source.index("        while len(parts) > 1:")
    end = source.index("        return [self.ids[part] for part in parts]")
    once = (
        "        for pair in self.places:\n"
        "            here = [i for i in range(len(parts) - 1) if (parts[i], parts[i + 1]) == pair]\n"
        "            if here:\n"
        "                parts[here[0] : here[0] + 2] = [pair[0] + pair[1]]\n"
    )
    return source[:start] + once + source[end:]


@misconception(task="bpe_tokenizer", advice="After one merge look again: the new token may be half of another pair.")
def one_merge_only(source):
    """Only one pair is merged in a pre-token; what could be merged after that is left."""
    return change(
        source, "pair[0] + pair[1])  # merge does not", "pair[0] + pair[1])\n            break  # merge does not"
    )


@misconception(
    task="bpe_tokenizer",
    advice="The last pair begins at len(parts) - 2: look there too. A pair that is found but never merged is found for ever.",
)
def last_pair_never_merged(source):
    """A pair at the end of a pre-token is found again and again but never merged, so the loop never ends."""
    return change(
        source,
        "            parts = merge(parts, pair, pair[0] + pair[1])  # merge does not mind bytes in place of ids\n",
        "            joined, i = [], 0\n"
        "            while i < len(parts):\n"
        "                if i + 2 < len(parts) and (parts[i], parts[i + 1]) == pair:\n"
        "                    joined.append(pair[0] + pair[1])\n"
        "                    i += 2\n"
        "                else:\n"
        "                    joined.append(parts[i])\n"
        "                    i += 1\n"
        "            parts = joined\n",
    )


@misconception(
    task="bpe_tokenizer",
    advice="Stop when one part is left: there is no pair then, and min() of nothing is an error.",
)
def single_byte_crashes(source):
    """A pre-token of which one part is left (a single byte, or all merged) raises an error."""
    return change(source, "while len(parts) > 1:", "while True:")


@misconception(task="bpe_tokenizer", advice="An empty text has no ids: return an empty list.")
def empty_text_refused(source):
    """An empty text raises an error."""
    return change(source, "        ids: list[int] = []\n", "        ids: list[int] = []\n        text[0]\n")


@misconception(
    task="bpe_tokenizer", advice="Cut the text into pre-tokens with GPT2_PATTERN first; merges stay inside them."
)
def no_pretokens(source):
    """The text is not cut into pre-tokens, so merges cross from word to word."""
    return change(source, "GPT2_PATTERN.findall(part)", "[part] * bool(part)")


@misconception(
    task="bpe_tokenizer",
    advice="Use GPT2_PATTERN: a word takes the one space before it along, and white space is not thrown away.",
)
def encode_cut_at_spaces(source):
    """The text is cut at white space only, and the white space is lost."""
    return change(source, "GPT2_PATTERN.findall(part)", "part.split()")


@misconception(
    task="bpe_tokenizer",
    advice=r"The part \s+(?!\S) leaves the last space to the next word; use GPT2_PATTERN as it is.",
)
def without_lookahead(source):
    r"""The pattern lacks \s+(?!\S), so a run of spaces takes the space of the next word along."""
    return change(
        source,
        "GPT2_PATTERN.findall(part)",
        r"""regex.findall(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+", part)""",
    )


@misconception(
    task="bpe_tokenizer", advice=r"\w holds digits and the underscore as well as letters: use GPT2_PATTERN as it is."
)
def word_pattern(source):
    r"""Letters and digits are taken together with \w."""
    return change(
        source,
        "GPT2_PATTERN.findall(part)",
        r"""re.findall(r"'(?:[sdmt]|ll|ve|re)| ?\w+| ?[^\s\w]+|\s+(?!\S)|\s+", part)""",
    )


@misconception(
    task="bpe_tokenizer", advice="GPT-2's pattern knows contractions in small letters only: 'S in capitals is not one."
)
def contractions_any_case(source):
    """Contractions are cut off in capitals, too."""
    return change(
        source,
        "GPT2_PATTERN.findall(part)",
        r"""regex.findall(r"(?i:'(?:[sdmt]|ll|ve|re))| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", part)""",
    )


@misconception(
    task="bpe_tokenizer", advice=r"Python's re has no \p{L}: its \w takes ½ and ² for letters. Use GPT2_PATTERN as it is."
)
def re_pattern(source):
    r"""The pattern is written for Python's `re`, which takes other characters for letters and digits."""
    return change(
        source,
        "GPT2_PATTERN.findall(part)",
        r"""re.findall(r"'(?:[sdmt]|ll|ve|re)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+", part)""",
    )


@misconception(
    task="bpe_tokenizer",
    advice="Look up the pair itself: only pairs in the list are merges, whatever their bytes make when joined.",
)
def rank_of_joined(source):
    """Any two parts are merged whose bytes together are a token, also a pair that is not in the list of merges."""
    source = change(
        source,
        "self.places = {pair: place for place, pair in enumerate(merges)}",
        "self.places = {a + b: place for place, (a, b) in enumerate(merges)}",
    )
    source = change(source, "self.places.get(pair, math.inf)", "self.places.get(pair[0] + pair[1], math.inf)")
    return change(source, "if pair not in self.places", "if pair[0] + pair[1] not in self.places")


@misconception(
    task="bpe_tokenizer",
    advice="Look up in a dict the pairs that stand in the pre-token; it has a few, and the list of merges has 50,000.",
)
def walks_the_merges(source):
    """For each pre-token the whole list of merges is walked through."""
    start = source.index("        while len(parts) > 1:")
    end = source.index("        return [self.ids[part] for part in parts]")
    walk = (
        "        for pair in self.places:\n"
        "            if pair[0] in parts and pair[1] in parts:\n"
        "                parts = merge(parts, pair, pair[0] + pair[1])\n"
    )
    return source[:start] + walk + source[end:]


@misconception(
    task="bpe_tokenizer",
    advice="Merge one pre-token at a time: then no step has to look at the whole text again.",
)
def whole_text_at_once(source):
    """The parts of all pre-tokens stand in one list, which is looked through for each merge."""
    source = change(
        source,
        "                if pretoken not in self.known:\n"
        '                    self.known[pretoken] = self._merge_all(pretoken.encode("utf-8"))\n'
        "                ids.extend(self.known[pretoken])\n",
        '                all_parts += [bytes([byte]) for byte in pretoken.encode("utf-8")] + [None]\n'
        "            ids.extend(self._merge_all(all_parts))\n",
    )
    source = change(source, "            for pretoken in GPT2", "            all_parts = []\n            for pretoken in GPT2")
    start = source.index("        parts = [pretoken[i : i + 1]")
    end = source.index("    ### END SOLUTION", start)
    return (
        source[:start]
        + """        parts = pretoken
        while True:
            places = [i for i, pair in enumerate(zip(parts, parts[1:])) if pair in self.places]
            if not places:
                return [self.ids[part] for part in parts if part is not None]
            best = min(places, key=lambda i: self.places[parts[i], parts[i + 1]])
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
"""
        + source[end:]
    )


@misconception(task="bpe_tokenizer", advice="Encode the text as it is: normalised, it does not come back the same.")
def normalised(source):
    """Unicode text is normalised before it is encoded."""
    return change(
        source,
        "        ids: list[int] = []\n",
        '        import unicodedata\n        text = unicodedata.normalize("NFKC", text)\n        ids: list[int] = []\n',
    )


@misconception(
    task="bpe_tokenizer", advice="Look for special tokens before anything else: each is one id and is never cut."
)
def specials_as_text(source):
    """Special tokens in the text are encoded like any other text."""
    return change(source, "if self.special_tokens else [text]", "if False else [text]")


@misconception(task="bpe_tokenizer", advice="A special token in the text is its id, not an error.")
def specials_refused(source):
    """A special token in the text raises an error."""
    return change(
        source,
        "            if part in self.special_tokens:\n",
        '            if part in self.special_tokens:\n                raise ValueError(f"{part} is a special token")\n',
    )


@misconception(
    task="bpe_tokenizer",
    advice="In a regular expression the first alternative that fits wins: sort the special tokens by length, longest first.",
)
def shortest_special(source):
    """Where two special tokens fit, the shorter is taken."""
    return change(source, "sorted(self.special_tokens, key=len, reverse=True)", "sorted(self.special_tokens, key=len)")


@misconception(
    task="bpe_tokenizer",
    advice="In a regular expression the first alternative that fits wins: sort the special tokens by length, longest first.",
)
def specials_as_given(source):
    """Where two special tokens fit, the one given first is taken."""
    return change(source, "sorted(self.special_tokens, key=len, reverse=True)", "list(special_tokens)")


@misconception(
    task="bpe_tokenizer", advice="A bar or a dot in a special token means something to `re`: put re.escape around each."
)
def not_escaped(source):
    """Special tokens are read as regular expressions."""
    return change(source, "re.escape(special) for special in longest_first", "special for special in longest_first")


@misconception(
    task="bpe_tokenizer", advice="A special token is that text exactly: capital letters make it another text."
)
def special_in_any_case(source):
    """Special tokens are found in capital and small letters alike."""
    source = change(source, "re.split(self.special_pattern, text)", "re.split(self.special_pattern, text, flags=re.IGNORECASE)")
    source = change(
        source,
        "            if part in self.special_tokens:\n",
        "            lowered = {special.lower(): special for special in self.special_tokens}\n"
        "            if part.lower() in lowered:\n",
    )
    return change(source, 'self.ids[part.encode("utf-8")]', 'self.ids[lowered[part.lower()].encode("utf-8")]')


@misconception(
    task="bpe_tokenizer", advice="White space beside a special token is text like any other: do not strip the parts."
)
def special_takes_space(source):
    """The white space around a special token is lost."""
    return change(
        source,
        "GPT2_PATTERN.findall(part)",
        'GPT2_PATTERN.findall(part.strip(" ") if len(parts) > 1 else part)',
    )


@misconception(
    task="bpe_tokenizer",
    advice="A special token counts wherever it stands, also in the middle of a word: do not ask for spaces around it.",
)
def special_between_spaces(source):
    """A special token is found only where white space stands around it."""
    source = change(source, 'self.special_pattern = "("', r'self.special_pattern = r"(?<!\S)("')
    return change(source, 'for special in longest_first) + ")"', r'for special in longest_first) + r")(?!\S)"')


@misconception(
    task="bpe_tokenizer", advice="Only the tokens in special_tokens are special; a token of vocab that looks like one is not."
)
def specials_guessed(source):
    """Tokens of the vocabulary that look like special ones are taken for such, though not given as special."""
    return change(
        source,
        "self.special_tokens = set(special_tokens)",
        'self.special_tokens = {*special_tokens, *(t.decode() for t in vocab.values() if t[:1] == b"<" and t[-1:] == b">" and len(t) > 1)}',
    )


@misconception(task="bpe_tokenizer", advice="Ids may have gaps: the first free one is max(vocab) + 1, not len(vocab).")
def next_id_by_length(source):
    """A new special token gets the id len(vocab), which may be taken or too small."""
    return change(source, "max(self.vocab) + 1", "len(self.vocab)")


@misconception(task="bpe_tokenizer", advice="A special token that is in vocab already keeps its id.")
def known_special_again(source):
    """A special token that is in the vocabulary gets a new id all the same."""
    return change(
        source,
        "            if token not in self.ids:\n                self.ids[token] = max(self.vocab) + 1\n                self.vocab[self.ids[token]] = token\n",
        "            self.ids[token] = max(self.vocab) + 1\n            self.vocab[self.ids[token]] = token\n",
    )


@misconception(
    task="bpe_tokenizer",
    advice="Give the special tokens that are missing from vocab the next free ids, in the order given.",
)
def specials_not_added(source):
    """Special tokens that are missing from the vocabulary get no id."""
    return change(
        source,
        "                self.ids[token] = max(self.vocab) + 1\n                self.vocab[self.ids[token]] = token\n",
        "                pass\n",
    )


@misconception(
    task="bpe_tokenizer", advice="New ids follow the order of special_tokens as given, not their sorted order."
)
def specials_sorted(source):
    """New special tokens get their ids in sorted order."""
    return change(source, "for special in special_tokens:\n", "for special in sorted(special_tokens):\n")


@misconception(task="bpe_tokenizer", advice="Work on a copy, dict(vocab): the caller's dictionary must stay as it was.")
def vocab_changed(source):
    """The special tokens are written into the caller's vocabulary."""
    return change(source, "self.vocab = dict(vocab)", "self.vocab = vocab")


@misconception(
    task="bpe_tokenizer",
    advice="Encode each chunk by itself and hand out its ids before you ask for the next; do not join the chunks.",
)
def chunks_joined(source):
    """encode_iterable joins all chunks before it encodes them."""
    return change(
        source,
        "        for chunk in chunks:\n            yield from self.encode(chunk)\n",
        '        yield from self.encode("".join(chunks))\n',
    )


@misconception(
    task="bpe_tokenizer",
    advice="Encode each chunk by itself: here pre-tokens are cut where the chunks are, so nothing is kept back.",
)
def last_pretoken_held_back(source):
    """encode_iterable keeps the last pre-token of a chunk back and joins it to the next chunk."""
    return change(
        source,
        "        for chunk in chunks:\n            yield from self.encode(chunk)\n",
        '        rest = ""\n'
        "        for chunk in chunks:\n"
        '            *whole, rest = GPT2_PATTERN.findall(rest + chunk) or [""]\n'
        '            yield from self.encode("".join(whole))\n'
        "        yield from self.encode(rest)\n",
    )


@misconception(
    task="bpe_tokenizer",
    advice="Do not collect the chunks first: loop over the iterable itself and yield the ids of one chunk before you ask for the next.",
)
def chunks_collected(source):
    """encode_iterable reads all chunks before it gives the first id."""
    return change(source, "for chunk in chunks:\n", "for chunk in list(chunks):\n")


@misconception(task="bpe_tokenizer", advice="Use yield: encode_iterable gives an iterator, one id at a time.")
def stream_is_a_list(source):
    """encode_iterable returns a list instead of an iterator."""
    return change(
        source,
        "        for chunk in chunks:\n            yield from self.encode(chunk)\n",
        "        return [i for chunk in chunks for i in self.encode(chunk)]\n",
    )


@misconception(task="bpe_tokenizer", advice="Use `yield from`: encode gives a list of ids, and the stream gives ids.")
def stream_of_lists(source):
    """encode_iterable gives a list for each chunk instead of single ids."""
    return change(source, "yield from self.encode(chunk)", "yield self.encode(chunk)")


@misconception(task="bpe_tokenizer", advice='Pass errors="replace" to bytes.decode: a model may produce any ids.')
def strict_decode(source):
    """decode raises an error on bytes that are no valid UTF-8."""
    return change(source, 'errors="replace"', 'errors="strict"')


@misconception(
    task="bpe_tokenizer", advice='Pass errors="replace", not "ignore": invalid bytes become U+FFFD and do not vanish.'
)
def ignores_bad_bytes(source):
    """decode drops bytes that are no valid UTF-8."""
    return change(source, 'errors="replace"', 'errors="ignore"')


@misconception(
    task="bpe_tokenizer",
    advice="Join the bytes of all ids first and decode once: a character may be spread over several tokens.",
)
def decodes_one_by_one(source):
    """decode turns each id into text by itself, which breaks characters of several tokens."""
    return change(
        source,
        'b"".join(self.vocab[i] for i in ids).decode("utf-8", errors="replace")',
        '"".join(self.vocab[i].decode("utf-8", errors="replace") for i in ids)',
    )


@misconception(task="bpe_tokenizer", advice="A special token has a text like every token: decode must give it back.")
def specials_skipped(source):
    """decode leaves special tokens out."""
    return change(
        source,
        'b"".join(self.vocab[i] for i in ids)',
        'b"".join(self.vocab[i] for i in ids if self.vocab[i].decode("utf-8", "replace") not in self.special_tokens)',
    )


@misconception(
    task="bpe_tokenizer", advice="Check each id against the vocabulary and raise ValueError with the id in the message."
)
def unknown_id_key_error(source):
    """An unknown id raises KeyError instead of ValueError."""
    return change(source, 'raise ValueError(f"the id', 'raise KeyError(f"the id')


@misconception(task="bpe_tokenizer", advice="An unknown id is an error: raise ValueError with the id in the message.")
def unknown_id_replaced(source):
    """An unknown id becomes a replacement character without a word."""
    source = change(
        source, '                raise ValueError(f"the id {i} is not in the vocabulary")\n', "                pass\n"
    )
    return change(source, 'b"".join(self.vocab[i] for i in ids)', 'b"".join(self.vocab.get(i, b"\\xff") for i in ids)')


@misconception(task="bpe_tokenizer", advice="An unknown id is an error: raise ValueError with the id in the message.")
def unknown_id_dropped(source):
    """An unknown id is left out without a word."""
    source = change(
        source, '                raise ValueError(f"the id {i} is not in the vocabulary")\n', "                pass\n"
    )
    return change(source, 'b"".join(self.vocab[i] for i in ids)', 'b"".join(self.vocab.get(i, b"") for i in ids)')


@misconception(
    task="bpe_tokenizer", advice='Decode with "utf-8": "utf-8-sig" takes a byte order mark at the start away.'
)
def mark_at_start_lost(source):
    """A byte order mark at the start of the text is lost in decoding."""
    return change(source, '.decode("utf-8", errors="replace")', '.decode("utf-8-sig", errors="replace")')


@misconception(task="bpe_tokenizer", advice="Loop over the ids; pop() takes them out of a list that is the caller's.")
def bpe_ids_used_up(source):
    """decode empties the list of ids that it was given."""
    return change(source, "self.vocab[i] for i in ids)", "self.vocab[ids.pop(0)] for _ in range(len(ids)))")


@misconception(
    task="bpe_tokenizer", advice='Leave str.encode("utf-8") as it is: with "surrogatepass" the bytes are no valid UTF-8.'
)
def surrogates_passed(source):
    """A lone surrogate is encoded as if it were a character."""
    return change(source, 'pretoken.encode("utf-8")', 'pretoken.encode("utf-8", errors="surrogatepass")')


@misconception(
    task="bpe_tokenizer",
    advice='Leave str.encode("utf-8") alone: it raises UnicodeEncodeError, a ValueError, for half a surrogate pair.',
)
def surrogates_replaced(source):
    """A lone surrogate is replaced instead of refused."""
    return change(
        source,
        'self._merge_all(pretoken.encode("utf-8"))',
        'self._merge_all(pretoken.encode("utf-8", errors="replace"))',
    )


@misconception(task="bpe_tokenizer", advice="Ids may be larger than 65,535: do not keep them in 16 bits.")
def sixteen_bits(source):
    """Ids are kept in 16 bits, so large ones come out wrong."""
    return change(source, "        return ids\n", "        return [i % 65536 for i in ids]\n")


TIKTOKEN_STYLE = """
class BPETokenizer:
    def __init__(self, vocab, merges, special_tokens=()):
        self.id_to_bytes = {**vocab}
        known = set(vocab.values())
        next_id = max(vocab) + 1
        for token in special_tokens:
            if token.encode() not in known:
                self.id_to_bytes[next_id] = token.encode()
                next_id += 1
        self.bytes_to_id = {b: i for i, b in self.id_to_bytes.items()}
        self.rank = dict(zip(merges, range(len(merges))))
        self.specials = sorted(special_tokens, key=lambda s: (-len(s), s))

    def encode(self, text):
        out, start, i = [], 0, 0
        while i < len(text):
            for special in self.specials:
                if text.startswith(special, i):
                    out += self._plain(text[start:i]) + [self.bytes_to_id[special.encode()]]
                    i += len(special)
                    start = i
                    break
            else:
                i += 1
        return out + self._plain(text[start:])

    def _plain(self, text):
        out = []
        for match in GPT2_PATTERN.finditer(text):
            parts = [bytes([b]) for b in match.group().encode("utf-8")]
            while True:
                best, where = None, None
                for i in range(len(parts) - 1):
                    rank = self.rank.get((parts[i], parts[i + 1]))
                    if rank is not None and (best is None or rank < best):
                        best, where = rank, i
                if where is None:
                    break
                parts[where : where + 2] = [parts[where] + parts[where + 1]]
            out.extend(self.bytes_to_id[p] for p in parts)
        return out

    def encode_iterable(self, iterable):
        return (i for chunk in iterable for i in self.encode(chunk))

    def decode(self, ids):
        try:
            data = b"".join([self.id_to_bytes[i] for i in ids])
        except KeyError as error:
            raise ValueError(f"unknown id {error.args[0]}") from None
        return data.decode("utf-8", "replace")
"""


@honest(task="bpe_tokenizer")
def one_place_at_a_time(source):
    """One occurrence at a time is merged, without a memory of words, and the specials are found by hand."""
    return TIKTOKEN_STYLE


@honest(task="bpe_tokenizer")
def every_merge_in_turn(source):
    """For each word, all merges that could matter are tried in the order of training."""
    return change(
        TIKTOKEN_STYLE,
        """            while True:
                best, where = None, None
                for i in range(len(parts) - 1):
                    rank = self.rank.get((parts[i], parts[i + 1]))
                    if rank is not None and (best is None or rank < best):
                        best, where = rank, i
                if where is None:
                    break
                parts[where : where + 2] = [parts[where] + parts[where + 1]]
""",
        """            while True:
                ranked = sorted((self.rank[p], p) for p in set(zip(parts, parts[1:])) if p in self.rank)
                if not ranked:
                    break
                parts = merge(parts, ranked[0][1], b"".join(ranked[0][1]))
""",
    )


@honest(task="bpe_tokenizer")
def with_a_heap(source):
    """A linked list of parts, and a heap of the pairs that wait."""
    return change(
        TIKTOKEN_STYLE,
        """            while True:
                best, where = None, None
                for i in range(len(parts) - 1):
                    rank = self.rank.get((parts[i], parts[i + 1]))
                    if rank is not None and (best is None or rank < best):
                        best, where = rank, i
                if where is None:
                    break
                parts[where : where + 2] = [parts[where] + parts[where + 1]]
            out.extend(self.bytes_to_id[p] for p in parts)
""",
        """            import heapq
            after = list(range(1, len(parts))) + [None]
            before = [None] + list(range(len(parts) - 1))
            heap = []
            def push(i):
                if i is not None and after[i] is not None:
                    pair = (parts[i], parts[after[i]])
                    if pair in self.rank:
                        heapq.heappush(heap, (self.rank[pair], i, pair))
            for i in range(len(parts)):
                push(i)
            while heap:
                _, i, pair = heapq.heappop(heap)
                j = after[i] if parts[i] is not None else None
                if j is None or (parts[i], parts[j]) != pair:
                    continue
                parts[i], parts[j] = parts[i] + parts[j], None
                after[i] = after[j]
                if after[j] is not None:
                    before[after[j]] = i
                push(before[i])
                push(i)
            out.extend(self.bytes_to_id[p] for p in parts if p is not None)
""",
    )


@honest(task="bpe_tokenizer")
def iterator_class(source):
    """encode_iterable with an iterator that keeps the ids of one chunk, and functools for the memory."""
    stream = """
    def encode_iterable(self, chunks):
        return Stream(self, chunks)
"""
    start = source.index("    def encode_iterable")
    end = source.index("    def decode")
    helper = """
class Stream:
    def __init__(self, tokenizer, chunks):
        self.tokenizer, self.chunks, self.waiting = tokenizer, iter(chunks), []

    def __iter__(self):
        return self

    def __next__(self):
        while not self.waiting:
            self.waiting = self.tokenizer.encode(next(self.chunks))[::-1]
        return self.waiting.pop()

"""
    return helper + source[:start] + stream + "\n" + source[end:]


@honest(task="bpe_tokenizer")
def text_cut_off_bit_by_bit(source):
    """The text is shortened by each pre-token, and the list of ids built by adding lists."""
    return change(
        change(
            TIKTOKEN_STYLE,
            """        for match in GPT2_PATTERN.finditer(text):
            parts = [""",
            """        while text:
            match = GPT2_PATTERN.match(text)
            text = text[match.end() :]
            parts = [""",
        ),
        "out.extend(self.bytes_to_id[p] for p in parts)",
        "out = out + [self.bytes_to_id[p] for p in parts]",
    )


@honest(task="bpe_tokenizer")
def specials_by_recursion(source):
    """Cut at the first special and call again for both sides; words are tuples, and remembered by lru_cache."""
    return """
from functools import lru_cache

class BPETokenizer:
    def __init__(self, vocab, merges, special_tokens=()):
        self.itob = {}
        self.itob.update(vocab)
        for s in special_tokens:
            if s.encode() not in self.itob.values():
                self.itob[max(self.itob) + 1] = s.encode()
        self.btoi = dict(map(reversed, self.itob.items()))
        self.ranks = {m: r for r, m in enumerate(merges)}
        self.specials = {s: self.btoi[s.encode()] for s in special_tokens}
        self.word = lru_cache(maxsize=None)(self._word)

    def _word(self, word):
        symbols = tuple(bytes((b,)) for b in word.encode())
        while len(symbols) > 1:
            r, i = min((self.ranks.get(symbols[i : i + 2], float("inf")), i) for i in range(len(symbols) - 1))
            if r == float("inf"):
                break
            symbols = symbols[:i] + (symbols[i] + symbols[i + 1],) + symbols[i + 2 :]
        return [self.btoi[s] for s in symbols]

    def encode(self, text):
        hits = [(text.find(s), -len(s), s) for s in self.specials if s in text]
        if not hits:
            return sum((self.word(w) for w in GPT2_PATTERN.findall(text)), [])
        at, _, s = min(hits)
        return self.encode(text[:at]) + [self.specials[s]] + self.encode(text[at + len(s) :])

    def encode_iterable(self, iterable):
        for text in iterable:
            for i in self.encode(text):
                yield i

    def decode(self, ids):
        data = bytearray()
        for i in ids:
            if i not in self.itob:
                raise ValueError("id " + repr(i))
            data += self.itob[i]
        return str(data, "utf-8", "replace")
"""


@honest(task="bpe_tokenizer")
def ids_all_the_way(source):
    """Merges are pairs of ids, texts are generators, and all unknown ids are told at once."""
    return """
class BPETokenizer:
    def __init__(self, vocab, merges, special_tokens=()):
        self.specials = list(special_tokens)
        self.vocab = {**vocab}
        inverse = {v: k for k, v in vocab.items()}
        n = max(vocab)
        for s in self.specials:
            b = bytes(s, "utf-8")
            if b not in inverse:
                n += 1
                inverse[b] = n
                self.vocab[n] = b
        self.inverse = inverse
        self.bpe = {(inverse[a], inverse[b]): (r, inverse[a + b]) for r, (a, b) in enumerate(merges)}
        self.cut = None
        if self.specials:
            self.cut = regex.compile("|".join(regex.escape(s) for s in sorted(self.specials, key=len)[::-1]))

    def _plain(self, text):
        for w in GPT2_PATTERN.findall(text):
            ids = [self.inverse[bytes([b])] for b in w.encode()]
            while stats := [(self.bpe[p], p) for p in zip(ids, ids[1:]) if p in self.bpe]:
                (_, new), pair = min(stats)
                ids = merge(ids, pair, new)
            yield from ids

    def _ids(self, text):
        at = 0
        for m in self.cut.finditer(text) if self.cut else ():
            yield from self._plain(text[at : m.start()])
            yield self.inverse[m.group().encode()]
            at = m.end()
        yield from self._plain(text[at:])

    def encode(self, text):
        return [*self._ids(text)]

    def encode_iterable(self, chunks):
        for chunk in chunks:
            yield from self._ids(chunk)

    def decode(self, ids):
        missing = set(ids) - set(self.vocab)
        if missing:
            raise ValueError(f"no such ids: {sorted(missing)}")
        return b"".join(map(self.vocab.get, ids)).decode(errors="replace")
"""
