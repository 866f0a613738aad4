"""Labelled rows with features as of their event."""

from __future__ import annotations

from pipelines.built import missing, recipe
from pipelines.context import StageContext, StageResult
from pipelines.intervals import parse_every, text


def run(context: StageContext) -> StageResult:
    """Make ``examples`` hold the training window before the interval's end.

    An example is a function of its event and of what lies before it, so only those are built that
    are not there yet, or that a change of the base tables has touched.
    """
    from pyspark.sql import functions as F

    from pipelines.stages.frames import hold_to_contract, label_rule
    from pipelines.stages.increments import Plan
    from pipelines.stages.item_features import scores_that_hold
    from transforms.examples import examples

    features = context.project.pipeline.features
    made_by = recipe(context.step, without=("training_window",))
    plan = Plan(context, "examples", made_by)
    window = (context.interval.end - features.training_window, context.interval.end)
    made = {step.kind: recipe(step) for step in context.project.steps if step.group == "features"}
    counts = Plan(context, "item_engagement", made["behaviour"])
    held = plan.ranges()
    gaps = missing(window, held)
    texts = Plan(context, "item_features", made["item_features"]).base() if gaps else None
    for gap in gaps:
        base = counts.base(until=gap[0])
        frame = examples(
            context.read("events"),
            context.read("items"),
            context.read("users"),
            context.read("follows"),
            start=gap[0],
            end=gap[1],
            every=parse_every(context.project.pipeline.schedule.every),
            rule=label_rule(context),
            history=features.history,
            session_gap=features.session_gap,
            categories=features.categories,
            engagement=base.frame if base and base.end == gap[0] else None,
            scored=scores_that_hold(texts) if texts else None,
        )
        plan.write_range(frame, gap, held)
        written = context.lake.spark(context.spark, "examples")
        inside = (F.col("timestamp") >= F.lit(gap[0])) & (F.col("timestamp") < F.lit(gap[1]))
        hold_to_contract(context, "examples", written.filter(inside))
        held = (*held, gap)
        plan.claim(held)
    rows = sum(
        context.lake.count("examples", since={"timestamp": a}, before={"timestamp": b})
        for a, b in gaps
    )
    return StageResult(
        f"{rows:,} examples since {text(gaps[0][0])}" if gaps else "all examples are there",
        rows_out=rows,
        detail={
            "recipe": made_by,
            "window": [moment.isoformat() for moment in window],
            "built": [[moment.isoformat() for moment in gap] for gap in gaps],
        },
    )
