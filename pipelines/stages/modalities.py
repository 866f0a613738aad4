"""Which media of each item can be used, and how much of the catalogue has them."""

from __future__ import annotations

from pipelines.context import StageContext, StageResult
from pipelines.sections import Vector
from pipelines.stages.media import COLUMN, items_with_vectors


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``item_modalities``."""
    from pipelines.stages.frames import known, write_feature_table
    from transforms.modalities import coverage, item_modalities

    vectors = context.project.pipeline.features.vectors
    kinds = {column: getattr(vectors, medium) for medium, column in COLUMN.items()}
    items = known(context.read("items"), "items", context.interval)
    frame = item_modalities(
        items_with_vectors(context, items),
        {column: _width(context, column, kind) for column, kind in kinds.items()},
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


def _width(context: StageContext, column: str, kind: Vector) -> int:
    """What is declared; of vectors that the pipeline makes, what the encoder gives."""
    from pyspark.sql import functions as F

    from transforms.schemas import EMBEDDING_WIDTHS

    if kind.width or not kind.of:
        return kind.width or EMBEDDING_WIDTHS[column]
    made = context.read("item_vectors").filter(F.col("encoder") == F.lit(kind.encoder))
    first = made.select(F.size("vector")).first()
    return int(first[0]) if first else 0
