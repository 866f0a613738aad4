"""Spark's settings and the Delta reads and writes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from transforms import io
from transforms.schemas import EMBEDDING_WIDTHS, SCHEMAS, columns, struct
from transforms.session import spark_session

pytestmark = pytest.mark.slow

END = datetime(2026, 1, 2, tzinfo=UTC)
DAY = timedelta(days=1)


def edges(table, end, *sources):
    rows = [{"interval_end": end, "source": source, "target": "i:1"} for source in sources]
    return table("graph_edges", rows)


@pytest.mark.slow
def test_an_interval_is_replaced_never_appended(spark, table, tmp_path):
    from deltalake import DeltaTable

    path = tmp_path / "graph_edges"
    assert io.latest_version(spark, path) is None

    versions = [
        io.replace_interval(edges(table, END, "a", "b"), path, END, {"run": "r1"}),
        io.replace_interval(edges(table, END - DAY, "older"), path, END - DAY, {"run": "r2"}),
        io.replace_interval(edges(table, END, "c"), path, END, {"run": "r3"}),
        io.replace_interval(edges(table, END - DAY), path, END - DAY, {"run": "r4"}),
    ]

    assert versions == [0, 1, 2, 3]
    delta = DeltaTable(path)
    snapshots = [DeltaTable(path, version=version) for version in versions]
    rows = [sorted(at.to_pyarrow_table()["source"].to_pylist()) for at in snapshots]
    assert rows == [["a", "b"], ["a", "b", "older"], ["c", "older"], ["c"]]
    assert [len(at.file_uris()) for at in snapshots] == [1, 2, 2, 1]
    assert io.read(spark, path, version=1).count() == 3
    assert json.loads(delta.history(1)[0]["userMetadata"]) == {"run": "r4"}
    assert delta.metadata().partition_columns == []
    assert "deletionVectors" not in (delta.protocol().writer_features or [])


def test_rows_of_another_interval_are_rejected(table, tmp_path):
    path = tmp_path / "graph_edges"
    io.replace_interval(edges(table, END, "a"), path, END, {})
    with pytest.raises(Exception, match="DELTA_REPLACE_WHERE_MISMATCH"):
        io.replace_interval(edges(table, END - DAY, "b"), path, END, {})


@pytest.mark.slow
def test_a_range_is_half_open_and_its_neighbours_stay(spark, table, tmp_path):
    def follows(*days):
        rows = [
            {"follower_id": f"{day}", "followee_id": tag, "since": END + day * DAY}
            for day, tag in days
        ]
        return table("follows", rows)

    path = tmp_path / "follows"
    io.replace_all(follows((0, "old"), (1, "old"), (2, "old")), path, {})
    io.replace_range(follows((1, "new")), path, "since", END + DAY, END + 2 * DAY, {})
    io.replace_range(follows((-1, "new")), path, "since", None, END + DAY, {})
    rows = io.read(spark, path).orderBy("since").collect()
    assert [(row.follower_id, row.followee_id) for row in rows] == [
        ("-1", "new"),
        ("1", "new"),
        ("2", "old"),
    ]


def test_replace_all_also_replaces_the_schema(spark, table, tmp_path):
    io.replace_all(edges(table, END, "a"), tmp_path, {})
    assert io.replace_all(table("follows", [{"follower_id": "a"}]), tmp_path, {}) == 1
    assert io.read(spark, tmp_path).columns == columns("follows")


@pytest.mark.slow
def test_an_interval_may_bring_a_new_column(spark, table, tmp_path):
    io.replace_interval(edges(table, END, "old"), tmp_path, END, {})
    later = edges(table, END + DAY, "new").selectExpr("*", "1 AS gained")
    io.replace_interval(later, tmp_path, END + DAY, {})
    rows = io.read(spark, tmp_path).select("source", "gained").collect()
    assert sorted(map(tuple, rows), key=str) == [("new", 1), ("old", None)]


def test_a_moment_without_zone_is_refused(table, tmp_path):
    with pytest.raises(ValueError) as error:
        io.replace_interval(edges(table, END), tmp_path, datetime(2026, 1, 2), {})
    assert str(error.value) == (
        "2026-01-02T00:00:00 has no time zone; give a moment in UTC, for example "
        "datetime(2026, 1, 1, tzinfo=UTC)."
    )


def test_column_names_are_known_without_spark():
    assert {name: columns(name) for name in SCHEMAS} == {
        name: struct(name).names for name in SCHEMAS
    }
    # FE-01 and FE-02: the key, the interval and exactly 11 and 14 features.
    assert len(columns("user_features")) == 2 + 11
    assert len(columns("item_features")) == 2 + 14
    assert set(EMBEDDING_WIDTHS) < set(columns("items"))


def test_the_session_is_utc_and_checks_parquet(spark):
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
    }
    assert {key: spark.conf.get(key) for key in settings} == settings
    assert not Path("spark-warehouse").exists()


def test_a_missing_jar_is_named():
    with pytest.raises(FileNotFoundError) as error:
        spark_session(master="local[1]", memory="1g", settings={}, jars=[Path("no/delta.jar")])
    assert str(error.value) == "Spark needs these jars, and they are not there: no/delta.jar."
