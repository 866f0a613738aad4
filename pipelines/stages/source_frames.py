"""Read a declared source as the typed rows of its table; the glue between a spec and Spark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.project import Project
from pipelines.secrets import secret

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pipelines.source_columns import Column
    from pipelines.source_formats import Files
    from pipelines.sources import Collect, CollectVector, TableSource
    from transforms.mapping import EventTypeRule
    from transforms.parsing import ColumnMap
    from transforms.sources import Database, SourceFile


def listed(
    spark: SparkSession,
    project: Project,
    source: Files,
    known: Sequence[tuple[str, str]] = (),
) -> list[SourceFile]:
    """What the source consists of now: files, a version of a table, or parts of a database.

    Args:
        spark: The session.
        project: Whose source it is.
        source: The source.
        known: Path and mark of what was read before; a database with a cursor then lists these
            and what was added since.

    Raises:
        transforms.sources.SourceError: When there is nothing.
    """
    from transforms.sources import list_source

    return list_source(
        spark,
        [project.location(source.path)],
        format=source.format,
        database=_database(project, source),
        known=known,
    )


def typed(
    spark: SparkSession,
    project: Project,
    table: str,
    source: TableSource,
    *,
    files: Sequence[SourceFile] | None = None,
    with_file: bool = False,
) -> tuple[DataFrame, DataFrame]:
    """The typed rows of one source, and the rows that could not be read.

    Args:
        spark: The session.
        project: Whose source it is.
        table: Which it fills.
        source: The source.
        files: Read these alone, of those `listed` gave; all of them without it.
        with_file: Whether both have the column ``_file``, as `SourceFile.path`.
    """
    from transforms import mapping

    columns = {name: _column(column) for name, column in source.columns.mapped().items()}
    rule = _event_type(source)
    rows = frame(spark, project, source, wanted(source), files=files, with_file=with_file)
    good, bad = mapping.map_rows(
        rows, table, columns, event_type=rule, pseudonym_key=project.pseudonym_key
    )
    collect = getattr(source, "collect", None)
    for name, second in (collect.files() if collect is not None else {}).items():
        gather = _with_tags if name == "tags" else _with_vectors
        good, unread = gather(spark, project, good, name, second, with_file)
        bad = bad.unionByName(unread)
    return good, bad


def wanted(source: TableSource) -> list[str]:
    """The columns of the source that its mapping reads."""
    mapped = [name for column in source.columns.mapped().values() for name in column.sources]
    rule = _event_type(source)
    return mapped + (rule.sources if rule else [])


def frame(
    spark: SparkSession,
    project: Project,
    files_of: Files,
    wanted: Sequence[str],
    *,
    files: Sequence[SourceFile] | None = None,
    with_file: bool = False,
) -> DataFrame:
    """The rows of one source as it holds them.

    Raises:
        transforms.sources.SourceError: When it cannot be read as declared.
    """
    from transforms.sources import read_source

    return read_source(
        spark,
        [project.location(files_of.path)],
        format=files_of.format,
        delimiter=files_of.delimiter,
        header=files_of.header,
        quote=files_of.quote,
        null_values=files_of.null_values,
        encoding=files_of.encoding,
        wanted=wanted,
        database=_database(project, files_of),
        files=files,
        with_file=with_file,
    )


def _column(column: Column) -> ColumnMap:
    from transforms.parsing import ColumnMap

    def option(name: str, absent: Any = None) -> Any:
        """An option that not every kind of column has."""
        return getattr(column, name, absent)

    spread = option("spread")
    return ColumnMap(
        source=column.from_,
        entries=option("columns", {}),
        constant=option("constant"),
        unit=option("unit"),
        pattern=option("pattern"),
        zone=option("zone", "UTC"),
        spread=(spread.from_, spread.to) if spread else None,
        scale=option("scale"),
        true=option("true_words", ()),
        false=option("false_words", ()),
        split=option("split"),
    )


def _event_type(source: TableSource) -> EventTypeRule | None:
    from transforms.mapping import EventTypeRule

    declared = getattr(source, "event_type", None)
    if declared is None:
        return None
    constant = declared.always if not declared.flags else None
    return EventTypeRule(
        constant=constant,
        column=declared.column,
        map=declared.map,
        always=None if constant else declared.always,
        flags=declared.flags,
    )


def _with_tags(
    spark: SparkSession,
    project: Project,
    items: DataFrame,
    target: str,
    collect: Collect,
    with_file: bool,
) -> tuple[DataFrame, DataFrame]:
    from transforms import mapping
    from transforms.parsing import ColumnMap

    time = collect.time
    wanted = [collect.key, collect.from_, *([time.from_] if time else [])]
    known_since = None
    if time is not None:
        unit = None if time.pattern else time.unit
        known_since = ColumnMap(source=time.from_, unit=unit, pattern=time.pattern, zone=time.zone)
    return mapping.collect_lists(
        items,
        frame(spark, project, collect, wanted, with_file=with_file),
        target,
        mapping.Collected(key=collect.key, value=collect.from_, time=known_since),
    )


def _with_vectors(
    spark: SparkSession,
    project: Project,
    items: DataFrame,
    target: str,
    collect: CollectVector,
    with_file: bool,
) -> tuple[DataFrame, DataFrame]:
    from transforms import mapping

    rows = frame(spark, project, collect, [collect.key, collect.from_], with_file=with_file)
    return mapping.collect_vectors(items, rows, target, key=collect.key, value=collect.from_)


def _database(project: Project, source: Files) -> Database | None:
    if source.format != "jdbc":
        return None
    from pipelines.bootstrap import jdbc_driver
    from transforms.sources import Database

    url = project.location(source.path)
    return Database(
        url=url,
        rows=source.rows_of or source.query or "",
        driver=jdbc_driver(url),
        user=secret(source.user),
        password=secret(source.password),
        cursor=source.cursor,
    )
