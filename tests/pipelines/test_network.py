"""What candidates know of whom users follow: as of the interval's end, and nothing of strangers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from stage_world import StageWorld

from pipelines.stages.network import all_follows, circles, follows_of, out_of_network, ties

pytestmark = pytest.mark.slow

END = datetime(2026, 1, 6, tzinfo=UTC)
BEFORE = END - timedelta(days=1)
USERS = pa.array(["*", "ann", "bob"])
ITEMS = [{"item_id": f"i{number}", "author_id": author} for number, author in enumerate("xya")]
ITEMS = [*ITEMS, {"item_id": "i3"}, {"item_id": "i4", "author_id": "ann"}]
FOLLOWS = [("ann", "x", None), ("ann", "y", BEFORE), ("ann", "z", END), ("cid", "x", None)]
"""Ann follows z too late."""


def event(number: int, user: str, item: str, value: float = 1.0, kind: str = "like") -> Any:
    return {
        "event_id": f"e{number}", "user_id": user, "item_id": item, "event_type": kind,
        "timestamp": BEFORE + timedelta(seconds=number), "value": value,
    }  # fmt: skip


EVENTS = [
    event(0, "x", "i0"), event(1, "x", "i0"), event(2, "x", "i1"), event(3, "y", "i0"),
    event(4, "y", "i2", kind="skip"), event(5, "z", "i1"), event(6, "cid", "i1"),
]  # fmt: skip


@pytest.fixture
def world(spark: Any, tmp_path: Path) -> StageWorld:
    made = StageWorld(spark, tmp_path / "lake")
    rows = [
        {"follower_id": follower, "followee_id": followee, "since": since}
        for follower, followee, since in FOLLOWS
    ]
    made.publish({"events": EVENTS, "items": ITEMS, "users": [], "follows": rows}, None, END)
    made.run("sequences", END)
    return made


def test_people_whom_a_user_follows_are_counted_by_what_they_liked(world: StageWorld):
    context = world.context("candidates", END)
    follows = follows_of(all_follows(context), USERS)
    catalogue = pa.chunked_array([["i0", "i1", "i2", "i3"]])
    sequences = context.arrow("sequences", interval_end=END)
    found = circles(follows, USERS, catalogue, sequences, positive_from=1.0)
    assert found is not None
    items_BK = np.tile([0, 1, 2, 3, -1], (3, 1))
    assert found.liked_by(0, items_BK).tolist() == [
        [0, 0, 0, 0, 0],
        [2, 1, 0, 0, 0],  # x twice on i0 is one person; a skip is no like; z and Cid do not count
        [0, 0, 0, 0, 0],
    ]


def test_ties_are_those_before_the_end_of_everybody(world: StageWorld):
    context = world.context("candidates", END)
    sequences = context.arrow("sequences", interval_end=END)
    catalogue = pa.chunked_array([["i0", "i1", "i2", "i3"]])
    found = ties(all_follows(context), catalogue, sequences, positive_from=1.0)
    name = found.user_ids
    assert {(name[one], name[other]) for one, other in found.follows.T} == {
        ("ann", "x"), ("ann", "y"), ("cid", "x")
    }  # fmt: skip
    assert {(name[user], found.item_ids[item]) for user, item in found.likes.T} == {
        ("x", "i0"), ("x", "i1"), ("y", "i0"), ("z", "i1"), ("cid", "i1")
    }  # fmt: skip
    assert len(set(name)) == len(name)
    nobody = ties(all_follows(context).slice(0, 0), catalogue, sequences, 1.0)
    assert nobody.follows.shape == (2, 0)


FOLLOWED = pa.table({"row": pa.array([1, 1], pa.int32()), "followee_id": ["x", "y"]})
AUTHORS = pa.Table.from_pylist(ITEMS)


def test_the_share_of_a_list_by_strangers():
    rows = [
        ("ann", 1, "i0"),
        ("ann", 2, "i2"),
        ("ann", 3, "i3"),
        ("ann", 4, "i4"),
        ("bob", 1, "i0"),
    ]
    lists = pa.table(
        dict(zip(("user_id", "rank", "item_id"), zip(*rows, strict=True), strict=True))
    )
    # Ann: x she follows, a she does not, one item has no author, one is her own. Bob: a stranger.
    share = out_of_network(lists, USERS, FOLLOWED, AUTHORS)
    assert share == pytest.approx((1 / 3 + 1) / 2)


def test_where_nobody_follows_there_is_nothing_to_say():
    nobody = FOLLOWED.slice(0, 0)
    histories = pa.table({"user_id": ["x"], "item_ids": [["i0"]], "strengths": [[1.0]]})
    assert circles(nobody, USERS, pa.chunked_array([["i0"]]), histories, 1.0) is None
    lists = pa.table({"user_id": ["bob"], "rank": [1], "item_id": ["i0"]})
    assert out_of_network(lists, USERS, nobody, AUTHORS) is None
