from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.graph import Step
from pipelines.intervals import Interval, text
from pipelines.lake import Lake
from pipelines.plan import Planner
from pipelines.state import RunHistory, StageRun, fingerprint

T0 = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = Interval(T0, T0 + timedelta(hours=6))
SECOND = Interval(FIRST.end, FIRST.end + timedelta(hours=6))

INGEST = Step("ingest", "ingest", "data", "", options={"sources": "a"})
VALIDATE = Step("validate", "validate", "data", "", needs=("ingest",), writes=("events",))
FEATURES = Step(
    "user_features", "user_features", "features", "", needs=("validate",), writes=("user_features",)
)
CANDIDATES = Step("candidates", "candidates", "publication", "", needs=("user_features",))
CHAIN = (INGEST, VALIDATE, FEATURES, CANDIDATES)


class World:
    """A lake with its history, and an outside world that can be changed."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(str(folder), "shop")
        self.history = RunHistory(self.lake)
        self.source = "file 1"
        self.champions: Mapping[str, str] = {"gnn": "1"}
        self.registered = True

    def planner(self, interval: Interval) -> Planner:
        return Planner(
            self.lake,
            self.history,
            interval,
            source_digest=lambda: self.source,
            champions=lambda: self.champions,
            registered=lambda model, version: self.registered and (model, version) == ("gnn", "3"),
        )

    def succeed(self, step: Step, interval: Interval, *, rows: str = "rows") -> None:
        planner = self.planner(interval)
        end = pa.array([interval.end], pa.timestamp("us", tz="UTC"))
        for table in step.writes:
            self.lake.replace_interval(table, pa.table({"interval_end": end}), interval.end, {})
        self.record(
            step, interval, "succeeded", fingerprint(step, interval, planner.inputs(step)), rows
        )

    def record(
        self,
        step: Step,
        interval: Interval,
        status: str,
        mark: str,
        rows: str,
        detail: Mapping[str, int] | None = None,
    ) -> None:
        is_audit = step.kind == "validate"
        self.history.record(
            StageRun(
                run_id="r",
                pipeline="shop",
                stage=step.name,
                interval_start=interval.start,
                interval_end=interval.end,
                status=status,
                fingerprint=mark,
                started_at=datetime.now(UTC),
                seconds=0.0,
                peak_memory_mb=1.0,
                rows_in=0,
                rows_out=len(step.writes),
                tables_in={},
                tables_out={},
                spec_hash="s",
                commit="c",
                digest=rows if is_audit else "",
                covers_start=interval.start if is_audit else None,
                detail=(
                    {"dimensions": ["i"], "mapping": "m", "events": {text(interval.end): rows}}
                    if is_audit
                    else detail or {}
                ),
            )
        )

    def plan(self, interval: Interval, steps: tuple[Step, ...] = CHAIN) -> dict[str, str]:
        """Step → why it runs, of those that run."""
        return {d.step.name: d.reason for d in self.planner(interval).plan(steps) if d.runs}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def finished(world: World) -> World:
    for step in CHAIN:
        world.succeed(step, FIRST)
    return world


def test_everything_runs_in_an_empty_lake(world: World) -> None:
    assert world.plan(FIRST) == {
        "ingest": "it has not run yet",
        "validate": "`ingest` runs before it",
        "user_features": "`validate` runs before it",
        "candidates": "`user_features` runs before it",
    }


def test_nothing_runs_twice(finished: World) -> None:
    assert finished.plan(FIRST) == {}


def test_history_is_read_back_from_the_table(finished: World) -> None:
    finished.history = RunHistory(finished.lake)
    assert [run.stage for run in finished.history.runs] == [step.name for step in CHAIN]
    assert finished.plan(FIRST) == {}


def test_another_interval_has_its_own_history(finished: World) -> None:
    assert finished.plan(SECOND)["ingest"] == "it has not run yet"


def test_a_touched_source_stops_at_equal_rows(finished: World) -> None:
    finished.source = "file 2"
    assert finished.plan(FIRST)["ingest"] == "its options, code or inputs changed"
    finished.succeed(INGEST, FIRST)
    assert finished.plan(FIRST)["validate"] == "its options, code or inputs changed"
    finished.succeed(VALIDATE, FIRST, rows="rows")
    assert finished.plan(FIRST) == {}


def test_other_rows_go_on_to_the_features(finished: World) -> None:
    finished.succeed(VALIDATE, FIRST, rows="other rows")
    assert list(finished.plan(FIRST)) == ["user_features", "candidates"]


def test_a_corrected_interval_makes_later_ones_stale_and_no_earlier_one(finished: World) -> None:
    for step in CHAIN:
        finished.succeed(step, SECOND, rows="second")
    finished.succeed(VALIDATE, FIRST, rows="corrected")
    assert "user_features" in finished.plan(SECOND)
    for step in (FEATURES, CANDIDATES):
        finished.succeed(step, FIRST)
    finished.succeed(VALIDATE, SECOND, rows="second corrected")
    assert finished.plan(FIRST) == {}


@pytest.mark.parametrize(
    ("rows", "outdated"), [("first", []), ("other", [SECOND.end])], ids=["the same", "others"]
)
def test_an_older_interval_validated_later_outdates_others_only_if_its_rows_differ(
    world: World, rows: str, outdated: list[datetime]
) -> None:
    for step in CHAIN:
        world.succeed(step, SECOND, rows="second")
    whole = next(run for run in world.history.runs if run.stage == "validate")
    events = {text(FIRST.end): "first", text(SECOND.end): "second"}
    world.history.record(
        replace(whole, covers_start=None, detail={**whole.detail, "events": events})
    )
    for step in (FEATURES, CANDIDATES):
        world.succeed(step, SECOND)
    for step in (INGEST, VALIDATE):
        world.succeed(step, FIRST, rows=rows)
    assert world.history.outdated({"user_features"}) == outdated
    assert bool(world.plan(SECOND)) == bool(outdated)


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        pytest.param({"options": {"sources": "b"}}, "ingest", id="options"),
        pytest.param({"code": ("training",)}, "ingest", id="code"),
    ],
)
def test_a_changed_step_is_stale(finished: World, change: dict[str, object], stale: str) -> None:
    steps = (replace(INGEST, **change), *CHAIN[1:])
    assert finished.plan(FIRST, steps)[stale] == "its options, code or inputs changed"


def test_a_promotion_by_hand_changes_the_next_publication(finished: World) -> None:
    finished.champions = {"gnn": "2"}
    assert finished.plan(FIRST) == {"candidates": "its options, code or inputs changed"}


def test_a_failed_attempt_runs_again(finished: World) -> None:
    finished.record(FEATURES, FIRST, "failed", "x", "")
    assert finished.plan(FIRST)["user_features"] == "its last attempt failed"


def test_a_lost_table_is_made_again(finished: World, tmp_path: Path) -> None:
    (tmp_path / "shop" / "user_features").rename(tmp_path / "gone")
    assert finished.plan(FIRST)["user_features"] == "table `user_features` is gone"


def test_dropped_rows_are_made_again(finished: World) -> None:
    for step in CHAIN:
        finished.succeed(step, SECOND)
    finished.lake.drop_before("user_features", SECOND.end)
    assert finished.plan(SECOND) == {}
    assert finished.plan(FIRST)["user_features"] == "its rows are older than what is kept"


@pytest.mark.parametrize(
    ("relations", "states", "reason"),
    [
        (["follows"], 0, None),
        (["follows", "similar"], 1, None),
        (["follows"], 1, "its rows are older than what is kept"),
    ],
    ids=["none", "kept", "dropped"],
)
def test_what_an_interval_added_to_the_graph_is_not_its_state(
    finished: World, relations: list[str], states: int, reason: str | None
) -> None:
    graph = Step(
        "graph_edges", "graph_edges", "features", "", needs=("validate",), writes=("graph_edges",)
    )
    edges = {"interval_end": [FIRST.end] * len(relations), "relation": relations}
    finished.lake.replace_all("graph_edges", pa.table(edges), {})
    planner = finished.planner(FIRST)
    mark = fingerprint(graph, FIRST, planner.inputs(graph))
    finished.record(graph, FIRST, "succeeded", mark, "rows", {"states": states})
    decision = planner.decide(graph)
    assert (decision.reason if decision.runs else None) == reason


def test_coverage_counts_one_mapping_alone(finished: World) -> None:
    assert finished.history.covered_until("m") == FIRST.end
    assert finished.history.covered_until("another") is None


DECIDE = Step("decide", "decide", "training", "", needs=("validate",))
TRAIN = Step(
    *("train_gnn", "train", "training", ""),
    needs=("validate",),
    condition="decide",
    options={"model": "gnn"},
)
EVALUATE = Step(
    *("evaluate", "evaluate", "training", ""),
    needs=("validate",),
    optional=("train_gnn",),
    chosen_by="decide",
)


@pytest.fixture
def decided(world: World) -> Callable[..., None]:
    """Records verdicts on `train_gnn`."""
    for step in (INGEST, VALIDATE):
        world.succeed(step, FIRST)

    def verdict(*, due: bool) -> None:
        world.succeed(DECIDE, FIRST)
        reasons = {"train_gnn": "100 new events" if due else "no new events"}
        detail = {"due": reasons if due else {}, "not_due": {} if due else reasons}
        world.history.record(replace(world.history.runs[-1], detail=detail))

    return verdict


def test_a_step_that_is_not_due_is_passed_over(world: World, decided: Callable[..., None]) -> None:
    assert world.planner(FIRST).decide(TRAIN).reason == "`decide` has not run for this interval"
    decided(due=False)
    found = world.planner(FIRST).decide(TRAIN)
    assert (found.runs, found.is_due, found.reason) == (False, False, "not due: no new events")
    decided(due=True)
    found = world.planner(FIRST).decide(TRAIN)
    assert (found.runs, found.is_due, found.reason) == (True, True, "it has not run yet")


def test_a_version_that_is_gone_is_trained_again(
    world: World, decided: Callable[..., None]
) -> None:
    decided(due=True)
    world.succeed(TRAIN, FIRST)
    world.history.record(replace(world.history.runs[-1], detail={"version": "3"}))
    assert not world.planner(FIRST).decide(TRAIN).runs
    world.registered = False
    found = world.planner(FIRST).decide(TRAIN)
    assert (found.runs, found.reason) == (True, "its version 3 is gone from the registry")


def test_what_can_do_without_a_step_runs_when_it_failed_and_again_when_it_succeeded(
    world: World, decided: Callable[..., None]
) -> None:
    decided(due=True)
    world.record(TRAIN, FIRST, "failed", "x", "")
    assert world.planner(FIRST).decide(EVALUATE).runs
    world.succeed(EVALUATE, FIRST)
    assert not world.planner(FIRST).decide(EVALUATE).runs
    world.succeed(TRAIN, FIRST)
    found = world.planner(FIRST).decide(EVALUATE)
    assert (found.runs, found.reason) == (True, "its options, code or inputs changed")
