"""Which columns moved in an interval, by limits that the days before it give.

Shapes: R rows, D days back, B bins, U users.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from training.drift_checks import DISCRETE, OTHERS, Comparable, comparable_columns, plain
from training.drift_limits import (
    MOST_PAST,
    FloatArray,
    IntArray,
    before,
    chance_difference,
    days_back,
    limit_of_past,
    limit_of_users,
    psi,
    step_of,
    user_weights,
)
from training.drift_verdict import DriftThresholds

TIME: Final = "timestamp"
USER: Final = "user_id"
WEIGHT: Final = "__weight"
"""How many rows a drawn one stands for; absent where all are there."""
ROWS: Final = "rows"
"""Stands among the columns for the number of rows."""
_ROWS_FACTOR: Final = 1.5
_CERTAIN: Final = 0.01
"""A column that is certain lies beyond a limit that quiet ones exceed a hundredth as often."""
_TOLERANCE: Final = 1e-9  # 0.15 - 0.10 is above 0.05 in binary
_GROWING: Final = ("user_", "item_")
"""Beginnings of the names of features as of a moment, such as ages and counts. They grow with the
log, which only comparisons over equal distances tell from drift: without enough none moves."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A column in one interval, against the days before it."""

    score: float | None
    """PSI; None when one side holds only nulls."""
    limit: float | None
    null_rates: tuple[float, float]
    """Of the days before, and of the interval."""
    by_values: bool
    by_nulls: bool
    certain: bool = False
    """So far beyond its limit that it needs no second interval."""

    @property
    def moved(self) -> bool:
        """Whether it lies beyond its limits."""
        return self.by_values or self.by_nulls


@dataclass(frozen=True)
class Slot:
    """The rows of an interval, and those of the same time of day in the days before."""

    rows: pa.Table
    day_R: IntArray
    """0 in the interval, 1 a day before it, and so on."""
    reference_days: int
    """Days right before the interval that it is compared with."""
    counts_D: IntArray
    """Rows of each day, before any were left out by sampling."""

    @property
    def current(self) -> pa.Table:
        """The interval's rows."""
        return self.rows.filter(pa.array(self.day_R == 0))

    @property
    def reference(self) -> pa.Table:
        """The rows that it is compared with."""
        return self.rows.filter(pa.array(self._at_reference))

    @property
    def _at_reference(self) -> npt.NDArray[np.bool_]:
        return (self.day_R > 0) & (self.day_R <= self.reference_days)

    @property
    def usual_rows(self) -> float | None:
        """Median of the days of the reference; None where the days are not known apart."""
        days = self.counts_D[1 : 1 + self.reference_days]
        return float(np.median(days)) if len(days) > 1 else None


def slot_of(
    rows: pa.Table,
    end: datetime,
    every: timedelta,
    thresholds: DriftThresholds,
    rng: np.random.Generator,
) -> Slot:
    """Cut an interval and its past out of a window of rows.

    Where the days before hold too few rows of the same time of day, everything before the interval
    is its past.

    Args:
        rows: With a column `timestamp`; those after the interval are not looked at. With `WEIGHT`
            when they are drawn already.
        end: End of the interval.
        every: Its length.
        thresholds: Rows needed and taken of each day, and the days that count as reference.
        rng: Of the sampling.
    """
    time_R = micros_of(rows)
    until = end_micros(end)
    day_R = days_back(time_R, until, every)
    reference_days = max(1, thresholds.reference // step_of(every))
    day_R = np.where(day_R <= reference_days + MOST_PAST, day_R, -1)
    if ((day_R > 0) & (day_R <= reference_days)).sum() < thresholds.min_rows:
        reference_days = 1
        start = until - every // timedelta(microseconds=1)
        day_R = np.where(time_R >= start, 0, 1)
        day_R[time_R >= until] = -1
    weight_R = rows[WEIGHT].to_numpy() if WEIGHT in rows.column_names else np.ones(len(day_R))
    within = day_R >= 0
    counts_D = np.rint(np.bincount(day_R[within], weight_R[within], minlength=1)).astype(np.int64)
    taken_R = _sample(day_R, thresholds.sample_rows, rng, weight_R)
    return Slot(rows.take(pa.array(taken_R)), day_R[taken_R], reference_days, counts_D)


def micros_of(rows: pa.Table) -> IntArray:
    """The column `timestamp` in µs since 1970."""
    time = pc.cast(rows[TIME], pa.timestamp("us", tz="UTC"))
    return pc.cast(time, pa.int64()).to_numpy()


def end_micros(moment: datetime) -> int:
    """µs since 1970, exactly."""
    return pa.scalar(moment, pa.timestamp("us", tz="UTC")).cast(pa.int64()).as_py()


def _sample(day_R: IntArray, most: int, rng: np.random.Generator, weight_R: FloatArray) -> IntArray:
    """Positions of at most `most` rows of each day, ascending; -1 is no day.

    Heavier rows are drawn sooner (Efraimidis and Spirakis, Weighted random sampling with a
    reservoir, 2006).
    """
    lot_R = -np.log1p(-rng.random(len(day_R))) / weight_R
    order = np.lexsort((lot_R, day_R))
    day_sorted = day_R[order]
    place = np.arange(len(order)) - np.searchsorted(day_sorted, day_sorted)
    return np.sort(order[(day_sorted >= 0) & (place < most)])


def comparable(
    slot: Slot, watched: list[str], thresholds: DriftThresholds
) -> tuple[list[Comparable], dict[str, str]]:
    """The columns of the interval and of its reference that can be compared, and why not others."""
    reference, current = slot.reference, slot.current
    return comparable_columns(
        *(
            # By place, as a name that stands twice is to be refused in words.
            side.select([n for n, name in enumerate(side.column_names) if name in watched])
            for side in (reference, current)
        ),
        frozenset(thresholds.ignore),
        people=(people_of(reference), people_of(current)),
        min_people=thresholds.min_people,
    )


def people_of(rows: pa.Table) -> pa.Array:
    """Who each row is of; where that is not known, each of another person."""
    if USER in rows.column_names:
        return rows[USER].combine_chunks()
    return pa.array(np.arange(rows.num_rows))


def judge(
    slot: Slot,
    columns: list[Comparable],
    thresholds: DriftThresholds,
    rng: np.random.Generator,
) -> dict[str, Moved]:
    """Hold each column against its limits."""
    if not columns:
        return {}
    chance = thresholds.false_alarm / (1 + len(columns))
    resampling = _Resampling(slot, rng)
    found = {
        column.name: _judge(slot, column, chance, thresholds, resampling) for column in columns
    }
    return {**found, **rows_moved(slot, chance)}


def rows_moved(slot: Slot, chance: float) -> dict[str, Moved]:
    """Hold the number of rows against that of the days before; nothing of too few days.

    A source that sends half of its rows may change no share of any label.
    """
    known = np.flatnonzero(slot.counts_D)[-1:]
    row_D = slot.counts_D[: known[0] + 1 if len(known) else 0].astype(float)
    log_D = np.log(np.maximum(row_D, 1.0))
    change_D = log_D - before(log_D[:, None], slot.reference_days)[:, 0] / slot.reference_days
    past = change_D[1:][~np.isnan(change_D[1:])][:MOST_PAST]
    noise = chance_difference(past, chance)
    if noise is None or np.isnan(change_D[0]):
        return {}
    moved = bool(abs(change_D[0]) > max(np.log(_ROWS_FACTOR), noise))
    return {ROWS: Moved(None, None, (0.0, 0.0), by_values=moved, by_nulls=False)}


def _judge(
    slot: Slot,
    column: Comparable,
    chance: float,
    thresholds: DriftThresholds,
    resampling: "_Resampling",
) -> Moved:
    code_R, bins = _codes(slot.rows[column.name], column)
    days = len(slot.counts_D)
    known_R = code_R >= 0
    flat_R = slot.day_R[known_R] * bins + code_R[known_R]
    count_DB = np.bincount(flat_R, minlength=days * bins).reshape(days, bins).astype(float)
    row_D = np.bincount(slot.day_R, minlength=days).astype(float)
    null_D = row_D - count_DB.sum(axis=1)
    reference_DB = before(count_DB, slot.reference_days)
    rows_DX = before(np.stack([row_D, null_D], axis=1), slot.reference_days)
    # Without as many days before it as the reference has, the oldest ones are still one.
    reference_DB[0] = count_DB[1 : 1 + slot.reference_days].sum(axis=0)
    rows_DX[0] = [part[1 : 1 + slot.reference_days].sum() for part in (row_D, null_D)]
    enough_D = (row_D >= thresholds.min_rows) & (rows_DX[:, 0] >= thresholds.min_rows)
    past = np.flatnonzero(enough_D)[::-1]
    past = past[past > 0][-MOST_PAST:]
    rate_D = null_D / np.maximum(row_D, 1.0)
    difference_D = rate_D - rows_DX[:, 1] / np.maximum(rows_DX[:, 0], 1.0)
    noises = [
        _or(
            chance_difference(difference_D[past], part * chance),
            lambda part=part: resampling.null_noise(known_R, part * chance),
        )
        for part in (1.0, _CERTAIN)
    ]
    by_nulls, certain_nulls = (
        bool(abs(difference_D[0]) > max(thresholds.null_rate, noise) + _TOLERANCE)
        for noise in noises
    )
    score = limit = certain = None
    if count_DB[0].any() and reference_DB[0].any():
        score = float(psi(reference_DB[0], count_DB[0]))
        both = count_DB[past].any(axis=1) & reference_DB[past].any(axis=1)
        compared = past[both]
        scores = psi(reference_DB[compared], count_DB[compared])
        limit, certain = (
            limit_of_past(scores, part * chance, thresholds.psi) for part in (1.0, _CERTAIN)
        )
        if limit is None and not column.name.startswith(_GROWING):
            limit, certain = (
                max(thresholds.psi, resampling.limit(code_R, bins, part * chance))
                for part in (1.0, _CERTAIN)
            )
    return Moved(
        score=score,
        limit=limit,
        null_rates=(float(rate_D[0] - difference_D[0]), float(rate_D[0])),
        by_values=score is not None and limit is not None and score >= limit,
        by_nulls=by_nulls,
        certain=certain_nulls or (score is not None and certain is not None and score >= certain),
    )


def _or(found: float | None, other: Callable[[], float]) -> float:
    return other() if found is None else found


def _codes(values: pa.ChunkedArray, column: Comparable) -> tuple[IntArray, int]:
    """The bin of each row by the bins that Evidently takes, -1 for none; and how many there are.

    Evidently bins both sides together: value by value where the reference has few values, else in
    bins of equal width, as many as Sturges' rule says.
    """
    both = pa.chunked_array([column.reference, column.current]).drop_null()
    if column.numeric:
        number_R = pc.cast(plain(values), pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        number_R = np.where(np.isfinite(number_R), number_R, np.nan)
        known_R = ~np.isnan(number_R)
        code_R = np.full(len(number_R), -1)
        if pc.count_distinct(column.reference, mode="only_valid").as_py() <= DISCRETE:
            distinct, code_R[known_R] = np.unique(number_R[known_R], return_inverse=True)
            return code_R, max(len(distinct), 1)
        edges = np.histogram_bin_edges(both.to_numpy(), bins="sturges")
        code_R[known_R] = np.clip(
            np.searchsorted(edges, number_R[known_R], side="right") - 1, 0, len(edges) - 2
        )
        return code_R, len(edges) - 1
    labels = pc.unique(both)
    code = pc.index_in(plain(values).cast(pa.string()), value_set=labels)
    others = pc.index_in(pa.array([OTHERS]), value_set=labels)[0].as_py()
    known = pc.is_valid(plain(values))
    rest = len(labels) if others is None else others
    code = pc.if_else(known, pc.fill_null(code, rest), -1)
    return code.to_numpy(zero_copy_only=False).astype(np.int64), len(labels) + (others is None)


class _Resampling:
    """The users of both sides, resampled when a column first asks for it."""

    def __init__(self, slot: Slot, rng: np.random.Generator) -> None:
        at_reference = (slot.day_R > 0) & (slot.day_R <= slot.reference_days)
        self._sides = (np.flatnonzero(at_reference), np.flatnonzero(slot.day_R == 0))
        self._people = people_of(slot.rows)
        self._rng = rng
        self._drawn: tuple[list[IntArray], tuple[FloatArray, FloatArray]] | None = None

    def _draw(self) -> tuple[list[IntArray], tuple[FloatArray, FloatArray]]:
        if self._drawn is None:
            users, weights = [], []
            for side in self._sides:
                encoded = self._people.take(pa.array(side)).dictionary_encode()
                users.append(encoded.indices.to_numpy())
                weights.append(user_weights(max(len(encoded.dictionary), 1), self._rng))
            self._drawn = users, (weights[0], weights[1])
        return self._drawn

    def _counts(self, code_R: IntArray, bins: int) -> list[FloatArray]:
        """Rows of each user in each bin, (U, B), a side each."""
        users, weights = self._draw()
        found = []
        for side, user_R, weight_SU in zip(self._sides, users, weights, strict=True):
            known = code_R[side] >= 0
            flat = user_R[known] * bins + code_R[side][known]
            size = weight_SU.shape[1] * bins
            found.append(np.bincount(flat, minlength=size).reshape(-1, bins).astype(float))
        return found

    def limit(self, code_R: IntArray, bins: int, chance: float) -> float:
        """See `limit_of_users`."""
        reference, current = self._counts(code_R, bins)
        return limit_of_users(reference, current, self._draw()[1], chance)

    def null_noise(self, known_R: npt.NDArray[np.bool_], chance: float) -> float:
        """The difference of null rates that chance explains."""
        from scipy import stats

        variance = 0.0
        counts = self._counts(known_R.astype(np.int64), 2)
        for count_UB, weight_SU in zip(counts, self._draw()[1], strict=True):
            drawn_SB = weight_SU @ count_UB
            variance += float((drawn_SB[:, 0] / np.maximum(drawn_SB.sum(axis=1), 1.0)).var())
        return float(stats.norm.ppf(1.0 - chance / 2)) * variance**0.5
