"""What a registered version is: its facts, its states, and what it must carry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

REQUIRED_TAGS = (
    "run_id",
    "spec_hash",
    "commit",
    "tables",
    "seed",
    "interval_end",
    "fingerprint",
)
"""Without these a version cannot be traced back to what it was made from."""

TRANSITIONS: dict[str, tuple[str, ...]] = {
    "training": ("validated",),
    "validated": ("promoted", "rejected"),
    "rejected": ("validated", "archived"),
    "promoted": ("archived",),
    "archived": (),
}
"""Next states of each state; `rejected` may be judged again under other settings."""


class RegistryError(ValueError):
    """A version cannot be registered, moved or promoted as asked."""


@dataclass(frozen=True)
class Version:
    """One registered fit."""

    name: str
    """Registered model, such as `demo.transformer`."""
    version: str
    """Its number in that model, as text."""
    mlflow_run: str
    """MLflow's id of the run that holds parameters, metrics and files."""
    source: str
    """Where the files are."""
    created_at: datetime
    tags: Mapping[str, str] = field(repr=False)

    @property
    def status(self) -> str:
        """training, validated, promoted, rejected or archived."""
        return self.tags["status"]

    @property
    def fingerprint(self) -> str:
        """Names what it was fitted from."""
        return self.tags["fingerprint"]

    @property
    def interval_end(self) -> datetime:
        """It was fitted on data before this moment."""
        return _moment(self.tags["interval_end"])


def version_of(found: Any) -> Version:
    """The version behind MLflow's record of it."""
    return Version(
        name=found.name,
        version=str(found.version),
        mlflow_run=found.run_id,
        source=found.source,
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        tags=dict(found.tags),
    )


def listing(versions: Sequence[Version]) -> str:
    """Names at most ten versions with their states, for an error text."""
    if not versions:
        return "Nothing is registered under that name."
    shown = ", ".join(f"{one.version} ({one.status})" for one in versions[:10])
    left = len(versions) - 10
    return f"There are: {shown}{f' and {left} older' if left > 0 else ''}."


def check_tags(name: str, tags: Mapping[str, str]) -> None:
    """Checks that a version can be traced back.

    Raises:
        RegistryError: A required tag is missing or cannot be read.
    """
    missing = [tag for tag in REQUIRED_TAGS if not tags.get(tag)]
    if missing:
        raise RegistryError(
            f"{name} cannot be registered without the tags {', '.join(missing)}: a version must be "
            "traceable to what it was made from."
        )
    try:
        json.loads(tags["tables"])
    except ValueError:
        raise RegistryError(
            f"{name} cannot be registered: the tag tables must be JSON of table versions, got "
            f"{tags['tables']!r}."
        ) from None
    _moment(tags["interval_end"])


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise RegistryError(
            f"interval_end must be an ISO time with its zone, such as 2026-01-06T00:00:00Z, got "
            f"{text!r}."
        )
    return moment
