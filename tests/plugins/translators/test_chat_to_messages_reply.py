"""Tests of replies in the Messages dialect that are translated to Chat: streamed and other replies have the same
content.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.contract.flag import event
from tests.helpers.chat_to_messages import opened

USAGE = {"input_tokens": 10, "output_tokens": 7}
LONG = "mcp.server/" + "long" * 30


def text(value):
    return {"type": "text", "text": value}


def use(tool_id="toolu_1", name="f", **arguments):
    return {"type": "tool_use", "id": tool_id, "name": name, "input": arguments}


def thinking(value="Hm", signature="Eq=="):
    return {"type": "thinking", "thinking": value, "signature": signature}


def message(*content, stop="end_turn", usage=USAGE):
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": list(content),
        "stop_reason": stop, "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def _deltas(block, size):
    """Return the start of a block and its deltas, each with up to `size` characters."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": p} for p in cut(block["text"], size)]
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": p} for p in cut(block["thinking"], size)]
            signed = [{"type": "signature_delta", "signature": block["signature"]}]
            return {"type": "thinking", "thinking": "", "signature": ""}, deltas + (
                signed if block["signature"] else []
            )
        case "tool_use":
            whole = orjson.dumps(block["input"]).decode() if block["input"] else ""
            deltas = [{"type": "input_json_delta", "partial_json": p} for p in ["", *cut(whole, size)]]
            return {**block, "input": {}}, deltas
    return block, []


def cut(value, size):
    return [value[at : at + size] for at in range(0, len(value), size)]


def events(whole, size=3):
    """Yield the events of a Messages stream for the message `whole`."""
    start = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    yield event("message_start", {"type": "message_start", "message": start})
    yield event("ping", {"type": "ping"})
    for index, block in enumerate(whole["content"]):
        begun, deltas = _deltas(block, size)
        yield event("content_block_start", {"type": "content_block_start", "index": index, "content_block": begun})
        for delta in deltas:
            yield event("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta})
        yield event("content_block_stop", {"type": "content_block_stop", "index": index})
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    usage = {"output_tokens": whole["usage"]["output_tokens"]}
    yield event("message_delta", {"type": "message_delta", "delta": delta, "usage": usage})
    yield event("message_stop", {"type": "message_stop"})


def streamed(whole, body=None, size=3) -> list[dict[str, Any]]:
    body = {"stream": True, "stream_options": {"include_usage": True}} if body is None else body
    translation, _ = opened(body, stream=True)
    chunks = [out for happened in events(whole, size) for out in translation.feed(happened)]
    chunks += translation.close()
    for chunk in chunks:
        assert chunk.kind == "chat.completion.chunk"
        ChatCompletionChunk.model_validate(chunk.data)
    return [chunk.data for chunk in chunks]


def complete(whole, body=None) -> dict[str, Any]:
    reply = opened(body or {})[0].whole(orjson.dumps(whole))
    ChatCompletion.model_validate_json(reply)
    return orjson.loads(reply)


def collected(chunks) -> dict[str, Any]:
    """Return the choice that a client assembles from the chunks of a stream."""
    answer: dict[str, Any] = {"content": "", "reasoning_content": "", "thinking_blocks": [], "tool_calls": []}
    reason = usage = None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            assert choice["index"] == 0
            reason = choice["finish_reason"] or reason
            delta = choice["delta"]
            for name in ("content", "reasoning_content"):
                answer[name] += delta.get(name) or ""
            for block in delta.get("thinking_blocks", []):
                assert block.pop("index") == len(answer["thinking_blocks"])
                answer["thinking_blocks"].append(block)
            for called in delta.get("tool_calls", []):
                if "id" in called:
                    assert called["index"] == len(answer["tool_calls"])
                    answer["tool_calls"].append({name: called[name] for name in ("id", "type", "function")})
                else:
                    answer["tool_calls"][called["index"]]["function"]["arguments"] += called["function"]["arguments"]
    return {**answer, "finish_reason": reason, "usage": usage}


def of_completion(done) -> dict[str, Any]:
    choice = done["choices"][0]
    message = choice["message"]
    return {
        "content": message["content"] or "",
        "reasoning_content": message.get("reasoning_content", ""),
        "thinking_blocks": message.get("thinking_blocks", []),
        "tool_calls": message.get("tool_calls", []),
        "finish_reason": choice["finish_reason"],
        "usage": done["usage"],
    }


def test_a_reply_has_the_model_that_was_asked_for():
    assert complete(message(text("Hi")))["model"] == "claude"
    assert {chunk["model"] for chunk in streamed(message(text("Hi")))} == {"claude"}


def test_the_role_comes_once_and_first():
    deltas = [choice["delta"] for chunk in streamed(message(text("Hello"))) for choice in chunk["choices"]]
    assert [("role" in delta) for delta in deltas] == [True] + [False] * (len(deltas) - 1)


def test_defect_31_and_32_indexes_of_tools_are_dense_and_of_choices_0():
    whole = message(thinking(), text("Two calls"), use("a", a=1), use("b", b="ü"), stop="tool_use")
    reply = collected(streamed(whole))
    assert [(call["id"], call["function"]["arguments"]) for call in reply["tool_calls"]] == [
        ("a", '{"a":1}'),
        ("b", '{"b":"ü"}'),
    ]
    assert reply["finish_reason"] == "tool_calls"


def test_defect_18_a_tool_without_arguments_gets_an_empty_object():
    whole = message(use(), stop="tool_use")
    assert collected(streamed(whole))["tool_calls"][0]["function"]["arguments"] == "{}"
    assert complete(whole)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_input_that_comes_whole_at_the_beginning_is_not_lost():
    translation, _ = opened({"stream": True}, stream=True)
    start = {"index": 0, "content_block": use(a=1)}
    chunks = [*translation.feed(event("content_block_start", start))]
    chunks += translation.feed(event("content_block_stop", {"index": 0}))
    assert collected([chunk.data for chunk in chunks])["tool_calls"][0]["function"]["arguments"] == '{"a":1}'


def test_defect_08_an_alias_is_restored_in_replies_and_streams():
    body = {"tools": [{"type": "function", "function": {"name": LONG}}], "stream": True}
    alias = opened(body)[0].request.top.decode("tools")[0]["name"]
    whole = message(use(name=alias), stop="tool_use")
    assert complete(whole, body)["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == LONG
    assert collected(streamed(whole, body))["tool_calls"][0]["function"]["name"] == LONG


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_defect_34_and_35_every_reason_is_mapped_and_the_native_one_kept(native, reason):
    whole = message(text("Hi"), stop=native)
    last = streamed(whole)[-2]["choices"][0]
    assert (last["finish_reason"], last["native_finish_reason"]) == (reason, native)
    choice = complete(whole)["choices"][0]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == (reason, native)


def test_defect_36_a_call_cut_by_the_limit_ends_with_length():
    assert collected(streamed(message(use(a=1), stop="max_tokens")))["finish_reason"] == "length"


def test_defect_37_and_38_a_stream_that_ends_early_has_no_finish_reason():
    translation, _ = opened({"stream": True}, stream=True)
    chunks = [out for happened in list(events(message(text("Hi"))))[:-1] for out in translation.feed(happened)]
    chunks += translation.close()
    assert collected([chunk.data for chunk in chunks])["finish_reason"] is None


def test_usage_comes_last_and_only_when_asked_for():
    chunks = streamed(message(text("Hi")))
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 7
    unasked = streamed(message(text("Hi")), {"stream": True})
    assert unasked[-1]["choices"][0]["finish_reason"] == "stop"
    assert [chunk for chunk in unasked if chunk.get("usage")] == []


def test_defect_41_and_43_prompt_tokens_include_the_cache_once():
    """Check that prompt tokens include the tokens read from the cache and written to it. Repeated reports are not added
    up.
    """
    usage = {
        "input_tokens": 10,
        "output_tokens": 7,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "output_tokens_details": {"thinking_tokens": 4},
    }
    whole = message(text("Hi"), usage=usage)
    translation, _ = opened({"stream": True, "stream_options": {"include_usage": True}}, stream=True)
    parts = list(events(whole))
    closing = {"delta": {"stop_reason": "end_turn"}, "usage": {**usage, "cache_creation": None}}
    parts.insert(-1, event("message_delta", closing))
    chunks = [out.data for happened in parts for out in translation.feed(happened)]
    chunks += [out.data for out in translation.close()]
    expected = {
        "prompt_tokens": 140,
        "completion_tokens": 7,
        "total_tokens": 147,
        "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    assert chunks[-1]["usage"] == expected
    assert complete(whole)["usage"] == expected


def test_defect_49_thinking_goes_out_as_text_and_as_blocks_to_be_sent_back():
    whole = message(thinking("Let me see"), {"type": "redacted_thinking", "data": "EmwK"}, text("Yes"))
    expected = [
        {"type": "thinking", "thinking": "Let me see", "signature": "Eq=="},
        {"type": "redacted_thinking", "data": "EmwK"},
    ]
    for answer in (collected(streamed(whole)), of_completion(complete(whole))):
        assert answer["reasoning_content"] == "Let me see"
        assert answer["thinking_blocks"] == expected


def test_defect_48_what_went_out_comes_back_as_it_was():
    blocks = [
        thinking("Let me\n see", "Eq+/=="),
        {"type": "redacted_thinking", "data": "EmwK"},
        text("So"),
        use("toolu_9", a=1),
    ]
    answer = complete(message(*blocks, stop="tool_use"))["choices"][0]["message"]
    history = [{"role": "user", "content": "Hi"}, answer, {"role": "tool", "tool_call_id": "toolu_9", "content": "ok"}]
    translation, drops = opened({"messages": history})
    assert translation.request.top.decode("messages")[1]["content"] == blocks
    assert drops == []


def test_thinking_without_a_signature_is_shown_but_not_to_be_sent_back():
    reply = collected(streamed(message(thinking("Hm", ""), text("Yes"))))
    assert (reply["reasoning_content"], reply["thinking_blocks"]) == ("Hm", [])


def test_the_input_of_the_format_tool_is_the_answer():
    format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    whole = message(use(name="json_output", city="Köln"), stop="tool_use")
    for answer in (
        collected(streamed(whole, {"response_format": format_, "stream": True})),
        of_completion(complete(whole, {"response_format": format_})),
    ):
        assert answer["content"] == '{"city":"Köln"}'
        assert (answer["tool_calls"], answer["finish_reason"]) == ([], "stop")


def test_blocks_and_citations_that_chat_cannot_show_are_reported():
    server = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    whole = message(server, {**text("Hi"), "citations": [{"type": "char_location"}]})
    translation, drops = opened({})
    translation.whole(orjson.dumps(whole))
    assert drops == ["/reply/server_tool_use", "/reply/citation"]
    translation, drops = opened({}, stream=True)
    for happened in list(events(message(server)))[:-2]:
        translation.feed(happened)
    delta = {"type": "citations_delta", "citation": {}}
    translation.feed(event("content_block_delta", {"index": 1, "delta": delta}))
    assert drops == ["/reply/server_tool_use", "/reply/citation"]


def test_a_reply_without_content_is_an_empty_text():
    assert complete(message())["choices"][0]["message"]["content"] == ""
    assert collected(streamed(message()))["finish_reason"] == "stop"


_words = st.text(max_size=12)
_blocks = st.one_of(
    _words.map(text),
    st.builds(thinking, _words, st.sampled_from(["", "Eq=="])),
    st.just({"type": "redacted_thinking", "data": "EmwK"}),
    st.builds(lambda tool_id, arguments: use(tool_id, **arguments), st.sampled_from(["a", "b"]),
              st.dictionaries(st.sampled_from(["x", "y"]), _words)),
)  # fmt: skip
_counts = st.integers(0, 10_000)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(_blocks, max_size=5),
    st.sampled_from(["end_turn", "tool_use", "max_tokens", "new"]),
    st.tuples(_counts, _counts, _counts, _counts, _counts),
    st.integers(1, 20),
)
def test_a_stream_says_the_same_as_the_whole_reply(blocks, stop, counts, size):
    usage = {
        "input_tokens": counts[0],
        "output_tokens": counts[1] + 1,
        "cache_read_input_tokens": counts[2],
        "cache_creation_input_tokens": counts[3] + counts[4],
        "cache_creation": {"ephemeral_5m_input_tokens": counts[3], "ephemeral_1h_input_tokens": counts[4]},
    }
    whole = message(*blocks, stop=stop, usage=usage)
    assert collected(streamed(whole, size=size)) == of_completion(complete(whole))
