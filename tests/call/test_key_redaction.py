"""Tests of removing the gateway's keys from a provider's replies: in every form of a key and every place of a reply,
and in a short time.
"""

import base64
import itertools
import json
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call.key_redaction import KNOWN_BY, EventRedaction, Redaction, secrets_of
from gateway.contract.flag import Event, Head

KEY = "sk-proj-Ab/cd+ef0123456789XYZ=="
FORMS = {
    "as it is": KEY,
    "escaped": "".join(f"\\u{ord(each):04x}" for each in KEY),
    "escaped in capitals": "".join(f"\\u{ord(each):04X}" for each in KEY),
    "escaped signs": KEY.replace("+", "\\u002B").replace("=", "\\u003d"),
    "escaped slash": KEY.replace("/", "\\/"),
    "percent": quote(KEY, safe=""),
    "percent in small letters": re.sub("%..", lambda match: match[0].lower(), quote(KEY, safe="")),
    "escaped twice": "".join(f"\\\\u{ord(each):04x}" for each in KEY),
    "percent for all": "".join(f"%{ord(each):02x}" for each in KEY),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_key_is_found(form):
    assert Redaction((KEY,)).text(f"no {FORMS[form]}, no") == "no [redacted], no"


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_key_inside_base64_is_found_at_every_offset(before, encode):
    clean = Redaction((KEY,)).bytes(b'"' + encode(f"{before}{KEY} and more".encode()) + b'"')
    assert b"[redacted]" in clean
    left = clean.replace(b"[redacted]", b"").strip(b'"')
    assert len(left) <= len(base64.b64encode(f"{before} and more".encode())) + 8


@given(st.binary(max_size=200), st.sampled_from(sorted(FORMS)))
def test_no_form_is_left_in_any_bytes(noise, form):
    """Check that a key is removed in every form, such as escaped JSON, whatever bytes surround it."""
    data = noise + FORMS[form].encode() + noise
    assert FORMS[form].encode() not in Redaction((KEY,)).bytes(data)


@given(st.binary(max_size=300))
def test_bytes_without_a_key_are_left_alone(data):
    assert Redaction((KEY,)).bytes(data) == data or b"[redacted]" in Redaction((KEY,)).bytes(data)


SIGV4 = (
    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261128/us-east-1/bedrock/aws4_request, "
    "SignedHeaders=host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
)


def test_keys_are_those_of_headers_and_of_the_url():
    url = "https://user:password-of-the-url@host/v1?api-key=key-in-the-query&x=not-a-secret-value"
    headers = {
        "authorization": SIGV4, "x-api-key": "key-in-a-header-1", "x-amz-security-token": "token-of-a-session",
        "cookie": "sid=cookie-of-somebody", "anthropic-beta": "context-1m-2025-08-07", "x-key": "short",
    }  # fmt: skip
    secrets = secrets_of(KEY, url, headers.items())
    assert set(secrets) >= {
        KEY, "password-of-the-url", "key-in-the-query", "key-in-a-header-1", "token-of-a-session", "cookie-of-somebody",
        "AKIAIOSFODNN7EXAMPLE", SIGV4.rpartition("=")[2],
    }  # fmt: skip
    assert {"context-1m-2025-08-07", "not-a-secret-value", "short"}.isdisjoint(secrets)


def test_headers_and_their_names_stay_as_they_are():
    head = Head(200, {"x-amzn-a": f"key {KEY}", "openai-b": FORMS["percent"], "content-type": "text/plain"})
    assert Redaction((KEY,)).head(head).headers == {
        "x-amzn-a": "key [redacted]",
        "openai-b": "[redacted]",
        "content-type": "text/plain",
    }


def events_of(texts, *, escaped=False):
    def one(text):
        data = json.dumps({"type": "d", "delta": {"text": text}}).encode()
        if escaped:
            data = b'{"type":"d","delta":{"text":"' + "".join(f"\\u{ord(each):04x}" for each in text).encode() + b'"}}'
        return Event("d", data, b"data: " + data + b"\n\n")

    return [one(text) for text in texts]


def redacted(events):
    state = EventRedaction(Redaction((KEY,)))
    out = [each for event in events for each in state.feed(event.raw, [event])]
    return [*out, *state.rest()]


def text_of(events):
    return "".join(json.loads(event.payload)["delta"]["text"] for event in events if event.payload)


@pytest.mark.parametrize("escaped", [False, True])
def test_a_key_in_one_event_is_removed_and_the_frame_made_anew(escaped):
    (event,) = redacted(events_of([f"It is {KEY}."], escaped=escaped))
    assert (text_of([event]), event.raw) == ("It is [redacted].", None)


@pytest.mark.parametrize("ping", [False, True])
def test_a_key_divided_between_two_events_is_removed(ping):
    """Check that a key is removed from a reply, wherever the key is split between two events.

    The first event may keep the key's beginning only if it is too short to be recognised as part of a key.
    """
    for cut in range(1, len(KEY)):
        first, last = events_of([f"It is {KEY[:cut]}", f"{KEY[cut:]}."])
        comment = [Event("", b"", b": ping\n\n")] if ping else []
        text = text_of(redacted([first, *comment, last]))
        assert (text[:6], text[-1]) == ("It is ", ".")
        assert KEY[:KNOWN_BY] not in text, (cut, text)
        assert KEY[KNOWN_BY:] not in text


def test_a_key_divided_between_three_events_is_removed():
    """Check that a key that is split across three events is removed if its first part is long enough to be
    recognised.
    """
    for start, end in itertools.combinations(range(KNOWN_BY, len(KEY)), 2):
        text = text_of(redacted(events_of([f"It is {KEY[:start]}", KEY[start:end], f"{KEY[end:]}."])))
        assert text == "It is [redacted].", (start, end)


@pytest.mark.parametrize("texts", [[KEY[:12], " is the beginning."], ["a", "b"], [KEY[:10]], ["sk-proj-", "sk-proj-"]])
def test_the_beginning_of_a_key_alone_is_text(texts):
    assert text_of(redacted(events_of(texts))) == "".join(texts)


def test_events_without_a_key_are_the_same_objects():
    events = events_of(["Hello", " there", " 50 %"])
    assert all(made is given_ for made, given_ in zip(redacted(events), events, strict=True))


def test_a_comment_with_a_key_is_left_out():
    comment = Event("", b"", f": {KEY}\n\n".encode())
    (event,) = redacted([comment])
    assert (event.payload, event.raw) == (b"", b"")
