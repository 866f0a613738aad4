"""Cost of one more interval against a full rebuild of the same feature tables.

Writes a synthetic log day by day, so that memory stays bounded, runs the feature stages for an
interval (all from the beginning), publishes six more hours of events, users and items and runs the
stages again, three times over, and compares what they wrote last with a rebuild from nothing of a
second lake.

    python -m benchmarks.incremental --events 1000000 --report docs/results/incremental.md
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
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.pages import replace_section
from pipelines.bootstrap import delta_jars, java_home
from pipelines.context import StageContext
from pipelines.graph import Step
from pipelines.intervals import Interval
from pipelines.lake import Lake
from pipelines.project import Project
from pipelines.stages import function
from pipelines.state import RunHistory
from pipelines.usage import Usage

_T0 = datetime(2026, 1, 5, tzinfo=UTC)
_DAYS = 96
_STEP = timedelta(hours=6)
_INTERVALS = 3
_LAST = _T0 + timedelta(days=_DAYS)
_FIRST = _LAST - _INTERVALS * _STEP
_ACTS_PER_SESSION = 8
_EVENTS_PER_ACT = 1.11
_TIME = pa.timestamp("us", tz="UTC")
_WORDS = ("tea", "slow", "river", "bright", "dance", "garden", "late", "song", "paper", "sun")


@dataclass(frozen=True)
class Log:
    """A synthetic log: sessions of users who meet items, popular ones more often.

    Args:
        events: About how many events.
        seed: Of the generator.
    """

    events: int
    seed: int

    @property
    def users(self) -> int:
        """How many users."""
        return max(self.events // 100, 10)

    @property
    def items(self) -> int:
        """How many items."""
        return max(self.events // 200, 10)

    def days(self) -> Iterator[pa.Table]:
        """The events of one day after another."""
        for day in range(_DAYS):
            yield self._day(day)

    def _day(self, day: int) -> pa.Table:
        rng = np.random.default_rng([self.seed, day])
        sessions = int(self.events / _DAYS / _ACTS_PER_SESSION / _EVENTS_PER_ACT)
        length_S = rng.poisson(_ACTS_PER_SESSION - 1, sessions) + 1
        session_A = np.repeat(np.arange(sessions), length_S)
        acts = len(session_A)
        start_S = rng.random(sessions) * 86_000 + day * 86_400
        at_A = start_S[session_A] + rng.random(acts) * 300
        share_A = at_A / (_DAYS * 86_400)
        # A fifth of users and items appear while the log goes on.
        user_S = rng.random(sessions) ** 2 * (0.8 + 0.2 * start_S / (_DAYS * 86_400)) * self.users
        item_A = rng.random(acts) ** 3 * (0.8 + 0.2 * share_A) * self.items
        watched_A = rng.gamma(2.0, 10.0, acts)
        kind_A = np.where(rng.random(acts) < 0.5, "impression", "view")
        acted = {
            kind: np.flatnonzero(rng.random(acts) < share)
            for kind, share in (("like", 0.08), ("comment", 0.01), ("share", 0.02))
        }
        act_E = np.concatenate([np.arange(acts), *acted.values()])
        kind_E = np.concatenate([kind_A, *[np.full(len(at), kind) for kind, at in acted.items()]])
        at_E = at_A[act_E]
        order = np.argsort(at_E, kind="stable")
        act_E, kind_E, at_E = act_E[order], kind_E[order], at_E[order]
        micros = (_T0 - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        rows = len(act_E)
        return pa.table(
            {
                "event_id": _ids(f"e{day:02}", np.arange(rows)),
                "user_id": _ids("u", user_S[session_A[act_E]].astype(np.int64)),
                "item_id": _ids("i", item_A[act_E].astype(np.int64)),
                "event_type": pa.array(kind_E),
                "value": pa.nulls(rows, pa.float64()),
                "watch_seconds": pa.array(
                    np.where(kind_E == "view", watched_A[act_E], np.nan), from_pandas=True
                ),
                "position": pa.nulls(rows, pa.int32()),
                "device": pa.nulls(rows, pa.string()),
                "location": pa.nulls(rows, pa.string()),
                "exploration": pa.nulls(rows, pa.bool_()),
                "timestamp": pa.array((at_E * 1e6).astype(np.int64) + micros).cast(_TIME),
            }
        )

    def dimensions(self, end: datetime) -> dict[str, list[dict[str, object]]]:
        """Users, items and follows known before a moment."""
        rng = np.random.default_rng([self.seed, _DAYS])
        length = timedelta(days=_DAYS)

        def created(count: int) -> list[datetime]:
            late_N = np.maximum((np.arange(count) / count - 0.8) * 5, -0.01)
            return [_T0 + length * late for late in late_N.tolist()]

        words = np.array(_WORDS)[rng.integers(0, len(_WORDS), (self.items, 20))]
        items = [
            {
                "item_id": f"i{n:08}",
                "text": " ".join(words[n]),
                "author_id": f"u{n:08}",
                "tags": [words[n][0]],
                "duration_seconds": 60.0,
                "created_at": at,
            }
            for n, at in enumerate(created(self.items))
            if at < end
        ]
        users = [
            {"user_id": f"u{n:08}", "created_at": at, "trust_score": n % 10 / 10}
            for n, at in enumerate(created(self.users))
            if at < end
        ]
        pairs = rng.integers(0, self.users, (self.users * 5, 2))
        since = rng.random(len(pairs))
        follows = [
            {
                "follower_id": f"u{one:08}",
                "followee_id": f"u{other:08}",
                "since": _T0 + length * float(at),
            }
            for (one, other), at in zip(pairs.tolist(), since, strict=True)
        ]
        return {"items": items, "users": users, "follows": follows}


def _ids(prefix: str, numbers: np.ndarray) -> pa.Array:
    return pa.array([f"{prefix}{number:08}" for number in numbers.tolist()])


class Bench:
    """Runs feature stages on a lake that it fills."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        sets = [f"environment.spark.memory={options.memory}"]
        self.project = Project.load("demo", sets=sets)
        self.log = Log(options.events, options.seed)
        self.lake = Lake(str(folder), "demo")
        self.spark = _session(options)

    def publish_history(self) -> int:
        """Write all events before the first interval's end, a day a file, and the other tables."""
        rows = 0
        for day in self.log.days():
            early = _before(day, _FIRST)
            rows += early.num_rows
            self.lake.append("events", early)
        self._publish_dimensions(_FIRST)
        return rows

    def publish_next(self, end: datetime) -> int:
        """Write the events of an interval, as `validate` does, and the other tables."""
        *_, day = self.log.days()
        old = _before(day, end - _STEP).num_rows
        new = day.slice(old, _before(day, end).num_rows - old)
        frame = self.spark.createDataFrame(new.to_pandas(), schema=_schema("events"))
        self.lake.replace_range("events", frame, "timestamp", end - _STEP, end, {})
        self._publish_dimensions(end)
        return new.num_rows

    def _publish_dimensions(self, end: datetime) -> None:
        from pyspark.sql.pandas.types import to_arrow_schema

        for table, rows in self.log.dimensions(end).items():
            schema = to_arrow_schema(_schema(table), timezone="UTC")
            self.lake.replace_all(table, pa.Table.from_pylist(rows, schema=schema), {})

    @property
    def steps(self) -> list[Step]:
        """The feature stages of the demo pipeline."""
        return [step for step in self.project.steps if step.group == "features"]

    def run(self, lake: Lake, end: datetime, label: str) -> dict[str, float]:
        """Run all feature stages; returns the seconds of each."""
        seconds = {}
        for step in self.steps:
            name = step.name
            context = StageContext(
                self.project,
                step,
                Interval(end - _STEP, end),
                lake,
                RunHistory(lake),
                _Engines(self.spark),  # type: ignore[arg-type]
                "",
                lambda _: None,
            )
            start = time.perf_counter()
            result = function(step.kind)(context)
            seconds[name] = time.perf_counter() - start
            print(f"{label:<10} {name:<14} {seconds[name]:7.1f} s  {result.message}", flush=True)
        return seconds

    def copy(self, folder: Path) -> Lake:
        """A second lake with the same base tables."""
        lake = Lake(str(folder), "demo")
        for table in ("events", "items", "users", "follows"):
            shutil.copytree(self.lake.path(table), lake.path(table))
        return lake

    def digest(self, lake: Lake, table: str) -> str:
        """Digest of a table's rows as of the next interval."""
        from pyspark.sql import functions as F

        from transforms.digest import rows_digest

        rows = lake.spark(self.spark, table)
        if table == "examples":
            start = _LAST - self.project.pipeline.features.training_window
            mine = (F.col("timestamp") >= F.lit(start)) & (F.col("timestamp") < F.lit(_LAST))
        elif table == "graph_edges":
            mine = (F.col("relation") != "similar") | (F.col("interval_end") == F.lit(_LAST))
        else:
            mine = F.col("interval_end") == F.lit(_LAST)
        return rows_digest(rows.filter(mine).select(sorted(rows.columns)))


@dataclass(frozen=True)
class _Engines:
    spark: object


def main() -> int:
    """Measures, prints and writes; the exit code says whether the rows agree and it is cheap."""
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, Usage() as usage:
        bench = Bench(options, Path(folder) / "one")
        start = time.perf_counter()
        history = bench.publish_history()
        print(f"{history:,} events written in {time.perf_counter() - start:.1f} s", flush=True)
        bench.run(bench.lake, _FIRST, "first")
        new, runs = [], []
        for number in range(1, _INTERVALS + 1):
            end = _FIRST + number * _STEP
            new.append(bench.publish_next(end))
            runs.append(bench.run(bench.lake, end, "one more"))
        more = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        other = bench.copy(Path(folder) / "two")
        full = bench.run(other, _LAST, "rebuild")
        equal = {
            step.name: all(
                bench.digest(bench.lake, table) == bench.digest(other, table)
                for table in step.writes
            )
            for step in bench.steps
        }
        bench.spark.stop()
    ratio = sum(more.values()) / sum(full.values())
    text = _section(options, history, new, more, full, equal, ratio, usage.peak_mb)
    print(text)
    if options.report:
        replace_section(options.report, text, _HEAD)
    return 0 if all(equal.values()) and ratio <= options.at_most else 1


def _section(
    options: argparse.Namespace,
    history: int,
    new: list[int],
    more: dict[str, float],
    full: dict[str, float],
    equal: dict[str, bool],
    ratio: float,
    peak_mb: float,
) -> str:
    rows = "\n".join(
        f"| `{table}` | {full[table]:.1f} | {more[table]:.1f} | {more[table] / full[table]:.3f} | "
        f"{'equal' if equal[table] else 'DIFFERENT'} |"
        for table in full
    )
    log = Log(options.events, options.seed)
    command = " ".join(["python -m benchmarks.incremental", *sys.argv[1:]])
    return f"""## {options.events:,} events

`{command}`

{history:,} events of {_DAYS} days, {log.users:,} users, {log.items:,} items, {log.users * 5:,} \
follows; then {_INTERVALS} times six more hours, {min(new):,} to {max(new):,} events each, with \
the users and items that appeared in them.

| stage | full rebuild, s | interval N+1, s | ratio | rows |
|---|---|---|---|---|
{rows}
| together | {sum(full.values()):.1f} | {sum(more.values()):.1f} | **{ratio:.3f}** | |

Wanted is at most {options.at_most}. Spark local[2], heap {options.memory}, peak memory of all \
processes {peak_mb / 1024:.1f} GiB, {os.cpu_count()} cores ({platform.machine()}), \
load average at the end {os.getloadavg()[0]:.1f}.
"""


_HEAD = """# Cost of one more interval

Made by `benchmarks/incremental.py`: seconds of the feature stages for one more six-hour interval
(the median of three), against a full rebuild of the same tables in the same process, and whether
the rows are equal (by the hash of every value, floats bit by bit).

What is not in proportion to the new events, by definition or by choice:

- All tables but `examples` and the follows and interactions of `graph_edges` write a row for every
  id each interval, since a reader of one interval finds all of it there, and ages change with each.
- The similar items of `graph_edges` are always found from all histories: one new like changes how
  near all items are that its item goes with.
- The counts of a window with sessions in it cannot be added up, so `behaviour` and `examples` read
  the window's events (90 days, nearly all of this log) to find those of the users who did something
  or of whom something left the window.
- What changed in items, users and follows is found by comparing all their rows; which events that
  touches, by one look at the files of events that may hold some.
"""


def _before(day: pa.Table, end: datetime) -> pa.Table:
    import pyarrow.compute as pc

    return day.filter(pc.less(day["timestamp"], pa.scalar(end, _TIME)))


def _schema(table: str):
    from transforms.schemas import struct

    return struct(table)


def _session(options: argparse.Namespace):
    from transforms.session import spark_session

    os.environ["JAVA_HOME"] = str(java_home())
    settings = dict(setting.split("=", 1) for setting in options.setting)
    return spark_session(memory=options.memory, settings=settings, jars=delta_jars())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", default="2g", help="heap of Spark")
    parser.add_argument("--setting", action="append", default=[], help="KEY=VALUE for Spark")
    parser.add_argument("--folder", type=Path, help="where the lakes are made for the time being")
    parser.add_argument("--at-most", type=float, default=0.1, help="greatest ratio that is good")
    parser.add_argument("--report", type=Path, help="also write the section to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
