"""A few rows of every interval out of a stream of many, and all rows of a few people.

Memory is bounded, and the rows are the same every time.

Which rows are kept depends on their values and the seed alone, not on the files that they come
from: each row draws a lot, and the smallest lots of an interval stay (bottom-k sampling; Cohen and
Kaplan, Summarizing data using bottom-k sketches, PODC 2007). A kept row counts as many times as
the interval had rows for each kept one. Persons draw lots likewise; those with the smallest keep
all their rows.

Shapes: R rows of a batch, S intervals back from the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from training.drift_columns import USER, WEIGHT, end_micros, micros_of

_KEYS: Final = (USER, "item_id")
"""What tells rows of one moment apart."""
_SPARE: Final = 300_000
"""Rows held beyond those that stay, before the others go."""
_LOT: Final = "__lot"
_MIX: Final = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SEEDS: Final = 0x9E3779B97F4A7C15

Lots = npt.NDArray[np.uint64]


def sample(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    *,
    end: datetime,
    every: timedelta,
    most: int,
    seed: int,
) -> pa.Table:
    """At most so many rows of every interval before a moment.

    Args:
        batches: Rows with `timestamp`, none at or after the end.
        schema: Theirs.
        end: Where the newest interval ends.
        every: Length of the intervals.
        most: Rows kept of each.
        seed: Of the lots.

    Returns:
        The rows, with a column `WEIGHT` when some were left out: how many each stands for.
    """
    until, step = end_micros(end), every // timedelta(microseconds=1)
    held: list[pa.Table] = [schema.append(pa.field(_LOT, pa.uint64())).empty_table()]
    count_S = np.zeros(0, np.int64)
    limit_S = np.zeros(0, np.uint64)
    waiting, standing = 0, 0
    for batch in batches:
        rows = pa.table(batch)
        slot_R = (until - 1 - micros_of(rows)) // step
        more = int(slot_R.max(initial=-1)) + 1 - len(count_S)
        if more > 0:
            count_S = np.append(count_S, np.zeros(more, np.int64))
            limit_S = np.append(limit_S, np.full(more, np.iinfo(np.uint64).max))
        count_S += np.bincount(slot_R, minlength=len(count_S))
        lot_R = _lots(rows, seed)
        stays = np.flatnonzero(lot_R <= limit_S[slot_R])
        kept = rows.take(pa.array(stays))
        held.append(kept.append_column(_LOT, pa.array(lot_R[stays])))
        waiting += len(stays)
        if waiting > _SPARE + standing:
            held = [_smallest(held, limit_S, until, step, most)]
            standing, waiting = held[0].num_rows, 0
    found = _smallest(held, limit_S, until, step, most)
    slot_R = (until - 1 - micros_of(found)) // step
    found = found.drop_columns(_LOT)
    if found.num_rows == count_S.sum():
        return found
    kept_S = np.maximum(np.bincount(slot_R, minlength=len(count_S)), 1)
    return found.append_column(WEIGHT, pa.array((count_S / kept_S)[slot_R]))


class People:
    """Looks on as a stream passes, and keeps all rows of as many people as there is room for.

    Args:
        columns: Kept of each row, the user's id among them; nothing is kept where one is missing.
        most: Rows kept.
        seed: Of the lots.
    """

    def __init__(self, columns: Sequence[str], *, most: int, seed: int) -> None:
        self._columns = columns
        self._most = most
        self._seed = np.uint64(seed)
        self._held: list[pa.Table] = []
        self._waiting = 0
        self._limit = np.uint64(np.iinfo(np.uint64).max)

    def watch(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Hands the batches on."""
        for batch in batches:
            if set(self._columns) <= set(batch.schema.names):
                self._keep(pa.table(batch.select(self._columns)))
            yield batch

    def rows(self) -> pa.Table | None:
        """All rows of those whose lots are smallest; None before the first batch."""
        return self._trimmed() if self._held else None

    def _keep(self, rows: pa.Table) -> None:
        rows = rows.filter(pc.is_valid(rows[USER]))
        lot_R = self._lots(rows)
        kept = rows.filter(pa.array(lot_R <= self._limit))
        self._held.append(kept)
        self._waiting += kept.num_rows
        if self._waiting > self._most:
            self._held, self._waiting = [self._trimmed()], 0

    def _trimmed(self) -> pa.Table:
        """The rows of the first people by lot that fit; later rows of others are not wanted."""
        rows = pa.concat_tables(self._held)
        lot_R = self._lots(rows)
        lots, count = np.unique(lot_R, return_counts=True)
        fitting = int(np.searchsorted(np.cumsum(count), self._most, side="right"))
        if fitting == len(lots):
            return rows
        self._limit = lots[fitting] - np.uint64(1)
        return rows.filter(pa.array(lot_R <= self._limit))

    def _lots(self, rows: pa.Table) -> Lots:
        return _mixed(_hashes(rows[USER]) ^ self._seed)


def _smallest(parts: list[pa.Table], limit_S: Lots, until: int, step: int, most: int) -> pa.Table:
    """The rows with the smallest lots of each interval; later ones must lie below `limit_S`."""
    rows = pa.concat_tables(parts)
    slot_R = (until - 1 - micros_of(rows)) // step
    lot_R = rows[_LOT].to_numpy()
    order = np.lexsort((lot_R, slot_R))
    sorted_R = slot_R[order]
    place_R = np.arange(len(order)) - np.searchsorted(sorted_R, sorted_R)
    last = order[place_R == most - 1]
    limit_S[slot_R[last]] = lot_R[last]
    return rows.take(pa.array(order[place_R < most]))


def _lots(rows: pa.Table, seed: int) -> Lots:
    """A number of each row that looks random and depends on the row and the seed alone."""
    with np.errstate(over="ignore"):
        lot_R = _mixed(micros_of(rows).astype(np.uint64) + np.uint64(_SEEDS) * np.uint64(seed + 1))
        for name in _KEYS:
            if name in rows.column_names:
                lot_R = _mixed(lot_R ^ _hashes(rows[name]))
    return lot_R


def _mixed(number_R: Lots) -> Lots:
    """Steele, Lea and Flood's SplitMix64: every bit of the result depends on every bit given."""
    for shift, factor in zip((30, 27), _MIX, strict=True):
        number_R = (number_R ^ (number_R >> np.uint64(shift))) * np.uint64(factor)
    return number_R ^ (number_R >> np.uint64(31))


def _hashes(column: pa.ChunkedArray) -> Lots:
    """Of texts, each different one hashed once."""
    import pandas as pd

    coded = pc.dictionary_encode(column.combine_chunks())
    texts = coded.dictionary.to_numpy(zero_copy_only=False).astype(object)
    of_text = pd.util.hash_array(texts, categorize=False)
    codes = pc.fill_null(coded.indices, 0).to_numpy()
    found: Lots = of_text[codes] if len(of_text) else np.zeros(len(codes), np.uint64)
    return found
