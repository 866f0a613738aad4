"""Kills runs at chosen moments and watches their tables from outside; no hook in the product.

A moment is seen on the disk alone: a stage has begun when its line of progress appears, it is
writing when a Parquet file lies in one of its tables that no commit names yet, or when some of its
tables have a new version and others not, and it has written when all of them have. Its success counts once it stands in the table `runs`.
"""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from lake_state import data_files, registry_state, rows_hash, succeeded, version
from shop_world import Shop, environment

MOMENTS = ("before write", "during write", "after write")
"""Before the stage wrote anything; with a part written; committed but not yet recorded as a
success."""

_PATIENCE = 600.0
_POLL = 0.001


@dataclass(frozen=True)
class Landed:
    """Where a kill landed.

    Args:
        stage: The stage that it was meant for.
        moment: The moment that it was meant for.
        seen: What the disk showed at the kill: one of `MOMENTS`, or `missed` when the stage was
            recorded as a success (or the run was over) before the kill came.
    """

    stage: str
    moment: str
    seen: str

    @property
    def hit(self) -> bool:
        """Whether the kill came while the stage was at work."""
        return self.seen != "missed"


def written_tables(shop: Shop) -> dict[str, tuple[str, ...]]:
    """The tables that each stage wrote in its last success: what to wait for in another run."""
    from deltalake import DeltaTable

    rows = DeltaTable(shop.lake / "runs").to_pyarrow_table().sort_by("started_at").to_pylist()
    return {
        row["stage"]: tuple(json.loads(row["tables_out"]))
        for row in rows
        if row["status"] == "succeeded"
    }


def start(shop: Shop, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start a command of the product in the shop's folder, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines", *arguments],
        cwd=shop.root,
        env={**environment(), **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run_and_kill(
    shop: Shop, stage: str, moment: str, tables: Iterable[str], *arguments: str
) -> Landed:
    """Run the shop and kill the run when a stage reaches a moment.

    Args:
        shop: The shop.
        stage: Name of the stage.
        moment: One of `MOMENTS`.
        tables: Those that the stage will write; none for a stage that writes to the registry.
        arguments: Of `sextant run shop`.
    """
    watch = _Watch(shop, stage, tuple(tables))
    before = succeeded(shop)
    process = start(shop, "run", "shop", *arguments)
    lines = _Lines(process)
    try:
        _await(lambda: lines.begun(stage) or process.poll() is not None)
        condition = {
            "before write": lambda: True,
            "during write": lambda: watch.begun() or watch.partly(),
            "after write": watch.written,
        }[moment]
        _await(lambda: condition() or process.poll() is not None or lines.left(stage))
    finally:
        process.kill()
        process.wait()
        lines.join()
    done = any(name == stage for name, _ in succeeded(shop) - before)
    if done or not lines.begun(stage):
        seen = "missed"
    elif watch.written():
        seen = "after write"
    else:
        seen = "during write" if watch.begun() or watch.partly() else "before write"
    return Landed(stage, moment, seen)


class _Watch:
    """The traces that one stage leaves, against what lay there when the watch began."""

    def __init__(self, shop: Shop, stage: str, tables: tuple[str, ...]) -> None:
        self._shop, self._stage, self._tables = shop, stage, tables
        self._versions = {table: version(shop, table) for table in tables}
        self._files = {table: data_files(shop, table) for table in tables}
        self._registry = registry_state(shop)
        self._runs = self._mlflow_runs()
        self._reports = self._newest_report()

    def begun(self) -> bool:
        """Whether something is written that does not count yet."""
        if self._tables:
            return any(
                version(self._shop, table) == self._versions[table]
                and data_files(self._shop, table) - self._files[table]
                for table in self._tables
            )
        if self._stage == "drift":
            return self._newest_report() > self._reports
        return self._mlflow_runs() > self._runs or self.written()

    def partly(self) -> bool:
        """Whether some of the tables have a new version."""
        return any(version(self._shop, t) > self._versions[t] for t in self._tables)

    def written(self) -> bool:
        """Whether all that the stage writes is written."""
        if self._tables:
            return all(version(self._shop, t) > self._versions[t] for t in self._tables)
        if self._stage == "drift":
            return self._newest_report() > self._reports
        return registry_state(self._shop) != self._registry

    def _mlflow_runs(self) -> int:
        file = self._shop.root / "mlruns" / "mlflow.db"
        if not file.exists():
            return 0
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30) as store:
            return int(store.execute("SELECT count(*) FROM runs").fetchone()[0])

    def _newest_report(self) -> int:
        folder = self._shop.root / "reports" / "shop"
        files = (file for file in folder.rglob("*drift*") if file.is_file())
        return max((file.stat().st_mtime_ns for file in files), default=0)


class _Lines(threading.Thread):
    """Reads a run's lines of progress as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._stages: list[str] = []
        self.text: list[str] = []
        self.start()

    def run(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.text.append(line)
            if line.startswith("[") and not line.endswith("up to date\n"):
                self._stages.append(line.split("] ", 1)[1].split()[0])

    def begun(self, stage: str) -> bool:
        return stage in self._stages

    def left(self, stage: str) -> bool:
        return self.begun(stage) and self._stages[-1] != stage


def _await(condition) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the moment to kill at never came"
        time.sleep(_POLL)


class Reader:
    """Reads tables every 50 ms, as a service does, and notes every state that it ever saw.

    It reads in a process of its own, so that it does not slow the watch of whoever kills.

    Args:
        shop: The shop whose tables are read.
        tables: Names of the tables.
    """

    def __init__(self, shop: Shop, tables: tuple[str, ...]) -> None:
        self._shop, self._tables = shop, tables
        self.seen: dict[str, set[str]] = {}
        """Table to the hashes of all states that were read."""
        self.reads = 0
        """How many whole reads there were."""
        self.failures: list[str] = []
        """Texts of reads that failed."""

    def __enter__(self) -> Reader:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_read_on, args=(theirs, self._shop, self._tables), daemon=True
        )
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.send("stop")
        self.seen, self.reads, self.failures = self._ours.recv()
        self._process.join()

    def violations(self, allowed: dict[str, set[str]]) -> list[str]:
        """What was read and is neither the old nor the new state of a table."""
        return self.failures + [
            f"{table}: a state that no whole run made"
            for table, states in self.seen.items()
            if states - allowed[table]
        ]


def _read_on(pipe: Connection, shop: Shop, tables: tuple[str, ...]) -> None:
    from deltalake import DeltaTable

    seen: dict[str, set[str]] = {}
    known: dict[tuple[str, int, int], str] = {}
    failures: list[str] = []
    reads = 0
    stopping = False
    while not stopping:
        stopping = pipe.poll(0.05)  # one more round after the end
        for table in tables:
            if version(shop, table) < 0:
                continue
            try:
                found = DeltaTable(shop.lake / table)
                key = (table, found.version(), found.to_pyarrow_table().num_rows)
                if key not in known:
                    known[key] = rows_hash(shop, table, found.version())
                seen.setdefault(table, set()).add(known[key])
                reads += 1
            except Exception as error:
                failures.append(f"{table}: {type(error).__name__}: {error}")
    pipe.send((seen, reads, failures))
