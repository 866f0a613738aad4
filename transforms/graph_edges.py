"""The edges of the user-item graph: follows, interactions, and items liked together.

Nodes are named `u:<user_id>` and `i:<item_id>`, so a user and an item of one id stay two nodes
(FE-52).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.interactions import LabelRule, strengths

HALF_LIFE = timedelta(days=30)
"""After this time an interaction weighs half."""

MAX_LIKED_PER_USER = 100
"""Latest liked items of a user that count for similarity; bounds the pairs per user to 4,950."""

_CODE_BITS = 31
"""An item's number has no more bits, so that a pair of them is one 64-bit number."""

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

    * `follows`: from follower to followee as given, never mirrored; weight 1 (FE-51).
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
        end.alias("interval_end"), "source", "target", "relation", "weight"
    )


def _follows(follows: DataFrame, end: Column) -> DataFrame:
    known = follows.filter(F.col("since").isNull() | (F.col("since") < end))
    pairs = known.select("follower_id", "followee_id").distinct()
    return _edges(pairs, _user("follower_id"), _user("followee_id"), "follows", F.lit(1.0))


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
    # Numbers in the order of the ids: pairs are counted by one number, not by two texts.
    codes = kept.groupBy("item_id").agg(F.count("*").alias("users"))
    codes = codes.withColumn("code", F.row_number().over(Window.orderBy("item_id")).cast("bigint"))
    codes = codes.localCheckpoint()
    baskets = (
        kept.join(F.broadcast(codes), "item_id")
        .groupBy("user_id")
        .agg(F.sort_array(F.collect_list("code")).alias("basket"))
    )
    # Each pair once, in the order of the ids; it becomes two directed edges after counting.
    rest = F.expr("slice(basket, position + 2, size(basket))")
    pairs = (
        baskets.select("basket", F.posexplode("basket").alias("position", "one"))
        .select("one", F.explode(rest).alias("other"))
        .select((F.shiftleft("one", _CODE_BITS) + F.col("other")).alias("pair"))
        .groupBy("pair")
        .agg(F.count("*").alias("together"))
        .select(
            F.shiftright("pair", _CODE_BITS).alias("one"),
            F.col("pair").bitwiseAND(2**_CODE_BITS - 1).alias("other"),
            "together",
        )
    )
    users = codes.select("code", "users")
    pairs = pairs.join(F.broadcast(users.toDF("one", "users_one")), "one")
    pairs = pairs.join(F.broadcast(users.toDF("other", "users_other")), "other")
    cosine = F.col("together") / F.sqrt(F.col("users_one") * F.col("users_other"))
    directed = pairs.select(
        F.round(cosine, _DECIMALS).alias("weight"),
        F.inline(
            F.array(
                F.struct(F.col("one").alias("item"), F.col("other").alias("near")),
                F.struct(F.col("other").alias("item"), F.col("one").alias("near")),
            )
        ),
    )
    nearest = Window.partitionBy("item").orderBy(F.desc("weight"), "near")
    best = directed.withColumn("__rank", F.row_number().over(nearest)).filter(
        F.col("__rank") <= count
    )
    for end in ("item", "near"):
        names = codes.select(F.col("code").alias(end), F.col("item_id").alias(f"{end}_id"))
        best = best.join(F.broadcast(names), end)
    return _edges(best, _item("item_id"), _item("near_id"), "similar", F.col("weight"))


def _edges(
    df: DataFrame, source: Column, target: Column, relation: str, weight: Column
) -> DataFrame:
    return df.select(
        source.alias("source"),
        target.alias("target"),
        F.lit(relation).alias("relation"),
        weight.alias("weight"),
    )


def _user(column: str) -> Column:
    return F.concat(F.lit("u:"), column)


def _item(column: str) -> Column:
    return F.concat(F.lit("i:"), column)
