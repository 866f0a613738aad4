"""Compare the interval with what the models learnt from; drift may keep it from being published."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext, StageResult
from pipelines.errors import DriftError
from pipelines.sections import BASELINE
from pipelines.stages.evaluate import CHALLENGER, CHAMPION
from pipelines.stages.snapshot import cuts, window_of_examples

if TYPE_CHECKING:
    import pyarrow as pa

_HISTORY = timedelta(days=7)
_NO_FEATURES = ("event_id", "user_id", "item_id", "interval_end", "timestamp", "label")


def run(context: StageContext) -> StageResult:
    """Write the interval's drift report and verdict under the reports' folder.

    Raises:
        DriftError: When there is drift and the spec says that it blocks.
    """
    from training.drift import drift_report
    from training.drift_verdict import DriftThresholds
    from training.drift_workspace import keep_snapshot

    options = context.project.pipeline.drift
    metric = context.project.pipeline.gate.metric
    reference, current = _features(context)
    model, quality, history = _quality(context, metric)
    folder = context.project.reports / context.interval.end_text.replace(":", "")
    verdict = drift_report(
        reference=reference,
        current=current,
        predictions_reference=_former_scores(context),
        predictions_current=context.arrow(
            "staged_candidates", columns=["score"], interval_end=context.interval.end
        ),
        quality={} if quality is None else {metric: quality},
        quality_history=history,
        thresholds=DriftThresholds(
            psi=options.psi,
            column_share=min(options.share, 0.99),
            quality_metric=metric,
            quality_drop=options.quality_drop,
            sample_rows=options.sample,
        ),
        out_dir=folder,
        seed=context.step.options["seed"],
        model=model,
        at=context.interval.end,
    )
    outcome = "drifted" if verdict.drifted else "no drift"
    drifted = [column.name for column in verdict.columns if column.drifted]
    found: dict[str, Any] = {
        "outcome": outcome,
        "reasons": [*verdict.reasons, *verdict.notes],
        "columns": drifted,
        "quality_dropped": verdict.quality is not None and verdict.quality.drifted,
        "data_drifted": any(alert.type == "DataDrift" for alert in verdict.alerts),
        "share": verdict.share,
        "report": str(folder / "drift.html"),
    }
    blocks = verdict.drifted and options.on_drift == "block"
    keep_snapshot(
        folder / "snapshot.json",
        context.project.workspace,
        project=context.project.pipeline.pipeline,
        at=context.interval.end,
        tags=[outcome, *(["blocked"] if blocks else [])],
        words={
            "verdict": "; ".join([outcome, *found["reasons"]]),
            "candidates": "kept back, the former ones stay served"
            if blocks
            else "may be published",
        },
    )
    if blocks:
        lines = "\n".join(f"  {reason}" for reason in verdict.reasons)
        raise DriftError(
            f"Drift keeps the candidates of the interval that ends at {context.interval.end_text} "
            f"from being published; the former ones stay served.\n{lines}\n"
            f"  Report: {found['report']}\n"
            "  To publish all the same, write `drift: {on_drift: warn}` in the spec, or:",
            next_command=context.project.command(
                "run", context.interval, "--set", "drift.on_drift=warn"
            ),
            detail={"verdict": found},
        )
    return StageResult(
        f"{outcome}; {len(drifted)} of {len(verdict.columns)} columns moved",
        rows_in=reference.num_rows + current.num_rows,
        detail={"verdict": found},
    )


def _features(context: StageContext) -> tuple[pa.Table, pa.Table]:
    """Features of the training part, and of the interval."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = window_of_examples(context)
    watched = context.project.pipeline.drift.columns or [
        name for name in rows.column_names if name not in _NO_FEATURES
    ]

    def moment(value: datetime) -> pa.Scalar:
        return pa.scalar(value, pa.timestamp("us", tz="UTC"))

    at_train = pc.less(rows["timestamp"], moment(cuts(context).valid_start))
    at_interval = pc.greater_equal(rows["timestamp"], moment(context.interval.start))
    return rows.filter(at_train).select(watched), rows.filter(at_interval).select(watched)


def _former_scores(context: StageContext) -> pa.Table | None:
    """The scores of the newest earlier interval, None before there is one."""
    import pyarrow.compute as pc

    rows = context.lake.arrow(
        "staged_candidates",
        columns=["score", "interval_end"],
        before={"interval_end": context.interval.end},
    )
    if not rows.num_rows:
        return None
    newest: pa.Scalar = pc.max(rows["interval_end"])
    return rows.filter(pc.equal(rows["interval_end"], newest)).select(["score"])


def _quality(context: StageContext, metric: str) -> tuple[str, float | None, list[float]]:
    """The leading served model, its metric now, and in the intervals of the seven days before."""
    served = {
        run.interval_end: run.detail
        for run in context.history.runs
        if run.stage == "candidates"
        and run.status == "succeeded"
        and context.interval.end - _HISTORY <= run.interval_end <= context.interval.end
    }
    weights = served[context.interval.end]["weights"]
    model = max(weights, key=lambda name: weights[name], default=BASELINE)
    values = {
        end: value
        for end, detail in sorted(served.items())
        if (value := _value(context, end, model, detail["versions"].get(model), metric)) is not None
    }
    return model, values.pop(context.interval.end, None), list(values.values())


def _value(
    context: StageContext, end: Any, model: str, version: str | None, metric: str
) -> float | None:
    rows = context.lake.arrow(
        "metrics",
        columns=["model_name", "model_version", "role", "metric", "group", "value"],
        interval_end=end,
    )
    for row in rows.to_pylist():
        if (
            row["metric"] == metric
            and row["group"] == "all"
            and row["model_name"] == model
            and row["model_version"] == version
            and row["role"] in (CHALLENGER, CHAMPION)
        ):
            found: float | None = row["value"]
            return found
    return None
