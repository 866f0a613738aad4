"""Sums over what happened strictly before a moment: the one way that features look at the past.

A *point* asks about one id as of one moment (`as_of`). Rows at that very moment do not count, so an
event never sees itself nor what happened together with it. Tables "as of the interval's end" and
examples "as of each event" ask the same functions at other points.

Points and rows are laid on one time line per id and summed in a single pass: the sum over a window
is the running sum at its end less that at its start. So the cost is that of one sort, however many
rows a window holds, and the sums are of whole numbers, so they are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

AT, MARK = "__at", "__mark"
"""Columns of a time line: µs since 1970; and 0 on a row, 1 on a window's end, -1 on its start."""

ALWAYS_MICROS = -(2**62)
"""The moment of a row without a time: it was true from the start."""


def micros(column: str) -> Column:
    """Returns a time in µs since 1970; null, which means "from the start", before all others."""
    return F.coalesce(F.unix_micros(column), F.lit(ALWAYS_MICROS))


def timeline(
    points: DataFrame, rows: DataFrame, key: str, *, history: timedelta | None = None
) -> DataFrame:
    """Lays points and rows on one time line per id.

    Args:
        points: Columns `key` and `as_of`; equal points count once.
        rows: Columns `key` and `__at` (µs), and whatever is to be summed.
        key: Name of the id.
        history: Length of the windows; None reaches back to the start.

    Returns:
        The rows and marks, with `__mark`, and `as_of` on the marks.
    """
    end = F.unix_micros("as_of")
    marks = [F.struct(end.alias(AT), F.lit(1).alias(MARK))]
    if history is not None:
        marks.append(F.struct((end - _micros_of(history)).alias(AT), F.lit(-1).alias(MARK)))
    placed = points.filter(F.col(key).isNotNull()).select(key, "as_of").distinct()
    placed = placed.select(key, "as_of", F.inline(F.array(*marks)))
    return rows.withColumn(MARK, F.lit(0)).unionByName(placed, allowMissingColumns=True)


def collapse(rows: DataFrame, key: str, columns: Sequence[str], *, before: Column) -> DataFrame:
    """Adds up the rows that lie before all points, which then need no place of their own in time.

    Args:
        rows: Columns `key`, `__at` and `columns`, for sums over everything before a point.
        key: Name of the id.
        columns: What will be summed.
        before: µs since 1970; no point asks about an earlier moment.

    Returns:
        `key`, `__at` and `columns`: one row per id for what lies before, then the other rows.
    """
    kept = [key, AT, *columns]
    old = rows.filter(F.col(AT) < before).groupBy(key).agg(*[F.sum(c).alias(c) for c in columns])
    old = old.withColumn(AT, F.lit(ALWAYS_MICROS))
    return old.select(kept).unionByName(rows.filter(F.col(AT) >= before).select(kept))


def previous(column: str, key: str) -> Column:
    """Returns the value of the last row before the present one on the time line."""
    before = _forward(key).rowsBetween(Window.unboundedPreceding, -1)
    return F.last(F.when(F.col(MARK) == 0, F.col(column)), ignorenulls=True).over(before)


def following(column: str, key: str) -> Column:
    """Returns the value of the first row after the present one on the time line."""
    return F.expr(
        f"lead(if({MARK} = 0, {column}, null)) IGNORE NULLS "
        f"OVER (PARTITION BY {key} ORDER BY {AT}, abs({MARK}) DESC)"
    )


def sums_at_points(
    line: DataFrame,
    key: str,
    *,
    windowed: Sequence[str] = (),
    lifetime: Sequence[str] = (),
    after_first: Sequence[str] = (),
) -> DataFrame:
    """Sums columns of a time line as of each point.

    Args:
        line: From `timeline`.
        key: Name of the id.
        windowed: Columns summed over `[as_of - history, as_of)`.
        lifetime: Columns summed over everything before `as_of`.
        after_first: Columns summed over the window less its first row that has them. The mark of a
            window's start must hold the value of the row after it under `first_COLUMN`, null when
            there is none. Where the window holds no such row the sum has no meaning.

    Returns:
        One row per point: `key`, `as_of` and the sums, 0 where nothing happened.
    """
    forward = _forward(key).rowsBetween(Window.unboundedPreceding, Window.currentRow)
    running = {
        name: F.coalesce(F.sum(name).over(forward), F.lit(0))
        for name in [*windowed, *after_first, *lifetime]
    }
    for name in after_first:
        running[name] += F.when(F.col(MARK) == -1, F.coalesce(f"first_{name}", F.lit(0))).otherwise(
            0
        )
    # Summed into columns of other names, so that each window reads the rows and not the sums.
    summed = line.select(
        key, "as_of", MARK, *[value.alias(f"__sum_{name}") for name, value in running.items()]
    ).filter(F.col(MARK) != 0)
    if not windowed and not after_first:  # one mark a point: nothing to put together
        return summed.select(
            key, "as_of", *[F.col(f"__sum_{name}").alias(name) for name in lifetime]
        )
    totals = [
        F.sum(F.col(f"__sum_{name}") * F.col(MARK)).alias(name)
        for name in [*windowed, *after_first]
    ] + [F.sum(F.when(F.col(MARK) == 1, F.col(f"__sum_{name}"))).alias(name) for name in lifetime]
    return summed.groupBy(key, "as_of").agg(*totals)


def _forward(key: str):
    # Marks stand before the rows of their moment: an end leaves them out, a start takes them in.
    return Window.partitionBy(key).orderBy(F.asc(AT), F.desc(F.abs(MARK)))


def _micros_of(length: timedelta) -> int:
    return length // timedelta(microseconds=1)
