import torch

from autograder.diagnosis import battery, change, misconception

X = torch.tensor([[1.0, 2.0], [3.0, 5.0]])


@battery("softmax")
def questions(ask):
    return [ask.softmax(X), ask.softmax(X, dim=0)]


@battery("double")
def more_questions(ask):
    return [ask.double(X)]


@misconception(task="softmax", advice="Use dim.")
def ignores_dim(source):
    """dim is ignored."""
    return change(source, "dim=dim", "dim=-1", count=2)


@misconception(task="double", advice="Add, do not multiply.")
def squares(source):
    """The input is squared."""
    return change(source, "x + x", "x * x")
