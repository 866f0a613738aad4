"""Features of an item's text; they do not depend on time."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType


def with_scores(items: DataFrame, known: DataFrame | None = None) -> DataFrame:
    """Adds `sentiment` and `readability` to items.

    Args:
        items: Table `items`.
        known: `item_id` and the two scores of items whose text has not changed; only the others
            are scored.
    """
    new = items if known is None else items.join(known, "item_id", "left_anti")
    own = item_text()
    scored = new.withColumns({"sentiment": sentiment(own), "readability": readability(own)})
    return scored if known is None else scored.unionByName(items.join(known, "item_id"))


def item_text() -> Column:
    """Returns title and text as one text; what is null is left out."""
    return F.concat_ws(" ", "title", "text")


_JUDGED = 5_000
"""Characters of a text that count for its sentiment: VADER's time grows with their square."""


@F.pandas_udf(DoubleType())
def sentiment(texts: Iterator[pd.Series]) -> Iterator[pd.Series]:
    """Returns VADER's compound score in [-1, 1]; 0 for an empty or null text (FE-27).

    VADER is made for short texts; of longer ones the first 5,000 characters count.

    Source: Hutto and Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
    Social Media Text, ICWSM 2014.
    """
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()
    for batch in texts:
        yield batch.map(
            lambda text: analyzer.polarity_scores(text[:_JUDGED])["compound"] if text else 0.0
        )


def readability(text: Column) -> Column:
    """Returns the Flesch reading ease over 100, clipped to [0, 1]; 0 without words (FE-28).

    206.835 - 1.015 words/sentences - 84.6 syllables/words (Flesch 1948). Syllables are runs of
    vowels, without a silent final e, and at least one per word: an English measure.
    """
    words = F.regexp_extract_all(F.lower(text), F.lit(r"([\p{L}']+)"))
    sentences = F.greatest(F.size(F.regexp_extract_all(text, F.lit(r"([.!?]+)"))), F.lit(1))
    syllables = F.aggregate(
        words,
        F.lit(0),
        lambda total, word: (
            total
            + F.greatest(
                F.size(
                    F.regexp_extract_all(
                        F.regexp_replace(word, "(?<=[^aeiouyl])e$", ""), F.lit("([aeiouy]+)")
                    )
                ),
                F.lit(1),
            )
        ),
    )
    count = F.size(words)
    ease = 206.835 - 1.015 * count / sentences - 84.6 * syllables / count
    return F.when(count > 0, F.greatest(F.least(ease / 100, F.lit(1.0)), F.lit(0.0))).otherwise(0.0)
