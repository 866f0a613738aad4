"""Write a world of the simulator (docs/demo.md) to Delta tables in bounded memory, and time it.

Rows go from the simulator to the files a batch at a time. Without sizes, users and items follow
from the number of events: 121 events a user in four weeks, one item for ten users.

    python -m benchmarks.simulate --events 10e6 --out DIR
    python -m benchmarks.simulate --preset catalogue --scale 0.1 --out DIR
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

# One core: the linear algebra starts a thread per core otherwise.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyarrow as pa

from pipelines.demo_source import Demo
from transforms.demo import DemoConfig, DemoWorld
from transforms.demo.tables import (
    EVENT_SCHEMA,
    FOLLOW_SCHEMA,
    ITEM_SCHEMA,
    USER_SCHEMA,
)

ACTIVE = 0.72
"""Mean share of the users that open the app on a day."""


@dataclass(frozen=True)
class Cost:
    """What it took to write one table."""

    table: str
    rows: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    """Peak memory of the process so far (RSS)."""


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    config = configuration(options)
    print(
        f"{config.users:,} users, {config.items:,} items, {config.days} days, "
        f"{config.events_per_user_day:g} events on a user's active day, seed {config.seed}"
    )
    costs = []
    for cost in simulate(config, options.out):
        costs.append(asdict(cost))
        print(
            f"{cost.table:8} {cost.rows:>12,} rows  {cost.seconds:7.1f} s  "
            f"{cost.cpu_seconds:7.1f} s CPU  {1e6 * cost.cpu_seconds / cost.rows:6.2f} s CPU per "
            f"million  peak {cost.peak_mb:,.0f} MB",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(costs, indent=1))
    return 0


def simulate(config: DemoConfig, out: Path) -> Iterator[Cost]:
    """Write the four tables of a world below a folder; yields what each of them took."""
    world = DemoWorld(config)
    tables = (
        ("events", EVENT_SCHEMA, world.events_batches(config.start, config.end)),
        ("items", ITEM_SCHEMA, world.items_batches()),
        ("users", USER_SCHEMA, world.users_batches()),
        ("follows", FOLLOW_SCHEMA, world.follows_batches()),
    )
    for table, schema, batches in tables:
        wall, cpu = time.perf_counter(), time.process_time()
        rows = write(out / table, schema, batches)
        yield Cost(
            table,
            rows,
            time.perf_counter() - wall,
            time.process_time() - cpu,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )


def write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Replace a Delta table by batches, read one at a time; returns the number of rows."""
    from deltalake import WriterProperties, write_deltalake

    rows = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for batch in batches:
            rows += batch.num_rows
            yield batch

    write_deltalake(
        str(path),
        pa.RecordBatchReader.from_batches(schema, counted()),
        mode="overwrite",
        schema_mode="overwrite",
        # Small groups of rows keep the writer's buffers small, and their statistics let a reader of
        # one day pass over the others.
        writer_properties=WriterProperties(max_row_group_size=256 * 1024),
    )
    return rows


def configuration(options: argparse.Namespace) -> DemoConfig:
    """The world that the options ask for."""
    given = {
        name: value
        for name in ("preset", "scale", "users", "items", "days", "events_per_user_day")
        if (value := getattr(options, name)) is not None
    }
    if options.events and "preset" not in given:
        days = given.get("days", 28)
        active_days = days * ACTIVE
        if "users" in given:
            given.setdefault("events_per_user_day", options.events / given["users"] / active_days)
        users = given.setdefault("users", max(50, round(options.events / active_days / 6.0)))
        given.setdefault("items", max(100, users // 10))
    demo = Demo(vectors=options.vectors, drift="none" if options.no_drift else "taste", **given)
    return DemoConfig(**demo.settings(), seed=options.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--events", type=float, help="about how many, such as 10e6")
    parser.add_argument("--preset", help="see `sextant describe`, format demo")
    parser.add_argument("--scale", type=float, help="factor on the preset's users and items")
    parser.add_argument("--users", type=int)
    parser.add_argument("--items", type=int)
    parser.add_argument("--days", type=int)
    parser.add_argument("--events-per-user-day", type=float)
    parser.add_argument("--vectors", action="store_true", help="items carry their vectors")
    parser.add_argument("--no-drift", action="store_true")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", type=Path, help="also write the costs to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
