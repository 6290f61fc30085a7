"""Tests of tools with property names, such as $top and filter[id] of MCP servers, for which Claude refuses the whole
request.
"""

from __future__ import annotations

import orjson
import pytest

from gateway.contract.capabilities import capabilities
from gateway.contract.flag import event
from gateway.testkit.judge import judge
from gateway.testkit.rules.claude import claude_fault
from gateway.testkit.rules.converse import converse_fault
from tests.helpers import chat_to_converse, chat_to_messages
from tests.helpers.chat_to_converse import called, result, tool, user

OPUS_4_1, HAIKU = (capabilities(f"anthropic.claude-{name}") for name in ("opus-4-1-20250805-v1:0", "haiku-4-5"))
LONG = "settings__" * 8
SCHEMA = {
    "type": "object",
    "properties": {
        "$top": {"type": "integer"},
        "filter[id]": {"type": "object", "properties": {"$in": {"type": "array"}}},
        LONG: {"type": "string"},
        "plain.name": {"type": "string"},
    },
    "required": ["$top", "plain.name"],
}
GIVEN = {"$top": 3, "filter[id]": {"$in": [1]}, LONG: "x", "plain.name": "y", "unasked": None}
BODY = {
    "max_tokens": 100,
    "messages": [user("Hi"), called(("a", "list", orjson.dumps(GIVEN).decode())), result("a")],
    "tools": [tool("list", SCHEMA), tool("other")],
}
FORMAT = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}


class Messages:
    def __init__(self, body, caps=HAIKU):
        self.translation = chat_to_messages.TRANSLATOR.module.open(
            chat_to_messages.ask(body), chat_to_messages.target(caps), [].append
        )
        sent = orjson.loads(self.translation.request.top.body)
        self.fault = claude_fault(sent, caps, bedrock=False)
        self.schemas = [each["input_schema"] for each in sent["tools"]]
        self.inputs = [block["input"] for each in sent["messages"] for block in each["content"] if "input" in block]

    def whole(self, name, given):
        block = {"type": "tool_use", "id": "b", "name": name, "input": given}
        message = {"id": "m", "content": [block], "stop_reason": "tool_use", "usage": {}}
        return orjson.loads(self.translation.whole(orjson.dumps(message)))["choices"][0]["message"]

    def events(self, name, pieces):
        block = {"type": "tool_use", "id": "b", "name": name, "input": {}}
        yield event("message_start", {"message": {"id": "m"}})
        yield event("content_block_start", {"index": 0, "content_block": block})
        for piece in pieces:
            delta = {"type": "input_json_delta", "partial_json": piece}
            yield event("content_block_delta", {"index": 0, "delta": delta})
        yield event("content_block_stop", {"index": 0})
        yield event("message_delta", {"delta": {"stop_reason": "tool_use"}})
        yield event("message_stop", {})


class Converse:
    def __init__(self, body, caps=HAIKU):
        self.translation = chat_to_converse.opened(body, caps)
        sent = orjson.loads(self.translation.request.top.body)
        self.fault = judge("Converse", sent) or converse_fault(sent, caps)
        self.schemas = [each["toolSpec"]["inputSchema"]["json"] for each in sent["toolConfig"]["tools"]]
        blocks = [block for each in sent["messages"] for block in each["content"]]
        self.inputs = [block["toolUse"]["input"] for block in blocks if "toolUse" in block]

    def whole(self, name, given):
        content = [{"toolUse": {"toolUseId": "b", "name": name, "input": given}}]
        reply = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "tool_use"}
        return orjson.loads(self.translation.whole(orjson.dumps(reply)))["choices"][0]["message"]

    def events(self, name, pieces):
        yield event("messageStart", {"role": "assistant"})
        start = {"toolUse": {"toolUseId": "b", "name": name}}
        yield event("contentBlockStart", {"contentBlockIndex": 0, "start": start})
        for piece in pieces:
            yield event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": piece}}})
        yield event("contentBlockStop", {"contentBlockIndex": 0})
        yield event("messageStop", {"stopReason": "tool_use"})
        yield event("metadata", {"usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}})


conversions = pytest.mark.parametrize("conversion", [Messages, Converse])


def streamed(conversion, name, pieces):
    """Translate the pieces of a tool call's input to a Chat stream. Return the joined arguments, and the number of
    deltas with arguments.
    """
    chunks = [each.data for given in conversion.events(name, pieces) for each in conversion.translation.feed(given)]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    arguments = [call["function"]["arguments"] for delta in deltas for call in delta.get("tool_calls", ())]
    return "".join(arguments), len([piece for piece in arguments if piece])


@conversions
def test_they_go_out_under_names_that_claude_takes_and_only_at_the_root(conversion):
    request = conversion(BODY)
    assert request.fault is None
    properties = request.schemas[0]["properties"]
    assert [list(SCHEMA["properties"].values()), "plain.name" in properties] == [list(properties.values()), True]
    assert request.schemas[0]["required"] == [next(iter(properties)), "plain.name"]
    assert request.schemas[1] == {"type": "object", "properties": {}}


@conversions
def test_calls_of_the_history_have_the_same_names_as_the_schema(conversion):
    request = conversion(BODY)
    assert [*request.inputs[0]] == [*request.schemas[0]["properties"], "unasked"]
    assert [*request.inputs[0].values()] == [*GIVEN.values()]


@conversions
def test_the_client_gets_its_own_names_back_whole_and_streamed(conversion):
    request = conversion(BODY)
    made = request.inputs[0]
    call = request.whole("list", made)["tool_calls"][0]
    assert orjson.loads(call["function"]["arguments"]) == GIVEN
    text = orjson.dumps(made).decode()
    arguments, count = streamed(conversion(BODY), "list", [text[:7], text[7:40], text[40:]])
    assert (orjson.loads(arguments), count) == (GIVEN, 1)


@conversions
def test_arguments_that_the_model_wrote_badly_stay_as_they_are(conversion):
    assert streamed(conversion(BODY), "list", ['{"a', "b"])[0] == '{"ab'
    assert streamed(conversion(BODY), "list", ["[1", "]"])[0] == "[1]"


@conversions
def test_a_format_tools_properties_are_renamed_and_restored(conversion):
    """Check an answer's schema that is sent as a tool: property names that Claude refuses get an alias.

    The client's answer has the original names.
    """
    request = conversion({"max_tokens": 100, **FORMAT}, OPUS_4_1)
    assert request.fault is None
    made = dict.fromkeys(request.schemas[0]["properties"], 1)
    name = request.translation.reader._calls.schema_tool
    assert orjson.loads(request.whole(name, made)["content"]) == dict.fromkeys(SCHEMA["properties"], 1)


@conversions
def test_without_such_a_name_arguments_stream_as_they_come(conversion):
    plain = {**BODY, "messages": [user("Hi")], "tools": [tool("list", {"type": "object", "properties": {"a": {}}})]}
    assert streamed(conversion(plain), "list", ['{"a"', ": 1}"]) == ('{"a": 1}', 2)


def test_other_families_get_the_names_as_they_are():
    nova = capabilities("amazon.nova-pro-v1:0")
    assert Converse(BODY, nova).schemas[0]["properties"].keys() == SCHEMA["properties"].keys()
