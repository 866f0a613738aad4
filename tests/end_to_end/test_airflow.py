"""A real scheduler runs, backfills and repairs a shop: its tables are those of local runs.

One Airflow for all of it, disturbed on its way: paused, triggered twice, its processes killed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from airflow_world import (
    EVERY,
    Airflow,
    airflow,
    disturb,
    kill_the_ray_worker,
    log_in,
    run_sextant,
    served,
    told,
)
from lake_state import DATA_TABLES, STAGED, publications, rows_hash, served_commits, state
from mlflow import MlflowClient
from pages import browser, picture
from receivers import posted
from registry_pages import choose_champion, release
from shop_world import Shop, correct, make_shop

from pipelines.intervals import interval_containing, interval_ending, text
from pipelines.sections import GROUPS

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

BACKFILLED = 4
SERVICES = ("mlflow", "evidently", "pool", "airflow-api", "airflow-scheduler")


@pytest.fixture(scope="module")
def live() -> datetime:
    """End of the interval that the scheduler runs by itself; it may be some minutes ahead."""
    return interval_containing(datetime.now(UTC) + timedelta(minutes=4), "6h").start


@pytest.fixture(scope="module")
def ends(live: datetime) -> list[datetime]:
    """Ends of the backfilled intervals, oldest first."""
    return [live - number * EVERY for number in range(BACKFILLED, 0, -1)]


@pytest.fixture(scope="module")
def local(live: datetime, ends: list[datetime], tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The same by the command line: the newest interval, then those before it."""
    shop = make_shop(tmp_path_factory.mktemp("local") / "shop", end=live)
    shop.sextant("run", "shop", "--at", text(live))
    shop.sextant("backfill", "shop", "--from", text(ends[0] - EVERY), "--to", text(ends[-1]))
    return shop


@pytest.fixture(scope="module")
def news() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a web server, and what the alerts posted to it."""
    with posted() as found:
        yield found


@pytest.fixture(scope="module")
def scheduled(
    live: datetime,
    ends: list[datetime],
    news: tuple[str, list[bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Airflow]:
    """The newest interval by the schedule, then a backfill with all kinds of disturbances."""
    shop = make_shop(tmp_path_factory.mktemp("scheduled") / "shop", end=live)
    shop.set_spec(
        "schedule: {every: 6h}",
        f"""\
schedule:
  {{every: 6h, start: {text(live - 20 * EVERY)}, end: {text(live)}, retry_after: 1s, deadline: 20s}}
alerts: [{{to: webhook, url: "{news[0]}"}}]""",
    )
    with airflow(shop) as found:
        found.pause(False)
        found.until(lambda: list(found.runs().values()) == ["success"])
        found.backfill(ends, at_once=2)
        disturb(found, ends)
        for run in (f"backfill__{end.isoformat()}" for end in ends):
            found.until(lambda run=run: found.runs()[run] == "success")
        yield found


def test_tables_and_registry_are_those_of_local_runs(scheduled: Airflow, local: Shop) -> None:
    assert state(scheduled.shop, DATA_TABLES) == state(local, DATA_TABLES)
    assert state(scheduled.shop) == state(local)


def test_each_interval_registers_one_version_however_often_it_was_triggered(
    scheduled: Airflow, live: datetime, ends: list[datetime]
) -> None:
    store = MlflowClient(tracking_uri=scheduled.pages["mlflow"])
    for model in ("popularity", "item_knn"):
        versions = store.search_model_versions(f"name = 'shop.{model}'")
        fitted = sorted(version.tags["interval_end"] for version in versions)
        assert fitted == [text(end) for end in (*ends, live)]


def test_what_was_killed_was_tried_again_and_nothing_published_twice(
    scheduled: Airflow, ends: list[datetime]
) -> None:
    for end in ends[1:3]:
        assert max(scheduled.tries(f"backfill__{end.isoformat()}").values()) >= 2
    # The lists of all but the newest interval stay in staging.
    assert served_commits(scheduled.shop) == publications(scheduled.shop) == 1


def test_a_run_begins_when_that_of_the_interval_before_has_ended(
    scheduled: Airflow, ends: list[datetime]
) -> None:
    path = "/dags/shop/dagRuns/backfill__{}"
    for before, after in pairwise(end.isoformat() for end in ends):
        done = scheduled.api("GET", path.format(before))["end_date"]
        task = scheduled.api("GET", f"{path.format(after)}/taskInstances/validate")
        assert datetime.fromisoformat(done) < datetime.fromisoformat(task["start_date"])


def test_models_are_trained_side_by_side(
    scheduled: Airflow, live: datetime, ends: list[datetime]
) -> None:
    runs = [f"backfill__{end.isoformat()}" for end in ends] + [f"scheduled__{live.isoformat()}"]

    def side_by_side(run: str) -> bool:
        path = f"/dags/shop/dagRuns/{run}/taskInstances/train_{{}}"
        one, other = (
            scheduled.api("GET", path.format(name)) for name in ("popularity", "item_knn")
        )
        return max(one["start_date"], other["start_date"]) < min(one["end_date"], other["end_date"])

    assert any(side_by_side(run) for run in runs)


def test_a_late_run_is_told_and_no_killed_one(
    scheduled: Airflow, news: tuple[str, list[bytes]]
) -> None:
    scheduled.until(lambda: bool(told(news, "late")))
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
    (run,) = (name for name in scheduled.runs() if name in late["message"])
    assert late["message"] == f"The run {run} has waited or run for more than 20s and is not done."


def test_runs_own_the_intervals_that_airflow_shows(
    scheduled: Airflow, live: datetime, ends: list[datetime]
) -> None:
    runs = scheduled.api("GET", "/dags/shop/dagRuns?limit=100")["dag_runs"]
    assert sorted(
        (run["data_interval_start"], run["data_interval_end"], run["run_type"])
        for run in runs
        if run["run_type"] != "manual" and run["data_interval_end"] <= f"{live:%Y-%m-%dT%H:%M:%SZ}"
    ) == [
        (f"{end - EVERY:%Y-%m-%dT%H:%M:%SZ}", f"{end:%Y-%m-%dT%H:%M:%SZ}", kind)
        for end, kind in [*((end, "backfill") for end in ends), (live, "scheduled")]
    ]


def test_why_a_model_was_trained_stands_in_xcom(scheduled: Airflow, live: datetime) -> None:
    path = f"/dags/shop/dagRuns/scheduled__{live.isoformat()}/taskInstances/decide/xcomEntries/reasons?deserialize=true"
    assert scheduled.api("GET", path)["value"] == {
        "train_popularity": "never trained before",
        "train_item_knn": "never trained before",
    }


@pytest.fixture(scope="module")
def page(scheduled: Airflow) -> Iterator[Page]:
    """A browser that is logged in."""
    with browser() as found:
        log_in(found, scheduled)
        yield found


@pytest.mark.browser
def test_the_grid_shows_each_task_of_each_run(
    page: Page, scheduled: Airflow, ends: list[datetime]
) -> None:
    page.goto(f"{scheduled.pages['airflow']}/dags/shop")
    page.get_by_label("Expand all task groups").click()
    for end in ends:
        for task in ("ingest", "examples", "train_item_knn", "publish"):
            href = f"/dags/shop/runs/backfill__{end.isoformat()}/tasks/{task}"
            page.locator(f"a[href^='{href}']").first.wait_for()
    page.get_by_label("Collapse Details Panel").click()
    picture(page, "airflow-grid")


@pytest.mark.browser
def test_the_graph_shows_the_groups_in_their_order(page: Page, scheduled: Airflow) -> None:
    page.goto(f"{scheduled.pages['airflow']}/dags/shop")
    page.get_by_label(re.compile("Show Graph")).click()
    page.get_by_label("Collapse all task groups").click()
    nodes = page.locator(".react-flow__node")
    nodes.first.wait_for()
    picture(page, "airflow-graph")
    boxes = {text.split("\n")[0]: node for node in nodes.all() if (text := node.inner_text())}
    assert sorted(boxes, key=lambda name: boxes[name].bounding_box()["x"]) == list(GROUPS)


@pytest.mark.browser
def test_the_form_says_what_may_be_chosen(page: Page, scheduled: Airflow) -> None:
    page.goto(f"{scheduled.pages['airflow']}/dags/shop")
    page.get_by_role("button", name="Trigger Dag").click()
    form = page.get_by_role("dialog")
    for words in (
        "End of the interval",
        "Where an interval of 6h ends, UTC.",
        "Train in any case",
        "Those that may be trained in this run. Empty: all.",
        "Only log what would run, and why; change nothing.",
    ):
        form.get_by_text(words).first.wait_for()
    picture(page, "airflow-trigger")
    before = scheduled.runs()
    form.get_by_test_id("datetime-input").last.click()
    page.get_by_placeholder("YYYY/MM/DD").fill("2026/02/01")
    page.get_by_placeholder("HH:mm").fill("07:00")
    page.keyboard.press("Escape")
    form.get_by_text("Feb 01, 2026 07:00").wait_for()
    form.get_by_role("button", name="Trigger", exact=True).click()
    form.get_by_text("interval_end").filter(has_text="2026-02-01T07:00").wait_for()
    assert scheduled.runs() == before
    page.keyboard.press("Escape")


@pytest.mark.browser
def test_an_asset_shows_where_it_comes_from(page: Page, scheduled: Airflow) -> None:
    page.goto(f"{scheduled.pages['airflow']}/assets")
    page.get_by_role("link", name="shop.champions", exact=True).click()
    nodes = page.locator(".react-flow__node")
    for name in ("shop", "shop.champions", "shop.examples", "shop.candidates"):
        nodes.filter(has_text=re.compile(rf"^{name}$")).first.wait_for()
    picture(page, "airflow-assets")


@pytest.mark.browser
def test_evidently_shows_each_interval_in_words(
    page: Page, scheduled: Airflow, live: datetime, ends: list[datetime]
) -> None:
    page.goto(scheduled.pages["evidently"])
    page.get_by_role("link", name="shop").click()
    page.get_by_text("Share of drifted columns", exact=True).wait_for()
    page.goto(f"{page.url.rstrip('/')}/reports")
    for end in (*ends, live):
        page.get_by_text(f"{end:%Y-%m-%d %H:%M} UTC").first.wait_for()
    page.get_by_text("may be published").first.wait_for()


@pytest.mark.browser
def test_mlflow_shows_why_a_version_serves(page: Page, scheduled: Airflow) -> None:
    page.goto(f"{scheduled.pages['mlflow']}/#/models/shop.item_knn/versions/1")
    page.get_by_text("gate_verdict").first.wait_for()
    page.get_by_text("champion").first.wait_for()
    page.get_by_text("gate_verdict").first.scroll_into_view_if_needed()
    picture(page, "mlflow-version")


def test_an_interval_in_the_middle_is_repaired_alone(
    scheduled: Airflow, local: Shop, ends: list[datetime]
) -> None:
    run = f"backfill__{ends[2].isoformat()}"
    before = scheduled.tasks(run)
    assert set(before.values()) == {"success"}
    for shop in (scheduled.shop, local):
        correct(shop, before=ends[2])
    repaired = interval_ending(ends[2], "6h")
    tables = (*DATA_TABLES, "quarantine", *STAGED)
    kept = {table: rows_hash(scheduled.shop, table, without=repaired) for table in tables}
    scheduled.clear(run)
    scheduled.until(lambda: scheduled.tasks(run) != before)
    scheduled.until(lambda: scheduled.tasks(run) == before)
    for table in tables:
        assert rows_hash(scheduled.shop, table, without=repaired) == kept[table], table
    local.sextant("run", "shop", "--at", text(ends[2]))
    assert state(scheduled.shop) == state(local)


def test_one_task_cleared_is_done_again_alone(
    scheduled: Airflow, local: Shop, ends: list[datetime]
) -> None:
    run = f"backfill__{ends[3].isoformat()}"
    tries = scheduled.tries(run)
    scheduled.clear(run, "user_features")
    again = {**tries, "user_features": tries["user_features"] + 1}
    scheduled.until(lambda: scheduled.tries(run) == again)
    scheduled.until(lambda: set(scheduled.tasks(run).values()) == {"success"})
    assert state(scheduled.shop) == state(local)


def test_a_second_up_says_that_all_is_up(scheduled: Airflow) -> None:
    before = {name: scheduled.process(name).pid for name in SERVICES}
    said = run_sextant(scheduled.shop, "up", *scheduled.options)
    assert said.startswith(
        "Everything is up already.\n"
        f"Airflow    {scheduled.pages['airflow']}   user admin, password {scheduled.password}\n"
        f"MLflow     {scheduled.pages['mlflow']}\n"
        f"Evidently  {scheduled.pages['evidently']}\n"
    )
    assert {name: scheduled.process(name).pid for name in SERVICES} == before


def test_no_new_version_of_the_dag_without_a_change(scheduled: Airflow) -> None:
    assert scheduled.api("GET", "/dags/shop/dagVersions")["total_entries"] == 1


def test_the_form_refuses_bad_values(scheduled: Airflow) -> None:
    moments = ("yesterday", "2026-99-01T06:00Z", "2026-02-01T07:00Z")
    for wrong in (
        *({"interval_end": moment} for moment in moments),
        {"force_training": "perhaps"},
        {"models": ["unheard_of"]},
        {"dry_run": 3},
    ):
        with pytest.raises(AssertionError, match=f"400 .*{next(iter(wrong))}"):
            scheduled.api("POST", "/dags/shop/dagRuns", {"logical_date": None, "conf": wrong})


def test_a_dry_run_changes_nothing(scheduled: Airflow, live: datetime) -> None:
    before = state(scheduled.shop)
    run = scheduled.trigger(live, dry_run=True, force_training=True)
    scheduled.until(lambda: scheduled.runs()[run] not in ("queued", "running"))
    assert set(scheduled.tasks(run).values()) == {"skipped"}
    assert state(scheduled.shop) == before


@pytest.mark.browser
def test_a_champion_chosen_by_clicking_is_served_within_two_minutes_and_taken_back(
    page: Page, scheduled: Airflow, local: Shop, live: datetime
) -> None:
    store = MlflowClient(tracking_uri=scheduled.pages["mlflow"])
    local_store = MlflowClient(tracking_uri=local.project().tracking_uri)
    champion = store.get_model_version_by_alias("shop.item_knn", "champion").version
    chosen = next(
        v.version
        for v in store.search_model_versions("name = 'shop.item_knn'")
        if v.version != champion
    )
    before = rows_hash(scheduled.shop, "candidates")
    assert served(scheduled.shop) == {champion}
    for version in (chosen, champion):
        choose_champion(page, scheduled.pages["mlflow"], "shop.item_knn", version)
        began = time.monotonic()
        scheduled.until(lambda version=version: served(scheduled.shop) == {version})
        assert time.monotonic() - began < 120
        local_store.set_registered_model_alias("shop.item_knn", "champion", version)
        local.sextant("run", "shop", "--at", text(live))
    assert rows_hash(scheduled.shop, "candidates") == before
    release(page, scheduled.pages["mlflow"], "shop.item_knn")
    local_store.delete_registered_model_tag("shop.item_knn", "hold")


def test_a_training_goes_on_whose_ray_worker_is_killed(
    scheduled: Airflow, local: Shop, live: datetime
) -> None:
    for shop in (scheduled.shop, local):
        shop.set_spec("item_knn]", "item_knn, {transformer: {size: debug}}]")
    scheduled.until(lambda: "train_transformer" in scheduled.stages())
    run = scheduled.trigger(live)
    scheduled.until(lambda: scheduled.tasks(run).get("train_transformer") == "running")
    kill_the_ray_worker(scheduled)
    scheduled.until(lambda: scheduled.runs()[run] not in ("queued", "running"))
    assert set(scheduled.tasks(run).values()) == {"success"}
    local.sextant("run", "shop", "--at", text(live))
    assert state(scheduled.shop) == state(local)


def test_a_stage_that_fails_for_good_is_told(
    scheduled: Airflow, live: datetime, news: tuple[str, list[bytes]]
) -> None:
    scheduled.shop.set_spec("data/items.csv", "data/lost.csv")
    run = scheduled.trigger(live)
    scheduled.until(lambda: scheduled.runs()[run] == "failed")
    assert scheduled.tasks(run)["ingest"] == "failed"
    # The end of an earlier run of the interval is no reason to judge and publish it now.
    assert {scheduled.tasks(run)[task] for task in ("evaluate", "gate", "publish")} <= {
        "failed",
        "upstream_failed",
    }
    (failed,) = told(news, "failed")
    assert "data/lost.csv" in failed["message"]
    assert failed == {
        "kind": "failed",
        "pipeline": "shop",
        "stage": "ingest",
        "interval_end": text(live),
        "message": failed["message"],
        "next_command": f"sextant stage shop ingest --at {text(live)}",
    }


def test_runs_survive_a_restart(scheduled: Airflow) -> None:
    before = scheduled.runs()
    run_sextant(scheduled.shop, "down")
    run_sextant(scheduled.shop, "up", *scheduled.options)
    assert scheduled.runs() == before
