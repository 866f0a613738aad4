"""What the tests of the models share: snapshots from rows, a tiny planted world, fitted models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from registry_world import _model

from training.models import MODELS, FitContext, Model
from training.snapshot import Snapshot

HOUR = 3_600_000_000
CONFIGS = Path(__file__).parents[2] / "configs" / "models"

Event = tuple[str, str, float] | tuple[str, str, float, float]


def snapshot_of(
    events: Iterable[Event],
    *,
    cuts: tuple[float, float, float] = (100, 200, 300),
    items: Sequence[str] = (),
    follows: Sequence[tuple[str, str]] = (),
) -> Snapshot:
    """A snapshot from (user, item, hour[, strength = 1]) rows; cuts are hours."""
    rows = [(*event, 1.0)[:4] for event in events]
    users, liked, hours, strengths = zip(*rows, strict=True) if rows else ((), (), (), ())
    utc = pa.timestamp("us", tz="UTC")
    examples = pa.table(
        {
            "event_id": pa.array([f"e{row:06d}" for row in range(len(rows))], pa.string()),
            "user_id": pa.array(users, pa.string()),
            "item_id": pa.array(liked, pa.string()),
            "strength": pa.array(strengths, pa.float64()),
            "label": pa.array([float(strength >= 0.5) for strength in strengths], pa.float64()),
            "timestamp": pa.array([int(hour * HOUR) for hour in hours], utc),
        }
    )
    known = pa.table(
        {
            "item_id": pa.array(items, pa.string()),
            "categories": pa.array([[f"of {item}"] for item in items], pa.list_(pa.string())),
            "created_at": pa.array([None] * len(items), utc),
        }
    )
    edges = pa.table(
        {
            "source": pa.array([f"u:{follower}" for follower, _ in follows], pa.string()),
            "target": pa.array([f"u:{followee}" for _, followee in follows], pa.string()),
            "relation": pa.array(["follows"] * len(follows), pa.string()),
            "since": pa.array([None] * len(follows), utc),
        }
    )
    valid_start, test_start, end = (int(cut * HOUR) for cut in cuts)
    return Snapshot.from_tables(
        examples, known, edges, valid_start=valid_start, test_start=test_start, end=end
    )


def planted_events(future: float = 0.0) -> list[Event]:
    """80 users of four groups walk round the thirty items of their group, hour by hour.

    The group says what a user likes, and the last item says what comes next. Sessions fall into
    all three parts of the time line. With `future` > 0 that share of the events at or after hour
    200 is replaced by likes of one item, for tests of leaks.
    """
    rng = np.random.default_rng(7)
    events: list[Event] = []
    for user in range(80):
        group, place = user % 4, int(rng.integers(30))
        for hour in np.sort(rng.choice(300, size=30, replace=False)):
            place = (place + 1) % 30
            item = f"item-{4 * place + group:03d}"
            if hour >= 200 and rng.random() < future:
                item = "item-119"
            events.append((f"user-{user:02d}", item, float(hour), 1.0))
        events.append((f"user-{user:02d}", "item-disliked", 50.5, 0.1))
    return events


@pytest.fixture(scope="session")
def make_snapshot() -> Callable[..., Snapshot]:
    """Returns `make_snapshot(events, cuts=..., items=..., follows=...)`."""
    return snapshot_of


@pytest.fixture(scope="session")
def planted() -> Snapshot:
    """The planted world."""
    return snapshot_of(planted_events(), items=["item-disliked", "item-new"])


@pytest.fixture(scope="session")
def planted_with_other_future() -> Snapshot:
    """The planted world with other events from the start of the test part on."""
    return snapshot_of(planted_events(future=0.9), items=["item-disliked", "item-new"])


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., FitContext]:
    """Returns `context(**changes)`: a fit in this process, each with a folder of its own."""
    made: list[FitContext] = []

    def build(**changes: Any) -> FitContext:
        folder = tmp_path / f"fit-{len(made)}"
        folder.mkdir()
        made.append(FitContext(**{"seed": 42, "work_dir": folder, "run_name": "test"} | changes))
        return made[-1]

    return build


@pytest.fixture(scope="session")
def debug_config() -> Callable[[str], dict[str, Any]]:
    """Returns `debug_config(model)`: the committed debug size."""

    def read(model: str) -> dict[str, Any]:
        text = (CONFIGS / f"{model}.yaml").read_text(encoding="utf-8")
        return dict(yaml.safe_load(text)["sizes"]["debug"])

    return read


@pytest.fixture(scope="session")
def fitted(
    planted: Snapshot, debug_config: Callable[[str], dict[str, Any]], tmp_path_factory: Any
) -> dict[str, Model]:
    """Every model fitted once on the planted world."""
    models = {}
    for name, model in MODELS.items():
        folder = tmp_path_factory.mktemp(name)
        models[name] = model.fit(
            planted, debug_config(name), FitContext(seed=42, work_dir=folder, run_name="shared")
        )
    return models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stored model of popularity."""
    return _model(tmp_path / "model", 1.0)
