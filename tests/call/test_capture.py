"""Tests of the copies of headers and bodies that are stored with a call. Bodies are shortened, and stored as text or
base64. Secrets are removed.
"""

import pytest

from gateway.call.capture import Capture, without_secrets
from gateway.store.captured import CapturedBody
from tests.helpers.cpu_time import cpu_units

OF = ("call", "alice@example.com", 1.0)


def test_each_body_is_cut_at_the_limit_and_says_so():
    capture = Capture(OF, 4, {}, b"12345")
    for data in (b"ab", b"cd", b"ef"):
        capture.feed(data)
    body = capture.redacted()
    assert (body.request.body, body.request.cut) == (b"1234", True)
    assert (body.reply.body, body.reply.cut) == (b"abcd", True)
    assert capture.size == 8


def test_bodies_that_just_fit_are_not_called_cut():
    capture = Capture(OF, 4, {}, b"1234")
    capture.feed(b"abcd")
    body = capture.redacted()
    assert (body.request.cut, body.reply.cut) == (False, False)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "Proxy-Authorization", "X-API-Key", "x-goog-api-key", "api-key", "Cookie", "Set-Cookie",
        "X-Amz-Security-Token", "x-auth", "X-Client-Secret", "x-my-password", "X-Amz-Signature", "x-credentials",
        "X-PassWd", "x-pwd", "x-bearer", "X-JWT",
    ],
)  # fmt: skip
def test_a_header_that_may_hold_a_secret_is_redacted_by_its_name(name):
    assert without_secrets({name: "canary"}) == {name.lower(): "[redacted]"}


def test_a_credential_in_the_value_of_any_header_is_redacted():
    assert "canary" not in str(without_secrets({"x-forwarded-note": "was Bearer canary-canary"}))


@pytest.mark.parametrize(
    ("value", "redaction"),
    [
        ("https://h/p?api_key=canary&page=2", "https://h/p?api_key=[redacted]&page=2"),
        ("https://h/?a=1&X-Amz-Signature=canary#top", "https://h/?a=1&X-Amz-Signature=[redacted]#top"),
        ("/p?KEY=canary", "/p?KEY=[redacted]"),
        ("http://ada:canary@h/p", "http://[redacted]@h/p"),
        ("https://h/p?page=2&of=3", "https://h/p?page=2&of=3"),
        ("<ada@example.com>; q=1", "<ada@example.com>; q=1"),
    ],
)
def test_a_secret_in_an_address_is_redacted(value, redaction):
    assert without_secrets({"referer": value}) == {"referer": redaction}


@pytest.mark.parametrize("begins", ["?", "//", "&key", "?a", "//a", "?key=", "/", "a@//"])
def test_a_long_header_takes_no_longer_than_its_length_asks_for(begins):
    headers = {"referer": begins * (60_000 // len(begins)), "location": begins + "a" * 60_000}
    assert cpu_units(lambda: without_secrets(headers), enough=400) < 400


def test_captured_header_names_are_lower_case_and_bytes_are_text():
    """Check that header names are stored in lower case, and that each invalid byte of a value is replaced by "?"."""
    assert without_secrets({"User-Agent": "claude-cli/2", "x-odd": "a\udcffb"}) == {
        "user-agent": "claude-cli/2",
        "x-odd": "a?b",
    }


def test_a_body_is_text_where_it_is_utf_8_also_where_a_letter_was_cut():
    assert CapturedBody({}, "grün".encode(), False).as_dict()["body"] == "grün"
    assert CapturedBody({}, "grü".encode()[:-1], True).as_dict() == {
        "headers": {},
        "body": "gr",
        "encoding": "utf-8",
        "cut": True,
    }


def test_a_body_that_is_no_text_is_base64():
    shown_as = CapturedBody({}, b"\xff\x00", False).as_dict()
    assert (shown_as["body"], shown_as["encoding"]) == ("/wA=", "base64")
    assert CapturedBody({}, "ü".encode()[:1], False).as_dict()["encoding"] == "base64"
