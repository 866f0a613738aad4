"""The people of the demo world: tastes, communities, habits and who follows whom.

A few numbers per user are drawn for all users at once. What is wide or long (tastes, follow edges)
is drawn for a block of users when that block is asked for, each block with a generator of its own:
so the memory that a world needs does not grow with all its tastes and edges.

Shapes: U users, V users of one block, K topics, M niches (`NICHES_PER_TOPIC` consecutive ones per
topic), G communities, A authors, F follow edges.
"""

from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from math import ceil
from typing import Final

import numpy as np
import numpy.typing as npt

from transforms.demo.config import DRIFTS, TASTE_CHANGE_SHARE, DemoConfig, micros
from transforms.demo.sampling import FloatArray, GroupedWeights, Grouping, IntArray
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

_EVENTS_A_DAY = 160_000
"""About as many events are simulated at once: few enough for the processor's caches."""

# First element of every spawn key in this file; see `DemoConfig.rng`.
_PEOPLE, _TASTE, _FOLLOW, _DRIFT = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class UserBlock:
    """Consecutive users with their tastes and follows; users are counted from `first`."""

    index: int
    first: int
    """Code of the first user of the block."""
    taste_VM: FloatArray
    """Share of interest per niche before the drift; rows sum to one."""
    taste_after_VM: FloatArray
    """The same after the drift; equal to `taste_VM` for users who do not change."""
    edge_F: IntArray
    """Follow edges as follower (within the block) * A + author, ascending and distinct."""
    since_F: IntArray
    """µs since 1970."""

    def __len__(self) -> int:
        """Return the number of users in the block."""
        return len(self.taste_VM)

    def of(self, column_U: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return the block's part of a column of all users."""
        return column_U[self.first : self.first + len(self)]


class Population:
    """All users, ordered by `created_U`."""

    def __init__(self, config: DemoConfig) -> None:
        self._config = config
        rng = config.rng(_PEOPLE)
        count = config.users
        new_count = round(config.new_user_share * count)
        start, end = micros(config.start), micros(config.end)
        age_days_U = rng.uniform(1.0, 400.0, count - new_count)
        self.created_U: IntArray = np.sort(
            np.concatenate(
                [
                    start - (age_days_U * _DAY_MICROS).astype(np.int64),
                    rng.integers(start, end, new_count),
                ]
            )
        )
        """Sign-up, µs since 1970."""
        self.new_U = self.created_U >= start
        """Signs up during the period."""
        self.community_U = rng.integers(0, COMMUNITY_COUNT, count)
        self.night_U = _choose(rng, count, NIGHT_SHARE)
        self.peak_hour_U = np.where(
            self.night_U,
            rng.normal(1.0, 1.0, count) % 24,
            rng.choice([8.0, 13.0, 20.0], count, p=[0.25, 0.25, 0.5]) + rng.normal(0.0, 1.0, count),
        )
        opening_U = rng.beta(6.0, 2.0, count)
        appetite_U = rng.lognormal(0.0, 0.4, count)
        self.authors_A: IntArray = np.sort(
            rng.choice(count - new_count, max(8, round(_AUTHOR_SHARE * count)), replace=False)
        )
        """User codes of those who publish, ascending; none of them is new."""
        self.output_A = rng.pareto(2.0, len(self.authors_A)) + 0.3
        """Relative number of items an author publishes (heavy tailed)."""
        self.in_network_U = _choose(rng, count, config.in_network_share)
        """Interacts only with items of authors followed."""
        self.opening_U = opening_U * (_MEAN_OPENING / opening_U.mean())
        """Chance to open the app on an average day."""
        self.appetite_U = appetite_U / appetite_U.mean()
        """Factor on the number of items seen on such a day; mean one."""
        self.weekend_U = rng.uniform(0.9, 1.7, count)
        """Chance of opening at the weekend relative to a working day."""
        self.device_U = rng.choice(len(DEVICES), count, p=DEVICE_MIX)
        self.location_U = rng.choice(len(LOCATIONS), count, p=_LOCATION_MIX)
        self.media_UX = rng.dirichlet(np.array(MEDIA_MIX) * 20.0, count)
        """Share of interest per media type; rows sum to one."""
        self.trust_U = rng.beta(6.0, 2.0, count)

        self._taste_rng = config.rng(_TASTE)
        self._appeal_GK = self._taste_rng.dirichlet(np.full(TOPIC_COUNT, 0.4), COMMUNITY_COUNT)
        self._appeal_GK += 0.01
        self._drift_rng = config.rng(_DRIFT)
        self._has_taste_drift = "taste" in DRIFTS[config.drift]
        self.changed_U = (
            _choose(self._drift_rng, count, TASTE_CHANGE_SHARE)
            if self._has_taste_drift
            else np.zeros(count, dtype=bool)
        )
        """Changes taste at the drift."""
        self._kept: UserBlock | None = None

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self.created_U)

    @property
    def block_size(self) -> int:
        """Users of one block, the last one excepted: fewer where each has more events."""
        return ceil(_EVENTS_A_DAY / self._config.events_per_user_day)

    @property
    def block_count(self) -> int:
        """Number of blocks."""
        return ceil(len(self) / self.block_size)

    def block(self, index: int) -> UserBlock:
        """Draw the tastes and follow edges of one block; the last one asked for is kept."""
        if self._kept is None or self._kept.index != index:
            self._kept = None  # two would be in memory otherwise
            self._kept = self._draw_block(index)
        return self._kept

    @cached_property
    def author_tastes(self) -> FloatArray:
        """Tastes of the authors before the drift, (A, M)."""
        tastes_AM = np.empty((len(self.authors_A), NICHE_COUNT))
        for index in range(self.block_count):
            users = self._users_of(index)
            authors = slice(*np.searchsorted(self.authors_A, [users.start, users.stop]).tolist())
            tastes_AM[authors] = self._draw_tastes(index)[self.authors_A[authors] - users.start]
        return tastes_AM

    def _users_of(self, index: int) -> slice:
        return slice(index * self.block_size, min((index + 1) * self.block_size, len(self)))

    def _rng_of(self, whole: np.random.Generator, path: int, index: int) -> np.random.Generator:
        """Return a block's generator.

        The first block goes on with that of the whole, so that a world of one block does not
        depend on there being blocks.
        """
        return deepcopy(whole) if index == 0 else self._config.rng(path, index)

    def _draw_block(self, index: int) -> UserBlock:
        taste_VM = self._draw_tastes(index)
        edges = [self._draw_follows(index, taste_VM)]
        after_VM = taste_VM
        if self._has_taste_drift:
            after_VM, follows = self._draw_drift(index, taste_VM)
            edges.append(follows)
        edge_F, since_F = (np.concatenate(column) for column in zip(*edges, strict=True))
        order_F = np.lexsort((since_F, edge_F))
        # Of equal edges the earliest counts.
        first_F = order_F[np.unique(edge_F[order_F], return_index=True)[1]]
        return UserBlock(
            index,
            self._users_of(index).start,
            taste_VM,
            after_VM,
            edge_F[first_F],
            since_F[first_F],
        )

    def _draw_tastes(self, index: int) -> FloatArray:
        """Mix one to three topics per user, favouring those of the user's community."""
        rng = self._rng_of(self._taste_rng, _TASTE, index)
        community_V = self.community_U[self._users_of(index)]
        count = len(community_V)
        # Gumbel-max over log weights draws distinct topics in proportion to the community's appeal.
        noisy_VK = np.log(self._appeal_GK)[community_V] + rng.gumbel(size=(count, TOPIC_COUNT))
        ranked_VK = np.argsort(-noisy_VK, axis=1)
        topics_V = rng.choice([1, 2, 3], count, p=[0.3, 0.4, 0.3])
        shares_V3 = rng.dirichlet([3.0, 2.0, 1.0], count)
        shares_V3[np.arange(3) >= topics_V[:, None]] = 0.0
        topic_VK = np.zeros((count, TOPIC_COUNT))
        np.put_along_axis(topic_VK, ranked_VK[:, :3], shares_V3, axis=1)
        topic_VK /= topic_VK.sum(axis=1, keepdims=True)
        inside_VKJ = rng.dirichlet(np.full(NICHES_PER_TOPIC, 0.5), (count, TOPIC_COUNT))
        return (topic_VK[:, :, None] * inside_VKJ).reshape(count, NICHE_COUNT)

    def _draw_drift(
        self, index: int, taste_VM: FloatArray
    ) -> tuple[FloatArray, tuple[IntArray, IntArray]]:
        """Move a share of the users to the rising topics; a fifth of their old taste stays.

        They follow some authors of these topics too, without which users bound to their network
        could not act on their new taste.

        Returns:
            Tastes after the drift (V, M), and edges with their times.
        """
        whole, niches = self._rising
        rng = self._rng_of(whole, _DRIFT, index)
        users = self._users_of(index)
        changed_V = self.changed_U[users]
        fresh_VM = np.zeros_like(taste_VM)
        fresh_VM[:, niches] = rng.dirichlet(np.full(len(niches), 0.4), len(taste_VM))
        after_VM = np.where(changed_V[:, None], 0.2 * taste_VM + 0.8 * fresh_VM, taste_VM)
        follower_F = np.repeat(np.flatnonzero(changed_V), _DRIFT_FOLLOWS)
        topic_F = topic_shares(after_VM[follower_F]).argmax(axis=1)
        author_F = self._authors_by_topic.draw(topic_F, rng.random(len(follower_F)))
        kept_F = (author_F >= 0) & (self.authors_A[author_F] != follower_F + users.start)
        follower_F, author_F = follower_F[kept_F], author_F[kept_F]
        moment = micros(self._config.drift_moment or self._config.end)
        since_F = np.maximum(self.created_U[users][follower_F], moment)
        return after_VM, (follower_F * len(self.authors_A) + author_F, since_F)

    def _draw_follows(self, index: int, taste_VM: FloatArray) -> tuple[IntArray, IntArray]:
        """Draw follow edges with homophily: same community first, then the same main topic."""
        rng = self._config.rng(_FOLLOW, index) if index else self._config.rng(_FOLLOW)
        users, authors = self._users_of(index), len(self.authors_A)
        created_V = self.created_U[users]
        degree_V = np.minimum(rng.poisson(14 + 30 * rng.beta(2.0, 2.0, len(taste_VM))), authors)
        follower_F = np.repeat(np.arange(len(taste_VM)), degree_V)
        near_F = rng.random(len(follower_F)) < _SAME_COMMUNITY
        uniform_F = rng.random(len(follower_F))
        author_F = np.where(
            near_F,
            self._authors_by_community.draw(self.community_U[users][follower_F], uniform_F),
            self._authors_by_topic.draw(
                topic_shares(taste_VM).argmax(axis=1)[follower_F], uniform_F
            ),
        )
        kept_F = (author_F >= 0) & (self.authors_A[author_F] != follower_F + users.start)
        edge_F = np.sort(follower_F[kept_F] * authors + author_F[kept_F])
        edge_F = edge_F[np.diff(edge_F, prepend=-1) > 0]
        # Those who join during the period follow at sign-up: they would meet an empty feed
        # otherwise.
        earliest_F = np.maximum(
            created_V[edge_F // authors], self.created_U[self.authors_A[edge_F % authors]]
        )
        latest_F = np.maximum(earliest_F, micros(self._config.start))
        spread_F = (latest_F - earliest_F) * rng.random(len(edge_F))
        return edge_F, earliest_F + spread_F.astype(np.int64)

    @cached_property
    def _rising(self) -> tuple[np.random.Generator, IntArray]:
        """The generator of the drift, and the niches of topics among the better stocked half."""
        rng = deepcopy(self._drift_rng)
        main_topic_A = topic_shares(self.author_tastes).argmax(axis=1)
        stock_K = np.bincount(main_topic_A, weights=self.output_A, minlength=TOPIC_COUNT)
        stocked = np.argsort(-stock_K, kind="stable")[: TOPIC_COUNT // 2]
        rising = rng.choice(stocked, RISING_TOPICS, replace=False)
        return rng, (rising[:, None] * NICHES_PER_TOPIC + np.arange(NICHES_PER_TOPIC)).ravel()

    @cached_property
    def _authors_by_community(self) -> GroupedWeights:
        groups_A = self.community_U[self.authors_A]
        return Grouping.build(groups_A, COMMUNITY_COUNT).weigh(self.output_A)

    @cached_property
    def _authors_by_topic(self) -> GroupedWeights:
        main_topic_A = topic_shares(self.author_tastes).argmax(axis=1)
        return Grouping.build(main_topic_A, TOPIC_COUNT).weigh(self.output_A)


def topic_shares(niches_UM: FloatArray) -> FloatArray:
    """Sum niche shares to topic shares: (U, M) to (U, K)."""
    return niches_UM.reshape(len(niches_UM), TOPIC_COUNT, NICHES_PER_TOPIC).sum(axis=2)


def _choose(rng: np.random.Generator, count: int, share: float) -> npt.NDArray[np.bool_]:
    """Mark exactly `round(share * count)` of `count`, so a planted share is met, not expected."""
    return rng.permutation(count) < round(share * count)
