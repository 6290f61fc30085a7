"""Tests of the readers of replies, with replies that violate the provider's dialect."""

import pytest

from gateway.contract.flag import Usage, event
from gateway_plugins.dialects.anthropic_messages import walk as messages_walk
from gateway_plugins.dialects.bedrock_converse import walk as converse_walk
from gateway_plugins.dialects.openai_chat import walk as chat_walk
from gateway_plugins.shared.reasoning import Maker
from gateway_plugins.shared.reply_events import Stop
from gateway_plugins.shared.tools import Names
from tests.plugins.dialects.test_reply_readers import RecordingWriter, called, chat, chunk, streamed, whole


def block_start(index, start):
    return event("contentBlockStart", {"contentBlockIndex": index, "start": start})


def delta(index, value):
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": value})


def block_stop(index):
    return event("contentBlockStop", {"contentBlockIndex": index})


SERVER_TOOL = {"toolUse": {"toolUseId": "t", "name": "nova_grounding", "type": "server_tool_use"}}


@pytest.mark.parametrize("start", [SERVER_TOOL, {"image": {"format": "png"}}])
def test_an_unknown_converse_block_is_dropped_with_its_deltas(start):
    """Check that an unknown block of Converse is dropped with all its deltas, while everything else is kept."""
    drops = []
    calls = streamed(
        converse_walk,
        block_start(0, start),
        delta(0, {"toolUse": {"input": "{}"}}),
        delta(0, {"text": "inside"}),
        block_stop(0),
        delta(1, {"text": "behind"}),
        drops=drops,
    )
    assert calls == [("block_end",), ("text", "behind")]
    assert drops == [f"/reply/{next(iter(start))}"]


def test_a_server_tool_call_of_converse_is_no_call_in_a_reply():
    """Check that a tool call that Bedrock itself executes is not passed on as a call, streamed or not."""
    drops = []
    content = [{"toolUse": {**SERVER_TOOL["toolUse"], "input": {"q": 1}}}, {"text": "Yes"}]
    body = {"output": {"message": {"content": content}}, "stopReason": "tool_use"}
    calls = whole(converse_walk, body, drops=drops)
    assert calls[1:] == [
        ("block_end",),
        ("text", "Yes"),
        ("block_end",),
        ("finish", Stop("end_turn", "tool_use")),
    ]
    assert drops == ["/reply/toolUse"]


def test_input_of_a_call_that_converse_never_began_is_dropped_aloud():
    drops = []
    assert streamed(converse_walk, delta(0, {"toolUse": {"input": "{}"}}), drops=drops) == []
    assert drops == ["/reply/toolUse"]


def fill(fragment):
    return event("content_block_delta", {"index": 0, "delta": {"type": "input_json_delta", "partial_json": fragment}})


def messages_start(block):
    return event("content_block_start", {"index": 0, "content_block": block})


def test_input_outside_of_a_block_of_messages_is_dropped_aloud():
    drops = []
    assert streamed(messages_walk, fill("{}"), drops=drops) == []
    assert drops == ["/reply/tool_use"]


def test_input_of_an_unknown_messages_block_is_dropped_too():
    """Check that an unknown block of Messages is dropped together with its input."""
    drops = []
    server = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    calls = streamed(messages_walk, messages_start(server), fill('{"q":1}'), drops=drops)
    assert (calls, drops) == ([], ["/reply/server_tool_use"])


def test_a_chat_stream_that_ends_twice_is_told_once():
    calls = chat(chunk({"content": "a"}), chunk(finish="stop"), chunk(finish="length"))
    assert calls[1:] == [("text", "a"), ("finish", Stop("end_turn", "stop"))]


def test_a_chat_call_waits_for_its_name_until_the_end():
    """Check that a tool call without a name in a Chat stream is held back until its name comes, or until the stream
    ends.
    """
    late = chat(called(0, '{"a":1}', "t"), called(0, None, None, "f"))
    assert late[1:] == [("tool", "t", "f"), ("arguments", '{"a":1}')]
    assert chat(called(0, '{"a":1}', "t"))[1:] == []
    never = chat(called(0, '{"a":1}', "t"), chunk(finish="tool_calls"))
    assert never[1:] == [
        ("tool", "t", ""),
        ("arguments", '{"a":1}'),
        ("block_end",),
        ("finish", Stop("tool_use", "tool_calls")),
    ]


RENAMED = "filter[id]"


@pytest.mark.parametrize(
    ("arguments", "written"),
    [('{"%s":1}', '{"filter[id]":1}'), ("[1]", "[1]"), ('"a"', '"a"'), ('{"cut', '{"cut'), ("null", "null")],
)
def test_renamed_input_that_is_no_object_stays_as_written(arguments, written):
    """Check that the input of a tool call with renamed properties stays as the model wrote it if it is not an
    object.
    """
    names, writer = Names(), RecordingWriter()
    (made,) = names.plain_input({RENAMED: 1})
    reader = chat_walk.Reader(names, "", Maker("fam"), print)
    arguments = arguments.replace("%s", made)
    for each in (called(0, arguments, "t", "f"), chunk(finish="tool_calls")):
        reader.event(each, writer)
    assert ("arguments", written) in writer.calls


USAGE = {"prompt_tokens": 1, "completion_tokens": 2}


def test_usage_that_is_reported_twice_is_told_once():
    calls = chat(chunk({"content": "a"}, usage=USAGE), chunk(finish="stop", usage={**USAGE, "completion_tokens": 3}))
    assert [call for call in calls if call[0] == "usage"] == [
        ("usage", Usage(input=1, output=3), ""),
    ]
