"""What the media of items say: vectors that an encoder made, for those items that have them.

Vectors are the widest thing a pipeline holds (15 kB an item for the three default media), so they
lie in files that are mapped, not read, and a model takes the rows that it needs.

Shape legend: N items, P items with a medium, W width of its vectors, Q items asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class ContentError(ValueError):
    """A vector cannot be used; the text names the item."""


@dataclass(frozen=True)
class ItemContent:
    """Vectors of items, one group of them for each medium."""

    item_ids: np.ndarray
    """(N,) str, sorted."""
    rows: Mapping[str, np.ndarray]
    """Medium -> (N,) int64: the row of each item's vector, -1 without one."""
    vectors: Mapping[str, np.ndarray]
    """Medium -> (P, W) float16, mapped from a file or in memory."""

    @property
    def widths(self) -> tuple[tuple[str, int], ...]:
        """Name and width of each medium that some item has, by name."""
        return tuple(
            (name, vectors.shape[1])
            for name, vectors in sorted(self.vectors.items())
            if len(vectors)
        )

    def places(self, item_ids: np.ndarray) -> np.ndarray:
        """(Q,) int64: where some items stand among `item_ids`, -1 for one that is not there."""
        if not len(self.item_ids):
            return np.full(len(item_ids), -1)
        found = np.minimum(np.searchsorted(self.item_ids, item_ids), len(self.item_ids) - 1)
        return np.where(self.item_ids[found] == item_ids, found, -1)

    def has_any(self) -> np.ndarray:
        """(N,) bool: which items have a vector of some medium."""
        has_N = np.zeros(len(self.item_ids), bool)
        for row_N in self.rows.values():
            has_N |= row_N >= 0
        return has_N


def read_content(
    item_ids: pa.Array,
    media: Mapping[str, Iterable[tuple[pa.Array, pa.Array]]],
    folder: Path,
) -> ItemContent:
    """Writes vectors to files as they come, and maps them.

    float16 halves files and reading; encoders' vectors are of one scale, and the model normalises
    them anyway.

    Args:
        item_ids: (N,) strings, sorted.
        media: medium -> batches of places of items among the N, and their vectors.
        folder: for the files; made when missing.

    Raises:
        ContentError: a vector has another width than the medium's first one, or holds what is no
            finite number, or an item has two.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.array(item_ids.to_pylist(), dtype=str)
    rows, vectors = {}, {}
    for name, batches in media.items():
        file = folder / f"{name}.f16"
        rows[name], shape = _write(name, ids, batches, file)
        vectors[name] = (
            np.memmap(file, np.float16, "r", shape=shape) if shape[0] else np.empty((0, 0), "f2")
        )
    return ItemContent(ids, rows, vectors)


def _write(
    name: str, ids: np.ndarray, batches: Iterable[tuple[pa.Array, pa.Array]], file: Path
) -> tuple[np.ndarray, tuple[int, int]]:
    """Appends vectors to a file; returns each item's row in it, and rows and width."""
    row_N = np.full(len(ids), -1, np.int64)
    count = width = 0
    with file.open("wb") as out:
        for places, lists in batches:
            place_P = places.to_numpy(zero_copy_only=False)
            length_P = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
            width = width or int(length_P[0])
            wrong = length_P != width
            if wrong.any():
                raise ContentError(
                    f"The vector {name} of item {str(ids[place_P[wrong.argmax()]])!r} has "
                    f"{length_P[wrong.argmax()]} numbers, and others have {width}. Declare the "
                    "width in `features.vectors`: then vectors of another width are left out as "
                    "broken."
                )
            numbers = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
            with np.errstate(over="ignore"):  # what is too large turns infinite and is told below
                vector_PW = numbers.reshape(-1, width).astype(np.float16)
            broken = ~np.isfinite(vector_PW).all(axis=1)
            if broken.any():
                raise ContentError(
                    f"The vector {name} of item {str(ids[place_P[broken.argmax()]])!r} holds a "
                    "number that is null, NaN, infinite or beyond 65,504. Vectors that models read "
                    "are finite; the stage `modalities` tells which are not."
                )
            twice = (row_N[place_P] >= 0) | (np.bincount(place_P)[place_P] > 1)
            if twice.any():
                raise ContentError(
                    f"Item {str(ids[place_P[twice.argmax()]])!r} has two vectors {name}. An item "
                    "has one vector of a medium."
                )
            out.write(vector_PW.tobytes())
            row_N[place_P] = count + np.arange(len(place_P))
            count += len(place_P)
    return row_N, (count, width)
