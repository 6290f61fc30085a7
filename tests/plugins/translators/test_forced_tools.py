"""Tests of a forced tool call together with thinking, which only some models accept (pydantic-ai#7960).

Each model is tried on every conversion to Claude, with each way in which the client's dialect can force a tool call.
"""

import pytest

from gateway.contract.capabilities import capabilities
from tests.helpers.conversion import CONVERSIONS

SCHEMA = {"type": "object", "properties": {}}
FUNCTION = {"name": "final_result", "parameters": SCHEMA}
CHAT = {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": FUNCTION}]}
RESPONSES = {"input": "x", "tools": [{"type": "function", **FUNCTION}]}
MESSAGES = {
    "max_tokens": 4000,
    "messages": CHAT["messages"],
    "tools": [{"name": "final_result", "input_schema": SCHEMA}],
}
SPEC = {"toolSpec": {"name": "final_result", "inputSchema": {"json": SCHEMA}}}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "x"}]}]}
LOW = {"thinkingConfig": {"thinkingLevel": "LOW"}}
GEMINI = {
    "contents": [{"parts": [{"text": "x"}]}],
    "tools": [{"functionDeclarations": [FUNCTION]}],
    "generationConfig": LOW,
}
ADAPTIVE = {"thinking": {"type": "adaptive"}}
DEMANDS = {
    # dialect: (body that demands the tool by name, body that demands any tool, pointer), each with thinking
    "openai_chat": (
        CHAT | {"reasoning_effort": "low", "tool_choice": {"type": "function", "function": {"name": "final_result"}}},
        CHAT | {"reasoning_effort": "low", "tool_choice": "required"},
        "/tool_choice",
    ),
    "openai_responses": (
        RESPONSES | {"reasoning": {"effort": "low"}, "tool_choice": {"type": "function", "name": "final_result"}},
        RESPONSES | {"reasoning": {"effort": "low"}, "tool_choice": "required"},
        "/tool_choice",
    ),
    "anthropic_messages": (
        MESSAGES | ADAPTIVE | {"tool_choice": {"type": "tool", "name": "final_result"}},
        MESSAGES | ADAPTIVE | {"tool_choice": {"type": "any"}},
        "/tool_choice",
    ),
    "bedrock_converse": (
        CONVERSE
        | {"additionalModelRequestFields": ADAPTIVE}
        | {"toolConfig": {"tools": [SPEC], "toolChoice": {"tool": {"name": "final_result"}}}},
        CONVERSE
        | {"additionalModelRequestFields": ADAPTIVE}
        | {"toolConfig": {"tools": [SPEC], "toolChoice": {"any": {}}}},
        "/toolConfig/toolChoice",
    ),
    "gemini_generate_content": (
        GEMINI | {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["final_result"]}}},
        GEMINI | {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}},
        "/toolConfig/functionCallingConfig",
    ),
}
TAKES_BOTH = {
    "global.anthropic.claude-sonnet-5": True,
    "us.anthropic.claude-opus-4-8": True,
    "anthropic.claude-fable-5": True,
    "anthropic.claude-mythos-5": True,
    "anthropic.claude-opus-5": True,
    "anthropic.claude-haiku-5-5": True,
    "us.anthropic.claude-opus-4-7": False,
    "us.anthropic.claude-sonnet-4-6": False,
    "us.anthropic.claude-opus-4-6-v1": False,
    "us.anthropic.claude-haiku-4-5-20251001-v1:0": False,
    "us.anthropic.claude-3-7-sonnet-20250219-v1:0": False,
    "anthropic.claude-opus-5-5": False,
    "anthropic.claude-sonnet-5-5": False,
    "anthropic.claude-fable-5-1": False,
    "anthropic.claude-mythos-5-1": False,
}
ROADS = list(CONVERSIONS.values())


def forced(call):
    """Return the tool choice that is sent: the tool's name, "any", or None."""
    choice = call.sent.get("tool_choice") or {}
    named = call.sent.get("toolConfig", {}).get("toolChoice", {})
    gemini = call.sent.get("toolConfig", {}).get("functionCallingConfig", {})
    if choice == "required" or (gemini and "allowedFunctionNames" not in gemini):
        return "any"
    if gemini:
        return gemini["allowedFunctionNames"][0]
    by_name = choice.get("name") or choice.get("function", {}).get("name") or named.get("tool", {}).get("name")
    return by_name or ("any" if choice.get("type") == "any" or "any" in named else None)


@pytest.mark.parametrize("model", TAKES_BOTH)
@pytest.mark.parametrize("conversion", ROADS, ids=lambda conversion: conversion.name)
def test_a_demanded_tool_is_kept_beside_thinking_where_both_are_taken(conversion, model):
    by_name, any_tool, pointer = DEMANDS[conversion.dialect]
    for body, name in ((by_name, "final_result"), (any_tool, "any")):
        for stream in (False, True):
            call = conversion.call(body, caps=capabilities(model), stream=stream)
            assert conversion.upstream == "openai_chat" or call.fault is None
            assert "thinking" in str(call.sent) or "reasoning_effort" in call.sent
            assert forced(call) == (name if TAKES_BOTH[model] else None)
            assert any(lost.startswith(pointer) for lost in call.dropped) != TAKES_BOTH[model]


@pytest.mark.parametrize("both", [True, False])
def test_the_configuration_can_say_otherwise(both):
    """Check that the configuration can override whether Sonnet 4.6 accepts a forced tool call together with thinking.

    Reports about Sonnet 4.6 disagree.
    """
    caps = capabilities("us.anthropic.claude-sonnet-4-6", {"forced_tool_choice_with_thinking": both})
    for conversion in ROADS:
        call = conversion.call(DEMANDS[conversion.dialect][0], caps=caps)
        assert forced(call) == ("final_result" if both else None)


@pytest.mark.parametrize("conversion", ROADS, ids=lambda conversion: conversion.name)
def test_our_own_tool_for_a_schema_is_demanded_only_where_it_may_be(conversion):
    """Check that the request forces a call of the schema tool only if the model accepts this while it thinks.

    The gateway adds the schema tool for models without structured output. All requests in this test ask for thinking.
    """
    wanted = {"type": "json_schema", "schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    bodies = {
        "openai_chat": {
            "messages": CHAT["messages"],
            "reasoning_effort": "low",
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": wanted["schema"]}},
        },
        "openai_responses": {
            "input": "x",
            "reasoning": {"effort": "low"},
            "text": {"format": {"name": "n", **wanted}},
        },
        "anthropic_messages": {
            "max_tokens": 4000,
            "messages": CHAT["messages"],
            **ADAPTIVE,
            "output_config": {"format": wanted},
        },
        "bedrock_converse": CONVERSE
        | {"additionalModelRequestFields": ADAPTIVE | {"output_config": {"format": wanted}}},
        "gemini_generate_content": {
            "contents": GEMINI["contents"],
            "generationConfig": LOW | {"responseMimeType": "application/json", "responseSchema": wanted["schema"]},
        },
    }
    for model, both in TAKES_BOTH.items():
        call = conversion.call(bodies[conversion.dialect], caps=capabilities(model, {"json_schema": False}))
        assert conversion.upstream == "openai_chat" or call.fault is None
        if conversion.way == "translated":
            assert bool(forced(call)) == both
