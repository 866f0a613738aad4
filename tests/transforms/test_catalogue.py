"""The catalogue of features: complete, current, and known by the names that explanations use."""

from __future__ import annotations

from pathlib import Path

import pytest

from transforms import catalogue
from transforms.definitions import Feature
from transforms.schemas import columns

PAGE = Path(__file__).parents[2] / "docs" / "features.md"


def test_every_column_of_a_feature_table_has_one_definition():
    for table, features in catalogue.TABLES.items():
        names = [feature.name for feature in features]
        assert len(names) == len(set(names)), table
    found = [(entry.table, entry.column) for entry in catalogue.entries()]
    assert found == [
        (table, column)
        for table in catalogue.TABLES
        for column in columns(table)
        if column not in catalogue.KEYS
    ]
    for entry in catalogue.entries():
        assert entry.feature.description.endswith("."), entry
        assert entry.feature.unit, entry


def test_core_tables_hold_exactly_their_features():
    """FE-01, FE-02: eleven and fourteen, each beside its key."""
    assert len(catalogue.TABLES["user_features"]) == 11
    assert len(catalogue.TABLES["item_features"]) == 14


def test_the_page_is_current():
    assert PAGE.read_text() == catalogue.page(), "run: sextant render features"


@pytest.mark.parametrize(
    ("features", "message"),
    [
        pytest.param((), "Column source of table graph_edges is not defined. Add a Feature beside "
                     "the function that computes it.", id="a column without definition"),
        pytest.param((*catalogue.GRAPH_EDGES, Feature("gone", "Left.", "-")),
                     "Table graph_edges has no column gone, which is defined. Add it to "
                     "transforms/schemas.py or drop the definition.",
                     id="a definition without column"),
    ],
)  # fmt: skip
def test_gaps_are_named(monkeypatch, features, message):
    monkeypatch.setitem(catalogue.TABLES, "graph_edges", features)
    with pytest.raises(catalogue.CatalogueError) as error:
        list(catalogue.entries())
    assert str(error.value) == message


@pytest.mark.parametrize("name", catalogue.ALIASES)
def test_names_of_explanations_resolve(name):
    """FE-50: each name stands for one column of the examples, which is defined."""
    column = catalogue.resolve(name)
    assert [e.column for e in catalogue.entries() if e.table == "examples"].count(column) == 1


def test_names_of_explanations_are_these():
    """FE-50."""
    assert list(catalogue.ALIASES) == [
        "user_age", "user_activity_level", "content_engagement_rate", "hashtag_similarity",
        "social_connections", "content_recency", "author_trust_score",
    ]  # fmt: skip
