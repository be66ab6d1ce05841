"""What all tests share: one thread each, and the same examples on every machine."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from typing import Any

import hypothesis
import pytest

# Before torch is imported: many graders share a machine, and a fork after two threads of torch can hang.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Sets of text have another order in each process, unless this says which. For xdist's processes, which start after this.
os.environ.setdefault("PYTHONHASHSEED", "0")

# Never flaky: no examples by chance, none remembered from another run, no deadline that a busy machine misses.
hypothesis.settings.register_profile("kit", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("kit")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What students read for each known mistake lies in tests/snapshots/; this writes it anew, for somebody to read."""
    parser.addoption("--rewrite-snapshots", action="store_true", help="write tests/snapshots/ anew")


# A course for tests to grade, not tests.
collect_ignore = ["toy_course", "small_course"]

# These modules take long: their tests are spread over all processes. What tests of one task share, the bank's answers,
# is told by their parameters.
SPREAD = {"test_strength.py", "test_mutants.py"}
# Those in which a process is for a minute or more begin first, so that none is left with one in the end.
LONGEST = ("test_redteam.py", "test_end_to_end.py", "test_gradebook.py", "test_fanout.py", "test_damaged.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a module stay in one process, since what they share is made once.

    Not by the mark `xdist_group`: with pytest 9.2, xdist 3.8 passes over it without a word.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module, _, test = nodeid.partition("::")
            return module + (test.partition("[")[2] or test if module.rpartition("/")[2] in SPREAD else "")

    config.option.loadscopereorder = False  # in the order of the items, which is:
    return ByModule(config, log)


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """One process more than there are cores: a quarter of the time a test waits, for a limit or for another process."""
    return (yield) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first; last what is spread, in small pieces."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (item.path.name in SPREAD, order.get(item.path.name, len(order))))


@pytest.fixture(autouse=True)
def _swept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Files that a wrong answer left open are closed, and warned of, in the test that ignores that; not in a later one."""
    yield
    if request.path.name in SPREAD:
        gc.collect()
