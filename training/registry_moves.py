"""Who moved a champion: read from notes on the registered model, never from the alias alone.

MLflow keeps neither who set an alias nor when. The gate therefore notes a promotion on the model
before it moves the alias, and once more when all that follows from it is done. An alias that stands
on a version which neither note names was moved by a person, in MLflow's pages or by its API. What
was noted before and not after is a promotion that was cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PROMOTING = "promoting"
"""Tag of a registered model: the version that the gate is about to make champion."""

SETTLED = "settled_champion"
"""Tag of a registered model: the champion when its last move was recorded."""

HOLD = "hold"
"""Tag of a registered model whose champion a person chose: the gate leaves it alone."""

NOBODY = "none"
"""In these tags: no version."""


@dataclass(frozen=True)
class Move:
    """A champion that was moved, and what was not yet done about it."""

    name: str
    """Registered model."""
    before: str | None
    """Number of the champion before; None when there was none."""
    after: str | None
    """Number of the champion now; None when a person took the alias away."""
    by_person: bool


def move(name: str, champion: str | None, tags: Mapping[str, str]) -> Move | None:
    """What happened to a champion since its last move was recorded; None when nothing did.

    Args:
        name: Registered model.
        champion: Number of the version that has the alias now.
        tags: Of the registered model.
    """
    settled, now = tags.get(SETTLED, NOBODY), champion or NOBODY
    if settled == now:
        return None
    return Move(
        name, None if settled == NOBODY else settled, champion, by_person=tags.get(PROMOTING) != now
    )
