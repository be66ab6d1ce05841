import torch
from autograder.diagnosis import battery, change, honest, misconception
X = torch.tensor([[1., 2.], [3., 5.]])

@battery("softmax")
def q(ask):
    return [ask.softmax(X), ask.softmax(X, dim=0), ask.observe("softmax", X, inputs=True).inputs_after]

@misconception(task="softmax", advice="Use dim.")
def ignores_dim(source):
    """dim is ignored."""
    return change(source, "dim=dim", "dim=-1", count=2)

@misconception(task="softmax", advice="Endless.")
def mutates(source):
    """The input is changed."""
    return change(source, "torch.exp(x - x.amax(dim=dim, keepdim=True))", "x.sub_(x.amax(dim=dim, keepdim=True)).exp()")

@misconception(task="softmax", advice="no exp")
def no_exp(source):
    """No exp."""
    return change(source, "torch.exp(x - x.amax(dim=dim, keepdim=True))", "x")

@honest(task="softmax")
def clean(source):
    """Same with logsumexp."""
    return "def softmax(x, dim=-1):\n    return (x - torch.logsumexp(x, dim, keepdim=True)).exp()"
