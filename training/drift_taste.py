"""Whether people still meet what they met before: each person held against their own past.

A change of taste hardly moves totals, as those who leave a category and those who come to it weigh
each other out. So each row that speaks for its item is asked how much likelier its category is
among its person's earlier rows than among everybody's, less what that past itself lets expect:
about the same from day to day while tastes stay, whoever happens to come. The mean of that over an
interval is held against the days before, by the limits that those give. It can only fall when
tastes change, so only that side is looked at.

Shapes: R rows, K rows of strength whose person and category are known, D days back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.drift_checks import plain
from training.drift_columns import TIME, USER, Moved, end_micros, micros_of
from training.drift_limits import (
    MOST_PAST,
    FloatArray,
    IntArray,
    before,
    chance_difference,
    days_back,
    step_of,
)
from training.drift_verdict import DriftThresholds

TASTE: Final = "taste"
"""Stands among the columns for how well rows fit their people's past."""
CATEGORY: Final = "item_category"
STRENGTH: Final = "strength"
NEEDED: Final = (USER, TIME, CATEGORY, STRENGTH)
"""Columns that tell of tastes."""
_LEAST_PAST: Final = 5
"""Earlier rows of a person that tell of a taste."""
_PRIOR: Final = 10.0
"""Rows of everybody that a person's own past is mixed with: a category that somebody never met is
unlikely for them, not impossible."""
_CERTAIN: Final = 0.01
_TOLERANCE: Final = 1e-9  # equal tastes differ by what sums round


@dataclass(frozen=True)
class Tastes:
    """How rows fit what the same people did before, in no order; a person's first rows are absent.

    Attributes:
        time_K: µs since 1970.
        share_K: Share of the person's earlier rows that have the row's category.
        lift_K: ln of how much likelier the category is in the person's past than in all rows, less
            the mean of that over the past itself.
    """

    time_K: IntArray
    share_K: FloatArray
    lift_K: FloatArray

    @classmethod
    def of(cls, rows: pa.Table, end: datetime) -> Tastes:
        """Of the rows before a moment; of none where persons or categories are not there.

        With n_c of a person's n earlier rows in category c, q_c the share of c in all rows and a
        the prior, the lift of c is ln (n_c + a q_c) / ((n + a) q_c): pointwise mutual information
        (Church and Hanks, Computational Linguistics, 1990) with a Dirichlet prior (Zhai and
        Lafferty, SIGIR 2001).

        Args:
            rows: All rows of the people that they are of, in any order.
            end: Later rows are not looked at.
        """
        if not set(NEEDED) <= set(rows.column_names):
            return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
        time_R = micros_of(rows)
        user_R, label_R = (_codes(rows[name]) for name in (USER, CATEGORY))
        known_R = (user_R >= 0) & (label_R >= 0) & (time_R < end_micros(end))
        known = np.flatnonzero(known_R & (rows[STRENGTH].to_numpy() > 0))
        # Rows of one moment in the order of their categories, whatever the order of the files.
        order = known[np.lexsort((_ranks(rows[CATEGORY])[known], time_R[known], user_R[known]))]
        user_K, label_K = user_R[order], label_R[order]
        share_of_all = np.bincount(label_K) / max(len(label_K), 1)
        earlier_K = _places(user_K)
        alike_K = _places(user_K * (label_K.max(initial=0) + 1) + label_K)
        weight_K = _PRIOR * share_of_all[label_K]
        # What the lifts of two categories of one person share is left out: it cancels.
        lift_K = np.log1p(alike_K / weight_K)
        # Each row adds one to its category: the sum of n_c times the lift grows by the difference.
        grows_K = (alike_K + 1) * np.log1p((alike_K + 1) / weight_K) - alike_K * lift_K
        sum_K = np.cumsum(grows_K) - grows_K
        sum_K -= sum_K[np.arange(len(user_K)) - earlier_K]
        enough_K = earlier_K >= _LEAST_PAST
        past_K = earlier_K[enough_K].astype(float)
        return cls(
            time_R[order][enough_K],
            alike_K[enough_K] / past_K,
            lift_K[enough_K] - sum_K[enough_K] / past_K,
        )

    def moved(
        self, end: datetime, length: timedelta, thresholds: DriftThresholds, chance: float
    ) -> dict[str, Moved]:
        """Holds a stretch of time against the days before it; nothing of too few of them.

        Args:
            end: Of the stretch.
            length: Its length.
            thresholds: Days that it is compared with, and rows on either side that tell enough.
            chance: Of a false alarm.
        """
        mean_D, past_D = self._means(self.lift_K, end, length, thresholds)
        change_D = mean_D - past_D
        past = change_D[1:][~np.isnan(change_D[1:])][:MOST_PAST]
        # Half of a two-sided chance lies on either side.
        noise, far = (chance_difference(past, 2 * part * chance) for part in (1.0, _CERTAIN))
        if noise is None or far is None or np.isnan(change_D[0]):
            return {}
        change = float(change_D[0])
        moved, certain = (bool(change < -limit - _TOLERANCE) for limit in (noise, far))
        return {
            TASTE: Moved(None, None, (0.0, 0.0), by_values=moved, by_nulls=False, certain=certain)
        }

    def change(self, end: datetime, length: timedelta, thresholds: DriftThresholds) -> str:
        """How well rows fit their people's past, usually and in a stretch of time."""
        mean_D, past_D = self._means(self.share_K, end, length, thresholds)
        return (
            f"rows share their category with {past_D[0]:.0%} -> {mean_D[0]:.0%} of the earlier "
            "rows of the same people"
        )

    def mean_share(self, start: datetime) -> float | None:
        """Mean share from a moment on; None where it is not known of any row."""
        share_K = self.share_K[self.time_K >= end_micros(start)]
        return float(share_K.mean()) if len(share_K) else None

    def _means(
        self, value_K: FloatArray, end: datetime, length: timedelta, thresholds: DriftThresholds
    ) -> tuple[FloatArray, FloatArray]:
        """(D,) twice: mean of each day, and of the days that it is compared with; NaN of few."""
        back_K = days_back(self.time_K, end_micros(end), length)
        within_K = back_K >= 0
        days = max(1, thresholds.reference // step_of(length))
        sum_D2 = np.stack(
            [
                np.bincount(back_K[within_K], weights, minlength=1).astype(float)
                for weights in (value_K[within_K], None)
            ],
            axis=1,
        )
        past_D2 = before(sum_D2, days)
        past_D2[0] = sum_D2[1 : 1 + days].sum(axis=0)
        mean_D, past_D = (
            np.where(count_D >= thresholds.min_rows, sum_D / np.maximum(count_D, 1.0), np.nan)
            for sum_D, count_D in (sum_D2.T, past_D2.T)
        )
        return mean_D, past_D


def _codes(labels: pa.ChunkedArray) -> IntArray:
    """(R,): a number of each different label, -1 for none."""
    codes = pc.fill_null(plain(labels).dictionary_encode().indices, -1)
    return np.asarray(codes.to_numpy(), dtype=np.int64)


def _ranks(labels: pa.ChunkedArray) -> IntArray:
    return np.asarray(pc.rank(plain(labels), tiebreaker="dense").to_numpy(), dtype=np.int64)


def _places(group_K: IntArray) -> IntArray:
    """How many earlier entries each has of its own group."""
    order = np.argsort(group_K, kind="stable")
    sorted_K = group_K[order]
    place_K = np.empty(len(group_K), np.int64)
    place_K[order] = np.arange(len(group_K)) - np.searchsorted(sorted_K, sorted_K)
    return place_K
