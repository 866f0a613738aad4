"""The DAGs that Airflow makes of specs: the same steps, quickly read, the same every time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shop_world import REPOSITORY, environment

pytestmark = pytest.mark.slow

READ = """
import json, sys, time
from airflow.sdk import DAG
import airflow.providers.standard.operators.python
began = time.perf_counter()
from pipelines.targets.airflow import load_dags
from pathlib import Path
from typing import Any
dags = load_dags(Path(sys.argv[1]))
first = time.perf_counter() - began
began = time.perf_counter()
load_dags(Path(sys.argv[1]))
again = time.perf_counter() - began
heavy = [name for name in ("pyspark", "torch", "ray", "mlflow") if name in sys.modules]
# The hash by which Airflow tells whether a DAG has changed.
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization
print(json.dumps({
    "seconds": [first, again],
    "heavy": heavy,
    "tasks": {name: {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks}
              for name, dag in dags.items()},
    "retries": {name: {task.task_id: [task.retries, task.retry_delay.total_seconds()]
                       for task in dag.tasks} for name, dag in dags.items()},
    "timetables": {name: DagSerialization.to_dict(dag)["dag"]["timetable"]
                   for name, dag in dags.items()},
    "names": {name: dag.dag_display_name for name, dag in dags.items()},
    "docs": {name: dag.doc_md for name, dag in dags.items()},
    "hashes": {name: SerializedDagModel.hash(DagSerialization.to_dict(dag))
               for name, dag in dags.items()},
}))
"""


def read(root: Path, seed: int = 0) -> dict[str, dict[str, Any]]:
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
        },
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project folder with the demo's spec."""
    for folder in ("configs", "data_contracts", "dags"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    for file in (tmp_path / "configs" / "pipelines").glob("*.yaml"):
        if file.stem != "demo":
            file.unlink()
    return tmp_path


def test_a_dag_has_the_steps_of_its_spec(root: Path) -> None:
    from pipelines.project import Project

    steps = Project.load("demo", root=root).steps
    assert read(root)["tasks"]["demo"] == {step.name: sorted(step.after) for step in steps}


def test_a_run_owns_six_hours_and_is_tried_again_after_thirty_minutes(root: Path) -> None:
    found = read(root)
    timetable = found["timetables"]["demo"]
    assert timetable["__type"].endswith("CronDataIntervalTimetable")
    assert timetable["__var"]["expression"] == "0 */6 * * *"
    assert set(map(tuple, found["retries"]["demo"].values())) == {(2, 1800.0)}


def test_reading_is_quick_light_and_the_same_every_time(root: Path) -> None:
    pipelines = root / "configs" / "pipelines"
    for number in range(49):
        text = (pipelines / "demo.yaml").read_text()
        (pipelines / f"copy{number}.yaml").write_text(
            text.replace("pipeline: demo", f"pipeline: copy{number}")
        )
    one, other = read(root, seed=1), read(root, seed=2)
    print("seconds", one["seconds"])
    assert one["heavy"] == []
    assert one["hashes"] == other["hashes"]
    assert len(one["tasks"]) == 2 * 50


def test_a_broken_spec_is_seen_and_harms_no_other(root: Path) -> None:
    text = (root / "configs" / "pipelines" / "demo.yaml").read_text()
    (root / "configs" / "pipelines" / "other.yaml").write_text(
        text.replace("pipeline: demo", "pipeline: other").replace("models:", "modles:")
    )
    found = read(root)
    assert set(found["tasks"]) == {"demo", "demo_candidates", "other"}
    assert found["tasks"]["other"] == {"read_spec": []}
    assert found["names"]["other"] == "other (its spec is broken)"
    assert "configs/pipelines/other.yaml:8:1: unknown key `modles`" in found["docs"]["other"]
