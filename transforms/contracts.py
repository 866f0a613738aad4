"""Checks a frame against a contract before anything downstream may read it.

Great Expectations gives every verdict on rows. The frame is read once into a cache of probe columns
(see `transforms.contract_rules`); one pass over that cache says which rules hold, and only those
that do not are asked for counts. Rows of quarantining rules are then picked with the filters of the
same rules.

Great Expectations passes an empty frame by design, so emptiness is a finding of its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from transforms.contract_report import CheckResult, Finding, render_findings, write_data_docs
from transforms.contract_rules import (
    RULES,
    Check,
    Contract,
    OnFail,
    Rule,
    RuleError,
    Scope,
    finite_probe,
    reference_marker,
    validate,
)
from transforms.schemas import SENSITIVE_COLUMNS

__all__ = [
    "CheckResult",
    "Contract",
    "Finding",
    "OnFail",
    "Rule",
    "RuleError",
    "check",
    "render_findings",
    "write_data_docs",
]

_SAMPLES = 5
_BROKEN = "__broken_rules"
_ROW_TIME = "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"
_ORDER = {"block": 0, "quarantine": 1, "warn": 2}


def check(
    df: DataFrame,
    contract: Contract,
    *,
    interval_end: datetime,
    references: Mapping[str, DataFrame],
    source_columns: Sequence[str],
) -> CheckResult:
    """Checks every rule of a contract.

    Args:
        df: The rows of one table.
        contract: What they must satisfy.
        interval_end: Moment, aware, that every time must be strictly before.
        references: Frames by table name that `references` rules look up.
        source_columns: Names of the source's columns that were mapped to this table.

    Returns:
        The rows split into good ones and ones to set aside, and what broke. `good` and
        `quarantined` are lazy: they read `df` again when written.

    Raises:
        RuleError: The contract does not fit the table; see `contract_rules.validate`.
        ValueError: `interval_end` has no time zone.
    """
    if interval_end.tzinfo is None:
        raise ValueError(f"interval_end {interval_end} needs a time zone; give it in UTC")
    for rule in contract.rules:
        validate(rule, df, references, contract.table)
    scope = Scope(_with_markers(df, contract.rules, references), interval_end)
    checks = [
        build(rule, scope)
        for rule in contract.rules
        if (build := RULES[rule.name].build) is not None
    ]
    probes = {name: column for one in checks for name, column in one.probes.items()}
    if not probes:
        probes = {df.columns[0]: F.col(df.columns[0])}
    cache = scope.frame.select(*[column.alias(name) for name, column in probes.items()]).persist()
    try:
        rows = cache.count()
        validation, failures = _validate(cache, contract.table, checks, rows)
        findings = [
            _finding(checks[number], cache, contract.table, rows, failures[number])
            for number in failures
        ]
    finally:
        cache.unpersist()
    findings += _forbidden(contract, source_columns)
    setting_aside = [checks[n] for n in failures if checks[n].rule.on_fail == "quarantine"]
    good, quarantined = _split(scope, df.columns, contract.table, setting_aside)
    rows_quarantined = quarantined.count() if setting_aside else 0
    if rows == rows_quarantined and not contract.allow_empty:
        findings.append(_nothing_left(rows))
    findings.sort(key=lambda one: (_ORDER[one.on_fail], -one.rows_failed, one.rule, one.column))
    return CheckResult(
        table=contract.table,
        good=good,
        quarantined=quarantined,
        findings=findings,
        blocked=any(finding.on_fail == "block" for finding in findings),
        rows=rows,
        rows_quarantined=rows_quarantined,
        validation=validation,
    )


def _with_markers(
    df: DataFrame, rules: Sequence[Rule], references: Mapping[str, DataFrame]
) -> DataFrame:
    """Adds, for each `references` rule, whether the row's value is found; null when it is not."""
    for rule in rules:
        if rule.name != "references":
            continue
        marker, key = reference_marker(rule), f"{reference_marker(rule)}_key"
        known = references[rule.args["table"]].select(F.col(rule.args["to"]).alias(key)).distinct()
        known = known.withColumn(marker, F.lit(True))
        df = df.join(known, F.col(rule.column) == F.col(key), "left").drop(key)
    return df


def _validate(
    cache: DataFrame, table: str, checks: Sequence[Check], rows: int
) -> tuple[Any, dict[int, int | None]]:
    """Lets Great Expectations judge the probes.

    Returns:
        The validation result of the suite, and for each failed check its number and how many rows
        break it (None for a rule of the whole table).
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations import expectations
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # Its import sets the level to INFO, and a run is no place for its notes on temporary folders.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    source = context.data_sources.add_spark(table, persist=False)
    asset = source.add_dataframe_asset(table)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": cache})

    def judge(numbers: Sequence[int], result_format: str) -> dict[int, Any]:
        chosen = []
        for number in numbers:
            one = checks[number]
            mostly = {"mostly": one.rule.mostly} if one.rule.mostly < 1.0 else {}
            expectation = getattr(expectations, one.expectation)
            chosen.append(expectation(**one.kwargs, **mostly, meta={"number": number}))
        suite = gx.ExpectationSuite(table, expectations=chosen)
        # Values stay out: they would put ids and sensitive columns into the pages.
        options = {"result_format": result_format, "exclude_unexpected_values": True}
        results = batch.validate(suite, result_format=options).results
        judged = {result.expectation_config.meta["number"]: result for result in results}
        for number, result in judged.items():
            _raise_if_broken(table, checks[number].rule, result)
        return judged

    judged = judge(range(len(checks)), "BOOLEAN_ONLY")
    failed = [number for number, result in sorted(judged.items()) if not result.success]
    if failed:
        judged |= judge(failed, "BASIC")
    for number, result in judged.items():
        if result.success and checks[number].rule.mostly == 1.0:
            # A pass without exceptions has no bad row; the pages would say "unknown %".
            result.result |= {
                "element_count": rows,
                "unexpected_count": 0,
                "unexpected_percent": 0.0,
            }
    passed = len(judged) - len(failed)
    validation = ExpectationSuiteValidationResult(
        success=not failed,
        results=[judged[number] for number in sorted(judged)],
        suite_name=table,
        statistics={
            "evaluated_expectations": len(judged),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(failed),
            "success_percent": 100 * passed / len(judged) if judged else None,
        },
        meta={},
    )
    return validation, {n: judged[n].result.get("unexpected_count") for n in failed}


def _raise_if_broken(table: str, rule: Rule, result: Any) -> None:
    """Turns an error that Great Expectations caught inside a rule back into an error."""
    info = result.exception_info
    for one in [info] if "raised_exception" in info else info.values():
        if one["raised_exception"]:
            raise RuntimeError(
                f"contract {table}, rule {rule.label} could not be judged: "
                f"{one['exception_message']}"
            )


def _finding(
    check: Check, cache: DataFrame, table: str, rows: int, unexpected: int | None
) -> Finding:
    rule = check.rule
    rows_failed = rows if unexpected is None else unexpected
    whole = RULES[rule.name].text(rule)
    if rule.name == "row_count":
        message = f"{rows:,} rows {whole}"
    else:
        message = f"{rows_failed:,} of {rows:,} rows {whole}"
    sample: tuple[str, ...] = ()
    if not set(rule.columns) & set(SENSITIVE_COLUMNS.get(table, ())):
        sample = _sample(check, cache)
    if rule.name == "finite":
        kinds = cache.where(check.broken).groupBy(finite_probe(rule.column)).count().collect()
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(map(tuple, kinds)))
        message += f" Found: {counts} (null counts as missing, not as one of these)."
        sample = ()
    share = rows_failed / rows if rows else 0.0
    return Finding(rule.name, rule.column, rule.on_fail, rows_failed, share, sample, message)


def _sample(check: Check, cache: DataFrame) -> tuple[str, ...]:
    """At most five distinct values, the first in text order so that a rerun shows the same."""
    if check.rule.name == "unique":
        keys = list(check.rule.columns)
        repeated = cache.groupBy(*keys).count().where(F.col("count") > 1).dropna(subset=keys)
        values = repeated.select(F.concat_ws(" + ", *[F.col(k).cast("string") for k in keys]))
    elif check.shown:
        values = cache.where(check.broken).select(F.col(check.shown).cast("string")).distinct()
    else:
        return ()
    return tuple(repr(row[0]) for row in values.orderBy(values.columns[0]).head(_SAMPLES))


def _forbidden(contract: Contract, source_columns: Sequence[str]) -> list[Finding]:
    """Rules on names of source columns: no row is read, so there is nothing to ask of GX."""
    findings = []
    for rule in contract.rules:
        if rule.name != "forbidden_columns":
            continue
        mapped = [column for column in rule.columns if column in set(source_columns)]
        if mapped:
            names = ", ".join(mapped[:_SAMPLES])
            if len(mapped) > _SAMPLES:
                names += f" and {len(mapped) - _SAMPLES} more"
            message = f"Source columns {names} {RULES[rule.name].text(rule)}"
            column = "+".join(mapped)
            findings.append(Finding(rule.name, column, rule.on_fail, 0, 0.0, (), message))
    return findings


def _nothing_left(rows: int) -> Finding:
    if rows:
        message = (
            f"All {rows:,} rows were set aside, so the table would be empty. Mend the source, or "
            "the rules that set rows aside."
        )
    else:
        message = (
            "The table has no rows. Check the source's path and the interval, or set "
            "`allow_empty: true` in the contract if that can happen."
        )
    return Finding("allow_empty", "", "block", rows, 1.0, (), message)


def _split(
    scope: Scope, columns: Sequence[str], table: str, setting_aside: Sequence[Check]
) -> tuple[DataFrame, DataFrame]:
    """Splits rows into good ones and ones to set aside, each once with the labels it breaks."""
    flagged = scope.frame
    for check in setting_aside:
        derived = {name: value for name, value in check.probes.items() if name not in columns}
        flagged = flagged.withColumns(derived)
    broken = [
        F.when(check.broken, F.lit(check.rule.label))
        for check in setting_aside
        if check.broken is not None
    ]
    empty = F.array().cast("array<string>")
    flagged = flagged.withColumn(_BROKEN, F.array_compact(F.array(*broken)) if broken else empty)
    for check in setting_aside:
        if check.rule.name == "unique":
            flagged = _flag_copies(flagged, check.rule, columns)
    good = flagged.where(F.size(_BROKEN) == 0).select(*columns)
    aside = flagged.where(F.size(_BROKEN) > 0).select(
        F.lit(table).alias("table"),
        F.to_json(F.struct(*columns), {"timestampFormat": _ROW_TIME}).alias("row"),
        F.array_join(_BROKEN, ", ").alias("rule"),
        F.lit(scope.interval_end).cast("timestamp").alias("interval_end"),
    )
    return good, aside


def _flag_copies(flagged: DataFrame, rule: Rule, columns: Sequence[str]) -> DataFrame:
    """Flags all rows but one of each key.

    The one that stays breaks the fewest other rules; among those a hash of the whole row decides,
    so that the choice does not depend on the order in which rows arrive.
    """
    order = [F.size(_BROKEN), F.xxhash64(*[_hashable(flagged, column) for column in columns])]
    number = F.row_number().over(Window.partitionBy(*rule.columns).orderBy(*order))
    complete = reduce(Column.__and__, [F.col(column).isNotNull() for column in rule.columns])
    copy = F.when(complete & (F.col("__copy") > 1), F.lit(rule.label))
    return (
        flagged.withColumn("__copy", number)
        .withColumn(_BROKEN, F.array_compact(F.array_append(_BROKEN, copy)))
        .drop("__copy")
    )


def _hashable(frame: DataFrame, column: str) -> Column:
    """The column, or its JSON for a map, which Spark does not hash."""
    if "map<" in frame.schema[column].dataType.simpleString():
        return F.to_json(column)
    return F.col(column)
