"""Intervals again, corrected, duplicated and in any order: the tables end the same.

The whole count of orders is `benchmarks/chaos.py`'s; here are the fewest that tell.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable
from lake_state import DATA_TABLES, SNAPSHOTS, registry_state, rows_hash, state, version
from prepared_world import ENDS, prepared
from shop_world import END, Shop, correct, make_shop

pytestmark = pytest.mark.slow

LAST = ENDS[-1]


def events_of(shop: Shop) -> Counter[tuple[str, str, int, float]]:
    """The multiset of events in the table, by what the source says of them."""
    rows = DeltaTable(shop.lake / "events").to_pyarrow_table().to_pylist()
    return Counter(
        (row["user_id"], row["item_id"], int(row["timestamp"].timestamp()), row["value"])
        for row in rows
    )


def source_of(shop: Shop) -> set[tuple[str, str, int, float]]:
    """The distinct events of the file that lie before the last interval's end."""
    return {
        (user, item, int(at), float(stars))
        for user, item, at, stars in shop.events()[1:]
        if int(at) < END.timestamp()
    }


@pytest.fixture(scope="module")
def in_order(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The data half of a shop, interval after interval."""
    return prepared(tmp_path_factory.mktemp("in_order") / "shop", tmp_path_factory)


@pytest.mark.parametrize("order", [(2, 0, 1)], ids=str)
def test_intervals_in_any_order_give_the_same_tables(
    in_order: Shop, tmp_path: Path, order: tuple[int, ...]
) -> None:
    shop = make_shop(tmp_path / "shop")
    for number in order:
        shop.run(ENDS[number], "+features")
    assert state(shop, DATA_TABLES) == state(in_order, DATA_TABLES)
    for table in SNAPSHOTS:
        ends = DeltaTable(shop.lake / table).to_pyarrow_table(columns=["interval_end"])
        assert len(set(ends["interval_end"].to_pylist())) == len(ENDS), table


def test_every_stage_after_validate_three_times_changes_no_row_and_registers_no_second_version(
    in_order: Shop, tmp_path: Path
) -> None:
    shop = in_order.copy(tmp_path / "shop")
    shop.run(LAST)
    once = state(shop)
    with shop.runner() as runner:
        interval = runner.interval(LAST)
        for _ in range(2):
            # `validate` again counts as new data, since it covers less time than the first load.
            for step in shop.project().steps[2:]:
                runner.run_stage(step, interval)
    assert state(shop) == once
    versions, _ = json.loads(registry_state(shop))
    assert len({(name, number) for name, number, *_ in versions}) == len(("popularity", "item_knn"))


def fewer(shop: Shop) -> None:
    """Take three events of the last interval out of the source."""
    rows = shop.events()
    newest = sorted(rows[1:-1], key=lambda row: int(row[2]))[-3:]
    shop.write_events([row for row in rows if row not in newest])


def repeated(shop: Shop) -> None:
    """Send each event one to five times, in any order, in one file."""
    header, *rows = shop.events()
    chance = random.Random(5)
    rows = [row for row in rows for _ in range(chance.randint(1, 5))]
    chance.shuffle(rows)
    shop.write_events([header, *rows])


def repeated_across_files(shop: Shop) -> None:
    """Send every third event again in a second and third file."""
    header, *rows = shop.events()
    folder = shop.root / "data" / "log"
    folder.mkdir()
    for name, part in (("a", rows), ("b", rows[::3]), ("c", rows[::3])):
        text = "\n".join(",".join(row) for row in [header, *part])
        (folder / f"{name}.csv").write_text(f"{text}\n")
    shop.set_spec("path: data/events.csv", "path: data/log/*.csv")


CHANGES: dict[str, Callable[[Shop], None]] = {
    "a rating corrected": correct,
    "three events taken back": fewer,
    "each event one to five times": repeated,
    "a third of them again in two more files": repeated_across_files,
}


@pytest.mark.parametrize(
    ("change", "before"),
    [
        ("a rating corrected", "a loaded table"),
        ("three events taken back", "a loaded table"),
        ("each event one to five times", "an empty table"),
        ("each event one to five times", "a loaded table"),
        ("a third of them again in two more files", "an empty table"),
    ],
)
def test_the_table_holds_exactly_what_the_source_says(
    in_order: Shop, tmp_path: Path, change: str, before: str
) -> None:
    loaded = before == "a loaded table"
    shop = in_order.copy(tmp_path / "shop") if loaded else make_shop(tmp_path / "shop")
    CHANGES[change](shop)
    shop.run(LAST, "+validate")
    assert events_of(shop) == Counter(source_of(shop))
    at = version(shop, "events")
    assert shop.run(LAST, "+validate") == ()
    assert version(shop, "events") == at


def test_a_cut_off_attempt_does_not_stay_behind_when_its_correction_is_withdrawn(
    in_order: Shop, tmp_path: Path
) -> None:
    """The attempt wrote its rows, was never recorded, and the source went back to what it was."""
    shop = in_order.copy(tmp_path / "shop")
    rows = shop.events()
    correct(shop)
    shop.run(LAST, "+validate")
    # The log's newest commit is the success of `validate`: a kill just before leaves this.
    (shop.lake / "runs" / "_delta_log" / f"{version(shop, 'runs'):020}.json").unlink()
    assert rows_hash(shop, "events") != rows_hash(in_order, "events")
    shop.write_events(rows)
    shop.run(LAST, "+features")
    assert state(shop, DATA_TABLES) == state(in_order, DATA_TABLES)


def test_a_blocked_interval_is_filled_by_the_next_one(in_order: Shop, tmp_path: Path) -> None:
    """An interval that never ran is no hole: the next one reaches back to what is covered."""
    shop = make_shop(tmp_path / "shop")
    shop.run(ENDS[0], "+features")
    shop.run(ENDS[2], "+features")
    assert state(shop, DATA_TABLES[:4]) == state(in_order, DATA_TABLES[:4])
    shop.run(ENDS[1], "+features")
    assert state(shop, DATA_TABLES) == state(in_order, DATA_TABLES)
