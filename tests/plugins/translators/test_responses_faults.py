"""Tests of random faults in Responses requests and replies, on every conversion. No fault makes a plugin crash."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.errors import Refused, UpstreamFailed
from gateway.contract.flag import Caps, Event, Head, Members, Target
from gateway.testkit.render import responses as render_responses
from gateway.testkit.scenarios import Canned, Tool
from gateway_plugins import openai_responses
from gateway_plugins.dialects.openai_responses.reasoning import packed
from tests.helpers.json_faults import MISSING, changed, paths
from tests.helpers.responses_to import CLAUDE, IMAGE, TRANSLATORS, ask, called, output, said, tool
from tests.plugins.translators.test_chat_request_faults import JUNK, SCHEMA

WHOLE: dict[str, Any] = {
    "instructions": "I",
    "input": [
        said("S", "developer"),
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "q"}, IMAGE]},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "encrypted_content": packed([{"thinking": "t", "signature": "irisgate1:claude:s"}, {"data": "d"}]),
        },
        said("So", "assistant"),
        called("c", "read", '{"a": [1]}', namespace="fs"),
        {"type": "custom_tool_call", "call_id": "d", "name": "patch", "input": "x"},
        {"type": "local_shell_call", "id": "l", "call_id": "e", "action": {"type": "exec", "command": ["ls"]}},
        output("c", [{"type": "input_text", "text": "q"}, IMAGE]),
        {"type": "custom_tool_call_output", "call_id": "d", "output": "x"},
        {"type": "local_shell_call_output", "id": "l", "output": "x"},
        {"type": "additional_tools", "tools": [tool("later")]},
        said("Go"),
    ],
    "tools": [
        tool(description="d", parameters=SCHEMA, strict=True),
        {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
        {"type": "namespace", "name": "fs", "description": "d", "tools": [tool("read")]},
        {"type": "local_shell"},
        {"type": "web_search"},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]},
    "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": True}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "parallel_tool_calls": False,
    "max_output_tokens": 4000,
    "temperature": 1,
    "top_p": 0.99,
    "service_tier": "flex",
    "metadata": {"a": "b"},
    "store": False,
}
VARIANTS = [
    (conversion, changed_caps)
    for conversion, translator in TRANSLATORS.items()
    for caps in (translator.model,)
    for changed_caps in (caps, replace(caps, json_schema=not caps.json_schema), replace(caps, reasoning="adaptive"))
]


def opened(conversion, caps, top):
    return TRANSLATORS[conversion].module.open(
        replace(ask({}), top=top), Target("p", "f", "m", conversion, caps), lambda _: None
    )


def members(body):
    return Members(body if isinstance(body, bytes) else orjson.dumps(body))


@pytest.mark.parametrize(("conversion", "caps"), VARIANTS)
def test_the_request_that_the_faults_are_put_into_is_carried(conversion, caps):
    opened(conversion, caps, members(WHOLE))


@settings(max_examples=700, deadline=None)
@given(st.sampled_from(list(paths(WHOLE))), st.sampled_from([*JUNK, MISSING]), st.sampled_from(VARIANTS))
def test_a_member_of_any_wrong_type_is_carried_or_a_400_and_never_a_crash(path, junk, variant):
    with suppress(Refused):
        opened(*variant, members(changed(WHOLE, path, junk)))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(list(paths(WHOLE))), st.sampled_from([60, 130, 300, 1000, 5000]), st.sampled_from(VARIANTS),
    st.booleans(),
)  # fmt: skip
def test_nesting_of_any_depth_is_carried_or_a_400_and_never_a_crash(path, depth, variant, lists):
    nested = b"[" * depth + b"]" * depth if lists else b'{"a":' * depth + b"1" + b"}" * depth
    with suppress(Refused):
        opened(*variant, members(orjson.dumps(changed(WHOLE, path, "%DEEP%")).replace(b'"%DEEP%"', nested)))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(paths(WHOLE))), st.sampled_from([*JUNK, MISSING]))
def test_native_responses_take_any_body_and_fail_in_its_dialect(path, junk):
    """Check that a native call accepts any body, and that a failure is reported in the form of the Responses API."""
    broken = replace(ask({}), top=members({"model": "m", **changed(WHOLE, path, junk)}))
    openai_responses.build(broken, Target("p", "openai_responses", "m", "openai_responses", CLAUDE), lambda _: None)
    problem = openai_responses.Problem("internal", "broken")
    assert b"response.failed" in openai_responses.encoder(broken).fail(problem)


REPLY = Canned(("a", "b"), "hm", tools=(Tool("look", {"a": 1}),))
EVENTS = render_responses.events(REPLY, "m", 10)


@settings(max_examples=500, deadline=None)
@given(st.data(), st.sampled_from(EVENTS), st.sampled_from([*JUNK, MISSING]))
def test_an_event_of_any_shape_is_passed_on_or_an_error_and_never_a_crash(data, event, junk):
    target = Target("p", "openai_responses", "m", "openai_responses", Caps())
    broken = changed(event, data.draw(st.sampled_from(list(paths(event)))), junk)
    payload = orjson.dumps(broken)
    decoder = openai_responses.decoder(ask({}), target, Head(200, {}))
    meter = openai_responses.meter(ask({}), target, Head(200, {}))
    with suppress(UpstreamFailed):
        for each in decoder.feed(b"event: " + event["type"].encode() + b"\ndata: " + payload + b"\n\n"):
            meter.feed(each)
            list(openai_responses.places(each))
    with suppress(UpstreamFailed):
        meter.whole(orjson.dumps(broken.get("response") or {}) if isinstance(broken, dict) else b"{}")
    list(openai_responses.places(Event("response.output_text.delta", payload)))
