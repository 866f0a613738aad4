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
from urllib.parse import unquote

from pipelines.checksums import is_sound, seal
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
        before: Mapping[str, datetime] | None = None,
    ) -> pa.Table:
        """A table, or one interval of it, as an Arrow table.

        Args:
            table: Its name.
            columns: Those to read; all by default.
            interval_end: Keep the rows of this interval alone.
            before: Keep the rows whose time column lies strictly before a moment.

        Raises:
            StageError: When there is no such table.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        found = self._open(table)
        if found is None:
            raise self._missing(table)

        def moment(value: datetime) -> pa.Scalar:
            return pa.scalar(value, pa.timestamp("us", tz="UTC"))

        conditions = [pc.field(key) < moment(value) for key, value in (before or {}).items()]
        if interval_end is not None:
            conditions.append(pc.field("interval_end") == moment(interval_end))
        expression = None
        for condition in conditions:
            expression = condition if expression is None else expression & condition
        dataset = found.to_pyarrow_dataset()
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

    def count(self, table: str) -> int:
        """How many rows a table holds, from its log."""
        found = self._open(table)
        if found is None:
            raise self._missing(table)
        dataset = found.to_pyarrow_dataset()
        for fragment in dataset.get_fragments():
            self._require_sound(table, fragment)
        rows: int = dataset.count_rows()
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
            self._seal(table)

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

    def _write(self, table: str, rows: pa.Table, predicate: str | None) -> int:
        from deltalake import write_deltalake

        # A first write has nothing to replace, and a predicate needs a table to look at.
        if predicate is None or self._open(table) is None:
            write_deltalake(self.path(table), rows, mode="overwrite", schema_mode="overwrite")
        else:
            write_deltalake(self.path(table), rows, mode="overwrite", predicate=predicate)
        self._seal(table)
        version = self.version(table)
        assert version is not None
        return version

    def _seal(self, table: str) -> None:
        """Give each new file its checksums, which `deltalake` does not write."""
        if self._is_local:
            for file in Path(self.path(table)).glob("*.parquet"):
                seal(file)

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


def _checked() -> Any:
    """How to read Parquet so that a page whose checksum is wrong is an error."""
    import pyarrow.dataset as ds

    return ds.ParquetFragmentScanOptions(page_checksum_verification=True)
