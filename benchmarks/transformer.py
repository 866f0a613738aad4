"""The transformer on MovieLens-1M: next item, leave one out, the whole catalogue ranked.

The protocol of SASRec (Kang & McAuley 2018): 6,040 users and 3,416 items in SASRec's order, a
user's last item is for the test and the one before for validation. What was tuned saw validation
only; the test part is looked at when `--test` is given.

    python -m benchmarks.transformer --data ../shared/data/ml-1m --set width=64 max_length=200
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from training.metrics import hit_rate, ndcg
from training.models.base import FitContext
from training.models.transformer import Transformer
from training.snapshot import UNKNOWN_TIME, Snapshot
from training.topk import ItemLists, top_k_factors

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "models" / "transformer.yaml"
K = 10
VALID, TEST, END = 100_000, 100_001, 100_002
"""Moments of the last two items; those before have their place in the sequence as time."""


def main() -> int:
    """Trains once a seed and prints each one's figures and their mean."""
    options = _parser().parse_args()
    snapshot = read_sequences(options.data / "sequences_original_ids.txt.gz")
    config = yaml.safe_load(CONFIG.read_text())["sizes"]["small"] | dict(options.set)
    print(f"{len(snapshot.user_ids):,} users, {len(snapshot.catalogue):,} items, {config}")
    found = []
    for seed in options.seeds:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            context = FitContext(
                seed, Path(folder), "ml-1m", cpus_per_worker=options.threads, progress=_say
            )
            model = Transformer.fit(snapshot, config, context)
        figures = {
            "epochs": model.fit_facts["epochs"],
            "seconds": time.perf_counter() - began,
            **ranked(model, snapshot, VALID, "valid"),
            **(ranked(model, snapshot, TEST, "test") if options.test else {}),
        }
        found.append(figures)
        print(f"seed {seed}: {_line(figures)}", flush=True)
    print(f"mean: {_line({name: float(np.mean([f[name] for f in found])) for name in found[0]})}")
    return 0


def read_sequences(file: Path) -> Snapshot:
    """The snapshot of a file with a line a user: id, then items from the oldest to the newest."""
    with gzip.open(file, "rt") as lines:
        rows = [line.split() for line in lines]
    user_ids = np.array(sorted(row[0] for row in rows))
    catalogue = np.unique([item for row in rows for item in row[1:]])
    place = {item: code for code, item in enumerate(catalogue)}
    rows.sort(key=lambda row: row[0])
    items = [np.array([place[item] for item in row[1:]], np.int32) for row in rows]
    length = np.array([len(row) for row in items])
    times = [np.r_[np.arange(number - 2), VALID, TEST] for number in length]
    total = int(length.sum())
    return Snapshot(
        catalogue=catalogue,
        user_ids=user_ids,
        users=np.repeat(np.arange(len(rows), dtype=np.int32), length),
        items=np.concatenate(items),
        timestamps=np.concatenate(times).astype(np.int64),
        strengths=np.ones(total, np.float32),
        labels=np.ones(total, np.float32),
        valid_start=VALID,
        test_start=TEST,
        end=END,
        follows=np.empty((2, 0), np.int32),
        categories=np.full(len(catalogue), ""),
        created_at=np.full(len(catalogue), UNKNOWN_TIME),
    )


def ranked(model: Transformer, snapshot: Snapshot, moment: int, part: str) -> dict[str, float]:
    """HR@10 and NDCG@10 of the item at a moment, with and without seen items in the ranking."""
    histories = snapshot.histories(np.arange(len(snapshot.user_ids)), moment)
    target_U = snapshot.items[snapshot.timestamps == moment]
    own = np.searchsorted(snapshot.catalogue, model.item_ids)
    seen = histories.positives(model.item_ids)
    user_UD, item_MD = model.user_vectors(histories), model.item_vectors()
    figures = {}
    for name, exclude in (("", ItemLists(seen.offsets, seen.items)), (" with seen", None)):
        lists_UK, _ = top_k_factors(user_UD, item_MD, K, exclude=exclude)
        hits_UK = own[lists_UK] == target_U[:, None]
        one_U = np.ones(len(target_U), int)
        figures[f"{part} HR@{K}{name}"] = float(hit_rate(hits_UK, one_U, K).mean())
        figures[f"{part} NDCG@{K}{name}"] = float(ndcg(hits_UK, one_U, K).mean())
    return figures


def _line(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


def _say(line: str) -> None:
    print(line, flush=True)


def _option(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, yaml.safe_load(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of ml-1m")
    parser.add_argument(
        "--set", nargs="+", type=_option, default=[], metavar="OPTION=VALUE", help="of the model"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--test", action="store_true", help="look at the test part")
    return parser


if __name__ == "__main__":
    sys.exit(main())
