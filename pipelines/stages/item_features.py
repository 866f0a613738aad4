"""What is known of each item as of the interval's end."""

from __future__ import annotations

from pipelines.context import StageContext, StageResult


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``item_features``."""
    from pipelines.stages.frames import as_points, write_feature_table
    from transforms.item_features import item_features

    items = context.read("items")
    frame = item_features(
        as_points(items, "item_id", context.interval),
        context.read("events"),
        items,
        context.read("users"),
        context.read("follows"),
        categories=context.project.pipeline.features.categories,
    )
    return write_feature_table(context, "item_features", frame, "items")
