"""The section ``sources``: the tables of a pipeline, and where the rows of each come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipelines.demo_source import Demo
from pipelines.records import (
    Duration,
    Many,
    Record,
    RefusedError,
    one_of,
)
from pipelines.secrets import Secret
from pipelines.source_columns import (
    Columns,
    EventColumns,
    FollowColumns,
    ItemColumns,
    Pattern,
    Unit,
    UserColumns,
    Zone,
)
from pipelines.source_formats import Files

EVENT_TYPES = (
    "impression",
    "view",
    "click",
    "skip",
    "like",
    "comment",
    "share",
    "rating",
    "dislike",
    "follow",
)

EventType = Annotated[str, AfterValidator(one_of(EVENT_TYPES, "event type"))]


class TableSource(Files):
    """Files that fill one table."""

    table: ClassVar[str]
    columns: Columns


class CollectTime(Record):
    """When an entry came to be."""

    from_: str = Field(alias="from", min_length=1, description="The source column.")
    unit: Unit = Field("iso", description="s, ms, us since 1970, or iso.")
    pattern: Pattern | None = Field(None, description="How text is written: dd/MM/yyyy HH:mm.")
    zone: Zone = Field("UTC", description="Zone of texts that do not name theirs.")


class Collect(Files):
    """A list column that is gathered from the rows of a second file."""

    key: str = Field(min_length=1, description="The second file's column that holds the item's id.")
    from_: str = Field(alias="from", min_length=1, description="Its column that holds the entry.")
    time: CollectTime | None = Field(
        None, description="Its column that says when; an entry counts only after that."
    )


class CollectVector(Files):
    """A vector for each item from a second file; the defaults fit a NumPy array."""

    key: str = Field(
        "row",
        min_length=1,
        description="The second file's column with the item's id; of npy, `row` counts from 0.",
    )
    from_: str = Field(
        "vector", alias="from", min_length=1, description="Its column that holds the vector."
    )


class CollectedColumns(Record):
    """Columns of `items` that may be gathered from a second file."""

    tags: Collect | None = Field(None, description="Free tags.")
    video_embedding: CollectVector | None = Field(None, description="Vectors of what is seen.")
    audio_embedding: CollectVector | None = Field(None, description="Vectors of what is heard.")
    text_embedding: CollectVector | None = Field(None, description="Vectors of what is read.")

    def files(self) -> dict[str, Collect | CollectVector]:
        """Return what is gathered, by column."""
        return {name: found for name in type(self).model_fields if (found := getattr(self, name))}


class EventTypeRule(Record):
    """Which events a row of the source stands for.

    Either ``always`` and ``flags``: one event for the row, and one for each flag column that is not
    zero; or ``column``, whose values ``map`` translates.
    """

    always: EventType | None = Field(None, description="The type of the event of every row.")
    flags: dict[EventType, str] = Field(
        {}, description="Event type to the column that flags it; one more event where not zero."
    )
    column: str | None = Field(None, min_length=1, description="The column that holds the type.")
    map: dict[str, EventType] = Field(
        {}, description="Its values to event types; values that are event types need no entry."
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        cure = (
            "Write one type for all rows (`event_type: rating`), a column with its values "
            "({column: kind, map: {buy: click}}), or flags ({always: view, "
            "flags: {like: is_like}})."
        )
        by_row = self.always is not None or bool(self.flags)
        if by_row == (self.column is not None):
            raise RefusedError("needs either `always` and `flags`, or `column`", cure)
        if self.map and self.column is None:
            raise RefusedError("has a `map` but no `column`", cure)
        return self

    def produced(self) -> tuple[str, ...] | None:
        """Return the types that it can give; None when a column's values decide."""
        if self.column is not None:
            return None
        return tuple(dict.fromkeys([*([self.always] if self.always else []), *self.flags]))


class EventSource(TableSource):
    """Files that fill `events`."""

    table: ClassVar[str] = "events"
    columns: EventColumns = Field(description="Column of `events` to source column.")
    event_type: Annotated[
        EventTypeRule,
        BeforeValidator(
            lambda value: {"always": value} if isinstance(value, str) else value,
            json_schema_input_type=str | EventTypeRule,
        ),
    ] = Field(
        description="A type for all rows; {column, map}; or {always, flags}. "
        f"Types: {', '.join(EVENT_TYPES)}."
    )


class ItemSource(TableSource):
    """Files that fill `items`."""

    table: ClassVar[str] = "items"
    columns: ItemColumns = Field(description="Column of `items` to source column.")
    collect: CollectedColumns = Field(
        CollectedColumns(), description="List columns to gather from a second file."
    )


class UserSource(TableSource):
    """Files that fill `users`."""

    table: ClassVar[str] = "users"
    columns: UserColumns = Field(description="Column of `users` to source column.")


class FollowSource(TableSource):
    """Files that fill `follows`."""

    table: ClassVar[str] = "follows"
    columns: FollowColumns = Field(description="Column of `follows` to source column.")


def _as_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


class Sources(Record):
    """Where the rows come from: the simulator, or files of your own."""

    demo: Demo | None = Field(None, description="The built-in simulator instead of files.")
    events: Annotated[
        Many[EventSource],
        BeforeValidator(_as_list, json_schema_input_type=EventSource | list[EventSource]),
    ] = Field((), description="What happened: one set of files, or a list of them.")
    items: ItemSource | None = Field(None, description="What is recommended.")
    users: UserSource | None = Field(None, description="To whom.")
    follows: FollowSource | None = Field(None, description="Who follows whom.")
    pseudonym_key: Secret | None = Field(
        None,
        description="Key with which ids of users are hashed before they are stored: ${NAME}, at "
        "least 32 bytes. Without it they are stored as they are.",
    )
    lateness: Duration = Field(
        "1d",
        validate_default=True,
        description="How much older than the interval that reads it an event may be and still join "
        "its own interval; later ones are quarantined until that interval is run again.",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        tables = [name for name in ("events", "items", "users", "follows") if getattr(self, name)]
        if self.demo is not None and tables:
            raise RefusedError(
                f"has both `demo` and {', '.join(f'`{name}`' for name in tables)}",
                "The simulator fills all four tables: keep one of the two.",
            )
        if self.demo is None and not self.events:
            raise RefusedError(
                "`events` is missing",
                "Write events: {path: ..., columns: {user_id: ..., item_id: ..., timestamp: ...}, "
                "event_type: ...}, or demo: {} for the built-in simulator.",
            )
        return self

    def tables(self) -> Iterator[TableSource]:
        """Yield each declared source; a table may have several, or none."""
        yield from self.events
        for source in (self.items, self.users, self.follows):
            if source is not None:
                yield source

    def files(self) -> tuple[str, ...]:
        """Return every path, also those of gathered columns."""
        paths = [source.path for source in self.tables()]
        if self.items is not None:
            paths += [source.path for source in self.items.collect.files().values()]
        return tuple(dict.fromkeys(paths))
