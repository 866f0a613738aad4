"""The nearest items by the cosine of who liked them, by products of sparse matrices.

Counting the pairs of a log takes as many rows as there are pairs. A sparse product counts them in
arrays instead, block by block, so the memory is that of the likes and of one block.

Shapes: N items, B baskets, L likes, E entries of histories, R rows of the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

_BLOCK_PAIRS = 4_000_000
"""Pairs that one block may hold at most, unless a single item has more. Larger blocks take longer:
the system must find new memory for each."""


def liked(
    histories: Iterable[pa.RecordBatch], *, positive_from: float, most: int
) -> tuple[np.ndarray, np.ndarray, pa.StringArray]:
    """Collects what each user likes: the last positives of a history, each item once.

    Args:
        histories: Columns `item_ids` and `strengths`, lists in order of time, a row for each user.
        positive_from: Smallest strength of a positive.
        most: How many items count at most, the latest ones.

    Returns:
        offsets (B+1,) and items (L,) as `nearest_by_cosine` takes them, and the ids (N,) of the
        items, sorted: the lower of two numbers is the lower id.
    """
    sizes, chunks = [], []
    for batch in histories:
        length_B = pc.list_value_length(batch["item_ids"]).to_numpy()
        is_positive_E = pc.greater_equal(batch["strengths"].flatten(), positive_from)
        is_positive_E = pc.fill_null(is_positive_E, False)
        basket_E = np.repeat(np.arange(len(length_B)), length_B)[is_positive_E.to_numpy(False)]
        items = batch["item_ids"].flatten().filter(is_positive_E).dictionary_encode()
        pair_E = basket_E * len(items.dictionary) + items.indices.to_numpy()
        order = np.argsort(pair_E, kind="stable")
        is_last_E = np.zeros(len(pair_E), bool)
        is_last_E[order] = np.append(pair_E[order][1:] != pair_E[order][:-1], True)[: len(order)]
        number_E = np.cumsum(is_last_E)
        later_E = number_E[np.searchsorted(basket_E, basket_E, side="right") - 1] - number_E
        kept_E = is_last_E & (later_E < most)
        sizes.append(np.bincount(basket_E[kept_E], minlength=len(length_B)))
        chunks.append(items.filter(pa.array(kept_E)))
    if not chunks:
        return np.zeros(1, np.int64), np.empty(0, np.int64), pa.array([], pa.string())
    together = pa.chunked_array(chunks).unify_dictionaries().combine_chunks()
    order = pc.sort_indices(together.dictionary)
    number_N = np.empty(len(order), np.int64)
    number_N[order.to_numpy()] = np.arange(len(order))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    return offsets, number_N[together.indices.to_numpy()], together.dictionary.take(order)


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
    root_N = np.sqrt(baskets_N)
    found = []
    for start, stop in zip(starts, np.append(starts, item_count)[1:], strict=True):
        together = liked_by_NB[start:stop] @ in_basket_BN
        # Of one item, cosines are in proportion to this.
        share_P = together.data / root_N[together.indices]
        slack = 2 * 10.0**-decimals * root_N[start:stop]
        place_P = _may_be_nearest(together.indptr, share_P, count, slack)
        item_P = start + np.searchsorted(together.indptr, place_P, side="right") - 1
        near_P = together.indices[place_P]
        is_other_P = item_P != near_P
        item_P, near_P, place_P = item_P[is_other_P], near_P[is_other_P], place_P[is_other_P]
        cosine_P = together.data[place_P] / np.sqrt(baskets_N[item_P] * baskets_N[near_P])
        cosine_P = np.round(cosine_P, decimals)
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


def _may_be_nearest(
    offsets: np.ndarray, share_P: np.ndarray, count: int, slack: np.ndarray
) -> np.ndarray:
    """The places of pairs that are as near as the `count` nearest of an item, beside itself.

    What is left is a fraction of the pairs: to sort them all, or to work out their cosines, would
    take most of the time. The slack is what rounding may do to a share.
    """
    good_P = np.ones(len(share_P), bool)
    for number, (begin, end) in enumerate(itertools.pairwise(offsets)):
        if end - begin > count + 1:
            share_R = share_P[begin:end]
            least = np.partition(share_R, -count - 1)[-count - 1]
            good_P[begin:end] = share_R >= least - slack[number]
    return np.flatnonzero(good_P)
