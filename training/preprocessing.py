"""Numbers and names as a model's input, by statistics of the training rows alone (DE-24).

What is learnt (means, deviations, vocabularies) comes from the rows given to `fit`; later rows are
only looked up in it. So a test row is scaled by the training rows' mean, and a category that only
the test has is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

UNKNOWN = 0
"""Code of a category that was missing, or that the training rows do not hold."""


class PreprocessingError(ValueError):
    """A table cannot be fitted or transformed."""


@dataclass(frozen=True)
class Encoded:
    """R rows as arrays; M numbers and C categories."""

    numbers_RM: np.ndarray
    """float32, mean 0 and deviation 1 over the training rows; 0 where missing."""
    missing_RM: np.ndarray
    """bool: whether a number was null or not finite."""
    codes_RC: np.ndarray
    """int32; `UNKNOWN`, or from 1 the place in the column's vocabulary."""


@dataclass(frozen=True)
class Preprocessor:
    """Statistics of training rows."""

    numbers: tuple[str, ...]
    """M columns of numbers or truth values."""
    categories: tuple[str, ...]
    """C columns of texts."""
    mean_M: np.ndarray
    deviation_M: np.ndarray
    """1 for a column that is constant or empty, so that it becomes 0 and never NaN."""
    vocabularies: tuple[tuple[str, ...], ...]
    """Of each category column, its texts in order."""

    @classmethod
    def fit(cls, rows: pa.Table, *, numbers: Sequence[str], categories: Sequence[str] = ()) -> Self:
        """Learns from training rows.

        Args:
            rows: Training rows only.
            numbers: Columns of numbers or truth values.
            categories: Columns of texts.

        Raises:
            PreprocessingError: A column is not there or of another type.
        """
        _require(rows, [*numbers, *categories])
        values_RM, missing_RM = _numbers(rows, numbers)
        present_RM = ~missing_RM
        count_M = np.maximum(present_RM.sum(axis=0), 1)
        mean_M = values_RM.sum(axis=0, where=present_RM) / count_M
        spread_RM = np.where(present_RM, values_RM - mean_M, 0.0)
        deviation_M = np.sqrt((spread_RM**2).sum(axis=0) / count_M)
        # Below this, differences are rounding errors of the mean.
        is_flat_M = deviation_M <= 1e-12 * np.maximum(np.abs(mean_M), 1.0)
        return cls(
            tuple(numbers),
            tuple(categories),
            mean_M,
            np.where(is_flat_M, 1.0, deviation_M),
            tuple(
                tuple(sorted(set(pc.unique(rows[c]).drop_null().to_pylist()))) for c in categories
            ),
        )

    def transform(self, rows: pa.Table) -> Encoded:
        """Encodes rows by what the training rows taught.

        Raises:
            PreprocessingError: A column is not there or of another type.
        """
        _require(rows, [*self.numbers, *self.categories])
        values_RM, missing_RM = _numbers(rows, self.numbers)
        scaled_RM = np.where(missing_RM, 0.0, (values_RM - self.mean_M) / self.deviation_M)
        codes_RC = np.empty((rows.num_rows, len(self.categories)), dtype=np.int32)
        for place, (name, known) in enumerate(zip(self.categories, self.vocabularies, strict=True)):
            found = pc.index_in(
                rows[name].cast(pa.string()), value_set=pa.array(known, pa.string())
            )
            codes_RC[:, place] = pc.fill_null(found, -1).to_numpy() + 1
        return Encoded(scaled_RM.astype(np.float32), missing_RM, codes_RC)


def _require(rows: pa.Table, names: Sequence[str]) -> None:
    absent = [name for name in names if name not in rows.column_names]
    if absent:
        raise PreprocessingError(
            f"There is no column {', '.join(absent)}. There are: {', '.join(rows.column_names)}."
        )


def _numbers(rows: pa.Table, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(R, M) float64 with 0 where missing, and (R, M) bool: null or not finite."""
    values_RM = np.zeros((rows.num_rows, len(names)))
    for place, name in enumerate(names):
        try:
            column = rows[name].cast(pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise PreprocessingError(
                f"Column {name} holds {rows[name].type}, not numbers; list it under categories."
            ) from error
        values_RM[:, place] = pc.fill_null(column, np.nan).to_numpy()
    missing_RM = ~np.isfinite(values_RM)
    return np.where(missing_RM, 0.0, values_RM), missing_RM
