"""PostgreSQL behind Airflow and MLflow both, by an environment alone."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from airflow_world import airflow
from mlflow import MlflowClient
from postgres import postgres
from shop_world import END, make_shop

pytestmark = [pytest.mark.slow, pytest.mark.system]


def test_a_run_with_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = make_shop(tmp_path / "shop")
    with postgres() as server:
        for database in ("airflow", "mlflow"):
            server.execute(f"CREATE DATABASE {database}")
        monkeypatch.setenv("SEXTANT_DB_HOST", f"127.0.0.1:{server.port}")
        monkeypatch.setenv("SEXTANT_DB_USER", "owner")
        monkeypatch.setenv("SEXTANT_DB_PASSWORD", quote(server.password, safe=""))
        with airflow(shop, "--env", "postgresql") as found:
            found.pause(False)
            run = found.trigger(END)
            found.until(lambda: found.runs()[run] not in ("queued", "running"))
            assert set(found.tasks(run).values()) == {"success"}
            store = MlflowClient(tracking_uri=found.pages["mlflow"])
            champion = store.get_model_version_by_alias("shop.item_knn", "champion")
            assert champion.version == "1"
    # Nothing fell back to files.
    assert list(shop.root.rglob("*.db")) == []
