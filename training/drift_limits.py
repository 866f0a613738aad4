"""Limits of drift that the data themselves give: how far quiet intervals lie from the days before.

An interval is held against the intervals of the same time of day in the days before it. The same
comparison, made for each earlier day (an A/A test), shows what chance, a weekend and the steady
growth of a column explain: each has the same distance in time to its reference. Rows of one user
are alike, so formulas for independent rows would name columns that never changed.

Where there are too few earlier days, users are resampled instead, with all their rows (cluster
bootstrap: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). That
knows nothing of growth or of the time of day, so no feature that grows with the log is asked of it.

Shapes: R rows, D days (0 is the judged interval, 1 a day before it, and so on), B bins, U users,
C columns, S resamples.
"""

from datetime import timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LEAST_PAST: Final = 8
"""Earlier comparisons from which a limit can be drawn."""
MOST_PAST: Final = 28
"""Earlier comparisons that are looked at: four weeks hold each weekday four times."""

_RESAMPLES = 200
_EMPTY_SHARE = 1e-4  # the share that Evidently's PSI gives to an empty bin
_DAY = timedelta(days=1)


def step_of(every: timedelta) -> timedelta:
    """Time between two intervals of the same time of day: whole days, at least one interval."""
    return _DAY * -(-every // _DAY)


def days_back(time_R: IntArray, end: int, every: timedelta) -> IntArray:
    """How many steps before the interval each row lies, -1 at other times of the day.

    Args:
        time_R: µs since 1970.
        end: End of the interval, likewise.
        every: Length of an interval.
    """
    step = step_of(every) // timedelta(microseconds=1)
    back_R = end - 1 - time_R
    at_slot_R = (back_R >= 0) & (back_R % step < every // timedelta(microseconds=1))
    return np.where(at_slot_R, back_R // step, -1)


def psi(reference_B: FloatArray, current_B: FloatArray) -> FloatArray:
    """Population stability index of counts along the last axis: sum (p - q) ln(p / q).

    p and q are shares; an empty bin gets the share that Evidently gives it. By convention 0.1 is a
    moderate and 0.25 a large shift (Siddiqi, Credit Risk Scorecards, 2006).
    """
    used = (reference_B > 0) | (current_B > 0)
    totals = [np.maximum(side.sum(axis=-1, keepdims=True), 1) for side in (reference_B, current_B)]
    p, q = (
        np.where(side > 0, side / total, _EMPTY_SHARE)
        for side, total in zip((reference_B, current_B), totals, strict=True)
    )
    return np.where(used, (p - q) * np.log(p / q), 0.0).sum(axis=-1)


def before(value_DB: FloatArray, days: int) -> FloatArray:
    """The sum over the `days` days before each day; NaN where there are not as many."""
    sum_DB = np.concatenate([np.zeros((1, *value_DB.shape[1:])), np.cumsum(value_DB, axis=0)])
    found = np.full(value_DB.shape, np.nan)
    whole = len(value_DB) - days
    if whole > 0:
        found[:whole] = sum_DB[1 + days :][:whole] - sum_DB[1:][:whole]
    return found


def upper_bound(past: FloatArray, chance: float) -> float:
    """What the next of some PSIs exceeds with a chance.

    The prediction bound of a normal sample, taken of their cube roots: a PSI without drift is about
    a scaled chi-square (Yurdakul and Naranjo, Journal of Risk Model Validation, 2020), whose cube
    root is nearly normal (Wilson and Hilferty, PNAS, 1931). Unlike the tail of a fitted gamma it
    allows for how little a few values tell of their spread.
    """
    from scipy import special  # its quantile costs a hundredth of that of scipy.stats

    count = len(past)
    root = np.cbrt(past)
    spread = float(root.std(ddof=1)) * np.sqrt(1.0 + 1.0 / count)
    return float((root.mean() + special.stdtrit(count - 1, 1.0 - chance) * spread) ** 3)


def limit_of_past(past: FloatArray, chance: float, floor: float) -> float | None:
    """The limit that earlier comparisons give, or None when they are too few.

    A change that is over must not hide the next one: from the ninth comparison on, what was above
    the limit of those before it does not count, as long as that is not most of them.

    Args:
        past: PSIs without NaN, the oldest first.
        chance: Of a value above the limit without drift.
        floor: Least limit.
    """
    if len(past) < LEAST_PAST:
        return None
    quiet = list(past[:LEAST_PAST])
    for value in past[LEAST_PAST:]:
        if value < max(floor, upper_bound(np.array(quiet), chance)):
            quiet.append(value)
    calm = np.array(quiet) if 2 * len(quiet) > len(past) else past
    return max(floor, upper_bound(calm, chance))


def user_weights(users: int, rng: np.random.Generator) -> FloatArray:
    """(S, U): how often each user is drawn, users being drawn with replacement."""
    return rng.multinomial(users, np.full(users, 1.0 / users), size=_RESAMPLES).astype(np.float64)


def limit_of_users(
    reference_UB: FloatArray,
    current_UB: FloatArray,
    weights: tuple[FloatArray, FloatArray],
    chance: float,
) -> float:
    """The PSI that two samples of users of one distribution exceed with a chance.

    Both sides are resampled by user; what each resample differs from its own side is what chance
    does, and is laid over the shares of both sides together.

    Args:
        reference_UB: Rows of each user in each bin.
        current_UB: The same of the interval, users numbered anew.
        weights: Of `user_weights`, one for each side.
        chance: In (0, 1), already divided by the number of columns.
    """
    from scipy import stats

    pooled_B = reference_UB.sum(axis=0) + current_UB.sum(axis=0)
    pooled_B = pooled_B / max(pooled_B.sum(), 1.0)
    shares = []
    for count_UB, weight_SU in zip((reference_UB, current_UB), weights, strict=True):
        drawn_SB = weight_SU @ count_UB
        drawn_SB /= np.maximum(drawn_SB.sum(axis=1, keepdims=True), 1.0)
        own_B = count_UB.sum(axis=0)
        shares.append(np.clip(pooled_B + drawn_SB - own_B / max(own_B.sum(), 1.0), 0.0, None))
    scores_S = psi(*shares)
    mean, variance = float(scores_S.mean()), float(scores_S.var())
    if variance == 0.0:
        return mean
    tail = stats.gamma.ppf(1.0 - chance, mean**2 / variance, scale=variance / mean)
    return float(max(tail, scores_S.max()))


def chance_difference(past: FloatArray, chance: float) -> float | None:
    """How far the next of some differences lies from zero at most, but for a chance.

    The two-sided prediction bound of a normal sample; None when there are too few.
    """
    from scipy import stats

    if len(past) < LEAST_PAST:
        return None
    spread = float(past.std(ddof=1)) * np.sqrt(1.0 + 1.0 / len(past))
    return abs(float(past.mean())) + float(stats.t.ppf(1.0 - chance / 2, len(past) - 1)) * spread
