"""FE-29: the declared schemas hold every column that any consumer of the feature tables reads."""

import ast
from pathlib import Path

import pytest

from pipelines.stages import drift, snapshot
from transforms.schemas import SCHEMAS, columns

STAGES = Path(__file__).parents[2] / "pipelines" / "stages"


def test_a_snapshot_reads_declared_columns():
    assert set(snapshot.EXAMPLE_COLUMNS) <= set(columns("examples"))
    assert set(snapshot.ITEM_COLUMNS) <= set(columns("items"))


def test_drift_leaves_out_declared_columns():
    assert {*drift._NO_FEATURES, *drift._BESIDE} <= set(columns("examples"))


def reads():
    """Every `.arrow("table", columns=[...])` of the stages, as (stage, table, column)."""
    for file in sorted(STAGES.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            table = node.args[0]
            named = [k.value for k in node.keywords if k.arg in ("columns", "before", "since")]
            is_arrow = isinstance(node.func, ast.Attribute) and node.func.attr == "arrow"
            if not is_arrow or not isinstance(table, ast.Constant) or table.value not in SCHEMAS:
                continue
            for value in named:
                entries = value.keys if isinstance(value, ast.Dict) else getattr(value, "elts", [])
                for entry in entries:
                    yield file.stem, table.value, entry.value


@pytest.mark.parametrize(("stage", "table", "column"), sorted(set(reads())))
def test_a_stage_reads_declared_columns(stage, table, column):
    assert column in columns(table), stage


def test_the_columns_that_a_model_must_not_see_are_declared():
    """DE-11: demographics are sensitive, and no column of examples is made from them."""
    from transforms.schemas import SENSITIVE_COLUMNS

    for table, names in SENSITIVE_COLUMNS.items():
        assert set(names) <= set(columns(table))
        assert not [c for c in columns("examples") for name in names if name in c]
