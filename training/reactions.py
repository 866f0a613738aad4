"""How well a model foresees what comes of items shown: clicks, watched shares, ratings.

Shape suffixes: X items shown, N items of the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from training.histories import Histories
from training.models.base import Model, Moment
from training.shown import Shown, shown_items
from training.snapshot import UNKNOWN_PLACE, Snapshot

_PRIOR = 5.0
"""An item's mean is that of this many average answers and its own."""
_BATCH = 4_096
_SAMPLE = 20_000
"""More than so many answers are not asked for: an AUC is then known to about 0.005."""


@dataclass(frozen=True)
class ReactionSet:
    """What was first shown in the test part, with what was known at that moment."""

    histories: Histories
    """What each user had done when the item was shown: X of them."""
    shown: Shown
    moment: Moment
    item_means: dict[str, np.ndarray]
    """Answer -> (N,) float64: its mean for each item before the test, drawn to that of all."""

    @classmethod
    def build(cls, snapshot: Snapshot) -> ReactionSet:
        """The set of a snapshot, a sample when it is large; it may be empty."""
        shown = shown_items(snapshot, snapshot.test_start, snapshot.end)
        if len(shown) > _SAMPLE:
            shown = shown[np.sort(np.random.default_rng(0).permutation(len(shown))[:_SAMPLE])]
        before = shown_items(snapshot, None, snapshot.test_start)
        devices = np.array([*snapshot.device_names, UNKNOWN_PLACE])
        locations = np.array([*snapshot.location_names, UNKNOWN_PLACE])
        return cls(
            histories=snapshot.histories(shown.users, shown.times),
            shown=shown,
            moment=Moment(
                shown.times, devices[shown.devices], locations[shown.locations], shown.ties
            ),
            item_means={
                name: _means(before.items, getattr(before, name), len(snapshot.catalogue))
                for name in ("click", "watch", "rating")
            },
        )


def judge_reactions(model: Model, reactions: ReactionSet) -> dict[str, tuple[float, int]]:
    """What a model's answers are worth, each beside what the items' own means are worth.

    Returns:
        Metric -> its value and the number of answers that it is made of: `click_auc`, `watch_mae`
        (watched share), `rating_mae` (share of the best rating), and each with `_of_item_means`.
        Only what the model answers and the data know; nothing for a model without answers.
    """
    shown = reactions.shown
    answers = [
        model.reactions(
            reactions.histories.batch(start, start + _BATCH),
            np.arange(len(shown.items[start : start + _BATCH])),
            shown.items[start : start + _BATCH],
            Moment(*(part[start : start + _BATCH] for part in vars(reactions.moment).values())),
        )
        for start in range(0, len(shown), _BATCH)
    ]
    if not answers or answers[0] is None:
        return {}
    answer_X3 = np.concatenate(answers)
    found = {}
    for place, (name, metric) in enumerate((("click", auc), ("watch", mae), ("rating", mae))):
        target_X, answer_X = getattr(shown, name), answer_X3[:, place]
        judged = np.isfinite(target_X) & np.isfinite(answer_X)
        mean_X = reactions.item_means[name][shown.items]
        for suffix, given_X in (("", answer_X), ("_of_item_means", mean_X)):
            value = metric(target_X[judged], given_X[judged])
            if value is not None:
                found[f"{name}_{metric.__name__}{suffix}"] = (value, int(judged.sum()))
    return found


def auc(target_X: np.ndarray, answer_X: np.ndarray) -> float | None:
    """The chance that a click gets a higher answer than what was left; None without both.

    Mann and Whitney's U over the number of pairs; equal answers count half.
    """
    clicked = target_X > 0.5
    pairs = int(clicked.sum()) * int((~clicked).sum())
    if not pairs:
        return None
    number = int(clicked.sum())
    return float((rankdata(answer_X)[clicked].sum() - number * (number + 1) / 2) / pairs)


def mae(target_X: np.ndarray, answer_X: np.ndarray) -> float | None:
    """The mean absolute error; None without targets."""
    return float(np.abs(target_X - answer_X).mean()) if len(target_X) else None


def _means(item_X: np.ndarray, value_X: np.ndarray, items: int) -> np.ndarray:
    known = np.isfinite(value_X)
    item_X, value_X = item_X[known], value_X[known].astype(np.float64)
    overall = value_X.mean() if len(value_X) else 0.0
    total_N = np.bincount(item_X, weights=value_X, minlength=items)
    number_N = np.bincount(item_X, minlength=items)
    return (total_N + _PRIOR * overall) / (number_N + _PRIOR)
