"""Every feature in one place: what `docs/features.md` is made from.

The definitions stand beside the functions that compute the columns; types come from
`transforms.schemas`. Columns of `examples` that are a feature of the user or the item as of the
event are named after it, `user_` or `item_` in front, and have its definition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from transforms import behaviour, item_features, modalities, pair_features, user_features
from transforms.definitions import Feature
from transforms.schemas import column_types

KEYS = frozenset({"user_id", "item_id", "interval_end", "event_id", "timestamp", "split"})
"""Columns that say whose row it is, of which moment; they are no features."""

_EVENT = "the event"

EXAMPLES: tuple[Feature, ...] = (
    Feature("event_type", "Type of the strongest event of the moment.", "-", ("DE-19",), _EVENT),
    Feature("strength", "How strong a sign of liking it is, by `features.label.strengths`.",
            "0 to 1", ("DE-19",), _EVENT),
    Feature("label", "1 or 0, or the strength itself, by `features.label`.", "0 to 1",
            ("DE-19", "DE-20"), _EVENT),
    Feature("watch_share", "Watched share of the item; null where not known. A target, no input.",
            "share", ("DE-03",), _EVENT),
    Feature("rating", "Best rating given; null without one. A target, no input.", "as rated",
            ("DE-04",), _EVENT),
    *(
        Feature(f"{part}_{short}", f"{function} of the {what} (UTC) on a circle.", "-1 to 1",
                ("FE-38",), _EVENT)
        for part, what in (("hour", "time of day"), ("weekday", "day of the week"))
        for short, function in (("sin", "Sine"), ("cos", "Cosine"))
    ),
    Feature("device", "Kind of device, or `unknown`.", "-", ("FE-38",), _EVENT),
    Feature("location", "Place, or `unknown`.", "-", ("FE-38",), _EVENT),
    Feature("position", "Place in the list that was shown; null when unknown.", "from 1",
            ("FE-38",), _EVENT),
    *pair_features.PAIR_FEATURES,
)  # fmt: skip

SEQUENCES: tuple[Feature, ...] = tuple(
    Feature(name, f"{what} of the user's last interactions, in order of time.", unit, ("FE-39",))
    for name, what, unit in (
        ("item_ids", "Items", "-"),
        ("event_types", "Types", "-"),
        ("timestamps", "Moments", "UTC"),
        ("watch_shares", "Watched shares", "share"),
        ("strengths", "Strengths", "0 to 1"),
    )
)

GRAPH_EDGES: tuple[Feature, ...] = (
    Feature("source", "Node the edge leaves, `u:` or `i:` and the id.", "-", ("FE-52", "FE-54")),
    Feature("target", "Node it reaches.", "-", ("FE-52", "FE-54")),
    Feature("relation", "`follows`, `interacts` or `similar`.", "-", ("FE-51", "FE-52", "FE-53")),
    Feature("weight", "1 for a follow; what the interval's interactions add, summed strengths that "
            "fade with age; cosine similarity.", "0 and more", ("FE-52", "FE-53")),
    Feature("since", "When a follow began; none when it was always there, or of other edges.",
            "UTC", ("FE-51",)),
)  # fmt: skip

TABLES: dict[str, tuple[Feature, ...]] = {
    "user_features": user_features.FEATURES,
    "item_features": item_features.FEATURES,
    "user_behaviour": behaviour.USER_BEHAVIOUR,
    "item_engagement": behaviour.ITEM_ENGAGEMENT,
    "item_modalities": modalities.MODALITIES,
    "examples": EXAMPLES,
    "sequences": SEQUENCES,
    "graph_edges": GRAPH_EDGES,
}
"""Definitions by the table that holds the columns."""

ALIASES: dict[str, str] = {
    "user_age": "user_account_age_days",
    "user_activity_level": "user_activity_level",
    "content_engagement_rate": "item_engagement_rate",
    "hashtag_similarity": "hashtag_similarity",
    "social_connections": "user_social_connectivity",
    "content_recency": "item_item_age_hours",
    "author_trust_score": "item_author_trust_score",
}
"""Names that explanations use, and the column of `examples` that each stands for (FE-50)."""


@dataclass(frozen=True)
class Entry:
    """A column of a table with its definition."""

    table: str
    column: str
    type: str
    feature: Feature


class CatalogueError(LookupError):
    """A column has no definition, or a definition no column."""


def entries() -> Iterator[Entry]:
    """Yields every column of the feature tables, in their order.

    Raises:
        CatalogueError: A column is not defined, or a definition belongs to no column.
    """
    for table, features in TABLES.items():
        types = column_types(table)
        defined = {feature.name: feature for feature in features}
        if table == "examples":
            defined |= _of_owners(types)
        orphans = [name for name in defined if name not in types]
        if orphans:
            raise CatalogueError(
                f"Table {table} has no column {', '.join(orphans)}, which is defined. Add it to "
                "transforms/schemas.py or drop the definition."
            )
        for column, kind in types.items():
            if column in KEYS:
                continue
            if column not in defined:
                raise CatalogueError(
                    f"Column {column} of table {table} is not defined. Add a Feature beside the "
                    "function that computes it."
                )
            yield Entry(table, column, kind, defined[column])


def resolve(name: str) -> str:
    """Returns the column of `examples` that a name of an explanation stands for.

    Raises:
        KeyError: No such name.
    """
    return ALIASES[name]


def _of_owners(types: dict[str, str]) -> dict[str, Feature]:
    owned = {}
    for owner in ("user", "item"):
        for feature in TABLES[f"{owner}_features"]:
            column = f"{owner}_{feature.name}"
            if column in types:
                owned[column] = Feature(
                    column,
                    f"`{owner}_features.{feature.name}` as of the event.",
                    feature.unit,
                    feature.requirements,
                    feature.as_of,
                )
    return owned


_TITLES = {
    "user_features": "What is known of a user",
    "item_features": "What is known of an item",
    "user_behaviour": "What a user did",
    "item_engagement": "What was done with an item",
    "item_modalities": "Which vectors of an item can be used",
    "examples": "Columns of training examples",
    "sequences": "Histories",
    "graph_edges": "Edges of the graph",
}

_HEAD = """\
<!-- Made by `sextant render features` from the definitions in transforms/; edit those. -->

# Features

Each column of the feature tables, defined once, in the code beside the function that computes it.
The last column but one says which rows bear on a value: `as_of` is the interval's end in a table
and the moment of the event in an example, and `before` is strictly earlier, so that an event sees
neither itself nor what happened with it. `static` columns have no time: `sextant probe` finds those
that know the future. `[as_of - history, as_of)` is the window of `features.history`. Sums without
rows are 0.

"""


def page() -> str:
    """Returns `docs/features.md`."""
    parts = [_HEAD]
    found = list(entries())
    for table in TABLES:
        parts.append(f"## {table}: {_TITLES[table].lower()}\n\n")
        parts.append("| column | type | unit | what it says | rows | requirement |\n")
        parts.append("| --- | --- | --- | --- | --- | --- |\n")
        for entry in found:
            if entry.table == table:
                one = entry.feature
                parts.append(
                    f"| `{entry.column}` | {entry.type.replace('<', '&lt;')} | {one.unit} | "
                    f"{one.description} | {one.as_of} | {', '.join(one.requirements)} |\n"
                )
        parts.append("\n")
    parts.append("## Names in explanations\n\n| name | column of `examples` |\n| --- | --- |\n")
    parts += [f"| `{name}` | `{column}` |\n" for name, column in ALIASES.items()]
    return "".join(parts)
