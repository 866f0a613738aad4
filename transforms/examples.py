"""Training examples: one per interaction, with what was known strictly before it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from math import tau

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.interactions import LabelRule, interactions
from transforms.item_features import item_features
from transforms.pair_features import hashtag_similarity
from transforms.schemas import struct
from transforms.split import split_of
from transforms.user_features import user_features

_MICROS_PER_DAY = 86_400_000_000
_PAIRED = ("user_top_interests", "item_hashtags")


def examples(
    events: DataFrame,
    items: DataFrame,
    users: DataFrame,
    follows: DataFrame,
    *,
    interval_end: datetime,
    training_window: timedelta,
    valid_start: datetime,
    test_start: datetime,
    rule: LabelRule,
    history: timedelta,
    session_gap: timedelta,
    categories: Mapping[str, str],
) -> DataFrame:
    """Builds the examples of `[interval_end - training_window, interval_end)`.

    Features are those of `user_features` and `item_features` as of the moment of the example, by
    the same functions that fill the tables; lists and maps are left out. The time of day and the
    day of the week (UTC) are points on a circle, so that 23:59 lies beside 0:00 (FE-38).

    Args:
        events: Table `events`, also from before the window.
        items: Table `items`.
        users: Table `users`.
        follows: Table `follows`.
        interval_end: The first moment that does not count.
        training_window: How far examples reach back.
        valid_start: Where validation begins.
        test_start: Where the test begins.
        rule: Strengths and label.
        history: Window of the user features.
        session_gap: Longest pause within a session.
        categories: From tag to category.

    Returns:
        Table `examples`, one row per user, item and moment.
    """
    end = F.lit(interval_end)
    before = events.filter(F.col("timestamp") < end)
    recent = before.filter(F.col("timestamp") >= F.lit(interval_end - training_window))

    of_user = user_features(
        _points(recent, "user_id"), before, users, follows, history=history, session_gap=session_gap
    )
    of_item = item_features(
        _points(recent, "item_id"), before, items, users, follows, categories=categories
    )
    micros = F.unix_micros("timestamp")
    day_part = F.pmod(micros, F.lit(_MICROS_PER_DAY)) / _MICROS_PER_DAY
    weekday = F.weekday("timestamp") / 7
    joined = (
        interactions(recent, items, rule)
        .join(_prefixed(of_user, "user"), ["user_id", "timestamp"], "left")
        .join(_prefixed(of_item, "item"), ["item_id", "timestamp"], "left")
        .withColumns(
            {
                "interval_end": end,
                "split": split_of("timestamp", valid_start=valid_start, test_start=test_start),
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


def _points(events: DataFrame, key: str) -> DataFrame:
    return events.select(key, F.col("timestamp").alias("as_of"))


def _prefixed(features: DataFrame, owner: str) -> DataFrame:
    key = f"{owner}_id"
    renamed = [
        F.col(name).alias(f"{owner}_{name}")
        for name in features.columns
        if f"{owner}_{name}" in (*struct("examples").names, *_PAIRED) and name not in {key, "as_of"}
    ]
    return features.select(key, F.col("as_of").alias("timestamp"), *renamed)


def _or_unknown(column: str) -> Column:
    return F.coalesce(F.when(F.trim(column) != "", F.col(column)), F.lit("unknown"))
