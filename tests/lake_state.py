"""What a pipeline's lake and registry hold, in a form that tells whether two states are equal.

Two states are equal when each table has the same rows, whatever their order and files, and the
registry the same versions with the same states and aliases. What only the wall clock decides does
not count.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shop_world import Shop

from pipelines.intervals import Interval

SNAPSHOTS = (
    "user_features",
    "item_features",
    "user_behaviour",
    "item_engagement",
    "item_modalities",
    "sequences",
)
"""Feature tables with a whole state for each interval."""

DATA_TABLES = ("events", "items", "users", "follows", *SNAPSHOTS, "graph_edges", "examples")
"""Tables of the data half: sources and features."""

STAGED = ("staged_candidates", "staged_similar_items")
"""The lists of every interval, whether or not they are served."""

RESULTS = (
    *(*DATA_TABLES, "quarantine", "evaluations", "metrics"),
    *(*STAGED, "candidates", "similar_items"),
)
"""Tables of a whole run."""

_VOLATILE = {"created_at", "model_version"}


def rows_hash(
    shop: Shop, table: str, version: int | None = None, without: Interval | None = None
) -> str:
    """SHA-256 of the sorted rows of a table, without wall clock and version numbers.

    Args:
        shop: Whose lake it is.
        table: Its name.
        version: Of the table; the newest by default.
        without: Leaves out the rows of this interval.
    """
    from deltalake import DeltaTable

    rows = DeltaTable(shop.lake / table, version=version).to_pyarrow_table().to_pylist()
    if without is not None:
        rows = [row for row in rows if not _belongs(row, without)]
    volatile = _VOLATILE if table.endswith(("candidates", "similar_items")) else set()
    lines = sorted(
        json.dumps(
            {name: value for name, value in row.items() if name not in volatile},
            default=str,
            sort_keys=True,
        )
        for row in rows
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _belongs(row: Mapping[str, Any], interval: Interval) -> bool:
    if "interval_end" in row:
        return bool(row["interval_end"] == interval.end)
    return "timestamp" in row and row["timestamp"] in interval


def served_commits(shop: Shop) -> int:
    """How often the served candidates were replaced; merging small files does not count."""
    from deltalake import DeltaTable

    history = DeltaTable(shop.lake / "candidates").history()
    return sum(commit["operation"] == "WRITE" for commit in history)


def publications(shop: Shop) -> int:
    """How many successes of `publish` served something."""
    from deltalake import DeltaTable

    rows = DeltaTable(shop.lake / "runs").to_pyarrow_table().to_pylist()
    return sum(
        row["stage"] == "publish" and row["status"] == "succeeded" and row["rows_out"] > 0
        for row in rows
    )


def state(shop: Shop, tables: Iterable[str] = RESULTS) -> dict[str, str]:
    """Hash of each table's rows; the registry's under `registry` when there is one."""
    found = {table: rows_hash(shop, table) for table in tables}
    if tables is RESULTS:
        found["registry"] = registry_state(shop)
    return found


def registry_state(shop: Shop) -> str:
    """The registry's versions with what each was fitted from, their states, and the aliases."""
    file = shop.root / "mlruns" / "mlflow.db"
    if not file.exists():
        return "[]"
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30) as store:
        versions = store.execute(
            "SELECT v.name, v.version, t.key, t.value FROM model_versions v "
            "JOIN model_version_tags t ON t.name = v.name AND t.version = v.version "
            "WHERE t.key IN ('fingerprint', 'status', 'gate_verdict', 'manifest_sha256')"
        ).fetchall()
        aliases = store.execute(
            "SELECT name, alias, version FROM registered_model_aliases"
        ).fetchall()
    return json.dumps([sorted(versions), sorted(aliases)])


def version(shop: Shop, table: str) -> int:
    """The newest version of a table, read from the names in its log; -1 when there is none."""
    log = shop.lake / table / "_delta_log"
    if not log.is_dir():
        return -1
    commits = (file.stem for file in log.glob("*.json"))
    return max((int(stem) for stem in commits if stem.isdigit()), default=-1)


def data_files(shop: Shop, table: str) -> set[str]:
    """Names of the Parquet files of a table, whether or not a commit names them."""
    folder = shop.lake / table
    return {file.name for file in folder.glob("*.parquet")} if folder.is_dir() else set()


def orphans(shop: Shop) -> set[Path]:
    """Parquet files under the lake that no commit names: what a kill leaves behind."""
    found: set[Path] = set()
    for log in shop.lake.glob("*/_delta_log"):
        named = {
            json.loads(line)["add"]["path"]
            for commit in log.glob("*.json")
            for line in commit.read_text().splitlines()
            if '"add"' in line and "add" in json.loads(line)
        }
        table = log.parent
        found |= {file for file in table.glob("*.parquet") if file.name not in named}
    return found


def succeeded(shop: Shop) -> set[tuple[str, str]]:
    """Stage and fingerprint of every success in the run history."""
    from deltalake import DeltaTable

    if version(shop, "runs") < 0:
        return set()
    rows = DeltaTable(shop.lake / "runs").to_pyarrow_table(
        columns=["stage", "status", "fingerprint"]
    )
    return {
        (row["stage"], row["fingerprint"])
        for row in rows.to_pylist()
        if row["status"] == "succeeded"
    }
