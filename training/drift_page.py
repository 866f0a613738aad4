"""The page that Evidently draws of an interval, and the snapshot for its workspace."""

import html
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from training.drift_checks import Comparable
from training.drift_verdict import ColumnDrift

if TYPE_CHECKING:
    import pandas as pd

MOST_DRAWN: Final = 10
"""Columns of a page: those that drifted, then those next to it; thirty would make it 5 MB."""
LEAST_DRAWN: Final = 4
"""Columns of a page on which nothing drifted."""


def draw(
    columns: Sequence[ColumnDrift],
    compared: Sequence[Comparable],
    words: Sequence[str],
    out_dir: Path,
    at: datetime | None,
) -> None:
    """Write `drift.html`, headed by the words, and `snapshot.json`.

    Evidently computes the PSI of each drawn column anew, from the same values and against the same
    limit as the verdict.

    Args:
        columns: What was found, those that drifted first.
        compared: The values of both sides.
        words: What stands above the pictures.
        out_dir: Folder of the two files.
        at: End of the interval.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import RowCount
    from evidently.presets import DataDriftPreset

    limits = _limits(columns)
    drawn = [column for column in compared if column.name in limits]
    definition = DataDefinition(
        numerical_columns=[column.name for column in drawn if column.numeric],
        categorical_columns=[column.name for column in drawn if not column.numeric],
    )
    frames = _frames(drawn)
    metrics = [RowCount()]
    if drawn:
        metrics = [
            DataDriftPreset(
                columns=sorted(limits),
                method="psi",
                per_column_threshold=limits,
                drift_share=1.0 / len(drawn),
            )
        ]
    snapshot = Report(metrics, include_tests=bool(drawn)).run(
        Dataset.from_pandas(frames[1], definition),
        Dataset.from_pandas(frames[0], definition),
        timestamp=at,
    )
    (out_dir / "snapshot.json").write_text(snapshot.dumps(), encoding="utf-8")
    page = out_dir / "drift.html"
    if drawn:
        snapshot.save_html(str(page))
        text = page.read_text(encoding="utf-8")
    else:
        text = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Drift</title>'
            "</head><body></body></html>\n"
        )
    below = (
        f"Drawn below are {len(drawn)} of {len(columns)} columns, those that moved before others; "
        "the counts there are of these alone."
    )
    page.write_text(_headed(text, [*words, below]), encoding="utf-8")


def _limits(columns: Sequence[ColumnDrift]) -> dict[str, float]:
    """The limit of each drawn column."""
    known = [column for column in columns if column.score is not None]
    hit = [column for column in known if column.drifted or column.moved]
    count = min(max(len(hit), LEAST_DRAWN), MOST_DRAWN)
    rest = [column for column in known if column not in hit]
    return {
        column.name: column.threshold
        for column in [*hit, *rest][:count]
        if column.threshold is not None
    }


def _frames(drawn: Sequence[Comparable]) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Return reference and current frame; features and predictions may differ in length."""
    import pandas as pd

    reference = {column.name: column.reference.to_pandas() for column in drawn}
    current = {column.name: column.current.to_pandas() for column in drawn}
    return pd.DataFrame(reference), pd.DataFrame(current)


def _headed(page: str, words: Sequence[str]) -> str:
    """The page with the words right after its body begins."""
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in words)
    head = (
        '<section style="font-family: sans-serif; max-width: 60em; margin: 1.5em auto">'
        f"<h1>Drift</h1>{lines}</section>"
    )
    begin = page.index("<body")
    end = page.index(">", begin) + 1
    return page[:end] + head + page[end:]
