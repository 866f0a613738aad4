"""How raw values become times, truth values and lists, or nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from transforms.mapping import EventTypeRule, collect_vectors, map_rows
from transforms.parsing import ColumnMap
from transforms.sources import FILE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "raw", "options", "expected"),
    [
        ("string", "31/12/2025 23:10", {"pattern": "dd/MM/yyyy HH:mm"}, "2025-12-31T23:10"),
        ("int", 20251231, {"pattern": "yyyyMMdd"}, "2025-12-31T00:00"),
        ("string", "2025-12-31", {"pattern": "dd/MM/yyyy"}, None),
        ("string", "31/02/2025", {"pattern": "dd/MM/yyyy"}, None),
        ("string", "01.01.2026 07:30", {"pattern": "dd.MM.yyyy HH:mm", "zone": "Asia/Shanghai"},
         "2025-12-31T23:30"),
        ("string", "01.01.2026 07:30 +01:00",
         {"pattern": "dd.MM.yyyy HH:mm XXX", "zone": "Asia/Shanghai"}, "2026-01-01T06:30"),
        ("string", "2026-01-01 07:30", {"zone": "Asia/Shanghai"}, "2025-12-31T23:30"),
        ("string", "2026-07-01", {"zone": "Europe/Berlin"}, "2026-06-30T22:00"),
        ("string", "2026-01-01T07:30:00Z", {"zone": "Asia/Shanghai"}, "2026-01-01T07:30"),
        ("string", "2026-01-01T07:30+02", {"zone": "Asia/Shanghai"}, "2026-01-01T05:30"),
        ("string", "2026-01-01T07:30 Europe/Berlin", {"zone": "Asia/Shanghai"}, "2026-01-01T06:30"),
        ("timestamp_ntz", datetime(2026, 1, 1, 7, 30), {"zone": "Asia/Shanghai"},
         "2025-12-31T23:30"),
        ("date", date(2026, 1, 1), {"zone": "Asia/Shanghai"}, "2025-12-31T16:00"),
        ("timestamp", datetime(2026, 1, 1, tzinfo=UTC), {"zone": "Asia/Shanghai"},
         "2026-01-01T00:00"),
    ],
)  # fmt: skip
def test_times(spark, kind, raw, options, expected):
    df = spark.createDataFrame([("a", raw)], f"u string, t {kind}")
    columns = {"user_id": ColumnMap("u"), "created_at": ColumnMap("t", **options)}
    good, bad = map_rows(df, "users", columns)
    found = [row.created_at.astimezone(UTC).isoformat()[:16] for row in good.collect()]
    rules = [row.rule for row in bad.collect()]
    assert (found, rules) == (([expected], []) if expected else ([], ["parse:created_at"]))


def test_truth_values(spark):
    words = ["Y", "yes", "1", "ja", "no", "nein", "0", "", None, "perhaps", " ja "]
    df = spark.createDataFrame(
        [(str(n), word) for n, word in enumerate(words)], "u string, c string"
    )
    columns = {
        "user_id": ColumnMap("u"),
        "consent": ColumnMap("c", true=["ja"], false=["nein", ""]),
    }
    good, bad = map_rows(df, "users", columns)
    found = {words[int(row.user_id)]: row.consent for row in good.collect()}
    assert found == {
        "Y": True, "yes": True, "1": True, "ja": True, " ja ": True,
        "no": False, "nein": False, "0": False, "": False, None: None,
    }  # fmt: skip
    assert [(row.row, row.rule) for row in bad.collect()] == [
        ('{"u":"9","c":"perhaps"}', "parse:consent")
    ]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('["a", "b, c"]', ["a", "b, c"]), ("['a', 'b']", ["a", "b"]), ("[1, 2]", ["1", "2"]),
        ("[]", []), ("[drama]", ["[drama]"]), ("solo", ["solo"]), ('["a", ', None),
    ],
)  # fmt: skip
def test_lists_of_texts(spark, raw, expected):
    df = spark.createDataFrame([("i", raw)], "i string, c string")
    columns = {"item_id": ColumnMap("i"), "categories": ColumnMap("c")}
    good, bad = map_rows(df, "items", columns)
    found = [row.categories for row in good.collect()]
    rules = [row.rule for row in bad.collect()]
    assert (found, rules) == (([], ["parse:categories"]) if expected is None else ([expected], []))


def test_rows_without_times_are_spread(spark):
    first, last = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 11, tzinfo=UTC)
    df = spark.range(2000).selectExpr("id % 40 AS u", "id AS i", "1 AS liked")
    columns = {
        "user_id": ColumnMap("u"),
        "item_id": ColumnMap("i"),
        "timestamp": ColumnMap(spread=(first, last)),
    }
    rule = EventTypeRule(always="view", flags={"like": "liked"})

    def moments(rows):
        good, _ = map_rows(rows, "events", columns, event_type=rule)
        return {(r.item_id, r.event_type): r.timestamp.astimezone(UTC) for r in good.collect()}

    found = moments(df)
    assert found == moments(df.repartition(3))
    assert all(found[item, "view"] == found[item, "like"] for item, _ in found)
    days = [(moment - first).days for moment in found.values()]
    assert set(days) == set(range(10))
    assert all(350 < 2 * days.count(day) // 2 < 450 for day in range(10))


def test_vectors_come_from_a_second_source(spark, table):
    items = table("items", [{"item_id": "1", "title": "A"}, {"item_id": "2"}])
    rows = spark.createDataFrame(
        [("1", [0.5, 1.0], "f"), (None, [1.0, 1.0], "f"), ("3", [1.0, 1.0], "f")],
        f"row string, vector array<float>, {FILE} string",
    )
    good, bad = collect_vectors(items, rows, "video_embedding", key="row", value="vector")
    found = sorted(
        tuple(row) for row in good.select("item_id", "title", "video_embedding").collect()
    )
    assert found == [("1", "A", [0.5, 1.0]), ("2", None, None)]
    assert [tuple(row) for row in bad.select("table", "rule", FILE).collect()] == [
        ("items", "required:item_id", "f")
    ]
