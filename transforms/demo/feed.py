"""What the platform of the demo world shows: four sources and a ranker.

Users are counted within one block of the population (`UserBlock`). Shapes: V users, N items,
A authors, K topics, M niches, F follow edges, S sessions, B impressions, P impressions still to
fill, C candidates for one impression.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from transforms.demo.catalogue import Catalogue
from transforms.demo.population import (
    MEDIA_MIX,
    NICHE_COUNT,
    NICHES_PER_TOPIC,
    Population,
    UserBlock,
    topic_shares,
)
from transforms.demo.sampling import (
    FloatArray,
    GroupedWeights,
    Grouping,
    IntArray,
    contains,
    draw_rows,
    within,
)

NETWORK, POPULAR, TASTE, EXPLORE = range(4)
"""Sources: followed authors, popular items, the user's taste, uniform exploration."""

SOURCE_MIX: Final = np.array([[0.35, 0.20, 0.45], [0.84, 0.08, 0.08]])
"""Mix of network, popular and taste outside exploration: other users, in-network-only users."""

FOCUS: Final = 0.8
"""Chance that a taste-matching item comes from the session's niche rather than another one."""

_CANDIDATES = 12
_ROUNDS = 4
_FRESH_DAYS = 7.0
_KEPT_ITEMS = 1_000_000  # shelves of so many items together stay in memory: about 40 MB
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


class Shelves:
    """The items that can be shown, day by day."""

    def __init__(self, items: Catalogue, author_count: int) -> None:
        self._items = items
        self._appeal_N = np.exp(0.9 * items.quality_N)
        self._by_niche = Grouping.build(items.niche_N, NICHE_COUNT)
        self._by_author = Grouping.build(items.author_N, author_count)
        self._kept: dict[int, Shelf] = {}
        self._most_kept = _KEPT_ITEMS // len(items)

    def stock(self, begin: int) -> "Shelf":
        """Fill the shelf for the day that begins at `begin` (µs).

        An item's weight is exp(0.9 quality) (0.25 + freshness): good and recent items are popular.
        """
        if begin in self._kept:
            return self._kept[begin]
        items = self._items
        published_N = items.created_N <= begin
        age_N = (begin - items.created_N) / _DAY_MICROS
        fresh_N = np.where(published_N, np.exp(-age_N.clip(min=0.0) / _FRESH_DAYS), 0.0)
        weight_N = published_N * self._appeal_N * (0.25 + fresh_N)
        shelf = Shelf(
            published=int(published_N.sum()),
            fresh_N=fresh_N,
            popular_N1=np.concatenate([[0.0], np.cumsum(weight_N)]),
            by_niche=self._by_niche.weigh(weight_N),
            by_author=self._by_author.weigh(weight_N),
        )
        if len(self._kept) < self._most_kept:
            self._kept[begin] = shelf
        return shelf


@dataclass(frozen=True, slots=True)
class Shelf:
    """The items that were published before one day."""

    published: int
    """Number of items on the shelf: the first ones of the catalogue."""
    fresh_N: FloatArray
    """exp(-age / 7 days); 0 for items not yet published."""
    popular_N1: FloatArray
    """Running sum of the items' weights, one leading zero."""
    by_niche: GroupedWeights
    by_author: GroupedWeights


class Feed:
    """What can be shown to the users of one block on one day."""

    def __init__(
        self,
        people: Population,
        block: UserBlock,
        items: Catalogue,
        shelf: Shelf,
        edge_F: IntArray,
        media_VX: FloatArray,
    ) -> None:
        """Open the feed of a day.

        Args:
            people: all users.
            block: whose feed this is.
            items: all items.
            shelf: those that can be shown.
            edge_F: follow edges made before the day, as in `UserBlock.edge_F`.
            media_VX: from `media_taste`.
        """
        self.items, self.shelf = items, shelf
        self._block, self._authors_A, self._edge_F = block, people.authors_A, edge_F
        self._media_VX = media_VX
        authors = len(people.authors_A)
        self._offsets_V1 = np.searchsorted(edge_F, np.arange(len(block) + 1) * authors)

    def follows(self, user: IntArray, item: IntArray) -> npt.NDArray[np.bool_]:
        """Return whether the user follows the item's author."""
        return contains(self._edge_F, user * len(self._authors_A) + self.items.author_N[item])

    def is_own(self, user: IntArray, item: IntArray) -> npt.NDArray[np.bool_]:
        """Return whether the user is the item's author."""
        writer: IntArray = self._authors_A[self.items.author_N[item]]
        return writer == user + self._block.first

    def media(self, user: IntArray, item: IntArray) -> FloatArray:
        """Return the log of how much more than average the user likes the item's medium."""
        return self._media_VX[user, self.items.media_N[item]]

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
                if self.shelf.published:
                    item_PC[rows_P] = (uniform_PC * self.shelf.published).astype(np.int64)
            elif source == POPULAR:
                if self.shelf.published:
                    reach = np.full(shape, self.shelf.popular_N1[-1])
                    target_PC = within(np.zeros(shape), reach, uniform_PC)
                    item_PC[rows_P] = np.searchsorted(self.shelf.popular_N1, target_PC, "right") - 1
            elif source == TASTE:
                at_P = session_P[rows_P]
                other_P = draw_rows(sessions.taste_SM[at_P], rng.random(len(at_P)))
                focused_P = rng.random(len(at_P)) < FOCUS
                niche_P = np.where(focused_P, sessions.interest_S[at_P], other_P)
                item_PC[rows_P] = self.shelf.by_niche.draw(
                    np.broadcast_to(niche_P[:, None], shape), uniform_PC
                )
            elif len(self._edge_F):
                user_P = sessions.user_S[session_P[rows_P]]
                low_P1 = self._offsets_V1[user_P][:, None]
                high_P1 = self._offsets_V1[user_P + 1][:, None]
                edge_PC = within(low_P1, high_P1, uniform_PC).astype(np.int64)
                author_PC = self._edge_F[edge_PC.clip(min=0)] % len(self._authors_A)
                drawn_PC = self.shelf.by_author.draw(author_PC, rng.random(shape))
                item_PC[rows_P] = np.where(high_P1 > low_P1, drawn_PC, -1)
        return item_PC


def media_taste(media_VX: FloatArray) -> FloatArray:
    """Return the log of how much more than average users like each medium."""
    return np.log((media_VX / np.array(MEDIA_MIX)).clip(np.exp(-1.0), np.exp(1.0)))


def affinity(
    topic_match: FloatArray, niche_taste: FloatArray, focused: npt.NDArray[np.bool_]
) -> FloatArray:
    """Return how well items fit a user's taste and the session's interest; from 0 to about 4.

    Args:
        topic_match: the user's topic shares times those of the item, summed over the topics.
        niche_taste: the user's share of the item's niche.
        focused: whether the item's niche is the session's interest.
    """
    return 1.2 * topic_match + np.sqrt(niche_taste) + 1.8 * focused


def session_affinity(
    items: Catalogue, sessions: Sessions, session: IntArray, item: IntArray
) -> FloatArray:
    """Return `affinity` of items to sessions; both of one shape, broadcast against each other."""
    niche, share = items.niche_N[item], items.share_N[item]
    topic_SK = topic_shares(sessions.taste_SM)
    match = topic_SK[session, niche // NICHES_PER_TOPIC] * share
    match += topic_SK[session, items.other_N[item]] * (1.0 - share)
    return affinity(match, sessions.taste_SM[session, niche], niche == sessions.interest_S[session])


def choose_items(
    rng: np.random.Generator,
    feed: Feed,
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
        feed: what can be shown.
        sessions: whose impressions these are.
        session_B: session of each impression, ascending.
        source_B: source of each impression.
        seen: pairs shown before as user * N + item, ascending.

    Returns:
        Item per impression, -1 where nothing is published yet, and `seen` with the new pairs.
    """
    items = feed.items
    item_B = np.full(len(session_B), -1)
    pending_P = np.arange(len(session_B))
    for attempt in range(_ROUNDS):
        last = attempt == _ROUNDS - 1
        source_P, session_P = source_B[pending_P], session_B[pending_P]
        if last:
            # Followed authors or the niche have nothing new: fall back to what is popular.
            source_P = np.where(source_P == EXPLORE, EXPLORE, POPULAR)
        user_P1 = sessions.user_S[session_P][:, None]
        item_PC = feed.draw(rng, sessions, session_P, source_P)
        score_PC = 1.5 * session_affinity(items, sessions, session_P[:, None], item_PC)
        score_PC += feed.media(user_P1, item_PC)
        score_PC[(source_P == POPULAR) | (source_P == EXPLORE)] = 0.0
        score_PC += rng.gumbel(size=score_PC.shape)
        key_PC = user_P1 * len(items) + item_PC
        score_PC[contains(seen, key_PC)] -= 1e3 if last else np.inf
        score_PC[(item_PC < 0) | feed.is_own(user_P1, item_PC)] = -np.inf
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
