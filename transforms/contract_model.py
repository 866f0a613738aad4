"""The words that contracts are made of: rules, what they count, and what they decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pyspark.sql import Column, DataFrame

OnFail = Literal["block", "quarantine", "warn"]


class RuleError(ValueError):
    """A contract asks for something that its table, its type or its references cannot answer."""


@dataclass(frozen=True)
class Rule:
    """One rule of a contract."""

    name: str
    """Kind of the rule, a key of `contract_rules.RULES`."""
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
    """The rows, with a column for each value that a rule looks up in another table."""
    interval_start: datetime
    interval_end: datetime
    allow_empty: bool
    references: Mapping[str, DataFrame]


@dataclass(frozen=True)
class RowCheck:
    """A rule about single rows, made ready for one frame."""

    rule: Rule
    probes: Mapping[str, Column]
    """Columns that the rule looks at, by the name that Great Expectations reports."""
    expectation: str
    """Class name in `great_expectations.expectations`."""
    kwargs: Mapping[str, Any]
    broken: Column | None
    """True for a row that breaks the rule, from the probes. None for `unique`, which depends on
    other rows."""
    shown: str
    """Probe whose values are shown as samples; empty when there is none worth showing."""

    @property
    def only_presence(self) -> bool:
        """Whether exactly the rows without a value break it."""
        return self.expectation == "ExpectColumnValuesToNotBeNull"

    @property
    def subjects(self) -> tuple[str, ...]:
        """The probes that must all have a value for the rule to judge a row."""
        if "column_list" in self.kwargs:
            return tuple(self.kwargs["column_list"])
        if "column_A" in self.kwargs:
            return (self.kwargs["column_A"], self.kwargs["column_B"])
        return (self.kwargs["column"],)


@dataclass(frozen=True)
class Measured:
    """What was counted for a rule about a table."""

    rows: int
    now: Mapping[str, Any]
    """The rule's aggregates over the rows that are checked."""
    past: Mapping[str, Any] | None
    """The rule's aggregates over the history; None where there is no history."""


@dataclass(frozen=True)
class Verdict:
    """What a rule about a table asks of Great Expectations, now that all is counted."""

    expectation: str
    kwargs: Mapping[str, Any]
    metrics: Mapping[str, Any]
    """Value of each metric that the expectation asks for, by name."""
    description: str
    """The rule in words, for the pages."""
    message: str
    """What broke and what to do, should it be broken."""


@dataclass(frozen=True)
class TableCheck:
    """A rule about the table as a whole, made ready for one frame."""

    rule: Rule
    now: Mapping[str, Column]
    """Aggregates over the rows that are checked."""
    past: Mapping[str, Column]
    """Aggregates over the history."""
    decide: Callable[[Measured], Verdict | None]
    """None when there is nothing to judge."""


Check = RowCheck | TableCheck
