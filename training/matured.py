"""What became of lists that were served: judged on what people liked afterwards.

An offline test asks a model about the past; here the lists themselves are held against the labels
that have come in since (matured labels).

Shape legend: U users who liked something, K places of a list, S users without a list of their own.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training import metrics


def list_quality(lists: pa.Table, likes: pa.Table, k: int, everybody: str) -> dict[str, float]:
    """Hit rate and NDCG of served lists, over the users who liked something afterwards.

    Args:
        lists: `user_id`, `item_id` and `rank` from 1 on.
        likes: `user_id` and `item_id` of later likes; one that comes twice counts once.
        k: Length at which lists are judged.
        everybody: The user whose list those get who have none of their own.

    Returns:
        `hit_rate@k` and `ndcg@k`; nothing when there are no lists or no likes.
    """
    lists = lists.filter(pc.less_equal(lists["rank"], k))
    if not (lists.num_rows and likes.num_rows):
        return {}
    users, items = pc.unique(likes["user_id"]), pc.unique(likes["item_id"])
    pairs = np.unique(
        _codes(likes["user_id"], users) * len(items) + _codes(likes["item_id"], items)
    )
    relevant_U = np.bincount(pairs // len(items), minlength=len(users))
    hits_UK = np.zeros((len(users), k), dtype=bool)

    def mark(user: np.ndarray, item: np.ndarray, place: np.ndarray) -> None:
        hit = (item >= 0) & np.isin(user * len(items) + item, pairs)
        hits_UK[user[hit], place[hit]] = True

    own = lists.filter(pc.is_in(lists["user_id"], users))
    user = _codes(own["user_id"], users)
    mark(user, _codes(own["item_id"], items), _places(own))
    shared = lists.filter(pc.equal(lists["user_id"], everybody))
    stranger_S = np.setdiff1d(np.arange(len(users)), user)
    for item, place in zip(_codes(shared["item_id"], items), _places(shared), strict=True):
        mark(stranger_S, np.full_like(stranger_S, item), np.full_like(stranger_S, place))
    return {
        f"hit_rate@{k}": float(metrics.hit_rate(hits_UK, relevant_U, k).mean()),
        f"ndcg@{k}": float(metrics.ndcg(hits_UK, relevant_U, k).mean()),
    }


def _codes(values: pa.ChunkedArray, known: pa.Array) -> np.ndarray:
    """Places of values among known ones, -1 for one that is not there."""
    found = pc.fill_null(pc.index_in(values, known), -1)
    return np.asarray(found.to_numpy(), dtype=np.int64)


def _places(lists: pa.Table) -> np.ndarray:
    return np.asarray(lists["rank"].to_numpy(), dtype=np.int64) - 1
