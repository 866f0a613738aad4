"""When a column counts as drifted: limits from quiet days, and each boundary of the spec."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from drift_world import AT, report_of, window

from training.drift import DriftThresholds, judge_columns
from training.drift_columns import slot_of
from training.drift_limits import (
    LEAST_PAST,
    chance_difference,
    days_back,
    limit_of_past,
    limit_of_users,
    psi,
    upper_bound,
    user_weights,
)

EVERY = timedelta(hours=6)
HOUR = 3_600_000_000


def judged(rows: pa.Table, watched: list[str], **limits):
    """Column -> what was found of it, and the notes."""
    notes: list[str] = []
    thresholds = DriftThresholds(**limits)
    found, *_ = judge_columns(rows, watched, AT, EVERY, thresholds, 1, notes)
    return {column.name: column for column in found}, notes


def days(count: int, draw, rows: int = 300) -> pa.Table:
    """`count` days of one interval; `draw(rng, rows, day)` gives the columns, day 0 the last."""
    rng = np.random.default_rng(5)
    return window(*(pa.table(draw(rng, rows, day)) for day in reversed(range(count))))


@pytest.mark.parametrize("kind", ["normal", "labels"])
def test_the_psi_is_evidentlys(kind):
    from evidently.legacy.calculations.stattests.psi import _psi
    from evidently.legacy.core import ColumnType

    rng = np.random.default_rng(7)
    if kind == "normal":
        sides = [rng.normal(size=400), rng.normal(0.3, 1.0, 200)]
        edges = np.histogram_bin_edges(np.concatenate(sides), bins="sturges")
        counts = [np.histogram(side, edges)[0] for side in sides]
    else:
        sides = [rng.choice(list("abc"), 400), rng.choice(list("ad"), 200)]
        counts = [np.array([(side == label).sum() for label in "abcd"]) for side in sides]
    column = ColumnType.Numerical if kind == "normal" else ColumnType.Categorical
    theirs, _ = _psi(pd.Series(sides[0]), pd.Series(sides[1]), column, 0.2)
    assert psi(*counts) == pytest.approx(theirs)


def test_rows_belong_to_the_same_hours_of_earlier_days():
    end = 48 * HOUR
    hours = np.array([47, 42, 41, 48, 23, 18, 17, 24])
    assert days_back(hours * HOUR, end, EVERY).tolist() == [0, 0, -1, -1, 1, 1, -1, -1]
    # Two days long: the next interval back begins where this one does.
    assert days_back(hours * HOUR, end, timedelta(days=2)).tolist() == [0, 0, 0, -1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("age", "taken"),
    [
        (timedelta(days=7), True),
        (timedelta(days=7, hours=6), True),
        (timedelta(days=7, hours=6, microseconds=1), False),
        (timedelta(days=8), False),
    ],
)
def test_the_reference_ends_after_seven_days(age, taken):
    """The interval seven days back counts up to its first moment."""
    # That interval is [AT - 7 d - 6 h, AT - 7 d): its end is no moment of it.
    moment = AT - age - timedelta(microseconds=1) * (age == timedelta(days=7))
    times = [AT - timedelta(hours=1)] * 60 + [AT - timedelta(days=1, hours=1)] * 60 + [moment]
    rows = pa.table({"timestamp": pa.array(times, pa.timestamp("us", tz="UTC"))})
    slot = slot_of(rows, AT, EVERY, DriftThresholds(), np.random.default_rng(0))
    assert slot.reference.num_rows == 60 + taken


def test_a_bound_is_exceeded_as_often_as_asked():
    rng = np.random.default_rng(3)
    above = [
        value[-1] > upper_bound(value[:-1], 0.05) for value in rng.chisquare(9, size=(2000, 15))
    ]
    # Four standard errors of a share of 0.05 in 2000 are 0.02.
    assert np.mean(above) == pytest.approx(0.05, abs=0.02)


def test_seven_days_give_no_limit_and_eight_do():
    past = np.linspace(0.01, 0.02, LEAST_PAST)
    assert limit_of_past(past[1:], 0.001, 0.0) is None
    assert chance_difference(past[1:], 0.001) is None
    assert limit_of_past(past, 0.001, 0.0) > 0.02


def test_a_change_that_is_over_does_not_hide_the_next():
    rng = np.random.default_rng(1)
    quiet = 0.01 * rng.chisquare(9, 20)
    shaken = np.concatenate([quiet[:12], [3.0, 2.5, 2.0], quiet[12:]])
    assert limit_of_past(shaken, 0.001, 0.05) == pytest.approx(
        limit_of_past(quiet, 0.001, 0.05), rel=0.01
    )


def test_users_not_rows_are_resampled():
    """Ten rows of each user say no more than one."""
    rng = np.random.default_rng(4)
    one = np.eye(2)[rng.integers(0, 2, 50)]
    limits = [
        limit_of_users(
            times * one, times * one, (user_weights(50, rng), user_weights(50, rng)), 0.01
        )
        for times in (1.0, 10.0)
    ]
    assert limits[1] == pytest.approx(limits[0], rel=0.4)
    assert limits[0] > 0.1


def test_rows_of_few_users_are_no_drift():
    """A trait of the user moves with who happens to come, however many rows they make."""

    def draw(rng, rows, _day):
        user = rng.integers(0, 30, 12)[rng.integers(0, 12, rows)]
        return {"user_id": [f"u{one}" for one in user], "trust": np.sin(user) + 2.0}

    for count in (2, 24):
        found, _ = judged(days(count, draw), ["trust"])
        assert found["trust"].score > 0.2
        assert not found["trust"].drifted


def test_steady_growth_is_no_drift():
    """An age grows by a day a day: against the week before it always differs."""

    def draw(rng, rows, day):
        return {"age": rng.normal(100.0 - day, 3.0, rows)}

    found, _ = judged(days(24, draw), ["age"])
    assert found["age"].score > 0.5
    assert not found["age"].drifted


def test_a_jump_is_drift_at_once_and_after_two_days_too():
    def draw(rng, rows, day):
        return {"age": rng.normal(2.0 if day < 2 else 0.0, 1.0, rows)}

    found, _ = judged(days(24, draw), ["age"])
    assert found["age"].drifted
    assert found["age"].since == "2026-02-01T06:00Z"


@pytest.mark.parametrize(("above", "moved"), [(-1e-9, True), (0.0, True), (1e-9, False)])
def test_a_psi_at_the_limit_moves(above, moved):
    rows = days(
        2,
        lambda rng, rows, day: {
            "device": ["tv", "phone"] * (rows // 3) + ["tv"] * (rows // 3)
            if day == 0
            else ["tv", "phone"] * (rows // 2)
        },
        3000,
    )
    exact = judged(rows, ["device"])[0]["device"].score
    found, _ = judged(rows, ["device"], psi=exact + above)
    assert found["device"].moved is moved


@pytest.mark.parametrize(("nulls", "drifted"), [(449, False), (450, False), (451, True)])
def test_a_null_rate_moves_by_more_than_the_limit(nulls, drifted):
    """0.10 -> 0.15 is 0.05 and no drift; one row more is."""

    def draw(rng, rows, day):
        lost = nulls if day == 0 else 300
        return {
            "share": pa.array(
                [None] * lost + [0.5, 0.6] * ((rows - lost) // 2) + [0.5] * ((rows - lost) % 2),
                pa.float64(),
            )
        }

    found, _ = judged(days(24, draw, 3000), ["share"], null_rate=0.05)
    assert found["share"].null_rate_drifted is drifted


@pytest.mark.parametrize(("rows", "compared"), [(49, False), (50, True), (51, True)])
def test_an_interval_needs_fifty_rows(rows, compared):
    table = days(2, lambda rng, _, day: {"age": rng.normal(size=rows if day == 0 else 300)})
    found, notes = judged(table, ["age"])
    assert ("age" in found) is compared
    assert bool(notes) is not compared


@pytest.mark.parametrize(("share", "is_drift"), [(0.49, True), (0.5, False), (0.51, False)])
def test_a_share_of_columns_must_be_exceeded(tmp_path, share, is_drift):
    def draw(rng, rows, day):
        return {"age": rng.normal(3.0 * (day == 0), 1.0, rows), "depth": rng.normal(size=rows)}

    verdict = report_of(tmp_path, days(2, draw), thresholds=DriftThresholds(column_share=share))
    assert verdict.share == 0.5
    assert verdict.drifted is is_drift


def test_a_source_that_sends_a_third_of_its_rows_is_drift():
    def draw(rng, rows, day):
        return {"age": rng.normal(size=rows // 3 if day == 0 else rows)}

    found, _ = judged(days(24, draw, 600), ["age"])
    assert [name for name, column in found.items() if column.drifted] == ["rows"]
    assert found["rows"].change == "600 usual -> 200"


def test_a_watched_column_that_is_not_in_the_data_is_left_out():
    found, _ = judged(days(2, lambda rng, rows, _: {"age": rng.normal(size=rows)}), ["age", "gone"])
    assert set(found) == {"age"}


@pytest.mark.parametrize(("past", "drifted"), [(3, ["stars"]), (24, ["stars", "user_age"])])
def test_what_grows_with_the_log_moves_only_where_enough_days_tell_its_growth(past, drifted):
    def draw(rng, rows, day):
        # Everybody is a day older each day; in the last one both columns jump.
        jump = day == 0
        return {
            "user_id": [f"u{one}" for one in rng.integers(0, 100, rows)],
            "user_age": rng.normal(40.0 - day + 30.0 * jump, 1.0, rows),
            "stars": rng.normal(3.0 + 2.0 * jump, 1.0, rows),
        }

    found, _ = judged(days(past, draw), ["user_age", "stars"])
    assert sorted(name for name, column in found.items() if column.moved) == drifted
    assert (found["user_age"].threshold is None) == (past == 3)
