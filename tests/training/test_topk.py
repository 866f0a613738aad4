"""Exact top-K against a full sort with the same total order, at all the edges."""

import threading

import faiss
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from training import topk
from training.topk import ItemLists, ScoreError, check_scores, top_k, top_k_factors

INF = float("inf")


def _sorted(score_UN: np.ndarray, k: int, exclude: ItemLists | None) -> list[list[int]]:
    """Python's own sort by (score descending, code ascending)."""
    expected = []
    for row, score_N in enumerate(score_UN):
        left = set() if exclude is None else set(exclude.batch(row, row + 1).items.tolist())
        codes = [code for code in range(len(score_N)) if code not in left]
        codes = [code for code in codes if score_N[code] != -INF]
        codes = sorted(codes, key=lambda code: (-score_N[code], code))[:k]
        expected.append(codes + [-1] * (k - len(codes)))
    return expected


def _random_lists(rng: np.random.Generator, users: int, items: int) -> ItemLists:
    return ItemLists.of(
        rng.choice(items, rng.integers(0, items + 1), replace=False) for _ in range(users)
    )


SCORES = {
    "distinct": lambda rng, shape: rng.normal(size=shape),
    "many ties": lambda rng, shape: rng.integers(-2, 3, shape).astype(float),
    "all equal": lambda rng, shape: np.zeros(shape),
    "both zeros": lambda rng, shape: np.where(rng.random(shape) < 0.5, 0.0, -0.0),
    "unknown items": lambda rng, shape: np.where(rng.random(shape) < 0.6, -INF, rng.normal()),
    "extremes": lambda rng, shape: rng.choice([-3.4e38, -1e-42, 1e-42, 3.4e38, INF], shape),
}


@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES.keys())
@pytest.mark.parametrize("users", [1, 7, 150])
@pytest.mark.parametrize(("items", "k"), [(1, 1), (5, 5), (5, 9), (97, 1), (97, 3), (400, 10)])
def test_the_lists_are_those_of_a_full_sort(scores, users, items, k) -> None:
    rng = np.random.default_rng(items * k + users)
    score_UN = scores(rng, (users, items)).astype(np.float32)
    before = score_UN.copy()
    for exclude in (None, _random_lists(rng, users, items)):
        codes_UK, scores_UK = top_k(score_UN, k, exclude)
        assert codes_UK.tolist() == _sorted(score_UN, k, exclude)
        listed_UK = np.take_along_axis(score_UN, np.maximum(codes_UK, 0), axis=1)
        np.testing.assert_array_equal(scores_UK, np.where(codes_UK < 0, -np.inf, listed_UK))
    np.testing.assert_array_equal(score_UN, before)


def test_the_batch_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    score_UN = rng.integers(0, 30, (101, 300)).astype(np.float32)
    exclude = _random_lists(rng, 101, 300)
    whole_UK, _ = top_k(score_UN, 20, exclude)
    monkeypatch.setattr(topk, "_BUFFER_BYTES", 1)
    for rows in (1, 3, 50):
        monkeypatch.setattr(topk, "_MIN_ROWS", rows)
        np.testing.assert_array_equal(top_k(score_UN, 20, exclude)[0], whole_UK)


def test_factors_give_the_lists_of_their_scores() -> None:
    rng = np.random.default_rng(9)
    # Small whole numbers have exact products, so ties are ties in any order of summation.
    user_UD, item_ND = rng.integers(-3, 4, (60, 8)), rng.integers(-3, 4, (500, 8))
    exclude = _random_lists(rng, 60, 500)
    codes_UK, scores_UK = top_k_factors(user_UD, item_ND, 30, exclude)
    score_UN = (user_UD @ item_ND.T).astype(np.float32)
    np.testing.assert_array_equal(codes_UK, top_k(score_UN, 30, exclude)[0])
    np.testing.assert_array_equal(scores_UK, top_k(score_UN, 30, exclude)[1])


def test_factors_give_the_lists_of_faiss() -> None:
    rng = np.random.default_rng(10)
    user_UD = rng.normal(size=(300, 16)).astype(np.float32)
    item_ND = rng.normal(size=(5000, 16)).astype(np.float32)
    index = faiss.IndexFlatIP(16)
    index.add(item_ND)
    expected_UK, found_UK = index.search(user_UD, 50)[1], top_k_factors(user_UD, item_ND, 50)[0]
    gap = 1e-5 * np.abs(user_UD @ item_ND.T).max()
    rows, places = np.nonzero(expected_UK != found_UK)
    swapped = [
        user_UD[row] @ (item_ND[expected_UK[row, place]] - item_ND[found_UK[row, place]])
        for row, place in zip(rows, places, strict=True)
    ]
    assert np.abs(swapped).max(initial=0.0) < gap
    assert len(rows) < 20


def test_read_only_and_transposed_scores_are_fine() -> None:
    score_UN = np.arange(12, dtype=np.float32).reshape(4, 3).T
    score_UN.flags.writeable = False
    assert top_k(score_UN, 2)[0].tolist() == [[3, 2]] * 3


def test_no_user_gives_no_list() -> None:
    codes_UK, scores_UK = top_k(np.empty((0, 4)), 2, ItemLists.of([]))
    assert codes_UK.shape == scores_UK.shape == (0, 2)


def test_the_blas_has_its_threads_back_also_after_searches_side_by_side() -> None:
    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = threads()
    score_UN = np.random.default_rng(0).normal(size=(500, 2000))
    searches = [threading.Thread(target=top_k, args=(score_UN, 10)) for _ in range(6)]
    for search in searches:
        search.start()
    for search in searches:
        search.join()
    assert threads() == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((np.zeros(3), 1), "scores must have the shape (users, items), got (3,)"),
        ((np.zeros((1, 3)), 0), "k must be at least 1, got 0"),
        (
            (np.zeros((1, 0)), 1),
            "a catalogue must have between 1 and 2^31 - 1 items, got 0",
        ),
        (
            (np.zeros((2, 3)), 1, ItemLists.of([[0]])),
            "there are 1 lists of excluded items for 2 users",
        ),
        (
            (np.zeros((1, 3)), 1, ItemLists.of([[0, 3]])),
            "excluded item codes must be between 0 and 2, got 0 to 3",
        ),
        (
            (np.array([[0.0, 1.0], [2.0, np.nan]]), 1),
            "the score of item code 1 for user row 1 is NaN: it has no rank",
        ),
    ],
)
def test_what_cannot_be_ranked_is_refused(arguments, text) -> None:
    with pytest.raises(ValueError) as error:
        top_k(*arguments)
    assert str(error.value) == text


def test_vectors_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError) as error:
        top_k_factors(np.zeros((2, 3)), np.zeros((5, 4)), 1)
    assert str(error.value) == (
        "user and item vectors must have the shapes (users, D) and (items, D), got (2, 3) and "
        "(5, 4)"
    )


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        (
            [[0.0, 1.0], [-INF, float("nan")]],
            "model 'm' scored nan for user 'b' and item 'y' (1 such scores); a score must be a "
            "finite number, or -inf for an item that the model does not know",
        ),
        (
            [[INF, 1.0], [-INF, INF]],
            "model 'm' scored inf for user 'a' and item 'x' (2 such scores); a score must be a "
            "finite number, or -inf for an item that the model does not know",
        ),
        (
            [[0.0], [1.0]],
            "model 'm' gave scores of shape (2, 1) for 2 users and 2 items; it must give one "
            "score for each user and item",
        ),
    ],
)
def test_scores_of_a_model_without_a_rank_are_refused(scores, text) -> None:
    with pytest.raises(ScoreError) as error:
        check_scores(
            np.array(scores, np.float32),
            model="m",
            user_ids=np.array(["a", "b"]),
            item_ids=np.array(["x", "y"]),
        )
    assert str(error.value) == text


def test_lists_from_pairs_are_sorted_and_hold_each_item_once() -> None:
    lists = ItemLists.from_pairs(np.array([2, 0, 2, 2]), np.array([5, 3, 1, 5]), users=4)
    assert lists.offsets.tolist() == [0, 1, 1, 3, 3]
    assert lists.items.tolist() == [3, 1, 5]
    assert lists.rows().tolist() == [0, 2, 2]
    assert lists.lengths().tolist() == [1, 0, 2, 0]
    part = lists.batch(2, 4)
    assert (part.offsets.tolist(), part.items.tolist()) == ([0, 2, 2], [1, 5])
