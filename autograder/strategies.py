"""Hypothesis strategies for tensors: shapes are drawn, values come from a drawn seed.

Hypothesis then shrinks dimensions and the seed, which is quick, and the smallest failing example stays readable:
values lie on a grid of tenths. What weak tests hold still varies here: dimensions differ pairwise, tensors come
strided and in several dtypes, masks hide whole rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

SEEDS = st.integers(0, 2**16)


def values(seed: int, *shape: int, scale: float = 3.0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """A tensor of this shape with values from `-scale` to `scale` in steps of a tenth; the same for the same seed."""
    steps = int(scale * 10)
    grid = torch.randint(-steps, steps + 1, shape, generator=torch.Generator().manual_seed(seed))
    return (grid.to(torch.float64) / 10).to(dtype)


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """The same values, not contiguous in memory."""
    if tensor.dim() >= 2:  # noqa: PLR2004 - a transposition needs two
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    return torch.stack([tensor, tensor + 1], dim=-1)[..., 0]


@st.composite
def sizes(draw: DrawFn, /, **bounds: tuple[int, int]) -> dict[str, int]:
    """Named dimensions, each within its bounds (inclusive) and, where the bounds allow, no two the same."""
    taken: dict[str, int] = {}
    for name, (low, high) in bounds.items():
        free = [size for size in range(low, high + 1) if size not in taken.values()] or list(range(low, high + 1))
        taken[name] = draw(st.sampled_from(free))
    return taken


def leading() -> SearchStrategy[tuple[int, ...]]:
    """Leading dimensions: none, one, or two."""
    return st.sampled_from([(), (2,), (2, 3)])


@st.composite
def tensors(
    draw: DrawFn,
    *shapes: str | Sequence[str],
    bounds: Mapping[str, tuple[int, int]] | None = None,
    batch: bool = True,
    scale: float = 3.0,
    dtypes: Sequence[torch.dtype] = (torch.float64,),
    layouts: bool = True,
) -> tuple[torch.Tensor, ...]:
    """One tensor for each of `shapes`, which share their letters' sizes: `tensors("TD", "SD", "SE")`.

    Letters draw from `bounds` (1 to 5 unless given), pairwise different where possible; `batch` puts the same none, one
    or two leading dimensions before each; `layouts` makes some of them non-contiguous. Always a tuple.
    """
    bounds = bounds or {}
    letters = sorted({letter for shape in shapes for letter in shape})
    size = draw(sizes(**{letter: bounds.get(letter, (1, 5)) for letter in letters}))
    front = draw(leading()) if batch else ()
    dtype = draw(st.sampled_from(list(dtypes)))
    seed = draw(SEEDS)
    made = [
        values(seed + index, *front, *(size[letter] for letter in shape), scale=scale, dtype=dtype)
        for index, shape in enumerate(shapes)
    ]
    if layouts and draw(st.booleans()):
        made = [strided(tensor) for tensor in made]
    return tuple(made)


def boolean_mask(seed: int, *shape: int, empty_rows: bool = True) -> torch.Tensor:
    """A random boolean mask; with `empty_rows` now and then a row that hides everything, else never one."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < 0.6  # noqa: PLR2004 - rather more seen than hidden
    if empty_rows:
        return mask & (torch.rand(*shape[:-1], 1, generator=generator) > 0.25)  # noqa: PLR2004
    first = torch.randint(shape[-1], (*shape[:-1], 1), generator=generator)
    return mask | (torch.arange(shape[-1]) == first)
