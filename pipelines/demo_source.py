"""The section ``sources.demo``: size, period and planted properties of the built-in simulator."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipelines.intervals import text
from pipelines.records import Record, RefusedError, Share, Time

LEAST = {"users": 50, "items": 100}
"""The smallest world."""

PRESETS: dict[str, dict[str, Any]] = {
    "audience": {
        "users": 1_000_000,
        "items": 100_000,
        "events_per_user_day": 5.0,
        "vectors": False,
    },
    "catalogue": {
        "users": 100_000,
        "items": 1_000_000,
        "events_per_user_day": 20.0,
        "vectors": False,
    },
}
"""Preset name -> what it sets. The vectors of 100,000 items are 1.2 GB, so there are none."""


class Demo(Record):
    """The built-in simulator; it fills all four tables."""

    preset: Literal["audience", "catalogue"] | None = Field(
        None,
        description="Sizes to start from: `audience` has a million users and a tenth as many "
        "items, `catalogue` a million items and a tenth as many users; 28 days, no vectors.",
    )
    scale: float = Field(
        1.0, gt=0, le=1, description="Factor on the preset's users and items, such as 0.01."
    )
    users: int = Field(2000, ge=LEAST["users"], description="Users at the end of the period.")
    items: int = Field(1200, ge=LEAST["items"], description="Items at the end of the period.")
    days: int = Field(28, ge=1, le=3650, description="Length of the period, days.")
    start: Time = Field(
        "2026-01-05T00:00Z",
        validate_default=True,
        description="Its first instant, a midnight in UTC.",
    )
    events_per_user_day: float = Field(
        6.0, ge=1, le=200, description="Mean number of events of a user on an active day."
    )
    drift: Literal[
        "taste",
        "taste_alone",
        "device",
        "watch_time",
        "new_device",
        "missing_source",
        "burst",
        "none",
    ] = Field(
        "taste",
        description="What changes at `drift_at`: tastes and devices, only the one or the other, "
        "seconds watched, a device that appears, a device whose log is missing, an item that "
        "everybody sees, or nothing.",
    )
    drift_at: Time | None = Field(
        None, description="When; two days before the end of the period when not given."
    )
    new_user_share: float = Field(0.05, ge=0, le=0.5, description="Users who join meanwhile.")
    new_item_share: float = Field(0.15, ge=0, le=0.5, description="Items that come meanwhile.")
    exploration: Share = Field(0.15, description="Share of impressions drawn at random.")
    in_network_share: Share = Field(
        0.60, description="Share of users who only interact with authors they follow."
    )
    vectors: bool = Field(True, description="Whether items carry their vectors.")

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        sizes = PRESETS.get(str(value.get("preset")))
        scale = value.get("scale", 1.0)
        if sizes is None or not isinstance(scale, int | float) or not 0 < scale <= 1:
            return value  # what is wrong with them is said by their fields
        scaled = {
            name: max(LEAST[name], round(size * scale)) if name in LEAST else size
            for name, size in sizes.items()
        }
        return scaled | value

    @model_validator(mode="after")
    def _scale_of_something(self) -> Self:
        if self.preset is None and self.scale != 1.0:
            raise RefusedError(
                "has `scale` without a `preset`",
                f"Add preset: {' or '.join(PRESETS)}, or give `users` and `items` themselves.",
            )
        return self

    @model_validator(mode="after")
    def _within_the_period(self) -> Self:
        if self.start.time() != datetime.min.time():
            raise RefusedError(
                f"`start` is {text(self.start)}, no midnight in UTC",
                "Write a date, such as 2026-01-05.",
            )
        end = self.start + timedelta(days=self.days)
        if self.drift_at is not None and not self.start < self.drift_at < end:
            raise RefusedError(
                f"`drift_at` is {text(self.drift_at)}, outside the period from {text(self.start)} "
                f"to {text(end)}",
                "Write a time inside it, or `drift: none`.",
            )
        return self

    def settings(self) -> dict[str, Any]:
        """Return the settings of the simulator (`transforms.demo.DemoConfig`), the seed aside."""
        names = [name for name in type(self).model_fields if name not in ("preset", "scale")]
        return {name: getattr(self, name) for name in names}
