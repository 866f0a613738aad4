"""The stage that judges drift, on tables that the test writes: what it tells, and what it blocks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from receivers import posted

from pipelines.context import StageContext
from pipelines.errors import DriftError, StageError
from pipelines.intervals import Interval
from pipelines.lake import Lake
from pipelines.project import Project
from pipelines.runner import Runner
from pipelines.stages import drift
from pipelines.stages.drift_figures import figures
from pipelines.stages.snapshot import micros
from pipelines.state import RunHistory, StageRun
from training.drift import DriftThresholds
from training.drift_taste import Tastes

pytestmark = pytest.mark.slow

END = datetime(2026, 2, 1, 6, tzinfo=UTC)
EVERY = timedelta(hours=6)
MOMENT = pa.timestamp("us", tz="UTC")


class World:
    """A lake with 20 quiet days, in which `shifted` intervals differ."""

    def __init__(self, folder: Path, sets: Sequence[str] = (), shifted: int = 0) -> None:
        self.lines: list[str] = []
        self.project = Project.load(
            "demo",
            sets=[
                f"environment.lake={folder / 'lake'}",
                f"environment.reports={folder / 'reports'}",
                f"environment.mlflow.artifacts={folder / 'artifacts'}",
                "drift.columns=[device, watch_share]",
                *sets,
            ],
        )
        self.lake = Lake(str(folder / "lake"), "demo")
        rng = np.random.default_rng(3)
        parts = [self._examples(rng, back, back < shifted) for back in range(20 * 4)]
        self.lake.replace_all("examples", pa.concat_tables(parts), {})
        self.lake.replace_all("metrics", metrics([]), {})
        self.lake.replace_all("item_modalities", no_media(), {})
        self.staged: list[pa.Table] = []
        self.stage_candidates(END)

    def _examples(self, rng: np.random.Generator, back: int, shifted: bool) -> pa.Table:
        rows = 150
        end = END - back * EVERY
        return pa.table(
            {
                "timestamp": pa.array([end - timedelta(hours=1)] * rows, MOMENT),
                "user_id": [f"u{number}" for number in rng.integers(0, 400, rows)],
                "item_id": [f"i{number}" for number in rng.integers(0, 300, rows)],
                "device": rng.choice(
                    ["tv", "phone"], rows, p=[0.6, 0.4] if shifted else [0.2, 0.8]
                ),
                "watch_share": rng.random(rows),
                "strength": np.ones(rows),
                "item_category": ["tea"] * rows,
            }
        )

    def stage_candidates(
        self, end: datetime, version: str = "1", shift: float = 0.0, **detail: Any
    ) -> None:
        """Write an interval's lists and the record that says who made them."""
        rng = np.random.default_rng([7, int(end.timestamp())])
        rows = 400
        self.staged.append(
            pa.table(
                {
                    "user_id": [f"u{number}" for number in range(rows)],
                    "item_id": [f"i{number % 300}" for number in range(rows)],
                    "rank": np.ones(rows, np.int32),
                    "score": rng.normal(shift, 1.0, rows),
                    "model_name": ["gnn"] * rows,
                    "interval_end": pa.array([end] * rows, MOMENT),
                }
            )
        )
        self.lake.replace_all("staged_candidates", pa.concat_tables(self.staged), {})
        made = {"versions": {"gnn": version, "popularity": "9"}, "weights": {"gnn": 1.0}}
        self.record("candidates", end, {**made, **detail}, rows)
        self.record("modalities", end)
        self.record("evaluate", end, {"costs": {f"demo.gnn {version}": {"score_ms": 1.5}}})

    def record(self, stage: str, end: datetime, detail: Any = None, rows: int = 0) -> None:
        history = RunHistory(self.lake)
        history.record(
            StageRun(
                run_id="", pipeline="demo", stage=stage, interval_start=end - EVERY,
                interval_end=end, status="succeeded", fingerprint="", started_at=datetime.now(UTC),
                seconds=1.0, peak_memory_mb=0.0, rows_in=0, rows_out=rows, tables_in={},
                tables_out={}, spec_hash="", commit="", detail=detail or {},
            )
        )  # fmt: skip

    def context(self, end: datetime = END) -> StageContext:
        [step] = [step for step in self.project.steps if step.name == "drift"]
        engines: Any = SimpleNamespace()
        return StageContext(
            self.project, step, Interval(end - EVERY, end), self.lake, RunHistory(self.lake),
            engines, "", self.lines.append,
        )  # fmt: skip

    def verdict(self, end: datetime = END) -> dict[str, Any]:
        """Run the stage and keep its record, as the runner does."""
        result = drift.run(self.context(end))
        self.record("drift", end, dict(result.detail))
        return dict(result.detail["verdict"])


def test_tastes_are_judged_though_no_column_of_theirs_is_watched(tmp_path):
    world = World(tmp_path)
    rows = world.lake.arrow("examples")
    now = pc.greater_equal(rows["timestamp"], pa.scalar(END - EVERY, MOMENT)).to_numpy()
    user = np.array([int(user[1:]) for user in rows["user_id"].to_pylist()])
    kind = np.char.add("kind ", ((user + now) % 3).astype(str))
    place = rows.column_names.index("item_category")
    changed = rows.set_column(place, "item_category", pa.array(kind))
    world.lake.replace_all("examples", changed, {})
    verdict = world.verdict()
    assert verdict["columns"] == ["taste"]
    assert verdict["reasons"][0] == (
        "1 of 4 columns drifted: taste: rows share their category with 100% -> 0% of the earlier "
        "rows of the same people, since 2026-02-01T06:00Z"
    )


def metrics(
    rows: Sequence[tuple[datetime, str, str, float]],
    *,
    metric: str = "ndcg@10",
    group: str = "all",
    users: int = 100,
) -> pa.Table:
    """A metric of models: end, name, version, value."""
    return pa.table(
        {
            "interval_end": pa.array([row[0] for row in rows], MOMENT),
            "model_name": pa.array([row[1] for row in rows], pa.string()),
            "model_version": pa.array([row[2] for row in rows], pa.string()),
            "role": pa.array(["champion"] * len(rows), pa.string()),
            "metric": pa.array([metric] * len(rows), pa.string()),
            "group": pa.array([group] * len(rows), pa.string()),
            "value": pa.array([row[3] for row in rows], pa.float64()),
            "users": pa.array([users] * len(rows), pa.int64()),
        }
    )


def no_media() -> pa.Table:
    """Of items without vectors: none has a state of any medium."""
    text = [f"{medium}_embedding_state" for medium in ("video", "audio", "text")]
    columns = {name: pa.array([], pa.string()) for name in ("item_id", *text)}
    return pa.table({**columns, "interval_end": pa.array([], MOMENT)})


def test_quiet_days_are_no_drift(tmp_path: Path) -> None:
    world = World(tmp_path)
    found = world.verdict()
    assert (found["outcome"], found["columns"], found["named"]) == ("no drift", [], [])


def test_the_same_words_stand_everywhere(tmp_path: Path) -> None:
    with posted() as (url, got):
        world = World(tmp_path, [f"alerts=[{{to: webhook, url: '{url}'}}]"], shifted=2)
        result = drift.run(world.context())
    found = result.detail["verdict"]
    words = found["reasons"]
    assert words[0].startswith("1 of 4 columns drifted: device: tv 17% -> 54% ")
    assert words[-2:] == [
        "scores are not compared: they are the first ones of gnn v1",
        "quality of gnn is not judged: ndcg@10 was not measured",
    ]
    done = (
        "the candidates are published all the same (drift.on_drift: warn); the next interval "
        f"trains {', '.join(world.project.models)} (retrain.data_drift)"
    )
    assert done in words
    assert world.lines == words
    assert result.message == "; ".join(["drifted", *words])
    folder = Path(found["report"]).parent
    assert json.loads((folder / "verdict.json").read_text())["words"] == words
    page = (folder / "drift.html").read_text()
    assert all(line.split(" -> ")[0] in page for line in words)
    [alert] = [json.loads(body) for body in got]
    assert alert["kind"] == "drift"
    assert alert["message"] == "\n".join(words)


def test_an_episode_is_told_once_and_since_its_beginning(tmp_path: Path) -> None:
    with posted() as (url, got):
        world = World(tmp_path, [f"alerts=[{{to: webhook, url: '{url}'}}]"], shifted=3)
        world.stage_candidates(END - EVERY)
        first = world.verdict(END - EVERY)
        assert first["named"] == ["device"]
        world.verdict(END - EVERY)  # a repeated attempt tells nobody again
        second = world.verdict()
        assert second["named"] == ["device"]
        assert second["since"] == first["since"]
    assert len(got) == 1


def test_a_target_that_cannot_be_reached_costs_a_line(tmp_path: Path) -> None:
    targets = "alerts=[{to: webhook, url: 'http://127.0.0.1:9/hook'}]"
    world = World(tmp_path, [targets], shifted=2)
    assert world.verdict()["outcome"] == "drifted"
    assert world.lines[-1].startswith("alert to webhook: ")


@pytest.mark.parametrize(("version", "shift", "named"), [("1", 3.0, True), ("2", 3.0, False)])
def test_scores_are_held_against_those_of_the_same_champions(
    tmp_path: Path, version: str, shift: float, named: bool
) -> None:
    world = World(tmp_path)
    world.stage_candidates(END + EVERY, version, shift)
    words = world.verdict(END + EVERY)
    assert ("prediction.score" in words["columns"]) is named
    said = "scores are not compared: they are the first ones of gnn v2"
    assert (said in words["reasons"]) is not named


def test_scores_of_the_baseline_alone_are_not_compared(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.stage_candidates(END + EVERY, shift=3.0, weights={})
    assert (
        "scores are not compared: they are those of the baseline alone"
        in (world.verdict(END + EVERY)["reasons"])
    )


@pytest.mark.parametrize(
    ("age", "counts"),
    [
        (timedelta(days=7) - EVERY, True),
        (timedelta(days=7), True),
        (timedelta(days=7) + EVERY, False),
    ],
)
def test_the_history_of_quality_is_seven_days(tmp_path: Path, age: timedelta, counts: bool) -> None:
    """DM-01: an interval that ended seven days before counts, one before it does not."""
    world = World(tmp_path)
    world.stage_candidates(END - age)
    values = [(END, "gnn", "1", 0.5), (END - age, "gnn", "1", 0.8)]
    world.lake.replace_all("metrics", metrics(values), {})
    found = world.verdict()
    assert found["quality_dropped"] is counts
    assert ("quality of gnn" in found["named"]) is counts


def test_every_served_model_is_watched(tmp_path: Path) -> None:
    """DM-07: one that was not measured keeps no other out."""
    world = World(tmp_path)
    both = {
        "versions": {"gnn": "1", "item_knn": "4", "transformer": "2"},
        "weights": {"gnn": 2.0, "item_knn": 1.0, "transformer": 1.0},
    }
    for end in (END - EVERY, END):
        world.stage_candidates(end, **both)
    values = [
        (END - EVERY, "gnn", "1", 0.8),
        (END, "gnn", "1", 0.8),
        (END - EVERY, "item_knn", "4", 0.8),
        (END, "item_knn", "4", 0.7),
    ]
    world.lake.replace_all("metrics", metrics(values), {})
    found = world.verdict()
    assert found["named"] == ["quality of item_knn"]
    assert "quality of transformer is not judged: ndcg@10 was not measured" in found["reasons"]


def test_what_is_slow_is_told_once_and_blocks_nothing(tmp_path: Path) -> None:
    """DM-05 and DM-06: one model above its limit, and lists below theirs."""
    limits = ["drift.score_ms=1.4", "drift.rows_per_second=401", "drift.on_drift=block"]
    with posted() as (url, got):
        world = World(tmp_path, [*limits, f"alerts=[{{to: webhook, url: '{url}'}}]"])
        for _ in range(2):
            found = world.verdict()
    assert found["outcome"] == "no drift"
    assert found["named"] == ["latency of gnn", "throughput of candidates"]
    assert world.lines[:3] == [
        "no drift",
        "gnn takes 1.5 ms to score a user (limit 1.4)",
        "candidates makes 400 rows a second (at least 401)",
    ]
    assert len(got) == 1


def test_drift_that_blocks_keeps_yesterdays_candidates_served(tmp_path: Path) -> None:
    world = World(tmp_path, ["drift.on_drift=block"], shifted=2)
    yesterday = pa.table({"user_id": ["u1"], "item_id": ["i1"], "rank": [1]})
    world.lake.replace_all("candidates", yesterday, {})
    steps = {step.name: step for step in world.project.steps}
    interval = Interval(END - EVERY, END)
    with Runner(world.project, world.lines.append) as runner:
        with pytest.raises(DriftError) as caught:
            runner.run_stage(steps["drift"], interval)
        assert caught.value.exit_code == 3
        assert "device: tv 17% -> 54% " in str(caught.value)
        assert "the candidates are kept back and the former ones stay served" in str(caught.value)
        assert "drift.on_drift=warn" in str(caught.value.next_command)
        with pytest.raises(StageError, match="needs `drift`, which has not succeeded"):
            runner.run_stage(steps["publish"], interval)
    assert world.lake.arrow("candidates").equals(yesterday)


def test_the_dashboard_draws_what_the_interval_has(tmp_path: Path) -> None:
    world = World(tmp_path)
    before = END - world.project.pipeline.evaluation.test
    world.stage_candidates(before)
    world.lake.replace_all(
        "metrics",
        pa.concat_tables(
            [
                metrics([(END, "gnn", "1", 0.4), (END, "gnn", "2", 0.9)]),
                metrics([(END, "gnn", "1", 0.7)], metric="coverage@10"),
                metrics([(END, "gnn", "1", 0.5)], group="heavy"),
                metrics([(END, "gnn", "1", 0.2)], group="light"),
                metrics([(END, "gnn", "1", 0.0)], group="new", users=19),
            ]
        ),
        {},
    )
    world.record("validate", END, {"rows": {"events": {"quarantined": 3}}})
    # Of the two likes of u0 only i0 is on the list; u400 gets the list of everybody, which is none.
    likes = pa.table(
        {
            "timestamp": pa.array([before, before, END - timedelta(hours=2)], MOMENT),
            "user_id": ["u0", "u0", "u400"],
            "item_id": ["i0", "i1", "i0"],
            "strength": [1.0, 1.0, 1.0],
        }
    )
    world.lake.replace_all("examples", likes, {})
    verdict: Any = SimpleNamespace(share=0.25)
    served = {"versions": {"gnn": "1"}}
    tastes = Tastes(np.array([0, micros(END) - 1]), np.array([0.9, 0.3]), np.zeros(2))
    found = figures(world.context(), verdict, likes, tastes, served)
    later = found.pop("Former lists, on what was liked since")
    assert later == pytest.approx({"hit_rate@10": 0.5, "ndcg@10": 0.5 / (1 + 1 / np.log2(3))})
    assert found == {
        "Share of drifted columns": {"of all compared": 0.25},
        "ndcg@10 on the test set": {"gnn": 0.4},
        "Share of the catalogue on some list (coverage@10)": {"gnn": 0.7},
        "Gap between groups of users (ndcg@10)": {"gnn": 0.3},
        "Taste: share of a person's earlier rows that have a row's category": {"mean": 0.3},
        "Milliseconds to score a user": {"gnn": 1.5},
        "Rows a second": {"candidates": 400.0},
        "Rows of a stage": {"validate": 0.0, "candidates": 400.0},
        "Rows quarantined": {"events": 3.0},
        "Seconds of a stage": dict.fromkeys(
            ("validate", "modalities", "evaluate", "candidates"), 1.0
        ),
        "Hours from the newest event to the end of the interval": {"events": 2.0},
    }


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        ("psi=0.3", "psi", 0.3),
        ("share=0.4", "column_share", 0.4),
        ("reference=14d", "reference", timedelta(days=14)),
        ("false_alarm=0.01", "false_alarm", 0.01),
        ("null_rate=0.2", "null_rate", 0.2),
        ("skewness=9", "skewness", 9.0),
        ("outlier_percentage=50", "outlier_percentage", 50.0),
        ("quality_drop=0.2", "quality_drop", 0.2),
        ("sample=700", "sample_rows", 700),
        ("min_rows=90", "min_rows", 90),
        ("min_people=3", "min_people", 3),
    ],
)
def test_limits_of_the_spec_are_those_of_the_verdict(option: str, field: str, value: Any) -> None:
    def limits(*sets: str) -> DriftThresholds:
        context: Any = SimpleNamespace(project=Project.load("demo", sets=sets))
        return drift.thresholds(context)

    assert getattr(limits(), field) == getattr(DriftThresholds(), field)
    assert getattr(limits(f"drift.{option}"), field) == value


def test_ignored_and_sensitive_columns_are_never_compared() -> None:
    context: Any = SimpleNamespace(project=Project.load("demo", sets=["drift.ignore=[device]"]))
    ignored = drift.thresholds(context).ignore
    assert "device" in ignored
    assert "hour_sin" not in ignored
    assert "demographics" in ignored
