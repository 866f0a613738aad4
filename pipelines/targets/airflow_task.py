"""What an Airflow task does: call the command line for its stage and interval, in a warm process.

Imported by every task and by the DAG processor, so it imports nothing heavy itself.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)

from pipelines.alerts import Alert, tell
from pipelines.errors import UsageError
from pipelines.intervals import interval_containing, interval_ending, parse_moment, text
from pipelines.pool import ENVIRONMENT_VARIABLE, Ended, execute
from pipelines.project import Project
from pipelines.records import duration_text

if TYPE_CHECKING:
    from pipelines.state import StageRun

_log = logging.getLogger(__name__)

_TURN = timedelta(seconds=30)
"""How long a run waits before it looks again whether it is its turn."""


class NotReachedError(AirflowFailException):
    """A stage did not begin because one that it needs failed in the same run."""


def environment() -> str:
    """Name of the environment that this Airflow runs pipelines in."""
    return os.environ.get(ENVIRONMENT_VARIABLE, "local")


def run_stage(
    pipeline: str,
    stage: str,
    root: str,
    engine: str,
    until: str | None,
    needs: Sequence[str] = (),
    in_turn: bool = False,
    **context: Any,
) -> dict[str, Any]:
    """Run one stage for the run's interval.

    Args:
        pipeline: The pipeline's name.
        stage: The stage's.
        root: The project's folder.
        engine: Which Spark the stage needs, see `pipelines.pool.engine_of`.
        until: End of the last interval that the schedule runs. Not the end of the DAG: Airflow
            would leave out all tasks of a run that a person triggers later.
        needs: Stages that must have succeeded in this run, where Airflow itself starts the task
            however they ended.
        in_turn: Whether to wait until the run of the interval before has ended.
        context: Airflow's.

    Returns:
        Its record, as JSON values: message, rows, seconds, and what it found.

    Raises:
        AirflowSkipException: When it is not due, or the run is a dry one.
        AirflowRescheduleException: When it is not its run's turn yet.
        AirflowFailException: When trying again cannot help: a wrong spec or interval, data that
            broke a contract.
        AirflowException: When it failed otherwise.
    """
    if in_turn:
        wait_for_turn(pipeline, root, context)
    end = interval_end(pipeline, Path(root), context)
    if until and context["dag_run"].run_type == "scheduled" and end > datetime.fromisoformat(until):
        raise AirflowSkipException(f"The schedule ends with the interval that ends at {until}.")
    at = text(end)
    params = context["params"]
    options = [*_options(params), "--at", at, "--env", environment()]
    if params.get("dry_run"):
        ended = _execute(["plan", pipeline, "--select", stage, *options], root, engine)
        raise AirflowSkipException(f"Dry run.\n{ended.output}{ended.errors}")
    require(needs, context)
    ended = _execute(["stage", pipeline, stage, "--json", *options], root, engine)
    # Without an answer it was killed, or it failed in a way that nobody thought of.
    found: dict[str, Any] = json.loads(ended.output) if ended.output else {}
    if ended.code:
        _log.error(
            "Clear this task to repeat it, or: %s", _again(pipeline, stage, root, at, params)
        )
        message = found.get("message") or ended.errors.strip() or f"It ended with {ended.code}."
        raise (AirflowFailException if ended.code in (2, 3) else AirflowException)(message)
    if found["status"] == "not due":
        raise AirflowSkipException(found["message"])
    _log.info(found["message"])
    return found


def wait_for_turn(pipeline: str, root: str, context: Mapping[str, Any]) -> None:
    """Let the run of the interval before end first, however it ends.

    What an interval trains, and whom it serves, depends on the trainings, the champions and the
    drift of the one before. `max_active_runs` of the DAG is not enough: a backfill takes its own
    number instead, 10 where nobody gives one.

    Raises:
        AirflowRescheduleException: While that run is on its way. It holds no worker meanwhile.
    """
    run = context["dag_run"]
    if run.run_type not in ("scheduled", "backfill"):
        return
    every = _project(pipeline, Path(root)).pipeline.schedule.every
    before = interval_ending(run.data_interval_start, every)
    if context["ti"].get_dr_count(
        dag_id=run.dag_id, logical_dates=[before.start], states=["running"]
    ):
        _log.info("The run of %s is on its way; this one looks again soon.", before)
        raise AirflowRescheduleException(datetime.now(UTC) + _TURN)  # type: ignore[no-untyped-call]


def decide(
    pipeline: str, stage: str, root: str, engine: str, until: str | None, **context: Any
) -> list[str]:
    """Run the stage that decides; the branch goes to the trainings that are due."""
    found = run_stage(pipeline, stage, root, engine, until, **context)
    context["ti"].xcom_push("reasons", {**found["detail"]["due"], **found["detail"]["not_due"]})
    return list(found["detail"]["due"])


def interval_end(pipeline: str, root: Path, context: Mapping[str, Any]) -> datetime:
    """End of the interval that a DAG run owns.

    A scheduled or backfilled run owns its data interval. One that a person triggers owns the
    interval that its form names; else its data interval, which Airflow takes from the logical date;
    without that, the last whole interval before the run was asked for. A run of candidates alone
    owns the interval that was served when champions were moved, or else is served now.

    Raises:
        AirflowFailException: When the form names no moment, or nothing is served yet.
    """
    run = context["dag_run"]
    for events in (context.get("triggering_asset_events") or {}).values():
        return datetime.fromisoformat(events[-1].extra["payload"]["interval_end"])
    if "interval_end" not in context["params"]:
        newest = served(_project(pipeline, root))
        if newest is None:
            raise AirflowFailException(f"There are no candidates yet: run the DAG `{pipeline}`.")
        return newest.interval_end
    named = context["params"]["interval_end"]
    if named and run.run_type in ("manual", "operator_triggered"):
        try:
            return parse_moment(named)
        except UsageError as error:
            raise AirflowFailException(str(error)) from None
    if run.data_interval_end is not None:
        end: datetime = run.data_interval_end
        return end
    every = _project(pipeline, root).pipeline.schedule.every
    return interval_containing(run.run_after, every).start


def served(project: Project) -> StageRun | None:
    """The run that made the candidates of the newest interval; None before there is one."""
    from pipelines.lake import Lake
    from pipelines.state import RunHistory

    lake = Lake(project.location(project.pipeline.environment.lake), project.pipeline.pipeline)
    return RunHistory(lake).newest_success("candidates")


def refuse(message: str) -> None:
    """Fail with the message of a spec that cannot be read."""
    raise AirflowFailException(message)


def tell_failure(context: Mapping[str, Any]) -> None:
    """Tell the targets of the spec what failed for good; not what could not begin because of it."""
    error = context.get("exception")
    if isinstance(error, NotReachedError):
        return
    task = context["task"]
    pipeline, root = task.op_kwargs["pipeline"], task.op_kwargs["root"]
    try:
        at = text(interval_end(pipeline, Path(root), context))
    except AirflowFailException:  # which is what failed
        at = ""
    project = _project(pipeline, Path(root))
    alert = Alert(
        kind="failed",
        pipeline=project.pipeline.pipeline,
        stage=task.task_id,
        interval_end=at,
        message=str(error or "It was killed; see its log."),
        next_command=_again(pipeline, task.task_id, root, at, context["params"]),
    )
    tell(alert, project.pipeline.alerts)


def tell_late(pipeline: str, root: str, context: Mapping[str, Any]) -> None:
    """Tell the targets of the spec that a run takes longer than it should.

    Runs of a backfill are queued all at once, and wait for each other as they should.
    """
    run = context["dag_run"]
    if run["run_type"] == "backfill":
        return
    project = _project(pipeline, Path(root))
    limit = project.pipeline.schedule.deadline
    assert limit is not None, "without a limit no run is late"
    alert = Alert(
        kind="late",
        pipeline=project.pipeline.pipeline,
        stage="",
        interval_end="",
        message=f"The run {run['dag_run_id']} has waited or run for more than "
        f"{duration_text(limit)} and is not done.",
        next_command=project.command("report", None),
    )
    tell(alert, project.pipeline.alerts)


def _execute(arguments: Sequence[str], root: str, engine: str) -> Ended:
    return execute(arguments, Path(root), _log.info, engine)


def require(needs: Sequence[str], context: Mapping[str, Any]) -> None:
    """Make sure that stages have succeeded in this run.

    Raises:
        NotReachedError: When one has not; trying again cannot help.
    """
    run = context["dag_run"]
    if not needs:
        return
    states = context["ti"].get_task_states(
        dag_id=run.dag_id, task_ids=list(needs), run_ids=[run.run_id]
    )[run.run_id]
    for name in needs:
        if states.get(name) != "success":
            raise NotReachedError(f"It needs `{name}`, which has not succeeded in this run.")


def _project(pipeline: str, root: Path) -> Project:
    return Project.load(pipeline, root=root, env=environment())


def _options(params: Mapping[str, Any]) -> list[str]:
    options = []
    if params.get("force_training"):
        options += ["--set", "retrain.force=true"]
    if params.get("models"):
        options += ["--set", f"retrain.models=[{', '.join(params['models'])}]"]
    return options


def _again(pipeline: str, stage: str, root: str, at: str, params: Mapping[str, Any]) -> str:
    """The command that repeats a stage."""
    end = ["--at", at] if at else []
    return _project(pipeline, Path(root)).command("stage", None, stage, *end, *_options(params))
