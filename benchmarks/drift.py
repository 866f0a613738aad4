"""How often quiet data raise a drift alert, and how soon planted drifts are found.

    python -m benchmarks.drift --page docs/results/drift.md

The tables come from the simulator through `benchmarks.drift_world`, without Spark, and are judged
at the defaults of the spec by the function that the stage calls.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.drift_world import examples_of
from benchmarks.pages import replace_section
from training.drift import judge_columns
from training.drift_taste import Tastes
from training.drift_verdict import DriftThresholds
from transforms.demo import DemoConfig, DemoWorld
from transforms.demo.config import DRIFTS
from transforms.demo.plants import PLANTED

KINDS = ("watch_time", "new_device", "missing_source", "burst", "taste_alone")
EVERY = timedelta(hours=6)
WITHIN = 4
_BESIDE = ("user_id", "item_id", "timestamp")
_HEAD = """\
# False alarms and power of the drift verdict

Simulated tables, judged at the defaults of the spec. `examples` is made by counting, without Spark:
22 columns of events, users and items, the number of rows, and `taste`. Predictions and quality are
left out. What is judged, and how, was chosen on worlds of the seeds 1000 to 1099.
"""


@dataclass(frozen=True)
class Run:
    """One planted drift.

    Args:
        kind: Of `DRIFTS`.
        seed: Of its world.
        found: Number of the interval after the drift, from 1, at which it was named; None if not.
        named: The columns named then.
        before: Columns that the interval before the drift named, which nothing had moved.
    """

    kind: str
    seed: int
    found: int | None
    named: tuple[str, ...]
    before: tuple[str, ...]


def named(rows: pa.Table, end: datetime, seed: int) -> tuple[str, ...]:
    """Columns that the verdict of an interval names."""
    watched = [name for name in rows.column_names if name not in _BESIDE]
    tastes = Tastes.of(rows, end)
    found, *_ = judge_columns(rows, watched, end, EVERY, DriftThresholds(), seed, [], tastes)
    return tuple(sorted(column.name for column in found if column.drifted))


def quiet(intervals: int, users: int, seed: int) -> list[tuple[str, ...]]:
    """What the verdict names in each of some intervals in a row in which nothing changes."""
    days = 28 + -(-intervals // 4)
    items = users * 6 // 10
    config = DemoConfig(users=users, items=items, days=days, drift="none", vectors=False, seed=seed)
    rows = examples_of(DemoWorld(config))
    ends = [config.end - lag * EVERY for lag in reversed(range(intervals))]
    return [named(rows, end, seed) for end in ends]


def planted(users: int, start: float, minutes: float, seed: int) -> list[Run]:
    """A drift of each kind in the world of one seed, at a time of the day that the seed chooses.

    Nothing when that many minutes have passed since the start.
    """
    if time.monotonic() - start > 60 * minutes:
        return []
    config = DemoConfig(
        users=users, items=users * 6 // 10, days=26, drift="none", vectors=False, seed=seed
    )
    moment = config.end - timedelta(days=1) - seed % 4 * EVERY
    calm = DemoWorld(config)
    [log] = calm.events().combine_chunks().to_batches()
    runs = []
    for kind in KINDS:
        world = DemoWorld(replace(config, drift=kind, drift_at=moment))
        if kind in PLANTED:  # the simulation is the same
            rows = examples_of(calm, pa.Table.from_batches([world.planted(log)]))
        else:
            rows = examples_of(world)
        before = named(rows, moment, seed)
        found, columns = None, ()
        for number in range(1, WITHIN + 1):
            columns = named(rows, moment + number * EVERY, seed)
            if set(columns) - set(before):
                found = number
                break
        runs.append(Run(kind, seed, found, columns, before))
    return runs


def alerts(found: list[tuple[str, ...]]) -> int:
    """How often people hear of it: when a column is named that the interval before did not name."""
    return sum(
        bool(set(now) - set(before)) for before, now in zip([(), *found], found, strict=False)
    )


def section_quiet(found: dict[int, list[tuple[str, ...]]], command: str) -> str:
    """The table of false alarms."""
    lines = ["## Quiet intervals", "", f"`{command}`", ""]
    lines += ["| users | intervals | alerts | intervals that name a column | columns named |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for users, verdicts in found.items():
        names = Counter(name for verdict in verdicts for name in verdict)
        told = ", ".join(f"{name} x {count}" for name, count in names.most_common()) or "none"
        lines.append(
            f"| {users:,} | {len(verdicts)} | {alerts(verdicts)} | "
            f"{sum(map(bool, verdicts))} | {told} |"
        )
    return "\n".join(lines) + "\n"


def section_planted(runs: list[Run], users: int, command: str) -> str:
    """The table of what was found when."""
    lines = ["## Planted drifts", "", f"`{command}`", "", f"{users:,} users; intervals of 6 hours."]
    lines += ["", "| drift | runs | found within 4 | after 1 | 2 | 3 | 4 | columns named first |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for kind in KINDS:
        mine = [run for run in runs if run.kind == kind]
        when = Counter(run.found for run in mine)
        share = sum(run.found is not None for run in mine) / max(len(mine), 1)
        names = Counter(name for run in mine if run.found for name in run.named)
        told = ", ".join(f"{name} x {count}" for name, count in names.most_common(3))
        cells = " | ".join(str(when[number]) for number in range(1, WITHIN + 1))
        lines.append(f"| {kind} | {len(mine)} | {share:.0%} | {cells} | {told} |")
    early = len({run.seed for run in runs if run.before})
    worlds = len({run.seed for run in runs})
    lines += [
        "",
        f"{worlds} worlds, of seeds in a row, as many as the minutes allowed; each has every "
        "drift.",
        "A drift is found when a column is named that the interval before it did not name, "
        "whichever",
        f"column that is. In {early} of the worlds that interval named one already, wrongly.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--intervals", type=int, default=200)
    parser.add_argument("--quiet-users", type=int, nargs="*", default=[2000])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--minutes", type=float, default=120, help="no world of planted drifts is begun later"
    )
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--page", type=Path)
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    command = " ".join(["python -m benchmarks.drift", *given])
    assert set(KINDS) <= set(DRIFTS), "the simulator plants what is measured"
    start = time.monotonic()
    sections = []
    with ProcessPoolExecutor(options.processes) as pool:
        if options.intervals:
            judge = partial(quiet, options.intervals, seed=options.seed)
            found = dict(
                zip(options.quiet_users, pool.map(judge, options.quiet_users), strict=True)
            )
            sections.append(section_quiet(found, command))
            print(sections[-1], flush=True)
        if options.runs:
            runs: list[Run] = []
            seeds = range(options.seed, options.seed + options.runs)
            for done in pool.map(partial(planted, options.users, start, options.minutes), seeds):
                runs += done
                for run in done:
                    print(json.dumps(run.__dict__), flush=True)
            sections.append(section_planted(runs, options.users, command))
            print(sections[-1], flush=True)
    took = np.ceil((time.monotonic() - start) / 60)
    print(f"{took:.0f} minutes")
    for section in sections if options.page else []:
        replace_section(options.page, section, _HEAD)


if __name__ == "__main__":
    main()
