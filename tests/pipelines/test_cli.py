"""Commands that start no engine: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from pipelines.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")


def test_lint_of_the_repository_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint"]) == 0
    assert capsys.readouterr().out == "No problems found.\n"


def test_lint_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text("pipeline: shop\nsources: {demo: {}}\nsed: 1\n")
    assert main(["lint", str(file), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)
    assert (problem["line"], problem["column"], problem["message"]) == (3, 1, "unknown key `sed`")


def test_an_unknown_pipeline_names_the_ones_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "dmo"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "There is no pipeline `dmo`: configs/pipelines/dmo.yaml does not exist. "
        "Did you mean `demo`?\n  Pipelines: demo, filmtrust, kuairand, lastfm, movielens, tiktok\n"
    )


def test_a_moment_that_is_no_boundary_names_the_nearest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lake = f"environment.lake={tmp_path}"
    assert main(["plan", "demo", "--at", "2026-02-01T07:00Z", "--set", lake]) == 2
    assert capsys.readouterr().err == (
        "--at 2026-02-01T07:00Z is not where an interval of 6h ends. The nearest ends are "
        "2026-02-01T06:00Z and 2026-02-01T12:00Z.\n"
    )


def test_plan_works_in_an_empty_lake_and_runs_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lake = f"environment.lake={tmp_path / 'lake'}"
    assert main(["plan", "demo", "--at", "2026-02-01T06:00Z", "--set", lake, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["interval_end"] == "2026-02-01T06:00Z"
    assert found["steps"][0] == {"step": "ingest", "runs": True, "reason": "it has not run yet"}
    assert all(step["runs"] for step in found["steps"])
    assert not list((tmp_path / "lake").rglob("*.parquet"))


def test_recommend_before_anything_is_published_says_what_to_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lake = f"environment.lake={tmp_path}"
    assert main(["recommend", "demo", "u1", "--set", lake]) == 1
    assert capsys.readouterr().err == (
        f"demo has published no candidates yet.\n\nNext: sextant run demo --set {lake}\n"
    )


def test_report_before_anything_ran_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lake = f"environment.lake={tmp_path}"
    assert main(["report", "demo", "--set", lake]) == 0
    assert capsys.readouterr().out == (
        f"demo: nothing has run yet.\nNext: sextant run demo --set {lake}\n"
    )


def test_a_stage_whose_needs_have_not_run_names_the_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lake = f"environment.lake={tmp_path}"
    at = "2026-02-01T06:00Z"
    assert main(["stage", "demo", "gate", "--at", at, "--set", lake]) == 1
    assert capsys.readouterr().err == (
        "Stage `gate` needs `evaluate`, which has not succeeded for the interval that ends at "
        f"{at}.\n\nNext: sextant stage demo evaluate --at {at} --set {lake}\n"
    )


def test_backfill_the_wrong_way_round_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backfill", "demo", "--from", "2026-02-02", "--to", "2026-02-01"]) == 2
    assert capsys.readouterr().err == (
        "--from 2026-02-02T00:00Z is not before --to 2026-02-01T00:00Z: there is no interval "
        "between them.\n"
    )


def test_schema_is_the_committed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    committed = ROOT / "configs" / "schemas" / "pipeline.schema.json"
    assert capsys.readouterr().out == committed.read_text()


def test_commands_to_paste_name_the_program_by_path_where_the_path_lacks_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    program = os.path.relpath(Path(sys.executable).with_name("sextant"))
    assert main(["report", "demo", "--set", f"environment.lake={tmp_path}"]) == 0
    assert f"Next: {program} run demo" in capsys.readouterr().out
