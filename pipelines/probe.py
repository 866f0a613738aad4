"""``sextant probe``: which columns know the future.

Three looks, each at what the others cannot see. Every column of the sources of items and users,
mapped or not, is held against the events after a cut (`transforms.probe` says how). Feature columns
of the examples are held against the labels of later examples. And a future is planted into the
tables: features as of a moment must not notice it, which is exact and needs no statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.errors import StageError
from pipelines.intervals import Interval
from pipelines.probe_report import Finding, Probe
from pipelines.project import Project
from pipelines.runner import Runner

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from pyspark.sql import DataFrame

    from pipelines.sources import TableSource

_IDS = {"items": "item_id", "users": "user_id"}
_MAX_ROWS = 200_000
"""Ids judged of each table, at most: enough for any significance, and it fits in memory."""
_PLACES = 200
"""Examples into whose future something is planted."""
_NEEDED = ("event_id", "user_id", "item_id", "timestamp", "label")
_OUTCOMES = ("strength", "label", "watch_share", "rating")
"""Numbers of `examples` that are no features: they say what happened."""
_NUMBERS = ("double", "bigint", "int", "boolean")


def probe(
    project: Project, runner: Runner, interval: Interval, *, allowed: Sequence[str] = ()
) -> Probe:
    """Look for columns that know the future.

    Args:
        project: The pipeline; its examples must have been built for the interval.
        runner: Its tables and Spark.
        interval: Only what lies before its end is looked at.
        allowed: Columns to pass over, as `items.price`.

    Raises:
        StageError: When there are no examples yet, or too few to judge by.
    """
    import numpy as np

    rows = _examples(project, runner, interval)
    cut = int(np.median(_micros(rows["timestamp"])))
    judged: dict[str, int] = {}
    sources: dict[str, str] = {}
    found: list[Finding] = []
    for table in _IDS:
        looked_at = _look_at_table(project, runner, table, rows, cut)
        if looked_at is not None:
            judged[table], sources[table], findings = looked_at
            found += findings
    names, findings = _look_at_features(rows)
    judged["examples"], sources["examples"] = len(names), "the stage `examples`"
    found += findings
    found += _plant(project, runner, interval, rows)
    kept = tuple(one for one in found if f"{one.table}.{one.column}" not in allowed)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=cut)
    return Probe(interval, moment, judged, sources, kept)


def _examples(project: Project, runner: Runner, interval: Interval) -> pa.Table:
    """The examples before the interval's end, each once, in order of time."""
    import numpy as np
    import pyarrow.compute as pc

    step = next(step for step in project.steps if step.name == "examples")
    if runner.history.last_success(step.name, interval) is None:
        raise StageError(
            f"The probe needs the examples of the interval that ends at {interval.end_text}.",
            next_command=project.command("run", interval, "--select", f"+{step.name}"),
        )
    kinds = runner.lake.spark(runner.engines.spark, "examples").dtypes
    numbers = [name for name, kind in kinds if kind in _NUMBERS]
    rows = runner.lake.arrow(
        "examples",
        columns=list(dict.fromkeys((*_NEEDED, *numbers))),
        before={"timestamp": interval.end},
    )
    if pc.count_distinct(rows["event_id"]).as_py() < rows.num_rows:
        # Windows of several intervals overlap.
        _, first = np.unique(rows["event_id"].to_numpy(zero_copy_only=False), return_index=True)
        rows = rows.take(first)
    if not rows.num_rows:
        raise StageError(f"There are no examples before {interval.end_text} to judge columns by.")
    return rows.sort_by([("timestamp", "ascending"), ("event_id", "ascending")])


def _look_at_table(
    project: Project, runner: Runner, table: str, rows: pa.Table, cut: int
) -> tuple[int, str, list[Finding]] | None:
    """Number of columns, where they come from and what was found; None without such columns."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from transforms.probe import Log, column_leaks, later_rows

    frames = _source_columns(project, runner, table)
    if frames is None:
        return None
    frame, origin, mapped = frames
    columns = _sampled(frame).toArrow()
    ids = columns["id"].combine_chunks()
    own = pc.index_in(rows[_IDS[table]].cast(pa.string()), value_set=ids.cast(pa.string()))
    has_row = own.is_valid()
    seen, own = rows.filter(has_row), own.drop_null()
    other = seen[{"items": "user_id", "users": "item_id"}[table]].combine_chunks()
    times = _micros(seen["timestamp"])
    codes = own.to_numpy().astype(np.int64)
    first = np.full(len(ids), np.iinfo(np.int64).max)
    np.minimum.at(first, codes, times)
    log = Log(
        ids=codes,
        others=other.dictionary_encode().indices.to_numpy().astype(np.int64),
        times=times,
        positives=seen["label"].to_numpy() > 0.5,
        cut=cut,
        known=(first < cut) | (_created(runner, table, ids) < cut),
        noun=table,
    )
    values, moments = _values(columns)
    found = [*column_leaks(values, log), *later_rows(moments, log)]
    findings = [
        Finding(table, leak.column, mapped.get(leak.column, ()), leak.kind,
                round(leak.strength, 4), leak.evidence)
        for leak in found
    ]  # fmt: skip
    return len(values) + len(moments), origin, findings


def _source_columns(
    project: Project, runner: Runner, table: str
) -> tuple[DataFrame, str, dict[str, tuple[str, ...]]] | None:
    """The columns of a table's source, where they come from, and what the spec maps them to."""
    from transforms.probe_frames import plain_columns

    sources = project.pipeline.sources
    key = _IDS[table]
    if sources.demo is not None:
        rows = runner.lake.spark(runner.engines.spark, table)
        frame = plain_columns(rows, key, {})
        return frame, "the simulator", {name: (name,) for name in rows.columns}
    source: TableSource | None = getattr(sources, table)
    if source is None:
        return None
    from pipelines.stages.source_frames import frame as read

    declared = source.columns.mapped()
    id_column = declared[key].from_
    assert id_column is not None, "a table's key comes from its source"
    mapped: dict[str, tuple[str, ...]] = {}
    lists = {}
    for name, column in declared.items():
        for origin in column.sources:
            mapped[origin] = (*mapped.get(origin, ()), name)
            separator = getattr(column, "split", None)
            if separator is not None:
                lists[origin] = separator
    rows = read(runner.engines.spark, project, source, [id_column])
    return plain_columns(rows, id_column, lists), source.path, mapped


def _sampled(frame: DataFrame) -> DataFrame:
    """The rows, one an id; of a large table the ids of a fixed share of hashes."""
    from pyspark.sql import functions as F

    share = -(-frame.count() // _MAX_ROWS)
    if share > 1:
        frame = frame.filter(F.pmod(F.xxhash64("id"), F.lit(share)) == 0)
    return frame.dropDuplicates(["id"]).filter(F.col("id").isNotNull()).orderBy("id")


def _created(runner: Runner, table: str, ids: pa.Array) -> np.ndarray:
    """(N,) µs since 1970 at which each id came; the far future where it is not known."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = runner.lake.arrow(table, columns=[_IDS[table], "created_at"])
    place = pc.index_in(ids.cast(pa.string()), value_set=rows[_IDS[table]].combine_chunks())
    created = rows["created_at"].cast(pa.int64()).combine_chunks().take(place)
    known: np.ndarray = pc.fill_null(created, np.iinfo(np.int64).max).to_numpy()
    return known


def _values(columns: pa.Table) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Columns as the probe takes them, and among them those of times (µs since 1970)."""
    import numpy as np
    import pandas as pd

    values: dict[str, np.ndarray] = {}
    moments: dict[str, np.ndarray] = {}
    for name in columns.column_names:
        if name == "id":
            continue
        column = columns[name].to_pandas()
        if name.endswith("@time"):
            moments[name.removesuffix("@time")] = column.to_numpy(float)
        elif column.dtype != object:
            values[name] = column.to_numpy(float)
        elif _mostly(numbers := pd.to_numeric(column, errors="coerce"), column):
            values[name] = np.where(np.isfinite(numbers), numbers, np.nan)
        elif _mostly(dates := _dates(column), column):
            moments[name] = dates.to_numpy(float)
        else:
            values[name] = column.where(column.notna(), None).to_numpy(object)
    return values, moments


def _dates(column: Any) -> Any:
    """Texts that begin with a date as µs since 1970, NaN where they do not."""
    import pandas as pd

    dated = column.where(column.str.match(r"\d{4}-\d\d-\d\d", na=False))
    found = pd.to_datetime(dated, errors="coerce", utc=True, format="ISO8601")
    return (found - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(microseconds=1)


def _mostly(converted: Any, column: Any) -> bool:
    filled = int(column.notna().sum())
    return filled > 0 and int(converted.notna().sum()) >= 0.95 * filled


def _look_at_features(rows: pa.Table) -> tuple[list[str], list[Finding]]:
    import numpy as np
    import pyarrow as pa

    from transforms.probe import feature_leaks

    owners = {
        owner: rows[f"{owner}_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        for owner in ("user", "item")
    }
    features, owner_of = {}, {}
    for name in rows.column_names:
        if name in (*_NEEDED, *_OUTCOMES):
            continue
        values = rows[name].cast(pa.float64()).to_numpy()
        features[name] = np.where(np.isfinite(values), values, np.nan)
        owner_of[name] = owners["item" if name.startswith("item_") else "user"]
    found = feature_leaks(
        features, owner_of, _micros(rows["timestamp"]), rows["label"].to_numpy() > 0.5
    )
    return list(features), [
        Finding("examples", leak.column, (), leak.kind, round(leak.strength, 4), leak.evidence)
        for leak in found
    ]


def _plant(
    project: Project, runner: Runner, interval: Interval, rows: pa.Table
) -> Iterator[Finding]:
    """Features that a planted future moves."""
    from pyspark.sql import functions as F

    from transforms.probe_frames import plant

    spark, lake = runner.engines.spark, runner.lake
    places = _places(runner, rows)
    users = spark.createDataFrame(
        [(one.user_id, one.at) for one in places], "user_id string, as_of timestamp"
    )
    items = spark.createDataFrame(
        [(one.item_id, one.at) for one in places], "item_id string, as_of timestamp"
    )
    log = lake.spark(spark, "events").filter(F.col("timestamp") < F.lit(interval.end))
    touched = log.join(F.broadcast(users.select("user_id")), "user_id", "semi").unionByName(
        log.join(F.broadcast(items.select("item_id")), "item_id", "semi")
    )
    # What a place's user did with a place's item is in both parts.
    touched = touched.dropDuplicates(["event_id"]).localCheckpoint()
    named = lake.spark(spark, "items").join(F.broadcast(items.select("item_id")), "item_id", "semi")
    named, follows = named.localCheckpoint(), lake.spark(spark, "follows")
    profiles = lake.spark(spark, "users")
    true = features_of(project, users, items, touched, named, profiles, follows)
    later = plant(places, touched, named, follows)
    told = features_of(project, users, items, later[0], later[1], profiles, later[2])
    for table, frame in true.items():
        key = frame.columns[0]
        before = {(row[key], row["as_of"]): row.asDict() for row in frame.collect()}
        after = {(row[key], row["as_of"]): row.asDict() for row in told[table].collect()}
        for name in frame.columns:
            moved = sum(row[name] != after[place][name] for place, row in before.items())
            if moved:
                share = moved / len(before)
                words = (
                    f"{moved} of {len(before)} values change when events of the same moment and "
                    "of a second later are added"
                )
                yield Finding(table, name, (), "planted", round(share, 4), words)


def features_of(
    project: Project,
    users: DataFrame,
    items: DataFrame,
    events: DataFrame,
    catalogue: DataFrame,
    profiles: DataFrame,
    follows: DataFrame,
) -> dict[str, DataFrame]:
    """The features as of points, by table: the functions that fill tables and examples."""
    from transforms.behaviour import item_engagement, user_behaviour
    from transforms.item_features import item_features
    from transforms.user_features import user_features

    options = project.pipeline.features
    behaved = user_behaviour(
        users, events, catalogue, history=options.history, session_gap=options.session_gap
    )
    return {
        "user_features": user_features(
            behaved, profiles, follows, history=options.history, interests=options.interests
        ),
        "item_features": item_features(
            item_engagement(items, events), catalogue, profiles, follows,
            categories=options.categories,
        ),
    }  # fmt: skip


def _places(runner: Runner, rows: pa.Table) -> list[Any]:
    """The latest examples of which no two share a user, an item or an author."""
    from transforms.probe_frames import Place

    catalogue = runner.lake.arrow("items", columns=["item_id", "author_id"])
    author_of = dict(
        zip(catalogue["item_id"].to_pylist(), catalogue["author_id"].to_pylist(), strict=True)
    )
    latest = rows.slice(max(0, rows.num_rows - 50 * _PLACES)).select(
        ["user_id", "item_id", "timestamp"]
    )
    people: set[str] = set()
    used: set[str] = set()
    places: list[Any] = []
    for row in reversed(latest.to_pylist()):
        author = author_of.get(row["item_id"])
        involved = {one for one in (row["user_id"], author) if one is not None}
        if row["item_id"] in used or people & involved:
            continue
        people |= involved
        used.add(row["item_id"])
        places.append(Place(row["user_id"], row["item_id"], author, row["timestamp"]))
        if len(places) == _PLACES:
            break
    return places


def _micros(column: pa.ChunkedArray) -> np.ndarray:
    import pyarrow as pa

    times: np.ndarray = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    return times
