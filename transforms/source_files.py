"""Find the files of a source on any file system, and say which file a row came from.

A path may name parts that differ from file to file: of `log/{date}/*.csv`, the column `date` is
what stands there. Folders named `dt=2026-01-01` give a column `dt` in the same way. Paths are
written without a scheme on the local file system and as URIs elsewhere; characters that are special
in URIs or globs stand for themselves in the path of a file that was found.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from transforms.source_errors import SourceError, suggestion

FILE = "_file"
"""Column that holds the path of the file a row came from, as `list_files` writes it."""

_NAMED_PART = re.compile(r"\{([A-Za-z_]\w*)\}")
_GLOB = re.compile(r"[*?\[\]{}\\]")


@dataclass(frozen=True)
class SourceFile:
    """A file, or what stands for one in a source that has none."""

    path: str
    """Its path, as the column `_file` has it."""
    size: int
    """In bytes; of a database, in rows."""
    modified_micros: int
    """When it was last written, microseconds since 1970; 0 where that is not known."""
    mark: str
    """Differs whenever the content may differ."""
    after: str | None = None
    """Of a part of a database: its rows lie above this SQL literal, up to `mark`."""


def list_files(spark: SparkSession, paths: Sequence[str]) -> list[SourceFile]:
    """Lists the files that paths stand for, each once, in the order of their paths.

    Args:
        spark: The session; its Hadoop settings reach remote file systems.
        paths: Files, folders (read whole, with the folders in them) and globs. Names that begin
            with `_` or `.` are passed over, as Spark does.

    Raises:
        SourceError: A path stands for no file at all.
    """
    found: dict[str, SourceFile] = {}
    for path in paths:
        statuses = require_files(spark, path)
        before = len(found)
        for status in statuses:
            for file in _files_below(spark, status):
                found[file.path] = file
        if len(found) == before and not any(status.isFile() for status in statuses):
            raise SourceError(f"{path}: the folder holds no file.")
    return [found[path] for path in sorted(found)]


def require_files(spark: SparkSession, path: str) -> list[Any]:
    """Returns the statuses (Hadoop's `FileStatus`) that a path, glob or template matches.

    Raises:
        SourceError: When nothing does.
    """
    where = _hadoop_path(spark, readable_path(spark, path))
    files = _file_system(spark, where)
    found = files.globStatus(where)
    if found:
        return list(found)
    if any(char in path for char in "*?[{"):
        raise SourceError(f"{path}: no file matches this pattern. Check the folder and the ending.")
    folder = where.getParent()
    siblings = []
    if folder is not None and files.exists(folder):
        siblings = [status.getPath().getName() for status in files.listStatus(folder)]
    near = suggestion(where.getName(), siblings)
    place = "" if siblings else f" The folder {folder} does not exist or is empty."
    raise SourceError(f"{path}: there is no such file or folder.{near}{place}")


def first_file(spark: SparkSession, statuses: Sequence[Any]) -> str:
    """Returns the path of any one file among statuses and in folders below; empty if none."""
    files = (file for status in statuses for file in _files_below(spark, status))
    return next((file.path for file in files), "")


def readable_path(spark: SparkSession, path: str) -> str:
    """Returns a path as Spark's readers take it: named parts as `*`, names found as they are."""
    if _GLOB.search(path) is None:
        return path
    where = _hadoop_path(spark, path)
    if _file_system(spark, where).exists(where):
        return literal(path)
    return _NAMED_PART.sub("*", path)


def literal(path: str) -> str:
    """Writes the path of one file so that no character of it acts as a glob."""
    return _GLOB.sub(lambda match: f"\\{match[0]}", path)


def add_file(df: DataFrame) -> DataFrame:
    """Adds the column `_file` to a frame that comes straight from a reader of files."""
    # The path is encoded as a URI, where a plus sign stands for itself.
    encoded = F.replace(F.col("_metadata.file_path"), F.lit("+"), F.lit("%2B"))
    return df.select("*", F.regexp_replace(F.url_decode(encoded), "^file:/+", "/").alias(FILE))


def path_columns(paths: Sequence[str], example: str, names: Sequence[str]) -> dict[str, Column]:
    """Returns the columns that the path of a row's file gives.

    Args:
        paths: As declared: absolute, with named parts.
        example: The path of one file.
        names: Columns that are wanted; those that no path gives are left out.

    Returns:
        By name, texts made from the column `_file`.
    """
    found: dict[str, Column] = {}
    for name in names:
        templates = [_named_part(_plain(path), name) for path in paths]
        values = [value for value in templates if value is not None]
        if values:
            found[name] = F.coalesce(*values)
        elif f"/{name}=" in example:
            raw = F.regexp_extract(FILE, f"/{re.escape(name)}=([^/]*)/", 1)
            text = F.url_decode(F.replace(raw, F.lit("+"), F.lit("%2B")))
            found[name] = F.when(~raw.isin("", "__HIVE_DEFAULT_PARTITION__"), text)
    return found


def named_parts(paths: Sequence[str]) -> list[str]:
    """Returns the names that stand in paths as `{name}`."""
    return list(dict.fromkeys(name for path in paths for name in _NAMED_PART.findall(path)))


def _named_part(path: str, name: str) -> Column | None:
    """The text that stands in the place of `{name}`, in the same part of the file's path."""
    parts = path.split("/")
    number = next((n for n, part in enumerate(parts) if f"{{{name}}}" in part), None)
    if number is None:
        return None
    begin, end = parts[number].split(f"{{{name}}}", 1)
    pattern = f"^{_as_regex(begin)}(.*?){_as_regex(end)}$"
    value = F.regexp_extract(F.get(F.split(FILE, "/"), F.lit(number)), pattern, 1)
    return F.when(value != "", value)


def _as_regex(glob: str) -> str:
    glob = _NAMED_PART.sub("*", glob)
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in glob)


def _files_below(spark: SparkSession, status: Any) -> Iterator[SourceFile]:
    path = _plain(status.getPath().toString())
    if path.startswith("/"):  # Python walks a local folder many times faster than calls to Java.
        yield from _local_files(Path(path))
    elif status.isFile():
        size, modified = int(status.getLen()), int(status.getModificationTime()) * 1000
        yield SourceFile(path, size, modified, f"{size}:{modified}")
    else:
        for child in _file_system(spark, status.getPath()).listStatus(status.getPath()):
            if not _is_hidden(child.getPath().getName()):
                yield from _files_below(spark, child)


def _local_files(path: Path) -> Iterator[SourceFile]:
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        modified = status.st_mtime_ns // 1000
        yield SourceFile(str(path), status.st_size, modified, f"{status.st_size}:{modified}")
        return
    for child in path.iterdir():
        if not _is_hidden(child.name):
            yield from _local_files(child)


def _is_hidden(name: str) -> bool:
    # Spark reads `_x=1` though: a column's name may begin with a line.
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _plain(path: str) -> str:
    """A local path without its scheme."""
    return re.sub("^file:/+", "/", path)


def _hadoop_path(spark: SparkSession, path: str) -> Any:
    assert spark._jvm is not None  # A session always has its gateway.
    return spark._jvm.org.apache.hadoop.fs.Path(path)


def _file_system(spark: SparkSession, path: Any) -> Any:
    return path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())
