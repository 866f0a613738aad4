"""The model card of a version: what it is, what it learnt from, how good it is, and its limits.

After Mitchell et al., Model Cards for Model Reporting (2019), in Markdown, as MLflow shows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.evaluation import LEAST_SHOWN, MetricRow, groups_of, shown

_HEADLINE = ("ndcg", "hit_rate", "recall", "novelty", "mean_popularity")
_WHOLE = ("coverage", "gini")
_REACTIONS = {
    "click_auc": "clicks: area under the ROC curve, 0.5 is chance",
    "watch_mae": "watched share: mean absolute error",
    "rating_mae": "rating, as a share of the best: mean absolute error",
}
_VERDICT, _COST = "## Verdict", "## Cost"
_SHADOW = "## Shadow"
_UNJUDGED = "The gate has not judged it yet."


@dataclass(frozen=True)
class Trial:
    """What a version was judged on."""

    digest: str
    """Name of the frozen test set."""
    users: int
    start: str
    """The test set's likes lie from here, ISO time,"""
    end: str
    """to before here."""
    k: int
    """Length of the lists that the card speaks of."""
    confidence: float
    """Of the intervals."""


@dataclass(frozen=True)
class Cost:
    """What a fit took, with all the processes it started on its machine."""

    seconds: float
    peak_memory_mb: float
    """Largest proportional memory (PSS), MiB."""
    core_hours: float | None
    """Processor time; None where it was not counted."""


@dataclass(frozen=True)
class Changes:
    """What is different from the champion's fit."""

    champion: str
    """Its version."""
    lines: Sequence[str] | None
    """See `training.changes`; None when the champion left no record."""


def model_card(
    name: str,
    summary: str,
    tags: Mapping[str, str],
    options: Mapping[str, Any],
    facts: Mapping[str, float],
    rows: Sequence[MetricRow],
    *,
    trial: Trial,
    cost: Cost | None = None,
    changes: Changes | None = None,
    shadow: str = "",
) -> str:
    """Writes a card.

    Args:
        name: The registered name with the version.
        summary: What kind of model it is, in a sentence.
        tags: Of the version, as `train` sets them; a verdict that the gate left is repeated.
        options: Of the model.
        facts: What fitting reported.
        rows: The metrics of the version on the frozen test set.
        trial: What that test set is.
        cost: Of the fit; None when unknown.
        changes: Since the champion; None when there is no other champion.
        shadow: As `shadow_of` the card before this one.
    """
    by_group = {(row.metric, row.group): row for row in rows if shown(row)}
    parts = [
        f"# {name}",
        summary,
        _VERDICT,
        tags.get("gate_reason", _UNJUDGED),
        *_since(changes),
        "## Data",
        f"Learnt from {facts.get('train_positives', 0):,.0f} likes of "
        f"{facts.get('train_users', 0):,.0f} users on {facts.get('train_items', 0):,.0f} items, "
        f"all before {tags['interval_end']} (UTC); the newest part of them was kept for validation "
        f"and test. Tables and versions: {_tables(tags['tables'])}. Seed {tags['seed']}, code "
        f"{tags['commit'] or 'of no commit'}, spec {tags['spec_hash'][:12]}.",
        "## Quality",
        *_quality(by_group, groups_of(rows), trial),
        *([_SHADOW, shadow] if shadow else []),
        _COST,
        _cost(cost),
        "## Intended use",
        "Ranks unseen items for users of this pipeline, as a source of candidates. It is not meant "
        "to judge people, nor for another catalogue or another log than the one above.",
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(by_group, groups_of(rows), facts, trial)),
        "## Options",
        _table(("option", "value"), [(key, f"`{value}`") for key, value in options.items()]),
    ]
    return "\n\n".join(part for part in parts if part)


def with_verdict(card: str, verdict: str) -> str:
    """The card with what the gate said of its version, in place of what stands there.

    Args:
        card: A card as `model_card` writes it; another text gets the verdict at its end.
        verdict: Markdown without headings.
    """
    return _with_section(card, _VERDICT, verdict)


def with_shadow(
    card: str,
    rows: Sequence[MetricRow],
    *,
    users: int,
    interval_end: str,
    champion: str | None,
    k: int,
) -> str:
    """The card with how the version's lists differ from those that are served.

    Args:
        card: A card as `model_card` writes it.
        rows: See `training.shadow.compare`.
        users: Whose lists were compared.
        interval_end: Of the interval that the lists are of, ISO time.
        champion: The version whose place it took; None where the model has no champion.
        k: The places that `rows` call the first.
    """
    by_group = {(row.metric, row.group): row for row in rows if shown(row)}
    named = {
        f"overlap@{k}": f"shared of the first {k}",
        "rank_biased_overlap": "rank-biased overlap",
        "rank_correlation": "rank correlation of shared items",
        "first_changed": "first item is another",
        f"mean_popularity_shift@{k}": "mean popularity, change",
        f"coverage_shift@{k}": "coverage, change",
        f"gini_shift@{k}": "Gini of exposure, change",
    }
    columns = ("all", *groups_of(rows))
    place = f"in place of champion version {champion}" if champion else "added: it has no champion"
    return _with_section(
        card,
        _SHADOW,
        f"Lists of {users:,} users of the interval that ends at {interval_end}, with this version "
        f"{place}, beside those that were made without it.\n\n"
        + _table(
            ("difference", *columns),
            [
                (words, *(_cell(by_group.get((metric, group))) for group in columns))
                for metric, words in named.items()
                if (metric, "all") in by_group
            ],
        ),
    )


def shadow_of(card: str) -> str:
    """What `with_shadow` wrote into a card; empty when it has not."""
    _, _, rest = card.partition(f"{_SHADOW}\n\n")
    return rest.partition("\n\n## ")[0]


def _with_section(card: str, heading: str, said: str) -> str:
    """The card with one section new; one that it lacks comes before `Cost`, else at the end."""
    before, found, rest = card.partition(f"{heading}\n\n")
    if found:
        _, following, rest = rest.partition("\n\n## ")
        return f"{before}{found}{said}{following}{rest}"
    before, found, rest = card.partition(f"{_COST}\n\n")
    if found:
        return f"{before}{heading}\n\n{said}\n\n{found}{rest}"
    return f"{card}\n\n{heading}\n\n{said}".lstrip()


def _since(changes: Changes | None) -> list[str]:
    if changes is None:
        return []
    if changes.lines is None:
        said = "Its options and data are not on record: it was registered without them."
    elif changes.lines:
        said = "\n".join(f"- {line}" for line in changes.lines)
    else:
        said = "The same options and the same data."
    return [f"## Since champion version {changes.champion}", said]


def _quality(
    by_group: Mapping[tuple[str, str], MetricRow], groups: Sequence[str], trial: Trial
) -> list[str]:
    headline, whole = (
        [f"{metric}@{trial.k}" for metric in metrics] for metrics in (_HEADLINE, _WHOLE)
    )
    parts = [
        f"On frozen test set {trial.digest[:12]}: what {trial.users:,} users liked from "
        f"{trial.start} to {trial.end} (UTC). The whole catalogue is ranked, items met before are "
        f"left out. Means, with {trial.confidence:.0%} intervals by bootstrap over users where "
        f"there are at least two; groups of fewer than {LEAST_SHOWN} users are not shown.",
        _table(
            ("metric", "all", *groups),
            [
                (metric, *(_cell(by_group.get((metric, group))) for group in ("all", *groups)))
                for metric in headline
                if (metric, "all") in by_group
            ],
        ),
        _table(
            ("of all lists", "value"),
            [
                (metric, _cell(by_group[metric, "all"]))
                for metric in whole
                if (metric, "all") in by_group
            ],
        ),
    ]
    reactions = [
        (
            words,
            _cell(by_group[metric, "all"]),
            _cell(by_group.get((f"{metric}_of_item_means", "all"))),
        )
        for metric, words in _REACTIONS.items()
        if (metric, "all") in by_group
    ]
    if reactions:
        parts += [
            "What comes of an item shown, beside what the item's own mean foretells:",
            _table(("answer", "this model", "item means"), reactions),
        ]
    return parts


def _cost(cost: Cost | None) -> str:
    if cost is None:
        return "Not on record."
    said = f"Its training took {cost.seconds:,.1f} seconds, reading the data included, and at most "
    said += f"{cost.peak_memory_mb:,.0f} MiB of memory"
    if cost.core_hours is not None:
        seconds = cost.core_hours * 3600
        said += f"; {seconds:,.1f} seconds of processors, {cost.core_hours:.3f} core-hours"
    return f"{said}."


def _limits(
    by_group: Mapping[tuple[str, str], MetricRow],
    groups: Sequence[str],
    facts: Mapping[str, float],
    trial: Trial,
) -> list[str]:
    lines = [
        "Likes are what the log holds: what was never shown could not be liked, so popular and "
        "well-placed items are favoured.",
        "Offline quality is no promise of clicks; only an experiment tells.",
    ]
    values = {
        group: row.value
        for group in groups
        if (row := by_group.get((f"ndcg@{trial.k}", group))) is not None
    }
    if len(values) > 1:
        worst, best = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        lines.append(
            f"It serves users `{worst}` worst (NDCG@{trial.k} {values[worst]:.4f}) and users "
            f"`{best}` best ({values[best]:.4f})."
        )
    unjudged = [f"`{group}`" for group in groups if group not in values]
    if unjudged:
        lines.append(
            f"Nothing is said of users {', '.join(unjudged)}: fewer than {LEAST_SHOWN} were in "
            "the test."
        )
    coverage = by_group.get((f"coverage@{trial.k}", "all"))
    if coverage is not None:
        lines.append(f"Its lists of {trial.k} reach {coverage.value:.0%} of the catalogue.")
    if "valid_ndcg@10" not in facts and "epochs" in facts:
        lines.append("No user had anything to find in the validation part: no early stopping.")
    return lines


def _cell(row: MetricRow | None) -> str:
    if row is None or row.value is None:
        return "-"
    interval = "" if row.low is None else f" [{row.low:.4f}, {row.high:.4f}]"
    return f"{row.value:.4f}{interval}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; nothing without rows."""
    if not rows:
        return ""
    head, *body = ([*map(_spaced, row)] for row in (header, *rows))
    lines = [head, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _spaced(cell: str) -> str:
    """A cell that does not touch the next one: MLflow's page leaves no room between columns."""
    return f"{cell}&emsp;"


def _tables(text: str) -> str:
    return ", ".join(f"{name} {version}" for name, version in json.loads(text).items())
