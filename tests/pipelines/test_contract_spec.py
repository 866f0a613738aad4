"""Contracts as typed records: forms, and the whole message of every bad one."""

import os
import re
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.contract import Contract, load_contract
from pipelines.errors import SpecError
from pipelines.rules import RULES

HERE = Path(__file__).parent
CASES = sorted((HERE / "contract_cases").glob("*.yaml"))
REPOSITORY = HERE.parents[1]

EVENTS = r"""
table: events
allow_empty: false
rules:
  - {rule: not_null, column: user_id, on_fail: quarantine}
  - {rule: between, column: watch_seconds, min: 0, max: 86400, on_fail: quarantine}
  - {rule: one_of, column: event_type, values: [view, click], on_fail: block}
  - {rule: unique, columns: [event_id], on_fail: block}
  - {rule: row_count, min: 1, on_fail: block}
  - {rule: references, column: item_id, table: items, to: item_id, on_fail: warn}
  - {rule: vector_width, column: video_embedding, width: 2048, on_fail: quarantine}
  - {rule: finite, column: value, on_fail: quarantine}
  - {rule: matches, column: user_id, pattern: '^\S+$', on_fail: quarantine}
  - {rule: not_after_end, column: timestamp, on_fail: quarantine}
  - {rule: forbidden_columns, columns: [show_cnt], reason: "leaks", on_fail: block}
  - {rule: missing_share, column: text_embedding, max: 0.6, on_fail: warn}
  - {rule: not_null, column: device, mostly: 0.9, on_fail: warn}
  - {rule: not_blank, column: user_id, on_fail: quarantine}
  - {rule: at_most, column: watch_seconds, limit: duration_seconds, table: items, key: item_id, factor: 3, tolerance: 5, on_fail: warn}
  - {rule: not_after_end, column: timestamp, skew: 5m, on_fail: quarantine}
  - {rule: freshness, column: timestamp, max_age: 12h, on_fail: block}
  - {rule: freshness, column: timestamp, on_fail: block}
  - {rule: volume, column: timestamp, min: 0.1, max: 5, days: 14, on_fail: warn}
  - {rule: size_change, min: 0.6, on_fail: block}
  - {rule: mean, column: watch_seconds, max: 600, on_fail: warn}
  - {rule: share, column: event_type, values: [like], min: 0.001, max: 0.5, on_fail: warn}
  - {rule: source_schema, widened: block, on_fail: block}
"""


@pytest.fixture
def load(tmp_path):
    """Returns `load(text)`: the contract of that text."""

    def load(text):
        folder = tmp_path / "data_contracts"
        folder.mkdir(exist_ok=True)
        (folder / "events.yaml").write_text(text)
        return load_contract(folder / "events.yaml")

    return load


def test_every_rule_in_its_plain_form(load):
    contract = load(EVENTS)
    assert (contract.table, contract.allow_empty) == ("events", False)
    assert {rule.name for rule in contract.rules} == set(RULES)
    plain = [tuple(rule.plain().values()) for rule in contract.rules]
    assert plain == [
        ("not_null", ("user_id",), {}, "quarantine", 1.0),
        ("between", ("watch_seconds",), {"min": 0.0, "max": 86400.0}, "quarantine", 1.0),
        ("one_of", ("event_type",), {"values": ("view", "click")}, "block", 1.0),
        ("unique", ("event_id",), {}, "block", 1.0),
        ("row_count", (), {"min": 1}, "block", 1.0),
        ("references", ("item_id",), {"table": "items", "to": "item_id"}, "warn", 1.0),
        ("vector_width", ("video_embedding",), {"width": 2048}, "quarantine", 1.0),
        ("finite", ("value",), {}, "quarantine", 1.0),
        ("matches", ("user_id",), {"pattern": r"^\S+$"}, "quarantine", 1.0),
        ("not_after_end", ("timestamp",), {}, "quarantine", 1.0),
        ("forbidden_columns", ("show_cnt",), {"reason": "leaks"}, "block", 1.0),
        ("missing_share", ("text_embedding",), {"max": 0.6}, "warn", 1.0),
        ("not_null", ("device",), {}, "warn", 0.9),
        ("not_blank", ("user_id",), {}, "quarantine", 1.0),
        (
            "at_most",
            ("watch_seconds",),
            {
                "limit": "duration_seconds",
                "table": "items",
                "key": "item_id",
                "factor": 3.0,
                "tolerance": 5.0,
            },
            "warn",
            1.0,
        ),
        ("not_after_end", ("timestamp",), {"skew": timedelta(minutes=5)}, "quarantine", 1.0),
        ("freshness", ("timestamp",), {"max_age": timedelta(hours=12)}, "block", 1.0),
        ("freshness", ("timestamp",), {}, "block", 1.0),
        (
            "volume",
            ("timestamp",),
            {"min": 0.1, "max": 5.0, "days": 14, "min_days": 3, "least": 100},
            "warn",
            1.0,
        ),
        ("size_change", (), {"min": 0.6, "least": 20}, "block", 1.0),
        ("mean", ("watch_seconds",), {"max": 600.0}, "warn", 1.0),
        ("share", ("event_type",), {"values": ("like",), "min": 0.001, "max": 0.5}, "warn", 1.0),
        ("source_schema", (), {"added": "warn", "widened": "block"}, "block", 1.0),
    ]
    assert list(contract.rules[0].plain()) == ["name", "columns", "args", "on_fail", "mostly"]


def test_a_dump_loads_to_the_same_contract(load):
    contract = load(EVENTS)
    assert Contract.model_validate(contract.model_dump(mode="json")) == contract


def test_one_bound_is_enough(load):
    rule = "table: events\nrules:\n  - {rule: between, column: value, max: 5, on_fail: block}\n"
    assert load(rule).rules[0].plain()["args"] == {"max": 5.0}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_bad_contract_gives_the_whole_message(case):
    with pytest.raises(SpecError) as caught:
        load_contract(case, root=HERE)
    expected = case.with_suffix(".txt")
    if os.environ.get("SEXTANT_WRITE_CASES"):
        expected.write_text(f"{caught.value}\n")
    assert f"{caught.value}\n" == expected.read_text()


def test_messages_name_the_file_below_the_project(load):
    with pytest.raises(SpecError, match=re.escape("data_contracts/events.yaml:1:8: `table`:")):
        load("table: evnts")


def test_the_contracts_of_the_repository_load():
    paths = sorted((REPOSITORY / "data_contracts").glob("*.yaml"))
    assert {"events", "items", "users", "follows", "candidates", "similar_items"} <= {
        path.stem for path in paths
    }
    for path in paths:
        assert load_contract(path).rules


def test_every_rule_says_what_it_means():
    for rule in RULES.values():
        assert rule.__doc__
        assert rule.__doc__.strip().endswith(".")


def test_a_contract_that_changed_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "data_contracts" / "users.yaml"
    file.parent.mkdir()
    for allowed in (False, True):
        file.write_text(f"table: users\nallow_empty: {str(allowed).lower()}\n")
        assert load_contract(file).allow_empty == allowed
    file.unlink()
    with pytest.raises(SpecError):
        load_contract(file)
