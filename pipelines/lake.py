"""The Delta tables of one pipeline: the only place that knows where they lie and who may write.

Spark steps get and give DataFrames, training steps Arrow tables; both write by replacing one
interval (or one range of time) in one commit, under a lock on a local disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import StageError
from pipelines.locks import hold

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

_WAIT_SECONDS = 600.0


class Lake:
    """Tables of one pipeline under ``<location>/<pipeline>/``.

    Args:
        location: Folder or URI (``s3a://bucket/lake``) that holds the pipelines' folders.
        pipeline: Name of the pipeline.
    """

    def __init__(self, location: str, pipeline: str) -> None:
        self._is_local = "://" not in location
        self.location = f"{location.rstrip('/')}/{pipeline}"
        self._holder = f"pipeline {pipeline}"

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
        from transforms import io

        if self.version(table) is None:
            raise self._missing(table)
        return io.read(session, self.path(table), version)

    def arrow(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        interval_end: datetime | None = None,
        since: Mapping[str, datetime] | None = None,
        before: Mapping[str, datetime] | None = None,
    ) -> pa.Table:
        """A table, or one interval of it, as an Arrow table.

        Args:
            table: Its name.
            columns: Those to read; all by default.
            interval_end: Keep the rows of this interval alone.
            since: Keep the rows whose time column lies at or after a moment.
            before: Keep the rows whose time column lies strictly before a moment.

        Raises:
            StageError: When there is no such table.
        """
        found = self._open(table)
        if found is None:
            raise self._missing(table)
        return found.to_pyarrow_dataset().to_table(
            columns=list(columns) if columns is not None else None,
            filter=_condition(interval_end, since, before),
        )

    def delta(self, table: str) -> Any:
        """A table's log as `deltalake.DeltaTable`; None when there is no table."""
        return self._open(table)

    def files(self, table: str, version: int) -> set[str]:
        """The data files of one version, by their paths within the table's folder."""
        import pyarrow as pa

        found = self._open(table)
        if found is None:
            raise self._missing(table)
        found.load_as_version(version)
        return set(pa.table(found.get_add_actions(flatten=True))["path"].to_pylist())

    def count(
        self,
        table: str,
        *,
        interval_end: datetime | None = None,
        since: Mapping[str, datetime] | None = None,
        before: Mapping[str, datetime] | None = None,
    ) -> int:
        """How many rows a table holds; see `arrow` for the conditions."""
        found = self._open(table)
        if found is None:
            raise self._missing(table)
        condition = _condition(interval_end, since, before)
        rows: int = found.to_pyarrow_dataset().count_rows(filter=condition)
        return rows

    def replace_interval(
        self,
        table: str,
        rows: DataFrame | pa.Table,
        interval_end: datetime,
        note: Mapping[str, Any],
    ) -> int:
        """Replace one interval of a table in one commit; returns the table's new version."""
        import pyarrow as pa

        with self._writing(table):
            if isinstance(rows, pa.Table):
                literal = interval_end.astimezone(UTC).isoformat(timespec="microseconds")
                return self._write(table, rows, f"interval_end = '{literal}'")
            from transforms import io

            return io.replace_interval(rows, self.path(table), interval_end, note)

    def replace_range(
        self,
        table: str,
        rows: DataFrame,
        column: str,
        start: datetime | None,
        end: datetime,
        note: Mapping[str, Any],
    ) -> int:
        """Replace the rows of a time range (from the beginning when ``start`` is None)."""
        from transforms import io

        with self._writing(table):
            return io.replace_range(rows, self.path(table), column, start, end, note)

    def replace_all(self, table: str, rows: DataFrame | pa.Table, note: Mapping[str, Any]) -> int:
        """Replace a whole table in one commit; returns its new version."""
        import pyarrow as pa

        with self._writing(table):
            if isinstance(rows, pa.Table):
                return self._write(table, rows, None)
            from transforms import io

            return io.replace_all(rows, self.path(table), note)

    def append(self, table: str, rows: pa.Table) -> None:
        """Append rows: for logs alone, whose rows are never replaced."""
        from deltalake import write_deltalake

        with self._writing(table):
            write_deltalake(self.path(table), rows, mode="append", schema_mode="merge")

    def _write(self, table: str, rows: pa.Table, predicate: str | None) -> int:
        from deltalake import write_deltalake

        # A first write has nothing to replace, and a predicate needs a table to look at.
        if predicate is None or self._open(table) is None:
            write_deltalake(self.path(table), rows, mode="overwrite", schema_mode="overwrite")
        else:
            write_deltalake(self.path(table), rows, mode="overwrite", predicate=predicate)
        version = self.version(table)
        assert version is not None
        return version

    def _open(self, table: str) -> Any:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            return DeltaTable(self.path(table))
        except TableNotFoundError:
            return None

    def _missing(self, table: str) -> StageError:
        return StageError(f"There is no table `{table}` at {self.path(table)} yet.")

    @contextmanager
    def _writing(self, table: str) -> Iterator[None]:
        if self.folder is None:  # object stores order commits themselves
            yield
            return
        with hold(
            self.folder / ".locks" / f"table {table}.lock", self._holder, wait_seconds=_WAIT_SECONDS
        ):
            yield


def _condition(
    interval_end: datetime | None,
    since: Mapping[str, datetime] | None,
    before: Mapping[str, datetime] | None,
) -> Any:
    """The conditions on times as one Arrow expression; None without any."""
    from functools import reduce
    from operator import and_

    import pyarrow as pa
    import pyarrow.compute as pc

    def moment(value: datetime) -> Any:
        return pa.scalar(value, pa.timestamp("us", tz="UTC"))

    conditions = [pc.field(key) < moment(value) for key, value in (before or {}).items()]
    conditions += [pc.field(key) >= moment(value) for key, value in (since or {}).items()]
    if interval_end is not None:
        conditions.append(pc.field("interval_end") == moment(interval_end))
    return reduce(and_, conditions) if conditions else None
