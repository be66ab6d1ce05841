"""The reference's training step against plain PyTorch, tokens per second and peak memory, in one run.

Ours: the GPT given in the notebook `training` with the reference's train_step, clip_gradients and AdamW. Theirs: a GPT
of the same shape written here with F.scaled_dot_product_attention, clip_grad_norm_ and torch's fused AdamW. The two
take turns step by step, and the ratio is the median of the pairs', so that a busy machine slows both. Goal: at least 0.9.

    python tests/benchmarks/bench_training.py [cpu|cuda] [--setting band|gpu]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import nn

from autograder.data import shakespeare
from autograder.pretrain import RECIPES, reference

GOAL = 0.9
PAIRS, STEPS, WARM_UP = 120, 12, 4


class PlainBlock(nn.Module):
    """A layer as one would write it with PyTorch at hand."""

    def __init__(self, width: int, heads: int) -> None:
        """Pre-norm, no dropout."""
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, C) -> (B, T, C)."""
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class PlainGPT(nn.Module):
    """The same GPT: learned positions, tied head."""

    def __init__(self, vocabulary: int, context: int, layers: int, heads: int, width: int) -> None:
        """Weights as PyTorch draws them; the speed does not depend on them."""
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.layers = nn.Sequential(*(PlainBlock(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The loss."""
        hidden = self.tokens(x) + self.places(torch.arange(x.shape[1], device=x.device))
        logits = F.linear(self.norm(self.layers(hidden)), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())


def sides(setting: str, device: str):
    """The two steps, each a function of a batch, and the batches."""
    recipe = RECIPES[setting]
    ours = SimpleNamespace(**reference().namespace)
    text = shakespeare()
    index = {character: number for number, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([index[character] for character in text[:200_000]])
    rows, length = recipe.training["batch_size"], recipe.training["block_size"]
    autocast = recipe.cuda_autocast if device == "cuda" else None
    shape = {key: value for key, value in recipe.model.items() if key != "dropout"}

    model = ours.GPT(ours.GPTConfig(vocab_size=len(index), **shape)).to(device)
    optimizer = ours.AdamW(ours.parameter_groups(model, 0.1), lr=1e-3)

    plain = PlainGPT(len(index), shape["block_size"], shape["n_layer"], shape["n_head"], shape["d_model"]).to(device)
    theirs = torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=0.1, fused=True)

    def our_step(x, y):
        ours.train_step(model, optimizer, [(x, y)], 1.0, autocast)

    def their_step(x, y):
        theirs.zero_grad()
        with torch.autocast(device, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            loss = plain(x, y)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        theirs.step()
        return loss.item(), norm.item()

    generator = torch.Generator().manual_seed(0)
    batches = [ours.get_batch(ids, length, rows, device, generator) for _ in range(STEPS)]
    return {"reference": our_step, "plain": their_step}, batches


def timed(step, batch, device: str) -> float:
    """Tokens per second of one step."""
    begun = time.perf_counter()
    step(*batch)
    if device == "cuda":
        torch.cuda.synchronize()
    return batch[0].numel() / (time.perf_counter() - begun)


def memory_of(which: str, setting: str, device: str) -> float:
    """The peak memory of one side's steps in MiB: on a GPU what torch took, else what a process of its own grew by."""
    steps, batches = sides(setting, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        for batch in batches:
            steps[which](*batch)
        return torch.cuda.max_memory_allocated() / 2**20
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Linux forgets the peak so far
    for batch in batches:
        steps[which](*batch)
    return _status("VmHWM") - before


def _status(name: str) -> float:
    """A line of Linux's account of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**10


def main() -> int:
    """Print both sides and their ratio; 1 if it is below the goal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("device", nargs="?", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--setting", choices=("band", "gpu"))
    parser.add_argument("--memory-of", choices=("reference", "plain"))
    chosen = parser.parse_args()
    setting = chosen.setting or ("gpu" if chosen.device == "cuda" else "band")
    if chosen.memory_of:
        print(memory_of(chosen.memory_of, setting, chosen.device))
        return 0

    steps, batches = sides(setting, chosen.device)
    speeds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(-WARM_UP, PAIRS):
        for name in sorted(steps, reverse=bool(number % 2)):
            speed = timed(steps[name], batches[number % STEPS], chosen.device)
            if number >= 0:
                speeds[name].append(speed)
    memory = {
        name: float(
            subprocess.run(  # ourselves
                [sys.executable, __file__, chosen.device, "--setting", setting, "--memory-of", name],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for name in steps
    }
    ratio = statistics.median(a / b for a, b in zip(speeds["reference"], speeds["plain"], strict=True))
    print(
        json.dumps(
            {
                "setting": setting,
                "device": chosen.device,
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "tokens_per_second": {name: round(statistics.median(values)) for name, values in speeds.items()},
                "peak_memory_mib": {name: round(value, 1) for name, value in memory.items()},
                "ratio": round(ratio, 3),
                "goal": GOAL,
            },
            indent=1,
        )
    )
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    raise SystemExit(main())
