"""All kinds of rules by name: what they need, what they fit, and what they say when broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import types as T

from transforms import contract_row_rules as rows
from transforms import contract_table_rules as tables
from transforms.contract_model import Check, Rule, RuleError, Scope


@dataclass(frozen=True)
class Kind:
    """One kind of rule: its settings and what it does."""

    build: Callable[[Rule, Scope], Check] | None
    """None for rules on the source's columns, which need no data."""
    text: Callable[[Rule], str] | None = None
    """For a rule about rows, what broke and what to do, put after their number. A rule about the
    table words its verdict itself."""
    required: tuple[str, ...] = ()
    """Settings that must be there."""
    bounded: bool = False
    """Whether it needs `min`, `max` or both."""
    fits: Callable[[T.DataType], bool] = lambda _: True
    """Whether a column of that type can be checked."""
    fits_text: str = "any type"
    row_rule: bool = True
    """Whether single rows break it, so that they can be quarantined."""


def _is_number(dtype: T.DataType) -> bool:
    return isinstance(dtype, T.NumericType)


def _holds_numbers(dtype: T.DataType) -> bool:
    return _is_number(dtype) or (
        isinstance(dtype, T.ArrayType) and isinstance(dtype.elementType, T.FloatType | T.DoubleType)
    )


def _is_scalar_or_list(dtype: T.DataType) -> bool:
    return rows.is_scalar(dtype) or (
        isinstance(dtype, T.ArrayType) and rows.is_scalar(dtype.elementType)
    )


def _is_list(dtype: T.DataType) -> bool:
    return isinstance(dtype, T.ArrayType)


def _is_text(dtype: T.DataType) -> bool:
    return isinstance(dtype, T.StringType)


def _is_time(dtype: T.DataType) -> bool:
    return isinstance(dtype, T.TimestampType)


def _is_number_or_time(dtype: T.DataType) -> bool:
    return _is_number(dtype) or _is_time(dtype)


def _at_most_text(rule: Rule) -> str:
    source = f"{rule.args['table']}." if rule.args.get("table") else ""
    factor, tolerance = rule.args.get("factor", 1.0), rule.args.get("tolerance", 0.0)
    limit = f"{factor:g} times " if factor != 1.0 else ""
    limit += f"{source}{rule.args['limit']}"
    limit += f" + {tolerance:g}" if tolerance else ""
    return (
        f"have {rule.column} above {limit}. Check the units of both in the mapping, or raise "
        "`factor` or `tolerance`."
    )


RULES: dict[str, Kind] = {
    "not_null": Kind(
        rows.not_null,
        lambda r: f"have no {r.column}. Fill it in the source, or map the column that holds it.",
    ),
    "not_blank": Kind(
        rows.not_blank,
        lambda r: f"have an empty or blank {r.column}. Write null, or the value that is meant.",
        fits=_is_text,
        fits_text="a text",
    ),
    "between": Kind(
        rows.between,
        lambda r: (
            f"have {r.column} outside its range ({tables.range_text(r)}). Check its unit (`unit`, "
            "`scale`) in the mapping, or widen the rule."
        ),
        bounded=True,
        fits=_is_number,
        fits_text="a number",
    ),
    "one_of": Kind(
        rows.one_of,
        lambda r: (
            f"have {r.column} outside the declared values. Map the new value to a known one, or "
            "add it to `values`."
        ),
        required=("values",),
        fits=_is_scalar_or_list,
        fits_text="a single value or a list of them",
    ),
    "unique": Kind(
        rows.unique,
        lambda r: (
            f"share {' and '.join(r.columns)} with another row. Load each record once, or map a "
            "key that tells them apart."
        ),
        fits=rows.is_scalar,
        fits_text="a single value",
    ),
    "references": Kind(
        rows.references,
        lambda r: (
            f"have {r.column} that no row of {r.args['table']}.{r.args['to']} holds. Load the "
            f"missing {r.args['table']} first, or check that both use one id."
        ),
        required=("table", "to"),
        fits=rows.is_scalar,
        fits_text="a single value",
    ),
    "at_most": Kind(
        rows.at_most,
        _at_most_text,
        required=("limit",),
        fits=_is_number_or_time,
        fits_text="a number or a time",
    ),
    "vector_width": Kind(
        rows.vector_width,
        lambda r: (
            f"have {r.column} that is not {r.args['width']} wide. Write all its vectors with one "
            "encoder, or leave it null."
        ),
        required=("width",),
        fits=_is_list,
        fits_text="a list",
    ),
    "finite": Kind(
        rows.finite,
        lambda r: f"have {r.column} that is not finite. Write null where no value is known.",
        fits=_holds_numbers,
        fits_text="a number or a list of floats",
    ),
    "matches": Kind(
        rows.matches,
        lambda r: (
            f"have {r.column} that does not match {r.args['pattern']}. Clean it in the source, or "
            "change the pattern."
        ),
        required=("pattern",),
        fits=_is_text,
        fits_text="a text",
    ),
    "not_after_end": Kind(
        rows.not_after_end,
        lambda r: (
            f"have {r.column} at or after the end of the interval"
            + (" and its `skew`" if r.args.get("skew") else "")
            + ". Run the later interval for them, or check the time's `unit` and the source's "
            "clock."
        ),
        fits=_is_time,
        fits_text="a time",
    ),
    "missing_share": Kind(
        rows.missing_share,
        lambda r: (
            f"have no {r.column}, more than the {100 * r.args['max']:g} % allowed. Complete the "
            "source, or raise `max`."
        ),
        required=("max",),
        row_rule=False,
    ),
    "row_count": Kind(tables.row_count, bounded=True, row_rule=False),
    "freshness": Kind(tables.freshness, fits=_is_time, fits_text="a time", row_rule=False),
    "volume": Kind(tables.volume, bounded=True, fits=_is_time, fits_text="a time", row_rule=False),
    "size_change": Kind(tables.size_change, bounded=True, row_rule=False),
    "mean": Kind(tables.mean, bounded=True, fits=_is_number, fits_text="a number", row_rule=False),
    "share": Kind(
        tables.share,
        required=("values",),
        bounded=True,
        fits=rows.is_scalar,
        fits_text="a single value",
        row_rule=False,
    ),
    "forbidden_columns": Kind(
        None,
        lambda r: f"must not be mapped: {r.args['reason']}. Take them out of `columns`.",
        required=("reason",),
        row_rule=False,
    ),
    "source_schema": Kind(None, row_rule=False),
}
"""Every kind of rule by its name in a contract file."""


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
    if kind.bounded and rule.args.get("min") is None and rule.args.get("max") is None:
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
        _require(rule.args["to"], _other(rule, references, where), where, rule.args["table"])
    if rule.name == "at_most":
        _require_limit(rule, frame, references, where, table)


def _require_limit(
    rule: Rule, frame: DataFrame, references: Mapping[str, DataFrame], where: str, table: str
) -> None:
    """Checks that an `at_most` rule compares two columns of one type."""
    limit, key = rule.args["limit"], rule.args.get("key")
    holder, name = frame, table
    if rule.args.get("table") is not None:
        if key is None:
            raise RuleError(f"{where}: add `key`")
        _require(key, frame, where, table)
        holder, name = _other(rule, references, where), rule.args["table"]
        _require(key, holder, where, name)
    _require(limit, holder, where, name)
    one, two = frame.schema[rule.column].dataType, holder.schema[limit].dataType
    if not _is_number_or_time(two) or _is_time(one) != _is_time(two):
        raise RuleError(
            f"{where}: {rule.column} is {one.simpleString()}, but {name}.{limit} is "
            f"{two.simpleString()}"
        )


def _other(rule: Rule, references: Mapping[str, DataFrame], where: str) -> DataFrame:
    other = rule.args["table"]
    if other not in references:
        raise RuleError(f"{where}: no table {other} to refer to{_suggest(other, references)}")
    return references[other]


def _require(column: str, frame: DataFrame, where: str, table: str) -> None:
    if column not in frame.columns:
        raise RuleError(f"{where}: {table} has no column {column}{_suggest(column, frame.columns)}")


def _suggest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    close = get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"{hint} There are: {', '.join(known) or 'none'}"
