"""Evidently's workspace: one project a pipeline, one snapshot an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from evidently.ui.workspace import Project

_IDENTITY = ("type", "column", "method")
"""Parameters that tell one metric of Evidently from another."""
_NAMESPACE = UUID("5d1a3b0e-6f0c-4f0e-9d5e-0a8f4f1c7b52")


def keep_snapshot(
    snapshot: Path,
    workspace: Path,
    *,
    project: str,
    at: datetime,
    tags: Sequence[str],
    words: Mapping[str, str],
) -> None:
    """Put an interval's snapshot where `evidently ui` shows it, in place of an earlier one.

    Args:
        snapshot: The file that `drift_report` wrote.
        workspace: Folder of the workspace.
        project: Name of its project, the pipeline's.
        at: End of the interval.
        tags: What to find the snapshot by, such as the verdict.
        words: What is shown beside it: name to text.
    """
    from evidently.core.report import Snapshot
    from evidently.sdk.models import ProjectModel
    from evidently.ui.workspace import Workspace

    # The same ids each time, so that two runs of an interval do not become two snapshots.
    project_id = uuid5(_NAMESPACE, project)
    snapshot_id = uuid5(project_id, at.isoformat())
    model = Snapshot.load(str(snapshot)).to_snapshot_model()
    model.name = f"{at:%Y-%m-%d %H:%M} UTC"
    model.tags = list(tags)
    model.metadata = dict(words)
    for result in model.metric_results.values():
        metric = result.metric_value_location.metric
        # Its plots draw a line for each set of parameters, and limits differ between intervals.
        same = {key: metric.params[key] for key in _IDENTITY if key in metric.params}
        result.set_metric_location(metric.copy(update={"params": same}))
    workspace.mkdir(parents=True, exist_ok=True)
    # Evidently writes in place; what is renamed into place is whole, whoever is killed.
    with TemporaryDirectory(prefix=".part-", dir=workspace) as folder:
        part = Workspace.create(folder)
        _draw_panels(part.add_project(ProjectModel(id=project_id, name=project)))
        part.state.write_snapshot(project_id, snapshot_id, model)
        made, there = Path(folder) / str(project_id), workspace / str(project_id)
        try:
            made.rename(there)
        except OSError:  # the project is there already
            kept = Path("snapshots") / f"{snapshot_id}.json"
            (made / kept).replace(there / kept)


def _draw_panels(project: Project) -> None:
    """Drift over time: of the data as a whole, then of each column."""
    from evidently.sdk.models import PanelMetric
    from evidently.sdk.panels import line_plot_panel

    project.dashboard.add_panel(
        line_plot_panel(
            "Share of drifted columns",
            [
                PanelMetric(
                    legend="share",
                    metric="DriftedColumnsCount",
                    metric_labels={"value_type": "share"},
                )
            ],
        )
    )
    project.dashboard.add_panel(
        line_plot_panel(
            "Population stability index of each column",
            [PanelMetric(legend="{{column}}", metric="ValueDrift")],
        )
    )
