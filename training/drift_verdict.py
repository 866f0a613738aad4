"""Limits of drift, and the verdict: what changed, whether it matters, and why, in words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

import numpy as np

from training.drift_checks import DriftInputError, ScoreShape

_TOLERANCE: Final = 1e-9
_NAMED: Final = 5
_CALENDAR = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")


@dataclass(frozen=True, slots=True)
class DriftThresholds:
    """Limits beyond which a change is drift."""

    psi: float = 0.05
    """PSI from which a column moves; more where quiet intervals differ by more."""
    column_share: float = 0.0
    """Share of drifted columns above which the data drift; with 0, one column is enough."""
    reference: timedelta = timedelta(days=7)
    """How long before an interval those of the same time of day lie that it is compared with."""
    null_rate: float = 0.05
    """Change of a column's null rate above which it moves."""
    quality_metric: str = "ndcg@10"
    """Metric whose drop is watched."""
    quality_drop: float = 0.05
    """Mean of the past seven days minus current value, above which the model drifts (DM-01)."""
    skewness: float = 3.0
    """Absolute skewness of the scores above which they are suspect (DM-04)."""
    outlier_percentage: float = 5.0
    """Percentage of far-out scores above which they are suspect (DM-04)."""
    false_alarm: float = 0.05
    """Chance that any column of an interval without drift lies beyond its limit."""
    min_rows: int = 50
    """Rows that each side needs for its columns to be compared."""
    min_people: int = 20
    """People that a label needs to be named (PR-05)."""
    sample_rows: int = 5_000
    """Rows of an interval that are compared at most, drawn with the seed."""
    ignore: tuple[str, ...] = _CALENDAR
    """Columns not to compare; calendar columns differ between any two short intervals."""

    def __post_init__(self) -> None:
        """Refuse limits that mean nothing.

        Raises:
            DriftInputError: with the limit, its value and what to write instead.
        """
        if self.reference <= timedelta(0):
            raise DriftInputError(f"drift: reference is {self.reference}; give a time above zero.")
        for name, low, high in (
            ("psi", 0.0, None),
            ("column_share", 0.0, 0.99),
            ("null_rate", 0.0, 1.0),
            ("quality_drop", 0.0, None),
            ("skewness", 0.0, None),
            ("outlier_percentage", 0.0, 100.0),
            ("false_alarm", 1e-9, 0.5),
            ("min_rows", 2, None),
            ("min_people", 1, None),
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
    """PSI of the interval; None when one side holds only nulls, and for `rows` and `taste`."""
    threshold: float | None
    """PSI from which this column moves: the limit, or what quiet intervals reach if larger."""
    moved: bool
    """In this interval, by its values or by its null rate."""
    drifted: bool
    """Moved in two of the last four intervals, or so far in this one that one is enough."""
    null_rate_reference: float
    null_rate_current: float
    null_rate_drifted: bool
    change: str = ""
    """From what to what, in words: the means, or the shares of the label that changed most."""
    span: str = "interval"
    """What moved: the interval, or the last day as a whole."""
    since: str | None = None
    """End of the first interval of those without a break that name the column, ISO 8601."""

    def describe(self) -> str:
        """Say how it drifted, in words."""
        parts = [self.change] if self.change else []
        if self.null_rate_drifted:
            parts.append(f"nulls {self.null_rate_reference:.0%} -> {self.null_rate_current:.0%}")
        measured = ""
        over = " over the last day" if self.span == "day" else ""
        if self.score is not None and self.threshold is not None:
            measured = f" (PSI {self.score:.2f}, limit {self.threshold:.2f}{over})"
        since = f", since {self.since}" if self.since else ""
        return f"{self.name}: {', '.join(parts) or 'moved'}{measured}{since}"


@dataclass(frozen=True, slots=True)
class Quality:
    """The watched metric of one served model."""

    model: str
    current: float | None
    """Of the interval; None when it was not measured."""
    history: tuple[float, ...] = ()
    """Of the seven days before, one value a run."""


@dataclass(frozen=True, slots=True)
class QualityDrift:
    """The watched metric of a model against its past."""

    model: str
    metric: str
    current: float
    expected: float
    """Mean of the history."""
    drop: float
    """Expected minus current."""
    drifted: bool

    @classmethod
    def judge(cls, quality: Quality, metric: str, limit: float) -> "QualityDrift | str":
        """Compare the drop with the limit (DM-01): 0.051 is drift at a limit of 0.05, 0.05 is not.

        The drop must exceed the limit by 1e-9, since 0.80 - 0.75 is above 0.05 in binary.

        Returns:
            What was found, or why it cannot be judged.
        """
        known = [value for value in quality.history if np.isfinite(value)]
        if quality.current is None:
            return f"{metric} was not measured"
        if not known:
            return f"{metric} has no history yet"
        if not np.isfinite(quality.current):
            return f"{metric} is undefined for this interval"
        expected = float(np.mean(known))
        drop = expected - quality.current
        return cls(
            quality.model, metric, quality.current, expected, drop, drop > limit + _TOLERANCE
        )


@dataclass(frozen=True, slots=True)
class Speed:
    """How quickly a model scores or a stage works, and the limit of that (DM-05, DM-06)."""

    type: Literal["Latency", "Throughput"]
    of: str
    """The model or the stage."""
    value: float
    """Milliseconds to score a user, or rows a second."""
    limit: float
    """The most milliseconds, or the least rows."""

    def alert(self, timestamp: str | None) -> "Alert | None":
        """Complain when it is beyond the limit."""
        if self.type == "Latency":
            slow = self.value > self.limit
            message = f"{self.of} takes {self.value:.3g} ms to score a user (limit {self.limit:g})"
        else:
            slow = self.value < self.limit
            message = f"{self.of} makes {self.value:.3g} rows a second (at least {self.limit:g})"
        if not slow:
            return None
        return Alert(self.type, "Medium", self.of, message, self.value, self.limit, timestamp)


@dataclass(frozen=True, slots=True)
class Alert:
    """What a person should hear of (DM-02, DM-04 to DM-06); one of a type and model at most."""

    type: str
    """ModelDrift, DataDrift, PredictionQuality, Latency or Throughput."""
    severity: str
    """High or Medium."""
    model: str
    message: str
    current: float | None
    """Value of the metric or of the speed, or share of drifted columns."""
    expected: float | None
    """Its past mean, or its limit."""
    timestamp: str | None
    """End of the judged interval, ISO 8601."""
    metadata: dict[str, float] = field(default_factory=dict)

    @property
    def drift(self) -> bool:
        """Whether something drifted; what is slow is told and keeps nothing back."""
        return self.type not in ("Latency", "Throughput")


@dataclass(frozen=True, slots=True)
class DriftVerdict:
    """Whether something drifted, and why; `verdict.json` holds the same."""

    drifted: bool
    words: tuple[str, ...]
    """All that a person should read, a line each: what drifted, why, what was done; the notes."""
    reasons: tuple[str, ...]
    """What drifted or is slow; empty when all is well."""
    causes: tuple[str, ...]
    """What the data tell of the reason."""
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
    quality: tuple[QualityDrift, ...]
    """Of each served model that could be judged."""
    scores: ScoreShape | None
    """Shape of the current predictions."""
    alerts: tuple[Alert, ...]
    rows_reference: int
    rows_current: int
    thresholds: DriftThresholds
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        thresholds = asdict(self.thresholds)
        thresholds["reference"] = self.thresholds.reference.total_seconds()
        return {**asdict(self), "thresholds": thresholds}


def raise_alerts(
    *,
    columns: tuple[ColumnDrift, ...],
    quality: tuple[QualityDrift, ...],
    scores: ScoreShape | None,
    past_scores: ScoreShape | None,
    thresholds: DriftThresholds,
    speeds: Sequence[Speed],
    model: str,
    timestamp: str | None,
) -> tuple[Alert, ...]:
    """Turn what was measured into alerts, the gravest first."""
    alerts = [
        *(_model_alert(each, thresholds, timestamp) for each in quality),
        _data_alert(columns, thresholds, model, timestamp),
        _prediction_alert(scores, past_scores, thresholds, model=model, timestamp=timestamp),
        *(speed.alert(timestamp) for speed in speeds),
    ]
    return tuple(alert for alert in alerts if alert is not None)


def _model_alert(
    quality: QualityDrift, thresholds: DriftThresholds, timestamp: str | None
) -> Alert | None:
    if not quality.drifted:
        return None
    model = quality.model
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
    names = "; ".join(column.describe() for column in hit[:_NAMED])
    rest = ", ".join(column.name for column in hit[_NAMED:])
    more = f"; and {rest}" if rest else ""
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
