"""Large demo worlds: blocks of users and items, streamed, tell the same story as small ones."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from transforms.demo import DemoConfig, DemoWorld, catalogue, population, world

START = datetime(2026, 1, 5, tzinfo=UTC)
CONFIG = DemoConfig(users=400, items=300, days=5, events_per_user_day=9.0, drift="taste")
BLOCK = 128


@pytest.fixture
def blocks(monkeypatch):
    """Blocks of 128 users and 128 items, and no day that is remembered."""
    monkeypatch.setattr(population, "_EVENTS_A_DAY", int(BLOCK * CONFIG.events_per_user_day))
    monkeypatch.setattr(catalogue, "BLOCK_SIZE", BLOCK)
    monkeypatch.setattr(world, "_KEPT_EVENTS", 0)


def by_id(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).sort_by("event_id").combine_chunks()


def test_events_are_the_same_in_whatever_pieces_they_are_asked_for(blocks):
    whole = DemoWorld(CONFIG).events().sort_by("event_id").combine_chunks()
    assert whole.num_rows > 8_000
    edges = [START + timedelta(hours=15 * step) for step in range(9)]
    one_world = DemoWorld(CONFIG)
    assert by_id([one_world.events_between(*pair) for pair in pairwise(edges)]).equals(whole)
    other_order = reversed(list(pairwise(edges[::4])))
    assert by_id([DemoWorld(CONFIG).events_between(*pair) for pair in other_order]).equals(whole)


def test_a_world_that_remembers_its_days_has_the_same_rows(blocks, monkeypatch):
    forgetful = DemoWorld(CONFIG)
    monkeypatch.setattr(world, "_KEPT_EVENTS", 10**9)
    mindful = DemoWorld(CONFIG)
    for name in ("follows", "events", "follows", "items", "users"):
        assert getattr(mindful, name)().equals(getattr(forgetful, name)())


def test_a_batch_is_one_day_of_one_block_in_time_order(blocks):
    batches = list(DemoWorld(CONFIG).events_batches(START, CONFIG.end))
    assert len(batches) == 4 * CONFIG.days
    for batch in batches:
        times = batch["timestamp"].cast(pa.int64()).to_numpy()
        assert (np.diff(times) >= 0).all()
        assert times[-1] - times[0] < timedelta(hours=30) / timedelta(microseconds=1)
        users = [int(user[1:]) // BLOCK for user in pc.unique(batch["user_id"]).to_pylist()]
        assert len(set(users)) == 1
    ids = pa.concat_arrays([batch["event_id"] for batch in batches])
    assert pc.count_distinct(ids).as_py() == len(ids)
    assert pc.count_distinct(pc.utf8_length(ids)).as_py() == 1


@pytest.mark.parametrize(
    ("table", "batches", "count"),
    [
        ("items", "items_batches", 3),
        ("users", "users_batches", 4),
        ("follows", "follows_batches", 4),
    ],
)
def test_batches_hold_the_rows_of_the_table(blocks, table, batches, count):
    found = list(getattr(DemoWorld(CONFIG), batches)())
    assert len(found) == count
    assert pa.Table.from_batches(found).combine_chunks().equals(getattr(DemoWorld(CONFIG), table)())


def test_follows_before_a_moment_are_those_of_the_whole(blocks):
    moment = START + timedelta(days=2)
    whole = DemoWorld(CONFIG).follows()
    early = pa.Table.from_batches(DemoWorld(CONFIG).follows_batches(before=moment))
    assert 0 < early.num_rows < whole.num_rows
    assert early.combine_chunks().equals(
        whole.filter(pc.less(whole["since"], pa.scalar(moment))).combine_chunks()
    )


def test_blocks_differ_and_keep_what_is_planted(blocks):
    small = DemoWorld(CONFIG)
    truth, events, follows = small.truth, small.events(), small.follows()
    assert len(np.unique(truth.niche_tastes_UM, axis=0)) == CONFIG.users
    assert np.allclose(truth.niche_tastes_after_UM.sum(axis=1), 1.0)
    changed = np.abs(truth.niche_tastes_UM - truth.niche_tastes_after_UM).sum(axis=1) > 1e-9
    assert set(truth.user_ids[changed].tolist()) == truth.taste_changed
    assert len(truth.taste_changed) == round(0.3 * CONFIG.users)
    impressions = events.filter(pc.equal(events["event_type"], "impression"))
    assert pc.mean(impressions["exploration"]).as_py() == pytest.approx(0.15, abs=0.02)
    pairs = impressions.group_by(["user_id", "item_id"]).aggregate([]).num_rows
    assert 1 - pairs / impressions.num_rows < 0.01

    items = small.items()
    author = dict(zip(items["item_id"].to_pylist(), items["author_id"].to_pylist(), strict=True))
    since = {(row["follower_id"], row["followee_id"]): row["since"] for row in follows.to_pylist()}
    assert len(since) == follows.num_rows
    acts = events.filter(
        pc.invert(pc.is_in(events["event_type"], pa.array(["impression", "skip"])))
    )
    outside = {
        row["user_id"]
        for row in acts.to_pylist()
        if not since.get((row["user_id"], author[row["item_id"]]), CONFIG.end) < row["timestamp"]
    }
    assert not outside & truth.in_network_only
    made = [
        (row["user_id"], author[row["item_id"]])
        for row in events.filter(pc.equal(events["event_type"], "follow")).to_pylist()
    ]
    assert made
    assert set(made) <= set(since)


def test_vectors_of_one_niche_are_close_across_blocks_of_items(blocks):
    small = DemoWorld(replace(CONFIG, items=300))
    vectors = small.items()["text_embedding"].combine_chunks()
    rows = np.flatnonzero(pc.is_valid(vectors).to_numpy(zero_copy_only=False))
    matrix = vectors.flatten().to_numpy().reshape(len(rows), 768)
    matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    niches = small.truth.item_niches_N[rows]
    across = (rows[:, None] // BLOCK) != (rows[None, :] // BLOCK)
    similar = matrix @ matrix.T
    assert similar[across & (niches[:, None] == niches[None, :])].mean() > 0.7
    assert abs(similar[across & (niches[:, None] // 4 != niches[None, :] // 4)].mean()) < 0.3


PEAK = """
import resource, sys
from transforms.demo import DemoConfig, DemoWorld
config = DemoConfig(users=40_000, items=2_000, days=int(sys.argv[1]), vectors=False, drift="none")
rows = sum(batch.num_rows for batch in DemoWorld(config).events_batches(config.start, config.end))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.chaos
def test_memory_stays_flat_at_ten_times_the_events():
    """DE-27: within a fifth."""
    peaks = {}
    for days in (2, 20):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(days)], capture_output=True, text=True, check=True
        )
        rows, peaks[days] = map(int, done.stdout.split())
    assert rows > 3_000_000
    assert peaks[20] < 1.2 * peaks[2]
