"""Training examples: one per interaction, with what was known strictly before it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from math import tau

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.behaviour import item_engagement
from transforms.interactions import LabelRule, interactions
from transforms.intervals import interval_end_of
from transforms.item_features import item_features
from transforms.pair_features import hashtag_similarity
from transforms.schemas import columns, struct
from transforms.user_features import user_features

_MICROS_PER_DAY = 86_400_000_000
_PAIRED = ("user_top_interests", "item_hashtags")

_FEW = 4
"""A range that is this many times shorter than the history leaves most ids out."""


def examples(
    events: DataFrame,
    items: DataFrame,
    users: DataFrame,
    follows: DataFrame,
    *,
    start: datetime,
    end: datetime,
    every: tuple[int, str],
    rule: LabelRule,
    history: timedelta,
    session_gap: timedelta,
    categories: Mapping[str, str],
) -> DataFrame:
    """Builds the examples of `[start, end)`.

    An example is a function of its event and of what lies before it, so a range may be built by
    itself, and ranges side by side are the range over them all.

    Features are those of `user_features` and `item_features` as of the moment of the example, by
    the same functions that fill the tables; lists and maps are left out. The time of day and the
    day of the week (UTC) are points on a circle, so that 23:59 lies beside 0:00 (FE-38).

    Args:
        events: Table `events`, also from before the range.
        items: Table `items`.
        users: Table `users`.
        follows: Table `follows`.
        start: The first moment that counts.
        end: The first moment that does not count.
        every: Count and unit (`h`, `d`, `mo`) of the schedule's intervals.
        rule: Strengths and label.
        history: Window of the user features.
        session_gap: Longest pause within a session.
        categories: From tag to category.

    Returns:
        Table `examples`, one row per user, item and moment; its `interval_end` is that of the
        interval that holds the moment.
    """
    before = events.filter(F.col("timestamp") < F.lit(end))
    recent = before.filter(F.col("timestamp") >= F.lit(start))
    window = before.filter(F.col("timestamp") >= F.lit(start - history))
    if (end - start) * _FEW < history:
        # Most users did nothing in a short range: their past is not laid on the time line.
        window = _only(window, recent, "user_id")
        before, items = (_only(frame, recent, "item_id") for frame in (before, items))

    of_user = user_features(
        _points(recent, "user_id"), window, users, follows, history=history, session_gap=session_gap
    )
    engaged = item_engagement(_points(recent, "item_id", "user_id"), before, earliest=start)
    of_item = item_features(engaged, items, users, follows, categories=categories, earliest=start)
    micros = F.unix_micros("timestamp")
    day_part = F.pmod(micros, F.lit(_MICROS_PER_DAY)) / _MICROS_PER_DAY
    weekday = F.weekday("timestamp") / 7
    # All by user: of what is wide, no row leaves the part that it is in.
    joined = (
        interactions(recent, items, rule)
        .join(_prefixed(of_user, "user"), ["user_id", "timestamp"], "left")
        .join(_prefixed(of_item, "item", "user_id"), ["user_id", "timestamp", "item_id"], "left")
        .withColumns(
            {
                "interval_end": interval_end_of("timestamp", *every),
                "hour_sin": F.sin(tau * day_part),
                "hour_cos": F.cos(tau * day_part),
                "weekday_sin": F.sin(tau * weekday),
                "weekday_cos": F.cos(tau * weekday),
                "device": _or_unknown("device"),
                "location": _or_unknown("location"),
                "hashtag_similarity": hashtag_similarity("user_top_interests", "item_hashtags"),
            }
        )
    )
    schema = struct("examples")
    return joined.select(*[F.col(one.name).cast(one.dataType) for one in schema.fields])


def _only(frame: DataFrame, recent: DataFrame, key: str) -> DataFrame:
    return frame.join(F.broadcast(recent.select(key).distinct()), key, "left_semi")


def _points(events: DataFrame, *keys: str) -> DataFrame:
    return events.select(*keys, F.col("timestamp").alias("as_of"))


def _prefixed(features: DataFrame, owner: str, *keys: str) -> DataFrame:
    wanted = {*columns("examples"), *_PAIRED}
    kept = [f"{owner}_id", *keys]
    renamed = [
        F.col(name).alias(f"{owner}_{name}")
        for name in features.columns
        if f"{owner}_{name}" in wanted and name not in kept
    ]
    return features.select(*kept, F.col("as_of").alias("timestamp"), *renamed)


def _or_unknown(column: str) -> Column:
    return F.coalesce(F.when(F.trim(column) != "", F.col(column)), F.lit("unknown"))
