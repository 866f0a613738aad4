"""``docs/features.md``: the catalogue of features, made from their definitions."""

from __future__ import annotations


def render() -> str:
    """The text of ``docs/features.md``."""
    from transforms.catalogue import page

    text: str = page()
    return text
