"""Hold staged rows against their contracts; only good rows reach the base tables.

Write, audit, publish: a table that breaks a blocking rule stops the run before any base table
changes, and the interval counts as not covered, so the next run tries it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext, StageResult
from pipelines.errors import ContractError, StageError
from pipelines.graph import SOURCE_TABLES
from pipelines.stages.frames import known

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Events come last: their items and users must be known by then.
_ORDER = ("items", "users", "follows", "events")


def run(context: StageContext) -> StageResult:
    """Fill `events`, `items`, `users`, `follows` and `quarantine` from staging.

    Raises:
        ContractError: When a blocking rule is broken; shows what broke and leaves the tables be.
    """
    from transforms.contracts import render_findings, write_data_docs

    ingested = context.history.last_success("ingest", context.interval)
    assert ingested is not None
    checked: dict[str, Any] = {}
    good: dict[str, DataFrame] = {}
    for table in _ORDER:
        checked[table] = check_table(context, table, _staged(context, table), good)
        good[table] = checked[table].good
    findings = [finding for table in _ORDER for finding in checked[table].findings]
    docs = context.project.reports / _folder(context) / "contracts"
    write_data_docs([checked[table] for table in _ORDER], docs)
    _write_quarantine(context, checked)
    if any(result.blocked for result in checked.values()):
        raise ContractError(
            f"The data for the interval that ends at {context.interval.end_text} breaks its "
            f"contracts. Nothing was trained or published.\n{render_findings(findings)}\n"
            f"  Pages: {docs}/index.html"
        )
    digests = _publish(context, good, ingested.covers_start, ingested.detail["mapping"])
    rows = {
        table: {
            "accepted": checked[table].rows - checked[table].rows_quarantined,
            "quarantined": checked[table].rows_quarantined
            + ingested.detail["rejects"].get(table, 0),
            "duplicates": ingested.detail["duplicates"].get(table, 0),
        }
        for table in SOURCE_TABLES
    }
    for line in render_findings(findings).splitlines() if findings else ():
        context.progress(line)
    accepted = sum(counts["accepted"] for counts in rows.values())
    quarantined = sum(counts["quarantined"] for counts in rows.values())
    return StageResult(
        message=f"{accepted:,} rows accepted, {quarantined:,} quarantined",
        rows_in=sum(result.rows for result in checked.values()),
        rows_out=accepted,
        digest=digests["events"],
        covers_start=ingested.covers_start,
        detail={
            "rows": rows,
            "dimensions": [digests[f"{table} before end"] for table in SOURCE_TABLES[1:]],
            "content": {table: digests[table] for table in SOURCE_TABLES[1:]},
            "mapping": ingested.detail["mapping"],
        },
    )


def check_table(
    context: StageContext,
    table: str,
    frame: DataFrame,
    references: dict[str, DataFrame],
    columns: tuple[str, ...] | None = None,
) -> Any:
    """Hold a frame against all contracts of its table, as one."""
    from transforms.contracts import Contract, Rule, check

    contracts = context.project.contracts[table]
    contract = Contract(
        table=table,
        allow_empty=any(one.allow_empty for one in contracts),
        rules=tuple(Rule(**rule.plain()) for one in contracts for rule in one.rules),
    )
    if columns is None:
        columns = tuple(
            column.from_
            for source in context.project.pipeline.sources.tables()
            if source.table == table
            for column in source.columns.mapped().values()
            if column.from_ is not None
        )
    return check(
        frame,
        contract,
        interval_end=context.interval.end,
        references=references,
        source_columns=columns,
    )


def _staged(context: StageContext, table: str) -> DataFrame:
    from pyspark.sql import functions as F

    frame = context.read(f"staged_{table}")
    staged_for = frame.select("interval_end").head()
    if (
        staged_for is not None
        and frame.filter(F.col("interval_end") != F.lit(context.interval.end)).head()
    ):
        raise StageError(
            f"Staging holds another interval than that which ends at {context.interval.end_text}.",
            next_command=context.project.command("stage", context.interval, "ingest"),
        )
    return frame.drop("interval_end")


def _write_quarantine(context: StageContext, checked: dict[str, Any]) -> None:
    """Replace the interval's quarantine: rows that were unreadable or broke a rule."""
    from functools import reduce

    from pyspark.sql import DataFrame
    from pyspark.sql import functions as F

    columns = ["table", "row", "rule", "interval_end"]
    rejects = context.read("staged_rejects")
    if context.lake.version("quarantine") is not None:
        # Files that are read whole bring the same unreadable row again each interval.
        before = context.read("quarantine").filter(
            F.col("interval_end") < F.lit(context.interval.end)
        )
        rejects = rejects.join(
            before.select("table", "row", "rule"), ["table", "row", "rule"], "left_anti"
        )
    frames = [rejects.select(columns)] + [
        one.quarantined.select(columns) for one in checked.values()
    ]
    context.write_interval("quarantine", reduce(DataFrame.unionByName, frames))


def _publish(
    context: StageContext, good: dict[str, DataFrame], start: Any, mapping: str
) -> dict[str, str]:
    """Replace the covered range of events, and the other tables where they changed.

    Returns:
        Digest of each table's rows; for items, users and follows also of those true before the
        interval's end, under ``<table> before end``.
    """
    from transforms.digest import rows_digest

    digests: dict[str, str] = {}
    # The newest row is this attempt's own. An attempt that was cut off may have replaced a table.
    *before, _ = [run for run in context.history.runs if run.stage == "validate"]
    content = before[-1].detail["content"] if before and before[-1].status == "succeeded" else {}
    for table in SOURCE_TABLES[1:]:
        frame = good[table]
        digests[f"{table} before end"] = rows_digest(known(frame, table, context.interval))
        digests[table] = rows_digest(frame)
        if content.get(table) != digests[table] or context.lake.version(table) is None:
            context.tables_out[table] = context.lake.replace_all(table, frame, context.note)
    events = good["events"]
    digests["events"] = rows_digest(events)
    context.tables_out["events"] = context.lake.replace_range(
        "events",
        events,
        "timestamp",
        start,
        context.interval.end,
        {**context.note, "mapping": mapping},
    )
    return digests


def _folder(context: StageContext) -> str:
    return context.interval.end_text.replace(":", "")
