"""Items shown, and what came of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from training.histories import EVENT_TYPES, Marks
from training.models.sequences import sequences_of, tokens_before
from training.shown import shown_items
from training.snapshot import Snapshot

HOUR = 3_600_000_000


Make = Callable[..., Snapshot]


def world(make_snapshot: Make, events: list[tuple[str, str, float, str, float, float]]) -> Snapshot:
    """From rows of user, item, hour, event type, watched share and rating, by user and hour."""
    plain = make_snapshot(
        [(user, item, hour, float(kind != "impression")) for user, item, hour, kind, *_ in events]
    )
    marks = Marks.unknown(len(events))
    marks.types[:] = [EVENT_TYPES.index(kind) for *_, kind, _, _ in events]
    marks.watch_shares[:] = [watch for *_, watch, _ in events]
    marks.ratings[:] = [rating for *_, rating in events]
    return replace(plain, marks=marks)


NONE = np.nan
EVENTS = [
    ("a", "x", 1, "impression", NONE, NONE),
    ("a", "y", 2, "impression", NONE, NONE),
    ("a", "x", 3, "view", 0.4, NONE),
    ("a", "x", 4, "rating", NONE, 0.8),
    ("a", "z", 5, "skip", 0.1, NONE),
    ("a", "y", 150, "like", NONE, NONE),
    ("b", "y", 2, "click", NONE, NONE),
]


def test_an_item_is_shown_once_and_all_that_came_of_it_before_the_end_counts(make_snapshot: Make):
    snapshot = world(make_snapshot, EVENTS)
    shown = shown_items(snapshot, None, 100 * HOUR)
    assert snapshot.user_ids[shown.users].tolist() == ["a", "a", "a", "b"]
    assert snapshot.catalogue[shown.items].tolist() == ["x", "y", "z", "y"]
    assert (shown.times // HOUR).tolist() == [1, 2, 5, 2]
    np.testing.assert_equal(shown.click, np.array([1, 0, 0, 1], np.float32))
    np.testing.assert_equal(shown.watch, np.array([0.4, NONE, 0.1, NONE], np.float32))
    np.testing.assert_equal(shown.rating, np.array([0.8, NONE, NONE, NONE], np.float32))


def test_a_later_part_leaves_out_what_was_met_before(make_snapshot: Make):
    snapshot = world(
        make_snapshot, [*EVENTS[:6], ("a", "w", 160, "impression", NONE, NONE), EVENTS[6]]
    )
    shown = shown_items(snapshot, 100 * HOUR, 200 * HOUR)
    assert snapshot.catalogue[shown.items].tolist() == ["w"]
    np.testing.assert_equal(shown.click, np.array([0], np.float32))


def test_a_log_of_clicks_alone_does_not_say_what_was_left(make_snapshot: Make):
    shown = shown_items(
        world(make_snapshot, [event for event in EVENTS if event[3] == "click"]), None, 100 * HOUR
    )
    np.testing.assert_equal(shown.click, np.array([NONE], np.float32))
    plain = shown_items(make_snapshot([("a", "x", 1), ("a", "y", 2, 0.1)]), None, 100 * HOUR)
    np.testing.assert_equal(plain.click, np.array([NONE, NONE], np.float32))
    assert len(shown_items(make_snapshot([]), None, 100 * HOUR)) == 0


def test_ties_are_as_of_the_moment_and_by_whether_the_author_is_followed(make_snapshot: Make):
    """User a meets t, u, v of followed authors and x, y, z of others; what comes later is unknown."""
    kinds = {"t": True, "u": True, "v": True, "x": False, "y": False, "z": False}
    events = [
        ("a", "x", 1, "impression", NONE, NONE),
        ("a", "t", 2, "view", NONE, NONE),
        ("a", "u", 3, "impression", NONE, NONE),
        ("a", "y", 4, "skip", NONE, NONE),
        ("a", "x", 5, "like", NONE, NONE),
        ("a", "z", 5, "impression", NONE, NONE),
        ("a", "v", 6, "impression", NONE, NONE),
        ("a", "u", 7, "view", NONE, NONE),
        ("b", "x", 9, "impression", NONE, NONE),
    ]
    snapshot = world(make_snapshot, events)
    assert snapshot.marks is not None
    snapshot.marks.followed[:] = [kinds[item] for _, item, *_ in events]
    shown = shown_items(snapshot, None, 100 * HOUR)
    assert snapshot.catalogue[shown.items].tolist() == ["t", "u", "v", "x", "y", "z", "x"]
    followed = [1, 1, 1, 0, 0, 0, 0]
    taken, left = [0, 1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 1, 2, 0]
    np.testing.assert_array_equal(shown.ties[:, 0], followed)
    np.testing.assert_allclose(np.expm1(shown.ties[:, 1:].T), [taken, left], atol=1e-6)


def test_a_state_knows_only_likes_that_were_over(make_snapshot: Make):
    snapshot = world(make_snapshot, EVENTS)
    everyone = snapshot.histories(np.arange(2), 100 * HOUR)
    found = sequences_of(everyone.positives(snapshot.catalogue))
    # User a: start, x at hours 3 to 4, z at 5. User b: start, y at 2.
    assert found.items.tolist() == [3, 0, 2, 3, 1]
    hours = np.array([1, 3, 4, 5, 6, 1, 2, 3])
    users = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    assert tokens_before(found, users, hours * HOUR).tolist() == [0, 0, 0, 1, 2, 3, 3, 4]
