"""Tests of hostile requests of OpenAI's clients. The conversions to Converse and to Messages must handle them alike,
and report all losses.
"""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from gateway.contract import json_api
from gateway.contract.capabilities import Caps
from gateway.contract.errors import Refused
from gateway.contract.flag import HttpRequest, Route
from tests.helpers import chat_to_converse, chat_to_messages, responses_to
from tests.helpers.chat_to_converse import CLAUDE, IMAGE, NEW_CLAUDE, tool, user

CACHE = {"type": "ephemeral"}
SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 1, "description": "A number."},
        "more": {"type": "object", "additionalProperties": {"type": "string"}},
        "one": {"oneOf": [{"type": ["object", "null"]}, {"type": "array", "uniqueItems": True, "minItems": 2}]},
    },
}
KEPT = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "description": "A number. (minimum: 1)"},
        "more": {
            "type": "object",
            "description": "(additionalProperties: {'type': 'string'})",
            "additionalProperties": False,
        },
        "one": {
            "anyOf": [
                {"type": ["object", "null"], "additionalProperties": False},
                {"type": "array", "description": "(uniqueItems: True, minItems: 2)"},
            ]
        },
    },
    "additionalProperties": False,
}
TAKEN_OUT = [
    "/properties/n/minimum",
    "/properties/more/additionalProperties",
    "/properties/one/oneOf/0",
    "/properties/one/oneOf/1/uniqueItems",
    "/properties/one/oneOf/1/minItems",
]
FORMAT = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}


def through_converse(body, caps):
    drops = []
    sent = chat_to_converse.sent(body, caps, drops)
    return sent, drops


def through_messages(body, caps):
    translation, drops = chat_to_messages.opened(body, caps)
    return orjson.loads(translation.request.top.body), drops


conversions = pytest.mark.parametrize("conversion", [through_converse, through_messages])


def test_an_answers_schema_has_one_set_of_limits_everywhere():
    """Check that the conversions to Converse and to Messages remove the same constraints from a client's
    `response_format` schema, and report each of them.
    """
    at = "/response_format/json_schema/schema"
    sent, drops = through_converse(FORMAT, NEW_CLAUDE)
    assert orjson.loads(sent["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]) == KEPT
    assert drops == [at + place for place in TAKEN_OUT]
    sent, drops = through_messages(FORMAT, replace(chat_to_messages.CLAUDE, json_schema=True))
    assert sent["output_config"]["format"]["schema"] == KEPT
    assert drops == [at + place for place in TAKEN_OUT]


def test_a_strict_tool_is_held_to_them_as_well():
    body = {"tools": [tool(parameters=SCHEMA, strict=True)]}
    sent, drops = through_converse(body, CLAUDE)
    assert sent["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"] == KEPT
    assert drops == ["/tools/0/function/parameters" + place for place in TAKEN_OUT]
    sent, drops = through_messages(body, replace(chat_to_messages.CLAUDE, strict_tools=True))
    assert sent["tools"][0]["input_schema"] == KEPT
    assert drops == ["/tools/0/function/parameters" + place for place in TAKEN_OUT]


def test_a_tool_that_is_not_strict_keeps_its_schema():
    sent, drops = through_converse({"tools": [tool(parameters=SCHEMA)]}, CLAUDE)
    assert sent["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"] == SCHEMA
    assert drops == []


@conversions
def test_a_schema_that_is_only_asked_for_in_words_is_reported(conversion):
    assert conversion(FORMAT, Caps(tools=False, forced_tool_choice=False))[1] == ["/response_format"]


def test_a_schema_beside_a_demanded_tool_is_reported_too():
    body = {**FORMAT, "tools": [tool()], "tool_choice": "required"}
    assert through_converse(body, CLAUDE)[1] == ["/response_format"]


def test_a_mark_on_the_whole_prompt_is_a_cache_point_behind_its_last_block():
    sent, drops = through_converse({"cache_control": CACHE, "messages": [user("Hi")]}, CLAUDE)
    assert sent["messages"][0]["content"] == [{"text": "Hi"}, {"cachePoint": {"type": "default"}}]
    assert drops == []


def test_a_last_block_that_is_marked_already_is_not_marked_twice():
    body = {"cache_control": CACHE, "messages": [{**user("Hi"), "cache_control": CACHE}]}
    sent, drops = through_converse(body, CLAUDE)
    assert sent["messages"][0]["content"] == [{"text": "Hi"}, {"cachePoint": {"type": "default"}}]
    assert drops == []


def test_an_answer_of_a_schema_is_not_begun_by_the_client():
    caps = replace(CLAUDE, json_schema=True)
    history = {"messages": [user("Hi"), {"role": "assistant", "content": "{"}]}
    assert through_converse(history, caps)[0]["messages"][-1]["role"] == "assistant"
    for conversion in (through_converse, through_messages):
        assert conversion({**FORMAT, **history}, caps)[0]["messages"][-1]["role"] == "user"


@conversions
def test_a_parts_member_that_no_provider_has_is_dropped_aloud(conversion):
    point = {"audience": {"mode": "explicit"}}
    parts = [{"type": "text", "text": "Hi", **point}, {**IMAGE, **point}]
    _, drops = conversion({"messages": [user(parts)]}, CLAUDE)
    assert drops == [f"/messages/0/content/{index}/audience" for index in (0, 1)]


@conversions
@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_file_where_only_text_can_stand_is_a_400_that_names_the_part(conversion, role):
    with pytest.raises(Refused) as refused:
        conversion({"messages": [user("Hi"), {"role": role, "content": [IMAGE]}, user("Go")]}, CLAUDE)
    assert refused.value.problem.param == "messages[1].content[0]"


@conversions
@pytest.mark.parametrize("value", ["on", ["g"], 1])
def test_a_guardrail_that_is_no_object_is_a_400_rather_than_no_guardrail(conversion, value):
    with pytest.raises(Refused) as refused:
        conversion({"guardrailConfig": value}, CLAUDE)
    assert refused.value.problem.param == "guardrailConfig"


@pytest.mark.parametrize(
    ("filename", "name"),
    [("report.pdf", "report"), ("Dr. Who", "Dr Who"), ("Release 1.2", "Release 1 2"), ("notes.2024.txt", "notes 2024")],
)
def test_a_documents_name_loses_its_extension_and_no_more(filename, name):
    data = f"data:application/pdf;base64,{chat_to_converse.PDF}"
    part = {"type": "file", "file": {"filename": filename, "file_data": data}}
    sent, _ = through_converse({"messages": [user([part, "Read"])]}, CLAUDE)
    assert sent["messages"][0]["content"][0]["document"]["name"] == name


def test_openais_own_scale_of_temperatures_is_kept_towards_chat():
    assert responses_to.sent("openai_chat", {"temperature": 1.7}, Caps())["temperature"] == 1.7
    assert responses_to.dropped("openai_chat", {"temperature": 1.7}, Caps()) == []
    assert responses_to.dropped("bedrock_converse", {"temperature": 1.7}) == ["/temperature"]


@responses_to.conversions
def test_a_tool_that_a_search_finds_again_is_offered_once(conversion):
    tool = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
    search = {"type": "tool_search_output", "call_id": "s", "tools": [tool]}
    body = {"tools": [{**tool, "defer_loading": True}], "input": [search, search, responses_to.said("Hi")]}
    tools = responses_to.sent(conversion, body)
    tools = tools["toolConfig"]["tools"] if conversion == "bedrock_converse" else tools["tools"]
    assert len(tools) == 1


@responses_to.conversions
def test_one_that_the_request_itself_offers_twice_is_still_a_400(conversion):
    tool = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
    assert responses_to.refusal({"tools": [tool, tool]}, conversion).param == "tools[1].name"


@pytest.mark.parametrize("value", [1, "true", [True]])
@pytest.mark.parametrize("name", ["parallel_tool_calls", "strict"])
def test_what_must_be_true_or_false_is_a_400_if_it_is_neither(name, value):
    chat = {"tools": [tool(strict=value)]} if name == "strict" else {name: value}
    with pytest.raises(Refused) as refused:
        through_converse(chat, CLAUDE)
    assert refused.value.problem.param in {"tools[0].function.strict", "parallel_tool_calls"}
    offered = {"type": "function", "name": "look", "strict": value}
    body = {"tools": [offered]} if name == "strict" else {name: value}
    assert responses_to.refusal(body).param in {"tools[0].strict", "parallel_tool_calls"}


@pytest.mark.parametrize("value", [1, "true", [True], {}])
def test_a_stream_that_is_neither_true_nor_false_is_a_400(value):
    body = orjson.dumps({"model": "m", "messages": [user("Hi")], "stream": value})
    route = Route("POST", "/v1/chat/completions", "generate")
    with pytest.raises(Refused) as refused:
        json_api.parse("openai_chat", "openai_chat", HttpRequest(route, route.path, "", {}, {}, body))
    assert refused.value.problem.param == "stream"


def test_of_two_marks_on_one_block_the_blocks_own_counts():
    """Check a request with two cache marks for its last block: the block's own mark, and a mark for the whole request.

    The block's own mark is sent, and the request's mark is reported as dropped.
    """
    part = {"type": "text", "text": "Hi", "cache_control": {**CACHE, "ttl": "1h"}}
    body = {"cache_control": {**CACHE, "ttl": "5m"}, "messages": [user([part])]}
    sent, drops = through_messages(body, CLAUDE)
    assert sent["messages"][0]["content"][0]["cache_control"] == {**CACHE, "ttl": "1h"}
    assert drops == ["/cache_control"]


@conversions
def test_a_mark_on_a_message_that_says_nothing_is_reported(conversion):
    body = {"messages": [user("Hi"), {**user(" "), "cache_control": CACHE}]}
    assert conversion(body, CLAUDE)[1] == ["/messages/1/cache_control"]


@conversions
def test_sampling_that_asks_for_what_happens_anyway_is_not_reported(conversion):
    newest = replace(NEW_CLAUDE, sampling="none")
    assert conversion({"temperature": 1, "top_p": 1.0}, newest)[1] == []
    assert sorted(conversion({"temperature": 0.9, "top_p": 0.9}, newest)[1]) == ["/temperature", "/top_p"]
    assert conversion({"temperature": 0.5, "top_p": 1}, CLAUDE)[1] == []


GUARDRAIL = {"guardrailIdentifier": "g", "guardrailVersion": "2", "trace": "enabled"}


def test_a_chats_guardrail_goes_along_to_invoke_model():
    ask = chat_to_messages.ask({"guardrailConfig": GUARDRAIL})
    translation = chat_to_messages.TRANSLATOR.module.open(ask, chat_to_messages.target(), pytest.fail)
    assert translation.request.headers == {
        "x-amzn-bedrock-guardrailidentifier": "g",
        "x-amzn-bedrock-guardrailversion": "2",
        "x-amzn-bedrock-trace": "ENABLED",
    }


def test_where_nobody_guards_it_is_a_400_rather_than_an_unguarded_answer():
    target = replace(chat_to_messages.target(), flag="anthropic_messages")
    with pytest.raises(Refused) as refused:
        chat_to_messages.TRANSLATOR.module.open(
            chat_to_messages.ask({"guardrailConfig": GUARDRAIL}), target, pytest.fail
        )
    assert refused.value.problem.param == "guardrailConfig"


@conversions
def test_a_guardrails_members_are_read_as_strictly_as_the_rest(conversion):
    with pytest.raises(Refused) as refused:
        conversion({"guardrailConfig": {**GUARDRAIL, "trace": True}}, CLAUDE)
    assert refused.value.problem.param == "guardrailConfig.trace"
    assert conversion({"guardrailConfig": {**GUARDRAIL, "more": 1}}, CLAUDE)[1] == ["/guardrailConfig/more"]


TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/node"}},
    "required": ["root"],
    "additionalProperties": False,
    "$defs": {
        "node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "null"}]}}},
        "leaf": {"type": "object", "properties": {"up": {"type": "array", "items": {"$ref": "#/$defs/node"}}}},
    },
}


def nested(reference):
    return {"type": "object", "properties": {"x": {"type": "object", "properties": {"y": {"$ref": reference}}}}}


RECURSIVE = {
    "two definitions": TREE,
    "the root": nested("#"),
    "a property": nested("#/properties/x"),
    "a percent-encoded property": nested("#/%70roperties/x"),
    "a part of a definition": {
        **nested("#/$defs/a~1b/properties/c"),
        "$defs": {"a/b": {"properties": {"c": {"items": {"$ref": "#/$defs/a~1b/properties/c"}}}}},
    },
    "an item of a list": {
        "properties": {"v": {"anyOf": [{"type": "null"}, {"properties": {"z": {"$ref": "#/properties/v/anyOf/1"}}}]}}
    },
    "an unused definition": {"type": "object", "definitions": {"a": {"items": {"$ref": "#/definitions/a"}}}},
}


@conversions
@pytest.mark.parametrize("schema", RECURSIVE.values(), ids=RECURSIVE)
def test_a_strict_tool_of_a_recursive_schema_is_not_strict(conversion, schema):
    """Check that a strict tool with a recursive schema is sent as not strict, and that `strict` is reported as
    dropped.
    """
    caps = replace(chat_to_messages.CLAUDE, strict_tools=True)
    sent, drops = conversion({"tools": [tool(parameters={"type": "object", **schema}, strict=True)]}, caps)
    made = (sent.get("toolConfig") or sent)["tools"][0]
    assert made.get("toolSpec", made).get("strict") is None
    assert drops == ["/tools/0/function/strict"]


@conversions
@pytest.mark.parametrize("schema", [TREE, {"type": "object", "properties": {"again": {"$ref": "#"}}}])
def test_an_answers_schema_that_leads_back_to_itself_is_that_of_a_tool(conversion, schema):
    caps = replace(chat_to_messages.CLAUDE, json_schema=True)
    options = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    sent, _ = conversion(options, caps)
    assert len((sent.get("toolConfig") or sent)["tools"]) == 1
    assert "outputConfig" not in sent
    assert "output_config" not in sent


def test_a_reference_beside_its_target_is_not_recursive():
    beside = {"type": "object", "properties": {"x": {"type": "string"}, "y": {"$ref": "#/properties/x"}}}
    options = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": beside}}}
    assert "outputConfig" in through_converse(options, NEW_CLAUDE)[0]


def test_definitions_that_are_used_twice_are_not_recursive():
    used = {**TREE, "$defs": {**TREE["$defs"], "leaf": {"type": "object", "properties": {}}}}
    options = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": used}}}
    assert "outputConfig" in through_converse(options, NEW_CLAUDE)[0]
