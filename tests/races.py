"""Processes that write at once, and what is left of their writes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

from shop_world import environment

APPENDER = """
import sys
import pyarrow as pa
from pipelines.lake import Lake
folder, name, count = sys.argv[1:]
lake = Lake(folder, "shop")
for number in range(int(count)):
    lake.append("log", pa.table({"row": [f"{name}-{number}"]}))
"""
"""Appends rows to the table `log`, one commit each."""

REPLACER = """
import sys
from datetime import UTC, datetime, timedelta
import pyarrow as pa
from pipelines.lake import Lake
folder, name, count = sys.argv[1:]
lake = Lake(folder, "shop")
for number in range(int(count)):
    end = datetime(2026, 1 + 6 * int(name), 1, tzinfo=UTC) + timedelta(hours=6 * number)
    stamp = pa.array([end], pa.timestamp("us", tz="UTC"))
    rows = pa.table({"row": [f"{name}-{number}"], "interval_end": stamp})
    lake.replace_interval("log", rows, end, {})
"""
"""Replaces intervals of the table `log`, one commit each."""

_PROMOTER = """
import sys
from training.registry import Registry
uri, artifacts, number, count = sys.argv[1:]
models = Registry(uri, artifacts)
mine = models.get("shop.popularity", str(int(number) + 1))
for turn in range(int(count)):
    mine = models.promote(mine, forced=True)
"""


def started(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start Python code in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=environment())


def commits_kept(folder: Path, code: str, commits: int) -> int:
    """Let two processes make commits; returns how many are there, each with its row once."""
    from deltalake import DeltaTable

    writers = [started(code, folder, name, commits) for name in (0, 1)]
    assert [writer.wait(timeout=600) for writer in writers] == [0, 0]
    table = DeltaTable(folder / "shop" / "log")
    rows = table.to_pyarrow_table()["row"].to_pylist()
    wanted = {f"{name}-{number}" for name in (0, 1) for number in range(commits)}
    assert table.version() == 2 * commits - 1
    return len(wanted & set(rows)) - (len(rows) - len(set(rows)))


def promotions_lost(folder: Path, promotions: int) -> int:
    """Let two processes promote one version each in turn.

    Returns:
        How many promotions named another version as `previous` than the one that was champion just
        before, or did not move the champion.
    """
    import numpy as np

    from training.models.files import write_model
    from training.registry import Registry

    file = folder / "mlruns" / "mlflow.db"
    models = Registry(f"sqlite:///{file}", folder / "artifacts")
    write_model(
        folder / "model",
        name="popularity",
        config={},
        tensors={"counts": np.ones(2, np.float32)},
        vocabularies={"items": np.array(["a", "b"])},
    )
    tags = dict.fromkeys(("run_id", "spec_hash", "commit", "seed"), "x") | {"tables": "{}"}
    for number in range(2):
        models.register(
            "shop.popularity",
            folder / "model",
            tags=tags | {"interval_end": "2026-03-13T00:00Z"},
            params={},
            metrics={},
            fingerprint=str(number),
        )
    with sqlite3.connect(file) as store:  # the store itself writes each change down
        store.execute("CREATE TABLE moves (alias TEXT, version INTEGER)")
        for event in ("INSERT", "UPDATE"):
            store.execute(
                f"CREATE TRIGGER note_{event} AFTER {event} ON registered_model_aliases "
                "WHEN new.alias != 'challenger' BEGIN "
                "INSERT INTO moves VALUES (new.alias, new.version); END"
            )
    writers = [
        started(_PROMOTER, models.tracking_uri, folder / "artifacts", number, promotions)
        for number in range(2)
    ]
    assert [writer.wait(timeout=600) for writer in writers] == [0, 0]
    with sqlite3.connect(file) as store:
        moves = store.execute("SELECT alias, version FROM moves ORDER BY rowid").fetchall()
    lost, champion = 0, None
    for alias, version in moves:
        if alias == "previous":
            lost += version != champion
        else:
            lost += version == champion
            champion = version
    assert models.get("shop.popularity").version == str(champion)
    return lost
