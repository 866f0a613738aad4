"""Statistics behind the drift verdict: which columns can be compared, and what counts as noise.

Population stability index (PSI) over bins with shares p (reference) and q (current):
sum (p - q) ln(p / q). By convention 0.1 is a moderate and 0.25 a large shift (Siddiqi 2006).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

FloatArray = npt.NDArray[np.float64]

MAX_CATEGORIES: Final = 50
_RESAMPLES = 200
_DISCRETE = 20  # Evidently's PSI compares value by value up to this many distinct values
_EMPTY_SHARE = 1e-4  # the share that Evidently's PSI gives to an empty bin
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
    reference: pa.Table, current: pa.Table, ignore: frozenset[str]
) -> tuple[list[Comparable], dict[str, str]]:
    """Choose the columns to compare.

    Identifiers, free text, times and nested values are left out: their distribution says nothing,
    and nothing personal may reach a report.

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
            column = _reduce(name, reference[name], current[name])
            if isinstance(column, str):
                excluded[name] = column
            else:
                chosen.append(column)
    return chosen, excluded


def _reduce(name: str, reference: pa.ChunkedArray, current: pa.ChunkedArray) -> Comparable | str:
    """Reduce a column to numbers or labels, or say why it cannot be compared."""
    sides = [_plain(reference), _plain(current)]
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


def _plain(column: pa.ChunkedArray) -> pa.Array:
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
    if pc.count_distinct(reference).as_py() <= _DISCRETE:
        return reference, current
    low, high = pc.quantile(pa.chunked_array([reference, current]), q=list(_CLIP)).to_pylist()
    clipped = (
        pc.min_element_wise(
            pc.max_element_wise(side, low, skip_nulls=False), high, skip_nulls=False
        )
        for side in (reference, current)
    )
    return next(clipped), next(clipped)


def psi_noise(
    reference: npt.NDArray[np.generic],
    current: npt.NDArray[np.generic],
    false_alarm: float,
    rng: np.random.Generator,
) -> float:
    """Return the PSI that two samples of one distribution exceed with chance `false_alarm`.

    Under the null hypothesis the two samples are a random split of their union, so splitting the
    union's bin counts again and again (multivariate hypergeometric) gives the exact distribution
    of Evidently's PSI, whose bins depend on the union alone. A gamma distribution with the mean
    and variance of these draws reaches tails that 200 draws cannot (PSI is asymptotically a scaled
    chi-square: Yurdakul and Naranjo, Journal of Risk Model Validation, 2020).

    Args:
        reference: values without nulls, at least one.
        current: likewise.
        false_alarm: chance in (0, 1), already divided by the number of columns.
        rng: generator of the splits.
    """
    from scipy import stats

    both = np.concatenate([reference, current])
    numeric = np.issubdtype(both.dtype, np.number)
    if numeric and len(np.unique(reference)) > _DISCRETE:
        counts = np.histogram(both, np.histogram_bin_edges(both, bins="sturges"))[0]
    else:
        counts = np.unique(both, return_counts=True)[1]
    first = rng.multivariate_hypergeometric(
        counts, len(reference), size=_RESAMPLES, method="marginals"
    )
    scores = _psi(first / len(reference), (counts - first) / len(current))
    mean, variance = float(scores.mean()), float(scores.var())
    if variance == 0.0:
        return mean
    tail = stats.gamma.ppf(1.0 - false_alarm, mean**2 / variance, scale=variance / mean)
    return float(max(tail, scores.max()))


def _psi(reference: FloatArray, current: FloatArray) -> FloatArray:
    """PSI of shares (draws, bins) per draw, with Evidently's share for empty bins."""
    used = (reference > 0) | (current > 0)
    p = np.where(reference > 0, reference, _EMPTY_SHARE)
    q = np.where(current > 0, current, _EMPTY_SHARE)
    return np.where(used, (p - q) * np.log(p / q), 0.0).sum(axis=1)


def null_rate_drifts(
    column: Comparable, change: float, false_alarm: float
) -> tuple[float, float, bool]:
    """Compare the null rates of both sides.

    Drift is a difference above `change` that two samples of one rate exceed with a chance below
    `false_alarm` (two-proportion z-test with pooled variance).

    Returns:
        Null rate of the reference, of the current data, and whether they differ.
    """
    from scipy import stats

    sizes = len(column.reference), len(column.current)
    before, after = column.reference.null_count / sizes[0], column.current.null_count / sizes[1]
    pooled = (column.reference.null_count + column.current.null_count) / sum(sizes)
    error = np.sqrt(pooled * (1.0 - pooled) * (1.0 / sizes[0] + 1.0 / sizes[1]))
    noise = float(stats.norm.ppf(1.0 - false_alarm / 2.0)) * error
    difference = abs(before - after)
    return before, after, bool(difference > change and difference > noise)


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
    score = _finite(_plain(predictions["score"])).drop_null().to_numpy()
    if len(score) < 2 or score.min() == score.max():
        return ScoreShape(len(score), len(score) >= 2, 0.0, 0.0)
    scale = score.std()
    low, high = np.quantile(score, [0.25, 0.75])
    reach = 3.0 * (high - low)
    far = (score < low - reach) | (score > high + reach)
    skewness = float((((score - score.mean()) / scale) ** 3).mean()) if scale > 0 else 0.0
    return ScoreShape(len(score), False, skewness, float(100.0 * far.mean()))


def mean_quality(
    metric: str, quality: Mapping[str, float], history: list[float]
) -> tuple[float, float] | str:
    """Return current and expected quality, or why they cannot be compared.

    Raises:
        DriftInputError: when `quality` has other metrics but not `metric`.
    """
    if not quality:
        return "no quality was measured"
    if metric not in quality:
        raise DriftInputError(
            f"drift: the thresholds watch {metric!r}, "
            f"but the quality has {', '.join(sorted(quality))}; name one of these."
        )
    known = [value for value in history if np.isfinite(value)]
    if not known:
        return f"{metric} has no history yet"
    if not np.isfinite(quality[metric]):
        return f"{metric} is undefined for this interval"
    return float(quality[metric]), float(np.mean(known))
