"""Snapshots and histories from arrow tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from training.histories import (
    EVENT_TYPES,
    Histories,
    Marks,
    codes_in,
    codes_that_occur,
    distinct,
)
from training.snapshot import UNKNOWN_TIME, Snapshot, SnapshotError
from transforms import schemas

HOUR = 3_600_000_000
UTC = pa.timestamp("us", tz="UTC")


def examples(**changes: list) -> pa.Table:
    columns = {
        "event_id": ["e3", "e1", "e2", "e4", "e5"],
        "user_id": ["b", "a", "a", "b", "a"],
        "item_id": ["y", "x", "z", "x", "late"],
        "strength": [1.0, 0.2, 0.6, 0.5, 1.0],
        "label": [1.0, 0.0, 1.0, 1.0, 1.0],
        "timestamp": pa.array([2 * HOUR, 7 * HOUR, 7 * HOUR, HOUR, 10 * HOUR], UTC),
    }
    return pa.table(columns | changes)


def items(**changes: list) -> pa.Table:
    columns = {
        "item_id": ["z", "x", "unseen", "later"],
        "categories": pa.array([["c", "d"], [], None, ["e"]], pa.list_(pa.string())),
        "created_at": pa.array([5, None, 6, 10 * HOUR], UTC),
    }
    return pa.table(columns | changes)


def edges() -> pa.Table:
    return pa.table(
        {
            "source": ["u:a", "u:c", "u:a", "i:x", "u:b", "u:b"],
            "target": ["u:c", "u:b", "i:x", "i:z", "u:a", "u:c"],
            "relation": ["follows", "follows", "interacts", "similar", "follows", "follows"],
            # The last two came when training was over.
            "since": pa.array(
                [None, 4 * HOUR - 1, None, None, 4 * HOUR, 9 * HOUR], pa.timestamp("us", tz="UTC")
            ),
        }
    )


def build(**changes: object) -> Snapshot:
    times = {"valid_start": 4 * HOUR, "test_start": 6 * HOUR, "end": 10 * HOUR}
    given = {"examples": examples(), "items": items(), "edges": edges()} | times | changes
    tables = [given.pop(name) for name in ("examples", "items", "edges")]
    return Snapshot.from_tables(*tables, **given)


def test_from_tables_sorts_codes_and_keeps_only_what_is_known_before_the_end():
    snapshot = build()
    assert snapshot.catalogue.tolist() == ["unseen", "x", "y", "z"]
    assert snapshot.user_ids.tolist() == ["a", "b", "c"]
    assert snapshot.user_ids[snapshot.users].tolist() == ["a", "a", "b", "b"]
    # Equal times are ordered by event_id: e1 before e2.
    assert snapshot.catalogue[snapshot.items].tolist() == ["x", "z", "x", "y"]
    assert (snapshot.timestamps // HOUR).tolist() == [7, 7, 1, 2]
    assert snapshot.strengths.tolist() == pytest.approx([0.2, 0.6, 0.5, 1.0])
    assert snapshot.labels.tolist() == [0, 1, 1, 1]
    assert snapshot.user_ids[snapshot.follows].tolist() == [["a", "c"], ["c", "b"]]
    assert snapshot.categories.tolist() == ["", "", "", "c"]
    assert snapshot.created_at.tolist() == [6, UNKNOWN_TIME, UNKNOWN_TIME, 5]
    types = {field.name: getattr(snapshot, field.name) for field in dataclasses.fields(snapshot)}
    assert {name: str(types[name].dtype) for name in ("users", "items", "follows")} == {
        "users": "int32",
        "items": "int32",
        "follows": "int32",
    }
    assert str(snapshot.timestamps.dtype) == str(snapshot.created_at.dtype) == "int64"
    assert str(snapshot.strengths.dtype) == str(snapshot.labels.dtype) == "float32"


def test_the_order_of_the_rows_does_not_matter():
    one, other = build(), build(examples=examples().take([4, 2, 0, 3, 1]))
    for field in dataclasses.fields(Snapshot):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, Marks):
            mine, theirs = list(vars(mine).values()), list(vars(theirs).values())
        np.testing.assert_equal(mine, theirs)


def test_an_author_is_followed_from_the_moment_after():
    """c follows a and b; d, who follows nobody else, has always followed a."""
    known = {"item_id": ["x", "y", "z"], "author_id": ["a", "b", None]}
    nothing = {"categories": pa.nulls(3, pa.list_(pa.string())), "created_at": pa.nulls(3, UTC)}
    follows = {
        "source": ["u:c", "u:c", "u:d", "u:c"],
        "target": ["u:a", "u:b", "u:a", "i:z"],
        "relation": ["follows"] * 3 + ["interacts"],
        "since": pa.array([2 * HOUR, 5 * HOUR, None, None], UTC),
    }
    rows = [
        ("c", "x", 2, False),
        ("c", "x", 3, True),
        ("c", "y", 3, False),
        ("c", "y", 6, True),
        ("c", "z", 7, False),  # by nobody
        ("c", "w", 8, False),  # no item of the table
        ("d", "x", 1, True),
        ("d", "y", 2, False),
        ("e", "x", 3, False),
    ]
    users, ids, hours, expected = zip(*rows, strict=True)
    met = {
        "event_id": [f"e{number}" for number in range(len(rows))],
        "user_id": users,
        "item_id": ids,
        "strength": [1.0] * len(rows),
        "label": [1.0] * len(rows),
        "timestamp": pa.array([hour * HOUR for hour in hours], UTC),
    }
    tables = {"examples": pa.table(met), "items": pa.table(known | nothing)}
    marks = build(**tables, edges=pa.table(follows)).marks
    assert marks is not None
    assert marks.followed.tolist() == list(expected)
    for less in (
        {**tables, "edges": pa.table(follows)[:0]},
        {
            **tables,
            "edges": pa.table(follows),
            "items": pa.table(known | nothing).drop("author_id"),
        },
    ):
        marks = build(**less).marks
        assert marks is not None
        assert not marks.followed.any()


def test_empty_tables_give_an_empty_snapshot():
    snapshot = build(examples=examples()[:0], items=items()[:0], edges=edges()[:0])
    assert snapshot.catalogue.tolist() == snapshot.user_ids.tolist() == []
    assert snapshot.follows.shape == (2, 0)
    assert len(snapshot.histories(np.array([], int), 5)) == 0


def test_chunked_tables_and_large_strings_and_other_time_units():
    table = examples()
    chunked = pa.concat_tables([table[:2], table[2:]])
    wide = chunked.set_column(1, "user_id", chunked["user_id"].cast(pa.large_string()))
    nanos = wide.set_column(5, "timestamp", wide["timestamp"].cast(pa.timestamp("ns", tz="UTC")))
    np.testing.assert_array_equal(build(examples=nanos).users, build().users)
    np.testing.assert_array_equal(build(examples=nanos).timestamps, build().timestamps)


def test_positives_are_labels_in_a_half_open_time_range():
    snapshot = build()
    assert snapshot.positives(None, 2 * HOUR).tolist() == [False, False, True, False]
    assert snapshot.positives(2 * HOUR, 8 * HOUR).tolist() == [False, True, False, True]


def test_histories_are_strictly_before_the_moment_in_the_order_asked_for():
    histories = build().histories(np.array([1, 2, 0]), 7 * HOUR)
    assert histories.user_ids.tolist() == ["b", "c", "a"]
    assert histories.offsets.tolist() == [0, 2, 2, 2]
    assert histories.catalogue[histories.items].tolist() == ["x", "y"]
    later = build().histories(np.array([1, 2, 0]), 7 * HOUR + 1)
    assert later.offsets.tolist() == [0, 2, 2, 4]
    assert later.as_of == 7 * HOUR + 1


def test_batches_cover_the_histories():
    histories = build().histories(np.array([1, 2, 0]), 10 * HOUR)
    parts = [histories.batch(start, start + 2) for start in (0, 2)]
    assert [len(part) for part in parts] == [2, 1]
    assert parts[1].offsets.tolist() == [0, 2]
    for name in ("user_ids", "items", "timestamps", "strengths"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(histories, name))


def test_positives_of_histories_are_coded_in_another_catalogue():
    histories = build().histories(np.array([0, 1]), 10 * HOUR)
    own = histories.positives(np.array(["a", "y", "z"]))
    assert own.offsets.tolist() == [0, 1, 2]  # a: z (0.6; x is weak), b: y (x is unknown)
    assert own.catalogue[own.items].tolist() == ["z", "y"]
    strict = dataclasses.replace(histories, positive_from=0.7).positives(histories.catalogue)
    assert strict.offsets.tolist() == [0, 0, 1]
    assert len(histories.positives(np.array([], str)).items) == 0


def test_the_threshold_itself_is_positive_in_float32():
    histories = build(positive_from=0.6).histories(np.array([0]), 10 * HOUR)
    assert histories.positives(histories.catalogue).offsets.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("ids", "vocabulary", "codes"),
    [
        (["b", "zz", "a", ""], ["a", "b"], [1, -1, 0, -1]),
        (["a"], [], [-1]),
        ([], ["a"], []),
        (["a longer id"], ["a", "a longer"], [-1]),
    ],
)
def test_codes_in(ids: list[str], vocabulary: list[str], codes: list[int]):
    assert codes_in(np.array(ids, str), np.array(vocabulary, str)).tolist() == codes


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ([], []),
        ([7], [7]),
        ([3, -1, 3, 3, 2], [-1, 2, 3]),
        ([2**63 - 1, -(2**63), 2**63 - 1], [-(2**63), 2**63 - 1]),
    ],
)
def test_distinct_numbers(numbers: list[int], found: list[int]):
    assert distinct(np.array(numbers, np.int64)).tolist() == found


@pytest.mark.parametrize(
    ("codes", "occurring", "places"),
    [([], [], []), ([4, 1, 4, 0], [0, 1, 4], [2, 1, 2, 0]), ([5, 5], [5], [0, 0])],
)
def test_codes_that_occur(codes: list[int], occurring: list[int], places: list[int]):
    found, place = codes_that_occur(np.array(codes, np.int32), 6)
    assert (found.tolist(), place.tolist()) == (occurring, places)
    assert place.dtype == np.int32


def test_histories_before_moments_of_their_own():
    histories = build().histories(np.array([0, 0, 1]), np.array([7 * HOUR, 11 * HOUR, 2 * HOUR]))
    assert histories.offsets.tolist() == [0, 0, 2, 3]
    assert histories.as_of == 11 * HOUR


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda: {"examples": examples().drop_columns(["label", "strength"])},
            "The examples table has no column strength, label. It has: event_id, user_id, "
            "item_id, timestamp.",
        ),
        (
            lambda: {"examples": examples(user_id=["a", None, None, "b", "a"])},
            "Column user_id of the examples table is null in 2 of 5 rows. A snapshot is built "
            "from valid rows only.",
        ),
        (
            lambda: {"examples": examples(timestamp=[1, 2, 3, 4, 5])},
            "A time column must hold timestamps, but its type is int64.",
        ),
        (
            lambda: {"valid_start": 9 * HOUR},
            "A snapshot needs valid_start <= test_start <= end, but got valid_start=32400000000, "
            "test_start=21600000000, end=36000000000 (microseconds).",
        ),
        (
            lambda: {"edges": pa.table({})},
            "The edges table has no column source, target, relation, since. It has: no columns.",
        ),
    ],
)
def test_errors_say_what_is_wrong(change: Callable[[], dict], text: str):
    with pytest.raises(SnapshotError) as caught:
        build(**change())
    assert str(caught.value) == text


def test_a_history_names_the_rows_of_its_events():
    offsets = np.array([0, 2, 2, 3])
    histories = Histories(
        np.array(["a", "b", "c"]), np.array(["x"]), offsets, *[np.zeros(3, int)] * 3, as_of=1
    )
    assert histories.lengths().tolist() == [2, 0, 1]
    assert histories.rows().tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    ("column", "values", "found"),
    [
        ("strength", [1.0, np.nan, 0.6, np.inf, 1.0], "1 NaN and 1 infinite"),
        ("label", [1.0, 0.0, -np.inf, 1.0, np.nan], "0 NaN and 1 infinite"),
    ],
)
def test_what_is_not_finite_reaches_no_tensor(column: str, values: list, found: str):
    table = examples(**{column: values})
    with pytest.raises(SnapshotError) as error:
        build(examples=table)
    # The row at the interval's end is left out before.
    assert str(error.value) == (
        f"Column {column} of the examples table holds {found} values in 4 rows. Models learn from "
        "finite numbers only: find the rows in that column and the rule `finite` that should have "
        "caught them."
    )


def test_what_else_is_known_of_an_event():
    table = examples(
        event_type=["view", "rating", "follow", "blink", "like"],
        watch_share=[0.5, None, np.nan, 1.0, 1.0],
        rating=[None, 4.0, None, 9.0, None],
        device=["tv", "unknown", "phone", None, "watch"],
        location=pa.array([None] * 5, pa.string()),
    )
    snapshot = build(examples=table)
    marks = snapshot.marks
    assert marks is not None
    # Events e1, e2, e4, e3; the last row is at the interval's end and known nowhere.
    names = [*EVENT_TYPES, None]
    assert [names[code] for code in marks.types] == ["rating", "follow", None, "view"]
    np.testing.assert_equal(marks.watch_shares, np.array([np.nan, np.nan, 1.0, 0.5], np.float32))
    np.testing.assert_equal(marks.ratings, np.array([0.8, np.nan, 1.0, np.nan], np.float32))
    assert snapshot.device_names == ("phone", "tv")
    assert marks.devices.tolist() == [-1, 0, -1, 1]
    assert snapshot.location_names == ()
    assert marks.locations.tolist() == [-1, -1, -1, -1]
    history = snapshot.histories(np.array([1, 0]), 8 * HOUR)
    assert history.marks is not None
    assert [names[code] for code in history.marks.types] == [None, "view", "rating", "follow"]
    likes = history.positives(np.array(["x", "z"]))
    assert likes.marks is not None
    assert [names[code] for code in likes.marks.types] == [None, "follow"]
    assert [names[code] for code in history.batch(1, 2).marks.types] == ["rating", "follow"]


def test_the_types_of_events_are_those_of_the_tables():
    assert set(EVENT_TYPES) == set(schemas.EVENT_TYPES)
