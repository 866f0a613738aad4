"""Turn the raw values of a source column into its type; null where one cannot be read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from transforms.source_errors import SourceError, quoted

_UNIT_MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1}
# What Python, Arrow and Spark can all hold: years 1 to 9999.
_FIRST_MICROS, _LAST_MICROS = -62_135_596_800_000_000, 253_402_300_799_999_999
# A text that ends in an offset, or in a zone's name after a time of day.
_NAMES_ITS_ZONE = r"\d:\d{2}.*([zZ]|[+-]\d{1,2}(:?\d{2})?|[A-Za-z]{3,}(/[A-Za-z_]+)*)\s*$"
_ENDS_IN_MINUTES = r"^(.*\d{4}-\d{1,2}-\d{1,2}[T ]\d{1,2}:\d{2})([^:\d].*)$"
_ZONE_LETTERS = re.compile(r"[VzOXxZ]")
_QUOTED = re.compile(r"'[^']*'")


@dataclass(frozen=True)
class ColumnMap:
    """Where the values of one column come from, and how they are written."""

    source: str | None = None
    """Column of the source."""
    entries: Mapping[str, str] = field(default_factory=dict)
    """For a map without a column of its own: key to the source column with its value."""
    unit: str | None = None
    """Of a time given as a number since 1970 (`s`, `ms`, `us`), or `iso` for text."""
    pattern: str | None = None
    """Of a time given as text, in Spark's letters, such as `dd/MM/yyyy HH:mm`."""
    zone: str = "UTC"
    """Of times that do not name their own: `Asia/Shanghai`."""
    scale: float | None = None
    """Factor for a number."""
    true: Sequence[str] = ()
    """Texts that mean true, beside true, t, yes, y and 1."""
    false: Sequence[str] = ()
    """Texts that mean false, beside false, f, no, n and 0."""
    split: str | None = None
    """What separates the entries of a list; without it a text is JSON, or a list of one."""
    constant: Any = None
    """The same value for every row, instead of a source."""
    spread: tuple[datetime, datetime] | None = None
    """For data without times: each row gets a moment of `[from, to)`, by the hash of its values."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns of the source that it reads."""
        return (*(() if self.source is None else (self.source,)), *self.entries.values())


def typed_value(
    df: DataFrame, target: T.StructField, mapped: ColumnMap, sources: Sequence[str]
) -> tuple[Column, Column | None]:
    """Types the values of a column.

    Args:
        df: The source.
        target: The column to fill.
        mapped: From what.
        sources: All mapped source columns: what `spread` hashes.

    Returns:
        The typed value, and the raw one where the two can differ in being null.

    Raises:
        SourceError: The mapping does not fit the type of the source column.
    """
    if mapped.spread is not None:
        return _spread(mapped.spread, sources), None
    if mapped.entries and isinstance(target.dataType, T.MapType):
        return _gathered(mapped.entries, target.dataType)
    if mapped.source is None:
        return F.lit(mapped.constant).cast(target.dataType), None
    raw = F.col(quoted(mapped.source))
    kind = df.schema[mapped.source].dataType
    match target.dataType:
        case T.TimestampType():
            value = _timestamp(raw, kind, mapped)
        case T.DoubleType():
            value = raw.try_cast("double")
            if mapped.scale is not None:
                value = value * F.lit(float(mapped.scale))
        case T.IntegerType():
            # "3.0" is a whole number too; 3.5 is none.
            number = raw.try_cast("decimal(38,6)")
            value = F.when(number == F.floor(number), number.try_cast("int"))
        case T.BooleanType():
            value = _boolean(raw, mapped)
        case T.ArrayType():
            value = _array(raw, kind, target.dataType, mapped)
        case T.MapType() if isinstance(kind, T.StringType):
            value = F.from_json(raw, target.dataType.simpleString(), {"mode": "PERMISSIVE"})
        case T.MapType() if not isinstance(kind, T.MapType):
            raise SourceError(
                f"`{target.name}` is a map, but `{mapped.source}` holds {kind.simpleString()}; "
                'it needs a map, or JSON text such as {"film": 0.5}.'
            )
        case _:
            value = raw.try_cast(target.dataType)
    return value, raw


def _spread(window: tuple[datetime, datetime], sources: Sequence[str]) -> Column:
    """A moment that depends on the row's values alone, so that a row keeps it for ever."""
    first, last = (round(moment.timestamp() * 1_000_000) for moment in window)
    values = [F.col(quoted(name)).cast("string") for name in dict.fromkeys(sources)]
    place = F.pmod(F.xxhash64(*values), F.lit(last - first))
    return F.timestamp_micros(F.lit(first) + place)


def _gathered(entries: Mapping[str, str], target: T.MapType) -> tuple[Column, Column]:
    """A map of the columns that have a value; null, beside a raw value, where one is unreadable."""
    raws = {key: F.col(quoted(name)) for key, name in entries.items()}
    values = {key: raw.try_cast(target.valueType) for key, raw in raws.items()}
    unread = [raw.isNotNull() & values[key].isNull() for key, raw in raws.items()]
    pairs = [part for key, value in values.items() for part in (F.lit(key), value)]
    whole = F.map_filter(F.create_map(*pairs), lambda _, value: value.isNotNull())
    return F.when(~F.greatest(*unread, F.lit(False)), whole), F.lit(True)


def _boolean(raw: Column, mapped: ColumnMap) -> Column:
    usual = raw.try_cast("boolean")
    if not mapped.true and not mapped.false:
        return usual
    text = F.trim(raw.cast("string"))
    return (
        F.when(text.isin(*mapped.true), True).when(text.isin(*mapped.false), False).otherwise(usual)
    )


def _timestamp(raw: Column, kind: T.DataType, mapped: ColumnMap) -> Column:
    if isinstance(kind, T.TimestampType):
        return raw
    if isinstance(kind, (T.TimestampNTZType, T.DateType)):
        return _in_zone(raw.cast("timestamp"), mapped.zone)
    if mapped.unit in _UNIT_MICROS:
        # A decimal, since a double loses microseconds of the present century.
        micros = raw.try_cast("decimal(32,6)") * F.lit(_UNIT_MICROS[mapped.unit])
        return F.timestamp_micros(F.when(_sound(micros), F.floor(micros)).cast("bigint"))
    if mapped.pattern is not None:
        moment = F.try_to_timestamp(raw.cast("string"), F.lit(mapped.pattern))
        if not _ZONE_LETTERS.search(_QUOTED.sub("", mapped.pattern)):
            moment = _in_zone(moment, mapped.zone)
        return F.when(_sound(F.unix_micros(moment)), moment)
    if isinstance(kind, T.NumericType):
        raise SourceError(
            f"`{mapped.source}` holds numbers, and a time given as a number needs its unit: "
            f"write {{from: {mapped.source}, unit: s}}, or ms, or us."
        )
    text = raw.cast("string")
    # ISO 8601 allows a zone after minutes, Spark after seconds alone.
    moment = F.coalesce(
        raw.try_cast("timestamp"),
        F.regexp_replace(text, _ENDS_IN_MINUTES, "$1:00$2").try_cast("timestamp"),
    )
    if mapped.zone != "UTC":
        local = ~text.rlike(_NAMES_ITS_ZONE)
        moment = F.when(local, _in_zone(moment, mapped.zone)).otherwise(moment)
    return F.when(_sound(F.unix_micros(moment)), moment)


def _in_zone(moment: Column, zone: str) -> Column:
    """Takes the clock's reading, so far taken as UTC, for that of another zone."""
    return moment if zone == "UTC" else F.to_utc_timestamp(moment, zone)


def _sound(micros: Column) -> Column:
    return micros.between(_FIRST_MICROS, _LAST_MICROS)


def _array(raw: Column, kind: T.DataType, target: T.ArrayType, mapped: ColumnMap) -> Column:
    if isinstance(kind, T.ArrayType):
        return raw.try_cast(target)
    text = raw.cast("string")
    if mapped.split is not None:
        # `trim` itself would be handed each entry's index as the characters to cut.
        parts = F.transform(F.split(text, re.escape(mapped.split)), lambda entry: F.trim(entry))  # noqa: PLW0108
        entries = F.filter(parts, lambda entry: entry != "")
    elif isinstance(target.elementType, T.StringType):
        # A text that begins like a JSON list of texts has to be one.
        parsed = F.from_json(text, "array<string>")
        begun = text.rlike("^\\s*\\[\\s*[\"']")
        entries = F.coalesce(parsed, F.when(~begun, F.array(text)))
    else:
        entries = F.from_json(text, "array<string>")
    if isinstance(target.elementType, T.StringType):
        return F.when(text.isNotNull(), entries)
    numbers = F.transform(entries, lambda entry: entry.try_cast(target.elementType))
    return F.when(~F.exists(numbers, lambda number: number.isNull()), numbers)
