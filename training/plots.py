"""Pictures of an evaluation, as PNG files beside the version that they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from training.evaluation import LEAST_SHOWN, MetricRow, groups_of, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 150
_INK, _GREY, _GRID = "#222222", "#777777", "#e5e5e5"
_MAIN, _OTHER = "#0b6bcb", "#e07b00"
# Told apart by people who see few colours (Okabe & Ito 2008).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Judged:
    """One version as it was judged."""

    model: str
    version: str
    role: str
    """challenger or champion."""
    rows: Sequence[MetricRow]

    @property
    def label(self) -> str:
        """Model, version and role."""
        return f"{self.model} {self.version}, {self.role}"

    def row(self, metric: str, group: str = "all") -> MetricRow | None:
        """The row of a metric and group that may be shown; else None."""
        found = (row for row in self.rows if (row.metric, row.group) == (metric, group))
        return next(filter(shown, found), None)


def ndcg_by_group(
    version: Judged, reference: Judged | None, *, k: int, confidence: float, file: Path
) -> None:
    """Draws the NDCG@k of all users and of each group, with intervals.

    Args:
        version: Whose picture it is.
        reference: Drawn beside it; None draws it alone.
        k: Length of the lists.
        confidence: Of the intervals of the rows.
        file: PNG, replaced.
    """
    figure, axes = _figure(6.4, 3.6)
    metric, groups = f"ndcg@{k}", ("all", *groups_of(version.rows))
    both = [(version, _MAIN)] + ([(reference, _OTHER)] if reference else [])
    for number, (judged, colour) in enumerate(both):
        shift = 0.18 * (number - (len(both) - 1) / 2)
        found = [(place, judged.row(metric, group)) for place, group in enumerate(groups)]
        points = [(place + shift, row) for place, row in found if row is not None]
        ends = [[row.value if end is None else end for end in (row.low, row.high)]
                for _, row in points]  # fmt: skip
        axes.errorbar(
            [place for place, _ in points],
            [row.value for _, row in points],
            yerr=[
                [row.value - low for (_, row), (low, _) in zip(points, ends, strict=True)],
                [high - row.value for (_, row), (_, high) in zip(points, ends, strict=True)],
            ],
            fmt=_MARKERS[number],
            color=colour,
            markersize=6,
            elinewidth=1.6,
            capsize=3,
            label=judged.label,
        )
    axes.set_xticks(
        range(len(groups)), [f"{group}\n{_users(version, metric, group)}" for group in groups]
    )
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"NDCG@{k}")
    axes.grid(axis="y", color=_GRID)
    _title(axes, f"NDCG@{k} by user group, {confidence:.0%} intervals over users")
    _save(figure, file)


def coverage_against_popularity(judged: Sequence[Judged], *, k: int, file: Path) -> None:
    """Draws how much of the catalogue the lists of each model reach, by how popular they are.

    Args:
        judged: All models of one test set; challengers are filled, champions hollow.
        k: Length of the lists.
        file: PNG, replaced.
    """
    figure, axes = _figure(6.4, 3.6)
    models = list(dict.fromkeys(one.model for one in judged))
    for one in judged:
        x, y = one.row(f"mean_popularity@{k}"), one.row(f"coverage@{k}")
        if x is None or y is None:
            continue
        number = models.index(one.model) % len(_COLOURS)
        axes.plot(
            [x.value],
            [y.value],
            _MARKERS[number],
            markersize=8,
            color=_COLOURS[number],
            markerfacecolor="white" if one.role == "champion" else _COLOURS[number],
            markeredgewidth=1.6,
            label=one.label,
            clip_on=False,
        )
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set_xlabel("likes of a recommended item before the test, mean")
    axes.set_ylabel("share of the catalogue on a list")
    axes.grid(color=_GRID)
    _title(axes, f"Coverage against popularity, lists of {k}")
    _save(figure, file)


def _users(judged: Judged, metric: str, group: str) -> str:
    row = judged.row(metric, group)
    return f"under {LEAST_SHOWN} users" if row is None else f"{row.users:,} users"


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of some inches, of its own canvas: pyplot would keep it and is for one thread."""
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.tick_params(colors=_GREY, labelcolor=_INK)
    axes.set_axisbelow(True)
    return figure, axes


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11, color=_INK, pad=12)


def _save(figure: Figure, file: Path) -> None:
    (axes,) = figure.axes
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        axes.legend(handles, labels, frameon=False, labelcolor=_INK, **place)
    # Without a date or a version of the library: equal rows give equal bytes.
    figure.savefig(file, bbox_inches="tight", pad_inches=0.2, metadata={"Software": None})
