"""One shop whose events come from each kind of source: the same tables, and new rows read alone."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from shop_world import Shop, make_shop

pytestmark = pytest.mark.slow

FIRST, LAST = "2026-03-12T18:00Z", "2026-03-13T00:00Z"
CUT = int(datetime(2026, 3, 12, 18, tzinfo=UTC).timestamp())

Rows = list[list[str]]


def jsonl(data: Path, rows: Rows, part: int) -> None:
    for user, item, at, stars in rows:
        day = datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%d")
        file = data / "log" / f"dt={day}" / f"{part}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        line = {"customer": {"id": user}, "sku": item, "at": int(at), "stars": float(stars)}
        with file.open("a") as log:
            log.write(json.dumps(line) + "\n")
    for file in data.rglob(f"{part}.jsonl"):
        with pa.CompressedOutputStream(str(file) + ".zst", "zstd") as packed:
            packed.write(file.read_bytes())
        file.unlink()


def sqlite(data: Path, rows: Rows, part: int) -> None:
    with sqlite3.connect(data / "shop.db") as base:
        base.execute(
            "CREATE TABLE IF NOT EXISTS log "
            "(id INTEGER PRIMARY KEY, customer TEXT, sku TEXT, at INTEGER, stars REAL)"
        )
        insert = "INSERT INTO log (customer, sku, at, stars) VALUES (?, ?, ?, ?)"
        base.executemany(insert, rows)
    base.close()


def delta(data: Path, rows: Rows, part: int) -> None:
    columns = dict(zip(("customer", "sku", "at", "stars"), zip(*rows, strict=True), strict=True))
    times = pa.array([int(at) * 1_000_000 for at in columns["at"]], pa.timestamp("us", tz="UTC"))
    table = {name: pa.array(values) for name, values in columns.items()} | {"at": times}
    write_deltalake(data / "log", pa.table(table), mode="append")


def words(data: Path, rows: Rows, part: int) -> None:
    with (data / f"log{part}.txt").open("w", newline="") as file:
        csv.writer(file, delimiter=" ").writerows([["customer", "sku", "at", "stars"], *rows])


KINDS: dict[str, tuple[Callable[[Path, Rows, int], None], str, int]] = {
    # How it is written, how it is declared, and how many files or parts it is after two intervals.
    "jsonl": (
        jsonl,
        "path: data/log\n    format: jsonl\n"
        "    columns: {user_id: customer.id, item_id: sku, timestamp: {from: at, unit: s}, "
        "value: stars, location: dt}",
        14,
    ),
    "sqlite": (
        sqlite,
        "path: jdbc:sqlite:data/shop.db\n    table: log\n    cursor: id\n"
        "    columns: {user_id: customer, item_id: sku, timestamp: {from: at, unit: s}, "
        "value: stars}",
        2,
    ),
    "delta": (
        delta,
        "path: data/log\n    format: delta\n"
        "    columns: {user_id: customer, item_id: sku, timestamp: at, value: stars}",
        1,
    ),
    "words": (
        words,
        "path: data/log*.txt\n    delimiter: whitespace\n"
        "    columns: {user_id: customer, item_id: sku, timestamp: {from: at, unit: s}, "
        "value: stars}",
        2,
    ),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[object, ...]]:
    """The events that the shop has from a CSV file."""
    shop = make_shop(tmp_path_factory.mktemp("csv") / "shop")
    shop.run(LAST, "+validate")
    return events_of(shop)


def events_of(shop: Shop) -> set[tuple[object, ...]]:
    names = ["event_id", "user_id", "item_id", "event_type", "value", "timestamp"]
    rows = DeltaTable(shop.lake / "events").to_pyarrow_table(columns=names).to_pylist()
    found = {tuple(row.values()) for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_gives_the_same_events(
    tmp_path: Path, expected: set[tuple[object, ...]], kind: str
) -> None:
    write, declared, parts = KINDS[kind]
    shop = make_shop(tmp_path / "shop")
    rows = shop.events()[1:]
    shop.set_spec(
        "path: data/events.csv\n    format: csv\n    columns: {user_id: customer, item_id: sku, "
        "timestamp: {from: at, unit: s}, value: stars}",
        declared,
    )
    (shop.root / "data" / "events.csv").unlink()
    write(shop.root / "data", [row for row in rows if int(row[2]) < CUT], 1)
    shop.run(FIRST, "+validate")
    landed = files_of(shop)
    write(shop.root / "data", [row for row in rows if int(row[2]) >= CUT], 2)
    shop.run(LAST, "+validate")
    assert events_of(shop) == expected
    assert len(files_of(shop)) == parts
    if kind != "delta":  # A table that grew is read again; of the others, what was read stays.
        assert landed.items() <= files_of(shop).items()
    before = DeltaTable(shop.lake / "events").version()
    shop.run(LAST, "+validate")
    assert DeltaTable(shop.lake / "events").version() == before


def files_of(shop: Shop) -> dict[str, str]:
    """The events' files that were landed, with their marks."""
    rows = DeltaTable(shop.lake / "landed_files").to_pyarrow_table().to_pylist()
    return {row["path"]: row["mark"] for row in rows if row["table"] == "events"}
