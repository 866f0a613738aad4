"""What models learn from: plain arrays of one interval, no tables, no paths.

Ids are coded as in `training.histories`.

Shape legend: U users, N catalogue items, E events, F follows, B histories.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.content import ItemContent
from training.histories import EVENT_TYPES, POSITIVE_FROM, Histories, Marks

UNKNOWN_TIME = np.iinfo(np.int64).min
"""`Snapshot.created_at` of an item whose creation time is not known."""

UNKNOWN_PLACE = "unknown"
"""Device or location of an event that names none."""


class SnapshotError(ValueError):
    """The tables or times given for a snapshot cannot be used."""


@dataclass(frozen=True)
class Snapshot:
    """All a model may learn from and be judged on, for one interval.

    Events are sorted by (user, timestamp, event_id). Times are microseconds since 1970 UTC with
    train < valid_start <= valid < test_start <= test < end.
    """

    catalogue: np.ndarray
    """(N,) str, sorted: the items known before `end`."""
    user_ids: np.ndarray
    """(U,) str, sorted: everyone with an event or a follow."""
    users: np.ndarray
    """(E,) int32 codes into `user_ids`."""
    items: np.ndarray
    """(E,) int32 codes into `catalogue`."""
    timestamps: np.ndarray
    """(E,) int64."""
    strengths: np.ndarray
    """(E,) float32 in [0, 1]."""
    labels: np.ndarray
    """(E,) float32; above 0.5 is a positive."""
    valid_start: int
    test_start: int
    end: int
    follows: np.ndarray
    """(2, F) int32 codes into `user_ids`: follower, followee."""
    categories: np.ndarray
    """(N,) str: the first category of each item, or ""."""
    created_at: np.ndarray
    """(N,) int64, or `UNKNOWN_TIME`."""
    positive_from: float = POSITIVE_FROM
    """Handed on to `Histories.positive_from`: the label threshold on strengths."""
    marks: Marks | None = None
    """What else is known of the E events."""
    device_names: tuple[str, ...] = ()
    """Sorted."""
    location_names: tuple[str, ...] = ()
    """Sorted."""
    content: ItemContent | None = None
    """What the media of the items say, for models that read it."""

    def __post_init__(self) -> None:
        if not self.valid_start <= self.test_start <= self.end:
            raise SnapshotError(
                "A snapshot needs valid_start <= test_start <= end, but got "
                f"valid_start={self.valid_start}, test_start={self.test_start}, end={self.end} "
                "(microseconds)."
            )

    @classmethod
    def from_tables(
        cls,
        examples: pa.Table,
        items: pa.Table,
        edges: pa.Table,
        *,
        valid_start: int,
        test_start: int,
        end: int,
        positive_from: float = POSITIVE_FROM,
        rating_max: float = 5.0,
        content: ItemContent | None = None,
    ) -> Self:
        """Build a snapshot from the arrow tables of one interval.

        Args:
            examples: columns event_id, user_id, item_id, strength, label, timestamp; and, where
                they are known, event_type, watch_share, rating, device, location.
            items: columns item_id, categories, created_at; and author_id, where it is known.
            edges: columns source, target, relation, since; only `follows` rows between `u:` nodes
                are used, and `Snapshot.follows` has those that were there before `valid_start`.
            valid_start: first moment of the validation part, microseconds.
            test_start: first moment of the test part, microseconds.
            end: end of the interval, microseconds; rows at or after it are left out.
            positive_from: smallest strength that counts as a positive in histories.
            rating_max: the best rating.
            content: what the media of the items say.

        Raises:
            SnapshotError: a column is missing or holds nulls, or the times are not in order.
        """
        events = _columns(
            "examples",
            examples,
            required=("event_id", "user_id", "item_id", "strength", "label", "timestamp"),
            optional=("event_type", "watch_share", "rating", "device", "location"),
        )
        timestamps = _microseconds(events["timestamp"])
        before_end = pa.array(timestamps < end)
        events, timestamps = events.filter(before_end), timestamps[before_end.to_numpy(False)]

        known = _columns(
            "items",
            items,
            required=("item_id",),
            nullable=("categories", "created_at"),
            optional=("author_id",),
        )
        created = _microseconds(known["created_at"])
        known, created = known.filter(pa.array(created < end)), created[created < end]

        catalogue = _sorted_unique(events["item_id"], known["item_id"])
        follows = _follows(edges)
        early = follows.filter(pa.array(_microseconds(follows["since"]) < valid_start))
        user_ids = _sorted_unique(events["user_id"], early["follower"], early["followee"])
        users = _codes(events["user_id"], user_ids)
        # Sorting by the string event_id is the slow key, so arrow ranks it once.
        event_rank = pc.rank(events["event_id"], tiebreaker="first").to_numpy()
        order = np.lexsort((event_rank, timestamps, users))

        categories = np.full(len(catalogue), "", dtype=object)
        created_at = np.full(len(catalogue), UNKNOWN_TIME, dtype=np.int64)
        device_names, location_names = _places(events, "device"), _places(events, "location")
        marks = Marks(
            _positions(events, "event_type", EVENT_TYPES).astype(np.int8),
            _shares(events, "watch_share", 1.0),
            _shares(events, "rating", rating_max),
            _positions(events, "device", device_names),
            _positions(events, "location", location_names),
            _followed(events, timestamps, known, follows),
        )
        rows = _codes(known["item_id"], catalogue)
        categories[rows] = [_first(value) for value in known["categories"].to_pylist()]
        created_at[rows] = created
        return cls(
            catalogue=_strings(catalogue),
            user_ids=_strings(user_ids),
            users=users[order],
            items=_codes(events["item_id"], catalogue)[order],
            timestamps=timestamps[order],
            strengths=_floats("examples", events, "strength")[order],
            labels=_floats("examples", events, "label")[order],
            valid_start=valid_start,
            test_start=test_start,
            end=end,
            follows=np.stack([_codes(early[side], user_ids) for side in ("follower", "followee")]),
            categories=categories.astype(str),
            created_at=created_at,
            positive_from=positive_from,
            marks=marks[order],
            device_names=device_names,
            location_names=location_names,
            content=content,
        )

    def positives(self, start: int | None, stop: int) -> np.ndarray:
        """(E,) bool: the positives with `start <= timestamp < stop` (no lower bound for None)."""
        mask_E = (self.labels > 0.5) & (self.timestamps < stop)
        return mask_E if start is None else mask_E & (self.timestamps >= start)

    @cached_property
    def _moments(self) -> np.ndarray:
        return np.sort(self.timestamps)

    @cached_property
    def _keys(self) -> np.ndarray:
        """(E,) int64: one rising number of user and time, by which both are found at once."""
        rank_E = np.searchsorted(self._moments, self.timestamps)
        return self.users * np.int64(len(self._moments) + 1) + rank_E

    def histories(self, users: np.ndarray, before: int | np.ndarray) -> Histories:
        """The events of some users strictly before a moment.

        Args:
            users: (B,) int codes into `user_ids`, in any order.
            before: microseconds; nothing at or after it is looked at. One moment for all, or (B,).
        """
        users = np.asarray(users, dtype=np.int64)
        first = np.searchsorted(self.users, users, side="left")
        rank = np.searchsorted(self._moments, before)
        counts = np.searchsorted(self._keys, users * (len(self._moments) + 1) + rank) - first
        offsets = np.concatenate([[0], np.cumsum(counts)])
        index = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], counts)
        return Histories(
            self.user_ids[users],
            self.catalogue,
            offsets,
            self.items[index],
            self.timestamps[index],
            self.strengths[index],
            int(np.max(before, initial=UNKNOWN_TIME)),
            self.positive_from,
            None if self.marks is None else self.marks[index],
        )


def _columns(
    table_name: str,
    table: pa.Table,
    *,
    required: tuple[str, ...],
    nullable: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
) -> pa.Table:
    """The named columns, or an error that lists what is missing or null."""
    missing = [name for name in (*required, *nullable) if name not in table.column_names]
    if missing:
        raise SnapshotError(
            f"The {table_name} table has no column {', '.join(missing)}. It has: "
            f"{', '.join(table.column_names) or 'no columns'}."
        )
    for name in required:
        if table[name].null_count:
            raise SnapshotError(
                f"Column {name} of the {table_name} table is null in {table[name].null_count} of "
                f"{table.num_rows} rows. A snapshot is built from valid rows only."
            )
    there = [name for name in optional if name in table.column_names]
    return table.select([*required, *nullable, *there])


def _follows(edges: pa.Table) -> pa.Table:
    """`follower` and `followee` ids of the follow edges between users, and `since`."""
    edges = _columns("edges", edges, required=("source", "target", "relation"), nullable=("since",))
    edges = edges.filter(pc.equal(edges["relation"], "follows"))
    between_users = pc.and_(
        pc.starts_with(edges["source"], "u:"), pc.starts_with(edges["target"], "u:")
    )
    edges = edges.filter(between_users)
    return pa.table(
        {
            "follower": pc.utf8_slice_codeunits(edges["source"], 2),
            "followee": pc.utf8_slice_codeunits(edges["target"], 2),
            "since": edges["since"],
        }
    )


def _followed(
    events: pa.Table, timestamps: np.ndarray, items: pa.Table, follows: pa.Table
) -> np.ndarray:
    """(E,) bool: whether the user of each event already followed the author of its item."""
    if "author_id" not in items.column_names or not len(follows):
        return np.zeros(len(events), dtype=bool)
    place_E = pc.index_in(events["item_id"], value_set=items["item_id"].combine_chunks())
    authors = items["author_id"].combine_chunks().take(place_E)
    people = _sorted_unique(follows["follower"], follows["followee"])

    def edge(followers: pa.ChunkedArray, followees: pa.ChunkedArray) -> np.ndarray:
        code = [
            pc.fill_null(pc.index_in(ids.cast(pa.string()), value_set=people), -1).to_numpy()
            for ids in (followers, followees)
        ]
        return np.where(np.minimum(*code) < 0, -1, code[0].astype(np.int64) * len(people) + code[1])

    edge_F, since_F = (
        edge(follows["follower"], follows["followee"]),
        _microseconds(follows["since"]),
    )
    order_F = np.lexsort((since_F, edge_F))
    edge_F, since_F = edge_F[order_F], since_F[order_F]
    edge_E = edge(events["user_id"], authors)
    found_E = np.searchsorted(edge_F, edge_E).clip(max=len(edge_F) - 1)
    return (edge_F[found_E] == edge_E) & (since_F[found_E] < timestamps)


def _sorted_unique(*columns: pa.ChunkedArray) -> pa.Array:
    """The distinct strings of several columns, ascending."""
    chunks = [chunk.cast(pa.string()) for column in columns for chunk in column.chunks]
    distinct = pc.unique(pa.chunked_array(chunks, type=pa.string()))
    return distinct.take(pc.sort_indices(distinct))


def _codes(ids: pa.ChunkedArray, vocabulary: pa.Array) -> np.ndarray:
    """(len(ids),) int32 positions in a vocabulary that holds every id."""
    found = pc.index_in(ids.cast(pa.string()), value_set=vocabulary)
    return found.to_numpy().astype(np.int32)


def _places(table: pa.Table, name: str) -> tuple[str, ...]:
    """The distinct values of a column, ascending, without what stands for unknown."""
    if name not in table.column_names:
        return ()
    return tuple(sorted(set(pc.unique(table[name]).to_pylist()) - {None, UNKNOWN_PLACE}))


def _positions(table: pa.Table, name: str, words: tuple[str, ...]) -> np.ndarray:
    """(rows,) int32: where each value stands among some words, -1 where it is none of them."""
    if name not in table.column_names:
        return np.full(len(table), -1, np.int32)
    found = pc.index_in(table[name].cast(pa.string()), value_set=pa.array(words, pa.string()))
    return pc.fill_null(found, -1).to_numpy().astype(np.int32)


def _shares(table: pa.Table, name: str, best: float) -> np.ndarray:
    """(rows,) float32 in [0, 1]: values as shares of the best; NaN where there is none."""
    if name not in table.column_names:
        return np.full(len(table), np.nan, np.float32)
    values = table[name].cast(pa.float64()).to_numpy() / best
    return np.where(np.isfinite(values), values.clip(0, 1), np.nan).astype(np.float32)


def _strings(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False).astype(str)


def _floats(table_name: str, table: pa.Table, name: str) -> np.ndarray:
    """(rows,) float32; refuses NaN and infinities, which no tensor may hold."""
    values = table[name].to_numpy().astype(np.float32)
    bad = values[~np.isfinite(values)]
    if len(bad):
        nans = int(np.isnan(bad).sum())
        raise SnapshotError(
            f"Column {name} of the {table_name} table holds {nans} NaN and {len(bad) - nans} "
            f"infinite values in {len(values)} rows. Models learn from finite numbers only: find "
            "the rows in that column and the rule `finite` that should have caught them."
        )
    return values


def _microseconds(column: pa.ChunkedArray) -> np.ndarray:
    """(rows,) int64; `UNKNOWN_TIME` for null. Finer units are cut to whole microseconds."""
    if not pa.types.is_timestamp(column.type):
        if column.null_count == len(column):
            return np.full(len(column), UNKNOWN_TIME, dtype=np.int64)
        raise SnapshotError(f"A time column must hold timestamps, but its type is {column.type}.")
    zone = column.type.tz
    whole = column.cast(pa.timestamp("us", tz=zone), safe=False).cast(pa.int64())
    return pc.fill_null(whole, int(UNKNOWN_TIME)).to_numpy()


def _first(values: list[str | None] | None) -> str:
    return (values[0] if values else None) or ""
