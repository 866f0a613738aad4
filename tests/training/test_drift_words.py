"""What a verdict says of the cause, when the data tell one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from drift_world import report_of, window


def days(draw, count: int = 20, rows: int = 600) -> pa.Table:
    """Days of one interval; `draw(rng, day)` changes the columns of a day, 0 the last one."""
    rng = np.random.default_rng(2)
    found = []
    for day in reversed(range(count)):
        columns = {
            "user_id": [f"u{number}" for number in rng.integers(0, 500, rows)],
            "item_id": [f"i{number:06d}" for number in rng.integers(0, 90, rows)],
            "device": rng.choice(["phone", "tv"], rows, p=[0.7, 0.3]),
            "age": rng.normal(size=rows),
        }
        found.append(pa.table(draw(rng, day, columns)))
    return window(*found)


def causes(tmp_path, draw) -> tuple[str, ...]:
    verdict = report_of(tmp_path, days(draw), watched=["device", "age"])
    for cause in verdict.causes:
        assert f"probable cause: {cause}" in verdict.words
    return verdict.causes


def test_quiet_days_have_no_cause(tmp_path):
    assert causes(tmp_path, lambda _rng, _day, columns: columns) == ()


def test_a_new_category_is_named(tmp_path):
    def draw(rng, day, columns):
        glasses = (rng.random(600) < 0.25) & (day == 0)
        return {**columns, "device": np.where(glasses, "glasses", columns["device"])}

    [cause] = causes(tmp_path, draw)
    assert cause.startswith("new category of device: glasses, 2")


def test_a_source_that_is_missing_is_named_by_what_it_brought(tmp_path):
    def draw(_rng, day, columns):
        table = pa.table(columns)
        return table.filter(pa.array(columns["device"] != "tv")) if day == 0 else table

    [cause] = causes(tmp_path, draw)
    assert cause.startswith("0 rows with device tv, 1")
    assert cause.endswith(" are usual: a source of them may be missing")


def test_a_source_that_sends_less_of_everything_is_named(tmp_path):
    def draw(_rng, day, columns):
        table = pa.table(columns)
        return table.slice(0, 200) if day == 0 else table

    assert causes(tmp_path, draw) == ("200 rows, 600 are usual: a source may be missing",)


def test_the_burst_of_an_item_is_named(tmp_path):
    def draw(rng, day, columns):
        hit = (rng.random(600) < 0.4) & (day == 0)
        items = np.where(hit, "i000007", columns["item_id"])
        return {**columns, "item_id": items, "age": columns["age"] + 3.0 * hit}

    [cause] = causes(tmp_path, draw)
    assert cause.startswith("one item, i000007, takes 38%")
    assert cause.endswith(" of the rows; the top item usually 2%")
