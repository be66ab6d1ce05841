"""Train the reference model on the Shakespeare text, with one command and without Jupyter.

    python -m autograder.pretrain                      remake data/shakespeare.safetensors
    python -m autograder.pretrain --recipe gpu         nanoGPT's character setting, for a CUDA machine
    python -m autograder.pretrain --recipe band --seed 1 --curve curve.json

The training code is not here: it is the reference solution of the notebook `training`, read from the folder of
solutions and run as it stands. This module chooses a recipe, watches, and writes the result down. What the recipe
`gpu` gave on an H200 is kept in tests/benchmarks/curve_gpu.json, the three runs of `band` in curves.json beside it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from autograder.assignment import read_assignment
from autograder.data import shakespeare
from autograder.shell import Shell, nothing_is_drawn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parent.parent
SOLUTIONS = ROOT / "solutions"
CHECKPOINT = ROOT / "data" / "shakespeare.safetensors"

# These are `nn.Linear` in our model and `Conv1D` in GPT-2's own files, which keep the transpose.
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


@dataclass(frozen=True)
class Recipe:
    """A model and how to train it; the names are those of `GPTConfig` and `TrainConfig`."""

    model: dict[str, int | float | bool]
    training: dict[str, int | float]
    cuda_autocast: torch.dtype | None = None


@dataclass
class Run:
    """What a training run left: the evaluations, and the weights of the best of them."""

    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    validation_loss: float = float("inf")
    seconds: float = 0.0


RECIPES = {
    # The small model in data/: about twenty minutes of one core.
    "checkpoint": Recipe(
        model={"block_size": 128, "n_layer": 4, "n_head": 4, "d_model": 128, "dropout": 0.0},
        training={
            "total_steps": 6000,
            "batch_size": 16,
            "block_size": 128,
            "peak": 2e-3,
            "floor": 1e-4,
            "warmup_steps": 200,
            "weight_decay": 0.1,
            "eval_interval": 500,
        },
    ),
    # nanoGPT's setting for a small machine; tests/benchmarks/bench_band.py holds its validation loss to a band.
    "band": Recipe(
        model={"block_size": 64, "n_layer": 4, "n_head": 4, "d_model": 128, "dropout": 0.0},
        training={
            "total_steps": 2000,
            "batch_size": 12,
            "block_size": 64,
            "peak": 1e-3,
            "floor": 1e-4,
            "warmup_steps": 100,
            "weight_decay": 0.1,
            "eval_interval": 250,
        },
    ),
    # nanoGPT's character setting for a GPU.
    "gpu": Recipe(
        model={"block_size": 256, "n_layer": 6, "n_head": 6, "d_model": 384, "dropout": 0.2},
        training={
            "total_steps": 5000,
            "batch_size": 64,
            "block_size": 256,
            "peak": 1e-3,
            "floor": 1e-4,
            "warmup_steps": 100,
            "weight_decay": 0.1,
            "eval_interval": 250,
        },
        cuda_autocast=torch.bfloat16,
    ),
}


def reference(name: str = "training") -> Shell:
    """The reference of an assignment, run: its given cells and its solutions. Plots need not be installed."""
    notebook = Shell(f"reference_{name}")
    with nothing_is_drawn():
        for cell, source in read_assignment(SOLUTIONS / name).reference_cells():
            notebook.run(cell, source)
    return notebook


def run(recipe: Recipe, *, seed: int, device: str, keep: Callable[[Run], None] = lambda _: None) -> Run:
    """Train a recipe with the reference's own `train`; `keep` is called whenever the model is the best so far."""
    ours = reference().namespace
    text = shakespeare()
    index = {character: number for number, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([index[character] for character in text])
    train_ids, val_ids = ids[: int(0.9 * len(ids))], ids[int(0.9 * len(ids)) :]

    torch.manual_seed(seed)
    model = ours["GPT"](ours["GPTConfig"](vocab_size=len(index), **recipe.model)).to(device)
    autocast = recipe.cuda_autocast if device.startswith("cuda") else None
    config = ours["TrainConfig"](**recipe.training, seed=seed, autocast_dtype=autocast)
    result, begun, evaluate = Run(), time.monotonic(), ours["evaluate"]

    def watched(model: torch.nn.Module, *arguments: object) -> float:
        """Evaluate, say so, and keep the weights if they are the best so far."""
        loss: float = evaluate(model, *arguments)
        if loss < result.validation_loss:
            result.validation_loss = loss
            result.best = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
            keep(result)
        print(f"{time.monotonic() - begun:7.0f} s   validation loss {loss:.4f}", file=sys.stderr, flush=True)
        return loss

    ours["evaluate"] = watched  # `train` looks the name up when it calls it
    result.history = ours["train"](model, train_ids, val_ids, config)
    result.seconds = time.monotonic() - begun
    return result


def save_gpt2(path: Path, weights: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write weights as Hugging Face keeps GPT-2's, in half precision; the head is tied and so not repeated."""
    from safetensors.torch import save_file  # noqa: PLC0415  only writing needs it

    tensors = {
        name: (tensor.T if name.endswith(TRANSPOSED) else tensor).half().contiguous()
        for name, tensor in weights.items()
        if name != "lm_head.weight"
    }
    save_file(tensors, path, metadata={"format": "pt", **metadata})
    path.chmod(0o644)  # safetensors leaves it readable by its owner only


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and write the checkpoint, the curve, or both."""
    parser = argparse.ArgumentParser(prog="python -m autograder.pretrain", description="Train the reference model.")
    parser.add_argument("--recipe", choices=RECIPES, default="checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="where the checkpoint goes (for `checkpoint`: data/)")
    parser.add_argument("--curve", type=Path, help="write the evaluations here, as JSON")
    chosen = parser.parse_args(arguments)
    output = chosen.output or (CHECKPOINT if chosen.recipe == "checkpoint" else None)
    if output and importlib.util.find_spec("safetensors") is None:
        parser.error("writing a checkpoint needs the package safetensors")

    recipe = RECIPES[chosen.recipe]
    on_gpu = chosen.device.startswith("cuda")
    where = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} CPU threads"

    def keep(result: Run) -> None:
        """Write the checkpoint anew: a run that is stopped leaves the best model so far."""
        if output:
            save_gpt2(
                output,
                result.best,
                {
                    "config": json.dumps(
                        {
                            "vocab_size": len(set(shakespeare())),
                            "bias": True,
                            **{name: value for name, value in recipe.model.items() if name != "dropout"},
                        }
                    ),
                    "characters": json.dumps("".join(sorted(set(shakespeare())))),
                    "validation_loss": f"{result.validation_loss:.4f}",
                    "recipe": json.dumps({"model": recipe.model, "training": recipe.training, "seed": chosen.seed}),
                },
            )

    result = run(recipe, seed=chosen.seed, device=chosen.device, keep=keep)
    summary = (
        f"{recipe.training['total_steps']} steps in {result.seconds:.0f} s on {where}, "
        f"torch {torch.__version__}, seed {chosen.seed}"
    )
    print(f"{summary}: best validation loss {result.validation_loss:.4f}", file=sys.stderr)
    if chosen.curve:
        chosen.curve.write_text(json.dumps({"run": summary, "history": result.history}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
