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

    A difference counts once it is seen twice: between the gate and the candidates of an ordinary
    run there is one for a moment.

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
        told: dict[str, str] | None = None
        before: dict[str, str] | None = None
        while True:
            found = await asyncio.to_thread(self._moved)
            if found is not None and found == before and found != told:
                told = found
                yield TriggerEvent({"champions": found})
            before = found
            await asyncio.sleep(_SECONDS)

    def _moved(self) -> dict[str, str] | None:
        """The champions, where the served candidates are not theirs; else None."""
        from pipelines.lake import Lake
        from pipelines.project import Project
        from pipelines.stages.train import champions
        from pipelines.state import RunHistory
        from pipelines.targets.airflow_task import environment

        project = Project.load(self.pipeline, root=Path(self.root), env=environment())
        history = RunHistory(
            Lake(project.location(project.pipeline.environment.lake), project.pipeline.pipeline)
        )
        served = history.newest_success("candidates")
        if served is None:
            return None
        now = champions(project, served.interval_end)
        versions = served.detail["versions"]
        return now if any(now.get(name) != made for name, made in versions.items()) else None
