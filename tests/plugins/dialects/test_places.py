"""Tests that both code paths of each function `places` find the same texts in an event.

The fast path handles events that have only a piece of a text. Any unknown field leads to the slow path, so each event
is tried with and without an unknown field.
"""

from copy import deepcopy

import pytest

from gateway.contract.flag import event
from gateway_plugins.dialects.anthropic_messages.places import places as messages_places
from gateway_plugins.dialects.bedrock_converse.places import places as converse_places
from gateway_plugins.dialects.gemini_generate_content.places import places as gemini_places
from gateway_plugins.dialects.openai_chat.places import places as chat_places

LOGPROBS = {"content": [{"token": "a"}]}
CHAT = {"choices": [{"index": 1, "delta": {"content": "a"}, "finish_reason": None}]}
CHAT_DELTA = ("choices", 0, "delta")
CHAT_CHOICE = ("choices", 0)
GEMINI = {"candidates": [{"index": 1, "content": {"role": "model", "parts": [{"text": "a"}]}}]}
GEMINI_CANDIDATE = ("candidates", 0)
GEMINI_PART = ("candidates", 0, "content", "parts", 0)
MESSAGES = {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "a"}}
CONVERSE = {"contentBlockIndex": 1, "delta": {"text": "a"}}
DIALECTS = {
    # places, kind of the event, data, object that gets the unknown member, and other members by the object they are in
    "chat": (chat_places, "chat.completion.chunk", CHAT, CHAT_DELTA, [
        (CHAT_DELTA, {"content": ""}),
        (CHAT_DELTA, {"content": None}),
        (CHAT_DELTA, {"content": [{"type": "text", "text": "b"}]}),
        (CHAT_DELTA, {"role": "assistant"}),
        (CHAT_DELTA, {"reasoning": "b"}),
        (CHAT_DELTA, {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}),
        (CHAT_CHOICE, {"logprobs": LOGPROBS}),
        (CHAT_CHOICE, {"finish_reason": "stop"}),
        (CHAT_CHOICE, {"finish_reason": "null"}),
        (CHAT_CHOICE, {"index": "b"}),
        (CHAT_CHOICE, {"delta": None}),
        ((), {"choices": []}),
        ((), {"choices": [{"delta": {"content": "b"}}, {"index": 1, "delta": {"content": "c"}}]}),
    ]),
    "gemini": (gemini_places, "", GEMINI, GEMINI_PART, [
        (GEMINI_PART, {"text": ""}),
        (GEMINI_PART, {"text": None}),
        (GEMINI_PART, {"thought": True}),
        (GEMINI_PART, {"functionCall": {"name": "f", "args": {"b": 1}}}),
        (GEMINI_CANDIDATE, {"finishReason": "STOP"}),
        (GEMINI_CANDIDATE, {"logprobsResult": LOGPROBS}),
        (GEMINI_CANDIDATE, {"groundingMetadata": {"webSearchQueries": ["b"]}}),
        (GEMINI_CANDIDATE, {"safetyRatings": []}),
        (GEMINI_CANDIDATE, {"content": {"parts": [{"text": "b"}, {"text": "c"}]}}),
        ((), {"candidates": []}),
        ((), {"candidates": [*GEMINI["candidates"], {"index": 2, "content": {"parts": [{"text": "b"}]}}]}),
    ]),
    "messages": (messages_places, "content_block_delta", MESSAGES, ("delta",), [
        (("delta",), {"text": ""}),
        (("delta",), {"text": None}),
        (("delta",), {"thinking": "b"}),
        (("delta",), {"type": "thinking_delta", "thinking": "b"}),
        (("delta",), {"type": "citations_delta", "citation": {"cited_text": "b"}}),
        ((), {"delta": {"text": "a", "thinking": "b"}}),
        ((), {"delta": {"type": "input_json_delta", "partial_json": "{}"}}),
        ((), {"delta": None}),
        ((), {"index": "b"}),
    ]),
    "converse": (converse_places, "contentBlockDelta", CONVERSE, ("delta",), [
        (("delta",), {"text": ""}),
        (("delta",), {"text": None}),
        (("delta",), {"citation": {"sourceContent": [{"text": "b"}]}}),
        (("delta",), {"toolUse": {"input": "{}"}}),
        ((), {"delta": {"toolUse": {"input": "{}"}}}),
        ((), {"delta": {"reasoningContent": {"text": "b"}}}),
        ((), {"delta": None}),
        ((), {"contentBlockIndex": "b"}),
    ]),
}  # fmt: skip
CASES = [(name, where, members) for name, dialect in DIALECTS.items() for where, members in [((), {}), *dialect[4]]]


def with_members(data, path, members):
    """Return a copy of the data with `members` added to the object at `path`. The copy is unchanged if there is no
    object at `path`.
    """
    copy = deepcopy(data)
    inner = copy
    for step in path:
        try:
            inner = inner[step]
        except (LookupError, TypeError):
            return copy
    if isinstance(inner, dict):
        inner.update(members)
    return copy


@pytest.mark.parametrize(("name", "where", "members"), CASES)
def test_the_short_way_finds_the_places_of_the_long_one(name, where, members):
    places, kind, usual, inner, _ = DIALECTS[name]
    data = with_members(usual, where, members)
    longer = with_members(data, inner, {"unknown": 1})
    assert [*places(event(kind, data))] == [*places(event(kind, longer))]


@pytest.mark.parametrize("name", DIALECTS)
def test_an_unknown_member_does_not_hide_the_usual_text(name):
    places, kind, usual, inner, _ = DIALECTS[name]
    assert [*places(event(kind, with_members(usual, inner, {"unknown": 1})))]
