"""A change of taste that leaves the totals alone: found by holding each person against their past.

Shapes: U users, I rows of one interval.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from drift_world import AT, report_of

from training.drift import DriftThresholds, judge_columns
from training.drift_taste import TASTE, Tastes

EVERY = timedelta(hours=6)
DAYS = 24
PEOPLE, ROWS, KINDS = 300, 400, 6


@cache
def log(changed_share: float, since: timedelta = EVERY, seed: int = 0) -> pa.Table:
    """Rows up to `AT`: 60 % of the favourite category, which some people change, in a circle.

    As many rows again tell of no taste: they are of any category, and of no strength.
    """
    rng = np.random.default_rng(seed)
    favourite_U = np.arange(PEOPLE) % KINDS
    changes_U = rng.random(PEOPLE) < changed_share
    names = [pa.array(f"{word}{number}" for number in range(PEOPLE)) for word in ("u", "kind ")]
    parts = []
    for back in range(DAYS * 4):
        end = AT - back * EVERY
        user_I = rng.integers(PEOPLE, size=2 * ROWS)
        strength_I = np.repeat([1.0, 0.0], ROWS)
        new_U = np.where(changes_U & (end > AT - since), (favourite_U + 1) % KINDS, favourite_U)
        told_I = rng.random(2 * ROWS) < 0.6 * strength_I
        kind_I = np.where(told_I, new_U[user_I], rng.integers(KINDS, size=2 * ROWS))
        at = pa.array([end - timedelta(hours=1)] * 2 * ROWS, pa.timestamp("us", tz="UTC"))
        parts.append(
            pa.table(
                {
                    "user_id": names[0].take(pa.array(user_I)),
                    "item_category": names[1].take(pa.array(kind_I)),
                    "timestamp": at,
                    "strength": strength_I,
                }
            )
        )
    return pa.concat_tables(parts)


def drifted(rows: pa.Table, at=AT, **changes) -> dict[str, str]:
    """What is named of the interval that ends at a moment, and in which words."""
    limits = replace(DriftThresholds(), **changes)
    tastes = Tastes.of(rows, at)
    found, *_ = judge_columns(rows, ["item_category"], at, EVERY, limits, 1, [], tastes)
    return {column.name: column.describe() for column in found if column.drifted}


def test_people_who_exchange_their_tastes_are_found_and_totals_are_not():
    rows = log(0.5)
    assert drifted(rows) == {
        TASTE: "taste: rows share their category with 46% -> 30% of the earlier rows of the same "
        "people, since 2026-02-01T06:00Z"
    }
    assert drifted(rows, at=AT - EVERY) == {}
    shuffled = rows.take(pa.array(np.random.default_rng(1).permutation(rows.num_rows)))
    assert drifted(shuffled) == drifted(rows)


def test_the_report_tells_of_it_in_words_and_as_json(tmp_path: Path):
    rows = log(0.5)
    verdict = report_of(tmp_path, rows, watched=["item_category"], tastes=Tastes.of(rows, AT))
    told = "rows share their category with 46% -> 30% of the earlier rows of the same people"
    assert verdict.reasons == (f"1 of 3 columns drifted: taste: {told}, since 2026-02-01T06:00Z",)
    kept = json.loads((tmp_path / "verdict.json").read_text())["columns"][0]
    assert (kept["name"], kept["moved"], kept["drifted"]) == (TASTE, True, True)


def test_the_dashboard_draws_the_mean():
    rows = log(0.5)
    assert Tastes.of(rows, AT).mean_share(AT - EVERY) == pytest.approx(0.298, abs=0.005)
    assert Tastes.of(rows, AT).mean_share(AT) is None
    assert Tastes.of(rows.drop_columns("user_id"), AT).mean_share(AT - EVERY) is None


def test_nobody_has_no_taste():
    nothing = Tastes.of(log(0.5).slice(0, 0), AT)
    assert nothing.mean_share(AT - EVERY) is None
    assert nothing.moved(AT, EVERY, DriftThresholds(), 0.001) == {}


def test_the_lift_is_that_of_its_formula():
    rows = log(0.5).slice(0, 30 * 2 * ROWS)
    found = Tastes.of(rows, AT)
    told = rows.filter(pc.greater(rows["strength"], 0)).to_pylist()
    of_all = Counter(row["item_category"] for row in told)
    past: dict[str, Counter] = defaultdict(Counter)
    lifts, shares = [], []
    for row in sorted(told, key=lambda row: (row["timestamp"], row["item_category"])):
        earlier, kind = past[row["user_id"]], row["item_category"]
        count = earlier.total()
        lift = {
            one: math.log((earlier[one] + 10 * of / len(told)) / (count + 10) / (of / len(told)))
            for one, of in of_all.items()
        }
        if count >= 5:
            lifts.append(lift[kind] - sum(n * lift[one] for one, n in earlier.items()) / count)
            shares.append(earlier[kind] / count)
        earlier[kind] += 1
    np.testing.assert_allclose(np.sort(found.lift_K), np.sort(lifts), atol=1e-9)
    np.testing.assert_allclose(np.sort(found.share_K), np.sort(shares))


@pytest.mark.parametrize("seed", range(5))
def test_people_who_keep_their_tastes_are_quiet(seed: int):
    assert drifted(log(0.0, seed=seed)) == {}


@pytest.mark.parametrize(
    ("of", "changes"),
    [
        (lambda rows: rows, {"ignore": (TASTE,)}),
        (lambda rows: rows.drop_columns("user_id"), {}),
        (lambda rows: rows.rename_columns({"item_category": "item_kind"}), {}),
        (lambda rows: rows.drop_columns("strength"), {}),
        (lambda rows: rows.slice(0, 7 * 4 * 2 * ROWS), {}),  # a week tells of no limit
        (lambda rows: rows, {"min_rows": 8 * ROWS + 1}),
    ],
    ids=["ignored", "nobody known", "no category", "no strength", "few days", "few rows"],
)
def test_what_cannot_or_should_not_be_judged_is_left_out(of, changes: dict):
    limits = replace(DriftThresholds(), **changes)
    rows = of(log(0.5))
    found, *_ = judge_columns(rows, [], AT, EVERY, limits, 1, [], Tastes.of(rows, AT))
    assert TASTE not in {column.name for column in found}
