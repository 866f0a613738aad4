"""Which files of the events have been landed, and what landing the others means.

A file is known by its path and a mark of its state (size and time of change, a version, a cursor's
value). What is read once is not read again: an
interval costs what is new in the sources, however much they hold.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING

from pipelines.context import StageContext
from pipelines.digests import digest
from pipelines.intervals import from_micros
from pipelines.lake import Lake
from pipelines.project import Project
from pipelines.stages.source_frames import listed, typed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pipelines.source_formats import Files
    from pipelines.sources import TableSource
    from transforms.sources import SourceFile

MANIFEST = "landed_files"
"""Table of the files that have been landed."""


@dataclass(frozen=True)
class LandedFile:
    """One file, or part of a database, as it was when it was landed.

    Args:
        file_id: Hexadecimal id that rows carry as ``source_file``; names the source and the path.
        table: The table that its source fills.
        source: Place of the source among those of the table.
        path: As the reader of the source names it.
        mark: Differs whenever the content may differ.
        after: Of a part of a database, the cursor's value before its first row.
        latest: Time of its newest event, µs since 1970; None where it holds none.
        mapping: Digest of the sources' spec and code that read it.
    """

    file_id: str
    table: str
    source: int
    path: str
    mark: str
    after: str | None
    latest: int | None
    mapping: str

    @property
    def state(self) -> tuple[str, str]:
        """What tells this state of the file from another."""
        return (self.file_id, self.mark)

    @property
    def file(self) -> SourceFile:
        """What the reader of the source is given."""
        from transforms.sources import SourceFile

        return SourceFile(self.path, 0, 0, self.mark, self.after)


def manifest(lake: Lake, mapping: str) -> dict[str, LandedFile]:
    """The files landed so far by this mapping, by id."""
    if lake.version(MANIFEST) is None:
        return {}
    files = [LandedFile(**row) for row in lake.arrow(MANIFEST).to_pylist()]
    return {file.file_id: file for file in files if file.mapping == mapping}


def present(
    spark: SparkSession,
    project: Project,
    table: str,
    sources: Sequence[Files],
    mapping: str,
    known: Collection[LandedFile],
) -> list[LandedFile]:
    """The files that the sources of a table hold now; their newest event is not known yet.

    Raises:
        SourceError: When a path holds no file.
    """
    found = []
    for number, source in enumerate(sources):
        own = [(f.path, f.mark) for f in known if f.table == table and f.source == number]
        for file in listed(spark, project, source, own):
            name = os.path.relpath(file.path, project.root) if file.path[0] == "/" else file.path
            found.append(
                LandedFile(
                    # Below the project, so that moving a project lands nothing anew.
                    file_id=digest([table, number, name]),
                    table=table,
                    source=number,
                    path=file.path,
                    mark=file.mark,
                    after=file.after,
                    latest=None,
                    mapping=mapping,
                )
            )
    return found


def changed(files: Iterable[LandedFile], known: Mapping[str, LandedFile]) -> list[LandedFile]:
    """The files that have not been landed in their present state."""
    states = {file.state for file in known.values()}
    return [file for file in files if file.state not in states]


def read(
    spark: SparkSession,
    project: Project,
    sources: Sequence[TableSource],
    files: Sequence[LandedFile],
) -> tuple[DataFrame, DataFrame]:
    """The typed rows of files and the rows that could not be read, each with ``source_file``."""
    from pyspark.sql import DataFrame
    from pyspark.sql import functions as F

    from transforms.landing import SOURCE_FILE
    from transforms.sources import FILE

    good: list[DataFrame] = []
    bad: list[DataFrame] = []
    for number, source in enumerate(sources):
        own = [file for file in files if file.source == number]
        if not own:
            continue
        names = [(file.path, file.file_id) for file in own]
        ids = spark.createDataFrame(names, f"{FILE} string, {SOURCE_FILE} string")
        frames = typed(
            spark, project, "events", source, files=[file.file for file in own], with_file=True
        )
        for kept, frame in zip((good, bad), frames, strict=True):
            kept.append(frame.join(F.broadcast(ids), FILE).drop(FILE))
    return reduce(DataFrame.unionByName, good), reduce(DataFrame.unionByName, bad)


def land(
    context: StageContext,
    sources: Sequence[TableSource],
    files: Sequence[LandedFile],
    known: Mapping[str, LandedFile],
) -> list[LandedFile]:
    """Read files of events into ``landed_events`` and ``landed_rejects``.

    Returns:
        The files with the time of their newest event, to be noted as landed.
    """
    good, bad = read(context.spark, context.project, sources, files)
    ids = [file.file_id for file in files]
    again = [file_id for file_id in ids if file_id in known]
    write(context, "landed_events", good, ["event_id"], ids, again, first=not known)
    write(context, "landed_rejects", bad, ["row", "rule"], ids, again, first=not known)
    newest = _latest(context, ids)
    return [replace(file, latest=newest.get(file.file_id)) for file in files]


def write(
    context: StageContext,
    table: str,
    rows: DataFrame,
    key: Sequence[str],
    files: Sequence[str],
    again: Sequence[str],
    *,
    first: bool,
) -> None:
    """Replace the rows of files in a landed table.

    Args:
        context: Of the stage.
        table: ``landed_events`` or ``landed_rejects``.
        rows: All rows of the files, with ``source_file``.
        key: What makes two rows of one file the same row.
        files: Ids of the files.
        again: Those that were landed before, in another state.
        first: Whether nothing landed counts any more.
    """
    from transforms import landing

    before = None
    if again and not first:
        held = context.read(table)
        before = held.filter(held[landing.SOURCE_FILE].isin(list(again)))
    stamped = landing.stamped(rows, before, key, context.interval.end)
    if first:
        context.replace_all(table, stamped)
    else:
        context.replace_files(table, stamped, files)


def write_manifest(context: StageContext, files: Iterable[LandedFile]) -> None:
    """Replace the list of landed files."""
    import pyarrow as pa

    text, whole = pa.string(), pa.int64()
    schema = pa.schema(
        {"file_id": text, "table": text, "source": whole, "path": text, "mark": text}
        | {"after": text, "latest": whole, "mapping": text}
    )
    rows = [
        vars(file) for file in sorted(files, key=lambda file: (file.table, file.source, file.path))
    ]
    context.replace_all(MANIFEST, pa.Table.from_pylist(rows, schema=schema))


def _latest(context: StageContext, ids: Sequence[str]) -> dict[str, int]:
    from transforms.landing import newest

    landed = context.read("landed_events")
    found = (
        landed.filter(landed["source_file"].isin(list(ids)))
        .groupBy("source_file")
        .agg(newest().alias("latest"))
    )
    return {row["source_file"]: row["latest"] for row in found.collect()}


def latest_of(files: Iterable[LandedFile]) -> datetime | None:
    """Time of the newest event of files."""
    known = [file.latest for file in files if file.latest is not None]
    return from_micros(max(known)) if known else None
