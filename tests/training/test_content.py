"""Vectors of items: streamed to files, mapped, refused when they cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from training.content import ContentError, ItemContent, read_content

FLOATS = pa.list_(pa.float32())
Batch = tuple[str, list[Any]]


def read(folder: Path, ids: str, **media: list[Batch]) -> ItemContent:
    """Content of one-letter items; a batch names its items and gives their vectors."""
    batches = {
        name: [
            (pa.array([ids.index(item) for item in items], pa.int64()), pa.array(vectors, FLOATS))
            for items, vectors in given
        ]
        for name, given in media.items()
    }
    return read_content(pa.array(list(ids), pa.string()), batches, folder / "new")


def test_vectors_of_several_batches_lie_in_one_file_a_medium(tmp_path: Path):
    found = read(
        tmp_path,
        "abcd",
        text=[("d", [[1, 2]]), ("b", [[3, 4]])],
        audio=[("cb", [[0.5], [2]])],
    )
    assert found.item_ids.tolist() == ["a", "b", "c", "d"]
    assert found.widths == (("audio", 1), ("text", 2))
    assert {name: rows.tolist() for name, rows in found.rows.items()} == {
        "text": [-1, 1, -1, 0],
        "audio": [-1, 1, 0, -1],
    }
    assert found.vectors["text"].tolist() == [[1, 2], [3, 4]]
    assert found.vectors["audio"].tolist() == [[0.5], [2]]
    assert isinstance(found.vectors["text"], np.memmap)
    assert found.has_any().tolist() == [False, True, True, True]
    assert found.places(np.array(["d", "x", "a"])).tolist() == [3, -1, 0]


def test_without_items_or_vectors_there_is_nothing_to_read(tmp_path: Path):
    nothing = read(tmp_path, "", text=[])
    assert (nothing.item_ids.tolist(), nothing.widths) == ([], ())
    assert nothing.places(np.array(["a"])).tolist() == [-1]
    plain = read(tmp_path, "ab", text=[])
    assert (plain.widths, plain.has_any().tolist()) == ((), [False, False])


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        (
            [("a", [[1, 2]]), ("b", [[1, 2, 3]])],
            "The vector text of item 'b' has 3 numbers, and others have 2. Declare the width in "
            "`features.vectors`: then vectors of another width are left out as broken.",
        ),
        *(
            (
                [("ab", [[1, 2], [1, bad]])],
                "The vector text of item 'b' holds a number that is null, NaN, infinite or beyond "
                "65,504. Vectors that models read are finite; the stage `modalities` tells which "
                "are not.",
            )
            for bad in (np.nan, np.inf, None, 70_000)
        ),
        *(
            (
                batches,
                "Item 'a' has two vectors text. An item has one vector of a medium.",
            )
            for batches in ([("aa", [[1], [2]])], [("a", [[1]]), ("ba", [[1], [2]])])
        ),
    ],
)
def test_what_no_model_can_read_is_refused(batches: list[Batch], text: str, tmp_path: Path):
    with pytest.raises(ContentError) as error:
        read(tmp_path, "ab", text=batches)
    assert str(error.value) == text
