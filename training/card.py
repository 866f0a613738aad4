"""The model card of a version: what it is, what it learnt from, how good it is, and its limits.

After Mitchell et al., Model Cards for Model Reporting (2019), in Markdown, as MLflow shows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from training.evaluation import GROUPS, MetricRow

_HEADLINE = ("ndcg@10", "hit_rate@10", "recall@10", "novelty@10", "mean_popularity@10")
_WHOLE = ("coverage@10", "gini@10")
_REACTIONS = {
    "click_auc": "clicks: area under the ROC curve, 0.5 is chance",
    "watch_mae": "watched share: mean absolute error",
    "rating_mae": "rating, as a share of the best: mean absolute error",
}


def model_card(
    name: str,
    summary: str,
    tags: Mapping[str, str],
    options: Mapping[str, Any],
    facts: Mapping[str, float],
    rows: Sequence[MetricRow],
) -> str:
    """Writes a card.

    Args:
        name: The registered name with the version.
        summary: What kind of model it is, in a sentence.
        tags: Of the version, as `train` sets them.
        options: Of the model.
        facts: What fitting reported.
        rows: The metrics of the version on the frozen test set.
    """
    by_group = {(row.metric, row.group): row for row in rows}
    judged = by_group.get(("ndcg@10", "all"))
    parts = [
        f"# {name}",
        summary,
        "## Data",
        f"Learnt from {facts.get('train_positives', 0):,.0f} likes of "
        f"{facts.get('train_users', 0):,.0f} users on {facts.get('train_items', 0):,.0f} items, "
        f"all before {tags['interval_end']} (UTC); the newest part of them was kept for validation "
        f"and test. Tables and versions: {_tables(tags['tables'])}. Seed {tags['seed']}, code "
        f"{tags['commit'] or 'of no commit'}, spec {tags['spec_hash'][:12]}.",
        "## Quality",
        f"On a frozen test set of {judged.users if judged else 0:,} users: the whole catalogue is "
        "ranked, items met before are left out. Means, with 95 % intervals by bootstrap over users "
        "where there are at least two.",
        _table(
            ("metric", "all", *GROUPS),
            [
                (metric, *(_cell(by_group.get((metric, group))) for group in ("all", *GROUPS)))
                for metric in _HEADLINE
                if (metric, "all") in by_group
            ],
        ),
        _table(
            ("of all lists", "value"),
            [
                (metric, _cell(by_group[metric, "all"]))
                for metric in _WHOLE
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
    parts += [
        "## Intended use",
        "Ranks unseen items for users of this pipeline, as a source of candidates. It is not meant "
        "to judge people, nor for another catalogue or another log than the one above.",
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(by_group, facts)),
        "## Options",
        _table(("option", "value"), [(key, f"`{value}`") for key, value in options.items()]),
    ]
    return "\n\n".join(part for part in parts if part)


def _limits(by_group: Mapping[tuple[str, str], MetricRow], facts: Mapping[str, float]) -> list[str]:
    lines = [
        "Likes are what the log holds: what was never shown could not be liked, so popular and "
        "well-placed items are favoured.",
        "Offline quality is no promise of clicks; only an experiment tells.",
    ]
    values = {
        group: row.value
        for group in GROUPS
        if (row := by_group.get(("ndcg@10", group))) is not None and row.value is not None
    }
    if len(values) > 1:
        worst, best = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        lines.append(
            f"It serves {worst} users worst (NDCG@10 {values[worst]:.4f}) and {best} users best "
            f"({values[best]:.4f})."
        )
    unjudged = [group for group in GROUPS if group not in values]
    if unjudged:
        lines.append(f"Nobody judged it for {' and '.join(unjudged)} users: none was in the test.")
    coverage = by_group.get(("coverage@10", "all"))
    if coverage is not None and coverage.value is not None:
        lines.append(f"Its lists of ten reach {coverage.value:.0%} of the catalogue.")
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
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _tables(text: str) -> str:
    return ", ".join(f"{name} {version}" for name, version in json.loads(text).items())
