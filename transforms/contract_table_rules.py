"""Rules about a table as a whole: counted over its rows, some against the rows of the past."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column
from pyspark.sql import functions as F

from transforms.contract_model import Measured, Rule, Scope, TableCheck, Verdict

_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def range_text(rule: Rule) -> str:
    """The bounds of a rule in words, such as `between 1 and 9`."""
    low, high = (
        None if rule.args.get(limit) is None else f"{rule.args[limit]:,.10g}"
        for limit in ("min", "max")
    )
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"between {low} and {high}"


def row_count(rule: Rule, _scope: Scope) -> TableCheck:
    """The table has so many rows."""

    def decide(measured: Measured) -> Verdict:
        return Verdict(
            "ExpectTableRowCountToBeBetween",
            {"min_value": rule.args.get("min"), "max_value": rule.args.get("max")},
            {"table.row_count": measured.rows},
            f"Rows of the table: {range_text(rule)}.",
            f"{measured.rows:,} rows arrived, expected {range_text(rule)}. Check the source's path "
            "and the interval, or change the rule.",
        )

    return TableCheck(rule, {}, {}, decide)


def freshness(rule: Rule, scope: Scope) -> TableCheck:
    """The newest row is no older than `max_age`, or than one interval, at the interval's end.

    A time at or after the end does not count: one row from the future would make all look fresh.
    """
    (column,) = rule.columns
    age = rule.args.get("max_age") or scope.interval_end - scope.interval_start
    oldest = scope.interval_end - age
    time = F.col(column)
    newest = F.unix_micros(F.max(F.when(time < F.lit(scope.interval_end), time)))

    def decide(measured: Measured) -> Verdict:
        past = measured.past["newest"] if measured.past else None
        found = max((m for m in (measured.now["newest"], past) if m is not None), default=None)
        moment = None if found is None else _EPOCH + timedelta(microseconds=found)
        # A contract that allows an empty interval says so: only a given age can then be exceeded.
        allowed = scope.allow_empty and rule.args.get("max_age") is None
        said = "has no time before the end" if moment is None else f"is from {_text(moment)}"
        return Verdict(
            "ExpectColumnMaxToBeBetween",
            {"column": column, "min_value": _EPOCH if allowed else oldest},
            {"column.max": (moment or _EPOCH) if allowed else moment},
            f"{column}: the newest is not before {_text(oldest)}"
            + (", but the contract allows an empty interval." if allowed else "."),
            f"The newest {column} {said}, more than {_length(age)} before the end of the interval. "
            "Check that the source still delivers, or raise `max_age`.",
        )

    return TableCheck(rule, {"newest": newest}, {"newest": newest}, decide)


def volume(rule: Rule, scope: Scope) -> TableCheck:
    """The interval has about as many rows as the same hours had on past days.

    Compared is the median over the days that have a history; before the third nothing is judged.
    Intervals longer than a day are compared with those before them.
    """
    (column,) = rule.columns
    length = scope.interval_end - scope.interval_start
    step = max(length, _DAY)
    days = rule.args.get("days", 7)
    low, high = rule.args.get("min"), rule.args.get("max")

    def rows(day: int) -> Column:
        end = scope.interval_end - day * step
        inside = (F.col(column) >= F.lit(end - length)) & (F.col(column) < F.lit(end))
        return F.count_if(inside)

    counts = {str(day): rows(day) for day in range(days + 1)}

    def decide(measured: Measured) -> Verdict:
        count = measured.now["0"]
        past = [
            # Rows that arrived late are read again beside those that were there before.
            max(measured.now[str(day)], measured.past[str(day)] if measured.past else 0)
            for day in range(1, days + 1)
        ]
        while past and past[-1] == 0:  # before the first row there is no history
            past.pop()
        usual = statistics.median(past) if past else 0
        unit = "the same hours of past days" if step == _DAY else "past intervals"
        least = rule.args.get("least", 100)
        bounds: dict[str, int | None] = {"min_value": 0, "max_value": None}
        if len(past) < rule.args.get("min_days", 3):
            text = f"not judged, {len(past)} of {rule.args.get('min_days', 3)} days of history."
        elif max(count, usual) < least:
            text = f"not judged, fewer than {least:,} rows."
        else:
            bounds = {
                "min_value": math.ceil(low * usual) if low is not None else 0,
                "max_value": math.floor(high * usual) if high is not None else None,
            }
            upper = "" if bounds["max_value"] is None else f" to {bounds['max_value']:,}"
            text = f"from {bounds['min_value']:,}{upper}, by the median {usual:,g} of {unit}."
        times = f"{count / usual:,.2g} times" if usual else "against"
        return Verdict(
            "ExpectTableRowCountToBeBetween",
            bounds,
            {"table.row_count": count},
            f"Rows of the interval by {column}: {text}",
            f"{count:,} rows in the interval by {column}, {times} the {usual:,g} that are usual in "
            f"{unit}; expected {range_text(rule)} times. Look for a source that is sent twice or "
            "cut off, for robots, or change the rule.",
        )

    return TableCheck(rule, counts, counts, decide)


def size_change(rule: Rule, _scope: Scope) -> TableCheck:
    """The table has about as many rows as it had at the last validation."""

    def decide(measured: Measured) -> Verdict:
        before = measured.past["rows"] if measured.past else 0
        low, high = rule.args.get("min"), rule.args.get("max")
        bounds: dict[str, int | None] = {"min_value": 0, "max_value": None}
        if before < rule.args.get("least", 20):
            text = f"not judged, {before:,} rows before."
        else:
            bounds = {
                "min_value": math.ceil(low * before) if low is not None else 0,
                "max_value": math.floor(high * before) if high is not None else None,
            }
            text = f"{range_text(rule)} times the {before:,} before."
        return Verdict(
            "ExpectTableRowCountToBeBetween",
            bounds,
            {"table.row_count": measured.rows},
            f"Rows of the table: {text}",
            f"{measured.rows:,} rows where there were {before:,}; expected {range_text(rule)} "
            "times as many. Check that the source is complete. If it is right, change the rule "
            "until this run is done.",
        )

    return TableCheck(rule, {}, {"rows": F.count(F.lit(1))}, decide)


def mean(rule: Rule, _scope: Scope) -> TableCheck:
    """The mean of the values lies within bounds."""
    (column,) = rule.columns
    return _average(rule, F.col(column), column, f"mean of {column}", "")


def share(rule: Rule, _scope: Scope) -> TableCheck:
    """The share of the values that are among some lies within bounds."""
    (column,) = rule.columns
    values = list(rule.args["values"])
    named = ", ".join(map(str, values))
    among = F.when(F.col(column).isNotNull(), F.col(column).isin(values).cast("double"))
    name = f"share of {named} in {column}"
    return _average(rule, among, name, name, " A share is from 0 to 1.")


def _average(rule: Rule, value: Column, name: str, said: str, note: str) -> TableCheck:
    def decide(measured: Measured) -> Verdict | None:
        if not measured.rows:
            return None  # emptiness is a finding of its own, or allowed
        found = measured.now["mean"]
        shown = "not defined, no row has a value" if found is None else f"{found:,.4g}"
        return Verdict(
            "ExpectColumnMeanToBeBetween",
            {
                "column": name,
                "min_value": rule.args.get("min"),
                "max_value": rule.args.get("max"),
            },
            {"column.mean": found},
            f"The {said}: {range_text(rule)}.{note}",
            f"The {said} is {shown}, expected {range_text(rule)}. See what changed in the source, "
            "or change the rule.",
        )

    return TableCheck(rule, {"mean": F.avg(value)}, {}, decide)


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _length(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours / 24:,.3g} days" if hours >= 48 else f"{hours:,.3g} hours"
