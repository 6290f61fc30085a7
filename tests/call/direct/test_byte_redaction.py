"""Tests that the gateway's keys are removed from replies that are passed on as bytes, without being decoded."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call.direct.byte_redaction import ByteRedaction
from gateway.call.key_redaction import Redaction

KEY = "sk-ab/cd+ef.0123456789"
FORMS = [
    KEY.encode(),
    KEY.replace("/", "\\/").encode(),
    KEY.replace("/", "%2f").replace("+", "%2B").encode(),
    "".join(f"\\u{ord(character):04X}" for character in KEY).encode(),
    "".join(f"\\\\u{ord(character):04x}" for character in KEY).encode(),
    "".join(f"%{ord(character):02x}" for character in KEY).encode(),
]


REDACTION = Redaction([KEY])


def passed(*reads):
    redacted = ByteRedaction(REDACTION)
    return [*(redacted.feed(read) for read in reads), redacted.rest()]


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_removed_wherever_it_is_cut(form):
    text = b"before " + form + b" after"
    for at in range(len(text) + 1):
        for then in (at, at + 1, min(at + 5, len(text))):
            assert b"".join(passed(text[:at], text[at:then], text[then:])) == b"before [redacted] after"


def test_a_key_in_base64_is_removed_wherever_it_is_cut():
    for shift in range(3):
        text = base64.b64encode(b"x" * shift + KEY.encode() + b"yy")
        for at in range(len(text) + 1):
            clean = b"".join(passed(text[:at], text[at:]))
            assert b"[redacted]" in clean
            assert not any(text[start : start + 6] in clean for start in range(4, len(text) - 12))


def test_two_keys_in_a_row_are_removed_byte_by_byte():
    text = f"{KEY}{KEY} {KEY}".encode()
    assert b"".join(passed(*(bytes([byte]) for byte in text))) == b"[redacted][redacted] [redacted]"


def test_only_what_may_begin_a_key_is_held_back():
    redacted = ByteRedaction(REDACTION)
    assert redacted.feed(b"data: hello\n\n") == b"data: hello\n\n"
    assert redacted.feed(b"data: s") == b"data: "
    assert redacted.feed(b"ummer\n\n") == b"summer\n\n"
    assert redacted.feed(b"100%") == b"100"
    assert redacted.feed(b" sure") == b"% sure"


def test_the_beginning_of_a_key_at_the_end_of_a_reply_is_passed_on():
    assert passed(b"s", b"k-ab") == [b"", b"", b"sk-ab"]


@given(
    st.lists(
        st.sampled_from([b"s", b"sk", b"sk-a", b"-", b"%", b"\\", b"u00", b"x", b"\n", b"\xff", b"23"]), max_size=40
    )
)
def test_bytes_without_a_key_stay_as_they_are(reads):
    assert b"".join(passed(*reads)) == b"".join(reads)


def test_without_keys_nothing_is_held_back():
    redacted = ByteRedaction(Redaction([]))
    assert redacted.feed(b"anything\\u00") == b"anything\\u00"
