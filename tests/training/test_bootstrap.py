"""Bootstrap intervals: against scipy, against known coverage, and at the edges."""

import numpy as np
import pytest
from scipy import stats

from training import bootstrap
from training.bootstrap import bootstrap_mean, paired_bootstrap

DRAWS = {"resamples": 2000, "confidence": 0.95, "seed": 7}


def _ndcg_like(users: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(users) < 0.6, 0.0, rng.beta(2, 3, users))


def test_the_interval_of_a_mean_is_that_of_scipy() -> None:
    values_U = _ndcg_like(400, seed=1)
    mean, low, high = bootstrap_mean(values_U, **DRAWS)
    expected = stats.bootstrap(
        (values_U,), np.mean, n_resamples=20_000, method="percentile", rng=0
    ).confidence_interval
    standard_error = values_U.std() / np.sqrt(len(values_U))
    assert mean == values_U.mean()
    assert low == pytest.approx(expected.low, abs=0.1 * standard_error)
    assert high == pytest.approx(expected.high, abs=0.1 * standard_error)


def test_the_interval_of_a_paired_difference_is_that_of_scipy() -> None:
    a_U = _ndcg_like(300, seed=2)
    b_U = 0.8 * a_U + 0.02
    difference, low, high = paired_bootstrap(a_U, b_U, **DRAWS)
    expected = stats.bootstrap(
        (a_U, b_U),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="percentile",
        rng=0,
    ).confidence_interval
    standard_error = (a_U - b_U).std() / np.sqrt(len(a_U))
    assert difference == pytest.approx((a_U - b_U).mean(), abs=1e-15)
    assert low == pytest.approx(expected.low, abs=0.1 * standard_error)
    assert high == pytest.approx(expected.high, abs=0.1 * standard_error)


def test_pairing_cancels_what_users_have_in_common() -> None:
    hardness_U = np.random.default_rng(3).random(500)
    _, low, high = paired_bootstrap(hardness_U + 0.01, hardness_U, **DRAWS)
    assert (low, high) == (pytest.approx(0.01), pytest.approx(0.01))


def test_the_true_mean_lies_inside_the_interval_as_often_as_promised() -> None:
    inside = 0
    for seed in range(300):
        values_U = np.random.default_rng(seed).exponential(1.0, 120)
        _, low, high = bootstrap_mean(values_U, resamples=400, confidence=0.9, seed=seed)
        inside += low <= 1.0 <= high
    # Binomial(300, 0.9) has a standard deviation of 5.2; the exponential's skew costs some 2 %.
    assert 250 <= inside <= 285


def test_a_wider_confidence_gives_a_wider_interval_around_the_same_mean() -> None:
    values_U = _ndcg_like(200, seed=4)
    mean, low, high = bootstrap_mean(values_U, resamples=1000, confidence=0.99, seed=1)
    mean_80, low_80, high_80 = bootstrap_mean(values_U, resamples=1000, confidence=0.80, seed=1)
    assert mean == mean_80
    assert low < low_80 < mean < high_80 < high


def test_the_same_seed_repeats_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values_U = _ndcg_like(150, seed=5)
    whole = bootstrap_mean(values_U, **DRAWS)
    assert bootstrap_mean(values_U, **DRAWS) == whole
    assert bootstrap_mean(values_U, **{**DRAWS, "seed": 8}) != whole
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", 150 * 7)
    assert bootstrap_mean(values_U, **DRAWS) == whole


def test_one_user_and_equal_users_have_no_spread() -> None:
    assert bootstrap_mean(np.array([0.25]), **DRAWS) == (0.25, 0.25, 0.25)
    assert bootstrap_mean(np.full(9, 0.5), **DRAWS) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (
            [],
            {},
            "a bootstrap needs one value for each of at least one user, got (0,)",
        ),
        (
            [[1.0]],
            {},
            "a bootstrap needs one value for each of at least one user, got (1, 1)",
        ),
        (
            [1.0, np.nan, np.inf],
            {},
            "2 of 3 values are NaN or infinite; leave those users out",
        ),
        (
            [1.0],
            {"resamples": 0},
            "resamples must be at least 1 and confidence between 0 and 1, got resamples=0 and "
            "confidence=0.95",
        ),
        (
            [1.0],
            {"confidence": 1.0},
            "resamples must be at least 1 and confidence between 0 and 1, got resamples=2000 and "
            "confidence=1.0",
        ),
    ],
)
def test_what_is_refused(values: list, settings: dict, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        bootstrap_mean(np.array(values), **{**DRAWS, **settings})
    assert str(caught.value) == message


def test_values_of_different_users_are_refused() -> None:
    with pytest.raises(ValueError) as caught:
        paired_bootstrap(np.zeros(3), np.zeros(2), **DRAWS)
    assert str(caught.value) == (
        "paired values must belong to the same users, but the shapes are (3,) and (2,); "
        "score both models on one test set"
    )
