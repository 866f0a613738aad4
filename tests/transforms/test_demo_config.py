"""Settings of the demo world: what is refused, and in which words."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from transforms.demo import DemoConfig, DemoConfigError, DemoWorld

START = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"users": 49}, "demo: users is 49; give at least 50."),
        ({"items": 99}, "demo: items is 99; give at least 100."),
        ({"days": 0}, "demo: days is 0; give at least 1."),
        ({"seed": -1}, "demo: seed is -1; give zero or a positive number."),
        (
            {"events_per_user_day": 0.5},
            "demo: events_per_user_day is 0.5; give a number from 1 to 200.",
        ),
        (
            {"events_per_user_day": float("nan")},
            "demo: events_per_user_day is nan; give a number from 1 to 200.",
        ),
        ({"new_user_share": 0.6}, "demo: new_user_share is 0.6; give a share from 0 to 0.5."),
        ({"new_item_share": -0.1}, "demo: new_item_share is -0.1; give a share from 0 to 0.5."),
        ({"exploration": 1.5}, "demo: exploration is 1.5; give a share from 0 to 1."),
        ({"in_network_share": 60}, "demo: in_network_share is 60; give a share from 0 to 1."),
        (
            {"drift": "tast"},
            "demo: drift is 'tast'; give one of burst, device, missing_source, new_device, none, "
            "taste, taste_alone, watch_time.",
        ),
        (
            {"start": datetime(2026, 1, 5, 6, tzinfo=UTC)},
            "demo: start is 2026-01-05T06:00:00+00:00; "
            "give a midnight in UTC such as 2026-01-05T00:00:00+00:00.",
        ),
        (
            {"start": datetime(2026, 1, 5)},
            "demo: start is 2026-01-05T00:00:00; "
            "give a midnight in UTC such as 2026-01-05T00:00:00+00:00.",
        ),
        (
            {"drift_at": datetime(2026, 1, 20, tzinfo=timezone(timedelta(hours=2)))},
            "demo: drift_at is 2026-01-20T00:00:00+02:00; give a time in UTC.",
        ),
        (
            {"drift_at": datetime(2026, 2, 20, tzinfo=UTC)},
            "demo: drift_at is 2026-02-20T00:00:00+00:00, outside the period from "
            "2026-01-05T00:00:00+00:00 to 2026-02-02T00:00:00+00:00; "
            "give a moment inside it, or drift: none.",
        ),
        (
            {"days": 2},
            "demo: drift_at is 2026-01-05T00:00:00+00:00, outside the period from "
            "2026-01-05T00:00:00+00:00 to 2026-01-07T00:00:00+00:00; "
            "give a moment inside it, or drift: none.",
        ),
    ],
)
def test_impossible_settings_are_refused_in_words(settings, message):
    with pytest.raises(DemoConfigError) as caught:
        DemoConfig(**settings)
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)


def test_the_drift_comes_two_days_before_the_end_unless_it_is_given():
    assert DemoConfig().drift_moment == START + timedelta(days=26)
    assert DemoConfig(drift_at=START + timedelta(days=9)).drift_moment == START + timedelta(days=9)
    assert DemoConfig(drift="none").drift_moment is None


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (
            START + timedelta(days=2),
            START,
            "from 2026-01-07T00:00:00+00:00 to 2026-01-05T00:00:00+00:00",
        ),
        (
            datetime(2026, 1, 5),
            START,
            "from 2026-01-05T00:00:00 to 2026-01-05T00:00:00+00:00",
        ),
    ],
)
def test_an_interval_needs_two_ordered_times_with_a_zone(start, end, words):
    world = DemoWorld(DemoConfig(users=50, items=100, days=3))
    with pytest.raises(DemoConfigError) as caught:
        world.events_between(start, end)
    assert str(caught.value) == (
        f"demo: the interval {words} is not one; "
        "give two times with a time zone, the earlier one first."
    )
