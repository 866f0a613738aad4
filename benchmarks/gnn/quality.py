"""What the graph models reach on published splits, and how fast.

What was tuned saw held-out training likes only (`--part valid`, the default); `--part test` trains
on all of them and looks at the test part.

    python -m benchmarks.gnn.quality --data ../shared/data/gowalla --model spectral --size full
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from benchmarks.gnn.interactions import judge, read_likes, snapshot_of
from benchmarks.transformer.quality import option
from training.models import MODELS, FitContext

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "models"


def main() -> int:
    """Fits once a seed and prints each one's figures and their mean."""
    options = _parser().parse_args()
    likes = read_likes(options.data, tuning=options.part == "valid")
    snapshot = snapshot_of(likes, judged=options.part)
    size = yaml.safe_load((CONFIGS / f"{options.model}.yaml").read_text())["sizes"][options.size]
    config = size | dict(options.set)
    print(
        f"{len(snapshot.user_ids):,} users, {len(snapshot.catalogue):,} items, "
        f"{likes.train.shape[1]:,} likes, {options.model} {config}",
        flush=True,
    )
    found = []
    for seed in options.seeds:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            context = FitContext(
                seed,
                Path(folder),
                options.data.name,
                cpus_per_worker=options.threads,
                progress=_say,
            )
            model = MODELS[options.model].fit(snapshot, config, context)
        fitted = time.perf_counter()
        figures = judge(model, likes, snapshot, options.part)
        found.append({name: float(value.mean()) for name, value in figures.items()})
        print(
            f"seed {seed}: {_line(found[-1])}, fitted in {fitted - began:.0f} s, judged in "
            f"{time.perf_counter() - fitted:.0f} s",
            flush=True,
        )
    mean = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"mean: {_line(mean)}, peak memory {peak:.1f} GiB")
    return 0


def _line(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--model", default="spectral", choices=sorted(MODELS))
    parser.add_argument("--size", default="full")
    parser.add_argument("--set", nargs="+", type=option, default=[], metavar="OPTION=VALUE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=("valid", "test"), default="valid")
    return parser


if __name__ == "__main__":
    sys.exit(main())
