"""``dvc.yaml``: the same steps as DVC stages.

Each DVC stage calls ``sextant stage`` for the newest whole interval of the data, and watches the
receipts of the steps before it. A receipt is a small file that changes when a result does; the
data itself is versioned by Delta. Pipelines whose sources wait for an environment variable are left
out, so that ``dvc repro`` runs in a fresh clone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipelines.graph import Step
from pipelines.project import Project

_HEADER = "# Made by `sextant render dvc` from configs/pipelines/; edit those, then render again.\n"


def render(root: Path) -> str:
    """The text of ``dvc.yaml`` for all pipelines of a project."""
    stages: dict[str, Any] = {}
    for file in sorted((root / "configs" / "pipelines").glob("*.yaml")):
        if "${" in file.read_text():
            continue
        project = Project.load(file.stem, root=root)
        for step in project.steps:
            stages[f"{project.pipeline.pipeline}-{step.name}"] = _stage(project, step)
    return _HEADER + yaml.safe_dump({"stages": stages}, sort_keys=False, width=100)


def _stage(project: Project, step: Step) -> dict[str, Any]:
    name = project.pipeline.pipeline
    receipts = f"{project.pipeline.environment.lake}/{name}/receipts"
    files = [f"configs/pipelines/{project.reference}.yaml"]
    if step.kind == "train":
        files.append(f"configs/models/{step.options['model']}.yaml")
    files += [
        f"data_contracts/{contract}.yaml"
        for table in step.options.get("contracts", ())
        for contract in project.pipeline.contracts[table]
    ]
    return {
        "cmd": f"sextant stage {project.reference} {step.name}",
        "desc": step.summary,
        "deps": sorted({*files, *step.code, *(f"{receipts}/{one}.json" for one in step.after)}),
        "outs": [{f"{receipts}/{step.name}.json": {"cache": False, "persist": True}}],
    }
