"""What users did and what was done with items, counted as of the interval's end."""

from __future__ import annotations

from pipelines.context import StageContext, StageResult


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``user_behaviour`` and ``item_engagement``."""
    from pipelines.stages.frames import as_points, write_feature_table
    from transforms.behaviour import item_engagement, user_behaviour

    options = context.project.pipeline.features
    events, items, users = (context.read(table) for table in context.step.reads)
    of_users = user_behaviour(
        as_points(users, "user_id", context.interval),
        events,
        items,
        history=options.history,
        session_gap=options.session_gap,
    )
    of_items = item_engagement(as_points(items, "item_id", context.interval), events)
    first = write_feature_table(context, "user_behaviour", of_users, "users")
    second = write_feature_table(context, "item_engagement", of_items, "items")
    return StageResult(
        f"{first.message}, {second.message}", rows_out=first.rows_out + second.rows_out
    )
