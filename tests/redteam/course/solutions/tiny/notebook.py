# ---
# jupyter: {}
# ---

# %% [markdown]
# # Tiny: two small tasks, for the red team
#
# The first is answered honestly in every hostile notebook, the second is attacked.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import torch
from torch.nn import functional as F

# %% nbgrader={"grade": false, "grade_id": "double", "locked": false, "schema_version": 3, "solution": true, "task": false}
def double(x):
    """Twice the tensor `x`."""
    ### BEGIN SOLUTION
    return x + x
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test_double", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert double(torch.tensor(2.0)) == 4

# %% nbgrader={"grade": false, "grade_id": "softmax", "locked": false, "schema_version": 3, "solution": true, "task": false}
def softmax(x, dim=-1):
    """Softmax over `dim`, stable for large inputs."""
    ### BEGIN SOLUTION
    e = torch.exp(x - x.amax(dim=dim, keepdim=True))
    return e / e.sum(dim=dim, keepdim=True)
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test_softmax", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
assert softmax(torch.zeros(2)).tolist() == [0.5, 0.5]
