"""Each rule on tiny frames: its verdict, the rows set aside, its texts, and where it cannot fit."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from contract_world import COLUMNS, END, GOOD, _check, _rows, _rule

from transforms.contracts import CheckResult, Finding, Rule, RuleError, write_data_docs

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.slow

NAN, INF = math.nan, math.inf


@pytest.fixture(scope="module")
def authors(spark: SparkSession) -> DataFrame:
    # u1 twice: a lookup must not multiply rows.
    return spark.createDataFrame([("u1",), ("u1",), ("u2",), (None,)], "user_id string")


BREAKAGES: list[tuple[Rule, list[dict[str, Any]], str, tuple[str, ...]]] = [
    (
        _rule("not_null", "kind"),
        [{"kind": None}],
        "have no kind. Fill it in the source, or map the column that holds it.",
        (),
    ),
    (
        _rule("not_null", "vector"),
        [{"vector": None}],
        "have no vector. Fill it in the source, or map the column that holds it.",
        (),
    ),
    (
        _rule("between", "rank", min=1, max=9),
        [{"rank": 0}, {"rank": 10}, {"rank": -7}],
        "have rank outside its range (between 1 and 9). Check its unit (`unit`, `scale`) in the "
        "mapping, or widen the rule.",
        ("'-7'", "'0'", "'10'"),
    ),
    (
        _rule("one_of", "kind", values=["view", "like"]),
        [{"kind": "veiw"}, {"kind": "View"}],
        "have kind outside the declared values. Map the new value to a known one, or add it to "
        "`values`.",
        ("'View'", "'veiw'"),
    ),
    (
        _rule("one_of", "tags", values=["a", "b"]),
        [{"tags": ["a", "c"]}],
        "have tags outside the declared values. Map the new value to a known one, or add it to "
        "`values`.",
        ("'c'",),
    ),
    (
        _rule("references", "author", table="users", to="user_id"),
        [{"author": "u9"}],
        "have author that no row of users.user_id holds. Load the missing users first, or check "
        "that both use one id.",
        ("''", "'u 1'", "'u9'"),
    ),
    (
        _rule("vector_width", "vector", width=2),
        [{"vector": [1.0]}, {"vector": []}],
        "have vector that is not 2 wide. Write all its vectors with one encoder, or leave it null.",
        ("'0'", "'1'"),
    ),
    (
        _rule("finite", "value"),
        [{"value": NAN}, {"value": INF}, {"value": NAN}, {"value": -INF}],
        "have value that is not finite. Write null where no value is known. Found: 2 NaN, "
        "2 infinite; beside them 1 null, which count as missing.",
        (),
    ),
    (
        _rule("finite", "vector"),
        [{"vector": [NAN, 1.0]}, {"vector": [1.0, -INF]}, {"vector": [None, 1.0]}],
        "have vector that is not finite. Write null where no value is known. Found: 1 NaN, "
        "1 infinite, 1 null element; beside them 2 null, which count as missing.",
        (),
    ),
    (
        _rule("matches", "author", pattern=r"^\S+$"),
        [{"author": "u 1"}, {"author": ""}],
        r"have author that does not match ^\S+$. Clean it in the source, or change the pattern.",
        ("''", "'u 1'"),
    ),
    (
        _rule("not_after_end", "at"),
        [{"at": END}, {"at": datetime(2026, 1, 7, tzinfo=UTC)}],
        "have at at or after the end of the interval. Run the later interval for them, or check "
        "the time's `unit` and the source's clock.",
        ("'2026-01-06 00:00:00'", "'2026-01-07 00:00:00'"),
    ),
]
"""A rule, the only rows that break it, its message after the counts, and its samples."""

KINDS = {
    "finite:value": (("NaN", 2), ("infinite", 2), ("null", 1)),
    "finite:vector": (("NaN", 1), ("infinite", 1), ("null element", 1), ("null", 2)),
}


@pytest.fixture(scope="module")
def broken(spark: SparkSession, authors: DataFrame) -> tuple[CheckResult, dict[str, set[str]]]:
    """All row rules on one frame in which each breakage is planted; expected ids by label.

    A row is planted for one rule, yet others may rightly break on it too (an empty vector of the
    wrong width is finite, a null vector is neither), so the oracle below decides row by row.
    """
    changes: list[dict[str, Any]] = [{}, dict.fromkeys(GOOD)]
    changes += [change for _, planted, _, _ in BREAKAGES for change in planted]
    result = _check(
        _rows(spark, *changes),
        *[rule for rule, *_ in BREAKAGES],
        references={"users": authors},
    )
    expected: dict[str, set[str]] = {}
    for number, change in enumerate(changes):
        row = {**GOOD, **change}
        for rule, *_ in BREAKAGES:
            if _breaks(rule, row[rule.column]):
                expected.setdefault(rule.label, set()).add(f"r{number}")
    return result, expected


def _breaks(rule: Rule, value: Any) -> bool:
    """The rules once more in plain Python."""
    if value is None:
        return rule.name == "not_null"
    several = value if isinstance(value, list) else [value]
    match rule.name:
        case "between":
            return not rule.args["min"] <= value <= rule.args["max"]
        case "one_of":
            return not set(several) <= set(rule.args["values"])
        case "references":
            return value not in {"u1", "u2"}
        case "vector_width":
            return len(value) != rule.args["width"]
        case "finite":
            return any(one is None or not math.isfinite(one) for one in several)
        case "matches":
            return not value or " " in value
        case "not_after_end":
            return value >= END
    return False


@pytest.mark.slow
def test_rows_set_aside_are_those_that_break_a_rule(
    broken: tuple[CheckResult, dict[str, set[str]]],
) -> None:
    result, expected = broken
    seen: dict[str, set[str]] = {}
    aside = result.quarantined.selectExpr("*", "CAST(interval_end AS string) AS end").collect()
    for row in aside:
        assert (row["table"], row["end"]) == ("things", "2026-01-06 00:00:00")
        for label in row["rule"].split(", "):
            seen.setdefault(label, set()).add(json.loads(row["row"])["id"])
    assert seen == expected
    broken_ids = set.union(*expected.values())
    everything = {f"r{number}" for number in range(result.rows)}
    assert {row["id"] for row in result.good.collect()} == everything - broken_ids
    assert result.rows_quarantined == len(aside) == len(broken_ids)
    assert result.good.columns == [field.split()[0] for field in COLUMNS.split(", ")]


def test_great_expectations_counts_what_the_filters_pick(
    broken: tuple[CheckResult, dict[str, set[str]]],
) -> None:
    result, expected = broken
    counts = {f"{found.rule}:{found.column}": found.rows_failed for found in result.findings}
    assert counts == {label: len(ids) for label, ids in expected.items()}
    assert not result.blocked
    assert not result.validation.success


@pytest.mark.parametrize(
    ("rule", "planted", "text", "sample"), BREAKAGES, ids=[one[0].label for one in BREAKAGES]
)
def test_findings_say_what_broke_and_what_to_do(
    broken: tuple[CheckResult, dict[str, set[str]]],
    rule: Rule,
    planted: list[dict[str, Any]],
    text: str,
    sample: tuple[str, ...],
) -> None:
    result, expected = broken
    rows = len(expected[rule.label])
    assert rows >= len(planted)
    (finding,) = [
        one for one in result.findings if (one.rule, one.column) == (rule.name, rule.column)
    ]
    assert finding == Finding(
        rule.name,
        rule.column,
        "quarantine",
        rows,
        rows / result.rows,
        sample,
        f"{rows:,} of {result.rows:,} rows {text}",
        kinds=KINDS.get(rule.label, ()),
    )


def test_a_row_that_breaks_several_rules_is_set_aside_once(spark: SparkSession) -> None:
    df = _rows(spark, {"kind": None, "rank": 0}, {})
    result = _check(df, _rule("not_null", "kind"), _rule("between", "rank", min=1))
    (row,) = result.quarantined.collect()
    assert row["rule"] == "not_null:kind, between:rank"
    assert json.loads(row["row"]) == {
        "id": "r0",
        "tags": ["a"],
        "value": 1.5,
        "rank": 0,
        "vector": [0.0, 1.0],
        "at": "2026-01-05T23:59:59.999999Z",
        "author": "u1",
        "demographics": {"age": "30"},
    }


MISFITS = [
    (
        _rule("not_nul", "kind"),
        "contract things, rule not_nul:kind: unknown rule; did you mean not_null? There are: "
        "at_most, between, finite, forbidden_columns, freshness, matches, mean, missing_share, "
        "not_after_end, not_blank, not_null, one_of, references, row_count, share, size_change, "
        "source_schema, unique, vector_width, volume",
    ),
    (
        _rule("not_null", "knd"),
        "contract things, rule not_null:knd: things has no column knd; did you mean kind? There "
        "are: id, kind, tags, value, rank, vector, at, author, demographics",
    ),
    (_rule("one_of", "kind"), "contract things, rule one_of:kind: add `values`"),
    (
        _rule("between", "rank", min=None, max=None),
        "contract things, rule between:rank: add `min`, `max` or both",
    ),
    (
        _rule("between", "kind", min=0),
        "contract things, rule between:kind: needs a number, but kind is string",
    ),
    (
        _rule("finite", "demographics"),
        "contract things, rule finite:demographics: needs a number or a list of floats, but "
        "demographics is map<string,string>",
    ),
    (
        _rule("row_count", min=1),
        "contract things, rule row_count: no single row breaks it; use on_fail: block or warn",
    ),
    (
        _rule("not_null", "kind", mostly=0.9),
        "contract things, rule not_null:kind: `mostly` is for row rules with on_fail: block or "
        "warn",
    ),
    (
        _rule("references", "author", table="users", to="user_id"),
        "contract things, rule references:author: no table users to refer to; did you mean user? "
        "There are: user",
    ),
    (
        _rule("references", "author", table="user", to="id"),
        "contract things, rule references:author: user has no column id. There are: user_id",
    ),
]


@pytest.mark.parametrize(("rule", "message"), MISFITS, ids=[m.split(": ")[0] for _, m in MISFITS])
def test_a_rule_that_does_not_fit_is_an_error(
    spark: SparkSession, authors: DataFrame, rule: Rule, message: str
) -> None:
    with pytest.raises(RuleError) as caught:
        _check(_rows(spark, {}), rule, references={"user": authors})
    assert str(caught.value) == message


def test_data_docs_are_offline_pages_without_values(
    broken: tuple[CheckResult, dict[str, set[str]]], tmp_path: Path
) -> None:
    index = write_data_docs([broken[0]], tmp_path / "quality")
    assert index == tmp_path / "quality" / "index.html"
    page = (tmp_path / "quality" / "things.html").read_text(encoding="utf-8")
    assert 'href="things.html"' in index.read_text(encoding="utf-8")
    for text in (index.read_text(encoding="utf-8"), page):
        assert not [word for word in ("http:", "https:", "<script", "url(", "src=") if word in text]
    assert "values must belong to this set" in page
    assert "width of vector" in page
    assert "veiw" not in page
    assert "u9" not in page
