"""MovieLens-1M as everybody's next item: leave one out, the whole catalogue ranked.

The protocol of SASRec (Kang & McAuley 2018): 6,040 users and 3,416 items in SASRec's order, a
user's last item is for the test and the one before for validation.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

from training.content import ItemContent
from training.histories import codes_in
from training.metrics import hit_rate, ndcg
from training.models.base import Model
from training.snapshot import UNKNOWN_TIME, Snapshot
from training.topk import ItemLists, top_k_factors
from transforms.encoders import SHIPPED, load_encoder

K = 10
VALID, TEST, END = 100_000, 100_001, 100_002
"""Moments of the last two items; those before have their place in the sequence as time."""


def read_sequences(folder: Path) -> Snapshot:
    """The snapshot of the file that has a line a user: id, then items from oldest to newest."""
    with gzip.open(folder / "sequences_original_ids.txt.gz", "rt") as lines:
        rows = sorted((line.split() for line in lines), key=lambda row: row[0])
    catalogue = np.unique([item for row in rows for item in row[1:]])
    place = {item: code for code, item in enumerate(catalogue)}
    items = [np.array([place[item] for item in row[1:]], np.int32) for row in rows]
    length = np.array([len(row) for row in items])
    times = [np.r_[np.arange(number - 2), VALID, TEST] for number in length]
    total = int(length.sum())
    return Snapshot(
        catalogue=catalogue,
        user_ids=np.array([row[0] for row in rows]),
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


def read_genres(folder: Path, catalogue: np.ndarray) -> np.ndarray:
    """(N, genres) bool."""
    of_item = {movie: genres.split("|") for movie, _, genres in _movies(folder)}
    names = sorted({genre for genres in of_item.values() for genre in genres})
    return np.array([[name in of_item[item] for name in names] for item in catalogue])


def encode_texts(folder: Path, catalogue: np.ndarray) -> ItemContent:
    """Title, genres and plot of each item by the sentence encoder that comes with Sextant."""
    with gzip.open(folder / "dbpedia_abstracts.json.gz", "rt") as file:
        plots = json.load(file)
    words = {
        movie: f"{title}\n{genres.replace('|', ', ')}\n{plots.get(movie, '')}".strip()
        for movie, title, genres in _movies(folder)
    }
    vectors = load_encoder(SHIPPED).encode([words[item] for item in catalogue])
    rows = np.arange(len(catalogue))
    return ItemContent(catalogue, {"text": rows}, {"text": vectors.astype(np.float16)})


def ranked(
    model: Model, snapshot: Snapshot, moment: int, only: np.ndarray | None = None
) -> dict[str, float]:
    """HR@10 and NDCG@10 of the item at a moment, without and with seen items in the ranking.

    Args:
        model: What ranks.
        snapshot: The data.
        moment: `VALID` or `TEST`.
        only: (N,) bool; users are judged whose item is one of these, all by default.
    """
    target_U = snapshot.items[snapshot.timestamps == moment]
    users = np.arange(len(target_U)) if only is None else only[target_U].nonzero()[0]
    histories, target_U = snapshot.histories(users, moment), target_U[users]
    own = np.searchsorted(snapshot.catalogue, model.item_ids)
    code_N = codes_in(snapshot.catalogue, model.item_ids)
    place_T = code_N[histories.items]
    known_T = place_T >= 0
    seen = ItemLists.from_pairs(histories.rows()[known_T], place_T[known_T], len(users))
    user_UD, item_MD = model.user_vectors(histories), model.item_vectors()
    assert user_UD is not None, "this model has vectors of users"
    assert item_MD is not None, "and of items"
    figures = {}
    for name, exclude in (("", seen), (" with seen", None)):
        lists_UK, _ = top_k_factors(user_UD, item_MD, K, exclude=exclude)
        hits_UK = (lists_UK >= 0) & (own[lists_UK] == target_U[:, None])
        one_U = np.ones(len(target_U), int)
        figures[f"HR@{K}{name}"] = float(hit_rate(hits_UK, one_U, K).mean())
        figures[f"NDCG@{K}{name}"] = float(ndcg(hits_UK, one_U, K).mean())
    return figures


def _movies(folder: Path) -> list[list[str]]:
    with gzip.open(folder / "movies.dat.gz", "rt", encoding="latin-1") as lines:
        return [line.rstrip("\n").split("::") for line in lines]
