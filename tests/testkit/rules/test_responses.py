"""Tests of OpenAI's rules for Responses: requests of SDKs and Codex are accepted, and usual mistakes are refused."""

import pytest

from gateway.testkit.rules.responses import ENCRYPTED, responses_fault

TOOL = {"type": "function", "name": "t", "parameters": {"type": "object"}, "strict": False}
USER = {"role": "user", "content": "hi"}


def call(made="a", **more):
    return {"type": "function_call", "call_id": made, "name": "t", "arguments": "{}", **more}


def output(made="a", value="42"):
    return {"type": "function_call_output", "call_id": made, "output": value}


def reasoning(encrypted=f"{ENCRYPTED}5"):
    return {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": encrypted}


def message(*parts, role="user"):
    return {"type": "message", "role": role, "content": list(parts)}


def body(*items, **more):
    return {"model": "m", "input": list(items or [USER]), **more}


@pytest.mark.parametrize(
    "request_body",
    [
        {"model": "m", "input": "hi", "instructions": "be", "stream": True, "store": False, "max_output_tokens": 16},
        body(message({"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:"})),
        body(USER, reasoning(), call("a", id="fc_1"), call("b"), output("b"), output("a"), tools=[TOOL]),
        body(USER, message({"type": "output_text", "text": "a"}, role="assistant") | {"id": "msg_1"}, USER),
        body(tools=[TOOL], tool_choice={"type": "function", "name": "t"}),
        body(
            tools=[
                {"type": "namespace", "name": "n", "description": "", "tools": [TOOL]},
                {"type": "custom", "name": "p"},
                {"type": "web_search", "external_web_access": False},
            ],
            include=["reasoning.encrypted_content"],
            client_metadata={"a": "b"},
            text={"format": {"type": "json_schema", "name": "x", "schema": {}}},
        ),
    ],
)
def test_a_request_by_the_rules_passes(request_body):
    assert responses_fault(request_body) is None


@pytest.mark.parametrize(
    ("request_body", "fault"),
    [
        ([], "expected an object"),
        ({"model": "m"}, "Missing required parameter: 'input'."),
        (body(messages=[]), "Unknown parameter: 'messages'."),
        (body(temperature="1"), "Invalid type for 'temperature'"),
        (body(max_output_tokens=3), "expected a value between 16"),
        (body("x"), "Invalid type for 'input[0]'"),
        (body({"type": "tool_result"}), "Invalid value: 'tool_result'"),
        (body({"role": "user"}), "Missing required parameter: 'input[0].content'."),
        (body({**USER, "cache_control": {}}), "Unknown parameter: 'input[0].cache_control'."),
        (body({"role": "tool", "content": ""}), "(input[0].role)"),
        (body(message({"type": "text", "text": "a"})), "(input[0].content[0])"),
        (body(message({"type": "input_text", "text": "a"}, role="assistant")), "(input[0].content[0])"),
        (body({"role": "user", "content": 5}), "Invalid type for 'input[0].content'"),
        (body(USER, call(arguments={}), output()), "Invalid type for 'input[1].arguments'"),
        (body(USER, call(id="toolu_1"), output()), "Expected an ID that begins with 'fc'."),
        (body(USER, call(), output(value=5)), "Invalid type for 'input[2].output'"),
        (body(USER, call()), "No tool output found for function call a."),
        (body(USER, output()), "No tool call found for function call output with call_id a."),
        (body(USER, reasoning("irisgate1+x"), call(), output()), "could not be verified"),
        (body(USER, reasoning()), "without its required following item"),
        (body(tools=[{"type": "function", "function": {"name": "t"}}]), "Unknown parameter: 'tools[0].function'."),
        (body(tools=[{"type": "function"}]), "Missing required parameter: 'tools[0].name'."),
        (body(tools=[{"type": "function", "name": "a.b"}]), "does not match pattern"),
        (body(tools=[{**TOOL, "parameters": {"type": "array"}}]), "schema must be a JSON Schema"),
        (body(tools=[{"type": "shellfish"}]), "(tools[0].type)"),
        (body(tools=[TOOL], tool_choice="any"), "Invalid value: 'any'"),
        (body(tools=[TOOL], tool_choice={"type": "function", "name": "u"}), "Tool choice 'u' not found"),
        (body(text={"format": {"type": "xml"}}), "Invalid value: 'xml'"),
        (body(text={"format": {"type": "json_schema"}}), "Missing required parameter: 'text.format.name'"),
    ],
)
def test_a_request_against_the_rules_is_refused_with_its_fault(request_body, fault):
    assert fault in responses_fault(request_body)
