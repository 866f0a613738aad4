"""What has run: the table ``runs``, and what follows from it.

Each attempt at a stage is two rows of one ``started_at``: `started`, then `succeeded` or `failed`.
A first row without the second is an attempt that was cut off, whose writes nobody vouches for.

A step is up to date when its last success for the interval has the fingerprint that it would have
now: the hash of its options, its code, its interval and the digests of all it reads. For a table
made by another step the digest is that step's own fingerprint. The base tables stand apart: their
digest is that of their rows, so that a source which was touched but says the same again makes
nothing stale (an early cut-off, as build systems call it).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pipelines.digests import code_digest, digest
from pipelines.graph import Step
from pipelines.intervals import Interval, text
from pipelines.lake import Lake


@dataclass(frozen=True)
class StageRun:
    """The beginning or the end of one attempt at one stage, as it stands in the table ``runs``.

    Args:
        run_id: Names the pipeline and its interval; the same for every attempt.
        digest: What the rows it wrote hash to; empty for a step whose outputs follow from its
            fingerprint.
        covers_start: Start of the time range whose events it wrote (`validate` alone); None with
            a digest means from the beginning.
        seconds: Wall time.
        peak_memory_mb: Largest proportional memory (PSS) of this process and its children, MiB.
        cpu_seconds: Processor seconds of this process and its children; None in rows that were
            written before they were counted.
        tables_in: Version of each table it read.
        tables_out: Version of each table it wrote.
        rows_out: Rows it wrote.
    """

    run_id: str
    pipeline: str
    stage: str
    interval_start: datetime
    interval_end: datetime
    status: str
    fingerprint: str
    started_at: datetime
    seconds: float
    peak_memory_mb: float
    rows_in: int
    rows_out: int
    tables_in: Mapping[str, int]
    tables_out: Mapping[str, int]
    spec_hash: str
    commit: str
    message: str = ""
    digest: str = ""
    covers_start: datetime | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    cpu_seconds: float | None = None


@dataclass(frozen=True)
class Written:
    """The range of `events` that one success of `validate` replaced.

    Args:
        start: Its first moment; None means from the beginning.
        end: Its end.
        digests: End of each interval in it that has events → what their rows hash to.
    """

    start: datetime | None
    end: datetime
    digests: Mapping[str, str]

    @classmethod
    def by(cls, run: StageRun) -> Self:
        """What a success of `validate` wrote."""
        return cls(run.covers_start, run.interval_end, run.detail["events"])


def _events(written: Iterable[Written], end: datetime) -> dict[str, str]:
    """What the events of each interval up to an end hash to, after some writes in their order."""
    found: dict[str, str] = {}
    for one in written:
        start = "" if one.start is None else text(one.start)
        # Ends of intervals are whole hours: written as text they sort as they follow one another.
        found = {of: what for of, what in found.items() if not start < of <= text(one.end)}
        found |= one.digests
    return {of: what for of, what in found.items() if of <= text(end)}


class RunHistory:
    """The rows of ``runs``, newest last."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._runs: list[StageRun] | None = None

    @property
    def runs(self) -> list[StageRun]:
        """The rows of all attempts, oldest first."""
        if self._runs is None:
            self._runs = self._load()
        return self._runs

    def reload(self) -> None:
        """Forget what was read, so that rows which other processes wrote are seen."""
        self._runs = None

    def last(self, stage: str, interval: Interval) -> StageRun | None:
        """The newest row of a stage for an interval."""
        found = [r for r in self.runs if r.stage == stage and r.interval_end == interval.end]
        return found[-1] if found else None

    def last_success(self, stage: str, interval: Interval) -> StageRun | None:
        """The newest attempt that succeeded."""
        found = [
            r
            for r in self.runs
            if r.stage == stage and r.interval_end == interval.end and r.status == "succeeded"
        ]
        return found[-1] if found else None

    def newest_success(self, stage: str, before: datetime | None = None) -> StageRun | None:
        """The success of a stage for the newest interval, or for the newest that ends earlier."""
        found = [
            run
            for run in self.runs
            if run.stage == stage
            and run.status == "succeeded"
            and (before is None or run.interval_end < before)
        ]
        return max(found, key=lambda run: (run.interval_end, run.started_at), default=None)

    def covered_until(self, mapping: str, without: datetime | None = None) -> datetime | None:
        """The moment before which all events have been validated; None when there are none.

        Each run fills from the last such moment, so what is covered is one range without gaps.
        Events that another `mapping` of the sources made do not count: a changed spec loads anew;
        nor do those that the interval which ends at ``without`` validated.
        """
        if self._lake.version("events") is None:  # somebody removed it: nothing is covered
            return None
        ends = [
            run.interval_end
            for run in self.runs
            if run.stage == "validate"
            and run.status == "succeeded"
            and run.detail["mapping"] == mapping
            and run.interval_end != without
        ]
        return max(ends, default=None)

    def tables_digest(self, interval: Interval) -> str:
        """Digest of the base tables as of an interval's end.

        Events count by the rows of each interval up to it, whichever runs wrote them; items, users
        and follows by what this interval's own validation saw of them.
        """
        audits = [run for run in self.runs if run.stage == "validate" and run.status == "succeeded"]
        own = [run for run in audits if run.interval_end == interval.end][-1]
        return digest([_events(map(Written.by, audits), interval.end), own.detail["dimensions"]])

    def outdated(
        self,
        readers: Collection[str],
        after: datetime | None = None,
        validated: Written | None = None,
    ) -> list[datetime]:
        """Ends of the intervals that ran on events that have changed since.

        Args:
            readers: Names of the stages that read events.
            after: Only intervals that end after it.
            validated: What is about to be recorded of `validate`.
        """
        begun: dict[datetime, datetime] = {}
        audits: list[tuple[datetime, Written]] = []
        newest = {
            (run.interval_end, run.stage): run.started_at
            for run in self.runs
            if run.status == "succeeded" and run.stage in readers
        }
        for (end, _), at in newest.items():
            if after is None or end > after:
                begun[end] = min(at, begun.get(end, at))
        for run in self.runs:
            if run.status == "succeeded" and run.stage == "validate":
                audits.append((run.started_at + timedelta(seconds=run.seconds), Written.by(run)))
        now = [written for _, written in audits] + ([validated] if validated else [])

        def seen(end: datetime, at: datetime) -> dict[str, str]:
            return _events([written for ended, written in audits if ended <= at], end)

        return [end for end, at in sorted(begun.items()) if seen(end, at) != _events(now, end)]

    def record(self, run: StageRun) -> None:
        """Append one row."""
        import pyarrow as pa

        row = asdict(run)
        for key in ("tables_in", "tables_out", "detail"):
            row[key] = json.dumps(row[key], sort_keys=True)
        self._lake.append("runs", pa.Table.from_pylist([row], schema=_schema()))
        if self._runs is not None:
            self._runs.append(run)

    def _load(self) -> list[StageRun]:
        if self._lake.version("runs") is None:
            return []
        rows = self._lake.arrow("runs").to_pylist()
        for row in rows:
            for key in ("tables_in", "tables_out", "detail"):
                row[key] = json.loads(row[key])
        return sorted(
            (StageRun(**row) for row in rows),
            key=lambda run: (run.started_at, run.status != "started"),
        )


def fingerprint(step: Step, interval: Interval, inputs: Mapping[str, str]) -> str:
    """Hash of all that a step's result depends on; `inputs` are digests of what it reads."""
    return digest(
        [
            step.name,
            step.kind,
            dict(step.options),
            _iso(interval.start),
            _iso(interval.end),
            {name: code_digest(name) for name in step.code},
            dict(inputs),
        ]
    )


def run_id(pipeline: str, interval: Interval) -> str:
    """The id shared by all that one interval's run writes."""
    return f"{pipeline}@{interval.end.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _schema() -> Any:
    import pyarrow as pa

    time = pa.timestamp("us", tz="UTC")
    text, number, whole = pa.string(), pa.float64(), pa.int64()
    return pa.schema(
        {
            "run_id": text,
            "pipeline": text,
            "stage": text,
            "interval_start": time,
            "interval_end": time,
            "status": text,
            "fingerprint": text,
            "started_at": time,
            "seconds": number,
            "peak_memory_mb": number,
            "rows_in": whole,
            "rows_out": whole,
            "tables_in": text,
            "tables_out": text,
            "spec_hash": text,
            "commit": text,
            "message": text,
            "digest": text,
            "covers_start": time,
            "detail": text,
            "cpu_seconds": number,
        }
    )
