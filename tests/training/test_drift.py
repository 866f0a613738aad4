"""Drift reports: what is named, what stays quiet, and what never reaches a page."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from training.drift import DriftInputError, DriftThresholds, DriftVerdict, drift_report
from training.drift_checks import comparable_columns, psi_noise, score_shape

AT = datetime(2026, 2, 1, 6, tzinfo=UTC)
FILES = ("drift.html", "snapshot.json", "verdict.json")
SECRET_TEXT = "Slow-cooked ramen, a secret of my grandmother"


def features(
    rows: int, seed: int, *, age: float = 0.0, tv: float = 0.2, nulls: float = 0.1
) -> pa.Table:
    """A small table of every kind of column; `age`, `tv` and `nulls` are what tests shift."""
    rng = np.random.default_rng(seed)
    watched = rng.random(rows)
    return pa.table(
        {
            "user_id": [f"u{seed:03d}{row:06d}" for row in range(rows)],
            "age": rng.normal(age, 1.0, rows),
            "followers": rng.lognormal(3.0, 2.0, rows),
            "position": rng.integers(1, 8, rows),
            "device": rng.choice(["phone", "tv"], rows, p=[1.0 - tv, tv]),
            "exploration": rng.random(rows) < 0.15,
            "watch_share": pa.array(watched, mask=rng.random(rows) < nulls),
            "title": [f"{SECRET_TEXT} {row}" for row in range(rows)],
            "empty": pa.nulls(rows),
            "blank": pa.nulls(rows, pa.float64()),
            "constant": np.ones(rows),
            "tags": pa.array([["cooking"]] * rows),
            "timestamp": pa.array([AT] * rows, pa.timestamp("us", tz="UTC")),
        }
    )


def scores(values: np.ndarray) -> pa.Table:
    ids = [f"u{row:06d}" for row in range(len(values))]
    return pa.table({"user_id": ids, "score": pa.array(values), "model_version": [1] * len(ids)})


def report(out_dir: Path, reference: pa.Table, current: pa.Table, **changes) -> DriftVerdict:
    settings = {
        "predictions_reference": None,
        "predictions_current": None,
        "quality": {},
        "quality_history": (),
        "thresholds": DriftThresholds(),
        "seed": 1,
    }
    return drift_report(
        reference=reference, current=current, out_dir=out_dir, **(settings | changes)
    )


def drifted(verdict: DriftVerdict) -> list[str]:
    return [column.name for column in verdict.columns if column.drifted]


@pytest.fixture(scope="module")
def shifted(tmp_path_factory) -> tuple[DriftVerdict, Path]:
    """One report with a shifted number, a shifted label, lost values and collapsed scores."""
    out_dir = tmp_path_factory.mktemp("drift") / "shop" / "20260201T060000"
    rng = np.random.default_rng(0)
    verdict = report(
        out_dir,
        features(900, 1),
        features(600, 2, age=1.0, tv=0.55, nulls=0.5),
        predictions_reference=scores(rng.normal(size=300)),
        predictions_current=scores(np.full(200, 0.25)),
        quality={"ndcg@10": 0.749, "coverage": 0.4},
        quality_history=[0.78, 0.80, 0.82],
        model="shop.transformer",
        at=AT,
    )
    return verdict, out_dir


def test_the_shifted_columns_are_named_and_no_other(shifted):
    verdict, _ = shifted
    assert set(drifted(verdict)) == {"age", "device", "watch_share", "prediction.score"}
    by_name = {column.name: column for column in verdict.columns}
    assert by_name["watch_share"].null_rate_drifted
    assert by_name["watch_share"].score < by_name["watch_share"].threshold
    assert not by_name["age"].null_rate_drifted
    assert by_name["age"].score > 0.5
    assert verdict.drifted
    assert verdict.enough_data
    assert verdict.share == pytest.approx(4 / 7)
    assert [column.score for column in verdict.columns] == sorted(
        (column.score for column in verdict.columns), reverse=True
    )


def test_columns_that_cannot_be_compared_are_named_with_the_reason(shifted):
    assert shifted[0].excluded == {
        "blank": "no values on either side",
        "constant": "constant",
        "empty": "no values on either side",
        "tags": "not comparable: list<item: string>",
        "timestamp": "not comparable: timestamp[us, tz=UTC]",
        "title": "free text or an identifier by its values",
        "user_id": "an identifier",
    }


def test_reasons_and_alerts_are_words_with_numbers(shifted):
    verdict, _ = shifted
    quality, data, predictions = verdict.alerts
    assert (quality.type, quality.severity, quality.model) == (
        "ModelDrift",
        "High",
        "shop.transformer",
    )
    assert quality.message == (
        "ndcg@10 of shop.transformer fell by 5.1 percentage points: "
        "0.749 now, 0.800 on average before (limit 5.0)"
    )
    assert (quality.current, quality.expected) == (0.749, pytest.approx(0.8))
    assert quality.timestamp == "2026-02-01T06:00:00+00:00"
    assert (data.type, data.severity) == ("DataDrift", "Medium")
    by_name = {column.name: column for column in verdict.columns}
    limits = {
        name: f"PSI {by_name[name].score:.2f}, limit {by_name[name].threshold:.2f}"
        for name in ("prediction.score", "age", "device")
    }
    lost = by_name["watch_share"]
    assert data.message == (
        f"4 of 7 columns drifted: prediction.score ({limits['prediction.score']}), "
        f"age ({limits['age']}), device ({limits['device']}), "
        f"watch_share (nulls {lost.null_rate_reference:.0%} -> {lost.null_rate_current:.0%})"
    )
    assert (predictions.type, predictions.severity) == ("PredictionQuality", "Medium")
    assert predictions.message == ("all 200 scores of shop.transformer are equal: it ranks nothing")
    assert predictions.metadata == {"skewness": 0.0, "outlier_percentage": 0.0}
    assert verdict.reasons == tuple(alert.message for alert in verdict.alerts)
    assert verdict.notes == ()


def test_the_verdict_on_disk_is_the_verdict(shifted):
    verdict, out_dir = shifted
    stored = json.loads((out_dir / "verdict.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(verdict.to_dict()))
    assert stored["drifted"] is True
    assert stored["thresholds"]["psi"] == 0.2
    assert stored["seed"] == 1
    assert sorted(path.name for path in out_dir.iterdir()) == sorted(FILES)


def test_the_page_works_offline(shifted):
    page = (shifted[1] / "drift.html").read_text(encoding="utf-8")
    assert "<html" in page
    assert "age" in page
    loaded = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']([^\"']+)", page)
    assert [address for address in loaded if not address.startswith("data:")] == []
    assert not re.search(r"@import\s+(?:url|[\"'])|url\(\s*[\"']?https?:", page)


def test_evidently_reads_the_snapshot_and_agrees_with_the_verdict(shifted):
    from evidently.core.report import Snapshot

    verdict, out_dir = shifted
    content = Snapshot.load(out_dir / "snapshot.json").dict()
    found = {
        metric["config"]["column"]: metric
        for metric in content["metrics"]
        if metric["config"]["type"].endswith(":ValueDrift")
    }
    assert set(found) == {column.name for column in verdict.columns}
    for column in verdict.columns:
        assert found[column.name]["value"] == pytest.approx(column.score)
        assert found[column.name]["config"]["threshold"] == pytest.approx(column.threshold)
        assert found[column.name]["config"]["method"] == "psi"
    stored = json.loads((out_dir / "snapshot.json").read_text(encoding="utf-8"))
    assert stored["timestamp"].startswith("2026-02-01T06:00:00")


def test_no_identifier_and_no_text_reaches_a_file(shifted):
    for name in FILES:
        content = (shifted[1] / name).read_text(encoding="utf-8")
        assert "u001000" not in content
        assert "u000000" not in content
        assert "ramen" not in content


def test_the_same_input_and_seed_give_the_same_verdict(shifted, tmp_path):
    tables = features(700, 3), features(700, 4)
    thresholds = DriftThresholds(sample_rows=400)
    first, again, other = (
        report(tmp_path / f"{number}", *tables, thresholds=thresholds, seed=seed)
        for number, seed in enumerate((5, 5, 6))
    )
    assert first == again
    assert first.columns != other.columns
    assert (tmp_path / "0" / "verdict.json").read_bytes() == (
        tmp_path / "1" / "verdict.json"
    ).read_bytes()


@pytest.mark.parametrize(("rows", "seeds"), [((50, 60), 3), ((2000, 300), 2)])
def test_without_a_shift_the_report_is_quiet(tmp_path, rows, seeds):
    for seed in range(seeds):
        verdict = report(
            tmp_path, features(rows[0], 100 + seed), features(rows[1], 200 + seed), seed=seed
        )
        assert len(verdict.columns) == 6
        assert drifted(verdict) == []
        assert not verdict.drifted


@pytest.mark.slow
def test_twenty_unshifted_reports_name_nothing(tmp_path):
    named = [
        drifted(report(tmp_path, features(60, 300 + seed), features(60, 400 + seed), seed=seed))
        for seed in range(20)
    ]
    # One false alarm in 20 reports has a chance of 0.18 at the rate of 0.01; two have 0.017.
    assert sum(bool(names) for names in named) <= 1


@pytest.mark.parametrize("kind", ["normal", "lognormal", "counts", "labels"])
@pytest.mark.parametrize("sizes", [(50, 50), (60, 1000), (400, 400)])
def test_noise_is_what_evidently_measures_without_a_shift(kind, sizes):
    import pandas as pd
    from evidently.legacy.calculations.stattests.psi import _psi
    from evidently.legacy.core import ColumnType

    rng = np.random.default_rng(7)
    draw = {
        "normal": lambda size: rng.normal(size=size),
        "lognormal": lambda size: rng.lognormal(0.0, 0.7, size),
        "counts": lambda size: rng.poisson(3, size).astype(float),
        "labels": lambda size: rng.choice(["a", "b", "c", "d"], size, p=[0.6, 0.3, 0.07, 0.03]),
    }[kind]
    column = ColumnType.Categorical if kind == "labels" else ColumnType.Numerical
    above = []
    for _ in range(100):
        reference, current = draw(sizes[0]), draw(sizes[1])
        score, _ = _psi(pd.Series(reference), pd.Series(current), column, 0.2)
        above.append(score > psi_noise(reference, current, 0.05, rng))
    # The limit is the larger of two estimates, so at most the asked 5 in 100 are above it; four
    # standard errors of that share are 9.
    assert sum(above) <= 5 + 9


def test_noise_shrinks_with_the_samples():
    rng = np.random.default_rng(3)
    noise = [
        psi_noise(rng.normal(size=size), rng.normal(size=size), 0.001, rng)
        for size in (50, 500, 5000)
    ]
    assert noise[0] > 0.3 > noise[1] > 0.05 > noise[2] > 0.0


@pytest.mark.parametrize("rows", [(0, 0), (0, 300), (300, 0), (300, 1), (1, 1)])
def test_few_rows_are_no_drift_but_said(tmp_path, rows):
    verdict = report(tmp_path, features(rows[0], 1), features(rows[1], 2, age=9.0))
    words = (
        f"not enough data to compare columns: {rows[0]} reference and {rows[1]} current rows, "
        "50 are needed on each side"
    )
    assert verdict.notes == (words, "quality is not judged: no quality was measured")
    assert not verdict.enough_data
    assert not verdict.drifted
    assert verdict.columns == ()
    assert words in (tmp_path / "drift.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_quality_is_judged_without_rows(tmp_path):
    empty = features(0, 1)
    verdict = report(tmp_path, empty, empty, quality={"ndcg@10": 0.1}, quality_history=[0.4, 0.6])
    assert verdict.drifted
    assert [alert.type for alert in verdict.alerts] == ["ModelDrift"]


def test_odd_columns_do_not_kill_the_report(tmp_path):
    rows = 120
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=rows)
    labels = rng.choice(["a", "b"], rows)
    reference = pa.table(
        {
            "lost": numbers,
            "found": pa.nulls(rows, pa.float64()),
            "gone": numbers,
            "endless": np.where(numbers > 2.0, np.inf, numbers),
            "not_numbers": np.full(rows, np.nan),
            "frozen": np.full(rows, 1.0),
            "encoded": pa.array(labels).dictionary_encode(),
            "money": pa.array([Decimal(int(100 * abs(x))) / 100 for x in numbers]),
            "retyped": pa.array(numbers),
            "hour_sin": numbers,
        }
    )
    current = pa.table(
        {
            "lost": pa.nulls(rows),
            "found": numbers,
            "fresh": numbers,
            "endless": np.where(numbers > 2.0, -np.inf, numbers),
            "not_numbers": np.full(rows, np.nan),
            "frozen": np.full(rows, 2.0),
            "encoded": pa.array(labels[::-1]).dictionary_encode(),
            "money": pa.array([Decimal(int(100 * abs(x))) / 100 for x in numbers]),
            "retyped": pa.array([str(x > 0) for x in numbers]),
            "hour_sin": numbers + 9.0,
        }
    )
    verdict = report(tmp_path, reference, current)
    assert set(drifted(verdict)) == {"lost", "found", "frozen"}
    assert {column.name for column in verdict.columns} == {
        *("lost", "found", "frozen", "endless", "encoded", "money"),
    }
    assert [column.score for column in verdict.columns][-2:] == [None, None]
    assert "found (nulls 100% -> 0%), lost (nulls 0% -> 100%)" in verdict.reasons[0]
    assert verdict.excluded == {
        "fresh": "not in the reference data",
        "gone": "not in the current data",
        "hour_sin": "ignored by the thresholds",
        "not_numbers": "no values on either side",
        "retyped": "not comparable: double and string",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_nothing_comparable_still_gives_three_files(tmp_path):
    table = pa.table({"user_id": [f"u{row}" for row in range(80)]})
    verdict = report(tmp_path, table, table)
    assert verdict.excluded == {"user_id": "an identifier"}
    assert not verdict.drifted
    assert verdict.enough_data
    assert "u79" not in (tmp_path / "drift.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


@pytest.mark.parametrize(
    ("values", "comparable"),
    [
        (["phone", "tv"], True),
        (["science fiction", "slice of life drama"], True),
        (["u000001", "u000002"], False),
        (["item:4711", "item:4712"], True),
        (["6f1b0c7e-1c3d-4a53-9d6f-0a1b2c3d4e5f", "0a1b2c3d-1c3d-4a53-9d6f-6f1b0c7e4e5f"], False),
        (["ada@mail.example", "bob@mail.example"], False),
        (["a title of five words", "b"], False),
        (["x" * 41, "b"], False),
        ([f"label{number}" for number in range(51)], False),
    ],
)
def test_labels_are_told_from_identifiers_and_text(values, comparable):
    table = pa.table({"label": values * 30})
    chosen, excluded = comparable_columns(table, table, frozenset())
    assert bool(chosen) is comparable
    assert excluded == ({} if comparable else {"label": "free text or an identifier by its values"})


def test_values_that_hardly_repeat_are_not_labels():
    table = pa.table({"title": [f"Ramen {row}" for row in range(50)]})
    assert comparable_columns(table, table, frozenset())[0] == []


@pytest.mark.parametrize(
    ("current", "history", "is_drift"),
    [
        (0.749, [0.80] * 28, True),
        (0.750, [0.80] * 28, False),
        (0.7499999, [0.80] * 28, True),
        (0.55, [0.60], False),
        (0.549, [0.60], True),
        (0.90, [0.80] * 28, False),
        (0.70, [0.70, 0.80], False),
        (0.699, [0.70, 0.80, float("nan")], True),
    ],
)
def test_quality_drops_by_more_than_the_limit_alert(tmp_path, current, history, is_drift):
    empty = features(0, 1)
    verdict = report(tmp_path, empty, empty, quality={"ndcg@10": current}, quality_history=history)
    assert verdict.quality is not None
    assert verdict.quality.drifted is is_drift
    assert verdict.drifted is is_drift
    assert verdict.quality.drop == pytest.approx(np.nanmean(history) - current)


@pytest.mark.parametrize(
    ("quality", "history", "words"),
    [
        ({}, [0.8], "quality is not judged: no quality was measured"),
        ({"ndcg@10": 0.8}, [], "quality is not judged: ndcg@10 has no history yet"),
        (
            {"ndcg@10": float("nan")},
            [0.8],
            "quality is not judged: ndcg@10 is undefined for this interval",
        ),
    ],
)
def test_quality_that_cannot_be_judged_is_said(tmp_path, quality, history, words):
    empty = features(0, 1)
    verdict = report(tmp_path, empty, empty, quality=quality, quality_history=history)
    assert verdict.notes[-1] == words
    assert verdict.quality is None
    assert not verdict.drifted


RNG = np.random.default_rng(11)
HEALTHY = RNG.normal(size=500)
TAIL = RNG.standard_cauchy(500)


@pytest.mark.parametrize(
    ("past", "now", "words"),
    [
        (None, HEALTHY, None),
        (None, RNG.uniform(size=500), None),
        (None, RNG.exponential(size=500), None),
        (None, np.full(20, 0.5), "all 20 scores of model are equal: it ranks nothing"),
        (np.full(20, 0.5), np.full(20, 0.5), "all 20 scores of model are equal: it ranks nothing"),
        (None, np.array([0.5]), None),
        (None, np.array([]), None),
        (None, TAIL, "scores of model are out of shape: skewness"),
        (HEALTHY, TAIL, "scores of model are out of shape: skewness"),
        (TAIL, -TAIL, None),
    ],
)
def test_scores_out_of_shape_alert_unless_they_always_were(tmp_path, past, now, words):
    empty = features(0, 1)
    verdict = report(
        tmp_path,
        empty,
        empty,
        predictions_reference=None if past is None else scores(past),
        predictions_current=scores(now),
        # Only the shape is asked for here: the comparison of columns is switched off.
        thresholds=DriftThresholds(min_rows=1000),
    )
    messages = [alert.message for alert in verdict.alerts]
    assert len(messages) == (words is not None)
    assert all(message.startswith(words) for message in messages)


def test_shape_of_scores_by_hand():
    shape = score_shape(pa.table({"score": [0.0, 0.0, 0.0, 4.0, float("-inf"), None]}))
    # Mean 1, deviation sqrt(3): third moment ((-1)^3 * 3 + 3^3) / 4 = 6, over 3 sqrt(3).
    assert shape.count == 4
    assert shape.skewness == pytest.approx(6.0 / (3.0 * 3.0**0.5))
    # Quartiles 0 and 1: the far-out fence is at 4, which 4.0 does not exceed.
    assert shape.outlier_percentage == 0.0
    assert not shape.collapsed


def test_a_share_of_columns_may_drift_before_the_data_do(tmp_path):
    tables = features(400, 1), features(400, 2, age=1.5)
    for share, is_drift in ((0.1, True), (0.2, False)):
        verdict = report(tmp_path, *tables, thresholds=DriftThresholds(column_share=share))
        assert drifted(verdict) == ["age"]
        assert verdict.share == pytest.approx(1 / 6)
        assert verdict.drifted is is_drift


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"predictions_current": pa.table({"value": [0.5]})},
            "drift: predictions need a numeric column 'score'; the table has value double.",
        ),
        (
            {"predictions_current": pa.table({"score": ["high"]})},
            "drift: predictions need a numeric column 'score'; the table has score string.",
        ),
        (
            {"quality": {"recall@10": 0.5, "auc": 0.7}, "quality_history": [0.5]},
            "drift: the thresholds watch 'ndcg@10', but the quality has auc, recall@10; "
            "name one of these.",
        ),
    ],
)
def test_wrong_input_is_refused_in_words(tmp_path, changes, message):
    with pytest.raises(DriftInputError) as caught:
        report(tmp_path, features(0, 1), features(0, 1), **changes)
    assert str(caught.value) == message


def test_a_doubled_column_is_refused_in_words(tmp_path):
    table = features(60, 1)
    doubled = table.append_column("age", table["age"])
    with pytest.raises(DriftInputError) as caught:
        report(tmp_path, table, doubled)
    assert str(caught.value) == (
        "drift: the current table has the column 'age' more than once; rename or drop the copies."
    )


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"psi": -0.1}, "drift: psi is -0.1; give a number of at least 0."),
        ({"psi": float("inf")}, "drift: psi is inf; give a number of at least 0."),
        ({"column_share": 1.0}, "drift: column_share is 1.0; give a number from 0 to 0.99."),
        ({"false_alarm": 0.0}, "drift: false_alarm is 0.0; give a number from 1e-09 to 0.5."),
        ({"min_rows": 1}, "drift: min_rows is 1; give a number of at least 2."),
        ({"sample_rows": 10}, "drift: sample_rows is 10; give a number of at least 50."),
        (
            {"quality_drop": float("nan")},
            "drift: quality_drop is nan; give a number of at least 0.",
        ),
    ],
)
def test_limits_that_mean_nothing_are_refused_in_words(limits, message):
    with pytest.raises(DriftInputError) as caught:
        DriftThresholds(**limits)
    assert str(caught.value) == message
