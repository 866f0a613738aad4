"""When people open the app, and the state that one day hands to the next.

A day is simulated at once for all users, with its own generator. What it needs from earlier days is
kept in `Behaviour`: the pairs already shown, the interest of each user's last session and the
follows made so far. Nothing looks ahead: the sessions of a day never depend on what comes after it.

Shapes: U users, N items, M niches, F follow edges, S sessions, B impressions, E events.
"""

from datetime import timedelta
from typing import Final

import numpy as np

from transforms.demo.catalogue import Catalogue
from transforms.demo.config import DEVICE_SHIFT_SHARE, DRIFTS, DemoConfig, micros
from transforms.demo.feed import (
    EXPLORE,
    SOURCE_MIX,
    Sessions,
    Shelf,
    choose_items,
    session_affinity,
)
from transforms.demo.population import DEVICE_MIX, DEVICES, LOCATIONS, Population
from transforms.demo.reactions import Impressions, Reactions, react
from transforms.demo.sampling import FloatArray, IntArray, draw_rows

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


class Behaviour:
    """The simulation between two days; each call of `next_day` moves it on by one."""

    def __init__(self, config: DemoConfig, people: Population, items: Catalogue) -> None:
        self._config = config
        self._people = people
        self._items = items
        self._day = 0
        self._seen: IntArray = np.empty(0, dtype=np.int64)
        self._interest_U = np.full(len(people), -1)
        self._follows = (people.follower_F, people.followee_F, people.since_F)

    @property
    def follows(self) -> tuple[IntArray, IntArray, IntArray]:
        """Follower, followee (user codes) and since (µs), follows made so far included."""
        return self._follows

    def next_day(self) -> Reactions:
        """Simulate one more day.

        Returns:
            The events of the sessions that start in that day, in time order. The last ones may lie
            after midnight.
        """
        rng = self._config.rng(_DAY, self._day)
        begin = micros(self._config.start) + self._day * _DAY_MICROS
        shelf = Shelf.stock(self._people, self._items, self._follows, begin)
        user_S, start_S = self._openings(rng, begin)
        later_S = start_S + rng.integers(_HOUR_MICROS, 3 * _HOUR_MICROS, len(user_S))
        # A session after midnight would be drawn together with this day's, and so tie them to it.
        twice_S = (rng.random(len(user_S)) < _SECOND_SESSION) & (later_S < begin + _DAY_MICROS)
        portion_S = np.where(twice_S, 0.5, 1.0)
        first = self._start_sessions(rng, user_S, start_S, portion_S)
        shown = [self._show(rng, shelf, first)]
        second = self._start_sessions(rng, user_S[twice_S], later_S[twice_S], portion_S[twice_S])
        shown.append(self._show(rng, shelf, second))
        events = Reactions.concatenate(shown)
        self._remember_follows(events)
        self._day += 1
        return events

    def _openings(self, rng: np.random.Generator, begin: int) -> tuple[IntArray, IntArray]:
        """Decide who opens the app and when (µs), by habit, weekday and hour."""
        people, count = self._people, len(self._people)
        weekend = (self._config.start + timedelta(days=self._day)).weekday() >= 5
        working_U = 7.0 / (5.0 + 2.0 * people.weekend_U)  # keeps the mean over a week
        chance_U = people.opening_U * working_U * (people.weekend_U if weekend else 1.0)
        opens_U = rng.random(count) < chance_U
        hour_U = (people.peak_hour_U + rng.normal(0.0, 1.5, count)) % 24.0
        start_U = begin + (hour_U * _HOUR_MICROS).astype(np.int64)
        user_S = np.flatnonzero(opens_U & (start_U >= people.created_U))
        return user_S, start_U[user_S]

    def _start_sessions(
        self, rng: np.random.Generator, user_S: IntArray, start_S: IntArray, portion_S: FloatArray
    ) -> Sessions:
        """Draw interest, size, device and place; `portion_S` is the session's part of a day."""
        people, count = self._people, len(user_S)
        moment = self._config.drift_moment
        drifted_S = start_S >= micros(moment) if moment else np.zeros(count, dtype=bool)
        taste_SM = np.where(
            drifted_S[:, None], people.taste_after_UM[user_S], people.taste_UM[user_S]
        )
        before_S = self._interest_U[user_S]
        alive_S = (before_S >= 0) & (taste_SM[np.arange(count), before_S] > _LOST_INTEREST)
        keeps_S = alive_S & (rng.random(count) < STICKINESS)
        interest_S = np.where(keeps_S, before_S, draw_rows(taste_SM, rng.random(count)))
        self._interest_U[user_S] = interest_S
        appetite_S = self._config.events_per_user_day / _EVENTS_PER_IMPRESSION * portion_S
        usual_S = rng.random(count) < _USUAL_DEVICE
        mixed_S = rng.choice(len(DEVICES), count, p=DEVICE_MIX)
        device_S = np.where(usual_S, people.device_U[user_S], mixed_S)
        shifted_S = drifted_S & (rng.random(count) < DEVICE_SHIFT_SHARE)
        if "device" in DRIFTS[self._config.drift]:
            device_S = np.where(shifted_S, DEVICES.index("tv"), device_S)
        travels_S = rng.random(count) < _TRAVEL_SHARE
        away_S = rng.integers(0, len(LOCATIONS), count)
        extra_S = (appetite_S * people.appetite_U[user_S] - 1.0).clip(min=0.0)
        return Sessions(
            user_S=user_S,
            start_S=start_S,
            size_S=1 + rng.poisson(extra_S),
            taste_SM=taste_SM,
            interest_S=interest_S,
            device_S=device_S,
            location_S=np.where(travels_S, away_S, people.location_U[user_S]),
        )

    def _show(self, rng: np.random.Generator, shelf: Shelf, sessions: Sessions) -> Reactions:
        """Fill sessions with items and let the users react."""
        session_B = np.repeat(np.arange(len(sessions.user_S)), sessions.size_S)
        limited_B = self._people.in_network_U[sessions.user_S[session_B]]
        source_B = draw_rows(SOURCE_MIX[limited_B.astype(int)], rng.random(len(session_B)))
        source_B[rng.random(len(session_B)) < self._config.exploration] = EXPLORE
        item_B, self._seen = choose_items(
            rng, shelf, sessions, session_B=session_B, source_B=source_B, seen=self._seen
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
                followed_B=shelf.follows(user_B, item_B),
                limited_B=limited_B[shown_B],
                affinity_B=session_affinity(self._items, sessions, session_B, item_B),
                media_B=shelf.media_taste(user_B, item_B),
                fresh_B=shelf.fresh_N[item_B],
                device_B=sessions.device_S[session_B],
                location_B=sessions.location_S[session_B],
            ),
            self._items,
        )

    def _remember_follows(self, events: Reactions) -> None:
        """Add the follows made today; an edge made twice keeps its first moment."""
        made_E = events.is_follow
        author_E = self._items.author_N[events.item_E[made_E]]
        made = (events.user_E[made_E], self._people.authors_A[author_E], events.timestamp_E[made_E])
        follower_F, followee_F, since_F = (
            np.concatenate(pair) for pair in zip(self._follows, made, strict=True)
        )
        key_F = follower_F * len(self._people) + followee_F
        order_F = np.lexsort((since_F, key_F))
        first_F = order_F[np.unique(key_F[order_F], return_index=True)[1]]
        self._follows = (follower_F[first_F], followee_F[first_F], since_F[first_F])
