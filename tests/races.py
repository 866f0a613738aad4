"""Processes that write at once, and what is left of their writes."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from shop_world import environment

if TYPE_CHECKING:
    from training.registry import Registry

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
    mine = models.promote(mine)
"""


_RESTLESS = """
import sys
from training.registry import Registry
models = Registry(*sys.argv[1:])
both = models.versions("shop.popularity")
print("promoting", flush=True)
while True:
    for version in both:
        models.promote(version)
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


def two_versions(folder: Path) -> Registry:
    """A registry with two versions of a model, to promote in turn."""
    import numpy as np

    from training.gate import Verdict
    from training.models.files import write_model
    from training.registry import Registry

    better = Verdict(True, "Promoted: better.", "nothing", 1.0, 0.0, 0.0, 0.0, 0.0, 2)
    models = Registry(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}", folder / "artifacts")
    write_model(
        folder / "model",
        name="popularity",
        config={},
        tensors={"counts": np.ones(2, np.float32)},
        vocabularies={"items": np.array(["a", "b"])},
    )
    tags = dict.fromkeys(("run_id", "spec_hash", "commit", "seed"), "x") | {"tables": "{}"}
    for number in range(2):
        version = models.register(
            "shop.popularity",
            folder / "model",
            tags=tags | {"interval_end": "2026-03-13T00:00Z"},
            params={},
            metrics={},
            fingerprint=str(number),
        )
        models.record_verdict(version, better)
    return models


def promotions_lost(folder: Path, promotions: int) -> int:
    """Let two processes promote one version each in turn.

    Returns:
        How many promotions named another version as `previous` than the one that was champion just
        before, or did not move the champion.
    """
    file = folder / "mlruns" / "mlflow.db"
    models = two_versions(folder)
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


def promotions_killed(folder: Path, kills: int, seed: int) -> list[str]:
    """Kill a process that promotes two versions in turn, again and again.

    Returns:
        What was wrong after a kill: no champion, or a promotion that did not end as one that
        nobody disturbed. Empty when nothing was.
    """
    models = two_versions(folder)
    one, two = models.versions("shop.popularity")
    models.promote(one)
    chance = random.Random(seed)
    faults = []
    for kill in range(1, kills + 1):
        writer = subprocess.Popen(
            [sys.executable, "-c", _RESTLESS, models.tracking_uri, folder / "artifacts"],
            env=environment(),
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"promoting\n"
        time.sleep(chance.uniform(0.0, 1.0))
        writer.kill()
        writer.communicate()
        champion = models.champion("shop.popularity")
        if champion is None or champion.status != "promoted":
            faults.append(f"kill {kill}: the champion is {champion and champion.status}")
            continue
        other = two if champion.version == one.version else one
        models.promote(other)
        found = [models.champion("shop.popularity"), models.previous("shop.popularity")]
        if [version and (version.version, version.status) for version in found] != [
            (other.version, "promoted"),
            (champion.version, "promoted"),
        ]:
            faults.append(f"kill {kill}: promoting again ended with {found}")
    return faults
