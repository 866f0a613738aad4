"""Map the columns of a source to the typed columns of a table; what cannot be read is kept apart.

A value that cannot be read as its type, or a required value that is missing, sends the whole row to
`bad` with the reason, never to a silent null. Ids are taken as text exactly as written: `00123`
keeps its zeros and 2^53 + 1 its last digit. A Parquet column of doubles that holds whole ids
becomes the text that Spark gives (`12.0`): store ids as integers or texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F
from pyspark.sql import types as T

from transforms.digest import row_hash
from transforms.parsing import ColumnMap, typed_value
from transforms.pseudonyms import pseudonym
from transforms.schemas import EVENT_TYPES, REQUIRED, struct
from transforms.source_errors import quoted
from transforms.sources import CORRUPT_ROW, FILE

_USER_IDS = ("user_id", "author_id", "follower_id", "followee_id")
_IDS = ("event_id", "item_id", *_USER_IDS)
EVERYBODY = "*"
"""The user id under which everybody's list is published; no source may use it."""

_EVENT_TYPE, _FLAG_FAULT = "__event_type", "__flag_fault"


@dataclass(frozen=True)
class EventTypeRule:
    """How a source row tells its event types: exactly one of a constant, a column, or flags."""

    constant: str | None = None
    """Every row is of this type."""
    column: str | None = None
    """Column that names the type."""
    map: Mapping[str, str] = field(default_factory=dict)
    """From the source's names to ours; a name of ours needs no entry."""
    always: str | None = None
    """Every row is one event of this type, and one more for each flag that is set."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """From event type to the column that holds its flag: true, or a number other than zero."""

    @property
    def sources(self) -> list[str]:
        """The columns that the rule reads."""
        return ([self.column] if self.column else []) + list(self.flags.values())


@dataclass(frozen=True)
class Collected:
    """A list column gathered from a second file, with one row per entry."""

    key: str
    """Column with the item's id."""
    value: str
    """Column with the entry."""
    time: ColumnMap | None = None
    """When the entry became known; an entry without a time was known from the start."""


def map_rows(
    df: DataFrame,
    table: str,
    columns: Mapping[str, ColumnMap],
    *,
    event_type: EventTypeRule | None = None,
    pseudonym_key: bytes | None = None,
) -> tuple[DataFrame, DataFrame]:
    """Types the rows of a source.

    An `event_id` that is not mapped is derived from the event's content (user, item, type, time,
    value, position), so loading a file twice changes nothing, and rows that agree in all of these
    are one event.

    Args:
        df: The source, from `read_source`.
        table: `events`, `items`, `users` or `follows`.
        columns: By column of the table; the others become null.
        event_type: For `events`.
        pseudonym_key: With it the ids of users become keyed hashes, and rows of `bad` too, since
            nobody can say where in them a person is named.

    Returns:
        `good` with the schema of the table, and `bad` with `table`, `row` (the mapped source
        columns as JSON) and `rule` (`required:COLUMN`, `parse:COLUMN`, `parse:row`, or
        `reserved:COLUMN` for the user id `*`). Both keep
        the column `_file` where the source has it.

    Raises:
        SourceError: A mapping does not fit the type of its source column.
    """
    schema = struct(table)
    columns = dict(columns)
    faults = []
    if CORRUPT_ROW in df.columns:
        faults.append(F.when(F.col(CORRUPT_ROW).isNotNull(), "parse:row"))
    sources = [name for one in columns.values() for name in one.sources]
    if event_type is not None:
        sources += event_type.sources
        df = event_types(df, event_type)
        columns["event_type"] = ColumnMap(_EVENT_TYPE)
        faults.append(F.when(F.col(_FLAG_FAULT), "parse:event_type"))

    values: dict[str, Column] = {}
    derived = table == "events" and "event_id" not in columns
    for target in schema.fields:
        mapped = columns.get(target.name)
        if mapped is None:
            values[target.name] = F.lit(None).cast(target.dataType)
            continue
        value, raw = typed_value(df, target, mapped, sources)
        values[target.name] = value
        if raw is not None:
            unread = raw.isNotNull() & value.isNull()
            faults.append(F.when(unread, f"parse:{target.name}"))
        if target.name in REQUIRED[table]:
            faults.append(F.when(value.isNull(), f"required:{target.name}"))
        if target.name in _IDS:
            # Arrays of texts end an id at a NUL: two ids would become one.
            faults.append(F.when(value.contains("\0"), f"parse:{target.name}"))
        if target.name in _USER_IDS:
            faults.append(F.when(value == EVERYBODY, f"reserved:{target.name}"))
            if pseudonym_key is not None:
                values[target.name] = pseudonym(value, pseudonym_key)
    for name in REQUIRED[table]:
        if name not in columns and not (derived and name == "event_id"):
            faults.append(F.lit(f"required:{name}"))

    row = F.to_json(
        F.struct(*[F.col(quoted(name)) for name in dict.fromkeys(sources)]),
        {"ignoreNullFields": "false"},
    )
    if CORRUPT_ROW in df.columns:
        row = F.coalesce(CORRUPT_ROW, row)
    if pseudonym_key is not None:
        row = pseudonym(row, pseudonym_key)
    kept = [FILE] if FILE in df.columns else []
    typed = df.select(
        *[value.alias(name) for name, value in values.items()],
        *kept,
        row.alias("__row"),
        F.coalesce(*faults, F.lit(None).cast("string")).alias("__rule"),
    )
    good = typed.filter("__rule IS NULL").drop("__row", "__rule")
    if derived:
        good = good.withColumn("event_id", _content_id())
    elif event_type is not None and event_type.flags:
        # One source row makes several events; each needs an id of its own.
        good = good.withColumn("event_id", F.concat_ws("/", "event_id", "event_type"))
    bad = typed.filter("__rule IS NOT NULL").select(
        F.lit(table).alias("table"),
        F.col("__row").alias("row"),
        F.col("__rule").alias("rule"),
        *kept,
    )
    return good.select(*schema.names, *kept), bad


def event_types(df: DataFrame, rule: EventTypeRule) -> DataFrame:
    """Adds the event type, repeating a row once per type where the rule has flags.

    A type that is not ours, and a flag that is neither a number nor a truth value, fail the row.
    """
    no_fault = F.lit(False).alias(_FLAG_FAULT)
    if rule.constant is not None:
        return df.select("*", F.lit(rule.constant).alias(_EVENT_TYPE), no_fault)
    if rule.column is not None:
        named = F.col(quoted(rule.column)).cast("string")
        known = {name: name for name in EVENT_TYPES} | dict(rule.map)
        pairs = [F.lit(word) for pair in known.items() for word in pair]
        mapped = F.create_map(*pairs)[named]
        return df.select(
            "*", mapped.alias(_EVENT_TYPE), (named.isNotNull() & mapped.isNull()).alias(_FLAG_FAULT)
        )
    types, fault = [F.lit(rule.always)], F.lit(False)
    for name, flag in rule.flags.items():
        text = F.col(quoted(flag)).cast("string")
        is_set = F.coalesce(text.try_cast("double") != 0, text.try_cast("boolean"))
        types.append(F.when(is_set, name))
        fault = fault | (text.isNotNull() & is_set.isNull())
    return df.select(
        "*",
        F.explode(F.array_compact(F.array(*types))).alias(_EVENT_TYPE),
        fault.alias(_FLAG_FAULT),
    )


def collect_lists(
    items: DataFrame, rows: DataFrame, target: str, collected: Collected
) -> tuple[DataFrame, DataFrame]:
    """Fills a list column of items from a second source.

    An entry that comes several times counts from its earliest time. Entries are ordered by time,
    then by text, whatever the order of the rows. For `tags` the times go to `tag_times`.

    Args:
        items: Typed items; their `target` is replaced.
        rows: The second source, one row per entry.
        target: `tags` or `categories`.
        collected: Which columns hold what.

    Returns:
        The items, and the rows that could not be read, as from `map_rows`.
    """
    moment: Column = F.lit(None).cast("timestamp")
    faults = []
    if CORRUPT_ROW in rows.columns:
        faults.append(F.when(F.col(CORRUPT_ROW).isNotNull(), "parse:row"))
    sources = [collected.key, collected.value]
    if collected.time is not None:
        assert collected.time.source is not None  # The specification has no constant times.
        sources.append(collected.time.source)
        moment, raw = typed_value(
            rows, T.StructField("tag_times", T.TimestampType()), collected.time, sources
        )
        assert raw is not None
        faults.append(F.when(raw.isNotNull() & moment.isNull(), "parse:tag_times"))
    key = F.col(quoted(collected.key)).cast("string")
    value = F.col(quoted(collected.value)).cast("string")
    faults += [
        F.when(key.isNull(), "required:item_id"),
        F.when(value.isNull(), f"required:{target}"),
    ]
    row = F.to_json(
        F.struct(*[F.col(quoted(name)) for name in sources]), {"ignoreNullFields": "false"}
    )
    kept = [FILE] if FILE in rows.columns else []
    typed = rows.select(
        *kept,
        key.alias("item_id"),
        value.alias("value"),
        moment.alias("time"),
        row.alias("row"),
        F.coalesce(*faults).alias("rule"),
    )
    entries = (
        typed.filter("rule IS NULL")
        .groupBy("item_id", "value")
        .agg(earliest("time").alias("time"))
        .groupBy("item_id")
        .agg(F.sort_array(F.collect_list(F.struct("time", "value"))).alias("entries"))
    )
    filled = items.drop(target).join(entries, "item_id", "left")
    filled = filled.withColumn(target, F.col("entries.value"))
    if target == "tags":
        filled = filled.withColumn("tag_times", F.col("entries.time"))
    bad = typed.filter("rule IS NOT NULL").select(
        F.lit("items").alias("table"), "row", "rule", *kept
    )
    return filled.select(items.columns), bad


def collect_vectors(
    items: DataFrame, rows: DataFrame, target: str, *, key: str, value: str
) -> tuple[DataFrame, DataFrame]:
    """Fills a column of vectors from a second source.

    Args:
        items: Typed items; their `target` is replaced.
        rows: The second source, one row per item; where an item has several, the least counts.
        target: Such as `video_embedding`.
        key: Its column with the item's id.
        value: Its column with the vector.

    Returns:
        The items, and the rows that could not be read, as from `map_rows`.
    """
    good, bad = map_rows(rows, "items", {"item_id": ColumnMap(key), target: ColumnMap(value)})
    vectors = good.groupBy("item_id").agg(F.min(target).alias(target))
    return items.drop(target).join(vectors, "item_id", "left").select(items.columns), bad


def deduplicate(df: DataFrame, table: str) -> tuple[DataFrame, Observation]:
    """Makes rows unique.

    Events are one row per `event_id` (the earliest, where rows of one id differ), follows one row
    per pair since its earliest time and none of a user to themself; of items and users exact copies
    go, and rows of one id that differ stay for the contract to judge.

    Returns:
        The rows, and an observation whose `get["rows"]` is, once the rows were written, how many
        came in; less the rows written, that is the number of duplicates, at no further pass.
    """
    observed = Observation(f"{table} before duplicates were dropped")
    df = df.observe(observed, F.count(F.lit(1)).alias("rows"))
    if table == "events":
        rest = [name for name in df.columns if name not in {"event_id", "timestamp"}]
        first = F.min(F.struct("timestamp", *rest)).alias("first")
        return df.groupBy("event_id").agg(first).select("event_id", "first.*").select(
            df.columns
        ), observed
    if table == "follows":
        pairs = df.filter("follower_id != followee_id").groupBy("follower_id", "followee_id")
        return pairs.agg(earliest("since").alias("since")), observed
    key = REQUIRED[table][0]
    hashed = df.withColumn("__digest", row_hash(df, df.columns))
    unique = hashed.dropDuplicates([key, "__digest"]).drop("__digest")
    return unique, observed


def earliest(column: str) -> Column:
    """Aggregates times to the earliest, where null means "from the start" and so wins."""
    return F.min(F.struct(F.col(column).isNotNull(), F.col(column).alias("moment")))["moment"]


def _content_id() -> Column:
    """128 bits of SHA-256 over what makes an event; the lengths keep fields apart."""
    parts: Sequence[Column] = [
        F.col("user_id"),
        F.col("item_id"),
        F.col("event_type"),
        F.unix_micros("timestamp").cast("string"),
        F.col("value").cast("string"),
        F.col("position").cast("string"),
    ]
    marked = [F.concat(F.length(part).cast("string"), F.lit(":"), part) for part in parts]
    text = F.concat_ws(",", *[F.coalesce(part, F.lit("-")) for part in marked])
    return F.substring(F.sha2(text, 256), 1, 32)
