"""What users did and what was done with items, counted: tables beside the two of features.

`user_features` and `item_features` hold exactly the features of their definition; what else is
known of behaviour stands here and joins them by id and moment (FE-36, DE-06).
"""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.definitions import Feature
from transforms.interactions import watch_share
from transforms.schemas import EVENT_TYPES

_MICROS_PER_HOUR = 3_600_000_000
_HOURS, _WEEKDAYS = 24, 7
_PARTS = 1_000_000
"""Sums are of millionths."""

_THURSDAY = 3
"""Day of the week of 1970-01-01, from 0 for Monday."""

_WINDOW = "[as_of - history, as_of)"
_ALWAYS = "before as_of"

USER_BEHAVIOUR: tuple[Feature, ...] = (
    *(
        Feature(f"{kind}s", f"Number of events of type `{kind}`.", "events", ("DE-02", "DE-05"),
                _WINDOW)
        for kind in EVENT_TYPES
    ),
    Feature("completion", "Mean watched share of what was played, viewed or skipped; null where no "
            "length or no watch time is known.", "share", ("DE-02",), _WINDOW),
    Feature("mean_rating", "Mean value of the ratings; null, not 0, without any.", "as rated",
            ("DE-04",), _WINDOW),
    Feature("watch_seconds", "Time spent watching.", "s", ("DE-03",), _WINDOW),
    Feature("sessions", "Number of sessions; a pause longer than `session_gap` ends one.",
            "sessions", ("FE-06",), _WINDOW),
    Feature("watch_seconds_per_session", "Time spent watching over the number of sessions; 0 "
            "without any.", "s", ("DE-03",), _WINDOW),
    Feature("hour_profile", "Share of the events in each hour of the day (UTC), from midnight; 24 "
            "numbers that sum to 1, or to 0 without events.", "share", ("FE-40", "DE-16"), _WINDOW),
    Feature("weekday_profile", "Share of the events on each day of the week (UTC), from Monday; 7 "
            "numbers that sum to 1, or to 0 without events.", "share", ("FE-40", "DE-16"), _WINDOW),
)  # fmt: skip

ITEM_ENGAGEMENT: tuple[Feature, ...] = (
    Feature("view_count", "Number of views.", "events", ("DE-06",), _ALWAYS),
    Feature("like_count", "Number of likes.", "events", ("DE-06",), _ALWAYS),
    Feature("comment_count", "Number of comments.", "events", ("DE-06",), _ALWAYS),
    Feature("repost_count", "Number of shares.", "events", ("DE-06",), _ALWAYS),
    Feature("total_engagement", "like_count + comment_count + repost_count.", "events", ("DE-06",),
            _ALWAYS),
)  # fmt: skip


def user_behaviour(
    points: DataFrame,
    events: DataFrame,
    items: DataFrame,
    *,
    history: timedelta,
    session_gap: timedelta,
) -> DataFrame:
    """Counts what users did in a window before each point; `USER_BEHAVIOUR` defines the columns.

    Meant for few points of each user, such as the interval's end: a row is read once for each
    point whose window holds it.

    Args:
        points: Columns `user_id` and `as_of`.
        events: Table `events`.
        items: Table `items`, for lengths.
        history: Length of the window.
        session_gap: Longest pause within a session.

    Returns:
        One row per distinct point: `user_id`, `as_of` and the columns.
    """
    asked = points.select("user_id", "as_of").distinct()
    durations = items.select("item_id", "duration_seconds")
    inside = (
        asked.join(events, "user_id")
        .filter(F.col("timestamp") < F.col("as_of"))
        .filter(F.unix_micros("timestamp") >= F.unix_micros("as_of") - _micros(history))
        .join(durations, "item_id", "left")
        .withColumns({"watch_share": watch_share(), "at": F.unix_micros("timestamp")})
    )
    in_order = Window.partitionBy("user_id", "as_of").orderBy("at")
    pause = F.col("at") - F.lag("at").over(in_order)
    hours = F.floor(F.col("at") / _MICROS_PER_HOUR)
    days = F.floor(hours / _HOURS)
    placed = inside.withColumns(
        {
            "opens": F.coalesce(pause > _micros(session_gap), F.lit(True)),
            "hour": F.pmod(hours, F.lit(_HOURS)),
            "weekday": F.pmod(days + _THURSDAY, F.lit(_WEEKDAYS)),
        }
    )
    is_play = F.col("event_type").isin("view", "skip")
    counted = placed.groupBy("user_id", "as_of").agg(
        *[F.count_if(F.col("event_type") == kind).alias(f"{kind}s") for kind in EVENT_TYPES],
        _exact_mean(F.when(is_play, F.col("watch_share"))).alias("completion"),
        _exact_mean(F.when(F.col("event_type") == "rating", F.col("value"))).alias("mean_rating"),
        (F.sum(_parts(F.col("watch_seconds"))) / _PARTS).alias("watch_seconds"),
        F.count_if("opens").alias("sessions"),
        _profile("hour", _HOURS),
        _profile("weekday", _WEEKDAYS),
    )
    whole = [*(f"{kind}s" for kind in EVENT_TYPES), "sessions"]
    return asked.join(counted, ["user_id", "as_of"], "left").select(
        "user_id",
        "as_of",
        *[F.coalesce(name, F.lit(0)).alias(name) for name in whole[:-1]],
        "completion",
        "mean_rating",
        F.coalesce("watch_seconds", F.lit(0.0)).alias("watch_seconds"),
        F.coalesce("sessions", F.lit(0)).alias("sessions"),
        F.coalesce(F.col("watch_seconds") / F.col("sessions"), F.lit(0.0)).alias(
            "watch_seconds_per_session"
        ),
        _or_zeros("hour_profile", _HOURS),
        _or_zeros("weekday_profile", _WEEKDAYS),
    )


def item_engagement(points: DataFrame, events: DataFrame) -> DataFrame:
    """Counts what was done with items before each point; `ITEM_ENGAGEMENT` defines the columns.

    Args:
        points: Columns `item_id` and `as_of`; see `user_behaviour` on their number.
        events: Table `events`.

    Returns:
        One row per distinct point: `item_id`, `as_of` and the columns.
    """
    kinds = {
        "view_count": "view",
        "like_count": "like",
        "comment_count": "comment",
        "repost_count": "share",
    }
    asked = points.select("item_id", "as_of").distinct()
    wanted = events.filter(F.col("event_type").isin(*kinds.values()))
    counted = (
        asked.join(wanted, "item_id")
        .filter(F.col("timestamp") < F.col("as_of"))
        .groupBy("item_id", "as_of")
        .agg(*[F.count_if(F.col("event_type") == kind).alias(name) for name, kind in kinds.items()])
    )
    counts = {name: F.coalesce(name, F.lit(0)) for name in kinds}
    return asked.join(counted, ["item_id", "as_of"], "left").select(
        "item_id",
        "as_of",
        *[count.alias(name) for name, count in counts.items()],
        (counts["like_count"] + counts["comment_count"] + counts["repost_count"]).alias(
            "total_engagement"
        ),
    )


def _exact_mean(value: Column) -> Column:
    return F.sum(_parts(value)) / F.count(value) / _PARTS


def _parts(value: Column) -> Column:
    # Sums of whole numbers do not depend on the order of the rows, as those of doubles do.
    return F.round(value * _PARTS).cast("bigint")


def _profile(column: str, size: int) -> Column:
    shares = [F.count_if(F.col(column) == number) / F.count("*") for number in range(size)]
    return F.array(*shares).alias(f"{column}_profile")


def _or_zeros(name: str, size: int) -> Column:
    return F.coalesce(F.col(name), F.array_repeat(F.lit(0.0), size)).alias(name)


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)
