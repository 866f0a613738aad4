"""What differs between two states of a table, and whom it touches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from transforms import changes
from transforms.changes import (
    changed_rows,
    first_changed_hour,
    first_event_of,
    first_since,
    users_of,
)
from transforms.interactions import LabelRule, interactions, strengths

pytestmark = pytest.mark.slow

T0 = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
US = timedelta(microseconds=1)


def event(number, user="u", item="i", at=T0, **more):
    return {"event_id": f"e{number}", "user_id": user, "item_id": item, "event_type": "view",
            "timestamp": at, **more}  # fmt: skip


def ids(frame):
    rows = [row[0] for row in frame.collect()]
    assert len(rows) == len(set(rows))
    return set(rows)


def test_the_first_hour_that_differs(table):
    old = [event(n, at=T0 + n * HOUR) for n in range(4)]
    # Another order, one value other in the third hour, one event more in the last.
    new = [old[3], old[1], event(2, at=old[2]["timestamp"], watch_seconds=1.0), old[0]]
    new.append(event(9, at=old[3]["timestamp"] + 59 * HOUR / 60))
    before, after = table("events", old), table("events", new)
    assert first_changed_hour(before, after) == T0 + 2 * HOUR
    assert first_changed_hour(before, table("events", old[::-1])) is None
    assert first_changed_hour(before, table("events", [])) == T0
    # Twice the same row is not once.
    assert first_changed_hour(before, table("events", [*old, old[1]])) == T0 + HOUR


def test_changed_rows(table):
    old = [
        {"user_id": name, "trust_score": 0.5, "interests": {"a": 1.0, "b": 2.0}} for name in "abcd"
    ]
    new = [
        old[0] | {"interests": {"b": 2.0, "a": 1.0}},
        old[1] | {"trust_score": 0.25},
        old[2] | {"interests": {"a": 1.0}},
        old[3] | {"user_id": "e"},
    ]  # fmt: skip
    before, after = table("users", old), table("users", new)
    assert ids(changed_rows(before, after, ["user_id"], before.columns)) == set("bcde")
    assert ids(changed_rows(before, after, ["user_id"], ["user_id", "trust_score"])) == set("bde")


@pytest.mark.parametrize("few", [1, 0], ids=["in a condition", "by a join"])
def test_the_first_event_of_what_changed(table, monkeypatch, few):
    monkeypatch.setattr(changes, "_FEW", few)
    events = table("events", [
        event(1, "a", "1", T0), event(2, "b", "2", T0 + HOUR), event(3, "c", "3", T0 + 2 * HOUR),
    ])  # fmt: skip
    items = table("items", [{"item_id": "2", "author_id": "z"}, {"item_id": "3"}])
    users = {name: table("users", [{"user_id": name}]).select("user_id") for name in "cz"}
    third = table("items", [{"item_id": "3"}]).select("item_id")
    nobody = table("items", [{"item_id": "9"}]).select("item_id")
    assert first_event_of(events, items, users["c"], None) == T0 + 2 * HOUR
    assert first_event_of(events, items, users["z"], None) == T0 + HOUR
    assert first_event_of(events, items, users["z"], third) == T0 + HOUR
    assert first_event_of(events, items, None, third) == T0 + 2 * HOUR
    assert first_event_of(events, items, None, nobody) is None


def test_the_first_follow_that_changed(table):
    rows = [{"follower_id": "a", "followee_id": "b", "since": T0 + US}]
    assert first_since(table("follows", rows), T0) == T0 + US
    rows.append({"follower_id": "a", "followee_id": "c", "since": None})
    assert first_since(table("follows", rows), T0 - HOUR) == T0 - HOUR


def test_who_met_an_item_before_a_moment(table):
    events = table("events", [
        event(1, "met", "a", T0 - US), event(2, "met", "a", T0 - HOUR), event(3, "late", "a", T0),
        event(4, "other", "b", T0 - US),
    ])  # fmt: skip
    item = table("items", [{"item_id": "a"}]).select("item_id")
    assert [row.user_id for row in users_of(events, item, T0).collect()] == ["met"]


def test_strengths_are_those_of_interactions(table):
    kinds = ("impression", "view", "skip", "like", "dislike", "comment", None)
    events = [
        event(n, "u", f"i{n // 2}", event_type=kind, watch_seconds=20.0 * (n % 4))
        for n, kind in enumerate(kind for pair in product(kinds, kinds) for kind in pair)
    ]
    items = table(
        "items", [{"item_id": f"i{n}", "duration_seconds": 60.0} for n in range(0, 49, 2)]
    )
    frame = table("events", events)
    quick = strengths(frame, items, LabelRule())
    whole = interactions(frame, items, LabelRule()).select(quick.columns)
    assert sorted(quick.collect()) == sorted(whole.collect())
