"""Six kinds of changes of a source's columns, and what a contract makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from transforms.contracts import Contract, Rule
from transforms.schema_changes import Change, schema_changes, schema_findings

BEFORE = {"user": "string", "item_id": "int", "at": "bigint", "stars": "float", "tags": "string"}


def _now(**changes: str | None) -> dict[str, str]:
    now = {**BEFORE, **changes}
    return {name: dtype for name, dtype in now.items() if dtype is not None}


CASES: list[tuple[str, dict[str, str], list[Change]]] = [
    ("same", _now(), []),
    ("another order", dict(reversed(BEFORE.items())), []),
    ("added", _now(device="string"), [Change("added", "device", "", "string")]),
    ("dropped", _now(stars=None), [Change("dropped", "stars", "float", "")]),
    (
        "renamed, alike",
        _now(item_id=None, itemId="int"),
        [Change("renamed", "item_id", "item_id", "itemId")],
    ),
    (
        "renamed, same place",
        {"visitor" if name == "user" else name: dtype for name, dtype in BEFORE.items()},
        [Change("renamed", "user", "user", "visitor")],
    ),
    (
        "dropped and added",
        _now(tags=None, price="double"),
        [Change("dropped", "tags", "string", ""), Change("added", "price", "", "double")],
    ),
    ("int to long", _now(item_id="bigint"), [Change("widened", "item_id", "int", "bigint")]),
    ("float to double", _now(stars="double"), [Change("widened", "stars", "float", "double")]),
    ("long to int", _now(at="int"), [Change("narrowed", "at", "bigint", "int")]),
    ("long to double", _now(at="double"), [Change("retyped", "at", "bigint", "double")]),
    ("string to number", _now(user="bigint"), [Change("retyped", "user", "string", "bigint")]),
]


@pytest.mark.parametrize(
    ("now", "changes"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_changes(now: dict[str, str], changes: list[Change]) -> None:
    assert schema_changes(BEFORE, now) == changes


@pytest.mark.parametrize(
    ("before", "now", "kind"),
    [
        ("array<int>", "array<bigint>", "widened"),
        ("array<double>", "array<float>", "narrowed"),
        ("decimal(10,2)", "decimal(12,2)", "widened"),
        ("decimal(12,2)", "decimal(12,4)", "retyped"),
        ("date", "timestamp", "widened"),
        ("map<string,int>", "string", "retyped"),
    ],
)
def test_types_that_hold_one_another(before: str, now: str, kind: str) -> None:
    assert [one.kind for one in schema_changes({"a": before}, {"a": now})] == [kind]


def _found(now: dict[str, str], used: set[str] | None = None, **args: Any) -> list[tuple[str, str]]:
    rules = (Rule("source_schema", (), args, "block"),)
    contract = Contract("events", False, rules)
    findings = schema_findings(contract, "log.parquet", BEFORE, now, used)
    return [(one.on_fail, one.message) for one in findings]


def test_what_is_added_warns_and_what_is_gone_stops() -> None:
    stops = "Nothing was read from it. Bring the source back to what it was, or change the "
    stops += "mapping's `columns`; a changed mapping begins anew."
    assert _found(_now(stars=None, user="int", device="string", item_id="bigint")) == [
        (
            "block",
            "log.parquet: column user was string and is now int; column stars (float) is gone. "
            + stops,
        ),
        (
            "warn",
            "log.parquet: column item_id was int and is now bigint; column device (string) is "
            "new. The mapping still reads what it read before.",
        ),
    ]
    assert _found(_now(item_id=None, itemId="int")) == [
        (
            "block",
            "log.parquet: column item_id is gone and itemId came, most likely a new name. " + stops,
        )
    ]


def test_the_contract_says_what_wider_types_and_new_columns_do() -> None:
    wider, longer = _now(item_id="bigint"), _now(device="string")
    assert [one for one, _ in _found(wider, widened="block")] == ["block"]
    assert _found(wider, widened="pass") == []
    assert [one for one, _ in _found(longer, added="block", used={"user"})] == ["block"]
    assert _found(longer, added="pass") == []


def test_a_column_that_nothing_reads_only_warns() -> None:
    assert [one for one, _ in _found(_now(stars=None), used={"user", "item_id"})] == ["warn"]
    assert [one for one, _ in _found(_now(stars=None), used={"stars"})] == ["block"]


def test_without_a_rule_or_an_earlier_schema_nothing_is_found() -> None:
    none = Contract("events", False, ())
    assert schema_findings(none, "log.parquet", BEFORE, {}) == []
    rule = Contract("events", False, (Rule("source_schema"),))
    assert schema_findings(rule, "log.parquet", {}, BEFORE) == []
