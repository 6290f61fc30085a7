"""Tests of custom tools (tools with free text as input) in Chat requests. A provider with another API gets functions
instead.

Source: OpenAI's API reference (Chat, custom tools) and the openai SDK's types.
"""

import pytest
from openai.types.chat import ChatCompletion

from gateway.contract.errors import Refused
from gateway.testkit.render.dialects import rendered
from gateway.testkit.scenarios import Canned, Tool
from tests.helpers.conversion import BASES, CONVERSIONS, encoded

OF_CHAT = [each for each in CONVERSIONS.values() if each.client.name == "openai_chat"]
each_conversion = pytest.mark.parametrize("conversion", OF_CHAT, ids=lambda conversion: conversion.provider.name)
GRAMMAR = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: WORD"}}
PATCH = {"type": "custom", "custom": {"name": "patch", "description": "Applies a patch."}}
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "string", "description": "The whole input of the tool, as plain text."}
TEXT = '*** Begin\n+"ü"'


def body(*tools, **more):
    return {**BASES["openai_chat"], "tools": list(tools), **more}


def offered(call):
    """Return the description and the properties of each offered function, by name."""
    sent = call.sent
    tools = [*sent.get("tools", ()), *sent.get("toolConfig", {}).get("tools", ())]
    functions = [each for tool in tools for each in tool.get("functionDeclarations", [tool.get("toolSpec", tool)])]
    found = {}
    for each in functions:
        schema = (
            each.get("input_schema") or each.get("parametersJsonSchema") or each.get("inputSchema", {}).get("json", {})
        )
        found[each["name"]] = (each.get("description"), schema.get("properties", {}))
    return found


def calls_of(conversion, reply, *tools, stream):
    """Return the tool calls that the client gets for a reply, with the pieces of a stream joined."""
    events, whole = rendered(conversion.upstream, reply)
    call = conversion.call(body(*tools), stream=stream)
    if not stream:
        completion = ChatCompletion.model_validate(call.whole(whole))
        assert completion.choices[0].finish_reason == "tool_calls"
        return [each.model_dump(exclude_none=True) for each in completion.choices[0].message.tool_calls]
    made = {}
    for event in call.events(encoded(conversion.provider, conversion.upstream, events)):
        for entry in (entry for choice in event.data["choices"] for entry in choice["delta"].get("tool_calls", ())):
            kind = "custom" if "custom" in entry else "function"
            known = made.setdefault(entry["index"], {**entry, kind: {}})
            assert known.get("type", kind) == kind
            for name, piece in entry[kind].items():
                known[kind][name] = known[kind].get(name, "") + piece
    return [{name: value for name, value in made[index].items() if name != "index"} for index in sorted(made)]


@each_conversion
def test_a_custom_tool_is_offered_as_a_function_with_one_text(conversion):
    call = conversion.call(body(PATCH, LOOK))
    assert offered(call) == {"patch": ("Applies a patch.", {"input": SCHEMA}), "look": (None, {})}
    assert not call.fault
    assert call.dropped == []


@each_conversion
def test_the_grammar_of_a_custom_tool_is_told_and_reported(conversion):
    tool = {"type": "custom", "custom": {**PATCH["custom"], "format": GRAMMAR}}
    call = conversion.call(body(tool))
    assert offered(call)["patch"][0] == "Applies a patch.\n\nThe input must follow this lark grammar:\nstart: WORD"
    assert call.dropped == ["/tools/0/custom/format"]


@each_conversion
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_call_of_a_custom_tool_has_its_input_as_text(conversion, stream):
    reply = Canned(tools=(Tool("patch", {"input": TEXT}), Tool("look", {}), Tool("patch", {"other": 1})))
    first, second, third = calls_of(conversion, reply, PATCH, LOOK, stream=stream)
    assert (first["type"], first["custom"]) == ("custom", {"name": "patch", "input": TEXT})
    assert (second["type"], second["function"]) == ("function", {"name": "look", "arguments": "{}"})
    assert third["custom"]["input"].replace(" ", "") == '{"other":1}'
    assert len({first["id"], second["id"], third["id"]}) == 3


@each_conversion
def test_a_custom_tool_can_be_chosen_and_allowed(conversion):
    choice = {"type": "custom", "custom": {"name": "patch"}}
    chosen = conversion.call(body(PATCH, LOOK, tool_choice=choice))
    function = {"type": "function", "function": {"name": "patch"}}
    assert chosen.sent == conversion.call(body(PATCH, LOOK, tool_choice=function)).sent
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [choice]}}
    assert list(offered(conversion.call(body(PATCH, LOOK, tool_choice=allowed)))) == ["patch"]


@each_conversion
def test_a_custom_tool_without_a_name_is_a_400(conversion):
    with pytest.raises(Refused) as refused:
        conversion.call(body({"type": "custom", "custom": {"name": " "}}))
    assert refused.value.problem.param == "tools[0].custom.name"
