"""Rules about single rows: what each asks of Great Expectations, and which rows break it.

A rule is checked on *probes*: the column itself, or a column derived from it when Great
Expectations has no expectation of that kind on Spark (the width of an array, the kind of a number,
whether an id is found in another table). All row rules but `not_null` pass a null.
"""

from __future__ import annotations

import math

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from transforms.contract_model import RowCheck, Rule, Scope

NOT_BLANK = r"(?U)\S"
"""Found in every text that has a sign which is no white space of any script."""
KINDS = ("NaN", "infinite", "null element")
"""What a probe of `finite` holds beside `finite` and null."""


def is_scalar(dtype: T.DataType) -> bool:
    """Whether a type holds one value."""
    return not isinstance(dtype, T.ArrayType | T.MapType | T.StructType)


def reference_probe(rule: Rule) -> str:
    """Name of the column of a `references` rule: null where the value is found nowhere."""
    return f"{rule.column} found in {rule.args['table']}"


def limit_probe(rule: Rule) -> str:
    """Name of the column that an `at_most` rule compares with."""
    source = f" of {rule.args['table']}" if rule.args.get("table") else ""
    return f"limit of {rule.column} by {rule.args['limit']}{source}"


def looked_up(rule: Rule) -> str:
    """Name of the column that holds what a rule looks up in another table."""
    if rule.name == "references":
        return f"{rule.column} among {rule.args['to']} of {rule.args['table']}"
    return f"{rule.args['limit']} of {rule.args['table']} by {rule.args['key']}"


def finite_probe(column: str) -> str:
    """Name of the probe that holds `finite`, one of `KINDS`, or null."""
    return f"kind of {column}"


def _presence(scope: Scope, column: str) -> Column:
    """The column, or for a list or map only whether it is there."""
    if is_scalar(scope.frame.schema[column].dataType):
        return F.col(column)
    return F.when(F.col(column).isNotNull(), F.lit("present"))


def not_null(rule: Rule, scope: Scope) -> RowCheck:
    """Every row has a value."""
    (column,) = rule.columns
    probes = {column: _presence(scope, column)}
    kwargs = {"column": column}
    return RowCheck(
        rule, probes, "ExpectColumnValuesToNotBeNull", kwargs, F.col(column).isNull(), ""
    )


def missing_share(rule: Rule, scope: Scope) -> RowCheck:
    """At most a share of the rows has no value."""
    (column,) = rule.columns
    # Rounded: 1 - 0.7 is a hair above 0.3, and exactly the allowed share would then fail.
    kwargs = {"column": column, "mostly": round(1.0 - rule.args["max"], 9)}
    probes = {column: _presence(scope, column)}
    return RowCheck(
        rule, probes, "ExpectColumnValuesToNotBeNull", kwargs, F.col(column).isNull(), ""
    )


def between(rule: Rule, _scope: Scope) -> RowCheck:
    """Every value lies within bounds, both included."""
    (column,) = rule.columns
    low, high = rule.args.get("min"), rule.args.get("max")
    value = F.col(column)
    broken = F.lit(False)
    if low is not None:
        broken = broken | (value < F.lit(low))
    if high is not None:
        broken = broken | (value > F.lit(high))
    kwargs = {"column": column, "min_value": low, "max_value": high}
    return RowCheck(rule, {column: value}, "ExpectColumnValuesToBeBetween", kwargs, broken, column)


def one_of(rule: Rule, scope: Scope) -> RowCheck:
    """Every value, or every element of a list, is one of a set."""
    (column,) = rule.columns
    values = list(rule.args["values"])
    if isinstance(scope.frame.schema[column].dataType, T.ArrayType):
        probe = f"{column} outside the list"
        outside = F.array_except(F.col(column), F.array(*map(F.lit, values)))
        probes = {probe: F.when(F.size(outside) > 0, outside[0])}
        kwargs = {"column": probe}
        broken = F.col(probe).isNotNull()
        return RowCheck(rule, probes, "ExpectColumnValuesToBeNull", kwargs, broken, probe)
    broken = ~F.col(column).isin(values)
    probes = {column: F.col(column)}
    return RowCheck(
        rule,
        probes,
        "ExpectColumnValuesToBeInSet",
        {"column": column, "value_set": values},
        broken,
        column,
    )


def matches(rule: Rule, _scope: Scope) -> RowCheck:
    """Every text holds a match of a regular expression of Java's."""
    (column,) = rule.columns
    return _matching(rule, rule.args["pattern"], ~F.col(column).rlike(rule.args["pattern"]))


def not_blank(rule: Rule, _scope: Scope) -> RowCheck:
    """Every text has a sign that is no white space."""
    (column,) = rule.columns
    # Nearly every text begins with a plain letter or digit, which needs no expression to be seen.
    plain = F.ascii(column).between(33, 126)
    return _matching(rule, NOT_BLANK, ~(plain | F.col(column).rlike(NOT_BLANK)))


def _matching(rule: Rule, pattern: str, broken: Column) -> RowCheck:
    (column,) = rule.columns
    kwargs = {"column": column, "regex": pattern}
    probes = {column: F.col(column)}
    return RowCheck(rule, probes, "ExpectColumnValuesToMatchRegex", kwargs, broken, column)


def unique(rule: Rule, _scope: Scope) -> RowCheck:
    """No two rows agree in all columns; a row that lacks one of them is not judged."""
    probes = {column: F.col(column) for column in rule.columns}
    if len(rule.columns) == 1:
        kwargs = {"column": rule.columns[0]}
        return RowCheck(rule, probes, "ExpectColumnValuesToBeUnique", kwargs, None, rule.columns[0])
    pair = {"column_list": list(rule.columns), "ignore_row_if": "any_value_is_missing"}
    return RowCheck(rule, probes, "ExpectCompoundColumnsToBeUnique", pair, None, "")


def references(rule: Rule, _scope: Scope) -> RowCheck:
    """Every value occurs in a column of another table. A row without one keeps the rule."""
    (column,) = rule.columns
    probe = reference_probe(rule)
    there = F.col(column).isNull() | F.col(looked_up(rule)).isNotNull()
    probes = {probe: F.when(there, F.lit("found"))}
    broken = F.col(probe).isNull()
    kwargs = {"column": probe}
    return RowCheck(rule, probes, "ExpectColumnValuesToNotBeNull", kwargs, broken, column)


def at_most(rule: Rule, scope: Scope) -> RowCheck:
    """A value is at most `factor` times another column's, plus `tolerance` (seconds for times)."""
    (column,) = rule.columns
    value, name = f"{column} compared", limit_probe(rule)
    limit = F.col(looked_up(rule) if rule.args.get("table") else rule.args["limit"])
    factor, tolerance = rule.args.get("factor", 1.0), rule.args.get("tolerance", 0.0)
    if isinstance(scope.frame.schema[column].dataType, T.TimestampType):
        left = F.unix_micros(F.col(column))
        right = F.unix_micros(limit) + F.lit(round(tolerance * 1e6))
    else:
        left = F.col(column)
        right = limit * F.lit(factor) + F.lit(tolerance)
    probes = {value: left, name: right}
    kwargs = {
        "column_A": name,
        "column_B": value,
        "or_equal": True,
        "ignore_row_if": "either_value_is_missing",
    }
    broken = F.col(value) > F.col(name)
    expectation = "ExpectColumnPairValuesAToBeGreaterThanB"
    return RowCheck(rule, probes, expectation, kwargs, broken, value)


def vector_width(rule: Rule, _scope: Scope) -> RowCheck:
    """Every list has so many elements."""
    (column,) = rule.columns
    width = rule.args["width"]
    probe = f"width of {column}"
    probes = {probe: F.when(F.col(column).isNotNull(), F.size(column))}
    kwargs = {"column": probe, "value_set": [width]}
    broken = F.col(probe) != F.lit(width)
    return RowCheck(rule, probes, "ExpectColumnValuesToBeInSet", kwargs, broken, probe)


def finite(rule: Rule, scope: Scope) -> RowCheck:
    """No number, alone or in a list, is NaN or infinite; no list has a null element."""
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
    return RowCheck(rule, probes, "ExpectColumnValuesToBeInSet", kwargs, broken, probe)


def not_after_end(rule: Rule, scope: Scope) -> RowCheck:
    """No time is at or after the interval's end and what clocks may be ahead."""
    (column,) = rule.columns
    end = scope.interval_end
    if (skew := rule.args.get("skew")) is not None:
        end = end + skew
    kwargs = {"column": column, "max_value": end, "strict_max": True}
    broken = F.col(column) >= F.lit(end)
    probes = {column: F.col(column)}
    return RowCheck(rule, probes, "ExpectColumnValuesToBeBetween", kwargs, broken, column)
