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
        events, items, users, follows, start=END - timedelta(days=365), end=END, every=(1, "d"),
        rule=LabelRule(), history=timedelta(days=90), session_gap=timedelta(minutes=30),
        categories={},
    )  # fmt: skip
    at = F.unix_micros("timestamp").alias("at")
    ends = F.unix_micros("interval_end")
    shown = ("hour_sin", "weekday_cos", "user_activity_level", "user_total_interactions")
    rows = built.select(at, "event_id", ends, *shown).orderBy("at")
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
    ends = [
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row[2])
        for row in here["examples"]
    ]
    assert [f"{end:%m-%d %H}" for end in ends] == ["03-09 00"] * 3 + ["11-02 00"] * 3 + ["11-03 00"]


if __name__ == "__main__":
    from pipelines.bootstrap import delta_jars
    from transforms.session import spark_session

    session = spark_session(master="local[1]", memory="1g", jars=delta_jars())
    print(json.dumps(results(session)))
    session.stop()
