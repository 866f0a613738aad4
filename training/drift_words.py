"""A drift verdict in words: what changed from what to what, and what the data tell of the cause."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.drift_checks import Comparable
from training.drift_columns import Slot

_ITEM: Final = "item_id"
_LOST: Final = 0.2
"""A label with less than this share of its usual rows is lost."""
_KNOWN: Final = 0.03
"""Share of the rows from which a label's loss is worth a word."""
_BURST: Final = 3.0
"""Times its usual share that the top item takes in a burst."""
_LEAST_BURST: Final = 0.05
_MOST: Final = 3


def change_of(column: Comparable) -> str:
    """From what to what: the mean of numbers, or the label whose share changed most."""
    if column.numeric:
        before, after = (pc.mean(side).as_py() for side in (column.reference, column.current))
        if before is None or after is None:
            return ""
        return f"mean {_number(before)} -> {_number(after)}"
    shares = [_shares(column.reference), _shares(column.current)]
    labels = sorted({*shares[0], *shares[1]})
    if not all(shares):
        return ""
    label = max(labels, key=lambda name: abs(shares[1].get(name, 0.0) - shares[0].get(name, 0.0)))
    before, after = (side.get(label, 0.0) for side in shares)
    return f"{label} {before:.0%} -> {after:.0%}"


def rows_change(slot: Slot) -> str:
    """The usual number of rows, and that of the interval."""
    usual = slot.usual_rows
    return "" if usual is None else f"{usual:,.0f} usual -> {slot.counts_D[0]:,}"


def causes_of(slot: Slot, columns: Sequence[Comparable], drifted: frozenset[str]) -> list[str]:
    """What the data tell of the reason why columns drifted, the most likely first.

    Args:
        slot: The interval and its past.
        columns: All columns that were compared.
        drifted: Names of those that drifted, and `rows` where their number did.
    """
    if not drifted:
        return []
    found = [*_fewer_rows(slot, columns), *_new_labels(columns, drifted), *_burst(slot)]
    return found[:_MOST]


def _fewer_rows(slot: Slot, columns: Sequence[Comparable]) -> list[str]:
    """A source that is missing or sends less than usual."""
    usual, now = slot.usual_rows, int(slot.counts_D[0])
    if not usual:
        return []
    found = []
    for column in columns:
        if column.numeric:
            continue
        before, after = _shares(column.reference), _shares(column.current)
        for label, share in before.items():
            rows = after.get(label, 0.0) * now
            if share >= _KNOWN and rows < _LOST * share * usual:
                found.append(
                    f"{rows:,.0f} rows with {column.name} {label}, {share * usual:,.0f} are usual: "
                    "a source of them may be missing"
                )
    if not found and now < usual / 2:
        found.append(f"{now:,} rows, {usual:,.0f} are usual: a source may be missing")
    return found


def _new_labels(columns: Sequence[Comparable], drifted: frozenset[str]) -> list[str]:
    found = []
    for column in columns:
        if column.numeric or column.name not in drifted:
            continue
        before, after = _shares(column.reference), _shares(column.current)
        found += [
            f"new category of {column.name}: {label}, {share:.0%} of the rows"
            for label, share in sorted(after.items(), key=lambda pair: -pair[1])
            if label not in before
        ]
    return found


def _burst(slot: Slot) -> list[str]:
    """One item that takes many more of the rows than the top item usually does."""
    if _ITEM not in slot.rows.column_names or not slot.counts_D[0]:
        return []
    tops = []
    for day in range(1 + slot.reference_days):
        items = slot.rows[_ITEM].filter(pa.array(slot.day_R == day))
        if len(items):
            tops.append(max(_shares(items).items(), key=lambda pair: pair[1]))
    if len(tops) < 2:
        return []
    (item, share), usual = tops[0], float(np.median([share for _, share in tops[1:]]))
    if share < max(_LEAST_BURST, _BURST * usual):
        return []
    return [f"one item, {item}, takes {share:.0%} of the rows; the top item usually {usual:.0%}"]


def _shares(labels: pa.Array | pa.ChunkedArray) -> dict[str, float]:
    counts = pc.value_counts(labels.drop_null())
    total = max(len(labels) - labels.null_count, 1)
    return {row["values"]: row["counts"] / total for row in counts.to_pylist()}


def _number(value: float) -> str:
    """Three digits are enough to see a change."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
