"""Events that come after their interval: in while they are expected, set aside after, never lost."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from shop_world import Shop, make_shop

pytestmark = pytest.mark.slow

CLOSED, NEXT = "2026-03-12T12:00Z", "2026-03-12T18:00Z"
CLOSED_SECONDS, NEXT_SECONDS = 1773316800, 1773338400
HOUR, DAY = 3600, 86_400
OTHERS = 30 + 90
"""Rows of items, and of the users that events name."""


def keys(rows: list[list[str]]) -> Counter[tuple[str, str, int]]:
    return Counter((user, item, int(at)) for user, item, at, _ in rows)


def accepted(shop: Shop) -> Counter[tuple[str, str, int]]:
    rows = DeltaTable(shop.lake / "events").to_pyarrow_table().to_pylist()
    return Counter(
        (row["user_id"], row["item_id"], int(row["timestamp"].timestamp())) for row in rows
    )


def set_aside(shop: Shop) -> Counter[str]:
    rows = DeltaTable(shop.lake / "quarantine").to_pyarrow_table(columns=["rule"])
    return Counter(rows["rule"].to_pylist())


def told(shop: Shop) -> str:
    """What the newest `validate` said."""
    with shop.runner() as runner:
        return [run.message for run in runner.history.runs if run.stage == "validate"][-1]


def told_by_report(shop: Shop) -> str:
    """`sextant report`, without what intervals cost."""
    return re.sub(
        r": \d+ s, peak [\d.]+ GiB, [\d.]+ core-hours", "", shop.sextant("report", "shop").stdout
    )


def test_late_events_come_in_once_or_are_set_aside_until_their_interval_runs_again(
    tmp_path: Path,
) -> None:
    shop = make_shop(tmp_path / "shop")
    header, *rows = shop.events()
    rows = [row for row in rows if int(row[2]) < NEXT_SECONDS]
    expected = [
        ["u01", "s010", str(CLOSED_SECONDS - 2 * HOUR), "4"],
        ["u02", "s002", str(CLOSED_SECONDS - 23 * HOUR), "4"],
    ]
    too_late = [
        ["u03", "s013", str(CLOSED_SECONDS - 3 * DAY), "4"],
        ["u04", "s004", str(CLOSED_SECONDS - 5 * DAY), "4"],
    ]
    shop.write_events([header, *[row for row in rows if int(row[2]) < CLOSED_SECONDS]])
    shop.run(CLOSED, "+validate")

    repeated = rows[:7]
    everything = [*rows, *expected, *too_late, *repeated]
    shop.write_events([header, *everything])
    shop.run(NEXT, "+validate")
    assert accepted(shop) == keys([*rows, *expected])
    assert set_aside(shop) == {"late:timestamp": len(too_late)}
    waiting = ["2026-03-07T18:00Z", "2026-03-09T18:00Z"]
    taken = "2026-03-11T18:00Z (1), 2026-03-12T12:00Z (1)"
    window = [row for row in [*rows, *expected] if int(row[2]) >= CLOSED_SECONDS - DAY]
    assert told(shop) == (
        f"{len(window) + OTHERS} rows accepted, 2 quarantined, "
        f"2 of them too late for {waiting[0]} (1), {waiting[1]} (1), late and taken in: {taken}"
    )
    assert (
        told_by_report(shop)
        == f"""\
shop, interval that ends at {CLOSED}

shop, interval that ends at {NEXT}
  late and taken into their own intervals: {taken}

2 events came too late and wait until their intervals run again: {waiting[0]} (1), {waiting[1]} (1)
  Take them in: sextant run shop --at {waiting[0]} --select +validate
  Take them in: sextant run shop --at {waiting[1]} --select +validate
"""
    )
    # Nothing is lost and nothing counted twice.
    duplicates = len(everything) - len(keys(everything))
    total = accepted(shop).total() + set_aside(shop).total() + duplicates
    assert total == len(everything)

    for _, _, at, _ in too_late:
        end = (int(at) // (6 * HOUR) + 1) * 6 * HOUR
        shop.run(f"{datetime.fromtimestamp(end, UTC):%Y-%m-%dT%H:%MZ}", "+validate")
    assert accepted(shop) == keys([*rows, *expected, *too_late])
    assert set_aside(shop) == {}
    assert "too late" not in told_by_report(shop)


def test_ten_times_the_events_of_an_interval_all_come_in(tmp_path: Path) -> None:
    shop = make_shop(tmp_path / "shop")
    shop.run(CLOSED, "+validate")
    header, *rows = shop.events()
    rows = [row for row in rows if int(row[2]) < NEXT_SECONDS]
    spike = [
        [f"u{turn % 90:02}", f"s{turn % 2}{turn % 15:02}", str(CLOSED_SECONDS + turn), "5"]
        for turn in range(2000)
    ]
    shop.write_events([header, *rows, *spike])
    shop.run(NEXT, "+validate")
    assert accepted(shop) == keys([*rows, *spike])
