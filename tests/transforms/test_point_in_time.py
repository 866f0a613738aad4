"""Features never see the label they are to predict: planted futures, late facts, equal times.

All worlds are one: each variant has users and items of its own, so one run computes them all.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from transforms.behaviour import item_engagement, user_behaviour
from transforms.item_features import item_features
from transforms.probe_frames import Place, plain_columns, plant
from transforms.user_features import user_features

START = datetime(2026, 5, 1, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
ROWS = 60
LABELS = np.random.default_rng(5).random(ROWS) < 0.4
VARIANTS = ("untouched", "label 1 s after", "label at the moment", "everything", "late facts",
            "careless")  # fmt: skip
"""`careless` features are asked a second too late."""


def places(variant):
    """The examples of a variant: a user, an item and mostly an author of its own each."""
    return [
        Place(f"u/{variant}/{n}", f"i/{variant}/{n}", f"a/{variant}/{n}" if n % 3 else None,
              START + n * timedelta(minutes=7))
        for n in range(ROWS)
    ]  # fmt: skip


def event(user, item, at, kind):
    return {"user_id": user, "item_id": item, "event_type": kind, "timestamp": at,
            "event_id": f"{user} {item} {kind} {at}"}  # fmt: skip


@pytest.fixture(scope="module")
def tables(table):
    """Each example's user saw its item the day before; the rest is the variant's."""
    every = [one for variant in VARIANTS for one in places(variant)]
    events = [event(one.user_id, one.item_id, one.at - DAY, "view") for one in every]
    # A like by the user and of the item that is there if, and only if, the label is 1.
    for variant, delay in (
        ("label 1 s after", SECOND), ("label at the moment", 0 * SECOND), ("careless", 0 * SECOND),
    ):  # fmt: skip
        for one, label in zip(places(variant), LABELS, strict=True):
            if label:
                events.append(event(one.user_id, "other", one.at + delay, "like"))
                events.append(event("other", one.item_id, one.at + delay, "like"))
    items = [
        {"item_id": one.item_id, "author_id": one.author_id, "created_at": one.at - DAY,
         "tags": ["x"]}
        for one in every
    ]  # fmt: skip
    # Edges and tags of what is old, but which came to be known at the moment or later.
    late = {one.item_id: one for one in places("late facts")}
    for row in items:
        if row["item_id"] in late:
            row["tags"] = ["x", "late"]
            row["tag_times"] = [None, late[row["item_id"]].at + SECOND]
    edges = [
        {"follower_id": "fan", "followee_id": one.author_id or one.user_id, "since": one.at}
        for one in late.values()
    ]
    users = [{"user_id": name, "trust_score": 0.5} for one in every
             for name in (one.user_id, one.author_id) if name]  # fmt: skip
    planted = plant(
        places("everything"), table("events", events), table("items", items),
        table("follows", edges),
    )  # fmt: skip
    return *planted, table("users", users)


def features(spark, tables, variants=VARIANTS):
    """Every feature of each example: variant -> one mapping for each example, in order."""
    events, items, follows, users = tables
    asked = {}
    for key in ("user_id", "item_id"):
        rows = [
            (getattr(one, key), one.at + (SECOND if variant == "careless" else 0 * SECOND))
            for variant in variants
            for one in places(variant)
        ]
        asked[key] = spark.createDataFrame(rows, f"{key} string, as_of timestamp").coalesce(1)
    window = {"history": 90 * DAY, "session_gap": timedelta(minutes=30)}
    behaved = user_behaviour(asked["user_id"], events, items, **window)
    frames = [
        user_features(behaved, users, follows, history=window["history"]),
        behaved,
        item_features(
            item_engagement(asked["item_id"], events), items, users, follows, categories={}
        ),
        item_engagement(asked["item_id"], events),
    ]
    found = {variant: [{} for _ in range(ROWS)] for variant in variants}
    for number, frame in enumerate(frames):
        rows = frame.drop("as_of").collect()
        assert len(rows) == ROWS * len(variants)  # n out = n in
        for row in rows:
            values = row.asDict()
            _, variant, place = values.pop(frame.columns[0]).split("/")
            found[variant][int(place)] |= {(number, name): value for name, value in values.items()}
    return found


@pytest.fixture(scope="module")
def found(spark, tables):
    return features(spark, tables)


@pytest.mark.parametrize("variant", VARIANTS[1:-1])
def test_no_feature_of_any_row_notices_what_came_at_its_moment_or_later(found, variant):
    assert len(found[variant]) == ROWS
    assert found[variant] == found["untouched"]


def test_the_planted_label_cannot_be_told_and_could_be_by_careless_features(found):
    """AUC at most 0.52 of every number; asked a second late, the count of likes is the label."""

    def column(variant, key):
        values = [row[key] for row in found[variant]]
        return np.array([-1.0 if value is None else value for value in values], float)

    def auc(variant, key):
        area = roc_auc_score(LABELS, column(variant, key))
        return max(area, 1 - area)

    numbers = [
        key for key, value in found["untouched"][0].items() if isinstance(value, int | float)
    ]
    assert len(numbers) > 20
    for variant in ("label 1 s after", "label at the moment"):
        assert max(auc(variant, key) for key in numbers) <= 0.52
    likes = next(key for key in numbers if key[1] == "likes")
    assert np.array_equal(column("careless", likes) > 0, LABELS)


@pytest.mark.slow
@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Kathmandu"])
def test_features_do_not_depend_on_the_zone(spark, tables, found, zone):
    spark.conf.set("spark.sql.session.timeZone", zone)
    try:
        assert features(spark, tables, ("untouched",))["untouched"] == found["untouched"]
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
