"""Land the rows of source files: each row with its file, and with the interval that first read it.

Landed rows are typed, and are otherwise as the files give them, repetitions included. A file that
changed replaces its own rows; a row that it held before keeps its stamp, so that what is new in a
growing file can be told from what was there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.mapping import deduplicate
from transforms.schemas import columns

_SKEW = timedelta(minutes=5)

SOURCE_FILE = "source_file"
"""Column that names the file a landed row came from."""


def stamped(
    rows: DataFrame, before: DataFrame | None, key: Sequence[str], interval_end: datetime
) -> DataFrame:
    """Stamps rows with the interval that first read them.

    Args:
        rows: The rows of files as they are now, with `source_file`.
        before: The rows that these files held when they were last read; None when never.
        key: What makes two rows of one file the same row; nulls are equal to nulls.
        interval_end: Of the interval that reads now.

    Returns:
        The rows with `interval_end`, as many as came in.
    """
    now = F.lit(interval_end)
    if before is None:
        return rows.withColumn("interval_end", now)
    names = [*key, SOURCE_FILE]
    first = before.groupBy(*names).agg(F.min("interval_end").alias("__first"))
    matches = [F.col(f"rows.{name}").eqNullSafe(F.col(f"before.{name}")) for name in names]
    joined = rows.alias("rows").join(first.alias("before"), matches, "left")
    return joined.select("rows.*", F.coalesce("before.__first", now).alias("interval_end"))


def between(landed: DataFrame, start: datetime | None, end: datetime) -> tuple[DataFrame, int]:
    """Takes the events of `[start, end)` out of what was landed, each event once.

    Args:
        landed: Table `landed_events`.
        start: None reaches back to the first event.
        end: The first moment that does not count.

    Returns:
        Rows of table `events`, and how many repetitions were left out. With repetitions the rows
        are kept in memory until `unpersist`.
    """
    inside = F.col("timestamp") < F.lit(end)
    if start is not None:
        inside &= F.col("timestamp") >= F.lit(start)
    found = landed.filter(inside).select(columns("events"))
    ids = found.agg(F.count("*"), F.count_distinct("event_id")).collect()[0]
    repeated = ids[0] - ids[1]
    # Kept, since checks and writes each read it: taking out repetitions costs a shuffle.
    return (deduplicate(found, "events")[0].persist() if repeated else found), repeated


def arrived_late(
    readers: Sequence[datetime], start: datetime, end: datetime, until: datetime
) -> Column:
    """Condition for landed events that came after their interval was closed.

    Args:
        readers: Ends of the intervals whose new rows are asked about.
        start: Start of the window that is being filled.
        end: Its end.
        until: The moment before which all intervals have been closed.
    """
    moment = F.col("timestamp")
    closed = (moment < F.lit(start)) | ((moment >= F.lit(end)) & (moment < F.lit(until)))
    return F.col("interval_end").isin(*readers) & closed


def earliest(events: DataFrame, *, since: datetime) -> int | None:
    """Returns the time of the first event at or after a moment, in µs since 1970."""
    found: int | None = (
        events.filter(F.col("timestamp") >= F.lit(since))
        .agg(F.unix_micros(F.min("timestamp")))
        .collect()[0][0]
    )
    return found


def unknown(events: DataFrame, accepted: DataFrame) -> tuple[DataFrame, int, int]:
    """Takes the events that were not accepted before, each once.

    Args:
        events: Landed events.
        accepted: Table `events`.

    Returns:
        Rows of table `events`, how many there are, and how many repetitions were left out.
    """
    found = events.select(columns("events"))
    total = found.count()
    if not total:
        return found, 0, 0
    unique = deduplicate(found, "events")[0]
    new = unique.join(accepted.select("event_id"), "event_id", "left_anti").select(
        columns("events")
    )
    count = new.count()
    return new, count, total - count


def newest() -> Column:
    """Aggregates the times of events to the newest, µs since 1970.

    Times in the future do not count: one wrong clock would otherwise choose the interval that runs
    when nobody names one, and every true one would be older than what is served.
    """
    at = F.col("timestamp")
    return F.unix_micros(F.max(F.when(at <= F.lit(datetime.now(UTC) + _SKEW), at)))
