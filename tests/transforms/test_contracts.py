"""Contracts on tiny frames: keys, limits, what blocks a table, and how findings are shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from contract_world import _check, _rows, _rule

from transforms.contracts import Contract, Finding, Rule, check, render_findings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.slow
def test_of_equal_keys_one_row_stays_whatever_the_order_of_arrival(spark: SparkSession) -> None:
    copies = [
        {"id": "a", "value": 1.0},
        {"id": "a", "value": 2.0},
        {"id": "a", "value": 3.0, "kind": None},
        {"id": "b"},
        {"id": None},
        {"id": None},
    ]
    rules = (_rule("unique", "id"), _rule("not_null", "kind"))
    results = [_check(_rows(spark, *rows), *rules) for rows in (copies, copies[::-1])]
    kept = [
        sorted((r["id"] or "", r["value"]) for r in result.good.collect()) for result in results
    ]
    assert kept[0] == kept[1]
    assert [key for key, _ in kept[0]] == ["", "", "a", "b"]
    assert kept[0][2][1] in {1.0, 2.0}, "the copy that breaks another rule must not be the one kept"
    labels = sorted(row["rule"] for row in results[0].quarantined.collect())
    assert labels == ["not_null:kind, unique:id", "unique:id"]
    assert results[0].findings[0] == Finding(
        "unique",
        "id",
        "quarantine",
        3,
        0.5,
        ("'a'",),
        "3 of 6 rows share id with another row. Load each record once, or map a key that tells "
        "them apart.",
    )


def test_a_key_of_two_columns_and_a_limit_of_the_table_can_block(spark: SparkSession) -> None:
    df = _rows(spark, {"id": "a"}, {"id": "a"}, {"id": "a", "rank": 2}, {"id": "a", "rank": None})
    result = _check(
        df,
        Rule("unique", ("id", "rank"), {}, "block"),
        _rule("row_count", on_fail="block", min=5, max=9),
        _rule("row_count", on_fail="warn", max=4),
    )
    assert result.blocked
    assert result.findings == [
        Finding(
            "row_count",
            "",
            "block",
            4,
            1.0,
            (),
            "4 rows arrived, expected between 5 and 9. Check the source's path and the interval, "
            "or change the rule.",
        ),
        Finding(
            "unique",
            "id+rank",
            "block",
            2,
            0.5,
            ("'a + 1'",),
            "2 of 4 rows share id and rank with another row. Load each record once, or map a key "
            "that tells them apart.",
        ),
    ]
    assert (result.good.count(), result.rows_quarantined) == (4, 0)


def test_shares_decide_exactly_at_their_limit(spark: SparkSession) -> None:
    df = _rows(spark, *[{"kind": None}] * 7, *[{"rank": 0}] * 3)
    result = _check(
        df,
        _rule("missing_share", "kind", "block", max=0.7),
        _rule("missing_share", "vector", "block", max=0.0),
        _rule("missing_share", "kind", "warn", max=0.69),
        _rule("between", "rank", "block", min=1, mostly=0.7),
        _rule("between", "rank", "warn", min=1, mostly=0.71),
    )
    assert not result.blocked
    assert [(found.rule, found.rows_failed, found.message) for found in result.findings] == [
        (
            "missing_share",
            7,
            "7 of 10 rows have no kind, more than the 69 % allowed. Complete the source, or raise "
            "`max`.",
        ),
        (
            "between",
            3,
            "3 of 10 rows have rank outside its range (at least 1). Check its unit (`unit`, "
            "`scale`) in the mapping, or widen the rule.",
        ),
    ]


@pytest.mark.parametrize("allow_empty", [False, True])
def test_an_empty_table_blocks_unless_it_may_be_empty(
    spark: SparkSession, allow_empty: bool
) -> None:
    rules = (_rule("not_null", "id"), _rule("unique", "id"), _rule("finite", "value"))
    result = _check(_rows(spark, {}).limit(0), *rules, allow_empty=allow_empty)
    assert (result.rows, result.rows_quarantined, result.blocked) == (0, 0, not allow_empty)
    assert [found.message for found in result.findings] == [
        "The table has no rows. Check the source's path and the interval, or set "
        "`allow_empty: true` in the contract if that can happen."
    ][: not allow_empty]


def test_setting_aside_every_row_blocks(spark: SparkSession) -> None:
    result = _check(_rows(spark, {"kind": None}, {"kind": None}), _rule("not_null", "kind"))
    assert result.blocked
    assert result.findings[0] == Finding(
        "allow_empty",
        "",
        "block",
        2,
        1.0,
        (),
        "All 2 rows were set aside, so the table would be empty. Mend the source, or the rules "
        "that set rows aside.",
    )


def test_forbidden_source_columns_block_and_are_named(spark: SparkSession) -> None:
    rule = Rule("forbidden_columns", ("show_cnt", "play_cnt"), {"reason": "they leak"}, "block")
    result = _check(_rows(spark, {}), rule, source_columns=["id", "play_cnt"])
    assert result.findings == [
        Finding(
            "forbidden_columns",
            "play_cnt",
            "block",
            0,
            0.0,
            (),
            "Source columns play_cnt must not be mapped: they leak. Take them out of `columns`.",
        )
    ]
    assert result.blocked
    assert not _check(_rows(spark, {}), rule, source_columns=["id"]).findings


def test_sensitive_columns_show_no_values(spark: SparkSession, table: Callable) -> None:
    df = table("users", [{"user_id": "u1", "demographics": {"income": "s3cret"}}])
    flat = df.selectExpr("user_id", "demographics['income'] AS demographics")
    rule = Rule("one_of", ("demographics",), {"values": ["x"]}, "warn")
    result = _check(flat, rule, table="users")
    assert result.findings[0].sample == ()
    assert "s3cret" not in result.findings[0].message


def test_an_interval_end_without_zone_is_refused(spark: SparkSession) -> None:
    with pytest.raises(ValueError) as caught:
        check(
            _rows(spark, {}),
            Contract("things", False, ()),
            interval_end=datetime(2026, 1, 6),
            references={},
            source_columns=(),
        )
    assert str(caught.value) == (
        "interval_end 2026-01-06 00:00:00 needs a time zone; give it in UTC"
    )


def test_checking_leaves_no_cache_and_no_files(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    held = spark.sparkContext._jsc.getPersistentRDDs().size()
    df = _rows(spark, {}, {"kind": None})
    result = _check(df, _rule("not_null", "kind"))
    assert result.rows_quarantined == 1
    assert spark.sparkContext._jsc.getPersistentRDDs().size() == held
    assert list(tmp_path.iterdir()) == []


def test_findings_are_rendered_in_a_bounded_table() -> None:
    message = "3 of 1,000 rows have no user_id. Fill it in the source, or map the column."
    one = Finding("not_null", "user_id", "block", 3, 0.003, (), message)
    two = Finding("one_of", "c" * 50, "warn", 12_345, 0.5, ("'" + "x" * 50 + "'", "'y'"), "Short.")
    assert render_findings([one, two]) == (
        "blocks      not_null:user_id                                      3 rows    0.30 %\n"
        "            3 of 1,000 rows have no user_id. Fill it in the source, or map the column.\n"
        "warns       one_of:cccccccccccccccccccccccccccccccc…         12,345 rows   50.00 %\n"
        "            Short. For example: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…, 'y'."
    )
    many = render_findings([one] * 23)
    assert many.count("blocks") == 20
    assert many.endswith("\nand 3 more")
    assert max(map(len, many.splitlines())) <= 100
    assert render_findings([]) == ""
