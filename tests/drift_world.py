"""A small table of every kind of column, a table of scores, and the drift report of such tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
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
            "seen_at": pa.array([AT] * rows, pa.timestamp("us", tz="UTC")),
        }
    )


def scores(values: np.ndarray) -> pa.Table:
    ids = [f"u{row:06d}" for row in range(len(values))]
    return pa.table({"user_id": ids, "score": pa.array(values), "model_version": [1] * len(ids)})


def window(*days: pa.Table, at: datetime = AT) -> pa.Table:
    """Tables as the rows of one interval a day, the last one being that which ends at a moment."""
    stamped = []
    for back, rows in enumerate(reversed(days)):
        moment = at - back * timedelta(days=1) - timedelta(hours=1)
        time = pa.array([moment] * rows.num_rows, pa.timestamp("us", tz="UTC"))
        names = [name for name in rows.column_names if name != "timestamp"]
        stamped.insert(0, rows.select(names).append_column("timestamp", time))
    return pa.concat_tables(stamped, promote_options="default")


def report_of(out_dir: Path, rows: pa.Table, **changes) -> DriftVerdict:
    """The report of a window of rows."""
    settings = {
        "watched": [name for name in rows.column_names if name not in ("timestamp", "item_id")],
        "at": AT,
        "every": timedelta(hours=6),
        "thresholds": DriftThresholds(),
        "seed": 1,
    }
    return drift_report(rows=rows, out_dir=out_dir, **(settings | changes))


def report(out_dir: Path, reference: pa.Table, current: pa.Table, **changes) -> DriftVerdict:
    """The report of an interval against the same hours of the day before."""
    return report_of(out_dir, window(reference, current), **changes)
