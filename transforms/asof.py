"""What happened strictly before a moment: the one way that features look at the past.

A *point* asks about one id as of one moment (`as_of`). Rows at that very moment do not count, so an
event never sees itself nor what happened together with it. Tables "as of the interval's end" and
examples "as of each event" ask the same functions at other points.

Spark lays the points and rows of an id side by side in order of time and hands them to Python in
Arrow batches. There a sum over a window is the running sum at its end less that at its start, so
the cost is that of one sort, however many rows a window holds. Sums are of whole numbers, so they
are exact.

Shapes: R rows, P points, of a block of ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType

AT = "__at"
"""Column of a row: µs since 1970."""

ALWAYS_MICROS = -(2**62)
"""The moment of a row without a time: it was true from the start."""

_IS_ROW = "__is_row"
_BLOCK_ROWS = 200_000
"""About so many rows and points are worked on at a time; the memory of a task is in proportion."""


def micros(column: str) -> Column:
    """Returns a time in µs since 1970; null, which means "from the start", before all others."""
    return F.coalesce(F.unix_micros(column), F.lit(ALWAYS_MICROS))


@dataclass(frozen=True)
class Past:
    """Where the points of several ids stand among the rows of the same ids.

    Args:
        row_at: (R,) moments in µs; ids one after another, each in order of time.
        row_id: (R,) number of the id; rises.
        point_at: (P,) moments in µs.
        point_id: (P,) number of the id; rises.
        first: (P,) index of the first row of the point's id.
        end: (P,) index behind the last row strictly before the point.
    """

    row_at: np.ndarray
    row_id: np.ndarray
    point_at: np.ndarray
    point_id: np.ndarray
    first: np.ndarray
    end: np.ndarray

    def only(self, kept_R: np.ndarray) -> Past:
        """Returns the same points among some of the rows."""
        before = np.concatenate([[0], np.cumsum(kept_R)])
        return replace(
            self,
            row_at=self.row_at[kept_R],
            row_id=self.row_id[kept_R],
            first=before[self.first],
            end=before[self.end],
        )

    def since(self, history: timedelta) -> np.ndarray:
        """Returns (P,) index of the first row within `[as_of - history, as_of)`."""
        start_P = self.point_at - history // timedelta(microseconds=1)
        # Id and moment become one rising number, among which one search finds all.
        moments = np.sort(self.row_at)
        place_R = self.row_id * (len(moments) + 1) + np.searchsorted(moments, self.row_at)
        place_P = self.point_id * (len(moments) + 1) + np.searchsorted(moments, start_P)
        return np.searchsorted(place_R, place_P)


def sums(values_R: np.ndarray, start_P: np.ndarray, end_P: np.ndarray) -> np.ndarray:
    """Returns (P,) the sums of whole numbers over `[start, end)`, 0 where that is empty."""
    running = np.concatenate([[0], np.cumsum(values_R, dtype=np.int64)])
    return np.where(start_P < end_P, running[end_P] - running[start_P], 0)


Measure = Callable[[Past, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""From the past of points and the columns of its rows (R,) to whole numbers (P,) by name."""


def measured(
    points: DataFrame, rows: DataFrame, key: str, measure: Measure, names: Sequence[str]
) -> DataFrame:
    """Adds to each point what a function says of the rows before it.

    Args:
        points: Columns `key` and `as_of`, and any others of single values, which stay.
        rows: Columns `key` and `__at` (µs), and whole numbers to be measured; null counts as 0.
        key: Name of the id.
        measure: The function.
        names: What it returns.

    Returns:
        One row per distinct point, with the columns `names`.
    """
    values = [name for name in rows.columns if name not in {key, AT}]
    both = points.withColumns({AT: F.unix_micros("as_of"), _IS_ROW: F.lit(False)}).unionByName(
        rows.withColumn(_IS_ROW, F.lit(True)), allowMissingColumns=True
    )
    # A point stands before the rows of its moment, and beside its equals.
    others = [name for name in points.columns if name not in {key, "as_of"}]
    kept = points.columns

    def answer(block: pa.Table) -> pa.Table:
        is_row = block[_IS_ROW].to_numpy()
        is_point = ~is_row
        is_point[1:] &= np.logical_or.reduce([differ(block[name])[1:] for name in kept])
        past = _past(block, key, is_row, is_point)
        of_rows = block.select(values).filter(pa.array(is_row))
        found = measure(past, {name: _numbers(of_rows[name]) for name in values})
        return with_numbers(block.select(kept).filter(pa.array(is_point)), found, names)

    schema = StructType([*points.schema.fields, *numbers(names)])
    return blockwise(both, key, [AT, _IS_ROW, *others], answer, schema)


def blockwise(
    frame: DataFrame,
    key: str,
    order: Sequence[str],
    answer: Callable[[pa.Table], pa.Table],
    schema: StructType,
) -> DataFrame:
    """Hands rows to a function of Arrow tables, all rows of an id within one table.

    Args:
        frame: The rows.
        key: Name of the id.
        order: Columns that the rows of an id are sorted by, null first.
        answer: From a block of ids, one after another, to rows of `schema`.
        schema: Of the result.
    """

    def answers(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in _blocks(batches, key):
            yield from answer(block).to_batches()

    in_order = frame.repartition(key).sortWithinPartitions(key, *order)
    return in_order.mapInArrow(answers, schema)


def numbers(names: Sequence[str]) -> list[StructField]:
    """Returns the fields of whole numbers."""
    return [StructField(name, LongType()) for name in names]


def with_numbers(rows: pa.Table, found: Mapping[str, np.ndarray], names: Sequence[str]) -> pa.Table:
    """Returns the rows with some of the whole numbers that were found for them."""
    for name in names:
        rows = rows.append_column(name, pa.array(found[name], pa.int64()))
    return rows


def totals(
    points: DataFrame, rows: DataFrame, key: str, *, earliest: Column | None = None
) -> DataFrame:
    """Adds to each point the sums over everything before it, 0 where nothing happened.

    Args:
        points: See `measured`.
        rows: Columns `key` and `__at` (µs), and whole numbers to be summed.
        key: Name of the id.
        earliest: µs since 1970; no point asks about an earlier moment. Rows before it then need no
            place of their own in time.
    """
    names = [name for name in rows.columns if name not in {key, AT}]
    if earliest is not None:
        old = rows.filter(F.col(AT) < earliest).groupBy(key)
        old = old.agg(*[F.sum(name).alias(name) for name in names])
        rows = rows.filter(F.col(AT) >= earliest).unionByName(
            old.withColumn(AT, F.lit(ALWAYS_MICROS))
        )

    def measure(past: Past, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: sums(rows[name], past.first, past.end) for name in names}

    return measured(points, rows, key, measure, names)


def _blocks(batches: Iterator[pa.RecordBatch], key: str) -> Iterator[pa.Table]:
    """Puts sorted batches together so that each id lies within one block."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        held.append(batch)
        if sum(one.num_rows for one in held) < _BLOCK_ROWS:
            continue
        begins = np.flatnonzero(differ(batch[key]))
        if len(begins) > 1:  # else one id goes on all through the batch
            cut = int(begins[-1])
            yield pa.Table.from_batches([*held[:-1], batch.slice(0, cut)])
            held = [batch.slice(cut)]
    if held:
        yield pa.Table.from_batches(held)


def _past(block: pa.Table, key: str, is_row: np.ndarray, is_point: np.ndarray) -> Past:
    begins = differ(block[key])
    number = np.cumsum(begins) - 1
    before = np.cumsum(is_row) - is_row
    at = block[AT].to_numpy()
    return Past(
        row_at=at[is_row],
        row_id=number[is_row],
        point_at=at[is_point],
        point_id=number[is_point],
        first=before[begins][number[is_point]],
        end=before[is_point],
    )


def past_of_rows(block: pa.Table, key: str, is_point: np.ndarray) -> Past:
    """Returns the past of rows that are points themselves, among all rows of a sorted block."""
    place = np.arange(len(block))
    new_id = differ(block[key])
    new_moment = new_id | differ(block[AT])
    at, number = block[AT].to_numpy(), np.cumsum(new_id) - 1
    return Past(
        row_at=at,
        row_id=number,
        point_at=at[is_point],
        point_id=number[is_point],
        first=np.maximum.accumulate(np.where(new_id, place, 0))[is_point],
        end=np.maximum.accumulate(np.where(new_moment, place, 0))[is_point],
    )


def last_of(block: pa.Table, keys: Sequence[str]) -> np.ndarray:
    """Returns which rows of a sorted block are the last of their keys; null equals nothing."""
    begins = np.logical_or.reduce([differ(block[name]) for name in keys])
    return np.append(begins[1:], True)


def differ(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Returns for each value whether it differs from the one before, as the first and nulls do."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    later = np.asarray(pc.fill_null(pc.not_equal(values[1:], values[:-1]), True), dtype=bool)
    return np.concatenate([[True], later])


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(values, 0).to_numpy()
