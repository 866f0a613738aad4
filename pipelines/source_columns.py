"""The columns of a source: which of them fills which column of a table, and how they are written.

Each table has a record of its columns, so that an unknown column, or a unit on a column that is no
time, is refused by the type. Shorthands (a column's name alone) become the long form on reading.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from typing_extensions import override

from pipelines.errors import closest
from pipelines.intervals import text
from pipelines.records import Many, Record, RefusedError, Scalar, Time

Unit = Literal["s", "ms", "us", "iso"]

# What Spark's patterns may hold; in quotes anything may stand.
_LETTERS = frozenset("GyMLdEahHKkmsSVzOXxZ")
_QUOTED = re.compile(r"'[^']*'")


def _check_pattern(value: str) -> str:
    """Refuse a pattern that Spark cannot read times with; its letters are Java's."""
    bare = _QUOTED.sub("", value)
    letters = {char for char in bare if char.isalpha()}
    if "%" in value:
        raise RefusedError(
            f"`{value}` is written as for strftime",
            "Write yyyy for %Y, MM for %m, dd for %d, HH for %H, mm for %M, ss for %S.",
        )
    slips = {"Y": "Write yyyy for the year.", "D": "Write dd for the day of the month."}
    for letter, cure in slips.items():
        if letter in letters:
            raise RefusedError(f"`{value}` holds `{letter}`", cure)
    unknown = sorted(letters - _LETTERS)
    if unknown:
        raise RefusedError(
            f"`{value}` holds `{unknown[0]}`, which stands for nothing",
            "Put text that stands as it is in quotes: yyyy-MM-dd'T'HH:mm.",
        )
    lacking = [
        name
        for name, any_of in (("year (yyyy)", "y"), ("month (MM)", "ML"), ("day (dd)", "d"))
        if not letters & set(any_of)
    ]
    if lacking:
        hint = " mm are minutes, MM is the month." if "m" in letters and "M" not in letters else ""
        raise RefusedError(f"`{value}` gives no {_either(lacking)}", f"A time needs a day.{hint}")
    return value


def _check_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, OSError, ValueError) as error:
        hint = closest(value, ("UTC", "Asia/Shanghai", "Europe/London", "America/New_York")).strip()
        raise RefusedError(
            f"there is no time zone `{value}`",
            f"{hint} Write a name of the time-zone database: Asia/Shanghai.".strip(),
        ) from error
    return value


def _read_words(value: object) -> object:
    """YAML itself takes `yes` and `on` for true: such a word is known without being named."""
    entries = value if isinstance(value, list | tuple) else [value]
    return [str(entry) for entry in entries if not isinstance(entry, bool)]


def _either(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


Pattern = Annotated[str, AfterValidator(_check_pattern)]
Zone = Annotated[str, AfterValidator(_check_zone)]
Words = Annotated[
    Many[str],
    BeforeValidator(_read_words, json_schema_input_type=Scalar | list[Scalar]),
]


class Column(Record):
    """A column of a table: the source column that fills it, or one value for all rows."""

    from_: str | None = Field(
        None, alias="from", min_length=1, description="The source column; inside others as user.id."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(value is not None for _, value in self._origins()) != 1:
            forms = [form for form, _ in self._origins()]
            names = [f"`{form.split(':')[0]}`" for form in forms]
            written = [f"{{{form}}}" for form in forms]
            either = "either" if len(forms) == 2 else "one of"
            raise RefusedError(f"needs {either} {_either(names)}", f"Write {_either(written)}.")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """The source columns that it reads."""
        return () if self.from_ is None else (self.from_,)

    def _origins(self) -> tuple[tuple[str, object], ...]:
        """The forms in which the values may be given, each with what was given."""
        return (("from: COLUMN", self.from_),)


class PlainColumn(Column):
    """A column of anything that is one value."""

    constant: Scalar = Field(None, description="One value for all rows.")

    @override
    def _origins(self) -> tuple[tuple[str, object], ...]:
        return (*super()._origins(), ("constant: VALUE", self.constant))


class TimeColumn(Column):
    """A column of times."""

    constant: Time | None = Field(None, description="One time for all rows.")
    unit: Unit | None = Field(
        None,
        description="Unit of a number since 1970 (s, ms, us), or `iso` for text such as "
        "2026-01-31T18:00:00.5+08:00. Not needed where the source column has a type for times.",
    )
    pattern: Pattern | None = Field(
        None,
        description="How the text is written, instead of `unit`: dd/MM/yyyy HH:mm:ss. yyyy year, "
        "MM month, dd day, HH hour, mm minute, ss second, SSS fraction, MMM Jan, a AM, XXX +08:00.",
    )
    zone: Zone = Field(
        "UTC", description="Zone of texts and dates that do not name theirs: Asia/Shanghai."
    )

    @override
    def _origins(self) -> tuple[tuple[str, object], ...]:
        return (*super()._origins(), ("constant: TIME", self.constant))

    @model_validator(mode="after")
    def _one_notation(self) -> Self:
        if self.pattern is not None and self.unit is not None:
            raise RefusedError(
                "has both `unit` and `pattern`", "Keep `pattern` for text, `unit` for numbers."
            )
        if self.unit in ("s", "ms", "us") and self.zone != "UTC":
            raise RefusedError(
                f"has a `zone`, but a number of {self.unit} since 1970 means the same in all zones",
                "Leave out `zone`.",
            )
        return self


class Spread(Record):
    """A stretch of time over which rows without times are spread.

    Each row gets a moment of `[from, to)` drawn by the hash of its mapped values: the same row the
    same moment, in every run. The data counts as whole up to `to`. The split by time then becomes a
    split at random; sources with stretches of their own, one after the other, keep a split that
    their files give.
    """

    from_: Time = Field(alias="from", description="First moment.")
    to: Time = Field(description="End, not included.")

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.to <= self.from_:
            raise RefusedError(
                f"`to` is {text(self.to)}, not after `from`, {text(self.from_)}",
                "Write two times, the earlier one first.",
            )
        return self


class EventTimeColumn(TimeColumn):
    """The time of events; those without one may be spread over a stretch of time."""

    spread: Spread | None = Field(
        None, description="For data without times: {from: TIME, to: TIME} gives each row a moment."
    )

    @override
    def _origins(self) -> tuple[tuple[str, object], ...]:
        return (*super()._origins(), ("spread: {from: TIME, to: TIME}", self.spread))


class NumberColumn(PlainColumn):
    """A column of numbers."""

    scale: float | None = Field(
        None, description="Factor to apply, such as 0.001 from milliseconds to seconds."
    )


class TruthColumn(PlainColumn):
    """A column of truth values."""

    true_words: Words = Field(
        (),
        alias="true",
        description="Texts that mean true, beside true, t, yes, y and 1: [Y, ja].",
    )
    false_words: Words = Field(
        (),
        alias="false",
        description="Texts that mean false, beside false, f, no, n and 0.",
    )


class ListColumn(PlainColumn):
    """A column of lists."""

    split: str | None = Field(
        None,
        min_length=1,
        description="Separator, where the source column is text. Not needed for a column of lists "
        'and for JSON such as ["a", "b"]; any other text is a list of one.',
    )


class MapColumn(Column):
    """A column of maps: one source column that holds them, or several that become one."""

    columns: dict[str, str] = Field(
        {}, description="Key to the source column with its value: {gender: sex, age_band: age}."
    )

    @property
    @override
    def sources(self) -> tuple[str, ...]:
        return (*super().sources, *self.columns.values())

    @override
    def _origins(self) -> tuple[tuple[str, object], ...]:
        return (*super()._origins(), ("columns: {KEY: COLUMN}", self.columns or None))


def _named(value: object) -> object:
    return {"from": value} if isinstance(value, str) else value


def _gathered(value: object) -> object:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {"columns": {name: name for name in value}}
    return _named(value)


Plain = Annotated[PlainColumn, BeforeValidator(_named, json_schema_input_type=str | PlainColumn)]
Moment = Annotated[TimeColumn, BeforeValidator(_named, json_schema_input_type=str | TimeColumn)]
Number = Annotated[NumberColumn, BeforeValidator(_named, json_schema_input_type=str | NumberColumn)]
Listed = Annotated[ListColumn, BeforeValidator(_named, json_schema_input_type=str | ListColumn)]
Mapped = Annotated[
    MapColumn, BeforeValidator(_gathered, json_schema_input_type=str | list[str] | MapColumn)
]
Truth = Annotated[TruthColumn, BeforeValidator(_named, json_schema_input_type=str | TruthColumn)]
EventMoment = Annotated[
    EventTimeColumn, BeforeValidator(_named, json_schema_input_type=str | EventTimeColumn)
]


class Columns(Record):
    """The columns of a table; each gives a source column's name, or a mapping."""

    def mapped(self) -> dict[str, Column]:
        """Return the columns that the spec maps, by name."""
        return {name: column for name in type(self).model_fields if (column := getattr(self, name))}


class EventColumns(Columns):
    """Columns of `events`."""

    user_id: Plain = Field(description="Who did it.")
    item_id: Plain = Field(description="With what.")
    timestamp: EventMoment = Field(description="When.")
    event_id: Plain | None = Field(
        None, description="Its own id; derived from the row without one."
    )
    value: Number | None = Field(None, description="A rating.")
    watch_seconds: Number | None = Field(None, description="Time spent watching, seconds.")
    position: Number | None = Field(None, description="Place in the list that was shown, from 1.")
    device: Plain | None = Field(None, description="Kind of device.")
    location: Plain | None = Field(None, description="Place: of the person, or on the page.")
    exploration: Truth | None = Field(None, description="Whether the item was shown at random.")


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
    interests: Mapped | None = Field(None, description="Topic to strength.")
    content_type_preferences: Mapped | None = Field(None, description="Item type to strength.")
    diversity_preference: Number | None = Field(None, description="Wish for variety.")
    consent: Truth | None = Field(None, description="Whether their data may be used.")
    demographics: Mapped | None = Field(
        None,
        description="What groups of users share, such as {columns: {gender: sex}}; sensitive, "
        "never an input of a model.",
    )


class FollowColumns(Columns):
    """Columns of `follows`."""

    follower_id: Plain = Field(description="Who follows.")
    followee_id: Plain = Field(description="Whom.")
    since: Moment | None = Field(None, description="Since when; unknown means always.")
