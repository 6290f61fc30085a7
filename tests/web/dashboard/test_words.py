"""Tests of how pages write numbers and times for people, and of the values from which pages are made, such as those of
a provider's card.
"""

import shlex
from zoneinfo import ZoneInfo

import orjson
import pytest

from gateway.money.prices.table import Prices
from gateway.upstream.refused_keys import RefusedKeys
from gateway.web.dashboard import views, words
from tests.helpers.records import HAIKU, NOON
from tests.web.dashboard.application import CONFIG, KEY


@pytest.mark.parametrize(
    ("nanodollars", "text"),
    [
        (None, "unknown"),
        (0, "$0.00"),
        (1, "< $0.0001"),
        (100_000, "$0.0001"),
        (12_345_678, "$0.0123"),
        (1_500_000_000, "$1.50"),
        (1_234_567_890_000_000, "$1,234,567.89"),
    ],
)
def test_money_has_the_digits_that_say_something(nanodollars, text):
    assert words.money(nanodollars) == text


@pytest.mark.parametrize(("value", "text"), [(None, "unknown"), (1, "$0.000000001"), (2_500_000_000, "$2.500000000")])
def test_exact_money_has_all_digits(value, text):
    assert words.exact(value) == text


@pytest.mark.parametrize(
    ("unit", "text"),
    [(None, "unknown"), (1_000_000_000, "$1.00"), (5_500_000_000, "$5.50"), (35_000_000, "$0.035"), (0, "$0.00")],
)
def test_a_price_keeps_all_its_digits(unit, text):
    assert words.price(unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "just now"),
        (0, "just now"),
        (42, "42 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h ago"),
        (86400 * 3, "3 d ago"),
        (86400 * 40, "14 Oct 2026"),
    ],
)
def test_an_age_is_told_roughly(seconds, text):
    assert words.ago(NOON - seconds, NOON) == text


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "2026-11-23 12:00:00 UTC"),
        ("Asia/Kolkata", "2026-11-23 17:30:00 IST"),
        ("America/Sao_Paulo", "2026-11-23 09:00:00 -03"),
    ],
)
def test_a_time_is_that_of_a_zone_and_says_so(zone, text):
    assert words.clock(NOON, ZoneInfo(zone)) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (50.0, "≤ 50 ms"), (50.6, "51 ms"), (1500, "1.5 s"), (500_000, "≥ 500.0 s")]
)
def test_a_percentile_outside_the_histogram_is_a_limit(value, text):
    assert words.percentile(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (12.3, "12 ms"), (1500, "1.5 s")])
def test_a_duration_is_in_milliseconds_or_seconds(value, text):
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("bedrock-runtime.us-east-1.amazonaws.com", "us-east-1"),
        ("bedrock-runtime.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("bedrock-runtime-fips.ap-southeast-2.amazonaws.com", "ap-southeast-2"),
        ("bedrock-mantle.eu-west-1.api.aws", "eu-west-1"),
        ("bedrock-runtime.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
        ("api.anthropic.com", ""),
        ("127.0.0.1", ""),
        ("", ""),
    ],
)
def test_a_region_is_read_from_the_host(host, region):
    assert views.region(host) == region


def cards(granted, *, everything):
    return views.provider_cards(CONFIG.providers.values(), granted, Prices.load(), RefusedKeys(), everything=everything)


def test_a_user_sees_providers_with_granted_models_only():
    (card,) = cards({("bedrock", HAIKU)}, everything=False)
    assert (card.id, [line.name for line in card.models]) == ("bedrock", [HAIKU])


def test_an_admin_sees_all_that_is_configured():
    listed = cards({("bedrock", HAIKU)}, everything=True)
    assert [(card.id, card.disabled) for card in listed] == [("bedrock", False), ("old", True), ("lab", False)]
    assert [line.granted for line in listed[0].models] == [True, False]


def test_a_card_shows_prices_and_says_where_one_is_unknown():
    bedrock, _, lab = cards((), everything=True)
    assert bedrock.models[0].input.startswith("$1.")
    assert (lab.models[0].input, lab.models[0].output) == ("unknown", "unknown")


def test_a_card_holds_no_key():
    assert KEY not in repr(cards((), everything=True))


def test_the_call_to_try_survives_a_shell():
    line = views.curl("http://127.0.0.1:8080", "it's $(a) `model`")
    command = shlex.split(line.replace("\\\n", " "))
    assert command[:2] == ["curl", "http://127.0.0.1:8080/v1/chat/completions"]
    assert orjson.loads(command[-1])["model"] == "it's $(a) `model`"
