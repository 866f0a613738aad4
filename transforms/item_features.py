"""The fourteen features of an item as of a moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms import asof, text
from transforms.behaviour import ITEM_ENGAGEMENT
from transforms.definitions import Feature
from transforms.pair_features import words

_MICROS_PER_HOUR = 3_600_000_000
_COUNTS = frozenset(feature.name for feature in ITEM_ENGAGEMENT)


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
    engaged: DataFrame,
    items: DataFrame,
    users: DataFrame,
    follows: DataFrame,
    *,
    categories: Mapping[str, str],
    earliest: datetime | None = None,
    scored: DataFrame | None = None,
    paired: bool = False,
) -> DataFrame:
    """Computes what is known of items strictly before each point.

    `FEATURES` defines the columns; see `transforms.asof` on what is known of a moment.

    Args:
        engaged: The points as `item_engagement` returns them, with its counts; columns that are
            not its own stay.
        items: Table `items`; an item without a row has null and empty features and its counters.
        users: Table `users`, for the authors.
        follows: Table `follows`, for the authors.
        categories: From tag to category.
        earliest: No point asks about an earlier moment; known, it spares work.
        scored: See `known` of `text.with_scores`.
        paired: Also give the `words` of the hashtags, as `hashtag_words`, for features of pairs.

    Returns:
        One row per distinct point, with the features.
    """
    fans = follows.select(
        _owner("author", F.col("followee_id")).alias("owner"),
        asof.micros("since").alias(asof.AT),
        F.lit(1).alias("author_follower_count"),
    )
    # An item without an author goes by itself, else one part would hold all of them.
    owner = F.coalesce(_owner("author", F.col("author_id")), _owner("item", F.col("item_id")))
    owned = engaged.join(items.select("item_id", "author_id"), "item_id", "left")
    before = None if earliest is None else F.unix_micros(F.lit(earliest))
    followed = asof.totals(owned.withColumn("owner", owner), fans, "owner", earliest=before)

    static = text.with_scores(items, scored).select(
        "item_id",
        "author_id",
        "created_at",
        "tags",
        "tag_times",
        words(F.col("tags")).alias("tag_words"),
        F.try_element_at("categories", F.lit(1)).alias("own_category"),
        F.coalesce(F.length("text"), F.lit(0)).alias("content_length"),
        (_filled("image_url") | _filled("video_url")).alias("has_media"),
        "sentiment",
        "readability",
    )
    authors = users.select(
        F.col("user_id").alias("author_id"), F.col("trust_score").alias("author_trust_score")
    )
    static = static.join(authors, "author_id", "left").drop("author_id")
    known = followed.join(static, "item_id", "left")

    def ratio(part: str, whole: str = "total_engagement") -> Column:
        return F.col(part) / F.greatest(F.col(whole), F.lit(1))

    age = (F.unix_micros("as_of") - F.unix_micros("created_at")) / _MICROS_PER_HOUR
    # Of tags without times, those of the item's own row.
    hashtag_words = F.when(F.col("tag_times").isNull(), F.col("tag_words"))
    hashtag_words = F.coalesce(hashtag_words, words(F.col("hashtags")))
    return known.withColumn("hashtags", _tags_known()).select(
        *[name for name in engaged.columns if name not in _COUNTS],
        F.coalesce("content_length", F.lit(0)).alias("content_length"),
        F.coalesce("has_media", F.lit(False)).alias("has_media"),
        F.size("hashtags").alias("hashtag_count"),
        "hashtags",
        "author_trust_score",
        "author_follower_count",
        F.when(age >= 0, age).alias("item_age_hours"),
        ratio("total_engagement", "view_count").alias("engagement_rate"),
        ratio("like_count").alias("like_ratio"),
        ratio("comment_count").alias("comment_ratio"),
        ratio("repost_count").alias("share_ratio"),
        _category(categories).alias("category"),
        F.coalesce("sentiment", F.lit(0.0)).alias("sentiment"),
        F.coalesce("readability", F.lit(0.0)).alias("readability"),
        *([hashtag_words.alias("hashtag_words")] if paired else []),
    )


def _owner(kind: str, identity: Column) -> Column:
    return F.concat(F.lit(f"{kind}:"), identity)


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
