"""Drift of features, predictions and quality: a report for people and a verdict for the DAG.

What counts as drift is decided here, without Evidently, which draws it. A column moves when its PSI
reaches the limit of the spec and exceeds what quiet intervals show (`training.drift_limits`). It
drifts when it moved in two of the last four intervals, or so far in this one that one is enough, or
when it moved over the last day as a whole, which shows smaller changes that last. One interval
alone says little: with thirty columns, a limit that quiet intervals hardly ever exceed is one that
no shift of a small pipeline exceeds either.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.drift_checks import (
    DISCRETE,
    Comparable,
    DriftInputError,
    score_shape,
)
from training.drift_columns import ROWS, USER, Moved, Slot, comparable, judge, rows_moved, slot_of
from training.drift_page import draw
from training.drift_taste import TASTE, Tastes
from training.drift_verdict import (
    Alert,
    ColumnDrift,
    DriftThresholds,
    DriftVerdict,
    Quality,
    QualityDrift,
    Speed,
    raise_alerts,
)
from training.drift_words import causes_of, change_of, rows_change

__all__ = [
    "Alert",
    "ColumnDrift",
    "DriftInputError",
    "DriftThresholds",
    "DriftVerdict",
    "Quality",
    "QualityDrift",
    "Speed",
    "drift_report",
    "judge_columns",
]

PREDICTION: Final = "prediction.score"
LAST: Final = 4
"""Intervals of which two must name a column (DM-09: drift is told within a day of four)."""
_NEEDED: Final = 2
_DAY: Final = timedelta(days=1)
_ONE_CHANCE: Final = 0.02
"""Part of the false alarms that the last day may raise, since neighbouring days share most rows;
and that tastes may, which are not one of many columns."""


def drift_report(
    *,
    rows: pa.Table,
    watched: Sequence[str],
    at: datetime,
    every: timedelta,
    tastes: Tastes | None = None,
    predictions: pa.Table | None = None,
    past_predictions: pa.Table | None = None,
    same_models: bool = True,
    quality: Sequence[Quality] = (),
    speeds: Sequence[Speed] = (),
    thresholds: DriftThresholds,
    out_dir: Path,
    seed: int,
    model: str = "model",
    since: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    done: Callable[[DriftVerdict], str] = lambda _: "",
) -> DriftVerdict:
    """Compare an interval with the past and write what was found.

    Writes to `out_dir`, which is made where missing: `drift.html` (one page, works offline),
    `snapshot.json` (for `evidently.core.report.Snapshot.load` and for a workspace) and
    `verdict.json`. Neither ids of people nor free text reach any of them, see `comparable_columns`.

    Fewer than `thresholds.min_rows` rows, none included, are no error: their columns are not
    compared, `enough_data` is false and a note says so. Quality is judged all the same.

    Args:
        rows: Features of the interval and of the past, with `timestamp`, and with `user_id` and
            `item_id` where they are known.
        watched: Columns of theirs to compare.
        at: End of the judged interval.
        every: Length of an interval.
        tastes: Of people of the interval and of its past; None when they are not to be judged.
        predictions: Scores given in the interval, numeric column `score`, with `user_id` where it
            is known; None if unknown.
        past_predictions: Scores given in earlier intervals; None where there are none.
        same_models: Whether the same versions gave them. Scores of others have another scale; only
            their shape is looked at.
        quality: The watched metric of each served model.
        speeds: How quickly models score and stages work, those that have a limit.
        thresholds: Limits.
        out_dir: Folder of the three files.
        seed: Of sampling and resampling; not negative.
        model: Name of the model that gave the scores, for the alerts.
        since: Column that the verdict of the interval before named -> since when.
        notes: What else could not be judged, in words.
        done: Says what was done about a verdict.

    Raises:
        DriftInputError: When the rows have a column twice, or predictions no numeric `score`.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    noted = list(notes)
    columns, compared, excluded, slot = judge_columns(
        rows, watched, at, every, thresholds, seed, noted, tastes
    )
    sides = slot.reference.num_rows, slot.current.num_rows
    enough_data = min(sides) >= thresholds.min_rows
    scores = past_scores = None
    if predictions is not None:
        scores = score_shape(predictions)
        if past_predictions is not None:
            past_scores = score_shape(past_predictions)
        if past_predictions is not None and same_models:
            found = _judge_scores(predictions, past_predictions, thresholds, seed, noted)
            columns += [column for column, _ in found]
            compared += [values for _, values in found]
    named = since or {}
    columns = [
        replace(column, since=named.get(column.name, column.since)) if column.drifted else column
        for column in columns
    ]
    columns.sort(key=lambda c: (not c.drifted, c.score is None, -(c.score or 0.0), c.name))
    judged = _judge_quality(quality, thresholds, noted)
    alerts = raise_alerts(
        columns=tuple(columns),
        quality=judged,
        scores=scores,
        past_scores=past_scores,
        thresholds=thresholds,
        speeds=speeds,
        model=model,
        timestamp=at.isoformat(),
    )
    drifted = frozenset(column.name for column in columns if column.drifted)
    reasons = tuple(alert.message for alert in alerts)
    causes = tuple(causes_of(slot, compared, drifted)) if alerts else ()
    verdict = DriftVerdict(
        drifted=any(alert.drift for alert in alerts),
        words=(),
        reasons=reasons,
        causes=causes,
        notes=tuple(noted),
        enough_data=enough_data,
        share=len(drifted) / max(len(columns), 1),
        columns=tuple(columns),
        excluded=dict(sorted(excluded.items())),
        quality=judged,
        scores=scores,
        alerts=alerts,
        rows_reference=sides[0],
        rows_current=sides[1],
        thresholds=thresholds,
        seed=seed,
    )
    verdict = replace(verdict, words=_words(verdict, done))
    draw(columns, compared, verdict.words, out_dir, at)
    text = json.dumps(verdict.to_dict(), indent=2, allow_nan=False)
    (out_dir / "verdict.json").write_text(text + "\n", encoding="utf-8")
    return verdict


def judge_columns(
    rows: pa.Table,
    watched: Sequence[str],
    at: datetime,
    every: timedelta,
    thresholds: DriftThresholds,
    seed: int,
    notes: list[str],
    tastes: Tastes | None = None,
) -> tuple[list[ColumnDrift], list[Comparable], dict[str, str], Slot]:
    """Judge the columns of an interval by it, by the three before it, and by its last day.

    Returns:
        What was found of each column, its values, why other columns were not compared, and the rows
        of the interval and its past. Notes are added to `notes`.
    """
    judge_span = partial(_Span.judge, rows, watched, tastes, thresholds)
    spans = [
        judge_span(at - lag * every, every, [seed, lag], thresholds.false_alarm)
        for lag in range(LAST)
    ]
    now = spans[0]
    sizes = now.slot.reference.num_rows, now.slot.current.num_rows
    if min(sizes) < thresholds.min_rows:
        notes.append(
            f"not enough data to compare columns: {sizes[0]} reference and {sizes[1]} current "
            f"rows, {thresholds.min_rows} are needed on each side"
        )
    found = {name: _column(name, spans, at, every) for name in now.moved}
    compared = dict(now.compared)
    if every < _DAY:
        day = judge_span(at, _DAY, [seed, LAST], _ONE_CHANCE * thresholds.false_alarm)
        for name, moved in day.moved.items():
            if moved.moved and not (name in found and found[name].drifted):
                found[name] = replace(day.column(name), drifted=True, span="day", since=text(at))
                compared |= {name: day.compared[name]} if name in day.compared else {}
    return (
        list(found.values()),
        [compared[name] for name in sorted(compared)],
        now.excluded,
        now.slot,
    )


@dataclass(frozen=True)
class _Span:
    """A stretch of time held against its past."""

    slot: Slot
    compared: dict[str, Comparable]
    excluded: dict[str, str]
    moved: dict[str, Moved]
    of_all: dict[str, Callable[[], str]]
    """Words on what is judged of a stretch as a whole rather than of a column."""

    @classmethod
    def judge(
        cls,
        rows: pa.Table,
        watched: Sequence[str],
        tastes: Tastes | None,
        thresholds: DriftThresholds,
        end: datetime,
        length: timedelta,
        seed: list[int],
        false_alarm: float,
    ) -> "_Span":
        """Judge the stretch of a length that ends at a moment."""
        rng = np.random.default_rng(seed)
        limits = replace(thresholds, false_alarm=false_alarm)
        slot = slot_of(rows, end, length, limits, rng)
        of_all = {ROWS: partial(rows_change, slot)}
        if min(slot.reference.num_rows, slot.current.num_rows) < limits.min_rows:
            return cls(slot, {}, {}, rows_moved(slot, false_alarm), of_all)
        columns, excluded = comparable(slot, list(watched), limits)
        by_name = {column.name: column for column in columns}
        moved = judge(slot, columns, limits, rng)
        if tastes is not None and TASTE not in limits.ignore:
            moved |= tastes.moved(end, length, limits, _ONE_CHANCE * thresholds.false_alarm)
            of_all[TASTE] = partial(tastes.change, end, length, limits)
        return cls(slot, by_name, excluded, moved, of_all)

    def column(self, name: str) -> ColumnDrift:
        """What was found of a column, by this stretch alone."""
        moved = self.moved[name]
        of_all = self.of_all.get(name)
        change = of_all() if of_all is not None else change_of(self.compared[name])
        return ColumnDrift(
            name=name,
            score=moved.score,
            threshold=moved.limit,
            moved=moved.moved,
            drifted=moved.certain,
            null_rate_reference=moved.null_rates[0],
            null_rate_current=moved.null_rates[1],
            null_rate_drifted=moved.by_nulls,
            change=change,
        )


def _column(name: str, spans: Sequence[_Span], at: datetime, every: timedelta) -> ColumnDrift:
    """What the last intervals say of a column, the judged one first."""
    column = spans[0].column(name)
    hits = [lag for lag, span in enumerate(spans) if name in span.moved and span.moved[name].moved]
    if not (column.drifted or len(hits) >= _NEEDED):
        return column
    return replace(column, drifted=True, since=text(at - hits[-1] * every))


def text(moment: datetime) -> str:
    """A moment as the command line takes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")


def _judge_scores(
    predictions: pa.Table,
    past: pa.Table,
    thresholds: DriftThresholds,
    seed: int,
    notes: list[str],
) -> list[tuple[ColumnDrift, Comparable]]:
    """Hold the scores against those that the same models gave before; none of too few.

    There is one comparison and no other to follow it, so it must be certain.
    """
    sides = [_scores_only(past), _scores_only(predictions)]
    rows = pa.concat_tables(sides)
    day_R = np.repeat([1, 0], [side.num_rows for side in sides])
    if min(side.num_rows for side in sides) < thresholds.min_rows:
        notes.append(
            f"not enough predictions to compare: {sides[0].num_rows} former and "
            f"{sides[1].num_rows} current scores, {thresholds.min_rows} are needed on each side"
        )
        return []
    rng = np.random.default_rng([seed, LAST])
    taken = np.concatenate(
        [rng.permutation(np.flatnonzero(day_R == day))[: thresholds.sample_rows] for day in (1, 0)]
    )
    slot = Slot(rows.take(pa.array(taken)), day_R[taken], 1, np.bincount(day_R[taken]))
    few = pc.count_distinct(slot.reference[PREDICTION]).as_py()
    if few <= DISCRETE:
        notes.append(f"the scores are not compared: there are {few} different ones")
        return []
    columns, excluded = comparable(slot, [PREDICTION], thresholds)
    by_name = {column.name: column for column in columns}
    span = _Span(slot, by_name, excluded, judge(slot, columns, thresholds, rng), {})
    return [(span.column(column.name), column) for column in columns]


def _scores_only(predictions: pa.Table) -> pa.Table:
    """Scores and whose they are: versions and ranks differ from run to run by design."""
    known = {USER: predictions[USER]} if USER in predictions.column_names else {}
    return pa.table({PREDICTION: pc.cast(predictions["score"], pa.float64()), **known})


def _judge_quality(
    quality: Sequence[Quality], thresholds: DriftThresholds, notes: list[str]
) -> tuple[QualityDrift, ...]:
    """Judge each served model by itself (DM-07): one that cannot be judged keeps no other out."""
    judged = []
    for each in quality:
        found = QualityDrift.judge(each, thresholds.quality_metric, thresholds.quality_drop)
        if isinstance(found, str):
            notes.append(f"quality of {each.model} is not judged: {found}")
        else:
            judged.append(found)
    return tuple(judged)


def _words(verdict: DriftVerdict, done: Callable[[DriftVerdict], str]) -> tuple[str, ...]:
    """All of a verdict that a person should read, a line each."""
    found = [
        *([] if verdict.drifted else ["no drift"]),
        *verdict.reasons,
        *(f"probable cause: {cause}" for cause in verdict.causes),
        *([done(verdict)] if verdict.drifted and done(verdict) else []),
    ]
    return (*found, *verdict.notes)
