"""Rows drawn out of a stream: few, the same ones, and as many as they stand for."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from training import drift_sample
from training.drift import DriftThresholds
from training.drift_columns import WEIGHT, slot_of
from training.drift_sample import People, sample

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


def kept(rows: pa.Table, most: int, seed: int = 1, size: int = 700) -> list[dict]:
    """What is kept of people while rows pass, and that they pass."""
    people = People(("user_id", "value"), most=most, seed=seed)
    passed = pa.Table.from_batches(people.watch(rows.to_batches(max_chunksize=size)))
    assert passed.equals(rows)
    return people.rows().sort_by([("user_id", "ascending"), ("value", "ascending")]).to_pylist()


def test_people_keep_all_their_rows_as_many_as_fit(rows: pa.Table) -> None:
    count = Counter(rows["user_id"].to_pylist())
    found = kept(rows, most=1000)
    whole = Counter(row["user_id"] for row in found)
    assert 900 < len(found) <= 1000
    assert whole == {user: count[user] for user in whole}
    assert kept(rows.take(pa.array(np.arange(rows.num_rows)[::-1])), most=1000, size=64) == found
    others = {row["user_id"] for row in kept(rows, most=1000, seed=2)}
    assert len(others & set(whole)) < len(whole) / 2


def test_everybody_is_kept_where_there_is_room_and_nobody_without_an_id(rows: pa.Table) -> None:
    assert len(kept(rows, most=rows.num_rows)) == rows.num_rows
    ids = [None, *rows["user_id"].to_pylist()[1:]]
    some = rows.set_column(1, "user_id", pa.array(ids))
    assert len(kept(some, most=rows.num_rows)) == rows.num_rows - 1
    without = People(("user_id", "mood"), most=10, seed=1)
    assert len(list(without.watch(rows.to_batches()))) == len(rows.to_batches())
    assert without.rows() is None


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
