"""Who decides what serves: the gate, a person who moves an alias in MLflow, and both at once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from lake_state import rows_hash
from mlflow import MlflowClient
from prepared_world import ENDS, prepared
from shop_world import Shop

from training.registry import Registry

pytestmark = pytest.mark.slow

FIRST, SECOND, THIRD = ENDS
MODEL = "shop.item_knn"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with two intervals, whose second item-kNN is not clearly better than the first."""
    shop = prepared(tmp_path_factory.mktemp("begun") / "shop", tmp_path_factory)
    shop.run(FIRST)
    shop.run(SECOND)
    return shop


@pytest.fixture
def shop(begun: Shop, tmp_path: Path) -> Shop:
    return begun.copy(tmp_path / "shop")


def store(shop: Shop) -> MlflowClient:
    return MlflowClient(tracking_uri=shop.project().tracking_uri)


def choose(shop: Shop, version: str) -> None:
    """What a person does in MLflow's page of the model."""
    store(shop).set_registered_model_alias(MODEL, "champion", version)


def aliased(shop: Shop, alias: str) -> str:
    return str(store(shop).get_model_version_by_alias(MODEL, alias).version)


def registered(shop: Shop) -> set[str]:
    found = store(shop).search_model_versions(f"name = '{MODEL}'")
    return {str(one.version) for one in found}


def lists(shop: Shop) -> list[dict[str, Any]]:
    """All that is served, to the last column."""
    rows = DeltaTable(shop.lake / "candidates").to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: (row["user_id"], row["rank"]))


def versions(shop: Shop) -> set[str]:
    """Versions of item-kNN in what is served."""
    return {row["model_version"] for row in lists(shop) if row["model_name"] == "item_knn"}


def verdict(shop: Shop, at: str) -> dict[str, Any]:
    """What the gate last said of item-kNN."""
    report = json.loads(shop.sextant("report", "shop", "--json").stdout)
    found = next(one for one in report["intervals"] if one["interval_end"] == at)
    return dict(found["gate"]["item_knn"])


def moves(shop: Shop) -> list[tuple[str | None, str | None, str]]:
    """How the champion moved, oldest first."""
    rows = DeltaTable(shop.lake / "decisions").to_pyarrow_table().sort_by("decided_at").to_pylist()
    return [
        (row["from_version"], row["to_version"], row["decided_by"])
        for row in rows
        if row["model"] == MODEL
    ]


def test_a_person_chooses_and_goes_back_to_the_very_same_lists(shop: Shop) -> None:
    before = lists(shop)
    assert (versions(shop), verdict(shop, SECOND)["outcome"]) == ({"1"}, "rejected")
    choose(shop, "2")
    assert set(shop.run(SECOND)) >= {"candidates", "publish"}
    assert (versions(shop), aliased(shop, "previous")) == ({"2"}, "1")
    choose(shop, "1")
    shop.run(SECOND)
    assert lists(shop) == before
    assert aliased(shop, "previous") == "2"
    person = "a person"
    assert moves(shop) == [(None, "1", "the gate"), ("1", "2", person), ("2", "1", person)]
    told = shop.sextant("report", "shop").stdout
    assert f"  champion: {MODEL} version 1 -> 2 by a person, seen 2" in told


def test_a_persons_choice_outlives_the_next_runs(shop: Shop) -> None:
    choose(shop, "2")
    # With the gate off whatever is trained would be promoted.
    shop.run(THIRD, None, "gate.mode=off")
    assert (versions(shop), aliased(shop, "champion")) == ({"2"}, "2")
    found = verdict(shop, THIRD)
    assert found["outcome"] == "kept back"
    assert found["reason"].startswith(
        f"Kept back: a person chose version 2; delete the tag `hold` of {MODEL} in MLflow to let "
        "the gate decide again. Promoted, the gate is off: "
    )
    store(shop).delete_registered_model_tag(MODEL, "hold")
    shop.sextant("stage", "shop", "gate", "--at", THIRD, "--set", "gate.mode=off")
    shop.run(THIRD, None, "gate.mode=off")
    assert (versions(shop), aliased(shop, "previous")) == ({"3"}, "2")
    assert moves(shop)[-1] == ("2", "3", "the gate")


def test_a_winner_out_of_bounds_is_rejected_and_a_better_one_waits_for_a_person(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shop = prepared(tmp_path / "shop", tmp_path_factory)
    shop.run(FIRST, None, "gate.floors={ndcg@10: 0.99}", "gate.ceilings={size_mb: 0.000001}")
    found = verdict(shop, FIRST)
    assert found["outcome"] == "rejected"
    assert re.match(
        r"Rejected, ndcg@10 0\.\d+ is below its floor, 0\.99 and size_mb 0\.\d+ is above its "
        r"ceiling, 1e-06: 0\.\d+ against 0\.\d+ of popularity ",
        found["reason"],
    )
    assert {row["model_name"] for row in lists(shop)} == {"popularity"}
    manual = "gate.mode=manual"
    assert "gate" in shop.run(FIRST, None, manual)
    assert {row["model_name"] for row in lists(shop)} == {"popularity"}
    found = verdict(shop, FIRST)
    assert found["outcome"] == "waits"
    assert found["reason"].startswith(
        f"Waits for a person: to choose it, set the alias `champion` of {MODEL} on version 1 in "
        "MLflow. Promoted: "
    )
    choose(shop, "1")
    assert "candidates" in shop.run(FIRST, None, manual)
    assert versions(shop) == {"1"}
    assert moves(shop) == [(None, "1", "a person")]
    shop.sextant("stage", "shop", "gate", "--at", FIRST, "--set", manual)
    assert verdict(shop, FIRST)["reason"].startswith("Chosen by a person, seen 20")


def test_a_champion_that_is_deleted_is_served_no_more_and_needs_a_person(shop: Shop) -> None:
    store(shop).delete_model_version(MODEL, "1")
    shop.run(SECOND)
    assert {row["model_name"] for row in lists(shop)} == {"popularity"}
    assert moves(shop)[-1] == ("1", None, "a person")
    choose(shop, "2")
    shop.run(SECOND)
    assert versions(shop) == {"2"}


def test_a_challenger_that_is_deleted_is_trained_again(shop: Shop) -> None:
    store(shop).delete_model_version(MODEL, "2")
    done = shop.sextant("stage", "shop", "evaluate", "--at", SECOND, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(
        f"{MODEL} version 2, which was trained for the interval that ends at {SECOND}, is gone. "
        f"{MODEL} has no version 2. There are: 1 (promoted).\n\n"
        f"Next: sextant stage shop train_item_knn --at {SECOND}\n"
    )
    assert shop.run(SECOND)[0] == "train_item_knn"
    assert registered(shop) == {"1", "3"}


def test_a_champion_moved_while_its_lists_are_made_stops_them(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.stages import candidates

    before = lists(shop)
    choose(shop, "2")
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(candidates, "note_moves", lambda *_: choose(shop, "1"))
        done = shop.sextant("run", "shop", "--at", SECOND, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "A champion was moved since this stage was planned. What was published before stays "
        "served; the next attempt takes the champions as they are then.\n\n"
        f"Next: sextant run shop --at {SECOND}\n"
    )
    assert lists(shop) == before
    choose(shop, "2")
    shop.run(SECOND)
    assert versions(shop) == {"2"}


def test_a_move_whose_record_was_cut_off_is_recorded_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(shop, "2")
    with monkeypatch.context() as killed:
        killed.setattr(Registry, "settle", lambda *_: 1 / 0)
        assert shop.sextant("run", "shop", "--at", SECOND, check=False).returncode == 1
    shop.run(SECOND)
    assert moves(shop) == [(None, "1", "the gate"), ("1", "2", "a person")]
    assert aliased(shop, "previous") == "1"


def test_lists_are_published_while_mlflow_is_down(shop: Shop) -> None:
    choose(shop, "2")
    shop.run(SECOND, "+drift")
    shop.set_spec("  spark:", "  mlflow: {tracking_uri: 'http://127.0.0.1:9'}\n  spark:")
    shop.sextant("stage", "shop", "publish", "--at", SECOND)
    assert versions(shop) == {"2"}
    done = shop.sextant("stage", "shop", "candidates", "--at", SECOND, check=False)
    assert "The model registry http://127.0.0.1:9 does not answer: " in done.stderr
    assert versions(shop) == {"2"}


def test_old_models_go_and_none_that_serves(shop: Shop) -> None:
    served = rows_hash(shop, "candidates")
    for at in (SECOND, THIRD):
        shop.run(at, None, "maintenance.model_versions=1")
    # The champion, and the newest, which is the challenger.
    assert registered(shop) == {"1", "3"}
    assert rows_hash(shop, "candidates") != served
    assert versions(shop) == {"1"}
