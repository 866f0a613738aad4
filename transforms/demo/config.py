"""What a demo world is made from: a handful of plain values, checked once.

The simulator is a pure function of `DemoConfig`; nothing else (clock, machine, number of calls) may
change a byte of what it returns.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

DRIFTS: Final[dict[str, tuple[str, ...]]] = {
    "none": (),
    "device": ("device",),
    "taste": ("taste", "device"),
    "taste_alone": ("taste",),
    "watch_time": ("watch_time",),
    "new_device": ("new_device",),
    "missing_source": ("missing_source",),
    "burst": ("burst",),
}
"""Drift name -> the kinds of change that it plants at `drift_at`."""

TASTE_CHANGE_SHARE: Final = 0.30
"""Share of users whose taste changes at a drift of kind `taste`."""

DEVICE_SHIFT_SHARE: Final = 0.35
"""Share of sessions that move to the television at a drift of kind `device`."""

DEFAULT_DRIFT_LEAD: Final = timedelta(days=2)

_MIN_USERS = 50
_MIN_ITEMS = 100


class DemoConfigError(ValueError):
    """A demo setting that no world can be built from."""


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """Size, period and planted properties of a demo world."""

    users: int = 2000
    """Users at the end of the period, those who join during it included; at least 50."""
    items: int = 1200
    """Items at the end of the period, those published during it included; at least 100."""
    days: int = 28
    """Length of the period in days of 24 hours."""
    start: datetime = datetime(2026, 1, 5, tzinfo=UTC)
    """First instant of the period: a midnight in UTC."""
    events_per_user_day: float = 6.0
    """Mean events of a user on a day they open the app, which is three days in four on average."""
    drift_at: datetime | None = None
    """Moment of the planted drift; two days before the end when not given."""
    drift: str = "taste"
    """`taste` (30 % of the users change taste, 35 % of the sessions move to the television),
    `taste_alone`, `device` (only the one or the other), one of the kinds that
    `transforms.demo.plants` plants into the log, or `none`."""
    seed: int = 42
    """Seed of everything that is drawn; not negative."""
    new_user_share: float = 0.05
    """Share of the users who join during the period."""
    new_item_share: float = 0.15
    """Share of the items that are published during the period."""
    exploration: float = 0.15
    """Share of the impressions drawn uniformly from the catalogue (`exploration` is true there)."""
    in_network_share: float = 0.60
    """Share of the users who interact only with items of authors they follow (DE-30)."""
    vectors: bool = True
    """Whether items carry their video, audio and text vectors; all null when false."""

    def __post_init__(self) -> None:
        """Refuse settings that no world can be built from.

        Raises:
            DemoConfigError: with the setting, its value and what to write instead.
        """
        self._check_numbers()
        self._check_times()

    @property
    def end(self) -> datetime:
        """First instant after the period."""
        return self.start + timedelta(days=self.days)

    @property
    def drift_moment(self) -> datetime | None:
        """Moment of the planted drift, or None for a world without one."""
        if self.drift == "none":
            return None
        return self.drift_at if self.drift_at is not None else self.end - DEFAULT_DRIFT_LEAD

    def rng(self, *path: int) -> np.random.Generator:
        """Return the generator of one named part of the world.

        `SeedSequence(seed, spawn_key=path)` is what spawning children along `path` gives, reachable
        in any order, so no part's draws shift those of another.
        """
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=path))

    def _check_numbers(self) -> None:
        for name, minimum in (("users", _MIN_USERS), ("items", _MIN_ITEMS), ("days", 1)):
            value = getattr(self, name)
            if value < minimum:
                raise DemoConfigError(f"demo: {name} is {value}; give at least {minimum}.")
        if self.seed < 0:
            raise DemoConfigError(f"demo: seed is {self.seed}; give zero or a positive number.")
        if not 1.0 <= self.events_per_user_day <= 200.0:
            raise DemoConfigError(
                f"demo: events_per_user_day is {self.events_per_user_day}; "
                "give a number from 1 to 200."
            )
        for name, maximum in (
            ("new_user_share", 0.5),
            ("new_item_share", 0.5),
            ("exploration", 1.0),
            ("in_network_share", 1.0),
        ):
            value = getattr(self, name)
            if not 0.0 <= value <= maximum:
                raise DemoConfigError(
                    f"demo: {name} is {value}; give a share from 0 to {maximum:g}."
                )

    def _check_times(self) -> None:
        if self.start.utcoffset() != timedelta(0) or self.start != self.start.replace(
            hour=0, minute=0, second=0, microsecond=0
        ):
            raise DemoConfigError(
                f"demo: start is {self.start.isoformat()}; "
                "give a midnight in UTC such as 2026-01-05T00:00:00+00:00."
            )
        if self.drift not in DRIFTS:
            raise DemoConfigError(
                f"demo: drift is {self.drift!r}; give one of {', '.join(sorted(DRIFTS))}."
            )
        moment = self.drift_moment
        if moment is None:
            return
        if moment.utcoffset() != timedelta(0):
            raise DemoConfigError(f"demo: drift_at is {moment.isoformat()}; give a time in UTC.")
        if not self.start < moment < self.end:
            raise DemoConfigError(
                f"demo: drift_at is {moment.isoformat()}, outside the period from "
                f"{self.start.isoformat()} to {self.end.isoformat()}; "
                "give a moment inside it, or drift: none."
            )


def micros(moment: datetime) -> int:
    """Return microseconds since 1970-01-01 UTC, exactly (no float in between)."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
