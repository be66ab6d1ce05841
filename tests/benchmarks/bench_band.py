"""Does the reference loop still learn as well as it should, and no better?

nanoGPT's setting for a small machine (4 layers, 4 heads, 128 wide, context 64, batch 12, 2,000 steps) on the project's
text, three seeds. The validation loss of each must lie within BAND. Above it, something learns badly; below it,
something sees what it must predict: most leaks make a loss better, so a band needs both of its sides.

    python tests/benchmarks/bench_band.py            run three seeds against the band: about 6 minutes of one core
    python tests/benchmarks/bench_band.py --keep     the same, and keep the curves in curves.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from autograder.pretrain import RECIPES, run

BAND = (1.84, 1.96)
SEEDS = (0, 1, 2)
CURVES = Path(__file__).with_name("curves.json")


def main() -> int:
    """Run the seeds one after another; 1 if one of them leaves the band."""
    recipe, runs = RECIPES["band"], []
    for seed in SEEDS:
        result = run(recipe, seed=seed, device="cpu")
        runs.append({"seed": seed, "seconds": round(result.seconds), "history": result.history})
        last = result.history[-1]["val_loss"]
        print(
            f"seed {seed}: validation loss {last:.4f}, {'within' if BAND[0] <= last <= BAND[1] else 'OUTSIDE'} {BAND}"
        )
    if "--keep" in sys.argv[1:]:
        CURVES.write_text(
            json.dumps(
                {
                    "made_by": "python tests/benchmarks/bench_band.py --keep",
                    "made_on": time.strftime("%Y-%m-%d"),
                    "torch": torch.__version__,
                    "threads": torch.get_num_threads(),
                    "model": recipe.model,
                    "training": recipe.training,
                    "text": "data/shakespeare9.txt: the first nine tenths train, the last tenth validates",
                    "band": BAND,
                    "runs": runs,
                },
                indent=1,
            )
            + "\n"
        )
    return 0 if all(BAND[0] <= each["history"][-1]["val_loss"] <= BAND[1] for each in runs) else 1


if __name__ == "__main__":
    raise SystemExit(main())
