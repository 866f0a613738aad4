"""What every model must do, over the planted world: a new model in MODELS cannot escape."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.histories import Histories
from training.models import MODELS, FitContext, Model, NothingToLearn, load_model
from training.snapshot import Snapshot

HOUR = 3_600_000_000
LEARNT = sorted(set(MODELS) - {"popularity"})
NETWORKS = ["gnn", "social_gnn", "transformer"]

Context = Callable[..., FitContext]


@pytest.fixture(scope="module")
def everyone(planted: Snapshot) -> Histories:
    return planted.histories(np.arange(len(planted.user_ids)), planted.test_start)


def with_history(histories: Histories, user: str, items: list[str]) -> Histories:
    """One user with these likes, an hour apart, just before the moment of other histories."""
    codes = np.searchsorted(histories.catalogue, items).astype(np.int32)
    times = histories.as_of - HOUR * np.arange(len(items), 0, -1)
    return Histories(
        np.array([user]),
        histories.catalogue,
        np.array([0, len(items)]),
        codes,
        times,
        np.ones(len(items), np.float32),
        histories.as_of,
    )


def ndcg(model: Model, snapshot: Snapshot) -> float:
    """Mean NDCG@10 of the test part over users with something new to find."""
    users = np.arange(len(snapshot.user_ids))
    score_UN = model.score(snapshot.histories(users, snapshot.test_start))
    before_E = snapshot.timestamps < snapshot.test_start
    seen_UN, relevant_UN = np.zeros((2, *score_UN.shape), bool)
    seen_UN[snapshot.users[before_E], snapshot.items[before_E]] = True
    relevant_UN[snapshot.users[~before_E], snapshot.items[~before_E]] = True
    relevant_UN &= ~seen_UN
    top_UK = np.argsort(-np.where(seen_UN, -np.inf, score_UN), axis=1)[:, :10]
    gain_K = 1 / np.log2(np.arange(2, 12))
    gained_U = (np.take_along_axis(relevant_UN, top_UK, 1) * gain_K).sum(1)
    number_U = np.minimum(relevant_UN.sum(1), 10)
    return float(np.mean(gained_U[number_U > 0] / np.cumsum(gain_K)[number_U[number_U > 0] - 1]))


@pytest.mark.parametrize("name", MODELS)
def test_scores_cover_the_catalogue_and_unknown_items_are_minus_infinity(
    name: str, fitted: dict[str, Model], everyone: Histories
):
    model = fitted[name]
    score_UN = model.score(everyone)
    assert score_UN.shape == (len(everyone), len(everyone.catalogue))
    assert score_UN.dtype == np.float32
    known_N = np.isin(everyone.catalogue, model.item_ids)
    assert set(everyone.catalogue[~known_N]) == {"item-disliked", "item-new"}
    assert np.isneginf(score_UN[:, ~known_N]).all()
    assert np.isfinite(score_UN[:, known_N]).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_vocabulary_is_the_items_liked_before_valid_start(
    name: str, fitted: dict[str, Model], planted: Snapshot
):
    liked = planted.items[planted.positives(None, planted.valid_start)]
    assert fitted[name].item_ids.tolist() == planted.catalogue[np.unique(liked)].tolist()


@pytest.mark.parametrize("name", MODELS)
def test_a_catalogue_that_moved_on_gives_the_same_scores_by_id(
    name: str, fitted: dict[str, Model], everyone: Histories
):
    grown = np.unique([*everyone.catalogue, "item-000b", "a"])
    place_N = np.searchsorted(grown, everyone.catalogue)
    moved = dataclasses.replace(
        everyone, catalogue=grown, items=place_N[everyone.items].astype(np.int32)
    )
    score_UN = fitted[name].score(moved)
    np.testing.assert_array_equal(score_UN[:, place_N], fitted[name].score(everyone))
    assert np.isneginf(score_UN[:, np.searchsorted(grown, ["a", "item-000b"])]).all()


@pytest.mark.parametrize("name", MODELS)
def test_an_empty_history_and_a_new_user_have_finite_scores(
    name: str, fitted: dict[str, Model], everyone: Histories
):
    model = fitted[name]
    for items in ([], ["item-disliked"], ["item-000"], ["item-000"] * 100):
        score_N = model.score(with_history(everyone, "someone new", items))[0]
        assert np.isfinite(score_N[np.isin(everyone.catalogue, model.item_ids)]).all()
    assert model.score(everyone.batch(0, 0)).shape == (0, len(everyone.catalogue))


@pytest.mark.parametrize("name", MODELS)
def test_weak_events_do_not_change_scores(name: str, fitted: dict[str, Model], everyone: Histories):
    weak = everyone.strengths < 0.5
    assert weak.any()
    stronger = dataclasses.replace(everyone, strengths=np.where(weak, 0.0, everyone.strengths))
    np.testing.assert_array_equal(fitted[name].score(stronger), fitted[name].score(everyone))


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_scores_as_the_whole(name: str, fitted: dict[str, Model], everyone: Histories):
    whole = fitted[name].score(everyone)
    parts = [fitted[name].score(everyone.batch(start, start + 17)) for start in range(0, 80, 17)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_save_and_load_give_identical_scores(
    name: str, fitted: dict[str, Model], everyone: Histories, tmp_path: Path
):
    fitted[name].save(tmp_path / "model")
    for loaded in (MODELS[name].load(tmp_path / "model"), load_model(tmp_path / "model")):
        assert type(loaded) is MODELS[name]
        assert loaded.config == fitted[name].config
        np.testing.assert_array_equal(loaded.item_ids, fitted[name].item_ids)
        np.testing.assert_array_equal(loaded.score(everyone), fitted[name].score(everyone))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "manifest.json",
        "model.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_equal_files_and_a_second_fit_forgets_the_first(
    name: str,
    fitted: dict[str, Model],
    planted: Snapshot,
    make_snapshot: Callable[..., Snapshot],
    debug_config: Callable[[str], dict[str, Any]],
    context: Context,
    tmp_path: Path,
):
    shared = context()
    other = make_snapshot([("a", "x", 1), ("a", "y", 2), ("b", "x", 3), ("b", "z", 90)])
    MODELS[name].fit(other, debug_config(name), shared)
    again = MODELS[name].fit(planted, debug_config(name), shared)
    again.save(tmp_path / "again")
    fitted[name].save(tmp_path / "first")
    for file in ("model.safetensors", "model.json", "manifest.json"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "first" / file).read_bytes()
    assert list(shared.work_dir.iterdir()) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_another_seed_gives_other_weights(
    name: str,
    fitted: dict[str, Model],
    planted: Snapshot,
    everyone: Histories,
    debug_config: Callable[[str], dict[str, Any]],
    context: Context,
):
    model = MODELS[name].fit(planted, debug_config(name) | {"epochs": 1}, context(seed=43))
    assert not np.array_equal(model.score(everyone), fitted[name].score(everyone))


@pytest.mark.parametrize("name", MODELS)
def test_nothing_at_or_after_test_start_is_learnt(
    name: str,
    fitted: dict[str, Model],
    planted_with_other_future: Snapshot,
    debug_config: Callable[[str], dict[str, Any]],
    context: Context,
    tmp_path: Path,
):
    model = MODELS[name].fit(planted_with_other_future, debug_config(name), context())
    model.save(tmp_path / "other")
    fitted[name].save(tmp_path / "first")
    file = "model.safetensors"
    assert (tmp_path / "other" / file).read_bytes() == (tmp_path / "first" / file).read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_validation_events_choose_the_epoch_but_are_not_trained_on(
    name: str,
    planted: Snapshot,
    make_snapshot: Callable[..., Snapshot],
    debug_config: Callable[[str], dict[str, Any]],
    context: Context,
    tmp_path: Path,
):
    early_E = planted.timestamps < planted.valid_start
    past = dataclasses.replace(
        planted,
        **{
            part: getattr(planted, part)[early_E]
            for part in ("users", "items", "timestamps", "strengths", "labels")
        },
    )
    # The last epoch is the best without validation users, so stop both after one.
    config = debug_config(name) | ({"epochs": 1} if name in NETWORKS else {})
    for label, snapshot in (("whole", planted), ("past", past)):
        MODELS[name].fit(snapshot, config, context()).save(tmp_path / label)
    file = "model.safetensors"
    assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "past" / file).read_bytes()


@pytest.mark.parametrize("name", LEARNT)
def test_a_learnt_model_finds_the_planted_structure(
    name: str, fitted: dict[str, Model], planted: Snapshot
):
    assert ndcg(fitted[name], planted) > 1.5 * ndcg(fitted["popularity"], planted)


@pytest.mark.parametrize("name", LEARNT)
def test_the_best_unseen_item_is_of_the_users_group(
    name: str, fitted: dict[str, Model], everyone: Histories
):
    model = fitted[name]
    walk = [f"item-{4 * place + 2:03d}" for place in range(6)]
    score_N = model.score(with_history(everyone, "someone new", walk))[0]
    unseen_N = np.isin(everyone.catalogue, model.item_ids) & ~np.isin(everyone.catalogue, walk)
    best = everyone.catalogue[unseen_N][score_N[unseen_N].argmax()]
    assert int(best[-3:]) % 4 == 2


@pytest.mark.parametrize("name", MODELS)
def test_vectors_reproduce_the_scores_and_similar_items_are_of_a_group(
    name: str, fitted: dict[str, Model], everyone: Histories
):
    model = fitted[name]
    item_MD = model.item_vectors()
    if item_MD is None:
        assert model.user_vectors(everyone) is None
        assert name in {"popularity", "item_knn", "spectral", "social_gnn"}
        return
    user_UD = model.user_vectors(everyone)
    columns = model.config.width + (name == "gnn")  # the popularity of items
    assert item_MD.shape == (len(model.item_ids), columns)
    assert user_UD.shape == (len(everyone), columns)
    assert model.likeness_vectors().shape == (len(model.item_ids), model.config.width)
    assert item_MD.dtype == user_UD.dtype == np.float32
    known_N = np.isin(everyone.catalogue, model.item_ids)
    np.testing.assert_allclose(
        user_UD @ item_MD.T, model.score(everyone)[:, known_N], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["transformer", "gnn"])
def test_a_preference_vector_is_nearer_to_what_is_liked(
    name: str, fitted: dict[str, Model], everyone: Histories
):
    model = fitted[name]
    likes = ["item-001", "item-005", "item-009"]
    liked_N = np.isin(everyone.catalogue, likes)
    others_N = np.isin(everyone.catalogue, model.item_ids) & ~liked_N
    score_N = model.score(with_history(everyone, "someone new", likes))[0]
    assert score_N[liked_N].mean() > score_N[others_N].mean()
    assert np.isfinite(model.user_vectors(with_history(everyone, "someone new", []))).all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("events", "works"),
    [
        ([("a", "x", 1), ("a", "y", 2), ("b", "y", 3)], True),
        ([("a", "x", 1)], True),
        ([("a", "x", 1), ("a", "x", 2), ("a", "x", 150)], True),
        ([("a", "x", 1), ("b", "x", 2), ("b", "y", 150)], True),
        ([("a", "x", 1, 0.1), ("b", "y", 150), ("b", "x", 250)], False),
        ([], False),
    ],
    ids=["tiny", "one event", "one item", "one item, two users", "no positives", "no events"],
)
def test_degenerate_data_scores_or_says_that_there_is_nothing_to_learn(
    name: str,
    events: list[Any],
    works: bool,
    make_snapshot: Callable[..., Snapshot],
    debug_config: Callable[[str], dict[str, Any]],
    context: Context,
):
    snapshot = make_snapshot(events)
    if not works:
        with pytest.raises(NothingToLearn) as caught:
            MODELS[name].fit(snapshot, debug_config(name), context())
        assert str(caught.value) == (
            f"{name} has nothing to learn from: none of the {len(events)} events is a positive "
            "before valid_start. Train on a longer window, or lower the label threshold."
        )
        return
    model = MODELS[name].fit(snapshot, debug_config(name), context())
    users = np.arange(len(snapshot.user_ids))
    score_UN = model.score(snapshot.histories(users, snapshot.end))
    assert np.isfinite(score_UN[:, np.isin(snapshot.catalogue, model.item_ids)]).all()


@pytest.mark.parametrize("name", MODELS)
def test_fitting_reports_its_size_and_duration(name: str, fitted: dict[str, Model]):
    facts = fitted[name].fit_facts
    assert facts["train_users"] == 80
    assert facts["train_items"] == 120
    assert 700 < facts["train_positives"] < 900
    assert facts["duration_seconds"] > 0
    if name in NETWORKS:
        assert facts["epochs"] == fitted[name].config.epochs
        assert 1 <= facts["best_epoch"] <= facts["epochs"]
        assert 0 < facts["valid_ndcg@10"] <= 1
    curve = fitted[name].learning_curve
    assert [epoch for epoch, _, _ in curve] == [*range(1, facts.get("epochs", 0) + 1)]
    if curve:
        assert facts["last_loss"] == curve[-1][1]
        assert facts["valid_ndcg@10"] == max(score for _, _, score in curve)
