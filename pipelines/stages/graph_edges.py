"""Who follows whom, who did what, and what goes together."""

from __future__ import annotations

from datetime import timedelta

from pipelines.built import BEGINNING, missing, recipe
from pipelines.context import StageContext, StageResult
from pipelines.intervals import interval_containing, parse_every, text

_MOMENT = timedelta(microseconds=1)
_BATCH_ROWS = 16_384


def run(context: StageContext) -> StageResult:
    """Add to ``graph_edges`` what came since it was last whole, and the interval's similar items.

    What an interval adds is a function of its own events and follows, so only those intervals are
    made that are not there yet, or that a change of the base tables has touched; this one always.
    """
    from pyspark.sql import functions as F

    from pipelines.stages.frames import hold_to_contract, label_rule
    from pipelines.stages.increments import Plan
    from transforms.graph_edges import new_edges, similar_edges

    end, every = context.interval.end, context.project.pipeline.schedule.every
    rule = label_rule(context)
    plan = Plan(context, "graph_edges", recipe(context.step))
    held = plan.ranges(items=("item_id", "duration_seconds"))
    touched = min([start for start, _ in missing((BEGINNING, end), held)], default=end)
    since = min(interval_containing(touched, every).start, context.interval.start)
    added = new_edges(
        context.read("events"),
        context.read("items"),
        context.read("follows"),
        start=since,
        end=end,
        every=parse_every(every),
        rule=rule,
    )
    similar = similar_edges(
        context.batches(
            "sequences",
            ["item_ids", "strengths"],
            since={"interval_end": end},
            before={"interval_end": end + _MOMENT},
            rows=_BATCH_ROWS,
        ),
        interval_end=end,
        count=context.project.pipeline.features.similar_items,
        positive_from=rule.threshold,
    )
    kept = [(a, min(b, since)) for a, b in held if a < since]
    kept += [(max(a, end), b) for a, b in held if b > end]
    # Both in one commit: a reader finds the graph of an interval whole.
    spark = context.spark
    # Arrow tables come in a hundred parts, each of them a task.
    alike = spark.createDataFrame(similar).coalesce(spark.sparkContext.defaultParallelism)
    rows = added.unionByName(alike)
    plan.write_edges(rows, since, kept)
    written = context.lake.spark(context.spark, "graph_edges")
    inside = (F.col("interval_end") > F.lit(since)) & (F.col("interval_end") <= F.lit(end))
    hold_to_contract(context, "graph_edges", written.filter(inside))
    plan.claim([*kept, (since, end)])
    count = context.lake.count(
        "graph_edges",
        since={"interval_end": since + _MOMENT},
        before={"interval_end": end + _MOMENT},
    )
    return StageResult(
        f"{count:,} edges" + (f" since {text(since)}" if since > BEGINNING else ""),
        rows_out=count,
        detail={"since": since.isoformat(), "states": len(similar)},
    )
