r"""What the graph models reach on published splits, and how fast.

What was tuned saw held-out training likes only (`--part valid`, the default); `--part test` trains
on all of them and looks at the test part. `--against` fits the model a second time with some other
options and tells the difference with its interval; `--beside` blends the model with another.

    python -m benchmarks.gnn.quality --data ../shared/data/gowalla --model spectral --size full
    python -m benchmarks.gnn.quality --data ../shared/data/lastfm --model gnn \
        --set social_weight=0.5 --against social_weight=0.0
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.gnn.interactions import VALID, Likes, judge, read_likes, snapshot_of, with_media
from benchmarks.transformer.quality import option
from training.bootstrap import bootstrap_mean, paired_bootstrap
from training.candidates import blend
from training.models import MODELS, FitContext, Model
from training.snapshot import Snapshot

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "models"
_INTERVAL = {"resamples": 1000, "confidence": 0.95, "seed": 0}


def main() -> int:
    """Fits once a seed and prints each one's figures and their mean."""
    options = _parser().parse_args()
    likes = read_likes(options.data, tuning=options.part == "valid", popular=options.popular)
    if options.media:
        likes = with_media(likes, tuple(options.media))
    snapshot = snapshot_of(likes, judged=options.part)
    config = size_of(options.model, options.size) | dict(options.set)
    print(
        f"{len(snapshot.user_ids):,} users, {len(snapshot.catalogue):,} items, "
        f"{likes.train.shape[1]:,} likes, {options.model} {config}",
        flush=True,
    )
    found: list[dict[str, np.ndarray]] = []
    other: list[dict[str, np.ndarray]] = []
    for seed in options.seeds:
        model = _fit(options, options.model, snapshot, config, seed)
        found.append(_judge(f"seed {seed}", model, likes, snapshot, options.part))
        if options.against:
            rival = _fit(options, options.model, snapshot, config | dict(options.against), seed)
            named = " ".join(f"{name}={value}" for name, value in options.against)
            other.append(_judge(f"seed {seed} {named}", rival, likes, snapshot, options.part))
        if options.beside:
            second = size_of(options.beside, options.beside_size)
            rival = _fit(options, options.beside, snapshot, second, seed)
            _judge(f"seed {seed} {options.beside}", rival, likes, snapshot, options.part)
            for share in options.shares:
                both = blended(snapshot, {model: 1 - share, rival: share})
                named = f"seed {seed} blend with {share:g} {options.beside}"
                _judge(named, both, likes, snapshot, options.part)
    for name in found[0]:
        own_U = np.mean([one[name] for one in found], axis=0)
        line = f"{name} {_interval(bootstrap_mean(own_U, **_INTERVAL))}"
        if other:
            their_U = np.mean([one[name] for one in other], axis=0)
            line += f", against {their_U.mean():.4f}: "
            line += _interval(paired_bootstrap(own_U, their_U, **_INTERVAL))
        print(line)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.1f} GiB")
    return 0


def size_of(model: str, size: str) -> dict[str, Any]:
    """The options of a size of a model."""
    sizes = yaml.safe_load((CONFIGS / f"{model}.yaml").read_text())["sizes"]
    return dict(sizes[size])


def blended(snapshot: Snapshot, shares: Mapping[Model, float]) -> Callable[[np.ndarray], Any]:
    """(B, N) scores of some users as the candidates blend them."""

    def score(users: np.ndarray) -> np.ndarray:
        histories = snapshot.histories(users, VALID)
        return blend([model.score(histories) for model in shares], list(shares.values()))[0]

    return score


def _fit(
    options: argparse.Namespace, name: str, snapshot: Snapshot, config: dict[str, Any], seed: int
) -> Model:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        context = FitContext(
            seed, Path(folder), options.data.name, cpus_per_worker=options.threads, progress=_say
        )
        model = MODELS[name].fit(snapshot, config, context)
    print(f"{name} fitted in {time.perf_counter() - began:.0f} s", flush=True)
    return model


def _judge(
    named: str, score: Any, likes: Likes, snapshot: Snapshot, part: str
) -> dict[str, np.ndarray]:
    began = time.perf_counter()
    figures = judge(score, likes, snapshot, part)
    line = ", ".join(f"{name} {value.mean():.4f}" for name, value in figures.items())
    print(f"{named}: {line}, judged in {time.perf_counter() - began:.0f} s", flush=True)
    return figures


def _interval(found: tuple[float, float, float]) -> str:
    return "{:.4f} [{:.4f}, {:.4f}]".format(*found)


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--model", default="spectral", choices=sorted(MODELS))
    parser.add_argument("--size", default="full")
    parser.add_argument("--set", nargs="+", type=option, default=[], metavar="OPTION=VALUE")
    parser.add_argument("--against", nargs="+", type=option, default=[], metavar="OPTION=VALUE")
    parser.add_argument("--beside", choices=sorted(MODELS), help="a model to blend with")
    parser.add_argument("--beside-size", default="full")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.5], help="of that model")
    parser.add_argument("--media", nargs="+", help="those that are known of the items; default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--popular",
        type=float,
        default=1.0,
        help="of gowalla: how much likelier the likes of the most liked items are held out",
    )
    parser.add_argument("--part", choices=("valid", "test"), default="valid")
    return parser


if __name__ == "__main__":
    sys.exit(main())
