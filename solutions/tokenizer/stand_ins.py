"""What may stand in for a task that a student got wrong, when those that build on it are graded.

These enter the sandbox, so they are made of library operations and show nothing of the reference solution.
"""


def pair_counts(ids):
    from collections import Counter
    from itertools import pairwise

    return dict(Counter(pairwise(ids)))


def merge(ids, pair, new_id):
    # Ids as characters of a text: `re` finds a pair from left to right, without overlap.
    import re

    known = {value: chr(0xF0000 + number) for number, value in enumerate(dict.fromkeys([*ids, *pair, new_id]))}
    values = {character: value for value, character in known.items()}
    text = "".join(known[value] for value in ids)
    found = re.sub(known[pair[0]] + known[pair[1]], known[new_id], text)
    return [values[character] for character in found]
