"""The graph models in a pipeline: judged, made champions, served, though neither knows likeness."""

from __future__ import annotations

from pathlib import Path

import pytest
from shop_world import make_shop

pytestmark = pytest.mark.slow


def test_lists_are_made_by_models_without_vectors(tmp_path: Path):
    from deltalake import DeltaTable

    shop = make_shop(tmp_path / "shop", models="popularity, spectral, {social_gnn: {size: debug}}")
    shop.set_spec(
        "k: 5, similar_items: 3, blend: {item_knn: 1.0}",
        "k: 5, similar_items: 3, blend: {spectral: 0.7, social_gnn: 0.3}",
    )
    done = shop.sextant("run", "shop")
    assert "by people they do not follow" not in done.stdout, "nobody follows anybody"
    rows = DeltaTable(shop.lake / "candidates").to_pyarrow_table().to_pylist()
    personal = [row for row in rows if row["user_id"] != "*"]
    sources = {row["source"] for row in personal}
    assert {"spectral", "social_gnn"} & sources
    # Ninety users love one of two kinds of goods.
    right = [row["item_id"][1] == str(int(row["user_id"][1:]) % 2) for row in personal]
    assert sum(right) / len(right) > 0.7
    assert DeltaTable(shop.lake / "similar_items").to_pyarrow_table().num_rows == 0
