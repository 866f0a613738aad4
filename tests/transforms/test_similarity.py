"""Nearest items by sparse products, against a plain count of pairs."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from transforms import similarity
from transforms.similarity import nearest_by_cosine


@pytest.mark.parametrize("block", [1, 50, 10**9])
def test_nearest_equal_a_plain_count(monkeypatch, block):
    monkeypatch.setattr(similarity, "_BLOCK_PAIRS", block)
    rng = np.random.default_rng(3)
    baskets = [rng.permutation(30)[: rng.integers(0, 12)] for _ in range(60)]
    offsets = np.cumsum([0, *map(len, baskets)])
    items = np.concatenate(baskets)
    liked = [{b for b, basket in enumerate(baskets) if item in basket} for item in range(31)]
    expected = []
    for item in range(31):
        near = [
            (
                -round(
                    len(liked[item] & liked[other]) / sqrt(len(liked[item]) * len(liked[other])), 9
                ),
                other,
            )
            for other in range(31)
            if other != item and liked[item] & liked[other]
        ]
        expected += [(item, other, -cosine) for cosine, other in sorted(near)[:4]]
    found = nearest_by_cosine(offsets, items, 4, decimals=9, item_count=31)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected


def test_without_likes_nothing_is_near():
    nothing = np.empty(0, dtype=np.int32)
    for offsets in ([0], [0, 0]):
        found = nearest_by_cosine(np.array(offsets), nothing, 4, decimals=9, item_count=0)
        assert [len(column) for column in found] == [0, 0, 0]
