"""What is known of each item as of the interval's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.context import StageContext, StageResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.stages.increments import Base


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``item_features``, from an earlier one where one still holds."""
    from pyspark.sql import functions as F

    from pipelines.stages.frames import as_points, write_snapshot
    from transforms.carry import carry_forward, touched_items
    from transforms.item_features import item_ages, item_features

    categories = context.project.pipeline.features.categories
    end = context.interval.end
    events, items, users, follows, engagement = map(context.read, context.step.reads)
    counts = engagement.filter(F.col("interval_end") == F.lit(end)).drop("interval_end")

    def features(points: DataFrame, items: DataFrame) -> DataFrame:
        engaged = points.join(counts, "item_id")
        return item_features(engaged, items, users, follows, categories=categories, earliest=end)

    def features_of(points: DataFrame, ids: DataFrame) -> DataFrame:
        return features(points, items.join(ids, "item_id", "left_semi"))

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
        anew=lambda: features(points, items),
        carried=carried,
    )
