"""What a drift report of a large table costs: seconds, peak memory, and the size of the page.

    python -m benchmarks.drift_scale --page docs/results/drift.md

A table of examples of five weeks is written with Delta, then read, drawn from and reported in a
process of its own, by the functions that the stage calls. The last interval is shifted.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.drift import _HEAD
from benchmarks.pages import replace_section
from pipelines.lake import Lake
from training.drift import DriftThresholds, drift_report
from training.drift_sample import People, sample
from training.drift_taste import NEEDED, Tastes

END = datetime(2026, 3, 1, tzinfo=UTC)
EVERY = timedelta(hours=6)
DAYS = 36
LABELS = ["phone", "tv", "web", "tablet", "car"]


def schema(columns: int) -> pa.Schema:
    """Two thirds of the columns are numbers, the others labels; one of each tells of tastes."""
    numbers = columns * 2 // 3
    return pa.schema(
        [
            ("timestamp", pa.timestamp("us", tz="UTC")),
            ("user_id", pa.string()),
            ("item_id", pa.string()),
            ("strength", pa.float64()),
            *((f"number_{place:02}", pa.float64()) for place in range(1, numbers)),
            ("item_category", pa.string()),
            *((f"label_{place:02}", pa.string()) for place in range(1, columns - numbers)),
        ]
    )


def intervals(rows: int, columns: int) -> Iterator[pa.RecordBatch]:
    """The rows, interval by interval, oldest first."""
    rng = np.random.default_rng(1)
    count = DAYS * 4
    each = rows // count
    names = pa.array(LABELS)
    for back in reversed(range(count)):
        end = END - back * EVERY
        seconds = rng.integers(1, EVERY // timedelta(seconds=1), each)
        moved = 1.0 if back == 0 else 0.0
        arrays: list[pa.Array] = [
            pa.array(np.datetime64(end.replace(tzinfo=None), "us") - seconds * 1_000_000),
            pa.array(np.char.add("u", rng.integers(0, rows // 20, each).astype(str))),
            pa.array(np.char.add("i", rng.integers(0, rows // 100, each).astype(str))),
        ]
        for field in list(schema(columns))[3:]:
            if field.type == pa.float64():
                arrays.append(pa.array(rng.normal(moved, 1.0, each)))
            else:
                arrays.append(names.take(pa.array(rng.integers(0, len(LABELS), each))))
        arrays[0] = arrays[0].cast(pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
        yield pa.RecordBatch.from_arrays(arrays, schema=schema(columns))


def measure(lake: str, out: str) -> None:
    """Read, draw and report; prints what it took as JSON."""
    start = time.monotonic()
    reader = Lake(lake, "bench")
    names = reader.delta("examples").schema().to_arrow().names
    limits = DriftThresholds()
    batches = reader.batches("examples", names, before={"timestamp": END}, rows=65_536)
    shape = reader.schema("examples", names)
    people = People(NEEDED, most=250_000, seed=1)
    rows = sample(
        people.watch(batches), shape, end=END, every=EVERY, most=limits.sample_rows, seed=1
    )
    tastes = Tastes.of(rows if (kept := people.rows()) is None else kept, END)
    drawn = time.monotonic()
    verdict = drift_report(
        rows=rows,
        watched=names[3:],
        at=END,
        every=EVERY,
        tastes=tastes,
        thresholds=limits,
        out_dir=Path(out),
        seed=1,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {
        "read": drawn - start,
        "report": time.monotonic() - drawn,
        "gib": peak / 2**20,
        "drawn": rows.num_rows,
        "drifted": sum(column.drifted for column in verdict.columns),
        "columns": len(verdict.columns),
        "html": (Path(out) / "drift.html").stat().st_size / 1e6,
    }
    print(json.dumps(found))


def main(arguments: list[str] | None = None) -> None:
    """Write the table, measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=1e7)
    parser.add_argument("--columns", type=int, default=40)
    parser.add_argument("--measure", nargs=2, metavar=("LAKE", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--page", type=Path)
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    if options.measure:
        measure(*options.measure)
        return
    command = " ".join(["python -m benchmarks.drift_scale", *given])
    rows = int(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder, "bench")
        batches = intervals(rows, options.columns)
        reader = pa.RecordBatchReader.from_batches(schema(options.columns), batches)
        lake.replace_all("examples", reader, {})
        print("written", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.drift_scale", "--measure", folder, f"{folder}/out"],
            capture_output=True,
            text=True,
            check=True,
        )
        written = lake.count("examples")
    found = json.loads(done.stdout.splitlines()[-1])
    section = f"""\
## Scale

`{command}`

| rows | columns | drawn | reading and drawing, s | report, s | peak memory, GiB | page, MB |
| --- | --- | --- | --- | --- | --- | --- |
| {written:,} | {options.columns} | {found["drawn"]:,} | {found["read"]:.1f} \
| {found["report"]:.1f} | {found["gib"]:.2f} | {found["html"]:.1f} |

{DAYS} days of intervals of 6 hours; {found["drifted"]} of {found["columns"]} columns are named, \
where two thirds were shifted.
"""
    print(section)
    if options.page:
        replace_section(options.page, section, _HEAD)


if __name__ == "__main__":
    main()
