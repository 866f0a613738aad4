"""The nearest items by the cosine of who liked them, by products of sparse matrices.

Counting the pairs of a log takes as many rows as there are pairs. A sparse product counts them in
arrays instead, block by block, so the memory is that of the likes and of one block.

Shapes: N items, B baskets, L likes, R rows of the result.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy import sparse

_BLOCK_PAIRS = 20_000_000
"""Pairs that one block may hold at most, unless a single item has more."""


def nearest_by_cosine(
    offsets: np.ndarray, items: np.ndarray, count: int, *, decimals: int, item_count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds for each item the items nearest to it.

    The cosine is baskets with both / sqrt(baskets with one * baskets with the other). Of equally
    near items those of lower number come first. No item is near to itself.

    Args:
        offsets: (B+1,) where each basket begins in `items`.
        items: (L,) numbers 0..N-1, each at most once in a basket.
        count: How many near items each item has at most.
        decimals: Cosines are rounded to this.
        item_count: N.

    Returns:
        item (R,), near (R,), cosine (R,): by item, then by rank.
    """
    ones_L = np.ones(len(items), dtype=np.int32)
    in_basket_BN = sparse.csr_array((ones_L, items, offsets), shape=(len(offsets) - 1, item_count))
    liked_by_NB = in_basket_BN.T.tocsr()
    baskets_N = np.bincount(items, minlength=item_count).astype(np.float64)
    size_B = np.diff(offsets)
    pairs_N = liked_by_NB @ size_B
    block_N = (np.cumsum(pairs_N) // _BLOCK_PAIRS).astype(np.int64)
    starts = np.flatnonzero(np.diff(block_N, prepend=-1))
    found = []
    for start, stop in zip(starts, np.append(starts, item_count)[1:], strict=True):
        together = liked_by_NB[start:stop] @ in_basket_BN
        item_P = np.repeat(np.arange(start, stop), np.diff(together.indptr))
        near_P = together.indices
        cosine_P = together.data / np.sqrt(baskets_N[item_P] * baskets_N[near_P])
        cosine_P = np.round(cosine_P, decimals)
        good_P = _may_be_nearest(together.indptr, cosine_P, count) & (item_P != near_P)
        item_P, near_P, cosine_P = item_P[good_P], near_P[good_P], cosine_P[good_P]
        order = np.lexsort((near_P, -cosine_P, item_P))
        item_P, near_P, cosine_P = item_P[order], near_P[order], cosine_P[order]
        first_P = np.searchsorted(item_P, item_P, side="left")
        kept = np.arange(len(item_P)) - first_P < count
        found.append((item_P[kept], near_P[kept], cosine_P[kept]))
    if not found:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing, np.empty(0)
    item_R, near_R, cosine_R = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return item_R, near_R, cosine_R


def _may_be_nearest(offsets: np.ndarray, cosine_P: np.ndarray, count: int) -> np.ndarray:
    """(P,) whether a pair is as near as the `count` nearest of its item, beside the item itself.

    What is left is a fraction of the pairs, and sorting them all would take most of the time.
    """
    good_P = np.ones(len(cosine_P), bool)
    for begin, end in itertools.pairwise(offsets):
        if end - begin > count + 1:
            cosine_R = cosine_P[begin:end]
            good_P[begin:end] = cosine_R >= np.partition(cosine_R, -count - 1)[-count - 1]
    return good_P
