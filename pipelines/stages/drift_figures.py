"""What the dashboard of drift draws over time beside the columns (DM-08, DM-16, DM-18)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext
from pipelines.graph import EVERYBODY
from pipelines.stages.evaluate import CHALLENGER, CHAMPION
from pipelines.stages.media import load_content
from pipelines.stages.snapshot import cuts

if TYPE_CHECKING:
    import pyarrow as pa

    from training.drift import DriftVerdict
    from training.drift_taste import Tastes

Figures = dict[str, dict[str, float]]
"""Title of a plot -> line in it -> value."""

_MICROSECOND = timedelta(microseconds=1)
_OF_ROWS = ("validate", "examples", "candidates")


def figures(
    context: StageContext,
    verdict: DriftVerdict,
    rows: pa.Table,
    tastes: Tastes,
    served: Mapping[str, Any],
) -> Figures:
    """The figures of an interval, those that it has.

    Args:
        context: Of the stage.
        verdict: On the interval.
        rows: What was drawn of the interval's examples and of those before it.
        tastes: Of people of the interval and of those before it.
        served: What the interval's candidates are made of.
    """
    taste = tastes.mean_share(context.interval.start)
    found: Figures = {
        "Share of drifted columns": {"of all compared": verdict.share},
        **_judged(context, served),
        "Former lists, on what was liked since": _matured(context),
        "Item vectors: distance of those met now from those met before": _vectors(context, rows),
        "Taste: share of a person's earlier rows that have a row's category": (
            {} if taste is None else {"mean": taste}
        ),
        "Milliseconds to score a user": latencies(context, served),
        "Rows a second": throughput(context),
        **_work(context),
        "Hours from the newest event to the end of the interval": _age(context, rows),
    }
    return {title: lines for title, lines in found.items() if lines}


def _judged(context: StageContext, served: Mapping[str, Any]) -> Figures:
    """Of the models that serve, on the test set: accuracy, gaps between groups, and their lists."""
    from training.evaluation import LEAST_SHOWN

    metric = context.project.pipeline.gate.metric
    k = metric.rpartition("@")[2]
    titles = {
        metric: f"{metric} on the test set",
        f"coverage@{k}": f"Share of the catalogue on some list (coverage@{k})",
        f"category_diversity@{k}": f"Diversity of categories in a list (category_diversity@{k})",
        f"mean_popularity@{k}": f"Likes of a listed item (mean_popularity@{k})",
    }
    versions = served.get("versions", {})
    rows = context.lake.arrow("metrics", interval_end=context.interval.end).to_pylist()
    found: Figures = {title: {} for title in titles.values()}
    groups: dict[str, list[float]] = {}
    for row in rows:
        model = row["model_name"]
        if (
            row["role"] not in (CHALLENGER, CHAMPION)
            or row["model_version"] != versions.get(model)
            or row["value"] is None
        ):
            continue
        if row["group"] == "all" and row["metric"] in titles:
            found[titles[row["metric"]]][model] = row["value"]
        elif row["group"] != "all" and row["metric"] == metric and row["users"] >= LEAST_SHOWN:
            groups.setdefault(model, []).append(row["value"])
    gaps = {model: max(values) - min(values) for model, values in groups.items() if values[1:]}
    return {**found, f"Gap between groups of users ({metric})": gaps}


def _matured(context: StageContext) -> dict[str, float]:
    """How the lists of the moment when the test begins met what was liked from then on."""
    import pyarrow.compute as pc

    from training.matured import list_quality

    pipeline = context.project.pipeline
    begin = cuts(context).test_start
    run = context.history.newest_success("candidates", before=begin + _MICROSECOND)
    if run is None:
        return {}
    lists = context.arrow(
        "staged_candidates", columns=["user_id", "item_id", "rank"], interval_end=run.interval_end
    )
    later = context.arrow(
        "examples",
        columns=["user_id", "item_id", "strength", "timestamp"],
        since={"timestamp": begin},
        before={"timestamp": context.interval.end},
    )
    likes = later.filter(pc.greater_equal(later["strength"], pipeline.features.label.threshold))
    return list_quality(lists, likes, int(pipeline.gate.metric.rpartition("@")[2]), EVERYBODY)


def _vectors(context: StageContext, rows: pa.Table) -> dict[str, float]:
    """Of each medium: how far what people met in the interval lies from what they met before."""
    from training.drift_vectors import distances

    folder = Path(context.project.location(".cache/work"))
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as scratch:
        return distances(load_content(context, Path(scratch)), rows, context.interval.start)


def latencies(context: StageContext, served: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds that each served model took to score a user of the test set (DM-05)."""
    run = context.history.last_success("evaluate", context.interval)
    costs: Mapping[str, Mapping[str, float]] = {} if run is None else run.detail.get("costs", {})
    return {
        model: costs[key]["score_ms"]
        for model, version in served.get("versions", {}).items()
        if (key := f"{context.project.registered_name(model)} {version}") in costs
    }


def throughput(context: StageContext) -> dict[str, float]:
    """Rows a second of the stage that makes everybody's lists (DM-06)."""
    run = context.history.last_success("candidates", context.interval)
    return {} if run is None or not run.seconds else {"candidates": run.rows_out / run.seconds}


def _work(context: StageContext) -> Figures:
    """Rows and seconds of the interval's stages, and what was set aside."""
    runs = {
        step.name: run
        for step in context.project.steps
        if (run := context.history.last_success(step.name, context.interval)) is not None
    }
    quarantined: dict[str, float] = {}
    if "validate" in runs:
        counts: Mapping[str, Mapping[str, int]] = runs["validate"].detail.get("rows", {})
        quarantined = {table: float(each["quarantined"]) for table, each in counts.items()}
    return {
        "Rows of a stage": {name: float(runs[name].rows_out) for name in _OF_ROWS if name in runs},
        "Rows quarantined": quarantined,
        "Seconds of a stage": {name: run.seconds for name, run in runs.items()},
    }


def _age(context: StageContext, rows: pa.Table) -> dict[str, float]:
    """How old the newest event is when the interval ends."""
    import pyarrow.compute as pc

    times = context.arrow(
        "examples",
        columns=["timestamp"],
        since={"timestamp": context.interval.start},
        before={"timestamp": context.interval.end},
    )["timestamp"]
    newest = pc.max(times if len(times) else rows["timestamp"]).as_py()
    if newest is None:
        return {}
    return {"events": (context.interval.end - newest) / timedelta(hours=1)}
