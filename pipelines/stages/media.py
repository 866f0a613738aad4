"""The vectors of items: given with the items, or made by the stage `embed`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipelines.context import StageContext
from pipelines.project import Project
from pipelines.sections import Vector

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from pyspark.sql import DataFrame

    from training.content import ItemContent
    from training.models.base import Model

COLUMN = {medium: f"{medium}_embedding" for medium in ("video", "audio", "text")}
"""The column of `items` that holds the vectors of a medium."""


def encoded_media(project: Project) -> dict[str, Vector]:
    """The media whose vectors an encoder makes, with what the spec says of each."""
    vectors = project.pipeline.features.vectors
    kinds = {medium: getattr(vectors, medium) for medium in COLUMN}
    return {medium: kind for medium, kind in kinds.items() if kind.of}


def items_with_vectors(context: StageContext, items: DataFrame) -> DataFrame:
    """Items with the vectors that an encoder made, where the spec names one, in their columns.

    Of such a medium there is a column `<medium>_embedding_digest` too.
    """
    from pyspark.sql import functions as F

    from transforms.embeddings import asked

    for medium, kind in encoded_media(context.project).items():
        column = COLUMN[medium]
        # Two intervals at once may have made the same vector.
        made = context.read("item_vectors").dropDuplicates(["digest"])
        made = made.select("digest", F.col("vector").alias(column))
        names = asked(items, column, kind.of, str(kind.encoder)).select("item_id", "digest")
        of_item = names.join(made, "digest").withColumnRenamed("digest", f"{column}_digest")
        items = items.drop(column).join(of_item, "item_id", "left")
    return items


def load_content(
    context: StageContext, folder: Path, without: np.ndarray | None = None
) -> ItemContent:
    """The usable vectors of the items known before the interval's end, in files of a folder.

    Args:
        context: The stage's.
        folder: For the files.
        without: Ids of items to leave out.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from training.content import read_content

    states = context.arrow("item_modalities", interval_end=context.interval.end)
    if without is not None:
        known = pc.is_in(states["item_id"], pa.array(without, pa.string()))
        states = states.filter(pc.invert(known))
    states = states.sort_by("item_id")
    ids = states["item_id"].combine_chunks()
    made = encoded_media(context.project)

    def usable(medium: str) -> Iterator[tuple[pa.Array, pa.Array]]:
        """Places of items among the ids, and their vectors."""
        column = COLUMN[medium]
        table, key, names = ("items", "item_id", ids)
        vector = column
        if medium in made:
            table, key, vector = "item_vectors", "digest", "vector"
            names = states[f"{column}_digest"].combine_chunks()
        present = pc.equal(states[f"{column}_state"], "present").combine_chunks()
        if not pc.any(present).as_py():  # nothing to read a whole table for
            return
        names = pc.if_else(present, names, None)
        for batch in context.batches(table, [key, vector]):
            row_of = pc.index_in(names, batch[key])
            place = pc.indices_nonzero(pc.is_valid(row_of))
            if len(place):
                yield place.cast(pa.int64()), batch[vector].take(row_of.take(place))
            # What is placed is not looked for again: a vector may be there twice.
            names = pc.if_else(pc.is_valid(row_of), pa.scalar(None, names.type), names)

    return read_content(ids, {COLUMN[medium]: usable(medium) for medium in COLUMN}, folder)


def with_new_items(context: StageContext, model: Model) -> Model:
    """A model that also knows the items which came after its training, as far as media tell."""
    if not model.reads_media(asdict(model.config)):
        return model
    folder = Path(context.project.location(".cache/work"))
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as scratch:
        return model.with_items(load_content(context, Path(scratch), without=model.item_ids))
