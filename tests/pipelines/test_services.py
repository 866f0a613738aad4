"""What `sextant up` is told, and what it tells Airflow and MLflow; they run in test_airflow.py."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
from shop_world import REPOSITORY
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import OperationalError

from pipelines.errors import UsageError
from pipelines.services import Ports, Services


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project folder with the demo's spec and an environment of many machines."""
    for folder in ("configs", "data_contracts"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    (tmp_path / "configs" / "environments" / "many.yaml").write_text(
        """\
environment:
  mlflow: {tracking_uri: "postgresql://me:word@db/mlflow"}
  airflow:
    database: postgresql+psycopg2://me:word@db/airflow
    executor: CeleryExecutor
    settings: {AIRFLOW__CELERY__BROKER_URL: "redis://broker:6379/0"}
"""
    )
    return tmp_path


def made(services: Services, *names: str) -> dict[str, str]:
    """Some of the variables that its processes get."""
    services.home.mkdir(parents=True)
    found = services.variables()
    return {name: found[name] for name in names}


def test_an_environment_chooses_database_and_executor(root: Path) -> None:
    assert made(
        Services(root, "many"),
        "AIRFLOW__CORE__EXECUTOR",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRFLOW__CELERY__BROKER_URL",
        "MLFLOW_BACKEND_STORE_URI",
        "SEXTANT_ENVIRONMENT",
    ) == {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://me:word@db/airflow",
        "AIRFLOW__CELERY__BROKER_URL": "redis://broker:6379/0",
        "MLFLOW_BACKEND_STORE_URI": "postgresql://me:word@db/mlflow",
        "SEXTANT_ENVIRONMENT": "many",
    }


def test_without_one_all_is_on_this_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What another Airflow of this user has set is not ours.
    monkeypatch.setenv("AIRFLOW__API__HOST", "0.0.0.0")
    monkeypatch.setenv("AIRFLOW_HOME", "/nowhere")
    home = root / ".cache" / "services" / "airflow"
    assert made(
        Services(root),
        "AIRFLOW_HOME",
        "AIRFLOW__API__HOST",
        "AIRFLOW__CORE__EXECUTOR",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "MLFLOW_BACKEND_STORE_URI",
    ) == {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=240",
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{root}/mlruns/mlflow.db",
    }


def test_keys_are_made_once(root: Path) -> None:
    services = Services(root)
    first = made(services, "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET")
    assert len(set(first.values())) == 2
    assert first.items() <= services.variables().items()


def test_what_is_not_given_is_the_default(root: Path) -> None:
    assert Services.wanted(root) == Services(root)
    assert Services.wanted(root, "many", {"mlflow": 5001}, 3) == Services(
        root, "many", Ports(mlflow=5001), 3
    )


def test_a_port_that_is_taken_is_said(root: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError) as caught:
            Services.wanted(root, ports={"mlflow": port}).up(print)
    assert str(caught.value) == (
        f"Port {port} for mlflow is taken by another program. Choose one: "
        f"`sextant up --mlflow-port {port + 1}`."
    )
    assert not Services(root).down(print)


def test_airflow_before_up_is_said(root: Path) -> None:
    with pytest.raises(UsageError) as caught:
        Services.last(root)
    assert str(caught.value) == "There is no Airflow here yet: `sextant up` starts one."


@pytest.mark.parametrize("helped", [False, True])
def test_a_savepoint_waits_for_its_turn_to_write(
    root: Path, monkeypatch: pytest.MonkeyPatch, helped: bool
) -> None:
    """As Airflow creates a backfill's runs: reads, meanwhile another process writes, then writes."""
    folder = made(Services(root), "PYTHONPATH")["PYTHONPATH"].split(os.pathsep)[0]
    monkeypatch.syspath_prepend(folder)
    database = f"sqlite:///{root}/airflow.db?timeout=60"
    engine, other = create_engine(database), create_engine(database)
    if helped:
        hook = importlib.import_module("airflow_local_settings").write_from_the_beginning
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.exec_driver_sql("CREATE TABLE dag_run (id TEXT)")

    def schedule() -> None:
        with other.begin() as connection:
            connection.exec_driver_sql("INSERT INTO dag_run VALUES ('scheduled')")

    scheduler = threading.Thread(target=schedule)
    told = nullcontext() if helped else pytest.raises(OperationalError, match="database is locked")
    try:
        with engine.connect() as connection, told:
            with connection.begin_nested():
                connection.exec_driver_sql("SELECT * FROM dag_run").all()
                scheduler.start()
                scheduler.join(timeout=0.5)  # with the hook it waits until the end of all this
                connection.exec_driver_sql("INSERT INTO dag_run VALUES ('backfill')")
            connection.commit()
    finally:
        scheduler.join()
        if helped:
            event.remove(Engine, "savepoint", hook)
    with engine.connect() as connection:
        written = connection.exec_driver_sql("SELECT id FROM dag_run ORDER BY id").scalars().all()
    assert written == (["backfill", "scheduled"] if helped else ["scheduled"])
