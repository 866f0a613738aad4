"""What is known of each item as of the interval's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.context import StageContext, StageResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.stages.increments import Base


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``item_features``, from the interval's ``item_engagement``.

    Only texts that are new or have changed are scored.
    """
    from pyspark.sql import functions as F

    from pipelines.stages.frames import write_snapshot
    from transforms.item_features import item_features

    end = context.interval.end
    engagement, items, users, follows = map(context.read, context.step.reads)

    def rows(scored: DataFrame | None = None) -> DataFrame:
        return item_features(
            engagement.filter(F.col("interval_end") == F.lit(end)).withColumnRenamed(
                "interval_end", "as_of"
            ),
            items,
            users,
            follows,
            categories=context.project.pipeline.features.categories,
            earliest=end,
            scored=scored,
        )

    return write_snapshot(
        context,
        "item_features",
        "items",
        anew=rows,
        carried=lambda base: rows(scores_that_hold(base)),
    )


def scores_that_hold(base: Base) -> DataFrame:
    """The scores of texts in an earlier snapshot of ``item_features`` that have not changed."""
    scores = base.frame.select("item_id", "sentiment", "readability")
    changed = base.changes.rows("items", ("title", "text"))
    return scores if changed is None else scores.join(changed, "item_id", "left_anti")
