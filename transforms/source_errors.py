"""What is wrong with a source, in one text: the error, and how Spark's own failures become it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

_COLUMNS_SHOWN = 30

# How Spark's messages name the file, and two headers that differ.
_FILE = re.compile(
    r"(?:reading file|footer for file:?)\s+(?:FileStatus\{path=)?(?:file:(?://)?)?"
    r"(\S+?)[;,.]*(?:\s|$)"
)
_HEADERS = re.compile(r"CSV header does not conform.*?Header: ([^\n]*)\n Schema: ([^\n]*)\n", re.S)
_DATABASE = re.compile(r"(?:PSQLException|SQLiteException|java\.sql\.SQL\w*Exception): ([^\n]+)")

_SIGNS = {
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
    "Unknown frame descriptor": "its name ends in .zst but it is not a zstd file",
    "Truncated source": "it is cut short",
    "ZstdIOException": "its compressed data is damaged",
    "FileNotFoundException": "it vanished while it was being read",
    "FILE_NOT_EXIST": "it vanished while it was being read",
    "ParquetDecodingException": "its data is damaged",
    "FAILED_READ_FILE": "its data is damaged",
}
"""What a part of Spark's message means; the first that occurs counts."""


class SourceError(ValueError):
    """A source cannot be read as declared; the text says where and what to do instead."""


def quoted(column: str) -> str:
    """Quotes a column's name, which may hold dots and spaces."""
    return "`" + column.replace("`", "``") + "`"


def missing_columns(named: str, missing: Sequence[str], columns: Sequence[str]) -> str:
    """Says which mapped columns a source lacks, and which it has."""
    what = "1 mapped column is" if len(missing) == 1 else f"{len(missing)} mapped columns are"
    shown = ", ".join(columns[:_COLUMNS_SHOWN])
    if len(columns) > _COLUMNS_SHOWN:
        shown += f" and {len(columns) - _COLUMNS_SHOWN} more"
    lines = [f"  `{name}` is not in the source.{suggestion(name, columns)}" for name in missing]
    return "\n".join([f"{named}: {what} missing.", *lines, f"  The source has: {shown}."])


def suggestion(word: str, known: Collection[str]) -> str:
    """Returns ` Did you mean ...?` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f" Did you mean `{near[0]}`?" if near else ""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns Spark's failures to read a file or a database into a `SourceError`; others pass.

    Args:
        what: The source's paths, for the text when Spark does not name the file.

    Raises:
        SourceError: A file is damaged, vanished while it was read, or has another header; a
            database refuses.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        text = _read_failure("\n".join([str(error), *_causes(error)]), what)
        if text is None:
            raise
        raise SourceError(text) from error


def _causes(error: Exception) -> list[str]:
    """What Java says of the causes; Spark's own message often lacks them."""
    cause = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    found = []
    while cause is not None:
        found.append(str(cause.toString()))
        cause = cause.getCause()
    return found


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
    refused = _DATABASE.search(error)
    if refused:
        return f"{what}: the database refuses: {refused[1].strip()}"
    for sign, reason in _SIGNS.items():
        if sign.lower() in error.lower():
            return (
                f"{file}: cannot be read: {reason}. Fetch or export the file again; "
                "nothing was written."
            )
    return None
