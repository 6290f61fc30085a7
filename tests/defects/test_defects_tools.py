"""Tests that this gateway does not have defects 1 to 20 of other gateways, which concern tools and tool calls.

Each defect is tested with the conversions between API formats that it may affect.

Test names have the defect's number.
"""

import json

import pytest

from gateway.testkit.render.dialects import rendered
from gateway.testkit.scenarios import Canned, Tool
from tests.defects.conversions import CLAUDES, HAIKU, OPENAIS, both_ways, conversions
from tests.helpers.samples import CITY, NO_INPUT

TWO = (("a", "look", {"city": "Ulm"}), ("b", "look", {"city": "Bern"}))
ONE = (("a", "look", {}),)
LONG = "mcp__server__" + "very_" * 20 + "long"


def turns_with(say, *calls):
    return [*say.user(say.text("Hi")), *say.called(*calls)]


@conversions()
def test_defect_01_parallel_results_become_one_turn(conversion):
    """Check that the results of parallel tool calls, sent in separate messages, become one turn."""
    say = conversion.say
    conversation = [*turns_with(say, *TWO), *say.answered("a", say.text("1")), *say.answered("b", say.text("2"))]
    sent = conversion.sent(conversation, tools=[say.tool(schema=CITY)])
    assert [role for role, _ in sent.turns] == ["user", "assistant", "user"]
    assert [part[:2] for part in sent.turns[2][1]] == [("result", "a"), ("result", "b")]


@conversions()
def test_defect_02_a_tools_result_stays_one(conversion):
    say = conversion.say
    sent = conversion.sent([*turns_with(say, *ONE), *say.answered("a", say.text("21 degrees"))], tools=[say.tool()])
    assert sent.turns[2] == ("user", [("result", "a", [("text", "21 degrees")])])


@conversions()
def test_defect_03_what_the_user_says_behind_a_result_joins_its_turn(conversion):
    say = conversion.say
    conversation = [*turns_with(say, *ONE), *say.answered("a", say.text("1")), *say.user(say.text("And now?"))]
    sent = conversion.sent([*conversation, *say.user(say.text("Well?"))], tools=[say.tool()])
    assert [role for role, _ in sent.turns] == ["user", "assistant", "user"]
    assert [part[0] for part in sent.turns[2][1]] == ["result", "text", "text"]


@conversions(upstreams=CLAUDES)
def test_defect_06_a_history_of_calls_keeps_its_tools(conversion):
    """Check that a request without tools is sent with definitions of the tools that were called earlier in the
    conversation.
    """
    say = conversion.say
    sent = conversion.sent([*turns_with(say, *ONE), *say.answered("a", say.text("1"))])
    assert list(sent.tools) == ["look"]


@conversions(clients=("anthropic_messages", *OPENAIS))
def test_defect_06_and_07_empty_tools_beside_a_history_of_calls_are_taken(conversion):
    say = conversion.say
    sent = conversion.sent([*turns_with(say, *ONE), *say.answered("a", say.text("1"))], tools=[])
    assert [part[:3] for part in sent.parts("call")] == [("call", "a", "look")]


@conversions(clients=("anthropic_messages", *OPENAIS))
def test_defect_07_no_tool_is_called_where_the_client_forbids_it(conversion):
    say = conversion.say
    without = conversion.sent(say.user(say.text("Hi")), tools=[say.tool()], choice="none")
    assert not without.tools or forbids(without.body)
    history = [*turns_with(say, *ONE), *say.answered("a", say.text("1"))]
    assert forbids(conversion.sent(history, tools=[say.tool()], choice="none").body)


def forbids(body):
    if "toolConfig" in body:
        return body["additionalModelRequestFields"]["tool_choice"] == {"type": "none"}
    return body["tool_choice"] in ("none", {"type": "none"})


@both_ways
@conversions()
@pytest.mark.parametrize("name", [LONG, "mcp.files/read", "größe"])
def test_defect_08_and_09_a_refused_name_is_replaced_and_restored(conversion, name, stream):
    """Check that a name that providers refuse is replaced in the request, and restored in the reply."""
    say = conversion.say
    sent = conversion.sent(
        [*turns_with(say, ("a", name, {})), *say.answered("a", say.text("1"))], tools=[say.tool(name)]
    )
    (alias,) = sent.tools
    assert [part[2] for part in sent.parts("call")] == [alias]
    heard = conversion.read_reply(Canned(tools=(Tool(alias, {"x": 1}),)), stream=stream, tools=[say.tool(name)])
    assert [call[1:] for call in heard.calls] == [(name, {"x": 1})]


@conversions()
def test_defect_08_a_demanded_tool_has_its_other_name_too(conversion):
    sent = conversion.sent(
        conversion.say.user(conversion.say.text("Hi")), tools=[conversion.say.tool(LONG)], choice=LONG
    )
    (alias,) = sent.tools
    assert alias in str(sent.body.get("tool_choice") or sent.body["toolConfig"]["toolChoice"])


@conversions()
def test_defect_10_a_made_up_tool_is_replayed_by_an_allowed_name(conversion):
    """Check a request whose conversation has a call of a tool that the model invented.

    The invented name has characters that providers refuse. The provider must get the call under an accepted name.
    """
    say = conversion.say
    conversation = [*turns_with(say, ("a", "made up: tool", {})), *say.answered("a", say.text("No such tool."))]
    sent = conversion.sent(conversation, tools=[say.tool()])
    (call,) = sent.parts("call")
    assert call[2].startswith("made_up_tool_")


@conversions()
@pytest.mark.parametrize("given", ["x" * 80, "fc|a b/1", "functions.look:0"])
def test_defect_11_a_refused_id_is_replaced_everywhere_alike(conversion, given):
    """Check that an id that providers refuse is replaced, and that the tool call and its result get the same new id."""
    say = conversion.say
    conversation = [*turns_with(say, (given, "look", {})), *say.answered(given, say.text("1"))]
    first, second = (conversion.sent(conversation, tools=[say.tool()]) for _ in range(2))
    (call,), (result,) = first.parts("call"), first.parts("result")
    assert call[1] == result[1] != given
    assert second.turns == first.turns


@conversions(upstreams=("openai_chat",))
def test_defect_11_an_id_that_only_openai_refuses_is_replaced_there(conversion):
    say = conversion.say
    given = "x" * 50
    sent = conversion.sent(
        [*turns_with(say, (given, "look", {})), *say.answered(given, say.text("1"))], tools=[say.tool()]
    )
    ((_, made, *_),) = sent.parts("call")
    assert made == sent.parts("result")[0][1]
    assert len(made) <= 40


@conversions()
def test_defect_11_ids_that_begin_anew_in_every_turn_stay_apart(conversion):
    say = conversion.say
    turn = [*say.called(("call_0", "look", {})), *say.answered("call_0", say.text("1"))]
    sent = conversion.sent([*say.user(say.text("Hi")), *turn, *turn], tools=[say.tool()])
    calls, results = ([part[1] for part in sent.parts(kind)] for kind in ("call", "result"))
    assert calls == results
    assert len(set(calls)) == 2


@conversions()
def test_defect_12_tools_without_a_name_or_a_description(conversion):
    """Check that a tool without a name is refused, and that an empty description is left out."""
    say = conversion.say
    problem = conversion.refusal(say.user(say.text("Hi")), tools=[say.tool("")])
    assert "name" in problem.param
    sent = conversion.sent(say.user(say.text("Hi")), tools=[say.tool(description="")])
    assert sent.tools["look"].description is None


@conversions()
def test_defect_13_properties_that_are_null_are_none(conversion):
    sent = conversion.sent(
        conversion.say.user(conversion.say.text("Hi")),
        tools=[conversion.say.tool(schema={"type": "object", "properties": None})],
    )
    assert sent.tools["look"].schema == NO_INPUT


@conversions()
@pytest.mark.parametrize("word", ["anyOf", "oneOf", "allOf"])
def test_defect_14_a_schema_that_combines_others_becomes_one_object(conversion, word):
    schema = {word: [CITY, {"type": "object", "properties": {"zip": {"type": "string"}}}]}
    root = (
        conversion.sent(conversion.say.user(conversion.say.text("Hi")), tools=[conversion.say.tool(schema=schema)])
        .tools["look"]
        .schema
    )
    assert root["type"] == "object"
    assert word not in root
    assert root["properties"].keys() == {"city", "zip"}


@conversions()
def test_defect_14_a_schema_is_an_object_or_refused(
    conversion,
):
    """Check that a tool's schema without a type gets the type `object`.

    A schema with any other type is refused by an error that names the tool.
    """
    say = conversion.say
    request = conversion.sent(say.user(say.text("Hi")), tools=[say.tool(schema={"properties": {}})])
    assert request.tools["look"].schema == NO_INPUT
    problem = conversion.refusal(say.user(say.text("Hi")), tools=[say.tool("count", {"type": "array"})])
    assert '"count"' in problem.message


@conversions(clients=(*CLAUDES, *OPENAIS), upstreams=CLAUDES)
def test_defect_17_strict_is_reported_where_a_model_refuses_it(conversion):
    """Check that `strict` is reported as dropped if the model refuses strict tools."""
    say = conversion.say
    given = {"tools": [say.tool(strict=True)]}
    taken = conversion.sent(say.user(say.text("Hi")), HAIKU, caps={"strict_tools": True}, **given)
    refused = conversion.sent(say.user(say.text("Hi")), HAIKU, caps={"strict_tools": False}, **given)
    assert (taken.tools["look"].strict, refused.tools["look"].strict) == (True, None)
    assert [at.rpartition("/")[2] for at in refused.dropped] == ["strict"]
    assert taken.dropped == []


@both_ways
@conversions()
def test_defect_18_a_call_without_arguments_has_an_empty_object(conversion, stream):
    reply = Canned(text=("So.",), tools=(Tool("look"), Tool("look", {"x": 1})))
    heard = conversion.read_reply(reply, stream=stream, tools=[conversion.say.tool()])
    assert [given for _, _, given in heard.calls] == [{}, {"x": 1}]
    if conversion.client in OPENAIS:
        body = str(conversion.reply_body(reply, stream=stream, tools=[conversion.say.tool()]))
        assert "'arguments': '{}'" in body


@both_ways
@conversions(upstreams=("openai_chat",))
def test_defect_18_empty_arguments_are_an_empty_object(conversion, stream):
    """Check that empty arguments, which some servers send, become an empty object."""
    events, whole = rendered("openai_chat", Canned(tools=(Tool("look"),)))
    reply = json.loads(json.dumps([events, whole]).replace('"arguments": "{}"', '"arguments": ""'))
    silent = [pair for pair in reply[0] if not continues_a_call(pair[1])]
    heard = conversion.read_reply((silent, reply[1]), stream=stream, tools=[conversion.say.tool()])
    assert [given for _, _, given in heard.calls] == [{}]
    if stream and conversion.client != "gemini_generate_content":  # whose streams have each call in one piece
        assert fragments(conversion, silent) == "{}"


def continues_a_call(chunk):
    calls = [call for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", ())]
    return any("id" not in call for call in calls)


def fragments(conversion, events):
    """Return the JSON text of a tool call's input, joined from the pieces in the client's stream."""
    translation = conversion.opened(
        conversion.say.body(conversion.say.user(conversion.say.text("Hi"))), stream=True
    ).translation
    deltas = [data.get("delta") for _, data in conversion.events(translation, events) if data.get("delta")]
    pieces = [
        delta if isinstance(delta, str) else delta.get("partial_json") or delta.get("toolUse", {}).get("input", "")
        for delta in deltas
    ]
    return "".join(pieces)


@conversions(clients=("anthropic_messages", *OPENAIS))
@pytest.mark.parametrize(
    ("given", "expected"),
    [("", {}), ('""', {}), ('{"x":', {"rawInvalidInput": '{"x":'}), ('"{\\"x\\": 1}"', {"x": 1}), ("[1]", None)],
)
def test_defect_19_arguments_that_are_no_object_become_one(conversion, given, expected):
    say = conversion.say
    sent = conversion.sent(
        [*turns_with(say, ("a", "look", given)), *say.answered("a", say.text("1"))], tools=[say.tool()]
    )
    (call,) = sent.parts("call")
    assert call[3] == ({"rawInvalidInput": "[1]"} if expected is None else expected)


@conversions(clients=("bedrock_converse",))
def test_defect_19_converse_demands_that_an_input_is_an_object(conversion):
    """Check that clients of Converse get an error if the input of a tool call is not an object."""
    say = conversion.say
    problem = conversion.refusal(
        [*turns_with(say, ("a", "look", "")), *say.answered("a", say.text("1"))], tools=[say.tool()]
    )
    assert problem.param == "messages[1].content[0].toolUse.input"


@conversions()
def test_defect_20_members_without_a_name_are_taken_out_of_arguments(conversion):
    say = conversion.say
    call = ("a", "look", {"": 1, "b": [{"": 2, "c": 3}]})
    sent = conversion.sent([*turns_with(say, call), *say.answered("a", say.text("1"))], tools=[say.tool()])
    assert [part[3] for part in sent.parts("call")] == [{"b": [{"c": 3}]}]
