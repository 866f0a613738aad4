"""What MLflow shows of a version that was judged: its numbers, its card and its pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipelines.context import StageContext
from pipelines.intervals import text
from pipelines.model_options import load_model_file
from pipelines.sections import BASELINE
from pipelines.stages.snapshot import cuts
from pipelines.state import StageRun

if TYPE_CHECKING:
    from training.card import Changes, Cost, Trial
    from training.evaluation import TestSet
    from training.plots import Judged
    from training.registry import Registry, Version

CHALLENGER, CHAMPION = "challenger", "champion"
SPEC_FILE, DATA_FILE = "spec.json", "data.json"
"""Files of a version: what of the spec it was fitted by, and which rows of which tables."""
_LISTS_OF = 10
"""Length of the lists that cards and pictures speak of, where it is judged."""


def show(
    context: StageContext,
    models: Registry,
    test_set: TestSet,
    judged: Sequence[tuple[Version, Judged]],
) -> None:
    """Log every version's numbers, and give each challenger its card and its pictures.

    Args:
        context: Of the stage that judges.
        models: The registry.
        test_set: What all were judged on.
        judged: All of them.
    """
    k = _LISTS_OF if _LISTS_OF in test_set.ks else test_set.ks[0]
    for version, one in judged:
        _log(context, models, version, one)
        if one.role == CHALLENGER:
            models.describe(version, _card(context, models, version, one, test_set, k))
    _draw(context, models, judged, k)


def show_verdict(models: Registry, version: Version, verdict: str) -> None:
    """Write what the gate said of a version into its card."""
    from training.card import with_verdict

    models.describe(version, with_verdict(models.card(version), verdict))


def _log(context: StageContext, models: Registry, version: Version, judged: Judged) -> None:
    """Log an evaluation to the version's run in MLflow.

    What it was worth as a challenger keeps the plain names. What it is worth as champion, judged
    anew with each interval, makes series of their own, `champion/<metric>`: their step is the age
    of the version in hours, so that an interval run again adds no later point.
    """
    from training.evaluation import named_values

    values = named_values(judged.rows)
    if judged.role == CHALLENGER:
        cost = _cost(context, judged)
        known = {} if cost is None else vars(cost)
        values |= {f"cost/{key}": value for key, value in known.items() if value is not None}
        models.log_metrics(version, values)
        return
    age = (context.interval.end - version.interval_end) // timedelta(hours=1)
    models.log_metrics(version, {f"{CHAMPION}/{key}": n for key, n in values.items()}, step=age)


def _card(
    context: StageContext,
    models: Registry,
    version: Version,
    judged: Judged,
    test_set: TestSet,
    k: int,
) -> str:
    from training.card import model_card, shadow_of

    fitted = _fitted(context, judged)
    spec = models.file(version, SPEC_FILE)
    return model_card(
        f"{version.name} version {version.version}",
        load_model_file(judged.model, context.project.root).summary,
        version.tags,
        context.project.models[judged.model] if spec is None else json.loads(spec)["options"],
        fitted.detail["fit"] if fitted else {},
        judged.rows,
        trial=_trial(context, test_set, k),
        cost=_cost(context, judged),
        changes=_changes(context, models, version),
        shadow=shadow_of(models.card(version)),
    )


def _trial(context: StageContext, test_set: TestSet, k: int) -> Trial:
    from training.card import Trial

    at = cuts(context)
    return Trial(
        test_set.digest,
        len(test_set),
        text(at.test_start),
        text(at.end),
        k,
        context.project.pipeline.evaluation.confidence,
    )


def _fitted(context: StageContext, judged: Judged) -> StageRun | None:
    """The attempt that fitted a version; later ones found it there. None when it left no record."""
    found = (
        run
        for run in context.history.runs
        if run.stage == f"train_{judged.model}"
        and run.status == "succeeded"
        and run.detail["version"] == judged.version
    )
    return next(found, None)


def _cost(context: StageContext, judged: Judged) -> Cost | None:
    from training.card import Cost

    run = _fitted(context, judged)
    if run is None:
        return None
    hours = None if run.cpu_seconds is None else run.cpu_seconds / 3600
    return Cost(run.seconds, run.peak_memory_mb, hours)


def _changes(context: StageContext, models: Registry, version: Version) -> Changes | None:
    """What is different from the champion of the interval; None without another champion."""
    from training.card import Changes
    from training.changes import changes

    champion = models.rival(version, context.interval.end)
    if champion is None:
        return None
    before, now = (
        [models.file(one, name) for name in (SPEC_FILE, DATA_FILE)] for one in (champion, version)
    )
    if None in before or None in now:
        return Changes(champion.version, None)
    (spec_before, data_before), (spec, data) = (
        [json.loads(str(content)) for content in files] for files in (before, now)
    )
    code_before, code = ({"code": one.tags["commit"][:12]} for one in (champion, version))
    lines = changes(spec_before | code_before, spec | code, data_before, data)
    return Changes(champion.version, lines)


def _draw(
    context: StageContext, models: Registry, judged: Sequence[tuple[Version, Judged]], k: int
) -> None:
    """Attach the pictures of each challenger."""
    from training.plots import coverage_against_popularity, ndcg_by_group

    work = Path(context.project.location(".cache/work"))
    work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work) as scratch:
        groups = Path(scratch) / "ndcg_by_group.png"
        coverage = Path(scratch) / "coverage_against_popularity.png"
        everyone = [one for _, one in judged]
        coverage_against_popularity(everyone, k=k, file=coverage)
        for version, one in judged:
            if one.role != CHALLENGER:
                continue
            ndcg_by_group(
                one,
                _reference(one, everyone),
                k=k,
                confidence=context.project.pipeline.evaluation.confidence,
                file=groups,
            )
            models.attach(version, groups, "plots")
            models.attach(version, coverage, "plots")


def _reference(challenger: Judged, everyone: Sequence[Judged]) -> Judged | None:
    """Whom a challenger is drawn beside: its champion, or the baseline while it has none."""
    champions = (one for one in everyone if (one.model, one.role) == (challenger.model, CHAMPION))
    others = (one for one in everyone if one.model == BASELINE != challenger.model)
    return next(champions, next(others, None))
