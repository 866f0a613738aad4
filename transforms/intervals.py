"""The schedule's intervals: which one a moment belongs to, and which rows lie in a range."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_MONDAY_MICROS = 345_600_000_000
_MICROS = {"h": 3_600_000_000, "d": 86_400_000_000}


def interval_end_of(moment: str, count: int, unit: str) -> Column:
    """Returns the end of the interval that holds a moment.

    Boundaries are those of `pipelines.intervals`: hours and days are counted from Monday
    1970-01-05, months by the calendar.

    Args:
        moment: Name of a timestamp column.
        count: Length of the intervals in units.
        unit: `h`, `d` or `mo`.
    """
    if unit == "mo":
        month = F.year(moment) * 12 + F.month(moment) - 1
        end = month - F.pmod(month, F.lit(count)) + count
        year = F.floor(end / 12)
        return F.make_timestamp(
            year.cast("int"), (end - year * 12 + 1).cast("int"), *[F.lit(n) for n in (1, 0, 0, 0)]
        )
    width = count * _MICROS[unit]
    at = F.unix_micros(moment)
    return F.timestamp_micros(at - F.pmod(at - _MONDAY_MICROS, F.lit(width)) + width)


def between(frame: DataFrame, column: str, start: datetime, end: datetime) -> DataFrame:
    """Keeps the rows whose time lies in `[start, end)`."""
    return frame.filter((F.col(column) >= F.lit(start)) & (F.col(column) < F.lit(end)))
