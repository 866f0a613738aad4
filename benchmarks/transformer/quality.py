"""What the transformer reaches on MovieLens-1M, ids only or with texts, and how fast.

What was tuned saw validation only; the test part is looked at when `--test` is given. With
`--cold` a share of the items is kept out of training entirely, and told from media alone; beside
them stands what the popularity of an item's genres foretells.

    python -m benchmarks.transformer.quality --data ../shared/data/ml-1m --set max_length=200
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.transformer.movielens import (
    TEST,
    VALID,
    K,
    encode_texts,
    ranked,
    read_genres,
    read_sequences,
)
from training.models.base import FitContext
from training.models.transformer import Transformer
from training.snapshot import Snapshot

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "models" / "transformer.yaml"


def main() -> int:
    """Trains once a seed and prints each one's figures and their mean."""
    options = _parser().parse_args()
    snapshot = read_sequences(options.data)
    config = yaml.safe_load(CONFIG.read_text())["sizes"]["small"] | dict(options.set)
    print(f"{len(snapshot.user_ids):,} users, {len(snapshot.catalogue):,} items, {config}")
    if options.text or options.cold:
        began = time.perf_counter()
        snapshot = replace(snapshot, content=encode_texts(options.data, snapshot.catalogue))
        print(f"texts encoded in {time.perf_counter() - began:.0f} s", flush=True)
    is_cold = np.zeros(len(snapshot.catalogue), bool)
    if options.cold:
        rng = np.random.default_rng(0)
        is_cold[rng.permutation(len(is_cold))[: int(options.cold * len(is_cold))]] = True
    moments = {"valid": VALID} | ({"test": TEST} if options.test else {})
    found = []
    for seed in options.seeds:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            context = FitContext(
                seed, Path(folder), "ml-1m", cpus_per_worker=options.threads, progress=_say
            )
            model = Transformer.fit(without(snapshot, is_cold), config, context)
            seconds = time.perf_counter() - began
        figures: dict[str, float] = {"epochs": model.fit_facts["epochs"], "seconds": seconds}
        for part, moment in moments.items():
            figures |= _named(part, ranked(model, snapshot, moment, ~is_cold))
            if options.cold:
                assert snapshot.content is not None, "cold items have media"
                wider = model.with_items(snapshot.content)
                figures |= _named(f"{part} cold", ranked_among(wider, snapshot, moment, is_cold))
        found.append(figures)
        print(f"seed {seed}: {_line(figures)}", flush=True)
    print(f"mean: {_line({name: float(np.mean([f[name] for f in found])) for name in found[0]})}")
    if options.cold:
        genres = read_genres(options.data, snapshot.catalogue)
        for part, moment in moments.items():
            print(f"{part} by genre: {_line(by_genre(snapshot, moment, is_cold, genres))}")
    return 0


def without(snapshot: Snapshot, is_cold: np.ndarray) -> Snapshot:
    """The snapshot without the events of some items."""
    kept = ~is_cold[snapshot.items]
    return replace(
        snapshot,
        users=snapshot.users[kept],
        items=snapshot.items[kept],
        timestamps=snapshot.timestamps[kept],
        strengths=snapshot.strengths[kept],
        labels=snapshot.labels[kept],
    )


def ranked_among(
    model: Transformer, snapshot: Snapshot, moment: int, is_cold: np.ndarray
) -> dict[str, float]:
    """NDCG@10 of cold items, for users whose item is one: among cold items, and among all."""
    target_U = snapshot.items[snapshot.timestamps == moment]
    users = is_cold[target_U].nonzero()[0]
    score_UN = model.score(snapshot.histories(users, moment))
    return _among(score_UN, snapshot, users, moment, is_cold)


def by_genre(
    snapshot: Snapshot, moment: int, is_cold: np.ndarray, genres: np.ndarray
) -> dict[str, float]:
    """The same for the mean popularity of the warm items of an item's genres, and for the user's.

    The second counts only what the user met: of two items the one whose genres the user meets more
    often comes first.
    """
    target_U = snapshot.items[snapshot.timestamps == moment]
    users = is_cold[target_U].nonzero()[0]
    before = snapshot.timestamps < VALID
    met_N = np.bincount(snapshot.items[before], minlength=len(is_cold)) * ~is_cold
    of_genre = (genres * met_N[:, None]).sum(0) / np.maximum((genres * ~is_cold[:, None]).sum(0), 1)
    popular_N = (genres * of_genre).sum(1) / genres.sum(1)
    histories = snapshot.histories(users, moment)
    own_UG = np.zeros((len(users), genres.shape[1]))
    np.add.at(own_UG, histories.rows(), genres[histories.items] / 1.0)
    personal_UN = (own_UG @ genres.T) / genres.sum(1)
    everyone_UN = np.broadcast_to(popular_N, personal_UN.shape)
    return {
        **_among(everyone_UN, snapshot, users, moment, is_cold),
        **{
            f"of the user: {name}": value
            for name, value in _among(personal_UN, snapshot, users, moment, is_cold).items()
        },
    }


def _among(
    score_UN: np.ndarray, snapshot: Snapshot, users: np.ndarray, moment: int, is_cold: np.ndarray
) -> dict[str, float]:
    """NDCG@10 of the users' items at a moment, seen items left out; ties count half."""
    target_U = snapshot.items[snapshot.timestamps == moment][users]
    histories = snapshot.histories(users, moment)
    score_UN = np.array(score_UN, np.float64)
    own_U = score_UN[np.arange(len(users)), target_U][:, None]
    score_UN[histories.rows(), histories.items] = -np.inf
    figures = {}
    for name, pool in (("among cold", is_cold), ("among all", np.ones_like(is_cold))):
        above_U = (score_UN[:, pool] > own_U).sum(1)
        level_U = (score_UN[:, pool] == own_U).sum(1) - 1
        rank_U = 1 + above_U + level_U / 2
        gain_U = np.where(rank_U <= K, 1 / np.log2(1 + rank_U), 0.0)
        figures[f"NDCG@{K} {name}"] = float(gain_U.mean())
    return figures | {"users": float(len(users))}


def _named(part: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{part} {name}": value for name, value in figures.items()}


def _line(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


def _say(line: str) -> None:
    print(line, flush=True)


def option(text: str) -> tuple[str, Any]:
    """OPTION=VALUE, the value as in YAML."""
    name, _, value = text.partition("=")
    return name, yaml.safe_load(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of ml-1m")
    parser.add_argument(
        "--set", nargs="+", type=option, default=[], metavar="OPTION=VALUE", help="of the model"
    )
    parser.add_argument("--text", action="store_true", help="read titles, genres and plots too")
    parser.add_argument("--cold", type=float, default=0.0, help="share of items out of training")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--test", action="store_true", help="look at the test part")
    return parser


if __name__ == "__main__":
    sys.exit(main())
