"""What changed in the columns and types of a source since they were last seen.

Six kinds: a column was added, dropped or renamed, its type was widened, narrowed, or replaced by
one that holds something else. A rename is a suspicion: one column went, and one of the same type
and a similar name, or at the same place, came.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from pyspark.sql import DataFrame

from transforms.contract_model import Contract, OnFail
from transforms.contract_report import Finding

KindOfChange = Literal["added", "dropped", "renamed", "widened", "narrowed", "retyped"]

# Each type holds every value of those before it in its chain.
_CHAINS = (
    ("tinyint", "smallint", "int", "bigint", "decimal(20,0)"),
    ("tinyint", "smallint", "int", "double"),
    ("tinyint", "smallint", "float", "double"),
    ("date", "timestamp"),
)
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_ALIKE = 0.6


@dataclass(frozen=True)
class Change:
    """One difference between two schemas of a source."""

    kind: KindOfChange
    column: str
    """Its name before; for an added column its name now."""
    before: str
    """Its type before; for a rename its old name. Empty when it was not there."""
    now: str
    """Its type now; for a rename its new name. Empty when it is not there."""

    @property
    def text(self) -> str:
        """The change in words."""
        match self.kind:
            case "added":
                return f"column {self.column} ({self.now}) is new"
            case "dropped":
                return f"column {self.column} ({self.before}) is gone"
            case "renamed":
                return f"column {self.before} is gone and {self.now} came, most likely a new name"
            case _:
                return f"column {self.column} was {self.before} and is now {self.now}"


def schema_of(frame: DataFrame) -> dict[str, str]:
    """The columns of a frame with their types as Spark writes them, in their order."""
    return {field.name: field.dataType.simpleString() for field in frame.schema.fields}


def schema_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[Change]:
    """Compares two schemas of one source.

    Args:
        before: Type by column as they were, in their order; see `schema_of`.
        now: The same now.

    Returns:
        The changes: of columns that were there in their order, then the added ones. Another order
        of the same columns is no change.
    """
    changes = []
    added = [name for name in now if name not in before]
    for place, (name, dtype) in enumerate(before.items()):
        if name in now:
            if now[name] != dtype:
                changes.append(Change(_type_change(dtype, now[name]), name, dtype, now[name]))
            continue
        heir = _heir(name, dtype, place, added, now)
        if heir is None:
            changes.append(Change("dropped", name, dtype, ""))
        else:
            added.remove(heir)
            changes.append(Change("renamed", name, name, heir))
    return changes + [Change("added", name, "", now[name]) for name in added]


def schema_findings(
    contract: Contract,
    source: str,
    before: Mapping[str, str],
    now: Mapping[str, str],
    used: Collection[str] | None = None,
) -> list[Finding]:
    """Judges the changes of a source by the rule `source_schema` of its table's contract.

    Args:
        contract: The contract; without such a rule nothing is found.
        source: The source in words, such as its path.
        before: Type by column at the last validation; empty when there was none.
        now: Type by column now.
        used: The source's columns that the mapping reads; what happens to others only warns. All
            count when it is None.

    Returns:
        One finding for each consequence, those that block first.
    """
    rules = [rule for rule in contract.rules if rule.name == "source_schema"]
    if not rules or not before:
        return []
    rule = rules[0]
    by_consequence: dict[str, list[Change]] = {}
    for change in schema_changes(before, now):
        consequence = {
            "added": rule.args.get("added", "warn"),
            "widened": rule.args.get("widened", "warn"),
        }.get(change.kind, rule.on_fail)
        if consequence == "block" and used is not None and change.column not in used:
            consequence = "block" if change.kind == "added" else "warn"
        by_consequence.setdefault(consequence, []).append(change)
    consequences: tuple[OnFail, ...] = ("block", "warn")
    return [
        Finding(
            rule.name,
            "+".join(change.column for change in by_consequence[one]),
            one,
            0,
            0.0,
            (),
            f"{source}: {_listed(by_consequence[one])}. {_CURES[one]}",
        )
        for one in consequences
        if one in by_consequence
    ]


_CURES = {
    "block": "Nothing was read from it. Bring the source back to what it was, or change the "
    "mapping's `columns`; a changed mapping begins anew.",
    "warn": "The mapping still reads what it read before.",
}


def _listed(changes: Sequence[Change]) -> str:
    return "; ".join(change.text for change in changes)


def _heir(
    name: str, dtype: str, place: int, added: Iterable[str], now: Mapping[str, str]
) -> str | None:
    """The new column that a column which is gone most likely became."""
    names = list(now)
    fitting = [new for new in added if now[new] == dtype]
    alike = {new: SequenceMatcher(None, _plain(name), _plain(new)).ratio() for new in fitting}
    best = max(fitting, key=alike.__getitem__, default=None)
    if best is not None and alike[best] >= _ALIKE:
        return best
    return next((new for new in fitting if names.index(new) == place), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _type_change(before: str, now: str) -> KindOfChange:
    if _holds(now, before):
        return "widened"
    return "narrowed" if _holds(before, now) else "retyped"


def _holds(wide: str, narrow: str) -> bool:
    """Whether every value of one type fits another."""
    if wide.startswith("array<") and narrow.startswith("array<"):
        return _holds(wide[6:-1], narrow[6:-1])
    one, two = _DECIMAL.fullmatch(wide), _DECIMAL.fullmatch(narrow)
    if one and two:
        whole = int(one[1]) - int(one[2]) >= int(two[1]) - int(two[2])
        return whole and int(one[2]) >= int(two[2])
    return wide == narrow or any(
        wide in chain and narrow in chain and chain.index(narrow) < chain.index(wide)
        for chain in _CHAINS
    )
