"""Read what is new in the sources, map their columns to typed rows, and land them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.context import Engines, StageContext, StageResult
from pipelines.digests import code_digest, digest
from pipelines.errors import StageError
from pipelines.graph import SOURCE_TABLES
from pipelines.intervals import from_micros
from pipelines.lake import Lake
from pipelines.project import Project
from pipelines.stages import landing
from pipelines.stages.source_frames import typed
from pipelines.stages.source_schemas import hold_schemas

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

    from pipelines.source_formats import Files
    from pipelines.sources import TableSource
    from transforms.sources import SourceFile

_DEMO = digest("demo")

DIMENSIONS = SOURCE_TABLES[1:]
"""Tables whose sources are read whole: each row says since when it is true."""


def run(context: StageContext) -> StageResult:
    """Fill ``landed_events`` with new files, and ``staged_*`` with the other sources.

    Events are landed whole, whatever their time; `validate` takes an interval's out of them.
    """
    mapping = mapping_digest(context.step.options)
    fill = _from_demo if context.project.pipeline.sources.demo else _from_files
    detail = fill(context, mapping)
    rows, rejects = detail["rows"], sum(detail["rejects"].values())
    read = f"{rows['events']:,} new events of {detail['files_read']:,} files"
    return StageResult(
        message=f"{read}, {rows['items']:,} items, {rows['users']:,} users, "
        f"{rows['follows']:,} follows"
        + (f"; {rejects:,} rows could not be read" if rejects else ""),
        rows_in=sum(rows.values()) + sum(detail["duplicates"].values()) + rejects,
        rows_out=sum(rows.values()),
        detail={**detail, "mapping": mapping},
    )


def mapping_digest(options: Mapping[str, Any]) -> str:
    """Hash of what decides how a source's rows are typed; rows of another one are read anew."""
    return digest([options, code_digest("transforms")])


def latest_event(project: Project, engines: Engines, lake: Lake) -> datetime:
    """The moment up to which the sources hold events; events of the future do not count.

    Files that were landed are known; only others are read.

    Raises:
        StageError: When they hold none.
    """
    demo = project.pipeline.sources.demo
    if demo is not None:
        end: datetime = _world(project).config.end
        return end
    from transforms.landing import newest
    from transforms.sources import reading

    sources = list(project.pipeline.sources.events)
    (step,) = (step for step in project.steps if step.kind == "ingest")
    mapping = mapping_digest(step.options)
    known = landing.manifest(lake, mapping)
    files = landing.present(engines.spark, project, "events", sources, mapping, known.values())
    unknown = landing.changed(files, known)
    found = [file.latest for file in known.values() if file.table == "events"]
    if unknown:
        rows, _ = landing.read(engines.spark, project, sources, unknown)
        with reading(_paths(sources)):
            found.append(rows.agg(newest()).collect()[0][0])
    micros = [one for one in found if one is not None]
    if not micros:
        raise StageError(
            "No row of the events' files could be read as an event.\n"
            "  Check sources.events.columns, above all the unit of `timestamp`."
        )
    # Times that are spread over a stretch fill it, wherever the last of them fell.
    stretches = [source.columns.timestamp.spread for source in sources]
    return max([from_micros(max(micros)), *(one.to for one in stretches if one is not None)])


def _world(project: Project) -> Any:
    from transforms.demo import DemoConfig, DemoWorld

    demo = project.pipeline.sources.demo
    assert demo is not None
    return DemoWorld(DemoConfig(**demo.settings(), seed=project.pipeline.seed))


def _from_demo(context: StageContext, mapping: str) -> dict[str, Any]:
    """Land the simulator's events up to the interval's end; its other tables are made once."""
    from pyspark.sql.pandas.types import to_arrow_schema

    from transforms.landing import SOURCE_FILE
    from transforms.schemas import struct

    assert context.spark, "schemas are parsed by Spark"
    world, lake, end = _world(context.project), context.lake, context.interval.end
    known = landing.manifest(lake, mapping)
    landed_until = landing.latest_of(known.values())
    start = world.config.start if landed_until is None else landed_until
    new = 0
    if start < end:
        schema = to_arrow_schema(
            struct("events").add(SOURCE_FILE, "string").add("interval_end", "timestamp"),
            timezone="UTC",
        )
        stamp = {SOURCE_FILE: _DEMO, "interval_end": end}
        rows = _streamed(world.events_batches(start, end), schema, stamp)
        # The simulator is one file that grows: what it holds before a moment never changes.
        if known:
            context.replace_range("landed_events", rows, "timestamp", start, end)
        else:
            context.replace_all("landed_events", rows)
            rejects = struct("quarantine").add(SOURCE_FILE, "string")
            empty = to_arrow_schema(rejects, timezone="UTC").empty_table()
            context.replace_all("landed_rejects", empty)
        new = lake.arrow("landed_events", columns=["interval_end"], interval_end=end).num_rows
    makers: dict[str, Callable[[], Iterator[pa.RecordBatch]]] = {
        "items": world.items_batches,
        "users": world.users_batches,
        "follows": world.follows_batches,
    }
    for table, make in makers.items():
        if not known or lake.version(f"staged_{table}") is None:
            schema = to_arrow_schema(struct(table), timezone="UTC")
            context.replace_all(f"staged_{table}", _streamed(make(), schema, {}))
    latest = (max(start, end) - from_micros(0)) // timedelta(microseconds=1)
    landed = landing.LandedFile(_DEMO, "events", 0, "demo", "", None, latest, mapping)
    landing.write_manifest(context, [landed])
    counts = {table: lake.count(f"staged_{table}") for table in makers}
    return {
        "rows": {"events": new, **counts},
        "duplicates": {},
        "rejects": {},
        "files_read": int(new > 0),
        "schemas": {},
    }


def _streamed(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, constants: Mapping[str, object]
) -> pa.RecordBatchReader:
    """Batches with every column of a schema; a column not given is constant, or null."""
    import pyarrow as pa

    def completed() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            columns = [
                batch.column(field.name).cast(field.type)
                if field.name in batch.schema.names
                else pa.array([constants.get(field.name)] * batch.num_rows, field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, completed())


def _from_files(context: StageContext, mapping: str) -> dict[str, Any]:
    from pyspark.sql import functions as F

    from transforms.sources import reading

    sources, spark = context.project.pipeline.sources, context.spark
    known = landing.manifest(context.lake, mapping)
    events = list(sources.events)
    files = landing.present(spark, context.project, "events", events, mapping, known.values())
    new = landing.changed(files, known)
    noted = dict(known)
    whole: dict[str, TableSource] = {}
    for table in DIMENSIONS:
        source = getattr(sources, table)
        if source is None:
            continue
        parts = [source, *_gathered(source)]
        now = landing.present(spark, context.project, table, parts, mapping, known.values())
        before = {file.state for file in known.values() if file.table == table}
        if before != {file.state for file in now} or not _is_there(context, table):
            whole[table] = source
            noted = {name: file for name, file in noted.items() if file.table != table}
            noted |= {file.file_id: file for file in now}
    schemas = hold_schemas(
        context,
        mapping,
        [
            *_with_new_files(events, new),
            *((table, source, None) for table, source in whole.items()),
        ],
    )
    if new:
        with reading(_paths(events)):
            landed = landing.land(context, events, new, known)
        noted |= {file.file_id: file for file in landed}
    duplicates = {}
    for table in DIMENSIONS:
        if table in whole:
            duplicates[table] = _stage_whole(context, table, whole[table])
        elif getattr(sources, table) is None and (new or not _is_there(context, table)):
            context.replace_all(f"staged_{table}", _implied(context, table))
    # The note comes last: a run that is killed before it reads the same files again.
    if noted != known:
        landing.write_manifest(context, noted.values())
    counts = {table: context.lake.count(f"staged_{table}") for table in DIMENSIONS}
    mine = F.col("interval_end") == F.lit(context.interval.end)
    rejects = context.read("landed_rejects").filter(mine).groupBy("table").count().collect()
    landed_now = context.read("landed_events").filter(mine).count() if new else 0
    return {
        "rows": {"events": landed_now, **counts},
        "duplicates": duplicates,
        "rejects": {row["table"]: row["count"] for row in rejects},
        "files_read": len(new),
        "schemas": schemas,
    }


def _is_there(context: StageContext, table: str) -> bool:
    return context.lake.version(f"staged_{table}") is not None


def _with_new_files(
    sources: Sequence[TableSource], new: Sequence[landing.LandedFile]
) -> list[tuple[str, TableSource, list[SourceFile]]]:
    """The sources of events that have new files, with these."""
    found = []
    for number, source in enumerate(sources):
        own = [file.file for file in new if file.source == number]
        if own:
            found.append(("events", source, own))
    return found


def _stage_whole(context: StageContext, table: str, source: TableSource) -> int:
    """Replace ``staged_<table>`` with its source as it is now; returns the repetitions."""
    from pyspark.sql import functions as F

    from transforms.landing import SOURCE_FILE
    from transforms.mapping import deduplicate
    from transforms.sources import reading

    good, bad = typed(context.spark, context.project, table, source)
    unique, before = deduplicate(good, table)
    file_id = digest(table)
    with reading(_paths([source])):
        context.replace_all(f"staged_{table}", unique)
        rejects = bad.withColumn(SOURCE_FILE, F.lit(file_id))
        landing.write(
            context, "landed_rejects", rejects, ["row", "rule"], [file_id], [file_id], first=False
        )
    rows: int = before.get["rows"] - context.lake.count(f"staged_{table}")
    return rows


def _gathered(source: TableSource) -> list[Files]:
    """The further files from which a source's columns are gathered."""
    collect = getattr(source, "collect", None)
    return list(collect.files().values()) if collect is not None else []


def _implied(context: StageContext, table: str) -> DataFrame:
    """A table that has no source: the ids that events name, known from their first event on."""
    from pyspark.sql import functions as F

    from transforms.schemas import struct

    schema = struct(table)
    key = {"items": "item_id", "users": "user_id"}.get(table)
    if key is None:
        return context.spark.createDataFrame([], schema)
    events = context.read("landed_events")
    first = events.groupBy(key).agg(F.min("timestamp").alias("created_at"))
    return first.select(
        [
            F.col(field.name)
            if field.name in first.columns
            else F.lit(None).cast(field.dataType).alias(field.name)
            for field in schema.fields
        ]
    )


def _paths(sources: Iterable[Files]) -> str:
    return json.dumps([source.path for source in sources])[1:-1]
