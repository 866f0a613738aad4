"""What is known of each item as of the interval's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.context import StageContext, StageResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.stages.increments import Base


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``item_features``, from an earlier one where one still holds."""
    from pipelines.stages.frames import as_points, write_snapshot
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

    def carried(base: Base) -> DataFrame:
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
        return carry_forward(base.frame, points, touched, "item_id", features_of, ages)

    points = as_points(items, "item_id", context.interval)
    return write_snapshot(
        context,
        "item_features",
        "items",
        anew=lambda: features(points, events, items),
        carried=carried,
    )
