"""The example pipelines on the real data sets, as far as the features."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from deltalake import DeltaTable
from shop_world import REPOSITORY, sextant

pytestmark = [pytest.mark.slow, pytest.mark.shared_data]

SHARED = Path(
    os.environ.get("SEXTANT_SHARED_DATA", REPOSITORY.parent / "shared" / "data")
).resolve()

# Pipeline, variable, folder, interval, and rows of its tables, counted from the files by hand:
# events before the interval's end, less exact repetitions; users and items of the whole source.
CASES = [
    pytest.param(
        "kuairand", "KUAIRAND", "kuairand", "2022-05-06T18:00Z",
        {"events": 286_352, "items": 7_583, "users": 27_285}, id="kuairand",
    ),
    pytest.param(
        "movielens", "MOVIELENS", "ml-latest-small", "2016-10-01T00:00Z",
        {"events": 99_710, "items": 9_125, "users": 672}, id="movielens",
    ),
    # 17,632 artists and 1,892 listeners; 92,834 pairs, each once.
    pytest.param(
        "lastfm", "LASTFM", "lastfm", "2011-05-01T00:00Z",
        {"events": 92_834, "items": 17_632, "users": 1_892, "follows": 25_434}, id="lastfm",
    ),
    # 35,497 lines, one of which comes twice.
    pytest.param(
        "filmtrust", "FILMTRUST", "filmtrust", "2011-05-01T00:00Z",
        {"events": 35_496, "items": 2_071, "users": 1_508, "follows": 1_853}, id="filmtrust",
    ),
    # 59,541 + 3,051 + 6,130 pairs; 6,710 rows of the arrays.
    pytest.param(
        "tiktok", "TIKTOK", "tiktok-multimodal", "2019-01-31T00:00Z",
        {"events": 68_722, "items": 6_710, "users": 9_308}, id="tiktok",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("pipeline", "variable", "folder", "at", "rows"), CASES)
def test_an_example_pipeline_reads_its_data(
    tmp_path: Path, pipeline: str, variable: str, folder: str, at: str, rows: dict[str, int]
) -> None:
    done = sextant(
        REPOSITORY, "run", pipeline, "--at", at,
        "--select", "+features", "--set", f"environment.lake={tmp_path / 'lake'}",
        "--set", f"environment.reports={tmp_path / 'reports'}",
        **{variable: str(SHARED / folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lake = tmp_path / "lake" / pipeline
    found = {table: DeltaTable(lake / table).to_pyarrow_dataset().count_rows() for table in rows}
    assert found == rows
    assert not DeltaTable(lake / "quarantine").to_pyarrow_dataset().count_rows()
