"""The whole pipeline as a user runs it: once, twice, and two at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lake_state import state
from prepared_world import ENDS, prepared
from shop_world import Shop, correct, environment

from pipelines.intervals import parse_moment
from pipelines.locks import hold

pytestmark = pytest.mark.slow

FIRST, LAST = ENDS[1:]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with two complete intervals, run in order."""
    shop = prepared(tmp_path_factory.mktemp("finished") / "shop", tmp_path_factory)
    shop.sextant("run", "shop", "--at", FIRST)
    shop.sextant("run", "shop")
    return shop


@pytest.fixture
def shop(finished: Shop, tmp_path: Path) -> Shop:
    """A copy of it."""
    shutil.copytree(finished.root, tmp_path / "shop")
    return Shop(tmp_path / "shop")


def test_a_run_publishes_lists_that_a_shopkeeper_would_sign(finished: Shop) -> None:
    from deltalake import DeltaTable

    rows = DeltaTable(finished.lake / "candidates").to_pyarrow_table().to_pylist()
    assert {row["run_id"] for row in rows} == {f"shop@{LAST}"}
    events = DeltaTable(finished.lake / "events").to_pyarrow_table().to_pylist()
    seen = {(row["user_id"], row["item_id"]) for row in events}
    lists: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        assert (row["user_id"], row["item_id"]) not in seen
        lists.setdefault(row["user_id"], []).append(row)
    assert set(lists) == {"*", *{row["user_id"] for row in events}}
    in_taste = []
    for user, mine in lists.items():
        mine.sort(key=lambda row: row["rank"])
        assert [row["rank"] for row in mine] == list(range(1, len(mine) + 1))
        assert [row["score"] for row in mine] == sorted((r["score"] for r in mine), reverse=True)
        if user != "*":
            taste = int(user[1:]) % 2
            in_taste += [str(row["item_id"]).startswith(f"s{taste}") for row in mine]
    # Half would be chance.
    assert sum(in_taste) / len(in_taste) > 0.9


def test_the_champion_is_the_model_that_knows_tastes(finished: Shop) -> None:
    found = json.loads(finished.sextant("report", "shop", "--json").stdout)
    assert [entry["interval_end"] for entry in found["intervals"]] == [*ENDS]
    gate = found["intervals"][1]["gate"]
    assert gate["popularity"]["outcome"] == "promoted"
    assert gate["item_knn"]["outcome"] == "promoted"
    assert gate["item_knn"]["challenger"] > gate["popularity"]["challenger"]
    again = found["intervals"][2]["gate"]["item_knn"]
    assert again["outcome"] in {"promoted", "rejected"}
    assert again["reason"].startswith(("Promoted: ", "Rejected"))


def test_a_second_run_of_an_unchanged_interval_does_nothing_and_says_so(shop: Shop) -> None:
    before = {file: file.stat().st_mtime_ns for file in shop.lake.rglob("*.parquet")}
    start = time.monotonic()
    done = shop.sextant("run", "shop")
    assert time.monotonic() - start < 30
    assert done.stdout.startswith(
        f"shop, interval that ends at {LAST}: everything is up to date, nothing was done.\n"
    )
    assert {file: file.stat().st_mtime_ns for file in shop.lake.rglob("*.parquet")} == before


def test_running_an_earlier_interval_again_changes_nothing_else(shop: Shop) -> None:
    before = state(shop)
    (shop.root / "data" / "events.csv").touch()
    shop.sextant("stage", "shop", "ingest", "--at", FIRST)
    shop.sextant("stage", "shop", "validate", "--at", FIRST)
    for stage in ("user_features", "item_features", "sequences", "graph_edges", "examples"):
        shop.sextant("stage", "shop", stage, "--at", FIRST)
    assert state(shop) == before


def test_a_repaired_interval_names_the_later_ones_that_it_makes_outdated(shop: Shop) -> None:
    assert repairs(shop) == []
    correct(shop, before=parse_moment(FIRST))
    done = shop.sextant("run", "shop", "--at", FIRST, "--select", "+features")
    told = [
        f"1 interval ran on events that have changed since: {LAST}",
        f"  Make anew what is outdated: sextant backfill shop --from {FIRST} --to {LAST}",
    ]
    assert "".join(f"    {line}\n" for line in told) in done.stderr
    assert "quarantined, later intervals that this makes outdated: 1  (" in done.stderr
    assert repairs(shop) == told
    assert shop.sextant("report", "shop").stdout.endswith("\n\n" + "\n".join(told) + "\n")
    shop.sextant("run", "shop", "--select", "+features")
    assert repairs(shop) == []


def repairs(shop: Shop) -> list[str]:
    """What the report says is left to repair."""
    found: list[str] = json.loads(shop.sextant("report", "shop", "--json").stdout)["repairs"]
    return found


def test_the_second_of_two_runs_at_once_ends_and_says_who_holds_it(shop: Shop) -> None:
    correct(shop)
    first = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "run", "shop", "--select", "+validate"],
        cwd=shop.root,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert first.stderr is not None
    for line in first.stderr:
        if "] ingest" in line:
            break
    second = shop.sextant("run", "shop", check=False)
    assert second.returncode == 1
    assert second.stderr.endswith(
        f"run is held by the run of [{FIRST}, {LAST}) (process {first.pid}).\n"
        "  Nothing was changed. Wait for it to end, then run the same command again.\n"
    )
    first.communicate(timeout=300)
    assert first.returncode == 0


def test_a_run_keeps_out_of_the_way_of_a_task_that_runs_one_stage(shop: Shop) -> None:
    correct(shop)
    with hold(shop.lake / ".locks" / "stage ingest.lock", "stage ingest of an Airflow task"):
        done = shop.sextant("run", "shop", check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(
        f"stage ingest is held by stage ingest of an Airflow task (process {os.getpid()}).\n"
        "  Nothing was changed. Wait for it to end, then run the same command again.\n"
    )


def test_recommend_shows_titles_and_serves_strangers(finished: Shop) -> None:
    mine = finished.sextant("recommend", "shop", "u03", "--k", "3").stdout.splitlines()
    assert mine[0] == f"Candidates of user u03, of the interval that ends at {LAST}"
    assert len(mine) == 4
    assert all("Coffee no. " in line for line in mine[1:])
    stranger = finished.sextant("recommend", "shop", "nobody").stdout.splitlines()
    assert stranger[1] == "  (`nobody` is not an active user: this is the list for everybody)"
    assert all("popularity" in line for line in stranger[2:])
