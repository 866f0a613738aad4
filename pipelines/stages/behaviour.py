"""What users did and what was done with items, counted as of the interval's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.context import StageContext, StageResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.stages.increments import Base


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``user_behaviour`` and ``item_engagement``.

    Each is made from an earlier interval, where one still holds.
    """
    first, second = _users(context), _items(context)
    return StageResult(
        f"{first.message}, {second.message}",
        rows_out=first.rows_out + second.rows_out,
        detail={"from": first.detail["from"]},
    )


def _users(context: StageContext) -> StageResult:
    from pipelines.stages.frames import as_points, write_snapshot
    from transforms.behaviour import user_behaviour
    from transforms.carry import between, carry_forward, touched_users, users_of

    options = context.project.pipeline.features
    end = context.interval.end
    events, items, users = (context.read(table) for table in context.step.reads)

    def behaviour(points: DataFrame, events: DataFrame) -> DataFrame:
        return user_behaviour(
            points,
            between(events, "timestamp", end - options.history, end),
            items,
            history=options.history,
            session_gap=options.session_gap,
        )

    def behaviour_of(points: DataFrame, ids: DataFrame) -> DataFrame:
        return behaviour(points, events.join(ids, "user_id", "left_semi"))

    def carried(base: Base) -> DataFrame:
        touched = touched_users(events, None, base_end=base.end, end=end, history=options.history)
        changed = base.changes.rows("items", ("item_id", "duration_seconds"))
        if changed is not None:
            touched = touched.unionByName(users_of(events, changed, base.end)).distinct()
        return carry_forward(base.frame, points, touched, "user_id", behaviour_of, points)

    points = as_points(users, "user_id", context.interval)
    return write_snapshot(
        context, "user_behaviour", "users", anew=lambda: behaviour(points, events), carried=carried
    )


def _items(context: StageContext) -> StageResult:
    from pipelines.stages.frames import as_points, write_snapshot
    from transforms.behaviour import item_engagement, more_engagement
    from transforms.carry import between

    end = context.interval.end
    events, items, _ = (context.read(table) for table in context.step.reads)
    points = as_points(items, "item_id", context.interval)
    return write_snapshot(
        context,
        "item_engagement",
        "items",
        anew=lambda: item_engagement(points, events, earliest=end),
        carried=lambda base: more_engagement(
            base.frame, points, between(events, "timestamp", base.end, end)
        ),
    )
