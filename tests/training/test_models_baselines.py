"""Popularity and item-based collaborative filtering against hand-worked numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from training.models import FitContext, NothingToLearn
from training.models.item_knn import ItemKNN
from training.models.popularity import Popularity
from training.snapshot import Snapshot

Make = Callable[..., Snapshot]
Context = Callable[..., FitContext]

# In the 48 hours before hour 100: x 3, y 1. Before: z 2, x 1. Weak and later events do not count.
EVENTS = [
    *[("a", "x", 60), ("b", "x", 70), ("c", "x", 99), ("c", "y", 52)],
    *[("a", "z", 10), ("b", "z", 51), ("c", "x", 5)],
    *[("d", "y", 98, 0.4), ("d", "y", 100), ("d", "y", 150), ("d", "y", 250)],
]


def score_of(model: Any, snapshot: Snapshot, user: str) -> dict[str, float]:
    code = np.flatnonzero(snapshot.user_ids == user)
    score_N = model.score(snapshot.histories(code, snapshot.valid_start))[0]
    return dict(zip(snapshot.catalogue.tolist(), score_N.tolist(), strict=True))


def test_popularity_ranks_by_counts_in_the_window(make_snapshot: Make, context: Context):
    snapshot = make_snapshot(EVENTS)
    model = Popularity.fit(snapshot, {"window_days": 2.0, "smoothing": 0.5}, context())
    total = 4 + 3 * 0.5
    expected = {"x": np.log(3.5 / total), "y": np.log(1.5 / total), "z": np.log(0.5 / total)}
    for user in ("a", "d"):
        assert score_of(model, snapshot, user) == pytest.approx(expected)


def test_the_popularity_window_includes_its_first_moment(make_snapshot: Make, context: Context):
    snapshot = make_snapshot([("a", "x", 52), ("a", "y", 51.999), ("b", "y", 1)])
    model = Popularity.fit(snapshot, {"window_days": 2.0}, context())
    scores = score_of(model, snapshot, "a")
    assert scores["x"] > scores["y"]


def test_an_empty_popularity_window_is_an_error(make_snapshot: Make, context: Context):
    with pytest.raises(NothingToLearn) as caught:
        Popularity.fit(make_snapshot([("a", "x", 10)]), {"window_days": 0.5}, context())
    assert str(caught.value) == (
        "popularity finds no positive in the last 0.5 days before valid_start. Raise window_days."
    )


# Users of items: v {1,2,3}, w {1,2,3}, x {1,2}, y {3,4}, z {4}.
LIKES = [
    *[("1", "v", 1), ("1", "w", 2), ("1", "x", 3), ("2", "v", 1), ("2", "w", 2), ("2", "x", 3)],
    *[("3", "v", 1), ("3", "w", 2), ("3", "y", 3), ("4", "y", 1), ("4", "z", 2), ("4", "z", 50)],
]


def test_cosines_with_shrinkage_are_as_worked_by_hand(make_snapshot: Make, context: Context):
    model = ItemKNN.fit(make_snapshot(LIKES), {"shrinkage": 1.0, "neighbours": 9}, context())
    root = np.sqrt
    expected = np.zeros((5, 5))
    expected[0, 1] = 3 / (root(9) + 1)
    expected[0, 2] = expected[1, 2] = 2 / (root(6) + 1)
    expected[0, 3] = expected[1, 3] = 1 / (root(6) + 1)
    expected[3, 4] = 1 / (root(2) + 1)
    np.testing.assert_allclose(model.similarity_MM.toarray(), expected + expected.T, rtol=1e-6)


def test_always_co_consumed_items_are_each_others_nearest(make_snapshot: Make, context: Context):
    model = ItemKNN.fit(make_snapshot(LIKES), {"neighbours": 1}, context())
    nearest = model.item_ids[model.similarity_MM.toarray().argmax(axis=1)]
    assert dict(zip(model.item_ids.tolist(), nearest.tolist(), strict=True)) == {
        **{"v": "w", "w": "v"},
        **{"x": "v", "y": "z", "z": "y"},  # x is as near to w: the tie goes to the lesser id
    }
    assert np.diff(model.similarity_MM.indptr).tolist() == [1] * 5


def test_blocks_of_rows_give_what_one_block_gives(
    planted: Snapshot, context: Context, monkeypatch: pytest.MonkeyPatch
):
    whole = ItemKNN.fit(planted, {"neighbours": 7}, context())
    monkeypatch.setattr("training.models.item_knn._ROWS_PER_BLOCK", 13)
    parts = ItemKNN.fit(planted, {"neighbours": 7}, context())
    np.testing.assert_array_equal(whole.similarity_MM.toarray(), parts.similarity_MM.toarray())


@pytest.mark.parametrize(("half_life", "weights"), [(0.0, (1, 1)), (1.0, (2**-1.0, 2**-3.0))])
def test_scores_are_the_weighted_sum_over_the_history(
    half_life: float, weights: tuple[float, float], make_snapshot: Make, context: Context
):
    # User 5 liked x one day and y three days before the cut; y also earlier, which does not count.
    mine = [("5", "x", 76), ("5", "y", 28), ("5", "y", 4)]
    config = {"shrinkage": 0.0, "neighbours": 9, "half_life_days": half_life}
    model = ItemKNN.fit(make_snapshot(LIKES), config, context())
    similarity = model.similarity_MM.toarray()
    scores = score_of(model, make_snapshot(LIKES + mine), "5")
    expected = weights[0] * similarity[2] + weights[1] * similarity[3]
    assert list(scores.values()) == pytest.approx(expected.tolist())


def test_the_nearest_history_item_is_the_reason(make_snapshot: Make, context: Context):
    model = ItemKNN.fit(make_snapshot(LIKES), {"shrinkage": 1.0}, context())
    snapshot = make_snapshot([*LIKES, ("5", "x", 4), ("5", "w", 5), ("6", "new", 5)], items=["a"])
    catalogue = snapshot.catalogue.tolist()
    assert catalogue == ["a", "new", "v", "w", "x", "y", "z"]
    histories = snapshot.histories(np.array([4, 5]), snapshot.valid_start)
    wanted_BK = np.array([[2, 5, 6, 1], [2, 0, 1, 6]])
    item_BK, similarity_BK = model.nearest_in_history(histories, wanted_BK)
    assert item_BK.tolist() == [[3, 3, -1, -1], [-1] * 4]
    expected = [[3 / 4, 1 / (np.sqrt(6) + 1), 0, 0], [0] * 4]
    np.testing.assert_allclose(similarity_BK, expected, rtol=1e-6)
