"""Read JSON lines: one object a line, every wanted value as the text that stands in the file.

Nothing is inferred: a number keeps each digit, an id its zeros, and the type of a column never
depends on which files were read. Lists and objects come as JSON text.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from transforms.source_errors import SourceError, missing_columns, quoted, reading

_SAMPLE = 200  # lines
_Tree = dict[str, "_Tree"]


def read_jsonl(
    spark: SparkSession,
    paths: Sequence[str],
    named: str,
    wanted: Collection[str],
    *,
    corrupt: str,
    encoding: str = "UTF-8",
    all_paths: Sequence[str] = (),
) -> DataFrame:
    """Reads files with one JSON object a line.

    Args:
        spark: The session.
        paths: As Spark's readers take them.
        named: The source, for messages.
        wanted: Fields, those inside objects as `user.id`; the first lines' own fields when empty.
        corrupt: Name of the column for lines that are no JSON object of this shape.
        encoding: Of the files.
        all_paths: All files of the source, of which `paths` are some. A line may lack a field, and
            so may a file; a field that no line of these has is a mistake.

    Returns:
        A text column for each wanted field, named as it was asked for, then `corrupt` and Spark's
        `_metadata`.

    Raises:
        SourceError: A wanted field is in no line, or the file is no JSON lines.
    """
    with reading(named):
        lines = spark.read.option("encoding", encoding).text(list(paths)).limit(_SAMPLE).collect()
    objects = _objects([row[0] for row in lines if row[0].strip()], named)
    top = {key for one in objects for key in one}
    # A key may hold dots itself; then it is meant as it stands.
    steps = {
        name: (name,) if name in top else tuple(name.split("."))
        for name in dict.fromkeys(wanted or sorted(top))
    }
    df = _read(spark, paths, steps, named, corrupt, encoding)
    known = dict.fromkeys(path for one in objects for path in _paths(one))
    doubtful = [name for name in steps if name not in known]
    if objects and doubtful:
        whole = _read(spark, all_paths or paths, steps, named, corrupt, encoding)
        missing = [
            name for name in doubtful if whole.filter(_value(steps[name]).isNotNull()).isEmpty()
        ]
        if missing:
            raise SourceError(missing_columns(named, missing, list(known)))
    # Selecting at once keeps `_metadata` within reach.
    return df.select(
        *[_value(path).alias(name) for name, path in steps.items()], corrupt, "_metadata"
    )


def _read(
    spark: SparkSession,
    paths: Sequence[str],
    steps: dict[str, tuple[str, ...]],
    named: str,
    corrupt: str,
    encoding: str,
) -> DataFrame:
    tree: _Tree = {}
    for path in steps.values():
        node = tree
        for step in path:
            node = node.setdefault(step, {})
    for name, path in steps.items():
        inner = next((other for other, way in steps.items() if way[: len(path)] == path != way), "")
        if inner:
            raise SourceError(
                f"{named}: `{name}` and `{inner}` are both mapped, but the one holds the other. "
                f"Map the parts of `{name}` that you need."
            )
    schema = StructType([*_schema(tree).fields, StructField(corrupt, StringType())])
    options = {"columnNameOfCorruptRecord": corrupt, "encoding": encoding}
    return spark.read.schema(schema).options(**options, recursiveFileLookup=True).json(list(paths))


def _value(path: Sequence[str]) -> Column:
    return F.col(".".join(quoted(step) for step in path))


def _objects(lines: Sequence[str], named: str) -> list[dict[str, object]]:
    """The objects among some lines.

    Raises:
        SourceError: No line is one, so that the file is of another kind.
    """
    objects = []
    for line in lines:
        with contextlib.suppress(ValueError):  # a broken line is kept apart later
            value = json.loads(line.removeprefix("\ufeff"))
            objects += [
                one
                for one in (value if isinstance(value, list) else [value])
                if isinstance(one, dict)
            ]
    if lines and not objects:
        whole = lines[0].lstrip().startswith(("[", "{"))
        cure = (
            "It looks like one JSON value over several lines: write one object a line, "
            "for instance with `jq -c '.[]' FILE`."
            if whole
            else "Set `format` to what it is."
        )
        raise SourceError(
            f"{named}: no line is a JSON object. {cure}\n  First line: {lines[0][:120]}"
        )
    return objects


def _paths(value: dict[str, object], prefix: str = "") -> Iterator[str]:
    for key, inner in value.items():
        yield f"{prefix}{key}"
        if isinstance(inner, dict):
            yield from _paths(inner, f"{prefix}{key}.")


def _schema(tree: _Tree) -> StructType:
    """Texts at the leaves; what a leaf holds beyond a scalar is JSON text."""
    fields = {name: _schema(inner) if inner else StringType() for name, inner in tree.items()}
    return StructType([StructField(name, kind) for name, kind in fields.items()])
