"""Tests of replies that violate the provider's API reference: no content is lost, and no reply becomes an error."""

import base64
import json

import pytest

from gateway.contract.errors import BadFrame, Truncated
from gateway.contract.flag import Event, Head, Usage, event
from gateway.testkit.render import anthropic as render_anthropic
from gateway.testkit.render import converse as render_converse
from gateway.testkit.scenarios import Canned
from gateway_plugins import bedrock_model_invoke, openai_chat
from gateway_plugins.dialects.bedrock import runtime_api
from tests.helpers.conversion import CONVERSIONS

HELLO = {
    "openai_chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "openai_responses": {"input": "Hi"},
    "anthropic_messages": {"max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]},
    "bedrock_converse": {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
    "gemini_generate_content": {
        "contents": [{"parts": [{"text": "Hi"}]}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
    },
}
FROM_CHAT = [conversion for conversion in CONVERSIONS.values() if conversion.upstream == "openai_chat"]
from_chat = pytest.mark.parametrize("conversion", FROM_CHAT, ids=lambda conversion: conversion.name)
ENDS = {
    "openai_responses": "response.completed",
    "anthropic_messages": "message_stop",
    "bedrock_converse": "messageStop",
    "gemini_generate_content": "chunk",
}


def call(conversion):
    return conversion.call(HELLO[conversion.dialect], stream=True)


def chunk(**delta):
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def piece(arguments, **function):
    return chunk(tool_calls=[{"index": 0, "id": "a", "function": {**function, "arguments": arguments}}])


LAST = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}


def sse(*chunks):
    return b"".join(
        b"data: " + (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n\n" for each in chunks
    )


def text_and_arguments(events):
    """Return the text of a client's stream, and the arguments of its tool calls. The stream may be in any dialect."""
    text, arguments = "", ""
    for each in events:
        data = each.data
        delta = data.get("delta")
        if each.kind == "response.output_text.delta":
            text += delta
        elif each.kind == "response.function_call_arguments.delta":
            arguments += delta
        elif each.kind == "chunk":
            for part in data["candidates"][0]["content"]["parts"]:
                text += part.get("text", "") if not part.get("thought") else ""
                arguments += json.dumps(part["functionCall"]["args"]) if "functionCall" in part else ""
        elif isinstance(delta, dict):
            text += delta.get("text", "")
            arguments += delta.get("partial_json", "") or delta.get("toolUse", {}).get("input", "")
    return text, arguments


@from_chat
def test_text_between_pieces_of_a_call_follows_the_whole_call(conversion):
    """Check that text between two pieces of a tool call is written after the call."""
    events = call(conversion).events(
        sse(piece('{"a":', name="look"), chunk(content="Well"), piece(" 1}"), chunk(content="."), LAST, b"[DONE]")
    )
    assert text_and_arguments(events) == ("Well.", '{"a": 1}')


@from_chat
def test_blanks_behind_a_call_that_is_complete_are_no_fault(conversion):
    other = {"index": 1, "id": "b", "function": {"name": "look", "arguments": "{}"}}
    events = call(conversion).events(
        sse(piece('{"a": 1}', name="look"), chunk(tool_calls=[other]), piece("\n"), LAST, b"[DONE]")
    )
    assert text_and_arguments(events) == ("", '{"a": 1}{}')


@from_chat
def test_a_stream_without_a_stop_reason_still_has_an_end(conversion):
    """Check that the client's stream has its usual end even if the provider sends no stop reason."""
    events = call(conversion).events(sse(chunk(content="Hi"), b"[DONE]"))
    assert text_and_arguments(events) == ("Hi", "")
    assert ENDS[conversion.dialect] in [each.kind for each in events]


@from_chat
def test_a_call_whose_stream_ends_without_a_reason_is_one_to_be_answered(conversion):
    events = call(conversion).events(sse(piece("{}", name="look"), b"[DONE]"))
    assert text_and_arguments(events) == ("", "{}")
    has_reason = conversion.dialect not in ("openai_responses", "gemini_generate_content")
    assert not has_reason or b"tool_use" in b"".join(each.payload for each in events)


@from_chat
def test_a_stream_of_nothing_but_its_end_is_an_error(conversion):
    with pytest.raises(BadFrame):
        call(conversion).events(sse(b"[DONE]"))


def test_an_answer_that_begins_with_aws_word_for_an_error_is_an_answer():
    reply = Canned(text=("UnknownOperationException means that the path is wrong.",))
    for whole in (render_converse.whole(reply, 10), render_anthropic.message(reply, "m", 10)):
        assert runtime_api.problem_for(Head(200, {}), json.dumps(whole).encode()) is None
    first = b'{"output":{"message":{"role":"assistant","content":[{"text":"\\"__type\\": \\"UnknownOperationException\\""}]}}}'
    assert runtime_api.problem_for(Head(200, {}), first) is None


def test_an_error_of_aws_without_words_says_its_status():
    assert runtime_api.problem_for(Head(503, {}), b"{}").message == "the provider answered 503 without a message"


@pytest.mark.parametrize(
    "part",
    ["refusal", "reasoning_text", "reasoning_summary_text", "function_call_arguments", "custom_tool_call_input"],
)
def test_all_that_a_model_writes_in_responses_counts_as_written(part):
    flag = next(
        conversion.client for conversion in CONVERSIONS.values() if conversion.client.name == "openai_responses"
    )
    assert flag.output_bytes(event(f"response.{part}.delta", {"delta": "abcé"})) == 5


def test_thinking_by_two_names_counts_once_and_calls_of_every_kind_count():
    def written(**delta):
        return openai_chat.output_bytes(event(openai_chat.CHUNK, chunk(**delta)))

    assert written(reasoning="abc", reasoning_content="abc") == 3
    assert written(function_call={"arguments": "ab"}) == 2
    assert written(tool_calls=[{"index": 0, "type": "custom", "custom": {"input": "abcd"}}]) == 4


def test_a_tool_whose_name_comes_with_every_piece_was_called_once():
    meter = openai_chat.ChatMeter()
    for arguments in ("", '{"a":', "1}"):
        meter.feed(event(openai_chat.CHUNK, piece(arguments, name="look")))
    assert meter.facts().tools == ["look"]


def test_a_made_invoke_reply_has_langchains_count_headers():
    """Check the headers of an unstreamed InvokeModel reply that the gateway has made by translation.

    They have the token counts, which LangChain reads only from headers.
    """
    reply = bedrock_model_invoke.reply_headers(
        "req", Usage(input=3, output=4, cache_read=5, cache_write_5m=6, cache_write_1h=7)
    )
    assert reply == {
        "x-amzn-requestid": "req",
        "x-amzn-bedrock-input-token-count": "3",
        "x-amzn-bedrock-output-token-count": "4",
        "x-amzn-bedrock-cache-read-input-token-count": "5",
        "x-amzn-bedrock-cache-write-input-token-count": "13",
    }


@from_chat
def test_mistrals_parts_of_thinking_and_of_text_are_both_told(conversion):
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    parts = [thinking, {"type": "text", "text": "Hi"}]
    passed = call(conversion)
    events = passed.events(sse(chunk(content=parts), chunk(content=[{"type": "reference"}]), b"[DONE]"))
    assert text_and_arguments(events)[0] == "Hi"
    assert '"hm"' in "".join(each.payload.decode() for each in events)
    assert passed.reply_dropped == ["/reply/content/reference"]
    assert openai_chat.output_bytes(event(openai_chat.CHUNK, chunk(content=parts))) == 4


@from_chat
def test_signatures_that_are_too_large_are_dropped_aloud(conversion):
    passed = call(conversion)
    large = "s" * (1 << 20)
    entry = {
        "index": 0,
        "id": "a",
        "function": {"name": "look"},
        "extra_content": {"google": {"thought_signature": large}},
    }
    details = [{"type": "reasoning.encrypted", "data": large}]
    passed.events(sse(chunk(tool_calls=[entry]), chunk(reasoning_details=details), LAST, b"[DONE]"))
    assert passed.reply_dropped == ["/reply/tool_calls", "/reply/reasoning_details"]


FROM_CONVERSE = [conversion for conversion in CONVERSIONS.values() if conversion.upstream == "bedrock_converse"]


@pytest.mark.parametrize("conversion", FROM_CONVERSE, ids=lambda conversion: conversion.name)
def test_a_block_of_converse_that_begins_with_an_empty_start_is_told(conversion):
    passed = call(conversion)
    stream = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockStart", {"contentBlockIndex": 0, "start": {}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}}),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{}"}}}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": {"inputTokens": 1, "outputTokens": 1}}),
    ]
    events = passed.events(b"".join(runtime_api.message(kind, json.dumps(data).encode()) for kind, data in stream))
    assert "Hi" in "".join(each.payload.decode() for each in events)
    assert passed.reply_dropped == ["/reply/toolUse"]


def test_of_several_answers_each_must_have_its_reason():
    decoder = openai_chat.ChatDecoder(hide_usage=False, answers=2)
    ended = [{"id": "c", "choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]} for index in (0, 1)]
    list(decoder.feed(sse(ended[0])))
    with pytest.raises(Truncated):
        list(decoder.close())
    list(decoder.feed(sse(ended[1])))
    assert [event.raw for event in decoder.close()] == [b"data: [DONE]\n\n"]


def test_claudes_reply_members_without_a_place_are_dropped():
    """Check that fields of a Messages reply that have no counterpart in Chat are reported as dropped."""
    whole = {
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "refusal",
        "stop_details": {"category": "cyber"},
        "container": {"id": "c"},
        "context_management": {"applied_edits": []},
    }
    passed = CONVERSIONS["openai_chat__anthropic_messages"].call(HELLO["openai_chat"])
    passed.whole(whole)
    assert passed.reply_dropped == ["/reply/container", "/reply/stop_details"]
    passed = CONVERSIONS["openai_chat__anthropic_messages"].call(HELLO["openai_chat"], stream=True)
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "context_management": {"applied_edits": [1]},
    }
    stop = {"type": "message_stop"}
    passed.streamed(b"".join(b"event: %b\n" % each["type"].encode() + sse(each) for each in (delta, stop)))
    assert passed.reply_dropped == ["/reply/context_management"]


@pytest.mark.parametrize("upstream", ["anthropic_messages", "openai_chat"])
def test_an_earlier_citation_without_a_place_is_no_bad_request(upstream):
    """Check that a citation in an earlier answer is reported as dropped, and not refused, if the upstream dialect has
    no such citation.
    """
    cited = {"content": [{"text": "So."}], "citations": [{"title": "A", "sourceContent": [{"text": "s"}]}]}
    turns = [*HELLO["bedrock_converse"]["messages"], {"role": "assistant", "content": [{"citationsContent": cited}]}]
    passed = CONVERSIONS[f"bedrock_converse__{upstream}"].call({"messages": [*turns, turns[0]]})
    assert "/messages/1/content/0/citationsContent/citations/0" in passed.dropped


@from_chat
@pytest.mark.parametrize("half", [b"\\ud83d", b"\xf0\x9f"], ids=["UTF-16", "UTF-8"])
def test_half_a_letter_costs_the_letter_and_not_the_reply(conversion, half):
    begun = json.dumps(chunk(content="Hi %")).encode().replace(b"%", half)
    events = call(conversion).events(sse(begun, chunk(content="there"), b"[DONE]"))
    assert text_and_arguments(events)[0].replace("\ufffd", "") == "Hi there"
    whole = {"id": "c", "choices": [{"message": {"content": "Hi %"}, "finish_reason": "length"}]}
    assert "Hi \ufffd" in str(
        conversion.call(HELLO[conversion.dialect]).whole(json.dumps(whole).encode().replace(b"%", half))
    )


@pytest.mark.parametrize("payload", [b'{"a": NaN, "b": "\\ud83d"}', b"[" * 100_000, b'"\xff', b"", b"{\\ud83d}"])
def test_what_is_no_json_beside_half_a_letter_is_a_bad_frame(payload):
    with pytest.raises(BadFrame):
        _ = Event("x", payload).data


@pytest.mark.parametrize(
    "words",
    [
        "Input is too long for requested model.",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "This model's maximum context length is 128000 tokens.",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    ],
)
def test_a_conversation_too_long_has_openais_context_code(words):
    """Check that a conversation that is too long gets OpenAI's error code. With this code, agents shorten the
    conversation.
    """
    body = json.dumps({"message": words}).encode()
    problem = runtime_api.problem_for(Head(400, {"x-amzn-errortype": "ValidationException"}), body)
    assert json.loads(openai_chat.error(problem)[2])["error"]["code"] == "context_length_exceeded"
    passed = CONVERSIONS["openai_responses__bedrock_converse"].call(HELLO["openai_responses"])
    failed = passed.conversion.client.encoder(passed.client_request).fail(problem)
    last = json.loads(failed.strip().rpartition(b"data: ")[2])
    assert last["response"]["error"] == {"code": "context_length_exceeded", "message": words}


def test_an_event_of_several_lines_is_one_event_in_another_envelope():
    passed = CONVERSIONS["anthropic_messages__bedrock_model_invoke"].call(HELLO["anthropic_messages"], stream=True)
    stop = {"type": "message_stop", "note": "a"}
    inner = base64.b64encode(json.dumps(stop, indent=1).replace("\n ", "\r\n ").encode()).decode()
    data = runtime_api.message("chunk", json.dumps({"bytes": inner}).encode())
    (event_,) = passed.events(data)
    assert event_.data == stop


def test_a_chunk_without_choices_is_hidden_only_if_it_tells_usage():
    filtered = {"choices": [], "prompt_filter_results": [{"prompt_index": 0}], "usage": None}
    counted = [{"choices": choices, "usage": {"prompt_tokens": 1, "completion_tokens": 1}} for choices in ([], None)]
    events = list(openai_chat.ChatDecoder(hide_usage=True).feed(sse(filtered, *counted)))
    assert [bool(each.raw) for each in events] == [True, False, False]


@pytest.mark.parametrize(
    ("upstream", "reply"),
    [
        (
            "bedrock_converse",
            {
                "output": {
                    "message": {"content": [{"toolUse": {"toolUseId": "a", "name": "look", "input": '{"a":1}'}}]}
                },
                "stopReason": "tool_use",
            },
        ),
        (
            "anthropic_messages",
            {
                "content": [{"type": "tool_use", "id": "a", "name": "look", "input": '{"a":1}'}],
                "stop_reason": "tool_use",
            },
        ),
    ],
)
def test_arguments_that_are_json_text_already_are_not_encoded_twice(upstream, reply):
    made = CONVERSIONS[f"openai_chat__{upstream}"].call(HELLO["openai_chat"]).whole(reply)
    assert made["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a":1}'
