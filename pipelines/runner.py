"""Run planned steps here, in this process: what ``sextant run``, Airflow tasks and DVC stages call.

Each step is decided on just before it runs, with the same planner that ``sextant plan`` prints, so
that a source which changed nothing stops the run from spreading. Spark and Ray start with the first
step that needs them and serve all later ones.
"""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipelines import stages
from pipelines.context import Engines, StageContext, StageResult
from pipelines.digests import digest
from pipelines.disk import explain, explained, require_writable
from pipelines.errors import FencedError, SextantError, StageError
from pipelines.graph import Step
from pipelines.intervals import Interval, interval_ending, last_whole_interval, parse_moment
from pipelines.lake import Lake
from pipelines.locks import Claim, hold, lease_seconds
from pipelines.plan import Decision, Planner
from pipelines.project import Project, commit
from pipelines.stages.train import champions, is_registered
from pipelines.state import RunHistory, StageRun
from pipelines.usage import Usage

# No library reports home, and no model file may run code (see the notes on security in docs).
_ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false",
    "TZ": "UTC",
}
_STAGE_SECONDS = 3600.0
"""How long a single stage waits for the same stage of another interval."""

# These log at INFO what matters to nobody who watches a run.
_TALKERS = ("alembic", "mlflow")


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        ran: Names of the stages that did something.
        skipped: Names of those that were up to date.
        not_due: Names of those that nothing asked for, with the reason.
        seconds: Wall time of each stage that ran.
        failures: Name and error of each stage that the others did without.
    """

    ran: tuple[str, ...]
    skipped: tuple[str, ...]
    not_due: Mapping[str, str]
    seconds: Mapping[str, float]
    failures: Mapping[str, SextantError]


class Runner:
    """Runs steps of one pipeline for one interval after another.

    Args:
        project: The pipeline with its folders and options.
        progress: Prints a line.
    """

    def __init__(self, project: Project, progress: Callable[[str], None]) -> None:
        self._project = project
        self._progress = progress
        self._held = ExitStack()
        self._claims: list[Claim] = []
        self.lake = Lake(
            project.location(project.pipeline.environment.lake),
            project.pipeline.pipeline,
            self._claims,
        )
        self.history = RunHistory(self.lake)
        self.engines = Engines(project, self._claims)
        os.environ.update(_ENVIRONMENT)
        for talker in _TALKERS:
            logging.getLogger(talker).setLevel(logging.WARNING)

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.engines.stop()
        self._held.close()

    def interval(self, at: str | None) -> Interval:
        """The interval that ends at a moment; by default the last whole one in the data."""
        every = self._project.pipeline.schedule.every
        if at is not None:
            return interval_ending(parse_moment(at), every)
        return last_whole_interval(self._latest_event(), every)

    def _latest_event(self) -> datetime:
        """The newest event in the sources; noted, so that unchanged files are read once."""
        from pipelines.stages.ingest import latest_event

        sources = digest(
            [self._project.pipeline.sources.model_dump(mode="json"), self._project.source_digest()]
        )
        note = self.lake.folder / "latest_event.json" if self.lake.folder else None
        if note is not None and note.exists():
            noted = json.loads(note.read_text())
            if noted["sources"] == sources:
                return datetime.fromisoformat(noted["latest"])
        latest = latest_event(self._project, self.engines, self.lake)
        if note is not None:
            note.parent.mkdir(parents=True, exist_ok=True)
            _replace(note, json.dumps({"sources": sources, "latest": latest.isoformat()}))
        return latest

    def planner(self, interval: Interval) -> Planner:
        """The planner for one interval."""
        return Planner(
            self.lake,
            self.history,
            interval,
            source_digest=self._project.source_digest,
            champions=lambda: champions(self._project, interval.end),
            registered=lambda model, version: is_registered(self._project, model, version),
        )

    def run(self, steps: Sequence[Step], interval: Interval) -> Outcome:
        """Run every step that is due and not up to date, in order.

        A failure ends the run, unless what comes after can do without: one model that cannot be
        trained stops neither the others nor the candidates of the last good champions.

        Raises:
            SextantError: The first failure that ends the run, with the command that resumes it.
        """
        require_writable(self._folders())
        if not self._claims:
            self._held.enter_context(self._holding("run", f"the run of {interval}"))
        planner = self.planner(interval)
        ran: list[str] = []
        skipped: list[str] = []
        not_due: dict[str, str] = {}
        seconds: dict[str, float] = {}
        failures: dict[str, SextantError] = {}
        dispensable = {name for step in steps for name in step.optional}
        width = len(str(len(steps)))
        for number, step in enumerate(steps, start=1):
            label = f"[{number:>{width}}/{len(steps)}] {step.name:<18}"
            decision = self._decide(planner, step, interval)
            if not decision.runs:
                self._progress(f"{label} {decision.reason}")
                if decision.is_due:
                    skipped.append(step.name)
                else:
                    not_due[step.name] = decision.reason
                continue
            self._progress(f"{label} {step.summary} ...")
            try:
                with self._holding(f"stage {step.name}", f"the run of {interval}"):
                    self._require(step, interval)
                    run = self._execute(step, interval, decision)
            except FencedError:
                raise
            except SextantError as error:
                if step.name not in dispensable:
                    if failures:  # most likely what failed first is why this failed too
                        raise next(iter(failures.values())) from error
                    raise
                failures[step.name] = error
                self._progress(f"{'':>{len(label)}} failed; the run goes on without it")
                continue
            ran.append(step.name)
            seconds[step.name] = run.seconds
            self._progress(f"{'':>{len(label)}} {run.message}  ({run.seconds:.1f} s)")
        return Outcome(tuple(ran), tuple(skipped), not_due, seconds, failures)

    def run_stage(self, step: Step, interval: Interval) -> StageRun | Decision:
        """Run one step whether or not it is up to date.

        Waits where the same stage of another interval is running: a scheduler may fill several
        intervals side by side.

        Returns:
            What was done; the decision against it where the step is not due.

        Raises:
            StageError: When a step that it needs has not succeeded for the interval.
        """
        require_writable(self._folders())
        with self._holding(
            f"stage {step.name}", f"stage {step.name} of {interval}", wait_seconds=_STAGE_SECONDS
        ):
            self.history.reload()  # others may have done something meanwhile
            self._require(step, interval)
            decision = self._decide(self.planner(interval), step, interval)
            if not decision.is_due:
                self._progress(f"{step.name}: {decision.reason}")
                self._write_receipt(step.name, interval, decision.reason)
                return decision
            self._progress(f"{step.name}: {step.summary} ...")
            run = self._execute(step, interval, decision)
        self._progress(f"{step.name}: {run.message}  ({run.seconds:.1f} s)")
        return run

    def _decide(self, planner: Planner, step: Step, interval: Interval) -> Decision:
        """Whether a step runs; an error says how to go on."""
        try:
            return planner.decide(step)
        except SextantError as error:
            error.next_command = error.next_command or self._project.command("run", interval)
            raise

    def _require(self, step: Step, interval: Interval) -> None:
        """Make sure that what a step needs has succeeded."""
        for name in step.required:
            if self.history.last_success(name, interval) is None:
                raise StageError(
                    f"Stage `{step.name}` needs `{name}`, which has not succeeded for the "
                    f"interval that ends at {interval.end_text}.",
                    next_command=self._project.command("stage", interval, name),
                )

    @contextmanager
    def _holding(self, what: str, holder: str, wait_seconds: float = 0.0) -> Iterator[None]:
        """Be the only one on this machine who does something to the lake, and prove it at commits.

        A run holds a lock of its own, and as each stage the stage's; so runs, and tasks that run
        single stages, keep out of each other's way.
        """
        folder = self.lake.folder
        if folder is None:
            yield
            return
        with hold(
            folder / ".locks" / f"{what}.lock",
            holder,
            wait_seconds=wait_seconds,
            lease=lease_seconds(),
            progress=self._progress if wait_seconds else None,
        ) as claim:
            self._claims.append(claim)
            self.engines.show(claim)
            try:
                yield
            finally:
                self._claims.remove(claim)

    def _folders(self) -> dict[str, Path]:
        """Every local folder that a run writes to, by the option that names it."""
        found = {"environment.reports": self._project.reports}
        if self.lake.folder is not None:
            found["environment.lake"] = self.lake.folder
        if not self._project.tracking_uri.startswith("http"):  # else a server keeps the files
            found["environment.mlflow.artifacts"] = Path(self._project.artifacts)
        return found

    def _execute(self, step: Step, interval: Interval, decision: Decision) -> StageRun:
        context = StageContext(
            self._project,
            step,
            interval,
            self.lake,
            self.history,
            self.engines,
            decision.fingerprint,
            lambda line: self._progress(f"    {line}"),
            decision.inputs,
        )
        resume = self._project.command("run", interval)
        started_at, start = datetime.now(UTC), time.monotonic()
        usage = Usage()

        def record(status: str, result: StageResult) -> StageRun:
            seconds = time.monotonic() - start
            with explained(self.lake.location):
                return self._record(context, decision, status, started_at, seconds, usage, result)

        # Without a record of the attempt, one that is killed after its commit would leave rows
        # that the last success knows nothing of, and the planner would take them for its own.
        record("started", StageResult(""))
        try:
            with usage:
                result = stages.function(step.kind)(context)
        except FencedError:
            raise  # What is recorded now is another attempt's business.
        except SextantError as error:
            error.next_command = error.next_command or resume
            with suppress(StageError):  # a full disk takes no record either; the first error counts
                record("failed", StageResult(str(error), detail=error.detail))
            raise
        except Exception as error:
            with suppress(StageError):
                record("failed", StageResult(f"{type(error).__name__}: {error}"))
            raise StageError(
                f"Stage `{step.name}` failed for the interval that ends at {interval.end_text}.\n"
                f"{explain(error, self.lake.location) or _explain(error)}",
                next_command=resume,
            ) from error
        return record("succeeded", result)

    def _record(
        self,
        context: StageContext,
        decision: Decision,
        status: str,
        started_at: datetime,
        seconds: float,
        usage: Usage,
        result: StageResult,
    ) -> StageRun:
        run = StageRun(
            run_id=context.run_id,
            pipeline=self._project.pipeline.pipeline,
            stage=context.step.name,
            interval_start=context.interval.start,
            interval_end=context.interval.end,
            status=status,
            fingerprint=decision.fingerprint,
            started_at=started_at,
            seconds=round(seconds, 3),
            peak_memory_mb=round(usage.peak_mb, 1),
            cpu_seconds=round(usage.cpu_seconds, 3),
            rows_in=result.rows_in,
            rows_out=result.rows_out,
            tables_in=context.tables_in,
            tables_out=context.tables_out,
            spec_hash=self._project.spec_hash,
            commit=commit(),
            message=result.message,
            digest=result.digest,
            covers_start=result.covers_start,
            detail=result.detail,
        )
        self.history.record(run)
        if status == "succeeded":
            content = [run.digest, run.detail.get("dimensions")] if run.digest else run.fingerprint
            self._write_receipt(run.stage, context.interval, content)
        return run

    def _write_receipt(self, stage: str, interval: Interval, content: object) -> None:
        """One small file a stage, the same for the same result: what DVC watches."""
        if self.lake.folder is None:
            return
        receipt = self.lake.folder / "receipts" / f"{stage}.json"
        receipt.parent.mkdir(parents=True, exist_ok=True)
        found = {
            "stage": stage,
            "interval_end": interval.end.isoformat(),
            "result": digest(content),
        }
        _replace(receipt, json.dumps(found) + "\n")


def _replace(file: Path, text: str) -> None:
    """Write a file so that whoever reads it finds all of it, or what it was before."""
    part = file.with_suffix(".part")
    part.write_text(text)
    part.replace(file)


def _explain(error: BaseException) -> str:
    """The message alone when we wrote it; with the traceback when we did not expect it."""
    text = str(error).strip() or type(error).__name__
    ours = type(error).__module__.split(".")[0] in {"transforms", "training", "pipelines"}
    if ours:
        return text
    return "".join(traceback.format_exception(error)).rstrip() + f"\n{text.splitlines()[0]}"
