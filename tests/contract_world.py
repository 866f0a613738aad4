"""Contracts checked on tiny frames, whose rows are one good row with changes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from transforms.contracts import CheckResult, Contract, Rule, check

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

END = datetime(2026, 1, 6, tzinfo=UTC)

COLUMNS = (
    "id string, kind string, tags array<string>, value double, rank int, vector array<float>, "
    "at timestamp, author string, demographics map<string,string>"
)
GOOD = {
    "kind": "view",
    "tags": ["a"],
    "value": 1.5,
    "rank": 1,
    "vector": [0.0, 1.0],
    "at": datetime(2026, 1, 5, 23, 59, 59, 999_999, tzinfo=UTC),
    "author": "u1",
    "demographics": {"age": "30"},
}
"""A row that breaks none of the rules below, but for its id."""


def _rows(spark: SparkSession, *changes: Mapping[str, Any]) -> DataFrame:
    """One row for each change of the good row; ids count from r0 unless given."""
    from pyspark.sql.types import StructType

    schema = StructType.fromDDL(COLUMNS)
    rows = [{"id": f"r{number}", **GOOD, **change} for number, change in enumerate(changes)]
    values = [tuple(row[name] for name in schema.names) for row in rows]
    return spark.createDataFrame(values, schema).coalesce(1)


def _check(df: DataFrame, *rules: Rule, **settings: Any) -> CheckResult:
    return check(
        df,
        Contract(settings.pop("table", "things"), settings.pop("allow_empty", False), rules),
        interval_end=END,
        references=settings.pop("references", {}),
        source_columns=settings.pop("source_columns", ()),
    )


def _rule(name: str, column: str = "", on_fail: str = "quarantine", **args: Any) -> Rule:
    mostly = args.pop("mostly", 1.0)
    return Rule(name, (column,) if column else (), args, on_fail, mostly)
