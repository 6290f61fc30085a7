"""Tests of every built-in compatibility flag with random damage, and of rules that only built-in flags must keep.

The flag's own encoder makes the provider's stream from a canned reply. So a new flag with a known dialect is tested
without changing this file. Rules for the flags of all authors are tested by `test_shipped_laws.py`.
"""

import json
from contextlib import suppress
from functools import partial

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.capabilities import Caps, capabilities
from gateway.contract.errors import BadFrame, Problem, UpstreamFailed
from gateway.contract.flag import OPAQUE, ClientRequest, Event, Head, Members, Place, Target
from gateway.contract.places import REPLY, REQUEST, put_text, text_at
from gateway.testkit.render.dialects import rendered
from gateway.testkit.scenarios import NAMED, Canned, Tokens, Tool
from tests.helpers.own_plugins import discover_own

FLAGS = discover_own().flags
MEMBERS = [
    "usage", "message", "delta", "content_block", "type", "name", "input_tokens", "choices", "tool_calls", "function",
    "error", "finish_reason", "toolUse", "start", "stopReason", "cacheDetails", "ttl", "inputTokens", "bytes", "model",
    "prompt_tokens_details", "cached_tokens", "output", "content", "stop_reason", "text", "cache_creation",
]  # fmt: skip
CLAUDE = capabilities("us.anthropic.claude-haiku-4-5-20251001-v1:0")
REPLIES = {
    "text": NAMED["text"].reply,
    "thinking": NAMED["thinking"].reply,
    "redacted": NAMED["redacted"].reply,
    "cached": NAMED["cached"].reply,
    "unicode": NAMED["unicode"].reply,
    "tools": Canned(("Let me see.",), tools=(Tool("a", {"x": 1}), Tool("b", None)), tokens=Tokens(5, 6)),
}
INCLUDE_USAGE = b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'


def ask(flag, dialect, *, stream=True):
    return ClientRequest(flag.name, dialect, "generate", "POST", "/", "", {}, Members(INCLUDE_USAGE), "m", stream)


def target(flag, dialect):
    return Target("p", flag.name, "m", dialect, CLAUDE if dialect != OPAQUE else Caps())


def stream(flag, dialect, reply):
    encoder = flag.encoder(ask(flag, dialect))
    events, _ = rendered(dialect, reply)
    return b"".join(encoder.feed(Event(kind, orjson.dumps(data))) for kind, data in events) + encoder.close()


def decoded(flag, dialect, *chunks):
    decoder = flag.decoder(ask(flag, dialect), target(flag, dialect), Head(200, {}))
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return [*events, *decoder.close()]


CASES = [
    # made once: ids and padding in it are random
    pytest.param(
        flag, (dialect := flag.dialect_for(CLAUDE)), reply, stream(flag, dialect, reply), id=f"{flag.name}-{name}"
    )
    for flag in FLAGS.values()
    for name, reply in REPLIES.items()
]
cases = pytest.mark.parametrize(("flag", "dialect", "reply", "whole"), CASES)


@cases
@given(data=st.data())
def test_damaged_bytes_are_an_error_or_events_and_never_a_crash(flag, dialect, reply, whole, data):
    broken = bytearray(whole)
    broken[data.draw(st.integers(0, len(broken) - 1))] ^= data.draw(st.integers(1, 255))
    meter = flag.meter(ask(flag, dialect), target(flag, dialect), Head(200, {}))
    try:
        for event in decoded(flag, dialect, bytes(broken)):
            meter.feed(event)
    except UpstreamFailed:
        pass


@cases
def test_the_facts_of_a_stream_are_those_of_the_whole_reply(flag, dialect, reply, whole):
    streamed = flag.meter(ask(flag, dialect), target(flag, dialect), Head(200, {}))
    for event in decoded(flag, dialect, whole):
        streamed.feed(event)
    unstreamed = flag.meter(ask(flag, dialect, stream=False), target(flag, dialect), Head(200, {}))
    unstreamed.whole(json.dumps(rendered(dialect, reply)[1]).encode())
    assert streamed.facts() == unstreamed.facts()
    assert streamed.facts().reported
    assert streamed.facts().tools == [tool.name for tool in reply.tools]


@pytest.mark.parametrize("flag", FLAGS.values(), ids=FLAGS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 418, 424, 429, 500, 502, 503, 504, 529])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"[1]",
        b"<html>",
        b'{"message":"why"}',
        b'{"error":"why"}',
        b'{"error":{"message":"why","type":7}}',
    ],
)
def test_every_error_of_a_provider_is_a_problem_that_every_flag_can_say(flag, status, body):
    problem = flag.problem(Head(status, {"retry-after": "soon"}), body)
    assert isinstance(problem, Problem)
    assert problem.message
    for client in FLAGS.values():
        code, headers, rendered_body = client.error(problem)
        assert 400 <= code <= 599
        assert headers["content-type"] == "application/json"
        assert orjson.loads(rendered_body)


def texts(flag, events, kind):
    """Return the concatenated texts of a `kind`, such as "thinking", in the events. A text that only repeats earlier
    events is left out.
    """
    places = [(place, event) for event in events for place in flag.places(event) if isinstance(place, Place)]
    return "".join(
        text_at(event.data, place.path) for place, event in places if place.kind == kind and not place.repeats
    )


def check_places(flag, event):
    """Check the places of texts that the flag's function `places` finds in an event.

    The text at each place can be read and replaced. The attribute `block` of each place is hashable.
    """
    for place in flag.places(event):
        hash(place.block)
        if isinstance(place, Place):
            before = text_at(event.data, place.path)
            put_text(event.data, place.path, before)
            assert text_at(event.data, place.path) == before


@cases
def test_places_are_those_of_the_texts_that_the_user_sees(flag, dialect, reply, whole):
    events = [Event(kind, orjson.dumps(data)) for kind, data in rendered(dialect, reply)[0]]
    assert texts(flag, events, "text") == reply.whole_text


odd = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=5),
    max_leaves=12,
)


@pytest.mark.parametrize(("flag", "dialect"), [(flag, flag.dialect_for(CLAUDE)) for flag in FLAGS.values()], ids=FLAGS)
@given(data=st.data())
def test_what_a_provider_says_oddly_costs_no_call(flag, dialect, data):
    """Check that the readers of a flag accept any JSON as an event or a body, or raise `BadFrame`. No other exception
    is raised.
    """
    kinds = sorted({kind for kind, _ in rendered(dialect, REPLIES["tools"])[0]})
    payload = orjson.dumps(data.draw(odd))
    kind = data.draw(st.sampled_from(kinds))
    the_ask = ask(flag, dialect)
    meter = flag.meter(the_ask, target(flag, dialect), Head(200, {}))
    encoder = flag.encoder(the_ask)
    event = Event(kind, payload)
    for read in (meter.feed, encoder.feed, partial(check_places, flag)):
        with suppress(BadFrame):
            read(event)
    for kind in (REQUEST, REPLY):
        check_places(flag, Event(kind, payload))
    for whole in (meter.whole, encoder.whole, flag.decoder(the_ask, target(flag, dialect), Head(200, {})).whole):
        with suppress(BadFrame):
            whole(payload)
    encoded = flag.encoder(the_ask)
    with suppress(UpstreamFailed):
        decoded(flag, dialect, encoded.feed(Event(kind, payload)))
    assert meter.facts().usage.input >= 0
