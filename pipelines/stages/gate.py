"""Let only a better model become champion, and say why on its version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext, StageResult
from pipelines.sections import BASELINE
from pipelines.stages.cards import show_verdict
from pipelines.stages.evaluate import CHALLENGER, CHAMPION, challenger_of, champion_of
from pipelines.stages.train import registry

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from training.gate import Verdict
    from training.registry import Registry


def run(context: StageContext) -> StageResult:
    """Record a verdict on each challenger; move the aliases of those that won."""
    models = registry(context.project)
    evaluations = context.arrow("evaluations", interval_end=context.interval.end)
    evaluated = context.history.last_success("evaluate", context.interval)
    assert evaluated is not None
    verdicts = {
        name: _judge(context, models, name, evaluations, evaluated.detail["test_set"])
        for name in context.project.models
    }
    for name, verdict in verdicts.items():
        context.progress(f"{name:<12} {verdict['reason']}")
    promoted = [name for name, verdict in verdicts.items() if verdict["outcome"] == "promoted"]
    return StageResult(
        f"promoted: {', '.join(promoted) or 'none'}",
        rows_in=evaluations.num_rows,
        detail={"verdicts": verdicts},
    )


def _judge(
    context: StageContext, models: Registry, name: str, evaluations: pa.Table, test_set: str
) -> dict[str, Any]:
    options = context.project.pipeline.gate
    challenger = challenger_of(context, models, name)
    champion = champion_of(context, models, name)
    if challenger is None:
        return {
            "outcome": "not trained",
            "version": None,
            "reason": f"Not trained: {_why_not(context, name)}.",
        }
    serving = models.champion(challenger.name)
    if champion is not None and champion.version == challenger.version:
        serves = serving is not None and serving.version == champion.version
        return {
            "outcome": "promoted" if serves else "kept back",
            "version": champion.version,
            "reason": champion.tags.get("gate_reason", "Made champion by a person."),
        }
    verdict = _compare(context, name, evaluations)
    models.record_verdict(challenger, verdict, test_set=test_set)
    outcome, reason = "rejected", verdict.reason
    if verdict.promote and serving is not None and serving.interval_end > context.interval.end:
        outcome = "kept back"
        reason = (
            f"Kept back: version {serving.version}, which serves now, is of a later interval. "
            f"{reason}"
        )
    elif verdict.promote:
        models.promote(challenger)
        outcome = "promoted"
    show_verdict(models, challenger, reason)
    return {
        "outcome": outcome,
        "version": challenger.version,
        "reason": reason,
        "metric": options.metric,
        "challenger": verdict.challenger_mean,
        "reference": verdict.reference_mean,
        "low": verdict.low,
        "high": verdict.high,
    }


def _why_not(context: StageContext, name: str) -> str:
    decided = context.history.last_success("decide", context.interval)
    assert decided is not None, "nothing is judged before it was decided"
    reason: str = decided.detail["not_due"].get(f"train_{name}", "its training failed")
    return reason


def _compare(context: StageContext, name: str, evaluations: pa.Table) -> Verdict:
    from training.gate import decide, refresh_baseline

    options = context.project.pipeline.gate
    challenger_U, _ = _metric(evaluations, name, CHALLENGER, options.metric)
    reference_U, version = _metric(evaluations, name, CHAMPION, options.metric)
    reference = f"champion version {version}"
    if name == BASELINE:
        return refresh_baseline(
            challenger_U, reference_U if version else None, reference_name=reference
        )
    if version is None:
        reference = BASELINE
        reference_U, version = _metric(evaluations, BASELINE, CHALLENGER, options.metric)
        if version is None:  # not trained this time
            reference_U, _ = _metric(evaluations, BASELINE, CHAMPION, options.metric)
    return decide(
        challenger_U,
        reference_U,
        reference_name=reference,
        min_lift=options.min_lift,
        confidence=options.confidence,
        resamples=options.bootstrap,
        seed=context.step.options["seed"],
    )


def _metric(
    evaluations: pa.Table, name: str, role: str, metric: str
) -> tuple[np.ndarray, str | None]:
    """One metric of one model by user id, and its version; None when it was not judged."""
    import pyarrow.compute as pc

    rows = evaluations.filter(
        pc.and_(pc.equal(evaluations["model_name"], name), pc.equal(evaluations["role"], role))
    ).sort_by("user_id")
    version = rows["model_version"][0].as_py() if rows.num_rows else None
    return rows[metric].to_numpy(), version
