"""What the platform of the demo world shows: four sources and a ranker.

Shapes: U users, N items, K topics, M niches, F follow edges, S sessions, B impressions,
P impressions still to fill, C candidates for one impression.
"""
# ruff: noqa: N815 - array fields wear their shape as a suffix

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from transforms.demo.catalogue import Catalogue
from transforms.demo.population import MEDIA_MIX, NICHE_COUNT, Population, topic_shares
from transforms.demo.sampling import FloatArray, GroupedWeights, IntArray, contains, draw_rows

NETWORK, POPULAR, TASTE, EXPLORE = range(4)
"""Sources: followed authors, popular items, the user's taste, uniform exploration."""

SOURCE_MIX: Final = np.array([[0.35, 0.20, 0.45], [0.84, 0.08, 0.08]])
"""Mix of network, popular and taste outside exploration: other users, in-network-only users."""

FOCUS: Final = 0.8
"""Chance that a taste-matching item comes from the session's niche rather than another one."""

_CANDIDATES = 12
_ROUNDS = 4
_FRESH_DAYS = 7.0
_DAY_MICROS = timedelta(days=1) / timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions of distinct users, ordered by user."""

    user_S: IntArray
    start_S: IntArray
    """µs since 1970."""
    size_S: IntArray
    """Impressions; at least one."""
    taste_SM: FloatArray
    """The user's interest per niche at that moment; rows sum to one."""
    interest_S: IntArray
    """Niche that the session is about."""
    device_S: IntArray
    location_S: IntArray


@dataclass(frozen=True, slots=True)
class Shelf:
    """What can be shown on one day: items published and follows made before it begins."""

    people: Population
    items: Catalogue
    fresh_N: FloatArray
    """exp(-age / 7 days); 0 for items not yet published."""
    everything: GroupedWeights
    popular: GroupedWeights
    by_niche: GroupedWeights
    by_author: GroupedWeights
    edges: GroupedWeights
    """Follow edges by follower."""
    author_F: IntArray
    edge_key_F: IntArray
    """follower * U + followee of the edges, ascending."""

    @classmethod
    def stock(
        cls,
        people: Population,
        items: Catalogue,
        follows: tuple[IntArray, IntArray, IntArray],
        begin: int,
    ) -> Self:
        """Fill the shelf for the day that begins at `begin` (µs).

        An item's weight is exp(0.9 quality) (0.25 + freshness): good and recent items are popular.
        """
        published_N = items.created_N <= begin
        age_N = (begin - items.created_N) / _DAY_MICROS
        fresh_N = np.where(published_N, np.exp(-age_N.clip(min=0.0) / _FRESH_DAYS), 0.0)
        weight_N = published_N * np.exp(0.9 * items.quality_N) * (0.25 + fresh_N)
        one_group_N = np.zeros(len(items), dtype=np.int64)
        follower_F, followee_F, since_F = (column[follows[2] <= begin] for column in follows)
        return cls(
            people=people,
            items=items,
            fresh_N=fresh_N,
            everything=GroupedWeights.build(one_group_N, published_N.astype(float), 1),
            popular=GroupedWeights.build(one_group_N, weight_N, 1),
            by_niche=GroupedWeights.build(items.niche_N, weight_N, NICHE_COUNT),
            by_author=GroupedWeights.build(items.author_N, weight_N, len(people.authors_A)),
            edges=GroupedWeights.build(follower_F, np.ones(len(since_F)), len(people)),
            author_F=np.searchsorted(people.authors_A, followee_F),
            edge_key_F=np.sort(follower_F * len(people) + followee_F),
        )

    def follows(self, user_B: IntArray, item_B: IntArray) -> npt.NDArray[np.bool_]:
        """Return whether the user follows the item's author."""
        writer_B = self.people.authors_A[self.items.author_N[item_B]]
        return contains(self.edge_key_F, user_B * len(self.people) + writer_B)

    def media_taste(self, user: IntArray, item: IntArray) -> FloatArray:
        """Return the log of how much more than average the user likes the item's medium."""
        media = self.items.media_N[item]
        ratio = self.people.media_UX[user, media] / np.array(MEDIA_MIX)[media]
        return np.log(ratio.clip(np.exp(-1.0), np.exp(1.0)))

    def draw(
        self, rng: np.random.Generator, sessions: Sessions, session_P: IntArray, source_P: IntArray
    ) -> IntArray:
        """Draw candidates (P, C) for impressions of sessions; -1 where a source has nothing."""
        item_PC = np.full((len(session_P), _CANDIDATES), -1)
        for source in range(4):
            rows_P = np.flatnonzero(source_P == source)
            shape = (len(rows_P), _CANDIDATES)
            uniform_PC = rng.random(shape)
            if source == EXPLORE:
                item_PC[rows_P] = self.everything.draw(np.zeros(shape, np.int64), uniform_PC)
            elif source == POPULAR:
                item_PC[rows_P] = self.popular.draw(np.zeros(shape, np.int64), uniform_PC)
            elif source == TASTE:
                at_P = session_P[rows_P]
                other_P = draw_rows(sessions.taste_SM[at_P], rng.random(len(at_P)))
                focused_P = rng.random(len(at_P)) < FOCUS
                niche_P = np.where(focused_P, sessions.interest_S[at_P], other_P)
                item_PC[rows_P] = self.by_niche.draw(
                    np.broadcast_to(niche_P[:, None], shape), uniform_PC
                )
            elif len(self.author_F):
                user_P = sessions.user_S[session_P[rows_P]]
                edge_PC = self.edges.draw(np.broadcast_to(user_P[:, None], shape), uniform_PC)
                drawn_PC = self.by_author.draw(self.author_F[edge_PC], rng.random(shape))
                item_PC[rows_P] = np.where(edge_PC >= 0, drawn_PC, -1)
        return item_PC


def affinity(
    topic_taste: FloatArray,
    niche_taste: FloatArray,
    topic_mixture: FloatArray,
    focused: npt.NDArray[np.bool_],
) -> FloatArray:
    """Return how well items fit a user's taste and the session's interest; from 0 to about 4.

    Args:
        topic_taste: the user's topic shares, (..., K).
        niche_taste: the user's share of the item's niche, (...).
        topic_mixture: the item's topic shares, (..., K).
        focused: whether the item's niche is the session's interest, (...).
    """
    match = (topic_taste * topic_mixture).sum(axis=-1)
    return 1.2 * match + np.sqrt(niche_taste) + 1.8 * focused


def session_affinity(
    items: Catalogue, sessions: Sessions, session: IntArray, item: IntArray
) -> FloatArray:
    """Return `affinity` of items to sessions; both of one shape, broadcast against each other."""
    niche = items.niche_N[item]
    return affinity(
        topic_shares(sessions.taste_SM)[session],
        sessions.taste_SM[session, niche],
        items.topic_NK[item],
        niche == sessions.interest_S[session],
    )


def choose_items(
    rng: np.random.Generator,
    shelf: Shelf,
    sessions: Sessions,
    *,
    session_B: IntArray,
    source_B: IntArray,
    seen: IntArray,
) -> tuple[IntArray, IntArray]:
    """Pick one item per impression.

    Each impression draws candidates from its source, drops those its user has seen and keeps the
    best under Gumbel noise, which is a draw in proportion to exp(score). Popular and explored items
    are not scored, so exploration stays uniform over what is new to the user. An impression that
    finds nothing new in several rounds shows something a second time.

    Args:
        rng: the day's generator.
        shelf: what can be shown.
        sessions: whose impressions these are.
        session_B: session of each impression, ascending.
        source_B: source of each impression.
        seen: pairs shown before as user * N + item, ascending.

    Returns:
        Item per impression, -1 where nothing is published yet, and `seen` with the new pairs.
    """
    items = shelf.items
    item_B = np.full(len(session_B), -1)
    pending_P = np.arange(len(session_B))
    for attempt in range(_ROUNDS):
        last = attempt == _ROUNDS - 1
        source_P, session_P = source_B[pending_P], session_B[pending_P]
        if last:
            # Followed authors or the niche have nothing new: fall back to what is popular.
            source_P = np.where(source_P == EXPLORE, EXPLORE, POPULAR)
        user_P1 = sessions.user_S[session_P][:, None]
        item_PC = shelf.draw(rng, sessions, session_P, source_P)
        score_PC = 1.5 * session_affinity(items, sessions, session_P[:, None], item_PC)
        score_PC += shelf.media_taste(user_P1, item_PC)
        score_PC[(source_P == POPULAR) | (source_P == EXPLORE)] = 0.0
        score_PC += rng.gumbel(size=score_PC.shape)
        key_PC = user_P1 * len(items) + item_PC
        score_PC[contains(seen, key_PC)] -= 1e3 if last else np.inf
        own_PC = shelf.people.authors_A[items.author_N[item_PC]] == user_P1
        score_PC[(item_PC < 0) | own_PC] = -np.inf
        best_P = score_PC.argmax(axis=1)
        rows_P = np.arange(len(pending_P))
        key_P = key_PC[rows_P, best_P]
        done_P = np.isfinite(score_PC[rows_P, best_P])
        # Two impressions of one user may have picked the same item: the first one keeps it.
        first_P = np.zeros(len(pending_P), dtype=bool)
        first_P[np.unique(np.where(done_P, key_P, -1), return_index=True)[1]] = True
        done_P &= first_P
        item_B[pending_P[done_P]] = item_PC[rows_P, best_P][done_P]
        fresh = np.sort(key_P[done_P])
        fresh = fresh[~contains(seen, fresh)]
        seen = np.insert(seen, np.searchsorted(seen, fresh), fresh)
        pending_P = pending_P[~done_P]
    return item_B, seen
