"""The client: asking a notebook, in this process and in a confined worker, gives the same."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from autograder.confinement import Zygote
from autograder.errors import Exhausted, SandboxUnavailable, StudentError, WorkerLost
from autograder.notebook_link import Confined, InProcess, Link
from autograder.student import TOGETHER, Kept, Student
from autograder.values import Handle, Lazy, Opaque

NOTEBOOK = """
import os, random, time, warnings
import torch
from torch import nn

def scale(x, by=2.0):
    return x * by

def double_in_place(x):
    return x.mul_(2)

def noisy(x):
    return x + torch.rand(())

def seeds(x):
    torch.manual_seed(0)
    random.seed(0)
    return x

def works(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass

def fails(x):
    raise UnicodeEncodeError("utf-8", "x", 0, 1, "no")

def leaves(x):
    if x == 0:
        raise SystemExit
    return x

def loops():
    while True:
        pass

def hungry():
    return torch.zeros(10**13)

def dies():
    os._exit(7)

def cpu_index(x):
    return x[torch.tensor([0])]

def made_on_the_cpu(x):
    return x + torch.ones(1, 3)

def mapped(x):
    return torch.vmap(lambda row: row.sum() / row.numel())(x)

def warns(x):
    warnings.warn("a word to whoever reads this terminal")
    return x

def stops_gradients():
    torch.set_grad_enabled(False)

def gradients_are_on():
    return torch.is_grad_enabled()

def two(x):
    return {"a": x, "b": (x, [1, "b", None])}

def letters(chunks):
    for chunk in chunks:
        yield from chunk

class Layer(nn.Module):
    def __init__(self, width, bias=True):
        super().__init__()
        self.linear = nn.Linear(width, 2, bias=bias)
        self.size = {"width": width}
    def spend(self, coins):
        return coins.pop()
    def forward(self, x):
        return self.linear(x)

def apply_to(layer, x):
    return layer(x)
"""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """Whatever isolation this machine offers."""
    try:
        one = Zygote(minimum="none")
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    with one:
        yield one


@pytest.fixture(params=["in process", "confined"])
def student(request: pytest.FixtureRequest, zygote: Zygote) -> Iterator[Student]:
    """The notebook, behind either link."""
    link: Link = InProcess() if request.param == "in process" else Confined(zygote.fork)

    def prepare(link: Link) -> None:
        link.reset()
        reply = link.ask({"id": 0, "verb": "cells", "cells": [["all", NOTEBOOK, 20.0]]}, 20.0)
        assert reply["value"] == [None]

    torch.empty(2, device="meta").add(1)  # the first use of meta loads more of torch than a call has time for
    yield Student(link, prepare, seconds=1.0)
    link.close()


def test_a_function_is_called_by_its_name(student: Student) -> None:
    """Positional and keyword arguments; tensors and plain values come back."""
    assert torch.equal(student.scale(torch.ones(2, 3).T, by=3.0), torch.full((3, 2), 3.0))
    assert student.scale(4) == 8.0
    value = student.two(torch.ones(1))
    assert list(value) == ["a", "b"]
    assert value["b"][1] == [1, "b", None]


def test_dtype_layout_and_device_of_arguments_are_kept(student: Student) -> None:
    """bfloat16 stays so, and meta tensors need no values."""
    assert student.scale(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert student.scale(torch.empty(2, 3, device="meta")).device.type == "meta"


def test_gradients_of_arguments_and_parameters(student: Student) -> None:
    """With a cotangent or a sum; integers have none; modules give theirs by name."""
    outcome = student.observe("scale", torch.ones(3), by=torch.tensor(5.0), gradient=torch.tensor([1.0, 0.0, 2.0]))
    assert outcome.gradients[0].tolist() == [5.0, 0.0, 10.0]
    assert outcome.gradients[1].item() == 3.0
    layer = student.new("Layer", 3)
    outcome = layer.observe(torch.ones(4, 3), gradient="sum")
    assert outcome.parameter_gradients["linear.weight"].tolist() == [[4.0] * 3] * 2
    outcome = student.observe("apply_to", layer, torch.ones(4, 3), gradient="sum")
    assert set(outcome.parameter_gradients) == {"linear.weight", "linear.bias"}
    assert student.observe("scale", torch.ones(2, dtype=torch.int64), gradient="sum").gradients == [None]


def test_side_effects_are_seen(student: Student) -> None:
    """Arguments changed in place; the global random state used."""
    x = torch.ones(2)
    assert student.observe("double_in_place", x, inputs=True).inputs_after[0].tolist() == [2.0, 2.0]
    assert x.tolist() == [1.0, 1.0]
    assert student.new("Layer", 3).spend.observe([1, 2], inputs=True).inputs_after == [[1]]
    assert student.observe("noisy", x, randomness=True).random_used
    assert all(student.observe("seeds", x, randomness=True).random_used for _ in range(2)), "the same seed again"
    assert not student.observe("scale", x, randomness=True).random_used
    assert torch.equal(student.observe("noisy", x, seed=3).value, student.observe("noisy", x, seed=3).value)


def test_mixed_devices_are_refused_where_asked(student: Student) -> None:
    """`meta` stands in for a GPU: a tensor made on the CPU meets it and is caught."""
    x = torch.empty(2, 3, device="meta")
    with pytest.raises(StudentError):
        student.observe("made_on_the_cpu", x, strict_device=True)
    assert student.observe("cpu_index", x, strict_device=True).value.shape == (1, 3)  # a GPU takes it too
    assert student.observe("scale", x, strict_device=True).value.shape == (2, 3)
    assert student.observe("mapped", x, strict_device=True).value.shape == (2,)  # torch.vmap copies plain numbers


def test_warnings_are_nobodys_business(student: Student, capfd: pytest.CaptureFixture[str]) -> None:
    """Not the instructor's, whose terminal this is; and no error either, though here warnings are errors."""
    assert torch.equal(student.warns(torch.ones(2)), torch.ones(2))
    assert capfd.readouterr() == ("", "")


def test_a_notebook_that_switches_gradients_off_does_so_for_itself(student: Student) -> None:
    """In a worker it is the whole process; in this process it is put back after each call."""
    student.stops_gradients()
    assert torch.is_grad_enabled()
    assert student.gradients_are_on() is False


def test_objects_are_kept_and_asked(student: Student) -> None:
    """State goes in and out by name; attributes by path."""
    layer = student.new("Layer", 3, bias=False)
    weight = torch.arange(6.0).reshape(2, 3)
    layer.load_state_dict({"linear.weight": weight})
    assert torch.equal(layer.state_dict()["linear.weight"], weight)
    assert torch.equal(layer(torch.eye(3)), weight.T)
    assert layer.get("size") == {"width": 3}
    assert layer.get("linear.weight").shape == (2, 3)
    student.set(layer, "size", 5)
    assert layer.get("size") == 5
    assert isinstance(layer.train(), Opaque)
    assert layer.keep("linear")(torch.ones(1, 3)).shape == (1, 2)


def test_methods_can_be_called_at_once(student: Student) -> None:
    """In their order, with their arguments; each is on the record, as if it had been called by itself."""
    weights = {"linear.weight": torch.arange(6.0).reshape(2, 3)}
    layer = student.new("Layer", 3, bias=False, then=("double", ("load_state_dict", weights), "eval"))
    assert torch.equal(layer.get("linear.weight"), weights["linear.weight"].double())
    assert layer.get("training") is False
    assert [(call.name, call.target) for call in student.calls[:4]] == [
        ("Layer", None), ("double", layer.handle), ("load_state_dict", layer.handle), ("eval", layer.handle)
    ]  # fmt: skip
    with pytest.raises(StudentError, match="no attribute 'melt'"):
        student.new("Layer", 3, then=("melt",))


def test_many_calls_can_be_made_at_once(student: Student) -> None:
    """Each is told, and on the record, when its turn comes; the first that raises is the last."""
    told = student.scale.each([1, torch.ones(2), "a"])
    assert next(told) == 2.0
    assert [(call.name, call.args, call.result) for call in student.calls] == [("scale", (1,), 2.0)]
    assert torch.equal(next(told), torch.full((2,), 2.0))
    with pytest.raises(StudentError, match=r"scale raised TypeError") as raised:
        next(told)
    assert "of `all`: return x * by" in raised.value.where
    assert student.calls[-1].args == ("a",)
    layer = student.new("Layer", 3)
    assert list(layer.spend.each([[1, 2], [3]])) == [2, 3]
    assert student.asked == {"scale", "Layer"}
    with pytest.raises(Exhausted):
        list(student.works.each([0.1, 5.0]))
    assert student.calls[-1].args == (5.0,)


def test_of_many_calls_the_one_that_leaves_is_shown(student: Student) -> None:
    """Whatever it raises; where the whole process ends, the first of the request stands for it."""
    told = student.leaves.each([1, 2, 0, 3])
    assert [next(told), next(told)] == [1, 2]
    with pytest.raises(StudentError, match="leaves raised SystemExit"):
        next(told)
    assert student.calls[-1].args == (0,)


def test_laziness_is_counted(student: Student) -> None:
    """What a generator pulls, and when."""
    lazy = student.lazy(["ab", "cd", "ef"])
    stream = student.keep("letters", lazy)
    assert student.pulled(lazy) == 0
    assert student.next(stream) == "a"
    assert student.pulled(lazy) == 1
    assert [student.next(stream) for _ in range(5)] == list("bcdef")
    with pytest.raises(StudentError, match="StopIteration"):
        student.next(stream)


def test_an_exception_is_an_answer_with_the_students_lines(student: Student) -> None:
    """Its kind, all its kinds, and where."""
    with pytest.raises(StudentError) as raised:
        student.fails(1)
    assert raised.value.kind == "UnicodeEncodeError"
    assert "ValueError" in raised.value.kinds
    assert "of `all`: raise UnicodeEncodeError" in raised.value.where
    with pytest.raises(StudentError, match="name 'missing' is not defined"):
        student.missing(1)


def test_code_that_does_not_end_is_stopped_and_the_notebook_lives_on(student: Student) -> None:
    """The student learns the line; the next call works."""
    with pytest.raises(Exhausted) as late:
        student.loops()
    assert "`all`: " in late.value.where
    assert student.scale(1) == 2.0


def test_code_that_asks_for_too_much_memory_is_told_so_once(student: Student) -> None:
    """Whether Python or torch refuses it."""
    with pytest.raises(Exhausted, match="more memory than there is") as hungry:
        student.hungry()
    assert "torch.zeros" in hungry.value.where
    assert student.scale(1) == 2.0


def test_processor_time_is_the_notebook_s(student: Student) -> None:
    """Work counts, waiting does not; nor, where the notebook has a process of its own, does work of the grader."""
    student.scale(1)
    began = student.cpu_seconds
    student.works(0.2)
    worked = student.cpu_seconds - began
    assert 0.2 <= worked < 0.4
    time.sleep(0.2)
    assert student.cpu_seconds - began - worked < 0.1


def test_each_example_begins_with_the_same_random_numbers(student: Student) -> None:
    """Whatever was asked before."""
    found = []
    for seed in (1, 1, 2):
        student.begin(seed)
        found.append((student.noisy(torch.zeros(())).item(), student.noisy(torch.zeros(())).item()))
    assert found[0] == found[1] != found[2]
    assert found[0][0] != found[0][1]


def test_a_dead_worker_is_replaced(zygote: Zygote) -> None:
    """The call is lost, the next one finds the cells run again."""
    link = Confined(zygote.fork)
    starts = []

    def prepare(link: Link) -> None:
        starts.append(link.ask({"id": 0, "verb": "cells", "cells": [["all", NOTEBOOK, 20.0]]}, 20.0))

    student = Student(link, prepare)
    with pytest.raises(WorkerLost, match=r"ended the whole Python process .exit 7."):
        student.dies()
    assert student.cpu_seconds == 0.0
    assert student.scale(1) == 2.0
    assert len(starts) == 2
    worker = link.worker
    assert worker.cpu_seconds() > 0
    link.close()
    assert worker.cpu_seconds() == 0.0


class Scripted:
    """A worker whose answers are made up by the test."""

    def __init__(self, reply: dict[str, object]) -> None:
        self.reply, self.closed = reply, False

    def ask(self, request: dict[str, object], seconds: float) -> dict[str, object]:
        del seconds
        return {"id": request["id"], **self.reply}

    def reset(self) -> None:
        self.closed = True

    def close(self) -> None: ...


@pytest.mark.parametrize("reply", [{"value": 3}, {"value": [1]}, {"error": 5}, {"error": {"kinds": 3}}, {"error": {}}, {"error": torch.ones(2)}])
def test_an_answer_of_the_wrong_form_loses_the_worker(reply: dict[str, object]) -> None:
    """A forged reply is the student's loss, not our crash."""
    with pytest.raises((WorkerLost, StudentError)):
        Student(Scripted(reply)).scale(1)


def test_many_calls_are_not_one_request() -> None:
    """All of a request share the time of one call."""
    student = Student(Scripted({"value": [{"value": 1}] * TOGETHER}))
    assert list(student.scale.each(range(2 * TOGETHER + 1))) == [1] * (2 * TOGETHER + 1)
    assert student._count == 3


def test_what_should_be_an_object_or_a_number_is_one() -> None:
    """Else the worker is lost, and the check fails: nothing stays ungraded for it."""
    kept = Kept(Student(Scripted({"value": 3})), Handle(1, "Layer"))
    asked = (
        lambda: Student(Scripted({"value": {"value": 3}})).new("Layer"),
        lambda: kept.keep("linear"),
        lambda: Student(Scripted({"value": "many"})).pulled(Lazy(1, ())),
        lambda: Student(Scripted({"value": 3})).files(),
        lambda: list(Student(Scripted({"value": 3})).scale.each([1])),
        lambda: list(Student(Scripted({"value": [3]})).scale.each([1])),
        lambda: list(Student(Scripted({"value": [{"value": 1}]})).scale.each([1, 2])),
        lambda: list(Student(Scripted({"value": [{"error": 1}]})).scale.each([1])),
    )
    for ask in asked:
        with pytest.raises(WorkerLost, match="no answer"):
            ask()
