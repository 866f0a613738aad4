"""What each user did last, in time order: the input of sequence models (FE-39)."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.interactions import LabelRule, interactions


def sequences(
    events: DataFrame,
    items: DataFrame,
    *,
    interval_end: datetime,
    max_length: int,
    rule: LabelRule,
) -> DataFrame:
    """Collects each user's last interactions strictly before the interval's end.

    There is one entry per user, item and moment, of its strongest type; what was only shown
    (`impression`) is no entry. Entries of one moment are in the order of their item ids.

    Args:
        events: Table `events`.
        items: Table `items`.
        interval_end: The first moment that does not count.
        max_length: How many entries are kept, the latest ones.
        rule: Strengths.

    Returns:
        Table `sequences`, one row per user with an entry; the arrays of a row are equally long.
    """
    end = F.lit(interval_end)
    entries = interactions(events.filter(F.col("timestamp") < end), items, rule)
    latest = Window.partitionBy("user_id").orderBy(F.desc("timestamp"), F.desc("item_id"))
    kept = (
        entries.filter(F.col("event_type") != "impression")
        .withColumn("__rank", F.row_number().over(latest))
        .filter(F.col("__rank") <= max_length)
    )
    entry = F.struct("timestamp", "item_id", "event_type", "watch_share", "strength")
    gathered = kept.groupBy("user_id").agg(F.sort_array(F.collect_list(entry)).alias("entries"))
    return gathered.select(
        "user_id",
        end.alias("interval_end"),
        F.col("entries.item_id").alias("item_ids"),
        F.col("entries.event_type").alias("event_types"),
        F.col("entries.timestamp").alias("timestamps"),
        F.col("entries.watch_share").alias("watch_shares"),
        F.col("entries.strength").alias("strengths"),
    )


def with_later(before: DataFrame, later: DataFrame, *, max_length: int) -> DataFrame:
    """Appends what users did later to their histories.

    Args:
        before: Table `sequences` as of an earlier moment.
        later: Table `sequences` of the events since that moment.
        max_length: How many entries are kept, the latest ones.

    Returns:
        Table `sequences` as of the later moment, without `interval_end`.
    """
    arrays = [name for name in later.columns if name not in {"user_id", "interval_end"}]
    earlier = before.select("user_id", *[F.col(name).alias(f"{name}_before") for name in arrays])
    joined = later.drop("interval_end").join(earlier, "user_id", "full_outer")

    def latest(name: str) -> Column:
        both = F.concat(*[F.coalesce(part, F.array()) for part in (f"{name}_before", name)])
        first = F.greatest(F.size(both) - max_length + 1, F.lit(1))
        return F.slice(both, first, max_length).alias(name)

    return joined.select("user_id", *map(latest, arrays))
