"""Drifts planted into the log: all else is the log of the quiet world."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow.compute as pc
import pytest

from transforms.demo import DemoConfig, DemoWorld
from transforms.demo.plants import LOST_DEVICE, NEW_DEVICE, PLANTED

MOMENT = datetime(2026, 1, 9, tzinfo=UTC)
QUIET = DemoConfig(users=300, items=300, days=6, vectors=False, drift="none")


@pytest.fixture(scope="module")
def logs():
    """Kind -> the events of the same world with that drift."""
    kinds = ("none", "taste_alone", *sorted(PLANTED))
    return {
        kind: DemoWorld(
            replace(QUIET, drift=kind, drift_at=None if kind == "none" else MOMENT)
        ).events()
        for kind in kinds
    }


def part(events, after: bool):
    at = pc.greater_equal(events["timestamp"], MOMENT)
    return events.filter(at if after else pc.invert(at))


@pytest.mark.parametrize("kind", ["taste_alone", *sorted(PLANTED)])
def test_before_the_moment_nothing_differs(logs, kind):
    assert part(logs[kind], after=False).equals(part(logs["none"], after=False))
    assert not part(logs[kind], after=True).equals(part(logs["none"], after=True))


@pytest.mark.parametrize(
    ("kind", "column"), [("watch_time", "watch_seconds"), ("new_device", "device")]
)
def test_one_column_alone_differs(logs, kind, column):
    quiet, drifted = part(logs["none"], after=True), part(logs[kind], after=True)
    for name in quiet.column_names:
        assert drifted[name].equals(quiet[name]) is (name != column)


def test_views_last_longer_but_not_longer_than_the_item(logs):
    quiet, drifted = part(logs["none"], after=True), part(logs["watch_time"], after=True)
    views = pc.equal(quiet["event_type"], "view")
    longer = pc.divide(drifted["watch_seconds"], quiet["watch_seconds"]).filter(views)
    assert 1.1 < pc.mean(longer).as_py() <= 1.5
    items = DemoWorld(QUIET).items()
    rows = pc.index_in(drifted["item_id"], items["item_id"].combine_chunks())
    duration = items["duration_seconds"].take(rows)
    assert pc.all(pc.less_equal(drifted["watch_seconds"], pc.add(duration, 0.001))).as_py()


def test_some_users_move_to_the_new_device_for_good(logs):
    drifted = part(logs["new_device"], after=True)
    new = pc.equal(drifted["device"], NEW_DEVICE)
    movers = pc.unique(drifted["user_id"].filter(new))
    others = pc.unique(drifted["user_id"].filter(pc.invert(new)))
    assert not {*movers.to_pylist()} & {*others.to_pylist()}
    assert 0.08 < len(movers) / (len(movers) + len(others)) < 0.22


def test_the_rows_of_the_lost_source_are_missing_and_no_other(logs):
    quiet, drifted = part(logs["none"], after=True), part(logs["missing_source"], after=True)
    assert drifted.equals(quiet.filter(pc.not_equal(quiet["device"], LOST_DEVICE)))


def test_one_item_bursts(logs):
    quiet, drifted = part(logs["none"], after=True), part(logs["burst"], after=True)
    moved = pc.not_equal(quiet["item_id"], drifted["item_id"])
    assert len(pc.unique(drifted["item_id"].filter(moved))) == 1
    assert 0.08 < pc.mean(pc.cast(moved, "float64")).as_py() < 0.22
    assert drifted["event_id"].equals(quiet["event_id"])


def test_pieces_of_a_range_are_planted_alike(logs):
    world = DemoWorld(replace(QUIET, drift="burst", drift_at=MOMENT))
    late = world.events_between(MOMENT, QUIET.end)
    assert late.equals(part(logs["burst"], after=True))
