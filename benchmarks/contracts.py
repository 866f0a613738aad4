"""The price of contracts: seconds of the stage `validate` with its contracts and without rules.

Both run the product's own stage over the same landed interval of the demo: the first of a lake,
which takes in four weeks at once. Beside them stands Great Expectations as it is usually run, on
the same rules and the same rows: each rule by itself, results in its BASIC format.

    python -m benchmarks.contracts --report docs/results/contracts.md
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.rule_by_rule import rule_by_rule
from pipelines.bootstrap import delta_jars, java_home
from pipelines.graph import SOURCE_TABLES, select
from pipelines.project import Project
from pipelines.runner import Runner
from transforms.contracts import Contract, Rule
from transforms.session import spark_session

ROOT = Path(__file__).resolve().parents[1]
BUDGET = 0.25
NO_RULES = "table: {table}\nallow_empty: true\n"


@dataclass(frozen=True)
class Cost:
    """What a run of the stage takes."""

    wall: float
    """Seconds of the clock."""
    cpu: float
    """Seconds of the processors, Spark's included."""


def main() -> int:
    """Measures, prints and, with --report, writes the figures. Returns 1 when over budget."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="contracts-"))
    os.environ["JAVA_HOME"] = str(java_home())
    spark = spark_session(memory=options.memory, jars=delta_jars())
    try:
        sets = (f"sources.demo.users={options.users}", f"sources.demo.items={options.items}")
        stages = {name: _Stage(folder / name, name == "with", sets) for name in ("without", "with")}
        for stage in stages.values():
            stage.land()
        costs: dict[str, list[Cost]] = {name: [] for name in stages}
        for number in range(options.repetitions + 1):
            for name, stage in stages.items():
                cost = stage.validate()
                print(
                    f"round {number}, {name}: {cost.wall:.2f} s, {cost.cpu:.2f} s CPU", flush=True
                )
                if number:  # the first round compiles
                    costs[name].append(cost)
        single = stages["with"].rule_by_rule(spark)
        rows = {
            table: spark.read.format("delta").load(stages["with"].table(table)).count()
            for table in SOURCE_TABLES
        }
        text = _report(options, rows, costs, single)
        print(text)
        if options.report:
            options.report.write_text(text, encoding="utf-8")
    finally:
        spark.stop()
        shutil.rmtree(folder)
    return 0 if _share(costs, "cpu") <= BUDGET else 1


class _Stage:
    """The stage `validate` of a demo project in a folder of its own.

    Args:
        folder: Where the project lies.
        ruled: Whether its contracts have rules.
        sets: Options over those of the demo.
    """

    def __init__(self, folder: Path, ruled: bool, sets: tuple[str, ...]) -> None:
        for name in ("configs", "data_contracts"):
            shutil.copytree(ROOT / name, folder / name)
        if not ruled:
            for table in SOURCE_TABLES:
                file = folder / "data_contracts" / f"{table}.yaml"
                file.write_text(NO_RULES.format(table=table))
        self._lake, self._landed = folder / "lake", folder / "landed"
        self._project = Project.load("demo", root=folder, sets=sets)

    def land(self) -> None:
        """Run what comes before the stage."""
        self._run("ingest")
        shutil.copytree(self._lake, self._landed)

    def validate(self) -> Cost:
        """Run the stage as if for the first time."""
        shutil.rmtree(self._lake)
        shutil.copytree(self._landed, self._lake)
        wall, cpu = time.perf_counter(), _cpu_seconds()
        self._run("validate")
        return Cost(time.perf_counter() - wall, _cpu_seconds() - cpu)

    def table(self, name: str) -> str:
        """Path of a table."""
        return str(self._lake / "demo" / name)

    def rule_by_rule(self, spark) -> list[tuple[str, float]]:
        """Seconds of each rule on events by Great Expectations alone, in the contract's order."""
        frames = {name: spark.read.format("delta").load(self.table(name)) for name in SOURCE_TABLES}
        (loaded,) = self._project.contracts["events"]
        contract = Contract("events", False, tuple(Rule(**rule.plain()) for rule in loaded.rules))
        with Runner(self._project, lambda _: None) as runner:
            end = runner.interval(None).end
        found: list[tuple[str, float]] = []
        start = time.perf_counter()
        for rule, _ in rule_by_rule(frames["events"], contract, end, frames):
            found.append((rule.label, time.perf_counter() - start))
            start = time.perf_counter()
        return found

    def _run(self, stage: str) -> None:
        with Runner(self._project, lambda _: None) as runner:
            ran = runner.run(select(self._project.steps, stage), runner.interval(None)).ran
        assert ran == (stage,), ran


def _cpu_seconds() -> float:
    own = psutil.Process()
    times = [one.cpu_times() for one in (own, *own.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _median(costs: Mapping[str, list[Cost]], name: str, kind: str) -> float:
    return statistics.median(getattr(one, kind) for one in costs[name])


def _share(costs: Mapping[str, list[Cost]], kind: str) -> float:
    """The checks' share of the stage."""
    return 1 - _median(costs, "without", kind) / _median(costs, "with", kind)


def _report(
    options: argparse.Namespace,
    rows: Mapping[str, int],
    costs: Mapping[str, list[Cost]],
    single: list[tuple[str, float]],
) -> str:
    command = " ".join(["python -m benchmarks.contracts", *sys.argv[1:]])
    sizes = ", ".join(f"{count:,} {table}" for table, count in rows.items())
    total = sum(taken for _, taken in single)

    def row(title: str, name: str) -> str:
        wall, cpu = (_median(costs, name, kind) for kind in ("wall", "cpu"))
        return f"| {title} | {wall:.2f} | {cpu:.2f} |"

    return "\n".join(
        [
            "# What contracts cost",
            "",
            f"`{command}`, {os.cpu_count()} cores ({platform.machine()}), Spark with a heap of "
            f"{options.memory}, load of the machine {os.getloadavg()[0]:.1f}. {sizes}. Medians of "
            f"{options.repetitions} rounds in one process, after one that compiles.",
            "",
            "| stage `validate` | seconds | processor seconds |",
            "| --- | ---: | ---: |",
            row("without rules: find the window, drop copies, hash, write", "without"),
            row("with the contracts of `data_contracts/`", "with"),
            f"| **share of the checks** (budget {BUDGET:.0%}) | "
            f"{_share(costs, 'wall'):.0%} | **{_share(costs, 'cpu'):.0%}** |",
            "",
            f"Great Expectations, the {len(single)} rules about rows of events one by one: "
            f"{total:.1f} s.",
            "",
            "| rule | seconds |",
            "| --- | ---: |",
            *[f"| `{label}` | {taken:.2f} |" for label, taken in single],
            "",
        ]
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=8_900, help="who make a million events")
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--repetitions", type=int, default=3, help="rounds after a first one")
    parser.add_argument("--memory", default="2g", help="heap of Spark (default: %(default)s)")
    parser.add_argument("--report", type=Path, help="write the figures here, as Markdown")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
