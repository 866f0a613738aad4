"""The rules of data contracts. The docstring of each is what ``sextant describe RULE`` prints."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipelines.records import (
    Count,
    Duration,
    Many,
    Record,
    RefusedError,
    Scalar,
    Share,
    one_of,
)
from pipelines.sections import CONTRACT_TABLES

Table = Annotated[str, AfterValidator(one_of(CONTRACT_TABLES, "table"))]
ColumnName = Annotated[str, Field(min_length=1, max_length=255)]
Columns = Annotated[Many[ColumnName], Field(min_length=1)]


def _check_bounds(low: float | None, high: float | None) -> None:
    if low is None and high is None:
        raise RefusedError("needs `min`, `max` or both")
    if low is not None and high is not None and low > high:
        raise RefusedError(f"`min`, {low:g}, is above `max`, {high:g}", "Swap them.")


def _check_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise RefusedError(
            f"is no regular expression: {error.msg}",
            "Put it in single quotes, and a backslash before a sign that stands for itself.",
        ) from None
    return value


class Rule(Record):
    """A rule of a contract."""

    per_row: ClassVar[bool] = True
    """Whether single rows break it; only such rows can be put into quarantine."""

    on_fail: Literal["block", "quarantine", "warn"] = Field(
        description="block stops the run, quarantine sets the rows aside, warn only tells."
    )
    mostly: Share = Field(
        1.0, description="Share of the rows that must keep it; only with block or warn."
    )

    @model_validator(mode="after")
    def _consequence_fits(self) -> Self:
        if self.on_fail == "quarantine" and not self.per_row:
            raise RefusedError(
                f"`{self.name}` cannot quarantine: no single row breaks it",
                "Write on_fail: block, or on_fail: warn.",
            )
        if self.mostly < 1 and not self.per_row:
            raise RefusedError(
                f"`{self.name}` has no `mostly`: it is about the table as a whole", "Remove it."
            )
        if self.mostly < 1 and self.on_fail == "quarantine":
            raise RefusedError(
                "`mostly` has no meaning with quarantine, which sets every bad row aside",
                "Remove it, or write on_fail: block or warn.",
            )
        return self

    @property
    def name(self) -> str:
        """The rule's name, as a contract writes it."""
        found: str = getattr(self, "rule")  # noqa: B009  (declared by each rule)
        return found

    def plain(self) -> dict[str, Any]:
        """Return the rule as plain values: name, columns, args, on_fail, mostly."""
        values = self.model_dump(exclude={"rule", "on_fail", "mostly"}, exclude_none=True)
        column = values.pop("column", None)
        columns = (column,) if column is not None else values.pop("columns", ())
        return {
            "name": self.name,
            "columns": columns,
            "args": values,
            "on_fail": self.on_fail,
            "mostly": self.mostly,
        }


class NotNull(Rule):
    """Every row has a value in the column."""

    rule: Literal["not_null"]
    column: ColumnName = Field(description="The column.")


class NotBlank(Rule):
    """Every text has a sign that is no white space. Rows without a text keep the rule."""

    rule: Literal["not_blank"]
    column: ColumnName = Field(description="The column.")


class Between(Rule):
    """Every value lies from `min` to `max`, both included. Rows without a value keep the rule.

    With `mostly` it bounds a quantile: `max: 600, mostly: 0.95` says that the 95 % quantile is at
    most 600.
    """

    rule: Literal["between"]
    column: ColumnName = Field(description="The column.")
    min: float | None = Field(None, description="Least value.")
    max: float | None = Field(None, description="Greatest value.")

    @model_validator(mode="after")
    def _has_bounds(self) -> Self:
        _check_bounds(self.min, self.max)
        return self


class OneOf(Rule):
    """Every value is one of `values`. Rows without a value keep the rule."""

    rule: Literal["one_of"]
    column: ColumnName = Field(description="The column.")
    values: Annotated[Many[Scalar], Field(min_length=1)] = Field(description="The known values.")


class Unique(Rule):
    """No two rows agree in all of `columns`; quarantine keeps one of them."""

    rule: Literal["unique"]
    columns: Columns = Field(description="The columns that name a row.")


class RowCount(Rule):
    """The table has from `min` to `max` rows, both included."""

    per_row: ClassVar[bool] = False
    rule: Literal["row_count"]
    min: int | None = Field(None, ge=0, description="Least number of rows.")
    max: int | None = Field(None, ge=0, description="Greatest number of rows.")

    @model_validator(mode="after")
    def _has_bounds(self) -> Self:
        _check_bounds(self.min, self.max)
        return self


class References(Rule):
    """Every value occurs in column `to` of `table`. Rows without a value keep the rule."""

    rule: Literal["references"]
    column: ColumnName = Field(description="The column.")
    table: Table = Field(description="The table that it points into.")
    to: ColumnName = Field(description="The column there.")


class AtMost(Rule):
    """Every value is at most `factor` times the value of column `limit`, plus `tolerance`.

    With `table` and `key`, `limit` is a column of another table, looked up by the column `key`,
    which both tables have: `{column: watch_seconds, limit: duration_seconds, table: items, key:
    item_id}`. Rows that lack one of the two values keep the rule.
    """

    rule: Literal["at_most"]
    column: ColumnName = Field(description="The column, of numbers or times.")
    limit: ColumnName = Field(description="The column that it is held against.")
    table: Table | None = Field(None, description="The table of `limit`, when it is another.")
    key: ColumnName | None = Field(None, description="The column that joins the two tables.")
    factor: float = Field(1.0, gt=0, description="Factor of the limit; not for times.")
    tolerance: float = Field(0.0, ge=0, description="Added to the limit; seconds for times.")

    @model_validator(mode="after")
    def _table_and_key(self) -> Self:
        if (self.table is None) != (self.key is None):
            raise RefusedError(
                "`table` and `key` belong together",
                "Write both to look the limit up in another table, or neither.",
            )
        return self


class VectorWidth(Rule):
    """Every vector of the column has `width` numbers. Rows without a vector keep the rule."""

    rule: Literal["vector_width"]
    column: ColumnName = Field(description="The column.")
    width: Count = Field(description="How many numbers.")


class Finite(Rule):
    """No value of the column is NaN or infinite. Rows without a value keep the rule."""

    rule: Literal["finite"]
    column: ColumnName = Field(description="The column.")


class Matches(Rule):
    """Every text holds a match of the regular expression. Rows without a text keep the rule.

    The expression is Java's, and is found anywhere in the text: write ^ and $ to match the whole.
    `lint` reads it as Python does, so what only one of the two knows is refused.
    """

    rule: Literal["matches"]
    column: ColumnName = Field(description="The column.")
    pattern: Annotated[str, AfterValidator(_check_pattern)] = Field(
        description="A regular expression; ^ and $ anchor it."
    )


class NotAfterEnd(Rule):
    """No time of the column is at or after the interval's end: such a row is from the future."""

    rule: Literal["not_after_end"]
    column: ColumnName = Field(description="The column of times.")
    skew: Duration | None = Field(None, description="By how much clocks may be ahead, such as 5m.")


class ForbiddenColumns(Rule):
    """None of these columns of the source file is mapped: they tell what is to be learnt."""

    per_row: ClassVar[bool] = False
    rule: Literal["forbidden_columns"]
    columns: Columns = Field(description="Columns of the source file.")
    reason: str = Field(min_length=1, description="Why; told to whoever maps one.")


class MissingShare(Rule):
    """At most the share `max` of the rows has no value in the column."""

    per_row: ClassVar[bool] = False
    rule: Literal["missing_share"]
    column: ColumnName = Field(description="The column.")
    max: Share = Field(description="Greatest share, from 0 to 1.")


class Freshness(Rule):
    """The newest time of the column is at most `max_age` before the interval's end.

    Without `max_age` it is one interval, so that an interval without rows breaks the rule, unless
    the contract allows an empty one. Times at or after the end do not count.
    """

    per_row: ClassVar[bool] = False
    rule: Literal["freshness"]
    column: ColumnName = Field(description="The column of times.")
    max_age: Duration | None = Field(None, description="Greatest age, such as 12h; one interval.")


class Volume(Rule):
    """The interval has from `min` to `max` times the rows usual for its hours on past days.

    Usual is the median over the last `days`. Intervals longer than a day are compared with those
    before them. With fewer than `min_days` of history nothing is judged.
    """

    per_row: ClassVar[bool] = False
    rule: Literal["volume"]
    column: ColumnName = Field(description="The column of times that puts rows into intervals.")
    min: float | None = Field(None, ge=0, description="Least factor, such as 0.1.")
    max: float | None = Field(None, gt=0, description="Greatest factor, such as 5.")
    days: Annotated[int, Field(ge=1, le=60)] = Field(7, description="Past days to compare with.")
    min_days: Count = Field(3, description="Days of history before anything is judged.")
    least: Count = Field(100, description="Fewer rows, now and usually, are not judged.")

    @model_validator(mode="after")
    def _has_bounds(self) -> Self:
        _check_bounds(self.min, self.max)
        if self.min_days > self.days:
            raise RefusedError(
                f"`min_days`, {self.min_days}, is above `days`, {self.days}",
                "Such a rule never judges: lower `min_days`.",
            )
        return self


class SizeChange(Rule):
    """The table has from `min` to `max` times the rows that it had at the last validation."""

    per_row: ClassVar[bool] = False
    rule: Literal["size_change"]
    min: float | None = Field(None, ge=0, description="Least factor, such as 0.6.")
    max: float | None = Field(None, gt=0, description="Greatest factor, such as 10.")
    least: Count = Field(20, description="A table that had fewer rows is not judged.")

    @model_validator(mode="after")
    def _has_bounds(self) -> Self:
        _check_bounds(self.min, self.max)
        return self


class Mean(Rule):
    """The mean of the values lies from `min` to `max`, both included."""

    per_row: ClassVar[bool] = False
    rule: Literal["mean"]
    column: ColumnName = Field(description="The column of numbers.")
    min: float | None = Field(None, description="Least mean.")
    max: float | None = Field(None, description="Greatest mean.")

    @model_validator(mode="after")
    def _has_bounds(self) -> Self:
        _check_bounds(self.min, self.max)
        return self


class ShareOfValues(Rule):
    """Of the rows that have a value, the share with one of `values` lies from `min` to `max`."""

    per_row: ClassVar[bool] = False
    rule: Literal["share"]
    column: ColumnName = Field(description="The column.")
    values: Annotated[Many[Scalar], Field(min_length=1)] = Field(description="What is counted.")
    min: Share | None = Field(None, description="Least share, from 0 to 1.")
    max: Share | None = Field(None, description="Greatest share, from 0 to 1.")

    @model_validator(mode="after")
    def _has_bounds(self) -> Self:
        _check_bounds(self.min, self.max)
        return self


class SourceSchema(Rule):
    """The source's columns and types are those of the last validation.

    What is dropped, renamed, narrowed or of another type breaks the rule, if a mapping reads it; a
    change of a column that nothing reads only warns. New columns and wider types have their own
    consequences.
    """

    per_row: ClassVar[bool] = False
    rule: Literal["source_schema"]
    added: Literal["pass", "warn", "block"] = Field("warn", description="For a new column.")
    widened: Literal["pass", "warn", "block"] = Field(
        "warn", description="For a wider type, such as int that became bigint."
    )


AnyRule = Annotated[
    NotNull
    | NotBlank
    | Between
    | OneOf
    | Unique
    | RowCount
    | References
    | AtMost
    | VectorWidth
    | Finite
    | Matches
    | NotAfterEnd
    | ForbiddenColumns
    | MissingShare
    | Freshness
    | Volume
    | SizeChange
    | Mean
    | ShareOfValues
    | SourceSchema,
    Field(discriminator="rule"),
]

RULES: dict[str, type[Rule]] = {
    rule.model_fields["rule"].annotation.__args__[0]: rule  # type: ignore[union-attr]
    for rule in Rule.__subclasses__()
}
"""Every rule by the name that a contract writes."""
