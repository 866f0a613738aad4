"""A change of taste that leaves the totals alone: found by holding each person against their past.

Shapes: U users, I rows of one interval.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from drift_world import AT, report_of

from training.drift import DriftThresholds, judge_columns
from training.drift_taste import TASTE, mean_fit

EVERY = timedelta(hours=6)
DAYS = 24
PEOPLE, ROWS, KINDS = 300, 400, 6


def log(changed_share: float, since: timedelta = EVERY, seed: int = 0) -> pa.Table:
    """Rows up to `AT`: 60 % of the favourite category, which some people change, in a circle."""
    rng = np.random.default_rng(seed)
    favourite_U = np.arange(PEOPLE) % KINDS
    changes_U = rng.random(PEOPLE) < changed_share
    parts = []
    for back in range(DAYS * 4):
        end = AT - back * EVERY
        user_I = rng.integers(PEOPLE, size=ROWS)
        new_U = np.where(changes_U & (end > AT - since), (favourite_U + 1) % KINDS, favourite_U)
        kind_I = np.where(rng.random(ROWS) < 0.6, new_U[user_I], rng.integers(KINDS, size=ROWS))
        at = pa.array([end - timedelta(hours=1)] * ROWS, pa.timestamp("us", tz="UTC"))
        parts.append(
            pa.table(
                {
                    "user_id": [f"u{user:04d}" for user in user_I],
                    "item_category": [f"kind {kind}" for kind in kind_I],
                    "timestamp": at,
                }
            )
        )
    return pa.concat_tables(parts)


def drifted(rows: pa.Table, at=AT, **changes) -> dict[str, str]:
    """What is named of the interval that ends at a moment, and in which words."""
    limits = replace(DriftThresholds(), **changes)
    found, *_ = judge_columns(rows, ["item_category"], at, EVERY, limits, 1, [])
    return {column.name: column.describe() for column in found if column.drifted}


def test_people_who_exchange_their_tastes_are_found_and_totals_are_not():
    rows = log(0.5)
    assert drifted(rows) == {
        TASTE: "taste: rows share their category with 47% -> 31% of the earlier rows of the same "
        "people, since 2026-02-01T06:00Z"
    }
    assert drifted(rows, at=AT - EVERY) == {}
    shuffled = rows.take(pa.array(np.random.default_rng(1).permutation(rows.num_rows)))
    assert drifted(shuffled) == drifted(rows)


def test_the_report_tells_of_it_in_words_and_as_json(tmp_path: Path):
    verdict = report_of(tmp_path, log(0.5), watched=["item_category"])
    told = "rows share their category with 47% -> 31% of the earlier rows of the same people"
    assert verdict.reasons == (f"1 of 3 columns drifted: taste: {told}, since 2026-02-01T06:00Z",)
    kept = json.loads((tmp_path / "verdict.json").read_text())["columns"][0]
    assert (kept["name"], kept["moved"], kept["drifted"]) == (TASTE, True, True)


def test_the_dashboard_draws_the_mean():
    rows = log(0.5)
    assert mean_fit(rows, AT - EVERY) == pytest.approx(0.31, abs=0.005)
    assert mean_fit(rows, AT) is None
    assert mean_fit(rows.drop_columns("user_id"), AT - EVERY) is None


@pytest.mark.parametrize("seed", range(5))
def test_people_who_keep_their_tastes_are_quiet(seed: int):
    assert drifted(log(0.0, seed=seed)) == {}


@pytest.mark.parametrize(
    ("of", "changes"),
    [
        (lambda rows: rows, {"ignore": (TASTE,)}),
        (lambda rows: rows.drop_columns("user_id"), {}),
        (lambda rows: rows.rename_columns({"item_category": "item_kind"}), {}),
        (lambda rows: rows.slice(0, 7 * 4 * ROWS), {}),  # a week tells of no limit
        (lambda rows: rows, {"min_rows": 4 * ROWS + 1}),
    ],
    ids=["ignored", "nobody known", "no category", "too few days", "too few rows"],
)
def test_what_cannot_or_should_not_be_judged_is_left_out(of, changes: dict):
    limits = replace(DriftThresholds(), **changes)
    found, *_ = judge_columns(of(log(0.5)), [], AT, EVERY, limits, 1, [])
    assert TASTE not in {column.name for column in found}
