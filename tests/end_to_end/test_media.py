"""Goods that nobody has rated are shown to those who will like them, by what their names say."""

from __future__ import annotations

import pytest
from shop_world import Shop, make_shop

from pipelines.project import Project
from pipelines.stages.train import registry

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop after one run; two of its goods are new."""
    made = make_shop(
        tmp_path_factory.mktemp("shop"), models="popularity, {transformer: {size: debug}}"
    )
    made.set_spec("k: 5, similar_items: 3, blend: {item_knn: 1.0}", "k: 32, similar_items: 3")
    made.set_spec(
        "evaluation:",
        "features: {vectors: {text: {encoder: all-MiniLM-L6-v2, of: [title, categories]}}}\n"
        "evaluation:",
    )
    with (made.root / "data" / "items.csv").open("a") as file:
        file.write("s0new,Tea no. 99,tea\ns1new,Coffee no. 99,coffee\n")
    made.sextant("run", "shop")
    return made


def test_new_goods_reach_those_who_like_their_kind(shop: Shop):
    from deltalake import DeltaTable

    rows = DeltaTable(shop.lake / "candidates").to_pyarrow_table().to_pylist()
    rank = {(row["user_id"], row["item_id"]): row["rank"] for row in rows if row["user_id"] != "*"}
    users = sorted({user for user, _ in rank})
    assert all((user, item) in rank for user in users for item in ("s0new", "s1new"))
    right = [
        rank[user, f"s{int(user[1:]) % 2}new"] < rank[user, f"s{1 - int(user[1:]) % 2}new"]
        for user in users
    ]
    assert sum(right) / len(right) > 0.8
    alike = DeltaTable(shop.lake / "similar_items").to_pyarrow_table().to_pylist()
    assert {row["similar_item_id"][:2] for row in alike if row["item_id"] == "s0new"} == {"s0"}


def test_the_version_tells_its_story(shop: Shop):
    models = registry(Project.load("shop", root=shop.root))
    version = models.challenger("shop.transformer") or models.get("shop.transformer")
    card = models._client.get_model_version(version.name, version.version).description
    assert card.startswith(
        "# shop.transformer version 1\n\nCausal self-attention over what a user liked, in order, "
        "and over the media of the items; it tells what comes next and what comes of an item "
        "shown.\n\n## Verdict\n\n"
    )
    for part in (
        "## Data\n\nLearnt from ",
        "## Quality",
        "| ndcg@10",
        "rating, as a share of the best",
        "## Limits",
    ):
        assert part in card
    assert "clicks" not in card.split("## Limits")[0]  # a log of ratings has none that was left
