"""An Airflow trigger that notices when a person moves the alias `champion` in MLflow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

_SECONDS = 20.0


class ChampionTrigger(BaseEventTrigger):
    """Fires when the champions are others than those whose candidates are served.

    A difference counts once it is seen twice: a person may move several aliases.

    Args:
        pipeline: Name of the pipeline's file.
        root: The project's folder.
    """

    def __init__(self, pipeline: str, root: str) -> None:
        super().__init__()
        self.pipeline, self.root = pipeline, root

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How Airflow makes it again in the triggerer."""
        return (
            f"{type(self).__module__}.{type(self).__name__}",
            {"pipeline": self.pipeline, "root": self.root},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each change, for as long as the triggerer lives."""
        told: dict[str, Any] | None = None
        before: dict[str, Any] | None = None
        while True:
            found = await asyncio.to_thread(self._moved)
            if found is None:  # what was told is served
                told = None
            elif found == before and found != told:
                told = found
                yield TriggerEvent(found)
            before = found
            await asyncio.sleep(_SECONDS)

    def _moved(self) -> dict[str, Any] | None:
        """The champions and the served interval, where its lists are not theirs; else None."""
        from pipelines.intervals import text
        from pipelines.project import Project
        from pipelines.stages.candidates import blended
        from pipelines.stages.train import registry
        from pipelines.targets.airflow_task import environment, served

        project = Project.load(self.pipeline, root=Path(self.root), env=environment())
        run = served(project)
        if run is None:
            return None
        models = registry(project)
        champions = {
            name: version
            for name in blended(project)
            if (version := models.champion(project.registered_name(name))) is not None
        }
        # A run that is on its way from the gate to its candidates has newer champions.
        if any(version.interval_end > run.interval_end for version in champions.values()):
            return None
        versions = {name: version.version for name, version in champions.items()}
        if versions == run.detail["versions"]:
            return None
        return {"champions": versions, "interval_end": text(run.interval_end)}
