"""What each contract rule means: a Great Expectations check, a Spark filter and a text.

Great Expectations gives the verdict; the filter of the same rule picks the rows to set aside,
because its complete result formats list every failing row (megabytes of JSON for a bad day).

A rule is checked on *probes*: the column itself, or a column derived from it when Great
Expectations has no expectation of that kind on Spark (the width of an array, the kind of a number,
whether an id is found in another table). Probes also keep embeddings out of the cache: only their
width or presence is kept. All row rules but `not_null` pass a null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Literal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

OnFail = Literal["block", "quarantine", "warn"]


class RuleError(ValueError):
    """A contract asks for something that its table, its type or its references cannot answer."""


@dataclass(frozen=True)
class Rule:
    """One rule of a contract."""

    name: str
    """Kind of the rule, a key of `RULES`."""
    columns: tuple[str, ...]
    """Columns it is about; for `forbidden_columns` those of the source. Empty for `row_count`."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Its settings, named as in the contract file."""
    on_fail: OnFail = "block"
    mostly: float = 1.0
    """Share of the non-null values that must pass; below 1 only with `block` or `warn`."""

    @property
    def column(self) -> str:
        """The columns as one name, such as `user_id+rank`; empty for a rule of the table."""
        return "+".join(self.columns)

    @property
    def label(self) -> str:
        """Name in the quarantine and in findings, such as `between:watch_seconds`."""
        return f"{self.name}:{self.column}" if self.columns else self.name


@dataclass(frozen=True)
class Contract:
    """What the rows of one table must satisfy."""

    table: str
    allow_empty: bool
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Scope:
    """What rules may refer to beside the rows themselves."""

    frame: DataFrame
    """The rows, with one marker column for each `references` rule."""
    interval_end: datetime


@dataclass(frozen=True)
class Check:
    """A rule made ready for one frame."""

    rule: Rule
    probes: Mapping[str, Column]
    """Columns to check, by the name Great Expectations reports."""
    expectation: str
    """Class name in `great_expectations.expectations`."""
    kwargs: Mapping[str, Any]
    broken: Column | None
    """True for a row to set aside; None for `unique`, which depends on other rows, and for rules
    of the whole table."""
    shown: str
    """Probe whose values are shown as samples; empty when there is none worth showing."""


@dataclass(frozen=True)
class Kind:
    """One kind of rule: its settings and what it does."""

    required: tuple[str, ...]
    """Settings that must be there."""
    fits: Callable[[T.DataType], bool]
    """Whether a column of that type can be checked."""
    fits_text: str
    row_rule: bool
    """Whether single rows break it, so that they can be quarantined."""
    build: Callable[[Rule, Scope], Check] | None
    """None for rules on the source's columns, which need no data."""
    text: Callable[[Rule], str]
    """What broke and what to do; the number of rows is put before it."""


def _is_number(dtype: T.DataType) -> bool:
    return isinstance(dtype, T.NumericType)


def _holds_numbers(dtype: T.DataType) -> bool:
    return _is_number(dtype) or (
        isinstance(dtype, T.ArrayType) and isinstance(dtype.elementType, T.FloatType | T.DoubleType)
    )


def _is_scalar(dtype: T.DataType) -> bool:
    return not isinstance(dtype, T.ArrayType | T.MapType | T.StructType)


def _is_scalar_or_list(dtype: T.DataType) -> bool:
    return _is_scalar(dtype) or (isinstance(dtype, T.ArrayType) and _is_scalar(dtype.elementType))


def _presence(scope: Scope, column: str) -> Column:
    """The column, or for a list or map only whether it is there."""
    if _is_scalar(scope.frame.schema[column].dataType):
        return F.col(column)
    return F.when(F.col(column).isNotNull(), F.lit("present"))


def _not_null(rule: Rule, scope: Scope) -> Check:
    (column,) = rule.columns
    probes = {column: _presence(scope, column)}
    kwargs = {"column": column}
    return Check(rule, probes, "ExpectColumnValuesToNotBeNull", kwargs, F.col(column).isNull(), "")


def _missing_share(rule: Rule, scope: Scope) -> Check:
    (column,) = rule.columns
    # Rounded: 1 - 0.7 is a hair above 0.3, and exactly the allowed share would then fail.
    kwargs = {"column": column, "mostly": round(1.0 - rule.args["max"], 9)}
    probes = {column: _presence(scope, column)}
    return Check(rule, probes, "ExpectColumnValuesToNotBeNull", kwargs, None, "")


def _between(rule: Rule, _scope: Scope) -> Check:
    (column,) = rule.columns
    low, high = rule.args.get("min"), rule.args.get("max")
    value = F.col(column)
    broken = F.lit(False)
    if low is not None:
        broken = broken | (value < F.lit(low))
    if high is not None:
        broken = broken | (value > F.lit(high))
    kwargs = {"column": column, "min_value": low, "max_value": high}
    return Check(rule, {column: value}, "ExpectColumnValuesToBeBetween", kwargs, broken, column)


def _one_of(rule: Rule, scope: Scope) -> Check:
    (column,) = rule.columns
    values = list(rule.args["values"])
    if isinstance(scope.frame.schema[column].dataType, T.ArrayType):
        probe = f"{column} outside the list"
        outside = F.array_except(F.col(column), F.array(*map(F.lit, values)))
        probes = {probe: F.when(F.size(outside) > 0, outside[0])}
        kwargs = {"column": probe}
        broken = F.col(probe).isNotNull()
        return Check(rule, probes, "ExpectColumnValuesToBeNull", kwargs, broken, probe)
    kwargs = {"column": column, "value_set": values}
    broken = ~F.col(column).isin(values)
    probes = {column: F.col(column)}
    return Check(rule, probes, "ExpectColumnValuesToBeInSet", kwargs, broken, column)


def _matches(rule: Rule, _scope: Scope) -> Check:
    (column,) = rule.columns
    pattern = rule.args["pattern"]
    kwargs = {"column": column, "regex": pattern}
    broken = ~F.col(column).rlike(pattern)
    probes = {column: F.col(column)}
    return Check(rule, probes, "ExpectColumnValuesToMatchRegex", kwargs, broken, column)


def _unique(rule: Rule, _scope: Scope) -> Check:
    probes = {column: F.col(column) for column in rule.columns}
    if len(rule.columns) == 1:
        kwargs = {"column": rule.columns[0]}
        return Check(rule, probes, "ExpectColumnValuesToBeUnique", kwargs, None, rule.columns[0])
    kwargs = {"column_list": list(rule.columns), "ignore_row_if": "any_value_is_missing"}
    return Check(rule, probes, "ExpectCompoundColumnsToBeUnique", kwargs, None, "")


def _references(rule: Rule, _scope: Scope) -> Check:
    (column,) = rule.columns
    probe = f"{column} found in {rule.args['table']}"
    found = F.when(F.col(column).isNull() | F.col(reference_marker(rule)), F.lit("yes"))
    probes = {probe: found, column: F.col(column)}
    kwargs = {"column": probe}
    broken = F.col(probe).isNull()
    return Check(rule, probes, "ExpectColumnValuesToNotBeNull", kwargs, broken, column)


def _vector_width(rule: Rule, _scope: Scope) -> Check:
    (column,) = rule.columns
    width = rule.args["width"]
    probe = f"width of {column}"
    probes = {probe: F.when(F.col(column).isNotNull(), F.size(column))}
    kwargs = {"column": probe, "value_set": [width]}
    broken = F.col(probe) != F.lit(width)
    return Check(rule, probes, "ExpectColumnValuesToBeInSet", kwargs, broken, probe)


def _finite(rule: Rule, scope: Scope) -> Check:
    (column,) = rule.columns
    probe = finite_probe(column)
    value = F.col(column)
    dtype = scope.frame.schema[column].dataType
    if isinstance(dtype, T.ArrayType):
        # array_contains is compiled; a lambda over thousands of elements is interpreted and far
        # slower. It is null when a null element leaves the answer open.
        special = [F.lit(x).cast(dtype.elementType) for x in (math.nan, math.inf, -math.inf)]
        nan, above, below = (F.array_contains(value, one) for one in special)
        kind = F.when(nan, F.lit("NaN")).when(above | below, F.lit("infinite"))
        kind = kind.when(nan.isNull(), F.lit("null element"))
    else:
        infinite = value.isin(math.inf, -math.inf)
        kind = F.when(F.isnan(value), F.lit("NaN")).when(infinite, F.lit("infinite"))
    # Spark's NaN is no null and compares above every number: only isnan tells it apart.
    probes = {probe: F.when(value.isNotNull(), kind.otherwise(F.lit("finite")))}
    kwargs = {"column": probe, "value_set": ["finite"]}
    broken = F.col(probe) != F.lit("finite")
    return Check(rule, probes, "ExpectColumnValuesToBeInSet", kwargs, broken, probe)


def _not_after_end(rule: Rule, scope: Scope) -> Check:
    (column,) = rule.columns
    kwargs = {"column": column, "max_value": scope.interval_end, "strict_max": True}
    broken = F.col(column) >= F.lit(scope.interval_end)
    probes = {column: F.col(column)}
    return Check(rule, probes, "ExpectColumnValuesToBeBetween", kwargs, broken, column)


def _row_count(rule: Rule, _scope: Scope) -> Check:
    kwargs = {"min_value": rule.args.get("min"), "max_value": rule.args.get("max")}
    return Check(rule, {}, "ExpectTableRowCountToBeBetween", kwargs, None, "")


def _range_text(rule: Rule) -> str:
    low, high = (
        None if rule.args.get(limit) is None else f"{rule.args[limit]:,.10g}"
        for limit in ("min", "max")
    )
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"between {low} and {high}"


RULES: dict[str, Kind] = {
    "not_null": Kind(
        (),
        lambda _: True,
        "any type",
        True,
        _not_null,
        lambda r: f"have no {r.column}. Fill it in the source, or map the column that holds it.",
    ),
    "between": Kind(
        (),
        _is_number,
        "a number",
        True,
        _between,
        lambda r: (
            f"have {r.column} outside its range ({_range_text(r)}). Check its unit (`unit`, "
            "`scale`) in the mapping, or widen the rule."
        ),
    ),
    "one_of": Kind(
        ("values",),
        _is_scalar_or_list,
        "a single value or a list of them",
        True,
        _one_of,
        lambda r: (
            f"have {r.column} outside the declared values. Map the new value to a known one, or "
            "add it to `values`."
        ),
    ),
    "unique": Kind(
        (),
        _is_scalar,
        "a single value",
        True,
        _unique,
        lambda r: (
            f"share {' and '.join(r.columns)} with another row. Load each record once, or map a "
            "key that tells them apart."
        ),
    ),
    "row_count": Kind(
        (),
        lambda _: True,
        "any type",
        False,
        _row_count,
        lambda r: (
            f"arrived, expected {_range_text(r)}. Check the source's path and the interval, or "
            "change the rule."
        ),
    ),
    "references": Kind(
        ("table", "to"),
        _is_scalar,
        "a single value",
        True,
        _references,
        lambda r: (
            f"have {r.column} that no row of {r.args['table']}.{r.args['to']} holds. Load the "
            f"missing {r.args['table']} first, or check that both use one id."
        ),
    ),
    "vector_width": Kind(
        ("width",),
        lambda dtype: isinstance(dtype, T.ArrayType),
        "a list",
        True,
        _vector_width,
        lambda r: (
            f"have {r.column} that is not {r.args['width']} wide. Write all its vectors with one "
            "encoder, or leave it null."
        ),
    ),
    "finite": Kind(
        (),
        _holds_numbers,
        "a number or a list of floats",
        True,
        _finite,
        lambda r: f"have {r.column} that is not finite. Write null where no value is known.",
    ),
    "matches": Kind(
        ("pattern",),
        lambda dtype: isinstance(dtype, T.StringType),
        "a text",
        True,
        _matches,
        lambda r: (
            f"have {r.column} that does not match {r.args['pattern']}. Clean it in the source, or "
            "change the pattern."
        ),
    ),
    "not_after_end": Kind(
        (),
        lambda dtype: isinstance(dtype, T.TimestampType),
        "a time",
        True,
        _not_after_end,
        lambda r: (
            f"have {r.column} at or after the end of the interval. Run the later interval for "
            "them, or check the time's `unit` and the source's clock."
        ),
    ),
    "forbidden_columns": Kind(
        ("reason",),
        lambda _: True,
        "any type",
        False,
        None,
        lambda r: f"must not be mapped: {r.args['reason']}. Take them out of `columns`.",
    ),
    "missing_share": Kind(
        ("max",),
        lambda _: True,
        "any type",
        False,
        _missing_share,
        lambda r: (
            f"have no {r.column}, more than the {100 * r.args['max']:g} % allowed. Complete the "
            "source, or raise `max`."
        ),
    ),
}
"""Every kind of rule by its name in a contract file."""


def reference_marker(rule: Rule) -> str:
    """Name of the column that says whether the row of a `references` rule found its target."""
    return f"__{rule.column}_in_{rule.args['table']}_{rule.args['to']}"


def finite_probe(column: str) -> str:
    """Name of the probe that holds `finite`, `NaN`, `infinite`, `null element` or null."""
    return f"kind of {column}"


def validate(rule: Rule, frame: DataFrame, references: Mapping[str, DataFrame], table: str) -> None:
    """Checks that a rule can be asked of a frame.

    Raises:
        RuleError: The kind is unknown, a setting is missing, the column is absent or of a type
            that the rule cannot judge, the referenced table or column is absent, or `on_fail` and
            `mostly` do not go together.
    """
    where = f"contract {table}, rule {rule.label}"
    if rule.name not in RULES:
        raise RuleError(f"{where}: unknown rule{_suggest(rule.name, sorted(RULES))}")
    kind = RULES[rule.name]
    missing = [name for name in kind.required if rule.args.get(name) is None]
    if missing:
        raise RuleError(f"{where}: add {', '.join(f'`{name}`' for name in missing)}")
    if rule.on_fail == "quarantine" and not kind.row_rule:
        raise RuleError(f"{where}: no single row breaks it; use on_fail: block or warn")
    if rule.mostly < 1.0 and (rule.on_fail == "quarantine" or not kind.row_rule):
        raise RuleError(f"{where}: `mostly` is for row rules with on_fail: block or warn")
    limits = [rule.args.get(limit) for limit in ("min", "max")]
    if rule.name in {"between", "row_count"} and limits == [None, None]:
        raise RuleError(f"{where}: add `min`, `max` or both")
    if kind.build is None:
        return
    for column in rule.columns:
        _require(column, frame, where, table)
        dtype = frame.schema[column].dataType
        if not kind.fits(dtype):
            raise RuleError(
                f"{where}: needs {kind.fits_text}, but {column} is {dtype.simpleString()}"
            )
    if rule.name == "references":
        other = rule.args["table"]
        if other not in references:
            raise RuleError(f"{where}: no table {other} to refer to{_suggest(other, references)}")
        _require(rule.args["to"], references[other], where, other)


def _require(column: str, frame: DataFrame, where: str, table: str) -> None:
    if column not in frame.columns:
        raise RuleError(f"{where}: {table} has no column {column}{_suggest(column, frame.columns)}")


def _suggest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    close = get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"{hint} There are: {', '.join(known) or 'none'}"
