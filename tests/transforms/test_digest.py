"""Digests of rows: what they tell apart, and what they do not look at."""

from __future__ import annotations

import pytest
from pyspark.sql import functions as F

from transforms.digest import digests_by, rows_digest

SCHEMA = "id string, name string, n bigint, tags array<string>, shares map<string, double>"
ROWS = [
    ("a", "x", 1, ["t"], {"p": 0.5, "q": 0.5}),
    ("b", None, 2, [], None),
]


@pytest.fixture(scope="module")
def digest(spark):
    def of(*rows):
        return rows_digest(spark.createDataFrame(rows, SCHEMA))

    return of


@pytest.mark.parametrize(
    "same",
    [
        ROWS[::-1],
        [("a", "x", 1, ["t"], {"q": 0.5, "p": 0.5}), ROWS[1]],
    ],
    ids=["another order of rows", "another order of a map's entries"],
)
def test_the_same_rows(digest, same):
    assert digest(*same) == digest(*ROWS)


@pytest.mark.parametrize(
    "other",
    [
        [ROWS[0]],
        [*ROWS, ROWS[0]],
        [("a", "y", *ROWS[0][2:]), ROWS[1]],
        [ROWS[0], (None, "b", *ROWS[1][2:])],
        [ROWS[0], ("b", None, 2, None, None)],
        [ROWS[0], ("b", None, 2, [], {})],
    ],
    ids=["fewer", "twice", "a value", "a null elsewhere", "null for empty", "empty for null"],
)
def test_other_rows(digest, other):
    assert digest(*other) != digest(*ROWS)


def test_the_rows_of_each_key(spark, digest):
    frame = spark.createDataFrame([*ROWS, ("b", "z", 3, None, None)], SCHEMA)
    assert digests_by(frame, F.col("id")) == {
        "a": digest(ROWS[0]),
        "b": digest(ROWS[1], ("b", "z", 3, None, None)),
    }
