"""Models trained, judged and promoted on feature tables that a test writes: without Spark or Ray."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from pipelines.intervals import Interval
from pipelines.project import Project
from pipelines.runner import Runner
from pipelines.state import StageRun, run_id

REPOSITORY = Path(__file__).resolve().parent.parent
SPEC = """\
pipeline: tiny
description: A world of ninety people
schedule: {{every: 6h, start: "2026-01-05T00:00Z", end: "2026-02-02T00:00Z"}}
sources:
  demo: {{users: 90, items: 200, days: 28, start: "2026-01-05T00:00:00Z"}}
models:
  popularity: {{}}
  item_knn: {{{item_knn}}}
evaluation: {{valid: 1d, test: 2d, k: [5, 10], bootstrap: 100, light_below: 40, new_below: 25{groups}}}
gate: {{groups: {{women: 0.5}}}}
candidates: {{k: 10, blend: {{item_knn: 1}}}}
"""
END = datetime(2026, 2, 1, tzinfo=UTC)
STAGES_BEFORE = ("validate", "examples", "graph_edges", "modalities", "sequences", "decide")
_TIME = pa.timestamp("us", tz="UTC")


class ModelWorld:
    """A project of its own in a folder; its stages before training are taken as done.

    Args:
        folder: Becomes the project's root.
        seed: Of what people like.
    """

    def __init__(self, folder: Path, seed: int = 7) -> None:
        for name in ("configs", "data_contracts"):
            shutil.copytree(REPOSITORY / name, folder / name)
        self.root = folder
        self.seed = seed
        self.spec()

    @classmethod
    def of(cls, folder: Path, seed: int = 7) -> Self:
        """The world that lies in a folder already."""
        world = cls.__new__(cls)
        world.root, world.seed = folder, seed
        return world

    def spec(self, item_knn: str = "", groups: str = "{women: {gender: f}}") -> None:
        """Write the spec, with options of the model `item_knn` and groups of users."""
        file = self.root / "configs" / "pipelines" / "tiny.yaml"
        file.write_text(SPEC.format(item_knn=item_knn, groups=f", groups: {groups}"))

    def runner(self) -> Runner:
        """What runs the stages of the spec as it stands."""
        return Runner(Project.load("tiny", root=self.root), lambda _: None)

    def train(self, end: datetime = END) -> None:
        """Train, judge and let the gate decide, for the interval that ends at a moment."""
        self.features(end)
        self.run("train_popularity", "train_item_knn", "evaluate", "gate", end=end)

    def run(self, *stages: str, end: datetime = END) -> None:
        """Run some stages, whether or not they are up to date."""
        with self.runner() as runner:
            for step in runner._project.steps:
                if step.name in stages:
                    runner.run_stage(step, _interval(end))

    def rows(self, table: str, end: datetime = END) -> list[dict[str, Any]]:
        """The rows of a table for an interval, as they were written."""
        return self.runner().lake.arrow(table, interval_end=end).to_pylist()

    def features(self, end: datetime) -> None:
        """Write what models learn from, and that the stages which make it have succeeded."""
        runner = self.runner()
        lake, interval = runner.lake, _interval(end)
        lake.replace_all("items", _items(), {})
        lake.replace_range("examples", _examples(self.seed, end), "timestamp", None, end, {})
        lake.replace_interval("graph_edges", _edges(end), end, {})
        lake.replace_interval("sequences", _sequences(self.seed, end), end, {})
        lake.replace_range("events", _examples(self.seed, end), "timestamp", None, end, {})
        lake.replace_all("users", _users(), {})
        lake.replace_all("follows", _follows(), {})
        due = {f"train_{model}": "new" for model in ("popularity", "item_knn")}
        details = {"validate": {"events": {}, "dimensions": {}, "mapping": ""}}
        details["decide"] = {"due": due, "not_due": {}, "events": 0}
        for stage in STAGES_BEFORE:
            runner.history.record(_success(stage, interval, details.get(stage, {})))

    def done(self, *stages: str, end: datetime = END) -> None:
        """Record that some stages have succeeded."""
        runner = self.runner()
        for stage in stages:
            runner.history.record(_success(stage, _interval(end), {}))


def _interval(end: datetime) -> Interval:
    return Interval(end - timedelta(hours=6), end)


def _items() -> pa.Table:
    return pa.table(
        {
            "item_id": [f"i{code:03}" for code in range(200)],
            "title": [f"Item {code}" for code in range(200)],
            "author_id": [f"a{code % 10}" for code in range(200)],
            "categories": pa.array(
                [["ab"[code % 2]] for code in range(200)], pa.list_(pa.string())
            ),
            "created_at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 200, _TIME),
        }
    )


def _examples(seed: int, end: datetime) -> pa.Table:
    """People of the first half like items of the first half of the catalogue, and so on."""
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(90):
        for _ in range(25 + user):
            item = (user >= 45) * 100 + int(100 * generator.random() ** 2)
            at = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(hours=28 * 24 * generator.random())
            rows.append((at, f"u{user:02}", f"i{item:03}", float(generator.random() < 0.7)))
    rows = sorted(row for row in rows if row[0] < end)
    times, users, items, labels = (list(column) for column in zip(*rows, strict=True))
    count = len(rows)
    nothing = pa.nulls(count, pa.float64())
    return pa.table(
        {
            "interval_end": pa.array([end] * count, _TIME),
            "event_id": [f"e{number:05}" for number in range(count)],
            "user_id": users,
            "item_id": items,
            "event_type": ["like" if label else "view" for label in labels],
            "strength": labels,
            "label": labels,
            "timestamp": pa.array(times, _TIME),
            "watch_share": nothing,
            "rating": nothing,
            "device": pa.nulls(count, pa.string()),
            "location": pa.nulls(count, pa.string()),
        }
    )


def _sequences(seed: int, end: datetime) -> pa.Table:
    """What each did, in order of time."""
    rows: dict[str, list[dict]] = {}
    for row in _examples(seed, end).to_pylist():
        rows.setdefault(row["user_id"], []).append(row)
    return pa.table(
        {
            "interval_end": pa.array([end] * len(rows), _TIME),
            "user_id": list(rows),
            "item_ids": [[one["item_id"] for one in own] for own in rows.values()],
            "timestamps": pa.array(
                [[one["timestamp"] for one in own] for own in rows.values()], pa.list_(_TIME)
            ),
            "strengths": [[one["strength"] for one in own] for own in rows.values()],
            "event_types": [[one["event_type"] for one in own] for own in rows.values()],
            "watch_shares": pa.array(
                [[None] * len(own) for own in rows.values()], pa.list_(pa.float64())
            ),
        }
    )


def _users() -> pa.Table:
    """Half of them women, but for nine who do not say."""
    told = [None if user % 10 == 9 else {"gender": "mf"[user % 2]} for user in range(90)]
    joined = [datetime(2026, 1, 1, tzinfo=UTC)] * 90
    return pa.table(
        {
            "user_id": [f"u{user:02}" for user in range(90)],
            "created_at": pa.array(joined, _TIME),
            "demographics": pa.array(told, pa.map_(pa.string(), pa.string())),
        }
    )


def _follows() -> pa.Table:
    return pa.table(
        {
            "follower_id": ["u00"],
            "followee_id": ["u01"],
            "since": pa.array([datetime(2026, 1, 5, tzinfo=UTC)], _TIME),
        }
    )


def _edges(end: datetime) -> pa.Table:
    return pa.table(
        {
            "interval_end": pa.array([end], _TIME),
            "source": ["u:u00"],
            "target": ["u:u01"],
            "relation": ["follows"],
            "since": pa.array([datetime(2026, 1, 5, tzinfo=UTC)], _TIME),
        }
    )


def _success(stage: str, interval: Interval, detail: dict) -> StageRun:
    return StageRun(
        run_id=run_id("tiny", interval),
        pipeline="tiny",
        stage=stage,
        interval_start=interval.start,
        interval_end=interval.end,
        status="succeeded",
        fingerprint=f"{stage} {interval}",
        started_at=interval.end,
        seconds=0.0,
        peak_memory_mb=0.0,
        rows_in=0,
        rows_out=0,
        tables_in={},
        tables_out={},
        spec_hash="",
        commit="",
        detail=detail,
    )
