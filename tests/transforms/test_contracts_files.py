"""The contracts that come with the project: they fit their tables, and do what they promise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pipelines.sections import CONTRACT_TABLES
from transforms.contract_rules import validate
from transforms.contracts import CheckResult, Contract, Rule, check
from transforms.schemas import EMBEDDING_WIDTHS, EVENT_TYPES, struct

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "data_contracts"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
END = datetime(2026, 1, 6, tzinfo=UTC)

LISTS = {
    "candidates": "user_id string, rank int, item_id string, score double, source string, "
    "reason string, model_name string, model_version string, run_id string, "
    "interval_end timestamp, created_at timestamp",
    "similar_items": "item_id string, rank int, similar_item_id string, score double, "
    "model_version string, run_id string, interval_end timestamp",
}


def _load(name: str) -> Contract:
    document = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    rules = []
    for entry in document["rules"]:
        kind, on_fail = entry.pop("rule"), entry.pop("on_fail")
        mostly = entry.pop("mostly", 1.0)
        columns = tuple(entry.pop("columns", ())) or tuple(
            entry.pop(k) for k in ["column"] if k in entry
        )
        rules.append(Rule(kind, columns, entry, on_fail, mostly))
    return Contract(document["table"], document["allow_empty"], tuple(rules))


def _frame(spark: SparkSession, table: str, *rows: Mapping[str, Any]) -> DataFrame:
    from pyspark.sql.types import StructType

    schema = StructType.fromDDL(LISTS[table]) if table in LISTS else struct(table)
    values = [tuple(row.get(name) for name in schema.names) for row in rows]
    return spark.createDataFrame(values, schema).coalesce(1)


def _check(
    spark: SparkSession, name: str, df: DataFrame, source_columns: tuple[str, ...] = ()
) -> CheckResult:
    return check(
        df,
        _load(name),
        interval_end=END,
        references={
            "items": _frame(spark, "items", {"item_id": "i1"}, {"item_id": "i2"}),
            "users": _frame(spark, "users", {"user_id": "u1"}),
        },
        source_columns=source_columns,
    )


def _event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "user_id": "u1",
        "item_id": "i1",
        "event_type": "view",
        "watch_seconds": 3.0,
        "timestamp": END - timedelta(hours=1),
    } | changes


def test_every_table_has_a_contract_and_the_readme_lists_them_all() -> None:
    assert set(NAMES) >= set(CONTRACT_TABLES)
    listed = re.findall(r"`(\w+)\.yaml`", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert sorted(set(listed)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_fits_its_table(spark: SparkSession, name: str) -> None:
    contract = _load(name)
    frame = _frame(spark, contract.table)
    references = {"items": _frame(spark, "items"), "users": _frame(spark, "users")}
    for rule in contract.rules:
        validate(rule, frame, references, contract.table)


def test_contracts_agree_with_the_schemas() -> None:
    (types,) = [rule for rule in _load("events").rules if rule.name == "one_of"]
    assert types.args["values"] == list(EVENT_TYPES)
    widths = {r.column: r.args["width"] for r in _load("items").rules if r.name == "vector_width"}
    assert widths == EMBEDDING_WIDTHS


def test_bad_events_are_set_aside_and_the_rest_goes_on(spark: SparkSession) -> None:
    rows = [_event(number) for number in range(20)] + [
        _event(3),
        _event(20, user_id=None),
        _event(21, user_id="  "),
        _event(22, event_type="veiw"),
        _event(23, watch_seconds=-1.0),
        _event(24, watch_seconds=float("nan")),
        _event(25, timestamp=END),
        _event(26, item_id="i9"),
    ]
    result = _check(spark, "events", _frame(spark, "events", *rows))
    assert [(one.on_fail, one.rule, one.column, one.rows_failed) for one in result.findings] == [
        ("quarantine", "between", "watch_seconds", 2),
        ("quarantine", "unique", "event_id", 2),
        ("quarantine", "finite", "watch_seconds", 1),
        ("quarantine", "not_after_end", "timestamp", 1),
        ("quarantine", "not_blank", "user_id", 1),
        ("quarantine", "not_null", "user_id", 1),
        ("quarantine", "one_of", "event_type", 1),
    ]
    assert (result.blocked, result.rows, result.rows_quarantined) == (False, 28, 7)
    assert result.good.count() == 21


def test_lists_with_a_fault_block(spark: SparkSession) -> None:
    fine = {
        "user_id": "u1",
        "rank": 1,
        "item_id": "i1",
        "score": 0.5,
        "source": "gnn",
        "reason": "Popular this week",
        "model_version": "3",
    }
    good = [fine, fine | {"rank": 2, "item_id": "i2"}]
    assert not _check(spark, "candidates", _frame(spark, "candidates", *good)).findings
    bad = [*good, fine | {"rank": 0, "score": float("nan")}]
    result = _check(spark, "candidates", _frame(spark, "candidates", *bad))
    assert [(one.on_fail, one.rule, one.column) for one in result.findings] == [
        ("block", "unique", "user_id+item_id"),
        ("block", "between", "rank"),
        ("block", "finite", "score"),
    ]


def test_popularity_statistics_of_kuairand_must_not_be_mapped(spark: SparkSession) -> None:
    df = _frame(spark, "items", {"item_id": "v1"})
    mapped = ("video_id", "author_id", "tag", "show_cnt", "long_time_play_cnt")
    result = _check(spark, "kuairand_items", df, mapped)
    assert [one.message for one in result.findings] == [
        "Source columns show_cnt, long_time_play_cnt must not be mapped: averages over the whole "
        "collection period leak the future. Take them out of `columns`."
    ]
    assert result.blocked
    assert not _check(spark, "kuairand_items", df, mapped[:3]).findings


@pytest.mark.parametrize(
    ("name", "row", "broken"),
    [
        ("ratings", {"event_id": "e1", "value": 5.5}, ["between:value"]),
        ("users", {"user_id": "u1", "trust_score": 1.1}, ["between:trust_score"]),
        ("follows", {"follower_id": "u1", "followee_id": " "}, ["not_blank:followee_id"]),
        (
            "items",
            {"item_id": "i1", "text_embedding": [0.5] * 767},
            ["vector_width:text_embedding"],
        ),
        (
            "posts",
            {"item_id": "i1", "author_id": "u7", "created_at": END, "text": "x"},
            ["references:author_id"],
        ),
    ],
)
def test_a_bad_row_is_set_aside(
    spark: SparkSession, name: str, row: dict[str, Any], broken: list[str]
) -> None:
    result = _check(spark, name, _frame(spark, _load(name).table, row))
    assert [one["rule"] for one in result.quarantined.collect()] == broken


def test_too_few_vectors_block(spark: SparkSession) -> None:
    rows = [{"item_id": f"i{number}", "text_embedding": [0.0]} for number in range(6)]
    rows += [{"item_id": f"i{number}"} for number in range(6, 10)]
    result = _check(spark, "item_vectors", _frame(spark, "items", *rows))
    assert [(one.on_fail, one.column, one.share) for one in result.findings] == [
        ("block", "audio_embedding", 1.0),
        ("block", "video_embedding", 1.0),
        ("block", "text_embedding", 0.4),
    ]
