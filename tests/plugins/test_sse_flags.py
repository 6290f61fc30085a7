"""Tests of the plugins of Chat Completions and Messages: changes of single fields in a request, and the terminal events
of streams.
"""

import json
from types import SimpleNamespace

import pytest

from gateway.contract import errors
from gateway.contract.capabilities import Caps
from gateway.contract.errors import Problem, Refused, Truncated, UpstreamFailed
from gateway.contract.flag import ClientRequest, Event, Head, Members, Target
from gateway.contract.framing import sse
from gateway.contract.registry import load_plugin
from gateway_plugins import anthropic_messages, bedrock_converse, bedrock_model_invoke, openai_chat

HEAD = Head(200, {"content-type": "text/event-stream"})


def ask(flag, body, query="", **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    top = Members(raw)
    name = flag.__name__.rpartition(".")[2]
    return ClientRequest(
        name,
        flag.dialects[0],
        "generate",
        "POST",
        "/",
        query,
        headers,
        top,
        top.decode("model"),
        top.decode("stream") is True,
    )


def target(flag, model="m"):
    return Target("p", flag.__name__.rpartition(".")[2], model, flag.dialects[0], Caps())


def build(flag, the_ask, model="m"):
    return flag.build(the_ask, target(flag, model), print)


def decode(flag, the_ask, *data):
    decoder = flag.decoder(the_ask, target(flag), HEAD)
    events = [event for piece in data for event in decoder.feed(piece)]
    return events + list(decoder.close())


@pytest.mark.parametrize("flag", [openai_chat, anthropic_messages])
def test_a_body_that_needs_no_change_goes_out_as_it_came(flag):
    body = b'{ "model":"m", "temperature": 1.0, "unknown":{"a":  1e2}}'
    assert build(flag, ask(flag, body)).body == body


@pytest.mark.parametrize("flag", [openai_chat, anthropic_messages])
def test_only_the_model_is_spliced_when_the_client_gave_a_provider_prefix(flag):
    send = build(flag, ask(flag, b'{"model":"p/m","temperature":1.0}'))
    assert send.body == b'{"model":"m","temperature":1.0}'


def test_a_chat_stream_always_asks_for_its_usage():
    send = build(openai_chat, ask(openai_chat, {"model": "m", "stream": True, "stream_options": {"x": 1}}))
    assert json.loads(send.body)["stream_options"] == {"x": 1, "include_usage": True}


CHUNKS = [
    {"choices": [{"index": 0, "delta": {"content": "hi"}}], "model": "m-1"},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "model": "m-1"},
    {
        "choices": [],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}},
    },
]
STREAM = b"".join(sse.encode(json.dumps(chunk).encode()) for chunk in CHUNKS) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("wanted", [True, False])
def test_the_usage_chunk_is_kept_from_a_client_that_did_not_ask(wanted):
    the_ask = ask(openai_chat, {"model": "m", "stream": True, "stream_options": {"include_usage": wanted}})
    events = decode(openai_chat, the_ask, STREAM)
    data = b"".join(event.raw for event in events)
    assert (b'"prompt_tokens"' in data) is wanted
    meter = openai_chat.meter(the_ask, target(openai_chat), HEAD)
    for event in events:
        meter.feed(event)
    facts = meter.facts()
    assert (facts.usage.input, facts.usage.cache_read, facts.usage.output) == (6, 4, 3)
    assert (facts.stop, facts.model) == ("stop", "m-1")


def test_a_chat_stream_without_done_but_with_a_finish_reason_is_complete():
    the_ask = ask(openai_chat, {"model": "m", "stream": True})
    assert decode(openai_chat, the_ask, STREAM.removesuffix(b"data: [DONE]\n\n"))


def test_a_chat_stream_cut_before_its_finish_reason_is_truncated():
    with pytest.raises(Truncated):
        decode(openai_chat, ask(openai_chat, {"model": "m", "stream": True}), STREAM[:60])


def test_an_error_inside_a_chat_stream_is_raised():
    with pytest.raises(UpstreamFailed, match="boom"):
        decode(openai_chat, ask(openai_chat, {"model": "m", "stream": True}), b'data: {"error":{"message":"boom"}}\n\n')


def test_an_error_event_of_a_messages_stream_is_raised_with_its_kind():
    data = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    with pytest.raises(UpstreamFailed) as failed:
        decode(anthropic_messages, ask(anthropic_messages, {"model": "m", "stream": True}), data)
    assert (failed.value.problem.code, failed.value.raw) == (errors.OVERLOADED, data)


def test_a_messages_stream_without_message_stop_is_truncated():
    with pytest.raises(Truncated):
        decode(
            anthropic_messages,
            ask(anthropic_messages, {"model": "m", "stream": True}),
            b'event: ping\ndata: {"type":"ping"}\n\n',
        )


def test_a_messages_client_is_told_the_name_that_it_asked_for():
    encoder = anthropic_messages.encoder(ask(anthropic_messages, {"model": "us.claude"}))
    start = Event("message_start", b'{"type":"message_start","message":{"model":"claude-x","usage":{}}}')
    assert b'"model":"us.claude"' in encoder.feed(start)
    assert json.loads(encoder.whole(b'{"id":"m","model":"claude-x"}')) == {"id": "m", "model": "us.claude"}


def test_a_payload_is_reframed_without_being_decoded():
    encoder = anthropic_messages.encoder(ask(anthropic_messages, {"model": "m"}))
    payload = b'{"type":"content_block_delta",  "x":1.0}'
    assert (
        encoder.feed(Event("content_block_delta", payload)) == b"event: content_block_delta\ndata: " + payload + b"\n\n"
    )


def test_a_translated_bedrock_tier_is_dropped_before_anthropic():
    """Check that a Bedrock tier in a translated request is reported as dropped, and not sent to Anthropic's API."""
    drops = []
    body = {"model": "m", "service_tier": "flex"}
    translated = ask(openai_chat, body)
    send = anthropic_messages.build(translated, target(anthropic_messages), drops.append)
    assert (send.body, drops) == (b'{"model": "m"}', ["/service_tier"])
    send = anthropic_messages.build(ask(anthropic_messages, body), target(anthropic_messages), drops.append)
    assert (json.loads(send.body), drops) == (body, ["/service_tier"])


def test_the_version_and_betas_of_a_client_go_to_an_anthropic_provider():
    headers = {"anthropic-version": "2026-10-21", "anthropic-beta": "a,b"}
    send = build(anthropic_messages, ask(anthropic_messages, {"model": "m"}, query="beta=true", **headers))
    assert (send.headers["anthropic-version"], send.headers["anthropic-beta"], send.query) == (
        "2026-10-21",
        "a,b",
        "beta=true",
    )


def test_betas_of_body_and_header_go_to_an_anthropic_provider_once_each():
    body = {"model": "m", "anthropic_version": "bedrock-2023-05-31", "anthropic_beta": ["b", "c"]}
    send = build(anthropic_messages, ask(anthropic_messages, body, **{"anthropic-beta": "a, b"}))
    assert send.headers["anthropic-beta"] == "b,c,a"
    assert json.loads(send.body) == {"model": "m"}


def test_no_header_of_the_client_goes_along_but_those():
    send = build(
        anthropic_messages,
        ask(anthropic_messages, {"model": "m"}, **{"x-api-key": "k", "cookie": "c", "authorization": "a"}),
    )
    assert set(send.headers) == {"content-type", "anthropic-version"}


CODES = [value for name, value in vars(errors).items() if name.isupper() and isinstance(value, str)]


@pytest.mark.parametrize("flag", [openai_chat, anthropic_messages, bedrock_converse, bedrock_model_invoke])
@pytest.mark.parametrize("code", CODES)
def test_every_problem_has_a_body_in_every_dialect(flag, code):
    status, headers, body = flag.error(Problem(code, "what is wrong", retry_after=2.4))
    assert 400 <= status <= 599
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("3", "2400")
    assert "what is wrong" in body.decode()
    assert json.loads(body)
    assert b"what is wrong" in flag.encoder(ask(flag, {"model": "m"})).fail(Problem(code, "what is wrong"))


@pytest.mark.parametrize("options", [[1], [], "x", 1, True])
@pytest.mark.parametrize("stream", [True, False])
def test_stream_options_that_are_no_object_are_refused_at_once(options, stream):
    """Check that stream options that are not an object are refused before anything is sent."""
    the_ask = ask(openai_chat, {"model": "m", "stream": stream, "stream_options": options})
    with pytest.raises(Refused, match="stream_options must be an object") as refused:
        build(openai_chat, the_ask)
    assert refused.value.problem.param == "stream_options"


def test_stream_options_that_are_nested_too_deeply_are_refused():
    body = b'{"model":"m","stream":true,"stream_options":{"x":' + b"[" * 300 + b"]" * 300 + b"}}"
    with pytest.raises(Refused, match="stream_options is nested too deeply"):
        build(openai_chat, ask(openai_chat, body))


ASKED = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
CONTENT, FINISH, USAGE = (sse.encode(json.dumps(chunk).encode()) for chunk in CHUNKS)
DONE = b"data: [DONE]\n\n"


def after(*data):
    """Return, for each piece of data, whether the stream is complete after it."""
    decoder = openai_chat.decoder(ask(openai_chat, ASKED), target(openai_chat), HEAD)
    ends = []
    for piece in data:
        list(decoder.feed(piece))
        ends.append(decoder.done)
    list(decoder.close())
    return ends


def test_a_chat_stream_is_complete_after_usage_not_the_reason():
    """Check that a Chat stream ends with the usage, and not with the earlier finish reason."""
    assert after(CONTENT, FINISH, USAGE, DONE) == [False, False, True, True]


def test_done_alone_is_the_end_of_a_chat_stream():
    assert after(CONTENT, FINISH, DONE) == [False, False, True]


def test_usage_before_the_finish_reason_is_not_the_end_of_a_chat_stream():
    assert after(CONTENT, USAGE, FINISH) == [False, False, False]


@pytest.mark.parametrize("rest", [b"", USAGE[:20], b"data: [DO", b"data: [DONE]\n"])
def test_a_chat_stream_that_ends_after_its_finish_reason_is_complete(rest):
    assert after(CONTENT, FINISH, rest) == [False, False, False]


def test_a_chat_stream_without_a_finish_reason_is_truncated():
    """Check that a Chat stream with usage but without a finish reason raises `Truncated`."""
    with pytest.raises(Truncated):
        after(CONTENT, USAGE)


STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
LATE = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"late"}}\n\n'


@pytest.mark.parametrize(("flag", "end", "late"), [(openai_chat, DONE, CONTENT), (anthropic_messages, STOP, LATE)])
def test_what_comes_after_the_terminal_event_has_no_bytes_for_the_client(flag, end, late):
    stream = FINISH + end if flag is openai_chat else end
    events = decode(flag, ask(flag, ASKED), stream, late)
    assert b"".join(event.raw for event in events) == stream


@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest.mark.parametrize("before", [CONTENT + FINISH, CONTENT + FINISH + USAGE.replace(b": 3", b": 2")])
def test_a_last_report_is_counted_without_the_blank_line_after_it(before, missing):
    """Check that usage is counted although the stream ends inside the blank line after it.

    The stream is complete before the usage, either by its finish reason or by an earlier usage.
    """
    events = decode(openai_chat, ask(openai_chat, ASKED), before + USAGE[: len(USAGE) - missing])
    meter = openai_chat.meter(ask(openai_chat, ASKED), target(openai_chat), HEAD)
    for event in events:
        meter.feed(event)
    assert meter.facts().usage.output == 3


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_usage_after_done_is_counted_but_not_shown(missing):
    events = decode(openai_chat, ask(openai_chat, ASKED), FINISH + DONE + USAGE[: len(USAGE) - missing])
    meter = openai_chat.meter(ask(openai_chat, ASKED), target(openai_chat), HEAD)
    for event in events:
        meter.feed(event)
    assert meter.facts().usage.output == 3
    assert b"".join(event.raw for event in events) == FINISH + DONE


@pytest.mark.parametrize(
    "rest",
    [b'data: {"error":{"message":"shutting down"}}', b'data: {"message":"bye"}\n', b": x\n" * 30_000],
)
def test_a_tail_without_a_blank_line_fails_no_complete_chat(rest):
    stream = CONTENT + FINISH + USAGE
    events = decode(openai_chat, ask(openai_chat, ASKED), stream + rest)
    assert b"".join(event.raw for event in events) == stream + DONE


def test_what_follows_an_error_after_the_usage_is_not_shown():
    decoder = openai_chat.decoder(ask(openai_chat, ASKED), target(openai_chat), HEAD)
    error = b'data: {"error":{"message":"shutting down"}}\n\n'
    with pytest.raises(UpstreamFailed):
        list(decoder.feed(CONTENT + FINISH + USAGE + error + CONTENT))
    assert CONTENT not in b"".join(event.raw for event in decoder.close())


@pytest.mark.parametrize("flag", [openai_chat, anthropic_messages])
@pytest.mark.parametrize("rest", [b"data: {", b'event: error\ndata: {"error":{"message":"late"}}\n\n'])
def test_bytes_after_the_terminal_event_fail_no_reply(flag, rest):
    """Check that bytes after the terminal event do not make a complete reply fail."""
    end = DONE if flag is openai_chat else STOP
    assert b"".join(event.raw for event in decode(flag, ask(flag, ASKED), end + rest)) == end


def test_a_minimal_flag_reads_its_stream_in_the_same_way():
    module = SimpleNamespace(
        api=1, dialects=("plain_chat",), routes=(), build=openai_chat.build, meter=openai_chat.meter
    )
    minimal = load_plugin("plain_chat", module)
    decoder = minimal.decoder(ask(openai_chat, ASKED), target(openai_chat), HEAD)
    events = [*decoder.feed(CONTENT + DONE + LATE + b"data: {"), *decoder.close()]
    assert b"".join(event.raw for event in events) == CONTENT + DONE
    with pytest.raises(Truncated):
        list(minimal.decoder(ask(openai_chat, ASKED), target(openai_chat), HEAD).close())


@pytest.mark.parametrize("betas", [5, "a", [1], {"a": 1}])
def test_betas_of_a_body_that_are_no_list_of_names_are_refused(betas):
    with pytest.raises(Refused, match="anthropic_beta: is a list of names"):
        build(anthropic_messages, ask(anthropic_messages, {"model": "m", "anthropic_beta": betas}))
