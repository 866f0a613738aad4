"""When models are trained anew, what a failing one stops, and what old intervals get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deltalake import DeltaTable
from lake_state import registry_state, rows_hash
from shop_world import Shop, make_shop

from pipelines.intervals import interval_ending, parse_moment
from pipelines.runner import Outcome
from pipelines.stages.train import registry

pytestmark = pytest.mark.slow

ENDS = ("2026-03-12T12:00Z", "2026-03-12T18:00Z", "2026-03-13T00:00Z")
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
    """A shop with one interval."""
    shop = make_shop(tmp_path_factory.mktemp("begun") / "shop")
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


def test_nothing_new_trains_nothing_and_serves_the_champions(begun: Shop, tmp_path: Path) -> None:
    shop = begun.copy(tmp_path / "shop")
    registered = registry_state(shop)
    quiet = "retrain.new_events=1000000"
    outcome = run(shop, SECOND, quiet)
    assert set(outcome.not_due) == {"train_popularity", "train_item_knn"}
    assert outcome.not_due["train_item_knn"].startswith("not due: trained for 2026-03-12T12:00Z, ")
    assert {"user_features", "evaluate", "drift", "candidates", "publish"} <= set(outcome.ran)
    assert registry_state(shop) == registered
    assert detail(shop, "candidates", SECOND)["versions"] == {"item_knn": "1", "popularity": "1"}
    roles = DeltaTable(shop.lake / "evaluations").to_pyarrow_table().to_pylist()
    assert {row["role"] for row in roles if f"{row['interval_end']:%H}" == "18"} == {"champion"}
    forced = run(shop, SECOND, quiet, "retrain.force=true", "retrain.models=[item_knn]")
    assert "train_item_knn" in forced.ran
    assert forced.not_due == {
        "train_popularity": "not due: this run is to train item_knn alone",
    }


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


def _lists(shop: Shop) -> list[tuple[object, ...]]:
    """The staged lists of the second interval, without numbers of versions."""
    rows = DeltaTable(shop.lake / "staged_candidates").to_pyarrow_table().to_pylist()
    return sorted(
        (row["user_id"], row["rank"], row["item_id"], round(row["score"], 9))
        for row in rows
        if f"{row['interval_end']:%Y-%m-%dT%H:%MZ}" == SECOND
    )
