"""Features never see the label they are to predict: planted futures, late facts, equal times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import functions as F

from transforms.behaviour import item_engagement, user_behaviour
from transforms.item_features import item_features
from transforms.probe import _auc
from transforms.probe_frames import Place, plain_columns, plant
from transforms.user_features import user_features

START = datetime(2026, 5, 1, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
ROWS = 240
WINDOW = {"history": 90 * DAY, "session_gap": timedelta(minutes=30)}


@pytest.fixture(scope="module")
def world(table):
    """Examples of users and items of their own, each with one earlier view, and random labels."""
    labels = np.random.default_rng(5).random(ROWS) < 0.4
    places = [
        Place(f"u{n}", f"i{n}", f"a{n}" if n % 3 else None, START + n * timedelta(minutes=7))
        for n in range(ROWS)
    ]
    before = [
        {"user_id": one.user_id, "item_id": one.item_id, "event_type": "view", "event_id": str(n),
         "timestamp": one.at - DAY}
        for n, one in enumerate(places)
    ]  # fmt: skip
    items = [
        {"item_id": one.item_id, "author_id": one.author_id, "tags": ["x"], "tag_times": None,
         "created_at": one.at - DAY}
        for one in places
    ]  # fmt: skip
    users = [{"user_id": f"{side}{n}", "trust_score": 0.5} for side in "ua" for n in range(ROWS)]
    tables = {
        name: table(name, rows)
        for name, rows in (("events", before), ("items", items), ("users", users), ("follows", []))
    }
    return places, labels, tables


def features(spark, places, tables, *, leak=timedelta(0)):
    """Every feature of each place, by place; with `leak`, as of that much later."""
    asked = {
        key: spark.createDataFrame(
            [(getattr(one, key), one.at + leak) for one in places], f"{key} string, as_of timestamp"
        )
        for key in ("user_id", "item_id")
    }
    events, items, users, follows = (
        tables[name] for name in ("events", "items", "users", "follows")
    )
    frames = [
        user_features(asked["user_id"], events, users, follows, **WINDOW),
        user_behaviour(asked["user_id"], events, items, **WINDOW),
        item_features(asked["item_id"], events, items, users, follows, categories={}),
        item_engagement(asked["item_id"], events),
    ]
    found = [{} for _ in places]
    for table, frame in enumerate(frames):
        rows = frame.drop("as_of").collect()
        assert len(rows) == len(places)  # n out = n in
        for row in rows:
            values = row.asDict()
            name = values.pop(frame.columns[0])
            found[int(name[1:])] |= {(table, column): value for column, value in values.items()}
    return found


def with_labels(table, places, labels, delay, tables):
    """A like by the user and of the item that is there if, and only if, the label is 1."""
    likes = [
        {"user_id": user, "item_id": item, "event_type": "like", "timestamp": one.at + delay,
         "event_id": f"{user} {item}"}
        for one, label in zip(places, labels, strict=True) if label
        for user, item in ((one.user_id, "other"), ("other", one.item_id))
    ]  # fmt: skip
    return tables | {"events": tables["events"].unionByName(table("events", likes))}


@pytest.mark.parametrize(
    "delay", [pytest.param(SECOND, id="1 s after"), pytest.param(0 * SECOND, id="at the moment")]
)
def test_a_planted_label_is_absent_from_every_row(spark, table, world, delay):
    places, labels, tables = world
    found = features(spark, places, with_labels(table, places, labels, delay, tables))
    assert found == features(spark, places, tables)
    # Seen a moment later, the same features tell the label: the probe is able to fail.
    told = features(
        spark, places, with_labels(table, places, labels, delay, tables), leak=delay + SECOND
    )
    liked = next(key for key in told[0] if key[1] == "likes")
    values, leaked = (np.array([row[liked] for row in rows], float) for rows in (found, told))
    assert _auc(values, labels)[0] <= 0.52
    assert np.array_equal(leaked > 0, labels)


def test_whatever_is_planted_at_the_moment_or_later_changes_nothing(spark, world):
    """Events of every type, follows both ways of user and author, and tags that came then."""
    places, _, tables = world
    events, items, follows = plant(places, tables["events"], tables["items"], tables["follows"])
    planted = tables | {"events": events, "items": items, "follows": follows}
    assert features(spark, places, planted) == features(spark, places, tables)


def test_facts_that_were_known_later_do_not_count(spark, table, world):
    """An edge and a tag of items that are old, but which were only added after the moment."""
    places, _, tables = world
    late = [
        {"follower_id": "fan", "followee_id": one.author_id or one.user_id, "since": one.at}
        for one in places
    ]
    at = {one.item_id: one.at for one in places}
    tagged = [
        {"item_id": one.item_id, "author_id": one.author_id, "created_at": one.at - DAY,
         "tags": ["x", "late"], "tag_times": [None, at[one.item_id] + SECOND]}
        for one in places
    ]  # fmt: skip
    later = tables | {"follows": table("follows", late), "items": table("items", tagged)}
    assert features(spark, places, later) == features(spark, places, tables)


def test_planted_rows_are_seen_by_a_feature_that_looks_too_far(spark, world):
    """The probe's plan works: a count that takes in its own moment moves everywhere."""
    places, _, tables = world
    events, _, _ = plant(places, tables["events"], tables["items"], tables["follows"])

    def careless(log):
        asked = spark.createDataFrame(
            [(one.user_id, one.at) for one in places], "user_id string, as_of timestamp"
        )
        seen = asked.join(log, "user_id").filter(F.col("timestamp") <= F.col("as_of"))
        return {row.user_id: row["count"] for row in seen.groupBy("user_id").count().collect()}

    before, after = careless(tables["events"]), careless(events)
    assert all(after[user] == count + 10 for user, count in before.items())


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Kathmandu"])
def test_profiles_do_not_depend_on_the_zone(spark, world, zone):
    places, _, tables = world
    utc = features(spark, places[:40], tables)
    spark.conf.set("spark.sql.session.timeZone", zone)
    try:
        assert features(spark, places[:40], tables) == utc
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


def test_columns_become_plain_values(spark):
    rows = spark.createDataFrame(
        [("1", 2, True, START, ["a", "b"], "x|y|z", "w" * 99, {"k": 1.0}, "a.b")],
        "id2 string, n int, flag boolean, at timestamp, tags array<string>, listed string, "
        "words string, scores map<string,double>, `a.b` string",
    )
    found = plain_columns(rows, "id2", {"listed": "|"}).collect()[0].asDict()
    assert found == {
        "id": "1", "n": 2.0, "flag": 1.0, "at@time": START.timestamp() * 1e6, "tags": 2.0,
        "listed": 3.0, "words": "w" * 64, "a.b": "a.b",
    }  # fmt: skip
