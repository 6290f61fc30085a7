"""Tests of InvokeModel's plugin, with bodies in Anthropic's dialect and with bodies that the gateway does not
interpret.
"""

import base64
import json
from dataclasses import replace

import pytest

from gateway.contract.capabilities import Caps
from gateway.contract.errors import BadFrame, Refused, Truncated, UpstreamFailed
from gateway.contract.flag import OPAQUE, ClientRequest, Event, Head, Members, Target
from gateway.contract.framing import eventstream
from gateway_plugins import bedrock_model_invoke as flag
from gateway_plugins.dialects.anthropic_messages import facts as messages_facts

CLAUDE = Caps(
    native_dialect="anthropic_messages", anthropic_versions=("bedrock-2023-05-31",), cache_points=True, cache_ttl=True
)
HEAD = Head(200, {"content-type": "application/vnd.amazon.eventstream"})


def ask(body, *, client="anthropic_messages", dialect="anthropic_messages", operation="generate", **headers):
    top = Members(json.dumps(body).encode())
    stream = bool(body.get("stream"))
    return ClientRequest(client, dialect, operation, "POST", "/", "", headers, top, body.get("model", "m"), stream)


def target(caps=CLAUDE, model="us.anthropic.claude-x-v1:0"):
    return Target("bedrock", "bedrock_model_invoke", model, flag.dialect_for(caps), caps)


def build(the_ask, caps=CLAUDE):
    dropped = []
    send = flag.build(the_ask, target(caps), dropped.append)
    return send, json.loads(send.body), dropped


def chunk(data):
    payload = {"bytes": base64.b64encode(json.dumps(data).encode()).decode(), "p": "abc"}
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return eventstream.encode(headers, json.dumps(payload).encode())


def exception(name, message):
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return eventstream.encode(headers, json.dumps({"message": message}).encode())


START = {
    "type": "message_start",
    "message": {"model": "claude-x", "usage": {"input_tokens": 7, "output_tokens": 1, "cache_read_input_tokens": 3}},
}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
STOP = {
    "type": "message_stop",
    "amazon-bedrock-invocationMetrics": {"inputTokenCount": 7, "outputTokenCount": 9, "cacheWriteInputTokenCount": 5},
}


def decode(*data, caps=CLAUDE):
    decoder = flag.decoder(ask({"model": "m", "stream": True}), target(caps), HEAD)
    events = [event for piece in data for event in decoder.feed(piece)]
    return events + list(decoder.close())


def test_the_model_goes_into_the_path_with_every_reserved_letter_escaped():
    arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/a.b"
    send = flag.build(ask({"model": arn}), target(model=arn), print)
    assert send.path == "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fa.b/invoke"


def test_a_messages_body_loses_model_and_stream_and_gains_the_version():
    send, body, dropped = build(ask({"model": "m", "stream": True, "max_tokens": 5, "messages": [], "new_field": 1}))
    assert send.path.endswith("/invoke-with-response-stream")
    assert body == {"max_tokens": 5, "messages": [], "new_field": 1, "anthropic_version": "bedrock-2023-05-31"}
    assert dropped == []


def test_a_wrong_version_in_a_bedrock_body_is_replaced():
    """Check that an API version that the model does not accept is replaced in the body of a Bedrock client."""
    the_ask = ask({"anthropic_version": "2026-10-21", "max_tokens": 1}, client="bedrock_model_invoke")
    assert build(the_ask)[1] == {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1}


def test_a_bedrock_clients_body_is_not_touched_otherwise():
    body = b'{ "anthropic_version":"bedrock-2023-05-31", "temperature": 1.0, "x": {"scope": 1} }'
    the_ask = ClientRequest(
        "bedrock_model_invoke", "anthropic_messages", "generate", "POST", "/", "", {}, Members(body), "m", False
    )
    assert flag.build(the_ask, target(), print).body == body


def test_betas_of_the_header_are_filtered_and_what_is_left_out_is_told():
    betas = "prompt-caching-scope-2026-01-05, effort-2025-11-24,advanced-tool-use-2025-11-20"
    _, body, dropped = build(ask({"max_tokens": 1}, **{"anthropic-beta": betas}))
    assert body["anthropic_beta"] == ["effort-2025-11-24", "tool-search-tool-2025-10-19", "tool-examples-2025-10-29"]
    assert dropped == ["/anthropic-beta/prompt-caching-scope-2026-01-05"]


def test_betas_of_a_bedrock_clients_header_are_not_merged_into_its_body():
    the_ask = ask(
        {"anthropic_version": "bedrock-2023-05-31", "anthropic_beta": ["a-2025"]},
        client="bedrock_model_invoke",
        **{"anthropic-beta": "claude-code-20250219"},
    )
    assert build(the_ask)[1]["anthropic_beta"] == ["a-2025"]


def test_fields_that_bedrock_refuses_are_dropped_aloud():
    _, body, dropped = build(ask({"max_tokens": 1, "container": "c", "mcp_servers": [], "service_tier": "scale"}))
    assert body == {"max_tokens": 1, "anthropic_version": "bedrock-2023-05-31"}
    assert sorted(dropped) == ["/container", "/service_tier"]


def test_a_service_tier_becomes_a_header():
    send, body, dropped = build(ask({"max_tokens": 1, "service_tier": "flex"}))
    assert (send.headers["x-amzn-bedrock-service-tier"], dropped) == ("flex", [])
    assert "service_tier" not in body


def test_cache_scopes_are_taken_out_wherever_they_are():
    control = {"type": "ephemeral", "scope": "global", "ttl": "1h"}
    message = {
        "role": "user",
        "content": [{"type": "tool_result", "content": [{"type": "text", "text": "a", "cache_control": control}]}],
    }
    _, body, dropped = build(
        ask({"system": [{"type": "text", "text": "s", "cache_control": control}], "messages": [message]})
    )
    assert body["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert body["messages"][0]["content"][0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert dropped == ["/system/0/cache_control/scope", "/messages/0/content/0/content/0/cache_control/scope"]


def test_a_ttl_is_removed_and_reported_if_longer_than_usual():
    """Check that a model without long cache lifetimes gets cache marks without `ttl`.

    Only a `ttl` above 5 minutes is reported as dropped.
    """

    def marked(ttl):
        return {"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": ttl}}

    the_ask = ask({"system": [marked("1h")], "tools": [{"name": "f", **marked("5m")}], "messages": []})
    _, body, dropped = build(the_ask, replace(CLAUDE, cache_ttl=False))
    assert [body[name][0]["cache_control"] for name in ("system", "tools")] == [{"type": "ephemeral"}] * 2
    assert dropped == ["/system/0/cache_control/ttl"]
    assert build(the_ask)[1]["tools"][0]["cache_control"]["ttl"] == "5m"


def test_a_tools_changes_survive_a_change_of_its_cache_mark():
    """Check that a change of a tool's cache mark does not undo another change of the same tool."""
    tool = {"custom": {"name": "f", "defer_loading": True}, "cache_control": {"type": "ephemeral", "scope": "global"}}
    _, body, dropped = build(ask({"tools": [tool]}))
    assert body["tools"] == [{"name": "f", "defer_loading": True, "cache_control": {"type": "ephemeral"}}]
    assert dropped == ["/tools/0/cache_control/scope"]


def test_a_schema_of_type_custom_is_an_object():
    _, body, dropped = build(ask({"tools": [{"name": "f", "input_schema": {"type": "custom", "properties": {}}}]}))
    assert (body["tools"][0]["input_schema"], dropped) == ({"type": "object", "properties": {}}, [])


CONTROL = {"type": "ephemeral", "ttl": "1h", "scope": "global"}


@pytest.mark.parametrize(
    ("content", "at"),
    [
        ("Hi", 0),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], 1),
        ([{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "t", "signature": "s"}], 0),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": " "}], 0),
    ],
)
def test_a_requests_cache_mark_goes_to_the_last_able_block(content, at):
    """Check that a cache mark for the whole request is put on the last block that can have one."""
    _, body, dropped = build(ask({"messages": [{"role": "user", "content": content}], "cache_control": CONTROL}))
    assert "cache_control" not in body
    blocks = body["messages"][0]["content"]
    assert [index for index, block in enumerate(blocks) if "cache_control" in block] == [at]
    assert blocks[at]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert dropped == ["/cache_control/scope"]


def test_a_requests_cache_mark_without_a_place_is_dropped():
    """Check that a cache mark for the whole request is reported as dropped if no block can have it."""
    control = {"type": "ephemeral"}
    marked = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    four = {"messages": [{"role": "user", "content": [*[marked] * 4, {"type": "text", "text": "b"}]}]}
    for body, caps in (({"messages": []}, CLAUDE), (four, CLAUDE), (four, replace(CLAUDE, cache_points=False))):
        _, sent, dropped = build(ask({**body, "cache_control": control}), caps)
        assert (sent["messages"], dropped) == (body["messages"], ["/cache_control"])
    own = [{"role": "user", "content": [marked]}]
    _, sent, dropped = build(ask({"messages": own, "cache_control": control}))
    assert (sent["messages"], dropped) == (own, [])
    assert "cache_control" not in build(ask({"messages": own, "cache_control": None}))[1]
    with pytest.raises(Refused, match="cache_control"):
        build(ask({"messages": own, "cache_control": "yes"}))


INTERLEAVED = "interleaved-thinking-2025-05-14"


@pytest.mark.parametrize(
    ("thinking", "tools", "taken"),
    [("enabled", [{"name": "f"}], True), ("enabled", [], False), ("adaptive", [{"name": "f"}], False)],
)
def test_interleaved_thinking_in_a_header_is_taken_if_useful(thinking, tools, taken):
    """Check that the beta for interleaved thinking in a header is sent only if it has an effect."""
    request = {"thinking": {"type": thinking}, "tools": tools}
    _, body, dropped = build(ask(request, **{"anthropic-beta": INTERLEAVED}))
    assert body.get("anthropic_beta", []) == ([INTERLEAVED] if taken else [])
    assert dropped == ([] if taken else [f"/anthropic-beta/{INTERLEAVED}"])


def test_interleaved_thinking_in_a_body_covers_the_header():
    """Check a request whose body and header both name the beta for interleaved thinking.

    The beta is sent in the body, and the header is not reported as dropped.
    """
    _, body, dropped = build(ask({"anthropic_beta": [INTERLEAVED]}, **{"anthropic-beta": INTERLEAVED}))
    assert (body["anthropic_beta"], dropped) == ([INTERLEAVED], [])


def test_clear_thinking_edits_are_dropped_and_the_others_kept():
    edits = [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]
    _, body, dropped = build(ask({"context_management": {"edits": edits}}))
    assert body["context_management"] == {"edits": edits[1:]}
    assert dropped == ["/context_management/edits"]


def test_a_tool_that_only_anthropics_servers_run_is_refused_by_name():
    with pytest.raises(Refused, match=r'tools\[0\]: "web_search" \(web_search_20250305\)'):
        build(ask({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}))


def test_eager_input_streaming_brings_its_beta():
    _, body, _ = build(ask({"tools": [{"name": "t", "eager_input_streaming": True}]}))
    assert body["anthropic_beta"] == ["fine-grained-tool-streaming-2025-05-14"]


def test_count_tokens_wraps_the_body_and_names_the_base_model():
    send, body, _ = build(ask({"model": "m", "messages": []}, operation="count_tokens"))
    assert send.path == "/model/anthropic.claude-x-v1%3A0/count-tokens"
    inner = json.loads(base64.b64decode(body["input"]["invokeModel"]["body"]))
    assert inner == {"messages": [], "anthropic_version": "bedrock-2023-05-31", "max_tokens": 1}


def test_events_come_out_of_their_chunks_without_bedrocks_metrics():
    events = decode(chunk(START), chunk(DELTA), chunk(STOP))
    assert [event.kind for event in events] == [
        "message_start",
        messages_facts.INVOCATION_METRICS,
        "message_delta",
        messages_facts.INVOCATION_METRICS,
        "message_stop",
    ]
    assert events[-1].data == {"type": "message_stop"}


def test_the_raw_frames_are_all_the_bytes_that_came():
    stream = chunk(START) + chunk(DELTA) + chunk(STOP)
    assert b"".join(event.raw for event in decode(stream)) == stream


def test_the_last_delta_gets_the_counts_that_bedrock_reports_elsewhere():
    delta = decode(chunk(START), chunk(DELTA), chunk(STOP))[2]
    assert delta.data["usage"] == {
        "output_tokens": 9,
        "input_tokens": 7,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 5,
    }


def test_output_counts_at_once_though_its_event_is_held_back():
    """Check that output tokens are counted as soon as an event reports them, even if the decoder still holds this event
    back.
    """
    decoder = flag.decoder(ask({"model": "m"}), target(), HEAD)
    meter = flag.meter(ask({"model": "m"}), target(), HEAD)
    for event in decoder.feed(chunk(START) + chunk(DELTA)):
        meter.feed(event)
    assert (meter.facts().usage.output, meter.facts().stop) == (9, "")


def test_usage_is_merged_from_every_place_and_never_summed():
    meter = flag.meter(ask({"model": "m"}), target(), HEAD)
    for event in decode(chunk(START), chunk(DELTA), chunk(STOP)):
        meter.feed(event)
    facts = meter.facts()
    assert facts.usage.as_dict() == {
        "input": 7,
        "output": 9,
        "cache_read": 3,
        "cache_write_5m": 5,
        "cache_write_1h": 0,
        "reasoning": 0,
    }
    assert (facts.stop, facts.model, facts.reported) == ("end_turn", "claude-x", True)


def test_an_hours_cache_write_is_not_counted_again_as_five_minutes():
    meter = flag.meter(ask({"model": "m"}), target(), HEAD)
    usage = {"input_tokens": 1, "cache_creation_input_tokens": 8, "cache_creation": {"ephemeral_1h_input_tokens": 8}}
    meter.feed(Event("message_start", json.dumps({"message": {"usage": usage}}).encode()))
    meter.feed(Event(messages_facts.INVOCATION_METRICS, b'{"inputTokenCount":1,"cacheWriteInputTokenCount":8}'))
    counts = meter.facts().usage
    assert (counts.cache_write_5m, counts.cache_write_1h) == (0, 8)


def test_a_delta_that_repeats_only_the_sum_of_writes_adds_nothing():
    meter = flag.meter(ask({"model": "m"}), target(), HEAD)
    usage = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 100,
        "cache_creation": {"ephemeral_1h_input_tokens": 100},
    }
    meter.feed(Event("message_start", json.dumps({"message": {"usage": usage}}).encode()))
    meter.feed(Event("message_delta", b'{"delta":{},"usage":{"output_tokens":5,"cache_creation_input_tokens":100}}'))
    counts = meter.facts().usage
    assert (counts.cache_write_5m, counts.cache_write_1h, counts.output) == (0, 100, 5)


def test_a_stream_without_message_stop_is_truncated():
    with pytest.raises(Truncated):
        decode(chunk(START), chunk(DELTA))


def test_half_a_frame_in_place_of_the_end_is_truncated():
    with pytest.raises(Truncated):
        decode(chunk(START) + chunk(STOP)[:-20])


def test_an_exception_frame_is_raised_after_the_events_before_it():
    decoder = flag.decoder(ask({"model": "m"}), target(), HEAD)
    seen = []
    with pytest.raises(UpstreamFailed) as failed:
        seen.extend(decoder.feed(chunk(START) + chunk(DELTA) + exception("throttlingException", "Too many tokens")))
    assert [event.kind for event in seen] == ["message_start", messages_facts.INVOCATION_METRICS, "message_delta"]
    problem = failed.value.problem
    assert (problem.code, problem.native, problem.message, problem.status) == (
        "rate_limit",
        "ThrottlingException",
        "Too many tokens",
        429,
    )


def test_a_chunk_without_bytes_is_a_bad_frame():
    with pytest.raises(BadFrame):
        decode(eventstream.encode({":event-type": "chunk", ":message-type": "event"}, b'{"p":"a"}'))


def test_an_opaque_stream_is_counted_by_its_metrics_and_complete_with_them():
    stream = chunk({"generation": "a"}) + chunk(
        {"generation": "", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 4, "outputTokenCount": 2}}
    )
    events = decode(stream, caps=Caps())
    meter = flag.meter(ask({"model": "m"}), target(Caps()), HEAD)
    for event in events:
        meter.feed(event)
    assert b"".join(event.raw for event in events) == stream
    assert (meter.facts().usage.input, meter.facts().usage.output) == (4, 2)
    with pytest.raises(Truncated):
        decode(chunk({"generation": "a"}), caps=Caps())


@pytest.mark.parametrize(
    "last",
    [
        [{"generation": "", "stop_reason": "stop", "prompt_token_count": 4, "generation_token_count": 2}],
        [
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}},
        ],
        [{"outputText": "", "completionReason": "FINISH", "inputTextTokenCount": 4, "outputTokens": 2}],
    ],
)
def test_a_stop_reason_ends_an_opaque_stream_without_metrics(last):
    stream = b"".join(map(chunk, [{"generation": "a", "stop_reason": None, "usage": None}, *last]))
    events = decode(stream, caps=Caps())
    meter = flag.meter(ask({"model": "m"}), target(Caps()), HEAD)
    for event in events:
        meter.feed(event)
    assert b"".join(event.raw for event in events) == stream
    assert (meter.facts().usage.input, meter.facts().usage.output, meter.facts().reported) == (4, 2, True)


def test_the_metrics_of_an_opaque_stream_replace_its_other_counts():
    metrics = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 4, "outputTokenCount": 2}}
    first = {"stop_reason": "stop", "usage": {"prompt_tokens": 9, "completion_tokens": 9}}
    meter = flag.meter(ask({"model": "m"}), target(Caps()), HEAD)
    for event in decode(chunk(first), chunk(metrics), caps=Caps()):
        meter.feed(event)
    assert (meter.facts().usage.input, meter.facts().usage.output) == (4, 2)


def test_a_stop_reason_that_a_model_quotes_ends_no_stream():
    with pytest.raises(Truncated):
        decode(chunk({"generation": '{"stop_reason": "stop"}', "stop_reason": None}), caps=Caps())


@pytest.mark.parametrize(
    "body",
    [
        {"usage": {"inputTokens": 4, "outputTokens": 2}},
        {"prompt_token_count": 4, "generation_token_count": 2},
        {"usage": {"prompt_tokens": 4, "completion_tokens": 2}},
    ],
)
def test_an_opaque_body_is_counted_by_its_own_usage(body):
    meter = flag.meter(ask({"model": "m"}), target(Caps()), Head(200, {}))
    meter.whole(json.dumps(body).encode())
    assert (meter.facts().usage.input, meter.facts().usage.output, meter.facts().reported) == (4, 2, True)


@pytest.mark.parametrize("count", ["9" * 6000, "-1", "1.5", "\u00b2", ""])
def test_a_count_that_is_none_is_not_counted_and_crashes_nothing(count):
    head = Head(200, {"x-amzn-bedrock-input-token-count": count})
    meter = flag.meter(ask({}, dialect=OPAQUE), target(Caps()), head)
    meter.whole(json.dumps({"usage": {"inputTokens": count}}).encode())
    assert meter.facts().usage.input == 0


def test_an_opaque_body_without_usage_is_counted_by_the_headers():
    headers = {"x-amzn-bedrock-input-token-count": "4", "x-amzn-bedrock-output-token-count": "2"}
    meter = flag.meter(ask({"model": "m"}), target(Caps()), Head(200, headers))
    meter.whole(b"not json")
    assert (meter.facts().usage.input, meter.facts().usage.output) == (4, 2)


def test_a_bedrock_client_of_another_provider_gets_chunks_with_metrics():
    encoder = flag.encoder(ask({"model": "m"}, client="bedrock_model_invoke"))
    stream = b"".join(
        encoder.feed(Event(data["type"], json.dumps(data).encode()))
        for data in (START, DELTA, {"type": "ping"}, {"type": "message_stop"})
    )
    events = decode(stream)
    assert [event.kind for event in events] == [
        "message_start",
        messages_facts.INVOCATION_METRICS,
        "message_delta",
        messages_facts.INVOCATION_METRICS,
        "message_stop",
    ]
    assert events[3].data["outputTokenCount"] == 9


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        (
            {"x-amzn-errortype": "ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/"},
            {"message": "slow"},
            ("rate_limit", "ThrottlingException", "slow"),
        ),
        (
            {},
            {"__type": "com.amazon.coral#ValidationException", "message": "bad"},
            ("invalid_request", "ValidationException", "bad"),
        ),
        (
            {},
            {"Message": "Authentication failed: Please make sure your API Key is valid."},
            ("invalid_request", "", "Authentication failed: Please make sure your API Key is valid."),
        ),
    ],
)
def test_an_exception_is_read_from_header_body_then_status(headers, body, expected):
    """Check that the exception's name is read from the header, or else from the body, or else from the status."""
    problem = flag.problem(Head(400, headers), json.dumps(body).encode())
    assert (problem.code, problem.native, problem.message) == expected


def test_a_wrong_path_is_an_error_though_bedrock_answers_it_with_200():
    body = b'{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}'
    problem = flag.problem(Head(200, {}), body)
    assert (problem.code, problem.native, problem.status) == ("not_found", "UnknownOperationException", 404)


@pytest.mark.parametrize("domain", ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "api.amazonwebservices.eu"])
def test_an_address_of_aws_has_no_version(domain):
    url = f"https://bedrock-runtime.eusc-de-east-1.{domain}"
    assert (bool(flag.base_url_fault(f"{url}/v1")), flag.base_url_fault(url)) == (True, "")


def test_opaque_is_the_dialect_of_a_body_without_anthropics_version():
    assert flag.dialect_for(Caps()) == OPAQUE


@pytest.mark.parametrize("member", [{}, {"type": "message"}, {"anthropic_version": "bedrock-2023-05-31"}])
@pytest.mark.parametrize(("kind", "name"), [("request", "prompt"), ("request", "inputText"), ("reply", "generation")])
def test_no_member_of_messages_hides_the_text_of_another_model(kind, name, member):
    body = json.dumps({**member, name: "the text"}).encode()
    paths = [place.path for place in flag.places(Event(kind, body))]
    assert (name,) in paths


@pytest.mark.parametrize("name", ["prompt", "inputText", "texts", "chat_history"])
def test_a_whole_request_of_messages_hides_no_text_of_another_model(name):
    """Check that filters get the text in a field that is not Claude's, even if the body is a complete request for
    Claude.
    """
    turns = [{"role": "user", "content": "hi"}]
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": turns, name: ["the text"]}
    paths = [place.path for place in flag.places(Event("request", json.dumps(body).encode()))]
    assert paths == [("messages", 0, "content"), (name, 0)]
