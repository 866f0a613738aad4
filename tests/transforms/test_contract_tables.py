"""Rules about a table as a whole, against bounds and against the past; and lookups in others."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from transforms.contracts import CheckResult, Contract, Rule, check, write_data_docs

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.slow

END = datetime(2026, 1, 6, 12, tzinfo=UTC)
START = END - timedelta(hours=6)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def _times(spark: SparkSession, *counts: tuple[timedelta, int]) -> DataFrame:
    """So many rows, each so long before the end."""
    rows = [("r", END - age, 1.0) for age, count in counts for _ in range(count)]
    return spark.createDataFrame(rows, "id string, at timestamp, value double").coalesce(1)


def _check(
    df: DataFrame,
    *rules: Rule,
    history: DataFrame | None = None,
    allow_empty: bool = False,
    references: Mapping[str, DataFrame] | None = None,
) -> CheckResult:
    return check(
        df,
        Contract("things", allow_empty, rules),
        interval_start=START,
        interval_end=END,
        references=references or {},
        source_columns=(),
        history=history,
    )


def _messages(result: CheckResult) -> list[str]:
    return [one.message for one in result.findings]


VOLUME = Rule("volume", ("at",), {"min": 0.2, "max": 5.0, "days": 4, "least": 10}, "warn")
USUAL = [(HOUR + day * DAY, 20) for day in (1, 2, 3)]


@pytest.mark.parametrize(
    ("now", "past", "found"),
    [
        (20, USUAL, []),
        (100, USUAL, []),
        (
            200,
            USUAL,
            [
                "200 rows in the interval by at, 10 times the 20 that are usual in the same hours of "
                "past days; expected between 0.2 and 5 times. Look for a source that is sent twice "
                "or cut off, for robots, or change the rule."
            ],
        ),
        (
            3,
            USUAL,
            [
                "3 rows in the interval by at, 0.15 times the 20 that are usual in the same hours of "
                "past days; expected between 0.2 and 5 times. Look for a source that is sent twice "
                "or cut off, for robots, or change the rule."
            ],
        ),
        (200, USUAL[:2], []),
        (200, [(7 * HOUR + day * DAY, 20) for day in (1, 2, 3)], []),
    ],
    ids=["usual", "at the limit", "ten times", "a lull", "two days of history", "other hours"],
)
def test_an_interval_has_about_as_many_rows_as_the_same_hours_before(
    spark: SparkSession, now: int, past: list[tuple[timedelta, int]], found: list[str]
) -> None:
    result = _check(_times(spark, (HOUR, now)), VOLUME, history=_times(spark, *past))
    assert _messages(result) == found
    assert not result.blocked


def test_a_first_load_brings_its_own_history(spark: SparkSession) -> None:
    spike = _check(_times(spark, (HOUR, 200), *USUAL), VOLUME)
    assert [one.rule for one in spike.findings] == ["volume"]
    both = _check(_times(spark, (HOUR, 20), *USUAL), VOLUME, history=_times(spark, *USUAL))
    assert both.findings == []


def test_the_newest_row_must_be_fresh(spark: SparkSession) -> None:
    rule, long = Rule("freshness", ("at",)), Rule("freshness", ("at",), {"max_age": 2 * DAY})
    old, future = (7 * HOUR, 1), (-HOUR, 1)
    result = _check(_times(spark, old, future), rule, long)
    assert result.blocked
    assert _messages(result) == [
        "The newest at is from 2026-01-06 05:00:00 UTC, more than 6 hours before the end of the "
        "interval. Check that the source still delivers, or raise `max_age`."
    ]
    assert _check(_times(spark, (6 * HOUR, 1)), rule).findings == []
    stale = _check(_times(spark, (3 * DAY, 1)), long)
    assert _messages(stale) == [
        "The newest at is from 2026-01-03 12:00:00 UTC, more than 2 days before the end of the "
        "interval. Check that the source still delivers, or raise `max_age`."
    ]
    assert _messages(_check(_times(spark, future), rule)) == [
        "The newest at has no time before the end, more than 6 hours before the end of the "
        "interval. Check that the source still delivers, or raise `max_age`."
    ]


def test_an_empty_interval_that_is_allowed_is_as_fresh_as_its_history(spark: SparkSession) -> None:
    rule, aged = Rule("freshness", ("at",)), Rule("freshness", ("at",), {"max_age": 2 * DAY})
    none, before = _times(spark), _times(spark, (DAY, 1))
    assert _check(none, rule, aged, allow_empty=True, history=before).findings == []
    assert len(_check(none, rule, aged, allow_empty=True).findings) == 1
    assert _check(none, rule, history=before).blocked


def test_a_table_that_shrinks_by_half_blocks(spark: SparkSession) -> None:
    rule = Rule("size_change", (), {"min": 0.6, "max": 3.0, "least": 20})
    before = _times(spark, (HOUR, 40))
    result = _check(_times(spark, (HOUR, 20)), rule, history=before)
    assert result.blocked
    assert _messages(result) == [
        "20 rows where there were 40; expected between 0.6 and 3 times as many. Check that the "
        "source is complete. If it is right, change the rule until this run is done."
    ]
    assert _check(_times(spark, (HOUR, 24)), rule, history=before).findings == []
    assert _check(_times(spark, (HOUR, 121)), rule, history=before).blocked
    assert _check(_times(spark, (HOUR, 1)), rule, history=_times(spark, (HOUR, 19))).findings == []
    assert _check(_times(spark, (HOUR, 1)), rule).findings == []


def test_means_and_shares_lie_within_bounds(spark: SparkSession) -> None:
    rows = [("x", 1.0), ("x", 2.0), ("y", 6.0), (None, None)]
    df = spark.createDataFrame(rows, "kind string, value double").coalesce(1)
    result = _check(
        df,
        Rule("mean", ("value",), {"min": 3.0, "max": 3.0}),
        Rule("mean", ("value",), {"max": 2.9}, "warn"),
        Rule("share", ("kind",), {"values": ["x", "z"], "max": 0.6}, "warn"),
        Rule("share", ("kind",), {"values": ["y"], "min": 0.3}),
    )
    assert not result.blocked
    assert _messages(result) == [
        "The mean of value is 3, expected at most 2.9. See what changed in the source, or change "
        "the rule.",
        "The share of x, z in kind is 0.6667, expected at most 0.6. See what changed in the source, "
        "or change the rule.",
    ]
    none = _check(df.where("kind = 'x' AND value > 9"), Rule("mean", ("value",), {"min": 0.0}))
    assert [one.rule for one in none.findings] == ["allow_empty"]


def test_a_value_is_held_against_another_tables(spark: SparkSession) -> None:
    watch = [("a", 10.0), ("a", 31.0), ("b", 99.0), ("c", 99.0), (None, 1.0), ("a", None)]
    df = spark.createDataFrame(watch, "item_id string, watch_seconds double").coalesce(1)
    items = spark.createDataFrame(
        [("a", 10.0), ("b", None), ("b", None)], "item_id string, duration_seconds double"
    )
    limit = {"limit": "duration_seconds", "table": "items", "key": "item_id"}
    rule = Rule("at_most", ("watch_seconds",), {**limit, "factor": 3.0}, "quarantine")
    result = _check(df, rule, references={"items": items})
    assert [row["row"] for row in result.quarantined.collect()] == [
        '{"item_id":"a","watch_seconds":31.0}'
    ]
    assert result.good.columns == ["item_id", "watch_seconds"]
    assert result.good.count() == 5
    assert _messages(result) == [
        "1 of 6 rows have watch_seconds above 3 times items.duration_seconds. Check the units of "
        "both in the mapping, or raise `factor` or `tolerance`."
    ]
    loose = Rule("at_most", ("watch_seconds",), {**limit, "factor": 3.0, "tolerance": 1.0})
    assert _check(df, loose, references={"items": items}).findings == []


def test_blank_ids_are_told_in_any_script(spark: SparkSession) -> None:
    ids = ["", " ", "\t", "\u00a0", "\u3000", "a", " a", "\u00fcber", "名", None]
    df = spark.createDataFrame([(one,) for one in ids], "id string").coalesce(1)
    result = _check(df, Rule("not_blank", ("id",), {}, "quarantine"))
    assert sorted(row["id"] or "" for row in result.good.collect()) == sorted(
        ["a", " a", "\u00fcber", "名", ""]
    )
    assert _messages(result) == [
        "5 of 10 rows have an empty or blank id. Write null, or the value that is meant."
    ]


def test_clocks_may_be_ahead_by_the_skew(spark: SparkSession) -> None:
    df = _times(spark, (HOUR, 1), (-timedelta(minutes=4), 1), (-timedelta(minutes=5), 1))
    strict = Rule("not_after_end", ("at",), {}, "warn")
    lenient = Rule("not_after_end", ("at",), {"skew": timedelta(minutes=5)}, "warn")
    assert [one.rows_failed for one in _check(df, strict, lenient).findings] == [2, 1]


def test_files_that_are_gone_are_not_counted(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "table"
    _times(spark, (HOUR, 9)).write.format("delta").save(str(path))
    (file,) = path.glob("*.parquet")
    file.unlink()
    df = spark.read.format("delta").load(str(path))
    assert df.count() == 9, "a bare count is answered from the log"
    with pytest.raises(Exception, match="does not exist"):
        _check(df, Rule("row_count", (), {"min": 1}))


def test_pages_tell_what_was_compared(spark: SparkSession, tmp_path: Path) -> None:
    rules: list[Any] = [
        VOLUME,
        Rule("freshness", ("at",)),
        Rule("size_change", (), {"min": 0.6}),
        Rule("mean", ("value",), {"max": 0.5}, "warn"),
    ]
    result = _check(_times(spark, (HOUR, 200)), *rules, history=_times(spark, *USUAL))
    write_data_docs([result], tmp_path)
    page = (tmp_path / "things.html").read_text(encoding="utf-8")
    for text in (
        "Rows of the interval by at: from 4 to 100, by the median 20 of the same hours of past days.",
        "at: the newest is not before 2026-01-06 06:00:00 UTC.",
        "Rows of the table: at least 0.6 times the 60 before.",
        "The mean of value: at most 0.5.",
    ):
        assert text in page
