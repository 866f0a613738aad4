"""What became different between two fits of a model, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_LONGEST = 60
"""Characters of a value that is written out."""


def changes(
    before: Mapping[str, Any], now: Mapping[str, Any], data_before: Any, data: Any
) -> list[str]:
    """The differences of two fits, a line each; those of the spec first.

    Args:
        before: What the earlier fit depended on: `options` of the model, and other settings.
        now: The same of the later fit.
        data_before: Table -> version, rows and newest, an ISO time or None, of the earlier fit.
        data: The same of the later fit.
    """
    return [*_settings(before, now), *_tables(data_before, data)]


def _settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    old, new = (dict(_leaves("", one)) for one in (before, now))
    for key in dict.fromkeys([*new, *old]):
        name = key.removeprefix("options.")
        if key not in old:
            yield f"{name} is new: {_text(new[key])}"
        elif key not in new:
            yield f"{name} is gone, it was {_text(old[key])}"
        elif old[key] != new[key]:
            yield f"{name} {_text(old[key])} -> {_text(new[key])}"


def _leaves(prefix: str, value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each value that is no mapping, by its path."""
    for key, one in value.items():
        if isinstance(one, Mapping):
            yield from _leaves(f"{prefix}{key}.", one)
        else:
            yield f"{prefix}{key}", one


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _tables(
    before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    for table in sorted({*before, *now}):
        if table not in before:
            yield f"{table}: not read before, {now[table]['rows']:,} rows"
        elif table not in now:
            yield f"{table}: no longer read"
        elif before[table] != now[table]:
            yield f"{table}: {_rows(before[table], now[table])}"


def _rows(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    more = now["rows"] - before["rows"]
    if more:
        said = f"{abs(more):,} {'more' if more > 0 else 'fewer'} rows"
    else:
        said = f"as many rows, written anew (version {before['version']} -> {now['version']})"
    return said if now["newest"] is None else f"{said}, newest {now['newest']}"
