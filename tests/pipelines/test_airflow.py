"""The DAGs that Airflow makes of specs: the same steps, quickly read, the same every time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from shop_world import REPOSITORY, environment

pytestmark = pytest.mark.slow

READ = """
import json, sys
from airflow.sdk import DAG
from pipelines.targets.airflow import load_dags
from pathlib import Path
dags = load_dags(Path(sys.argv[1]))
heavy = [name for name in ("pyspark", "torch", "ray", "mlflow") if name in sys.modules]
# The hash by which Airflow tells whether a DAG has changed.
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization
print(json.dumps({
    "heavy": heavy,
    "tasks": {name: {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks}
              for name, dag in dags.items()},
    "retries": {name: {task.task_id: [task.retries, task.retry_delay.total_seconds()]
                       for task in dag.tasks} for name, dag in dags.items()},
    "timetables": {name: DagSerialization.to_dict(dag)["dag"]["timetable"]
                   for name, dag in dags.items()},
    "names": {name: dag.dag_display_name for name, dag in dags.items()},
    "docs": {name: dag.doc_md for name, dag in dags.items()},
    "needs": {name: {task.task_id: task.op_kwargs["needs"]
                     for task in dag.tasks if "needs" in task.op_kwargs}
              for name, dag in dags.items()},
    "pods": {name: {task.task_id: task.executor_config["pod_override"].spec.containers[0].to_dict()
                    for task in dag.tasks if task.executor_config}
             for name, dag in dags.items()},
    "ends": {name: [str(dag.end_date), sorted({task.op_kwargs["until"] for task in dag.tasks})]
             for name, dag in dags.items() if dag.tasks[0].op_kwargs},
    "hashes": {name: SerializedDagModel.hash(DagSerialization.to_dict(dag))
               for name, dag in dags.items()},
}))
"""


def read(root: Path, seed: int = 0, **variables: str) -> dict[str, dict[str, Any]]:
    """The DAGs of a project folder, read by a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(root)],
        capture_output=True,
        text=True,
        check=True,
        env={
            **environment(),
            "PYTHONHASHSEED": str(seed),
            "AIRFLOW_HOME": str(root / ".airflow"),
            "MOVIELENS": "/nowhere",
            **variables,
        },
    )
    return json.loads(done.stdout.splitlines()[-1])


DAILY, WEEKLY, ODD, BROKEN = "daily", "weekly", "odd", "broken"
VARIANTS = {
    DAILY: ("every: 6h", "every: 1d"),
    WEEKLY: ("every: 6h", "every: 7d"),
    ODD: ('every: 6h, start: "2026-01-05T00:00Z", end: "2026-02-02T00:00Z"', "every: 3d"),
    BROKEN: ("models:", "modles:"),
}
"""What each spec beside the demo's writes in place of what."""


def with_demo(root: Path) -> Path:
    """A project folder with the demo's spec."""
    for folder in ("configs", "data_contracts", "dags"):
        shutil.copytree(REPOSITORY / folder, root / folder)
    for file in (root / "configs" / "pipelines").glob("*.yaml"):
        if file.stem != "demo":
            file.unlink()
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return with_demo(tmp_path)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The DAGs of the demo and its variants, read once: most of that is Airflow's start."""
    root = with_demo(tmp_path_factory.mktemp("variants"))
    pipelines = root / "configs" / "pipelines"
    demo = (pipelines / "demo.yaml").read_text()
    for name, (old, new) in VARIANTS.items():
        assert old in demo
        text = demo.replace(old, new).replace("pipeline: demo", f"pipeline: {name}")
        (pipelines / f"{name}.yaml").write_text(text)
    return read(root)


def test_a_dag_has_the_steps_of_its_spec(found: dict[str, dict[str, Any]]) -> None:
    from pipelines.project import Project

    steps = Project.load("demo", root=REPOSITORY).steps
    assert found["tasks"]["demo"] == {step.name: sorted(step.after) for step in steps}


def test_judging_waits_for_trainings_however_they_end_but_not_for_a_failed_decision(
    found: dict[str, dict[str, Any]],
) -> None:
    from pipelines.targets.airflow_task import NotReachedError, require

    needs = found["needs"]["demo"]
    assert needs == {
        "evaluate": ["examples", "graph_edges", "modalities", "decide"],
        "maintain": ["publish"],
    }

    def context(**states: str) -> dict[str, Any]:
        run = SimpleNamespace(dag_id="demo", run_id="r")
        ends = dict.fromkeys(needs["evaluate"], "success") | states
        task = SimpleNamespace(get_task_states=lambda **_: {"r": ends})
        return {"dag_run": run, "ti": task}

    require(needs["evaluate"], context(train_gnn="failed"))
    with pytest.raises(NotReachedError, match="needs `decide`, which has not"):
        require(needs["evaluate"], context(decide="failed"))


@pytest.mark.parametrize("running", [0, 1])
def test_a_run_waits_for_that_of_the_interval_before(root: Path, running: int) -> None:
    from airflow.sdk.exceptions import AirflowRescheduleException

    from pipelines.targets.airflow_task import wait_for_turn

    start = datetime(2026, 2, 1, 6, tzinfo=UTC)
    asked: list[dict[str, object]] = []

    def count(**keywords: object) -> int:
        asked.append(keywords)
        return running

    run = SimpleNamespace(dag_id="demo", run_type="backfill", data_interval_start=start)
    context = {"dag_run": run, "ti": SimpleNamespace(get_dr_count=count)}
    with pytest.raises(AirflowRescheduleException) if running else nullcontext():
        wait_for_turn("demo", str(root), context)
    before = start - timedelta(hours=6)
    assert asked == [{"dag_id": "demo", "logical_dates": [before], "states": ["running"]}]
    run.run_type = "manual"
    wait_for_turn("demo", str(root), context)


@pytest.mark.parametrize(
    ("every", "moment", "taken"),
    [
        ("6h", "2026-02-01T06:00Z", True),
        ("6h", "2026-02-01T06:00:00+00:00", True),
        ("6h", "2026-02-01T18:00:00.000Z", True),
        ("6h", "2026-02-01T07:00Z", False),
        ("6h", "2026-02-01T06:30Z", False),
        ("6h", "2026-99-01T06:00Z", False),
        ("6h", "2026-02-32T06:00Z", False),
        ("6h", "2026-02-01T06:00+01:00", False),
        ("6h", "2026-02-01", False),
        ("1d", "2026-02-01T00:00Z", True),
        ("1d", "2026-02-01T06:00Z", False),
        ("1mo", "2026-02-01T00:00Z", True),
        ("1mo", "2026-02-02T00:00Z", False),
    ],
)
def test_the_form_takes_ends_of_intervals_alone(every: str, moment: str, taken: bool) -> None:
    from pipelines.targets.airflow import boundary

    assert bool(re.search(boundary(every), moment)) == taken


def test_a_run_owns_six_hours_and_is_tried_again_after_thirty_minutes(
    found: dict[str, dict[str, Any]],
) -> None:
    timetable = found["timetables"]["demo"]
    assert timetable["__type"].endswith("CronDataIntervalTimetable")
    assert timetable["__var"]["expression"] == "0 */6 * * *"
    assert set(map(tuple, found["retries"]["demo"].values())) == {(2, 1800.0)}


@pytest.mark.parametrize(("name", "cron"), [(DAILY, "0 0 * * *"), (WEEKLY, "0 0 * * 1")])
def test_days_and_weeks_are_those_of_the_calendar(
    found: dict[str, dict[str, Any]], name: str, cron: str
) -> None:
    assert found["timetables"][name]["__var"]["expression"] == cron


def test_a_moved_champion_is_served_and_challengers_are_held_against_it(
    found: dict[str, dict[str, Any]],
) -> None:
    assert found["tasks"]["demo_candidates"] == {
        "candidates": [],
        "drift": ["candidates"],
        "publish": ["candidates", "drift"],
        "shadow": ["candidates"],
    }


def test_days_that_no_calendar_knows_are_refused(found: dict[str, dict[str, Any]]) -> None:
    assert (
        "configs/pipelines/odd.yaml:5:19: `schedule.every`: Airflow cannot run every 3 days"
        in found["docs"][ODD]
    )


def test_reading_is_light_and_the_same_every_time(root: Path) -> None:
    pipelines = root / "configs" / "pipelines"
    for number in range(49):
        text = (pipelines / "demo.yaml").read_text()
        (pipelines / f"copy{number}.yaml").write_text(
            text.replace("pipeline: demo", f"pipeline: copy{number}")
        )
    one, other = read(root, seed=1), read(root, seed=2)
    assert one["heavy"] == []
    assert one["hashes"] == other["hashes"]
    assert len(one["tasks"]) == 2 * 50


def test_the_end_of_the_data_bounds_the_schedule_and_no_run_by_hand(
    found: dict[str, dict[str, Any]],
) -> None:
    assert found["ends"]["demo"] == ["None", ["2026-02-02T00:00:00+00:00"]]


def test_a_broken_spec_is_seen_and_harms_no_other(found: dict[str, dict[str, Any]]) -> None:
    whole = {"demo", DAILY, WEEKLY}
    assert set(found["tasks"]) == {*whole, *(f"{name}_candidates" for name in whole), ODD, BROKEN}
    assert found["tasks"][BROKEN] == {"read_spec": []}
    assert found["names"][BROKEN] == "broken (its spec is broken)"
    assert "configs/pipelines/broken.yaml:8:1: unknown key `modles`" in found["docs"][BROKEN]


def test_a_pod_asks_for_what_the_spec_says(root: Path, found: dict[str, dict[str, Any]]) -> None:
    (root / "configs" / "environments" / "pods.yaml").write_text(
        "environment: {airflow: {executor: KubernetesExecutor}}\n"
    )
    spec = root / "configs" / "pipelines" / "demo.yaml"
    spec.write_text(
        spec.read_text()
        + "resources: {training: {cpus: 2, memory: 4g}, train_gnn: {cpus: 0.5, gpus: 1}}\n"
    )
    pods = read(root, SEXTANT_ENVIRONMENT="pods")["pods"]["demo"]
    assert {(one["name"], one["value"]) for pod in pods.values() for one in pod["env"]} == {
        ("SEXTANT_ENVIRONMENT", "pods")
    }
    asked = {
        task: {key: pod["resources"][key] for key in ("requests", "limits")}
        for task, pod in pods.items()
        if pod["resources"]["requests"]
    }
    group = {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}
    gpu = {"nvidia.com/gpu": "1"}
    assert asked == {
        **dict.fromkeys(
            ("decide", "train_popularity", "train_item_knn", "train_transformer"), group
        ),
        **dict.fromkeys(("evaluate", "gate"), group),
        "train_gnn": {"requests": {"cpu": "0.5", **gpu}, "limits": gpu},
    }
    assert found["pods"]["demo"] == {}
