"""Read a source as it is: files of several formats, Delta tables and SQL databases.

Every CSV and JSON value is text: types are the mapping's business, which can tell a bad value from
a missing one. Spark reads lazily, so damage inside a file shows only when rows are written; wrap
that write in `reading`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from transforms.source_errors import SourceError, missing_columns, quoted, reading, suggestion
from transforms.source_files import (
    FILE,
    SourceFile,
    add_file,
    first_file,
    list_files,
    literal,
    named_parts,
    path_columns,
    readable_path,
    require_files,
)
from transforms.source_jdbc import Database, list_parts, read_database
from transforms.source_jsonl import read_jsonl
from transforms.source_vectors import read_vectors

__all__ = [
    "CORRUPT_ROW",
    "FILE",
    "WHITESPACE",
    "Database",
    "SourceError",
    "SourceFile",
    "list_files",
    "list_source",
    "quoted",
    "read_source",
    "reading",
    "suggestion",
]

CORRUPT_ROW = "_corrupt_row"
"""Column that holds a whole line of CSV or JSON that is no row of this source."""

WHITESPACE = "whitespace"
"""The delimiter for fields with one or more blanks or tabs between them."""

FORMATS = ("csv", "jsonl", "parquet", "delta", "jdbc", "npy")

_DELIMITERS = {
    ",": '","',
    ";": '";"',
    "\t": r'"\t"',
    "|": '"|"',
    "::": '"::"',
    ":": '":"',
    WHITESPACE: WHITESPACE,
}


@dataclass(frozen=True)
class _Csv:
    delimiter: str
    header: bool
    quote: str
    encoding: str


def read_source(
    spark: SparkSession,
    paths: Sequence[str],
    *,
    format: str,
    delimiter: str = ",",
    header: bool = True,
    quote: str = '"',
    null_values: Sequence[str] = ("",),
    encoding: str = "UTF-8",
    wanted: Collection[str] = (),
    database: Database | None = None,
    files: Sequence[SourceFile] | None = None,
    with_file: bool = False,
) -> DataFrame:
    """Reads a source of one layout.

    Args:
        spark: The session.
        paths: Files, folders, globs and templates (see `source_files`), on any file system that
            Spark knows; `.gz`, `.bz2` and `.zst` are unpacked. One table's folder for `delta`, one
            file for `npy`; for `jdbc` none.
        format: `csv`, `jsonl`, `parquet`, `delta`, `jdbc` or `npy`.
        delimiter: Between the fields of a CSV line, of one or more characters, or `whitespace`.
        header: Whether each CSV file begins with its column names; else they are `_c0`, `_c1`, ...
        quote: Around values that hold the delimiter or line breaks, doubled inside them; empty
            where quotes mean nothing.
        null_values: Texts that mean "no value", in any text column.
        encoding: Of CSV and JSON files.
        wanted: Columns that the mapping uses; values inside others as `user.id`. Parts of paths
            (`{date}`, `dt=...`) are columns too.
        database: What `jdbc` reads.
        files: Read these alone, of those that `list_source` gave.
        with_file: Whether to add the column `_file`.

    Returns:
        The rows, with every column of the source; of JSON, the wanted ones. CSV and JSON values
        are texts as written, beside `_corrupt_row`.

    Raises:
        SourceError: A path holds no file, a file is damaged or of another layout, or a wanted
            column is not there.
    """
    named = ", ".join(paths) if database is None else database.named
    csv = _Csv(delimiter, header, quote, encoding)
    if format in ("csv", "jsonl", "parquet"):
        df = _read_files(spark, paths, named, format, csv, wanted, files)
    else:
        df = _read_table(spark, paths, named, format, database, files)
    df = _with_nested(df, wanted)
    missing = [name for name in dict.fromkeys(wanted) if name not in df.columns]
    if missing:
        columns = [name for name in df.columns if name not in (CORRUPT_ROW, FILE)]
        if format == "csv" and len(columns) == 1 and len(set(wanted)) > 1:
            first_line = columns[0] if header else str((df.first() or [""])[0])
            raise SourceError(_wrong_delimiter(named, len(set(wanted)), first_line, delimiter))
        raise SourceError(missing_columns(named, missing, columns))
    if not with_file:
        df = df.drop(FILE)
    texts = [field.name for field in df.schema.fields if isinstance(field.dataType, StringType)]
    kept = {FILE, CORRUPT_ROW}
    if not null_values:
        return df
    return df.withColumns({name: _known(name, null_values) for name in texts if name not in kept})


def list_source(
    spark: SparkSession,
    paths: Sequence[str],
    *,
    format: str,
    database: Database | None = None,
    known: Sequence[tuple[str, str]] = (),
) -> list[SourceFile]:
    """Lists the files of a source, or what stands for them.

    A Delta table is one file, marked by its version; a database as `list_parts` says.

    Args:
        spark: The session.
        paths: As for `read_source`.
        format: As there.
        database: As there.
        known: Path and mark of what was listed before; only databases with a cursor look at it.

    Raises:
        SourceError: There is nothing.
    """
    if database is not None:
        return list_parts(spark, database, known)
    if format == "delta":
        with reading(paths[0]):
            require_files(spark, paths[0])
            history = spark.sql(f"DESCRIBE HISTORY delta.{quoted(paths[0])} LIMIT 1")
            last = history.selectExpr("version", "unix_micros(timestamp) AS at").collect()[0]
        return [SourceFile(paths[0], 0, last["at"], str(last["version"]))]
    return list_files(spark, paths)


def _read_files(
    spark: SparkSession,
    paths: Sequence[str],
    named: str,
    format: str,
    csv: _Csv,
    wanted: Collection[str],
    files: Sequence[SourceFile] | None,
) -> DataFrame:
    whole = [readable_path(spark, path) for path in paths]
    if files is None:
        statuses = [status for path in paths for status in require_files(spark, path)]
        part, example = whole, first_file(spark, statuses)
    else:
        part, example = [literal(file.path) for file in files], files[0].path
    in_path = path_columns(paths, example, list(dict.fromkeys(wanted)))
    if format == "csv":
        df = _read_csv(spark, part, named, csv)
    elif format == "jsonl":
        inside = [name for name in wanted if name not in in_path]
        df = read_jsonl(
            spark, part, named, inside, corrupt=CORRUPT_ROW, encoding=csv.encoding, all_paths=whole
        )
    else:
        with reading(named):
            df = spark.read.option("recursiveFileLookup", True).parquet(*part)
    df = add_file(df).drop("_metadata")
    # What a folder's name says of a column gives way to the column itself; a template does not.
    named_so = named_parts(paths)
    return df.withColumns(
        {
            name: value
            for name, value in in_path.items()
            if name in named_so or name not in df.columns
        }
    )


def _read_table(
    spark: SparkSession,
    paths: Sequence[str],
    named: str,
    format: str,
    database: Database | None,
    files: Sequence[SourceFile] | None,
) -> DataFrame:
    """Reads what is no set of files; `_file` is the name that `list_source` gives it."""
    if database is not None:
        if files is None:
            return read_database(spark, database).withColumn(FILE, F.lit(named))
        parts = [
            read_database(spark, database, file).withColumn(FILE, F.lit(file.path))
            for file in files
        ]
        df = parts[0]
        for other in parts[1:]:
            df = df.unionByName(other)
        return df
    if format not in FORMATS:
        raise SourceError(
            f"{named}: the format `{format}` is not known; use one of {', '.join(FORMATS)}."
        )
    (path,) = paths
    require_files(spark, path)
    if format == "npy":
        return read_vectors(spark, path).withColumn(FILE, F.lit(path))
    with reading(named):
        reader = spark.read.format("delta")
        if files:
            # What was listed is what is read, whatever is written meanwhile.
            reader = reader.option("versionAsOf", files[0].mark)
        return reader.load(path).withColumn(FILE, F.lit(path))


def _read_csv(spark: SparkSession, paths: Sequence[str], named: str, csv: _Csv) -> DataFrame:
    if csv.delimiter == WHITESPACE:
        return _read_words(spark, paths, named, csv)
    reader = spark.read.options(
        sep=csv.delimiter,
        header=csv.header,
        encoding=csv.encoding,
        # A quote inside a quoted field is doubled (RFC 4180), and a field may hold line breaks.
        quote=csv.quote,
        escape=csv.quote or '"',
        enforceSchema=False,
        columnNameOfCorruptRecord=CORRUPT_ROW,
        recursiveFileLookup=True,
    )
    with reading(named):
        # With line breaks allowed, Spark would take the names of files for patterns here.
        names = reader.option("multiLine", False).csv(list(paths)).columns
    if not names:
        raise SourceError(f"{named}: the file is empty; it lacks even a header line.")
    fields = [StructField(name, StringType()) for name in [*names, CORRUPT_ROW]]
    df = reader.schema(StructType(fields)).option("multiLine", bool(csv.quote)).csv(list(paths))
    if names[0].startswith("\ufeff"):
        clean = {names[0]: names[0].removeprefix("\ufeff")}
        df = df.select(*[F.col(quoted(n)).alias(clean.get(n, n)) for n in df.columns], "_metadata")
    return df


def _read_words(spark: SparkSession, paths: Sequence[str], named: str, csv: _Csv) -> DataFrame:
    """Reads lines whose fields have runs of blanks and tabs between them, without quotes."""
    reader = spark.read.options(encoding=csv.encoding, recursiveFileLookup=True)
    with reading(named):
        lines = reader.text(list(paths)).filter(F.trim("value") != "")
        first = lines.first()
    if first is None:
        raise SourceError(f"{named}: the file is empty; it lacks even a header line.")
    words = first["value"].removeprefix("\ufeff").split()
    names = words if csv.header else [f"_c{number}" for number in range(len(words))]
    line = F.regexp_replace("value", "^[\ufeff\\s]+|\\s+$", "")
    found = F.split(line, "\\s+")
    if csv.header:
        lines = lines.filter(~_is_header(found, names))
    whole = F.size(found) == len(names)
    return lines.select(
        *[F.when(whole, found[number]).alias(name) for number, name in enumerate(names)],
        F.when(~whole, F.col("value")).alias(CORRUPT_ROW),
        "_metadata",
    )


def _is_header(found: Column, names: Sequence[str]) -> Column:
    """Whether a line is the header; the same names in another order stop the reading."""
    expected = F.array(*[F.lit(name) for name in names])
    other = (F.array_sort(found) == F.array_sort(expected)) & (found != expected)
    text = F.concat(
        F.lit("CSV header does not conform to the schema.\n Header: "),
        F.array_join(found, ", "),
        F.lit(f"\n Schema: {', '.join(names)}\n"),
    )
    return F.when(other, F.raise_error(text).cast("boolean")).otherwise(found == expected)


def _with_nested(df: DataFrame, wanted: Collection[str]) -> DataFrame:
    """Adds a column for each wanted value inside a column of the type struct."""
    found = {}
    for name in wanted:
        first, *inner = name.split(".")
        if name in df.columns or not inner or first not in df.columns:
            continue
        kind = df.schema[first].dataType
        for step in inner:
            kind = (
                kind[step].dataType if isinstance(kind, StructType) and step in kind.names else None
            )
        if kind is not None:
            found[name] = F.col(".".join(quoted(step) for step in (first, *inner)))
    return df.withColumns(found) if found else df


def _known(name: str, null_values: Sequence[str]) -> Column:
    value = F.col(quoted(name))
    return F.when(~value.isin(*null_values), value)


def _wrong_delimiter(named: str, mapped: int, line: str, delimiter: str) -> str:
    likely = next((shown for mark, shown in _rank_delimiters(line) if mark != delimiter), None)
    cure = "Set `delimiter` to what separates the fields."
    if likely is not None:
        cure = f"The delimiter looks like {likely}: set `delimiter: {likely}`."
    return (
        f"{named}: with the delimiter {_DELIMITERS.get(delimiter, repr(delimiter))} every line is "
        f"one field, but {mapped} columns are mapped. {cure}\n  First line: {line[:120]}"
    )


def _rank_delimiters(line: str) -> list[tuple[str, str]]:
    """Delimiters that occur in a line, the likeliest first."""
    found = [(mark, shown) for mark, shown in _DELIMITERS.items() if mark in line]
    # "::" before ":", since each "::" holds two of the other.
    found.sort(key=lambda pair: -line.count(pair[0]) * len(pair[0]) ** 2)
    # Blanks stand in texts too, so they come last.
    return [*found, *([(WHITESPACE, WHITESPACE)] if len(line.split()) > 1 else [])]
