"""Airflow: one DAG a pipeline, one task a stage, made from the same steps that run locally.

Reading a spec imports neither Spark nor any model: Airflow does it every few seconds. A task calls
``sextant stage`` for its run's interval (`pipelines.targets.airflow_task`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.environment import Resources
from pipelines.errors import SpecError
from pipelines.graph import Step, select
from pipelines.intervals import parse_every
from pipelines.pool import ENVIRONMENT_VARIABLE, engine_of
from pipelines.project import Project
from pipelines.targets import airflow_task

_FIRST = datetime(2020, 1, 1, tzinfo=UTC)
"""Start of the first interval of a pipeline whose spec names none; with no catching up, any past
moment does."""


def load_dags(root: Path) -> dict[str, Any]:
    """The DAGs of all pipelines of a project's folder by their id.

    A spec that cannot be read becomes a DAG of one task that says what is wrong, so that it is seen
    where its runs are looked for, and no other pipeline suffers.
    """
    found = {}
    for file in sorted((root / "configs" / "pipelines").glob("*.yaml")):
        try:
            project = Project.load(file.stem, root=root, env=airflow_task.environment())
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
        schedule=_timetable(project),
        start_date=schedule.start or _FIRST,
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
    moved = Asset(
        name=f"{name}.moved_champions",
        uri=f"mlflow://{name}/moved_champions",
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
        schedule=[moved],
        start_date=_FIRST,
        max_active_runs=1,
        # It waits for a person; a person who moves a champion should not have to find it first.
        is_paused_upon_creation=False,
        default_args={
            "retries": project.pipeline.schedule.retries,
            "retry_delay": project.pipeline.schedule.retry_after,
            "on_failure_callback": airflow_task.tell_failure,
        },
        tags=["sextant"],
        doc_md=f"Runs when the alias `champion` of a model of `{name}` is moved in MLflow, for the "
        "interval that is served; triggered by hand, the same.",
    ) as dag:
        tasks: dict[str, Any] = {}
        for step in select(project.steps, "candidates,drift,publish,shadow"):
            tasks[step.name] = _task(project, step)
            for one in step.after:
                if one in tasks:
                    tasks[one] >> tasks[step.name]
    return dag


def _task(project: Project, step: Step) -> Any:
    from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
    from airflow.sdk import TriggerRule

    inlets, outlets = _assets(project, step)
    end = project.pipeline.schedule.end
    decides = any(other.condition == step.name for other in project.steps)
    return (BranchPythonOperator if decides else PythonOperator)(
        task_id=step.name,
        python_callable=airflow_task.decide if decides else airflow_task.run_stage,
        op_kwargs={
            "pipeline": project.reference,
            "stage": step.name,
            "root": str(project.root),
            "engine": engine_of(project),
            "until": end and end.isoformat(),
            **({"needs": list(step.required)} if step.optional else {}),
            **({} if step.after else {"in_turn": True}),
        },
        # What is optional may fail; the task itself looks at what it needs.
        trigger_rule=TriggerRule.ALL_DONE if step.optional else TriggerRule.ALL_SUCCESS,
        # Whoever triggers a run, a model is fitted once at a time.
        max_active_tis_per_dag=1,
        inlets=inlets,
        outlets=outlets,
        executor_config=_pod(project, step),
        doc_md=f"{step.summary[:1].upper()}{step.summary[1:]}.",
    )


def _pod(project: Project, step: Step) -> dict[str, Any] | None:
    """The stage's pod: its environment, and what it asks Kubernetes for; None without pods."""
    if project.pipeline.environment.airflow.executor != "KubernetesExecutor":
        return None
    from kubernetes.client import models as k8s

    wanted = project.pipeline.resources
    asked = wanted.get(step.name, wanted.get(step.group, Resources()))
    requests = {} if asked.cpus is None else {"cpu": f"{asked.cpus:g}"}
    limits = {}
    if asked.memory is not None:
        limits["memory"] = f"{asked.memory[:-1]}{asked.memory[-1].upper()}i"
    if asked.gpus is not None:
        limits["nvidia.com/gpu"] = str(asked.gpus)
    container = k8s.V1Container(
        name="base",
        env=[k8s.V1EnvVar(ENVIRONMENT_VARIABLE, project.environment)],
        resources=k8s.V1ResourceRequirements(requests={**requests, **limits}, limits=limits),
    )
    return {"pod_override": k8s.V1Pod(spec=k8s.V1PodSpec(containers=[container]))}


def _assets(project: Project, step: Step) -> tuple[list[Any], list[Any]]:
    """What a step reads and what it writes: tables, and the champions of the registry."""
    from airflow.sdk import Asset

    name = project.pipeline.pipeline

    def asset(store: str, what: str) -> Any:
        return Asset(name=f"{name}.{what}", uri=f"{store}://{name}/{what}", group=name)

    champions = asset("mlflow", "champions")
    inlets = [asset("delta", table) for table in step.reads]
    outlets = [asset("delta", table) for table in step.writes]
    if step.kind in ("evaluate", "candidates"):
        inlets.append(champions)
    if step.kind == "gate":
        outlets.append(champions)
    return inlets, outlets


def _timetable(project: Project) -> Any:
    """Runs at the ends of intervals; a run's data interval is the interval.

    Not a bare cron text: that would make a run's data interval zero-width.

    Raises:
        SpecError: For a number of days that no calendar knows.
    """
    from airflow.sdk import CronDataIntervalTimetable

    every = project.pipeline.schedule.every
    count, unit = parse_every(every)
    cron = {"h": f"0 */{count} * * *", "mo": f"0 0 1 */{count} *"}.get(unit)
    if unit == "d":
        cron = {1: "0 0 * * *", 7: "0 0 * * 1"}.get(count)
    if cron is None:
        cure = "Write 1d, or 7d for weeks that begin on Mondays. `sextant backfill` can do any."
        message = f"Airflow cannot run every {count} days"
        raise SpecError([project.pipeline.problem(("schedule", "every"), message, cure)])
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
            pattern=boundary(every),
            title="End of the interval",
            description=f"Where an interval of {every} ends, UTC. Empty: the run's own interval, "
            "which is the last whole one before the logical date.",
        ),
        "force_training": Param(
            False,
            type="boolean",
            title="Train in any case",
            description="Train the models even if no rule of `retrain` asks for it. A fit that is "
            "registered already is not repeated.",
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


def boundary(every: str) -> str:
    """Pattern of the moments, UTC, at which intervals can end; on which day is asked later.

    A pattern, because no checker of formats is installed with Airflow.
    """
    count, unit = parse_every(every)
    hours = "|".join(f"{hour:02}" for hour in range(0, 24, count if unit == "h" else 24))
    day = "01" if unit == "mo" else r"(0[1-9]|[12]\d|3[01])"
    return rf"^\d{{4}}-(0[1-9]|1[0-2])-{day}T({hours}):00(:00(\.0+)?)?(Z|\+00:00)$"


def _doc(project: Project) -> str:
    run, plan = (f"{project.command(verb, None)} --at END" for verb in ("run", "plan"))
    name = project.pipeline.pipeline
    return (
        f"{project.pipeline.description or name}\n\n"
        f"Made from `configs/pipelines/{project.reference}.yaml`. A run owns the events of its "
        "data interval, `[start, end)`, unless its form names another.\n\n"
        f"- Locally: `{run}`\n"
        f"- What would run: `{plan}`\n"
        f"- Several intervals: `sextant airflow backfill create --dag-id {name} "
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
