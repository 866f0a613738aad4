"""What the commits of a feature table say they hold, so that a later run builds only the rest.

A commit notes which recipe (options and code) made its rows, and from which states of the base
tables. The note is part of the commit: there are no rows without it, and no note without its rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines.digests import code_digest, digest
from pipelines.graph import STATE_ROWS, Step
from pipelines.lake import Lake

BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)
"""Before all moments that an interval can name."""

State = Mapping[str, tuple[str, int]]
"""Id and version of each base table."""

Range = tuple[datetime, datetime]
"""`[start, end)`."""

_HARMLESS = {"OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES"}
_DROPPED = re.compile(r"interval_end < .*?(\d{4}-\d\d-\d\d[T ][\d:.]+)")
_COMMITS_BACK = 500


@dataclass(frozen=True)
class Built:
    """What one commit says of the rows it wrote.

    Args:
        recipe: Digest of the options and the code that made them.
        tables: The states of the base tables that they were made from.
        ranges: The time ranges that a table of events holds whole.
        interval_end: The interval of a table of snapshots.
    """

    recipe: str
    tables: State
    ranges: tuple[Range, ...] = ()
    interval_end: datetime | None = None

    def note(self) -> dict[str, Any]:
        """The note for the commit."""
        end = self.interval_end
        return {
            "built": {
                "recipe": self.recipe,
                "tables": {name: list(state) for name, state in self.tables.items()},
                "ranges": [[a.isoformat(), b.isoformat()] for a, b in self.ranges],
                "interval_end": None if end is None else end.isoformat(),
            }
        }


def recipe(step: Step, *, without: Sequence[str] = ()) -> str:
    """Digest of a step's code and options, save those features' options that change no row."""
    options = json.loads(json.dumps(dict(step.options), default=str))
    for name in without:
        options["features"].pop(name)
    return digest([options, [code_digest(package) for package in step.code]])


def former(lake: Lake, table: str) -> Iterator[Built]:
    """What the commits of a table say, newest first, as far back as they account for all rows."""
    opened = lake.delta(table)
    if opened is None:
        return
    kept_from = BEGINNING
    for commit in opened.history(_COMMITS_BACK):
        note = json.loads(commit.get("userMetadata") or "{}").get("built")
        if note is not None:
            end = None if note["interval_end"] is None else _moment(note["interval_end"])
            ranges = [(_moment(a), _moment(b)) for a, b in note["ranges"]]
            if end is None or end >= kept_from:
                yield Built(
                    note["recipe"],
                    {name: (state[0], state[1]) for name, state in note["tables"].items()},
                    tuple((max(a, kept_from), b) for a, b in ranges if b > kept_from),
                    end,
                )
        elif commit["operation"] == "DELETE":
            predicate = commit["operationParameters"].get("predicate", "")
            states = STATE_ROWS.get(table, {})
            if any(f"{column} = '{value}'" in predicate for column, value in states.items()):
                continue  # the ranges are held whole without them
            dropped = _DROPPED.search(predicate)
            if dropped is None:
                return
            kept_from = max(kept_from, _moment(dropped[1]))
        elif commit["operation"] not in _HARMLESS:
            return


def holds(lake: Lake, table: str, made_by: str, window: Range) -> bool:
    """Whether a table of events holds a window whole, all of it made by one recipe."""
    newest = next(former(lake, table), None)
    return newest is not None and newest.recipe == made_by and not missing(window, newest.ranges)


def missing(window: Range, held: Sequence[Range]) -> list[Range]:
    """The parts of a window that lie in none of the ranges, in order."""
    gaps = []
    start, end = window
    for a, b in sorted(held):
        if start < a:
            gaps.append((start, min(a, end)))
        start = max(start, b)
        if start >= end:
            return gaps
    return [*gaps, (start, end)]


def joined(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """The same moments as ranges that neither overlap nor touch."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return tuple(found)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
