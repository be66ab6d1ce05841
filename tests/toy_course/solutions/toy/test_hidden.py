from hypothesis import given
import torch
from autograder.strategies import tensors
from autograder.suite import task
from autograder.compare import assert_close
NOT_ALLOWED = {"softmax": ("softmax", "Softmax")}

@task("softmax", weight=3)
@given(tensors("TD"))
def test_values(student, reference, x):
    """The result equals exp(x) divided by its sum."""
    assert_close(student.softmax(x[0]), reference.softmax(x[0]))

@task("softmax", weight=1)
@given(tensors("TD"))
def test_dim(student, reference, x):
    """The sum goes over dim."""
    assert_close(student.softmax(x[0], dim=0), reference.softmax(x[0], dim=0))

@task("softmax", weight=1, needs="test_values")
def test_input_untouched(student, reference):
    """The input is left as it was."""
    x = torch.ones(2, 3)
    out = student.observe("softmax", x, inputs=True)
    assert_close(out.inputs_after[0], x)
