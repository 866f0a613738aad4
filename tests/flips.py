"""Flipped bytes in the pages of a Parquet file, and whether a reader finds them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq


def flipped(content: bytes, at: int) -> bytes:
    """The content with all bits of one byte turned."""
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def places(file: Path, count: int, seed: int = 11) -> list[int]:
    """Seeded places within the pages of each column."""
    chance = random.Random(seed)
    group = pq.ParquetFile(file).metadata.row_group(0)
    spans = []
    for number in range(group.num_columns):
        column = group.column(number)
        first = column.dictionary_page_offset or column.data_page_offset
        spans.append((first, first + column.total_compressed_size))
    return [chance.randrange(*spans[turn % len(spans)]) for turn in range(count)]


def unseen(file: Path, read: Callable[[], object], count: int, seed: int = 11) -> list[int]:
    """Flip one byte at a time; returns the places of which a read said nothing.

    An error that does not name the file counts as nothing said. The file is as before afterwards.
    """
    content = file.read_bytes()
    silent = []
    for at in places(file, count, seed):
        file.write_bytes(flipped(content, at))
        try:
            read()
            silent.append(at)
        except Exception as error:
            if file.name not in str(error):
                silent.append(at)
    file.write_bytes(content)
    read()
    return silent
