"""The price of contracts: seconds of the stage `validate` with and without its checks.

The stage is rebuilt from the product's own parts: read staged events, items and users, hold them
against `data_contracts/`, then hash and write the good rows and the quarantine. Without checks it
does all but the holding. Beside it stands Great Expectations as it is usually run, on the same
rules and the same rows: each rule by itself, results in its BASIC format.

    python -m benchmarks.contracts --rows 1000000 --report docs/results/contracts.md
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from benchmarks.rule_by_rule import rule_by_rule
from pipelines.bootstrap import delta_jars, java_home
from pipelines.contract import load_contract
from transforms.contracts import Contract, Rule, check
from transforms.digest import rows_digest
from transforms.io import replace_all, replace_interval, replace_range
from transforms.schemas import struct
from transforms.session import spark_session

ROOT = Path(__file__).resolve().parents[1]
END = datetime(2026, 2, 1, tzinfo=UTC)
START = END - timedelta(hours=6)
TABLES = ("users", "items", "events")
_BUDGET = 0.25
_FILES = 4


@dataclass(frozen=True)
class Cost:
    """Seconds of the clock and of the processors."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.cpu:.2f} s of processors)"


@dataclass(frozen=True)
class Round:
    """One stage without checks and one with them; `checks` are seconds until all is decided."""

    without: Cost
    whole: Cost
    checks: float


def main() -> int:
    """Measures, prints and, with --report, writes the figures. Returns 1 when over budget."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="contracts-"))
    os.environ["JAVA_HOME"] = str(java_home())
    spark = spark_session(memory=options.memory, jars=delta_jars())
    try:
        _stage_tables(folder, options.rows, options.bad)
        contracts = {table: _contract(table) for table in TABLES}
        spark.read.format("delta").load(str(folder / "staged_users")).count()  # Spark is warm
        rounds: list[Round] = []
        for number in range(options.repetitions + 1):
            timing: dict[str, float] = {}
            found = Round(
                _cost(lambda: _stage(spark, folder, None)),
                _cost(lambda timing=timing: _stage(spark, folder, contracts, timing)),
                timing["checks"],
            )
            if number or not options.repetitions:  # the first round compiles
                rounds.append(found)
            print(f"round {number}: {found.without} without, {found.whole} with", flush=True)
        single = _single_rules(spark, folder, contracts) if options.rule_by_rule else []
        text = _report(options, rounds, single)
        print(text)
        if options.report:
            options.report.parent.mkdir(parents=True, exist_ok=True)
            options.report.write_text(text, encoding="utf-8")
    finally:
        spark.stop()
        shutil.rmtree(folder)
    return 0 if _share(rounds, "cpu") <= _BUDGET else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="events (default: %(default)s)")
    parser.add_argument("--bad", type=float, default=0.0, help="share of events with a fault")
    parser.add_argument("--repetitions", type=int, default=3, help="rounds after a first one")
    parser.add_argument("--memory", default="2g", help="heap of Spark (default: %(default)s)")
    parser.add_argument("--rule-by-rule", action="store_true", help="also time each rule in GX")
    parser.add_argument("--report", type=Path, help="write the figures here, as Markdown")
    return parser.parse_args()


def _stage_tables(folder: Path, rows: int, bad: float) -> None:
    """Writes staged tables: events of thirty days over a catalogue of a twentieth as many items."""
    import deltalake

    rng = np.random.default_rng(7)
    others = max(rows // 20, 10)
    tables: dict[str, dict[str, Any]] = {
        "users": {
            "user_id": np.char.add("u", np.arange(others).astype(str)),
            "trust_score": rng.random(others),
        },
        "items": {
            "item_id": np.char.add("i", np.arange(others).astype(str)),
            "duration_seconds": rng.exponential(60.0, others),
            "categories": [["music"]] * others,
        },
    }
    watch = rng.exponential(30.0, rows)
    watch[rng.random(rows) < bad] = -1.0
    age = (rng.random(rows) * 30 * 86_400_000_000).astype(np.int64)
    end = int(END.timestamp() * 1e6)
    tables["events"] = {
        "event_id": np.char.add("event-", np.arange(rows).astype(str)),
        "user_id": np.char.add("u", rng.integers(0, others, rows).astype(str)),
        "item_id": np.char.add("i", rng.integers(0, others, rows).astype(str)),
        "event_type": rng.choice(["impression", "view", "click", "like"], rows),
        "value": np.where(rng.random(rows) < 0.5, np.nan, 1.0),
        "watch_seconds": watch,
        "position": rng.integers(0, 50, rows).astype(np.int32),
        "device": rng.choice(["phone", "tv"], rows),
        "timestamp": (end - 1 - age).astype("datetime64[us]"),
    }
    for name, columns in tables.items():
        schema = to_arrow_schema(struct(name), timezone="UTC")
        count = len(next(iter(columns.values())))
        arrays = [
            pa.array(columns[field.name], from_pandas=True).cast(field.type)
            if field.name in columns
            else pa.nulls(count, field.type)
            for field in schema
        ]
        table = pa.table(arrays, schema=schema)
        # As many files as a stage of Spark would leave.
        part = -(-count // _FILES)
        for start in range(0, count, part):
            piece = table.slice(start, part)
            deltalake.write_deltalake(str(folder / f"staged_{name}"), piece, mode="append")


def _contract(table: str) -> Contract:
    loaded = load_contract(ROOT / "data_contracts" / f"{table}.yaml")
    rules = tuple(Rule(**rule.plain()) for rule in loaded.rules)
    return Contract(table, loaded.allow_empty, rules)


def _stage(
    spark: SparkSession,
    folder: Path,
    contracts: dict[str, Contract] | None,
    timing: dict[str, float] | None = None,
) -> None:
    """Does the work of the stage; the seconds of `check` alone go into `timing`."""
    good: dict[str, DataFrame] = {}
    results = []
    start = time.perf_counter()
    for table in TABLES:
        frame = spark.read.format("delta").load(str(folder / f"staged_{table}"))
        if contracts is not None:
            result = check(
                frame,
                contracts[table],
                interval_end=END,
                references=good,
                source_columns=(),
            )
            assert not result.blocked, result.findings
            results.append(result)
            frame = result.good
        good[table] = frame
    if timing is not None:
        timing["checks"] = time.perf_counter() - start
    rejects = spark.createDataFrame(
        [], "table string, row string, rule string, interval_end timestamp"
    )
    aside = reduce(DataFrame.unionByName, [rejects, *[result.quarantined for result in results]])
    replace_interval(aside, folder / "quarantine", END, {})
    for table, frame in good.items():
        rows_digest(frame)
        if table == "events":
            replace_range(frame, folder / table, "timestamp", None, END, {})
        else:
            rows_digest(frame)  # once more for the rows before the interval's end
            replace_all(frame, folder / table, {})


def _single_rules(
    spark: SparkSession, folder: Path, contracts: dict[str, Contract]
) -> list[tuple[str, float]]:
    """Seconds of each rule on events by Great Expectations alone, in the contract's order."""
    frames = {t: spark.read.format("delta").load(str(folder / f"staged_{t}")) for t in TABLES}
    found: list[tuple[str, float]] = []
    start = time.perf_counter()
    for rule, _ in rule_by_rule(frames["events"], contracts["events"], END, frames):
        found.append((rule.label, time.perf_counter() - start))
        start = time.perf_counter()
    return found


def _cost(work: Callable[[], object]) -> Cost:
    """What a piece of work takes of the clock and of the processors, Spark's process included."""
    wall, cpu = time.perf_counter(), _cpu_seconds()
    work()
    return Cost(time.perf_counter() - wall, _cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    own = psutil.Process()
    times = [one.cpu_times() for one in (own, *own.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _share(rounds: Sequence[Round], kind: str) -> float:
    """The checks' share of the stage, as the median over the rounds."""
    return statistics.median(
        1 - getattr(one.without, kind) / getattr(one.whole, kind) for one in rounds
    )


def _report(
    options: argparse.Namespace, rounds: Sequence[Round], single: list[tuple[str, float]]
) -> str:
    command = " ".join(["python -m benchmarks.contracts", *sys.argv[1:]])
    busy = os.getloadavg()[0]

    def row(name: str, part: str) -> str:
        wall, cpu = (
            statistics.median(getattr(getattr(one, part), kind) for one in rounds)
            for kind in ("wall", "cpu")
        )
        return f"| {name} | {wall:.2f} | {cpu:.2f} |"

    checks = statistics.median(one.checks for one in rounds)
    lines = [
        "# What contracts cost",
        "",
        f"`{command}`, {os.cpu_count()} cores, {platform.system()}, Spark with {options.memory}, ",
        f"load of the machine {busy:.1f}. {options.rows:,} events, {max(options.rows // 20, 10):,} "
        f"items and users; {100 * options.bad:g} % of the events are bad. Medians of "
        f"{len(rounds)} rounds. On a machine that does other work the processors' seconds count.",
        "",
        "| stage `validate` | seconds | processor seconds |",
        "| --- | ---: | ---: |",
        row("without checks: hash and write", "without"),
        row("with checks", "whole"),
        f"| of which deciding what is bad | {checks:.2f} | |",
        f"| **share of the checks** (budget {100 * _BUDGET:.0f} %) | "
        f"{100 * _share(rounds, 'wall'):.0f} % | **{100 * _share(rounds, 'cpu'):.0f} %** |",
    ]
    if single:
        total = sum(taken for _, taken in single)
        lines += [
            "",
            f"Great Expectations, the {len(single)} rules about rows of events one by one: "
            f"{total:.1f} s.",
            "",
            "| rule | seconds |",
            "| --- | ---: |",
            *[f"| `{label}` | {taken:.2f} |" for label, taken in single],
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
