"""What a stage gets and gives: its context and its result."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.graph import Step
from pipelines.intervals import Interval
from pipelines.lake import Lake
from pipelines.locks import Claim
from pipelines.project import Project
from pipelines.state import RunHistory, run_id

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class StageResult:
    """What a stage says of its work.

    Args:
        message: One line for the person who watches.
        rows_in: Rows it read.
        rows_out: Rows it wrote.
        digest: Hash of the rows it wrote, where the fingerprint does not determine them.
        covers_start: See `StageRun`.
        detail: Anything worth keeping in ``runs``, as plain JSON values.
    """

    message: str
    rows_in: int = 0
    rows_out: int = 0
    digest: str = ""
    covers_start: datetime | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


class Engines:
    """Spark and Ray of one process: started when first needed, stopped together.

    A Spark session that ran before is used, and left to whoever started it.
    """

    def __init__(self, project: Project, claims: Sequence[Claim]) -> None:
        self._project = project
        self._claims = claims
        self._spark: SparkSession | None = None
        self._borrowed = False

    @property
    def spark(self) -> SparkSession:
        """The Spark session."""
        if self._spark is None:
            from pyspark.sql import SparkSession

            from pipelines.bootstrap import delta_jars, java_home
            from transforms.session import spark_session

            os.environ["JAVA_HOME"] = str(java_home())
            self._borrowed = SparkSession.getActiveSession() is not None
            options = self._project.pipeline.environment.spark
            jars = delta_jars()
            log = Path(self._project.location(".cache/logs")) / "spark.log"
            with _stderr_to(log):
                self._spark = spark_session(
                    master=options.master,
                    memory=options.memory,
                    settings=options.settings,
                    jars=jars,
                )
            for claim in self._claims:
                self.show(claim)
        return self._spark

    def show(self, claim: Claim) -> None:
        """Tell a claim of the processes that could still write if this one were killed."""
        if self._spark is not None:
            gateway = self._spark.sparkContext._gateway
            assert gateway is not None, "a session has its gateway"
            claim.note_child(gateway.proc.pid)

    def stop(self) -> None:
        """Stop what was started."""
        if self._spark is not None and not self._borrowed:
            self._spark.stop()
        self._spark = None
        if "ray" in sys.modules:
            import ray

            if ray.is_initialized():
                ray.shutdown()


@contextmanager
def _stderr_to(log: Path) -> Iterator[None]:
    """Let processes that start meanwhile write their errors to a file, not among our lines."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    ours = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(ours, 2)
            os.close(ours)


@dataclass
class StageContext:
    """All that a stage may use: its step, its interval, and the tables."""

    project: Project
    step: Step
    interval: Interval
    lake: Lake
    history: RunHistory
    engines: Engines
    fingerprint: str
    progress: Callable[[str], None]
    inputs: Mapping[str, str] = field(default_factory=dict)
    tables_in: dict[str, int] = field(default_factory=dict)
    tables_out: dict[str, int] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """The id that everything this interval's run writes carries."""
        return run_id(self.project.pipeline.pipeline, self.interval)

    @property
    def spark(self) -> SparkSession:
        """The shared Spark session."""
        return self.engines.spark

    def read(self, table: str) -> DataFrame:
        """A table as a DataFrame at its newest version, which the run record names."""
        return self.lake.spark(self.spark, table, version=self._pin(table))

    def arrow(self, table: str, **keywords: Any) -> pa.Table:
        """A table as Arrow; see `Lake.arrow`."""
        self._pin(table)
        return self.lake.arrow(table, **keywords)

    def batches(
        self, table: str, columns: Sequence[str], **keywords: Any
    ) -> Iterator[pa.RecordBatch]:
        """Some columns of a table, a few rows at a time; see `Lake.batches`."""
        self._pin(table)
        return self.lake.batches(table, columns, **keywords)

    def write_interval(self, table: str, rows: DataFrame | pa.Table) -> None:
        """Replace this interval's rows of a table."""
        self.tables_out[table] = self.lake.replace_interval(
            table, rows, self.interval.end, self.note
        )

    def append(self, table: str, rows: DataFrame) -> None:
        """Append rows that are never replaced."""
        self.lake.append(table, rows, self.note)
        version = self.lake.version(table)
        assert version is not None, "rows were appended to it"
        self.tables_out[table] = version

    def replace_all(self, table: str, rows: DataFrame | pa.Table | pa.RecordBatchReader) -> None:
        """Replace a whole table."""
        self.tables_out[table] = self.lake.replace_all(table, rows, self.note)

    def replace_files(self, table: str, rows: DataFrame, files: Sequence[str]) -> None:
        """Replace the rows of some source files."""
        self.tables_out[table] = self.lake.replace_files(table, rows, files, self.note)

    def replace_range(
        self,
        table: str,
        rows: DataFrame | pa.Table | pa.RecordBatchReader,
        column: str,
        start: datetime | None,
        end: datetime,
    ) -> None:
        """Replace the rows of `[start, end)`, from the beginning when ``start`` is None."""
        self.tables_out[table] = self.lake.replace_range(table, rows, column, start, end, self.note)

    @property
    def note(self) -> dict[str, str]:
        """What each commit says of where it comes from."""
        return {"run_id": self.run_id, "stage": self.step.name}

    def _pin(self, table: str) -> int | None:
        version = self.lake.version(table)
        if version is not None:
            self.tables_in[table] = version
        return version
