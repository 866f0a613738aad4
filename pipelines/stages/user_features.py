"""What is known of each user as of the interval's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.context import StageContext, StageResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.stages.increments import Base


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``user_features``, from an earlier one where one still holds."""
    from pipelines.stages.frames import as_points, write_snapshot
    from transforms.carry import between, carry_forward, touched_users
    from transforms.user_features import user_ages, user_features

    options = context.project.pipeline.features
    end = context.interval.end
    events, users, follows = (context.read(table) for table in ("events", "users", "follows"))

    def features(points: DataFrame, events: DataFrame) -> DataFrame:
        return user_features(
            points,
            between(events, "timestamp", end - options.history, end),
            users,
            follows,
            history=options.history,
            session_gap=options.session_gap,
            interests=options.interests,
        )

    def features_of(points: DataFrame, ids: DataFrame) -> DataFrame:
        return features(points, events.join(ids, "user_id", "left_semi"))

    def carried(base: Base) -> DataFrame:
        touched = touched_users(
            events,
            follows,
            base_end=base.end,
            end=end,
            history=options.history,
            changed_users=base.changes.rows("users"),
            changed_follows=base.changes.rows("follows"),
        )
        ages = user_ages(points, users)
        return carry_forward(base.frame, points, touched, "user_id", features_of, ages)

    points = as_points(users, "user_id", context.interval)
    return write_snapshot(
        context, "user_features", "users", anew=lambda: features(points, events), carried=carried
    )
