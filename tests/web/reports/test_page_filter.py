"""Tests of the filter in a page's address."""

import re
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from yarl import URL

from gateway.web.query_parameters import BadQuery
from gateway.web.reports.page_filter import PARAMETERS, VALUES, parse_filter
from gateway.web.reports.ranges import moment_text
from tests.helpers.records import NOON

WRONG = [
    ("range=8d", "range"),
    ("range=7d&from=2026-11-01", "range"),
    ("from=2026-11-31", "from"),
    ("from=2026-1-1", "from"),
    ("from=1999-12-31&to=2000-01-01", "from"),
    ("to=9999-12-31", "to"),
    ("from=2026-11-23&to=2026-11-22", "from"),
    ("from=2020-01-01&to=2026-11-22", "from"),
    ("zone=Mars/Base", "zone"),
    ("zone=../../etc/passwd", "zone"),
    ("zone=/etc/localtime", "zone"),
    ("zone=Europe", "zone"),
    ("status=2xy", "status"),
    ("status=600", "status"),
    ("outcome=great", "outcome"),
    ("compare=yes", "compare"),
    ("users=ada", "users"),
    ("model=a&model=b", "model"),
    (f"model={'a' * 1025}", "model"),
    ("model=a%00b", "model"),
]


def parsed(query, **options):
    return parse_filter(MultiDict(URL(f"/?{query}").query), now=NOON, **options)


@pytest.mark.parametrize(("query", "name"), WRONG)
def test_a_wrong_parameter_is_named(query, name):
    with pytest.raises(BadQuery) as caught:
        parsed(query)
    assert str(caught.value).startswith(f"{name}:")
    assert len(str(caught.value)) < 300


def test_an_empty_query_is_the_last_seven_days_in_utc():
    wanted = parsed("")
    assert (wanted.range.preset, wanted.zone.key, wanted.chips, wanted.compare) == ("7d", "UTC", (), False)
    assert (wanted.range.first.isoformat(), wanted.range.last.isoformat()) == ("2026-11-17", "2026-11-23")


def test_the_address_wins_over_the_readers_zone():
    assert parsed("zone=UTC", zone="Asia/Tokyo").zone.key == "UTC"
    assert parsed("", zone="Asia/Tokyo").zone.key == "Asia/Tokyo"
    assert parsed("", zone="../x").zone.key == "UTC"


def test_a_chip_removes_its_own_value_alone():
    wanted = parsed("range=30d&model=opus&status=5xx&user=ada@example.com&compare=1&zone=Asia/Tokyo")
    assert [(chip.name, chip.value) for chip in wanted.chips] == [
        ("user", "ada@example.com"), ("model", "opus"), ("status", "5xx"),
    ]  # fmt: skip
    without = parsed(wanted.chips[1].without)
    assert (without.model, without.user, without.status, without.compare) == (None, "ada@example.com", "5xx", True)
    assert (without.range.preset, without.zone.key) == ("30d", "Asia/Tokyo")


def test_statuses_become_bounds():
    assert parsed("status=5xx").selection().status == (500, 599)
    assert parsed("status=429").selection().status == (429, 429)
    assert parsed("status=4xx").of_calls == {"status_class": 4}


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1, max_size=50)


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("x-team", "x-team"),
        ("X-Team: alpha ", "x-team:alpha"),
        ("x-team:", "x-team:"),
        ("x-team:a:b", "x-team:a:b"),
        ("x-team:a\u202eb", "x-team:a\ufffdb"),
        ("", None),
    ],
)
def test_a_header_is_asked_as_it_is_recorded(text, term):
    wanted = parse_filter(MultiDict({"header": text}), now=NOON)
    assert wanted.header == wanted.selection().header == wanted.of_calls.get("header") == term
    assert parsed(wanted.query()).header == term


@given(st.dictionaries(st.sampled_from(["user", "model", "provider", "agent", "api", "session"]), TEXT))
def test_any_values_survive_an_address(values):
    """Check that a filter with hostile text can be written to an address and read again."""
    one = parse_filter(MultiDict({**values, "from": "2026-03-01", "to": "2026-03-31"}), now=NOON)
    again = parsed(one.query())
    assert {name: getattr(again, name) for name in VALUES} == {name: values.get(name) for name in VALUES}
    assert again.range == one.range
    assert set(URL(f"/?{one.query()}").query) <= set(PARAMETERS)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Europe/Berlin", "Australia/Lord_Howe"])
def test_every_hour_of_a_day_is_a_range_that_its_address_leads_to(zone):
    """Check that the address of each hour of a day selects exactly this hour, also on days on which the clocks change.

    The address of an hour that occurs twice has the offset from UTC.
    """
    for day in ("2026-10-25", "2026-03-29", "2026-04-05", "2026-11-23"):
        whole = parse_filter(MultiDict({"from": day, "to": day, "zone": zone}), now=NOON)
        for hour in whole.range.buckets("hour"):
            begin, end = (moment_text(at, whole.zone) for at in (hour.since, hour.until))
            wanted = parse_filter(MultiDict({"from": begin, "to": end, "zone": zone}), now=NOON)
            assert wanted.range.span == hour
            assert wanted.range.before.until == hour.since
            again = parse_filter(MultiDict(parse_qsl(wanted.query())), now=NOON)
            assert again.range == wanted.range
            assert str(again.range.first) == str(again.range.last) == day


@pytest.mark.parametrize(
    ("begin", "end", "said"),
    [
        ("2026-11-23T14:00", "2026-11-23", 'to: "2026-11-23" is no moment'),
        ("2026-11-23T14:00", "", 'to: "" is no moment'),
        ("2026-11-23T25:00", "2026-11-23T26:00", 'from: "2026-11-23T25:00" is no moment'),
        ("2026-11-23T14:00", "2026-11-23T14:00", "is not before"),
        ("2026-11-23T14:05", "2026-11-23T15:00", "is no quarter of an hour"),
        ("1999-11-23T14:00", "2026-11-23T15:00", "is no moment"),
        ("2001-11-23T14:00", "2026-11-23T15:00", "more than"),
    ],
)
def test_a_wrong_moment_is_named(begin, end, said):
    with pytest.raises(BadQuery, match=re.escape(said)):
        parse_filter(MultiDict({"from": begin, "to": end}), now=NOON)
