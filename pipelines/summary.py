"""What a run did and what is served now, for people and as JSON."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pipelines.errors import StageError, UsageError
from pipelines.graph import EVERYBODY
from pipelines.intervals import Interval, text
from pipelines.lake import Lake
from pipelines.project import Project
from pipelines.repairs import counted, outdated_lines, readers, waiting_lines
from pipelines.runner import Outcome, Runner
from pipelines.stages.decisions import THE_GATE
from pipelines.stages.shadow import summary as shadow_text
from pipelines.stages.window import LATE
from pipelines.state import RunHistory, StageRun

_SHOWN_METRICS = ("ndcg@10", "recall@10", "hit_rate@10", "mrr", "coverage@10")


def summarise(
    project: Project, runner: Runner, interval: Interval, outcome: Outcome
) -> dict[str, Any]:
    """The summary of one run, as plain JSON values.

    Returns:
        rows in and quarantined, metrics of every model, champions with the gate's reason, the drift
        verdict, the candidates of one user, the cost, and three commands to go on with. Parts whose
        stage has not run for the interval are None.
    """
    last = {step.name: runner.history.last_success(step.name, interval) for step in project.steps}
    publish = last["publish"]
    user = publish.detail.get("example_user") if publish else None
    return {
        "pipeline": project.pipeline.pipeline,
        "interval_end": interval.end_text,
        "ran": list(outcome.ran),
        "skipped": list(outcome.skipped),
        "not_due": dict(outcome.not_due),
        "failed": {name: str(error) for name, error in outcome.failures.items()},
        "rows": _detail(last["validate"], "rows"),
        "models": _models(runner.lake, interval) if last["evaluate"] else None,
        "gate": _detail(last["gate"], "verdicts"),
        "drift": _detail(last["drift"], "verdict"),
        "example": None
        if user is None
        else {
            "user": user,
            "candidates": recommendations(project, user, 10),
        },
        "cost": {
            "seconds": dict(outcome.seconds),
            "peak_memory_mb": max(
                (run.peak_memory_mb for name, run in last.items() if run and name in outcome.ran),
                default=0.0,
            ),
        },
        "next": _next(project, user),
    }


def _detail(run: StageRun | None, key: str) -> Any:
    return None if run is None else run.detail.get(key)


def _next(project: Project, user: str | None) -> list[str]:
    commands = [
        project.command("report", None),
        project.command("plan", None),
        project.command("graph", None),
    ]
    if user is not None:
        commands[2] = project.command("recommend", None, user)
    return commands


def _models(lake: Lake, interval: Interval) -> list[dict[str, Any]]:
    rows = lake.arrow("metrics", interval_end=interval.end).to_pylist()
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        if row["group"] == "all":
            key = (row["model_name"], row["model_version"], row["role"])
            found.setdefault(key, {})[row["metric"]] = [row["value"], row["low"], row["high"]]
    return [
        {"model": name, "version": version, "role": role, "metrics": metrics}
        for (name, version, role), metrics in sorted(found.items())
    ]


def summary_text(summary: Mapping[str, Any]) -> str:
    """The summary for a person at a terminal."""
    parts = [_head(summary)]
    if summary["rows"]:
        parts.append(_rows_text(summary["rows"]))
    if summary["models"]:
        parts.append(
            "Models on the frozen test set (95 % intervals over users)\n"
            + models_table(summary["models"])
        )
    if summary["gate"]:
        parts.append(
            "Gate\n"
            + "\n".join(
                f"  {model:<12} {verdict['reason']}" for model, verdict in summary["gate"].items()
            )
        )
    if summary["drift"]:
        parts.append(_drift_text(summary["drift"]))
    if summary["example"]:
        example = summary["example"]
        parts.append(recommendations_text(example["user"], example["candidates"]))
    parts.append("Next\n" + "\n".join(f"  {command}" for command in summary["next"]))
    return "\n\n".join(parts)


def _head(summary: Mapping[str, Any]) -> str:
    title = f"{summary['pipeline']}, interval that ends at {summary['interval_end']}"
    if not summary["ran"]:
        return f"{title}: everything is up to date, nothing was done."
    cost = summary["cost"]
    return (
        f"{title}: {len(summary['ran'])} stages ran, {len(summary['skipped'])} were up to date, "
        f"{sum(cost['seconds'].values()):.0f} s, "
        f"peak memory {cost['peak_memory_mb'] / 1024:.1f} GiB"
    )


def _rows_text(rows: Mapping[str, Mapping[str, int]]) -> str:
    lines = ["Rows"]
    for table, counts in rows.items():
        lines.append(
            f"  {table:<8} {counts['accepted']:>9,} accepted {counts['quarantined']:>7,} "
            f"quarantined {counts['duplicates']:>7,} duplicates"
        )
    return "\n".join(lines)


def _drift_text(verdict: Mapping[str, Any]) -> str:
    lines = [f"Drift: {verdict['outcome']}"]
    lines += [f"  {reason}" for reason in verdict["reasons"]]
    lines.append(f"  {verdict['report']}")
    return "\n".join(lines)


def models_table(models: Sequence[Mapping[str, Any]]) -> str:
    """Metrics of several models, one a line, the best NDCG first."""
    shown = [name for name in _SHOWN_METRICS if any(name in m["metrics"] for m in models)]
    header = f"  {'model':<14}{'version':>8}  {'role':<11}" + "".join(f"{n:>24}" for n in shown)
    lines = [header]
    for row in sorted(models, key=lambda m: -m["metrics"].get("ndcg@10", [0.0])[0]):
        cells = ""
        for name in shown:
            value, low, high = row["metrics"].get(name, [None, None, None])
            text = "-" if value is None else f"{value:.4f}"
            if low is not None:
                text += f" [{low:.4f}, {high:.4f}]"
            cells += f"{text:>24}"
        lines.append(f"  {row['model']:<14}{row['version']:>8}  {row['role']:<11}{cells}")
    return "\n".join(lines)


def recommendations(project: Project, user: str, k: int) -> list[dict[str, Any]]:
    """The published candidates of a user, best first, with titles.

    A user without candidates of their own gets the list for everybody, whose `user_id` says so.

    Raises:
        StageError: When nothing has been published yet.
        UsageError: For a list without items.
    """
    import pyarrow.compute as pc

    if k < 1:
        raise UsageError(f"--k {k}: a list has at least one item. Write --k 10.")
    lake = Lake(project.location(project.pipeline.environment.lake), project.pipeline.pipeline)
    if lake.version("candidates") is None:
        raise StageError(
            f"{project.pipeline.pipeline} has published no candidates yet.",
            next_command=project.command("run", None),
        )
    key = project.pseudonym_key
    stored = user if key is None else hmac.new(key, user.encode(), "sha256").hexdigest()
    rows = lake.arrow("candidates")
    mine = rows.filter(pc.equal(rows["user_id"], stored))
    if not mine.num_rows:
        mine = rows.filter(pc.equal(rows["user_id"], EVERYBODY))
    mine = mine.sort_by("rank").slice(0, k)
    items = lake.arrow("items", columns=["item_id", "title", "categories"])
    wanted = items.filter(pc.is_in(items["item_id"], value_set=mine["item_id"].combine_chunks()))
    known = {row["item_id"]: row for row in wanted.to_pylist()}
    return [
        {
            **row,
            "title": known[row["item_id"]]["title"],
            "categories": known[row["item_id"]]["categories"],
        }
        for row in mine.to_pylist()
    ]


def recommendations_text(user: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A user's candidates as a table."""
    served = rows[0]
    end = served["interval_end"]
    lines = [f"Candidates of user {user}, of the interval that ends at {text(end)}"]
    if served["user_id"] == EVERYBODY:
        lines.append(f"  (`{user}` is not an active user: this is the list for everybody)")
    for row in rows:
        title = row["title"] or ", ".join(row["categories"] or []) or "-"
        lines.append(
            f"  {row['rank']:>3}  {row['item_id']:<10} {_cut(title, 42):<42}  "
            f"{row['score']:>7.3f}  {row['source']:<12} {row['reason']}"
        )
    return "\n".join(lines)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def report(project: Project) -> dict[str, Any]:
    """All intervals so far: outcome, metrics, verdicts, drift, cost; and what is to be repaired."""
    lake = Lake(project.location(project.pipeline.environment.lake), project.pipeline.pipeline)
    history = RunHistory(lake)
    by_interval: dict[datetime, dict[str, StageRun]] = {}
    for run in history.runs:
        by_interval.setdefault(run.interval_end, {})[run.stage] = run
    moves = _moves(lake)
    intervals = []
    for end, stages in sorted(by_interval.items()):
        interval = Interval(next(iter(stages.values())).interval_start, end)
        gate, drift = stages.get("gate"), stages.get("drift")
        intervals.append(
            {
                "interval_end": interval.end_text,
                "failed": {s: r.message for s, r in stages.items() if r.status == "failed"},
                "seconds": round(sum(r.seconds for r in stages.values()), 1),
                "peak_memory_mb": max(r.peak_memory_mb for r in stages.values()),
                "core_hours": sum(r.cpu_seconds or 0.0 for r in stages.values()) / 3600,
                "rows": _detail(stages.get("validate"), "rows"),
                "late": _detail(stages.get("validate"), "taken") or {},
                "models": _models(lake, interval) if "evaluate" in stages else [],
                "gate": _detail(gate, "verdicts") or {},
                "champions": [row for row in moves if row["interval_end"] == interval.end_text],
                "drift": _detail(drift, "verdict"),
                "shadow": _detail(stages.get("shadow"), "shadow") or {},
                "out_of_network": _detail(stages.get("candidates"), "out_of_network_share"),
                "stages": {
                    s: {
                        "seconds": r.seconds,
                        "peak_memory_mb": r.peak_memory_mb,
                        "cpu_seconds": r.cpu_seconds,
                        "rows_out": r.rows_out,
                        "status": r.status,
                    }
                    for s, r in stages.items()
                },
            }
        )
    waiting = _waiting(lake)
    outdated = [text(end) for end in history.outdated(readers(project))]
    return {
        "pipeline": project.pipeline.pipeline,
        "intervals": intervals,
        "waiting": waiting,
        "outdated": outdated,
        "repairs": [*waiting_lines(project, waiting), *outdated_lines(project, outdated)],
        "next": [project.command("run", None)],
    }


def _moves(lake: Lake) -> list[dict[str, Any]]:
    """How the champions moved, oldest first."""
    if lake.version("decisions") is None:
        return []
    rows = lake.arrow("decisions").sort_by("decided_at").to_pylist()
    times = ("decided_at", "interval_end")
    return [{**row, **{name: text(row[name]) for name in times}} for row in rows]


def _waiting(lake: Lake) -> dict[str, int]:
    """How many events that came too late wait for each interval, by its end, oldest first."""
    import pyarrow.compute as pc

    if lake.version("quarantine") is None:
        return {}
    rows = lake.arrow("quarantine", columns=["rule", "interval_end"])
    late = rows.filter(pc.equal(rows["rule"], LATE))["interval_end"]
    counts = {row["values"]: row["counts"] for row in pc.value_counts(late).to_pylist()}
    return {text(end): counts[end] for end in sorted(counts)}


def report_text(found: Mapping[str, Any]) -> str:
    """The report for a person at a terminal: one block an interval, oldest first."""
    if not found["intervals"]:
        return f"{found['pipeline']}: nothing has run yet.\nNext: {found['next'][0]}"
    parts = []
    for entry in found["intervals"]:
        lines = [
            f"{found['pipeline']}, interval that ends at {entry['interval_end']}: "
            f"{entry['seconds']:.0f} s, peak {entry['peak_memory_mb'] / 1024:.1f} GiB, "
            f"{entry['core_hours']:.3f} core-hours"
        ]
        lines += [
            f"  FAILED {stage}: {text.splitlines()[0]}" for stage, text in entry["failed"].items()
        ]
        if entry["late"]:
            lines.append(f"  late and taken into their own intervals: {counted(entry['late'])}")
        if entry["models"]:
            lines.append(models_table(entry["models"]))
        lines += [
            f"  gate: {model:<12} {verdict['reason']}" for model, verdict in entry["gate"].items()
        ]
        lines += [
            f"  champion: {row['model']} version {row['from_version'] or 'none'} -> "
            f"{row['to_version'] or 'none'} by {row['decided_by']}, seen {row['decided_at']}"
            for row in entry["champions"]
            if row["decided_by"] != THE_GATE
        ]
        lines += [
            f"  shadow: {model:<10} version {other['version']}: {shadow_text(other)}"
            for model, other in entry["shadow"].items()
        ]
        if entry["drift"]:
            lines.append(f"  drift: {entry['drift']['outcome']}")
            lines += [f"    {reason}" for reason in entry["drift"]["reasons"]]
        if entry["out_of_network"] is not None:
            lines.append(
                f"  lists: {entry['out_of_network']:.0%} by people whom the users do not follow"
            )
        parts.append("\n".join(lines))
    if found["repairs"]:
        parts.append("\n".join(found["repairs"]))
    return "\n\n".join(parts)
