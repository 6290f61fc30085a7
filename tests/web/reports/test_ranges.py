"""Tests of a report's range of time, and of the buckets into which it is divided, in the reader's time zone. Clock
changes are included.
"""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.reports.values import QUARTER, Span
from gateway.web.reports.ranges import PRESETS, custom_range, cut, midnight, preset_range

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Tehran",
    "Australia/Lord_Howe", "Pacific/Chatham", "America/Havana", "Asia/Beirut", "Pacific/Apia", "America/Sao_Paulo",
)  # fmt: skip
NOW = st.datetimes(datetime(2001, 1, 1), datetime(2035, 1, 1)).map(lambda at: at.replace(tzinfo=UTC).timestamp())  # noqa: DTZ001


def at(text, zone):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@settings(max_examples=200)
@given(NOW, st.sampled_from(ZONES), st.sampled_from([preset for preset in PRESETS if preset != "custom"]))
def test_buckets_cover_a_range_without_gaps(now, zone, preset):
    """Check that the buckets of a report's range of time cover the range without gaps, and begin at quarter hours.

    The same must hold for the preceding range, with which the report compares. The two ranges must not overlap.
    """
    wanted = preset_range(preset, ZoneInfo(zone), now)
    for span, buckets in ((wanted.span, wanted.buckets()), (wanted.before, wanted.buckets_before())):
        assert (buckets[0].since, buckets[-1].until) == span
        assert all(one.until == other.since for one, other in pairwise(buckets))
        assert all(bucket.since % QUARTER == 0 and bucket.since < bucket.until for bucket in buckets)
        assert len(buckets) <= 100
    assert wanted.before.until <= wanted.span.since
    assert wanted.span.since <= now


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/Havana", "2026-03-08", 23),  # the clocks go forward at midnight
        ("America/Havana", "2026-11-01", 25),
        ("Asia/Beirut", "2026-03-29", 23),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Asia/Kathmandu", "2026-11-23", 24),
        ("Pacific/Chatham", "2026-09-27", 23),
    ],
)
def test_a_day_is_as_long_as_the_zones_clock_says(zone, day, hours):
    first = date.fromisoformat(day)
    span = custom_range(first, first, ZoneInfo(zone)).span
    assert (span.until - span.since) / 3600 == hours
    assert datetime.fromtimestamp(span.since, ZoneInfo(zone)).date() == first
    assert datetime.fromtimestamp(span.since - 1, ZoneInfo(zone)).date() == first - timedelta(1)


def test_the_range_before_ends_at_the_same_time_of_the_day():
    zone = ZoneInfo("Asia/Kolkata")
    wanted = preset_range("7d", zone, at("2026-11-23T10:20", "Asia/Kolkata"))
    assert wanted.span == (at("2026-11-17T00:00", zone.key), at("2026-11-23T10:30", zone.key))
    assert wanted.before == (at("2026-11-10T00:00", zone.key), at("2026-11-16T10:30", zone.key))


def test_a_month_is_compared_with_the_same_days_of_the_month_before():
    wanted = preset_range("month", ZoneInfo("UTC"), at("2026-03-31T12:00", "UTC"))
    assert wanted.span == (at("2026-03-01T00:00", "UTC"), at("2026-03-31T12:15", "UTC"))
    assert wanted.before == (at("2026-02-01T00:00", "UTC"), at("2026-02-28T12:15", "UTC"))
    whole = custom_range(date(2026, 3, 1), date(2026, 3, 31), ZoneInfo("UTC"))
    assert whole.before == (at("2026-02-01T00:00", "UTC"), at("2026-03-01T00:00", "UTC"))


def test_hours_of_a_zone_with_half_hours_begin_at_its_own_hours():
    zone = ZoneInfo("Asia/Kolkata")
    span = Span(at("2026-11-23T09:00", zone.key), at("2026-11-23T11:15", zone.key))
    assert [(bucket.since - span.since) / 3600 for bucket in cut(span, "hour", zone)] == [0, 1, 2]


def test_weeks_begin_on_monday():
    zone = ZoneInfo("Europe/Berlin")
    wanted = custom_range(date(2026, 7, 1), date(2026, 11, 30), zone)
    assert wanted.unit == "week"
    assert {datetime.fromtimestamp(bucket.since, zone).weekday() for bucket in wanted.buckets()[1:]} == {0}


def test_midnight_that_the_clocks_skip_is_the_moment_of_the_change():
    zone = ZoneInfo("America/Havana")
    assert datetime.fromtimestamp(midnight(date(2026, 3, 8), zone), zone).isoformat() == "2026-03-08T01:00:00-04:00"
