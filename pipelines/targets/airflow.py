"""Airflow: one DAG a pipeline, one task a stage, made from the same steps that run locally.

Reading a spec imports neither Spark nor any model: Airflow does it every few seconds. A task calls
``sextant stage`` for its run's interval (`pipelines.targets.airflow_task`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.errors import SpecError
from pipelines.graph import Step, select
from pipelines.intervals import parse_every
from pipelines.project import Project, find_root
from pipelines.targets import airflow_task

_FIRST = datetime(2020, 1, 1, tzinfo=UTC)
"""Start of the first interval of a pipeline whose spec names none; with no catching up, any past
moment does."""


def load_dags(root: Path | None = None, env: str | None = None) -> dict[str, Any]:
    """The DAGs of all pipelines by their id.

    A spec that cannot be read becomes a DAG of one task that says what is wrong, so that it is seen
    where its runs are looked for, and no other pipeline suffers.
    """
    root = root or find_root()
    found = {}
    for file in sorted((root / "configs" / "pipelines").glob("*.yaml")):
        try:
            project = Project.load(file.stem, root=root, env=env or airflow_task.environment())
            dags = [dag_of(project), candidates_dag_of(project)]
        except SpecError as error:
            dags = [_broken(file.stem, str(error))]
        found.update({dag.dag_id: dag for dag in dags})
    return found


def dag_of(project: Project) -> Any:
    """The DAG of one pipeline."""
    from airflow.sdk import DAG, TaskGroup

    pipeline = project.pipeline
    schedule = pipeline.schedule
    with DAG(
        pipeline.pipeline,
        description=pipeline.description or None,
        schedule=_timetable(schedule.every),
        start_date=schedule.start or _FIRST,
        end_date=_last_start(project),
        catchup=False,
        max_active_runs=1,
        deadline=_deadline(project),
        params=_params(project),
        default_args={
            "retries": schedule.retries,
            "retry_delay": schedule.retry_after,
            "on_failure_callback": airflow_task.tell_failure,
        },
        tags=["sextant"],
        doc_md=_doc(project),
    ) as dag:
        groups: dict[str, Any] = {}
        tasks: dict[str, Any] = {}
        for step in project.steps:
            if step.group not in groups:
                groups[step.group] = TaskGroup(step.group, prefix_group_id=False)
            with groups[step.group]:
                tasks[step.name] = _task(project, step)
            for name in step.after:
                tasks[name] >> tasks[step.name]
    return dag


def candidates_dag_of(project: Project) -> Any:
    """The DAG that makes the served candidates anew when a person moves a champion in MLflow."""
    from airflow.sdk import DAG, Asset, AssetWatcher

    from pipelines.targets.airflow_champion import ChampionTrigger

    name = project.pipeline.pipeline
    champions = Asset(
        name=f"{name}.champions",
        uri=f"mlflow://{name}/champions",
        group=name,
        watchers=[
            AssetWatcher(
                name=f"{name}_champions",
                trigger=ChampionTrigger(project.reference, str(project.root)),
            )
        ],
    )
    with DAG(
        f"{name}_candidates",
        description=f"Candidates of {name} from champions that a person chose",
        schedule=[champions],
        start_date=_FIRST,
        max_active_runs=1,
        params={"force_training": False, "models": [], "dry_run": False, "interval_end": None},
        default_args={
            "retries": project.pipeline.schedule.retries,
            "retry_delay": project.pipeline.schedule.retry_after,
            "on_failure_callback": airflow_task.tell_failure,
        },
        tags=["sextant"],
        doc_md=f"Runs when the alias `champion` of a model of `{name}` is moved in MLflow, for the "
        "newest interval that has candidates.",
    ) as dag:
        tasks: dict[str, Any] = {}
        for step in select(project.steps, "candidates,drift,publish"):
            tasks[step.name] = _task(project, step)
            for one in step.after:
                if one in tasks:
                    tasks[one] >> tasks[step.name]
    return dag


def _task(project: Project, step: Step) -> Any:
    from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
    from airflow.sdk import TriggerRule

    decides = any(other.condition == step.name for other in project.steps)
    return (BranchPythonOperator if decides else PythonOperator)(
        task_id=step.name,
        python_callable=airflow_task.decide if decides else airflow_task.run_stage,
        op_kwargs={
            "pipeline": project.reference,
            "stage": step.name,
            "root": str(project.root),
        },
        trigger_rule=TriggerRule.ALL_DONE if step.optional else TriggerRule.ALL_SUCCESS,
        # Whoever triggers a run, a model is fitted once at a time.
        max_active_tis_per_dag=1,
        inlets=[_asset(project, table) for table in step.reads],
        outlets=[_asset(project, table) for table in step.writes],
        doc_md=f"{step.summary[:1].upper()}{step.summary[1:]}.",
    )


def _asset(project: Project, table: str) -> Any:
    from airflow.sdk import Asset

    name = project.pipeline.pipeline
    return Asset(name=f"{name}.{table}", uri=f"delta://{name}/{table}", group=name)


def _timetable(every: str) -> Any:
    """Runs at the ends of intervals; a run's data interval is the interval.

    Not a bare cron text: that would make a run's data interval zero-width.
    """
    from airflow.sdk import CronDataIntervalTimetable

    count, unit = parse_every(every)
    if unit == "h":
        cron = f"0 */{count} * * *"
    elif unit == "mo":
        cron = f"0 0 1 */{count} *"
    elif count == 1:
        cron = "0 0 * * *"
    else:  # days counted from a Monday, which cron cannot say unless they are weeks
        from airflow.timetables.interval import DeltaDataIntervalTimetable

        return DeltaDataIntervalTimetable(timedelta(days=count))
    return CronDataIntervalTimetable(cron, timezone="UTC")


def _deadline(project: Project) -> Any:
    """News of a run that takes too long; None where the spec sets no limit."""
    from airflow.sdk.definitions.callback import SyncCallback
    from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

    limit = project.pipeline.schedule.deadline
    if limit is None:
        return None
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=limit,
        callback=SyncCallback(
            airflow_task.tell_late, {"pipeline": project.reference, "root": str(project.root)}
        ),
    )


def _last_start(project: Project) -> datetime | None:
    """Start of the last interval: Airflow ends by the start of a run's interval."""
    from pipelines.intervals import interval_ending

    schedule = project.pipeline.schedule
    return schedule.end and interval_ending(schedule.end, schedule.every).start


def _params(project: Project) -> dict[str, Any]:
    """The form of `Trigger DAG`."""
    from airflow.sdk import Param

    end = project.pipeline.schedule.end
    every = project.pipeline.schedule.every
    return {
        "interval_end": Param(
            end and end.isoformat(),
            type=["null", "string"],
            format="date-time",
            title="End of the interval",
            description=f"Where an interval of {every} ends, UTC. Empty: the run's own interval, "
            "which is the last whole one before the logical date.",
        ),
        "force_training": Param(
            False,
            type="boolean",
            title="Train in any case",
            description="Train the models even if no rule of `retrain` asks for it.",
        ),
        "models": Param(
            [],
            type="array",
            items={"type": "string", "enum": list(project.models)},
            examples=list(project.models),
            title="Models",
            description="Those that may be trained in this run. Empty: all.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Only log what would run, and why; change nothing.",
        ),
    }


def _doc(project: Project) -> str:
    reference = project.reference
    return (
        f"{project.pipeline.description or project.pipeline.pipeline}\n\n"
        f"Made from `configs/pipelines/{reference}.yaml`. A run owns the events of its data "
        "interval, `[start, end)`.\n\n"
        f"- Locally: `sextant run {reference} --at END`\n"
        f"- What would run: `sextant plan {reference} --at END`\n"
        f"- Several intervals: `airflow backfill create --dag-id {project.pipeline.pipeline} "
        "--from-date START --to-date START_OF_LAST --max-active-runs 1`\n"
    )


def _broken(name: str, message: str) -> Any:
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.sdk import DAG

    text = f"configs/pipelines/{name}.yaml cannot be read.\n\n{message}"
    with DAG(
        name,
        dag_display_name=f"{name} (its spec is broken)",
        description=message.splitlines()[0],
        schedule=None,
        start_date=_FIRST,
        tags=["sextant", "broken"],
        doc_md=f"```\n{text}\n```\n\nNext: `sextant lint {name}`",
    ) as dag:
        PythonOperator(
            task_id="read_spec",
            python_callable=partial(airflow_task.refuse, text),
            retries=0,
        )
    return dag
