"""Splits a frame into the rows that go on and those that are set aside."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from transforms.contract_model import RowCheck, Rule, Scope
from transforms.contract_tally import probed, repeated
from transforms.digest import row_hash

_BROKEN = "__broken_rules"
_COPY = "__copy"
_ASIDE = "table string, row string, rule string, interval_end timestamp"
_ROW_TIME = "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"
_KEYS_HELD = 10_000


def split(
    df: DataFrame, scope: Scope, table: str, setting_aside: Sequence[RowCheck]
) -> tuple[DataFrame, DataFrame]:
    """Splits rows into good ones and ones to set aside, each once with the labels it breaks.

    Args:
        df: The rows.
        scope: The same rows with their lookups.
        table: Told in the rows set aside.
        setting_aside: The quarantining rules that are broken.

    Returns:
        The good rows, and the others as table, row (JSON), rule (labels joined by a comma) and
        interval_end. Both lazy.
    """
    if not setting_aside:
        return df, df.sparkSession.createDataFrame([], _ASIDE)
    columns = df.columns
    broken = [
        F.when(check.broken, F.lit(check.rule.label))
        for check in setting_aside
        if check.broken is not None
    ]
    labels = F.array_compact(F.array(*broken)) if broken else F.array().cast("array<string>")
    flagged = probed(scope.frame, setting_aside).withColumn(_BROKEN, labels)
    for check in setting_aside:
        if check.rule.name == "unique":
            flagged = _flag_copies(df, flagged, check.rule)
    good = flagged.where(F.size(_BROKEN) == 0).select(*columns)
    aside = flagged.where(F.size(_BROKEN) > 0).select(
        F.lit(table).alias("table"),
        F.to_json(F.struct(*columns), {"timestampFormat": _ROW_TIME}).alias("row"),
        F.array_join(_BROKEN, ", ").alias("rule"),
        F.lit(scope.interval_end).cast("timestamp").alias("interval_end"),
    )
    return good, aside


def _flag_copies(frame: DataFrame, flagged: DataFrame, rule: Rule) -> DataFrame:
    """Flags all rows but one of each key.

    The one that stays breaks the fewest other rules; among those a hash of the whole row decides,
    so that the choice does not depend on the order in which rows arrive. Only rows of repeated
    keys are sorted.
    """
    order = [F.size(_BROKEN), row_hash(frame, frame.columns)]
    number = F.row_number().over(Window.partitionBy(*rule.columns).orderBy(*order))
    keys = _held(repeated(frame, rule.columns).drop("count"))
    copies = flagged.join(keys, list(rule.columns), "left_semi").withColumn(_COPY, number)
    label = F.when(F.col(_COPY) > 1, F.lit(rule.label))
    copies = copies.withColumn(_BROKEN, F.array_compact(F.array_append(_BROKEN, label)))
    others = flagged.join(keys, list(rule.columns), "left_anti")
    return others.unionByName(copies.drop(_COPY))


def _held(keys: DataFrame) -> DataFrame:
    """The keys as values where they are few, so that no later pass looks for them again."""
    found = keys.limit(_KEYS_HELD + 1).collect()
    return (
        keys if len(found) > _KEYS_HELD else keys.sparkSession.createDataFrame(found, keys.schema)
    )
