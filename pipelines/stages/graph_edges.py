"""Who follows whom, who did what, and what goes together, as of the interval's end."""

from __future__ import annotations

from pipelines.context import StageContext, StageResult


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``graph_edges``.

    Always from all events: interactions fade, so every weight changes with every interval, and so
    do the similarities of all items near one that was liked.
    """
    from pipelines.stages.frames import label_rule, write_feature_table
    from transforms.graph_edges import graph_edges

    frame = graph_edges(
        context.read("events"),
        context.read("items"),
        context.read("follows"),
        interval_end=context.interval.end,
        similar_items=context.project.pipeline.features.similar_items,
        rule=label_rule(context),
    )
    return write_feature_table(context, "graph_edges", frame, "edges")
