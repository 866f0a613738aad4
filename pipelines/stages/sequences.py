"""Each user's history in time order, as of the interval's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.context import StageContext, StageResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from pipelines.stages.increments import Base


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``sequences``, from an earlier one where one still holds."""
    from pipelines.stages.frames import label_rule, write_snapshot
    from transforms.carry import carry_histories, touched_histories
    from transforms.sequences import sequences

    end = context.interval.end
    events, items = context.read("events"), context.read("items")

    def histories(events: DataFrame) -> DataFrame:
        return sequences(
            events,
            items,
            interval_end=end,
            max_length=context.project.pipeline.features.sequence_length,
            rule=label_rule(context),
        )

    def carried(base: Base) -> DataFrame:
        durations = base.changes.rows("items", ("item_id", "duration_seconds"))
        touched = touched_histories(events, base_end=base.end, end=end, changed_items=durations)
        return carry_histories(base.frame, touched, events, histories, end)

    return write_snapshot(
        context, "sequences", "histories", anew=lambda: histories(events), carried=carried
    )
