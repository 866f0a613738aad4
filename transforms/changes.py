"""What differs between two states of a table, and which rows of others that touches."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.digest import row_hash

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROS_PER_HOUR = 3_600_000_000
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
    hour = F.floor(F.unix_micros("timestamp") / _MICROS_PER_HOUR).alias("hour")
    [[first]] = _differing(before, after, [hour], before.columns).agg(F.min("hour")).collect()
    if first is None:
        return None
    return _EPOCH + timedelta(hours=first)


def changed_rows(
    before: DataFrame, after: DataFrame, keys: Sequence[str], columns: Sequence[str]
) -> DataFrame:
    """Finds the keys whose rows differ in one of `columns`, are new, or are gone.

    Returns:
        One row per such key: the columns `keys`.
    """
    return _differing(before, after, [F.col(key) for key in keys], columns).select(*keys)


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


def _differing(before: DataFrame, after: DataFrame, keys: list, columns: Sequence[str]):
    """Groups whose rows have another number or another sum of hashes."""

    def signed(df: DataFrame, sign: int) -> DataFrame:
        hashed = row_hash(df, columns)
        # Halves, so that their sums fit into 64 bits.
        high, low = F.shiftright(hashed, 32), hashed.bitwiseAND(F.lit(2**32 - 1))
        parts = {"__n": F.lit(1), "__high": high, "__low": low}
        return df.select(*keys, *[(part * sign).alias(name) for name, part in parts.items()])

    both = signed(before, -1).unionByName(signed(after, 1))
    sums = ("__n", "__high", "__low")
    return (
        both.groupBy(*[name for name in both.columns if name not in sums])
        .agg(*[F.sum(name).alias(name) for name in sums])
        .filter(" OR ".join(f"{name} != 0" for name in sums))
    )
