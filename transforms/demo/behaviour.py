"""When people open the app, and the state that one day hands to the next.

A day of one block of users is simulated at once, with its own generator. What it needs from earlier
days is kept in `Behaviour`: the pairs already shown, the interest of each user's last session and
the follows made so far. Nothing looks ahead: the sessions of a day never depend on what comes after
it. Nor does a user's day depend on other users, so blocks can be simulated in any order.

Users are counted within their block. Shapes: V users, N items, M niches, F follow edges,
S sessions, B impressions, E events.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np

from transforms.demo.catalogue import Catalogue
from transforms.demo.config import DEVICE_SHIFT_SHARE, DRIFTS, DemoConfig, micros
from transforms.demo.feed import (
    EXPLORE,
    SOURCE_MIX,
    Feed,
    Sessions,
    Shelves,
    choose_items,
    media_taste,
    session_affinity,
)
from transforms.demo.population import DEVICE_MIX, DEVICES, LOCATIONS, Population, UserBlock
from transforms.demo.reactions import Impressions, Reactions, react
from transforms.demo.sampling import FloatArray, IntArray, contains, draw_rows

STICKINESS: Final = 0.85
"""Chance that a session goes on with the niche of the user's session before."""

_SECOND_SESSION = 0.3
_EVENTS_PER_IMPRESSION = 2.0
_LOST_INTEREST = 0.02
_TRAVEL_SHARE = 0.03
_USUAL_DEVICE = 0.8
_DAY_MICROS = timedelta(days=1) // timedelta(microseconds=1)
_HOUR_MICROS = _DAY_MICROS // 24

# First element of the spawn key of a day; see `DemoConfig.rng`.
_DAY = 8


@dataclass(frozen=True, slots=True)
class Follows:
    """Follow edges of one block."""

    edge_F: IntArray
    """As in `UserBlock.edge_F`."""
    since_F: IntArray
    """µs since 1970."""

    @classmethod
    def concatenate(cls, parts: list["Follows"]) -> "Follows":
        """Join columns."""
        empty = [np.empty(0, dtype=np.int64)]
        return cls(
            np.concatenate(empty + [part.edge_F for part in parts]),
            np.concatenate(empty + [part.since_F for part in parts]),
        )

    def joined(self, made: "Follows") -> "Follows":
        """Return these edges, ascending and distinct, with others; the first moment counts.

        Args:
            made: edges in any order, also such as are here already.
        """
        order_F = np.lexsort((made.since_F, made.edge_F))
        edge_F, first_F = np.unique(made.edge_F[order_F], return_index=True)
        since_F = made.since_F[order_F][first_F]
        place_F, known_F = np.searchsorted(self.edge_F, edge_F), contains(self.edge_F, edge_F)
        old_F = self.since_F.copy()
        at_F = place_F[known_F]
        old_F[at_F] = np.minimum(old_F[at_F], since_F[known_F])
        return Follows(
            np.insert(self.edge_F, place_F[~known_F], edge_F[~known_F]),
            np.insert(old_F, place_F[~known_F], since_F[~known_F]),
        )


class Behaviour:
    """The simulation of a block of users between two days; `next_day` moves it on by one."""

    def __init__(
        self,
        config: DemoConfig,
        people: Population,
        block: UserBlock,
        items: Catalogue,
        shelves: Shelves,
    ) -> None:
        self._config = config
        self._people = people
        self._block = block
        self._items = items
        self._shelves = shelves
        self._day = 0
        self._seen: IntArray = np.empty(0, dtype=np.int64)
        self._interest_V = np.full(len(block), -1)
        self._follows = Follows(block.edge_F, block.since_F)
        self._made: list[Follows] = []
        self._media_VX = media_taste(block.of(people.media_UX))

    @property
    def days(self) -> int:
        """Number of days simulated so far."""
        return self._day

    @property
    def made(self) -> "Follows":
        """The follows made so far, those that were planted left out."""
        return Follows.concatenate(self._made)

    def next_day(self) -> Reactions:
        """Simulate one more day.

        Returns:
            The events of the sessions that start in that day, in time order. The last ones may lie
            after midnight.
        """
        block = [self._block.index] if self._block.index else []  # see `Population`
        rng = self._config.rng(_DAY, self._day, *block)
        begin = micros(self._config.start) + self._day * _DAY_MICROS
        feed = Feed(
            self._people,
            self._block,
            self._items,
            self._shelves.stock(begin),
            self._follows.edge_F[self._follows.since_F <= begin],
            self._media_VX,
        )
        user_S, start_S = self._openings(rng, begin)
        later_S = start_S + rng.integers(_HOUR_MICROS, 3 * _HOUR_MICROS, len(user_S))
        # A session after midnight would be drawn together with this day's, and so tie them to it.
        twice_S = (rng.random(len(user_S)) < _SECOND_SESSION) & (later_S < begin + _DAY_MICROS)
        portion_S = np.where(twice_S, 0.5, 1.0)
        first = self._start_sessions(rng, user_S, start_S, portion_S)
        shown = [self._show(rng, feed, first)]
        second = self._start_sessions(rng, user_S[twice_S], later_S[twice_S], portion_S[twice_S])
        shown.append(self._show(rng, feed, second))
        events = Reactions.concatenate(shown)
        self._remember_follows(events)
        self._day += 1
        return events

    def _openings(self, rng: np.random.Generator, begin: int) -> tuple[IntArray, IntArray]:
        """Decide who opens the app and when (µs), by habit, weekday and hour."""
        people, block, count = self._people, self._block, len(self._block)
        weekend = (self._config.start + timedelta(days=self._day)).weekday() >= 5
        weekend_V = block.of(people.weekend_U)
        working_V = 7.0 / (5.0 + 2.0 * weekend_V)  # keeps the mean over a week
        chance_V = block.of(people.opening_U) * working_V * (weekend_V if weekend else 1.0)
        opens_V = rng.random(count) < chance_V
        hour_V = (block.of(people.peak_hour_U) + rng.normal(0.0, 1.5, count)) % 24.0
        start_V = begin + (hour_V * _HOUR_MICROS).astype(np.int64)
        user_S = np.flatnonzero(opens_V & (start_V >= block.of(people.created_U)))
        return user_S, start_V[user_S]

    def _start_sessions(
        self, rng: np.random.Generator, user_S: IntArray, start_S: IntArray, portion_S: FloatArray
    ) -> Sessions:
        """Draw interest, size, device and place; `portion_S` is the session's part of a day."""
        people, block, count = self._people, self._block, len(user_S)
        moment = self._config.drift_moment
        drifted_S = start_S >= micros(moment) if moment else np.zeros(count, dtype=bool)
        taste_SM = np.where(
            drifted_S[:, None], block.taste_after_VM[user_S], block.taste_VM[user_S]
        )
        before_S = self._interest_V[user_S]
        alive_S = (before_S >= 0) & (taste_SM[np.arange(count), before_S] > _LOST_INTEREST)
        keeps_S = alive_S & (rng.random(count) < STICKINESS)
        interest_S = np.where(keeps_S, before_S, draw_rows(taste_SM, rng.random(count)))
        self._interest_V[user_S] = interest_S
        appetite_S = self._config.events_per_user_day / _EVENTS_PER_IMPRESSION * portion_S
        usual_S = rng.random(count) < _USUAL_DEVICE
        mixed_S = rng.choice(len(DEVICES), count, p=DEVICE_MIX)
        device_S = np.where(usual_S, block.of(people.device_U)[user_S], mixed_S)
        shifted_S = drifted_S & (rng.random(count) < DEVICE_SHIFT_SHARE)
        if "device" in DRIFTS[self._config.drift]:
            device_S = np.where(shifted_S, DEVICES.index("tv"), device_S)
        travels_S = rng.random(count) < _TRAVEL_SHARE
        away_S = rng.integers(0, len(LOCATIONS), count)
        extra_S = (appetite_S * block.of(people.appetite_U)[user_S] - 1.0).clip(min=0.0)
        return Sessions(
            user_S=user_S,
            start_S=start_S,
            size_S=1 + rng.poisson(extra_S),
            taste_SM=taste_SM,
            interest_S=interest_S,
            device_S=device_S,
            location_S=np.where(travels_S, away_S, block.of(people.location_U)[user_S]),
        )

    def _show(self, rng: np.random.Generator, feed: Feed, sessions: Sessions) -> Reactions:
        """Fill sessions with items and let the users react."""
        session_B = np.repeat(np.arange(len(sessions.user_S)), sessions.size_S)
        limited_B = self._block.of(self._people.in_network_U)[sessions.user_S[session_B]]
        source_B = draw_rows(SOURCE_MIX[limited_B.astype(int)], rng.random(len(session_B)))
        source_B[rng.random(len(session_B)) < self._config.exploration] = EXPLORE
        item_B, self._seen = choose_items(
            rng, feed, sessions, session_B=session_B, source_B=source_B, seen=self._seen
        )
        shown_B = item_B >= 0
        session_B, item_B = session_B[shown_B], item_B[shown_B]
        user_B = sessions.user_S[session_B]
        position_B = np.arange(len(session_B)) - np.searchsorted(session_B, session_B) + 1
        return react(
            rng,
            Impressions(
                session_B=session_B,
                start_B=sessions.start_S[session_B],
                user_B=user_B,
                item_B=item_B,
                position_B=position_B,
                explored_B=source_B[shown_B] == EXPLORE,
                followed_B=feed.follows(user_B, item_B),
                limited_B=limited_B[shown_B],
                affinity_B=session_affinity(self._items, sessions, session_B, item_B),
                media_B=feed.media(user_B, item_B),
                fresh_B=feed.shelf.fresh_N[item_B],
                device_B=sessions.device_S[session_B],
                location_B=sessions.location_S[session_B],
            ),
            self._items,
        )

    def _remember_follows(self, events: Reactions) -> None:
        made_E = events.is_follow
        author_E = self._items.author_N[events.item_E[made_E]]
        edge_E = events.user_E[made_E] * len(self._people.authors_A) + author_E
        made = Follows(edge_E, events.timestamp_E[made_E])
        self._made.append(made)
        self._follows = self._follows.joined(made)
