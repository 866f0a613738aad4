"""Read CSV and Parquet sources as they are, and say in one text what is wrong with a source.

Every CSV column is text: types are the mapping's business, which can tell a bad value from a
missing one. Spark reads lazily, so damage inside a file shows only when rows are written; wrap that
write in `reading`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

CORRUPT_ROW = "_corrupt_row"
"""Column of a CSV frame that holds a whole line whose number of fields is not the header's."""

_DELIMITERS = {",": '","', ";": '";"', "\t": r'"\t"', "|": '"|"', "::": '"::"', ":": '":"'}
_COLUMNS_SHOWN = 30

# How Spark's messages name the file, and two headers that differ.
_FILE = re.compile(
    r"(?:reading file|footer for file:?)\s+(?:FileStatus\{path=)?(?:file:(?://)?)?"
    r"(\S+?)[;,.]*(?:\s|$)"
)
_HEADERS = re.compile(r"CSV header does not conform.*?Header: ([^\n]*)\n Schema: ([^\n]*)\n", re.S)


class SourceError(ValueError):
    """A source cannot be read as declared; the text says where and what to do instead."""


def read_source(
    spark: SparkSession,
    paths: Sequence[str],
    *,
    format: str,
    delimiter: str = ",",
    header: bool = True,
    null_values: Sequence[str] = ("",),
    encoding: str = "UTF-8",
    wanted: Collection[str] = (),
) -> DataFrame:
    """Reads files of one layout.

    Args:
        spark: The session.
        paths: Files, folders or globs, on any file system that Spark knows; `.gz` is unpacked.
        format: `csv` or `parquet`.
        delimiter: Between the fields of a CSV line, of one or more characters.
        header: Whether each CSV file begins with its column names; else they are `_c0`, `_c1`, ...
        null_values: Texts that mean "no value", in any text column.
        encoding: Of CSV files.
        wanted: Columns that the mapping uses.

    Returns:
        The rows, with every column of the source. CSV columns are texts as written, beside
        `_corrupt_row`.

    Raises:
        SourceError: A path holds no file, a file is damaged or of another layout, or a wanted
            column is not there.
    """
    for path in paths:
        _require_files(spark, path)
    named = ", ".join(paths)
    if format == "csv":
        df = _read_csv(spark, paths, delimiter, header, encoding)
    elif format == "parquet":
        with reading(named):
            df = spark.read.parquet(*paths)
    else:
        raise SourceError(f"{named}: the format `{format}` is not known; use csv or parquet.")
    missing = [name for name in dict.fromkeys(wanted) if name not in df.columns]
    if missing:
        columns = [name for name in df.columns if name != CORRUPT_ROW]
        if format == "csv" and len(columns) == 1 and len(set(wanted)) > 1:
            first_line = columns[0] if header else str((df.first() or [""])[0])
            raise SourceError(_wrong_delimiter(named, len(set(wanted)), first_line, delimiter))
        raise SourceError(_missing_columns(named, missing, columns))
    if not null_values:
        return df
    texts = [field.name for field in df.schema.fields if isinstance(field.dataType, StringType)]
    return df.withColumns(
        {
            name: F.when(~F.col(quoted(name)).isin(*null_values), F.col(quoted(name)))
            for name in texts
        }
    )


def quoted(column: str) -> str:
    """Quotes a column's name, which may hold dots and spaces."""
    return "`" + column.replace("`", "``") + "`"


def suggestion(word: str, known: Collection[str]) -> str:
    """Returns ` Did you mean ...?` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f" Did you mean `{near[0]}`?" if near else ""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns Spark's failures to read a file into a `SourceError`; other failures pass.

    Args:
        what: The source's paths, for the text when Spark does not name the file.

    Raises:
        SourceError: A file is damaged, vanished while it was read, or has another header.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        text = _read_failure(str(error), what)
        if text is None:
            raise
        raise SourceError(text) from error


def _read_failure(error: str, what: str) -> str | None:
    named = _FILE.search(error)
    file = named[1] if named else what
    headers = _HEADERS.search(error)
    if headers:
        # One header stands for all files: in another order, every value would shift.
        return (
            f"{file}: its header is `{headers[1]}`, but another file of this source has "
            f"`{headers[2]}`. Give files of different layouts as sources of their own."
        )
    signs = {
        "is not a Parquet file": "it is not a Parquet file, or it is cut short",
        "CRC checksum": "its checksum is wrong, so bytes changed since it was written",
        "could not verify page integrity": (
            "its checksum is wrong, so bytes changed since it was written"
        ),
        "CANNOT_READ_FILE_FOOTER": "its footer cannot be read",
        "UNABLE_TO_INFER_SCHEMA": "it holds no Parquet file",
        "EOFException": "it is cut short",
        "Unexpected end of input stream": "it is cut short",
        "not a gzip file": "its name ends in .gz but it is not a gzip file",
        "incorrect header check": "its name ends in .gz but it is not a gzip file",
        "ZipException": "its compressed data is damaged",
        "FileNotFoundException": "it vanished while it was being read",
        "FILE_NOT_EXIST": "it vanished while it was being read",
        "ParquetDecodingException": "its data is damaged",
        "FAILED_READ_FILE": "its data is damaged",
    }
    for sign, reason in signs.items():
        if sign.lower() in error.lower():
            return (
                f"{file}: cannot be read: {reason}. Fetch or export the file again; "
                "nothing was written."
            )
    return None


def _require_files(spark: SparkSession, path: str) -> None:
    assert spark._jvm is not None  # A session always has its gateway.
    hadoop = spark._jvm.org.apache.hadoop.fs
    where = hadoop.Path(path)
    files = where.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())
    found = files.globStatus(where)
    if found:
        return
    if any(char in path for char in "*?[{"):
        raise SourceError(f"{path}: no file matches this pattern. Check the folder and the ending.")
    folder = where.getParent()
    siblings = []
    if folder is not None and files.exists(folder):
        siblings = [status.getPath().getName() for status in files.listStatus(folder)]
    near = suggestion(where.getName(), siblings)
    place = "" if siblings else f" The folder {folder} does not exist or is empty."
    raise SourceError(f"{path}: there is no such file or folder.{near}{place}")


def _read_csv(
    spark: SparkSession, paths: Sequence[str], delimiter: str, header: bool, encoding: str
) -> DataFrame:
    reader = spark.read.options(
        sep=delimiter,
        header=header,
        encoding=encoding,
        # A quote inside a quoted field is doubled (RFC 4180), and a field may hold line breaks.
        escape='"',
        multiLine=True,
        enforceSchema=False,
        columnNameOfCorruptRecord=CORRUPT_ROW,
    )
    with reading(", ".join(paths)):
        names = reader.csv(list(paths)).columns
    if not names:
        raise SourceError(f"{', '.join(paths)}: the file is empty; it lacks even a header line.")
    fields = [StructField(name, StringType()) for name in [*names, CORRUPT_ROW]]
    df = reader.schema(StructType(fields)).csv(list(paths))
    if names[0].startswith("\ufeff"):
        df = df.withColumnRenamed(names[0], names[0].removeprefix("\ufeff"))
    return df


def _wrong_delimiter(named: str, mapped: int, line: str, delimiter: str) -> str:
    likely = next((shown for mark, shown in _rank_delimiters(line) if mark != delimiter), None)
    cure = "Set `delimiter` to what separates the fields."
    if likely is not None:
        cure = f"The delimiter looks like {likely}: set `delimiter: {likely}`."
    return (
        f"{named}: with the delimiter {_DELIMITERS.get(delimiter, repr(delimiter))} every line is "
        f"one field, but {mapped} columns are mapped. {cure}\n  First line: {line[:120]}"
    )


def _missing_columns(named: str, missing: Sequence[str], columns: Sequence[str]) -> str:
    what = "1 mapped column is" if len(missing) == 1 else f"{len(missing)} mapped columns are"
    shown = ", ".join(columns[:_COLUMNS_SHOWN])
    if len(columns) > _COLUMNS_SHOWN:
        shown += f" and {len(columns) - _COLUMNS_SHOWN} more"
    lines = [f"  `{name}` is not in the source.{suggestion(name, columns)}" for name in missing]
    return "\n".join([f"{named}: {what} missing.", *lines, f"  The source has: {shown}."])


def _rank_delimiters(line: str) -> list[tuple[str, str]]:
    """Delimiters that occur in a line, the likeliest first."""
    found = [(mark, shown) for mark, shown in _DELIMITERS.items() if mark in line]
    # "::" before ":", since each "::" holds two of the other.
    return sorted(found, key=lambda pair: -line.count(pair[0]) * len(pair[0]) ** 2)
