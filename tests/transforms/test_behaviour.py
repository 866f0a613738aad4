"""Behaviour of users and engagement of items, against values worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import functions as F

from transforms.behaviour import item_engagement, more_engagement, user_behaviour
from transforms.pair_features import hashtag_similarity, words
from transforms.schemas import EVENT_TYPES, columns

NOW = datetime(2026, 6, 1, tzinfo=UTC)  # a Monday
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
US = timedelta(microseconds=1)


def event(user, at, kind="view", item="long", **more):
    return {"user_id": user, "item_id": item, "event_type": kind, "timestamp": at, **more}


@pytest.fixture(scope="module")
def of_users(spark, table):
    sunday = NOW - DAY
    events = [
        # One session of a Sunday 23:30 to 23:50 and one of a Saturday noon.
        event("ann", sunday + 23.5 * HOUR, watch_seconds=30.0),
        event("ann", sunday + 23.5 * HOUR + 10 * MINUTE, "like"),
        event("ann", sunday + 23.5 * HOUR + 20 * MINUTE, watch_seconds=90.0),
        event("ann", sunday - 12 * HOUR, "skip", watch_seconds=0.1),
        event("ann", sunday - 12 * HOUR, "rating", value=4.0),
        event("ann", sunday - 12 * HOUR + MINUTE, "rating", value=1.0, item="no length"),
        event("ann", sunday - 12 * HOUR + MINUTE, watch_seconds=5.0, item="no length"),
        # Outside the window: what is older, of that very moment, and later.
        event("ann", NOW - 30 * DAY - US, "share"), event("ann", NOW, "share"),
        event("ann", NOW + timedelta(seconds=1), "share"),
        *[event("owl", NOW - n * DAY + 2 * HOUR, "click") for n in range(1, 8)],
        *[event("all", NOW - HOUR, kind) for kind in EVENT_TYPES],
    ]  # fmt: skip
    items = [{"item_id": "long", "duration_seconds": 60.0}, {"item_id": "no length"}]
    points = spark.createDataFrame(
        [(name, NOW) for name in ("ann", "owl", "all", "nobody", "ann")]
        + [("ann", NOW + timedelta(seconds=1))],
        "user_id string, as_of timestamp",
    )
    found = user_behaviour(
        points, table("events", events), table("items", items),
        history=30 * DAY, session_gap=30 * MINUTE,
    )  # fmt: skip
    named = ["as_of" if name == "interval_end" else name for name in columns("user_behaviour")]
    assert found.columns == named
    rows = found.collect()
    assert len(rows) == 5
    return {(row.user_id, row.as_of.astimezone(UTC)): row for row in rows}


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        pytest.param("ann", {
            "views": 3, "likes": 1, "skips": 1, "ratings": 2, "shares": 0, "clicks": 0,
            "completion": (0.5 + 1.0 + 0.1 / 60) / 3, "mean_rating": 2.5,
            "watch_seconds": 125.1, "sessions": 2, "watch_seconds_per_session": 62.55,
            "session_seconds": 1260.0, "active_days": 2,
        }, id="DE-02 DE-03 DE-04 counts, completion, watch time, ratings"),
        pytest.param("nobody", {
            "views": 0, "completion": None, "mean_rating": None, "watch_seconds": 0.0,
            "sessions": 0, "watch_seconds_per_session": 0.0, "hour_profile": [0.0] * 24,
            "weekday_profile": [0.0] * 7,
        }, id="defaults"),
        pytest.param("all", {f"{kind}s": 1 for kind in EVENT_TYPES}, id="DE-05 each type"),
        pytest.param("owl", {
            "hour_profile": [0.0, 0.0, 1.0] + [0.0] * 21, "weekday_profile": [1 / 7] * 7,
        }, id="DE-16 FE-40 a night owl's hours and week"),
    ],
)  # fmt: skip
def test_user_behaviour(of_users, user, expected):
    row = of_users[user, NOW].asDict()
    assert {name: row[name] for name in expected} == {
        name: pytest.approx(value, abs=1e-6) for name, value in expected.items()
    }


def test_profiles_equal_the_script(of_users):
    """FE-40: the weekday and hour profile of a scripted user equals its script."""
    row = of_users["ann", NOW]
    assert row.hour_profile == [4 / 7 if n == 12 else 3 / 7 if n == 23 else 0.0 for n in range(24)]
    assert row.weekday_profile == [0.0, 0.0, 0.0, 0.0, 0.0, 4 / 7, 3 / 7]


def test_behaviour_is_strictly_earlier_than_its_moment(of_users):
    """FE-36: joined by user and as-of time; a second later the share of `NOW` counts."""
    later = of_users["ann", NOW + timedelta(seconds=1)]
    assert (of_users["ann", NOW].shares, later.shares) == (0, 1)


def test_engagement_goes_on_from_an_earlier_moment(spark, table):
    """Earlier counts and the events since are the counts of all events."""
    cut = NOW - HOUR
    kinds = ("view", "like", "comment", "share", "skip")
    events = [
        event("u", at, kind, item)
        for item, moments in {
            "both": (cut - US, cut),
            "left": (cut - US,),
            "came": (cut,),
            "listed late": (cut - US, cut),
            "too late": (NOW,),
        }.items()
        for at in moments
        for kind in kinds
    ]
    frame = table("events", events)

    def points(at, *names):
        rows = [(name, at) for name in names]
        return spark.createDataFrame(rows, "item_id string, as_of timestamp")

    names = ("both", "left", "came", "listed late", "too late", "unseen")
    before = item_engagement(points(cut, "both", "left"), frame)
    found = more_engagement(before, points(NOW, *names), frame, since=cut).collect()
    assert sorted(found) == sorted(item_engagement(points(NOW, *names), frame).collect())
    assert {row.item_id: row.total_engagement for row in found} == {
        "both": 6, "left": 3, "came": 3, "listed late": 6, "too late": 0, "unseen": 0,
    }  # fmt: skip


def test_item_engagement(spark, table):
    """DE-06: counters of each item; the total is that of likes, comments and shares."""
    kinds = ["view"] * 4 + ["like"] * 3 + ["comment"] * 2 + ["share", "skip", "click"]
    events = [event("u", NOW - HOUR, kind, "busy") for kind in kinds]
    events += [event("u", NOW, "like", "busy"), event("u", NOW - HOUR, "impression", "shown")]
    points = spark.createDataFrame(
        [(name, NOW) for name in ("busy", "shown", "unseen")], "item_id string, as_of timestamp"
    )
    rows = item_engagement(points, table("events", events)).collect()
    assert {row.item_id: tuple(row)[2:] for row in rows} == {
        "busy": (4, 3, 2, 1, 6), "shown": (0, 0, 0, 0, 0), "unseen": (0, 0, 0, 0, 0),
    }  # fmt: skip
    assert all(
        row.total_engagement == row.like_count + row.comment_count + row.repost_count
        for row in rows
    )


def test_hashtag_similarity(spark):
    """FE-49: 0 for disjoint sets, 1 for identical sets."""
    cases = [
        (["a", "b"], ["c"], 0.0), (["a", "b"], ["B", "A", "a"], 1.0), (["a", "b"], ["b", "c"], 1 / 3),
        ([], ["a"], 0.0), (None, ["a"], 0.0), (["a"], None, 0.0), ([], [], 0.0),
    ]  # fmt: skip
    frame = spark.createDataFrame(
        [(ours, theirs) for ours, theirs, _ in cases], "ours array<string>, theirs array<string>"
    )
    found = frame.select(
        hashtag_similarity(words(F.col("ours")), words(F.col("theirs"))).alias("similarity")
    ).collect()
    assert [row.similarity for row in found] == [expected for *_, expected in cases]
