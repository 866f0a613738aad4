"""The section ``sources``: where each table's rows come from, and which of their columns mean what.

Each table has a record of its columns, so that an unknown column, or a unit on a column that is no
time, is refused by the type. Shorthands (a column's name alone) become the long form on reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipelines.demo_source import Demo
from pipelines.records import (
    Location,
    Many,
    Record,
    RefusedError,
    Scalar,
    one_of,
)

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

INFERRED = "x-inferred"
"""Marks, in a field's schema, a required value that is found out where it is not given."""

_SUFFIXES = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".dat": "csv", ".parquet": "parquet"}

EventType = Annotated[str, AfterValidator(one_of(EVENT_TYPES, "event type"))]
Unit = Literal["s", "ms", "us", "iso"]


class Column(Record):
    """A column of a table: the source column that fills it, or one value for all rows."""

    from_: str | None = Field(None, alias="from", min_length=1, description="The source column.")
    constant: Scalar = Field(None, description="One value for all rows.")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.from_ is None) == (self.constant is None):
            raise RefusedError(
                "needs either `from` or `constant`", "Write {from: COLUMN} or {constant: VALUE}."
            )
        return self

    def plain(self) -> dict[str, Any]:
        """Return every option, also those that this kind of column does not have (None)."""
        absent = {"unit": None, "scale": None, "split": None}
        return absent | self.model_dump(by_alias=True)


class TimeColumn(Column):
    """A column of times; text and numbers are read as UTC."""

    unit: Unit | None = Field(
        None,
        description="Unit of a number since 1970 (s, ms, us), or `iso` for text. "
        "Not needed where the source column has a type for times.",
    )


class NumberColumn(Column):
    """A column of numbers."""

    scale: float | None = Field(
        None, description="Factor to apply, such as 0.001 from milliseconds to seconds."
    )


class ListColumn(Column):
    """A column of lists."""

    split: str | None = Field(
        None,
        min_length=1,
        description="Separator, where the source column is text. Not needed for a column of lists.",
    )


def _named(value: object) -> object:
    return {"from": value} if isinstance(value, str) else value


Plain = Annotated[Column, BeforeValidator(_named, json_schema_input_type=str | Column)]
Moment = Annotated[TimeColumn, BeforeValidator(_named, json_schema_input_type=str | TimeColumn)]
Number = Annotated[NumberColumn, BeforeValidator(_named, json_schema_input_type=str | NumberColumn)]
Listed = Annotated[ListColumn, BeforeValidator(_named, json_schema_input_type=str | ListColumn)]


class Columns(Record):
    """The columns of a table; each gives a source column's name, or a mapping."""

    def mapped(self) -> dict[str, Column]:
        """Return the columns that the spec maps, by name."""
        return {name: column for name in type(self).model_fields if (column := getattr(self, name))}


class EventColumns(Columns):
    """Columns of `events`."""

    user_id: Plain = Field(description="Who did it.")
    item_id: Plain = Field(description="With what.")
    timestamp: Moment = Field(description="When.")
    event_id: Plain | None = Field(
        None, description="Its own id; derived from the row without one."
    )
    value: Number | None = Field(None, description="A rating.")
    watch_seconds: Number | None = Field(None, description="Time spent watching, seconds.")
    position: Number | None = Field(None, description="Place in the list that was shown, from 1.")
    device: Plain | None = Field(None, description="Kind of device.")
    location: Plain | None = Field(None, description="Place: of the person, or on the page.")
    exploration: Plain | None = Field(None, description="Whether the item was shown at random.")


class ItemColumns(Columns):
    """Columns of `items`."""

    item_id: Plain = Field(description="The item.")
    item_type: Plain | None = Field(None, description="Such as video, film or post.")
    media_type: Plain | None = Field(None, description="Such as video, image or text.")
    title: Plain | None = Field(None, description="Title, shown to people.")
    text: Plain | None = Field(None, description="Body, description or transcript.")
    categories: Listed | None = Field(None, description="Categories, the main one first.")
    tags: Listed | None = Field(None, description="Free tags.")
    author_id: Plain | None = Field(None, description="Who made it: a user.")
    created_at: Moment | None = Field(None, description="When it came; unknown means always there.")
    duration_seconds: Number | None = Field(None, description="Length, seconds.")
    image_url: Plain | None = Field(None, description="Picture.")
    video_url: Plain | None = Field(None, description="Film.")
    video_embedding: Listed | None = Field(None, description="2048 numbers.")
    audio_embedding: Listed | None = Field(None, description="1024 numbers.")
    text_embedding: Listed | None = Field(None, description="768 numbers.")


class UserColumns(Columns):
    """Columns of `users`."""

    user_id: Plain = Field(description="The user.")
    created_at: Moment | None = Field(
        None, description="When they came; unknown means always there."
    )
    trust_score: Number | None = Field(None, description="Trust in what they publish.")
    interests: Plain | None = Field(None, description="Topic to strength.")
    content_type_preferences: Plain | None = Field(None, description="Item type to strength.")
    diversity_preference: Number | None = Field(None, description="Wish for variety.")
    consent: Plain | None = Field(None, description="Whether their data may be used.")
    demographics: Plain | None = Field(None, description="Sensitive; never an input of a model.")


class FollowColumns(Columns):
    """Columns of `follows`."""

    follower_id: Plain = Field(description="Who follows.")
    followee_id: Plain = Field(description="Whom.")
    since: Moment | None = Field(None, description="Since when; unknown means always.")


class Files(Record):
    """Files of one shape."""

    path: Location = Field(
        description="A file, a glob such as data/log/*.csv, or a folder; below the "
        "project's folder, absolute, or a URI. ${NAME} stands for an environment variable."
    )
    format: Literal["csv", "parquet"] = Field(
        description="csv or parquet; not needed where the path's suffix tells.",
        json_schema_extra={INFERRED: "by suffix"},
    )
    delimiter: str = Field(",", min_length=1, description="Between the values of a CSV line.")
    header: bool = Field(
        True, description="Whether a CSV file's first line names its columns; else _c0, _c1, ..."
    )
    null_values: Many[str] = Field(("",), description="CSV texts that stand for no value.")

    @model_validator(mode="before")
    @classmethod
    def _format_from_suffix(cls, value: Any) -> Any:
        if (
            not isinstance(value, dict)
            or "format" in value
            or not isinstance(value.get("path"), str)
        ):
            return value
        name = value["path"].lower().rsplit("/", 1)[-1].removesuffix(".gz")
        found = next((f for suffix, f in _SUFFIXES.items() if name.endswith(suffix)), None)
        return value if found is None else {**value, "format": found}


class TableSource(Files):
    """Files that fill one table."""

    table: ClassVar[str]
    columns: Columns


class CollectTime(Record):
    """When an entry came to be."""

    from_: str = Field(alias="from", min_length=1, description="The source column.")
    unit: Unit = Field("iso", description="s, ms, us since 1970, or iso.")


class Collect(Files):
    """A list column that is gathered from the rows of a second file."""

    key: str = Field(min_length=1, description="The second file's column that holds the item's id.")
    from_: str = Field(alias="from", min_length=1, description="Its column that holds the entry.")
    time: CollectTime | None = Field(
        None, description="Its column that says when; an entry counts only after that."
    )


class CollectedColumns(Record):
    """Columns of `items` that may be gathered from a second file."""

    tags: Collect | None = Field(None, description="Free tags.")


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
        if self.items is not None and self.items.collect.tags is not None:
            paths.append(self.items.collect.tags.path)
        return tuple(dict.fromkeys(paths))
