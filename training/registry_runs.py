"""What a version's MLflow run holds: parameters, metrics, the learning curve and files.

Names of metrics are grouped by their slashes, as MLflow draws them. MLflow keeps a series of each
by `step`, and what it calls the latest is the one of the largest step.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

_MODEL = "model"
_BATCH = 1000
"""Metrics that MLflow takes at once."""


def store_fit(
    client: Any,
    experiment: str,
    label: str,
    folder: Path,
    *,
    tags: Mapping[str, str],
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    curve: Sequence[Sequence[Any]],
    files: Mapping[str, str],
) -> tuple[str, str]:
    """Puts everything about a fit into one MLflow run; returns its id and the files' URI."""
    from mlflow.entities import Param

    # A run with this fingerprint but without version was cut off before the version was made.
    query = f"tags.fingerprint = '{tags['fingerprint']}'"
    for orphan in client.search_runs([experiment], filter_string=query):
        client.delete_run(orphan.info.run_id)
    run = client.create_run(experiment, tags=dict(tags), run_name=label).info
    client.log_batch(
        run.run_id,
        metrics=as_metrics(metrics),
        params=[Param(key, str(value)) for key, value in params.items()],
    )
    points = _points(curve)
    for start in range(0, len(points), _BATCH):
        client.log_batch(run.run_id, metrics=points[start : start + _BATCH])
    client.log_artifacts(run.run_id, str(folder), _MODEL)
    for name, text in files.items():
        client.log_text(run.run_id, text, name)
    client.set_terminated(run.run_id)
    return run.run_id, f"{run.artifact_uri}/{_MODEL}"


def as_metrics(values: Mapping[str, float], step: int = 0) -> list[Any]:
    """MLflow's form of the finite ones; it allows no `@` in the name of a metric."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [
        Metric(re.sub(r"[^\w\-. /:]", "_", name.replace("@", "_at_")), float(value), now, step)
        for name, value in values.items()
        if math.isfinite(value)
    ]


def _points(curve: Sequence[Sequence[Any]]) -> list[Any]:
    """A learning curve as metrics whose step is the epoch."""
    points = []
    for epoch, loss, score in curve:
        found = {"epoch/loss": loss} | ({} if score is None else {"epoch/valid_ndcg@10": score})
        points += as_metrics(found, step=epoch)
    return points


def read_text(client: Any, run: str, name: str) -> str | None:
    """A text file of a run; None when it has none of that name."""
    folder = str(PurePosixPath(name).parent).removeprefix(".")
    if name not in {one.path for one in client.list_artifacts(run, folder or None)}:
        return None
    with TemporaryDirectory() as scratch:
        return Path(client.download_artifacts(run, name, scratch)).read_text(encoding="utf-8")
