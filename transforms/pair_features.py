"""Features of a user and an item together."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from transforms.definitions import Feature

PAIR_FEATURES: tuple[Feature, ...] = (
    Feature("hashtag_similarity", "Jaccard similarity of the user's `top_interests` and the item's "
            "`hashtags`, without regard to case; 0 where either is empty.", "share", ("FE-49",)),
)  # fmt: skip


def hashtag_similarity(interests: str, hashtags: str) -> Column:
    """Returns the Jaccard similarity of two columns of texts: 0 for disjoint, 1 for equal sets."""
    ours, theirs = (
        F.array_distinct(
            F.transform(F.coalesce(F.col(name), F.array().cast("array<string>")), F.lower)
        )
        for name in (interests, hashtags)
    )
    shared = F.size(F.array_intersect(ours, theirs))
    return shared / F.greatest(F.size(ours) + F.size(theirs) - shared, F.lit(1))
