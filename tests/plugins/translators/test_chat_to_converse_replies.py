"""Tests of Converse replies that are translated to Chat.

Streamed and unstreamed replies have the same content, and recorded replies are read. Thinking is sent back to the
provider in the next turn.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.contract.flag import Usage, event
from gateway.contract.framing import eventstream
from gateway_plugins.dialects.openai_chat.emit import usage_dict
from tests.helpers.chat_to_converse import (  # fmt: skip
    GPT_OSS,
    NOVA,
    called,
    choice,
    dropped,
    opened,
    result,
    sent,
    stream_of,
    tool,
    user,
    whole_reply,
)
from tests.helpers.fold import fold

RECORDED = Path(__file__).resolve().parents[3].parent / "shared" / "recorded-bedrock"
USAGE = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
ASKED = {"stream_options": {"include_usage": True}}
REDACTED = base64.b64encode(b"RW5jcnlwdGVk").decode()


def streamed(translation: Any, events: list[Any]) -> list[Any]:
    chunks = [chunk for each in events for chunk in translation.feed(each)] + list(translation.close())
    for chunk in chunks:
        assert chunk.kind == "chat.completion.chunk"
        ChatCompletionChunk.model_validate(chunk.data, strict=True)
    return chunks


def both(
    content: list[dict[str, Any]], stop: str, usage: dict[str, Any] = USAGE, body: dict[str, Any] = ASKED
) -> dict[str, Any]:
    """Return the reply that a client gets. Check that it is the same whether streamed or not."""
    chunks = streamed(opened(body, stream=True), stream_of(content, stop, usage))
    whole = choice(whole_reply(opened(body), content, stop, usage))
    reply = choice(fold("openai_chat", chunks))
    for answer in (reply, whole):
        for call in answer["message"]["tool_calls"]:
            call.pop("index", None)
            call["function"]["arguments"] = orjson.loads(call["function"]["arguments"])
    assert reply == whole
    return reply


def use(name: str = "look", tool_id: str = "a", **arguments: Any) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": tool_id, "name": name, "input": arguments}}


def test_text_comes_back_with_its_reason_and_usage():
    reply = both([{"text": "Hello there"}], "end_turn")
    assert reply["message"]["content"] == "Hello there"
    assert (reply["finish_reason"], reply["native_finish_reason"]) == ("stop", "end_turn")
    assert reply["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_the_role_comes_once_and_first():
    chunks = streamed(opened({}, stream=True), stream_of([{"text": "Hello"}], "end_turn", USAGE))
    assert ["role" in chunk.data["choices"][0]["delta"] for chunk in chunks] == [True, False, False, False]


def test_usage_is_streamed_only_to_a_client_that_asked():
    events = stream_of([{"text": "Hello"}], "end_turn", USAGE)
    unasked = streamed(opened({}, stream=True), events)
    assert unasked[-1].data["choices"][0]["finish_reason"] == "stop"
    assert [chunk for chunk in unasked if not chunk.data["choices"]] == []
    last = streamed(opened(ASKED, stream=True), events)[-1].data
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 15


def test_usage_that_comes_before_the_stop_reason_goes_out_behind_it():
    events = stream_of([{"text": "Hello"}], "end_turn", USAGE)
    chunks = streamed(opened(ASKED, stream=True), [*events[:-2], events[-1], events[-2]])
    assert chunks[-2].data["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1].data["usage"]["total_tokens"] == 15


def test_defects_31_and_32_tool_calls_are_numbered_from_0():
    """Check that tool calls are numbered from 0, whatever the indexes of the blocks are."""
    reply = both([{"text": "Let me"}, use(x=1), use(tool_id="b", y="z")], "tool_use")
    assert [call["id"] for call in reply["message"]["tool_calls"]] == ["a", "b"]
    assert reply["finish_reason"] == "tool_calls"


def test_defect_18_a_call_without_arguments_has_an_empty_object():
    chunks = streamed(opened({}, stream=True), stream_of([use()], "tool_use", USAGE))
    calls = [chunk.data["choices"][0]["delta"].get("tool_calls", [{}])[0].get("function", {}) for chunk in chunks]
    assert [call["arguments"] for call in calls if "arguments" in call] == ["", "{}"]


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"), ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"), ("malformed_model_output", "stop"), ("malformed_tool_use", "stop"),
        ("something_new", "stop"),
    ],
)  # fmt: skip
def test_defects_33_34_35_every_stop_reason_is_mapped_and_shown(native, reason):
    """Check that every stop reason becomes a finish reason of Chat, and that the reply also has the provider's own
    reason.
    """
    reply = both([{"text": "Hello"}], native)
    assert (reply["finish_reason"], reply["native_finish_reason"]) == (reason, native)


def test_defect_36_a_call_that_was_cut_off_ends_by_length():
    assert both([use(x=1)], "max_tokens")["finish_reason"] == "length"


def test_a_call_behind_end_turn_is_still_a_call():
    assert both([use(x=1)], "end_turn")["finish_reason"] == "tool_calls"


def test_defects_37_and_38_a_cut_stream_gets_no_reason_from_us():
    chunks = streamed(opened(ASKED, stream=True), stream_of([{"text": "Hello"}], "end_turn", USAGE)[:-2])
    assert choice(fold("openai_chat", chunks))["finish_reason"] is None


def test_defects_40_and_41_prompt_tokens_include_the_cache():
    """Check that the prompt tokens include tokens read from the cache and written to it."""
    usage = {**USAGE, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 20}
    counts = both([{"text": "Hello"}], "end_turn", usage)["usage"]
    assert (counts["prompt_tokens"], counts["total_tokens"]) == (130, 135)
    assert counts["prompt_tokens_details"] == {"cached_tokens": 100, "cache_write_tokens": 20}


def test_reasoning_tokens_are_told_only_when_they_were_reported():
    assert "completion_tokens_details" not in usage_dict(Usage(input=1, output=2))
    assert usage_dict(Usage(output=5, reasoning=3))["completion_tokens_details"] == {"reasoning_tokens": 3}


@pytest.mark.parametrize("name", ["n" * 90, "mcp.files/read"])
def test_defects_08_and_09_aliased_names_are_restored_in_replies(name):
    body = {**ASKED, "tools": [tool(name)]}
    alias = sent(body)["toolConfig"]["tools"][0]["toolSpec"]["name"]
    assert both([use(alias)], "tool_use", body=body)["message"]["tool_calls"][0]["function"]["name"] == name


THOUGHTS = [
    {"reasoningContent": {"reasoningText": {"text": "Let me see", "signature": "c2ln"}}},
    {"reasoningContent": {"redactedContent": REDACTED}},
]


def test_defects_48_and_49_thinking_comes_back_unchanged():
    """Check that the provider gets its thinking back in the next turn, exactly as the model wrote it."""
    message = both([*THOUGHTS, {"text": "So"}, use(x=1)], "tool_use")["message"]
    assert message["reasoning_content"] == "Let me see"
    assert message["thinking_blocks"] == [
        {"type": "thinking", "thinking": "Let me see", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "RW5jcnlwdGVk"},
    ]
    more = {key: message[key] for key in ("reasoning_content", "thinking_blocks")}
    again = {"messages": [user("Hi"), called(("a", "look", "{}"), **more), result("a")], "reasoning_effort": "low"}
    body = sent(again)
    assert body["messages"][1]["content"][:2] == THOUGHTS
    assert "thinking" in body["additionalModelRequestFields"]
    assert dropped(again) == []


@pytest.mark.parametrize("caps", [GPT_OSS, NOVA])
def test_thinking_of_another_family_is_dropped_aloud(caps):
    blocks = [{"type": "thinking", "thinking": "Hm", "signature": "c2ln"}]
    answer = {"role": "assistant", "content": "Ho", "thinking_blocks": blocks}
    drops: list[str] = []
    body = sent({"messages": [user("Hi"), answer, user("And?")]}, caps, drops)
    assert body["messages"][1]["content"] == [{"text": "Ho"}]
    assert drops == ["/messages/1/thinking_blocks/0"]


@pytest.mark.parametrize("signature", ["irisgate1:nova:c2ln", ""])
def test_a_signing_family_drops_foreign_and_unsigned_thinking(signature):
    """Check that a model that signs its thinking does not get other thinking: unsigned, or signed by another model
    family.

    Such thinking is reported as dropped.
    """
    blocks = [{"type": "thinking", "thinking": "Hm", "signature": signature}]
    answer = {"role": "assistant", "content": "Ho", "thinking_blocks": blocks}
    assert dropped({"messages": [user("Hi"), answer, user("And?")]}) == ["/messages/1/thinking_blocks/0"]


def test_unsigned_thinking_is_told_as_text_only():
    message = both([{"reasoningContent": {"reasoningText": {"text": "Hm"}}}, {"text": "Ho"}], "end_turn")["message"]
    assert (message["reasoning_content"], message["thinking_blocks"]) == ("Hm", [])


def test_the_tool_that_stands_in_for_a_schema_comes_back_as_text():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    body = {**ASKED, "response_format": {"type": "json_schema", "json_schema": {"name": "A", "schema": schema}}}
    reply = both([use("json_output", n=1)], "tool_use", body=body)
    assert (reply["message"]["content"], reply["finish_reason"]) == ('{"n":1}', "stop")


def test_a_web_citation_is_an_annotation_and_others_are_reported():
    """Check that a citation of a web page becomes an annotation, and that any other citation is reported as dropped."""
    drops: list[str] = []
    web = {"title": "A", "location": {"web": {"url": "https://a.example"}}}
    page = {"title": "B", "location": {"documentPage": {"documentIndex": 0}}}
    cited = {"citationsContent": {"content": [{"text": "Hello"}], "citations": [web, page]}}
    reply = {"output": {"message": {"content": [{"text": "Oh. "}, cited]}}, "stopReason": "end_turn"}
    message = orjson.loads(opened({}, drops=drops).whole(orjson.dumps(reply)))["choices"][0]["message"]
    inner = {"url": "https://a.example", "title": "A", "start_index": 4, "end_index": 9}
    assert message["annotations"] == [{"type": "url_citation", "url_citation": inner}]
    assert drops == ["/reply/citation"]
    translation = opened({}, drops=drops, stream=True)
    deltas = [{"contentBlockIndex": 0, "delta": {"citation": each}} for each in (web, page)]
    stop = event("contentBlockStop", {"contentBlockIndex": 0})
    chunks = streamed(translation, [*(event("contentBlockDelta", delta) for delta in deltas), stop])
    assert len(chunks) == 2  # the role, and one annotation


BLOCKS = st.one_of(
    st.text(min_size=1).map(lambda text: {"text": text}),
    st.dictionaries(st.text(), st.integers(-(2**63), 2**63), max_size=2).map(lambda arguments: use(x=arguments)),
    st.just(use()),
    st.sampled_from(THOUGHTS),
    st.text(min_size=1).map(lambda text: {"reasoningContent": {"reasoningText": {"text": text}}}),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(BLOCKS, max_size=5), st.sampled_from(["end_turn", "tool_use", "max_tokens", "new"]))
def test_a_stream_says_what_the_whole_reply_says(content, stop):
    both(content, stop)


def _recorded(streams: bool) -> list[Any]:
    if not RECORDED.is_dir():
        return [
            pytest.param({}, marks=pytest.mark.skip(reason=f"recordings: {RECORDED.name} is not beside the checkout"))
        ]
    exchanges = [
        (path.stem, each) for path in sorted(RECORDED.glob("*.json")) for each in orjson.loads(path.read_bytes())
    ]
    wanted = "/converse-stream" if streams else "/converse"
    return [
        pytest.param(each, id=name)
        for name, each in exchanges
        if each["path"].endswith(wanted) and each["status"] == 200
    ]


@pytest.mark.parametrize("exchange", _recorded(streams=False))
def test_a_recorded_reply_keeps_text_tools_stop_and_usage(exchange):
    reply = exchange["response"]
    answer = orjson.loads(opened({}).whole(orjson.dumps(reply)))
    ChatCompletion.model_validate(answer)
    blocks = reply["output"]["message"]["content"]
    message = answer["choices"][0]["message"]
    assert (message["content"] or "") == "".join(block.get("text", "") for block in blocks)
    tools = [block["toolUse"] for block in blocks if "toolUse" in block]
    own = [each for each in tools if each.get("type") != "server_tool_use"]
    calls = message.get("tool_calls", [])
    assert [(call["id"], call["function"]["name"]) for call in calls] == [
        (each["toolUseId"], each["name"]) for each in own
    ]
    assert [orjson.loads(call["function"]["arguments"]) for call in calls] == [each["input"] for each in own]
    assert answer["choices"][0]["native_finish_reason"] == reply["stopReason"]
    usage = reply["usage"]
    counted = usage["inputTokens"] + usage.get("cacheReadInputTokens", 0) + usage.get("cacheWriteInputTokens", 0)
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (counted, usage["outputTokens"])


@pytest.mark.parametrize("exchange", _recorded(streams=True))
def test_a_recorded_stream_keeps_text_tools_stop_and_usage(exchange):
    frames = list(eventstream.Decoder().feed(base64.b64decode(exchange["response_base64"])))
    events = [event(frame.headers[":event-type"], orjson.loads(frame.payload)) for frame in frames]
    deltas = [each.data["delta"] for each in events if each.kind == "contentBlockDelta"]
    starts = [each.data["start"].get("toolUse", {}) for each in events if each.kind == "contentBlockStart"]
    reply = choice(fold("openai_chat", streamed(opened(ASKED, stream=True), events)))
    assert reply["message"]["content"] == "".join(delta.get("text", "") for delta in deltas)
    thought = "".join(delta.get("reasoningContent", {}).get("text", "") for delta in deltas)
    assert reply["message"]["reasoning_content"] == thought
    own = [start["toolUseId"] for start in starts if start and start.get("type") != "server_tool_use"]
    assert [call["id"] for call in reply["message"]["tool_calls"]] == own
    stops = [each.data["stopReason"] for each in events if each.kind == "messageStop"]
    assert [reply.get("native_finish_reason")] == stops
    usage = next(each.data["usage"] for each in events if each.kind == "metadata")
    assert reply["usage"]["completion_tokens"] == usage["outputTokens"]
    assert reply["usage"]["prompt_tokens"] == usage["inputTokens"] + usage.get("cacheReadInputTokens", 0)
