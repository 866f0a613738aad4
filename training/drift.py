"""Drift of features, predictions and quality: a report for people and a verdict for the DAG.

Evidently draws the report and computes the PSI of each column; what counts as drift is decided
here, because a fixed limit raises false alarms on small samples: the PSI of two samples of 50 rows
from one distribution is often above 0.2. A column drifts when its PSI reaches the limit and exceeds
what chance explains (`psi_noise`). Evidently is given the same limit, so page and verdict agree.
"""

import html
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from training.drift_checks import (
    Comparable,
    DriftInputError,
    comparable_columns,
    mean_quality,
    null_rate_drifts,
    psi_noise,
    score_shape,
)
from training.drift_verdict import (
    Alert,
    ColumnDrift,
    DriftThresholds,
    DriftVerdict,
    QualityDrift,
    raise_alerts,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Alert",
    "ColumnDrift",
    "DriftInputError",
    "DriftThresholds",
    "DriftVerdict",
    "QualityDrift",
    "drift_report",
]

_PREDICTION: Final = "prediction.score"


def drift_report(
    *,
    reference: pa.Table,
    current: pa.Table,
    predictions_reference: pa.Table | None,
    predictions_current: pa.Table | None,
    quality: Mapping[str, float],
    quality_history: Sequence[float],
    thresholds: DriftThresholds,
    out_dir: Path,
    seed: int,
    model: str = "model",
    at: datetime | None = None,
) -> DriftVerdict:
    """Compare an interval with the past and write what was found.

    Writes to `out_dir`, which is made where missing: `drift.html` (one page, works offline),
    `snapshot.json` (for `evidently.core.report.Snapshot.load` and for a workspace) and
    `verdict.json`. Neither ids nor free text reach any of them, see `comparable_columns`.

    Tables with fewer than `thresholds.min_rows` rows, none included, are no error: their columns
    are not compared, `enough_data` is false and a note says so. Quality is judged all the same.

    Args:
        reference: features of the past.
        current: features of the interval.
        predictions_reference: scores given in the past, numeric column `score`; None if unknown.
        predictions_current: scores given in the interval, likewise.
        quality: metrics of the interval; empty when none was measured.
        quality_history: the watched metric in the seven days before, one value a run.
        thresholds: limits.
        out_dir: folder of the three files.
        seed: of sampling and of the noise estimate; not negative.
        model: name of the judged model, for the alerts.
        at: end of the judged interval, for alerts and snapshot; without it alerts have no time and
            the snapshot that of the call.

    Raises:
        DriftInputError: when a table has a column twice, predictions have no numeric `score`, or
            the watched metric is not among the measured ones.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    notes: list[str] = []
    compared, excluded = _compare(reference, current, thresholds, rng, notes)
    enough_data = not notes
    scores = past_scores = None
    if predictions_current is not None:
        scores = score_shape(predictions_current)
        if predictions_reference is not None:
            past_scores = score_shape(predictions_reference)
            more, more_excluded = _compare(
                _scores_only(predictions_reference),
                _scores_only(predictions_current),
                thresholds,
                rng,
                notes,
            )
            compared += more
            excluded |= more_excluded
    limits = _limits(compared, thresholds, rng)
    psi = _draw(compared, limits, thresholds, out_dir, notes=notes, at=at)
    columns = _judge(compared, limits, psi, thresholds)
    watched = _watch(quality, quality_history, thresholds, notes)
    alerts = raise_alerts(
        columns=columns,
        quality=watched,
        scores=scores,
        past_scores=past_scores,
        thresholds=thresholds,
        model=model,
        timestamp=at.isoformat() if at else None,
    )
    verdict = DriftVerdict(
        drifted=bool(alerts),
        reasons=tuple(alert.message for alert in alerts),
        notes=tuple(notes),
        enough_data=enough_data,
        share=sum(column.drifted for column in columns) / max(len(columns), 1),
        columns=columns,
        excluded=dict(sorted(excluded.items())),
        quality=watched,
        scores=scores,
        alerts=alerts,
        rows_reference=reference.num_rows,
        rows_current=current.num_rows,
        thresholds=thresholds,
        seed=seed,
    )
    text = json.dumps(verdict.to_dict(), indent=2, allow_nan=False)
    (out_dir / "verdict.json").write_text(text + "\n", encoding="utf-8")
    return verdict


def _compare(
    reference: pa.Table,
    current: pa.Table,
    thresholds: DriftThresholds,
    rng: np.random.Generator,
    notes: list[str],
) -> tuple[list[Comparable], dict[str, str]]:
    """Sample both sides and choose their comparable columns; none, with a note, of few rows."""
    smaller = min(reference.num_rows, current.num_rows)
    if smaller < thresholds.min_rows:
        what = "predictions" if current.column_names == [_PREDICTION] else "data"
        notes.append(
            f"not enough {what} to compare columns: {reference.num_rows} reference and "
            f"{current.num_rows} current rows, {thresholds.min_rows} are needed on each side"
        )
        return [], {}
    return comparable_columns(
        _sample(reference, thresholds.sample_rows, rng),
        _sample(current, thresholds.sample_rows, rng),
        frozenset(thresholds.ignore),
    )


def _sample(table: pa.Table, rows: int, rng: np.random.Generator) -> pa.Table:
    if table.num_rows <= rows:
        return table
    return table.take(np.sort(rng.choice(table.num_rows, rows, replace=False)))


def _scores_only(predictions: pa.Table) -> pa.Table:
    """Keep the scores: versions and ranks differ from run to run by design."""
    return pa.table({_PREDICTION: predictions["score"]})


def _limits(
    compared: list[Comparable], thresholds: DriftThresholds, rng: np.random.Generator
) -> dict[str, float]:
    """Return the PSI limit of each column that has values on both sides."""
    limits = {}
    for column in compared:
        reference, current = _values(column.reference), _values(column.current)
        if len(reference) and len(current):
            noise = psi_noise(reference, current, thresholds.false_alarm / len(compared), rng)
            limits[column.name] = max(thresholds.psi, noise)
    return limits


def _values(array: pa.Array) -> np.ndarray:
    return array.drop_null().to_numpy(zero_copy_only=False)


def _draw(
    compared: list[Comparable],
    limits: dict[str, float],
    thresholds: DriftThresholds,
    out_dir: Path,
    *,
    notes: list[str],
    at: datetime | None,
) -> dict[str, float]:
    """Write Evidently's page and snapshot of the columns that have a limit; return their PSI."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import RowCount
    from evidently.presets import DataDriftPreset

    drawn = [column for column in compared if column.name in limits]
    definition = DataDefinition(
        numerical_columns=[column.name for column in drawn if column.numeric],
        categorical_columns=[column.name for column in drawn if not column.numeric],
    )
    frames = _frames(drawn)
    metrics = [RowCount()]
    if drawn:
        # Evidently calls the data drifted from a share on, the verdict above one.
        from_count = int(thresholds.column_share * len(drawn)) + 1
        metrics = [
            DataDriftPreset(
                columns=sorted(limits),
                method="psi",
                per_column_threshold=limits,
                drift_share=min(from_count, len(drawn)) / len(drawn),
            )
        ]
    snapshot = Report(metrics, include_tests=bool(drawn)).run(
        Dataset.from_pandas(frames[1], definition),
        Dataset.from_pandas(frames[0], definition),
        timestamp=at,
    )
    (out_dir / "snapshot.json").write_text(snapshot.dumps(), encoding="utf-8")
    page = out_dir / "drift.html"
    if drawn:
        snapshot.save_html(str(page))
    else:
        page.write_text(_empty_page(notes), encoding="utf-8")
    return {
        metric["config"]["column"]: float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if metric["config"]["type"].endswith(":ValueDrift")
    }


def _frames(drawn: list[Comparable]) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Return reference and current frame; features and predictions may differ in length."""
    import pandas as pd

    reference = {column.name: column.reference.to_pandas() for column in drawn}
    current = {column.name: column.current.to_pandas() for column in drawn}
    return pd.DataFrame(reference), pd.DataFrame(current)


def _empty_page(notes: list[str]) -> str:
    words = "".join(f"<p>{html.escape(note)}</p>" for note in notes or ["no comparable column"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Drift</title></head>'
        f"<body><h1>Drift</h1>{words}</body></html>\n"
    )


def _judge(
    compared: list[Comparable],
    limits: dict[str, float],
    psi: dict[str, float],
    thresholds: DriftThresholds,
) -> tuple[ColumnDrift, ...]:
    columns = []
    for column in compared:
        before, after, nulls = null_rate_drifts(
            column, thresholds.null_rate, thresholds.false_alarm / len(compared)
        )
        score, limit = psi.get(column.name), limits.get(column.name)
        moved = score is not None and limit is not None and score >= limit
        columns.append(ColumnDrift(column.name, score, limit, moved or nulls, before, after, nulls))
    return tuple(sorted(columns, key=lambda c: (c.score is None, -(c.score or 0.0), c.name)))


def _watch(
    quality: Mapping[str, float],
    history: Sequence[float],
    thresholds: DriftThresholds,
    notes: list[str],
) -> QualityDrift | None:
    known = mean_quality(thresholds.quality_metric, quality, list(history))
    if isinstance(known, str):
        notes.append(f"quality is not judged: {known}")
        return None
    metric, limit = thresholds.quality_metric, thresholds.quality_drop
    return QualityDrift.judge(metric, *known, limit)
