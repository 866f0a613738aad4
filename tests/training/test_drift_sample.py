"""Rows drawn out of a stream: few, the same ones, and as many as they stand for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from training import drift_sample
from training.drift import DriftThresholds
from training.drift_columns import WEIGHT, slot_of
from training.drift_sample import sample

END = datetime(2026, 2, 1, tzinfo=UTC)
EVERY = timedelta(hours=6)
SIZES = (3000, 500, 40, 0, 1500)
"""Rows of the intervals, the newest first."""


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """Rows of five intervals, in any order, many at the same second."""
    rng = np.random.default_rng(4)
    back = np.repeat(np.arange(len(SIZES)), SIZES)
    seconds = rng.integers(1, 200, len(back)) + back * 6 * 3600
    table = pa.table(
        {
            "timestamp": pa.array(
                [END - timedelta(seconds=int(each)) for each in seconds],
                pa.timestamp("us", tz="UTC"),
            ),
            "user_id": [f"u{number}" for number in rng.integers(0, 300, len(back))],
            "item_id": [f"i{number}" for number in range(len(back))],
            "back": back,
            "value": rng.normal(size=len(back)),
        }
    )
    return table.take(pa.array(rng.permutation(len(back))))


def drawn(rows: pa.Table, most: int = 100, seed: int = 1, size: int = 700) -> pa.Table:
    batches = rows.to_batches(max_chunksize=size)
    return sample(batches, rows.schema, end=END, every=EVERY, most=most, seed=seed)


def test_each_interval_keeps_so_many_and_they_stand_for_all(rows: pa.Table) -> None:
    found = drawn(rows).to_pandas()
    kept = found.groupby("back").size()
    assert kept.to_dict() == {0: 100, 1: 100, 2: 40, 4: 100}
    stands_for = found.groupby("back")[WEIGHT].sum()
    assert stands_for.to_dict() == pytest.approx({0: 3000, 1: 500, 2: 40, 4: 1500})


def test_the_same_rows_whatever_the_files_and_others_by_another_seed(
    rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ids(found: pa.Table) -> list[str]:
        return found["item_id"].to_pylist()

    expected = ids(drawn(rows))
    turned = rows.take(pa.array(np.arange(rows.num_rows)[::-1]))
    monkeypatch.setattr(drift_sample, "_SPARE", 50)
    assert ids(drawn(turned, size=64)) == expected
    assert len(set(ids(drawn(rows, seed=2))) & set(expected)) < len(expected) / 2


def test_drawn_rows_are_like_all_rows(rows: pa.Table) -> None:
    """The mean of many draws of a hundred is that of all, within three standard errors."""
    newest = rows.filter(pa.array(rows["back"].to_numpy() == 0))["value"].to_numpy()
    means = []
    for seed in range(60):
        found = drawn(rows, seed=seed)
        means.append(
            found.filter(pa.array(found["back"].to_numpy() == 0))["value"].to_numpy().mean()
        )
    assert np.mean(means) == pytest.approx(newest.mean(), abs=3 * newest.std() / np.sqrt(100 * 60))
    assert np.std(means) == pytest.approx(newest.std() / np.sqrt(100), rel=0.4)


def test_where_all_fit_nothing_is_weighed(rows: pa.Table) -> None:
    found = drawn(rows, most=3000)
    assert found.num_rows == rows.num_rows
    assert WEIGHT not in found.column_names
    assert drawn(rows.slice(0, 0)).num_rows == 0


def test_a_day_of_drawn_intervals_has_the_mixture_of_the_whole_day(rows: pa.Table) -> None:
    limits = DriftThresholds(min_rows=50, sample_rows=100)
    slot = slot_of(drawn(rows), END, timedelta(days=1), limits, np.random.default_rng(0))
    assert slot.counts_D.tolist() == [3540, 1500]
    newest = slot.current["back"].to_numpy()
    assert len(newest) == 100
    assert np.mean(newest == 0) == pytest.approx(3000 / 3540, abs=0.12)
