"""The fourteen features of an item as of a moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms import asof, text
from transforms.definitions import Feature

_MICROS_PER_HOUR = 3_600_000_000
_COUNTED = {"views": "view", "likes": "like", "comments": "comment", "shares": "share"}


FEATURES: tuple[Feature, ...] = (
    Feature("content_length", "Characters of `text`, 0 when null.", "characters", ("FE-15",),
            "static"),
    Feature("has_media", "Whether there is an image or a video.", "-", ("FE-16",), "static"),
    Feature("hashtag_count", "Number of `hashtags`.", "tags", ("FE-17",)),
    Feature("hashtags", "The tags known by then, in their order.", "-", ("FE-18",)),
    Feature("author_trust_score", "The author's `trust_score`; null without an author.", "0 to 1",
            ("FE-19", "DE-13"), "static"),
    Feature("author_follower_count", "The author's followers; 0 without an author.", "edges",
            ("FE-20",)),
    Feature("item_age_hours", "Time since the item came; null where that is unknown or later.", "h",
            ("FE-21",)),
    Feature("engagement_rate", "(likes + comments + shares) / max(1, views). Passes 1 where items "
            "are liked without a view.", "per view", ("FE-22",)),
    Feature("like_ratio", "Likes / max(1, likes + comments + shares).", "share", ("FE-23",)),
    Feature("comment_ratio", "Comments / max(1, likes + comments + shares).", "share", ("FE-24",)),
    Feature("share_ratio", "Shares / max(1, likes + comments + shares).", "share", ("FE-25",)),
    Feature("category", "Of the tags known by then, the category of the one that `categories` "
            "names first; else the first of the item's own; else `unknown`.", "-", ("FE-26",)),
    Feature("sentiment", "VADER's compound score of title and text, of the first 5,000 "
            "characters (Hutto and Gilbert 2014); 0 without text.", "-1 to 1", ("FE-27",),
            "static"),
    Feature("readability", "Flesch reading ease of title and text (Flesch 1948) over 100, cut to "
            "[0, 1]; 0 without words.", "0 to 1", ("FE-28",), "static"),
)  # fmt: skip
"""The fourteen features (FE-02)."""


def item_features(
    points: DataFrame,
    events: DataFrame,
    items: DataFrame,
    users: DataFrame,
    follows: DataFrame,
    *,
    categories: Mapping[str, str],
    earliest: datetime | None = None,
) -> DataFrame:
    """Computes what is known of items strictly before each point.

    `FEATURES` defines the columns; see `transforms.asof` on what is known of a moment.

    Args:
        points: Columns `item_id` and `as_of`.
        events: Table `events`.
        items: Table `items`; an item without a row has null and empty features and its counters.
        users: Table `users`, for the authors.
        follows: Table `follows`, for the authors.
        categories: From tag to category.
        earliest: No point asks about an earlier moment; known, it spares work.

    Returns:
        One row per distinct point: `item_id`, `as_of` and the features.
    """
    counted = events.filter(F.col("event_type").isin(*_COUNTED.values())).select(
        "item_id",
        F.unix_micros("timestamp").alias(asof.AT),
        *[(F.col("event_type") == kind).cast("int").alias(name) for name, kind in _COUNTED.items()],
    )
    if earliest is not None:
        counted = asof.collapse(
            counted, "item_id", list(_COUNTED), before=F.unix_micros(F.lit(earliest))
        )
    line = asof.timeline(points, counted, "item_id")
    counters = asof.sums_at_points(line, "item_id", lifetime=list(_COUNTED))

    own_text = text.item_text()
    static = items.select(
        "item_id",
        "author_id",
        "created_at",
        "tags",
        "tag_times",
        F.try_element_at("categories", F.lit(1)).alias("own_category"),
        F.coalesce(F.length("text"), F.lit(0)).alias("content_length"),
        (_filled("image_url") | _filled("video_url")).alias("has_media"),
        text.sentiment(own_text).alias("sentiment"),
        text.readability(own_text).alias("readability"),
    )
    authors = users.select(
        F.col("user_id").alias("author_id"), F.col("trust_score").alias("author_trust_score")
    )
    static = static.join(authors, "author_id", "left")
    known = counters.join(static, "item_id", "left")

    fans = follows.select(
        F.col("followee_id").alias("author_id"),
        asof.micros("since").alias(asof.AT),
        F.lit(1).alias("author_follower_count"),
    )
    followers = asof.sums_at_points(
        asof.timeline(known.select("author_id", "as_of"), fans, "author_id"),
        "author_id",
        lifetime=["author_follower_count"],
    )
    known = known.join(followers, ["author_id", "as_of"], "left")

    engagement = F.col("likes") + F.col("comments") + F.col("shares")

    def ratio(part: str) -> Column:
        return F.col(part) / F.greatest(engagement, F.lit(1))

    return known.withColumn("hashtags", _tags_known()).select(
        "item_id",
        "as_of",
        F.coalesce("content_length", F.lit(0)).alias("content_length"),
        F.coalesce("has_media", F.lit(False)).alias("has_media"),
        F.size("hashtags").alias("hashtag_count"),
        "hashtags",
        "author_trust_score",
        F.coalesce("author_follower_count", F.lit(0)).cast("bigint").alias("author_follower_count"),
        _item_age(),
        (engagement / F.greatest("views", F.lit(1))).alias("engagement_rate"),
        ratio("likes").alias("like_ratio"),
        ratio("comments").alias("comment_ratio"),
        ratio("shares").alias("share_ratio"),
        _category(categories).alias("category"),
        F.coalesce("sentiment", F.lit(0.0)).alias("sentiment"),
        F.coalesce("readability", F.lit(0.0)).alias("readability"),
    )


def item_ages(points: DataFrame, items: DataFrame) -> DataFrame:
    """Computes of `item_features` what changes with time alone: `item_age_hours`."""
    known = points.join(items.select("item_id", "created_at"), "item_id", "left")
    return known.select("item_id", "as_of", _item_age())


def _item_age() -> Column:
    age = (F.unix_micros("as_of") - F.unix_micros("created_at")) / _MICROS_PER_HOUR
    return F.when(age >= 0, age).alias("item_age_hours")


def _filled(column: str) -> Column:
    return F.coalesce(F.trim(column) != "", F.lit(False))


def _tags_known() -> Column:
    known = F.filter(
        F.arrays_zip("tags", "tag_times"),
        lambda tag: tag["tag_times"].isNull() | (tag["tag_times"] < F.col("as_of")),
    )
    # Without any times all tags were known from the start.
    tags = F.when(F.col("tag_times").isNull(), F.col("tags")).otherwise(
        F.transform(known, lambda tag: tag["tags"])
    )
    return F.coalesce(tags, F.array().cast("array<string>"))


def _category(categories: Mapping[str, str]) -> Column:
    own = F.coalesce("own_category", F.lit("unknown"))
    if not categories:
        return own
    # The order of declaration decides, so the order of an item's tags does not matter.
    declared = [F.lit(tag) for tag in categories]
    match = F.filter(F.array(*declared), lambda tag: F.array_contains("hashtags", tag))
    named = F.create_map(*[F.lit(word) for pair in categories.items() for word in pair])
    return F.coalesce(named[F.try_element_at(match, F.lit(1))], own)
