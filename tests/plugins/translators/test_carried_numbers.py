"""Tests that numbers that the gateway does not interpret reach the provider as the client wrote them, on every
conversion.

The numbers are in a tool's schema, in the arguments of a tool call, and in its result. A whole number may need more
than 64 bits, such as an amount of a cryptocurrency.
"""

import json
from dataclasses import replace

import pytest

from gateway.contract.flag import Event, Members
from gateway.testkit.render.dialects import rendered
from gateway.testkit.scenarios import Canned, Tool
from tests.helpers.conversion import ALL_CONVERSIONS, HEAD, request_of

NUMBERS = [
    "9007199254740993", "18446744073709551615", "18446744073709551616", "-9223372036854775809",
    "1000000000000000000000000000000001", "9" * 300, "1e300", "-1e300", "1.5", "-0.0", "0.1",
]  # fmt: skip


def schema(number):
    return {"type": "object", "properties": {"a": {"type": "integer", "enum": [number]}}, "required": ["a"]}


def chat(number):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": [number]})}}
    return {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": json.dumps({"b": number})},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema(number)}}],
    }


def responses(number):
    return {
        "input": [
            {"role": "user", "content": "Hi"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": json.dumps({"a": [number]})},
            {"type": "function_call_output", "call_id": "c", "output": json.dumps({"b": number})},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": schema(number)}],
    }


def messages(number):
    return {
        "max_tokens": 500,
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"a": [number]}}]},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c", "content": json.dumps({"b": number})}],
            },
        ],
        "tools": [{"name": "f", "input_schema": schema(number)}],
    }


def converse(number):
    result = {"toolUseId": "c", "content": [{"json": {"b": number}}]}
    return {
        "messages": [
            {"role": "user", "content": [{"text": "Hi"}]},
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c", "name": "f", "input": {"a": [number]}}}]},
            {"role": "user", "content": [{"toolResult": result}]},
        ],
        "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": schema(number)}}}]},
    }


def gemini(number):
    return {
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": [number]}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"b": number}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema(number)}]}],
    }


BODIES = {
    "openai_chat": chat,
    "openai_responses": responses,
    "anthropic_messages": messages,
    "bedrock_converse": converse,
    "gemini_generate_content": gemini,
}


def numbers_in(value):
    """Yield the numbers in a decoded body, including the numbers in strings that contain JSON."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(inner)
    elif isinstance(value, str) and value.startswith(("{", "[")):
        yield from numbers_in(json.loads(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


@pytest.mark.parametrize("conversion", ALL_CONVERSIONS.values(), ids=ALL_CONVERSIONS)
def test_a_number_in_schema_arguments_and_result_keeps_its_digits(conversion):
    wrong = {}
    for text in NUMBERS:
        number = json.loads(text)
        sent = conversion.call(BODIES[conversion.dialect](number)).upstream_request.body
        count = sum(1 for each in numbers_in(json.loads(sent)) if (each, type(each)) == (number, type(number)))
        if count < 3:
            wrong[text] = sent
    assert wrong == {}


NATIVE = {name: conversion for name, conversion in ALL_CONVERSIONS.items() if conversion.way == "native"}


@pytest.mark.parametrize("conversion", NATIVE.values(), ids=NATIVE)
@pytest.mark.parametrize("text", [*NUMBERS, "1e400", "1.0", "1E5", "0.1234567890123456789", "-0"])
def test_a_native_road_passes_every_number_as_it_stands(conversion, text):
    request = request_of(conversion.client, {**BODIES[conversion.dialect](0), "unknown": "%NUMBER%"})
    body = request.body.replace(b'"%NUMBER%"', text.encode())
    parsed = conversion.client.parse(replace(request, body=body))
    sent = conversion.provider.build(parsed, conversion.target(), lambda _: None).body
    assert Members(sent)["unknown"] == text.encode()


def replied(conversion, text):
    """Return the provider's unstreamed reply with a tool call that has the number among its arguments."""
    _, whole = rendered(conversion.upstream, Canned(("Hi",), tools=(Tool("f", {"a": ["%NUMBER%"]}),)))
    return json.dumps(whole).replace('"%NUMBER%"', text).replace('\\"%NUMBER%\\"', text).encode()


@pytest.mark.parametrize("conversion", ALL_CONVERSIONS.values(), ids=ALL_CONVERSIONS)
def test_a_number_in_the_arguments_of_a_reply_keeps_its_digits(conversion):
    wrong = {}
    for text in NUMBERS:
        number = json.loads(text)
        call = conversion.call(BODIES[conversion.dialect](0))
        body = conversion.provider.decoder(call.request, call.target, HEAD).whole(replied(conversion, text))
        shown = body if call.translation is None else call.translation.whole(body)
        if (number, type(number)) not in [(each, type(each)) for each in numbers_in(json.loads(shown))]:
            wrong[text] = shown
    assert wrong == {}


FROM_GEMINI = {
    name: conversion
    for name, conversion in ALL_CONVERSIONS.items()
    if conversion.upstream == "gemini_generate_content" and conversion.translator
}


@pytest.mark.parametrize("conversion", FROM_GEMINI.values(), ids=FROM_GEMINI)
@pytest.mark.parametrize("text", ["9007199254740993", "18446744073709551616", "9" * 300])
def test_a_number_in_a_streamed_object_keeps_its_digits(conversion, text):
    call = conversion.call(BODIES[conversion.dialect](0), stream=True)
    part = {"functionCall": {"name": "f", "args": {"a": [int(text)]}}}
    candidate = {"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [part]}}
    chunk = Event("chunk", json.dumps({"candidates": [candidate]}).encode())
    assert any(text.encode() in event.payload for event in call.translation.feed(chunk))
