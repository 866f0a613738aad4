"""Vectors of what items say of themselves, each computed once."""

from __future__ import annotations

from pipelines.context import StageContext, StageResult


def run(context: StageContext) -> StageResult:
    """Append to ``item_vectors`` what is asked for and not there yet."""
    from pipelines.stages.frames import known
    from pipelines.stages.media import COLUMN, encoded_media
    from transforms.embeddings import asked, embedded

    items = known(context.read("items"), "items", context.interval)
    there = context.lake.version("item_vectors") is not None
    counts = {}
    for medium, kind in encoded_media(context.project).items():
        assert kind.encoder is not None, "the spec names it"
        missing = asked(items, COLUMN[medium], kind.of, kind.encoder)
        if there:
            held = context.read("item_vectors").select("digest")
            missing = missing.join(held, "digest", "left_anti")
        missing = missing.localCheckpoint()
        counts[medium] = missing.select("digest").distinct().count()
        if counts[medium]:
            context.progress(f"{counts[medium]:,} vectors of {medium} by {kind.encoder}")
        if counts[medium] or not there:
            context.append("item_vectors", embedded(missing, kind.encoder))
            there = True
    words = ", ".join(f"{count:,} new of {medium}" for medium, count in counts.items())
    return StageResult(f"vectors: {words}", rows_out=sum(counts.values()))
