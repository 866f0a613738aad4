"""Limits of drift, and the verdict: what changed, whether it matters, and why, in words."""

from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from training.drift_checks import DriftInputError, ScoreShape

_TOLERANCE: Final = 1e-9
_NAMED: Final = 5
_CALENDAR = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")


@dataclass(frozen=True, slots=True)
class DriftThresholds:
    """Limits beyond which a change is drift."""

    psi: float = 0.2
    """PSI from which a column drifts; more where the noise of small samples is larger."""
    column_share: float = 0.0
    """Share of drifted columns above which the data drift; with 0, one column is enough."""
    null_rate: float = 0.05
    """Change of a column's null rate above which it drifts."""
    quality_metric: str = "ndcg@10"
    """Metric whose drop is watched."""
    quality_drop: float = 0.05
    """Mean of the past seven days minus current value, above which the model drifts (DM-01)."""
    skewness: float = 3.0
    """Absolute skewness of the scores above which they are suspect (DM-04)."""
    outlier_percentage: float = 5.0
    """Percentage of far-out scores above which they are suspect (DM-04)."""
    false_alarm: float = 0.01
    """Chance that a report on data without drift names any column."""
    min_rows: int = 50
    """Rows that each side needs for its columns to be compared."""
    sample_rows: int = 20_000
    """Rows of each side that are compared at most, drawn with the seed."""
    ignore: tuple[str, ...] = _CALENDAR
    """Columns not to compare; calendar columns differ between any two short intervals."""

    def __post_init__(self) -> None:
        """Refuse limits that mean nothing.

        Raises:
            DriftInputError: with the limit, its value and what to write instead.
        """
        for name, low, high in (
            ("psi", 0.0, None),
            ("column_share", 0.0, 0.99),
            ("null_rate", 0.0, 1.0),
            ("quality_drop", 0.0, None),
            ("skewness", 0.0, None),
            ("outlier_percentage", 0.0, 100.0),
            ("false_alarm", 1e-9, 0.5),
            ("min_rows", 2, None),
            ("sample_rows", self.min_rows, None),
        ):
            value = getattr(self, name)
            if not (np.isfinite(value) and low <= value and (high is None or value <= high)):
                limits = f"of at least {low:g}" if high is None else f"from {low:g} to {high:g}"
                raise DriftInputError(f"drift: {name} is {value}; give a number {limits}.")


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """One compared column."""

    name: str
    score: float | None
    """PSI; None when one side holds only nulls."""
    threshold: float | None
    """PSI from which this column drifts: the limit, or the noise of these samples if larger."""
    drifted: bool
    """By its values or by its null rate."""
    null_rate_reference: float
    null_rate_current: float
    null_rate_drifted: bool

    def describe(self) -> str:
        """Say how it drifted, in words."""
        parts = []
        if self.score is not None and self.threshold is not None and self.score >= self.threshold:
            parts.append(f"PSI {self.score:.2f}, limit {self.threshold:.2f}")
        if self.null_rate_drifted:
            parts.append(f"nulls {self.null_rate_reference:.0%} -> {self.null_rate_current:.0%}")
        return f"{self.name} ({'; '.join(parts)})"


@dataclass(frozen=True, slots=True)
class QualityDrift:
    """The watched metric against its past."""

    metric: str
    current: float
    expected: float
    """Mean of the history."""
    drop: float
    """Expected minus current."""
    drifted: bool

    @classmethod
    def judge(cls, metric: str, current: float, expected: float, limit: float) -> "QualityDrift":
        """Compare the drop with the limit (DM-01): 0.051 is drift at a limit of 0.05, 0.05 is not.

        The drop must exceed the limit by 1e-9, since 0.80 - 0.75 is above 0.05 in binary.
        """
        drop = expected - current
        return cls(metric, current, expected, drop, drop > limit + _TOLERANCE)


@dataclass(frozen=True, slots=True)
class Alert:
    """What a person should hear of (DM-02, DM-04); at most one of each type in a verdict."""

    type: str
    """ModelDrift, DataDrift or PredictionQuality."""
    severity: str
    """High or Medium."""
    model: str
    message: str
    current: float | None
    """Value of the metric, or share of drifted columns."""
    expected: float | None
    """Its past mean, or the largest share allowed."""
    timestamp: str | None
    """End of the judged interval, ISO 8601."""
    metadata: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DriftVerdict:
    """Whether something drifted, and why; `verdict.json` holds the same."""

    drifted: bool
    reasons: tuple[str, ...]
    """In words; empty without drift."""
    notes: tuple[str, ...]
    """What could not be judged, in words."""
    enough_data: bool
    """Whether both sides had the rows for their columns to be compared."""
    share: float
    """Share of the compared columns that drifted."""
    columns: tuple[ColumnDrift, ...]
    """By falling score, those without one last; the predictions' column is `prediction.score`."""
    excluded: dict[str, str]
    """Column -> why it was not compared."""
    quality: QualityDrift | None
    scores: ScoreShape | None
    """Shape of the current predictions."""
    alerts: tuple[Alert, ...]
    rows_reference: int
    rows_current: int
    thresholds: DriftThresholds
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def raise_alerts(
    *,
    columns: tuple[ColumnDrift, ...],
    quality: QualityDrift | None,
    scores: ScoreShape | None,
    past_scores: ScoreShape | None,
    thresholds: DriftThresholds,
    model: str,
    timestamp: str | None,
) -> tuple[Alert, ...]:
    """Turn what was measured into at most one alert of each type, the gravest first."""
    alerts = [
        _model_alert(quality, thresholds, model, timestamp),
        _data_alert(columns, thresholds, model, timestamp),
        _prediction_alert(scores, past_scores, thresholds, model=model, timestamp=timestamp),
    ]
    return tuple(alert for alert in alerts if alert is not None)


def _model_alert(
    quality: QualityDrift | None, thresholds: DriftThresholds, model: str, timestamp: str | None
) -> Alert | None:
    if quality is None or not quality.drifted:
        return None
    message = (
        f"{quality.metric} of {model} fell by {100 * quality.drop:.1f} percentage points: "
        f"{quality.current:.3f} now, {quality.expected:.3f} on average before "
        f"(limit {100 * thresholds.quality_drop:.1f})"
    )
    return Alert("ModelDrift", "High", model, message, quality.current, quality.expected, timestamp)


def _data_alert(
    columns: tuple[ColumnDrift, ...],
    thresholds: DriftThresholds,
    model: str,
    timestamp: str | None,
) -> Alert | None:
    hit = [column for column in columns if column.drifted]
    if not hit or len(hit) / len(columns) <= thresholds.column_share:
        return None
    names = ", ".join(column.describe() for column in hit[:_NAMED])
    more = f", and {len(hit) - _NAMED} more" if len(hit) > _NAMED else ""
    message = f"{len(hit)} of {len(columns)} columns drifted: {names}{more}"
    share = len(hit) / len(columns)
    return Alert("DataDrift", "Medium", model, message, share, thresholds.column_share, timestamp)


def _prediction_alert(
    scores: ScoreShape | None,
    past_scores: ScoreShape | None,
    thresholds: DriftThresholds,
    *,
    model: str,
    timestamp: str | None,
) -> Alert | None:
    """Complain of collapsed scores, and of a heavy tail unless the past had one too.

    Some models score with a heavy tail from their first day: an alert every interval helps nobody.
    """
    if scores is None:
        return None
    if scores.collapsed:
        message = f"all {scores.count} scores of {model} are equal: it ranks nothing"
    elif _suspect(scores, thresholds) and not (
        past_scores is not None and _suspect(past_scores, thresholds)
    ):
        message = (
            f"scores of {model} are out of shape: "
            f"skewness {scores.skewness:.1f} (limit {thresholds.skewness:.1f}), "
            f"{scores.outlier_percentage:.1f} % outliers "
            f"(limit {thresholds.outlier_percentage:.1f} %)"
        )
    else:
        return None
    metadata = {"skewness": scores.skewness, "outlier_percentage": scores.outlier_percentage}
    return Alert("PredictionQuality", "Medium", model, message, None, None, timestamp, metadata)


def _suspect(scores: ScoreShape, thresholds: DriftThresholds) -> bool:
    return (
        abs(scores.skewness) > thresholds.skewness
        or scores.outlier_percentage > thresholds.outlier_percentage
    )
