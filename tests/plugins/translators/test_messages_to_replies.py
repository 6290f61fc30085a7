"""Tests of replies from Converse and Chat that are translated to Messages, streamed and unstreamed."""

from __future__ import annotations

import base64
import pickle

import orjson
import pytest

from gateway.contract.flag import Usage
from gateway_plugins.dialects.anthropic_messages.emit import Stream, Whole, citation_of, usage_dict
from gateway_plugins.shared.reply_events import Citation, Stop
from tests.helpers.fold import fold
from tests.helpers.messages_to import (
    CHAT,
    CONVERSE,
    GPT_4O,
    HAIKU,
    NOVA,
    streamed,
    tool,
)

USAGE = {
    "inputTokens": 3,
    "outputTokens": 7,
    "totalTokens": 10,
    "cacheReadInputTokens": 1000,
    "cacheWriteInputTokens": 250,
    "cacheDetails": [{"ttl": "5m", "inputTokens": 200}, {"ttl": "1h", "inputTokens": 50}],
}
COUNTS = {
    "input_tokens": 3,
    "cache_creation_input_tokens": 250,
    "cache_read_input_tokens": 1000,
    "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 50},
    "output_tokens": 7,
}
SOURCE = {
    "title": "Lawns",
    "sourceContent": [{"text": "green"}],
    "location": {"documentPage": {"documentIndex": 1, "start": 2, "end": 3}},
}
CITED = {
    "type": "page_location",
    "cited_text": "green",
    "document_title": "Lawns",
    "document_index": 1,
    "start_page_number": 2,
    "end_page_number": 3,
    "file_id": None,
}


def delta(index, **inner):
    return ("contentBlockDelta", {"contentBlockIndex": index, "delta": inner})


def stop(index):
    return ("contentBlockStop", {"contentBlockIndex": index})


def call(index, tool_id, name):
    start = {"toolUse": {"toolUseId": tool_id, "name": name}}
    return ("contentBlockStart", {"contentBlockIndex": index, "start": start})


ALL = [
    ("messageStart", {"role": "assistant"}),
    delta(0, reasoningContent={"text": "Let me"}),
    delta(0, reasoningContent={"text": " see."}),
    delta(0, reasoningContent={"signature": "sig"}),
    stop(0),
    delta(1, reasoningContent={"redactedContent": base64.b64encode(b"YWJj").decode()}),
    stop(1),
    delta(2, text="Green"),
    delta(2, text="."),
    delta(2, citation=SOURCE),
    stop(2),
    call(3, "t1", "look"),
    delta(3, toolUse={"input": '{"a":'}),
    delta(3, toolUse={"input": " 1}"}),
    stop(3),
    call(4, "t2", "now"),
    stop(4),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}}),
]
WHOLE = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Let me see.", "signature": "sig"}}},
                {"reasoningContent": {"redactedContent": base64.b64encode(b"YWJj").decode()}},
                {"citationsContent": {"content": [{"text": "Green."}], "citations": [SOURCE]}},
                {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"a": 1}}},
                {"toolUse": {"toolUseId": "t2", "name": "now", "input": {}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": USAGE,
    "metrics": {"latencyMs": 1},
}
CONTENT = [
    {"type": "thinking", "thinking": "Let me see.", "signature": "sig"},
    {"type": "redacted_thinking", "data": "YWJj"},
    {"type": "text", "text": "Green.", "citations": [CITED]},
    {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}},
    {"type": "tool_use", "id": "t2", "name": "now", "input": {}},
]


def opened(conversion=CONVERSE, model=HAIKU, **body):
    return conversion.unjudged(body, model, stream=True)


def data_of(events):
    return [orjson.loads(event.payload) for event in events]


def test_a_reply_of_converse_is_the_same_streamed_and_whole():
    from_stream = fold("anthropic_messages", streamed(opened(), *ALL))
    whole = orjson.loads(opened().whole(orjson.dumps(WHOLE)))
    for message in (from_stream, whole):
        assert message["content"] == CONTENT
        assert (message["stop_reason"], message["stop_sequence"]) == ("tool_use", None)
        assert message["usage"] == COUNTS
        assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "m")


def test_the_next_turn_of_such_a_reply_is_taken():
    message = fold("anthropic_messages", streamed(opened(), *ALL))
    for block in message["content"]:
        if "signature" in block:
            block["signature"] = "irisgate1:claude:sig-sim-1"
    results = [{"type": "tool_result", "tool_use_id": tool_id, "content": "1"} for tool_id in ("t1", "t2")]
    history = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": results},
    ]
    thinking = {"type": "enabled", "budget_tokens": 1024}
    drops = []
    made = CONVERSE.sent({"messages": history, "tools": [tool(), tool("now")], "thinking": thinking}, HAIKU, drops)
    assert made["messages"][1]["content"][1:] == WHOLE["output"]["message"]["content"][1:]
    assert drops == []


def test_the_stop_waits_for_the_end_and_is_told_once():
    translation = opened()
    before = streamed_without_end(translation, *ALL)
    assert before[-1]["type"] == "content_block_stop"
    after = data_of(translation.close())
    assert [event["type"] for event in after] == ["message_delta", "message_stop"]
    assert after[0]["usage"] == COUNTS


def streamed_without_end(translation, *events):
    made = streamed(_Open(translation), *events)
    return data_of(made)


class _Open:
    """A translation that never ends the client's stream."""

    def __init__(self, translation):
        self.feed = translation.feed

    def close(self):
        return []


def test_counts_that_never_come_do_not_hold_back_the_end():
    events = data_of(streamed(opened(), *ALL[:-1]))
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    assert events[-2]["usage"]["output_tokens"] == 0


def test_counts_that_come_early_are_told_at_the_end():
    message = fold("anthropic_messages", streamed(opened(), ALL[0], ALL[-1], *ALL[1:-1]))
    assert message["usage"] == COUNTS


def test_a_stream_that_did_not_end_gets_no_end():
    events = data_of(streamed(opened(), *ALL[:9]))
    assert events[-1]["type"] == "content_block_delta"


def test_blocks_are_numbered_densely_whatever_converse_numbers_them():
    events = data_of(streamed(opened(), ALL[0], delta(3, text="a"), stop(3), delta(7, text="b"), stop(7)))
    assert [event["index"] for event in events if event["type"] == "content_block_start"] == [0, 1]


def test_a_call_without_arguments_gets_an_object():
    pieces = [
        event["delta"]["partial_json"]
        for event in data_of(streamed(opened(), ALL[0], call(0, "t", "now"), stop(0)))
        if event["type"] == "content_block_delta"
    ]
    assert pieces == ["{}"]


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        ("end_turn", "end_turn"),
        ("max_tokens", "max_tokens"),
        ("stop_sequence", "stop_sequence"),
        ("guardrail_intervened", "refusal"),
        ("content_filtered", "refusal"),
        ("model_context_window_exceeded", "model_context_window_exceeded"),
        ("malformed_model_output", "end_turn"),
        ("something_new", "end_turn"),
    ],
)
def test_each_reason_to_stop_has_its_word(native, expected):
    events = [ALL[0], delta(0, text="a"), stop(0), ("messageStop", {"stopReason": native}), ALL[-1]]
    assert fold("anthropic_messages", streamed(opened(), *events))["stop_reason"] == expected


def test_the_stop_sequence_that_was_met_is_told():
    fields = {"delta": {"stop_sequence": "END"}}
    end = ("messageStop", {"stopReason": "stop_sequence", "additionalModelResponseFields": fields})
    message = fold("anthropic_messages", streamed(opened(), ALL[0], end, ALL[-1]))
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")


FORMAT = {"format": {"type": "json_schema", "schema": {"type": "object"}}}


def test_the_tool_that_stands_for_a_format_comes_back_as_text():
    events = [ALL[0], call(0, "t", "json_output"), delta(0, toolUse={"input": '{"n":1}'}), stop(0)]
    message = fold("anthropic_messages", streamed(opened(model=NOVA, output_config=FORMAT), *events, *ALL[-2:]))
    assert [block["text"] for block in message["content"]] == ['{"n":1}']
    assert message["stop_reason"] == "end_turn"


def chunk(finish=None, **said):
    choice = {"index": 0, "delta": said, "finish_reason": finish}
    return ("chat.completion.chunk", {"id": "chatcmpl-1", "choices": [choice]})


CHAT_USAGE = {
    "prompt_tokens": 1003,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 1000},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
CHUNKS = [
    chunk(role="assistant", content=""),
    chunk(reasoning_content="Let me see."),
    chunk(content="Gre"),
    chunk(content="en."),
    chunk(tool_calls=[{"index": 1, "id": "c1", "function": {"name": "look", "arguments": ""}}]),
    chunk(tool_calls=[{"index": 1, "function": {"arguments": '{"a":1}'}}]),
    chunk(tool_calls=[{"index": 2, "id": "c2", "function": {"name": "now", "arguments": ""}}]),
    chunk("tool_calls"),
    ("chat.completion.chunk", {"choices": [], "usage": CHAT_USAGE}),
    ("done", None),
]
COMPLETION = {
    "id": "chatcmpl-1",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": "Green.",
                "reasoning_content": "Let me see.",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}},
                    {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}},
                ],
            },
        }
    ],
    "usage": CHAT_USAGE,
}


def test_a_reply_of_chat_is_the_same_streamed_and_whole():
    chunks = [event for event in CHUNKS if event[1] is not None]
    from_stream = fold("anthropic_messages", streamed(opened(CHAT, GPT_4O), *chunks))
    whole = orjson.loads(opened(CHAT, GPT_4O).whole(orjson.dumps(COMPLETION)))
    for message in (from_stream, whole):
        assert [(block["type"], block.get("text")) for block in message["content"]] == [
            ("thinking", None),
            ("text", "Green."),
            ("tool_use", None),
            ("tool_use", None),
        ]
        assert message["content"][0]["thinking"] == "Let me see."
        assert [block["input"] for block in message["content"][2:]] == [{"a": 1}, {}]
        assert (message["id"], message["stop_reason"]) == ("msg_1", "tool_use")
        assert (message["usage"]["input_tokens"], message["usage"]["cache_read_input_tokens"]) == (3, 1000)
        assert message["usage"]["output_tokens_details"] == {"thinking_tokens": 4}


def test_thinking_of_chat_goes_back_to_the_model_that_reads_it():
    chunks = [event for event in CHUNKS if event[1] is not None]
    deepseek = "deepseek.v3-v1:0"
    message = fold("anthropic_messages", streamed(opened(CHAT, deepseek), *chunks))
    results = [{"type": "tool_result", "tool_use_id": tool_id, "content": "1"} for tool_id in ("c1", "c2")]
    history = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": results},
    ]
    drops = []
    made = CHAT.sent({"messages": history, "tools": [tool(), tool("now")]}, deepseek, drops)
    assert made["messages"][1]["reasoning_content"] == "Let me see."
    assert drops == []


def test_a_refusal_of_chat_is_text_and_a_refusal():
    events = [chunk(role="assistant", refusal="No."), chunk("stop")]
    message = fold("anthropic_messages", streamed(opened(CHAT, GPT_4O), *events))
    assert (message["content"][0]["text"], message["stop_reason"]) == ("No.", "refusal")


def test_every_kind_of_citation_has_its_words():
    kinds = {kind: citation_of(Citation(kind, "c", "t", "s", 1, 2, 3)) for kind in PLACES}
    assert {kind: made["type"] for kind, made in kinds.items()} == PLACES
    assert kinds["search_result"] == {
        "type": "search_result_location",
        "cited_text": "c",
        "source": "s",
        "title": "t",
        "search_result_index": 1,
        "start_block_index": 2,
        "end_block_index": 3,
    }
    assert kinds["web"]["url"] == "s"


PLACES = {
    "char": "char_location",
    "page": "page_location",
    "block": "content_block_location",
    "search_result": "search_result_location",
    "web": "web_search_result_location",
}


@pytest.mark.parametrize(
    ("tier", "expected"), [("default", "standard"), ("priority", "priority"), ("flex", None), ("", None)]
)
def test_the_tier_is_told_in_anthropics_words_or_not_at_all(tier, expected):
    assert usage_dict(Usage(), tier).get("service_tier") == expected


def test_a_writer_begins_and_ends_what_nobody_began_or_ended():
    stream = Stream("m")
    stream.text("a")
    stream.thinking("b")
    stream.citation(Citation("web", source="u"))
    stream.tool("", "look")
    stream.arguments("{}")
    stream.finish(Stop("end_turn"))
    stream.close()
    message = fold("anthropic_messages", stream.take())
    assert [block["type"] for block in message["content"]] == ["text", "thinking", "text", "tool_use"]
    assert message["content"][3]["id"].startswith("toolu_")


def test_a_whole_reply_of_nothing_is_an_empty_message():
    message = orjson.loads(Whole("m").whole())
    assert (message["content"], message["stop_reason"]) == ([], "end_turn")
    assert message["id"].startswith("msg_")


@pytest.mark.parametrize(("conversion", "whole"), [(CONVERSE, WHOLE), (CHAT, COMPLETION)])
def test_a_translation_travels_to_another_process_and_back(conversion, whole):
    translation = pickle.loads(pickle.dumps(conversion.unjudged({"tools": [tool("a.b")]}, HAIKU)))
    assert orjson.loads(translation.whole(orjson.dumps(whole)))["stop_reason"] == "tool_use"


def test_what_comes_behind_the_end_is_left_out():
    stream = Stream("m")
    stream.text("a")
    stream.finish(Stop("end_turn"))
    stream.text("b")
    stream.usage(Usage(output=1))
    stream.text("c")
    kinds = [event["type"] for event in data_of(stream.take())]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2
