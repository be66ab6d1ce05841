import torch
from hypothesis import given

from autograder.compare import assert_close
from autograder.strategies import tensors
from autograder.suite import task

NOT_ALLOWED = {"softmax": ("softmax", "Softmax", "log_softmax")}


@task("double", examples=3)
@given(tensors("TD"))
def test_double(student, reference, x):
    """The result is twice the input."""
    assert_close(student.double(x[0]), reference.double(x[0]))


@task("softmax", weight=3, examples=3)
@given(tensors("TD"))
def test_values(student, reference, x):
    """The result equals exp(x) divided by its sum."""
    assert_close(student.softmax(x[0]), reference.softmax(x[0]))


@task("softmax", weight=1, examples=3, needs="test_values")
@given(tensors("TD"))
def test_dim(student, reference, x):
    """The sum goes over dim."""
    assert_close(student.softmax(x[0], dim=0), reference.softmax(x[0], dim=0))


@task("softmax", weight=1, needs="test_values")
def test_input_untouched(student, reference):
    """The input is left as it was."""
    x = torch.ones(2, 3)
    assert_close(student.observe("softmax", x, inputs=True).inputs_after[0], x)
