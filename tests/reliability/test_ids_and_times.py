"""Ids and times that break lesser pipelines: each comes out as it went in, or is set aside."""

from __future__ import annotations

import csv
import json
import random
import unicodedata
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from lake_state import RESULTS, state
from shop_world import END, START, Shop, make_shop

pytestmark = pytest.mark.slow

FIRST, LAST = "2026-03-12T18:00Z", "2026-03-13T00:00Z"
IDS = (
    str(2**53 + 1),
    str(2**53),
    str(2**63 - 1),
    "-1",
    "0",
    "00",
    "00123",
    "NaN",
    "null",
    "None",
    "1e5",
    "1.0",
    "true",
    "x" * 500,
    unicodedata.normalize("NFC", "\u00e9"),
    unicodedata.normalize("NFD", "\u00e9"),
    "🦉🫖",
    "\U0001f469\u200d\U0001f467",  # two joined to one
    "\u05e9\u05dc\u05d5\u05dd",
    "\u0645\u0631\u062d\u0628\u0627\u200f",  # from right to left, with its mark
    "a\nb",
    'a "quoted" b',
    "a,b;c|d",
    "../../x",
    "'; DROP TABLE events; --",
    "{json}",
    "%s",
    "\\",
    "tab\there",
    "a\u2028b",
    "\u212a",  # the Kelvin sign, which is no letter K
)
"""Ids that must come out unchanged."""
REFUSED = ("*", "a\0", "a\0b")
"""Ids that mean something else inside: everybody's list, and the end of a text."""


def add_users(shop: Shop, ids: tuple[str, ...]) -> None:
    """Give each id the events of a user of the shop, and each a thing of its own to have bought."""
    header, *rows = shop.events()
    likes = [row for row in rows if row[0] == "u02"]
    items = []
    for number, strange in enumerate(ids):
        rows += [[strange, sku, str(int(at) - number), stars] for _, sku, at, stars in likes]
        # Bought by others too, so that it can be recommended.
        for user in ("u04", "u06", "u08", "u10"):
            at = int(START.timestamp()) + 3600 * (number + 1) + int(user[1:])
            rows.append([user, strange, str(at), "5"])
        items.append([strange, f"Title of {strange}", "tea"])
    shop.write_events([header, *rows])
    with (shop.root / "data" / "items.csv").open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(items)


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop among whose users and goods all the ids are."""
    shop = make_shop(tmp_path_factory.mktemp("strange") / "shop")
    add_users(shop, IDS + REFUSED)
    shop.run(LAST)
    return shop


def column(shop: Shop, table: str, name: str) -> set[str]:
    return set(DeltaTable(shop.lake / table).to_pyarrow_table()[name].to_pylist())


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("events", "user_id"),
        ("events", "item_id"),
        ("items", "item_id"),
        ("users", "user_id"),
        ("user_features", "user_id"),
        ("item_features", "item_id"),
        ("sequences", "user_id"),
        ("examples", "item_id"),
        ("candidates", "user_id"),
        ("similar_items", "item_id"),
    ],
)
def test_ids_go_through_unchanged(strange: Shop, table: str, name: str) -> None:
    found = column(strange, table, name)
    assert set(IDS) - found == set()
    ordinary = {f"u{n:02}" for n in range(90)} | {f"s{t}{n:02}" for t in (0, 1) for n in range(15)}
    # As a thing's id `*` is no harm; as a user's it names everybody's list.
    everybody = name.endswith("item_id") or table == "candidates"
    assert found - set(IDS) - ordinary == ({"*"} if everybody else set())


def test_nobody_is_offered_what_they_have_met_under_a_strange_name(strange: Shop) -> None:
    rows = DeltaTable(strange.lake / "candidates").to_pyarrow_table().to_pylist()
    # The events of a user `*` were refused; its list is everybody's.
    seen = {
        (user, item)
        for user, item, at, _ in strange.events()[1:]
        if user != "*" and int(at) < END.timestamp()
    }
    assert [row for row in rows if (row["user_id"], row["item_id"]) in seen] == []
    keys = Counter((row["user_id"], row["rank"]) for row in rows)
    assert set(keys.values()) == {1}


def test_ids_that_mean_something_else_are_set_aside_with_a_reason(strange: Shop) -> None:
    rows = DeltaTable(strange.lake / "quarantine").to_pyarrow_table().to_pylist()
    assert {(row["table"], row["rule"]) for row in rows} == {
        ("events", "parse:user_id"),
        ("events", "parse:item_id"),
        ("events", "reserved:user_id"),
        ("items", "parse:item_id"),
    }
    shown = [json.loads(row["row"]) for row in rows if row["table"] == "events"]
    assert {row["customer"] for row in shown} >= set(REFUSED)


def test_times_at_the_ends_of_the_world(tmp_path: Path) -> None:
    """1970 is a time, the year 292 billion is none, and the future waits for its interval."""
    shop = make_shop(tmp_path / "shop")
    header, *rows = shop.events()
    year_2100 = "4102444800"
    rows += [
        ["u01", "s000", "0", "4"],
        ["u01", "s001", "-1", "4"],
        ["u02", "s002", year_2100, "4"],
        ["u03", "s003", str(2**63 - 1), "4"],
        ["u04", "s004", "NaN", "4"],
        ["u05", "s005", "Infinity", "4"],
        ["u06", "s006", "1e400", "4"],
    ]
    shop.write_events([header, *rows])
    shop.run(LAST, "+validate")
    times = DeltaTable(shop.lake / "events").to_pyarrow_table()["timestamp"].to_pylist()
    assert sorted(int(time.timestamp()) for time in times)[:2] == [-1, 0]
    assert max(times) < END
    found = DeltaTable(shop.lake / "quarantine").to_pyarrow_table().to_pylist()
    assert Counter(row["rule"] for row in found) == {"parse:timestamp": 4}
    with shop.runner() as runner:
        assert runner.interval(None).end_text == LAST


def test_another_zone_gives_the_same_tables(tmp_path: Path) -> None:
    """Across changes of clocks, a leap day, and devices whose clocks are five minutes off."""
    moments = ["2024-02-29T12:00", "2024-03-10T10:30", "2024-03-31T01:30", "2024-10-27T01:30"]
    here = make_shop(tmp_path / "here")
    here.set_spec("{from: at, unit: s}", "{from: at, unit: iso}")
    header, *rows = here.events()
    skew = random.Random(3)
    for row in rows:
        row[2] = datetime.fromtimestamp(int(row[2]) + skew.randint(-300, 300), UTC).isoformat()
    here.write_events([header, *rows, *(["u00", "s001", moment, "4"] for moment in moments)])
    select = "+examples,sequences"
    tables = ("events", "items", "users", "sequences", "examples")
    there = here.copy(tmp_path / "there")
    here.run(LAST, select)
    # Half hours away from UTC, and its clocks are changed by half an hour.
    there.command("run", "shop", "--at", LAST, "--select", select, TZ="Australia/Lord_Howe")
    assert state(there, tables) == state(here, tables)


def test_not_a_number_and_infinity_are_told_apart_and_kept_out(tmp_path: Path) -> None:
    shop = make_shop(tmp_path / "shop")
    header, *rows = shop.events()
    for place, value in ((-2, "NaN"), (-3, "Infinity"), (-4, "-Infinity"), (-5, "-0.0"), (-6, "")):
        rows[place][3] = value
    shop.write_events([header, *rows])
    shop.run(LAST)
    kept = DeltaTable(shop.lake / "events").to_pyarrow_table()["value"].to_pylist()
    assert [value for value in kept if value is not None and not abs(value) < 10] == []
    found = DeltaTable(shop.lake / "quarantine").to_pyarrow_table().to_pylist()
    assert Counter(row["rule"] for row in found) == {"finite:value": 3}
    assert kept.count(None) == 1
    for table in RESULTS:
        for row in DeltaTable(shop.lake / table).to_pyarrow_table().to_pylist():
            assert not [v for v in row.values() if isinstance(v, float) and not abs(v) < 1e300]
