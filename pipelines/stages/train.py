"""Fit one model on the interval's snapshot and register it as challenger."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext, StageResult
from pipelines.errors import StageError
from pipelines.project import Project, commit
from pipelines.stages.cards import DATA_FILE, SPEC_FILE
from pipelines.stages.media import load_content
from pipelines.stages.snapshot import load_snapshot, what_was_read

if TYPE_CHECKING:
    from training.registry import Registry


def run(context: StageContext) -> StageResult:
    """Add one version to the registry, unless this very fit is there already.

    The fingerprint names the data, options, code and seed, so that fitting it again could only
    give the same model: two triggers, or a task that a person clears, fit once. Whoever wants the
    fit itself again deletes its version in the registry.
    """
    from training.models import MODELS, load_model
    from training.models.base import FitContext

    options = context.step.options
    name = context.project.registered_name(options["model"])
    if (known := _registered(context, name)) is not None:
        return known
    ray = context.project.pipeline.environment.ray
    work = work_folder(context)
    architecture = MODELS[options["model"]]
    start = None
    if options["config"].get("warm_start"):
        start = registry(context.project).champion_as_of(name, context.interval.end)
    reads = architecture.reads_media(options["config"])
    content = load_content(context, work / "content") if reads else None
    snapshot = load_snapshot(context, content)
    model = architecture.fit(
        snapshot,
        options["config"],
        FitContext(
            seed=options["seed"],
            work_dir=work,
            # Another fingerprint is another fit: it must not resume from this one's checkpoints.
            run_name=f"{name}-{context.fingerprint}",
            num_workers=ray.workers,
            cpus_per_worker=ray.cpus_per_worker,
            use_gpu=ray.gpu,
            ray_address=ray.address,
            start_from=load_model(registry(context.project).fetch(start)) if start else None,
            progress=context.progress,
        ),
    )
    folder = work / "model"
    if folder.exists():
        shutil.rmtree(folder)
    model.save(folder)
    version = registry(context.project).register(
        name,
        folder,
        tags={
            "run_id": context.run_id,
            "spec_hash": context.project.spec_hash,
            "commit": commit(),
            "tables": json.dumps(context.tables_in, sort_keys=True),
            "seed": str(options["seed"]),
            "interval_end": context.interval.end_text,
            "model_type": options["model"],
            **({"started_from": start.version} if start else {}),
        },
        params=options["config"],
        metrics=model.fit_facts,
        fingerprint=context.fingerprint,
        curve=model.learning_curve,
        files={
            SPEC_FILE: json.dumps(_settings(context), indent=2, sort_keys=True),
            DATA_FILE: json.dumps(what_was_read(context, snapshot), indent=2, sort_keys=True),
        },
    )
    shutil.rmtree(work)
    return StageResult(
        f"{name} version {version.version}: {len(model.item_ids):,} items, "
        f"{model.fit_facts['train_positives']:,.0f} positives",
        rows_in=len(snapshot.users),
        detail={"version": version.version, "fit": model.fit_facts},
    )


def _settings(context: StageContext) -> dict[str, Any]:
    """What of the spec a fit depends on, its sources apart: they show in the rows."""
    options = context.step.options
    features = context.project.pipeline.features.model_dump(mode="json")
    return {
        "model": options["model"],
        "options": options["config"],
        "seed": options["seed"],
        **options["cuts"],
        "features": features,
    }


def _registered(context: StageContext, name: str) -> StageResult | None:
    """What to say of this very fit where it stands in the registry; else None."""
    from training.models.files import ModelFileError

    models = registry(context.project)
    fits = (one for one in models.versions(name) if one.fingerprint == context.fingerprint)
    version = next(fits, None)
    if version is None:
        return None
    where = f"{name} version {version.version}"
    try:
        # Again, because a kill between a version and its alias leaves the alias where it was.
        models.register(
            name,
            models.fetch(version),
            tags=version.tags,
            params={},
            metrics={},
            fingerprint=context.fingerprint,
        )
    except ModelFileError as error:
        raise StageError(
            f"{where} is this very fit, but its files are damaged. {error}\n"
            "  Delete that version in MLflow; the next attempt fits it again."
        ) from error
    shutil.rmtree(work_folder(context))
    fitted = (
        run.detail["fit"]
        for run in context.history.runs
        if run.stage == context.step.name and run.detail.get("version") == version.version
    )
    return StageResult(
        f"{where} is this very fit already: nothing was fitted",
        detail={"version": version.version, "fit": next(fitted, {})},
    )


def registry(project: Project) -> Registry:
    """The model registry of a pipeline's environment."""
    from training.registry import Registry

    return Registry(project.tracking_uri, project.artifacts)


def champions(project: Project, end: datetime) -> dict[str, str]:
    """Model → version that serves the interval that ends at a moment, for those that have one."""
    models = registry(project)
    with _answering():
        found = {
            name: models.champion_as_of(project.registered_name(name), end)
            for name in project.models
        }
    return {name: version.version for name, version in found.items() if version is not None}


def is_registered(project: Project, model: str, version: str) -> bool:
    """Whether the registry has a version of a model."""
    with _answering():
        found = registry(project).versions(project.registered_name(model))
    return any(one.version == version for one in found)


@contextmanager
def _answering() -> Iterator[None]:
    """Turns a registry that does not answer into an error of ours."""
    from training.registry import RegistryUnreachable

    try:
        yield
    except RegistryUnreachable as error:
        raise StageError(str(error)) from error


def work_folder(context: StageContext) -> Path:
    """Scratch of one fit; outlives a killed attempt, so that the next one resumes from it."""
    folder = (
        Path(context.project.location(".cache/work"))
        / context.project.pipeline.pipeline
        / f"{context.step.name}-{context.fingerprint}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    return folder
