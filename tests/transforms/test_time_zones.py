"""Results do not depend on the zone of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

# Hours that do not exist or come twice in Los Angeles, and ends of days there and in UTC.
MOMENTS = [
    "2026-03-08 02:30:00", "2026-03-08T10:30:00Z", "2026-03-08 09:59:59.999999",
    "2026-11-01 01:30:00", "2026-11-01T01:30:00-08:00", "2026-11-01 23:59:59", "2026-11-02",
]  # fmt: skip
END = datetime(2026, 11, 3, tzinfo=UTC)


def results(spark) -> dict[str, list]:
    """What a log read from texts becomes, as plain values without any zone."""
    from pyspark.sql import functions as F

    from transforms.examples import examples
    from transforms.interactions import LabelRule
    from transforms.mapping import ColumnMap, EventTypeRule, map_rows
    from transforms.schemas import struct

    raw = spark.createDataFrame(
        [("u", "i", text) for text in MOMENTS], "u string, i string, t string"
    )
    mapped = {"user_id": ColumnMap("u"), "item_id": ColumnMap("i"), "timestamp": ColumnMap("t")}
    events, bad = map_rows(raw, "events", mapped, event_type=EventTypeRule(constant="like"))
    items, users, follows = (
        spark.createDataFrame([], struct(name)) for name in ("items", "users", "follows")
    )
    built = examples(
        events, items, users, follows, interval_end=END, training_window=timedelta(days=365),
        valid_start=END - timedelta(hours=40), test_start=END - timedelta(days=1),
        rule=LabelRule(), history=timedelta(days=90), session_gap=timedelta(minutes=30),
        categories={},
    )  # fmt: skip
    at = F.unix_micros("timestamp").alias("at")
    shown = ("split", "hour_sin", "weekday_cos", "user_activity_level", "user_total_interactions")
    rows = built.select(at, "event_id", *shown).orderBy("at")
    return {"examples": [list(row) for row in rows.collect()], "bad": bad.count()}


@pytest.mark.slow
def test_results_are_equal_in_another_zone(spark):
    here = results(spark)
    elsewhere = {"TZ": "America/Los_Angeles", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, __file__], env={**os.environ, **elsewhere}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == json.loads(json.dumps(here))
    micros = [row[0] for row in here["examples"]]
    utc = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at) for at in micros]
    assert here["bad"] == 0
    assert [at.isoformat() for at in utc] == [
        "2026-03-08T02:30:00+00:00",
        "2026-03-08T09:59:59.999999+00:00",
        "2026-03-08T10:30:00+00:00",
        "2026-11-01T01:30:00+00:00",
        "2026-11-01T09:30:00+00:00",
        "2026-11-01T23:59:59+00:00",
        "2026-11-02T00:00:00+00:00",
    ]
    assert [row[2] for row in here["examples"]] == ["train"] * 4 + ["valid"] * 2 + ["test"]


if __name__ == "__main__":
    from pipelines.bootstrap import delta_jars
    from transforms.session import spark_session

    session = spark_session(master="local[1]", memory="1g", jars=delta_jars())
    print(json.dumps(results(session)))
    session.stop()
