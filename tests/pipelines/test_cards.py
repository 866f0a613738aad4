"""What MLflow tells of versions that were trained, judged and judged again as champions."""

from __future__ import annotations

import json
import re
import shutil
from datetime import timedelta

import pytest
from model_world import END, ModelWorld

from pipelines.errors import StageError
from pipelines.stages.train import registry
from training.registry import Registry, Version

pytestmark = pytest.mark.slow

NEXT = END + timedelta(hours=6)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> ModelWorld:
    """Two intervals: in the second, item_knn has another option."""
    world = ModelWorld(tmp_path_factory.mktemp("world"))
    world.train()
    world.spec("neighbours: 7")
    world.train(NEXT)
    return world


@pytest.fixture(scope="module")
def models(world: ModelWorld) -> Registry:
    return registry(world.runner()._project)


@pytest.fixture(scope="module")
def versions(models: Registry) -> dict[str, Version]:
    return {one.version: one for one in models.versions("tiny.item_knn")}


def section(card: str, name: str) -> str:
    return card.split(f"## {name}\n\n", 1)[1].split("\n\n## ", 1)[0]


def test_a_card_says_what_the_gate_said(models, versions):
    assert section(models.card(versions["1"]), "Verdict").startswith("Promoted: ")
    assert section(models.card(versions["2"]), "Verdict") == versions["2"].tags["gate_reason"]


def test_a_card_says_what_changed_since_the_champion(models, versions):
    assert "Since champion" not in models.card(versions["1"])
    lines = section(models.card(versions["2"]), "Since champion version 1").splitlines()
    assert lines[0] == "- neighbours 100 -> 7"
    more = [json.loads(models.file(versions[one], "data.json"))["examples"] for one in "12"]
    assert lines[1] == (
        f"- examples: {more[1]['rows'] - more[0]['rows']:,} more rows, newest {more[1]['newest']}"
    )
    assert more[1]["newest"].startswith("2026-02-01T0")


def test_a_card_says_what_it_was_judged_on_and_what_it_cost(world, models, versions):
    [row, *_] = world.rows("metrics", NEXT)
    card = models.card(versions["2"])
    assert f"frozen test set {row['test_set'][:12]}" in card
    assert "liked from 2026-01-30T06:00Z to 2026-02-01T06:00Z (UTC)" in card
    [run] = [
        run
        for run in world.runner().history.runs
        if (run.stage, run.interval_end, run.status) == ("train_item_knn", NEXT, "succeeded")
    ]
    assert run.cpu_seconds is not None
    assert f"Its training took {run.seconds:,.1f} seconds" in section(card, "Cost")
    assert f"{run.cpu_seconds:,.1f} seconds of processors" in section(card, "Cost")
    metrics = models._client.get_run(versions["2"].mlflow_run).data.metrics
    assert metrics["cost/seconds"] == run.seconds
    assert metrics["cost/core_hours"] == run.cpu_seconds / 3600


def test_metrics_have_intervals_and_groups(world, models, versions):
    metrics = models._client.get_run(versions["2"].mlflow_run).data.metrics
    rows = {
        (row["metric"], row["group"]): row
        for row in world.rows("metrics", NEXT)
        if (row["model_name"], row["role"]) == ("item_knn", "challenger")
    }
    everybody, heavy = rows["ndcg@10", "all"], rows["ndcg@10", "heavy"]
    assert metrics["ndcg_at_10"] == everybody["value"]
    assert metrics["low/ndcg_at_10"] == everybody["low"]
    assert metrics["high/ndcg_at_10"] == everybody["high"]
    assert heavy["users"] >= 20
    assert metrics["heavy/ndcg_at_10"] == heavy["value"]


def test_a_group_that_the_spec_names_is_judged_and_shown(world, models, versions):
    rows = {
        (row["metric"], row["group"]): row
        for row in world.rows("metrics", NEXT)
        if (row["model_name"], row["role"]) == ("item_knn", "challenger")
    }
    judged = [row for row in world.rows("evaluations", NEXT) if row["role"] == "challenger"]
    women = {row["user_id"] for row in judged if "women" in row["groups"]}
    assert women == {
        row["user_id"] for row in judged if int(row["user_id"][1:]) % 10 in (1, 3, 5, 7)
    }
    assert rows["ndcg@10", "women"]["users"] == len(women) >= 20
    card = models.card(versions["2"])
    assert (
        "| metric&emsp; | all&emsp; | new&emsp; | light&emsp; | heavy&emsp; | women&emsp; |" in card
    )
    assert "gender" not in card
    held = versions["2"].tags["gate_check_women"]
    assert re.fullmatch(
        rf"users `women` [+-]\d+\.\d\d% \(.* over {len(women)} users; at most -50\.00%, beyond noise\)",
        held,
    )
    metrics = models._client.get_run(versions["2"].mlflow_run).data.metrics
    assert metrics["women/ndcg_at_10"] == rows["ndcg@10", "women"]["value"]


def test_a_group_whose_key_nobody_has_is_refused(tmp_path):
    world = ModelWorld(tmp_path)
    world.spec(groups="{women: {sex: f}}")
    world.features(END)
    with pytest.raises(StageError) as caught:
        world.run("train_popularity", "evaluate")
    assert str(caught.value) == (
        "The group of users `women` asks for `sex`, which no user's demographics have.\n"
        "  Write another key in evaluation.groups.women. Known: gender."
    )


def test_a_champion_judged_again_makes_a_series_by_its_age(world, models, versions):
    run = versions["1"].mlflow_run
    [row] = [
        row["value"]
        for row in world.rows("metrics", NEXT)
        if (row["model_name"], row["role"], row["metric"], row["group"])
        == ("item_knn", "champion", "ndcg@10", "all")
    ]
    history = models._client.get_metric_history(run, "champion/ndcg_at_10")
    assert [(one.step, one.value) for one in history] == [(6, row)]
    assert len(models._client.get_metric_history(run, "ndcg_at_10")) == 1


def test_the_pictures_lie_beside_the_model(models, versions):
    for version in versions.values():
        found = models._client.list_artifacts(version.mlflow_run, "plots")
        assert [one.path for one in found] == [
            "plots/coverage_against_popularity.png",
            "plots/ndcg_by_group.png",
        ]
        assert all(one.file_size > 10_000 for one in found)
        assert models.fetch(version), "its own files are as they were registered"


def test_an_old_version_judged_on_the_same_data_has_its_stored_metrics(world, models):
    """RG-08: also by a process that knows nothing but the registry and the tables."""
    stored = world.rows("metrics", END)
    pictured = {row["model_version"] for row in stored}
    assert pictured == {"1"}
    world.run("evaluate", end=END)
    assert world.rows("metrics", END) == stored


def test_every_judged_version_adds_to_the_history(world):
    found = [
        (row["interval_end"], row["model_version"], row["role"])
        for end in (END, NEXT)
        for row in world.rows("metrics", end)
        if (row["model_name"], row["metric"], row["group"]) == ("item_knn", "ndcg@10", "all")
    ]
    assert found == [(END, "1", "challenger"), (NEXT, "2", "challenger"), (NEXT, "1", "champion")]


def test_what_is_cached_can_be_lost(world, models, versions):
    def judged() -> list[dict]:
        return [row for row in world.rows("metrics", NEXT) if row["model_name"] == "item_knn"]

    stored = judged()
    shutil.rmtree(world.root / ".cache")
    world.run("train_item_knn", "evaluate", end=NEXT)
    assert judged() == stored
    assert models.versions("tiny.item_knn") == list(versions.values())


def test_the_store_shows_a_run(models, versions):
    version = versions["1"]
    assert models.champion(version.name) == version
    run = models._client.get_run(version.mlflow_run)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"neighbours": "100", "shrinkage": "10.0", "half_life_days": "0.0"}
    assert {"ndcg_at_10", "train_positives", "cost/seconds"} <= set(run.data.metrics)
    files = {one.path for one in models._client.list_artifacts(version.mlflow_run)}
    assert files == {"model", "plots", "spec.json", "data.json"}


def test_a_card_names_the_options_of_its_fit_not_those_of_the_spec(world, models, versions):
    world.run("evaluate", end=END)
    options = section(models.card(versions["1"]), "Options")
    assert "| neighbours&emsp; | `100`&emsp; |" in options.splitlines()


def test_a_card_written_again_keeps_verdict_and_changes(world, models, versions):
    before = models.card(versions["2"])
    world.run("evaluate", end=NEXT)
    assert models.card(versions["2"]) == before
