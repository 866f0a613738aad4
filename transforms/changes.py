"""What differs between two states of a table, and which rows of others that touches."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.digest import row_hash

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FEW = 1_000
"""So many ids may stand in a condition that Parquet's dictionaries are asked about."""


def first_changed_hour(before: DataFrame, after: DataFrame) -> datetime | None:
    """Finds where two states of `events` first differ.

    Args:
        before: Rows that only the older state may have.
        after: Rows that only the newer state may have.

    Returns:
        Start of the earliest hour (UTC) whose rows differ; None when no hour does.
    """
    first = _earliest(_differing(before, after, before.columns), "timestamp")
    return None if first is None else first.replace(minute=0, second=0, microsecond=0)


def changed_rows(
    before: DataFrame, after: DataFrame, keys: Sequence[str], columns: Sequence[str]
) -> DataFrame:
    """Finds the keys whose rows differ in one of `columns`, are new, or are gone.

    Returns:
        One row per such key: the columns `keys`.
    """
    compared = list(dict.fromkeys([*keys, *columns]))
    return _differing(before, after, compared).select(*keys).distinct()


def first_event_of(
    events: DataFrame, items: DataFrame, users: DataFrame | None, changed_items: DataFrame | None
) -> datetime | None:
    """Finds the first event that changed users or items take part in, authors of items included.

    Args:
        events: Table `events`.
        items: Table `items`.
        users: Column `user_id`: the users that changed.
        changed_items: Column `item_id`: the items that changed.
    """
    if users is not None:
        authors = users.withColumnRenamed("user_id", "author_id")
        theirs = items.join(F.broadcast(authors), "author_id", "left_semi").select("item_id")
        changed_items = theirs if changed_items is None else theirs.unionByName(changed_items)
    # One look at the events for both.
    took_part = F.lit(False)
    for ids in (users, changed_items):
        if ids is not None:
            events, is_theirs = among(events, ids)
            took_part |= is_theirs
    return _earliest(events.filter(took_part), "timestamp")


def among(events: DataFrame, ids: DataFrame) -> tuple[DataFrame, Column]:
    """Finds the events of some ids, without reading the files that have none of a few.

    Args:
        events: Table `events`.
        ids: One column of it, the ids.

    Returns:
        The events, and the condition that holds for those of the ids.
    """
    [key] = ids.columns
    few = ids.distinct().limit(_FEW + 1).toArrow()[key].to_pylist()
    if len(few) <= _FEW:
        return events, F.col(key).isin(few)
    mark = f"__is_of_{key}"
    marked = F.broadcast(ids.distinct().withColumn(mark, F.lit(True)))
    return events.join(marked, key, "left"), F.col(mark).isNotNull()


def users_of(events: DataFrame, items: DataFrame, before: datetime) -> DataFrame:
    """Finds the users who met one of a few items before a moment.

    Args:
        events: Table `events`.
        items: Column `item_id`.
        before: The moment.

    Returns:
        Column `user_id`, each user once.
    """
    earlier, is_theirs = among(events.filter(F.col("timestamp") < F.lit(before)), items)
    return earlier.filter(is_theirs).select("user_id").distinct()


def first_since(follows: DataFrame, beginning: datetime) -> datetime | None:
    """Finds the earliest `since` of follows; `beginning` where one was always there."""
    return _earliest(follows.select(F.coalesce("since", F.lit(beginning)).alias("since")), "since")


def _earliest(frame: DataFrame, column: str) -> datetime | None:
    [[first]] = frame.agg(F.unix_micros(F.min(column))).collect()
    return None if first is None else _EPOCH + timedelta(microseconds=first)


def _differing(before: DataFrame, after: DataFrame, columns: Sequence[str]) -> DataFrame:
    """Returns the rows that one state has more often than the other."""
    older, newer = (
        state.withColumns({"__hash": row_hash(state, columns), "__sign": F.lit(sign)})
        for state, sign in ((before, -1), (after, 1))
    )
    both = older.unionByName(newer)
    # Only hashes are exchanged, however wide a row is.
    uneven = both.groupBy("__hash").agg(F.sum("__sign").alias("__more")).filter("__more != 0")
    return both.join(uneven, "__hash", "left_semi")
