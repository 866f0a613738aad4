"""Hash the rows of a frame, whatever their order."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def rows_digest(df: DataFrame) -> str:
    """Digest of a frame's rows: their number and the sum of their 64-bit hashes.

    A sum does not depend on the order of the rows, nor on how they are spread over files, and
    tells one row from two equal ones. Columns count by their values alone, so renaming is seen by
    nobody here; the schema of a base table is fixed.

    Returns:
        Text, equal for frames with equal rows.
    """
    return _digest(*df.select(*_count_and_sum(df)).collect()[0])


def digests_by(df: DataFrame, key: Column) -> dict[Any, str]:
    """Digest of the rows of each key."""
    found = df.groupBy(key).agg(*_count_and_sum(df)).collect()
    return {key: _digest(count, total) for key, count, total in found}


def _count_and_sum(df: DataFrame) -> tuple[Column, Column]:
    # A sum of 64-bit values overflows 64 bits; a decimal holds 10^19 of them.
    hashed = row_hash(df, df.columns).cast("decimal(38,0)")
    return F.count("*"), F.coalesce(F.sum(hashed), F.lit(0))


def _digest(count: int, total: Decimal) -> str:
    return f"{count}:{int(total) & (2**64 - 1):016x}"


def row_hash(df: DataFrame, columns: Sequence[str]) -> Column:
    """Returns the 64-bit hash of a row's values in some columns, at most 64."""
    # `xxhash64` passes over nulls: without knowing where they are, ("a", null) is (null, "a").
    nulls = [F.shiftleft(F.isnull(column).cast("bigint"), n) for n, column in enumerate(columns)]
    return F.xxhash64(
        reduce(Column.bitwiseOR, nulls), *[_hashable(df, column) for column in columns]
    )


def _hashable(df: DataFrame, column: str) -> Column:
    """The column; a map, which Spark does not hash, as its entries in the order of their keys."""
    if df.schema[column].dataType.typeName() == "map":
        return F.array_sort(F.map_entries(column))
    return F.col(column)
