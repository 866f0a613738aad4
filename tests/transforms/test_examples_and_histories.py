"""Interactions, examples, the split, sequences and graph edges, against values by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import pairwise
from math import sqrt

import pytest
from pyspark.sql import DataFrame

from transforms.examples import examples
from transforms.graph_edges import (
    MAX_LIKED_PER_USER,
    graph_as_of,
    new_edges,
    similar_edges,
)
from transforms.interactions import LabelRule, interactions
from transforms.schemas import columns, struct
from transforms.sequences import sequences, with_later

pytestmark = pytest.mark.slow

END = datetime(2026, 1, 12, tzinfo=UTC)  # a Monday
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
US = timedelta(microseconds=1)


def event(user, item, at, kind, number=None, **more):
    event_id = number or f"{user}{item}{kind}{at.isoformat()}"
    return {"event_id": event_id, "user_id": user, "item_id": item, "event_type": kind,
            "timestamp": at, **more}  # fmt: skip


# DE-20: ten events labelled by hand: type, value, watched seconds of 60, strength, label.
LABELLED = [
    ("impression", None, None, 0.0, 0.0),
    ("view", None, 15.0, 0.25, 0.0),
    ("view", None, 90.0, 1.0, 1.0),
    ("view", None, None, 0.0, 0.0),
    ("click", None, None, 0.6, 1.0),
    ("skip", None, 5.0, 0.0, 0.0),
    ("rating", 5.0, None, 1.0, 1.0),
    ("rating", 2.0, None, 0.4, 0.0),
    ("dislike", None, 60.0, 0.0, 0.0),
    ("rating", 9.0, None, 1.0, 1.0),
]


@pytest.mark.parametrize("kind", ["binary", "continuous"])
def test_labels(table, kind):
    events = [
        event("u", f"i{n}", END - DAY, name, value=value, watch_seconds=watched)
        for n, (name, value, watched, _, _) in enumerate(LABELLED)
    ]
    items = [{"item_id": f"i{n}", "duration_seconds": 60.0} for n in range(len(LABELLED))]
    found = interactions(table("events", events), table("items", items), LabelRule(kind=kind))
    rows = sorted(found.collect(), key=lambda row: row.item_id)
    assert [(row.strength, row.label) for row in rows] == [
        (strength, label if kind == "binary" else strength) for _, _, _, strength, label in LABELLED
    ]


def test_an_unknown_kind_of_label_is_refused():
    with pytest.raises(ValueError) as error:
        LabelRule(kind="fuzzy")
    assert str(error.value) == "The kind of label `fuzzy` is not known; use binary or continuous."


@pytest.mark.parametrize(
    ("kinds", "winner", "strength"),
    [
        (["impression", "like", "view"], "like", 1.0),
        (["impression", "skip"], "skip", 0.0),
        (["impression", "view"], "view", 0.5),
        (["view", "like", "dislike"], "dislike", 0.0),
        (["share", "like", "follow"], "follow", 1.0),
    ],
)
def test_events_of_one_moment_are_one_interaction(table, kinds, winner, strength):
    events = [
        event("u", "i", END - DAY, kind, watch_seconds=30.0,
              **({"position": 3, "device": "tv"} if kind == "impression" else {}))
        for kind in kinds
    ]  # fmt: skip
    items = [{"item_id": "i", "duration_seconds": 60.0}]
    shown = "impression" in kinds
    for order in (events, events[::-1]):
        [row] = interactions(table("events", order), table("items", items), LabelRule()).collect()
        assert (row.event_type, row.strength, row.watch_share) == (winner, strength, 0.5)
        assert row.event_id == event("u", "i", END - DAY, winner)["event_id"]
        assert (row.position, row.device) == ((3, "tv") if shown else (None, None))


@pytest.mark.parametrize(
    ("watched", "duration", "share"),
    [(30.0, 60.0, 0.5), (90.0, 60.0, 1.0), (-1.0, 60.0, 0.0), (30.0, 0.0, None), (30.0, None, None),
     (None, 60.0, None)],
)  # fmt: skip
def test_watch_share(table, watched, duration, share):
    events = table("events", [event("u", "i", END - DAY, "view", watch_seconds=watched)])
    items = table("items", [{"item_id": "i", "duration_seconds": duration}])
    assert interactions(events, items, LabelRule()).collect()[0].watch_share == share


@pytest.fixture(scope="module")
def built(table):
    """Examples by event id, of a world that holds every case."""
    planted = END - 12 * HOUR
    events = [
        event("u", "i", END - 10 * DAY, "view", "old"),
        event("u", "i", END - 8 * DAY - US, "view", "too early"),
        event("u", "i", END - 8 * DAY, "view", "first", device="tv", location="DE"),
        event("u", "i", END - 2 * DAY - US, "like", "last of train"),
        event("u", "i", END - 2 * DAY, "like", "first of valid", device=""),
        event("u", "i", END - DAY, "like", "first of test"),
        # What happens with the example or after it must not be seen in it.
        event("p", "j", planted - US, "like", "just before"),
        event("p", "j", planted, "view", "probe"),
        event("q", "j", planted, "like", "other user, same moment"),
        event("q", "j", planted + timedelta(seconds=1), "like", "after"),
        event("u", "k", END - US, "view", "last"),
        event("u", "k", END, "view", "at the end"),
        event("9007199254740993", "00123", END - HOUR, "share", "ids"),
        event("9007199254740993", "00123", END - HOUR, "impression", "shown", position=4),
    ]
    items = [
        {"item_id": "i", "created_at": END - 8 * DAY - 5 * HOUR, "author_id": "u", "tags": ["x"]},
        {"item_id": "j", "tags": ["early", "late"], "tag_times": [planted - US, planted]},
    ]
    users = [{"user_id": "u", "created_at": END - 9 * DAY, "trust_score": 0.5}]
    follows = [
        {"follower_id": "p", "followee_id": "u", "since": END - 8 * DAY},
        {"follower_id": "q", "followee_id": "u", "since": END - 8 * DAY - US},
    ]
    found = examples(
        table("events", events), table("items", items), table("users", users),
        table("follows", follows), start=END - 8 * DAY, end=END, every=(6, "h"),
        rule=LabelRule(), history=90 * DAY,
        session_gap=timedelta(minutes=30), categories={"x": "letter"},
    )  # fmt: skip
    assert found.schema.simpleString() == struct("examples").simpleString()
    return {row.event_id: row for row in found.collect()}


def test_examples_are_those_of_the_range_and_belong_to_their_events_intervals(built):
    ends = {name: (row.interval_end.astimezone(UTC) - END) / HOUR for name, row in built.items()}
    assert ends == {
        "first": -8 * 24 + 6, "last of train": -48, "first of valid": -42, "first of test": -18,
        "just before": -12, "probe": -6, "other user, same moment": -6, "after": -6, "last": 0,
        "ids": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("first", {
            "interval_end": END - 8 * DAY + 6 * HOUR, "timestamp": END - 8 * DAY, "user_total_interactions": 2,
            "user_account_age_days": 1.0, "user_trust_score": 0.5, "user_follower_count": 1,
            "item_item_age_hours": 5.0, "item_author_follower_count": 1, "item_category": "letter",
            "item_author_trust_score": 0.5, "item_hashtag_count": 1, "item_like_ratio": 0.0,
            "device": "tv", "location": "DE", "strength": 0.0, "label": 0.0,
        }, id="values as of the event"),
        pytest.param("last of train", {
            "user_total_interactions": 3, "user_follower_count": 2, "item_like_ratio": 0.0,
            "label": 1.0, "event_type": "like",
        }, id="its own like does not count"),
        pytest.param("first of valid", {
            "item_like_ratio": 1.0, "device": "unknown", "location": "unknown",
        }, id="an empty device is unknown"),
        pytest.param("probe", {
            "user_total_interactions": 1, "item_like_ratio": 1.0, "item_engagement_rate": 1.0,
            "item_hashtag_count": 1,
        }, id="planted at the moment and after it"),
        pytest.param("other user, same moment", {
            "user_total_interactions": 0, "item_engagement_rate": 1.0,
        }, id="another user's event of that moment"),
        pytest.param("after", {"item_engagement_rate": 2.0, "item_hashtag_count": 2}, id="later"),
        pytest.param("ids", {
            "user_id": "9007199254740993", "item_id": "00123", "event_type": "share",
            "position": 4, "user_trust_score": None, "item_category": "unknown", "label": 1.0,
        }, id="exact ids; users and items without a row stay"),
    ],
)  # fmt: skip
def test_features_of_examples_are_as_of_the_event(built, name, expected):
    row = built[name].asDict()
    row |= {name: row[name].astimezone(UTC) for name in ("timestamp", "interval_end")}
    assert {name: row[name] for name in expected} == expected


def test_time_of_day_and_week_lie_on_circles(built):
    def hour(row):
        return row.hour_sin, row.hour_cos

    def weekday(row):
        return row.weekday_sin, row.weekday_cos

    # A Sunday's last microsecond, a Sunday's start, a Sunday's noon.
    last, midnight, noon = built["last"], built["first of test"], built["probe"]
    assert hour(last) == pytest.approx(hour(midnight), abs=1e-6)
    assert hour(noon) == pytest.approx((0.0, -1.0), abs=1e-9)
    assert weekday(last) == weekday(noon) == pytest.approx((-0.7818314825, 0.6234898019))
    # A Friday, the fifth day: sine and cosine of 2 pi 4 / 7.
    assert weekday(built["last of train"]) == pytest.approx((-0.4338837391, -0.9009688679))


def test_sequences(table):
    """FE-39: time order, the latest ones, strictly before the interval's end."""
    events = [
        event("u", "c", END - US, "view", watch_seconds=15.0),
        event("u", "a", END - 3 * HOUR, "like"),
        event("u", "b", END - 2 * HOUR, "impression"),
        event("u", "b2", END - HOUR, "skip"), event("u", "b1", END - HOUR, "click"),
        event("u", "b1", END - HOUR, "impression"),
        event("u", "z", END - 9 * HOUR, "like"),
        event("u", "x", END, "like"),
        event("v", "b", END - HOUR, "impression"),
    ]  # fmt: skip
    items = table("items", [{"item_id": "c", "duration_seconds": 60.0}])
    found = sequences(
        table("events", events), items, interval_end=END, max_length=4, rule=LabelRule()
    )
    assert found.columns == columns("sequences")
    [row] = found.collect()
    assert (row.user_id, row.interval_end.astimezone(UTC)) == ("u", END)
    times = [at.astimezone(UTC) for at in row.timestamps]
    assert list(zip(row.item_ids, row.event_types, times, row.strengths, strict=True)) == [
        ("a", "like", END - 3 * HOUR, 1.0),
        ("b1", "click", END - HOUR, 0.6),
        ("b2", "skip", END - HOUR, 0.0),
        ("c", "view", END - US, 0.25),
    ]
    assert row.watch_shares == [None, None, None, 0.25]


@pytest.mark.parametrize("max_length", [1, 3, 4, 100])
def test_histories_go_on_from_earlier_ones(table, max_length):
    """Earlier histories with later events appended are the histories of all events."""
    events = [
        *[event("both", f"i{n}", END - n * HOUR, "like") for n in range(1, 7)],
        event("both", "i9", END - 3 * HOUR, "click"),  # of one moment with i3
        event("left", "i1", END - 9 * HOUR, "like"),
        event("came", "i1", END - HOUR, "like"),
        event("only shown", "i1", END - HOUR, "impression"),
    ]
    items = table("items", [])

    def histories(rows):
        return sequences(
            table("events", rows), items, interval_end=END, max_length=max_length, rule=LabelRule()
        )

    cut = END - 3 * HOUR
    before = histories([row for row in events if row["timestamp"] < cut])
    later = histories([row for row in events if row["timestamp"] >= cut])
    found = with_later(before, later, max_length=max_length)
    whole = histories(events).select(found.columns)
    assert sorted(found.collect()) == sorted(whole.collect())
    assert {row.user_id for row in found.collect()} == {"both", "left", "came"}


EVERY = {"every": (6, "h"), "rule": LabelRule()}


def graph_of(table, events, follows=(), similar_items=2, cuts=()):
    """Table `graph_edges` as of `END`, of one range or of several."""
    events, items, follows = (
        table("events", events), table("items", []), table("follows", follows)
    )  # fmt: skip
    moments = [datetime(1900, 1, 1, tzinfo=UTC), *cuts, END]
    added = [
        new_edges(events, items, follows, start=start, end=end, **EVERY)
        for start, end in pairwise(moments)
    ]
    histories = sequences(events, items, interval_end=END, max_length=200, rule=LabelRule())
    batches = histories.select("item_ids", "strengths").toArrow().to_batches(max_chunksize=3)
    similar = similar_edges(
        batches, interval_end=END, count=similar_items, positive_from=LabelRule().threshold
    )
    similar = histories.sparkSession.createDataFrame(similar)
    found = reduce(DataFrame.unionByName, [*added, similar])
    assert found.columns == columns("graph_edges")
    return found


def edges_of(table, events, follows=(), **options):
    rows = graph_as_of(graph_of(table, events, follows, **options), END).collect()
    return {
        relation: {(r.source, r.target): r.weight for r in rows if r.relation == relation}
        for relation in ("follows", "interacts", "similar")
    }, len(rows)


@pytest.mark.parametrize("cuts", [(), (END - 30 * DAY,), (END - 60 * DAY, END - 6 * HOUR)])
def test_graph_edges(table, cuts):
    liked = {"1": "abc", "2": "ab", "3": "ad", "4": "e"}
    events = [
        event(user, item, END - 30 * DAY, "like") for user in liked for item in liked[user]
    ] + [
        event("1", "a", END - 60 * DAY, "click"),
        event("1", "a", END, "like"),
        event("1", "e", END, "like"),
        event("1", "f", END - DAY, "impression"),
        event("4", "a", END - 30 * DAY, "skip"),
    ]
    follows = [
        {"follower_id": "1", "followee_id": "2", "since": END - US},
        {"follower_id": "2", "followee_id": "1"},
        {"follower_id": "3", "followee_id": "1", "since": END},
    ]
    found, rows = edges_of(table, events, follows, cuts=cuts)
    # FE-51: as many edges as rows, each in its own direction.
    assert found["follows"] == {("u:1", "u:2"): 1.0, ("u:2", "u:1"): 1.0}
    # A half per 30 days: a like 30 days ago and a click of 0.6 60 days ago.
    assert found["interacts"] == {
        ("u:1", "i:a"): 0.65, ("u:1", "i:b"): 0.5, ("u:1", "i:c"): 0.5, ("u:2", "i:a"): 0.5,
        ("u:2", "i:b"): 0.5, ("u:3", "i:a"): 0.5, ("u:3", "i:d"): 0.5, ("u:4", "i:e"): 0.5,
    }  # fmt: skip
    # FE-53: cosine; `a` has three neighbours, of which the two nearest stay (c before d by id).
    near = {("a", "b"): 2 / sqrt(6), ("a", "c"): 1 / sqrt(3), ("b", "a"): 2 / sqrt(6),
            ("b", "c"): 1 / sqrt(2), ("c", "a"): 1 / sqrt(3), ("c", "b"): 1 / sqrt(2),
            ("d", "a"): 1 / sqrt(3)}  # fmt: skip
    assert found["similar"] == {
        (f"i:{a}", f"i:{b}"): round(weight, 9) for (a, b), weight in near.items()
    }
    assert rows == sum(len(edges) for edges in found.values())


def test_a_follow_knows_since_when_and_other_edges_do_not(table):
    follows = [
        {"follower_id": "1", "followee_id": "2", "since": END - DAY},
        {"follower_id": "1", "followee_id": "2", "since": END - 2 * DAY},
        {"follower_id": "1", "followee_id": "3", "since": END - DAY},
        {"follower_id": "1", "followee_id": "3"},
    ]
    edges = graph_of(table, [event("1", "a", END - DAY, "like")], follows)
    found = graph_as_of(edges, END)
    since = {row.target: row.since and row.since.astimezone(UTC) for row in found.collect()}
    assert since == {"u:2": END - 2 * DAY, "u:3": None, "i:a": None}


def test_an_edge_has_a_row_of_each_interval_that_added_to_it(table):
    events = [
        event("1", "a", END - HOUR, "like"),
        event("1", "a", END - 2 * HOUR, "click"),
        event("1", "a", END - 7 * HOUR, "share"),
        event("1", "a", END, "like"),
    ]
    follows = [{"follower_id": "1", "followee_id": "2", "since": END - 6 * HOUR}]
    added = graph_of(table, events, follows).filter("relation <> 'similar'").collect()
    half = lambda hours: 0.5 ** (hours / 24 / 30)  # noqa: E731
    assert {(row.relation, row.interval_end.astimezone(UTC)): row.weight for row in added} == {
        ("follows", END): 1.0,
        ("interacts", END): round(half(1) + 0.6 * half(2), 9),
        ("interacts", END - 6 * HOUR): round(half(1), 9),
    }


def test_similar_items_take_the_latest_likes_of_a_user(table):
    count = MAX_LIKED_PER_USER + 1
    events = [event("u", f"i{n:03}", END - n * HOUR, "like") for n in range(1, count + 1)]
    found, _ = edges_of(table, events, similar_items=1)
    assert len(found["interacts"]) == count
    assert {source for source, _ in found["similar"]} == {f"i:i{n:03}" for n in range(1, count)}


def test_without_events_there_are_no_rows(table):
    assert edges_of(table, []) == ({"follows": {}, "interacts": {}, "similar": {}}, 0)
