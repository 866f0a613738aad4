"""What the transformer foretells of items shown in the demo, beside what was planted.

Reads the lake that `sextant run demo` left and simulates the demo again, to know the chances that
were drawn from: nobody can foretell clicks better than with those.

    python -m benchmarks.transformer.demo --project .
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.lake import Lake
from pipelines.project import Project
from pipelines.stages.snapshot import EXAMPLE_COLUMNS, ITEM_COLUMNS, follows_before, micros
from training.reactions import ReactionSet, auc, mae
from training.snapshot import Snapshot
from transforms.demo import DemoConfig, DemoWorld, reactions

ANSWERS = ("click", "watch", "rating")


def main() -> int:
    """Prints a line for each answer: the model, the items' means, the planted best."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", type=Path, default=Path())
    parser.add_argument("--model", default="transformer")
    options = parser.parse_args()
    project = Project.load("demo", root=options.project.resolve())
    lake = Lake(project.location(project.pipeline.environment.lake), "demo")
    metrics = lake.arrow("metrics").to_pylist()
    end = max(row["interval_end"] for row in metrics)
    mine = {
        row["metric"]: row["value"]
        for row in metrics
        if row["interval_end"] == end and row["model_name"] == options.model
    }
    snapshot = _snapshot(project, lake, end)
    asked = ReactionSet.build(snapshot)
    planted = _planted(project, snapshot, asked)
    for place, name in enumerate(ANSWERS):
        judge = auc if name == "click" else mae
        metric = f"{name}_{judge.__name__}"
        target = getattr(asked.shown, name)
        known = np.isfinite(target) & np.isfinite(planted[:, place])
        print(
            f"{metric}: model {mine.get(metric, float('nan')):.4f}, item means "
            f"{mine.get(f'{metric}_of_item_means', float('nan')):.4f}, "
            f"planted {judge(target[known], planted[known, place]):.4f}, {known.sum():,} answers"
        )
    return 0


def _snapshot(project: Project, lake: Any, end: Any) -> Snapshot:
    evaluation = project.pipeline.evaluation
    test_start = end - evaluation.test
    return Snapshot.from_tables(
        lake.arrow("examples", columns=EXAMPLE_COLUMNS, before={"timestamp": end}),
        lake.arrow("items", columns=ITEM_COLUMNS),
        lake.arrow("graph_edges", **follows_before(end)),
        valid_start=micros(test_start - evaluation.valid),
        test_start=micros(test_start),
        end=micros(end),
    )


def _planted(project: Project, snapshot: Snapshot, asked: ReactionSet) -> np.ndarray:
    """(X, 3): for each item shown what the simulator drew from; NaN for what it never showed."""
    demo = project.pipeline.sources.demo
    assert demo is not None, "the demo's spec has it"
    world = DemoWorld(DemoConfig(**demo.settings(), seed=project.pipeline.seed))
    drawn = {}
    for users, items, answers in _chances(world):
        drawn |= {
            (int(user), int(item)): answer
            for user, item, answer in zip(users, items, answers, strict=True)
        }
    user_at = {name: place for place, name in enumerate(world.users()["user_id"].to_pylist())}
    item_at = {name: place for place, name in enumerate(world.items()["item_id"].to_pylist())}
    return np.array(
        [
            drawn.get((user_at[str(user)], item_at[str(item)]), (np.nan,) * 3)
            for user, item in zip(
                snapshot.user_ids[asked.shown.users],
                snapshot.catalogue[asked.shown.items],
                strict=True,
            )
        ]
    )


def _chances(world: DemoWorld) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Users, items, and P(click), mean share and mean rating of what the simulator shows."""
    seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    chance = reactions.engagement_chance

    def spy(shown: Any, items: Any) -> np.ndarray:
        click = chance(shown, items)
        liking = shown.affinity_B - 1.5 + 0.4 * items.quality_N[shown.item_B]
        share = (1 / (1 + np.exp(-(0.2 + 0.8 * liking)))).clip(0.05, 0.95)
        rating = (3.4 + 0.9 * liking).clip(1, 5) / 5
        seen.append((shown.user_B.copy(), shown.item_B.copy(), np.stack([click, share, rating], 1)))
        return click

    reactions.engagement_chance = spy
    try:
        world.events()
    finally:
        reactions.engagement_chance = chance
    yield from seen


if __name__ == "__main__":
    sys.exit(main())
