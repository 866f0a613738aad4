"""A tiny world in which everything about an event is known, and items have media."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import default_rng

from training.content import ItemContent
from training.histories import EVENT_TYPES, Marks
from training.models.media import media_arrays
from training.models.next_item_arrays import training_arrays
from training.models.validation import validation_arrays
from training.snapshot import Snapshot

HOUR = 3_600_000_000
ITEMS, COLD = 30, 6
"""Items in all, and those that nobody met before validation."""


def reaction_snapshot(users: int = 40, shown: int = 12) -> Snapshot:
    """People of two tastes are shown items of two kinds, one an hour; at night they only look.

    Items of even number are of kind 0. Each of `audio` and `text` tells the kind, but for some
    items it is missing; the last `COLD` items appear on the last day only. A person clicks items of
    their own kind by day, watches more of them, and gives them more stars. Half of the items that
    somebody likes are viewed first and liked an hour later.
    """
    rng = default_rng(3)
    rows: list[tuple[Any, ...]] = []
    for user in range(users):
        taste = user % 2
        for day in range(5):
            cold = day == 4
            pool = np.arange(ITEMS - COLD, ITEMS) if cold else np.arange(ITEMS - COLD)
            chosen = rng.choice(pool, size=min(shown // 2, len(pool)), replace=False)
            for item in chosen:
                at = (day * 24 + int(rng.integers(24))) * HOUR + int(rng.integers(HOUR))
                by_day = 6 <= at // HOUR % 24 < 22
                fits = item % 2 == taste
                liked = fits and by_day and rng.random() < 0.9
                device = "phone" if by_day else ("tv" if rng.random() < 0.8 else None)
                watch = (0.8 if fits else 0.2) + 0.1 * rng.random()
                place = ("home", "work", None)[int(rng.integers(3))]
                rows.append((user, item, at, "impression", 0.0, np.nan, np.nan, device, place))
                if liked:
                    rows.append((user, item, at + 60, "view", watch, watch, np.nan, device, place))
                    stars = (4 + item % 2) / 5
                    rows.append(
                        (user, item, at + 99, "rating", stars, np.nan, stars, device, place)
                    )
    rows.sort(key=lambda row: (row[0], row[2]))
    user, item, at, kind, strength, watch, rating, device, place = zip(*rows, strict=True)
    devices, places = ("phone", "tv"), ("home", "work")
    marks = Marks(
        np.array([EVENT_TYPES.index(name) for name in kind], np.int8),
        np.array(watch, np.float32),
        np.array(rating, np.float32),
        np.array([devices.index(name) if name else -1 for name in device], np.int32),
        np.array([places.index(name) if name else -1 for name in place], np.int32),
        np.zeros(len(kind), dtype=bool),
    )
    strengths = np.array(strength, np.float32)
    ids = item_ids()
    return Snapshot(
        catalogue=ids,
        user_ids=np.array([f"u{number:02d}" for number in range(users)]),
        users=np.array(user, np.int32),
        items=np.array(item, np.int32),
        timestamps=np.array(at, np.int64),
        strengths=strengths,
        labels=(strengths >= 0.5).astype(np.float32),
        valid_start=3 * 24 * HOUR,
        test_start=4 * 24 * HOUR,
        end=5 * 24 * HOUR + HOUR,
        follows=np.empty((2, 0), np.int32),
        categories=np.full(len(ids), ""),
        created_at=np.zeros(len(ids), np.int64),
        marks=marks,
        device_names=devices,
        location_names=places,
        content=content(),
    )


def item_ids() -> np.ndarray:
    """(ITEMS,) sorted."""
    return np.array([f"i{number:02d}" for number in range(ITEMS)])


def content() -> ItemContent:
    """Each medium tells the kind of an item, in its own way; every fifth item lacks one or both."""
    rng = default_rng(4)
    rows, vectors = {}, {}
    for name, width, missing in (("audio", 5, (0, 1)), ("text", 8, (0, 2))):
        row = np.full(ITEMS, -1, np.int64)
        has = [number for number in range(ITEMS) if number % 5 not in missing or number >= 25]
        row[has] = np.arange(len(has))
        kind = np.array(has)[:, None] % 2
        of_kind = rng.normal(size=(2, width))
        vectors[name] = (of_kind[kind[:, 0]] + 0.1 * rng.normal(size=(len(has), width))).astype(
            np.float16
        )
        rows[name] = row
    return ItemContent(item_ids(), rows, vectors)


def task_data(snapshot: Snapshot, max_length: int = 10) -> dict[str, np.ndarray]:
    """What the workers of a training get."""
    ids = np.unique(
        snapshot.catalogue[snapshot.items[snapshot.positives(None, snapshot.valid_start)]]
    )
    return {
        "num_items": np.array(len(ids)),
        "num_devices": np.array(len(snapshot.device_names)),
        "num_locations": np.array(len(snapshot.location_names)),
        **media_arrays(snapshot.content, ids),
        **training_arrays(snapshot, ids, max_length),
        **validation_arrays(snapshot, ids, 0),
    }
