"""The edges of the user-item graph: follows, interactions, and items liked together.

Nodes are named `u:<user_id>` and `i:<item_id>`, so a user and an item of one id stay two nodes
(FE-52).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import reduce

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.interactions import LabelRule, strengths
from transforms.similarity import nearest_by_cosine

HALF_LIFE = timedelta(days=30)
"""After this time an interaction weighs half."""

MAX_LIKED_PER_USER = 100
"""Latest liked items of a user that count for similarity; bounds the pairs per user to 4,950."""

_DECIMALS = 9
"""Weights are rounded to this, since the last bits of a sum depend on the order of its terms."""


def graph_edges(
    events: DataFrame,
    items: DataFrame,
    follows: DataFrame,
    *,
    interval_end: datetime,
    similar_items: int,
    rule: LabelRule,
) -> DataFrame:
    """Builds the edges known strictly before the interval's end.

    * `follows`: from follower to followee as given, never mirrored; weight 1, and since when
      (FE-51).
    * `interacts`: from user to item; weight = sum of strength * 0.5^(age / 30 days); pairs of
      strength 0 are no edge.
    * `similar`: from an item to the `similar_items` nearest ones by the cosine of who liked them,
      users in both / sqrt(users of one * users of the other). Directed: an item may be near to one
      that has nearer ones itself. Never to itself (FE-53).

    Args:
        events: Table `events`.
        items: Table `items`.
        follows: Table `follows`; an edge without a time was always there.
        interval_end: The first moment that does not count.
        similar_items: How many similar items each item has at most.
        rule: Strengths, and what counts as liked.

    Returns:
        Table `graph_edges`, one row per source, target and relation.
    """
    end = F.lit(interval_end)
    before = strengths(events.filter(F.col("timestamp") < end), items, rule)
    parts = [
        _follows(follows, end),
        _interacts(before, end),
        _similar(before.filter("is_positive"), similar_items),
    ]
    return reduce(DataFrame.unionByName, parts).select(
        end.alias("interval_end"), "source", "target", "relation", "weight", "since"
    )


def _follows(follows: DataFrame, end: Column) -> DataFrame:
    known = follows.filter(F.col("since").isNull() | (F.col("since") < end))
    # One row without a time says that the edge was always there.
    always = F.count("since") < F.count(F.lit(1))
    pairs = known.groupBy("follower_id", "followee_id").agg(
        F.when(~always, F.min("since")).alias("since")
    )
    return _edges(
        pairs, _user("follower_id"), _user("followee_id"), "follows", F.lit(1.0), F.col("since")
    )


def _interacts(before: DataFrame, end: Column) -> DataFrame:
    half_life = HALF_LIFE / timedelta(microseconds=1)
    age = F.unix_micros(end) - F.unix_micros("timestamp")
    decayed = F.col("strength") * F.pow(F.lit(0.5), age / half_life)
    pairs = (
        before.filter("strength > 0")
        .groupBy("user_id", "item_id")
        .agg(F.round(F.sum(decayed), _DECIMALS).alias("weight"))
        .filter("weight > 0")
    )
    return _edges(pairs, _user("user_id"), _item("item_id"), "interacts", F.col("weight"))


def _similar(liked: DataFrame, count: int) -> DataFrame:
    latest = Window.partitionBy("user_id").orderBy(F.desc("timestamp"), "item_id")
    kept = (
        liked.groupBy("user_id", "item_id")
        .agg(F.max("timestamp").alias("timestamp"))
        .withColumn("__rank", F.row_number().over(latest))
        .filter(F.col("__rank") <= MAX_LIKED_PER_USER)
    )
    # On disk: as rows in memory a large log's likes would leave no room for what comes after.
    kept = kept.select("user_id", "item_id").localCheckpoint(storageLevel=StorageLevel.DISK_ONLY)
    ids = kept.select("item_id").distinct().toArrow()["item_id"].combine_chunks().sort()
    # Numbers in the order of the ids, so that the lower of two numbers is the lower id.
    codes = kept.sparkSession.createDataFrame(
        pa.table({"item_id": ids, "code": pa.array(range(len(ids)), pa.int32())})
    )
    baskets = (
        kept.join(F.broadcast(codes), "item_id")
        .groupBy("user_id")
        .agg(F.collect_list("code").alias("basket"))
        .select("basket")
        .toArrow()["basket"]
        .combine_chunks()
    )
    item_R, near_R, cosine_R = nearest_by_cosine(
        baskets.offsets.to_numpy(),
        baskets.values.to_numpy(),
        count,
        decimals=_DECIMALS,
        item_count=len(ids),
    )
    found = kept.sparkSession.createDataFrame(
        pa.table(
            {
                "item": ids.take(pa.array(item_R)),
                "near": ids.take(pa.array(near_R)),
                "weight": pa.array(cosine_R),
            }
        )
    )
    return _edges(found, _item("item"), _item("near"), "similar", F.col("weight"))


def _edges(
    df: DataFrame,
    source: Column,
    target: Column,
    relation: str,
    weight: Column,
    since: Column | None = None,
) -> DataFrame:
    return df.select(
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
