"""From source rows to typed rows, and to the rows that could not be read."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, date, datetime, timedelta

import pytest

from transforms.mapping import Collected, EventTypeRule, collect_lists, deduplicate, map_rows
from transforms.parsing import ColumnMap
from transforms.schemas import struct
from transforms.sources import CORRUPT_ROW, SourceError

pytestmark = pytest.mark.slow

T0 = datetime(2026, 1, 5, 7, 30, 0, 123456, tzinfo=UTC)
US = int(T0.timestamp()) * 1_000_000 + 123456
EVENT = {
    "user_id": ColumnMap("u"),
    "item_id": ColumnMap("i"),
    "timestamp": ColumnMap("t", unit="us"),
}


def instants(rows):
    """Rows with times in UTC: Spark gives local times without a zone."""
    return [tuple(v.astimezone(UTC) if isinstance(v, datetime) else v for v in row) for row in rows]


@pytest.mark.parametrize(
    ("kind", "unit", "raw", "expected"),
    [
        ("string", "s", "1767598200.123456", T0),
        ("string", "ms", "1767598200123.456", T0),
        ("string", "us", str(US), T0),
        ("bigint", "us", US, T0),
        ("bigint", "s", -1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("double", "s", 1767598200.0, T0.replace(microsecond=0)),
        ("string", "iso", "2026-01-05T07:30:00.123456Z", T0),
        ("string", None, "2026-01-05 07:30:00.123456", T0),
        ("string", "iso", "2026-01-05T09:30:00.123456+02:00", T0),
        ("string", "iso", "2026-01-05T09:30+02:00", T0.replace(second=0, microsecond=0)),
        ("string", "iso", "2026-01-05T07:30Z", T0.replace(second=0, microsecond=0)),
        ("string", "iso", "2026-01-05", datetime(2026, 1, 5, tzinfo=UTC)),
        ("date", None, date(2026, 1, 5), datetime(2026, 1, 5, tzinfo=UTC)),
        ("timestamp", None, T0, T0),
        ("timestamp_ntz", None, T0.replace(tzinfo=None), T0),
        # Microseconds read as seconds lie beyond year 9999: the unit is wrong.
        ("bigint", "s", US, None),
        ("string", "s", "yesterday", None),
        ("string", "iso", "05/01/2026", None),
    ],
)
def test_times(spark, kind, unit, raw, expected):
    df = spark.createDataFrame([("a", raw)], f"u string, t {kind}")
    columns = {"user_id": ColumnMap("u"), "created_at": ColumnMap("t", unit=unit)}
    good, bad = map_rows(df, "users", columns)
    rows = instants(good.select("created_at").collect())
    rules = [row.rule for row in bad.select("rule").collect()] if expected is None else []
    assert (rows, rules) == (
        ([], ["parse:created_at"]) if expected is None else ([(expected,)], [])
    )


def test_values_are_typed_and_faults_are_kept(spark):
    """Every kind of column at once, so that few Spark jobs run."""
    rows = [
        ("00123", "a| b||c", "[0.5, 1]", "61802", "solo"),
        ("9007199254740993", None, None, None, None),
        ("Ünïcode 😀", "", None, "NaN", None),
        (None, "x", None, None, None),
        ("long", None, "[0.5, null]", None, None),
        ("slow", None, None, "fast", None),
    ]
    schema = "id string, tags string, vec string, duration string, words string"
    df = spark.createDataFrame(rows, schema)
    good, bad = map_rows(
        df,
        "items",
        {
            "item_id": ColumnMap("id"),
            "item_type": ColumnMap(constant="film"),
            "categories": ColumnMap("tags", split="|"),
            "tags": ColumnMap("words"),
            "text_embedding": ColumnMap("vec"),
            "duration_seconds": ColumnMap("duration", scale=0.001),
        },
    )
    assert good.schema.simpleString() == struct("items").simpleString()
    shown = ("item_id", "item_type", "categories", "tags", "text_embedding", "title")
    found = good.select(*shown, "duration_seconds").collect()
    assert [tuple(row)[:6] for row in found] == [
        ("00123", "film", ["a", "b", "c"], ["solo"], [0.5, 1.0], None),
        ("9007199254740993", "film", None, None, None, None),
        ("Ünïcode 😀", "film", [], None, None, None),
    ]
    assert [str(row.duration_seconds) for row in found] == ["61.802", "None", "nan"]
    faults = [(row.table, json.loads(row.row)["id"], row.rule) for row in bad.collect()]
    assert faults == [
        ("items", None, "required:item_id"),
        ("items", "long", "parse:text_embedding"),
        ("items", "slow", "parse:duration_seconds"),
    ]


def test_typed_sources_are_cast(spark):
    """Parquet brings its own types: whole ids as numbers, lists, maps, truth values."""
    df = spark.sql(
        "SELECT 9007199254740993 AS id, 12.0D AS loose, map('a', 1) AS scores, true AS ok,"
        " '{\"film\": 0.25}' AS json, '{broken' AS broken, 'perhaps' AS unsure"
    )
    good, _ = map_rows(
        df,
        "users",
        {
            "user_id": ColumnMap("id"),
            "interests": ColumnMap("scores"),
            "content_type_preferences": ColumnMap("json"),
            "consent": ColumnMap("ok"),
            "diversity_preference": ColumnMap("loose"),
        },
    )
    row = good.collect()[0]
    assert (row.user_id, row.interests, row.content_type_preferences, row.consent) == (
        "9007199254740993", {"a": 1.0}, {"film": 0.25}, True,
    )  # fmt: skip
    loose, _ = map_rows(df, "users", {"user_id": ColumnMap("loose")})
    _, broken = map_rows(
        df, "users", {"user_id": ColumnMap("id"), "interests": ColumnMap("broken")}
    )
    _, unsure = map_rows(df, "users", {"user_id": ColumnMap("id"), "consent": ColumnMap("unsure")})
    assert loose.collect()[0].user_id == "12.0"
    assert [frame.collect()[0].rule for frame in (broken, unsure)] == [
        "parse:interests",
        "parse:consent",
    ]


def test_columns_are_gathered_into_a_map(spark):
    rows = [
        ("a", "f", 34, "0.5"),
        ("b", None, 20, None),
        ("c", None, None, None),
        ("d", "m", 1, "x"),
    ]
    df = spark.createDataFrame(rows, "id string, sex string, years int, `tea.liked` string")
    good, bad = map_rows(
        df,
        "users",
        {
            "user_id": ColumnMap("id"),
            "demographics": ColumnMap(entries={"gender": "sex", "age": "years"}),
            "interests": ColumnMap(entries={"tea": "tea.liked"}),
        },
    )
    assert good.schema.simpleString() == struct("users").simpleString()
    assert [(row.user_id, row.demographics, row.interests) for row in good.collect()] == [
        ("a", {"gender": "f", "age": "34"}, {"tea": 0.5}),
        ("b", {"age": "20"}, {}),
        ("c", {}, {}),
    ]
    assert [(json.loads(row.row), row.rule) for row in bad.collect()] == [
        ({"id": "d", "sex": "m", "years": 1, "tea.liked": "x"}, "parse:interests")
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"user_id": ColumnMap("id"), "created_at": ColumnMap("id")},
            "`id` holds numbers, and a time given as a number needs its unit: "
            "write {from: id, unit: s}, or ms, or us.",
        ),
        (
            {"user_id": ColumnMap("id"), "interests": ColumnMap("id")},
            "`interests` is a map, but `id` holds bigint; it needs a map, or JSON text such as "
            '{"film": 0.5}.',
        ),
    ],
)
def test_a_mapping_that_cannot_fit_is_refused(spark, columns, message):
    with pytest.raises(SourceError) as error:
        map_rows(spark.createDataFrame([(1,)], "id bigint"), "users", columns)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("rule", "expected", "rules"),
    [
        pytest.param(
            EventTypeRule(constant="rating"),
            [("1", "rating"), ("2", "rating"), ("3", "rating")], [], id="constant",
        ),
        pytest.param(
            EventTypeRule(column="kind", map={"buy": "click"}),
            [("1", "click"), ("2", "like")], ["parse:event_type"], id="column",
        ),
        pytest.param(
            EventTypeRule(always="view", flags={"like": "liked", "share": "shared"}),
            [("1", "like"), ("1", "view"), ("2", "share"), ("2", "view")],
            ["parse:event_type"], id="flags",
        ),
    ],
)  # fmt: skip
def test_event_types(spark, rule, expected, rules):
    rows = [
        ("1", "i", US, "buy", "1", "0"),
        ("2", "i", US, "like", None, "true"),
        ("3", "i", US, "dance", "maybe", "0.0"),
    ]
    schema = "u string, i string, t bigint, kind string, liked string, shared string"
    good, bad = map_rows(spark.createDataFrame(rows, schema), "events", EVENT, event_type=rule)
    found = good.select("user_id", "event_type", "event_id").collect()
    assert sorted((row.user_id, row.event_type) for row in found) == expected
    assert len({row.event_id for row in found}) == len(expected)
    assert [row.rule for row in bad.collect()] == rules


def test_flags_give_each_event_an_id_of_its_own(spark):
    df = spark.createDataFrame(
        [("e7", "1", "i", US, 1)], "e string, u string, i string, t bigint, f int"
    )
    rule = EventTypeRule(always="view", flags={"like": "f"})
    good, _ = map_rows(df, "events", {**EVENT, "event_id": ColumnMap("e")}, event_type=rule)
    assert sorted(row.event_id for row in good.collect()) == ["e7/like", "e7/view"]


def test_events_that_lack_what_they_need_are_kept_apart(spark):
    rows = [
        (None, "i", "1", "3", None), ("u", None, "1", "3", None), ("u", "i", None, "3", None),
        ("u", "i", "1", "3.5", None), ("u", "i", "1", "3.0", None), ("u", "i", "1", None, "u,i"),
    ]  # fmt: skip
    df = spark.createDataFrame(
        rows, f"u string, i string, t string, p string, {CORRUPT_ROW} string"
    )
    columns = {**EVENT, "position": ColumnMap("p")}
    good, bad = map_rows(df, "events", columns, event_type=EventTypeRule(constant="view"))
    assert [row.position for row in good.collect()] == [3]
    faults = [tuple(row) for row in bad.select("rule", "row").collect()]
    assert faults == [
        ("required:user_id", '{"u":null,"i":"i","t":"1","p":"3"}'),
        ("required:item_id", '{"u":"u","i":null,"t":"1","p":"3"}'),
        ("required:timestamp", '{"u":"u","i":"i","t":null,"p":"3"}'),
        ("parse:position", '{"u":"u","i":"i","t":"1","p":"3.5"}'),
        ("parse:row", "u,i"),
    ]


def test_an_event_loaded_twice_is_one_event(spark):
    rows = [("a", "1", US), ("a", "1", US), ("a1", "", US), ("a", "1", US + 1), ("b", "1", US)]
    df = spark.createDataFrame(rows, "u string, i string, t bigint")
    view, _ = map_rows(df, "events", EVENT, event_type=EventTypeRule(constant="view"))
    like, _ = map_rows(df, "events", EVENT, event_type=EventTypeRule(constant="like"))
    unique, before = deduplicate(view.union(view).union(like), "events")
    found = unique.collect()
    assert len(found) == len({row.event_id for row in found}) == 8
    assert before.get == {"rows": 15}
    # The id is a function of the content alone and never changes between releases.
    content = f"1:a,1:1,4:view,16:{US},-,-"
    assert hashlib.sha256(content.encode()).hexdigest()[:32] in {row.event_id for row in found}


def test_rows_of_one_event_id_that_differ_become_the_earliest(table):
    later = {"event_id": "e", "user_id": "a", "timestamp": T0 + timedelta(seconds=1)}
    earlier = {"event_id": "e", "user_id": "b", "timestamp": T0}
    unique, _ = deduplicate(table("events", [later, earlier]), "events")
    assert [row.user_id for row in unique.collect()] == ["b"]


def test_follows_are_unique_and_never_of_oneself(table):
    pairs = [("a", "a", None), ("a", "b", T0), ("a", "b", T0 - timedelta(1)), ("b", "a", T0),
             ("c", "a", T0), ("c", "a", None)]  # fmt: skip
    rows = [dict(zip(("follower_id", "followee_id", "since"), pair, strict=True)) for pair in pairs]
    unique, before = deduplicate(table("follows", rows), "follows")
    found = instants(sorted(unique.collect()))
    assert found == [("a", "b", T0 - timedelta(1)), ("b", "a", T0), ("c", "a", None)]
    assert before.get == {"rows": 6}


def test_exact_copies_of_users_go_and_differing_rows_stay(table):
    rows = [
        {"user_id": "a", "interests": {"x": 1.0, "y": 2.0}},
        {"user_id": "a", "interests": {"y": 2.0, "x": 1.0}},
        {"user_id": "a", "interests": {"x": 3.0}},
    ]
    unique, _ = deduplicate(table("users", rows), "users")
    assert sorted(len(row.interests) for row in unique.collect()) == [1, 2]


def test_tags_are_collected_with_the_time_from_which_they_are_known(spark, table):
    items = table("items", [{"item_id": "00123", "title": "A"}, {"item_id": "2"}])
    rows = [
        ("00123", "late", "20"), ("00123", "b", "10"), ("00123", "a", "10"),
        ("00123", "late", "15"), ("00123", "old", None), ("404", "x", "1"), ("2", "y", "noon"), (None, "y", "1"),
        ("2", None, "1"),
    ]  # fmt: skip
    tags = spark.createDataFrame(rows, "movieId string, tag string, at string")
    good, bad = collect_lists(
        items, tags, "tags", Collected("movieId", "tag", ColumnMap("at", unit="s"))
    )
    assert good.schema.simpleString() == struct("items").simpleString()
    found = sorted(good.select("item_id", "title", "tags", "tag_times").collect())
    assert [tuple(row)[:3] for row in found] == [
        ("00123", "A", ["old", "a", "b", "late"]),
        ("2", None, None),
    ]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert instants([found[0].tag_times]) == [
        (None, *(epoch + timedelta(seconds=at) for at in (10, 10, 15)))
    ]
    faults = [(row.table, row.rule) for row in bad.collect()]
    assert faults == [
        ("items", "parse:tag_times"), ("items", "required:item_id"), ("items", "required:tags"),
    ]  # fmt: skip
