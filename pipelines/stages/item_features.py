"""What is known of each item as of the interval's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.built import recipe
from pipelines.context import StageContext, StageResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``item_features``, from an earlier one where one still holds."""
    from pipelines.stages.frames import as_points, snapshot_result
    from pipelines.stages.increments import Plan
    from transforms.carry import carry_forward, touched_items
    from transforms.item_features import item_ages, item_features

    categories = context.project.pipeline.features.categories
    end = context.interval.end
    events, items, users, follows = (context.read(table) for table in context.step.reads)

    def features(points: DataFrame, events: DataFrame, items: DataFrame) -> DataFrame:
        return item_features(
            points, events, items, users, follows, categories=categories, earliest=end
        )

    def features_of(points: DataFrame, ids: DataFrame) -> DataFrame:
        theirs, wanted = (frame.join(ids, "item_id", "left_semi") for frame in (events, items))
        return features(points, theirs, wanted)

    plan = Plan(context, "item_features", recipe(context.step))
    points = as_points(items, "item_id", context.interval)
    base = plan.base()
    if base is None:
        frame = features(points, events, items)
    else:
        touched = touched_items(
            events,
            items,
            follows,
            base_end=base.end,
            end=end,
            changed_items=base.changes.rows("items"),
            changed_users=base.changes.rows("users"),
            changed_follows=base.changes.rows("follows"),
        )
        ages = item_ages(points, items)
        frame = carry_forward(base.frame, points, touched, "item_id", features_of, ages)
    plan.write_interval(frame)
    return snapshot_result(context, "item_features", "items", base)
