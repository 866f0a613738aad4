"""A real Airflow beside a shop, and its REST API."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shop_world import REPOSITORY, Shop, environment

_PATIENCE = 900.0


@dataclass(frozen=True)
class Airflow:
    """The Airflow that `sextant up` started for a shop.

    Args:
        shop: The shop.
        address: Of its API server.
        token: Of its admin.
    """

    shop: Shop
    address: str
    token: str

    def api(self, method: str, path: str, body: object = None) -> Any:
        """One call of the REST API; the answer's JSON."""
        return _call(method, f"{self.address}/api/v2{path}", body, self.token)

    def runs(self, dag: str = "shop") -> dict[str, str]:
        """End of the data interval of each run, and its state."""
        found = self.api("GET", f"/dags/{dag}/dagRuns?limit=100")["dag_runs"]
        return {run["data_interval_end"]: run["state"] for run in found}

    def tasks(self, run: str, dag: str = "shop") -> dict[str, str]:
        """State of each task of a run."""
        found = self.api("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in found}

    def backfill(self, start: str, last: str) -> None:
        """Start a backfill of the runs whose intervals begin from `start` to `last`."""
        self.api(
            "POST",
            "/backfills",
            {
                "dag_id": "shop",
                "from_date": start,
                "to_date": last,
                "max_active_runs": 1,
                "reprocess_behavior": "none",
            },
        )

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something."""
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.runs()
            time.sleep(1)


@contextmanager
def airflow(shop: Shop, workers: int = 1) -> Iterator[Airflow]:
    """`sextant up` in the folder of a shop, and `sextant down` in the end."""
    (shop.root / "dags").mkdir(exist_ok=True)
    (shop.root / "dags" / "loader.py").write_text((REPOSITORY / "dags" / "loader.py").read_text())
    ports = [_free_port() for _ in range(3)]
    options = [
        f"--{name}-port={port}"
        for name, port in zip(("airflow", "mlflow", "evidently"), ports, strict=True)
    ]
    _sextant(shop, "up", *options, f"--workers={workers}")
    try:
        address = f"http://127.0.0.1:{ports[0]}"
        home = shop.root / ".cache" / "services" / "airflow"
        passwords = home / "simple_auth_manager_passwords.json.generated"
        login = {"username": "admin", "password": json.loads(passwords.read_text())["admin"]}
        token = _call("POST", f"{address}/auth/token", login, None)["access_token"]
        found = Airflow(shop, address, token)
        found.until(lambda: bool(found.api("GET", "/dags")["dags"]))
        yield found
    finally:
        _sextant(shop, "down")


def _sextant(shop: Shop, *arguments: str) -> str:
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
