"""Vectors of what items say of themselves, by a frozen encoder.

A vector is a function of the encoder and of the values of some columns, so it is computed once and
found again by the digest of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from transforms.encoders import EncoderError, load_encoder
from transforms.schemas import struct

_BATCH = 256
"""Values encoded at once."""


def said(items: DataFrame, columns: Sequence[str]) -> Column:
    """Returns what some columns of an item say, a line each; null where they say nothing."""
    parts = [
        F.array_join(name, ", ") if dict(items.dtypes)[name].startswith("array") else F.col(name)
        for name in columns
    ]
    text = F.trim(F.concat_ws("\n", *[F.nullif(F.trim(part), F.lit("")) for part in parts]))
    return F.nullif(text, F.lit(""))


def digest(text: Column, encoder: str) -> Column:
    """Returns the name under which the vector of a text is found again."""
    return F.sha2(F.concat_ws("\n", F.lit(encoder), text), 256)


def asked(items: DataFrame, medium: str, columns: Sequence[str], encoder: str) -> DataFrame:
    """Asks for the vectors of one medium.

    Returns:
        `item_id`, `medium`, `encoder`, `said` and `digest`, for items that say something.
    """
    text = said(items, columns)
    return (
        items.select("item_id", text.alias("said"))
        .filter(F.col("said").isNotNull())
        .select(
            "item_id",
            F.lit(medium).alias("medium"),
            F.lit(encoder).alias("encoder"),
            "said",
            digest(F.col("said"), encoder).alias("digest"),
        )
    )


def embedded(questions: DataFrame, encoder: str) -> DataFrame:
    """Answers what `asked` asks, in the processes of Spark's workers.

    Args:
        questions: Rows of `asked`, for one encoder.
        encoder: Its name.

    Returns:
        Table `item_vectors`: a row for each digest that is asked for.
    """
    schema = struct("item_vectors")
    arrow = pa.schema(
        {
            "digest": pa.string(),
            "medium": pa.string(),
            "encoder": pa.string(),
            "vector": pa.list_(pa.float32()),
        }
    )

    def encode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = load_encoder(encoder)
        for batch in batches:
            for start in range(0, batch.num_rows, _BATCH):
                part = batch.slice(start, _BATCH)
                found = np.asarray(model.encode(part["said"].to_pylist()), np.float32)
                if found.ndim != 2 or len(found) != part.num_rows:
                    raise EncoderError(
                        f"The encoder `{encoder}` gave an array of shape {found.shape} for "
                        f"{part.num_rows} values. It must give a row of numbers for each."
                    )
                vectors = pa.FixedSizeListArray.from_arrays(found.ravel(), found.shape[1])
                yield pa.RecordBatch.from_arrays(
                    [
                        part["digest"],
                        part["medium"],
                        part["encoder"],
                        vectors.cast(arrow.field(3).type),
                    ],
                    schema=arrow,
                )

    distinct = questions.dropDuplicates(["digest"])
    return distinct.mapInArrow(encode, schema)
