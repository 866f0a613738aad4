"""What is different between two fits, in words."""

from __future__ import annotations

import pytest

from training.changes import changes

SPEC = {
    "model": "transformer",
    "options": {"dropout": 0.1, "pooling": None},
    "seed": 42,
    "features": {"label": {"threshold": 0.5}},
}
DATA = {
    "examples": {"version": 4, "rows": 100_000, "newest": "2026-02-02T00:00Z"},
    "items": {"version": 2, "rows": 310, "newest": None},
}


def test_equal_fits_have_no_changes():
    assert changes(SPEC, SPEC, DATA, DATA) == []


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"options": {"dropout": 0.3, "pooling": None}}, ["dropout 0.1 -> 0.3"]),
        ({"options": {"dropout": 0.1, "pooling": "mean"}}, ["pooling null -> mean"]),
        ({"options": {"dropout": 0.1}}, ["pooling is gone, it was null"]),
        (
            {"options": {"dropout": 0.1, "pooling": None, "heads": 4}},
            ["heads is new: 4"],
        ),
        ({"features": {"label": {"threshold": 0.6}}}, ["features.label.threshold 0.5 -> 0.6"]),
        ({"seed": 43, "options": {"dropout": True, "pooling": None}},
         ["dropout 0.1 -> true", "seed 42 -> 43"]),
        ({"model": ["a" * 80]}, [f'model transformer -> ["{"a" * 57}…']),
    ],
)  # fmt: skip
def test_settings_change_from_and_to(now, said):
    assert changes(SPEC, SPEC | now, DATA, DATA) == said


@pytest.mark.parametrize(
    ("table", "now", "said"),
    [
        (
            "examples",
            {"version": 5, "rows": 112_345, "newest": "2026-02-02T06:00Z"},
            "examples: 12,345 more rows, newest 2026-02-02T06:00Z",
        ),
        ("items", {"version": 3, "rows": 309, "newest": None}, "items: 1 fewer rows"),
        (
            "items",
            {"version": 3, "rows": 310, "newest": None},
            "items: as many rows, written anew (version 2 -> 3)",
        ),
        (
            "graph_edges",
            {"version": 0, "rows": 1_500, "newest": None},
            "graph_edges: not read before, 1,500 rows",
        ),
    ],
)
def test_tables_change_by_their_rows(table, now, said):
    assert changes(SPEC, SPEC, DATA, DATA | {table: now}) == [said]


def test_a_table_that_is_no_longer_read_is_named():
    assert changes(SPEC, SPEC, DATA, {"items": DATA["items"]}) == ["examples: no longer read"]
