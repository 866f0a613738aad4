"""Judge challengers and champions on one frozen test set."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext, StageResult
from pipelines.errors import StageError
from pipelines.intervals import text
from pipelines.records import duration_text
from pipelines.stages.cards import CHALLENGER, CHAMPION, show
from pipelines.stages.media import with_new_items
from pipelines.stages.snapshot import cuts, load_snapshot
from pipelines.stages.train import registry
from pipelines.stages.user_groups import named_groups

if TYPE_CHECKING:
    import pyarrow as pa

    from training.evaluation import Evaluation
    from training.registry import Registry, Version

__all__ = ["CHALLENGER", "CHAMPION", "challenger_of", "champion_of", "judged", "run"]


def run(context: StageContext) -> StageResult:
    """Replace the interval of ``evaluations`` (rows of users) and ``metrics`` (rows of numbers).

    Raises:
        StageError: When no user can be judged, or no model is there to be judged.
    """
    import pyarrow as pa

    from training.evaluation import EmptyTestSetError, MetricRow, TestSet, evaluate, summarise
    from training.models import load_model
    from training.plots import Judged
    from training.reactions import ReactionSet, judge_reactions

    options = context.project.pipeline.evaluation
    snapshot = load_snapshot(context)
    try:
        test_set = TestSet.build(
            snapshot,
            ks=options.k,
            light_below=options.light_below,
            new_below=options.new_below,
            named_groups=named_groups(context),
        )
    except EmptyTestSetError as error:
        at = cuts(context)
        raise StageError(
            f"Nobody can be judged: from {text(at.test_start)} to {text(at.end)} no user liked an "
            "item that they had not met before.\n"
            f"  Make `evaluation.test` longer than {duration_text(options.test)}, or lower "
            "`features.label.threshold`."
        ) from error
    models = registry(context.project)
    versions = judged(context, models)
    if not versions:
        raise StageError(
            "There is no model to judge: none was trained for this interval, and none is champion."
        )
    reactions = ReactionSet.build(snapshot)
    per_user: list[pa.Table] = []
    metrics: list[dict[str, Any]] = []
    costs: dict[str, dict[str, float]] = {}
    found: list[tuple[Version, Judged]] = []
    for name, version, role in versions:
        folder = models.fetch(version)
        model = with_new_items(context, load_model(folder))
        began = time.perf_counter()
        evaluation = evaluate(model, test_set)
        costs[f"{version.name} {version.version}"] = {
            "score_ms": (time.perf_counter() - began) * 1000 / len(test_set),
            "size_mb": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            / 1e6,
        }
        per_user.append(_per_user(context, name, version, role, evaluation))
        rows = summarise(
            evaluation,
            resamples=options.bootstrap,
            confidence=options.confidence,
            seed=context.step.options["seed"],
        )
        rows += [
            MetricRow(metric, "all", value, None, None, number)
            for metric, (value, number) in judge_reactions(model, reactions).items()
        ]
        metrics += [
            {
                "run_id": context.run_id,
                "interval_end": context.interval.end,
                "model_name": name,
                "model_version": version.version,
                "role": role,
                "test_set": test_set.digest,
                **asdict(row),
            }
            for row in rows
        ]
        if role == CHALLENGER:
            cost = costs[f"{version.name} {version.version}"]
            models.log_metrics(version, {f"cost/{key}": value for key, value in cost.items()})
        found.append((version, Judged(name, version.version, role, rows)))
        ndcg = next((row.value for row in rows if row.metric == "ndcg@10"), None)
        context.progress(
            f"{name:<12} version {version.version:<3} {role:<10} "
            f"ndcg@10 {float('nan') if ndcg is None else ndcg:.4f}"
        )
    show(context, models, test_set, found)
    context.write_interval("evaluations", pa.concat_tables(per_user))
    context.write_interval("metrics", pa.Table.from_pylist(metrics, schema=_metrics_schema()))
    return StageResult(
        f"{len(per_user)} models, {len(test_set):,} users, test set {test_set.digest[:12]}",
        rows_in=len(test_set),
        rows_out=len(metrics),
        detail={"test_set": test_set.digest, "users": len(test_set), "costs": costs},
    )


def judged(context: StageContext, models: Registry) -> list[tuple[str, Version, str]]:
    """Model, version and role: each challenger of this interval, and the champion of its time."""
    found = []
    for name in context.project.models:
        challenger = challenger_of(context, models, name)
        if challenger is None:
            champion = champion_of(context, models, name)
        else:
            found.append((name, challenger, CHALLENGER))
            champion = models.rival(challenger, context.interval.end)
        if champion is not None:
            found.append((name, champion, CHAMPION))
    return found


def challenger_of(context: StageContext, models: Registry, name: str) -> Version | None:
    """The version that this interval's training registered; None when it failed or was not due.

    Raises:
        StageError: Somebody deleted it since.
    """
    from training.registry import RegistryError

    trained = context.history.last(f"train_{name}", context.interval)
    if trained is None or trained.status != "succeeded":
        return None
    registered = context.project.registered_name(name)
    try:
        return models.get(registered, trained.detail["version"])
    except RegistryError as error:
        raise StageError(
            f"{registered} version {trained.detail['version']}, which was trained for the interval "
            f"that ends at {context.interval.end_text}, is gone. {error}",
            next_command=context.project.command("stage", context.interval, f"train_{name}"),
        ) from error


def champion_of(context: StageContext, models: Registry, name: str) -> Version | None:
    """The champion as of this interval."""
    return models.champion_as_of(context.project.registered_name(name), context.interval.end)


def _per_user(
    context: StageContext, name: str, version: Version, role: str, evaluation: Evaluation
) -> pa.Table:
    import pyarrow as pa

    users, groups = evaluation.test_set.histories.user_ids, evaluation.test_set.groups
    times = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "run_id": pa.array([context.run_id] * len(users)),
            "interval_end": pa.array([context.interval.end] * len(users), times),
            "model_name": pa.array([name] * len(users)),
            "model_version": pa.array([version.version] * len(users)),
            "role": pa.array([role] * len(users)),
            "user_id": pa.array(users, pa.string()),
            "groups": pa.array(
                [
                    [group for group, here in zip(groups, members, strict=True) if here]
                    for members in zip(*groups.values(), strict=True)
                ],
                pa.list_(pa.string()),
            ),
            **{metric: pa.array(value_U) for metric, value_U in evaluation.per_user.items()},
        }
    )


def _metrics_schema() -> pa.Schema:
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    return pa.schema(
        {
            "run_id": text,
            "interval_end": pa.timestamp("us", tz="UTC"),
            "model_name": text,
            "model_version": text,
            "role": text,
            "test_set": text,
            "metric": text,
            "group": text,
            "value": number,
            "low": number,
            "high": number,
            "users": pa.int64(),
        }
    )
