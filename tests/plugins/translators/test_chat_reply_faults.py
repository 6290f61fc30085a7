"""Tests of random faults in replies that are translated from Converse and from Messages to Chat.

Either the client gets the reply without the faulty field, or the reader raises `BadFrame`.
"""

from __future__ import annotations

from contextlib import suppress

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.contract.errors import BadFrame, Truncated
from gateway.contract.flag import Event, Head, event
from gateway_plugins import bedrock_converse
from gateway_plugins.dialects.bedrock import runtime_api
from tests.helpers import chat_to_converse, chat_to_messages
from tests.helpers.json_faults import MISSING, changed, paths

JUNK = [MISSING, None, "", 0, -1, 1.5, True, [], {}, "x", "=", "é", [None], [1], ["x"], {"x": 1}, {"type": "x"}, 2**63]
ASKED = {
    "stream_options": {"include_usage": True},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
}
CITATION = {"title": "A", "location": {"web": {"url": "https://a.example"}}}
CONVERSE = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "t", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "c2ln"}},
                {"text": "Hello"},
                {"toolUse": {"toolUseId": "a", "name": "look", "input": {"x": 1}}},
                {"toolUse": {"toolUseId": "b", "name": "json_output", "input": {"x": 1}}},
                {"citationsContent": {"content": [{"text": "Hi"}], "citations": [CITATION]}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": {
        "inputTokens": 1,
        "outputTokens": 2,
        "cacheReadInputTokens": 3,
        "cacheWriteInputTokens": 4,
        "cacheDetails": [{"ttl": "1h", "inputTokens": 2}],
    },
}
CONVERSE_STREAM = [
    ["messageStart", {"role": "assistant"}],
    ["contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "t"}}}],
    ["contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "s"}}}],
    ["contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"redactedContent": "c2ln"}}}],
    ["contentBlockStop", {"contentBlockIndex": 0}],
    ["contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "Hello"}}],
    ["contentBlockDelta", {"contentBlockIndex": 1, "delta": {"citation": CITATION}}],
    ["contentBlockStop", {"contentBlockIndex": 1}],
    ["contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "a", "name": "look"}}}],
    ["contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": "{}"}}}],
    ["contentBlockStop", {"contentBlockIndex": 2}],
    ["messageStop", {"stopReason": "tool_use"}],
    ["metadata", {"usage": CONVERSE["usage"], "metrics": {"latencyMs": 1}}],
]
MESSAGES_USAGE = {
    "input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 2},
    "output_tokens_details": {"thinking_tokens": 1},
}  # fmt: skip
MESSAGES = {
    "id": "msg_1",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "Hello", "citations": [{"type": "char_location"}]},
        {"type": "tool_use", "id": "a", "name": "look", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "json_output", "input": {"x": 1}},
        {"type": "server_tool_use", "id": "c", "name": "web_search", "input": {}},
    ],
    "stop_reason": "tool_use",
    "usage": MESSAGES_USAGE,
}
MESSAGES_STREAM = [
    ["message_start", {"message": {"id": "msg_1", "usage": MESSAGES_USAGE}}],
    ["content_block_start", {"index": 0, "content_block": {"type": "thinking", "thinking": "t", "signature": ""}}],
    ["content_block_delta", {"index": 0, "delta": {"type": "thinking_delta", "thinking": "u"}}],
    ["content_block_delta", {"index": 0, "delta": {"type": "signature_delta", "signature": "s"}}],
    ["content_block_stop", {"index": 0}],
    ["content_block_start", {"index": 1, "content_block": {"type": "redacted_thinking", "data": "d"}}],
    ["content_block_stop", {"index": 1}],
    ["content_block_start", {"index": 2, "content_block": {"type": "text", "text": "a"}}],
    ["content_block_delta", {"index": 2, "delta": {"type": "text_delta", "text": "b"}}],
    ["content_block_delta", {"index": 2, "delta": {"type": "citations_delta", "citation": {}}}],
    ["content_block_stop", {"index": 2}],
    ["content_block_start", {"index": 3, "content_block": {"type": "tool_use", "id": "a", "name": "f", "input": {}}}],
    ["content_block_delta", {"index": 3, "delta": {"type": "input_json_delta", "partial_json": "{}"}}],
    ["content_block_stop", {"index": 3}],
    ["message_delta", {"delta": {"stop_reason": "tool_use"}, "usage": MESSAGES_USAGE}],
    ["message_stop", {}],
]


def to_converse(*, stream):
    return chat_to_converse.opened(ASKED, stream=stream)


def to_messages(*, stream):
    return chat_to_messages.opened(ASKED | ({"stream": True} if stream else {}), stream=stream)[0]


def streamed(translation, events):
    chunks = [chunk for each in events for chunk in translation.feed(each)] + list(translation.close())
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.data)
    return chunks


def places(stream):
    """Return the paths at which a test puts faults: all paths inside the data of the events. Event types have no
    faults.
    """
    return [path for path in paths(stream) if len(path) > 2]


DEMANDED = {("output",), ("output", "message"), ("content",), ("stop_reason",)}
"""Fields of a provider's reply without which the reply cannot be translated."""
WHOLE = [(to_converse, CONVERSE, path) for path in paths(CONVERSE)]
WHOLE += [(to_messages, MESSAGES, path) for path in paths(MESSAGES)]
STREAMS = [(to_converse, CONVERSE_STREAM, path) for path in places(CONVERSE_STREAM)]
STREAMS += [(to_messages, MESSAGES_STREAM, path) for path in places(MESSAGES_STREAM)]


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(WHOLE), st.sampled_from(JUNK))
def test_a_whole_reply_with_a_fault_is_still_a_completion(case, junk):
    opened, reply, path = case
    faulty = changed(reply, path, junk)
    if path in DEMANDED:
        with suppress(BadFrame):
            opened(stream=False).whole(orjson.dumps(faulty))
        return
    ChatCompletion.model_validate_json(opened(stream=False).whole(orjson.dumps(faulty)))


@pytest.mark.parametrize(
    ("opened", "body"),
    [(opened, body) for opened in (to_converse, to_messages) for body in ({}, {"error": {"message": "no"}})]
    + [(to_converse, changed(CONVERSE, path, MISSING)) for path in (("output",), ("output", "message"))]
    + [(to_messages, changed(MESSAGES, path, MISSING)) for path in (("content",), ("stop_reason",))],
)
def test_a_reply_without_a_message_is_a_bad_frame_and_not_an_empty_answer(opened, body):
    with pytest.raises(BadFrame, match="the provider's reply has no"):
        opened(stream=False).whole(orjson.dumps(body))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(STREAMS), st.sampled_from(JUNK))
def test_a_stream_with_a_fault_is_still_one_of_chunks(case, junk):
    opened, stream, path = case
    streamed(opened(stream=True), [event(kind, data) for kind, data in changed(stream, path, junk)])


@pytest.mark.parametrize("data", [None, [], 1, "x", {}])
@pytest.mark.parametrize("kind", sorted({kind for kind, _ in CONVERSE_STREAM + MESSAGES_STREAM}))
def test_an_event_whose_data_are_no_object_crashes_nothing(kind, data):
    for opened in (to_converse, to_messages):
        streamed(opened(stream=True), [event(kind, data)])


@pytest.mark.parametrize("opened", [to_converse, to_messages])
@given(events=st.lists(st.sampled_from(CONVERSE_STREAM + MESSAGES_STREAM), max_size=12))
@settings(max_examples=100, deadline=None)
def test_events_in_any_order_crash_nothing(opened, events):
    streamed(opened(stream=True), [event(kind, data) for kind, data in events])


@pytest.mark.parametrize(("opened", "kind"), [(to_converse, "contentBlockDelta"), (to_messages, "content_block_delta")])
def test_an_event_that_is_not_json_is_a_bad_frame(opened, kind):
    with pytest.raises(BadFrame):
        opened(stream=True).feed(Event(kind, b"{"))


@pytest.mark.parametrize("opened", [to_converse, to_messages])
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'"x"'])
def test_a_reply_that_is_no_object_is_a_bad_frame(opened, body):
    with pytest.raises(BadFrame):
        opened(stream=False).whole(body)


@pytest.mark.parametrize(
    ("opened", "reply", "path"),
    [
        (to_converse, CONVERSE, ("output", "message", "content", 3, "toolUse", "input")),
        (to_messages, MESSAGES, ("content", 3, "input")),
    ],
)
def test_arguments_that_are_nested_too_deeply_are_a_bad_frame(opened, reply, path):
    deep = b'{"a":' * 400 + b"1" + b"}" * 400
    with pytest.raises(BadFrame, match="nested"):
        opened(stream=False).whole(orjson.dumps(changed(reply, path, "%DEEP%")).replace(b'"%DEEP%"', deep))


def test_hidden_thinking_that_is_not_base64_is_reported():
    drops: list[str] = []
    block = {"reasoningContent": {"redactedContent": "c2lnx"}}
    reply = {"output": {"message": {"content": [block, {"text": "Hi"}]}}, "stopReason": "end_turn"}
    chat_to_converse.opened({}, drops=drops).whole(orjson.dumps(reply))
    assert drops == ["/reply/reasoningContent/redactedContent"]


def frame(kind: str) -> bytes:
    return runtime_api.message(kind, orjson.dumps(dict(CONVERSE_STREAM)[kind]))


def decoded(data: bytes) -> list[str]:
    decoder = bedrock_converse.ConverseDecoder()
    return [each.kind for each in (*decoder.feed(data), *decoder.close())]


def test_half_a_frame_and_a_missing_last_one_are_errors():
    """Check that a stream is an error if it ends within a frame, or without `metadata`, which Bedrock always sends."""
    start, stop, metadata = (frame(kind) for kind in ("messageStart", "messageStop", "metadata"))
    assert decoded(start + metadata + stop) == ["messageStart", "metadata", "messageStop"]
    for broken in (start + stop[:-5], start + stop, start + stop + metadata[:-5]):
        with pytest.raises(Truncated):
            decoded(broken)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([case for case in STREAMS if case[0] is to_converse]), st.sampled_from(JUNK))
def test_converses_meter_reads_past_a_fault(case, junk):
    _, stream, path = case
    meter = bedrock_converse.meter(
        chat_to_converse.ask({}), chat_to_messages.target(), Head(200, {"content-type": "application/json"})
    )
    for kind, data in changed(stream, path, junk):
        meter.feed(event(kind, data))
    meter.whole(orjson.dumps(CONVERSE))
    assert meter.facts().usage.output >= 2
