"""The examples of a hidden test: drawn once for each seed, then tried on every notebook.

Drawing costs about as much as all else in the grader, and gives every notebook the same: the examples hang on the test
and the seed alone. Hypothesis itself runs a test only where one of them fails, to find a smaller; and where the test
draws while it runs, or assumes.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import torch

from autograder.values import SIMPLE

# Tests whose examples are remembered: those of all assignments, for a few seeds.
_REMEMBERED = 1024

Test = Callable[..., None]
Drawn = dict[str, Any]


def examples(test: Test, seed: int) -> Iterator[Drawn]:
    """What Hypothesis draws for `test`, one example after the other. A test may change what it is given."""
    for example in _drawn(test, seed):
        yield _copied(example)


def _copied(value: Any) -> Any:
    """A copy of its own, as `copy.deepcopy` makes it, which takes three times as long."""
    kind = type(value)
    if kind is dict:
        return {key: _copied(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(map(_copied, value))
    if kind is torch.Tensor and value.is_contiguous() and not value.requires_grad:
        return value.clone()
    return value if kind in SIMPLE else copy.deepcopy(value)


def under_hypothesis(test: Any, seed: int, inner: Test, given: Drawn) -> None:
    """Have Hypothesis try `inner` in the place of the test's own function; `given` are the arguments not drawn."""
    own = test.hypothesis.inner_test
    test.hypothesis.inner_test = functools.wraps(own)(inner)
    test._hypothesis_internal_database_key = b""  # noqa: SLF001 - or it is made anew, from the source, at each run
    try:
        hypothesis.seed(seed)(test)(**given)
    finally:
        test.hypothesis.inner_test = own


@functools.lru_cache(maxsize=_REMEMBERED)
def _drawn(test: Test, seed: int) -> list[Drawn]:
    given = dict.fromkeys(inspect.signature(test).parameters)  # the fixtures
    drawn: list[Drawn] = []

    def take(**arguments: Any) -> None:
        drawn.append({name: value for name, value in arguments.items() if name not in given})

    under_hypothesis(test, seed, take, given)
    return drawn
