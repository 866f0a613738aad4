"""Read a declared source as the typed rows of its table; the glue between a spec and Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.project import Project

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pipelines.sources import Collect, Files, TableSource


def typed(
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
    rows = frame(spark, project, source, wanted)
    good, bad = mapping.map_rows(rows, table, columns, event_type=rule)
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
        frame(spark, project, collect, wanted),
        "tags",
        mapping.Collected(
            key=collect.key,
            value=collect.from_,
            time=mapping.ColumnMap(source=time.from_, unit=time.unit) if time else None,
        ),
    )


def frame(spark: SparkSession, project: Project, files: Files, wanted: list[str]) -> DataFrame:
    """The rows of one source as its files hold them.

    Raises:
        transforms.sources.SourceError: When it cannot be read as declared.
    """
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
