"""False alarms and power of the drift verdict in few runs; docs/results/drift.md has many."""

from __future__ import annotations

import pytest

from benchmarks.drift import KINDS, WITHIN, alerts, planted, quiet, section_planted


def test_alerts_count_what_the_interval_before_did_not_name():
    assert alerts([(), ("age",), ("age",), ("age", "device"), (), ("age",)]) == 3


@pytest.mark.slow
def test_quiet_intervals_raise_no_alert_and_planted_drifts_do():
    assert alerts(quiet(12, 2000, 5)) == 0
    runs = planted(2000, 0.0, float("inf"), 6)
    assert [run.kind for run in runs if run.found is not None and run.found <= WITHIN] == [*KINDS]
    assert "| burst | 1 | 100% |" in section_planted(runs, 2000, "x")
