"""Whether two engines wrote the same table: same keys, equal values, floats within 1e-9."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

KEYS = {
    "user_features": ("user_id",),
    "item_features": ("item_id",),
    "examples": ("user_id", "item_id", "timestamp"),
}
RELATIVE = 1e-9
ABSOLUTE = 1e-12
"""For what should be zero, such as the sine of half a turn."""


@dataclass(frozen=True)
class Verdict:
    """What a comparison found."""

    rows: int
    differing: dict[str, int]
    """Rows by column whose values differ; empty when the tables are equal."""
    worst: float
    """Greatest relative difference of two floats."""


def compare(table: str, left: str, right: str, *, memory_gb: int, spill: str) -> Verdict:
    """Compare two Parquet files or folders row by row.

    Raises:
        ValueError: the columns are not the same, or a key stands in only one of the tables.
    """
    con = duckdb.connect()
    con.execute(f"SET memory_limit = '{memory_gb}GB'; SET temp_directory = '{spill}'")
    con.execute("SET threads = 2; SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
    types = []
    for name, path in (("l", left), ("r", right)):
        con.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{path}')")
        rows = con.execute(f"DESCRIBE {name}").fetchall()
        types.append({column: kind for column, kind, *_ in rows})
    if set(types[0]) != set(types[1]):
        raise ValueError(f"{table}: columns differ: {sorted(set(types[0]) ^ set(types[1]))}")
    keys = KEYS[table]
    differs, worst = [], ["0.0"]
    for column in types[0]:
        if column in keys:
            continue
        a, b = f"l.{column}", f"r.{column}"
        kinds = types[0][column], types[1][column]
        if "DOUBLE" in kinds:
            gap = f"abs({a} - {b})"
            far = f"{gap} > {RELATIVE} * greatest(abs({a}), abs({b})) + {ABSOLUTE}"
            different = f"(({a} IS NULL) != ({b} IS NULL) OR coalesce({far}, false))"
            scale = f"greatest(abs({a}), abs({b}))"
            worst.append(f"max(CASE WHEN {gap} > {ABSOLUTE} THEN {gap} / {scale} ELSE 0 END)")
        elif any("DOUBLE" in kind for kind in kinds):
            x, y = _sorted_entries(a, kinds[0]), _sorted_entries(b, kinds[1])
            texts, numbers = (
                [f"list_transform({side}, lambda e: e.{part})" for side in (x, y)]
                for part in ("key", "value")
            )
            gaps = f"list_transform(list_zip({numbers[0]}, {numbers[1]}), lambda p: abs(p[1]-p[2]))"
            different = (
                f"({texts[0]} IS DISTINCT FROM {texts[1]} OR "
                f"coalesce(list_max({gaps}), 0) > {RELATIVE})"
            )
        else:
            different = f"({a} IS DISTINCT FROM {b})"
        differs.append(f"count_if({different}) AS {column}")
    on = " AND ".join(f"l.{key} = r.{key}" for key in keys)
    found = con.execute(
        f"SELECT count(*), count_if(l.{keys[0]} IS NULL OR r.{keys[0]} IS NULL), "
        f"greatest({', '.join(worst)}), {', '.join(differs)} FROM l FULL JOIN r ON {on}"
    ).fetchall()[0]
    total, lonely, gap, *counts = found
    if lonely:
        raise ValueError(f"{table}: {lonely:,} of {total:,} keys stand in one table only.")
    columns = [column for column in types[0] if column not in keys]
    differing = {column: n for column, n in zip(columns, counts, strict=True) if n}
    return Verdict(total, differing, float(gap or 0.0))


def _sorted_entries(column: str, kind: str) -> str:
    return f"list_sort({f'map_entries({column})' if kind.startswith('MAP') else column})"
