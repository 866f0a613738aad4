"""Each user's history in time order, as of the interval's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.context import StageContext, StageResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.stages.increments import Base


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``sequences``, from an earlier one where one still holds."""
    from pyspark.sql import functions as F

    from pipelines.stages.frames import label_rule, write_snapshot
    from transforms.changes import users_of
    from transforms.intervals import between
    from transforms.sequences import sequences, with_later

    end = context.interval.end
    max_length = context.project.pipeline.features.sequence_length
    events, items = context.read("events"), context.read("items")

    def histories(events: DataFrame) -> DataFrame:
        return sequences(
            events, items, interval_end=end, max_length=max_length, rule=label_rule(context)
        )

    def carried(base: Base) -> DataFrame:
        later = histories(between(events, "timestamp", base.end, end)).localCheckpoint()
        new = F.broadcast(later.select("user_id"))
        grown = with_later(
            base.frame.join(new, "user_id", "left_semi"), later, max_length=max_length
        )
        same = base.frame.join(new, "user_id", "left_anti").drop("interval_end")
        grown = grown.unionByName(same).withColumn("interval_end", F.lit(end))
        grown = grown.select(later.columns)
        changed = base.changes.rows("items", ("item_id", "duration_seconds"))
        if changed is None:
            return grown
        # Another duration changes the watched shares of all the past.
        redone = F.broadcast(users_of(events, changed, base.end).localCheckpoint())
        anew = histories(events.join(redone, "user_id", "left_semi"))
        return grown.join(redone, "user_id", "left_anti").unionByName(anew)

    return write_snapshot(
        context, "sequences", "histories", anew=lambda: histories(events), carried=carried
    )
