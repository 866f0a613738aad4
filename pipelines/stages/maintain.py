"""Keep the tables small: few files each, and no older state than anybody asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pipelines.context import StageContext, StageResult
from pipelines.graph import STATE_ROWS
from pipelines.intervals import interval_containing
from pipelines.sections import Maintenance
from pipelines.stages.publish import served_interval
from pipelines.stages.train import registry

_LOGS = ("runs", "metrics", "decisions")
"""Tables that no single step writes."""

_VACUUM_EVERY = timedelta(days=1)


def run(context: StageContext) -> StageResult:
    """Merge small files, and drop intervals, models and files that are no longer kept.

    What is dropped are the rows of tables that each interval writes anew; a run for an interval
    makes them again. Events, what was set aside and the run record stay.
    """
    options = context.project.pipeline.maintenance
    lake = context.lake
    vacuum = _vacuum_is_due(context)
    derived = {table for step in context.project.steps for table in step.interval_tables}
    merged = dropped = removed = 0
    for table in _tables(context):
        if lake.version(table) is None:
            continue
        if table in derived:
            dropped += _drop_old(context, table, options)
        merged += lake.compact(table, options.files)
        if vacuum:
            removed += lake.vacuum(table, options.versions)
    pruned = _prune(context, options.model_versions)
    return StageResult(
        f"{merged:,} small files merged, {dropped:,} old rows dropped, "
        f"{removed:,} unreferenced files and {len(pruned):,} old models removed",
        detail={
            "merged": merged,
            "dropped": dropped,
            "removed": removed,
            "vacuumed": vacuum,
            "pruned": pruned,
        },
    )


def _prune(context: StageContext, keep: int) -> list[str]:
    """Delete old versions of models, but none whose lists are served."""
    served = served_interval(context)
    named: dict[str, str] = {}
    for run in context.history.runs:
        if (run.stage, run.status, run.interval_end) == ("candidates", "succeeded", served):
            named = run.detail["versions"]
    models = registry(context.project)
    return [
        f"{name} {version}"
        for name in context.project.models
        for version in models.prune(
            context.project.registered_name(name), keep, [named[name]] if name in named else []
        )
    ]


def _tables(context: StageContext) -> list[str]:
    written = [table for step in context.project.steps for table in step.writes]
    return list(dict.fromkeys([*written, *_LOGS]))


def _drop_old(context: StageContext, table: str, options: Maintenance) -> int:
    newest = context.lake.newest_interval(table)
    if newest is None:
        return 0
    first = _first_kept(context, table, newest, options)
    return context.lake.drop_before(table, first, where=STATE_ROWS.get(table))


def _first_kept(
    context: StageContext, table: str, newest: datetime, options: Maintenance
) -> datetime:
    """The end of the oldest interval whose rows are kept."""
    pipeline = context.project.pipeline
    end = newest
    if table == "examples":
        # Each row belongs to its event's interval, and training reads a whole window of them.
        end = newest - pipeline.features.training_window
    for _ in range(options.intervals - 1):
        end = interval_containing(end - timedelta(microseconds=1), pipeline.schedule.every).start
    return end


def _vacuum_is_due(context: StageContext) -> bool:
    """Whether a day has passed since the last time: listing all files is slow on object stores."""
    done = [
        run.started_at
        for run in context.history.runs
        if run.stage == context.step.name
        and run.status == "succeeded"
        and run.detail.get("vacuumed")
    ]
    return not done or datetime.now(UTC) - max(done) >= _VACUUM_EVERY
