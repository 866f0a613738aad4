"""What all tests share: one Spark session and typed tiny tables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from shop_world import ARCHIVE, environment, shared_spark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# A process of pytest-xdist has neither a main file nor a spec, by which PySpark knows its doctests,
# and which it ends.
if sys.modules["__main__"].__spec__ is None:
    sys.modules["__main__"].__spec__ = ModuleSpec("__main__", None)

Rows = Sequence[Mapping[str, Any]]

_archiving: list[subprocess.Popen[bytes]] = []


def pytest_configure(config: pytest.Config) -> None:
    """Beside slow tests, and once for all processes of them, begin what makes Spark start sooner."""
    is_worker = hasattr(config, "workerinput")
    if is_worker or config.getoption("markexpr").split()[:1] != ["slow"] or ARCHIVE.exists():
        return
    _archiving.append(
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("class_archive.py"))],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    )


def pytest_unconfigure() -> None:
    """End it where the tests were done before."""
    for process in _archiving:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The one Spark session of a test run."""
    yield shared_spark()
    shared_spark().stop()


@pytest.fixture(scope="session")
def table(spark: SparkSession) -> Callable[[str, Rows], DataFrame]:
    """Returns `table(name, rows)`: a frame of that table's schema; columns not given are null."""
    from transforms.schemas import struct

    def build(name: str, rows: Rows) -> DataFrame:
        schema = struct(name)
        unknown = {key for row in rows for key in row} - set(schema.names)
        assert not unknown, f"{name} has no columns {sorted(unknown)}"
        values = [tuple(row.get(column) for column in schema.names) for row in rows]
        # One partition keeps a tiny frame's jobs tiny.
        return spark.createDataFrame(values, schema).coalesce(1)

    return build
