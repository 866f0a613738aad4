"""Landed rows: stamps, windows, late events, and the interval a moment belongs to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from pipelines.intervals import interval_containing, parse_every
from transforms import landing
from transforms.intervals import interval_end_of
from transforms.schemas import SCHEMAS

DAY = datetime(2026, 3, 2, tzinfo=UTC)


def at(hour: float) -> datetime:
    return DAY + timedelta(hours=hour)


def landed(spark: SparkSession, rows: list[tuple[str, float, str, float]]) -> DataFrame:
    """Landed events from (event id, hour, file, hour at which its reader's interval ends)."""
    schema = f"{SCHEMAS['events']}, source_file string, interval_end timestamp"
    names = [one.split()[0] for one in schema.replace("\n", " ").split(",")]
    values = []
    for event, hour, file, read in rows:
        given: dict[str, Any] = {
            "event_id": event, "user_id": "u", "item_id": "i", "event_type": "view",
            "timestamp": at(hour), "source_file": file, "interval_end": at(read),
        }  # fmt: skip
        values.append(tuple(given.get(name) for name in names))
    return spark.createDataFrame(values, schema).coalesce(1)


def ids(frame: DataFrame) -> list[str]:
    return sorted(row["event_id"] for row in frame.select("event_id").collect())


def test_a_row_keeps_the_stamp_of_its_first_reading(spark: SparkSession) -> None:
    before = landed(spark, [("a", 1, "f", 6), ("b", 2, "f", 12), ("a", 1, "g", 18)])
    now = landed(spark, [("a", 1, "f", 0), ("c", 3, "f", 0), ("b", 2, "f", 0), ("b", 2, "f", 0)])
    stamped = landing.stamped(now.drop("interval_end"), before, ["event_id"], at(24))
    found = sorted((row["event_id"], row["interval_end"]) for row in stamped.collect())
    plain = [(event, moment.replace(tzinfo=UTC)) for event, moment in found]
    assert plain == [("a", at(6)), ("b", at(12)), ("b", at(12)), ("c", at(24))]


def test_rows_without_a_key_match_themselves(spark: SparkSession) -> None:
    schema = "row string, rule string, source_file string, interval_end timestamp"
    before = spark.createDataFrame([(None, "parse:row", "f", at(6))], schema)
    now = before.drop("interval_end")
    (row,) = landing.stamped(now, before, ["row", "rule"], at(12)).collect()
    assert row["interval_end"].replace(tzinfo=UTC) == at(6)


@pytest.mark.parametrize(
    ("start", "expected", "repeated"),
    [
        pytest.param(None, ["a", "b", "c"], 1, id="from the first event"),
        pytest.param(2, ["b", "c"], 1, id="the start belongs to it, the end does not"),
        pytest.param(3, ["c"], 0, id="without repetitions"),
        pytest.param(5, [], 0, id="empty"),
    ],
)
def test_a_window_takes_each_event_once(
    spark: SparkSession, start: float | None, expected: list[str], repeated: int
) -> None:
    frame = landed(
        spark,
        [("a", 1, "f", 6), ("b", 2, "f", 6), ("b", 2, "g", 6), ("c", 5 - 1e-6, "f", 6),
         ("d", 6, "f", 6)],
    )  # fmt: skip
    found, left_out = landing.between(frame, None if start is None else at(start), at(6))
    assert (ids(found), left_out) == (expected, repeated)


def test_late_are_new_events_of_closed_intervals_alone(spark: SparkSession) -> None:
    frame = landed(
        spark,
        [
            ("before the window", 1, "f", 12),
            ("in the window", 7, "f", 12),
            ("after it, but closed", 13, "f", 12),
            ("not closed yet", 19, "f", 12),
            ("read by another", 1, "f", 6),
        ],
    )
    condition = landing.arrived_late([at(12)], at(6), at(12), at(18))
    assert ids(frame.filter(condition)) == ["after it, but closed", "before the window"]


def test_what_was_accepted_is_a_repetition(spark: SparkSession) -> None:
    new = landed(spark, [("a", 1, "f", 12), ("b", 2, "f", 12), ("b", 2, "g", 12)])
    accepted = landed(spark, [("a", 1, "f", 6)])
    late, count, repeated = landing.unknown(new, accepted)
    assert (ids(late), count, repeated) == (["b"], 1, 2)
    assert landing.unknown(new.limit(0), accepted)[1:] == (0, 0)


@pytest.mark.parametrize("every", ["1h", "6h", "1d", "7d", "1mo", "3mo"])
def test_the_interval_of_a_moment_is_the_engines(spark: SparkSession, every: str) -> None:
    moments = [
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2024, 2, 29, 12, tzinfo=UTC),
        datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 1, 5, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
    ]
    frame = spark.createDataFrame([(one,) for one in moments], "timestamp timestamp")
    found = frame.select(interval_end_of("timestamp", *parse_every(every)).alias("end")).collect()
    assert [row["end"].replace(tzinfo=UTC) for row in found] == [
        interval_containing(one, every).end for one in moments
    ]
