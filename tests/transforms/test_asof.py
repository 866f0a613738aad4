"""Blocks of ids and running sums, without Spark."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from transforms import asof


def batches(*keys_of_batches):
    ids = [pa.array(keys, pa.string()) for keys in keys_of_batches]
    return [pa.record_batch({"id": one}) for one in ids]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(["aab"], ["aab"], id="less than a block"),
        pytest.param(["", "aab", ""], ["aab"], id="empty batches"),
        pytest.param(["aabb", "bbcc"], ["aa", "bbbb", "cc"], id="cut at the last id's begin"),
        pytest.param(["aaaa", "bbbb"], ["aaaabbbb"], id="batches that end with an id"),
        pytest.param(["aaaa", "aaaa", "aaab"], ["aaaaaaaaaaa", "b"], id="one id in many batches"),
        pytest.param(["abcd"], ["abc", "d"], id="each row another id"),
    ],
)
def test_each_id_lies_within_one_block(monkeypatch, given, expected):
    monkeypatch.setattr(asof, "_BLOCK_ROWS", 4)
    blocks = asof._blocks(iter(batches(*map(list, given))), "id")
    assert ["".join(block["id"].to_pylist()) for block in blocks] == expected


def test_rows_without_an_id_are_no_group(monkeypatch):
    monkeypatch.setattr(asof, "_BLOCK_ROWS", 2)
    blocks = asof._blocks(iter(batches([None, None], [None, "a"])), "id")
    assert [len(block) for block in blocks] == [1, 2, 1]


def test_sums_equal_a_plain_scan():
    """Random rows and points of several ids, ties and window edges included."""
    rng = np.random.default_rng(5)
    rows = sorted((int(rng.integers(6)), int(rng.integers(40))) for _ in range(200))
    points = sorted((int(rng.integers(7)), int(rng.integers(60))) for _ in range(100))
    row_id, row_at = np.array(rows).T
    point_id, point_at = np.array(points).T
    past = asof.Past(
        row_at=row_at,
        row_id=row_id,
        point_at=point_at,
        point_id=point_id,
        first=np.searchsorted(row_id, point_id),
        end=np.array([sum((i, t) < point for i, t in rows) for point in points]),
    )
    values = rng.integers(-5, 9, len(rows))
    history = timedelta(microseconds=7)
    kept = values > 0

    def scan(earliest, wanted):
        return [
            sum(
                int(value)
                for (i, t), value in zip(rows, values, strict=True)
                if i == own and t < at and t >= earliest(at) and wanted(value)
            )
            for own, at in points
        ]

    assert asof.sums(values, past.first, past.end).tolist() == scan(
        lambda at: -1, lambda value: True
    )
    assert asof.sums(values, past.since(history), past.end).tolist() == scan(
        lambda at: at - 7, lambda value: True
    )
    some = past.only(kept)
    assert asof.sums(values[kept], some.since(history), some.end).tolist() == scan(
        lambda at: at - 7, lambda value: value > 0
    )
