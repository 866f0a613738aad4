"""Judging answers: metrics against a library, and what the set of questions holds."""

from __future__ import annotations

import numpy as np
import pytest
from reaction_world import COLD, ITEMS, reaction_snapshot
from sklearn.metrics import mean_absolute_error, roc_auc_score

from training.reactions import ReactionSet, auc, judge_reactions, mae


@pytest.mark.parametrize("levels", [3, 1000], ids=["ties", "few ties"])
def test_metrics_are_those_of_scikit_learn(levels: int):
    rng = np.random.default_rng(0)
    target, answer = rng.integers(2, size=500).astype(float), rng.integers(levels, size=500)
    assert auc(target, answer) == pytest.approx(roc_auc_score(target, answer))
    assert mae(target, answer) == pytest.approx(mean_absolute_error(target, answer))


def test_a_metric_without_anything_to_judge_has_no_value():
    assert auc(np.ones(3), np.arange(3)) is None
    assert mae(np.empty(0), np.empty(0)) is None


class Foretells:
    """Answers the truth, or nothing."""

    def __init__(self, reactions: ReactionSet | None) -> None:
        self.truth, self.asked = reactions, 0

    def reactions(self, histories, rows, items, moment):
        if self.truth is None:
            return None
        shown = self.truth.shown
        part = slice(self.asked, self.asked + len(rows))
        self.asked += len(rows)
        np.testing.assert_array_equal(shown.items[part], items)
        np.testing.assert_array_equal(shown.times[part], moment.times)
        assert set(moment.devices) <= {"phone", "tv", "unknown"}
        answer = np.stack([shown.click[part], shown.watch[part], shown.rating[part]], 1)
        return np.nan_to_num(answer, nan=0.5)


def test_who_knows_the_truth_is_right_and_items_means_are_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("training.reactions._BATCH", 17)
    reactions = ReactionSet.build(reaction_snapshot())
    assert set(reactions.shown.items) == set(range(ITEMS - COLD, ITEMS))
    known = reactions.histories
    assert (known.timestamps < reactions.shown.times[known.rows()]).all()
    assert known.timestamps.max() > reactions.shown.times.min()  # not of the day before alone
    found = judge_reactions(Foretells(reactions), reactions)
    clicks, number = found["click_auc"]
    assert (clicks, number) == (1.0, len(reactions.shown))
    assert found["watch_mae"][0] == found["rating_mae"][0] == 0.0
    # Nobody met these items before: each has the mean of all.
    assert found["click_auc_of_item_means"][0] == 0.5
    assert 0.02 < found["watch_mae_of_item_means"][0] < 0.2
    assert 0.05 < found["rating_mae_of_item_means"][0] < 0.15


def test_nothing_is_said_of_a_model_without_answers():
    assert judge_reactions(Foretells(None), ReactionSet.build(reaction_snapshot())) == {}
