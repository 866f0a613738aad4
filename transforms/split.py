"""One global split by time: train, then validation, then test (DE-23).

A split per user would let a model learn from what others did after the events that it is judged on.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column
from pyspark.sql import functions as F


def split_of(timestamp: str, *, valid_start: datetime, test_start: datetime) -> Column:
    """Returns `train` before `valid_start`, `valid` before `test_start`, and `test` from there on.

    Raises:
        ValueError: Validation would not begin before the test.
    """
    if valid_start >= test_start:
        raise ValueError(
            f"Validation must begin before the test, but it begins at {valid_start.isoformat()} "
            f"and the test at {test_start.isoformat()}."
        )
    moment = F.col(timestamp)
    return (
        F.when(moment < F.lit(valid_start), "train")
        .when(moment < F.lit(test_start), "valid")
        .otherwise("test")
    )
