"""Metrics: values worked out by hand, and independent implementations on random cases."""

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score
from sklearn.metrics.pairwise import cosine_distances
from torchmetrics.functional.retrieval import (
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_precision,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

from training import metrics

NAN = float("nan")
LOG3 = np.log2(3)


def _hits(*rows: str) -> np.ndarray:
    """Rows like "x.x." with x for a hit."""
    return np.array([[mark == "x" for mark in row] for row in rows])


@pytest.mark.parametrize(
    ("metric", "hits", "relevant", "k", "expected"),
    [
        (metrics.precision, "x..x.", 3, 5, 0.4),
        (metrics.precision, "x..x.", 3, 1, 1.0),
        (metrics.precision, ".....", 3, 5, 0.0),
        (metrics.precision, "xx", 2, 4, 0.5),
        (metrics.recall, "x..x.", 4, 5, 0.5),
        (metrics.recall, "x..x.", 4, 3, 0.25),
        (metrics.recall, "xx...", 2, 5, 1.0),
        (metrics.hit_rate, "..x..", 4, 5, 1.0),
        (metrics.hit_rate, "..x..", 4, 2, 0.0),
        (metrics.ndcg, "xxx", 3, 3, 1.0),
        (metrics.ndcg, "xx.", 2, 3, 1.0),
        (metrics.ndcg, "x..", 1, 3, 1.0),
        (metrics.ndcg, "..x", 1, 3, 0.5),
        (metrics.ndcg, ".x.", 1, 3, 1 / LOG3),
        (metrics.ndcg, "x.x", 2, 3, 1.5 / (1 + 1 / LOG3)),
        (metrics.ndcg, ".xx", 5, 3, (1 / LOG3 + 0.5) / (1 + 1 / LOG3 + 0.5)),
        (metrics.ndcg, "...", 2, 3, 0.0),
    ],
)
def test_one_list_worked_out_by_hand(metric, hits, relevant, k, expected) -> None:
    value_U = metric(_hits(hits), np.array([relevant]), k)
    assert value_U.dtype == np.float64
    assert value_U == pytest.approx([expected], abs=1e-15)


@pytest.mark.parametrize(
    "metric", [metrics.precision, metrics.recall, metrics.hit_rate, metrics.ndcg]
)
def test_a_user_without_relevant_items_has_no_value(metric) -> None:
    value_U = metric(_hits("x.", "..", ".."), np.array([1, 1, 0]), 2)
    assert not np.isnan(value_U[:2]).any()
    assert np.isnan(value_U[2])


def test_the_reciprocal_rank_is_one_over_the_first_rank() -> None:
    value_U = metrics.reciprocal_rank(np.array([1, 4, 0]))
    np.testing.assert_array_equal(value_U, [1.0, 0.25, NAN])


def test_a_list_length_below_one_is_refused() -> None:
    with pytest.raises(ValueError) as error:
        metrics.ndcg(_hits("x"), np.array([1]), 0)
    assert str(error.value) == "k must be at least 1, got 0"


def test_ranking_metrics_equal_torchmetrics_and_sklearn_on_a_thousand_random_users() -> None:
    rng = np.random.default_rng(5)
    for _ in range(1000):
        items = int(rng.integers(2, 40))
        k = int(rng.integers(1, items + 1))
        # No ties, which the libraries break in their own ways, and no score of 0 or below, whose
        # item torchmetrics takes for irrelevant.
        score_N = rng.permutation(items) + 1.0
        relevant_N = rng.random(items) < 0.25
        relevant_N[rng.integers(items)] = True
        hits_N = relevant_N[np.argsort(-score_N)]
        hits_UK, relevant_U = hits_N[None, :k], np.array([relevant_N.sum()])
        scores, target = torch.from_numpy(score_N), torch.from_numpy(relevant_N)
        for ours, theirs in [
            (metrics.precision, retrieval_precision),
            (metrics.recall, retrieval_recall),
            (metrics.hit_rate, retrieval_hit_rate),
            (metrics.ndcg, retrieval_normalized_dcg),
        ]:
            expected = float(theirs(scores, target, top_k=k))
            assert ours(hits_UK, relevant_U, k)[0] == pytest.approx(expected, abs=1e-6)
        expected = ndcg_score(relevant_N[None].astype(int), score_N[None], k=k)
        assert metrics.ndcg(hits_UK, relevant_U, k)[0] == pytest.approx(expected, abs=1e-12)
        first_rank_U = np.array([hits_N.argmax() + 1])
        expected = float(retrieval_reciprocal_rank(scores, target))
        assert metrics.reciprocal_rank(first_rank_U)[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("lists", "coverage", "gini"),
    [
        ([[0], [0], [0]], 0.25, 0.75),
        ([[0, 1], [2, 3]], 1.0, 0.0),
        ([[0, 1], [0, -1]], 0.5, (2 * 3 * 1 - 5 * 1 + 2 * 4 * 2 - 5 * 2) / (4 * 3)),
        ([[-1, -1]], 0.0, NAN),
    ],
)
def test_coverage_and_gini_of_a_catalogue_of_four(lists, coverage, gini) -> None:
    lists_UK = np.array(lists)
    assert metrics.coverage(lists_UK, 4) == coverage
    assert metrics.gini(metrics.exposure(lists_UK, 4)) == pytest.approx(gini, nan_ok=True)


def test_gini_is_the_mean_absolute_difference_over_twice_the_mean() -> None:
    exposure_N = np.random.default_rng(1).integers(0, 50, 200)
    differences = np.abs(exposure_N[:, None] - exposure_N).mean()
    assert metrics.gini(exposure_N) == pytest.approx(differences / (2 * exposure_N.mean()))


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([0, 1], 0.0),  # the same direction, other lengths
        ([0, 2], 1.0),  # orthogonal
        ([0, 3], 2.0),  # opposite
        ([0, 1, 2], 2 / 3),
        ([0, 4], 1.0),  # a vector of zeros
        ([0, -1], NAN),
        ([-1, -1], NAN),
    ],
)
def test_diversity_of_vectors(listed, expected) -> None:
    vector_ND = np.array([[1, 0], [3, 0], [0, 2], [-1, 0], [0, 0]])
    value_U = metrics.diversity(np.array([listed]), vector_ND)
    assert value_U == pytest.approx([expected], nan_ok=True)


def test_diversity_is_the_mean_cosine_distance_of_sklearn() -> None:
    rng = np.random.default_rng(2)
    vector_ND = rng.normal(size=(30, 5))
    lists_UK = np.array([rng.choice(30, 7, replace=False) for _ in range(50)])
    expected = [cosine_distances(vector_ND[row])[np.triu_indices(7, 1)].mean() for row in lists_UK]
    np.testing.assert_allclose(metrics.diversity(lists_UK, vector_ND), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([0, 1], 0.0),
        ([0, 2], 1.0),
        ([0, 1, 2], 2 / 3),
        ([0, 2, 3], 1.0),  # the item without a category is left out
        ([0, 3], NAN),
        ([0, -1], NAN),
    ],
)
def test_diversity_of_categories(listed, expected) -> None:
    value_U = metrics.category_diversity(np.array([listed]), np.array(["a", "a", "b", ""]))
    assert value_U == pytest.approx([expected], nan_ok=True)


def test_diversity_of_categories_is_that_of_one_hot_vectors() -> None:
    rng = np.random.default_rng(3)
    code_N = rng.integers(0, 4, 30)
    lists_UK = np.array([rng.choice(30, 6, replace=False) for _ in range(50)])
    lists_UK[::3, 4:] = -1
    np.testing.assert_allclose(
        metrics.category_diversity(lists_UK, code_N.astype(str)),
        metrics.diversity(lists_UK, np.eye(4)[code_N]),
        atol=1e-12,
    )


def test_cold_items_are_the_most_novel_and_popular_ones_the_least() -> None:
    count_N = np.array([0, 3, 93])
    value_U = metrics.novelty(np.array([[0, -1], [1, -1], [2, -1], [0, 2], [-1, -1]]), count_N)
    share_N = np.array([1, 4, 94]) / 99
    bits_N = -np.log2(share_N)
    expected = [*bits_N, (bits_N[0] + bits_N[2]) / 2, NAN]
    np.testing.assert_allclose(value_U, expected)
    assert value_U[0] > value_U[1] > value_U[2]


def test_mean_popularity_counts_listed_items_only() -> None:
    value_U = metrics.mean_popularity(np.array([[0, 2], [1, -1], [-1, -1]]), np.array([0, 3, 93]))
    np.testing.assert_array_equal(value_U, [46.5, 3.0, NAN])


def test_out_of_network_share_leaves_out_followed_authors_and_oneself() -> None:
    author_N = np.array([0, 1, 2, 3, -1])
    follows = np.array([[0, 0, 1], [1, 2, 3]])
    lists_UK = np.array([[0, 1, 2, 3], [0, 1, 3, 4], [4, -1, -1, -1]])
    value_U = metrics.out_of_network_share(lists_UK, np.array([0, 1, 0]), author_N, follows)
    np.testing.assert_allclose(value_U, [1 / 4, 1 / 3, NAN])


def test_out_of_network_share_beats_the_feed_of_followed_authors() -> None:
    author_N = np.arange(6) % 3 + 1
    follows = np.array([[0, 0], [1, 2]])
    feed, blended = np.array([[0, 1, 3]]), np.array([[0, 2, 5]])
    user_U = np.array([0])
    share = [metrics.out_of_network_share(x, user_U, author_N, follows) for x in (feed, blended)]
    assert share[0] == [0.0]
    assert share[1] == pytest.approx([2 / 3])
