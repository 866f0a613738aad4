"""How much two sets of lists differ, against values worked out by hand and by other means."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from training.shadow import compare, overlap, rank_biased_overlap, rank_correlation

BEFORE = np.array([[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, -1, -1], [-1, -1, -1, -1]])
AFTER = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [4, 5, 6, 7], [1, 5, -1, -1], [-1, -1, -1, -1]])


def test_overlap_is_the_share_of_equal_items():
    np.testing.assert_array_equal(overlap(BEFORE, AFTER), [1, 1, 0, 0.5, np.nan])


def test_rank_biased_overlap_of_equal_reversed_and_foreign_lists():
    # Of the reversed lists the first d places share 0, 0, 2 and 4 items.
    reversed_ = (0.1 / 0.9) * (0.9**3 * 2 / 3 + 0.9**4) + 0.9**4
    np.testing.assert_allclose(rank_biased_overlap(BEFORE, AFTER)[:3], [1, reversed_, 0])


def test_rank_biased_overlap_equals_its_definition():
    generator = np.random.default_rng(3)
    one, other = (np.array([generator.permutation(12)[:8] for _ in range(50)]) for _ in range(2))
    found = rank_biased_overlap(one, other, persistence=0.8)
    for row in range(50):
        shared = [len({*one[row, :d]} & {*other[row, :d]}) for d in range(1, 9)]
        agreed = sum(0.8**d * x / d for d, x in enumerate(shared, 1))
        assert found[row] == pytest.approx(0.8**8 * shared[-1] / 8 + 0.2 / 0.8 * agreed)


def test_changes_at_the_top_weigh_more_than_below():
    top, bottom = np.array([[9, 1, 2, 3]]), np.array([[0, 1, 2, 9]])
    plain = np.array([[0, 1, 2, 3]])
    assert rank_biased_overlap(plain, top) < rank_biased_overlap(plain, bottom)


def test_rank_correlation_is_spearmans_over_shared_items():
    np.testing.assert_allclose(rank_correlation(BEFORE, AFTER)[:2], [1, -1])
    assert np.isnan(rank_correlation(BEFORE, AFTER)[2:]).all()
    generator = np.random.default_rng(4)
    one, other = (np.array([generator.permutation(12)[:8] for _ in range(50)]) for _ in range(2))
    found = rank_correlation(one, other)
    for row in range(50):
        shared = [item for item in one[row] if item in other[row]]
        places = [[[*ranks].index(item) for item in shared] for ranks in (one[row], other[row])]
        assert found[row] == pytest.approx(spearmanr(*places).statistic)


def test_lists_of_many_users_are_compared_in_parts():
    generator = np.random.default_rng(5)
    one, other = (generator.permuted(np.tile(np.arange(9), (5000, 1)), axis=1) for _ in range(2))
    for metric in (overlap, rank_biased_overlap, rank_correlation):
        whole = metric(one, other)
        alone = metric(one[4999:], other[4999:])[0]
        assert whole[4999] == pytest.approx(alone, rel=1e-12)  # products of matrices round by size


def test_differences_have_a_row_for_each_group():
    even = np.arange(len(BEFORE)) % 2 == 0
    groups = {"new": even, "light": ~even, "women": np.zeros(len(BEFORE), bool)}
    popularity = np.array([8, 8, 8, 8, 4, 4, 4, 4])
    rows = compare(
        BEFORE, AFTER, groups=groups, popularity_N=popularity, k=2, resamples=50,
        confidence=0.9, seed=1,
    )  # fmt: skip
    found = {(row.metric, row.group): row for row in rows}
    assert found["overlap@2", "all"].value == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    assert found["overlap@2", "all"].users == 4, "empty lists say nothing"
    assert found["overlap@2", "new"].value == pytest.approx(0.5)
    assert found["first_changed", "light"].value == 1.0
    assert found["mean_popularity_shift@2", "all"].value == pytest.approx((0 + 0 - 4 - 2) / 4)
    assert found["coverage_shift@2", "all"].value == pytest.approx((6 - 2) / 8)
    assert found["gini_shift@2", "all"].value < 0
    assert found["overlap@2", "women"].users == 0


def test_equal_lists_do_not_differ():
    rows = compare(
        BEFORE, BEFORE, groups={"new": np.ones(5, bool)}, popularity_N=np.ones(8), k=4,
        resamples=50, confidence=0.9, seed=1,
    )  # fmt: skip
    found = {row.metric: row.value for row in rows if row.group == "all"}
    assert found["first_changed"] == found["coverage_shift@4"] == found["gini_shift@4"] == 0
    assert found["overlap@4"] == found["rank_correlation"] == 1
