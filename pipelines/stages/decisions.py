"""The record of champions: each move, by the gate or by a person, once in table ``decisions``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext

if TYPE_CHECKING:
    import pyarrow as pa

    from training.registry import Registry
    from training.registry_moves import Move


THE_GATE = "the gate"
"""Who decided, where no person did."""


def note_moves(context: StageContext, models: Registry) -> None:
    """Record the moves that nobody recorded yet, and do what follows from them.

    The row comes first: a kill in between writes it no second time.
    """
    for name in context.project.models:
        made = models.unsettled(context.project.registered_name(name))
        if made is None:
            continue
        if made.by_person:
            context.progress(f"{name:<12} a person moved the champion: {_versions(made)}")
        if not _is_last(context, made):
            row = _row(context, models, made)
            context.lake.append("decisions", _table(row), context.note)
        models.settle(made)


def _versions(made: Move) -> str:
    return f"version {made.before or 'none'} -> {made.after or 'none'}"


def _is_last(context: StageContext, made: Move) -> bool:
    """Whether the newest row of the model is this move."""
    if context.lake.version("decisions") is None:
        return False
    rows = [row for row in context.lake.arrow("decisions").to_pylist() if row["model"] == made.name]
    if not rows:
        return False
    newest = max(rows, key=lambda row: row["decided_at"])
    return (newest["from_version"], newest["to_version"]) == (made.before, made.after)


def _row(context: StageContext, models: Registry, made: Move) -> dict[str, Any]:
    tags = {} if made.after is None else models.get(made.name, made.after).tags
    if made.by_person:
        who, reason = tags.get("decided_by", "a person"), "The alias was moved in MLflow."
    else:
        who, reason = THE_GATE, tags["gate_reason"]
    return {
        "decided_at": datetime.now(UTC),
        "model": made.name,
        "from_version": made.before,
        "to_version": made.after,
        "decided_by": who,
        "reason": reason,
        "run_id": context.run_id,
        "interval_end": context.interval.end,
    }


def _table(row: dict[str, Any]) -> pa.Table:
    import pyarrow as pa

    text, moment = pa.string(), pa.timestamp("us", tz="UTC")
    moments = {"decided_at", "interval_end"}
    schema = pa.schema({name: moment if name in moments else text for name in row})
    return pa.Table.from_pylist([row], schema=schema)
