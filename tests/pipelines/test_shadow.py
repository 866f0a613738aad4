"""The lists that a challenger would give, made beside those of the champion and shown."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest
from model_world import END, ModelWorld

from pipelines.errors import StageError
from pipelines.graph import EVERYBODY, select
from pipelines.intervals import Interval
from pipelines.stages import shadow
from pipelines.stages.train import registry
from pipelines.summary import report, report_text
from training.registry import Registry, Version

pytestmark = pytest.mark.slow

NEXT = END + timedelta(hours=6)
NAME = "tiny.item_knn"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> ModelWorld:
    """In the second interval a challenger is rejected, in the first there is none."""
    world = ModelWorld(tmp_path_factory.mktemp("world"))
    world.train()
    world.run("candidates", "shadow")
    world.spec("neighbours: 7")
    world.train(NEXT)
    world.run("candidates", "shadow", end=NEXT)
    return world


@pytest.fixture(scope="module")
def models(world: ModelWorld) -> Registry:
    return registry(world.runner()._project)


@pytest.fixture(scope="module")
def challenger(models: Registry) -> Version:
    return models.get(NAME, "2")


def test_champions_have_no_shadow(world, models):
    assert world.rows("shadow_candidates") == []
    assert "## Shadow" not in models.card(models.get(NAME, "1"))


def test_lists_are_made_with_the_challenger_in_the_champions_place(world, challenger):
    assert challenger.status == "rejected"
    rows = world.rows("shadow_candidates", NEXT)
    assert {(row["challenger"], row["challenger_version"]) for row in rows} == {("item_knn", "2")}
    assert {row["model_version"] for row in rows if row["source"] == "item_knn"} == {"2"}
    served = world.rows("staged_candidates", NEXT)
    assert {row["model_version"] for row in served if row["source"] == "item_knn"} == {"1"}
    assert {row["user_id"] for row in rows} == {row["user_id"] for row in served}


def test_the_differences_are_those_of_the_two_tables(world, models, challenger):
    def lists(table: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for row in sorted(world.rows(table, NEXT), key=lambda row: row["rank"]):
            found.setdefault(row["user_id"], []).append(row["item_id"])
        del found[EVERYBODY]
        return found

    served, other = lists("staged_candidates"), lists("shadow_candidates")
    shared = [len({*served[user]} & {*other[user]}) / 10 for user in served]
    changed = [served[user][0] != other[user][0] for user in served]
    metrics = models._client.get_run(challenger.mlflow_run).data.metrics
    assert metrics["shadow/overlap_at_10"] == pytest.approx(sum(shared) / 90)
    assert metrics["shadow/first_changed"] == pytest.approx(sum(changed) / 90)
    assert metrics["shadow/low/overlap_at_10"] < metrics["shadow/overlap_at_10"] < 1
    reached = [len({item for own in found.values() for item in own}) for found in (other, served)]
    shift = (reached[0] - reached[1]) / 200
    assert metrics["shadow/coverage_shift_at_10"] == pytest.approx(shift)
    assert {"shadow/heavy/overlap_at_10", "shadow/mean_popularity_shift_at_10"} <= set(metrics)


def test_the_card_and_the_report_show_them(world, models, challenger):
    text = models.card(challenger).split("## Shadow\n\n")[1].split("\n\n## ")[0]
    assert text.startswith(
        "Lists of 90 users of the interval that ends at 2026-02-01T06:00Z, with this version in "
        "place of champion version 1, beside those that were made without it.\n\n| difference&emsp; | "
    )
    project = world.runner()._project
    found = report(project)
    assert json.loads(json.dumps(found)) == found
    [_, last] = found["intervals"]
    assert last["shadow"]["item_knn"]["version"] == "2"
    assert "  shadow: item_knn   version 2: " in report_text(found)


def test_the_card_keeps_them_when_the_version_is_judged_again(world, models, challenger):
    before = models.card(challenger)
    world.run("evaluate", end=NEXT)
    assert models.card(challenger) == before


def test_a_promoted_challenger_casts_no_shadow(world, tmp_path):
    copy = ModelWorld.of(shutil.copytree(world.root, tmp_path / "copy"))
    models = registry(copy.runner()._project)
    for end, rivals in ((NEXT, set()), (END, set())):
        models._client.set_registered_model_alias(NAME, "champion", "2")
        copy.run("shadow", end=end)
        assert {row["challenger"] for row in copy.rows("shadow_candidates", end)} == rivals


def test_nothing_waits_for_it(world):
    steps = world.runner()._project.steps
    [step] = [step for step in steps if step.name == "shadow"]
    assert [one.name for one in steps if step.name in one.required] == []
    assert "publish" not in {one.name for one in select(steps, "shadow+")}


def test_large_worlds_are_sampled_the_same_way_each_time(monkeypatch):
    monkeypatch.setattr(shadow, "_USERS", 5)
    users = [f"u{number}" for number in range(100)]
    first = shadow._sample(pa.array([EVERYBODY, *users])).to_pylist()
    assert first[0] == EVERYBODY
    assert len(first) == 6
    assert set(first[1:]) < set(users)
    without = [user for user in users if user not in first[1:3]]
    again = shadow._sample(pa.array([EVERYBODY, *without])).to_pylist()
    assert set(first[3:]) < set(again)
    few = pa.array([EVERYBODY, "b", "a"])
    assert shadow._sample(few).to_pylist() == [EVERYBODY, "b", "a"]


def test_a_failure_holds_up_nothing(world, tmp_path, monkeypatch):
    def fail(_context):
        raise StageError("No memory for it.")

    copy = ModelWorld.of(shutil.copytree(world.root, tmp_path / "copy"))
    monkeypatch.setattr(shadow, "run", fail)
    copy.done("drift", "publish", end=NEXT)
    with copy.runner() as runner:
        steps = [one for one in runner._project.steps if one.name in ("shadow", "maintain")]
        outcome = runner.run(
            [replace(steps[0], options={"changed": True}), steps[1]], Interval(END, NEXT)
        )
    assert outcome.ran == ("maintain",)
    assert [str(error) for error in outcome.failures.values()] == ["No memory for it."]
