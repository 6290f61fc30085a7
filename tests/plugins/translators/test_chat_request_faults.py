"""Tests of random faults in Chat requests that are translated to Converse and to Messages.

Each request is sent, or refused with a 400. No exception other than `Refused` is raised.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.errors import Refused
from gateway.contract.flag import Members
from gateway_plugins.translators import openai_chat__anthropic_messages, openai_chat__bedrock_converse
from tests.helpers import chat_to_converse, chat_to_messages
from tests.helpers.chat_to_converse import (
    IMAGE,
    MISTRAL,
    NEW_CLAUDE,
    NOVA,
    PDF,
    called,
    result,
    tool,
    user,
)
from tests.helpers.json_faults import changed, paths
from tests.helpers.samples import MARK, SCHEMA

WHOLE = {
    "messages": [
        {"role": "system", "content": "S", "cache_control": MARK},
        user(
            [
                {"type": "text", "text": "q", "cache_control": MARK},
                {"type": "image_url", "image_url": {**IMAGE["image_url"], "detail": "auto"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
            ]
        ),
        called(
            ("c", "look", '{"a": [1]}'),
            content="So",
            refusal="No",
            reasoning_content="t",
            thinking_blocks=[
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
            ],
        ),
        result("c", [{"type": "text", "text": "q", "cache_control": MARK}]),
        {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}},
        {"role": "function", "name": "look", "content": "1"},
        {"role": "developer", "content": ["x"]},
    ],
    "tools": [{**tool(description="d", parameters=SCHEMA, strict=True), "cache_control": MARK}],
    "functions": [{"name": "old", "parameters": None}],
    "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool()]}},
    "function_call": "auto",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "a", "description": "d", "schema": SCHEMA, "strict": True},
    },
    "parallel_tool_calls": False,
    "stop": ["a"],
    "max_tokens": 4000,
    "temperature": 1,
    "top_p": 0.99,
    "top_k": 5,
    "thinking": {"type": "enabled", "budget_tokens": 1500, "display": "omitted"},
    "reasoning_effort": "low",
    "stream_options": {"include_usage": True},
    "service_tier": "flex",
    "cache_control": MARK,
    "guardrailConfig": {"guardrailIdentifier": "a"},
    "metadata": {"a": "b"},
    "n": 1,
}
ALTERNATIVES: list[dict[str, Any]] = [
    {},
    {"tool_choice": {"type": "function", "function": {"name": "look"}}},
    {"thinking": {"type": "adaptive"}, "response_format": {"type": "json_object"}},
    {"thinking": None, "tools": None, "functions": None, "tool_choice": None},
]
JUNK = [
    None, "", 0, 1, -1.5, True, [], {}, "x", "é\n", ["x"], [None], [1], {"x": 1}, {"type": "x"}, {"type": ["object"]},
    {"properties": 1}, [{}], [[]], 2**63, 1e300,
]  # fmt: skip
MESSAGES = (
    chat_to_messages.CLAUDE,
    replace(chat_to_messages.CLAUDE, json_schema=True, strict_tools=True, stop_sequences=False),
    replace(chat_to_messages.CLAUDE, reasoning="adaptive", sampling="none", mid_system=True, prefill=False),
    replace(chat_to_messages.CLAUDE, cache_ttl=False, images=False, tools=False),
)
CONVERSE = (chat_to_converse.CLAUDE, NEW_CLAUDE, NOVA, MISTRAL)
CONVERSIONS = [(openai_chat__anthropic_messages, caps) for caps in MESSAGES] + [
    (openai_chat__bedrock_converse, caps) for caps in CONVERSE
]


def opened(conversion, caps, body):
    return conversion.open(chat_to_messages.ask(body), chat_to_messages.target(caps), lambda _: None)


@pytest.mark.parametrize(("conversion", "caps"), CONVERSIONS)
def test_the_request_that_the_faults_are_put_into_is_carried(conversion, caps):
    body = WHOLE if caps.tools and caps.images else {"messages": [user("Hi")]}
    opened(conversion, caps, body)


@settings(max_examples=700, deadline=None)
@given(
    st.sampled_from(list(paths(WHOLE))),
    st.sampled_from(JUNK),
    st.sampled_from(ALTERNATIVES),
    st.sampled_from(CONVERSIONS),
)
def test_a_member_of_any_wrong_type_is_carried_or_a_400_and_never_a_crash(path, junk, other, conversion):
    with suppress(Refused):
        opened(*conversion, changed(WHOLE, path, junk) | {name: other[name] for name in other if name != path[0]})


def nested(depth, shape):
    opening, closing = {"list": (b"[", b"]"), "schema": (b'{"properties": {"a": ', b"}}"), "not": (b'{"not": ', b"}")}[
        shape
    ]
    return opening * depth + b"1" + closing * depth


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(list(paths(WHOLE))),
    st.sampled_from([60, 125, 130, 300, 500, 1000, 5000]),
    st.sampled_from(["list", "schema", "not"]),
    st.sampled_from(CONVERSIONS),
)
def test_nesting_of_any_depth_is_carried_or_a_400_and_never_a_crash(path, depth, shape, conversion):
    body = orjson.dumps(changed(WHOLE, path, "%DEEP%")).replace(b'"%DEEP%"', nested(depth, shape))
    with suppress(Refused):
        ask = chat_to_messages.ask({})
        conversion[0].open(replace(ask, top=Members(body)), chat_to_messages.target(conversion[1]), lambda _: None)


@pytest.mark.parametrize(("conversion", "caps"), CONVERSIONS)
@pytest.mark.parametrize("depth", [100, 200, 1000, 5000])
def test_deep_json_inside_arguments_and_results_is_carried(conversion, caps, depth):
    deep = (b'{"a":' * depth + b"1" + b"}" * depth).decode()
    twice = orjson.dumps(deep).decode()
    history = [user("Hi"), called(("a", "look", deep), ("b", "look", twice)), result("a", deep), result("b", deep)]
    opened(conversion, caps, {"messages": history} | ({"tools": [tool()]} if caps.tools else {}))


@pytest.mark.parametrize("conversion", [openai_chat__anthropic_messages, openai_chat__bedrock_converse])
@pytest.mark.parametrize("name", ["messages", "tools", "response_format", "thinking", "tool_choice"])
def test_a_member_that_is_nested_too_deeply_is_refused_by_its_name(conversion, name):
    with pytest.raises(Refused, match="nested too deeply") as refused:
        opened(conversion, chat_to_messages.CLAUDE, {name: orjson.loads(nested(200, "list"))})
    assert (refused.value.problem.code, refused.value.problem.param) == ("invalid_request", name)


@pytest.mark.parametrize("conversion", [openai_chat__anthropic_messages, openai_chat__bedrock_converse])
def test_a_thinking_budget_that_no_provider_counts_to_is_refused(conversion):
    with pytest.raises(Refused, match=r"thinking\.budget_tokens"):
        opened(conversion, chat_to_messages.CLAUDE, {"thinking": {"type": "enabled", "budget_tokens": 2**64 - 1}})


@pytest.mark.parametrize("conversion", [openai_chat__anthropic_messages, openai_chat__bedrock_converse])
@pytest.mark.parametrize("options", [[1], [], "x", 0, False])
def test_stream_options_that_are_no_object_are_refused(conversion, options):
    with pytest.raises(Refused, match="stream_options must be an object") as refused:
        opened(
            conversion, chat_to_messages.CLAUDE, {"messages": [user("Hi")], "stream": True, "stream_options": options}
        )
    assert refused.value.problem.param == "stream_options"
