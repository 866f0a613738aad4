"""The people of the demo world: tastes, communities, habits and who follows whom.

Shapes: U users, K topics, M niches (`NICHES_PER_TOPIC` consecutive ones per topic), G communities,
A authors, F follow edges.
"""
# ruff: noqa: N815 - array fields wear their shape as a suffix

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from transforms.demo.config import DRIFTS, TASTE_CHANGE_SHARE, DemoConfig, micros
from transforms.demo.sampling import FloatArray, GroupedWeights, IntArray
from transforms.demo.vocabulary import TOPICS

TOPIC_COUNT: Final = len(TOPICS)
NICHES_PER_TOPIC: Final = len(TOPICS[0].niches)
NICHE_COUNT: Final = TOPIC_COUNT * NICHES_PER_TOPIC
COMMUNITY_COUNT: Final = 8
NIGHT_SHARE: Final = 0.15
RISING_TOPICS: Final = 2
"""Topics that gain the users who change taste, so the change shows in totals too."""

DEVICES: Final = ("phone", "tablet", "desktop", "tv")
DEVICE_MIX: Final = (0.62, 0.12, 0.18, 0.08)
LOCATIONS: Final = ("DE", "US", "IN", "BR", "FR", "JP", "NG", "PL")
MEDIA_TYPES: Final = ("video", "image", "text", "audio")
MEDIA_MIX: Final = (0.70, 0.15, 0.10, 0.05)

_LOCATION_MIX = (0.24, 0.20, 0.16, 0.12, 0.10, 0.08, 0.06, 0.04)
_DAY_MICROS = timedelta(days=1) // timedelta(microseconds=1)
_AUTHOR_SHARE = 0.15
_SAME_COMMUNITY = 0.85
_MEAN_OPENING = 0.75
_DRIFT_FOLLOWS = 10

# First element of every spawn key in this file; see `DemoConfig.rng`.
_PEOPLE, _TASTE, _FOLLOW, _DRIFT = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Population:
    """All users, ordered by `created_U`."""

    created_U: IntArray
    """Sign-up, µs since 1970."""
    new_U: npt.NDArray[np.bool_]
    """Signs up during the period."""
    community_U: IntArray
    taste_UM: FloatArray
    """Share of interest per niche before the drift; rows sum to one."""
    taste_after_UM: FloatArray
    """The same after the drift; equal to `taste_UM` for users who do not change."""
    changed_U: npt.NDArray[np.bool_]
    in_network_U: npt.NDArray[np.bool_]
    """Interacts only with items of authors followed."""
    night_U: npt.NDArray[np.bool_]
    peak_hour_U: FloatArray
    opening_U: FloatArray
    """Chance to open the app on an average day."""
    appetite_U: FloatArray
    """Factor on the number of items seen on such a day; mean one."""
    weekend_U: FloatArray
    """Chance of opening at the weekend relative to a working day."""
    device_U: IntArray
    location_U: IntArray
    media_UX: FloatArray
    """Share of interest per media type; rows sum to one."""
    trust_U: FloatArray
    authors_A: IntArray
    """User codes of those who publish, ascending; none of them is new."""
    output_A: FloatArray
    """Relative number of items an author publishes (heavy tailed)."""
    follower_F: IntArray
    followee_F: IntArray
    since_F: IntArray
    """µs since 1970; edges are never reflexive, and of equal ones the earliest counts."""

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self.created_U)


def topic_shares(niches_UM: FloatArray) -> FloatArray:
    """Sum niche shares to topic shares: (U, M) to (U, K)."""
    return niches_UM.reshape(len(niches_UM), TOPIC_COUNT, NICHES_PER_TOPIC).sum(axis=2)


def build_population(config: DemoConfig) -> Population:
    """Draw the users of a world."""
    rng = config.rng(_PEOPLE)
    count = config.users
    new_count = round(config.new_user_share * count)
    start, end = micros(config.start), micros(config.end)
    age_days_U = rng.uniform(1.0, 400.0, count - new_count)
    created_U = np.sort(
        np.concatenate(
            [
                start - (age_days_U * _DAY_MICROS).astype(np.int64),
                rng.integers(start, end, new_count),
            ]
        )
    )
    new_U = created_U >= start
    community_U = rng.integers(0, COMMUNITY_COUNT, count)
    night_U = _choose(rng, count, NIGHT_SHARE)
    peak_hour_U = np.where(
        night_U,
        rng.normal(1.0, 1.0, count) % 24,
        rng.choice([8.0, 13.0, 20.0], count, p=[0.25, 0.25, 0.5]) + rng.normal(0.0, 1.0, count),
    )
    opening_U = rng.beta(6.0, 2.0, count)
    appetite_U = rng.lognormal(0.0, 0.4, count)
    authors_A = np.sort(
        rng.choice(count - new_count, max(8, round(_AUTHOR_SHARE * count)), replace=False)
    )
    output_A = rng.pareto(2.0, len(authors_A)) + 0.3
    taste_UM = _draw_tastes(config, community_U)
    follower_F, followee_F, since_F = _draw_follows(
        config,
        created_U=created_U,
        community_U=community_U,
        taste_UM=taste_UM,
        authors_A=authors_A,
        output_A=output_A,
    )
    taste_after_UM, changed_U = taste_UM, np.zeros(count, dtype=bool)
    if "taste" in DRIFTS[config.drift]:
        drift = _draw_drift(config, taste_UM, authors_A, output_A)
        taste_after_UM, changed_U = drift.taste_UM, drift.changed_U
        moment = micros(config.drift_moment or config.end)
        follower_F = np.concatenate([follower_F, drift.follower_F])
        followee_F = np.concatenate([followee_F, drift.followee_F])
        earliest_F = np.maximum(created_U[drift.follower_F], moment)
        since_F = np.concatenate([since_F, earliest_F])
    return Population(
        created_U=created_U,
        new_U=new_U,
        community_U=community_U,
        taste_UM=taste_UM,
        taste_after_UM=taste_after_UM,
        changed_U=changed_U,
        in_network_U=_choose(rng, count, config.in_network_share),
        night_U=night_U,
        peak_hour_U=peak_hour_U,
        opening_U=opening_U * (_MEAN_OPENING / opening_U.mean()),
        appetite_U=appetite_U / appetite_U.mean(),
        weekend_U=rng.uniform(0.9, 1.7, count),
        device_U=rng.choice(len(DEVICES), count, p=DEVICE_MIX),
        location_U=rng.choice(len(LOCATIONS), count, p=_LOCATION_MIX),
        media_UX=rng.dirichlet(np.array(MEDIA_MIX) * 20.0, count),
        trust_U=rng.beta(6.0, 2.0, count),
        authors_A=authors_A,
        output_A=output_A,
        follower_F=follower_F,
        followee_F=followee_F,
        since_F=since_F,
    )


def _choose(rng: np.random.Generator, count: int, share: float) -> npt.NDArray[np.bool_]:
    """Mark exactly `round(share * count)` of `count`, so a planted share is met, not expected."""
    return rng.permutation(count) < round(share * count)


def _draw_tastes(config: DemoConfig, community_U: IntArray) -> FloatArray:
    """Mix one to three topics per user, favouring those of the user's community."""
    rng = config.rng(_TASTE)
    count = len(community_U)
    appeal_GK = rng.dirichlet(np.full(TOPIC_COUNT, 0.4), COMMUNITY_COUNT) + 0.01
    # Gumbel-max over log weights draws distinct topics in proportion to the community's appeal.
    noisy_UK = np.log(appeal_GK)[community_U] + rng.gumbel(size=(count, TOPIC_COUNT))
    ranked_UK = np.argsort(-noisy_UK, axis=1)
    topics_U = rng.choice([1, 2, 3], count, p=[0.3, 0.4, 0.3])
    shares_U3 = rng.dirichlet([3.0, 2.0, 1.0], count)
    shares_U3[np.arange(3) >= topics_U[:, None]] = 0.0
    topic_UK = np.zeros((count, TOPIC_COUNT))
    np.put_along_axis(topic_UK, ranked_UK[:, :3], shares_U3, axis=1)
    topic_UK /= topic_UK.sum(axis=1, keepdims=True)
    inside_UKJ = rng.dirichlet(np.full(NICHES_PER_TOPIC, 0.5), (count, TOPIC_COUNT))
    return (topic_UK[:, :, None] * inside_UKJ).reshape(count, NICHE_COUNT)


@dataclass(frozen=True, slots=True)
class _Drift:
    """What changes at a drift of taste."""

    taste_UM: FloatArray
    changed_U: npt.NDArray[np.bool_]
    follower_F: IntArray
    followee_F: IntArray


def _draw_drift(
    config: DemoConfig, taste_UM: FloatArray, authors_A: IntArray, output_A: FloatArray
) -> _Drift:
    """Move a share of the users to the rising topics; a fifth of their old taste stays.

    They follow some authors of these topics too, without which users bound to their network could
    not act on their new taste. Rising topics are among the better stocked half.
    """
    rng = config.rng(_DRIFT)
    count = len(taste_UM)
    changed_U = _choose(rng, count, TASTE_CHANGE_SHARE)
    main_topic_A = topic_shares(taste_UM[authors_A]).argmax(axis=1)
    stock_K = np.bincount(main_topic_A, weights=output_A, minlength=TOPIC_COUNT)
    stocked = np.argsort(-stock_K, kind="stable")[: TOPIC_COUNT // 2]
    rising = rng.choice(stocked, RISING_TOPICS, replace=False)
    niches = (rising[:, None] * NICHES_PER_TOPIC + np.arange(NICHES_PER_TOPIC)).ravel()
    fresh_UM = np.zeros_like(taste_UM)
    fresh_UM[:, niches] = rng.dirichlet(np.full(len(niches), 0.4), count)
    after_UM = np.where(changed_U[:, None], 0.2 * taste_UM + 0.8 * fresh_UM, taste_UM)
    follower_F = np.repeat(np.flatnonzero(changed_U), _DRIFT_FOLLOWS)
    topic_F = topic_shares(after_UM[follower_F]).argmax(axis=1)
    by_topic = GroupedWeights.build(main_topic_A, output_A, TOPIC_COUNT)
    author_F = by_topic.draw(topic_F, rng.random(len(follower_F)))
    kept_F = (author_F >= 0) & (authors_A[author_F] != follower_F)
    return _Drift(after_UM, changed_U, follower_F[kept_F], authors_A[author_F[kept_F]])


def _draw_follows(
    config: DemoConfig,
    *,
    created_U: IntArray,
    community_U: IntArray,
    taste_UM: FloatArray,
    authors_A: IntArray,
    output_A: FloatArray,
) -> tuple[IntArray, IntArray, IntArray]:
    """Draw the follow graph with homophily: same community first, then the same main topic."""
    rng = config.rng(_FOLLOW)
    degree_U = np.minimum(rng.poisson(14 + 30 * rng.beta(2.0, 2.0, len(created_U))), len(authors_A))
    follower_F = np.repeat(np.arange(len(created_U)), degree_U)
    by_community = GroupedWeights.build(community_U[authors_A], output_A, COMMUNITY_COUNT)
    by_topic = GroupedWeights.build(
        topic_shares(taste_UM[authors_A]).argmax(axis=1), output_A, TOPIC_COUNT
    )
    main_topic_U = topic_shares(taste_UM).argmax(axis=1)
    near_F = rng.random(len(follower_F)) < _SAME_COMMUNITY
    uniform_F = rng.random(len(follower_F))
    author_F = np.where(
        near_F,
        by_community.draw(community_U[follower_F], uniform_F),
        by_topic.draw(main_topic_U[follower_F], uniform_F),
    )
    known_F = author_F >= 0
    follower_F, followee_F = follower_F[known_F], authors_A[author_F[known_F]]
    kept_F = follower_F != followee_F
    edges_F = np.unique(follower_F[kept_F] * len(created_U) + followee_F[kept_F])
    follower_F, followee_F = edges_F // len(created_U), edges_F % len(created_U)
    # Those who join during the period follow at sign-up: they would meet an empty feed otherwise.
    earliest_F = np.maximum(created_U[follower_F], created_U[followee_F])
    latest_F = np.maximum(earliest_F, micros(config.start))
    since_F = earliest_F + ((latest_F - earliest_F) * rng.random(len(edges_F))).astype(np.int64)
    return follower_F, followee_F, since_F
