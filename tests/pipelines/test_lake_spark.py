"""Tables of a lake as Spark reads and writes them: file by file, or through Delta's log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import lake_reader
from pipelines.errors import StageError
from pipelines.lake import Lake

pytestmark = pytest.mark.slow

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MICRO = timedelta(microseconds=1)
HOUR = timedelta(hours=1)


def times(spark, *moments: datetime, **more: list):
    table = pa.table({"at": pa.array(moments, pa.timestamp("us", tz="UTC")), **more})
    return spark.createDataFrame(table)


def held(spark, lake: Lake, **version: int) -> list[datetime]:
    return sorted(row["at"].replace(tzinfo=UTC) for row in lake.spark(spark, "log", **version)
                  .select("at").collect())  # fmt: skip


def modes(lake: Lake) -> list[str]:
    """How the table was written to, the first commit first."""
    history = reversed(lake.delta("log").history())
    return [commit["operationParameters"]["mode"] for commit in history]


@pytest.fixture(params=[0, 32], ids=["by the log", "file by file"])
def lake(request, tmp_path: Path, monkeypatch) -> Lake:
    monkeypatch.setattr(lake_reader, "_FEW_FILES", request.param)
    return Lake(str(tmp_path / "a {b}*?"), "shop")


def test_reads_of_any_version_are_the_same_file_by_file(spark, lake: Lake) -> None:
    with pytest.raises(StageError, match="There is no table `log`"):
        lake.spark(spark, "log")
    lake.replace_range("log", times(spark, NOON), "at", NOON, NOON + HOUR, {})
    gained = times(spark, NOON + HOUR, gained=[1])
    lake.replace_range("log", gained, "at", NOON + HOUR, NOON + 2 * HOUR, {})
    lake.append("log", pa.table({"at": pa.array([NOON - HOUR], pa.timestamp("us", tz="UTC"))}))
    assert held(spark, lake) == [NOON - HOUR, NOON, NOON + HOUR]
    assert held(spark, lake, version=0) == [NOON]
    rows = lake.spark(spark, "log").select("gained").collect()
    assert sorted(map(tuple, rows), key=str) == [(1,), (None,), (None,)]
    lake.replace_all("log", times(spark, NOON).limit(0), {})
    assert held(spark, lake) == []


@pytest.mark.parametrize(
    ("there", "mode"),
    [
        ([NOON - HOUR, NOON - MICRO], "Append"),
        ([NOON + HOUR + 1000 * MICRO], "Append"),
        ([NOON], "Overwrite"),
        ([NOON + HOUR - MICRO], "Overwrite"),
        ([NOON - HOUR, NOON + 2 * HOUR], "Overwrite"),  # the file spans the range
    ],
)
def test_only_what_may_be_there_is_looked_for(
    spark, tmp_path: Path, there: list[datetime], mode: str
) -> None:
    lake = Lake(str(tmp_path), "shop")
    lake.replace_all("log", times(spark, *there), {})
    new = [NOON, NOON + HOUR - 2 * MICRO]
    lake.replace_range("log", times(spark, *new), "at", NOON, NOON + HOUR, {})
    outside = [at for at in there if not NOON <= at < NOON + HOUR]
    assert held(spark, lake) == sorted([*outside, *new])
    # Delta notes a greatest time in whole milliseconds: one just before the range may be in it.
    near = there[-1] == NOON - MICRO
    assert modes(lake) == ["Overwrite", "Overwrite" if near else mode]


@pytest.mark.parametrize("at", [NOON - MICRO, NOON + HOUR, None])
def test_a_row_outside_of_a_free_range_is_refused(spark, tmp_path: Path, at) -> None:
    lake = Lake(str(tmp_path), "shop")
    with pytest.raises(Exception, match="a row lies outside of what is replaced"):
        lake.replace_range("log", times(spark, NOON, at), "at", NOON, NOON + HOUR, {})
    assert lake.version("log") is None
