"""Write docs/results/first-run.md from what the run history of the example pipelines holds.

Run the pipelines first, with the commands that the page names; this only reads their tables.

    python -m benchmarks.first_run demo kuairand movielens
"""

from __future__ import annotations

import argparse
import os
import platform
from typing import Any

from benchmarks.pages import replace_section
from pipelines.intervals import interval_ending, parse_moment
from pipelines.lake import Lake
from pipelines.project import Project, find_root
from pipelines.state import RunHistory
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
    parser.add_argument("--note", default="", help="a remark on the circumstances")
    options = parser.parse_args()
    target = find_root() / "docs" / "results" / "first-run.md"
    for name in options.pipelines:
        project = Project.load(name)
        replace_section(target, _pipeline(project, report(project), options.note), _HEAD)
    print(f"Wrote {target}")


_HEAD = """# First runs

Pipelines from nothing to published candidates, one run each, so seconds are those of one machine on
one day. Run them with the commands below, then `python -m benchmarks.first_run demo kuairand
movielens`. Peak memory is the proportional memory (PSS) of all processes, sampled every other
second.

Ranking is over the full catalogue without the items a user has met, on the last stretch of time;
intervals are 95 % bootstrap intervals over users.
"""


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, no GPU, Python "
        f"{platform.python_version()}."
    )


def _pipeline(project: Project, found: dict[str, Any], note: str) -> str:
    name, intervals = found["pipeline"], found["intervals"]
    first, last = intervals[0], intervals[-1]
    opening = interval_ending(parse_moment(first["interval_end"]), project.pipeline.schedule.every)
    command = RUNS[name].format(first=opening.start_text, last=last["interval_end"])
    parts = [
        f"## {name}: {project.pipeline.description}",
        f"`{command}`\n\n{len(intervals)} interval{'s' * (len(intervals) > 1)} of "
        f"{project.pipeline.schedule.every}, from {opening.start_text} to {last['interval_end']}; "
        f"the first loads all that came before it. {_machine()} {note}".rstrip(),
        "### Rows and cost",
        _rows(intervals),
        f"### Seconds a stage (last interval, {last['interval_end']})",
        _stages(last),
        f"### Models on the frozen test set (last interval, {last['interval_end']})",
        _models(last),
        "### NDCG@10 by group of users (last interval)",
        _groups(project),
        "### Gate and drift by interval",
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


def _groups(project: Project) -> str:
    """NDCG@10 of each challenger by group, and which groups make a model lose to popularity."""
    lake = Lake(project.location(project.pipeline.environment.lake), project.pipeline.pipeline)
    rows = lake.arrow("metrics").to_pylist()
    last = max(row["interval_end"] for row in rows)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        if (row["interval_end"], row["metric"], row["role"]) == (last, "ndcg@10", "challenger"):
            found.setdefault(row["model_name"], {})[row["group"]] = row
    groups = tuple(found["popularity"])
    users = {group: found["popularity"][group]["users"] for group in groups}
    table = _table(
        ["model", *(f"{group} ({users[group]:,} users)" for group in groups)],
        [
            [
                model,
                *(
                    "-" if by[group]["value"] is None else f"{by[group]['value']:.4f}"
                    for group in groups
                ),
            ]
            for model, by in found.items()
        ],
    )
    losers = []
    for model, by in found.items():
        if by["all"]["value"] < found["popularity"]["all"]["value"]:
            where = [
                f"{group} users ({by[group]['value']:.4f} against "
                f"{found['popularity'][group]['value']:.4f}, {users[group]:,} users)"
                for group in groups[1:]
                if users[group] and by[group]["value"] < found["popularity"][group]["value"]
            ]
            losers.append(f"`{model}` does not beat popularity. It loses on {' and '.join(where)}.")
    evaluation = project.pipeline.evaluation
    legend = (
        f"New users have fewer than {evaluation.new_below} positives before the test, heavy "
        f"ones at least {evaluation.light_below}; others are named in the spec."
    )
    return "\n\n".join([table, legend, *losers])


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
    lake = Lake(project.location(project.pipeline.environment.lake), project.pipeline.pipeline)
    published = [run for run in RunHistory(lake).runs if run.stage == "publish"]
    user = published[-1].detail["example_user"]
    return f"```\n{recommendations_text(user, recommendations(project, user, 10))}\n```"


if __name__ == "__main__":
    main()
