"""The Delta tables of one pipeline: the only place that knows where they lie and who may write.

Spark steps get and give DataFrames, training steps Arrow tables; both write by replacing one
interval (or one range of time) in one commit, under a lock on a local disk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.checksums import drop_strays, seal
from pipelines.lake_reader import LakeReader, files_of
from pipelines.locks import Claim, hold

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

_WAIT_SECONDS = 600.0
_ROUNDED = timedelta(milliseconds=1)
"""By so much the greatest time of a file may lie above what Spark notes of it."""
_SMALL_BYTES = 64 * 2**20
"""Smaller files are merged, up to this size."""


class Lake(LakeReader):
    """The tables of one pipeline, read and written.

    Args:
        location: Folder or URI (``s3a://bucket/lake``) that holds the pipelines' folders.
        pipeline: Name of the pipeline.
        claims: What a writer must hold; asked before each commit.
    """

    def __init__(self, location: str, pipeline: str, claims: Sequence[Claim] = ()) -> None:
        super().__init__(location, pipeline)
        self._claims = claims
        self._holder = f"pipeline {pipeline}"

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
                return self._write(table, rows, f"interval_end = '{_iso(interval_end)}'")
            from transforms import io

            is_free = self._is_free(table, "interval_end", interval_end, interval_end)
            return io.replace_interval(rows, self.path(table), interval_end, note, is_free=is_free)

    def replace_range(
        self,
        table: str,
        rows: DataFrame | pa.Table | pa.RecordBatchReader,
        column: str,
        start: datetime | None,
        end: datetime,
        note: Mapping[str, Any],
    ) -> int:
        """Replace the rows of a time range (from the beginning when ``start`` is None)."""
        import pyarrow as pa

        with self._writing(table):
            if isinstance(rows, (pa.Table, pa.RecordBatchReader)):
                predicate = f"{column} < '{_iso(end)}'"
                if start is not None:
                    predicate += f" AND {column} >= '{_iso(start)}'"
                return self._write(table, rows, predicate)
            from transforms import io

            is_free = self._is_free(table, column, start, end)
            return io.replace_range(
                rows, self.path(table), column, start, end, note, is_free=is_free
            )

    def replace_edges(
        self, rows: DataFrame, since: datetime, interval_end: datetime, note: Mapping[str, Any]
    ) -> int:
        """Replace what came to the graph after ``since``, and the interval's similar items."""
        from transforms import io

        table = "graph_edges"
        with self._writing(table):
            # Whatever ends later than `since` ends an interval later.
            is_free = self._is_free(table, "interval_end", since + 2 * _ROUNDED, interval_end)
            return io.replace_edges(
                rows, self.path(table), since, interval_end, note, is_free=is_free
            )

    def replace_files(
        self, table: str, rows: DataFrame, files: Sequence[str], note: Mapping[str, Any]
    ) -> int:
        """Replace the rows of some source files in one commit."""
        from transforms import io

        with self._writing(table):
            return io.replace_files(rows, self.path(table), files, note)

    def replace_quarantine(
        self,
        rows: DataFrame,
        late: DataFrame | None,
        interval_end: datetime,
        start: datetime | None,
        note: Mapping[str, Any],
    ) -> int:
        """Replace what a run set aside of `[start, interval_end)`, and add events that came late.

        Args:
            rows: What broke a rule or could not be read.
            late: Events of closed intervals that are not in the table yet.
            interval_end: Of the run.
            start: Of the window that the run filled; None reaches back to the first event.
            note: For the commit.
        """
        from transforms import io

        path = self.path("quarantine")
        with self._writing("quarantine"):
            is_free = self._is_free("quarantine", "timestamp", start, interval_end)
            is_free &= self._is_free("quarantine", "interval_end", interval_end, interval_end)
            version = io.replace_quarantine(rows, path, interval_end, start, note, is_free=is_free)
            return version if late is None else io.append(late, path, note)

    def replace_all(
        self,
        table: str,
        rows: DataFrame | pa.Table | pa.RecordBatchReader,
        note: Mapping[str, Any],
    ) -> int:
        """Replace a whole table in one commit; returns its new version.

        A reader's batches are written as they come, so that memory stays bounded.
        """
        import pyarrow as pa

        with self._writing(table):
            if isinstance(rows, (pa.Table, pa.RecordBatchReader)):
                return self._write(table, rows, None)
            from transforms import io

            return io.replace_all(rows, self.path(table), note)

    def append(
        self, table: str, rows: DataFrame | pa.Table, note: Mapping[str, Any] | None = None
    ) -> None:
        """Append rows that are never replaced: of logs, and what is found again by a digest."""
        import pyarrow as pa
        from deltalake import write_deltalake

        with self._writing(table):
            if not isinstance(rows, pa.Table):
                from transforms import io

                io.append(rows, self.path(table), note or {})
                return
            write_deltalake(self.path(table), rows, mode="append", schema_mode="merge")
            self._seal(table)

    def remark(self, table: str, note: Mapping[str, Any]) -> int:
        """Add a commit that changes no row and bears a note; returns the table's new version."""
        import json

        from deltalake import CommitProperties, write_deltalake

        with self._writing(table):
            found = self._open(table)
            if found is None:
                raise self._missing(table)
            write_deltalake(
                found,
                found.to_pyarrow_dataset().schema.empty_table(),
                mode="append",
                commit_properties=CommitProperties(
                    custom_metadata={"userMetadata": json.dumps(note, sort_keys=True, default=str)}
                ),
            )
        version = self.version(table)
        assert version is not None
        return version

    def drop_before(
        self, table: str, interval_end: datetime, *, where: Mapping[str, str] | None = None
    ) -> int:
        """Delete the rows of intervals that end before a moment; returns how many.

        Args:
            table: Its name.
            interval_end: The end of the oldest interval that is kept.
            where: Delete only the rows whose column has this value.
        """
        if not self.count(table, before={"interval_end": interval_end}, where=where):
            return 0
        with self._writing(table):
            conditions = [f"interval_end < '{_iso(interval_end)}'"]
            conditions += [f"{column} = '{value}'" for column, value in (where or {}).items()]
            done = self._open(table).delete(" AND ".join(conditions))
            self._seal(table)
        return int(done["num_deleted_rows"])

    def compact(self, table: str, files: int) -> int:
        """Merge small files once there are more than some; returns how many were merged."""
        found = self._open(table)
        if found is None:
            raise self._missing(table)
        small = [row for row in files_of(found) if row["size_bytes"] < _SMALL_BYTES]
        if len(small) <= files:
            return 0
        with self._writing(table):
            fresh = self._open(table)
            done = fresh.optimize.compact(target_size=_SMALL_BYTES)
            fresh.create_checkpoint()
            self._seal(table)
        return int(done["numFilesRemoved"])

    def vacuum(self, table: str, keep: timedelta) -> int:
        """Remove the files that no version of the last while names; returns how many."""
        with self._writing(table):
            removed = self._open(table).vacuum(
                retention_hours=math.ceil(keep / timedelta(hours=1)),
                dry_run=False,
                enforce_retention_duration=False,
            )
            if self._is_local:
                drop_strays(Path(self.path(table)))
        return len(removed)

    def _write(
        self, table: str, rows: pa.Table | pa.RecordBatchReader, predicate: str | None
    ) -> int:
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

    def _is_free(self, table: str, column: str, start: datetime | None, end: datetime) -> bool:
        """Whether the log shows that no row's time lies in `[start, end]`, and none can come there.

        On an object store other writers are kept out by Delta alone, which must then be told what
        is replaced.
        """
        if self.folder is None:
            return False
        found = self._open(table)
        for row in () if found is None else files_of(found):
            low, high = (row.get(f"{bound}.{column}") for bound in ("min", "max"))
            if low is None or high is None:
                return False
            high = high.replace(tzinfo=UTC) + _ROUNDED
            if high >= (start or high) and low.replace(tzinfo=UTC) <= end:
                return False
        return True

    @contextmanager
    def _writing(self, table: str) -> Iterator[None]:
        if self.folder is None:  # object stores order commits themselves
            yield
            return
        with hold(
            self.folder / ".locks" / f"table {table}.lock", self._holder, wait_seconds=_WAIT_SECONDS
        ):
            self.check_claims()
            yield

    def check_claims(self) -> None:
        """Make sure that the writer's claims are good.

        Raises:
            FencedError: When another attempt has taken one over.
        """
        for claim in self._claims:
            claim.check()


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
