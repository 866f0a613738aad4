"""What users did and what was done with items, counted: tables beside the two of features.

`user_features` and `item_features` hold exactly the features of their definition; what else is
known of behaviour stands here and joins them by id and moment (FE-36, DE-06).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial, reduce

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms import asof
from transforms.asof import Past, sums
from transforms.changes import among
from transforms.definitions import Feature
from transforms.interactions import watch_share
from transforms.schemas import EVENT_TYPES
from transforms.visits import COUNTS, VISITS, by_kind, kind, visits

_MICROS_PER_HOUR = 3_600_000_000
_HOURS, _WEEKDAYS = 24, 7
_PARTS = 1_000_000
"""Sums are of millionths."""

_THURSDAY = 3
"""Day of the week of 1970-01-01, from 0 for Monday."""

_SUMMED = ("share", "shares_known", "rating", "rated", "watched")
_HOUR_COUNTS = tuple(f"hour_{number}" for number in range(_HOURS))
_WEEKDAY_COUNTS = tuple(f"weekday_{number}" for number in range(_WEEKDAYS))
_MEASURED = (*VISITS, *COUNTS, *_SUMMED, *_HOUR_COUNTS, *_WEEKDAY_COUNTS)

_ENGAGED = {
    "view_count": "view",
    "like_count": "like",
    "comment_count": "comment",
    "repost_count": "share",
}

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
    Feature("session_seconds", "From the first to the last event of a session, summed over "
            "sessions.", "s", ("FE-06",), _WINDOW),
    Feature("active_days", "Days (UTC) with an event.", "days", ("FE-11",), _WINDOW),
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

    Args:
        points: Columns `user_id` and `as_of`, and any others, which stay.
        events: Table `events`.
        items: Table `items`, for lengths.
        history: Length of the window.
        session_gap: Longest pause within a session.

    Returns:
        One row per distinct point, with the columns.
    """
    lengths = items.select("item_id", "duration_seconds")
    is_play = F.col("event_type").isin("view", "skip")
    share = F.when(is_play, watch_share())
    rating = F.when(F.col("event_type") == "rating", F.col("value"))
    acts = events.join(lengths, "item_id", "left").select(
        "user_id",
        F.unix_micros("timestamp").alias(asof.AT),
        kind().alias("kind"),
        _parts(share).alias("share"),
        share.isNotNull().cast("int").alias("shares_known"),
        _parts(rating).alias("rating"),
        rating.isNotNull().cast("int").alias("rated"),
        _parts(F.col("watch_seconds")).alias("watched"),
    )
    measures = partial(_measures, history=history, session_gap=session_gap)
    known = asof.measured(points, acts, "user_id", measures, _MEASURED)
    watched = F.col("watched") / _PARTS
    return known.select(
        *points.columns,
        *[F.col(f"count_{name}").alias(f"{name}s") for name in EVENT_TYPES],
        _mean("share", "shares_known").alias("completion"),
        _mean("rating", "rated").alias("mean_rating"),
        watched.alias("watch_seconds"),
        "sessions",
        (F.col("in_session_us") / 1e6).alias("session_seconds"),
        "active_days",
        (watched / F.greatest("sessions", F.lit(1))).alias("watch_seconds_per_session"),
        _profile(_HOUR_COUNTS).alias("hour_profile"),
        _profile(_WEEKDAY_COUNTS).alias("weekday_profile"),
    )


def item_engagement(
    points: DataFrame, events: DataFrame, *, earliest: datetime | None = None
) -> DataFrame:
    """Counts what was done with items before each point; `ITEM_ENGAGEMENT` defines the columns.

    Args:
        points: Columns `item_id` and `as_of`, and any others, which stay.
        events: Table `events`.
        earliest: No point asks about an earlier moment; known, it spares work.

    Returns:
        One row per distinct point, with the columns.
    """
    counted = events.filter(F.col("event_type").isin(*_ENGAGED.values())).select(
        "item_id",
        F.unix_micros("timestamp").alias(asof.AT),
        *[(F.col("event_type") == kind).cast("int").alias(name) for name, kind in _ENGAGED.items()],
    )
    before = None if earliest is None else F.unix_micros(F.lit(earliest))
    return _with_total(asof.totals(points, counted, "item_id", earliest=before))


def more_engagement(
    before: DataFrame, points: DataFrame, events: DataFrame, *, since: datetime
) -> DataFrame:
    """Adds later events to `item_engagement` as of an earlier moment.

    Args:
        before: The counts as of the earlier moment. An item without a row was not known then; all
            its events are counted.
        points: Columns `item_id` and `as_of`, and any others, which stay; none earlier than
            `since`.
        events: Table `events`.
        since: The earlier moment.
    """
    came = points.join(before, "item_id", "left_anti").select("item_id")
    old, is_theirs = among(events.filter(F.col("timestamp") < F.lit(since)), came)
    new = events.filter(F.col("timestamp") >= F.lit(since))
    new = new.unionByName(old.filter(is_theirs).select(new.columns))
    counted = item_engagement(points, new, earliest=since)
    earlier = before.select("item_id", *[F.col(name).alias(f"{name}_before") for name in _ENGAGED])
    sums = {name: F.col(name) + F.coalesce(f"{name}_before", F.lit(0)) for name in _ENGAGED}
    return _with_total(
        counted.join(earlier, "item_id", "left").withColumns(sums).select(*counted.columns)
    )


def _with_total(counted: DataFrame) -> DataFrame:
    total = F.col("like_count") + F.col("comment_count") + F.col("repost_count")
    return counted.withColumn("total_engagement", total)


def _measures(
    acts: Past, rows: Mapping[str, np.ndarray], *, history: timedelta, session_gap: timedelta
) -> dict[str, np.ndarray]:
    start_P, end_P = acts.since(history), acts.end
    hour_R = acts.row_at // _MICROS_PER_HOUR
    weekday_R = (hour_R // _HOURS + _THURSDAY) % _WEEKDAYS
    hour_R = hour_R % _HOURS
    return {
        **visits(acts, start_P, end_P, session_gap),
        **by_kind(rows["kind"], start_P, end_P),
        **{name: sums(rows[name], start_P, end_P) for name in _SUMMED},
        **{
            name: sums(part_R == number, start_P, end_P)
            for part_R, names in ((hour_R, _HOUR_COUNTS), (weekday_R, _WEEKDAY_COUNTS))
            for number, name in enumerate(names)
        },
    }


def _mean(parts: str, count: str) -> Column:
    return F.when(F.col(count) > 0, F.col(parts) / F.col(count) / _PARTS)


def _parts(value: Column) -> Column:
    # Sums of whole numbers do not depend on the order of the rows, as those of doubles do.
    return F.round(value * _PARTS).cast("bigint")


def _profile(names: Sequence[str]) -> Column:
    total = F.greatest(reduce(Column.__add__, map(F.col, names)), F.lit(1))
    return F.array(*[F.col(name) / total for name in names])
