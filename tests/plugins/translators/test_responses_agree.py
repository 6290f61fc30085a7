"""Tests that a conversation in either of OpenAI's dialects gives the provider the same request, and the client the same
answer.
"""

from __future__ import annotations

import orjson
import pytest

from gateway_plugins.translators import openai_chat__anthropic_messages, openai_chat__bedrock_converse
from tests.helpers import chat_to_messages
from tests.helpers.responses_to import CLAUDE, IMAGE, called, opened, output, said, tool

CHAT_ROADS = {
    "anthropic_messages": openai_chat__anthropic_messages,
    "bedrock_converse": openai_chat__bedrock_converse,
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
FUNCTION = {"name": "look", "description": "Looks.", "parameters": SCHEMA, "strict": True}
PAIRS = {
    "a text": ({"messages": [said("Hi")]}, {"input": "Hi"}),
    "instructions": (
        {"messages": [said("A", "system"), said("B", "developer"), said("Hi")]},
        {"instructions": "A", "input": [said("B", "developer"), said("Hi")]},
    ),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE["image_url"]}}]}]},
        {"input": [{"role": "user", "content": [IMAGE]}]},
    ),
    "a tool loop": (
        {
            "messages": [
                said("Hi"),
                {
                    "role": "assistant",
                    "content": "Let me look.",
                    "tool_calls": [
                        {"id": made, "type": "function", "function": {"name": "look", "arguments": '{"a": "b"}'}}
                        for made in ("x", "y")
                    ],
                },
                {"role": "tool", "tool_call_id": "x", "content": "one"},
                {"role": "tool", "tool_call_id": "y", "content": "two"},
            ],
            "tools": [{"type": "function", "function": FUNCTION}],
            "tool_choice": "required",
            "parallel_tool_calls": False,
        },
        {
            "input": [
                said("Hi"),
                said("Let me look.", "assistant"),
                called("x", arguments='{"a": "b"}'),
                called("y", arguments='{"a": "b"}'),
                output("x", "one"),
                output("y", "two"),
            ],
            "tools": [{"type": "function", **FUNCTION}],
            "tool_choice": "required",
            "parallel_tool_calls": False,
        },
    ),
    "a format": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}},
    ),
    "a json object": (
        {"response_format": {"type": "json_object"}},
        {"text": {"format": {"type": "json_object"}}},
    ),
    "parameters": (
        {"reasoning_effort": "low", "max_tokens": 9000, "temperature": 0.5, "top_p": 0.9, "service_tier": "flex"},
        {
            "reasoning": {"effort": "low"}, "max_output_tokens": 9000, "temperature": 0.5, "top_p": 0.9,
            "service_tier": "flex",
        },
    ),
    "one of the tools": (
        {
            "tools": [{"type": "function", "function": FUNCTION}],
            "tool_choice": {"type": "function", "function": {"name": "look"}},
        },
        {"tools": [tool(**{**FUNCTION, "name": "look"})], "tool_choice": {"type": "function", "name": "look"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("conversion", CHAT_ROADS)
@pytest.mark.parametrize("pair", PAIRS)
def test_what_both_dialects_can_say_reaches_the_provider_alike(conversion, pair):
    chat, responses = PAIRS[pair]
    target = chat_to_messages.target(CLAUDE)
    by_chat = CHAT_ROADS[conversion].open(chat_to_messages.ask({"model": "m", **chat}), target, lambda _: None)
    by_responses, _ = opened(conversion, {"input": [said("Hi")], **responses})
    bodies = [orjson.loads(each.request.top.body) for each in (by_chat, by_responses)]
    for body in bodies:
        body.pop("model", None)
        body.pop("service_tier", None)  # one of the two targets is InvokeModel, which takes it
    assert bodies[0] == bodies[1]
