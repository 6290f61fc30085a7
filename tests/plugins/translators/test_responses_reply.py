"""Tests of replies in the Responses dialect: the items and events that a writer makes, checked by the SDK's own
types.
"""

from __future__ import annotations

import orjson
import pytest

from gateway.contract.flag import Usage
from gateway_plugins.dialects.openai_responses.emit import Stream, Whole
from gateway_plugins.dialects.openai_responses.names import CUSTOM, LOCAL_SHELL, Origin
from gateway_plugins.dialects.openai_responses.reasoning import unpacked
from gateway_plugins.shared import reply_events
from gateway_plugins.shared.reply_events import Citation, Stop
from tests.helpers.chat_to_converse import stream_of
from tests.helpers.fold import fold, valid_response
from tests.helpers.responses_to import ask, comparable, opened, tool

ORIGINS = {
    "patch": Origin(CUSTOM, "patch"),
    "local_shell": Origin(LOCAL_SHELL, "local_shell"),
    "fs__read": Origin("function", "read", "fs"),
}
DONE = [("finish", Stop(reply_events.END_TURN)), ("usage", Usage(input=3, output=4))]
BODY = {
    "instructions": "Be brief.",
    "tools": [tool(), {"type": "custom", "name": "patch"}],
    "tool_choice": "auto",
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
    "metadata": {"a": "b"},
    "max_output_tokens": 50,
    "temperature": 0.5,
}


def written(*verbs, body=None):
    """Call the methods in `verbs` on two writers: of a stream and of an unstreamed reply. Check that both replies are
    equal.

    Return the reply, the events of the stream, and the fields that were reported as dropped.
    """
    drops = []
    streamed = Stream(ask(body or {}), ORIGINS, drops.append)
    whole = Whole(ask(body or {}), ORIGINS, [].append)
    for name, *given in verbs:
        for writer in (streamed, whole):
            getattr(writer, name)(*given)
    streamed.close()
    events = streamed.take()
    response = fold("openai_responses", events)
    assert comparable(valid_response(orjson.loads(whole.whole()))) == comparable(response)
    return response, events, drops


def output(*verbs):
    return written(*verbs, *DONE)[0]["output"]


def kinds(events):
    return [event.kind.removeprefix("response.") for event in events]


def test_a_text_has_all_its_events_in_their_order():
    _, events, _ = written(("start", "resp_1"), ("text", "Hel"), ("text", "lo"), ("block_end",), *DONE)
    assert kinds(events) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert {event.data["response"]["id"] for event in events if "response" in event.data} == {"resp_1"}


def test_texts_in_a_row_are_parts_of_one_message():
    (message,) = output(("text", "a"), ("block_end",), ("text", "b"), ("block_end",))
    assert [part["text"] for part in message["content"]] == ["a", "b"]


def test_a_refusal_is_a_part_of_its_own():
    response, events, _ = written(("refusal", "I can"), ("refusal", "not"), ("finish", Stop(reply_events.REFUSAL)))
    assert response["output"][0]["content"] == [{"type": "refusal", "refusal": "I cannot"}]
    assert "refusal.done" in kinds(events)
    assert response["status"] == "completed"


def test_a_citation_of_a_page_is_an_annotation_of_its_text():
    page = Citation("web", title="Page", source="https://example.com")
    (message,) = output(("citation", page), ("text", "As it says"), ("block_end",))
    assert message["content"][0]["annotations"] == [
        {"type": "url_citation", "url": "https://example.com", "title": "Page", "start_index": 0, "end_index": 10}
    ]


def test_citations_are_numbered_anew_in_each_text():
    """Check that the citations of a text are numbered, and that the numbers begin again in the next text."""
    one, two = (Citation("web", source=f"https://example.com/{number}") for number in "12")
    verbs = [("text", "a"), ("citation", one), ("citation", two), ("block_end",), ("text", "b"), ("citation", one)]
    response, events, _ = written(*verbs, *DONE)
    (message,) = response["output"]
    assert [[each["url"] for each in part["annotations"]] for part in message["content"]] == [
        ["https://example.com/1", "https://example.com/2"],
        ["https://example.com/1"],
    ]
    data = [event.data for event in events if event.kind == "response.output_text.annotation.added"]
    assert [(each["content_index"], each["annotation_index"]) for each in data] == [(0, 0), (0, 1), (1, 0)]


def test_a_citation_of_a_document_is_dropped_aloud():
    _, _, drops = written(("text", "x"), ("citation", Citation("page", source="a.pdf")), *DONE)
    assert drops == ["/reply/citation"]


def test_defect_60_one_reasoning_item_carries_all_signatures_of_a_turn():
    (item,) = output(
        ("thinking", "On"), ("thinking", "e"), ("signature", "irisgate1:claude:1"), ("block_end",),
        ("redacted", "irisgate1:claude:2"), ("block_end",),
        ("thinking", "Two"), ("signature", "irisgate1:claude:3"), ("block_end",),
    )  # fmt: skip
    assert [part["text"] for part in item["summary"]] == ["One", "Two"]
    assert unpacked(item["encrypted_content"]) == [
        {"thinking": "One", "signature": "irisgate1:claude:1"},
        {"data": "irisgate1:claude:2"},
        {"thinking": "Two", "signature": "irisgate1:claude:3"},
    ]


def test_thinking_without_a_text_is_carried_all_the_same():
    (item,) = output(("signature", "irisgate1:claude:1"), ("block_end",))
    assert item["summary"] == []
    assert unpacked(item["encrypted_content"]) == [{"thinking": "", "signature": "irisgate1:claude:1"}]


def test_thinking_before_and_between_makes_items_in_order():
    items = output(("thinking", "a"), ("text", "b"), ("thinking", "c"), ("tool", "t", "look"))
    assert [item["type"] for item in items] == ["reasoning", "message", "reasoning", "function_call"]


def test_a_call_is_complete_when_its_block_ends():
    verbs = [("tool", "t", "look"), ("arguments", '{"a":'), ("arguments", "1}"), ("block_end",)]
    _, events, _ = written(*verbs, ("text", "and"), *DONE)
    assert kinds(events)[2:7] == [
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
    ]  # fmt: skip
    assert events[6].data["item"]["arguments"] == '{"a":1}'


def test_a_call_without_arguments_has_an_empty_object():
    (item,) = output(("tool", "t", "look"), ("block_end",))
    assert (item["arguments"], item["status"]) == ("{}", "completed")


def test_a_call_of_a_namespace_has_its_own_name_again():
    (item,) = output(("tool", "t", "fs__read"), ("block_end",))
    assert (item["name"], item["namespace"]) == ("read", "fs")


@pytest.mark.parametrize(
    ("arguments", "given"),
    [('{"input": "*** Begin"}', "*** Begin"), ("*** Begin", "*** Begin"), ('{"x": 1}', '{"x": 1}')],
)
def test_a_custom_tool_gets_its_text(arguments, given):
    response, events, _ = written(("tool", "t", "patch"), ("arguments", arguments), ("block_end",), *DONE)
    (item,) = response["output"]
    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "patch", given)
    assert kinds(events)[3:5] == ["custom_tool_call_input.delta", "custom_tool_call_input.done"]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [('{"command": ["ls", "-l"], "timeout_ms": 5}', ["ls", "-l"]), ('{"command": "ls"}', ["sh", "-c", "ls"]), ("", [])],
)
def test_the_local_shell_gets_an_action(arguments, command):
    (item,) = output(("tool", "t", "local_shell"), ("arguments", arguments), ("block_end",))
    assert (item["type"], item["action"]["command"]) == ("local_shell_call", command)


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        (reply_events.END_TURN, "completed", None),
        (reply_events.TOOL_USE, "completed", None),
        (reply_events.STOP_SEQUENCE, "completed", None),
        (reply_events.MAX_TOKENS, "incomplete", {"reason": "max_output_tokens"}),
        (reply_events.CONTEXT, "incomplete", {"reason": "max_output_tokens"}),
        (reply_events.REFUSAL, "incomplete", {"reason": "content_filter"}),
    ],
)
def test_a_response_ends_as_the_reply_did(reason, status, details):
    response, events, _ = written(("text", "x"), ("finish", Stop(reason)))
    assert (response["status"], response["incomplete_details"]) == (status, details)
    assert response["output"][0]["status"] == status
    assert kinds(events)[-1] == status


def test_a_reply_that_is_no_answer_is_a_failed_response():
    response, events, _ = written(("finish", Stop(reply_events.MALFORMED, "malformed_tool_use")))
    assert (response["status"], response["error"]["code"]) == ("failed", "server_error")
    assert "malformed_tool_use" in response["error"]["message"]
    assert kinds(events)[-1] == "failed"


def test_a_call_that_was_cut_off_is_incomplete():
    verbs = [("tool", "t", "look"), ("arguments", '{"a": "b'), ("finish", Stop(reply_events.MAX_TOKENS))]
    (item,) = written(*verbs)[0]["output"]
    assert (item["status"], item["arguments"]) == ("incomplete", '{"a": "b')


def test_usage_tells_what_was_cached_and_what_was_thought():
    usage = Usage(input=1, output=7, cache_read=20, cache_write_5m=300, cache_write_1h=4000, reasoning=5)
    response, *_ = written(("text", "x"), ("finish", Stop(reply_events.END_TURN)), ("usage", usage, "priority"))
    assert response["usage"] == {
        "input_tokens": 4321,
        "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 4300},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 4328,
    }
    assert response["service_tier"] == "priority"


def test_the_terminal_event_waits_for_the_usage_but_not_for_ever():
    stream = Stream(ask({}), {}, [].append)
    stream.finish(Stop(reply_events.END_TURN))
    assert kinds(stream.take()) == ["created", "in_progress"]
    stream.close()
    assert kinds(stream.take()) == ["completed"]


def test_usage_that_came_early_is_told_as_it_is_in_the_end():
    verbs = [("usage", Usage(input=3, output=1)), ("text", "x"), ("finish", Stop(reply_events.END_TURN))]
    response, *_ = written(*verbs, ("usage", Usage(input=3, output=9)))
    assert response["usage"]["output_tokens"] == 9


def test_the_response_repeats_what_was_asked():
    response, *_ = written(("text", "x"), *DONE, body=BODY)
    assert {name: response[name] for name in ("instructions", "metadata", "max_output_tokens", "temperature")} == {
        name: BODY[name] for name in ("instructions", "metadata", "max_output_tokens", "temperature")
    }
    assert (response["text"]["format"]["name"], response["reasoning"]["effort"]) == ("x", "low")
    assert [given["type"] for given in response["tools"]] == ["function", "custom"]
    assert (response["model"], response["object"], response["store"]) == ("m", "response", False)


CONTENT = [
    {"reasoningContent": {"reasoningText": {"text": "hmm", "signature": "sig"}}},
    {"text": "hello"},
    {"toolUse": {"toolUseId": "t1", "name": "patch", "input": {"input": "*** Begin"}}},
    {"toolUse": {"toolUseId": "t2", "name": "mcp__x__t", "input": {"a": 1}}},
]
OFFERED = [
    {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "mcp__x", "description": "", "tools": [tool("t")]},
]
COUNTS = {"inputTokens": 5, "outputTokens": 6, "totalTokens": 11}


def test_a_converse_reply_is_the_same_streamed_and_whole():
    """Check that a Converse reply gives the client the same items, streamed or not. The client sends them back in the
    next turn.
    """
    translation, _ = opened("bedrock_converse", {"tools": OFFERED}, stream=True)
    events = [out for each in stream_of(CONTENT, "tool_use", COUNTS) for out in translation.feed(each)]
    streamed = fold("openai_responses", [*events, *translation.close()])
    translation, _ = opened("bedrock_converse", {"tools": OFFERED})
    reply = {
        "output": {"message": {"role": "assistant", "content": CONTENT}},
        "stopReason": "tool_use",
        "usage": COUNTS,
    }
    whole = valid_response(orjson.loads(translation.whole(orjson.dumps(reply))))
    assert comparable(streamed) == comparable(whole)
    outputs = [
        {"type": "custom_tool_call_output", "call_id": "t1", "output": "ok"},
        {"type": "function_call_output", "call_id": "t2", "output": "ok"},
    ]
    again = {"tools": OFFERED, "input": [{"role": "user", "content": "Hi"}, *whole["output"], *outputs]}
    translation, drops = opened("bedrock_converse", again)
    assert orjson.loads(translation.request.top.body)["messages"][1]["content"] == CONTENT
    assert drops == []
