"""Read the sources and map their columns to typed rows, into staging tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING, Any

from pipelines.context import Engines, StageContext, StageResult
from pipelines.digests import code_digest, digest
from pipelines.errors import StageError
from pipelines.graph import SOURCE_TABLES
from pipelines.intervals import text
from pipelines.project import Project

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from pipelines.sources import Collect, Files, TableSource


def run(context: StageContext) -> StageResult:
    """Fill ``staged_*`` with what the sources hold for the interval.

    Events are those of `[start, end)`, reaching back to the last moment that is covered, so that
    the first run loads all history and a blocked interval is tried again. Items, users and follows
    are read whole: each row says since when it is true.
    """
    mapping = digest([context.step.options, code_digest("transforms")])
    covered = context.history.covered_until(mapping)
    start = None if covered is None else min(covered, context.interval.start)
    fill = _from_demo if context.project.pipeline.sources.demo else _from_files
    rows, duplicates, rejects = fill(context, start)
    since = "the beginning" if start is None else text(start)
    return StageResult(
        message=f"{rows['events']:,} events since {since}, {rows['items']:,} items, "
        f"{rows['users']:,} users, {rows['follows']:,} follows"
        + (f"; {sum(rejects.values()):,} rows could not be read" if rejects else ""),
        rows_in=sum(rows.values()) + sum(duplicates.values()) + sum(rejects.values()),
        rows_out=sum(rows.values()),
        covers_start=start,
        detail={"rows": rows, "duplicates": duplicates, "rejects": rejects, "mapping": mapping},
    )


def latest_event(project: Project, engines: Engines) -> datetime:
    """The moment up to which the sources hold events.

    Raises:
        StageError: When they hold none.
    """
    demo = project.pipeline.sources.demo
    if demo is not None:
        end: datetime = _world(project).config.end
        return end
    from pyspark.sql import functions as F

    from transforms.sources import reading

    frames = [
        _typed(engines.spark, project, "events", source)[0]
        for source in project.pipeline.sources.events
    ]
    latest = F.unix_micros(F.max("timestamp")).alias("latest")
    with reading(_paths(project.pipeline.sources.events)):
        found = [frame.select(latest).collect()[0]["latest"] for frame in frames]
    known = [micros for micros in found if micros is not None]
    if not known:
        raise StageError(
            "No row of the events' files could be read as an event.\n"
            "  Check sources.events.columns, above all the unit of `timestamp`."
        )
    return _moment(max(known))


def _moment(micros: int) -> datetime:
    from datetime import UTC, timedelta

    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


Filled = tuple[dict[str, int], dict[str, int], dict[str, int]]


def _world(project: Project) -> Any:
    from transforms.demo import DemoConfig, DemoWorld

    demo = project.pipeline.sources.demo
    assert demo is not None
    return DemoWorld(DemoConfig(**demo.settings(), seed=project.pipeline.seed))


def _from_demo(context: StageContext, start: datetime | None) -> Filled:
    import pyarrow as pa
    from pyspark.sql.pandas.types import to_arrow_schema

    from transforms.schemas import struct

    assert context.spark, "schemas are parsed by Spark"
    world = _world(context.project)
    tables: dict[str, Callable[[], pa.Table]] = {
        "events": lambda: world.events_between(start or world.config.start, context.interval.end),
        "items": world.items,
        "users": world.users,
        "follows": world.follows,
    }
    rows = {}
    for table in SOURCE_TABLES:
        frame = _completed(tables[table](), to_arrow_schema(struct(table), timezone="UTC"))
        rows[table] = frame.num_rows
        stamp = pa.array([context.interval.end] * frame.num_rows, pa.timestamp("us", tz="UTC"))
        context.replace_all(f"staged_{table}", frame.append_column("interval_end", stamp))
    context.replace_all(
        "staged_rejects", to_arrow_schema(struct("quarantine"), timezone="UTC").empty_table()
    )
    return rows, {}, {}


def _completed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with every column of a table, in its order; those not given are null."""
    import pyarrow as pa

    return pa.table(
        {
            field.name: rows[field.name].cast(field.type)
            if field.name in rows.column_names
            else pa.nulls(rows.num_rows, field.type)
            for field in schema
        }
    )


def _from_files(context: StageContext, start: datetime | None) -> Filled:
    from pyspark.sql import DataFrame
    from pyspark.sql import functions as F

    from transforms.mapping import deduplicate
    from transforms.sources import reading

    sources = context.project.pipeline.sources
    spark = context.spark
    declared: dict[str, list[TableSource]] = {
        "events": list(sources.events),
        "items": [sources.items] if sources.items else [],
        "users": [sources.users] if sources.users else [],
        "follows": [sources.follows] if sources.follows else [],
    }
    bad: list[DataFrame] = []
    rows, duplicates = {}, {}
    for table in SOURCE_TABLES:
        parts = []
        for source in declared[table]:
            good, faulty = _typed(spark, context.project, table, source)
            parts.append(good)
            bad.append(faulty)
        if not parts:
            parts = [_implied(context, table)]
        frame = reduce(DataFrame.unionByName, parts)
        if table == "events":
            since = F.lit(True) if start is None else F.col("timestamp") >= F.lit(start)
            frame = frame.filter(since & (F.col("timestamp") < F.lit(context.interval.end)))
        frame, before = deduplicate(frame, table)
        with reading(_paths(declared[table])):
            context.replace_all(
                f"staged_{table}", frame.withColumn("interval_end", F.lit(context.interval.end))
            )
        rows[table] = context.lake.count(f"staged_{table}")
        duplicates[table] = before.get["rows"] - rows[table]
    rejects = reduce(DataFrame.unionByName, bad)
    with reading(_paths([source for table in declared.values() for source in table])):
        context.replace_all(
            "staged_rejects", rejects.withColumn("interval_end", F.lit(context.interval.end))
        )
    counted = context.lake.arrow("staged_rejects", columns=["table"])["table"].value_counts()
    return rows, duplicates, {c["values"]: c["counts"] for c in counted.to_pylist()}


def _typed(
    spark: SparkSession, project: Project, table: str, source: TableSource
) -> tuple[DataFrame, DataFrame]:
    """The typed rows of one source, and the rows that could not be read."""
    from transforms import mapping

    columns = {
        name: mapping.ColumnMap(
            source=plain["from"],
            constant=plain["constant"],
            unit=plain["unit"],
            scale=plain["scale"],
            split=plain["split"],
        )
        for name, plain in ((n, c.plain()) for n, c in source.columns.mapped().items())
    }
    rule = None
    declared = getattr(source, "event_type", None)
    if declared is not None:
        constant = declared.always if not declared.flags else None
        rule = mapping.EventTypeRule(
            constant=constant,
            column=declared.column,
            map=declared.map,
            always=None if constant else declared.always,
            flags=declared.flags,
        )
    wanted = [one.source for one in columns.values() if one.source] + (rule.sources if rule else [])
    frame = _frame(spark, project, source, wanted)
    good, bad = mapping.map_rows(frame, table, columns, event_type=rule)
    collect = getattr(source, "collect", None)
    if collect is not None and collect.tags is not None:
        good, unread = _with_tags(spark, project, good, collect.tags)
        bad = bad.unionByName(unread)
    return good, bad


def _with_tags(
    spark: SparkSession, project: Project, items: DataFrame, collect: Collect
) -> tuple[DataFrame, DataFrame]:
    from transforms import mapping

    time = collect.time
    wanted = [collect.key, collect.from_, *([time.from_] if time else [])]
    return mapping.collect_lists(
        items,
        _frame(spark, project, collect, wanted),
        "tags",
        mapping.Collected(
            key=collect.key,
            value=collect.from_,
            time=mapping.ColumnMap(source=time.from_, unit=time.unit) if time else None,
        ),
    )


def _frame(spark: SparkSession, project: Project, files: Files, wanted: list[str]) -> DataFrame:
    from transforms.sources import read_source

    return read_source(
        spark,
        [project.location(files.path)],
        format=files.format,
        delimiter=files.delimiter,
        header=files.header,
        null_values=files.null_values,
        wanted=wanted,
    )


def _implied(context: StageContext, table: str) -> DataFrame:
    """A table that has no source: the ids that events name, known from their first event on."""
    from pyspark.sql import functions as F

    from transforms.schemas import struct

    schema = struct(table)
    key = {"items": "item_id", "users": "user_id"}.get(table)
    if key is None:
        return context.spark.createDataFrame([], schema)
    events = context.read("staged_events").select(key, "timestamp")
    if context.lake.version("events") is not None:
        events = events.unionByName(context.read("events").select(key, "timestamp"))
    first = events.groupBy(key).agg(F.min("timestamp").alias("created_at"))
    return first.select(
        [
            F.col(field.name)
            if field.name in first.columns
            else F.lit(None).cast(field.dataType).alias(field.name)
            for field in schema.fields
        ]
    )


def _paths(sources: Any) -> str:
    return json.dumps([source.path for source in sources])[1:-1]
