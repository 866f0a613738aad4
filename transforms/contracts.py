"""Checks a frame against a contract before anything downstream may read it.

All rules of a table are counted in one pass (`contract_tally`), Great Expectations decides from
those counts (`contract_verdicts`), and rows of broken quarantining rules are picked with the
filters of the same rules (`contract_split`).

Great Expectations passes an empty frame by design, so emptiness is a finding of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pyspark.sql import DataFrame

from transforms.contract_model import (
    Check,
    Contract,
    OnFail,
    RowCheck,
    Rule,
    RuleError,
    Scope,
    TableCheck,
)
from transforms.contract_report import CheckResult, Finding, render_findings, write_data_docs
from transforms.contract_rules import RULES, validate
from transforms.contract_split import split
from transforms.contract_tally import Counted, count, samples, with_lookups
from transforms.contract_verdicts import judge, load_in_background
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

_NAMED = 5
_ORDER = {"block": 0, "quarantine": 1, "warn": 2}
_SIX_HOURS = timedelta(hours=6)


def check(
    df: DataFrame,
    contract: Contract,
    *,
    interval_end: datetime,
    interval_start: datetime | None = None,
    references: Mapping[str, DataFrame],
    source_columns: Sequence[str],
    history: DataFrame | None = None,
) -> CheckResult:
    """Checks every rule of a contract.

    Args:
        df: The rows of one table.
        contract: What they must satisfy.
        interval_end: Moment, aware, that every time must be strictly before.
        interval_start: Start of the interval, for the rules `freshness` and `volume`; six hours
            before its end unless given.
        references: Frames by table name that `references` and `at_most` rules look up.
        source_columns: Names of the source's columns that were mapped to this table.
        history: The same table as it stood before: `volume` and `freshness` read the times of
            earlier rows, `size_change` counts it. Without one they judge what `df` tells.

    Returns:
        The rows split into good ones and ones to set aside, and what broke. `good` and
        `quarantined` are lazy: they read `df` again when written.

    Raises:
        RuleError: The contract does not fit the table; see `contract_rules.validate`.
        ValueError: `interval_end` has no time zone.
    """
    if interval_end.tzinfo is None:
        raise ValueError(f"interval_end {interval_end} needs a time zone; give it in UTC")
    loading = load_in_background()
    for rule in contract.rules:
        validate(rule, df, references, contract.table)
    scope = Scope(
        with_lookups(df, contract.rules, references),
        interval_start or interval_end - _SIX_HOURS,
        interval_end,
        contract.allow_empty,
        references,
    )
    checks = [
        build(rule, scope)
        for rule in contract.rules
        if (build := RULES[rule.name].build) is not None
    ]
    row_checks = {n: one for n, one in enumerate(checks) if isinstance(one, RowCheck)}
    table_checks = {n: one for n, one in enumerate(checks) if isinstance(one, TableCheck)}
    counted = count(scope, row_checks, table_checks, history)
    loading.join()
    validation, failures = judge(contract.table, checks, counted)
    findings = _findings(scope, contract.table, checks, counted, failures)
    findings += _forbidden(contract, source_columns)
    setting_aside = [
        one for n, one in row_checks.items() if n in failures and one.rule.on_fail == "quarantine"
    ]
    good, quarantined = split(df, scope, contract.table, setting_aside)
    # A row may break several rules, so only the rows themselves say how many there are.
    rows_quarantined = quarantined.count() if setting_aside else 0
    if counted.rows == rows_quarantined and not contract.allow_empty:
        findings.append(_nothing_left(counted.rows))
    findings.sort(key=lambda one: (_ORDER[one.on_fail], -one.rows_failed, one.rule, one.column))
    return CheckResult(
        table=contract.table,
        good=good,
        quarantined=quarantined,
        findings=findings,
        blocked=any(finding.on_fail == "block" for finding in findings),
        rows=counted.rows,
        rows_quarantined=rows_quarantined,
        validation=validation,
    )


def _findings(
    scope: Scope, table: str, checks: Sequence[Check], counted: Counted, failures: Mapping[int, str]
) -> list[Finding]:
    """What broke, with samples of values where none of the rule's columns is sensitive."""
    sensitive = set(SENSITIVE_COLUMNS.get(table, ()))
    shown = samples(
        scope,
        {
            number: check
            for number in failures
            if isinstance(check := checks[number], RowCheck)
            and not sensitive & set(check.rule.columns)
            and check.rule.name != "finite"
        },
    )
    findings = []
    for number, message in failures.items():
        rule = checks[number].rule
        finding = Finding(
            rule.name, rule.column, rule.on_fail, counted.rows, float(counted.rows > 0), (), message
        )
        if number in counted.tallies:
            finding = _of_rows(finding, rule, counted, number, shown.get(number, ()))
        findings.append(finding)
    return findings


def _of_rows(
    finding: Finding, rule: Rule, counted: Counted, number: int, sample: tuple[str, ...]
) -> Finding:
    """A finding about single rows: how many, of which kind, with which values."""
    tally = counted.tallies[number]
    text = RULES[rule.name].text
    assert text is not None, "a rule about rows says what broke"
    message = f"{tally.broken:,} of {counted.rows:,} rows {text(rule)}"
    if tally.kinds:
        found = ", ".join(f"{rows:,} {kind}" for kind, rows in tally.kinds if kind != "null")
        missing = dict(tally.kinds).get("null", 0)
        message += f" Found: {found}" + (
            f"; beside them {missing:,} null, which count as missing." if missing else "."
        )
    share = tally.broken / counted.rows if counted.rows else 0.0
    return replace(
        finding,
        rows_failed=tally.broken,
        share=share,
        sample=tuple(map(repr, sample)),
        message=message,
        kinds=tally.kinds,
    )


def _forbidden(contract: Contract, source_columns: Sequence[str]) -> list[Finding]:
    """Rules on names of source columns: no row is read, so there is nothing to ask of GX."""
    findings = []
    for rule in contract.rules:
        if rule.name != "forbidden_columns":
            continue
        mapped = [column for column in rule.columns if column in set(source_columns)]
        if mapped:
            names = ", ".join(mapped[:_NAMED])
            if len(mapped) > _NAMED:
                names += f" and {len(mapped) - _NAMED} more"
            text = RULES[rule.name].text
            assert text is not None
            message = f"Source columns {names} {text(rule)}"
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
