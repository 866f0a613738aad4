"""Odd graphs, and every model that reads one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from training.models import MODELS, FitContext, Model
from training.snapshot import Snapshot
from training.topk import ItemLists, ScoreError, top_k

LIKES = [
    ("ann", "tea", 1), ("ann", "mug", 2), ("bob", "mug", 3), ("bob", "jam", 4),
    ("cid", "jam", 5), ("cid", "ham", 6), ("dan", "tea", 7), ("dan", "ham", 8),
]  # fmt: skip
NEW = ("eve", "tea", 150)
"""Eve likes nothing before validation: she is no node."""
SMALL = {
    "spectral": {"factors": 2},
    "gnn": {"width": 8, "epochs": 3, "batch_size": 4, "patience": 0, "social_weight": 0.5},
    "social_gnn": {
        "width": 8, "hidden": 6, "heads": 2, "epochs": 3, "batch_size": 4, "patience": 0
    },
}  # fmt: skip
ONE_FOLLOW = [("ann", "bob")]


@pytest.fixture(params=sorted(SMALL))
def fitted(
    request: pytest.FixtureRequest,
    make_snapshot: Callable[..., Snapshot],
    context: Callable[..., FitContext],
) -> Callable[..., tuple[Model, np.ndarray]]:
    """Returns `fitted(likes, follows)`: a small model of each kind, and everybody's scores."""

    def fit(likes: list[Any], follows: list[Any]) -> tuple[Model, np.ndarray]:
        snapshot = make_snapshot(likes, follows=follows)
        model = MODELS[request.param].fit(snapshot, SMALL[request.param], context())
        users = np.arange(len(snapshot.user_ids))
        return model, model.score(snapshot.histories(users, snapshot.end))

    return fit


@pytest.mark.parametrize(
    ("likes", "follows"),
    [
        ([("ann", "tea", 1)], []),
        ([*LIKES, NEW], []),
        ([*LIKES, NEW], [("ann", "nobody else")]),
        ([*LIKES, NEW], [("eve", "ann")]),
        ([*LIKES, *((f"u{n}", "tea", 9) for n in range(300))], [("ann", f"u{n}") for n in range(300)]),
        ([*LIKES, ("ann", "tea", 150), ("far", "away", 9)], ONE_FOLLOW),
    ],
    ids=[
        "one like", "nobody follows", "a stranger is followed", "one without likes follows",
        "a hub", "an island",
    ],
)  # fmt: skip
def test_odd_graphs_are_learnt_from(fitted: Any, likes: list[Any], follows: list[Any]):
    _, score_UM = fitted(likes, follows)
    assert np.isfinite(score_UM).all()


@pytest.mark.parametrize("name", ["gnn", "social_gnn"])
def test_a_user_who_follows_100_000_is_learnt_and_scored(
    name: str, make_snapshot: Callable[..., Snapshot], context: Callable[..., FitContext]
):
    others = [f"u{number}" for number in range(100_000)]
    likes = [(user, ("tea", "mug", "jam")[number % 3], 9) for number, user in enumerate(others)]
    snapshot = make_snapshot([*LIKES, *likes], follows=[("ann", user) for user in others])
    options = SMALL[name] | {"epochs": 1, "batch_size": 2**16}
    model = MODELS[name].fit(snapshot, options, context())
    assert np.diff(model.people_UU.indptr)[0] == 100_000, "everybody followed likes something"
    assert np.isfinite(model.score(snapshot.histories(np.arange(9), snapshot.end))).all()


@pytest.mark.parametrize(
    "follows",
    [[*ONE_FOLLOW, ("ann", "ann")], ONE_FOLLOW * 3],
    ids=["oneself", "thrice"],
)
def test_follows_of_oneself_and_the_same_again_change_nothing(fitted: Any, follows: list[Any]):
    np.testing.assert_array_equal(fitted(LIKES, follows)[1], fitted(LIKES, ONE_FOLLOW)[1])


def test_the_same_like_again_changes_nothing(fitted: Any):
    np.testing.assert_array_equal(fitted([*LIKES, *LIKES], [])[1], fitted(LIKES, [])[1])


def test_weights_that_are_no_numbers_make_no_list(fitted: Any, make_snapshot: Any):
    model, _ = fitted(LIKES, [])
    broken = {
        name: np.full_like(value, np.nan) if value.dtype.kind == "f" else value
        for name, value in model._tensors().items()
    }
    vocabularies = {"item_ids": model.item_ids, **model._vocabularies()}
    snapshot = make_snapshot(LIKES)
    spoilt = type(model)._restore(model.config, broken, vocabularies)
    score_UM = spoilt.score(snapshot.histories(np.arange(4), snapshot.end))
    nothing = ItemLists.from_pairs(np.empty(0, int), np.empty(0, int), 4)
    with pytest.raises(ScoreError, match="NaN"):
        top_k(score_UM, 2, exclude=nothing)
