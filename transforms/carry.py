"""Going on from an earlier snapshot: only the rows that something has touched are computed anew.

A row of a snapshot is a function of what happened to its id before the snapshot's end. So the row
of an id that nothing happened to since is the earlier row, save what changes with time alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def between(frame: DataFrame, column: str, start: datetime, end: datetime) -> DataFrame:
    """Keeps the rows whose time lies in `[start, end)`."""
    return frame.filter(_within(F.col(column), start, end))


def _within(time: Column, start: datetime, end: datetime) -> Column:
    return (time >= F.lit(start)) & (time < F.lit(end))


_SIDES = ("follower_id", "followee_id")


def touched_users(
    events: DataFrame,
    follows: DataFrame | None,
    *,
    base_end: datetime,
    end: datetime,
    history: timedelta,
    changed_users: DataFrame | None = None,
    changed_follows: DataFrame | None = None,
) -> DataFrame:
    """Finds the users whose features may differ between two moments, ages aside.

    Args:
        events: Table `events`.
        follows: Table `follows`; None where the features do not depend on it.
        base_end: The earlier moment.
        end: The later moment.
        history: Window of the features: what leaves it touches a user too.
        changed_users: Column `user_id`: users whose row changed.
        changed_follows: Columns `follower_id`, `followee_id`: follows that changed.

    Returns:
        Column `user_id`, each user once.
    """
    at = F.col("timestamp")
    entering = _within(at, base_end, end)
    leaving = _within(at, base_end - history, end - history)
    edges = [] if follows is None else [between(follows, "since", base_end, end)]
    if changed_follows is not None:
        edges.append(changed_follows)
    ids = [events.filter(entering | leaving).select("user_id")]
    for one in edges:
        ids += [one.select(F.col(side).alias("user_id")) for side in _SIDES]
    if changed_users is not None:
        ids.append(changed_users.select("user_id"))
    return _distinct(ids)


def touched_items(
    events: DataFrame,
    items: DataFrame,
    follows: DataFrame,
    *,
    base_end: datetime,
    end: datetime,
    changed_items: DataFrame | None,
    changed_users: DataFrame | None,
    changed_follows: DataFrame | None,
) -> DataFrame:
    """Finds the items whose features may differ between two moments, ages aside.

    Args:
        events: Table `events`.
        items: Table `items`.
        follows: Table `follows`: an author's followers count for the author's items.
        base_end: The earlier moment.
        end: The later moment.
        changed_items: Column `item_id`: items whose row changed.
        changed_users: Column `user_id`: users whose row changed.
        changed_follows: Column `followee_id`: of follows that changed.

    Returns:
        Column `item_id`, each item once.
    """
    authors = [
        between(follows, "since", base_end, end).select(F.col("followee_id").alias("author_id"))
    ]
    if changed_follows is not None:
        authors.append(changed_follows.select(F.col("followee_id").alias("author_id")))
    if changed_users is not None:
        authors.append(changed_users.select(F.col("user_id").alias("author_id")))
    ids = [
        between(events, "timestamp", base_end, end).select("item_id"),
        items.filter(F.exists("tag_times", lambda time: _within(time, base_end, end))).select(
            "item_id"
        ),
        items.join(F.broadcast(_distinct(authors)), "author_id", "left_semi").select("item_id"),
    ]
    if changed_items is not None:
        ids.append(changed_items.select("item_id"))
    return _distinct(ids)


def users_of(events: DataFrame, items: DataFrame, before: datetime) -> DataFrame:
    """Finds the users who met one of a few items before a moment.

    Args:
        events: Table `events`.
        items: Column `item_id`.
        before: The moment.

    Returns:
        Column `user_id`, each user once.
    """
    earlier = events.filter(F.col("timestamp") < F.lit(before))
    return _distinct([earlier.join(F.broadcast(items), "item_id", "left_semi").select("user_id")])


def carry_forward(
    base: DataFrame,
    points: DataFrame,
    touched: DataFrame,
    key: str,
    features: Callable[[DataFrame, DataFrame], DataFrame],
    ages: DataFrame,
) -> DataFrame:
    """Computes the features of points, all as of one moment, from those of an earlier one.

    Args:
        base: The earlier snapshot.
        points: Columns `key` and `as_of`.
        touched: Column `key`: those whose features may have changed.
        key: Name of the id.
        features: Computes the features of points; also gets their ids, small enough to broadcast.
        ages: What changes with time alone, of all points.

    Returns:
        The features of all points, in the columns that `features` returns.
    """
    untouched = base.select(key).join(F.broadcast(touched), key, "left_anti")
    fresh = points.join(untouched, key, "left_anti").localCheckpoint()
    ids = F.broadcast(fresh.select(key))
    anew = features(fresh, ids)
    kept = [name for name in base.columns if name not in {*ages.columns, "interval_end"}]
    carried = base.select(key, *kept).join(ages.join(ids, key, "left_anti"), key)
    return anew.unionByName(carried.select(anew.columns))


def _distinct(ids: Sequence[DataFrame]) -> DataFrame:
    return reduce(DataFrame.unionByName, ids).distinct()
