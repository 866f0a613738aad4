"""Let only a better model become champion, and say why on its version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext, StageResult
from pipelines.intervals import text
from pipelines.sections import BASELINE
from pipelines.stages.cards import show_verdict
from pipelines.stages.decide import drift_before
from pipelines.stages.decisions import note_moves
from pipelines.stages.evaluate import CHALLENGER, CHAMPION, challenger_of, champion_of
from pipelines.stages.train import registry

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from training.gate import Check, Verdict
    from training.registry import Registry, Version

_MIN_USERS = 20
"""Smaller groups of users are neither shown nor judged."""


def run(context: StageContext) -> StageResult:
    """Record a verdict on each challenger; move the aliases of those that won.

    A champion that a person chose stays: the verdict is recorded and moves nothing.
    """
    models = registry(context.project)
    note_moves(context, models)
    evaluations = context.arrow("evaluations", interval_end=context.interval.end)
    evaluated = context.history.last_success("evaluate", context.interval)
    assert evaluated is not None
    verdicts = {
        name: _judge(context, models, name, evaluations, evaluated.detail)
        for name in context.project.models
    }
    note_moves(context, models)
    for name, verdict in verdicts.items():
        context.progress(f"{name:<12} {verdict['reason']}")
    promoted = [name for name, verdict in verdicts.items() if verdict["outcome"] == "promoted"]
    return StageResult(
        f"promoted: {', '.join(promoted) or 'none'}",
        rows_in=evaluations.num_rows,
        detail={"verdicts": verdicts},
    )


def _judge(
    context: StageContext,
    models: Registry,
    name: str,
    evaluations: pa.Table,
    evaluated: Mapping[str, Any],
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
            "reason": _why_champion(champion),
        }
    verdict = _verdict(context, name, challenger, evaluations, evaluated["costs"])
    held = models.held(challenger.name)
    waits = options.mode == "manual" and name != BASELINE
    models.record_verdict(
        challenger,
        verdict,
        passed=held is None and not waits,
        test_set=evaluated["test_set"],
    )
    outcome, reason = "rejected", verdict.reason
    if verdict.promote and held is not None:
        outcome = "kept back"
        chosen = f"chose version {held}" if held != "none" else "took the champion away"
        reason = (
            f"Kept back: a person {chosen}; delete the tag `hold` of {challenger.name} in MLflow "
            f"to let the gate decide again. {reason}"
        )
    elif verdict.promote and waits:
        outcome = "waits"
        reason = (
            f"Waits for a person: to choose it, set the alias `champion` of {challenger.name} on "
            f"version {challenger.version} in MLflow. {reason}"
        )
    elif verdict.promote and serving is not None and serving.interval_end > context.interval.end:
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


def _why_champion(champion: Version) -> str:
    if "decided_at" in champion.tags:  # a signature alone moves nothing
        return f"Chosen by {champion.tags['decided_by']}, seen {champion.tags['decided_at']}."
    return champion.tags["gate_reason"]


def _verdict(
    context: StageContext,
    name: str,
    challenger: Version,
    evaluations: pa.Table,
    costs: Mapping[str, Mapping[str, float]],
) -> Verdict:
    """The verdict after all that the spec asks for."""
    options = context.project.pipeline.gate
    verdict = _compare(context, name, evaluations)
    if name == BASELINE:
        return verdict
    if options.mode == "off":
        _, _, numbers = verdict.reason.partition(": ")
        return replace(verdict, promote=True, reason=f"Promoted, the gate is off: {numbers}")
    measured = _measured(context, name) | dict(costs[f"{challenger.name} {challenger.version}"])
    return verdict.held_to(_checks(context, name, evaluations, measured))


def _checks(
    context: StageContext, name: str, evaluations: pa.Table, measured: dict[str, float]
) -> list[Check]:
    from training.gate import Check, bounds, group_losses

    options = context.project.pipeline.gate
    found = bounds(measured, options.floors, options.ceilings)
    reference_U, version = _metric(evaluations, name, CHAMPION, options.metric)
    if version is not None:
        found += group_losses(
            _metric(evaluations, name, CHALLENGER, options.metric)[0],
            reference_U,
            _members(evaluations, name, options.groups),
            options.groups,
            min_users=_MIN_USERS,
            confidence=options.confidence,
            resamples=options.bootstrap,
            seed=context.step.options["seed"],
        )
    judged = drift_before(context)
    if options.on_drift == "reject" and judged is not None:
        drifted = judged.detail["verdict"]["data_drifted"]
        words = f"the data of the interval that ends at {text(judged.interval_end)} "
        found.append(Check("drift", not drifted, words + ("drifted" if drifted else "were steady")))
    return found


def _members(
    evaluations: pa.Table, name: str, groups: Iterable[str]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Which users, by id, belong to each group."""
    import numpy as np

    of_U, _ = _metric(evaluations, name, CHALLENGER, "groups")
    return {group: np.array([group in of for of in of_U], dtype=bool) for group in groups}


def _measured(context: StageContext, name: str) -> dict[str, float]:
    """What was measured of the challenger's lists over all users."""
    rows = context.arrow("metrics", interval_end=context.interval.end).to_pylist()
    return {
        row["metric"]: row["value"]
        for row in rows
        if (row["model_name"], row["role"], row["group"]) == (name, CHALLENGER, "all")
        and row["value"] is not None
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
    return rows[metric].to_numpy(zero_copy_only=False), version
