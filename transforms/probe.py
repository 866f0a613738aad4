"""Finds columns that know the future: the statistics behind `sextant probe`.

A column of items or users has one value for all time. Where it stems from a count over the whole
period (a "popularity"), a model that learns from an event also learns what came after it. Such a
column gives itself away: it orders the items as the events *after* a cut do. Facts from before
(length, genre, author, age) bear on popularity as well, but far less. On MovieLens, KuaiRand and
the simulator no honest column reached 0.37, while KuaiRand's counters lie between 0.45 and 0.70.
So what is tested is the strength of the relation, not whether there is one, and significance only
guards against chance. The four tests:

* popularity: the rank correlation of a column with the number of later events of the ids that
  were known before the cut, corrected for the noise of that number.
* taste: the same with the share of positives among later events. An honest column may say much
  about it (the length of a film about the share that is watched), so only one that says nearly
  everything is found.
* companions: columns that follow one that was found by the first two tests.
* features of examples: a column that alone tells the label of later events nearly always, or far
  better than its own value at the id's event before: it saw what it was to predict.

Ranks enter as normal scores, so a monotone change of scale changes nothing.

Shape legend: N ids of one table, E events of the log, R examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

POPULARITY_LIMIT = 0.40
"""Greatest corrected rank correlation with later popularity that a fact from before may have."""

TASTE_LIMIT = 0.90
"""The same with the later share of positives."""

COMPANION_LIMIT = 0.50
"""Rank correlation with a column that was found, from which on a column counts as its companion."""

LABEL_LIMIT = 0.95
"""AUC of a single feature from which on it counts as the label itself."""

SHIFT_LIMIT = 0.05
"""Greatest AUC that a feature may gain over its own value at the event before."""

MIN_IDS = 100
"""Fewest ids (or positive and negative examples) to judge by."""

# Evidence must stand this many standard errors above a limit: about one false alarm in 30,000.
_ERRORS = 4.0
_MIN_RELIABILITY = 0.3
_MIN_EVENTS_OF_RATE = 5
_MAX_LEVELS = 50
_SMALL_SAMPLE = 3


@dataclass(frozen=True)
class Leak:
    """A column that knows the future."""

    column: str
    kind: str
    """`popularity`, `taste`, `companion`, `label`, `own_event` or `later_row`."""
    strength: float
    """Correlation, AUC or share: what the test measures."""
    evidence: str
    """One clause for a person."""


@dataclass(frozen=True)
class Log:
    """The events of one side (items, or users), and the cut.

    Args:
        ids: (E,) int codes 0..N-1 of the side that is judged.
        others: (E,) int codes of the other side; they split the log in two halves at random.
        times: (E,) int64, any unit.
        positives: (E,) bool.
        cut: First moment that counts as the future.
        known: (N,) bool: ids that existed before the cut.
        noun: What the ids are, `items` or `users`.
    """

    ids: np.ndarray
    others: np.ndarray
    times: np.ndarray
    positives: np.ndarray
    cut: int
    known: np.ndarray
    noun: str

    def later_counts(self, half: int | None = None) -> np.ndarray:
        """(N,) number of later events; of one half (0 or 1) of the other side."""
        return np.bincount(self.ids[self._later(half)], minlength=len(self.known)).astype(float)

    def later_shares(self, half: int | None = None) -> np.ndarray:
        """(N,) share of positives among later events; NaN where there are none."""
        later = self._later(half)
        size = len(self.known)
        total = np.bincount(self.ids[later], minlength=size)
        liked = np.bincount(self.ids[later], weights=self.positives[later], minlength=size)
        return np.where(total > 0, liked / np.maximum(total, 1), np.nan)

    def _later(self, half: int | None) -> np.ndarray:
        later = self.times >= self.cut
        # An odd multiplier scrambles the codes, whose order may mean something.
        return later if half is None else later & ((self.others * 2654435761 >> 16) % 2 == half)


def column_leaks(columns: Mapping[str, np.ndarray], log: Log) -> list[Leak]:
    """Judges the columns of items or of users.

    Args:
        columns: (N,) each: numbers (NaN where missing), or texts with None where missing, of which
            those with few distinct values are judged as levels.
        log: The events, and which ids were known.

    Returns:
        What was found, strongest evidence first within each kind.
    """
    found: list[Leak] = []
    counts = log.later_counts()
    outcomes = [
        ("popularity", POPULARITY_LIMIT, log.known, counts, log.later_counts),
        (
            "taste",
            TASTE_LIMIT,
            log.known & (counts >= _MIN_EVENTS_OF_RATE),
            log.later_shares(),
            log.later_shares,
        ),
    ]
    for kind, limit, eligible, outcome, of_half in outcomes:
        reliability = _reliability(of_half(0)[eligible], of_half(1)[eligible])
        if reliability < _MIN_RELIABILITY:
            continue
        for name, values in columns.items():
            if any(leak.column == name for leak in found):
                continue
            raw, rows = _relation(values[eligible], outcome[eligible])
            corrected = raw / np.sqrt(reliability)
            if _lower(raw, rows) / np.sqrt(reliability) >= limit:
                strength = min(float(corrected), 1.0)
                found.append(Leak(name, kind, strength, _words(kind, strength, rows, log.noun)))
    found.sort(key=lambda leak: -leak.strength)
    return found + _companions(columns, [leak.column for leak in found])


def later_rows(times: Mapping[str, np.ndarray], log: Log, *, share: float = 0.2) -> list[Leak]:
    """Finds columns of times that lie after the first event of their own row.

    Such a row was written, or written again, after it was first used, so any of its columns may
    know the future.

    Args:
        times: (N,) float each, in the unit of the log; NaN where missing.
        log: The events.
        share: Greatest share of rows for which that may be so.
    """
    first = np.full(len(log.known), np.inf)
    np.minimum.at(first, log.ids, log.times)
    found = []
    for name, moment in times.items():
        used = np.isfinite(first) & ~np.isnan(moment)
        if used.sum() < MIN_IDS:
            continue
        late = float(np.mean(moment[used] > first[used]))
        if late > share:
            words = f"lies after the first event of {late:.0%} of the {log.noun}"
            found.append(Leak(name, "later_row", late, words))
    return found


def feature_leaks(
    features: Mapping[str, np.ndarray],
    owners: Mapping[str, np.ndarray],
    times: np.ndarray,
    labels: np.ndarray,
    *,
    held_out: float = 0.3,
) -> list[Leak]:
    """Judges the feature columns of examples by their last rows.

    Args:
        features: (R,) float each, NaN where missing.
        owners: (R,) ids for each feature: whose value it is, the user's or the item's.
        times: (R,) int64.
        labels: (R,) bool.
        held_out: Share of the rows, the latest ones, by which to judge.
    """
    found = []
    judged = times >= np.quantile(times, 1 - held_out) if len(times) else times.astype(bool)
    for name, values in features.items():
        now, _ = _auc(values[judged], labels[judged])
        if now >= LABEL_LIMIT:
            words = f"tells the label of {now:.0%} of the pairs of examples by itself"
            found.append(Leak(name, "label", now, words))
            continue
        before = previous_values(values, owners[name], times)
        both = judged & ~np.isnan(before) & ~np.isnan(values)
        now, error = _auc(values[both], labels[both])
        earlier, _ = _auc(before[both], labels[both])
        if now - earlier - _ERRORS * np.sqrt(2) * error >= SHIFT_LIMIT:
            words = f"AUC {now:.2f} against the label, but {earlier:.2f} one event earlier"
            found.append(Leak(name, "own_event", now - earlier, words))
    return found


def previous_values(values: np.ndarray, owners: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(R,) float: the value at the owner's last earlier moment; NaN where there is none."""
    order = np.lexsort((times, owners))
    owner, time, value = owners[order], times[order], values[order]
    start = np.ones(len(order), dtype=bool)
    start[1:] = (owner[1:] != owner[:-1]) | (time[1:] != time[:-1])
    group = np.cumsum(start) - 1
    firsts = np.flatnonzero(start)
    same_owner = np.zeros(len(firsts), dtype=bool)
    same_owner[1:] = owner[firsts[1:]] == owner[firsts[:-1]]
    of_group = np.full(len(firsts), np.nan)
    of_group[1:] = np.where(same_owner[1:], value[firsts[1:] - 1], np.nan)
    result = np.empty(len(order))
    result[order] = of_group[group]
    return result


def _companions(columns: Mapping[str, np.ndarray], found: Sequence[str]) -> list[Leak]:
    leaks = []
    for name, values in columns.items():
        if name in found:
            continue
        likest, strength = "", 0.0
        for other in found:
            if values.dtype == object or columns[other].dtype == object:
                continue
            raw, rows = _relation(values, columns[other])
            if _lower(raw, rows) >= max(COMPANION_LIMIT, strength):
                likest, strength = other, _lower(raw, rows)
        if likest:
            raw, _ = _relation(values, columns[likest])
            words = f"rises and falls with `{likest}` (rank correlation {raw:.2f})"
            leaks.append(Leak(name, "companion", raw, words))
    return sorted(leaks, key=lambda leak: -leak.strength)


def _words(kind: str, strength: float, rows: int, noun: str) -> str:
    what = "later events" if kind == "popularity" else "later likes"
    return f"orders {rows:,} {noun} as {what} do (rank correlation {strength:.2f})"


def _relation(values: np.ndarray, outcome: np.ndarray) -> tuple[float, int]:
    """How strongly a column goes with an outcome, from 0 to 1, and by how many rows."""
    if values.dtype == object:
        return _of_levels(values, outcome)
    there = ~np.isnan(values) & ~np.isnan(outcome)
    rows = int(there.sum())
    if rows < MIN_IDS:
        return 0.0, rows
    x, y = values[there], outcome[there]
    if x.min() == x.max() or y.min() == y.max():
        return 0.0, rows
    return abs(float(np.corrcoef(_scores(x), _scores(y))[0, 1])), rows


def _of_levels(values: np.ndarray, outcome: np.ndarray) -> tuple[float, int]:
    """The correlation ratio, less what chance gives to that many levels."""
    there = np.array([value is not None for value in values], dtype=bool) & ~np.isnan(outcome)
    rows = int(there.sum())
    if rows < MIN_IDS:
        return 0.0, rows
    level, code = np.unique(values[there].astype(str), return_inverse=True)
    if not 1 < len(level) <= min(_MAX_LEVELS, rows // 5):
        return 0.0, rows
    y = _scores(outcome[there])
    if np.ptp(y) == 0:
        return 0.0, rows
    means = np.bincount(code, weights=y) / np.bincount(code)
    within = float(np.sum((y - means[code]) ** 2) / np.sum((y - y.mean()) ** 2))
    return float(np.sqrt(max(0.0, 1 - within * (rows - 1) / (rows - len(level))))), rows


def _reliability(a: np.ndarray, b: np.ndarray) -> float:
    """Which part of an outcome's variance is no noise, from two halves of it (Spearman-Brown)."""
    half, _ = _relation(a, b)
    return 2 * half / (1 + half)


def _lower(correlation: float, rows: int) -> float:
    """A bound below which the true correlation hardly lies (Fisher's z)."""
    if rows <= _SMALL_SAMPLE:
        return 0.0
    z = np.arctanh(min(correlation, 1 - 1e-9)) - _ERRORS / np.sqrt(rows - _SMALL_SAMPLE)
    return float(np.tanh(z))


def _scores(values: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks (Blom)."""
    from scipy.stats import norm, rankdata

    return norm.ppf((rankdata(values) - 0.375) / (len(values) + 0.25))


def _auc(values: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Area under the curve, at least 0.5 whichever way the column points; and its error."""
    from scipy.stats import rankdata

    there = ~np.isnan(values)
    values, labels = values[there], labels[there]
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if min(positives, negatives) < MIN_IDS:
        return 0.5, 0.0
    ranks = rankdata(values)
    below = float(ranks[labels].sum()) - positives * (positives + 1) / 2
    area = below / (positives * negatives)
    error = np.sqrt((positives + negatives + 1) / (12 * positives * negatives))
    return max(area, 1 - area), float(error)
