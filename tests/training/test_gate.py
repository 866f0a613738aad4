"""The gate on planted cases: what it promotes, how often, and what it says."""

import numpy as np
import pytest

from training.gate import Check, Verdict, bounds, decide, group_losses, refresh_baseline

SETTINGS = {
    "reference_name": "champion version 3",
    "min_lift": 0.0,
    "confidence": 0.95,
    "resamples": 1000,
    "seed": 1,
}


def _pair(users: int, lift: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two models on the same users: two thirds at zero, correlated scores, a planted lift."""
    rng = np.random.default_rng(seed)
    hit_U = rng.random(users) < 1 / 3
    skill_U = rng.beta(2, 3, users)
    a_U, b_U = (hit_U * np.clip(skill_U + rng.normal(0, 0.15, users), 0, 1) for _ in range(2))
    return a_U * (1 + lift), b_U


def test_a_clear_gain_is_promoted_with_its_numbers() -> None:
    challenger_U = np.array([0.2, 0.4, 0.6, 0.8] * 50)
    reference_U = challenger_U - np.array([0.01, 0.02, 0.03, 0.04] * 50)
    verdict = decide(challenger_U, reference_U, **SETTINGS)
    assert verdict == Verdict(
        promote=True,
        reason="Promoted: 0.5000 against 0.4750 of champion version 3 (+5.26%); the difference "
        "lies between +0.0235 and +0.0266 with 95% confidence over 200 users.",
        reference="champion version 3",
        challenger_mean=pytest.approx(0.5),
        reference_mean=pytest.approx(0.475),
        lift=pytest.approx(0.5 / 0.475 - 1),
        low=pytest.approx(0.0235, abs=5e-5),
        high=pytest.approx(0.0266, abs=5e-5),
        users=200,
    )


@pytest.mark.parametrize(
    ("challenger", "reference", "min_lift", "reason"),
    [
        (
            [0.5, 0.1],
            [0.5, 0.1],
            0.0,
            "Rejected, not clearly better: 0.3000 against 0.3000 of champion version 3 (+0.00%); "
            "the difference lies between +0.0000 and +0.0000 with 95% confidence over 2 users.",
        ),
        (
            [0.5, 0.1],
            [0.6, 0.2],
            0.0,
            "Rejected, clearly worse: 0.3000 against 0.4000 of champion version 3 (-25.00%); the "
            "difference lies between -0.1000 and -0.1000 with 95% confidence over 2 users.",
        ),
        (
            [0.501, 0.501],
            [0.5, 0.5],
            0.005,
            "Rejected, below the lift of +0.50% that is asked for: 0.5010 against 0.5000 of "
            "champion version 3 (+0.20%); the difference lies between +0.0010 and +0.0010 with "
            "95% confidence over 2 users.",
        ),
        (
            [0.0, 0.0],
            [0.0, 0.0],
            0.0,
            "Rejected, not clearly better: 0.0000 against 0.0000 of champion version 3 (+0.00%); "
            "the difference lies between +0.0000 and +0.0000 with 95% confidence over 2 users.",
        ),
        (
            [0.1, 0.1],
            [0.0, 0.0],
            0.5,
            "Promoted: 0.1000 against 0.0000 of champion version 3 (from nothing); the difference "
            "lies between +0.1000 and +0.1000 with 95% confidence over 2 users.",
        ),
        (
            [0.9],
            [0.1],
            0.0,
            "Rejected: not enough users (1, at least 2 are needed) to tell the challenger from "
            "champion version 3.",
        ),
        (
            [],
            [],
            0.0,
            "Rejected: not enough users (0, at least 2 are needed) to tell the challenger from "
            "champion version 3.",
        ),
    ],
)
def test_reasons(
    challenger: list[float], reference: list[float], min_lift: float, reason: str
) -> None:
    settings = SETTINGS | {"min_lift": min_lift}
    verdict = decide(np.array(challenger), np.array(reference), **settings)
    assert verdict.reason == reason
    assert verdict.promote == reason.startswith("Promoted")


def test_equal_models_under_other_seeds_are_rarely_promoted() -> None:
    promoted = sum(
        decide(*_pair(400, 0.0, seed), **SETTINGS | {"resamples": 400}).promote
        for seed in range(200)
    )
    # One side of a 95 % interval: 2.5 % of 200 are 5; Binomial(200, 0.025) exceeds 11 in 1 of 200.
    assert promoted <= 11


def test_a_planted_gain_is_found_and_a_planted_loss_never_promoted() -> None:
    settings = SETTINGS | {"resamples": 300}
    gains = sum(decide(*_pair(5000, 0.05, seed), **settings).promote for seed in range(50))
    losses = sum(decide(*_pair(5000, -0.05, seed), **settings).promote for seed in range(50))
    assert gains >= 40
    assert losses == 0


def test_models_judged_on_other_users_are_refused() -> None:
    with pytest.raises(ValueError) as caught:
        decide(np.zeros(1), np.zeros(2), **SETTINGS)
    assert str(caught.value) == (
        "paired values must belong to the same users, but the shapes are (1,) and (2,); "
        "score both models on one test set"
    )


def test_the_baseline_is_always_refreshed() -> None:
    first = refresh_baseline(np.array([0.1, 0.2]), None, reference_name="nothing")
    assert (first.promote, first.reason) == (
        True,
        "Promoted: the first baseline (0.1500 over 2 users).",
    )
    worse = refresh_baseline(np.array([0.1]), np.array([0.2]), reference_name="champion version 3")
    assert (worse.promote, worse.reason, worse.lift, worse.low) == (
        True,
        "Promoted: the baseline is refreshed with every interval (0.1000 against 0.2000 of "
        "champion version 3 over 1 users).",
        -0.5,
        -0.1,
    )
    assert refresh_baseline(np.array([]), None, reference_name="nothing").promote


@pytest.mark.parametrize(
    ("lift", "promote"),
    [(0.0099, False), (0.01, True), (0.0101, True)],
    ids=["below", "at", "above"],
)
def test_a_lift_of_exactly_what_is_asked_for_is_enough(lift: float, promote: bool) -> None:
    reference_U = np.full(40, 100.0)
    settings = SETTINGS | {"min_lift": 0.01}
    assert decide(reference_U * (1 + lift), reference_U, **settings).promote == promote


@pytest.mark.parametrize(
    ("value", "floor", "ceiling"),
    [
        (
            0.2999,
            Check("x", False, "x 0.2999 is below its floor, 0.3"),
            Check("x", True, "x 0.2999 keeps to 0.3"),
        ),
        (
            0.3,
            Check("x", True, "x 0.3 keeps to 0.3"),
            Check("x", True, "x 0.3 keeps to 0.3"),
        ),
        (
            0.3001,
            Check("x", True, "x 0.3001 keeps to 0.3"),
            Check("x", False, "x 0.3001 is above its ceiling, 0.3"),
        ),
        (
            None,
            Check("x", False, "x was not measured and has a limit of 0.3"),
            Check("x", False, "x was not measured and has a limit of 0.3"),
        ),
    ],
    ids=["below", "at", "above", "missing"],
)
def test_floors_and_ceilings(value: float | None, floor: Check, ceiling: Check) -> None:
    values = {} if value is None else {"x": value}
    assert bounds(values, {"x": 0.3}, {}) == [floor]
    assert bounds(values, {}, {"x": 0.3}) == [ceiling]


@pytest.mark.parametrize(
    ("users", "challenger", "words"),
    [
        (19, 0.0, "users `new` were not judged: 19, at least 20 are needed"),
        (20, 0.9, "users `new` -10.00% (0.9000 against 1.0000 over 20 users; at most -10.00%, "
         "beyond noise)"),
        (20, 0.8999, "users `new` lose too much, -10.01% (0.8999 against 1.0000 over 20 users; at "
         "most -10.00%, beyond noise)"),
        (20, 1.1, "users `new` +10.00% (1.1000 against 1.0000 over 20 users; at most -10.00%, "
         "beyond noise)"),
    ],
    ids=["too few", "at the limit", "above it", "a gain"],
)  # fmt: skip
def test_what_a_group_may_lose(users: int, challenger: float, words: str) -> None:
    new_U = np.repeat([True, False], [users, 50])
    reference_U = np.ones(len(new_U))
    challenger_U = np.where(new_U, challenger, 2.0)
    (check,) = losses(challenger_U, reference_U, new_U)
    assert check == Check("new", "too much" not in words, words)


def test_a_loss_within_the_noise_is_none() -> None:
    rng = np.random.default_rng(1)
    reference_U = rng.random(40)
    challenger_U = rng.permutation(reference_U) - 0.06
    (check,) = losses(challenger_U, reference_U, np.ones(40, dtype=bool))
    assert check.passed
    assert challenger_U.mean() < 0.9 * reference_U.mean()


def losses(challenger_U: np.ndarray, reference_U: np.ndarray, new_U: np.ndarray) -> list[Check]:
    """The checks of one group that may lose a tenth."""
    options = {"min_users": 20, "confidence": 0.95, "resamples": 500, "seed": 1}
    return group_losses(challenger_U, reference_U, {"new": new_U}, {"new": 0.1}, **options)


def test_a_winner_that_fails_a_check_is_rejected_with_its_words() -> None:
    winner = decide(np.full(40, 0.5), np.full(40, 0.4), **SETTINGS)
    checks = [
        Check("ndcg@10", True, "ndcg@10 0.5 keeps to 0.1"),
        Check("gini@10", False, "gini@10 0.95 is above its ceiling, 0.9"),
        Check("new", False, "users `new` lose too much"),
    ]
    held = winner.held_to(checks)
    assert (held.promote, held.reason) == (
        False,
        "Rejected, gini@10 0.95 is above its ceiling, 0.9 and users `new` lose too much: 0.5000 "
        "against 0.4000 of champion version 3 (+25.00%); the difference lies between +0.1000 and "
        "+0.1000 with 95% confidence over 40 users.",
    )
    assert (
        held.tags().items()
        >= {
            "gate_verdict": "reject",
            "gate_check_ndcg_at_10": "ndcg@10 0.5 keeps to 0.1",
            "gate_check_gini_at_10": "gini@10 0.95 is above its ceiling, 0.9",
            "gate_check_new": "users `new` lose too much",
        }.items()
    )
    loser = decide(np.full(40, 0.3), np.full(40, 0.4), **SETTINGS)
    assert loser.held_to(checks).reason == loser.reason
    assert winner.held_to(checks[:1]).promote
