"""Labelled rows with features as of their event, split by time."""

from __future__ import annotations

from pipelines.context import StageContext, StageResult


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``examples``."""
    from pipelines.stages.frames import label_rule, write_feature_table
    from pipelines.stages.snapshot import cuts
    from transforms.examples import examples

    features = context.project.pipeline.features
    at = cuts(context)
    frame = examples(
        context.read("events"),
        context.read("items"),
        context.read("users"),
        context.read("follows"),
        interval_end=at.end,
        training_window=features.training_window,
        valid_start=at.valid_start,
        test_start=at.test_start,
        rule=label_rule(context),
        history=features.history,
        session_gap=features.session_gap,
        categories=features.categories,
    )
    return write_feature_table(context, "examples", frame, "examples")
