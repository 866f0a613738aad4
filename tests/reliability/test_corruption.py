"""Bytes that change on disk: every flip in a table's file is an error that names the file."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from flips import flipped, places, unseen
from shop_world import Shop, make_shop

from pipelines.errors import StageError
from pipelines.lake import Lake

pytestmark = pytest.mark.slow

FLIPS = 24
START = datetime(2026, 3, 1, tzinfo=UTC)


def rows() -> pa.Table:
    """A table of ids, times and numbers, large enough for several pages of each."""
    chance = random.Random(3)
    return pa.table(
        {
            "user_id": [f"u{chance.randrange(10**9)}" for _ in range(4000)],
            "timestamp": pa.array(
                [START + timedelta(seconds=chance.randrange(10**6)) for _ in range(4000)],
                pa.timestamp("us", tz="UTC"),
            ),
            "value": [chance.random() for _ in range(4000)],
        }
    )


@pytest.mark.parametrize("writer", ["spark", "arrow"])
@pytest.mark.parametrize("reader", ["spark", "arrow"])
def test_every_flip_is_found_and_names_its_file(
    spark, tmp_path: Path, writer: str, reader: str
) -> None:
    lake = Lake(str(tmp_path), "shop")
    table = rows()
    lake.replace_all("events", spark.createDataFrame(table) if writer == "spark" else table, {})
    (file,) = (lake.folder / "events").glob("*.parquet")
    beside = file.with_name(f".{file.name}.crc")
    if writer == "spark":
        beside.unlink()  # as on an object store: what is in the pages must do

    def read() -> object:
        if reader == "arrow":
            return lake.arrow("events")
        return lake.spark(spark, "events").collect()

    assert unseen(file, read, FLIPS) == []


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncated, emptied, Path.unlink], ids=lambda d: d.__name__)
def test_a_file_cut_short_or_gone_is_never_masked_by_a_count(
    spark, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    lake = Lake(str(tmp_path), "shop")
    lake.replace_all("events", rows(), {})
    (file,) = (lake.folder / "events").glob("*.parquet")
    damage(file)
    reason = "it is gone" if damage is Path.unlink else "its checksum is wrong"
    for read in (lambda: lake.arrow("events"), lambda: lake.count("events")):
        with pytest.raises(StageError) as caught:
            read()
        assert str(caught.value) == (
            f"{file}: this file of the table `events` is damaged: {reason}.\n"
            "  Bring it back from a copy; or remove the folder of the table, then run the stage "
            "that writes it again."
        )


@pytest.fixture(scope="module")
def featured(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = make_shop(tmp_path_factory.mktemp("featured") / "shop")
    shop.run("2026-03-13T00:00Z", "+validate")
    return shop


def test_a_stage_that_reads_a_damaged_table_names_the_file_and_no_traceback(
    featured: Shop, tmp_path: Path
) -> None:
    shop = featured.copy(tmp_path / "shop")
    (file, *_) = sorted((shop.lake / "events").glob("*.parquet"))
    # In the second column, the users, which the stage reads.
    file.write_bytes(flipped(file.read_bytes(), places(file, 2)[1]))
    with pytest.raises(StageError) as caught:
        shop.run("2026-03-13T00:00Z", "behaviour")
    assert str(caught.value) == (
        "Stage `behaviour` failed for the interval that ends at 2026-03-13T00:00Z.\n"
        f"{file}: cannot be read: its checksum is wrong, so bytes changed since it was written. "
        "Bring it back from a copy; or remove the folder of the table, then run the stage that "
        "writes it again."
    )


def test_a_base_table_that_is_removed_is_made_again_whole(featured: Shop, tmp_path: Path) -> None:
    """The cure that the message names must not cost the rows of earlier intervals."""
    import shutil

    from lake_state import rows_hash

    shop = featured.copy(tmp_path / "shop")
    shutil.rmtree(shop.lake / "events")
    shop.run("2026-03-13T00:00Z", "+validate")
    assert rows_hash(shop, "events") == rows_hash(featured, "events")
