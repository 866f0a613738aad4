"""A small table of every kind of column, a table of scores, and the drift report of such tables."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from training.drift import DriftThresholds, DriftVerdict, drift_report

AT = datetime(2026, 2, 1, 6, tzinfo=UTC)
SECRET_TEXT = "Slow-cooked ramen, a secret of my grandmother"


def features(
    rows: int, seed: int, *, age: float = 0.0, tv: float = 0.2, nulls: float = 0.1
) -> pa.Table:
    """A small table of every kind of column; `age`, `tv` and `nulls` are what tests shift."""
    rng = np.random.default_rng(seed)
    watched = rng.random(rows)
    return pa.table(
        {
            "user_id": [f"u{seed:03d}{row:06d}" for row in range(rows)],
            "age": rng.normal(age, 1.0, rows),
            "followers": rng.lognormal(3.0, 2.0, rows),
            "position": rng.integers(1, 8, rows),
            "device": rng.choice(["phone", "tv"], rows, p=[1.0 - tv, tv]),
            "exploration": rng.random(rows) < 0.15,
            "watch_share": pa.array(watched, mask=rng.random(rows) < nulls),
            "title": [f"{SECRET_TEXT} {row}" for row in range(rows)],
            "empty": pa.nulls(rows),
            "blank": pa.nulls(rows, pa.float64()),
            "constant": np.ones(rows),
            "tags": pa.array([["cooking"]] * rows),
            "timestamp": pa.array([AT] * rows, pa.timestamp("us", tz="UTC")),
        }
    )


def scores(values: np.ndarray) -> pa.Table:
    ids = [f"u{row:06d}" for row in range(len(values))]
    return pa.table({"user_id": ids, "score": pa.array(values), "model_version": [1] * len(ids)})


def report(out_dir: Path, reference: pa.Table, current: pa.Table, **changes) -> DriftVerdict:
    settings = {
        "predictions_reference": None,
        "predictions_current": None,
        "quality": {},
        "quality_history": (),
        "thresholds": DriftThresholds(),
        "seed": 1,
    }
    return drift_report(
        reference=reference, current=current, out_dir=out_dir, **(settings | changes)
    )
