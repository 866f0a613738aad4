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
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.digests import code_digest, digest
from pipelines.graph import Step
from pipelines.intervals import Interval
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

        Events count by the digest of each interval up to it; items, users and follows by what
        this interval's own validation saw of them.
        """
        newest = {
            run.interval_end: run
            for run in self.runs
            if run.stage == "validate"
            and run.status == "succeeded"
            and run.interval_end <= interval.end
        }
        events = [
            [_iso(run.covers_start), _iso(end), run.digest] for end, run in sorted(newest.items())
        ]
        return digest([events, newest[interval.end].detail["dimensions"]])

    def outdated(
        self,
        readers: Collection[str],
        after: datetime | None = None,
        validated: tuple[datetime, tuple[datetime | None, str]] | None = None,
    ) -> list[datetime]:
        """Ends of the intervals that ran on events that were validated anew since.

        Args:
            readers: Names of the stages that read events.
            after: Only intervals that end after it.
            validated: What is about to be recorded of `validate`: the interval's end; the start of
                the range that it wrote, and its digest.
        """
        begun: dict[tuple[datetime, str], datetime] = {}
        audits: list[tuple[datetime | None, datetime, tuple[datetime | None, str]]] = []
        for run in self.runs:
            if run.status != "succeeded":
                continue
            if run.stage in readers and (after is None or run.interval_end > after):
                begun[run.interval_end, run.stage] = run.started_at
            if run.stage == "validate":
                ended = run.started_at + timedelta(seconds=run.seconds)
                audits.append((ended, run.interval_end, (run.covers_start, run.digest)))
        if validated is not None:
            audits.append((None, *validated))
        first: dict[datetime, datetime] = {}
        for (end, _), at in begun.items():
            first[end] = min(at, first.get(end, at))

        def seen(end: datetime, until: datetime | None) -> dict[datetime, object]:
            return {
                of: what
                for ended, of, what in audits
                if of <= end and (until is None or (ended is not None and ended <= until))
            }

        return [end for end, at in sorted(first.items()) if seen(end, at) != seen(end, None)]

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
        }
    )
