"""Who and what is new, and the models of graphs: places without training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.histories import codes_in
from training.models import MODELS, FitContext
from training.models.gnn import LightGCN
from training.snapshot import Snapshot
from training.ties import Ties


def two_tastes(make_snapshot: Callable[..., Snapshot]) -> Snapshot:
    """Twelve people of each of two tastes; each likes six of the eight items of it, and follows
    two of the same taste."""
    events = [
        (f"{kind}{user:02d}", f"item-{kind}{(user + item) % 8}", 10 * item + user / 2)
        for kind in "xy"
        for user in range(12)
        for item in range(6)
    ]
    follows = [
        (f"{kind}{user:02d}", f"{kind}{(user + step) % 12:02d}")
        for kind in "xy"
        for user in range(12)
        for step in (1, 2)
    ]
    return make_snapshot(events, follows=follows)


OF_TASTES: dict[str, dict[str, Any]] = {
    "gnn": {"width": 16, "epochs": 12, "patience": 0, "batch_size": 64, "social_weight": 0.5},
    "social_gnn": {
        "width": 16, "hidden": 16, "heads": 2, "epochs": 60, "patience": 0, "batch_size": 64,
        "learning_rate": 0.005, "dropout": 0.0, "predictor_dropout": 0.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OF_TASTES)
def test_who_and_what_is_new_is_placed_by_ties(
    name: str,
    make_snapshot: Callable[..., Snapshot],
    context: Callable[..., FitContext],
    tmp_path: Path,
):
    """Nothing is trained: a newcomer follows two people, and three people like a new item."""
    snapshot = two_tastes(make_snapshot)
    model = MODELS[name].fit(snapshot, OF_TASTES[name], context(seed=3))
    people = [*snapshot.user_ids, "new", "newer"]
    items = [*snapshot.catalogue, "novel"]
    place = {name: code for code, name in enumerate(people)}
    new_likes = np.array([[place["y01"], place["y04"], place["y06"], place["newer"]], [16] * 4])
    ties = Ties(
        np.array(people),
        np.array(items),
        np.concatenate([[snapshot.users, snapshot.items], new_likes], axis=1),
        np.concatenate(
            [snapshot.follows, [[place["new"]] * 2, [place["y03"], place["y05"]]]], axis=1
        ),
    )
    model.save(tmp_path / "model")
    tied = MODELS[name].load(tmp_path / "model").with_ties(ties)
    everyone = snapshot.histories(np.arange(24), snapshot.valid_start)
    both = replace(
        everyone,
        user_ids=np.array(people),
        catalogue=np.array(items),
        offsets=np.append(everyone.offsets, [len(everyone.items)] * 2),
    )
    assert tied.knows(both).tolist() == [*[True] * 25, False]
    score_BN, plain_BN = tied.score(both), model.score(both)
    # The training's likes and follows give the trained places, whoever follows them since.
    np.testing.assert_allclose(score_BN[:24, :16], plain_BN[:24, :16], rtol=1e-4, atol=1e-5)
    assert set(np.argsort(-score_BN[24, :16])[:8]) == set(range(8, 16)), "the newcomer's taste"
    assert (plain_BN[:, 16] == -np.inf).all()
    assert score_BN[12:24, 16].min() > score_BN[:12, 16].max(), "the new item's taste"
    if model.item_vectors() is not None:
        np.testing.assert_array_equal(
            tied.item_vectors()[codes_in(model.item_ids, tied.item_ids)], model.item_vectors()
        )


def test_without_weight_follows_place_nobody(
    make_snapshot: Callable[..., Snapshot], context: Callable[..., FitContext]
):
    snapshot = two_tastes(make_snapshot)
    model = LightGCN.fit(snapshot, OF_TASTES["gnn"] | {"social_weight": 0.0}, context())
    people = np.array([*snapshot.user_ids, "new"])
    ties = Ties(people, snapshot.catalogue, np.empty((2, 0), int), np.array([[24, 24], [0, 1]]))
    nobody = replace(
        snapshot.histories(np.arange(1), snapshot.valid_start).batch(0, 0),
        user_ids=np.array(["new"]),
        offsets=np.zeros(2, int),
    )
    assert not model.with_ties(ties).knows(nobody).any()


def test_a_new_item_counts_as_popular_as_items_are(
    make_snapshot: Callable[..., Snapshot], context: Callable[..., FitContext]
):
    """Whoever likes it first tells whom it is for, and nothing of how many will."""
    snapshot = two_tastes(make_snapshot)
    model = LightGCN.fit(snapshot, OF_TASTES["gnn"], context())
    items = np.array([*snapshot.catalogue, "zz new"])
    ties = Ties(snapshot.user_ids, items, np.array([[0], [16]]), snapshot.follows)
    popular_M = model.item_vectors()[:, -1]
    np.testing.assert_allclose(
        popular_M, model.config.temperature * np.log1p(model.degree_M), rtol=1e-6
    )
    found_N = model.with_ties(ties).item_vectors()[:, -1]
    np.testing.assert_allclose(found_N, [*popular_M, popular_M.mean()], rtol=1e-6)
