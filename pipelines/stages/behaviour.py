"""What users did and what was done with items, counted as of the interval's end."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING

from pipelines.context import StageContext, StageResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.stages.increments import Base


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``user_behaviour`` and ``item_engagement``."""
    first, second = _users(context), _items(context)
    return StageResult(
        f"{first.message}, {second.message}",
        rows_out=first.rows_out + second.rows_out,
        detail=second.detail,
    )


def _users(context: StageContext) -> StageResult:
    """Count in the window, or go on from an earlier interval for whom nothing came or left."""
    from pyspark.sql import DataFrame
    from pyspark.sql import functions as F

    from pipelines.stages.frames import as_points, write_snapshot
    from transforms.behaviour import user_behaviour
    from transforms.changes import users_of
    from transforms.intervals import between

    options = context.project.pipeline.features
    end = context.interval.end
    events, items, users = map(context.read, context.step.reads)
    points = as_points(users, "user_id", context.interval)
    window = between(events, "timestamp", end - options.history, end)

    def counted(points: DataFrame, window: DataFrame) -> DataFrame:
        return user_behaviour(
            points, window, items, history=options.history, session_gap=options.session_gap
        )

    def carried(base: Base) -> DataFrame:
        moved = [
            between(events, "timestamp", base.end - age, end - age).select("user_id")
            for age in (timedelta(0), options.history)
        ]
        moved.append(points.join(base.frame, "user_id", "left_anti").select("user_id"))
        changed = base.changes.rows("items", ("item_id", "duration_seconds"))
        if changed is not None:  # another duration changes watched shares
            moved.append(users_of(window, changed, base.end))
        redone = F.broadcast(reduce(DataFrame.unionByName, moved).distinct().localCheckpoint())
        anew = counted(*[one.join(redone, "user_id", "left_semi") for one in (points, window)])
        same = points.join(redone, "user_id", "left_anti")
        return anew.unionByName(same.join(base.frame.drop("interval_end"), "user_id"))

    return write_snapshot(
        context,
        "user_behaviour",
        "users",
        anew=lambda: counted(points, window),
        carried=carried,
    )


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
        carried=lambda base: more_engagement(base.frame, points, before, since=base.end),
    )
