"""What models learn from and score with: plain arrays of one interval, no tables, no paths.

Ids are strings at the edges and int32 codes inside: a code is the position of an id in a sorted
array, so equal inputs give equal codes whatever the order of the rows they came in.

Shape legend: U users, N catalogue items, E events, F follows, B histories, T events of the
B histories together.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.content import ItemContent

EVENT_TYPES = (
    "impression",
    "view",
    "click",
    "skip",
    "like",
    "comment",
    "share",
    "rating",
    "dislike",
    "follow",
)
"""What an event can be; a place in this tuple is its code, in saved models too."""

UNKNOWN_TIME = np.iinfo(np.int64).min
"""`Snapshot.created_at` of an item whose creation time is not known."""

POSITIVE_FROM = 0.5
"""Default of the smallest strength that counts as a positive."""

UNKNOWN_PLACE = "unknown"
"""Device or location of an event that names none."""


class SnapshotError(ValueError):
    """The tables or times given for a snapshot cannot be used."""


@dataclass(frozen=True)
class Marks:
    """What else is known of some events, one entry each."""

    types: np.ndarray
    """(E,) int8 codes into `EVENT_TYPES`, -1 unknown."""
    watch_shares: np.ndarray
    """(E,) float32 in [0, 1], NaN unknown."""
    ratings: np.ndarray
    """(E,) float32, the share of the best rating there is; NaN without one."""
    devices: np.ndarray
    """(E,) int32 codes into `Snapshot.device_names`, -1 unknown."""
    locations: np.ndarray
    """(E,) int32 codes into `Snapshot.location_names`, -1 unknown."""

    @classmethod
    def unknown(cls, count: int) -> Self:
        """Marks of events of which nothing else is known."""
        values = ((-1, np.int8), (np.nan, np.float32), (np.nan, np.float32), *[(-1, np.int32)] * 2)
        return cls(*(np.full(count, value, kind) for value, kind in values))

    def __getitem__(self, chosen: np.ndarray | slice) -> Marks:
        """The marks of some of the events."""
        return Marks(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True)
class Histories:
    """What B users did before a moment, each in time order, as one CSR.

    User b's events are the entries `offsets[b]:offsets[b + 1]` of `items`, `timestamps` and
    `strengths`. A user without events is an empty slice.
    """

    user_ids: np.ndarray
    """(B,) str."""
    catalogue: np.ndarray
    """(N,) str, sorted ascending and unique; the item ids that codes point into."""
    offsets: np.ndarray
    """(B+1,) int64."""
    items: np.ndarray
    """(T,) int32 codes into `catalogue`."""
    timestamps: np.ndarray
    """(T,) int64, microseconds since 1970 UTC; every one is < `as_of`."""
    strengths: np.ndarray
    """(T,) float32 in [0, 1]."""
    as_of: int
    """Microseconds since 1970 UTC: the moment the histories are seen from."""
    positive_from: float = POSITIVE_FROM
    """An event is a positive when its strength is at least this."""
    marks: Marks | None = None
    """What else is known of the T events."""

    def __len__(self) -> int:
        """The number of users B."""
        return len(self.user_ids)

    def lengths(self) -> np.ndarray:
        """(B,) int64: the number of events of each user."""
        return np.diff(self.offsets)

    def rows(self) -> np.ndarray:
        """(T,) int64: the row (0..B-1) each event belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths())

    def batch(self, start: int, stop: int) -> Histories:
        """The histories of rows `start:stop`, without copying the events."""
        offsets = self.offsets[start : min(stop, len(self)) + 1]
        low, high = int(offsets[0]), int(offsets[-1])
        return replace(
            self._of_events(slice(low, high)),
            user_ids=self.user_ids[start:stop],
            offsets=offsets - low,
        )

    def positives(self, catalogue: np.ndarray) -> Histories:
        """Only the positives on items of another catalogue, coded in that catalogue.

        Args:
            catalogue: (M,) str sorted item ids, for example a model's own vocabulary.

        Returns:
            Histories of the same users over `catalogue`; events of other items are left out.
        """
        code_N = codes_in(self.catalogue, catalogue)
        code_T = code_N[self.items] if len(code_N) else np.empty(0, np.int32)
        # float32 on both sides: 0.6 stored as float32 is a little more than the Python 0.6.
        keep_T = (code_T >= 0) & (self.strengths >= np.float32(self.positive_from))
        kept_before = np.concatenate([[0], np.cumsum(keep_T, dtype=np.int64)])
        return replace(
            self._of_events(keep_T),
            catalogue=catalogue,
            offsets=kept_before[self.offsets],
            items=code_T[keep_T],
        )

    def _of_events(self, chosen: np.ndarray | slice) -> Histories:
        """Some of the events; whose they are and what they point to is for the caller to say."""
        return replace(
            self,
            items=self.items[chosen],
            timestamps=self.timestamps[chosen],
            strengths=self.strengths[chosen],
            marks=None if self.marks is None else self.marks[chosen],
        )


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
            items: columns item_id, categories, created_at.
            edges: columns source, target, relation, since; only `follows` rows between `u:` nodes
                that were there before `valid_start` are used.
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
            "items", items, required=("item_id",), nullable=("categories", "created_at")
        )
        created = _microseconds(known["created_at"])
        known, created = known.filter(pa.array(created < end)), created[created < end]

        catalogue = _sorted_unique(events["item_id"], known["item_id"])
        follower, followee = _follows(edges, valid_start)
        user_ids = _sorted_unique(events["user_id"], follower, followee)
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
            follows=np.stack([_codes(follower, user_ids), _codes(followee, user_ids)]),
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

    def histories(self, users: np.ndarray, before: int | np.ndarray) -> Histories:
        """The events of some users strictly before a moment.

        Args:
            users: (B,) int codes into `user_ids`, in any order.
            before: microseconds; nothing at or after it is looked at. One moment for all, or (B,).
        """
        users = np.asarray(users, dtype=np.int64)
        first = np.searchsorted(self.users, users, side="left")
        # Events are ordered by user and time: one rising number of both finds the end of each.
        moments = np.unique(np.append(self.timestamps, before))
        key_E = self.users * np.int64(len(moments)) + np.searchsorted(moments, self.timestamps)
        counts = np.searchsorted(key_E, users * len(moments) + np.searchsorted(moments, before))
        counts -= first
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


def codes_in(ids: np.ndarray, vocabulary: np.ndarray) -> np.ndarray:
    """(len(ids),) int32: the position of each id in a sorted vocabulary, -1 where absent."""
    if not len(vocabulary):
        return np.full(len(ids), -1, dtype=np.int32)
    found = np.minimum(np.searchsorted(vocabulary, ids), len(vocabulary) - 1)
    return np.where(vocabulary[found] == ids, found, -1).astype(np.int32)


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


def _follows(edges: pa.Table, before: int) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Follower and followee ids of the follow edges between users, as of a moment."""
    edges = _columns("edges", edges, required=("source", "target", "relation"), nullable=("since",))
    edges = edges.filter(pc.equal(edges["relation"], "follows"))
    edges = edges.filter(pa.array(_microseconds(edges["since"]) < before))
    between_users = pc.and_(
        pc.starts_with(edges["source"], "u:"), pc.starts_with(edges["target"], "u:")
    )
    edges = edges.filter(between_users)
    return (
        pc.utf8_slice_codeunits(edges["source"], 2),
        pc.utf8_slice_codeunits(edges["target"], 2),
    )


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
