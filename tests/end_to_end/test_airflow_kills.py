"""Processes that die while Airflow runs an interval: it ends as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime

import psutil
import pytest
from airflow_world import EVERY, Airflow, airflow, run_sextant
from lake_state import state
from receivers import posted
from shop_world import END, Shop, make_shop

from pipelines.intervals import text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

ENDS = [END - number * EVERY for number in (3, 2, 1, 0)]
WITH_RAY = ("item_knn]", "item_knn, {transformer: {size: debug}}]")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The intervals undisturbed."""
    shop = make_shop(tmp_path_factory.mktemp("local") / "shop")
    shop.sextant("backfill", "shop", "--from", text(ENDS[0] - EVERY), "--to", text(ENDS[-2]))
    shop.set_spec(*WITH_RAY)
    shop.sextant("run", "shop", "--at", text(END))
    return shop


@pytest.fixture(scope="module")
def news() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a web server, and what the alerts posted to it."""
    with posted() as found:
        yield found


@pytest.fixture(scope="module")
def running(
    news: tuple[str, list[bytes]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Airflow]:
    """An Airflow whose runs are late after twenty seconds."""
    shop = make_shop(tmp_path_factory.mktemp("running") / "shop")
    shop.set_spec(
        "schedule: {every: 6h}",
        f"""\
schedule:
  {{every: 6h, start: {text(ENDS[0])}, end: {text(END)}, retry_after: 1s, deadline: 20s}}
alerts: [{{to: webhook, url: "{news[0]}"}}]""",
    )
    with airflow(shop) as found:
        found.pause(False)
        yield found


def kill_the_task(airflow: Airflow) -> None:
    """The process that Airflow forked for the task."""
    scheduler = airflow.process("airflow-scheduler")
    tasks = [child for child in scheduler.children(recursive=True) if child.parent() != scheduler]
    tasks[-1].kill()


def kill_the_worker(airflow: Airflow) -> None:
    """The warm process that does the task's work."""
    (worker,) = airflow.process("pool").children()
    worker.kill()


def kill_the_scheduler(airflow: Airflow) -> None:
    """The scheduler; the next `up` starts another."""
    airflow.process("airflow-scheduler").kill()
    run_sextant(airflow.shop, "up", *airflow.options)


def kill_the_ray_worker(airflow: Airflow) -> None:
    """The process in which Ray fits the model."""
    found = list[psutil.Process]()

    def fits() -> bool:
        for child in airflow.process("pool").children(recursive=True):
            with suppress(psutil.Error):  # it may end any moment
                if "RayTrainWorker" in " ".join(child.cmdline()):
                    found.append(child)
        return bool(found)

    airflow.until(fits)
    found[0].kill()


@pytest.mark.parametrize(
    ("end", "stage", "kill"),
    [
        (ENDS[0], "validate", kill_the_task),
        (ENDS[1], "examples", kill_the_worker),
        (ENDS[2], "train_item_knn", kill_the_scheduler),
        (ENDS[3], "train_transformer", kill_the_ray_worker),
    ],
)
def test_an_interval_ends_whoever_is_killed(
    running: Airflow, end: datetime, stage: str, kill: Callable[[Airflow], None]
) -> None:
    if stage == "train_transformer":
        running.shop.set_spec(*WITH_RAY)
        running.until(lambda: stage in running.stages())
    run = running.trigger(end)
    running.until(lambda: running.tasks(run).get(stage) == "running")
    kill(running)
    running.until(lambda: running.runs()[run] not in ("queued", "running"))
    assert set(running.tasks(run).values()) == {"success"}


def test_tables_and_registry_are_those_of_undisturbed_runs(running: Airflow, local: Shop) -> None:
    assert state(running.shop) == state(local)


def test_a_late_run_is_told(running: Airflow, news: tuple[str, list[bytes]]) -> None:
    running.until(lambda: bool(told(news, "late")))
    assert told(news, "failed") == []
    late = told(news, "late")[0]
    assert late == {
        "kind": "late",
        "pipeline": "shop",
        "stage": "",
        "interval_end": "",
        "message": late["message"],
        "next_command": "sextant report shop",
    }
    (run,) = (name for name in running.runs() if name in late["message"])
    assert late["message"] == f"The run {run} has waited or run for more than 20s and is not done."


def test_a_stage_that_fails_for_good_is_told(
    running: Airflow, news: tuple[str, list[bytes]]
) -> None:
    running.shop.set_spec("data/items.csv", "data/lost.csv")
    run = running.trigger(END)
    running.until(lambda: running.runs()[run] == "failed")
    assert running.tasks(run)["ingest"] == "failed"
    # The end of an earlier run of the interval is no reason to judge and publish it now.
    assert {running.tasks(run)[task] for task in ("evaluate", "gate", "publish")} <= {
        "failed",
        "upstream_failed",
    }
    (failed,) = told(news, "failed")
    assert "data/lost.csv" in failed["message"]
    assert failed == {
        "kind": "failed",
        "pipeline": "shop",
        "stage": "ingest",
        "interval_end": text(END),
        "message": failed["message"],
        "next_command": f"sextant stage shop ingest --at {text(END)}",
    }


def test_runs_survive_a_restart(running: Airflow) -> None:
    before = running.runs()
    run_sextant(running.shop, "down")
    run_sextant(running.shop, "up", *running.options)
    assert running.runs() == before


def told(news: tuple[str, list[bytes]], kind: str) -> list[dict[str, str]]:
    """The alerts of a kind."""
    alerts = [json.loads(body) for body in news[1]]
    return [alert for alert in alerts if alert["kind"] == kind]
