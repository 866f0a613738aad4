"""Find out which models are due for training, by the rules of the spec, joined by OR."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pipelines.context import StageContext, StageResult
from pipelines.intervals import text
from pipelines.records import duration_text
from pipelines.sections import Retrain
from pipelines.state import StageRun


def run(context: StageContext) -> StageResult:
    """Say of each model whether it is due, and why; its training reads that from ``runs``.

    What counts are trainings of earlier intervals, whether or not the gate let them through: a
    rejected model is not due again for its age alone.
    """
    rules = context.project.pipeline.retrain
    events = context.lake.count("events", before={"timestamp": context.interval.end})
    judged = drift_before(context)
    drift = None if judged is None else judged.detail["verdict"]
    due: dict[str, str] = {}
    not_due: dict[str, str] = {}
    for model in context.project.models:
        step = f"train_{model}"
        trained = context.history.newest_success(step, before=context.interval.end)
        facts = _facts(context, trained, events)
        if rules.models and model not in rules.models:
            not_due[step] = f"this run is to train {', '.join(rules.models)} alone"
        elif reasons := why(rules, drift=drift, **facts):
            due[step] = "; ".join(reasons)
        else:
            assert trained is not None, "a model that was never trained is due"
            not_due[step] = (
                f"trained for {text(trained.interval_end)}, "
                f"{facts['new_events']:,} new events since"
            )
    for step, reason in {**due, **not_due}.items():
        context.progress(f"{step:<20} {'due' if step in due else 'not due'}: {reason}")
    return StageResult(
        f"due: {', '.join(step.removeprefix('train_') for step in due) or 'none'}",
        rows_in=events,
        detail={"due": due, "not_due": not_due, "events": events},
    )


def drift_before(context: StageContext) -> StageRun | None:
    """The newest attempt of an earlier interval that came to a verdict on drift.

    Drift that blocked its interval counts as well: more than any other it asks for training.
    """
    verdicts = [
        run
        for run in context.history.runs
        if run.stage == "drift"
        and run.interval_end < context.interval.end
        and "verdict" in run.detail
    ]
    return max(verdicts, key=lambda run: (run.interval_end, run.started_at), default=None)


def why(
    rules: Retrain,
    *,
    age: timedelta | None,
    new_events: int,
    drift: dict[str, Any] | None,
) -> list[str]:
    """The reasons to train a model anew, each in words; empty when there is none.

    Args:
        rules: Of the spec.
        age: Time between the ends of this interval and of the last one trained on; None when the
            model was never trained.
        new_events: Events that have come since.
        drift: Verdict of the interval before; None when there is none.
    """
    reasons = []
    if rules.force:
        reasons.append("forced (`retrain.force`)")
    if age is None:
        return [*reasons, "never trained before"]
    if age > rules.max_age:
        reasons.append(
            f"last trained {duration_text(age)} ago, more than {duration_text(rules.max_age)}"
        )
    if new_events >= rules.new_events:
        reasons.append(f"{new_events:,} new events, at least {rules.new_events:,}")
    if rules.quality_drop and drift is not None and drift["quality_dropped"]:
        reasons.append("quality fell below its history")
    if rules.data_drift and drift is not None and drift["data_drifted"]:
        reasons.append("the data drifted")
    return reasons


def _facts(context: StageContext, trained: StageRun | None, events: int) -> dict[str, Any]:
    if trained is None:
        return {"age": None, "new_events": events}
    # Counted, so that late events of closed intervals are new too.
    then = next(
        run.detail["events"]
        for run in reversed(context.history.runs)
        if run.stage == "decide"
        and run.status == "succeeded"
        and run.interval_end == trained.interval_end
    )
    return {
        "age": context.interval.end - trained.interval_end,
        "new_events": max(0, events - then),
    }
