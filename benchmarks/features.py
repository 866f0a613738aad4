"""The same feature tables by Spark, DuckDB and Polars: equal results, seconds and memory.

Each engine computes `user_features`, `item_features` and `examples` (features as of each event)
from the same Parquet files of a simulated world, in a process of its own, and writes Parquet. The
parent samples the memory of that process and its children, then compares the tables row by row.

    uv run --group bench python -m benchmarks.features --events 1e6 10e6 \
        --report docs/results/features.md
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from benchmarks.feature_engines.task import TABLES, Task

ENGINES = {"spark": "spark", "duckdb": "duck", "polars": "polar"}
"""Engine -> its module."""
REFERENCE = "spark"
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    """One engine on one size."""

    engine: str
    events: int
    seconds: dict[str, float]
    """By table, and of the start."""
    peak_mb: float
    """Largest proportional memory (PSS) of the process and its children."""
    failure: str = ""
    """Why it has no result."""

    @property
    def total(self) -> float:
        """Seconds of the three tables, without the start."""
        return sum(self.seconds[table] for table in TABLES)


def main(argv: list[str] | None = None) -> int:
    """Runs the comparison; the exit code says whether all results are equal."""
    options = _parser().parse_args(argv)
    missing = [name for name in ("duckdb", "polars") if find_spec(name) is None]
    if missing:
        print(
            f"{' and '.join(missing)} cannot be imported; start with "
            "`uv run --group bench python -m benchmarks.features`.",
            file=sys.stderr,
        )
        return 2
    runs: list[Run] = []
    verdicts: dict[tuple[int, str, str], str] = {}
    for events in options.events:
        folder = options.data / f"{events / 1e6:g}m"
        task, rows = _task(folder, events, options)
        for engine in options.engines:
            found = [
                _measure(engine, task, rows, options)
                for _ in range(options.repetitions if events <= 2e6 else 1)
            ]
            runs.append(sorted(found, key=lambda run: run.failure or run.total)[len(found) // 2])
            print(asdict(runs[-1]), flush=True)
        done = [run.engine for run in runs if run.events == rows and not run.failure]
        for engine in done:
            if engine != REFERENCE and REFERENCE in done:
                for table in TABLES:
                    verdicts[rows, engine, table] = _verdict(task, engine, table, options)
                    print(engine, table, verdicts[rows, engine, table], flush=True)
        shutil.rmtree(folder / "results", ignore_errors=True)
    text = _report(options, runs, verdicts)
    print(text)
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(text)
    equal = all("differ" not in verdict for verdict in verdicts.values())
    return 0 if equal and not any(run.failure for run in runs) else 1


def _task(folder: Path, events: float, options: argparse.Namespace) -> tuple[Task, int]:
    """Simulate a world unless its folder is there; returns the task and its number of events."""
    from deltalake import DeltaTable

    if not (folder / "follows" / "_delta_log").exists():
        subprocess.run(
            [sys.executable, "-m", "benchmarks.simulate", "--events", str(events), "--out", folder],
            check=True,
            cwd=_ROOT,
        )
    tables = {name: DeltaTable(folder / name) for name in ("events", "items", "users", "follows")}
    rows = sum(tables["events"].get_add_actions()["num_records"].to_pylist())
    return Task(
        files={name: table.file_uris() for name, table in tables.items()},
        lake=str(folder),
        out=str(folder / "results"),
        end="2026-02-02T00:00:00+00:00",
        threads=options.threads,
        memory_gb=options.memory_gb,
    ), rows


def _of(task: Task, engine: str) -> Task:
    return Task(**{**asdict(task), "out": f"{task.out}/{engine}"})


def _measure(engine: str, task: Task, rows: int, options: argparse.Namespace) -> Run:
    """Run one engine in a process of its own."""
    own = _of(task, engine)
    shutil.rmtree(own.out, ignore_errors=True)
    Path(own.out).mkdir(parents=True)
    module = f"benchmarks.feature_engines.{ENGINES[engine]}"
    with (Path(own.out) / "errors.txt").open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, own.dump()],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=_ROOT,
        )
        memory = _Memory(process.pid)
        try:
            output, _ = process.communicate(timeout=options.timeout)
        except subprocess.TimeoutExpired:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.kill()
            process.communicate()
            return Run(engine, rows, {}, memory.stop(), f"stopped after {options.timeout:,.0f} s")
        peak = memory.stop()
        if process.returncode:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no message"])[-1]
            return Run(engine, rows, {}, peak, f"exit code {process.returncode}: {last[:300]}")
    return Run(engine, rows, json.loads(output.strip().splitlines()[-1]), peak)


class _Memory:
    """Samples the proportional memory (PSS) of a process and its children."""

    def __init__(self, pid: int) -> None:
        self._root, self._peak, self._end = psutil.Process(pid), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """End, and return the largest sample, MB."""
        self._end.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._end.wait(0.25):
            total = 0
            try:
                for process in [self._root, *self._root.children(recursive=True)]:
                    total += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended meanwhile
                continue
            self._peak = max(self._peak, total / 1e6)


def _verdict(task: Task, engine: str, table: str, options: argparse.Namespace) -> str:
    from benchmarks.feature_engines.compare import compare

    ours = _of(task, REFERENCE).result(table)
    try:
        found = compare(
            table,
            f"{ours}/*.parquet",
            _of(task, engine).result(table),
            memory_gb=options.memory_gb,
            spill=f"{task.out}/spill",
        )
    except ValueError as error:
        return f"differ: {error}"
    if found.differing:
        return f"differ: {found.differing} of {found.rows:,} rows"
    return f"equal ({found.rows:,} rows, greatest relative gap {found.worst:.0e})"


def _report(
    options: argparse.Namespace, runs: list[Run], verdicts: dict[tuple[int, str, str], str]
) -> str:
    command = " ".join(["python -m benchmarks.features", *sys.argv[1:]])
    lines = [
        "# Feature tables: Spark, DuckDB and Polars",
        f"Command: `{command}`",
        "Three tables of the same Parquet files of a simulated world (`benchmarks.simulate`; "
        "features look back 7 days, a session ends after 30 minutes): `user_features` and "
        "`item_features` as of the end of the four weeks, and `examples`, one row per interaction "
        "with 19 features as of its own moment. All columns but the two scores of texts. Each "
        f"engine runs in a process of its own with {options.threads} threads and at most "
        f"{options.memory_gb} GB where it takes a limit (Spark's heap, DuckDB's buffers), and "
        "writes Parquet. Seconds include reading and writing; `start` is the import and, for "
        "Spark, the JVM. Memory is the peak of PSS over all processes, sampled every quarter of a "
        f"second. Up to 2 million events, the median of {options.repetitions} runs.",
        "| events | engine | start, s | user_features, s | item_features, s | examples, s | "
        "tables, s | against Spark | peak GB |\n|" + "---|" * 9,
    ]
    rows = []
    for run in runs:
        ours = [one for one in runs if (one.engine, one.events) == (REFERENCE, run.events)]
        if run.failure:
            cells = ["-"] * 6 + [f"{run.peak_mb / 1000:.2f}", run.failure]
            rows.append(f"| {run.events:,} | {run.engine} | {' | '.join(cells)} |")
            continue
        ratio = f"{run.total / ours[0].total:.2f}" if ours and not ours[0].failure else "-"
        seconds = [f"{run.seconds[step]:.1f}" for step in ("start", *TABLES)]
        rows.append(
            f"| {run.events:,} | {run.engine} | {' | '.join(seconds)} | {run.total:.1f} | "
            f"{ratio} | {run.peak_mb / 1000:.2f} |"
        )
    lines[-1] += "\n" + "\n".join(rows)
    lines.append("## Equality with Spark's tables")
    lines.append(
        "Joined by key; floats within 1e-9 of the greater, all else exactly.\n\n"
        "| events | engine | table | verdict |\n|---|---|---|---|\n"
        + "\n".join(
            f"| {events:,} | {engine} | {table} | {verdict} |"
            for (events, engine, table), verdict in verdicts.items()
        )
    )
    lines.append(_versions())
    return "\n\n".join(lines) + "\n"


def _versions() -> str:
    from importlib.metadata import version

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    names = ("pyspark", "delta-spark", "duckdb", "polars")
    return (
        ", ".join(f"{name} {version(name)}" for name in names)
        + f", Python {platform.python_version()}; {os.cpu_count()} cores ({platform.machine()}), "
        f"{memory:.0f} GiB, load average at the end {os.getloadavg()[0]:.1f}, "
        f"{time.strftime('%Y-%m-%d', time.gmtime())}."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=float, nargs="+", default=[1e6, 10e6])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument(
        "--data", type=Path, default=_ROOT / ".cache" / "worlds", help="folder of the worlds"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--memory-gb", type=int, default=4, help="limit of an engine")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of a small size")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one run")
    parser.add_argument("--report", type=Path, help="also write the text to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
