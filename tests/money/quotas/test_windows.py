"""Tests of the borders of calendar windows in time zones: all months, both clock changes of a year, and skipped
days.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.money.quotas.windows import NEVER, UnknownZone, Window, time_zone

SECOND = 1_000_000_000


def at(text):
    """Return a time, such as 2026-03-29T00:00+01:00, in nanoseconds of Unix time."""
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("unit", "zone", "now", "border"),
    [
        ("month", "UTC", "2026-01-31T23:59:59+00:00", "2026-02-01T00:00+00:00"),
        ("month", "UTC", "2026-02-01T00:00:00+00:00", "2026-03-01T00:00+00:00"),
        ("month", "UTC", "2028-02-29T12:00:00+00:00", "2028-03-01T00:00+00:00"),
        ("month", "UTC", "2026-12-31T23:00:00+00:00", "2027-01-01T00:00+00:00"),
        ("month", "Europe/Berlin", "2026-11-30T22:59:59+00:00", "2026-12-01T00:00+01:00"),
        ("month", "Europe/Berlin", "2026-11-30T23:00:00+00:00", "2027-01-01T00:00+01:00"),
        ("month", "Europe/Berlin", "2026-03-15T12:00:00+01:00", "2026-04-01T00:00+02:00"),
        ("month", "Asia/Kolkata", "2026-04-30T18:29:59+00:00", "2026-05-01T00:00+05:30"),
        ("week", "UTC", "2026-11-29T23:59:59+00:00", "2026-11-30T00:00+00:00"),
        ("week", "UTC", "2026-11-30T00:00:00+00:00", "2026-12-07T00:00+00:00"),
        ("week", "America/New_York", "2026-03-07T12:00:00-05:00", "2026-03-09T00:00-04:00"),
        # the day of 23 hours and the day of 25 hours
        ("day", "Europe/Berlin", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00+02:00"),
        ("day", "Europe/Berlin", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00+01:00"),
        # midnight is skipped: the day begins at one
        ("day", "Africa/Cairo", "2026-04-23T12:00:00+02:00", "2026-04-24T01:00+03:00"),
        ("day", "America/Santiago", "2026-09-05T12:00:00-04:00", "2026-09-06T01:00-03:00"),
        # midnight occurs twice: the first one counts
        ("day", "America/Havana", "2026-10-31T12:00:00-04:00", "2026-11-01T00:00-04:00"),
        ("day", "America/Havana", "2026-11-01T00:30:00-05:00", "2026-11-02T00:00-05:00"),
        # 30 December 2011 did not exist
        ("day", "Pacific/Apia", "2011-12-29T12:00:00-10:00", "2011-12-31T00:00+14:00"),
        # the clocks were put forward from 23:30 to 0:30
        ("day", "America/Toronto", "1919-03-30T12:00:00-05:00", "1919-03-31T00:30-04:00"),
        ("hour", "Asia/Kolkata", "2026-05-01T00:10:00+05:30", "2026-05-01T01:00+05:30"),
        ("hour", "Europe/Berlin", "2026-10-25T02:10:00+02:00", "2026-10-25T02:00+01:00"),
        ("hour", "Europe/Berlin", "2026-10-25T02:10:00+01:00", "2026-10-25T03:00+01:00"),
        ("hour", "Europe/Berlin", "2026-03-29T01:10:00+01:00", "2026-03-29T03:00+02:00"),
        ("hour", "Asia/Kathmandu", "2026-05-01T00:10:00+05:45", "2026-05-01T01:00+05:45"),
    ],
)
def test_a_window_ends_at_the_border_in_its_zone(unit, zone, now, border):
    assert Window(unit, zone).after(at(now)) == at(border)


@given(
    st.sampled_from(["hour", "day", "week", "month"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "America/Havana", "Africa/Cairo"]),
    st.integers(1_500_000_000, 2_500_000_000),
)
def test_nothing_between_a_time_and_its_border_is_of_another_window(unit, zone, second):
    border = Window(unit, zone).after(second * SECOND) // SECOND
    assert second < border <= second + 32 * 86_400
    names = {
        "hour": lambda local: (local.date(), local.hour),
        "day": datetime.date,
        "week": lambda local: local.isocalendar()[:2],
        "month": lambda local: (local.year, local.month),
    }

    def name(moment):
        return names[unit](datetime.fromtimestamp(moment, ZoneInfo(zone)))

    assert name(second) == name(border - 1)
    assert name(border) != name(border - 1) or unit == "hour"


@pytest.mark.parametrize("second", [2**62, -(2**62), 253_402_300_799])
def test_a_time_that_no_calendar_has_is_never_followed_by_a_border(second):
    assert Window("month").after(second * SECOND) == NEVER


@pytest.mark.parametrize("name", ["", "Europe", "Europe/Berlim", "../../etc/passwd", "/etc/localtime", "UTC\0"])
def test_a_name_of_no_zone_is_refused(name):
    with pytest.raises(UnknownZone):
        time_zone(name)


def test_utc_needs_no_data():
    assert time_zone("UTC") is UTC
    assert datetime.now(UTC).utcoffset() == timedelta(0)
