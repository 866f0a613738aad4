"""Intervals: boundaries, neighbours, and what is no interval."""

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest

from pipelines.errors import UsageError
from pipelines.intervals import (
    Interval,
    interval_containing,
    interval_ending,
    intervals_between,
    last_whole_interval,
    parse_every,
    parse_moment,
)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_an_interval_is_half_open_and_utc():
    interval = Interval(
        datetime(2026, 2, 2, 1, tzinfo=timezone(timedelta(hours=1))), at("2026-02-02T06:00")
    )
    assert str(interval) == "[2026-02-02T00:00Z, 2026-02-02T06:00Z)"
    assert interval.end_text == "2026-02-02T06:00Z"
    assert at("2026-02-02T00:00") in interval
    assert at("2026-02-02T06:00") not in interval
    assert interval.start.tzinfo is UTC


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (
            at("2026-02-02"), at("2026-02-02"),
            "interval [2026-02-02T00:00Z, 2026-02-02T00:00Z) has no length: its end must be after "
            "its start",
        ),
        (
            at("2026-02-03"), at("2026-02-02"),
            "interval [2026-02-03T00:00Z, 2026-02-02T00:00Z) has no length: its end must be after "
            "its start",
        ),
        (
            datetime(2026, 2, 2), at("2026-02-03"),
            "interval start 2026-02-02T00:00:00 has no time zone",
        ),
    ],
)  # fmt: skip
def test_an_interval_has_a_length_and_a_zone(start, end, message):
    with pytest.raises(ValueError) as caught:
        Interval(start, end)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("moment", "every", "start", "end"),
    [
        ("2026-02-02T07:30", "6h", "2026-02-02T06:00", "2026-02-02T12:00"),
        ("2026-02-02T06:00", "6h", "2026-02-02T06:00", "2026-02-02T12:00"),
        ("2026-02-02T05:59:59.999999", "6h", "2026-02-02T00:00", "2026-02-02T06:00"),
        ("2026-02-02T07:30", "12h", "2026-02-02T00:00", "2026-02-02T12:00"),
        ("2026-02-02T07:30", "24h", "2026-02-02T00:00", "2026-02-03T00:00"),
        ("2026-02-02T07:30", "1d", "2026-02-02T00:00", "2026-02-03T00:00"),
        ("2026-02-04T07:30", "7d", "2026-02-02T00:00", "2026-02-09T00:00"),
        ("1969-12-31T12:00", "6h", "1969-12-31T12:00", "1969-12-31T18:00"),
        ("2026-02-28T23:00", "1mo", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("2024-02-29T12:00", "1mo", "2024-02-01T00:00", "2024-03-01T00:00"),
        ("2025-12-31T12:00", "1mo", "2025-12-01T00:00", "2026-01-01T00:00"),
        ("2026-02-10T12:00", "3mo", "2026-01-01T00:00", "2026-04-01T00:00"),
    ],
)
def test_the_interval_that_contains_a_moment(moment, every, start, end):
    assert interval_containing(at(moment), every) == Interval(at(start), at(end))


@pytest.mark.parametrize(
    ("end", "every", "start"),
    [
        ("2026-02-02T06:00", "6h", "2026-02-02T00:00"),
        ("2026-02-02T00:00", "6h", "2026-02-01T18:00"),
        ("2026-03-01T00:00", "1mo", "2026-02-01T00:00"),
        ("2026-02-09T00:00", "7d", "2026-02-02T00:00"),
    ],
)
def test_the_interval_that_ends_at_a_boundary(end, every, start):
    assert interval_ending(at(end), every) == Interval(at(start), at(end))


def test_a_boundary_in_another_zone():
    moment = datetime(2026, 2, 2, 7, tzinfo=timezone(timedelta(hours=1)))
    assert interval_ending(moment, "6h").end == at("2026-02-02T06:00")


@pytest.mark.parametrize(
    ("moment", "every", "message"),
    [
        (
            "2026-02-02T07:30", "6h",
            "--at 2026-02-02T07:30Z is not where an interval of 6h ends. The nearest ends are "
            "2026-02-02T06:00Z and 2026-02-02T12:00Z.",
        ),
        (
            "2026-02-02T06:00:00.000001", "6h",
            "--at 2026-02-02T06:00:00.000001Z is not where an interval of 6h ends. The nearest "
            "ends are 2026-02-02T06:00Z and 2026-02-02T12:00Z.",
        ),
        (
            "2026-02-15", "1mo",
            "--at 2026-02-15T00:00Z is not where an interval of 1mo ends. The nearest ends are "
            "2026-02-01T00:00Z and 2026-03-01T00:00Z.",
        ),
    ],
)  # fmt: skip
def test_other_moments_name_the_two_nearest_ends(moment, every, message):
    with pytest.raises(UsageError) as caught:
        interval_ending(at(moment), every)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("latest", "earliest", "every", "end"),
    [
        ("2026-02-02T13:00", "2026-01-05", "6h", "2026-02-02T12:00"),
        ("2026-02-02T12:00", "2026-01-05", "6h", "2026-02-02T12:00"),
        ("2026-02-02T11:59", "2026-01-05", "6h", "2026-02-02T06:00"),
        ("2026-02-02T11:59", "2026-02-02T06:00", "6h", "2026-02-02T12:00"),
        ("2026-02-02T11:59", "2026-02-02T05:59", "6h", "2026-02-02T06:00"),
        ("2026-02-15", None, "1mo", "2026-02-01"),
    ],
)
def test_the_last_whole_interval(latest, earliest, every, end):
    first = at(earliest) if earliest else None
    assert last_whole_interval(at(latest), every, first).end == at(end)


def test_intervals_between_cover_without_gap_or_overlap():
    found = intervals_between(at("2026-01-30"), at("2026-02-02"), "6h")
    assert len(found) == 12
    assert (found[0].start, found[-1].end) == (at("2026-01-30"), at("2026-02-02"))
    assert all(one.end == next_.start for one, next_ in pairwise(found))
    months = intervals_between(at("2025-11-01"), at("2026-02-01"), "1mo")
    assert [(i.end - i.start).days for i in months] == [30, 31, 31]


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (
            "2026-02-02", "2026-02-02",
            "--from 2026-02-02T00:00Z is not before --to 2026-02-02T00:00Z: there is no interval "
            "between them.",
        ),
        (
            "2026-02-01T01:00", "2026-02-02",
            "--from 2026-02-01T01:00Z is not where an interval of 6h ends. The nearest ends are "
            "2026-02-01T00:00Z and 2026-02-01T06:00Z.",
        ),
        (
            "2026-02-01", "2026-02-01T05:00",
            "--to 2026-02-01T05:00Z is not where an interval of 6h ends. The nearest ends are "
            "2026-02-01T00:00Z and 2026-02-01T06:00Z.",
        ),
    ],
)  # fmt: skip
def test_a_range_begins_and_ends_at_boundaries(start, end, message):
    with pytest.raises(UsageError) as caught:
        intervals_between(at(start), at(end), "6h")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("every", "parsed"),
    [
        ("6h", (6, "h")),
        ("24h", (24, "h")),
        ("1d", (1, "d")),
        ("30d", (30, "d")),
        ("1mo", (1, "mo")),
    ],
)
def test_every(every, parsed):
    assert parse_every(every) == parsed


@pytest.mark.parametrize(
    ("every", "message"),
    [
        *(
            (every, f"`{every}` is no interval; write one such as 6h, 12h, 1d, 7d or 1mo")
            for every in ("", "6", "h", "0h", "-6h", "6 h", "1.5h", "1w", "6H", "1m", "0 6 * * *")
        ),
        (
            "5h",
            "`5h` does not divide 24 hours, so its boundaries would move; write one of 1h, 2h, 3h, "
            "4h, 6h, 8h, 12h, 24h",
        ),
        (
            "48h",
            "`48h` does not divide 24 hours, so its boundaries would move; write one of 1h, 2h, "
            "3h, 4h, 6h, 8h, 12h, 24h",
        ),
        (
            "5mo",
            "`5mo` does not divide 12 months, so its boundaries would move; write one of 1mo, 2mo, "
            "3mo, 4mo, 6mo, 12mo",
        ),
    ],
)  # fmt: skip
def test_no_interval(every, message):
    with pytest.raises(ValueError) as caught:
        parse_every(every)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-02-02", "2026-02-02T00:00"),
        ("2026-02-02T06:00", "2026-02-02T06:00"),
        ("2026-02-02 06:00", "2026-02-02T06:00"),
        ("2026-02-02T06:00Z", "2026-02-02T06:00"),
        ("2026-02-02T06:00:00.5Z", "2026-02-02T06:00:00.500000"),
        ("2026-02-02T07:00+01:00", "2026-02-02T06:00"),
        ("2026-02-01T22:00-08:00", "2026-02-02T06:00"),
        (date(2026, 2, 2), "2026-02-02T00:00"),
    ],
)
def test_moments(written, moment, monkeypatch):
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    assert parse_moment(written) == at(moment)


@pytest.mark.parametrize("written", ["", "now", "2026-13-01", "1767571200", "02/02/2026"])
def test_no_moment(written):
    with pytest.raises(UsageError) as caught:
        parse_moment(written, "--to")
    assert str(caught.value) == (
        f"--to {written}: `{written}` is no ISO date or time; write one such as 2026-02-02 or "
        "2026-02-02T06:00Z."
    )


@pytest.mark.parametrize(
    "written", ["0001-01-01T00:00+12:00", "1899-12-31", "2200-01-01", "9999-12-31T23:00-12:00"]
)
def test_moments_that_nobody_means(written):
    with pytest.raises(UsageError, match="lies outside the years 1900 to 2199"):
        parse_moment(written)


def test_the_ends_of_the_calendar():
    with pytest.raises(UsageError, match="outside the years that can be counted"):
        interval_containing(at("9999-12-31T23:00"), "1mo")
