"""What of a feature table still holds, and what in the base tables is new since it was built.

The states that rows were built from are compared with the present ones file by file: a file that
both have holds the same rows in both, so the cost is that of what was rewritten. Where nothing can
be said for certain (no note, another recipe, files that are gone), all is built anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipelines.built import BEGINNING, Built, Range, State, former, joined
from pipelines.context import StageContext

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_KEYS = {
    "items": ["item_id"],
    "users": ["user_id"],
    "follows": ["follower_id", "followee_id", "since"],
}
_CANDIDATES = 3

Files = Mapping[str, Mapping[str, Any]]
"""Paths of data files, with what the log says of each."""


class UnknownChange(Exception):  # noqa: N818 - an answer, not a fault
    """It cannot be said what changed."""


@dataclass(frozen=True)
class Base:
    """An earlier snapshot that still holds, to go on from.

    Args:
        end: Its interval's end.
        frame: Its rows.
        changes: What changed since in the base tables.
    """

    end: datetime
    frame: DataFrame
    changes: Changes


class Changes:
    """What changed in the base tables between two states.

    Args:
        context: Of the stage.
        then: The older state.
        now: The newer state.
    """

    def __init__(self, context: StageContext, then: State, now: State) -> None:
        self._context = context
        self._then = then
        self._now = now
        self._frames: dict[str, tuple[DataFrame, DataFrame] | None] = {}

    def first_event(self, until: datetime) -> datetime | None:
        """The hour of the first event before a moment that changed; None when none did.

        Raises:
            UnknownChange: It cannot be said.
        """
        from pyspark.sql import functions as F

        from transforms.changes import first_changed_hour

        found = self._compare("events")
        if found is None:
            return None
        # Most new files begin later: the log says so, and none of their rows is read.
        old, new = (
            {path: row for path, row in files.items() if _begins_before(until, row)}
            for files in found
        )
        if not old and not new:
            return None
        before, after = (
            self._frame("events", files).filter(F.col("timestamp") < F.lit(until))
            for files in (old, new)
        )
        return first_changed_hour(before, after)

    def rows(self, table: str, columns: Sequence[str] | None = None) -> DataFrame | None:
        """The keys of changed rows of `items`, `users` or `follows`; None when none changed.

        Args:
            table: Its name.
            columns: Those that matter; all by default.

        Raises:
            UnknownChange: It cannot be said.
        """
        from transforms.changes import changed_rows

        found = self.difference(table)
        if found is None:
            return None
        before, after = found
        return changed_rows(before, after, _KEYS[table], columns or before.columns)

    def difference(self, table: str) -> tuple[DataFrame, DataFrame] | None:
        """The rows that only the older state may have, and only the newer one; None when equal.

        Raises:
            UnknownChange: It cannot be said.
        """
        if table not in self._frames:
            found = self._compare(table)
            self._frames[table] = found and (
                self._frame(table, found[0]),
                self._frame(table, found[1]),
            )
        return self._frames[table]

    def _compare(self, table: str) -> tuple[Files, Files] | None:
        """The files that only the older state has, and only the newer one; None for no such."""
        then, now = self._then.get(table), self._now[table]
        if then == now:
            return None
        if then is None or then[0] != now[0] or then[1] > now[1]:
            raise UnknownChange
        lake = self._context.lake
        try:
            old, new = lake.files(table, then[1]), lake.files(table, now[1])
        except (
            Exception
        ) as error:  # the log of that version is gone; the library says how variously
            raise UnknownChange from error
        only_old = {path: old[path] for path in old.keys() - new.keys()}
        only_new = {path: new[path] for path in new.keys() - old.keys()}
        return (only_old, only_new) if only_old or only_new else None

    def _frame(self, table: str, files: Files) -> DataFrame:
        from pyspark.errors import AnalysisException

        from transforms.io import read_files

        context = self._context
        paths = [f"{context.lake.path(table)}/{file}" for file in sorted(files)]
        try:
            return read_files(context.spark, paths, context.read(table).schema)
        except AnalysisException as error:  # removed by VACUUM
            raise UnknownChange from error


def _begins_before(moment: datetime, file: Mapping[str, Any]) -> bool:
    first: datetime | None = file.get("min.timestamp")
    return first is None or first.replace(tzinfo=UTC) < moment


class Plan:
    """What one run of a feature stage may take over from earlier runs.

    Args:
        context: Of the stage.
        table: The table that it fills.
        recipe: See `pipelines.built.recipe`.
    """

    def __init__(self, context: StageContext, table: str, recipe: str) -> None:
        self._context = context
        self._table = table
        self._recipe = recipe

    @cached_property
    def now(self) -> State:
        """The present states of the tables that the step reads."""
        found = {}
        for table in self._context.step.reads:
            opened = self._context.lake.delta(table)
            if opened is not None:
                found[table] = (str(opened.metadata().id), opened.version())
        return found

    def ranges(self, *, items: Sequence[str] | None = None) -> tuple[Range, ...]:
        """The time ranges of a table of events that still hold.

        Args:
            items: The columns of `items` that matter; all by default.
        """
        newest = next(former(self._context.lake, self._table), None)
        if newest is None or newest.recipe != self._recipe or not newest.ranges:
            return ()
        until = max(end for _, end in newest.ranges)
        try:
            changes = Changes(self._context, newest.tables, self.now)
            limit = self._first_touched(changes, until, items)
        except UnknownChange:
            return ()
        return tuple((start, min(end, limit)) for start, end in newest.ranges if start < limit)

    def base(self, until: datetime | None = None) -> Base | None:
        """The newest snapshot that still holds, of this interval or an earlier one.

        Args:
            until: End of the last interval that may be taken; this one's by default.
        """
        from pyspark.sql import functions as F

        until = until or self._context.interval.end
        seen: dict[datetime, Built] = {}
        for built in former(self._context.lake, self._table):
            if built.interval_end is not None and built.interval_end <= until:
                seen.setdefault(built.interval_end, built)
        good = [built for _, built in sorted(seen.items()) if built.recipe == self._recipe]
        for built in good[: -_CANDIDATES - 1 : -1]:
            assert built.interval_end is not None
            changes = Changes(self._context, built.tables, self.now)
            try:
                for table in built.tables.keys() & self.now.keys() & _KEYS.keys():
                    changes.difference(table)
                holds = (
                    "events" not in built.tables or changes.first_event(built.interval_end) is None
                )
            except UnknownChange:
                continue
            if holds:
                rows = self._context.lake.spark(self._context.spark, self._table)
                mine = rows.filter(F.col("interval_end") == F.lit(built.interval_end))
                return Base(built.interval_end, mine, changes)
        return None

    def write_interval(self, rows: DataFrame) -> None:
        """Replace the interval of a table of snapshots; its end stands in `as_of` or is there."""
        context = self._context
        if "as_of" in rows.columns:
            rows = rows.withColumnRenamed("as_of", "interval_end")
        built = Built(self._recipe, self.now, interval_end=context.interval.end)
        context.tables_out[self._table] = context.lake.replace_interval(
            self._table, rows, context.interval.end, {**context.note, **built.note()}
        )

    def write_range(self, rows: DataFrame, built: Range, held: Sequence[Range]) -> None:
        """Replace a time range of examples; where none holds, the whole table.

        The new range does not count before `claim`: rows that break a contract, or that a killed
        run left unchecked, are made anew.
        """
        context = self._context
        note = {**context.note, **Built(self._recipe, self.now, joined(held)).note()}
        context.tables_out[self._table] = (
            context.lake.replace_range(self._table, rows, "timestamp", *built, note)
            if held
            else context.lake.replace_all(self._table, rows, note)
        )

    def write_edges(self, rows: DataFrame, since: datetime, held: Sequence[Range]) -> None:
        """Replace what came to the graph after a moment, and the interval's similar items.

        As with `write_range` the new range does not count before `claim`.
        """
        context = self._context
        note = {**context.note, **Built(self._recipe, self.now, joined(held)).note()}
        context.tables_out[self._table] = context.lake.replace_edges(
            rows, since, context.interval.end, note
        )

    def claim(self, held: Sequence[Range]) -> None:
        """Say which time ranges of a table of events hold."""
        context = self._context
        note = {**context.note, **Built(self._recipe, self.now, joined(held)).note()}
        context.tables_out[self._table] = context.lake.remark(self._table, note)

    def _first_touched(
        self, changes: Changes, until: datetime, item_columns: Sequence[str] | None
    ) -> datetime:
        """Before this moment no row has changed."""
        from transforms.changes import first_event_of, first_since

        moments = [changes.first_event(until)]
        users = changes.rows("users") if "users" in self.now else None
        items = changes.rows("items", item_columns)
        # Looked at several times.
        users, items = (None if one is None else one.localCheckpoint() for one in (users, items))
        if users is not None or items is not None:
            read = self._context.read
            moments.append(first_event_of(read("events"), read("items"), users, items))
        follows = changes.rows("follows")
        if follows is not None:
            moments.append(first_since(follows, BEGINNING))
        return min((moment for moment in moments if moment is not None), default=until)
