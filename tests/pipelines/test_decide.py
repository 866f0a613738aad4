"""When a model is due for training: the rules of the spec, joined by OR."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest

from pipelines.sections import Retrain
from pipelines.stages.decide import why

RULES = Retrain(max_age=timedelta(days=7), new_events=100)
CALM = {"quality_dropped": False, "data_drifted": False}


@pytest.mark.parametrize(
    ("old", "much_new", "worse"), list(product([False, True], repeat=3)), ids=str
)
def test_any_rule_is_enough(*, old: bool, much_new: bool, worse: bool) -> None:
    reasons = why(
        RULES,
        age=timedelta(days=7, seconds=1) if old else timedelta(days=6, hours=23),
        new_events=100 if much_new else 99,
        drift={**CALM, "quality_dropped": worse},
    )
    assert len(reasons) == old + much_new + worse


@pytest.mark.parametrize(
    ("rules", "facts", "reasons"),
    [
        ({}, {}, []),
        ({}, {"age": timedelta(days=7)}, []),
        (
            {},
            {"age": timedelta(days=7, seconds=1)},
            ["last trained 604801s ago, more than 7d"],
        ),
        ({}, {"new_events": 1}, []),
        ({"new_events": 1}, {"new_events": 1}, ["1 new events, at least 1"]),
        ({}, {"drift": None}, []),
        ({}, {"drift": {**CALM, "data_drifted": True}}, ["the data drifted"]),
        ({"data_drift": False}, {"drift": {**CALM, "data_drifted": True}}, []),
        (
            {},
            {"drift": {**CALM, "quality_dropped": True}},
            ["quality fell below its history"],
        ),
        ({"quality_drop": False}, {"drift": {**CALM, "quality_dropped": True}}, []),
        ({"force": True}, {}, ["forced (`retrain.force`)"]),
        ({}, {"age": None}, ["never trained before"]),
    ],
)
def test_each_rule_says_why(
    rules: dict[str, object], facts: dict[str, object], reasons: list[str]
) -> None:
    base = {"age": timedelta(hours=6), "new_events": 0, "drift": CALM}
    assert why(RULES.model_copy(update=rules), **{**base, **facts}) == reasons
