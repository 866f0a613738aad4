"""What a feature is: the one definition of each, beside the function that computes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Feature:
    """One column of a table of features."""

    name: str
    """The column."""
    description: str
    """What it says, with its value where nothing is known."""
    unit: str
    """Such as `s`, `days` or `share`; `-` for names, texts and truth values."""
    requirements: tuple[str, ...] = ()
    """Ids of the requirements that it meets."""
    as_of: str = "before as_of"
    """Which rows bear on it: `before as_of`, `[as_of - history, as_of)`, or `static` for what has
    no time."""
