"""Processes that write at once: nothing is lost, and nothing is written twice."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable
from kills import start
from lake_state import state, version
from races import APPENDER, REPLACER, commits_kept, promotions_killed, promotions_lost, started
from shop_world import correct, make_shop

pytestmark = pytest.mark.slow

COMMITS = 30
PROMOTIONS = 6
KILLS = 4
LAST = "2026-03-13T00:00Z"


@pytest.mark.parametrize("code", [APPENDER, REPLACER], ids=["append", "replace"])
def test_two_processes_lose_no_commit(tmp_path: Path, code: str) -> None:
    assert commits_kept(tmp_path, code, COMMITS) == 2 * COMMITS


def test_racing_promotions_lose_no_update(tmp_path: Path) -> None:
    assert promotions_lost(tmp_path, PROMOTIONS) == 0


def test_a_killed_promotion_is_done_again(tmp_path: Path) -> None:
    assert promotions_killed(tmp_path, KILLS, seed=1) == []


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


def test_a_suspended_run_that_wakes_after_its_lease_writes_nothing_more(tmp_path: Path) -> None:
    shop, tables = make_shop(tmp_path / "shop"), ("events", "items", "users")
    run = ("run", "shop", "--at", LAST, "--select", "+validate")
    shop.run(LAST, "+validate")
    correct(shop)
    first = start(shop, *run, SEXTANT_LEASE_SECONDS="2")
    assert first.stderr is not None
    for line in first.stderr:
        if "] validate" in line:
            break
    os.killpg(first.pid, signal.SIGSTOP)
    time.sleep(3)
    shop.command(*run, SEXTANT_LEASE_SECONDS="2")
    found, at = state(shop, tables), version(shop, "events")
    os.killpg(first.pid, signal.SIGCONT)
    _, said = first.communicate(timeout=300)
    assert first.returncode == 1
    assert said.endswith(
        f"the run of [2026-03-12T18:00Z, {LAST}) showed no sign of life for a while, and another "
        "attempt (process unknown) took its place.\n  Nothing more was written by this one.\n"
    )
    assert state(shop, tables) == found
    assert version(shop, "events") == at
