"""What is known of each user as of the interval's end."""

from __future__ import annotations

from pipelines.context import StageContext, StageResult


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``user_features``."""
    from pipelines.stages.frames import as_points, write_feature_table
    from transforms.user_features import user_features

    options = context.project.pipeline.features
    users = context.read("users")
    frame = user_features(
        as_points(users, "user_id", context.interval),
        context.read("events"),
        users,
        context.read("follows"),
        history=options.history,
        session_gap=options.session_gap,
        interests=options.interests,
    )
    return write_feature_table(context, "user_features", frame, "users")
