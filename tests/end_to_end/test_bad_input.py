"""What a user may get wrong, with the whole message, and that nothing served is lost by it.

Each case starts from a shop whose second-last interval is complete, breaks something, runs the last
interval, and looks at what is served.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from prepared_world import ENDS, prepared
from shop_world import END, Shop, make_shop

pytestmark = pytest.mark.slow

FIRST, LAST = ENDS[1:]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with one published interval."""
    shop = prepared(tmp_path_factory.mktemp("finished") / "shop", tmp_path_factory, intervals=2)
    shop.sextant("run", "shop", "--at", FIRST)
    return shop


@pytest.fixture
def shop(finished: Shop, tmp_path: Path) -> Shop:
    """A copy of it to break."""
    shutil.copytree(finished.root, tmp_path / "shop")
    return Shop(tmp_path / "shop")


def served(shop: Shop) -> tuple[int, set[str]]:
    """Version of the candidates, and the runs in it."""
    table = DeltaTable(shop.lake / "candidates")
    return table.version(), set(table.to_pyarrow_table(columns=["run_id"])["run_id"].to_pylist())


def no_file(shop: Shop) -> None:
    (shop.root / "data" / "events.csv").rename(shop.root / "data" / "event.csv")


def wrong_delimiter(shop: Shop) -> None:
    shop.write_events(shop.events(), delimiter=";")


def no_column(shop: Shop) -> None:
    rows = shop.events()
    shop.write_events([["customer", "sku", "when", "stars"], *rows[1:]])


def unknown_key(shop: Shop) -> None:
    shop.set_spec("candidates: {k: 5", "candidates: {kk: 5")


def registry_down(shop: Shop) -> None:
    shop.set_spec("  spark:", "  mlflow: {tracking_uri: 'http://127.0.0.1:9'}\n  spark:")


def empty_interval(shop: Shop) -> None:
    first = int(END.timestamp()) - 6 * 3600
    rows = shop.events()
    shop.write_events([rows[0], *[row for row in rows[1:] if int(row[2]) < first]])


CASES: dict[str, tuple[Callable[[Shop], None], int, str]] = {
    "missing file": (
        no_file,
        1,
        "{root}/data/events.csv: there is no such file or folder. Did you mean `event.csv`?\n"
        "\nNext: sextant run shop --at 2026-03-13T00:00Z\n",
    ),
    "wrong delimiter": (
        wrong_delimiter,
        1,
        '{root}/data/events.csv: with the delimiter "," every line is one field, but 4 columns are '
        'mapped. The delimiter looks like ";": set `delimiter: ";"`.\n'
        "  First line: customer;sku;at;stars\n"
        "\nNext: sextant run shop --at 2026-03-13T00:00Z\n",
    ),
    "missing column": (
        no_column,
        1,
        "{root}/data/events.csv: 1 mapped column is missing.\n"
        "  `at` is not in the source.\n"
        "  The source has: customer, sku, when, stars.\n"
        "\nNext: sextant run shop --at 2026-03-13T00:00Z\n",
    ),
    "unknown key": (
        unknown_key,
        2,
        "configs/pipelines/shop.yaml:15:14: `candidates`: unknown key `kk`\n"
        "  15 | candidates: {kk: 5, similar_items: 3, blend: {item_knn: 1.0}}\n"
        "     |              ^\n"
        "     = Did you mean `k`? Keys here: k, blend, active_within, similar_items, batch.\n",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_explained_and_changes_nothing(shop: Shop, name: str) -> None:
    breakage, code, message = CASES[name]
    before = served(shop)
    breakage(shop)
    done = shop.sextant("run", "shop", "--at", LAST, check=False)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.endswith(message.replace("{root}", str(shop.root)))
    assert "Traceback" not in done.stderr
    assert served(shop) == before


def test_an_interval_without_events_is_blocked_and_tried_again(shop: Shop) -> None:
    events, before = shop.events(), served(shop)
    empty_interval(shop)
    done = shop.sextant("run", "shop", "--at", LAST, check=False)
    assert done.returncode == 3
    assert "breaks its contracts. Nothing was trained or published." in done.stderr
    assert "The table has no rows. Check the source's path and the interval" in done.stderr
    assert done.stderr.endswith("Next: sextant run shop --at 2026-03-13T00:00Z\n")
    assert served(shop) == before
    shop.write_events(events)
    shop.sextant("run", "shop", "--at", LAST)
    assert served(shop)[1] == {f"shop@{LAST}"}


def test_text_for_a_number_is_quarantined_with_its_reason(shop: Shop) -> None:
    rows = shop.events()
    rows[-2][3] = "five"
    rows[-3][2] = "yesterday"
    shop.write_events(rows)
    shop.sextant("run", "shop", "--at", LAST, "--select", "+validate")
    found = DeltaTable(shop.lake / "quarantine").to_pyarrow_table().to_pylist()
    assert sorted((row["table"], row["rule"]) for row in found) == [
        ("events", "parse:timestamp"),
        ("events", "parse:value"),
    ]
    assert all('"stars":' in row["row"] for row in found)


def test_a_vector_of_the_wrong_width_is_quarantined(shop: Shop) -> None:
    items = pa.table(
        {
            "sku": [f"s{taste}{number:02}" for taste in (0, 1) for number in range(15)],
            "vector": [[0.5] * (767 if number == 3 else 768) for number in range(30)],
        }
    )
    pq.write_table(items, shop.root / "data" / "items.parquet")
    shop.set_spec("path: data/items.csv\n    format: csv", "path: data/items.parquet")
    shop.set_spec(
        '{item_id: sku, title: name, categories: {from: kind, split: "|"}}',
        "{item_id: sku, text_embedding: vector}",
    )
    shop.sextant("run", "shop", "--at", LAST, "--select", "+validate")
    found = DeltaTable(shop.lake / "quarantine").to_pyarrow_table().to_pylist()
    assert [(row["table"], row["rule"]) for row in found] == [
        ("items", "vector_width:text_embedding")
    ]
    kept = DeltaTable(shop.lake / "items").to_pyarrow_table(columns=["item_id"])
    assert kept.num_rows == 29


def test_a_corrupted_parquet_file_is_named(shop: Shop) -> None:
    header, *rows = shop.events()
    table = pa.table({name: [row[place] for row in rows] for place, name in enumerate(header)})
    file = shop.root / "data" / "events.parquet"
    pq.write_table(table, file, compression="none", write_page_checksum=True)
    content = bytearray(file.read_bytes())
    content[2000] ^= 0xFF
    file.write_bytes(content)
    shop.set_spec("path: data/events.csv\n    format: csv", "path: data/events.parquet")
    before = served(shop)
    done = shop.sextant("run", "shop", "--at", LAST, check=False)
    assert done.returncode == 1
    assert (
        f"{file}: cannot be read: its checksum is wrong, so bytes changed since it was written. "
        "Fetch or export the file again; nothing was written.\n" in done.stderr
    )
    assert served(shop) == before


def test_an_unreachable_registry_stops_before_publication(shop: Shop) -> None:
    before = served(shop)
    registry_down(shop)
    done = shop.sextant("run", "shop", "--at", LAST, check=False)
    assert done.returncode == 1
    assert "The model registry http://127.0.0.1:9 does not answer: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith("Next: sextant run shop --at 2026-03-13T00:00Z\n")
    assert served(shop) == before


def test_one_user_who_does_nothing_in_the_test_cannot_be_judged(tmp_path: Path) -> None:
    shop = make_shop(tmp_path)
    header, *rows = shop.events()
    test_start = int(END.timestamp()) - 2 * 24 * 3600
    early = [row for row in rows if row[0] == "u00" and int(row[2]) < test_start]
    # The source still lives: the user comes back to what they have met.
    again = [*early[0][:2], str(int(END.timestamp()) - 3600), "5"]
    shop.write_events([header, *early, again])
    done = shop.sextant("run", "shop", "--at", LAST, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "Nobody can be judged: from 2026-03-11T00:00Z to 2026-03-13T00:00Z no user liked an item "
        "that they had not met before.\n"
        "  Make `evaluation.test` longer than 2d, or lower `features.label.threshold`.\n"
        "\nNext: sextant run shop --at 2026-03-13T00:00Z\n"
    )
    assert not (shop.lake / "candidates").exists()


def test_one_item_is_served_by_popularity_to_whoever_has_not_met_it(tmp_path: Path) -> None:
    shop = make_shop(tmp_path)
    header, *rows = shop.events()
    shop.write_events([header, *[row for row in rows if row[1] == "s000"]])
    shop.sextant("run", "shop", "--at", LAST)
    found = DeltaTable(shop.lake / "candidates").to_pyarrow_table().to_pylist()
    assert [(row["user_id"], row["item_id"], row["source"]) for row in found] == [
        ("*", "s000", "popularity")
    ]
