"""What is known of each user as of the interval's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.built import recipe
from pipelines.context import StageContext, StageResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``user_features``, from an earlier one where one still holds."""
    from pipelines.stages.frames import as_points, snapshot_result
    from pipelines.stages.increments import Plan
    from transforms.carry import carry_forward, touched_users
    from transforms.user_features import AGEING, user_features

    options = context.project.pipeline.features
    events, users, follows = (context.read(table) for table in ("events", "users", "follows"))

    def features(points: DataFrame, events: DataFrame, follows: DataFrame) -> DataFrame:
        return user_features(
            points,
            events,
            users,
            follows,
            history=options.history,
            session_gap=options.session_gap,
            interests=options.interests,
        )

    plan = Plan(context, "user_features", recipe(context.step))
    points = as_points(users, "user_id", context.interval)
    base = plan.base()
    if base is None:
        frame = features(points, events, follows)
    else:
        touched = touched_users(
            events,
            follows,
            base_end=base.end,
            end=context.interval.end,
            history=options.history,
            changed_users=base.changes.rows("users"),
            changed_follows=base.changes.rows("follows"),
        )
        frame = carry_forward(
            base.frame, points, touched, events, follows, "user_id", features, AGEING
        )
    plan.write_interval(frame)
    return snapshot_result(context, "user_features", "users", base)
