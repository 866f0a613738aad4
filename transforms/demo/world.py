"""The demo world as Arrow tables.

Every table is a pure function of the configuration: asking again, in any order, in another process,
gives equal bytes. Ids are numbered in order of creation.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.demo.behaviour import Behaviour
from transforms.demo.catalogue import (
    ITEM_TYPES,
    Catalogue,
    build_catalogue,
    compose_words,
    embed,
    media_urls,
)
from transforms.demo.config import DRIFTS, DemoConfig, DemoConfigError, micros
from transforms.demo.population import (
    DEVICES,
    LOCATIONS,
    MEDIA_TYPES,
    Population,
    build_population,
    topic_shares,
)
from transforms.demo.reactions import EVENT_TYPES, Reactions
from transforms.demo.truth import Truth
from transforms.demo.vocabulary import TOPICS

_TIME: Final = pa.timestamp("us", tz="UTC")
_SHARES: Final = pa.map_(pa.string(), pa.float64())
_VECTOR: Final = pa.list_(pa.float32())

EVENT_SCHEMA: Final = pa.schema(
    {
        "event_id": pa.string(),
        "user_id": pa.string(),
        "item_id": pa.string(),
        "event_type": pa.string(),
        "value": pa.float64(),
        "watch_seconds": pa.float64(),
        "position": pa.int32(),
        "device": pa.string(),
        "location": pa.string(),
        "exploration": pa.bool_(),
        "timestamp": _TIME,
    }
)
ITEM_SCHEMA: Final = pa.schema(
    {
        "item_id": pa.string(),
        "item_type": pa.string(),
        "media_type": pa.string(),
        "title": pa.string(),
        "text": pa.string(),
        "categories": pa.list_(pa.string()),
        "tags": pa.list_(pa.string()),
        "author_id": pa.string(),
        "created_at": _TIME,
        "duration_seconds": pa.float64(),
        "image_url": pa.string(),
        "video_url": pa.string(),
        "video_embedding": _VECTOR,
        "audio_embedding": _VECTOR,
        "text_embedding": _VECTOR,
    }
)
USER_SCHEMA: Final = pa.schema(
    {
        "user_id": pa.string(),
        "created_at": _TIME,
        "trust_score": pa.float64(),
        "interests": _SHARES,
        "content_type_preferences": _SHARES,
        "diversity_preference": pa.float64(),
        "consent": pa.bool_(),
        "demographics": pa.map_(pa.string(), pa.string()),
    }
)
FOLLOW_SCHEMA: Final = pa.schema(
    {"follower_id": pa.string(), "followee_id": pa.string(), "since": _TIME}
)

_AGE_BANDS = ("16-24", "25-34", "35-49", "50+")
_GENDERS = ("female", "male", "other", "undisclosed")
_NO_PROFILE_SHARE = 0.05
_CONSENT_SHARE = 0.95
_DECLARED_NOISE = 60.0

# First element of the spawn key of this file; see `DemoConfig.rng`.
_PROFILES = 9


class DemoWorld:
    """A seeded short-video and social platform of a few weeks.

    Example:
        >>> world = DemoWorld(DemoConfig(users=200, items=300, days=7))
        >>> world.events().column_names[:4]
        ['event_id', 'user_id', 'item_id', 'event_type']
    """

    def __init__(self, config: DemoConfig | None = None) -> None:
        self.config = config or DemoConfig()
        self._days: list[Reactions] = []

    def events(self) -> pa.Table:
        """Return all events of the period in time order; columns as in `EVENT_SCHEMA`."""
        return self.events_between(self.config.start, self.config.end)

    def events_between(self, start: datetime, end: datetime) -> pa.Table:
        """Return the events with `start <= timestamp < end`, in time order.

        Only days up to `end` are simulated, and the rows are those of `events()`.

        Args:
            start: first instant, with a time zone; may lie before the period.
            end: first instant after, with a time zone; may lie after the period.

        Raises:
            DemoConfigError: when a time has no zone or `start` is after `end`.
        """
        if start.tzinfo is None or end.tzinfo is None or start > end:
            raise DemoConfigError(
                f"demo: the interval from {start.isoformat()} to {end.isoformat()} is not one; "
                "give two times with a time zone, the earlier one first."
            )
        first, last = micros(max(start, self.config.start)), micros(min(end, self.config.end))
        tables = [
            self._event_table(day, reactions, first, last)
            for day, reactions in enumerate(self._days_until(last))
        ]
        table = pa.concat_tables([EVENT_SCHEMA.empty_table(), *tables])
        # Sessions reach past midnight, so the days overlap by minutes.
        order = pc.sort_indices(
            table, sort_keys=[("timestamp", "ascending"), ("event_id", "ascending")]
        )
        return table.take(order).combine_chunks()

    def items(self) -> pa.Table:
        """Return all items in order of creation; columns as in `ITEM_SCHEMA`."""
        items = self._catalogue
        words = compose_words(self.config, items)
        images, videos = media_urls(self._item_ids.to_pylist(), items)
        vectors = embed(self.config, items)
        kinds = [MEDIA_TYPES[code] for code in items.media_N.tolist()]
        columns = {
            "item_id": self._item_ids,
            "item_type": [ITEM_TYPES[kind] for kind in kinds],
            "media_type": kinds,
            "title": words.titles,
            "text": words.texts,
            "categories": words.categories,
            "tags": words.tags,
            "author_id": self._user_ids.take(pa.array(self._people.authors_A[items.author_N])),
            "created_at": _times(items.created_N),
            "duration_seconds": pa.array(items.duration_N, from_pandas=True),
            "image_url": images,
            "video_url": videos,
            "video_embedding": vectors["video"],
            "audio_embedding": vectors["audio"],
            "text_embedding": vectors["text"],
        }
        return pa.table(columns, schema=ITEM_SCHEMA)

    def users(self) -> pa.Table:
        """Return all users in order of sign-up; columns as in `USER_SCHEMA`.

        Interests are what users declare: their taste before the drift, with noise. Five in a
        hundred have no profile, so interests, preferences and demographics are null.
        """
        people, count = self._people, len(self._people)
        rng = self.config.rng(_PROFILES)
        topic_UK = topic_shares(people.taste_UM)
        declared_UK = rng.gamma(topic_UK * _DECLARED_NOISE + 1e-3)
        declared_UK /= declared_UK.sum(axis=1, keepdims=True)
        profile_U = rng.random(count) >= _NO_PROFILE_SHARE
        age_U = rng.integers(0, len(_AGE_BANDS), count).tolist()
        gender_U = rng.choice(len(_GENDERS), count, p=[0.46, 0.46, 0.03, 0.05]).tolist()
        topics = [topic.name for topic in TOPICS]
        interests = [
            {name: round(share, 3) for name, share in zip(topics, row, strict=True) if share > 0.02}
            for row in declared_UK.tolist()
        ]
        media = [
            {name: round(share, 3) for name, share in zip(MEDIA_TYPES, row, strict=True)}
            for row in people.media_UX.tolist()
        ]
        demographics = [
            {"age_band": _AGE_BANDS[age], "gender": _GENDERS[gender]}
            for age, gender in zip(age_U, gender_U, strict=True)
        ]
        # A wide mixture of topics asks for variety: normalised entropy of the declared interests.
        spread_U = -(declared_UK * np.log(declared_UK.clip(1e-9))).sum(axis=1) / np.log(len(topics))
        columns = {
            "user_id": self._user_ids,
            "created_at": _times(people.created_U),
            "trust_score": people.trust_U.round(4),
            "interests": _where(profile_U, interests),
            "content_type_preferences": _where(profile_U, media),
            "diversity_preference": pa.array(spread_U.clip(0.0, 1.0).round(4), mask=~profile_U),
            "consent": rng.random(count) < _CONSENT_SHARE,
            "demographics": _where(profile_U, demographics),
        }
        return pa.table(columns, schema=USER_SCHEMA)

    def follows(self) -> pa.Table:
        """Return all follow edges by follower and followee; columns as in `FOLLOW_SCHEMA`.

        Edges made during the period come with a `follow` event at `since`, except those that new
        users make at sign-up and those that users make at the moment their taste changes.
        """
        end = micros(self.config.end)
        self._days_until(end)
        follower_F, followee_F, since_F = self._behaviour.follows
        kept_F = since_F < end
        columns = {
            "follower_id": self._user_ids.take(pa.array(follower_F[kept_F])),
            "followee_id": self._user_ids.take(pa.array(followee_F[kept_F])),
            "since": _times(since_F[kept_F]),
        }
        return pa.table(columns, schema=FOLLOW_SCHEMA)

    @cached_property
    def truth(self) -> Truth:
        """What was planted."""
        people, items = self._people, self._catalogue
        users = np.array(self._user_ids.to_pylist())
        names = np.array(self._item_ids.to_pylist())
        return Truth(
            user_ids=users,
            item_ids=names,
            topics=tuple(topic.name for topic in TOPICS),
            niches=tuple(niche.name for topic in TOPICS for niche in topic.niches),
            niche_tastes_UM=people.taste_UM,
            niche_tastes_after_UM=people.taste_after_UM,
            item_topics_NK=items.topic_NK,
            item_niches_N=items.niche_N,
            item_quality_N=items.quality_N,
            in_network_only=frozenset(users[people.in_network_U].tolist()),
            night_active=frozenset(users[people.night_U].tolist()),
            new_users=frozenset(users[people.new_U].tolist()),
            new_items=frozenset(names[items.new_N].tolist()),
            exploration=self.config.exploration,
            drift_at=self.config.drift_moment,
            drift_kinds=DRIFTS[self.config.drift],
            taste_changed=frozenset(users[people.changed_U].tolist()),
            communities_U=people.community_U,
        )

    @cached_property
    def _people(self) -> Population:
        return build_population(self.config)

    @cached_property
    def _catalogue(self) -> Catalogue:
        return build_catalogue(self.config, self._people)

    @cached_property
    def _behaviour(self) -> Behaviour:
        return Behaviour(self.config, self._people, self._catalogue)

    @cached_property
    def _user_ids(self) -> pa.Array:
        return _number("u", len(self._people))

    @cached_property
    def _item_ids(self) -> pa.Array:
        return _number("i", len(self._catalogue))

    def _days_until(self, end: int) -> list[Reactions]:
        """Return the days that begin before `end` (µs), simulating those not yet asked for."""
        begin, day = micros(self.config.start), 86_400_000_000
        wanted = max(0, -((begin - end) // day))
        while len(self._days) < wanted:
            self._days.append(self._behaviour.next_day())
        return self._days[:wanted]

    def _event_table(self, day: int, events: Reactions, first: int, last: int) -> pa.Table:
        """Return the events of one day with `first <= timestamp < last` (µs)."""
        rows = slice(*np.searchsorted(events.timestamp_E, [first, last]).tolist())
        number = pa.array(np.arange(len(events.timestamp_E))[rows]).cast(pa.string())
        columns = {
            "event_id": pc.binary_join_element_wise(
                pa.scalar(f"e{day:03d}"), pc.utf8_lpad(number, 7, "0"), "-"
            ),
            "user_id": self._user_ids.take(pa.array(events.user_E[rows])),
            "item_id": self._item_ids.take(pa.array(events.item_E[rows])),
            "event_type": pa.array(EVENT_TYPES).take(pa.array(events.type_E[rows])),
            "value": pa.array(events.value_E[rows], from_pandas=True),
            "watch_seconds": pa.array(events.watch_E[rows], from_pandas=True),
            "position": events.position_E[rows].astype(np.int32),
            "device": pa.array(DEVICES).take(pa.array(events.device_E[rows])),
            "location": pa.array(LOCATIONS).take(pa.array(events.location_E[rows])),
            "exploration": events.explored_E[rows],
            "timestamp": _times(events.timestamp_E[rows]),
        }
        return pa.table(columns, schema=EVENT_SCHEMA)


def _times(micros_X: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(micros_X).cast(_TIME)


def _number(letter: str, count: int) -> pa.Array:
    return pa.array([f"{letter}{index:06d}" for index in range(count)])


def _where(present_U: npt.NDArray[np.bool_], maps: Sequence[Mapping[str, object]]) -> list[object]:
    """Return map columns as lists of pairs, None where a user has no profile."""
    return [
        list(entry.items()) if present else None
        for present, entry in zip(present_U.tolist(), maps, strict=True)
    ]
