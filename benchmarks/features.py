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
from benchmarks.pages import replace_section

ENGINES = {"spark": "spark", "duckdb": "duck", "polars": "polar"}
"""Engine -> its module."""
REFERENCE = "spark"
_ROOT = Path(__file__).resolve().parent.parent
_SMALL = 2e6
"""Up to so many events a process makes several passes."""


@dataclass(frozen=True)
class Run:
    """One engine on one size."""

    engine: str
    seconds: dict[str, float]
    """By table in the first pass, of the `start`, and of all tables once the process is `warm`."""
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
    sound = True
    for events in options.events:
        folder = options.data / f"{events / 1e6:g}m"
        task = _task(folder, events, options)
        runs: list[Run] = []
        for engine in options.engines:
            runs.append(_measure(engine, task, options))
            print(asdict(runs[-1]), flush=True)
        done = [run.engine for run in runs if not run.failure]
        verdicts = {
            (engine, table): _verdict(task, engine, table, options)
            for engine in done
            if engine != REFERENCE and REFERENCE in done
            for table in TABLES
        }
        shutil.rmtree(folder / "results", ignore_errors=True)
        section = _section(options, events, task, runs, verdicts)
        print(section, flush=True)
        if options.report:
            replace_section(options.report, section, _HEAD)
        sound &= len(done) == len(runs) and not any("differ" in one for one in verdicts.values())
    return 0 if sound else 1


def _task(folder: Path, events: float, options: argparse.Namespace) -> Task:
    """Simulate a world unless its folder is there."""
    from deltalake import DeltaTable

    if not (folder / "follows" / "_delta_log").exists():
        subprocess.run(
            [sys.executable, "-m", "benchmarks.simulate", "--events", str(events), "--out", folder],
            check=True,
            cwd=_ROOT,
        )
    tables = {name: DeltaTable(folder / name) for name in ("events", "items", "users", "follows")}
    return Task(
        files={name: table.file_uris() for name, table in tables.items()},
        lake=str(folder),
        out=str(folder / "results"),
        end="2026-02-02T00:00:00+00:00",
        events=sum(tables["events"].get_add_actions()["num_records"].to_pylist()),
        threads=options.threads,
        memory_gb=options.memory_gb,
        passes=options.passes if events <= _SMALL else 1,
    )


def _of(task: Task, engine: str) -> Task:
    return Task(**{**asdict(task), "out": f"{task.out}/{engine}"})


def _measure(engine: str, task: Task, options: argparse.Namespace) -> Run:
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
        began = time.monotonic()
        memory = _Memory(process.pid, options.stop_gb)
        try:
            output, _ = process.communicate(timeout=options.timeout)
        except subprocess.TimeoutExpired:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.kill()
            process.communicate()
            return Run(engine, {}, memory.stop(), f"stopped after {options.timeout:,.0f} s")
        peak = memory.stop()
        if peak > options.stop_gb * 1000:
            return Run(engine, {}, peak, f"stopped above {options.stop_gb:g} GB")
        seconds = time.monotonic() - began
        if process.returncode:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no message"])[-1]
            last = last.replace(f"{own.out}/", "")[:300]
            return Run(engine, {}, peak, f"failed after {seconds:.0f} s: {last}")
    return Run(engine, json.loads(output.strip().splitlines()[-1]), peak)


class _Memory:
    """Samples the proportional memory (PSS) of a process and its children.

    Kills the process above `most_gb`, before the machine would kill something else.
    """

    def __init__(self, pid: int, most_gb: float) -> None:
        self._root, self._peak, self._end = psutil.Process(pid), 0.0, threading.Event()
        self._most_gb = most_gb
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
            if self._peak > self._most_gb * 1000:
                self._root.kill()
                return


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


def _section(
    options: argparse.Namespace,
    events: float,
    task: Task,
    runs: list[Run],
    verdicts: dict[tuple[str, str], str],
) -> str:
    arguments = f"--events {events:g} --memory-gb {options.memory_gb} --passes {options.passes}"
    ours = next((run for run in runs if run.engine == REFERENCE and not run.failure), None)

    def cells(run: Run) -> list[str]:
        peak = f"{run.peak_mb / 1000:.2f}"
        if run.failure:
            return ["-"] * 8 + [f"{peak}, then {run.failure}"]
        warm = run.seconds["warm"]
        against = [
            f"{ours.total / run.total:.1f}" if ours else "-",
            f"{ours.seconds['warm'] / warm:.1f}" if ours and task.passes > 1 else "-",
        ]
        return [
            *(f"{run.seconds[step]:.1f}" for step in ("start", *TABLES)),
            *(f"{run.total:.1f}", against[0]),
            *(f"{warm:.1f}" if task.passes > 1 else "-", against[1]),
            peak,
        ]

    rows = "\n".join(f"| {run.engine} | {' | '.join(cells(run))} |" for run in runs)
    equal = "\n".join(
        f"- {engine}, `{table}`: {verdict}" for (engine, table), verdict in verdicts.items()
    )
    return f"""## {task.events:,} events

`python -m benchmarks.features {arguments}`

| engine | start, s | user_features, s | item_features, s | examples, s | all, s | Spark's : its | \
warm, s | Spark's : its | peak GB |
|{"---|" * 10}
{rows}

{equal}

{_versions()}
"""


_HEAD = """# Feature tables: Spark, DuckDB and Polars

Made by `benchmarks/features.py`: three tables of the same Parquet files of a simulated world
(features look back 7 days, a session ends after 30 minutes): `user_features` and `item_features` as
of the end of the four weeks, and `examples`, one row per interaction with 19 features as of its own
moment. All columns but the two scores of texts. Each engine runs in a process of its own with two
threads and a limit of memory where it takes one (Spark's heap, DuckDB's buffers), and writes
Parquet. Seconds include reading and writing; `start` is the import and, for Spark, the JVM. `warm`
is the last pass over all tables in the same process: what a process that has compiled its code
needs, as in a backfill. Memory is the peak of PSS over all processes, sampled every quarter of a
second. Tables are compared with Spark's, joined by key: floats within 1e-9 of the greater, all else
exactly.
"""


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
    parser.add_argument("--stop-gb", type=float, default=18, help="stop an engine above this")
    parser.add_argument("--passes", type=int, default=4, help="in a process, of a small size")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one run")
    parser.add_argument("--report", type=Path, help="also write the text to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
