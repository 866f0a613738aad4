"""The files, tables and queries that a source reads, and how each format is written."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipelines.records import Many, Record, RefusedError, check_location, has_variable, shown
from pipelines.secrets import Secret

INFERRED = "x-inferred"
"""Marks, in a field's schema, a required value that is found out where it is not given."""

FORMATS = {
    "csv": "Lines of values; quotes as in RFC 4180, so that a quoted value may hold line breaks. "
    "Every value is taken as the text that stands there.",
    "jsonl": "One JSON object a line. A value inside others is named `user.id`; a list or object "
    "is JSON text, which list columns and maps read.",
    "parquet": "Parquet files, with their own types. A value inside others is named `user.id`.",
    "delta": "A Delta table: the path of its folder. A run reads its newest version.",
    "jdbc": "A table or query of SQLite or PostgreSQL; the driver is fetched on first use. Values "
    "of SQLite are read as texts. Credentials come from environment variables alone.",
    "npy": "A 2-D NumPy array of numbers: column `row` counts from 0, `vector` holds the row. "
    "For vectors of items, mostly under sources.items.collect.",
}
"""What each format is."""

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".npy": "npy",
}
_COMPRESSED = (".gz", ".zst", ".bz2")
OPTIONS = {
    "delimiter": ("csv",),
    "header": ("csv",),
    "quote": ("csv",),
    "encoding": ("csv", "jsonl"),
    "table": ("jdbc",),
    "query": ("jdbc",),
    "cursor": ("jdbc",),
    "user": ("jdbc",),
    "password": ("jdbc",),
}
"""Options that mean something for some formats alone."""
_URL = re.compile(r"jdbc:(sqlite|postgresql):\S+")

Encoding = Literal["UTF-8", "ISO-8859-1", "US-ASCII", "UTF-16", "UTF-16LE", "UTF-16BE", "UTF-32"]


def _check_source(value: str) -> str:
    if not value.startswith("jdbc:"):
        return check_location(value)
    if re.search(r"(?i)[?&;](user|password)=|//[^/]*@", value):
        raise RefusedError(
            "must not hold credentials",
            "Write them beside it, by environment variables: user: ${NAME}, password: ${NAME}.",
        )
    if _URL.fullmatch(value) is None and not has_variable(value):
        raise RefusedError(
            f"`{value}` is no database that can be read",
            "Write jdbc:sqlite:FILE or jdbc:postgresql://HOST:5432/DATABASE.",
        )
    return value


SourcePath = Annotated[str, AfterValidator(_check_source)]


def format_of(path: str) -> str | None:
    """Return the format that a path tells by its suffix or scheme."""
    if path.startswith("jdbc:"):
        return "jdbc"
    name = path.lower().rsplit("/", 1)[-1]
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return next((found for suffix, found in _SUFFIXES.items() if name.endswith(suffix)), None)


class Files(Record):
    """Files of one shape, or a table of a database."""

    path: SourcePath = Field(
        description="A file, a glob such as data/log/*.csv, a folder (with the folders in it); "
        "below the project's folder, absolute, or a URI. In data/{date}/*.csv, and in folders "
        "dt=2026-01-31, `date` and `dt` are columns. .gz, .zst and .bz2 are unpacked. Of databases "
        "jdbc:sqlite:FILE or jdbc:postgresql://HOST/DATABASE. ${NAME} stands for an environment "
        "variable."
    )
    format: Literal["csv", "jsonl", "parquet", "delta", "jdbc", "npy"] = Field(
        description=f"One of {', '.join(FORMATS)}; not needed where the path's suffix tells.",
        json_schema_extra={INFERRED: "by suffix"},
    )
    delimiter: str = Field(
        ",",
        min_length=1,
        description="Between the values of a CSV line, of one or more characters, or `whitespace` "
        "for any number of blanks and tabs.",
    )
    header: bool = Field(
        True, description="Whether a CSV file's first line names its columns; else _c0, _c1, ..."
    )
    quote: str = Field(
        '"',
        max_length=1,
        description='Around CSV values that hold the delimiter; "" where quotes mean nothing.',
    )
    encoding: Encoding = Field(
        "UTF-8",
        description="Of CSV and JSON files: UTF-8, ISO-8859-1, US-ASCII, UTF-16, UTF-16LE, "
        "UTF-16BE or UTF-32.",
    )
    null_values: Many[str] = Field(("",), description="Texts that stand for no value.")
    rows_of: str | None = Field(
        None, alias="table", min_length=1, description="Table of the database: public.log."
    )
    query: str | None = Field(
        None, min_length=1, description="A SELECT of the database, instead of `table`."
    )
    cursor: str | None = Field(
        None,
        min_length=1,
        description="Column that grows with every row added, such as a serial id: a run then reads "
        "new rows alone. Without it each run reads all rows to see whether one has changed.",
    )
    user: Secret | None = Field(None, description="User of the database: ${NAME}.")
    password: Secret | None = Field(None, description="Their password: ${NAME}.")

    @model_validator(mode="before")
    @classmethod
    def _format_from_suffix(cls, value: Any) -> Any:
        if (
            not isinstance(value, dict)
            or "format" in value
            or not isinstance(value.get("path"), str)
        ):
            return value
        found = format_of(value["path"])
        return value if found is None else {**value, "format": found}

    @model_validator(mode="after")
    def _options_of_the_format(self) -> Self:
        for name, formats in OPTIONS.items():
            field = "rows_of" if name == "table" else name
            is_given = getattr(self, field) != type(self).model_fields[field].default
            if is_given and self.format not in formats:
                known = " and ".join(formats)
                raise RefusedError(
                    f"has `{name}`, which {self.format} does not know",
                    f"Leave it out; it belongs to {known}.",
                )
        is_url = self.path.startswith("jdbc:")
        if is_url != (self.format == "jdbc") and not has_variable(self.path):
            raise RefusedError(
                f"has `path: {shown(self.path).removeprefix('the text ').strip('`')}` and "
                f"`format: {self.format}`",
                "A database has a path such as jdbc:sqlite:FILE and the format jdbc; files have "
                "neither.",
            )
        if self.format == "jdbc" and (self.rows_of is None) == (self.query is None):
            raise RefusedError(
                "needs either `table` or `query`", "Write `table: NAME` or `query: SELECT ...`."
            )
        return self
