"""What Airflow costs: idle services, overhead a task, and a backfill against a local one.

The demo pipeline, smaller where asked, over the last intervals of its data: by `sextant backfill`,
then in a folder of its own by Airflow's backfill on the Airflow that `sextant up` starts.

    python -m benchmarks.airflow --intervals 28 --report docs/results/airflow.md
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipelines.intervals import text

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from airflow_world import EVERY, Airflow, airflow, run_sextant  # noqa: E402
from lake_state import DATA_TABLES, STAGED, rows_hash  # noqa: E402
from shop_world import Shop  # noqa: E402

END = datetime.fromisoformat("2026-02-02T00:00+00:00")
IDLE_SECONDS = 60
SPECS = 50
PARSE = """
import sys, time
from pathlib import Path
import airflow.sdk, airflow.providers.standard.operators.python
for root in sys.argv[1:]:
    from pipelines.targets.airflow import load_dags
    began = time.perf_counter()
    load_dags(Path(root))
    print(time.perf_counter() - began)
"""
"""Seconds to read each of some project folders, in a process that has loaded Airflow alone."""


def main() -> int:
    """Measures, prints and, with --report, writes the figures. Returns 1 when tables differ."""
    options = _options()
    ends = [END - number * EVERY for number in range(options.intervals)][::-1]
    with tempfile.TemporaryDirectory(prefix="airflow-") as folder:
        local, scheduled = (_demo(Path(folder) / name, options) for name in ("local", "scheduled"))
        began = time.perf_counter()
        run_sextant(local, "backfill", "demo", "--from", text(ends[0] - EVERY), "--to", text(END))
        locally = time.perf_counter() - began
        print(f"local backfill: {locally:.0f} s", flush=True)
        began = time.perf_counter()
        with airflow(scheduled, workers=options.workers) as found:
            up = time.perf_counter() - began
            idle = _idle(found)
            print(f"up: {up:.0f} s; idle: {idle}", flush=True)
            found.pause(False, "demo")
            began = time.perf_counter()
            found.backfill(ends, "demo")
            found.until(lambda: _ended(found, len(ends)), patience=24 * 3600)
            by_airflow = time.perf_counter() - began
            tasks = _tasks(found)
            print(f"Airflow's backfill: {by_airflow:.0f} s", flush=True)
        different = [
            table
            for table in (*DATA_TABLES, "quarantine", *STAGED)
            if rows_hash(local, table) != rows_hash(scheduled, table)
        ]
    report = _report(options, up, idle, tasks, locally, by_airflow, different, _parsing())
    print(report)
    if options.report:
        options.report.write_text(report, encoding="utf-8")
    return 1 if different else 0


class Demo(Shop):
    """A folder with the demo pipeline."""

    @property
    def lake(self) -> Path:
        """Where the tables lie."""
        return self.root / "lake" / "demo"


def _demo(root: Path, options: argparse.Namespace) -> Demo:
    for folder in ("configs", "data_contracts"):
        shutil.copytree(ROOT / folder, root / folder)
    for file in (root / "configs" / "pipelines").glob("*.yaml"):
        if file.stem != "demo":
            file.unlink()
    file = root / "configs" / "pipelines" / "demo.yaml"
    spec = yaml.safe_load(file.read_text())
    spec["sources"]["demo"].update(users=options.users, items=options.items)
    spec["models"] = {name: spec["models"][name] for name in options.models}
    blend = spec["candidates"]["blend"]
    spec["candidates"]["blend"] = {name: blend[name] for name in blend if name in options.models}
    file.write_text(yaml.safe_dump(spec))
    return Demo(root)


def _parsing() -> tuple[float, float]:
    """Seconds to make the DAG of one spec, the first of the process, and of fifty more."""
    with tempfile.TemporaryDirectory(prefix="airflow-") as folder:
        roots = [Path(folder) / name for name in ("one", "fifty")]
        for root, number in zip(roots, (1, SPECS), strict=True):
            shutil.copytree(ROOT / "configs", root / "configs")
            shutil.copytree(ROOT / "data_contracts", root / "data_contracts")
            pipelines = root / "configs" / "pipelines"
            demo = (pipelines / "demo.yaml").read_text()
            for file in pipelines.glob("*.yaml"):
                file.unlink()
            for name in (f"demo{at}" for at in range(number)):
                spec = demo.replace("pipeline: demo\n", f"pipeline: {name}\n")
                (pipelines / f"{name}.yaml").write_text(spec)
        printed = subprocess.check_output([sys.executable, "-c", PARSE, *map(str, roots)], cwd=ROOT)
    first, fifty = map(float, printed.split()[-2:])
    return first, fifty


def _ended(found: Airflow, number: int) -> bool:
    # The scheduler's own run of an interval after the schedule's end is skipped, and a success too.
    runs = {name: state for name, state in found.runs("demo").items() if "backfill" in name}
    if "failed" in runs.values():
        raise RuntimeError(f"a run failed: {runs}")
    return list(runs.values()).count("success") == number


def _idle(found: Airflow) -> dict[str, tuple[float, float]]:
    """Memory in MB, shared pages counted once, and share of a core of each service at rest."""
    time.sleep(IDLE_SECONDS)  # what starts is still at work
    names = ("mlflow", "evidently", "pool", "airflow-api", "airflow-scheduler", "airflow-dags",
             "airflow-triggerer")  # fmt: skip
    families = {name: _family(found.process(name)) for name in names}
    before = {name: _cpu(family) for name, family in families.items()}
    time.sleep(IDLE_SECONDS)
    return {
        name: (
            sum(process.memory_full_info().pss for process in _family(found.process(name))) / 1e6,
            (_cpu(families[name]) - before[name]) / IDLE_SECONDS,
        )
        for name in names
    }


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _cpu(family: list[psutil.Process]) -> float:
    total = 0.0
    for process in family:
        if process.is_running():
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _tasks(found: Airflow) -> list[dict[str, float]]:
    """Of each task: seconds it waited once it could run, seconds it ran, seconds of its stage."""
    from deltalake import DeltaTable

    rows = DeltaTable(found.shop.lake / "runs").to_pyarrow_table().to_pylist()
    stages = {
        (text(row["interval_end"]), row["stage"]): row["seconds"]
        for row in rows
        if row["status"] == "succeeded"
    }
    seconds: list[dict[str, float]] = []
    for run in found.runs("demo"):
        path = f"/dags/demo/dagRuns/{run}"
        end = text(datetime.fromisoformat(found.api("GET", path)["data_interval_end"]))
        tasks = found.api("GET", f"{path}/taskInstances")["task_instances"]
        for task in tasks:
            stage = stages.get((end, task["task_id"]))
            if task["state"] != "success" or stage is None:
                continue
            began, done = _moment(task["start_date"]), _moment(task["end_date"])
            waited = (began - _moment(task["scheduled_when"])).total_seconds()
            seconds.append(
                {"waited": waited, "ran": (done - began).total_seconds(), "stage": stage}
            )
    return seconds


def _moment(value: Any) -> datetime:
    return datetime.fromisoformat(value)


def _report(
    options: argparse.Namespace,
    up: float,
    idle: dict[str, tuple[float, float]],
    tasks: list[dict[str, float]],
    locally: float,
    by_airflow: float,
    different: list[str],
    parsing: tuple[float, float],
) -> str:
    command = " ".join(["python -m benchmarks.airflow", *sys.argv[1:]])
    over = [task["ran"] - task["stage"] for task in tasks]
    waited = [task["waited"] for task in tasks]
    a_run = (by_airflow - locally) / options.intervals
    rows = [f"| {name} | {memory:,.0f} | {cpu:.1%} |" for name, (memory, cpu) in idle.items()]
    total = [sum(part) for part in zip(*idle.values(), strict=True)]
    equal = f"differ: {', '.join(different)}" if different else "are equal, row for row"
    return "\n".join(
        [
            "# What Airflow costs",
            "",
            f"`{command}`, {os.cpu_count()} cores ({platform.machine()}), load of the machine "
            f"{os.getloadavg()[0]:.1f}; the demo with {options.users:,} users and "
            f"{options.items:,} items, {', '.join(options.models)}, {options.workers} warm "
            "workers.",
            "",
            "| backfill | intervals | seconds | to one |",
            "| --- | ---: | ---: | ---: |",
            f"| `sextant backfill` | {options.intervals} | {locally:,.0f} | 1 |",
            f"| Airflow | {options.intervals} | {by_airflow:,.0f} | {by_airflow / locally:.2f} |",
            "",
            f"The tables of both {equal}.",
            "",
            f"A task takes {statistics.median(over):.1f} s more than its stage (median of "
            f"{len(over):,}; 95 of 100 at most {_percentile(over):.1f} s, with the wait for a free "
            f"worker). Before it begins it waits {statistics.median(waited):.1f} s for the "
            f"scheduler. A whole run takes {a_run:.0f} s more than a local one.",
            "",
            f"Airflow's processor reads the first spec in {parsing[0]:.2f} s and {SPECS} further "
            f"ones in {parsing[1]:.2f} s, Airflow itself loaded before.",
            "",
            f"`sextant up` took {up:.0f} s. At rest, over {IDLE_SECONDS} s:",
            "",
            "| service | MB | share of a core |",
            "| --- | ---: | ---: |",
            *rows,
            f"| **all** | **{total[0]:,.0f}** | **{total[1]:.1%}** |",
            "",
        ]
    )


def _percentile(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--intervals", type=int, default=28, help="a week has 28")
    parser.add_argument("--users", type=int, default=2_000, help="of the demo")
    parser.add_argument("--items", type=int, default=1_200, help="of the demo")
    parser.add_argument(
        "--models",
        nargs="+",
        default=["popularity", "item_knn", "transformer", "gnn"],
        help="that it trains",
    )
    parser.add_argument("--workers", type=int, default=2, help="warm processes")
    parser.add_argument("--report", type=Path, help="the page to write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
