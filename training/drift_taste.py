"""Whether people still meet what they met before: each person held against their own past.

A change of taste hardly moves totals, as those who leave a category and those who come to it weigh
each other out. So each row is asked which share of its person's earlier rows has its category, and
the mean of that over an interval is held against the days before, by the limits that those give.

Shapes: R rows, K rows whose person and category are known, D days back.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from training.drift_checks import plain
from training.drift_columns import TIME, USER, Moved, Slot
from training.drift_limits import MOST_PAST, FloatArray, IntArray, before, chance_difference

TASTE: Final = "taste"
"""Stands among the columns for how well rows fit their people's past."""
CATEGORY: Final = "item_category"
_FIT: Final = "__fit"
_LEAST_PAST: Final = 5
"""Earlier rows of a person that tell of a taste."""
_CERTAIN: Final = 0.01


def with_fit(rows: pa.Table) -> pa.Table:
    """Adds what `taste_moved` looks at, where persons and categories are there.

    Args:
        rows: Of an interval and of its past, in any order; drawn ones tell less of each person.
    """
    if not {USER, TIME, CATEGORY} <= set(rows.column_names):
        return rows
    return rows.append_column(_FIT, pa.array(_fit(rows), from_pandas=True))


def mean_fit(rows: pa.Table, start: datetime) -> float | None:
    """Mean fit of the rows from a moment on; None where it is not known of any."""
    rows = with_fit(rows)
    if _FIT not in rows.column_names:
        return None
    now = rows.filter(pc.greater_equal(rows[TIME], pa.scalar(start)))
    mean: float | None = pc.mean(now[_FIT]).as_py()
    return mean


def _fit(rows: pa.Table) -> FloatArray:
    """(R,): share of the person's earlier rows with the row's category, NaN after too few."""
    codes = [plain(rows[name]).dictionary_encode().indices for name in (USER, CATEGORY)]
    user_R, label_R = (pc.fill_null(code, -1).to_numpy().astype(np.int64) for code in codes)
    known = np.flatnonzero((user_R >= 0) & (label_R >= 0))
    time_K = pc.cast(rows[TIME], pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()[known]
    # Rows of one moment in the order of their categories, whatever the order of the files.
    label_rank = _ranks(rows[CATEGORY])[known]
    order = known[np.lexsort((label_rank, time_K, user_R[known]))]
    pair_K = user_R[order] * (label_R.max(initial=0) + 1) + label_R[order]
    earlier_K, alike_K = _places(user_R[order]), _places(pair_K)
    fit_R = np.full(len(user_R), np.nan)
    enough_K = earlier_K >= _LEAST_PAST
    fit_R[order[enough_K]] = alike_K[enough_K] / earlier_K[enough_K]
    return fit_R


def _ranks(labels: pa.ChunkedArray) -> IntArray:
    return np.asarray(pc.rank(plain(labels), tiebreaker="dense").to_numpy(), dtype=np.int64)


def _places(group_K: IntArray) -> IntArray:
    """How many earlier entries each has of its own group."""
    order = np.argsort(group_K, kind="stable")
    sorted_K = group_K[order]
    place_K = np.empty(len(group_K), np.int64)
    place_K[order] = np.arange(len(group_K)) - np.searchsorted(sorted_K, sorted_K)
    return place_K


def taste_moved(slot: Slot, chance: float, least: int) -> dict[str, Moved]:
    """Holds an interval's mean fit against that of the days before; nothing of too few of them.

    Args:
        slot: Of rows `with_fit`.
        chance: Of a false alarm.
        least: Rows on either side that tell enough.
    """
    mean_D, past_D = _means(slot, least)
    change_D = mean_D - past_D
    past = change_D[1:][~np.isnan(change_D[1:])][:MOST_PAST]
    noise, far = (chance_difference(past, part * chance) for part in (1.0, _CERTAIN))
    if noise is None or far is None or np.isnan(change_D[0]):
        return {}
    change = abs(float(change_D[0]))
    moved, certain = bool(change > noise), bool(change > far)
    return {TASTE: Moved(None, None, (0.0, 0.0), by_values=moved, by_nulls=False, certain=certain)}


def taste_change(slot: Slot) -> str:
    """How well rows fit their people's past, usually and now."""
    mean_D, past_D = _means(slot, 1)
    return (
        f"rows share their category with {past_D[0]:.0%} -> {mean_D[0]:.0%} of the earlier rows "
        "of the same people"
    )


def _means(slot: Slot, least: int) -> tuple[FloatArray, FloatArray]:
    """(D,) twice: mean fit of each day, and of the days that it is compared with; NaN of few."""
    if _FIT not in slot.rows.column_names:
        return np.zeros(0), np.zeros(0)
    days = len(slot.counts_D)
    fit_R: FloatArray = slot.rows[_FIT].to_numpy()
    known_R: npt.NDArray[np.bool_] = ~np.isnan(fit_R)
    day_R = slot.day_R[known_R]
    sum_2D = [
        np.bincount(day_R, weights, minlength=days).astype(float)
        for weights in (fit_R[known_R], None)
    ]
    past_D2 = before(np.stack(sum_2D, axis=1), slot.reference_days)
    past_D2[0] = [part[1 : 1 + slot.reference_days].sum() for part in sum_2D]
    mean_D, past_D = (
        np.where(count >= least, total / np.maximum(count, 1.0), np.nan)
        for total, count in ((sum_2D[0], sum_2D[1]), (past_D2[:, 0], past_D2[:, 1]))
    )
    return mean_D, past_D
