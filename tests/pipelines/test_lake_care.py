"""What keeps tables small: merging, dropping and removing, over many intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.lake import Lake

START = datetime(2026, 1, 1, tzinfo=UTC)


def interval(number: int) -> datetime:
    return START + number * timedelta(hours=6)


def rows(number: int, count: int = 3) -> pa.Table:
    ends = pa.array([interval(number)] * count, pa.timestamp("us", tz="UTC"))
    return pa.table({"id": [f"{number}-{row}" for row in range(count)], "interval_end": ends})


def active_files(lake: Lake, table: str) -> int:
    return len(lake._open(table).file_uris())


@pytest.mark.slow
def test_files_stay_few_over_a_hundred_intervals(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), "shop")
    most = 0
    for number in range(100):
        lake.replace_interval("features", rows(number), interval(number), {})
        lake.compact("features", 16)
        most = max(most, active_files(lake, "features"))
    assert most <= 17
    kept = lake.arrow("features")
    assert sorted(kept["id"].to_pylist()) == sorted(
        f"{n}-{r}" for n in range(100) for r in range(3)
    )
    assert lake.newest_interval("features") == interval(99)


def test_old_intervals_are_dropped_and_then_removed(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), "shop")
    for number in range(6):
        lake.replace_interval("features", rows(number), interval(number), {})
    assert lake.drop_before("features", interval(4)) == 12
    assert lake.drop_before("features", interval(4)) == 0
    assert set(lake.arrow("features")["interval_end"].to_pylist()) == {interval(4), interval(5)}
    folder = Path(lake.path("features"))
    assert len(list(folder.glob("*.parquet"))) == 6
    assert lake.vacuum("features", timedelta(days=7)) == 0
    assert lake.vacuum("features", timedelta(0)) == 4
    assert len(list(folder.glob("*.parquet"))) == 2
    assert lake.arrow("features").num_rows == 6


def test_of_the_graph_only_the_similar_items_of_old_intervals_are_dropped(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), "shop")
    for number in range(3):
        relations = pa.array(["follows", "interacts", "similar"])
        edges = rows(number).append_column("relation", relations)
        lake.replace_interval("graph_edges", edges, interval(number), {})
    where = {"relation": "similar"}
    assert lake.drop_before("graph_edges", interval(2), where=where) == 2
    version = lake.version("graph_edges")
    assert lake.drop_before("graph_edges", interval(2), where=where) == 0
    assert lake.version("graph_edges") == version
    assert lake.count("graph_edges") == 7
    assert lake.arrow("graph_edges", where=where)["id"].to_pylist() == ["2-2"]


def test_an_empty_table_has_no_newest_interval(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), "shop")
    lake.replace_all("features", rows(0, count=0), {})
    assert lake.newest_interval("features") is None
