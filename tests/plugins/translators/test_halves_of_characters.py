"""Tests of texts that end within a character: halves of UTF-16 and parts of UTF-8, in requests and replies.

Clients cut texts between UTF-16 units and keep them in the history (anomalyco/opencode#17758,
langchain-ai/deepagentsjs#631, anthropics/claude-code#60394), and providers accept such JSON.
"""

import json

import pytest

from tests.helpers.clients import CLIENTS
from tests.helpers.conversion import CONVERSIONS, encoded, read_events
from tests.helpers.fold import fold

HALF, LATTER = "\ud83d", "\ude00"
"""The two surrogates of one character (UTF-16). Python's `json` writes a lone surrogate as an escape."""
every_conversion = pytest.mark.parametrize("conversion", CONVERSIONS.values(), ids=CONVERSIONS)
SCHEMA = {"type": "object", "properties": {f"ci{HALF}": {"type": "string", "description": f"A {HALF}"}}}


def places(client):
    """Return a dict from a label to a request. Each request has half a character at another place, such as a tool's
    description.
    """
    plain = client.user(client.text("Hi"))
    call = [*plain, *client.called(("a1", "look", {f"ke{HALF}y": f"in {HALF}"}))]
    tools = [client.tool(schema=SCHEMA, description=f"Looks {HALF}.")]
    result = client.answered("a1", client.text(f"found {HALF}"))
    return {
        "user": client.body(client.user(client.text(f"cut {HALF} here")), limit=100),
        "end": client.body(client.user(client.text(f"cut {HALF}")), limit=100),
        "latter": client.body(client.user(client.text(f"{LATTER} cut")), limit=100),
        "two firsts": client.body(client.user(client.text(f"{HALF}\U0001f600")), limit=100),
        "assistant": client.body([*plain, *client.assistant(f"so {HALF}"), *plain], limit=100),
        "call and result": client.body([*call, *result], limit=100, tools=tools),
        "tool": client.body(plain, limit=100, tools=tools),
        "unknown member": client.body(plain, limit=100) | {f"odd{HALF}": f"{HALF}"},
        "large": client.body(client.user(client.text("x" * 1_100_000 + HALF)), limit=100),
    }


@every_conversion
@pytest.mark.parametrize("place", places(CLIENTS["openai_chat"]))
def test_a_half_in_a_request_costs_only_the_half(conversion, place):
    """Check that the provider gets either the unchanged text, or the text with U+FFFD in place of the half
    character.
    """
    body = places(CLIENTS[conversion.client.name])[place]
    call = conversion.call(body)
    sent = json.loads(call.upstream_request.body)
    text = json.dumps(sent, ensure_ascii=False).replace(HALF, "\ufffd").replace(LATTER, "\ufffd")
    for expected in {
        "user": ["cut \ufffd here"],
        "end": ["cut \ufffd"],
        "latter": ["\ufffd cut"],
        "two firsts": ["\ufffd\U0001f600", "\ufffd\ufffd\ufffd"],
        "assistant": ["so \ufffd"],
        "call and result": ["found \ufffd"],
        "tool": ["Looks \ufffd."],
        "large": ["xxx\ufffd"],
    }.get(place, [])[:1]:
        assert expected in text or (place == "two firsts" and "\ufffd\ufffd\ufffd" in text)
    if place == "call and result":
        assert "rawInvalidInput" not in text
        assert "in \ufffd" in text or "in \\\\ud83d" in text or "in \\ud83d" in text


def chat_events(*pieces):
    choice = {"index": 0, "finish_reason": None}
    texts = [{"choices": [{**choice, "delta": {"content": piece}}]} for piece in pieces]
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return [
        ("chat.completion.chunk", {"id": "c", **chunk}) for chunk in [*texts, last, {"choices": [], "usage": usage}]
    ]


def converse_events(*pieces):
    return [
        ("messageStart", {"role": "assistant"}),
        *[("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}}) for piece in pieces],
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, "metrics": {"latencyMs": 1}}),
    ]


def messages_events(*pieces):
    usage = {"input_tokens": 3, "output_tokens": 2}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    delta = {"type": "content_block_delta", "index": 0}
    events = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[{**delta, "delta": {"type": "text_delta", "text": piece}} for piece in pieces],
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return [(event["type"], event) for event in events]


def gemini_events(*pieces):
    chunks = [{"candidates": [{"content": {"role": "model", "parts": [{"text": piece}]}}]} for piece in pieces]
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    last = {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}], "usageMetadata": usage}
    return [("chunk", chunk) for chunk in [*chunks, last]]


EVENTS = {
    "openai_chat": chat_events,
    "bedrock_converse": converse_events,
    "anthropic_messages": messages_events,
    "gemini_generate_content": gemini_events,
}


def text_of_stream(conversion, pieces):
    """Return the client's text for a provider's stream. `pieces` are bytes, and each may end within a character."""
    names = [f"piece-{number}-" for number in range(len(pieces))]
    client = CLIENTS[conversion.client.name]
    more = {"stream_options": {"include_usage": True}} if conversion.dialect == "openai_chat" else {}
    call = conversion.call(client.body(client.user(client.text("Hi")), limit=100, **more), stream=True)
    events = [(kind, json.dumps(data).encode()) for kind, data in EVENTS[conversion.upstream](*names)]
    for name, piece in zip(names, pieces, strict=True):
        events = [(kind, payload.replace(name.encode(), piece)) for kind, payload in events]
    return text_of(conversion, call.streamed(encoded(conversion.provider, conversion.upstream, events)))


def text_of(conversion, data):
    events = read_events(conversion.client, conversion.dialect, data)
    return CLIENTS[conversion.client.name].read_reply(fold(conversion.dialect, events)).text


SPLITS = {
    "escapes": [b"a\\ud83d", b"\\ude00b"],
    "capital escapes": [b"a\\uD83D", b"\\uDE00b"],
    "after an escaped backslash": [b"a\\\\\\ud83d", b"\\ude00b"],
    "bytes 1+3": [b"a\xf0", b"\x9f\x98\x80b"],
    "bytes 2+2": [b"a\xf0\x9f", b"\x98\x80b"],
    "bytes 3+1": [b"a\xf0\x9f\x98", b"\x80b"],
    "twice": [b"a\\ud83d", b"\\ude00b\\ud83d", b"\\ude00c"],
}
TEXTS = {"after an escaped backslash": "a\\\U0001f600b", "twice": "a\U0001f600b\U0001f600c"}


TRANSLATED = [conversion for conversion in CONVERSIONS.values() if conversion.way == "translated"]
translated = pytest.mark.parametrize("conversion", TRANSLATED, ids=lambda conversion: conversion.name)


@pytest.mark.parametrize("split", SPLITS)
@translated
def test_a_character_split_over_two_deltas_is_whole(conversion, split):
    assert text_of_stream(conversion, SPLITS[split]) == TEXTS.get(split, "a\U0001f600b")


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([b"a\\ud83d", b"b"], "a\ufffdb"),
        ([b"a", b"\\ude00b"], "a\ufffdb"),
        ([b"a\\ud83d"], "a\ufffd"),
        ([b"a\\\\ud83d", b"\\ude00b"], "a\\ud83d\ufffdb"),
        ([b"a\\ud83d", b"b", b"c", b"d", b"e", b"f", b"\\ude00g"], "a\ufffdbcdef\ufffdg"),
    ],
)
@translated
def test_a_part_without_its_rest_costs_the_character_only(conversion, pieces, text):
    assert text_of_stream(conversion, pieces) == text
