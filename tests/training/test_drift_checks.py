"""What a drift report checks: noise, columns that can be compared, quality, the shape of scores."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from drift_world import features, report, scores

from training.drift import DriftThresholds
from training.drift_checks import comparable_columns, psi_noise, score_shape


@pytest.mark.parametrize("kind", ["normal", "lognormal", "counts", "labels"])
@pytest.mark.parametrize("sizes", [(50, 50), (60, 1000), (400, 400)])
def test_noise_is_what_evidently_measures_without_a_shift(kind, sizes):
    import pandas as pd
    from evidently.legacy.calculations.stattests.psi import _psi
    from evidently.legacy.core import ColumnType

    rng = np.random.default_rng(7)
    draw = {
        "normal": lambda size: rng.normal(size=size),
        "lognormal": lambda size: rng.lognormal(0.0, 0.7, size),
        "counts": lambda size: rng.poisson(3, size).astype(float),
        "labels": lambda size: rng.choice(["a", "b", "c", "d"], size, p=[0.6, 0.3, 0.07, 0.03]),
    }[kind]
    column = ColumnType.Categorical if kind == "labels" else ColumnType.Numerical
    above = []
    for _ in range(100):
        reference, current = draw(sizes[0]), draw(sizes[1])
        score, _ = _psi(pd.Series(reference), pd.Series(current), column, 0.2)
        above.append(score > psi_noise(reference, current, 0.05, rng))
    # The limit is the larger of two estimates, so at most the asked 5 in 100 are above it; four
    # standard errors of that share are 9.
    assert sum(above) <= 5 + 9


def test_noise_shrinks_with_the_samples():
    rng = np.random.default_rng(3)
    noise = [
        psi_noise(rng.normal(size=size), rng.normal(size=size), 0.001, rng)
        for size in (50, 500, 5000)
    ]
    assert noise[0] > 0.3 > noise[1] > 0.05 > noise[2] > 0.0


@pytest.mark.parametrize(
    ("values", "comparable"),
    [
        (["phone", "tv"], True),
        (["science fiction", "slice of life drama"], True),
        (["u000001", "u000002"], False),
        (["item:4711", "item:4712"], True),
        (["6f1b0c7e-1c3d-4a53-9d6f-0a1b2c3d4e5f", "0a1b2c3d-1c3d-4a53-9d6f-6f1b0c7e4e5f"], False),
        (["ada@mail.example", "bob@mail.example"], False),
        (["a title of five words", "b"], False),
        (["x" * 41, "b"], False),
        ([f"label{number}" for number in range(51)], False),
    ],
)
def test_labels_are_told_from_identifiers_and_text(values, comparable):
    table = pa.table({"label": values * 30})
    chosen, excluded = comparable_columns(table, table, frozenset())
    assert bool(chosen) is comparable
    assert excluded == ({} if comparable else {"label": "free text or an identifier by its values"})


def test_values_that_hardly_repeat_are_not_labels():
    table = pa.table({"title": [f"Ramen {row}" for row in range(50)]})
    assert comparable_columns(table, table, frozenset())[0] == []


def test_quality_is_judged_without_rows(tmp_path):
    empty = features(0, 1)
    verdict = report(tmp_path, empty, empty, quality={"ndcg@10": 0.1}, quality_history=[0.4, 0.6])
    assert verdict.drifted
    assert [alert.type for alert in verdict.alerts] == ["ModelDrift"]


@pytest.mark.parametrize(
    ("current", "history", "is_drift"),
    [
        (0.749, [0.80] * 28, True),
        (0.750, [0.80] * 28, False),
        (0.7499999, [0.80] * 28, True),
        (0.55, [0.60], False),
        (0.549, [0.60], True),
        (0.90, [0.80] * 28, False),
        (0.70, [0.70, 0.80], False),
        (0.699, [0.70, 0.80, float("nan")], True),
    ],
)
def test_quality_drops_by_more_than_the_limit_alert(tmp_path, current, history, is_drift):
    empty = features(0, 1)
    verdict = report(tmp_path, empty, empty, quality={"ndcg@10": current}, quality_history=history)
    assert verdict.quality is not None
    assert verdict.quality.drifted is is_drift
    assert verdict.drifted is is_drift
    assert verdict.quality.drop == pytest.approx(np.nanmean(history) - current)


@pytest.mark.parametrize(
    ("quality", "history", "words"),
    [
        ({}, [0.8], "quality is not judged: no quality was measured"),
        ({"ndcg@10": 0.8}, [], "quality is not judged: ndcg@10 has no history yet"),
        (
            {"ndcg@10": float("nan")},
            [0.8],
            "quality is not judged: ndcg@10 is undefined for this interval",
        ),
    ],
)
def test_quality_that_cannot_be_judged_is_said(tmp_path, quality, history, words):
    empty = features(0, 1)
    verdict = report(tmp_path, empty, empty, quality=quality, quality_history=history)
    assert verdict.notes[-1] == words
    assert verdict.quality is None
    assert not verdict.drifted


RNG = np.random.default_rng(11)
HEALTHY = RNG.normal(size=500)
TAIL = RNG.standard_cauchy(500)


@pytest.mark.parametrize(
    ("past", "now", "words"),
    [
        (None, HEALTHY, None),
        (None, RNG.uniform(size=500), None),
        (None, RNG.exponential(size=500), None),
        (None, np.full(20, 0.5), "all 20 scores of model are equal: it ranks nothing"),
        (np.full(20, 0.5), np.full(20, 0.5), "all 20 scores of model are equal: it ranks nothing"),
        (None, np.array([0.5]), None),
        (None, np.array([]), None),
        (None, TAIL, "scores of model are out of shape: skewness"),
        (HEALTHY, TAIL, "scores of model are out of shape: skewness"),
        (TAIL, -TAIL, None),
    ],
)
def test_scores_out_of_shape_alert_unless_they_always_were(tmp_path, past, now, words):
    empty = features(0, 1)
    verdict = report(
        tmp_path,
        empty,
        empty,
        predictions_reference=None if past is None else scores(past),
        predictions_current=scores(now),
        # Only the shape is asked for here: the comparison of columns is switched off.
        thresholds=DriftThresholds(min_rows=1000),
    )
    messages = [alert.message for alert in verdict.alerts]
    assert len(messages) == (words is not None)
    assert all(message.startswith(words) for message in messages)


def test_shape_of_scores_by_hand():
    shape = score_shape(pa.table({"score": [0.0, 0.0, 0.0, 4.0, float("-inf"), None]}))
    # Mean 1, deviation sqrt(3): third moment ((-1)^3 * 3 + 3^3) / 4 = 6, over 3 sqrt(3).
    assert shape.count == 4
    assert shape.skewness == pytest.approx(6.0 / (3.0 * 3.0**0.5))
    # Quartiles 0 and 1: the far-out fence is at 4, which 4.0 does not exceed.
    assert shape.outlier_percentage == 0.0
    assert not shape.collapsed
