"""Reasons of candidates and similar items, by likeness that is small enough to check by eye."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest
from candidate_world import ALIKE, _build, _Factors, _histories, _joined, _popular, _rows
from scipy import sparse

from training.candidates import SIMILAR_ITEMS, CandidateError, knows_likeness, similar_items
from training.models import MODELS, FitContext
from training.models.base import Model
from training.models.item_knn import ItemKNN, ItemKNNConfig
from training.reasons import Circles, popular_text
from training.snapshot import Snapshot
from training.topk import ItemLists

# Reasons


def _reasons(history: str, models: Mapping[str, Model], **changes) -> dict[str, str]:
    table = _build(_histories(ann=history), models, **changes)
    return dict(zip(table["item_id"].to_pylist(), table["reason"].to_pylist(), strict=True))


def test_the_reason_names_the_liked_item_most_like_the_candidate() -> None:
    reasons = _reasons("ad", {"gnn": _Factors("gnn", ALIKE)})
    assert reasons == {
        "b": "Similar to Film A that you watched",
        "c": "Similar to Film A that you watched",
        "e": "Similar to Film D that you watched",
        "f": "Matches what you watched lately",  # it points away from all
    }


def test_the_reason_never_names_what_was_only_shown() -> None:
    reasons = _reasons("aD", {"gnn": _Factors("gnn", ALIKE)})
    assert reasons["e"] == "Similar to Film A that you watched"


def test_the_reason_is_no_item_from_long_ago() -> None:
    nothing = ItemLists.of([[]])
    model = {"gnn": _Factors("gnn", ALIKE)}
    recent = _reasons("d" + "a" * 49, model, seen=nothing)
    assert recent["e"] == "Similar to Film D that you watched"
    long_ago = _reasons("d" + "a" * 50, model, seen=nothing)
    assert long_ago["e"] == "Similar to Film A that you watched"


def test_an_item_is_no_reason_for_itself() -> None:
    reasons = _reasons("ab", {"gnn": _Factors("gnn", ALIKE)}, seen=ItemLists.of([[]]))
    assert reasons["a"] == "Similar to Film B that you watched"
    assert reasons["b"] == "Similar to Film A that you watched"


def test_without_a_title_the_reason_claims_less() -> None:
    titles = [None, "", "Film C", "Film D", "Film E", "Film F"]
    model = {"gnn": _Factors("gnn", ALIKE)}
    for history in "ab":
        assert _reasons(history, model, titles=titles)["c"] == "Matches what you watched lately"


def test_the_reason_comes_from_the_model_that_adds_most() -> None:
    swapped = {**ALIKE, "a": ALIKE["d"], "d": ALIKE["a"]}
    models = {"one": _Factors("one", ALIKE), "two": _Factors("two", swapped)}
    table = _build(_histories(ann="ad"), models, weights={"one": 0.9, "two": 0.1})
    row = next(row for row in table.to_pylist() if row["item_id"] == "b")
    assert (row["source"], row["reason"]) == ("one", "Similar to Film A that you watched")


def test_people_are_named_by_number_where_several_whom_the_user_follows_liked_it() -> None:
    # Ann follows 0, 1 and 2, Bob follows 2: b is liked by 0 and 1, c by 2, d twice by 0.
    circles = Circles.of_pairs(
        np.array([[0, 0, 0, 1], [0, 1, 2, 2]]),
        np.array([[0, 1, 2, 0, 0], [1, 1, 2, 3, 3]]),
        (2, 3, 6),
    )
    table = _build(_histories(ann="a", bob="a"), {"gnn": _Factors("gnn", ALIKE)}, circles=circles)
    found = {(row["user_id"], row["item_id"]): row["reason"] for row in table.to_pylist()}
    assert found["ann", "b"] == "Liked by 2 people you follow"
    assert found["ann", "c"] == "Similar to Film A that you watched"
    assert found["ann", "d"] == "Matches what you watched lately"
    assert {found["bob", item] for item in "bc"} == {"Similar to Film A that you watched"}


def test_popularity_in_a_blend_is_called_popular() -> None:
    rows = _rows("one", "abcdef", ann=[0.0, 1.0, 2.0, 3.0, 4.0, 4.1])
    models = {"rows": rows, "trend": _popular("bcdefa")}
    table = _build(_histories(ann="a"), models)
    reasons = dict(zip(table["item_id"].to_pylist(), table["reason"].to_pylist(), strict=True))
    sources = dict(zip(table["item_id"].to_pylist(), table["source"].to_pylist(), strict=True))
    assert (sources["b"], reasons["b"]) == ("trend", "Popular this week")
    assert (sources["f"], reasons["f"]) == ("rows", "Matches what you watched lately")


@pytest.mark.parametrize(
    ("days", "text"),
    [(1, "Popular today"), (7.0, "Popular this week"), (2.5, "Popular in the last 2.5 days")],
)
def test_popular_says_of_which_time(days, text) -> None:
    assert popular_text(days) == text


def _item_knn() -> ItemKNN:
    similarity_MM = np.zeros((4, 4), np.float32)
    for one, other, value in [(0, 1, 0.5), (0, 2, 0.25), (1, 2, 0.5), (2, 3, 0.75)]:
        similarity_MM[one, other] = similarity_MM[other, one] = value
    return ItemKNN(ItemKNNConfig(), np.array(list("abcd")), sparse.csr_array(similarity_MM))


def test_item_based_filtering_gives_its_own_reasons() -> None:
    reasons = _reasons("ac", {"item_knn": _item_knn()})
    assert reasons == {
        "b": "Similar to Film A that you watched",  # as near to C, whose code is higher
        "d": "Similar to Film C that you watched",
        "f": "Popular this week",
        "e": "Popular this week",
    }


# Similar items


def _similar(table: pa.Table) -> dict[str, str]:
    return _joined(table, "item_id", "similar_item_id")


def test_similar_items_are_the_nearest_by_angle_and_never_the_item_itself() -> None:
    table = similar_items(_Factors("gnn", {**ALIKE, "b": [90.0, 10.0]}), k=2)
    assert table.schema == SIMILAR_ITEMS
    assert _similar(table) == {"a": "bc", "b": "ac", "c": "ba", "d": "ec", "e": "dc", "f": "de"}
    first = table.to_pylist()[0]
    assert first["score"] == pytest.approx(90 / np.hypot(90, 10))


def test_each_item_has_k_similar_items_or_all_others() -> None:
    rng = np.random.default_rng(3)
    vectors = {f"i{code:02d}": list(row) for code, row in enumerate(rng.normal(size=(30, 4)))}
    for k, expected in ((7, 7), (29, 29), (40, 29)):
        lengths = similar_items(_Factors("m", vectors), k=k)["item_id"].value_counts()
        assert {row["counts"] for row in lengths.to_pylist()} == {expected}
        assert len(lengths) == 30


def test_items_without_a_vector_are_like_nothing() -> None:
    table = similar_items(_Factors("m", {"a": [1.0], "b": [0.0], "c": [2.0]}), k=5)
    assert _similar(table) == {"a": "c", "c": "a"}
    nothing = similar_items(_Factors("m", {"a": [0.0]}), k=5)
    assert (nothing.num_rows, nothing.schema) == (0, SIMILAR_ITEMS)


def test_similar_items_of_item_based_filtering_are_its_neighbours() -> None:
    for batch in (1, 3, 10):
        table = similar_items(_item_knn(), k=2, batch=batch)
        assert _similar(table) == {"a": "bc", "b": "ac", "c": "db", "d": "c"}
    assert table["score"].to_pylist() == [0.5, 0.25, 0.5, 0.5, 0.75, 0.5, 0.75]


def test_a_model_without_likeness_and_an_empty_list_are_refused() -> None:
    with pytest.raises(CandidateError) as error:
        similar_items(_popular(), k=2)
    assert str(error.value) == (
        "model 'popularity' has no item vectors, so it cannot say which items are alike; take "
        "similar items from a model that has, such as gnn or transformer"
    )
    with pytest.raises(CandidateError) as error:
        similar_items(_item_knn(), k=0)
    assert str(error.value) == "similar items need k of at least 1, got 0"


# The project's own models


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, dict[str, Model]]:
    """A small world and every model the project has, fitted on it."""
    rng = np.random.default_rng(4)
    rows = 400
    events = pa.table(
        {
            "event_id": [f"e{row}" for row in range(rows)],
            "user_id": [f"u{user}" for user in rng.integers(0, 30, rows)],
            "item_id": [f"i{int(item)}" for item in rng.exponential(8, rows)],
            "strength": np.ones(rows),
            "label": np.ones(rows),
            "timestamp": pa.array(rng.permutation(rows), pa.timestamp("us")),
        }
    )
    items = pa.table(
        {
            "item_id": pa.array([], pa.string()),
            "categories": pa.array([], pa.list_(pa.string())),
            "created_at": pa.array([], pa.timestamp("us")),
        }
    )
    edges = pa.table(
        {name: pa.array([], pa.string()) for name in ("source", "target", "relation", "since")}
    )
    snapshot = Snapshot.from_tables(events, items, edges, valid_start=300, test_start=350, end=400)
    models = {
        name: model.fit(
            snapshot,
            {},
            FitContext(seed=1, work_dir=tmp_path_factory.mktemp(name), run_name=name),
        )
        for name, model in MODELS.items()
    }
    return snapshot, models


def test_the_projects_own_models_make_full_lists_with_reasons(fitted) -> None:
    snapshot, models = fitted
    histories = snapshot.histories(np.arange(len(snapshot.user_ids)), snapshot.end)
    blended = {name: model for name, model in models.items() if name != "popularity"}
    seen = ItemLists.from_pairs(histories.rows(), histories.items, len(histories))
    table = _build(histories, blended, k=5, seen=seen, popular=models["popularity"])
    rows = table.to_pylist()
    seen_by = {
        str(user): set(histories.catalogue[seen.batch(row, row + 1).items].tolist())
        for row, user in enumerate(histories.user_ids)
    }
    assert len(rows) == 5 * len(histories)
    assert not any(row["item_id"] in seen_by[row["user_id"]] for row in rows)
    named = [row for row in rows if row["reason"].startswith("Similar to Film ")]
    assert len(named) > len(rows) / 2
    for row in named:
        title = row["reason"].removeprefix("Similar to Film ").removesuffix(" that you watched")
        assert title.lower() in seen_by[row["user_id"]]


@pytest.mark.parametrize("name", ["gnn", "social_gnn", "transformer", "item_knn"])
def test_the_projects_own_models_say_which_items_are_alike(fitted, name) -> None:
    snapshot, models = fitted
    table = similar_items(models[name], k=3)
    assert set(table["item_id"].to_pylist()) <= set(snapshot.catalogue.tolist())
    assert len(table) > len(models[name].item_ids)
    assert all(row["item_id"] != row["similar_item_id"] for row in table.to_pylist())


def test_the_spectral_filter_has_no_notion_of_alike_items(fitted) -> None:
    model = fitted[1]["spectral"]
    assert not knows_likeness(model)
    with pytest.raises(CandidateError, match="model 'spectral' has no item vectors"):
        similar_items(model, k=3)
