"""Candidates: blended scores and ranked lists, on worlds small enough to check by eye."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from candidate_world import ALIKE, _build, _Factors, _histories, _joined, _popular, _rows

from training.candidates import CANDIDATES, CandidateError, blend, z_scores
from training.histories import Histories, codes_in
from training.models.popularity import Popularity, PopularityConfig
from training.topk import ItemLists, ScoreError

NAN, INF = float("nan"), float("inf")


def _lists(table: pa.Table) -> dict[str, str]:
    """User -> items in rank order; the ranks must run from 1 in the order of the rows."""
    return _joined(table, "user_id", "item_id")


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


class _Knowing(_Factors):
    """A model that knows everybody, likes or not."""

    def knows(self, histories: Histories) -> np.ndarray:
        return np.ones(len(histories), bool)


def test_a_model_that_knows_a_user_without_likes_serves_alone() -> None:
    social = _Knowing("gnn", {item: [0.0] for item in "abc"}, {"ann": [1.0, 3.0, 2.0]})
    deaf = _rows("deaf", "abc", ann=[3.0, 2.0, 1.0])
    table = _build(_histories(ann=""), {"deaf": deaf, "gnn": social}, k=4)
    assert _lists(table) == {"ann": "bcaf"}
    assert table["source"].to_pylist() == ["gnn"] * 3 + ["popularity"]
    assert table["reason"].to_pylist() == ["Matches the people around you"] * 3 + [
        "Popular this week"
    ]


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
