"""Tests that a provider gets back its own reasoning tokens (signatures and encrypted thinking) of earlier turns.

They must be unchanged, and at the same places between texts and tool calls. The tests generate random conversations of
one to three turns for each pair of a client's and a provider's dialect, with streamed and unstreamed replies.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.examples import examples
from tests.helpers.second_turn import CLIENTS, chat_events, chat_reply, last_turn
from tests.plugins.translators.test_carried_reasoning import pieces
from tests.plugins.translators.test_own_signatures import UPSTREAMS, events_of

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00<"), min_size=1, max_size=12).filter(str.strip)
TOKENS = st.text("ABCxyz019+/=", min_size=1, max_size=300).map(lambda token: f"E{token}")
KINDS = ("thinking", "redacted_thinking", "text", "tool_use")


@st.composite
def claude_replies(draw):
    """Draw one to three replies of Claude as lists of blocks. Each ends with text or tool calls, as Claude's replies
    do.
    """
    replies = []
    for turn in range(draw(st.integers(1, 3))):
        kinds = [*draw(st.lists(st.sampled_from(KINDS), max_size=6)), draw(st.sampled_from(["text", "tool_use"]))]
        replies.append([_block(kind, f"c{turn}{place}", draw) for place, kind in enumerate(kinds)])
    return replies


def _block(kind, tool_id, draw):
    match kind:
        case "thinking":
            return {"type": kind, "thinking": draw(WORDS), "signature": draw(TOKENS)}
        case "redacted_thinking":
            return {"type": kind, "data": draw(TOKENS)}
        case "text":
            return {"type": kind, "text": draw(WORDS)}
        case _:
            return {"type": kind, "id": tool_id, "name": "f", "input": {"a": 1}}


def _answers(body):
    """Yield the content blocks of each assistant message in an upstream request, as blocks of Anthropic's Messages API.

    The request has the format of the Messages API or of Bedrock's Converse API.
    """
    for message in body["messages"]:
        if message["role"] == "assistant":
            yield [_in_messages(block) for block in message["content"]]


def _in_messages(block):
    if "type" in block:
        return {name: value for name, value in block.items() if name != "cache_control"}
    if "text" in block:
        return {"type": "text", "text": block["text"]}
    if "toolUse" in block:
        use = block["toolUse"]
        return {"type": "tool_use", "id": use["toolUseId"], "name": use["name"], "input": use["input"]}
    inner = block["reasoningContent"].get("reasoningText")
    if inner is None:
        return {"type": "redacted_thinking", "data": block["reasoningContent"]["redactedContent"]}
    return {"type": "thinking", "thinking": inner["text"], "signature": inner["signature"]}


def _places(blocks):
    """Return the parts of a reply that must not change: the thinking blocks, the whole text, and the tool calls.

    Each thinking block is a tuple (block, text before it, number of tool calls before it).
    """
    thoughts, text, calls = [], "", []
    for block in blocks:
        if block["type"] == "text":
            text += block["text"]
        elif block["type"] == "tool_use":
            calls.append(block)
        else:
            thoughts.append((block, text, len(calls)))
    return thoughts, text, calls


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("client", CLIENTS)
@settings(max_examples=examples(30), deadline=None)
@given(replies=claude_replies(), streamed=st.booleans())
def test_claude_gets_its_thinking_back_in_order(client, upstream, replies, streamed):
    if client == upstream:
        return
    model, make = UPSTREAMS[upstream]
    given_ = [events_of(upstream, blocks) if streamed else make(*blocks) for blocks in replies]
    body, dropped = last_turn(client, upstream, model, given_)
    expected = [[_in_messages(block) for block in _content(make(*blocks))] for blocks in replies]
    assert [_places(answer) for answer in _answers(body)] == [_places(blocks) for blocks in expected]
    assert dropped == []


def _content(reply):
    return reply["content"] if "content" in reply else reply["output"]["message"]["content"]


@st.composite
def chat_messages(draw):
    """Generate the replies of one to three turns of a Chat provider. They have opaque tokens, such as signatures, in
    the fields in which vendors send them.
    """
    messages = []
    for turn in range(draw(st.integers(1, 3))):
        message = {"role": "assistant", "content": draw(st.none() | WORDS)}
        for name in ("encrypted_content", "reasoning_opaque"):
            if draw(st.booleans()):
                message[name] = draw(TOKENS)
        if draw(st.booleans()):
            message["extra_content"] = {"google": {"thought_signature": draw(TOKENS)}}
        if draw(st.booleans()):
            message["reasoning_content"] = draw(WORDS)
        elif details := draw(st.lists(TOKENS, max_size=3)):
            message["reasoning_details"] = [
                {"type": "reasoning.encrypted", "data": data, "index": index} for index, data in enumerate(details)
            ]
        calls = draw(st.lists(st.none() | TOKENS, min_size=0 if message["content"] else 1, max_size=3))
        if calls:
            message["tool_calls"] = [_call(f"c{turn}{index}", token) for index, token in enumerate(calls)]
        messages.append(message)
    return messages


def _call(tool_id, token):
    call = {"id": tool_id, "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    return call | ({"extra_content": {"google": {"thought_signature": token}}} if token else {})


@pytest.mark.parametrize("client", [client for client in CLIENTS if client != "openai_chat"])
@settings(max_examples=examples(50), deadline=None)
@given(messages=chat_messages(), streamed=st.booleans())
def test_a_chat_provider_gets_its_tokens_back(client, messages, streamed):
    finishes = ["tool_calls" if "tool_calls" in message else "stop" for message in messages]
    pairs = list(zip(messages, finishes, strict=True))
    if streamed:
        replies = [chat_events(*pieces(message), finish=finish) for message, finish in pairs]
    else:
        replies = [chat_reply(message, finish) for message, finish in pairs]
    body, dropped = last_turn(client, "openai_chat", "glm-5", replies)
    assert [message for message in body["messages"] if message["role"] == "assistant"] == messages
    assert dropped == []


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PLACES = (
    "reasoning_details", "extra_content", "provider_specific_fields", "reasoning_opaque", "encrypted_content",
    "thinking_blocks", "reasoning_content", "reasoning", "content",
)  # fmt: skip


@st.composite
def odd_messages(draw):
    message = {name: draw(ANYTHING) for name in draw(st.sets(st.sampled_from(PLACES)))}
    entries = st.dictionaries(st.sampled_from(["type", "text", "summary", "data", "index", "signature"]), ANYTHING)
    if draw(st.booleans()):
        message["reasoning_details"] = draw(st.lists(entries | ANYTHING, max_size=4))
    if draw(st.booleans()):
        message["thinking_blocks"] = draw(st.lists(entries | ANYTHING, max_size=3))
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for name in draw(st.sets(st.sampled_from(["extra_content", "provider_specific_fields", "thought_signature"]))):
        draw(st.sampled_from([call, call["function"]]))[name] = draw(ANYTHING)
    return {**message, "tool_calls": [call]}


@pytest.mark.parametrize("client", [client for client in CLIENTS if client != "openai_chat"])
@settings(max_examples=examples(75), deadline=None)
@given(message=odd_messages(), streamed=st.booleans())
def test_odd_values_in_the_places_of_tokens_stop_no_session(client, message, streamed):
    whole = json.loads(json.dumps(message))
    delta = {**whole, "tool_calls": [{"index": 0, **whole["tool_calls"][0]}]}
    reply = chat_events(delta) if streamed else chat_reply(whole)
    body, _ = last_turn(client, "openai_chat", "glm-5", [reply])
    assert body["messages"][1]["tool_calls"][0]["id"] == "c1"
