"""Candidates, their reasons and similar items, on worlds small enough to check by eye."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest

from training.candidates import (
    CANDIDATES,
    SIMILAR_ITEMS,
    CandidateError,
    blend,
    build_candidates,
    similar_items,
    z_scores,
)
from training.models import MODELS, FitContext
from training.models.base import Model
from training.models.item_knn import ItemKNN, ItemKNNConfig
from training.models.popularity import Popularity, PopularityConfig
from training.reasons import popular_text
from training.snapshot import Histories, Snapshot, codes_in
from training.topk import ItemLists, ScoreError

CATALOGUE = np.array(list("abcdef"))
NAN, INF = float("nan"), float("inf")


class _Factors(Model):
    """Users score items by the mean of the vectors of what they liked, or by a given row."""

    def __init__(
        self,
        name: str,
        vectors: Mapping[str, list[float]],
        rows: Mapping[str, list[float]] | None = None,
    ) -> None:
        super().__init__(None, np.array(sorted(vectors)))
        self.name = name
        self.vector_MD = np.array([vectors[item] for item in sorted(vectors)], np.float32)
        self.rows = rows

    def _score(self, histories: Histories) -> np.ndarray:
        if self.rows is not None:
            return np.array([self.rows[str(user)] for user in histories.user_ids], np.float32)
        user_BD = np.zeros((len(histories), self.vector_MD.shape[1]), np.float32)
        np.add.at(user_BD, histories.rows(), self.vector_MD[histories.items])
        return user_BD @ self.vector_MD.T

    def item_vectors(self) -> np.ndarray:
        return self.vector_MD

    _fit = _tensors = _restore = None


def _rows(name: str, items: str, **rows: list[float]) -> _Factors:
    """A model with a row of scores for each user and no likeness between items."""
    return _Factors(name, {item: [0.0] for item in items}, rows)


def _popular(items: str = "fedcba") -> Popularity:
    """Popularity in the order of the letters."""
    score = {item: -float(place) for place, item in enumerate(items)}
    item_ids = np.array(sorted(items))
    return Popularity(
        PopularityConfig(), item_ids, np.array([score[item] for item in item_ids], np.float32)
    )


def _histories(catalogue: np.ndarray = CATALOGUE, **users: str) -> Histories:
    """What users did in time order: small letters are positives, capitals are not."""
    events = "".join(users.values())
    return Histories(
        np.array(list(users)),
        catalogue,
        np.cumsum([0, *map(len, users.values())]).astype(np.int64),
        codes_in(np.array(list(events.lower()), dtype=str), catalogue),
        np.arange(len(events), dtype=np.int64),
        np.array([float(event.islower()) for event in events], np.float32),
        as_of=1000,
    )


def _build(histories: Histories, models: Mapping[str, Model], k: int = 6, **changes) -> pa.Table:
    settings = {
        "weights": dict.fromkeys(models, 1.0),
        "seen": ItemLists(histories.offsets, histories.items),
        "popular": _popular(),
        "versions": {**dict.fromkeys(models, "7"), "popularity": "3"},
        "titles": [f"Film {item.upper()}" for item in histories.catalogue],
        **changes,
    }
    tables = list(build_candidates(models, settings.pop("weights"), histories, k=k, **settings))
    return pa.concat_tables([CANDIDATES.empty_table(), *tables])


def _lists(table: pa.Table) -> dict[str, str]:
    """User -> items in rank order; the ranks must run from 1 in the order of the rows."""
    return _joined(table, "user_id", "item_id")


def _joined(table: pa.Table, owner: str, member: str) -> dict[str, str]:
    lists: dict[str, list[str]] = {}
    for row in table.to_pylist():
        members = lists.setdefault(row[owner], [])
        members.append(row[member])
        assert row["rank"] == len(members)
    return {name: "".join(members) for name, members in lists.items()}


ALIKE = {
    "a": [1.0, 0.0],
    "b": [0.9, 0.1],
    "c": [0.8, 0.3],
    "d": [0.0, 1.0],
    "e": [0.1, 0.9],
    "f": [-1.0, -0.2],
}


def test_every_column_of_one_list() -> None:
    histories = _histories(ann="aD")
    table = _build(histories, {"gnn": _Factors("gnn", ALIKE)}, k=3)
    assert table.schema == CANDIDATES
    rows = table.to_pylist()
    scores = [row.pop("score") for row in rows]
    same = {"user_id": "ann", "source": "gnn", "model_name": "gnn", "model_version": "7"}
    reason = "Similar to Film A that you watched"
    assert rows == [
        {**same, "rank": 1, "item_id": "b", "reason": reason},
        {**same, "rank": 2, "item_id": "c", "reason": reason},
        {**same, "rank": 3, "item_id": "e", "reason": reason},
    ]
    raw = np.array([1.0, 0.9, 0.8, 0.0, 0.1, -1.0])
    assert scores == pytest.approx(((raw - raw.mean()) / raw.std())[[1, 2, 4]], abs=1e-6)


def test_the_blend_is_the_weighted_mean_of_z_scores() -> None:
    score_MBN = [np.array([[1.0, -1.0]]) * unit for unit in (1.0, 10.0, 0.25)]
    total_BN, _ = blend(score_MBN, [0.40, 0.35, 0.25])
    assert total_BN == pytest.approx(np.array([[1.0, -1.0]]))


def test_z_scores_are_of_the_known_items_of_a_row() -> None:
    z_BN, known_BN = z_scores(np.array([[1.0, 3.0, -INF], [2.0, 2.0, 2.0], [-INF, -INF, 5.0]]))
    assert z_BN.tolist() == [[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert known_BN.tolist() == [[True, True, False], [False] * 3, [False] * 3]


@pytest.mark.parametrize("change", [lambda raw: raw * 10, lambda raw: raw / 10 + 4])
def test_the_unit_of_a_models_scores_changes_no_list(change) -> None:
    rng = np.random.default_rng(1)
    catalogue = np.array([f"i{code:03d}" for code in range(200)])
    users = [f"u{code:02d}" for code in range(50)]
    histories = Histories(
        np.array(users),
        catalogue,
        np.arange(51),
        rng.integers(0, 200, 50).astype(np.int32),
        np.zeros(50, np.int64),
        np.ones(50, np.float32),
        as_of=1,
    )
    raw = rng.normal(size=(2, 50, 200))

    def lists(first: np.ndarray) -> list[str]:
        models = {
            name: _Factors(
                name,
                {item: [0.0] for item in catalogue},
                dict(zip(users, score_UN, strict=True)),
            )
            for name, score_UN in (("one", first), ("two", raw[1]))
        }
        table = _build(
            histories, models, k=20, weights={"one": 3.0, "two": 1.0}, popular=_popular("ab")
        )
        return table["item_id"].to_pylist()

    assert lists(change(raw[0])) == lists(raw[0])


def test_items_of_two_vocabularies_meet_in_one_list() -> None:
    histories = _histories(ann="f")
    models = {
        "one": _rows("one", "abc", ann=[3.0, 2.0, 1.0]),
        "two": _rows("two", "cdef", ann=[4.0, 3.0, 2.0, 1.0]),
    }
    table = _build(histories, models)
    three, four = np.sqrt(1.5), 1 / np.sqrt(1.25)  # one step of the z-scores of three, of four
    expected = {"a": three, "b": 0.0, "c": 1.5 * four - three, "d": 0.5 * four, "e": -0.5 * four}
    scores = dict(zip(table["item_id"].to_pylist(), table["score"].to_pylist(), strict=True))
    assert scores == pytest.approx({item: score / 2 for item, score in expected.items()})
    assert _lists(table) == {"ann": "adcbe"}
    assert table["source"].to_pylist() == ["one", "two", "two", "one", "two"]


def test_the_weights_of_absent_models_go_to_the_others_in_proportion() -> None:
    histories = _histories(ann="f")
    models = {
        "one": _rows("one", "abcdef", ann=[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]),
        "two": _rows("two", "abcdef", ann=[0.0, 5.0, 1.0, 4.0, 2.0, 3.0]),
    }
    weights = {"one": 0.6, "two": 0.2, "gone": 0.2}
    without = {"one": 0.75, "two": 0.25}
    assert _build(histories, models, weights=weights) == _build(histories, models, weights=without)


def test_a_model_of_weight_zero_is_not_asked() -> None:
    broken = _rows("broken", "abcdef", ann=[NAN] * 6)
    models = {"one": _Factors("one", ALIKE), "broken": broken}
    table = _build(_histories(ann="a"), models, weights={"one": 1.0, "broken": 0.0})
    assert set(table["source"].to_pylist()) == {"one"}


def test_users_without_a_positive_get_what_is_popular_marked_as_such() -> None:
    histories = _histories(new="", ann="a", shown="FE")
    table = _build(histories, {"gnn": _Factors("gnn", ALIKE)}, k=3)
    assert _lists(table) == {"new": "fed", "ann": "bce", "shown": "dcb"}
    for row in table.to_pylist():
        if row["user_id"] != "ann":
            assert row["source"] == row["model_name"] == "popularity"
            assert row["reason"] == "Popular this week"
            assert row["model_version"] == "3"


def test_short_lists_are_filled_with_popular_items_below() -> None:
    histories = _histories(ann="a")
    models = {"one": _rows("one", "abc", ann=[3.0, 1.0, 2.0])}
    table = _build(histories, models, popular=_popular("fcdae"))
    assert _lists(table) == {"ann": "cbfde"}
    assert table["source"].to_pylist() == ["one"] * 2 + ["popularity"] * 3
    assert table["model_version"].to_pylist() == ["7"] * 2 + ["3"] * 3
    scores = table["score"].to_numpy()
    step = 1 / np.sqrt(2)  # of the z-scores of five items in even steps; c and a lie between
    assert np.diff(scores)[1:] == pytest.approx([-1.0, -2 * step, -2 * step])


def test_a_model_that_holds_all_items_alike_for_a_user_says_nothing_about_them() -> None:
    histories = _histories(ann="a", bob="a")
    models = {"one": _rows("one", "abcdef", ann=[2.0] * 6, bob=[6.0, 5.0, 4.0, 3.0, 2.0, 1.0])}
    table = _build(histories, models, k=2)
    assert _lists(table) == {"ann": "fe", "bob": "bc"}
    assert table["source"].to_pylist() == ["popularity"] * 2 + ["one"] * 2


def test_users_unknown_to_a_model_are_served() -> None:
    rows = {"ann": [1.0, 2.0], "new": [-INF, -INF]}
    models = {"one": _Factors("one", {"a": [0.0], "b": [0.0]}, rows)}
    table = _build(_histories(ann="c", new="c"), models, k=2)
    assert _lists(table) == {"ann": "ba", "new": "fe"}


def test_without_models_all_is_popular() -> None:
    table = _build(_histories(ann="f", bob=""), {}, k=2)
    assert _lists(table) == {"ann": "ed", "bob": "fe"}
    assert set(table["source"].to_pylist()) == {"popularity"}


@pytest.mark.parametrize(
    ("users", "lists"),
    [
        ({"ann": "abcdef", "bob": "abcde"}, {"bob": "f"}),
        ({"ann": "abcdef"}, {}),
        ({}, {}),
    ],
)
def test_users_who_saw_everything_get_no_row(users, lists) -> None:
    table = _build(_histories(**users), {"gnn": _Factors("gnn", ALIKE)})
    assert _lists(table) == lists
    assert table.schema == CANDIDATES


def test_a_list_longer_than_the_catalogue_ends_with_it() -> None:
    table = _build(_histories(ann="a"), {"gnn": _Factors("gnn", ALIKE)}, k=50)
    assert _lists(table) == {"ann": "bcedf"}


def test_a_catalogue_of_one_item() -> None:
    catalogue = np.array(["a"])
    histories = _histories(catalogue, ann="a", new="")
    models = {"gnn": _Factors("gnn", {"a": [1.0, 0.0]})}
    table = _build(histories, models, popular=_popular("a"))
    assert _lists(table) == {"new": "a"}


def test_lists_of_a_random_world_are_sorted_unique_unseen_and_the_same_in_any_batches() -> None:
    rng = np.random.default_rng(2)
    items, users, k = 120, 90, 25
    catalogue = np.array([f"i{code:03d}" for code in range(items)])
    lengths = rng.integers(0, 60, users)
    total = lengths.sum()
    histories = Histories(
        np.array([f"u{code:02d}" for code in range(users)]),
        catalogue,
        np.concatenate([[0], np.cumsum(lengths)]),
        rng.integers(0, items, total).astype(np.int32),
        np.arange(total),
        rng.random(total).astype(np.float32),
        as_of=10**6,
    )
    seen = ItemLists.from_pairs(histories.rows(), histories.items, users)
    # Small whole numbers: many ties, and sums that no batching can round differently.
    first, second = rng.integers(-2, 3, (2, items, 4)).astype(float)
    models = {
        "one": _Factors("one", dict(zip(catalogue[:80], first[:80], strict=True))),
        "two": _Factors("two", dict(zip(catalogue[40:], second[40:], strict=True))),
    }
    popular = Popularity(
        PopularityConfig(), catalogue[20:], rng.normal(size=100).astype(np.float32)
    )
    settings = {
        "k": k,
        "weights": {"one": 0.7, "two": 0.3},
        "seen": seen,
        "popular": popular,
        "titles": [None] * items,
    }
    done: list[int] = []
    table = _build(histories, models, **settings, batch=16, progress=done.append)
    assert table == _build(histories, models, **settings)
    assert table == _build(histories, models, **settings, batch=1)
    assert done == [16, 32, 48, 64, 80, 90]
    _lists(table)
    user_codes = codes_in(np.array(table["user_id"].to_pylist()), histories.user_ids)
    item_codes = codes_in(np.array(table["item_id"].to_pylist()), catalogue)
    keys = user_codes.astype(np.int64) * items + item_codes
    assert len(np.unique(keys)) == len(keys)
    assert not np.isin(keys, seen.rows() * items + seen.items).any()
    scores = table["score"].to_numpy()
    falls = (np.diff(scores) <= 0) | (np.diff(user_codes) > 0)
    assert falls.all()
    ties = (np.diff(scores) == 0) & (np.diff(user_codes) == 0)
    assert ties.sum() > 20
    assert (np.diff(item_codes)[ties] > 0).all()
    # Every item is known to a model or to popularity, so whoever has unseen items has a full list.
    assert np.bincount(user_codes, minlength=users).tolist() == [k] * users


def test_a_score_that_is_no_number_is_refused_with_its_user_and_item() -> None:
    models = {"gnn": _rows("gnn", "abcdef", ann=[0.0, 1.0, NAN, 3.0, 4.0, 5.0])}
    with pytest.raises(ScoreError) as error:
        _build(_histories(ann="a"), models)
    assert str(error.value) == (
        "model 'gnn' scored nan for user 'ann' and item 'c' (1 such scores); a score must be a "
        "finite number, or -inf for an item that the model does not know"
    )


MODEL = {"one": _Factors("one", ALIKE)}


@pytest.mark.parametrize(
    ("models", "changes", "text"),
    [
        (
            MODEL,
            {"weights": {"two": 1.0}},
            "no weight for model 'one'; there are weights for 'two'",
        ),
        (
            MODEL,
            {"weights": {"one": -1.0}},
            "the weight of 'one' must be a number of at least 0, got -1.0",
        ),
        (
            MODEL,
            {"weights": {"one": 1.0, "gone": NAN}},
            "the weight of 'gone' must be a number of at least 0, got nan",
        ),
        (
            MODEL,
            {"weights": {"one": 0.0}},
            "all models have the weight 0 ('one'); give one of them more, or none at all to "
            "recommend what is popular",
        ),
        (MODEL, {"k": 0}, "k and batch must be at least 1, got k=0 and batch=512"),
        (MODEL, {"batch": 0}, "k and batch must be at least 1, got k=6 and batch=0"),
        (
            MODEL,
            {"seen": ItemLists.of([])},
            "there are seen items of 0 users for 1 histories; both must be of the same users in "
            "the same order",
        ),
        (
            MODEL,
            {"titles": ["Film A"]},
            "there are 1 titles for 6 items; give one for each item of the catalogue, None where "
            "it is unknown",
        ),
        (
            MODEL,
            {"versions": {"one": "7"}},
            "no version for model 'popularity'; every list says which version of a model made it",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(models, changes, text) -> None:
    with pytest.raises(CandidateError) as error:
        _build(_histories(ann="a"), models, **changes)
    assert str(error.value) == text


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
    edges = pa.table({name: pa.array([], pa.string()) for name in ("source", "target", "relation")})
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


@pytest.mark.parametrize("name", ["gnn", "transformer", "item_knn"])
def test_the_projects_own_models_say_which_items_are_alike(fitted, name) -> None:
    snapshot, models = fitted
    table = similar_items(models[name], k=3)
    assert set(table["item_id"].to_pylist()) <= set(snapshot.catalogue.tolist())
    assert len(table) > len(models[name].item_ids)
    assert all(row["item_id"] != row["similar_item_id"] for row in table.to_pylist())


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
    from scipy import sparse

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
