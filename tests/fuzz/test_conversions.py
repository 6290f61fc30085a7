"""Tests of damaged requests and replies on every conversion: each is converted or refused.

The inputs are golden files with random changes, and the inputs in `corpus`, which failed in the past.
IRISGATE_EXAMPLES=20 tries 20 times as many inputs.
"""

import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.contract.errors import INTERNAL, Problem, Refused, UpstreamFailed
from tests.fuzz.damage import CORPUS, bytes_changed, changed, replies, requests, stream_of
from tests.helpers.conversion import CONVERSIONS
from tests.helpers.examples import examples

NAMES = sorted(CONVERSIONS)
fuzzed = settings(max_examples=examples(120), deadline=None, suppress_health_check=list(HealthCheck))


def opened(name, body, *, stream=False):
    """Convert a client's request body. Return the converted call, or None if the request is refused."""
    try:
        return CONVERSIONS[name].call(body, stream=stream)
    except Refused:
        return None


def check_request(name, body):
    call = opened(name, body)
    if call is not None:
        assert isinstance(call.sent, dict)
        assert call.dropped == list(dict.fromkeys(call.dropped))


def check_whole(name, body):
    call = opened(name, requests(CONVERSIONS[name].dialect)[0])
    try:
        reply = call.whole(body)
    except UpstreamFailed:
        return
    assert isinstance(reply, dict)


def check_stream(name, chunks):
    conversion = CONVERSIONS[name]
    call = opened(name, requests(conversion.dialect)[0], stream=True)
    with suppress(UpstreamFailed):
        call.streamed(*chunks)
    assert conversion.client.encoder(call.client_request).fail(Problem(INTERNAL, "a failure"))


@fuzzed
@given(st.data(), st.sampled_from(NAMES))
def test_a_damaged_request_is_converted_or_refused(data, name):
    check_request(name, data.draw(changed(requests(CONVERSIONS[name].dialect))))


@fuzzed
@given(st.data(), st.sampled_from(NAMES))
def test_a_damaged_reply_is_converted_or_an_error(data, name):
    body = json.dumps(data.draw(changed(replies(CONVERSIONS[name].upstream)[0]))).encode()
    check_whole(name, data.draw(bytes_changed([body])) if data.draw(st.booleans()) else body)


@fuzzed
@given(st.data(), st.sampled_from(NAMES))
def test_a_damaged_stream_is_converted_or_an_error(data, name):
    conversion = CONVERSIONS[name]
    events = data.draw(changed(replies(conversion.upstream)[1]))
    stream = stream_of(conversion.provider.name, events)
    damaged = data.draw(bytes_changed([stream])) if data.draw(st.booleans()) else stream
    cut = data.draw(st.integers(0, len(damaged)))
    check_stream(name, [damaged[:cut], damaged[cut:]])


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_an_input_that_once_failed_does_so_no_more(path):
    kept = json.loads(path.read_text())
    for name in NAMES:
        conversion = CONVERSIONS[name]
        if "request" in kept and kept["dialect"] == conversion.dialect:
            check_request(name, kept["request"])
        if "whole" in kept and kept["dialect"] == conversion.upstream:
            check_whole(name, kept["whole"].encode("latin-1"))
        if "stream" in kept and kept["dialect"] == conversion.upstream:
            check_stream(name, [kept["stream"].encode()])
