"""Data contracts: what the rows of a table must keep, one YAML file of ``data_contracts/`` each.

Every rule is a record; its docstring is what ``sextant describe RULE`` prints.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from pipelines.document import read_document
from pipelines.errors import SpecError
from pipelines.records import Count, Many, Record, RefusedError, Scalar, Share, one_of
from pipelines.sections import CONTRACT_TABLES
from pipelines.validation import in_file_order, problems_of

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


class Between(Rule):
    """Every value lies from `min` to `max`, both included. Rows without a value keep the rule."""

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
    """Every text matches the regular expression. Rows without a text keep the rule."""

    rule: Literal["matches"]
    column: ColumnName = Field(description="The column.")
    pattern: Annotated[str, AfterValidator(_check_pattern)] = Field(
        description="A regular expression; ^ and $ anchor it."
    )


class NotAfterEnd(Rule):
    """No time of the column is at or after the interval's end: such a row is from the future."""

    rule: Literal["not_after_end"]
    column: ColumnName = Field(description="The column of times.")


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


AnyRule = Annotated[
    NotNull
    | Between
    | OneOf
    | Unique
    | RowCount
    | References
    | VectorWidth
    | Finite
    | Matches
    | NotAfterEnd
    | ForbiddenColumns
    | MissingShare,
    Field(discriminator="rule"),
]

RULES: dict[str, type[Rule]] = {
    rule.model_fields["rule"].annotation.__args__[0]: rule  # type: ignore[union-attr]
    for rule in Rule.__subclasses__()
}
"""Every rule by the name that a contract writes."""


class Contract(Record):
    """What the rows of one table must keep."""

    table: Table = Field(description="The table.")
    allow_empty: bool = Field(False, description="Whether a table without rows keeps the contract.")
    rules: Many[AnyRule] = Field((), description="The rules.")


def load_contract(path: Path, *, root: Path | None = None) -> Contract:
    """Read and check a contract.

    Args:
        path: The file.
        root: The project's folder, for messages; without one, the folder above the file's.

    Raises:
        SpecError: With every mistake of the file.
    """
    root = path.absolute().parent.parent if root is None else root
    tree = read_document(path, root=root)
    try:
        return Contract.model_validate(tree.plain())
    except ValidationError as error:
        raise SpecError(in_file_order(problems_of(error, tree))) from None
