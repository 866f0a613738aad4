"""What every engine is asked for: the same files, moments and windows, and where results go.

Left out of the tables are `sentiment` and `readability`: they read texts only, never events, and
all engines would call the same Python code for them. All else is as in `transforms/`.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

TABLES = ("user_features", "item_features", "examples")
TEXT_COLUMNS = ("sentiment", "readability")
"""Columns that are left out, in `examples` with the prefix `item_`."""

INTERESTS = 10
STRENGTHS = {"click": 0.6, "comment": 0.8, "like": 1.0, "share": 1.0, "follow": 1.0}
RATING_MAX = 5.0
THRESHOLD = 0.5


@dataclass(frozen=True)
class Task:
    """One run of one engine."""

    files: dict[str, list[str]]
    """Parquet files by table: `events`, `items`, `users`, `follows`."""
    lake: str
    """Folder of the Delta tables that consist of these files."""
    out: str
    """Folder of the results, one Parquet file or folder a table."""
    end: str
    """First moment that does not count, ISO."""
    events: int
    threads: int
    memory_gb: int
    """What the engine may use, where it takes such a setting."""
    history_days: int = 7
    session_gap_minutes: int = 30
    training_window_days: int = 28
    passes: int = 1
    """How often the process computes all tables."""

    @property
    def interval_end(self) -> datetime:
        """`end` as a moment."""
        return datetime.fromisoformat(self.end)

    def result(self, table: str) -> str:
        """Path of a result."""
        return str(Path(self.out) / f"{table}.parquet")

    def dump(self) -> str:
        """JSON for the command line of an engine's process."""
        return json.dumps(asdict(self))


def micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return round(moment.timestamp() * 1_000_000)


def run(start: Callable[[Task], Callable[[str], None]]) -> None:
    """Run an engine on the task of the command line; prints its seconds as JSON.

    Those of the first pass by step, and of all tables in the last pass as `warm`.

    Args:
        start: makes the engine ready and returns what computes and writes one table.
    """
    task = Task(**json.loads(sys.argv[1]))
    begin = time.perf_counter()
    compute = start(task)
    seconds = {"start": time.perf_counter() - begin}
    for table in TABLES:
        begin = time.perf_counter()
        compute(table)
        seconds[table] = time.perf_counter() - begin
    seconds["warm"] = sum(seconds[table] for table in TABLES)
    for _ in range(task.passes - 1):
        for table in TABLES:
            _remove(Path(task.result(table)))
        begin = time.perf_counter()
        for table in TABLES:
            compute(table)
        seconds["warm"] = time.perf_counter() - begin
    print(json.dumps(seconds))


def _remove(result: Path) -> None:
    if result.is_dir():
        shutil.rmtree(result)
    else:
        result.unlink()
