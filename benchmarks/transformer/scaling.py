"""Seconds of an epoch for two Ray workers of one thread against one worker of two threads.

Both do the same work on the same cores, in turns; the efficiency of two workers is the second over
the first. Beside it, the share of padding among the tokens of a batch.

    python -m benchmarks.transformer.scaling --data ../shared/data/ml-1m --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml

from benchmarks.transformer.movielens import read_sequences
from benchmarks.transformer.quality import CONFIG, option
from training.models.base import FitContext, train_items
from training.models.next_item_arrays import training_arrays
from training.models.sequences import length_buckets
from training.models.transformer import Transformer
from training.snapshot import Snapshot


def main() -> int:
    """Prints each round, the medians and their ratio."""
    options = _parser().parse_args()
    snapshot = read_sequences(options.data)
    config = yaml.safe_load(CONFIG.read_text())["sizes"]["small"] | {
        "max_length": 200,
        "patience": 0,
        "epochs": 2,
        **dict(options.set),
    }
    print(f"padding: {_padding(snapshot, config):.1%} of the tokens of batches")
    shapes = ((2, 1), (1, 2))
    seconds: dict[tuple[int, int], list[float]] = {shape: [] for shape in shapes}
    for number in range(options.rounds):
        for workers, threads in shapes:
            with tempfile.TemporaryDirectory() as folder:
                context = FitContext(
                    0, Path(folder), "ml-1m", num_workers=workers, cpus_per_worker=threads
                )
                facts = Transformer.fit(snapshot, config, context).fit_facts
            seconds[workers, threads].append(facts["training_seconds"] / facts["epochs"])
            print(
                f"round {number + 1}: {workers} x {threads} threads, "
                f"{seconds[workers, threads][-1]:.1f} s an epoch, loss {facts['last_loss']:.4f}",
                flush=True,
            )
    two, one = (statistics.median(seconds[shape]) for shape in shapes)
    print(f"2 x 1 thread {two:.1f} s, 1 x 2 threads {one:.1f} s: efficiency {one / two:.2f}")
    return 0


def _padding(snapshot: Snapshot, config: dict[str, int]) -> float:
    item_ids, _ = train_items(snapshot, snapshot.positives(None, snapshot.valid_start))
    length = training_arrays(snapshot, item_ids, config["max_length"])["window.length"]
    batches = length_buckets(length, config["batch_tokens"], 64, np.random.default_rng(0))
    padded = sum(len(windows) * int(length[windows].max()) for windows in batches)
    return 1 - length.sum() / padded


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of ml-1m")
    parser.add_argument("--set", nargs="+", type=option, default=[], metavar="OPTION=VALUE")
    parser.add_argument("--rounds", type=int, default=3)
    return parser


if __name__ == "__main__":
    sys.exit(main())
