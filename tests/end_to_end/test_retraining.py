"""When models are trained anew, what a failing one stops, and what old intervals get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from lake_state import registry_state, rows_hash
from mlflow import MlflowClient
from prepared_world import ENDS, prepared
from shop_world import Shop

from pipelines.intervals import interval_ending, parse_moment
from pipelines.runner import Outcome
from pipelines.stages.train import registry

pytestmark = pytest.mark.slow

FIRST, SECOND, THIRD = ENDS


def run(shop: Shop, at: str, *sets: str) -> Outcome:
    with shop.runner(*sets) as runner:
        return runner.run(shop.project(*sets).steps, runner.interval(at))


def detail(shop: Shop, stage: str, at: str) -> dict[str, object]:
    """What the newest success of a stage noted."""
    rows = DeltaTable(shop.lake / "runs").to_pyarrow_table().sort_by("started_at").to_pylist()
    found = [
        row["detail"]
        for row in rows
        if row["stage"] == stage
        and row["status"] == "succeeded"
        and f"{row['interval_end']:%Y-%m-%dT%H:%MZ}" == at
    ]
    return json.loads(found[-1])


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with one whole interval and the features of the next ones."""
    shop = prepared(tmp_path_factory.mktemp("begun") / "shop", tmp_path_factory)
    run(shop, FIRST)
    return shop


def test_a_model_that_fails_stops_no_other(
    begun: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.models import MODELS

    shop = begun.copy(tmp_path / "shop")
    with monkeypatch.context() as broken:
        broken.setattr(MODELS["item_knn"], "fit", lambda *_: 1 / 0)
        outcome = run(shop, SECOND)
    assert list(outcome.failures) == ["train_item_knn"]
    assert {"train_popularity", "evaluate", "gate", "candidates", "publish"} <= set(outcome.ran)
    versions = detail(shop, "candidates", SECOND)["versions"]
    assert versions == {"item_knn": "1", "popularity": "2"}
    verdict = detail(shop, "gate", SECOND)["verdicts"]["item_knn"]
    assert verdict["reason"] == "Not trained: its training failed."
    outcome = run(shop, SECOND)
    assert outcome.failures == {}
    assert outcome.ran[0] == "train_item_knn"
    assert "evaluate" in outcome.ran
    assert "train_popularity" in outcome.skipped


def test_nothing_is_judged_before_it_was_decided(begun: Shop, tmp_path: Path) -> None:
    shop = begun.copy(tmp_path / "shop")
    done = shop.sextant("stage", "shop", "evaluate", "--at", SECOND, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "Stage `evaluate` needs `decide`, which has not succeeded for the interval that ends at "
        f"{SECOND}.\n\nNext: sextant stage shop decide --at {SECOND}\n"
    )


def test_two_triggers_of_an_interval_fit_once(
    begun: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.models import MODELS

    shop = begun.copy(tmp_path / "shop")
    fitted: list[int] = []
    fit = MODELS["item_knn"].fit

    def counted(*arguments: Any) -> Any:
        fitted.append(1)
        return fit(*arguments)

    monkeypatch.setattr(MODELS["item_knn"], "fit", counted)
    run(shop, SECOND)
    first = detail(shop, "train_item_knn", SECOND)
    registered = registry_state(shop)
    train = ("stage", "shop", "train_item_knn", "--at", SECOND)
    for forced in ((), ("--set", "retrain.force=true")):
        told = json.loads(shop.sextant(*train, "--json", *forced).stdout)
        assert told["message"] == (
            "shop.item_knn version 2 is this very fit already: nothing was fitted"
        )
        assert told["detail"] == first
    assert len(fitted) == 1
    assert registry_state(shop) == registered
    store = MlflowClient(tracking_uri=shop.project().tracking_uri)
    store.delete_model_version("shop.item_knn", "2")
    shop.sextant(*train)
    assert len(fitted) == 2
    assert detail(shop, "train_item_knn", SECOND)["version"] == "3"


def test_nothing_new_trains_nothing_and_serves_the_champions(begun: Shop, tmp_path: Path) -> None:
    shop = begun.copy(tmp_path / "shop")
    registered = registry_state(shop)
    quiet = "retrain.new_events=1000000"
    outcome = run(shop, SECOND, quiet)
    assert set(outcome.not_due) == {"train_popularity", "train_item_knn"}
    assert outcome.not_due["train_item_knn"].startswith("not due: trained for 2026-03-12T12:00Z, ")
    assert {"evaluate", "drift", "candidates", "publish"} <= set(outcome.ran)
    assert registry_state(shop) == registered
    assert detail(shop, "candidates", SECOND)["versions"] == {"item_knn": "1", "popularity": "1"}
    roles = DeltaTable(shop.lake / "evaluations").to_pyarrow_table().to_pylist()
    assert {row["role"] for row in roles if f"{row['interval_end']:%H}" == "18"} == {"champion"}
    forced = run(shop, SECOND, quiet, "retrain.force=true", "retrain.models=[item_knn]")
    assert "train_item_knn" in forced.ran
    assert forced.not_due == {
        "train_popularity": "not due: this run is to train item_knn alone",
    }


def test_a_rejected_model_is_not_due_again_for_its_age_alone(begun: Shop, tmp_path: Path) -> None:
    shop = begun.copy(tmp_path / "shop")
    run(shop, SECOND, "gate.min_lift=100")
    assert detail(shop, "gate", SECOND)["verdicts"]["item_knn"]["outcome"] == "rejected"
    # Twelve hours after its champion was trained, and six after the rejected challenger.
    rules = ("max_age=6h", "new_events=1000000", "quality_drop=false", "data_drift=false")
    shop.run(THIRD, "+decide", *(f"retrain.{rule}" for rule in rules))
    assert set(detail(shop, "decide", THIRD)["not_due"]) == {"train_popularity", "train_item_knn"}


@pytest.mark.parametrize("shifted", [False, True])
def test_a_shift_of_the_data_makes_the_next_interval_train(
    begun: Shop, tmp_path: Path, shifted: bool
) -> None:
    shop = begun.copy(tmp_path / "shop")
    header, *rows = shop.events()
    begin = int(interval_ending(parse_moment(SECOND), "6h").start.timestamp())
    for number, (user, sku, _, stars) in enumerate(rows[::12]):
        rows.append([user, sku, str(begin + 280 * number), "3" if shifted else stars])
    shop.write_events([header, *rows])
    # The scores are the other of two columns.
    drift = ("drift.columns=[strength]", "drift.share=0.4")
    sets = ("retrain.new_events=1000000", "retrain.quality_drop=false", *drift)
    run(shop, SECOND, *sets)
    assert detail(shop, "drift", SECOND)["verdict"]["columns"] == (["strength"] if shifted else [])
    outcome = run(shop, THIRD, *sets)
    trainings = {"train_popularity", "train_item_knn"}
    if shifted:
        assert detail(shop, "decide", THIRD)["due"] == dict.fromkeys(trainings, "the data drifted")
        assert trainings <= set(outcome.ran)
    else:
        assert trainings == set(outcome.not_due)
        assert {"user_features", "evaluate", "drift", "candidates"} <= set(outcome.ran)


def test_an_old_interval_gets_the_champions_of_its_time_and_changes_nothing_that_serves(
    begun: Shop, tmp_path: Path
) -> None:
    shop, in_turn = begun.copy(tmp_path / "shop"), begun.copy(tmp_path / "in_turn")
    for end in (SECOND, THIRD):
        run(in_turn, end)
    run(shop, THIRD)
    served = {table: rows_hash(shop, table) for table in ("candidates", "similar_items")}
    champions = {
        name: registry(shop.project()).champion(f"shop.{name}").version
        for name in ("popularity", "item_knn")
    }
    outcome = run(shop, SECOND)
    assert "candidates" in outcome.ran
    assert {table: rows_hash(shop, table) for table in served} == served
    assert {
        name: registry(shop.project()).champion(f"shop.{name}").version for name in champions
    } == champions
    assert _lists(shop) == _lists(in_turn)
    told = json.loads(shop.sextant("stage", "shop", "publish", "--at", SECOND, "--json").stdout)
    assert told["message"] == (
        f"kept in staging, from the champions as of {SECOND}: the lists of the later interval "
        f"{THIRD} stay served"
    )


def _lists(shop: Shop) -> list[tuple[object, ...]]:
    """The staged lists of the second interval, without numbers of versions."""
    rows = DeltaTable(shop.lake / "staged_candidates").to_pyarrow_table().to_pylist()
    return sorted(
        (row["user_id"], row["rank"], row["item_id"], round(row["score"], 9))
        for row in rows
        if f"{row['interval_end']:%Y-%m-%dT%H:%MZ}" == SECOND
    )
