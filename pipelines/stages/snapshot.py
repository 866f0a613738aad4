"""What the training stages share: the moments of the time split, and the snapshot they all see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.context import StageContext
from pipelines.intervals import from_micros, text

if TYPE_CHECKING:
    import pyarrow as pa

    from training.content import ItemContent
    from training.snapshot import Snapshot

EXAMPLE_COLUMNS = (
    "event_id",
    "user_id",
    "item_id",
    "event_type",
    "strength",
    "label",
    "timestamp",
    "watch_share",
    "rating",
    "device",
    "location",
)
ITEM_COLUMNS = ("item_id", "categories", "created_at", "author_id")


@dataclass(frozen=True)
class Cuts:
    """The global time split: train < valid_start <= valid < test_start <= test < end."""

    valid_start: datetime
    test_start: datetime
    end: datetime


def cuts(context: StageContext) -> Cuts:
    """The moments at which validation and test begin."""
    evaluation = context.project.pipeline.evaluation
    test_start = context.interval.end - evaluation.test
    return Cuts(test_start - evaluation.valid, test_start, context.interval.end)


def load_snapshot(context: StageContext, content: ItemContent | None = None) -> Snapshot:
    """All that models learn from and are judged on, as of the interval's end."""
    from training.snapshot import Snapshot

    at = cuts(context)
    end = context.interval.end
    return Snapshot.from_tables(
        window_of_examples(context, EXAMPLE_COLUMNS),
        context.arrow("items", columns=ITEM_COLUMNS),
        context.arrow("graph_edges", **follows_before(end)),
        valid_start=micros(at.valid_start),
        test_start=micros(at.test_start),
        end=micros(at.end),
        positive_from=context.project.pipeline.features.label.threshold,
        rating_max=context.project.pipeline.features.label.rating_max,
        content=content,
    )


def window_of_examples(context: StageContext, columns: Sequence[str] | None = None) -> pa.Table:
    """The examples of the training window before the interval's end."""
    end = context.interval.end
    start = end - context.project.pipeline.features.training_window
    return context.arrow(
        "examples", columns=columns, since={"timestamp": start}, before={"timestamp": end}
    )


def follows_before(end: datetime) -> dict[str, Any]:
    """Which of the graph's edges models read: the follows that intervals up to this one added."""
    after = end + timedelta(microseconds=1)
    return {"where": {"relation": "follows"}, "before": {"interval_end": after}}


def what_was_read(context: StageContext, snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """Of each table read for a snapshot: version, rows, and newest time where its rows have one."""
    end = context.interval.end
    found: dict[str, dict[str, Any]] = {}
    for table, version in sorted(context.tables_in.items()):
        newest: int | None = None
        if table == "examples":
            rows = len(snapshot.timestamps)
            newest = int(snapshot.timestamps.max(initial=0))
        elif table == "graph_edges":
            rows = context.lake.count(table, **follows_before(end))
        elif table == "item_modalities":
            rows = context.lake.count(table, interval_end=end)
        else:
            rows = context.lake.count(table)
        at = None if newest is None else from_micros(newest).replace(second=0, microsecond=0)
        found[table] = {"version": version, "rows": rows, "newest": at and text(at)}
    return found


def micros(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
