"""Feature stages run one by one on base tables that a test writes itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from pipelines.context import StageContext, StageResult
from pipelines.graph import SOURCE_TABLES
from pipelines.intervals import Interval
from pipelines.lake import Lake
from pipelines.project import Project
from pipelines.stages import function
from pipelines.state import RunHistory
from transforms.schemas import struct

SNAPSHOTS = ("behaviour", "user_features", "item_features", "sequences", "graph_edges")
"""Stages that write a state of each interval."""


class StageWorld:
    """A lake whose base tables the test fills.

    Args:
        spark: The session.
        folder: Where the lake lies.
        sets: Options over those of the demo pipeline.
    """

    def __init__(self, spark: SparkSession, folder: Path, sets: Sequence[str] = ()) -> None:
        self.spark = spark
        self.project = Project.load("demo", sets=sets)
        self.lake = Lake(str(folder), "demo")

    def frame(self, table: str, rows: Sequence[Mapping[str, Any]]) -> DataFrame:
        """Rows as a frame of a base table; columns not given are null."""
        schema = struct(table)
        values = [tuple(row.get(name) for name in schema.names) for row in rows]
        return self.spark.createDataFrame(values, schema).coalesce(1)

    def publish(
        self,
        tables: Mapping[str, Sequence[Mapping[str, Any]]],
        since: datetime | None,
        end: datetime,
    ) -> None:
        """Write base tables as `validate` does: events of `[since, end)`, the others whole."""
        for table in SOURCE_TABLES:
            if table == "events":
                rows = [
                    row
                    for row in tables[table]
                    if row["timestamp"] < end and (since is None or row["timestamp"] >= since)
                ]
                frame = self.frame(table, rows)
                self.lake.replace_range(table, frame, "timestamp", since, end, {})
            elif table in tables:
                self.lake.replace_all(table, self.frame(table, tables[table]), {})

    def context(self, stage: str, end: datetime) -> StageContext:
        """What a stage is given for the interval that ends at a moment."""
        [step] = [step for step in self.project.steps if step.name == stage]
        engines: Any = SimpleNamespace(spark=self.spark)
        return StageContext(
            self.project,
            step,
            Interval(end - timedelta(hours=6), end),
            self.lake,
            RunHistory(self.lake),
            engines,
            "",
            lambda _: None,
        )

    def run(self, stage: str, end: datetime) -> StageResult:
        """Run one stage for the interval that ends at a moment."""
        context = self.context(stage, end)
        return function(context.step.kind)(context)

    def rows(self, stage: str, end: datetime) -> list[str]:
        """The rows that hold as of an interval, in a fixed order; of examples, the window."""
        [tables] = [step.writes for step in self.project.steps if step.name == stage]
        return [row for table in tables for row in self._rows(table, end)]

    def _rows(self, table: str, end: datetime) -> list[str]:
        if table == "examples":
            window = self.project.pipeline.features.training_window
            found = self.lake.arrow(
                table, since={"timestamp": end - window}, before={"timestamp": end}
            )
        elif table == "graph_edges":
            known = self.lake.arrow(table, before={"interval_end": end + timedelta(microseconds=1)})
            is_added = pc.not_equal(known["relation"], "similar")
            is_own = pc.equal(known["interval_end"], pa.scalar(end, pa.timestamp("us", "UTC")))
            found = known.filter(pc.or_(is_added, is_own))
        else:
            found = self.lake.arrow(table, interval_end=end)
        return sorted(repr(sorted(row.items())) for row in found.to_pylist())
