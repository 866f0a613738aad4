"""Drift reports: what is named, what stays quiet, and what never reaches a page."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from drift_world import features, report, report_of, scores, window

from training.drift import DriftInputError, DriftThresholds, DriftVerdict, Quality

FILES = ("drift.html", "snapshot.json", "verdict.json")


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
        past_predictions=scores(rng.normal(size=300)),
        predictions=scores(np.full(200, 0.25)),
        quality=[Quality("shop.transformer", 0.749, (0.78, 0.80, 0.82))],
        model="shop.transformer",
        done=lambda verdict: f"{len(verdict.alerts)} alerts were sent",
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
    assert [column.drifted for column in verdict.columns] == [True] * 4 + [False] * 3


def test_columns_that_cannot_be_compared_are_named_with_the_reason(shifted):
    assert shifted[0].excluded == {
        "blank": "no values on either side",
        "constant": "constant",
        "empty": "no values on either side",
        "tags": "not comparable: list<item: string>",
        "seen_at": "not comparable: timestamp[us, tz=UTC]",
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
    found = {
        name: f"(PSI {column.score:.2f}, limit {column.threshold:.2f}), since 2026-02-01T06:00Z"
        for name, column in by_name.items()
    }
    lost = by_name["watch_share"]
    nulls = f"nulls {lost.null_rate_reference:.0%} -> {lost.null_rate_current:.0%}"
    expected = {
        "age": "mean -0.0158 -> 0.945",
        "device": "tv 20% -> 57%",
        "prediction.score": "mean 0.0115 -> 0.25",
        "watch_share": f"mean 0.5 -> 0.475, {nulls}",
    }
    heads = [part.split(" (PSI")[0] for part in data.message.split(": ", 1)[1].split("; ")]
    assert sorted(head.split(": ")[0] for head in heads) == sorted(expected)
    assert data.message.startswith("4 of 7 columns drifted: prediction.score: ")
    for name in expected:
        assert found[name].removesuffix(", since 2026-02-01T06:00Z") in data.message
    assert nulls in data.message
    assert (predictions.type, predictions.severity) == ("PredictionQuality", "Medium")
    assert predictions.message == ("all 200 scores of shop.transformer are equal: it ranks nothing")
    assert predictions.metadata == {"skewness": 0.0, "outlier_percentage": 0.0}
    assert verdict.reasons == tuple(alert.message for alert in verdict.alerts)
    assert verdict.notes == ()
    assert verdict.words == (*verdict.reasons, "3 alerts were sent")


def test_the_verdict_on_disk_is_the_verdict(shifted):
    verdict, out_dir = shifted
    stored = json.loads((out_dir / "verdict.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(verdict.to_dict()))
    assert stored["drifted"] is True
    assert stored["thresholds"]["psi"] == 0.05
    assert stored["seed"] == 1
    assert sorted(path.name for path in out_dir.iterdir()) == sorted(FILES)


def test_the_page_works_offline(shifted):
    page = (shifted[1] / "drift.html").read_text(encoding="utf-8")
    assert re.search(
        r"<p>Drawn below are \d+ of \d+ columns, those that moved before others; ", page
    )
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
    assert set(found) == set(drifted(verdict))
    for column in verdict.columns[:4]:
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


@pytest.mark.parametrize("rows", [(0, 0), (0, 300), (300, 0), (300, 1), (1, 1)])
def test_few_rows_are_no_drift_but_said(tmp_path, rows):
    verdict = report(tmp_path, features(rows[0], 1), features(rows[1], 2, age=9.0))
    words = (
        f"not enough data to compare columns: {rows[0]} reference and {rows[1]} current rows, "
        "50 are needed on each side"
    )
    assert verdict.notes == (words,)
    assert not verdict.enough_data
    assert not verdict.drifted
    assert verdict.columns == ()
    assert words in (tmp_path / "drift.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_odd_columns_do_not_kill_the_report(tmp_path):
    rows = 120
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=rows)
    labels = rng.choice(["a", "b"], rows)
    reference = pa.table(
        {
            "lost": numbers,
            "found": pa.nulls(rows, pa.float64()),
            "endless": np.where(numbers > 2.0, np.inf, numbers),
            "not_numbers": np.full(rows, np.nan),
            "frozen": np.full(rows, 1.0),
            "encoded": pa.array(labels).dictionary_encode(),
            "money": pa.array([Decimal(int(100 * abs(x))) / 100 for x in numbers]),
            "hour_sin": numbers,
        }
    )
    current = pa.table(
        {
            "lost": pa.nulls(rows, pa.float64()),
            "found": numbers,
            "endless": np.where(numbers > 2.0, -np.inf, numbers),
            "not_numbers": np.full(rows, np.nan),
            "frozen": np.full(rows, 2.0),
            "encoded": pa.array(labels[::-1]).dictionary_encode(),
            "money": pa.array([Decimal(int(100 * abs(x))) / 100 for x in numbers]),
            "hour_sin": numbers + 9.0,
        }
    )
    verdict = report(tmp_path, reference, current)
    assert set(drifted(verdict)) == {"lost", "found", "frozen"}
    assert {column.name for column in verdict.columns} == {
        *("lost", "found", "frozen", "endless", "encoded", "money"),
    }
    by_name = {column.name: column for column in verdict.columns}
    assert by_name["lost"].score is None
    assert "found: nulls 100% -> 0%, since" in verdict.reasons[0]
    assert "lost: nulls 0% -> 100%, since" in verdict.reasons[0]
    assert verdict.excluded == {
        "hour_sin": "ignored by the thresholds",
        "not_numbers": "no values on either side",
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
            {"predictions": pa.table({"value": [0.5]})},
            "drift: predictions need a numeric column 'score'; the table has value double.",
        ),
        (
            {"predictions": pa.table({"score": ["high"]})},
            "drift: predictions need a numeric column 'score'; the table has score string.",
        ),
    ],
)
def test_wrong_input_is_refused_in_words(tmp_path, changes, message):
    with pytest.raises(DriftInputError) as caught:
        report(tmp_path, features(0, 1), features(0, 1), **changes)
    assert str(caught.value) == message


def test_a_doubled_column_is_refused_in_words(tmp_path):
    rows = window(features(60, 1), features(60, 2))
    doubled = rows.append_column("age", rows["age"])
    with pytest.raises(DriftInputError) as caught:
        report_of(tmp_path, doubled, watched=["age"])
    assert str(caught.value) == (
        "drift: the reference table has the column 'age' more than once; rename or drop the copies."
    )


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"psi": -0.1}, "drift: psi is -0.1; give a number of at least 0."),
        ({"psi": float("inf")}, "drift: psi is inf; give a number of at least 0."),
        ({"reference": timedelta(0)}, "drift: reference is 0:00:00; give a time above zero."),
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


def test_a_page_with_all_columns_moved_is_small(tmp_path):
    names = [f"feature_{number}" for number in range(30)]

    def draw(seed: int, shift: float) -> pa.Table:
        rng = np.random.default_rng(seed)
        return pa.table({name: rng.normal(shift, 1.0, 5000) for name in names})

    verdict = report(tmp_path, draw(1, 0.0), draw(2, 2.0))
    assert len(drifted(verdict)) == 30
    assert (tmp_path / "drift.html").stat().st_size < 5_000_000
    assert (tmp_path / "snapshot.json").stat().st_size < 1_000_000
    # Those that are not drawn are named all the same.
    assert all(name in verdict.words[0] for name in names)
