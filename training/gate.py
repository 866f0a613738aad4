"""Whether a challenger becomes champion.

Both models are judged on one frozen test set, user by user. The challenger must be better beyond
the noise between users (lower end of the interval of the paired difference above zero) and by
enough to matter (relative lift). Two equal models therefore leave the champion where it is.

The baseline (popularity) is another matter. It learns nothing that could be lost, it only counts,
and what it counts goes stale: yesterday's popular items are no better for having been popular. A
first learnt model is also held against it, so it must be of the same interval. It is therefore
always refreshed, and its numbers are recorded without deciding anything.

A winner must also keep within what the spec bounds: floors and ceilings of measured numbers, and
what groups of users may lose.

Shape suffix: U users of the test set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from training.bootstrap import paired_bootstrap
from training.evaluation import Members


@dataclass(frozen=True)
class Check:
    """A bound that a challenger was held to."""

    name: str
    passed: bool
    words: str
    """The number, its limit, and which side of it is wrong."""


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
    checks: tuple[Check, ...] = ()
    """What else it had to keep within."""

    def tags(self) -> dict[str, str]:
        """The verdict as tags of a version."""
        numbers = asdict(self)
        del numbers["checks"]
        promote, reason, reference = (
            numbers.pop(key) for key in ("promote", "reason", "reference")
        )
        return {
            "gate_verdict": "promote" if promote else "reject",
            "gate_reason": reason,
            "gate_reference": reference,
            **{f"gate_{key}": f"{value:.10g}" for key, value in numbers.items()},
            **{f"gate_check_{_key(check.name)}": check.words for check in self.checks},
        }

    def held_to(self, checks: Sequence[Check]) -> Verdict:
        """The verdict after further checks: a winner that fails one of them is rejected."""
        failed = [check.words for check in checks if not check.passed]
        if not self.promote or not failed:
            return replace(self, checks=tuple(checks))
        _, _, numbers = self.reason.partition(": ")
        return replace(
            self,
            promote=False,
            reason=f"Rejected, {' and '.join(failed)}: {numbers}",
            checks=tuple(checks),
        )


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


def bounds(
    values: Mapping[str, float], floors: Mapping[str, float], ceilings: Mapping[str, float]
) -> list[Check]:
    """Holds numbers of a challenger to floors and ceilings, both of which still pass.

    Args:
        values: What was measured, by name.
        floors: Least values.
        ceilings: Greatest values.

    Returns:
        A check for each limit; what was not measured fails it.
    """
    found = []
    for side, limits in (("below its floor", floors), ("above its ceiling", ceilings)):
        for name, limit in limits.items():
            value = values.get(name)
            if value is None:
                words = f"{name} was not measured and has a limit of {limit:g}"
                found.append(Check(name, passed=False, words=words))
                continue
            passed = value >= limit if limits is floors else value <= limit
            keeps = "keeps to" if passed else f"is {side},"
            found.append(Check(name, passed, f"{name} {value:.4g} {keeps} {limit:g}"))
    return found


def group_losses(
    challenger_U: np.ndarray,
    reference_U: np.ndarray,
    groups: Members,
    limits: Mapping[str, float],
    *,
    min_users: int,
    confidence: float,
    resamples: int,
    seed: int,
) -> list[Check]:
    """Holds a challenger to what each group of users may lose.

    A group loses too much when its mean falls by more than its limit and the paired difference is
    clearly below zero: a few users who happened to be served worse are no verdict.

    Args:
        challenger_U: The gate's metric of the challenger for each user.
        reference_U: That of the reference for the same users.
        groups: Who belongs to which.
        limits: Group to its greatest relative loss, 0.1 for 10 %.
        min_users: A smaller group is not judged.
        confidence: Confidence of the two-sided bootstrap interval.
        resamples: Bootstrap samples.
        seed: Seed of the bootstrap.
    """
    found = []
    for group, limit in limits.items():
        mine_U = groups[group]
        users = int(mine_U.sum())
        if users < min_users:
            words = f"users `{group}` were not judged: {users:,}, at least {min_users} are needed"
            found.append(Check(group, passed=True, words=words))
            continue
        _, _, high = paired_bootstrap(
            challenger_U[mine_U],
            reference_U[mine_U],
            resamples=resamples,
            confidence=confidence,
            seed=seed,
        )
        challenger, reference = (
            float(np.mean(value_U[mine_U])) for value_U in (challenger_U, reference_U)
        )
        change = _lift(challenger, reference)
        # A loss that equals its limit passes, whatever the last bit of a quotient says.
        passed = -change <= limit + 1e-9 or high >= 0.0
        found.append(
            Check(
                group,
                passed,
                f"users `{group}` {'' if passed else 'lose too much, '}{_percent(change)} "
                f"({challenger:.4f} against {reference:.4f} over {users:,} users; at most "
                f"-{limit:.2%}, beyond noise)",
            )
        )
    return found


def _key(name: str) -> str:
    """A name that MLflow takes as part of a tag."""
    return re.sub(r"[^\w\-. /]", "_", name.replace("@", "_at_"))


def _lift(challenger: float, reference: float) -> float:
    if reference == 0.0:
        return 0.0 if challenger == 0.0 else float("inf")
    return challenger / reference - 1.0


def _percent(lift: float) -> str:
    return "from nothing" if lift == float("inf") else f"{lift:+.2%}"
