"""Features of a user and an item together."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from transforms.definitions import Feature

PAIR_FEATURES: tuple[Feature, ...] = (
    Feature("hashtag_similarity", "Jaccard similarity of the user's `top_interests` and the item's "
            "`hashtags`, without regard to case; 0 where either is empty.", "share", ("FE-49",)),
)  # fmt: skip


def words(texts: Column) -> Column:
    """Returns a list of texts as a set without regard to case; empty for null."""
    return F.array_distinct(
        F.transform(F.coalesce(texts, F.array().cast("array<string>")), F.lower)
    )


def hashtag_similarity(interests: Column | str, hashtags: Column | str) -> Column:
    """Returns the Jaccard similarity of two columns of `words`: 0 for disjoint, 1 for equal sets.

    Words are made where there is one row for each user or item: for each pair they would cost a
    fifth of all features of an example.
    """
    shared = F.size(F.array_intersect(interests, hashtags))
    return shared / F.greatest(F.size(interests) + F.size(hashtags) - shared, F.lit(1))
