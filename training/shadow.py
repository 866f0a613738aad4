"""The lists that a challenger would give, beside those that are served.

Shape legend: U users, K list length, N items of the catalogue, P pairs of equal items.
"""

from __future__ import annotations

import numpy as np

from training import metrics
from training.evaluation import Members, MetricRow, group_means

PERSISTENCE = 0.9
"""Of rank-biased overlap: the first ten places have 86 % of the weight (Webber et al., 2010)."""
_BATCH = 2048
"""Users compared at once: memory grows with this times K squared."""


def compare(
    served_UK: np.ndarray,
    shadow_UK: np.ndarray,
    *,
    groups: Members,
    popularity_N: np.ndarray,
    k: int,
    resamples: int,
    confidence: float,
    seed: int,
) -> list[MetricRow]:
    """How two sets of lists differ, for all users and for each group, with intervals over users.

    Args:
        served_UK: Item codes, best first; -1 for empty places at the end.
        shadow_UK: The same users' other lists.
        groups: Of the users, as in a test set.
        popularity_N: Likes of each item.
        k: The first places, which most metrics are of.
        resamples: Of the bootstrap over users.
        confidence: Of its intervals.
        seed: Of its draws.

    Returns:
        `overlap@k`: shared items of the first k places, a share. `rank_biased_overlap` of whole
        lists. `rank_correlation` of the items that both whole lists hold. `first_changed`: share of
        users whose first item is another. `mean_popularity_shift@k`, and of all lists together
        `coverage_shift@k` and `gini_shift@k`: shadow minus served.
    """
    top, other = served_UK[:, :k], shadow_UK[:, :k]
    items = len(popularity_N)
    per_user = {
        f"overlap@{k}": overlap(top, other),
        "rank_biased_overlap": rank_biased_overlap(served_UK, shadow_UK),
        "rank_correlation": rank_correlation(served_UK, shadow_UK),
        "first_changed": (served_UK[:, 0] != shadow_UK[:, 0]).astype(np.float64),
        f"mean_popularity_shift@{k}": metrics.mean_popularity(other, popularity_N)
        - metrics.mean_popularity(top, popularity_N),
    }
    of_lists = {
        f"coverage_shift@{k}": metrics.coverage(other, items) - metrics.coverage(top, items),
        f"gini_shift@{k}": metrics.gini(metrics.exposure(other, items))
        - metrics.gini(metrics.exposure(top, items)),
    }
    return group_means(
        per_user, of_lists, groups, resamples=resamples, confidence=confidence, seed=seed
    )


def overlap(one_UK: np.ndarray, other_UK: np.ndarray) -> np.ndarray:
    """Shared items over the length of the longer list: (U,) in [0, 1], NaN when both are empty."""
    row_P, _, _ = _pairs(one_UK, other_UK)
    shared_U = np.bincount(row_P, minlength=len(one_UK))
    length_U = np.maximum((one_UK >= 0).sum(axis=1), (other_UK >= 0).sum(axis=1))
    return np.where(length_U > 0, shared_U / np.maximum(length_U, 1), np.nan)


def rank_biased_overlap(
    one_UK: np.ndarray, other_UK: np.ndarray, persistence: float = PERSISTENCE
) -> np.ndarray:
    """Agreement of two rankings in which the first places count most, extrapolated beyond K.

    `p^K X_K / K + (1 - p) / p * sum_{d<=K} p^d X_d / d`, with X_d the number of items that both
    first d places hold. A short list ends in places that nobody shares.

    Returns:
        (U,) in [0, 1]; 1 for equal lists.

    Source: Webber, Moffat & Zobel, A Similarity Measure for Indefinite Rankings, TOIS 2010, eq. 32.
    """
    users, length = one_UK.shape
    row_P, place_P, other_P = _pairs(one_UK, other_UK)
    entered_UK = np.zeros((users, length))
    np.add.at(entered_UK, (row_P, np.maximum(place_P, other_P)), 1.0)
    depth_K = np.arange(1, length + 1)
    agreement_UK = entered_UK.cumsum(axis=1) / depth_K
    weight_K = (1 - persistence) / persistence * persistence**depth_K
    return agreement_UK @ weight_K + agreement_UK[:, -1] * persistence**length


def rank_correlation(one_UK: np.ndarray, other_UK: np.ndarray) -> np.ndarray:
    """Spearman's correlation of the order of the shared items: (U,), NaN for fewer than two."""
    row_P, place_P, other_P = _pairs(one_UK, other_UK)
    order_UK, other_UK = (
        _marked(row_P, at_P, one_UK.shape).cumsum(axis=1) for at_P in (place_P, other_P)
    )
    apart_P = order_UK[row_P, place_P] - other_UK[row_P, other_P]
    square_U = np.bincount(row_P, apart_P.astype(np.float64) ** 2, minlength=len(one_UK))
    count_U = np.bincount(row_P, minlength=len(one_UK))
    scale_U = np.maximum(count_U * (count_U**2 - 1), 1)
    return np.where(count_U > 1, 1 - 6 * square_U / scale_U, np.nan)


def _pairs(one_UK: np.ndarray, other_UK: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User, place in the one and place in the other list of each item that both hold."""
    found = []
    for start in range(0, len(one_UK), _BATCH):
        one, other = one_UK[start : start + _BATCH], other_UK[start : start + _BATCH]
        equal = (one[:, :, None] == other[:, None, :]) & (one[:, :, None] >= 0)
        row_P, place_P, other_P = np.nonzero(equal)
        found.append((row_P + start, place_P, other_P))
    if not found:
        nothing = np.empty(0, np.int64)
        return nothing, nothing, nothing
    row_P, place_P, other_P = (np.concatenate(part) for part in zip(*found, strict=True))
    return row_P, place_P, other_P


def _marked(row_P: np.ndarray, place_P: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    marked = np.zeros(shape, np.int64)
    marked[row_P, place_P] = 1
    return marked
