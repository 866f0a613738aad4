"""What Evidently's pages show of the intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from training.drift_workspace import keep_snapshot


def test_an_interval_is_one_snapshot_however_often_it_runs(tmp_path: Path) -> None:
    from evidently import Report
    from evidently.metrics import RowCount
    from evidently.ui.workspace import Workspace

    first = datetime(2026, 3, 12, 18, tzinfo=UTC)
    second = first + timedelta(hours=6)
    for end, rows, outcome in (
        (first, 3, "no drift"),
        (second, 5, "no drift"),
        (first, 4, "drifted"),
    ):
        snapshot = Report([RowCount()]).run(pd.DataFrame({"a": range(rows)}), timestamp=end)
        file = tmp_path / "snapshot.json"
        file.write_text(snapshot.dumps())
        keep_snapshot(
            file,
            tmp_path / "workspace",
            project="shop",
            at=end,
            tags=[outcome],
            words={"verdict": outcome},
            psi={"device": 0.1 * rows, "age": 0.02},
            figures={"Share": {"all": 0.5}, "Accuracy": {"gnn": 0.01 * rows, "popularity": 0.02}},
        )
    workspace = Workspace.create(str(tmp_path / "workspace"))
    (project,) = workspace.list_projects()
    assert project.name == "shop"
    # Those of the last call: the panels of a project that is there already change too.
    panels = project.dashboard.model().panels
    assert [panel.title for panel in panels] == [
        "Last verdict",
        "Population stability index of each column",
        "Share",
        "Accuracy",
    ]
    assert panels[0].subtitle == "2026-03-12 18:00 UTC: drifted"
    kept = [workspace.get_run(project.id, run) for run in workspace.list_runs(project.id)]
    assert sorted((run.name, run.tags, run.metadata, run.timestamp) for run in kept) == [
        ("2026-03-12 18:00 UTC", ["drifted"], {"verdict": "drifted"}, first),
        ("2026-03-13 00:00 UTC", ["no drift"], {"verdict": "no drift"}, second),
    ]
    for file in (tmp_path / "workspace" / str(project.id) / "snapshots").iterdir():
        assert file.stat().st_size < 20_000
    series = {
        (result.metric_value_location.metric.params["column"], result.dict()["value"])
        for run in kept
        for result in run.metric_results.values()
        if "column" in result.metric_value_location.metric.params
    }
    assert series == {
        *(("device", 0.4), ("device", 0.5), ("age", 0.02)),
        ("Share: all", 0.5),
        *(("Accuracy: gnn", 0.04), ("Accuracy: gnn", 0.05), ("Accuracy: popularity", 0.02)),
    }
