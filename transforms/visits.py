"""What users did within a window: acts, sessions and days (see `transforms.asof`)."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from pyspark.sql import Column
from pyspark.sql import functions as F

from transforms.asof import Past, sums
from transforms.schemas import EVENT_TYPES

_MICROS_PER_DAY = 86_400_000_000


VISITS = ("sessions", "in_session_us", "active_days")
"""What `visits` returns."""

COUNTS = tuple(f"count_{name}" for name in EVENT_TYPES)
"""What `by_kind` returns."""


def kind() -> Column:
    """Returns the place of an event's type in `EVENT_TYPES`, from 1; 0 for any other type."""
    return F.array_position(F.lit(list(EVENT_TYPES)), F.col("event_type")).cast("int")


def by_kind(kind_R: np.ndarray, start_P: np.ndarray, end_P: np.ndarray) -> dict[str, np.ndarray]:
    """Returns (P,) how many acts of each type a window holds, by the names of `COUNTS`."""
    return {
        name: sums(kind_R == number, start_P, end_P) for number, name in enumerate(COUNTS, start=1)
    }


def visits(
    acts: Past, start_P: np.ndarray, end_P: np.ndarray, session_gap: timedelta
) -> dict[str, np.ndarray]:
    """Counts the sessions of windows.

    The first act of a window opens a session and a day, whatever came before the window.

    Args:
        acts: Points among acts alone.
        start_P: Index of each window's first act.
        end_P: Index behind each window's last act.
        session_gap: Longest pause within a session.

    Returns:
        (P,) each: `sessions`; `in_session_us`, from each session's first act to its last;
        `active_days` (UTC), those with an act.
    """
    pause_R = np.diff(acts.row_at, prepend=0)
    in_session_R = pause_R <= session_gap // timedelta(microseconds=1)
    new_day_R = np.diff(acts.row_at // _MICROS_PER_DAY, prepend=0) != 0
    opened_P = (start_P < end_P).astype(np.int64)
    second_P = start_P + opened_P
    return {
        "sessions": opened_P + sums(~in_session_R, second_P, end_P),
        "in_session_us": sums(np.where(in_session_R, pause_R, 0), second_P, end_P),
        "active_days": opened_P + sums(new_day_R, second_P, end_P),
    }
