"""What ``sextant probe`` says: its findings as records, as JSON and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from pipelines.intervals import Interval, text
from pipelines.project import Project

SOURCES = ("items", "users")
"""Tables whose columns come from sources; others are computed."""

_CURES = {
    "popularity": "Do not map them: a model would learn what came later. A count belongs to "
    "`events`,\n     where each has its time, and the pipeline counts as of each event.",
    "later_row": "These rows were written after they were used. Export them as they were, or map "
    "only\n     what never changes.",
    "feature": "Compute them from what is known strictly before the event: see transforms/asof.py.",
}


@dataclass(frozen=True)
class Finding:
    """A column that knows the future.

    Args:
        table: Where it is: `items`, `users` or `examples`, or the feature's function.
        column: Its name there; for items and users, in the source.
        mapped: The columns of the table that it fills; empty when the spec does not use it.
        kind: See `transforms.probe.Leak`; `planted` where a planted future moved it.
        strength: Correlation, AUC or share, as the kind measures it.
        evidence: One clause for a person.
    """

    table: str
    column: str
    mapped: tuple[str, ...]
    kind: str
    strength: float
    evidence: str


@dataclass(frozen=True)
class Probe:
    """What was looked at and what was found."""

    interval: Interval
    cut: datetime
    judged: Mapping[str, int]
    """Number of columns by table."""
    sources: Mapping[str, str]
    """Where each table's columns come from."""
    findings: tuple[Finding, ...]


def probe_json(project: Project, result: Probe) -> dict[str, Any]:
    """The result as plain JSON values."""
    return {
        "pipeline": project.pipeline.pipeline,
        "interval_end": result.interval.end_text,
        "cut": text(result.cut),
        "columns": dict(result.judged),
        "leaks": [asdict(finding) for finding in result.findings],
    }


def probe_text(project: Project, result: Probe) -> str:
    """The result in words."""
    looked = ", ".join(f"{count} of {table}" for table, count in result.judged.items())
    lines = [
        f"Probe of {project.pipeline.pipeline} before {result.interval.end_text}: columns looked "
        f"at: {looked}.",
        f"Later events are those since {text(result.cut)}, about half of all.",
    ]
    if not result.findings:
        return "\n".join([*lines, "No column knows the future."])
    count = len(result.findings)
    verb = "column knows" if count == 1 else "columns know"
    lines.append(f"{count} {verb} the future:")
    for (table, cure), members in groupby(
        result.findings, key=lambda finding: (finding.table, _cure(finding))
    ):
        found = list(members)
        source = result.sources.get(table, "the functions that compute them")
        lines += ["", f"  {table}, from {source}"]
        width = max(len(one.column) for one in found)
        uses = max(len(_use(one)) for one in found)
        lines += [
            f"    {one.column:<{width}}  {_use(one):<{uses}}  {one.evidence}" for one in found
        ]
        lines.append(f"  => {cure}")
    keep = project.command("probe", result.interval, "--allow", _name(result))
    lines += ["", f"To pass over a column that is right as it is: {keep}"]
    return "\n".join(lines)


def _use(finding: Finding) -> str:
    if finding.table not in SOURCES:
        return "feature"
    return f"mapped to {', '.join(finding.mapped)}" if finding.mapped else "not mapped"


def _name(result: Probe) -> str:
    first = result.findings[0]
    return f"{first.table}.{first.column}"


def _cure(finding: Finding) -> str:
    if finding.kind == "later_row":
        return _CURES["later_row"]
    return _CURES["popularity" if finding.table in SOURCES else "feature"]
