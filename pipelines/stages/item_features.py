"""What is known of each item as of the interval's end."""

from __future__ import annotations

from pipelines.context import StageContext, StageResult


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``item_features``, from the interval's ``item_engagement``."""
    from pyspark.sql import functions as F

    from pipelines.stages.frames import write_feature_table
    from transforms.item_features import item_features

    end = context.interval.end
    engagement, items, users, follows = map(context.read, context.step.reads)
    frame = item_features(
        engagement.filter(F.col("interval_end") == F.lit(end)).withColumnRenamed(
            "interval_end", "as_of"
        ),
        items,
        users,
        follows,
        categories=context.project.pipeline.features.categories,
        earliest=end,
    )
    return write_feature_table(context, "item_features", frame, "items")
