"""A Spark cluster with two worker processes makes the same tables; only an environment differs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pyarrow as pa
import pyspark
import pytest
from deltalake import DeltaTable
from nodes import node, said
from prepared_world import ENDS, prepared
from shop_world import environment

from pipelines.bootstrap import java_home

pytestmark = pytest.mark.slow

CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"
DEPLOY = "org.apache.spark.deploy"
TABLES = {
    "events": ["event_id"],
    "items": ["item_id"],
    "users": ["user_id"],
    "user_features": ["user_id"],
    "item_features": ["item_id"],
    "sequences": ["user_id"],
    "graph_edges": ["relation", "source", "target"],
    "examples": ["event_id"],
}
AT = ENDS[0]


def spark_process(log: Path, *arguments: str) -> AbstractContextManager[None]:
    """A process of a standalone Spark cluster."""
    settings = {
        "JAVA_HOME": str(java_home()),
        "SPARK_NO_DAEMONIZE": "1",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_WORKER_DIR": str(log.parent / "spark-work"),
        "SPARK_DAEMON_MEMORY": "256m",
    }
    return node(log, [str(CLASS), *arguments], settings)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The address of a master with two workers of one core each."""
    with ExitStack() as started:
        log = tmp_path / "master.log"
        started.enter_context(
            spark_process(
                log, f"{DEPLOY}.master.Master",
                *["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"],
            )
        )  # fmt: skip
        address = said(log, r"Starting Spark master at spark://(\S+)")[1]
        for number in (1, 2):
            started.enter_context(
                spark_process(
                    tmp_path / f"worker{number}.log", f"{DEPLOY}.worker.Worker",
                    *["--host", "127.0.0.1", "--webui-port", "0", "--cores", "1"],
                    *["--memory", "1g", f"spark://{address}"],
                )
            )  # fmt: skip
        for number in (1, 2):
            said(tmp_path / f"worker{number}.log", "Successfully registered with master")
        yield address


def rows(lake: Path, table: str) -> pa.Table:
    found = DeltaTable(lake / table).to_pyarrow_table()
    return found.sort_by([(name, "ascending") for name in TABLES[table]])


def test_two_workers_make_the_tables_of_one_process(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPARK_MASTER", cluster)
    shop = prepared(tmp_path / "shop", tmp_path_factory, intervals=1)
    own = ["--set", "environment.lake=lake-of-cluster", "--env", "standalone"]
    shop.command("run", "shop", "--at", AT, "--select", "+features", *own)
    workers = [len(list((tmp_path / "spark-work").glob(f"app-*/{number}"))) for number in (0, 1)]
    assert workers == [1, 1], "each worker ran one executor"
    there = shop.root / "lake-of-cluster" / "shop"
    for table in TABLES:
        assert rows(there, table).equals(rows(shop.lake, table)), table
    assert environment()["SPARK_MASTER"] == cluster
