"""The failing example: remembered while Hypothesis looks for a smaller one, then written for the student."""

from __future__ import annotations

import builtins
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import torch

from autograder.errors import Exhausted, StudentError, SubmissionError, WorkerLost
from autograder.student import Call, Kept, Student
from autograder.values import Generator, Handle, Lazy, Opaque
from autograder.written import WIDTH, container, cut, holds, joined, pasted, remark, side_by_side, told, written

# After its first failure a check may run so many times more to find a smaller example. A count, not a time, so that
# the same notebook gives the same report on a slow machine.
SHRINK_RUNS = 150
# So many lines are shown.
MOST_LINES = 12
# Of a tensor that was read, so many numbers.
MOST_READ = 6
# A class whose name is no longer gives its objects that name, a longer one its last word: CharTokenizer, tokenizer.
SHORT_NAME = 6
# What a built-in type's objects are called instead: the type's name is taken.
INSTEAD = {"list": "groups", "dict": "entries"}
# What objects of these types are called by everybody.
USUAL = {"Parameter": "p", "ParameterList": "model"}
# A temporary folder, or a file's name, as `tempfile` makes them: another at each run.
FRESH_FOLDER, FRESH_NAME = re.compile(r"(?:/[\w.+-]+)*/tmp[a-z0-9_]{8}/"), re.compile(r"\btmp[a-z0-9_]{8}\b")
# Methods that a check calls around the call that it is about; `_brought_to` tells of those that change an object.
HOUSEKEEPING = ("state_dict", "load_state_dict", "parameters", "double", "to", "eval", "train", "zero_grad", "detach")


@dataclass
class Recorder:
    """What the last failing example raised, and the calls it made: known even where Hypothesis ends otherwise."""

    student: Student
    most: int = SHRINK_RUNS
    seed: int = 0
    runs: int = 0
    failure: BaseException | None = None
    calls: list[Call] = field(default_factory=list)
    runs_since: int = 0

    def run(self, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Try one example. After the first failure, and `most` more, examples are let pass."""
        if self.failure is not None:
            self.runs_since += 1
            if self.runs_since > self.most:
                return
        self.runs += 1
        self.student.begin(self.seed + self.runs)
        try:
            inner(*args, **kwargs)
        except (SubmissionError, WorkerLost) as error:
            self.failure, self.calls = error, list(self.student.calls)
            raise
        except hypothesis.errors.HypothesisException:
            raise
        except Exception as error:
            self.failure, self.calls = error, []
            raise

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """Try the examples from the first on, to find a smaller that fails.

        The notebook's first failure stays where none of its own follows, whatever else comes of it.
        """
        first, calls = self.failure, self.calls
        self.failure, self.calls, self.runs, self.runs_since = None, [], 0, 0
        try:
            yield
        except Exception:
            if isinstance(self.failure, SubmissionError) or not isinstance(first, SubmissionError):
                raise
            self.failure = None
        if self.failure is None and first is not None:
            self.failure, self.calls = first, calls
            raise first


def explained(failure: SubmissionError | WorkerLost) -> str:
    """A failure in the student's words: for an exception of theirs, with the lines of their own code."""
    return lasting(_explained(failure))


def lasting(text: str) -> str:
    """Without names that are others at the next run."""
    return FRESH_NAME.sub("tmp...", FRESH_FOLDER.sub("", text))


def _explained(failure: SubmissionError | WorkerLost) -> str:
    if isinstance(failure, Exhausted):
        return f"Your code {failure.reason}. {failure.advice}\n{failure.where}".rstrip()
    if isinstance(failure, WorkerLost):
        return f"Your code {failure.reason}."
    if isinstance(failure, StudentError) and failure.where:
        return f"{failure}\n{failure.where}"
    return str(failure)


def shown(calls: list[Call], own: Mapping[str, tuple[str, ...]] | None = None, message: str = "") -> str:
    """A failing example as lines that a student can paste: what its last call needs, the call, what their code gave.

    own: what the task defines, as `names.parameters` tells it: the last call of one of these is shown, where there is
    one. message: what the check says; where that is of a gradient, their gradients are shown and not their result.
    """
    own, real = own or {}, [place for place, call in enumerate(calls) if call.kind == "call"]
    wanted = [place for place in real if not _housekeeping(calls[place])]
    of_task = [place for place in wanted if _whose(calls[place]) in own]
    if not real:
        return ""
    last = (of_task or wanted or real)[-1]
    call, made = calls[last], _Made(calls[: last + 1], own)  # what came after it has not happened yet
    lines = made.call(call)
    came = [*_outcome(call, "gradient" in message.lower(), made.tensors), *made.read(calls[last + 1 :])]
    lines += ["# " + "; ".join(line.removeprefix("# ") for line in came)] if made.retold and came else came
    return lasting("\n".join(lines if len(lines) <= MOST_LINES else ["...", *lines[1 - MOST_LINES :]]))


def _housekeeping(call: Call) -> bool:
    """Whether a check makes this call around the one that it is about: always a method."""
    return call.target is not None and call.name in HOUSEKEEPING


def _whose(call: Call) -> str:
    """The function that is called, or the class whose method it is."""
    return call.target.type if call.target is not None else call.name


def _outcome(call: Call, of_gradient: bool, tensors: dict[str, torch.Tensor]) -> list[str]:  # noqa: FBT001
    """What the student's code gave."""
    if of_gradient and call.gradients is not None and len(call.gradients) == len(tensors):
        pairs = zip(tensors.items(), call.gradients, strict=True)
        return [f"# gradient of {name}: {told(found)}" for (name, value), found in pairs if value.is_floating_point()]
    itself = isinstance(call.result, Opaque) and call.result.type == call.name
    return [] if call.result is None or itself or isinstance(call.result, Handle) else [f"# yours: {told(call.result)}"]


class _Made:
    """The objects that a call needs, and the lines that make them; with attributes that are set, their whole story."""

    def __init__(self, calls: list[Call], own: Mapping[str, tuple[str, ...]]) -> None:
        self.calls, self.own = calls, own
        self.origins = {call.result.id: call for call in reversed(calls) if isinstance(call.result, Handle)}
        self.names: dict[int, str] = {}
        self.lines: list[str] = []
        self.taken: set[str] = set()
        self.tensors: dict[str, torch.Tensor] = {}
        self.retold = False

    def call(self, call: Call) -> list[str]:
        """The lines of the call that is shown: tensors stand before it, by the names of its parameters."""
        self._retell()
        itself = call.target is not None and call.name == call.target.type
        owner = self.name(call.target) if call.target else ""
        words, tensors = [], []
        for name, value in self._arguments(call):
            word = self.word(value, name) if not isinstance(value, torch.Tensor) else self._fresh(name)
            if isinstance(value, torch.Tensor):
                self.tensors[word] = value
                tensors.append(f"{word} = {pasted(value)}{remark(value)}")
            words.append(f"{name}={word}" if name in call.kwargs else word)
        called = owner if itself else f"{owner}.{call.name}" if owner else call.name
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.tensors.items())
        shown_call = f"{called}({', '.join(words)})" + (f"  # {shapes}" if shapes else "")
        lines = joined([*self.lines, *tensors, shown_call], len(self.lines))
        return side_by_side(lines) if self.retold else lines

    def _retell(self) -> None:
        """What was set on the objects that the call needs, and what was called of them, in its order."""
        *before, last = self.calls
        found, needed, mine = _handles((last.target, last.args, last.kwargs)), set[int](), list[Call]()
        while found - needed:
            needed |= found
            mine = [one for one in before if one.target is not None and one.target.id in needed and _changes(one)]
            makers = [self.origins[identity] for identity in needed if identity in self.origins]
            found = _handles([(one.target, one.args, one.kwargs, one.result) for one in (*mine, *makers)])
        self.retold = any(one.kind == "set" for one in mine)
        for one in before if self.retold else ():
            if isinstance(one.result, Handle):
                if one.result.id in needed:
                    self.name(one.result)
            elif one.target is not None and any(one is other for other in mine):
                done = f"{one.name} = {self._word(one.args[0])}" if one.kind == "set" else self._called(one)
                self.lines.append(f"{self.name(one.target)}.{done}")

    def read(self, calls: list[Call]) -> list[str]:
        """What a check read from the objects after the call, where their attributes are told at all."""
        found = {}
        for one in calls if self.retold else ():
            name = self.names.get(one.target.id) if one.target is not None else None
            if name is not None and (one.kind == "read" or one.name == "detach"):
                value = one.result
                short = isinstance(value, torch.Tensor) and value.numel() <= MOST_READ
                found[f"{name}.{one.name}" if one.kind == "read" else name] = written(value) if short else told(value)
        return [f"# {name}: {value}" for name, value in found.items()]

    def _arguments(self, call: Call) -> list[tuple[str, Any]]:
        """The arguments by the names of what they are handed to."""
        known = self.own.get(f"{call.target.type}.{call.name}" if call.target else call.name, ())
        names = [*known[: len(call.args)], *(f"x{number}" for number in range(len(known) + 1, len(call.args) + 1))]
        return [*zip(names, call.args, strict=True), *call.kwargs.items()]

    def name(self, handle: Handle) -> str:
        """What the object is called from here on; a line that makes it is added."""
        call = self.origins.get(handle.id)
        if handle.id in self.names or call is None:
            return self.names.get(handle.id, f"<your {handle.type}>")
        made = self._called(call)
        if call.target is not None:
            return re.sub(r"\.__getitem__\((.*)\)$", r"[\1]", f"{self.name(call.target)}.{made}")
        parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", handle.type)
        word = (parts[-1] if parts and len(handle.type) > SHORT_NAME else handle.type).lower()
        name = self._fresh(USUAL.get(handle.type, word))
        self.lines.append(f"{name} = {made}{self._brought_to(handle)}")
        self.names[handle.id] = name
        return name

    def _called(self, call: Call) -> str:
        """The call with its arguments, as it stands after what it is called of."""
        words = [(key, self.word(value, key)) for key, value in self._arguments(call)]
        return f"{call.name}({', '.join(f'{key}={word}' if key in call.kwargs else word for key, word in words)})"

    def _fresh(self, name: str) -> str:
        """A name that nothing else has, here or in Python."""
        name = INSTEAD.get(name, f"{name}_") if name in dir(builtins) else name
        found = next(one for one in (name, *(f"{name}{n}" for n in range(2, 1000))) if one not in self.taken)
        self.taken.add(found)
        return found

    def _brought_to(self, handle: Handle) -> str:
        """The calls that gave the object its number type, device and mode, each the last of its kind."""
        mine = [one for one in self.calls if one.target == handle and one.kind == "call"]
        last: dict[str, str] = {}
        for one in mine:
            kind = {"eval": "mode", "train": "mode", "double": "type", "to": "type"}.get(one.name)
            if kind is not None:
                last.pop(kind, None)
                last[kind] = f".{one.name}({', '.join(map(self.word, one.args))})"
        of_loading = [one for one in mine if one.name == "load_state_dict" and not (self.retold and _changes(one))]
        loaded = [one.args[:1] for one in of_loading]
        of_test = all(isinstance(given, dict) and "param_groups" not in given for args in loaded for given in args)
        then = "with weights of the test" if of_test else "then load_state_dict(...)"
        return "".join(last.values()) + (f"  # {then}" if loaded else "")

    def word(self, value: Any, name: str = "x") -> str:
        """An argument; one too long to stand in a call gets a line of its own, under this name."""
        word = self._word(value)
        if len(word) <= WIDTH // 2 or not isinstance(value, str | list | tuple | dict):
            return cut(word, WIDTH)
        name = self._fresh(name)
        room = WIDTH if {"'", '"'} & set(word) else 3 * WIDTH  # a line of numbers can be folded
        said, left_out = container(value, self._word, room - len(name) - 3)
        self.lines.append(f"{name} = {said}{left_out}")
        return name

    def _word(self, value: Any) -> str:
        if isinstance(value, Kept):
            return self.name(value.handle)
        if isinstance(value, Generator):
            return f"torch.Generator().manual_seed({value.seed})"
        if isinstance(value, torch.Tensor):
            return pasted(value)
        if isinstance(value, Lazy):
            return f"iter({list(value.items)!r})"
        if isinstance(value, list | tuple) and holds(value, (Kept, Generator, torch.Tensor)):
            inside = ", ".join(map(self._word, value))
            return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
        if isinstance(value, dict) and holds(value, (Kept, Generator, torch.Tensor)):
            return "{" + ", ".join(f"{key!r}: {self._word(item)}" for key, item in value.items()) + "}"
        return repr(value)


def _changes(call: Call) -> bool:
    """Whether it may change the object: an attribute is set, or a method called that `_brought_to` does not tell of."""
    if call.name == "load_state_dict":
        return bool(_handles(call.args))
    return call.kind == "set" or (call.kind == "call" and call.name not in HOUSEKEEPING)


def _handles(value: Any) -> set[int]:
    """The objects in the notebook that a value holds, however deep."""
    if isinstance(value, Kept | Handle):
        return {value.handle.id if isinstance(value, Kept) else value.id}
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return set[int]().union(*map(_handles, items))
