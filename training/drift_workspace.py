"""Evidently's workspace: one project a pipeline, one snapshot an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from evidently.sdk.models import DashboardPanelPlot
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
    psi: Mapping[str, float],
    figures: Mapping[str, Mapping[str, float]],
) -> None:
    """Put an interval's snapshot where `evidently ui` shows it, in place of an earlier one.

    The panels are drawn anew each time, so that a project made by an older version gets those of
    this one. Plots draw plain numbers; pictures are kept of the drawn columns alone.

    Args:
        snapshot: The file that `drift_report` wrote.
        workspace: Folder of the workspace.
        project: Name of its project, the pipeline's.
        at: End of the interval.
        tags: What to find the snapshot by, such as the verdict.
        words: What is shown beside it: name to text; `verdict` stands above the plots too.
        psi: Of every compared column.
        figures: What else is drawn over time: title of a plot to line to value.
    """
    from evidently.core.report import Snapshot
    from evidently.sdk.models import ProjectModel
    from evidently.ui.workspace import Workspace

    # The same ids each time, so that two runs of an interval do not become two snapshots.
    project_id = uuid5(_NAMESPACE, project)
    snapshot_id = uuid5(project_id, at.isoformat())
    model = Snapshot.load(str(snapshot)).to_snapshot_model()
    model.name = f"{at:%Y-%m-%d %H:%M} UTC"
    model.timestamp = at
    model.tags = list(tags)
    model.metadata = dict(words)
    model.metric_results |= _numbers(psi, figures)
    for result in model.metric_results.values():
        metric = result.metric_value_location.metric
        # Its plots draw a line for each set of parameters, and limits differ between intervals.
        same = {key: metric.params[key] for key in _IDENTITY if key in metric.params}
        result.set_metric_location(metric.copy(update={"params": same}))
    workspace.mkdir(parents=True, exist_ok=True)
    # Evidently writes in place; what is renamed into place is whole, whoever is killed.
    with TemporaryDirectory(prefix=".part-", dir=workspace) as folder:
        part = Workspace.create(folder)
        # It names its interval: one that is repeated later stands there as the last one judged.
        head = f"{at:%Y-%m-%d %H:%M} UTC: {words.get('verdict', '')}"
        _draw_panels(part.add_project(ProjectModel(id=project_id, name=project)), head, figures)
        part.state.write_snapshot(project_id, snapshot_id, model)
        made, there = Path(folder) / str(project_id), workspace / str(project_id)
        try:
            made.rename(there)
        except OSError:  # the project is there already
            kept = Path("snapshots") / f"{snapshot_id}.json"
            (made / kept).replace(there / kept)
            (made / "dashboard.json").replace(there / "dashboard.json")


def _numbers(
    psi: Mapping[str, float], figures: Mapping[str, Mapping[str, float]]
) -> dict[Any, Any]:
    """Evidently's results for plain numbers: the maximum or the mean of a table of one row."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import MaxValue, MeanValue

    found: dict[Any, Any] = {}
    lines = {
        _line_name(title, line): value
        for title, values in figures.items()
        for line, value in values.items()
    }
    for metric, values in ((MaxValue, psi), (MeanValue, lines)):
        if values:
            rows = Dataset.from_pandas(
                pd.DataFrame({name: [float(value)] for name, value in values.items()}),
                DataDefinition(numerical_columns=[*values]),
            )
            run = Report([metric(column=name) for name in values]).run(rows, None)
            found |= run.to_snapshot_model().metric_results
    for result in found.values():
        result.widget = []  # a picture of one number
    return found


def _line_name(title: str, line: str) -> str:
    """What a figure is called among all of them."""
    return f"{title}: {line}"


def _draw_panels(project: Project, head: str, figures: Mapping[str, Mapping[str, float]]) -> None:
    """The last verdict, the drift of each column over time, then the other figures two by two."""
    from evidently.sdk.models import PanelMetric
    from evidently.sdk.panels import line_plot_panel, text_panel

    def plot(title: str) -> DashboardPanelPlot:
        lines = [
            PanelMetric(
                legend=line,
                metric="MeanValue",
                metric_labels={"column": _line_name(title, line)},
            )
            for line in figures[title]
        ]
        return line_plot_panel(title, lines, size="half")

    dashboard = project.dashboard
    dashboard.add_panel(text_panel("Last verdict", head))
    of_columns = PanelMetric(legend="{{column}}", metric="MaxValue")
    dashboard.add_panel(line_plot_panel("Population stability index of each column", [of_columns]))
    for title in figures:
        dashboard.add_panel(plot(title))
