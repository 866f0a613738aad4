"""Hold landed rows against their contracts; only good rows reach the base tables.

Write, audit, publish: a table that breaks a blocking rule stops the run before any base table
changes, and the interval counts as not covered, so the next run tries it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext, StageResult
from pipelines.digests import digest
from pipelines.errors import ContractError
from pipelines.graph import SOURCE_TABLES
from pipelines.intervals import from_micros, parse_every, text
from pipelines.repairs import counted, outdated_lines, readers, taken_lines, waiting_lines
from pipelines.stages.frames import known
from pipelines.stages.window import LATE, Window, find_window
from pipelines.state import Written

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# What rows refer to comes first: authors before items, items and users before events.
_ORDER = ("users", "items", "follows", "events")


def run(context: StageContext) -> StageResult:
    """Fill `events`, `items`, `users`, `follows` and `quarantine` from what was landed.

    Events are those of the window that ends with the interval. It begins where no interval has been
    validated yet, and reaches further back to events that came late, by at most
    `sources.lateness`; those that came later still are set aside.

    Raises:
        ContractError: When a blocking rule is broken; shows what broke and leaves the tables be.
    """
    from transforms.contracts import render_findings, write_data_docs

    window = find_window(context)
    checked: dict[str, Any] = {}
    good: dict[str, DataFrame] = {}
    for table in _ORDER:
        frame = window.events if table == "events" else context.read(f"staged_{table}")
        checked[table] = check_table(context, table, frame, good)
        good[table] = checked[table].good
    findings = [finding for table in _ORDER for finding in checked[table].findings]
    docs = context.project.reports / _folder(context) / "contracts"
    write_data_docs([checked[table] for table in _ORDER], docs)
    rejects = _write_quarantine(context, checked, window)
    if any(result.blocked for result in checked.values()):
        raise ContractError(
            f"The data for the interval that ends at {context.interval.end_text} breaks its "
            f"contracts. Nothing was trained or published.\n{render_findings(findings)}\n"
            f"  Pages: {docs}/index.html"
        )
    digests, events = _publish(context, good, window)
    window.events.unpersist()
    rows = {
        table: {
            "accepted": checked[table].rows - checked[table].rows_quarantined,
            "quarantined": checked[table].rows_quarantined + rejects.get(table, 0),
            "duplicates": window.duplicates.get(table, 0),
        }
        for table in SOURCE_TABLES
    }
    late = sum(window.late.values())
    rows["events"]["quarantined"] += late
    outdated = [
        text(end)
        for end in context.history.outdated(
            readers(context.project),
            after=context.interval.end,
            validated=Written(window.start, context.interval.end, events),
        )
    ]
    for line in (
        *(render_findings(findings).splitlines() if findings else ()),
        *taken_lines(window.taken),
        *waiting_lines(context.project, window.late),
        *outdated_lines(context.project, outdated),
    ):
        context.progress(line)
    accepted = sum(counts["accepted"] for counts in rows.values())
    quarantined = sum(counts["quarantined"] for counts in rows.values())
    told = [f"{accepted:,} rows accepted, {quarantined:,} quarantined"]
    if late:
        told.append(f"{late:,} of them too late for {counted(window.late)}")
    if window.taken:
        told.append(f"late and taken in: {counted(window.taken)}")
    if outdated:
        told.append(f"later intervals that this makes outdated: {len(outdated):,}")
    return StageResult(
        message=", ".join(told),
        rows_in=sum(result.rows for result in checked.values()),
        rows_out=accepted,
        digest=digest(events),
        covers_start=window.start,
        detail={
            "rows": rows,
            "late": window.late,
            "taken": window.taken,
            "outdated": outdated,
            "events": events,
            "dimensions": [digests[f"{table} before end"] for table in SOURCE_TABLES[1:]],
            "content": {table: digests[table] for table in SOURCE_TABLES[1:]},
            "mapping": window.mapping,
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
            name
            for source in context.project.pipeline.sources.tables()
            if source.table == table
            for column in source.columns.mapped().values()
            for name in column.sources
        )
    # What the table held before this run tells what is usual.
    there = table in SOURCE_TABLES and context.lake.version(table) is not None
    return check(
        frame,
        contract,
        interval_start=context.interval.start,
        interval_end=context.interval.end,
        references=references,
        source_columns=columns,
        history=context.lake.spark(context.spark, table) if there else None,
    )


def _write_quarantine(
    context: StageContext, checked: dict[str, Any], window: Window
) -> dict[str, int]:
    """Replace what this run sets aside: rows that were unreadable, broke a rule or came late.

    An event goes to the interval of its own time, whichever run found it, so that the order of runs
    leaves no trace; what has no time goes to the run that read it.

    Returns:
        How many rows could not be read, by table.
    """
    from functools import reduce

    from pyspark.sql import DataFrame
    from pyspark.sql import functions as F

    from transforms.intervals import interval_end_of
    from transforms.schemas import columns

    end = F.lit(context.interval.end)
    own = interval_end_of("timestamp", *parse_every(context.project.pipeline.schedule.every))
    names = columns("quarantine")

    def placed(frame: DataFrame, table: str) -> DataFrame:
        at = F.get_json_object("row", "$.timestamp") if table == "events" else F.lit(None)
        timed = frame.withColumn("timestamp", at.try_cast("timestamp"))
        return timed.withColumn("interval_end", F.coalesce(own, end)).select(names)

    rejects = context.read("landed_rejects").filter(F.col("interval_end") == end)
    rejects = rejects.withColumn("timestamp", F.lit(None).cast("timestamp")).select(names)
    aside = [placed(result.quarantined, table) for table, result in checked.items()]
    late = None
    if window.late_events is not None:
        late = placed(
            window.late_events.select(
                F.lit("events").alias("table"),
                F.to_json(F.struct("*")).alias("row"),
                F.lit(LATE).alias("rule"),
            ),
            "events",
        )
        if context.lake.version("quarantine") is not None:
            known = context.read("quarantine").filter(F.col("rule") == LATE).select("row")
            late = late.join(known, "row", "left_anti").select(names)
    context.tables_out["quarantine"] = context.lake.replace_quarantine(
        reduce(DataFrame.unionByName, [rejects, *aside]),
        late,
        context.interval.end,
        window.start,
        context.note,
    )
    counted = rejects.groupBy("table").count().collect()
    return {row["table"]: row["count"] for row in counted}


def _publish(
    context: StageContext, good: dict[str, DataFrame], window: Window
) -> tuple[dict[str, str], dict[str, str]]:
    """Replace the covered range of events, and the other tables where they changed.

    Returns:
        Digests of the rows of items, users and follows, and of those true before the interval's
        end, under ``<table> before end``; digests of the events by the end of their interval.
    """
    from pyspark.sql import functions as F

    from transforms.digest import digests_by, rows_digest
    from transforms.intervals import interval_end_of

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
    every = parse_every(context.project.pipeline.schedule.every)
    by_end = digests_by(events, F.unix_micros(interval_end_of("timestamp", *every)))
    context.tables_out["events"] = context.lake.replace_range(
        "events",
        events,
        "timestamp",
        window.start,
        context.interval.end,
        {**context.note, "mapping": window.mapping},
    )
    return digests, {text(from_micros(at)): by_end[at] for at in sorted(by_end)}


def _folder(context: StageContext) -> str:
    return context.interval.end_text.replace(":", "")
