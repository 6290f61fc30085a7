"""Tests of random faults in Messages requests that are translated to Converse and to Chat, and in the replies.

Each request is sent, or refused with a 400. Each reply is translated, or raises `BadFrame`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import orjson
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import BadFrame, Refused
from gateway.contract.flag import Members, Target, event
from tests.helpers.json_faults import MISSING, changed, paths
from tests.helpers.messages_to import (
    CHAT,
    CONVERSE,
    CONVERSE_MODELS,
    DOCUMENT,
    GPT,
    GPT_4O,
    HAIKU,
    HELLO,
    IMAGE,
    MINE,
    NOVA,
    OPUS_5,
    ask,
    assistant,
    result,
    text,
    user,
)
from tests.helpers.samples import MARK, SCHEMA
from tests.plugins.translators.test_messages_to_replies import ALL, CHUNKS, COMPLETION, WHOLE

CITATION = {
    "type": "char_location",
    "cited_text": "c",
    "document_index": 0,
    "document_title": "t",
    "start_char_index": 1,
    "end_char_index": 2,
}
FOUND = {"type": "search_result", "source": "s", "title": "t", "content": [text("x")], "citations": {"enabled": True}}
PARTS = {"type": "document", "source": {"type": "content", "content": [text("a")]}, "citations": {"enabled": True}}
BODY = {
    "system": [text("S", cache_control=MARK)],
    "messages": [
        user(text("q", cache_control=MARK), {**DOCUMENT, "title": "t", "context": "c"}, PARTS, FOUND),
        assistant(
            {"type": "thinking", "thinking": "t", "signature": MINE},
            {"type": "redacted_thinking", "data": "irisgate1:claude:YWJj"},
            text("So", citations=[CITATION]),
            {"type": "tool_use", "id": "c", "name": "look", "input": {"a": [1]}, "caller": {"type": "direct"}},
        ),
        user(result("c", [text("r", cache_control=MARK), FOUND], is_error=True), text("go")),
        {"role": "system", "content": [text("x")]},
    ],
    "tools": [
        {"name": "look", "description": "d", "input_schema": SCHEMA, "strict": True, "cache_control": MARK},
        {"name": "a.b", "input_schema": {}, "type": "custom", "custom": {"defer_loading": True}},
    ],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1500, "display": "omitted"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "stop_sequences": ["a"],
    "temperature": 1,
    "top_p": 0.99,
    "top_k": 5,
    "service_tier": "flex",
    "cache_control": MARK,
    "metadata": {"user_id": "u"},
    "anthropic_beta": ["b-1"],
    "context_management": {"edits": []},
}
IMAGES = {"messages": [user(IMAGE, text("x"))]}
ALTERNATIVES = [
    {},
    {"tool_choice": {"type": "tool", "name": "look"}},
    {"thinking": {"type": "adaptive"}, "output_format": {"type": "json_schema", "schema": SCHEMA}},
    {"thinking": None, "tools": None, "tool_choice": None},
    IMAGES,
]
JUNK = [
    None, "", 0, 1, -1.5, True, [], {}, "x", "é\n", ["x"], [None], [1], {"x": 1}, {"type": "x"}, {"type": ["object"]},
    {"properties": 1}, [{}], [[]], 2**63, 1e300,
]  # fmt: skip
CONVERSIONS = [(CONVERSE, model) for model in CONVERSE_MODELS] + [(CHAT, model) for model in (GPT, GPT_4O, HAIKU)]
conversions = pytest.mark.parametrize(("conversion", "model"), CONVERSIONS)


@conversions
def test_the_request_that_the_faults_are_put_into_is_carried(conversion, model):
    documents = {} if capabilities(model).documents else {"messages": [HELLO]}
    assert conversion.sent(BODY | documents, model)


@settings(max_examples=700, deadline=None)
@given(
    st.sampled_from(list(paths(BODY))),
    st.sampled_from(JUNK),
    st.sampled_from(ALTERNATIVES),
    st.sampled_from(CONVERSIONS),
)
def test_a_member_of_any_wrong_type_is_carried_or_a_400_and_never_a_crash(path, junk, other, conversion):
    body = changed(BODY, path, junk) | {name: other[name] for name in other if name != path[0]}
    with suppress(Refused):
        conversion[0].unjudged(body, conversion[1])


def nested(depth, shape):
    opening, closing = {"list": (b"[", b"]"), "schema": (b'{"properties": {"a": ', b"}}")}[shape]
    return opening * depth + b"1" + closing * depth


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(list(paths(BODY))),
    st.sampled_from([60, 125, 130, 300, 1000, 5000]),
    st.sampled_from(["list", "schema"]),
    st.sampled_from(CONVERSIONS),
)
def test_nesting_of_any_depth_is_carried_or_a_400_and_never_a_crash(path, depth, shape, conversion):
    body = orjson.dumps(changed(BODY, path, "%DEEP%")).replace(b'"%DEEP%"', nested(depth, shape))
    target = Target("p", conversion[0].upstream, conversion[1], conversion[0].upstream, capabilities(conversion[1]))
    with suppress(Refused):
        conversion[0].module.open(replace(ask({}), top=Members(body)), target, lambda _: None)


FORMAT = {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}
REPLIES = [
    (CONVERSE, NOVA, WHOLE, [list(each) for each in ALL]),
    (CHAT, GPT_4O, COMPLETION, [list(each) for each in CHUNKS[:-1]]),
]
STREAMED = TypeAdapter(RawMessageStreamEvent)


@pytest.mark.parametrize(("conversion", "model", "whole", "stream"), REPLIES)
def test_a_reply_that_is_as_documented_is_one_that_the_sdk_knows(conversion, model, whole, stream):
    Message.model_validate_json(conversion.unjudged(FORMAT, model).whole(orjson.dumps(whole)), strict=True)
    translation = conversion.unjudged(FORMAT, model, stream=True)
    for kind, data in stream:
        for made in translation.feed(event(kind, data)):
            STREAMED.validate_json(made.payload, strict=True)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_whole_reply_of_any_form_is_a_message_or_a_bad_frame(data):
    conversion, model, whole, _ = data.draw(st.sampled_from(REPLIES))
    path, junk = data.draw(st.sampled_from(list(paths(whole)))), data.draw(st.sampled_from([MISSING, *JUNK]))
    with suppress(BadFrame):
        made = conversion.unjudged(FORMAT, model).whole(orjson.dumps(changed(whole, path, junk)))
        Message.model_validate_json(made, strict=True)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_stream_of_any_form_is_events_that_the_sdk_knows_or_a_bad_frame(data):
    conversion, model, _, stream = data.draw(st.sampled_from(REPLIES))
    places = [path for path in paths(stream) if len(path) > 2]
    path, junk = data.draw(st.sampled_from(places)), data.draw(st.sampled_from([MISSING, *JUNK]))
    translation = conversion.unjudged(FORMAT, model, stream=True)
    with suppress(BadFrame):
        for kind, each in changed(stream, path, junk):
            for made in translation.feed(event(kind, each)):
                STREAMED.validate_json(made.payload, strict=True)
    for made in translation.close():
        STREAMED.validate_json(made.payload, strict=True)


def test_thinking_for_a_model_that_takes_no_budget_is_still_taken():
    assert CONVERSE.sent({"thinking": {"type": "enabled", "budget_tokens": 0}}, OPUS_5)
