"""Times the reference tokenizer beside others, in one run: `python tests/benchmarks/bench_tokenizer.py`.

* train_bpe on the course's text to 1,000 ids, a trainer that recounts after each merge, the `tokenizers` package's trainer;
* BPETokenizer.encode with GPT-2's vocabulary on the same text, and tiktoken.

Each measurement is a process of its own: processor time of one thread, and its peak memory. Exit status 1 where a
goal is missed. `--repeat N` takes the quickest of N (the recounting trainer runs once).
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IDS = 1000


def reference():
    """The names that the filled notebook defines."""
    from autograder.assignment import read_assignment
    from autograder.shell import Shell

    shell = Shell("reference_tokenizer")
    for name, source in read_assignment(ROOT / "solutions" / "tokenizer").reference_cells():
        shell.run(name, source)
    return shell.namespace


def train_reference(text):
    """The reference trainer."""
    train = reference()["train_bpe"]
    return lambda: train(text, IDS)


def train_recounting(text):
    """A trainer that keeps equal pre-tokens together, but counts all pairs anew after each merge."""
    book = reference()

    def train():
        words = {tuple(word.encode()): n for word, n in Counter(book["GPT2_PATTERN"].findall(text)).items()}
        vocab = {i: bytes([i]) for i in range(256)}
        merges = []
        while len(vocab) < IDS:
            counts = {}
            for word, n in words.items():
                for pair in itertools.pairwise(word):
                    counts[pair] = counts.get(pair, 0) + n
            a, b = best = max(counts, key=lambda pair: (counts[pair], vocab[pair[0]], vocab[pair[1]]))
            merges.append((vocab[a], vocab[b]))
            vocab[len(vocab)] = vocab[a] + vocab[b]
            last = len(vocab) - 1
            words = {(tuple(book["merge"](word, best, last)) if a in word else word): n for word, n in words.items()}
        return vocab, merges

    return train


def train_tokenizers(text):
    """The trainer of the `tokenizers` package, which is written in Rust, on one thread."""
    os.environ["RAYON_NUM_THREADS"] = "1"
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def train():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=IDS, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator([text], trainer)
        return tokenizer

    return train


def encode_reference(text):
    """The reference with GPT-2's vocabulary; a new tokenizer each time, so that it remembers no word."""
    from autograder.data import gpt2_merges

    book = reference()
    vocab, merges = book["gpt2_vocabulary"](), gpt2_merges()
    return lambda: book["BPETokenizer"](vocab, merges, ["<|endoftext|>"]).encode(text)


def encode_tiktoken(text):
    """tiktoken's gpt2, which is written in Rust."""
    from autograder.data import gpt2_encoding

    encoding = gpt2_encoding()
    return lambda: encoding.encode(text)


MEASURED = {
    function.__name__: function
    for function in (train_reference, train_recounting, train_tokenizers, encode_reference, encode_tiktoken)
}


def measure(name, repeat):
    """One measurement, in this process."""
    from autograder.data import shakespeare

    work = MEASURED[name](shakespeare())
    seconds = []
    for _ in range(1 if name == "train_recounting" else repeat):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return {"seconds": min(seconds), "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main():
    """Measure all, print the table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=MEASURED, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.repeat)))
        return 0
    found = {}
    for name in MEASURED:
        command = [sys.executable, __file__, "--only", name, "--repeat", str(options.repeat)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name:18} {found[name]['seconds']:8.3f} s {found[name]['mib']:7.0f} MiB at its peak", flush=True)
    seconds = {name: row["seconds"] for name, row in found.items()}
    goals = [
        ("train_bpe is faster than recounting", seconds["train_recounting"] / seconds["train_reference"], ">=", 10),
        ("train_bpe against `tokenizers`", seconds["train_reference"] / seconds["train_tokenizers"], "<=", 30),
        ("encode against tiktoken", seconds["encode_reference"] / seconds["encode_tiktoken"], "<=", 40),
    ]
    missed = 0
    for what, ratio, sign, goal in goals:
        held = ratio >= goal if sign == ">=" else ratio <= goal
        missed += not held
        print(f"{what}: {ratio:.1f} times (goal {sign} {goal}){'' if held else '  MISSED'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
