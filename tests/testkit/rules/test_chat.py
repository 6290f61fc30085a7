"""Tests of OpenAI's rules for Chat Completions: requests of SDKs are accepted, and usual mistakes are refused."""

import pytest

from gateway.testkit.rules.chat import chat_fault

TOOL = {"type": "function", "function": {"name": "t", "parameters": {"type": "object"}}}
USER = {"role": "user", "content": "hi"}


def call(made="a", **function):
    return {"id": made, "type": "function", "function": {"name": "t", "arguments": "{}", **function}}


def calling(*calls):
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def answer(made="a"):
    return {"role": "tool", "tool_call_id": made, "content": "42"}


def body(*messages, **more):
    return {"model": "m", "messages": list(messages or [USER]), **more}


@pytest.mark.parametrize(
    "request_body",
    [
        body(),
        body(stream=True, stream_options={"include_usage": True}, temperature=2, max_completion_tokens=5, stop=["a"]),
        body({"role": "developer", "content": [{"type": "text", "text": "be brief"}]}, USER),
        body({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}),
        body(USER, calling(call("a"), call("b")), answer("b"), answer("a"), USER, tools=[TOOL], tool_choice="required"),
        body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "t"}}),
        body(USER, {"role": "assistant", "content": None, "refusal": "no"}, USER),
        body(reasoning_effort="high", response_format={"type": "json_object"}, unknown_to_openai=1),
    ],
)
def test_a_request_by_the_rules_passes(request_body):
    assert chat_fault(request_body) is None


@pytest.mark.parametrize(
    ("request_body", "fault"),
    [
        ([], "expected an object"),
        ({"messages": [USER]}, "Missing required parameter: 'model'."),
        ({"model": "m"}, "Missing required parameter: 'messages'."),
        (body(temperature="1"), "Invalid type for 'temperature'"),
        (body(max_tokens=True), "Invalid type for 'max_tokens'"),
        (body(temperature=3), "expected a value between 0 and 2"),
        (body(max_tokens=1, max_completion_tokens=1), "at the same time is not supported"),
        (body(stream_options={}), "only allowed when 'stream' is enabled"),
        (body(stop=["a", "b", "c", "d", "e"]), "at most 4 strings"),
        (body(response_format={"type": "xml"}), "Invalid value: 'xml'"),
        (body(tools=[]), "Invalid 'tools': empty array"),
        (body(tools=[{"name": "t", "input_schema": {}}]), "tools[0].type"),
        (body(tools=[{"type": "function", "function": {}}]), "Missing required parameter: 'tools[0].function.name'"),
        (body(tools=[{"type": "function", "function": {"name": "a.b"}}]), "does not match pattern"),
        (
            body(tools=[{"type": "function", "function": {"name": "t", "parameters": {"type": "array"}}}]),
            "schema must be",
        ),
        (body(tool_choice="auto"), "only allowed when 'tools' are specified"),
        (body(tools=[TOOL], tool_choice="any"), "Invalid value: 'any'"),
        (body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "u"}}), "Tool choice 'u' not found"),
    ],
)
def test_a_wrong_parameter_is_refused(request_body, fault):
    assert fault in chat_fault(request_body)


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        (["hi"], "Invalid type for 'messages[0]'"),
        ([{"role": "model", "content": "a"}], "Invalid value: 'model'"),
        ([{"role": "user", "content": None}], "expected a string, got null. (messages[0])"),
        ([{"role": "user", "content": 5}], "expected one of a string or array of objects"),
        ([{"role": "user", "content": [{"type": "image", "source": {}}]}], "Invalid value: 'image'"),
        (
            [{"role": "user", "content": [{"type": "text"}]}],
            "Missing required parameter: 'messages[0].content[0].text'",
        ),
        ([USER, {"role": "assistant", "content": None}], "expected a string, got null. (messages[1])"),
        ([USER, calling()], "expected a string, got null"),
        ([USER, calling({"type": "function"})], "Missing required parameter: 'messages[1].tool_calls[0].id'"),
        ([USER, calling({"id": "a"})], "tool_calls[0].type"),
        ([USER, calling(call(arguments={})), answer()], "tool_calls[0].function.arguments"),
        ([USER, calling(call(name="a.b")), answer()], "does not match pattern"),
        ([USER, {**USER, "tool_calls": [call()]}], "in an assistant message"),
        ([USER, answer()], "must be a response to a preceeding message with 'tool_calls'"),
        ([USER, calling(call("a")), answer("b")], "must be a response to a preceeding message"),
        ([USER, calling(call("a"), call("b")), answer("a"), USER], "did not have response messages: b"),
        ([USER, calling(call("a"))], "did not have response messages: a"),
    ],
)
def test_a_message_against_the_rules_is_refused(messages, fault):
    assert fault in chat_fault({"model": "m", "messages": messages})


def test_an_empty_conversation_is_refused():
    assert "Invalid 'messages': empty array" in chat_fault({"model": "m", "messages": []})
