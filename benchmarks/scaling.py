r"""Seconds of an epoch for two Ray workers of one thread against one worker of two threads.

Both do the same work on the same cores, in turns; the efficiency of two workers is the second over
the first. The transformer learns MovieLens-1M, the graph model Gowalla.

    python -m benchmarks.scaling --model transformer --data ../shared/data/ml-1m \
        --set max_length=200
    python -m benchmarks.scaling --model gnn --data ../shared/data/gowalla
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.gnn.interactions import read_likes, snapshot_of
from benchmarks.gnn.quality import size_of
from benchmarks.transformer.movielens import read_sequences
from benchmarks.transformer.quality import option
from training.models import MODELS, FitContext
from training.snapshot import Snapshot


def main() -> int:
    """Prints each round, the medians and their ratio."""
    options = _parser().parse_args()
    snapshot = _READERS[options.model](options.data)
    config = size_of(options.model, "small") | {"patience": 0, "epochs": 1} | dict(options.set)
    print(f"{options.model} {config}", flush=True)
    shapes = ((2, 1), (1, 2))
    seconds: dict[tuple[int, int], list[float]] = {shape: [] for shape in shapes}
    for number in range(options.rounds):
        for workers, threads in shapes:
            with tempfile.TemporaryDirectory() as folder:
                context = FitContext(
                    0, Path(folder), "scaling", num_workers=workers, cpus_per_worker=threads
                )
                facts = MODELS[options.model].fit(snapshot, config, context).fit_facts
            seconds[workers, threads].append(facts["training_seconds"] / facts["epochs"])
            print(
                f"round {number + 1}: {workers} x {threads} threads, "
                f"{seconds[workers, threads][-1]:.1f} s an epoch, loss {facts['last_loss']:.4f}",
                flush=True,
            )
    two, one = (statistics.median(seconds[shape]) for shape in shapes)
    print(f"2 x 1 thread {two:.1f} s, 1 x 2 threads {one:.1f} s: efficiency {one / two:.2f}")
    return 0


def _likes(folder: Path) -> Snapshot:
    return snapshot_of(read_likes(folder, tuning=True), judged="valid")


_READERS = {"transformer": read_sequences, "gnn": _likes}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(_READERS), required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of ml-1m or gowalla")
    parser.add_argument("--set", nargs="+", type=option, default=[], metavar="OPTION=VALUE")
    parser.add_argument("--rounds", type=int, default=3)
    return parser


if __name__ == "__main__":
    sys.exit(main())
