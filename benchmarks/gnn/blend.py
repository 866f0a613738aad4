r"""The transformer and a graph model blended, on MovieLens-1M, against each alone.

The graph model's share is the best of eleven on the validation items; then the test items are
looked at, once, with paired bootstrap intervals over users.

    python -m benchmarks.gnn.blend --data ../shared/data/ml-1m \
        --transformer max_length=200 precision=bfloat16 epochs=12 patience=0 dropout=0.2
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.gnn.quality import size_of
from benchmarks.transformer.movielens import TEST, VALID, K, read_sequences
from benchmarks.transformer.quality import option
from training.bootstrap import bootstrap_mean, paired_bootstrap
from training.candidates import blend
from training.models import MODELS, FitContext, Model
from training.snapshot import Snapshot
from training.topk import ItemLists, top_k

SHARES = [round(0.1 * tenth, 1) for tenth in range(11)]
_INTERVAL = {"resamples": 1000, "confidence": 0.95, "seed": 0}
_USERS = 512


def main() -> int:
    """Fits both, chooses the share on validation items, and prints what holds on test items."""
    options = _parser().parse_args()
    snapshot = read_sequences(options.data)
    models = []
    for name, changes in (("transformer", options.transformer), (options.model, options.set)):
        config = size_of(name, "small") | dict(changes)
        print(f"{name} {config}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            context = FitContext(
                0, Path(folder), "ml-1m", cpus_per_worker=options.threads, progress=_say
            )
            models.append(MODELS[name].fit(snapshot, config, context))
    valid = {share: gains(models, share, snapshot, VALID) for share in SHARES}
    for share, gain_U in valid.items():
        print(f"valid, {options.model} {share:.1f}: NDCG@{K} {gain_U.mean():.4f}", flush=True)
    chosen = max(SHARES, key=lambda share: valid[share].mean())
    test = {share: gains(models, share, snapshot, TEST) for share in (0.0, 1.0, chosen)}
    for name, share in (("transformer", 0.0), (options.model, 1.0), ("blend", chosen)):
        print(f"test, {name}: {_interval(bootstrap_mean(test[share], **_INTERVAL))}")
    for name, share in (("transformer", 0.0), (options.model, 1.0)):
        difference = paired_bootstrap(test[chosen], test[share], **_INTERVAL)
        print(f"test, blend with {chosen} less {name}: {_interval(difference)}")
    return 0


def gains(models: list[Model], share: float, snapshot: Snapshot, moment: int) -> np.ndarray:
    """(U,) NDCG@10 of each user's one item at a moment, seen items left out of the lists."""
    target_U = snapshot.items[snapshot.timestamps == moment]
    found = []
    for start in range(0, len(target_U), _USERS):
        users = np.arange(start, min(start + _USERS, len(target_U)))
        histories = snapshot.histories(users, moment)
        scores = [model.score(histories) for model in models]
        score_BN, _ = blend(scores, [1 - share, share])
        seen = ItemLists.from_pairs(histories.rows(), histories.items, len(users))
        lists_BK, _ = top_k(score_BN, K, exclude=seen)
        hit_BK = lists_BK == target_U[users][:, None]
        found.append((hit_BK / np.log2(2 + np.arange(K))).sum(1))
    return np.concatenate(found)


def _interval(found: tuple[float, float, float]) -> str:
    return "{:.4f} [{:.4f}, {:.4f}]".format(*found)


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of ml-1m")
    parser.add_argument("--model", default="gnn", help="the graph model")
    parser.add_argument("--set", nargs="+", type=option, default=[], metavar="OPTION=VALUE")
    parser.add_argument("--transformer", nargs="+", type=option, default=[], metavar="OPTION=VALUE")
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
