"""The demo world: tables and batches of rows, and what was planted.

Every row is a function of the configuration alone: asking again, in any order, in another process
or in other pieces, gives the same rows. Ids are numbered in order of creation.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.demo.behaviour import Behaviour, Follows
from transforms.demo.catalogue import Catalogue, build_catalogue
from transforms.demo.config import DRIFTS, DemoConfig, DemoConfigError, micros
from transforms.demo.feed import Shelves
from transforms.demo.plants import PLANTED, planted
from transforms.demo.population import Population
from transforms.demo.reactions import Reactions
from transforms.demo.tables import (
    EVENT_SCHEMA,
    FOLLOW_SCHEMA,
    ITEM_SCHEMA,
    USER_SCHEMA,
    event_batch,
    follow_batch,
    item_batches,
    numbered,
    user_batches,
)
from transforms.demo.truth import Truth
from transforms.demo.vocabulary import TOPICS

_KEPT_EVENTS: Final = 1_000_000
"""A world with no more expected events than this keeps its days: about 80 MB."""

_DAY_MICROS = 86_400_000_000


class DemoWorld:
    """A seeded short-video and social platform of a few weeks.

    `events()`, `items()`, `users()` and `follows()` give whole tables, for worlds that fit into
    memory. Each has a twin that yields the same rows as record batches and holds one block of users
    or items at a time; its memory does not grow with the number of events.

    A block of users is simulated from the start of the period up to the end of the range asked for,
    so a late range costs the time of all days before it. Small worlds remember their days.

    Example:
        >>> world = DemoWorld(DemoConfig(users=200, items=300, days=7))
        >>> world.events().column_names[:4]
        ['event_id', 'user_id', 'item_id', 'event_type']
    """

    def __init__(self, config: DemoConfig | None = None) -> None:
        self.config = config or DemoConfig()
        config = self.config
        expected = config.users * config.events_per_user_day * config.days
        self._keeps_days = expected <= _KEPT_EVENTS
        self._kept: dict[int, tuple[Behaviour, list[Reactions]]] = {}
        self._made: dict[int, tuple[int, Follows]] = {}

    def events(self) -> pa.Table:
        """Return all events of the period in time order; columns as in `EVENT_SCHEMA`."""
        return self.events_between(self.config.start, self.config.end)

    def events_between(self, start: datetime, end: datetime) -> pa.Table:
        """Return the events with `start <= timestamp < end`, in time order.

        The arguments and errors are those of `events_batches`.
        """
        table = pa.Table.from_batches(self.events_batches(start, end), EVENT_SCHEMA)
        # Sessions reach past midnight, so the days overlap by minutes.
        order = pc.sort_indices(
            table, sort_keys=[("timestamp", "ascending"), ("event_id", "ascending")]
        )
        return table.take(order).combine_chunks()

    def events_batches(self, start: datetime, end: datetime) -> Iterator[pa.RecordBatch]:
        """Return an iterator over the events with `start <= timestamp < end`.

        A batch holds the events of one day of one block of users, in time order, and has columns as
        in `EVENT_SCHEMA`. Batches come block by block, and day by day within a block. Whatever
        pieces a range is asked for in, the rows are the same.

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
        return self._event_batches(first, last)

    def planted(self, events: pa.RecordBatch) -> pa.RecordBatch:
        """Return what this world's drift makes of events of the same world without drift.

        Drifts that change behaviour itself are not planted into a log: these rows stay the same.
        """
        moment = self.config.drift_moment
        kinds = DRIFTS[self.config.drift]
        if moment is None or not PLANTED & {*kinds}:
            return events
        items = self._catalogue
        return planted(kinds, events, micros(moment), items.duration_N, self._burst_item)

    def items(self) -> pa.Table:
        """Return all items in order of creation; columns as in `ITEM_SCHEMA`."""
        return pa.Table.from_batches(self.items_batches(), ITEM_SCHEMA).combine_chunks()

    def items_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of `items()`, some thousands at a time."""
        yield from item_batches(self.config, self._people, self._catalogue)

    def users(self) -> pa.Table:
        """Return all users in order of sign-up; columns as in `USER_SCHEMA`.

        Interests are what users declare: their taste before the drift, with noise. Five in a
        hundred have no profile, so interests, preferences and demographics are null.
        """
        return pa.Table.from_batches(self.users_batches(), USER_SCHEMA).combine_chunks()

    def users_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of `users()`, a block at a time."""
        yield from user_batches(self.config, self._people)

    def follows(self) -> pa.Table:
        """Return all follow edges by follower and followee; columns as in `FOLLOW_SCHEMA`.

        Edges made during the period come with a `follow` event at `since`, except those that new
        users make at sign-up and those that users make at the moment their taste changes.
        """
        return pa.Table.from_batches(self.follows_batches(), FOLLOW_SCHEMA).combine_chunks()

    def follows_batches(self, before: datetime | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows of `follows()`, a block of followers at a time.

        They come from the simulation: after `events_batches` up to the same end they cost little.

        Args:
            before: leaves out edges made at this moment or later; the end of the period when not
                given.
        """
        end = micros(self.config.end if before is None else min(before, self.config.end))
        for index in range(self._people.block_count):
            days, _ = self._made.get(index, (0, None))
            if days < self._days_before(end):
                for _ in self._days(index, end):
                    pass
            block = self._people.block(index)
            planted = Follows(block.edge_F, block.since_F)
            made = self._made[index][1] if index in self._made else Follows.concatenate([])
            yield follow_batch(self._people, block, planted.joined(made), end, self._user_ids)

    @cached_property
    def truth(self) -> Truth:
        """What was planted."""
        people, items = self._people, self._catalogue
        blocks = [people.block(index) for index in range(people.block_count)]
        users = np.array(self._user_ids.to_pylist())
        names = np.array(self._item_ids.to_pylist())
        return Truth(
            user_ids=users,
            item_ids=names,
            topics=tuple(topic.name for topic in TOPICS),
            niches=tuple(niche.name for topic in TOPICS for niche in topic.niches),
            niche_tastes_UM=np.concatenate([block.taste_VM for block in blocks]),
            niche_tastes_after_UM=np.concatenate([block.taste_after_VM for block in blocks]),
            item_topics_NK=items.topics(),
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
        return Population(self.config)

    @cached_property
    def _catalogue(self) -> Catalogue:
        return build_catalogue(self.config, self._people)

    @cached_property
    def _shelves(self) -> Shelves:
        return Shelves(self._catalogue, len(self._people.authors_A))

    @cached_property
    def _user_ids(self) -> pa.Array:
        return numbered("u", len(self._people))

    @cached_property
    def _item_ids(self) -> pa.Array:
        return numbered("i", len(self._catalogue))

    def _event_batches(self, first: int, last: int) -> Iterator[pa.RecordBatch]:
        """Yield the events with `first <= timestamp < last` (µs)."""
        ids = (self._user_ids, self._item_ids)
        for index in range(self._people.block_count):
            for day, events in self._days(index, last):
                rows = slice(*np.searchsorted(events.timestamp_E, [first, last]).tolist())
                if rows.start < rows.stop:
                    block = self._people.block(index)
                    batch = event_batch(
                        day, events, rows, people=self._people, block=block, ids=ids
                    )
                    yield self.planted(batch)

    @cached_property
    def _burst_item(self) -> int:
        """The best clip or podcast that is there before the drift."""
        items, moment = self._catalogue, self.config.drift_moment or self.config.end
        able_N = ~np.isnan(items.duration_N) & (items.created_N < micros(moment))
        return int(np.argmax(np.where(able_N, items.quality_N, -np.inf)))

    def _days_before(self, end: int) -> int:
        """Return the number of days that begin before `end` (µs)."""
        return max(0, -((micros(self.config.start) - end) // _DAY_MICROS))

    def _days(self, index: int, end: int) -> Iterator[tuple[int, Reactions]]:
        """Simulate a block's days that begin before `end` (µs), and note the follows made."""
        behaviour, days = self._kept.get(index) or (self._behaviour(index), [])
        if self._keeps_days:
            self._kept[index] = behaviour, days
        for day in range(self._days_before(end)):
            if day < len(days):
                yield day, days[day]
                continue
            events = behaviour.next_day()
            if self._keeps_days:
                days.append(events)
            yield day, events
        known, _ = self._made.get(index, (0, None))
        if behaviour.days > known:
            self._made[index] = behaviour.days, behaviour.made

    def _behaviour(self, index: int) -> Behaviour:
        people = self._people
        return Behaviour(self.config, people, people.block(index), self._catalogue, self._shelves)
