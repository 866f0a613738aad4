"""Small things that the Spark stages share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipelines.built import recipe
from pipelines.context import StageContext, StageResult
from pipelines.errors import ContractError
from pipelines.intervals import Interval

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.stages.increments import Base
    from transforms.interactions import LabelRule

SINCE = {"events": "timestamp", "items": "created_at", "users": "created_at", "follows": "since"}
"""The column that says since when a row of a base table is true."""


def known(frame: DataFrame, table: str, interval: Interval) -> DataFrame:
    """The rows that were true before the interval's end; a row without a time always was."""
    from pyspark.sql import functions as F

    since = F.col(SINCE[table])
    return frame.filter(since.isNull() | (since < F.lit(interval.end)))


def as_points(frame: DataFrame, key: str, interval: Interval) -> DataFrame:
    """The ids known before the interval's end, each asked about as of that end."""
    from pyspark.sql import functions as F

    table = {"user_id": "users", "item_id": "items"}[key]
    return known(frame, table, interval).select(key, F.lit(interval.end).alias("as_of"))


def label_rule(context: StageContext) -> LabelRule:
    """How strongly each type of event speaks for an item, and from where on it is a positive."""
    from transforms.interactions import LabelRule

    label = context.project.pipeline.features.label
    return LabelRule(
        kind=label.kind,
        threshold=label.threshold,
        rating_max=label.rating_max,
        strengths=label.strengths.model_dump(),
    )


def write_feature_table(
    context: StageContext, table: str, frame: DataFrame, noun: str
) -> StageResult:
    """Replace the interval of a feature table with rows that are all made anew."""
    from pyspark.sql import functions as F

    rows = frame.drop("as_of").withColumn("interval_end", F.lit(context.interval.end))
    context.write_interval(table, rows)
    return _result(context, table, noun, None)


def write_snapshot(
    context: StageContext,
    table: str,
    noun: str,
    *,
    anew: Callable[[], DataFrame],
    carried: Callable[[Base], DataFrame],
) -> StageResult:
    """Replace the interval of a feature table, going on from an earlier one where one still holds.

    Args:
        context: Of the stage.
        table: The table.
        noun: What its rows are.
        anew: Makes all rows from the base tables.
        carried: Makes the same rows from an earlier interval.
    """
    from pipelines.stages.increments import Plan

    plan = Plan(context, table, recipe(context.step))
    base = plan.base()
    plan.write_interval(anew() if base is None else carried(base))
    return _result(context, table, noun, base)


def _result(context: StageContext, table: str, noun: str, base: Base | None) -> StageResult:
    """Hold the interval of a feature table that was written to its contract, and tell of it."""
    from pyspark.sql import functions as F

    rows = context.lake.spark(context.spark, table)
    hold_to_contract(
        context, table, rows.filter(F.col("interval_end") == F.lit(context.interval.end))
    )
    count = context.lake.count(table, interval_end=context.interval.end)
    return StageResult(
        f"{count:,} {noun}",
        rows_out=count,
        detail={"from": None if base is None else base.end.isoformat()},
    )


def hold_to_contract(context: StageContext, table: str, rows: DataFrame) -> None:
    """Check rows of a feature table that were written, before anything is learnt from them.

    Raises:
        ContractError: When they break a blocking rule. The stage then counts as failed, so the next
            run makes the rows anew.
    """
    if table not in context.project.contracts:
        return
    from pipelines.stages.validate import check_table
    from transforms.contracts import render_findings

    result = check_table(context, table, rows, {}, columns=())
    text = render_findings(result.findings)
    if result.blocked:
        raise ContractError(
            f"{table} for the interval that ends at {context.interval.end_text} breaks its "
            f"contract. No model learns from it.\n{text}"
        )
    for line in text.splitlines():
        context.progress(line)
