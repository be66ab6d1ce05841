"""What grading one correct submission costs, beyond the sandbox's start: `python tests/benchmarks/bench_grading.py`.

Everything runs on one core (grader, sandbox and worker together), so seconds of wall clock are seconds of that core.
`first`: the first of a class, for which examples are drawn and the reference is asked; `each`: every further one.
Beside it, in the same run and in turn, what a fresh Python process needs to import torch: the least that grading costs
where each submission gets a process of its own.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 5


def main() -> None:
    """Print a row for each assignment."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ["OMP_NUM_THREADS"] = "1"
    from autograder.assignment import assignments, find_solutions, read_assignment
    from autograder.grader import Grader, Options
    from autograder.notebook import to_ipynb

    solutions = find_solutions(Path.cwd())
    chosen = sys.argv[1:] or assignments(solutions)
    print(f"{'assignment':12} {'first, s':>9} {'each, s':>8} {'import torch, s':>16} {'ratio':>6}   (medians of {ROUNDS}, one core)")
    with Grader(solutions, Options(isolation="none")) as grader:
        level = grader.zygote.level  # starts it
        for name in chosen:
            notebook = to_ipynb(read_assignment(solutions / name).filled())
            began = time.monotonic()
            report = grader.grade(notebook, assignment=name)
            first = time.monotonic() - began
            if report.score != report.max_score:
                message = f"{name}: the reference gets {report.score} of {report.max_score}"
                raise SystemExit(message)
            grading, importing = [], []
            for _ in range(ROUNDS):
                began = time.monotonic()
                grader.grade(notebook, assignment=name)
                grading.append(time.monotonic() - began)
                began = time.monotonic()
                subprocess.run([sys.executable, "-c", "import torch"], check=True)
                importing.append(time.monotonic() - began)
            ours, theirs = statistics.median(grading), statistics.median(importing)
            print(f"{name:12} {first:9.2f} {ours:8.2f} {theirs:16.2f} {ours / theirs:6.2f}   isolation {level}")


if __name__ == "__main__":
    main()
