"""The one pass gives what Great Expectations gives, rule by rule, on frames full of oddities."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.rule_by_rule import rule_by_rule
from transforms.contracts import Contract, Rule, check

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

END = datetime(2026, 1, 6, tzinfo=UTC)
COLUMNS = (
    "id string, kind string, value double, other double, rank int, vector array<float>, "
    "tags array<string>, at timestamp"
)
RULES = [
    Rule("not_null", ("id",), {}, "warn"),
    Rule("not_null", ("vector",), {}, "warn", 0.9),
    Rule("not_blank", ("id",), {}, "warn"),
    Rule("matches", ("id",), {"pattern": "^a"}, "warn", 0.5),
    Rule("between", ("value",), {"min": -1.0, "max": 1.0}, "warn"),
    Rule("between", ("value",), {"min": 0.0}, "warn", 0.3),
    Rule("between", ("rank",), {"max": 3}, "warn", 0.7),
    Rule("one_of", ("kind",), {"values": ["x", "y"]}, "warn"),
    Rule("one_of", ("tags",), {"values": ["t", "u"]}, "warn"),
    Rule("finite", ("value",), {}, "warn"),
    Rule("finite", ("vector",), {}, "warn", 0.8),
    Rule("vector_width", ("vector",), {"width": 2}, "warn"),
    Rule("unique", ("id",), {}, "warn"),
    Rule("unique", ("kind", "rank"), {}, "warn"),
    Rule("references", ("kind",), {"table": "kinds", "to": "name"}, "warn"),
    Rule("references", ("kind",), {"table": "kinds", "to": "name"}, "warn", 0.2),
    Rule("at_most", ("value",), {"limit": "other", "factor": 2.0, "tolerance": 0.5}, "warn"),
    Rule("not_after_end", ("at",), {"skew": timedelta(minutes=5)}, "warn"),
    Rule("missing_share", ("kind",), {"max": 0.25}, "warn"),
]
NUMBERS = [None, math.nan, math.inf, -math.inf, -0.0, 0.0, 0.5, -3.0, 1e308]


def _frame(spark: SparkSession, seed: int, rows: int) -> DataFrame:
    chance = random.Random(seed)

    def row() -> tuple[Any, ...]:
        floats = [1.0, math.nan, math.inf, None, 0.25]
        return (
            chance.choice([None, "", " ", "\u00a0", "\u3000x", "a1", "a2", "b", "é" * 500]),
            chance.choice([None, "", "x", "y", "z"]),
            chance.choice(NUMBERS),
            chance.choice(NUMBERS),
            chance.choice([None, 0, 3, 4, 2**31 - 1]),
            chance.choice([None, [], chance.sample(floats, 2), [1.0, 2.0], [1.0, 2.0, 3.0]]),
            chance.choice([None, [], ["t"], ["t", "v"], [None]]),
            chance.choice([None, END, END + timedelta(minutes=5), END - timedelta(days=9999)]),
        )

    return spark.createDataFrame([row() for _ in range(rows)], COLUMNS).coalesce(1)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "rows"), [(1, 0), (2, 1), (3, 60), (4, 60), (5, 400)])
def test_one_pass_equals_rule_by_rule(spark: SparkSession, seed: int, rows: int) -> None:
    frame = _frame(spark, seed, rows)
    kinds = {"kinds": spark.createDataFrame([("x",), ("x",), (None,)], "name string")}
    contract = Contract("things", True, tuple(RULES))
    ours = check(frame, contract, interval_end=END, references=kinds, source_columns=())
    theirs = list(rule_by_rule(frame, contract, END, kinds))
    assert [rule for rule, _ in theirs] == RULES
    for (rule, expected), found in zip(theirs, ours.validation.results, strict=True):
        assert found.success == expected.success, rule
        assert found.result == expected.result, rule
        kwargs = {k: v for k, v in expected.expectation_config.kwargs.items() if k != "batch_id"}
        assert found.expectation_config.kwargs == kwargs
    broken = {(one.rule, one.column, one.rows_failed) for one in ours.findings}
    assert broken == {
        (rule.name, rule.column, result.result["unexpected_count"])
        for rule, result in theirs
        if not result.success
    }
