"""What of two tables can be compared without showing anybody, and the shape of scores."""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_CATEGORIES: Final = 50
OTHERS: Final = "others"
"""Label of all labels that too few people have."""
DISCRETE: Final = 20
"""Evidently's PSI compares value by value up to this many distinct values of the reference."""
_CLIP = (0.01, 0.99)
_ID_NAME = re.compile(r"(^|_)(id|uuid|guid)s?$", re.IGNORECASE)
_ID_VALUE = r"^(\w{0,2}[:_-]?\d{3,}|[0-9a-fA-F-]{16,}|\S+@\S+)$"
_MAX_LABEL = 40
_MAX_WORDS = 4


class DriftInputError(ValueError):
    """Input that no drift verdict can be given on."""


@dataclass(frozen=True, slots=True)
class Comparable:
    """A column as both sides see it, reduced to numbers or labels."""

    name: str
    numeric: bool
    reference: pa.Array
    """float64 with null for NaN and infinities and without far outliers, or string."""
    current: pa.Array


def comparable_columns(
    reference: pa.Table,
    current: pa.Table,
    ignore: frozenset[str],
    people: tuple[pa.Array, pa.Array] | None = None,
    min_people: int = 1,
) -> tuple[list[Comparable], dict[str, str]]:
    """Choose the columns to compare.

    Identifiers, free text, times and nested values are left out: their distribution says nothing,
    and nothing personal may reach a report.

    Args:
        reference: Rows of the past.
        current: Rows of the interval.
        ignore: Columns to leave out.
        people: Whom each row of the two sides is of; without it each row is of another person.
        min_people: Labels that fewer different people have on both sides together are merged.

    Returns:
        The comparable columns by name, and of each other column the reason why it is left out.

    Raises:
        DriftInputError: when a table has two columns of one name.
    """
    for side, table in (("reference", reference), ("current", current)):
        twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
        if twice:
            raise DriftInputError(
                f"drift: the {side} table has the column {twice[0]!r} more than once; "
                "rename or drop the copies."
            )
    if people is None:
        numbers = pa.array(range(reference.num_rows + current.num_rows))
        people = numbers[: reference.num_rows], numbers[reference.num_rows :]
    chosen: list[Comparable] = []
    excluded: dict[str, str] = {}
    for name in sorted({*reference.column_names, *current.column_names}):
        missing = [
            side
            for side, table in (("reference", reference), ("current", current))
            if name not in table.column_names
        ]
        if name in ignore:
            excluded[name] = "ignored by the thresholds"
        elif missing:
            excluded[name] = f"not in the {missing[0]} data"
        elif _ID_NAME.search(name):
            excluded[name] = "an identifier"
        else:
            column = _reduce(name, reference[name], current[name], people, min_people)
            if isinstance(column, str):
                excluded[name] = column
            else:
                chosen.append(column)
    return chosen, excluded


def _merged(sides: list[pa.Array], people: tuple[pa.Array, pa.Array], least: int) -> list[pa.Array]:
    """Put `others` in place of the labels that fewer than `least` different people have.

    A label of one person tells where that person lives or what they like (PR-05).
    """
    both = pa.table({"label": pa.chunked_array(sides), "who": pa.chunked_array([*people])})
    counts = both.group_by("label").aggregate([("who", "count_distinct")])
    few = counts["label"].filter(pc.less(counts["who_count_distinct"], least)).drop_null()
    few = few.combine_chunks()
    return [pc.if_else(pc.is_in(side, value_set=few), OTHERS, side) for side in sides]


def _reduce(
    name: str,
    reference: pa.ChunkedArray,
    current: pa.ChunkedArray,
    people: tuple[pa.Array, pa.Array],
    min_people: int,
) -> Comparable | str:
    """Reduce a column to numbers or labels, or say why it cannot be compared."""
    sides = [plain(reference), plain(current)]
    kinds = [side.type for side in sides if not pa.types.is_null(side.type)]
    if not kinds or all(side.null_count == len(side) for side in sides):
        return "no values on either side"
    numeric = all(_is_number(kind) for kind in kinds)
    if not numeric and not all(
        pa.types.is_string(kind) or pa.types.is_boolean(kind) for kind in kinds
    ):
        different = len({str(kind) for kind in kinds}) > 1
        return f"not comparable: {' and '.join(str(kind) for kind in kinds[: 1 + different])}"
    if numeric:
        values = [_finite(side) for side in sides]
    else:
        values = [side.cast(pa.string()) for side in sides]
    both = pa.chunked_array(values).drop_null()
    distinct = pc.count_distinct(both).as_py()
    if not distinct:
        return "no values on either side"
    if distinct == 1 and len({side.null_count / max(len(side), 1) for side in values}) == 1:
        return "constant"
    if not numeric and (distinct > MAX_CATEGORIES or any(_is_personal(side) for side in values)):
        return "free text or an identifier by its values"
    if not numeric:
        values = _merged(values, people, min_people)
        if pc.all(pc.equal(pa.chunked_array(values).drop_null(), OTHERS)).as_py():
            return f"no label that {min_people} people have"
    return Comparable(name, numeric, *(_clip_outliers(*values) if numeric else values))


def _is_personal(labels: pa.Array) -> bool:
    """Tell text and identifiers from categories: long, of many words, coded or hardly repeated."""
    known = labels.drop_null()
    if not len(known):
        return False
    coded = pc.sum(pc.match_substring_regex(known, _ID_VALUE)).as_py()
    return bool(
        pc.max(pc.utf8_length(known)).as_py() > _MAX_LABEL
        or pc.max(pc.count_substring(known, " ")).as_py() >= _MAX_WORDS
        or 2 * coded > len(known)
        or 2 * pc.count_distinct(known).as_py() > len(known)
    )


def plain(column: pa.ChunkedArray) -> pa.Array:
    """Unify chunks, dictionaries and string widths."""
    array = column.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return array


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _finite(array: pa.Array) -> pa.Array:
    """Cast to float64; NaN and infinities become null, as they hold no value to compare."""
    numbers = array.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(numbers), numbers, None)


def _clip_outliers(reference: pa.Array, current: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Move values beyond the 1st and 99th percentile of both sides together onto them.

    PSI uses bins of equal width: one far outlier would put all other values into a single bin.
    """
    if pc.count_distinct(reference, mode="only_valid").as_py() <= DISCRETE:
        return reference, current
    low, high = pc.quantile(pa.chunked_array([reference, current]), q=list(_CLIP)).to_pylist()
    clipped = (
        pc.min_element_wise(
            pc.max_element_wise(side, low, skip_nulls=False), high, skip_nulls=False
        )
        for side in (reference, current)
    )
    return next(clipped), next(clipped)


@dataclass(frozen=True, slots=True)
class ScoreShape:
    """Shape of the scores that a model gave."""

    count: int
    collapsed: bool
    """At least two scores, and all equal."""
    skewness: float
    """Third standardised moment; 0 for collapsed scores."""
    outlier_percentage: float
    """Percentage beyond three interquartile ranges from the quartiles (Tukey's far out)."""


def score_shape(predictions: pa.Table) -> ScoreShape:
    """Measure the column `score`; non-finite scores and nulls are left out.

    Raises:
        DriftInputError: when there is no numeric column `score`.
    """
    if "score" not in predictions.column_names or not _is_number(predictions["score"].type):
        found = ", ".join(f"{field.name} {field.type}" for field in predictions.schema)
        raise DriftInputError(
            "drift: predictions need a numeric column 'score'; "
            f"the table has {found or 'no columns'}."
        )
    score = _finite(plain(predictions["score"])).drop_null().to_numpy()
    if len(score) < 2 or score.min() == score.max():
        return ScoreShape(len(score), len(score) >= 2, 0.0, 0.0)
    scale = score.std()
    low, high = np.quantile(score, [0.25, 0.75])
    reach = 3.0 * (high - low)
    far = (score < low - reach) | (score > high + reach)
    skewness = float((((score - score.mean()) / scale) ** 3).mean()) if scale > 0 else 0.0
    return ScoreShape(len(score), False, skewness, float(100.0 * far.mean()))
