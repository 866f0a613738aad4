"""What an Airflow task does: call the command line for its stage and interval, in a warm process.

Imported by every task and by the DAG processor, so it imports nothing heavy itself.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.alerts import Alert, tell
from pipelines.intervals import interval_containing, text
from pipelines.pool import execute
from pipelines.records import duration_text

if TYPE_CHECKING:
    from pipelines.project import Project

_log = logging.getLogger(__name__)
_ENVIRONMENT = "SEXTANT_ENVIRONMENT"


def environment() -> str:
    """Name of the environment that this Airflow runs pipelines in."""
    return os.environ.get(_ENVIRONMENT, "local")


def run_stage(pipeline: str, stage: str, root: str, **context: Any) -> dict[str, Any]:
    """Run one stage for the run's interval.

    Returns:
        Its record, as JSON values: message, rows, seconds, and what it found.

    Raises:
        AirflowSkipException: When it is not due, or the run is a dry one.
        AirflowException: When it failed; with its message and the command that repeats it.
    """
    from airflow.sdk.exceptions import AirflowException, AirflowSkipException

    at = text(interval_end(pipeline, Path(root), context))
    params = context["params"]
    options = [*_options(params), "--at", at, "--env", environment()]
    if params["dry_run"]:
        ended = execute(["plan", pipeline, "--select", stage, *options], Path(root), _log.info)
        raise AirflowSkipException(f"Dry run.\n{ended.output}{ended.errors}")
    ended = execute(["stage", pipeline, stage, "--json", *options], Path(root), _log.info)
    if ended.code:
        raise AirflowException(ended.errors.strip() or f"`sextant stage` ended with {ended.code}.")
    found: dict[str, Any] = json.loads(ended.output)
    if found["status"] == "not due":
        raise AirflowSkipException(found["message"])
    _log.info(found["message"])
    return found


def decide(pipeline: str, stage: str, root: str, **context: Any) -> list[str]:
    """Run the stage that decides; the branch goes to the trainings that are due."""
    found = run_stage(pipeline, stage, root, **context)
    context["ti"].xcom_push("reasons", {**found["detail"]["due"], **found["detail"]["not_due"]})
    return list(found["detail"]["due"])


def interval_end(pipeline: str, root: Path, context: Mapping[str, Any]) -> datetime:
    """End of the interval that a DAG run owns.

    A scheduled or backfilled run owns its data interval. One that a person triggers owns the
    interval that its form names; else its data interval, which Airflow takes from the logical date;
    without that, the last whole interval before the run was asked for. A run that moved champions
    have triggered owns the newest interval that has candidates.
    """
    run = context["dag_run"]
    named = context["params"]["interval_end"]
    if run.run_type == "manual" and named:
        return datetime.fromisoformat(named)
    if run.data_interval_end is not None:
        end: datetime = run.data_interval_end
        return end
    if run.run_type == "asset_triggered":
        return _newest(pipeline, root)
    every = _project(pipeline, root).pipeline.schedule.every
    return interval_containing(run.run_after, every).start


def _newest(pipeline: str, root: Path) -> datetime:
    from pipelines.lake import Lake
    from pipelines.state import RunHistory

    project = _project(pipeline, root)
    lake = Lake(project.location(project.pipeline.environment.lake), project.pipeline.pipeline)
    served = RunHistory(lake).newest_success("candidates")
    assert served is not None, "without candidates nothing triggers this"
    return served.interval_end


def refuse(message: str) -> None:
    """Fail with the message of a spec that cannot be read."""
    from airflow.sdk.exceptions import AirflowFailException

    raise AirflowFailException(message)


def tell_failure(context: Mapping[str, Any]) -> None:
    """Tell the targets of the spec what failed for good."""
    task = context["task"]
    pipeline, root = task.op_kwargs["pipeline"], Path(task.op_kwargs["root"])
    at = text(interval_end(pipeline, root, context))
    project = _project(pipeline, root)
    alert = Alert(
        kind="failed",
        pipeline=project.pipeline.pipeline,
        stage=task.task_id,
        interval_end=at,
        message=str(context.get("exception") or "It was killed; see its log."),
        next_command=f"sextant stage {pipeline} {task.task_id} --at {at}",
    )
    tell(alert, project.pipeline.alerts)


def tell_late(pipeline: str, root: str, **context: Any) -> None:
    """Tell the targets of the spec that a run takes longer than it should."""
    project = _project(pipeline, Path(root))
    limit = project.pipeline.schedule.deadline
    assert limit is not None, "without a limit no run is late"
    alert = Alert(
        kind="late",
        pipeline=project.pipeline.pipeline,
        stage="",
        interval_end="",
        message=f"The run {context['dag_run']['run_id']} has taken more than "
        f"{duration_text(limit)} and is not done.",
        next_command=f"sextant report {pipeline}",
    )
    tell(alert, project.pipeline.alerts)


def _project(pipeline: str, root: Path) -> Project:
    from pipelines.project import Project

    return Project.load(pipeline, root=root, env=environment())


def _options(params: Mapping[str, Any]) -> list[str]:
    options = []
    if params["force_training"]:
        options += ["--set", "retrain.force=true"]
    if params["models"]:
        options += ["--set", f"retrain.models=[{', '.join(params['models'])}]"]
    return options
