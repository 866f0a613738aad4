"""Delta tables for Spark: read a version, replace what one run owns, in one atomic commit.

A run replaces its own rows (`replaceWhere`) and adds none beside them, so a retry, a corrected
rerun and a backfill out of order all end in the same table. The condition also guards: the write is
rejected when a row lies outside of it. Tables are not split into folders by interval, since small
intervals would leave thousands of tiny files; the statistics of each file in the log prune well
enough.

Delta locks only inside one process on a local disk: hold a lock per table around every write here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from json import dumps
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

_COMMIT = re.compile(r"(\d{20})\.json")
_FILE_ID = re.compile(r"[0-9a-f]+")
_GLOB = re.compile(r"[\\{}\[\]*?]")
"""What Hadoop takes for a pattern in the name of a file."""
_OUTSIDE = "a row lies outside of what is replaced"


def read(spark: SparkSession, path: str | Path, version: int | None = None) -> DataFrame:
    """Reads a table, as of a version when one is given."""
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    return reader.load(str(path))


def read_files(spark: SparkSession, files: Sequence[str], schema: StructType) -> DataFrame:
    """Reads the data files that a table's log names, without planning over the log in Spark.

    Delta runs a query over the log for every table that a query reads, which costs more than
    reading a few small files. The table must not use deletion vectors or column mapping; Sextant's
    do not.

    Args:
        spark: The session.
        files: Paths of all files of a version, none of them twice.
        schema: Of the table; columns that a file lacks are null.
    """
    if not files:
        return spark.createDataFrame([], schema)
    return spark.read.schema(schema).parquet(*[_GLOB.sub(r"\\\g<0>", file) for file in files])


def latest_version(spark: SparkSession, path: str | Path) -> int | None:
    """Returns the newest version of a table, or None where there is no table.

    Lists the log only (no Spark job), on any file system that Hadoop knows.
    """
    assert spark._jvm is not None  # A session always has its gateway.
    jvm, conf = spark._jvm, spark._jsparkSession.sessionState().newHadoopConf()
    log = jvm.org.apache.hadoop.fs.Path(str(path), "_delta_log")
    files = log.getFileSystem(conf)
    if not files.exists(log):
        return None
    names = (status.getPath().getName() for status in files.listStatus(log))
    commits = (_COMMIT.fullmatch(name) for name in names)
    return max((int(commit[1]) for commit in commits if commit), default=None)


def replace_interval(
    df: DataFrame,
    path: str | Path,
    interval_end: datetime,
    metadata: Mapping[str, object],
    *,
    is_free: bool = False,
) -> int:
    """Replaces the rows of one interval; every row must carry that `interval_end`.

    Args:
        df: All rows of the interval, possibly none.
        path: Folder of the table; made when missing.
        interval_end: The interval's end, aware of its zone.
        metadata: Kept in the commit (`userMetadata`) as JSON, for lineage.
        is_free: Whether the table is known to hold none of what is replaced, and the caller keeps
            other writers out. To look for such rows takes longer than to write a few new ones.

    Returns:
        The version of the table that this commit made.

    Raises:
        ValueError: `interval_end` has no zone.
    """
    condition = f"interval_end = {_literal(interval_end)}"
    return _write(df, path, condition, metadata, is_free=is_free)


def replace_range(
    df: DataFrame,
    path: str | Path,
    column: str,
    start: datetime | None,
    end: datetime,
    metadata: Mapping[str, object],
    *,
    is_free: bool = False,
) -> int:
    """Replaces the rows whose timestamp `column` lies in `[start, end)`, or before `end`.

    Rows outside of the range stay. A row whose `column` is null belongs to no range, so it is
    rejected. The other arguments, the result and the errors are those of `replace_interval`.
    """
    condition = f"{column} < {_literal(end)}"
    if start is not None:
        condition = f"{column} >= {_literal(start)} AND {condition}"
    return _write(df, path, condition, metadata, is_free=is_free)


def replace_files(
    df: DataFrame, path: str | Path, files: Sequence[str], metadata: Mapping[str, object]
) -> int:
    """Replaces the rows whose `source_file` is one of `files` (hexadecimal ids, at least one).

    The other arguments, the result and the errors are those of `replace_interval`.
    """
    if not files or not all(_FILE_ID.fullmatch(file) for file in files):
        raise ValueError(f"{list(files)[:3]}: files are named by hexadecimal ids, at least one.")
    condition = f"source_file IN ({', '.join(repr(file) for file in files)})"
    return _write(df, path, condition, metadata)


def replace_quarantine(
    df: DataFrame,
    path: str | Path,
    interval_end: datetime,
    start: datetime | None,
    metadata: Mapping[str, object],
    *,
    is_free: bool = False,
) -> int:
    """Replaces what one run set aside: rows of `[start, interval_end)`, and its rows without time.

    The other arguments, the result and the errors are those of `replace_interval`.
    """
    end = _literal(interval_end)
    window = f"timestamp < {end}" + (
        "" if start is None else f" AND timestamp >= {_literal(start)}"
    )
    condition = f"({window}) OR (timestamp IS NULL AND interval_end = {end})"
    return _write(df, path, condition, metadata, is_free=is_free)


def replace_edges(
    df: DataFrame,
    path: str | Path,
    since: datetime,
    interval_end: datetime,
    metadata: Mapping[str, object],
    *,
    is_free: bool = False,
) -> int:
    """Replaces what came to a graph in the intervals after `since`, and one's similar items.

    The similar items of earlier intervals stay: they are a state of their own for each. The other
    arguments, the result and the errors are those of `replace_interval`.
    """
    end = _literal(interval_end)
    added = f"interval_end > {_literal(since)} AND relation <> 'similar'"
    condition = f"interval_end <= {end} AND (interval_end = {end} OR ({added}))"
    return _write(df, path, condition, metadata, is_free=is_free)


def append(df: DataFrame, path: str | Path, metadata: Mapping[str, object]) -> int:
    """Adds rows. Not safe to repeat: leave out what is there. Returns the new version."""
    return _write(df, path, None, metadata, is_free=True)


def replace_all(df: DataFrame, path: str | Path, metadata: Mapping[str, object]) -> int:
    """Replaces the whole table and its schema. Returns the version that this commit made."""
    return _write(df, path, None, metadata)


def _write(
    df: DataFrame,
    path: str | Path,
    condition: str | None,
    metadata: Mapping[str, object],
    *,
    is_free: bool = False,
) -> int:
    if is_free and condition is not None:  # Delta holds rows to the condition of a replacement only
        df = df.where(f"IF({condition}, true, raise_error({_OUTSIDE!r}))")
    # Rebalancing makes few files of a small result and splits a large one.
    writer = df.hint("rebalance").write.format("delta").mode("append" if is_free else "overwrite")
    writer = writer.option("userMetadata", dumps(metadata, sort_keys=True, default=str))
    if condition is not None:
        # A feature that the code has gained becomes a column, null in rows of before.
        writer = writer.option("mergeSchema", "true")
        writer = writer if is_free else writer.option("replaceWhere", condition)
    elif not is_free:
        writer = writer.option("overwriteSchema", "true")
    writer.save(str(path))
    version = latest_version(df.sparkSession, path)
    assert version is not None
    return version


def _literal(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError(
            f"{moment.isoformat()} has no time zone; give a moment in UTC, for example "
            "datetime(2026, 1, 1, tzinfo=UTC)."
        )
    return f"TIMESTAMP '{moment.astimezone(UTC).isoformat(timespec='microseconds')}'"
