"""One more interval from what is there equals all from the beginning (FE-47)."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from stage_world import SNAPSHOTS, StageWorld

from pipelines.built import BEGINNING, joined, missing
from pipelines.intervals import interval_containing

T0 = datetime(2026, 1, 5, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
STEP = 6 * HOUR
KINDS = ("impression", "view", "view", "click", "like", "share", "comment", "skip")


def at(hours: float) -> datetime:
    return T0 + hours * HOUR


@pytest.mark.parametrize(
    ("held", "gaps"),
    [
        ([], [(0, 10)]),
        ([(0, 10)], []),
        ([(-5, 20)], []),
        ([(0, 4)], [(4, 10)]),
        ([(6, 12)], [(0, 6)]),
        ([(6, 8), (2, 4)], [(0, 2), (4, 6), (8, 10)]),
        ([(0, 3), (2, 5), (5, 10)], []),
        ([(10, 12)], [(0, 10)]),
        ([(-3, 0)], [(0, 10)]),
    ],
)
def test_gaps(held, gaps):
    ranges = [(at(a), at(b)) for a, b in held]
    assert missing((at(0), at(10)), ranges) == [(at(a), at(b)) for a, b in gaps]
    assert missing((at(0), at(10)), [*ranges, *missing((at(0), at(10)), ranges)]) == []


def test_ranges_that_touch_are_one():
    found = joined([(at(4), at(6)), (at(0), at(2)), (at(2), at(3)), (at(1), at(2)), (at(5), at(9))])
    assert found == ((at(0), at(3)), (at(4), at(9)))


def random_world(seed: int) -> dict[str, list[dict]]:
    """Three days of thirty users and twenty items, half of which appear late."""
    rng = random.Random(seed)
    items = [
        {
            "item_id": f"i{n:02}",
            "created_at": T0 - DAY if n < 10 else T0 + rng.random() * 3 * DAY,
            "author_id": f"u{n % 10:02}",  # known from the start: another author is another item
            "duration_seconds": 60.0 if n % 3 else None,
            "text": f"words of number {n}",
            "tags": ["a", "b"] if n % 2 else None,
            "tag_times": [T0, T0 + rng.random() * 3 * DAY] if n % 2 else None,
        }
        for n in range(20)
    ]
    users = [
        {
            "user_id": f"u{n:02}",
            "created_at": T0 - DAY if n < 15 else T0 + rng.random() * 3 * DAY,
            "trust_score": rng.random(),
            "interests": {"a": rng.random(), "b": 0.5},
        }
        for n in range(30)
    ]
    follows = [
        {
            "follower_id": f"u{rng.randrange(30):02}",
            "followee_id": f"u{rng.randrange(30):02}",
            "since": None if rng.random() < 0.2 else T0 + rng.random() * 3 * DAY,
        }
        for _ in range(40)
    ]
    events = []
    for number in range(400):
        moment = T0 + timedelta(minutes=rng.randrange(3 * 24 * 60))
        user, item = rng.randrange(30), rng.randrange(20)
        known = [users[user]["created_at"], items[item]["created_at"]]
        if moment <= max(known):
            continue
        events.append(
            {
                "event_id": f"e{number}",
                "user_id": f"u{user:02}",
                "item_id": f"i{item:02}",
                "event_type": rng.choice(KINDS),
                "watch_seconds": rng.randrange(90) * 1.0,
                "timestamp": moment,
            }
        )
    return {"events": events, "items": items, "users": users, "follows": follows}


def before(rows, column, end):
    return [row for row in rows if row[column] is None or row[column] < end]


def equal_to_a_full_build(spark, tmp_path, world: StageWorld, tables, end, sets, stages):
    fresh = StageWorld(spark, tmp_path / f"fresh{end:%d%H}", sets)
    fresh.publish(tables, None, end)
    for stage in stages:
        fresh.run(stage, end)
        assert world.rows(stage, end) == fresh.rows(stage, end), stage
        assert world.rows(stage, end)


# A short history, so that events leave the window within the three days.
SETS = ("features.history=30h", "features.training_window=54h", "features.sequence_length=5")


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(3))
def test_interval_by_interval_equals_all_at_once(spark, tmp_path, seed):
    rng = random.Random(100 + seed)
    tables = random_world(seed)
    ends = [*sorted(rng.sample([T0 + n * STEP for n in range(2, 12)], 4)), T0 + 12 * STEP]
    # Some events are known only one run later; then the range from the first of them is replaced.
    late = {row["event_id"] for row in tables["events"] if rng.random() < 0.05}
    world = StageWorld(spark, tmp_path / "world", SETS)
    since = None
    stages = (*SNAPSHOTS, "examples")
    for number, end in enumerate(ends):
        fresh_since = since
        arrived = tables["events"]
        if number % 2 == 0 and number < 4:
            arrived = [
                row
                for row in arrived
                if row["event_id"] not in late or (since is not None and row["timestamp"] < since)
            ]
        elif since is not None:
            missed = [row["timestamp"] for row in arrived if row["event_id"] in late]
            fresh_since = min([since, *[at for at in missed if at >= since - 24 * HOUR]])
            late -= {row["event_id"] for row in arrived if row["timestamp"] >= fresh_since}
            arrived = [row for row in arrived if row["event_id"] not in late]
        known = {
            "events": arrived,
            "items": before(tables["items"], "created_at", end),
            "users": before(tables["users"], "created_at", end),
            "follows": before(tables["follows"], "since", end),
        }
        world.publish(known, fresh_since, end)
        found = {stage: world.run(stage, end) for stage in stages}
        if number % 2 == 0 and since is not None:
            assert found["behaviour"].detail["from"] == since.isoformat()
            assert found["item_features"].detail["from"] == since.isoformat()
            assert found["sequences"].detail["from"] == since.isoformat()
            assert found["graph_edges"].detail["since"] == since.isoformat()
            assert found["examples"].detail["built"] == [[since.isoformat(), end.isoformat()]]
        since = end
        if number in (2, 4):
            content = [
                row
                for row in known["events"]
                if row["event_id"] in set(world.lake.arrow("events")["event_id"].to_pylist())
            ]
            equal_to_a_full_build(
                spark, tmp_path, world, {**known, "events": content}, end, SETS, stages
            )


@pytest.mark.slow
def test_what_makes_examples_be_built_again(spark, tmp_path):
    window = 54 * HOUR
    tables = random_world(9)
    tables["items"] = [row | {"created_at": T0 - DAY} for row in tables["items"]]
    first, second = T0 + 10 * STEP, T0 + 11 * STEP
    world = StageWorld(spark, tmp_path / "world", SETS)

    def built(end, world=world):
        return [
            (datetime.fromisoformat(a), datetime.fromisoformat(b))
            for a, b in world.run("examples", end).detail["built"]
        ]

    world.publish(tables, None, first)
    assert built(first) == [(first - window, first)]
    assert built(first) == [], "nothing is new"
    world.publish({"events": tables["events"]}, first, second)
    assert built(second) == [(first, second)], "one more interval"
    world.publish(tables, first, second)
    assert built(second) == [], "the same rows once more"
    world.lake.delta("events").optimize.compact()
    assert built(second) == [], "files were merged"
    assert built(first - STEP) == [(first - STEP - window, first - window)], "an earlier interval"

    late = {"event_id": "late", "user_id": "u01", "item_id": "i01", "event_type": "like"}
    late["timestamp"] = first - 90 * timedelta(minutes=1)
    tables["events"].append(late)
    world.publish({"events": tables["events"]}, first - STEP, second)
    hour = (first - 2 * HOUR).replace(minute=0)
    assert built(second) == [(hour, second)], "from the hour of a late event on"

    [row] = [row for row in tables["items"] if row["item_id"] == "i05"]
    row["text"] = "other words"
    world.publish({"events": [], "items": tables["items"]}, second, second + STEP)
    [(since, _)] = built(second)
    assert since == max(
        second - window,
        min(event["timestamp"] for event in tables["events"] if event["item_id"] == "i05"),
    ), "from the first event of a changed item on"

    rows = world.rows("examples", second)
    world.lake.drop_before("examples", second - 4 * STEP)
    assert built(second) == [(second - window, second - 4 * STEP)], "what retention removed"
    assert world.rows("examples", second) == rows

    other = StageWorld(spark, tmp_path / "world", (*SETS, "features.session_gap=5m"))
    assert built(second, other) == [(second - window, second)], "other options"
    assert built(second) == [(second - window, second)], "and back"
    assert world.rows("examples", second) == rows
    longer = StageWorld(spark, tmp_path / "world", (*SETS, "features.training_window=60h"))
    assert built(second, longer) == [(second - 60 * HOUR, second - window)], "a longer window"

    # Without the files of the former state nobody can say what changed.
    world.publish({"events": tables["events"]}, first, second)
    world.lake.delta("events").vacuum(
        retention_hours=0, enforce_retention_duration=False, dry_run=False
    )
    assert built(second) == [(second - window, second)]


@pytest.mark.slow
def test_only_texts_that_are_new_or_changed_are_scored(spark, tmp_path):
    tables = random_world(9)
    first, second = T0 + 10 * STEP, T0 + 11 * STEP
    world = StageWorld(spark, tmp_path / "world", SETS)
    stages = ("behaviour", "item_features", "examples")
    world.publish(tables, None, first)
    assert [world.run(stage, first).detail.get("from") for stage in stages] == [None] * 3
    changed = {"i05": "a lovely day", "i07": None}
    tables["items"] = [
        row | {"text": changed.get(row["item_id"], row["text"])} for row in tables["items"]
    ]
    tables["items"].append({"item_id": "i99", "title": "an awful day"})
    world.publish(tables, first, second)
    assert world.run("behaviour", second).detail["from"] == first.isoformat()
    assert world.run("item_features", second).detail["from"] == first.isoformat()
    world.run("examples", second)
    rows = {
        row["item_id"]: row["sentiment"]
        for row in world.lake.arrow("item_features", interval_end=second).to_pylist()
    }
    assert rows["i05"] > 0.5 > rows["i07"] == 0 > rows["i99"]
    equal_to_a_full_build(spark, tmp_path, world, tables, second, SETS, stages)


@pytest.mark.slow
def test_what_makes_edges_be_made_again(spark, tmp_path):
    tables = random_world(9)
    tables["items"] = [row | {"created_at": T0 - DAY} for row in tables["items"]]
    tables["follows"] = [row | {"since": row["since"] or T0} for row in tables["follows"]]
    first, second = T0 + 10 * STEP, T0 + 11 * STEP
    world = StageWorld(spark, tmp_path / "world", SETS)

    def made(end, world=world):
        world.run("sequences", end)
        return datetime.fromisoformat(world.run("graph_edges", end).detail["since"])

    world.publish(tables, None, first)
    assert made(first) == BEGINNING
    world.publish({"events": tables["events"]}, first, second)
    assert made(second) == first, "one more interval"
    rows = world.rows("graph_edges", second)
    assert made(second) == first, "the same once more"
    assert made(first) == first - STEP, "an earlier interval"
    assert world.rows("graph_edges", second) == rows

    where = {"relation": "similar"}
    assert world.lake.drop_before("graph_edges", second, where=where) > 0
    assert made(second) == first, "what retention removed"
    assert world.rows("graph_edges", second) == rows

    late = {"event_id": "late", "user_id": "u01", "item_id": "i01", "event_type": "like"}
    tables["events"].append(late | {"timestamp": first - 3 * STEP + HOUR})
    world.publish({"events": tables["events"]}, first - 3 * STEP, second)
    assert made(second) == first - 3 * STEP, "from the interval of a late event on"

    [row] = [row for row in tables["items"] if row["item_id"] == "i05"]
    row["text"] = "other words"
    world.publish({"events": [], "items": tables["items"]}, second, second)
    assert made(second) == first, "what no edge depends on"
    row["duration_seconds"] = 30.0
    met = min(event["timestamp"] for event in tables["events"] if event["item_id"] == "i05")
    world.publish({"events": [], "items": tables["items"]}, second, second)
    assert made(second) == interval_containing(met, "6h").start, "another length of an item"

    tables["follows"].append({"follower_id": "u01", "followee_id": "u02", "since": T0 + HOUR})
    world.publish({"events": [], "follows": tables["follows"]}, second, second)
    assert made(second) == T0, "a follow of former times"
    tables["follows"].append({"follower_id": "u01", "followee_id": "u03"})
    world.publish({"events": [], "follows": tables["follows"]}, second, second)
    assert made(second) == BEGINNING, "a follow that was always there"
    equal_to_a_full_build(
        spark, tmp_path, world, tables, second, SETS, ("sequences", "graph_edges")
    )
