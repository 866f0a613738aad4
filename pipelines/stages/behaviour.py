"""What users did and what was done with items, counted as of the interval's end."""

from __future__ import annotations

from pipelines.context import StageContext, StageResult


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``user_behaviour`` and ``item_engagement``."""
    first, second = _users(context), _items(context)
    return StageResult(
        f"{first.message}, {second.message}",
        rows_out=first.rows_out + second.rows_out,
        detail=second.detail,
    )


def _users(context: StageContext) -> StageResult:
    from pipelines.stages.frames import as_points, write_feature_table
    from transforms.behaviour import user_behaviour
    from transforms.intervals import between

    options = context.project.pipeline.features
    end = context.interval.end
    events, items, users = map(context.read, context.step.reads)
    frame = user_behaviour(
        as_points(users, "user_id", context.interval),
        between(events, "timestamp", end - options.history, end),
        items,
        history=options.history,
        session_gap=options.session_gap,
    )
    return write_feature_table(context, "user_behaviour", frame, "users")


def _items(context: StageContext) -> StageResult:
    """Count from the beginning, or add to the counts of an earlier interval that still hold."""
    from pyspark.sql import functions as F

    from pipelines.stages.frames import as_points, write_snapshot
    from transforms.behaviour import item_engagement, more_engagement

    end = context.interval.end
    events, items, _ = map(context.read, context.step.reads)
    before = events.filter(F.col("timestamp") < F.lit(end))
    points = as_points(items, "item_id", context.interval)
    return write_snapshot(
        context,
        "item_engagement",
        "items",
        anew=lambda: item_engagement(points, before, earliest=end),
        carried=lambda base: more_engagement(base.frame, points, events, since=base.end, end=end),
    )
