"""Ranking metrics of users and metrics of whole lists, as plain functions over arrays.

Lists come as item codes, best first; -1 fills the tail of a short list and never counts as an
item. What has no value (a user without relevant items, the diversity of a single item) is NaN, so
that it is left out of a mean and never mistaken for 0.

Shape suffixes: U users, K list length, N items of the catalogue, D vector length, P listed items.
"""

from __future__ import annotations

import numpy as np


def precision(hits_UK: np.ndarray, relevant_U: np.ndarray, k: int) -> np.ndarray:
    """Share of the first k places that hold a relevant item: `sum_{r<=k} hit_r / k`.

    Args:
        hits_UK: bool, whether the item at each place is relevant to the user.
        relevant_U: How many relevant items each user has.
        k: Places looked at; a list shorter than k is divided by k all the same.

    Returns:
        (U,) float64 in [0, 1]; NaN for users without relevant items.

    Source: Herlocker et al., Evaluating Collaborative Filtering Recommender Systems, TOIS 2004.
    """
    return _of_users(_hits(hits_UK, k).sum(axis=1) / k, relevant_U)


def recall(hits_UK: np.ndarray, relevant_U: np.ndarray, k: int) -> np.ndarray:
    """Share of a user's relevant items in the first k places: `sum_{r<=k} hit_r / relevant`.

    Arguments and result as `precision`; the same source.
    """
    return _of_users(_hits(hits_UK, k).sum(axis=1) / np.maximum(relevant_U, 1), relevant_U)


def hit_rate(hits_UK: np.ndarray, relevant_U: np.ndarray, k: int) -> np.ndarray:
    """1 where the first k places hold a relevant item, else 0.

    Arguments and result as `precision`.
    Source: Deshpande & Karypis, Item-Based Top-N Recommendation Algorithms, TOIS 2004.
    """
    return _of_users(_hits(hits_UK, k).any(axis=1).astype(np.float64), relevant_U)


def ndcg(hits_UK: np.ndarray, relevant_U: np.ndarray, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain of binary relevance.

    `sum_{r<=k} hit_r / log2(r + 1)`, divided by the same sum of an ideal list, whose first
    `min(relevant, k)` places are hits.

    Arguments and result as `precision`.
    Source: Järvelin & Kekäläinen, Cumulated Gain-Based Evaluation of IR Techniques, TOIS 2002.
    """
    discount_K = 1.0 / np.log2(np.arange(2, k + 2))
    hits = _hits(hits_UK, k)
    gain_U = hits @ discount_K[: hits.shape[1]]
    ideal = np.concatenate([[1.0], np.cumsum(discount_K)])
    return _of_users(gain_U / ideal[np.clip(relevant_U, 1, k)], relevant_U)


def reciprocal_rank(first_rank_U: np.ndarray) -> np.ndarray:
    """One over the rank of a user's best placed relevant item; its mean is the MRR.

    Args:
        first_rank_U: Rank (from 1) over the whole catalogue; 0 for users without relevant items.

    Returns:
        (U,) float64 in (0, 1]; NaN where the rank is 0.

    Source: Voorhees, The TREC-8 Question Answering Track Report, 1999.
    """
    first_rank_U = np.asarray(first_rank_U)
    return _of_users(1.0 / np.maximum(first_rank_U, 1), first_rank_U)


def coverage(lists_UK: np.ndarray, items: int) -> float:
    """Share of the catalogue that is on at least one list.

    Source: Ge, Delgado-Battenfeld & Jannach, Beyond Accuracy, RecSys 2010 (catalogue coverage).
    """
    return float((exposure(lists_UK, items) > 0).sum() / items)


def exposure(lists_UK: np.ndarray, items: int) -> np.ndarray:
    """(N,) int64: on how many lists each item is."""
    return np.bincount(lists_UK[lists_UK >= 0], minlength=items)


def gini(exposure_N: np.ndarray) -> float:
    """Gini coefficient of the items' exposure: 0 when all are shown alike.

    `sum_j (2j - N - 1) e_(j) / (N sum e)` with the exposures ascending; one item that takes
    everything gives `1 - 1/N`. NaN when nothing is shown.

    Source: Fleder & Hosanagar, Blockbuster Culture's Next Rise or Fall, Management Science 2009.
    """
    ascending_N = np.sort(np.asarray(exposure_N, dtype=np.float64))
    items, total = len(ascending_N), ascending_N.sum()
    if not total:
        return float("nan")
    weight_N = 2.0 * np.arange(1, items + 1) - items - 1
    return float(weight_N @ ascending_N / (items * total))


def diversity(lists_UK: np.ndarray, vector_ND: np.ndarray) -> np.ndarray:
    """Mean distance `1 - cos(i, j)` over the pairs of items in a list.

    Equal items give 0, orthogonal ones 1. A vector of zeros is at distance 1 from all others.

    Args:
        lists_UK: Item codes, -1 for empty places.
        vector_ND: Item vectors.

    Returns:
        (U,) float64 in [0, 2]; NaN for lists of fewer than two items.

    Source: Ziegler et al., Improving Recommendation Lists Through Topic Diversification, WWW 2005
    (intra-list similarity); the cosine form of Vargas & Castells, RecSys 2011.
    """
    vector_ND = np.asarray(vector_ND, dtype=np.float64)
    length_N = np.linalg.norm(vector_ND, axis=1, keepdims=True)
    unit_ND = np.divide(vector_ND, length_N, out=np.zeros_like(vector_ND), where=length_N > 0)
    row_P, item_P = _listed(lists_UK)
    total_UD = np.zeros((len(lists_UK), unit_ND.shape[1]))
    np.add.at(total_UD, row_P, unit_ND[item_P])
    # |sum of vectors|^2 holds every ordered pair and, on its diagonal, each vector with itself.
    itself_U = np.bincount(row_P, (unit_ND[item_P] ** 2).sum(axis=1), minlength=len(lists_UK))
    likeness_U = (total_UD**2).sum(axis=1) - itself_U
    return _mean_distance(likeness_U, np.bincount(row_P, minlength=len(lists_UK)))


def category_diversity(lists_UK: np.ndarray, category_N: np.ndarray) -> np.ndarray:
    """Share of the pairs of items in a list that are of different categories.

    This is `diversity` of one-hot category vectors. Items of the category "" are left out.

    Returns:
        (U,) float64 in [0, 1]; NaN for lists with fewer than two items that have a category.
    """
    name_C, code_N = np.unique(category_N, return_inverse=True)
    row_P, item_P = _listed(lists_UK)
    known_P = np.asarray(category_N)[item_P] != ""
    row_P, item_P = row_P[known_P], item_P[known_P]
    key_G, count_G = np.unique(row_P * len(name_C) + code_N[item_P], return_counts=True)
    alike_U = np.bincount(
        key_G // max(len(name_C), 1), count_G * (count_G - 1.0), minlength=len(lists_UK)
    )
    return _mean_distance(alike_U, np.bincount(row_P, minlength=len(lists_UK)))


def novelty(lists_UK: np.ndarray, count_N: np.ndarray) -> np.ndarray:
    """Mean self-information of a list's items: `-log2((n_i + 1) / (sum n + N))`.

    The added one per item makes a cold item (n_i = 0) the most novel; a join that loses cold
    items makes them the least novel.

    Args:
        lists_UK: Item codes, -1 for empty places.
        count_N: Interactions of each item before the test.

    Returns:
        (U,) float64, bits; NaN for empty lists.

    Source: Zhou et al., Solving the apparent diversity-accuracy dilemma of recommender systems,
    PNAS 2010, with Laplace smoothing.
    """
    count_N = np.asarray(count_N, dtype=np.float64)
    return _list_mean(lists_UK, -np.log2((count_N + 1.0) / (count_N.sum() + len(count_N))))


def mean_popularity(lists_UK: np.ndarray, count_N: np.ndarray) -> np.ndarray:
    """Mean interactions of a list's items; its mean over users is the ARP.

    Arguments as `novelty`. Returns (U,) float64; NaN for empty lists.

    Source: Yin et al., Challenging the Long Tail Recommendation, VLDB 2012 (average
    recommendation popularity).
    """
    return _list_mean(lists_UK, np.asarray(count_N, dtype=np.float64))


def out_of_network_share(
    lists_UK: np.ndarray, user_U: np.ndarray, author_N: np.ndarray, follows: np.ndarray
) -> np.ndarray:
    """Share of a list's items by authors whom the user does not follow (HY-23).

    Args:
        lists_UK: Item codes, -1 for empty places.
        user_U: User code of each list.
        author_N: User code of each item's author, -1 when unknown; such items are left out.
        follows: (2, F) user codes: follower, followee.

    Returns:
        (U,) float64 in [0, 1]; NaN for lists without an item of a known author. A user's own
        items count as inside the network.
    """
    row_P, item_P = _listed(lists_UK)
    author_P = np.asarray(author_N, dtype=np.int64)[item_P]
    row_P, author_P = row_P[author_P >= 0], author_P[author_P >= 0]
    user_P = np.asarray(user_U, dtype=np.int64)[row_P]
    follower_F, followee_F = np.asarray(follows, dtype=np.int64)
    inside_P = np.isin(user_P << 32 | author_P, follower_F << 32 | followee_F)
    outside_P = ~(inside_P | (user_P == author_P))
    count_U = np.bincount(row_P, minlength=len(lists_UK))
    outside_U = np.bincount(row_P, outside_P, minlength=len(lists_UK))
    return _of_users(outside_U / np.maximum(count_U, 1), count_U)


def _hits(hits_UK: np.ndarray, k: int) -> np.ndarray:
    if k < 1:
        msg = f"k must be at least 1, got {k}"
        raise ValueError(msg)
    return np.asarray(hits_UK, dtype=bool)[:, :k]


def _of_users(value_U: np.ndarray, relevant_U: np.ndarray) -> np.ndarray:
    """The values with NaN where there is nothing to be judged on."""
    return np.where(np.asarray(relevant_U) > 0, value_U, np.nan)


def _listed(lists_UK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(list, item code) of every filled place."""
    row_P, place_P = np.nonzero(lists_UK >= 0)
    return row_P, lists_UK[row_P, place_P]


def _list_mean(lists_UK: np.ndarray, value_N: np.ndarray) -> np.ndarray:
    row_P, item_P = _listed(lists_UK)
    count_U = np.bincount(row_P, minlength=len(lists_UK))
    sum_U = np.bincount(row_P, value_N[item_P], minlength=len(lists_UK))
    return _of_users(sum_U / np.maximum(count_U, 1), count_U)


def _mean_distance(likeness_U: np.ndarray, count_U: np.ndarray) -> np.ndarray:
    """1 minus the mean of a sum over ordered pairs."""
    pairs_U = count_U * (count_U - 1)
    return _of_users(1.0 - likeness_U / np.maximum(pairs_U, 1), pairs_U)
