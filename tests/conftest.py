"""What all tests share: one Spark session and typed tiny tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Rows = Sequence[Mapping[str, Any]]


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The one Spark session of a test run, with Delta, on two cores."""
    from pipelines.bootstrap import delta_jars, java_home
    from transforms.session import spark_session

    os.environ["JAVA_HOME"] = str(java_home())
    session = spark_session(master="local[2]", memory="1g", settings={}, jars=delta_jars())
    yield session
    session.stop()


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
