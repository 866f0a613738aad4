"""One row per user, item and moment, with how strong a sign of liking it is.

A source often logs one act as several events at one moment: an impression that was viewed and
liked. They are one interaction, of its strongest type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from transforms import asof

DEFAULT_STRENGTHS: dict[str, float | str] = {
    "impression": 0.0,
    "skip": 0.0,
    "dislike": 0.0,
    "view": "watch",
    "click": 0.6,
    "comment": 0.8,
    "rating": "value",
    "like": 1.0,
    "share": 1.0,
    "follow": 1.0,
}

# Of two types of one strength, the later one here names the interaction.
_RISING = (
    "impression",
    "view",
    "click",
    "skip",
    "rating",
    "comment",
    "like",
    "share",
    "follow",
    "dislike",
)


@dataclass(frozen=True)
class LabelRule:
    """How strong each event type is, and from where on an interaction is a positive."""

    kind: str = "binary"
    """`binary`: the label is 0 or 1; `continuous`: the label is the strength (DE-20)."""
    threshold: float = 0.5
    """Smallest strength of a positive."""
    rating_max: float = 5.0
    """The value of the best rating."""
    strengths: Mapping[str, float | str] = field(default_factory=lambda: dict(DEFAULT_STRENGTHS))
    """By event type: a number in [0, 1], `watch` (watched share of the item), or `value`
    (value / rating_max). A type that is left out has strength 0."""

    def __post_init__(self) -> None:
        if self.kind not in {"binary", "continuous"}:
            raise ValueError(
                f"The kind of label `{self.kind}` is not known; use binary or continuous."
            )


def watch_share() -> Column:
    """Returns watch_seconds / duration_seconds within [0, 1]; null where either is unknown."""
    duration = F.col("duration_seconds")
    share = F.col("watch_seconds") / F.when(duration > 0, duration)
    # `least` and `greatest` pass over nulls, so an unknown share must not reach them.
    return F.when(share.isNotNull(), F.least(F.greatest(share, F.lit(0.0)), F.lit(1.0)))


def strength(rule: LabelRule) -> Column:
    """Returns the strength in [0, 1] of an event with columns event_type, value and watch_share."""
    of_kind = {"watch": F.col("watch_share"), "value": F.col("value") / rule.rating_max}
    found: Column = F.lit(None).cast("double")
    for name, given in rule.strengths.items():
        worth = of_kind[given] if isinstance(given, str) else F.lit(float(given))
        found = F.when(F.col("event_type") == name, worth).otherwise(found)
    return F.least(F.greatest(F.coalesce(found, F.lit(0.0)), F.lit(0.0)), F.lit(1.0))


def interactions(events: DataFrame, items: DataFrame, rule: LabelRule) -> DataFrame:
    """Joins the events of one user, item and moment to one interaction.

    The strongest type counts, except that a dislike outdoes everything: who watched to the end and
    then pressed "not for me" did not like it.

    Args:
        events: Table `events`.
        items: Table `items`, for durations.
        rule: Strengths and label.

    Returns:
        `INTERACTION` with the moment as `timestamp`, and `label`. `event_id` and
        `event_type` are those of the strongest event, `rating` and `watch_share` the greatest,
        `position`, `device` and `location` the least that is not null among the moment's events.
    """
    schema = StructType.fromDDL(INTERACTION)
    rows = acts(events, items, rule)
    found = asof.blockwise(rows, "user_id", ACT_ORDER, of_moments, schema)
    return labelled(found.withColumnRenamed("as_of", "timestamp"), rule)


def acts(events: DataFrame, items: DataFrame, rule: LabelRule) -> DataFrame:
    """Lays out events so that `of_moments` can join them.

    Args:
        events: Table `events`.
        items: Table `items`, for durations.
        rule: Strengths.
    """
    ranks = F.create_map(*[F.lit(word) for pair in enumerate(_RISING) for word in reversed(pair)])
    return _with_watch_share(events, items).select(
        "user_id",
        F.unix_micros("timestamp").alias(asof.AT),
        "item_id",
        (F.col("event_type") == "dislike").alias("is_dislike"),
        strength(rule).alias("strength"),
        F.coalesce(ranks[F.col("event_type")], F.lit(-1)).alias("rank"),
        "event_id",
        "event_type",
        "watch_share",
        F.when(F.col("event_type") == "rating", F.col("value")).alias("rating"),
        "position",
        "device",
        "location",
    )


ACT_ORDER = (asof.AT, "item_id", "is_dislike", "strength", "rank", "event_id")
"""The events of a user, item and moment lie together, the strongest last."""

INTERACTION = """
    event_id string, user_id string, item_id string, event_type string, as_of timestamp,
    strength double, watch_share double, rating double, position int, device string, location string
"""

_GREATEST = ("watch_share", "rating")
_LEAST = ("position", "device", "location")


def of_moments(block: pa.Table, wanted: np.ndarray | None = None) -> pa.Table:
    """Joins the events of each user, item and moment to one row.

    Args:
        block: Columns of `acts`, sorted by user and `ACT_ORDER`.
        wanted: Which rows to answer for, each the last of its user, item and moment; all by
            default.

    Returns:
        `INTERACTION`, a row for each that is wanted, in their order.
    """
    last = asof.last_of(block, ("user_id", asof.AT, "item_id"))
    chosen = last if wanted is None else wanted
    number = np.cumsum(last) - last
    joined = (
        block.select([*_GREATEST, *_LEAST])
        .append_column("of", pa.array(number))
        .group_by("of", use_threads=False)  # groups in the order of their first rows
        .aggregate([(name, "max") for name in _GREATEST] + [(name, "min") for name in _LEAST])
        .take(pa.array(number[chosen]))
    )
    best = block.filter(pa.array(chosen))
    at = best[asof.AT].cast(pa.timestamp("us", tz="UTC"))
    names = ("event_id", "user_id", "item_id", "event_type")
    columns = {name: best[name] for name in names} | {"as_of": at, "strength": best["strength"]}
    columns |= {name: joined[f"{name}_max"] for name in _GREATEST}
    columns |= {name: joined[f"{name}_min"] for name in _LEAST}
    return pa.table(columns)


def labelled(found: DataFrame, rule: LabelRule) -> DataFrame:
    """Adds the `label` of each interaction."""
    positive = F.col("strength") >= rule.threshold
    label = positive.cast("double") if rule.kind == "binary" else F.col("strength")
    return found.withColumn("label", label)


def strengths(events: DataFrame, items: DataFrame, rule: LabelRule) -> DataFrame:
    """Computes of interactions only how strong they are, which is much cheaper.

    Args:
        events: Table `events`.
        items: Table `items`, for durations.
        rule: Strengths and label.

    Returns:
        `user_id`, `item_id`, `timestamp` and `strength`, as `interactions` has them.
    """
    is_dislike = F.col("event_type") == "dislike"
    known = _with_watch_share(events, items).withColumn("strength", strength(rule))
    # Who joins or groups the result by user needs no exchange of its own.
    known = known.repartition("user_id")
    joined = known.groupBy("user_id", "item_id", "timestamp").agg(
        F.max(F.when(is_dislike, F.col("strength"))).alias("disliked"),
        F.max("strength").alias("strength"),
    )
    found = F.coalesce("disliked", "strength")
    return joined.select(
        "user_id",
        "item_id",
        "timestamp",
        found.alias("strength"),
    )


def _with_watch_share(events: DataFrame, items: DataFrame) -> DataFrame:
    durations = items.select("item_id", "duration_seconds")
    return events.join(durations, "item_id", "left").withColumn("watch_share", watch_share())
