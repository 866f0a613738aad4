"""A real Airflow beside a shop, and its REST API."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import psutil
from deltalake import DeltaTable
from ports import free_port
from shop_world import REPOSITORY, Shop, environment

from pipelines.intervals import text
from pipelines.processes import begin_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

EVERY = timedelta(hours=6)

_PATIENCE = 900.0
_PAGES = ("airflow", "mlflow", "evidently")


@dataclass(frozen=True)
class Airflow:
    """The Airflow that `sextant up` started for a shop.

    Args:
        shop: The shop.
        address: Of its API server.
        token: Of its admin.
        pages: Addresses of `airflow`, `mlflow` and `evidently`.
        password: Of its admin.
        options: What `up` was called with.
    """

    shop: Shop
    address: str
    token: str
    pages: Mapping[str, str]
    password: str
    options: tuple[str, ...]

    def api(self, method: str, path: str, body: object = None) -> Any:
        """One call of the REST API; the answer's JSON."""
        return _call(method, f"{self.address}/api/v2{path}", body, self.token)

    def runs(self, dag: str = "shop") -> dict[str, str]:
        """Id and state of each run."""
        found = self.api("GET", f"/dags/{dag}/dagRuns?limit=100")["dag_runs"]
        return {run["dag_run_id"]: run["state"] for run in found}

    def tasks(self, run: str, dag: str = "shop") -> dict[str, str]:
        """State of each task of a run."""
        found = self.api("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in found}

    def tries(self, run: str, dag: str = "shop") -> dict[str, int]:
        """How often each task of a run was begun."""
        found = self.api("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {task["task_id"]: task["try_number"] for task in found}

    def stages(self, dag: str = "shop") -> set[str]:
        """The tasks that a DAG has now."""
        return {task["task_id"] for task in self.api("GET", f"/dags/{dag}/tasks")["tasks"]}

    def backfill(self, ends: Sequence[datetime], dag: str = "shop", at_once: int = 1) -> None:
        """Start a backfill of intervals, oldest first, by the product's command line."""
        span = (text(ends[0] - EVERY), text(ends[-1] - EVERY))
        run_sextant(
            self.shop,
            *("airflow", "backfill", "create", "--dag-id", dag),
            *("--max-active-runs", str(at_once)),
            *("--from-date", span[0], "--to-date", span[1]),
        )

    def trigger(self, end: datetime, dag: str = "shop", **params: object) -> str:
        """Trigger a run for an interval as the form does; returns its id."""
        body = {"logical_date": None, "conf": {"interval_end": text(end), **params}}
        run: str = self.api("POST", f"/dags/{dag}/dagRuns", body)["dag_run_id"]
        return run

    def pause(self, paused: bool, dag: str = "shop") -> None:
        """Pause or resume a DAG."""
        self.api("PATCH", f"/dags/{dag}", {"is_paused": paused})

    def clear(self, run: str, *tasks: str) -> None:
        """Clear some tasks of a run alone, or all."""
        self.api(
            "POST",
            "/dags/shop/clearTaskInstances",
            {
                "dry_run": False,
                "dag_run_id": run,
                **({"task_ids": list(tasks)} if tasks else {}),
                "include_downstream": False,
                "reset_dag_runs": True,
                "only_failed": False,
            },
        )

    def process(self, name: str) -> psutil.Process:
        """One of the processes that `up` started."""
        noted = self.shop.root / ".cache" / "services" / "processes.json"
        return psutil.Process(json.loads(noted.read_text())[name][0])

    def until(self, condition: Callable[[], bool], patience: float = _PATIENCE) -> None:
        """Wait for something, for some seconds."""
        deadline = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < deadline, "it did not come about"
            time.sleep(0.5)


@contextmanager
def airflow(shop: Shop, *options: str, workers: int = 1) -> Iterator[Airflow]:
    """`sextant up` in the folder of a shop, and `sextant down` in the end."""
    (shop.root / "dags").mkdir(exist_ok=True)
    (shop.root / "dags" / "loader.py").write_text((REPOSITORY / "dags" / "loader.py").read_text())
    ports = [free_port() for _ in range(3)]
    options = (
        *options,
        f"--workers={workers}",
        *(f"--{name}-port={port}" for name, port in zip(_PAGES, ports, strict=True)),
    )
    run_sextant(shop, "up", *options)
    try:
        address = f"http://127.0.0.1:{ports[0]}"
        home = shop.root / ".cache" / "services" / "airflow"
        passwords = home / "simple_auth_manager_passwords.json.generated"
        login = {"username": "admin", "password": json.loads(passwords.read_text())["admin"]}
        token = _call("POST", f"{address}/auth/token", login, None)["access_token"]
        pages = {name: f"http://127.0.0.1:{port}" for name, port in zip(_PAGES, ports, strict=True)}
        found = Airflow(shop, address, token, pages, login["password"], options)
        found.until(lambda: bool(found.api("GET", "/dags")["dags"]))
        yield found
    finally:
        run_sextant(shop, "down")
        assert _alive(shop) == []


def log_in(page: Page, airflow: Airflow) -> None:
    """Open Airflow's first page as its admin."""
    page.goto(airflow.pages["airflow"])
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", airflow.password)
    page.keyboard.press("Enter")
    page.get_by_text("Welcome").wait_for()


def disturb(airflow: Airflow, ends: Sequence[datetime]) -> None:
    """Trigger, pause and kill while a backfill runs."""
    first = f"backfill__{ends[0].isoformat()}"
    airflow.until(lambda: airflow.runs()[first] == "running")
    again = airflow.trigger(ends[0])
    airflow.until(lambda: "success" in airflow.tasks(first).values())
    airflow.pause(True)
    airflow.until(lambda: _at_rest(airflow, first))
    assert airflow.runs()[first] == "running"
    airflow.pause(False)
    airflow.until(lambda: {airflow.runs()[run] for run in (first, again)} == {"success"})
    kills = (kill_the_task, kill_the_worker, kill_the_scheduler)
    for end, kill in zip(ends[1:4], kills, strict=True):
        kill(airflow, end)


def _at_rest(airflow: Airflow, run: str) -> bool:
    """Whether no task of a run is at work or about to be, for five seconds.

    A paused DAG still does what the scheduler had queued when it was paused.
    """
    found = airflow.tasks(run)
    time.sleep(5)
    return airflow.tasks(run) == found and not {"queued", "running"} & set(found.values())


def at_work(shop: Shop, end: datetime) -> str:
    """The stage of an interval that the one worker is at; empty while it is at none."""
    rows = DeltaTable(shop.lake / "runs").to_pyarrow_table().to_pylist()
    newest = max(rows, key=lambda row: (row["started_at"], row["status"] != "started"))
    is_at = newest["interval_end"] == end and newest["status"] == "started"
    return str(newest["stage"]) if is_at else ""


def kill_the_task(airflow: Airflow, end: datetime) -> None:
    """The process that Airflow forked for the task of the stage at work."""
    run = f"backfill__{end.isoformat()}"

    def kill() -> bool:
        stage = at_work(airflow.shop, end)
        if not stage:
            return False
        task = airflow.api("GET", f"/dags/shop/dagRuns/{run}/taskInstances/{stage}")
        for child in airflow.process("airflow-scheduler").children(recursive=True):
            with suppress(psutil.Error):  # it may end any moment
                if f"airflow worker -- {task['id']}" in " ".join(child.cmdline()):
                    child.kill()
                    return True
        return False

    airflow.until(kill)


def kill_the_worker(airflow: Airflow, end: datetime) -> None:
    """The warm process that does a task's work: there is one. Again, if it was just idle."""
    run = f"backfill__{end.isoformat()}"

    def tried_again() -> bool:
        return max(airflow.tries(run).values(), default=0) > 1

    while not tried_again():
        airflow.until(lambda: bool(at_work(airflow.shop, end)))
        (worker,) = airflow.process("pool").children()
        worker.kill()
        with suppress(AssertionError):
            airflow.until(tried_again, patience=60)


def kill_the_scheduler(airflow: Airflow, end: datetime) -> None:
    """The scheduler, while a stage is at work; the next `up` starts another."""
    airflow.until(lambda: bool(at_work(airflow.shop, end)))
    before = airflow.process("airflow-scheduler")
    before.kill()
    airflow.until(lambda: begin_of(before.pid) == 0)
    run_sextant(airflow.shop, "up", *airflow.options)
    assert airflow.process("airflow-scheduler").pid != before.pid


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


def told(news: tuple[str, list[bytes]], kind: str) -> list[dict[str, str]]:
    """The alerts of a kind."""
    alerts = [json.loads(body) for body in news[1]]
    return [alert for alert in alerts if alert["kind"] == kind]


def served(shop: Shop) -> set[str]:
    """Versions of the model whose lists are served."""
    rows = DeltaTable(shop.lake / "candidates").to_pyarrow_table().to_pylist()
    return {row["model_version"] for row in rows if row["model_name"] == "item_knn"}


def _alive(shop: Shop) -> list[str]:
    """What still runs of all that `up` started."""
    pool = str(shop.root / ".cache" / "services" / "pool")
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get("SEXTANT_POOL") == pool:
                found.append(" ".join(process.cmdline()))
    return found


def run_sextant(shop: Shop, *arguments: str) -> str:
    """Run a command of the product in the shop's folder; returns its output."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments],
        cwd=shop.root,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _call(method: str, url: str, body: object, token: str | None) -> Any:
    request = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Content-Type": "application/json",
            **({"Authorization": f"Bearer {token}"} if token else {}),
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {url}: {error.code} {error.read().decode()}") from error
