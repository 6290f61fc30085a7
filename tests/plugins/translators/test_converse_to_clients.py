"""Tests of replies that Converse clients get, streamed and unstreamed. They are checked by botocore's service model."""

from __future__ import annotations

import json
from functools import cache
from time import monotonic

import orjson
import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from gateway.contract.flag import Event, Usage
from gateway.contract.framing import eventstream
from gateway.contract.registry import load_plugin
from gateway.testkit.render import anthropic as render_anthropic
from gateway.testkit.render import chat as render_chat
from gateway.testkit.scenarios import NAMED, Canned, Tokens, Tool
from gateway_plugins import bedrock_converse
from gateway_plugins.dialects.bedrock import runtime_api
from gateway_plugins.dialects.bedrock_converse.emit import FIELD_PATHS, ReplyOptions, Stream, Whole, usage_dict
from gateway_plugins.shared import reply_events
from gateway_plugins.shared.reply_events import Citation, Stop
from tests.helpers.converse_to import CHAT, DOCUMENT, INVOKE, MESSAGES, TOOLS, result, user

SHAPES = {
    "messageStart": "MessageStartEvent",
    "contentBlockStart": "ContentBlockStartEvent",
    "contentBlockDelta": "ContentBlockDeltaEvent",
    "contentBlockStop": "ContentBlockStopEvent",
    "messageStop": "MessageStopEvent",
    "metadata": "ConverseStreamMetadataEvent",
}
END = Stop(reply_events.END_TURN)


@cache
def service():
    return ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))


def judge(shape, data):
    report = ParamValidator().validate(data, service().shape_for(shape))
    assert not report.has_errors(), report.generate_report()


def streamed(*calls, options=None):
    """Make the method calls `calls` on the writer of a streamed Converse reply. Return its events as (kind, decoded
    data).
    """
    return events_of(Stream(options or ReplyOptions()), *calls)


def events_of(writer, *calls):
    for name, *given in calls:
        getattr(writer, name)(*given)
    writer.close()
    events = [(event.kind, event.data) for event in writer.take()]
    for kind, data in events:
        judge(SHAPES[kind], data)
    return events


def whole(*calls, options=None):
    writer = Whole(options or ReplyOptions())
    for name, *given in calls:
        getattr(writer, name)(*given)
    body = json.loads(writer.whole())
    judge("ConverseResponse", body)
    return body


def content(*calls):
    return whole(*calls, ("finish", END))["output"]["message"]["content"]


def deltas(events):
    return [data["delta"] for kind, data in events if kind == "contentBlockDelta"]


def test_text_begins_with_a_bare_delta_and_the_metadata_ends_the_stream():
    calls = [("start", "id"), ("text", "a"), ("text", "b"), ("block_end",), ("finish", END), ("usage", Usage(1, 2))]
    events = streamed(*calls)
    assert [kind for kind, _ in events] == [
        "messageStart",
        "contentBlockDelta",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    assert events[0][1] == {"role": "assistant"}
    assert events[1][1] == {"contentBlockIndex": 0, "delta": {"text": "a"}}
    assert events[-1][1]["usage"]["totalTokens"] == 3


def test_blocks_are_closed_and_numbered_without_gaps():
    """Check that blocks are closed and numbered without gaps, even if the provider does not send the end of a block."""
    events = streamed(("thinking", "t"), ("text", "a"), ("tool", "i", "f"), ("tool", "j", "g"), ("finish", END))
    assert [data["contentBlockIndex"] for kind, data in events if kind == "contentBlockStop"] == [0, 1, 2, 3]
    assert [data["contentBlockIndex"] for kind, data in events if kind == "contentBlockStart"] == [2, 3]


def test_a_call_has_a_start_and_its_arguments_in_pieces():
    events = streamed(("tool", "i", "f"), ("arguments", '{"a"'), ("arguments", ":1}"), ("block_end",), ("finish", END))
    assert events[1][1] == {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "i", "name": "f"}}}
    assert "".join(delta["toolUse"]["input"] for delta in deltas(events)) == '{"a":1}'


def test_a_call_without_arguments_has_an_empty_object():
    assert deltas(streamed(("tool", "i", "f"), ("finish", END))) == [{"toolUse": {"input": "{}"}}]
    assert content(("tool", "i", "f")) == [{"toolUse": {"toolUseId": "i", "name": "f", "input": {}}}]


def test_arguments_that_are_no_object_are_kept_as_they_are():
    (block,) = content(("tool", "i", "f"), ("arguments", '{"a":'))
    assert block["toolUse"]["input"] == {"rawInvalidInput": '{"a":'}


def test_thinking_keeps_its_signature():
    calls = [("thinking", "Hm."), ("signature", "irisgate1:claude:s"), ("block_end",)]
    assert deltas(streamed(*calls, ("finish", END))) == [
        {"reasoningContent": {"text": "Hm."}},
        {"reasoningContent": {"signature": "irisgate1:claude:s"}},
    ]
    assert content(*calls) == [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "irisgate1:claude:s"}}}
    ]


def test_thinking_whose_text_is_left_out_keeps_its_signature():
    assert content(("signature", "s"), ("block_end",)) == [
        {"reasoningContent": {"reasoningText": {"text": "", "signature": "s"}}}
    ]
    assert deltas(streamed(("signature", "s"), ("finish", END))) == [{"reasoningContent": {"signature": "s"}}]


def test_redacted_thinking_is_wrapped_once_more():
    wrapped = {"reasoningContent": {"redactedContent": "aXJpc2dhdGUxOmNsYXVkZTpaVzVq"}}
    assert content(("text", "a"), ("redacted", "irisgate1:claude:ZW5j")) == [{"text": "a"}, wrapped]
    assert deltas(streamed(("redacted", "irisgate1:claude:ZW5j"), ("finish", END))) == [wrapped]


CITATIONS = {
    "char": {"documentChar": {"documentIndex": 1, "start": 2, "end": 3}},
    "page": {"documentPage": {"documentIndex": 1, "start": 2, "end": 3}},
    "block": {"documentChunk": {"documentIndex": 1, "start": 2, "end": 3}},
    "search_result": {"searchResultLocation": {"searchResultIndex": 1, "start": 2, "end": 3}},
    "web": {"web": {"url": "s"}},
}


@pytest.mark.parametrize(("kind", "location"), CITATIONS.items())
def test_citations_stand_beside_their_text(kind, location):
    citation = Citation(kind, "words", "title", "s", 1, 2, 3)
    told_of_it = {"title": "title", "source": "s", "sourceContent": [{"text": "words"}], "location": location}
    calls = [("text", "So"), ("citation", citation), ("block_end",)]
    assert content(*calls) == [{"citationsContent": {"content": [{"text": "So"}], "citations": [told_of_it]}}]
    assert deltas(streamed(*calls, ("finish", END))) == [{"text": "So"}, {"citation": told_of_it}]


def test_a_refusal_is_text_and_the_reason_says_what_it_is():
    body = whole(("refusal", "No."), ("finish", Stop(reply_events.REFUSAL)))
    assert body["output"]["message"]["content"] == [{"text": "No."}]
    assert body["stopReason"] == "content_filtered"


def test_empty_texts_make_no_blocks():
    assert content(("text", ""), ("block_end",)) == []
    assert deltas(streamed(("text", ""), ("thinking", ""), ("finish", END))) == []


@pytest.mark.parametrize(
    "reason",
    [reply_events.END_TURN, reply_events.TOOL_USE, reply_events.MAX_TOKENS, reply_events.STOP_SEQUENCE, reply_events.REFUSAL, reply_events.CONTEXT,
     reply_events.MALFORMED],
)  # fmt: skip
def test_every_reason_is_one_of_the_service_models(reason):
    known = service().shape_for("StopReason").enum
    assert whole(("finish", Stop(reason)))["stopReason"] in known
    assert streamed(("finish", Stop(reason)))[1][1]["stopReason"] in known


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Canned(text=("a",)), "end_turn"),
        (Canned(tools=(Tool("look", {}, "a"),)), "tool_use"),
        (Canned(text=("a",), stop="max_tokens"), "max_tokens"),
        (Canned(text=("a",), tools=(Tool("look", {}, "a"),), stop="max_tokens"), "max_tokens"),
    ],
)
def test_defect_33_a_stream_ends_with_the_reason_that_the_provider_gave(reply, reason):
    events = [Event(event["type"], orjson.dumps(event)) for event in render_anthropic.events(reply, "m", 5)]
    assert stops_of(MESSAGES, events) == [reason]
    chunks = render_chat.chunks(reply, "m", 5, include_usage=True)
    assert stops_of(CHAT, [Event("chat.completion.chunk", orjson.dumps(chunk)) for chunk in chunks]) == [reason]


def stops_of(conversion, events):
    translation, _ = conversion.open({}, stream=True)
    output = [event for each in events for event in translation.feed(each)]
    output += translation.close()
    return [event.data["stopReason"] for event in output if event.kind == "messageStop"]


@pytest.mark.parametrize("last", [-1, -2])
def test_a_guardrail_that_stepped_in_is_told_as_converse_tells_it(last):
    reply = render_anthropic.message(Canned(text=("No.",)), "m", 5)
    action = {"amazon-bedrock-guardrailAction": "INTERVENED"}
    body = json.loads(INVOKE.open({})[0].whole(orjson.dumps(reply | action)))
    assert body["stopReason"] == "guardrail_intervened"
    events = render_anthropic.events(Canned(text=("No.",)), "m", 5)
    events[last] |= action
    assert stops_of(INVOKE, [Event(event["type"], orjson.dumps(event)) for event in events]) == ["guardrail_intervened"]


def test_usage_keeps_the_kinds_apart():
    assert usage_dict(Usage(3, 7, 1000, 200, 50)) == {
        "inputTokens": 3,
        "outputTokens": 7,
        "totalTokens": 1260,
        "cacheReadInputTokens": 1000,
        "cacheWriteInputTokens": 250,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 200}, {"ttl": "1h", "inputTokens": 50}],
    }


def test_the_end_waits_for_the_counts_that_it_repeats():
    writer = Stream(ReplyOptions(paths=("/usage/output_tokens_details",)))
    writer.finish(END)
    assert [event.kind for event in writer.take()] == ["messageStart"]
    writer.usage(Usage(input=1, output=9, reasoning=4))
    writer.close()
    stop, metadata = writer.take()
    assert stop.data["additionalModelResponseFields"] == {"usage": {"output_tokens_details": {"thinking_tokens": 4}}}
    assert metadata.data["usage"]["outputTokens"] == 9
    writer.close()
    assert writer.take() == []


def test_counts_that_nobody_told_are_zero():
    assert whole(("text", "a"), ("finish", END))["usage"]["totalTokens"] == 0
    assert streamed(("text", "a"), ("finish", END))[-1][1]["usage"]["totalTokens"] == 0


def test_a_stream_that_breaks_has_no_metadata():
    assert [kind for kind, _ in streamed(("text", "a"))] == ["messageStart", "contentBlockDelta"]


@pytest.mark.parametrize(
    ("tier", "word"), [("standard", "default"), ("priority", "priority"), ("batch", None), ("", None)]
)
def test_the_tier_is_told_in_bedrocks_words(tier, word):
    reply_tier = whole(("finish", END), ("usage", Usage(1, 1), tier)).get("serviceTier")
    assert reply_tier == (word and {"type": word})


def test_the_latency_is_measured_from_the_request_on():
    options = ReplyOptions(started=monotonic() - 1.5)
    assert 1500 <= whole(("finish", END), options=options)["metrics"]["latencyMs"] < 60_000


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/stop_sequence", {"stop_sequence": "END"}),
        ("/delta/stop_sequence", {"delta": {"stop_sequence": "END"}}),
        ("/usage/output_tokens_details", {"usage": {"output_tokens_details": {"thinking_tokens": 5}}}),
    ],
)
def test_response_fields_are_told_where_they_were_asked_for(path, fields):
    calls = [("usage", Usage(1, 9, reasoning=5)), ("finish", Stop(reply_events.STOP_SEQUENCE, sequence="END"))]
    assert whole(*calls, options=ReplyOptions((path,)))["additionalModelResponseFields"] == fields
    assert streamed(*calls, options=ReplyOptions((path,)))[1][1]["additionalModelResponseFields"] == fields
    assert "additionalModelResponseFields" not in whole(*calls)


def test_response_fields_that_are_not_known_are_absent():
    assert "additionalModelResponseFields" not in whole(("finish", END), options=ReplyOptions(FIELD_PATHS))


CANNED = {name: scenario.reply for name, scenario in NAMED.items() if scenario.reply is not None} | {
    "tools": Canned(
        text=("So",),
        tools=(Tool("look", {"city": "Zürich"}, "a"), Tool("find", None, "b")),
        tokens=Tokens(5, 6, 7, 8, 9),
    ),
}


def assembled(events):
    """Return the message that clients assemble from a stream."""
    blocks: dict[int, dict] = {}
    for kind, data in events:
        index = data.get("contentBlockIndex")
        if kind == "contentBlockStart":
            blocks[index] = {"toolUse": {**data["start"]["toolUse"], "input": ""}}
        elif kind == "contentBlockDelta":
            _add(blocks.setdefault(index, {}), data["delta"])
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    return [blocks[index] for index in sorted(blocks)]


def _add(block, delta):
    if "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    elif "toolUse" in delta:
        block["toolUse"]["input"] += delta["toolUse"]["input"]
    elif "redactedContent" in delta["reasoningContent"]:
        block["reasoningContent"] = delta["reasoningContent"]
    else:
        text = block.setdefault("reasoningContent", {"reasoningText": {}})["reasoningText"]
        for name, piece in delta["reasoningContent"].items():
            text[name] = text.get(name, "") + piece


@pytest.mark.parametrize("conversion", ["messages", "chat"])
@pytest.mark.parametrize("name", CANNED)
def test_a_reply_says_and_counts_the_same_streamed_and_whole(conversion, name):
    reply = CANNED[name]
    if conversion == "messages":
        data = render_anthropic.message(reply, "m", 5)
        events = [Event(event["type"], orjson.dumps(event)) for event in render_anthropic.events(reply, "m", 5)]
        opened = MESSAGES
    else:
        data = render_chat.completion(reply, "m", 5)
        chunks = render_chat.chunks(reply, "m", 5, include_usage=True)
        events = [Event("chat.completion.chunk", orjson.dumps(chunk)) for chunk in chunks]
        opened = CHAT
    body = json.loads(opened.open({})[0].whole(orjson.dumps(data)))
    judge("ConverseResponse", body)
    translation, _ = opened.open({}, stream=True)
    output = [event for each in events for event in translation.feed(each)] + list(translation.close())
    told_of_it = [(event.kind, event.data) for event in output]
    assert _without_ids(assembled(told_of_it)) == _without_ids(body["output"]["message"]["content"])
    (stop,) = (data["stopReason"] for kind, data in told_of_it if kind == "messageStop")
    (usage,) = (data["usage"] for kind, data in told_of_it if kind == "metadata")
    assert (stop, usage) == (body["stopReason"], body["usage"])


def _without_ids(blocks):
    return [{"toolUse": {**block["toolUse"], "toolUseId": ""}} if "toolUse" in block else block for block in blocks]


ANSWERED = [
    {"type": "thinking", "thinking": "Hm.", "signature": "sig-sim-1"},
    {"type": "redacted_thinking", "data": "ZW5j"},
    {"type": "text", "text": "So "},
    {
        "type": "text",
        "text": "it is.",
        "citations": [
            {"type": "char_location", "cited_text": "a", "document_title": "paper", "document_index": 0,
             "start_char_index": 1, "end_char_index": 2},
            {"type": "page_location", "cited_text": "a", "document_title": None, "document_index": 0,
             "start_page_number": 1, "end_page_number": 2},
            {"type": "content_block_location", "cited_text": "a", "document_title": "paper", "document_index": 0,
             "start_block_index": 1, "end_block_index": 2},
            {"type": "search_result_location", "cited_text": "a", "source": "s", "title": "t",
             "search_result_index": 0, "start_block_index": 1, "end_block_index": 2},
        ],
    },
    {"type": "tool_use", "id": "a", "name": "look", "input": {"city": "Zürich"}},
]  # fmt: skip


def test_claudes_reply_goes_back_to_it_as_it_came():
    reply = {**render_anthropic.message(Canned(), "m", 5), "content": ANSWERED, "stop_reason": "tool_use"}
    message = json.loads(MESSAGES.open({})[0].whole(orjson.dumps(reply)))["output"]["message"]
    history = [user(DOCUMENT, {"text": "Hi"}), message, user(result({"text": "x"}))]
    assert MESSAGES.messages(*history, **TOOLS)[1]["content"] == ANSWERED


def test_frames_are_padded_as_bedrocks_are():
    flag = load_plugin("bedrock_converse", bedrock_converse)
    encoder = flag.encoder(CHAT.open({}, stream=True)[0].request)
    writer = Stream(ReplyOptions())
    writer.text("Hello")
    lengths = set()
    for event in writer.take():
        (frame,) = eventstream.Decoder().feed(encoder.feed(event))
        padding = json.loads(frame.payload).pop("p")
        assert "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789".startswith(padding)
        lengths.add(len(padding))
    assert min(lengths) >= 1


@pytest.mark.parametrize("payload", [b'{"p":"abc","role":"assistant"}', b'{"role":"assistant","p":"a"}', b"[]", b""])
def test_what_is_padded_already_or_no_object_stays_as_it_is(payload):
    assert runtime_api.padded(payload) == payload


def test_an_empty_event_is_padded_too():
    assert json.loads(runtime_api.padded(b"{}")).keys() == {"p"}


def test_a_text_that_looks_like_padding_is_padded():
    assert json.loads(runtime_api.padded(orjson.dumps({"text": '"p":'})))["text"] == '"p":'
    assert "p" in json.loads(runtime_api.padded(orjson.dumps({"text": '"p":'})))
