"""A real scheduler runs, backfills and repairs a shop: its tables are those of a local backfill."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from airflow_world import Airflow, airflow
from lake_state import DATA_TABLES, state
from shop_world import END, Shop, make_shop

from pipelines.intervals import text

pytestmark = pytest.mark.slow

INTERVALS = 3
ENDS = [text(END - number * timedelta(hours=6)) for number in range(INTERVALS)][::-1]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The intervals by `sextant backfill`."""
    shop = make_shop(tmp_path_factory.mktemp("local") / "shop")
    for end in ENDS:
        shop.run(end)
    return shop


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """The same intervals by a backfill of Airflow."""
    shop = make_shop(tmp_path_factory.mktemp("scheduled") / "shop")
    shop.set_spec(
        "schedule: {every: 6h}",
        "schedule: {every: 6h, start: 2026-03-01T00:00Z, end: 2026-03-13T00:00Z, retry_after: 5s}",
    )
    with airflow(shop) as found:
        found.api("PATCH", "/dags/shop", {"is_paused": False})
        first = text(END - INTERVALS * timedelta(hours=6))
        found.backfill(first, text(END - timedelta(hours=6)))
        found.until(lambda: list(found.runs().values()).count("success") == INTERVALS)
        yield found


def test_a_backfill_makes_the_tables_of_a_local_one(scheduled: Airflow, local: Shop) -> None:
    assert sorted(scheduled.runs()) == [f"{end[:16]}:00Z" for end in ENDS]
    assert state(scheduled.shop, DATA_TABLES) == state(local, DATA_TABLES)
    assert state(scheduled.shop) == state(local)


def test_one_task_cleared_is_done_again_alone(scheduled: Airflow, local: Shop) -> None:
    run = f"backfill__{ENDS[1][:16]}:00+00:00"
    before = scheduled.tasks(run)
    assert set(before.values()) == {"success"}
    scheduled.api(
        "POST",
        "/dags/shop/clearTaskInstances",
        {
            "dry_run": False,
            "dag_run_id": run,
            "task_ids": ["user_features"],
            "include_downstream": False,
            "reset_dag_runs": True,
            "only_failed": False,
        },
    )
    scheduled.until(lambda: scheduled.tasks(run) != before)
    scheduled.until(lambda: scheduled.tasks(run) == before)
    assert state(scheduled.shop) == state(local)
