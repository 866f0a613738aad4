"""Intervals: half-open stretches of UTC time, `[start, end)`, cut at fixed boundaries.

Hours are counted from midnight, days from Monday 1970-01-05 (so that ``7d`` is a calendar week) and
months by the calendar: the boundaries of an ``every`` are the same for every pipeline, whenever it
began.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pipelines.errors import UsageError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
_EVERY = re.compile(r"([1-9]\d{0,3})(h|d|mo)")
_DAY_HOURS = 24
_YEAR_MONTHS = 12
_FIRST_YEAR, _LAST_YEAR = 1900, 2199


@dataclass(frozen=True, order=True)
class Interval:
    """A half-open stretch of time.

    Args:
        start: First instant that belongs to it.
        end: First instant after it; a run for the interval sees only what is earlier.

    Raises:
        ValueError: When a time has no zone, or the interval has no length.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            moment = getattr(self, name)
            if moment.tzinfo is None:
                raise ValueError(f"interval {name} {moment.isoformat()} has no time zone")
            object.__setattr__(self, name, moment.astimezone(UTC))
        if self.start >= self.end:
            raise ValueError(
                f"interval [{text(self.start)}, {text(self.end)}) has no length: "
                "its end must be after its start"
            )

    def __str__(self) -> str:
        return f"[{self.start_text}, {self.end_text})"

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    @property
    def start_text(self) -> str:
        """The start as ``--at`` accepts it."""
        return text(self.start)

    @property
    def end_text(self) -> str:
        """The end as ``--at`` accepts it."""
        return text(self.end)


def text(moment: datetime) -> str:
    """Write a moment as short as it allows: `2026-02-02T06:00Z`."""
    moment = moment.astimezone(UTC)
    if moment.microsecond:
        return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z" if moment.second else f"{moment:%Y-%m-%dT%H:%M}Z"


def parse_every(every: str) -> tuple[int, str]:
    """Split ``6h``, ``7d`` or ``1mo`` into its count and unit (``h``, ``d``, ``mo``).

    Raises:
        ValueError: For anything else, and for hours or months that do not divide a day or a year.
    """
    match = _EVERY.fullmatch(every)
    if match is None:
        raise ValueError(f"`{every}` is no interval; write one such as 6h, 12h, 1d, 7d or 1mo")
    count, unit = int(match[1]), match[2]
    for this, whole, noun in (("h", _DAY_HOURS, "hours"), ("mo", _YEAR_MONTHS, "months")):
        if unit == this and whole % count:
            fits = ", ".join(f"{n}{this}" for n in range(1, whole + 1) if whole % n == 0)
            raise ValueError(
                f"`{every}` does not divide {whole} {noun}, so its boundaries would move; "
                f"write one of {fits}"
            )
    return count, unit


def parse_moment(value: str | date, option: str = "--at") -> datetime:
    """Read an ISO date or time; without a zone it is UTC.

    Args:
        value: Such as ``2026-02-02``, ``2026-02-02T06:00Z`` or ``2026-02-02T06:00+01:00``.
        option: What the value was given to, for the message.

    Raises:
        UsageError: When it is no such thing.
    """
    try:
        return to_utc(value)
    except ValueError as error:
        raise UsageError(f"{option} {value}: {error}.") from None


def to_utc(value: str | date) -> datetime:
    """Read an ISO date or time as a UTC instant; without a zone it is UTC.

    Raises:
        ValueError: When it is no such thing.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(
                f"`{value}` is no ISO date or time; write one such as 2026-02-02 or "
                "2026-02-02T06:00Z"
            ) from None
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    # Years far off are mistakes of a unit, and room on both sides keeps arithmetic on them safe.
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise ValueError(f"`{value}` lies outside the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def interval_containing(moment: datetime, every: str) -> Interval:
    """Return the interval that a moment belongs to."""
    moment = moment.astimezone(UTC)
    count, unit = parse_every(every)
    try:
        if unit == "mo":
            month = (moment.year * _YEAR_MONTHS + moment.month - 1) // count * count
            return Interval(_month(month), _month(month + count))
        width = timedelta(hours=count) if unit == "h" else timedelta(days=count)
        start = _MONDAY + (moment - _MONDAY) // width * width
        return Interval(start, start + width)
    except (OverflowError, ValueError):
        raise UsageError(f"{text(moment)} lies outside the years that can be counted.") from None


def interval_ending(at: datetime, every: str, option: str = "--at") -> Interval:
    """Return the interval that ends at a boundary.

    Raises:
        UsageError: When the moment is no boundary; names the two nearest ones.
    """
    around = interval_containing(at, every)
    if around.start != at:
        raise UsageError(
            f"{option} {text(at)} is not where an interval of {every} ends. The nearest ends are "
            f"{around.start_text} and {around.end_text}."
        )
    return interval_containing(at - timedelta(microseconds=1), every)


def last_whole_interval(
    latest_event: datetime, every: str, earliest_event: datetime | None = None
) -> Interval:
    """Return the newest interval whose data is complete: it ends at or before the latest event.

    Args:
        latest_event: Time of the newest event.
        every: Length of the intervals.
        earliest_event: Time of the oldest event, where known. Data that lies inside one interval
            has no whole one; the interval that contains it is returned then.
    """
    around = interval_containing(latest_event, every)
    if earliest_event is not None and earliest_event >= around.start:
        return around
    return interval_containing(around.start - timedelta(microseconds=1), every)


def intervals_between(start: datetime, end: datetime, every: str) -> list[Interval]:
    """Return the intervals that lie within `[start, end)`, oldest first.

    Raises:
        UsageError: When a moment is no boundary, or the end is not after the start.
    """
    if start >= end:
        raise UsageError(
            f"--from {text(start)} is not before --to {text(end)}: there is no interval between "
            "them."
        )
    interval_ending(start, every, "--from")
    interval_ending(end, every, "--to")
    found = [interval_containing(start, every)]
    while found[-1].end < end:
        found.append(interval_containing(found[-1].end, every))
    return found


def from_micros(micros: int) -> datetime:
    """Return the moment that lies so many microseconds after 1970, exactly."""
    return _EPOCH + timedelta(microseconds=micros)


def _month(number: int) -> datetime:
    year, month = divmod(number, _YEAR_MONTHS)
    return datetime(year, month + 1, 1, tzinfo=UTC)
