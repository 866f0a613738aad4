"""What late and corrected data leave to do: told by ``validate`` and by ``sextant report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.intervals import interval_ending, parse_moment
from pipelines.project import Project

_SHOWN = 6


def readers(project: Project) -> frozenset[str]:
    """Names of the stages that read the base tables and make something of them."""
    return frozenset(step.name for step in project.steps if "validate" in step.needs)


def counted(late: Mapping[str, int]) -> str:
    """Ends of intervals with how many events belong to each, the first few of them."""
    return _some([f"{end} ({count:,})" for end, count in late.items()])


def waiting_lines(project: Project, waiting: Mapping[str, int]) -> list[str]:
    """Which closed intervals have events that came too late, and how these come in."""
    if not waiting:
        return []
    lines = [
        f"{sum(waiting.values()):,} events came too late and wait until their intervals run "
        f"again: {counted(waiting)}"
    ]
    for end in list(waiting)[:_SHOWN]:
        command = project.command("run", None, "--at", end, "--select", "+validate")
        lines.append(f"  Take them in: {command}")
    return lines


def taken_lines(taken: Mapping[str, int]) -> list[str]:
    """Which closed intervals got events that came late, but in time."""
    if not taken:
        return []
    return [
        f"{sum(taken.values()):,} events came late and in time, and were taken into their own "
        f"intervals: {counted(taken)}"
    ]


def outdated_lines(project: Project, ends: Sequence[str]) -> list[str]:
    """Which intervals ran on events that have changed since, and how they are made anew."""
    if not ends:
        return []
    many = f"{len(ends):,} intervals" if len(ends) > 1 else "1 interval"
    lines = [f"{many} ran on events that have changed since: {_some(ends)}"]
    for start, end in _stretches(project, ends):
        command = project.command("backfill", None, "--from", start, "--to", end)
        lines.append(f"  Make anew what is outdated: {command}")
    return lines


def _stretches(project: Project, ends: Sequence[str]) -> list[tuple[str, str]]:
    """Starts and ends of the stretches that intervals make up, oldest first."""
    found: list[tuple[str, str]] = []
    for end in ends:
        start = interval_ending(parse_moment(end), project.pipeline.schedule.every).start_text
        if found and found[-1][1] == start:
            start, _ = found.pop()
        found.append((start, end))
    return found


def _some(names: Sequence[str]) -> str:
    left = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {left:,} more" if left > 0 else "")
