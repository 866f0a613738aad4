"""The edges of the user-item graph: follows, interactions, and items liked together.

Nodes are named `u:<user_id>` and `i:<item_id>`, so a user and an item of one id stay two nodes
(FE-52).

What users did only grows, so the table keeps what each interval added to an edge: one more interval
adds rows and changes none. `graph_as_of` sums them up. Which items are similar is a state of its
own for each interval.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.interactions import LabelRule, strengths
from transforms.intervals import between, interval_end_of
from transforms.similarity import liked, nearest_by_cosine

HALF_LIFE = timedelta(days=30)
"""After this time an interaction weighs half."""

MAX_LIKED_PER_USER = 100
"""Latest liked items of a user that count for similarity; bounds the pairs per user to 4,950."""

_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
"""When a follow without a time counts as begun: in the first interval there can be."""

_DECIMALS = 9
"""Weights are rounded to this, since the last bits of a sum depend on the order of its terms."""


def new_edges(
    events: DataFrame,
    items: DataFrame,
    follows: DataFrame,
    *,
    start: datetime,
    end: datetime,
    every: tuple[int, str],
    rule: LabelRule,
) -> DataFrame:
    """Finds what came to the graph in `[start, end)`, a range of whole intervals.

    * `follows`: from follower to followee as given, never mirrored; weight 1, and since when
      (FE-51). One row, in the interval in which it began.
    * `interacts`: from user to item; weight = sum of strength * 0.5^(age / 30 days) over the
      interactions of one interval, their age as of its end; what weighs 0 is no edge.

    Args:
        events: Table `events`.
        items: Table `items`, for durations.
        follows: Table `follows`; an edge without a time was always there.
        start: The first moment that counts.
        end: The first moment that does not count.
        every: Count and unit (`h`, `d`, `mo`) of the schedule's intervals.
        rule: Strengths.

    Returns:
        Table `graph_edges`, one row per interval, source, target and relation.
    """
    return _follows(follows, start, end, every).unionByName(
        _interacts(strengths(between(events, "timestamp", start, end), items, rule), every)
    )


def similar_edges(
    histories: Iterable[pa.RecordBatch],
    *,
    interval_end: datetime,
    count: int,
    positive_from: float,
) -> pa.Table:
    """Finds the items that the same users like, as of the interval's end.

    `similar`: from an item to the `count` nearest ones by the cosine of who likes them, users of
    both / sqrt(users of one * users of the other). A user likes the last `MAX_LIKED_PER_USER`
    items of their history that are positives. Directed: an item may be near to one that has nearer
    ones itself. Never to itself (FE-53).

    Args:
        histories: Columns `item_ids` and `strengths` of the interval's rows of table `sequences`.
        interval_end: The first moment that does not count.
        count: How many similar items each item has at most.
        positive_from: Smallest strength of a positive.

    Returns:
        Table `graph_edges`, one row per source and target.
    """
    offsets, items, ids = liked(histories, positive_from=positive_from, most=MAX_LIKED_PER_USER)
    item_R, near_R, cosine_R = nearest_by_cosine(
        offsets, items, count, decimals=_DECIMALS, item_count=len(ids)
    )
    nodes = pc.binary_join_element_wise("i:", ids, "")
    moment = pa.timestamp("us", tz="UTC")
    rows = len(item_R)
    return pa.table(
        {
            "interval_end": pa.repeat(pa.scalar(interval_end, moment), rows),
            "source": nodes.take(pa.array(item_R)),
            "target": nodes.take(pa.array(near_R)),
            "relation": pa.repeat("similar", rows),
            "weight": pa.array(cosine_R),
            "since": pa.nulls(rows, moment),
        }
    )


def graph_as_of(edges: DataFrame, end: datetime) -> DataFrame:
    """Sums up the graph as it was at the end of an interval.

    The weight of `interacts` is then the sum of strength * 0.5^(age / 30 days) over all
    interactions before that end.

    Args:
        edges: Table `graph_edges`.
        end: The interval's end.

    Returns:
        `source`, `target`, `relation`, `weight` and `since`: one row per edge.
    """
    is_similar = F.col("relation") == "similar"
    is_end = F.col("interval_end") == F.lit(end)
    known = edges.filter((F.col("interval_end") <= F.lit(end)) & (~is_similar | is_end))
    fades = F.col("relation") == "interacts"
    weight = F.col("weight") * F.when(fades, _fading("interval_end", F.lit(end))).otherwise(1.0)
    return known.groupBy("source", "target", "relation").agg(
        F.round(F.sum(weight), _DECIMALS).alias("weight"), F.max("since").alias("since")
    )


def _follows(
    follows: DataFrame, start: datetime, end: datetime, every: tuple[int, str]
) -> DataFrame:
    # One row without a time says that the edge was always there.
    always = F.count("since") < F.count(F.lit(1))
    pairs = follows.groupBy("follower_id", "followee_id").agg(
        F.when(~always, F.min("since")).alias("since")
    )
    began = pairs.withColumn("began", F.coalesce("since", F.lit(_ALWAYS)))
    return _edges(
        between(began, "began", start, end),
        interval_end_of("began", *every),
        _user("follower_id"),
        _user("followee_id"),
        "follows",
        F.lit(1.0),
        F.col("since"),
    )


def _interacts(new: DataFrame, every: tuple[int, str]) -> DataFrame:
    faded = F.col("strength") * _fading("timestamp", F.col("interval_end"))
    pairs = (
        new.filter("strength > 0")
        .withColumn("interval_end", interval_end_of("timestamp", *every))
        .groupBy("user_id", "item_id", "interval_end")
        .agg(F.round(F.sum(faded), _DECIMALS).alias("weight"))
        .filter("weight > 0")
    )
    return _edges(
        pairs,
        F.col("interval_end"),
        _user("user_id"),
        _item("item_id"),
        "interacts",
        F.col("weight"),
    )


def _fading(moment: str, end: Column) -> Column:
    half_life = HALF_LIFE / timedelta(microseconds=1)
    return F.pow(F.lit(0.5), (F.unix_micros(end) - F.unix_micros(moment)) / half_life)


def _edges(
    df: DataFrame,
    interval_end: Column,
    source: Column,
    target: Column,
    relation: str,
    weight: Column,
    since: Column | None = None,
) -> DataFrame:
    return df.select(
        interval_end.alias("interval_end"),
        source.alias("source"),
        target.alias("target"),
        F.lit(relation).alias("relation"),
        weight.alias("weight"),
        (F.lit(None).cast("timestamp") if since is None else since).alias("since"),
    )


def _user(column: str) -> Column:
    return F.concat(F.lit("u:"), column)


def _item(column: str) -> Column:
    return F.concat(F.lit("i:"), column)
