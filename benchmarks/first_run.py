"""Write docs/results/first-run.md from what the run history of the example pipelines holds.

Run the pipelines first, with the commands that the page names; this only reads their tables.

    python benchmarks/first_run.py demo kuairand movielens
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path
from typing import Any

from pipelines.project import Project, find_root
from pipelines.summary import recommendations, recommendations_text, report

RUNS = {
    "demo": "make run",
    "kuairand": "KUAIRAND=<folder> sextant backfill kuairand --from {first} --to {last}",
    "movielens": "MOVIELENS=<folder> sextant backfill movielens --from {first} --to {last}",
}
TABLES = ("events", "items", "users", "follows")
METRICS = (
    "ndcg@10",
    "recall@10",
    "hit_rate@10",
    "mrr",
    "coverage@10",
    "novelty@10",
    "category_diversity@10",
    "mean_popularity@10",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pipelines", nargs="+")
    parts = [_head()]
    for name in parser.parse_args().pipelines:
        project = Project.load(name)
        parts.append(_pipeline(project, report(project)))
    target = find_root() / "docs" / "results" / "first-run.md"
    target.write_text("\n\n".join(parts) + "\n")
    print(f"Wrote {target}")


def _head() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        "# First runs\n\n"
        "Three pipelines from nothing to published candidates, one run each, so seconds are those "
        "of this machine on that day. Made by `python benchmarks/first_run.py demo kuairand "
        f"movielens`.\n\nMachine: {os.cpu_count()} cores ({platform.machine()}), "
        f"{memory:.0f} GiB, no GPU, Python {platform.python_version()}. Peak memory is the "
        "proportional memory (PSS) of all processes, sampled once a second.\n\n"
        "Ranking is over the full catalogue without the items a user has met, on the last stretch "
        "of time; intervals are 95 % bootstrap intervals over users."
    )


def _pipeline(project: Project, found: dict[str, Any]) -> str:
    name, intervals = found["pipeline"], found["intervals"]
    first, last = intervals[0], intervals[-1]
    command = RUNS[name].format(first="<start of the first>", last=last["interval_end"])
    parts = [
        f"## {name}: {project.pipeline.description}",
        f"`{command}`\n\n{len(intervals)} interval{'s' * (len(intervals) > 1)} of "
        f"{project.pipeline.schedule.every}, {first['interval_end']} to {last['interval_end']}.",
        "### Rows and cost",
        _rows(intervals),
        f"### Seconds a stage (last interval, {last['interval_end']})",
        _stages(last),
        f"### Models on the frozen test set (last interval, {last['interval_end']})",
        _models(last),
        "### NDCG@10, gate and drift by interval",
        _gates(intervals),
        "### What one user is served",
        _served(project),
    ]
    return "\n\n".join(parts)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _rows(intervals: list[dict[str, Any]]) -> str:
    rows = []
    for entry in intervals:
        counts = entry["rows"]
        rows.append(
            [
                entry["interval_end"],
                *(
                    f"{counts[table]['accepted']:,}"
                    for table in ("events", "items", "users", "follows")
                ),
                f"{sum(one['quarantined'] for one in counts.values()):,}",
                f"{sum(one['duplicates'] for one in counts.values()):,}",
                f"{entry['stages']['publish']['rows_out']:,}",
                f"{entry['seconds']:.0f}",
                f"{entry['peak_memory_mb'] / 1024:.1f}",
            ]
        )
    return _table(
        [
            "interval end",
            "new events",
            "items",
            "users",
            "follows",
            "quarantined",
            "duplicates",
            "candidates",
            "seconds",
            "peak GiB",
        ],
        rows,
    )


def _stages(entry: dict[str, Any]) -> str:
    return _table(
        ["stage", "seconds", "peak GiB", "rows out"],
        [
            [
                stage,
                f"{run['seconds']:.1f}",
                f"{run['peak_memory_mb'] / 1024:.1f}",
                f"{run['rows_out']:,}",
            ]
            for stage, run in entry["stages"].items()
        ],
    )


def _models(entry: dict[str, Any]) -> str:
    rows = []
    for model in sorted(entry["models"], key=lambda m: -m["metrics"]["ndcg@10"][0]):
        cells = [model["model"], model["version"], model["role"]]
        for metric in METRICS:
            value, low, high = model["metrics"][metric]
            cells.append(f"{value:.4f}" if low is None else f"{value:.4f} [{low:.4f}, {high:.4f}]")
        rows.append(cells)
    return _table(["model", "version", "role", *METRICS], rows)


def _gates(intervals: list[dict[str, Any]]) -> str:
    rows = []
    for entry in intervals:
        drift = entry["drift"]
        words = "; ".join([drift["outcome"], *drift["reasons"]])
        for model, verdict in entry["gate"].items():
            rows.append(
                [
                    entry["interval_end"],
                    model,
                    verdict["version"],
                    verdict["outcome"],
                    verdict["reason"],
                    words,
                ]
            )
            words = ""
    return _table(["interval end", "model", "version", "outcome", "reason", "drift"], rows)


def _served(project: Project) -> str:
    folder = Path(project.location(project.pipeline.environment.lake))
    assert folder.exists()
    from pipelines.lake import Lake
    from pipelines.state import RunHistory

    history = RunHistory(Lake(str(folder), project.pipeline.pipeline))
    user = [run for run in history.runs if run.stage == "publish"][-1].detail["example_user"]
    return f"```\n{recommendations_text(user, recommendations(project, user, 10))}\n```"


if __name__ == "__main__":
    main()
