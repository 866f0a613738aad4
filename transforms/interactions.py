"""One row per user, item and moment, with how strong a sign of liking it is.

A source often logs one act as several events at one moment: an impression that was viewed and
liked. They are one interaction, of its strongest type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

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
        `event_id` and `event_type` (of the strongest event), `user_id`, `item_id`, `timestamp`,
        `strength`, `label`, `is_positive`, `watch_share`, `rating` (the best), and `position`,
        `device` and `location` (the least that is not null among the moment's events).
    """
    known = _with_watch_share(events, items)
    ranks = F.create_map(*[F.lit(word) for pair in enumerate(_RISING) for word in reversed(pair)])
    best = F.struct(
        (F.col("event_type") == "dislike").alias("is_dislike"),
        strength(rule).alias("strength"),
        F.coalesce(ranks[F.col("event_type")], F.lit(-1)).alias("rank"),
        "event_id",
        "event_type",
    )
    joined = known.groupBy("user_id", "timestamp", "item_id").agg(
        F.max(best).alias("best"),
        F.max("watch_share").alias("watch_share"),
        F.max(F.when(F.col("event_type") == "rating", F.col("value"))).alias("rating"),
        *[F.min(name).alias(name) for name in ("position", "device", "location")],
    )
    positive = F.col("best.strength") >= rule.threshold
    return joined.select(
        "best.event_id",
        "user_id",
        "item_id",
        "best.event_type",
        "timestamp",
        "best.strength",
        (positive.cast("double") if rule.kind == "binary" else F.col("best.strength")).alias(
            "label"
        ),
        positive.alias("is_positive"),
        "watch_share",
        "rating",
        "position",
        "device",
        "location",
    )


def strengths(events: DataFrame, items: DataFrame, rule: LabelRule) -> DataFrame:
    """Computes of interactions only how strong they are, which is much cheaper.

    Args:
        events: Table `events`.
        items: Table `items`, for durations.
        rule: Strengths and label.

    Returns:
        `user_id`, `item_id`, `timestamp`, `strength` and `is_positive`, as `interactions` has them.
    """
    is_dislike = F.col("event_type") == "dislike"
    known = _with_watch_share(events, items).withColumn("strength", strength(rule))
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
        (found >= rule.threshold).alias("is_positive"),
    )


def _with_watch_share(events: DataFrame, items: DataFrame) -> DataFrame:
    durations = items.select("item_id", "duration_seconds")
    known = events.join(durations, "item_id", "left").withColumn("watch_share", watch_share())
    # All that follows groups by user and more: one exchange serves it all.
    return known.repartition("user_id")
