"""Two weeks of intervals, one after another as their events arrive, with nobody at hand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from shop_world import START, make_shop

from pipelines.graph import EVERYBODY
from pipelines.intervals import text

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

EVERY = timedelta(hours=6)
AGAIN = timedelta(days=8)
"""After this time everybody rates the same goods once more."""

INTERVALS = 56
FILES = 40
"""More files than this in a table of the tiny shop would grow without bound over the years."""


def test_two_weeks_run_unattended(tmp_path: Path) -> None:
    shop = make_shop(tmp_path / "shop")
    header, *rows = shop.events()
    later = [[*row[:2], str(int(row[2]) + int(AGAIN.total_seconds())), row[3]] for row in rows]
    arriving = sorted([*rows, *later], key=lambda row: int(row[2]))
    for number in range(INTERVALS):
        end = START + timedelta(days=6) + number * EVERY
        known = [row for row in arriving if int(row[2]) < end.timestamp()]
        shop.write_events([header, *known])
        shop.sextant("run", "shop", "--at", text(end))
        served = DeltaTable(shop.lake / "candidates").to_pyarrow_table().to_pylist()
        assert {row["interval_end"] for row in served} == {end}
        assert {row["user_id"] for row in served} == {EVERYBODY, *(row[0] for row in known)}
    events = DeltaTable(shop.lake / "events").to_pyarrow_table(columns=["timestamp"])
    assert len(events) == len({tuple(row[:3]) for row in known})
    runs = DeltaTable(shop.lake / "runs").to_pyarrow_table().to_pylist()
    assert {row["status"] for row in runs} == {"started", "succeeded"}
    for log in shop.lake.glob("*/_delta_log"):
        assert len(DeltaTable(log.parent).file_uris()) <= FILES, log.parent.name
