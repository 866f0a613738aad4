"""Read tables of SQL databases through JDBC: SQLite and PostgreSQL.

Every value of SQLite is read as text: there each row may hold another type than its column says,
and the driver would cut a large integer to 32 bits. PostgreSQL's types are kept; a time without a
zone stays without one, so that the mapping decides what it means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DecimalType

from transforms.digest import rows_digest
from transforms.source_errors import SourceError, quoted, reading, suggestion
from transforms.source_files import SourceFile

_DRIVERS = {"sqlite": "org.sqlite.JDBC", "postgresql": "org.postgresql.Driver"}
_FETCH = 10_000  # rows held at once by the reader


@dataclass(frozen=True)
class Database:
    """A table or query of a database."""

    url: str
    """`jdbc:sqlite:FILE` or `jdbc:postgresql://HOST/NAME`, without credentials."""
    rows: str
    """A table's name, or a query that starts with `SELECT` or `WITH`."""
    driver: Path
    """The jar of the driver."""
    user: str | None = None
    password: str | None = None
    cursor: str | None = None
    """Column that grows with every row that is added, never null."""

    def __repr__(self) -> str:  # Without credentials: it may stand in a traceback.
        return f"Database({self.named})"

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.url.split(":")[1]

    @property
    def named(self) -> str:
        """The source, for messages and for its rows' `_file`."""
        words = " ".join(self.rows.split())
        return f"{self.url.split('?')[0]} ({words if len(words) <= 60 else words[:57] + '...'})"

    @property
    def selection(self) -> str:
        """The rows as a query."""
        is_query = self.rows.lstrip().split(maxsplit=1)[0].upper() in {"SELECT", "WITH"}
        return self.rows.strip().rstrip(";") if is_query else f"SELECT * FROM {self.rows}"


def read_database(
    spark: SparkSession, database: Database, part: SourceFile | None = None
) -> DataFrame:
    """Reads a table or query.

    Args:
        spark: The session; the driver is added to it.
        database: What to read.
        part: Some of its rows, as from `list_parts`; all without it.

    Raises:
        SourceError: The database, the table or the cursor is not there, or access is denied.
    """
    query = database.selection
    if part is not None and database.cursor is not None:
        name = _identifier(database.cursor)
        above = f"{name} > {part.after} AND " if part.after is not None else ""
        query = f"SELECT * FROM ({query}) AS source_rows WHERE {above}{name} <= {part.mark}"
    with reading(database.named):
        df = _load(spark, database, query)
        if database.kind != "sqlite":
            return _with_plain_numerics(df)
        texts = ", ".join(
            f"CASE typeof({name}) WHEN 'real' THEN printf('%!.17g', {name}) "
            f"ELSE CAST({name} AS TEXT) END AS {name}"
            for name in map(_identifier, df.columns)
        )
        schema = ", ".join(f"`{name}` STRING" for name in df.columns)
        return _load(
            spark, database, f"SELECT {texts} FROM ({query}) AS source_texts", customSchema=schema
        )


def _with_plain_numerics(df: DataFrame) -> DataFrame:
    """Writes `numeric` without a scale, which Spark gives 18 decimals, as the text it was: `7`."""
    loose = [field.name for field in df.schema.fields if field.dataType == DecimalType(38, 18)]
    return df.withColumns(
        {
            name: F.regexp_replace(F.col(quoted(name)).cast("string"), r"\.?0+$", "")
            for name in loose
        }
    )


def list_parts(
    spark: SparkSession, database: Database, known: Sequence[tuple[str, str]] = ()
) -> list[SourceFile]:
    """Lists what stands for files in a database.

    With a cursor these are parts that never change: those that are known, and one more when rows
    were added since. Without one it is the whole, whose mark is a digest of all rows: it is read
    to the end to learn whether anything changed.

    Args:
        spark: The session.
        database: What to read.
        known: Path and mark of the parts that are known, in any order.

    Raises:
        SourceError: As `read_database`; or the cursor is null in some row.
    """
    with reading(database.named):
        if database.cursor is None:
            mark = rows_digest(read_database(spark, database))
            return [SourceFile(database.named, int(mark.split(":")[0]), 0, mark)]
        columns = _load(spark, database, database.selection).columns
        if database.cursor not in columns:
            raise SourceError(
                f"{database.named}: the cursor `{database.cursor}` is not among its columns."
                f"{suggestion(database.cursor, columns)}\n  It has: {', '.join(columns)}."
            )
        cursor = _identifier(database.cursor)
        # The database itself writes the literal, exactly and of the right type.
        top = f"max({cursor})"
        mark = f"quote({top})" if database.kind == "sqlite" else f"quote_literal({top}::text)"
        last, after = len(known), None
        if known:
            last, after = max((int(path.rsplit("#", 1)[1]), value) for path, value in known)
        since = f" WHERE {cursor} > {after} OR {cursor} IS NULL" if after is not None else ""
        found = _load(
            spark,
            database,
            f"SELECT {mark} AS mark, count({cursor}) AS n, count(*) - count({cursor}) AS lacking "
            f"FROM ({database.selection}) AS source_rows{since}",
            # SQLite's driver takes a column's type from its first row.
            customSchema="mark STRING, n BIGINT, lacking BIGINT",
        ).collect()[0]
    if found["lacking"]:
        raise SourceError(
            f"{database.named}: {found['lacking']:,} rows have no `{database.cursor}`, and reading "
            "by it would never find them. Choose a cursor that every row has, or leave it out."
        )
    parts = [SourceFile(path, 0, 0, value) for path, value in known]
    if found["n"]:
        path = f"{database.named} #{last + 1}"
        parts.append(SourceFile(path, int(found["n"]), 0, found["mark"], after))
    return parts


def _load(spark: SparkSession, database: Database, query: str, **options: str) -> DataFrame:
    jar = str(database.driver).replace("'", "\\'")
    spark.sql(f"ADD JAR '{jar}'")
    url = database.url
    if database.kind == "sqlite":
        file = Path(url.removeprefix("jdbc:sqlite:").split("?")[0])
        if not file.is_file():  # The driver would make an empty one.
            near = suggestion(file.name, [p.name for p in file.parent.glob("*")])
            raise SourceError(f"{file}: there is no such database.{near}")
        options["open_mode"] = "1"  # read only
    credentials = {"user": database.user, "password": database.password}
    options |= {key: value for key, value in credentials.items() if value is not None}
    return (
        spark.read.format("jdbc")
        .options(
            url=url,
            driver=_DRIVERS[database.kind],
            dbtable=f"({query}) AS source_query",
            fetchsize=str(_FETCH),
            preferTimestampNTZ="true",
            **options,
        )
        .load()
    )


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
