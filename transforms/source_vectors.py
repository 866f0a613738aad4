"""Read a NumPy file of vectors: row i of a 2-D array belongs to the item whose id is `i`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from transforms.source_errors import SourceError

_CHUNK = 4 << 20
"""Bytes of vectors that a worker holds at once."""


def read_vectors(spark: SparkSession, path: str) -> DataFrame:
    """Reads a `.npy` file of numbers.

    Args:
        spark: The session.
        path: The file; workers on other machines must see it under the same path.

    Returns:
        `row` (text, from `0`) and `vector` (list of float).

    Raises:
        SourceError: It is no such file, or holds another shape than rows by width.
    """
    if "://" in path:
        raise SourceError(f"{path}: a .npy file must lie on a local or mounted disk.")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SourceError(
            f"{path}: cannot be read as a NumPy array of numbers: {error}\n"
            "  Write it with numpy.save(FILE, array), with a 2-D array of numbers."
        ) from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
        what = f"{getattr(array, 'shape', ())} of {getattr(array, 'dtype', type(array).__name__)}"
        raise SourceError(
            f"{path}: holds an array {what}; it must have two dimensions, a row for each item, "
            "and hold numbers."
        )
    count, width = array.shape
    rows = max(1, _CHUNK // (4 * max(1, width)))
    file = str(Path(path))

    def vectors(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        whole = np.load(file, mmap_mode="r", allow_pickle=False)
        for batch in batches:
            for chunk in batch.column(0).to_pylist():
                first, last = chunk * rows, min(count, (chunk + 1) * rows)
                values = np.ascontiguousarray(whole[first:last], dtype=np.float32).reshape(-1)
                offsets = pa.array(np.arange(last - first + 1, dtype=np.int32) * width)
                yield pa.RecordBatch.from_arrays(
                    [
                        pa.array([str(row) for row in range(first, last)], pa.string()),
                        pa.ListArray.from_arrays(offsets, pa.array(values)),
                    ],
                    names=["row", "vector"],
                )

    chunks = spark.range(-(-count // rows))
    return chunks.mapInArrow(vectors, "row string, vector array<float>")
