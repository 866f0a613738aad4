"""Counts what a contract's rules ask for: one pass over the rows, whatever the number of rules.

Everything that single rows decide, what other tables hold for them included, and every aggregate
of rules about the table is one aggregation. `unique` depends on other rows and shuffles only its
own columns: as 64-bit hashes first (keys with distinct hashes are distinct, so exact keys are
looked at only where hashes meet). These jobs run beside each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.contract_model import Measured, RowCheck, Rule, Scope, TableCheck
from transforms.contract_row_rules import KINDS, finite_probe, looked_up

_SAMPLES = 5
_JOBS = 4
_READ = "__read"


@dataclass(frozen=True)
class Tally:
    """What was counted for one row rule."""

    judged: int
    """Rows that have all the values the rule looks at."""
    broken: int
    kinds: tuple[tuple[str, int], ...] = ()
    """For `finite`: how many are of which kind, nulls among them."""


@dataclass(frozen=True)
class Counted:
    """What one look at a frame says of all its rules."""

    rows: int
    tallies: Mapping[int, Tally]
    """By the number of the row check."""
    measured: Mapping[int, Measured]
    """By the number of the table check."""


def with_lookups(
    df: DataFrame, rules: Sequence[Rule], references: Mapping[str, DataFrame]
) -> DataFrame:
    """Adds, for each rule on another table, the value that its row is held against."""
    for rule in rules:
        if rule.args.get("table") is None or (name := looked_up(rule)) in df.columns:
            continue
        other = references[rule.args["table"]]
        if rule.name == "references":
            key, others_key, value = rule.column, rule.args["to"], F.lit(True)
        else:
            key = others_key = rule.args["key"]
            value = F.max(rule.args["limit"])
        known = other.groupBy(F.col(others_key).alias("__key")).agg(value.alias(name))
        df = df.join(known, F.col(key) == F.col("__key"), "left").drop("__key")
    return df


def probed(frame: DataFrame, checks: Sequence[RowCheck]) -> DataFrame:
    """The frame with the probes of row checks that are no columns of it."""
    derived = {
        name: column
        for check in checks
        for name, column in check.probes.items()
        if name not in frame.columns
    }
    return frame.withColumns(derived) if derived else frame


def count(
    scope: Scope,
    rows: Mapping[int, RowCheck],
    tables: Mapping[int, TableCheck],
    history: DataFrame | None,
) -> Counted:
    """Counts everything that row and table checks ask for.

    Args:
        scope: The frame with its lookups.
        rows: Row checks by their number.
        tables: Table checks by their number.
        history: Rows of the past, with the frame's columns.
    """
    wanted: dict[str, Column] = {
        "rows": F.count(F.lit(1)),
        # A bare count is answered from Delta's log, whether or not the files are still there.
        _READ: F.bit_xor(F.xxhash64(F.col(_readable(scope.frame)))),
    }
    for number, check in rows.items():
        wanted.setdefault(_judged(check), F.count_if(complete(check)))
        if check.broken is None or check.only_presence:
            continue
        wanted[f"broken {number}"] = F.count_if(check.broken)
        if check.rule.name == "finite":
            kind = F.col(finite_probe(check.rule.column))
            wanted |= {f"{name} {number}": F.count_if(kind == name) for name in KINDS}
    for number, table in tables.items():
        wanted |= {f"{name} {number}": column for name, column in table.now.items()}
    # Side by side: while one job is planned or waits for its last task, another uses the cores.
    with ThreadPoolExecutor(_JOBS) as jobs:
        rows_pass = jobs.submit(_aggregate, probed(scope.frame, list(rows.values())), wanted)
        history_pass = jobs.submit(_past, tables, history)
        apart = {
            number: jobs.submit(_copies, scope.frame, check.rule)
            for number, check in rows.items()
            if check.rule.name == "unique"
        }
        found, past = rows_pass.result(), history_pass.result()
        broken = {number: job.result() for number, job in apart.items()}
    total: int = found["rows"]
    tallies = {}
    for number, check in rows.items():
        judged = found[_judged(check)]
        if check.only_presence:
            broken[number] = total - judged
        elif check.broken is not None:
            broken[number] = found[f"broken {number}"]
        kinds: tuple[tuple[str, int], ...] = ()
        if check.rule.name == "finite":
            kinds = tuple((name, found[f"{name} {number}"]) for name in KINDS)
            kinds += (("null", total - judged),)
        tallies[number] = Tally(judged, broken[number], tuple(one for one in kinds if one[1]))
    measured = {
        number: Measured(
            total,
            {name: found[f"{name} {number}"] for name in table.now},
            None if past is None else {name: past[f"{name} {number}"] for name in table.past},
        )
        for number, table in tables.items()
    }
    return Counted(total, tallies, measured)


def _judged(check: RowCheck) -> str:
    return f"judged {', '.join(check.subjects)}"


def complete(check: RowCheck) -> Column:
    """Whether a row has all the values that a check looks at."""
    return reduce(Column.__and__, [F.col(name).isNotNull() for name in check.subjects])


def repeated(frame: DataFrame, columns: Sequence[str]) -> DataFrame:
    """The keys that several rows share, each once, with `count`; incomplete keys are left out."""
    keys = frame.dropna(subset=list(columns)).groupBy(*columns).count()
    return keys.where(F.col("count") > 1)


def samples(scope: Scope, broken: Mapping[int, RowCheck]) -> dict[int, tuple[str, ...]]:
    """At most five distinct values that break each rule, the first in text order.

    So that a rerun shows the same. One job for all rules that single rows decide.

    Args:
        scope: The frame with its lookups.
        broken: The checks to show values of, by their number.
    """
    found: dict[int, tuple[str, ...]] = {}
    single = {n: c for n, c in broken.items() if c.broken is not None and c.shown}
    for number, check in broken.items():
        if check.rule.name == "unique":
            names = [F.col(column).cast("string") for column in check.rule.columns]
            values = repeated(scope.frame, check.rule.columns).select(F.concat_ws(" + ", *names))
            found[number] = tuple(r[0] for r in values.orderBy(values.columns[0]).head(_SAMPLES))
    if single:
        shown = F.array_compact(
            F.array(
                *[
                    F.when(
                        check.broken,
                        F.struct(
                            F.lit(number).alias("number"),
                            F.col(check.shown).cast("string").alias("value"),
                        ),
                    )
                    for number, check in single.items()
                ]
            )
        )
        frame = probed(scope.frame, list(single.values()))
        values = frame.select(F.inline(shown)).distinct()
        # Ranked before it is collected: a rule may be broken by millions of values.
        rank = F.row_number().over(Window.partitionBy("number").orderBy("value"))
        first = values.withColumn("rank", rank).where(F.col("rank") <= _SAMPLES)
        for number in single:
            found[number] = ()
        for row in sorted(first.drop("rank").collect()):
            found[row["number"]] += (row["value"],)
    return found


def _aggregate(frame: DataFrame, wanted: Mapping[str, Column]) -> dict[str, Any]:
    row = frame.agg(*[column.alias(f"c{n}") for n, column in enumerate(wanted.values())]).collect()
    return dict(zip(wanted, row[0], strict=True))


def _readable(frame: DataFrame) -> str:
    """A column that can be hashed and is cheap to read: the first that is no map or list."""
    cheap = [f.name for f in frame.schema.fields if "<" not in f.dataType.simpleString()]
    return cheap[0]


def _copies(frame: DataFrame, rule: Rule) -> int:
    """How many rows share a complete key with another row."""
    columns = rule.columns
    keys = frame.dropna(subset=list(columns)).select(F.xxhash64(*columns).alias("key"))
    groups = keys.groupBy("key").count().where(F.col("count") > 1)
    suspect = _total(groups)
    return _total(repeated(frame, columns)) if suspect else 0


def _total(groups: DataFrame) -> int:
    rows: int | None = groups.agg(F.sum("count")).collect()[0][0]
    return rows or 0


def _past(tables: Mapping[int, TableCheck], history: DataFrame | None) -> dict[str, Any] | None:
    wanted = {
        f"{name} {number}": column
        for number, table in tables.items()
        for name, column in table.past.items()
    }
    if history is None:
        return None
    return _aggregate(history, wanted) if wanted else {}
