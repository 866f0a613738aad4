"""Whether people meet other kinds of items than before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from training import drift_vectors
from training.content import ItemContent

START = datetime(2026, 2, 1, tzinfo=UTC)
CONTENT = ItemContent(
    np.array(["east", "mute", "north", "west"]),
    {"text": np.array([0, -1, 1, 2]), "audio": np.array([0, -1, -1, -1])},
    {
        "text": np.array([[3, 0], [0, 5], [-1, 0]], np.float16),
        "audio": np.array([[1, 1, 1]], np.float16),
    },
)


def met(before: list[str], now: list[str]) -> pa.Table:
    moments = [START - timedelta(hours=1)] * len(before) + [START] * len(now)
    time = pa.array(moments, pa.timestamp("us", tz="UTC"))
    return pa.table({"item_id": pa.array([*before, *now], pa.string()), "timestamp": time})


@pytest.mark.parametrize(
    ("before", "now", "distance"),
    [
        (["east"], ["east", "east"], 0.0),
        (["east"], ["north"], 1.0),
        (["east"], ["west"], 2.0),
        (["east", "north"], ["east"], 1 - np.sqrt(0.5)),
        (["east", "mute", "gone"], ["east", "mute"], 0.0),
    ],
)
@pytest.mark.parametrize("rows", [1, 8192])
def test_the_distance_is_that_of_the_mean_directions(
    before: list[str],
    now: list[str],
    distance: float,
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drift_vectors, "_ROWS", rows)
    found = drift_vectors.distances(CONTENT, met(before, now), START)
    assert found["text"] == pytest.approx(distance, abs=1e-12)


@pytest.mark.parametrize(
    ("before", "now"), [([], ["east"]), (["east"], []), (["mute"], ["east"])], ids=str
)
def test_a_side_without_vectors_says_nothing(before: list[str], now: list[str]) -> None:
    assert drift_vectors.distances(CONTENT, met(before, now), START) == {}
