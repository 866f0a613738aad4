"""Which media of each item can be used, and how much of the catalogue has them."""

from __future__ import annotations

from pipelines.context import StageContext, StageResult


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``item_modalities``."""
    from pipelines.stages.frames import known, write_feature_table
    from transforms.modalities import coverage, item_modalities
    from transforms.schemas import EMBEDDING_WIDTHS

    vectors = context.project.pipeline.features.vectors
    kinds = {column: getattr(vectors, column.partition("_")[0]) for column in EMBEDDING_WIDTHS}
    frame = item_modalities(
        known(context.read("items"), "items", context.interval),
        {column: kind.width or EMBEDDING_WIDTHS[column] for column, kind in kinds.items()},
        {column: kind.encoder for column, kind in kinds.items()},
    )
    written = write_feature_table(context, "item_modalities", frame, "items")
    table = context.lake.spark(
        context.spark, "item_modalities", version=context.tables_out["item_modalities"]
    )
    shares = coverage(table.filter(table["interval_end"] == context.interval.end))
    words = ", ".join(
        f"{name.removesuffix('_embedding')} {states['present']:.0%}"
        + (f" ({states['broken']:.1%} broken)" if states["broken"] else "")
        for name, states in shares.items()
    )
    return StageResult(
        f"{written.message}; with vectors: {words or 'none'}",
        rows_out=written.rows_out,
        detail={"coverage": shares},
    )
