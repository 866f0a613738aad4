"""What users were shown, and what came of it: the questions of the reaction heads.

Shape legend: E events of a snapshot, X items shown.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from training.histories import EVENT_TYPES, Marks
from training.snapshot import Snapshot

_ENGAGED = ("view", "click", "like", "comment", "share", "rating", "follow")
"""Types of events that say that somebody took up what was shown."""

_NEVER = np.iinfo(np.int64).max

TIES = 3
"""Numbers of `Shown.ties`."""


@dataclass(frozen=True)
class Shown:
    """Items shown to users, each once, by the first event of the two."""

    users: np.ndarray
    """(X,) int64 codes into `Snapshot.user_ids`."""
    items: np.ndarray
    """(X,) int32 codes into `Snapshot.catalogue`."""
    times: np.ndarray
    """(X,) int64 microseconds since 1970."""
    devices: np.ndarray
    """(X,) int32 codes into `Snapshot.device_names`, -1 unknown."""
    locations: np.ndarray
    """(X,) int32 codes into `Snapshot.location_names`, -1 unknown."""
    ties: np.ndarray
    """(X, 3) float32, as of that moment: 1 where the user follows the item's author, and log(1 + n)
    of what the user had taken up, and had left, of authors followed, or not, as this one."""
    click: np.ndarray
    """(X,) float32: 1 taken up, 0 left; NaN throughout a log that holds nothing that was left."""
    watch: np.ndarray
    """(X,) float32: watched share; NaN unknown."""
    rating: np.ndarray
    """(X,) float32: share of the best rating; NaN without one."""

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, chosen: np.ndarray) -> Shown:
        """Some of them."""
        return Shown(*(getattr(self, field.name)[chosen] for field in fields(self)))


def shown_items(snapshot: Snapshot, start: int | None, stop: int) -> Shown:
    """What was first shown in `[start, stop)`, and all that came of it before `stop`.

    Args:
        snapshot: the data.
        start: microseconds; None is the beginning of time. Pairs met before it are left out.
        stop: microseconds.

    Returns:
        By user, then item.
    """
    marks = snapshot.marks or Marks.unknown(len(snapshot.users))
    before = (snapshot.timestamps < stop).nonzero()[0]
    pair = snapshot.users[before].astype(np.int64) << 32 | snapshot.items[before]
    order = np.argsort(pair, kind="stable")  # of one pair, the events stay in order of time
    rows, pair = before[order], pair[order]
    if not len(pair):
        nothing = np.empty(0, np.float32)
        codes = np.empty(0, np.int64)
        ties = np.empty((0, TIES), np.float32)
        return Shown(codes, codes, codes, codes, codes, ties, nothing, nothing, nothing)
    begin = np.append(True, pair[1:] != pair[:-1]).nonzero()[0]
    first, types = rows[begin], marks.types[rows]
    engaged = np.isin(types, [EVENT_TYPES.index(name) for name in _ENGAGED])
    click = np.logical_or.reduceat(engaged, begin).astype(np.float32)
    if (types < 0).all() or click.all():
        click = np.full(len(begin), np.nan, np.float32)
    users, times, followed = (
        snapshot.users[first].astype(np.int64),
        snapshot.timestamps[first],
        marks.followed[first],
    )
    taken = np.minimum.reduceat(np.where(engaged, snapshot.timestamps[rows], _NEVER), begin)
    shown = Shown(
        users,
        snapshot.items[first],
        times,
        marks.devices[first],
        marks.locations[first],
        np.column_stack([followed, _record(users * 2 + followed, times, taken)]).astype(np.float32),
        click,
        np.fmax.reduceat(marks.watch_shares[rows], begin),
        np.fmax.reduceat(marks.ratings[rows], begin),
    )
    return shown if start is None else shown[shown.times >= start]


def _record(kind_X: np.ndarray, time_X: np.ndarray, taken_X: np.ndarray) -> np.ndarray:
    """What had come of the items of a kind before each was shown.

    Args:
        kind_X: (X,) int64: whose items are of one kind.
        time_X: (X,) int64: when each was shown.
        taken_X: (X,) int64: when it was taken up; `_NEVER`.

    Returns:
        (X, 2): log(1 + n) of those taken up, and of those left so far.
    """
    moments = np.sort(np.concatenate([time_X, taken_X]))
    # One rising number of kind and moment, so that one search counts all.
    begin_X = kind_X * len(moments)
    asked_X = begin_X + np.searchsorted(moments, time_X)

    def before(at_X: np.ndarray) -> np.ndarray:
        key_X = np.sort(begin_X + np.searchsorted(moments, at_X))
        return np.searchsorted(key_X, asked_X) - np.searchsorted(key_X, begin_X)

    number_X2 = np.stack([before(taken_X), before(time_X) - before(taken_X)], 1)
    return np.log1p(number_X2)
