"""Drifts that are planted into a finished log: what a broken pipe or a fashion does to it.

Each is a pure function of the rows: it draws nothing, so a world with such a drift has the very
users, items and events of the world without, up to the moment of the drift and, where the drift
leaves them alone, after it.

Shapes: N items, E events.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.demo.sampling import FloatArray, IntArray

PLANTED: Final = frozenset({"watch_time", "new_device", "missing_source", "burst"})
"""The kinds that this module plants."""
NEW_DEVICE: Final = "glasses"
"""The device that appears at a drift of kind `new_device`."""
LOST_DEVICE: Final = "desktop"
"""Its log stops coming at a drift of kind `missing_source`."""
NEW_DEVICE_SHARE: Final = 0.15
"""Share of the users who move to the new device."""
BURST_SHARE: Final = 0.20
"""Share of the pairs of user and item in which the item of the burst takes the other's place."""
WATCH_FACTOR: Final = 1.5
"""How many times longer views last at a drift of kind `watch_time`, up to the whole item."""

_HASH = np.uint64(2654435761)  # Knuth, The Art of Computer Programming 3, section 6.4


def planted(
    kinds: tuple[str, ...],
    events: pa.RecordBatch,
    moment: int,
    duration_N: FloatArray,
    burst_item: int,
) -> pa.RecordBatch:
    """Return the events as they look with the drifts of some kinds.

    Args:
        kinds: Of `transforms.demo.config.DRIFTS`; those that shape behaviour itself change nothing.
        events: Columns as in `EVENT_SCHEMA`.
        moment: µs since 1970 from which on they drift.
        duration_N: Seconds of each item, NaN where it has none.
        burst_item: Number of the item that bursts.
    """
    after_E = pc.cast(events["timestamp"], pa.int64()).to_numpy() >= moment
    if not after_E.any():
        return events
    item_E = _numbers(events["item_id"])
    if "watch_time" in kinds:
        watch_E = events["watch_seconds"].to_numpy(zero_copy_only=False)
        longer_E = np.minimum(WATCH_FACTOR * watch_E, duration_N[item_E]).round(3)
        views_E = after_E & pc.equal(events["event_type"], "view").to_numpy(zero_copy_only=False)
        events = _with(events, "watch_seconds", np.where(views_E, longer_E, watch_E))
    if "new_device" in kinds:
        moves_E = after_E & (_lot(_numbers(events["user_id"])) < NEW_DEVICE_SHARE)
        device = pc.if_else(pa.array(moves_E), NEW_DEVICE, events["device"])
        events = events.set_column(events.schema.get_field_index("device"), "device", device)
    if "burst" in kinds:
        events = _burst(events, after_E, item_E, duration_N, burst_item)
    if "missing_source" in kinds:
        lost = pc.and_(pa.array(after_E), pc.equal(events["device"], LOST_DEVICE))
        events = events.filter(pc.invert(lost))
    return events


def _burst(
    events: pa.RecordBatch,
    after_E: npt.NDArray[np.bool_],
    item_E: IntArray,
    duration_N: FloatArray,
    burst_item: int,
) -> pa.RecordBatch:
    """Let one item take the place of others; follows stay with the authors they are of."""
    user_E = _numbers(events["user_id"])
    follow_E = pc.equal(events["event_type"], "follow").to_numpy(zero_copy_only=False)
    timed_E = ~np.isnan(duration_N[item_E])  # only clips and podcasts are watched
    hit_E = after_E & timed_E & ~follow_E & (_lot(user_E * 1_000_003 + item_E) < BURST_SHARE)
    star = pa.scalar(f"i{burst_item:06d}")
    items = pc.if_else(pa.array(hit_E), star, events["item_id"])
    watch_E = events["watch_seconds"].to_numpy(zero_copy_only=False)
    watch_E = np.where(hit_E, np.minimum(watch_E, duration_N[burst_item]), watch_E)
    place = events.schema.get_field_index("item_id")
    return _with(events.set_column(place, "item_id", items), "watch_seconds", watch_E)


def _with(events: pa.RecordBatch, name: str, value_E: FloatArray) -> pa.RecordBatch:
    place = events.schema.get_field_index(name)
    return events.set_column(place, name, pa.array(value_E, from_pandas=True))


def _numbers(ids: pa.Array) -> IntArray:
    """The number in each id, such as 12 in u000012."""
    return pc.cast(pc.utf8_slice_codeunits(ids, 1), pa.int64()).to_numpy()


def _lot(number_E: IntArray) -> FloatArray:
    """A number in [0, 1) that is always the same for the same number."""
    mixed_E = (number_E.astype(np.uint64) + np.uint64(1)) * _HASH
    mixed_E = (mixed_E ^ (mixed_E >> np.uint64(16))) * _HASH
    return (mixed_E >> np.uint64(32)).astype(np.float64) / 2**32
