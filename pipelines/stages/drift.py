"""Compare the interval with the days before it; drift may keep it from being published."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pipelines.alerts import Alert, tell
from pipelines.context import StageContext, StageResult
from pipelines.errors import DriftError
from pipelines.sections import BASELINE
from pipelines.stages.drift_figures import figures, latencies, throughput
from pipelines.stages.evaluate import CHALLENGER, CHAMPION

if TYPE_CHECKING:
    import pyarrow as pa

    from training.drift import DriftThresholds, DriftVerdict, Quality, Speed
    from training.drift_taste import Tastes

_HISTORY = timedelta(days=7)
_FORMER = 4
"""Earlier intervals whose scores are held against those of the interval."""
_BATCH_ROWS = 65_536
_PEOPLE_ROWS = 250_000
"""Rows of the people who are asked for their tastes: of a small log everybody's."""
_TAGS = 10
"""Drifted columns by which an interval can be looked for in Evidently."""
_NO_FEATURES = ("event_id", "user_id", "item_id", "interval_end", "timestamp", "label")
_BESIDE = ("timestamp", "user_id", "item_id")
"""What tells when, of whom and of what a row is; never drawn."""


def run(context: StageContext) -> StageResult:
    """Write the interval's drift report and verdict under the reports' folder, and tell of drift.

    Raises:
        DriftError: When there is drift and the spec says that it blocks.
    """
    from training.drift import drift_report
    from training.drift_workspace import keep_snapshot

    options = context.project.pipeline.drift
    watched, rows, tastes = _features(context)
    served = _served(context)
    scores, past, same, note = _scores(context, served)
    folder = context.project.reports / context.interval.end_text.replace(":", "")
    former = _former_verdict(context)
    serving = served.get(context.interval.end, {})
    verdict = drift_report(
        rows=rows,
        watched=watched,
        at=context.interval.end,
        every=context.interval.end - context.interval.start,
        tastes=tastes,
        predictions=scores,
        past_predictions=past,
        same_models=same,
        quality=_quality(context, served),
        speeds=_speeds(context, serving),
        thresholds=thresholds(context),
        out_dir=folder,
        seed=context.step.options["seed"],
        model=_leading(serving),
        since=former.get("since", {}),
        notes=[note] if note else [],
        done=lambda found: _done(context, found),
    )
    outcome = "drifted" if verdict.drifted else "no drift"
    found = _summary(verdict, outcome, str(folder / "drift.html"))
    for line in verdict.words:
        context.progress(line)
    blocks = verdict.drifted and options.on_drift == "block"
    keep_snapshot(
        folder / "snapshot.json",
        context.project.workspace,
        project=context.project.pipeline.pipeline,
        at=context.interval.end,
        tags=[outcome, *(["blocked"] if blocks else []), *found["columns"][:_TAGS]],
        words={
            "verdict": "; ".join([outcome, *verdict.words] if verdict.drifted else verdict.words),
            "candidates": "kept back, the former ones stay served"
            if blocks
            else "may be published",
        },
        psi={column.name: column.score for column in verdict.columns if column.score is not None},
        figures=figures(context, verdict, rows, tastes, serving),
    )
    # Last, so that an attempt which fails before it tells nobody, and the next one does.
    if set(found["named"]) - _told(context, former):
        _tell(context, verdict)
    if blocks:
        lines = "\n".join(f"  {line}" for line in verdict.words)
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
    if verdict.drifted:
        message = "; ".join([outcome, *verdict.words])
    else:
        message = "; ".join([f"no drift in {len(verdict.columns)} columns", *verdict.reasons])
    return StageResult(
        message,
        rows_in=verdict.rows_reference + verdict.rows_current,
        detail={"verdict": found},
    )


def thresholds(context: StageContext) -> DriftThresholds:
    """The limits of the spec."""
    from training.drift import DriftThresholds
    from transforms.schemas import SENSITIVE_COLUMNS

    options = context.project.pipeline.drift
    sensitive = sorted({name for names in SENSITIVE_COLUMNS.values() for name in names})
    return DriftThresholds(
        psi=options.psi,
        column_share=options.share,
        reference=options.reference,
        null_rate=options.null_rate,
        quality_metric=context.project.pipeline.gate.metric,
        quality_drop=options.quality_drop,
        skewness=options.skewness,
        outlier_percentage=options.outlier_percentage,
        false_alarm=options.false_alarm,
        min_rows=options.min_rows,
        min_people=options.min_people,
        sample_rows=options.sample,
        ignore=(*options.ignore, *sensitive),
    )


def _summary(verdict: DriftVerdict, outcome: str, report: str) -> dict[str, Any]:
    """What the run keeps of a verdict, as plain JSON values."""
    drifted = [column.name for column in verdict.columns if column.drifted]
    data = any(alert.type == "DataDrift" for alert in verdict.alerts)
    scores = any(alert.type == "PredictionQuality" for alert in verdict.alerts)
    slow = [f"{each.type.lower()} of {each.model}" for each in verdict.alerts if not each.drift]
    quality = [f"quality of {each.model}" for each in verdict.quality if each.drifted]
    return {
        "outcome": outcome,
        "reasons": list(verdict.words if verdict.drifted else verdict.notes),
        "columns": drifted,
        "named": [*(drifted if data else []), *quality, *(["scores"] if scores else []), *slow],
        "since": {column.name: column.since for column in verdict.columns if column.since},
        "quality_dropped": bool(quality),
        "data_drifted": data,
        "share": verdict.share,
        "report": report,
    }


def _speeds(context: StageContext, serving: Mapping[str, Any]) -> list[Speed]:
    """Those for which the spec has a limit."""
    from training.drift import Speed

    options = context.project.pipeline.drift
    found: list[Speed] = []
    if options.score_ms is not None:
        found += [
            Speed("Latency", model, value, options.score_ms)
            for model, value in latencies(context, serving).items()
        ]
    if options.rows_per_second is not None:
        found += [
            Speed("Throughput", stage, value, options.rows_per_second)
            for stage, value in throughput(context).items()
        ]
    return found


def _done(context: StageContext, verdict: DriftVerdict) -> str:
    """What is done about drift, in words."""
    pipeline = context.project.pipeline
    kinds = {alert.type for alert in verdict.alerts}
    if pipeline.drift.on_drift == "block":
        done = "the candidates are kept back and the former ones stay served (drift.on_drift)"
    else:
        done = "the candidates are published all the same (drift.on_drift: warn)"
    rules = pipeline.retrain
    asks = [
        f"retrain.{name}"
        for name, kind in (("data_drift", "DataDrift"), ("quality_drop", "ModelDrift"))
        if kind in kinds and getattr(rules, name)
    ]
    if asks:
        models = ", ".join(rules.models or context.project.models)
        done += f"; the next interval trains {models} ({', '.join(asks)})"
    return done


def _former_verdict(context: StageContext) -> Mapping[str, Any]:
    """The verdict of the interval right before; empty before there is one."""
    for run in reversed(context.history.runs):
        if (
            run.stage == "drift"
            and run.interval_end == context.interval.start
            and "verdict" in run.detail
        ):
            found: Mapping[str, Any] = run.detail["verdict"]
            return found
    return {}


def _told(context: StageContext, former: Mapping[str, Any]) -> set[str]:
    """What people heard of before: in the interval before, or in an earlier attempt at this one."""
    told = set(former.get("named", []))
    for run in context.history.runs:
        if run.stage == "drift" and run.interval_end == context.interval.end:
            told |= set(run.detail.get("verdict", {}).get("named", []))
    return told


def _tell(context: StageContext, verdict: DriftVerdict) -> None:
    """Tell the targets of the spec; one that cannot be reached costs a line, not the stage."""
    alert = Alert(
        kind="drift",
        pipeline=context.project.pipeline.pipeline,
        stage=context.step.name,
        interval_end=context.interval.end_text,
        message="\n".join(verdict.words),
        next_command=context.project.command("report", None),
    )
    for fault in tell(alert, context.project.pipeline.alerts):
        context.progress(fault)


def _features(context: StageContext) -> tuple[list[str], pa.Table, Tastes]:
    """The watched columns, what is drawn of the interval and its past to compare them, and tastes.

    Those are of the people of a draw of their own: single rows tell nothing of a person's past.
    """
    from training.drift_limits import MOST_PAST, step_of
    from training.drift_sample import People, sample
    from training.drift_taste import NEEDED, Tastes
    from transforms.schemas import columns

    pipeline = context.project.pipeline
    watched = list(pipeline.drift.columns) or [
        name for name in columns("examples") if name not in _NO_FEATURES
    ]
    every = context.interval.end - context.interval.start
    step = step_of(every)
    days = max(1, pipeline.drift.reference // step) + MOST_PAST + 2
    reach = min(pipeline.features.training_window, days * step)
    end = context.interval.end
    wanted = list(dict.fromkeys([*_BESIDE, *NEEDED, *watched]))
    seed = context.step.options["seed"]
    people = People(NEEDED, most=_PEOPLE_ROWS, seed=seed)
    batches = context.batches(
        "examples",
        wanted,
        since={"timestamp": end - reach},
        before={"timestamp": end},
        rows=_BATCH_ROWS,
    )
    rows = sample(
        people.watch(batches),
        context.lake.schema("examples", wanted),
        end=end,
        every=every,
        most=pipeline.drift.sample,
        seed=seed,
    )
    kept = people.rows()
    return watched, rows, Tastes.of(rows if kept is None else kept, end)


def _served(context: StageContext) -> dict[Any, Mapping[str, Any]]:
    """End of an interval of the last seven days -> what made its candidates."""
    return {
        run.interval_end: run.detail
        for run in context.history.runs
        if run.stage == "candidates"
        and run.status == "succeeded"
        and context.interval.end - _HISTORY <= run.interval_end <= context.interval.end
    }


def _learnt(detail: Mapping[str, Any]) -> dict[str, tuple[str | None, float]]:
    """Version and weight of the models that made candidates, the baseline aside."""
    versions = detail.get("versions", {})
    return {
        name: (versions.get(name), weight)
        for name, weight in detail.get("weights", {}).items()
        if name != BASELINE
    }


def _leading(detail: Mapping[str, Any]) -> str:
    weights: Mapping[str, float] = detail.get("weights", {})
    return max(weights, key=lambda name: weights[name], default=BASELINE)


def _scores(
    context: StageContext, served: Mapping[Any, Mapping[str, Any]]
) -> tuple[pa.Table, pa.Table | None, bool, str]:
    """Scores of the interval, scores to hold them against, whether of the same models; and a note.

    Scores of another version, or of the baseline, which is counted anew for every interval, have
    another scale: held against each other they always differ. So lists are compared with those that
    the same champions made, else only their shape is.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    def scores(end: Any, models: Mapping[str, Any]) -> pa.Table:
        rows = context.arrow(
            "staged_candidates", columns=["user_id", "score", "model_name"], interval_end=end
        )
        if models:
            rows = rows.filter(pc.is_in(rows["model_name"], value_set=pa.array([*models])))
        return rows.select(["user_id", "score"])

    end = context.interval.end
    models = _learnt(served.get(end, {}))
    current = scores(end, models)
    earlier = sorted((other for other in served if other < end), reverse=True)
    same = [other for other in earlier if models and _learnt(served[other]) == models][:_FORMER]
    if same:
        return current, pa.concat_tables([scores(other, models) for other in same]), True, ""
    past = scores(earlier[0], _learnt(served[earlier[0]])) if earlier else None
    if not models:
        return current, past, False, "scores are not compared: they are those of the baseline alone"
    names = ", ".join(f"{name} v{version}" for name, (version, _) in models.items())
    return current, past, False, f"scores are not compared: they are the first ones of {names}"


def _quality(context: StageContext, served: Mapping[Any, Mapping[str, Any]]) -> list[Quality]:
    """The gate's metric of every served model (DM-07), now and in the seven days before."""
    from training.drift import Quality

    metric = context.project.pipeline.gate.metric
    end = context.interval.end
    rows = context.lake.arrow(
        "metrics",
        columns=["interval_end", "model_name", "model_version", "role", "metric", "group", "value"],
        since={"interval_end": end - _HISTORY},
    )
    values = {
        (row["interval_end"], row["model_name"], row["model_version"]): row["value"]
        for row in rows.to_pylist()
        if row["metric"] == metric
        and row["group"] == "all"
        and row["role"] in (CHALLENGER, CHAMPION)
    }
    now = served.get(end, {})
    found = []
    for model in list(_learnt(now)) or [BASELINE]:
        of_model = {
            at: value
            for at, detail in sorted(served.items())
            if (value := values.get((at, model, detail["versions"].get(model)))) is not None
        }
        current = of_model.pop(end, None)
        found.append(Quality(model, current, tuple(of_model.values())))
    return found
