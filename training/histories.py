"""What users did before a moment, as plain arrays: what every model scores with.

Ids are strings at the edges and int32 codes inside: a code is the position of an id in a sorted
array, so equal inputs give equal codes whatever the order of the rows they came in.

Shape legend: N catalogue items, B histories, T events of the B histories together, E events.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

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

POSITIVE_FROM = 0.5
"""Default of the smallest strength that counts as a positive."""


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
    followed: np.ndarray
    """(E,) bool: the user is known to have followed the item's author by then."""

    @classmethod
    def unknown(cls, count: int) -> Self:
        """Marks of events of which nothing else is known."""
        shares, codes = [(np.nan, np.float32)] * 2, [(-1, np.int32)] * 2
        values = ((-1, np.int8), *shares, *codes, (False, np.bool_))
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


def codes_in(ids: np.ndarray, vocabulary: np.ndarray) -> np.ndarray:
    """(len(ids),) int32: the position of each id in a sorted vocabulary, -1 where absent."""
    if not len(vocabulary):
        return np.full(len(ids), -1, dtype=np.int32)
    found = np.minimum(np.searchsorted(vocabulary, ids), len(vocabulary) - 1)
    return np.where(vocabulary[found] == ids, found, -1).astype(np.int32)


def distinct(numbers: np.ndarray) -> np.ndarray:
    """The distinct numbers, sorted: `np.unique` hashes them first, in 30 times the time."""
    rising = np.sort(numbers)
    is_new = np.ones(len(rising), bool)
    is_new[1:] = rising[1:] != rising[:-1]
    return rising[is_new]


def codes_that_occur(codes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `count` codes occur, and (len(codes),) int32 the place of each among them."""
    occurs = np.bincount(codes, minlength=count) > 0
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1).astype(np.int32)[codes]
