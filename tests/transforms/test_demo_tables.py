"""Tables of the demo world: columns, validity, repeatability and independence of intervals."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from transforms.demo import DemoConfig, DemoWorld

START = datetime(2026, 1, 5, tzinfo=UTC)
CONFIG = DemoConfig(users=300, items=300, days=6, events_per_user_day=9.0)

EVENT_COLUMNS = {
    "event_id": "string",
    "user_id": "string",
    "item_id": "string",
    "event_type": "string",
    "value": "double",
    "watch_seconds": "double",
    "position": "int32",
    "device": "string",
    "location": "string",
    "exploration": "bool",
    "timestamp": "timestamp[us, tz=UTC]",
}
ITEM_COLUMNS = {
    "item_id": "string",
    "item_type": "string",
    "media_type": "string",
    "title": "string",
    "text": "string",
    "categories": "list<item: string>",
    "tags": "list<item: string>",
    "author_id": "string",
    "created_at": "timestamp[us, tz=UTC]",
    "duration_seconds": "double",
    "image_url": "string",
    "video_url": "string",
    "video_embedding": "list<item: float>",
    "audio_embedding": "list<item: float>",
    "text_embedding": "list<item: float>",
}
USER_COLUMNS = {
    "user_id": "string",
    "created_at": "timestamp[us, tz=UTC]",
    "trust_score": "double",
    "interests": "map<string, double>",
    "content_type_preferences": "map<string, double>",
    "diversity_preference": "double",
    "consent": "bool",
    "demographics": "map<string, string>",
}
FOLLOW_COLUMNS = {
    "follower_id": "string",
    "followee_id": "string",
    "since": "timestamp[us, tz=UTC]",
}
TABLES = {
    "events": EVENT_COLUMNS,
    "items": ITEM_COLUMNS,
    "users": USER_COLUMNS,
    "follows": FOLLOW_COLUMNS,
}


@pytest.fixture(scope="module")
def world() -> DemoWorld:
    return DemoWorld(CONFIG)


@pytest.fixture(scope="module")
def events(world: DemoWorld) -> pa.Table:
    return world.events()


@pytest.fixture(scope="module")
def items(world: DemoWorld) -> pa.Table:
    return world.items()


def digest(table: pa.Table) -> str:
    """Hash the table as bytes: schema, values, nulls and chunking."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return hashlib.sha256(sink.getvalue()).hexdigest()


@pytest.mark.parametrize("name", TABLES)
def test_columns_and_types_are_those_of_the_lake(world, name):
    table = getattr(world, name)()
    assert {field.name: str(field.type) for field in table.schema} == TABLES[name]
    assert len(table) > 0


@pytest.mark.parametrize("name", TABLES)
def test_the_same_settings_give_the_same_bytes(world, name):
    again = getattr(DemoWorld(replace(CONFIG)), name)()
    assert digest(again) == digest(getattr(world, name)())
    other = getattr(DemoWorld(replace(CONFIG, seed=43)), name)()
    assert digest(other) != digest(again)


def test_an_interval_holds_the_rows_of_the_whole(world, events):
    start, end = START + timedelta(hours=30, minutes=7), START + timedelta(hours=78)
    kept = pc.and_(
        pc.greater_equal(events["timestamp"], pa.scalar(start)),
        pc.less(events["timestamp"], pa.scalar(end)),
    )
    expected = events.filter(kept).combine_chunks()
    assert len(expected) > 1000
    # Asked of a world that knows everything, and of one that has simulated no later day.
    assert digest(world.events_between(start, end)) == digest(expected)
    assert digest(DemoWorld(CONFIG).events_between(start, end)) == digest(expected)


def test_intervals_tile_the_period_without_gap_or_overlap(world, events):
    edges = [START + timedelta(hours=6 * step) for step in range(25)]
    parts = [world.events_between(*pair) for pair in pairwise(edges)]
    assert pa.concat_tables(parts).combine_chunks().equals(events)


def test_an_interval_outside_the_period_is_empty(world, events):
    assert world.events_between(START - timedelta(days=3), START).num_rows == 0
    assert world.events_between(CONFIG.end, CONFIG.end + timedelta(days=3)).num_rows == 0
    assert world.events_between(START, START).num_rows == 0
    wide = world.events_between(START - timedelta(days=9), CONFIG.end + timedelta(days=9))
    assert wide.equals(events)


def test_the_past_does_not_know_the_drift_to_come(events):
    moment = CONFIG.drift_moment
    quiet = DemoWorld(replace(CONFIG, drift="none"))
    before = quiet.events_between(START, moment)
    assert before.num_rows > 1000
    assert before.equals(DemoWorld(CONFIG).events_between(START, moment))
    assert not quiet.events().equals(events)


def test_event_ids_are_unique_and_follow_time(events):
    ids = events["event_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert pc.count_distinct(pc.utf8_length(events["event_id"])).as_py() == 1
    times = events["timestamp"].cast(pa.int64()).to_numpy()
    assert (np.diff(times) >= 0).all()


def test_references_resolve_and_nothing_happens_before_it_exists(world, events, items):
    users = world.users()
    born = dict(zip(users["user_id"].to_pylist(), users["created_at"].to_pylist(), strict=True))
    published = dict(
        zip(items["item_id"].to_pylist(), items["created_at"].to_pylist(), strict=True)
    )
    authors = dict(zip(items["item_id"].to_pylist(), items["author_id"].to_pylist(), strict=True))
    for row in events.select(["user_id", "item_id", "timestamp"]).to_pylist():
        assert row["timestamp"] >= max(born[row["user_id"]], published[row["item_id"]])
        assert authors[row["item_id"]] != row["user_id"]
    for item, author in authors.items():
        assert published[item] >= born[author]
    for row in world.follows().to_pylist():
        assert row["follower_id"] != row["followee_id"]
        assert born[row["follower_id"]] <= row["since"] < CONFIG.end
        assert born[row["followee_id"]] <= row["since"]


def test_follow_edges_are_distinct_and_those_made_in_the_period_have_an_event(world, events, items):
    follows = world.follows()
    pairs = list(
        zip(follows["follower_id"].to_pylist(), follows["followee_id"].to_pylist(), strict=True)
    )
    assert len(set(pairs)) == len(pairs)
    authors = dict(zip(items["item_id"].to_pylist(), items["author_id"].to_pylist(), strict=True))
    made = events.filter(pc.equal(events["event_type"], "follow")).to_pylist()
    first_made: dict[tuple[str, str], datetime] = {}
    for row in made:
        first_made.setdefault((row["user_id"], authors[row["item_id"]]), row["timestamp"])
    since = dict(zip(pairs, follows["since"].to_pylist(), strict=True))
    new_users = world.truth.new_users
    # Follows at sign-up and at a change of taste are planted without an event.
    during = {
        pair: moment
        for pair, moment in since.items()
        if moment >= START and moment != CONFIG.drift_moment and pair[0] not in new_users
    }
    expected = {pair: moment for pair, moment in first_made.items() if pair[0] not in new_users}
    assert len(during) > 10
    assert during == expected


def test_watch_time_fits_the_duration_and_values_are_stars(events, items):
    duration = dict(
        zip(items["item_id"].to_pylist(), items["duration_seconds"].to_pylist(), strict=True)
    )
    seen: dict[str, int] = {}
    for row in events.to_pylist():
        kind, length = row["event_type"], duration[row["item_id"]]
        seen[kind] = seen.get(kind, 0) + 1
        if kind == "view":
            assert 0.1 * length - 0.001 <= row["watch_seconds"] <= length
        elif kind == "skip" and length is not None:
            assert 0.0 <= row["watch_seconds"] <= 0.1 * length + 0.001
        else:
            assert row["watch_seconds"] is None
        assert row["value"] in (1.0, 2.0, 3.0, 4.0, 5.0) if kind == "rating" else not row["value"]
        assert (kind == "click") <= (length is None)
    assert set(seen) == {
        *("impression", "view", "click", "skip", "like", "comment"),
        *("share", "rating", "dislike", "follow"),
    }


def test_a_reaction_comes_after_its_impression_and_its_view(events):
    shown: dict[tuple[str, str, int], datetime] = {}
    looked: dict[tuple[str, str, int], datetime] = {}
    for row in events.to_pylist():
        key, kind, moment = (
            (row["user_id"], row["item_id"], row["position"]),
            row["event_type"],
            row["timestamp"],
        )
        if kind == "impression":
            shown[key] = moment
            looked.pop(key, None)
        elif kind in ("view", "click", "skip"):
            watched = timedelta(seconds=row["watch_seconds"] or 0.0)
            assert moment - shown[key] >= watched
            assert moment - shown[key] <= watched + timedelta(seconds=3)
            looked[key] = moment
        else:
            assert moment > looked[key]


def test_positions_of_a_session_count_from_one(events):
    impressions = events.filter(pc.equal(events["event_type"], "impression"))
    last: dict[str, tuple[int, datetime]] = {}
    for row in impressions.to_pylist():
        before = last.get(row["user_id"])
        expected = 1 if row["position"] == 1 or before is None else before[0] + 1
        assert row["position"] == expected
        last[row["user_id"]] = (row["position"], row["timestamp"])


def test_an_item_is_seldom_shown_twice_to_a_user(events):
    impressions = events.filter(pc.equal(events["event_type"], "impression"))
    pairs = impressions.group_by(["user_id", "item_id"]).aggregate([]).num_rows
    assert 1 - pairs / impressions.num_rows < 0.005


@pytest.mark.parametrize(
    ("column", "width", "media"),
    [
        ("video_embedding", 2048, {"video"}),
        ("audio_embedding", 1024, {"video", "audio"}),
        ("text_embedding", 768, {"video", "image", "text", "audio"}),
    ],
)
def test_vectors_have_their_width_and_are_missing_by_medium(items, column, width, media):
    vectors = items[column].combine_chunks()
    present = pc.is_valid(vectors)
    assert set(pc.unique(pc.list_value_length(vectors).drop_null()).to_pylist()) == {width}
    values = vectors.flatten().to_numpy()
    assert np.isfinite(values).all()
    assert set(pc.unique(items["media_type"].filter(present)).to_pylist()) == media
    eligible = pc.is_in(items["media_type"], pa.array(sorted(media)))
    share = pc.sum(present).as_py() / pc.sum(eligible).as_py()
    # Encoders fail now and then: some vectors are null even where the medium has the signal.
    assert 0.85 < share < 1.0


def test_vectors_of_one_topic_are_close(world, items):
    vectors = items["text_embedding"].combine_chunks()
    rows = np.flatnonzero(pc.is_valid(vectors).to_numpy(zero_copy_only=False))
    matrix = vectors.flatten().to_numpy().reshape(len(rows), 768)
    matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    niches = world.truth.item_niches_N[rows]
    same = niches[:, None] == niches[None, :]
    np.fill_diagonal(same, False)
    similar = matrix @ matrix.T
    different = niches[:, None] // 4 != niches[None, :] // 4
    assert similar[same].mean() > 0.7
    assert abs(similar[different].mean()) < 0.3


def test_a_world_without_vectors_is_the_same_world(world, items):
    bare = DemoWorld(replace(CONFIG, vectors=False))
    columns = ["video_embedding", "audio_embedding", "text_embedding"]
    assert bare.items().drop_columns(columns).equals(items.drop_columns(columns))
    assert all(bare.items()[column].null_count == CONFIG.items for column in columns)
    assert bare.events().equals(world.events())


def test_titles_and_texts_can_be_read_by_a_person(items):
    for row in items.to_pylist():
        title, text = row["title"], row["text"]
        assert title[0].isupper() or title[0].isdigit()
        assert not set("{}_") & set(title + text)
        assert len(title.split()) >= 3
        prose = text.split(" #")[0]
        assert prose.endswith(".")
        assert text.endswith(" ".join(f"#{tag}" for tag in row["tags"]))
        assert set(row["categories"]) <= set(row["tags"])
        assert (row["image_url"] is not None) == (row["media_type"] in ("video", "image"))
        assert (row["video_url"] is not None) == (row["media_type"] == "video")
        assert (row["duration_seconds"] is not None) == (row["media_type"] in ("video", "audio"))


def test_some_users_have_no_profile_and_the_others_a_whole_one(world):
    rows = world.users().to_pylist()
    bare = [row for row in rows if row["interests"] is None]
    assert 0.01 < len(bare) / len(rows) < 0.12
    for row in rows:
        profile = ("content_type_preferences", "diversity_preference", "demographics")
        assert {row[name] is None for name in profile} == {row["interests"] is None}
        assert 0.0 <= row["trust_score"] <= 1.0
        if row["interests"] is not None:
            assert 0.5 < sum(share for _, share in row["interests"]) <= 1.01
    assert 0.88 < np.mean([row["consent"] for row in rows]) < 0.99
