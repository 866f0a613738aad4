"""Bootstrap intervals over users, the one way this project states uncertainty.

Users are the unit that is resampled: the positions of one user's list are not independent, two
users are. Percentile intervals were chosen over Wilcoxon and sign tests, whose false alarms grow
with the number of users (Ihemelandu & Ekstrand, SIGIR 2023).

Shape suffixes: U users, R resamples, C resamples of one chunk.
"""

import numpy as np

_CHUNK_CELLS = 1 << 21
"""Most draws held at once (8 MiB of indexes and 16 MiB of values), whatever the number of users."""


def bootstrap_mean(
    values_U: np.ndarray, *, resamples: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """Mean over users with its percentile bootstrap interval.

    Args:
        values_U: One finite number per user, shape (U,).
        resamples: How many bootstrap samples to draw.
        confidence: Share of the bootstrap distribution inside the interval, in (0, 1).
        seed: Seed of the draws; the same arguments give the same interval.

    Returns:
        (mean, low, high) in the unit of `values_U`. One user gives an interval of width zero: ask
        for two or more before reading anything into it.

    Raises:
        ValueError: No user, a value that is NaN or infinite, or a setting out of range.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    values_U = np.asarray(values_U, dtype=np.float64)
    _check(values_U, resamples, confidence)
    users = len(values_U)
    rng = np.random.default_rng(seed)
    mean_R = np.empty(resamples)
    chunk = max(1, _CHUNK_CELLS // users)
    for start in range(0, resamples, chunk):
        stop = min(start + chunk, resamples)
        index_CU = rng.integers(0, users, size=(stop - start, users), dtype=np.int32)
        mean_R[start:stop] = values_U[index_CU].mean(axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(mean_R, [tail, 1.0 - tail])
    return float(values_U.mean()), float(low), float(high)


def paired_bootstrap(
    a_U: np.ndarray, b_U: np.ndarray, *, resamples: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """Mean of `a - b` over the same users with its percentile bootstrap interval.

    Both values of a user are drawn together, so what makes a user easy or hard for every model
    cancels out.

    Args:
        a_U: One finite number per user, shape (U,).
        b_U: The other model's number for the same users in the same order, shape (U,).
        resamples: How many bootstrap samples to draw.
        confidence: Share of the bootstrap distribution inside the interval, in (0, 1).
        seed: Seed of the draws.

    Returns:
        (difference, low, high); the interval excludes 0 when the difference is clear.

    Raises:
        ValueError: Unequal shapes, or what `bootstrap_mean` refuses.
    """
    a_U = np.asarray(a_U, dtype=np.float64)
    b_U = np.asarray(b_U, dtype=np.float64)
    if a_U.shape != b_U.shape:
        msg = (
            f"paired values must belong to the same users, but the shapes are {a_U.shape} and "
            f"{b_U.shape}; score both models on one test set"
        )
        raise ValueError(msg)
    return bootstrap_mean(a_U - b_U, resamples=resamples, confidence=confidence, seed=seed)


def _check(values_U: np.ndarray, resamples: int, confidence: float) -> None:
    if values_U.ndim != 1 or not len(values_U):
        msg = f"a bootstrap needs one value for each of at least one user, got {values_U.shape}"
        raise ValueError(msg)
    broken = int((~np.isfinite(values_U)).sum())
    if broken:
        msg = f"{broken} of {len(values_U)} values are NaN or infinite; leave those users out"
        raise ValueError(msg)
    if resamples < 1 or not 0.0 < confidence < 1.0:
        msg = (
            f"resamples must be at least 1 and confidence between 0 and 1, got "
            f"resamples={resamples} and confidence={confidence}"
        )
        raise ValueError(msg)
