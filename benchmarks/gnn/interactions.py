"""Published sets of likes without times: Gowalla, TikTok, LastFM, FilmTrust; all items ranked.

Gowalla and TikTok by the protocol of LightGCN (He et al. 2020): of each user with items in the part
that is judged, the 20 best items of none of the parts before; Recall@20 and NDCG@20, the mean over
the users. LastFM and FilmTrust by that of RecBole-GNN: eight tenths of each user's items to train
on, one to validate, one to test, at random; the 10 best.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from training.content import ItemContent
from training.histories import codes_in
from training.metrics import ndcg, recall
from training.models.base import Model
from training.snapshot import UNKNOWN_TIME, Snapshot
from training.topk import ItemLists, top_k, top_k_factors

VALID, TEST, END = 10, 20, 30
"""Moments at which the likes of each part begin; training likes have the time 0."""
_HELD_OUT = 0.1
_LIKED = 3.0
"""Stars of FilmTrust, which has up to 4."""
_USERS = 2048


@dataclass(frozen=True)
class Likes:
    """(2, E) int codes of users and items, by part."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    follows: np.ndarray
    content: ItemContent | None = None
    k: int = 20
    """Length of the lists that are judged."""


def read_likes(folder: Path, *, tuning: bool, popular: float = 1.0) -> Likes:
    """The likes of a published data set.

    Args:
        folder: `gowalla`, `lastfm`, `filmtrust` or `tiktok-multimodal` under the folder of data.
        tuning: Whether a tenth of each user's training likes is set aside to be judged, where the
            set has no validation part of its own; else everything is trained on.
        popular: How much likelier than others the likes of the hundredth of the items that is liked
            most are set aside.
    """
    none = np.empty((2, 0), np.int64)
    if folder.name == "tiktok-multimodal":
        train, valid, test = (_pairs(folder / f"{name}.parquet") for name in ("trn", "val", "tst"))
        return Likes(train, valid, test, none, _media(folder, ("image", "audio")))
    if folder.name == "lastfm":
        pairs = _pairs(folder / "hetrec_user_artists.parquet")
        return _at_random(pairs, _pairs(folder / "hetrec_user_friends.parquet"))
    if folder.name == "filmtrust":
        user, item, stars = _numbers(folder / "ratings.txt.gz")
        liked = np.stack([user, item])[:, stars >= _LIKED].astype(np.int64)
        return _at_random(liked, _numbers(folder / "trust.txt.gz")[:2].astype(np.int64))
    train, test = _pairs(folder / "train.parquet"), _pairs(folder / "test.parquet")
    held_out = np.zeros(train.shape[1], bool)
    if tuning:
        likes_N = np.bincount(train[1])
        is_popular_N = likes_N >= np.quantile(likes_N, 0.99)
        weight = np.where(is_popular_N[train[1]], popular, 1.0)
        # The highest keys are a draw by weight without replacement (Efraimidis & Spirakis 2006).
        key = np.random.default_rng(0).random(train.shape[1]) ** (1 / weight)
        held_out = _last_tenth(train[0], key)
    return Likes(train[:, ~held_out], train[:, held_out], test, none)


def _at_random(liked: np.ndarray, follows: np.ndarray) -> Likes:
    """Eight, one and one tenth of each user's items; ids become codes."""
    liked = np.unique(liked, axis=1)
    user_ids, user = np.unique(liked[0], return_inverse=True)
    pair = np.stack([user, np.unique(liked[1], return_inverse=True)[1]])
    order = np.random.default_rng(0).random(pair.shape[1])
    test = _last_tenth(pair[0], order)
    valid = _last_tenth(pair[0], np.where(test, -1.0, order))
    codes = codes_in(follows, user_ids)
    return Likes(
        pair[:, ~valid & ~test],
        pair[:, valid],
        pair[:, test],
        codes[:, (codes >= 0).all(axis=0)],
        k=10,
    )


def _last_tenth(user: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Mask of the tenth of each user's entries that have the highest keys, rounded down."""
    order = np.lexsort((-key, user))
    number = np.bincount(user)
    place = np.arange(len(order)) - (np.cumsum(number) - number)[user[order]]
    found = np.zeros(len(user), bool)
    found[order] = place < (_HELD_OUT * number).astype(int)[user[order]]
    return found


def snapshot_of(likes: Likes, *, judged: str) -> Snapshot:
    """The likes as a model sees them; the part `judged` ("valid" or "test") is not among them.

    Where the test is judged, the validation part still serves to stop early.
    """
    parts = [likes.train, likes.valid] + ([likes.test] if judged == "test" else [])
    moments = [
        np.full(part.shape[1], at) for part, at in zip(parts, (0, VALID, TEST), strict=False)
    ]
    users, items = np.concatenate([*parts, likes.test], axis=1).max(axis=1) + 1
    users = max(users, int(likes.follows.max(initial=-1)) + 1)
    liked = np.concatenate(parts, axis=1)
    order = np.lexsort((liked[1], np.concatenate(moments), liked[0]))
    ones = np.ones(len(order), np.float32)
    return Snapshot(
        catalogue=np.array([f"{item:07}" for item in range(items)]),
        user_ids=np.array([f"{user:07}" for user in range(users)]),
        users=liked[0][order].astype(np.int32),
        items=liked[1][order].astype(np.int32),
        timestamps=np.concatenate(moments)[order].astype(np.int64),
        strengths=ones,
        labels=ones,
        valid_start=VALID,
        test_start=TEST,
        end=END,
        follows=likes.follows.astype(np.int32),
        categories=np.full(items, ""),
        created_at=np.full(items, UNKNOWN_TIME),
        content=likes.content,
    )


def judge(
    score: Model | Callable[[np.ndarray], np.ndarray], likes: Likes, snapshot: Snapshot, part: str
) -> dict[str, np.ndarray]:
    """Recall@k and NDCG@k of each user with likes in a part ("valid" or "test").

    Args:
        score: A model, or what gives the (B, N) scores of users.
        likes: The data.
        snapshot: What the model was fitted on.
        part: Which likes are to be found; those of the parts before are left out of the lists.
    """
    wanted = ItemLists.from_pairs(*getattr(likes, part), len(snapshot.user_ids))
    before = (likes.train,) if part == "valid" else (likes.train, likes.valid)
    seen = ItemLists.from_pairs(*np.concatenate(before, axis=1), len(snapshot.user_ids))
    users = wanted.lengths().nonzero()[0]
    hits = []
    for start in range(0, len(users), _USERS):
        block = users[start : start + _USERS]
        lists_BK = _lists(score, snapshot, block, _of(seen, block), likes.k)
        key = wanted.rows() * len(snapshot.catalogue) + wanted.items
        listed = block[:, None] * len(snapshot.catalogue) + lists_BK
        hits.append((lists_BK >= 0) & (codes_in(listed.ravel(), key) >= 0).reshape(listed.shape))
    hits_UK, number_U = np.concatenate(hits), wanted.lengths()[users]
    return {
        f"Recall@{likes.k}": recall(hits_UK, number_U, likes.k),
        f"NDCG@{likes.k}": ndcg(hits_UK, number_U, likes.k),
    }


def _lists(
    score: Model | Callable[[np.ndarray], np.ndarray],
    snapshot: Snapshot,
    users: np.ndarray,
    seen: ItemLists,
    k: int,
) -> np.ndarray:
    if not isinstance(score, Model):
        return top_k(score(users), k, exclude=seen)[0]
    histories = snapshot.histories(users, VALID)
    if score.item_vectors() is None:
        return top_k(score.score(histories), k, exclude=seen)[0]
    own_N = codes_in(snapshot.catalogue, score.item_ids)
    place = own_N[seen.items]
    known = ItemLists.from_pairs(seen.rows()[place >= 0], place[place >= 0], len(users))
    found, _ = top_k_factors(score.user_vectors(histories), score.item_vectors(), k, exclude=known)
    return np.where(found >= 0, codes_in(score.item_ids, snapshot.catalogue)[found], -1)


def _of(lists: ItemLists, users: np.ndarray) -> ItemLists:
    keep = np.isin(lists.rows(), users)
    return ItemLists.from_pairs(
        np.searchsorted(users, lists.rows()[keep]), lists.items[keep], len(users)
    )


def _pairs(path: Path) -> np.ndarray:
    table = pq.read_table(path)
    return np.stack([table.column(place).to_numpy() for place in (0, 1)]).astype(np.int64)


def _numbers(path: Path) -> np.ndarray:
    """(columns, rows) of a file of numbers between spaces."""
    with gzip.open(path, "rt") as file:
        return np.loadtxt(file).T


def _media(folder: Path, names: tuple[str, ...]) -> ItemContent:
    vectors = {name: np.load(folder / f"{name}_feat.f16.npy") for name in names}
    count = len(vectors[names[0]])
    ids = np.array([f"{item:07}" for item in range(count)])
    return ItemContent(ids, {name: np.arange(count) for name in names}, vectors)


def with_media(likes: Likes, names: tuple[str, ...]) -> Likes:
    """The same likes of items of which only some media are known."""
    content = likes.content
    assert content is not None
    kept = ItemContent(
        content.item_ids,
        {name: content.rows[name] for name in names},
        {name: content.vectors[name] for name in names},
    )
    return replace(likes, content=kept)
