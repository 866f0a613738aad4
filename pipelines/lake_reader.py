"""Reading the Delta tables of one pipeline: as DataFrames, as Arrow tables, or their log alone.

A file that is gone or whose checksum is wrong is an error that names it, never fewer rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pipelines.checksums import is_sound
from pipelines.errors import StageError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

_FEW_FILES = 32
"""Up to so many files are named to Spark one by one, as it looks at them without a job; of more,
Delta's statistics choose those to read."""
_BATCH_ROWS = 1024
"""Rows read at once of what is too wide to be held."""


class LakeReader:
    """Tables of one pipeline under ``<location>/<pipeline>/``.

    Args:
        location: Folder or URI (``s3a://bucket/lake``) that holds the pipelines' folders.
        pipeline: Name of the pipeline.
    """

    def __init__(self, location: str, pipeline: str) -> None:
        self._is_local = "://" not in location
        self.location = f"{location.rstrip('/')}/{pipeline}"

    @property
    def folder(self) -> Path | None:
        """The local folder for locks and notes beside the tables; None on an object store."""
        return Path(self.location) if self._is_local else None

    def path(self, table: str) -> str:
        """Where a table lies."""
        return f"{self.location}/{table}"

    def version(self, table: str) -> int | None:
        """The newest version of a table, None when there is none."""
        found = self._open(table)
        return None if found is None else found.version()

    def spark(self, session: SparkSession, table: str, *, version: int | None = None) -> DataFrame:
        """A table as a DataFrame.

        Raises:
            StageError: When there is no such table.
        """
        from pyspark.sql.types import StructType

        from transforms import io

        found = self._open(table, version)
        if found is None:
            raise self._missing(table)
        files = [row["path"] for row in files_of(found)]
        if len(files) > _FEW_FILES:
            return io.read(session, self.path(table), found.version())
        paths = [f"{self.path(table)}/{unquote(file)}" for file in sorted(files)]
        schema = StructType.fromJson(json.loads(found.schema().to_json()))
        return io.read_files(session, paths, schema)

    def arrow(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        interval_end: datetime | None = None,
        since: Mapping[str, datetime] | None = None,
        before: Mapping[str, datetime] | None = None,
        where: Mapping[str, str] | None = None,
    ) -> pa.Table:
        """A table, or one interval of it, as an Arrow table.

        Args:
            table: Its name.
            columns: Those to read; all by default.
            interval_end: Keep the rows of this interval alone.
            since: Keep the rows whose time column lies at or after a moment.
            before: Keep the rows whose time column lies strictly before a moment.
            where: Keep the rows whose column has this value.

        Raises:
            StageError: When there is no such table.
        """
        found = self._open(table)
        if found is None:
            raise self._missing(table)
        dataset = found.to_pyarrow_dataset()
        expression = _condition(interval_end, since, before, where)
        wanted = list(columns) if columns is not None else None
        fragments = list(dataset.get_fragments(filter=expression))
        for fragment in fragments:
            self._require_sound(table, fragment)
        try:
            return dataset.to_table(
                columns=wanted, filter=expression, fragment_scan_options=_checked()
            )
        except OSError as error:  # it does not name the file
            for fragment in fragments:
                try:
                    fragment.to_table(columns=wanted, fragment_scan_options=_checked())
                except OSError:
                    raise self._damaged(table, self._file(table, fragment), error) from error
            raise

    def batches(
        self,
        table: str,
        columns: Sequence[str],
        *,
        since: Mapping[str, datetime] | None = None,
        before: Mapping[str, datetime] | None = None,
        rows: int = _BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Some columns of a table, a few rows at a time: for what is too large to be held at once.

        Args:
            table: Its name.
            columns: Those to read.
            since: Keep the rows whose time column lies at or after a moment.
            before: Keep the rows whose time column lies strictly before a moment.
            rows: Read at a time, at most.

        Raises:
            StageError: When there is no such table, or a file of it is damaged.
        """
        found = self._open(table)
        if found is None:
            raise self._missing(table)
        condition = _condition(None, since, before)
        dataset = found.to_pyarrow_dataset()
        for fragment in dataset.get_fragments(filter=condition):
            self._require_sound(table, fragment)
            try:
                yield from fragment.to_batches(
                    # Files that Spark wrote call their times otherwise than the table does.
                    schema=dataset.schema,
                    columns=list(columns),
                    filter=condition,
                    batch_size=rows,
                    batch_readahead=1,
                    fragment_scan_options=_checked(),
                )
            except OSError as error:
                raise self._damaged(table, self._file(table, fragment), error) from error

    def schema(self, table: str, columns: Sequence[str]) -> pa.Schema:
        """Names and types of some columns of a table.

        Raises:
            StageError: When there is no such table.
        """
        import pyarrow as pa

        found = self._open(table)
        if found is None:
            raise self._missing(table)
        whole = found.to_pyarrow_dataset().schema
        return pa.schema([whole.field(name) for name in columns])

    def delta(self, table: str) -> Any:
        """A table's log as `deltalake.DeltaTable`; None when there is no table."""
        return self._open(table)

    def files(self, table: str, version: int) -> dict[str, dict[str, Any]]:
        """The data files of one version by their paths in the table's folder; see `files_of`."""
        found = self._open(table, version)
        if found is None:
            raise self._missing(table)
        return {row["path"]: row for row in files_of(found)}

    def count(
        self,
        table: str,
        *,
        interval_end: datetime | None = None,
        since: Mapping[str, datetime] | None = None,
        before: Mapping[str, datetime] | None = None,
        where: Mapping[str, str] | None = None,
    ) -> int:
        """How many rows a table holds; see `arrow` for the conditions."""
        found = self._open(table)
        if found is None:
            raise self._missing(table)
        condition = _condition(interval_end, since, before, where)
        dataset = found.to_pyarrow_dataset()
        for fragment in dataset.get_fragments(filter=condition):
            self._require_sound(table, fragment)
        rows: int = dataset.count_rows(filter=condition)
        return rows

    def newest_interval(self, table: str) -> datetime | None:
        """The newest ``interval_end`` of a table, from its log; None when it is empty."""
        found = self._open(table)
        if found is None:
            raise self._missing(table)
        known = [row.get("max.interval_end") for row in files_of(found)]
        ends: list[datetime] = [end for end in known if end is not None]
        return max(ends).replace(tzinfo=UTC) if ends else None

    def _require_sound(self, table: str, fragment: Any) -> None:
        file = self._file(table, fragment)
        if not self._is_local:
            return
        if not file.exists():
            raise self._damaged(table, file, "it is gone")
        if not is_sound(file):
            raise self._damaged(table, file, "its checksum is wrong")

    def _file(self, table: str, fragment: Any) -> Path:
        return Path(self.path(table)) / unquote(fragment.path)

    def _damaged(self, table: str, file: Path, reason: object) -> StageError:
        return StageError(
            f"{file}: this file of the table `{table}` is damaged: {reason}.\n"
            "  Bring it back from a copy; or remove the folder of the table, then run the stage "
            "that writes it again."
        )

    def _open(self, table: str, version: int | None = None) -> Any:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            return DeltaTable(self.path(table), version=version)
        except TableNotFoundError:
            return None

    def _missing(self, table: str) -> StageError:
        return StageError(f"There is no table `{table}` at {self.path(table)} yet.")


def files_of(table: Any) -> list[dict[str, Any]]:
    """The files of a table, with their sizes and statistics."""
    import pyarrow as pa

    files: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return files


def _checked() -> Any:
    """How to read Parquet so that a page whose checksum is wrong is an error."""
    import pyarrow.dataset as ds

    return ds.ParquetFragmentScanOptions(page_checksum_verification=True)


def _condition(
    interval_end: datetime | None,
    since: Mapping[str, datetime] | None,
    before: Mapping[str, datetime] | None,
    where: Mapping[str, str] | None = None,
) -> Any:
    """The conditions as one Arrow expression; None without any."""
    from functools import reduce
    from operator import and_

    import pyarrow as pa
    import pyarrow.compute as pc

    def moment(value: datetime) -> Any:
        return pa.scalar(value, pa.timestamp("us", tz="UTC"))

    conditions = [pc.field(key) < moment(value) for key, value in (before or {}).items()]
    conditions += [pc.field(key) >= moment(value) for key, value in (since or {}).items()]
    conditions += [pc.field(key) == value for key, value in (where or {}).items()]
    if interval_end is not None:
        conditions.append(pc.field("interval_end") == moment(interval_end))
    return reduce(and_, conditions) if conditions else None
