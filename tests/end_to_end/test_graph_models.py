"""The graph models in a pipeline: judged, made champions, served, to newcomers too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shop_world import END, make_shop

pytestmark = pytest.mark.slow


def test_lists_are_made_by_graph_models(tmp_path: Path):
    """Ninety users love one of two kinds of goods.

    On the last day a newcomer comes, follows two who love coffee and likes nothing, and a coffee
    comes that four of its lovers like.
    """
    from deltalake import DeltaTable

    gnn = "{gnn: {size: debug, social_weight: 0.5}}"
    shop = make_shop(
        tmp_path / "shop", models=f"popularity, {gnn}, spectral, {{social_gnn: {{size: debug}}}}"
    )
    shop.set_spec(
        "k: 5, similar_items: 3, blend: {item_knn: 1.0}",
        "k: 8, similar_items: 3, blend: {gnn: 0.5, spectral: 0.3, social_gnn: 0.2}",
    )
    shop.set_spec("name, categories", "name, author_id: maker, categories")
    shop.set_spec(
        "models:",
        "  follows:\n    path: data/follows.csv\n    format: csv\n"
        "    columns: {follower_id: from, followee_id: to}\nmodels:",
    )
    follows = [("from", "to"), ("new", "u01"), ("new", "u03")]
    # Everybody follows two of the same taste.
    follows += [
        (f"u{user:02}", f"u{(user + step) % 90:02}") for user in range(90) for step in (2, 4)
    ]
    (shop.root / "data" / "follows.csv").write_text("\n".join(map(",".join, follows)) + "\n")
    items = (shop.root / "data" / "items.csv").read_text().splitlines()
    items = [f"{row},{'maker' if row.startswith('sku') else 'u01'}" for row in items]
    (shop.root / "data" / "items.csv").write_text("\n".join([*items, "s199,New,coffee,u09"]) + "\n")
    rows = shop.events()
    last = int(END.timestamp()) - 3600
    rows[-1:-1] = [
        ["new", "s000", str(last), "1"],
        *([user, "s199", str(last), "5"] for user in ("u05", "u07", "u11", "u13")),
    ]
    shop.write_events(rows)
    shop.sextant("run", "shop")
    rows = DeltaTable(shop.lake / "candidates").to_pyarrow_table().to_pylist()
    personal = [row for row in rows if row["user_id"] not in ("*", "new")]
    assert {"spectral", "social_gnn", "gnn"} & {row["source"] for row in personal}
    right = [row["item_id"][1] == str(int(row["user_id"][1:]) % 2) for row in personal]
    assert sum(right) / len(right) > 0.7
    newcomer = [row for row in rows if row["user_id"] == "new"]
    assert [row["item_id"][1] for row in newcomer] == ["1"] * 8
    assert {row["source"] for row in newcomer} <= {"gnn", "social_gnn"}
    assert {row["reason"] for row in newcomer} <= {
        "Liked by 2 people you follow", "Matches the people around you"
    }  # fmt: skip
    new = [
        (int(row["user_id"][1:]) % 2, row["score"]) for row in personal if row["item_id"] == "s199"
    ]
    tea, coffee = ([score for taste, score in new if taste == kind] for kind in (0, 1))
    assert len(coffee) > 30, "its likers have met it"
    assert not tea or sum(coffee) / len(coffee) > sum(tea) / len(tea)
    alike = DeltaTable(shop.lake / "similar_items").to_pyarrow_table().to_pylist()
    same = [row["item_id"][1] == row["similar_item_id"][1] for row in alike]
    assert sum(same) / len(same) > 0.9
    listed = [
        (row["user_id"], "u09" if row["item_id"] == "s199" else "u01")
        for row in personal + newcomer
    ]
    inside = [user == maker or (user, maker) in follows for user, maker in listed]
    share = 1 - sum(inside) / len(inside)
    told = json.loads(shop.sextant("report", "shop", "--json").stdout)["intervals"][-1]
    assert told["out_of_network"] == pytest.approx(share)
    line = f"  lists: {share:.0%} by people whom the users do not follow"
    assert line in shop.sextant("report", "shop").stdout.splitlines()
