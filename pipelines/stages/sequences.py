"""Each user's history in time order, as of the interval's end."""

from __future__ import annotations

from pipelines.context import StageContext, StageResult


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``sequences``."""
    from pipelines.stages.frames import label_rule, write_feature_table
    from transforms.sequences import sequences

    frame = sequences(
        context.read("events"),
        context.read("items"),
        interval_end=context.interval.end,
        max_length=context.project.pipeline.features.sequence_length,
        rule=label_rule(context),
    )
    return write_feature_table(context, "sequences", frame, "histories")
