"""What all tests share: one Spark session and typed tiny tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Rows = Sequence[Mapping[str, Any]]


@pytest.fixture(scope="session")
def jars() -> list[Path]:
    """The jars of Delta: from the folder `SEXTANT_JARS`, or `.cache/jars` of the repository."""
    default = Path(__file__).parents[1] / ".cache" / "jars"
    folder = Path(os.environ.get("SEXTANT_JARS", default))
    found = sorted(folder.glob("delta-*.jar"))
    assert len(found) == 2, f"{folder} should hold the two jars of Delta; run the bootstrap first"
    return found


@pytest.fixture(scope="session")
def spark(jars: list[Path]) -> Iterator[SparkSession]:
    """The one Spark session of a test run, with Delta, on two cores."""
    from transforms.session import spark_session

    session = spark_session(master="local[2]", memory="1g", settings={}, jars=jars)
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
