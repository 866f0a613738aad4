"""The DAG and the plan as text, mermaid or dot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from pipelines.graph import Step
from pipelines.intervals import Interval
from pipelines.plan import Decision
from pipelines.project import Project


def graph_text(steps: Sequence[Step], form: str) -> str:
    """Draw the steps.

    Args:
        steps: In an order in which they can run.
        form: ``text``, ``mermaid`` or ``dot``.
    """
    return {"text": _plain, "mermaid": _mermaid, "dot": _dot}[form](steps)


def _plain(steps: Sequence[Step]) -> str:
    width = max(len(step.name) for step in steps)
    lines = []
    for group, members in groupby(steps, key=lambda step: step.group):
        lines.append(f"{group}:")
        lines += [
            f"  {step.name:<{width}}  {step.summary}"
            + (f"  <- {', '.join(step.after)}" if step.after else "")
            for step in members
        ]
    return "\n".join(lines)


def _mermaid(steps: Sequence[Step]) -> str:
    lines = ["flowchart LR"]
    for group, members in groupby(steps, key=lambda step: step.group):
        lines += [f"  subgraph {group}", *(f"    {step.name}" for step in members), "  end"]
    lines += [f"  {one} --> {step.name}" for step in steps for one in step.after]
    return "\n".join(lines)


def _dot(steps: Sequence[Step]) -> str:
    lines = ["digraph pipeline {", "  rankdir=LR; node [shape=box];"]
    for group, members in groupby(steps, key=lambda step: step.group):
        names = " ".join(f'"{step.name}";' for step in members)
        lines.append(f'  subgraph "cluster_{group}" {{ label="{group}"; {names} }}')
    lines += [f'  "{one}" -> "{step.name}";' for step in steps for one in step.after]
    return "\n".join([*lines, "}"])


def plan_text(
    project: Project,
    interval: Interval,
    decisions: Sequence[Decision],
    versions: Mapping[str, int | None],
) -> str:
    """What would run, on which table versions, and why."""
    width = max((len(decision.step.name) for decision in decisions), default=0)
    lines = [f"{project.pipeline.pipeline}: interval {interval}", ""]
    lines += [
        f"  {'run ' if decision.runs else 'skip'}  {decision.step.name:<{width}}  {decision.reason}"
        for decision in decisions
    ]
    there = [f"{table} v{version}" for table, version in versions.items() if version is not None]
    lines += ["", f"  Tables now: {', '.join(there) or 'none yet'}"]
    if any(decision.runs for decision in decisions):
        lines += ["", f"Next: {project.command('run', interval)}"]
    else:
        lines += ["", "Nothing to do."]
    return "\n".join(lines)
