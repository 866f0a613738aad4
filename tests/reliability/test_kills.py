"""kill -9 at chosen moments of every stage: the next run ends where an undisturbed one does.

One shop is killed again and again on its way through a corrected interval, so that each run goes on
from what the kill before it left. `benchmarks/chaos.py` does the same for every stage and moment
apart, and at random times.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from kills import Reader, run_and_kill, written_tables
from lake_state import DATA_TABLES, RESULTS, orphans, rows_hash, state
from prepared_world import ENDS, prepared
from shop_world import Shop, correct

LAST = ENDS[-1]
FOUR = (
    (("validate", "during write"), ("examples", "during write")),
    (("train_item_knn", "after write"), ("publish", "during write")),
)
"""Kills of stages that make data, and of those that make models and lists."""
NINE = (
    (
        ("ingest", "during write"),
        ("validate", "during write"),
        ("validate", "after write"),
        ("examples", "during write"),
    ),
    (
        ("train_item_knn", "after write"),
        ("gate", "after write"),
        ("candidates", "after write"),
        ("publish", "during write"),
        ("publish", "after write"),
    ),
)
ORPHANS = 18
"""Files that no commit names which the kills may leave."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with one published interval, whose source was corrected since."""
    shop = prepared(tmp_path_factory.mktemp("finished") / "shop", tmp_path_factory)
    shop.run(LAST)
    correct(shop)
    return shop


@pytest.fixture(scope="module")
def undisturbed(finished: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The same after a run that nobody killed."""
    shop = finished.copy(tmp_path_factory.mktemp("undisturbed") / "shop")
    shop.run(LAST)
    return shop


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(FOUR, marks=pytest.mark.slow, id="four"),
        pytest.param(NINE, marks=pytest.mark.chaos, id="nine"),
    ],
)
def test_a_run_killed_at_some_moments_ends_as_if_undisturbed(
    finished: Shop,
    undisturbed: Shop,
    tmp_path: Path,
    kills: tuple[tuple[tuple[str, str], ...], ...],
) -> None:
    of_data, of_models = kills
    shop = finished.copy(tmp_path / "shop")
    tables = written_tables(undisturbed)
    allowed = {
        table: {rows_hash(finished, table), rows_hash(undisturbed, table)} for table in RESULTS
    }
    already = orphans(shop)
    with Reader(shop, RESULTS) as reader:
        landed = [
            run_and_kill(shop, stage, moment, tables[stage], "--at", LAST, "--select", "+features")
            for stage, moment in of_data
        ]
        shop.run(LAST, "+features")
        assert state(shop, DATA_TABLES) == state(undisturbed, DATA_TABLES)
        landed += [
            run_and_kill(shop, stage, moment, tables[stage], "--at", LAST)
            for stage, moment in of_models
        ]
        left = orphans(shop) - already
        shop.run(LAST)
    # A moment is seen from outside, and a fast machine may be past it; most must have been met.
    assert sum(kill.hit for kill in landed) > len(landed) / 2, landed
    assert reader.violations(allowed) == []
    assert reader.reads > 100
    assert len(left) <= ORPHANS
    assert state(shop) == state(undisturbed)
