"""Read the sources and map their columns to typed rows, into staging tables."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext, StageResult
from pipelines.graph import SOURCE_TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def run(context: StageContext) -> StageResult:
    """Fill ``staged_*`` with what the sources hold for the interval.

    Events are those of `[start, end)`, reaching back to the last moment that is covered, so that the
    first run loads all history and a blocked interval is tried again. Items, users and follows are
    read whole: each row says since when it is true.
    """
    start = covered_from(context)
    frames = _demo(context, start) if context.project.pipeline.sources.demo else _files(context, start)
    rows = {}
    for name, frame in frames.items():
        rows[name] = _stage(context, name, frame)
    since = "the beginning" if start is None else f"{start:%Y-%m-%d %H:%M}"
    return StageResult(
        message=f"{rows['staged_events']:,} events since {since}, {rows['staged_items']:,} items, "
        f"{rows['staged_users']:,} users, {rows['staged_follows']:,} follows; "
        f"{rows['staged_rejects']:,} rows could not be read",
        rows_in=sum(rows.values()),
        rows_out=sum(rows.values()) - rows["staged_rejects"],
        covers_start=start,
        detail={"rows": rows},
    )


def covered_from(context: StageContext) -> datetime | None:
    """The moment from which this run must load events; None means from the beginning."""
    covered = context.history.covered_until()
    return None if covered is None else min(covered, context.interval.start)
