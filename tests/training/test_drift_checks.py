"""What a drift report checks: noise, columns that can be compared, quality, the shape of scores."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from drift_world import features, report, scores

from training.drift import DriftThresholds, Quality, QualityDrift, Speed
from training.drift_checks import OTHERS, comparable_columns, score_shape


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


def test_columns_of_one_side_or_of_two_types_are_not_compared():
    one = pa.table({"gone": [1.0], "retyped": [1.0]})
    two = pa.table({"fresh": [1.0], "retyped": ["1"]})
    assert comparable_columns(one, two, frozenset()) == (
        [],
        {
            "fresh": "not in the reference data",
            "gone": "not in the current data",
            "retyped": "not comparable: double and string",
        },
    )


@pytest.mark.parametrize(("people", "named"), [(19, False), (20, True), (21, True)])
def test_a_label_needs_twenty_people_to_be_named(people, named):
    """PR: a place where one person lives says where that person lives."""
    rows = 200
    # Each of the few has many rows: people count, not rows.
    who = [f"few{row % people}" if row < 100 else f"many{row}" for row in range(rows)]
    table = pa.table({"location": ["Vaduz"] * 100 + ["Bonn"] * 100})
    sides = pa.array(who), pa.array(who)
    [column], _ = comparable_columns(table, table, frozenset(), people=sides, min_people=20)
    for side in (column.reference, column.current):
        assert set(side.to_pylist()) == {"Bonn", "Vaduz" if named else OTHERS}


def test_labels_of_too_few_people_alone_are_not_compared():
    table = pa.table({"location": ["Vaduz", "Bonn"] * 30})
    who = pa.array(["u1", "u2"] * 30)
    found, excluded = comparable_columns(table, table, frozenset(), people=(who, who), min_people=3)
    assert found == []
    assert excluded == {"location": "no label that 3 people have"}


def test_values_that_hardly_repeat_are_not_labels():
    table = pa.table({"title": [f"Ramen {row}" for row in range(50)]})
    assert comparable_columns(table, table, frozenset())[0] == []


@pytest.mark.parametrize(
    ("speed", "message"),
    [
        (Speed("Latency", "gnn", 5.1, 5), "gnn takes 5.1 ms to score a user (limit 5)"),
        (Speed("Latency", "gnn", 5.0, 5), None),
        (Speed("Latency", "gnn", 4.9, 5), None),
        (Speed("Throughput", "lists", 99.9, 100), "lists makes 99.9 rows a second (at least 100)"),
        (Speed("Throughput", "lists", 100, 100), None),
        (Speed("Throughput", "lists", 100.1, 100), None),
    ],
    ids=str,
)
def test_what_is_slow_is_told_and_is_no_drift(tmp_path, speed, message):
    """DM-05 and DM-06."""
    rows = features(200, 1)
    verdict = report(tmp_path, rows, rows, speeds=[speed])
    assert not verdict.drifted
    assert verdict.words == (("no drift",) if message is None else ("no drift", message))
    assert [alert.type for alert in verdict.alerts] == ([speed.type] if message else [])


def test_quality_is_judged_without_rows(tmp_path):
    empty = features(0, 1)
    verdict = report(tmp_path, empty, empty, quality=[Quality("gnn", 0.1, (0.4, 0.6))])
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
def test_quality_drops_by_more_than_the_limit_alert(current, history, is_drift):
    judged = QualityDrift.judge(Quality("gnn", current, tuple(history)), "ndcg@10", 0.05)
    assert judged.drifted is is_drift
    assert judged.drop == pytest.approx(np.nanmean(history) - current)


def test_a_model_that_cannot_be_judged_keeps_no_other_out(tmp_path):
    """DM-07: three served models are three judgements."""
    empty = features(0, 1)
    verdict = report(
        tmp_path,
        empty,
        empty,
        quality=[
            Quality("gnn", None, (0.8,)),
            Quality("item_knn", 0.8, ()),
            Quality("popularity", float("nan"), (0.8,)),
            Quality("transformer", 0.7, (0.8,)),
        ],
    )
    assert verdict.notes[-3:] == (
        "quality of gnn is not judged: ndcg@10 was not measured",
        "quality of item_knn is not judged: ndcg@10 has no history yet",
        "quality of popularity is not judged: ndcg@10 is undefined for this interval",
    )
    assert [(alert.type, alert.model) for alert in verdict.alerts] == [
        ("ModelDrift", "transformer")
    ]


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
        past_predictions=None if past is None else scores(past),
        predictions=scores(now),
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
