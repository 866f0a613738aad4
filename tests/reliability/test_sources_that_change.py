"""Sources whose columns, types or size change between two intervals: six kinds, and half a catalogue."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from shop_world import Shop, make_shop

from pipelines.errors import ContractError, SextantError
from transforms.sources import SourceError

pytestmark = pytest.mark.slow

FIRST, SECOND = "2026-03-12T12:00Z", "2026-03-12T18:00Z"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with typed events, one interval of which has been validated."""
    shop = make_shop(tmp_path_factory.mktemp("typed") / "shop")
    events = pc.read_csv(shop.root / "data" / "events.csv")
    events = events.set_column(2, "at", events["at"].cast(pa.int32()))
    write(shop, events.append_column("channel", pa.array(["web"] * events.num_rows)))
    shop.set_spec("path: data/events.csv\n    format: csv", "path: data/events.parquet")
    shop.run(FIRST, "+validate")
    return shop


def versions(lake: Path) -> dict[str, int]:
    """The version of every table but the run record."""
    logs = [log.parent for log in lake.glob("*/_delta_log") if log.parent.name != "runs"]
    return {table.name: DeltaTable(table).version() for table in logs}


def write(shop: Shop, events: pa.Table) -> None:
    pq.write_table(events, shop.root / "data" / "events.parquet")


def changed(events: pa.Table, kind: str) -> pa.Table:
    """The events with a change of a column that the mapping reads, or beside it."""

    def typed(column: str, to: pa.DataType) -> pa.Table:
        return events.set_column(events.column_names.index(column), column, events[column].cast(to))

    match kind:
        case "added":
            return events.append_column("city", pa.array(["Rome"] * events.num_rows))
        case "dropped beside the mapping":
            return events.drop_columns(["channel"])
        case "renamed":
            names = ["client" if name == "customer" else name for name in events.column_names]
            return events.rename_columns(names)
        case "widened":
            return typed("at", pa.int64())
        case "narrowed":
            return typed("stars", pa.int16())
        case "retyped":
            return typed("stars", pa.string())
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["added", "dropped beside the mapping", "widened"])
def test_a_change_that_the_mapping_survives_is_said_and_goes_on(
    loaded: Shop, tmp_path: Path, kind: str
) -> None:
    shop = loaded.copy(tmp_path / "shop")
    write(shop, changed(pq.read_table(shop.root / "data" / "events.parquet"), kind))
    assert shop.run(SECOND, "+validate") == ("ingest", "validate")


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        pytest.param(
            "renamed", SourceError, "`customer` is not in the source.", id="renamed"
        ),
        pytest.param(
            "narrowed", ContractError, "column stars was bigint and is now smallint", id="narrowed"
        ),
        pytest.param(
            "retyped", ContractError, "column stars was bigint and is now string", id="retyped"
        ),
    ],
)  # fmt: skip
def test_a_change_that_it_does_not_stops_before_any_table_changes(
    loaded: Shop, tmp_path: Path, kind: str, error: type[Exception], said: str
) -> None:
    shop = loaded.copy(tmp_path / "shop")
    before = versions(shop.lake)
    write(shop, changed(pq.read_table(shop.root / "data" / "events.parquet"), kind))
    with pytest.raises(SextantError, match=said) as caught:
        shop.run(SECOND, "+validate")
    assert any(isinstance(one, error) for one in (caught.value, caught.value.__cause__))
    assert versions(shop.lake) == before


def test_a_catalogue_that_shrinks_by_half_is_blocked(loaded: Shop, tmp_path: Path) -> None:
    shop = loaded.copy(tmp_path / "shop")
    items = (shop.root / "data" / "items.csv").read_text().splitlines()
    (shop.root / "data" / "items.csv").write_text("\n".join(items[: len(items) // 2]) + "\n")
    before = DeltaTable(shop.lake / "items").version()
    with pytest.raises(ContractError, match="size_change"):
        shop.run(SECOND, "+validate")
    assert DeltaTable(shop.lake / "items").version() == before


def test_files_that_did_not_change_are_not_read_again(tmp_path: Path) -> None:
    """DE-34: the run record says how many files each run read."""
    shop = make_shop(tmp_path / "shop")
    header, *rows = shop.events()
    shop.set_spec("path: data/events.csv", "path: data/log/*.csv")
    log = shop.root / "data" / "log"
    log.mkdir()

    def day(number: int, part: list[list[str]]) -> None:
        lines = [",".join(row) for row in [header, *part]]
        (log / f"{number}.csv").write_text("\n".join(lines) + "\n")

    cut = 1773316800  # the end of the first interval
    day(1, [row for row in rows if int(row[2]) < cut])
    shop.run(FIRST, "+validate")
    day(2, [row for row in rows if int(row[2]) >= cut])
    shop.run(SECOND, "+validate")
    with shop.runner() as runner:
        read = [
            run.detail["files_read"]
            for run in runner.history.runs
            if run.stage == "ingest" and run.status == "succeeded"
        ]
    assert read == [1, 1]
