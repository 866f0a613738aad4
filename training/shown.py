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
        return Shown(codes, codes, codes, codes, codes, nothing, nothing, nothing)
    begin = np.append(True, pair[1:] != pair[:-1]).nonzero()[0]
    first, types = rows[begin], marks.types[rows]
    engaged = np.isin(types, [EVENT_TYPES.index(name) for name in _ENGAGED])
    click = np.logical_or.reduceat(engaged, begin).astype(np.float32)
    if (types < 0).all() or click.all():
        click = np.full(len(begin), np.nan, np.float32)
    shown = Shown(
        snapshot.users[first].astype(np.int64),
        snapshot.items[first],
        snapshot.timestamps[first],
        marks.devices[first],
        marks.locations[first],
        click,
        np.fmax.reduceat(marks.watch_shares[rows], begin),
        np.fmax.reduceat(marks.ratings[rows], begin),
    )
    return shown if start is None else shown[shown.times >= start]
