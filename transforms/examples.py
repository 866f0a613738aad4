"""Training examples: one per interaction, with what was known strictly before it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import tau

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from transforms import asof
from transforms.behaviour import item_engagement, more_engagement
from transforms.interactions import ACT_ORDER, INTERACTION, LabelRule, acts, labelled, of_moments
from transforms.intervals import between, interval_end_of
from transforms.item_features import item_features
from transforms.pair_features import hashtag_similarity
from transforms.schemas import columns, struct
from transforms.user_features import MEASURED, edges, measured, with_features

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROS_PER_DAY = 86_400_000_000
_OWN = ("event_id", "user_id", "item_id", "event_type", "strength", "label", "watch_share",
        "rating", "position", "device", "location")  # fmt: skip
_PAIRED = ("user_interest_words", "item_hashtag_words")

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
    engagement: DataFrame | None = None,
    scored: DataFrame | None = None,
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
        engagement: Table `item_engagement` as of `start`; known, it spares reading the events of
            before.
        scored: See `item_features`.

    Returns:
        Table `examples`, one row per user, item and moment; its `interval_end` is that of the
        interval that holds the moment.
    """
    before = events.filter(F.col("timestamp") < F.lit(end))
    recent = before.filter(F.col("timestamp") >= F.lit(start))
    past = between(events, "timestamp", start - history, start)
    past = past.select("user_id", F.unix_micros("timestamp").alias(asof.AT))
    ties = edges(follows)
    engaged = recent.select("item_id", "user_id", F.col("timestamp").alias("as_of"))
    if engagement is not None:
        engaged = more_engagement(engagement, engaged, before, since=start)
    if (end - start) * _FEW < history:
        # Most users did nothing in a short range: their past is not laid on the time line.
        past, ties = (_only(frame, recent, "user_id") for frame in (past, ties))
        before, items = (_only(frame, recent, "item_id") for frame in (before, items))
    if engagement is None:
        engaged = item_engagement(engaged, before, earliest=start)

    acted = _with_user(
        acts(recent, items, rule),
        past.unionByName(ties, allowMissingColumns=True),
        start=start,
        history=history,
        session_gap=session_gap,
    )
    acted = acted.withColumn("session_seconds", F.col("in_session_us") / 1e6)
    of_user = with_features(acted, users, history=history)
    of_item = item_features(
        engaged,
        items,
        users,
        follows,
        categories=categories,
        earliest=start,
        scored=scored,
        paired=True,
    )
    micros = F.unix_micros("timestamp")
    day_part = F.pmod(micros, F.lit(_MICROS_PER_DAY)) / _MICROS_PER_DAY
    weekday = F.weekday("timestamp") / 7
    # All by user: of what is wide, no row leaves the part that it is in.
    joined = (
        labelled(of_user, rule)
        .select(*_OWN, "as_of", *_renamed(of_user, "user"))
        .join(
            of_item.select("user_id", "item_id", "as_of", *_renamed(of_item, "item")),
            ["user_id", "as_of", "item_id"],
            "left",
        )
        .withColumnRenamed("as_of", "timestamp")
        .withColumns(
            {
                "interval_end": interval_end_of("timestamp", *every),
                "hour_sin": F.sin(tau * day_part),
                "hour_cos": F.cos(tau * day_part),
                "weekday_sin": F.sin(tau * weekday),
                "weekday_cos": F.cos(tau * weekday),
                "device": _or_unknown("device"),
                "location": _or_unknown("location"),
                "hashtag_similarity": hashtag_similarity(*_PAIRED),
            }
        )
    )
    schema = struct("examples")
    return joined.select(*[F.col(one.name).cast(one.dataType) for one in schema.fields])


def _with_user(
    acted: DataFrame,
    past: DataFrame,
    *,
    start: datetime,
    history: timedelta,
    session_gap: timedelta,
) -> DataFrame:
    """Joins events to interactions, and measures the past of each one's user on the way.

    Args:
        acted: `acts` since `start`.
        past: `user_id` and `__at` of the events in the window before it, and `edges` of follows.
        start: The first moment that counts.
        history: See `examples`.
        session_gap: See `examples`.

    Returns:
        `INTERACTION` with the moment as `as_of`, and `MEASURED`.
    """
    first = (start - _EPOCH) // timedelta(microseconds=1)

    def answer(block: pa.Table) -> pa.Table:
        at_R = block[asof.AT].to_numpy()
        tie_R = pc.fill_null(block["kind"], 0).to_numpy()
        is_point = asof.last_of(block, ("user_id", asof.AT, "item_id"))
        is_point &= (tie_R == 0) & (at_R >= first)
        past = asof.past_of_rows(block, "user_id", is_point)
        found = measured(past, tie_R, history=history, session_gap=session_gap)
        return asof.with_numbers(of_moments(block, is_point), found, MEASURED)

    rows = acted.unionByName(past, allowMissingColumns=True)
    schema = StructType([*StructType.fromDDL(INTERACTION).fields, *asof.numbers(MEASURED)])
    return asof.blockwise(rows, "user_id", ACT_ORDER, answer, schema)


def _only(frame: DataFrame, recent: DataFrame, key: str) -> DataFrame:
    return frame.join(F.broadcast(recent.select(key).distinct()), key, "left_semi")


def _renamed(features: DataFrame, owner: str) -> list[Column]:
    """The features that examples have, by their names there."""
    wanted = {*columns("examples"), *_PAIRED}
    return [
        F.col(name).alias(f"{owner}_{name}")
        for name in features.columns
        if f"{owner}_{name}" in wanted and name != f"{owner}_id"
    ]


def _or_unknown(column: str) -> Column:
    return F.coalesce(F.when(F.trim(column) != "", F.col(column)), F.lit("unknown"))
