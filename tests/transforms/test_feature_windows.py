"""User and item features as of a moment, against values worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import log1p

import pytest

from transforms.behaviour import item_engagement, user_behaviour
from transforms.item_features import item_features
from transforms.schemas import columns
from transforms.text import with_scores
from transforms.user_features import user_features

pytestmark = pytest.mark.slow

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
US = timedelta(microseconds=1)
WINDOW = {"history": 90 * DAY, "session_gap": 30 * MINUTE}


def event(user, at, kind="view", item="i"):
    return {"user_id": user, "item_id": item, "event_type": kind, "timestamp": at}


def follow(follower, followee, since=None):
    return {"follower_id": follower, "followee_id": followee, "since": since}


def at_points(name):
    """The columns of a feature table, as of points instead of an interval's end."""
    return ["as_of" if column == "interval_end" else column for column in columns(name)]


def rounded(value):
    """The value with its numbers, inside a mapping too, to 9 decimals."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return round(value, 9) if isinstance(value, float) else value


def points(spark, key, *asked):
    return spark.createDataFrame(asked, f"{key} string, as_of timestamp").coalesce(1)


@pytest.fixture(scope="module")
def of_users(spark, table):
    """Features by (user, as_of), of a world that holds every case: one Spark job."""
    events = [
        # FE-05, FE-06: 10 minutes apart are one session, 2 hours apart two.
        event("sessions", NOW - 5 * HOUR), event("sessions", NOW - 5 * HOUR + 10 * MINUTE, "like"),
        event("sessions", NOW - 5 * HOUR + 40 * MINUTE), event("sessions", NOW - 2 * HOUR, "share"),
        # FE-03: the window is [as_of - 90 days, as_of).
        event("in", NOW - 89 * DAY), event("out", NOW - 91 * DAY),
        event("edge", NOW - 90 * DAY), event("beyond", NOW - 90 * DAY - US),
        # The window cuts a session and a day in two: only what lies inside counts.
        event("cut", NOW - 90 * DAY - 10 * MINUTE), event("cut", NOW - 90 * DAY + 5 * MINUTE),
        event("cut", NOW - 90 * DAY + 7 * MINUTE),
        # Strictly earlier: neither the event itself nor what happens with it counts.
        event("probe", NOW - US), event("at", NOW), event("at", NOW, "like"),
        event("after", NOW + timedelta(seconds=1)),
        # Two events at one moment are two interactions.
        event("twins", NOW - HOUR), event("twins", NOW - HOUR), event("twins", NOW - HOUR, "like"),
        *[event("daily", NOW - DAY * day) for day in range(1, 91)],
        *[event("weekly", NOW - DAY * day) for day in range(1, 91, 7)],
    ]  # fmt: skip
    users = [
        {"user_id": "sessions", "created_at": NOW - 36 * HOUR, "trust_score": 0.7,
         "interests": {f"t{i:02}": float(i) for i in range(12)} | {"tie b": 5.0, "tie a": 5.0},
         "content_type_preferences": {"video": 0.75}},
        {"user_id": "unborn", "created_at": NOW + DAY},
    ]  # fmt: skip
    follows = [
        follow("a", "sessions", NOW - US), follow("b", "sessions", NOW), follow("c", "sessions"),
        follow("sessions", "a", NOW - DAY), follow("sessions", "b", NOW + US),
    ]  # fmt: skip
    names = {row["user_id"] for row in events} | {"sessions", "unborn", "nobody"}
    asked = [(name, NOW) for name in sorted(names)]
    # Other moments of one user, and a point asked twice.
    asked += [("sessions", NOW - 2 * HOUR), ("sessions", NOW + 10 * DAY), ("sessions", NOW)]
    behaved = user_behaviour(
        points(spark, "user_id", *asked), table("events", events), table("items", []), **WINDOW
    )
    found = user_features(
        behaved, table("users", users), table("follows", follows), history=WINDOW["history"]
    )
    assert found.columns == at_points("user_features")
    rows = found.collect()
    assert len(rows) == len(set(asked))
    return {(row.user_id, row.as_of.astimezone(UTC)): row for row in rows}


@pytest.mark.parametrize(
    ("user", "at", "expected"),
    [
        pytest.param("sessions", NOW, {
            "account_age_days": 1.5, "total_interactions": 4, "avg_session_seconds": 1200.0,
            "engagement_patterns": {"view": 0.5, "like": 0.25, "share": 0.25},
            "follower_count": 2, "following_count": 1, "social_connectivity": log1p(3),
            "activity_level": 1 / 90, "trust_score": 0.7, "content_preferences": {"video": 0.75},
            "top_interests": [
                "t11", "t10", "t09", "t08", "t07", "t06", "t05", "tie a", "tie b", "t04",
            ],
        }, id="FE-04 to FE-14 all features"),
        pytest.param("sessions", NOW - 2 * HOUR, {
            "total_interactions": 3, "avg_session_seconds": 2400.0, "follower_count": 1,
            "following_count": 1, "account_age_days": 34 / 24,
        }, id="FE-04 the same user two hours earlier"),
        pytest.param("sessions", NOW + 10 * DAY, {
            "follower_count": 3, "following_count": 2, "social_connectivity": log1p(5),
        }, id="FE-09 FE-13 FE-14 more edges, more connected"),
        pytest.param("nobody", NOW, {
            "account_age_days": None, "total_interactions": 0, "avg_session_seconds": 0.0,
            "top_interests": [], "engagement_patterns": {}, "social_connectivity": 0.0,
            "content_preferences": {}, "activity_level": 0.0, "trust_score": None,
            "follower_count": 0, "following_count": 0,
        }, id="DE-10 defaults"),
        pytest.param("unborn", NOW, {"account_age_days": None}, id="not yet created"),
        pytest.param("in", NOW, {"total_interactions": 1, "activity_level": 1 / 90}, id="FE-03 89 days"),
        pytest.param("out", NOW, {
            "total_interactions": 0, "activity_level": 0.0, "engagement_patterns": {},
        }, id="FE-03 91 days"),
        pytest.param("edge", NOW, {"total_interactions": 1}, id="exactly 90 days"),
        pytest.param("beyond", NOW, {"total_interactions": 0}, id="1 us more than 90 days"),
        pytest.param("cut", NOW, {
            "total_interactions": 2, "avg_session_seconds": 120.0, "activity_level": 1 / 90,
        }, id="a session that the window cuts"),
        pytest.param("probe", NOW, {"total_interactions": 1}, id="1 us before"),
        pytest.param("at", NOW, {"total_interactions": 0}, id="at the moment"),
        pytest.param("after", NOW, {"total_interactions": 0}, id="1 s after"),
        pytest.param("twins", NOW, {
            "total_interactions": 3, "avg_session_seconds": 0.0,
            "engagement_patterns": {"view": 2 / 3, "like": 1 / 3},
        }, id="events of one moment"),
        pytest.param("daily", NOW, {"activity_level": 1.0, "total_interactions": 90}, id="FE-11 daily"),
        pytest.param("weekly", NOW, {"activity_level": 13 / 90}, id="FE-11 weekly"),
    ],
)  # fmt: skip
def test_user_features(of_users, user, at, expected):
    row = of_users[user, at]
    assert rounded({name: row[name] for name in expected}) == rounded(expected)


def test_shares_of_event_types_sum_to_one(of_users):
    """FE-08."""
    active = [row for row in of_users.values() if row.total_interactions]
    assert len(active) > 8
    assert [sum(row.engagement_patterns.values()) for row in active] == pytest.approx(
        [1.0] * len(active)
    )


def test_window_sums_equal_a_plain_scan(spark, table):
    """Random points and events, ties included, against a loop over all events."""
    from random import Random

    random = Random(3)
    history, gap = timedelta(hours=30), timedelta(minutes=20)
    # Whole multiples of 5 minutes make ties, exact gaps and exact window edges.
    times = {u: sorted(random.randrange(0, 900) for _ in range(60)) for u in "abc"}
    start = datetime(2026, 1, 1, tzinfo=UTC)
    events = [event(u, start + 5 * MINUTE * t) for u in times for t in times[u]]
    asked = [(u, start + 5 * MINUTE * random.randrange(0, 1000)) for u in "abc" for _ in range(60)]
    behaved = user_behaviour(
        points(spark, "user_id", *asked), table("events", events), table("items", []),
        history=history, session_gap=gap,
    )  # fmt: skip
    found = user_features(behaved, table("users", []), table("follows", []), history=history)
    found = found.collect()

    def scan(user, at):
        inside = [start + 5 * MINUTE * t for t in times[user]]
        inside = [t for t in inside if at - history <= t < at]
        gaps = [b - a for a, b in pairwise(inside)]
        sessions = sum(one > gap for one in gaps) + 1
        within = sum((one for one in gaps if one <= gap), timedelta())
        days = len({t.date() for t in inside})
        seconds = within.total_seconds() / sessions if inside else 0.0
        return len(inside), pytest.approx(seconds), pytest.approx(min(1.0, days / 1.25))

    assert len(found) == len(set(asked)) > 100
    for row in found:
        got = (row.total_interactions, row.avg_session_seconds, row.activity_level)
        assert got == scan(row.user_id, row.as_of.astimezone(UTC)), (row.user_id, row.as_of)


TEXTS = {
    "glad": "I love this wonderful, happy film!", "sad": "A terrible, sad and awful failure.",
    "simple": "The cat sat on the mat. The dog ran to the sun.",
    "legalese": "Notwithstanding any contradictory provision, the indemnification obligations "
    "enumerated hereinabove constitute irrevocable contractual responsibilities.",
    "long": "x" * 280, "emoji": "日é",
}  # fmt: skip


@pytest.fixture(scope="module")
def of_items(spark, table):
    """Features by (item, as_of), of a world that holds every case."""
    kinds = ["view"] * 8 + ["like", "comment", "share"]
    events = [event(f"u{n}", NOW - HOUR + n * US, kind, "busy") for n, kind in enumerate(kinds)]
    events += [
        event("u", NOW - US, "like", "probe"), event("u", NOW, "like", "at"),
        event("u", NOW, "view", "at"), event("u", NOW + timedelta(seconds=1), "like", "after"),
        event("u", NOW - DAY, "like", "liked"), event("v", NOW - DAY, "like", "liked"),
        event("u", NOW - DAY, "comment", "liked"), event("w", NOW - DAY, "share", "liked"),
        event("u", NOW - DAY, "impression", "shown"), event("u", NOW - DAY, "like", "unlisted"),
    ]  # fmt: skip
    items = [
        {"item_id": "busy", "author_id": "ann", "created_at": NOW - 5 * HOUR, "image_url": "a.png",
         "video_url": "a.mp4", "tags": ["b", "é", "a"], "categories": ["own", "other"]},
        {"item_id": "probe", "image_url": "a.png", "tags": ["nolabel"], "categories": ["own"]},
        {"item_id": "at", "video_url": "a.mp4", "tags": ["drums", "guitar"]},
        {"item_id": "after", "image_url": " ", "tags": ["guitar", "drums"],
         "created_at": NOW + DAY},
        {"item_id": "liked", "author_id": "gone", "tags": ["early", "known", "same", "late"],
         "tag_times": [None, NOW - US, NOW, NOW + US]},
        {"item_id": "shown", "title": "I love it", "text": None},
        *[{"item_id": name, "text": text} for name, text in TEXTS.items()],
    ]  # fmt: skip
    names = [row["item_id"] for row in items] + ["unlisted", "unknown"]
    follows = [follow("a", "ann", NOW - DAY), follow("b", "ann", NOW), follow("c", "gone")]
    asked = points(spark, "item_id", *[(n, NOW) for n in names], ("busy", NOW - HOUR + 5 * US))
    found = item_features(
        item_engagement(asked, table("events", events)), table("items", items),
        table("users", [{"user_id": "ann", "trust_score": 0.25}]), table("follows", follows),
        categories={"guitar": "strings", "drums": "rhythm", "late": "wrong"},
    )  # fmt: skip
    assert found.columns == at_points("item_features")
    return {(row.item_id, row.as_of.astimezone(UTC)): row for row in found.collect()}


@pytest.mark.parametrize(
    ("item", "at", "expected"),
    [
        pytest.param("busy", NOW, {
            "engagement_rate": 0.375, "like_ratio": 1 / 3, "comment_ratio": 1 / 3,
            "share_ratio": 1 / 3, "item_age_hours": 5.0, "author_trust_score": 0.25,
            "author_follower_count": 1, "hashtags": ["b", "é", "a"], "hashtag_count": 3,
            "has_media": True, "category": "own", "content_length": 0,
        }, id="FE-16 to FE-26 all features"),
        pytest.param("busy", NOW - HOUR + 5 * US, {"engagement_rate": 0.0, "like_ratio": 0.0},
                     id="FE-22 own event and later ones do not count"),
        pytest.param("probe", NOW, {
            "like_ratio": 1.0, "engagement_rate": 1.0, "has_media": True, "category": "own",
        }, id="1 us before; no view, no division error; a tag without category"),
        pytest.param("at", NOW, {
            "like_ratio": 0.0, "engagement_rate": 0.0, "has_media": True, "category": "strings",
        }, id="at the moment"),
        pytest.param("after", NOW, {
            "like_ratio": 0.0, "has_media": False, "category": "strings", "item_age_hours": None,
        }, id="1 s after; the order of tags does not matter; not yet created"),
        pytest.param("liked", NOW, {
            "like_ratio": 0.5, "comment_ratio": 0.25, "share_ratio": 0.25, "category": "unknown",
            "hashtags": ["early", "known"], "hashtag_count": 2, "author_trust_score": None,
            "author_follower_count": 1,
        }, id="FE-17 FE-18 FE-24 FE-25 tags known strictly before"),
        pytest.param("shown", NOW, {
            "engagement_rate": 0.0, "hashtags": [], "hashtag_count": 0, "content_length": 0,
            "category": "unknown", "author_follower_count": 0, "item_age_hours": None,
        }, id="DE-12 FE-15 nothing but a title"),
        pytest.param("unlisted", NOW, {
            "like_ratio": 1.0, "has_media": False, "hashtags": [], "sentiment": 0.0,
            "readability": 0.0, "category": "unknown",
        }, id="an item without a row"),
        pytest.param("unknown", NOW, {"like_ratio": 0.0}, id="an item without anything"),
        pytest.param("long", NOW, {"content_length": 280}, id="FE-15 280 characters"),
        pytest.param("emoji", NOW, {"content_length": 2, "sentiment": 0.0}, id="code points"),
    ],
)  # fmt: skip
def test_item_features(of_items, item, at, expected):
    row = of_items[item, at]
    assert rounded({name: row[name] for name in expected}) == rounded(expected)


def test_ratios_sum_to_one_or_zero(of_items):
    """FE-23, FE-24, FE-25."""
    for row in of_items.values():
        total = row.like_ratio + row.comment_ratio + row.share_ratio
        assert total == pytest.approx(1.0) or total == 0.0


def test_text_features(of_items):
    """FE-27, FE-28."""

    def of(name):
        return of_items[name, NOW]

    assert of("glad").sentiment > 0.5 > 0 > -0.5 > of("sad").sentiment
    assert of("shown").sentiment > 0.5
    # 11 words, 2 sentences, 11 syllables: 206.835 - 1.015 * 5.5 - 84.6 = 116.65, cut to 1.
    assert of("simple").readability == 1.0
    assert of("legalese").readability == 0.0
    # 6 words, 1 sentence, 10 syllables: a, ter-rib-le, sad, and, aw-ful, fai-lure.
    assert of("sad").readability == pytest.approx(
        (206.835 - 1.015 * 6 - 84.6 * 10 / 6) / 100, abs=1e-9
    )
    assert all(0 <= row.readability <= 1 for row in of_items.values())


def test_texts_whose_scores_are_known_are_not_scored_again(spark, table):
    items = table("items", [{"item_id": "new", "text": "a"}, {"item_id": "known", "text": "b"}])
    known = spark.createDataFrame([("known", 0.25, 0.75)], ["item_id", "sentiment", "readability"])
    found = with_scores(items, known)
    assert found.columns == [*items.columns, "sentiment", "readability"]
    assert {row.item_id: row.sentiment for row in found.collect()} == {"new": 0.0, "known": 0.25}
