"""What is known of each user as of the interval's end."""

from __future__ import annotations

from pipelines.context import StageContext, StageResult


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``user_features``.

    Always from the events of the window: they are read once and in order, which costs less than
    finding out for whom something came or left.
    """
    from pipelines.stages.frames import as_points, write_feature_table
    from transforms.intervals import between
    from transforms.user_features import user_features

    options = context.project.pipeline.features
    end = context.interval.end
    events, users, follows = map(context.read, context.step.reads)
    frame = user_features(
        as_points(users, "user_id", context.interval),
        between(events, "timestamp", end - options.history, end),
        users,
        follows,
        history=options.history,
        session_gap=options.session_gap,
        interests=options.interests,
    )
    return write_feature_table(context, "user_features", frame, "users")
