"""One way to start Spark, tuned for small local jobs and safe for large ones."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyspark.sql import SparkSession

COMMON_SETTINGS: dict[str, str] = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # One zone everywhere: without it a timestamp depends on the machine that reads it.
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # Parquet does not check its own checksums by default; flipped bytes then change sums silently.
    "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
    "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",
    # Else each step of building a query looks up and sends the line of Python that it stands in.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    # Any other limit makes Spark measure the batch anew with every row; rows are limited already.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(2**31 - 1),
    # Rows that lie together by user need no exchange to be joined by user and moment.
    "spark.sql.requireAllClusterKeysForCoPartition": "false",
    # So many ids are looked for in the dictionaries of a file before its rows are read.
    "spark.sql.parquet.pushdown.inFilterThreshold": "1000",
    # What a long backfill would otherwise pile up in the driver: snapshots of tables, old plans.
    "spark.databricks.delta.delta.log.cacheSize": "32",
    "spark.sql.ui.retainedExecutions": "5",
    "spark.ui.retainedJobs": "20",
    "spark.ui.retainedStages": "20",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}
"""Settings of every session, on any master."""

LOCAL_SETTINGS: dict[str, str] = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # Few rows are put together again into one or two parts; many fit into memory part by part.
    "spark.sql.shuffle.partitions": "32",
    # Parts that surely fit into memory are joined by hash, without sorting either side.
    "spark.sql.adaptive.advisoryPartitionSizeInBytes": "16m",
    "spark.sql.adaptive.maxShuffledHashJoinLocalMapThreshold": "16m",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",
    # Code that Spark makes for wide rows is longer than what the JVM would else compile.
    "spark.driver.extraJavaOptions": (
        "-XX:+UseParallelGC -XX:-DontCompileHugeMethods -Duser.timezone=UTC"
    ),
}
"""Settings added for a `local[...]` master; together they make small jobs several times faster."""


def spark_session(
    *,
    master: str = "local[2]",
    memory: str = "2g",
    settings: Mapping[str, str] | None = None,
    jars: Sequence[Path] = (),
) -> SparkSession:
    """Starts Spark with Delta, or returns the session that already runs in this process.

    Args:
        master: Spark master, for example `local[2]` or `spark://host:7077`.
        memory: Heap of the driver, as Spark writes it (`2g`, `800m`). In local mode the driver is
            the whole of Spark. It cannot change once a session has started in this process.
        settings: Further Spark settings; they win over ours.
        jars: The jars of Delta (`delta-spark` and `delta-storage`).

    Returns:
        The session, in UTC, with the warehouse in a temporary folder.

    Raises:
        FileNotFoundError: A jar is missing.
    """
    missing = [str(jar) for jar in jars if not Path(jar).is_file()]
    if missing:
        raise FileNotFoundError(
            f"Spark needs these jars, and they are not there: {', '.join(missing)}."
        )
    # Else Spark's workers start the system's python, which lacks our packages.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable

    options = dict(COMMON_SETTINGS)
    if master.startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        options |= LOCAL_SETTINGS
    options["spark.driver.memory"] = memory
    options["spark.sql.warehouse.dir"] = str(Path(tempfile.gettempdir()) / "sextant-warehouse")
    if jars:
        options["spark.jars"] = ",".join(str(Path(jar).resolve()) for jar in jars)
    options |= settings or {}

    builder = SparkSession.builder.appName("sextant").master(master)
    for key, value in options.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    if not master.startswith("local"):
        _ship_code(session)
    return session


def _ship_code(session: SparkSession) -> None:
    """Sends this package to the workers, whose Python has the libraries but not our functions."""
    package = Path(__file__).parent
    folder = tempfile.mkdtemp(prefix="sextant-")
    archive = shutil.make_archive(
        str(Path(folder) / package.name), "zip", package.parent, package.name
    )
    session.sparkContext.addPyFile(archive)
