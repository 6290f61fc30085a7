"""Tests of streams in which the provider contradicts itself about indexes, ids, names, event lines or types, on every
conversion.

Sources: NousResearch/hermes-agent#62940, ollama/ollama#15457, agno-agi/agno#8880, sgl-project/sglang#7048,
openai/openai-python#3246 (indexes and ids of calls); openclaw/openclaw#37571 (event lines); vercel/ai#18332 (a second
`message_start`); maximhq/bifrost#4262 (missing ends of blocks).
"""

import json

import pytest

from gateway.contract.errors import BadFrame
from gateway.contract.framing import sse
from tests.helpers.clients import CLIENTS
from tests.helpers.conversion import CONVERSIONS
from tests.helpers.fold import fold, read_stream
from tests.helpers.wires import framed

F, G = ("f", {"a": 1}), ("g", {"b": 2})
A, B = '{"a":1}', '{"b":2}'


def of(*, upstreams=None, providers=None):
    chosen = [
        each
        for each in CONVERSIONS.values()
        if (upstreams is None or each.upstream in upstreams) and (providers is None or each.provider.name in providers)
    ]
    return pytest.mark.parametrize("conversion", chosen, ids=lambda conversion: conversion.name)


def content(conversion, data):
    """Convert a streamed call, whose provider sends the bytes `data`.

    Return the content that the client gets, and the `ConvertedCall`.
    """
    say = CLIENTS[conversion.client.name]
    tools = [say.tool("f"), say.tool("g")]
    body = say.body(say.user(say.text("x")), tools=tools, limit=99)
    body |= {"stream_options": {"include_usage": True}} if conversion.client.name == "openai_chat" else {}
    passed = conversion.call(body, stream=True)
    told = read_stream(passed.streamed(data), conversion.client.stream_type(passed.client_request))
    return say.read_reply(fold(say.dialect, told)), passed


def entry(index=None, tool_id=None, name=None, arguments=None):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    made = {"index": index, "id": tool_id, "function": function}
    return {key: value for key, value in made.items() if value is not None}


def chat_stream(*deltas):
    """Return a Chat stream. Each delta is given as a list of entries of `tool_calls`."""
    choices = [{"index": 0, "delta": {"tool_calls": entries}, "finish_reason": None} for entries in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    chunks = [{"id": "c", "choices": [choice]} for choice in choices]
    chunks.append({"id": "c", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}})
    return b"".join(sse.encode(json.dumps(chunk).encode()) for chunk in chunks) + sse.encode(b"[DONE]")


CALLS = {
    # how the pieces of two calls, or of one, are labelled: (deltas, calls)
    "index 0 for all": ([[entry(0, "c1", "f", A)], [entry(0, "c2", "g", B)]], [F, G]),
    "index 0 in pieces": (
        [[entry(0, "c1", "f", "")], [entry(0, None, None, A)], [entry(0, "c2", "g", "")], [entry(0, None, None, B)]],
        [F, G],
    ),
    "index 0 in one chunk": ([[entry(0, "c1", "f", A), entry(0, "c2", "g", B)]], [F, G]),
    "one name, new ids": ([[entry(0, "c1", "f", A)], [entry(0, "c2", "f", A)]], [F, F]),
    "one name, new ids, no arguments": ([[entry(0, "c1", "f", "")], [entry(0, "c2", "f", "")]], [("f", {})] * 2),
    "one chunk, one name, no ids": ([[entry(0, None, "f", A), entry(0, None, "f", A)]], [F, F]),
    "no index": ([[entry(None, "c1", "f", A)], [entry(None, "c2", "g", B)]], [F, G]),
    "no index in pieces": (
        [[entry(None, "c1", "f", '{"a"')], [entry(None, None, None, ":1}")], [entry(None, "c2", "g", B)]],
        [F, G],
    ),
    "no index in one chunk": ([[entry(None, "c1", "f", A), entry(None, "c2", "g", B)]], [F, G]),
    "neither index nor id": ([[entry(None, None, "f", A)], [entry(None, None, "g", B)]], [F, G]),
    "text as index": ([[entry("0", "c1", "f", A)], [entry("1", "c2", "g", B)]], [F, G]),
    "float as index": ([[entry(0.0, "c1", "f", A)], [entry(1.0, "c2", "g", B)]], [F, G]),
    "null ids": ([[{**entry(0, None, "f", A), "id": None}], [{**entry(1, None, "g", B), "id": None}]], [F, G]),
    "blank ids": ([[entry(0, "", "f", A)], [entry(1, "", "g", B)]], [F, G]),
    "the id in every piece": (
        [[entry(0, "c1", "f", '{"a"')], [entry(0, "c1", None, ":1}")], [entry(1, "c2", "g", B)]],
        [F, G],
    ),
    "id and name in every piece": (
        [[entry(0, "c1", "f", '{"a"')], [entry(0, "c1", "f", ":1}")], [entry(1, "c2", "g", B)]],
        [F, G],
    ),
    "a new id in every piece": (
        [[entry(0, "x1", "f", '{"a"')], [entry(0, "x2", None, ":1}")], [entry(1, "x3", "g", '{"b"')],
         [entry(1, "x4", None, ":2}")]],
        [F, G],
    ),
    "a new name without an id": ([[entry(0, "c1", "f", A)], [entry(0, None, "g", B)]], [F, G]),
    "one id for both": ([[entry(0, "c", "f", A)], [entry(1, "c", "g", B)]], [F, G]),
    "one id and index for both": ([[entry(0, "c", "f", A)], [entry(0, "c", "g", B)]], [F, G]),
    "the tail under another index": (
        [[entry(0, "c1", "f", A)], [entry(0, "c2", "g", '{"b"')], [entry(1, None, None, ":2}")]],
        [F, G],
    ),
    "no id behind the first": ([[entry(0, "c1", "f", A)], [entry(1, None, "g", B)]], [F, G]),
    "mixed pieces": (
        [[entry(0, "c1", "f", '{"a"')], [entry(1, "c2", "g", '{"b"')], [entry(0, None, None, ":1}")],
         [entry(1, None, None, ":2}")]],
        [F, G],
    ),
    "mixed pieces by id": (
        [[entry(0, "c1", "f", '{"a"')], [entry(0, "c2", "g", '{"b"')], [entry(0, "c1", None, ":1}")],
         [entry(0, "c2", None, ":2}")]],
        [F, G],
    ),
    "braces before the arguments": ([[entry(0, "c1", "f", "{}")], [entry(0, None, None, A)]], [F]),
    "the whole call again": ([[entry(0, "c1", "f", '{"a"')], [entry(0, None, None, ":1}")],
                              [entry(0, "c1", "f", A)]], [F]),
    "arguments as an object": ([[entry(0, "c1", "f", {"a": 1})]], [F]),
    "null arguments": ([[{"index": 0, "id": "c1", "function": {"name": "f", "arguments": None}}]], [("f", {})]),
}  # fmt: skip


@of(upstreams=["openai_chat"])
@pytest.mark.parametrize("label", CALLS)
def test_calls_of_chat_are_told_apart_by_all_their_labels(conversion, label):
    deltas, expected = CALLS[label]
    reply, passed = content(conversion, chat_stream(*deltas))
    assert [call[1:] for call in reply.calls] == expected
    assert len({call[0] for call in reply.calls}) == len(expected)
    assert all(call[0] for call in reply.calls)
    assert passed.meter.facts().tools == [name for name, _ in expected]


@of(upstreams=["openai_chat"])
def test_calls_of_a_whole_message_are_as_many_as_its_entries(conversion):
    calls = [entry(0, "c", "f", A), entry(0, "c", "f", A), entry(None, None, "g", B)]
    say = CLIENTS[conversion.client.name]
    body = say.body(say.user(say.text("x")), tools=[say.tool("f"), say.tool("g")], limit=99)
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    whole = {"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 1}}
    reply = say.read_reply(conversion.call(body).whole(whole))
    assert [call[1:] for call in reply.calls] == [F, F, G]
    assert len({call[0] for call in reply.calls}) == 3


USE = {"f": {"type": "tool_use", "id": "c1", "name": "f", "input": {}}}
USE["g"] = {**USE["f"], "id": "c2", "name": "g"}


def start(index, block):
    return _with_index({"type": "content_block_start", "content_block": block}, index)


def fill(index, arguments):
    return _with_index(
        {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": arguments}}, index
    )


def say_text(index, text):
    return _with_index({"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}, index)


def stop(index):
    return _with_index({"type": "content_block_stop"}, index)


def _with_index(data, index):
    return data if index is None else {**data, "index": index}


TEXT = {"type": "text", "text": ""}
BLOCKS = {
    # how blocks are numbered, after the text "Hi": the events between `message_start` and `message_delta`
    "as they should be": [
        start(0, TEXT), say_text(0, "Hi"), stop(0), start(1, USE["f"]), fill(1, A), stop(1), start(2, USE["g"]),
        fill(2, B), stop(2),
    ],
    "all 0": [
        start(0, TEXT), say_text(0, "Hi"), stop(0), start(0, USE["f"]), fill(0, A), stop(0), start(0, USE["g"]),
        fill(0, B), stop(0),
    ],
    "all 0 without ends": [start(0, TEXT), say_text(0, "Hi"), start(0, USE["f"]), fill(0, A), start(0, USE["g"]), fill(0, B)],
    "pieces 0": [
        start(0, TEXT), say_text(0, "Hi"), stop(0), start(1, USE["f"]), fill(0, A), stop(1), start(2, USE["g"]),
        fill(0, B), stop(2),
    ],
    "no index": [
        start(None, TEXT), say_text(None, "Hi"), stop(None), start(None, USE["f"]), fill(None, A), stop(None),
        start(None, USE["g"]), fill(None, B), stop(None),
    ],
    "no ends": [start(0, TEXT), say_text(0, "Hi"), start(1, USE["f"]), fill(1, A), start(2, USE["g"]), fill(2, B)],
    "an end twice": [
        start(0, TEXT), say_text(0, "Hi"), stop(0), start(1, USE["f"]), stop(0), fill(1, A), stop(1), stop(1),
        start(2, USE["g"]), fill(2, B), stop(2),
    ],
    "mixed": [
        start(0, TEXT), start(1, USE["f"]), say_text(0, "H"), start(2, USE["g"]), fill(2, B), fill(1, A), stop(2),
        say_text(0, "i"), stop(0), stop(1),
    ],
    "text without a beginning": [
        say_text(0, "Hi"), start(1, USE["f"]), fill(1, A), stop(1), start(2, USE["g"]), fill(2, B), stop(2),
    ],
}  # fmt: skip
NO_CACHE = {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
BEGIN = {
    "type": "message_start",
    "message": {"id": "m", "role": "assistant", "content": [], "usage": {"input_tokens": 7, **NO_CACHE}},
}
END = [
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5, **NO_CACHE}},
    {"type": "message_stop"},
]


def messages_bytes(conversion, *events):
    return framed(conversion.provider.name, [(event["type"], event) for event in events])[0]


translated = [each for each in CONVERSIONS.values() if each.way == "translated"]
from_messages = pytest.mark.parametrize(
    "conversion", [each for each in translated if each.upstream == "anthropic_messages"], ids=lambda each: each.name
)


@from_messages
@pytest.mark.parametrize("numbers", BLOCKS)
def test_blocks_of_messages_are_told_apart_by_all_their_events(conversion, numbers):
    reply, _ = content(conversion, messages_bytes(conversion, BEGIN, *BLOCKS[numbers], *END))
    assert (reply.text, [call[1:] for call in reply.calls]) == ("Hi", [F, G])


def of_converse(event):
    """Return the Converse event that corresponds to an event of Messages.

    A text block has no start event in Converse.
    """
    index = {"contentBlockIndex": event["index"]} if "index" in event else {}
    match event["type"]:
        case "content_block_start":
            block = event["content_block"]
            if block["type"] == "text":
                return None
            return "contentBlockStart", {
                **index,
                "start": {"toolUse": {"toolUseId": block["id"], "name": block["name"]}},
            }
        case "content_block_stop":
            return "contentBlockStop", index
    delta = event["delta"]
    value = {"text": delta["text"]} if "text" in delta else {"toolUse": {"input": delta["partial_json"]}}
    return "contentBlockDelta", {**index, "delta": value}


from_converse = of(upstreams=["bedrock_converse"])
CONVERSE_END = [
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": {"inputTokens": 7, "outputTokens": 5, "totalTokens": 12}}),
]


@from_converse
@pytest.mark.parametrize("numbers", BLOCKS)
def test_blocks_of_converse_are_told_apart_by_all_their_events(conversion, numbers):
    events = [("messageStart", {"role": "assistant"})]
    events += [event for event in map(of_converse, BLOCKS[numbers]) if event is not None] + CONVERSE_END
    reply, passed = content(conversion, framed("bedrock_converse", events)[0])
    assert (reply.text, [call[1:] for call in reply.calls]) == ("Hi", [F, G])
    assert passed.meter.facts().tools == ["f", "g"]


def lines(*events, name):
    return b"".join(sse.encode(json.dumps(event).encode(), name(event["type"])) for event in events)


NAMES = {
    "no line": lambda kind: "",
    "message": lambda kind: "message",
    "the right one": lambda kind: kind,
    "ping for all": lambda kind: "ping",
    "an unknown word": lambda kind: "delta",
    "blanks around": lambda kind: f"  {kind} ",
}
"""Functions that get the right name of a server-sent event, and return the name that the provider sends."""


@of(providers=["anthropic_messages"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("first", [True, False], ids=["type first", "type last"])
def test_the_type_of_an_event_decides_beside_its_line(conversion, name, first):
    events = [BEGIN, *BLOCKS["as they should be"], *END]
    if not first:
        events = [
            {**{key: value for key, value in event.items() if key != "type"}, "type": event["type"]} for event in events
        ]
    reply, passed = content(conversion, lines(*events, name=NAMES[name]))
    assert (reply.text, [call[1:] for call in reply.calls]) == ("Hi", [F, G])
    facts = passed.meter.facts()
    assert (facts.usage.input, facts.usage.output, facts.stop) == (7, 5, "tool_use")


@from_messages
def test_a_second_message_inside_the_first_is_an_error(conversion):
    """Check that a stream with two messages is an error. A repeated `message_start` of the same message is not an
    error.
    """
    again = [BEGIN, BEGIN, *BLOCKS["as they should be"], *END]
    reply, _ = content(conversion, messages_bytes(conversion, *again))
    assert [call[1:] for call in reply.calls] == [F, G]
    other = {**BEGIN, "message": {**BEGIN["message"], "id": "n"}}
    half = [BEGIN, start(0, USE["f"]), fill(0, '{"a'), other, start(0, USE["f"]), fill(0, A), stop(0), *END]
    with pytest.raises(BadFrame, match="second message"):
        content(conversion, messages_bytes(conversion, *half))
    reply, _ = content(conversion, messages_bytes(conversion, BEGIN, other, *BLOCKS["as they should be"], *END))
    assert [call[1:] for call in reply.calls] == [F, G]


@of(upstreams=["openai_chat"])
def test_stubs_and_words_for_nothing_are_nothing(conversion):
    """Check that empty values in a chunk do not change the reply.

    The values are an empty `function_call`, a `delta` of null, and "" or "null" as the finish reason.
    """
    empty = {"function_call": {"name": "", "arguments": ""}}
    choices = [
        {"index": 0, "delta": {"content": "H", **empty}, "finish_reason": ""},
        {"index": 0, "delta": None, "finish_reason": "null"},
        {"index": 0, "delta": {"content": "i", "tool_calls": None}, "finish_reason": None},
        {"index": 0, "delta": {"role": "assistant", "content": "", **empty}, "finish_reason": "stop"},
    ]
    chunks = [{"id": "c", "choices": [choice]} for choice in choices]
    chunks.append({"id": "c", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}})
    data = b"".join(sse.encode(json.dumps(chunk).encode()) for chunk in chunks) + sse.encode(b"[DONE]")
    reply, passed = content(conversion, data)
    assert (reply.text, reply.calls, reply.input) == ("Hi", [], 7)
    assert (passed.meter.facts().stop, passed.meter.facts().tools) == ("stop", [])
