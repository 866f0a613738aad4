"""The events that an interval's run takes out of what was landed, and those that came too late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pipelines.context import StageContext
from pipelines.digests import digest
from pipelines.intervals import from_micros, interval_containing, parse_every, text

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

LATE = "late:timestamp"
"""Rule of quarantined events that came after their interval had been closed."""


@dataclass(frozen=True)
class Window:
    """What one run of `validate` works on.

    Args:
        start: First instant of the window; None reaches back to the first event.
        events: The landed events of the window, each once.
        late_events: Events outside of it that came late; None when there are none.
        late: How many those are, by the end of their own interval.
        taken: How many events of intervals that had been closed it takes in, by the same.
        duplicates: Repetitions that were left out, by table.
        mapping: Digest of all that decides which rows are accepted.
    """

    start: datetime | None
    events: DataFrame
    late_events: DataFrame | None
    late: Mapping[str, int]
    taken: Mapping[str, int]
    duplicates: Mapping[str, int]
    mapping: str


def find_window(context: StageContext) -> Window:
    """Find the window of the run's interval.

    It begins with the interval; or with the first moment that no run has validated, so that what is
    covered is one range without gaps; or, where new events of earlier intervals have been landed,
    with the interval of the earliest of those that are not too late. A run of the same interval
    takes the same window again, or a longer one.
    """
    from transforms import landing

    ingested = context.history.last_success("ingest", context.interval)
    assert ingested is not None
    interval = context.interval
    mapping = digest([ingested.detail["mapping"], context.step.options])
    duplicates = dict(ingested.detail["duplicates"])
    landed = context.read("landed_events")
    covered = context.history.covered_until(mapping)
    before = context.history.last_success("validate", interval)
    if before is not None and before.detail["mapping"] != mapping:
        before = None
    if covered is None or (before is not None and before.covers_start is None):
        events, duplicates["events"] = landing.between(landed, None, interval.end)
        return Window(None, events, None, {}, {}, duplicates, mapping)
    start = min(covered, interval.start)
    if before is not None and before.covers_start is not None:
        start = min(start, before.covers_start)
    readers = _unvalidated(context, mapping)
    every = context.project.pipeline.schedule.every
    reach = interval.start - context.project.pipeline.sources.lateness
    new = landing.arrived_late(readers, start, interval.end, covered)
    earliest = landing.earliest(landed.filter(new), since=reach)
    if earliest is not None:
        start = min(start, interval_containing(from_micros(earliest), every).start)
    events, duplicates["events"] = landing.between(landed, start, interval.end)
    new = landing.arrived_late(readers, start, interval.end, covered)
    late_events, count, repeated = landing.unknown(landed.filter(new), context.read("events"))
    duplicates["events"] += repeated
    others = context.history.covered_until(mapping, without=interval.end)
    closed = min(others or interval.start, interval.start)
    return Window(
        start,
        events,
        late_events if count else None,
        _by_interval(late_events, every) if count else {},
        _by_interval(_first_read(landed, start, closed, readers), every) if start < closed else {},
        duplicates,
        mapping,
    )


def _first_read(
    landed: DataFrame, start: datetime, end: datetime, readers: Sequence[datetime]
) -> DataFrame:
    """Id and time of the events of a range that no interval but the readers has read."""
    from pyspark.sql import functions as F

    inside = (F.col("timestamp") >= F.lit(start)) & (F.col("timestamp") < F.lit(end))
    read = landed.filter(inside).groupBy("event_id")
    return read.agg(
        F.min("timestamp").alias("timestamp"), F.min("interval_end").alias("reader")
    ).filter(F.col("reader").isin(*readers))


def _by_interval(events: DataFrame, every: str) -> dict[str, int]:
    """How many events belong to each interval, by its end, oldest first."""
    from pyspark.sql import functions as F

    from transforms.intervals import interval_end_of

    end = F.unix_micros(interval_end_of("timestamp", *parse_every(every)))
    counts = {row[0]: row[1] for row in events.groupBy(end).count().collect()}
    return {text(from_micros(at)): counts[at] for at in sorted(counts)}


def _unvalidated(context: StageContext, mapping: str) -> list[datetime]:
    """Ends of the intervals whose newly landed events no run has looked at, and of this one."""
    ends = {context.interval.end}
    for run in context.history.runs:
        if run.stage == "ingest" and run.status == "succeeded":
            ends.add(run.interval_end)
        if (
            run.stage == "validate"
            and run.status == "succeeded"
            and run.detail["mapping"] == mapping
            and run.interval_end != context.interval.end
        ):
            ends.discard(run.interval_end)
    return sorted(ends)
