"""From a submission to a report: points, verdicts, words, and who is to blame."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from autograder import diagnosis, grade, written
from autograder.assignment import Assignment, read_assignment, submission
from autograder.compare import assert_close
from autograder.errors import CheckFailed, CourseBroken
from autograder.example import shown
from autograder.names import parameters
from autograder.notebook import Cell
from autograder.notebook_link import InProcess
from autograder.report import Report, from_json
from autograder.student import Call, Kept, Student
from autograder.values import Handle, Opaque

TOY = Path(__file__).resolve().parent / "toy_course" / "solutions" / "toy"
RIGHT = "def softmax(x, dim=-1):\n    e = (x - x.amax(dim, keepdim=True)).exp()\n    return e / e.sum(dim, keepdim=True)"


def graded(assignment: Assignment, solution: str, *, seed: int = 0, more: tuple[Cell, ...] = ()) -> Report:
    work = submission(assignment, [*assignment.filled({"softmax": solution}), *more])
    return grade.grade(
        work, assignment, InProcess(), doctor=diagnosis.Doctor(assignment),
        reference=diagnosis.notebook(assignment.reference_cells()), student="ada", seed=seed, call_seconds=1.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def toy() -> Assignment:
    """The small assignment of the tests."""
    return read_assignment(TOY)


@pytest.fixture
def with_tests(tmp_path: Path) -> Callable[[str], Assignment]:
    """The small assignment with other hidden tests."""

    def make(tests: str) -> Assignment:
        folder = tmp_path / "toy"
        folder.mkdir()
        for name in ("notebook.py", "misconceptions.py"):
            (folder / name).write_text((TOY / name).read_text())
        (folder / "test_hidden.py").write_text("from autograder.suite import task\nfrom autograder.compare import *\n" + tests)
        return read_assignment(folder)

    return make


def test_right_work_gets_all_points(toy: Assignment) -> None:
    """Every check passes, and there is nothing to say."""
    report = graded(toy, RIGHT)
    assert (report.status, report.score, report.max_score) == ("graded", 10.0, 10.0)
    (task,) = report.tasks
    assert (task.status, task.diagnosis) == ("pass", ())
    assert {check.status for check in task.checks} == {"pass"}
    assert sum(check.points for check in task.checks) == pytest.approx(10.0)


def test_an_untouched_notebook_gets_none(toy: Assignment) -> None:
    """And is not given a diagnosis either."""
    report = grade.grade(
        submission(toy, toy.released), toy, InProcess(), doctor=diagnosis.Doctor(toy),
        reference=diagnosis.notebook(toy.reference_cells()),
    )  # fmt: skip
    assert (report.status, report.score) == ("graded", 0.0)
    assert report.tasks[0].status == "fail"
    assert report.tasks[0].diagnosis == ()


def test_a_known_mistake_is_named_with_its_advice(toy: Assignment) -> None:
    """It keeps what it gets right."""
    report = graded(toy, RIGHT.replace("dim, keep", "-1, keep"))
    (task,) = report.tasks
    assert (task.status, task.score) == ("partial", 8.0)
    assert [item.id for item in task.diagnosis] == ["ignores_dim"]
    assert task.diagnosis[0].advice == "Use dim."


def test_an_unknown_mistake_is_not_named(toy: Assignment) -> None:
    """Only the failed checks and the smallest example are shown."""
    report = graded(toy, RIGHT.replace("e / e", "e * 1.5 / e"))
    (task,) = report.tasks
    assert task.status == "fail"
    assert task.diagnosis == ()
    assert "softmax(x)" in task.checks[0].example
    assert "# yours:" in task.checks[0].example


def test_no_expected_value_is_shown(toy: Assignment) -> None:
    """The student's result is, the right one is not."""
    text = graded(toy, "def softmax(x, dim=-1):\n    return x * 0 + 0.123").to_json()
    assert "0.123" in text
    assert "assert_close" not in text
    assert "test_hidden" not in text


def test_a_check_that_builds_on_a_failed_one_is_skipped(toy: Assignment) -> None:
    """It earns nothing, and says what it waits for."""
    checks = graded(toy, "def softmax(x, dim=-1):\n    return x").tasks[0].checks
    assert [check.status for check in checks] == ["fail", "fail", "skip"]
    assert "exp(x)" in checks[2].message


def test_an_exception_of_the_students_is_shown_with_their_line(toy: Assignment) -> None:
    """Kind, message, line."""
    message = graded(toy, "def softmax(x, dim=-1):\n    return x.nothing()").tasks[0].checks[0].message
    assert "softmax raised AttributeError" in message
    assert "line 2 of `softmax`: return x.nothing()" in message


def test_a_cell_that_does_not_run_is_said_first(toy: Assignment) -> None:
    """With its syntax error, in the task and in the notes."""
    report = graded(toy, "def softmax(x, dim=-1)\n    return x")
    assert report.tasks[0].checks[0].name == "The cell runs."
    assert "SyntaxError" in report.tasks[0].checks[0].message
    assert any("`softmax` did not run to its end" in note for note in report.notes)
    assert report.score == 0.0


def test_code_without_end_costs_one_time_limit(toy: Assignment) -> None:
    """The other checks of the task are not tried."""
    report = graded(toy, "def softmax(x, dim=-1):\n    while True:\n        pass")
    checks = report.tasks[0].checks
    assert "still running after 1 s" in checks[0].message
    assert "in an earlier check" in checks[1].message


def test_an_extra_cell_that_fails_does_not_stop_the_rest(toy: Assignment) -> None:
    """Nor does one that exits."""
    report = graded(toy, RIGHT, more=(Cell("code", "1 / 0"), Cell("code", "import sys; sys.exit(0)"), Cell("code", "x = 1")))
    assert report.score == 10.0
    assert len(report.notes) == 2


def test_a_shortcut_withholds_the_points(toy: Assignment) -> None:
    """Though every check would pass; the line is shown."""
    report = graded(toy, "def softmax(x, dim=-1):\n    return torch.softmax(x, dim)")
    (task,) = report.tasks
    assert (task.status, task.score, report.status) == ("withheld", 0.0, "graded")
    assert "return torch.softmax(x, dim)" in task.checks[0].message


def test_the_same_notebook_gives_the_same_report(toy: Assignment) -> None:
    """Byte for byte, apart from the time it took."""
    wrong = "def softmax(x, dim=-1):\n    return x.exp() / x.exp().sum()"
    one, two = (replace(graded(toy, wrong), seconds=0.0).to_json() for _ in range(2))
    assert one == two
    assert one != replace(graded(toy, wrong, seed=1), seconds=0.0).to_json()


def test_a_report_survives_its_json(toy: Assignment) -> None:
    """And has the keys of the contract."""
    report = graded(toy, RIGHT.replace("dim, keep", "-1, keep"))
    assert from_json(report.to_json()) == report
    raw = json.loads(report.to_json())
    assert list(raw)[:6] == ["schema", "student", "assignment", "status", "score", "max_score"]
    assert set(raw["tasks"][0]) >= {"task", "points", "score", "status", "follow_through", "checks", "diagnosis"}
    assert set(raw["tasks"][0]["checks"][0]) >= {"name", "status", "points", "message", "example"}
    assert set(raw["certificate"]) >= {"submission", "suite", "seed", "device", "isolation", "versions"}
    with pytest.raises(ValueError, match="no report"):
        from_json("{}")


BROKEN = {
    "raises": "raise KeyError('x')",
    "asserts": "assert student.softmax(3) == 4",
    "asks wrongly": "reference.nothing(1)",
}


@pytest.mark.parametrize("name", ["raises", "asserts"])
def test_a_broken_hidden_test_is_never_a_students_zero(with_tests: Callable[[str], Assignment], name: str) -> None:
    """The task and the report stay ungraded."""
    solution = RIGHT if name == "raises" else "def softmax(x, dim=-1):\n    return x"
    source = f"@task('softmax')\ndef test_a(student, reference):\n    '''It works.'''\n    {BROKEN[name]}\n"
    report = graded(with_tests(source), solution)
    assert (report.status, report.tasks[0].status, report.tasks[0].score) == ("ungraded", "ungraded", 0.0)
    assert "broken" in report.tasks[0].checks[0].message


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("import nothing_of_that_name\n", "Install nothing_of_that_name where the grading runs"),
        ("x = 1\n", "no hidden test"),
        ("def test_a(student, reference): pass\n", "has no @task"),
    ],
)
def test_a_suite_that_cannot_be_read_is_said_to_the_author(
    with_tests: Callable[[str], Assignment], source: str, word: str
) -> None:
    """Grading does not start."""
    with pytest.raises(CourseBroken, match=word):
        graded(with_tests(source), RIGHT)


def test_what_the_machine_lacks_costs_nothing(with_tests: Callable[[str], Assignment]) -> None:
    """A check skipped for want of a GPU keeps its points; it does not earn the others'."""
    source = (
        "import pytest\n@task('softmax')\ndef test_a(student, reference):\n    '''A.'''\n    require(student.softmax(3) == 4, 'No.')\n"
        "@task('softmax')\ndef test_gpu(student, reference):\n    '''On a GPU.'''\n    pytest.skip('No GPU here.')\n"
    )
    assignment = with_tests(source)
    assert graded(assignment, "def softmax(x, dim=-1):\n    return 4").score == 10.0
    assert graded(assignment, "def softmax(x, dim=-1):\n    return 5").score == 0.0


def test_code_that_answers_by_chance_fails_without_breaking_the_check(toy: Assignment) -> None:
    """Hypothesis calls it flaky; here it is simply wrong."""
    report = graded(toy, "def softmax(x, dim=-1):\n    return torch.softmax(x, dim) if torch.rand(()) < 0.5 else x".replace("torch.softmax(x, dim)", "x.exp() / x.exp().sum(dim, keepdim=True)"))
    assert report.status == "graded"
    assert report.tasks[0].checks[0].status == "fail"


def test_the_shown_call_can_be_pasted(toy: Assignment) -> None:
    """The example is Python that gives the student's own result."""
    example = graded(toy, "def softmax(x, dim=-1):\n    return x * 0 + 2").tasks[0].checks[0].example
    space: dict[str, object] = {}
    exec("import torch\ndef softmax(x, dim=-1): return x * 0 + 2\n" + example, space)
    assert shown([]) == ""


def test_what_a_call_needs_is_made_first() -> None:
    """An object is made, brought to its number type and mode, and called by a name of its own."""
    layer, config = Handle(2, "FeedForward"), Handle(1, "GPTConfig")
    one = Kept(Student(InProcess()), config)
    x = torch.tensor([[1.0, -math.inf]], dtype=torch.float64)
    calls = [
        Call("GPTConfig", (), {"n_layer": 2}, config),
        Call("FeedForward", (one, 0.0), {"bias": False}, layer),
        Call("double", (), {}, layer, layer),
        Call("load_state_dict", ({},), {}, "", layer),
        Call("eval", (), {}, layer, layer),
        Call("FeedForward", (x,), {"mask": torch.ones(5, 5, dtype=torch.bool)}, x, layer),
    ]
    assert shown(calls).split("\n") == [
        "config = GPTConfig(n_layer=2)",
        "forward = FeedForward(config, 0.0, bias=False).double().eval()  # with weights of the test",
        "x1 = torch.tensor([[1.0, -math.inf]], dtype=torch.float64)",
        "mask = torch.full((5, 5), True)",
        "forward(x1, mask=mask)  # x1 (1, 2), mask (5, 5)",
        "# yours: shape (1, 2), [[1.0, -math.inf]]",
    ]
    calls[-1] = Call("encode", ("a",), {}, [3], layer)
    assert shown(calls).split("\n")[-2:] == ["forward.encode('a')", "# yours: [3]"]
    train = Call("train", (one, 3), {}, [0.5])
    assert shown([*calls[:4], train, Call("train", (), {}, "", layer)]).split("\n") == [
        "config = GPTConfig(n_layer=2)", "train(config, 3)", "# yours: [0.5]",
    ], "a function of that name is what the check is about, the method is not"  # fmt: skip
    short = [calls[0], replace(calls[1], args=(one,), kwargs={}), calls[-1]]
    assert shown(short).startswith("forward = FeedForward(GPTConfig(n_layer=2))\nforward."), "what one line needs stands in it"
    in_training = [*calls[:5], Call("train", (), {}, "", layer), calls[-1], Call("eval", (), {}, "", layer)]
    assert ".double().train()" in shown(in_training)
    assert shown([Call("f", (Kept(Student(InProcess()), Handle(9, "Sized")),), {}, [3])]).split("\n") == [
        "f(<your Sized>)", "# yours: [3]",
    ]  # fmt: skip


def test_what_was_set_on_an_object_is_told() -> None:
    """In its order, with the calls between, and what a check read of it afterwards."""
    p, sgd = Handle(1, "Parameter"), Handle(2, "SGD")
    kept, x = Kept(Student(InProcess()), p), torch.tensor([1.0, 2.0])
    calls = [
        Call("torch.nn.Parameter", (x,), {}, p),
        Call("SGD", ([kept],), {"lr": 0.5}, sgd),
        Call("grad", (x,), {}, None, p, kind="set"),
        Call("step", (), {}, None, sgd),
        Call("grad", (None,), {}, None, p, kind="set"),
        Call("step", (), {}, None, sgd),
        Call("detach", (), {}, x / 2, p),
        Call("grad", (), {}, None, p, kind="read"),
    ]
    assert shown(calls, {"SGD": (), "SGD.step": ()}).split("\n") == [
        "p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))",
        "sgd = SGD([p], lr=0.5)",
        "p.grad = torch.tensor([1.0, 2.0]); sgd.step()",
        "p.grad = None; sgd.step()",
        "# p: [0.5, 1.0]; p.grad: None",
    ]
    untold = [*calls[:2], *calls[5:]]
    assert shown(untold).split("\n")[-1] == "sgd.step()", "where nothing is set, only the call"
    assert shown(calls[-1:]) == ""


def test_the_call_shown_is_one_of_the_task_s_own() -> None:
    """By the names of its parameters; what the check called besides is not what the student wrote."""
    own = parameters("def f(q, k, *, mask=None): ...\nclass Layer:\n    def __init__(self, vocab): ...\n    def forward(self, ids): ...")
    assert own == {"f": ("q", "k"), "Layer": ("vocab",), "Layer.Layer": ("ids",), "Layer.__init__": ("vocab",), "Layer.forward": ("ids",)}
    x, handle = torch.tensor([1]), Handle(1, "list")
    calls = [Call("f", (x, x), {}, handle), Call("gelu", (x,), {}, x), Call("__getitem__", (0,), {}, x, handle)]
    assert shown(calls, own).split("\n") == ["q = torch.tensor([1])", "k = torch.tensor([1])", "f(q, k)  # q (1,), k (1,)"]
    assert shown(calls[1:2], own).split("\n")[-2:] == ["gelu(x1)  # x1 (1,)", "# yours: shape (1,), [1]"]
    assert shown(calls).startswith("groups = f(torch.tensor([1]), torch.tensor([1]))\n"), "no name of Python's own is taken"
    odd = Kept(Student(InProcess()), Handle(3, "(["))
    assert shown([Call("Odd", (), {}, odd.handle), Call("Layer", (odd,), {}, handle)]).startswith("([ = Odd()\n"), "whatever a class is called"
    made = Call("Layer", ({i: bytes([i]) for i in range(256)} | {256: b"ab"},), {}, Handle(2, "Layer"))
    assert shown([made, Call("Layer", (x,), {}, x, Handle(2, "Layer"))], own).split("\n") == [
        "vocab = {**{i: bytes([i]) for i in range(256)}, 256: b'ab'}", "layer = Layer(vocab)", "ids = torch.tensor([1])",
        "layer(ids)  # ids (1,)", "# yours: shape (1,), [1]",
    ]  # fmt: skip


def test_a_gradient_that_is_wrong_is_shown_itself() -> None:
    """The result beside it is right."""
    x = torch.tensor([1.0, 2.0])
    call = Call("f", (x, torch.tensor([1])), {"dim": 0}, x, gradients=[None, None])
    assert shown([call], message="The gradient of x is wrong.").split("\n")[-2:] == ["f(x1, x2, dim=0)  # x1 (2,), x2 (1,)", "# gradient of x1: None"]
    assert shown([call], message="The result is wrong.").endswith("# yours: shape (2,), [1.0, 2.0]")


@pytest.mark.parametrize(
    "value",
    [
        torch.empty(2, 0, dtype=torch.int64), torch.full((4, 4), 2.5), torch.zeros(50, dtype=torch.int64), torch.arange(40),
        torch.arange(60.0).reshape(3, 4, 5), torch.tensor([[-100, 3], [4, 5]]), torch.ones(5, 5, dtype=torch.bool),
        torch.empty(2, dtype=torch.int64, device="meta"), torch.tensor([1.5, -math.inf], dtype=torch.float64),
    ],
    ids=str,
)  # fmt: skip
def test_a_tensor_that_is_pasted_is_the_same(value: torch.Tensor) -> None:
    """Its numbers, its type and its shape; of one that is long and has no pattern the type, shape and size."""
    again = eval(written.pasted(value), {"torch": torch, "math": math})
    assert (again.dtype, again.shape, again.device) == (value.dtype, value.shape, value.device)
    assert value.device.type == "meta" or torch.equal(again, value)
    assert written.pasted(torch.linspace(-8e4, 5, 50)) == "torch.empty((50,)).uniform_(-80000, 5)"
    assert written.remark(torch.ones(3, 4).T) == "  # not contiguous"


def test_what_is_long_is_cut_between_its_items() -> None:
    """With the number of items; a dict among other answers leaves them the room."""
    assert written.container(list(range(90)), repr, 35) == ("[0, 1, ..., 88, 89]", "  # 90 items")
    assert written.container("x" * 90, repr, 40) == (f"'{'x' * 10}...'", "  # 90 characters")
    assert written.container({f"w{i}": torch.ones(2) for i in range(9)}, str, 30) == ("{...}", "  # 9 tensors")
    groups = [{"params": [torch.ones(2), torch.ones(3)], "weight_decay": 0.3}]
    assert written.told(groups) == "{'params': [2 tensors], 'weight_decay': 0.3}"
    assert written.told((dict.fromkeys(range(100), b"x"), [(b"a", b"b")])) == "(<dict of 100>, [(b'a', b'b')])"


@pytest.mark.parametrize(
    ("actual", "expected", "what", "said"),
    [
        (torch.ones(2), torch.zeros(2), "the logits", "The logits are wrong at [0], where yours has 1.0 (2 of 2 values differ)."),
        (torch.ones(1), torch.zeros(1), "the loss of all rows", "The loss of all rows is wrong: yours is 1.0."),
        (torch.full((2,), math.nan), torch.zeros(2), "loss and norm", "Loss and norm hold NaN at [0]."),
        (None, torch.zeros(2), "the bias", "The bias must be a tensor; yours is None."),
        (Opaque("tensor of torch.float64, torch.sparse_coo"), torch.zeros(2), "the gradient",
         "The gradient must be a dense tensor; yours is a tensor of torch.float64, torch.sparse_coo."),
        (0.5, 1, "the step", "The step must be an int; yours is a float: 0.5."),
        ((torch.ones(1), 2), torch.ones(1), "it", "It must be a tensor; yours is a tuple: (tensor [1.0], 2)."),
        ([4], [3], "ids after the call", "Ids after the call at [0] are wrong: yours is 4."),
    ],
)  # fmt: skip
def test_what_a_comparison_says(actual: object, expected: object, what: str, said: str) -> None:
    """In whole sentences."""
    with pytest.raises(CheckFailed) as failed:
        assert_close(actual, expected, what=what)
    assert str(failed.value) == said


def test_an_answer_that_a_question_chokes_on_is_no_known_mistake(toy: Assignment) -> None:
    """The battery was written for other answers; nobody loses a grade for it."""
    doctor = diagnosis.Doctor(toy)
    doctor._known("softmax")
    asked = diagnosis.Battery("softmax", lambda ask: [ask.softmax(torch.ones(2))[0]["no such place"]])
    doctor.bank.batteries["softmax"] = asked
    assert doctor.diagnose("softmax", diagnosis.notebook(toy.reference_cells())) == ()
