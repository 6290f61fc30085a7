"""Tests of the Responses API's plugin: native requests keep their bytes, failures have the API's form, and costs are
computed.
"""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from gateway.contract import errors
from gateway.contract.errors import Problem, Truncated, UpstreamFailed
from gateway.contract.flag import Caps, Head, Members, Place, Target
from gateway.contract.framing import sse
from gateway.contract.places import text_at
from gateway.testkit.render import responses as render_responses
from gateway.testkit.scenarios import NAMED, Canned, Tokens, Tool
from gateway_plugins import openai_responses as flag
from gateway_plugins.dialects.openai_responses.reasoning import packed
from tests.helpers.fold import valid_response
from tests.helpers.responses_to import ask, said

HEAD = Head(200, {"content-type": "text/event-stream"})
OURS = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "encrypted_content": packed([{"thinking": "t", "signature": "irisgate1:claude:s"}]),
}


def target(model="m"):
    return Target("p", "openai_responses", model, "openai_responses", Caps())


def built(body, model="m"):
    drops = []
    top = Members(body if isinstance(body, bytes) else orjson.dumps(body))
    return flag.build(replace(ask({}), top=top), target(model), drops.append), drops


def framed(events):
    return b"".join(sse.encode(orjson.dumps(event), event["type"]) for event in events)


def decoded(*data):
    decoder = flag.decoder(ask({}), target(), HEAD)
    events = [event for piece in data for event in decoder.feed(piece)]
    return events + list(decoder.close())


def test_a_body_that_needs_no_change_goes_out_as_it_came():
    body = b'{ "model":"m", "input": "x", "temperature": 1.0, "unknown":{"a":  1e2}}'
    send, drops = built(body)
    assert (send.method, send.path, send.body, drops) == ("POST", "/v1/responses", body, [])


def test_only_the_model_is_spliced():
    assert built(b'{"model":"a","input":"x","temperature":1.0}', "b")[0].body == (
        b'{"model":"b","input":"x","temperature":1.0}'
    )


def test_the_gateways_reasoning_is_dropped_and_other_bytes_stay():
    """Check that reasoning items that the gateway wrote are reported as dropped, and that all other items keep their
    bytes.
    """
    items = [b'{"role":"user",  "content":"hi"}', orjson.dumps(OURS), b'{"role":"user","content":1.0}']
    send, drops = built(b'{"model":"m","input":[' + b",".join(items) + b"]}")
    assert send.body == b'{"model":"m","input":[' + items[0] + b"," + items[2] + b"]}"
    assert drops == ["/input/1"]


def test_a_text_that_only_speaks_of_our_mark_stays():
    body = orjson.dumps({"model": "m", "input": [said("irisgate1+ is a mark")]})
    assert built(body)[0].body == body
    body = orjson.dumps({"model": "m", "input": "irisgate1+ is a mark"})
    assert built(body)[0].body == body


def test_a_stream_is_decoded_to_the_same_bytes_and_its_end_is_known():
    events = render_responses.events(NAMED["text"].reply, "m", 10)
    data = framed(events)
    output = decoded(*[data[at : at + 7] for at in range(0, len(data), 7)])
    assert [event.kind for event in output] == [event["type"] for event in events]
    assert b"".join(event.raw for event in output) == data


def test_events_without_a_name_are_known_by_their_type():
    events = render_responses.events(NAMED["text"].reply, "m", 10)
    output = decoded(b"".join(sse.encode(orjson.dumps(event)) for event in events))
    assert output[-1].kind == "response.completed"


def test_a_stream_without_its_end_is_truncated():
    events = render_responses.events(NAMED["text"].reply, "m", 10)
    with pytest.raises(Truncated):
        decoded(framed(events[:-1]))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("rate_limit_exceeded", errors.RATE_LIMIT),
        ("server_error", errors.INTERNAL),
        ("invalid_prompt", "invalid_request"),
    ],
)
def test_a_failed_response_is_an_error_with_its_own_bytes(code, expected):
    failed = {"type": "response.failed", "response": {"status": "failed", "error": {"code": code, "message": "why"}}}
    with pytest.raises(UpstreamFailed) as raised:
        decoded(framed([{"type": "response.created", "response": {}}, failed]))
    assert (raised.value.problem.code, raised.value.problem.message) == (expected, "why")
    assert raised.value.raw == framed([failed])


def test_an_error_event_counts_without_a_failed_response():
    """Check that an `error` event makes the reply fail if the stream then ends without `response.failed`."""
    error = {"type": "error", "code": "server_error", "message": "why", "param": None, "sequence_number": 1}
    decoder = flag.decoder(ask({}), target(), HEAD)
    begun = framed([{"type": "response.created", "response": {}}, error])
    assert [event.kind for event in decoder.feed(begun)] == ["response.created", "error"]
    with pytest.raises(UpstreamFailed, match="why"):
        list(decoder.close())


def test_an_error_as_the_first_event_fails_at_once():
    nested = {
        "type": "error",
        "error": {"type": "invalid_request_error", "code": "rate_limit_exceeded", "message": "why"},
    }
    with pytest.raises(UpstreamFailed) as raised:
        decoded(framed([nested]))
    assert raised.value.problem.code == errors.RATE_LIMIT


TOOLS = Canned(("x",), tools=(Tool("a", {"x": 1}), Tool("b")), tokens=Tokens(5, 6, cache_read=1000))


@pytest.mark.parametrize("streamed", [True, False])
def test_facts_of_a_stream_are_those_of_the_whole_reply(streamed):
    meter = flag.meter(ask({}), target(), HEAD)
    if streamed:
        for event in decoded(framed(render_responses.events(TOOLS, "m", 10))):
            meter.feed(event)
    else:
        meter.whole(orjson.dumps(render_responses.response(TOOLS, "m", 10)))
    facts = meter.facts()
    assert (facts.usage.input, facts.usage.output, facts.usage.cache_read) == (5, 6, 1000)
    assert (facts.tools, facts.stop, facts.tier, facts.model) == (["a", "b"], "completed", "default", "m")
    assert facts.reported


def test_calls_that_have_no_name_and_searches_are_counted():
    items = [{"type": "local_shell_call"}, {"type": "custom_tool_call", "name": "patch"}, {"type": "web_search_call"}]
    meter = flag.meter(ask({}), target(), HEAD)
    body = {"output": items, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    meter.whole(orjson.dumps({**body, "usage": {"input_tokens": 1, "output_tokens_details": {"reasoning_tokens": 3}}}))
    facts = meter.facts()
    assert (facts.tools, facts.extra, facts.stop) == (["local_shell", "patch"], {"web_search": 1}, "max_output_tokens")
    assert facts.usage.reasoning == 3


def test_a_failure_continues_the_sequence_and_its_response():
    """Check the events that report a failure inside a stream.

    Their sequence numbers continue from the last event of the stream. Their response has the id of the response that
    the stream began.
    """
    encoder = flag.encoder(ask({}))
    events = render_responses.events(NAMED["text"].reply, "m", 10)[:4]
    output = list(flag.decoder(ask({}), target(), HEAD).feed(framed(events)))
    assert b"".join(map(encoder.feed, output)) == framed(events)
    frames = list(sse.Decoder().feed(encoder.fail(Problem(errors.RATE_LIMIT, "Too many tokens"))))
    error, failed = (orjson.loads(frame.payload) for frame in frames)
    assert [frame.headers["event"] for frame in frames] == ["error", "response.failed"]
    assert [error["sequence_number"], failed["sequence_number"]] == [len(output), len(output) + 1]
    assert error["message"] == error["error"]["message"] == "Too many tokens"
    assert failed["response"]["id"] == events[0]["response"]["id"]
    assert failed["response"]["error"] == {"code": "rate_limit_exceeded", "message": "Too many tokens"}
    valid_response(failed["response"])


def test_a_failure_before_any_event_has_a_response_too():
    *_, frame = sse.Decoder().feed(flag.encoder(ask({})).fail(Problem(errors.UNAVAILABLE, "stopping")))
    response = valid_response(orjson.loads(frame.payload)["response"])
    assert (response["status"], response["error"]["code"]) == ("failed", "server_error")


def test_the_text_that_a_user_sees_stands_at_places():
    output = decoded(framed(render_responses.events(NAMED["text"].reply, "m", 10)))
    places = [(event, place) for event in output for place in flag.places(event) if isinstance(place, Place)]
    pieces = [text_at(event.data, place.path) for event, place in places if not place.repeats]
    assert "".join(pieces) == "Hello from a simulated model."
    whole = [text_at(event.data, place.path) for event, place in places if place.repeats]
    assert whole == ["Hello from a simulated model."] * 4
