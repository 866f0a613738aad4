"""Spark's side of the leak probe: columns as plain values, and a future planted into the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DateType,
    NumericType,
    StringType,
    TimestampType,
)

from transforms.schemas import EVENT_TYPES
from transforms.sources import quoted

_NOBODY, _NOTHING, _TAG = "planted user", "planted item", "planted tag"
_OURS = ("_corrupt_row", "_file")
_LONGEST_LEVEL = 64


def plain_columns(rows: DataFrame, key: str, lists: Mapping[str, str]) -> DataFrame:
    """Turns columns into what the probe can judge.

    Numbers and truth values become doubles, times µs since 1970 (name ending in `@time`), lists
    their lengths; texts stay texts, cut short. Maps and structures are left out.

    Args:
        rows: A table or a source as its files hold it.
        key: Column of the id.
        lists: Texts that hold lists, with their separators; their number of entries counts.

    Returns:
        Column `id` (text) and the others, under their names.
    """
    chosen = []
    for field in rows.schema.fields:
        if field.name in (key, *_OURS):
            continue
        name, found = _plain(F.col(quoted(field.name)), field.name, field.dataType, lists)
        if found is not None:
            chosen.append(found.alias(name))
    return rows.select(F.col(quoted(key)).cast("string").alias("id"), *chosen)


def _plain(
    column: Column, name: str, kind: DataType, lists: Mapping[str, str]
) -> tuple[str, Column | None]:
    if name in lists and isinstance(kind, StringType):
        return name, F.size(F.split(column, F.lit(f"\\Q{lists[name]}\\E"))).cast("double")
    if isinstance(kind, NumericType | BooleanType):
        return name, column.cast("double")
    if isinstance(kind, TimestampType | DateType):
        return f"{name}@time", F.unix_micros(column.cast("timestamp")).cast("double")
    if isinstance(kind, ArrayType):
        return name, F.when(column.isNotNull(), F.size(column)).cast("double")
    if isinstance(kind, StringType):
        return name, F.substring(column, 1, _LONGEST_LEVEL)
    return name, None


@dataclass(frozen=True)
class Place:
    """An example into whose future something is planted."""

    user_id: str
    item_id: str
    author_id: str | None
    at: datetime


def plant(
    places: Sequence[Place], events: DataFrame, items: DataFrame, follows: DataFrame
) -> tuple[DataFrame, DataFrame, DataFrame]:
    """Adds what no example may see: events, follows and tags of its own moment and a second later.

    At each place the user does everything with another item, another user does everything with the
    item, user and author gain and make follows, and the item gains a tag. No id may occur at two
    places, since what is planted at one would rightly be known at a later other.

    Returns:
        The tables `events`, `items` and `follows` with their planted rows.
    """
    spark = events.sparkSession
    later = timedelta(seconds=1)
    did, edges, tagged = [], [], []
    for place in places:
        for at in (place.at, place.at + later):
            for kind in EVENT_TYPES:
                did.append((place.user_id, _NOTHING, kind, at))
                did.append((_NOBODY, place.item_id, kind, at))
            for one in (place.user_id, place.author_id):
                if one is not None:
                    edges += [(_NOBODY, one, at), (one, _NOBODY, at)]
        tagged.append((place.item_id, place.at))
    planted = _rows(
        spark, did, "user_id string, item_id string, event_type string, timestamp timestamp"
    )
    planted = planted.withColumns(
        {
            "event_id": F.concat_ws(" ", F.lit("planted"), *planted.columns),
            "value": F.lit(5.0),
            "watch_seconds": F.lit(1.0),
        }
    )
    fans = _rows(spark, edges, "follower_id string, followee_id string, since timestamp")
    times = _rows(spark, tagged, "item_id string, planted_at timestamp")
    known = F.coalesce("tags", F.array().cast("array<string>"))
    with_tags = items.join(F.broadcast(times), "item_id", "left")
    is_planted = F.col("planted_at").isNotNull()
    always = F.array_repeat(F.lit(None).cast("timestamp"), F.size(known))
    tag_times = F.concat(F.coalesce("tag_times", always), F.array("planted_at"))
    with_tags = with_tags.withColumns(
        {
            # Both from the old columns: Spark evaluates one call's columns together.
            "tags": F.when(is_planted, F.concat(known, F.array(F.lit(_TAG)))).otherwise(
                F.col("tags")
            ),
            "tag_times": F.when(is_planted, tag_times).otherwise(F.col("tag_times")),
        }
    ).drop("planted_at")
    return (
        events.unionByName(planted, allowMissingColumns=True),
        with_tags.select(items.columns),
        follows.unionByName(fans, allowMissingColumns=True),
    )


def _rows(spark: SparkSession, rows: list[tuple], schema: str) -> DataFrame:
    return spark.createDataFrame(rows, schema).coalesce(1)
