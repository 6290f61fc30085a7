"""Tests of the helpers for plugins of simple JSON APIs: reading `Retry-After`, passing streams on, and checking a model
name that a client sends.
"""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import errors, json_api, provider_errors, sse_api
from gateway.contract.errors import Problem, Refused
from gateway.contract.flag import Head, HttpRequest, Members
from gateway_plugins import bedrock_converse, bedrock_model_invoke


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("1e300", 86_400), ("999999", 86_400),
        ("inf", None), ("-inf", None), ("nan", None), ("1e999", None), ("soon", None), ("", None),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_of_seconds_within_a_day(header, seconds):
    assert provider_errors.retry_after(Head(429, {"retry-after": header})) == seconds


@given(st.floats() | st.integers() | st.just(10**400))
def test_every_number_of_seconds_can_be_told_to_a_client(seconds):
    header = provider_errors.error_headers(Problem(errors.RATE_LIMIT, "x", retry_after=seconds))["retry-after"]
    assert 1 <= int(header) <= 32 * 86_400


def test_a_delay_that_is_no_number_is_told_as_the_shortest():
    assert provider_errors.error_headers(Problem(errors.RATE_LIMIT, "x", retry_after=math.nan))["retry-after"] == "1"


def in_the_body(name):
    return json_api.model_of(Members(b'{"model":"' + name.encode() + b'"}'))


def in_the_path(flag, last):
    def parse(name):
        (route,) = (route for route in flag.routes if route.path == f"/model/{{model:.+}}/{last}")
        return flag.parse(HttpRequest(route, f"/model/x/{last}", "", {}, {"model": name}, b"{}")).model

    return parse


conversions = pytest.mark.parametrize(
    "read", [in_the_body, in_the_path(bedrock_converse, "converse"), in_the_path(bedrock_model_invoke, "invoke")]
)


@conversions
@pytest.mark.parametrize("name", ["m", "é" * 2048, "arn:aws:bedrock:us-east-1::inference-profile/us.x:0"])
def test_a_name_up_to_the_longest_of_bedrocks_is_taken_as_it_is(read, name):
    assert read(name) == name


@conversions
def test_a_longer_name_is_refused_without_being_repeated_whole(read):
    with pytest.raises(Refused, match="has 2049 characters; at most 2048 are taken") as refused:
        read("x" * 2049)
    assert refused.value.problem.message.count("x") <= 101
    assert refused.value.problem.param == "model"


@pytest.mark.parametrize("character", ["\n", "\x00", "\x1b", "\x7f", "\x85", "\u2028", "\ud800"])
def test_a_name_with_control_characters_is_refused_without_repeating_them(character):
    with pytest.raises(Refused, match="control characters") as refused:
        json_api.model_name(f"a{character}" + "b" * 500)
    assert character not in refused.value.problem.message
    assert refused.value.problem.message.count("b") <= 100


@pytest.mark.parametrize("at", range(1, 40))
def test_every_byte_of_a_native_stream_reaches_the_client(at):
    """Check that no byte is lost, wherever a stream is split, even between the CR and LF of a line end."""
    stream = b'data: {"a": 1}\r\n\r\ndata: [DONE]\r\n\r\n'
    decoder = sse_api.SseDecoder(lambda _name, _payload: "chunk", lambda event: event.payload == b"[DONE]")
    events = [event for part in (stream[:at], stream[at:]) for event in decoder.feed(part)]
    assert (b"".join(event.raw or b"" for event in events), decoder.done) == (stream, True)
