"""Whether a challenger becomes champion.

Both models are judged on one frozen test set, user by user. The challenger must be better beyond
the noise between users (lower end of the interval of the paired difference above zero) and by
enough to matter (relative lift). Two equal models therefore leave the champion where it is.

The baseline (popularity) is another matter. It learns nothing that could be lost, it only counts,
and what it counts goes stale: yesterday's popular items are no better for having been popular. A
first learnt model is also held against it, so it must be of the same interval. It is therefore
always refreshed, and its numbers are recorded without deciding anything.

Shape suffix: U users of the test set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.bootstrap import paired_bootstrap


@dataclass(frozen=True)
class Verdict:
    """A decision with the numbers it rests on."""

    promote: bool
    reason: str
    """One sentence with the numbers."""
    reference: str
    """What the challenger was held against, in words."""
    challenger_mean: float
    """Mean of the metric over users, in the metric's unit; so is reference_mean."""
    reference_mean: float
    lift: float
    """challenger_mean / reference_mean - 1; infinite when only the reference scores zero."""
    low: float
    """Lower end of the interval of the mean paired difference, in the metric's unit."""
    high: float
    users: int


def decide(
    challenger_U: np.ndarray,
    reference_U: np.ndarray,
    *,
    reference_name: str,
    min_lift: float,
    confidence: float,
    resamples: int,
    seed: int,
) -> Verdict:
    """Decides whether the challenger replaces the reference.

    Args:
        challenger_U: The gate's metric for each user, shape (U,), higher is better.
        reference_U: The same metric of the reference for the same users, shape (U,).
        reference_name: The reference in words, such as `champion version 3` or `popularity`.
        min_lift: Relative lift that is worth a promotion; 0.005 means half a percent.
        confidence: Confidence of the two-sided bootstrap interval, in (0, 1).
        resamples: Bootstrap samples.
        seed: Seed of the bootstrap.

    Returns:
        The verdict; `promote` only when the interval's lower end is above zero and the lift is at
        least `min_lift`.

    Raises:
        ValueError: The users differ in number, or a value is NaN or infinite.
    """
    users = len(challenger_U)
    if users < 2 and len(reference_U) == users:
        return Verdict(
            promote=False,
            reason=f"Rejected: not enough users ({users}, at least 2 are needed) to tell the "
            f"challenger from {reference_name}.",
            reference=reference_name,
            challenger_mean=float(np.mean(challenger_U)) if users else 0.0,
            reference_mean=float(np.mean(reference_U)) if users else 0.0,
            lift=0.0,
            low=0.0,
            high=0.0,
            users=users,
        )
    _, low, high = paired_bootstrap(
        challenger_U, reference_U, resamples=resamples, confidence=confidence, seed=seed
    )
    challenger, reference = float(np.mean(challenger_U)), float(np.mean(reference_U))
    lift = _lift(challenger, reference)
    clear, enough = low > 0.0, lift >= min_lift
    if clear and enough:
        judgement = "Promoted"
    elif clear:
        judgement = f"Rejected, below the lift of {min_lift:+.2%} that is asked for"
    elif high < 0.0:
        judgement = "Rejected, clearly worse"
    else:
        judgement = "Rejected, not clearly better"
    return Verdict(
        promote=clear and enough,
        reason=f"{judgement}: {challenger:.4f} against {reference:.4f} of {reference_name} "
        f"({_percent(lift)}); the difference lies between {low:+.4f} and {high:+.4f} with "
        f"{confidence:.0%} confidence over {users:,} users.",
        reference=reference_name,
        challenger_mean=challenger,
        reference_mean=reference,
        lift=lift,
        low=low,
        high=high,
        users=users,
    )


def refresh_baseline(
    challenger_U: np.ndarray, reference_U: np.ndarray | None, *, reference_name: str
) -> Verdict:
    """Promotes the baseline of the newest interval, whatever its numbers; see the module text.

    Args:
        challenger_U: The gate's metric of the new baseline for each user, shape (U,).
        reference_U: The metric of the present one for the same users, or None for the first.
        reference_name: The present one in words, such as `champion version 3`.

    Returns:
        A promoting verdict. `low` and `high` are the plain difference of the means: nothing is
        tested.
    """
    users = len(challenger_U)
    challenger = float(np.mean(challenger_U)) if users else 0.0
    if reference_U is None:
        reason = f"Promoted: the first baseline ({challenger:.4f} over {users:,} users)."
        return Verdict(True, reason, "nothing", challenger, 0.0, 0.0, 0.0, 0.0, users)
    reference = float(np.mean(reference_U)) if users else 0.0
    difference = challenger - reference
    reason = (
        f"Promoted: the baseline is refreshed with every interval ({challenger:.4f} against "
        f"{reference:.4f} of {reference_name} over {users:,} users)."
    )
    return Verdict(
        promote=True,
        reason=reason,
        reference=reference_name,
        challenger_mean=challenger,
        reference_mean=reference,
        lift=_lift(challenger, reference),
        low=difference,
        high=difference,
        users=users,
    )


def _lift(challenger: float, reference: float) -> float:
    if reference == 0.0:
        return 0.0 if challenger == 0.0 else float("inf")
    return challenger / reference - 1.0


def _percent(lift: float) -> str:
    return "from nothing" if lift == float("inf") else f"{lift:+.2%}"
