"""What a stage takes: its own processor time and memory, and those of its children."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime

import psutil
import pyarrow as pa
import pytest

from pipelines import state
from pipelines.lake import Lake
from pipelines.state import RunHistory, StageRun
from pipelines.usage import Usage

BURN = """
import time
held = bytearray({held})
end = time.process_time() + {seconds}
while time.process_time() < end:
    sum(range(1000))
"""


def burn(seconds: float, held: int = 0) -> None:
    exec(BURN.format(seconds=seconds, held=held))


def test_seconds_of_this_process_count_from_the_beginning():
    burn(0.3)
    with Usage() as usage:
        burn(0.3)
        time.sleep(0.3)
    assert usage.cpu_seconds == pytest.approx(0.3, abs=0.2)


@pytest.mark.slow
def test_children_count_that_end_meanwhile_and_only_from_the_beginning():
    code = BURN.format(seconds=1.5, held=200 * 2**20) + "\nimport sys; sys.stdin.read()"
    long = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while sum(psutil.Process(long.pid).cpu_times()[:2]) < 1.5 and time.monotonic() < deadline:
        time.sleep(0.05)
    with Usage() as usage:
        code = BURN.format(seconds=4.5, held=0)
        subprocess.run([sys.executable, "-c", code], check=True)
    long.communicate(b"")
    # The last sample of a child lies up to two seconds before its end.
    assert 2.0 < usage.cpu_seconds < 6.0
    assert usage.peak_mb > 200


def test_rows_without_the_column_read_as_unknown(tmp_path, monkeypatch):
    lake = Lake(str(tmp_path), "demo")
    full = state._schema()
    before = pa.schema([field for field in full if field.name != "cpu_seconds"])
    with monkeypatch.context() as patch:
        patch.setattr(state, "_schema", lambda: before)
        RunHistory(lake).record(_run(None))
    assert [run.cpu_seconds for run in RunHistory(lake).runs] == [None]
    RunHistory(lake).record(_run(2.5))
    assert [run.cpu_seconds for run in RunHistory(lake).runs] == [None, 2.5]


def _run(cpu_seconds):
    end = datetime(2026, 2, 2, 6 if cpu_seconds else 0, tzinfo=UTC)
    return StageRun(
        run_id="demo",
        pipeline="demo",
        stage="validate",
        interval_start=end,
        interval_end=end,
        status="succeeded",
        fingerprint="f",
        started_at=end,
        seconds=1.0,
        peak_memory_mb=1.0,
        rows_in=0,
        rows_out=0,
        tables_in={},
        tables_out={},
        spec_hash="s",
        commit="c",
        cpu_seconds=cpu_seconds,
    )
