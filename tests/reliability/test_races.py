"""Processes that write at once: nothing is lost, and nothing is written twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable
from shop_world import environment

from training.models.files import write_model
from training.registry import Registry

pytestmark = pytest.mark.slow

COMMITS = 30
PROMOTIONS = 6
ITEMS = np.array(["a", "b"])

APPENDER = """
import sys
import pyarrow as pa
from pipelines.lake import Lake
folder, name, count = sys.argv[1:]
lake = Lake(folder, "shop")
for number in range(int(count)):
    lake.append("log", pa.table({"row": [f"{name}-{number}"]}))
"""

REPLACER = """
import sys
from datetime import UTC, datetime, timedelta
import pyarrow as pa
from pipelines.lake import Lake
folder, name, count = sys.argv[1:]
lake = Lake(folder, "shop")
for number in range(int(count)):
    end = datetime(2026, 1 + int(name), 1, tzinfo=UTC) + timedelta(hours=6 * number)
    stamp = pa.array([end], pa.timestamp("us", tz="UTC"))
    lake.replace_interval("lists", pa.table({"row": [f"{name}-{number}"], "interval_end": stamp}), end, {})
"""


def started(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=environment())


@pytest.mark.parametrize(
    ("code", "table"), [(APPENDER, "log"), (REPLACER, "lists")], ids=["append", "replace"]
)
def test_two_processes_lose_no_commit(tmp_path: Path, code: str, table: str) -> None:
    writers = [started(code, tmp_path, name, COMMITS) for name in (0, 1)]
    assert [writer.wait(timeout=300) for writer in writers] == [0, 0]
    found = DeltaTable(tmp_path / "shop" / table)
    rows = found.to_pyarrow_table()["row"].to_pylist()
    assert sorted(rows) == sorted(f"{name}-{n}" for name in (0, 1) for n in range(COMMITS))
    assert found.version() == 2 * COMMITS - 1


def test_a_writer_that_is_killed_with_the_lock_leaves_it_free(tmp_path: Path) -> None:
    """What a power cut leaves is a lock file with the name of a process that is no more."""
    writer = started(APPENDER, tmp_path, "killed", 10_000)
    locks = tmp_path / "shop" / ".locks" / "table log.lock"
    while not locks.exists() or '"pid"' not in locks.read_text():
        time.sleep(0.001)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    start = time.monotonic()
    assert started(APPENDER, tmp_path, "next", 1).wait(timeout=60) == 0
    assert time.monotonic() - start < 15
    rows = DeltaTable(tmp_path / "shop" / "log").to_pyarrow_table()["row"].to_pylist()
    assert "next-0" in rows
    assert sorted(rows, key=lambda row: row.split("-")[0])[-1] == "next-0"
    assert len(rows) == len(set(rows))


PROMOTER = """
import sys
from training.registry import Registry
uri, artifacts, number, count = sys.argv[1:]
models = Registry(uri, artifacts)
mine = models.get("shop.popularity", str(int(number) + 1))
for turn in range(int(count)):
    mine = models.promote(mine, forced=True)
"""


def test_racing_promotions_lose_no_update(tmp_path: Path) -> None:
    """After each promotion `previous` is the version that was champion just before it."""
    file = tmp_path / "mlruns" / "mlflow.db"
    models = Registry(f"sqlite:///{file}", tmp_path / "artifacts")
    folder = tmp_path / "model"
    write_model(folder, name="popularity", config={}, tensors={}, vocabularies={"items": ITEMS})
    tags = dict.fromkeys(("run_id", "spec_hash", "commit", "seed"), "x") | {"tables": "{}"}
    for number in range(2):
        models.register(
            "shop.popularity",
            folder,
            tags=tags | {"interval_end": "2026-03-13T00:00Z"},
            params={},
            metrics={},
            fingerprint=str(number),
        )
    with sqlite3.connect(file) as store:  # the store itself writes each change down
        store.execute("CREATE TABLE moves (alias TEXT, version INTEGER)")
        for event in ("INSERT", "UPDATE"):
            store.execute(
                f"CREATE TRIGGER note_{event} AFTER {event} ON registered_model_aliases BEGIN "
                "INSERT INTO moves VALUES (new.alias, new.version); END"
            )
    writers = [
        started(PROMOTER, models.tracking_uri, tmp_path / "artifacts", number, PROMOTIONS)
        for number in range(2)
    ]
    assert [writer.wait(timeout=300) for writer in writers] == [0, 0]
    with sqlite3.connect(file) as store:
        moves = store.execute("SELECT alias, version FROM moves ORDER BY rowid").fetchall()
    champion = None
    for alias, version in moves:
        if alias == "previous":
            assert version == champion
        else:
            assert version != champion
            champion = version
    assert models.get("shop.popularity").version == str(champion)
    assert {version.status for version in models.versions("shop.popularity")} == {"promoted"}
